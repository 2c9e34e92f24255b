"""Pictures of datasets: select a slice, find its cells, and draw them. Selections are those of coverages; only the window is
read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cubeport.cubes.bounded import Bounded
from cubeport.cubes.description import Axis, BoundingBox, CubeDescription
from cubeport.cubes.outside import no_data
from cubeport.cubes.overviews import fitting
from cubeport.cubes.part import Opened, OpenedCube
from cubeport.cubes.pictures.looks import Look, look_of, palettes
from cubeport.cubes.pictures.places import CRS84, Canvas, Seen, locate, middle
from cubeport.cubes.pictures.png import png
from cubeport.cubes.resolve import axis_named, resolve, run_times
from cubeport.cubes.selection import Selection, Slice, Trim, order
from cubeport.cubes.spread import ends
from cubeport.cubes.windows import UNKNOWN, IndexRange, Window, Windows, count, time_axis
from cubeport.documents.texts import PublishedView
from cubeport.documents.titles import titled
from cubeport.documents.webmaps import Dimension
from cubeport.errors import Corrupt, InvalidRequest, NotFound, Problem, TooLarge
from cubeport.service.ports import Versions
from cubeport.service.queries import AnswerDeadline

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

MOST_PIXELS = 4 * 1024 * 1024
MOST_SIDE = 4096
MOST_CHUNKS = 1024
"""The largest number of chunks that one picture may read."""
_PLACES_BYTES = 64 * 1024 * 1024
"""The memory for cached pixel positions, in bytes. The next step of a series needs the same positions."""
_KEPT = 1024
"""How many slices and looks are kept. The next tile of a map has the same."""
_SECONDS = 30.0
_LEVEL_SLICES, _LEVEL_CHUNKS, _LEVEL_CELLS = 8, 64, 1 << 22
"""The largest numbers of slices, chunks and cells that are read for the range of the colours of a level."""
RUN = "reference_time"
"""The name of the start of forecasts as a dimension of maps, as meteorological services have it (OGC 12-111r1)."""


@dataclass(frozen=True, slots=True)
class PictureQuery:
    """A query for a picture."""

    canvas: Canvas
    selection: Selection = field(default_factory=Selection)
    """``datetime``, ``subsets`` and at most one of ``properties``. Each selects one slice."""
    range: tuple[float, float] | str | None = None
    """The lowest and highest value of the palette. ``view`` uses those of the visible values, ``level`` those of the level at all
    times.
    """
    palette: str | None = None
    steps: int | None = None
    hide_beyond: bool | None = None
    logarithmic: bool | None = None
    background: tuple[int, int, int] | None = None
    """Red, green and blue of pixels without data; ``None`` leaves them transparent."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and the description of what it shows."""

    content: bytes
    look: Look
    field: str
    slices: Mapping[str, str]
    """The label that was drawn, by axis."""
    overview: int = 0
    """The level that was drawn; 0 is the cube."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a picture shows of a field besides its cells."""

    chosen: Mapping[str, int]
    """The index along each dimension except those of the map."""
    labels: Mapping[str, str]
    wished: Windows | None
    """The selection, if it may be of some of the cells: points of a trajectory at one time, some of the stations."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An axis of a field that is not an axis of the map: its possible labels, and the selected one."""

    name: str
    kind: str
    """``time``, ``z`` or ``other``."""
    title: str
    labels: tuple[str, ...]
    chosen: int


