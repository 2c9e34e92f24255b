"""Capabilities of the OGC Web Map Service 1.3.0 (06-042) and of the Web Map Tile Service 1.0.0 (07-057r7) of one dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cubeport.documents.maps import MOST_ZOOM, SVG, TILE, TILE_MATRIX_SETS, tile_matrix_set
from cubeport.documents.markup import Element, document, element

XML = "text/xml"
INFO_FORMATS = ("application/json", "text/plain", "text/html")
"""The formats of GetFeatureInfo, the default first."""
_XLINK = {"xmlns:xlink": "http://www.w3.org/1999/xlink", "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance"}
_SHOWN_STYLES = ("viridis", "magma", "gray", "balance", "RdBu", "YlGnBu", "YlOrRd", "thermal")
"""The palettes that are listed as styles, besides the default palette of each layer. Other names are also accepted."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """An axis along which a map shows one label."""

    name: str
    """``time``, ``elevation``, or the name of the axis, which requests write with the prefix ``DIM_``."""
    axis: str
    """The name of the axis in the store."""
    units: str
    symbol: str | None
    labels: tuple[str, ...]
    default: str
    extent: str | None = None
    """Evenly spaced times as ``start/end/step``."""
    listed: bool = True
    """Whether capabilities list it. The steps of forecasts are not listed, because the run and the time decide them."""
    nearest: bool = False
    """Whether a value between labels selects one of them, as on axes of numbers."""

    @property
    def values(self) -> str:
        """The values for the capabilities of a WMS: an interval of even times, otherwise all labels.

        They are separated by commas (06-042, table C.2), so a comma in a text is written as in addresses.
        """
        return self.extent or ",".join(each.replace("%", "%25").replace(",", "%2C") for each in self.labels)

    @property
    def identifier(self) -> str:
        """Its identifier in the WMTS."""
        return {"time": "Time", "elevation": "Elevation"}.get(self.name, self.name)


@dataclass(frozen=True, slots=True)
class Layer:
    """One field."""

    name: str
    title: str
    bbox: tuple[float, float, float, float]
    """CRS84; west > east crosses 180°."""
    systems: tuple[str, ...]
    """The listed reference systems as ``AUTHORITY:code``."""
    palette: str
    palettes: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    legend: str
    map_tiles: str
    """The URL of its tilesets, without the tile matrix set."""


def _online(href: str) -> Element:
    return element("OnlineResource", attributes={"xlink:type": "simple", "xlink:href": href})


def _each(name: str, texts: Iterable[str]) -> list[Element]:
    return [element(name, text) for text in texts]


def _flat(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return a box that does not cross 180°; a box that crosses it becomes the full circle."""
    west, south, east, north = box
    return (-180.0, south, 180.0, north) if west > east else box


# --- WMS ------------------------------------------------------------------------------------------------------------------


def wms(title: str, text: str, layers: Iterable[Layer], address: str, *, most_side: int, attribution: str | None = None) -> bytes:
    """Return the capabilities document of the map service at *address*."""
    operations = (("GetCapabilities", (XML,)), ("GetMap", ("image/png",)), ("GetFeatureInfo", INFO_FORMATS))
    service = element(
        "Service",
        element("Name", "WMS"),
        element("Title", title),
        element("Abstract", text),
        _online(address),
        element("MaxWidth", str(most_side)),
        element("MaxHeight", str(most_side)),
    )
    capability = element(
        "Capability",
        element("Request", *(_operation(name, formats, address) for name, formats in operations)),
        element("Exception", element("Format", "XML")),
        _wms_root(title, list(layers), attribution),
    )
    place = "http://www.opengis.net/wms http://schemas.opengis.net/wms/1.3.0/capabilities_1_3_0.xsd"
    attributes = {"version": "1.3.0", "xmlns": "http://www.opengis.net/wms", **_XLINK, "xsi:schemaLocation": place}
    return document(element("WMS_Capabilities", service, capability, attributes=attributes))


def _operation(name: str, formats: Iterable[str], address: str) -> Element:
    get = element("DCPType", element("HTTP", element("Get", _online(f"{address}?"))))
    return element(name, *_each("Format", formats), get)


