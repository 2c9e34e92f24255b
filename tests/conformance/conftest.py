"""The lane ``conformance``: clients that nobody here wrote, installed from PyPI into an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.conftest import start, stop
from tests.families import FAMILIES

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

CLIENTS = (
    "stac-api-validator", "pydap", "odc-stac", "pystac-client", "xpystac", "netCDF4", "zarr", "xarray", "aiohttp", "requests",
    "rio-tiler[zarr]", "zarr-cm", "rocrate", "openlineage-python",
)  # fmt: skip
"""Newest releases: what a user has who installs them today."""


@dataclass(frozen=True)
class Clients:
    """A Python with the clients."""

    folder: Path

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.folder / "bin" / command), *rest], capture_output=True, text=True, timeout=timeout, check=False, env=own
        )

    def python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-W", "ignore", "-c", script, *arguments)


@pytest.fixture(scope="session")
def clients(pytestconfig: pytest.Config) -> Clients:
    """Install the clients, once; ``--cache-clear`` installs them anew. Without an index, every test here is skipped."""
    folder = Path(pytestconfig.cache.mkdir("conformance")) / "clients"  # type: ignore[union-attr]
    ready, wanted = folder / "ready", "\n".join(CLIENTS)
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        found = subprocess.run(
            [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *CLIENTS],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if found.returncode != 0:
            pytest.skip(f"the clients cannot be installed: {found.stderr.strip().splitlines()[-1:]}")
        ready.write_text(wanted)
    return Clients(folder)


@dataclass(frozen=True)
class Site:
    """A running server, with a dataset of each grid family."""

    url: str
    files: Path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("conformance") / "instance"
    cubeport.Catalog.create(root).close()
    with cubeport.connect(root) as service:
        for name, family in FAMILIES.items():
            if family.suffix == ".nc":
                file = family.write(root.parent, name)
                done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(file),)))
                assert done.status == "completed", done.error
    process, url = start(root)
    yield Site(url, root.parent)
    stop(process)
