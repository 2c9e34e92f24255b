"""One kind of EDR query: its name, its parameters, and the cells that it selects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Windows

type Resolve = Callable[[CubeDescription, Labels, Selection, Place], Windows]
type Settle = Callable[[CubeDescription, Labels, Windows, Selection, Place, Deadline], Windows]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a query: its kind, and the values of the kind's own parameters, in canonical form and order."""

    kind: str
    given: tuple[tuple[str, str], ...] = ()
    cell: tuple[int, ...] | None = None
    """The cell that is meant, by its indices, where a name gave it: two stations may have one position."""

    def value(self, name: str) -> str | None:
        """Return the value of a parameter, or ``None`` if it was not given."""
        return dict(self.given).get(name)

    def __getitem__(self, name: str) -> str:
        return dict(self.given)[name]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that only one kind of query has."""

    name: str
    description: str
    read: Callable[[str], str]
    """Returns the value in canonical form. Raises ValueError with a message that continues a sentence starting with the name."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class EdrQuery:
    """One kind of query of OGC API EDR (19-086r6, clause 8.2)."""

    name: str
    """The last part of its URL, such as ``position``."""
    text: str
    """A description of its answer, such as ``Values of the cell that contains a point``."""
    resolve: Resolve
    """Returns what the query selects, from labels and metadata alone."""
    parameters: tuple[Parameter, ...] = ()
    bbox: bool = False
    """Whether it has a ``bbox`` parameter, parsed like that of a coverage."""
    settle: Settle | None = None
    """Hides cells of the resolved box that the query does not select. Its cost grows with the cells of the box, so it runs only
    after the box was found to be within the limits."""
    at_points: bool = False
    """Whether the answer contains values at points instead of on a grid."""
    heights: bool = False
    """Whether each vertex of ``coords`` may have a height of its own."""
    link_variables: Callable[[CubeDescription], Mapping[str, Any]] = lambda _: {}
    """Members of ``variables`` in the collection's link (clause 8.3.9), in addition to those of every kind."""

    @property
    def title(self) -> str:
        """The name as a title."""
        return self.name.capitalize()
