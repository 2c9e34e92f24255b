"""Looking after a catalog: ``doctor`` looks, ``fsck`` compares, ``gc`` removes what is provably ours; ``info``, ``operations``."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.catalog.artifacts.storage import Stored
from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.durable import replace_file, store_errors
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.disk.mounts import is_network, mount_type
from cubeport.catalog.forms.canonical import is_id, new_id, timestamp
from cubeport.catalog.keeping.integrity import place_of, verify
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus
from cubeport.catalog.query import Query
from cubeport.catalog.work.journal import Line
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import CubeportError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from cubeport.catalog.catalog import Parts

LOW_SPACE_BYTES = 1024**3
"""``doctor`` warns below."""

TINYDB_RECORDS = 1_000
"""``doctor`` warns beyond, as each commit rewrites the file."""

LOG_BYTES = 1024**3

_PART = re.compile(r"\.(?P<name>.+)\.(?P<operation>[0-9a-f]{32})\.part")
"""The name of bytes on their way (``part_path``): nobody but the operation in it was ever given that name."""

_PROBE = re.compile(r"\.probe\.\d+\.part")


# --- operations -----------------------------------------------------------------------------------------------------


def operations(ports: Ports, *, status: OperationStatus | None, since: datetime | None, limit: int) -> list[Operation]:
    """Return operations, newest first: rows of the catalog, and what the journal has open."""
    if limit < 0:
        raise InvalidRequest("limit must be at least 0")
    rows = ports.backend.list_operations(status=status, since=since, limit=limit)
    ended = {row.operation_id for row in rows}
    opened = [found for each in ports.journal.open_ids() if each not in ended and (found := _open(ports, each)) is not None]
    opened = [o for o in opened if status in (None, o.status) and (since is None or o.started_at >= since)]
    return sorted([*opened, *rows], key=lambda each: (each.started_at, each.operation_id), reverse=True)[:limit]


def _open(ports: Ports, operation_id: str) -> Operation | None:
    """Return the operation that the journal has open: ``running``, or ``failed`` when a person must look."""
    lines = ports.journal.read(operation_id)
    if not lines or ports.backend.get_operation(operation_id) is not None:
        return None
    header = lines[0].data
    dead = not ports.journal.alive(operation_id)
    return Operation(
        operation_id=operation_id,
        parent_id=header.get("parent_id"),
        operation_type=header["operation_type"],
        status="failed" if lines[-1].state == "failed" else "running",
        inputs=tuple(header.get("inputs", ())),
        parameters=header.get("parameters", {}),
        started_at=datetime.fromisoformat(header["started_at"]),
        created_by=header.get("user_id"),
        error={"kind": "interrupted", "message": "Its process is gone; recover finishes or undoes it."} if dead else None,
    )


def operation(ports: Ports, operation_id: str) -> dict[str, Any]:
    """Return one operation with the lines of its journal. Raises NotFound."""
    if not is_id(operation_id):
        known = {each.operation_id for each in operations(ports, status=None, since=None, limit=10_000)}
        found = [each for each in known if each.startswith(operation_id)]
        if len(found) != 1:
            raise NotFound(f"{len(found) or 'No'} operations begin with {operation_id!r}.", next_step="cubeport operations")
        [operation_id] = found
    row = ports.backend.get_operation(operation_id) or _open(ports, operation_id)
    if row is None:
        raise NotFound(f"There is no operation {operation_id}.", next_step="cubeport operations")
    lines: list[Line] = ports.journal.read(operation_id)
    return row.to_mapping() | {"journal": [{"n": e.n, "at": e.at, "state": e.state, "data": dict(e.data)} for e in lines]}


# --- info -----------------------------------------------------------------------------------------------------------


def info(ports: Ports, parts: Parts) -> dict[str, Any]:
    """Return what this catalog is and holds."""
    from importlib.metadata import version

    by_kind: Counter[str] = Counter()
    by_status: Counter[str] = Counter()
    artifacts, size = 0, 0
    for record in ports.backend.iterate():
        by_kind[record.kind] += 1
        by_status[record.status] += 1
        artifacts += len(record.artifacts)
        size += sum(each.size_bytes or 0 for each in record.artifacts if each.managed)
    failed = [o for o in operations(ports, status=None, since=None, limit=200) if o.status in ("failed", "rolled_back")]
    return {
        "catalog_id": ports.catalog_id,
        "root": str(parts.root) if parts.root else None,
        "settings": dict(parts.settings),
        "generation": ports.backend.generation(),
        "records": {"total": sum(by_kind.values()), "by_kind": dict(by_kind), "by_status": dict(by_status)},
        "artifacts": artifacts,
        "managed_bytes": size,
        "schemas": {name: parts.schemas.versions(name) for name in parts.schemas.names()},
        "profiles": [{"name": p.name, "writable": p.writable} for p in ports.profiles if not p.name.startswith("_")],
        "failed_operations": [{"operation_id": o.operation_id, "type": o.operation_type, "error": o.error} for o in failed[:5]],
        "open_operations": ports.journal.open_ids(),
        "versions": {"cubeport": version("cubeport"), "sqlite": sqlite3.sqlite_version},
    }


# --- doctor ---------------------------------------------------------------------------------------------------------


def doctor(ports: Ports, parts: Parts) -> list[Finding]:
    """Return a line for everything looked at, ``ok`` too; changes nothing and reads no data."""
    return [
        *_store(ports),
        *_mount(parts),
        *_open_operations(ports),
        *_profiles(ports),
        *_locks(parts),
        *_logs(ports),
        *_plugins(parts),
        *parts.surroundings(),
    ]


def _store(ports: Ports) -> Iterator[Finding]:
    try:
        found = ports.backend.check()
        count = ports.backend.count(Query(statuses=None))
    except CubeportError as exc:
        yield Finding(exc.kind, "catalog", exc.message, exc.next_step)
        return
    yield from found
    if not any(each.level == "error" for each in found):
        yield Finding("catalog", "catalog", f"answers, {count} records", level="ok")
    if "tinydb" in type(ports.backend).__name__.lower() and count > TINYDB_RECORDS:
        message = f"{count} records: each commit rewrites the whole file"
        yield Finding("tinydb-size", "catalog", message, "cubeport convert --to sqlite", "warn")


def _mount(parts: Parts) -> Iterator[Finding]:
    if parts.root is None:
        return
    kind = mount_type(parts.root)
    if is_network(kind):
        message = f"lies on {kind}, where nothing is promised"
        yield Finding("network-filesystem", "catalog", message, "put the catalog on a local disk", "warn")
    elif kind is not None:
        yield Finding("filesystem", "catalog", f"lies on {kind}", level="ok")


def _plugins(parts: Parts) -> Iterator[Finding]:
    for each in parts.plugins.broken:
        yield Finding("plugin-broken", each.name, str(each.error), f"repair or uninstall {each.name}, or disable it")
    working = [each.name for each in parts.plugins if each.error is None and not each.disabled]
    if not parts.plugins.broken:
        yield Finding("plugins", "plugins", ", ".join(working) or "none", None, "ok")


def _open_operations(ports: Ports) -> Iterator[Finding]:
    ids = ports.journal.open_ids()
    for each in ids:
        lines = ports.journal.read(each)
        last = lines[-1].state if lines else "nothing written"
        if ports.journal.alive(each):
            yield Finding("open-operation", each, f"running, at {last}", level="ok")
        elif last == "failed":
            left = "; ".join(lines[-1].data.get("left", ()))
            yield Finding("open-operation", each, f"could not be undone: {left}", f"cubeport recover {each} --skip")
        else:
            yield Finding("open-operation", each, f"its process is gone, at {last}", f"cubeport recover {each}", "warn")
    if not ids:
        yield Finding("journal", "journal", "no open operations", level="ok")


def _profiles(ports: Ports) -> Iterator[Finding]:
    for profile in ports.profiles:
        place = f"profile {profile.name}"
        problems = profile.problems()
        yield from (Finding("store-unavailable", place, each, "cubeport profiles") for each in problems)
        if problems:
            continue
        free = profile.free_bytes()
        if free is not None and free < LOW_SPACE_BYTES:
            yield Finding("no-space", place, f"{free // 1024**2} MiB free", "cubeport gc", "warn")
        else:
            yield Finding("profile", place, "can be used", level="ok")


def _locks(parts: Parts) -> Iterator[Finding]:
    from cubeport.catalog.disk.locks import holder, lock_state

    if parts.locks is None or not parts.locks.is_dir():
        return
    for path in sorted(parts.locks.rglob("*.lock")):
        status, note = lock_state(path), holder(path)
        who = ", ".join(f"{key} {note[key]}" for key in ("pid", "host", "user", "command", "since") if note and note.get(key))
        if status == "held":
            yield Finding("lock", path.name, f"held by {who}", level="ok")
        elif status == "left":
            yield Finding("lock", path.name, f"free; its last holder died ({who}), which is harmless", "cubeport recover", "warn")
        elif status == "elsewhere":
            yield Finding("lock", path.name, f"noted by another machine ({who}); nobody can tell from here", None, "warn")


def _logs(ports: Ports) -> Iterator[Finding]:
    if ports.events.failure:
        yield Finding("event-log", "logs", f"cannot be written: {ports.events.failure}", "free space or permissions", "warn")
    size = sum(each.stat().st_size for each in ports.events.folder.glob("events-*.jsonl")) if ports.events.folder.is_dir() else 0
    if size > LOG_BYTES:
        yield Finding("log-size", "logs", f"{size // 1024**2} MiB of events", "move old months away", "warn")


# --- fsck -----------------------------------------------------------------------------------------------------------


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


# --- gc -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that no record names."""

    profile: str
    path: str
    size_bytes: int
    modified: str
    reason: str
    ours: bool
    """Whether a journal, or an operation's id in the name, proves that we made it."""
    removed: bool = False
    kind: str = "orphan-file"
    """What ``fsck`` calls it (safety.md 9); a stranger's is always ``unknown-file``."""


