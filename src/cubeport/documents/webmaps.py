"""Capabilities of the OGC Web Map Service 1.3.0 (06-042) and of the Web Map Tile Service 1.0.0 (07-057r7) of one dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from cubeport.documents.maps import MOST_ZOOM, TILE, TILE_MATRIX_SETS, tile_matrix_set

XML = "text/xml"
INFO_FORMATS = ("application/json", "text/plain", "text/html")
"""The formats of GetFeatureInfo, the default first."""
_HREF = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
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

    @property
    def values(self) -> str:
        """The values for the capabilities of a WMS: an interval of even times, otherwise all labels."""
        return self.extent or ",".join(self.labels)

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


def _tag(name: str, text: str, attributes: str = "") -> str:
    return f"<{name}{' ' + attributes if attributes else ''}>{escape(text)}</{name}>"


def _online(href: str) -> str:
    return f'<OnlineResource {_HREF} xlink:type="simple" xlink:href={quoteattr(href)}/>'


def _flat(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return a box that does not cross 180°; a box that crosses it becomes the full circle."""
    west, south, east, north = box
    return (-180.0, south, 180.0, north) if west > east else box


# --- WMS ------------------------------------------------------------------------------------------------------------------


def wms(title: str, text: str, layers: Iterable[Layer], address: str, *, most_side: int, attribution: str | None = None) -> bytes:
    """Return the capabilities document of the map service at *address*."""
    get = f"<DCPType><HTTP><Get>{_online(f'{address}?')}</Get></HTTP></DCPType>"
    requests = (("GetCapabilities", (XML,)), ("GetMap", ("image/png",)), ("GetFeatureInfo", INFO_FORMATS))
    operations = "".join(f"<{name}>{''.join(_tag('Format', each) for each in formats)}{get}</{name}>" for name, formats in requests)
    credit = f"<Attribution>{_tag('Title', attribution)}</Attribution>" if attribution else ""
    found = list(layers)
    systems = list(dict.fromkeys(system for layer in found for system in layer.systems))
    root = (
        f"<Layer>{_tag('Title', title)}{''.join(_tag('CRS', each) for each in systems)}"
        f"{_boxes(found[0].bbox) if found else ''}{credit}{''.join(_wms_layer(each) for each in found)}</Layer>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<WMS_Capabilities version="1.3.0" xmlns="http://www.opengis.net/wms" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'{_HREF} xsi:schemaLocation="http://www.opengis.net/wms http://schemas.opengis.net/wms/1.3.0/capabilities_1_3_0.xsd">'
        f"<Service><Name>WMS</Name>{_tag('Title', title)}{_tag('Abstract', text)}{_online(address)}"
        f"{_tag('MaxWidth', str(most_side))}{_tag('MaxHeight', str(most_side))}</Service>"
        f"<Capability><Request>{operations}</Request><Exception><Format>XML</Format></Exception>{root}</Capability>"
        "</WMS_Capabilities>"
    ).encode()


def _boxes(box: tuple[float, float, float, float]) -> str:
    west, south, east, north = (f"{each:.10g}" for each in _flat(box))
    return (
        f"<EX_GeographicBoundingBox><westBoundLongitude>{west}</westBoundLongitude><eastBoundLongitude>{east}</eastBoundLongitude>"
        f"<southBoundLatitude>{south}</southBoundLatitude><northBoundLatitude>{north}</northBoundLatitude></EX_GeographicBoundingBox>"
        f'<BoundingBox CRS="CRS:84" minx="{west}" miny="{south}" maxx="{east}" maxy="{north}"/>'
        f'<BoundingBox CRS="EPSG:4326" minx="{south}" miny="{west}" maxx="{north}" maxy="{east}"/>'
    )


def _wms_layer(layer: Layer) -> str:
    dimensions = "".join(
        f"<Dimension name={quoteattr(each.name)} units={quoteattr(each.units)}"
        f"{f' unitSymbol={quoteattr(each.symbol)}' if each.symbol else ''} default={quoteattr(each.default)}>"
        f"{escape(each.values)}</Dimension>"
        for each in layer.dimensions
    )
    styles = "".join(
        f"<Style>{_tag('Name', name)}{_tag('Title', title)}{_legend(layer) if name == 'default' else ''}</Style>"
        for name, title in _styles(layer)
    )
    return (
        f'<Layer queryable="1">{_tag("Name", layer.name)}{_tag("Title", layer.title)}'
        f"{''.join(_tag('CRS', each) for each in layer.systems)}{_boxes(layer.bbox)}{dimensions}{styles}</Layer>"
    )


def _styles(layer: Layer) -> Sequence[tuple[str, str]]:
    others = [name for name in _SHOWN_STYLES if name in layer.palettes and name != layer.palette]
    return (("default", layer.palette), *((f"raster/{name}", name) for name in others))


def _legend(layer: Layer) -> str:
    return f'<LegendURL width="280" height="62">{_tag("Format", "image/svg+xml")}{_online(layer.legend)}</LegendURL>'


