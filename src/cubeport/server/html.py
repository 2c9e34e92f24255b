"""Pages for people, as bytes from values: everything that a page needs comes from here, and there is no inline code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from cubeport.cubes.description import BoundingBox
from cubeport.documents import native as documents
from cubeport.documents.texts import PublishedView
from cubeport.server import replies
from cubeport.server.parts import Parts


def dataset(parts: Parts, detail: documents.DatasetDetail, shown: PublishedView) -> bytes:
    """Return the page of one dataset."""
    links = {link.rel: link.href for link in detail.links}
    ways = [{"href": href, "title": _WAYS[rel]} for rel, href in links.items() if rel in _WAYS]
    return rendered(
        "dataset.html",
        parts,
        it=detail,
        bbox=shown.description.spatial.bbox,
        coverage=shown.coverage_name,
        **_pictures(parts, shown),
        license=license_text(detail.license, detail.license_url),
        pinned=shown.version.version_id if shown.pinned else None,
        newest=f"{parts.public_url}/datasets/{detail.dataset_id}?f=html",
        links=links,
        ways=[*ways, {"href": f"{links['self']}?f=json", "title": "JSON"}],
        snippets=list(_snippets(parts.public_url, detail, shown)) if detail.publication.status == "published" else [],
        ld=_linked_data(detail, links),
    )


def _pictures(parts: Parts, shown: PublishedView) -> Mapping[str, str | None]:
    """Return the addresses of map, legend and thumbnail; none where there is no place, or nobody may see the dataset yet."""
    if parts.pictures is None or shown.description.spatial.bbox is None or not shown.published:
        return {"map": None, "legend": None, "thumbnail": None}
    dataset_id = shown.texts.dataset_id
    name = f"{dataset_id}@{shown.version.version_id}" if shown.pinned else dataset_id
    return {
        "map": f"{parts.public_url}/ogcapi/collections/{name}/map",
        "legend": f"{parts.public_url}/datasets/{name}/legend",
        "thumbnail": f"{parts.public_url}/datasets/{name}/thumbnail.png",
    }


def document(parts: Parts, path: str, value: Mapping[str, Any]) -> bytes:
    """Return a JSON document as a page: what it is, what it lists, what it links to, and the rest as it stands."""
    rest = dict(value)
    links = [each for each in rest.pop("links", ()) if isinstance(each, Mapping)]
    listed = [_entry(each) for name in _LISTED if isinstance(rest.get(name), list) for each in rest.pop(name)]
    title = next((str(rest[name]) for name in _TITLES if rest.get(name)), path)
    text = rest.get("description")
    return rendered(
        "document.html",
        parts,
        heading=title[:200],
        text=text if isinstance(text, str) and text != title else None,
        path=path,
        listed=listed,
        following=next((link for link in links if link.get("rel") == "next"), None),
        links=[link for link in links if link.get("rel") not in ("self", "next") and link.get("href")],
        rest={name: each for name, each in rest.items() if name not in ("title", "description")},
    )


_LISTED = ("items", "collections", "features", "entries")
_TITLES = ("title", "dataset_name", "name", "id", "dataset_id", "extent_id", "version_id", "ingestion_id", "kind")


def _entry(value: Any) -> Mapping[str, Any]:
    """Return what a list shows of one thing: its name, its address and a line about it."""
    if not isinstance(value, Mapping):
        return {"name": str(value), "href": None, "text": None}
    links = [each for each in value.get("links") or () if isinstance(each, Mapping)]
    href = value.get("href") or next((link.get("href") for link in links if link.get("rel") == "self"), None)
    properties = value.get("properties")
    titled = properties if isinstance(properties, Mapping) and "title" in properties else value
    return {
        "name": short(str(next((titled[name] for name in _TITLES if titled.get(name)), "?"))),
        "href": href,
        "text": value.get("description") or value.get("created_at") or value.get("status"),
    }


def problem(parts: Parts, document: Mapping[str, Any]) -> bytes:
    """Return a problem document as a page: what went wrong, where, and where to go instead."""
    return rendered(
        "failure.html", parts, it=document, alternatives=[_way_out(each) for each in document.get("alternatives") or ()]
    )


def _way_out(alternative: Any) -> Mapping[str, str | None]:
    if not isinstance(alternative, Mapping):
        return {"href": str(alternative) if str(alternative).startswith("http") else None, "text": str(alternative)}
    href = next((str(alternative[name]) for name in ("href", "url", "link") if alternative.get(name)), None)
    texts = [str(alternative[name]) for name in ("title", "description", "what") if alternative.get(name)]
    return {"href": href, "text": texts[0] if texts else href}


def short(text: str) -> str:
    """Return a text with each 32 hex digits of a version shortened to eight: enough for people to tell them apart."""
    return _HEX.sub(lambda found: f"{found[0][:8]}…", text)


_HEX = re.compile(r"\b[0-9a-f]{32}\b")

_WAYS = {"zarr": "Zarr", "stac": "STAC", "ogc-collection": "OGC API", "download": "NetCDF file"}


def _snippets(url: str, detail: documents.DatasetDetail, shown: PublishedView) -> Iterable[Mapping[str, str]]:
    name, pinned = detail.dataset_id, f"{detail.dataset_id}@{shown.version.version_id}"
    yield {
        "title": "xarray",
        "code": "# pip install xarray zarr fsspec aiohttp\nimport xarray as xr\n\n"
        f'cube = xr.open_dataset("{url}/zarr/{name}.zarr", engine="zarr", chunks=None)\n'
        f'pinned = xr.open_dataset("{url}/zarr/{pinned}.zarr", engine="zarr", chunks=None)',
    }
    yield {
        "title": "STAC with pystac-client",
        "code": f'# pip install pystac-client\nimport pystac_client\n\ncatalog = pystac_client.Client.open("{url}/stac")\n'
        f'collection = catalog.get_collection("{name}")\nprint(collection.assets["zarr"].href)',
    }
    if shown.description.spatial.family != "none":
        yield {"title": "QGIS: Layer, Add WMS/WMTS Layer, New", "code": f"{url}/wms/{name}"}
    yield {
        "title": "curl",
        "code": f"curl -OJ '{url}/datasets/{name}/download'\n"
        f"curl '{url}/ogcapi/collections/{name}'\n"
        f"curl '{url}/zarr/{pinned}/zarr.json'",
    }


def _linked_data(detail: documents.DatasetDetail, links: Mapping[str, str]) -> Markup:
    document: dict[str, Any] = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": detail.dataset_name,
        "description": detail.description,
        "identifier": detail.doi or detail.dataset_id,
        "url": links["self"],
        "keywords": list(detail.keywords),
        "version": detail.latest_version,
        "variableMeasured": [v.standard_name or v.name for v in detail.variables],
    }
    if detail.license_url:
        document["license"] = detail.license_url
    if detail.extent.temporal:
        document["temporalCoverage"] = f"{detail.extent.temporal.start}/{detail.extent.temporal.end}"
    # A text may say </script>: inside it, < is written as JSON can write it too.
    return Markup(replies.dumps(document).decode().replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704


def card(shown: PublishedView, url: str) -> Mapping[str, Any]:
    """Return a dataset as the landing page shows it."""
    it = documents.summary(shown, url)
    links = [{"href": link.href, "title": _WAYS[link.rel]} for link in it.links if link.rel in _WAYS]
    when = it.extent.temporal
    return {
        "id": it.dataset_id,
        "page": f"{url}/datasets/{it.dataset_id}?f=html",
        "title": it.dataset_name,
        "description": it.description if it.description != it.dataset_name else None,
        "variables": ", ".join(v.name for v in it.variables),
        "period": _span(when) if when else None,
        "resolution": it.resolution,
        "license": license_text(it.license, None),
        "bbox": shown.description.spatial.bbox,
        "links": links,
    }


def license_text(license: str, url: str | None) -> str:
    """Return a licence for people. ``various`` and ``other`` without an address are what is kept when none was stated."""
    return "not stated" if license in ("various", "other") and url is None else license


def _span(periods: documents.Periods) -> str:
    first, last = (str(each).removesuffix("T00:00:00Z") for each in (periods.start, periods.end))
    return first if first == last else f"{first} to {last}"


def _boxes(box: BoundingBox) -> list[tuple[float, float, float, float]]:
    """Return the rectangles of *box* on a map whose y points down: two when it crosses the antimeridian."""
    west, south, east, north = box
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return [(a, -north, max(b - a, 1.0), max(north - south, 1.0)) for a, b in spans]


def _view(box: BoundingBox) -> tuple[float, float, float, float]:
    """Return the part of the world that a small map shows (x, y, width, height): at least 60° wide, twice as wide as high."""
    west, south, east, north = box
    if west > east or east - west > 100 or north - south > 50:
        return -180.0, -90.0, 360.0, 180.0
    width = max(60.0, 3 * (east - west), 6 * (north - south))
    if width >= 360:
        return -180.0, -90.0, 360.0, 180.0
    height = width / 2
    x = min(max((west + east) / 2 - width / 2, -180.0), 180.0 - width)
    y = min(max(-(south + north) / 2 - height / 2, -90.0), 90.0 - height)
    return round(x, 3), round(y, 3), round(width, 3), round(height, 3)


def _place(box: BoundingBox) -> str:
    west, south, east, north = box
    return f"{_degrees(south, 'SN')} to {_degrees(north, 'SN')}, {_degrees(west, 'WE')} to {_degrees(east, 'WE')}"


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.4g}° {letters[value > 0]}" if value else "0°"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cubeport.server"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals |= {"parts": _boxes, "place": _place, "span": _span, "view": _view}
    environment.filters["short"] = short
    return environment


def rendered(name: str, parts: Parts, **values: Any) -> bytes:
    """Return the page that a template makes of *values*."""
    site = {"title": parts.title, "description": parts.description, "url": parts.public_url, "version": parts.version}
    return _environment().get_template(name).render(site=site, **values).encode()
