"""Change records: edits, tombstones, purges, and their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from cubeport.catalog import history, retention
from cubeport.catalog.drafts import Edge, Options
from cubeport.catalog.editing import Edit, EditedFields, demand_version, edited
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.front.opened import logged
from cubeport.catalog.front.searches import Searches
from cubeport.catalog.hooks import set_paths
from cubeport.catalog.keeping import integrity
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.names import Named
from cubeport.catalog.parts import Garbage
from cubeport.catalog.schemas import Policy
from cubeport.errors import Conflict, KeyExists, RecordNotFound


class Changes(Searches):
    """Change records: edits, tombstones, purges, and their history."""

    @logged
    def update(
        self,
        name: Named,
        *,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        tags_add: Iterable[str] = (),
        tags_remove: Iterable[str] = (),
        link: Iterable[Edge] = (),
        unlink: Iterable[tuple[str, Any]] = (),
        if_version: int | None = None,
        schema_policy: Policy | None = None,
        **fields: Unpack[EditedFields],
    ) -> CatalogRecord:
        """Change a record. :meth:`history` shows the changes, and :meth:`at` an earlier state.

        Parameters
        ----------
        set, unset
            Metadata to set or to remove, by dotted path.
        metadata
            Replaces all metadata.
        link, unlink
            Lineage edges to add, or to remove, as pairs of relation and target: an id, a key, a record or a URI.
        if_version
            Refuse the change unless the record has this version.
        fields
            Other fields of the record that a caller can set; ``None`` clears a field.

        Raises
        ------
        StaleRecord
            If the record has another version than *if_version*.
        """
        record = self.get(name)
        demand_version(record, if_version)
        edit = Edit(set or {}, unset, metadata, tags_add, tags_remove, tuple(map(self._edge, link)), self._ends(unlink), fields)
        after = self.schemas.settle(edited(record, edit))
        self.parts.protect(record, after)
        self.schemas.check(after, policy=schema_policy)
        if after == record:
            return record
        with self.unit_of_work("update", inputs=[record.id], schema_policy=schema_policy) as work:
            how = Options(schema_policy=schema_policy)
            work.update_record(self._adder.validated(work.context(), after, how, work.warnings))
            return work.commit().records[0].of(self)

    def _ends(self, pairs: Iterable[tuple[str, Any]]) -> frozenset[tuple[str, str]]:
        """Return the edges to remove. If the target no longer exists, it is given by its id, as ``fsck`` shows it."""

        def end(target: Any) -> str:
            try:
                return self.get(target).id
            except RecordNotFound:
                return str(target)

        return frozenset((rel, end(target)) for rel, target in pairs)

    def update_metadata(
        self,
        name: Named,
        updates: Mapping[str, Any],
        *,
        unset: Iterable[str] = (),
        replace: bool = False,
        if_version: int | None = None,
    ) -> CatalogRecord:
        """Set dotted paths of metadata. With *replace*, replace all metadata by the updates."""
        if replace:
            return self.update(name, metadata=set_paths({}, updates), unset=unset, if_version=if_version)
        return self.update(name, set=updates, unset=unset, if_version=if_version)

    @logged
    def delete(self, name: Named, *, if_version: int | None = None) -> CatalogRecord:
        """Delete a record and leave a tombstone. Its key is free at once, and its bytes are kept. Repeating it changes nothing."""
        record = self.get(name)
        if record.status == "deleted":
            return record
        demand_version(record, if_version)
        with self.unit_of_work("delete", inputs=[record.id]) as work:
            work.update_record(
                record.replace(
                    status="deleted", deleted_from=record.status, deleted_at=self.ports.clock(), deleted_by=work.user_id
                ),
                validate=False,
            )
            return work.commit().records[0].of(self)

    @logged
    def restore(self, name: Named) -> CatalogRecord:
        """Restore a deleted record as it was. Raises KeyExists if another record has its key now."""
        record = self.even_deleted(name)
        if record.status != "deleted":
            return record
        if record.key is not None and (holder := self.backend.get_by_key(record.key)) is not None:
            raise KeyExists(
                f"The key now belongs to record {holder.id[:8]}.",
                next_step=f"cubeport delete {holder.id[:8]}, then restore",
            )
        with self.unit_of_work("restore", inputs=[record.id]) as work:
            work.update_record(
                record.replace(status=record.deleted_from or "active", deleted_from=None, deleted_at=None, deleted_by=None),
                validate=False,
            )
            return work.commit().records[0].of(self)

    @logged
    def purge(self, name: Named, *, force: bool = False, dry_run: bool = False, if_version: int | None = None) -> CatalogRecord:
        """Remove the record's row, then its managed bytes; references are never touched. Returns what was removed.

        Raises
        ------
        Conflict
            If other records point to it. With *force* it is removed; their edges are kept, and ``fsck`` lists them.
        """
        record = self.even_deleted(name)
        demand_version(record, if_version)
        pointing = self.backend.edges(record.id, "in")
        if pointing and not force:
            raise Conflict(
                f"{len(pointing)} record(s) point to {record.id}.", next_step=f"cubeport lineage {record.id} --down; purge --force"
            )
        actions = [action for artifact in record.artifacts for action in integrity.removal(self.profiles, artifact)]
        if dry_run:
            return record
        with self.unit_of_work("purge", inputs=[record.id]) as work:
            if actions:
                work.afterwards(*actions)
            work.delete_record(record)
            work.commit()
        return record

    def retain(self, *, dry_run: bool = False) -> list[Garbage]:
        """Delete and purge the records that ``catalog.yaml`` keeps no longer, one operation each. Return them.

        A record that others point to is kept, and returned as not removed.
        """
        found = []
        for each in retention.expired(self.iterate, self.parts.retention, self.ports.clock()):
            record, pointing = each.record, self.backend.edges(each.record.id, "in") if each.act == "purge" else []
            if not dry_run and not pointing:
                act = self.delete if each.act == "delete" else self.purge
                act(record, if_version=record.version)
            reason = f"{each.reason}; kept, as {len(pointing)} record(s) point to it" if pointing else each.reason
            size = sum(artifact.size_bytes or 0 for artifact in record.artifacts if artifact.managed)
            since = timestamp(record.deleted_at or record.updated_at)
            removed = not dry_run and not pointing
            found.append(Garbage("catalog", record.id, size, since, reason, ours=True, removed=removed, kind=f"{each.act}-record"))
        return found

    def history(self, name: Named) -> list[history.Edit]:
        """Return the versions of a record, newest first: when, by whom, in which operation, and which fields changed."""
        return history.edits(self.rows, self.get(name))

    def at(self, name: Named, version: int) -> CatalogRecord:
        """Return a record as it was at an earlier version. Raises RecordNotFound if there is no such version, or it is not kept."""
        return history.at_version(self.rows, self.get(name), version)
