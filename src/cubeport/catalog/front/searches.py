"""Find records: searches, single records, fields and values, lineage, the feed of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

from cubeport.catalog.backend import RecordChange
from cubeport.catalog.front.opened import OpenedCatalog
from cubeport.catalog.lineage import Direction, LineageGraph, lineage_of
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.names import Named
from cubeport.catalog.query import Page, Query, QueryFields
from cubeport.catalog.summaries import FieldSummary
from cubeport.catalog.terms import Term
from cubeport.errors import InvalidRequest, NoMatch

type Where = Query | Term | str | Mapping[str, Any]
"""An argument of a search: a complete query, a term (also as text), or a mapping of fields to equal values."""

_PAGE = 500


class Searches(OpenedCatalog):
    """Find records: searches, single records, fields and values, lineage, the feed of changes."""

    def search(self, *where: Where, **query: Unpack[QueryFields]) -> Page:
        """Return one page of the records that match.

        Parameters
        ----------
        where
            A complete :class:`Query`; or terms, as text (``"year>=2018"``) or as a mapping of fields to equal values.
        query
            Fields of a :class:`Query`. Any other name is a metadata field with an equal value: ``search(site="Oslo")``.
        """
        return self._ours(self.backend.search(_query(where, query)))

    def _ours(self, page: Page) -> Page:
        for record in page:
            record.of(self)
        return page

    def count(self, *where: Where, **query: Unpack[QueryFields]) -> int:
        """Return how many records match."""
        return self.backend.count(_query(where, query))

    def iterate(self, *where: Where, **query: Unpack[QueryFields]) -> Iterator[CatalogRecord]:
        """Yield all matching records, page by page. A record that exists during the whole iteration is yielded exactly once."""
        rest = _query(where, {"limit": _PAGE, **query})
        while True:
            page = self._ours(self.backend.search(rest))
            yield from page
            if page.next is None:
                return
            rest = rest.at(page.next)

    def one(self, *where: Where, **query: Unpack[QueryFields]) -> CatalogRecord:
        """Return the only record that matches. Raises NoMatch, AmbiguousId."""
        found = self._ours(self.backend.search(_query(where, {**query, "limit": 11})))
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoMatch("No record matches.", next_step="cubeport fields")
        raise self._ambiguous(
            "Several records match:", [each.id for each in found], "describe the record more closely, or use its id"
        )

    def to_dataframe(self, *where: Where, **query: Unpack[QueryFields]) -> Any:
        """Return the matching records as a ``pandas.DataFrame``, one row for each, indexed by id. Raises ExtraMissing."""
        from cubeport.catalog.frames import to_dataframe

        return to_dataframe(self.iterate(*where, **query))

    def fields(self, *where: Where, **query: Unpack[QueryFields]) -> list[FieldSummary]:
        """Return the metadata fields with their types and examples."""
        return self.backend.list_fields(_query(where, query) if where or query else None)

    def values(self, field: str, *where: Where, **query: Unpack[QueryFields]) -> list[dict[str, Any]]:
        """Return the distinct values of a field and how many records have each, the most frequent first."""
        return [{"value": value, "records": n} for value, n in self.backend.field_values(field, _query(where, query))]

    def generation(self) -> int:
        """Return the sequence number of the last commit. If it is the same, nothing has changed."""
        return self.backend.generation()

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return the records that changed after generation *after*, oldest first."""
        return self.backend.changes(after, limit)

    def lineage(
        self, name: Named, *, direction: Direction = "both", depth: int | None = None, rel: str | None = None
    ) -> LineageGraph:
        """Return what the record was derived from (*up*), or what was derived from it (*down*), to *depth* steps."""
        return lineage_of(self.backend, self.get(name), direction=direction, depth=depth, rel=rel)


def _query(where: Sequence[Where], query: Mapping[str, Any]) -> Query:
    """Return the query of a call. Keywords that are not fields of a query are metadata fields with equal values."""
    if where and isinstance(where[0], Query):
        if len(where) > 1 or query.keys() - {"limit"}:
            raise InvalidRequest("Give a whole query, or terms and fields of one.")
        return where[0]
    terms: list[Term | str] = []
    for each in where:
        if isinstance(each, (Term, str)):
            terms.append(each)
        elif isinstance(each, Mapping):
            terms += [Term(str(field), "=", value) for field, value in each.items()]
        else:
            raise InvalidRequest(f"A search takes terms, or a mapping of fields to values, not a {type(each).__name__}.")
    known = QueryFields.__annotations__.keys()
    terms += [Term(field, "=", value) for field, value in query.items() if field not in known]
    return Query(where=terms, **{key: value for key, value in query.items() if key in known})
