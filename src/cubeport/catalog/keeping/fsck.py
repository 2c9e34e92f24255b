"""``fsck``: compare the catalog with its stores, in both directions."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.durable import replace_file
from cubeport.catalog.forms.canonical import is_id, new_id
from cubeport.catalog.keeping.gc import garbage
from cubeport.catalog.keeping.integrity import verify
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.parts import CatalogParts, Keeper
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import CorruptCatalog


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of ``fsck``."""

    findings: tuple[Finding, ...]
    complete: bool
    """False if the time limit stopped it; ``--resume`` continues."""
    records: int
    artifacts: int
    repaired: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each kind."""
        return dict(Counter(each.kind for each in self.findings))


class FsckOptions(TypedDict, total=False):
    """The options of :func:`fsck`."""

    data: bool
    time_limit_s: float | None
    resume: bool
    repair: bool


_VERDICTS: Mapping[str, str] = {
    "missing": "missing-object",
    "size-differs": "size-differs",
    "hash-differs": "digest-differs",
    "unreachable": "store-unavailable",
}
_CHECKPOINT_RECORDS = 1_000


@dataclass(slots=True)
class _Progress:
    """The progress of a check. Everything after ``after`` in ``stage`` remains to be checked."""

    path: Path | None
    deadline: float = float("inf")
    stage: int = 0
    """0 for the records, n for the n-th keeper, and then the rest."""
    after: str = ""
    records: int = 0
    artifacts: int = 0
    findings: list[Finding] = field(default_factory=list)

    def due(self) -> bool:
        """Return whether the time limit has passed."""
        return time.monotonic() > self.deadline

    def next_stage(self) -> None:
        """Continue with the next stage."""
        self.stage, self.after = self.stage + 1, ""

    def save(self) -> None:
        if self.path is not None:
            document = {name: getattr(self, name) for name in _KEPT}
            document["findings"] = [{name: getattr(f, name) for name in Finding.__slots__} for f in self.findings]
            replace_file(self.path, json.dumps(document).encode())

    def load(self) -> None:
        if self.path is not None and self.path.is_file():
            document = json.loads(self.path.read_bytes())
            for name in _KEPT:
                setattr(self, name, document.get(name, getattr(self, name)))
            self.findings = [Finding(**each) for each in document["findings"]]

    def clear(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def checked(self, repaired: Sequence[str], *, complete: bool) -> Checked:
        return Checked(tuple(self.findings), complete, self.records, self.artifacts, tuple(repaired))


_KEPT = ("stage", "after", "records", "artifacts")


def fsck(
    ports: Ports,
    parts: CatalogParts,
    record: CatalogRecord | None = None,
    *,
    data: bool = False,
    time_limit_s: float | None = None,
    resume: bool = False,
    repair: bool = False,
) -> Checked:
    """Compare the catalog with its stores: names and sizes, and with *data* every byte.

    Parameters
    ----------
    record
        Check only this record and what it owns. Orphans are then not searched.
    time_limit_s
        Stop after this time, between two files; ``resume`` continues there.
    resume
        Continue where a time limit stopped the last check.
    repair
        Move orphans and broken versions to quarantine, and mark missing artifacts. Nothing is deleted or invented.
    """
    folder = parts.quarantine.parent if parts.quarantine else None
    kept = folder is not None and record is None and (resume or time_limit_s is not None)
    progress = _Progress(folder / "fsck.json" if folder and kept else None)
    if resume:
        progress.load()
    if time_limit_s is not None:
        progress.deadline = time.monotonic() + time_limit_s
    repaired: list[str] = []
    keepers = tuple(parts.keepers())
    stages = (
        partial(_records, ports, record, data=data, repaired=repaired if repair else None),
        *(partial(_kept_by, each, record, data=data) for each in keepers),
    )
    while progress.stage < len(stages):
        if not stages[progress.stage](progress):
            progress.save()
            return progress.checked(repaired, complete=False)
        progress.next_stage()
        progress.save()
    if repair and parts.quarantine is not None:
        for each in keepers:
            repaired += each.repair(ports, progress.findings, parts.quarantine)
    if record is None:
        progress.findings += ports.backend.check(deep=True)
        progress.findings += _journals(ports)
        progress.findings += _strangers(ports, parts, keepers, repaired if repair else None)
        progress.clear()
    return progress.checked(repaired, complete=True)


def _records(ports: Ports, record: CatalogRecord | None, progress: _Progress, *, data: bool, repaired: list[str] | None) -> bool:
    """Check the records. Return whether all were checked."""
    # The backend's own check names unreadable records. They must not stop this check.
    for each in [record] if record else ports.backend.iterate(skip_damaged=True):
        if each.id <= progress.after:
            continue
        progress.findings += _of_record(ports, each, data=data, repaired=repaired)
        progress.after = each.id
        progress.records += 1
        progress.artifacts += len(each.artifacts)
        if progress.due():
            return False
        if progress.records % _CHECKPOINT_RECORDS == 0:
            progress.save()
    return True


def _kept_by(keeper: Keeper, record: CatalogRecord | None, progress: _Progress, *, data: bool) -> bool:
    """Check the bytes of a keeper. Return whether all were checked."""
    owner = record.id if record else None
    for place, finding in keeper.faults(data=data, after=progress.after, owner=owner):
        progress.after = place
        if finding is not None:
            progress.findings.append(finding)
        if progress.due():
            return False
    return True


def _of_record(ports: Ports, record: CatalogRecord, *, data: bool, repaired: list[str] | None) -> Iterator[Finding]:
    missing = set()
    for found in verify(ports.profiles, record, fast=not data):
        if kind := _VERDICTS.get(found.verdict):
            words = {"missing": "its bytes are missing"}.get(found.verdict, found.detail or found.verdict.replace("-", " "))
            yield Finding(kind, f"{record.id}/{found.artifact_id}", f"{found.place}: {words}", "restore it from a copy")
        if found.verdict == "missing":
            missing.add(found.artifact_id)
    if missing and repaired is not None:
        marked = tuple(a.replace(status="missing") if a.artifact_id in missing else a for a in record.artifacts)
        if marked != record.artifacts:
            with UnitOfWork(ports, "repair", inputs=[record.id]) as work:
                work.update_record(record.replace(artifacts=marked), validate=False)
                work.commit()
            repaired += [f"{record.id}/{each}: marked missing" for each in sorted(missing)]
    for edge in record.lineage:
        if is_id(edge.target) and not _is_there(ports, edge.target):
            advice = f"cubeport edit {record.id} --unlink {edge.rel}={edge.target}"
            yield Finding("dangling-edge", record.id, f"{edge.rel} {edge.target}: there is no such record", advice)


def _is_there(ports: Ports, record_id: str) -> bool:
    try:
        return ports.backend.get_record(record_id) is not None
    except CorruptCatalog:  # the record is damaged, which the backend's own check reports
        return True


def _journals(ports: Ports) -> Iterator[Finding]:
    for place in ports.journal.differences():
        yield Finding("journal-differs", place, "the line differs from what was written", "restore the journal from a copy")
    for each in ports.journal.open_ids():
        if not ports.journal.alive(each):
            yield Finding("open-operation", each, "its process is gone", f"cubeport recover {each}")


def _strangers(ports: Ports, parts: CatalogParts, keepers: Sequence[Keeper], repaired: list[str] | None) -> Iterator[Finding]:
    """Yield everything in the stores that belongs to no record: orphans if a journal proves that we made them, otherwise unknown
    files.
    """
    try:
        strangers = garbage(ports, parts, keepers)
    except CorruptCatalog as exc:
        # Without the damaged record it is unknown which files are orphans, so none is reported.
        yield Finding("not-checked", "stores", f"did not look for orphans: {exc.message}", exc.next_step, "warn")
        return
    for found in strangers:
        kind = found.kind if found.ours else "unknown-file"
        yield Finding(kind, f"{found.profile}:{found.path}", found.reason, "cubeport gc" if found.ours else "inspect it")
        if found.ours and found.is_file and repaired is not None and parts.quarantine is not None:
            profile = ports.profiles.get(found.profile)
            move = partial(profile.quarantine, found.path, parts.quarantine / f"{new_id()[:8]}-{Path(found.path).name}")
            if found.kind != "orphan-version":
                move()
            elif not any(keeper.remove(found, instead=move) for keeper in keepers):
                continue  # it came again, or its dataset is busy
            repaired.append(f"{found.profile}:{found.path}: moved to quarantine")
