"""Find the format of a source by its content, and call the module of this format.

To add a format, add a module to this package with ``EXTRA``, ``matches``, ``scan``, ``verify``, ``open`` and ``contents``
(:class:`Format`), and its name to :data:`FORMATS`. The module is imported even if its library is not installed, so it must import
the library inside its functions.
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
from cubeport.adapters.sources.scanned import Scanned, rejected
from cubeport.adapters.sources.stored import Stored
from cubeport.errors import ExtraMissing


class Format(Protocol):
    """The interface of a format's module."""

    EXTRA: str
    """The extra of cubeport that installs the library, and the name of the extractor that describes such files."""

    def matches(self, source: Input) -> bool:
        """Return whether *source* has this format, by its content. No library is used."""

    def scan(self, source: Input, limits: SourceLimits) -> Scanned:
        """Return the arrays that *source* declares, before any library reads data. Raises SourceRejected."""

    def verify(
        self, source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()
    ) -> None:
        """Check the stored values of one group, except those of the variables *left_out*. Raises SourceRejected."""

    def open(
        self,
        source: Input,
        *,
        group: str | None = None,
        wanted: Collection[str] = (),
        skipped: Collection[str] = (),
    ) -> OpenedSource:
        """Return the scanned *source* as one lazy dataset of stored values. Raises SourceRejected."""

    # A format whose chunks other software can read has ``stored`` as well: see :func:`stored`.

    def contents(self, path: Path) -> Iterator[Group]:
        """Yield the description of each group, the root first. No data are read."""


FORMATS: Mapping[str, Format] = {
    name: cast("Format", import_module(f"{__package__}.{name}"))
    for name in (
        "zarr",
        "netcdf3",
        "hdf5",
        "grib",
    )
}
"""All formats by module name, in the order in which they are tried."""

_HEAD = 4_096
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
_REFERENCES = re.compile(rb"\A\s*(?:\{.*\"refs\"\s*:|(?:<\?xml.*?>)?\s*(?:<!--.*?-->\s*)*<netcdf[\s>])", re.DOTALL)
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")


def format_of(source: Input) -> Format:
    """Return the format of *source*.

    Raises
    ------
    SourceRejected
        If it has none of :data:`FORMATS`. The message says what it probably is.
    """
    for form in FORMATS.values():
        if form.matches(source):
            return form
    raise _refusal(source.name, os.pread(source.fd, _HEAD, 0))


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return the arrays that *source* declares, or refuse it.

    Raises
    ------
    SourceRejected
        With the reason of the first rule that it breaks, and ``setting, limit, value`` if the rule is a limit.
    ExtraMissing
        If the library of its format is not installed.
    """
    form = format_of(source)
    with _installed(form):
        return form.scan(source, limits)


def stored(source: Input, *, group: str, variables: Collection[str]) -> Mapping[str, Stored | str]:
    """Return how each variable of *group* is stored, or in words why its chunks cannot be read where they lie."""
    form = format_of(source)
    ask = getattr(form, "stored", None)
    if ask is None:
        return dict.fromkeys(variables, "is in a format whose chunks are not pointed at: only NetCDF and HDF5 are")
    with _installed(form):
        found: Mapping[str, Stored | str] = ask(source, group=group, variables=variables)
    return {name: found.get(name, "is not in the group that is read") for name in variables}


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
    """Return the result of a scan as plain values."""
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
        return rejected(name, "only refers to data elsewhere", "not-allowed", "ingest the data to which it refers")
    if _MARKUP.match(head):
        return rejected(
            name,
            "is a web page or XML, not data; a server sent this instead of the file",
            "unreadable",
            "open its address in a browser: it can need a login, or be the page about the file. Then fetch the file itself",
        )
    words = "name a file in one of these formats, or fetch it again if it should be one; for other files: cubeport add FILE"
    return rejected(name, "is neither NetCDF, HDF5, GRIB nor a Zarr folder", "unreadable", words)
