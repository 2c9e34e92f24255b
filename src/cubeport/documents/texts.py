"""What people wrote about a dataset, as one value: the half of every document that does not come from the bytes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from cubeport.documents.licences import UNSTATED


def check_web_address(text: str) -> str:
    """Return *text* if it is an http or https address: it becomes a link on pages and in documents. Raises ValueError."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or any(each.isspace() for each in text):
        raise ValueError("must be an http or https address, for example https://example.org/licence")
    return text


def _web_address_or_none(value: object) -> object:
    """Return what was kept before addresses were checked, or nothing: no page may link it."""
    if not isinstance(value, str):
        return value
    try:
        return check_web_address(value)
    except ValueError:
        return None


type WebAddress = Annotated[str, AfterValidator(check_web_address)]
"""An http or https address; another scheme (javascript:, data:) would run in the reader's browser."""
type KeptAddress = Annotated[str | None, BeforeValidator(_web_address_or_none)]


class Provider(BaseModel):
    """Who made, processed or hosts the data (STAC provider object)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    roles: tuple[Literal["licensor", "producer", "processor", "host"], ...] = ()
    url: WebAddress | None = None


class Texts(BaseModel):
    """The texts of a dataset, kept in its record (``metadata.dataset.texts``); a request joins them with sealed documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_id: str
    title: str
    description: str
    """Never empty: STAC demands one."""
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


class VersionRef(BaseModel):
    """What a document says of one version next to its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version_id: str
    created_at: datetime
    digest: str
    """sha256 of the manifest, hex."""
    size_bytes: int
    format: str = "zarr"


class PublishedView(BaseModel):
    """Everything that a face needs to answer for one dataset: one read of the catalog."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    texts: Texts
    version: VersionRef
    description: Any
    """:class:`~cubeport.cubes.description.CubeDescription` of the version."""
    sealed: dict[str, Any]
    """The documents made when the version was sealed: ``stac``, ``item``, ``ogc``, ``schema``; ``manifest``, its ``file:size``."""
    record_version: int
    record_id: str
    created_at: datetime
    """Of the dataset."""
    updated_at: datetime
    """When this version became the shown one."""
    pinned: bool = False
    """Whether the address named a version: then ids and links carry ``@{version_id}``."""
    grid: str | None = None
    """Which of the other grids of the store ``description`` is of; ``None`` of the one that it offers first."""
    is_latest: bool = True
    tags: dict[str, str] = {}
    """Tag → version id."""
    published: bool = True
    published_at: datetime | None = None
    source_dataset_id: str | None = None
    """The template that it was made from; ``None`` when the source was given directly."""
    latest: str | None = None
    head: str | None = None
    """The pointers of the dataset, whatever version this is: what faces show, and what the next ingestion builds on."""
    seq: int | None = None
    """The version's number within its dataset."""
    request_scope: dict[str, Any] | None = None
    """What its ingestion was asked for."""
    versions: tuple[VersionRef, ...] = ()
    """The newest retained versions that were ever shown, newest first; filled where a document lists them."""
    older: str | None = None
    newer: str | None = None
    """The versions before and behind this one, among those that are retained and were ever shown; filled for STAC documents."""

    @property
    def dataset_name(self) -> str:
        """The address of the dataset below ``/datasets``: with its version when that was named."""
        return f"{self.texts.dataset_id}@{self.version.version_id}" if self.pinned else self.texts.dataset_id

    @property
    def coverage_name(self) -> str:
        """The id of the OGC API collection: ``{dataset_id}[:{grid}][@{version_id}]``."""
        name = self.texts.dataset_id if self.grid is None else f"{self.texts.dataset_id}:{self.grid}"
        return f"{name}@{self.version.version_id}" if self.pinned else name

    def on(self, grid: str) -> PublishedView:
        """Return the coverage of another grid of the store. Raises KeyError."""
        title = f"{self.texts.title}: {', '.join(self.description.on(grid).fields[:5])}"
        own = {"texts": self.texts.model_copy(update={"title": title}), "description": self.description.on(grid), "grid": grid}
        return self.model_copy(update={**own, "sealed": {}})

    def coverages(self) -> tuple[PublishedView, ...]:
        """Return every coverage of the dataset, that of the first fields first."""
        return (self, *(self.on(each.name) for each in self.description.grids))

    def having(self, fields: Collection[str]) -> PublishedView:
        """Return the coverage with all these fields; the first one where none has them."""
        name = next((each.name for each in self.description.grids if fields and set(fields) <= set(each.fields)), None)
        return self if name is None else self.on(name)
