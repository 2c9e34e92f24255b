"""What a gridded dataset *is*, as one plain value: its axes, variables, grid and measured coverage.

Measured once, when a version is sealed, by a child process that reads the bytes back; kept with the version; every face
(STAC, OGC, ``/datasets``, pages) projects from it and none measures again. It needs no xarray to be read.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

type AxisKind = Literal["x", "y", "z", "t", "member", "category", "index", "other"]
"""What an axis is by CF: ``index`` is a dimension without coordinate labels (curvilinear i/j, nodes)."""

type GridFamily = Literal["rectilinear", "projected", "curvilinear", "unstructured", "none"]
"""How cells are placed: by straight axes in degrees, by axes of a projection (geostationary and rotated pole too), by
two-dimensional positions, by positions along one dimension, or not at all."""

type BoundingBox = tuple[float, float, float, float]
"""West, south, east, north; CRS84 degrees; west > east crosses the antimeridian (RFC 7946, 5.2)."""


class Value(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Value):
    """One dimension of the cube, with its labels.

    ``first``, ``last`` and ``step`` speak of labels as stored (decoded when packed): degrees, metres, or for time the numbers of
    ``units``; longitudes and latitudes are in degrees, also where they are stored in radians. ``lower`` and ``upper`` are the
    outermost cell edges, sorted; on point axes the outermost labels.
    """

    name: str
    """The coordinate variable, or the dimension itself when it has none."""
    dimension: str
    kind: AxisKind
    size: int
    units: str | None = None
    standard_name: str | None = None
    long_name: str | None = None
    positive: Literal["up", "down"] | None = None
    regular: bool = False
    """Evenly spaced within 10⁻⁶ of a step."""
    ascending: bool | None = None
    first: float | None = None
    last: float | None = None
    step: float | None = None
    """(last − first) / (n − 1), ten significant digits, signed; ``None`` when irregular, single, or not a number."""
    lower: float | None = None
    upper: float | None = None
    values: tuple[float | str, ...] | None = None
    """The labels when they are text, or numbers of an irregular axis (≤ 10 000); times as in ``Temporal``."""
    bounds: str | None = None
    """The CF bounds variable."""
    scalar: bool = False
    """A scalar coordinate: an axis of one label that no variable has as a dimension."""


class Variable(Value):
    """One variable of the store."""

    name: str
    role: Literal["data", "auxiliary", "coordinate", "bounds", "grid_mapping"]
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    """As stored, numpy's name (``int16``, ``float32``, ``string``)."""
    decoded_dtype: str
    """As a reader sees it after CF decoding."""
    units: str | None = None
    standard_name: str | None = None
    long_name: str | None = None
    nodata: float | int | str | None = None
    grid_mapping: str | None = None
    attributes: dict[str, Any] = {}
    """The CF attributes that faces show: standard_name long_name units cell_methods positive calendar valid_range flag_values
    flag_meanings."""
    valid_min: float | None = None
    valid_max: float | None = None
    """Least and greatest decoded value, missing left out; ``None`` when all is missing or it is not a number."""


class Crs(Value):
    """The reference system of the native x and y."""

    name: str
    authority: str | None = None
    """``EPSG:27700`` or ``OGC:CRS84``; only when the CF attributes name it."""
    wkt2: str | None = None
    projjson: dict[str, Any] | None = None
    geographic: bool = True


class Temporal(Value):
    """The time of the cube, in the fields of its own calendar."""

    axis: str
    """The axis of the steps; or the variable of the times, where ``dimensions`` says that these lie along more than one."""
    dimensions: tuple[str, ...] = ()
    """Of times that are no axis: of each run and step, or of each point of several ways."""
    calendar: str
    start: str
    """First label, RFC 3339 ``Z``, calendar fields as they are (30 February is in ``360_day``)."""
    end: str
    count: int
    step: str | None = None
    """ISO 8601 duration when even (``P1D``, ``P1M``, ``PT6H``)."""
    values: tuple[str, ...] | None = None
    """All labels, when ≤ 1 000 and there is no even step."""
    period_type: str | None = None
    """The type of :mod:`cubeport.cubes.periods` that bounds, spacing and the ``frequency`` attribute show, else ``irregular``."""
    first_period: str | None = None
    last_period: str | None = None
    """Native strings of that type: of the periods that the first and the last step belong to (the start of their bounds)."""
    gaps: tuple[tuple[str, str, int], ...] = ()
    """Holes between periods, as first and last missing period and how many; none is known of ``irregular`` labels."""
    index_start: str = ""
    index_end: str = ""
    """Outer bounds of the cells as Gregorian instants: what searches are answered from."""


