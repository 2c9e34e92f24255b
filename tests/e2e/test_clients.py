"""Pages on clients and on moving from other servers: programs that know nothing of cubeport read the values of the source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.pages import DOCS, Block, Follower, blocks

import cubeport

from .conftest import here, start, stop
from .test_operations import free_port, running

ROOT = Path(__file__).resolve().parents[2]


def titled(page: str, title: str) -> str:
    (found,) = [each.text for each in blocks(page) if each.title == title]
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a cube of which each value is 100 × step + 10 × row + column; return its address."""
    folder = tmp_path_factory.mktemp("clients")
    step, row, column = np.meshgrid(np.arange(3), np.arange(3), np.arange(4), indexing="ij")
    tas = xr.DataArray((100 * step + 10 * row + column).astype("f4"), dims=("time", "lat", "lon"), name="tas").to_dataset()
    time = np.datetime64("2024-01-01", "ns") + np.arange(3).astype("timedelta64[D]")
    tas = tas.assign_coords(time=time, lat=[50.0, 55, 60], lon=[0.0, 5, 10, 15])
    tas.lat.attrs, tas.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    tas.to_netcdf(folder / "tas.nc")
    assert here("init", folder / "instance").returncode == 0
    done = here("ingest", folder / "tas.nc", "--id", "tas", "--instance", folder / "instance")
    assert done.returncode == 0, done.stderr
    process, url = start(folder / "instance")
    yield url
    stop(process)


def test_each_row_of_the_table_names_a_test_that_exists() -> None:
    page = (DOCS / "reference" / "clients.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 16
    missing = [(path, name) for path, name in named if not re.search(rf"^ *def {name}\b", (ROOT / path).read_text(), re.MULTILINE)]
    assert missing == []


@pytest.mark.parametrize(
    ("program", "probe", "page", "printed"),
    [
        pytest.param("Rscript", ("-e", "library(ncdf4)"), "read.R", "[1] 0 100 200 " * 2, id="r"),
        pytest.param("octave-cli", ("--eval", "pkg load netcdf"), "read.m", "series = 0 100 200", id="octave"),
    ],
)
def test_r_and_octave_read_the_values(
    served: str, tmp_path: Path, program: str, probe: tuple[str, str], page: str, printed: str
) -> None:
    if shutil.which(program) is None or subprocess.run([program, *probe], capture_output=True).returncode != 0:
        pytest.skip(f"no {program} that takes {probe[1]}")
    (tmp_path / page).write_text(titled("reference/clients.md", page).replace("http://127.0.0.1:8000", served))
    done = subprocess.run([program, page], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == printed.split()


def test_cdo_and_nco_read_and_join_the_values(served: str, tmp_path: Path) -> None:
    if not all(map(shutil.which, ("cdo", "ncrcat", "ncks"))):
        pytest.skip("no CDO and NCO")
    command = titled("reference/clients.md", "operators").replace("http://127.0.0.1:8000", served)
    done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    days = [part for day in range(3) for part in (f"2024-01-0{day + 1}", f"{100 * day + 11}")]
    assert done.stdout.split() == ["#", "date", "value", *days, "11", "111", "211"]


def test_gdal_of_the_system_reads_the_values(served: str) -> None:
    if shutil.which("gdallocationinfo") is None:
        pytest.skip("no GDAL on this machine")
    command = titled("reference/clients.md", "gdal").replace("http://127.0.0.1:8000", served)
    environment = {**os.environ, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "12"), done.stderr  # rows in the order of the store
    command = titled("reference/clients.md", "geotiff").replace("http://127.0.0.1:8000", served)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "12"), done.stderr


def _requests(page: str) -> list[tuple[Block, Block]]:
    """Return the requests of a page, each with the answer that the page says."""
    found = [each for each in blocks(page) if each.title in ("requests", "answer")]
    return list(zip(found[::2], found[1::2], strict=True))


@pytest.mark.slow
def test_the_pages_on_other_servers_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "how-to/from-other-servers.md"
    assert Follower(tmp_path).follow(page) == 0
    process, url = start(tmp_path / "port")
    try:
        reader = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        (requests,) = [each for each in blocks(page) if each.title == "requests"]
        said = reader.run(requests)
        griddap = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        for request, answer in _requests("how-to/griddap.md"):
            assert griddap.run(request) == answer.text
        monkeypatch.setattr("erddapy.erddapy.servers", dict)  # its list of public servers is on the internet
        exec(titled("how-to/griddap.md", "erddapy").replace("http://127.0.0.1:8000", url), {})
        if (program := shutil.which("nginx")) is not None:
            port = free_port()
            location = titled("how-to/griddap.md", "nginx.conf").replace("http://127.0.0.1:8000", url)
            paths = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            head = f"daemon off; master_process off; pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths}"
            (tmp_path / "nginx.conf").write_text(f"{head} server {{ listen 127.0.0.1:{port}; {location} }} }}")
            with running([program, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")], port):
                request, answer = _requests("how-to/griddap.md")[0]
                old = Follower(tmp_path, replace={"http://127.0.0.1:8000": f"http://127.0.0.1:{port}/erddap"})
                assert old.run(request) == answer.text
    finally:
        stop(process)
    assert "time (UTC)" in capsys.readouterr().out
    assert re.search(r"^2024-02-01.*,2(\.0)?$", said, re.MULTILINE), said
    assert "sst" in said
    with xr.open_dataset(tmp_path / "part.nc") as part:
        assert dict(part.sizes) == {"time": 1, "lat": 2, "lon": 2}
        assert set(part.sst.values.ravel().tolist()) == {2.0}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_on_openghg_works_as_written(tmp_path: Path) -> None:
    page = "how-to/from-openghg.md"
    reader = Follower(tmp_path)
    reader.environment["PYTHONWARNINGS"] = "ignore"
    reader.timeout_s = 500
    assert reader.follow(page) == 1
    listed = reader.outputs[2]
    assert "ch4-mhd-10m" in listed
    assert "co2-tac-185m" in listed
    assert [each for each in listed.split() if each in ("v1", "v2")] == ["v2", "v1"]
    # Each version has the values that OpenGHG has.
    found = []
    with cubeport.connect(tmp_path / "ghg") as port:
        for source in (tmp_path / "openghg_store/data").glob("4b2a*/zarr/*"):
            with xr.open_zarr(source) as theirs:
                xr.testing.assert_equal(port[f"ch4-mhd-10m@{source.name}"].open().ch4.load(), theirs.ch4.load())
            found.append(source.name)
    assert sorted(found) == ["v1", "v2"]


@pytest.mark.slow
def test_the_tutorial_on_staying_current_works_as_written(tmp_path: Path) -> None:
    assert Follower(tmp_path).follow("tutorials/keep-current.md") == 3
    with xr.open_zarr(next((tmp_path / "climate/data/store/tas").glob("*/cube.zarr")), chunks=None) as opened:
        assert opened.tas.dims == ("time", "lat", "lon")
