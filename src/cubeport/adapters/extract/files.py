"""The extractors ``file`` and ``directory``, which describe any file or folder without interpreting its contents."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubeport.catalog.extraction import Extracted, ExtractionLimits
from cubeport.catalog.forms.canonical import timestamp

SAMPLE_BYTES = 64 * 1024
NAMES = 100
"""How many names of a folder are kept."""

_MEDIA_TYPES = {
    ".nc": "application/netcdf",
    ".nc4": "application/netcdf",
    ".cdf": "application/netcdf",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".grib": "application/wmo-grib",
    ".grib2": "application/wmo-GRIB2",
    ".grb": "application/wmo-grib",
    ".grb2": "application/wmo-GRIB2",
    ".geojson": "application/geo+json",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
}


def media_type_of(name: str) -> str | None:
    """Return the media type for the name of a file, or ``None`` if it is unknown."""
    suffix = Path(name).suffix.lower()
    if suffix in _MEDIA_TYPES:
        return _MEDIA_TYPES[suffix]
    # With the tables of the machine, the same file could have different types on different machines.
    return mimetypes.MimeTypes(filenames=()).guess_type(f"x{suffix}")[0]


class FileExtractor:
    """``file``: suffix, media type, size, time of the last change, and the probable encoding of text."""

    name = "file"
    version = "1"

    def accepts(self, source: Path) -> bool:
        """Accept any regular file."""
        return source.is_file()

    def extract(self, source: Path, limits: ExtractionLimits) -> Extracted:  # noqa: ARG002 - the protocol's
        """Return the block of the file."""
        status = source.stat()
        return Extracted(
            {
                "suffix": "".join(source.suffixes[-2:])
                if source.name.endswith((".tar.gz", ".tar.bz2", ".tar.xz"))
                else source.suffix,
                "media_type": media_type_of(source.name),
                "size_bytes": status.st_size,
                "modified_at": _instant(status.st_mtime),
                "encoding": _encoding(source),
            }
        )


class DirectoryExtractor:
    """``directory``: the number of files by suffix, their total size, the depth, and the first names."""

    name = "directory"
    version = "1"

    def accepts(self, source: Path) -> bool:
        """Accept any folder."""
        return source.is_dir()

    def extract(self, source: Path, limits: ExtractionLimits) -> Extracted:  # noqa: ARG002 - the protocol's
        """Return the block of the folder. Links in it are counted but not followed."""
        counts: Counter[str] = Counter()
        suffixes: Counter[str] = Counter()
        size = depth = 0
        names: list[str] = []
        for folder, subfolders, files in os.walk(source):
            subfolders.sort()
            level = len(Path(folder).relative_to(source).parts) + 1
            counts["directories"] += len(subfolders)
            for name in sorted(files):
                path = Path(folder) / name
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    counts["others"] += 1
                    continue
                counts["files"] += 1
                size += status.st_size
                depth = max(depth, level)
                suffixes[path.suffix.lower() or "(none)"] += 1
                if len(names) < NAMES:
                    names.append(path.relative_to(source).as_posix())
        block: dict[str, Any] = {
            "files": counts["files"],
            "directories": counts["directories"],
            "others": counts["others"],
            "size_bytes": size,
            "depth": depth,
            "suffixes": dict(suffixes.most_common(50)),
            "names": names,
        }
        return Extracted(block, truncated=counts["files"] > NAMES)


def _instant(seconds: float) -> str:
    return timestamp(datetime.fromtimestamp(seconds, UTC))


def _encoding(path: Path) -> str | None:
    """Return the probable encoding ``ascii``, ``utf-8``, ``utf-16`` or ``latin-1`` if the file looks like text, otherwise
    ``None``.
    """
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if not sample:
        return None
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in sample:
        return None
    for encoding in ("ascii", "utf-8"):
        try:
            sample.decode(encoding)
        except UnicodeDecodeError as exc:
            # A character that the end of the sample cuts off proves nothing.
            if encoding == "utf-8" and exc.start >= len(sample) - 3 and len(sample) == SAMPLE_BYTES:
                return encoding
        else:
            return encoding
    control = sum((byte < 0x20 and byte not in b"\t\n\r\f") or 0x7F <= byte < 0xA0 for byte in sample)
    return "latin-1" if control / len(sample) < 0.01 else None
