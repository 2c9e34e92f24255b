"""STAC catalogs of other services: their Collections and Items, whose Zarr assets open as xarray."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import Request

from cubeport.client._http import fetched
from cubeport.client.found import Found, has
from cubeport.cubes.readers import reader
from cubeport.errors import CubeportError, ExtraMissing, InvalidRequest, NoData, NotFound, TooLarge, Unavailable

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

    def search(self, text: str | None = None) -> Found[StacDataset]:
        """Return the Collections with *text* in their id, title, description or keywords, in the order of the catalog, one after
        the other: ``for data in found``, ``found[0]``, ``list(found)``.

        Items that a catalog has without a Collection are among them. This makes no request; taking the first result does.

        Raises
        ------
        InvalidRequest
            If the address, or what it links to, is not STAC.
        NotFound, Unavailable
            If an address does not answer.
        TooLarge
            If a static catalog has more than 10,000 documents.
        """
        return Found(lambda: self._with((text or "").lower().split()), f"{self.url}{f' text={text!r}' if text else ''}")

    def _with(self, words: Sequence[str]) -> Iterator[StacDataset]:
        for document, address in self._documents():
            found = StacDataset(document, address)
            said = " ".join((found.id, found.title, str(found.said("description") or ""), *map(str, found.said("keywords") or ())))
            if all(word in said.lower() for word in words):
                yield found

    def __iter__(self) -> Iterator[StacDataset]:
        return self.search()

    def __contains__(self, collection_id: str) -> bool:
        """Return whether the catalog has such a Collection, as ``catalog[collection_id]`` would find it."""
        return has(self, collection_id)

    def __getitem__(self, collection_id: str) -> StacDataset:
        return self.get(collection_id)

    def get(self, collection_id: str) -> StacDataset:
        """Return one Collection, as ``catalog[collection_id]`` does. Raises NotFound, with the most similar ids."""
        root, address = self._root()
        listed = _link(root, "data", address)
        if listed is not None:
            split = urlsplit(listed)
            one = split._replace(path=f"{split.path.rstrip('/')}/{quote(collection_id, safe='')}").geturl()
            try:
                return StacDataset(*_document(one))
            except NotFound:
                pass  # its list says what there is
        seen = []
        for each in self.search():
            if each.id == collection_id:
                return each
            seen.append(each.id)
        near = difflib.get_close_matches(collection_id, seen, 3)
        step = f"did you mean {' or '.join(near)}?" if near else None
        raise NotFound(f"{self.url} has no Collection {collection_id[:80]!r}.", what="collection", next_step=step)

    def _root(self) -> tuple[Mapping[str, Any], str]:
        root, address = _document(self.url)
        if "stac_version" not in root:
            raise InvalidRequest(
                f"{self.url} is not a STAC catalog.", next_step="give the address of its landing page or catalog.json"
            )
        return root, address

    def _documents(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        root, base = self._root()
        if _is_data(root):
            yield root, base
            return
        listed = _link(root, "data", base)
        if listed is None:
            yield from _below(root, base)
            return
        address: str | None = listed
        while address is not None:
            page, there = _document(address)
            for each in page.get("collections", ()):
                yield each, _link(each, "self", there) or there
            address = _link(page, "next", there)


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
        return str(self.said("title") or self.id)

    def said(self, name: str) -> Any:
        """Return what the document says under a name; an Item says it in its properties."""
        return self.document.get(name) or (self.document.get("properties") or {}).get(name)

    def __repr__(self) -> str:
        return f"<cubeport.StacDataset {self.id}: {self.title}>"

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        extent = self.document.get("extent") or {}
        ends = (extent.get("temporal", {}).get("interval") or [[self.said("start_datetime"), self.said("end_datetime")]])[0]
        if not any(ends):
            ends = [self.said("datetime")]
        facts = [" to ".join(str(each or "…")[:10] for each in ends), f"licence {self.said('license') or 'not stated'}"]
        variables = [
            {"name": name, "long_name": each.get("description"), "units": each.get("unit")}
            for name, each in (self.said("cube:variables") or {}).items()
        ]
        return notebook.dataset(self.title, facts, variables, picture=None, reference=self._address)

    @property
    def assets(self) -> Mapping[str, Mapping[str, Any]]:
        """The Zarr assets, by name, with complete addresses."""
        found = {}
        for name, asset in (self.document.get("assets") or {}).items():
            href = asset.get("href")
            if not isinstance(href, str):
                continue
            plain = str(asset.get("type", "")).partition(";")[0].strip().lower()
            if plain in _ZARR or urlsplit(href).path.rstrip("/").endswith(".zarr"):
                found[name] = {**asset, "href": _joined(self._address, href)}
        return found

    def items(self) -> Iterator[StacDataset]:
        """Yield the Items of the Collection, each with the assets of its own."""
        address = _link(self.document, "items", self._address)
        if address is None:
            for link in self.document.get("links", ()):
                if link.get("rel") == "item":
                    yield StacDataset(*_document(_joined(self._address, link["href"])))
            return
        following: str | None = address
        while following is not None:
            page, there = _document(following)
            for each in page.get("features", ()):
                yield StacDataset(each, _link(each, "self", there) or there)
            following = _link(page, "next", there)

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
            If it has no asset of that name, or there is no Zarr store at its address.
        InvalidRequest
            If xarray cannot open it, or does not take its options.
        ExtraMissing
            If the extra ``client`` is not installed, or what its protocol needs.
        Unavailable
            If its store does not answer.
        """
        return self._opened(asset)

    def select(
        self,
        *,
        variables: str | Sequence[str] | None = None,
        time: str | slice | None = None,
        box: Sequence[float] | None = None,
        level: float | str | None = None,
        at: Sequence[float] | None = None,
        area: Any = None,
        asset: str | None = None,
        **axes: float | str,
    ) -> xr.Dataset:
        """Return a part of a Zarr asset, lazily. The rules are those of :meth:`cubeport.client.Dataset.select`.

        ::

            catalog["era5"].select(variables="t2m", time="2020-06", box=(-10, 40, 30, 60)).mean("time")

        Parameters
        ----------
        variables, time, box, level, at, area, axes
            As for :meth:`cubeport.client.Dataset.select`. A line (``along``) is not among them.
        asset
            As for :meth:`open`.

        Raises
        ------
        InvalidRequest, NotFound
            If a name, a value or a place is not in the data; and as :meth:`open`.
        SourceRejected
            If the asset is not a cube: its time or its coordinates cannot be read.
        """
        from cubeport.client.selecting import asked, selected

        if "along" in axes:
            raise InvalidRequest(
                "select of a STAC catalog takes no line.", next_step="take places, one after the other: at=(lon, lat)"
            )
        kind, query = asked(variables=variables, time=time, box=box, level=level, at=at, area=area, axes=axes)
        return selected(self._opened(asset, decode_cf=False), self._opened(asset), kind, query)

    def _opened(self, asset: str | None, **more: Any) -> xr.Dataset:
        from cubeport.client.dataset import _xarray

        xarray = _xarray()
        assets = self.assets
        if not assets:
            others = [f"{name} ({each.get('type', 'of no type')})" for name, each in (self.document.get("assets") or {}).items()]
            words = f", but {', '.join(others[:5])}" if others else ""
            is_item = self.document.get("type") == "Feature"
            raise NoData(
                f"{self.id} has no Zarr asset{words}.",
                next_step=None if is_item else "look at its items: next(data.items()).open()",
            )
        if asset is not None and asset not in assets:
            raise NotFound(f"{self.id} has no Zarr asset {asset!r}; it has {', '.join(assets)}.", what="asset")
        found = assets[asset if asset is not None else next(iter(assets))]
        options = dict(found.get("xarray:open_kwargs") or {})
        if "xarray:storage_options" in found:
            options.setdefault("storage_options", found["xarray:storage_options"])
        options.pop("engine", None)
        options.pop("chunks", None)
        address = found["href"]
        try:
            opened: xr.Dataset = xarray.open_dataset(address, engine=reader("zarr"), chunks=None, **(options | more))
        except ImportError as exc:
            raise ExtraMissing(f"Opening {address} needs a package: {exc}", what=urlsplit(address).scheme) from exc
        except FileNotFoundError as exc:
            raise NotFound(f"There is no Zarr store at {address}.", what="asset") from exc
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidRequest(f"xarray cannot open {address}: {exc}") from exc
        except OSError as exc:
            raise Unavailable(f"{address} does not answer: {exc}") from exc
        return opened


