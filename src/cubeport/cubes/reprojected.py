"""A version in another reference system: each cell has the value of the stored cell that contains its centre.

No value is computed. The answer has about as many cells as the data in the same place, evenly spaced, with the northern row first.
Longitudes and latitudes requested as EPSG:4326 keep their own cells; only the order of the axes changes. So do cells whose rows and
columns are evenly spaced in the other system too, such as those of an equidistant cylindrical projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cubeport.cubes import crs as reference
from cubeport.cubes import footprint
from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, BoundingBox, CubeDescription, Spatial, Variable
from cubeport.cubes.edr.cells import horizontal
from cubeport.cubes.fills import missing_in, number_type, unused
from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.pictures.places import EARTH_M, Canvas, carried, locate
from cubeport.cubes.resolve import cells, resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import LATITUDE_FIRST, IndexRange, Labels, Mask, Window, Windows, native_system, turned_labels
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

CRS84, MERCATOR = "OGC:CRS84", reference.MERCATOR
OFFERED = (CRS84, LATITUDE_FIRST, MERCATOR)
"""The reference systems of answers, in addition to that of the store."""

_MAPPING = "crs"
_NOISE = 1e-9
"""How far from its longitude a projection may put a place, in degrees."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of the answer: their labels, and the index of the stored cell for each, −1 if there is none.

    If ``apart`` is true, rows and columns have separate indices, ``(h,)`` and ``(w,)``. Otherwise each index is ``(h, w)``.
    """

    x: Array
    y: Array
    dimensions: tuple[str, ...]
    index: tuple[Array, ...]
    apart: bool
    edges: tuple[tuple[float, float], tuple[float, float]]
    """The outer edges of the cells, sorted: of x, and of y. One row or column alone has its cell by them."""


def view(opened: Opened, windows: Windows, selection: Selection, crs: str, *, even: bool = False) -> tuple[Opened, Windows]:
    """Return the version in *crs*, one of :data:`OFFERED`, and its windows for the same part as *windows* of the store.

    Parameters
    ----------
    windows
        Resolved without ``crs`` and without scaling.
    selection
        Its ``bbox`` and scaling are used. The scaling applies to the cells of the answer.
    even
        Whether the form needs evenly spaced cells. Otherwise, longitudes and latitudes keep theirs.

    Raises
    ------
    InvalidRequest
        If the data have no horizontal coordinates, or the scaling asks for finer cells.
    NotFound
        If no part of the place is in the domain of the system.
    """
    description = opened.description
    if description.spatial.family == "none" or description.spatial.reach is not None or not horizontal(description):
        stays = "their places are in CRS84" if description.spatial.reach is not None else "they have none"
        words = f"crs: these data are not cells of a grid, so {stays}: leave crs out"
        raise InvalidRequest(words, errors=[Problem(("query", "crs"), "not-offered", words)])
    grid = _same(opened, windows) if description.spatial.family == "rectilinear" and crs != MERCATOR else None
    if grid is None:
        grid = _straight(opened, windows, selection, crs)
    if grid is None or (even and None in (_evenly(grid.x[None]), _evenly(grid.y[None]))):
        grid = _even(opened, windows, selection, crs)
    seen = _Reprojected(opened, windows, grid, crs)
    found = resolve(seen.description, seen.labels(), Selection(properties=windows.fields, scale=selection.scale))
    return seen, replace(found, along={**found.along, **{name: windows.along[name] for name in seen.others}})


def _same(opened: Opened, windows: Windows) -> Grid:
    """Return the cells of straight longitudes and latitudes unchanged."""
    description, labels = opened.description, opened.labels()
    x, y = (description.axis(str(name)) for name in (description.spatial.x, description.spatial.y))
    columns, rows = windows.along[x.dimension], windows.along[y.dimension]
    return Grid(
        turned_labels(labels.values[x.name], columns).astype("f8"),
        turned_labels(labels.values[y.name], rows).astype("f8"),
        (y.dimension, x.dimension),
        (rows.indices(), columns.indices()),
        apart=True,
        edges=(_edges(description, labels, x, windows), _edges(description, labels, y, windows)),
    )


def _straight(opened: Opened, windows: Windows, selection: Selection, crs: str) -> Grid | None:
    """Return the cells of a projected grid unchanged, or ``None`` if their rows and columns are not evenly spaced rows and columns
    in *crs* too.
    """
    import numpy as np

    description, labels = opened.description, opened.labels()
    if description.spatial.family != "projected":
        return None
    x, y = (description.axis(str(name)) for name in (description.spatial.x, description.spatial.y))
    onto, factor = native_system(description)
    west, _, east, _ = _box(description, labels, windows, selection)
    first = (west + east + (360.0 if east < west else 0.0)) / 2 - 180.0 - _NOISE

    def placed(across: Array, up: Array) -> tuple[Array, Array]:
        lon, lat = onto.transform(across * factor, up * factor, direction="INVERSE")
        return _from_degrees((np.asarray(lon) - first) % 360.0 + first, np.asarray(lat), crs)

    columns, rows = windows.along[x.dimension], windows.along[y.dimension]
    native = turned_labels(labels.values[x.name], columns).astype("f8"), turned_labels(labels.values[y.name], rows).astype("f8")
    few = [each[[0, each.size // 2, -1]] for each in native]
    with np.errstate(invalid="ignore"):
        found_x = _evenly(placed(*np.meshgrid(native[0], few[1]))[0])
        found_y = _evenly(placed(*np.meshgrid(few[0], native[1]))[1].T)
    if found_x is None or found_y is None:
        return None
    (at_x, order_x), (at_y, order_y) = found_x, found_y
    sides = [_edges(description, labels, axis, windows) for axis in (x, y)]
    edges = placed(np.array(sides[0]), few[1][[1, 1]])[0], placed(few[0][[1, 1]], np.array(sides[1]))[1]
    if any(each.size == 1 and not min(side) < each[0] < max(side) for each, side in zip((at_x, at_y), edges, strict=True)):
        return None
    across, up = ((float(min(side)), float(max(side))) for side in edges)
    index = rows.indices()[order_y][::-1], columns.indices()[order_x]
    return Grid(at_x, at_y[::-1], (y.dimension, x.dimension), index, apart=True, edges=(across, up))


def _from_degrees(lon: Array, lat: Array, crs: str) -> tuple[Array, Array]:
    import numpy as np

    if crs != MERCATOR:
        return lon, lat
    return np.radians(lon) * EARTH_M, np.arctanh(np.sin(np.radians(lat))) * EARTH_M


def _evenly(seen: Array) -> tuple[Array, Array] | None:
    """Return the positions along an axis, ascending, and their order, or ``None`` if they are not evenly spaced or differ between
    the lines of *seen*.
    """
    import numpy as np

    order = np.argsort(seen[0])
    ascending = seen[:, order]
    if not np.isfinite(ascending).all():
        return None
    positions: Array = ascending[0]
    step = (positions[-1] - positions[0]) / (positions.size - 1) if positions.size > 1 else 1.0
    even = np.round(positions[0] + step * np.arange(positions.size), 9)
    return (even, order) if step > 0 and np.abs(ascending - even).max() <= 1e-4 * step else None


def _even(opened: Opened, windows: Windows, selection: Selection, crs: str) -> Grid:
    """Return evenly spaced cells around the selected part, about as many as the data have there."""
    description, labels = opened.description, opened.labels()
    system = CRS84 if crs == LATITUDE_FIRST else crs
    west, south, east, north = _box(description, labels, windows, selection)
    try:
        box = carried((west, south, east + (360.0 if east < west else 0.0), north), CRS84, system)
    except ValueError:
        raise NotFound("There are no data for this request in that reference system.", what="data") from None
    dimensions = horizontal(description)
    count = math.prod(windows.along[each].size for each in dimensions)
    across, up = box[2] - box[0], box[3] - box[1]
    # One row or column without bounds has no width, so all cells are along the other axis.
    width = max(1, round(math.sqrt(count * across / up)) if across and up else count if across else 1)
    canvas = Canvas(box, width, max(1, round(count / width)) if up else 1, system)
    x, y = canvas.centres()
    places = locate(description, labels, canvas)
    edges = (box[0], box[2]), (box[1], box[3])
    return Grid(x, y, places.dimensions, _within(places.index, places.dimensions, windows), places.apart, edges)


def _box(description: CubeDescription, labels: Labels, windows: Windows, selection: Selection) -> BoundingBox:
    """Return the box of the selected part, cut to the requested box if there is one."""
    spatial = description.spatial
    asked = selection.bbox if selection.bbox_crs in (None, MERCATOR) else None
    half = len(asked or ()) // 2
    west_south = asked[:2] if asked else ()
    flat = (*west_south, asked[half], asked[half + 1]) if asked else None
    if flat is not None and selection.bbox_crs == MERCATOR:
        flat = (*reference.degrees_of_mercator(*flat[:2]), *reference.degrees_of_mercator(*flat[2:]))
    held: BoundingBox = spatial.bbox or (-180.0, -90.0, 180.0, 90.0)
    if spatial.family in ("rectilinear", "projected"):
        x, y = (description.axis(str(name)) for name in (spatial.x, spatial.y))
        edges = [_edges(description, labels, axis, windows) for axis in (x, y)]
        native = edges[0][0], edges[1][0], edges[0][1], edges[1][1]
        if spatial.family == "rectilinear":
            held = footprint.box(*native)
        else:
            system, factor = native_system(description)
            held = footprint.projected(system.target_crs, native, factor=factor, geostationary=None) or held
    if flat is None:
        return held
    whole_turn = flat[2] - flat[0] >= 360
    south, north = max(flat[1], held[1]), min(flat[3], held[3])
    west, east = (held[0], held[2]) if whole_turn else _common((flat[0], flat[2]), (held[0], held[2]))
    return (west, south, east, north) if south <= north else held


def _common(asked: tuple[float, float], held: tuple[float, float]) -> tuple[float, float]:
    """Return the longitudes that both have, in the turn of those that were asked for: a few cells must not be spread over a box
    that is mostly beside the data. If both meet twice, around the Earth, it is what was asked for.
    """
    west, east = held[0], held[1] + (360.0 if held[1] < held[0] else 0.0)
    width = asked[1] - asked[0] + (360.0 if asked[1] < asked[0] else 0.0)
    both = []
    for turn in (-720.0, -360.0, 0.0, 360.0, 720.0):
        low, high = max(asked[0] + turn, west), min(asked[0] + turn + width, east)
        if low <= high:
            both.append((low - turn, high - turn))
    return both[0] if len(both) == 1 else asked


def _edges(description: CubeDescription, labels: Labels, axis: Axis, windows: Windows) -> tuple[float, float]:
    found, window = cells(description, axis, labels), windows.along[axis.dimension]
    low = min(float(found.lower[run.start : run.stop].min()) + run.shift for run in window.runs)
    high = max(float(found.upper[run.start : run.stop].max()) + run.shift for run in window.runs)
    return low, high


def _within(index: tuple[Array, ...], dimensions: tuple[str, ...], windows: Windows) -> tuple[Array, ...]:
    """Return the indices, with −1 for cells outside the windows."""
    import numpy as np

    inside = [np.isin(each, windows.along[name].indices()) for each, name in zip(index, dimensions, strict=True)]
    if index[0].ndim == 2:
        every = np.logical_and.reduce(inside)
        inside = [every] * len(inside)
    found: tuple[Array, ...] = tuple(np.where(ok, each, -1) for ok, each in zip(inside, index, strict=True))
    return found


class _Reprojected:
    """The result of :func:`view`: an open version with other x and y."""

    def __init__(self, base: Opened, windows: Windows, grid: Grid, crs: str) -> None:
        self._base = base
        self._grid = grid
        self._crs = crs
        self._cells = set(grid.dimensions)
        self._fields = windows.fields
        self.others = [name for name in windows.along if name not in self._cells]
        same = base.description.spatial.family == "rectilinear" and crs != MERCATOR
        x, y = (str(base.description.spatial.x), str(base.description.spatial.y)) if same else ("lon", "lat")
        if crs == MERCATOR:
            x, y = "x", "y"
        kept = {each.name for each in base.description.variables if not self._cells & set(each.dimensions)}
        self._x, self._y = (f"{name}_" if name in kept else name for name in (x, y))
        self._mapping = f"{_MAPPING}_" if _MAPPING in kept - {self._old_mapping} else _MAPPING
        self._outside = any((each < 0).any() for each in grid.index)

    @property
    def _old_mapping(self) -> str | None:
        return self._base.description.variable(self._fields[0]).grid_mapping

    # --- description ---

    @cached_property
    def description(self) -> CubeDescription:
        base = self._base.description
        x, y = self._axis(self._x, self._grid.x, "x"), self._axis(self._y, self._grid.y, "y")
        fields = {name: self._field(base.variable(name)) for name in self._fields}
        kept = [
            each
            for each in base.variables
            if not self._cells & set(each.dimensions) and each.role != "grid_mapping" and each.role != "data"
        ]
        made = (*kept, self._coordinate(y), self._coordinate(x), *fields.values())
        axes = (*(axis for axis in base.axes if axis.dimension not in self._cells and axis.kind not in ("x", "y")), y, x)
        native = (min(x.lower or 0, x.upper or 0), min(y.lower or 0, y.upper or 0), x.upper or 0, y.upper or 0)
        degrees = self._crs != MERCATOR
        spatial = Spatial(
            family="rectilinear" if degrees else "projected",
            bbox=base.spatial.bbox,
            native_bbox=native,
            x=x.name,
            y=y.name,
            crs=self._system(),
        )
        return base.model_copy(update={"axes": axes, "variables": made, "fields": self._fields, "spatial": spatial, "grids": ()})

    def _system(self) -> Any:
        import pyproj

        if self._crs == CRS84:
            return reference.crs84()
        found = reference.describe(pyproj.CRS(self._crs), {})
        return found.model_copy(update={"authority": self._crs})

    def _axis(self, name: str, labels: Array, kind: Any) -> Axis:
        size = len(labels)
        step = float(labels[-1] - labels[0]) / (size - 1) if size > 1 else None
        alone = self._grid.edges[0 if kind == "x" else 1] if step is None else None
        half = abs(step or 0) / 2
        return Axis(
            name=name,
            dimension=name,
            kind=kind,
            size=size,
            units=self._coordinate_attributes(kind)["units"],
            standard_name=self._coordinate_attributes(kind)["standard_name"],
            regular=True,
            ascending=step is None or step > 0,
            first=float(labels[0]),
            last=float(labels[-1]),
            step=step,
            lower=alone[0] if alone else float(labels.min()) - half,
            upper=alone[1] if alone else float(labels.max()) + half,
        )

    def _coordinate_attributes(self, kind: str) -> dict[str, str]:
        if self._crs == MERCATOR:
            return {"standard_name": f"projection_{kind}_coordinate", "units": "m", "axis": kind.upper()}
        word, units = ("longitude", "degrees_east") if kind == "x" else ("latitude", "degrees_north")
        return {"standard_name": word, "units": units, "axis": kind.upper()}

    def _coordinate(self, axis: Axis) -> Variable:
        return Variable(
            name=axis.name,
            role="coordinate",
            dimensions=(axis.name,),
            shape=(axis.size,),
            chunks=(axis.size,),
            dtype="float64",
            decoded_dtype="float64",
            units=axis.units,
            standard_name=axis.standard_name,
        )

    def _field(self, variable: Variable) -> Variable:
        lengths = dict(zip(variable.dimensions, variable.shape, strict=True))
        chunks = dict(zip(variable.dimensions, variable.chunks, strict=True))
        dimensions = self._dimensions_of(variable.dimensions)
        own = {self._y: len(self._grid.y), self._x: len(self._grid.x)}
        decoded = variable.decoded_dtype
        filled = self._fill(variable.name) is not None
        return variable.model_copy(
            update={
                "dimensions": dimensions,
                "shape": tuple(own.get(each, lengths.get(each, 1)) for each in dimensions),
                "chunks": tuple(own.get(each, chunks.get(each, 1)) for each in dimensions),
                "grid_mapping": self._mapping,
                "dtype": "uint8" if variable.dtype == "bool" else variable.dtype,
                "decoded_dtype": "float64" if filled and decoded[:1] in "iub" else decoded,
            }
        )

    def _dimensions_of(self, dimensions: Iterable[str]) -> tuple[str, ...]:
        given = tuple(dimensions)
        if not self._cells <= set(given):
            return given
        return (*(each for each in given if each not in self._cells), self._y, self._x)

    # --- an open version ---

    def names(self) -> tuple[str, ...]:
        return (*(each.name for each in self.description.variables), self._mapping)

    def needed(self, fields: Iterable[str]) -> list[str]:
        known = set(self.names())
        asked = list(fields)
        base = [name for name in self._base.needed(asked) if name in known]
        wanted = {*base, *asked, self._x, self._y, self._mapping}
        return [name for name in self.names() if name in wanted]

    def dimensions(self, name: str) -> tuple[str, ...]:
        if name in (self._x, self._y):
            return (name,)
        return () if name == self._mapping else self._dimensions_of(self._base.dimensions(name))

    def shape(self, name: str) -> tuple[int, ...]:
        own = {self._y: len(self._grid.y), self._x: len(self._grid.x)}
        if name in own:
            return (own[name],)
        if name == self._mapping:
            return ()
        lengths = dict(zip(self._base.dimensions(name), self._base.shape(name), strict=True))
        return tuple(own.get(each, lengths.get(each, 1)) for each in self.dimensions(name))

    def dtype(self, name: str) -> Any:
        import numpy as np

        if name in (self._x, self._y):
            return np.dtype("f8")
        return np.dtype("i4") if name == self._mapping else number_type(self._base.dtype(name))

    def attributes(self, name: str) -> Mapping[str, Any]:
        if name in (self._x, self._y):
            return self._coordinate_attributes("x" if name == self._x else "y")
        if name == self._mapping:
            import pyproj

            return dict(pyproj.CRS(LATITUDE_FIRST if self._crs == CRS84 else self._crs).to_cf())
        found = dict(self._base.attributes(name))
        if name in self._fields:
            kept = [word for word in str(found.pop("coordinates", "")).split() if word in self.names()]
            found |= {"grid_mapping": self._mapping, **({"coordinates": " ".join(kept)} if kept else {})}
            if (fill := self._fill(name)) is not None:
                found["_FillValue"] = fill
            for word in ("mesh", "location", "cell_measures"):
                found.pop(word, None)
        return found

    def global_attributes(self) -> Mapping[str, Any]:
        return self._base.global_attributes()

    def labels(self) -> Labels:
        base = self._base.labels()
        dropped = {axis.name for axis in self._base.description.axes if axis.dimension in self._cells}
        spatial = self._base.description.spatial
        dropped |= {str(name) for name in (spatial.x, spatial.y)}
        values = {name: each for name, each in base.values.items() if name not in dropped}
        bounds = {name: each for name, each in base.bounds.items() if name not in dropped} | self._bounds()
        return Labels({**values, self._x: self._grid.x, self._y: self._grid.y}, bounds)

    def _bounds(self) -> dict[str, Array]:
        """Return the bounds of an axis of one label, whose cell nothing else tells."""
        import numpy as np

        alone = zip((self._x, self._y), (self._grid.x, self._grid.y), self._grid.edges, strict=True)
        return {name: np.array([edges]) for name, labels, edges in alone if len(labels) == 1}

    def decode(self, name: str, raw: Array) -> Array:
        import numpy as np

        if name in (self._x, self._y, self._mapping):
            return raw
        decoded = self._base.decode(name, raw)
        fill = self._fill(name)
        return decoded if fill is None else np.where(raw == np.asarray(fill, raw.dtype), np.nan, decoded.astype("f8"))

    def decode_like(self, name: str, values: Array) -> Array:
        return self._base.decode_like(name, values)

    def _fill(self, name: str) -> float | None:
        """Return the fill value for a field that has none of its own but has cells without data here."""
        attributes = self._base.attributes(name)
        if not self._outside or {"_FillValue", "missing_value"} & attributes.keys():
            return None
        dtype = self.dtype(name)
        return None if dtype.kind == "f" else unused(self._base.description.variable(name), dtype, attributes)

    def raw(
        self,
        name: str,
        along: Mapping[str, Window],
        *,
        deadline: Deadline = lambda: None,
        mask: Mask | None = None,  # noqa: ARG002 (its own windows have none)
    ) -> Array:
        import numpy as np

        own = {self._x: self._grid.x, self._y: self._grid.y}
        if name in own:
            window = along.get(name)
            return own[name] if window is None else own[name][window.indices()]
        if name == self._mapping:
            return np.zeros((), "i4")
        before = self._base.dimensions(name)
        others = {each: window for each, window in along.items() if each not in own}
        if not self._cells <= set(before):
            return self._base.raw(name, others, deadline=deadline)
        rows, columns = (along[each].indices() if each in along else np.arange(len(own[each])) for each in (self._y, self._x))
        if self._grid.apart:
            index = tuple(each[taken] for each, taken in zip(self._grid.index, (rows, columns), strict=True))
        else:
            index = tuple(each[np.ix_(rows, columns)] for each in self._grid.index)
        read, places = {}, []
        for dimension, each in zip(self._grid.dimensions, index, strict=True):
            seen = each[each >= 0]
            low, high = (int(seen.min()), int(seen.max()) + 1) if seen.size else (0, 1)
            read[dimension] = Window(dimension, (IndexRange(low, high),))
            places.append(np.where(each < 0, 0, each - low))
        values = self._base.raw(name, {**others, **read}, deadline=deadline)
        values = values.astype(number_type(values.dtype), copy=False)
        order = [before.index(each) for each in (*(d for d in before if d not in self._cells), *self._grid.dimensions)]
        values = values.transpose(order)
        picked: tuple[Any, ...] = np.ix_(*places) if self._grid.apart and len(places) > 1 else tuple(places)
        found = np.ascontiguousarray(values[(Ellipsis, *picked)])
        missing = [each < 0 for each in index]
        if any(each.any() for each in missing):
            gone = (missing[0][:, None] | missing[1][None, :]) if self._grid.apart else missing[0]
            found = np.where(gone, missing_in(self.attributes(name), found.dtype), found)
        return found

    def cut(self, windows: Windows, *, deadline: Deadline = lambda: None) -> Cut:
        base = {name: window for name, window in windows.along.items() if name in self.others}
        found = self._base.cut(replace(windows, fields=(), along=base, mask=None), deadline=deadline)
        dropped = {self._x, self._y}
        labels = {name: each for name, each in found.labels.items() if name not in dropped}
        labels |= {
            self._x: self._grid.x[windows.along[self._x].indices()],
            self._y: self._grid.y[windows.along[self._y].indices()],
        }
        values = {name: self.decode(name, self.raw(name, windows.along, deadline=deadline)) for name in windows.fields}
        return Cut(self.description, windows, labels, {**found.bounds, **self._bounds()}, values, None, found.times, None)
