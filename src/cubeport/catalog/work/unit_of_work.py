"""One unit of work: first the bytes, then one transaction that commits them, or no trace.

The transaction writes the records *and* the row of the operation. Only this row decides whether the operation happened. Everything
before it can be undone; everything after it is finished, never undone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from cubeport.catalog import history
from cubeport.catalog.artifacts.naming import format_of, media_type_of
from cubeport.catalog.artifacts.storage import Profiles, StoragePlan, Target, part_path
from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.disk.durable import store_errors
from cubeport.catalog.disk.failpoints import passing, step
from cubeport.catalog.events import EventLog
from cubeport.catalog.forms.canonical import is_id, json_value, new_id, now
from cubeport.catalog.forms.redaction import redact
from cubeport.catalog.hooks import CommitPayload, ErrorPayload, HookContext, HookManager, RollbackPayload
from cubeport.catalog.models import Artifact, CatalogRecord, Operation, OperationStatus, PlannedPathLocator
from cubeport.catalog.schemas import Policy, ValidationResult
from cubeport.catalog.work.journal import Journal, JournalEntry
from cubeport.catalog.work.undo import Action, Compensation, Report, Undoer
from cubeport.errors import BackendUnavailable, CatalogMoved, CubeportError, InvalidRequest, Locked, NoSpace, ReadOnly, RecordExists


class Check(Protocol):
    """Validates a record against its schema (``Schemas.check``)."""

    def __call__(self, record: CatalogRecord, *, policy: Policy | None = None) -> ValidationResult:
        """Return the violations under the policy. Raises SchemaInvalid, UnknownSchema."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a catalog. ``main`` provides them."""

    catalog_id: str
    backend: CatalogBackend
    journal: Journal
    profiles: Profiles
    hooks: HookManager
    events: EventLog
    undoer: Undoer
    user_id: str | None = None
    session_id: str = field(default_factory=new_id)
    clock: Callable[[], datetime] = now
    read_only: bool = False
    check: Check | None = None
    """Raises if a record may not be committed. This is the last check for all records, wherever they come from."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit."""

    operation_id: str
    generation: int
    records: tuple[CatalogRecord, ...] = ()
    """The stored records, in the order of the calls."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Write:
    """One record's part of the transaction."""

    record: CatalogRecord
    act: Callable[[CatalogRecord], CatalogRecord | None]
    as_it_is: bool = False
    """Whether the record is created unchanged. Many such records are then created together."""
    checked: bool = True
    """Whether the record must match its schema. A record to remove need not."""


_RECORDS_NAMED = 200
"""How many records an event of an operation names."""


