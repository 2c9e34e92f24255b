"""The manifest of a version, which is the only list of its objects, and the file names that an engine uses for a version.

``manifest.json`` is ``{"algorithm": "sha256", "entries": [{"key", "size", "sha256"}]}``, sorted by key. Its own sha256 is the
digest of the version. An object that it does not list does not exist. If it lists an object that the store does not have, the store
is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from cubeport.cubes import keys

CUBE = "cube.zarr"
"""The folder of the published Zarr tree."""

MANIFEST = "manifest.json"
"""The manifest, next to the tree."""

OVERVIEWS, OVERVIEWS_MANIFEST = "overviews.zarr", "overviews.json"
"""The same of the overviews of a cube: a folder with a group for each level, ``1`` being the finest. They have a manifest of their
own, so that the digest of the version is that of the cube."""


class Entry(NamedTuple):
    """The manifest's entry for one object."""

    size: int
    """The size in bytes."""
    sha256: str
    """The sha256 of its bytes in hex."""


type Entries = Mapping[str, Entry]
"""The entries by key."""


def parse(manifest: bytes) -> Entries:
    """Return the entries. Raises ValueError unless *manifest* lists valid keys, each once, in order."""
    try:
        document = json.loads(manifest)
        entries = {each["key"]: Entry(int(each["size"]), str(each["sha256"])) for each in document["entries"]}
        ordered = (
            document["algorithm"] == "sha256" and list(entries) == sorted(entries) and len(entries) == len(document["entries"])
        )
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError("not a manifest") from error
    if not ordered or any(keys.parse(key) is None for key in entries):
        raise ValueError("not a manifest")
    return entries


def to_bytes(entries: Entries) -> bytes:
    """Return the bytes of the manifest. The same entries always give the same bytes."""
    listed = [{"key": key, "size": entries[key].size, "sha256": entries[key].sha256} for key in sorted(entries)]
    return json.dumps({"algorithm": "sha256", "entries": listed}, separators=(",", ":")).encode()
