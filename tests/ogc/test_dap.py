"""OPeNDAP over a real socket, read by libnetcdf's own client (netCDF4-python, xarray): values equal those of the source."""

from __future__ import annotations

import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr

from cubeport.documents import dap2

from ..families import FAMILIES
from .conftest import VERSION, Shelf
from .serving import Door

NAMES = sorted(name for name, family in FAMILIES.items() if family.suffix == ".nc")


def every_type(path: Path) -> None:
    """Write a file with a variable of each type, and names and texts that need escapes."""
    with netCDF4.Dataset(path, "w") as file:
        file.title = 'A "quoted" \\ text\nof two lines, é'
        file.createDimension("n", 5)
        file.createDimension("two@words", 3)
        file.createVariable("n", "f8", ("n",))[:] = np.arange(5.0)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
            limits = np.iinfo(kind) if kind[0] in "iu" else np.finfo(kind)
            low, high = (-(2**53), 2**53) if kind == "i8" else (0, 2**53) if kind == "u8" else (limits.min, limits.max)
            variable = file.createVariable(f"v_{kind}", kind, ("n",))
            variable.set_auto_maskandscale(False)
            variable[:] = np.array([low, 0, 1, 7, high]).astype(kind)
            file.createVariable(f"s_{kind}", kind, ())[...] = np.array(7, kind)
        signed = file.createVariable("signed", "i1", ("n",), fill_value=-1)
        signed.set_auto_maskandscale(False)
        signed._Unsigned = "true"
        signed[:] = np.array([-1, -2, 0, 1, 127], "i1")
        words = file.createVariable("words", str, ("n",))
        words[:] = np.array(["", "a", "two words", 'q"\\', "é" * 50], dtype=object)
        file.createVariable("odd+name.x", "f4", ("n", "two@words"))[:] = np.arange(15.0).reshape(5, 3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shelf, Path]:
    root = tmp_path_factory.mktemp("dap")
    folder = root / "files"
    folder.mkdir()
    shelf = Shelf(root / "data", folder)
    for name in NAMES:
        FAMILIES[name].write(folder, name)
        shelf.put(f"{name}.nc")
    every_type(folder / "types.nc")
    shelf.put("types.nc")
    return shelf, folder


