"""The second child on several machines: a worker reads back what it has written, and the last child, here, compares everything.

What a unit wrote is decoded by a child of its own that cannot read the sources, exactly as :mod:`.measure` does it. It names for
each chunk the sha256 of its values, and the sha256 of the object that it has decoded. The last child hashes every object itself,
because the manifest needs that, so a share counts only for the very bytes that are published.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.manifest import CUBE
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.answers import Answer
from cubeport.adapters.gate.objects import InFolder, Objects, put
from cubeport.adapters.gate.parent import opened
from cubeport.adapters.gate.watched import Told, Watched, document, parsed
from cubeport.adapters.gate.write import THREADS
from cubeport.adapters.sandbox import child
from cubeport.adapters.sources.stored import Index
from cubeport.cubes import decoding, keys
from cubeport.cubes.describe import is_measured, values_in
from cubeport.cubes.keys import METADATA
from cubeport.cubes.spread import Part, Values, part_of, together
from cubeport.cubes.variables import is_text
from cubeport.cubes.workload import Box
from cubeport.cubes.write_request import StoredObject
from cubeport.errors import SourceRejected

_SAID, _TAKEN = "share.json", "taken"
"""The two files of a share: what was read, and the samples of all parts as doubles, one after the other."""


def read_back(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Decode the chunks that a unit wrote, and write what was read to ``target``.

    ``request`` contains ``made``, the folder with the objects of the unit; ``cube``, a folder with the metadata of ``arrays``, all
    arrays in order; ``boxes``, of each its array and the indices of those chunks that were written; and ``target``.
    """
    made, metadata = (InFolder(Path(request[each]) / CUBE) for each in ("made", "cube"))
    nodes = {name: document(metadata, name) for name in request["arrays"]}
    grids = {name: parsed(name, node) for name, node in nodes.items()}
    root = zarrv3.consolidated(zarrv3.group_document(document(metadata).get("attributes", {})), nodes)
    raw = opened(_Unit(made, zarrv3.to_bytes(root)))
    totals: Mapping[str, int] = request["totals"]
    wanted: dict[str, set[Index]] = {name: set() for name, *_ in request["chunks"]}
    for name, index, *_ in request["chunks"]:
        wanted[name].add(tuple(index))
    boxes = [
        (name, [index for index in Box(name, tuple(start), tuple(stop)).indices() if index in wanted.get(name, ())])
        for name, start, stop in request["boxes"]
    ]
    told = Told(context, sum(grids[name].size_of(indices.__contains__) for name, indices in wanted.items()))
    arrays = {name: Watched(name, grids[name], raw.variables[name], told, each.__contains__) for name, each in wanted.items()}
    seen = {
        name: None if is_text(raw.variables[name]) else decoding.opened(each.variable(), name=name)[0]
        for name, each in arrays.items()
    }

    def look(box: tuple[str, list[Index]]) -> list[tuple[str, Part]]:
        name, indices = box
        if not indices:
            return []
        region, variable = grids[name].around(indices), seen[name]
        if variable is None or not is_measured(variable):
            arrays[name].read(region)
            return []
        values = values_in(variable, region)
        if len(list(grids[name].within(region))) == len(indices):
            return [(name, part_of(values, grids[name].chunks, totals[name]))]
        cut = (values[zarrv3.inside(grids[name].region(index), region)] for index in indices)
        return [(name, part_of(each, grids[name].chunks, totals[name])) for each in cut]

    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        parts = [part for found in pool.map(look, boxes) for part in found]
        chunks = [(name, index, digest) for name, each in arrays.items() for index, digest in each.found.items()]
        objects = list(pool.map(lambda each: _object(made, each[0], each[1]), chunks))
    said = _Share(
        chunks=[(name, list(index), digest.hex(), sha256) for (name, index, digest), sha256 in zip(chunks, objects, strict=True)],
        parts=[(name, part.least, part.greatest, part.endless, len(part.taken)) for name, part in parts],
    )
    target = Path(request["target"])
    put(target / _SAID, said.model_dump_json().encode())
    put(target / _TAKEN, b"".join(part.taken.astype("<f8").tobytes() for _, part in parts))
    return {}


