"""The client for asyncio. Each method runs in a thread, so that it does not block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Self

from cubeport.client.dataset import Dataset, Selection
from cubeport.client.records import Record
from cubeport.client.stac import StacDataset

_DONE: Any = object()


async def _each[T, U](found: Iterator[T], made: Callable[[T], U]) -> AsyncIterator[U]:
    while (item := await asyncio.to_thread(next, found, _DONE)) is not _DONE:
        yield made(item)


class _Twin:
    """Provides each method of an object as a coroutine, and each attribute unchanged."""

    _values: ClassVar[frozenset[str]] = frozenset()
    """Names that need no request."""
    _made: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """By name: what becomes of the result."""

    def __init__(self, twin: Any) -> None:
        self._twin = twin

    def __repr__(self) -> str:
        return repr(self._twin).replace("<cubeport.", "<cubeport.Async", 1)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in dir(self._twin) if not name.startswith("_"))})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return getattr(self._twin, name)
        found = getattr(type(self._twin), name, None)
        made = self._made.get(name, lambda value: value)
        if isinstance(found, property):

            async def fetched() -> Any:
                return made(await asyncio.to_thread(getattr, self._twin, name))

            return fetched

        method = getattr(self._twin, name)

        async def awaited(*arguments: Any, **options: Any) -> Any:
            return made(await asyncio.to_thread(partial(method, *arguments, **options)))

        awaited.__doc__, awaited.__name__ = method.__doc__, name
        return awaited


class AsyncSelection(_Twin):
    """A part of one version of a dataset; every method of :class:`cubeport.client.Selection`, awaited."""

    def url(self, f: str = "netcdf") -> str:
        """Return the address of this part; no request is made."""
        address: str = self._twin.url(f)
        return address


class AsyncDataset(_Twin):
    """One dataset of a service; every method of :class:`cubeport.client.Dataset`, awaited.

    ``stac`` and ``calendar`` are methods here.
    """

    _values: ClassVar[frozenset[str]] = frozenset({"id", "version", "title", "variables", "box", "time"})

    def select(self, **options: Any) -> AsyncSelection:
        """Select a part of the dataset, without reading it; see :meth:`cubeport.client.Dataset.select`."""
        found: Selection = self._twin.select(**options)
        return AsyncSelection(found)


class AsyncRecords(_Twin):
    """The records of a service; every method of :class:`cubeport.client.Records`, awaited."""

    def search(self, *where: str, **options: Any) -> AsyncIterator[Record]:
        """Yield the matching records; see :meth:`cubeport.client.Records.search`."""
        found: Iterator[Record] = self._twin.search(*where, **options)
        return _each(found, lambda record: record)


class AsyncPort(_Twin):
    """A cubeport service at an address; every method of :class:`cubeport.client.Port`, awaited.

    ::

        port = cubeport.aconnect("https://data.example.org")
        data = await port.get("tas")
        cube = await data.open()
    """

    _made: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"get": AsyncDataset, "ingest": AsyncDataset, "update": AsyncDataset}

    def __await__(self) -> Generator[Any, None, AsyncPort]:
        """Return the port itself, so that ``await cubeport.aconnect(url)`` works too. No request is made."""
        return self
        yield  # what awaits needs a generator

    async def __aenter__(self) -> Self:
        """Return itself, for ``async with``. No connection stays open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""

    def search(self, *arguments: Any, **options: Any) -> AsyncIterator[AsyncDataset]:
        """Yield the matching published datasets; see :meth:`cubeport.client.Port.search`."""
        found: Iterator[Dataset] = self._twin.search(*arguments, **options)
        return _each(found, AsyncDataset)

    @property
    def records(self) -> AsyncRecords:
        """The records of the service's catalog, of any kind."""
        return AsyncRecords(self._twin.records)

    def __aiter__(self) -> AsyncIterator[AsyncDataset]:
        return self.search()


class AsyncStacDataset(_Twin):
    """One Collection or Item of a STAC catalog; every method of :class:`cubeport.client.StacDataset`, awaited."""

    _values: ClassVar[frozenset[str]] = frozenset({"id", "title", "document", "assets"})

    def said(self, name: str) -> Any:
        """Return what the document says under a name; no request is made."""
        return self._twin.said(name)

    def items(self) -> AsyncIterator[AsyncStacDataset]:
        """Yield the Items of the Collection; see :meth:`cubeport.client.StacDataset.items`."""
        found: Iterator[StacDataset] = self._twin.items()
        return _each(found, AsyncStacDataset)


class AsyncStacCatalog(_Twin):
    """A STAC catalog or API; every method of :class:`cubeport.client.StacCatalog`, awaited."""

    _values: ClassVar[frozenset[str]] = frozenset({"url"})
    _made: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"get": AsyncStacDataset}

    def search(self, text: str | None = None) -> AsyncIterator[AsyncStacDataset]:
        """Yield the matching Collections; see :meth:`cubeport.client.StacCatalog.search`."""
        found: Iterator[StacDataset] = self._twin.search(text)
        return _each(found, AsyncStacDataset)

    def __aiter__(self) -> AsyncIterator[AsyncStacDataset]:
        return self.search()
