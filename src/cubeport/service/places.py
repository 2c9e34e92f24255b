"""The named places of a coverage: the stations of its data, and the areas of the instance that intersect the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.catalog.query import parse_interval
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.description import BoundingBox
from cubeport.cubes.stations import Stations, dimension_of, stations
from cubeport.documents.places import Area, Spot, name_of, unrolled
from cubeport.documents.texts import PublishedView
from cubeport.errors import NotFound
from cubeport.service.ports import Versions
from cubeport.service.state import Reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_KEPT = 32
"""Most versions whose stations are kept in memory."""


@dataclass(frozen=True, slots=True)
class Found:
    """A place and, for a station, its index along the stations."""

    place: Area | Spot
    index: int | None = None


class Places:
    """Finds places. A process has one.

    Parameters
    ----------
    areas
        Returns the named areas of the instance.
    """

    def __init__(self, versions: Versions, areas: Callable[[], Iterable[Area]]) -> None:
        self._versions = versions
        self._areas = areas
        self._stations: Bounded[tuple[str, str, str | None], Stations] = Bounded(_KEPT)

    def page(
        self, shown: PublishedView, *, box: BoundingBox | None = None, datetime: str | None = None, start: int = 0, limit: int
    ) -> tuple[list[Found], int]:
        """Return at most *limit* places from number *start*, stations first, and the number of all places.

        Parameters
        ----------
        box
            In degrees (CRS84). Only places that intersect it are returned. West > east crosses 180°.
        datetime
            An instant or an interval. If the data have times, but none in it, no place is returned.
        """
        reach = Reach.of(shown.description)
        if datetime is not None and reach.start is not None and not reach.during(*parse_interval(datetime.upper())):
            return [], 0
        held = self._held(shown)
        indices: Sequence[int] = () if held is None else _inside(held, box).tolist()
        own = set() if held is None else set(held.names)
        areas = [each for each in self._meeting(shown) if each.extent_id not in own and (box is None or each.meets(box))]
        found = [] if held is None else [Found(_spot(held, at), at) for at in indices[start : start + limit]]
        behind = max(0, start - len(indices))
        found += [Found(each) for each in areas[behind : behind + limit - len(found)]]
        return found, len(indices) + len(areas)

    def named(self, shown: PublishedView, name: str) -> Found:
        """Return the place with that name. A station has precedence over an area. Raises NotFound."""
        held = self._held(shown)
        at = None if held is None else held.index(name)
        if held is not None and at is not None and at in held.placed():
            return Found(_spot(held, at), at)
        for each in self._meeting(shown):
            if name_of(each) == name:
                return Found(each)
        raise NotFound(f"These data have no place {name[:64]!r}.", what="location")

    def _held(self, shown: PublishedView) -> Stations | None:
        if dimension_of(shown.description) is None:
            return None
        key = shown.texts.dataset_id, shown.version.version_id, shown.grid
        found = self._stations.get(key)
        if found is None:
            found = stations(self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description))
            if found is not None:
                self._stations.put(key, found)
        return found

    def _meeting(self, shown: PublishedView) -> list[Area]:
        """Return the named areas that intersect the box of the data."""
        box = shown.description.spatial.bbox
        if box is None or shown.description.spatial.family == "none":
            return []
        return [each for each in self._areas() if each.meets(box)]


def _inside(held: Stations, box: BoundingBox | None) -> Array:
    """Return the indices of the stations that have a position, and are in the box if one is given."""
    import numpy as np

    placed = held.placed()
    if box is None:
        return placed
    lon, lat = _turned(held.lon[placed]), held.lat[placed]
    inside = np.zeros(placed.size, bool)
    for west, south, east, north in unrolled(box):
        here = (lon >= west) & (lon <= east)
        if west <= -180 or east >= 180:
            here |= np.abs(lon) == 180  # one meridian, two numbers
        inside |= here & (lat >= south) & (lat <= north)
    found: Array = placed[inside]
    return found


def _turned(lon: Array) -> Array:
    """Return longitudes within ±180."""
    import numpy as np

    found: Array = np.where(np.abs(lon) > 180, (lon.astype("float64") + 180) % 360 - 180, lon)
    return found


def _spot(held: Stations, at: int) -> Spot:
    properties: Mapping[str, Any] = {name: _plain(values[at]) for name, values in held.properties.items()}
    return Spot(held.names[at], float(str(_turned(held.lon[at : at + 1])[0])), float(str(held.lat[at])), properties)


def _plain(value: Any) -> Any:
    """Return a value for JSON; ``None`` if it is missing or infinite."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bytes):
        return plain.decode("utf-8", "replace")
    if isinstance(plain, float):
        # The shortest decimal that gives this number in the type of the store: 63.4, not 63.400001525878906.
        return float(str(value)) if math.isfinite(plain) else None
    return plain if isinstance(plain, str | int | bool) else str(plain)