def _wms_root(title: str, layers: Sequence[Layer], attribution: str | None) -> Element:
    return element(
        "Layer",
        element("Title", title),
        *_each("CRS", dict.fromkeys(system for layer in layers for system in layer.systems)),
        *(_boxes(layers[0].bbox) if layers else ()),
        *([element("Attribution", element("Title", attribution))] if attribution else ()),
        *map(_wms_layer, layers),
    )


def _boxes(box: tuple[float, float, float, float]) -> list[Element]:
    west, south, east, north = (f"{each:.10g}" for each in _flat(box))
    sides = (("west", "Longitude", west), ("east", "Longitude", east), ("south", "Latitude", south), ("north", "Latitude", north))
    corners = (("CRS:84", (west, south, east, north)), ("EPSG:4326", (south, west, north, east)))
    return [
        element("EX_GeographicBoundingBox", *(element(f"{side}Bound{axis}", number) for side, axis, number in sides)),
        *(
            element("BoundingBox", attributes={"CRS": crs, **dict(zip(("minx", "miny", "maxx", "maxy"), numbers, strict=True))})
            for crs, numbers in corners
        ),
    ]


def _wms_layer(layer: Layer) -> Element:
    return element(
        "Layer",
        element("Name", layer.name),
        element("Title", layer.title),
        *_each("CRS", layer.systems),
        *_boxes(layer.bbox),
        *map(_wms_dimension, layer.dimensions),
        *(_wms_style(layer, name, title) for name, title in _styles(layer)),
        attributes={"queryable": "1"},
    )


def _wms_dimension(dimension: Dimension) -> Element:
    attributes = {"name": dimension.name, "units": dimension.units}
    attributes |= {"unitSymbol": dimension.symbol} if dimension.symbol else {}
    attributes |= {"default": dimension.default, **({"nearestValue": "1"} if dimension.nearest else {})}
    return element("Dimension", dimension.values, attributes=attributes)


def _wms_style(layer: Layer, name: str, title: str) -> Element:
    legend = element("LegendURL", element("Format", SVG), _online(layer.legend), attributes={"width": "280", "height": "62"})
    return element("Style", element("Name", name), element("Title", title), *([legend] if name == "default" else ()))


def _styles(layer: Layer) -> Sequence[tuple[str, str]]:
    others = [name for name in _SHOWN_STYLES if name in layer.palettes and name != layer.palette]
    return (("default", layer.palette), *((f"raster/{name}", name) for name in others))


def wms_problem(code: str | None, text: str) -> bytes:
    """Return a service exception report (06-042, annex E.2)."""
    exception = element("ServiceException", text, attributes={"code": code} if code else {})
    attributes = {"version": "1.3.0", "xmlns": "http://www.opengis.net/ogc"}
    return document(element("ServiceExceptionReport", exception, attributes=attributes))


# --- WMTS -----------------------------------------------------------------------------------------------------------------


def wmts(title: str, text: str, layers: Iterable[Layer], address: str) -> bytes:
    """Return the capabilities document of the tile service at *address*. Its tiles are those of OGC API Tiles."""
    about = element(
        "ows:ServiceIdentification",
        element("ows:Title", title),
        element("ows:Abstract", text),
        element("ows:ServiceType", "OGC WMTS"),
        element("ows:ServiceTypeVersion", "1.0.0"),
    )
    place = "http://www.opengis.net/wmts/1.0 http://schemas.opengis.net/wmts/1.0/wmtsGetCapabilities_response.xsd"
    names = {"xmlns": "http://www.opengis.net/wmts/1.0", "xmlns:ows": "http://www.opengis.net/ows/1.1"}
    root = element(
        "Capabilities",
        about,
        element("ows:OperationsMetadata", *(_by_key_and_value(name, address) for name in ("GetCapabilities", "GetTile"))),
        element("Contents", *map(_wmts_layer, layers), *map(_matrix_set, TILE_MATRIX_SETS)),
        element("ServiceMetadataURL", attributes={"xlink:href": f"{address}/1.0.0/WMTSCapabilities.xml"}),
        attributes={"version": "1.0.0", **names, **_XLINK, "xsi:schemaLocation": place},
    )
    return document(root)


