"""Maintain a catalog: operations, events, recovery, checks."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Unpack

from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.locks import clear_note, noted
from cubeport.catalog.events import EventFields, EventPage
from cubeport.catalog.front.opened import OpenedCatalog
from cubeport.catalog.keeping import operations
from cubeport.catalog.keeping.doctor import doctor
from cubeport.catalog.keeping.fsck import Checked, FsckOptions, fsck
from cubeport.catalog.keeping.gc import gc
from cubeport.catalog.models import Operation, OperationStatus
from cubeport.catalog.names import Named, name_of
from cubeport.catalog.parts import Garbage
from cubeport.catalog.work import recovery
from cubeport.catalog.work.recovery import Recovered
from cubeport.errors import RecordNotFound


class Upkeep(OpenedCatalog):
    """Maintain a catalog: operations, events, recovery, checks."""

    def logs(self, **query: Unpack[EventFields]) -> EventPage:
        """Return events, the newest last; see :meth:`cubeport.catalog.events.EventLog.read`.

        The record can be named as everywhere. The events of a purged record are found by its id.

        Raises
        ------
        RecordNotFound, AmbiguousId
            If the record is named by a key that no record has, or by the beginning of several ids.
        """
        if (name := query.get("record")) is not None:
            query["record"] = self._id_in_log(name)
        return self.events.read(**query)

    def _id_in_log(self, name: Named) -> str:
        try:
            return self.get(name).id
        except RecordNotFound:
            text = name_of(name)
            if re.fullmatch("[0-9a-f]{4,32}", text):
                return text
            raise

    def operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first. Open ones are ``running``, or ``failed`` if a person must check them."""
        return operations.operations(self.ports, status=status, since=since, limit=limit)

    def operation(self, operation_id: str) -> dict[str, Any]:
        """Return one operation (by its id or the first characters) with the lines of its journal. Raises NotFound."""
        return operations.operation(self.ports, operation_id)

    def operations_on(self, name: Named, limit: int = 1000) -> list[Operation]:
        """Return the operations on a record, among the last *limit* of all, newest first."""
        record = self.get(name)
        return [each for each in self.operations(limit=limit) if record.id in (*each.outputs, *each.inputs)]

    def recover(self, operation_id: str | None = None, *, dry_run: bool = False, skip: bool = False) -> list[Recovered]:
        """Finish or undo the operations that dead processes left open. It is safe to repeat. Raises NotFound for an unknown
        operation.
        """
        if operation_id is not None:
            self.operation(operation_id)
        if not dry_run:
            self._writable()
            if self.parts.locks is not None:
                for path in noted(self.parts.locks):
                    clear_note(path)
        return recovery.recover(self.ports, operation_id, dry_run=dry_run, skip=skip)

    def doctor(self) -> list[Finding]:
        """Check the catalog and return the findings with next steps. It changes nothing and reads no data."""
        return doctor(self.ports, self.parts)

    def fsck(self, name: Named | None = None, **query: Unpack[FsckOptions]) -> Checked:
        """Compare the catalog with its stores; see :func:`cubeport.catalog.keeping.fsck.fsck`."""
        if query.get("repair"):
            self._writable()
        return fsck(self.ports, self.parts, self.get(name) if name else None, **query)

    def gc(self, *, older_than_s: float = 24 * 3600, dry_run: bool = False) -> list[Garbage]:
        """Remove bytes that are provably ours and no longer used. Unknown files are listed and kept."""
        if not dry_run:
            self._writable()
        return gc(self.ports, self.parts, older_than_s=older_than_s, dry_run=dry_run)

    def info(self) -> dict[str, Any]:
        """Return what kind of catalog this is, and what it contains."""
        return operations.info(self.ports, self.parts)
