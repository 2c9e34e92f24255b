"""``fsck``: compare the catalog with its stores, in both directions."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.durable import replace_file
from cubeport.catalog.forms.canonical import is_id, new_id
from cubeport.catalog.keeping.gc import garbage
from cubeport.catalog.keeping.integrity import verify
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.parts import Parts
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork


@dataclass(frozen=True, slots=True)
class Checked:
    """What ``fsck`` found."""

    findings: tuple[Finding, ...]
    complete: bool
    """False when the time limit stopped it; ``--resume`` goes on."""
    records: int
    artifacts: int
    repaired: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind."""
        return dict(Counter(each.kind for each in self.findings))


class FsckOptions(TypedDict, total=False):
    """What :func:`fsck` takes besides the record."""

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
    """How far a check came: the records behind ``after`` are still to be looked at."""

    path: Path | None
    after: str = ""
    records: int = 0
    artifacts: int = 0
    findings: list[Finding] = field(default_factory=list)

    def save(self) -> None:
        if self.path is not None:
            found = [{name: getattr(f, name) for name in Finding.__slots__} for f in self.findings]
            document = {"after": self.after, "records": self.records, "artifacts": self.artifacts, "findings": found}
            replace_file(self.path, json.dumps(document).encode())

    def load(self) -> None:
        if self.path is not None and self.path.is_file():
            document = json.loads(self.path.read_bytes())
            self.after, self.records, self.artifacts = document["after"], document["records"], document["artifacts"]
            self.findings = [Finding(**each) for each in document["findings"]]

    def clear(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def fsck(
    ports: Ports,
    parts: Parts,
    record: CatalogRecord | None = None,
    *,
    data: bool = False,
    time_limit_s: float | None = None,
    resume: bool = False,
    repair: bool = False,
) -> Checked:
    """Compare the catalog with its stores: names and sizes, with *data* every byte.

    Parameters
    ----------
    record
        Look at this one alone; orphans are then not looked for.
    resume
        Go on where a time limit stopped the last one.
    repair
        Move orphans to quarantine and mark what is missing; nothing is deleted, nothing invented.
    """
    began = time.monotonic()
    folder = parts.quarantine.parent if parts.quarantine else None
    kept = folder is not None and record is None and (resume or time_limit_s is not None)
    progress = _Progress(folder / "fsck.json" if folder and kept else None)
    if resume:
        progress.load()
    repaired: list[str] = []
    for each in [record] if record else ports.backend.iterate():
        if each.id <= progress.after:
            continue
        progress.findings += _of_record(ports, each, data=data, repaired=repaired if repair else None)
        progress.after = each.id
        progress.records += 1
        progress.artifacts += len(each.artifacts)
        if time_limit_s is not None and time.monotonic() - began > time_limit_s:
            progress.save()
            return Checked(tuple(progress.findings), False, progress.records, progress.artifacts, tuple(repaired))
        if progress.records % _CHECKPOINT_RECORDS == 0:
            progress.save()
    findings = list(progress.findings)
    if record is None:
        findings += [fault for keeper in parts.keepers() for fault in keeper.faults(data=data)]
        findings += ports.backend.check(deep=True)
        findings += _open_journals(ports)
        findings += _strangers(ports, parts, repaired if repair else None)
        progress.clear()
    return Checked(tuple(findings), True, progress.records, progress.artifacts, tuple(repaired))


def _of_record(ports: Ports, record: CatalogRecord, *, data: bool, repaired: list[str] | None) -> Iterator[Finding]:
    missing = set()
    for found in verify(ports.profiles, record, fast=not data):
        if kind := _VERDICTS.get(found.verdict):
            words = {"missing": "its bytes are not there"}.get(found.verdict, found.detail or found.verdict.replace("-", " "))
            yield Finding(kind, f"{record.id}/{found.artifact_id}", f"{found.place}: {words}", "restore it from a copy")
        if found.verdict == "missing":
            missing.add(found.artifact_id)
    if missing and repaired is not None:
        marked = tuple(a.replace(status="missing") if a.artifact_id in missing else a for a in record.artifacts)
        if marked != record.artifacts:
            with UnitOfWork(ports, "repair", inputs=[record.id]) as work:
                work.update_record(record.replace(artifacts=marked))
                work.commit()
            repaired += [f"{record.id}/{each}: marked missing" for each in sorted(missing)]
    for edge in record.lineage:
        if is_id(edge.target) and ports.backend.get_record(edge.target) is None:
            yield Finding("dangling-edge", record.id, f"{edge.rel} {edge.target}: there is no such record", "cubeport edit --unset")


def _open_journals(ports: Ports) -> Iterator[Finding]:
    for each in ports.journal.open_ids():
        if not ports.journal.alive(each):
            yield Finding("open-operation", each, "its process is gone", f"cubeport recover {each}")


def _strangers(ports: Ports, parts: Parts, repaired: list[str] | None) -> Iterator[Finding]:
    """Yield what lies in the stores and in no record: orphans if a journal proves them ours, else unknown."""
    for found in garbage(ports, parts):
        kind = found.kind if found.ours else "unknown-file"
        yield Finding(kind, f"{found.profile}:{found.path}", found.reason, "cubeport gc" if found.ours else "look at it")
        if found.ours and repaired is not None and parts.quarantine is not None:
            profile = ports.profiles.get(found.profile)
            profile.quarantine(found.path, parts.quarantine / f"{new_id()[:8]}-{Path(found.path).name}")
            repaired.append(f"{found.profile}:{found.path}: moved to quarantine")
