"""HTML pages as bytes, made from values. Everything that a page needs comes from this server, and there is no inline code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
from markupsafe import Markup

from cubeport.cubes.description import BoundingBox
from cubeport.cubes.forms import FORMS
from cubeport.cubes.zones import ZoneSet
from cubeport.documents import native as documents
from cubeport.documents.licences import in_words
from cubeport.documents.tables.forms import TABLE_FORMS
from cubeport.documents.texts import PublishedView
from cubeport.errors import CubeportError
from cubeport.server.parts import Parts


@dataclass(frozen=True, slots=True)
class Site:
    """What every page says about the service."""

    public_url: str
    title: str
    description: str
    version: str
    """The release of cubeport."""


def document(
    parts: Parts, path: str, value: Mapping[str, Any], *, query: str = "", crumbs: Sequence[tuple[str, str | None]] = ()
) -> bytes:
    """Return a JSON document as a page: its title, its lists, its links, and the rest unchanged.

    Parameters
    ----------
    query
        Of the request, without its ``f``.
    crumbs
        The way to this page: names, and the paths of those that are pages.
    """
    rest = {name: each for name, each in value.items() if name not in _COUNTS}
    links = [each for each in rest.pop("links", ()) if isinstance(each, Mapping)]
    empty = None if any(value.get(name) for name in _LISTED) or not any(name in value for name in _LISTED) else _EMPTY.get(path, "")
    # Only a page that is about nothing else begins with them.
    classes = [] if path.endswith("/conformance") else [str(each) for each in rest.pop("conformsTo", ())]
    listed = [_entry(each) for name in _LISTED if isinstance(rest.get(name), list) for each in rest.pop(name)]
    if path.startswith("/dataset-templates/"):
        address = f"{parts.public_url}/datasets"
        listed += [
            {"name": each, "href": f"{address}/{each}?f=html", "text": "made from it"} for each in rest.pop("datasets", None) or ()
        ]
    dataset = next((found[1] for each in _OF_DATASETS if (found := each.match(path))), None)
    title = _heading(path) or next((str(rest[name]) for name in _TITLES if rest.get(name)), path)
    text = rest.get("description")
    return rendered(
        "document.html",
        parts,
        heading=title[:200],
        text=text if isinstance(text, str) and text != title else None,
        path=path,
        crumbs=crumbs,
        dataset=dataset,
        listed=listed,
        empty=empty,
        following=next(
            (link for link in links if link.get("rel") == "next"), _continued(f"{parts.public_url}{path}", query, rest, len(listed))
        ),
        links=[
            {**link, "rel": _relation(str(link.get("rel", "")))}
            for link in links
            # A page cannot send a POST.
            if link.get("rel") not in ("self", "next") and link.get("href") and link.get("method", "GET") == "GET"
        ],
        facts=_facts(value),
        faces=[each for each in (value.get("assets") or {}).values() if each.get("href")] if _is_collection(value) else [],
        closed=_is_collection(value),
        classes=classes,
        rest={name: each for name, each in rest.items() if name not in ("title", "description")},
    )


def _relation(rel: str) -> str:
    """Return a link relation for people: of one that OGC registered as an address, its last word."""
    return (
        rel.rpartition("/")[2] if rel.startswith(("http://www.opengis.net/def/rel/", "https://www.opengis.net/def/rel/")) else rel
    )


def _is_collection(value: Mapping[str, Any]) -> bool:
    """Return whether a document is a collection of STAC or of OGC API: a dataset, in a form for programs."""
    return isinstance(value.get("extent"), Mapping) and "id" in value and (value.get("type") == "Collection" or "crs" in value)


def _facts(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what people want to know of a collection first: its place, its time, its variables and its licence."""
    if not _is_collection(value):
        return []
    space, time = (value["extent"].get(name) or {} for name in ("spatial", "temporal"))
    box, ends = next(iter(space.get("bbox") or ()), None), next(iter(time.get("interval") or ()), None)
    axes = (value.get("cube:dimensions") or {}).values()
    # STAC demands a box, so data without a place have that of the world.
    if box == [-180, -90, 180, 90] and "cube:dimensions" in value and not any(each.get("axis") in ("x", "y") for each in axes):
        box = None
    variables = value.get("parameter_names") or {
        name: each for name, each in (value.get("cube:variables") or {}).items() if each.get("type") == "data"
    }
    license_url = next((link.get("href") for link in value.get("links") or () if link.get("rel") == "license"), None)
    # STAC has no word for a licence that nobody stated: it is 'other' too.
    unstated = value.get("license") == "other" and license_url is None and not value.get("attribution")
    found = (
        ("Where", _place(tuple(box)) if box and len(box) == 4 else None),
        ("When", _span(documents.Periods(start=ends[0], end=ends[1])) if ends and None not in ends else None),
        ("Variables", _few(list(variables))),
        ("Licence", in_words(None if unstated else value["license"], license_url) if "license" in value else None),
    )
    return [(name, text) for name, text in found if text]


