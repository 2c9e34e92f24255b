"""A real instance with real files, published by a real server process: what every test in this folder reads from outside."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cubeport.main import run

CUBEPORT = [sys.executable, "-m", "cubeport"]

FILES: dict[str, tuple[str, ...]] = {
    # id: files below the folder of real data. Of as many kinds as there are.
    "arctic-ocean": ("Arctic20_1to5Feb_2016.nc",),
    "pcp-yearly": ("CMIP5_rcp8.5_PCP_pctl25_P1Y.nc",),
    "planet": ("PLANET_SCOPE_3D.nc",),
    "co2": ("SMALL_total_column_co2.nc",),
    "hycom": ("archv_hycom.nc",),
    "basin": ("basin_mask.nc",),
    "cmems": ("cmems_mod_bal_phy_anfc_P1D.nc",),
    "coads": ("coads_sst.nc",),
    "stations": ("daily_surface_cancities_1990-1993.nc",),
    "eraint": ("eraint_uvz.nc",),
    "euro-laea": ("euro_air_temp.nc",),
    "gebco": ("gebco_2020.nc",),
    "goes": ("goes_Cloud_Top_Height.nc",),
    "hadgem2": (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc",
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_203012-205511.nc",
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_205512-208011.nc",
    ),
    "indicators": ("indicators.nc",),
    "landcover": ("landCoverFrac_Lmon_IPSL_201501.nc",),
    "msftmz": ("msftmz_Omon_NorCPM1_185001.nc",),
    "polar": ("polar_stereographic.nc",),
    "rlds": ("rlds_Amon_IPSL-CM6A-LR_185001.nc",),
    "rlds-zarr": ("rlds_v3.zarr",),
    "sea-ice": ("sic_SImon_CanESM5_2020.nc",),
    "ensemble": ("small_FC_167_mon_19601101.nc",),
    "rotated": ("small_rotPole_precipitation.nc",),
    "members": ("sst_CMIP6_ssp245_mon_201501-210012.nc",),
    "antarctica": ("tas_ANT-44_HIRHAM5_20060101.nc",),
    "tasmax-365": ("tasmax_day_CanESM2_365day_2095.nc",),
    "tasmax-360": ("tasmax_day_HadGEM2-CC_360day_2095.nc",),
    "lambert": ("test_lcc.nc",),
    "british": ("tmean_1910_1910.nc",),
    "gridmet": ("tmmx_20190121.nc",),
    "nemo": ("tos_Omon_CNRM-CM6-1_ssp245_201501.nc",),
    "julian": ("tos_Omon_IITM-ESM_1pctCO2_193001.nc",),
    "sst-zarr": ("analysed_sst.zarr",),
}


@dataclass
class Server:
    """A running ``cubeport serve`` and the instance that it serves."""

    url: str
    root: Path
    process: subprocess.Popen[str]
    refused: dict[str, Any] = field(default_factory=dict)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return httpx.get(self.url + path, params=params or None, timeout=60, trust_env=False)

    def json(self, path: str, **params: Any) -> Any:
        response = self.get(path, **params)
        assert response.status_code == 200, (path, params, response.text)
        return response.json()


def cli(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command as a user would."""
    return subprocess.run(
        [*CUBEPORT, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env, timeout=240, check=False
    )


def here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command in this process, which has imported everything: for tests that need no process of their own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(each) for each in arguments])
    texts = [each.buffer.getvalue().decode() for each in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, *texts)


def start(root: Path, *flags: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server on a free port and return it with its address, as it prints it."""
    process = subprocess.Popen(
        [*CUBEPORT, "serve", "--instance", str(root), "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        pytest.fail("the server ended without an address:\n" + "".join(seen))
    url = found.group()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url + "/health", trust_env=False).status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("the server never became healthy:\n" + "".join(seen))


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@pytest.fixture(scope="session")
def published(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All of :data:`FILES` in one instance, and its server."""
    import cubeport
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    root = tmp_path_factory.mktemp("instance")
    made = here("init", root)
    assert made.returncode == 0, made.stderr
    refused = {}
    with cubeport.connect(root) as service:
        for dataset_id, names in FILES.items():
            done = service.ingest_here(
                IngestionRequest(dataset_id=dataset_id), FileOptions(files=tuple(str(realdata / name) for name in names))
            )
            if done.status != "completed":
                refused[dataset_id] = done.error
    process, url = start(root)
    yield Server(url, root, process, refused)
    stop(process)


@pytest.fixture(scope="session")
def family_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    from tests.families import FAMILIES  # here: some tests import this module from elsewhere

    return {name: family.write(folder, name) for name, family in FAMILIES.items()}


@pytest.fixture(scope="session")
def families(family_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A small dataset of each grid family in one instance, and its server."""
    import cubeport
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    root = tmp_path_factory.mktemp("instance")
    made = here("init", root)
    assert made.returncode == 0, made.stderr
    with cubeport.connect(root) as service:
        for name, path in family_files.items():
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(path),)))
            assert done.status == "completed", (name, done.error)
    process, url = start(root)
    yield Server(url, root, process)
    stop(process)
