"""What ``main`` hands to the HTTP edge: the service below it and the few settings that it needs, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cubeport.catalog.models import CatalogRecord
from cubeport.cubes.difference import Difference
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection
from cubeport.cubes.zones import MOST_BYTES, ZoneSet
from cubeport.documents.texts import PublishedView
from cubeport.server.traffic import Metric
from cubeport.service.changes import ChangePage
from cubeport.service.collections import CollectionSearch
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.items import ItemPage, ItemSearch
from cubeport.service.pictures import Choice
from cubeport.service.ports import Reader, Receiving
from cubeport.service.replicate import Arrived, Replica
from cubeport.service.retain import DiskUsage
from cubeport.service.state import VersionState
from cubeport.service.sync import SyncDetail, Synced
from cubeport.service.templates import DatasetTemplate, Extent

if TYPE_CHECKING:
    from cubeport.server.auth import Gatekeeper


class Page[T](Protocol):
    """One page of a list."""

    @property
    def items(self) -> tuple[T, ...]: ...

    @property
    def next(self) -> str | None: ...


class Counted[T](Page[T], Protocol):
    """One page of a list that may have been counted."""

    @property
    def matched(self) -> int | None: ...

    @property
    def damaged(self) -> tuple[str, ...]: ...


class Reads(Protocol):
    """What every face that shows datasets asks."""

    def generation(self) -> int: ...

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView: ...

    def coverage(self, ref: str) -> PublishedView: ...


class Bytes(Reads, Protocol):
    """What the Zarr face asks."""

    def was_shown(self, ref: str) -> bool: ...


class Lists(Reads, Protocol):
    """What lists, searches and pages ask."""

    def datasets(self, **filters: Any) -> Counted[PublishedView]: ...

    def items(self, search: ItemSearch) -> ItemPage: ...

    def collections(self, search: CollectionSearch) -> Counted[PublishedView]: ...

    def with_versions(self, *shown: PublishedView) -> tuple[PublishedView, ...]: ...


class Keeps(Lists, Protocol):
    """What ``/datasets`` asks: every version, and what may be done to a dataset."""

    def versions(
        self, dataset_id: str, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]: ...

    def diff(
        self,
        dataset_id: str,
        old: str,
        new: str = "latest",
        *,
        most_cells: int | None = None,
        unpublished: bool = True,
        deadline: Deadline | None = None,
    ) -> tuple[PublishedView, PublishedView, Difference]: ...

    def describe(self, dataset_id: str, *, if_match: int | None = None, **texts: Any) -> CatalogRecord: ...

    def rollback(self, dataset_id: str, *, to: str) -> CatalogRecord: ...

    def tag(self, dataset_id: str, name: str, *, version: str = "latest", force: bool = False) -> CatalogRecord: ...

    def untag(self, dataset_id: str, name: str) -> CatalogRecord: ...

    def changes(self, *, cursor: str | None = None, dataset_id: str | None = None, limit: int = 100) -> ChangePage: ...

    def publish(self, dataset_id: str, *, version: str | None = None) -> CatalogRecord: ...

    def unpublish(self, dataset_id: str) -> CatalogRecord: ...

    def delete(self, dataset_id: str, *, if_match: int | None = None, purge: bool = False) -> CatalogRecord: ...

    def restore(self, dataset_id: str) -> CatalogRecord: ...


class Ingests(Reads, Protocol):
    """What ``/ingestions`` and ``/uploads`` ask."""

    def ingest(self, request: IngestionRequest, *, waited_for: bool = True, asker: str | None = None) -> Ingestion: ...

    def receive(self, filename: str, *, owner: str | None, declared: int | None) -> Receiving: ...

    def sync(
        self, dataset_id: str, *, end: str | None = None, publish: bool | None = None, here: bool = True, waited_for: bool = True
    ) -> Synced: ...

    def sync_plan(self, dataset_id: str, *, end: str | None = None) -> SyncDetail: ...

    def wait(self, ingestion_id: str, seconds: float) -> Ingestion: ...

    def ingestion(self, ingestion_id: str) -> Ingestion: ...

    def follow(self, ingestion_id: str) -> tuple[Ingestion, int]: ...

    def cancel(self, ingestion_id: str) -> Ingestion: ...

    def ingestions(
        self, *, dataset_id: str | None = None, status: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Ingestion]: ...


class Offers(Protocol):
    """What ``/extent`` and ``/dataset-templates`` ask."""

    def extents(self) -> Mapping[str, Extent]: ...

    def extent(self, extent_id: str) -> Extent: ...

    def templates(self) -> Mapping[str, DatasetTemplate]: ...

    def template(self, template_id: str) -> DatasetTemplate: ...


class KeepsZones(Protocol):
    """What ``/zones`` asks."""

    def zone_sets(self) -> Mapping[str, ZoneSet]: ...

    def zone_set(self, zone_set_id: str) -> ZoneSet: ...

    def put_zone_set(
        self, zone_set_id: str, document: Any, *, id_property: str | None = None, name_property: str | None = None
    ) -> ZoneSet: ...

    def remove_zone_set(self, zone_set_id: str) -> None: ...


class Measures(Protocol):
    """What ``/usage`` and ``/webhooks`` ask."""

    def webhooks(self) -> list[dict[str, Any]]: ...

    def recipes(self) -> list[dict[str, Any]]: ...

    def derived(self) -> list[dict[str, Any]]: ...

    def usage(self) -> DiskUsage: ...


class Mirrors(Protocol):
    """What ``/replicas`` asks."""

    def replica(self, ref: str, *, unpublished: bool = False) -> Replica: ...

    def begin_replica(self, digest: str, manifest: bytes) -> dict[str, int]: ...

    def put_replica(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None: ...

    def arrive(self, replica: Replica, *, publish: bool = True) -> Arrived: ...


class Service(Bytes, Keeps, KeepsZones, Ingests, Measures, Mirrors, Offers, Protocol):
    """The service, as the server calls it: :class:`cubeport.service.service.Service`."""


class Queries(Protocol):
    """Answers that read values: coverages and downloads. They bring their own routes."""

    def routes(self) -> Any:
        """Return an ``APIRouter`` with ``/ogcapi…`` and ``/datasets/{dataset_id}/download``."""


class Draws(Queries, Protocol):
    """Maps, tiles, legends and thumbnails, with their own routes; and what can be chosen of a field before it is drawn."""

    def choices(self, shown: PublishedView, selection: Selection) -> Sequence[Choice]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the app is made of."""

    service: Service
    engine: Reader
    gatekeeper: Gatekeeper
    public_url: str
    """Where the world finds this service; every link begins with it."""
    queries: Queries | None = None
    pictures: Draws | None = None
    """Maps, tiles, legends and thumbnails; they bring their own routes, too."""
    dap: Queries | None = None
    """OPeNDAP, with its routes."""

    remote_catalog: bool = False
    """Whether the catalog is on another machine, so that asking it may block."""
    servers: Callable[[], Mapping[str, int]] | None = None
    """Counts the server processes of the catalog, for ``/ready``."""

    id: str = "cubeport"
    title: str = "cubeport"
    description: str = "Data cubes as STAC, Zarr and OGC API coverages."
    version: str = "0"
    wait_s: float = 60.0
    """How long ``POST /ingestions`` waits."""
    access_log: bool = False
    """Whether each answer is a line of the log."""
    log_form: Literal["text", "json"] = "text"
    cors_origins: tuple[str, ...] = ("*",)
    offload: Literal["none", "x-accel-redirect"] = "none"
    offload_prefix: str = "/_cubeport/"
    zone_bytes: int = MOST_BYTES
    """How large a body with zones may be."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Shown by ``/info``."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """``engines, source_kinds, formats, libraries`` of ``/info``."""
    checks: Mapping[str, Any] = field(default_factory=dict)
    """What ``/ready`` asks: name → function that raises when the thing does not answer."""
    metrics: tuple[Metric, ...] = ()
    """What ``/metrics`` gives besides what was answered."""
