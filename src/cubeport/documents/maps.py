"""Documents for maps: tile matrix sets, tilesets, TileJSON, legends (OGC API Tiles 1.0; TileJSON 3.0)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from cubeport.cubes.pictures.looks import Look
from cubeport.cubes.pictures.places import CRS84, MERCATOR, MERCATOR_M, Canvas
from cubeport.documents.markup import legal
from cubeport.documents.titles import titled

_REL = "http://www.opengis.net/def/rel/ogc/1.0/"

TILE = 256
MOST_ZOOM = 18
TILE_MATRIX_SETS: dict[str, tuple[str, str, str]] = {
    "WebMercatorQuad": (
        MERCATOR,
        "http://www.opengis.net/def/crs/EPSG/0/3857",
        "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad",
    ),
    "WorldCRS84Quad": (
        CRS84,
        "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
        "http://www.opengis.net/def/tilematrixset/OGC/1.0/WorldCRS84Quad",
    ),
}
"""By name: the reference system, its URI, and the URI of the set (OGC Two Dimensional Tile Matrix Set, Annex D)."""

_PIXEL_M = 0.00028
"""The pixel size on which scale denominators are based, in metres."""
_DEGREE_M = 111319.49079327358


def tile(tms: str, zoom: int, row: int, column: int) -> Canvas | None:
    """Return the canvas of a tile, or ``None`` if the set has no such tile."""
    wide, high = _tiles(tms, zoom) if tms in TILE_MATRIX_SETS and 0 <= zoom <= MOST_ZOOM else (0, 0)
    if not (0 <= row < high and 0 <= column < wide):
        return None
    west, north, size = _origin(tms, zoom)
    left, top = west + column * size, north - row * size
    return Canvas((left, top - size, left + size, top), TILE, TILE, TILE_MATRIX_SETS[tms][0])


def _tiles(tms: str, zoom: int) -> tuple[int, int]:
    return (2**zoom, 2**zoom) if tms == "WebMercatorQuad" else (2 ** (zoom + 1), 2**zoom)


def _origin(tms: str, zoom: int) -> tuple[float, float, float]:
    """Return west, north and the width of a tile."""
    if tms == "WebMercatorQuad":
        return -MERCATOR_M, MERCATOR_M, 2 * MERCATOR_M / 2**zoom
    return -180.0, 90.0, 180.0 / 2**zoom


def tile_matrix_set(tms: str) -> dict[str, Any]:
    """Return the definition of a tile matrix set."""
    _, crs, uri = TILE_MATRIX_SETS[tms]
    matrices = []
    for zoom in range(MOST_ZOOM + 1):
        west, north, size = _origin(tms, zoom)
        wide, high = _tiles(tms, zoom)
        metres = 1.0 if tms == "WebMercatorQuad" else _DEGREE_M
        matrices.append(
            {
                "id": str(zoom),
                "scaleDenominator": size / TILE * metres / _PIXEL_M,
                "cellSize": size / TILE,
                "cornerOfOrigin": "topLeft",
                "pointOfOrigin": [west, north],
                "tileWidth": TILE,
                "tileHeight": TILE,
                "matrixWidth": wide,
                "matrixHeight": high,
            }
        )
    return {"id": tms, "title": tms, "uri": uri, "crs": crs, "orderedAxes": ["X", "Y"], "tileMatrices": matrices}


def tile_matrix_sets(public_url: str) -> dict[str, Any]:
    """Return the list of the sets."""
    found = []
    for name, (_, crs, uri) in TILE_MATRIX_SETS.items():
        href = f"{public_url}/ogcapi/tileMatrixSets/{name}"
        link = {"rel": "self", "type": "application/json", "title": name, "href": href}
        found.append({"id": name, "title": name, "uri": uri, "crs": crs, "links": [link]})
    return {"tileMatrixSets": found}


def tileset(name: str, title: str, tms: str, public_url: str, query: str) -> dict[str, Any]:
    """Return the tileset of a map. The URLs of its tiles contain *query*."""
    _, crs, uri = TILE_MATRIX_SETS[tms]
    base = f"{public_url}/ogcapi/collections/{name}/map/tiles/{tms}"
    kept = f"?{query}" if query else ""
    template = f"{base}/{{tileMatrix}}/{{tileRow}}/{{tileCol}}{kept}"
    return {
        "title": title,
        "dataType": "map",
        "crs": crs,
        "tileMatrixSetURI": uri,
        "links": [
            {"rel": "self", "type": "application/json", "title": f"Tiles in {tms}", "href": f"{base}{kept}"},
            {"rel": "item", "type": "image/png", "title": "Tiles", "href": template, "templated": True},
            {
                "rel": "http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme",
                "type": "application/json",
                "title": tms,
                "href": f"{public_url}/ogcapi/tileMatrixSets/{tms}",
            },
        ],
    }


def tilejson(name: str, title: str, bbox: Sequence[float], attribution: str | None, public_url: str, query: str) -> dict[str, Any]:
    """Return TileJSON 3.0 of a map in Web Mercator; *bbox* in CRS84."""
    west, south, east, north = bbox
    kept = f"?{query}" if query else ""
    crosses = west > east
    document: dict[str, Any] = {
        "tilejson": "3.0.0",
        "name": title,
        "tiles": [f"{public_url}/ogcapi/collections/{name}/map/tiles/WebMercatorQuad/{{z}}/{{y}}/{{x}}{kept}"],
        "minzoom": 0,
        "maxzoom": MOST_ZOOM,
        "bounds": [-180.0 if crosses else west, max(-85.0511, south), 180.0 if crosses else east, min(85.0511, north)],
        "scheme": "xyz",
    }
    return document | ({"attribution": attribution} if attribution else {})


SVG = "image/svg+xml"

NO_VALUES = "no values"
"""What the legend of a field says that has none."""

DEFAULT_STYLE = "default"
"""The look of the dataset."""


def styles(base: str, title: str, own: str, names: Sequence[str], legend_url: str) -> dict[str, Any]:
    """Return the styles of a collection at *base*: its look, whose palette is *own*, and each palette by its name."""
    listed = [(DEFAULT_STYLE, f"{title}, as it is shown here ({own})"), *((name, name) for name in names)]
    found = []
    for name, text in listed:
        at = f"{base}/styles/{name}/map"
        found.append(
            {
                "id": name,
                "title": text,
                "links": [
                    {"rel": f"{_REL}map", "type": "image/png", "title": f"Map: {text}", "href": at},
                    {"rel": f"{_REL}tilesets-map", "type": "application/json", "title": f"Tiles: {text}", "href": f"{at}/tiles"},
                    *([{"rel": f"{_REL}legend", "type": SVG, "title": "Legend", "href": legend_url}] * (name == "default")),
                ],
            }
        )
    self_link = {"rel": "self", "type": "application/json", "title": "Styles", "href": f"{base}/styles"}
    return {"default": DEFAULT_STYLE, "styles": found, "links": [self_link]}


def legend(field: str, title: str, units: str | None, look: Look) -> dict[str, Any]:
    """Return the legend as a document. A field without values has no range and no stops."""
    return {
        "field": field,
        "title": title,
        "units": units,
        "palette": look.palette,
        "range": None if look.empty else [look.low, look.high],
        "scale": "log" if look.logarithmic else "linear",
        "beyond": "hide" if look.hide_beyond else "clamp",
        "stops": [] if look.empty else look.stops(),
        **({"meanings": list(look.meanings)} if look.meanings else {}),
    }


_LETTERS = 38
"""Letters that fit into the width of a legend, in a wide font."""


def legend_svg(title: str, units: str | None, look: Look) -> bytes:
    """Return the legend as an SVG picture: a colour bar with the values below it, or a row for each class. A field without values
    has neither, and says so.
    """
    colours = ["#" + bytes(each).hex() for each in look.colours()[1:].tolist()]
    label, shown = (escape(legal(titled(title, units, most=most))) for most in (None, _LETTERS))
    if look.empty:
        return _svg(label, shown, 36, f'<text x="0" y="36">{NO_VALUES}</text>')
    if look.flags:
        words = look.meanings or tuple(f"{value:g}" for value in look.flags)
        rows = [
            f'<rect x="0" y="{24 + 20 * n}" width="16" height="14" fill="{colour}"/>'
            f'<text x="24" y="{36 + 20 * n}">{escape(legal(word.replace("_", " ")))}</text>'
            for n, (colour, word) in enumerate(zip(colours, words, strict=False))
        ]
        return _svg(label, shown, 24 + 20 * len(rows), "".join(rows))
    stops = "".join(f'<stop offset="{n / 32:.4f}" stop-color="{colours[round(n / 32 * (len(colours) - 1))]}"/>' for n in range(33))
    # As many values as fit side by side.
    values = next(found for count in (5, 3, 2) if _fit(found := [f"{each:g}" for each in look.stops(count)]) or count == 2)
    last = len(values) - 1
    anchors = ("start", *["middle"] * (last - 1), "end")
    texts = "".join(
        f'<text x="{n / last * 280:.0f}" y="56" text-anchor="{anchor}">{value}</text>'
        for n, (value, anchor) in enumerate(zip(values, anchors, strict=True))
    )
    bar = '<rect x="0" y="24" width="280" height="14" fill="url(#bar)"/>'
    return _svg(label, shown, 62, f'<defs><linearGradient id="bar">{stops}</linearGradient></defs>{bar}{texts}')


def _fit(labels: Sequence[str]) -> bool:
    """Return whether labels fit below the bar of 280 pixels, with a gap of a digit. A digit is at most 7.7 pixels wide.

    The first and the last stand within the bar, the others around their values.
    """
    widths, last = [7.7 * len(each) for each in labels], len(labels) - 1
    lefts = [n / last * 280 - width * (n / last if n in (0, last) else 0.5) for n, width in enumerate(widths)]
    return all(lefts[n] + widths[n] + 7.7 <= lefts[n + 1] for n in range(last))


def coast_svg(canvas: Canvas, lines: Sequence[Any], graticule: Sequence[Any], labels: Sequence[tuple[int, int, str]] = ()) -> bytes:
    """Return lines and labels in pixels of the canvas as an SVG picture of its size, without a margin."""
    style = (
        "path{fill:none;stroke:#1d313b;stroke-linejoin:round;opacity:.85}.grid{opacity:.3}"
        "text{font:11px system-ui,sans-serif;text-anchor:middle;fill:#1d313b;stroke:#fff;stroke-width:3px;stroke-opacity:.7;"
        "paint-order:stroke}@media(prefers-color-scheme:dark){path{stroke:#dfe9ed}text{fill:#dfe9ed;stroke:#101c22}}"
    )
    grid = f'<path class="grid" d="{_path(graticule)}"/>' if graticule else ""
    words = "".join(f'<text x="{x}" y="{y + 4}">{label}</text>' for x, y, label in labels)
    return _earth(canvas, style, f'<path d="{_path(lines)}"/>{grid}{words}')


def land_svg(canvas: Canvas, rings: Sequence[Any]) -> bytes:
    """Return rings in pixels of the canvas as a filled SVG picture of its size, which lies below the data."""
    style = "path{fill:#c3d8df;fill-rule:evenodd}@media(prefers-color-scheme:dark){path{fill:#35525e}}"
    return _earth(canvas, style, f'<path d="{_path(rings)}"/>')


def _path(lines: Sequence[Any]) -> str:
    return "".join(
        f"M{line[0][0]} {line[0][1]}l{' '.join(f'{x} {y}' for x, y in zip(steps[::2], steps[1::2], strict=True))}"
        for line in lines
        for steps in [(line[1:] - line[:-1]).ravel().tolist()]
    ).replace(" -", "-")


def _earth(canvas: Canvas, style: str, body: str) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {canvas.width} {canvas.height}" width="{canvas.width}" '
        f'height="{canvas.height}" preserveAspectRatio="none">'
        "<!-- Natural Earth (naturalearthdata.com, public domain), 1:50 million -->"
        f"<style>{style}</style>{body}</svg>"
    ).encode()


def _svg(label: str, shown: str, height: int, body: str) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="296" height="{height + 8}" viewBox="-8 -4 296 {height + 8}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif" font-size="12">'
        # A ground of its own, because nobody knows on what it is shown.
        "<style>.ground{fill:#fff}text{fill:#14252e}"
        "@media(prefers-color-scheme:dark){.ground{fill:#17262e}text{fill:#e6eef1}}</style>"
        f'<rect class="ground" x="-8" y="-4" width="296" height="{height + 8}"/>'
        f'<text x="0" y="14">{shown}</text>{body}</svg>'
    ).encode()