def _document(address: str) -> tuple[Mapping[str, Any], str]:
    """Return the JSON object at an address, and where it was after redirects."""
    if not address.lower().startswith(("http://", "https://")):
        raise InvalidRequest(f"{address} is not an http or https address.")
    headers = {"User-Agent": "cubeport", "Accept": "application/json, application/geo+json"}
    content, there = fetched(Request(address, headers=headers), address, lambda exc: _refused(exc, address))  # noqa: S310 - checked
    try:
        found = json.loads(content)
    except ValueError as exc:
        raise InvalidRequest(f"{address} is not JSON.") from exc
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"{address} is not a STAC document.")
    return found, there


def _refused(exc: HTTPError, address: str) -> CubeportError:
    with exc:
        return (NotFound if exc.code in (404, 410) else Unavailable)(f"{address} answers {exc.code} {exc.reason}.")


def _joined(base: str, href: str) -> str:
    """Return the complete address of a link. Spaces and letters beyond ASCII, which files in folders have, are escaped."""
    return quote(urljoin(base, href), safe="%/:?#[]@!$&'()*+,;=~")


def _is_data(document: Mapping[str, Any]) -> bool:
    """Return whether a document is a Collection or an Item. Before STAC 1.0 a Collection had no type."""
    return document.get("type") in ("Collection", "Feature") or ("type" not in document and "extent" in document)


def _link(document: Mapping[str, Any], rel: str, base: str) -> str | None:
    found = next(
        (each for each in document.get("links", ()) if each.get("rel") == rel and each.get("method", "GET") == "GET"), None
    )
    return None if found is None else _joined(base, str(found["href"]))


def _below(root: Mapping[str, Any], address: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the Collections of a static catalog, and the Items that are in none, in the order of links, each document once."""
    pending, seen = [(root, address)], {address}
    while pending:
        document, base = pending.pop(0)
        # The Items of a Collection are its own.
        wanted = ("child",) if _is_data(document) else ("child", "item")
        for link in document.get("links", ()):
            if link.get("rel") not in wanted or (there := _joined(base, str(link.get("href", "")))) in seen:
                continue
            if len(seen) > _MOST_DOCUMENTS:
                raise TooLarge(
                    f"The catalog at {address} has more than {_MOST_DOCUMENTS:,} documents.",
                    limit=_MOST_DOCUMENTS,
                    next_step="open one of the catalogs below it",
                )
            seen.add(there)
            child, at = _document(there)
            if _is_data(child):
                yield child, at
            pending.append((child, at))
