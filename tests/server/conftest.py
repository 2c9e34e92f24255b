"""A service in memory over a real Zarr store, the app around it, and a real server when a test wants sockets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import httpx
import numpy as np
import pytest
import uvicorn
import xarray as xr

from cubeport.adapters.fetching.uploads import UploadFolder
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.history import Edit
from cubeport.catalog.lineage import LineageGraph
from cubeport.catalog.models import Artifact, CatalogRecord, InlineLocator
from cubeport.catalog.query import Page, Query, select
from cubeport.catalog.summaries import count_values
from cubeport.cubes.description import Axis, Crs, CubeDescription, Spatial, Temporal, Variable
from cubeport.cubes.difference import Compared, Difference
from cubeport.cubes.write_request import StoredObject
from cubeport.cubes.zones import ZoneSet, read_zone_set
from cubeport.documents.native import Sync
from cubeport.documents.texts import PublishedView, Texts, VersionRef
from cubeport.errors import (
    AlreadyFinished,
    CubeportError,
    DatasetExists,
    InvalidRequest,
    NotFound,
    RecordNotFound,
    SourceRejected,
    VersionRemoved,
)
from cubeport.server import run
from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper, NoKeys
from cubeport.server.parts import Parts
from cubeport.service import collections, items
from cubeport.service.changes import Change, ChangePage
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.ports import Receiving
from cubeport.service.records import Facets, OpenedArtifact
from cubeport.service.replicate import Arrived, Replica
from cubeport.service.retain import DatasetUsage, DiskUsage, VersionUsage
from cubeport.service.state import Cube, DatasetState, Reach, VersionState
from cubeport.service.sync import SyncDetail, Synced
from cubeport.service.templates import Broken, DatasetTemplate, Extent

V1, V2, GONE = "1" * 32, "2" * 32, "3" * 32
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "https://data.example/cubes"
PATH = "/cubes"
"""Where pages are of a host that they do not name."""


def cube() -> xr.Dataset:
    """A small cube, south-up, whose values say where they are; one chunk is all missing and so is not stored."""
    values = np.arange(4 * 6 * 8, dtype="float32").reshape(4, 6, 8)
    values[2:, 3:, 4:] = np.nan
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, {"units": "K", "standard_name": "sea_surface_temperature"})},
        coords={
            "time": ("time", np.arange(4), {"units": "days since 2020-01-01", "calendar": "standard"}),
            "lat": ("lat", np.linspace(-25.0, 25.0, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(170.0, 205.0, 8), {"units": "degrees_east"}),
        },
        attrs={"title": "Sea"},
    )


def write(folder: Path) -> Path:
    """Write the cube as Zarr v3, consolidated, without its empty chunk."""
    target = folder / "cube.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        cube().to_zarr(
            target,
            zarr_format=3,
            consolidated=True,
            encoding={"sst": {"chunks": (2, 3, 4), "fill_value": np.float32("nan")}},
            write_empty_chunks=False,
        )
    return target


def described() -> CubeDescription:
    def coordinate(name: str, size: int, dtype: str) -> Variable:
        return Variable(
            name=name, role="coordinate", dimensions=(name,), shape=(size,), chunks=(size,), dtype=dtype, decoded_dtype=dtype
        )

    return CubeDescription(
        axes=(
            Axis(name="time", dimension="time", kind="t", size=4, regular=True, first=0, last=3, step=1),
            Axis(name="lat", dimension="lat", kind="y", size=6, regular=True, first=-25, last=25, step=10, lower=-30, upper=30),
            Axis(
                name="lon", dimension="lon", kind="x", size=8, regular=True, first=170, last=205, step=5, lower=167.5, upper=207.5
            ),
        ),
        variables=(
            coordinate("time", 4, "int64"),
            coordinate("lat", 6, "float64"),
            coordinate("lon", 8, "float64"),
            Variable(
                name="sst",
                role="data",
                dimensions=("time", "lat", "lon"),
                shape=(4, 6, 8),
                chunks=(2, 3, 4),
                dtype="float32",
                decoded_dtype="float32",
                units="K",
                standard_name="sea_surface_temperature",
            ),
        ),
        fields=("sst",),
        spatial=Spatial(
            family="rectilinear",
            bbox=(167.5, -30.0, -152.5, 30.0),
            native_bbox=(167.5, -30.0, 207.5, 30.0),
            x="lon",
            y="lat",
            crs=Crs(name="WGS 84", authority="OGC:CRS84"),
        ),
        temporal=Temporal(
            axis="time",
            calendar="standard",
            start="2020-01-01T00:00:00Z",
            end="2020-01-04T00:00:00Z",
            count=4,
            step="P1D",
            period_type="daily",
            first_period="2020-01-01",
            last_period="2020-01-04",
            index_start="2020-01-01T00:00:00Z",
            index_end="2020-01-04T00:00:00Z",
        ),
    )


@cache
def sealed() -> dict[str, Any]:
    """The documents that sealing makes of the cube."""
    from cubeport.documents import stac

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stac.seal(described(), cube())


def shown(dataset_id: str = "sea", version_id: str = V2, **changes: Any) -> PublishedView:
    texts = Texts(
        dataset_id=dataset_id, title="Sea <script>", description='${HOME} {{7*7}} "quoted"', keywords=("sea",), license="CC-BY-4.0"
    )
    values: dict[str, Any] = {
        "texts": texts,
        "version": VersionRef(version_id=version_id, created_at=MADE, digest="d" * 64, size_bytes=1000),
        "description": described(),
        "sealed": sealed(),
        "record_version": 3,
        "record_id": "r" * 32,
        "created_at": MADE,
        "updated_at": MADE,
        "published_at": MADE,
        "latest": V2,
        "head": V2,
        "tags": {"first": V1},
    }
    return PublishedView(**(values | changes))


def version_state(version_id: str, seq: int, **changes: Any) -> VersionState:
    values: dict[str, Any] = {
        "version_id": version_id,
        "seq": seq,
        "kind": "created" if seq == 1 else "appended",
        "created_at": MADE,
        "coverage": {"calendar": "standard"},
        "request_scope": {},
        "size_bytes": 1000,
        "digest": "d" * 64,
        "ingestion_id": "a" * 32,
        "engine": "zarr",
        "request_digest": "e" * 64,
        "shown_at": MADE,
    }
    return VersionState(**(values | changes))


@dataclass
class FakeEngine:
    """Reads a folder; counts what it is asked, and fails or is on demand."""

    folder: Path
    reads: list[str] = field(default_factory=list)
    fail: CubeportError | None = None
    short: bool = False

    def _objects(self) -> dict[str, Path]:
        return {str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def waits(self, dataset_id: str, version_id: str) -> bool:
        return False

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        self.reads.append(key)
        if self.fail is not None:
            raise self.fail
        path = self._objects().get(key)
        if path is None:
            return None
        content = path.read_bytes()
        size = len(content) + 10 if self.short else len(content)
        return StoredObject(path.open("rb", buffering=0), size, hashlib.sha256(content).hexdigest())

    def place(self, dataset_id: str, version_id: str, key: str) -> str:
        return f"{dataset_id}/{version_id}/{self.folder.name}/{key}"

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        entries = [
            {"key": key, "size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for key, path in self._objects().items()
        ]
        return json.dumps({"algorithm": "sha256", "entries": entries}).encode()


@dataclass
class FakeFinds:
    """The one dataset, as the walk of a search finds it."""

    service: FakeService

    orders: ClassVar[list[items.Order]] = []
    """The orders that were asked for."""

    def look(self, asked: items.Look) -> list[items.Candidate]:
        self.orders.append(asked.order)
        if not self.service.published or self.service.deleted or (asked.names is not None and "sea" not in asked.names):
            return []
        found = []
        for state, stored in self.service.versions("sea"):
            shown = stored != "removed" and state.shown_at is not None
            reach = Reach.of(self.cube(state.version_id).description) if shown else None
            if reach is None or (asked.versions is not None and state.version_id not in asked.versions):
                continue
            if (asked.box is None or reach.meets(asked.box)) and (asked.interval is None or reach.during(*asked.interval)):
                found.append(self._candidate(state.model_copy(update={"reach": reach})))
        down = asked.order[-1][1]
        behind = [
            each
            for each in found
            if asked.after is None or (tuple(each.at) != tuple(asked.after) and (tuple(each.at) < tuple(asked.after)) is down)
        ]
        return sorted(behind, key=lambda each: each.at, reverse=down)[: asked.limit]

    def _candidate(self, version: VersionState) -> items.Candidate:
        state = DatasetState(texts=self.service.shown("sea").texts, latest=V2)
        return items.Candidate(RECORD, state, version, (timestamp(MADE), version.version_id))

    def cube(self, version_id: str) -> Cube:
        shown = self.service.shown(f"sea@{version_id}")
        return Cube(description=shown.description, documents=shown.sealed)

    def items(self, found: Any) -> tuple[PublishedView, ...]:
        return self.service.with_versions(*(self.service.shown(each.item_id) for each in found))


RECORD = "r" * 32


class FakeRecords:
    """The record of the dataset ``sea``, searched as every backend does."""

    every = (
        CatalogRecord(
            id="5" * 32,
            key="sea",
            kind="dataset",
            title="Sea",
            created_at=MADE,
            updated_at=MADE,
            artifacts=(
                Artifact(artifact_id="0" * 8, locator=InlineLocator(text="a note"), original_name="note.txt", size_bytes=6),
            ),
        ),
    )

    def page(self, query: Query) -> Page:
        return select(query, self.every)

    def facets(self, query: Query, fields: tuple[str, ...]) -> Facets:
        return Facets({each: count_values(query, each, self.every, 20) for each in fields}, whole=True)

    def get(self, name: str, *, deleted: bool = False) -> CatalogRecord:
        for each in self.every:
            if name in (each.id, each.key):
                return each
        raise RecordNotFound(f"There is no record {name[:80]!r}.", what="record")

    def told(self, record: CatalogRecord) -> CatalogRecord:
        return record

    def edits(self, record: CatalogRecord) -> list[Edit]:
        return [Edit(record.version, timestamp(record.updated_at), None, None)]

    def lineage(self, record: CatalogRecord) -> LineageGraph:
        return LineageGraph(record.id, (), {record.id: record})

    def open(self, artifact: Artifact) -> OpenedArtifact:
        return OpenedArtifact(io.BytesIO(b"a note"), 6, "note")


@dataclass
class FakeService:
    """One dataset ``sea`` of two versions, and what was asked of it."""

    state: int = 1
    published: bool = True
    deleted: bool = False
    busy: CubeportError | None = None
    outcome: str = "completed"
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    filters: dict[str, Any] = field(default_factory=dict)
    record_version: int = 3
    ingestions_: dict[str, Ingestion] = field(default_factory=dict)
    zone_sets_: dict[str, ZoneSet] = field(default_factory=dict)
    uploads: UploadFolder = field(default_factory=lambda: UploadFolder(Path(tempfile.mkdtemp()) / "uploads", max_bytes=100_000))

    @property
    def records(self) -> FakeRecords:
        if self.busy is not None:
            raise self.busy
        return FakeRecords()

    def generation(self) -> int:
        if self.busy is not None:
            raise self.busy
        return self.state

    def commit(self) -> None:
        self.state += 1
        self.record_version += 1

    def coverage(self, ref: str) -> PublishedView:
        name, at, version = ref.partition("@")
        dataset_id, colon, grid = name.partition(":")
        shown = self.shown(f"{dataset_id}{at}{version}")
        return shown.on(grid) if colon else shown

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView:
        dataset_id, _, name = ref.partition("@")
        if dataset_id != "sea" or self.deleted or not (self.published or unpublished):
            raise NotFound("There is no such dataset", what="dataset")
        if name == GONE:
            raise VersionRemoved("Retention removed this version")
        versions = {"": V2, "latest": V2, "first": V1, V1: V1, V2: V2}
        if name not in versions:
            raise NotFound("There is no such version", what="version")
        version_id = versions[name]
        return shown(
            version_id=version_id,
            pinned=name not in ("", "latest"),
            is_latest=version_id == V2,
            published=self.published,
            record_version=self.record_version,
        )

    def usage(self) -> DiskUsage:
        version = VersionUsage(V2, "retained", "2026-01-02T03:04:05Z", 30, 10, 20)
        return DiskUsage(30, 0, (DatasetUsage("sea", "published", 30, (version,)),))

    def webhooks(self) -> list[dict[str, Any]]:
        return []

    def recipes(self) -> list[dict[str, Any]]:
        return []

    def derived(self) -> list[dict[str, Any]]:
        return []

    def diff(self, dataset_id: str, old: str, new: str = "latest", **_: Any) -> tuple[PublishedView, PublishedView, Difference]:
        shown = self.shown(f"{dataset_id}@{old}"), self.shown(f"{dataset_id}@{new}")
        return *shown, Difference(equal=True, compared=Compared(same_chunks=0, read_chunks=0, read_cells=0))

    def replica(self, ref: str, *, unpublished: bool = False) -> Replica:
        shown = self.shown(ref, unpublished=unpublished)
        return Replica(
            dataset_id=shown.texts.dataset_id,
            version_id=shown.version.version_id,
            digest="0" * 64,
            size_bytes=shown.version.size_bytes,
            kind="created",
            created_at=MADE,
            origin=URL,
        )

    def begin_replica(self, digest: str, manifest: bytes, *, dataset_id: str | None = None) -> dict[str, int]:
        raise SourceRejected("The manifest is not one of a version.", reason="unreadable")

    def put_replica(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None:
        raise NotFound("No such version is on its way.", what="version")

    def arrive(self, replica: Replica, *, publish: bool = True, ref: str | None = None) -> Arrived:
        raise NotFound("No such version is on its way.", what="version")

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool:
        return True

    def check_visible(self, dataset_id: str) -> None:
        """Let every caller see every dataset."""

    def was_shown(self, ref: str) -> bool:
        dataset_id, _, name = ref.partition("@")
        return dataset_id == "sea" and name in ("", "latest", "first", V1, V2, GONE)

    def dataset_names(self, *, between: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        shown = [] if self.deleted or not self.published else [self.shown("sea").texts]
        return [(each.dataset_id, each.title) for each in shown if between[0] <= each.dataset_id < between[1]][:limit]

    def datasets(self, **filters: Any) -> Any:
        self.filters = filters
        everything = filters.get("publication") == "any"
        found = [] if self.deleted or not (self.published or everything) else [self.shown("sea", unpublished=everything)]
        if filters.get("versions"):
            found = list(self.with_versions(*found))
        return SimpleNamespace(
            items=tuple(found),
            next="abc" if filters.get("limit") == 1 else None,
            matched=len(found) if filters.get("count") else None,
            damaged=(),
            before=None,
        )

    def versions(
        self, dataset_id: str, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]:
        found = [
            (version_state("4" * 32, 4, shown_at=None), "retained"),
            (version_state(GONE, 3), "removed"),
            (version_state(V2, 2, parent_id=V1), "retained"),
            (version_state(V1, 1), "retained"),
        ]
        return [each for each in found if after is None or each[0].seq < after[0]][:limit]

    def with_versions(self, *shown: PublishedView) -> tuple[PublishedView, ...]:
        refs = tuple(state.ref() for state, stored in self.versions("sea") if stored != "removed" and state.shown_at)
        beside = {V2: (V1, None), V1: (None, V2)}
        return tuple(
            each.model_copy(
                update={"versions": refs, "older": beside[each.version.version_id][0], "newer": beside[each.version.version_id][1]}
            )
            for each in shown
        )

    def collections(self, search: collections.CollectionSearch) -> Any:
        return collections.find(SimpleNamespace(page=self.datasets), search)

    def items(self, search: items.ItemSearch) -> items.ItemPage:
        return items.find(FakeFinds(self), search)

    def receive(self, filename: str, *, owner: str | None, declared: int | None) -> Receiving:
        self.calls.append(("receive", filename, owner, declared))
        return self.uploads.begin(filename=filename, owner=owner, declared=declared)

    def ingest(self, request: IngestionRequest, *, waited_for: bool = True, asker: str | None = None) -> Ingestion:
        self.calls.append(("ingest", request.dataset_id, waited_for))
        made = Ingestion(dataset_id=request.dataset_id, request=request, waited_for=waited_for)
        if request.dry_run:
            return made.model_copy(update={"status": "planned"})
        self.ingestions_[made.ingestion_id] = made
        return made

    def wait(self, ingestion_id: str, seconds: float) -> Ingestion:
        self.calls.append(("wait", seconds))
        held = self.ingestions_[ingestion_id]
        changes: dict[str, Any] = {"status": self.outcome}
        if self.outcome == "failed":
            changes["error"] = {"kind": "source-rejected", "title": "t", "detail": "Cut short", "errors": [], "reason": "truncated"}
        return held.model_copy(update=changes)

    def ingestion(self, ingestion_id: str) -> Ingestion:
        if ingestion_id not in self.ingestions_:
            raise NotFound("There is no such ingestion", what="ingestion")
        return self.ingestions_[ingestion_id]

    def follow(self, ingestion_id: str) -> tuple[Ingestion, int]:
        return self.ingestion(ingestion_id), 1

    def cancel(self, ingestion_id: str) -> Ingestion:
        held = self.ingestion(ingestion_id)
        if held.finished:
            raise AlreadyFinished("It has ended")
        self.ingestions_[ingestion_id] = held.model_copy(update={"cancel_requested": True})
        return self.ingestions_[ingestion_id]

    def ingestions(self, **filters: Any) -> Any:
        return SimpleNamespace(items=tuple(self.ingestions_.values()), next=None)

    def describe(self, dataset_id: str, *, if_match: int | None = None, **texts: Any) -> Any:
        self.shown(dataset_id, unpublished=True)
        if not texts:
            raise InvalidRequest("Name at least one text to set.")
        self.calls.append(("describe", dataset_id, if_match, texts))
        self.commit()

    def rollback(self, dataset_id: str, *, to: str) -> Any:
        self.shown(f"{dataset_id}@{to}", unpublished=True)
        self.calls.append(("rollback", dataset_id, to))
        self.commit()

    def tag(self, dataset_id: str, name: str, *, version: str = "latest", force: bool = False) -> Any:
        shown = self.shown(f"{dataset_id}@{version}", unpublished=True)
        self.calls.append(("tag", dataset_id, name, version, force))
        self.commit()
        return shown.version.version_id

    def untag(self, dataset_id: str, name: str) -> Any:
        self.shown(dataset_id, unpublished=True)
        if name != "first":
            raise NotFound("There is no such tag", what="version")
        self.calls.append(("untag", dataset_id, name))
        self.commit()
        return V1

    def changes(self, *, cursor: str | None = None, dataset_id: str | None = None, limit: int = 100) -> ChangePage:
        if cursor is not None:
            return ChangePage((), cursor)
        change = Change(1, "2026-01-02T03:04:05Z", "upserted", "created", "sea", V2)
        return ChangePage((change,) if dataset_id in (None, "sea") else (), change.cursor)

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> Sync:  # no template is here
        return Sync(kind="static", execution="append")

    def sync_plan(self, dataset_id: str, *, end: str | None = None) -> SyncDetail:
        self.shown(dataset_id, unpublished=True)
        self.calls.append(("sync_plan", dataset_id, end))
        return SyncDetail(
            dataset_id=dataset_id,
            source_dataset_id=None,
            sync_kind=None,
            action="not_syncable",
            reason="no_template",
            message="The dataset was made from files.",
        )

    def sync(
        self,
        dataset_id: str,
        *,
        end: str | None = None,
        publish: bool | None = None,
        prefer_zarr: bool | None = None,
        on_overlap: str | None = None,
        here: bool = True,
        waited_for: bool = True,
    ) -> Synced:
        assert not here, "a server runs no ingestion in its request"
        more = () if (prefer_zarr, on_overlap) == (None, None) else (prefer_zarr, on_overlap)
        self.calls.append(("sync", dataset_id, end, publish, waited_for, *more))
        return Synced(self.sync_plan(dataset_id, end=end))

    def publish(self, dataset_id: str, *, version: str | None = None) -> Any:
        self.shown(dataset_id, unpublished=True)
        self.calls.append(("publish", dataset_id, version))
        self.published = True
        self.commit()

    def unpublish(self, dataset_id: str) -> Any:
        self.shown(dataset_id, unpublished=True)
        self.calls.append(("unpublish", dataset_id))
        self.published = False
        self.commit()

    def delete(self, dataset_id: str, *, if_match: int | None = None, purge: bool = False) -> Any:
        self.shown(dataset_id, unpublished=True)
        self.calls.append(("delete", dataset_id, if_match, purge))
        self.deleted = True
        self.commit()
        return SimpleNamespace(version=self.record_version)

    def refresh(self, dataset_id: str) -> Any:
        self.shown(dataset_id, unpublished=True)
        self.calls.append(("refresh", dataset_id))
        self.commit()

    def restore(self, dataset_id: str) -> Any:
        if not self.deleted:
            raise DatasetExists("There is one")
        self.calls.append(("restore", dataset_id))
        self.deleted, self.published = False, False
        self.commit()

    def extents(self) -> Mapping[str, Extent]:
        return {"north": Extent(extent_id="north", bbox=(0, 50, 10, 60), name="North")}

    def extent(self, extent_id: str) -> Extent:
        if extent_id not in self.extents():
            raise NotFound("There is no such extent", what="extent")
        return self.extents()[extent_id]

    def facets(self, **filters: Any) -> Mapping[str, tuple[tuple[str, int], ...]]:
        self.filters = filters
        return {"variable": (("sst", 1), ("salt <b>", 1)), "keyword": (), "license": (("various", 1),)}

    def retry(self, ingestion_id: str, *, asker: str | None = None) -> Ingestion:
        before = self.ingestion(ingestion_id)
        if before.status not in ("failed", "cancelled"):
            raise AlreadyFinished("It has completed")
        return self.ingest(before.request, waited_for=False, asker=asker)

    def zone_sets(self) -> Mapping[str, ZoneSet]:
        return dict(self.zone_sets_)

    def zone_set(self, zone_set_id: str) -> ZoneSet:
        if zone_set_id not in self.zone_sets_:
            raise NotFound("There is no such zone set", what="zone set")
        return self.zone_sets_[zone_set_id]

    def put_zone_set(
        self, zone_set_id: str, document: Any, *, id_property: str | None = None, name_property: str | None = None
    ) -> ZoneSet:
        found = read_zone_set(zone_set_id, document, id_property=id_property, name_property=name_property)
        self.zone_sets_[zone_set_id] = found
        return found

    def remove_zone_set(self, zone_set_id: str) -> None:
        self.zone_set(zone_set_id)
        del self.zone_sets_[zone_set_id]

    def templates(self) -> Mapping[str, DatasetTemplate]:
        block = {"kind": "files", "paths": ["/secret/planted/*.nc"], "name": "A centre"}
        return {
            name: DatasetTemplate.model_validate({"id": name, "title": name.upper(), "period_type": "daily", "source": block})
            for name in ("air", "sea-source")
        }

    def broken(self) -> tuple[Broken, ...]:
        return ()

    def template(self, template_id: str) -> DatasetTemplate:
        if template_id not in self.templates():
            raise NotFound("There is no such template", what="template")
        return self.templates()[template_id]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store"))


@pytest.fixture
def engine(store: Path) -> FakeEngine:
    return FakeEngine(store)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def make_parts(service: Any, engine: Any, **changes: Any) -> Parts:
    values: dict[str, Any] = {
        "service": service,
        "engine": engine,
        "gatekeeper": Gatekeeper(NoKeys(), open_on_loopback=True, local_token=TOKEN, asks_for_itself=lambda *_: True),
        "public_url": URL,
        "title": "Test cubes",
        "version": "0.1",
        "limits": {"binary_cells": 64_000_000},
    }
    return Parts(**(values | changes))


TOKEN = "local_" + "t" * 43
LOCAL = {"Authorization": f"Bearer {TOKEN}"}
"""What a caller on this machine sends to delete."""


class Client(httpx.Client):
    """A synchronous client of an ASGI application: the transport of httpx is asynchronous only."""

    def __init__(self, app: App, *, peer: str = "127.0.0.1", base_url: str = "http://localhost") -> None:
        super().__init__(transport=_Transport(app, peer), base_url=base_url)


class _Transport(httpx.BaseTransport):
    def __init__(self, app: App, peer: str) -> None:
        self._inner = httpx.ASGITransport(app=app, client=(peer, 1234), raise_app_exceptions=True)  # type: ignore[arg-type]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._inner.handle_async_request(
                httpx.Request(request.method, request.url, headers=request.headers.raw, content=request.read())
            )
            content = b"".join([part async for part in answer.aiter_raw()])
            return httpx.Response(answer.status_code, headers=answer.headers.raw, content=content)

        return asyncio.run(ask())


def ask_raw(app: App, path: bytes, method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[int, bytes]:
    """Return status and body for a raw path: clients normalise paths before they send them."""
    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def app(service: FakeService, engine: FakeEngine) -> App:
    return App(make_parts(service, engine))


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    with Client(app) as client:
        yield client


class Live:
    """A real server on a free port, in a thread of its own."""

    def __init__(self, make: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = make(self.url)
        protocol = run.edge(1_000, getattr(app, "at_once", None))
        config = uvicorn.Config(app, http=protocol, proxy_headers=False, log_level="warning", access_log=False, lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> Self:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()


@pytest.fixture
def live(service: FakeService, engine: FakeEngine) -> Iterator[Live]:
    with Live(lambda url: App(make_parts(service, engine, public_url=url))) as live:
        yield live
