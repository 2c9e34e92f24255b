"""What a search finds, one after the other, of a service and of any STAC catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cubeport.errors import InvalidRequest, NotFound


class _Named(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...


def has(named: _Named, name: str) -> bool:
    """Return whether something of that name is found. Raises what finding it raises, except NotFound."""
    try:
        named[name]
    except NotFound:
        return False
    return True


class Found[T](Iterator[T]):
    """What a search finds, one after the other: ``for data in found``, ``found[0]``, ``list(found)``. Making it asks nothing.

    Parameters
    ----------
    pages
        Begins the search, from its first result.
    where
        The address that is searched, and the words of the search, for people.
    """

    def __init__(self, pages: Callable[[], Iterator[T]], where: str) -> None:
        self._pages = pages
        self._where = where
        self._coming = pages()

    def __next__(self) -> T:
        return next(self._coming)

    def __getitem__(self, index: int | slice) -> T:
        """Return one result, counted from 0 at the first that the search finds, whatever was taken of it before.

        Raises
        ------
        IndexError
            If the search finds fewer.
        InvalidRequest
            If *index* is negative or a slice.
        """
        if isinstance(index, slice) or index < 0:
            words = f"{index.start or ''}:{index.stop or ''}" if isinstance(index, slice) else index
            raise InvalidRequest(
                "A search finds one dataset after the other, so its index counts from 0.",
                next_step=f"list(port.search(…))[{words}]",
            )
        count = 0
        for each in self._pages():
            if count == index:
                return each
            count += 1
        raise IndexError(f"The search finds {count} dataset{'' if count == 1 else 's'}.")

    def __repr__(self) -> str:
        return f"<cubeport.{type(self).__name__} {self._where}: iterate over it, or list(…)>"
