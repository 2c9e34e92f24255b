"""EDR positions of several points: in every form one value for each, in the order of the question, missing outside the data."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
import zarr
from covjson_pydantic.coverage import Coverage
from jsonschema.validators import validator_for
from tests.families import FAMILIES, positions

PLACED = [name for name in FAMILIES if name not in ("classic-netcdf", "zarr-store")]
LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], Any]:
    folder = tmp_path_factory.mktemp("points")

    def write(name: str, data: xr.Dataset, **options: Any) -> Any:
        path = folder / f"points-{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return stored(str(path), **options)

    return write


@pytest.fixture(scope="module")
def schema(schemas: Path) -> Any:
    found = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())
    return validator_for(found)(found)


def several(points: list[tuple[float, float]]) -> str:
    return "MULTIPOINT(" + ",".join(f"({x!r} {y!r})" for x, y in points) + ")"


def ask(client: httpx.Client, cube: Any, coords: str, **query: str) -> httpx.Response:
    address = f"/ogcapi/collections/{cube.dataset_id}/position"
    return client.get(address, params={"coords": coords, **{name.replace("_", "-"): each for name, each in query.items()}})


def alone(client: httpx.Client, cube: Any, points: list[tuple[float, float]]) -> list[list[float] | None]:
    """Return the values at each point, asked one by one; ``None`` outside the data."""
    found: list[list[float] | None] = []
    for x, y in points:
        answer = ask(client, cube, f"POINT({x!r} {y!r})", parameter_name="t", f="csv")
        assert answer.status_code in (200, 404), answer.text
        rows = list(csv.DictReader(io.StringIO(answer.text))) if answer.status_code == 200 else None
        found.append(None if rows is None else [float(each["t"]) for each in rows])
    return found


def missing(values: Any) -> list[float | None]:
    return [None if each is None or each != each else float(each) for each in np.ravel(values).tolist()]


@pytest.mark.parametrize("name", PLACED)
def test_each_form_has_each_point_in_order(client: httpx.Client, put: Any, schema: Any, name: str, tmp_path: Path) -> None:
    cube = put(name, FAMILIES[name].make())
    lon, lat = (each.round(3) for each in positions(FAMILIES[name]))
    last, middle = len(lon) - 1, len(lon) // 2
    # The second is in the cell of the first. The fourth is outside most grids; it is inside those of the whole Earth.
    cells = [
        (lon[last], lat[last]),
        (lon[last] - 0.011, lat[last] - 0.007),
        (lon[0], lat[0]),
        (-75.0, -60.0),
        (lon[middle], lat[middle]),
    ]
    points = [((float(x) + 180) % 360 - 180, float(y)) for x, y in cells]
    wanted = alone(client, cube, points)
    assert wanted[0] == wanted[1] != wanted[2]
    steps = len(wanted[0] or [])
    expected = [None if wanted[at] is None else (wanted[at] or [])[step] for step in range(steps) for at in range(5)]

    answer = ask(client, cube, several(points))
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert list(schema.iter_errors(document)) == []
    coverages = document.get("coverages", [document])
    for each in coverages:
        assert each["domain"]["axes"]["composite"]["coordinates"][:2] == ["x", "y"]
        assert len(each["domain"]["axes"]["composite"]["values"]) == 5
    values = [value for each in coverages for value in each["ranges"]["t"]["values"]]
    inner = 1 if len(coverages) == 1 else len(coverages)
    ordered = np.array(values, dtype=object).reshape(inner, -1, 5)
    assert sorted(map(str, missing(ordered))) == sorted(map(str, expected))
    if FAMILIES[name].crs is None:
        assert [tuple(each[:2]) for each in coverages[0]["domain"]["axes"]["composite"]["values"]] == points
    if inner == 1:
        Coverage.model_validate_json(answer.content)
        assert missing(values) == expected

    rows = list(csv.DictReader(io.StringIO(ask(client, cube, several(points), f="csv").text)))
    table: dict[int, list[float | None]] = {at: [] for at in range(5)}
    for row in rows:
        table[int(row["point"])].append(float(row["t"]) if row["t"] else None)
    assert [each if each[0] is not None else None for each in table.values()] == wanted

    content = ask(client, cube, several(points), f="netcdf").content
    with xr.open_dataset(io.BytesIO(content), engine="h5netcdf", decode_times=False) as found:
        assert found.t.dims[-1] == "point"
        assert [each if each[0] is not None else None for each in map(missing, found.t.values.reshape(-1, 5).T)] == wanted
        if FAMILIES[name].crs is None:
            assert list(zip(found.lon.values.tolist(), found.lat.values.tolist(), strict=True)) == points
    store = ask(client, cube, several(points), f="zarr").content
    with zipfile.ZipFile(io.BytesIO(store)) as archive:
        archive.extractall(tmp_path / "store")
    assert zarr.open_group(tmp_path / "store", mode="r")["t"].shape[-1] == 5
    with xr.open_zarr(tmp_path / "store", chunks=None, decode_times=False) as found:
        assert [each if each[0] is not None else None for each in map(missing, found.t.values.reshape(-1, 5).T)] == wanted

    refused = ask(client, cube, several(points), f="geotiff")
    assert (refused.status_code, "f=csv" in refused.text) == (406, True)
    told = ask(client, cube, several(points), estimate="true").json()
    assert told["cells"] == steps * 5
    assert told["allowed"] is True


def test_values_without_a_fill_value_are_missing_outside(client: httpx.Client, put: Any) -> None:
    """Numbers of every type, and texts."""
    rng = np.arange(12)
    fields = {
        "whole": (("lat", "lon"), rng.astype("i4").reshape(3, 4), {"units": "1"}),
        "byte": (("lat", "lon"), rng.astype("u1").reshape(3, 4), {"units": "1"}),
        "real": (("lon", "lat"), rng.astype("f8").reshape(3, 4).T, {"units": "K"}),
        "word": (("lat", "lon"), np.array([f"w{each}" for each in rng], dtype=object).reshape(3, 4)),
    }
    data = xr.Dataset(fields, {"lat": ("lat", [10.0, 20, 30], LAT), "lon": ("lon", [1.0, 2, 3, 4], LON)})
    cube = put("types", data, fields=["whole", "byte", "real", "word"])
    points = [(4.0, 30.0), (60.0, 0.0), (1.2, 10.2)]
    answer = ask(client, cube, several(points))
    assert answer.status_code == 200, answer.text
    found = {name: each["values"] for name, each in answer.json()["ranges"].items()}
    assert found == {"whole": [11, None, 0], "byte": [11, None, 0], "real": [11.0, None, 0.0], "word": ["w11", None, "w0"]}
    rows = list(csv.DictReader(io.StringIO(ask(client, cube, several(points), f="csv").text)))
    assert [row["word"] for row in rows] == ["w11", "", "w0"]
    assert [row["whole"] and float(row["whole"]) for row in rows] == [11.0, "", 0.0]
    with xr.open_dataset(io.BytesIO(ask(client, cube, several(points), f="netcdf").content), engine="h5netcdf") as found:
        for name in ("whole", "byte", "real"):
            assert missing(found[name].values) == [11.0, None, 0.0]
        assert found.word.values.tolist() == ["w11", "", "w0"]


def test_a_point_that_is_asked_for_twice(client: httpx.Client, put: Any) -> None:
    cube = put("regular", FAMILIES["regular"].make())
    twice = "MULTIPOINT((1 14),(100 70),(1 14))"
    refused = ask(client, cube, twice)
    assert (refused.status_code, "f=csv" in refused.json()["next"]) == (406, True)
    rows = list(csv.DictReader(io.StringIO(ask(client, cube, twice, f="csv", datetime="2020-01-01").text)))
    assert [float(row["lon"]) for row in rows] == [1.0, 100.0, 1.0]
    assert rows[0]["t"] == rows[2]["t"] != rows[1]["t"]


def test_points_of_a_way_have_their_times(client: httpx.Client, put: Any) -> None:
    way = xr.Dataset(
        {"O3": ("obs", np.arange(5, dtype="f4"), {"units": "ppb", "coordinates": "time lat lon altitude"})},
        {
            "time": ("obs", np.arange(5) * 2.0, {"units": "hours since 2020-01-01", "standard_name": "time"}),
            "lat": ("obs", 52 - np.arange(5) * 0.5, LAT),
            "lon": ("obs", np.arange(5) * 0.5, LON),
            "altitude": ("obs", 2000.0 - 100 * np.arange(5), {"units": "m", "standard_name": "altitude", "positive": "up"}),
        },
        {"featureType": "trajectory"},
    )
    cube = put("way", way)
    points = [(2.0, 50.0), (0.0, 52.0)]
    answer = ask(client, cube, several(points))
    assert answer.status_code == 200, answer.text
    composite = answer.json()["domain"]["axes"]["composite"]
    assert composite["coordinates"] == ["t", "x", "y", "z"]
    assert composite["values"] == [["2020-01-01T08:00:00Z", 2.0, 50.0, 1600.0], ["2020-01-01T00:00:00Z", 0.0, 52.0, 2000.0]]
    assert answer.json()["ranges"]["O3"]["values"] == [4.0, 0.0]
    outside = ask(client, cube, several([*points, (90.0, 0.0)]), f="csv")
    assert outside.status_code == 200, outside.text
    rows = list(csv.DictReader(io.StringIO(outside.text)))
    assert [(row["time"], row["O3"]) for row in rows] == [
        ("2020-01-01T08:00:00Z", "4.0"),
        ("2020-01-01T00:00:00Z", "0.0"),
        ("", ""),
    ]
