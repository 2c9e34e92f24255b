"""Which format a source has, told by its content, and what that format's own module does with it.

A format is one module of this package with ``EXTRA``, ``matches``, ``scan``, ``verify``, ``open`` and ``contents``
(:class:`Format`), and one word in :data:`FORMATS`. Its module is imported where its library is not installed too, so the
library is imported inside its functions.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from cubeport.adapters.sandbox.child import Context, Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.contents import Group
from cubeport.adapters.sources.reading import OpenedSource
from cubeport.adapters.sources.scanned import Scanned, rejected, unreadable
from cubeport.errors import ExtraMissing


class Format(Protocol):
    """What the module of a format has."""

    EXTRA: str
    """The extra of cubeport that installs its library, and the extractor that describes such files."""

    def matches(self, source: Input) -> bool:
        """Tell by the content whether *source* is of this format; no library is asked."""

    def scan(self, source: Input, limits: SourceLimits) -> Scanned:
        """Return what *source* declares, before any library reads data. Raises SourceRejected."""

    def verify(
        self, source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()
    ) -> None:
        """Check what only the stored values can tell, of one group but for the variables *left_out*. Raises SourceRejected."""

    def open(
        self,
        source: Input,
        *,
        group: str | None = None,
        wanted: Collection[str] = (),
        skipped: Collection[str] = (),
    ) -> OpenedSource:
        """Return *source*, scanned, as one lazy dataset as stored. Raises SourceRejected."""

    def contents(self, path: Path) -> Iterator[Group]:
        """Yield what each group says of itself, the root first; no data are read."""


FORMATS: Mapping[str, Format] = {
    name: cast("Format", import_module(f"{__package__}.{name}"))
    for name in (
        "zarr",
        "netcdf3",
        "hdf5",
        "grib",
    )
}
"""Every format by its module's name, in the order in which a source is tried."""

_HEAD = 4_096
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
_REFERENCES = re.compile(rb"\A\s*(?:\{.*\"refs\"\s*:|(?:<\?xml.*?>)?\s*(?:<!--.*?-->\s*)*<netcdf[\s>])", re.DOTALL)
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")


def format_of(source: Input) -> Format:
    """Return the format of *source*.

    Raises
    ------
    SourceRejected
        If it has none of :data:`FORMATS`: the message says what it seems to be.
    """
    for form in FORMATS.values():
        if form.matches(source):
            return form
    raise _refusal(source.name, os.pread(source.fd, _HEAD, 0))


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return what *source* declares, or refuse it.

    Raises
    ------
    SourceRejected
        With the reason of the first rule that it breaks; ``setting, limit, value`` where the rule is a limit.
    ExtraMissing
        If the library of its format is not installed.
    """
    form = format_of(source)
    with _installed(form):
        return form.scan(source, limits)


@contextlib.contextmanager
def _installed(form: Format) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{error.name} is not installed", next_step=f"pip install 'cubeport[{form.EXTRA}]'", what=form.EXTRA
        ) from error


def task(_: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Scan every source of the unit: the task ``scan``."""
    scanned = []
    for done, source in enumerate(context.sources):
        context.progress("scan", done, len(context.sources))
        scanned.append(to_mapping(scan(source, context.limits)))
    return {"sources": scanned}


def to_mapping(scanned: Scanned) -> dict[str, Any]:
    """Return the plain form of what a scan found."""
    return {
        "name": scanned.name,
        "format": scanned.format,
        "stored_bytes": scanned.stored_bytes,
        "declared_bytes": scanned.declared_bytes,
        "arrays": len(scanned.arrays),
        "skipped": list(scanned.skipped),
        "warnings": [list(each) for each in scanned.warnings],
    }


def _refusal(name: str, head: bytes) -> Exception:
    if not head:
        return rejected(name, "is empty", "empty", "transfer it again")
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return rejected(name, "is an archive or compressed file", "not-allowed", "unpack it first, then bring the file inside")
    if _REFERENCES.match(head):
        return rejected(name, "only refers to data elsewhere", "not-allowed", "bring the data themselves")
    if _MARKUP.match(head):
        return rejected(
            name, "is a web page or XML, not data; servers answer so when something went wrong", "unreadable", "fetch it again"
        )
    return unreadable(name, "is neither NetCDF, HDF5, GRIB nor a Zarr folder")
