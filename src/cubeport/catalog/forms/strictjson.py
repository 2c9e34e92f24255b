"""Unambiguous JSON: no duplicate names in an object, no NaN, no infinity, and no number that overflows to infinity."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any


class DoubledNames(ValueError):
    """The text has objects with duplicate names."""

    def __init__(self, names: list[str], value: Any) -> None:
        super().__init__(f"{', '.join(names)}: more than once in an object")
        self.names = names
        """The duplicate names, sorted."""
        self.value = value
        """The value of the text if the last of each duplicate is used."""


class TooManyNames(ValueError):
    """An object of the text has too many names."""


def strict_json(text: str | bytes, *, nan: bool = False, most: int | None = None) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    nan
        Accept NaN and infinity, which zarr writes in attributes.
    most
        The largest number of names in an object.

    Raises
    ------
    ValueError
        :class:`DoubledNames`, :class:`TooManyNames`; ``json.JSONDecodeError`` for what is not JSON; any other one for a number that
        is not finite or has too many digits.
    RecursionError
        If it is nested too deeply.
    """
    doubled: set[str] = set()

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if most is not None and len(pairs) > most:
            raise TooManyNames(f"an object has more than {most} members")
        value = dict(pairs)
        if len(value) < len(pairs):
            doubled.update(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return value

    finite: dict[str, Any] = {} if nan else {"parse_constant": _constant, "parse_float": _finite, "parse_int": _short}
    value = json.loads(text, object_pairs_hook=members, **finite)
    if doubled:
        raise DoubledNames(sorted(doubled), value)
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is larger than any number that can be read")
    return number


_DIGITS = 400
"""The most digits of a number. The largest finite number has 309."""


def _short(text: str) -> int:
    if len(text) > _DIGITS:  # the cost of conversion grows with the square of the digits, also when it is written again
        raise ValueError(f"a number of more than {_DIGITS} digits")
    return int(text)