class Pictures:
    """Draws pictures. A process has one."""

    def __init__(self, versions: Versions, *, most_chunks: int = MOST_CHUNKS, most_pixels: int = MOST_PIXELS) -> None:
        self._versions = versions
        self._most_pixels = most_pixels
        self._most_chunks = most_chunks
        self._located: Bounded[tuple[str, str, str | None, Canvas, int], Seen] = Bounded(_PLACES_BYTES)
        self._slices: Bounded[tuple[Any, ...], _Slice] = Bounded(_KEPT)
        self._looks: Bounded[tuple[Any, ...], Look] = Bounded(_KEPT)
        self._levels: Bounded[tuple[Any, ...], Look] = Bounded(_KEPT)
        self._middles: Bounded[tuple[Any, ...], tuple[float, float]] = Bounded(_KEPT)

    def draw(self, shown: PublishedView, query: PictureQuery, *, left: threading.Event | None = None) -> Picture:
        """Return the picture. A box without data gives an empty picture, as maps require.

        Raises
        ------
        InvalidRequest
            If the dataset or the service does not have the field, axis, label, palette or reference system.
        TooLarge
            If it would read too many chunks.
        NotFound
            If the dataset has no horizontal position.
        """
        import numpy as np

        self._check(query.canvas)
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        name = self._field(shown, query.selection)
        seen = self._seen(
            shown, opened, query.canvas, opened.description.overview_levels if _has_overviews(opened.description, name) else 0
        )
        cut = self._slice(shown, opened, name, seen.dimensions, query.selection)
        source: Opened = opened.coarser(seen.level) if seen.level else opened
        deadline = AnswerDeadline(_SECONDS, left)
        values = self._values(source, name, seen.dimensions, seen.window, cut, deadline) if seen.window else None
        look = self._look(shown, name, query, values)
        pixels = np.zeros(seen.shape, "uint8") if values is None else _classes(look, values, seen)
        colours = look.colours()
        opacity = np.full(len(colours), 255, "uint8")
        if query.background is None:
            opacity[0] = 0
        else:
            colours = np.concatenate([np.array([query.background], "uint8"), colours[1:]])
        return Picture(png(pixels, colours, opacity), look, name, cut.labels, seen.level)

    def estimate(self, shown: PublishedView, query: PictureQuery) -> dict[str, Any]:
        """Return what a picture would cost. No values are read. Raises as :meth:`draw`, except TooLarge for chunks."""
        self._check(query.canvas)
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        name = self._field(shown, query.selection)
        self._look(shown, name, replace(query, range=None) if query.range == "level" else query, None)
        levels = opened.description.overview_levels if _has_overviews(opened.description, name) else 0
        seen = self._seen(shown, opened, query.canvas, levels)
        cut = self._slice(shown, opened, name, seen.dimensions, query.selection)
        cells = chunks = 0
        if seen.window:
            source: Opened = opened.coarser(seen.level) if seen.level else opened
            cost = count(source.description, _windows(source, name, seen.dimensions, seen.window, cut))
            cells, chunks = cost.cells, cost.chunks
        allowed = chunks <= self._most_chunks
        return {
            "pixels": query.canvas.width * query.canvas.height,
            "cells": cells,
            "chunks": chunks,
            "overview": seen.level,
            "format": "png",
            "allowed": allowed,
            "limit": None if allowed else {"setting": "limits.map_chunks", "limit": self._most_chunks},
        }

    def value(self, shown: PublishedView, query: PictureQuery, column: int, row: int) -> tuple[float | int | None, dict[str, str]]:
        """Return the value at a pixel of the picture, or ``None`` if there is none, and the drawn label of each other axis.

        Raises as :meth:`draw`.
        """
        canvas = query.canvas
        self._check(canvas)
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        name = self._field(shown, query.selection)
        if not shown.description.cell_dimensions:
            # Axes have edges of their own, so one pixel needs no others. Cells located by positions are as they are drawn.
            x, y = canvas.centres()
            wide, high = (canvas.bbox[2] - canvas.bbox[0]) / canvas.width / 2, (canvas.bbox[3] - canvas.bbox[1]) / canvas.height / 2
            canvas = Canvas((x[column] - wide, y[row] - high, x[column] + wide, y[row] + high), 1, 1, canvas.crs)
            row = column = 0
        seen = self._seen(shown, opened, canvas, 0)
        cut = self._slice(shown, opened, name, seen.dimensions, query.selection)
        cell = seen.cell(row, column)
        if cell is None:
            return None, dict(cut.labels)
        window = tuple(IndexRange(each, each + 1) for each in cell)
        found = self._values(opened, name, seen.dimensions, window, cut, AnswerDeadline(_SECONDS)).ravel()[0].item()
        return (None if found != found else found), dict(cut.labels)

    def dimensions(self, shown: PublishedView, field: str, *, most: int = 0) -> list[Dimension]:
        """Return the axes of a field that are not axes of the map, each with its labels and its default.

        Forecasts that have a time for each run and step have the dimensions ``time``, with the times of all runs, and
        ``reference_time``; without a run, a map shows the newest forecast of a time.

        Parameters
        ----------
        most
            The largest number of labels to list. Even times are also given as an interval; of longer uneven axes, the first labels
            are listed.

        Raises
        ------
        NotFound
            When the dataset has no horizontal position.
        """
        if shown.description.spatial.family == "none":
            raise no_map()
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        description: CubeDescription = shown.description
        across = description.cell_dimensions or tuple(
            description.axis(str(each)).dimension for each in (description.spatial.y, description.spatial.x)
        )
        time, temporal = time_axis(description), description.temporal
        chosen = _slices(opened, field, across, Selection())
        found = []
        within = _times_within(opened, across)
        if within is not None and set(within) <= set(chosen):
            found.append(_valid_times(opened, within, chosen, most))
        for dimension, place in chosen.items():
            axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
            if axis is None or opened.shape(field)[opened.dimensions(field).index(dimension)] == 0:
                continue
            labels = _labels(opened, dimension, range(min(axis.size, most)))
            step = temporal.counted_step if temporal is not None and axis is time and axis.size > 1 else None
            extent = f"{temporal.start}/{temporal.end}/{step}" if temporal is not None and step is not None else None
            # Of two vertical axes, one can be the elevation.
            kind = "time" if axis is time else "elevation" if axis is description.axis_of("z") else axis.name
            if kind == axis.name and kind.lower() in ("time", "elevation") and axis is not time:
                kind = f"axis_{axis.name}"  # such names are for dates and for heights (06-042, annex C); these labels are neither
            if is_run := run_times(description, axis, opened.labels()) is not None:
                kind = RUN
            dated = kind == "time" or is_run
            units, symbol = ("ISO8601", None) if dated else (axis.units or "", axis.units)
            default = _labels(opened, dimension, (place,))[0]
            listed = within is None or dimension not in within or is_run
            numbers = opened.labels().values.get(axis.name)
            nearest = not dated and numbers is not None and numbers.dtype.kind in "iuf"
            found.append(Dimension(kind, axis.name, units, symbol, labels, default, extent, listed, nearest))
        return found

    def look(self, shown: PublishedView, selection: Selection | None = None) -> tuple[str, Look]:
        """Return the field to draw and its look. Raises InvalidRequest, NotFound."""
        field = self._field(shown, selection or Selection())
        return field, self._look(shown, field, PictureQuery(Canvas((0, 0, 1, 1), 1, 1)), None)

    def look_of(self, shown: PublishedView, query: PictureQuery) -> Look:
        """Return the look that a query asks for, whatever its canvas. Raises InvalidRequest, NotFound."""
        return self._look(shown, self._field(shown, query.selection), query, None)

    def choices(self, shown: PublishedView, selection: Selection) -> tuple[Choice, ...]:
        """Return the axes of the field except those of the map, with all their labels. Raises InvalidRequest, NotFound."""
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        field = self._field(shown, selection)
        description = opened.description
        x, y = description.axis_of("x"), description.axis_of("y")
        across = description.cell_dimensions or tuple(axis.dimension for axis in (y, x) if axis is not None and not axis.scalar)
        chosen = _slices(opened, field, across, selection)
        return tuple(
            _choice(opened, dimension, place, size)
            for dimension, size in zip(opened.dimensions(field), opened.shape(field), strict=True)
            if (place := chosen.get(dimension)) is not None and size > 1
        )

    def middle(self, shown: PublishedView) -> tuple[float, float] | None:
        """Return longitude and latitude of a cell in the middle of the data, if the middle of their box can be outside every cell:
        in a projection, with positions, and with bounds, which can leave gaps. ``None`` for other grids in degrees.
        """
        description: CubeDescription = shown.description
        spatial = description.spatial
        if spatial.family == "none" or spatial.bbox is None:
            return None
        if spatial.family == "rectilinear" and not any(description.axis(str(each)).bounds for each in (spatial.x, spatial.y)):
            return None
        key = shown.texts.dataset_id, shown.version.version_id, shown.grid
        found = self._middles.get(key)
        if found is None:
            opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, description)
            found = middle(description, opened.labels())
            self._middles.put(key, found)
        return found

    def _check(self, canvas: Canvas) -> None:
        side, pixels = max(canvas.width, canvas.height), canvas.width * canvas.height
        if side > MOST_SIDE:
            raise TooLarge(
                f"The picture would be {canvas.width} × {canvas.height} pixels.",
                limit=MOST_SIDE,
                value=side,
                unit="pixels on a side",
                next_step="Leave out width and height, or set both of them.",
            )
        if pixels > self._most_pixels:
            raise TooLarge(
                f"The picture would have {pixels:,} pixels.",
                setting="limits.map_pixels",
                limit=self._most_pixels,
                value=pixels,
                unit="pixels",
                next_step="Request fewer pixels.",
            )

    def _field(self, shown: PublishedView, selection: Selection) -> str:
        description: CubeDescription = shown.description
        if description.spatial.family == "none":
            raise no_map()
        named = selection.properties or description.fields[:1]
        if len(named) != 1 or named[0] not in description.fields:
            why = f"name one of {', '.join(description.fields[:20])}"
            raise InvalidRequest(
                f"properties: {why}", errors=[Problem(("query", "properties"), "unknown-field", f"properties: {why}")]
            )
        return named[0]

    def _seen(self, shown: PublishedView, opened: Opened, canvas: Canvas, overviews: int) -> Seen:
        key = shown.texts.dataset_id, shown.version.version_id, shown.grid, canvas, overviews
        seen = self._located.get(key)
        if seen is None:
            try:
                places = locate(shown.description, opened.labels(), canvas)
            except ValueError as exc:
                raise InvalidRequest(f"crs: {exc}", errors=[Problem(("query", "crs"), "unknown-crs", str(exc))]) from exc
            seen = places.seen(fitting(places.index, overviews) if overviews else 0)
            self._located.put(key, seen, seen.nbytes)
        return seen

    def _slice(self, shown: PublishedView, opened: Opened, field: str, across: tuple[str, ...], selection: Selection) -> _Slice:
        """Return what to draw of a field besides the cells. Without a time, it depends on the clock, so it is not kept."""
        key = shown.texts.dataset_id, shown.version.version_id, shown.grid, field, across, selection.datetime, selection.subsets
        found = self._slices.get(key)
        if found is None:
            chosen = _slices(opened, field, across, selection)
            labels = {each: _labels(opened, each, (place,))[0] for each, place in chosen.items()}
            wished = _wished(opened, field, selection) if opened.description.cell_dimensions else None
            if wished is not None and not _of_some_cells(wished, across, opened, field):
                wished = None
            found = _Slice(chosen, labels, wished)
            if selection.datetime is not None and (wished is None or wished.mask is None):
                self._slices.put(key, found)
        return found

    def _values(
        self,
        opened: Opened,
        field: str,
        cells: tuple[str, ...],
        window: tuple[IndexRange, ...],
        cut: _Slice,
        deadline: AnswerDeadline,
    ) -> Array:
        """Return the values of a window of the cells, by the dimensions of the cells."""
        dimensions = opened.dimensions(field)
        windows = _windows(opened, field, cells, window, cut)
        cost = count(opened.description, windows)
        if cost.chunks > self._most_chunks:
            raise TooLarge(
                f"The picture would read {cost.chunks} chunks.",
                setting="limits.map_chunks",
                limit=self._most_chunks,
                value=cost.chunks,
                unit="chunks",
                next_step="Request a smaller box.",
            )
        raw = opened.raw(field, windows.along, deadline=deadline)
        values = opened.decode(field, raw)
        # The place of data at one place is no dimension of theirs.
        order_of = [dimensions.index(each) for each in (*cut.chosen, *cells) if each in dimensions]
        values = values.transpose(order_of).reshape([part.stop - part.start for part in window])
        return values if cut.wished is None else _of_time(values, window, cut.wished, cells, cut.chosen)

    def _own_look(self, shown: PublishedView, field: str) -> Look:
        key = shown.texts.dataset_id, shown.version.version_id, shown.record_id, shown.record_version, field
        look = self._looks.get(key)
        if look is None:
            try:
                look = look_of(shown.description.variable(field), shown.texts.render)
            except ValueError:
                look = Look("viridis", 0.0, 1.0, empty=True)  # all values are missing, so nothing will be visible
            self._looks.put(key, look)
        return look

    def _level_look(self, shown: PublishedView, field: str, selection: Selection) -> Look:
        """Return the look of a field at the selected level, the same at all times: its range is that of slices of all of them.

        Of fields without levels, and of levels without values or with slices that are too large to read, it is the field's own.
        """
        own, z = self._own_look(shown, field), shown.description.axis_of("z")
        if z is None or own.flags or own.empty or z.dimension in shown.description.cell_dimensions:
            return own
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        x, y = shown.description.axis_of("x"), shown.description.axis_of("y")
        across = shown.description.cell_dimensions or tuple(each.dimension for each in (y, x) if each is not None)
        chosen = _slices(opened, field, across, selection)
        if z.dimension not in chosen or opened.shape(field)[opened.dimensions(field).index(z.dimension)] < 2:
            return own
        key = shown.texts.dataset_id, shown.version.version_id, shown.record_id, shown.record_version, field, chosen[z.dimension]
        look = self._levels.get(key)
        if look is None:
            found = _range_of_level(opened, field, z.dimension, chosen)
            look = own if found is None else look_of(shown.description.variable(field), shown.texts.render, within=found)
            self._levels.put(key, look)
        return look

    def _look(self, shown: PublishedView, field: str, query: PictureQuery, values: Array | None) -> Look:
        look = self._level_look(shown, field, query.selection) if query.range == "level" else self._own_look(shown, field)
        changes: dict[str, Any] = {}
        if query.palette is not None:
            if query.palette not in palettes():
                why = f"name one of {', '.join(palettes())}"
                raise InvalidRequest(f"palette: {why}", errors=[Problem(("query", "palette"), "unknown-palette", why)])
            changes["palette"] = query.palette
        if query.range == "view" and values is not None and not look.flags:
            import numpy as np

            known = values[np.isfinite(values.astype("float64", copy=False))]
            if known.size and known.min() < known.max():
                changes |= {"low": float(known.min()), "high": float(known.max())}
        elif isinstance(query.range, tuple):
            changes |= {"low": query.range[0], "high": query.range[1], "empty": False}
        for name in ("steps", "hide_beyond", "logarithmic"):
            if getattr(query, name) is not None:
                changes[name] = getattr(query, name)
        look = replace(look, **changes) if changes else look
        if look.logarithmic and look.low <= 0:
            why = "a logarithmic scale needs a range above 0"
            raise InvalidRequest(f"scale: {why}", errors=[Problem(("query", "scale"), "out-of-range", why)])
        return look


