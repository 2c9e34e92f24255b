"""EDR area: the cells whose centre is in a polygon or on its edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import polygons, regions
from cubeport.cubes.edr.geometry import canonical, read
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Polygon:
    """A shapely Polygon or MultiPolygon as a region."""

    shape: Any

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        west, south, east, north = self.shape.bounds
        return west, south, east, north

    @property
    def middle(self) -> tuple[float, float]:
        point = self.shape.representative_point()
        return float(point.x), float(point.y)

    def on_axes(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        return polygons.on_axes(self.shape, lon, lat, deadline)

    def anywhere(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        return polygons.anywhere(self.shape, lon, lat, deadline)

    @property
    def is_box(self) -> bool:
        """Whether it is a box of longitudes and latitudes."""
        import shapely

        return bool(self.shape.geom_type == "Polygon" and self.shape.equals(shapely.box(*self.shape.bounds)))


def _polygon(place: Place) -> Polygon:
    return Polygon(read(place["coords"]))


def _settle(
    description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, place: Place, deadline: Deadline
) -> Windows:
    polygon = _polygon(place)
    if description.spatial.family == "rectilinear" and polygon.is_box:
        # It selects the same cells as the box, so that an area equals the cube of the same box.
        return windows
    return regions.inside(description, labels, windows, selection, polygon, deadline)


QUERY = EdrQuery(
    name="area",
    text="Values of the cells whose centres are in a polygon",
    parameters=(Parameter("coords", "POLYGON((lon lat, …)); CRS84", partial(canonical, types=("Polygon", "MultiPolygon"))),),
    resolve=regions.resolving(_polygon),
    settle=_settle,
)
