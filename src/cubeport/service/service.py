"""The service of one instance, used by the routers, the commands and ``cubeport.connect(DIR)``, with one method for each action.

It has no state of its own. The record is the only state, and each call reads it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.durable import replace_file
from cubeport.catalog.forms import cursors, datamanifest
from cubeport.catalog.forms.canonical import now
from cubeport.catalog.forms.datamanifest import Entry
from cubeport.catalog.models import CatalogRecord
from cubeport.documents.licences import UNSTATED
from cubeport.documents.native import Sync
from cubeport.documents.stac import Site
from cubeport.documents.texts import PublishedView
from cubeport.errors import AlreadyFinished, CubeportError, DatasetBusy, InvalidCursor, InvalidRequest, NotFound, ReadOnly
from cubeport.service import apply, collections, describe, export, items, publish, sync
from cubeport.service.apply import Applied
from cubeport.service.changes import ChangePage, Changes
from cubeport.service.collections import CollectionSearch
from cubeport.service.datasets import Dataset, Datasets, ShownPage
from cubeport.service.derive import Derivations
from cubeport.service.diff import Diff
from cubeport.service.engines import Engines
from cubeport.service.export import Exported, ZarrExport
from cubeport.service.follow import Follower
from cubeport.service.ingest import Ingester
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionPlan, IngestionRequest, TableJob, Work
from cubeport.service.items import ItemPage, ItemSearch
from cubeport.service.jobs import Jobs, Listener
from cubeport.service.overview_making import OverviewMaking
from cubeport.service.ports import ExportTarget, Receiving, Uploads, ZoneStore
from cubeport.service.records import Records
from cubeport.service.replicate import Arrived, Elsewhere, Replica, Replicator, pinned_by
from cubeport.service.retain import DiskUsage, Retention, Retired
from cubeport.service.schedules import Schedules
from cubeport.service.state import VersionState
from cubeport.service.sync import AvailabilityRule, SyncDetail, Synced
from cubeport.service.templates import Broken, Configuration, DatasetTemplate, Extent, SourceBlock, TemplateFields
from cubeport.service.wanted import Names
from cubeport.service.webhooks import Webhooks
from cubeport.service.withheld import why_not_again

if TYPE_CHECKING:
    from cubeport.cubes.difference import Difference
    from cubeport.cubes.part import Deadline
    from cubeport.cubes.update import OnOverlap
    from cubeport.cubes.zones import ZoneSet

_log = logging.getLogger(__name__)


_PASSED_ON = ("license", "license_url", "providers", "attribution", "citation", "keywords")
"""The texts that a derived dataset inherits from its first input."""

_TELLING_S = 25.0
"""How long closing waits for a webhook delivery, in seconds. Undelivered changes are sent again by the next process."""


@dataclass(frozen=True, slots=True)
class IngestionPage:
    """One page of ingestions, newest first."""

    items: tuple[Work, ...]
    next: str | None


class Service:
    """The service of an instance, in this process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        configuration: Configuration,
        names: Names,
        follower: Follower,
        ingester: Ingester,
        jobs: Jobs,
        engines: Engines,
        retention: Retention,
        changes: Changes,
        schedules: Schedules,
        diff: Diff,
        webhooks: Webhooks,
        uploads: Uploads,
        derivations: Derivations,
        replicator: Replicator,
        overviews: OverviewMaking,
        elsewhere: Callable[[str, str | None], Elsewhere],
        export_target: Callable[[str], tuple[ExportTarget, str]],
        zones: ZoneStore,
        availability: Mapping[str, AvailabilityRule],
        scheduled: bool = True,
        public_url: str = "http://127.0.0.1:8000",
        site: Site | None = None,
        read_only: bool = False,
        user: str | None = None,
        closing: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.catalog = catalog
        self.engines = engines
        self._retention = retention
        self._changes = changes
        self._schedules = schedules
        self._diff = diff
        self._webhooks = webhooks
        self._derivations = derivations
        self._replicator = replicator
        self._overviews = overviews
        self._elsewhere = elsewhere
        self._export_target = export_target
        self._zones = zones
        self._availability = availability
        self._telling: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._scheduled = scheduled
        self._uploads = uploads
        self.public_url = public_url
        self._site = site or Site(public_url=public_url)
        self._datasets = datasets
        self._configuration = configuration
        self._names = names
        self._follower = follower
        self._ingester = ingester
        self._jobs = jobs
        self._read_only = read_only
        self._user = user
        self._closing = tuple(closing)
        self.port: Callable[[], Any] | None = None
        """Makes the client of this service in this process, where there is one; ``main`` sets it."""
        self._own_port: Any = None
        self.records = Records(catalog)
        """The records of the catalog, as callers over HTTP see them."""

    def __getitem__(self, ref: str) -> Any:
        """Return the published dataset ``id``, ``id@tag`` or ``id@version`` as :class:`cubeport.client.Dataset`.

        It is the same as of ``cubeport.connect(url)``, read in this process and without a server.

        Raises
        ------
        NotFound
            If there is none; the error lists the most similar ids.
        """
        if self._own_port is None:
            if self.port is None:
                raise TypeError("This service was not opened by cubeport.connect.")
            self._own_port = self.port()
        return self._own_port[ref]

    # --- reading ---

    def generation(self) -> int:
        """Return the catalog's sequence number. If it is the same, no list has changed."""
        return self._datasets.generation()

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView:
        """Return the published view of ``id`` or ``id@ref``; see :meth:`Datasets.shown`."""
        return self._datasets.shown(ref, unpublished=unpublished)

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool:
        """Return whether the caller may see a dataset; see :meth:`Datasets.visible`."""
        return self._datasets.visible(dataset_id, if_none=if_none)

    def check_visible(self, dataset_id: str) -> None:
        """Refuse a dataset that the caller may not see; see :meth:`Datasets.check_visible`."""
        self._datasets.check_visible(dataset_id)

    def coverage(self, ref: str) -> PublishedView:
        """Return the coverage at ``id[:grid][@ref]``; see :meth:`Datasets.coverage`."""
        return self._datasets.coverage(ref)

    def was_shown(self, ref: str) -> bool:
        """Return whether *ref* was published before; see :meth:`Datasets.was_shown`."""
        return self._datasets.was_shown(ref)

    def datasets(self, **filters: Any) -> ShownPage:
        """Return one page of datasets; see :meth:`Datasets.page`."""
        return self._datasets.page(**filters)

    def dataset_names(self, *, between: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Return the ids and titles of published datasets; see :meth:`Datasets.names`."""
        return self._datasets.names(between=between, limit=limit)

    def facets(self, **filters: Any) -> Mapping[str, tuple[tuple[str, int | None], ...]]:
        """Return what the matching datasets can be narrowed down by; see :meth:`Datasets.facets`."""
        return self._datasets.facets(**filters)

    def dataset_ids(self) -> Iterator[str]:
        """Yield the id of every dataset, published or not, in order."""
        cursor: str | None = None
        while True:
            page = self._datasets.page(publication="any", limit=1000, cursor=cursor)
            yield from (each.texts.dataset_id for each in page.items)
            if (cursor := page.next) is None:
                return

    def dataset(self, dataset_id: str) -> Dataset:
        """Return the record and state of a dataset, published or not. Raises NotFound."""
        return self._datasets.get(dataset_id)

    def versions(
        self, dataset_id: str, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]:
        """Return versions with their stored state (``retained``, ``removed``), newest first."""
        return self._datasets.versions(self._datasets.get(dataset_id), limit=limit, after=after)

    def diff(
        self,
        dataset_id: str,
        old: str,
        new: str = "latest",
        *,
        most_cells: int | None = None,
        unpublished: bool = True,
        deadline: Deadline | None = None,
    ) -> tuple[PublishedView, PublishedView, Difference]:
        """Return two versions of a dataset and what changed from *old* to *new*: coordinates, steps, values, attributes.

        ::

            before, after, found = service.diff("sst", "v1")

        Parameters
        ----------
        old, new
            Version ids, tags or ``latest``.
        most_cells
            The largest number of values to read from each version. Chunks with equal digests are equal and are not read.

        Raises
        ------
        NotFound, VersionRemoved, TooLarge, Corrupt, StoreUnavailable
            If a version does not exist or was removed, the comparison is too large, or stored data cannot be read.
        """
        before, after = (self._datasets.shown(f"{dataset_id}@{ref}", unpublished=unpublished) for ref in (old, new))
        return before, after, self._diff.between(before, after, most_cells=most_cells, deadline=deadline)

    def with_versions(self, *shown: PublishedView) -> tuple[PublishedView, ...]:
        """Return the views with their newest versions and their neighbours, for STAC items."""
        return self._datasets.with_versions(shown)

    def items(self, search: ItemSearch) -> ItemPage:
        """Return one page of STAC items. Raises InvalidRequest for a token of another search."""
        return items.find(self._datasets, search)

    def collections(self, search: CollectionSearch) -> ShownPage:
        """Return one page of published datasets. Raises InvalidCursor for a token of another search."""
        return collections.find(self._datasets, search)

    def export_stac(
        self,
        folder: str | Path,
        ids: Sequence[str] = (),
        *,
        all_versions: bool = False,
        url: str | None = None,
        link: bool = False,
        dry_run: bool = False,
    ) -> Exported:
        """Write published datasets as static STAC with their Zarr stores to a new *folder* for any file server.

        Parameters
        ----------
        ids
            The datasets. Default: all that are published.
        all_versions
            Whether to include older versions. Default: only the published version of each dataset.
        url
            The URL at which the folder will be served. Assets then have absolute URLs, which xpystac needs.
        link
            Whether chunks are hard links to those of the instance, which take no space. Default: copies.
        dry_run
            Write nothing, and only say what there would be.

        Raises
        ------
        TargetExists, NotFound, InvalidRequest, Corrupt
            If the folder exists, a dataset is not published, links are not possible, or stored data are damaged.
        """
        site = replace(self._site, public_url=(url or "").rstrip("/"))
        chosen = export.Chosen(tuple(ids), all_versions=all_versions, link=link)
        return export.export_stac(self._datasets, self.engines, Path(folder), site, chosen, dry_run=dry_run)

    def export_zarr(self, ref: str, to: str, *, check: bool = False) -> ZarrExport:
        """Write a published version to a folder or a bucket as plain Zarr v3 that any reader opens.

        ::

            service.export_zarr("sst", "s3://bucket/public/sst")

        Parameters
        ----------
        ref
            ``id``, ``id@tag`` or ``id@version``.
        to
            A folder, or an address ``s3://bucket/prefix`` below the root of a profile with ``use: [export]``.
        check
            Whether to read each object back and compare its sha256.

        Raises
        ------
        NotFound, VersionRemoved, TargetExists, UnknownProfile, Corrupt, SourceChanged, HashMismatch, NoSpace, StoreUnavailable
            See :func:`cubeport.service.export.export_zarr`.
        """
        shown = self._datasets.shown(ref)
        target, name = self._export_target(to)
        return export.export_zarr(self.engines, shown.texts.dataset_id, shown.version.version_id, target, name, check=check)

    def extents(self) -> Mapping[str, Extent]:
        """Return the named areas, by id."""
        return self._configuration.extents()

    def extent(self, extent_id: str) -> Extent:
        """Return one named area. Raises NotFound."""
        return _named(self.extents(), extent_id, "extent")

    def zone_sets(self) -> Mapping[str, ZoneSet]:
        """Return the zone sets of the instance, by id: the named polygons that tables are made for."""
        return self._zones.all()

    def zone_set(self, zone_set_id: str) -> ZoneSet:
        """Return one zone set, or the extent of that id as a set with one zone. Raises NotFound."""
        from cubeport.cubes.zones import of_box, of_geometry

        sets, extent = self.zone_sets(), self.extents().get(zone_set_id)
        if zone_set_id in sets or extent is None:
            if zone_set_id not in sets:
                known = f"There are {', '.join(sorted(sets)[:10])}" if sets else "There is none yet"
                raise NotFound(
                    f"There is no zone set {zone_set_id[:80]!r}. {known}; polygons can also be sent with a request.",
                    what="zone set",
                    next_step="cubeport zones list",
                )
            return sets[zone_set_id]
        if extent.geometry is not None:
            return of_geometry(zone_set_id, extent.name, extent.geometry)
        return of_box(zone_set_id, extent.name, extent.bbox)

    def put_zone_set(
        self, zone_set_id: str, document: Any, *, id_property: str | None = None, name_property: str | None = None
    ) -> ZoneSet:
        """Keep a GeoJSON FeatureCollection as a zone set, instead of one with that id; return it as it was read.

        Parameters
        ----------
        id_property, name_property
            The properties that identify and name each zone; see :func:`cubeport.cubes.zones.read_zone_set`.

        Raises
        ------
        InvalidRequest
            With every feature that is not a zone.
        ReadOnly, NoSpace, StoreUnavailable
        """
        from cubeport.cubes.zones import read_zone_set

        self._writable()
        most = self._zones.most_zones
        found = read_zone_set(zone_set_id, document, id_property=id_property, name_property=name_property, most_zones=most)
        self._zones.put(found)
        return found

    def remove_zone_set(self, zone_set_id: str) -> None:
        """Remove a zone set. Raises NotFound, ReadOnly, StoreUnavailable."""
        self._writable()
        if not self._zones.remove(zone_set_id):
            _named({}, zone_set_id, "zone set", list_command="cubeport zones list")

    def templates(self) -> Mapping[str, DatasetTemplate]:
        """Return the templates by id, without those whose dataset the caller may not see."""
        return {name: each for name, each in self._configuration.templates().items() if self._datasets.visible(name)}

    def template(self, template_id: str) -> DatasetTemplate:
        """Return one template. Raises NotFound."""
        return _named(self.templates(), template_id, "template")

    def broken(self) -> tuple[Broken, ...]:
        """Return the invalid configuration entries with their problems."""
        return (*self._configuration.broken(), *(Broken(name, problems) for name, problems in self._zones.problems()))

    # --- ingesting ---

    def plan(self, request: IngestionRequest, options: FileOptions | None = None) -> IngestionPlan:
        """Return what :meth:`ingest` would do. Nothing is written."""
        return self._ingester.plan(self._ingestion(request, options))

    def receive(self, filename: str, *, owner: str | None = None, declared: int | None = None) -> Receiving:
        """Return the object that receives the bytes of a file. Only *owner* can then ingest it, as ``upload:ID``.

        Parameters
        ----------
        declared
            The size in bytes that the sender declares, if any.

        Raises
        ------
            TooLarge, NoSpace, ReadOnly
                If the file is too large, the disk is full, or the instance is read-only.
        """
        self._writable()
        return self._uploads.begin(filename=filename, owner=owner, declared=declared)

    def ingest(self, request: IngestionRequest, *, waited_for: bool = True, asker: str | None = None) -> Ingestion:
        """Accept an ingestion as a job and return at once; :meth:`wait` returns its result. *asker* may use its own uploads.

        Raises
        ------
        NotFound, InvalidRequest, SourceRejected, QueueFull, ReadOnly
            If it is refused before anything is read.
        """
        self._writable()
        ingestion = self._ingestion(self._with_texts(request), None, waited_for=waited_for, asker=asker)
        if request.dry_run:
            return ingestion.model_copy(update={"status": "planned", "plan": self._ingester.plan(ingestion)})
        return self._jobs.submit(ingestion)

    def ingest_here(
        self, request: IngestionRequest, options: FileOptions | None = None, *, listener: Listener | None = None
    ) -> Ingestion:
        """Run an ingestion in this thread, and return it when it has completed, failed or been cancelled."""
        self._writable()
        ingestion = self._ingestion(self._with_texts(request), options)
        if request.dry_run:
            return ingestion.model_copy(update={"status": "planned", "plan": self._ingester.plan(ingestion)})
        return self._jobs.run(ingestion, listener)

    def _ingestion(
        self, request: IngestionRequest, options: FileOptions | None, *, waited_for: bool = True, asker: str | None = None
    ) -> Ingestion:
        asked = Ingestion(
            dataset_id=request.dataset_id,
            request=request,
            options=options or FileOptions(),
            waited_for=waited_for,
            created_by=self._user,
            asker=asker,
        )
        self._configuration.look_again()
        wanted = self._names.resolve(asked)
        return asked.model_copy(update={"dataset_id": wanted.dataset_id, "request_scope": wanted.scope})

    def wait(self, ingestion_id: str, seconds: float) -> Work:
        """Return the ingestion after it has finished, or its state after *seconds*."""
        return self._jobs.wait(ingestion_id, seconds)

    def ingestion(self, ingestion_id: str) -> Work:
        """Return one ingestion with any status. Raises NotFound."""
        return self._jobs.get(ingestion_id)

    def follow(self, ingestion_id: str) -> tuple[Work, int]:
        """Return one ingestion and the number of its changes. Raises NotFound."""
        return self._jobs.follow(ingestion_id)

    def cancel(self, ingestion_id: str) -> Work:
        """Cancel an ingestion. Raises NotFound, AlreadyFinished."""
        return self._jobs.cancel(ingestion_id)

    def retry(self, ingestion_id: str, *, asker: str | None = None) -> Work:
        """Accept the same request again as a new job, for an ingestion that failed or was cancelled. A table stays the same job.

        Raises
        ------
        DatasetBusy
            While it still goes on.
        AlreadyFinished
            If it has completed.
        InvalidRequest
            If it was of files that somebody named on the command line, or its request had something that is not stored.
        NotFound, SourceRejected, QueueFull, ReadOnly
        """
        before = self.ingestion(ingestion_id)
        if not before.finished:
            raise DatasetBusy(f"Ingestion {ingestion_id} is still running.", next_step="cancel it first")
        if before.status not in ("failed", "cancelled"):
            raise AlreadyFinished(f"Ingestion {ingestion_id} has completed: there is nothing to retry.")
        if isinstance(before, TableJob):
            return self._jobs.again(before)
        if (refusal := why_not_again(before)) is not None:
            raise refusal
        return self.ingest(before.request, waited_for=False, asker=asker)

    def ingestions(
        self,
        *,
        dataset_id: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> IngestionPage:
        """Return one page of ingestions, newest first: those of a *kind* (``ingestion``, ``sync``), those that were asked for at
        *since* or later. Raises InvalidCursor.
        """
        wanted: dict[str, Any] = {"dataset_id": dataset_id, "status": status, "kind": kind, "since": since}
        found = self._jobs.page(**wanted, limit=limit + 1, after=_place(cursor))
        page = found[:limit]
        return IngestionPage(tuple(each for each, _ in page), cursors.write_place(*page[-1][1]) if len(found) > limit else None)

    # --- following sources ---

    def sync_plan(self, dataset_id: str, *, end: str | None = None) -> SyncDetail:
        """Return what :meth:`sync` would do. Nothing is written, and the source is only asked what it has.

        Raises NotFound, InvalidPeriod, CoverageIncomplete and the errors of the source.
        """
        return self._sync_plan(*self._followed(dataset_id), end, asks=True)

    def _sync_plan(
        self, dataset: Dataset, head: VersionState | None, template: DatasetTemplate | None, end: str | None, *, asks: bool
    ) -> SyncDetail:
        if dataset.state.derived is not None:
            return self._derivations.plan(dataset, head)
        detail = sync.plan(dataset, head, template, end=end or None, now=now(), rules=self._availability)
        if template is None or head is None:
            return detail
        # An append asks the source itself, under the lock. A rebuild reads everything again, and local files are hashed whole.
        if detail.looks_ahead and (asks or detail.action == "rematerialize" or template.source.kind == "files"):
            detail = detail.confirmed(*self._follower.news(dataset, head, end=detail.asked_end(end), until=detail.target_end))
        if detail.is_new_release and not self._follower.is_covered(dataset, head):
            return detail.short()
        if not template.sync.revisit_periods or not detail.looks_back:
            return detail
        found = self._follower.revisit(dataset, head, template)
        return detail.with_revised(found.changed).without(found.gone)

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
        listener: Listener | None = None,
    ) -> Synced:
        """Update a dataset from its source, if there may be something new.

        Parameters
        ----------
        end
            The last period to ingest. Default: the newest that is available.
        publish
            Whether to publish the new version. Default: the dataset stays published or unpublished.
        prefer_zarr, on_overlap
            As in an ingestion. Default: as the existing version and the template have it.
        here
            Whether to run in this thread. Otherwise it is accepted as a job.

        Raises
        ------
        NotFound, InvalidPeriod, InvalidRequest, QueueFull, ReadOnly
        """
        self._writable()
        dataset, head, template = self._followed(dataset_id)
        detail = self._sync_plan(dataset, head, template, end, asks=False)
        if detail.action in ("no_op", "not_syncable"):
            return Synced(detail)
        if dataset.state.derived is not None:
            shows = dataset.state.published if publish is None else publish
            request, until = (
                IngestionRequest(dataset_id=dataset_id, source=dataset.state.derived, mode="replace", publish=shows),
                None,
            )
        else:
            by_file = template is not None and template.source.kind in ("files", "plugin")
            request, until = sync.request(dataset, detail, end=detail.asked_end(end), publish=publish, by_file=by_file)
        request = request.model_copy(update={"prefer_zarr": prefer_zarr, "on_overlap": on_overlap})
        ingestion = self._ingestion(request, None, waited_for=waited_for)
        revised = detail.revised if detail.sync_kind == "temporal" else ()
        ingestion = ingestion.model_copy(update={"kind": "sync", "until": until, "revised": revised})
        return Synced.of(detail, self._jobs.run(ingestion, listener) if here else self._jobs.submit(ingestion))

    def _followed(self, dataset_id: str) -> tuple[Dataset, VersionState | None, DatasetTemplate | None]:
        self._configuration.look_again()
        templates = self._configuration.templates()
        if dataset_id in templates and self._datasets.find(dataset_id) is None:
            raise NotFound(
                f"There is no dataset {dataset_id!r} yet, only the template with that id.",
                what="dataset",
                next_step=f"`cubeport ingest {dataset_id}{_first(templates[dataset_id])}` makes it",
            )
        dataset = self._datasets.get(dataset_id)
        template = templates.get(dataset.state.source_dataset_id or "")
        return dataset, self._datasets.head(dataset), template

    def _run_due(self) -> None:
        for dataset_id in self.due():
            try:
                self.sync(dataset_id, here=False, waited_for=False)
            except CubeportError as exc:
                _log.warning("the scheduled sync of %s could not begin: %s", dataset_id, exc)

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> Sync:
        """Return how a dataset follows its source; see :meth:`Schedules.followed`."""
        return self._schedules.followed(dataset_id, source_dataset_id)

    def due(self, at: datetime | None = None) -> list[str]:
        """Claim the scheduled syncs that are due, and return their datasets. Each is claimed by only one process."""
        self._writable()
        return self._schedules.claim(at)

    # --- publishing ---

    def publish(self, dataset_id: str, *, version: str | None = None) -> CatalogRecord:
        """Publish the head, or the named version, on every face. Raises NotFound, NothingToPublish, VersionRemoved."""
        self._writable()
        return publish.publish(self.catalog, self._datasets, dataset_id, version=version)

    def describe(self, dataset_id: str, *, if_match: int | None = None, **texts: Any) -> CatalogRecord:
        """Set texts of a dataset, without a new version. ``None`` resets a text to that of the template or the data.

        ::

            service.describe("sst", title="Sea surface temperature", license="CC-BY-4.0")

        Parameters
        ----------
        texts
            ``title, description, short_name, keywords, license, license_url, providers, attribution, citation, doi, render, units,
            resolution``.

        Raises
        ------
        NotFound, InvalidRequest, PreconditionFailed
        """
        self._writable()
        changes = describe.read(texts)
        self._configuration.look_again()
        return describe.describe(self.catalog, self._datasets, self._configuration, dataset_id, changes, if_match=if_match)

    def refresh(self, dataset_id: str) -> CatalogRecord:
        """Update the texts of a dataset from its template. Texts set by :meth:`describe` are kept. Raises NotFound."""
        self._writable()
        self._configuration.look_again()
        return describe.refresh(self.catalog, self._datasets, self._configuration, dataset_id)

    def make_overviews(self, dataset_id: str) -> list[str]:
        """Make the overviews that the published version of a dataset should have and does not; return the ids of the versions that
        got some. No version is made. Raises NotFound, DatasetBusy, NoSpace, InvalidRequest.
        """
        self._writable()
        self._configuration.look_again()
        return self._overviews.add(dataset_id)

    def rollback(self, dataset_id: str, *, to: str) -> CatalogRecord:
        """Go back to a version, named by id or tag. Later versions stay listed. Raises NotFound, VersionRemoved."""
        self._writable()
        return publish.rollback(self.catalog, self._datasets, dataset_id, to=to)

    def tag(self, dataset_id: str, name: str, *, version: str = "latest", force: bool = False) -> str:
        """Name a version; return its id. Raises NotFound, VersionRemoved, InvalidRequest, TagExists."""
        self._writable()
        return publish.tag(self.catalog, self._datasets, dataset_id, name, version=version, force=force)

    def untag(self, dataset_id: str, name: str) -> str:
        """Remove a tag; return the id of the version that had it. Raises NotFound."""
        self._writable()
        return publish.untag(self.catalog, self._datasets, dataset_id, name)

    def changes(self, *, cursor: str | None = None, dataset_id: str | None = None, limit: int = 100) -> ChangePage:
        """Return the changes that readers could see, oldest first (:meth:`Changes.page`). Raises InvalidCursor, CursorExpired."""
        return self._changes.page(cursor=cursor, dataset_id=dataset_id, limit=limit)

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the webhooks in the settings and the progress of each."""
        return self._webhooks.list()

    def test_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Send a ``ping`` to a webhook now. Raises NotFound, InvalidConfiguration."""
        return self._webhooks.test(webhook_id)

    def unpublish(self, dataset_id: str) -> CatalogRecord:
        """Remove the dataset from every face. Raises NotFound."""
        self._writable()
        return publish.unpublish(self.catalog, self._datasets, dataset_id)

    def delete(self, dataset_id: str, *, if_match: int | None = None, purge: bool = False) -> CatalogRecord:
        """Delete a dataset. With *purge*, its bytes are freed after ``retention.grace_min``. Raises NotFound,
        PreconditionFailed.
        """
        self._writable()
        return publish.delete(self.catalog, self._datasets, dataset_id, if_match=if_match, purge=purge)

    def restore(self, dataset_id: str) -> CatalogRecord:
        """Restore the newest deleted dataset with that id, or the one with that record id, unpublished. Raises NotFound,
        DatasetExists.
        """
        self._writable()
        return publish.restore(self.catalog, self._datasets, dataset_id)

    # --- lists of sources ---

    def apply(self, path: str | Path, *, dry_run: bool = False, listener: Listener | None = None) -> list[Applied]:
        """Make the datasets in a list of sources (``sources.toml``, a ``datamanifest.toml``), and add missing checksums to the
        list.

        Datasets that are already up to date do not change. If one entry fails, the others are still made.

        Raises
        ------
        InvalidRequest
            If the list cannot be read, with all problems.
        """
        file = Path(path)
        text = datamanifest.text_of(file.read_bytes())
        entries = datamanifest.read(text)
        if not dry_run:
            self._writable()
        found: list[Applied] = []
        twice = apply.shared(entries)
        for entry in entries:
            try:
                request = apply.request_of(entry)
                if entry.name in twice:
                    raise twice[entry.name]
                if request is None:
                    found.append(apply.skipped(entry))
                elif dry_run:
                    planned = self.plan(request)
                    found.append(Applied(entry.name, request.dataset_id, "planned", planned.action))
                else:
                    found.append(self._applied(entry, request, listener))
            except CubeportError as exc:
                found.append(apply.failed(entry, exc))
        if not dry_run and (checksums := apply.missing(entries, found)):
            replace_file(file, datamanifest.fill(text, checksums).encode())
        return found

    def _applied(self, entry: Entry, request: IngestionRequest, listener: Listener | None) -> Applied:
        done = self.ingest_here(request, listener=listener)
        dataset = self._datasets.find(request.dataset_id)
        return apply.outcome_of(entry, done, self._datasets.head(dataset) if dataset is not None else None)

    def lock_sources(self, path: str | Path) -> dict[str, str]:
        """Add missing checksums to a list of sources, of what was made from their files, without fetching. Return them."""
        file = Path(path)
        text = datamanifest.text_of(file.read_bytes())
        found: dict[str, str] = {}
        for entry in datamanifest.read(text):
            request = None if entry.uris else apply.request_of(entry)
            dataset = self._datasets.find(request.dataset_id) if request is not None and entry.sha256 is None else None
            head = self._datasets.head(dataset) if dataset is not None else None
            if head is not None and (known := apply.known(entry, head, self._address_of(head))) is not None:
                found[entry.name] = known
        if found:
            replace_file(file, datamanifest.fill(text, found).encode())
        return found

    def _address_of(self, version: VersionState) -> str | None:
        """Return the address that a version was made from, if its ingestion is still listed and names one."""
        try:
            job = self._jobs.get(version.ingestion_id)
        except NotFound:
            return None
        return job.request.source.template if isinstance(job, Ingestion) and job.request.source is not None else None

    # --- derived datasets ---

    def recipes(self) -> list[dict[str, Any]]:
        """Return the recipes for derived datasets, with their inputs and parameters."""
        return [each.to_mapping() for _, each in sorted(self._derivations.recipes.items())]

    def derive(
        self,
        recipe: str,
        inputs: Sequence[str],
        *,
        dataset_id: str,
        params: Mapping[str, Any] | None = None,
        title: str | None = None,
        publish: bool = True,
        listener: Listener | None = None,
    ) -> Ingestion:
        """Make a dataset from others by a recipe, in this thread. The same recipe, parameters and inputs change nothing.

        ::

            service.derive("normal", ["tas"], dataset_id="tas-normal", params={"start": 1991, "end": 2020})

        Parameters
        ----------
        inputs
            ``id``, which a sync follows, or ``id@ref``.
        title
            Default: made from the title of the first input.

        Raises
        ------
        NotFound, InvalidRequest
            If an input does not exist, or the recipe does not accept a parameter.
        """
        block = SourceBlock(kind="derived", recipe=recipe, inputs=tuple(inputs), params=dict(params or {}))
        fields = TemplateFields(title=title)
        request = IngestionRequest(dataset_id=dataset_id, source=block, template=fields, mode="replace", publish=publish)
        return self.ingest_here(request, listener=listener)

    def _with_texts(self, request: IngestionRequest) -> IngestionRequest:
        """Return the request; a derived dataset gets the texts of its first input that the request does not give itself."""
        block = request.source
        if block is None or block.kind != "derived":
            return request
        source = self._derivations.source(block)
        self._derivations.check(request.dataset_id, block)
        first = next(iter(source.inputs.values())).texts
        texts = {name: value for name in _PASSED_ON if (value := getattr(first, name)) not in (None, (), UNSTATED)}
        texts["title"] = f"{first.title}: {block.recipe}"
        given = request.template.model_dump(exclude_defaults=True) if request.template is not None else {}
        return request.model_copy(update={"template": TemplateFields.model_validate({**texts, **given})})

    def inputs_first(self, dataset_ids: Sequence[str]) -> list[str]:
        """Return the datasets in an order in which each comes after its inputs."""
        found: list[str] = []

        def visit(name: str) -> None:
            state = self._datasets.get(name).state
            for ref in state.derived.inputs if state.derived is not None else ():
                if (other := ref.partition("@")[0]) in dataset_ids and other not in found:
                    visit(other)
            if name not in found:
                found.append(name)

        for each in dataset_ids:
            visit(each)
        return found

    def derived(self) -> list[dict[str, Any]]:
        """Return all derived datasets with their inputs, and whether an input has a newer version."""
        found = []
        for name in self.dataset_ids():
            dataset = self._datasets.get(name)
            if dataset.state.derived is None:
                continue
            head = self._datasets.head(dataset)
            try:
                plan = self._derivations.plan(dataset, head)
                state = "fresh" if plan.action == "no_op" else "stale"
                newer = list(plan.revised)
            except NotFound as exc:
                state, newer = "input-missing", [exc.message]
            except InvalidRequest as exc:  # a recipe of a plugin takes other parameters now
                state, newer = "refused", [exc.message]
            held = head.derived if head is not None else None
            found.append(
                {
                    "dataset_id": name,
                    "state": state,
                    "newer": newer,
                    "recipe": dataset.state.derived.recipe,
                    "params": held.params if held is not None else {},
                    "key": held.key if held is not None else None,
                    "inputs": {} if held is None else {each: told.model_dump() for each, told in held.inputs.items()},
                }
            )
        return found

    # --- mirrors ---

    def push(
        self, ref: str, url: str, *, key: str | None = None, publish: bool = True, progress: Listener | None = None
    ) -> Arrived:
        """Send ``id`` or ``id@ref`` to the instance at *url*. Objects that it already has are not sent again.

        Parameters
        ----------
        key
            An API key of the other instance, with the scope ``ingest``.
        publish
            Whether to publish it there immediately.

        Raises
        ------
        NotFound, SourceRejected
            If the dataset does not exist here; ``not-allowed``, if the URL is outside ``mirrors.origins``.
        CubeportError
            If the other instance refuses it.
        """
        shown = self._datasets.shown(ref, unpublished=True)
        there = self._elsewhere(url, key)
        return self._replicator.push(shown, there, publish=publish, ref=pinned_by(ref), progress=progress)

    def pull(
        self,
        ref: str,
        url: str,
        *,
        key: str | None = None,
        publish: bool = True,
        replace: bool = False,
        progress: Listener | None = None,
    ) -> Arrived:
        """Fetch ``id`` or ``id@ref`` from the instance at *url*. Objects that exist here are not fetched.

        Raises
        ------
        DatasetExists
            If a dataset with this id exists here and is not a mirror of the other, unless *replace*.
        SourceRejected
            ``digest-mismatch``, if something does not match its digest; ``not-allowed``, outside ``mirrors.origins``.
        """
        self._writable()
        return self._replicator.pull(self._elsewhere(url, key), ref, publish=publish, replace=replace, progress=progress)

    def verify_mirror(self, dataset_id: str, url: str, *, key: str | None = None) -> dict[str, Any]:
        """Compare a dataset with the dataset with the same id at *url*: digests, all local bytes, and texts."""
        return self._replicator.verify(self._elsewhere(url, key), dataset_id)

    def replica(self, ref: str, *, unpublished: bool = False) -> Replica:
        """Return the description of a version for another instance, without its bytes. Raises NotFound, VersionRemoved."""
        return self._replicator.replica(self._datasets.shown(ref, unpublished=unpublished))

    def begin_replica(self, digest: str, manifest: bytes, *, dataset_id: str | None = None) -> dict[str, int]:
        """Accept the manifest of a version, and return the sizes of the missing objects by their sha256; see
        :meth:`Replicator.begin`.
        """
        self._writable()
        return self._replicator.begin(digest, manifest, dataset_id=dataset_id)

    def put_replica(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None:
        """Receive one object of a version. Raises NotFound, SourceRejected (``digest-mismatch``)."""
        self._writable()
        self._replicator.arriving.put(digest, sha256, pieces)

    def arrive(self, replica: Replica, *, publish: bool = True, ref: str | None = None) -> Arrived:
        """Make and register the version whose objects have arrived; see :meth:`Replicator.arrive`."""
        self._writable()
        return self._replicator.arrive(replica, publish=publish, ref=ref)

    # --- retention ---

    def retain(self, *, dry_run: bool = False) -> list[Retired]:
        """Remove versions that retention does not keep, free the bytes of those removed long enough ago, and return both."""
        if not dry_run:
            self._writable()
        return self._retention.apply(dry_run=dry_run)

    def usage(self) -> DiskUsage:
        """Return the size of all versions, and what retention would free."""
        return self._retention.usage()

    # --- life ---

    def start(self, *, answers: bool = True) -> None:
        """Recover the jobs of dead processes, then start the workers of this process.

        Parameters
        ----------
        answers
            Whether this process also answers HTTP. It is only announced.
        """
        if not self._read_only:
            self._jobs.recover()
            self._webhooks.check()
            self._jobs.start(*((self._run_due,) if self._scheduled else ()), answers=answers)
            for hook in self._webhooks.hooks:  # one thread for each, so that a slow receiver does not delay others
                thread = threading.Thread(
                    target=self._webhooks.run, args=(hook, self._stopping), name="cubeport-webhook", daemon=True
                )
                thread.start()
                self._telling.append(thread)

    def watch(self) -> None:
        """Announce this process, which answers HTTP and leaves the jobs to others."""
        if not self._read_only:
            self._jobs.watch()

    def recover(self) -> list[Work]:
        """End the jobs of dead workers. The catalog's own recovery runs when it is opened."""
        return self._jobs.recover()

    @property
    def jobs(self) -> Jobs:
        """The queue of the instance, and the workers of this process."""
        return self._jobs

    def check_jobs(self) -> None:
        """Check that this process runs its jobs; see :meth:`Jobs.check`. Raises Unavailable."""
        self._jobs.check()

    def closes_with(self, close: Callable[[], None]) -> None:
        """Call *close* when the service is closed, before its parts are."""
        self._closing = (close, *self._closing)

    def close(self) -> None:
        """Wait for running jobs, then close all parts."""
        self._stopping.set()
        self._jobs.stop()
        for thread in self._telling:
            thread.join(_TELLING_S)
        for close in self._closing:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _writable(self) -> None:
        if self._read_only:
            raise ReadOnly("This instance is open for reading only.", setting="read_only")


def _named[T](things: Mapping[str, T], name: str, what: str, *, list_command: str | None = None) -> T:
    if name not in things:
        raise NotFound(f"There is no {what} {name[:80]!r}.", what=what, next_step=list_command or f"cubeport {what}s")
    return things[name]


def _place(cursor: str | None) -> tuple[int, str] | None:
    try:
        return None if cursor is None else cursors.read_place(cursor)
    except ValueError as exc:
        raise InvalidCursor("The cursor does not belong to this list.") from exc


def _first(template: DatasetTemplate) -> str:
    """Return the flag that the first ingestion of a template needs."""
    return "" if template.period_type in ("none", "climatology") else " --start PERIOD"
