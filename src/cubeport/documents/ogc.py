"""OGC API documents: the part that is stored when a cube is sealed, and the part that a request adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from cubeport.cubes import reprojected
from cubeport.cubes.calendars import canonical as calendar_named
from cubeport.cubes.calendars import gregorian, parse_stamp
from cubeport.cubes.description import Axis, CubeDescription, Temporal, Variable
from cubeport.cubes.edr.queries import QUERIES
from cubeport.cubes.forms import FORMS
from cubeport.cubes.windows import LATITUDE_FIRST, storage_crs, time_axis
from cubeport.documents import coveragejson
from cubeport.documents.coveragejson import CRS84, NERC, crs_uri, direction_of, ucum, unit_of
from cubeport.documents.json_types import (
    ConformanceJSON,
    CoverageCollectionJSON,
    CoverageCollectionsJSON,
    LandingPageJSON,
    LinkJSON,
    SealedCoverageJSON,
    SealedOgcJSON,
)
from cubeport.documents.texts import PublishedView

GREGORIAN = "http://www.opengis.net/def/uom/ISO-8601/0/Gregorian"
SCHEMA = "application/schema+json"
GEOJSON = "application/geo+json"
_REL = "http://www.opengis.net/def/rel/ogc/1.0/"
_SPEC = "http://www.opengis.net/spec/ogcapi-"

CRS84_WKT = (
    'GEOGCRS["WGS 84 (CRS84)",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563]],CS[ellipsoidal,2],'
    'AXIS["geodetic longitude (Lon)",east],AXIS["geodetic latitude (Lat)",north],'
    'UNIT["degree",0.0174532925199433],ID["OGC","CRS84"]]'
)
OUTPUT_FORMATS = tuple(form.name for form in FORMS)

CONFORMANCE = (
    f"{_SPEC}common-1/1.0/conf/core",
    f"{_SPEC}common-1/1.0/conf/landing-page",
    f"{_SPEC}common-1/1.0/conf/json",
    f"{_SPEC}common-1/1.0/conf/html",
    f"{_SPEC}common-2/1.0/conf/collections",
    f"{_SPEC}common-2/1.0/conf/uad-collections",
    f"{_SPEC}common-2/1.0/conf/simple-query",
    f"{_SPEC}features-1/1.0/conf/core",
    f"{_SPEC}features-1/1.0/conf/geojson",
    f"{_SPEC}features-1/1.0/conf/html",
    *(
        f"{scheme}{_SPEC.removeprefix('http')}coverages-1/1.0/conf/{name}"
        for scheme in ("http", "https")
        for name in (
            "core",
            "subsetting-spatial",
            "subsetting-temporal",
            "subsetting-general",
            "multi-slicing",
            "field-selection",
            "crs",
            "scaling-spatial",
            "coveragejson",
            "netcdf",
            "geotiff",
            "html",
        )
    ),
    *(
        f"{_SPEC}maps-1/1.0/conf/{name}"
        for name in (
            *("core", "collection-map", "styled-map", "scaling", "background", "spatial-subsetting", "datetime"),
            *("general-subsetting", "crs", "png", "tilesets"),
        )
    ),
    *(f"{_SPEC}processes-1/1.0/conf/{name}" for name in ("core", "ogc-process-description", "json", "html", "job-list", "dismiss")),
    *(f"{_SPEC}tiles-1/1.0/conf/{name}" for name in ("core", "tileset", "tilesets-list", "png")),
    *(
        f"{_SPEC}edr-1/{version}/conf/{name}"
        for version in ("1.1", "1.2")
        for name in ("core", "collections", "queries", "instances", "json", "covjson", "edr-geojson", "html")
    ),
)
"""The conformance classes. Each has a test with its name. The URIs of the Coverages draft begin with ``https``."""


def seal(description: CubeDescription) -> SealedOgcJSON:
    """Return the documents to store with a version: ``collection`` without texts and links, and the ``schema`` of its fields."""
    crs = storage_crs(description)
    collection: SealedCoverageJSON = {
        "extent": _extent(description),
        "crs": [CRS84] if crs in ("OGC:CRS84", "native") else [crs_uri(crs), CRS84],
        "storageCrs": None if crs == "native" else crs_uri(crs),
        "parameter_names": {name: _parameter(description.variable(name)) for name in description.fields},
    }
    return {"collection": collection, "schema": _schema(description)}


def collection(shown: PublishedView, *, public_url: str) -> CoverageCollectionJSON:
    """Return the description of one collection, with texts and links."""
    kept = _kept(shown)["collection"]
    name = shown.coverage_name
    base = f"{public_url}/ogcapi/collections/{name}"
    texts = shown.texts
    # A grid whose reference system has no URI gets this one, which bbox-crs also accepts.
    own = crs_uri("native", base)
    document: CoverageCollectionJSON = {
        "id": name,
        "title": texts.title,
        "description": _described(texts.description, shown.description.temporal),
        "itemType": "feature",
        "extent": kept["extent"],
        "crs": list(dict.fromkeys([*([own, CRS84] if kept["storageCrs"] is None else kept["crs"]), *_carried(shown)])),
        "storageCrs": kept["storageCrs"] or own,
        "parameter_names": kept["parameter_names"],
        # The forms are those of this release, not of the release that sealed the version.
        "output_formats": list(OUTPUT_FORMATS),
        "data_queries": _data_queries(shown, base),
        "links": _collection_links(shown, base, public_url),
    }
    if texts.keywords:
        document["keywords"] = list(texts.keywords)
    if texts.attribution:
        document["attribution"] = texts.attribution
    return document


def _described(text: str, temporal: Temporal | None) -> str:
    """Return the description with what the steps of a climatology are: the interval of the extent is that of their labels."""
    statistic = None if temporal is None else temporal.statistic
    return text if statistic is None else f"{text.rstrip().rstrip('.')}. Climatology: {statistic}."


def collections(
    page: Iterable[PublishedView], *, public_url: str, links: Sequence[LinkJSON], matched: int | None
) -> CoverageCollectionsJSON:
    """Return one page of collections with complete descriptions."""
    described = [collection(shown, public_url=public_url) for shown in page]
    document: CoverageCollectionsJSON = {"collections": described, "links": list(links), "numberReturned": len(described)}
    if matched is not None:
        document["numberMatched"] = matched
    return document


def instances(shown: PublishedView, versions: Iterable[PublishedView], *, public_url: str) -> dict[str, Any]:
    """Return the versions of a collection as instances with complete descriptions. The id is that of the version."""
    base = f"{public_url}/ogcapi/collections/{shown.coverage_name}"
    found = [
        {**collection(each, public_url=public_url), "id": each.version.version_id, "title": f"{each.texts.title}: version {number}"}
        for each in versions
        for number in [each.seq or each.version.version_id[:8]]
    ]
    return {
        "instances": found,
        "links": [link(f"{base}/instances", "self", "Its versions"), link(base, "collection", shown.texts.title)],
    }


def schema(shown: PublishedView, *, public_url: str) -> dict[str, Any]:
    """Return the fields of the coverage as JSON Schema."""
    kept = _kept(shown)["schema"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{public_url}/ogcapi/collections/{shown.coverage_name}/schema",
        "title": shown.texts.title,
        **kept,
    }


def landing(*, title: str, description: str, public_url: str) -> LandingPageJSON:
    """Return the landing page of the OGC face."""
    base = f"{public_url}/ogcapi"
    links = [
        link(base, "self", "This document"),
        link(f"{base}/conformance", "conformance", "Conformance classes"),
        link(f"{base}/conformance", f"{_REL}conformance", "Conformance classes"),
        link(f"{base}/collections", "data", "Collections"),
        link(f"{base}/collections", f"{_REL}data", "Collections"),
        link(f"{base}/processes", f"{_REL}processes", "Processes"),
        link(f"{base}/jobs", f"{_REL}job-list", "Jobs of processes"),
        link(f"{public_url}/openapi.json", "service-desc", "API definition", "application/vnd.oai.openapi+json;version=3.1"),
        link(f"{public_url}/stac", "service-meta", "The same data as a STAC catalog"),
        link(public_url or "/", "about", title),
    ]
    return {"title": title, "description": description, "links": links}


def conformance() -> ConformanceJSON:
    """Return the conformance declaration."""
    return {"conformsTo": list(CONFORMANCE)}


def link(href: str, rel: str, title: str, media_type: str = "application/json") -> LinkJSON:
    """Return one link with all members."""
    return {"href": href, "rel": rel, "type": media_type, "title": title}


def _carried(shown: PublishedView) -> list[str]:
    """Return the reference systems of answers in addition to that of the data, if the data have a grid."""
    spatial = shown.description.spatial
    return [] if spatial.family == "none" or spatial.reach is not None else [crs_uri(each) for each in reprojected.OFFERED]


def _kept(shown: PublishedView) -> SealedOgcJSON:
    """Return the sealed documents. For versions that were sealed without them, they are made now."""
    kept: SealedOgcJSON | None = shown.sealed.get("ogc")
    return seal(shown.description) if kept is None else kept


def _collection_links(shown: PublishedView, base: str, public_url: str) -> list[LinkJSON]:
    name, title = shown.dataset_name, shown.texts.title
    links = [
        link(base, "self", title),
        link(f"{public_url}/ogcapi", "root", "OGC API"),
        link(f"{public_url}/ogcapi/collections", "parent", "Collections"),
        link(f"{base}/schema", f"{_REL}schema", "Fields", SCHEMA),
        link(f"{base}/items", "items", "Stations and named areas", GEOJSON),
        # OWSLib finds the collections of EDR by this relation.
        *([link(f"{base}/locations", "data", "EDR locations", GEOJSON)] if shown.description.spatial.family != "none" else []),
        *_coverage_links(shown.description, base),
        link(f"{base}/coverage?f=html", f"{_REL}coverage", "Coverage as a page", "text/html"),
        *(
            [
                link(f"{base}/map", f"{_REL}map", "Map", "image/png"),
                link(f"{base}/map/tiles", f"{_REL}tilesets-map", "Tiles of the map"),
                link(f"{base}/styles", f"{_REL}styles", "Styles of the map"),
                link(f"{public_url}/wms/{name}", "related", "Web Map Service 1.3.0", "text/xml"),
                link(f"{public_url}/wmts/{name}", "related", "Web Map Tile Service 1.0.0", "text/xml"),
            ]
            if shown.description.spatial.family != "none"
            else []
        ),
        *(
            link(f"{public_url}/ogcapi/collections/{each.coverage_name}", "related", f"{', '.join(each.description.fields)}")
            for each in shown.coverages()[1:]
        ),
        link(f"{public_url}/stac/collections/{name}", "describedby", "STAC Collection"),
        link(f"{public_url}/zarr/{name}", "enclosure", "Zarr", "application/vnd.zarr"),
    ]
    if shown.texts.license_url:
        links.append(link(shown.texts.license_url, "license", shown.texts.license, "text/html"))
    return links


def _coverage_links(description: CubeDescription, base: str) -> list[LinkJSON]:
    """Return a link to the coverage in each form that can have it: a GeoTIFF has one map, and a table has one kind of row."""
    found = []
    together = len({frozenset(description.variable(name).dimensions) for name in description.fields}) == 1
    for form in FORMS:
        query, title = {"f": form.name}, f"Coverage as {form.title}"
        if form.name == "geotiff":
            if (one := _one_map(description)) is None:
                continue
            chosen, words = one
            query, title = query | chosen, f"{words} as {form.title}"
        if (form.name == "csv" and not together) or (form.name == "covjson" and not coveragejson.takes(description)):
            continue
        found.append(link(f"{base}/coverage?{urlencode(query)}", f"{_REL}coverage", title, form.media_type))
    return found


_MOST_PIXELS = 1 << 24
"""A GeoTIFF of more pixels than this has no link. Who wants it can ask for it."""


def _one_map(description: CubeDescription) -> tuple[dict[str, str], str] | None:
    """Return the parameters of one map for programs that read GeoTIFF, at the first label of each axis besides x and y, and its
    title; ``None`` if the data have none.
    """
    spatial = description.spatial
    x, y = description.axis_of("x"), description.axis_of("y")
    straight = spatial.family in ("rectilinear", "projected") and x is not None and y is not None
    across = {each.dimension for each in (x, y) if each is not None} if straight else set(description.cell_dimensions)
    if spatial.reach is not None or len(across) < (2 if straight else 1) or any(each and each.scalar for each in (x, y)):
        return None
    if straight and any(each and each.size == 1 and not each.bounds for each in (x, y)):
        return None  # the width of its cells is unknown
    held = [description.variable(name) for name in description.fields]
    drawn = [each for each in held if across <= set(each.dimensions) and each.decoded_dtype[:1] in "iufb"]
    pixels = (
        math.prod(size for each, size in zip(drawn[0].dimensions, drawn[0].shape, strict=True) if each in across) if drawn else 0
    )
    if not 0 < pixels * len(drawn) <= _MOST_PIXELS:
        return None
    query, words = {}, []
    sizes = {each: size for one in drawn for each, size in zip(one.dimensions, one.shape, strict=True) if each not in across}
    for dimension, size in sizes.items():
        axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
        if size == 1:
            continue
        if axis is None or (axis.kind == "t" and axis is not time_axis(description)):
            return None
        if axis is time_axis(description) and description.temporal is not None:
            query["datetime"] = first = description.temporal.start
        else:
            ends = axis.values[0] if axis.values else axis.first if axis.first is not None else 0
            first = f'"{ends}"' if isinstance(ends, str) else repr(ends)
            query["subset"] = ",".join(filter(None, [query.get("subset"), f"{axis.name}({first})"]))
        words.append(f"{axis.name} {first}")
    if len(drawn) < len(held):
        query["properties"] = ",".join(each.name for each in drawn)
    even = straight and all(each is not None and each.regular and each.step for each in (x, y))
    if not even and spatial.family == "rectilinear":
        query["crs"] = reprojected.MERCATOR
    elif not even or not _has_code(description):
        query["crs"] = LATITUDE_FIRST
    return query, ", ".join(["One map of the coverage" if words else "Coverage", *words])


def _has_code(description: CubeDescription) -> bool:
    """Return whether GeoTIFF has a number for the reference system."""
    crs = description.spatial.crs
    authority, _, number = ((crs and crs.authority) or "").partition(":")
    return description.spatial.family == "rectilinear" or (authority == "EPSG" and number.isdigit() and int(number) < 32767)


def _data_queries(shown: PublishedView, base: str) -> dict[str, Any]:
    """Return the EDR queries of the collection; none if it has no horizontal position."""
    description: CubeDescription = shown.description
    if description.spatial.family == "none":
        return {}
    crs = description.spatial.system
    native = description.spatial.family == "projected" and crs is not None and crs.wkt2
    systems = [{"crs": crs_uri(storage_crs(description)), "wkt": crs.wkt2}] if native and crs and crs.authority else []
    found: dict[str, Any] = {}
    for kind in QUERIES:
        variables: dict[str, Any] = {
            "title": kind.title,
            "description": kind.text,
            "query_type": kind.name,
            "output_formats": list(OUTPUT_FORMATS),
            "default_output_format": FORMS[0].name,
            "crs_details": [*systems, {"crs": "CRS84", "wkt": CRS84_WKT}],
            **kind.link_variables(description),
        }
        to_query = link(f"{base}/{kind.name}", "data", f"{kind.title} query", FORMS[0].media_type)
        found[kind.name] = {"link": {**to_query, "variables": variables}}
    others = (
        (
            "locations",
            "Locations",
            "The stations of the data and the named areas that meet them, and values of each",
            OUTPUT_FORMATS,
        ),
        ("items", "Items", "The same places as features", ("geojson",)),
        ("instances", "Instances", "The retained versions of the data, and all queries of each", ("json",)),
    )
    for name, title, text, forms in others:
        about: dict[str, Any] = {
            "title": title,
            "description": text,
            "query_type": name,
            "output_formats": list(forms),
            "default_output_format": forms[0],
            "crs_details": [{"crs": "CRS84", "wkt": CRS84_WKT}],
        }
        media_type = "application/json" if name == "instances" else GEOJSON
        found[name] = {"link": {**link(f"{base}/{name}", "data", f"{title} query", media_type), "variables": about}}
    return found


# --- extents --------------------------------------------------------------------------------------------------------------


def _extent(description: CubeDescription) -> dict[str, Any]:
    spatial = description.spatial
    place: dict[str, Any] = {"crs": CRS84}
    if spatial.bbox is not None:
        place["bbox"] = [list(spatial.bbox)]
    if spatial.native_bbox is not None:
        place["storageCrsBbox"] = [list(spatial.native_bbox)]
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is not None and y is not None and spatial.family in ("rectilinear", "projected"):
        place["grid"] = [_grid(axis) for axis in (x, y)]
    extent: dict[str, Any] = {"spatial": place} if spatial.bbox is not None else {}
    time = time_axis(description)
    if description.temporal is not None:
        extent["temporal"] = _temporal(description.temporal)
    # Axes without a name in the standard have their own names, like all axes for ``subset`` except x, y and time.
    asked = {dimension for name in description.fields for dimension in description.variable(name).dimensions}
    for axis in description.axes:
        if axis is not time and axis not in (x, y) and not axis.scalar and axis.dimension in asked:
            key = "vertical" if axis.kind == "z" and "vertical" not in extent else axis.name
            if key not in extent:
                extent[key] = _vertical(axis) if key == "vertical" else _dimension(axis)
    return extent


def _grid(axis: Axis) -> dict[str, Any]:
    if axis.regular and axis.first is not None and axis.step is not None:
        return {"cellsCount": axis.size, "firstCoordinate": axis.first, "resolution": axis.step}
    if axis.values:
        return {"cellsCount": axis.size, "coordinates": list(axis.values)}
    only = {"coordinates": [axis.first]} if axis.size == 1 and axis.first is not None else {}
    return {"cellsCount": axis.size, **only}


def _temporal(temporal: Temporal) -> dict[str, Any]:
    interval = [_gregorian(end, temporal.calendar) for end in (temporal.start, temporal.end)]
    grid: dict[str, Any] = {"cellsCount": temporal.count}
    step = temporal.counted_step
    if step is not None and _is_gregorian(temporal, (temporal.start,), step=step):
        grid |= {"firstCoordinate": temporal.start, "resolution": step}
    elif temporal.step is None and temporal.values and _is_gregorian(temporal, temporal.values):
        grid["coordinates"] = list(temporal.values)
    return {"interval": [interval], "trs": GREGORIAN, "grid": grid}


def _is_gregorian(temporal: Temporal, labels: Sequence[str], *, step: str = "P1M") -> bool:
    """Return whether labels and step have the same meaning in the Gregorian calendar, the only one that ``trs`` can name.

    30 February does not exist in it, and steps of days differ after 28 February. In such cases only the number of steps can be
    given.
    """
    calendar = calendar_named(temporal.calendar) or "standard"
    if calendar in ("standard", "proleptic_gregorian"):
        return True
    return step[-1] in "MY" and "T" not in step and all(str(gregorian(parse_stamp(each, calendar))) == each for each in labels)


def _gregorian(label: str, calendar: str) -> str:
    """Return a label as an existing day: 30 February becomes the last day of the month."""
    return str(gregorian(parse_stamp(label, calendar_named(calendar) or "standard")))


def _vertical(axis: Axis) -> dict[str, Any]:
    """Return a vertical axis in EDR's form: strings, and a reference system."""
    low, high = _ends(axis)
    told = {"interval": [[str(low), str(high)]], "vrs": _vrs(axis), "grid": _grid(axis)}
    return told | ({"values": [str(value) for value in axis.values]} if axis.values else {})


