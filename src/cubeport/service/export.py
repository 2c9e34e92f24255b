"""Export: write published datasets to a folder for any file server, with STAC documents and Zarr stores."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.forms.canonical import dumps
from cubeport.documents import static_stac
from cubeport.documents.stac import Site
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, TargetExists
from cubeport.service.datasets import Datasets
from cubeport.service.ports import Reader

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    folder: str
    collections: int = 0
    items: int = 0
    size_bytes: int = 0


def export_stac(datasets: Datasets, engine: Reader, folder: Path, site: Site, *, all_versions: bool = False) -> Exported:
    """Write all published datasets to a new *folder*, completely or not at all.

    Parameters
    ----------
    site
        The texts of the root Catalog. Links are relative; with a ``public_url``, assets have absolute URLs below it.
    all_versions
        Whether to include older versions; by default, only the published version of each dataset.

    Raises
    ------
    TargetExists
        If the folder exists.
    Corrupt
        If stored bytes are damaged. An export is compared with the manifests.
    """
    if folder.exists():
        raise TargetExists(f"{folder} already exists.", next_step="name another folder, or remove it")
    with store_errors("write the export"):
        make_folders(folder.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            exported = _written(datasets, engine, part, site, all_versions=all_versions)
            part.chmod(0o755)  # readable for a file server
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return Exported(str(folder), *exported)


def _written(datasets: Datasets, engine: Reader, root: Path, site: Site, *, all_versions: bool) -> tuple[int, int, int]:
    children: list[tuple[str, str]] = []
    items = size = 0
    for shown in _published(datasets):
        name, latest = shown.texts.dataset_id, shown.version.version_id
        versions = [each.version_id for each in shown.versions] if all_versions else [latest]
        listed = tuple(each for each in shown.versions if each.version_id in versions)
        _put(root, static_stac.collection_path(name), static_stac.collection(_with(shown, listed), site, versions))
        for version_id in versions:
            [one] = datasets.with_versions([datasets.shown(f"{name}@{version_id}")])
            _put(root, static_stac.item_path(name, version_id), static_stac.item(one, site, versions))
            size += _store(engine, root, name, version_id)
        items += len(versions)
        children.append((name, shown.texts.title))
    _put(root, static_stac.ROOT, static_stac.catalog(site, children))
    return len(children), items, size


def _with(shown: PublishedView, listed: tuple[object, ...]) -> PublishedView:
    return shown.model_copy(update={"versions": listed})


def _published(datasets: Datasets) -> Iterator[PublishedView]:
    cursor: str | None = None
    while True:
        page = datasets.page(limit=_PAGE, cursor=cursor)
        if page.damaged:
            raise Corrupt(f"{', '.join(page.damaged)} cannot be read, and would be missing.", next_step="cubeport fsck")
        yield from datasets.with_versions(page.items, most=10_000)
        if (cursor := page.next) is None:
            return


def _put(root: Path, path: str, document: object) -> None:
    target = root / path
    make_folders(target.parent)
    replace_file(target, dumps(document, indent=True).encode() + b"\n")


def _store(engine: Reader, root: Path, dataset_id: str, version_id: str) -> int:
    """Copy the objects and the manifest of a version, and compare each object with its digest. Return the total size."""
    manifest = engine.manifest(dataset_id, version_id)
    folder = root / static_stac.store_path(dataset_id, version_id)
    size = 0
    for entry in json.loads(manifest)["entries"]:
        stored = engine.read(dataset_id, version_id, entry["key"])
        if stored is None:
            raise Corrupt(f"{entry['key']} of {dataset_id}@{version_id} is missing.", next_step="cubeport fsck")
        digest, target = hashlib.sha256(), folder / entry["key"]
        make_folders(target.parent)
        with stored.file as source, target.open("wb") as out:
            while piece := source.read(1 << 20):
                digest.update(piece)
                size += out.write(piece)
        if digest.hexdigest() != entry["sha256"]:
            raise Corrupt(f"{entry['key']} of {dataset_id}@{version_id} is not what was written.", next_step="cubeport fsck")
    replace_file(root / static_stac.manifest_path(dataset_id, version_id), manifest)
    return size