class Keeper(Protocol):
    """Looks after bytes that are no artifacts: the service's versions."""

    def garbage(self) -> list[Garbage]:
        """Return what nothing keeps; stores are listed first, then journals, then rows."""

    def faults(self, *, data: bool) -> Iterator[Finding]:
        """Yield what is wrong with what is kept."""


def gc(ports: Ports, parts: Parts, *, older_than_s: float, dry_run: bool) -> list[Garbage]:
    """Remove what is provably ours, named by nothing and of that age by the store's clock; strangers are only listed."""
    found: list[Garbage] = []
    clocks: dict[str, float] = {}
    for each in garbage(ports, parts):
        profile = ports.profiles.get(each.profile)
        if each.profile not in clocks:
            clocks[each.profile] = profile.now() if not dry_run else time.time()
        age = clocks[each.profile] - datetime.fromisoformat(each.modified).timestamp()
        removable = each.ours and profile.writable and age >= older_than_s
        if removable and not dry_run:
            there = profile.stat(each.path)
            with store_errors("remove the bytes"), step("gc"):
                removed = there is not None and profile.remove(each.path, there.proof) == "removed"
            found.append(replace(each, removed=removed))
        elif removable or not each.ours:
            found.append(each)
    if not dry_run:
        _remove_empty_folders(ports, parts)
    return found


