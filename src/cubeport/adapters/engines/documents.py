"""Documents in a snapshot of Icechunk, which stores nothing but arrays: arrays of bytes below a path that no group leads to.

A small document is in blocks of a megabyte. A large one, the manifest of a version with a thousand objects or more, is in parts,
each an object of its own::

    <node>/zarr.json    an array of bytes, whose attribute parts has the slot and the sha256 of each part, in order
    <node>/c/<slot>     a part, compressed

A manifest is cut before entries that their own keys choose, so an entry more or less changes one part. A version shares the other
parts with its parent, and an update of a dataset of a million chunks sends a few of them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numcodecs import Zstd

from cubeport.adapters.engines import repositories, zarrv3
from cubeport.cubes import keys

if TYPE_CHECKING:
    import icechunk

_BLOCK = 1 << 20
"""The chunk of a document in blocks, in bytes."""
_LARGE = 128 << 10
"""From this size on, a document is in parts, in bytes."""
_ENTRIES = 512
"""How many entries a part has on average, which is about 60 kB. It is a power of two, and so is what follows from it."""
_MOST_PARTS = 512
"""About so many parts a document has at most. A larger one has larger parts."""
_ENTRY = re.compile(rb'\{"key":"([^"\\]+)"')
"""How an entry of a manifest begins."""


def put(session: icechunk.Session, node: str, content: bytes) -> None:
    """Store a document at *node*, with the parts that are there already."""
    parts = {hashlib.sha256(each).hexdigest(): each for each in cut(content)} if len(content) >= _LARGE else {}
    if len(parts) <= 1:
        _put_blocks(session, node, content)
        return
    there = dict(_listed(repositories.get(session, f"{node}/{keys.METADATA}")) or ())
    if not there:
        remove(session, node)
    kept = {slot for sha256, slot in there.items() if sha256 in parts}
    free = (slot for slot in itertools.count() if slot not in kept)
    slots = {sha256: there[sha256] if sha256 in there else next(free) for sha256 in parts}
    repositories.delete_all(session, [keys.chunk(node, (slot,)) for slot in {*there.values()} - {*slots.values()}])
    grid = zarrv3.Grid((max(slots.values()) + 1,), (1,), np.dtype("uint8"), 0)
    document = zarrv3.array_document(grid, ("part",), {"parts": [[slots[sha256], sha256] for sha256 in parts]})
    repositories.set_all(session, [(f"{node}/{keys.METADATA}", partial(zarrv3.to_bytes, document))])
    new = [(keys.chunk(node, (slot,)), partial(_compressed, parts[sha256])) for sha256, slot in slots.items() if slot not in kept]
    repositories.set_all(session, new)


def remove(session: icechunk.Session, node: str) -> None:
    """Remove the document at *node*, if there is one."""
    repositories.delete_below(session, [node])


def get(session: icechunk.Session, node: str) -> bytes | None:
    """Return a document, or ``None`` if the snapshot has none. Raises Corrupt, ValueError if it cannot be read."""
    with repositories.errors("read a document of a version"):
        return repositories.run(fetch(session, node))


async def fetch(session: icechunk.Session, node: str) -> bytes | None:
    """Do as :func:`get`, for :func:`cubeport.adapters.engines.repositories.run`; errors are those of Icechunk."""
    metadata = await repositories.fetch(session, f"{node}/{keys.METADATA}")
    if metadata is None:
        return None
    listed = _listed(metadata)
    (size,) = json.loads(metadata)["shape"]
    slots = range(-(-size // _BLOCK)) if listed is None else [slot for _, slot in listed]
    parts = await repositories.together(*(repositories.fetch(session, keys.chunk(node, (slot,))) for slot in slots))
    try:
        whole = [bytes(Zstd().decode(each)) for each in parts if each is not None]
    except RuntimeError as error:  # what numcodecs raises for bytes that are not zstd's
        raise ValueError("a document that cannot be decoded") from error
    content = b"".join(whole)
    if listed is not None and len(whole) == len(parts):
        return content
    if listed is not None or len(content) < size:
        raise ValueError("a document that was cut")
    return content[:size]


def cut(content: bytes) -> Iterator[bytes]:
    """Yield the parts of a manifest. Where they begin depends only on the keys of its entries, and roughly on their number."""
    starts = [(each.start(), zlib.crc32(each[1])) for each in _ENTRY.finditer(content)]
    among = max(_ENTRIES, 1 << (len(starts) // _MOST_PARTS).bit_length())
    edges = [0, *(start for start, number in starts if start and number % among == 0), len(content)]
    yield from (content[first:end] for first, end in itertools.pairwise(edges))


def _listed(metadata: bytes | None) -> list[tuple[str, int]] | None:
    """Return the sha256 and the slot of each part, in order; ``None`` if there is no document, or one in blocks."""
    parts = None if metadata is None else json.loads(metadata)["attributes"].get("parts")
    return None if parts is None else [(sha256, slot) for slot, sha256 in parts]


def _put_blocks(session: icechunk.Session, node: str, content: bytes) -> None:
    remove(session, node)
    values = np.frombuffer(content, "uint8")
    grid = zarrv3.Grid(values.shape, (_BLOCK,), values.dtype, 0)
    document = zarrv3.array_document(grid, ("byte",), {})
    repositories.set_all(session, [(f"{node}/{keys.METADATA}", partial(zarrv3.to_bytes, document))])
    chunks = [(keys.chunk(node, (at,)), grid.encode(values[at * _BLOCK : (at + 1) * _BLOCK])[1]) for at in range(grid.counts[0])]
    repositories.set_all(session, [(key, partial(bytes, stored)) for key, stored in chunks if stored is not None])


def _compressed(part: bytes) -> bytes:
    return bytes(Zstd(level=zarrv3.LEVEL, checksum=True).encode(part))
