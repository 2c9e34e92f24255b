"""The task of the first child: open the sources as stored, check them against the rules, and write them as one Zarr v3 group.

It runs confined. Its answer is untrusted until the second child, ``measure``, has read everything back.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from cubeport.adapters.engines import attributes, zarrv3
from cubeport.adapters.engines.manifest import CUBE
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate import references
from cubeport.adapters.gate.functions import imported
from cubeport.adapters.gate.objects import InFolder, InMemory, put
from cubeport.adapters.gate.parent import is_shared, merge, parent_of, shared, without_single_values
from cubeport.adapters.sandbox import child, wire
from cubeport.adapters.sources.contents import Group
from cubeport.adapters.sources.formats import format_of, scan, stored
from cubeport.adapters.sources.identity import identity
from cubeport.adapters.sources.reading import AXIS_BYTES, OpenedSource, decoding, load_labels, native
from cubeport.adapters.sources.series import Part, Parts, in_memory, join, labels_of
from cubeport.adapters.sources.stored import Stored
from cubeport.cubes import checks, keys, layout
from cubeport.cubes import cutout as window
from cubeport.cubes.companions import companions
from cubeport.cubes.groups import find
from cubeport.cubes.mending import counted_in_days, mend
from cubeport.cubes.normalise import Unfit, dropped, dropped_by, from_elsewhere, normalise, placed, tolerance
from cubeport.cubes.raw import dataset
from cubeport.cubes.repairs import flag, repairable
from cubeport.cubes.steps import Deaccumulate, Positions
from cubeport.cubes.transforms import transform, unknown_starts
from cubeport.cubes.update import StepsChange
from cubeport.cubes.variables import is_latitude, is_longitude, kind_of, roles_of, text_dims
from cubeport.cubes.workload import Block, Box, Made
from cubeport.cubes.write_request import SourceWindow
from cubeport.errors import NoData, Problem, SourceRejected, VariablesMismatch

with contextlib.suppress(ImportError):
    # xarray imports dask when it decodes the first value, which takes half a second. The template does it once for all children.
    import dask.array  # noqa: F401

THREADS = max(2, min(4, len(os.sched_getaffinity(0))))
"""The number of threads that hash and compress while values are read. Other children need the other cores."""

_BLOCK_BYTES = 32 * 2**20
"""How many decoded bytes to read at a time, up to four times as many for long source chunks. At most two blocks are in memory."""

_OF_MEMORY = 32
"""A block takes at most this fraction (1/32) of a child's memory limit, because libraries alone need most of a small limit."""