@dataclass(frozen=True, slots=True)
class Checked:
    """What all shares of a cube say together."""

    chunks: Mapping[str, Mapping[Index, bytes]] = field(default_factory=dict)
    """By array, the digest of the values of each chunk."""
    objects: Mapping[str, str | None] = field(default_factory=dict)
    """The sha256 of each object that was decoded, by key; ``None`` where there was none, so that all values are fill values."""
    values: Mapping[str, Values] = field(default_factory=dict)
    """What is known of the values of these chunks, by array."""

    def compare(self, digests: Mapping[str, str]) -> None:
        """Raise SourceRejected unless the objects that were decoded are those with these *digests*."""
        for key, sha256 in self.objects.items():
            if digests.get(key) != sha256:
                raise SourceRejected(f"{key!r} is not the object that a worker has read back", reason="digest-mismatch")


def joined(folders: Sequence[Path], grids: Mapping[str, Grid], takes: Mapping[str, Callable[[Index], bool]]) -> Checked:
    """Return what the shares in *folders* say of the arrays of *grids*, of which the chunks that *takes* accepts were written.

    Raises
    ------
    SourceRejected
        ``crashed``, if a share is not valid, two have the same chunk, or of an array not all chunks were read.
    """
    chunks: dict[str, dict[Index, bytes]] = {}
    objects: dict[str, str | None] = {}
    parts: dict[str, list[Part]] = {}
    for folder in folders:
        said, taken = _read(folder)
        for name, place, digest, sha256 in said.chunks:
            index = tuple(place)
            key = keys.chunk(name, index)
            if name not in grids or not grids[name].has(index) or not takes[name](index) or key in objects:
                raise _odd()
            objects[key] = sha256
            chunks.setdefault(name, {})[index] = bytes.fromhex(digest)
        at = 0
        for name, least, greatest, endless, size in said.parts:
            parts.setdefault(name, []).append(Part(least, greatest, endless, taken[at : at + size]))
            at += size
    for name, found in chunks.items():
        if len(found) != sum(takes[name](index) for index in np.ndindex(*grids[name].counts)):
            raise _odd()
    if not parts.keys() <= chunks.keys():
        raise _odd()
    return Checked(chunks, objects, {name: together(each) for name, each in parts.items()})


@dataclass(frozen=True, slots=True)
class _Unit:
    """The objects of a unit below metadata that readers will see."""

    made: Objects
    root: bytes

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:  # noqa: ARG002  # there is one cube
        if key == METADATA:
            return StoredObject(file=io.BytesIO(self.root), size=len(self.root), digest="")
        return self.made.open(key)


type _Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
type _Whole = Annotated[int, Field(ge=0)]


class _Share(Answer):
    chunks: list[tuple[str, list[_Whole], _Sha256, _Sha256 | None]]
    parts: list[tuple[str, float | None, float | None, bool, _Whole]]


def _read(folder: Path) -> tuple[_Share, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the two files of a share, which a source may have controlled."""
    try:
        said = _Share.model_validate_json((folder / _SAID).read_bytes())
        taken = np.frombuffer((folder / _TAKEN).read_bytes(), "<f8")
    except (OSError, ValidationError, ValueError) as error:
        raise _odd() from error
    if len(taken) != sum(size for *_, size in said.parts):
        raise _odd()
    return said, taken


def _object(made: InFolder, name: str, index: Index) -> str | None:
    try:
        return made.digest(keys.chunk(name, index))
    except FileNotFoundError:
        return None  # all its values are fill values


def _odd() -> SourceRejected:
    return SourceRejected("the processes that read it back gave no valid answer", reason="crashed")
