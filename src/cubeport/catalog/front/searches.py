"""Finding records: searches, one record, fields and values, lineage, the feed of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

from cubeport.catalog.backend import RecordChange
from cubeport.catalog.front.opened import OpenedCatalog
from cubeport.catalog.lineage import Direction, LineageGraph, lineage_of
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.names import Named
from cubeport.catalog.query import FieldSummary, Page, Query, QueryFields, Term
from cubeport.errors import InvalidRequest, NoMatch

type Where = Query | Term | str | Mapping[str, Any]
"""What a search takes: a whole query, a term (also as text), or fields and the values that they are equal to."""

_PAGE = 500


class Searches(OpenedCatalog):
    """Finding records: searches, one record, fields and values, lineage, the feed of changes."""

    def search(self, *where: Where, **query: Unpack[QueryFields]) -> Page:
        """Return one page of the records that match.

        Parameters
        ----------
        where
            A whole :class:`Query`; or terms, as text (``"year>=2018"``) or as a mapping of fields to values that are equal.
        asked
            Fields of a :class:`Query`. Any other name is a field of metadata that is equal to the value: ``search(site="Oslo")``.
        """
        return self._ours(self.backend.search(_query(where, query)))

    def _ours(self, page: Page) -> Page:
        for record in page:
            record.of(self)
        return page

    def count(self, *where: Where, **query: Unpack[QueryFields]) -> int:
        """Return how many records match."""
        return self.backend.count(_query(where, query))

    def iterate(self, *where: Where, **request: Unpack[QueryFields]) -> Iterator[CatalogRecord]:
        """Yield every matching record, page by page. A record that exists during the whole walk is yielded exactly once."""
        query = _query(where, {"limit": _PAGE, **request})
        while True:
            page = self._ours(self.backend.search(query))
            yield from page
            if page.next is None:
                return
            query = query.at(page.next)

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
        """Return the records that match as a ``pandas.DataFrame``: a row each, indexed by id. Raises ExtraMissing."""
        from cubeport.catalog.frames import to_dataframe

        return to_dataframe(self.iterate(*where, **query))

    def fields(self, *where: Where, **query: Unpack[QueryFields]) -> list[FieldSummary]:
        """Return the fields of metadata, with their types and examples."""
        return self.backend.list_fields(_query(where, query) if where or query else None)

    def values(self, field: str, *where: Where, **query: Unpack[QueryFields]) -> list[dict[str, Any]]:
        """Return the distinct values of a field, with how many records have each, the most frequent first."""
        return [{"value": value, "records": n} for value, n in self.backend.field_values(field, _query(where, query))]

    def generation(self) -> int:
        """Return the sequence number of the last commit: equal means that nothing changed."""
        return self.backend.generation()

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return which records changed behind generation *after*, oldest first."""
        return self.backend.changes(after, limit)

    def lineage(
        self, name: Named, *, direction: Direction = "both", depth: int | None = None, rel: str | None = None
    ) -> LineageGraph:
        """Return what the record comes from (*up*), what comes from it (*down*), as far as *depth* goes."""
        return lineage_of(self.backend, self.get(name), direction=direction, depth=depth, rel=rel)


def _query(where: Sequence[Where], query: Mapping[str, Any]) -> Query:
    """Return the query that a caller means; keywords that are no field of a query are equal to fields of metadata."""
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
