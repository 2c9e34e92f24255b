"""The parts that ``main`` passes to the server: the service, and the few settings that it needs as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cubeport.catalog.models import CatalogRecord
from cubeport.cubes.difference import Difference
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection
from cubeport.cubes.update import OnOverlap
from cubeport.cubes.zones import MOST_BYTES, ZoneSet
from cubeport.documents.native import Sync
from cubeport.documents.texts import PublishedView
from cubeport.server.traffic import Metric
from cubeport.service.changes import ChangePage
from cubeport.service.collections import CollectionSearch
from cubeport.service.ingestions import Ingestion, IngestionRequest, Work
from cubeport.service.items import ItemPage, ItemSearch
from cubeport.service.pictures import Choice
from cubeport.service.ports import Reader, Receiving
from cubeport.service.records import Records
from cubeport.service.replicate import Arrived, Replica
from cubeport.service.retain import DiskUsage
from cubeport.service.state import VersionState
from cubeport.service.sync import SyncDetail, Synced
from cubeport.service.templates import Broken, DatasetTemplate, Extent

if TYPE_CHECKING:
    from cubeport.server.auth import Gatekeeper


class Page[T](Protocol):
    """One page of a list."""

    @property
    def items(self) -> tuple[T, ...]: ...

    @property
    def next(self) -> str | None: ...


class Counted[T](Page[T], Protocol):
    """One page of a list that can have a total."""

    @property
    def matched(self) -> int | None: ...

    @property
    def damaged(self) -> tuple[str, ...]: ...

    @property
    def before(self) -> str | None: ...


class Reads(Protocol):
    """The methods for faces that show datasets."""

    def generation(self) -> int: ...

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView: ...

    def coverage(self, ref: str) -> PublishedView: ...

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool: ...

    def check_visible(self, dataset_id: str) -> None: ...


class Bytes(Reads, Protocol):
    """The methods for the Zarr face."""

    def was_shown(self, ref: str) -> bool: ...


class Lists(Reads, Protocol):
    """The methods for lists, searches and pages."""

    def datasets(self, **filters: Any) -> Counted[PublishedView]: ...

    def dataset_names(self, *, between: tuple[str, str], limit: int) -> Sequence[tuple[str, str]]: ...

    def facets(self, **filters: Any) -> Mapping[str, tuple[tuple[str, int | None], ...]]: ...

    def items(self, search: ItemSearch) -> ItemPage: ...

    def collections(self, search: CollectionSearch) -> Counted[PublishedView]: ...

    def with_versions(self, *shown: PublishedView) -> tuple[PublishedView, ...]: ...


class Keeps(Lists, Protocol):
    """The methods for ``/datasets``: all versions, and the actions on a dataset."""

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> Sync: ...

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

    def tag(self, dataset_id: str, name: str, *, version: str = "latest", force: bool = False) -> str: ...

    def untag(self, dataset_id: str, name: str) -> str: ...

    def changes(self, *, cursor: str | None = None, dataset_id: str | None = None, limit: int = 100) -> ChangePage: ...

    def publish(self, dataset_id: str, *, version: str | None = None) -> CatalogRecord: ...

    def unpublish(self, dataset_id: str) -> CatalogRecord: ...

    def delete(self, dataset_id: str, *, if_match: int | None = None, purge: bool = False) -> CatalogRecord: ...

    def restore(self, dataset_id: str) -> CatalogRecord: ...

    def refresh(self, dataset_id: str) -> CatalogRecord: ...


class Ingests(Reads, Protocol):
    """The methods for ``/ingestions`` and ``/uploads``."""

    def ingest(self, request: IngestionRequest, *, waited_for: bool = True, asker: str | None = None) -> Ingestion: ...

    def receive(self, filename: str, *, owner: str | None, declared: int | None) -> Receiving: ...

    def sync(
        self,
        dataset_id: str,
        *,
        end: str | None = None,
        publish: bool | None = None,
        prefer_zarr: bool | None = None,
        on_overlap: OnOverlap | None = None,
        here: bool = True,
        waited_for: bool = True,
    ) -> Synced: ...

    def sync_plan(self, dataset_id: str, *, end: str | None = None) -> SyncDetail: ...

    def wait(self, ingestion_id: str, seconds: float) -> Work: ...

    def ingestion(self, ingestion_id: str) -> Work: ...

    def follow(self, ingestion_id: str) -> tuple[Work, int]: ...

    def cancel(self, ingestion_id: str) -> Work: ...

    def retry(self, ingestion_id: str, *, asker: str | None = None) -> Work: ...

    def ingestions(
        self,
        *,
        dataset_id: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Work]: ...


class Offers(Protocol):
    """The methods for ``/extent`` and ``/dataset-templates``."""

    def extents(self) -> Mapping[str, Extent]: ...

    def extent(self, extent_id: str) -> Extent: ...

    def templates(self) -> Mapping[str, DatasetTemplate]: ...

    def template(self, template_id: str) -> DatasetTemplate: ...

    def broken(self) -> Sequence[Broken]: ...


class KeepsZones(Protocol):
    """What ``/zones`` asks."""

    def zone_sets(self) -> Mapping[str, ZoneSet]: ...

    def zone_set(self, zone_set_id: str) -> ZoneSet: ...

    def put_zone_set(
        self, zone_set_id: str, document: Any, *, id_property: str | None = None, name_property: str | None = None
    ) -> ZoneSet: ...

    def remove_zone_set(self, zone_set_id: str) -> None: ...


class Measures(Protocol):
    """The methods for ``/usage`` and ``/webhooks``."""

    def webhooks(self) -> list[dict[str, Any]]: ...

    def recipes(self) -> list[dict[str, Any]]: ...

    def derived(self) -> list[dict[str, Any]]: ...

    def usage(self) -> DiskUsage: ...


class Mirrors(Protocol):
    """The methods for ``/replicas``."""

    def replica(self, ref: str, *, unpublished: bool = False) -> Replica: ...

    def begin_replica(self, digest: str, manifest: bytes, *, dataset_id: str | None = None) -> dict[str, int]: ...

    def put_replica(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None: ...

    def arrive(self, replica: Replica, *, publish: bool = True, ref: str | None = None) -> Arrived: ...


class ReadsRecords(Protocol):
    """The records, for ``/records``."""

    @property
    def records(self) -> Records: ...


class Service(ReadsRecords, Bytes, Keeps, KeepsZones, Ingests, Measures, Mirrors, Offers, Protocol):
    """The service for the server: :class:`cubeport.service.service.Service`."""


class Queries(Protocol):
    """Answers with values: coverages and downloads, with their own routes."""

    def routes(self) -> Any:
        """Return an ``APIRouter`` with ``/ogcapi…`` and ``/datasets/{dataset_id}/download``."""


class MakesTables(Queries, Protocol):
    """Tables of zones, with their own routes, and whether there are any of a dataset."""

    def offered(self, shown: PublishedView, field: str) -> bool: ...


class Draws(Queries, Protocol):
    """Maps, tiles, legends and thumbnails, with their own routes; the axes along which a map needs one label, and its middle."""

    def choices(self, shown: PublishedView, selection: Selection) -> Sequence[Choice]: ...

    def middle(self, shown: PublishedView) -> tuple[float, float] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts of the application."""

    service: Service
    engine: Reader
    gatekeeper: Gatekeeper
    public_url: str
    """The public address of the service. All links begin with it."""
    queries: Queries | None = None
    pictures: Draws | None = None
    """Maps, tiles, legends and thumbnails, with their own routes."""
    dap: Queries | None = None
    """OPeNDAP, with its routes."""
    griddap: Queries | None = None
    """ERDDAP's griddap, with its routes."""
    tables: MakesTables | None = None
    """Tables of zones, with their routes."""
    processes: Queries | None = None
    """OGC API Processes, with its routes."""

    remote_catalog: bool = False
    """Whether the catalog is on another machine, so that asking it may block."""
    servers: Callable[[], Mapping[str, int]] | None = None
    """Counts the server processes of the catalog, for ``/ready``."""
    executor: Callable[[], Mapping[str, Any]] | None = None
    """Says for ``/ready`` whether the cluster that makes versions answers; ``None`` if there is none."""

    id: str = "cubeport"
    title: str = "cubeport"
    description: str = "Data cubes as STAC, Zarr and OGC API coverages."
    version: str = "0"
    wait_s: float = 60.0
    """How long ``POST /ingestions`` waits, in seconds."""
    access_log: bool = False
    """Whether to log one line for each answer."""
    log_form: Literal["text", "json"] = "text"
    trusted_proxies: tuple[str, ...] = ()
    """The networks of the proxies that say for whom they ask."""
    cors_origins: tuple[str, ...] = ("*",)
    offload: Literal["none", "x-accel-redirect"] = "none"
    offload_prefix: str = "/_cubeport/"
    zone_bytes: int = MOST_BYTES
    """How large a body with zones may be."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """The limits for ``/info``."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """``engines``, ``source_kinds``, ``formats`` and ``libraries`` for ``/info``."""
    checks: Mapping[str, Any] = field(default_factory=dict)
    """The checks of ``/ready`` by name: functions that raise if the checked part does not respond. One that costs too much to be
    made each time returns how many seconds ago it was made, as a float."""
    metrics: tuple[Metric, ...] = ()
    """The metrics for ``/metrics`` in addition to those of answers."""
