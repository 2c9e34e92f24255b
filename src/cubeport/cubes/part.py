"""A version open for reading, and the part of it that an answer is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.windows import Cost, Labels, Window, Windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type Deadline = Callable[[], None]
"""Returns while there is time left and the client is there; else raises."""


class Opened(Protocol):
    """One version, open for reading. Values are read when they are asked for, and never before."""

    @property
    def description(self) -> CubeDescription: ...

    def names(self) -> tuple[str, ...]:
        """Return all variables in the store's order."""

    def needed(self, fields: Iterable[str]) -> list[str]:
        """Return the fields and all variables that they refer to, in the store's order."""

    def dimensions(self, name: str) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of the stored values."""

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a variable as stored."""

    def global_attributes(self) -> Mapping[str, Any]: ...

    def labels(self) -> Labels:
        """Return the decoded coordinates."""

    def decode(self, name: str, raw: Array) -> Array:
        """Return stored values masked, unpacked and scaled as xarray does."""

    def decode_like(self, name: str, values: Array) -> Array:
        """Return a few stored values decoded like those of a field, whatever its shape."""

    def raw(self, name: str, along: Mapping[str, Window], *, deadline: Deadline = ...) -> Array:
        """Return the stored values in the windows of the variable's dimensions; a dimension without a window is whole.

        Raises
        ------
        Corrupt
            When stored bytes are missing or cannot be decoded: never fill values in their place.
        StoreUnavailable
            When the store cannot be read now.
        """

    def cut(self, windows: Windows, *, deadline: Deadline = ...) -> Cut:
        """Return labels and values in *windows*, decoded. Raises as :meth:`raw`."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an open version that one answer is about: resolved and counted, no value read yet."""

    opened: Opened
    windows: Windows
    cost: Cost
    public_url: str
    """Where the service is found: documents link there."""
    point: bool = False
    """Whether one position was asked for."""
    as_stored: bool = False
    """Whether axes keep their dimensions and labels as in the store (downloads)."""
    everything: bool = False
    """Whether variables without data of their own (coordinates, grid mappings) are all wanted."""

    @property
    def description(self) -> CubeDescription:
        return self.opened.description
