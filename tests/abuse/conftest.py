"""The servers of the other suites, and one of its own: attacked."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.server.conftest import engine, live, service, store

__all__ = ["engine", "live", "service", "store"]


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with one small dataset."""
    import numpy as np
    import xarray as xr

    folder = tmp_path_factory.mktemp("start")
    lat, lon = (("lat", np.arange(4.0), {"units": "degrees_north"}), ("lon", np.arange(5.0), {"units": "degrees_east"}))
    values = np.arange(20, dtype="f4").reshape(4, 5)
    xr.Dataset({"t": (("lat", "lon"), values, {"units": "K"})}, {"lat": lat, "lon": lon}).to_netcdf(folder / "tiny.nc")
    root = folder / "instance"
    for arguments in (["init", str(root)], ["ingest", str(folder / "tiny.nc"), "--id", "tiny", "--instance", str(root)]):
        done = subprocess.run([sys.executable, "-m", "cubeport", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return root