def _windows(opened: Opened, field: str, cells: tuple[str, ...], window: tuple[IndexRange, ...], cut: _Slice) -> Windows:
    """Return the windows of what a picture reads of a field."""
    along = {name: Window(name, (IndexRange(place, place + 1),)) for name, place in cut.chosen.items()}
    along |= {name: Window(name, (part,)) for name, part in zip(cells, window, strict=True)}
    return Windows((field,), {each: along[each] for each in opened.dimensions(field)})


def _range_of_level(opened: OpenedCube, field: str, z: str, chosen: Mapping[str, int]) -> tuple[float, float] | None:
    """Return the range to draw of a level, from some of its slices, evenly spread along all other axes at once.

    A damaged slice is left out, so that the maps of the others can be drawn. ``None`` if nothing can be read.
    """
    import numpy as np

    levels = opened.description.overview_levels if _has_overviews(opened.description, field) else 0
    source: Opened = opened.coarser(levels) if levels else opened
    names = source.dimensions(field)
    sizes = dict(zip(names, source.shape(field), strict=True))
    free = [each for each in chosen if each != z]

    def windows(of: int, at: int) -> Windows:
        part = {each: (2 * at + 1) * sizes[each] // (2 * of) for each in free} | {z: chosen[z]}
        along = {each: IndexRange(part[each], part[each] + 1) if each in part else IndexRange(0, sizes[each]) for each in names}
        return Windows((field,), {each: Window(each, (window,)) for each, window in along.items()})

    cost = count(source.description, windows(1, 0))
    longest = max((sizes[each] for each in free), default=1)
    most = min(_LEVEL_SLICES, longest, _LEVEL_CHUNKS // max(1, cost.chunks), _LEVEL_CELLS // max(1, cost.cells))
    taken, deadline = [], AnswerDeadline(_SECONDS)
    for at in range(most):
        try:
            raw = source.raw(field, windows(most, at).along, deadline=deadline)
            values = source.decode(field, raw).astype("float64", copy=False)
        except Corrupt:
            continue
        taken.append(values[np.isfinite(values)])
    low, high, _ = ends(taken)
    return None if low is None or high is None else (low, high)


def _has_overviews(description: CubeDescription, field: str) -> bool:
    return any(name == field for name, _ in description.overviews)


def world(description: CubeDescription, width: int) -> Canvas:
    """Return a canvas in CRS84 for the box of a dataset, with *width* pixels on its longer side, and true proportions on the
    ground.

    Raises
    ------
    NotFound
        If the dataset has no place.
    """
    import math

    if description.spatial.bbox is None:
        raise no_map()
    west, south, east, north = framed(description.spatial.bbox)
    east += 360 if east < west else 0
    ratio = (north - south) / ((east - west) * max(0.1, math.cos(math.radians((north + south) / 2))))
    if ratio > 1:
        return Canvas((west, south, east, north), max(1, round(width / ratio)), width, CRS84)
    return Canvas((west, south, east, north), width, max(1, round(width * ratio)), CRS84)


def framed(box: BoundingBox) -> BoundingBox:
    """Return the box in which a map shows data: their own, or half a degree more where a row, a column or a place has no extent."""
    west, south, east, north = box
    if abs(east - west) >= 1e-9 and north - south >= 1e-9:
        return box
    return max(-180.0, west - 0.5), max(-90.0, south - 0.5), min(180.0, east + 0.5), min(90.0, north + 0.5)


def no_map() -> NotFound:
    """Return the error for a map of data without a horizontal position."""
    return NotFound("This dataset has no horizontal position, so there is no map of it.", what="map")


def _slices(opened: Opened, field: str, across: Sequence[str], selection: Selection) -> dict[str, int]:
    """Return the index to draw along each dimension except those of the map, in the order of the store.

    The default is the last time that is not in the future (otherwise the first time), and the first label of every other axis. Of
    several times in a period, it is the first. Where times are not an axis, it is the newest forecast of the time.
    """
    description = opened.description
    _check_subsets(description, across, selection)
    wished = _wished(opened, field, selection)
    if selection.datetime is None and (within := _times_within(opened, across)) is not None:
        chosen = _latest(opened, wished, within)
    else:
        chosen = {} if wished is None else _dated(opened, wished, across)
    time = time_axis(description)
    for dimension, size in zip(opened.dimensions(field), opened.shape(field), strict=True):
        if dimension in across or dimension in chosen:
            continue
        taken = wished.along[dimension] if wished is not None and dimension in wished.along else None
        of_period = time is not None and time.dimension == dimension and selection.datetime is not None
        if taken is not None and (taken.size < size or of_period):
            chosen[dimension] = int(taken.indices()[0])
        elif time is not None and time.dimension == dimension:
            chosen[dimension] = _newest(opened, time)
        else:
            chosen[dimension] = 0
    return chosen


def _check_subsets(description: CubeDescription, across: Sequence[str], selection: Selection) -> None:
    """Refuse what a map would leave out silently: more labels than the one that it shows, and a part of its own axes."""
    problems = []
    for subset in selection.subsets:
        axis = axis_named(description, subset.axis)
        if axis is None:
            continue  # it is refused where it is resolved
        several = isinstance(subset.part, Trim) or (isinstance(subset.part, Slice) and len(subset.part.values) > 1)
        if axis.dimension in across and not description.cell_dimensions and not axis.scalar:
            problems.append(
                Problem(("query", "subset"), "clash", f"{axis.name} is an axis of the map: choose a part of it with bbox")
            )
        elif several and axis.dimension not in across:
            words = f"{axis.name} must have one value, because a map shows one slice"
            problems.append(Problem(("query", "subset"), "malformed", words))
    if problems:
        raise InvalidRequest(f"subset: {problems[0].message}", errors=problems)


def _wished(opened: Opened, field: str, selection: Selection) -> Windows | None:
    """Return what the selection has of a field, ``None`` if it wishes no time and no labels."""
    asked = Selection(datetime=selection.datetime, subsets=selection.subsets, properties=(field,))
    return resolve(opened.description, opened.labels(), asked) if asked.datetime is not None or asked.subsets else None


def _of_some_cells(wished: Windows, cells: Sequence[str], opened: Opened, field: str) -> bool:
    """Return whether a selection can leave out cells of the map: points at other times, other stations."""
    if wished.mask is not None and set(wished.mask.dimensions) & set(cells):
        return True
    sizes = dict(zip(opened.dimensions(field), opened.shape(field), strict=True))
    return any(each in wished.along and wished.along[each].size < sizes.get(each, 0) for each in cells)


def _of_time(
    values: Array, window: tuple[IndexRange, ...], wished: Windows, cells: tuple[str, ...], chosen: Mapping[str, int]
) -> Array:
    """Return the values without those of cells that are not wished: points of a trajectory at other times, other stations."""
    import numpy as np

    if not set(cells) <= set(wished.along):
        return values
    # The indices of the wished cells in *values*.
    index = [wished.along[each].indices() - part.start for each, part in zip(cells, window, strict=True)]
    kept = [(each >= 0) & (each < size) for each, size in zip(index, values.shape, strict=True)]
    timed = wished.mask is not None and bool(set(wished.mask.dimensions) & set(cells))
    if not timed and all(int(each.sum()) == size for each, size in zip(kept, values.shape, strict=True)):
        return values
    known: Array = np.ones(tuple(len(each) for each in index), "bool")
    if timed and wished.mask is not None:
        places = {each: int(np.searchsorted(wished.along[each].indices(), at)) for each, at in chosen.items()}
        mask = wished.mask.at({each: at for each, at in places.items() if each in wished.mask.dimensions})
        known = known & mask.aligned(cells)
    inside = np.zeros(values.shape, "bool")
    inside[np.ix_(*(each[keep] for each, keep in zip(index, kept, strict=True)))] = known[np.ix_(*kept)]
    return np.where(inside, values, np.nan)


def _dated(opened: Opened, wished: Windows, across: Sequence[str]) -> dict[str, int]:
    """Return the run and the step, for example, of the first of the wished times; of several runs, the newest."""
    import numpy as np

    mask, temporal = wished.mask, opened.description.temporal
    if mask is None or temporal is None or not (free := [each for each in mask.dimensions if each not in across]):
        return {}
    cells = tuple(at for at, each in enumerate(mask.dimensions) if each in across)
    places = np.argwhere(mask.inside.any(axis=cells) if cells else mask.inside)
    if not len(places):
        raise no_data(opened.description)
    found = {each: wished.along[each].indices()[places[:, at]] for at, each in enumerate(free)}
    keys: list[Array] = [-found[each.dimension] for each in opened.description.axes if each.dimension in found and _is_run(each)]
    if set(temporal.dimensions) <= set(found):
        times = opened.labels().values[temporal.axis][tuple(found[each] for each in temporal.dimensions)]
        keys.append(times)  # the last key of lexsort counts most
    first = int(np.lexsort(keys)[0]) if keys else 0
    return {each: int(indices[first]) for each, indices in found.items()}


def _times_within(opened: Opened, across: Sequence[str]) -> tuple[str, ...] | None:
    """Return the dimensions of times that are not an axis, if none of them is a dimension of the map: runs and steps."""
    temporal = opened.description.temporal
    if temporal is None or not temporal.dimensions or set(temporal.dimensions) & set(across):
        return None
    return temporal.dimensions


def _latest(opened: Opened, wished: Windows | None, within: Sequence[str]) -> dict[str, int]:
    """Return the run and the step of the last time that is not in the future, otherwise of the first; of runs, the newest."""
    import numpy as np

    temporal = opened.description.temporal
    assert temporal is not None
    times = opened.labels().values[temporal.axis]
    along = [
        wished.along[each].indices() if wished is not None and each in wished.along else np.arange(size)
        for each, size in zip(within, times.shape, strict=True)
    ]
    some = times[np.ix_(*along)]
    places = np.argwhere(some != UNKNOWN)
    if not len(places):
        return {}
    labels = some[tuple(places.T)]
    past = labels <= _now()
    apart = -labels if past.any() else labels
    starts = {each.dimension for each in opened.description.axes if _is_run(each)}
    run = next((at for at, each in enumerate(within) if each in starts), 0)
    kept = np.flatnonzero(past) if past.any() else np.arange(len(labels))
    first = kept[np.lexsort((-places[kept, run], apart[kept]))[0]]
    return {each: int(indices[at]) for each, indices, at in zip(within, along, places[first], strict=True)}


def _valid_times(opened: Opened, within: Sequence[str], chosen: Mapping[str, int], most: int) -> Dimension:
    """Return the dimension of the times of all runs and steps."""
    import numpy as np

    from cubeport.cubes.selection import stamp_at

    temporal = opened.description.temporal
    assert temporal is not None
    times = opened.labels().values[temporal.axis]
    labels = np.unique(times[times != UNKNOWN])[:most]
    default = int(times[tuple(chosen[each] for each in within)])
    shown = "" if default == UNKNOWN else str(stamp_at(default))
    return Dimension("time", temporal.axis, "ISO8601", None, tuple(str(stamp_at(int(each))) for each in labels), shown)


def _is_run(axis: Axis) -> bool:
    return axis.standard_name == "forecast_reference_time"


def moment(description: CubeDescription) -> str | None:
    """Return what a picture without a time depends on besides its version: the minute, as long as some step is in the future."""
    from cubeport.cubes.calendars import canonical, parse_stamp

    temporal = description.temporal
    if temporal is None or order(parse_stamp(temporal.end, canonical(temporal.calendar) or "standard")) <= (now := _now()):
        return None
    return str(now // 60_000_000)


def _newest(opened: Opened, time: Axis) -> int:
    import numpy as np

    labels = np.atleast_1d(opened.labels().values[time.name])
    past = np.nonzero(labels <= _now())[0]
    return int(past[-1]) if past.size else 0


def _now() -> int:
    from cubeport.cubes.calendars import parse_stamp

    return order(parse_stamp(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "standard"))


def _classes(look: Look, values: Array, seen: Seen) -> Array:
    """Return the palette index of each pixel."""
    height, width = seen.shape
    # Classes are made of the fewer: of the cells, or of the pixels.
    few = values.size <= height * width
    return seen.hide(seen.spread(look.classes(values)) if few else look.classes(seen.spread(values)))


def _choice(opened: Opened, dimension: str, place: int, size: int) -> Choice:
    axis = next((each for each in opened.description.axes if each.dimension == dimension and not each.scalar), None)
    labels = _labels(opened, dimension, range(size))
    if axis is None:
        return Choice(dimension, "other", dimension, labels, place)
    kind = "time" if time_axis(opened.description) is axis else "z" if axis.kind == "z" else "other"
    return Choice(axis.name, kind, titled(axis.long_name or axis.name, None if kind == "time" else axis.units), labels, place)


def _labels(opened: Opened, dimension: str, places: Iterable[int]) -> tuple[str, ...]:
    """Return the labels at some places along a dimension, as text; without an axis, the places themselves."""
    axis = next((each for each in opened.description.axes if each.dimension == dimension and not each.scalar), None)
    known = opened.labels().values
    if axis is None or axis.name not in known:
        return tuple(map(str, places))
    runs = run_times(opened.description, axis, opened.labels())
    values = known[axis.name] if runs is None else runs
    if runs is not None or time_axis(opened.description) is axis:
        from cubeport.cubes.selection import stamp_at

        return tuple(str(stamp_at(int(values[at]))) for at in places)
    return tuple(str(values[at]) for at in places)