def _continued(address: str, query: str, rest: dict[str, Any], count: int) -> Mapping[str, str] | None:
    """Return the link to what follows in a list that continues with ``next_cursor``; ``None`` at its end, which may grow."""
    cursor = rest.pop("next_cursor", None)
    if cursor is None or not count:
        return None
    kept = [(name, text) for name, text in parse_qsl(query) if name not in ("cursor", "wait")]
    return {"href": f"{address}?{urlencode([*kept, ('cursor', cursor), ('f', 'html')])}"}


def values(
    parts: Parts,
    path: str,
    query: str,
    price: Mapping[str, Any],
    rows: Sequence[Sequence[str]],
    *,
    form: str | None = None,
    no_table: str | None = None,
    without: AbstractSet[str] = frozenset(),
    placed: bool = True,
) -> bytes:
    """Return values as a page.

    Parameters
    ----------
    path, query
        Of the request, without its ``f``.
    price
        The estimate.
    rows
        The first line of the values as CSV, and lines of values; none of values that are many.
    form
        The form of the file that was chosen on the page of the dataset.
    no_table
        Why the values are not shown as a table.
    without
        The names of forms that cannot represent these values.
    placed
        Whether the data have a place, so that there are maps of them.
    """
    kept = f"{query}&" if query else ""
    collection = path.split("/")[3]
    # A map draws one slice, so a part of time has none; and a field of its own choice where several were asked for.
    drawn = [part for part in query.split("&") if part.startswith(("bbox=", "datetime="))]
    one = placed and path.endswith("/coverage") and not any("%2F" in part.upper() or "/" in part for part in drawn)
    return rendered(
        "values.html",
        parts,
        heading=f"Values of {collection}",
        size=_bytes(price["bytes"]),
        form=next((each.title for each in FORMS if each.name == price["format"]), price["format"]),
        path=path,
        query=query,
        price=price,
        rows=rows,
        no_table=no_table,
        map=f"/ogcapi/collections/{collection}/map?{'&'.join([*drawn, 'width=720'])}" if one else None,
        collection=collection,
        forms=[
            {"title": form.title, "href": f"{path}?{kept}f={form.name}", "type": form.media_type}
            for form in FORMS
            if form.name not in without
        ],
        alternatives=[_way_out(each) for each in price.get("alternatives") or ()],
        address=f"{parts.public_url}{path}?{kept}f={form or price['format']}",
        dataset=collection.partition("@")[0].partition(":")[0],
    )


def plot(parts: Parts, shown: PublishedView, query: str, rows: Sequence[Sequence[str]], count: int) -> bytes:
    """Return the page of a plot.

    Parameters
    ----------
    query
        Of the request, without its ``f``.
    rows
        The first line of the values as CSV, and the first lines of values.
    count
        How many lines of values there are.
    """
    kept = parse_qsl(query)
    given = dict(kept)
    view = {name: given[name] for name in ("v", "t", "z", "subset", "at") if name in given and "/" not in given[name]}
    return rendered(
        "plot.html",
        parts,
        title=shown.texts.title,
        dataset=shown.dataset_name,
        at=given.get("at") if shown.description.spatial.family != "none" else None,
        field=given.get("v") or shown.description.fields[0],
        plot=f"/datasets/{shown.dataset_name}/plot?{urlencode(kept)}",
        narrow=f"/datasets/{shown.dataset_name}/plot?{urlencode([*(each for each in kept if each[0] != 'w'), ('w', '360')])}",
        csv=f"/datasets/{shown.dataset_name}/plot?{urlencode([*kept, ('f', 'csv')])}",
        view=f"/datasets/{shown.dataset_name}?{urlencode([*view.items(), ('f', 'html')])}",
        height=320 if "t" not in given or "/" in given["t"] else 480,
        rows=rows,
        count=count,
    )


def table(parts: Parts, shown: PublishedView, query: str, rows: Sequence[Sequence[str]], count: int) -> bytes:
    """Return the page of a table by zones; its parameters are those of :func:`plot`."""
    address, kept = f"/datasets/{shown.dataset_name}/table", parse_qsl(query)
    return rendered(
        "table.html",
        parts,
        title=shown.texts.title,
        dataset=shown.dataset_name,
        zones=dict(kept).get("zones"),
        files=[
            {"title": each.title, "href": f"{address}?{urlencode([*kept, ('f', each.name)])}", "type": each.media_type}
            for each in TABLE_FORMS
            if each.name != "dhis2" or "data-element" in dict(kept)  # it names the elements, which only the caller knows
        ],
        rows=rows,
        count=count,
    )


