"""Of a Zarr store on another machine, only the chunks that a request needs are fetched, and none of the others is read as fill."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from tests.objectstore import ObjectStore
from tests.provided.places import Place, ask

from cubeport.adapters.engines.opened import VersionStore
from cubeport.adapters.sources import zarr as zarr_format
from cubeport.cubes import excerpt
from cubeport.cubes.excerpt import Excerpt
from cubeport.errors import SourceRejected

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")

DAYS, LATS, LONS = 60, 8, 8
DAILY = {"period_type": "daily"}
CHUNKS = {"t": {"chunks": (10, 4, 4)}, "time": {"chunks": (DAYS,)}}


def cube(days: int = DAYS, add: float = 0.0) -> xr.Dataset:
    """Return days of which every value is another one, with an orography."""
    values = np.arange(days * LATS * LONS, dtype="float32").reshape(days, LATS, LONS) + add
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), values, {"units": "mm"}),
            "orog": (("lat", "lon"), np.arange(LATS * LONS, dtype="float32").reshape(LATS, LONS), {"units": "m"}),
        },
        coords={
            "time": ("time", np.arange(days), {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", np.arange(LATS) * 1.0, {"units": "degrees_north"}),
            "lon": ("lon", np.arange(LONS) * 1.0, {"units": "degrees_east"}),
        },
    )


def put(place: Place, data: xr.Dataset, zarr_format: int = 3, **chunks: Any) -> str:
    """Write the store anew, as one whose time is a single chunk, and return its address."""
    folder = place.provider.root / "c.zarr"
    shutil.rmtree(folder, ignore_errors=True)
    encoding = {**CHUNKS, "time": {"chunks": (data.sizes["time"],)}, **chunks}
    data.to_zarr(folder, zarr_format=zarr_format, consolidated=True, encoding=encoding)
    return f"{place.provider.url}/c.zarr"


def fetched(place: Place, name: str = "t") -> set[str]:
    """Return the chunks of a variable that were requested since the last time."""
    found = {each[1].partition(f"c.zarr/{name}/")[2] for each in place.provider.requests("GET")}
    place.provider.forget()
    return {each for each in found if re.fullmatch(r"(c/)?[0-9./]+", each)}


def opened(place: Place, ref: str) -> xr.Dataset:
    shown = place.service.shown(ref)
    store: Any = VersionStore(place.service.engines, ref, shown.version.version_id)
    return xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False).load()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_start_and_an_end_fetch_the_chunks_of_their_steps(place: Place, zarr_format: int) -> None:
    address = put(place, cube(), zarr_format)
    done = ask(place.service, place.id, source=address, start="2024-01-25", end="2024-02-03", template={"period_type": "daily"})
    assert done.status == "completed", done.error
    dot = "." if zarr_format == 2 else "/"
    prefix = "" if zarr_format == 2 else "c/"
    assert fetched(place) == {prefix + dot.join(each) for each in _product("23", "01", "01")}
    xr.testing.assert_equal(opened(place, place.id), cube().isel(time=slice(24, 34)))
    # The same request again is the same version, and all that is kept is only checked.
    again = ask(place.service, place.id, source=address, start="2024-01-25", end="2024-02-03", template={"period_type": "daily"})
    assert (again.reused, fetched(place)) == (True, set())


def _product(*dims: str) -> list[tuple[str, ...]]:
    return [(a, b, c) for a in dims[0] for b in dims[1] for c in dims[2]]


def test_a_template_that_grows_fetches_the_new_steps_alone(place: Place) -> None:
    put(place, cube(45))
    place.template(f"{{kind: zarr, url: '{place.provider.url}/c.zarr'}}")
    first = place.ask("2024-01-11", "2024-01-31")
    assert first.status == "completed", first.error
    assert fetched(place) == {"/".join(("c", *each)) for each in _product("123", "01", "01")}
    # What it has already is not asked for, not even whether it is still there.
    assert place.ask("2024-01-15", "2024-01-20").reused is True
    assert place.provider.requests() == []
    put(place, cube(52))
    done = place.ask("2024-01-11")
    assert (done.status, done.action) == ("completed", "append"), done.error
    # The chunks of steps 30 to 39 are kept, and unchanged.
    assert fetched(place) == {"/".join(("c", *each)) for each in _product("45", "01", "01")}
    xr.testing.assert_equal(opened(place, place.id), cube(52).isel(time=slice(10, 52)))
    # Nothing new: the labels say so, and no value is fetched.
    assert place.ask("2024-01-11").reused is True
    assert fetched(place) == set()
    # Steps that are asked for again come again, with their new values; all others stay.
    put(place, cube(52, add=1000.0))
    done = place.ask("2024-02-01", "2024-02-02", overwrite=True)
    assert (done.status, done.action) == ("completed", "revise"), done.error
    assert fetched(place) == {"/".join(("c", *each)) for each in _product("3", "01", "01")}
    expected = cube(52).t.values[10:]
    expected[21:23] += 1000
    np.testing.assert_array_equal(opened(place, place.id).t.values, expected)


def test_an_area_fetches_the_chunks_that_it_meets(place: Place) -> None:
    put(place, cube())
    (place.root / f"extents/{place.id}.yaml").write_text(f"extent_id: {place.id}e\nbbox: [5, 0, 7, 2]\n")
    done = ask(place.service, place.id, source=f"{place.provider.url}/c.zarr", extent_id=f"{place.id}e")
    assert done.status == "completed", done.error
    assert fetched(place) == {"/".join(("c", *each)) for each in _product("012345", "0", "1")}
    xr.testing.assert_equal(opened(place, place.id), cube().isel(lat=slice(0, 3), lon=slice(5, 8)))


def test_files_are_updated_from_a_store_by_its_new_steps(place: Place, tmp_path: Path) -> None:
    address = put(place, cube(30))
    assert ask(place.service, place.id, source=address, template={"period_type": "daily"}).status == "completed"
    put(place, cube())
    fetched(place)
    done = ask(place.service, place.id, source=address, mode="update", on_overlap="skip")
    assert (done.status, done.action) == ("completed", "append"), done.error
    assert fetched(place) == {"/".join(("c", *each)) for each in _product("345", "01", "01")}
    xr.testing.assert_equal(opened(place, place.id), cube())


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # The difference of the first step needs none before it, that of a step at a border of chunks does.
        ({"transforms": [{"deaccumulate": "t"}]}, lambda data: data.t.diff("time", label="upper").isel(time=slice(9, 14))),
        ({"normalise": [{"sort": ["-lat"]}]}, lambda data: data.t.isel(time=slice(10, 15), lat=slice(None, None, -1))),
        ({"normalise": [{"transpose": ["lon", "lat", "time"]}]}, lambda data: data.t.isel(time=slice(10, 15)).transpose()),
        ({"normalise": [{"rename": {"t": "rain", "time": "when"}}]}, lambda data: data.t.isel(time=slice(10, 15))),
        ({"normalise": [{"wrap_longitude": 180}]}, lambda data: data.t.isel(time=slice(10, 15))),
    ],
)
def test_repairs_read_what_they_need(place: Place, steps: Any, expected: Callable[[xr.Dataset], xr.DataArray]) -> None:
    address = put(place, cube())
    template = {"period_type": "daily", **steps}
    done = ask(place.service, place.id, source=address, start="2024-01-11", end="2024-01-15", template=template)
    assert done.status == "completed", done.error
    found = opened(place, place.id)
    name = "rain" if "rain" in found else "t"
    np.testing.assert_allclose(found[name].values, expected(cube()).values)
    assert len(fetched(place)) < 4 * 6


def test_positions_and_labels_that_decide_are_fetched_before(place: Place) -> None:
    """Positions in two dimensions that no attribute names, and a time that is a variable of three dimensions."""
    data = cube().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    north, east = np.meshgrid(np.arange(LATS) * 1.0, np.arange(LONS) * 1.0, indexing="ij")
    data["lat"] = (("y", "x"), north, {"units": "degrees_north", "standard_name": "latitude"})
    data["lon"] = (("y", "x"), east, {"units": "degrees_east", "standard_name": "longitude"})
    address = put(place, data)
    (place.root / f"extents/{place.id}.yaml").write_text(f"extent_id: {place.id}e\nbbox: [4.6, -0.4, 7.4, 2.4]\n")
    done = ask(place.service, place.id, source=address, extent_id=f"{place.id}e", start="2024-01-01", end="2024-01-05")
    assert done.status == "completed", done.error
    assert fetched(place) == {"c/0/0/1"}
    np.testing.assert_array_equal(opened(place, place.id).t.values, cube().t.values[:5, 0:3, 5:8])


def test_a_fetch_that_was_stopped_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.adapters.fetching.patience.FIRST_PAUSE_S", 0.0)
    address = put(place, cube())
    place.provider.temper("c.zarr/t/c/3/1/1", status=500)
    wanted = {"source": address, "start": "2024-01-25", "end": "2024-02-03", "template": {"period_type": "daily"}}
    refused = ask(place.service, place.id, **wanted)
    assert refused.error is not None
    assert refused.error["kind"] == "source-failed"
    place.provider.calm("c.zarr/t/c/3/1/1")
    first = fetched(place)
    assert ask(place.service, place.id, **wanted).status == "completed"
    # At most those that were on their way when it failed come again.
    assert "c/2/0/0" in first
    assert "c/2/0/0" not in fetched(place)
    xr.testing.assert_equal(opened(place, place.id), cube().isel(time=slice(24, 34)))


def test_a_store_by_profile_is_read_in_part_too(
    tmp_path: Path, place: Place, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    bucket = object_store.bucket()
    profiles = {
        "default": {"protocol": "file", "root": "./files"},
        "bucket": {**object_store.profile(f"{bucket}/data"), "use": ["source"]},
    }
    (place.root / "config/profiles.yaml").write_text(yaml.safe_dump({"profiles": profiles}))
    cube().to_zarr(tmp_path / "c.zarr", zarr_format=3, consolidated=False, encoding=CHUNKS)
    object_store.put_tree(bucket, "data/c.zarr", tmp_path / "c.zarr")
    # What is not needed is not there, so whoever asked for it would get fill values or an error.
    for key in object_store.keys(bucket):
        if re.search(r"/t/c/[0145]/", key):
            object_store.put(bucket, key, b"not a chunk")
    place.template("{kind: zarr, profile: bucket, key: c.zarr}")
    done = place.ask("2024-01-25", "2024-02-03")
    assert done.status == "completed", done.error
    xr.testing.assert_equal(opened(place, place.id), cube().isel(time=slice(24, 34)))


def test_what_was_not_fetched_is_never_read_as_fill(tmp_path: Path) -> None:
    cube().to_zarr(tmp_path / "c.zarr", zarr_format=3, consolidated=False, encoding=CHUNKS)
    there = Excerpt({"t": (((20, 40),), ((0, LATS),), ((0, LONS),))})
    (tmp_path / "c.zarr" / excerpt.NAME).write_bytes(there.to_bytes())
    shutil.rmtree(tmp_path / "c.zarr/t/c/0")
    source = zarr_format.open_zarr(str(tmp_path / "c.zarr"), "c.zarr")
    np.testing.assert_array_equal(source.raw["t"].isel(time=slice(20, 40)).values, cube().t.values[20:40])
    with pytest.raises(SourceRejected, match="'t' are needed that were not fetched"):
        _ = source.raw["t"].isel(time=slice(19, 40)).values
    (tmp_path / "c.zarr" / excerpt.NAME).write_bytes(b'{"t": 3}')
    with pytest.raises(SourceRejected, match="does not say what it has"):
        zarr_format.open_zarr(str(tmp_path / "c.zarr"), "c.zarr")


@pytest.mark.parametrize(
    ("ranges", "length", "size", "wide", "chunks"),
    [
        (((3, 4),), 10, 25, ((0, 10),), [0]),
        (((9, 11), (24, 25)), 10, 25, ((0, 25),), [0, 1, 2]),
        (((0, 2), (21, 30)), 10, 25, ((0, 10), (20, 25)), [0, 2]),
        ((), 10, 25, (), []),
        (((40, 50),), 10, 25, (), []),
    ],
)
def test_ranges_are_widened_to_chunks(ranges: Any, length: int, size: int, wide: Any, chunks: list[int]) -> None:
    assert excerpt.of_chunks(ranges, length, size) == (wide, chunks)
    assert Excerpt.parse(Excerpt({"a": (ranges,)}).to_bytes()) == Excerpt({"a": (ranges,)})


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_address_without_an_ending_is_a_store_if_it_has_the_metadata_of_one(place: Place, zarr_format: int) -> None:
    """Such as https://data.example/zarr/tas, the address that another cubeport shows."""
    put(place, cube(), zarr_format)
    plain = place.provider.root / "c"
    shutil.rmtree(plain, ignore_errors=True)
    (place.provider.root / "c.zarr").rename(plain)
    address = f"{place.provider.url}/c"
    part = ask(place.service, f"{place.id}-part", source=address, start="2024-01-25", end="2024-02-03", template=DAILY)
    assert part.status == "completed", part.error
    asked = [each[1] for each in place.provider.requests("GET") if "/t/" in each[1] and each[1][-1].isdigit()]
    assert len(asked) == len(_product("23", "01", "01"))
    xr.testing.assert_equal(opened(place, f"{place.id}-part"), cube().isel(time=slice(24, 34)))
    whole = ask(place.service, place.id, source=address, template=DAILY)
    assert whole.status == "completed", whole.error
    xr.testing.assert_equal(opened(place, place.id), cube())
    shutil.rmtree(plain)
    place.provider.put("c", netcdf_of(cube(), place))
    file = ask(place.service, f"{place.id}-file", source=address, template=DAILY)
    assert file.status == "completed", file.error
    xr.testing.assert_equal(opened(place, f"{place.id}-file"), cube())


def netcdf_of(data: xr.Dataset, place: Place) -> bytes:
    made = place.provider.root / "made.nc"
    data.to_netcdf(made)
    return made.read_bytes()
