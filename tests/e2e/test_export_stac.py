"""``cubeport export stac``: what a plain file server serves is read by pystac, pystac-client, xpystac and xarray."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac_client
import pytest
import xarray as xr
from tests.families import FAMILIES

import cubeport
from cubeport.errors import Corrupt, TargetExists
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import here

NAMES = ("regular", "packed", "projected")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "instance"
    cubeport.Catalog.create(root).close()
    with cubeport.connect(root) as service:
        for name in (*NAMES, "hidden"):
            file = FAMILIES["regular" if name == "hidden" else name].write(root.parent, name)
            for again in range(2 if name == "regular" else 1):
                request = IngestionRequest(dataset_id=name, publish=name != "hidden", overwrite=bool(again))
                if again:
                    changed = FAMILIES[name].make()
                    changed["t"] = (changed.t + 5000).assign_attrs(changed.t.attrs)
                    changed.to_netcdf(file)
                done = service.ingest_here(request, FileOptions(files=(str(file),)))
                assert done.status == "completed", done.error
    return root


@pytest.fixture(scope="module")
def served(instance: Path) -> Iterator[tuple[str, Path]]:
    folder = instance.parent / "static"
    yield from _served(instance, folder)


@pytest.fixture(scope="module")
def served_by_address(instance: Path) -> Iterator[tuple[str, Path]]:
    yield from _served(instance, instance.parent / "absolute", with_url=True)


def _served(instance: Path, folder: Path, *, with_url: bool = False) -> Iterator[tuple[str, Path]]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        more = ["--url", url] if with_url else []
        done = here("--instance", instance, "export", "stac", folder, "--all-versions", *more, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["collections"], said["items"]) == (3, 4)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield url, folder
        server.shutdown()


def test_pystac_walks_it_from_a_file_server_and_finds_nothing_wrong(served: tuple[str, Path]) -> None:
    url, _ = served
    catalog = pystac.Catalog.from_file(f"{url}/catalog.json")
    assert sorted(each.id for each in catalog.get_children()) == sorted(NAMES)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The item .* is deprecated")
        items = list(catalog.get_items(recursive=True))
        assert len(items) == 4
        for item in items:
            parent = item.get_collection()
            assert parent is not None
            assert item.id in {each.id for each in parent.get_items()}
            assert item.get_root() is not None


def test_pystac_client_and_xpystac_open_what_it_links(served_by_address: tuple[str, Path], instance: Path) -> None:
    url, _ = served_by_address
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated|Server does not|Falling back")
        client = pystac_client.Client.open(f"{url}/catalog.json")
        for collection in client.get_children():
            with xr.open_dataset(instance.parent / f"{collection.id}.nc") as truth:
                for name in ("zarr", "zarr-pinned"):
                    with xr.open_dataset(collection.assets[name], engine="stac") as found:
                        assert np.array_equal(found.t.values, truth.t.values, equal_nan=True), (collection.id, name)


def _documents(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*.json") if path.parent.name != "zarr"]


def test_every_link_leads_to_a_file_of_the_export(served: tuple[str, Path]) -> None:
    _, folder = served
    documents = [folder / "catalog.json", *_documents(folder)]
    assert len(documents) == 1 + 3 + 4
    for path in documents:
        text = path.read_text()
        assert "static.invalid" not in text
        assert "127.0.0.1" not in text
        document = json.loads(text)
        assert not [each for each in document["links"] if each["rel"] in ("self", "search", "data", "conformance", "items")]
        hrefs = [each["href"] for each in (*document["links"], *document.get("assets", {}).values())]
        for href in (each for each in hrefs if not each.startswith("http")):
            assert (path.parent / href).exists(), (path.name, href)
    assert "conformsTo" not in json.loads((folder / "catalog.json").read_text())


def test_the_documents_are_as_the_schemas_have_them(served: tuple[str, Path], schemas: Path) -> None:
    from tests.documents.validation import problems

    _, folder = served
    for path in _documents(folder):
        assert problems(json.loads(path.read_text()), schemas) == []


def test_one_version_of_each_goes_out_unless_more_are_asked_for(instance: Path, tmp_path: Path) -> None:
    with cubeport.connect(instance) as service:
        found = service.export_stac(tmp_path / "small")
        assert (found.collections, found.items) == (3, 3)
        with pytest.raises(TargetExists):
            service.export_stac(tmp_path / "small")


def test_named_datasets_go_out_as_links_and_a_dry_run_writes_nothing(instance: Path, tmp_path: Path) -> None:
    command = ("--instance", instance, "export", "static", tmp_path / "out", "packed", "regular", "--link", "--json")
    planned = here(*command, "--dry-run")
    assert (planned.returncode, list(tmp_path.iterdir())) == (0, []), planned.stderr
    done = here(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(planned.stdout) == {**json.loads(done.stdout), "dry_run": True}
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["catalog.json", "packed", "regular", "zarr"]
    [store] = (tmp_path / "out/zarr").glob("packed@*/")
    chunks = [each for each in store.rglob("*") if each.is_file()]
    assert chunks
    assert all(each.stat().st_nlink > 1 for each in chunks)
    assert here("--instance", instance, "export", "static", tmp_path / "more", "hidden").returncode == 3
    elsewhere = Path("/dev/shm") / f"cubeport-{tmp_path.name}"
    if elsewhere.parent.is_dir() and elsewhere.parent.stat().st_dev != tmp_path.stat().st_dev:
        refused = here("--instance", instance, "export", "static", elsewhere, "packed", "--link")
        assert (refused.returncode, "leave --link out" in refused.stderr, elsewhere.exists()) == (2, True, False)


def test_damage_stops_an_export_and_leaves_nothing(instance: Path, tmp_path: Path) -> None:
    chunk = next(path for path in (instance / "data").rglob("c/0/0/0") if "packed" in str(path))
    whole = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with cubeport.connect(instance) as service, pytest.raises(Corrupt):
            service.export_stac(tmp_path / "damaged")
        assert list(tmp_path.iterdir()) == []
    finally:
        chunk.write_bytes(whole)
