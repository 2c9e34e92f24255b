"""What a file's name says of its bytes; nothing is opened for it."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path

from cubeport.catalog.models import TargetKind

_FORMATS: Mapping[str, str] = {
    ".nc": "netcdf", ".nc4": "netcdf", ".cdf": "netcdf", ".zarr": "zarr", ".grib": "grib", ".grib2": "grib", ".grb": "grib",
    ".csv": "csv", ".parquet": "parquet", ".pdf": "pdf", ".json": "json", ".txt": "text",
}  # fmt: skip


def format_of(name: str, target_kind: TargetKind) -> str | None:
    """Return the format that the name says, ``directory`` for a folder whose name says none."""
    return _FORMATS.get(Path(name).suffix.lower()) or ("directory" if target_kind == "directory" else None)


def media_type_of(name: str) -> str | None:
    """Return the media type that the name says."""
    return mimetypes.guess_type(name)[0]
