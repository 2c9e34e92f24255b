"""An open version, and the part of it that an answer contains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.windows import Cost, IndexRange, Labels, Mask, Window, Windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type Deadline = Callable[[], None]
"""Returns if there is time left and the client is still connected; otherwise raises."""


class Opened(Protocol):
    """A version that is open for reading. Values are read only when a method asks for them."""

    @property
    def description(self) -> CubeDescription: ...

    def names(self) -> tuple[str, ...]:
        """Return the names of all variables, in the order of the store."""

    def needed(self, fields: Iterable[str]) -> list[str]:
        """Return the fields and all variables that they refer to, in the order of the store."""

    def dimensions(self, name: str) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype of the stored values."""

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a variable as stored."""

    def global_attributes(self) -> Mapping[str, Any]: ...

    def labels(self) -> Labels:
        """Return the decoded coordinates."""

    def decode(self, name: str, raw: Array) -> Array:
        """Return stored values masked, unpacked and scaled, as xarray does it."""

    def decode_like(self, name: str, values: Array) -> Array:
        """Return stored values of any shape, decoded like those of the field."""

    def raw(self, name: str, along: Mapping[str, Window], *, deadline: Deadline = ..., mask: Mask | None = ...) -> Array:
        """Return the stored values in the windows of the variable's dimensions, and all of a dimension without a window.

        With a *mask* of these dimensions, chunks without a selected cell need not be read, and their values mean nothing.

        Raises
        ------
        Corrupt
            If stored bytes are missing or cannot be decoded. They are never replaced by fill values.
        StoreUnavailable
            If the store cannot be read at the moment.
        """

    def cut(self, windows: Windows, *, deadline: Deadline = ...) -> Cut:
        """Return the decoded labels and values in *windows*. Raises as :meth:`raw`."""


class OpenedCube(Opened, Protocol):
    """A whole version, with its overviews."""

    def coarser(self, level: int) -> Opened:
        """Return the fields of one level of the overviews, 1 being the finest; ``description.overview_levels`` says how many."""

    def held(self, name: str, along: Mapping[str, Window]) -> bool:
        """Return whether the first chunk of these windows is decoded in memory, so that reading it costs little."""

    def cells(
        self, name: str, along: Mapping[str, Window], dimensions: Sequence[str], index: Array, *, deadline: Deadline = ...
    ) -> Array:
        """Return the stored values of separate cells: the other dimensions in their windows and order, and then the cells.

        Only the chunks of these cells are read. Raises as :meth:`raw`.

        Parameters
        ----------
        index
            The indices of each cell along *dimensions*, ``(cells, dimensions)``.
        """


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an open version that one answer contains. Its windows and cost are known; no values are read yet."""

    opened: Opened
    windows: Windows
    cost: Cost
    public_url: str
    """The address of the service, for links in documents."""
    point: bool = False
    """Whether the caller asked for one position."""
    as_stored: bool = False
    """Whether axes keep their dimensions and labels as stored (for downloads)."""
    width: int = 720
    """The width of a picture of it, in pixels."""
    everything: bool = False
    """Whether to include all variables without data of their own (coordinates, grid mappings)."""

    @property
    def description(self) -> CubeDescription:
        return self.opened.description

    @property
    def dropped(self) -> frozenset[str]:
        """The dimensions that the answer does not have. Only coverages drop sliced ones; a download keeps those of the store."""
        return frozenset() if self.as_stored else frozenset(name for name, each in self.windows.along.items() if each.sliced)

    def runs(self, window: Window) -> tuple[IndexRange, ...]:
        """Return the ranges of a window with the shifts of their labels. A download keeps the labels of the store and shifts only
        those after the seam.
        """
        first = window.runs[0].shift if self.as_stored else 0.0
        return tuple(IndexRange(run.start, run.stop, run.shift - first) for run in window.runs) if first else window.runs
