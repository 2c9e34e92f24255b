"""Assemble and serve the service of an instance: settings, catalog, gate, engine and faces."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.catalog.catalogfile import CATALOG_FILE, MARK, catalog_file
from cubeport.catalog.disk.durable import demand_space, make_folders, replace_file
from cubeport.catalog.forms.canonical import dumps, is_id
from cubeport.catalog.forms.later import without_waiting
from cubeport.catalog.work.recovery import recover
from cubeport.main import logs
from cubeport.main.catalog import Catalog, gate_limits, refuse_address, servers_of
from cubeport.main.querying import jobs_of, queries_of, room_of, tables_of, versions_of

if TYPE_CHECKING:
    from socket import socket

    from cubeport.adapters.fetching.installed import InstalledSources
    from cubeport.adapters.fetching.kept import KeptFolder
    from cubeport.adapters.fetching.uploads import UploadFolder
    from cubeport.adapters.gate.gate import ConfinedGate
    from cubeport.adapters.sandbox.children import Children
    from cubeport.catalog.artifacts.storage import Profile
    from cubeport.catalog.parts import CatalogParts
    from cubeport.catalog.plugins import Registration
    from cubeport.client.port import Port
    from cubeport.cubes.description import CubeDescription
    from cubeport.cubes.recipes import Derivation, Recipe
    from cubeport.documents.texts import PublishedView
    from cubeport.server.parts import Parts as AppParts
    from cubeport.service.engines import Engines
    from cubeport.service.ports import ExportTarget, Versions
    from cubeport.service.replicate import Elsewhere
    from cubeport.service.service import Service
    from cubeport.service.webhooks import Post
    from cubeport.settings import Settings

_LOG = logging.getLogger(__name__)

DEMO: tuple[Mapping[str, Any], ...] = (
    {"dataset_id": "a1b-temperature", "start": "1860"},
    {"dataset_id": "a1b-temperature", "start": "1860", "extent_id": "great-lakes"},
    {"dataset_id": "ostia-sst", "start": "2006-04"},
    {"dataset_id": "toa-brightness"},
)
"""What ``cubeport demo`` ingests: templates of the demo instance."""


def connect(directory: str | Path = ".", *, read_only: bool = False, user_id: str | None = None, **flags: Any) -> Service:
    """Return the service of the instance in *directory*, with a method for every command. Close it, or use it with ``with``.

    Parameters
    ----------
    flags
        Settings that take precedence over environment and file, with levels joined by ``__`` (``jobs__workers=4``).

    Raises
    ------
    NotACatalog, InvalidConfiguration, CubeportError
        What opening the catalog raises.
    """
    from cubeport.settings import load

    settings = load(directory, **({"read_only": True} if read_only else {}), **flags)
    catalog = Catalog.open(directory, read_only=settings.read_only, user_id=user_id, data_dir=settings.data_dir)
    children = children_of(settings)
    service = service_of(settings, catalog, children)
    service.port = lambda: _port_of(settings, service, children)
    return service


def _port_of(settings: Settings, service: Service, children: Children) -> Port:
    """Return the client of the service, in this process: its application is made when it is first asked."""
    from cubeport.client.port import Port
    from cubeport.main.here import AppSession
    from cubeport.server.app import create_app

    session = AppSession(lambda: create_app(_app_parts(settings, service, children)), service.engines, url=service.public_url)
    service.closes_with(session.close)
    return Port.over(session)


def children_of(settings: Settings) -> Children:
    """Return what starts the confined children of a process."""
    from cubeport.adapters.gate.tasks import confined

    return confined(gate_limits(settings))


def service_of(settings: Settings, catalog: Catalog, children: Children, *, public_url: str | None = None) -> Service:
    """Assemble the service of an opened catalog, which closes both."""
    from cubeport.adapters.configuration import FolderConfiguration
    from cubeport.adapters.engines import role
    from cubeport.adapters.engines.arriving import Arrivals
    from cubeport.adapters.engines.manifest import parse
    from cubeport.adapters.gate.gate import ConfinedGate
    from cubeport.adapters.zones import FolderZones
    from cubeport.cubes.functions import function_of
    from cubeport.cubes.recipes import RECIPES, recipe_of
    from cubeport.documents.stac import Site
    from cubeport.errors import DatasetBusy, Locked
    from cubeport.main.executing import divided_of
    from cubeport.main.versions import place_of
    from cubeport.service.changes import Changes
    from cubeport.service.datasets import Datasets
    from cubeport.service.derive import Derivations, WithDerived
    from cubeport.service.diff import Diff
    from cubeport.service.engines import Engines
    from cubeport.service.follow import Follower
    from cubeport.service.ingest import Ingester
    from cubeport.service.jobs import Jobs
    from cubeport.service.maker import Maker
    from cubeport.service.outages import Outages
    from cubeport.service.overview_making import OverviewMaking
    from cubeport.service.replicate import Replicator
    from cubeport.service.retain import Retention, Rule
    from cubeport.service.schedules import Schedules
    from cubeport.service.service import Service
    from cubeport.service.templates import Broken, DatasetTemplate, Extent
    from cubeport.service.wanted import Names
    from cubeport.service.webhooks import Webhook, Webhooks

    refuse_address(settings, catalog_file(settings.instance).backend)
    if not settings.read_only:
        _clear_staging(settings.data_dir, catalog)
    locks = catalog.parts.named_locks
    assert locks is not None, "a catalog in a folder has them"
    place = place_of(settings, catalog.rows, settings.data_dir)
    engines = Engines(
        catalog.backend,
        writer=lambda: role(settings.engine, "Writer", place),
        reader=lambda name: role(name, "Reader", place),
        lister=lambda name: role(name, "Lister", place),
    )

    @contextmanager
    def lock(
        dataset_id: str, *, wait_s: float = settings.ingest.lock_wait_s, waits: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        try:
            with ExitStack() as stack:
                try:
                    stack.enter_context(locks.hold("dataset", dataset_id))
                except Locked:
                    waits()
                    stack.enter_context(locks.hold("dataset", dataset_id, wait_s))
                recover(catalog.ports)  # notes of the dead are cleared when a catalog is opened, not for each dataset
                yield
        except Locked as exc:
            raise DatasetBusy(exc.message, next_step="try again when it is done") from exc

    kept, uploads, sources = _sources(settings, catalog)
    datasets = Datasets(catalog, remote=catalog.parts.settings["backend"] == "postgresql")
    configuration = FolderConfiguration(settings.instance, template=DatasetTemplate, extent=Extent, broken=Broken)
    gate = ConfinedGate(children, divided=divided_of(settings, children.limits))
    of_plugins = _functions(catalog.plugins.given("recipe"), lambda each: recipe_of(each.name, each.value, **each.options))
    recipes = {**RECIPES, **of_plugins}
    derivations = Derivations(datasets, recipes, partial(_computed, gate, engines))
    transforms = _functions(
        catalog.plugins.given("transform"), lambda each: function_of(each.name, each.value, 1, kind="transform")
    )
    every = WithDerived(sources, derivations)
    names = Names(configuration, datasets, every, transforms, settings.default_extent)
    follower = Follower(names, every, most_periods=settings.limits.periods)
    ingester = Ingester(
        names=names,
        datasets=datasets,
        sources=every,
        follower=follower,
        gate=gate,
        engines=engines,
        maker=Maker(catalog=catalog, datasets=datasets, gate=gate, engines=engines, transforms=transforms),
        lock=lock,
    )
    retention = Retention(
        catalog=catalog,
        datasets=datasets,
        engines=engines,
        rule=Rule(
            keep_last=settings.retention.keep_last,
            keep_days=settings.retention.keep_days,
            grace_min=settings.retention.grace_min,
        ),
        lock=partial(lock, wait_s=0.0),
    )
    changes = Changes(catalog.backend, keep_days=settings.changes.keep_days)
    schedules = Schedules(catalog.backend, datasets, configuration, zone=settings.schedule.timezone)
    url = public_url or settings.public_url or f"http://{settings.server.host}:{settings.server.port}"
    outages = Outages(logging.getLogger("cubeport.jobs"))
    webhooks = Webhooks(
        catalog.backend,
        [Webhook.of(os.environ, **dict(each)) for each in settings.webhooks.targets],
        post=_poster(settings),
        lock=partial(locks.hold, "webhook"),
        name=settings.id,
        public_url=url,
        outages=outages,
    )
    arrivals = Arrivals(settings.data_dir, limit=settings.limits.source_bytes)
    replicator = Replicator(
        catalog=catalog,
        datasets=datasets,
        stored=engines,
        arriving=arrivals,
        gate=gate,
        lock=lock,
        origin=settings.public_url or f"{url}#{catalog.catalog_id}",
    )
    return Service(
        catalog=catalog,
        datasets=datasets,
        availability=catalog.plugins.values("availability"),
        configuration=configuration,
        names=names,
        follower=follower,
        ingester=ingester,
        jobs=Jobs(
            catalog=catalog,
            ingester=ingester,
            locks=locks,
            workers=settings.jobs.workers,
            queue=settings.jobs.queue,
            max_attempts=settings.jobs.max_attempts,
            keep_days=settings.jobs.keep_days,
            servers=servers_of(settings.instance, catalog.backend, locks),
            outages=outages,
            chores=(retention.apply, changes.prune, kept.prune, uploads.prune, arrivals.prune),
        ),
        uploads=uploads,
        engines=engines,
        retention=retention,
        changes=changes,
        schedules=schedules,
        diff=Diff(
            partial(_opened_versions, engines),
            lambda dataset_id, version_id: parse(engines.manifest(dataset_id, version_id)),
        ),
        scheduled=settings.schedule.enabled,
        webhooks=webhooks,
        derivations=derivations,
        replicator=replicator,
        overviews=OverviewMaking(
            catalog=catalog, datasets=datasets, configuration=configuration, gate=gate, engines=engines, lock=lock
        ),
        elsewhere=_elsewhere(settings),
        export_target=partial(_export_target, settings.instance),
        zones=FolderZones(settings.instance, most_bytes=settings.zones.max_bytes, most_zones=settings.limits.table_zones),
        site=Site(public_url=url, id=settings.id, title=settings.title, description=settings.description),
        public_url=url,
        read_only=settings.read_only,
        user=catalog.ports.user_id,
        closing=(children.close, catalog.close),
    )


def _clear_staging(data: Path, catalog: Catalog) -> None:
    """Remove what operations of this machine left in staging that another machine has undone: that one does not see the folder."""
    from cubeport.adapters.engines.disk import remove
    from cubeport.adapters.engines.staging import staged

    left = [each for each in staged(data) if is_id(each.name)]
    if not left:
        return
    working = set(catalog.ports.journal.open_ids())  # after the folders: an operation is open before it has one, and longer
    for each in left:
        if each.name not in working and catalog.backend.get_operation(each.name) is not None:
            try:
                remove(data / each.path)
            except OSError as error:  # it may be that of another user of a group; gc names it
                _LOG.warning("could not remove what operation %s left in staging: %s", each.name, error)


def _poster(settings: Settings) -> Post:
    """Return the function that sends to webhooks. Its library is imported for the first one."""

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        from cubeport.adapters.posting import Asker
        from cubeport.adapters.storage.fetching import Bounds

        return Asker(settings.webhooks.origins, Bounds(idle_s=10, base_s=20), setting="webhooks.origins").post(url, body, headers)

    return post


def _functions[T](given: Iterable[tuple[Registration, str]], make: Callable[[Registration], T]) -> dict[str, T]:
    """Return the functions that plugins provide, by name. An invalid one is logged and omitted."""
    import logging

    found = {}
    for each, _ in given:
        try:
            found[each.name] = make(each)
        except ValueError as exc:
            logging.getLogger(__name__).warning("the %s %s of a plugin is not used: %s", each.kind, each.name, exc)
    return found


def _computed(
    gate: ConfinedGate, engines: Engines, recipe: Recipe, derivation: Derivation, inputs: Mapping[str, PublishedView], into: Path
) -> Path:
    """Compute a recipe in a confined child, which can read the input versions and write below *into*."""
    folders = {
        name: (*engines.local(each.texts.dataset_id, each.version.version_id, into / f"input-{number}"), _with_periods(each))
        for number, (name, each) in enumerate(inputs.items())
    }
    return gate.derive(recipe.name, derivation.params, folders, into, function=recipe.function)


def _with_periods(shown: PublishedView) -> CubeDescription:
    """Return the description of a version with the period type that its dataset was said to have, if its labels tell none."""
    cube: CubeDescription = shown.description
    said: str | None = shown.texts.period_type
    if cube.temporal is None or cube.temporal.period_type != "irregular" or said is None:
        return cube
    return cube.model_copy(update={"temporal": cube.temporal.model_copy(update={"period_type": said})})


def _elsewhere(settings: Settings) -> Callable[[str, str | None], Elsewhere]:
    """Return the function that connects to another instance by URL and key. Its library is imported for the first one."""

    def find(url: str, key: str | None) -> Elsewhere:
        from cubeport.adapters.elsewhere import OtherInstance
        from cubeport.adapters.posting import Asker
        from cubeport.adapters.storage.fetching import Bounds

        bounds = Bounds(max_bytes=settings.limits.source_bytes, idle_s=60, base_s=300)
        return OtherInstance(Asker(settings.mirrors.origins, bounds, setting="mirrors.origins"), url, key=key)

    return find


def _export_target(root: Path, address: str) -> tuple[ExportTarget, str]:
    """Return where an export to *address* is written. Profiles are read for each export, so a new one needs no restart."""
    from cubeport.adapters.exporting import target_of
    from cubeport.adapters.storage.profiles import root_of, s3_places
    from cubeport.errors import InvalidRequest

    name, colon, path = address.partition(":")
    if colon and not path.startswith("//") and (found := root_of(root, name)) is not None:
        words = f"{address[:200]} names the profile {name}; an export is written to a folder or to s3://bucket/prefix."
        step = f"--to {found.rstrip('/')}/{path.lstrip('/') or 'NAME'}, or --to ./{address} for a folder of that name"
        raise InvalidRequest(words, next_step=step)
    return target_of(address, s3_places(root, os.environ, "export") if "://" in address else {})


def _opened_versions(engines: Engines) -> Versions:
    """Return the object that opens versions to compare them. Its libraries are imported here, for the first one."""
    from cubeport.adapters.engines.handles import OpenedVersions

    return OpenedVersions(engines, handle_bytes=64 << 20, chunk_bytes=32 << 20)


def _sources(settings: Settings, catalog: Catalog) -> tuple[KeptFolder, UploadFolder, InstalledSources]:
    from cubeport.adapters.fetching.bringing import Bringer
    from cubeport.adapters.fetching.installed import InstalledSources
    from cubeport.adapters.fetching.kept import KeptFolder
    from cubeport.adapters.fetching.shared_uploads import SharedUploads
    from cubeport.adapters.fetching.uploads import UploadFolder
    from cubeport.adapters.sources.places import LocalPlaces, iris_sample_data
    from cubeport.adapters.storage.fetching import Bounds, KeepingFetcher
    from cubeport.adapters.storage.profiles import read_profiles
    from cubeport.adapters.storage.s3 import UPLOADS
    from cubeport.main.versions import bucket_of

    keeping = settings.ingest
    kept = KeptFolder(settings.data_dir / "fetched", hours=keeping.keep_fetched_h, max_bytes=keeping.keep_fetched_bytes)
    folder, most = settings.data_dir / "uploads", settings.limits.upload_bytes
    if settings.profile is None:
        uploads = UploadFolder(folder, max_bytes=most)
    else:
        uploads = SharedUploads(folder, lambda: bucket_of(settings).below(UPLOADS), max_bytes=most)

    def profiles() -> Mapping[str, tuple[Profile, str]]:
        types = catalog.plugins.values("profile_type")
        found, written = read_profiles(settings.instance, settings.instance / MARK / "scratch", os.environ, types)
        return {name: (found.get(name), each.root) for name, each in written.items() if "source" in each.use}

    sources = InstalledSources(
        LocalPlaces(settings.instance, roots=settings.sources.roots, plugins={"iris-sample-data": iris_sample_data}),
        Bringer(kept),
        uploads,
        connect=lambda: KeepingFetcher(settings.sources.origins, Bounds(max_bytes=settings.limits.source_bytes)),
        profiles=profiles,
        plugins=catalog.plugins.values("source"),
        most=settings.limits.source_bytes,
    )
    return kept, uploads, sources


def serve(root: Path, *, announce: Callable[[str], None], jobs: bool = True, **flags: Any) -> int:
    """Serve the instance until SIGINT or SIGTERM. *announce* is called with the address when the server is ready.

    Raises
    ------
    InvalidConfiguration
        If the server is not on loopback and there is no key, unless ``read_only``.
    Unavailable
        If the address cannot be bound.
    """
    from cubeport.server import run
    from cubeport.settings import load

    settings = load(root, **flags)
    logs.begin(settings)
    with run.passed() or run.bind(settings.server.host, settings.server.port) as bound:
        public_url = settings.public_url or run.address(bound)
        # Errors stop the start here, and recovery runs once, before any process serves.
        with Catalog.open(root, read_only=settings.read_only, data_dir=settings.data_dir) as catalog:
            _check_exposure(settings, catalog, host=bound.getsockname()[0])
        work = partial(_serve_one, root, flags, bound, public_url, jobs)

        def answering() -> None:
            announce(public_url)
            logs.tell_supervisor("READY=1")

        try:
            if settings.server.workers > 1:
                return run.serve_many(work, settings.server.workers, ready=answering)
            work(answering)
        finally:
            logs.tell_supervisor("STOPPING=1")
    return 0


def _serve_one(root: Path, flags: Mapping[str, Any], bound: socket, public_url: str, jobs: bool, ready: Callable[[], None]) -> None:
    """Serve in this process until SIGTERM. Settings are loaded again, because it can be a separate process."""
    from cubeport.main.allocator import share_arenas
    from cubeport.server import run
    from cubeport.server.app import create_app
    from cubeport.settings import load

    share_arenas()
    settings = load(root, **flags)
    logs.begin(settings)
    children = children_of(settings)
    catalog = Catalog.open(root, read_only=settings.read_only, data_dir=settings.data_dir)
    with service_of(settings, catalog, children, public_url=public_url) as service:
        if not settings.read_only:
            service.engines.writer.set_up()  # an engine that cannot write stops the start
        parts = _app_parts(settings, service, children)
        if jobs:
            service.start()
        else:
            service.watch()
        app = create_app(parts)
        warm_up(settings)
        _keep_answering()
        run.serve(app, [bound], max_connections=settings.server.max_connections, at_once=app.at_once, ready=ready)


def warm_up(settings: Settings, *, requests: bool = True) -> None:
    """Import everything that a job or, with *requests*, a request can need. A failed import stops the start.

    If two threads import a library at the same time, it can stay half initialised until the process ends. The first query would
    also wait for seconds.
    """
    from cubeport.adapters.encoders.modules import EncoderModules
    from cubeport.cubes.forms import FORMS

    for name in (*_NEEDED_BY_JOBS, *(_NEEDED_BY_REQUESTS if requests else ())):
        import_module(name)
    if settings.profile is not None and find_spec("icechunk") is not None:
        import_module("cubeport.adapters.engines.icechunk")
    if find_spec("dask") is not None:
        import_module("dask.array")  # xarray imports it for the first values, if it is installed
    for form in FORMS:
        EncoderModules().of(form)


def _keep_answering() -> None:
    """Prevent threads from blocking the event loop for long.

    The 99th percentile of ``/health`` under hostile load was 294 ms without these two settings, 146 ms with the first, and 75 ms
    with both.
    """
    # Imported objects live forever. Each collection of their half a million objects stopped all threads for 300 ms.
    gc.collect()
    gc.freeze()
    # A computing thread yields to the loop after this time, at each system call of the loop. Python's default is 5 ms.
    sys.setswitchinterval(0.0005)


_NEEDED_BY_JOBS = (
    "cubeport.adapters.engines.zarr",
    "cubeport.cubes.tables.grids",
    "cubeport.cubes.tables.polygons",
    "h5py._hl.dims",
    "shapely.geometry",
)
_NEEDED_BY_REQUESTS = (
    "anyio._backends._asyncio",
    "cubeport.adapters.engines.opened",
    "cubeport.adapters.ogc.api",
    "encodings.unicode_escape",  # used by jinja's lexer
    "pygeoapi.process.manager.dummy",
)


def _check_exposure(settings: Settings, catalog: Catalog, *, host: str) -> None:
    from cubeport.server import auth
    from cubeport.service.keys import Keys

    auth.check_exposure(
        host=host,
        public_url=settings.public_url,
        keys_exist=Keys(catalog.backend).any(),
        read_only=settings.read_only,
    )


def _app_parts(settings: Settings, service: Service, children: Children) -> AppParts:
    from importlib.metadata import version

    from cubeport.adapters.engines import ENGINES
    from cubeport.main.executing import executor_of, summary
    from cubeport.main.measures import metrics_of
    from cubeport.main.versions import bucket_of
    from cubeport.server.auth import Gatekeeper
    from cubeport.server.dap import DapFace
    from cubeport.server.griddap import GriddapFace
    from cubeport.server.html import Site
    from cubeport.server.maps import MapsFace
    from cubeport.server.ogcapi import OgcFace
    from cubeport.server.parts import Parts as AppParts
    from cubeport.server.processes import ProcessesFace
    from cubeport.server.tables import TablesFace
    from cubeport.service.keys import Keys
    from cubeport.service.pictures import Pictures
    from cubeport.service.slabs import Slabs
    from cubeport.service.templates import source_kinds

    locks = service.catalog.parts.named_locks
    assert locks is not None, "a catalog in a folder has them"
    limits = settings.limits
    versions, room = versions_of(settings, service), room_of(settings)
    queries = queries_of(settings, service, versions, room)
    pictures = Pictures(queries.versions, most_chunks=limits.map_chunks, most_pixels=limits.map_pixels)
    site = Site(service.public_url, settings.title, settings.description, version("cubeport"))
    dap = DapFace(service, Slabs(queries), site=site)
    jobs = None if settings.read_only else jobs_of(settings, queries, service)
    if jobs is not None:
        service.jobs.makes_tables(jobs)
    tables = TablesFace(
        service,
        queries,
        tables_of(settings, queries),
        public_url=service.public_url,
        zone_bytes=settings.zones.max_bytes,
        may_wait=jobs is not None,
    )
    return AppParts(
        service=service,
        engine=service.engines,
        gatekeeper=Gatekeeper(
            keys=Keys(service.catalog.backend),
            public_reads=settings.auth.public_reads,
            open_on_loopback=settings.auth.open_on_loopback,
            read_only=settings.read_only,
            public_metrics=settings.metrics.public,
            local_token=_local_token(settings) if settings.auth.open_on_loopback and not settings.read_only else None,
        ),
        public_url=service.public_url,
        queries=OgcFace(
            service,
            queries,
            public_url=service.public_url,
            title=settings.title,
            description=settings.description,
            departures=tables.plot,
            copy=service.engines.copy,
        ),
        dap=dap,
        griddap=GriddapFace(service, queries, pictures, dap, site=site),
        tables=tables,
        processes=ProcessesFace(
            service,
            tables,
            jobs,
            public_url=service.public_url,
            version=version("cubeport"),
            body_bytes=settings.zones.max_bytes,
        ),
        pictures=MapsFace(service, pictures, site=site),
        id=settings.id,
        title=settings.title,
        description=settings.description,
        version=version("cubeport"),
        wait_s=settings.ingest.wait_s,
        access_log=settings.log.access,
        log_form=settings.log.format,
        trusted_proxies=settings.server.trusted_proxies,
        cors_origins=settings.cors.origins,
        offload=settings.zarr.offload,
        offload_prefix=settings.zarr.offload_prefix,
        zone_bytes=settings.zones.max_bytes,
        limits=without_waiting(settings.limits),
        info={"engines": sorted(ENGINES), "source_kinds": source_kinds(), "formats": _formats()},
        remote_catalog=service.catalog.parts.settings["backend"] == "postgresql",
        servers=servers_of(settings.instance, service.catalog.backend, locks).summary,
        executor=None if (executor := executor_of(settings)) is None else partial(summary, executor),
        metrics=metrics_of(settings, service, children=children, versions=versions, room=room),
        checks={
            "catalog": service.generation,
            "storage": lambda: os.scandir(settings.data_dir).close(),
            "jobs": service.check_jobs,
            **({} if settings.profile is None else {"bucket": lambda: bucket_of(settings).ask()}),
            **({} if settings.read_only else {"space": partial(_demand_space, settings, service.catalog.parts)}),
        },
    )


def _demand_space(settings: Settings, catalog: CatalogParts) -> float:
    """Raise NoSpace if the disk of the versions, of the catalog or of its database is full. Return how old the answer is, in s."""
    demand_space(settings.data_dir, settings.instance / MARK)
    return catalog.demand_space()


def _local_token(settings: Settings) -> str:
    """Return the secret in ``.cubeport/local-token``, which only the user of the instance can read. It is made if missing."""
    path = settings.instance / MARK / "local-token"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    made = f"local_{secrets.token_urlsafe(32)}"
    beside = path.with_name(f"local-token.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(made + "\n")
    with suppress(FileExistsError):  # another server process was first
        path.hardlink_to(beside)
    beside.unlink()
    return path.read_text().strip()


def _formats() -> list[str]:
    """Return the formats that the installed libraries can read."""
    from importlib.util import find_spec

    return ["netcdf", "zarr", *(["grib"] if find_spec("cfgrib") else [])]


def prepare(
    root: Path,
    catalog: str = "sqlite",
    *,
    allow_roots: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    samples: bool = False,
) -> None:
    """Make *root* an instance. Existing files do not change.

    Parameters
    ----------
    allow_roots, allow_origins
        Folders and origins from which requests can ingest, written to a new ``config/service.yaml``.
    samples
        Whether to add the templates and extents of the demo instance.
    """
    ready = _ready_instance()
    for folder in ("config/datasets", "config/pipelines", "extents", "data"):
        make_folders(root / folder)
    service_yaml = root / "config" / "service.yaml"
    if not service_yaml.exists():
        allowed = {name: dumps(list(values)) for name, values in (("roots", allow_roots), ("origins", allow_origins)) if values}
        lines = ["sources:", *(f"  {name}: {values}" for name, values in allowed.items()), ""] if allowed else []
        replace_file(service_yaml, (ready / "config" / "service.yaml").read_bytes() + "\n".join(lines).encode())
    if samples:
        for file in (*ready.glob("config/datasets/*.yaml"), *ready.glob("extents/*.yaml")):
            target = root / file.relative_to(ready)
            if not target.exists():
                replace_file(target, file.read_bytes())
    if not (root / MARK / CATALOG_FILE).exists():
        Catalog.create(root, catalog).close()


def _ready_instance() -> Path:
    """Return the folder with the ``config/`` and ``extents/`` of the demo instance, in the package or in its checkout."""
    packaged = Path(__file__).parents[1] / "_instance"
    return packaged if packaged.is_dir() else Path(__file__).parents[3]