_COUNTS = ("kind", "number_returned", "numberReturned")
"""Members that say on a page only what everybody sees."""

_OF_DATASETS = (
    re.compile(r"/(?:stac|ogcapi)/collections/([^/@:]+)"),
    re.compile(r"/datasets/([^/@:]+)/"),
    re.compile(r"/(?:zarr|zarr-v2|geozarr)/([^/@:]+)"),
)
"""The paths of documents about one dataset."""

_EMPTY: Mapping[str, str] = {
    "/zones": "cubeport zones add districts.geojson",
    "/datasets": "cubeport ingest FILES --id NAME",
}
"""What fills a list that is empty, as a command on the machine of the service."""

_HEADINGS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), heading)
    for pattern, heading in (
        (r"/datasets", "Datasets"),
        (r"/datasets/([^/]+)/versions", "Versions of {}"),
        (r"/records", "Records"),
        (r"/records/([^/]+)/(history|lineage|artifacts)", "{1} of a record"),
        (r"/dataset-templates", "Sources that can be ingested"),
        (r"/extent", "Named areas"),
        (r"/zones", "Zone sets: areas for tables"),
        (r"/changes", "Changes, oldest first"),
        (r"/ingestions", "Ingestions"),
        (r"/recipes", "Recipes: how a dataset is made of others"),
        (r"/derived", "Derived datasets"),
        (r"/webhooks", "Webhooks"),
        (r"/info", "About this service"),
        (r"/stac", "STAC catalog"),
        (r"/ogcapi", "OGC API"),
        (r"/(?:stac|ogcapi)/conformance", "Conformance: the parts of the standards that work here"),
        (r"/stac/collections", "STAC Collections"),
        (r"/stac/collections/([^/]+)/items", "Items of {}: one for each version"),
        (r"/stac/search", "Items found"),
        (r"/ogcapi/collections", "Collections"),
        (r"/ogcapi/collections/([^/]+)/schema", "Schema of {}"),
        (r"/ogcapi/collections/([^/]+)/instances", "Versions of {}"),
        (r"/ogcapi/collections/([^/]+)/(?:locations|items)", "Places of {}"),
        (r"/ogcapi/collections/([^/]+)/styles", "Styles of the map of {}"),
        (r"/ogcapi/collections/([^/]+)(?:/styles/[^/]+)?/map/tiles", "Map tiles of {}"),
        (r"/ogcapi/tileMatrixSets", "Tile matrix sets"),
        (r"/ogcapi/processes", "Processes"),
        (r"/ogcapi/jobs", "Jobs of processes"),
        (r"/zarr/([^/]+)", "Zarr store of {}"),
        (r"/geozarr/([^/]+)", "GeoZarr view of {}"),
        (r"/zarr-v2/([^/]+)", "Zarr v2 view of {}"),
    )
)
"""Headings of pages whose documents have no title of their own."""


def _heading(path: str) -> str | None:
    for pattern, heading in _HEADINGS:
        if found := pattern.fullmatch(path.rstrip("/")):
            text = heading.format(*found.groups())
            return text[:1].upper() + text[1:]
    return None


def _bytes(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2g} {unit}" if count < 10 * size else f"{count / size:,.0f} {unit}"
    return f"{count} bytes"


_LISTED = ("conformsTo", "items", "collections", "features", "entries", "artifacts")
_TITLES = (
    "title",
    "dataset_name",
    "name",
    "id",
    "dataset_id",
    "extent_id",
    "version_id",
    "ingestion_id",
    "zone_set_id",
    "original_name",
    "artifact_id",
    "kind",
)