def _vrs(axis: Axis) -> str:
    unit = ucum(axis.units or "") or axis.units or "1"
    name, direction = axis.long_name or axis.standard_name or axis.name, direction_of(axis).upper()
    return f"VERTCS['{name}',AXIS['{axis.name}',{direction}],UNIT['{unit}']]"


def _dimension(axis: Axis) -> dict[str, Any]:
    low, high = _ends(axis)
    definition = f"{NERC}{axis.standard_name}/" if axis.standard_name else f"{_REL}dimension#{axis.name}"
    told: dict[str, Any] = {"interval": [[low, high]], "definition": definition, "grid": _grid(axis)}
    unit = ucum(axis.units or "")
    return told | ({"unit": unit} if unit else {})


def _ends(axis: Axis) -> tuple[Any, Any]:
    """Return the outer edges; for text, the first and last label; for indices, the first and last index."""
    if axis.lower is not None and axis.upper is not None:
        return axis.lower, axis.upper
    if axis.values:
        return axis.values[0], axis.values[-1]
    return 0, max(0, axis.size - 1)


# --- fields ---------------------------------------------------------------------------------------------------------------


def _schema(description: CubeDescription) -> dict[str, Any]:
    properties = {name: _field(description.variable(name), at) for at, name in enumerate(description.fields, 1)}
    return {"type": "object", "properties": properties}


def _field(variable: Variable, at: int) -> dict[str, Any]:
    kind = variable.decoded_dtype.lower()
    numbers = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
    field: dict[str, Any] = {
        "title": variable.title,
        "type": numbers.get(kind[:1], "string"),
        "x-ogc-propertySeq": at,
    }
    if variable.units:
        field["x-ogc-unit"] = ucum(variable.units) or variable.units
    if variable.standard_name:
        field["x-ogc-definition"] = f"{NERC}{variable.standard_name.split()[0]}/"
    if variable.valid_min is not None and variable.valid_max is not None:
        field["x-ogc-statistics"] = {"minimum": variable.valid_min, "maximum": variable.valid_max}
    return field


def _parameter(variable: Variable) -> dict[str, Any]:
    """Return EDR's description of a field."""
    label = variable.title
    known = f"{NERC}{variable.standard_name.split()[0]}/" if variable.standard_name else variable.name
    unit = unit_of(variable.units)
    if unit is not None and "label" in unit:
        unit = {**unit, "label": unit["label"]["en"]}
    described: dict[str, Any] = {"type": "Parameter", "id": variable.name, "description": label}
    described["observedProperty"] = {"id": known, "label": label}
    return described | ({"unit": unit} if unit else {})
