"""The part of a child that makes overviews: it reads the assembled cube, and writes its coarser levels and their manifest.

A chunk is not written if its base did not change since the parent version: the manifest lists it, and a hard link shares it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cubeport.adapters.engines import attributes, manifest, zarrv3
from cubeport.adapters.engines.manifest import OVERVIEWS, OVERVIEWS_MANIFEST, Entries, Entry
from cubeport.adapters.engines.opened import OpenedVersion
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.parent import parent_of
from cubeport.adapters.sandbox import child
from cubeport.cubes import keys, overviews
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.description import CubeDescription, Variable
from cubeport.cubes.normalise import PACKING
from cubeport.cubes.windows import IndexRange, Window

_STRIP_BYTES = 64 * 2**20
"""Decoded bytes of the base that are read at once."""
_DECODED_BYTES = 128 * 2**20
"""Bytes of decoded chunks of the base that are kept, because a strip can be a part of a chunk."""
_LIMITS = ("valid_min", "valid_max", "valid_range", "actual_range")


def write(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Write ``target/overviews.zarr`` and ``target/overviews.json``.

    ``request``: ``folder`` and ``digest`` of the version, whether the service ``brings`` objects of its parent there, its
    ``description``, the folder ``base`` of its parent or null, ``target``.
    """
    cube = CubeDescription.model_validate(request["description"])
    held = parent_of(request, context)
    parent = None if request["base"] is None else _Held.of(Path(request["base"]))
    opened = OpenedVersion(held, "", "", cube, Bounded(_DECODED_BYTES))
    target = Path(request["target"])
    made = _Making(cube, opened, held.entries, parent, target / OVERVIEWS, context)
    listed = made.write()
    (target / OVERVIEWS_MANIFEST).write_bytes(manifest.to_bytes(listed))
    return {}


