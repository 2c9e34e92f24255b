"""Each extra alone, in a fresh environment, does what it is for. Slow: it installs from an index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests import dask_cluster

ROOT = Path(__file__).resolve().parent.parent
MAKE = """
import sys
import numpy as np
import xarray as xr
data = xr.Dataset({"t": (("time", "lat", "lon"), np.ones((2, 3, 4)), {"units": "K", "missing_value": float("nan")})},
                  {"time": ("time", np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")),
                   "lat": ("lat", [1.0, 2.0, 3.0], {"units": "degrees_north"}),
                   "lon": ("lon", [1.0, 2.0, 3.0, 4.0], {"units": "degrees_east"})})
data.to_netcdf(sys.argv[1]) if sys.argv[1].endswith(".nc") else data.to_zarr(sys.argv[1])
"""


def made(folder: Path, *extras: str) -> Path:
    """Make an environment with cubeport and the extras, and nothing else; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    wanted = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted], check=True)
    return python


def cubeport(python: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [python.with_name("cubeport"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("extra", "name"), [("netcdf", "data.nc"), ("zarr", "data.zarr")])
def test_an_extra_alone_reads_what_it_is_named_for(tmp_path: Path, extra: str, name: str) -> None:
    python = made(tmp_path, extra)
    subprocess.run([python, "-c", MAKE, tmp_path / name], check=True)
    assert cubeport(python, tmp_path, "init").returncode == 0
    added = cubeport(python, tmp_path, "add", name, "--require-metadata", "--json")
    assert added.returncode == 0, added.stderr
    record = json.loads(added.stdout)
    assert record["bbox"] == [0.5, 0.5, 4.5, 3.5]
    assert record["time"]["start"].startswith("2020-01-01")
    assert set(record["metadata"]) >= {extra}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plain_install_is_a_catalog_and_names_the_extra(tmp_path: Path) -> None:
    python = made(tmp_path)
    (tmp_path / "data.nc").write_bytes(b"CDF\x01" + bytes(28))
    assert cubeport(python, tmp_path, "init").returncode == 0
    assert cubeport(python, tmp_path, "add", "data.nc").returncode == 0
    refused = cubeport(python, tmp_path, "add", "data.nc", "--require-metadata")
    assert "cubeport[netcdf]" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fetch_alone_can_fetch(tmp_path: Path) -> None:
    python = made(tmp_path, "fetch")
    assert cubeport(python, tmp_path, "init").returncode == 0
    assert cubeport(python, tmp_path, "add", "http://127.0.0.1:9/x.txt", "--key", "x").returncode == 0
    refused = cubeport(python, tmp_path, "fetch", "x")
    assert "not an origin that may be fetched from" in refused.stderr


LARGE = """
import sys
import numpy as np
import xarray as xr
values = np.random.default_rng(1).normal(280, 10, (24, 200, 300))
xr.Dataset({"t": (("time", "lat", "lon"), values, {"units": "K"})},
           {"time": ("time", np.arange(24), {"units": "days since 2000-01-01"}),
            "lat": ("lat", np.linspace(-80, 80, 200), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(300.0), {"units": "degrees_east"})}).to_netcdf(sys.argv[1])
"""
SAME = """
import sys
import xarray as xr
from pathlib import Path
[version] = Path("data/store/d").iterdir()
with xr.open_zarr(version / "cube.zarr") as made, xr.open_dataset(sys.argv[1]) as source:
    assert made.t.values.tobytes() == source.t.values.tobytes()
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dask_alone_ingests_on_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler, worker and the command are of one environment with the extra, as the page on Dask installs it."""
    python = made(tmp_path, "dask")
    subprocess.run([python, "-c", LARGE, tmp_path / "large.nc"], check=True)
    monkeypatch.setattr(dask_cluster, "PROGRAM", str(python.with_name("dask")))
    assert cubeport(python, tmp_path, "init").returncode == 0
    with dask_cluster.running(tmp_path / "cluster", 1) as cluster:
        for name, value in (("EXECUTOR", "dask"), ("DASK_ADDRESS", cluster.address), ("UNIT_BYTES", "2000000")):
            monkeypatch.setenv(f"CUBEPORT_JOBS__{name}", value)
        assert "1 workers, 1 threads" in cubeport(python, tmp_path, "doctor", "--all").stdout
        done = cubeport(python, tmp_path, "ingest", "large.nc", "--id", "d")
        assert done.returncode == 0, done.stderr
    subprocess.run([python, "-c", SAME, tmp_path / "large.nc"], check=True, cwd=tmp_path)
    # Without the cluster the same work is refused: it was the worker that did it.
    assert "does not answer" in cubeport(python, tmp_path, "ingest", "large.nc", "--id", "e").stderr
