"""``kind: stac``: the assets of STAC Items, of one or of all of a Collection (STAC 1.0 and 1.1).

A Collection lists its items with links ``item`` (a static catalog) or ``items`` (an API, read page by page), or it has the asset
itself. The same rules apply to the URL of an asset as to any other source.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from cubeport.adapters.fetching.downloads import small
from cubeport.adapters.fetching.patience import patiently
from cubeport.adapters.storage.fetching import KeepingFetcher
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.cubes import periods
from cubeport.cubes.calendars import Stamp, parse_stamp
from cubeport.cubes.sources import Area, Fetched, Period, PeriodSource
from cubeport.cubes.write_request import Choose
from cubeport.errors import InvalidPeriod, InvalidRequest, NoData, SourceRejected

_DOCUMENT_BYTES = 8 << 20
_ITEMS = 10_000
_PAGES = 1_000

type OfAsset = Callable[[Asset], PeriodSource]
"""Returns the source of an asset. Refuses URLs that are not allowed."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset of an item."""

    href: str
    """The absolute URL."""
    is_zarr: bool
    """Whether its media type is that of a Zarr store."""


@dataclass(frozen=True, slots=True)
class _Item:
    id: str
    asset: Asset
    start: str
    end: str

    def spans(self, like: Period) -> range:
        """Return the numbers of the periods that the item covers."""
        first = periods.of(_stamp(self.start, like), like.type, like.calendar)
        end = _stamp(self.end, like)
        last = periods.of(end, like.type, like.calendar)
        # An interval that ends where a period begins does not include it.
        if last > first and periods.start_of(last, like.type, like.calendar) == end:
            last -= 1
        return range(first, last + 1)


def _stamp(text: str, like: Period) -> Stamp:
    return parse_stamp(text, like.calendar)


