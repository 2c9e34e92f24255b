"""STAC 1.1 documents: the sealed documents of a version, merged with the texts of its record and with links.

Pure functions: nothing is read. Only :func:`seal`, which the measuring child calls, imports heavy libraries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote, urlencode

from cubeport.catalog.forms.canonical import timestamp
from cubeport.cubes.description import CubeDescription
from cubeport.documents import geozarr
from cubeport.documents.json_types import (
    AssetJSON,
    CatalogJSON,
    CitationJSON,
    CollectionJSON,
    CollectionsJSON,
    ConformanceJSON,
    CountedJSON,
    DatacubeJSON,
    ItemAssetJSON,
    ItemCollectionJSON,
    ItemJSON,
    LinkJSON,
    PropertiesJSON,
    ProviderJSON,
    SealedCollectionJSON,
    SealedItemJSON,
    SealedStacJSON,
)
from cubeport.documents.licences import in_stac
from cubeport.documents.texts import Provider, PublishedView, item_title

if TYPE_CHECKING:
    import xarray as xr

STAC_VERSION: Literal["1.1.0"] = "1.1.0"

CONFORMS_TO = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/browseable",
    "https://api.stacspec.org/v1.0.0/item-search#fields",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.1.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#fields",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search#free-text",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search#filter",
    "https://api.stacspec.org/v1.0.0-rc.1/collection-search#fields",
    "https://api.stacspec.org/v1.1.0/collection-search#sort",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/simple-query",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/features-filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/queryables",
    *(
        f"http://www.opengis.net/spec/cql2/1.0/conf/{name}"
        for name in (
            "cql2-text",
            "cql2-json",
            "basic-cql2",
            "advanced-comparison-operators",
            "case-insensitive-comparison",
            "accent-insensitive-comparison",
            "basic-spatial-functions",
            "spatial-functions",
            "temporal-functions",
            "array-functions",
            "property-property",
            "arithmetic",
        )
    ),
)
"""The conformance classes. Each has a test."""

JSON = "application/json"
GEOJSON = "application/geo+json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
SCHEMA = "application/schema+json"
HTML = "text/html"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
COVERAGE = "http://www.opengis.net/def/rel/ogc/1.0/coverage"
ZARR = "application/vnd.zarr"
"""The media type without parameters, because xpystac does not recognise it with parameters."""

CHILDREN = 1_000
"""How many Collections the landing page links to."""

ITEM_LINKS = 100
"""How many Items a Collection links to."""

_EXTENSIONS = {
    "zarr": "https://stac-extensions.github.io/zarr/v1.1.0/schema.json",
    "xarray": "https://stac-extensions.github.io/xarray-assets/v1.0.0/schema.json",
    "version": "https://stac-extensions.github.io/version/v1.2.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "renders": "https://stac-extensions.github.io/render/v2.0.0/schema.json",
    "maps": "https://stac-extensions.github.io/web-map-links/v1.2.0/schema.json",
    "attribution": "https://stac-extensions.github.io/attribution/v0.1.0/schema.json",
    "sci": "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
}
_DOI = re.compile(r"10\.[0-9a-zA-Z]{4,}/\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The description of the instance for its documents."""

    public_url: str
    """The address without a trailing slash. All links begin with it."""
    id: str = "cubeport"
    title: str = "cubeport"
    description: str = "Data cubes as STAC, Zarr and OGC API coverages."
    download_cells: int = 64_000_000
    """The largest number of values in one download. A larger cube has no ``netcdf`` asset."""


def seal(description: CubeDescription, raw: xr.Dataset) -> SealedStacJSON:
    """Return ``{"stac", "item"}`` of a version, to be stored with it. This imports pystac, xstac and xarray."""
    from cubeport.documents import stac_sealing

    return stac_sealing.seal(description, raw)


# --- documents -------------------------------------------------------------------------------------------------------


