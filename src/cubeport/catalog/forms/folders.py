"""Folders that callers name: an address is refused, because the path of the same letters is a folder that nobody means."""

from __future__ import annotations

import re
from pathlib import Path

from cubeport.errors import InvalidRequest

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def folder_of(place: str | Path) -> Path:
    """Return *place* as a path.

    Raises
    ------
    InvalidRequest
        If it is an address, such as ``https://data.example.org``. A path object may have lost one of its slashes.
    """
    if (found := _ADDRESS.match(str(place))) is None:
        return Path(place)
    address = f"{found[1]}://{str(place)[found.end() :]}"
    service = found[1].lower() in ("http", "https")
    raise InvalidRequest(
        f"{address} is an address, and a folder of this machine is needed.",
        next_step=f"--url {address}, or cubeport.connect({address!r}) in Python" if service else "name a folder",
    )
