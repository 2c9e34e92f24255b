"""The base version of an update in the confined children: read through its manifest, and merged with the new data."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubeport.adapters.engines import attributes, parts, zarrplain, zarrv3
from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Entries, Entry, parse, sources_of
from cubeport.adapters.engines.opened import VersionStore
from cubeport.adapters.engines.parts import Part
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.objects import Objects
from cubeport.adapters.gate.references import Reference
from cubeport.adapters.sandbox import child
from cubeport.adapters.sources import series
from cubeport.adapters.sources.reading import RAW, TEXT, OpenedSource, decoding, native
from cubeport.cubes import keys, update
from cubeport.cubes.describe import value_range
from cubeport.cubes.groups import find
from cubeport.cubes.keys import METADATA
from cubeport.cubes.normalise import PACKING, PRECISIONS, dropped, in_precision, scalar_time
from cubeport.cubes.packing import MISSING, missing_numbers, says_nothing
from cubeport.cubes.presence import Presence
from cubeport.cubes.raw import dataset, expanded
from cubeport.cubes.readers import reader
from cubeport.cubes.repairs import flag
from cubeport.cubes.spread import Spread, Values
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.update import OnOverlap, StepsChange
from cubeport.cubes.write_request import SourceFile, StoredObject
from cubeport.errors import Corrupt, DtypeMismatch, EncodingMismatch, SourceRejected, VariablesMismatch

_COMPARED_BYTES = 16 * 2**20
"""How many bytes of each side are compared at a time."""


class Parent:
    """The folder of a version. All objects in its manifest must exist, so that a lost chunk is never read as fill values.

    With *bring*, which makes the file of a key in the folder, an object may come from an object store when it is first read.

    Raises
    ------
    Corrupt
        If the manifest is not the one in the catalog, or an object differs from its entry.
    """

    def __init__(self, folder: Path, digest: str | None = None, *, bring: Callable[[str], None] | None = None) -> None:
        self._folder = folder
        self._bring = bring
        manifest = (folder / MANIFEST).read_bytes()
        if digest is not None and hashlib.sha256(manifest).hexdigest() != digest:
            raise _damaged(MANIFEST)
        self.entries: Entries = parse(manifest)
        self._sources = sources_of(folder)

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:  # noqa: ARG002  # there is only one version
        """Return an object, or ``None`` if there is no such key."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry.source is not None:
            return parts.opened(entry, self._sources, [Path("/")])  # the kernel lets this process open these files and no others
        path = self._folder / CUBE / key
        if self._bring is not None and not path.exists():
            self._bring(key)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise _damaged(key) from error
        return StoredObject(file=file, size=entry.size, digest=entry.sha256)

    def source(self) -> OpenedSource:
        """Return the cube as a lazy source."""
        plain = zarrplain.read(self.document(""), self._bytes)
        return OpenedSource("the existing data", opened(self) if plain is None else plain)

    def _bytes(self, key: str) -> bytes | None:
        found = self.read("", "", key)
        if found is None:
            return None
        with found.file as file:
            data = bytes(file.read())
        if len(data) != found.size:
            raise _damaged(key)
        return data

    def grids(self) -> dict[str, Grid]:
        """Return the grid of each array."""
        document = self.document("")
        nodes: Mapping[str, Any] = document["consolidated_metadata"]["metadata"]
        return {name: zarrv3.parse_array(node)[0] for name, node in nodes.items()}

    def document(self, node: str) -> dict[str, Any]:
        """Return the metadata of a node."""
        found = self._bytes(f"{node}/{METADATA}" if node else METADATA)
        if found is None:
            raise _damaged(METADATA)
        document: dict[str, Any] = json.loads(found)
        return document


def parent_of(told: Mapping[str, Any], context: child.Context) -> Parent:
    """Return the version that a request names by ``folder``, ``digest`` and whether the service ``brings`` objects."""
    folder = Path(told["folder"])
    return Parent(folder, told["digest"], bring=partial(context.bring, folder) if told["brings"] else None)