def catalog(site: Site, children: Iterable[tuple[str, str]], *, parts: Iterable[str] = (), path: str = "/stac") -> CatalogJSON:
    """Return the landing page, which is a STAC Catalog.

    Parameters
    ----------
    site
        The instance.
    children
        The id and title of the published datasets, at most :data:`CHILDREN`.
    parts
        Beginnings of ids, each of which is a Catalog of its own: where there are more datasets.
    path
        Its own path: ``/stac`` or ``/stac/catalog.json``. Only ``self`` differs.
    """
    url = site.public_url
    links = [
        _link("self", f"{url}{path}", JSON, site.title),
        _link("root", f"{url}/stac", JSON, site.title),
        _link("conformance", f"{url}/stac/conformance", JSON, "Conformance classes"),
        _link("data", f"{url}/stac/collections", JSON, "Collections"),
        _link("search", f"{url}/stac/search", GEOJSON, "Search items") | {"method": "GET"},
        _link("search", f"{url}/stac/search", GEOJSON, "Search items") | {"method": "POST"},
        _link(QUERYABLES, f"{url}/stac/queryables", SCHEMA, "Names that filters can use"),
        _link("alternate", f"{url}{path}?f=html", HTML, "This document as a page"),
        _link("service-desc", f"{url}/openapi.json", OPENAPI, "The API's description"),
        _link("service-doc", f"{url}/docs", "text/html", "The API's documentation"),
        _link("related", f"{url}/ogcapi", JSON, "The same data by OGC API"),
        *_children(site, children, parts),
    ]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": site.id,
        "title": site.title,
        "description": site.description,
        "conformsTo": list(CONFORMS_TO),
        "links": links,
    }


def part(site: Site, beginning: str, children: Iterable[tuple[str, str]], *, parts: Iterable[str], parent: str) -> CatalogJSON:
    """Return the Catalog of the datasets whose ids begin so. *parent*: the beginning of that which has it, empty for the root."""
    url = site.public_url
    above = _part_url(site, parent) if parent else f"{url}/stac"
    links = [
        _link("self", _part_url(site, beginning), JSON, _part_title(beginning)),
        _link("root", f"{url}/stac", JSON, site.title),
        _link("parent", above, JSON, _part_title(parent) if parent else site.title),
        *_children(site, children, parts),
    ]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": f"{site.id}-{beginning}",
        "title": _part_title(beginning),
        "description": f"Datasets of {site.title} whose ids begin with {beginning}.",
        "links": links,
    }


def _children(site: Site, children: Iterable[tuple[str, str]], parts: Iterable[str]) -> Iterator[LinkJSON]:
    for dataset_id, title in children:
        yield _link("child", _collection_url(site, dataset_id), JSON, title)
    for each in parts:
        yield _link("child", _part_url(site, each), JSON, _part_title(each))


def _part_url(site: Site, beginning: str) -> str:
    return f"{site.public_url}/stac/catalogs/{quote(beginning, safe='')}"


def _part_title(beginning: str) -> str:
    return f"{beginning}…"


def conformance() -> ConformanceJSON:
    """Return the classes that the STAC face conforms to."""
    return {"conformsTo": list(CONFORMS_TO)}


