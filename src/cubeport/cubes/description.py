"""The description of a gridded dataset as one plain value: its axes, variables, grid and measured coverage.

A child process measures it once, when a version is sealed, by reading the bytes back. It is stored with the version. Every face
(STAC, OGC, ``/datasets``, pages) uses it, and none measures again. Reading it does not need xarray.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from cubeport.cubes.periods import TimeLabel

type AxisKind = Literal["x", "y", "z", "t", "member", "category", "index", "other"]
"""The kind of an axis by CF; ``index`` is a dimension without coordinate labels (curvilinear i/j, nodes)."""

type GridFamily = Literal["rectilinear", "projected", "curvilinear", "unstructured", "none"]
"""How cells are located: by straight axes in degrees, by axes of a projection (including geostationary and rotated pole), by
two-dimensional positions, by positions along one dimension, or not at all."""

type BoundingBox = tuple[float, float, float, float]
"""West, south, east, north; CRS84 degrees; west > east crosses the antimeridian (RFC 7946, 5.2)."""


OF_VALUES = ("infinite", "outliers")
"""The warnings of what is seen in values, which hold for a cube as long as these values are in it."""


class Value(BaseModel):
    """An immutable value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Value):
    """One dimension of the cube, with its labels.

    ``first``, ``last`` and ``step`` refer to labels as stored (decoded if packed): degrees, metres, or for time the numbers of
    ``units``. Longitudes and latitudes are in degrees, even if they are stored in radians. ``lower`` and ``upper`` are the
    outermost cell edges, sorted; on an axis of points, the outermost labels.
    """

    name: str
    """The coordinate variable, or the dimension if it has no coordinate variable."""
    dimension: str
    kind: AxisKind
    size: int
    units: str | None = None
    standard_name: str | None = None
    long_name: str | None = None
    positive: Literal["up", "down"] | None = None
    regular: bool = False
    """Whether labels are evenly spaced, within 10⁻⁶ of a step."""
    ascending: bool | None = None
    first: float | None = None
    last: float | None = None
    step: float | None = None
    """(last − first) / (n − 1), signed, ten significant digits; ``None`` if labels are irregular, not numbers, or only one."""
    lower: float | None = None
    upper: float | None = None
    values: tuple[float | str, ...] | None = None
    """The labels if they are text, or up to 10,000 numbers of an irregular axis; times as in ``Temporal``."""
    bounds: str | None = None
    """The CF bounds variable."""
    scalar: bool = False
    """Whether this is a scalar coordinate: an axis of one label that is not a dimension of any variable."""


class Variable(Value):
    """One variable of the store."""

    name: str
    role: Literal["data", "auxiliary", "coordinate", "bounds", "grid_mapping"]
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    """The stored type by its numpy name (``int16``, ``float32``, ``string``)."""
    decoded_dtype: str
    """The type after CF decoding."""
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
    """The smallest and largest decoded value, without missing values; ``None`` if all are missing or are not numbers."""
    shown_min: float | None = None
    shown_max: float | None = None
    """The ends of the colours of a picture: the 2nd and the 98th percentile of a sample, without values far beyond all others."""

    @property
    def has_classes(self) -> bool:
        """Whether the values are classes (CF 3.5, ``flag_values``).

        Measured quantities can have flags too, for land or missing values, as sea ice concentrations have 251 to 255. Most of their
        measured range is outside the range of the flags.
        """
        given = self.attributes.get("flag_values")
        flags = [each for each in (given if isinstance(given, list | tuple) else [given]) if isinstance(each, int | float)]
        if not flags:
            return False
        if self.valid_min is None or self.valid_max is None:
            return True
        low, high = min(flags), max(flags)
        return max(low - self.valid_min, 0) + max(self.valid_max - high, 0) <= high - low

    @property
    def title(self) -> str:
        """What people read: the long name, otherwise the words of the standard name, otherwise the name."""
        return self.long_name or (self.standard_name or "").replace("_", " ") or self.name


