"""Pages for people, as bytes from values: everything that a page needs comes from here, and there is no inline code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from cubeport.cubes.description import BoundingBox
from cubeport.documents import native as documents
from cubeport.documents.texts import Shown
from cubeport.server import replies
from cubeport.server.parts import Parts


def dataset(parts: Parts, detail: documents.DatasetDetail, shown: Shown) -> bytes:
    """Return the page of one dataset."""
    links = {link.rel: link.href for link in detail.links}
    ways = [{"href": href, "title": _WAYS[rel]} for rel, href in links.items() if rel in _WAYS]
    return rendered(
        "dataset.html",
        parts,
        it=detail,
        bbox=shown.description.spatial.bbox,
        links=links,
        ways=[*ways, {"href": f"{links['self']}?f=json", "title": "JSON"}],
        snippets=list(_snippets(parts.public_url, detail, shown)) if detail.publication.status == "published" else [],
        ld=_linked_data(detail, links),
    )


_WAYS = {"zarr": "Zarr", "stac": "STAC", "ogc-collection": "OGC API", "download": "NetCDF file"}


def _snippets(url: str, detail: documents.DatasetDetail, shown: Shown) -> Iterable[Mapping[str, str]]:
    name, pinned = detail.dataset_id, f"{detail.dataset_id}@{shown.version.version_id}"
    yield {
        "title": "xarray",
        "code": f'import xarray as xr\n\ncube = xr.open_dataset("{url}/zarr/{name}.zarr", engine="zarr", chunks=None)\n'
        f'same_for_ever = xr.open_dataset("{url}/zarr/{pinned}.zarr", engine="zarr", chunks=None)',
    }
    yield {
        "title": "STAC with pystac-client",
        "code": f'import pystac_client\n\ncatalog = pystac_client.Client.open("{url}/stac")\n'
        f'collection = catalog.get_collection("{name}")\nprint(collection.assets["zarr"].href)',
    }
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


def card(shown: Shown, url: str) -> Mapping[str, Any]:
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
        "license": it.license,
        "bbox": shown.description.spatial.bbox,
        "links": links,
    }


def _span(periods: documents.Periods) -> str:
    first, last = (str(each).removesuffix("T00:00:00Z") for each in (periods.start, periods.end))
    return first if first == last else f"{first} to {last}"


def _boxes(box: BoundingBox) -> list[tuple[float, float, float, float]]:
    """Return the rectangles of *box* on a map whose y points down: two when it crosses the antimeridian."""
    west, south, east, north = box
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return [(a, -north, max(b - a, 1.0), max(north - south, 1.0)) for a, b in spans]


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
    environment.globals |= {"parts": _boxes, "place": _place, "span": _span}
    return environment


def rendered(name: str, parts: Parts, **values: Any) -> bytes:
    """Return the page that a template makes of *values*."""
    site = {"title": parts.title, "description": parts.description, "url": parts.public_url, "version": parts.version}
    return _environment().get_template(name).render(site=site, **values).encode()