def _entry(value: Any) -> Mapping[str, Any]:
    """Return the entry of one object in a list: its name, its URL and one line about it."""
    if not isinstance(value, Mapping):
        return {"name": str(value), "href": str(value) if str(value).startswith(("https://", "http://")) else None, "text": None}
    links = [each for each in value.get("links") or () if isinstance(each, Mapping)]
    href = value.get("href") or next((link.get("href") for link in links if link.get("rel") == "self"), None)
    properties = value.get("properties")
    titled = properties if isinstance(properties, Mapping) and "title" in properties else value
    linked = next((link["title"] for link in links if link.get("rel") == "self" and link.get("title")), None)
    name = str(next((titled[name] for name in _TITLES if titled.get(name)), linked or href or "without a name"))
    made = value.get("created_at")
    facts = (
        value.get("description"),
        f"made {made[:16].replace('T', ' ')} UTC" if isinstance(made, str) and "description" not in value else None,
        value.get("kind") if "version_id" in value else None,
        value.get("state"),
        f"{value['zones']} zones" if "zone_set_id" in value else None,
        f"{value['type']} ({value['reason']})" if "reason" in value and "cursor" in value else None,
        f"{value['time'][:16].replace('T', ' ')} UTC" if "reason" in value and "cursor" in value else None,
        ", ".join(f"tag {each}" for each in value.get("tags") or ()) if "version_id" in value else None,
        value.get("status"),
    )
    text = " · ".join(str(each) for each in facts if each and each != name)
    return {"name": short(name), "href": href, "text": text or None}


_MOST_ZONES = 500
"""Zones that a page lists; the GeoJSON has all."""


def zone_set(parts: Parts, found: ZoneSet) -> bytes:
    """Return a zone set as a page: its zones by name, and where a table of them is made."""
    return rendered("zones.html", parts, it=found, zones=found.zones[:_MOST_ZONES], more=max(len(found.zones) - _MOST_ZONES, 0))


_MOST_NAMES = 12
"""Variables that a card of the list names; the page of the dataset has all."""


def _dataset_of(parts: Parts, path: str) -> str | None:
    """Return the dataset that a path is about, if it is published: a way back from what is not found in it."""
    found = next((found[1] for each in _OF_DATASETS if (found := each.match(f"{path.partition('@')[0]}/"))), None)
    try:
        return None if found is None else parts.service.shown(found).texts.dataset_id
    except CubeportError:
        return None


def _few(names: Sequence[str]) -> str:
    """Return names for a card: all, or the first ones and how many more there are."""
    return (
        ", ".join(names)
        if len(names) <= _MOST_NAMES + 1
        else f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
    )


def problem(parts: Parts, document: Mapping[str, Any], path: str) -> bytes:
    """Return a problem document as a page: what went wrong, where, and what to do next. *path* is that of the request."""
    # What a program does next, a person does by a link below.
    detail = re.sub(r" ?Next: GET http\S+$", "", str(document["detail"]))
    sought = document.get("dataset_id") if document["status"] == 404 and document.get("what") == "dataset" else None
    alternatives = [_way_out(each) for each in document.get("alternatives") or ()]
    similar = [{"href": f"{parts.public_url}/datasets/{each}?f=html", "text": each} for each in document.get("similar") or ()]
    return rendered(
        "failure.html",
        parts,
        it=document,
        detail=detail,
        sought=sought,
        alternatives=similar or alternatives,
        similar=similar,
        dataset=_dataset_of(parts, path),
    )


def _way_out(alternative: Any) -> Mapping[str, str | None]:
    if not isinstance(alternative, Mapping):
        return {"href": str(alternative) if str(alternative).startswith("http") else None, "text": str(alternative)}
    href = next((str(alternative[name]) for name in ("href", "url", "link") if alternative.get(name)), None)
    if alternative.get("method", "GET") != "GET":  # a page cannot send it
        return {"href": None, "text": f"{alternative.get('title')} ({alternative['method']} {href})"}
    texts = [str(alternative[name]) for name in ("title", "description", "what") if alternative.get(name)]
    return {"href": href, "text": texts[0] if texts else href}


def short(text: str) -> str:
    """Return a text with the 32 hex digits of versions shortened to eight, which is enough for people."""
    return _HEX.sub(lambda found: f"{found[0][:8]}…", text)


_HEX = re.compile(r"\b[0-9a-f]{32}\b")

_WAYS = {"zarr": "Zarr", "stac": "STAC", "ogc-collection": "OGC API", "opendap": "OPeNDAP", "download": "NetCDF file"}


def card(shown: PublishedView, parts: Parts) -> Mapping[str, Any]:
    """Return the entry of a dataset on the landing page."""
    url = parts.public_url
    it = documents.summary(shown, url)
    links = [{"href": link.href, "title": _WAYS[link.rel]} for link in it.links if link.rel in _WAYS]
    when = it.extent.temporal
    return {
        "id": it.dataset_id,
        "page": f"{url}/datasets/{it.dataset_id}?f=html",
        "title": it.dataset_name,
        "description": lead(it.description) if it.description != it.dataset_name else None,
        "variables": _few([v.name for v in it.variables]),
        "period": _span(when) if when else None,
        "resolution": it.resolution,
        "license": in_words(it.license, shown.texts.license_url),
        "bbox": shown.description.spatial.bbox,
        "thumbnail": f"/datasets/{shown.texts.dataset_id}/thumbnail.png" if drawn(parts, shown) else None,
        "links": links,
    }


