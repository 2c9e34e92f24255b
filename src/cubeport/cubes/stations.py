"""The stations of a discrete sampling geometry (CF 9): names, positions and other attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.part import Opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_ROLES = ("timeseries_id", "profile_id")
"""``cf_role`` of the variable that names stations (CF 9.5)."""
_NAMES = ("station_id", "platform_id", "station_wmo_id", "station_name", "platform_name")
"""``standard_name`` of the variable that names stations if no variable has the role."""
_MOST_PROPERTIES = 30


@dataclass(frozen=True, slots=True)
class Stations:
    """Stations in the order of the store; arrays along their dimension."""

    names: tuple[str, ...]
    """Unique: the names in the data, else ``station-{n}``, counted from 1."""
    lon: Array
    """Degrees east, as stored (0 to 360 is not changed); missing if the position is missing."""
    lat: Array
    properties: Mapping[str, Array]
    """Other values that the store has for each station: altitude, long name."""

    def index(self, name: str) -> int | None:
        """Return the index of the station along its dimension, ``None`` if no station has that name."""
        try:
            return self.names.index(name)
        except ValueError:
            return None

    def placed(self) -> Array:
        """Return the indices of the stations that have a position."""
        import numpy as np

        found: Array = np.flatnonzero(np.isfinite(self.lon) & np.isfinite(self.lat))
        return found


def dimension_of(description: CubeDescription) -> str | None:
    """Return the dimension of the stations; ``None`` for cells, and for trajectories, whose points are moments of one object."""
    temporal, along = description.temporal, description.cell_dimensions
    if description.spatial.reach is None or len(along) != 1:
        return None
    if temporal is not None:
        of_time = temporal.dimensions or (description.axis(temporal.axis).dimension,)
        if along[0] in of_time:
            return None
    return None if str(description.attributes.get("featureType", "")).lower().startswith("trajectory") else along[0]


def stations(opened: Opened) -> Stations | None:
    """Return the stations of a version, ``None`` if it has none. Reads coordinates and names, no values of fields."""
    description = opened.description
    along = dimension_of(description)
    if along is None:
        return None
    labels, spatial = opened.labels(), description.spatial
    lon, lat = labels.values[spatial.x or ""], labels.values[spatial.y or ""]
    own = [
        variable.name
        for variable in description.variables
        if variable.role in ("auxiliary", "coordinate")
        and variable.dimensions == (along,)
        and variable.name not in (spatial.x, spatial.y)
    ]
    said = {name: opened.decode(name, opened.raw(name, {})) for name in own[:_MOST_PROPERTIES]}
    named_by = _naming(opened, said)
    return Stations(
        _unique([] if named_by is None else [_text(each) for each in said[named_by]], int(lon.size)),
        lon,
        lat,
        {name: values for name, values in said.items() if name != named_by},
    )


def _naming(opened: Opened, said: Mapping[str, Array]) -> str | None:
    """Return the variable that names stations: found by its role, by its standard name, else the first text variable."""
    attributes = {name: opened.attributes(name) for name in said}
    by_role = [name for name, each in attributes.items() if each.get("cf_role") in _ROLES]
    by_name = [name for wanted in _NAMES for name, each in attributes.items() if each.get("standard_name") == wanted]
    by_type = [name for name, values in said.items() if values.dtype.kind in "UTO"]
    return next(iter((*by_role, *by_name, *by_type)), None)


def _text(value: Any) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _unique(names: list[str], count: int) -> tuple[str, ...]:
    """Return *count* names, each once.

    An empty or repeated name becomes ``station-{n}``, counted from 1, and ``-`` is added until no other station has it.
    """
    taken = set(names)
    used: set[str] = set()
    found = []
    for at in range(count):
        name = names[at] if at < len(names) else ""
        if not name or name in used or "/" in name:
            name = f"station-{at + 1}"
            while name in taken or name in used:
                name += "-"
        used.add(name)
        found.append(name)
    return tuple(found)
