"""Recovery: finish or undo what dead processes left open. The row of the operation decides.

If the row is ``succeeded``, recovery finishes the operation. If there is no row, recovery inserts one as ``rolled_back`` and then
undoes the operation. If the catalog is unreachable, recovery does nothing, because it must not guess. Locked journals belong to
living owners and are not changed. Recovery can be repeated safely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cubeport.catalog.disk.durable import store_errors
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.models import Operation, OperationStatus
from cubeport.catalog.work.journal import CLOSED, JournalEntry, Line
from cubeport.catalog.work.undo import Action, Compensation
from cubeport.catalog.work.unit_of_work import Ports, end, machine, settle
from cubeport.errors import CubeportError, NoSpace


@dataclass(frozen=True, slots=True)
class Recovered:
    """The outcome of recovering one open operation."""

    operation_id: str
    operation_type: str | None
    parent_id: str | None
    last_state: str | None
    outcome: Literal["forward", "back", "left", "closed"]
    """``forward``: finished; ``back``: undone; ``left``: still open (see *left*); ``closed``: nothing to do."""
    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Why it is still open, and what a person must do."""
    unreachable: bool = False
    """Whether it is still open because the catalog or the disk did not respond."""
    full: bool = False
    """Whether it is still open because the disk is full."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


def recover(ports: Ports, operation_id: str | None = None, *, dry_run: bool = False, skip: bool = False) -> list[Recovered]:
    """Recover all open operations with dead owners, or only one of them (by its id or the first characters).

    Parameters
    ----------
    dry_run
        Return what would be done, and write nothing.
    skip
        Also close operations that cannot be undone completely. What remains stays in place, and ``fsck`` finds it.
    """
    found = []
    for each in ports.journal.open_ids():
        if not each.startswith(operation_id or ""):
            continue
        entry = ports.journal.take(each)
        if entry is None:
            continue
        try:
            with store_errors("recover"), step("recover"):
                found.append(_recover(ports, entry, dry_run=dry_run, skip=skip))
            if not dry_run:
                _tell(ports, found[-1])
        finally:
            entry.leave()
    return found


def _tell(ports: Ports, what: Recovered) -> None:
    said = "; ".join((*what.done, *what.left)) or "there was nothing to do"
    ports.events.emit(
        f"recover.{what.outcome}",
        f"{what.operation_type or 'an operation'} died at {what.last_state}: {said}",
        level="warning" if what.outcome == "left" else "info",
        operation_id=what.operation_id,
    )


def _recover(ports: Ports, entry: JournalEntry, *, dry_run: bool, skip: bool) -> Recovered:
    header = entry.lines[0].data if entry.lines else {}
    last = entry.lines[-1].state if entry.lines else None

    def recovered(outcome: Literal["forward", "back", "left", "closed"], **rest: Any) -> Recovered:
        return Recovered(entry.operation_id, header.get("operation_type"), header.get("parent_id"), last, outcome, **rest)

    if last is None or last in CLOSED:
        if not dry_run:
            entry.close()
        return recovered("closed")
    try:
        status = _decide(ports, entry, header, dry_run=dry_run)
    except CubeportError as exc:
        full = isinstance(exc, NoSpace)
        why = exc.message if full else f"the catalog does not answer: {exc.message}"
        return recovered("left", left=(why,), unreachable=True, full=full)
    forward = status == "succeeded"
    actions, compensations = actions_of(entry.lines), compensations_of(entry.lines)
    if dry_run:
        todo = [f"{a.action} {a.path}" for a in actions] if forward else [f"{c.undo} {c.path or ''}".strip() for c in compensations]
        return recovered("forward" if forward else "back", done=tuple(f"would {each}" for each in todo))
    undoer = ports.undoer
    report = undoer.act(actions, entry.operation_id) if forward else undoer.undo(compensations, entry.operation_id)
    try:
        if forward and (skip or not report.left):
            entry.write("committed", {"recovered": report.done, "left": report.left})
            entry.close()
        elif not forward and skip and report.left:
            entry.write("rolled_back", {"recovered": report.done, "left": report.left})
            entry.close()
        elif not forward and not (last == "failed" and report.left):
            end(entry, report, {"kind": "interrupted", "message": "the process died"})
    except CubeportError as exc:
        full = isinstance(exc, NoSpace)
        return recovered("left", done=report.done, left=(*report.left, exc.message), unreachable=full, full=full)
    if report.left and not skip:
        return recovered("left", done=report.done, left=report.left)
    return recovered("forward" if forward else "back", done=report.done, left=report.left)


def _decide(ports: Ports, entry: JournalEntry, header: Any, *, dry_run: bool) -> OperationStatus:
    if dry_run:
        row = ports.backend.get_operation(entry.operation_id)
        return "rolled_back" if row is None else row.status
    return settle(
        ports.backend,
        Operation(
            operation_id=entry.operation_id,
            parent_id=header.get("parent_id"),
            operation_type=header["operation_type"],
            status="rolled_back",
            inputs=tuple(header.get("inputs", ())),
            parameters=header.get("parameters", {}),
            started_at=datetime.fromisoformat(header.get("started_at") or entry.lines[0].at),
            ended_at=ports.clock(),
            created_by=header.get("user_id"),
            error={"kind": "interrupted", "message": "The process died; recover undid its work."},
        ),
    )


def compensations_of(lines: Sequence[Line]) -> list[Compensation]:
    """Return the recorded compensations of the operation, in order. Proofs that a restart of the machine has invalidated are
    weakened.
    """
    return [Compensation.from_mapping(each) for each in _journalled(lines, "compensations")]


def actions_of(lines: Sequence[Line]) -> list[Action]:
    """Return the recorded actions after the commit of the operation, in order."""
    return [Action.from_mapping(each) for each in _journalled(lines, "afterwards")]


def _journalled(lines: Sequence[Line], what: str) -> Iterator[dict[str, Any]]:
    """Yield the documents of the journal. Device numbers can change after a restart of the machine, so they are then removed from
    proofs.
    """
    header = lines[0].data if lines else {}
    restarted = header.get("boot") != machine()["boot"]
    for line in lines:
        for document in line.data.get(what, ()):
            proof = {k: v for k, v in document.get("proof", {}).items() if not (restarted and k == "device")}
            yield {**document, "proof": proof}
