"""Looking after versions: ``fsck`` compares them with their rows and manifests, ``gc`` finds what no row keeps.

Bytes are listed first, then the journals of running operations, then the rows: nothing that lives can look orphaned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cubeport.catalog.backend import CatalogBackend, Finding, Row
from cubeport.catalog.forms.canonical import is_id, timestamp
from cubeport.catalog.keeping.gc import STRANGE
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.parts import Garbage
from cubeport.catalog.work.journal import Journal
from cubeport.service.ports import Listed, Lister
from cubeport.service.state import JOB, VERSION, VersionState
from cubeport.service.workers import Workers

_TRASH = re.compile(r"trash-[0-9a-f]{32}")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class VersionKeeper:
    """Looks after the versions of one catalog."""

    backend: CatalogBackend
    journal: Journal
    listers: Mapping[str, Lister]
    """By engine."""
    profile: str
    """The profile whose root the listed paths count from."""
    workers: Workers | None = None
    """Who runs jobs."""

    def garbage(self) -> list[Garbage]:
        """Return staging and versions that no running operation and no row keeps."""
        staged = {each.path: (lister, each) for lister in self.listers.values() for each in lister.staged()}
        stored = [(lister, each) for lister in self.listers.values() for _, each in lister.versions()]
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
        """Return why nothing keeps the version, or ``None``."""
        if row is None:
            return "no row names this version" if is_id(each.name) else STRANGE
        if row.state == "removed":
            return "this version was removed"
        return None if self.backend.get_record(row.owner) is not None else "the dataset of this version was purged"

    def _garbage(self, lister: Lister, each: Listed, kind: str, reason: str) -> Garbage:
        at = timestamp(datetime.fromtimestamp(each.modified_s, UTC))
        return Garbage(self.profile, each.path, lister.size(each.path), at, reason, reason != STRANGE, kind=kind)

    def faults(self, *, data: bool) -> Iterator[Finding]:
        """Yield what is wrong with the versions that rows keep; with *data*, every byte is read."""
        places = {name: {each.name: each.path for _, each in lister.versions()} for name, lister in self.listers.items()}
        for row in self._rows():
            record = self.backend.get_record(row.owner)
            if row.state == "removed" or record is None:
                continue
            name = f"{_dataset(record)}@{row.id}"
            version = VersionState.model_validate(row.document)
            lister = self.listers.get(version.engine)
            if lister is None:
                words = f"its engine {version.engine!r} is not installed here"
                yield Finding("missing-data", name, words, "install the release or the extra that wrote it")
                continue
            path = places[version.engine].get(row.id)
            if path is None:
                yield Finding("missing-data", name, "its folder is not in the store", "restore it from a copy")
                continue
            for kind, key in lister.faults(path, digest=version.digest, data=data):
                yield Finding(kind, f"{name}/{key}", _WORDS[kind], "restore it from a copy, or ingest again with overwrite")

    def problems(self) -> Iterator[Finding]:
        """Yield jobs whose worker is dead: any process that looks at jobs ends them."""
        if self.workers is None:
            return
        for row in self.backend.rows.select(JOB, states=["running"], limit=1000):
            if self.workers.is_dead(str(row.document.get("worker"))):
                what = f"the ingestion of {row.owner} is running, and its process is dead"
                yield Finding("dead-worker", row.id, what, f"cubeport jobs {row.id}", "warn")

    def _rows(self) -> Iterator[Row]:
        after: tuple[int, str] | None = None
        while rows := self.backend.rows.select(VERSION, after=after, limit=_PAGE):
            yield from rows
            after = rows[-1].seq, rows[-1].id


_WORDS = {
    "missing-object": "is missing",
    "extra-object": "is stored, and the manifest does not list it",
    "size-differs": "has another size than was written",
    "digest-differs": "has other bytes than were written",
}


def _dataset(record: CatalogRecord) -> str:
    return record.key or record.id


def _of_staging(each: Listed, in_work: set[str]) -> str | None:
    """Return why nothing needs the folder, or ``None``: its operation runs, or it is not ours."""
    if is_id(each.name):
        return None if each.name in in_work else f"left by operation {each.name}"
    return "left by removing a version" if _TRASH.fullmatch(each.name) else None
