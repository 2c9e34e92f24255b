"""ERDDAP's griddap over a real socket: erddapy builds the addresses and reads the answers; values equal those of the source."""

from __future__ import annotations

import html
import io
import json
import re
import urllib.parse
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import erddapy.erddapy
import httpx
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr

from ..families import FAMILIES
from .serving import Door
from .test_dap import stored  # noqa: F401  # the same files, behind another face

NAMES = sorted(name for name, family in FAMILIES.items() if family.suffix == ".nc")
EPOCH = np.datetime64("1970-01-01T00:00:00", "s")


@pytest.fixture(scope="module")
def door(stored: tuple[Any, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:  # noqa: F811
    shelf, folder = stored
    data = FAMILIES["regular"].make()
    data["t"][0, 1] = np.nan
    data.to_netcdf(folder / "gaps.nc")
    shelf.put("gaps.nc")
    FAMILIES["regular"].make().isel(lat=[2], lon=[3]).to_netcdf(folder / "one-cell.nc")
    FAMILIES["regular"].make().isel(lat=[2]).to_netcdf(folder / "one-row.nc")
    for name in ("one-cell", "one-row"):
        shelf.put(f"{name}.nc")
    found = Door(shelf, folder, tmp_path_factory.mktemp("scratch"))
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def known_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep erddapy from fetching its list of public servers."""
    monkeypatch.setattr(erddapy.erddapy, "servers", dict)


def ask(door: Door, path: str, query: str = "", **options: Any) -> httpx.Response:
    address = f"{door.url}/griddap/{path}" + (f"?{urllib.parse.quote(query, safe='&=,:()')}" if query else "")
    return httpx.get(address, timeout=30, trust_env=False, **options)


def source(door: Door, name: str) -> xr.Dataset:
    return xr.open_dataset(door.folder / f"{name}.nc", decode_timedelta=False)


def client_of(door: Door, name: str, **settings: Any) -> erddapy.ERDDAP:
    client = erddapy.ERDDAP(server=door.url, protocol="griddap", **settings)
    client.dataset_id = name
    return client


@pytest.mark.parametrize("name", NAMES)
def test_erddapy_reads_every_value_as_table_and_as_netcdf(door: Door, name: str) -> None:
    client = client_of(door, name)
    with source(door, name) as truth:
        assert client.dim_names == list(truth.t.dims)
        client.variables = ["t"]
        for each in client.dim_names:  # erddapy begins with the last time alone
            client.constraints[f"{each}>="] = truth[each].values.min() if _labelled(truth, each) else 0
            client.constraints[f"{each}<="] = truth[each].values.max() if _labelled(truth, each) else truth.sizes[each] - 1
            if each == "time":
                for end, at in ((">=", 0), ("<=", -1)):
                    client.constraints[f"time{end}"] = str(_iso(truth.time.values[at]))
        frame = client.to_pandas()
        assert len(frame) == truth.t.size
        found = frame[next(column for column in frame.columns if column.split(" ")[0] == "t")].to_numpy()
        assert np.array_equal(found.astype(truth.t.dtype), truth.t.values.ravel(), equal_nan=True)
        for at, each in enumerate(client.dim_names):
            column = frame.iloc[:, at].to_numpy().reshape(truth.t.shape)
            labels = np.moveaxis(column, at, 0).reshape(truth.sizes[each], -1)[:, 0]
            expected = truth[each].values if _labelled(truth, each) else np.arange(truth.sizes[each])
            if each == "time":
                assert labels.tolist() == [_iso(label) for label in expected]
            elif expected.dtype.kind in "iuf":
                assert np.array_equal(labels.astype(expected.dtype), expected)
            else:
                assert labels.tolist() == expected.tolist()
        with client.to_xarray(decode_timedelta=False) as same:
            assert same.t.dims == truth.t.dims
            assert np.array_equal(same.t.values, truth.t.values, equal_nan=True)
            for each in truth.t.coords:
                if each in same.coords:
                    assert np.array_equal(same[each].values, truth[each].values), each


def _labelled(truth: xr.Dataset, dimension: Any) -> bool:
    return dimension in truth.coords


def _iso(label: Any) -> str:
    """Return a label of time as griddap writes it."""
    if isinstance(label, np.datetime64):
        return f"{label.astype('datetime64[s]')}Z"
    return f"{label.isoformat()}Z"


def test_erddapy_reads_by_opendap(door: Door) -> None:
    client = client_of(door, "regular", response="opendap")
    with source(door, "regular") as truth, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with client.to_xarray() as found:
            assert np.array_equal(found.t.values, truth.t.values)
            assert np.array_equal(found.time.values, truth.time.values)
            assert np.array_equal(found.t[1:, ::2, 3].values, truth.t[1:, ::2, 3].values)


def test_the_table_has_two_header_rows_and_the_forms_of_erddap(door: Door) -> None:
    query = "t[(2020-01-02)][(75):2:(last)][0:1]"
    assert ask(door, "regular.csv", query).text == (
        "time,lat,lon,t\nUTC,degrees_north,degrees_east,K\n"
        "2020-01-02T00:00:00Z,75.0,-157.5,100.0\n2020-01-02T00:00:00Z,75.0,-112.5,101.0\n"
        "2020-01-02T00:00:00Z,15.0,-157.5,120.0\n2020-01-02T00:00:00Z,15.0,-112.5,121.0\n"
        "2020-01-02T00:00:00Z,-45.0,-157.5,140.0\n2020-01-02T00:00:00Z,-45.0,-112.5,141.0\n"
    )
    assert ask(door, "regular.csvp", query).text.splitlines()[0] == "time (UTC),lat (degrees_north),lon (degrees_east),t (K)"
    assert ask(door, "regular.csv0", query).text.splitlines()[0] == "2020-01-02T00:00:00Z,75.0,-157.5,100.0"
    assert ask(door, "regular.json", "t[0][0][0:1]").json() == {
        "table": {
            "columnNames": ["time", "lat", "lon", "t"],
            "columnTypes": ["String", "double", "double", "float"],
            "columnUnits": ["UTC", "degrees_north", "degrees_east", "K"],
            "rows": [["2020-01-01T00:00:00Z", 75.0, -157.5, 0.0], ["2020-01-01T00:00:00Z", 75.0, -112.5, 1.0]],
        }
    }


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("[last][0][0]", [2, 0, 0]),
        ("[last-1][last][last-7]", [1, 5, 0]),
        ("[(last)][(last)][(last)]", [2, 5, 7]),
        ("[(last-86400)][(last-0)][(last-45)]", [1, 5, 6]),
        ("[(1577836800)][(74)][(-158)]", [0, 0, 0]),
        ("[(2020-01-02T12:00:01Z)][(0)][(0)]", [2, 2, 4]),  # of two equally near labels, the larger one
        ("[(2020-01-02T11:59:59Z)][(-89.9)][(179.9)]", [1, 5, 7]),
        ("[(2020-01-02T02:00:00+02:00)][0][0]", [1, 0, 0]),
    ],
)
def test_a_point_is_the_nearest_label(door: Door, constraint: str, expected: list[int]) -> None:
    with source(door, "regular") as truth:
        answer = ask(door, "regular.csv0", f"t{constraint}")
        assert answer.status_code == 200, answer.text
        *labels, value = answer.text.strip().split(",")
        time, row, column = expected
        assert float(value) == truth.t.values[time, row, column]
        assert [float(each) for each in labels[1:]] == [truth.lat.values[row], truth.lon.values[column]]


@pytest.mark.parametrize("name", ["regular", "south-up"])
def test_ranges_and_strides_are_those_of_xarray(door: Door, name: str) -> None:
    with source(door, name) as truth:
        for text, index in {
            "[0:2:2][1:3][0:3:last]": (slice(0, 3, 2), slice(1, 4), slice(0, None, 3)),
            "[][][]": (slice(None), slice(None), slice(None)),
            "": (slice(None), slice(None), slice(None)),
            "[1:1][(last):(last)][0]": (slice(1, 2), slice(-1, None), slice(0, 1)),
            f"[0][({truth.lat.values[3]}):({truth.lat.values[1]})][0]": (slice(0, 1), slice(1, 4), slice(0, 1)),
        }.items():
            part = truth.t[index]
            table = pd.read_csv(io.BytesIO(ask(door, f"{name}.csv", f"t{text}").content), skiprows=[1])
            assert np.array_equal(table.t.to_numpy("f4"), part.values.ravel()), text
            assert sorted(set(table.lat)) == sorted(part.lat.values.tolist())
            file = ask(door, f"{name}.nc", f"t{text}").content
            with xr.open_dataset(io.BytesIO(file), engine="h5netcdf") as found:
                assert np.array_equal(found.t.values, part.values)
                assert np.array_equal(found.time.values, part.time.values)


def test_longitudes_are_those_of_the_store(door: Door) -> None:
    with source(door, "from-0-to-360") as truth:
        rows = ask(door, "from-0-to-360.csv0", "t[0][0][(120):(last)]").text.splitlines()
        assert [float(each.split(",")[2]) for each in rows] == truth.lon.values[2:].tolist()
        assert ask(door, "from-0-to-360.csv0", "t[0][0][(-60)]").status_code == 404


def test_axes_alone(door: Door) -> None:
    assert ask(door, "regular.csv", "time").text == (
        "time\nUTC\n2020-01-01T00:00:00Z\n2020-01-02T00:00:00Z\n2020-01-03T00:00:00Z\n"
    )
    assert ask(door, "regular.csvp", "lat[(last)]").text == "lat (degrees_north)\n-75.0\n"
    rows = ask(door, "regular.csv0", "time[last],lat[0:1]").text.splitlines()
    assert rows == ["2020-01-03T00:00:00Z,75.0", ",45.0"]
    assert ask(door, "regular.csv0", "lat[0],lon[0:1]").text.splitlines() == ["75.0,-157.5", "NaN,-112.5"]
    with xr.open_dataset(io.BytesIO(ask(door, "regular.nc", "lat[0:2]").content), engine="h5netcdf") as found:
        assert found.lat.values.tolist() == [75.0, 45.0, 15.0]


def test_missing_values_are_nan_and_null(door: Door) -> None:
    with source(door, "gaps") as truth:
        expected = truth.t.values.ravel()
        assert np.isnan(expected).any()
        table = pd.read_csv(io.BytesIO(ask(door, "gaps.csv", "t").content), skiprows=[1])
        assert np.array_equal(table.t.to_numpy(expected.dtype), expected, equal_nan=True)
        assert b",NaN\n" in ask(door, "gaps.csv", "t").content
        rows = ask(door, "gaps.json", "t").json()["table"]["rows"]
        assert [row[-1] is None for row in rows] == np.isnan(expected).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_are_of_all_axes_and_fields(door: Door, name: str) -> None:
    with source(door, name) as truth:
        ncml = ET.fromstring(ask(door, f"{name}.ncml").content)
        space = "{https://www.unidata.ucar.edu/namespaces/netcdf/ncml-2.2}"
        lengths = {each.attrib["name"]: int(each.attrib["length"]) for each in ncml.findall(f"{space}dimension")}
        assert lengths == {str(each): truth.sizes[each] for each in truth.t.dims}
        info = httpx.get(f"{door.url}/info/{name}/index.json", trust_env=False).json()["table"]
        assert info["columnNames"] == ["Row Type", "Variable Name", "Attribute Name", "Data Type", "Value"]
        frame = pd.read_csv(io.BytesIO(httpx.get(f"{door.url}/info/{name}/index.csv", trust_env=False).content))
        assert frame[frame["Row Type"] == "variable"]["Variable Name"].tolist() == ["t"]
        ranges = frame[frame["Attribute Name"] == "actual_range"].set_index("Variable Name")["Value"]
        for each in truth.t.dims:
            if each != "time" and truth[each].dtype.kind in "iuf":
                low, high = map(float, ranges[each].split(","))
                assert (low, high) == (float(truth[each].min()), float(truth[each].max()))
        if "time" in truth.t.dims and truth.time.dtype.kind == "M":
            assert [float(each) for each in ranges["time"].split(",")] == [
                (truth.time.values[at].astype("datetime64[s]") - EPOCH).astype(float) for at in (0, -1)
            ]


def test_erddapy_finds_variables_by_attributes(door: Door) -> None:
    client = client_of(door, "regular")
    assert client.get_var_by_attr(standard_name="latitude") == ["lat"]
    assert client.get_var_by_attr(units="K") == ["t"]


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("nothing.csv", "t", 404, "Not Found: Currently unknown datasetID=nothing"),
        ("regular.csv", "u", 400, 'Unrecognized variable=\\"u\\". The variables are t.'),
        ("regular.csv", "t[0][0]", 400, "2 constraints in brackets; it has 3 axes: time, lat, lon"),
        ("regular.csv", "t[0][0][8]", 400, "It must be an integer between 0 and 7"),
        ("regular.csv", "t[0][0][-1]", 400, "It must be an integer between 0 and 7"),
        ("regular.csv", "t[0][0][last-8]", 400, "It must be an integer between 0 and 7"),
        ("regular.csv", "t[0][0][0:0:3]", 400, "Stride=0 is invalid"),
        ("regular.csv", "t[0][0][()]", 400, "The Start value inside () is missing"),
        ("regular.csv", "t[0][(100)][0]", 404, '[(100)]\\": Start=\\"100\\" is greater than the axis maximum=75'),
        ("regular.csv", "t[0][0][(-181)]", 404, "is less than the axis minimum=-157.5 (and even -180)"),
        ("regular.csv", "t[(2019)][0][0]", 404, "Your query produced no matching results"),
        ("regular.csv", "t[(yesterday)][0][0]", 400, "must be times of RFC 3339"),
        ("regular.csv", "t[0][0][0],t[0][0][0]", 400, "t is named twice"),
        ("regular.csv", "t[0][0][0", 400, "is not variable[constraint]"),
        ("regular.csv", "t[[0]][0][0]", 400, "is not variable[constraint]"),
        ("regular.csv", "t&lat>=3", 400, "filters with & are for tabledap"),
        ("regular.mat", "t", 400, "fileType=.mat isn't supported"),
        ("regular.png", "t[0:1][][]", 400, "a picture shows one value of time; the range has 2"),
        ("regular.png", "t[0][0:2:4][]", 400, "leave out the stride"),
        ("regular.png", "t[0][][]&.land=over", 400, "is not offered for pictures"),
        ("regular.png", "t[0][][]&.colorBar=KT_none", 400, "the palette"),
    ],
)  # fmt: skip
def test_errors_have_the_form_of_erddap(door: Door, path: str, query: str, status: int, said: str) -> None:
    answer = ask(door, path, query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert lines[:2] == ["Error {", f"    code={status};"]
    assert lines[3] == "}"
    assert said in lines[2], lines[2]
    json.loads(lines[2].partition("=")[2].rstrip(";"))


def test_erddapy_shows_the_error(door: Door) -> None:
    client = client_of(door, "regular")
    client.constraints["lat>="] = 100
    with pytest.raises(Exception, match="greater than the axis maximum=75"):
        client.to_pandas()


def test_what_is_too_large_is_413(stored: tuple[Any, Path], tmp_path: Path) -> None:  # noqa: F811
    small = Door(*stored, tmp_path, csv_cells=100)
    try:
        answer = ask(small, "regular.csv", "t")
        assert (answer.status_code, answer.text.splitlines()[1]) == (413, "    code=413;")
        assert ask(small, "regular.csv", "t[0:1]" + "[]" * 2).status_code == 200
    finally:
        small.stop()


def _pixels(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the palette indices (height, width) and the opacity of each index of a PNG."""
    chunks, at = {}, 8
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        chunks.setdefault(kind, b"")
        chunks[kind] += content[at + 8 : at + 8 + size]
        at += size + 12
    width, height = (int.from_bytes(chunks[b"IHDR"][each : each + 4]) for each in (0, 4))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), "u1").reshape(height, width + 1)
    assert set(rows[:, 0].tolist()) == {1}  # the filter Sub: each pixel less the one on its left
    rows = np.concatenate([rows[:, :1], np.cumsum(rows[:, 1:], axis=1, dtype="u1")], axis=1)
    return rows[:, 1:], np.frombuffer(chunks[b"tRNS"], "u1")


