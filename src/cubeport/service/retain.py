"""Retention: which versions are kept, and how the others are removed.

A version is kept while it is ``latest`` or ``head``, while it has a tag, while it is one of the newest ``keep_last`` of its dataset
or younger than ``keep_days``, and for ``grace_min`` after it stopped being ``latest``. All other versions are *removed*: their URLs
answer 410 from this commit on, and their rows stay. The bytes of removed versions (by retention or by a purge) are *freed*
``grace_min`` later, when earlier readers have finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cubeport.catalog.backend import Row
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.forms.canonical import now, timestamp
from cubeport.errors import CubeportError, DatasetBusy
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.engines import Engines
from cubeport.service.ports import Lister
from cubeport.service.state import GONE, KIND, VERSION, DatasetState, VersionState, named

_PAGE = 500
_NOT_KEPT = "retention does not keep it"


@dataclass(frozen=True, slots=True)
class Rule:
    """The settings ``retention.*``."""

    keep_last: int = 5
    keep_days: int = 7
    grace_min: int = 15

    @property
    def grace(self) -> timedelta:
        """How long a version is kept after it stopped being ``latest``, and its bytes after it was removed."""
        return timedelta(minutes=self.grace_min)


@dataclass(frozen=True, slots=True)
class Retired:
    """One version that is removed or freed."""

    dataset_id: str
    version_id: str
    act: str
    """``removed``: its URLs answer 410; ``freed``: its bytes are deleted."""
    size_bytes: int
    """The size of objects that no other version shares, which freeing releases."""
    at: str
    """When it was made; for a freed version, when it was removed."""
    why: str


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """The size of one version."""

    version_id: str
    state: str
    """As in the list of versions: ``latest``, ``head``, ``retained``, ``removed`` or ``missing``."""
    created_at: str
    size_bytes: int
    own_bytes: int
    """The size of objects that no other version has."""
    shared_bytes: int
    """The size of objects that other versions share by hard links."""


@dataclass(frozen=True, slots=True)
class DatasetUsage:
    """The size of one dataset, with each shared object counted once."""

    dataset_id: str
    status: str
    """``published``, ``unpublished`` or ``deleted``."""
    size_bytes: int
    versions: tuple[VersionUsage, ...]


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The size of an instance's versions, and what retention would free now."""

    size_bytes: int
    would_free_bytes: int
    datasets: tuple[DatasetUsage, ...]


def expired(state: DatasetState, versions: Sequence[VersionState], rule: Rule, at: datetime) -> list[VersionState]:
    """Return the versions that the rule does not keep at the time *at*. Pure.

    Parameters
    ----------
    versions
        The retained versions of the dataset, in any order.
    """
    newest = sorted(versions, key=lambda version: version.seq, reverse=True)[: rule.keep_last]
    kept = {state.latest, state.head, *state.tags.values(), *(version.version_id for version in newest)}
    young = at - timedelta(days=rule.keep_days)
    return [
        version
        for version in versions
        if version.version_id not in kept and version.created_at <= young and _left(state, version) + rule.grace <= at
    ]


def _left(state: DatasetState, version: VersionState) -> datetime:
    """Return when the version stopped being ``latest``, or when it was made if it was not published."""
    if version.shown_at is None:
        return version.created_at
    return state.left.get(version.version_id) or state.shown_since or version.created_at


