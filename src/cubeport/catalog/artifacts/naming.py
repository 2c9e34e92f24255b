"""Find the format and media type of a file by its name. Nothing is opened."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubeport.catalog.models import TargetKind

_FORMATS: Mapping[str, str] = {
    ".nc": "netcdf", ".nc4": "netcdf", ".cdf": "netcdf", ".zarr": "zarr", ".grib": "grib", ".grib2": "grib", ".grb": "grib",
    ".csv": "csv", ".parquet": "parquet", ".pdf": "pdf", ".json": "json", ".txt": "text",
}  # fmt: skip


def format_of(name: str, target_kind: TargetKind) -> str | None:
    """Return the format for a name, or ``None``; ``directory`` for a folder with no known suffix."""
    return _FORMATS.get(Path(name).suffix.lower()) or ("directory" if target_kind == "directory" else None)


def media_type_of(name: str) -> str | None:
    """Return the media type for a name, or ``None``."""
    return mimetypes.guess_type(name)[0]


def split_suffix(name: str) -> tuple[str, str]:
    """Return stem and suffix, such as ``("a", ".tar.gz")``; a leading dot begins no suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not stem.strip(".") or not suffix or len(suffix) > _LONGEST_SUFFIX:
        return name, ""
    inner, inner_dot, packed = stem.rpartition(".")
    if suffix.lower() in _PACKERS and inner.strip(".") and 0 < len(packed) <= _LONGEST_SUFFIX:
        return inner, f"{inner_dot}{packed}{dot}{suffix}"
    return stem, dot + suffix


_PACKERS = {"gz", "bz2", "xz", "zst", "lz4"}
_LONGEST_SUFFIX = 16
