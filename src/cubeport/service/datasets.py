"""Read datasets from the catalog. All faces use this module, so all show the same.

It keeps no list of datasets, and its caches do not expire, because they contain only values that never change.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from cubeport.catalog.backend import CatalogBackend, Placed, Row, RowSearch
from cubeport.catalog.forms.canonical import is_id, timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import Page, Query, sort_key, write_cursor
from cubeport.catalog.similar import did_you_mean, similar
from cubeport.catalog.terms import Term
from cubeport.cubes.bounded import Bounded
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, CorruptCatalog, InvalidCursor, NewerModel, NotFound, VersionRemoved
from cubeport.service.coalesced import Coalesced
from cubeport.service.items import Candidate, Look
from cubeport.service.state import CUBE, GONE, KIND, RETAINED, VERSION, Cube, DatasetState, VersionState, shown_since, why_gone
from cubeport.service.templates import ID_PATTERN
from cubeport.service.viewing import CURRENT, Restricted, sees

CUBES_CACHED = 256
"""How many descriptions and sealed documents are cached. The least recently used are dropped first."""

COUNTS_CACHED = 256
"""How many totals are cached, by generation and query."""
STATES_CACHED = 4096
"""How many dataset states are cached for searches, by record and its version."""

_log = logging.getLogger(__name__)

_ID = re.compile(ID_PATTERN)


class HasBackend(Protocol):
    """The part of the catalog that reading needs."""

    @property
    def backend(self) -> CatalogBackend: ...


MOST_READ = 100_000
"""How many datasets one page tests for conditions that no index answers together, which takes about a tenth of a second."""

MOST_COUNTED = 10_000
"""Up to this many datasets are counted, for totals of a search and facets, and sorted in an order that no index has."""

_STATUS = "dataset.publication.status"


@dataclass(frozen=True, slots=True)
class ShownPage:
    """One page of a list of datasets."""

    items: tuple[PublishedView, ...]
    next: str | None
    matched: int | None
    """How many match; ``None`` if nobody asked, or if more than :data:`MOST_COUNTED` match a search."""
    damaged: tuple[str, ...] = ()
    """The ids of unreadable datasets that would be on this page (or of their records). They are omitted."""
    before: str | None = None
    """The cursor of the page before, in the order of ids; ``None`` in other orders, in which datasets can be equal."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in the catalog: its record and the state in it."""

    record: CatalogRecord
    state: DatasetState


