"""The documents of the standards as types, and a check that lists all problems of a document.

A type ``…JSON`` is the raw document that is sent. It has the members that the standard or an extension defines; a document can have
more. The type checker and :func:`problems` use the same types, so they cannot differ.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from cubeport.errors import Problem

_OPEN = ConfigDict(extra="allow", strict=True)

type Bbox = Annotated[list[float], Field(min_length=4, max_length=6)]
"""West, south, east, north in degrees, CRS84; west > east crosses the antimeridian (RFC 7946, 5)."""

# --- STAC 1.1 -------------------------------------------------------------------------------------------------------------


@with_config(_OPEN)
class LinkJSON(TypedDict):
    """A link (RFC 8288). STAC core refuses a title that is null."""

    rel: str
    href: str
    type: str
    title: str
    method: NotRequired[Literal["GET", "POST"]]
    body: NotRequired[dict[str, Any]]
    merge: NotRequired[bool]


@with_config(_OPEN)
class SpatialExtentJSON(TypedDict):
    """The spatial extent of a collection (STAC Collection, 1.1)."""

    bbox: list[Bbox]


@with_config(_OPEN)
class TemporalExtentJSON(TypedDict):
    """The temporal extent of a collection; ``None`` is an open end (STAC Collection, 1.1)."""

    interval: list[list[str | None]]


@with_config(_OPEN)
class ExtentJSON(TypedDict):
    """The spatial and temporal extent of a collection (STAC Collection, 1.1)."""

    spatial: SpatialExtentJSON
    temporal: TemporalExtentJSON


@with_config(_OPEN)
class ProviderJSON(TypedDict):
    """Who produced, licensed, processed or hosts the data (STAC common metadata, Provider)."""

    name: str
    roles: NotRequired[list[Literal["producer", "licensor", "processor", "host"]]]
    url: NotRequired[str]


_OpenJSON = TypedDict(
    "_OpenJSON",
    {
        "zarr:zarr_format": int,
        "zarr:node_type": Literal["group", "array"],
        "zarr:consolidated": bool,
        "xarray:open_kwargs": dict[str, Any],
    },
    total=False,
)
"""How to open a store (extensions zarr and xarray-assets)."""

_LiesJSON = TypedDict(
    "_LiesJSON", {"cubeport:storage": Literal["virtual"], "cubeport:codecs": list[str], "cubeport:verified": str}, total=False
)
"""Of a version whose chunks lie in its sources: the codecs that are extensions of Zarr, which not every client has."""

_FileJSON = TypedDict("_FileJSON", {"file:size": int, "file:checksum": str, "version": str}, total=False)
"""Fields of the extensions file and version."""


@with_config(_OPEN)
class ItemAssetJSON(_OpenJSON, _LiesJSON, _FileJSON):
    """What the assets of a collection's items have in common (STAC Item Assets)."""

    title: NotRequired[str]
    type: NotRequired[str]
    roles: NotRequired[list[str]]


@with_config(_OPEN)
class AssetJSON(ItemAssetJSON):
    """A store or document of an Item or a Collection (STAC Asset; extensions file, zarr, xarray-assets, version)."""

    href: str


@with_config(_OPEN)
class CatalogJSON(TypedDict):
    """A Catalog that is a landing page (STAC API, Core)."""

    type: Literal["Catalog"]
    stac_version: Literal["1.1.0"]
    id: str
    title: str
    description: Annotated[str, Field(min_length=1)]
    conformsTo: NotRequired[list[str]]
    """Of the landing page; the Catalogs below it have none."""
    links: list[LinkJSON]


DatacubeJSON = TypedDict(
    "DatacubeJSON",
    {
        "cube:dimensions": dict[str, dict[str, Any]],
        "cube:variables": dict[str, dict[str, Any]],
        "proj:code": str | None,
        "proj:wkt2": str | None,
        "proj:projjson": dict[str, Any] | None,
        "proj:bbox": list[float],
        "proj:shape": list[int],
        "proj:transform": list[float],
    },
    total=False,
)
"""Fields of the extensions datacube and projection."""

CitationJSON = TypedDict("CitationJSON", {"sci:doi": str, "sci:citation": str}, total=False)
"""Fields of the extension scientific."""


@with_config(_OPEN)
class CollectionJSON(DatacubeJSON, CitationJSON):
    """One dataset, or one version of it (STAC Collection, 1.1)."""

    type: Literal["Collection"]
    stac_version: Literal["1.1.0"]
    stac_extensions: list[str]
    id: str
    title: str
    description: Annotated[str, Field(min_length=1)]
    keywords: NotRequired[list[str]]
    license: str
    providers: list[ProviderJSON]
    extent: ExtentJSON
    created: str
    updated: str
    version: str
    attribution: NotRequired[str]
    renders: NotRequired[dict[str, dict[str, Any]]]
    summaries: NotRequired[dict[str, Any]]
    assets: dict[str, AssetJSON]
    item_assets: dict[str, ItemAssetJSON]
    links: list[LinkJSON]


