"""The operations on a catalog and its contents: ``operations`` and ``info``."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from cubeport.catalog.forms.canonical import is_id
from cubeport.catalog.models import Operation, OperationStatus
from cubeport.catalog.parts import CatalogParts
from cubeport.catalog.work.journal import Line
from cubeport.catalog.work.unit_of_work import NOTHING, Ports
from cubeport.errors import InvalidRequest, NotFound


def operations(ports: Ports, *, status: OperationStatus | None, since: datetime | None, limit: int) -> list[Operation]:
    """Return operations, newest first: the rows of the catalog, and open operations of the journal."""
    if limit < 0:
        raise InvalidRequest("limit must be at least 0")
    rows = ports.backend.list_operations(status=status, since=since, limit=limit)
    ended = {row.operation_id for row in rows}
    opened = [found for each in ports.journal.open_ids() if each not in ended and (found := _open(ports, each)) is not None]
    opened = [o for o in opened if status in (None, o.status) and (since is None or o.started_at >= since)]
    return sorted([*opened, *rows], key=lambda each: (each.started_at, each.operation_id), reverse=True)[:limit]


def _open(ports: Ports, operation_id: str) -> Operation | None:
    """Return an open operation of the journal: ``running``, or ``failed`` if a person must check it."""
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
        error={"kind": "interrupted", "message": "It did not finish; recover finishes or undoes it."} if dead else None,
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


def info(ports: Ports, parts: CatalogParts) -> dict[str, Any]:
    """Return what kind of catalog this is, and what it contains."""
    from importlib.metadata import version

    by_kind: Counter[str] = Counter()
    by_status: Counter[str] = Counter()
    artifacts, size = 0, 0
    for record in ports.backend.iterate():
        by_kind[record.kind] += 1
        by_status[record.status] += 1
        artifacts += len(record.artifacts)
        size += sum(each.size_bytes or 0 for each in record.artifacts if each.managed)
    ended = operations(ports, status=None, since=None, limit=200)
    failed = [o for o in ended if o.status in ("failed", "rolled_back") and (o.error or {}).get("kind") != NOTHING]
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
        "versions": {"cubeport": version("cubeport"), **parts.store_version()},
    }
