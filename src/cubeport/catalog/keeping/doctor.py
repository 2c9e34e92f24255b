"""``doctor``: one line for each check. It changes nothing and reads no data."""

from __future__ import annotations

from collections.abc import Iterator

from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.locks import holder, lock_state
from cubeport.catalog.disk.mounts import is_network, mount_type
from cubeport.catalog.parts import CatalogParts
from cubeport.catalog.query import Query
from cubeport.catalog.work.unit_of_work import Ports
from cubeport.errors import CubeportError

LOW_SPACE_BYTES = 1024**3
"""``doctor`` warns below this much free space."""

TINYDB_RECORDS = 1_000
"""``doctor`` warns above this number of records, because each commit rewrites the file."""

LOG_BYTES = 1024**3
"""``doctor`` warns above this size of the event log."""


def doctor(ports: Ports, parts: CatalogParts) -> list[Finding]:
    """Return a finding for each check, including ``ok``. It changes nothing and reads no data."""
    return [
        *_store(ports, parts),
        *_mount(parts),
        *_open_operations(ports),
        *_kept(parts),
        *_profiles(ports),
        *_locks(parts),
        *_logs(ports),
        *_plugins(parts),
        *parts.surroundings(),
    ]


def _store(ports: Ports, parts: CatalogParts) -> Iterator[Finding]:
    try:
        found = ports.backend.check()
        count = ports.backend.count(Query(statuses=None))
    except CubeportError as exc:
        yield Finding(exc.kind, "catalog", exc.message, exc.next_step)
        return
    yield from found
    yield from parts.store_facts()
    if not any(each.level == "error" for each in found):
        yield Finding("catalog", "catalog", f"answers, {count} record{'' if count == 1 else 's'}", level="ok")
    if parts.settings.get("backend") == "tinydb" and count > TINYDB_RECORDS:
        message = f"{count} records: each commit rewrites the whole file"
        yield Finding("tinydb-size", "catalog", message, "cubeport convert --to sqlite", "warn")


def _kept(parts: CatalogParts) -> Iterator[Finding]:
    try:
        for keeper in parts.keepers():
            yield from keeper.problems()
    except CubeportError as exc:
        yield Finding(exc.kind, "jobs", exc.message, exc.next_step)


def _mount(parts: CatalogParts) -> Iterator[Finding]:
    if parts.root is None:
        return
    kind = mount_type(parts.root)
    if is_network(kind):
        message = f"is on {kind}, where cubeport guarantees nothing"
        yield Finding("network-filesystem", "catalog", message, "put the catalog on a local disk", "warn")
    elif kind is not None:
        yield Finding("filesystem", "catalog", f"is on {kind}", level="ok")


def _plugins(parts: CatalogParts) -> Iterator[Finding]:
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
            step = f"remove the cause, then cubeport recover {each}; if nothing helps, close it: cubeport recover {each} --skip"
            yield Finding("open-operation", each, f"could not be undone: {left}", step)
        else:
            yield Finding(
                "open-operation",
                each,
                f"did not finish, at {last}; its process is gone or has given up",
                f"cubeport recover {each}",
                "warn",
            )
    if not ids:
        yield Finding("journal", "journal", "no open operations", level="ok")


def _profiles(ports: Ports) -> Iterator[Finding]:
    for profile in ports.profiles:
        place = f"profile {profile.name}"
        problems = profile.problems()
        yield from (Finding("store-unavailable", place, each.message, each.next_step) for each in problems)
        if problems:
            continue
        free = profile.free_bytes()
        if free is not None and free < LOW_SPACE_BYTES:
            yield Finding("no-space", place, f"{free // 1024**2} MiB free", "cubeport gc", "warn")
        else:
            yield Finding("profile", place, "can be used", level="ok")


def _locks(parts: CatalogParts) -> Iterator[Finding]:
    if parts.locks is None or not parts.locks.is_dir():
        return
    for path in sorted(parts.locks.rglob("*.lock")):
        status, note = lock_state(path), holder(path)
        who = ", ".join(f"{key} {note[key]}" for key in ("pid", "host", "user", "command", "since") if note and note.get(key))
        if status == "held":
            yield Finding("lock", path.name, f"held by {who}" if who else "held", level="ok")
        elif status == "left":
            yield Finding("lock", path.name, f"free; its last holder died ({who}), which is harmless", "cubeport recover", "warn")
        elif status == "elsewhere":
            yield Finding(
                "lock", path.name, f"noted by another machine ({who}); this machine cannot tell whether it is alive", None, "warn"
            )


def _logs(ports: Ports) -> Iterator[Finding]:
    if ports.events.failure:
        yield Finding("event-log", "logs", f"cannot be written: {ports.events.failure}", "free space or permissions", "warn")
    size = sum(each.stat().st_size for each in ports.events.folder.glob("events-*.jsonl")) if ports.events.folder.is_dir() else 0
    if size > LOG_BYTES:
        yield Finding("log-size", "logs", f"{size // 1024**2} MiB of events", "archive old months", "warn")
