"""Real files as stored versions, written and measured by the tasks of the gate, behind the real engine and a small app."""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import xarray as xr
from starlette.types import ASGIApp

from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.adapters.encoders.modules import EncoderModules
from cubeport.adapters.encoders.room import AnswerRoom
from cubeport.adapters.engines import zarr
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.adapters.engines.opened import OpenedVersion
from cubeport.adapters.gate.measure import measure
from cubeport.adapters.gate.write import write
from cubeport.adapters.ogc.way import Pygeoapi
from cubeport.adapters.sandbox.child import Context, Input
from cubeport.adapters.sandbox.limits import SourceLimits as GateLimits
from cubeport.catalog.locks import FileLocks
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.zones import ZoneSet
from cubeport.documents.native import Sync
from cubeport.documents.texts import PublishedView, Texts, VersionRef
from cubeport.errors import NotFound
from cubeport.server.app import create_app
from cubeport.server.auth import Gatekeeper, NoKeys
from cubeport.server.dap import DapFace
from cubeport.server.griddap import GriddapFace
from cubeport.server.html import Site
from cubeport.server.maps import MapsFace
from cubeport.server.ogcapi import OgcFace
from cubeport.server.parts import Parts
from cubeport.server.processes import ProcessesFace
from cubeport.server.tables import TablesFace
from cubeport.service.jobs import Jobs
from cubeport.service.pictures import Pictures
from cubeport.service.plans import AnswerLimits
from cubeport.service.queries import Queries
from cubeport.service.slabs import Slabs
from cubeport.service.tablejobs import TableJobs
from cubeport.service.tables import TableLimits, Tables

VERSION = "0123456789abcdef0123456789abcdef"
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Desk(Context):
    """A context of the gate that nobody listens to."""

    def __init__(self, *sources: Input) -> None:
        super().__init__(socket.socket(), limits=GateLimits(), sources=sources)
        self._channel.close()

    def progress(self, phase: str, done: int, total: int) -> None: ...
    def declare(self, declared_bytes: int) -> None: ...
    def fail_point(self, name: str) -> None: ...