class UnitOfWork:
    """One operation, as a context manager.

    The end of its block commits, unless :meth:`commit` or :meth:`rollback` was called before. An exception rolls back.
    """

    def __init__(
        self,
        ports: Ports,
        operation_type: str,
        *,
        operation_id: str | None = None,
        parent_id: str | None = None,
        user_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Iterable[str] = (),
        records: Iterable[str] = (),
        schema_policy: Policy | None = None,
        drafting: Callable[[Mapping[str, Any]], CatalogRecord] = CatalogRecord.from_mapping,
    ) -> None:
        if ports.read_only:
            raise ReadOnly("The catalog is open for reading only.")
        self.operation_id = operation_id or new_id()
        self.operation_type = operation_type
        self.user_id = user_id or ports.user_id
        self.warnings: list[str] = []
        self.written_to: dict[str, str] = {}
        """The path of the bytes of each plan, by its object id."""
        self.step: str | None = None
        """The pipeline step that is running, for hooks."""
        self.committed: Committed | None = None
        self._ports = ports
        self._parent_id = parent_id
        self._parameters = redact(json_value(dict(parameters or {})))
        self._inputs = list(inputs)
        json_value(self._inputs)  # what JSON cannot represent is refused before there is a journal
        self._records = [*records, *filter(is_id, self._inputs)]
        self._schema_policy = schema_policy
        self._drafting = drafting
        self._outputs: list[str] = []
        self._started_at = ports.clock()
        self._writes: list[_Write] = []
        self._joined: list[Callable[[], object]] = []
        self._compensations: list[Compensation] = []
        self._actions: list[Action] = []
        self._plans: dict[str, StoragePlan] = {}
        self._artifacts: dict[str, dict[str, Artifact]] = {}
        self._planned = False
        self._tried = False
        self._row: OperationStatus | None = None
        self._undecided = False
        self._given_up = False
        self._why: str | None = None
        self._kept: set[str] = set()

    # --- its life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._entry: JournalEntry = self._ports.journal.begin(self.operation_id)
        try:
            self._entry.write("started", self._header())
        except BaseException:
            # Only this file of ours exists.
            self._entry.leave()
            raise
        self._say("started", "info")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if exc is not None and getattr(exc, "operation_id", None) is None:
            exc.operation_id = self.operation_id  # type: ignore[attr-defined]  # also on errors of others, to find their log
        try:
            if exc is None and not self._ended() and not self._given_up and self._has_work():
                self._commit_at_the_end()
            elif not self._ended():
                self._roll_back(exc)
        finally:
            self._entry.leave()

    def _ended(self) -> bool:
        return self.committed is not None or self._undecided

    def _commit_at_the_end(self) -> None:
        try:
            self.commit()
        except BaseException as failure:
            if getattr(failure, "operation_id", None) is None:
                failure.operation_id = self.operation_id  # type: ignore[attr-defined]  # as above
            if not self._ended():
                self._roll_back(failure)
            raise

    def _has_work(self) -> bool:
        return bool(self._writes or self._joined or self._plans or self._compensations or self._actions)

    def rollback(self, *, why: str | None = None) -> None:
        """Mark the operation for rollback. The end of the block undoes everything and leaves no trace.

        *why* says in the row of the operation that there was nothing to do, so that nobody looks for what went wrong.
        """
        if self.committed is not None or self._undecided:
            raise InvalidRequest("This unit of work has ended.", operation_id=self.operation_id)
        self._given_up = True
        self._why = why

    def _header(self) -> dict[str, Any]:
        return {
            "operation_type": self.operation_type,
            "parent_id": self._parent_id,
            "catalog_id": self._ports.catalog_id,
            "user_id": self.user_id,
            "session_id": self._ports.session_id,
            "started_at": self._started_at,
            "inputs": self._inputs,
            "parameters": self._parameters,
            **machine(),
            "pid": os.getpid(),
        }

    # --- what it will do --------------------------------------------------------------------------------------------

    def planned(self, **data: Any) -> None:
        """Record the plan in the journal: record ids, expected versions, storage plans (state ``planned``)."""
        self._entry.write("planned", data)
        self._planned = True

    def compensate(self, *compensations: Compensation | Mapping[str, Any]) -> None:
        """Record durably in the journal how to undo the next change (``artifact_write_started``)."""
        given = [each if isinstance(each, Compensation) else Compensation.from_mapping(each) for each in compensations]
        self._compensations += given
        self._entry.write("artifact_write_started", {"compensations": [each.to_mapping() for each in given]}, durable=True)

    def claim(self, compensation: Compensation | Mapping[str, Any]) -> None:
        """Record how to undo an empty folder whose name contains our id, before :meth:`compensate` records the rest.

        The line is not synced alone: what a power cut can leave behind without it is that folder, and ``gc`` knows its name.
        """
        given = compensation if isinstance(compensation, Compensation) else Compensation.from_mapping(compensation)
        self._compensations.append(given)
        self._entry.write("artifact_write_started", {"compensations": [given.to_mapping()]})

    def written(self, **data: Any) -> None:
        """Record in the journal that bytes are complete and durable (state ``artifact_write_succeeded``)."""
        self._entry.write("artifact_write_succeeded", data)

    def afterwards(self, *actions: Action | Mapping[str, Any]) -> None:
        """Record in the journal what to do after the commit is certain. It is synced before the commit."""
        given = [each if isinstance(each, Action) else Action.from_mapping(each) for each in actions]
        self._entry.write("planned", {"afterwards": [each.to_mapping() for each in given]}, binding=True)
        self._actions += given
        self._planned = True

    def add_record(self, record: CatalogRecord) -> None:
        """Create *record* with the artifacts that were planned or written for it in this unit of work."""
        who, when = self.user_id, self._started_at

        def stamp(each: CatalogRecord) -> CatalogRecord:
            stamped = each.replace(created_at=when, created_by=who, updated_at=when, updated_by=who, version=1)
            return self._owned(stamped)

        self._write(record, lambda each: self._ports.backend.add_record(stamp(each)))

    def import_record(self, record: CatalogRecord) -> None:
        """Create *record* unchanged, with the versions, times and users of another catalog."""
        self._write(record, self._ports.backend.add_record, as_it_is=True)

    def update_record(self, record: CatalogRecord, *, validate: bool = True) -> None:
        """Replace the record if its stored version is still that of *record*.

        Parameters
        ----------
        validate
            Whether it must match its schema. It is false if the caller's metadata do not change: for a check, a fetch or a
            tombstone.
        """

        def act(each: CatalogRecord) -> CatalogRecord:
            backend = self._ports.backend
            former = backend.get_record(each.id)
            stamped = each.replace(updated_at=self._ports.clock(), updated_by=self.user_id)
            stored = backend.update_record(self._owned(stamped))
            assert former is not None, "a record that was updated was there"
            history.keep(backend.rows, former, stored)
            return stored

        self._write(record, act, checked=validate)

    def _owned(self, record: CatalogRecord) -> CatalogRecord:
        """Return *record* with this operation's id on it and on its new lineage edges."""
        made = {"operation_id": self.operation_id, "created_at": self._started_at}
        lineage = tuple(edge if edge.operation_id else edge.replace(**made) for edge in record.lineage)
        return record.replace(operation_id=self.operation_id, lineage=lineage)

    def delete_record(self, record: CatalogRecord) -> None:
        """Remove the record's row (purge) if its stored version is still that of *record*."""

        def act(each: CatalogRecord) -> None:
            self._ports.backend.delete_record(each.id, each.version)
            history.forget(self._ports.backend.rows, each.id)

        self._write(record, act, checked=False)

    def _write(
        self,
        record: CatalogRecord,
        act: Callable[[CatalogRecord], CatalogRecord | None],
        *,
        checked: bool = True,
        as_it_is: bool = False,
    ) -> None:
        self._kept.add(record.id)
        if made := self._artifacts.pop(record.id, None):
            others = [each for each in record.artifacts if each.artifact_id not in made]
            record = record.replace(artifacts=(*others, *made.values()))
        self._writes.append(_Write(record, act, as_it_is, checked))

    def join(self, fn: Callable[[], object]) -> None:
        """Run *fn* in the commit's transaction, after the records and before the operation's row."""
        self._joined.append(fn)

    def joined_records(self, ids: Iterable[str]) -> None:
        """Name the records that a joined function created in the backend itself as outputs of this operation."""
        found = list(ids)
        self._outputs += found
        self._records += found[:_RECORDS_NAMED]

    def check(self, record: CatalogRecord) -> None:
        """Check a record against its schema, under the policy of this unit of work. Violations may be warnings."""
        if (check := self._ports.check) is not None:
            lines = check(record, policy=self._schema_policy).lines()
            self.warnings += [line for line in dict.fromkeys(lines) if line not in self.warnings]

    # --- bytes ------------------------------------------------------------------------------------------------------

    def plan_record(self, **fields: Any) -> CatalogRecord:
        """Return a draft with a new id. It is in the catalog after it is added here and committed.

        In a unit of work of a catalog, times, schemas and lineage are interpreted as in ``Catalog.add``.
        """
        return self._drafting(fields)

    def plan_artifact(
        self,
        record: CatalogRecord,
        *,
        plan: StoragePlan | None = None,
        filename: str | None = None,
        profile: str = "default",
        **fields: Any,
    ) -> Artifact:
        """Return an artifact of *record* with a ``planned`` locator, from a plan or only from *filename*."""
        if plan is None:
            if filename is None:
                raise InvalidRequest("An artifact needs a plan or a file name.")
            plan = self._simple_plan(record, filename, profile)
            known = {"media_type": media_type_of(filename), "format": format_of(filename, plan.target_kind)}
            fields = {"original_name": filename, **known} | fields
        assert plan.profile is not None, "a reference is not a planned artifact"
        assert plan.relative_path is not None, "a plan with a profile has a path"
        place = PlannedPathLocator(profile=plan.profile, path=plan.relative_path)
        artifact = Artifact.from_mapping({"locator": place, "status": "planned", "target_kind": plan.target_kind, **fields})
        self._plans[artifact.artifact_id] = plan
        self._artifacts.setdefault(record.id, {})[artifact.artifact_id] = artifact
        return artifact

    def _simple_plan(self, record: CatalogRecord, filename: str, profile: str) -> StoragePlan:
        from cubeport.catalog.artifacts.paths import segment

        directory, name = f"{self._started_at:%Y}/{record.id[:8]}", segment(filename)
        path = f"{directory}/{name}"
        where = self._ports.profiles.get(profile)
        return StoragePlan(where.locator(path), "file", "write", profile, path, directory, name, object_id=new_id())

    def write_artifact(self, artifact: Artifact, source: object, *, hash: str | None = None) -> Artifact:
        """Write the bytes of a planned artifact (bytes, a path, or a writer with its source) and return it as ``available``.

        They have a temporary name until they are complete and synced, and get their final name without replacing anything. The
        profile decides how they are hashed, unless *hash* is given.
        """
        from cubeport.catalog.artifacts.writers import writing

        plan = self._plans.get(artifact.artifact_id)
        if plan is None or plan.profile is None:
            raise InvalidRequest(f"Artifact {artifact.artifact_id} was not planned in this unit of work.")
        profile = self._ports.profiles.get(plan.profile)
        assert plan.relative_path is not None, "a plan with a profile has a path"
        # The name contains our id, and no bytes are written before the next line, so this line needs no sync.
        temporary = Compensation(undo="remove_temp", profile=plan.profile, path=part_path(plan.relative_path, self.operation_id))
        self._compensations.append(temporary)
        self.planned(
            artifact={"artifact_id": artifact.artifact_id, "profile": plan.profile, "path": plan.relative_path},
            compensations=[temporary.to_mapping()],
        )
        target: Target = profile.target(plan, self.operation_id)
        self.compensate(*target.compensations)
        with store_errors("write the artifact"):
            with step("bytes"):
                result = writing(source).write(target.path, hash or profile.hash)
            with step("fsync"):
                target.seal()
            with step("publish"):
                path = target.publish(self.compensate)
        self.written_to[plan.object_id] = path
        self.written(artifact_id=artifact.artifact_id, path=path, size_bytes=result.size_bytes, hashes=result.hashes)
        stored = artifact.replace(
            locator=profile.locator(path),
            status="available",
            size_bytes=result.size_bytes,
            hashes=result.hashes,
            target_kind=plan.target_kind,
            created_at=self._ports.clock(),
        )
        for record_id, made in self._artifacts.items():
            if artifact.artifact_id in made:
                made[artifact.artifact_id] = stored
                self._outputs.append(f"{record_id}/{artifact.artifact_id}")
        return stored

    def forget(self, record_id: str) -> None:
        """Do not attach the planned and written artifacts to the record. The caller attaches them itself."""
        self._artifacts.pop(record_id, None)

    # --- the commit -------------------------------------------------------------------------------------------------

    def commit(self) -> Committed:
        """Commit in one transaction, then run the after-actions.

        Raises
        ------
        BackendUnavailable
            If it is unknown whether the transaction was committed. Nothing is undone then; ``recover`` decides by the row.
        """
        if self.committed is not None or self._undecided or self._given_up:
            raise InvalidRequest("This unit of work has ended.", operation_id=self.operation_id)
        if orphans := [record_id for record_id in self._artifacts if record_id not in self._kept]:
            raise InvalidRequest(
                f"Artifacts were planned for record {orphans[0][:8]}, which was not added here.",
                next_step="call add_record or update_record before the end of the unit of work",
                operation_id=self.operation_id,
            )
        self._run_before_hooks()
        if not self._planned:
            self.planned(records=[{"id": each.record.id, "version": each.record.version} for each in self._writes])
        self._entry.settle()
        with store_errors("commit the operation"), step("commit"):
            self._entry.write("catalog_write_started")
            records = self._transact()
        return self._go_forward(records)

    def _transact(self) -> tuple[CatalogRecord, ...]:
        backend = self._ports.backend
        stored: list[CatalogRecord] = []
        try:
            with backend.transaction():
                for as_it_is, writes in groupby(self._writes, key=lambda each: each.as_it_is):
                    if as_it_is:
                        records = [each.record for each in writes]
                        backend.add_records(records)
                        stored += records
                    else:
                        stored += [result for each in writes if (result := each.act(each.record)) is not None]
                for fn in self._joined:
                    fn()
                backend.put_operation(self._operation("succeeded"))
                self._tried = True
            passing("commit:unknown")
        except BaseException as exc:
            if not self._tried:
                raise
            # After COMMIT was sent, an error does not show whether it happened. The row does.
            if self._settle() != "succeeded":
                raise
            if not isinstance(exc, Exception):
                self.committed = Committed(self.operation_id, 0, tuple(stored))
                raise
        self.committed = Committed(self.operation_id, 0, tuple(stored))
        return tuple(stored)

    def _settle(self, cause: BaseException | None = None) -> OperationStatus:
        """Return the final status of the operation. If it has no row, insert one as ``rolled_back``."""
        try:
            self._row = settle(self._ports.backend, self._operation("rolled_back", cause))
        except Exception as exc:
            self._undecided = True
            if isinstance(exc, NoSpace):
                raise NoSpace(
                    "There is no space left. When there is space again, the operation is undone, or finished if it was committed.",
                    next_step="cubeport gc",
                    operation_id=self.operation_id,
                ) from exc
            raise BackendUnavailable(
                "The catalog does not say whether the operation was committed, so nothing was undone.",
                next_step="cubeport recover",
                operation_id=self.operation_id,
            ) from exc
        return self._row

    def _operation(self, status: OperationStatus, cause: BaseException | None = None) -> Operation:
        outputs = [each.record.id for each in self._writes]
        return Operation(
            operation_id=self.operation_id,
            parent_id=self._parent_id,
            operation_type=self.operation_type,
            status=status,
            inputs=tuple(self._inputs),
            outputs=tuple(dict.fromkeys((*outputs, *self._outputs))) if status == "succeeded" else (),
            parameters=self._parameters,
            started_at=self._started_at,
            ended_at=self._ports.clock(),
            created_by=self.user_id,
            error=self._reason(cause),
        )

    def _reason(self, cause: BaseException | None) -> dict[str, Any] | None:
        """Return why the operation did not succeed, for its row."""
        if cause is not None:
            return problem(cause)
        return None if self._why is None else {"kind": NOTHING, "message": self._why}

    def _go_forward(self, records: tuple[CatalogRecord, ...]) -> Committed:
        """Run the after-actions. Nothing here can fail the operation; what cannot be done now is reported, and ``recover`` does
        it.
        """
        self.committed = Committed(self.operation_id, self._generation(), records)
        try:
            self._entry.write("catalog_write_succeeded", {"generation": self.committed.generation})
            self._entry.write("hooks_started")
            self._run_hooks("after_record_commit", CommitPayload(records))
            with step("afterwards"):
                report = self._ports.undoer.act(self._actions, self.operation_id)
            if report.left:
                self._warn("afterwards: " + "; ".join(report.left))
            else:
                self._entry.write("committed")
                self._entry.close()
        except (CubeportError, OSError) as exc:
            self._warn(f"committed, but not cleaned up yet: {exc}")
        self.committed = Committed(self.operation_id, self.committed.generation, records, tuple(self.warnings))
        self._say("succeeded", "info")
        return self.committed

    def _generation(self) -> int:
        try:
            return self._ports.backend.generation()
        except (CubeportError, OSError):  # the commit is certain; its number is only information
            return 0

    # --- the way back -----------------------------------------------------------------------------------------------

    def _roll_back(self, cause: BaseException | None) -> None:
        """Insert the row first, so that no late COMMIT can refer to removed bytes. Then undo in reverse order."""
        if cause is not None:
            self._say("failed", "error", cause)
            self._run_hooks("on_operation_error", ErrorPayload(cause))
        try:
            status = self._row or settle(self._ports.backend, self._operation("rolled_back", cause))
        except Exception as exc:  # noqa: BLE001 - told by the second try, which says so or succeeds
            if not self._tried:
                # No COMMIT was sent and this process lives, so the bytes can be removed first. This frees space on a full disk.
                self._ports.undoer.undo(self._compensations, self.operation_id)
                if isinstance(cause, Locked):
                    return  # the error names the holder of the catalog; recovery closes the journal later
            status = self._settle_late(cause, exc)
        if status != "rolled_back":
            return  # interrupted just after the commit: it is valid, and recovery finishes it
        report = self._ports.undoer.undo(self._compensations, self.operation_id)
        self._run_hooks("on_operation_rollback", RollbackPayload(cause, [each.to_mapping() for each in self._compensations]))
        try:
            end(self._entry, report, problem(cause) if cause is not None else None)
        except CubeportError as exc:
            self._warn(f"rolled back, but the journal stays open: {exc.message}")
        self._say("rolled_back", "info")

    def _settle_late(self, cause: BaseException | None, first: BaseException) -> OperationStatus:
        try:
            return settle(self._ports.backend, self._operation("rolled_back", cause))
        except CatalogMoved:
            return "rolled_back"  # nothing can be committed to a retired store
        except Exception as last:  # noqa: BLE001 - the first failure is the cause that helps
            if any(isinstance(each, NoSpace) for each in (cause, first, last)):
                raise NoSpace(
                    "There is no space left. The operation was undone; its journal will be closed when there is space again.",
                    next_step="cubeport gc",
                    operation_id=self.operation_id,
                ) from (cause or first)
            raise BackendUnavailable(
                "The operation failed and could not be closed in the catalog; run `cubeport recover` to close it.",
                next_step="cubeport recover",
                operation_id=self.operation_id,
            ) from (cause or first)

    # --- hooks and events -------------------------------------------------------------------------------------------

    def context(self, *, step: str | None = None) -> HookContext:
        """Return the context for hooks of this operation. Their ``journal_undo`` is recorded in its journal."""

        def journal(hook: str, data: Mapping[str, Any]) -> None:
            self.compensate(Compensation.from_mapping({"undo": "hook_undo", "hook": hook, "data": dict(data)}))

        return HookContext(
            self._ports.catalog_id,
            self.operation_id,
            self.operation_type,
            self.user_id,
            self._ports.session_id,
            step=step or self.step,
            journal=journal,
        )

    def _run_before_hooks(self) -> None:
        outcome = self._ports.hooks.run("before_record_commit", self.context(), CommitPayload([w.record for w in self._writes]))
        self.warnings += outcome.warnings
        self._writes = [replace(each, record=outcome.apply(each.record)) for each in self._writes]
        for each in self._writes:
            if each.checked:
                self.check(each.record)

    def _run_hooks(self, point: str, payload: Any) -> None:
        self.warnings += self._ports.hooks.run(point, self.context(), payload).warnings

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self._ports.events.emit("operation.warning", message, level="warning", operation_id=self.operation_id)

    def _say(self, what: str, level: Any, exc: BaseException | None = None) -> None:
        message = f"{self.operation_type} {what.replace('_', ' ')}"
        records = list(dict.fromkeys((*self._records, *(each.record.id for each in self._writes))))
        fields: dict[str, Any] = {
            "operation_id": self.operation_id,
            "user_id": self.user_id,
            "operation_type": self.operation_type,
            "record_id": records[0] if records else None,
        }
        if len(records) > 1:
            fields["record_ids"] = records[:_RECORDS_NAMED]
        self._ports.events.emit(f"operation.{what}", message, level=level, exception=exc, **fields)


