"""STAC documents for a plain file server: those of the service, with relative links and without links that only the service can
answer.

Pure functions. Each document is made as for a request, and then its URLs are replaced by paths in the export.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from cubeport.documents import stac
from cubeport.documents.stac import Site
from cubeport.documents.texts import PublishedView

type Document = dict[str, Any]

ROOT = "catalog.json"
_BASE = "https://static.invalid"
"""A placeholder for the address of the service, which is then removed completely."""


def collection_path(dataset_id: str) -> str:
    """Return the path of a Collection."""
    return f"{dataset_id}/collection.json"


def item_path(dataset_id: str, version_id: str) -> str:
    """Return the path of an Item."""
    return f"{dataset_id}/{version_id}.json"


def store_path(dataset_id: str, version_id: str) -> str:
    """Return the folder of a version's Zarr store."""
    return f"zarr/{dataset_id}@{version_id}"


def manifest_path(dataset_id: str, version_id: str) -> str:
    """Return the path of a version's manifest."""
    return f"{store_path(dataset_id, version_id)}.manifest.json"


def catalog(site: Site, children: Iterable[tuple[str, str]]) -> Document:
    """Return the root Catalog. *children* are the id and title of each dataset."""
    links = [_link("root", f"./{ROOT}", site.title)]
    links += [_link("child", f"./{collection_path(name)}", title) for name, title in children]
    texts = {"id": site.id, "title": site.title, "description": site.description}
    return {"type": "Catalog", "stac_version": stac.STAC_VERSION, **texts, "links": links}


def collection(shown: PublishedView, site: Site, versions: Collection[str]) -> Document:
    """Return the Collection of a dataset, of which *versions* are exported.

    With a ``public_url`` in *site*, assets have absolute URLs below it, because xpystac does not resolve relative ones.
    """
    document = stac.collection(shown, replace(site, public_url=_BASE))
    return _moved(document, collection_path(shown.texts.dataset_id), shown, versions, site.public_url)


def item(shown: PublishedView, site: Site, versions: Collection[str]) -> Document:
    """Return the Item of one version."""
    document = stac.item(shown, replace(site, public_url=_BASE))
    return _moved(document, item_path(shown.texts.dataset_id, shown.version.version_id), shown, versions, site.public_url)


def _link(rel: str, href: str, title: str) -> Document:
    return {"rel": rel, "href": href, "type": stac.JSON, "title": title}


def _moved(document: Mapping[str, Any], own: str, shown: PublishedView, versions: Collection[str], base: str) -> Document:
    links = [{**each, "href": href} for each in document["links"] if (href := _href(each, own, shown, versions)) is not None]
    assets = {
        name: {**each, "href": href}
        for name, each in document["assets"].items()
        if (href := _href(each, own, shown, versions, base)) is not None
    }
    moved: Document = {**document, "links": links, "assets": assets}
    if "providers" in document:
        moved["providers"] = [
            {key: value for key, value in each.items() if not str(value).startswith(_BASE)} for each in document["providers"]
        ]
    return moved


def _href(each: Mapping[str, Any], own: str, shown: PublishedView, versions: Collection[str], base: str = "") -> str | None:
    """Return the target of a link or an asset in the export, below *base* if given; ``None`` if only the service can answer it."""
    href: str = each["href"]
    if not href.startswith(_BASE):
        return href
    if each.get("rel") == "self":
        return None
    path = _path(unquote(href.removeprefix(_BASE)), shown, versions)
    if path is None:
        return None
    if base:
        return f"{base}/{path}"
    relative = posixpath.relpath(path, posixpath.dirname(own))
    return relative if relative.startswith(".") else f"./{relative}"


def _path(address: str, shown: PublishedView, versions: Collection[str]) -> str | None:
    name = shown.texts.dataset_id
    if address == "/stac":
        return ROOT
    if address == f"/stac/collections/{name}":
        return collection_path(name)
    if address == f"/zarr/{name}" and shown.version.version_id in versions:
        return store_path(name, shown.version.version_id)
    for version in versions:
        match address:
            case _ if address == f"/stac/collections/{name}/items/{name}@{version}":
                return item_path(name, version)
            case _ if address == f"/zarr/{name}@{version}":
                return store_path(name, version)
            case _ if address == f"/zarr/{name}@{version}?f=manifest":
                return manifest_path(name, version)
    return None
