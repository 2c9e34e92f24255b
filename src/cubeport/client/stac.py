"""STAC catalogs of other services: their Collections and Items, whose Zarr assets open as xarray."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from cubeport.client._http import HttpSession
from cubeport.cubes.readers import reader
from cubeport.errors import InvalidRequest, NoData, NotFound

if TYPE_CHECKING:
    import xarray as xr

_ZARR = ("application/vnd+zarr", "application/vnd.zarr", "application/x-zarr", "application/zarr")
_MOST_DOCUMENTS = 10_000
"""Documents of a static catalog that one search reads."""


class StacCatalog:
    """A STAC catalog or API. Creating it makes no request.

    >>> StacCatalog("https://planet.example.org/stac/")
    <cubeport.StacCatalog https://planet.example.org/stac/>
    """

    def __init__(self, url: str) -> None:
        """Name the catalog at *url*: the landing page of an API, or a ``catalog.json``."""
        self.url = url

    def __repr__(self) -> str:
        return f"<cubeport.StacCatalog {self.url}>"

    def search(self, text: str | None = None) -> Iterator[StacDataset]:
        """Yield the Collections with *text* in their id, title, description or keywords, in the order of the catalog.

        Raises
        ------
        InvalidRequest
            If the address is not that of a STAC catalog.
        NotFound, Unavailable
            If it does not answer.
        """
        words = (text or "").lower().split()
        for collection, address in self._collections():
            told = [collection.get(name) or "" for name in ("id", "title", "description")] + list(collection.get("keywords") or ())
            if all(word in " ".join(map(str, told)).lower() for word in words):
                yield StacDataset(collection, address)

    def __iter__(self) -> Iterator[StacDataset]:
        return self.search()

    def __getitem__(self, collection_id: str) -> StacDataset:
        """Return one Collection. Raises NotFound, with the most similar ids."""
        seen = []
        for each in self.search():
            if each.id == collection_id:
                return each
            seen.append(each.id)
        near = difflib.get_close_matches(collection_id, seen, 3)
        step = f"did you mean {' or '.join(near)}?" if near else None
        raise NotFound(f"{self.url} has no Collection {collection_id[:80]!r}.", what="collection", next_step=step)

    def _collections(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        root = _document(self.url)
        if not isinstance(root, Mapping) or "stac_version" not in root:
            raise InvalidRequest(
                f"{self.url} is not a STAC catalog.", next_step="give the address of its landing page or catalog.json"
            )
        if root.get("type") == "Collection":
            yield root, self.url
            return
        listed = _link(root, "data", self.url)
        if listed is None:
            yield from _below(root, self.url)
            return
        address: str | None = listed
        while address is not None:
            page = _document(address)
            for each in page.get("collections", ()):
                yield each, _link(each, "self", address) or address
            address = _link(page, "next", address)


class StacDataset:
    """One Collection of a STAC catalog."""

    def __init__(self, document: Mapping[str, Any], address: str) -> None:
        self.document = document
        """The STAC Collection or Item."""
        self._address = address
        self.id: str = str(document["id"])

    @property
    def title(self) -> str:
        """The title, or the id if there is no title."""
        return str(self.document.get("title") or self.id)

    def __repr__(self) -> str:
        return f"<cubeport.StacDataset {self.id}: {self.title}>"

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        spans = (self.document.get("extent") or {}).get("temporal", {}).get("interval") or [[None, None]]
        facts = [" to ".join(str(each or "…")[:10] for each in spans[0]), f"licence {self.document.get('license', 'not stated')}"]
        variables = [
            {"name": name, "long_name": each.get("description"), "units": each.get("unit")}
            for name, each in (self.document.get("cube:variables") or {}).items()
        ]
        return notebook.dataset(self.title, facts, variables, picture=None, reference=self._address)

    @property
    def assets(self) -> Mapping[str, Mapping[str, Any]]:
        """The Zarr assets, by name, with complete addresses."""
        found = {}
        for name, asset in (self.document.get("assets") or {}).items():
            plain = str(asset.get("type", "")).partition(";")[0].strip()
            if plain in _ZARR or str(asset.get("href", "")).rstrip("/").endswith(".zarr"):
                found[name] = {**asset, "href": urljoin(self._address, asset["href"])}
        return found

    def items(self) -> Iterator[StacDataset]:
        """Yield the Items of the Collection, each with the assets of its own."""
        address = _link(self.document, "items", self._address)
        if address is None:
            for link in self.document.get("links", ()):
                if link.get("rel") == "item":
                    there = urljoin(self._address, link["href"])
                    yield StacDataset(_document(there), there)
            return
        following: str | None = address
        while following is not None:
            page = _document(following)
            for each in page.get("features", ()):
                yield StacDataset(each, _link(each, "self", following) or following)
            following = _link(page, "next", following)

    def open(self, asset: str | None = None) -> xr.Dataset:
        """Open a Zarr asset lazily, with its ``xarray:open_kwargs`` and ``xarray:storage_options``.

        Parameters
        ----------
        asset
            Its name. Default: the first one.

        Raises
        ------
        NoData
            If the Collection has no Zarr asset; its Items may have some.
        NotFound
            If it has no asset of that name.
        ExtraMissing
            If the extra ``client`` is not installed.
        """
        from cubeport.client.dataset import _xarray

        xarray = _xarray()
        assets = self.assets
        if not assets:
            raise NoData(f"{self.id} has no Zarr asset.", next_step="look at its items: next(data.items()).open()")
        if asset is not None and asset not in assets:
            raise NotFound(f"{self.id} has no Zarr asset {asset!r}; it has {', '.join(assets)}.", what="asset")
        found = assets[asset if asset is not None else next(iter(assets))]
        options = dict(found.get("xarray:open_kwargs") or {})
        if "xarray:storage_options" in found:
            options.setdefault("storage_options", found["xarray:storage_options"])
        options.pop("engine", None)
        opened: xr.Dataset = xarray.open_dataset(
            found["href"],
            engine=reader("zarr"),
            chunks=None,
            **{name: value for name, value in options.items() if name != "chunks"},
        )
        return opened


def _document(address: str) -> Any:
    content = HttpSession(address).get("", {}, accept="application/json, application/geo+json")
    try:
        return json.loads(content)
    except ValueError as exc:
        raise InvalidRequest(f"{address} is not JSON.") from exc


def _link(document: Mapping[str, Any], rel: str, base: str) -> str | None:
    found = next(
        (each for each in document.get("links", ()) if each.get("rel") == rel and each.get("method", "GET") == "GET"), None
    )
    return None if found is None else urljoin(base, str(found["href"]))


def _below(root: Mapping[str, Any], address: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the Collections of a static catalog, in the order of its links, each document once."""
    pending, seen = [(root, address)], {address}
    while pending:
        document, base = pending.pop(0)
        for link in document.get("links", ()):
            there = urljoin(base, str(link.get("href", "")))
            if link.get("rel") != "child" or there in seen or len(seen) >= _MOST_DOCUMENTS:
                continue
            seen.add(there)
            child = _document(there)
            if child.get("type") == "Collection":
                yield child, there
            pending.append((child, there))
