"""The texts of a dataset as one value: the part of every document that does not come from the bytes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from cubeport.documents.licences import UNSTATED


def check_web_address(text: str) -> str:
    """Return *text* if it is an http or https URL, because it becomes a link on pages and in documents. Raises ValueError."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or any(each.isspace() for each in text):
        raise ValueError("must be an http or https address, for example https://example.org/licence")
    return text


def _web_address_or_none(value: object) -> object:
    """Return a URL from earlier releases if it is valid, otherwise ``None``, because no page may link to it."""
    if not isinstance(value, str):
        return value
    try:
        return check_web_address(value)
    except ValueError:
        return None


type WebAddress = Annotated[str, AfterValidator(check_web_address)]
"""An http or https URL. Other schemes (javascript:, data:) would run in the reader's browser."""
type KeptAddress = Annotated[str | None, BeforeValidator(_web_address_or_none)]


class Provider(BaseModel):
    """Who made, processed or hosts the data (STAC provider object)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    roles: tuple[Literal["licensor", "producer", "processor", "host"], ...] = ()
    url: WebAddress | None = None


class Texts(BaseModel):
    """The texts of a dataset in its record (``metadata.dataset.texts``). A request merges them with sealed documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_id: str
    title: str
    description: str
    """Never empty, because STAC requires it."""
    short_name: str | None = None
    keywords: tuple[str, ...] = ()
    license: str = UNSTATED
    license_url: KeptAddress = None
    providers: tuple[Provider, ...] = ()
    attribution: str | None = None
    citation: str | None = None
    doi: str | None = None
    source: str | None = None
    source_url: KeptAddress = None
    render: tuple[dict[str, Any], ...] = ()
    period_type: str | None = None
    units: str | None = None
    resolution: str | None = None


def item_title(title: str, version_id: str) -> str:
    """Return the title of the STAC Item of a version, from the title of its dataset."""
    return f"{title}, version {version_id}"


class VersionRef(BaseModel):
    """The description of one version in a document, except its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version_id: str
    created_at: datetime
    digest: str
    """The sha256 of the manifest in hex."""
    size_bytes: int
    format: str = "zarr"
    copies: tuple[dict[str, Any], ...] = ()
    """Its copies in other formats: ``format, type, size_bytes, sha256``."""

    def copy_in(self, form: str) -> dict[str, Any] | None:
        """Return what there is to say of the copy in a format; ``None`` if there is none."""
        return next((each for each in self.copies if each["format"] == form), None)


class PublishedView(BaseModel):
    """Everything that a face needs to answer for one dataset, from one read of the catalog."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    texts: Texts
    version: VersionRef
    description: Any
    """:class:`~cubeport.cubes.description.CubeDescription` of the version."""
    sealed: dict[str, Any]
    """The documents made when the version was sealed: ``stac``, ``item``, ``ogc``, ``schema``; ``manifest``, its ``file:size``; of
    a version whose chunks lie in sources ``storage``."""
    record_version: int
    record_id: str
    created_at: datetime
    """When the dataset was created."""
    updated_at: datetime
    """When this version was published."""
    pinned: bool = False
    """Whether the URL named a version. Ids and links then contain ``@{version_id}``."""
    grid: str | None = None
    """The name of the grid that ``description`` describes; ``None`` for the first grid."""
    is_latest: bool = True
    tags: dict[str, str] = {}
    """Version ids by tag."""
    published: bool = True
    published_at: datetime | None = None
    source_dataset_id: str | None = None
    """Its template; ``None`` if the source was given directly."""
    latest: str | None = None
    head: str | None = None
    """The pointers of the dataset, whichever version this is: the published version, and the version that the next ingestion
    updates."""
    seq: int | None = None
    """The version's number within its dataset."""
    request_scope: dict[str, Any] | None = None
    """The scope of its ingestion request."""
    visibility: Literal["private", "project", "public"] | None = None
    created_by: str | None = None
    """Who may see it, and who made its record."""
    versions: tuple[VersionRef, ...] = ()
    """The newest retained versions that were ever published, newest first. Set only for documents that list them."""
    older: str | None = None
    newer: str | None = None
    """The previous and next version that is retained and was ever published. Set only for STAC documents."""

    @property
    def dataset_name(self) -> str:
        """The path of the dataset below ``/datasets``, with its version if it was named."""
        return f"{self.texts.dataset_id}@{self.version.version_id}" if self.pinned else self.texts.dataset_id

    @property
    def coverage_name(self) -> str:
        """The id of the OGC API collection: ``{dataset_id}[:{grid}][@{version_id}]``."""
        name = self.texts.dataset_id if self.grid is None else f"{self.texts.dataset_id}:{self.grid}"
        return f"{name}@{self.version.version_id}" if self.pinned else name

    def on(self, grid: str) -> PublishedView:
        """Return the view of another grid of the store. Raises KeyError."""
        title = f"{self.texts.title}: {', '.join(self.description.on(grid).fields[:5])}"
        own = {"texts": self.texts.model_copy(update={"title": title}), "description": self.description.on(grid), "grid": grid}
        return self.model_copy(update={**own, "sealed": {}})

    def coverages(self) -> tuple[PublishedView, ...]:
        """Return the views of all coverages of the dataset, the first fields first."""
        return (self, *(self.on(each.name) for each in self.description.grids))

    def having(self, fields: Collection[str]) -> PublishedView:
        """Return the coverage with all these fields, or the first coverage if none has them all."""
        name = next((each.name for each in self.description.grids if fields and set(fields) <= set(each.fields)), None)
        return self if name is None else self.on(name)