@with_config(_OPEN)
class PropertiesJSON(DatacubeJSON):
    """The properties of an Item (STAC Item, 1.1; extensions datacube, projection, version)."""

    datetime: str | None
    start_datetime: NotRequired[str]
    end_datetime: NotRequired[str]
    title: str
    description: str
    keywords: NotRequired[list[str]]
    license: str
    created: str
    version: str
    deprecated: bool


@with_config(_OPEN)
class ItemJSON(TypedDict):
    """One version of a dataset (STAC Item, 1.1). Without a place, ``geometry`` is null and ``bbox`` is absent (RFC 7946, 3.2)."""

    type: Literal["Feature"]
    stac_version: Literal["1.1.0"]
    stac_extensions: list[str]
    id: str
    collection: str
    geometry: dict[str, Any] | None
    bbox: NotRequired[Bbox]
    properties: PropertiesJSON
    assets: dict[str, AssetJSON]
    links: list[LinkJSON]


@with_config(_OPEN)
class CountedJSON(TypedDict):
    """The number of objects on a page, and the total number if it is known."""

    numberReturned: int
    numberMatched: NotRequired[int]


@with_config(_OPEN)
class _PageJSON(CountedJSON):
    links: list[LinkJSON]


@with_config(_OPEN)
class CollectionsJSON(_PageJSON):
    """One page of Collections (STAC API, Collections)."""

    collections: list[CollectionJSON]


@with_config(_OPEN)
class ItemCollectionJSON(_PageJSON):
    """One page of Items (STAC API, Item Search)."""

    type: Literal["FeatureCollection"]
    features: list[ItemJSON]


@with_config(_OPEN)
class SealedCollectionJSON(DatacubeJSON):
    """The part of a Collection that describes a version's bytes. It is made once, when the version is sealed."""

    stac_extensions: list[str]
    extent: ExtentJSON
    summaries: NotRequired[dict[str, Any]]
    renders: NotRequired[dict[str, dict[str, Any]]]


@with_config(_OPEN)
class SealedPropertiesJSON(DatacubeJSON):
    """The part of an Item's properties that describes a version's bytes. Without time, there is no ``datetime`` yet."""

    datetime: NotRequired[str | None]
    start_datetime: NotRequired[str]
    end_datetime: NotRequired[str]


@with_config(_OPEN)
class SealedItemJSON(TypedDict):
    """The part of an Item that describes a version's bytes."""

    stac_extensions: list[str]
    geometry: dict[str, Any] | None
    bbox: NotRequired[Bbox]
    properties: SealedPropertiesJSON


@with_config(_OPEN)
class SealedStacJSON(TypedDict):
    """Both parts, as stored with the version."""

    stac: SealedCollectionJSON
    item: SealedItemJSON


# --- OGC API --------------------------------------------------------------------------------------------------------------


@with_config(_OPEN)
class LandingPageJSON(TypedDict):
    """The landing page (OGC API Common, Part 1, 7.2)."""

    title: str
    description: str
    links: list[LinkJSON]


@with_config(_OPEN)
class ConformanceJSON(TypedDict):
    """The conformance declaration (OGC API Common, Part 1, 7.4)."""

    conformsTo: list[str]


@with_config(_OPEN)
class CoverageCollectionJSON(TypedDict):
    """One collection of the OGC face (OGC API Common, Part 2, 7.1; EDR, collection)."""

    id: str
    title: str
    description: str
    itemType: Literal["feature"]
    """Of ``…/items``, which lists the places whose values can be asked."""
    keywords: NotRequired[list[str]]
    attribution: NotRequired[str]
    extent: dict[str, Any]
    crs: list[str]
    storageCrs: str | None
    output_formats: list[str]
    parameter_names: dict[str, dict[str, Any]]
    data_queries: dict[str, dict[str, Any]]
    links: list[LinkJSON]


@with_config(_OPEN)
class CoverageCollectionsJSON(_PageJSON):
    """One page of collections (OGC API Common, Part 2, 7.2)."""

    collections: list[CoverageCollectionJSON]


@with_config(_OPEN)
class SealedCoverageJSON(TypedDict):
    """The part of an OGC collection that describes a version's bytes."""

    extent: dict[str, Any]
    crs: list[str]
    storageCrs: str | None
    parameter_names: dict[str, dict[str, Any]]


@with_config(_OPEN)
class SealedOgcJSON(TypedDict):
    """The OGC documents that are stored with a version: the collection, and the JSON Schema of its fields."""

    collection: SealedCoverageJSON
    schema: dict[str, Any]


# --- the check --------------------------------------------------------------------------------------------------------------


@cache
def _adapter(form: type) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def problems(document: object, form: type) -> tuple[Problem, ...]:
    """Return all problems of *document* as a type *form* of this module, each with its place. Empty if there are none."""
    try:
        _adapter(form).validate_python(document)
    except ValidationError as exc:
        return tuple(Problem(tuple(each["loc"]), each["type"], each["msg"]) for each in exc.errors(include_url=False))
    return ()