class Written:
    """What the first child left: objects that it made, and chunks that lie in sources."""

    def __init__(self, made: Objects, sources: Sequence[int], held: Sequence[SourceFile], places: Mapping[str, Reference]) -> None:
        self._made = made
        self._sources, self._held = sources, held
        self.places = places
        """By key."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:  # noqa: ARG002  # there is one version
        """Return an object."""
        place = self.places.get(key)
        if place is not None:
            number, offset, size = place
            part = Part(os.dup(self._sources[number]), self._held[number], offset, size)
            return StoredObject(file=part, size=size, digest="", offset=offset, check=part.check)  # type: ignore[arg-type]
        return self._made.open(key)


class Updated:
    """The union of an update and its parent: the objects that were written, and all others from the parent."""

    def __init__(
        self,
        parent: Parent,
        grids: Mapping[str, Grid],
        dimensions: Mapping[str, Sequence[str]],
        change: StepsChange,
        ranges: Mapping[str, Sequence[float | None]],
        empty: tuple[Sequence[str], int],
        own: Written,
    ) -> None:
        self._parent = parent
        self._own = own
        self._grids = grids
        self._change = change
        self._ranges = ranges
        self._empty = empty
        held = parent.grids()
        self.forms = {name: grid.form for name, grid in held.items()}
        """By array of the parent, the form of the source in which its chunks are."""
        self._axes = {name: list(dims).index(change.dimension) for name, dims in dimensions.items() if change.dimension in dims}
        self._places = {name: shared(name, held, grid, self._axes.get(name), change) for name, grid in grids.items()}

    def shares(self, name: str, index: tuple[int, ...]) -> bool:
        """Return whether a chunk comes from the parent."""
        return is_shared(index, self._places.get(name), self._axes.get(name))

    def is_shared(self, key: str) -> bool:
        """Return whether *key* is a chunk that comes from the parent."""
        parsed = keys.parse(key)
        return parsed is not None and parsed.indices is not None and self.shares(parsed.node, parsed.indices)

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return an object of the union."""
        if self.is_shared(key):
            return self._parent.read(dataset_id, version_id, key)
        return self._own.read(dataset_id, version_id, key)

    def kept(self) -> dict[str, Entry]:
        """Return the parent's entries of the chunks that the update shares with it."""
        found = {}
        for key, entry in self._parent.entries.items():
            parsed = keys.parse(key)
            if parsed is None or parsed.indices is None or parsed.node not in self._grids:
                continue
            if self._grids[parsed.node].has(parsed.indices) and self.shares(parsed.node, parsed.indices):
                found[key] = entry
        return found

    @property
    def is_append(self) -> bool:
        """Whether all steps of the parent are as they were, and new ones follow."""
        return self._change.is_append

    def presence(self, sizes: Mapping[Any, int]) -> Presence | None:
        """Return what is known of which steps have a value. It is known for appends: else all values must be read."""
        if not self._change.is_append:
            return None
        labels, count = self._empty
        return Presence(self._change.dimension, sizes[self._change.dimension], self._change.length, tuple(labels), count)

    def values(
        self,
        raw: xr.Dataset,
        lengths: Mapping[str, tuple[int, ...]],
        written: Mapping[str, Values],
        presence: Presence | None,
    ) -> dict[str, Values]:
        """Return what is known of the values, from what is known of the parent's and of the chunks that were *written*, or by
        reading these. Which steps have a value is noted in *presence*.

        It is known for appends and for variables that the update does not change. If steps were replaced, all values must be
        read.
        """
        found = {}
        for name, ends in self._ranges.items():
            if self._places.get(name) is None or name not in raw.variables:
                continue
            axis = self._axes.get(name)
            if axis is None:
                found[name] = Values(Spread(*ends))
            elif self._change.is_append:
                length = lengths[name][axis]
                first = self._change.length // length * length
                tail = raw.variables[name].isel({self._change.dimension: slice(first, None)})
                beyond = axis, self._change.length - first
                new = (
                    written[name]
                    if name in written
                    else value_range(tail, name, lengths[name], beyond=beyond, first=first, presence=presence)
                )
                found[name] = new.beside(Spread(*ends))
        return found


def is_shared(index: tuple[int, ...], places: frozenset[int] | None, axis: int | None) -> bool:
    """Return whether the chunk at *index* comes from the parent. *places* is the result of :func:`shared`; *axis* is that of the
    change.
    """
    return places is not None and (axis is None or index[axis] in places)


def shared(name: str, old: Mapping[str, Grid], new: Grid, axis: int | None, change: StepsChange) -> frozenset[int] | None:
    """Return the chunk indices along *axis* whose chunks come from the parent, or ``None`` if there are none. Without *axis*, all
    do.

    Both children use this rule.
    """
    held = old.get(name)
    if (
        held is None
        or (held.chunks, held.dtype, held.form) != (new.chunks, new.dtype, new.form)
        or repr(held.fill) != repr(new.fill)
    ):
        return None
    if axis is None:
        return frozenset() if held.shape == new.shape else None
    return update.untouched(new.shape[axis], new.chunks[axis], change)


