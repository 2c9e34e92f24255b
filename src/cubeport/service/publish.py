"""Publish, unpublish, delete and restore: each is one commit, which the next request sees on every face in every process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from cubeport.catalog.backend import Row
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.forms.canonical import is_id, now
from cubeport.catalog.models import CatalogRecord, TimeSpan
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.cubes.description import CubeDescription
from cubeport.errors import DatasetExists, InvalidRequest, NotFound, NothingToPublish, PreconditionFailed, TagExists, VersionRemoved
from cubeport.service.changes import Reason, announce
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.retain import removed
from cubeport.service.state import GONE, VERSION, DatasetState, Publication, Reach, VersionState, why_gone

_TAG = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_LEFT = 100
"""For how many versions the record keeps when they stopped being ``latest``. For older ones, the last move of ``latest`` is
used."""


def pointed(state: DatasetState, version_id: str) -> DatasetState:
    """Return *state* published at *version_id*."""
    at = now()
    left = {name: when for name, when in state.left.items() if name != version_id}
    if state.latest is not None and state.latest != version_id:
        left[state.latest] = at
    first = state.publication.published_at if state.published else at
    return state.model_copy(
        update={
            "latest": version_id,
            "head": state.head or version_id,
            "publication": Publication(status="published", published_at=first),
            "left": dict(sorted(left.items(), key=lambda each: each[1])[-_LEFT:]),
            "shown_since": state.shown_since if state.latest == version_id and state.shown_since else at,
        }
    )


def publish(catalog: Catalog, datasets: Datasets, dataset_id: str, *, version: str | None = None) -> CatalogRecord:
    """Publish ``head``, or the version with an id or tag, on every face. Repeating it changes nothing.

    Raises
    ------
    NotFound, NothingToPublish, VersionRemoved
        If there is no such dataset or version, there is nothing to publish, or retention removed the version.
    """
    dataset = datasets.get(dataset_id)
    state = dataset.state
    version_id = _named(state, version) if version else (state.head or state.latest)
    if version_id is None:
        raise NothingToPublish(f"Dataset {dataset_id!r} has no version.", next_step=f"cubeport ingest … --id {dataset_id}")
    row = _row_of(catalog, dataset, version_id)
    if state.published and state.latest == version_id:
        return dataset.record
    with catalog.unit_of_work(operation_type="publish", inputs=(dataset.record.id,)) as work:
        show(work, catalog, datasets, dataset.record, state, row, reason="version" if state.published else "published")
        return work.commit().records[0]


def rollback(catalog: Catalog, datasets: Datasets, dataset_id: str, *, to: str) -> CatalogRecord:
    """Go back to a version, given by id or tag. Readers see it, and the next ingestion updates it.

    This is one commit, and no bytes are copied. Later versions stay listed and can be published again. An unpublished dataset stays
    unpublished. Repeating it changes nothing.

    Raises
    ------
    NotFound, VersionRemoved
        If there is no such dataset or version, or retention removed the version.
    """
    dataset = datasets.get(dataset_id)
    state = dataset.state
    row = _row_of(catalog, dataset, _named(state, to))
    if state.head == row.id and state.latest in (None, row.id):
        return dataset.record
    with catalog.unit_of_work(operation_type="rollback", inputs=(dataset.record.id,), parameters={"to": row.id}) as work:
        moved = state.model_copy(update={"head": row.id})
        if state.published:
            show(work, catalog, datasets, dataset.record, moved, row, reason="rolled_back")
        else:
            hidden = moved.model_copy(update={"latest": row.id if state.latest else None})
            work.update_record(with_shown(dataset.record, hidden, datasets.cube(row.id).description))
        return work.commit().records[0]


def tag(catalog: Catalog, datasets: Datasets, dataset_id: str, name: str, *, version: str, force: bool = False) -> str:
    """Tag a version; return its id. Readers can pin it as ``dataset@tag``, and retention keeps it. Repeating it changes nothing.

    Raises
    ------
    NotFound, VersionRemoved
        If there is no such dataset or version, or retention removed the version.
    InvalidRequest
        If *name* is not lower case letters, digits, dots, dashes and underscores, or is ``latest``.
    TagExists
        If it is a tag of another version, unless *force*.
    """
    if not _TAG.fullmatch(name) or name == "latest":
        raise InvalidRequest(
            f"{name[:80]!r} cannot be a tag: begin with a lower-case letter, then letters, digits, dots, dashes, underscores."
        )
    dataset = datasets.get(dataset_id)
    version_id = _row_of(catalog, dataset, _named(dataset.state, version)).id
    held = dataset.state.tags.get(name)
    if held == version_id:
        return version_id
    if held is not None and not force:
        raise TagExists(f"Tag {name!r} names version {held} of {dataset_id!r}.", next_step="choose another tag, or --force")
    _with_tags(catalog, dataset, {**dataset.state.tags, name: version_id})
    return version_id


def untag(catalog: Catalog, datasets: Datasets, dataset_id: str, name: str) -> str:
    """Remove a tag, but keep the version until retention removes it; return its id. Raises NotFound."""
    dataset = datasets.get(dataset_id)
    if name not in dataset.state.tags:
        raise NotFound(f"Dataset {dataset_id!r} has no tag {name[:80]!r}.", what="version")
    _with_tags(catalog, dataset, {tag: version for tag, version in dataset.state.tags.items() if tag != name})
    return dataset.state.tags[name]


def _with_tags(catalog: Catalog, dataset: Dataset, tags: dict[str, str]) -> None:
    with catalog.unit_of_work(operation_type="tag", inputs=(dataset.record.id,)) as work:
        after = with_state(dataset.record, dataset.state.model_copy(update={"tags": tags}))
        work.update_record(after)
        announce(work, catalog.backend, dataset.record, after, "metadata")
        work.commit()


def _row_of(catalog: Catalog, dataset: Dataset, version_id: str) -> Row:
    dataset_id = dataset.state.texts.dataset_id
    row = catalog.rows.get(VERSION, version_id)
    if row is None or row.owner != dataset.record.id:
        raise NotFound(f"Dataset {dataset_id!r} has no version {version_id}.", what="version")
    if row.state in GONE:
        raise VersionRemoved(f"Version {version_id} {why_gone(row.state)}.", next_step="choose another version")
    return row


def show(
    work: UnitOfWork,
    catalog: Catalog,
    datasets: Datasets,
    record: CatalogRecord,
    state: DatasetState,
    row: Row,
    *,
    reason: Reason,
) -> None:
    """Publish the version of *row* in this unit of work: update the record, and record the time in the row."""
    version = VersionState.of(row.document)
    after = with_shown(record, pointed(state, version.version_id), datasets.cube(version.version_id).description)
    work.update_record(after)
    announce(work, catalog.backend, record, after, reason)
    if version.shown_at is None:
        first = version.model_copy(update={"shown_at": now()})
        work.join(lambda: catalog.rows.put(first.row(row.owner, state=row.state, revision=row.revision)))


def unpublish(catalog: Catalog, datasets: Datasets, dataset_id: str) -> CatalogRecord:
    """Remove the dataset from every face. Versions and pointers stay. Repeating it changes nothing."""
    dataset = datasets.get(dataset_id)
    if dataset.state.publication.status == "unpublished":
        return dataset.record
    state = dataset.state.model_copy(update={"publication": Publication()})
    with catalog.unit_of_work(operation_type="unpublish", inputs=(dataset.record.id,)) as work:
        after = with_state(dataset.record, state)
        work.update_record(after)
        announce(work, catalog.backend, dataset.record, after, "unpublished")
        return work.commit().records[0]


def delete(
    catalog: Catalog, datasets: Datasets, dataset_id: str, *, if_match: int | None = None, purge: bool = False
) -> CatalogRecord:
    """Delete a dataset and leave a tombstone. It disappears from every face, and its id is free again. The bytes stay.

    With *purge*, all versions are removed in the same commit. ``gc`` and the clock of the jobs free the bytes
    ``retention.grace_min`` later, because earlier readers still use them.

    Raises
    ------
    NotFound
        If there is no such dataset.
    PreconditionFailed
        If *if_match* is not the record's version.
    """
    dataset = datasets.get(dataset_id)
    if if_match is not None and if_match != dataset.record.version:
        raise PreconditionFailed(f"Dataset {dataset_id!r} is at record version {dataset.record.version}.")
    record = dataset.record
    with catalog.unit_of_work("delete", inputs=(record.id,), parameters={"purge": purge}) as work:
        gone = {"status": "deleted", "deleted_from": record.status, "deleted_at": now(), "deleted_by": work.user_id}
        deleted = record.replace(**gone)
        work.update_record(deleted)
        announce(work, catalog.backend, record, deleted, "deleted")
        for row in _kept(catalog, record) if purge else ():
            work.join(partial(catalog.rows.put, removed(row)))
        return work.commit().records[0]


def _kept(catalog: Catalog, record: CatalogRecord) -> Iterator[Row]:
    """Yield the versions of a dataset that are not removed."""
    after: tuple[int, str] | None = None
    while rows := catalog.rows.select(VERSION, owner=record.id, after=after, limit=500):
        yield from (row for row in rows if row.state not in GONE)
        after = rows[-1].seq, rows[-1].id


def restore(catalog: Catalog, datasets: Datasets, name: str) -> CatalogRecord:
    """Restore the most recently deleted dataset with an id, or the one with a record id, unpublished.

    This is one commit, so readers never see it in between.

    Raises
    ------
    NotFound, DatasetExists
        If there is no such deleted dataset, it was purged, or another dataset uses the id now.
    """
    found = datasets.deleted(name)
    if found is None:
        raise NotFound(f"No dataset {name[:80]!r} was deleted.", what="dataset", next_step="cubeport search --status deleted")
    state = DatasetState.of(found)
    dataset_id = state.texts.dataset_id
    if datasets.find(dataset_id) is not None:
        raise DatasetExists(
            f"Dataset {dataset_id!r} was created again after this one was deleted.",
            next_step=f"delete the new one (cubeport delete {dataset_id}), then restore the old one: cubeport restore {found.id}",
        )
    if next(_kept(catalog, found), None) is None:
        raise NotFound(
            f"Dataset {dataset_id!r} was purged: all its versions are removed for good.",
            what="dataset",
            next_step=f"publish its data again: cubeport ingest FILES --id {dataset_id}",
        )
    back = found.replace(status=found.deleted_from or "active", deleted_from=None, deleted_at=None, deleted_by=None)
    with catalog.unit_of_work("restore", inputs=(found.id,)) as work:
        work.update_record(with_state(back, state.model_copy(update={"publication": Publication()})), validate=False)
        return work.commit().records[0]


def with_state(record: CatalogRecord, state: DatasetState) -> CatalogRecord:
    """Return *record* with *state*, and with the texts that searches use."""
    texts = state.texts
    return record.replace(
        title=texts.title,
        description="\n\n".join(filter(None, (texts.description, state.quantities))),
        tags=texts.keywords,
        metadata={**record.metadata, **state.metadata()},
    )


def quantities(shown: CubeDescription) -> str:
    """Return what the data variables of a version are, in words: somebody who looks for temperature does not know ``tas``."""
    words = {each.name: (each.long_name, (each.standard_name or "").replace("_", " ")) for each in shown.variables}
    named = []
    for name in shown.all_fields[:_MOST_QUANTITIES]:
        known = dict.fromkeys(filter(None, words.get(name, ())))
        named.append(f"{name}: {', '.join(known)}" if known else name)
    return "; ".join(named)[:_QUANTITIES]


_MOST_QUANTITIES, _QUANTITIES = 200, 8_000
"""Variables, and letters of all of them, that a search by words knows of a dataset."""


def with_shown(record: CatalogRecord, state: DatasetState, shown: CubeDescription) -> CatalogRecord:
    """Return *record* with *state*, and with the time and place of *shown* for searches."""
    reach = Reach.of(shown)
    told = {"variables": shown.all_fields, "quantities": quantities(shown), "grids": len(shown.grids)}
    moved = state.model_copy(update=told)
    time = TimeSpan.model_validate({"start": reach.start, "end": reach.end}) if reach.start else None
    return with_state(record, moved).replace(time=time, bbox=reach.bbox)


def _named(state: DatasetState, name: str) -> str:
    if name == "latest" and state.latest:
        return state.latest
    if is_id(name):
        return name
    if name in state.tags:
        return state.tags[name]
    raise NotFound(
        f"There is no version or tag {name[:80]!r}.", what="version", next_step=f"cubeport versions {state.texts.dataset_id}"
    )
