"""Zone sets: named polygons, such as districts, for which cubeport makes tables. They are read from GeoJSON (RFC 7946) and checked
once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cubeport.cubes.description import BoundingBox
from cubeport.errors import InvalidRequest, NotFound, Problem

MEDIA_TYPE = "application/geo+json"
ZONE_SET_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""The pattern of the id of a zone set, the same as for datasets and extents."""
MOST_BYTES = 10 * 1024 * 1024
"""Most bytes of one zone set."""
MOST_ZONES = 5_000
"""Most zones of one zone set."""
CONVERTED = "ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES zones.geojson INPUT"
"""Makes longitudes and latitudes of any file of areas that GDAL reads, such as a shapefile, a GeoPackage or KML."""
_BEYOND, _INVALID = "must be within longitudes of ±540 and latitudes of ±90 degrees", "is not a valid polygon"
_MOST_PROBLEMS = 20
_MOST_ID = 200
_NAMES = ("name", "NAME", "Name", "title", "ADMIN", "shapeName", "NAME_2", "NAME_1", "ADM2_EN", "ADM1_EN", "label")
"""Properties that commonly contain the name of a zone, in the order in which they are looked up."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One named area."""

    id: str
    name: str
    geometry: Any
    """A shapely Polygon or MultiPolygon; longitudes and latitudes in degrees (CRS84), longitudes in any turn within ±540."""
    level: str | None = None
    parent: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    """All properties of the feature."""


@dataclass(frozen=True)
class ZoneSet:
    """A zone set: zones in the order of their file."""

    id: str
    zones: tuple[Zone, ...]
    title: str | None = None
    description: str | None = None
    license: str | None = None

    @cached_property
    def digest(self) -> str:
        """The sha256 of the ids and geometries: two sets with the same digest select the same cells."""
        found = hashlib.sha256()
        for zone in self.zones:
            found.update(json.dumps(zone.id).encode() + b"\0" + zone.geometry.wkb + b"\0")
        return found.hexdigest()

    @cached_property
    def bbox(self) -> BoundingBox:
        """West, south, east, north of all zones, as their longitudes are written."""
        boxes = [zone.geometry.bounds for zone in self.zones]
        west, south, east, north = (best(box[i] for box in boxes) for i, best in enumerate((min, min, max, max)))
        return west, south, east, north

    def taking(self, ids: Sequence[str]) -> ZoneSet:
        """Return the set with only the zones *ids*, in the order of the set. Raises NotFound, which names the ids that do not
        exist.
        """
        known = {zone.id for zone in self.zones}
        if missing := [each for each in dict.fromkeys(ids) if each not in known]:
            some = ", ".join(zone.id for zone in self.zones[:5])
            raise NotFound(
                f"The zone set {self.id} has no zone {', '.join(each[:60] for each in missing[:5])}; its first zones are {some}.",
                what="zone",
            )
        wanted = set(ids)
        return ZoneSet(self.id, tuple(zone for zone in self.zones if zone.id in wanted), self.title, self.description, self.license)

    def document(self) -> dict[str, Any]:
        """Return the set as a GeoJSON FeatureCollection. Each feature has the id of its zone, and the property ``name``."""
        from shapely.geometry import mapping

        described = {"title": self.title, "description": self.description, "license": self.license}
        return {
            "type": "FeatureCollection",
            "id": self.id,
            **{name: text for name, text in described.items() if text is not None},
            "features": [
                {
                    "type": "Feature",
                    "id": zone.id,
                    "properties": {
                        **zone.properties,
                        "name": zone.name,
                        **({"level": zone.level} if zone.level is not None else {}),
                        **({"parent": zone.parent} if zone.parent is not None else {}),
                    },
                    "geometry": mapping(zone.geometry),
                }
                for zone in self.zones
            ],
        }