def write(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Write the sources into ``target/cube.zarr`` and return ``digests, warnings, sources``. Without a target, give the objects.

    ``request`` contains the fields of ``WriteRequest`` as JSON values: ``target, window, variables, attributes, chunks, append_dim,
    group``, and optionally ``normalise, transforms, skip_bad, on_overlap``.

    Several machines can share the work. With ``divide_above``, a number of bytes, a larger cube is only planned: the metadata and
    the arrays in memory are written, and the answer has ``arrays``; ``blocks`` of chunks to write; ``runs`` of the arrays that
    :func:`write_runs` can write; ``totals``, how many values to write of each array; and ``left_out``, what :func:`verify` need not
    look at. With ``boxes``, only these chunks are
    written, without metadata, and the answer has ``chunks``. The sources must be verified.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=THREADS))
        storage = request.get("storage", "copy")
        origins = references.Origins()
        boxes = request.get("boxes")
        hashed = context.sources if storage == "copy" and boxes is None else ()
        identities = [pool.submit(identity, each.name, each.fd) for each in hashed]
        try:
            found = prepare(request, open_all(request, context, stack, origins.note))
        except SourceRejected as refusal:
            raise _with_positions(refusal, request, context) from None
        whole, raw, warnings = found.whole, found.raw, found.warnings
        pointing = _Pointing(storage, origins, context, (request["group"] or "").strip("/"), request["chunks"])

        def look() -> None:
            # What is pointed at is not decoded by HDF5 but for a sample, and by the second child exactly as it will be read.
            elsewhere = from_elsewhere(request.get("normalise", ()))
            for each in context.sources:
                if elsewhere is not None and each.name == elsewhere.file:
                    continue  # of a grid file only the positions are read, which were looked at before
                skipped = found.left_out | pointing.names
                format_of(each).verify(each, context.limits, pool, group=(request["group"] or "").strip("/"), left_out=skipped)

        target = None if request["target"] is None else Path(request["target"])
        made = InMemory() if target is None else InFolder(target / CUBE)
        writer = _Writer(made, pool, context, warnings, whole.name)
        if (base := request.get("base")) is not None:
            held = parent_of(base, context)
            existing = held.source()
            load_labels(existing, most=AXIS_BYTES)
            _check_sums(existing, found, request, base["on_overlap"])
            new = replace(whole, raw=raw, warnings=())
            if request["variables"]:
                new = without_single_values(existing, new)
            steps = tolerance(request.get("normalise", ()))
            # The values of steps that exist already were compared when the boxes were planned.
            updated, change = merge(
                existing,
                new,
                request["append_dim"],
                base["on_overlap"],
                steps,
                is_compared=boxes is not None,
                untransformed=whole.raw,
            )
            writer.warnings += updated.warnings
            grids = held.grids()
            pointing.plan(updated.raw, grids, change.dimension)
            lengths = _kept_lengths(grids, updated.raw, change.dimension, request["chunks"] or {})
            plan = _plan(updated.raw, lengths, pointing.found, grids, change)
        else:
            change = None
            pointing.plan(raw)
            plan = _plan(raw, layout.chunks(raw, request["chunks"]), pointing.found)
        if boxes is not None:
            own = [Box(name, tuple(start), tuple(stop)) for name, start, stop in boxes]
            return {"chunks": [_listed(each) for each in writer.chunks(plan, own)]}
        above: int | None = request.get("divide_above")
        digests: dict[str, str] = {}
        rest: dict[str, Any] = {}
        if above is not None and plan.size > above:
            blocks = [each for each in plan.blocks(min(writer.block_bytes, above)) if not plan.is_read(each.box.array)]
            rest = {
                "arrays": list(plan.grids),
                "blocks": [[*box, chunks, size] for box, chunks, size in blocks],
                "runs": plan.runs(origins) if change is None else {},
                "totals": {name: grid.size_of(plan.takes[name]) // grid.itemsize for name, grid in plan.grids.items()},
                "left_out": sorted(map(str, found.left_out)),
            }
            writer.metadata(plan)
            labels = {name: grid for name, grid in plan.grids.items() if plan.is_read(name)}
            digests = writer.values(replace(plan, grids=labels), of=plan.size)
        else:
            look()
            writer.metadata(plan)
            digests = writer.values(plan)
        if target is not None:
            put(target / references.REFERENCES, references.to_bytes(pointing.found))
        elif isinstance(made, InMemory):
            context.give(made.to_bytes())
        return {
            "change": None if change is None else asdict(change),
            "digests": digests,
            "warnings": [list(each) for each in dict.fromkeys([*writer.warnings, *pointing.warnings])],
            "sources": [each.result() for each in identities],
            **rest,
        }


def verify(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Check that the stored chunks of the sources decode to their declared lengths. ``request`` has ``group`` and ``left_out``."""
    skipped, declared = frozenset(request["left_out"]), 0
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for done, each in enumerate(context.sources):
            context.progress("checking", done, len(context.sources))
            declared += scan(each, context.limits).declared_bytes
            context.declare(declared)
            format_of(each).verify(each, context.limits, pool, group=(request["group"] or "").strip("/"), left_out=skipped)
    return {}


def write_runs(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Write ``boxes`` of arrays whose values are those of the sources, unchanged. Return ``chunks``.

    Only the sources that have these values are open, so this costs less than :func:`write` if there are many. ``request`` has
    ``target``; ``cube``, the folder with the metadata; ``group``, ``variables`` and ``normalise`` as for :func:`write`; and
    ``runs``: by array the axis, and start, length, source and name of each part.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=THREADS))
        wanted = () if request["normalise"] else request["variables"] or ()
        opened = []
        for each in context.sources:
            opened.append(_stored(each, context, request["group"], wanted))
            stack.callback(opened[-1].close)
        variables, grids = {}, {}
        for name, (axis, runs) in request["runs"].items():
            document = wire.decode((Path(request["cube"]) / name / keys.METADATA).read_bytes())
            grids[name], dims, attrs = zarrv3.parse_array(document)
            parts = [Part(start, opened[source].raw.variables[own], opened[source].name) for start, _, source, own in runs]
            lazily = indexing.LazilyIndexedArray(Parts(name, grids[name].shape, grids[name].dtype, axis, parts))
            variables[name] = xr.Variable(dims, lazily, attrs)
        plan = _Plan(dataset(variables, {}), grids, dict.fromkeys(grids, lambda _: True), {})
        writer = _Writer(InFolder(Path(request["target"]) / CUBE), pool, context, [], f"{len(opened)} files")
        boxes = [Box(name, tuple(start), tuple(stop)) for name, start, stop in request["boxes"]]
        return {"chunks": [_listed(each) for each in writer.chunks(plan, boxes)]}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The sources as one cube, checked, repaired and cut to the window. Nothing but labels was read."""

    whole: OpenedSource
    """The joined sources, before anything was left out."""
    uncut: xr.Dataset
    """The cube before it was cut to the window."""
    raw: xr.Dataset
    warnings: list[tuple[str, str]]
    left_out: set[Any]
    """The variables of the sources that are not in the cube."""


def open_all(
    request: Mapping[str, Any], context: child.Context, stack: contextlib.ExitStack, note: Callable[[int, xr.Dataset], None]
) -> list[OpenedSource]:
    """Return all sources, scanned, opened, mended and normalised. They are open until *stack* closes.

    *note* is called with the number of each source and its dataset as it is stored.
    """
    wanted, steps = request["variables"], request.get("normalise", ())
    elsewhere = from_elsewhere(steps)
    grid = None if elsewhere is None or elsewhere.file is None else _grid_file(elsewhere, context, stack)
    # If not all files of a long series can stay open, they are opened again for each variable.
    kept = _open_files(len(context.sources))
    stack.enter_context(xr.set_options(file_cache_maxsize=kept))  # type: ignore[no-untyped-call]  # xarray has no types here
    opened = []
    for done, each in enumerate(context.sources):
        context.progress("checking", done, len(context.sources))
        if grid is not None and each.name == grid.name:
            continue
        source = _stored(each, context, request["group"], () if steps else wanted or ())
        stack.callback(source.close)
        note(done, source.raw)
        if elsewhere is not None:
            source = _placed(source, elsewhere, grid or _positions_of(elsewhere, each, context, stack))
        opened.append(_repaired(source, steps))
        load_labels(opened[-1])
    return opened


def _grid_file(step: Positions, context: child.Context, stack: contextlib.ExitStack) -> OpenedSource:
    """Return the grid file of *step*, which is one of the sources."""
    found = next((each for each in context.sources if each.name == step.file), None)
    if found is None or all(each.name == step.file for each in context.sources):
        what = f"{step.file!r} is not among the sources" if found is None else "there are no sources besides the grid file"
        raise Unfit(what, f"give {step.file} and the files with the data together").refusal("normalise (positions)")
    return _positions_of(step, found, context, stack)


def _positions_of(step: Positions, source: child.Input, context: child.Context, stack: contextlib.ExitStack) -> OpenedSource:
    """Return the group of a source that has the positions, after a look at their chunks: nothing else of it is read."""
    group = (step.group or "").strip("/")
    names = {step.longitude, step.latitude}
    found = _stored(source, context, group or None, sorted(names))
    stack.callback(found.close)
    names |= {str(found.raw.variables[name].attrs.get("bounds")) for name in names & found.raw.variables.keys()}
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        format_of(source).verify(source, context.limits, pool, group=group, left_out=set(found.raw.variables) - names)
    return found


def _with_positions(refusal: SourceRejected, request: Mapping[str, Any], context: child.Context) -> SourceRejected:
    """Return a refusal. That of data without coordinates has the step that takes them from another group, if one has them."""
    own = (request["group"] or "").strip("/")
    if refusal.members.get("lacks") != "coordinates" or not own or from_elsewhere(request.get("normalise", ())) is not None:
        return refusal
    source = context.sources[0]
    for group in format_of(source).contents(source.path):
        longitude, latitude = (_named(group, test) for test in (is_longitude, is_latitude))
        if group.path != own and len(longitude) == len(latitude) == 1:
            step = {"positions": {"longitude": longitude[0], "latitude": latitude[0], "group": group.path}}
            return repairable(refusal.message, reason=refusal.reason, repair=step)
    return refusal


def _named(group: Group, test: Callable[[str, Any], bool]) -> list[str]:
    """Return the variables with numbers that pass a *test* of their name and attributes."""
    numbers = {name: each for name, each in group.variables.items() if re.fullmatch(r"(u?int|float)\d+", each["dtype"])}
    described = {name: SimpleNamespace(dtype=np.dtype(each["dtype"]), attrs=each["attributes"]) for name, each in numbers.items()}
    return [name for name, each in described.items() if test(name, each)]


def _placed(source: OpenedSource, step: Positions, grid: OpenedSource) -> OpenedSource:
    """Return *source* with the positions of *grid*."""
    where = grid.name if step.group is None else f"the group {step.group!r}" + (f" of {grid.name}" if step.file else "")
    try:
        raw, warnings = placed(source.raw, step, grid.raw, where)
    except Unfit as error:
        raise error.refusal("normalise (positions)") from None
    return replace(source, raw=raw, warnings=(*source.warnings, *warnings))


def prepare(request: Mapping[str, Any], opened: Sequence[OpenedSource]) -> Prepared:
    """Return the *opened* sources as the cube that *request* asks for."""
    steps = request.get("normalise", ())
    functions = {name: imported(reference) for name, reference in request.get("functions", {}).items()}
    whole = join(
        opened,
        request["append_dim"],
        tolerance=tolerance(steps),
        on_overlap=request.get("on_overlap", "error"),
        skip_bad=request.get("skip_bad", False),
    )
    raw = _selected(whole.raw, request["variables"])
    raw.attrs.update(request["attributes"])
    with decoding("coordinates"):  # they are read here
        raw, warnings = _checked(raw, skip_bad=request.get("skip_bad", False))
    left_out = (set(whole.raw.variables) - set(raw.variables)) | dropped_by(steps)
    uncut = transform(raw, request.get("transforms", ()), functions)
    query = SourceWindow(**request["window"])
    raw = _windowed(uncut, query)
    warnings += window.not_asked(uncut, query)
    return Prepared(whole, uncut, raw, [*whole.warnings, *warnings], left_out)


def _check_sums(parent: OpenedSource, new: Prepared, request: Mapping[str, Any], on_overlap: str) -> None:
    """Refuse an update whose first step is a sum since a start that nobody knows, because the step before is not in the source.

    Raises
    ------
    SourceRejected
        With the two ways to say what the first step is.
    """
    for name, dimension in unknown_starts(request.get("transforms", ())):
        if dimension not in parent.raw.sizes or dimension not in new.raw.sizes or dimension not in new.raw.variables:
            continue
        held = labels_of(parent, dimension)
        first, whole = (labels_of(replace(new.whole, raw=raw), dimension)[0] for raw in (new.raw, new.uncut))
        if first != whole or first < held[0] or (on_overlap == "skip" and first in held):
            continue
        says = f"if the sum begins with this file: {_begun(request['transforms'], name)}"
        raise SourceRejected(
            f"{new.whole.name}: {name!r} is a sum since a start before {first}, the first step, and the step before is not here",
            reason="bad-time",
            source=new.whole.name,
            next_step=f"bring the file before too, with --on-overlap skip; or, {says}",
        )


def _begun(steps: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return the flags of all *steps*, in which the sum of a variable begins with the source."""
    usual = Deaccumulate().model_dump()
    found = []
    for step in steps:
        if name in (sums := step.get("deaccumulate", {})):
            rules = {**sums, name: {**sums[name], "first": "sum"}}
            shown = {key: {part: value for part, value in rule.items() if value != usual[part]} for key, rule in rules.items()}
            found.append({"deaccumulate": shown})
        else:
            found.append(dict(step))
    return " ".join(flag(step, "--transform") for step in found)


@dataclass
class _Pointing:
    """Finds the chunks that need not be copied, as far as it was asked to."""

    storage: str
    origins: references.Origins
    context: child.Context
    group: str
    chunks: Mapping[str, int] | None
    found: dict[str, references.References] = field(default_factory=dict)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    _asked: dict[int, Mapping[str, Stored | str]] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """What the sources call the variables that are pointed at."""
        return frozenset(name for each in self.found.values() for name in each.names)

    def plan(self, raw: xr.Dataset, held: Mapping[str, Grid] | None = None, along: str | None = None) -> None:
        """Look at every variable. Raises SourceRejected (``not-virtual``) where that was asked for and cannot be."""
        if self.storage == "copy":
            return
        names = {str(name) for name in raw.variables}

        def ask(source: int, name: str) -> Stored | str:
            if source not in self._asked:
                wanted = self.origins.names(source)
                self._asked[source] = stored(self.context.sources[source], group=self.group, variables=wanted)
            return self._asked[source][name]

        self.found, problems = references.plan(
            raw, find(raw).roles, self.origins, ask, [each.name for each in self.context.sources], held=held, axis_name=along
        )
        if self.chunks is not None:
            lengths = layout.chunks(raw, self.chunks)
            odd = [name for name, each in self.found.items() if tuple(lengths[name]) != each.grid.chunks]
            words = "has other chunks than were asked for (layout.chunks): what is pointed at keeps those of its source"
            problems += [Problem(("layout", name), "not-virtual", f"{name!r} {words}") for name in odd]
            self.found = {name: each for name, each in self.found.items() if name not in odd}
        if self.storage == "virtual":
            references.refuse(problems)
        self.warnings += [("copied", f"{each.message}; it is copied") for each in problems]
        if not self.found and not problems and names:
            self.warnings.append(("copied", "no variable is large enough to be pointed at: everything is copied"))


def _open_files(sources: int) -> int:
    """Return how many files can stay open in addition to the descriptors of the sources and of libraries."""
    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - sources - 64)


def _repaired(source: OpenedSource, steps: Sequence[Mapping[str, Any]]) -> OpenedSource:
    """Return *source* mended and normalised by *steps*."""
    raw, mended = mend(source.raw)
    raw, dated = counted_in_days(normalise(raw, steps, file=source.name))
    return replace(source, raw=raw, warnings=(*source.warnings, *mended, *dated))


def _stored(source: child.Input, context: child.Context, group: str | None, wanted: Sequence[str]) -> OpenedSource:
    """Scan the source, and open it by the format of its content, as it is stored."""
    found = scan(source, context.limits)
    prefix = f"{group.strip('/')}/" if group else ""
    skipped = [path.removeprefix(prefix) for path in found.skipped if path.startswith(prefix)]
    opened = format_of(source).open(source, group=group, wanted=wanted, skipped=skipped)
    return replace(opened, warnings=(*found.warnings, *opened.warnings))


def _checked(raw: xr.Dataset, *, skip_bad: bool) -> tuple[xr.Dataset, list[tuple[str, str]]]:
    """Return *raw* after checking it against the rules, and warnings. With *skip_bad*, variables that break them are removed.

    Raises
    ------
    SourceRejected
        With all problems, and with the flag that skips parts if it would help.
    """
    skipped: list[tuple[str, str]] = []
    while True:
        try:
            return raw, [*skipped, *checks.check(raw)]
        except SourceRejected as refusal:
            parts = checks.droppable(raw, refusal)
            if not parts:
                raise
            if not skip_bad:
                flag = f"leave out {', '.join(map(repr, parts))[:200]} with --skip-bad"
                step = f"{refusal.next_step}; or {flag}" if refusal.next_step else flag
                raise SourceRejected(refusal.message, next_step=step, errors=refusal.errors, **refusal.members) from None
            skipped += [("variable-skipped", f"{name!r} is skipped: {why}") for name, why in parts.items()]
            raw = dropped(raw, parts)


def _selected(raw: xr.Dataset, wanted: Sequence[str] | None) -> xr.Dataset:
    """Return the wanted variables with all variables that they refer to, or everything if *wanted* is empty."""
    held = {str(name): variable for name, variable in raw.variables.items()}
    if wanted is not None:
        missing = [name for name in wanted if name not in held]
        if missing:
            raise VariablesMismatch(
                f"the source has no variable {', '.join(map(repr, missing))}",
                next_step=f"choose from {', '.join(sorted(held))[:500]}",
            )
        roles = roles_of(raw)
        kept = companions(
            wanted,
            names=list(held),
            attributes=lambda name: held[name].attrs,
            dimensions=lambda name: text_dims(held[name]),
            roles=roles,
            vertical={name for name, each in held.items() if text_dims(each) == (name,) and kind_of(name, each) == "z"},
        )
        held = {name: variable for name, variable in held.items() if name in kept}
    return dataset(held, raw.attrs)


def _windowed(raw: xr.Dataset, query: SourceWindow) -> xr.Dataset:
    indexers = {dim: index for dim, index in window.window_indexers(raw, query).items() if dim in raw.sizes}
    if all(isinstance(each, slice) and each.indices(raw.sizes[dim]) == (0, raw.sizes[dim], 1) for dim, each in indexers.items()):
        return raw  # the arrays themselves, which can be pointed at
    cut = raw.isel(indexers)
    empty = [str(dim) for dim, size in cut.sizes.items() if size == 0]
    if empty:
        raise NoData(f"the source has no data for the request: nothing is left along {', '.join(empty)}")
    return cut


_GROWN = 4
"""A cube that started with a few steps has small chunks. If they could be this many times larger, the whole cube is written
again."""


def _kept_lengths(
    held: Mapping[str, Grid], raw: xr.Dataset, dimension: str, chosen: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Return the chunk lengths of an updated cube: those of its parent, so that chunks can be shared.

    Coordinates stay one chunk. Chunks that became much too small grow, unless somebody chose their lengths. Those that somebody
    chose grow up to what was *chosen*, by dimension, if the parent has fewer steps than that.
    """
    ideal, roles = layout.chunks(raw, chosen), find(raw).roles
    kept = {}
    for name, lengths in ideal.items():
        own = held[name].chunks
        dims = raw.variables[name].dims
        if held[name].form is not None:
            kept[name] = own  # those of the source that others lie in
        elif roles[name] != "data":
            kept[name] = lengths if lengths == tuple(max(size, 1) for size in raw.variables[name].shape) else own
        elif not chosen.keys().isdisjoint(map(str, dims)):
            fixed = [at for at, each in enumerate(dims) if str(each) in chosen]
            kept[name] = own if all(own[at] == lengths[at] for at in fixed) else lengths
        elif dimension in dims and _GROWN * math.prod(own) <= math.prod(lengths):
            short = layout.chunks(raw.isel({dimension: slice(0, own[dims.index(dimension)])}))
            kept[name] = lengths if short[name] == own else own
        else:
            kept[name] = own
    return kept


@dataclass
class _Progress:
    """Counts decoded bytes, and passes the fail point ``bytes:half`` once."""

    context: child.Context
    total: int
    done: int = 0
    told: int = 0
    halved: bool = False

    def add(self, size: int) -> None:
        self.done += size
        if self.done >= self.told + self.total // 100:
            self.told = self.done
            self.context.progress("writing", min(self.done, self.total), self.total)
        if not self.halved and 2 * self.done >= self.total:
            self.halved = True
            self.context.fail_point("bytes:half")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to write: the cube, the grid of each array, and which of its chunks."""

    raw: xr.Dataset
    grids: Mapping[str, Grid]
    takes: Mapping[str, Callable[[tuple[int, ...]], bool]]
    pointing: Mapping[str, references.References]

    @property
    def size(self) -> int:
        """The decoded size of the chunks in bytes."""
        return sum(grid.size_of(self.takes[name]) for name, grid in self.grids.items())

    def is_read(self, name: str) -> bool:
        """Return whether the values are in memory, as those of labels are."""
        return in_memory(self.raw.variables[name])

    def runs(self, origins: references.Origins) -> dict[str, Any]:
        """Return the parts of the arrays whose values are those of the sources, unchanged: axis, and the parts along it."""
        found = {}
        for name in self.grids:
            along, runs = origins.runs(self.raw.variables[name])
            axis = along or 0
            known = [[run.start, run.shape[axis], run.source, run.name] for run in runs if run.source is not None and run.shape]
            if len(known) == len(runs):
                found[name] = [axis, self.grids[name].chunks[axis], known]
        return found

    def elsewhere(self, name: str) -> Collection[tuple[int, ...]]:
        """Return the chunks of an array that are in a source."""
        return self.pointing[name].places.keys() if name in self.pointing else ()

    def reads(self, name: str, budget: int) -> Iterator[list[tuple[int, ...]]]:
        """Yield the chunks to write, about *budget* decoded bytes at a time."""
        for _, every in self._blocks(name, budget):
            if indices := [index for index in every if self.takes[name](index)]:
                yield indices

    def blocks(self, budget: int) -> Iterator[Block]:
        """Yield the same as boxes, for all arrays."""
        for name, grid in self.grids.items():
            for _, every in self._blocks(name, budget):
                taken = [index for index in every if self.takes[name](index)]
                box = Box(name, every[0], tuple(each + 1 for each in every[-1]))
                yield Block(box, len(taken), math.prod(grid.chunks) * grid.itemsize * len(taken))

    def _blocks(self, name: str, budget: int) -> Iterator[tuple[zarrv3.Region, list[tuple[int, ...]]]]:
        variable = self.raw.variables[name]
        own = variable.encoding.get("chunksizes") or variable.encoding.get("chunks")
        return zarrv3.blocks(self.grids[name], own, budget)


def _plan(
    raw: xr.Dataset,
    lengths: Mapping[str, tuple[int, ...]],
    pointing: Mapping[str, references.References],
    parent: Mapping[str, Grid] | None = None,
    change: StepsChange | None = None,
) -> _Plan:
    """Return the plan to write everything, or with a *parent* only the chunks of the *change*."""
    grids = {
        str(key): pointing[str(key)].grid if str(key) in pointing else _grid(str(key), variable, lengths[str(key)], parent)
        for key, variable in raw.variables.items()
    }
    takes = {name: _taken(name, grid, raw.variables[name].dims, parent, change, pointing.get(name)) for name, grid in grids.items()}
    return _Plan(raw, grids, takes, pointing)


def _grid(name: str, variable: xr.Variable, lengths: tuple[int, ...], parent: Mapping[str, Grid] | None) -> Grid:
    dtype = native(variable.dtype)
    held = None if parent is None else parent.get(name)
    if held is not None and held.form is not None and held.dtype == dtype:
        return replace(held, shape=variable.shape)  # its other chunks are a source's, or may be
    return Grid(variable.shape, lengths, dtype, attributes.fill_of(variable.attrs, dtype))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk that is stored: the digest of its values, and the length of its object, if it has one."""

    digest: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class _Flying:
    """A chunk that was read but is not yet stored."""

    found: dict[tuple[int, ...], _Chunk]
    index: tuple[int, ...]
    size: int
    chunk: Future[_Chunk]


@dataclass
class _Writer:
    """Writes variables chunk by chunk. The calling thread reads; the pool hashes, compresses and stores."""

    made: InFolder | InMemory
    pool: ThreadPoolExecutor
    context: child.Context
    warnings: list[tuple[str, str]]
    source: str
    """The name of the source, for error messages."""
    _flying: deque[_Flying] = field(default_factory=deque)
    _bytes: int = 0
    _progress: _Progress = field(init=False)

    @property
    def block_bytes(self) -> int:
        """How many decoded bytes are read at a time."""
        return min(_BLOCK_BYTES, self.context.limits.memory_bytes // _OF_MEMORY)

    def metadata(self, plan: _Plan) -> None:
        """Write the metadata of the group and of all arrays."""
        for name, grid in plan.grids.items():
            variable = plan.raw.variables[name]
            held = attributes.encode(variable.attrs, grid.dtype, name, self.warnings)
            document = zarrv3.array_document(grid, tuple(map(str, variable.dims)), held)
            self.made.put(f"{name}/{keys.METADATA}", zarrv3.to_bytes(document))
        held = attributes.encode(plan.raw.attrs, None, "global", self.warnings)
        self.made.put(keys.METADATA, zarrv3.to_bytes(zarrv3.group_document(held)))

    def values(self, plan: _Plan, *, of: int | None = None) -> dict[str, str]:
        """Write all chunks of *plan*, which is all or a part *of* so many bytes. Return the digests of the arrays.

        Of the chunks that are in a source, a sample is hashed and none is written.
        """
        self._begin(of or plan.size)
        found = {name: self._values(plan, name, plan.reads(name, self.block_bytes)) for name in plan.grids}
        self._land(0)
        return {name: zarrv3.digest_of([chunks[index].digest for index in sorted(chunks)]) for name, chunks in found.items()}

    def chunks(self, plan: _Plan, boxes: Sequence[Box]) -> list[Made]:
        """Write those chunks of *plan* that are in *boxes*. Return each."""
        takes = [(box, [index for index in box.indices() if plan.takes[box.array](index)]) for box in boxes]
        self._begin(sum(math.prod(plan.grids[box.array].chunks) * plan.grids[box.array].itemsize * len(own) for box, own in takes))
        found = [(box.array, self._values(plan, box.array, [own])) for box, own in takes if own]
        self._land(0)
        return [Made(name, index, each.digest.hex(), each.size) for name, made in found for index, each in sorted(made.items())]

    def _begin(self, size: int) -> None:
        self._progress = _Progress(self.context, size)
        self.context.declare(size)
        if isinstance(self.made, InMemory):
            self.context.limits.check("kept_bytes", size, "what a kept child decodes")

    def _values(self, plan: _Plan, name: str, reads: Iterable[list[tuple[int, ...]]]) -> dict[tuple[int, ...], _Chunk]:
        """Read the chunks of *reads*, a list at a time, and pass them to the pool. Return what receives their digests."""
        found: dict[tuple[int, ...], _Chunk] = {}
        grid, variable, lie_elsewhere = plan.grids[name], plan.raw.variables[name], plan.elsewhere(name)
        for indices in reads:
            sampled = [index for index in indices if index in lie_elsewhere]
            written = [index for index in indices if index not in lie_elsewhere] if sampled else indices
            # Those of a sample are far apart: what is between them is not read.
            for together in [written] * bool(written) + [[index] for index in sampled]:
                region = grid.around(together)
                self._land(self.block_bytes)
                with decoding(name, self.source):
                    values = np.asarray(variable[region].values, dtype=grid.dtype)
                for index in together:
                    part = values[zarrv3.inside(grid.region(index), region)]
                    self._bytes += part.size * grid.itemsize
                    if index in lie_elsewhere:
                        future = self.pool.submit(_hashed, grid, part)
                    else:
                        future = self.pool.submit(self._chunk, name, grid, index, part)
                    self._flying.append(_Flying(found, index, part.size * grid.itemsize, future))
        return found

    def _land(self, limit: int) -> None:
        """Wait until at most *limit* bytes are not yet stored."""
        while self._bytes > limit or (self._flying and limit == 0):
            first = self._flying.popleft()
            first.found[first.index] = first.chunk.result()
            self._bytes -= first.size
            self._progress.add(first.size)

    def _chunk(self, name: str, grid: Grid, index: tuple[int, ...], values: zarrv3.Values) -> _Chunk:
        digest, stored = grid.encode(values)
        if stored is not None:
            self.made.put(keys.chunk(name, index), stored)
        return _Chunk(digest, None if stored is None else len(stored))


def _hashed(grid: Grid, values: zarrv3.Values) -> _Chunk:
    return _Chunk(grid.digest(values), None)


def _listed(made: Made) -> list[Any]:
    return [made.array, list(made.index), made.digest, made.size]


def _taken(
    name: str,
    grid: Grid,
    dims: tuple[Any, ...],
    parent: Mapping[str, Grid] | None,
    change: StepsChange | None,
    pointing: references.References | None,
) -> Callable[[tuple[int, ...]], bool]:
    """Return which chunks to read: all except those that come from the parent, and most of those that are in a source."""
    if pointing is not None:
        own = _taken(name, grid, dims, parent, change, None)
        return lambda index: own(index) and (index not in pointing.places or references.is_sampled(grid, index))
    if parent is None or change is None:
        return lambda _: True
    axis = dims.index(change.dimension) if change.dimension in dims else None
    places = shared(name, parent, grid, axis, change)
    return lambda index: not is_shared(index, places, axis)
