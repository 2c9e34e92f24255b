"""Plans of queries: a query resolved against one version, with its cost from metadata and a refusal if it is over a limit.

A plan is made once, without reading any values. The estimate, the headers of the answer and the encoder all use it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from cubeport.cubes import reprojected, sampled
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.download import NAMES, resolve_download
from cubeport.cubes.edr.geometry import has_times
from cubeport.cubes.edr.queries import query_named, query_of, resolve_query, settle
from cubeport.cubes.edr.query import Place
from cubeport.cubes.forms import FORMS, Encoder, Form
from cubeport.cubes.part import Deadline, Opened, OpenedCube, Part
from cubeport.cubes.resolve import axis_named, resolve
from cubeport.cubes.sampled import Sampled
from cubeport.cubes.selection import Scale, Selection, parse_datetime, stamp_at
from cubeport.cubes.tables.request import years_in
from cubeport.cubes.windows import Cost, IndexRange, Window, Windows, count, fitting, runs_of, storage_crs, time_axis, touched
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotAcceptable, Problem, TooLarge
from cubeport.service.ports import Encoders

if TYPE_CHECKING:
    from cubeport.cubes.tables.request import Departure

MIB = 1 << 20
_OF_VALUES = ("covjson", "csv")
"""The forms that can have values that are not stored."""
_CHUNKS = "limits.chunks"
_SETTLED_AT_ONCE = 1 << 16
"""While planning, up to this many cells of a box are compared with the region. Larger boxes first wait for a place."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The limits of one answer. A refusal names its setting."""

    json_cells: int = 1_000_000
    csv_cells: int = 1_000_000
    binary_cells: int = 64_000_000
    download_cells: int = 64_000_000
    answer_bytes: int = 256 * MIB
    chunks: int = 10_000
    seconds: float = 30.0
    heavy: int = field(default_factory=lambda: os.cpu_count() or 1)
    """How many heavy answers are made at the same time."""
    wait_s: float = 2.0
    """How long a heavy answer waits for a place before it is refused with 503, in seconds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that a plan exceeds."""

    setting: str
    limit: int
    value: int
    unit: str


@dataclass(frozen=True, slots=True)
class CubeQuery:
    """A query of one dataset: a coverage, an EDR query (with a place) or a download, in one form."""

    selection: Selection
    form: Form
    place: Place | None = None
    download: bool = False
    width: int = 720
    """The width of a plot, in pixels."""
    windows: tuple[Window, ...] = ()
    """The windows of the dimensions, if the caller has resolved them; the selection then has the names alone (griddap)."""

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters in canonical form."""
        if self.place is not None:
            return query_of(self.place, self.selection)
        names = NAMES if self.download else {}
        return [(names.get(name, name), value) for name, value in self.selection.query()]

    def href(self, public_url: str, name: str) -> str:
        """Return the URL of this query for the dataset *name*."""
        if self.download:
            base = f"{public_url}/datasets/{name}/download"
        else:
            base = f"{public_url}/ogcapi/collections/{name}/{self.place.kind if self.place else 'coverage'}"
        pairs = self.parameters()
        return f"{base}?{urlencode(pairs)}" if pairs else base


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A query resolved against one version: its part of the cube, its cost, and the limit that it exceeds, if any."""

    shown: PublishedView
    query: CubeQuery
    part: Part
    encoder: Encoder
    refusal: Refusal | None
    settled: bool = True
    """Whether the part is final. For a large region it is the box, until :func:`settled` hides the cells outside the region."""

    @property
    def description(self) -> CubeDescription:
        return self.part.description

    @property
    def form(self) -> Form:
        return self.query.form

    @property
    def name(self) -> str:
        """The name of the version: ``{dataset_id}@{version_id}``."""
        return f"{self.shown.texts.dataset_id}@{self.shown.version.version_id}"


