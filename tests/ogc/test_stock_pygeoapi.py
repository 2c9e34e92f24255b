"""A stock ``pygeoapi serve``, in its own process, with our providers in its configuration as docs/how-to/pygeoapi.md shows it."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
import yaml

from cubeport.cubes.edr.queries import QUERIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "pygeoapi.md"
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def cubeport(*arguments: str, cwd: Path) -> str:
    run = subprocess.run([sys.executable, "-m", "cubeport", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with descending latitudes, longitudes from 0 to 360 and packed values, in three months."""
    path = tmp_path_factory.mktemp("stock") / "tas.nc"
    lat, lon = np.arange(80, -81, -20.0), np.arange(0, 360, 30.0)
    values = 250 + np.arange(3 * lat.size * lon.size).reshape(3, lat.size, lon.size) * 0.25
    values[:, 2, 3] = np.nan
    cube = xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K", "long_name": "Air temperature"})},
        {"time": np.array(["2001-01-16", "2001-02-15", "2001-03-16"], "M8[ns]"), "lat": lat, "lon": lon},
    )
    cube.lat.attrs |= {"units": "degrees_north", "standard_name": "latitude"}
    cube.lon.attrs |= {"units": "degrees_east", "standard_name": "longitude"}
    cube.to_netcdf(path, encoding={"tas": {"dtype": "i2", "scale_factor": 0.25, "add_offset": 300.0, "_FillValue": -32768}})
    return path