class Datasets:
    """The datasets of a catalog as readers see them.

    Parameters
    ----------
    remote
        Whether the catalog is on another machine, so that asking for its generation takes time.
    """

    def __init__(self, catalog: HasBackend, *, remote: bool = False) -> None:
        self._backend = catalog.backend
        # Over a network, the requests that ask at the same time share one question.
        self._newest = Coalesced(self._backend.generation) if remote else self._backend.generation
        self._views: Bounded[tuple[int, str, bool], PublishedView] = Bounded(CUBES_CACHED)
        self._cubes: Bounded[str, Cube] = Bounded(CUBES_CACHED)
        self._counts: Bounded[tuple[int, str], tuple[int | None]] = Bounded(COUNTS_CACHED)
        self._near: Bounded[tuple[int, bool, str], list[str]] = Bounded(COUNTS_CACHED)
        self._facets: Bounded[tuple[int, str], Mapping[str, tuple[tuple[str, int | None], ...]]] = Bounded(COUNTS_CACHED)
        self._states: Bounded[tuple[str, int], DatasetState] = Bounded(STATES_CACHED)
        self._restricted = Restricted(catalog.backend, self._newest)

    def generation(self) -> int:
        """Return the sequence number of the catalog's last commit. If it is the same, no list has changed."""
        return self._newest()

    def find(self, dataset_id: str) -> Dataset | None:
        """Return the dataset, published or not; ``None`` if the catalog says that there is none."""
        if not _ID.fullmatch(dataset_id):
            return None
        try:
            record = self._backend.get_by_key(dataset_id)
        except CorruptCatalog as exc:
            raise CorruptCatalog(f"The record of dataset {dataset_id!r} cannot be read.", next_step="cubeport fsck") from exc
        if record is None or record.kind != KIND:
            return None
        return Dataset(record, DatasetState.of(record))

    def head(self, dataset: Dataset) -> VersionState | None:
        """Return the version that the next ingestion of the dataset updates; ``None`` if it has none that is retained."""
        row = self._backend.rows.get(VERSION, dataset.state.head) if dataset.state.head else None
        return VersionState.of(row.document) if row is not None and row.state not in GONE else None

    def get(self, dataset_id: str) -> Dataset:
        """Return the dataset, published or not. Raises NotFound."""
        if found := self.find(dataset_id):
            return found
        raise self._no_dataset(dataset_id)

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool:
        """Return whether the current viewer may see the dataset with this id, or the last one if it was deleted.

        Parameters
        ----------
        if_none
            The answer if the catalog knows none: it never existed, or its record was purged, and with it who might see it.
        """
        if if_none and self._restricted.audience() is None:
            return True
        found = self.find(dataset_id)
        record = found.record if found is not None else self.deleted(dataset_id)
        return if_none if record is None else sees(record)

    def check_visible(self, dataset_id: str) -> None:
        """Refuse a dataset that the current viewer may not see, as if it did not exist. Raises NotFound."""
        if not self.visible(dataset_id):
            raise self._no_dataset(dataset_id)

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView:
        """Return the published view of ``{dataset_id}`` or ``{dataset_id}@{version id, tag or latest}``.

        Parameters
        ----------
        ref
            The reference in the URL.
        unpublished
            Whether the caller may see unpublished datasets.

        Raises
        ------
        NotFound
            With ``what: dataset`` if it does not exist, is deleted, is not visible to the viewer, or (unless *unpublished*) is not
            published; with ``what: version`` if no such version was ever published.
        VersionRemoved
            If retention removed this version.
        """
        if "@" in ref:
            return self._read(ref, unpublished)
        # Within one generation nothing changes in the record and its published version, so one question stands for all statements
        # and for making the view. Retention removes other versions without a new generation.
        key = self._newest(), ref, unpublished
        view = self._views.get(key)
        if view is None:
            view = self._read(ref, unpublished)
            self._views.put(key, view)
        elif not sees(view):
            raise self._no_dataset(ref.partition("@")[0])
        return view

    def _read(self, ref: str, unpublished: bool) -> PublishedView:
        dataset_id, at, name = ref.partition("@")
        found = self.find(dataset_id)
        if found is None or not (found.state.published or unpublished) or not sees(found.record):
            raise self._no_dataset(dataset_id)
        version_id = self._version_id(found, name if at else "latest", unpublished=unpublished)
        if version_id is None:
            raise NotFound(
                f"Dataset {dataset_id!r} has no version or tag {name[:80] or 'latest'!r}.",
                what="version",
                next_step=f"cubeport versions {dataset_id}",
            )
        row = self._backend.rows.get(VERSION, version_id)
        return self._shown(found, dataset_id, row, pinned=bool(at) and name != "latest", unpublished=unpublished)

    def coverage(self, ref: str) -> PublishedView:
        """Return the published view of ``{dataset_id}[:{grid}][@{version id, tag or latest}]`` in the OGC API. Raises as
        :meth:`shown`.
        """
        name, at, version = ref.partition("@")
        dataset_id, colon, grid = name.partition(":")
        shown = self.shown(f"{dataset_id}{at}{version}")
        try:
            return shown.on(grid) if colon else shown
        except KeyError:
            named = ", ".join(each.name for each in shown.description.grids) or "none"
            words = f"Dataset {dataset_id!r} has no grid {grid[:80]!r} next to its first."
            raise NotFound(words, what="coverage", next_step=f"its other grids: {named}") from None

    def was_shown(self, ref: str) -> bool:
        """Return whether *ref* was published before, so that readers may still have its address.

        This is true for datasets, versions and tags that were unpublished, deleted, purged or removed by retention.
        """
        dataset_id, _, name = ref.partition("@")
        if is_id(name):
            row = self._backend.rows.get(VERSION, name)
            owner = self._backend.get_record(row.owner) if row is not None else None
            of_this = owner is None or (DatasetState.of(owner).texts.dataset_id == dataset_id and sees(owner))
            return row is not None and row.document.get("shown_at") is not None and of_this
        if not _ID.fullmatch(dataset_id):
            return False
        found = self.find(dataset_id)
        record = found.record if found is not None else self.deleted(dataset_id)
        if record is None or not sees(record):
            return False
        state = DatasetState.of(record)
        return state.latest is not None and (name in ("", "latest") or name in state.tags)

    def deleted(self, name: str) -> CatalogRecord | None:
        """Return the most recently deleted dataset with this id, or the deleted one with this record id, or ``None``."""
        record = self._backend.get_record(name) if is_id(name) else None
        if record is not None and record.kind == KIND and record.status == "deleted":
            return record
        found = self._backend.search(
            Query(
                where=(Term("metadata.dataset.texts.dataset_id", "=", name),),
                kinds=frozenset({KIND}),
                statuses=frozenset({"deleted"}),
                order=("-deleted_at",),
                limit=1,
            )
        )
        return found[0] if found else None

    def _version_id(self, dataset: Dataset, name: str, *, unpublished: bool) -> str | None:
        state = dataset.state
        if name == "latest":
            return state.latest or (state.head if unpublished else None)
        return name if is_id(name) else state.tags.get(name)

    def _shown(self, dataset: Dataset, dataset_id: str, row: Row | None, *, pinned: bool, unpublished: bool) -> PublishedView:
        if row is None or row.owner != dataset.record.id:
            raise NotFound(f"Dataset {dataset_id!r} has no such version.", what="version")
        version = VersionState.of(row.document)
        if version.shown_at is None and not unpublished:
            raise NotFound(f"Dataset {dataset_id!r} has no such version.", what="version")
        if row.state in GONE:
            said = f"Version {version.version_id} of {dataset_id!r} {why_gone(row.state)}."
            raise VersionRemoved(said, next_step=f"read {dataset_id}")
        return self._join(dataset, version, self.cube(version.version_id), pinned=pinned)

    def _join(self, dataset: Dataset, version: VersionState, cube: Cube, *, pinned: bool) -> PublishedView:
        record, state = dataset.record, dataset.state
        return PublishedView(
            texts=state.texts,
            version=version.ref(),
            description=version.described(cube.description),
            sealed=cube.documents,
            record_version=record.version,
            record_id=record.id,
            created_at=record.created_at,
            updated_at=shown_since(state, version),
            pinned=pinned,
            is_latest=version.version_id == state.latest,
            tags=state.tags,
            published=state.published,
            published_at=state.publication.published_at,
            source_dataset_id=state.source_dataset_id,
            latest=state.latest,
            head=state.head,
            seq=version.seq,
            request_scope=version.request_scope.model_dump(mode="json"),
            visibility=record.visibility,
            created_by=record.created_by,
        )

    def cube(self, version_id: str) -> Cube:
        """Return the description and sealed documents of a version. Raises Corrupt if its row is missing, NewerModel."""
        held = self._cubes.get(version_id)
        if held is not None:
            return held
        row = self._backend.rows.get(CUBE, version_id)
        if row is None:
            raise Corrupt(f"Version {version_id} has no documents any longer.", next_step="cubeport fsck")
        return self._remember(version_id, Cube.of(row.document))

    def _remember(self, version_id: str, cube: Cube) -> Cube:
        self._cubes.put(version_id, cube)
        return cube

    def _no_dataset(self, dataset_id: str) -> NotFound:
        """Return the error that there is no such dataset, with similar ids among those that the viewer may see."""
        some = dataset_id[:80]
        near = self._similar(some) if _ID.fullmatch(some) else []
        if not near:
            return NotFound(f"There is no dataset {some!r}.", what="dataset", dataset_id=some, next_step="cubeport datasets")
        return NotFound(
            f"There is no dataset {some!r}{did_you_mean(near)}",
            what="dataset",
            dataset_id=some,
            next_step="cubeport datasets",
            similar=near,
        )

    def _similar(self, dataset_id: str) -> list[str]:
        # Readers of a dataset that was withdrawn ask for it again and again.
        key = None if self._restricted.audience() is not None else (self._newest(), CURRENT.get() is None, dataset_id)
        found = None if key is None else self._near.get(key)
        if found is None:
            found = similar(self._ids, dataset_id)
            if key is not None:
                self._near.put(key, found)
        return found

    def _ids(self, *, between: tuple[str, str], limit: int) -> list[str]:
        """Return what :meth:`names` does without titles. Who opens the catalog itself sees unpublished datasets too."""
        where = (Term("key", ">=", between[0]), Term("key", "<", between[1]))
        query = Query(
            where=where if CURRENT.get() is None else (_PUBLISHED, *where),
            kinds=frozenset({KIND}),
            order=("key",),
            limit=limit,
            audience=self._restricted.audience(),
        )
        return [each.key for each in self._backend.names(query) if each.key is not None]

    def names(self, *, between: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Return the id and the title of the first *limit* published datasets, in the order of ids, whose ids are from the first
        text of *between* on and below the second. Their documents are not read, so that a thousand of them are a matter of
        milliseconds.
        """
        query = Query(
            where=(_PUBLISHED, Term("key", ">=", between[0]), Term("key", "<", between[1])),
            kinds=frozenset({KIND}),
            order=("key",),
            limit=limit,
            audience=self._restricted.audience(),
        )
        return [(each.key, each.title or "") for each in self._backend.names(query) if each.key is not None]

    def page(
        self,
        *,
        q: str | Sequence[str] | None = None,
        ids: Iterable[str] | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        datetime: str | None = None,
        variable: str | None = None,
        period_type: str | None = None,
        source_dataset_id: str | None = None,
        extent_id: str | None = None,
        keyword: str | None = None,
        updated_since: dt.datetime | None = None,
        license: str | None = None,
        publication: str = "published",
        several_grids: bool = False,
        sort: str | Sequence[str] = "dataset_id",
        limit: int = 100,
        cursor: str | None = None,
        count: bool | Literal["few"] = False,
        versions: bool = False,
    ) -> ShownPage:
        """Return one page of datasets. It uses only indexed columns, so its cost does not depend on the number of datasets.

        With *count*, the page has the total number: of all datasets always, of those that match up to a bound. With ``"few"``, the
        bound is for all datasets too, so that the cost does not depend on their number. With *several_grids*, only datasets with
        more than one coverage are returned. With *versions*, each has a list of its newest versions and its neighbours.

        Raises
        ------
        InvalidCursor
            If the cursor is of another query.
        """
        wanted = {
            "dataset.texts.period_type": period_type,
            "dataset.variables": variable,
            "dataset.source_dataset_id": source_dataset_id,
            "dataset.extent_id": extent_id,
            _STATUS: None if publication == "any" else publication,
            "dataset.texts.license": license,
            "tags": keyword,
        }
        where = tuple(
            Term(field if field == "tags" else f"metadata.{field}", "=", value)
            for field, value in wanted.items()
            if value is not None
        )
        if updated_since is not None:
            where = (*where, Term("updated_at", ">=", timestamp(updated_since)))
        if several_grids:
            where = (*where, Term("metadata.dataset.grids", ">", 0))
        if ids is not None:
            where = (*where, Term("key", "=", tuple(sorted(ids))))
        order = tuple(map(_order, (sort,) if isinstance(sort, str) else sort))
        back = is_back(cursor)
        along = replace(self._query(where, q, bbox, datetime), order=order, limit=limit, count=bool(count))
        against = _reversed(along)
        if back and against is None:
            raise InvalidCursor("The cursor does not belong to this query.", next_step="begin again without the cursor")
        query = replace(against if back and against else along, cursor=None if cursor is None else cursor.removeprefix(_BACK))
        filters = (
            q,
            bbox,
            datetime,
            ids,
            several_grids or None,
            updated_since,
            *(value for name, value in wanted.items() if name != _STATUS),
        )
        page, matched = self._counted(query, whole=count != "few" and all(each is None for each in filters))
        records = list(page)[::-1] if back else list(page)
        shown, damaged = self._shown_many(records)
        if versions:
            shown = self.with_versions(shown)
        following, before = page.next, None
        if back:
            following, before = (_after(along, records[-1]) if records else None), page.next and _BACK + page.next
        elif cursor is not None and records and against is not None:
            before = _BACK + _after(against, records[0])
        return ShownPage(shown, following, matched, (*page.damaged, *damaged), before)

    def facets(
        self,
        *,
        q: str | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        datetime: str | None = None,
        variable: str | None = None,
        keyword: str | None = None,
        license: str | None = None,
        most: int = 12,
    ) -> Mapping[str, tuple[tuple[str, int | None], ...]]:
        """Return, by ``variable``, ``keyword`` and ``license``, the most frequent values of the published datasets that match.

        Each comes with the number of datasets that have it, or ``None`` if more match than are counted: then these are the values
        of some of them. They are counted once after each commit.
        """
        given = {
            f"metadata.{_STATUS}": "published",
            FACETS["variable"]: variable,
            FACETS["keyword"]: keyword,
            FACETS["license"]: license,
        }
        where = tuple(Term(field, "=", value) for field, value in given.items() if value is not None)
        query = replace(self._query(where, q, bbox, datetime), limit=1, count=True)
        key = self._newest(), f"{query.binding()} {most}"
        held = self._facets.get(key)
        if held is None:
            whole = not self._backend.search(query).at_least
            held = {
                name: tuple(
                    (str(value), count if whole else None) for value, count in self._backend.field_values(field, query, most)
                )
                for name, field in FACETS.items()
            }
            self._facets.put(key, held)
        return held

    def _query(
        self,
        where: tuple[Term, ...],
        text: str | Sequence[str] | None,
        bbox: tuple[float, float, float, float] | None,
        time: str | None,
    ) -> Query:
        """Return the query for the datasets that match and that the viewer sees, within the bounds of a request."""
        return Query(
            where=where,
            text=text,
            time=time,
            bbox=bbox,
            kinds=frozenset({KIND}),
            audience=self._restricted.audience(),
            most_read=MOST_READ,
            most_counted=MOST_COUNTED,
        )

    def _counted(self, query: Query, *, whole: bool) -> tuple[Page, int | None]:
        """Return the page and, if requested, the total number: of the *whole* list always, of a part if it is not too large. It is
        cached until the next commit, because counting costs more than a page.
        """
        if not query.count:
            return self._backend.search(query), None
        key = self._newest(), f"{replace(query, order=()).binding()} {whole}"  # in whatever order they come, they are as many
        held = self._counts.get(key)
        page = self._backend.search(replace(query, count=held is None and not whole))
        if held is None:
            matched = self._backend.count(replace(query, most_counted=None)) if whole else page.matched
            held = (None if page.at_least else matched,)
            self._counts.put(key, held)
        return page, held[0]

    def _shown_many(self, records: Sequence[CatalogRecord]) -> tuple[tuple[PublishedView, ...], tuple[str, ...]]:
        """Join the records with their versions, with two statements for any number. Return also the names of unreadable ones."""
        damaged: list[str] = []
        read = [_whole(damaged, each.key or each.id, partial(_dataset, each)) for each in records]
        datasets = [each for each in read if each is not None]
        heads = {d.record.id: version for d in datasets if (version := d.state.latest or d.state.head)}
        rows = self._rows(VERSION, list(heads.values()))
        self._fetch_cubes([version_id for version_id, row in rows.items() if isinstance(row, Row)])
        joined = [
            _whole(damaged, d.record.key or d.record.id, partial(self._joined, d, rows.get(heads[d.record.id])))
            for d in datasets
            if d.record.id in heads
        ]
        return tuple(each for each in joined if each is not None), tuple(damaged)

    def _joined(self, dataset: Dataset, row: Row | CorruptCatalog | None) -> PublishedView:
        if not isinstance(row, Row):
            raise row or Corrupt("The row of the published version is missing.", next_step="cubeport fsck")
        return self._join(dataset, VersionState.of(row.document), self.cube(row.id), pinned=False)

    def _rows(self, table: str, ids: Sequence[str]) -> Mapping[str, Row | CorruptCatalog]:
        """Return the existing rows by id. For an unreadable row, return its error, so that the other rows can be used."""
        try:
            return dict(self._backend.rows.get_many(table, ids))
        except CorruptCatalog:
            found: dict[str, Row | CorruptCatalog] = {}
            for each in ids:
                try:
                    if (row := self._backend.rows.get(table, each)) is not None:
                        found[each] = row
                except CorruptCatalog as exc:
                    found[each] = exc
            return found

    def _fetch_cubes(self, version_ids: Sequence[str]) -> None:
        missing = [each for each in version_ids if each not in self._cubes]
        for version_id, row in self._rows(CUBE, missing).items() if missing else ():
            if isinstance(row, Row):
                with contextlib.suppress(Corrupt, NewerModel):  # reported where it is used
                    self._remember(version_id, Cube.of(row.document))

    def look(self, query: Look) -> list[Candidate]:
        """Return versions of published datasets that can match by the index, in order: at most the limit, or all if fewer."""
        named = [] if query.names is None else [Term("key", "=", tuple(query.names))]
        search = RowSearch(
            VERSION,
            RETAINED,
            Query(
                where=(_PUBLISHED, *named),
                kinds=frozenset({KIND}),
                audience=self._restricted.audience(),
            ),
            box=query.box,
            interval=query.interval,
            ids=query.versions,
            order=query.order,
            after=query.after,
            limit=query.limit,
        )
        found = [
            _whole([], each.owner.key or each.owner.id, partial(self._candidate, each)) for each in self._backend.rows.find(search)
        ]
        return [each for each in found if each is not None]

    def _candidate(self, found: Placed) -> Candidate:
        key = found.owner.id, found.owner.version
        state = self._states.get(key)
        if state is None:
            state = DatasetState.of(found.owner)
            self._states.put(key, state)
        version = VersionState.of(found.row.document)
        return Candidate(found.owner.id, state, version, found.at, Dataset(found.owner, state))

    def items(self, found: Sequence[Candidate]) -> tuple[PublishedView, ...]:
        """Return the published views of these versions, each with its neighbours."""
        self._fetch_cubes([each.version.version_id for each in found])
        joined = [_whole([], each.item_id, partial(self._item, each)) for each in found]
        return self._with_neighbours([each for each in joined if each is not None])

    def _item(self, candidate: Candidate) -> PublishedView:
        return self._join(candidate.origin, candidate.version, self.cube(candidate.version.version_id), pinned=True)

    def with_versions(self, shown: Sequence[PublishedView], *, most: int = 100) -> tuple[PublishedView, ...]:
        """Return the views with their newest versions and their neighbours, with two statements for any number."""
        rows = self._backend.rows.newest(VERSION, RETAINED, [each.record_id for each in shown], most)
        listed = {owner: tuple(VersionState.of(row.document).ref() for row in own) for owner, own in rows.items()}
        return self._with_neighbours([each.model_copy(update={"versions": listed.get(each.record_id, ())}) for each in shown])

    def _with_neighbours(self, shown: Sequence[PublishedView]) -> tuple[PublishedView, ...]:
        beside = self._backend.rows.neighbours(VERSION, RETAINED, [each.version.version_id for each in shown])
        return tuple(
            each.model_copy(update=dict(zip(("older", "newer"), beside.get(each.version.version_id, (None, None)), strict=True)))
            for each in shown
        )

    def versions(
        self, dataset: Dataset, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]:
        """Return versions with the state of their bytes, newest first."""
        rows = self._backend.rows.select(VERSION, owner=dataset.record.id, after=after, descending=True, limit=limit)
        return [(VersionState.of(row.document), row.state) for row in rows]


def _dataset(record: CatalogRecord) -> Dataset:
    return Dataset(record, DatasetState.of(record))


def _whole[T](damaged: list[str], name: str, make: Callable[[], T]) -> T | None:
    """Return the result of *make*. If stored data cannot be read, log this, add *name* to *damaged* and return ``None``."""
    try:
        return make()
    except (Corrupt, NewerModel, KeyError) as exc:
        _log.error("dataset %s is missing from a list, because it cannot be read: %s", name, exc)
        damaged.append(name)
        return None


_PUBLISHED = Term("metadata.dataset.publication.status", "=", "published")

_ORDERS = {
    "dataset_id": "key",
    "dataset_name": "title",
    "last_updated": "updated_at",
    "created": "created_at",
    "shown_since": "metadata.dataset.shown_since",
    "license": "metadata.dataset.texts.license",
    "start": "time.start",
    "end": "time.end",
}


FACETS = {"variable": "metadata.dataset.variables", "keyword": "tags", "license": "metadata.dataset.texts.license"}
"""By what datasets can be narrowed down, and the field that has it."""


_BACK = "~"
"""What a cursor begins with that leads to the page before a place."""


def is_back(cursor: str | None) -> bool:
    """Return whether a cursor leads to the page before a place: its page ends there."""
    return cursor is not None and cursor.startswith(_BACK)


def _reversed(query: Query) -> Query | None:
    """Return the query in the opposite order; ``None`` in orders in which records can be equal or without a value, as these are
    in one order in both.
    """
    match query.orders:
        case (("key", descends),):
            return replace(query, order=("key" if descends else "-key",))
    return None


def _after(query: Query, record: CatalogRecord) -> str:
    """Return the cursor that goes on after a record."""
    return write_cursor(query, sort_key(query, {"id": record.id, "key": record.key}))


def _order(sort: str) -> str:
    sign = "-" if sort.startswith("-") else ""
    return sign + _ORDERS[sort.removeprefix("-")]
