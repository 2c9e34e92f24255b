"""Places of a coverage as GeoJSON: its stations, and the named areas that intersect its data (EDR 8.2.9, OGC API Features 1,
7.15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cubeport.cubes.description import BoundingBox, Temporal
from cubeport.cubes.forms import FORMS
from cubeport.cubes.zones import ZoneSet
from cubeport.documents.json_types import LinkJSON
from cubeport.documents.ogc import GEOJSON, link
from cubeport.documents.texts import PublishedView


@dataclass(frozen=True, slots=True)
class Area:
    """A named area of the instance."""

    extent_id: str
    name: str | None
    description: str | None
    bbox: BoundingBox
    geometry: Mapping[str, Any] | None

    def meets(self, box: BoundingBox) -> bool:
        """Return whether its box intersects another; both may cross 180°."""
        return any(
            a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a in unrolled(self.bbox) for b in unrolled(box)
        )

    @property
    def shape(self) -> Mapping[str, Any]:
        """GeoJSON: its geometry, else its box, cut at 180° if it crosses."""
        if self.geometry is not None:
            return self.geometry
        rings = [
            [[[west, south], [east, south], [east, north], [west, north], [west, south]]]
            for west, south, east, north in unrolled(self.bbox)
        ]
        return {"type": "Polygon", "coordinates": rings[0]} if len(rings) == 1 else {"type": "MultiPolygon", "coordinates": rings}

    @property
    def wkt(self) -> str:
        """Its geometry as in a query: a box that crosses 180° continues beyond it."""
        import shapely
        import shapely.geometry

        if self.geometry is None:
            west, south, east, north = self.bbox
            return str(shapely.to_wkt(shapely.box(west, south, east + (360 if east < west else 0), north), rounding_precision=-1))
        return str(shapely.to_wkt(shapely.geometry.shape(dict(self.geometry)), rounding_precision=-1))


def areas_of(zones: ZoneSet) -> tuple[Area, ...]:
    """Return the zones of a set as areas with the id ``{set}:{zone}``; a ``/`` in the id of a zone becomes ``-``.

    Zones may have longitudes beyond 180°. The box of an area crosses 180° instead.
    """
    import shapely.geometry

    found = []
    for each in zones.zones:
        west, south, east, north = map(float, each.geometry.bounds)
        box = (-180.0, south, 180.0, north) if east - west >= 360 else (_turned(west), south, _turned(east), north)
        name = f"{zones.id}:{each.id.replace('/', '-')}"
        found.append(Area(name, each.name, None, box, shapely.geometry.mapping(each.geometry)))
    return tuple(found)


def _turned(lon: float) -> float:
    """Return a longitude within ±180."""
    return lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180


def unrolled(box: BoundingBox) -> list[BoundingBox]:
    """Return a box that may cross 180° as boxes that do not."""
    west, south, east, north = box
    return [box] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


@dataclass(frozen=True, slots=True)
class Spot:
    """A station as a feature."""

    name: str
    lon: float
    lat: float
    properties: Mapping[str, Any]

    @property
    def wkt(self) -> str:
        """Its position as in a query."""
        return f"POINT({self.lon!r} {self.lat!r})"


type Place = Area | Spot


def name_of(place: Place) -> str:
    """Return the id of the place in addresses."""
    return place.extent_id if isinstance(place, Area) else place.name


def feature(shown: PublishedView, place: Place, *, public_url: str) -> dict[str, Any]:
    """Return the place as a feature with links to its values."""
    name = name_of(place)
    base = f"{public_url}/ogcapi/collections/{shown.coverage_name}"
    values = f"{base}/locations/{quote(name)}"
    if isinstance(place, Area):
        geometry: Mapping[str, Any] = place.shape
        title = place.name or name
        own: dict[str, Any] = {"name": title, **({"description": place.description} if place.description else {})}
    else:
        geometry, title = {"type": "Point", "coordinates": [place.lon, place.lat]}, name
        own = {"name": title, **{key: value for key, value in place.properties.items() if key != "name"}}
    return {
        "type": "Feature",
        "id": name,
        "geometry": geometry,
        "properties": {
            **own,
            "datetime": _span(shown.description.temporal),
            "parameter-name": list(shown.description.fields),
            "edrqueryendpoint": values,
        },
        "links": [
            link(f"{base}/items/{quote(name)}", "self", title, GEOJSON),
            link(values, "data", title, FORMS[0].media_type),
        ],
    }


def locations(shown: PublishedView, places: Iterable[Place], *, public_url: str) -> dict[str, Any]:
    """Return the places as the answer of ``…/locations``."""
    base = f"{public_url}/ogcapi/collections/{shown.coverage_name}/locations"
    features = [feature(shown, each, public_url=public_url) for each in places]
    return {
        "type": "FeatureCollection",
        "features": features,
        "links": [link(base, "self", "Stations and named areas", GEOJSON)],
        "numberReturned": len(features),
        "numberMatched": len(features),
    }


def items(
    shown: PublishedView, places: Sequence[Place], *, public_url: str, links: Sequence[LinkJSON], matched: int, stamp: str
) -> dict[str, Any]:
    """Return one page of the places as features (OGC API Features 1, 7.15). *stamp*: when they became what they are."""
    return {
        "type": "FeatureCollection",
        "features": [feature(shown, each, public_url=public_url) for each in places],
        "links": [*links, _up(shown, public_url)],
        "timeStamp": stamp,
        "numberMatched": matched,
        "numberReturned": len(places),
    }


def item(shown: PublishedView, place: Place, *, public_url: str) -> dict[str, Any]:
    """Return one place as a feature (OGC API Features 1, 7.16)."""
    found = feature(shown, place, public_url=public_url)
    return {**found, "links": [*found["links"], _up(shown, public_url)]}


def _up(shown: PublishedView, public_url: str) -> LinkJSON:
    return link(f"{public_url}/ogcapi/collections/{shown.coverage_name}", "collection", shown.texts.title)


def _span(temporal: Temporal | None) -> str | None:
    return None if temporal is None else f"{temporal.start}/{temporal.end}"
