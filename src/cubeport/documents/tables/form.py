"""The protocol of a table form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.cubes.tables.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Elements = Sequence[tuple[str | None, str]]
"""Data elements of DHIS2, each with the variable that it is for; ``None`` is the only one."""


@dataclass(frozen=True, slots=True)
class TableForm:
    """One form of a table."""

    name: str
    """The value of ``f``."""
    title: str
    media_type: str
    suffix: str
    """Of file names, without its dot."""
    write: Callable[[Table, Elements], bytes]
    """Raises NotAcceptable when the form cannot hold this table, InvalidRequest when it needs something else."""
    also: tuple[str, ...] = ()
    """Other values of ``f``, and media types, that mean it."""


def texts(values: NDArray[Any]) -> list[str]:
    """Return the numbers as text with 12 digits, so that rounding errors do not show. Missing values are empty."""
    return ["" if value != value else f"{value:.12g}" for value in values.astype("float64").ravel().tolist()]


def number(value: float) -> float | None:
    """Return the number for JSON; ``None`` if it is missing."""
    return None if value != value else value