def collection(shown: PublishedView, site: Site) -> CollectionJSON:
    """Return the Collection of a dataset, for its published version or for the pinned one."""
    texts, version = shown.texts, shown.version
    sealed: SealedCollectionJSON = shown.sealed["stac"]
    renders = _renders(sealed.get("renders", {}), texts.render, shown.description)
    assets = _collection_assets(shown, site)
    citation = _citation(shown)
    extensions = [each for each in sealed["stac_extensions"] if each != _EXTENSIONS["renders"]]
    extensions += [_EXTENSIONS[key] for key in ("zarr", "xarray", "version", "file")]
    extensions += [_EXTENSIONS["renders"]] * bool(renders) + [_EXTENSIONS["sci"]] * bool(citation)
    extensions += [_EXTENSIONS["maps"]] * _is_drawn(shown) + [_EXTENSIONS["attribution"]] * bool(texts.attribution)
    document: CollectionJSON = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": extensions,
        "id": _id(shown),
        "title": texts.title,
        "description": texts.description or texts.title,
        # STAC 1.1 allows no Collection without one, and of texts only SPDX expressions.
        "license": in_stac(texts.license),
        "providers": _providers(texts.providers, site),
        "extent": sealed["extent"],
        "created": timestamp(shown.created_at),
        "updated": timestamp(shown.updated_at),
        "version": version.version_id,
        "assets": assets,
        "item_assets": {key: _without_place(asset) for key, asset in _item_assets(shown, site).items()},
        "links": _collection_links(shown, site),
    }
    if texts.keywords:
        document["keywords"] = list(texts.keywords)
    if texts.attribution:
        document["attribution"] = escape(texts.attribution, quote=False)  # the extension allows HTML, and this is a text
    if renders:
        document["renders"] = renders
    if "summaries" in sealed:
        document["summaries"] = sealed["summaries"]
    return cast("CollectionJSON", {**document, **_datacube(sealed), **citation})


def collections(
    page: Sequence[PublishedView],
    site: Site,
    *,
    query: Mapping[str, str] | None = None,
    next_token: str | None = None,
    previous_token: str | None = None,
    matched: int | None = None,
) -> CollectionsJSON:
    """Return one page of Collections.

    Parameters
    ----------
    page, site
        The datasets of this page; the instance.
    query
        The parameters of the request, for the ``self`` link.
    next_token, previous_token
        The tokens of the next page and of the page before; ``None`` if there is none.
    matched
        The total number, if known.
    """
    documents = [collection(each, site) for each in page]
    links = _page_links(site, f"{site.public_url}/stac/collections", "Collections", JSON, query, next_token, previous_token)
    return {"collections": documents, "links": links, **counted(len(documents), matched)}


def item(shown: PublishedView, site: Site) -> ItemJSON:
    """Return the Item of one version. *shown* is the view of this version, not of the published one.

    ``shown.older`` and ``newer`` are its neighbours, if they are set.
    """
    sealed: SealedItemJSON = shown.sealed["item"]
    version, texts = shown.version, shown.texts
    created = timestamp(version.created_at)
    properties: PropertiesJSON = {
        "datetime": created,
        **sealed["properties"],  # type: ignore[typeddict-item]  # mypy asks for the keys that may be absent
        "title": item_title(texts.title, version.version_id),
        "description": texts.description or texts.title,
        "license": in_stac(texts.license),
        "created": created,
        "version": version.version_id,
        "deprecated": not shown.is_latest,
    }
    if texts.keywords:
        properties["keywords"] = list(texts.keywords)
    document: ItemJSON = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [*sealed["stac_extensions"], *(_EXTENSIONS[key] for key in ("zarr", "xarray", "version", "file"))],
        "id": item_id(texts.dataset_id, version.version_id),
        "collection": texts.dataset_id,
        "geometry": sealed["geometry"],
        "properties": properties,
        "assets": _item_assets(shown, site),
        "links": _item_links(shown, site),
    }
    if "bbox" in sealed:
        document["bbox"] = sealed["bbox"]
    return document


def items(
    dataset: PublishedView,
    page: Sequence[PublishedView],
    site: Site,
    *,
    query: Mapping[str, str] | None = None,
    next_token: str | None = None,
    previous_token: str | None = None,
    matched: int | None = None,
) -> ItemCollectionJSON:
    """Return one page of the Items of a dataset, newest first. *page* contains one :class:`PublishedView` for each version."""
    features = [item(each, site) for each in page]
    url = _collection_url(site, dataset.texts.dataset_id)
    links = _page_links(site, f"{url}/items", f"Versions of {dataset.texts.title}", GEOJSON, query, next_token, previous_token)
    links.insert(2, _link("parent", url, JSON, dataset.texts.title))
    links.insert(3, _link("collection", url, JSON, dataset.texts.title))
    return {"type": "FeatureCollection", "features": features, "links": links, **counted(len(features), matched)}