def test_a_picture_shows_the_cells_of_the_ranges(door: Door) -> None:
    with source(door, "regular") as truth:
        answer = ask(
            door, "regular.png", "t[(2020-01-02)][(-45):(45)][(-112.5):(112.5)]&.size=60|40&.colorBar=viridis|C|Linear|100|160"
        )
        assert answer.status_code == 200, answer.text
        pixels, _ = _pixels(answer.content)
        assert pixels.shape == (40, 60)
        shown = truth.t.isel(time=1).sel(lat=slice(45, -45), lon=slice(-112.5, 112.5)).values
        steps = np.kron(shown, np.ones((10, 10)))  # 4 × 6 cells of 10 × 10 pixels each
        classes = [pixels[steps == value] for value in np.unique(shown)]
        assert all((each == each[0]).all() for each in classes), "each cell has one colour"
        order = [int(each[0]) for each in classes]
        assert order == sorted(order)
        assert len(set(order)) == len(order), "and no two cells have the same"


def test_a_picture_without_a_query_is_all_of_the_newest_map(door: Door) -> None:
    for name in ("regular", "curvilinear", "unstructured", "projected", "rotated-pole", "one-cell", "one-row"):
        answer = ask(door, f"{name}.png")
        assert answer.status_code == 200, (name, answer.text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.MemoryFile(answer.content) as file, file.open() as opened:
                assert opened.read(1).any(), name
    assert ask(door, "curvilinear.png", "t[0][0:1][]").status_code == 400


def test_conditional_and_head(door: Door) -> None:
    for path in (
        "regular.csv?t[0][0][0]",
        "regular.nc?t[0][0][0]",
        "regular.png",
        "regular.ncml",
        "regular.dds",
        "regular.csv?time",
    ):
        first = httpx.get(f"{door.url}/griddap/{path}", trust_env=False)
        assert first.headers["cubeport-version"]
        same = httpx.get(f"{door.url}/griddap/{path}", headers={"If-None-Match": first.headers["etag"]}, trust_env=False)
        head = httpx.head(f"{door.url}/griddap/{path}", trust_env=False)
        assert (same.status_code, head.status_code, head.headers["etag"]) == (304, 200, first.headers["etag"])


def test_the_page_gives_an_address_that_answers(door: Door) -> None:
    text = ask(door, "regular.html").text
    address = html.unescape(re.search(r'One cell: <a href="([^"]+)"', text)[1])
    assert '<link rel="stylesheet" href="/assets/cubeport.css">' in text, "it looks like every other page"
    assert httpx.get(address, trust_env=False).text.splitlines()[2] == "2020-01-03T00:00:00Z,-75.0,157.5,257.0"
