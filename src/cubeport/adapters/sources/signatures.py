"""Recognise formats by their first bytes, without any library."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

HDF5 = b"\x89HDF\r\n\x1a\n"
NETCDF3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")


def is_hdf5(descriptor: int) -> bool:
    """Return whether there is an HDF5 signature at byte 0, 512, 1024, and so on, doubling (HDF5 File Format, II.A)."""
    return any(os.pread(descriptor, len(HDF5), at) == HDF5 for at in _superblocks(os.fstat(descriptor).st_size))


def is_netcdf3(descriptor: int) -> bool:
    """Return whether the file begins like a classic netCDF format: CDF-1, CDF-2 or CDF-5."""
    return os.pread(descriptor, 4, 0) in NETCDF3


def is_grib(descriptor: int) -> bool:
    """Return whether the file begins with a GRIB message, after a bulletin heading of at most 80 bytes."""
    return _GRIB.match(os.pread(descriptor, 100, 0)) is not None


_GRIB = re.compile(rb"[\x01-\x7f]{0,80}?GRIB", re.DOTALL)


def _superblocks(size: int) -> Iterator[int]:
    yield 0
    at = 512
    while at < size:
        yield at
        at *= 2