@pytest.fixture(scope="module")
def door(stored: tuple[Shelf, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    found = Door(*stored, tmp_path_factory.mktemp("scratch"))
    yield found
    found.stop()


@pytest.mark.parametrize("name", NAMES)
def test_xarray_reads_the_values_of_the_source(door: Door, name: str) -> None:
    with (
        xr.open_dataset(door.folder / f"{name}.nc", decode_timedelta=False) as truth,
        xr.open_dataset(f"{door.url}/dap/{name}", engine="netcdf4", decode_timedelta=False) as found,
    ):
        assert set(found.variables) == set(truth.variables)
        assert found.t.dims == truth.t.dims
        for each in truth.variables:
            assert np.array_equal(found[each].values, truth[each].values, equal_nan=truth[each].dtype.kind == "f"), each
        assert found.t.attrs == truth.t.attrs
        part = {dimension: slice(1, None, 2) for dimension in truth.t.dims}
        assert np.array_equal(found.t.isel(part).values, truth.t.isel(part).values, equal_nan=True)


def test_every_type_goes_out_without_loss(door: Door) -> None:
    with netCDF4.Dataset(f"{door.url}/dap/types") as found, netCDF4.Dataset(door.folder / "types.nc") as truth:
        for name, variable in truth.variables.items():
            other = found[name.replace("+", "%2B").replace(".", "%2E")]  # libnetcdf leaves names of variables escaped
            for each in (variable, other):
                each.set_auto_maskandscale(False)
            if name == "words":
                texts = [b"".join(row.tolist()).rstrip(b"\0").decode() for row in np.ma.filled(other[:], b"")]
                assert texts == variable[:].tolist()
            elif name == "signed":
                assert other[:].tolist() == [255, 254, 0, 1, 127]
                assert other._FillValue == 255
            else:
                mine, theirs = np.asarray(other[...]), np.asarray(variable[...])
                assert mine.tolist() == theirs.tolist(), (name, mine.dtype, theirs.dtype)
        assert found.title == truth.title


def test_times_in_nanoseconds_are_served_where_double_precision_has_them(stored: tuple[Shelf, Path], door: Door) -> None:
    """As whole numbers they are far above 2^53, but days of nanoseconds end with 16 zero bits. netCDF-C opens all or nothing."""
    shelf, folder = stored
    days = np.array([18262, 18263, 18264]) * 86_400 * 10**9
    for name, times in (("exact", days), ("odd", days + 1)):
        with netCDF4.Dataset(folder / f"{name}.nc", "w") as file:
            file.createDimension("time", 3)
            time = file.createVariable("time", "i8", ("time",))
            time.units = "nanoseconds since 1970-01-01"
            time[:] = times
            file.createVariable("v", "f4", ("time",))[:] = [1, 2, 3]
        shelf.put(f"{name}.nc")
    assert door.get("exact.dods?time").content[-24:] == days.astype(">f8").tobytes()
    assert door.get("odd.dods?time").status_code == 400


def test_whole_numbers_that_no_type_holds_are_left_out(stored: tuple[Shelf, Path], door: Door) -> None:
    """netCDF-C asks for all small variables at once: if one were refused, it could read none."""
    shelf, folder = stored
    with netCDF4.Dataset(folder / "large.nc", "w") as file:
        file.createDimension("n", 2)
        file.createVariable("n", "f8", ("n",))[:] = np.arange(2.0)
        file.createVariable("large", "i8", ("n",))[:] = np.array([2**60 + 1, 1])
    shelf.put("large.nc")
    answer = door.get("large.dods?large")
    assert answer.status_code == 400
    assert "'large', which is not here: it has whole numbers beyond 2^53" in answer.text
    assert "2^53" in door.get("large.info").text
    with netCDF4.Dataset(f"{door.url}/dap/large") as read:
        assert list(read.variables) == ["n"]
        assert read.not_in_dap2 == "large: it has whole numbers beyond 2^53, and no type of DAP2 holds them"
        assert read["n"][:].tolist() == [0.0, 1.0]


def test_missing_values_of_64_bits_are_missing_to_a_client(stored: tuple[Shelf, Path], door: Door) -> None:
    """What NetCDF fills with is far above 2^53; Float64 has its neighbour, in the values as in their ``_FillValue``."""
    shelf, folder = stored
    with netCDF4.Dataset(folder / "filled.nc", "w") as file:
        file.createDimension("n", 3)
        file.createVariable("n", "f8", ("n",))[:] = np.arange(3.0)
        fill = netCDF4.default_fillvals["i8"]
        file.createVariable("counts", "i8", ("n",), fill_value=fill)[:] = np.ma.masked_equal([1, fill, 3], fill)
    shelf.put("filled.nc")
    with netCDF4.Dataset(f"{door.url}/dap/filled") as read:
        assert read["counts"][:].tolist() == [1.0, None, 3.0]


def test_strides_members_and_projections(door: Door) -> None:
    truth = FAMILIES["regular"].make()
    text = door.get("regular.dds?" + urllib.parse.quote("t[0:2:2][1][0:3],t.lat[2:4],lon[3]")).text
    assert "Float32 t[time = 2][lat = 1][lon = 4];" in text
    assert "Structure {\n        Float64 lat[lat = 3];\n    } t;" in text
    assert "Float64 lon[lon = 1];" in text
    values = door.get("regular.dods?t.t%5B0:2:2%5D%5B1%5D%5B0:3%5D").content
    body = values.split(b"\nData:\n", 1)[1]
    assert body[:8] == (8).to_bytes(4, "big") * 2
    assert np.frombuffer(body[8:], ">f4").tolist() == truth.t.values[0:3:2, 1, 0:4].ravel().tolist()
    rows = door.get("regular.ascii?t.t[1][0:1][2:3]").text
    assert "t.t[1][2][2]\n[0][0], 102.0, 103.0\n[0][1], 112.0, 113.0\n" in rows


@pytest.mark.parametrize(
    "constraint",
    ["nix", "t[0]", "t[0][0][9]", "t[2:1][0][0]", "t[0:0:2][0][0]", "t[a][0][0]", "t[0][0][0", "t.nix", "lat.lat", "t&lat>3",
     "f(t)",
     "t[0][0][0].lat", "t,,lat", "t[-1][0][0]", "t[99999999999999999999][0][0]"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["dds", "dods", "ascii"])
def test_what_is_not_a_constraint_is_told_in_the_form_of_dap(door: Door, constraint: str, form: str) -> None:
    answer = door.get(f"regular.{form}?{urllib.parse.quote(constraint)}")
    assert (answer.status_code, answer.headers["content-description"]) == (400, "dods_error")
    assert answer.text.startswith('Error {\n    code = 400;\n    message = "The constraint ')


@pytest.mark.parametrize("name", ["odd%2Bname.x", "odd%2Bname%2Ex", "odd%252Bname%252Ex"])
def test_a_name_with_a_dot_is_found_as_each_client_sends_it(door: Door, name: str) -> None:
    """pydap and browsers send the dot, netCDF-C sends it escaped."""
    assert "Float32 odd%2Bname%2Ex[n = 1][two@words = 2];".replace("@", "%40") in door.get(f"types.dds?{name}[1][0:1]").text
    assert "7.0" in door.get(f"types.ascii?{name}[2][1]").text


def test_a_name_with_a_dot_can_be_that_of_a_grid() -> None:
    axes = [dap2.Variable(each, "f8", (each,), (3,), {}) for each in ("x", "b")]
    grids = dap2.grids([*axes, *(dap2.Variable(each, "f4", ("b", "x"), (3, 3), {}) for each in ("a", "a.b", "a.b.c"))])
    dataset = dap2.Dataset("odd", grids, {})
    for text, name, members in (
        ("a.b[0][1]", "a.b", ["a.b", "b", "x"]),
        ("a.b.a.b[0][1]", "a.b", ["a.b"]),
        ("a.b.b[0]", "a.b", ["b"]),
        ("a.x", "a", ["x"]),
        ("a.b.c.a.b.c", "a.b.c", ["a.b.c"]),
        ("a.b.c,a.b.c", "a.b.c", ["a.b.c", "b", "x"]),
    ):
        [part] = dap2.constrained(dataset, text)
        assert (part.variable.name, [each.name for each, _ in part.members]) == (name, members), text


def test_what_is_not_there_is_told_in_the_form_of_dap(door: Door) -> None:
    answer = door.get("nix.dds")
    assert (answer.status_code, answer.text.startswith("Error {")) == (404, True)
    with pytest.raises(OSError, match=r"file not found|DAP|NetCDF"):
        netCDF4.Dataset(f"{door.url}/dap/nix")


def test_answers_are_conditional_and_pinned_ones_immutable(door: Door) -> None:
    for form in ("dds", "das", "dods", "ascii", "info"):
        for name in ("regular", f"regular@{VERSION}"):
            answer = door.get(f"{name}.{form}?lat" if form in ("dods", "ascii") else f"{name}.{form}")
            assert answer.status_code == 200, answer.text
            assert answer.headers["cubeport-version"] == VERSION
            assert ("immutable" in answer.headers["cache-control"]) is ("@" in name and form != "info")
            again = httpx.get(str(answer.url), headers={"if-none-match": answer.headers["etag"]}, trust_env=False)
            assert (again.status_code, again.content) == (304, b"")
            head = httpx.head(str(answer.url), headers={"accept-encoding": "identity"}, trust_env=False)
            assert (head.status_code, head.headers["etag"].replace("-gz", "")) == (200, answer.headers["etag"].replace("-gz", ""))
    whole = door.get("regular.dods")
    assert int(whole.headers["content-length"]) == len(whole.content)


def test_a_dataset_without_grids_is_pinned_by_its_name(door: Door) -> None:
    with netCDF4.Dataset(f"{door.url}/dap/unstructured@{VERSION}") as found:
        assert found["t"].dimensions == ("time", "cell")


def test_what_is_too_large_is_refused_before_anything_is_read(stored: tuple[Shelf, Path], tmp_path: Path) -> None:
    small = Door(*stored, tmp_path, binary_cells=20, csv_cells=5)
    try:
        for path, setting in (("regular.dods?t", "20"), ("regular.ascii?lat", "5")):
            before = len(stored[0].engine.reads)
            answer = small.get(path)
            assert (answer.status_code, f"the limit is {setting}" in answer.text) == (413, True), answer.text
            assert not [each for each in stored[0].engine.reads[before:] if "/c/" in each]
        assert small.get("regular.dods?t[0][0][0:3]").status_code == 200
    finally:
        small.stop()


def test_a_long_answer_is_sent_block_by_block(stored: tuple[Shelf, Path], door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from cubeport.service import slabs

    whole = door.get("regular.dods").content
    monkeypatch.setattr(slabs, "_BLOCK", 64)
    assert door.get("regular.dods").content == whole


def test_ferret_matlab_and_idl_find_the_version_of_the_protocol(door: Door) -> None:
    answer = door.get("regular.ver")
    assert answer.text.startswith("Core version: dods/2.0")
    info = door.get("regular")
    assert info.headers["content-type"].startswith("text/html")
    assert "Float32 t[time = 3][lat = 6][lon = 8]" in info.text
    assert '<link rel="stylesheet" href="/assets/cubeport.css">' in info.text, "it looks like every other page"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "<script" not in info.text