def settle(backend: CatalogBackend, row: Operation) -> OperationStatus:
    """Return the final status of the operation: that of its existing row, or that of *row*, which is inserted now.

    The id of the row is unique, so the first insert decides. A paused owner that wakes up later can no longer commit.
    """
    found = backend.get_operation(row.operation_id)
    if found is None:
        try:
            backend.put_operation(row)
        except RecordExists:
            found = backend.get_operation(row.operation_id)
            assert found is not None, "a row that exists can be read"
        else:
            return row.status
    return found.status


def end(entry: JournalEntry, report: Report, cause: Mapping[str, Any] | None) -> None:
    """Record the result of the rollback in the journal and close it. If something could not be undone, it stays open for a
    person.
    """
    entry.write("rollback_started", {"cause": cause, "done": report.done})
    if report.left:
        entry.write("failed", {"left": report.left}, durable=True)
        return
    entry.write("rolled_back")
    entry.close()


NOTHING = "nothing-to-do"
"""The kind in the row of an operation that was given up because its result was there already."""


def problem(exc: BaseException) -> dict[str, Any]:
    """Return the error for the row of an operation: its kind and message, without secrets."""
    kind = exc.kind if isinstance(exc, CubeportError) else "interrupted" if isinstance(exc, KeyboardInterrupt) else "internal"
    return {"kind": kind, "message": str(redact(str(exc)))[:2000]}


@cache
def machine() -> Mapping[str, str]:
    """Return the ids of this machine and of its current boot, because device numbers are not valid after a restart."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {"host": socket.gethostname(), "boot": boot.read_text().strip() if boot.exists() else ""}
