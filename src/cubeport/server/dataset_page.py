"""The page of one dataset: its preview, its description, and how to get its data. The URL contains the view.

The page works without scripts: a form selects field, time, level and place, and the server draws. ``dataset.js`` only makes this
faster. Everything that the page loads has a URL without a host name, so it works with every name of the host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from markupsafe import Markup

from cubeport.cubes.description import BoundingBox
from cubeport.cubes.forms import FORMS
from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.selection import parse
from cubeport.cubes.view import POLAR, View, Window, colours, known_field, maps, pin, polar_frame, window
from cubeport.cubes.windows import time_axis
from cubeport.documents import native as documents
from cubeport.documents import schemaorg
from cubeport.documents.licences import in_words
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, InvalidRequest, NotFound, Problem, StoreUnavailable
from cubeport.server import html, replies
from cubeport.server.parts import Parts
from cubeport.service.pictures import MOST_SIDE

_MOST_LABELS = 3_000
"""Up to this many labels of an axis are in the page. For more, it has the first and the last, and a text field."""

_MOST_VARIABLES = 100
"""Up to this many variables are in the table and have a box to tick. The list to draw one from has all of them."""


def page(parts: Parts, detail: documents.DatasetDetail, shown: PublishedView, view: View) -> bytes:
    """Return the page. Raises InvalidRequest if the dataset does not have the view."""
    links = {link.rel: link.href for link in detail.links}
    seen = _seen(parts, shown, view)
    pinned = f"{detail.dataset_id}@{shown.version.version_id}"
    return html.rendered(
        "dataset.html",
        parts,
        it=detail,
        lead=html.lead(detail.description),
        most=_MOST_VARIABLES,
        bbox=shown.description.spatial.bbox,
        coverage=shown.coverage_name,
        gaps=_gaps(shown),
        steps=getattr(time_axis(shown.description), "size", None),
        license=in_words(detail.license, detail.license_url),
        pinned=shown.version.version_id if shown.pinned else None,
        newest=f"/datasets/{detail.dataset_id}?f=html",
        links=links,
        seen=seen,
        series=_series(parts, shown, view),
        preview=_preview(parts, shown, view),
        ways=_ways(parts, detail, shown, links, seen),
        ranges=_ranges(shown),
        version=next((each for each in detail.versions if each.version_id == shown.version.version_id), None),
        checked=_checked(shown, detail),
        part=_part(parts, shown, seen),
        snippets=list(_snippets(parts.public_url, detail, shown)) if detail.publication.status == "published" else [],
        citation=cite(detail, shown, parts.title, f"{parts.public_url}/datasets/{pinned}"),
        summary=schemaorg.summary(detail),
        ld=_linked_data(detail, shown, (parts.title, f"{parts.public_url}/")),
    )


def _gaps(shown: PublishedView) -> Sequence[documents.Gap] | None:
    """Return the missing periods; ``None`` where the steps have no period, so that nobody knows what is missing."""
    temporal = shown.description.temporal
    kind = documents.period_type(shown.texts.period_type, temporal)
    return None if temporal is None or kind in ("irregular", "climatology") else documents.gaps(temporal, kind)


def _preview(parts: Parts, shown: PublishedView, view: View) -> str | None:
    """Return the complete URL of the preview picture for links to this view."""
    if not html.drawn(parts, shown) or not shown.published:
        return None
    name = _name(shown)
    subset = ",".join(filter(None, [_level(shown, view), view.subset]))
    pairs = [(key, value) for key, value in (("properties", view.v), ("datetime", view.t), ("subset", subset)) if value]
    pairs += colours(view, levels=False)
    if view.bbox or view.map in POLAR:
        pairs += _box(_window(shown, view)[1], _map(shown, view))
    if not pairs and view.range is None:
        return f"{parts.public_url}/datasets/{name}/thumbnail.png"
    if view.range is None:
        pairs.append(("range", "level"))
    return f"{parts.public_url}/ogcapi/collections/{name}/map?{urlencode([*pairs, ('width', '1024')])}"


def _map(shown: PublishedView, view: View) -> str:
    """Return the name of the map of a view. Raises InvalidRequest if the dataset has no such map."""
    offered = maps(shown.description.spatial)
    if view.map is not None and view.map not in offered:
        why = f"the data are not near that pole; the maps of this dataset: {', '.join(offered)}"
        raise InvalidRequest(f"map: {why}", errors=[Problem(("query", "map"), "unknown-map", why)])
    return view.map or offered[0]


def _window(shown: PublishedView, view: View) -> tuple[Window, Window]:
    """Return the part of the map that a dataset shows at first, and the part of a view."""
    box, name = shown.description.spatial.bbox, _map(shown, view)
    assert box is not None  # the caller has looked: there is a map
    home = polar_frame(box, name) if name in POLAR else html.frame(box)
    return home, home if view.bbox is None else window(view.bbox, name)


def _box(part: Window, name: str) -> list[tuple[str, str]]:
    """Return the parameters of a picture of a part of a map."""
    box = ",".join(f"{each:.10g}" for each in (part[0], -part[1] - part[3], part[0] + part[2], -part[1]))
    crs = POLAR.get(name)
    return [("bbox", box), *((("crs", crs), ("bbox-crs", crs)) if crs else ())]


def _size(part: Window) -> list[tuple[str, str]]:
    """Return the parameters of the size of the picture: as wide as the page, and no higher than it is shown."""
    height = min(MOST_SIDE, max(1, round(_WIDTH * part[3] / part[2])))
    return [("width", str(_WIDTH)), ("height", str(height))]


_WIDTH = 1120
"""The width of the map of the page, in pixels."""


def _coast(part: Window, name: str) -> str | None:
    """Return the query of the coast of a part; ``None`` where the coast of the world is good enough."""
    if name not in POLAR and part[2] >= _WHOLE_WORLD_DEG:
        return None
    pairs = [each for each in _box(part, name) if each[0] != "bbox-crs"]
    return urlencode(pairs)


_WHOLE_WORLD_DEG = 120.0
"""From this width on, a map has the coast of the world, simplified to half a degree; below, a finer one of its part."""


def _series(parts: Parts, shown: PublishedView, view: View) -> Mapping[str, Any] | None:
    """Return the plot along time of data without a place, such as an index; ``None`` if the data have a place or no such plot."""
    if shown.description.spatial.family != "none" or not shown.published or not shown.description.fields:
        return None
    shown = shown.having((view.v,)) if view.v is not None else shown
    known_field(shown.description, view.v)
    description, field = shown.description, view.v or shown.description.fields[0]
    time = time_axis(description)
    if time is None or time.size < 2 or time.dimension not in description.variable(field).dimensions:
        return None
    name, collection = _name(shown), f"{_base(parts)}/ogcapi/collections/{shown.coverage_name}"
    given = view.subset or ""
    others = [
        f"{axis.name}({_quoted(str(axis.values[0] if axis.values else axis.first if axis.first is not None else 0))})"
        for axis in description.axes
        if axis.dimension in description.variable(field).dimensions and axis is not time and not axis.scalar and axis.size > 1
        if f"{axis.name}(" not in given and not (axis.kind == "z" and view.z)
    ]
    # A plot is along one axis; of the others it has the first label if none was chosen.
    subset = ",".join(filter(None, [given, *others]))
    plotted = [("v", field), *([("z", view.z)] if view.z else []), *([("subset", subset)] if subset else [])]
    return {
        "field": field,
        "fields": _fields(shown),
        "self": f"{_base(parts)}/datasets/{name}",
        "plotted": f"{_base(parts)}/datasets/{name}/plot?{urlencode(plotted)}",
        "values": [(title, f"{collection}/coverage?{urlencode([('properties', field), ('f', form)])}") for title, form in _FORMS],
    }


def _level(shown: PublishedView, view: View) -> str | None:
    """Return what ``subset`` says of the level of a view."""
    z = shown.description.axis_of("z")
    return f"{z.name}({view.z})" if view.z and z is not None else None


def _name(shown: PublishedView) -> str:
    return f"{shown.texts.dataset_id}@{shown.version.version_id}" if shown.pinned else shown.texts.dataset_id


def _seen(parts: Parts, shown: PublishedView, view: View) -> Mapping[str, Any] | None:
    """Return what the explorer shows; ``None`` if there is no place, or the dataset is not published."""
    if parts.pictures is None or not html.drawn(parts, shown) or not shown.published:
        return None
    shown = shown.having((view.v,)) if view.v is not None else shown
    known_field(shown.description, view.v)
    field = view.v or shown.description.fields[0]
    given = [
        ("properties", field),
        *([("datetime", view.t)] if view.t else []),
        *([("subset", view.subset)] if view.subset else []),
    ]
    if at_level := _level(shown, view):
        given.append(("subset", at_level))
    selection = parse(given, forms=(), allowed=("datetime", "subset", "properties"))
    try:
        choices, middle = parts.pictures.choices(shown, selection), parts.pictures.middle(shown)
    except (Corrupt, StoreUnavailable):
        return {"damaged": True}
    except NotFound as error:
        raise InvalidRequest(error.message) from error
    by_kind = {each.kind: each for each in choices if each.kind != "other"}
    time, level = by_kind.get("time"), by_kind.get("z")
    others = [each for each in choices if each.kind == "other"]
    name = _name(shown)
    collection = f"{_base(parts)}/ogcapi/collections/{shown.coverage_name}"
    pairs: list[tuple[str, str]] = [("properties", field)]
    subsets = []
    written = documents.written_period(shown.texts.period_type, shown.description.temporal)
    when = None if time is None else html.asked_for(time.labels, written)[time.chosen]
    if when is not None:
        pairs.append(("datetime", when))
    if level is not None:
        subsets.append(f"{level.name}({level.labels[level.chosen]})")
    fixed = ",".join(_label(each, each.chosen) for each in others)
    subsets += [fixed] if fixed else []
    if subsets:
        pairs.append(("subset", ",".join(subsets)))
    at = view.at or _middle(shown.description.spatial.bbox, middle)
    # Without times, the plot is along the levels.
    plotted = [("at", at), ("v", field), *([("z", level.labels[level.chosen])] if level and time else [])]
    plotted += [("subset", fixed)] if fixed else []
    position = _position(at, field, level, fixed)
    (home, part), map_ = _window(shown, view), _map(shown, view)
    look = colours(view, levels=level is not None)
    legend = [("properties", field), *look, *([p for p in pairs if p[0] == "subset"] if ("range", "level") in look else [])]
    query = urlencode([*pairs, *look])
    self_ = f"{_base(parts)}/datasets/{name}"
    elsewhere = [(key, value) for key, value in _given(view) if key not in ("bbox", "map")]
    return {
        "damaged": False,
        "field": field,
        "fields": _fields(shown),
        "time": time,
        "period": written,
        "time_shown": "" if time is None else documents.period_labels(time.labels, written)[time.chosen],
        "level": level,
        "others": [(each, [_label(each, at) for at in range(len(each.labels))]) for each in others],
        "most": _MOST_LABELS,
        "at": at,
        "pin": pin(at, map_),
        "maps": [
            (title, each, f"{self_}?{urlencode([*elsewhere, ('map', each), ('f', 'html')])}")
            for each, title in _MAPS.items()
            if each in maps(shown.description.spatial)
        ],
        "chosen_map": map_,
        "given_map": view.map,
        "crs": POLAR.get(map_, ""),
        "coast": _coast(part, map_),
        "home": home,
        "window": part,
        "bbox": view.bbox,
        "look": view.look,
        "range": view.range or "",
        "palettes": palettes(),
        "shared": f"{_base(parts)}/datasets/{name}?{urlencode([*_given(view), ('f', 'html')])}",
        "map": f"{collection}/map",
        "picture": f"{collection}/map?{query}&{urlencode([*_box(part, map_), *_size(part)])}",
        "legend": f"{_base(parts)}/datasets/{name}/legend?{urlencode(legend)}",
        "profile": f"{_base(parts)}/datasets/{name}/plot?{urlencode(_profile(at, field, when, fixed))}" if when and level else None,
        "plot": f"{_base(parts)}/datasets/{name}/plot",
        "plotted": f"{_base(parts)}/datasets/{name}/plot?{urlencode(plotted)}",
        "position": f"{collection}/position",
        "coverage": f"{collection}/coverage",
        "values": [(title, f"{collection}/position?{urlencode([*position, ('f', form)])}") for title, form in _FORMS],
        "here": f"{collection}/position?{urlencode([*position, *(p for p in pairs if p[0] == 'datetime'), ('f', 'html')])}",
        "query": query,
        "pairs": pairs,
        "self": self_,
    }


_MAPS = {"world": "World", "north": "North pole", "south": "South pole"}


def _given(view: View) -> list[tuple[str, str]]:
    """Return the parameters of the address of a view."""
    return [(name, value) for name in View.__slots__ if (value := getattr(view, name)) is not None]


_FORMS = (("CSV", "csv"), ("CoverageJSON", "covjson"), ("NetCDF", "netcdf"))


def _profile(at: str, field: str, when: str, fixed: str) -> list[tuple[str, str]]:
    """Return the parameters of the plot along the vertical axis at the time of the map."""
    pairs = [("at", at), ("v", field), ("t", when)]
    return [*pairs, ("subset", fixed)] if fixed else pairs


def _label(axis: Any, at: int) -> str:
    """Return what ``subset`` says of a label of an axis."""
    return f"{axis.name}({_quoted(axis.labels[at])})"


def _quoted(label: str) -> str:
    """Return a label for ``subset``: text in quotes, numbers unchanged."""
    try:
        float(label)
    except ValueError:
        return f'"{label}"'
    return label


def _position(at: str, field: str, level: Any, fixed: str) -> list[tuple[str, str]]:
    lon, lat = at.split(",")
    pairs = [("coords", f"POINT({lon} {lat})"), ("parameter-name", field)]
    pairs += [("z", level.labels[level.chosen])] if level is not None else []
    return [*pairs, ("subset", fixed)] if fixed else pairs


def _fields(shown: PublishedView) -> list[tuple[str, str]]:
    """Return the names of the fields and their titles. Fields that share a title have their names in it."""
    variables = [shown.description.variable(name) for name in shown.description.fields]
    times = Counter(each.title for each in variables)
    return [(each.name, each.title if times[each.title] == 1 else f"{each.title} ({each.name})") for each in variables]


def _middle(bbox: BoundingBox, known: tuple[float, float] | None) -> str:
    """Return the place that a page shows first: *known* to have data, or the middle of the box."""
    if known is not None:
        return f"{(known[0] + 180) % 360 - 180:.6g},{known[1]:.6g}"
    west, south, east, north = bbox
    east += 360 if east < west else 0
    lon = (west + east) / 2
    return f"{lon - 360 if lon > 180 else lon:.4g},{(south + north) / 2:.4g}"


def _ranges(shown: PublishedView) -> Mapping[str, str]:
    """Return the least and the greatest value of each variable that has numbers, as text."""
    found = {}
    for name in shown.description.fields:
        least, most = (getattr(shown.description.variable(name), each) for each in ("valid_min", "valid_max"))
        if least is not None and most is not None:
            found[name] = f"{least:.5g}" if least == most else f"{least:.5g} to {most:.5g}"
    return found


def _checked(shown: PublishedView, detail: documents.DatasetDetail) -> str:
    """Return what was compared when the shown version was made."""
    storage = shown.sealed.get("storage")
    if storage is not None:
        which = "a sample of them was" if storage.get("verify") == "sample" else "each of them was"
        return f"its chunks lie in the files of its source; {which} read and compared"
    kind = next((each.kind for each in detail.versions if each.version_id == shown.version.version_id), None)
    if kind in ("appended", "extended", "revised"):
        return (
            "a second process read every new value back and compared it with the source; the others are those of the version before"
        )
    return "a second process read every stored value back and compared it with the source"


def _base(parts: Parts) -> str:
    return urlsplit(parts.public_url).path.rstrip("/")


def _ways(
    parts: Parts,
    detail: documents.DatasetDetail,
    shown: PublishedView,
    links: Mapping[str, str],
    seen: Mapping[str, Any] | None,
) -> list[Mapping[str, str]]:
    """Return the ways to get the data, each with its size if it is known without reading data."""
    if "download" not in links:
        return []
    megabytes = detail.size_bytes / 1e6
    size = f"{megabytes:.1f} MB stored" if megabytes >= 0.1 else f"{detail.size_bytes / 1e3:.0f} kB stored"
    ways: list[Mapping[str, str]] = [
        {"href": f"{_base(parts)}/datasets/{_name(shown)}/download", "title": "All of it (NetCDF)", "size": size}
    ]
    # A table needs one label of each axis besides time: those of the map.
    if parts.tables is not None and seen is not None and not seen["damaged"] and parts.tables.offered(shown, seen["field"]):
        subsets = [text for key, text in seen["pairs"] if key == "subset"]
        for name, zones in list(parts.service.zone_sets().items())[:_MOST_ZONE_SETS]:
            query = urlencode(
                [("zones", name), ("variables", seen["field"]), *(("subset", text) for text in subsets), ("f", "html")]
            )
            title = f"A table by areas: {zones.title or name}"
            ways.append(
                {
                    "href": f"{_base(parts)}/datasets/{_name(shown)}/table?{query}",
                    "title": title,
                    "size": f"{len(zones.zones)} areas",
                }
            )
    return ways


_MOST_ZONE_SETS = 3
"""Sets of areas that the page offers tables of."""


def cite(detail: documents.DatasetDetail, shown: PublishedView, publisher: str, address: str) -> Mapping[str, str]:
    """Return the citation of the version as text and as BibTeX. The dataset's own citation takes precedence."""
    year = shown.version.created_at.year
    version = shown.version.version_id
    who = next((each.name for each in detail.providers if "producer" in (each.roles or ())), None) or publisher
    where = f"https://doi.org/{detail.doi}" if detail.doi else address
    text = f"{who} ({year}): {detail.dataset_name}, version {version[:8]}. {where}"
    key = "".join(each if each.isalnum() else "_" for each in detail.dataset_id)
    rows = {
        "title": detail.dataset_name,
        "author": f"{{{who}}}",
        "year": str(year),
        "version": version,
        "publisher": publisher,
        **({"doi": detail.doi} if detail.doi else {}),
        "url": where,
    }
    body = ",\n".join(f"  {name} = {{{_bibtex(value)}}}" for name, value in rows.items())
    return {"text": text, "own": detail.citation or "", "bibtex": f"@misc{{{key}_{version[:8]},\n{body}\n}}"}


