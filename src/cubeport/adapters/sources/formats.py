"""First look at a source, by its content and on its open descriptor, before any library reads data (safety.md 2.2)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

from cubeport.adapters.sandbox.child import Context, Source
from cubeport.adapters.sandbox.limits import Limits
from cubeport.adapters.sources import netcdf3, zarrfolder
from cubeport.adapters.sources.scanned import Scanned, rejected, unreadable

_HEAD = 4_096
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NETCDF3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
_GRIB = re.compile(rb"\A(?:[\x01-\x7f]{0,80}?)GRIB", re.DOTALL)
"""GRIB comes with a bulletin's heading in front, or without."""
_REFERENCES = re.compile(rb"\A\s*(?:\{.*\"refs\"\s*:|(?:<\?xml.*?>)?\s*(?:<!--.*?-->\s*)*<netcdf[\s>])", re.DOTALL)
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")


def scan(source: Source, limits: Limits) -> Scanned:
    """Return what *source* declares, or refuse it.

    Raises
    ------
    SourceRejected
        With the reason of the first rule that it breaks; ``setting, limit, value`` where the rule is a limit.
    """
    if source.is_folder:
        return zarrfolder.scan(source.name, source.fd, limits)
    head = os.pread(source.fd, _HEAD, 0)
    if head.startswith(_NETCDF3):
        return netcdf3.scan(source.name, source.fd, limits)
    if _is_hdf5(source.fd):
        from cubeport.adapters.sources import hdf5  # h5py is loaded for HDF5 alone

        return hdf5.scan(source.name, source.fd, limits)
    raise _refusal(source.name, head)


def verify(source: Source, limits: Limits, pool: Executor, *, group: str | None = None, left_out: Collection[object] = ()) -> None:
    """Check what only a look at the values can tell, before a library decodes them: of one group, but for variables *left_out*.

    Raises
    ------
    SourceRejected
        ``bad-codec`` where a chunk does not decode to its declared length.
    """
    group = (group or "").strip("/")
    if source.is_folder:
        zarrfolder.verify(source.name, source.fd, limits, pool, group=group, left_out=left_out)
    elif _is_hdf5(source.fd):
        from cubeport.adapters.sources import hdf5

        hdf5.verify(source.name, source.fd, pool, group=group, left_out=left_out)


def task(_: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Scan every source of the unit; the task ``scan`` of :data:`~cubeport.adapters.sandbox.child.TASKS`."""
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


def _is_hdf5(descriptor: int) -> bool:
    """The signature lies at byte 0, 512, 1024 and so on, doubling (HDF5 File Format, II.A)."""
    return any(os.pread(descriptor, len(_HDF5), at) == _HDF5 for at in _superblocks(os.fstat(descriptor).st_size))


def _superblocks(size: int) -> Iterator[int]:
    yield 0
    at = 512
    while at < size:
        yield at
        at *= 2


def _refusal(name: str, head: bytes) -> Exception:
    if not head:
        return rejected(name, "is empty", "empty", "transfer it again")
    if _GRIB.match(head):
        return rejected(
            name,
            "is GRIB, which this release does not read",
            "not-allowed",
            "convert it to NetCDF first, for example with cdo -f nc4 copy",
        )
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return rejected(name, "is an archive or compressed file", "not-allowed", "unpack it first, then bring the file inside")
    if _REFERENCES.match(head):
        return rejected(name, "only refers to data elsewhere", "not-allowed", "bring the data themselves")
    if _MARKUP.match(head):
        return rejected(
            name, "is a web page or XML, not data; servers answer so when something went wrong", "unreadable", "fetch it again"
        )
    return unreadable(name, "is neither NetCDF, HDF5 nor a Zarr folder")
