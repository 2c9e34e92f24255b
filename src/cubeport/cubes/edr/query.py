"""What one kind of EDR query is: its name, its parameters, and the cells that it takes."""

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
    """Where: the kind of query, and the values of its own parameters in canonical form, in the order of the kind."""

    kind: str
    given: tuple[tuple[str, str], ...] = ()
    cell: tuple[int, ...] | None = None
    """The cell that is meant, by its indices, where a name gave it: two stations may have one position."""

    def value(self, name: str) -> str | None:
        """Return the value of a parameter, ``None`` when it was not given."""
        return dict(self.given).get(name)

    def __getitem__(self, name: str) -> str:
        return dict(self.given)[name]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that one kind of query has for itself."""

    name: str
    description: str
    read: Callable[[str], str]
    """Returns the value in canonical form. Raises ValueError with the end of a sentence that begins with the parameter's name."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class EdrQuery:
    """One kind of query of OGC API EDR (19-086r6, clause 8.2)."""

    name: str
    """The last part of its address: ``position``."""
    text: str
    """What it answers with: ``Values of the cell that contains a point``."""
    resolve: Resolve
    """Returns what the query takes of the cube, from labels and metadata alone."""
    parameters: tuple[Parameter, ...] = ()
    bbox: bool = False
    """Whether it takes a ``bbox``, read as that of a coverage."""
    settle: Settle | None = None
    """Hides cells of the resolved box that the query does not take. Its work grows with the cells of the box, so it is done when
    the box is known to be within the limits."""
    at_points: bool = False
    """Whether the answer is values at points, not on a grid."""
    link_variables: Callable[[CubeDescription], Mapping[str, Any]] = lambda _: {}
    """Members of ``variables`` in the link of the collection (clause 8.3.9), beside those that every kind has."""

    @property
    def title(self) -> str:
        """The name as a title."""
        return self.name.capitalize()