@pytest.fixture(scope="module")
def instance(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pygeoapi")
    cubeport("init", str(folder / "climate"), cwd=folder)
    cubeport("ingest", str(source), "--id", "tas", "--title", "Air temperature", cwd=folder / "climate")
    return folder / "climate"


@pytest.fixture(scope="module")
def pygeoapi(instance: Path) -> Iterator[str]:
    folder = instance.parent
    service, stock = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    snippet = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert snippet is not None
    written = snippet[1].replace("/srv/climate", str(instance)).replace("https://data.example.org", service)
    server = {
        "bind": {"host": "127.0.0.1", "port": int(stock.rpartition(":")[2])},
        "url": stock,
        "mimetype": "application/json; charset=UTF-8",
        "encoding": "utf-8",
        "languages": ["en-US"],
        "limits": {"default_items": 10, "max_items": 50},
        "map": {"url": "https://tile.example.org/{z}/{x}/{y}.png", "attribution": "none"},
    }
    metadata = {
        "identification": {
            "title": "Stock", "description": "Stock", "keywords": ["k"], "keywords_type": "theme",
            "terms_of_service": "none", "url": "https://example.org",
        },
        "license": {"name": "none", "url": "https://example.org"},
        "provider": {"name": "none", "url": "https://example.org"},
        "contact": {"name": "none", "email": "you@example.org"},
    }  # fmt: skip
    config = folder / "pygeoapi.yml"
    config.write_text(
        yaml.safe_dump({"server": server, "logging": {"level": "ERROR"}, "metadata": metadata, **yaml.safe_load(written)})
    )
    environment = {**os.environ, "PYGEOAPI_CONFIG": str(config), "PYGEOAPI_OPENAPI": str(folder / "openapi.yml")}
    log = folder / "log"
    running: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as out:
        try:
            flags = [sys.executable, "-m", "cubeport", "serve", "--port", service.rpartition(":")[2]]
            running.append(subprocess.Popen(flags, cwd=instance, stdout=out, stderr=out))
            wait_for(f"{service}/health", running[0], log)
            generate = [BIN / "pygeoapi", "openapi", "generate", config, "--output-file", folder / "openapi.yml"]
            made = subprocess.run(generate, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert made.returncode == 0, made.stdout + made.stderr
            running.append(subprocess.Popen([BIN / "pygeoapi", "serve"], env=environment, cwd=folder, stdout=out, stderr=out))
            wait_for(f"{stock}/conformance?f=json", running[1], log)
            yield stock
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)


@pytest.fixture(scope="module")
def truth(source: Path) -> xr.DataArray:
    with xr.open_dataset(source) as opened:
        return opened.tas.load()


def get(base: str, path: str, **parameters: Any) -> httpx.Response:
    return httpx.get(f"{base}{path}", params=parameters, timeout=60)


def values(document: dict[str, Any]) -> tuple[dict[str, list[Any]], np.ndarray]:
    told = document["ranges"]["tas"]
    axes = {name: axis["values"] for name, axis in document["domain"]["axes"].items()}
    return axes, np.array(told["values"], dtype="f8").reshape(told["shape"])


def test_the_collection_and_its_fields_are_described(pygeoapi: str) -> None:
    for name in ("tas", "tas-elsewhere"):
        document = get(pygeoapi, f"/collections/{name}", f="json").json()
        assert "data_queries" in document, document
        assert set(document["data_queries"]) == {each.name for each in QUERIES}, document
        assert document["parameter_names"]["tas"]["unit"]["symbol"]["value"] == "K"
    extent = get(pygeoapi, "/collections/tas", f="json").json()["extent"]
    assert [each["cellsCount"] for each in extent["spatial"]["grid"]] == [12, 9]
    assert [each["resolution"] for each in extent["spatial"]["grid"]] == [30.0, -20.0]
    assert extent["temporal"]["interval"][0][0] == "2001-01-16T00:00:00Z"
    schema = get(pygeoapi, "/collections/tas/schema", f="json").json()
    assert schema["properties"]["tas"]["type"] == "number"
    assert schema["properties"]["tas"]["title"] == "Air temperature"


@pytest.mark.parametrize("collection", ["tas", "tas-elsewhere"])
def test_a_position_is_the_series_of_the_source(pygeoapi: str, truth: xr.DataArray, collection: str) -> None:
    answer = get(pygeoapi, f"/collections/{collection}/position", coords="POINT(-60 39)", f="json")
    assert answer.status_code == 200, answer.text
    axes, told = values(answer.json())
    assert axes["x"] == [-60.0]
    assert axes["y"] == [40.0]
    np.testing.assert_array_equal(told.ravel(), truth.sel(lon=300, lat=40).values)


@pytest.mark.parametrize("collection", ["tas", "tas-elsewhere"])
def test_an_area_and_a_cube_are_cells_of_the_source(pygeoapi: str, truth: xr.DataArray, collection: str) -> None:
    box = get(pygeoapi, f"/collections/{collection}/cube", bbox="-70,-25,70,45", datetime="2001-02-15T00:00:00Z", f="json")
    assert box.status_code == 200, box.text
    axes, told = values(box.json())
    assert axes["x"] == [-60.0, -30.0, 0.0, 30.0, 60.0]
    expected = truth.sel(time="2001-02-15", lat=axes["y"], lon=[each % 360 for each in axes["x"]]).values
    np.testing.assert_array_equal(np.squeeze(told), np.squeeze(expected))
    area = get(
        pygeoapi,
        f"/collections/{collection}/area",
        coords="POLYGON((-70 -25,70 -25,70 45,-70 45,-70 -25))",
        datetime="2001-02-15T00:00:00Z",
        f="json",
    )
    np.testing.assert_array_equal(values(area.json())[1], told)


@pytest.mark.parametrize("collection", ["tas", "tas-elsewhere"])
def test_a_radius_takes_the_cells_within_the_distance(pygeoapi: str, truth: xr.DataArray, collection: str) -> None:
    query = {"coords": "POINT(10 0)", "within": "3000", "within-units": "km", "datetime": "2001-02-15T00:00:00Z"}
    answer = get(pygeoapi, f"/collections/{collection}/radius", f="json", **query)
    assert answer.status_code == 200, answer.text
    axes, told = values(answer.json())
    # The box has cells that reach into it: 30° W is 40° away, and 20° of longitude and of latitude together are 3 100 km.
    assert (axes["x"], sorted(axes["y"])) == ([-30.0, 0.0, 30.0], [-20.0, 0.0, 20.0])
    expected = truth.sel(time="2001-02-15", lat=axes["y"], lon=[each % 360 for each in axes["x"]]).values.squeeze()
    far = [at for at, lat in enumerate(axes["y"]) if lat]
    expected[:, 0] = np.nan
    expected[far, 2] = np.nan
    np.testing.assert_array_equal(np.squeeze(told), expected)


def test_a_coverage_is_the_source_in_both_forms(pygeoapi: str, truth: xr.DataArray) -> None:
    asked = {"bbox": "30,-50,130,50", "datetime": "2001-01-16T00:00:00Z/2001-02-15T00:00:00Z"}
    document = get(pygeoapi, "/collections/tas/coverage", f="json", **asked)
    assert document.status_code == 200, document.text
    axes, told = values(document.json())
    expected = truth.sel(time=slice("2001-01-16", "2001-02-15"), lat=axes["y"], lon=axes["x"])
    np.testing.assert_array_equal(told, expected.values)
    file = get(pygeoapi, "/collections/tas/coverage", f="netcdf", **asked)
    assert file.headers["content-type"] == "application/x-netcdf"
    with xr.open_dataset(io.BytesIO(file.content), engine="h5netcdf") as found:
        assert found.tas.encoding["dtype"] == np.dtype("i2")
        xr.testing.assert_equal(found.tas.load(), expected)


def test_a_subset_names_the_axes_of_the_store(pygeoapi: str, truth: xr.DataArray) -> None:
    answer = get(pygeoapi, "/collections/tas/coverage", subset="lat(-25:25),lon(90)", f="json")
    assert answer.status_code == 200, answer.text
    axes, told = values(answer.json())
    assert axes["x"] == [90.0]
    np.testing.assert_array_equal(np.squeeze(told), truth.sel(lat=axes["y"], lon=90).values)


def test_edr_has_the_forms_of_its_formatters(pygeoapi: str, truth: xr.DataArray) -> None:
    answer = get(pygeoapi, "/collections/tas/position", coords="POINT(30 0)", f="csv")
    assert answer.status_code == 200, answer.text
    rows = answer.text.strip().split("\r\n")
    assert rows[0] == "time,lat,lon,tas"
    assert [float(row.split(",")[-1]) for row in rows[1:]] == truth.sel(lat=0, lon=30).values.tolist()


@pytest.mark.parametrize("collection", ["tas", "tas-elsewhere"])
def test_refusals_have_our_status_and_our_words(pygeoapi: str, collection: str) -> None:
    outside = get(pygeoapi, f"/collections/{collection}/position", coords="POINT(0 89.9)", datetime="1900", f="json")
    assert outside.status_code == 404
    assert "There are no data" in outside.text
    unknown = get(pygeoapi, f"/collections/{collection}/position", coords="POINT(0 0)", z="3", f="json")
    assert unknown.status_code == 400
    assert "z" in unknown.text


def test_html_is_made_from_the_same_answer(pygeoapi: str) -> None:
    answer = get(pygeoapi, "/collections/tas/position", coords="POINT(30 0)", f="html")
    assert answer.status_code == 200
    assert "Air temperature" in answer.text


def test_the_instance_is_asked_without_a_server(instance: Path, truth: xr.DataArray) -> None:
    import cubeport as package

    with package.queries(instance) as datasets:
        content = datasets.ask("tas", "coverage", [("f", "NetCDF"), ("bbox", "0,0,30,20")])
        assert datasets.axes("tas") == ["time", "lat", "lon"]
    with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as found:
        xr.testing.assert_equal(found.tas.load(), truth.sel(lat=[20, 0], lon=[0, 30]))
