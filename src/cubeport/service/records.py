"""Read records of any kind for callers over HTTP. A record that the caller may not see does not exist for it.

A record without ``visibility`` counts as ``project`` here: nobody has said that the world may read it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from stat import S_ISREG
from typing import Any, BinaryIO

from cubeport.catalog import history
from cubeport.catalog.audience import Audience
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.forms.canonical import is_id
from cubeport.catalog.history import Edit
from cubeport.catalog.keeping import integrity
from cubeport.catalog.lineage import LineageGraph
from cubeport.catalog.models import Artifact, CatalogRecord
from cubeport.catalog.query import Page, Query
from cubeport.catalog.terms import Scalar, Term, canonical_field
from cubeport.errors import AmbiguousId, Corrupt, Gone, InvalidFilter, RecordNotFound, SourceChanged
from cubeport.service import viewing
from cubeport.service.state import KIND

FACET_VALUES = 20
"""How many values of a field a facet lists, the most frequent first."""


@dataclass(frozen=True, slots=True)
class OpenedArtifact:
    """The bytes of an artifact, open for reading. The caller closes ``file``."""

    file: BinaryIO
    size: int | None
    """``None`` if the store cannot tell, so that no part of it can be read on its own."""
    tag: str | None
    """What identifies these bytes; ``None`` if nothing does."""


@dataclass(frozen=True, slots=True)
class Facets:
    """The values of fields, each with the number of records that have it."""

    values: Mapping[str, list[tuple[Scalar, int]]]
    whole: bool
    """Whether all records that match were counted."""


class Records:
    """The records of a catalog as callers over HTTP see them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._backend = catalog.backend

    def page(self, query: Query) -> Page:
        """Return the records that match and that the viewer sees. Raises InvalidFilter, InvalidCursor."""
        return self._backend.search(self._seen(query))

    def facets(self, query: Query, fields: tuple[str, ...]) -> Facets:
        """Return the most frequent values of each field, with the number of matching records that the viewer sees.

        Raises InvalidFilter.
        """
        _check_fields(fields)
        seen = replace(self._seen(query), cursor=None, order=(), limit=1, count=True)
        whole = not self._backend.search(seen).at_least
        return Facets({field: self._backend.field_values(field, seen, FACET_VALUES) for field in fields}, whole)

    def get(self, name: str, *, deleted: bool = False) -> CatalogRecord:
        """Return the record with this id or key, or the only visible one whose id begins with it.

        Parameters
        ----------
        deleted
            Whether the caller may see deleted records.

        Raises
        ------
        RecordNotFound
        AmbiguousId
            If several visible ids begin with it.
        Gone
            If it was deleted.
        """
        record = self._seen_or_none(self._backend.get_record(name) if is_id(name) else None)
        record = record or self._seen_or_none(self._backend.get_by_key(name)) or self._by_prefix(name)
        if record is None:
            raise RecordNotFound(f"There is no record {name[:80]!r}.", what="record")
        if record.status == "deleted" and not deleted:
            raise Gone(f"Record {name[:80]} was deleted.", what="record")
        return record

    def _by_prefix(self, name: str) -> CatalogRecord | None:
        if len(name) < _SHORTEST_PREFIX:
            return None
        found = [self._backend.get_record(each) for each in self._backend.match_prefix(name, _LISTED)]
        seen = [each for each in found if each is not None and self._sees(each)]
        if len(seen) > 1:
            ids = "".join(f"\n  {each.id}  {each.kind}  {each.title or ''}".rstrip() for each in seen[:10])
            raise AmbiguousId(f"{name} is the beginning of several ids:{ids}", next_step="give more of the id")
        return seen[0] if seen else None

    def _seen_or_none(self, record: CatalogRecord | None) -> CatalogRecord | None:
        return record if record is not None and self._sees(record) else None

    def told(self, record: CatalogRecord) -> CatalogRecord:
        """Return a record without what names records that the viewer does not see: those that it was derived from.

        Nobody knows who might see a parent that was purged, so its id is all that is told of it.
        """
        parents = self._parents(record)
        if parents.all_seen:
            return record
        edges = (each.model_copy(update={"note": None}) if each.target in parents.gone else each for each in record.lineage)
        return record.model_copy(
            update={
                "lineage": tuple(each for each in edges if each.target not in parents.hidden),
                "metadata": _with_inputs(record.metadata, parents.keys),
            }
        )

    def _parents(self, record: CatalogRecord) -> _Parents:
        if _audience() is None:
            return _Parents()
        found = {each.target: self._backend.get_record(each.target) for each in record.lineage if is_id(each.target)}
        return _Parents(
            hidden={name for name, each in found.items() if each is not None and not self._sees(each)},
            gone={name for name, each in found.items() if each is None},
            keys={each.key for each in found.values() if each is not None and self._sees(each)},
        )

    def edits(self, record: CatalogRecord) -> list[Edit]:
        """Return the versions of a record, newest first, since the viewer has been allowed to see it, each as :meth:`told`."""
        if _audience() is None:
            return history.edits(self._backend.rows, record)
        seen = takewhile(self._sees, history.states(self._backend.rows, record))
        return history.compared(self.told(each).to_mapping() for each in seen)

    def lineage(self, record: CatalogRecord) -> LineageGraph:
        """Return the records that it was derived from and that were derived from it, without those that the viewer does not see."""
        found = self._catalog.lineage(record)
        hidden = {each for each, it in found.records.items() if it is not None and not self._sees(it)}
        edges = tuple(each for each in found.edges if each.source not in hidden and each.target not in hidden)
        return replace(found, edges=edges, records={each: it for each, it in found.records.items() if each not in hidden})

    def open(self, artifact: Artifact) -> OpenedArtifact:
        """Open the bytes of an artifact.

        Raises
        ------
        ArtifactMissing
            If they are not here.
        InvalidRequest
            If it is a folder.
        SourceChanged, Corrupt
            If their length is not that in the catalog: of a file that the catalog only refers to, and of one that it stores.
        """
        file = integrity.open_artifact(self._catalog.profiles, artifact)
        try:
            return self._checked(artifact, file)
        except BaseException:
            file.close()
            raise

    def _checked(self, artifact: Artifact, file: BinaryIO) -> OpenedArtifact:
        size = _size(file)
        digest = artifact.hashes.get("sha256")
        if artifact.size_bytes is not None and size is not None and size != artifact.size_bytes:
            text = f"Artifact {artifact.artifact_id} has {size} bytes, and the catalog says {artifact.size_bytes}."
            if artifact.managed:
                raise Corrupt(text, next_step="Tell the operator: cubeport verify.")
            raise SourceChanged(text, next_step="Tell the operator: cubeport verify.")
        if digest is None and (found := _status(file)) is not None:
            digest = f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
        return OpenedArtifact(file, size, digest)

    def _seen(self, query: Query) -> Query:
        _check_fields(
            (*(each.field for each in query.where if isinstance(each, Term)), *(each.removeprefix("-") for each in query.order))
        )
        return replace(query, audience=_audience())

    @staticmethod
    def _sees(record: CatalogRecord) -> bool:
        audience = _audience()
        return audience is None or audience.sees(record.visibility, record.created_by)