def item_id(dataset_id: str, version_id: str) -> str:
    """Return the id of a version's Item."""
    return f"{dataset_id}@{version_id}"


# --- parts -----------------------------------------------------------------------------------------------------------


def _datacube(sealed: SealedCollectionJSON) -> DatacubeJSON:
    """Return the fields of the extensions datacube and projection."""
    return cast("DatacubeJSON", {key: value for key, value in sealed.items() if key.startswith(("cube:", "proj:"))})


def _id(shown: PublishedView) -> str:
    return item_id(shown.texts.dataset_id, shown.version.version_id) if shown.pinned else shown.texts.dataset_id


def _path(id: str) -> str:
    return quote(id, safe="@:")


def _collection_url(site: Site, id: str) -> str:
    return f"{site.public_url}/stac/collections/{_path(id)}"


def _link(rel: str, href: str, type: str, title: str) -> LinkJSON:
    return {"rel": rel, "href": href, "type": type, "title": title or rel}


def _page_links(
    site: Site,
    url: str,
    title: str,
    type: str,
    query: Mapping[str, str] | None,
    next_token: str | None,
    previous_token: str | None = None,
) -> list[LinkJSON]:
    asked = dict(query or {})
    links = [
        _link("self", f"{url}?{urlencode(asked)}" if asked else url, type, title),
        _link("root", f"{site.public_url}/stac", JSON, site.title),
    ]
    if next_token is not None:
        links.append(_link("next", f"{url}?{urlencode(asked | {'token': next_token})}", type, "Next page"))
    if previous_token is not None:
        links.append(_link("prev", f"{url}?{urlencode(asked | {'token': previous_token})}", type, "Previous page"))
    return links


def counted(returned: int, matched: int | None) -> CountedJSON:
    """Return the numbers of a page: how many it has, and how many match where that is known."""
    counted: CountedJSON = {"numberReturned": returned}
    if matched is not None:
        counted["numberMatched"] = matched
    return counted


def _providers(given: Sequence[Provider], site: Site) -> list[ProviderJSON]:
    return [*(_provider(each) for each in given), {"name": site.title, "roles": ["host"], "url": site.public_url}]


def _provider(given: Provider) -> ProviderJSON:
    provider: ProviderJSON = {"name": given.name}
    if given.roles:
        provider["roles"] = list(given.roles)
    if given.url:
        provider["url"] = given.url
    return provider


def _citation(shown: PublishedView) -> CitationJSON:
    doi = (shown.texts.doi or "").removeprefix("https://doi.org/").removeprefix("doi:")
    citation: CitationJSON = {}
    if _DOI.fullmatch(doi):
        citation["sci:doi"] = doi
    if shown.texts.citation:
        citation["sci:citation"] = shown.texts.citation
    return citation


def _renders(sealed: Mapping[str, Any], given: Sequence[Mapping[str, Any]], cube: CubeDescription) -> dict[str, Any]:
    """Return how to draw each field: the measured ranges, and the template's settings for one field or for all."""
    found = {name: dict(render) for name, render in sealed.items()}
    for each in given:
        named = each.get("variable")
        for name in [str(named)] if named is not None else list(cube.fields):
            if name not in cube.fields:
                continue
            render = found.setdefault(name, {"title": cube.variable(name).long_name or name, "assets": ["zarr"]})
            span = each.get("range")
            if isinstance(span, list | tuple) and len(span) == 2:
                render["rescale"] = [[float(span[0]), float(span[1])]]
            if palette := each.get("palette") or each.get("colormap"):
                render["colormap_name"] = str(palette)
            if each.get("nodata") is not None:
                render["nodata"] = each["nodata"]
    return found


