"""The lane ``conformance``: clients that nobody here wrote, installed from PyPI and npm into environments of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import start, stop
from tests.families import FAMILIES

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

CLIENTS = (
    "stac-api-validator", "pydap", "odc-stac", "pystac-client", "xpystac", "netCDF4", "zarr", "xarray", "aiohttp", "requests",
    "rio-tiler[zarr]", "zarr-cm", "rocrate", "openlineage-python", "obstore", "owslib", "erddapy", "h5netcdf", "exactextract",
    "rasterstats", "rustac",
)  # fmt: skip
"""Newest releases: what a user has who installs them today."""

VALIDATORS = ("stac-validator", "stac-valid", "stac-check", "compliance-checker", "schemathesis", "lxml", "gdal-wheel", "numpy")
"""Programs that judge documents and files. They ask for other versions of some packages than the clients do."""

XSD = "MapProxy==7.0.0"
"""A package that carries the XSD schemas of WMS 1.3.0 and WMTS 1.0, which OGC itself has in no package registry."""

NODE = ("stac-node-validator@1.3.2", "zarrita@0.7.5")


ESBUILD = "esbuild@0.28.2"


def bundled(config: pytest.Config, name: str, packages: Sequence[str], script: Path) -> Path:
    """Return a folder with a page that runs *script* with *packages* of npm, which are installed once."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    folder = Path(config.cache.mkdir("conformance")) / name  # type: ignore[union-attr]
    ready, wanted = folder / "ready", " ".join((*packages, ESBUILD))
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages, ESBUILD]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"packages of npm cannot be installed: {done.stderr.strip()[-200:]}")
        ready.write_text(wanted)
    shutil.copy(script, folder)
    bundle = ["npx", "--no-install", "esbuild", script.name]
    bundle += ["--bundle", "--format=iife", "--outfile=bundle.js", "--log-level=error"]
    subprocess.run(bundle, cwd=folder, check=True, capture_output=True)
    (folder / "index.html").write_text('<!doctype html><meta charset="utf-8"><body><script src="bundle.js"></script>')
    return folder


@dataclass(frozen=True)
class Clients:
    """A Python with the clients."""

    folder: Path

    def run(self, *arguments: str, timeout: float = 240, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.folder / "bin" / command), *rest],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=own,
            cwd=cwd,
        )

    def python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-W", "ignore", "-c", script, *arguments)

    def told(self, script: str, *arguments: str) -> Any:
        """Return what a script printed last, as JSON."""
        done = self.python(script, *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().splitlines()[-1])


def installed(config: pytest.Config, name: str, packages: Sequence[str], *bare: str) -> Path:
    """Install packages into an environment of their own, once; ``--cache-clear`` installs them anew.

    Without an index, every test that needs them is skipped. *bare* are installed without what they depend on.
    """
    folder = Path(config.cache.mkdir("conformance")) / name  # type: ignore[union-attr]
    ready, wanted = folder / "ready", "\n".join((*packages, *bare))
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        for arguments in (packages, ("--no-deps", *bare) if bare else ()):
            found = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False) if arguments else None
            if found is not None and found.returncode != 0:
                pytest.skip(f"{name} cannot be installed: {found.stderr.strip().splitlines()[-1:]}")
        ready.write_text(wanted)
    return folder


@pytest.fixture(scope="session")
def clients(pytestconfig: pytest.Config) -> Clients:
    return Clients(installed(pytestconfig, "clients", CLIENTS))


@pytest.fixture(scope="session")
def validators(pytestconfig: pytest.Config) -> Clients:
    return Clients(installed(pytestconfig, "validators", VALIDATORS, XSD))


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Path:
    """Return a folder with packages of npm."""
    folder = Path(pytestconfig.cache.mkdir("conformance")) / "node"  # type: ignore[union-attr]
    ready = folder / "ready"
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    if not ready.exists() or ready.read_text() != "\n".join(NODE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *NODE], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"packages of npm cannot be installed: {done.stderr.strip()[-200:]}")
        ready.write_text("\n".join(NODE))
    return folder


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