def _bibtex(text: str) -> str:
    """Return a text with the special characters of TeX escaped, except the braces of a name."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    escaped = "".join(f"\\{each}" if each in "#$%&_" else {"{": "(", "}": ")", "\\": "/"}.get(each, each) for each in inner)
    return f"{{{escaped}}}" if inner is not text else escaped


def _snippets(url: str, detail: documents.DatasetDetail, shown: PublishedView) -> Iterable[Mapping[str, str]]:
    name, pinned = detail.dataset_id, f"{detail.dataset_id}@{shown.version.version_id}"
    here = _name(shown)  # the page of a version shows how to read that version
    yield {
        "title": "Python",
        "install": "pip install 'cubeport[client]'",
        "code": f'import cubeport\n\ndata = cubeport.connect("{url}")["{here}"]\n'
        "cube = data.open()  # an xarray.Dataset, pinned and lazy",
    }
    yield {
        "title": "xarray",
        "install": "pip install xarray zarr fsspec aiohttp",
        "code": "import xarray as xr\n\n"
        f'cube = xr.open_dataset("{url}/zarr/{name}.zarr", engine="zarr", chunks=None)\n'
        f'pinned = xr.open_dataset("{url}/zarr/{pinned}.zarr", engine="zarr", chunks=None)',
    }
    yield {
        "title": "STAC",
        "install": "pip install pystac-client",
        "code": f'import pystac_client\n\ncatalog = pystac_client.Client.open("{url}/stac")\n'
        f'collection = catalog.get_collection("{name}")\nprint(collection.assets["zarr"].href)',
    }
    yield {
        "title": "R",
        "install": 'install.packages("stars")',
        "code": f'library(stars)\n\nfile <- tempfile(fileext = ".nc")\n'
        f'download.file("{url}/datasets/{here}/download", file, mode = "wb")\ncube <- read_ncdf(file)',
    }
    yield {
        "title": "JavaScript",
        "install": "npm install zarrita",
        "code": 'import * as zarr from "zarrita";\n\n'
        f'const store = new zarr.FetchStore("{url}/zarr/{pinned}");\n'
        'const group = await zarr.open(store, { kind: "group" });\n'
        f'const array = await zarr.open(group.resolve("{shown.description.fields[0] if shown.description.fields else ""}"), '
        '{ kind: "array" });\n'
        "const chunk = await array.getChunk(array.shape.map(() => 0));",
    }
    if shown.description.spatial.family != "none":
        yield {"title": "QGIS", "install": "Layer, Add WMS/WMTS Layer, New; the URL is", "code": f"{url}/wms/{here}"}
    yield {
        "title": "OPeNDAP",
        "install": "ncdump, NCO, CDO, Ferret, Panoply, MATLAB, IDL",
        "code": f"ncdump -h {url}/dap/{pinned}",
    }
    yield {
        "title": "GDAL",
        "install": "/zarr from GDAL 3.11 on, /zarr-v2 from 3.4 to 3.10",
        "code": f"gdalmdiminfo 'ZARR:\"/vsicurl/{url}/zarr/{pinned}\"'\ngdalmdiminfo 'ZARR:\"/vsicurl/{url}/zarr-v2/{pinned}\"'",
    }
    yield {
        "title": "curl",
        "install": "",
        "code": f"curl -OJ '{url}/datasets/{here}/download'\n"
        f"curl '{url}/ogcapi/collections/{name}'\n"
        f"curl '{url}/zarr/{pinned}/zarr.json'",
    }


def _part(parts: Parts, shown: PublishedView, seen: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the choices of the form that makes the address of a part; ``None`` where nothing is published."""
    description = shown.description
    if not shown.published or not description.fields:
        return None
    if seen is not None and not seen["damaged"]:
        drawn = [each for each in (seen["level"], *(axis for axis, _ in seen["others"])) if each is not None]
        axes = [(each.title, each.name, each.labels) for each in drawn]
    else:
        listed = [each for each in description.axes if each.values and each.kind not in ("x", "y", "time") and not each.scalar]
        axes = [(each.name, each.name, [str(label) for label in each.values or ()]) for each in listed]
    time = description.temporal
    return {
        "action": f"{_base(parts)}/ogcapi/collections/{shown.coverage_name}/coverage",
        "fields": _fields(shown),
        "place": description.spatial.family != "none",
        "span": None if time is None else (str(time.start), str(time.end)),
        "axes": [
            (title, [(f"{name}({_quoted(each)})", html.whole(each)) for each in labels])
            for title, name, labels in axes
            if 1 < len(labels) <= _MOST_CHOICES
        ],
        "forms": [(form.name, form.title) for form in FORMS],
    }


_MOST_CHOICES = 200
"""Labels of an axis that the form of a part lists."""


def _linked_data(detail: documents.DatasetDetail, shown: PublishedView, catalog: tuple[str, str]) -> Markup:
    version = shown.version.version_id
    document = schemaorg.dataset(detail, bbox=shown.description.spatial.bbox, version=version, catalog=catalog)
    # A text can contain </script>, so < is escaped as in JSON.
    return Markup(replies.dumps(document).decode().replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704
