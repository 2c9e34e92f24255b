"""Query datasets in this process, with the parameters of the OGC API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from cubeport.cubes.edr.queries import parse_query
from cubeport.cubes.forms import FORMS, form_named
from cubeport.cubes.selection import COVERAGE_PARAMETERS, parse
from cubeport.documents import ogc
from cubeport.documents.texts import PublishedView
from cubeport.service.plans import CubeQuery
from cubeport.service.queries import Queries


class Datasets(Protocol):
    """Access to the published datasets (:class:`cubeport.service.service.Service`)."""

    def coverage(self, ref: str) -> PublishedView: ...


def read_query(kind: str, parameters: Sequence[tuple[str, str]]) -> CubeQuery:
    """Return the query of *kind* (``coverage``, ``position``, ``area``, ``cube``). The default of ``f`` is CoverageJSON.

    Raises
    ------
    InvalidRequest
        With all problems of the parameters.
    NotFound
        If the kind of query is unknown.
    """
    names = tuple(form.name for form in FORMS)
    found = [(name, value, form_named(value) if name == "f" else None) for name, value in parameters]
    pairs = [(name, value if form is None else form.name) for name, value, form in found]
    if kind == "coverage":
        place, selection = None, parse(pairs, forms=names, allowed=COVERAGE_PARAMETERS)
    else:
        place, selection = parse_query(kind, pairs, forms=names)
    form = FORMS[0] if selection.form is None else next(each for each in FORMS if each.name == selection.form)
    return CubeQuery(selection, form, place)


class DatasetQueries:
    """Queries the published datasets of an instance in this process. Close it, or use it with ``with``."""

    def __init__(self, datasets: Datasets, queries: Queries, *, close: Callable[[], None]) -> None:
        self._datasets = datasets
        self._queries = queries
        self._close = close

    def fields(self, dataset: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the fields of a dataset as JSON Schema properties. Raises NotFound."""
        shown = self._datasets.coverage(dataset)
        found: Mapping[str, Mapping[str, Any]] = ogc.schema(shown, public_url=self._queries.public_url)["properties"]
        return found

    def axes(self, dataset: str) -> Sequence[str]:
        """Return the names of a dataset's axes in the store. Raises NotFound."""
        return [axis.name for axis in self._datasets.coverage(dataset).description.axes]

    def extent(self, dataset: str) -> Mapping[str, Any]:
        """Return the ``extent`` of a dataset as in the OGC API. Raises NotFound."""
        found: Mapping[str, Any] = ogc.collection(self._datasets.coverage(dataset), public_url=self._queries.public_url)["extent"]
        return found

    def ask(self, dataset: str, kind: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        """Return the answer to a query.

        Parameters
        ----------
        dataset
            The id of a published dataset, ``{id}@{version_id}``, or ``{id}:{grid}`` for another of its grids.
        kind
            ``coverage``, ``position``, ``area`` or ``cube``.
        parameters
            The decoded parameters of the OGC API: ``("bbox", "-10,40,10,60")``, ``("f", "netcdf")``.

        Raises
        ------
        InvalidRequest, NotFound, TooLarge, Unavailable
            If the OGC API would answer 400, 404, 413 or 503.
        """
        query = read_query(kind, parameters)
        content = self._queries.answer(self._queries.plan(self._datasets.coverage(dataset), query)).content
        if isinstance(content, bytes):
            return content
        with content:
            content.seek(0)
            return content.read()

    def close(self) -> None:
        """Close the instance."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