def _collection_assets(shown: PublishedView, site: Site) -> dict[str, AssetJSON]:
    url, own, version = site.public_url, _path(shown.texts.dataset_id), shown.version
    pinned = f"{url}/zarr/{own}@{version.version_id}"
    # Who takes the first asset gets the published version, also tomorrow. Who must not mix two versions takes the second.
    fixed = _zarr(shown, pinned, "Zarr, this version, which never changes", "version")
    fixed["version"] = version.version_id
    address, title = (pinned, "Zarr") if shown.pinned else (f"{url}/zarr/{own}", "Zarr, always the published version")
    assets: dict[str, AssetJSON] = {
        "zarr": _zarr(shown, address, title, "version" if shown.pinned else "latest"),
        "zarr-pinned": fixed,
        "manifest": _manifest(shown, site),
    }
    if geozarr.attributes(shown.description) is not None:
        title = "GeoZarr: the same chunks, with the attributes of its conventions"
        assets["geozarr"] = _zarr(shown, f"{url}/geozarr/{_path(_id(shown))}", title, "visual")
    if _is_drawn(shown):
        assets["thumbnail"] = {
            "href": f"{url}/datasets/{_path(_id(shown))}/thumbnail.png",
            "title": "A small map",
            "type": "image/png",
            "roles": ["thumbnail"],
        }
    copy = version.copy_in("netcdf")
    if copy is not None or cells(shown.description) <= site.download_cells:
        assets["netcdf"] = {
            "href": f"{url}/datasets/{own}/download",
            "title": "NetCDF, made on request",
            "type": "application/x-netcdf",
            "roles": ["data"],
        }
        if shown.pinned or copy is not None:
            assets["netcdf"]["href"] = f"{url}/datasets/{own}@{version.version_id}/download"
        if copy is not None:
            assets["netcdf"]["title"] = "NetCDF-4, a copy of this version"
            assets["netcdf"]["file:size"] = copy["size_bytes"]
            assets["netcdf"]["file:checksum"] = f"1220{copy['sha256']}"
    return assets


def _is_drawn(shown: PublishedView) -> bool:
    """Return whether there are maps of it, which needs a place."""
    return bool(shown.description.spatial.family != "none")


def cells(cube: CubeDescription) -> int:
    """Return the number of values in a download of the whole cube."""
    return sum(math.prod(each.shape) for each in cube.variables if each.role == "data")


def _zarr(shown: PublishedView, href: str, title: str, role: str) -> AssetJSON:
    """Return the asset of a Zarr store with the options to open it, which save a client three of nine requests."""
    asset: AssetJSON = {
        "href": href,
        "title": title,
        "type": ZARR,
        "roles": ["data", role],
        "zarr:zarr_format": 3,
        "zarr:node_type": "group",
        "zarr:consolidated": True,
        "xarray:open_kwargs": {"engine": "zarr", "consolidated": True, "zarr_format": 3},
    }
    if (lies := shown.sealed.get("storage")) is not None:
        # In the prefix of the extension zarr its schema allows no further field.
        asset |= {"cubeport:storage": "virtual", "cubeport:codecs": lies["codecs"], "cubeport:verified": lies["verify"]}
    return asset


def _manifest(shown: PublishedView, site: Site) -> AssetJSON:
    version = shown.version
    manifest: AssetJSON = {
        "href": f"{site.public_url}/zarr/{_path(shown.texts.dataset_id)}@{version.version_id}?f=manifest",
        "title": "Manifest: every key with its size and SHA-256",
        "type": JSON,
        "roles": ["metadata"],
        "file:checksum": f"1220{version.digest}",
    }
    if "manifest" in shown.sealed:
        manifest["file:size"] = shown.sealed["manifest"]["file:size"]
    return manifest


def _item_assets(shown: PublishedView, site: Site) -> dict[str, AssetJSON]:
    href = f"{site.public_url}/zarr/{_path(shown.texts.dataset_id)}@{shown.version.version_id}"
    return {"zarr": _zarr(shown, href, "Zarr, this version, which never changes", "version"), "manifest": _manifest(shown, site)}


def _without_place(asset: AssetJSON) -> ItemAssetJSON:
    return cast("ItemAssetJSON", {key: value for key, value in asset.items() if key not in ("href", "file:size", "file:checksum")})


