"""Who reads: the viewer of a request, so that records it may not see are absent for it on every face.

The commands and the Python interface have no viewer, because they open the catalog itself and can read all of it. The server sets
one for each request. A published dataset without ``visibility`` is for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Literal, Protocol

from cubeport.catalog.audience import Audience
from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.query import Query
from cubeport.service.state import KIND

RESTRICTED = frozenset({"project", "private"})
"""The values of ``visibility`` that some readers do not see."""


def strictest(said: Iterable[str | None]) -> Literal["private", "project"] | None:
    """Return the visibility of data that are made of others, from theirs; ``None`` if everybody sees all of these."""
    found = set(said)
    return "private" if "private" in found else "project" if "project" in found else None


class Seen(Protocol):
    """A record, or what is shown of one."""

    @property
    def visibility(self) -> str | None: ...

    @property
    def created_by(self) -> str | None: ...


class Viewer:
    """The caller of one request.

    Parameters
    ----------
    identify
        Returns its audience; ``None`` if it sees everything. It is called at most once, and only if the answer depends on it,
        because it can take milliseconds.
    """

    def __init__(self, identify: Callable[[], Audience | None]) -> None:
        self._identify = identify
        self._known = False
        self._audience: Audience | None = None
        self.restricted = False
        """Whether the answer shows a record that not everybody may see, so that no shared cache may store it."""

    @property
    def audience(self) -> Audience | None:
        """The records that it sees; ``None`` for all."""
        if not self._known:
            self._audience, self._known = self._identify(), True
        return self._audience

    def sees(self, record: Seen) -> bool:
        """Return whether it may see a record."""
        if record.visibility not in RESTRICTED:
            return True
        audience = self.audience
        if audience is not None and not audience.sees(record.visibility, record.created_by):
            return False
        self.restricted = True
        return True


CURRENT: ContextVar[Viewer | None] = ContextVar("viewer", default=None)
"""The viewer of the request that this context answers; ``None`` sees everything."""


def sees(record: Seen) -> bool:
    """Return whether the current viewer may see a dataset, its versions and its changes."""
    viewer = CURRENT.get()
    return viewer is None or viewer.sees(record)


class Restricted:
    """Knows whether a catalog has datasets that not everybody may see. If it has none, no list needs to know its reader.

    It follows the changes since the last call, so that it does not read the whole catalog after each commit.

    Parameters
    ----------
    newest
        Returns the number of the last commit.
    """

    def __init__(self, backend: CatalogBackend, newest: Callable[[], int]) -> None:
        self._backend = backend
        self._newest = newest
        self._state = (-1, True)

    def any(self) -> bool:
        """Return whether there is any."""
        before, found = self._state
        generation = self._newest()
        if generation != before:
            # A catalog that has some is read again: their number can only be small, or one is found at once.
            found = self._search() if found or generation < before else self._changed(before)
            self._state = generation, found
        return found

    def _search(self) -> bool:
        where = [f'visibility=["{'", "'.join(sorted(RESTRICTED))}"]']
        return bool(self._backend.search(Query(where=where, kinds=frozenset({KIND}), statuses=None, limit=1)))

    def _changed(self, generation: int) -> bool:
        changes = self._backend.changes(generation, _FOLLOWED)
        if len(changes) == _FOLLOWED:
            return self._search()
        records = (self._backend.get_record(each.id) for each in changes)
        return any(each is not None and each.kind == KIND and each.visibility in RESTRICTED for each in records)

    def audience(self) -> Audience | None:
        """Return whose datasets a list contains; ``None`` for all of them."""
        viewer = CURRENT.get()
        return None if viewer is None or not self.any() else viewer.audience


_FOLLOWED = 200
"""With this many changes, one search is cheaper than reading each record."""