def plan(
    shown: PublishedView, query: CubeQuery, opened: OpenedCube, encoder: Encoder, limits: AnswerLimits, *, public_url: str
) -> QueryPlan:
    """Return the plan of *query*, refused or not.

    Raises
    ------
    InvalidRequest, NotFound
        If the query names something that the cube does not have, or is outside the data.
    NotAcceptable
        If the form cannot represent what is asked for.
    """
    description, labels = opened.description, opened.labels()
    kind = None if query.place is None else query_named(query.place.kind)
    crs = query.selection.crs
    warped = crs in reprojected.OFFERED and crs != storage_crs(description) and not query.download
    chunks: int | None = None
    source: Opened = opened
    if crs is not None and warped and (query.place is None or query.place.kind == "cube"):
        windows = resolve(description, labels, replace(query.selection, crs=None, scale=None))
        chunks = count(description, windows).chunks
        source, windows = reprojected.view(opened, windows, query.selection, crs, even=query.form.name == "geotiff")
        description = source.description
    elif query.windows:
        windows = Windows(query.selection.properties or (), {each.dimension: each for each in query.windows})
    elif query.place is None:
        windows = (resolve_download if query.download else resolve)(description, labels, query.selection)
    else:
        windows = resolve_query(description, labels, query.selection, query.place)
    seen: Sampled | None = None
    if windows.points is not None:
        seen, windows = sampled.view(opened, windows)
        source, description = seen, seen.description
    cost: Cost | None = None
    read = windows
    if query.place is not None and (departing := _departing(shown, source, windows, query.place, query.form)) is not None:
        source, read = departing
        cost = count(description, read)
    everything = query.download and query.form.stored and query.selection.properties is None
    if everything:
        windows = _with_everything(description, windows)
    if seen is not None:
        chunks = seen.touched(read)
    elif chunks is None and windows.mask is not None:
        chunks = touched(description, read)
    cost = cost or count(description, windows)
    part = Part(
        source,
        windows,
        cost if chunks is None else replace(cost, chunks=chunks),
        public_url,
        point=kind is not None and kind.at_points,
        as_stored=query.download,
        width=query.width,
        everything=everything,
    )
    encoder.check(part)
    unsettled = kind is not None and kind.settle is not None
    refusal = refusal_of(query, part, encoder, limits)
    if unsettled and refusal is not None and refusal.setting == _CHUNKS:
        refusal = None  # the region can be in few of the chunks of its box
    made = QueryPlan(shown, query, part, encoder, refusal, settled=not unsettled)
    return settled(made, limits, _at_once) if unsettled and part.cost.cells <= _SETTLED_AT_ONCE else made


def _departing(shown: PublishedView, opened: Opened, windows: Windows, place: Place, form: Form) -> tuple[Opened, Windows] | None:
    """Return the version as departures from normal and what is read for it, if the query asks for them."""
    years, how = place.value("relative-to"), place.value("departure")
    if years is None:
        if how is not None:
            words = "departure needs relative-to, the years of the normal"
            raise InvalidRequest(f"{words}.", errors=[Problem(("query", "departure"), "missing", words)])
        return None
    from cubeport.cubes.tables.departing import departing

    if form.name not in _OF_VALUES:
        raise NotAcceptable(
            f"{form.title} has values as they are stored, and departures from normal are not stored.",
            next_step=f"Request f={' or f='.join(_OF_VALUES)}.",
        )
    temporal = shown.description.temporal
    period_type = None if temporal is None else shown.texts.period_type or temporal.period_type
    return departing(opened, windows, years_in(years), cast("Departure", how or "absolute"), period_type)


def settled(plan: QueryPlan, limits: AnswerLimits, deadline: Deadline) -> QueryPlan:
    """Return the plan with the cells outside the region hidden, refused or not. Plans of other queries are returned unchanged."""
    if plan.settled or plan.query.place is None:
        return plan
    part = plan.part
    windows = settle(plan.description, part.opened.labels(), part.windows, plan.query.selection, plan.query.place, deadline)
    cost = replace(count(plan.description, windows), chunks=touched(plan.description, windows))
    final = replace(part, windows=windows, cost=cost)
    return replace(plan, part=final, refusal=refusal_of(plan.query, final, plan.encoder, limits), settled=True)


def _at_once() -> None:
    """The deadline for work that is known to be short: none."""


def refusal_of(query: CubeQuery, part: Part, encoder: Encoder, limits: AnswerLimits) -> Refusal | None:
    """Return the first limit that the part exceeds, or ``None``."""
    setting = "download_cells" if query.download and query.form.stored else query.form.limit
    checks = (
        Refusal(f"limits.{setting}", getattr(limits, setting), encoder.counted(part), "cells"),
        Refusal("limits.answer_bytes", limits.answer_bytes, part.cost.bytes, "bytes"),
        Refusal(_CHUNKS, limits.chunks, part.cost.chunks, "chunks"),
    )
    return next((each for each in checks if each.value > each.limit), None)


def check(plan: QueryPlan, encoders: Encoders, limits: AnswerLimits) -> None:
    """Raise TooLarge with alternatives if the plan exceeds a limit."""
    over = plan.refusal
    if over is not None:
        raise TooLarge(
            f"The answer would have {over.value:,} {over.unit}; the limit is {over.limit:,}.",
            limit=over.limit,
            value=over.value,
            unit=over.unit,
            setting=over.setting,
            alternatives=alternatives(plan, encoders, limits),
        )


