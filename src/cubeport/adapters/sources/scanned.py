"""The result of a scan, and its refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.errors import SourceRejected


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a source, as its metadata declare it."""

    path: str
    """The path from the root, with parts joined by ``/`` and no leading ``/``."""
    shape: tuple[int, ...]
    item_bytes: int
    """The bytes of one decoded value."""
    chunks: tuple[int, ...] | None = None
    codecs: tuple[str, ...] = ()
    """The codecs of a Zarr array, in the order of encoding."""

    @property
    def declared_bytes(self) -> int:
        """The decoded size in bytes. Python's integers do not overflow."""
        return math.prod(self.shape) * self.item_bytes


@dataclass(frozen=True, slots=True)
class Scanned:
    """A source that passed the scan."""

    name: str
    format: str
    """``netcdf3``, ``hdf5`` (NetCDF-4 too), ``zarr2``, ``zarr3`` or ``grib``."""
    stored_bytes: int
    arrays: tuple[Array, ...] = ()
    skipped: tuple[str, ...] = ()
    """The paths of arrays that cannot become variables: references, variable-length arrays, and user-defined types."""
    warnings: tuple[tuple[str, str], ...] = ()
    """(kind, message)."""

    @property
    def declared_bytes(self) -> int:
        """The decoded size of all arrays in bytes."""
        return sum(each.declared_bytes for each in self.arrays)


def rejected(name: str, why: str, reason: str, next_step: str) -> SourceRejected:
    """Return the refusal of the source *name*. *why* continues the sentence after the name."""
    return SourceRejected(f"{name} {why}", reason=reason, source=name, next_step=next_step)


def unreadable(name: str, why: str) -> SourceRejected:
    """Return the refusal of a source that does not follow its format."""
    return rejected(name, why, "unreadable", "bring an intact file; this one differs from what its writer wrote")


def truncated(name: str, needed: int, found: int, what: str = "its data") -> SourceRejected:
    """Return the refusal of a truncated file."""
    return rejected(
        name, f"is truncated: {what} end at byte {needed:,} and the file at {found:,}", "truncated", "transfer it again"
    )


def unsafe(
    name: str, why: str, next_step: str = "copy the data themselves into the file, for example with nccopy"
) -> SourceRejected:
    """Return the refusal of a source that refers to something outside it or makes a reader run code."""
    return rejected(name, why, "unsafe", next_step)


def bad_codec(name: str, why: str, codecs: str = "zstd, blosc, gzip") -> SourceRejected:
    """Return the refusal of an encoding that is not allowed, with some that are."""
    return rejected(name, why, "bad-codec", f"write the data with {codecs} or without compression")


@dataclass(slots=True)
class Arrays:
    """Collects the arrays of one source and checks each against the limits (docs/sources.md)."""

    name: str
    limits: SourceLimits
    found: list[Array] = field(default_factory=list)
    _declared: int = 0
    _chunks: int = 0
    _objects: int = 0

    def check(self, limit: str, value: int, what: str) -> None:
        """Check one value against one limit."""
        self.limits.check(limit, value, f"{self.name}: {what}", source=self.name)

    def count(self, more: int = 1) -> None:
        """Count *more* objects: groups, arrays, links, types."""
        self._objects += more
        self.check("objects", self._objects, "number of objects")

    def add(self, array: Array) -> None:
        """Add *array* if it is within the limits, by itself and together with the others."""
        where = shown(array.path)
        self.check("dimensions", len(array.shape), f"dimensions of {where}")
        self.check("item_bytes", array.item_bytes, f"bytes in an item of {where}")
        self._declared += array.declared_bytes
        self.check("declared_bytes", self._declared, "declared bytes")
        if array.chunks is not None:
            self.check("chunk_bytes", math.prod(array.chunks) * array.item_bytes, f"bytes in a chunk of {where}")
            self._chunks += chunk_count(array.shape, array.chunks)
            self.check("chunks", self._chunks, "number of chunks")
        self.found.append(array)

    def done(self, stored_bytes: int) -> tuple[Array, ...]:
        """Return all arrays, after comparing their total size with the stored bytes."""
        what = f"{self.name}: declared bytes for each stored one"
        self.limits.check_expansion(self._declared, stored_bytes, what, source=self.name)
        return tuple(self.found)


def chunk_count(shape: Sequence[int], chunks: Sequence[int]) -> int:
    """Return how many chunks cover *shape*."""
    return math.prod(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))


@dataclass(slots=True)
class SourceTexts:
    """Checks the texts of one source: the total size of attributes, and names that every document can contain."""

    name: str
    limits: SourceLimits
    _bytes: int = 0

    def size(self, count: int) -> None:
        """Count *count* bytes of an attribute before they are read."""
        self._bytes += count
        self.limits.check("text_bytes", self._bytes, f"{self.name}: bytes of all attributes", source=self.name)

    def decode(self, where: str, raw: bytes) -> str:
        """Return *raw* as text, without padding NULs."""
        try:
            return self.check(where, raw.rstrip(b"\0").decode())
        except UnicodeDecodeError:
            raise self._bad(where, "is not UTF-8") from None

    def check(self, where: str, text: str) -> str:
        """Return *text* if it has no control characters except tabs and newlines."""
        text = text.rstrip("\0")
        if any((c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in text):
            raise self._bad(where, "holds control characters")
        return text

    def _bad(self, where: str, why: str) -> SourceRejected:
        return rejected(
            self.name,
            f"has text that cannot be published: {shown(where)} {why}",
            "bad-text",
            "correct it, for example with ncatted",
        )


def shown(text: str) -> str:
    """Return a name from a source in a form that is safe in a message."""
    plain = "".join(c if c.isprintable() else "�" for c in text)
    return plain if len(plain) <= 80 else plain[:79] + "…"


def unique(names: Iterable[str]) -> bool:
    """Return whether no name occurs twice."""
    held = list(names)
    return len(set(held)) == len(held)
