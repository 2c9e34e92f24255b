"""Files of kinds that break readers: each value of each answer is where the source, read by xarray, has it.

A value is looked up by the labels that the answer gives for it, so a value at another place, time or level shows itself.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

pytestmark = pytest.mark.filterwarnings("ignore")  # of xarray, about values that mean missing

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = {"units": "days since 2020-01-01", "standard_name": "time"}
CFTIME = xr.coders.CFDatetimeCoder(use_cftime=True)


def cube(
    *,
    lon: Any = (0.0, 10, 20),
    lat: Any = (30.0, 20),
    time: Any = (0.0, 1),
    clock: dict[str, Any] = DAYS,
    dims: tuple[str, ...] = ("time", "lat", "lon"),
    field: dict[str, Any] | None = None,
    kind: str = "f4",
) -> xr.Dataset:
    """Return undecoded data, whose values count up in the order in which they are stored."""
    labels = {"lon": np.asarray(lon), "lat": np.asarray(lat), "time": np.asarray(time)}
    sizes = [labels[each].size for each in dims]
    values = np.arange(np.prod(sizes)).reshape(sizes).astype(kind)
    return xr.Dataset(
        {"t": (dims, values, {"units": "K"} | (field or {}))},
        {"lon": ("lon", labels["lon"], LON), "lat": ("lat", labels["lat"], LAT), "time": ("time", labels["time"], clock)},
    )


def changed(data: xr.Dataset, name: str, values: Any, **attributes: Any) -> xr.Dataset:
    """Return *data* with other stored values of a variable, and more attributes."""
    old = data.variables[name]
    return data.assign({name: (old.dims, np.asarray(values), {**old.attrs, **attributes})})


def since(units: str, calendar: str = "standard", values: Any = (0.0, 1)) -> xr.Dataset:
    return cube(time=values, clock={"units": units, "calendar": calendar, "standard_name": "time"})


def bounded(values: Any, bounds: Any, **attributes: Any) -> xr.Dataset:
    data = cube(time=values, clock=DAYS | {"bounds": "time_bnds"} | attributes)
    return data.assign(time_bnds=(("time", "nv"), np.asarray(bounds)))


KINDS: dict[str, Callable[[], xr.Dataset]] = {
    "time-packed": lambda: changed(cube(), "time", np.array([0, 5], "i2"), scale_factor=0.1, add_offset=10.0),
    "time-packed-with-bounds": lambda: changed(
        changed(bounded([0.0, 1], [[0.0, 1], [1, 2]]), "time", np.array([5, 15], "i2"), scale_factor=0.1),
        "time_bnds",
        np.array([[0, 2], [2, 4]], "i2"),
        scale_factor=0.5,
    ),
    "place-packed": lambda: changed(
        changed(cube(), "lat", np.array([300, 200], "i2"), scale_factor=0.1), "lon", np.array([0, 2, 4], "u1"), scale_factor=5.0
    ),
    "dims-backwards": lambda: cube(dims=("lon", "lat", "time")),
    "time-in-the-middle": lambda: cube(dims=("lat", "time", "lon")),
    "east-to-west": lambda: cube(lon=(20.0, 10, 0), lat=(20.0, 30)),
    "from-350": lambda: cube(lon=(350.0, 0, 10)),
    "over-180": lambda: cube(lon=(170.0, 180, -170)),
    "past-360": lambda: cube(lon=(350.0, 360, 370)),
    "one-cell": lambda: cube(lon=(12.5,), lat=(55.25,)),
    "one-row": lambda: cube(lat=(55.25,)),
    "unsigned-bytes": lambda: cube(kind="i1", field={"_Unsigned": "true", "_FillValue": np.int8(3), "scale_factor": 0.5}),
    "negative-scale": lambda: cube(kind="i2", field={"scale_factor": -0.25, "add_offset": 1.0}),
    "missing-value-only": lambda: cube(field={"missing_value": np.float32(5)}),
    "two-missing-values": lambda: cube(kind="i2", field={"missing_value": np.array([3, 4], "i2")}),
    "valid-range": lambda: cube(field={"valid_range": np.array([2, 8], "f4")}),
    "missing-value-of-another-type": lambda: cube(kind="i2", field={"missing_value": np.float32(1e20)}),
    "big-integers": lambda: changed(cube(kind="i8"), "t", cube(kind="i8").t.values + 2**53 + 1),
    # The number that the NetCDF library takes for missing is a value here.
    "all-bytes-u1": lambda: changed(cube(kind="u1"), "t", np.where(cube().t.values == 0, 255, cube().t.values + 1).astype("u1")),
    "all-bytes-i1": lambda: changed(cube(kind="i1"), "t", np.where(cube().t.values == 0, -127, cube().t.values).astype("i1")),
    "days-of-360": lambda: since("days since 2000-01-01", "360_day", (29.0, 59)),
    "julian": lambda: since("days since 1900-02-28", "julian"),
    "before-1582": lambda: since("days since 1582-10-04"),
    "time-zone": lambda: since("hours since 2020-01-01 00:00:00 +02:00"),
    "milliseconds": lambda: since("milliseconds since 2020-01-01", values=(0.0, 1500)),
    "ends-of-months": lambda: bounded([31.0, 60], [[0.0, 31], [31, 60]]),
    "climatology": lambda: (
        bounded([15.0, 45], [[0.0, 10623], [31, 10651]])
        .pipe(lambda data: changed(data, "time", [15.0, 45], climatology="time_bnds"))
        .map(lambda each: each, keep_attrs=True)
    ),
    "levels-up": lambda: (
        cube().expand_dims(z=np.array([2.0, 10]), axis=1).pipe(lambda data: changed(data, "z", [2.0, 10], units="m", positive="up"))
    ),
    "names-of-members": lambda: cube().expand_dims(model=np.array(["a b", "ü", "c,d"], dtype=object)),
}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[str, xr.Dataset]]]:
    folder = tmp_path_factory.mktemp("kinds")
    kept: dict[str, tuple[str, xr.Dataset]] = {}

    def write(name: str) -> tuple[str, xr.Dataset]:
        if name not in kept:
            path: Path = folder / f"kind-{name}.nc"
            made = KINDS[name]()
            for variable in made.variables.values():
                variable.encoding["_FillValue"] = variable.attrs.pop("_FillValue", None)
            made.to_netcdf(path, engine="netcdf4")
            with xr.open_dataset(path, decode_times=CFTIME, decode_timedelta=False) as truth:
                kept[name] = stored(str(path)).dataset_id, truth.load()
        return kept[name]

    return write  # type: ignore[return-value]


def ask(client: httpx.Client, dataset: str, kind: str = "coverage", **query: str) -> httpx.Response:
    answer = client.get(f"/ogcapi/collections/{dataset}/{kind}", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def stamp(moment: Any) -> str:
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}{fraction}Z".replace(" ", "0")


def number(value: Any) -> float | None:
    return None if value in (None, "") or value != value else float(f"{float(value):.6g}")


def turned(lon: Any) -> float:
    return round((float(lon) + 180) % 360 - 180, 6)


def of_source(truth: xr.Dataset, **indices: Any) -> Counter[Any]:
    """Return longitude, latitude, time, level and value of every cell."""
    field = truth["t"].isel(indices)
    found: Counter[Any] = Counter()
    for at in np.ndindex(field.shape):
        cell = field[at]
        z = number(cell["z"].item()) if "z" in field.dims else None
        found[turned(cell.lon), round(float(cell.lat), 6), stamp(cell.time.item()), z, number(cell.item())] += 1
    return found


def of_json(document: dict[str, Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for coverage in document.get("coverages", [document]):
        axes = {name: each["values"] for name, each in coverage["domain"]["axes"].items()}
        array = coverage["ranges"]["t"]
        for at, value in zip(np.ndindex(*array["shape"]), array["values"], strict=True):
            place = {name: axes[name][0] for name in axes} | {n: axes[n][i] for n, i in zip(array["axisNames"], at, strict=True)}
            z = number(place["z"]) if "z" in place else None
            found[turned(place["x"]), round(place["y"], 6), place["t"], z, number(value)] += 1
    return found


def of_csv(text: str) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for row in csv.DictReader(io.StringIO(text)):
        z = number(row["z"]) if "z" in row else None
        found[turned(row["lon"]), round(float(row["lat"]), 6), row["time"], z, number(row["t"])] += 1
    return found


def of_netcdf(content: bytes) -> Counter[Any]:
    with xr.open_dataset(io.BytesIO(content), engine="h5netcdf", decode_times=CFTIME, decode_timedelta=False) as found:
        return of_source(found.load())


def of_table(text: str) -> Counter[Any]:
    """Return the cells of a table of griddap, whose second header row has units."""
    names, _, *rows = text.splitlines(keepends=True)
    return of_csv("".join([names, *(each.replace("NaN", "") for each in rows)]))


def of_rows(document: dict[str, Any]) -> Counter[Any]:
    table = document["table"]
    lines = io.StringIO()
    csv.writer(lines).writerows([table["columnNames"], *table["rows"]])
    return of_csv(lines.getvalue())


READERS: dict[str, Callable[[httpx.Response], Counter[Any]]] = {
    "json": lambda answer: of_json(answer.json()),
    "csv": lambda answer: of_csv(answer.text),
    "netcdf": lambda answer: of_netcdf(answer.content),
}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("name", KINDS)
def test_a_whole_coverage_is_the_source(client: httpx.Client, put: Any, name: str, form: str) -> None:
    dataset, truth = put(name)
    assert READERS[form](ask(client, dataset, f=form)) == of_source(truth)


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("name", KINDS)
def test_a_place_and_a_time_are_those_of_the_source(client: httpx.Client, put: Any, name: str, form: str) -> None:
    dataset, truth = put(name)
    row, column, step = (truth.sizes[each] - 1 for each in ("lat", "lon", "time"))
    lon, lat = turned(truth.lon[column]), float(truth.lat[row])
    point = ask(client, dataset, "position", coords=f"POINT({lon} {lat})", f=form)
    assert READERS[form](point) == of_source(truth, lat=[row], lon=[column])
    when = stamp(truth.time[step].item())
    assert READERS[form](ask(client, dataset, datetime=when, f=form)) == of_source(truth, time=[step])
    box = f"{lon - 0.5},{lat - 0.5},{lon + 0.5},{lat + 0.5}"
    assert READERS[form](ask(client, dataset, bbox=box, datetime=when, f=form)) == of_source(
        truth, lat=[row], lon=[column], time=[step]
    )


def test_a_missing_value_in_double_precision_is_missing_in_every_answer(client: httpx.Client, stored: Any, tmp_path: Path) -> None:
    """/zarr and the measured range had the number, and all other answers had it as missing."""
    values = np.where(cube().t.values == 5, np.float32(1e20), cube().t.values)
    changed(cube(), "t", values, missing_value=np.float64(1e20)).to_netcdf(tmp_path / "double.nc", engine="netcdf4")
    kept = stored(str(tmp_path / "double.nc"))
    assert kept.description.variable("t").valid_max == 11
    for form, read in READERS.items():
        found = [value for *_, value in read(ask(client, kept.dataset_id, f=form))]
        assert (found.count(None), max(value for value in found if value is not None)) == (1, 11), form
    folder = kept.engine.path(kept.dataset_id, kept.shown().version.version_id)
    with xr.open_zarr(folder, chunks=None) as lying:
        assert np.isnan(lying["t"].values).sum() == 1


@pytest.mark.parametrize("name", ["time-packed", "time-packed-with-bounds"])
def test_the_extent_of_packed_times_is_that_of_the_labels(client: httpx.Client, put: Any, name: str) -> None:
    dataset, truth = put(name)
    extent = client.get(f"/ogcapi/collections/{dataset}").json()["extent"]["temporal"]
    assert extent["interval"] == [[stamp(truth.time[0].item()), stamp(truth.time[-1].item())]]


@pytest.mark.parametrize("form", ["netcdf", "zarr"])
@pytest.mark.parametrize("kind", ["u1", "i1"])
def test_what_a_polygon_leaves_out_is_no_value_of_the_data(
    client: httpx.Client, put: Any, tmp_path: Path, kind: str, form: str
) -> None:
    dataset, truth = put(f"all-bytes-{kind}")
    answer = ask(client, dataset, "area", coords="POLYGON((-1 19,11 19,-1 31,-1 19))", f=form)
    path = tmp_path / f"part.{form}"
    path.write_bytes(answer.content)
    store = ZipStore(path, mode="r") if form == "zarr" else path
    with xr.open_dataset(store, engine="zarr" if form == "zarr" else "h5netcdf", decode_times=CFTIME) as found:
        inside = found["t"].isel(lon=0, lat=0).values  # its centre is inside; that of the opposite corner is not
        assert inside.tolist() == truth["t"].sel(lon=0, lat=30).values.tolist()
        assert np.isnan(found["t"].isel(lon=-1, lat=0).values).all()


GRIDDAP: dict[str, Callable[[httpx.Response], Counter[Any]]] = {
    "csv": lambda answer: of_table(answer.text),
    "json": lambda answer: of_rows(answer.json()),
    "nc": lambda answer: of_netcdf(answer.content),
}


@pytest.mark.parametrize("form", GRIDDAP)
@pytest.mark.parametrize("name", KINDS)
def test_griddap_has_the_source_whole_and_by_labels(client: httpx.Client, put: Any, name: str, form: str) -> None:
    dataset, truth = put(name)
    whole = client.get(f"/griddap/{dataset}.{form}?t")
    assert whole.status_code == 200, whole.text
    assert GRIDDAP[form](whole) == of_source(truth)
    last = {each: truth.sizes[each] - 1 for each in ("lat", "lon", "time")}
    labels = {each: float(truth[each][last[each]]) for each in ("lat", "lon")} | {"time": stamp(truth.time[-1].item())}
    query = "t" + "".join(f"[({labels[each]})]" if each in labels else "[]" for each in truth.t.dims)
    cell = client.get(f"/griddap/{dataset}.{form}?{query}")
    assert cell.status_code == 200, cell.text
    assert GRIDDAP[form](cell) == of_source(truth, **{each: [at] for each, at in last.items()})


def test_infinite_values_are_in_every_form_that_can_have_them(client: httpx.Client, stored: Any, tmp_path: Path) -> None:
    data = cube(time=(0.0,), lat=(30.0,))
    changed(data, "t", [[[np.inf, -np.inf, np.nan]]]).to_netcdf(path := tmp_path / "kind-infinite.nc", engine="netcdf4")
    dataset = stored(str(path)).dataset_id
    assert ask(client, dataset).json()["ranges"]["t"]["values"] == [None, None, None]
    assert [row["t"] for row in csv.DictReader(io.StringIO(ask(client, dataset, f="csv").text))] == ["inf", "-inf", ""]
    with xr.open_dataset(io.BytesIO(ask(client, dataset, f="netcdf").content), engine="h5netcdf") as found:
        assert np.array_equal(found["t"].values.ravel(), [np.inf, -np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_positions_may_have_the_names_of_their_dimensions(client: httpx.Client, stored: Any, tmp_path: Path, form: str) -> None:
    lon, lat = np.meshgrid([0.0, 10, 20], [30.0, 20])
    path = tmp_path / "kind-named-as-dimensions.nc"
    with netCDF4.Dataset(path, "w") as file:  # xarray cannot write it
        file.createDimension("lat", 2)
        file.createDimension("lon", 3)
        for name, values, attributes in (("lat", lat + lon / 100, LAT), ("lon", lon, LON), ("t", np.arange(6.0).reshape(2, 3), {})):
            variable = file.createVariable(name, "f8", ("lat", "lon"))
            variable.setncatts(attributes)
            variable[...] = values
    dataset = stored(str(path)).dataset_id
    answer = ask(client, dataset, f=form)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        found = {float(row["t"]): (float(row["lon"]), float(row["lat"])) for row in rows}
    else:
        coverage = answer.json()
        cells = coverage["domain"]["axes"]["composite"]["values"]
        found = dict(zip(coverage["ranges"]["t"]["values"], map(tuple, cells), strict=True))
    assert found == {float(at): (x, y) for at, (x, y) in enumerate(zip(lon.ravel(), (lat + lon / 100).ravel(), strict=True))}
    point = ask(client, dataset, "position", coords="POINT(20 30.2)", f="json").json()
    assert point["ranges"]["t"]["values"] == [2.0]
    first = ask(client, dataset, subset="lat_index(0)", f="csv").text
    assert first.count("\r\n") == 4