def opened(objects: Any) -> xr.Dataset:
    """Return a cube as a lazy dataset of stored values, from a reader that returns its objects by key."""
    store: Any = VersionStore(objects, "", "")
    return xr.open_dataset(store, engine=reader("zarr"), consolidated=True, **{**RAW, "zarr_format": 3})


def merge(
    parent: OpenedSource,
    new: OpenedSource,
    dimension: str | None,
    on_overlap: OnOverlap,
    tolerance: float,
    *,
    is_compared: bool = False,
    untransformed: xr.Dataset | None = None,
) -> tuple[OpenedSource, StepsChange]:
    """Return the parent merged with the steps of *new* in order, and the change. Attributes and static variables are the parent's.

    With *is_compared*, an earlier call found that the steps that both have are equal, so nothing is compared again.
    *untransformed* is *new* before ``transforms``, to which a step of ``normalise`` applies that a refusal names.

    Raises
    ------
    VariablesMismatch, GridMismatch, DtypeMismatch, EncodingMismatch, UnitsMismatch, CalendarMismatch
        If the two do not fit together.
    Overlap
        If the parent already has some steps with other values, and *on_overlap* is ``error``.
    SourceRejected
        ``bad-time``, if the steps of one of them are not ascending.
    """
    axis = find(parent.raw).axis_of("t")
    along = dimension or (None if axis is None else axis.dimension)
    if along is None or along not in parent.raw.sizes:
        step = "replace the dataset as a whole (--replace)"
        if dimension is None and axis is not None and axis.scalar:
            cure = flag({"join_scalar_time": scalar_time([parent.raw], axis.name)})
            step = f"ingest all files together with --replace; or the first one with --replace {cure}, and then update"
        raise VariablesMismatch("the existing data have no time axis along which to add steps", next_step=step)
    if along in new.raw.variables and new.raw.variables[along].ndim == 0:
        new = _one_step(parent, new, along)
    _same_names(parent, new)
    new = _same_form(parent, new, along, new.raw if untransformed is None else untransformed)
    series.check_alike(parent, new, along, tolerance)
    new = series.at_reference(parent, new)
    label = axis.name if axis is not None and axis.dimension == along else along
    held, coming = series.labels_of(parent, label), series.labels_of(new, label)
    for source, found in ((parent, held), (new, coming)):
        if not (found.is_ascending if isinstance(found, Stamps) else all(one < other for one, other in pairwise(found))):
            raise SourceRejected(
                f"{source.name}: the steps along {along!r} do not ascend",
                reason="bad-time",
                next_step="sort them: --normalise 'sort: [\"time\"]'",
            )
    if on_overlap == "error" and not is_compared and (both := update.common(held, coming)):
        _same_steps(parent, new, along, both, coming)
    found, replaced = update.runs(held, coming, on_overlap)
    changed = update.change(along, len(held), found, replaced)
    parts = [
        replace(source, name=source.name, raw=_steps(source.raw, along, run.start, run.stop), warnings=())
        for run in found
        for source in [parent if run.of_parent else new]
    ]
    joined = series.join(parts, along, tolerance=tolerance) if len(parts) > 1 else parts[0]
    whole = {}
    for key, variable in parent.raw.variables.items():
        name = str(key)
        if along not in variable.dims:
            whole[name] = variable
            continue
        merged = joined.raw.variables[name].copy(deep=False)
        merged.attrs = dict(variable.attrs)
        whole[name] = merged
    return OpenedSource(new.name, dataset(whole, parent.raw.attrs), (*new.warnings, *joined.warnings)), changed