def read_zone_set(
    zone_set_id: str,
    document: Any,
    *,
    id_property: str | None = None,
    name_property: str | None = None,
    most_zones: int = MOST_ZONES,
) -> ZoneSet:
    """Return the zone set that a GeoJSON FeatureCollection describes (RFC 7946, section 3.3).

    Parameters
    ----------
    document
        The JSON value. Its members ``id_property`` and ``name_property`` mean the same as the parameters, which have precedence.
    id_property
        The property that identifies each zone; by default the ``id`` of each feature, or a property ``id``.
    name_property
        The property that names each zone; by default ``name`` or another common name, else the id.

    Raises
    ------
    InvalidRequest
        Lists every problem with the id of its feature: no id, an id that is used twice, a geometry that is not a valid polygon.
    """
    if not isinstance(document, Mapping) or document.get("type") != "FeatureCollection":
        raise InvalidRequest(
            "Zones are a GeoJSON FeatureCollection.", errors=[Problem(("type",), "not-a-choice", "FeatureCollection")]
        )
    features = document.get("features")
    if not isinstance(features, list) or not features:
        raise InvalidRequest("The FeatureCollection has no features.", errors=[Problem(("features",), "required", "at least one")])
    if len(features) > most_zones:
        raise InvalidRequest(
            f"There are {len(features)} zones; a zone set may have {most_zones}.",
            errors=[Problem(("features",), "too-many", f"may have {most_zones} features")],
            next_step="Make several zone sets of them.",
        )
    crs = document.get("crs")
    if crs is not None and not _is_crs84(crs):
        raise InvalidRequest(
            "The coordinates of zones are longitudes and latitudes (RFC 7946); the member crs says something else.",
            errors=[Problem(("crs",), "not-a-choice", "must be CRS84, or left out")],
            next_step=f"Convert the file first: {CONVERTED}",
        )
    id_property = id_property or _text(document.get("id_property"))
    name_property = name_property or _text(document.get("name_property"))
    problems: list[Problem] = []
    zones: list[Zone] = []
    seen: set[str] = set()
    for place, feature in enumerate(features):
        try:
            zone = _zone(feature, id_property, name_property)
            if zone.id in seen:
                raise ValueError(f"the id {zone.id[:60]!r} is there twice")
        except ValueError as error:
            problems.append(Problem(("features", _named(feature, id_property, place)), "invalid-zone", str(error)))
            if len(problems) >= _MOST_PROBLEMS:
                break
            continue
        seen.add(zone.id)
        zones.append(zone)
    if problems:
        first = problems[0]
        more = f" {len(problems) - 1} other features are not valid either." if len(problems) > 1 else ""
        raise InvalidRequest(
            f"Feature {first.loc[1]}: {first.message}.{more}", errors=problems, next_step=_advice(problems, features)
        )
    title = _text(document.get("title")) or _text(document.get("name"))
    return ZoneSet(zone_set_id, tuple(zones), title, _text(document.get("description")), _text(document.get("license")))


def of_box(zone_set_id: str, name: str | None, bbox: BoundingBox) -> ZoneSet:
    """Return a set with one zone: a box in degrees; west > east crosses the antimeridian."""
    import shapely

    west, south, east, north = bbox
    shape = shapely.box(west, south, east + 360 if east < west else east, north)
    return ZoneSet(zone_set_id, (Zone(zone_set_id, name or zone_set_id, shape),), name)


def of_geometry(zone_set_id: str, name: str | None, geometry: Any) -> ZoneSet:
    """Return a set with one zone: a GeoJSON geometry. Raises InvalidRequest."""
    try:
        shape = _shape(geometry)
    except ValueError as error:
        raise InvalidRequest(f"{zone_set_id}: {error}.", errors=[Problem(("geometry",), "invalid-zone", str(error))]) from error
    return ZoneSet(zone_set_id, (Zone(zone_set_id, name or zone_set_id, shape),), name)