def _by_key_and_value(name: str, address: str) -> Element:
    values = element("ows:AllowedValues", element("ows:Value", "KVP"))
    encoding = element("ows:Constraint", values, attributes={"name": "GetEncoding"})
    get = element("ows:Get", encoding, attributes={"xlink:href": f"{address}?"})
    return element("ows:Operation", element("ows:DCP", element("ows:HTTP", get)), attributes={"name": name})


def _wmts_layer(layer: Layer) -> Element:
    west, south, east, north = (f"{each:.10g}" for each in _flat(layer.bbox))
    asked = "".join(f"&{_parameter(each)}" for each in layer.dimensions)
    template = f"{layer.map_tiles}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}?properties={layer.name}{asked}"
    box = element(
        "ows:WGS84BoundingBox", element("ows:LowerCorner", f"{west} {south}"), element("ows:UpperCorner", f"{east} {north}")
    )
    return element(
        "Layer",
        element("ows:Title", layer.title),
        box,
        element("ows:Identifier", layer.name),
        *(_wmts_style(layer, name, title) for name, title in _styles(layer)),
        element("Format", "image/png"),
        *map(_wmts_dimension, layer.dimensions),
        *(element("TileMatrixSetLink", element("TileMatrixSet", name)) for name in TILE_MATRIX_SETS),
        element("ResourceURL", attributes={"format": "image/png", "resourceType": "tile", "template": template}),
    )


def _wmts_style(layer: Layer, name: str, title: str) -> Element:
    named = element("ows:Title", title), element("ows:Identifier", name)
    if name != "default":
        return element("Style", *named)
    legend = element("LegendURL", attributes={"format": SVG, "xlink:href": layer.legend})
    return element("Style", *named, legend, attributes={"isDefault": "true"})


def _wmts_dimension(dimension: Dimension) -> Element:
    return element(
        "Dimension",
        element("ows:Identifier", dimension.identifier),
        element("Default", dimension.default),
        *_each("Value", dimension.labels),
    )


def _parameter(dimension: Dimension) -> str:
    """Return the URL parameter of OGC API Tiles for a label of the dimension."""
    hole = f"{{{dimension.identifier}}}"
    if dimension.name == "time":
        return f"datetime={hole}"
    quote = "" if all(map(_is_number, dimension.labels)) else "%22"
    return f"subset={dimension.axis}({quote}{hole}{quote})"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _matrix_set(name: str) -> Element:
    mercator = name == "WebMercatorQuad"
    urn = "urn:ogc:def:crs:EPSG::3857" if mercator else "urn:ogc:def:crs:OGC:1.3:CRS84"
    scales = [element("WellKnownScaleSet", "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible")] if mercator else []
    matrices = (
        element(
            "TileMatrix",
            element("ows:Identifier", each["id"]),
            element("ScaleDenominator", repr(each["scaleDenominator"])),
            element("TopLeftCorner", " ".join(map(repr, each["pointOfOrigin"]))),
            element("TileWidth", str(TILE)),
            element("TileHeight", str(TILE)),
            element("MatrixWidth", str(each["matrixWidth"])),
            element("MatrixHeight", str(each["matrixHeight"])),
        )
        for each in tile_matrix_set(name)["tileMatrices"][: MOST_ZOOM + 1]
    )
    return element("TileMatrixSet", element("ows:Identifier", name), element("ows:SupportedCRS", urn), *scales, *matrices)


def wmts_problem(code: str, locator: str | None, text: str) -> bytes:
    """Return an exception report of OWS 1.1 (06-121r3)."""
    where = {"locator": locator} if locator else {}
    exception = element("Exception", element("ExceptionText", text), attributes={"exceptionCode": code, **where})
    attributes = {"xmlns": "http://www.opengis.net/ows/1.1", "version": "1.1.0"}
    return document(element("ExceptionReport", exception, attributes=attributes))
