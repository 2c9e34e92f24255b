"""Export: write published datasets to a folder or a bucket as plain Zarr, for readers without a server."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.forms.canonical import dumps
from cubeport.documents import static_stac
from cubeport.documents.stac import Site
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, HashMismatch, InvalidRequest, TargetExists
from cubeport.service.datasets import Datasets
from cubeport.service.ports import ExportTarget, Reader, StoredObject

_PAGE = 100

ZARR_JSON = "zarr.json"
"""The key of metadata in Zarr v3; that of the root has the consolidated metadata of all arrays."""

_THREADS = 16
_AT_ONCE, _AT_ONCE_BYTES = 256, 128 << 20
"""How many objects are written at once, and how many bytes of them are in memory."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    folder: str
    collections: int = 0
    items: int = 0
    size_bytes: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of the published datasets to export, and how."""

    ids: Sequence[str] = ()
    """Ids of datasets; by default all of them."""
    all_versions: bool = False
    """Whether to include older versions; by default, only the published version of each dataset."""
    link: bool = False
    """Whether chunks are hard links to those of the instance, which take no space, instead of copies."""


def export_stac(datasets: Datasets, engine: Reader, folder: Path, site: Site, chosen: Chosen, *, dry_run: bool = False) -> Exported:
    """Write published datasets to a new *folder*, completely or not at all.

    Parameters
    ----------
    site
        The texts of the root Catalog. Links are relative; with a ``public_url``, assets have absolute URLs below it.
    dry_run
        Write nothing, and only return what there would be.

    Raises
    ------
    TargetExists
        If the folder exists.
    NotFound, VersionRemoved
        If a dataset is not published.
    InvalidRequest
        If chunks are to be links, and the folder is on another file system or the engine has no files of its own.
    Corrupt
        If stored bytes are damaged. An export is compared with the manifests.
    """
    if folder.exists():
        raise TargetExists(f"{folder} already exists.", next_step="name another folder, or remove it")
    if dry_run:
        found = [(versions, shown) for shown, versions in _chosen(datasets, chosen)]
        size = sum(
            sum(each.size for each in _entries(engine.manifest(shown.texts.dataset_id, version)))
            for versions, shown in found
            for version in versions
        )
        return Exported(str(folder), len(found), sum(len(versions) for versions, _ in found), size, dry_run=True)
    with store_errors("write the export"):
        make_folders(folder.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            exported = _written(datasets, engine, part, site, chosen)
            part.chmod(0o755)  # readable for a file server
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return Exported(str(folder), *exported)


def _written(datasets: Datasets, engine: Reader, root: Path, site: Site, chosen: Chosen) -> tuple[int, int, int]:
    children: list[tuple[str, str]] = []
    items = size = 0
    for shown, versions in _chosen(datasets, chosen):
        name = shown.texts.dataset_id
        listed = tuple(each for each in shown.versions if each.version_id in versions)
        _put(root, static_stac.collection_path(name), static_stac.collection(_with(shown, listed), site, versions))
        for version_id in versions:
            [one] = datasets.with_versions([datasets.shown(f"{name}@{version_id}")])
            _put(root, static_stac.item_path(name, version_id), static_stac.item(one, site, versions))
            size += _store(engine, root, name, version_id, link=chosen.link)
        items += len(versions)
        children.append((name, shown.texts.title))
    _put(root, static_stac.ROOT, static_stac.catalog(site, children))
    return len(children), items, size


def _with(shown: PublishedView, listed: tuple[object, ...]) -> PublishedView:
    return shown.model_copy(update={"versions": listed})


def _chosen(datasets: Datasets, chosen: Chosen) -> Iterator[tuple[PublishedView, list[str]]]:
    """Yield each dataset to export, with its versions."""
    for shown in _named(datasets, chosen.ids) if chosen.ids else _published(datasets):
        latest = shown.version.version_id
        yield shown, [each.version_id for each in shown.versions] if chosen.all_versions else [latest]


def _named(datasets: Datasets, ids: Sequence[str]) -> Iterator[PublishedView]:
    yield from datasets.with_versions([datasets.shown(each) for each in dict.fromkeys(ids)], most=10_000)


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


def _store(engine: Reader, root: Path, dataset_id: str, version_id: str, *, link: bool) -> int:
    """Copy or link the objects of a version, and compare each with its digest. Return the total size."""
    manifest = engine.manifest(dataset_id, version_id)
    folder = root / static_stac.store_path(dataset_id, version_id)
    size = 0
    for entry in _entries(manifest):
        target = folder / entry.key
        make_folders(target.parent)
        with _object(engine, dataset_id, version_id, entry) as stored:
            body = _checked(stored, dataset_id, version_id, entry)
            if not link or stored.check is not None:  # a chunk in a source that others own is copied
                target.write_bytes(body)
            else:
                _link(stored, target)
        size += len(body)
    replace_file(root / static_stac.manifest_path(dataset_id, version_id), manifest)
    return size


_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


def _link(stored: StoredObject, target: Path) -> None:
    """Give the file of an object, as it is open, a second name. Raises InvalidRequest."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a folder Python calls linkat, which follows the link of /proc to the file.
            os.link(f"/proc/self/fd/{stored.file.fileno()}", target.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
    except io.UnsupportedOperation as exc:
        words = "The data of this instance are no plain files, so an export cannot link to them."
        raise InvalidRequest(words, next_step="leave --link out: chunks are then copied") from exc
    except OSError as exc:
        if exc.errno not in _NO_LINK:
            raise
        words = f"The export cannot link to the data of the instance: {exc.strerror}."
        raise InvalidRequest(words, next_step="name a folder on the disk of the instance, or leave --link out") from exc


class _Entry(NamedTuple):
    """An object of a version, as its manifest lists it."""

    key: str
    size: int
    sha256: str


def _entries(manifest: bytes) -> list[_Entry]:
    return [_Entry(each["key"], each["size"], each["sha256"]) for each in json.loads(manifest)["entries"]]


def _body(engine: Reader, dataset_id: str, version_id: str, entry: _Entry) -> bytes:
    """Return an object that has the digest of the manifest. Raises Corrupt."""
    with _object(engine, dataset_id, version_id, entry) as stored:
        return _checked(stored, dataset_id, version_id, entry)


@contextmanager
def _object(engine: Reader, dataset_id: str, version_id: str, entry: _Entry) -> Iterator[StoredObject]:
    stored = engine.read(dataset_id, version_id, entry.key)
    if stored is None:
        raise Corrupt(f"{entry.key} of {dataset_id}@{version_id} is missing.", next_step="cubeport fsck")
    with stored.file:
        yield stored


def _checked(stored: StoredObject, dataset_id: str, version_id: str, entry: _Entry) -> bytes:
    body = b"".join(iter(partial(stored.file.read, 1 << 24), b""))
    if hashlib.sha256(body).hexdigest() != entry.sha256:
        raise Corrupt(f"{entry.key} of {dataset_id}@{version_id} is not what was written.", next_step="cubeport fsck")
    return body


# --- one version as plain Zarr --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ZarrExport:
    """The result of an export of one version."""

    url: str
    """The address of the Zarr store."""
    dataset_id: str
    version_id: str
    objects: int
    """How many objects the store has."""
    written: int
    """How many of them this run wrote; the others were there."""
    written_bytes: int
    checked: bool
    """Whether each object was read back and compared."""


def export_zarr(
    engine: Reader, dataset_id: str, version_id: str, target: ExportTarget, name: str, *, check: bool = False
) -> ZarrExport:
    """Write a version to *name* in *target* as plain Zarr v3, with its consolidated metadata last.

    Its manifest is written first, next to the store as ``{name}.manifest.json``. An export that was stopped is continued: only
    missing objects are written. Until the last object is there, readers find no Zarr store.

    Parameters
    ----------
    check
        Whether to read each object back from the target and compare its sha256.

    Raises
    ------
    TargetExists
        If there is anything else at *name*: other objects, or another version.
    Corrupt, SourceChanged
        If stored bytes are damaged, or in a source that has changed.
    HashMismatch
        If the target gives other bytes than were written.
    NoSpace, StoreUnavailable
        If the target cannot be written or read.
    """
    url, manifest = f"{target.url}/{name}", engine.manifest(dataset_id, version_id)
    entries = _entries(manifest)
    there = _there(target, name, url, manifest, frozenset(each.key for each in entries))
    target.clear(name)
    missing = [each for each in entries if there.get(each.key) != each.size]
    for batch in _batches(missing):
        _each(batch, lambda entry: target.put(f"{name}/{entry.key}", _body(engine, dataset_id, version_id, entry)))
    if check:
        for batch in _batches(entries):
            _each(batch, lambda entry: _compare(target, name, url, entry))
    written = sum(each.size for each in missing)
    return ZarrExport(url, dataset_id, version_id, len(entries), len(missing), written, check)


def _there(target: ExportTarget, name: str, url: str, manifest: bytes, keys: frozenset[str]) -> Mapping[str, int]:
    """Return what an earlier run of the same export wrote; write the manifest if this is the first run. Raises TargetExists."""
    beside = f"{name}.manifest.json"
    held = target.read(beside)
    if held is None:
        there = target.listed(name)
        if there:
            raise _exists(f"{url} already contains {min(there)}, which no export wrote.")
        if (other := target.within(name)) is not None:
            raise _exists(f"{url} is inside the export {other}, which could then not be repeated.")
        if target.create(beside, manifest):
            return {}
        held = target.read(beside)
    if held != manifest:
        raise _exists(f"{url} contains another version or another dataset.")
    there = target.listed(name)
    if others := there.keys() - keys:
        raise _exists(f"{url} already contains {min(others)}, which does not belong to this version.")
    return there


def _exists(words: str) -> TargetExists:
    return TargetExists(words, next_step="name another prefix or folder, for example with the version: …/ID@VERSION")


def _compare(target: ExportTarget, name: str, url: str, entry: _Entry) -> None:
    body = target.read(f"{name}/{entry.key}")
    if body is None or hashlib.sha256(body).hexdigest() != entry.sha256:
        raise HashMismatch(
            f"{entry.key} at {url} is not what was written.", next_step=f"remove {entry.key} there, and export again"
        )


def _batches(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Yield the entries in groups that are written at once: first values, then metadata, last the root, which makes it a store."""
    for _, same in groupby(sorted(entries, key=_rank), _rank):
        group: list[_Entry] = []
        size = 0
        for entry in same:
            if group and (len(group) == _AT_ONCE or size + entry.size > _AT_ONCE_BYTES):
                yield group
                group, size = [], 0
            group.append(entry)
            size += entry.size
        yield group


def _rank(entry: _Entry) -> int:
    return 2 if entry.key == ZARR_JSON else int(entry.key.endswith(f"/{ZARR_JSON}"))


def _each(entries: Sequence[_Entry], act: Callable[[_Entry], None]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(act, entries))