def _same_steps(
    parent: OpenedSource, new: OpenedSource, along: str, both: Sequence[tuple[int, int]], labels: Sequence[object]
) -> None:
    """Raise Overlap if a step that both have differs in a stored value. NaN equals NaN.

    Parameters
    ----------
    both
        The indices of such a step in *parent* and in *new*.
    labels
        The labels of *new*.
    """
    for name, held in parent.raw.variables.items():
        coming = new.raw.variables[name]
        if along not in held.dims or held.dims == (along,) == (name,):
            continue
        coming = coming.transpose(*held.dims)
        step = max(held.nbytes // held.sizes[along], 1)
        for run in _consecutive(both, max(_COMPARED_BYTES // step, 1)):
            (first, own), count = run[0], len(run)
            rows = held.isel({along: slice(first, first + count)}), coming.isel({along: slice(own, own + count)})
            for part in _boxes(rows[0], along, max(_COMPARED_BYTES // count, 1)):
                with decoding(f"variable {name!r}"):
                    one, other = (each.isel(part).transpose(along, ...).values for each in rows)
                odd = np.asarray((one != other) & ~((one != one) & (other != other)))  # NaN equals NaN
                if odd.any():
                    at = int(np.flatnonzero(odd.reshape(count, -1).any(axis=1))[0])
                    raise update.differs([labels[number] for _, number in both], labels[own + at], str(name))


def _consecutive(both: Sequence[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Return the pairs of indices in groups of at most *most* that follow each other in both."""
    found: list[list[tuple[int, int]]] = []
    for pair in both:
        if found and len(found[-1]) < most and found[-1][-1] == (pair[0] - 1, pair[1] - 1):
            found[-1].append(pair)
        else:
            found.append([pair])
    return found


def _boxes(variable: xr.Variable, along: str, step_bytes: int) -> Iterator[dict[str, slice]]:
    """Yield the parts of a step, as slices by dimension, so that a part of one step has at most *step_bytes*."""
    sizes = {str(name): size for name, size in variable.sizes.items() if name != along}
    lengths = dict(sizes)
    while math.prod(lengths.values()) * variable.dtype.itemsize > step_bytes and max(lengths.values()) > 1:
        longest = max(lengths, key=lambda each: lengths[each])
        lengths[longest] = -(-lengths[longest] // 2)
    cuts = [[slice(at, at + lengths[name]) for at in range(0, size, lengths[name])] for name, size in sizes.items()]
    for part in product(*cuts):
        yield dict(zip(sizes, part, strict=True))


def _steps(raw: xr.Dataset, along: str, start: int, stop: int) -> xr.Dataset:
    """Return some of the steps; of all of them the very same arrays, which can be known again."""
    return raw if (start, stop) == (0, raw.sizes[along]) else raw.isel({along: slice(start, stop)})


def _one_step(parent: OpenedSource, new: OpenedSource, along: str) -> OpenedSource:
    """Return *new*, whose label is a scalar, with the dimension in the same position as in the parent."""
    held = parent.raw.variables
    found = {
        str(name): expanded(variable, along).transpose(*held[name].dims)
        if name in held and along in held[name].dims and set(held[name].dims) == {along, *variable.dims}
        else variable
        for name, variable in new.raw.variables.items()
    }
    return replace(new, raw=dataset(found, new.raw.attrs))


def without_single_values(parent: OpenedSource, new: OpenedSource) -> OpenedSource:
    """Return *new* without the scalar coordinates that the parent does not have, such as the level of a variable left out."""
    roles = find(new.raw).roles
    odd = [
        str(name)
        for name, each in new.raw.variables.items()
        if each.ndim == 0 and name not in parent.raw.variables and roles.get(str(name)) != "data"
    ]
    if not odd:
        return new
    told = "variable-skipped", f"single values that the existing data do not have are skipped: {', '.join(map(repr, odd[:20]))}"
    return replace(new, raw=dropped(new.raw, odd), warnings=(*new.warnings, told))


def _same_names(parent: OpenedSource, new: OpenedSource) -> None:
    held, coming = set(map(str, parent.raw.variables)), set(map(str, new.raw.variables))
    if held != coming:
        told = [f"{name!r} is missing" for name in sorted(held - coming)] + [f"{name!r} is new" for name in sorted(coming - held)]
        step = "replace the dataset as a whole (--replace)"
        fields = [str(name) for name, role in find(parent.raw).roles.items() if role == "data"]
        if held <= coming and fields:
            step = f"choose the existing ones: --variables {shlex.quote(','.join(fields))}"
        raise VariablesMismatch(f"{new.name} has other variables than the existing data: {', '.join(told[:10])}", next_step=step)


def _same_form(parent: OpenedSource, new: OpenedSource, along: str, untransformed: xr.Dataset) -> OpenedSource:
    """Return *new* with the packing attributes of the existing data, after checking that the types and the packing are equal.

    An update never changes types and never packs values again.
    """
    changed: dict[str, xr.Variable] = {}
    unlike: list[str] = []
    for key, held in parent.raw.variables.items():
        name = str(key)
        coming = new.raw.variables[name].copy(deep=False)
        if along not in held.dims or held.dtype == TEXT:
            continue
        if native(held.dtype) != native(coming.dtype):
            cast = _cast(name, coming, native(held.dtype), new.name)
            if cast is None:
                unlike.append(name)
                continue
            coming = cast
        ours, theirs = (_packing(each, native(held.dtype), name) for each in (held, coming))
        odd = [each for each in ours if ours[each] != theirs[each]]
        if odd:
            raise EncodingMismatch(
                f"{new.name}: variable {name!r} has another {odd[0]} than the existing data, "
                "and an update never packs values again",
                next_step="write the file with the packing of the existing data, or replace the dataset as a whole (--replace)",
            )
        kept = {each: value for each, value in coming.attrs.items() if each not in PACKING}
        coming.attrs = {**kept, **{each: held.attrs[each] for each in PACKING if each in held.attrs}}
        changed[name] = coming
    if unlike:
        raise _other_types(parent.raw, new, unlike, untransformed)
    return replace(new, raw=dataset({**{str(k): v for k, v in new.raw.variables.items()}, **changed}, new.raw.attrs))


def _other_types(parent: xr.Dataset, new: OpenedSource, unlike: Sequence[str], untransformed: xr.Dataset) -> DtypeMismatch:
    """Return the refusal of variables of other types, with the step that cures it if there is one for all of them."""
    first = unlike[0]
    words = f"{new.name}: variable {first!r} is {new.raw.variables[first].dtype}, and {native(parent.variables[first].dtype)}"
    more = "" if len(unlike) == 1 else f" (so are {', '.join(map(repr, unlike[1:10]))})"
    if not all(_is_other_precision(name, parent, new.raw, untransformed) for name in unlike):
        step = "write the file with the types of the existing data, or replace the dataset as a whole (--replace)"
        return DtypeMismatch(f"{words} in the existing data{more}", next_step=step)
    cure = {"set_dtype": {name: native(parent.variables[name].dtype).name for name in unlike}}
    is_rounded = "float32" in cure["set_dtype"].values()
    does = "round to the precision of the existing data" if is_rounded else "store it in the precision of the existing data"
    return DtypeMismatch(f"{words} in the existing data{more}", next_step=f"{does}: repeat with {flag(cure)}", repair=[cure])


def _is_other_precision(name: str, parent: xr.Dataset, new: xr.Dataset, untransformed: xr.Dataset) -> bool:
    """Return whether the step ``set_dtype`` makes the form of a variable that of the existing data."""
    held, coming = parent.variables[name], new.variables[name]
    kind = native(held.dtype)
    is_number = name in untransformed.variables and untransformed.variables[name].dtype.name == coming.dtype.name
    if not is_number or {kind.name, coming.dtype.name} != set(PRECISIONS) or _is_packed(untransformed.variables[name]):
        return False
    cast = in_precision(name, coming, kind)
    return not series.is_label(parent, name) and _packing(held, kind, name) == _packing(cast, kind, name)


def _packing(variable: xr.Variable, kind: np.dtype[Any], name: str) -> dict[str, Any]:
    """Return what of the packing changes what readers see, as it is stored."""
    keys = [key for key in PACKING if key not in MISSING]
    given = {key: variable.attrs[key] for key in keys if key in variable.attrs and not says_nothing(key, variable.attrs[key], kind)}
    stored = attributes.encode(given, kind, name, [])
    return {" or ".join(MISSING): missing_numbers(variable.attrs, kind), **{key: stored.get(key) for key in keys}}


def _is_packed(variable: xr.Variable) -> bool:
    return not {"scale_factor", "add_offset"}.isdisjoint(variable.attrs)


def _cast(name: str, variable: xr.Variable, kind: np.dtype[Any], source: str) -> xr.Variable | None:
    """Return labels in the type of the parent's labels if the conversion is exact, else ``None``. Whole days, for example, are
    equal as int64 and double.

    Raises
    ------
    DtypeMismatch
        If they must be whole numbers and are not.
    """
    if variable.ndim == 1 or (variable.ndim == 2 and variable.shape[-1] == 2):
        with decoding(name, source):
            values = variable.values
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(kind)
        same = (cast.astype(values.dtype) == values) | ((cast != cast) & (values != values))  # NaN is NaN in both
        if bool(same.all()):
            return xr.Variable(variable.dims, cast, variable.attrs, variable.encoding)
        if kind.kind in "iu" and np.isfinite(values).all():
            raise DtypeMismatch(
                f"{source}: {name!r} has {values[~same].flat[0]:.12g}, and only whole numbers ({kind}) in the existing data",
                next_step="give it such numbers (--normalise with set_time, docs/repair.md), or replace the dataset (--replace)",
            )
    return None


def _damaged(key: str) -> Corrupt:
    return Corrupt(f"the existing version is damaged: {key!r} is not what was written", next_step="cubeport fsck --data")