class Spatial(Value):
    """The place of the cube."""

    family: GridFamily
    bbox: BoundingBox | None = None
    """Of the outer cell edges, CRS84; ``None`` when nothing tells where the data are."""
    native_bbox: BoundingBox | None = None
    """Cell edges in the native CRS, as stored (0–360 stays): xmin, ymin, xmax, ymax."""
    x: str | None = None
    y: str | None = None
    """Names of the horizontal coordinate variables: axes, or 2-D/1-D positions for curvilinear and unstructured grids."""
    z: str | None = None
    """The heights of positions along one dimension: of a way, of soundings."""
    dimensions: tuple[str, ...] = ()
    """The dimensions of cells that positions place; empty where x and y are axes."""
    crs: Crs | None = None
    to_crs: float = 1.0
    """Stored x and y times this are in the units of ``crs``: 1000 for kilometres, the height for radians of a satellite, 57.3 for
    longitudes and latitudes in radians."""

    reach: float | None = None
    """Of stations: how far from its position each holds, in degrees on the sphere. ``None`` of everything that has cells."""

    @model_validator(mode="before")
    @classmethod
    def _of_old(cls, values: Any) -> Any:
        """Read the descriptions of 0.1, in which the world was the box of what has no place."""
        if isinstance(values, dict) and values.get("family") == "none" and list(values.get("bbox") or ()) == [-180, -90, 180, 90]:
            return {**values, "bbox": None}
        return values


class Grid(Value):
    """Data variables of the store on other cells than its first fields: a staggered velocity, a second resolution, a series."""

    name: str
    """That of its first field, as an address can have it."""
    axes: tuple[Axis, ...]
    fields: tuple[str, ...]
    spatial: Spatial
    temporal: Temporal | None = None


class CubeDescription(Value):
    """The whole cube. ``variables`` are in the store's order; ``fields`` are the data variables that faces offer together."""

    axes: tuple[Axis, ...]
    variables: tuple[Variable, ...]
    fields: tuple[str, ...]
    """The data variables on the axes that most of them share, in store order, or as the template names them."""
    spatial: Spatial
    temporal: Temporal | None = None
    grids: tuple[Grid, ...] = ()
    """The other grids of the store; each is a coverage of its own (:meth:`on`)."""
    title: str | None = None
    description: str | None = None
    license: str | None = None
    attributes: dict[str, Any] = {}
    """Global attributes as stored."""
    size_bytes: int = 0
    """Decoded bytes of all variables."""
    warnings: tuple[tuple[str, str], ...] = ()
    """``(kind, message)`` of what was accepted but should be known."""

    @property
    def cell_dimensions(self) -> tuple[str, ...]:
        """The dimensions of cells that positions place, rows before columns; empty where there are none."""
        if self.spatial.family not in ("curvilinear", "unstructured") or self.spatial.x is None:
            return ()
        return self.spatial.dimensions or self.variable(self.spatial.x).dimensions

    @property
    def all_fields(self) -> tuple[str, ...]:
        """The fields of all grids."""
        return (*self.fields, *(name for grid in self.grids for name in grid.fields))

    def on(self, grid: str) -> CubeDescription:
        """Return the description of the store as one of its other grids sees it. Raises KeyError."""
        for each in self.grids:
            if each.name == grid:
                own = {"axes": each.axes, "fields": each.fields, "spatial": each.spatial, "temporal": each.temporal}
                return self.model_copy(update={**own, "grids": ()})
        raise KeyError(grid)

    def axis(self, name: str) -> Axis:
        """Return the axis with that name or dimension. Raises KeyError."""
        for axis in self.axes:
            if name in (axis.name, axis.dimension):
                return axis
        raise KeyError(name)

    def variable(self, name: str) -> Variable:
        """Return the variable with that name. Raises KeyError."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise KeyError(name)

    def axis_of(self, kind: AxisKind) -> Axis | None:
        """Return the first axis of that kind, or ``None``."""
        return next((axis for axis in self.axes if axis.kind == kind), None)