def _zone(feature: Any, id_property: str | None, name_property: str | None) -> Zone:
    """Return the zone of a feature. Raises ValueError; its message is the end of a sentence about the feature."""
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise ValueError("is not a GeoJSON Feature")
    properties = feature.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ValueError("has properties that are not an object")
    found = _id(feature, properties, id_property)
    candidates = (name_property,) if name_property is not None else _NAMES
    name = next((text for each in candidates if (text := _text(properties.get(each)))), None)
    if name is None and name_property is not None:
        raise ValueError(f"has no property {name_property[:60]!r} with its name")
    return Zone(
        found, name or found, _shape(feature.get("geometry")), _text(properties.get("level")), _text(properties.get("parent")),
        dict(properties),
    )  # fmt: skip


def _id(feature: Mapping[str, Any], properties: Mapping[str, Any], id_property: str | None) -> str:
    given = properties.get(id_property) if id_property is not None else feature.get("id", properties.get("id"))
    text = _text(given)
    if text is None:
        raise ValueError("has no id" if id_property is None else f"has no property {id_property[:60]!r} with its id")
    if len(text) > _MOST_ID or not text.isprintable() or "," in text:
        raise ValueError(f"has an id that is longer than {_MOST_ID} characters, or has a comma or control characters")
    return text


def _text(value: Any) -> str | None:
    """Return a text or a number as text, without spaces at its ends; ``None`` for an empty text or any other value."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _named(feature: Any, id_property: str | None, place: int) -> str | int:
    """Return what identifies a feature in messages: its id, else its position in the file, from 0."""
    if isinstance(feature, Mapping):
        properties = feature.get("properties")
        own = properties if isinstance(properties, Mapping) else {}
        found = _text(own.get(id_property)) if id_property is not None else _text(feature.get("id", own.get("id")))
        if found is not None:
            return found[:60]
    return place


def _advice(problems: Iterable[Problem], features: Sequence[Any]) -> str | None:
    told = " ".join(each.message for each in problems)
    if _BEYOND in told:
        return f"If they are in another reference system, convert the file first: {CONVERTED}"
    if _INVALID in told:
        return "Repair the file first: ogr2ogr -makevalid zones.geojson INPUT"
    if "has no id" not in told and "is there twice" not in told:
        return None
    candidates = unique_properties(features)
    if not candidates:
        return "Give each feature an id of its own."
    return f"Name the property that identifies each zone, for example id_property={candidates[0]}."


def unique_properties(features: Sequence[Any]) -> list[str]:
    """Return the properties that have a different value in every feature, in the order of the first feature."""
    rows = [each["properties"] for each in features if isinstance(each, Mapping) and isinstance(each.get("properties"), Mapping)]
    if len(rows) < len(features):
        return []
    texts = {name: [_text(row.get(name)) for row in rows] for name in rows[0]}
    return [name for name, found in texts.items() if None not in found and len(set(found)) == len(found)]


def _shape(geometry: Any) -> Any:
    """Return the polygon of a geometry. Raises ValueError."""
    import shapely
    from shapely.geometry import shape

    if not isinstance(geometry, Mapping) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise ValueError("must have a Polygon or a MultiPolygon")
    try:
        found = shapely.force_2d(shape(dict(geometry)))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError("has coordinates that are not those of a polygon") from error
    if found.is_empty:
        raise ValueError("has an empty geometry")
    west, south, east, north = found.bounds
    if not (-540 <= west <= east <= 540 and -90 <= south <= north <= 90):  # NaN is refused as well
        raise ValueError(_BEYOND)
    if east - west > 360 + 1e-9:
        raise ValueError("is wider than 360 degrees of longitude")
    if not found.is_valid:
        raise ValueError(f"{_INVALID}: {shapely.is_valid_reason(found)}")
    return found


def _is_crs84(crs: Any) -> bool:
    """Return whether a ``crs`` member (GeoJSON of 2008) names longitudes and latitudes of WGS 84."""
    name = (
        crs.get("properties", {}).get("name") if isinstance(crs, Mapping) and isinstance(crs.get("properties"), Mapping) else None
    )
    return isinstance(name, str) and name.upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326"))