def wms_problem(code: str | None, text: str) -> bytes:
    """Return a service exception report (06-042, annex E.2)."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ServiceExceptionReport version="1.3.0" xmlns="http://www.opengis.net/ogc">'
        f"<ServiceException{f' code={quoteattr(code)}' if code else ''}>{escape(text)}</ServiceException></ServiceExceptionReport>"
    ).encode()


# --- WMTS -----------------------------------------------------------------------------------------------------------------


def wmts(title: str, text: str, layers: Iterable[Layer], address: str) -> bytes:
    """Return the capabilities document of the tile service at *address*. Its tiles are those of OGC API Tiles."""
    encoding = (
        '<ows:Constraint name="GetEncoding"><ows:AllowedValues><ows:Value>KVP</ows:Value></ows:AllowedValues></ows:Constraint>'
    )
    operations = "".join(
        f'<ows:Operation name="{name}"><ows:DCP><ows:HTTP><ows:Get xlink:href={quoteattr(f"{address}?")}>{encoding}</ows:Get>'
        "</ows:HTTP></ows:DCP></ows:Operation>"
        for name in ("GetCapabilities", "GetTile")
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Capabilities version="1.0.0" xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
        f'{_HREF} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.opengis.net/wmts/1.0 '
        'http://schemas.opengis.net/wmts/1.0/wmtsGetCapabilities_response.xsd">'
        f"<ows:ServiceIdentification>{_tag('ows:Title', title)}{_tag('ows:Abstract', text)}"
        "<ows:ServiceType>OGC WMTS</ows:ServiceType><ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>"
        "</ows:ServiceIdentification>"
        f"<ows:OperationsMetadata>{operations}</ows:OperationsMetadata>"
        f"<Contents>{''.join(_wmts_layer(each) for each in layers)}{''.join(map(_matrix_set, TILE_MATRIX_SETS))}</Contents>"
        f"<ServiceMetadataURL xlink:href={quoteattr(f'{address}/1.0.0/WMTSCapabilities.xml')}/></Capabilities>"
    ).encode()


def _wmts_layer(layer: Layer) -> str:
    west, south, east, north = (f"{each:.10g}" for each in _flat(layer.bbox))
    styles = "".join(
        f"<Style{' isDefault=' + chr(34) + 'true' + chr(34) if name == 'default' else ''}>{_tag('ows:Title', title)}"
        f"{_tag('ows:Identifier', name)}"
        + (f'<LegendURL format="image/svg+xml" xlink:href={quoteattr(layer.legend)}/>' if name == "default" else "")
        + "</Style>"
        for name, title in _styles(layer)
    )
    dimensions = "".join(
        f"<Dimension>{_tag('ows:Identifier', each.identifier)}{_tag('Default', each.default)}"
        f"{''.join(_tag('Value', label) for label in each.labels)}</Dimension>"
        for each in layer.dimensions
    )
    asked = "&".join(_parameter(each) for each in layer.dimensions)
    template = f"{layer.map_tiles}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}?properties={layer.name}"
    template += f"&{asked}" if asked else ""
    return (
        f"<Layer>{_tag('ows:Title', layer.title)}<ows:WGS84BoundingBox><ows:LowerCorner>{west} {south}</ows:LowerCorner>"
        f"<ows:UpperCorner>{east} {north}</ows:UpperCorner></ows:WGS84BoundingBox>{_tag('ows:Identifier', layer.name)}{styles}"
        f"<Format>image/png</Format>{dimensions}"
        + "".join(f"<TileMatrixSetLink>{_tag('TileMatrixSet', name)}</TileMatrixSetLink>" for name in TILE_MATRIX_SETS)
        + f'<ResourceURL format="image/png" resourceType="tile" template={quoteattr(template)}/></Layer>'
    )


def _parameter(dimension: Dimension) -> str:
    """Return the URL parameter of OGC API Tiles for a label of the dimension."""
    hole = f"{{{dimension.identifier}}}"
    return f"datetime={hole}" if dimension.name == "time" else f"subset={dimension.axis}({hole})"


def _matrix_set(name: str) -> str:
    definition = tile_matrix_set(name)
    urn = "urn:ogc:def:crs:EPSG::3857" if name == "WebMercatorQuad" else "urn:ogc:def:crs:OGC:1.3:CRS84"
    scales = (
        "<WellKnownScaleSet>urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible</WellKnownScaleSet>" if name == "WebMercatorQuad" else ""
    )
    matrices = "".join(
        f"<TileMatrix>{_tag('ows:Identifier', each['id'])}{_tag('ScaleDenominator', repr(each['scaleDenominator']))}"
        f"{_tag('TopLeftCorner', ' '.join(map(repr, each['pointOfOrigin'])))}"
        f"<TileWidth>{TILE}</TileWidth><TileHeight>{TILE}</TileHeight>"
        f"<MatrixWidth>{each['matrixWidth']}</MatrixWidth><MatrixHeight>{each['matrixHeight']}</MatrixHeight></TileMatrix>"
        for each in definition["tileMatrices"][: MOST_ZOOM + 1]
    )
    return f"<TileMatrixSet>{_tag('ows:Identifier', name)}{_tag('ows:SupportedCRS', urn)}{scales}{matrices}</TileMatrixSet>"


def wmts_problem(code: str, locator: str | None, text: str) -> bytes:
    """Return an exception report of OWS 1.1 (06-121r3)."""
    where = f" locator={quoteattr(locator)}" if locator else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ExceptionReport xmlns="http://www.opengis.net/ows/1.1" version="1.1.0">'
        f"<Exception exceptionCode={quoteattr(code)}{where}>{_tag('ExceptionText', text)}</Exception></ExceptionReport>"
    ).encode()
