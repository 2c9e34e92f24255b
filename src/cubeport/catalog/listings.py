"""Lists of records for other tools: an Intake catalog, and a table for ``datalad addurls``. Pure functions; nothing is read.

- Intake: a catalog file of version 1, which Intake 0.7 and 2 can open. ``{{ CATALOG_DIR }}`` is the folder of the file.
- DataLad: a table with URL, file name, sha256 and size, for ``datalad addurls TABLE '{url}' '{filename}'``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cubeport.catalog.models import Artifact, CatalogRecord

_DRIVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "netcdf": ("netcdf", {"xarray_kwargs": {"engine": "netcdf4"}}),
    "zarr": ("zarr", {"consolidated": False}),
    "csv": ("csv", {}),
    "parquet": ("parquet", {}),
    "json": ("jsonfiles", {}),
    "text": ("textfiles", {}),
}
"""Intake drivers by the format of an artifact, with their arguments besides the URL."""

type Where = Callable[[Artifact], str | Path | None]
"""Returns the location of an artifact's bytes: a local path, a URL, or ``None``."""


def intake_catalog(records: Iterable[CatalogRecord], where: Where, *, folder: Path) -> dict[str, Any]:
    """Return an Intake catalog of the primary artifacts for which Intake has a driver.

    Parameters
    ----------
    folder
        The folder of the file. Paths below it are written relative to it, so that both can be moved together.
    """
    sources: dict[str, Any] = {}
    for record in records:
        primary = next((each for each in record.artifacts if each.role == "primary"), None)
        place = None if primary is None else where(primary)
        if primary is None or place is None or (known := _DRIVERS.get(primary.format or "")) is None:
            continue
        driver, arguments = known
        sources[_name(record, sources)] = {
            "driver": driver,
            "description": record.description or record.title or record.key or record.id,
            "args": {"urlpath": _relative(place, folder), **arguments},
            "metadata": {"cubeport_id": record.id, **({"tags": list(record.tags)} if record.tags else {}), **record.metadata},
        }
    return {"metadata": {"version": 1}, "sources": sources}


def _name(record: CatalogRecord, taken: Mapping[str, Any]) -> str:
    """Return a name that is valid in Python and Intake and unique in the catalog."""
    name = re.sub(r"\W+", "_", record.key or record.title or "", flags=re.ASCII).strip("_").lower()
    name = name if re.match(r"[a-z]", name) else f"r_{name}".rstrip("_")
    return f"{name}_{record.id[:8]}" if name in taken or name == "r" else name


def _relative(place: str | Path, folder: Path) -> str:
    if isinstance(place, Path) and place.is_relative_to(folder):
        return "{{ CATALOG_DIR }}/" + _plain(place.relative_to(folder).as_posix())
    return _plain(str(place))


def _plain(text: str) -> str:
    """Return *text* escaped for Intake, which interprets braces as a template that could read the environment."""
    return re.sub(r"\{(?=[{%#])", "{{ '{' }}", text)


COLUMNS = ("url", "filename", "sha256", "size", "record", "key", "title")


def url_table(records: Iterable[CatalogRecord], where: Where) -> Iterator[str]:
    """Yield the lines of the table: a header, and a row for each file. Folders have no single URL and are skipped."""
    taken: set[str] = set()
    yield _line(COLUMNS)
    for record in records:
        for each in record.artifacts:
            place = where(each)
            if place is None or each.target_kind == "directory":
                continue
            url = place if isinstance(place, str) else place.as_uri()
            name = each.original_name or url.rstrip("/").rpartition("/")[2].partition("?")[0]
            filename = name if name not in taken else f"{record.id[:8]}/{each.artifact_id}/{name}"
            taken.add(filename)
            size = "" if each.size_bytes is None else str(each.size_bytes)
            yield _line((url, filename, each.hashes.get("sha256", ""), size, record.id, record.key or "", record.title or ""))


def _line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
