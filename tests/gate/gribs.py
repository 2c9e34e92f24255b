"""Small GRIB files, made by ecCodes in a process of its own: ``python gribs.py FILE LEVELS``, one field for each.

LEVELS are ``typeOfLevel:level:date:shortName``, with commas between them, and perhaps ``:key=value`` at the end of one. A value
tells which field it is of and where it is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 3, 4


def field(number: int) -> np.ndarray:
    """Return the values of the field ``(latitude, longitude)``, north first: whole numbers, which GRIB keeps exactly."""
    return 100.0 * number + np.arange(ROWS * COLUMNS, dtype="float64").reshape(ROWS, COLUMNS)


def made(path: Path, *levels: str) -> Path:
    """Write the file and return its path."""
    subprocess.run([sys.executable, __file__, str(path), ",".join(levels)], check=True, capture_output=True)
    return path


def _main(path: str, levels: list[str]) -> None:
    import eccodes

    with Path(path).open("wb") as file:
        for number, each in enumerate(levels):
            kind, level, date, name, *more = each.split(":")
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            grid = {"Ni": COLUMNS, "Nj": ROWS, "iDirectionIncrementInDegrees": 1, "jDirectionIncrementInDegrees": 1}
            grid |= {"latitudeOfFirstGridPointInDegrees": 52, "latitudeOfLastGridPointInDegrees": 50}
            grid |= {"longitudeOfFirstGridPointInDegrees": 10, "longitudeOfLastGridPointInDegrees": 13}
            for key, value in {**grid, "typeOfLevel": kind, "level": int(level), "shortName": name}.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set(message, "dataDate", int(date))
            for key, _, value in (said.partition("=") for said in more):
                eccodes.codes_set(message, key, int(value) if value.isdigit() else value)
            eccodes.codes_set(message, "bitsPerValue", 16)
            eccodes.codes_set_values(message, field(number).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2].split(","))
