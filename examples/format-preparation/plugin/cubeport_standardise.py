"""From an instrument's own text to a standard table: a writer makes it, an extractor reads it, a schema checks it."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from cubeport.catalog.extraction import Extracted


class Writer:
    """Makes CSV with RFC 3339 times and ppb of an instrument's ``DD/MM/YYYY hh:mm;value`` in ppm."""

    target_kind = "file"

    def write(self, target: Path, source: Any) -> None:
        """Write the standard table; a line that is not a reading stops it, so that nothing is half standardised."""
        with target.open("w", encoding="utf-8", newline="") as out:
            table = csv.writer(out, lineterminator="\n")
            table.writerow(["time", "ch4_ppb"])
            for line in source.path.read_text("latin-1").splitlines()[1:]:
                when, ppm = line.split(";")
                instant = datetime.strptime(when, "%d/%m/%Y %H:%M").replace(tzinfo=UTC)
                table.writerow([instant.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{float(ppm) * 1000:.1f}"])


class Content(BaseModel):
    """What a standard table is."""

    columns: tuple[Literal["time"], Literal["ch4_ppb"]]
    rows: int
    lowest: float
    highest: float


class Extractor:
    """Reads what a standard table contains, into the block ``series``."""

    name, version = "series", "1"

    def accepts(self, source: Path) -> bool:
        """Tell whether it is a table."""
        return source.suffix == ".csv"

    def extract(self, source: Path, limits: Any) -> Extracted:
        """Return its columns, its number of rows, and the range of its values."""
        with source.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        values = [float(row[1]) for row in rows]
        return Extracted({"columns": header, "rows": len(rows), "lowest": min(values), "highest": max(values)})


def register(registry: Any) -> None:
    """Give the plugin's things."""
    registry.writer("standardise", Writer())
    registry.extractor(Extractor())
    registry.schema("series", Content)
