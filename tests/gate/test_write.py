"""What the first child writes: stored values untouched, in their own order and names, or a refusal that says which file and why."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import netCDF4
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cubeport.catalog.forms import strictyaml
from cubeport.errors import (
    AreaOutsideSource,
    CalendarMismatch,
    CubeportError,
    DtypeMismatch,
    GridMismatch,
    InvalidTemplate,
    NoData,
    SourceRejected,
    UnitsMismatch,
    VariablesMismatch,
)

from .desk import WINDOW, desk, ours_of, same_values, source_of, tree, write, written

RAW = {"decode_cf": False, "create_default_indexes": False}


def grid(
    path: Path,
    *,
    days: Any = (0, 1, 2),
    units: str = "days since 2000-01-01",
    calendar: str | None = "standard",
    lat: Any = (10.0, 20.0),
    lon: Any = (0.0, 10.0, 20.0),
    dtype: str = "f4",
    values: Any = None,
    attributes: Mapping[str, Any] | None = None,
    times: str = "f8",
    bounds: bool = False,
    format: str = "NETCDF4",
) -> Path:
    """Write a small file of one field on (time, lat, lon)."""
    with netCDF4.Dataset(path, "w", format=format) as file:
        for name, labels in (("time", days), ("lat", lat), ("lon", lon)):
            file.createDimension(name, len(labels))
        time = file.createVariable("time", times, ("time",))
        time[:] = days
        time.units = units
        if calendar is not None:
            time.calendar = calendar
        for name, labels, words in (("lat", lat, "degrees_north"), ("lon", lon, "degrees_east")):
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = labels
            variable.units = words
        if bounds:
            time.bounds = "time_bnds"
            file.createDimension("bnds", 2)
            file.createVariable("time_bnds", times, ("time", "bnds"))[:] = np.stack([np.asarray(days) - 1, days], axis=1)
        given = dict(attributes or {})
        endian = "big" if dtype.startswith(">") else "native"
        fill = given.pop("_FillValue", None)
        field = file.createVariable("t", dtype, ("time", "lat", "lon"), fill_value=fill, endian=endian)
        field.set_auto_maskandscale(False)
        field.setncatts({"units": "K", **given})
        shape = (len(days), len(lat), len(lon))
        field[:] = np.arange(np.prod(shape)).reshape(shape) + np.asarray(days).reshape(-1, 1, 1) if values is None else values
    return path


def stored(target: Path) -> xr.Dataset:
    with ours_of(target, **RAW) as opened:
        return opened.load()


# --- one file --------------------------------------------------------------------------------------------------------


def test_labels_are_read_from_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads, read = grid(tmp_path / "a.nc"), list[str](), h5py.Dataset.__getitem__

    def counted(self: Any, key: Any) -> Any:
        reads.append(self.name)
        return read(self, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    written(tmp_path / "new", path)
    assert sorted(each for each in reads if each != "/t") == ["/lat", "/lon", "/time"]


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f8", "<u2", "u1", "i8", "u8", "f8"])
def test_numbers_keep_type_and_bits(dtype: str, tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 255, (3, 2, 3, np.dtype(dtype).itemsize), dtype="u1")
    values = bits.reshape(3, 2, -1).view(dtype)
    path = grid(tmp_path / "a.nc", dtype=dtype, values=values.astype(values.dtype.newbyteorder("=")))
    written(tmp_path / "new", path)
    ours = stored(tmp_path / "new")["t"]
    assert ours.dtype == np.dtype(dtype).newbyteorder("=")
    assert ours.values.tobytes() == values.astype(ours.dtype).tobytes()


def test_packed_values_stay_packed(tmp_path: Path) -> None:
    packing = {"scale_factor": 0.01, "add_offset": 273.15, "_FillValue": np.int16(-32768)}
    values = np.array([-32768, 0, 1, 2, 3, 4] * 3, "i2").reshape(3, 2, 3)
    written(tmp_path / "new", grid(tmp_path / "a.nc", dtype="i2", values=values, attributes=packing))
    ours = stored(tmp_path / "new")["t"]
    assert ours.dtype == np.int16
    assert (ours.values == values).all()
    assert (ours.attrs["scale_factor"], ours.attrs["add_offset"], ours.attrs["_FillValue"]) == (0.01, 273.15, -32768)
    with ours_of(tmp_path / "new") as opened:
        assert np.isnan(opened["t"].values[:, 0, 0]).all()
    assert zarr.open_array(tmp_path / "new/cube.zarr/t").fill_value == -32768


def test_unsigned_fill_values_are_found(tmp_path: Path) -> None:
    values = np.full((3, 2, 3), -1, "i1")
    path = grid(tmp_path / "a.nc", dtype="i1", values=values, attributes={"_Unsigned": "true", "_FillValue": np.int8(-1)})
    written(tmp_path / "new", path)
    with ours_of(tmp_path / "new") as opened:
        assert np.isnan(opened["t"].values).all()


def test_text_of_every_kind_is_text(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("n", 3)
        file.createDimension("letters", 5)
        chars = file.createVariable("chars", "S1", ("n", "letters"))
        chars[:] = np.array([b"abc", b"", b"\xc3\xa9 x"], "S5").view("S1").reshape(3, 5)
        texts = file.createVariable("texts", str, ("n",))
        texts[:] = np.array(["Åland", "", "long " * 50], dtype=object)
        letter = file.createVariable("letter", "S1", ())
        letter[...] = "T"
    written(tmp_path / "new", path)
    ours = stored(tmp_path / "new")
    assert ours["chars"].values.tolist() == ["abc", "", "é x"]
    assert ours["chars"].dims == ("n",)
    assert ours["texts"].values.tolist() == ["Åland", "", "long " * 50]
    assert ours["letter"].values.item() == "T"


def test_labels_that_are_not_utf8_are_read_as_latin1(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", format="NETCDF3_CLASSIC")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("letters", 2)
        file.createVariable("place", "S1", ("letters",))[:] = np.array([b"\xe9", b"t"], "S1")
    said = written(tmp_path / "new", path)
    assert ["text-repaired", "the texts of 'place' are not UTF-8; they were read as Windows-1252"] in said["warnings"]
    assert stored(tmp_path / "new")["place"].values.item() == "ét"


def test_an_enumeration_becomes_flags(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        kind = file.createEnumType(np.uint8, "cloud_t", {"clear": 0, "cloudy": 1, "missing": 255})
        file.createVariable("cloud", kind, ("lat", "lon"))[:] = [[0, 1, 255], [1, 1, 0]]
    written(tmp_path / "new", path)
    ours = stored(tmp_path / "new")["cloud"]
    assert ours.values.tolist() == [[0, 1, 255], [1, 1, 0]]
    assert ours.attrs["flag_values"] == [0, 1, 255]
    assert ours.attrs["flag_meanings"] == "clear cloudy missing"


def test_types_that_no_cube_holds_are_left_out_or_refused_when_wanted(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with h5py.File(path, "a") as file:
        file.create_dataset("pairs", data=np.zeros(3, np.dtype([("a", "i4"), ("b", "f4")])))
        file.create_dataset("ragged", (2,), h5py.vlen_dtype("f4"))
        file.create_dataset("pointers", (2,), h5py.ref_dtype)
    said = written(tmp_path / "new", path)
    left_out = {words.split()[0] for kind, words in said["warnings"] if kind == "variable-skipped"}
    assert left_out == {"pairs", "ragged", "pointers"}
    assert set(said["digests"]) == {"time", "lat", "lon", "t"}
    for name in left_out:
        with pytest.raises(SourceRejected, match=name) as refusal:
            written(tmp_path / name, path, variables=["t", name])
        assert refusal.value.reason == "not-a-cube"


def test_zarr_arrays_without_dimensions_are_no_cube(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "a.zarr").create_array("t", shape=(4,), dtype="f4")
    with pytest.raises(SourceRejected, match="do not name their dimensions") as refusal:
        written(tmp_path / "new", tmp_path / "a.zarr")
    assert refusal.value.reason == "not-a-cube"


def test_attributes_that_json_cannot_hold_are_told(tmp_path: Path) -> None:
    attributes = {"missing_value": np.float32(np.nan), "valid_range": np.array([0, np.inf]), "n": np.int16(4), "s": np.float32(0.1)}
    said = written(tmp_path / "new", grid(tmp_path / "a.nc", attributes=attributes), attributes={"title": "ours", "note": "x"})
    ours = stored(tmp_path / "new")
    assert ours["t"].attrs["valid_range"] == [0.0, "Infinity"]
    assert np.isnan(ours["t"].attrs["_FillValue"])
    assert ours["t"].attrs["n"] == 4
    assert ours["t"].attrs["s"] == float(np.float32(0.1))
    assert "missing_value" not in ours["t"].attrs
    assert (ours.attrs["title"], ours.attrs["note"]) == ("ours", "x")
    assert [kind for kind, _ in said["warnings"]] == ["attribute-as-text"]
    assert b"NaN" not in tree(tmp_path / "new")["cube.zarr/t/zarr.json"].replace(b'"fill_value":"NaN"', b"")


def test_dimensions_without_scales_get_names(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
            file.create_dataset(name, data=np.arange(6.0).reshape(2, 3)).attrs["units"] = units
        file.create_dataset("t", data=np.arange(24.0).reshape(2, 3, 4)).attrs["coordinates"] = "lat lon"
    written(tmp_path / "new", path)
    ours = stored(tmp_path / "new")
    assert ours["t"].dims == ("phony_dim_0", "phony_dim_1", "phony_dim_2")
    assert ours["lat"].dims == ("phony_dim_0", "phony_dim_1")
    assert ours["t"].values.ravel().tolist() == list(range(24))


def test_a_root_without_data_names_its_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    inner = grid(tmp_path / "inner.nc")
    with netCDF4.Dataset(path, "w") as file, xr.open_dataset(inner, decode_cf=False) as opened:
        file.createGroup("surface")
        deep = file.createGroup("model/level")
        for name, size in opened.sizes.items():
            deep.createDimension(name, size)
        for name, variable in opened.variables.items():
            deep.createVariable(name, variable.dtype, variable.dims)[:] = variable.values
            deep[name].setncatts({k: v for k, v in variable.attrs.items() if k != "_FillValue"})
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "a", path)
    assert (refusal.value.reason, refusal.value.members["groups"]) == ("not-a-cube", ["model/level"])
    assert refusal.value.next_step is not None
    assert "model/level" in refusal.value.next_step
    written(tmp_path / "b", path, group="model/level")
    for group in ("model", "nope"):
        with pytest.raises(SourceRejected, match=f"has no group '{group}'") as absent:
            written(tmp_path / group, path, group=group)
        assert (absent.value.reason, absent.value.members["groups"]) == ("not-a-cube", ["model/level"])
    with xr.open_dataset(inner, decode_cf=False) as opened:
        assert (stored(tmp_path / "b")["t"].values == opened["t"].values).all()


@pytest.mark.parametrize("name", ["c", "__t", "a b", "é", "t" * 129])
def test_names_that_cannot_be_keys_are_refused_with_the_cure(name: str, tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.renameVariable("t", name)
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "new", path)
    assert refusal.value.reason == "bad-text"
    assert refusal.value.next_step is not None
    assert "rename" in refusal.value.next_step


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("T", "f4", ("lat", "lon"))[:] = 0
    with pytest.raises(SourceRejected, match="case") as refusal:
        written(tmp_path / "new", path)
    assert refusal.value.reason == "bad-text"


def test_chosen_variables_bring_what_they_refer_to(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", bounds=True, attributes={"coordinates": "height", "grid_mapping": "crs"})
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("height", "f8", ())[...] = 2
        file.createVariable("crs", "i4", ()).grid_mapping_name = "latitude_longitude"
        file.createVariable("other", "f4", ("lat", "lon"))[:] = 1
    said = written(tmp_path / "new", path, variables=["t"])
    assert set(said["digests"]) == {"t", "time", "time_bnds", "lat", "lon", "height", "crs"}
    with pytest.raises(VariablesMismatch, match="nothere"):
        written(tmp_path / "other", path, variables=["t", "nothere"])


def test_a_window_is_what_isel_gives(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", days=range(10), lat=np.arange(-80.0, 81, 20), lon=np.arange(0.0, 360, 30), bounds=True)
    # A day is where its bounds begin: the label of 3 January ends at 3 January here.
    window = {**WINDOW, "bbox": (35, -35, 95, 45), "start": "2000-01-03", "end": "2000-01-05"}
    written(tmp_path / "new", path, window=window)
    with source_of(path, **RAW) as theirs:
        expected = theirs.isel(time=slice(3, 6), lat=slice(2, 7), lon=slice(1, 4)).load()
    ours = stored(tmp_path / "new")
    for name in expected.variables:
        assert (ours[name].values == expected[name].values).all(), name


@pytest.mark.parametrize(
    ("window", "error"),
    [
        ({"bbox": (0, 60, 10, 70)}, AreaOutsideSource),
        ({"start": "2001-01-01", "end": "2001-01-02"}, NoData),
    ],
)
def test_a_window_without_data_is_refused(window: dict[str, Any], error: type[CubeportError], tmp_path: Path) -> None:
    with pytest.raises(error):
        written(tmp_path / "new", grid(tmp_path / "a.nc"), window={**WINDOW, **window})


def test_chunks_are_those_that_were_asked_for(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", days=range(10))
    written(tmp_path / "new", path, chunks={"time": 4, "lat": 1})
    array = zarr.open_array(tmp_path / "new/cube.zarr/t")
    assert array.chunks[:2] == (4, 1)
    with source_of(path, **RAW) as theirs:
        assert (array[...] == theirs["t"].values).all()
    with pytest.raises(InvalidTemplate):
        written(tmp_path / "other", path, chunks={"depth": 4})


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", days=range(50))
    said = [written(tmp_path / name, path, chunks={"time": 7}) for name in ("one", "two")]
    assert said[0] == said[1]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_chunks_that_hold_nothing_need_no_file(tmp_path: Path) -> None:
    values = np.full((4, 2, 3), np.nan, "f4")
    values[2] = 1
    written(tmp_path / "new", grid(tmp_path / "a.nc", days=range(4), values=values), chunks={"time": 1})
    assert [key for key in tree(tmp_path / "new/cube.zarr/t") if key != "zarr.json"] == ["c/2/0/0"]
    assert np.array_equal(stored(tmp_path / "new")["t"].values, values, equal_nan=True)


def test_progress_counts_bytes_and_half_is_passed_once(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", days=range(200))
    (tmp_path / "new").mkdir()
    request = {"target": str(tmp_path / "new"), "window": WINDOW, "variables": None, "attributes": {}}
    with desk([path]) as context:
        write({**request, "chunks": {"time": 10}, "append_dim": None, "group": None}, context)
        assert context.points == ["bytes:half"]
        assert context.declared == 200 * 6 * 4 + (200 + 2 + 3) * 8
        assert context.told[0] == ("checking", 0, 1)
        done = [each[1] for each in context.told if each[0] == "writing"]
        assert done == sorted(done)
        assert {each[2] for each in context.told[1:]} == {context.declared}
        assert done[-1] >= 0.98 * context.declared


def test_the_source_is_named_with_its_digest(tmp_path: Path) -> None:
    import hashlib

    path = grid(tmp_path / "a.nc")
    (said,) = written(tmp_path / "new", path)["sources"]
    assert said["name"] == "a.nc"
    assert said["size_bytes"] == path.stat().st_size
    assert said["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_zarr_sources_of_both_versions(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", dtype="i2", attributes={"_FillValue": np.int16(-1), "scale_factor": 0.5})
    with xr.open_dataset(path) as opened:
        for version in (2, 3):
            opened.to_zarr(tmp_path / f"{version}.zarr", zarr_format=version, consolidated=version == 2)  # type: ignore[arg-type]
            written(tmp_path / f"new{version}", tmp_path / f"{version}.zarr")
            with ours_of(tmp_path / f"new{version}") as ours:
                xr.testing.assert_identical(ours.load(), opened.load())


@pytest.mark.parametrize(
    "how",
    [
        {"zarr_format": 2, "order": "F"},
        {"zarr_format": 2, "dtype": ">f4"},
        {"zarr_format": 2, "filters": [numcodecs.Delta(dtype="<f4")]},
        {"zarr_format": 2, "compressors": numcodecs.Blosc()},
        {"zarr_format": 3, "shards": (8, 6)},
        {"zarr_format": 3, "compressors": [zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()]},
        {"zarr_format": 3, "filters": [zarr.codecs.TransposeCodec(order=(1, 0))], "compressors": [zarr.codecs.GzipCodec()]},
    ],
    ids=("order", "big-endian", "delta", "blosc", "shards", "crc32c", "transpose"),
)
def test_zarr_arrays_of_every_make_come_out_equal(how: dict[str, Any], tmp_path: Path) -> None:
    how = dict(how)
    version = how.pop("zarr_format")
    values = np.arange(13 * 9, dtype="f4").reshape(13, 9) * 1.1
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=version)
    for name, data, units in (("lat", np.arange(1.0, 14), "degrees_north"), ("lon", np.arange(1.0, 10), "degrees_east")):
        # From one: version 2 has a fill value of 0 by default, and xarray reads that as missing.
        named = {"dimension_names": [name]} if version == 3 else {"attributes": {"_ARRAY_DIMENSIONS": [name]}}
        group.create_array(name, data=data, **named).attrs["units"] = units
    named = {"dimension_names": ["lat", "lon"]} if version == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["lat", "lon"]}}
    array = group.create_array(
        "t", shape=values.shape, dtype=how.pop("dtype", "f4"), chunks=(4, 3), fill_value=np.nan, **how, **named
    )
    array[...] = values
    written(tmp_path / "new", tmp_path / "a.zarr")
    ours = stored(tmp_path / "new")["t"]
    assert ours.dtype == np.float32
    assert ours.values.tobytes() == values.astype("f4").tobytes()


@st.composite
def fields(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], Any, bool]:
    dtype = np.dtype(draw(st.sampled_from(["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<i8", "<f4", ">f4", "<f8", ">f8"])))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = draw(hnp.arrays(dtype, shape))
    fill = draw(st.none() | hnp.from_dtype(dtype))
    return values, fill, draw(st.booleans())


@settings(max_examples=40, deadline=None)
@given(fields(), st.integers(1, 4))
def test_whatever_the_numbers_are_their_bits_stay(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[np.ndarray[Any, Any], Any, bool], length: int
) -> None:
    values, fill, compressed = made
    folder = tmp_path_factory.mktemp("any")
    with h5netcdf.File(folder / "a.nc", "w") as file:
        for name, size, units in (("lat", values.shape[0], "degrees_north"), ("lon", values.shape[1], "degrees_east")):
            file.dimensions[name] = size
            axis = file.create_variable(name, (name,), "f8", data=np.arange(size, dtype="f8"))
            axis.attrs["units"] = units
        how = {"compression": "gzip", "shuffle": True, "chunks": (1, values.shape[1])} if compressed else {}
        file.create_variable("t", ("lat", "lon"), values.dtype, data=values, fillvalue=fill, **how)
    written(folder / "new", folder / "a.nc", chunks={"lat": length})
    ours = stored(folder / "new")["t"]
    assert ours.values.tobytes() == values.astype(values.dtype.newbyteorder("=")).tobytes()
    with source_of(folder / "a.nc") as theirs, ours_of(folder / "new") as opened:
        assert same_values(theirs["t"].values, opened["t"].values)


# --- several files ---------------------------------------------------------------------------------------------------


def test_files_are_joined_by_time_and_not_by_name(tmp_path: Path) -> None:
    late, early = grid(tmp_path / "a.nc", days=(10, 11)), grid(tmp_path / "b.nc", days=(1, 2, 3))
    written(tmp_path / "new", late, early, chunks={"time": 2})
    ours = stored(tmp_path / "new")
    assert ours["time"].values.tolist() == [1, 2, 3, 10, 11]
    with source_of(early, **RAW) as first, source_of(late, **RAW) as second:
        assert (ours["t"].values == np.concatenate([first["t"].values, second["t"].values])).all()


def test_other_reference_dates_are_reckoned_exactly(tmp_path: Path) -> None:
    first = grid(tmp_path / "a.nc", days=(0, 1), bounds=True)
    second = grid(tmp_path / "b.nc", days=(0, 1), units="days since 2000-01-03 12:00", bounds=True)
    written(tmp_path / "new", first, second)
    ours = stored(tmp_path / "new")
    assert ours["time"].values.tolist() == [0, 1, 2.5, 3.5]
    assert ours["time"].attrs["units"] == "days since 2000-01-01"
    assert ours["time_bnds"].values.tolist() == [[-1, 0], [0, 1], [1.5, 2.5], [2.5, 3.5]]


@pytest.mark.parametrize("times", ["f8", "i4"])
def test_other_units_of_time_are_the_same_moments(times: str, tmp_path: Path) -> None:
    first = grid(tmp_path / "a.nc", days=(0, 1), times=times)
    second = grid(tmp_path / "b.nc", days=(2880, 4320), units="minutes since 2000-01-01", times=times)
    third = grid(tmp_path / "c.nc", days=(24, 25), units="hours since 2000-01-04", times="f8" if times == "f8" else "i4")
    files = (first, second) if times == "i4" else (first, second, third)
    written(tmp_path / "new", *files)
    with xr.open_zarr(tmp_path / "new" / "cube.zarr", chunks=None, consolidated=False) as ours:
        expected = ["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04", "2000-01-05", "2000-01-05T01"][
            : 4 if times == "i4" else 6
        ]
        assert (ours["time"].values.astype("datetime64[us]") == np.array(expected, "datetime64[us]")).all()
    assert stored(tmp_path / "new")["time"].attrs["units"] == "days since 2000-01-01"


@pytest.mark.parametrize(
    "second",
    [
        {"days": (0, 1), "units": "days since 2000-01-03 12:00", "times": "i4"},  # half a day is not an integer
        {"days": (2**31 - 1, 2**31 - 1), "units": "days since 2000-01-03", "times": "i4"},  # overflows
        {"days": (0, 1), "units": "days since 2000-01-03 08:00"},  # a third of a day is not a double
        {"days": (240, 250), "units": "hours since 2000-01-01", "times": "i4"},  # ten hours are not a number of days
    ],
)
def test_times_that_cannot_be_reckoned_exactly_are_refused(second: dict[str, Any], tmp_path: Path) -> None:
    times = second.get("times", "f8")
    files = grid(tmp_path / "a.nc", days=(0, 1), times=times), grid(tmp_path / "b.nc", **second)
    with pytest.raises(UnitsMismatch):
        written(tmp_path / "new", *files)


Change = Callable[[Path], Path]


def without(name: str) -> Change:
    def make(path: Path) -> Path:
        grid(tmp := path.with_suffix(".tmp"), days=(5, 6))
        with xr.open_dataset(tmp, decode_cf=False) as opened:
            opened.drop_vars(name).to_netcdf(path)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (without("lat"), VariablesMismatch, "'lat' is missing"),
        (lambda path: grid(path, days=(5, 6), dtype="i4"), DtypeMismatch, "int32"),
        (lambda path: grid(path, days=(5, 6), calendar="360_day"), CalendarMismatch, "360_day"),
        (lambda path: grid(path, days=(5, 6), attributes={"units": "degC"}), UnitsMismatch, "degC"),
        (lambda path: grid(path, days=(5, 6), lat=(10.0, 20.001)), GridMismatch, "index 1"),
        (lambda path: grid(path, days=(5, 6), lat=(10.0, 20.0, 30.0)), GridMismatch, "shape"),
    ],
)
def test_files_that_do_not_belong_together_are_named(make: Change, error: type[CubeportError], words: str, tmp_path: Path) -> None:
    good = grid(tmp_path / "a.nc", days=(0, 1)), grid(tmp_path / "b.nc", days=(2, 3))
    bad = make(tmp_path / "c.nc")
    with pytest.raises(error, match=words) as mismatch:
        written(tmp_path / "new", *good, bad)
    assert {problem.loc[1] for problem in mismatch.value.errors} == {"c.nc"}
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("units", ["kelvin", " K ", "K"])
def test_aliases_of_units_and_grids_within_a_millionth_pass(units: str, tmp_path: Path) -> None:
    files = grid(tmp_path / "a.nc"), grid(tmp_path / "b.nc", days=(5, 6), attributes={"units": units}, lat=(10.0, 20.0000000001))
    written(tmp_path / "new", *files)
    assert stored(tmp_path / "new")["t"].attrs["units"] == "K"


def test_standard_and_proleptic_are_one_calendar_today_only(tmp_path: Path) -> None:
    today = grid(tmp_path / "a.nc"), grid(tmp_path / "b.nc", days=(5, 6), calendar="proleptic_gregorian")
    written(tmp_path / "new", *today)
    old = {"units": "days since 1000-01-01"}
    with pytest.raises(CalendarMismatch) as caught:
        written(
            tmp_path / "old",
            grid(tmp_path / "c.nc", **old),
            grid(tmp_path / "d.nc", days=(5,), calendar="proleptic_gregorian", **old),
        )
    assert "--each" in caught.value.next_step


@pytest.mark.parametrize("days", [(2, 3), (0, 5), (1,)])
def test_times_that_meet_or_overlap_are_refused(days: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "new", grid(tmp_path / "a.nc"), grid(tmp_path / "b.nc", days=days))
    assert refusal.value.reason == "bad-time"


@pytest.mark.parametrize(
    ("on_overlap", "which", "expected"),
    [("replace", "last", [0, 1, 102, 103, 204, 205, 206, 7]), ("skip", "first", [0, 1, 2, 3, 4, 5, 6, 7])],
)
def test_steps_of_several_files_are_the_first_files_or_the_last_ones(
    on_overlap: str, which: str, expected: list[int], tmp_path: Path
) -> None:
    """Runs of a model: each begins later, and the first one is the longest."""

    def run(name: str, days: range, add: float) -> Path:
        values = np.stack([np.full((2, 3), day + add, "f4") for day in days])
        return grid(tmp_path / name, days=tuple(days), values=values)

    paths = run("c.nc", range(4, 7), 200), run("a.nc", range(8), 0), run("b.nc", range(2, 5), 100)
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "refused", *paths)
    assert f"--on-overlap {on_overlap}" in str(refusal.value.next_step)
    said = written(tmp_path / "new", *paths, on_overlap=on_overlap)
    with ours_of(tmp_path / "new") as opened:
        assert opened["t"][:, 0, 0].values.tolist() == expected
        assert opened.sizes["time"] == 8
    told = f"6 steps along 'time' are in several files; the file that begins {which} counts"
    assert ["overlap", told] in said["warnings"]


def test_the_damaged_file_of_a_series_is_named(tmp_path: Path) -> None:
    files = []
    for day in range(3):
        path = tmp_path / f"{day}.nc"
        with h5netcdf.File(path, "w") as file:
            file.dimensions = {"time": 1, "lat": 40, "lon": 50}
            for name, values, units in (
                ("time", [day], "days since 2000-01-01"),
                ("lat", np.arange(40), "degrees_north"),
                ("lon", np.arange(50), "degrees_east"),
            ):
                file.create_variable(name, (name,), "f8", data=np.asarray(values, "f8")).attrs["units"] = units
            data = np.random.default_rng(day).normal(size=(1, 40, 50))
            file.create_variable("t", ("time", "lat", "lon"), "f8", data=data, chunks=(1, 40, 50), fletcher32=True)
        files.append(path)
    with h5py.File(files[1]) as file:
        where = file["t"].id.get_chunk_info(0).byte_offset
    body = bytearray(files[1].read_bytes())
    body[where + 100] ^= 1
    files[1].write_bytes(body)
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "new", *files)
    assert (refusal.value.reason, refusal.value.members["source"]) == ("bad-codec", "1.nc")


def test_files_that_only_mark_missing_differently_are_decoded(tmp_path: Path) -> None:
    one = np.array([-1, 2, 3, 4, 5, 6], "i2").reshape(1, 2, 3)
    two = np.array([-9, 2, 3, 4, 5, -1], "i2").reshape(1, 2, 3)
    files = [
        grid(tmp_path / f"{fill}.nc", days=(day,), dtype="i2", values=values, attributes={"_FillValue": np.int16(fill)})
        for day, fill, values in ((0, -1, one), (1, -9, two))
    ]
    said = written(tmp_path / "new", *files)
    assert [kind for kind, _ in said["warnings"]] == ["unpacked"]
    with ours_of(tmp_path / "new") as ours:
        assert np.array_equal(ours["t"].values.ravel(), [np.nan, 2, 3, 4, 5, 6, np.nan, 2, 3, 4, 5, -1], equal_nan=True)
        assert ours["t"].dtype == np.float32


def test_members_are_joined_along_another_dimension(tmp_path: Path) -> None:
    paths = []
    for member in (7, 3):
        with xr.open_dataset(grid(tmp_path / f"{member}.tmp"), decode_cf=False) as opened:
            path = tmp_path / f"{member}.nc"
            opened["t"] = opened["t"].expand_dims(member=[member]) + member
            opened.to_netcdf(path)
            paths.append(path)
    written(tmp_path / "new", *paths, append_dim="member")
    ours = stored(tmp_path / "new")
    assert ours["member"].values.tolist() == [3, 7]
    assert (ours["t"].values[1] - ours["t"].values[0] == 4).all()
    with pytest.raises(VariablesMismatch, match="depth"):
        written(tmp_path / "other", *paths, append_dim="depth")


def test_members_with_names_stay_in_the_order_given(tmp_path: Path) -> None:
    paths = []
    for member in ("r2", "r10", "r1"):
        with xr.open_dataset(grid(tmp_path / f"{member}.tmp"), decode_cf=False) as opened:
            opened["t"] = opened["t"].expand_dims(member=[member])
            opened.to_netcdf(tmp_path / f"{member}.nc")
            paths.append(tmp_path / f"{member}.nc")
    written(tmp_path / "new", *paths, append_dim="member")
    assert stored(tmp_path / "new")["member"].values.tolist() == ["r2", "r10", "r1"]


def test_attributes_of_the_order_are_held_to_the_same_rules(tmp_path: Path) -> None:
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "new", grid(tmp_path / "a.nc"), attributes={"title": "bell \a"})
    assert refusal.value.reason == "bad-text"


@pytest.mark.parametrize("form", ["hdf5", "zarr"])
def test_a_group_has_the_coordinates_of_the_groups_above_it(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("a.nc" if form == "hdf5" else "a.zarr")
    top = xr.Dataset(
        coords={
            "time": ("time", [0, 1], {"units": "days since 2020-01-01"}),
            "lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}),
            "other": ("other", [1.0]),
        }
    )
    inner = xr.Dataset(
        {"t": (("time", "lat", "lon"), np.arange(12.0).reshape(2, 2, 3), {"coordinates": "height", "grid_mapping": "/model/crs"})},
        coords={"lon": ("lon", [1.0, 2.0, 3.0], {"units": "degrees_east"})},
    )
    model = xr.Dataset({"height": ((), 2.0, {"units": "m"}), "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"})})
    for group, cube in ((None, top), ("model", model), ("model/run", inner)):
        if form == "hdf5":
            cube.to_netcdf(path, group=group, mode="a" if group else "w", engine="netcdf4")
        else:
            cube.to_zarr(path, group=group, mode="a", zarr_format=3, consolidated=False)
    written(tmp_path / "new", path, group="model/run")
    ours = stored(tmp_path / "new")
    assert set(ours.variables) == {"t", "time", "lat", "lon", "height", "crs"}
    assert ours["time"].attrs["units"] == "days since 2020-01-01"
    assert ours["t"].attrs["grid_mapping"] == "crs"
    assert ours["lat"].values.tolist() == [1.0, 2.0]


def test_chunks_that_were_never_written_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    cube = xr.Dataset(
        {"count": (("time", "lat"), np.arange(8, dtype="i4").reshape(4, 2))},
        {
            "time": ("time", [0, 1, 2, 3], {"units": "days since 2020-01-01"}),
            "lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}),
        },
    )
    cube.to_zarr(path, zarr_format=2, consolidated=False, encoding={"count": {"chunks": (1, 2)}})
    (path / "count" / "2.0").unlink()
    told = "1 of 4 chunks of 'count' were never written, and it has no fill value: readers get zeros there, which are not data"
    assert ["chunks-missing", told] in written(tmp_path / "new", path)["warnings"]


def test_a_time_of_plain_numbers_is_reported_with_the_step_that_reads_dates(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        time = file["time"]
        for key in time.ncattrs():
            time.delncattr(key)
        time[:] = [20100131, 20100228, 20100331][: len(time)]
    (told,) = [words for kind, words in written(tmp_path / "new", path)["warnings"] if kind == "undated-time"]
    repair = shlex.split(told.partition("ingest with ")[2])
    assert repair[0] == "--normalise"
    written(tmp_path / "cured", path, normalise=[strictyaml.parse(repair[1], "--normalise").value])
    assert [str(each)[:10] for each in ours_of(tmp_path / "cured")["time"].values] == ["2010-01-31", "2010-02-28", "2010-03-31"]
