"""Maintenance of versions: ``fsck`` compares them with their rows and manifests, and ``gc`` finds bytes without a row.

Bytes are listed first, then the journals of running operations, then the rows, so that nothing in use looks orphaned.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubeport.catalog.backend import CatalogBackend, Finding, Row
from cubeport.catalog.forms.canonical import is_id, new_id, now, timestamp
from cubeport.catalog.keeping.gc import STRANGE
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.parts import Garbage
from cubeport.catalog.work.journal import Journal
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.cubes.repairs import flag
from cubeport.errors import CorruptCatalog, Locked
from cubeport.service.advice import OPTIONS
from cubeport.service.changes import announce
from cubeport.service.ports import Listed, Lister
from cubeport.service.publish import with_state
from cubeport.service.state import GONE, JOB, VERSION, DatasetState, Publication, VersionState
from cubeport.service.workers import Workers

COPY = "copy.nc"
"""The key of the NetCDF copy of a version."""
_TRASH = re.compile(r"trash-[0-9a-f]{32}")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class VersionKeeper:
    """Maintains the versions of one catalog."""

    backend: CatalogBackend
    journal: Journal
    listers: Mapping[str, Lister]
    """The listers by engine."""
    profile: str
    """The profile to whose root the listed paths are relative."""
    workers: Workers | None = None
    """The workers that run jobs."""
    lock: Callable[[str], AbstractContextManager[object]] = nullcontext
    """``lock(dataset_id)`` waits for nobody. Raises Locked."""
    _stored: dict[tuple[str, str], tuple[Lister, str, Listed]] = field(default_factory=dict)
    """The versions that :meth:`garbage` has seen, with their datasets, by profile and path."""

    def garbage(self) -> list[Garbage]:
        """Return staging folders and versions that belong to no running operation and no row."""
        staged = {each.path: (lister, each) for lister in self.listers.values() for each in lister.staged()}
        held = [(lister, *each) for lister in self.listers.values() for each in lister.versions()]
        self._stored.update({(lister.profile or self.profile, each.path): (lister, owner, each) for lister, owner, each in held})
        stored = [(lister, each) for lister, _, each in held]
        in_work = set(self.journal.open_ids())
        making = {each["path"] for op in in_work for line in self.journal.read(op) for each in line.data.get("compensations", ())}
        found = [
            self._garbage(lister, each, "orphan-staging", reason)
            for lister, each in staged.values()
            if (reason := _of_staging(each, in_work))
        ]
        for start in range(0, len(stored), _PAGE):
            part = stored[start : start + _PAGE]
            rows = self.backend.rows.get_many(VERSION, [each.name for _, each in part])
            for lister, each in part:
                if each.path not in making and (reason := self._of_version(each, rows.get(each.name))):
                    found.append(self._garbage(lister, each, "orphan-version", reason))
        return found

    def _of_version(self, each: Listed, row: Row | None) -> str | None:
        """Return why the version is garbage, or ``None``."""
        if row is None:
            return "no row names this version" if is_id(each.name) else STRANGE
        if self.backend.get_record(row.owner) is None:
            return "the dataset of this version was purged"
        # A "removed" version keeps its bytes for earlier readers; retention frees them.
        return "this version was removed" if row.state in GONE and row.state != "removed" else None

    def _garbage(self, lister: Lister, each: Listed, kind: str, reason: str) -> Garbage:
        at = timestamp(datetime.fromtimestamp(each.modified_s, UTC))
        elsewhere = lister.profile if kind == "orphan-version" else None
        size, ours = lister.size(each.path), reason != STRANGE
        return Garbage(elsewhere or self.profile, each.path, size, at, reason, ours, kind=kind, is_file=elsewhere is None)

    def remove(self, each: Garbage, *, instead: Callable[[], object] | None = None) -> bool:
        """Remove a version under the lock of its dataset, or do something else with it *instead*, if it still is what no row names.
        It can have come again from the service that it mirrors, in the same place.
        """
        if (each.profile, each.path) not in self._stored:
            return False
        lister, dataset_id, stored = self._stored[each.profile, each.path]
        with suppress(Locked), self.lock(dataset_id):
            if self._of_version(stored, self.backend.rows.get(VERSION, stored.name)) is not None:
                if instead is None:
                    lister.drop(dataset_id, stored.name)
                else:
                    instead()
                return True
        return False

    def collect(self, *, dry_run: bool) -> Iterator[Garbage]:
        """Free what no version has, of each dataset in an object store under its lock. A busy dataset is left for the next time."""
        for lister in self.listers.values():
            for dataset_id in lister.datasets():
                with suppress(Locked), self.lock(dataset_id):
                    freed = lister.collect(dataset_id, self._kept(dataset_id), dry_run=dry_run)
                    if freed:
                        why = "no version of the dataset has these objects"
                        profile, at = lister.profile or self.profile, timestamp(now())
                        yield Garbage(profile, dataset_id, freed, at, why, ours=True, removed=not dry_run, is_file=False)

    def _kept(self, dataset_id: str) -> list[str]:
        """Return the versions of a dataset whose bytes must stay. A removed one is read until retention frees it."""
        record = self.backend.get_by_key(dataset_id)
        if record is None:
            return []
        return [row.id for row in self._rows(owner=record.id) if row.state not in GONE or row.state == "removed"]

    def faults(self, *, data: bool, after: str = "", owner: str | None = None) -> Iterator[tuple[str, Finding | None]]:
        """Yield each object of the versions with a row, with its problem or ``None``. With *data*, every byte is read."""
        places = self._places()
        begin, begun_key = _place(after)
        for row in self._rows(begin, owner):
            key_after = begun_key if begin is not None and (row.seq, row.id) == begin else ""
            for key, finding in self._of_row(row, places, data=data, after=key_after):
                yield f"{row.seq} {row.id} {key}", finding
        if owner is None:
            for name, lister in self.listers.items():
                for path in lister.strays():
                    yield (
                        _LAST,
                        Finding("unknown-file", f"{self.profile}:{path}", f"no version of the engine {name} has it", "inspect it"),
                    )

    def _places(self) -> dict[str, dict[str, str]]:
        """Return the path of each version by its id, by engine."""
        return {name: {each.name: each.path for _, each in lister.versions()} for name, lister in self.listers.items()}

    def _of_row(
        self, row: Row, places: Mapping[str, Mapping[str, str]], *, data: bool, after: str
    ) -> Iterator[tuple[str, Finding | None]]:
        if row.state in GONE or (record := self._record(row)) is None:
            return
        name = f"{_dataset(record)}@{row.id}"
        version = VersionState.of(row.document)
        lister = self.listers.get(version.engine)
        if lister is None:
            words = f"its engine {version.engine!r} is not installed here"
            yield "", Finding("engine-missing", name, words, "install the release or the extra that wrote it")
            return
        path = places[version.engine].get(row.id)
        if path is None and lister.is_unnamed(_dataset(record), row.id):
            words = "no tag names its snapshot, so that nothing but the catalog leads to it"
            yield "", Finding("untagged-snapshot", name, words, "cubeport gc, which gives it a tag again")
            return
        if path is None:
            yield "", Finding("missing-data", name, "its folder is not in the store", _CURE)
            return
        copy = next(((each["size_bytes"], each["sha256"]) for each in version.copies), None)
        again: str | None = None
        for kind, key in lister.faults(path, digest=version.digest, data=data, after=after, copy=copy):
            at = lister.source(path, key) or key if kind in _OF_SOURCES else key
            cure = _OF_SOURCES.get(kind or "", _CURE_OF_COPY if key == COPY and kind != "extra-object" else _CURE)
            if kind == "source-changed":
                again = again or self._again(DatasetState.of(record), version, lister.sources(path))
                cure = cure.format(again=again)
            yield key, None if kind is None else Finding(kind, f"{name}/{at}", _WORDS[kind], cure)

    def _again(self, state: DatasetState, version: VersionState, pointed: Mapping[str, str]) -> str:
        """Return what to do about a version whose sources have changed. The newest can be made again from all files of its dataset:
        *pointed*, by how a request names them, with their sha256, and those that were copied, whose folders nobody recorded.
        """
        removed = "remove the version with `cubeport fsck --repair`"
        dataset_id = state.texts.dataset_id
        if version.version_id not in (state.latest, state.head):
            return removed
        if state.source_dataset_id is not None:
            return f"publish it again with `cubeport ingest {dataset_id} --overwrite`, or {removed}"
        copied = [each["name"] for each in self._made_from(version) if each["sha256"] not in pointed.values()]
        storage = "auto" if copied else "virtual"
        steps = (flag(each, option) for name, option in OPTIONS.items() for each in version.steps.get(name, ()))
        files = shlex.join((*pointed, *copied))
        command = " ".join((f"cubeport ingest {files} --id {dataset_id} --replace --storage {storage}", *steps))
        return f"publish it again with `{command}`, or {removed}"

    def _made_from(self, version: VersionState) -> list[dict[str, Any]]:
        """Return the sources of a version and of those that it was updated from, in the order of the updates."""
        sources = [*version.sources]
        while version.parent_id is not None and version.kind not in ("created", "replaced", "rematerialized"):
            row = self.backend.rows.get(VERSION, version.parent_id)
            if row is None:
                break
            version = VersionState.of(row.document)
            sources = [*version.sources, *sources]
        return sources

    def _record(self, row: Row) -> CatalogRecord | None:
        try:
            return self.backend.get_record(row.owner)
        except CorruptCatalog:  # the backend's own check reports it
            return None

    def repair(self, ports: Ports, findings: Sequence[Finding], quarantine: Path) -> list[str]:
        """Unpublish broken versions, mark them as ``missing`` and move their bytes to *quarantine*. Return what was done. Bytes in
        a bucket stay where they are.

        An object that no manifest lists is moved alone, because the version is complete without it, and so is a damaged NetCDF
        copy: the version then says that it has none. Pointers to a broken version move to the newest complete version. If the
        published version is broken, the dataset is unpublished, and a person must choose what to publish.

        Each version is looked at again under the lock of its dataset, because it can have been restored since it was checked. One
        whose dataset is busy stays as it is, with its finding.
        """
        places, done = self._places(), list[str]()
        for version_id, kinds in _kinds(findings).items():
            row = self.backend.rows.get(VERSION, version_id)
            if row is None or (record := self._record(row)) is None:
                continue
            with suppress(Locked), self.lock(_dataset(record)):
                done += self._repaired(ports, version_id, places, quarantine, data="digest-differs" in kinds)
        return done

    def _repaired(
        self, ports: Ports, version_id: str, places: Mapping[str, Mapping[str, str]], quarantine: Path, *, data: bool
    ) -> Iterator[str]:
        """Repair a version, and yield what was done."""
        row = self.backend.rows.get(VERSION, version_id)
        record = None if row is None else self._record(row)
        if row is None or record is None or (lister := self.listers.get(VersionState.of(row.document).engine)) is None:
            return
        faults = [finding for _, finding in self._of_row(row, places, data=data, after="") if finding is not None]
        extra, copy, is_broken = _sorted(faults)
        path = None if lister.profile is not None else places[VersionState.of(row.document).engine].get(version_id)

        def move(place: str, name: str) -> None:
            ports.profiles.get(self.profile).quarantine(place, quarantine / f"{new_id()[:8]}-{name}")

        if is_broken:
            yield self._mark(ports, record, row, moves=path is not None)
            if path is not None:
                move(path, version_id)
            return
        if copy is not None:
            yield self._without_copy(ports, record, row)
            extra += [COPY] if copy else []
        if path is not None:
            for key in extra:
                move(lister.object(path, key), key.rpartition("/")[2])
                if key != COPY:
                    yield f"{version_id}/{key}: moved to quarantine"

    def _without_copy(self, ports: Ports, record: CatalogRecord, row: Row) -> str:
        """Write in the row of a version that it has no copy. Downloads of all of it are then made from the cube."""
        version = VersionState.of(row.document).model_copy(update={"copies": ()})
        with UnitOfWork(ports, "repair", inputs=[record.id], parameters={"version_id": row.id, "format": "netcdf"}) as work:
            work.update_record(record)
            announce(work, self.backend, record, record, "metadata")
            work.join(lambda: self.backend.rows.put(version.row(row.owner, state=row.state, revision=row.revision)))
            work.commit()
        return f"{_dataset(record)}@{row.id}/{COPY}: moved to quarantine; the version has no copy now"

    def _mark(self, ports: Ports, record: CatalogRecord, row: Row, *, moves: bool) -> str:
        state = DatasetState.of(record)
        rows = self.backend.rows.select(VERSION, owner=record.id, states=["retained"], descending=True, limit=_PAGE)
        whole = next((each.id for each in rows if each.id != row.id), None)
        shown = state.published and state.latest == row.id
        moved = state.model_copy(
            update={
                "latest": whole if state.latest == row.id else state.latest,
                "head": whole if state.head == row.id else state.head,
                "tags": {tag: version for tag, version in state.tags.items() if version != row.id},
                "publication": Publication() if shown else state.publication,
            }
        )
        version = VersionState.of(row.document)
        with UnitOfWork(ports, "repair", inputs=[record.id], parameters={"version_id": row.id}) as work:
            after = with_state(record, moved)
            work.update_record(after)
            announce(work, self.backend, record, after, "unpublished")
            work.join(lambda: self.backend.rows.put(version.row(row.owner, state="missing", revision=row.revision)))
            work.commit()
        said = f"{_dataset(record)}@{row.id}: marked missing{' and moved to quarantine' if moves else ''}"
        return f"{said}; {_dataset(record)} is unpublished: ingest it again, or publish an older version" if shown else said

    def problems(self) -> Iterator[Finding]:
        """Yield jobs whose worker is dead. Any process that reads jobs ends them."""
        if self.workers is None:
            return
        for row in self.backend.rows.select(JOB, states=["running"], limit=1000):
            if self.workers.is_dead(str(row.document.get("worker"))):
                what = f"the ingestion of {row.owner} is running, and its process is dead"
                yield Finding("dead-worker", row.id, what, f"cubeport jobs {row.id}", "warn")

    def _rows(self, begin: tuple[int, str] | None = None, owner: str | None = None) -> Iterator[Row]:
        """Yield the rows of versions, starting with *begin*."""
        if begin is not None and (
            first := self.backend.rows.select(VERSION, owner=owner, after=(begin[0], begin[1][:-1]), limit=1)
        ):
            yield from (row for row in first if (row.seq, row.id) == begin)
        after = begin
        while rows := self.backend.rows.select(VERSION, owner=owner, after=after, limit=_PAGE):
            yield from rows
            after = rows[-1].seq, rows[-1].id


_WORDS = {
    "missing-object": "is missing",
    "extra-object": "is stored, and the manifest does not list it",
    "size-differs": "has a different size than was written",
    "digest-differs": "has different bytes than were written",
    "source-changed": "has changed since the version was published that points into it",
    "source-missing": "is not there, or in no folder of sources.roots and no profile for sources any more",
    "source-unavailable": "cannot be read now, or its store gives other bytes than it had",
}


_OF_SOURCES = {
    "source-changed": "{again}",
    "source-missing": "bring it back, or name its folder in sources.roots again",
    "source-unavailable": "try again when the store can be reached, as a user who may read the file",
}
"""What to do about a source. It has one finding, whatever the number of chunks in it."""

_CURE = "restore it from a copy, or remove it with --repair and ingest it again"
_CURE_OF_COPY = "remove it with --repair: the version stays, and its ingestion makes the copy again with --netcdf-copy"
_BROKEN = ("missing-data", "missing-object", "size-differs", "digest-differs", "source-changed")
"""What --repair takes off the faces; a source that is not there may only not be mounted."""
_LAST = f"{10**18} {'f' * 32} "
"""A place after all versions."""


def _place(text: str) -> tuple[tuple[int, str] | None, str]:
    """Return the row and the key of a place."""
    if not text:
        return None, ""
    seq, row_id, key = text.split(" ", 2)
    return (int(seq), row_id), key


def _kinds(findings: Sequence[Finding]) -> dict[str, set[str]]:
    """Return the kinds of the findings of each version, from the places ``dataset@version/key``."""
    found: dict[str, set[str]] = {}
    for each in findings:
        version_id = each.place.partition("@")[2].partition("/")[0]
        if is_id(version_id):
            found.setdefault(version_id, set()).add(each.kind)
    return found


def _sorted(findings: Iterable[Finding]) -> tuple[list[str], bool | None, bool]:
    """Return the keys of a version's extra objects, whether its NetCDF copy is stored if that is broken, and whether the version is
    broken itself.
    """
    extra: list[str] = []
    copy, is_broken = None, False
    for each in findings:
        key = each.place.partition("/")[2]
        if each.kind == "extra-object":
            extra.append(key)
        elif each.kind in _BROKEN and key == COPY:
            copy = each.kind != "missing-object"
        elif each.kind in _BROKEN:
            is_broken = True
    return extra, copy, is_broken


def _dataset(record: CatalogRecord) -> str:
    return record.key or record.id


def _of_staging(each: Listed, in_work: set[str]) -> str | None:
    """Return why the folder is garbage, or ``None`` if its operation is running or it is not ours."""
    if is_id(each.name):
        return None if each.name in in_work else f"left by operation {each.name}"
    return "left by removing a version" if _TRASH.fullmatch(each.name) else None