class _Held:
    """The overviews of the parent that can be shared."""

    def __init__(self, base: Entries, entries: Entries, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self.base = base
        self.entries = entries
        self.nodes = nodes

    @classmethod
    def of(cls, folder: Path) -> _Held | None:
        if not (folder / OVERVIEWS_MANIFEST).exists():
            return None
        entries = manifest.parse((folder / OVERVIEWS_MANIFEST).read_bytes())
        nodes = {
            key.removesuffix(f"/{keys.METADATA}"): json.loads((folder / OVERVIEWS / key).read_bytes())
            for key in entries
            if key.endswith(f"/{keys.METADATA}")
        }
        return cls(manifest.parse((folder / manifest.MANIFEST).read_bytes()), entries, nodes)


class _Making:
    def __init__(
        self,
        cube: CubeDescription,
        opened: OpenedVersion,
        base: Entries,
        parent: _Held | None,
        root: Path,
        context: child.Context,
    ) -> None:
        self._cube, self._opened, self._base, self._parent, self._root = cube, opened, base, parent, root
        self._context = context
        self._listed: dict[str, Entry] = {}
        self._across = overviews.dimensions_of(cube)
        self._warnings: list[tuple[str, str]] = []

    def write(self) -> dict[str, Entry]:
        nodes: list[dict[str, Any]] = [{} for _ in range(self._cube.overview_levels)]
        for level, own in enumerate(nodes, 1):
            for variable in self._cube.variables:
                if not set(variable.dimensions) & set(self._across):
                    own[variable.name] = self._copied(level, variable)
                elif variable.dimensions in ((self._across[0],), (self._across[1],)) and variable.role == "coordinate":
                    own[variable.name] = self._labels(level, variable)
        for name, method in self._cube.overviews:
            for level, document in enumerate(self._field(self._cube.variable(name), method)):  # type: ignore[arg-type]
                nodes[level][name] = document
        for level, own in enumerate(nodes, 1):
            held = attributes.encode(self._opened.global_attributes(), None, "global", self._warnings)
            self._put(f"{level}/{keys.METADATA}", zarrv3.to_bytes(zarrv3.consolidated(zarrv3.group_document(held), own)))
        return self._listed

    def _copied(self, level: int, variable: Variable) -> dict[str, Any]:
        """Write a variable that has no x and y dimensions as it is."""
        values = self._opened.raw(variable.name, {})
        return self._whole(level, variable.name, variable.dimensions, values, dict(self._opened.attributes(variable.name)))

    def _labels(self, level: int, variable: Variable) -> dict[str, Any]:
        """Write the centres of the cells of an axis; an odd last cell is as wide as the others."""
        values = self._opened.raw(variable.name, {}).astype("float64")
        for _ in range(level):
            if values.size % 2:
                step = values[-1] - values[-2] if values.size > 1 else 0.0
                values = np.append(values, values[-1] + step)
            values = (values[::2] + values[1::2]) / 2
        held = {name: value for name, value in self._opened.attributes(variable.name).items() if name not in ("bounds", *_LIMITS)}
        return self._whole(level, variable.name, variable.dimensions, values, held)

    def _whole(self, level: int, name: str, dimensions: tuple[str, ...], values: Any, held: dict[str, Any]) -> dict[str, Any]:
        """Write an array as one chunk."""
        array = Grid(
            values.shape, tuple(max(1, each) for each in values.shape), values.dtype, attributes.fill_of(held, values.dtype)
        )
        encoded = attributes.encode(held, values.dtype, name, self._warnings)
        document = zarrv3.array_document(array, dimensions, encoded)
        self._put(f"{level}/{name}/{keys.METADATA}", zarrv3.to_bytes(document))
        if values.size:
            _, stored = array.encode(values)
            if stored is not None:
                self._put(f"{level}/{keys.chunk(name, (0,) * values.ndim)}", stored)
        return document

    def _field(self, variable: Variable, method: overviews.Method) -> list[dict[str, Any]]:
        """Write all levels of a field; return their metadata."""
        name, count = variable.name, self._cube.overview_levels
        held = dict(self._opened.attributes(name))
        if method == "mean":
            held = {key: value for key, value in held.items() if key not in (*PACKING, *_LIMITS)}
        levels = []
        for level in range(1, count + 1):
            described = overviews.at_level(self._cube, level, [(name, method)]).variable(name)
            dtype = np.dtype(described.dtype)
            levels.append(Grid(described.shape, described.chunks, dtype, attributes.fill_of(held, dtype)))
        documents = []
        for level, grid in enumerate(levels, 1):
            encoded = attributes.encode(held, grid.dtype, name, self._warnings)
            document = zarrv3.array_document(grid, variable.dimensions, encoded)
            self._put(f"{level}/{name}/{keys.METADATA}", zarrv3.to_bytes(document))
            documents.append(document)
        missing = self._missing(held, levels[0].dtype) if method == "max" else None
        for lead in itertools.product(*map(range, levels[0].counts[:-2])):
            if not self._shared(variable, lead, documents):
                self._slab(variable, method, lead, levels, missing)
        return documents

    @staticmethod
    def _missing(held: Mapping[str, Any], dtype: np.dtype[Any]) -> Any:
        return dtype.type(held["_FillValue"]) if "_FillValue" in held else None

    def _shared(self, variable: Variable, lead: tuple[int, ...], documents: list[dict[str, Any]]) -> bool:
        """List the chunks of the parent's overviews if the base did not change there, and return whether that is so."""
        parent, name = self._parent, variable.name
        if parent is None:
            return False
        for level, document in enumerate(documents, 1):
            old = parent.nodes.get(f"{level}/{name}")
            if old is None or any(old[key] != document[key] for key in ("chunk_grid", "data_type", "fill_value", "codecs")):
                return False
            if old["shape"][-2:] != document["shape"][-2:]:
                return False
        counts = [-(-size // length) for size, length in zip(variable.shape[-2:], variable.chunks[-2:], strict=True)]
        for at in itertools.product(*map(range, counts)):
            key = keys.chunk(name, (*lead, *at))
            if self._base.get(key) != parent.base.get(key):
                return False
        if any(index >= length for index, length in zip(lead, self._counts_of(parent, name), strict=True)):
            return False  # beyond the parent's end, where all is fill in both
        prefixes = tuple(f"{level}/{keys.chunk(name, lead)}/" for level in range(1, len(documents) + 1))
        self._listed |= {key: entry for key, entry in parent.entries.items() if key.startswith(prefixes)}
        return True

    @staticmethod
    def _counts_of(parent: _Held, name: str) -> list[int]:
        node = parent.nodes[f"1/{name}"]
        chunks = node["chunk_grid"]["configuration"]["chunk_shape"]
        return [-(-size // length) for size, length in zip(node["shape"][:-2], chunks[:-2], strict=True)]

    def _slab(self, variable: Variable, method: overviews.Method, lead: tuple[int, ...], levels: list[Grid], missing: Any) -> None:
        """Write all levels of the chunks of one place along the leading dimensions."""
        first = levels[0]
        part = first.region((*lead, 0, 0))[:-2]
        values = np.empty((*(each.stop - each.start for each in part), *first.shape[-2:]), first.dtype)
        for start, stop in self._strips(variable, part):
            along = {
                dimension: Window(dimension, (IndexRange(each.start, each.stop),))
                for dimension, each in zip(variable.dimensions, (*part, slice(start, stop)), strict=False)
            }
            base = self._opened.raw(variable.name, along)
            if method == "mean":
                base = self._opened.decode(variable.name, base)
                base = base.astype(first.dtype if base.dtype.kind != "f" or first.dtype.itemsize == 8 else base.dtype, copy=False)
            values[..., start // 2 : overviews.halved(stop), :] = overviews.coarser(base, method, missing)
        for level, grid in enumerate(levels, 1):
            if level > 1:
                values = overviews.coarser(values, method, missing)
            for at in itertools.product(*map(range, grid.counts[-2:])):
                rows, columns = grid.region((*lead, *at))[-2:]
                _, stored = grid.encode(np.ascontiguousarray(values[..., rows, columns]))
                if stored is not None:
                    self._put(f"{level}/{keys.chunk(variable.name, (*lead, *at))}", stored)

    def _strips(self, variable: Variable, part: tuple[slice, ...]) -> Iterator[tuple[int, int]]:
        """Yield the rows that are read at once: whole chunks, an even number of rows, as far as memory allows."""
        high, wide = variable.shape[-2:]
        row = 8 * wide
        for each in part:
            row *= each.stop - each.start
        most = max(2, _STRIP_BYTES // max(1, row) // 2 * 2)
        length = 2 * variable.chunks[-2]
        length = most if length > most else most // length * length
        for start in range(0, high, length):
            yield start, min(high, start + length)

    def _put(self, key: str, content: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._listed[key] = Entry(len(content), hashlib.sha256(content).hexdigest())