class Crs(Value):
    """The reference system of the native x and y."""

    name: str
    authority: str | None = None
    """``EPSG:27700`` or ``OGC:CRS84``; only if the CF attributes name it."""
    wkt2: str | None = None
    projjson: dict[str, Any] | None = None
    geographic: bool = True


class Temporal(Value):
    """The time of the cube, in the fields of its own calendar."""

    axis: str
    """The axis of the steps, or the variable of the times if they are not an axis (see ``dimensions``)."""
    dimensions: tuple[str, ...] = ()
    """The dimensions of times that are not an axis: those of each run and step, or of each point of several trajectories."""
    calendar: str
    start: str
    """The first label as RFC 3339 with ``Z``, in the fields of its own calendar (30 February exists in ``360_day``)."""
    end: str
    count: int
    step: str | None = None
    """The step as an ISO 8601 duration if it is even (``P1D``, ``P1M``, ``PT6H``)."""
    values: tuple[str, ...] | None = None
    """All labels, if there are at most 1,000 and the step is not even."""
    time_label: TimeLabel = "start"
    """Which moment of its period each label is, as the template says. It decides the period of steps without bounds."""
    period_type: str | None = None
    """The period type (:mod:`cubeport.cubes.periods`) by bounds, spacing or the ``frequency`` attribute, otherwise
    ``irregular``. It is ``climatology`` by the bounds of CF 7.4, or if its years are given."""
    first_period: str | None = None
    last_period: str | None = None
    """The periods of the first and last step (by the start of their bounds), as native strings of this type."""
    gaps: tuple[tuple[str, str, int], ...] = ()
    """Gaps between periods: first and last missing period, and their number. Empty for ``irregular`` labels, whose gaps are
    unknown."""
    empty: tuple[str, ...] | None = None
    """The moments of the steps at which no field has a value: the first 1,000. ``None`` if not all values were read."""
    empty_count: int = 0
    """How many such steps there are."""
    given_years: tuple[int, int] | None = None
    """The first and the last year of a climatology, if its template gave them and no bounds tell them."""
    index_start: str = ""
    index_end: str = ""
    """The outer bounds of the cells as Gregorian instants. Searches use them."""

    @property
    def years(self) -> str | None:
        """The years of which each step of a climatology is a statistic, both included; ``None`` of other times."""
        if self.period_type != "climatology" or not self.index_start:
            return None
        first, last = int(self.index_start[:4]), int(self.index_end[:4])
        last -= self.index_end[4:] == "-01-01T00:00:00Z"  # where a year ends, the next one begins
        return f"{first:04d} to {last:04d}" if last > first else f"{first:04d}"

    @property
    def statistic(self) -> str | None:
        """What the steps of a climatology are, in words; ``None`` of other times."""
        years = self.years
        return None if years is None else f"each step is a statistic of several years within {years} (CF 7.4)"

    @property
    def counted_step(self) -> str | None:
        """The step if the start and a number of steps give each label, as documents say that have no list of labels.

        Labels in the middle or at the end of their months have even months and uneven days: 16 January, 15 February.
        """
        if self.step is not None and "T" not in self.step and self.step[-1] in "MY":
            day = int(self.start.partition("T")[0].rpartition("-")[2])
            return None if 13 <= day <= 18 or day >= 28 else self.step
        return self.step