def lead(text: str) -> str:
    """Return the beginning of a description, up to the end of a word: the page of the dataset has all of it."""
    return text if len(text) <= _LEAD else f"{text[:_LEAD].rpartition(' ')[0] or text[:_LEAD]}…"


_LEAD = 320
"""Letters of a description in a list, and above the map of a dataset."""


def drawn(parts: Parts, shown: PublishedView) -> bool:
    """Return whether there are pictures of a dataset."""
    spatial = shown.description.spatial
    return parts.pictures is not None and spatial.family != "none" and spatial.bbox is not None and bool(shown.description.fields)


def _span(periods: documents.Periods) -> str:
    first, last = (str(each).removesuffix("T00:00:00Z") for each in (periods.start, periods.end))
    return first if first == last else f"{first} to {last}"


def _boxes(box: BoundingBox) -> list[tuple[float, float, float, float]]:
    """Return the rectangles of *box* on a map with y pointing down; two if the box crosses the antimeridian."""
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


def frame(box: BoundingBox) -> tuple[float, float, float, float]:
    """Return the part of the world that the map of a dataset shows at first (x, y, width, height): its box with a margin, 2:1.

    A single place has no width: around it, the map shows enough of the coast to know where it is.
    """
    west, south, east, north = box
    east += 360 if east < west else 0
    least = 4.0 if east > west or north > south else 30.0
    width = min(360.0, max(1.15 * (east - west), 2.3 * (north - south), least))
    height = width / 2
    y = -(south + north) / 2 - height / 2
    return round((west + east) / 2 - width / 2, 4), round(min(max(y, -90.0), 90.0 - height), 4), round(width, 4), round(height, 4)


def _place(box: BoundingBox) -> str:
    west, south, east, north = box
    return ", ".join(
        " to ".join(dict.fromkeys(_degrees(each, letters) for each in ends))
        for ends, letters in (((south, north), "SN"), ((west, east), "WE"))
    )


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.4g}°\N{NO-BREAK SPACE}{letters[value > 0]}" if value else "0°"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cubeport.server"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals |= {"parts": _boxes, "place": _place, "span": _span, "view": _view}
    environment.filters["short"] = short
    environment.filters["options"] = _options
    return environment


def whole(label: str) -> str:
    """Return a number that is whole without its fraction, as a person writes it: 850, not 850.0."""
    return label.removesuffix(".0")


def asked_for(labels: Sequence[str], period: str | None) -> Sequence[str]:
    """Return how an address asks for each of the labels of an axis: a time by its period, such as 2006-04, which is shorter."""
    named = documents.period_labels(labels, period)
    return named if all(map(_PERIOD.fullmatch, named)) else labels


def _options(labels: Sequence[str], chosen: int, period: str | None = None, values: Sequence[str] = ()) -> Markup:
    """Return the labels of an axis as options of a list. In a template, thousands of them cost more than the rest of the page."""
    texts = [whole(each) for each in documents.period_labels(labels, period)]
    labels = values or asked_for(labels, period)
    # Most labels are times and numbers. Escaping each of thousands costs more than looking once whether any needs it.
    if escape("".join((*labels, *texts))) != "".join((*labels, *texts)):
        labels, texts = [escape(each) for each in labels], [escape(each) for each in texts]
    # Quotes and end tags may be left out (HTML, 13.1.2), and are a thirtieth of the page of a long series.
    quote = "" if _BARE.fullmatch("".join(labels)) else '"'
    # The value of an option without one is its text (HTML, 4.10.10).
    found = [
        f"<option>{text}" if label == text else f"<option value={quote}{label}{quote}>{text}"
        for label, text in zip(labels, texts, strict=True)
    ]
    found[chosen] = found[chosen].replace("<option", "<option selected", 1)
    return Markup("".join(found))  # noqa: S704 - each label is escaped


_PERIOD = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}Z)?)?)?)?")
_BARE = re.compile(r"[A-Za-z0-9:.+-]+")


def rendered(name: str, about: Site | Parts, **values: Any) -> bytes:
    """Return the page of a template with *values*."""
    # URLs in a page have no host, because a server has several names and a page may only load from its own host.
    path = urlsplit(about.public_url).path.rstrip("/")
    site = {"title": about.title, "description": about.description, "url": about.public_url, "path": path, "version": about.version}
    return bare(name, site=site, **values)


def bare(name: str, **values: Any) -> bytes:
    """Return the page of a template that does not look like the site: what a desktop program shows in a window of its own."""
    return _environment().get_template(name).render(**values).encode()
