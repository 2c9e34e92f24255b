"""The how-to pages of sources work as written, with a provider and a store in the place of those that they name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from tests.e2e.conftest import cli, start, stop
from tests.installed import lay_out
from tests.objectstore import KEY, SECRET, ObjectStore
from tests.pages import Follower, blocks
from tests.provided.places import held, instance, name_of, netcdf
from tests.provided.test_others import cube, item
from tests.provider import Provider

import cubeport

# Each command is a process that imports everything: one page is in the default lane, the others in the slow one. What they
# show is tested without processes in this folder.


class Guest(Follower):
    """A reader whose files of a page are written as well, and whose versions have no name."""

    def follow(self, page: str) -> int:
        output, compared = "", 0
        for block in blocks(page):
            text = block.text
            for old, new in self.replace.items():
                text = text.replace(old, new)
            if block.language == "text":
                assert re.sub(r"version [0-9a-f]{32}", "version VERSION", output) == text
                compared += 1
            elif block.title in ("install", "test"):
                output = self.of_package(block.title)
            elif block.title is not None:
                (self.folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / block.title).write_text(text)
            else:
                output = self.run(block)
        return compared

    def of_package(self, what: str) -> str:
        """Do what ``pip install .`` and ``pytest`` of a page do, without an index."""
        site = self.folder / "site"
        if what == "install":
            lay_out(self.folder, site)
            self.environment["PYTHONPATH"] = str(site)
            return ""
        tests = [each.name for each in self.folder.glob("test_*.py")]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.mark.slow
def test_addresses(tmp_path: Path, provider: Provider) -> None:
    for number in range(4):
        provider.put(f"2024/rain_{name_of(number)[2:]}", netcdf(tmp_path, number))
    reader = Guest(tmp_path, replace={"https://provider.example": provider.url})
    assert reader.follow("how-to/addresses.md") == 1


@pytest.mark.slow
def test_stores(tmp_path: Path, object_store: ObjectStore) -> None:
    bucket = object_store.bucket()
    for number in range(3):
        object_store.put(bucket, f"archive/2024/waves_{name_of(number)[2:]}", netcdf(tmp_path, number))
    cube(tmp_path).to_zarr(tmp_path / "grid.zarr", consolidated=False)
    object_store.put_tree(bucket, "archive/grid.zarr", tmp_path / "grid.zarr")
    reader = Guest(tmp_path, replace={"BUCKET": bucket, "https://s3.example": object_store.endpoint})
    reader.environment |= {"ARCHIVE_KEY": KEY, "ARCHIVE_SECRET": SECRET}
    reader.follow("how-to/stores.md")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")
def test_remote_zarr(tmp_path: Path, provider: Provider) -> None:
    import zarr

    whole = cube(tmp_path)
    whole.to_zarr(provider.root / "ocean.zarr", consolidated=False)
    bare = whole[["t"]].drop_vars(["time", "lat", "lon", "height"])
    bare.to_zarr(provider.root / "ocean.zarr", group="deep", mode="a", consolidated=False)
    zarr.consolidate_metadata(str(provider.root / "ocean.zarr"))
    Guest(tmp_path, replace={"https://zarr.example": provider.url}).follow("how-to/remote-zarr.md")


@pytest.mark.slow
def test_stac(tmp_path: Path, provider: Provider) -> None:
    for number in range(3):
        provider.put(f"items/{number}.nc", netcdf(tmp_path, number))
        provider.put(f"items/{number}.json", json.dumps(item(number, f"{number}.nc", sensor="a")).encode())
    links = [{"rel": "item", "href": f"items/{number}.json"} for number in range(3)]
    provider.put("collection.json", json.dumps({"type": "Collection", "id": "c", "links": links}).encode())
    Guest(tmp_path, replace={"https://stac.example": provider.url}).follow("how-to/stac.md")


@pytest.mark.slow
def test_uploads(tmp_path: Path) -> None:
    root = instance(tmp_path / "instance")
    made = cli("keys", "add", "me", "--scope", "ingest", "-i", root, "--json")
    (tmp_path / "rain.nc").write_bytes(netcdf(tmp_path, 0, 1))
    process, url = start(root)
    try:
        reader = Guest(tmp_path, replace={"http://127.0.0.1:8000": url})
        reader.environment["KEY"] = re.findall(r"cp_[A-Za-z0-9_-]+", made.stdout)[0]
        reader.follow("how-to/uploads.md")
        assert json.loads(reader.outputs[-1])["status"] == "completed"
    finally:
        stop(process)


class Installer(Guest):
    """A reader with an environment of their own, because a confined child imports only what is installed."""

    def of_package(self, what: str) -> str:
        env = self.folder / "env"
        if what == "install":
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
            [installed] = env.glob("lib/python*/site-packages")
            # cubeport and its libraries are those of the tests.
            (installed / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
            lay_out(self.folder, installed)
            (env / "bin/cubeport").write_text(f'#!/bin/sh\nexec {env}/bin/python -m cubeport "$@"\n')
            (env / "bin/cubeport").chmod(0o755)
            self.environment["PATH"] = f"{env / 'bin'}{os.pathsep}{self.environment['PATH']}"
            return ""
        tests = [each.name for each in self.folder.glob("test_*.py")]
        command = [env / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.mark.slow
def test_transform_plugin(tmp_path: Path) -> None:
    (tmp_path / "warm.nc").write_bytes(netcdf(tmp_path, 0, 1, add=12.5))
    assert Installer(tmp_path).follow("how-to/transform-plugin.md") == 1
    with cubeport.connect(tmp_path / "farm") as service:
        assert held(service, "warm") == {0: 2.5, 1: 3.5}


def test_source_plugin(tmp_path: Path) -> None:
    assert Guest(tmp_path).follow("how-to/source-plugin.md") == 1
    (tmp_path / "shore/config/datasets/tide.yaml").write_text(
        yaml.safe_dump({"id": "tide", "title": "x", "period_type": "daily", "source": {"kind": "plugin", "name": "tide"}})
    )
    reader = Guest(tmp_path)
    command = [sys.executable, "-m", "cubeport", "ingest", "tide", "--start", "2024-01-01"]
    environment = reader.environment | {"PYTHONPATH": str(tmp_path / "site")}
    refused = subprocess.run(command, cwd=tmp_path / "shore", env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "params.height" in refused.stderr) == (2, True), refused.stderr