class Spatial(Value):
    """The spatial extent of the cube."""

    family: GridFamily
    bbox: BoundingBox | None = None
    """The box of the outer cell edges, CRS84; ``None`` if the place of the data is unknown."""
    native_bbox: BoundingBox | None = None
    """The outer cell edges in the native CRS as stored (0–360 is not changed): xmin, ymin, xmax, ymax."""
    x: str | None = None
    y: str | None = None
    """The names of the horizontal coordinate variables: axes, or 2-D or 1-D positions of curvilinear and unstructured grids."""
    z: str | None = None
    """The variable with the heights of positions along one dimension, such as those of a trajectory or a sounding."""
    dimensions: tuple[str, ...] = ()
    """The dimensions of cells that are located by positions; empty if x and y are axes."""
    crs: Crs | None = None
    to_crs: float = 1.0
    """The factor from stored x and y to the units of ``crs``: 1000 for kilometres, the satellite's height for scan angles in
    radians, 57.3 for longitudes and latitudes in radians."""

    labels_crs: Crs | None = None
    """``crs`` in the units of the stored x and y, if these are not its own: kilometres, feet, scan angles. Documents that show the
    labels next to a reference system need this one. ``None`` if both have the same units."""

    reach: float | None = None
    """For stations: how far from its position each is valid, in degrees on the sphere. ``None`` for grids with cells."""

    @model_validator(mode="before")
    @classmethod
    def _of_old(cls, values: Any) -> Any:
        """Read the descriptions of release 0.1, which gave data without a place the box of the world."""
        if isinstance(values, dict) and values.get("family") == "none" and list(values.get("bbox") or ()) == [-180, -90, 180, 90]:
            return {**values, "bbox": None}
        return values

    @property
    def system(self) -> Crs | None:
        """The reference system of the labels as the axes give them."""
        return self.labels_crs or self.crs

    @property
    def is_native(self) -> bool:
        """Whether places are in a reference system of their own, also those of separate points on a projected grid, instead of in
        longitudes and latitudes.
        """
        return self.family == "projected" or (self.crs is not None and not self.crs.geographic)

    @property
    def axis_factor(self) -> float:
        """The factor from the numbers of the x and y axes to the units of ``crs``: the axes have degrees unless projected."""
        return self.to_crs if self.family == "projected" else 1.0


class Grid(Value):
    """Data variables of the store on other cells than its fields: a staggered velocity, a second resolution, a series."""

    name: str
    """The name of its first field, in a form that is valid in a URL."""
    axes: tuple[Axis, ...]
    fields: tuple[str, ...]
    spatial: Spatial
    temporal: Temporal | None = None


class CubeDescription(Value):
    """The whole cube. ``variables`` are in the order of the store; ``fields`` are the data variables that faces offer together."""

    axes: tuple[Axis, ...]
    variables: tuple[Variable, ...]
    fields: tuple[str, ...]
    """The data variables on the axes that most of them share, in the order of the store, or those that the template names."""
    spatial: Spatial
    temporal: Temporal | None = None
    grids: tuple[Grid, ...] = ()
    """The other grids of the store. Each is a separate coverage (:meth:`on`)."""
    title: str | None = None
    description: str | None = None
    license: str | None = None
    attributes: dict[str, Any] = {}
    """Global attributes as stored."""
    overviews: tuple[tuple[str, str], ...] = ()
    """Fields that have overviews, with how these were made (``mean``, ``nearest``, ``max``)."""
    overview_levels: int = 0
    """How many levels there are next to the cube."""
    size_bytes: int = 0
    """Decoded bytes of all variables."""
    warnings: tuple[tuple[str, str], ...] = ()
    """``(kind, message)`` for everything that was accepted but that users should know."""

    @property
    def cell_dimensions(self) -> tuple[str, ...]:
        """The dimensions of cells that are located by positions, rows before columns; empty if there are none."""
        if self.spatial.family not in ("curvilinear", "unstructured") or self.spatial.x is None:
            return ()
        return self.spatial.dimensions or self.variable(self.spatial.x).dimensions

    @property
    def all_fields(self) -> tuple[str, ...]:
        """The fields of all grids."""
        return (*self.fields, *(name for grid in self.grids for name in grid.fields))

    @property
    def clocks(self) -> tuple[Temporal, ...]:
        """The times of all grids that have one; the first is that of the fields, if they have one."""
        return tuple(each for each in (self.temporal, *(grid.temporal for grid in self.grids)) if each is not None)

    def on(self, grid: str) -> CubeDescription:
        """Return the description of the store for one of its other grids. Raises KeyError."""
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
