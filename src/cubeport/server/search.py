"""Parse and validate the parameters of STAC searches, and pass them to the service as values.

It covers Item Search and Collection Search with the extensions Fields, Sort, Filter and Free-text, by GET and POST.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from cubeport.catalog.forms.boxes import Box
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.query import parse_interval
from cubeport.documents import cql2
from cubeport.documents.fields import Fields
from cubeport.documents.geojson import are_closed
from cubeport.errors import InvalidFilter, InvalidRequest, Problem
from cubeport.server import incoming
from cubeport.service.collections import CollectionSearch
from cubeport.service.items import ItemSearch, Order

MAX_PAGE = 1_000
MAX_VERTICES = 10_000
MAX_VALUES = 32_000
"""The largest number of JSON values in the body of a search. A geometry with 10,000 vertices has 30,000."""

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_MOMENT = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
_DATETIME = re.compile(rf"{_MOMENT}|({_MOMENT}|\.\.)?/{_MOMENT}|{_MOMENT}/({_MOMENT}|\.\.)?", re.ASCII)


def _datetime(text: str) -> str:
    if not _DATETIME.fullmatch(text):
        raise ValueError("must be an RFC 3339 instant with its offset, or an interval a/b, ../b, a/..")
    try:
        parse_interval(text.upper())
    except InvalidFilter as exc:
        raise ValueError(exc.message[:200]) from exc
    return text.upper()


def check_box(numbers: list[float]) -> list[float]:
    """Return *numbers* if they are a box of 4 or 6 numbers; west > east crosses the antimeridian. Raises ValueError."""
    if len(numbers) not in (4, 6):
        raise ValueError("must be 4 or 6 numbers")
    west, south, east, north = _flat(numbers)
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90):
        raise ValueError("must be west,south,east,north in degrees, south not above north")
    return numbers


def _flat(numbers: list[float]) -> Box:
    west, south = numbers[0], numbers[1]
    east, north = (numbers[2], numbers[3]) if len(numbers) == 4 else (numbers[3], numbers[4])
    return west, south, east, north


def _crs84(uri: str) -> str:
    if uri != CRS84:
        raise ValueError(f"must be {CRS84}: geometries of filters are in longitude and latitude")
    return uri


Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=10_000)]
_Box = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=6), AfterValidator(check_box)]
_Datetime = Annotated[
    Annotated[str, Field(max_length=100), AfterValidator(_datetime)],
    Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/.."),
]
_Limit = Annotated[int, Field(ge=1, description="At most 1000 are given")]
_Token = Annotated[str, Field(max_length=4000)]
_Language = Annotated[Literal["cql2-text", "cql2-json"], Field(description="How the filter is written")]
_Crs = Annotated[str, AfterValidator(_crs84)]


class SortKey(incoming.Model):
    """One sort key."""

    field: Annotated[str, Field(max_length=100)]
    direction: Literal["asc", "desc"] = "asc"


class FieldsBody(incoming.Model):
    """The fields to include and exclude."""

    include: Names | None = None
    exclude: Names | None = None


class Search(incoming.Model):
    """The body of ``POST /stac/search``."""

    ids: Names | None = None
    collections: Names | None = None
    bbox: _Box | None = None
    datetime: _Datetime | None = None
    intersects: dict[str, Any] | None = None
    limit: _Limit = 100
    token: _Token | None = None
    sortby: Annotated[list[SortKey], Field(max_length=4)] | None = None
    fields: FieldsBody | None = None
    filter: dict[str, Any] | str | None = None
    filter_lang: _Language | None = Field(None, alias="filter-lang")
    filter_crs: _Crs | None = Field(None, alias="filter-crs")


class Paged(incoming.Model):
    """The GET parameters of all lists of items or collections."""

    bbox: Annotated[str | None, Field(description="west,south,east,north; west > east crosses 180°")] = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..")] = None
    limit: Annotated[str | None, Field(description="At most 1000 are given")] = None
    token: str | None = None
    ids: Annotated[str | None, Field(description="Ids, with commas")] = None
    sortby: Annotated[str | None, Field(description="Fields with commas, - before one that descends: -created,title")] = None
    fields: Annotated[str | None, Field(description="Fields to give with commas, - before one to leave out")] = None
    filter: Annotated[str | None, Field(description="CQL2: collection = 'sst' AND deprecated = FALSE")] = None
    filter_lang: Annotated[str | None, Field(alias="filter-lang", description="cql2-text (default) or cql2-json")] = None
    filter_crs: Annotated[str | None, Field(alias="filter-crs", description=f"Only {CRS84}")] = None


class SearchQuery(Paged):
    """The parameters of ``GET /stac/search``: lists separated by commas, and a geometry as GeoJSON text."""

    collections: Annotated[str | None, Field(description="Collection ids, with commas")] = None
    intersects: Annotated[str | None, Field(description="A GeoJSON geometry")] = None


class CollectionsQuery(Paged):
    """The parameters of ``GET /stac/collections``."""

    q: Annotated[str | None, Field(max_length=500, description="Words to find; commas separate texts of which any fits")] = None


def read(query: Paged) -> Search:
    """Return a GET query in the form of the body. Raises InvalidRequest."""
    problems: list[Problem] = []
    values: dict[str, Any] = {
        name: value for name, value in query.model_dump(by_alias=True, exclude={"q"}).items() if value is not None
    }
    for name in ("ids", "collections"):
        if name in values:
            values[name] = [part for part in values[name].split(",") if part]
    if "fields" in values:
        fields = Fields.read(values["fields"])
        values["fields"] = {"include": sorted(fields.include), "exclude": sorted(fields.exclude)}
    if "sortby" in values:
        values["sortby"] = [_sort_key(part.strip()) for part in values["sortby"].split(",") if part.strip()]
    if "filter" in values:
        values.setdefault("filter-lang", "cql2-text")
        if values["filter-lang"] == "cql2-json":
            values["filter"] = _json(values["filter"], "filter", problems)
    for name, make in (("bbox", _numbers), ("limit", int)):
        if name in values:
            try:
                values[name] = make(values[name])
            except ValueError:
                problems.append(Problem(("query", name), "malformed", "cannot be read"))
    if "intersects" in values:
        values["intersects"] = _json(values["intersects"], "intersects", problems)
    if problems:
        raise InvalidRequest("; ".join(f"{each.loc[1]}: {each.message}" for each in problems), errors=problems)
    return incoming.validated(values, Search)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _json(text: str, name: str, problems: list[Problem]) -> Any:
    try:
        return incoming.strict_json(text.encode(), max_values=MAX_VALUES)
    except InvalidRequest:
        problems.append(Problem(("query", name), "malformed", "is not JSON"))
        return None


def _sort_key(part: str) -> dict[str, str]:
    return {"field": part.lstrip("+-"), "direction": "desc" if part.startswith("-") else "asc"}


# --- items ----------------------------------------------------------------------------------------------------------

_ITEM_ORDERS: Mapping[str, Order] = {
    "id": (("owner.key", False), ("id", False)),
    "collection": (("owner.key", False),),
    "datetime": (("start", False),),
    "start_datetime": (("start", False),),
    "end_datetime": (("end", False),),
    "created": (("created", False),),
    "updated": (("created", False),),  # an item does not change after it was made
    "version": (("id", False),),
    "title": (("owner.title", False),),
}
_COLLECTION_ORDERS: Mapping[str, str] = {
    "id": "dataset_id",
    "title": "dataset_name",
    "license": "license",
    "created": "created",
    "updated": "shown_since",
    "datetime": "start",
    "start_datetime": "start",
    "end_datetime": "end",
}


def items(search: Search) -> ItemSearch:
    """Return the item search for the service.

    Raises
    ------
    InvalidRequest
        For ``bbox`` together with ``intersects``, an invalid geometry, an order by a field that cannot be sorted, or an invalid
        filter.
    """
    if search.bbox is not None and search.intersects is not None:
        why = "bbox and intersects cannot be combined; send one of them"
        raise InvalidRequest(why, errors=[Problem(("body", "intersects"), "conflict", why)])
    geometry = _geometry(search.intersects) if search.intersects is not None else None
    filtered = _filter(search)
    box = _flat(search.bbox) if search.bbox is not None else _around(geometry) if geometry is not None else None
    tests: list[Callable[[Mapping[str, Any]], bool]] = [] if geometry is None else [_meets(geometry)]
    ids = frozenset(search.ids) if search.ids is not None else None
    collections = frozenset(search.collections) if search.collections is not None else None
    if filtered is not None:
        # The index checks the conditions that it can, and the complete filter is applied to its results.
        tests.append(filtered.fits)
        ids, collections = _both(ids, filtered.values_of("id")), _both(collections, filtered.values_of("collection"))
        box = filtered.box if box is None else box
    return ItemSearch(
        ids=ids,
        collections=collections,
        box=box,
        interval=parse_interval(search.datetime) if search.datetime is not None else None,
        tests=tuple(tests),
        order=_item_order(search.sortby) if search.sortby else (("created", True),),
        limit=min(search.limit, MAX_PAGE),
        token=search.token,
        binding=_binding(search),
    )


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    return b if a is None else a if b is None else a & b


def _item_order(keys: Iterable[SortKey]) -> Order:
    return tuple((name, key.direction == "desc") for key in keys for name, _ in _order_of(key, _ITEM_ORDERS))


def _order_of[T](key: SortKey, orders: Mapping[str, T]) -> T:
    found = orders.get(key.field.removeprefix("properties."))
    if found is None:
        why = f"must be one of {', '.join(orders)}"
        raise InvalidRequest(f"sortby: {why}", errors=[Problem(("query", "sortby"), "not-a-choice", why)])
    return found


def _filter(search: Search) -> cql2.Filter | None:
    if search.filter is None:
        return None
    language = search.filter_lang or ("cql2-text" if isinstance(search.filter, str) else "cql2-json")
    if isinstance(search.filter, str) is not (language == "cql2-text"):
        why = f"is not {language}"
        raise InvalidRequest(f"filter: {why}", errors=[Problem(("body", "filter"), "bad-filter", why)])
    return cql2.read(search.filter) if isinstance(search.filter, str) else cql2.read(None, search.filter)


def fields(search: Search) -> Fields | None:
    """Return the requested fields of each document; ``None`` for all."""
    given = search.fields
    return Fields(frozenset(given.include or ()), frozenset(given.exclude or ())) if given is not None else None


# --- collections ----------------------------------------------------------------------------------------------------


def collections(search: Search, q: str | None) -> CollectionSearch:
    """Return the collection search for the service. Raises InvalidRequest."""
    filtered = _filter(search)
    ids = frozenset(search.ids) if search.ids is not None else None
    box = _flat(search.bbox) if search.bbox is not None else None
    if filtered is not None:
        ids = _both(ids, filtered.values_of("id"))
        box = filtered.box if box is None else box
    texts = tuple(part for part in q.split(",") if part.strip()) if q is not None else None
    order = [("-" if key.direction == "desc" else "") + _order_of(key, _COLLECTION_ORDERS) for key in search.sortby or ()]
    return CollectionSearch(
        q=texts or ((q,) if q else None),
        ids=ids,
        box=box,
        datetime=search.datetime,
        tests=(filtered.fits,) if filtered is not None else (),
        sort=tuple(order) or ("dataset_id",),
        limit=min(search.limit, MAX_PAGE),
        token=search.token,
        count=True,
    )


# --- geometries -----------------------------------------------------------------------------------------------------


def _around(geometry: Any) -> Box | None:
    """Return the bounding box of a geometry; ``None`` if it extends beyond the world, so that no valid box contains it."""
    west, south, east, north = geometry.bounds
    inside = west >= -180 and east <= 180 and south >= -90 and north <= 90
    return (west, south, east, north) if inside else None


def _meets(geometry: Any) -> Callable[[Mapping[str, Any]], bool]:
    from shapely.geometry import shape

    def meets(facts: Mapping[str, Any]) -> bool:
        own = facts["geometry"]  # an item without a place has no geometry and intersects none
        return own is not None and bool(shape(dict(own)).intersects(geometry))

    return meets


def _geometry(document: Mapping[str, Any]) -> Any:
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        geometry = shape(dict(document))
        good = (
            are_closed(document)
            and geometry.is_valid
            and not geometry.is_empty
            and shapely.get_num_coordinates(geometry) <= MAX_VERTICES
        )
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        good = False
    if not good:
        why = f"must be a valid GeoJSON geometry of at most {MAX_VERTICES} vertices"
        raise InvalidRequest(f"intersects: {why}", errors=[Problem(("body", "intersects"), "bad-geometry", why)])
    return geometry


def _binding(search: Search) -> str:
    """Return the text to which a token is bound: the query without page and token."""
    said = search.model_dump(mode="json", exclude={"token", "limit", "fields"})
    return hashlib.sha256(dumps(said).encode()).hexdigest()[:12]
