"""Finishing or undoing what dead processes left open, by one rule: the operation's row decides.

Row ``succeeded``: forward. No row: insert it as ``rolled_back``, then undo. Catalog unreachable: leave it, never guess. Journals
whose lock is held belong to living owners and are not touched. Twice is once.
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
    """What became of one open operation."""

    operation_id: str
    operation_type: str | None
    parent_id: str | None
    last_state: str | None
    outcome: Literal["forward", "back", "left", "closed"]
    """Finished, undone, still open (see *left*), or there was nothing to do."""
    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Why it is still open, and what is to be done by a person."""
    unreachable: bool = False
    """Left because the catalog or the disk did not answer."""
    full: bool = False
    """Left because there is no space on the disk."""

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


def recover(ports: Ports, operation_id: str | None = None, *, dry_run: bool = False, skip: bool = False) -> list[Recovered]:
    """Recover every open operation whose owner is dead, or the one asked for (its id, or how it begins).

    Parameters
    ----------
    dry_run
        Say what would be done; write nothing.
    skip
        Close also what cannot be undone; what is left stays where it is, for ``fsck`` to find.
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
    """Return what the operation journalled to undo, in its order; proofs that a restart of the machine has voided are weakened."""
    return [Compensation.from_mapping(each) for each in _journalled(lines, "compensations")]


def actions_of(lines: Sequence[Line]) -> list[Action]:
    """Return what the operation journalled to do after its commit, in its order."""
    return [Action.from_mapping(each) for each in _journalled(lines, "afterwards")]


def _journalled(lines: Sequence[Line], what: str) -> Iterator[dict[str, Any]]:
    """Yield documents of the journal. A device's number does not survive a restart of the machine, so it proves nothing then."""
    header = lines[0].data if lines else {}
    restarted = header.get("boot") != machine()["boot"]
    for line in lines:
        for document in line.data.get(what, ()):
            proof = {k: v for k, v in document.get("proof", {}).items() if not (restarted and k == "device")}
            yield {**document, "proof": proof}