@dataclass
class CountingEngine:
    """The engine, with what was asked of it."""

    engine: zarr.Reader
    reads: list[str] = field(default_factory=list)

    def read(self, dataset_id: str, version_id: str, key: str) -> Any:
        self.reads.append(f"{dataset_id}/{key}")
        return self.engine.read(dataset_id, version_id, key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@dataclass
class Stored:
    """One stored version with the file that it came from."""

    dataset_id: str
    engine: CountingEngine
    description: CubeDescription
    documents: dict[str, Any]
    source: Path
    period_type: str | None = None

    def open(self) -> OpenedVersion:
        return OpenedVersions(self.engine).open(self.dataset_id, VERSION, self.description)

    def truth(self) -> xr.Dataset:
        """The source file as xarray reads it, times as numbers: what every answer is compared with."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xr.SerializationWarning)
            return xr.open_dataset(self.source, decode_times=False, engine="netcdf4", decode_timedelta=False).load()

    def shown(self, **changes: Any) -> PublishedView:
        texts = Texts(
            dataset_id=self.dataset_id,
            title=f"Data of {self.dataset_id}",
            description="<b>${HOME}</b>",
            period_type=self.period_type,
        )
        version = VersionRef(version_id=VERSION, created_at=MADE, digest="d" * 64, size_bytes=1)
        values: dict[str, Any] = {"texts": texts, "version": version, "description": self.description, "sealed": self.documents}
        values |= {"record_version": 1, "record_id": "r" * 32, "created_at": MADE, "updated_at": MADE}
        return PublishedView(**(values | changes))


class Shelf:
    """The service, as far as this face asks it, and the store behind it."""

    def __init__(self, data: Path, realdata: Path) -> None:
        self.scratch = data.parent
        self.engine = CountingEngine(zarr.Reader(data))
        self._realdata = realdata
        self.areas: dict[str, Any] = {}
        self.zones: dict[str, ZoneSet] = {}
        self.queues: list[Jobs] = []
        self._kept: dict[Any, Stored] = {}
        self.damaged: set[str] = set()
        """The ids of datasets that cannot be read."""

    def put(self, name: str, *, chunks: dict[str, int] | None = None, fields: list[str] | None = None) -> Stored:
        """Store a real file, once for each name and chunking; its id is made of the name."""
        key = name, tuple((chunks or {}).items()), tuple(fields or ())
        if key not in self._kept:
            base = Path(name).stem.lower().replace(".", "-")[:40]
            taken = {each.dataset_id for each in self._kept.values()}
            numbered = (f"{base}-{n}" for n in itertools.count(1))
            own = next(each for each in itertools.chain([base], numbered) if each not in taken)
            self._kept[key] = self._store(own, self._realdata / name, chunks, fields)
        return self._kept[key]

    def keep(self, dataset_id: str, file: Path, *, period_type: str | None = None, chunks: dict[str, int] | None = None) -> Stored:
        """Store a file of the test's own."""
        stored = self._store(dataset_id, file, chunks, None)
        stored.period_type = period_type or (stored.description.temporal and stored.description.temporal.period_type)
        self._kept[dataset_id] = stored
        return stored

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool:  # everybody sees everything here
        return True

    def zone_sets(self) -> dict[str, ZoneSet]:
        return self.zones

    def zone_set(self, zone_set_id: str) -> ZoneSet:
        if zone_set_id not in self.zones:
            raise NotFound("There is no such zone set.", what="zone set")
        return self.zones[zone_set_id]

    def _store(self, dataset_id: str, source: Path, chunks: dict[str, int] | None, fields: list[str] | None) -> Stored:
        target = self.engine.path(dataset_id, VERSION).parent
        target.mkdir(parents=True)
        descriptor = os.open(source, os.O_RDONLY)
        request = {"target": str(target), "window": {"bbox": None, "start": None, "end": None, "clip": "touch"}, "variables": None}
        try:
            told = write(
                {**request, "attributes": {}, "chunks": chunks, "append_dim": None, "group": None},
                Desk(Input(source.name, descriptor, False)),
            )
        finally:
            os.close(descriptor)
        found = measure({"target": str(target), "digests": told["digests"], "fields": fields}, Desk())
        description = CubeDescription.model_validate(found["description"])
        return Stored(dataset_id, self.engine, description, found["documents"], source)

    # --- the service ---

    def generation(self) -> int:
        return len(self._kept)

    def templates(self) -> dict[str, Any]:
        return {}

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> Sync:
        return Sync(kind="static", execution="append")

    def extents(self) -> dict[str, Any]:
        return self.areas

    def versions(self, dataset_id: str, **_: Any) -> list[Any]:
        return []

    def with_versions(self, *shown: PublishedView) -> tuple[PublishedView, ...]:
        return tuple(each.model_copy(update={"versions": (each.version,)}) for each in shown)

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView:
        dataset_id, at, version = ref.partition("@")
        for stored in self._kept.values():
            if stored.dataset_id == dataset_id and version in ("", "latest", VERSION):
                return stored.shown(pinned=bool(at) and version != "latest")
        raise NotFound("There is no such dataset.", what="dataset")

    def coverage(self, ref: str) -> PublishedView:
        name, at, version = ref.partition("@")
        dataset_id, colon, grid = name.partition(":")
        shown = self.shown(f"{dataset_id}{at}{version}")
        return shown.on(grid) if colon else shown

    def was_shown(self, ref: str) -> bool:
        return False

    def datasets(self, *, limit: int = 100, cursor: str | None = None, several_grids: bool = False, **_: Any) -> Any:
        found = sorted((each.shown() for each in self._kept.values()), key=lambda each: each.texts.dataset_id)
        found = [each for each in found if each.description.grids or not several_grids]
        back, place = (cursor or "").startswith("~"), int((cursor or "0").removeprefix("~"))
        start, stop = (max(0, place - limit), place) if back else (place, min(len(found), place + limit))
        following, before = str(stop) if stop < len(found) else None, f"~{start}" if start else None
        read = tuple(each for each in found[start:stop] if each.texts.dataset_id not in self.damaged)
        return SimpleNamespace(items=read, next=following, matched=len(found), before=before)


def app_of(shelf: Shelf, queries: Queries, url: str, *, table_limits: TableLimits | None = None) -> ASGIApp:
    """Return the app with all faces that have values."""
    site = Site(url, "Test", "Test", "1")
    drawn, dap = Pictures(queries.versions), DapFace(shelf, Slabs(queries), site=site)
    limits = table_limits or TableLimits()
    tables = TablesFace(shelf, queries, Tables(queries, limits=limits), public_url=url, may_wait=True)  # type: ignore[arg-type]
    parts = Tables(queries, limits=TableLimits(rows=limits.rows, cells=10 * limits.cells))
    folder = Path(tempfile.mkdtemp(dir=shelf.scratch))
    backend = MemoryBackend()
    catalog: Any = SimpleNamespace(backend=backend, rows=backend.rows, recover=lambda: None)
    queue = Jobs(catalog=catalog, ingester=None, locks=FileLocks(folder / "locks"), workers=0, queue=1)  # type: ignore[arg-type]
    jobs = TableJobs(folder / "tables", parts, queries, queue, shelf.shown, rows=5 * limits.rows)
    queue.makes_tables(jobs)
    queue.start()
    shelf.queues.append(queue)
    faces: dict[str, Any] = {
        "queries": OgcFace(shelf, queries, public_url=url, title="Test", description="Test", departures=tables.plot),  # type: ignore[arg-type]
        "pictures": MapsFace(shelf, drawn, site=site),  # type: ignore[arg-type]
        "tables": tables,
        "processes": ProcessesFace(shelf, tables, jobs, public_url=url, version="1", body_bytes=1 << 20),  # type: ignore[arg-type]
        "dap": dap,
        "griddap": GriddapFace(shelf, queries, drawn, dap, site=site),
    }
    return create_app(Parts(service=shelf, engine=shelf.engine, gatekeeper=Gatekeeper(NoKeys()), public_url=url, **faces))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def shelf(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    made = Shelf(tmp_path_factory.mktemp("data"), realdata)
    yield made
    for each in made.queues:
        each.stop()


@pytest.fixture(scope="session")
def stored(shelf: Shelf) -> Callable[..., Stored]:
    return shelf.put


@pytest.fixture(scope="module")
def keep(stored: Callable[..., Stored], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], str]:
    """Store a dataset of the test's own under a name, once for each module; returns its id."""
    folder = tmp_path_factory.mktemp("kept")

    def write(name: str, data: xr.Dataset) -> str:
        path = folder / f"{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return stored(str(path)).dataset_id

    return write


@pytest.fixture
def no_zones(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the zone sets of other tests, whose zones are places of every coverage."""
    monkeypatch.setattr(shelf, "zones", {})


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="session")
def serve(shelf: Shelf, scratch: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Start the app on a free port, with limits of one's own; returns a client of it."""
    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def start(
        *,
        disk_bytes: int = 1 << 40,
        memory_bytes: int = 16 << 20,
        cache_bytes: int = 192 << 20,
        table_limits: TableLimits | None = None,
        **limits: Any,
    ) -> httpx.Client:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        room = AnswerRoom(scratch, disk_bytes=disk_bytes, memory_bytes=memory_bytes)
        queries = Queries(
            OpenedVersions(shelf.engine, chunk_bytes=cache_bytes),
            EncoderModules(),
            room,
            Pygeoapi(),
            public_url=url,
            limits=AnswerLimits(**limits),
        )
        app = app_of(shelf, queries, url, table_limits=table_limits)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        client = httpx.Client(base_url=url, timeout=60)
        client.queries = queries  # type: ignore[attr-defined]  # for tests that take its places
        client.room = room  # type: ignore[attr-defined]
        running.append((server, thread, client))
        return client

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def client(serve: Callable[..., httpx.Client]) -> httpx.Client:
    return serve()


@pytest.fixture(scope="session")
def equal() -> Callable[[Any, Any], bool]:
    """Compare numbers of an answer (``None`` for missing) with those of the source, bit by bit in the source's type.

    A ``float32`` scale factor is ``float64`` in Zarr's JSON: what it unpacks is equal to the last place of a ``float32``.
    """

    def same(answer: Any, truth: Any, *, packed: bool = False) -> bool:
        truth = np.ravel(np.asarray(truth))
        flat = np.ravel(np.array(answer, dtype=object))
        ours = np.array([np.nan if value is None else value for value in flat], dtype="float64").astype(truth.dtype)
        if truth.dtype.kind != "f" or not packed:
            return np.array_equal(ours, truth, equal_nan=truth.dtype.kind == "f")
        held = ~np.isnan(truth)
        room = 2 * np.spacing(np.abs(truth[held]).max(initial=0).astype("float32"))
        return np.array_equal(np.isnan(ours), ~held) and bool((np.abs(ours[held] - truth[held]) <= room).all())

    return same