def alternatives(plan: QueryPlan, encoders: Encoders, limits: AnswerLimits) -> list[dict[str, str]]:
    """Return smaller queries that would be accepted: less time, fewer cells, another form, the Zarr store, an estimate."""
    name, public_url = plan.shown.dataset_name if plan.query.download else plan.shown.coverage_name, plan.part.public_url

    def told(title: str, query: CubeQuery) -> dict[str, str]:
        return {"title": title, "href": query.href(public_url, name)}

    found = [told("The longest time from the start that fits", each) for each in _shorter(plan, limits)]
    found += [told("All of it with fewer cells", each) for each in _coarser(plan, limits)]
    for form in FORMS:
        if form.stored and form is not plan.form and (form.download or not plan.query.download):
            other = replace(plan.query, form=form, selection=replace(plan.query.selection, form=form.name))
            if refusal_of(other, plan.part, encoders.of(form), limits) is None:
                found.append(told(f"The same as {form.title}", other))
    found.append({"title": "All of it as Zarr", "href": f"{public_url}/zarr/{plan.name}"})
    estimate = replace(plan.query, selection=replace(plan.query.selection, estimate=True))
    return [*found, told("The cost", estimate)]


def _shorter(plan: QueryPlan, limits: AnswerLimits) -> Iterator[CubeQuery]:
    """Yield the query with as many of the first time steps as all limits allow, if there is one."""
    axis, over, part, place = time_axis(plan.description), plan.refusal, plan.part, plan.query.place
    if over is None or axis is None or axis.scalar or (place is not None and has_times(place.value("coords") or "")):
        return
    budget = int(part.cost.cells * over.limit / over.value)
    while budget > 0:
        windows = fitting(plan.description, part.windows, cells=budget)
        if windows is None:
            return
        shorter = replace(part, windows=windows, cost=count(plan.description, windows))
        if refusal_of(plan.query, shorter, plan.encoder, limits) is None:
            labels = part.opened.labels().values[axis.name][windows.along[axis.dimension].indices()]
            first, last = (str(stamp_at(int(each))) for each in (labels.min(), labels.max()))
            others = tuple(each for each in plan.query.selection.subsets if axis_named(plan.description, each.axis) is not axis)
            time = parse_datetime(first if first == last else f"{first}/{last}")
            yield replace(plan.query, selection=replace(plan.query.selection, subsets=others, datetime=time))
            return
        budget = budget * 3 // 4


def _coarser(plan: QueryPlan, limits: AnswerLimits) -> Iterator[CubeQuery]:
    """Yield the query with the smallest ``scale-factor`` that all limits allow, for coverages with x and y."""
    over, query, part = plan.refusal, plan.query, plan.part
    if over is None or query.download or query.place is not None or query.selection.scale is not None:
        return
    axes = [plan.description.axis_of(kind) for kind in ("x", "y")]
    windows = [part.windows.along.get(axis.dimension) for axis in axes if axis is not None and not axis.scalar]
    plain = [window for window in windows if window is not None and not window.sliced]
    if len(plain) < 2:
        return
    factor = math.ceil(math.sqrt(over.value / over.limit))
    while factor <= max(window.size for window in plain):
        along = {
            window.dimension: Window(window.dimension, _every(window, max(1, round(window.size / factor)))) for window in plain
        }
        coarse = replace(part.windows, along={**part.windows.along, **along}, mask=None)
        if refusal_of(query, replace(part, windows=coarse, cost=count(plan.description, coarse)), plan.encoder, limits) is None:
            yield replace(query, selection=replace(query.selection, scale=Scale("scale-factor", (("", float(factor)),))))
            return
        factor *= 2


def _every(window: Window, size: int) -> tuple[IndexRange, ...]:
    """Return *size* indices of the window, evenly spread, as ranges, because the number of chunks depends on their positions."""
    import numpy as np

    indices = window.indices()
    taken = indices[((2 * np.arange(size) + 1) * len(indices)) // (2 * size)]
    return runs_of(taken)


def _with_everything(description: CubeDescription, windows: Windows) -> Windows:
    """Return the windows with all data variables, including those on other axes than the fields."""
    data = tuple(variable.name for variable in description.variables if variable.role in ("data", "auxiliary"))
    along = dict(windows.along)
    for name in data:
        variable = description.variable(name)
        for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
            along.setdefault(dimension, Window(dimension, (IndexRange(0, size),)))
    kept = tuple(
        name for name in data if all(windows.along[d].size for d in description.variable(name).dimensions if d in windows.along)
    )
    return replace(windows, fields=kept, along=along)