def _collection_links(shown: PublishedView, site: Site) -> list[LinkJSON]:
    url, texts = site.public_url, shown.texts
    dataset_id = texts.dataset_id
    own = _collection_url(site, dataset_id)
    links = [
        _link("self", _collection_url(site, _id(shown)), JSON, texts.title),
        _link("root", f"{url}/stac", JSON, site.title),
        _link("parent", f"{url}/stac", JSON, site.title),
        _link("items", f"{own}/items", GEOJSON, "Versions as items"),
        *(_item_link("item", dataset_id, each.version_id, site) for each in shown.versions[:ITEM_LINKS]),
        _link(QUERYABLES, f"{own}/queryables", SCHEMA, "What filters on its items may ask"),
        _link("alternate", f"{url}/datasets/{_path(dataset_id)}", JSON, "The service's own document"),
        _link("alternate", f"{url}/datasets/{_path(_id(shown))}?f=html", HTML, "The dataset's page"),
        *(
            _link(COVERAGE, f"{url}/ogcapi/collections/{_path(each.coverage_name)}/coverage", "application/vnd.cov+json", title)
            for each, title in zip(
                shown.coverages(),
                ("OGC API coverage", *(f"OGC API coverage of {', '.join(grid.fields)}" for grid in shown.description.grids)),
                strict=True,
            )
        ),
        _link("version-history", f"{url}/datasets/{_path(dataset_id)}/versions", JSON, "All versions"),
    ]
    if _is_drawn(shown):
        tiles = f"{url}/ogcapi/collections/{_path(_id(shown))}/map/tiles/WebMercatorQuad"
        links.append(_link("xyz", f"{tiles}/{{z}}/{{y}}/{{x}}", "image/png", "Map tiles"))
        links.append(_link("tilejson", f"{tiles}?f=tilejson", JSON, "Map tiles as TileJSON"))
    if shown.pinned:
        links.append(_link("latest-version", own, JSON, f"{texts.title}, the published version"))
    if shown.older is not None:
        links.append(
            _link("predecessor-version", _collection_url(site, item_id(dataset_id, shown.older)), JSON, "The previous version")
        )
    if texts.license_url:
        links.append(_link("license", texts.license_url, "text/html", texts.license))
    if doi := _citation(shown).get("sci:doi"):
        links.append(_link("cite-as", f"https://doi.org/{doi}", "text/html", doi))
    if texts.source_url:
        links.append(_link("via", texts.source_url, "text/html", texts.source or texts.source_url))
    return links


def _item_link(rel: str, dataset_id: str, version_id: str, site: Site) -> LinkJSON:
    place = _path(item_id(dataset_id, version_id))
    return _link(rel, f"{_collection_url(site, dataset_id)}/items/{place}", GEOJSON, f"Version {version_id}")


def _item_links(shown: PublishedView, site: Site) -> list[LinkJSON]:
    texts = shown.texts
    own = _collection_url(site, texts.dataset_id)
    links = [
        _item_link("self", texts.dataset_id, shown.version.version_id, site),
        _link("root", f"{site.public_url}/stac", JSON, site.title),
        _link("parent", own, JSON, texts.title),
        _link("collection", own, JSON, texts.title),
    ]
    address = f"{site.public_url}/datasets/{_path(item_id(texts.dataset_id, shown.version.version_id))}?f=html"
    links.append(_link("alternate", address, HTML, "This version's page"))
    if shown.latest is not None and not shown.is_latest:
        latest = item_id(texts.dataset_id, shown.latest)
        links.append(_link("latest-version", f"{own}/items/{_path(latest)}", GEOJSON, f"Version {shown.latest}"))
    if shown.older is not None:
        links.append(_item_link("predecessor-version", texts.dataset_id, shown.older, site))
    if shown.newer is not None:
        links.append(_item_link("successor-version", texts.dataset_id, shown.newer, site))
    return links