def _remove_empty_folders(ports: Ports, parts: Parts) -> None:
    """Remove folders that journals say we made (path and inode), as far as they are empty; whoever wants one makes it again."""
    for operation in ports.journal.closed():
        for line in operation:
            for each in line.data.get("compensations", ()):
                name = each.get("profile")
                if each.get("folders") and name in ports.profiles and name not in parts.apart:
                    ports.profiles.get(name).remove_folders(each["folders"])


def garbage(ports: Ports, parts: Parts) -> list[Garbage]:
    """Return what nothing names. Stores are listed first, then open journals, then records: nothing living looks orphaned."""
    kept = [each for keeper in parts.keepers() for each in keeper.garbage()]
    searched = [profile for profile in ports.profiles if profile.writable and profile.name not in parts.apart]
    listed = [(profile, list(profile.walk())) for profile in searched]
    in_work = set(ports.journal.open_ids())
    held: set[tuple[str, str]] = set()
    for record in ports.backend.iterate():
        held |= {place for artifact in record.artifacts if (place := place_of(artifact)) is not None}
    made = _made(ports)
    return kept + [
        Garbage(profile.name, each.path, each.size_bytes, _at(each), reason, reason != STRANGE)
        for profile, stored in listed
        for each in stored
        if (reason := _reason(profile.name, each.path, held, in_work, made)) is not None
    ]


def _at(stored: Stored) -> str:
    return timestamp(datetime.fromtimestamp(stored.modified_s, UTC))


STRANGE = "no record names it"


def _reason(
    profile: str, path: str, held: set[tuple[str, str]], in_work: set[str], made: Mapping[tuple[str, str], str]
) -> str | None:
    """Return why the file is garbage, or ``None`` when something living has it: a record, or an operation still open."""
    parents = [path]
    while "/" in path:
        path = path.rpartition("/")[0]
        parents.append(path)
    if any((profile, each) in held for each in parents):
        return None
    for each in parents:
        if (part := _PART.fullmatch(each.rpartition("/")[2])) is not None:
            return None if part["operation"] in in_work else f"left by operation {part['operation']}"
    if _PROBE.fullmatch(parents[0].rpartition("/")[2]):
        return "left by a probe"
    for each in parents:
        if (operation := made.get((profile, each))) is not None:
            return None if operation in in_work else f"made by operation {operation}, which no record keeps"
    return STRANGE


def _made(ports: Ports) -> dict[tuple[str, str], str]:
    """Return the places that journals prove ours, with their operations."""
    found: dict[tuple[str, str], str] = {}
    opened: Iterable[list[Line]] = (ports.journal.read(each) for each in ports.journal.open_ids())
    for lines in (*ports.journal.closed(), *opened):
        for line in lines:
            for each in line.data.get("compensations", ()):
                if each.get("path") and each.get("profile"):
                    found[each["profile"], each["path"]] = line.operation_id
    return found