class Retention:
    """Applies the rule to an instance, to each dataset under its own lock.

    Parameters
    ----------
    lock
        ``lock(dataset_id)`` raises DatasetBusy. A busy dataset is checked next time.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        engines: Engines,
        rule: Rule,
        lock: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._engines = engines
        self._rule = rule
        self._lock = lock

    def apply(self, *, dry_run: bool = False) -> list[Retired]:
        """Remove the versions that the rule does not keep, free those that were removed long enough ago, and return all, each once.

        After a kill at any point, the next call continues: a version is first removed by a commit, then freed, and then its row is
        updated.
        """
        found = {each.version_id: each for each in self._remove(dry_run=dry_run)}
        if dry_run and not self._rule.grace:
            found = {version_id: replace(each, act="freed") for version_id, each in found.items()}
        for each in self._free(dry_run=dry_run):  # without a grace, also what was removed just now
            before = found.get(each.version_id)
            found[each.version_id] = each if before is None else replace(each, why=before.why)
        return list(found.values())

    def _remove(self, *, dry_run: bool) -> Iterator[Retired]:
        owners: dict[str, None] = {}
        # A dataset with at most as many versions as are always kept needs no check.
        for row in self._select(["retained"], after=(self._rule.keep_last, "\uffff")):
            owners[row.owner] = None
        for owner in owners:
            record = self._catalog.backend.get_record(owner)
            if record is None or record.status == "deleted":
                continue
            # First check without the lock, because usually nothing is to be removed.
            state = DatasetState.of(record)
            dataset_id, gone = state.texts.dataset_id, self._retire(Dataset(record, state), dry_run=True)
            if dry_run:
                yield from gone
            if dry_run or not gone:
                continue
            try:
                with self._lock(dataset_id):
                    held = self._datasets.find(dataset_id)
                    if held is not None:
                        yield from self._retire(held, dry_run=False)
            except DatasetBusy:
                continue

    def _retire(self, dataset: Dataset, *, dry_run: bool) -> list[Retired]:
        rows = {row.id: row for row in self._select(["retained"], owner=dataset.record.id)}
        versions = {id_: VersionState.of(row.document) for id_, row in rows.items()}
        found = expired(dataset.state, list(versions.values()), self._rule, now())
        dataset_id = dataset.state.texts.dataset_id
        own = self._own(dataset_id, found)
        gone = []
        for each in found:
            size, made = own[each.version_id], timestamp(each.created_at)
            gone.append(Retired(dataset_id, each.version_id, "removed", size, made, _NOT_KEPT))
        if found and not dry_run:
            left = {id_: at for id_, at in dataset.state.left.items() if id_ not in {each.version_id for each in found}}
            with self._catalog.unit_of_work("retain", inputs=(dataset.record.id,), parameters={"versions": len(found)}) as work:
                # The record changes too, so that every process sees the removal at its next request.
                state = dataset.state.model_copy(update={"left": left})
                work.update_record(dataset.record.replace(metadata={**dataset.record.metadata, **state.metadata()}))
                for each in found:
                    work.join(partial(self._catalog.rows.put, removed(rows[each.version_id])))
                work.commit()
        return gone

    def _free(self, *, dry_run: bool) -> Iterator[Retired]:
        at, failed = now(), None
        dropped: dict[str, tuple[Lister, str]] = {}
        for row in self._select(["removed"]):
            version = VersionState.of(row.document)
            if version.removed_at is not None and version.removed_at + self._rule.grace > at:
                continue
            record = self._catalog.backend.get_record(row.owner)
            if record is None or record.kind != KIND:
                continue  # `gc` removes the bytes of a purged record
            dataset_id = DatasetState.of(record).texts.dataset_id
            own, when = self._own(dataset_id, [version])[row.id], timestamp(version.removed_at or version.created_at)
            freed = Retired(dataset_id, row.id, "freed", own, when, "it was removed before")
            if not dry_run:
                try:
                    with self._lock(dataset_id):
                        if self._catalog.rows.get(VERSION, row.id) != row:
                            continue  # it came again from the service that it mirrors
                        dropped[dataset_id] = self._engines.drop(dataset_id, row.id), row.owner
                        self._catalog.rows.put(version.row(row.owner, state="freed", revision=row.revision))
                except DatasetBusy:
                    continue
                except CubeportError as error:
                    failed = failed or error  # a failure must not prevent freeing the others
                    continue
            yield freed
        for dataset_id, (lister, owner) in dropped.items():
            try:
                with self._lock(dataset_id):
                    lister.collect(dataset_id, [row.id for row in self._select(["retained", "removed"], owner=owner)])
            except DatasetBusy:
                continue  # the bytes stay until the next version is freed, or until `gc`
            except CubeportError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def usage(self) -> DiskUsage:
        """Return the size of all stored versions, and what :meth:`apply` would eventually free."""
        found: dict[str, list[tuple[VersionState, str]]] = {}
        for row in self._select(["retained", "removed", "missing"]):
            found.setdefault(row.owner, []).append((VersionState.of(row.document), row.state))
        datasets = [used for owner, versions in found.items() if (used := self._of_dataset(owner, versions)) is not None]
        going = {(each.dataset_id, each.version_id) for each in self._remove(dry_run=True)}
        would_free = sum(
            version.own_bytes
            for used in datasets
            for version in used.versions
            if version.state == "removed" or (used.dataset_id, version.version_id) in going
        )
        return DiskUsage(
            sum(each.size_bytes for each in datasets), would_free, tuple(sorted(datasets, key=lambda each: each.dataset_id))
        )

    def _of_dataset(self, owner: str, versions: Sequence[tuple[VersionState, str]]) -> DatasetUsage | None:
        record = self._catalog.backend.get_record(owner)
        if record is None:
            return None
        state = DatasetState.of(record)
        status = "deleted" if record.status == "deleted" else "published" if state.published else "unpublished"
        occupied = self._engines.occupied(state.texts.dataset_id, {version.engine for version, _ in versions})
        used = []
        for version, stored in sorted(versions, key=lambda each: each[0].seq):
            size, own = occupied.versions.get(version.version_id, (0, 0))
            # Nothing points to a version of a deleted dataset.
            latest, head = (None, None) if status == "deleted" else (state.latest, state.head)
            name = named(stored, version.version_id, latest=latest, head=head)
            used.append(VersionUsage(version.version_id, name, timestamp(version.created_at), size, own, size - own))
        return DatasetUsage(state.texts.dataset_id, status, occupied.size_bytes, tuple(used))

    def _own(self, dataset_id: str, versions: Sequence[VersionState]) -> dict[str, int]:
        """Return the bytes that removing each version on its own would free at least."""
        occupied = self._engines.occupied(dataset_id, {version.engine for version in versions})
        return {version.version_id: occupied.versions.get(version.version_id, (0, 0))[1] for version in versions}

    def _select(self, states: Sequence[str], *, owner: str | None = None, after: tuple[int, str] | None = None) -> Iterator[Row]:
        while rows := self._catalog.rows.select(VERSION, owner=owner, states=states, after=after, limit=_PAGE):
            yield from rows
            after = rows[-1].seq, rows[-1].id


def removed(row: Row) -> Row:
    """Return the row of a version as removed now. A row that is already removed does not change."""
    if row.state in GONE:
        return row
    version = VersionState.of(row.document).model_copy(update={"removed_at": now()})
    return replace(row, document=version.model_dump(mode="json"), state="removed")


def document(usage: DiskUsage) -> dict[str, Any]:
    """Return the usage as shown over HTTP and on the command line."""
    return {
        "kind": "Usage",
        "size_bytes": usage.size_bytes,
        "would_free_bytes": usage.would_free_bytes,
        "datasets": [
            {
                "dataset_id": each.dataset_id,
                "status": each.status,
                "size_bytes": each.size_bytes,
                "versions": [
                    {name: getattr(version, name) for name in VersionUsage.__dataclass_fields__} for version in each.versions
                ],
            }
            for each in usage.datasets
        ],
    }
