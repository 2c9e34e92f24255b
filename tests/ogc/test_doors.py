"""One selection through every door: drawn windows, days and levels of every grid family, compared with the cells of the source.

What is expected is computed here from the labels of the source alone: midpoints are edges, a box takes the cells that it meets,
and cells of positions are taken by their position.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.families import FAMILIES, positions

STRAIGHT = ("regular", "south-up", "from-0-to-360", "over-the-dateline", "days-of-360", "packed", "members", "pressure-levels")
ANYWHERE = ("curvilinear", "unstructured", "projected", "rotated-pole")
EXTRA = {"members": "member", "pressure-levels": "z"}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("doors")

    def write(name: str) -> Any:
        path = folder / f"door-{name}.nc"
        if not path.exists():
            FAMILIES[name].make().to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def edges(labels: np.ndarray) -> np.ndarray:
    """Return the lower and upper edge of each cell, (n, 2)."""
    middle = (labels[1:] + labels[:-1]) / 2
    whole = np.concatenate([[2 * labels[0] - middle[0]], middle, [2 * labels[-1] - middle[-1]]])
    return np.sort(np.column_stack([whole[:-1], whole[1:]]), axis=1)


def slice_of(name: str, day: int, extra: int) -> tuple[xr.DataArray, dict[str, str]]:
    """Return the values of one day and one level or member, and the parameters that choose them."""
    data = FAMILIES[name].make()["t"]
    chosen = {"datetime": f"2020-01-0{day + 1}"}
    data = data.isel(time=day)
    if name in EXTRA:
        (dimension,) = [each for each in data.dims if each not in ("lat", "lon")]
        extra %= data.sizes[dimension]
        chosen["subset"] = f"{dimension}({data[dimension].values[extra].item()})"
        data = data.isel({dimension: extra})
    return data, chosen


def inside(name: str, data: xr.DataArray, box: tuple[float, float, float, float]) -> tuple[set[float], set[float]]:
    """Return the values that a box must have, and those that it may have."""
    west, south, east, north = box
    if name in STRAIGHT:
        columns, rows = edges(data["lon"].values.astype("f8")), edges(data["lat"].values.astype("f8"))
        rows = np.clip(rows, -90, 90)
        low = (columns[:, 0] - west) % 360
        meets = (low < east - west) | (low + (columns[:, 1] - columns[:, 0]) > 360)
        kept = data.transpose("lat", "lon").values[np.ix_((rows[:, 1] > south) & (rows[:, 0] < north), meets)]
        return set(kept.ravel().tolist()), set(kept.ravel().tolist())
    lon, lat = positions(FAMILIES[name])
    here = ((lon - west) % 360 <= east - west) & (lat >= south) & (lat <= north)
    values = data.values.reshape(lon.shape)
    surely = set(values[here].ravel().tolist())
    return surely, surely if name in ("curvilinear", "unstructured") else set(values.ravel().tolist())


def through(
    client: httpx.Client, cube: Any, door: str, box: tuple[float, ...], chosen: dict[str, str], folder: Path
) -> set[float] | None:
    """Return the values that a door gives, ``None`` where there are none."""
    base = f"/ogcapi/collections/{cube.dataset_id}"
    text = ",".join(map(repr, box))
    if door in ("cube", "area"):
        west, south, east, north = box
        ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
        where = {"bbox": text} if door == "cube" else {"coords": f"POLYGON(({ring}))"}
        answer = client.get(f"{base}/{door}", params={**where, **chosen})
    else:
        answer = client.get(f"{base}/coverage", params={"bbox": text, "f": door, **chosen})
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    if door == "netcdf":
        with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
            values = found["t"].values
    elif door == "zarr":
        path = folder / "door.zip"
        path.write_bytes(answer.content)
        with zarr.storage.ZipStore(path, mode="r") as store, xr.open_zarr(store, consolidated=True, chunks=None) as found:
            values = found["t"].values
    elif door == "geotiff":
        with rasterio.open(io.BytesIO(answer.content)) as found:
            values = found.read(1)
    elif door == "csv":
        values = np.array([float(row.split(",")[-1] or "nan") for row in answer.text.splitlines()[1:]])
    else:
        document = answer.json()
        parts = document.get("coverages", [document])
        values = np.array([each for part in parts for each in part["ranges"]["t"]["values"]], "f8")
    known = np.ravel(np.asarray(values, "f8"))
    return {round(float(each), 4) for each in known[np.isfinite(known)]}


@pytest.mark.parametrize("name", [*STRAIGHT, *ANYWHERE])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corner=st.tuples(st.floats(0.013, 0.93), st.floats(0.017, 0.91)),
    size=st.tuples(st.floats(0.021, 0.9), st.floats(0.023, 0.9)),
    day=st.integers(0, 2),
    extra=st.integers(0, 5),
    turn=st.sampled_from([-360.0, 0.0]),
)
def test_every_door_has_the_cells_of_the_source(
    client: httpx.Client,
    put: Any,
    tmp_path: Path,
    name: str,
    corner: tuple[float, float],
    size: tuple[float, float],
    day: int,
    extra: int,
    turn: float,
) -> None:
    cube = put(name)
    west, south, east, north = cube.description.spatial.bbox
    wide, high = (east - west) % 360 or 360.0, north - south
    a, b = west + wide * corner[0], south + high * corner[1]
    a += turn if a + turn > -180 else 0.0
    box = (a, b, a + wide * size[0] * (1 - corner[0]), b + high * size[1] * (1 - corner[1]))
    data, chosen = slice_of(name, day, extra)
    must, may = inside(name, data, box)
    doors = ["covjson", "netcdf", "csv", "zarr", "cube"]
    doors += ["area", "geotiff"] if name in STRAIGHT else []
    if name == "packed":
        must, may = ({round(each, 4) for each in values} for values in (must, may))
    for door in doors:
        found = through(client, cube, door, box, chosen, tmp_path)
        if not must:
            # A box within one cell of a grid gives that cell; between positions there is nothing.
            assert found is None or len(found) <= 1 or found <= may, (door, box)
            continue
        assert found is not None, (door, box)
        assert must <= found <= may, (door, box, chosen, must ^ found)


@pytest.mark.parametrize("name", [*STRAIGHT, "projected", "rotated-pole"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), day=st.integers(0, 2), extra=st.integers(0, 5))
def test_the_value_at_a_place_is_that_of_its_cell_at_every_door(
    client: httpx.Client, put: Any, name: str, place: tuple[float, float], day: int, extra: int
) -> None:
    cube = put(name)
    data, chosen = slice_of(name, day, extra)
    lon, lat = positions(FAMILIES[name])
    values = data.values
    lon, lat = lon.reshape(values.shape), lat.reshape(values.shape)
    row, column = int(place[0] * lon.shape[0]), int(place[1] * lon.shape[1])
    x, y = (float(lon[row, column]) + 180) % 360 - 180, float(lat[row, column])
    truth = float(values[row, column])
    base = f"/ogcapi/collections/{cube.dataset_id}"
    position = client.get(f"{base}/position", params={"coords": f"POINT({x!r} {y!r})", **chosen}).json()
    assert position["ranges"]["t"]["values"][0] == pytest.approx(truth, rel=1e-6)
    dimensions = {"TIME": chosen["datetime"]}
    if "subset" in chosen:
        axis, _, label = chosen["subset"].rstrip(")").partition("(")
        dimensions["ELEVATION" if name == "pressure-levels" else f"DIM_{axis}"] = label
    around = (x - 1e-4, y - 1e-4, x + 1e-4, y + 1e-4)
    asked = {"REQUEST": "GetFeatureInfo", "LAYERS": "t", "QUERY_LAYERS": "t", "CRS": "CRS:84", "WIDTH": "3", "HEIGHT": "3"}
    answer = client.get(
        f"/wms/{cube.dataset_id}", params={**asked, **dimensions, "BBOX": ",".join(map(repr, around)), "I": "1", "J": "1"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["features"][0]["properties"]["value"] == pytest.approx(truth, rel=1e-6)
    warped = client.get(f"{base}/coverage", params={"bbox": ",".join(map(repr, around)), "crs": "EPSG:3857", **chosen})
    assert warped.status_code == 200, warped.text
    found = [each for each in warped.json()["ranges"]["t"]["values"] if each is not None]
    assert truth == pytest.approx(found[len(found) // 2], rel=1e-6)


@pytest.mark.parametrize("name", ["coads_sst.nc", "croco_his.nc"])
def test_each_label_that_capabilities_offer_is_drawn(client: httpx.Client, stored: Any, name: str) -> None:
    """Labels in the middle of months, and a time without dates, which has another name than the dimension of dates."""
    cube = stored(name)
    root = ET.fromstring(client.get(f"/wms/{cube.dataset_id}", params={"REQUEST": "GetCapabilities"}).content)
    wms = "{http://www.opengis.net/wms}"
    asked = {
        "REQUEST": "GetFeatureInfo",
        "CRS": "CRS:84",
        "BBOX": "-180,-90,180,90",
        "WIDTH": "8",
        "HEIGHT": "8",
        "I": "1",
        "J": "1",
    }
    seen = 0
    for layer in root.iter(f"{wms}Layer"):
        for dimension in layer.findall(f"{wms}Dimension"):
            field, labels = layer.findtext(f"{wms}Name"), (dimension.text or "").split(",")
            assert not any("/" in each for each in labels), "an interval would give labels that do not exist"
            name = dimension.get("name") or ""
            key = name if name in ("time", "elevation") else f"DIM_{name}"
            for label in labels[:: max(1, len(labels) // 12)]:
                answer = client.get(f"/wms/{cube.dataset_id}", params={**asked, "LAYERS": field, "QUERY_LAYERS": field, key: label})
                assert answer.status_code == 200, (field, key, label, answer.text)
                shown = answer.json()["features"][0]["properties"]
                assert label in shown.values(), (field, key, label, shown)
                seen += 1
            if name == "time":
                assert dimension.get("units") == "ISO8601"
                assert all(re.fullmatch(r"[0-9]{4}-[0-9]{2}-.*Z", each) for each in labels)
    assert seen >= 12
