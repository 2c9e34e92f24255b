"""What people do with a port: parts by both ways, tables, pictures, notebooks, other catalogs, awaiting, and work with a key."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import datetime as dt
import functools
import html
import http.server
import io
import json
import re
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import here, start, stop
from tests.pages import Follower

import cubeport
from cubeport.client import (
    AsyncDataset,
    AsyncPort,
    AsyncSelection,
    AsyncStacCatalog,
    AsyncStacDataset,
    Dataset,
    Port,
    Selection,
    StacCatalog,
    StacDataset,
)
from cubeport.client.dataset import _are_times
from cubeport.client.notebook import span
from cubeport.errors import DataConflict, InvalidRequest, NotACatalog, NotFound, SourceRejected, Unauthorized
from cubeport.service.ingestions import FileOptions, IngestionRequest

SQUARE = {"type": "Polygon", "coordinates": [[[170, -20], [200, -20], [200, 20], [170, 20], [170, -20]]]}
ZONES = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "properties": {"name": "A"}, "geometry": SQUARE}]}


def source(path: Path, *, offset: float = 0.0, start: str = "2020-01-01") -> Path:
    """Write four days on a grid over the antimeridian, with two levels."""
    values = np.arange(4 * 2 * 6 * 8, dtype="float32").reshape(4, 2, 6, 8) + np.float32(offset)
    xr.Dataset(
        {"sst": (("time", "depth", "lat", "lon"), values, {"units": "K", "long_name": "Temperature <of> the sea"})},
        coords={
            "time": ("time", np.arange(4), {"units": f"days since {start}"}),
            "depth": ("depth", [0.0, 10.0], {"units": "m", "positive": "down", "axis": "Z"}),
            "lat": ("lat", np.linspace(-25.0, 25.0, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(-175.0, 140.0, 8), {"units": "degrees_east"}),
        },
        attrs={"title": "Sea & air"},
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people") / "instance"
    assert here("init", root).returncode == 0
    file = source(root.parent / "sea.nc")
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="sea", tag="first"), FileOptions(files=(str(file),)))
        assert done.status == "completed", done.error
        service.put_zone_set("squares", ZONES)
    return root


@pytest.fixture(scope="module")
def key(root: Path) -> str:
    made = here("keys", "add", "ann", "--scope", "admin", "--instance", root, "--json")
    return str(json.loads(made.stdout)["key"])


@pytest.fixture(scope="module")
def url(root: Path, key: str) -> Iterator[str]:
    process, url = start(root)
    yield url
    stop(process)


@pytest.fixture(scope="module")
def port(url: str) -> Port:
    return cubeport.connect(url)


@pytest.fixture(scope="module")
def whole(root: Path) -> xr.Dataset:
    return xr.open_dataset(root.parent / "sea.nc", engine="h5netcdf").load()


class TestParts:
    @pytest.mark.parametrize(
        "asked",
        [
            {"time": "2020-01-02/2020-01-03", "box": (160, -12, -160, 12)},
            {"variables": "sst", "time": "2020-01-02", "level": 10.0},
            {"at": (-130.0, 5.0)},
            {"box": (-180, -30, 180, 30)},
            {"box": (185, -12, 230, 12)},
        ],
        ids=["over-180", "level", "place", "all", "beyond-180"],
    )
    def test_the_server_and_the_chunks_give_the_same_part(self, port: Port, url: str, asked: dict[str, Any]) -> None:
        part = port["sea"].select(**asked)
        by_server, by_zarr = part.load("server"), part.load("zarr")
        xr.testing.assert_equal(by_server, by_zarr)
        xr.testing.assert_equal(by_server, cubeport.open_stac(f"{url}/stac")["sea"].select(**asked))
        assert [by_server.lon.dtype] == [by_zarr.lon.dtype]
        assert by_server.sst.size == part.price()["cells"]

    def test_times_of_every_library_are_times_and_what_select_does_not_take_is_said(self, port: Port, url: str) -> None:
        data, day = port["sea"], np.datetime64("2020-01-02")
        times = (
            dt.datetime(2020, 1, 2, tzinfo=dt.UTC),
            dt.date(2020, 1, 2),
            np.datetime64("2020-01-02"),
            cftime.datetime(2020, 1, 2),
        )
        for time in (*times, slice(times[0], times[0])):
            assert data.select(time=time, at=(-130, 5)).load().time.values == day
        for wrong, told in (
            ({"time": ["2020-01-01", "2020-01-03"]}, "time='FROM/TO'"),
            ({"level": slice(0, 10)}, "level takes one label"),
            ({"level": [0, 10]}, "level takes one label"),
            ({"at": (0, 0), "method": "nearest"}, "leave it out"),
        ):
            with pytest.raises(InvalidRequest, match=told):
                data.select(**wrong)
        stac = cubeport.open_stac(f"{url}/stac")
        assert ["sea" in port, "nix" in port, "sea" in stac, "nix" in stac] == [True, False, True, False]

    def test_an_index_is_plotted_without_a_place(self, port: Port, root: Path, tmp_path: Path) -> None:
        time = ("time", [0, 31, 59], {"units": "days since 2020-01-01"})
        xr.Dataset({"nino": ("time", [0.1, 0.5, -0.3])}, {"time": time}).to_netcdf(tmp_path / "index.nc", engine="h5netcdf")
        with cubeport.connect(root) as service:
            request = IngestionRequest(dataset_id="index")
            assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "index.nc"),))).status == "completed"
        assert port["index"].plot().content.startswith(b"<svg")
        assert port["index"].select(time="2020-01/2020-02").plot().content.startswith(b"<svg")
        with pytest.raises(InvalidRequest, match="lon,lat"):
            port["sea"].plot()
        with cubeport.connect(root) as service:
            service.delete("index", purge=True)

    def test_a_box_that_hides_cells_is_for_the_server(self, port: Port, url: str, root: Path, tmp_path: Path) -> None:
        """The chunks of a curvilinear grid had values outside the box, which the server hides: which of the two came depended on
        the size of the part.
        """
        lon, lat = np.meshgrid(np.arange(0.0, 8), np.arange(40.0, 46))
        xr.Dataset(
            {"t": (("y", "x"), np.arange(48.0).reshape(6, 8))},
            {
                "lon": (("y", "x"), lon + 0.5 * (lat - 40), {"units": "degrees_east"}),
                "lat": (("y", "x"), lat, {"units": "degrees_north"}),
            },
        ).to_netcdf(tmp_path / "bent.nc", engine="h5netcdf")
        with cubeport.connect(root) as service:
            request = IngestionRequest(dataset_id="bent")
            assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "bent.nc"),))).status == "completed"
        part = port["bent"].select(box=(2, 41, 6, 44))
        assert part.price()["hides"] is True
        assert int(part.load().t.isnull().sum()) > 0
        other = cubeport.open_stac(f"{url}/stac")["bent"]
        np.testing.assert_array_equal(part.load().t, other.select(box=(2, 41, 6, 44)).t)
        np.testing.assert_array_equal(port["bent"].select(at=(4, 43)).load().t, other.select(at=(4, 43)).t)
        with pytest.raises(InvalidRequest, match="hides the cells outside"):
            part.load("zarr")
        with cubeport.connect(root) as service:
            service.delete("bent", purge=True)

    def test_a_part_is_saved_as_zarr_and_shown(self, port: Port, whole: xr.Dataset, tmp_path: Path) -> None:
        part = port["sea"].select(variables="sst", time="2020-01-02", level=10.0)
        saved = xr.open_zarr(part.save(tmp_path / "part.zarr"))
        np.testing.assert_array_equal(np.ravel(saved.sst), np.ravel(whole.sst[1, 1]))
        with pytest.raises(InvalidRequest, match="exists"):
            part.save(tmp_path / "part.zarr")
        with pytest.raises(InvalidRequest, match=r"\.zarr"):
            part.save(tmp_path / "part.txt")
        assert part.map().content[:4] == b"\x89PNG"
        assert "2020-01-02" in part.map().address
        with pytest.raises(InvalidRequest) as caught:
            port["sea"].select(time="2020-01-01/2020-01-02", level=10.0).map()
        assert caught.value.next_step == "name one: map('2020-01-02')"
        with pytest.raises(NotFound, match=r"no data for this request\. The data are from 2020-01-01 to .*, within west,south"):
            port["sea"].select(time="1800").load()
        series = port["sea"].select(variables="sst", at=(-130.0, 5.0), level=0.0)
        assert series.plot().content.startswith(b"<svg")
        with pytest.raises(InvalidRequest, match="one place"):
            part.plot()
        with pytest.raises(InvalidRequest, match="box"):
            series.map()

    def test_a_line_crosses_cells_of_the_source(self, port: Port, whole: xr.Dataset) -> None:
        line = [(-130.0, 5.0), (-129.0, 5.0)]
        for along in (line, {"type": "LineString", "coordinates": line}, "LINESTRING(-130 5,-129 5)"):
            part = port["sea"].select(variables="sst", time="2020-01-01", level=0.0, along=along)
            assert float(np.ravel(part.load().sst)[0]) == float(whole.sst[0, 0, 3, 1])
        with pytest.raises(InvalidRequest, match="area or a line"):
            part.load("zarr")
        with pytest.raises(InvalidRequest, match="line"):
            port["sea"].select(along=[(1.0, 2.0)])

    def test_a_level_and_a_place_are_those_of_the_source(self, port: Port, whole: xr.Dataset) -> None:
        np.testing.assert_array_equal(
            np.ravel(port["sea"].select(level=10.0, time="2020-01-03").load().sst), np.ravel(whole.sst[2, 1])
        )
        series = port["sea"].select(at=(-130.0, 5.0), level=0.0).to_dataframe()
        assert series.sst.tolist() == whole.sst[:, 0, 3, 1].values.tolist()
        np.testing.assert_array_equal(series.time, whole.time)

    def test_an_area_hides_what_is_outside_and_is_for_the_server(self, port: Port, url: str) -> None:
        part = port["sea"].select(area=SQUARE, time="2020-01-01", level=0.0)
        found = part.load()
        other = cubeport.open_stac(f"{url}/stac")["sea"]
        np.testing.assert_array_equal(found.sst, other.select(area=SQUARE, time="2020-01-01", level=0.0).sst)
        with pytest.raises(InvalidRequest, match="no line"):
            other.select(along=[(0, 0), (1, 1)])
        for wrong, told in (({"variables": "t"}, InvalidRequest), ({"time": "1800"}, NotFound), ({"size": 3}, InvalidRequest)):
            with pytest.raises(told) as ours:
                port["sea"].select(**wrong).load()
            with pytest.raises(told, match=re.escape(str(ours.value))):
                other.select(**wrong)
        assert 0 < int(found.sst.notnull().sum()) < found.sst.size or found.sst.size == 4
        with pytest.raises(InvalidRequest, match="area or a line"):
            part.load("zarr")
        with pytest.raises(InvalidRequest, match="one of"):
            port["sea"].select(area=SQUARE, at=(0, 0))

    def test_another_axis_is_chosen_by_its_label(self, port: Port, whole: xr.Dataset) -> None:
        np.testing.assert_array_equal(
            np.ravel(port["sea"].select(depth=10.0, time="2020-01-01").load().sst), np.ravel(whole.sst[0, 1])
        )


class TestShown:
    def test_a_table_of_kept_zones_and_of_ones_own_is_the_same(self, port: Port) -> None:
        kept = port["sea"].table("squares", z="0", time="2020-01-02")
        own = port["sea"].table(ZONES, z="0", time="2020-01-02")
        assert list(kept.columns) == ["zone", "name", "period", "variable", "statistic", "value", "cells", "share"]
        assert kept.equals(own)
        assert kept.share[0] == 1.0 or kept.share[0] > 0

        class Frame:
            __geo_interface__ = ZONES

        assert port["sea"].table(Frame(), z="0", time="2020-01-02").equals(own)
        with pytest.raises(NotFound):
            port["sea"].table("nowhere")
        with pytest.raises(NotFound, match="There are squares; polygons can also be sent"):
            port["sea"].table("nowhere")
        chap = port["sea"].table("squares", z="0", f="chap", period="month")
        assert chap == port["sea"].table(ZONES, z="0", f="chap", period="month")
        assert [row["location"] for row in csv.DictReader(io.StringIO(chap))] == ["a"]

    def test_pictures_are_shown_by_notebooks(self, port: Port, tmp_path: Path) -> None:
        picture = port["sea"].map("sst", time="2020-01-02", width=200)
        assert picture._repr_png_()[:4] == b"\x89PNG"
        assert picture._repr_svg_() is None
        assert picture.save(tmp_path / "map.png").read_bytes() == picture.content
        plot = port["sea"].plot((-130.0, 5.0), "sst", level=0.0)
        assert "<svg" in plot._repr_svg_()
        assert plot.address.startswith("http")

    def test_a_dataset_is_html_with_its_texts_escaped(self, port: Port) -> None:
        page = port["sea"]._repr_html_()
        assert "Sea &amp; air" in page
        assert "Temperature &lt;of&gt; the sea" in page
        assert "<td>K</td><td>0 to 383</td>" in page
        (sst,) = port["sea"]._summary["variables"]
        assert (sst["valid_min"], sst["valid_max"]) == (0, 383)
        assert "data:image/png;base64," in page
        assert "cp_" not in page
        assert "sea" in port._repr_html_()

    def test_a_part_is_html_with_its_sizes_and_an_address(self, port: Port) -> None:
        part = port["sea"].select(time="2020-01-02/2020-01-03", box=(160, -12, -160, 12))
        page, held = part._repr_html_(), part.load()
        assert "<h3>Part of Sea &amp; air</h3>" in page
        assert "<tr><th>box</th><td>160.0,-12.0,-160.0,12.0</td></tr>" in page
        assert " × ".join(f"{name} {held.sizes[name]:,}" for name in ("time", "depth", "lat", "lon")) in page
        assert f"{held.sst.size:,} cells, {part.price()['bytes'] / 1e6:.3g} MB" in page
        assert f'<a href="{html.escape(part.url())}">' in page
        outside = port["sea"].select(time="1800")._repr_html_()
        assert "The data are from 2020-01-01" in outside
        assert "<a " not in outside

    def test_it_says_how_to_cite_it(self, port: Port) -> None:
        assert port["sea"].version[:8] in port["sea"].cite()
        assert port["sea"].cite("bibtex").startswith("@misc{sea_")
        with pytest.raises(InvalidRequest):
            port["sea"].cite("ris")


class TestInThisProcess:
    def test_a_folder_has_the_same_datasets(self, root: Path, port: Port, whole: xr.Dataset) -> None:
        with cubeport.connect(root) as service:
            here, there = service["sea"], port["sea"]
            assert type(here) is type(there)
            assert (here.id, here.version, here.variables, here.box) == (there.id, there.version, there.variables, there.box)
            xr.testing.assert_identical(here.open().sst.load(), there.open().sst.load())
            part = {"time": "2020-01-02", "box": (160, -12, -160, 12)}
            np.testing.assert_array_equal(here.select(**part).load("zarr").sst, there.select(**part).load("server").sst)
            assert here.table("squares", z="0").equals(there.table("squares", z="0"))
            assert here.map("sst", width=100).content == there.map("sst", width=100).content
            with pytest.raises(NotFound, match="'sae'; did you mean 'sea'"):
                service["sae"]


class TestOtherCatalogs:
    def test_an_api_and_a_static_catalog_are_searched_and_opened(self, url: str, root: Path, whole: xr.Dataset) -> None:
        catalog = cubeport.open_stac(f"{url}/stac")
        assert [each.id for each in catalog.search("air")] == ["sea"]
        assert list(catalog.search("nothing")) == []
        data = catalog["sea"]
        np.testing.assert_array_equal(data.open("zarr").sst, whole.sst)
        (item,) = data.items()
        np.testing.assert_array_equal(item.open().sst, whole.sst)
        assert "Sea &amp; air" in data._repr_html_()
        with pytest.raises(NotFound, match="sae"):
            catalog["sae"]
        with pytest.raises(InvalidRequest, match="not a STAC catalog"):
            next(iter(cubeport.open_stac(f"{url}/datasets")))

    def test_a_folder_of_static_stac_is_read_from_any_file_server(self, root: Path, tmp_path: Path, whole: xr.Dataset) -> None:
        assert here("export", "stac", tmp_path / "public", "--instance", root).returncode == 0
        handler = functools.partial(_Quiet, directory=str(tmp_path / "public"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            catalog = cubeport.open_stac(f"http://127.0.0.1:{server.server_port}/catalog.json")
            np.testing.assert_array_equal(catalog["sea"].open().sst, whole.sst)
            server.shutdown()


class TestAwaited:
    def test_every_name_of_the_client_is_there_and_awaitable(self, url: str, whole: xr.Dataset) -> None:
        for twin, plain in (
            (AsyncPort, Port),
            (AsyncDataset, Dataset),
            (AsyncSelection, Selection),
            (AsyncStacCatalog, StacCatalog),
            (AsyncStacDataset, StacDataset),
        ):
            made = twin(plain.__new__(plain))
            for name in (each for each in vars(plain) if not each.startswith("_") and each != "over"):
                assert name in dir(made), name

        async def work() -> tuple[list[str], Any, Any, str]:
            port = await cubeport.aconnect(url)
            assert cubeport.aconnect(url).__class__ is port.__class__
            ids = [each.id async for each in port.search("air")]
            data = await port.get("sea")
            cube = await data.open()
            part, _ = await asyncio.gather(data.select(time="2020-01-01", level=0.0).load(), data.versions())
            async with cubeport.aconnect(url) as again:
                assert [each.id async for each in again] == [each.id async for each in port]
            with cubeport.connect(url) as plain:
                assert plain["sea"].title == data.title
            return ids, cube, part, data.title

        ids, cube, part, title = asyncio.run(work())
        assert (ids, title) == (["sea"], "Sea & air")
        np.testing.assert_array_equal(cube.sst, whole.sst)
        np.testing.assert_array_equal(np.ravel(part.sst), np.ravel(whole.sst[0, 0]))

    def test_catalogs_of_anybody_are_awaited_too(self, url: str, whole: xr.Dataset) -> None:
        async def work() -> tuple[list[str], list[str], Any]:
            catalog = cubeport.aopen_stac(f"{url}/stac")
            ids = [each.id async for each in catalog]
            data = await catalog.get("sea")
            return ids, [name async for item in data.items() for name in item.assets], await data.open("zarr")

        ids, assets, cube = asyncio.run(work())
        assert (ids, assets[:1]) == (["sea"], ["zarr"])
        np.testing.assert_array_equal(cube.sst, whole.sst)
        with pytest.raises(InvalidRequest):
            cubeport.aopen_stac("folder")


def test_text_remains_text_where_pandas_would_take_it_for_another_day() -> None:
    assert _are_times(["2020-01-01T00:00:00Z", "2020-01-02T12:00:00.5Z"])
    for other in (["1582-10-14T00:00:00Z"], ["2020-01-01"], ["2020-01-01T00:00:00Z", None], [1.5], []):
        assert not _are_times(other), other


@pytest.mark.parametrize(
    ("place", "step"),
    [
        ("127.0.0.1:8000", "cubeport.connect('http://127.0.0.1:8000')"),
        ("localhost:8000/", "cubeport.connect('http://localhost:8000/')"),
        ("data.example.org/cubes", "cubeport.connect('https://data.example.org/cubes')"),
    ],
)
def test_an_address_without_its_scheme_is_not_taken_for_a_folder(place: str, step: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cubeport.connect(place)
    assert caught.value.next_step == step
    with pytest.raises(NotACatalog):
        cubeport.connect("my.folder")


class TestWithAKey:
    def test_files_are_published_grown_described_tagged_and_deleted(self, url: str, key: str, tmp_path: Path) -> None:
        port = cubeport.connect(url, key=key)
        told: list[tuple[str, int, int]] = []
        first = source(tmp_path / "a.nc")
        data = port.ingest("new", first, title="New", progress=lambda *each: told.append(each))
        assert (data.title, data.open().sizes["time"]) == ("New", 4)
        # Which of the server's phases is seen depends on how long each lasts.
        assert "sending" in {phase for phase, _, _ in told}
        assert len({phase for phase, _, _ in told}) > 1
        assert told[0][2] == first.stat().st_size
        tagged = data.tag("paper")
        assert (tagged["version_id"], tagged["tags"]) == (data.version, ["paper"])
        grown = port.update("new", source(tmp_path / "b.nc", start="2020-01-05"))
        assert grown.open().sizes["time"] == 8
        with pytest.raises(DataConflict):
            port.update("new", source(tmp_path / "c.nc", start="2020-01-05", offset=1))
        with pytest.raises(NotFound):
            port.update("newer", first)
        with pytest.raises(InvalidRequest) as refused:
            port.update("new")
        assert "sync('new')" in str(refused.value.next_step)
        assert port["new@paper"].version == data.version
        grown.describe(title="Newer", license="CC-BY-4.0")
        assert port["new"].title == "Newer"
        assert len(port["new"].versions()) == 2
        data.rollback()
        assert port["new"].version == data.version
        assert [each["status"] for each in port.jobs(dataset="new")] == ["failed", "completed", "completed"]
        changes, cursor = port.changes(dataset="new")
        assert "rolled_back" in {each["reason"] for each in changes}
        assert port.changes(cursor, dataset="new")[0] == []
        grown.unpublish()
        with pytest.raises(NotFound):
            cubeport.connect(url)["new"]
        port.delete("new", purge=True)
        with pytest.raises(NotFound):
            port["new"]

    def test_what_fails_is_the_error_of_the_ingestion(self, url: str, key: str, tmp_path: Path) -> None:
        (tmp_path / "bad.nc").write_bytes(b"not a file of data")
        with pytest.raises(SourceRejected):
            cubeport.connect(url, key=key).ingest("bad", tmp_path / "bad.nc")

    def test_zones_are_kept_with_a_key(self, url: str, key: str) -> None:
        port = cubeport.connect(url, key=key)
        port.put_zones("mine", ZONES)
        assert port.zones()["mine"]["zones"] == 1
        port.remove_zones("mine")
        assert "mine" not in port.zones()

    def test_without_a_key_nothing_is_changed_and_keys_are_never_shown(self, url: str, key: str, tmp_path: Path) -> None:
        with pytest.raises(Unauthorized):
            cubeport.connect(url).ingest("x", source(tmp_path / "x.nc"))
        port = cubeport.connect(url, key=key)
        assert not re.search("cp_", repr(port) + repr(port["sea"]) + port["sea"].select().url() + port._repr_html_())


def test_the_page_on_the_client_works_as_written(url: str, tmp_path: Path) -> None:
    reader = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
    reader.follow("how-to/python-client.md")
    first, part, last = reader.outputs
    assert first.splitlines() == ["['sea']", "Sea & air {'time': 4, 'depth': 2, 'lat': 6, 'lon': 8}"]
    assert part.splitlines()[0] == "16"
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert "(8, 8)" in last


def test_importing_the_client_loads_nothing_scientific() -> None:
    import subprocess
    import sys

    code = "import cubeport.client, sys; print(sorted({'xarray', 'zarr', 'numpy', 'pandas', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("place", ["url", "root"])
def test_a_dataset_is_opened_with_the_chunks_of_its_store(place: str, whole: xr.Dataset, request: pytest.FixtureRequest) -> None:
    with contextlib.ExitStack() as stack:
        port: Any = cubeport.connect(request.getfixturevalue(place), **({} if place == "url" else {"read_only": True}))
        if place == "root":
            stack.enter_context(port)
        assert port["sea"].open().sst.chunks is None
        lazy = port["sea"].open(chunks={})
        assert lazy.sst.chunks is not None
        np.testing.assert_array_equal(lazy.sst.mean("time").compute(), whole.sst.mean("time"))


def test_a_level_outside_the_data_is_told_which_there_are(port: Port) -> None:
    with pytest.raises(NotFound, match=r"The data are .*, at depth 0 to 10 m\."):
        port["sea"].select(level=500).load()


def test_the_texts_of_a_dataset_in_a_folder_need_no_library_of_arrays(root: Path) -> None:
    """They took two thirds of a second more; opening the dataset still needs them."""
    import subprocess
    import sys

    code = (
        "import cubeport, sys\n"
        "with cubeport.connect(sys.argv[1], read_only=True) as here:\n"
        "    print(here['sea'].title, sorted({'xarray', 'zarr', 'pandas', 'dask'} & set(sys.modules)))\n"
        "    here['sea'].open()\n"
        "    print('xarray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["Sea & air []", "True"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def test_a_search_shows_itself_and_goes_on(port: Port) -> None:
    found = port.search("sea", variable="sst")
    assert repr(found) == f"<cubeport.Datasets {repr(port)[15:-1]} q='sea', variable='sst': iterate over it, or list(…)>"
    assert "Sea &amp; air" in found._repr_html_()
    assert "<h3>Datasets: sea, sst</h3>" in found._repr_html_()
    assert found[0].id == "sea"
    assert [each.id for each in found] == ["sea"]
    assert found[0].id == "sea"
    with pytest.raises(IndexError, match="finds 1"):
        found[1]
    for other in (-1, slice(2)):
        with pytest.raises(InvalidRequest) as refused:
            found[other]
        assert refused.value.next_step.startswith("list(port.search(")


def test_one_time_is_said_once() -> None:
    assert [span(each) for each in (("2020-01", "2020-03"), ("2020-01", "2020-01"), None)] == ["2020-01 to 2020-03", "2020-01", ""]


def test_a_slice_of_time_is_the_interval(port: Port) -> None:
    data = port["sea"]
    for given, words in (
        (slice("2020-01-02", "2020-01-03"), "2020-01-02/2020-01-03"),
        (slice("2020-01-03", None), "2020-01-03/.."),
    ):
        part = data.select(time=given).load()
        xr.testing.assert_identical(part, data.select(time=words).load())
        assert part.sizes["time"] == (2 if given.start else 3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"variable": "sst"}, "variables='NAME'"),
        ({"bbox": (0, 0, 1, 1)}, "box=(west, south, east, north)"),
        ({"lat": slice(0, 10)}, "box=(west, south, east, north)"),
        ({"time": slice("2020-01-01", "2020-01-04", 2)}, "n-th step"),
    ],
)
def test_what_select_does_not_take_says_what_it_takes(port: Port, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        port["sea"].select(**asked)
    assert words in str(refused.value.next_step)


def test_a_traceback_says_what_was_wrong_and_what_to_do(port: Port) -> None:
    with pytest.raises(InvalidRequest) as refused:
        port["sea"].select(member=3).load()
    assert "errors" not in str(refused.value)
    assert "query.subset: subset may name the axes time, depth, lat, lon" in str(refused.value)
    with pytest.raises(InvalidRequest) as refused:
        port["sea"].select(variable="sst")
    assert "Next: write variables='NAME'" in "".join(traceback.format_exception(refused.value))