_OF_PARENTS = ("lineage", "metadata.dataset.derived")
_OF_PLACES = ("artifact.locator",)


def _check_fields(fields: Iterable[str]) -> None:
    """Raise InvalidFilter for a field that no document gives the viewer as it is: its values could be guessed and counted."""
    for field in fields:
        name = canonical_field(field)
        if _is_below(name, _OF_PLACES):
            raise InvalidFilter(f"{field} cannot be used here: a service does not say where its files are.")
        if _audience() is not None and _is_below(name, _OF_PARENTS):
            text = f"{field} cannot be used here, because it also names records that only others may see."
            raise InvalidFilter(text, next_step="read the lineage of one record: /records/ID/lineage")


def _is_below(field: str, names: Iterable[str]) -> bool:
    return any(field == each or field.startswith(f"{each}.") for each in names)


@dataclass(frozen=True, slots=True)
class _Parents:
    """The records that a record was derived from, as its viewer sees them."""

    hidden: Collection[str] = ()
    gone: Collection[str] = ()
    keys: Collection[str | None] = ()
    """Those of the parents that it sees."""

    @property
    def all_seen(self) -> bool:
        return not self.hidden and not self.gone


def _with_inputs(metadata: dict[str, Any], names: Collection[str | None]) -> dict[str, Any]:
    """Return the metadata of a derived dataset with no inputs but these."""
    state = metadata.get(KIND)
    if not isinstance(state, dict) or not isinstance(derived := state.get("derived"), dict):
        return metadata
    inputs = [each for each in derived.get("inputs", ()) if each.partition("@")[0] in names]
    return {**metadata, KIND: {**state, "derived": {**derived, "inputs": inputs}}}


_SHORTEST_PREFIX = 4
_LISTED = 50


def _audience() -> Audience | None:
    viewer = viewing.CURRENT.get()
    audience = None if viewer is None else viewer.audience
    return None if audience is None else replace(audience, unstated="project" in audience.visibilities)


def _status(file: BinaryIO) -> os.stat_result | None:
    try:
        found = os.fstat(file.fileno())
    except OSError:  # also io.UnsupportedOperation, of files that are in memory or elsewhere
        return None
    return found if S_ISREG(found.st_mode) else None


def _size(file: BinaryIO) -> int | None:
    if not file.seekable():
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
