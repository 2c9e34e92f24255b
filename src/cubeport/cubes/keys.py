"""The grammar of the keys of a cube, which are the names of the objects in its Zarr tree.

::

    key   = *(node "/") leaf
    node  = 1*128[A-Za-z0-9_.+@-], not ".", "..", "c" or "zarr.json", and not starting with "__"
    leaf  = "zarr.json" / "c" *("/" index)
    index = "0" / [1-9] 0*9DIGIT

Every key from a manifest, a file name or a request is checked against this grammar before anything is opened. The module imports
nothing heavy, because the server uses it for every request.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

METADATA = "zarr.json"
"""The metadata document of a group or an array (Zarr v3, "Metadata documents")."""

SEGMENT = r"(?!\.{1,2}(?:/|\Z)|__)[A-Za-z0-9_.+@-]{1,128}"
"""One part of a path. It cannot lead out of its folder."""

_NODE = rf"(?!(?:c|zarr\.json)(?:/|\Z)){SEGMENT}"
_NODES = rf"{_NODE}(?:/{_NODE})*"
_KEY = re.compile(rf"(?:(?P<node>{_NODES})/)?(?:zarr\.json|c(?P<indices>(?:/(?:0|[1-9][0-9]{{0,9}}))*))", re.ASCII)
_PATH = re.compile(rf"(?:{_NODES})?", re.ASCII)
_NAME = re.compile(_NODE, re.ASCII)


class Key(NamedTuple):
    """A parsed key."""

    node: str
    """The path of the array or group; empty for the root."""
    indices: tuple[int, ...] | None
    """The indices of a chunk in the chunk grid, in the order of the array's dimensions; ``None`` for metadata."""


@lru_cache(maxsize=16_384)  # an update asks for each key of its version several times
def parse(text: str) -> Key | None:
    """Return the node and the chunk indices of a key, or ``None`` if *text* does not match the grammar."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    indices = match["indices"]
    return Key(match["node"] or "", None if indices is None else tuple(int(index) for index in indices.split("/")[1:]))


def is_key(text: str) -> bool:
    """Return whether *text* is a key, which costs less than to parse it."""
    return _KEY.fullmatch(text) is not None


def is_path(text: str) -> bool:
    """Return whether *text* can be the path of a group or an array. An empty text is the root."""
    return _PATH.fullmatch(text) is not None


def is_node(name: str) -> bool:
    """Return whether *name* can be the name of a group or an array."""
    return _NAME.fullmatch(name) is not None


def chunk(node: str, indices: tuple[int, ...]) -> str:
    """Return the key of a chunk."""
    return "/".join((node, "c", *map(str, indices)) if node else ("c", *map(str, indices)))