class StacSource:
    """The asset with one key in every item.

    Parameters
    ----------
    asset
        The key of the asset. ``None`` selects the only asset with the role ``data``, or the only asset.
    interval
        ``datetime`` of the block. Items outside it are ignored.
    wanted
        Properties that items must have.
    """

    max_concurrency = 4
    resumes = True
    is_patient = True
    is_periodic: bool | None = None

    def __init__(
        self,
        uri: str,
        fetcher: KeepingFetcher,
        of_asset: OfAsset,
        *,
        asset: str | None,
        interval: str | None,
        wanted: Mapping[str, object],
        stopping: threading.Event,
    ) -> None:
        self._uri, self._fetcher, self._of_asset = uri, fetcher, of_asset
        self._asset, self._wanted, self._stopping = asset, dict(wanted), stopping
        self._from, self._to = _interval(interval)
        self._found: tuple[_Item, ...] | None = None
        self._whole: Asset | None = None
        """The Collection's own asset."""
        self._looking = threading.Lock()

    def stop(self) -> None:
        """Stop running fetches."""
        self._stopping.set()

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:
        """Return the periods that an item covers; ``None`` if the Collection itself has the asset."""
        items = self._items()
        if self._whole is not None:
            return None
        numbers = {n for item in items for n in item.spans(start)}
        return [start.moved(n - start.number) for n in range(start.number, end.number + 1) if n in numbers]

    def unit(self, period: Period) -> str:
        """Return the ids and addresses of the items of a period. Items of several Collections can have the same id."""
        items = self._items()
        named = [f"{item.id} {_plain(item.asset.href)}" for item in items if period.number in item.spans(period)]
        return self._whole.href if self._whole else "\n".join(named)

    def validator(self, period: Period | None) -> str | None:
        """Return the current validators of all assets, or ``None`` if an asset has none."""
        said = [self._said(asset) for asset in self._assets(period)]
        return "\n".join(map(str, said)) if said and None not in said else None

    def _said(self, asset: Asset) -> str | None:
        ask: Callable[[None], str | None] | None = getattr(self._of_asset(asset), "validator", None)
        return ask(None) if ask is not None else None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        """Fetch the assets. Raises NoData if no item covers the period."""
        assets = self._assets(period)
        if not assets:
            raise NoData(f"No item of {_plain(self._uri)} fits.", next_step="check asset, datetime and filter of the source")
        files: list[Path] = []
        said: list[str | None] = []
        for number, asset in enumerate(assets):
            folder = into / f"{number:05d}"
            folder.mkdir(exist_ok=True)
            fetched = self._of_asset(asset).fetch_period(None, area, folder)
            files += fetched.files
            said.append(fetched.validator)
        return Fetched(tuple(files), "\n".join(map(str, said)) if None not in said else None)

    def fetch_chosen(self, choose: Choose, into: Path) -> Fetched:
        """Fetch the part that *choose* needs, if there is one asset and it is a Zarr store; otherwise, fetch all."""
        assets = self._assets(None)
        fetch = getattr(self._of_asset(assets[0]), "fetch_chosen", None) if len(assets) == 1 else None
        found: Fetched = fetch(choose, into) if fetch is not None else self.fetch_period(None, None, into)
        return found

    def _assets(self, period: Period | None) -> list[Asset]:
        items = self._items()
        if self._whole is not None:
            return [self._whole]
        return [item.asset for item in items if period is None or period.number in item.spans(period)]

    # --- documents ---

    def _items(self) -> tuple[_Item, ...]:
        with self._looking:
            if self._found is None:
                self._found = tuple(self._look())
            return self._found

    def _look(self) -> Iterator[_Item]:
        document = self._document(self._uri)
        match document.get("type"):
            case "Feature":
                documents: Iterator[tuple[str, Mapping[str, Any]]] = iter([(self._uri, document)])
            case "FeatureCollection":
                documents = self._pages(self._uri, document)
            case "Collection":
                self._whole = self._asset_of(self._uri, document, required=False)
                if self._whole is not None:
                    return
                documents = self._of_collection(document)
            case _:
                raise _refused(self._uri, "is neither a STAC Item nor a Collection", "unreadable", "name one of them")
        for number, (uri, item) in enumerate(documents):
            if number >= _ITEMS:
                raise _refused(self._uri, f"has more than {_ITEMS} items", "too-big", "name datetime or filter in the source")
            found = self._item(uri, item)
            if found is not None:
                yield found

    def _of_collection(self, document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        static = _links(document, "item")
        for link in static:
            uri = _joined(self._uri, link["href"])
            yield uri, self._document(uri)
        if not static and (pages := _links(document, "items")):
            uri = _joined(self._uri, pages[0]["href"])
            yield from self._pages(uri, self._document(uri))

    def _pages(self, uri: str, page: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        seen = {uri}
        for _ in range(_PAGES):
            features = page.get("features") or ()
            for item in features if isinstance(features, list) else ():
                if isinstance(item, Mapping):
                    own = _links(item, "self")
                    yield (_joined(uri, own[0]["href"]) if own else uri), item
            following = _links(page, "next")
            if not following:
                return
            if following[0].get("method", "GET") != "GET":
                raise _refused(uri, "has pages that are not asked for with GET", "unreadable", "name the items' own address")
            uri = _joined(uri, following[0]["href"])
            if uri in seen:
                raise _refused(uri, "is the page after itself", "unreadable", "name the Items, or tell its provider")
            seen.add(uri)
            page = self._document(uri)
        raise _refused(uri, f"has more than {_PAGES} pages", "too-big", "name datetime or filter in the source")

    def _item(self, uri: str, item: Mapping[str, Any]) -> _Item | None:
        properties = item.get("properties")
        if not isinstance(properties, Mapping) or not isinstance(item.get("id"), str):
            raise _refused(uri, "is not a STAC Item", "unreadable", "name an Item or a Collection")
        if any(properties.get(name) != value for name, value in self._wanted.items()):
            return None
        start = properties.get("start_datetime") or properties.get("datetime")
        end = properties.get("end_datetime") or properties.get("datetime") or start
        if not isinstance(start, str) or not isinstance(end, str):
            raise _refused(uri, "has no datetime", "bad-time", "leave it out with filter")
        try:
            first, last = parse_stamp(start, "standard"), parse_stamp(end, "standard")
        except InvalidPeriod as exc:
            raise _refused(uri, "has a datetime that is none", "bad-time", "leave it out with filter") from exc
        if last < first:
            raise _refused(uri, "ends before it begins", "bad-time", "leave it out with filter")
        if (self._from is not None and last < self._from) or (self._to is not None and first > self._to):
            return None
        asset = self._asset_of(uri, item, required=True)
        assert asset is not None
        return _Item(item["id"], asset, start, end)

    def _asset_of(self, uri: str, document: Mapping[str, Any], *, required: bool) -> Asset | None:
        """Return the asset. Raises SourceRejected with the names of the existing assets."""
        found = document.get("assets") or {}
        assets = {str(key): each for key, each in found.items() if isinstance(each, Mapping)} if isinstance(found, Mapping) else {}
        named = [key for key in assets if key == self._asset]
        chosen = named if self._asset is not None else _with_data(assets) or list(assets)
        if len(chosen) == 1 and isinstance(assets[chosen[0]].get("href"), str):
            found_asset = assets[chosen[0]]
            return Asset(_joined(uri, str(found_asset["href"])), "zarr" in str(found_asset.get("type", "")).lower())
        if not required and (self._asset is None or not chosen):
            return None
        names = ", ".join(sorted(assets)[:20]) or "none"
        said = f"asset {self._asset!r}" if self._asset is not None else "one asset that is the data"
        step = f"choose one with asset, e.g. {min(assets)}" if assets else "name another Item or Collection"
        raise _refused(uri, f"has not {said}; there are {names}", "not-a-cube", step)

    def _document(self, uri: str) -> Mapping[str, Any]:
        data = patiently(lambda: small(self._fetcher, uri, most=_DOCUMENT_BYTES), self._stopping)
        if data is None:
            raise NoData(f"There is nothing at {_plain(uri)}.", next_step="check the address")
        try:
            document = strict_json(data.decode(), nan=False)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, Mapping):
            raise _refused(uri, "is not JSON", "unreadable", "name the address of a STAC Item or Collection")
        return document


def refuse_stac(uri: str, path: Path) -> None:
    """Raise SourceRejected if what came from an address is a STAC Item or Collection, with the flag that takes an asset of it."""
    with path.open("rb") as file:
        data = file.read(_DOCUMENT_BYTES) if file.read(1) == b"{" else b""
    if not data:
        return
    try:
        document = strict_json(f"{{{data.decode()}", nan=False)
    except (ValueError, RecursionError):
        return
    assets = document.get("assets") if isinstance(document, Mapping) and "stac_version" in document else None
    if isinstance(assets, Mapping):
        chosen = next(iter([*_with_data(assets), *assets]), "NAME")
        raise _refused(
            uri,
            f"is a STAC {'Item' if document.get('type') == 'Feature' else 'Collection'}, not data",
            "not-a-cube",
            f"take one of its assets, for example with --asset {chosen} (asset in a source of kind stac)",
        )


def _with_data(assets: Mapping[str, Any]) -> list[str]:
    """Return the keys of the assets with the role ``data``."""
    roles = {key: each.get("roles") for key, each in assets.items() if isinstance(each, Mapping)}
    return [key for key, each in roles.items() if "data" in (each if isinstance(each, list) else [each])]


def _links(document: Mapping[str, Any], rel: str) -> list[Mapping[str, Any]]:
    links = document.get("links")
    found = links if isinstance(links, list) else []
    return [each for each in found if isinstance(each, Mapping) and each.get("rel") == rel and isinstance(each.get("href"), str)]


def _joined(uri: str, href: str) -> str:
    try:
        return urljoin(uri, href)
    except ValueError as exc:  # http://[
        raise _refused(uri, f"has the address {href[:80]!r}, which is none", "unreadable", "leave it out with filter") from exc


def _interval(text: str | None) -> tuple[Stamp | None, Stamp | None]:
    """Return the ends of ``datetime``: an instant, or ``start/end`` with ``..`` for an open end. Raises InvalidRequest."""
    if text is None:
        return None, None
    first, slash, last = text.partition("/")
    try:
        ends = [None if part in ("..", "") else parse_stamp(part, "standard") for part in (first, last if slash else first)]
    except InvalidPeriod as exc:
        raise InvalidRequest("datetime of the source is an instant or start/end, RFC 3339.") from exc
    return ends[0], ends[1]


def _plain(uri: str) -> str:
    return uri.partition("?")[0][:300]


def _refused(uri: str, text: str, reason: str, next_step: str) -> SourceRejected:
    return SourceRejected(f"{_plain(uri)} {text}.", reason=reason, source=_plain(uri), next_step=next_step)
