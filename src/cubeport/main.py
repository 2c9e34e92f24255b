"""The only place where parts meet: settings to adapters, adapters to the catalog, all of it to commands and apps."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cubeport.catalog import catalog as core
from cubeport.catalog import failpoints, strictyaml
from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.canonical import Id, dumps, new_id
from cubeport.catalog.durable import make_folders, replace_file, store_errors
from cubeport.catalog.events import EventLog, session_id
from cubeport.catalog.extraction import Extractors
from cubeport.catalog.hooks import HookManager
from cubeport.catalog.journal import FileJournal, Journal
from cubeport.catalog.planning import Planner
from cubeport.catalog.plugins import Plugins, discover, join_hooks
from cubeport.catalog.schemas import KindPolicy, Policy, Schemas
from cubeport.catalog.templates import DIRECTORY, FILENAME
from cubeport.catalog.undo import Undoer
from cubeport.catalog.unit_of_work import Ports
from cubeport.errors import (
    CatalogExists,
    CatalogMoved,
    Conflict,
    CorruptCatalog,
    InvalidConfiguration,
    InvalidRequest,
    NewerModel,
    NotACatalog,
)

if TYPE_CHECKING:
    from socket import socket

    from cubeport.adapters.gate.children import Children
    from cubeport.adapters.gate.limits import Limits
    from cubeport.catalog.convert import Conversion
    from cubeport.server.parts import Parts as AppParts
    from cubeport.service.service import Service
    from cubeport.service.upkeep import VersionKeeper
    from cubeport.settings import Settings

# --- the catalog ----------------------------------------------------------------------------------------------------

MARK = ".cubeport"
"""The folder that makes its parent a catalog."""

CATALOG_FILE = "catalog.yaml"
CONVERTING = "converting.json"
"""Is there while a conversion runs, or after it died."""

STORES: Mapping[str, str] = {"sqlite": "catalog.db", "tinydb": "catalog.json"}
"""The file of each backend's store."""

FORMAT = 1
"""The form of ``.cubeport`` that this release writes."""

WRITTEN = """\
# What this folder is. Templates, schemas and policies may be set here.
catalog_id: {}
format: {}
backend: {}
"""

DATA = "data"
"""The profile of the service's versions and staging; its root is ``data_dir``."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Templates(_Section):
    directory: str = DIRECTORY
    filename: str = FILENAME


class _KindSchema(_Section):
    schema_: str | None = Field(default=None, alias="schema")
    policy: Policy | None = None


class _PluginSettings(_Section):
    disabled: tuple[str, ...] = ()


class CatalogFile(_Section):
    """``.cubeport/catalog.yaml``: what a catalog is."""

    catalog_id: Id
    format: int = FORMAT
    backend: str = "sqlite"
    """``sqlite``, ``tinydb``, or the address of a database."""
    templates: _Templates = _Templates()
    schemas: dict[str, _KindSchema] = {}
    schema_policy: Policy = "warn"
    plugins: _PluginSettings = _PluginSettings()
    lock_timeout_s: float = Field(default=10.0, ge=0)
    allow_network_filesystem: bool = False


class Catalog(core.Catalog):
    """A catalog in a folder: ``Catalog.create(folder)`` once, then ``Catalog.open(folder)``."""

    @classmethod
    def create(
        cls,
        directory: str | Path,
        catalog: str = "sqlite",
        *,
        user_id: str | None = None,
        plugins: bool = True,
        command: str | None = None,
    ) -> Self:
        """Make a catalog in *directory* and open it; configuration files that are there stay as they are.

        Raises
        ------
        CatalogExists
        """
        root = Path(directory).resolve()
        inner = root / MARK
        if (inner / CATALOG_FILE).exists():
            raise CatalogExists(f"{root} has a catalog already.", next_step="cubeport info")
        with store_errors("make the catalog"):
            for folder in (inner, inner / "locks", inner / "journal" / "open", root / "files", root / "config"):
                make_folders(folder)
        # Its own file comes last: without it there is no catalog, and whoever is killed before can simply begin again.
        catalog_id = _create_backend(inner, catalog, new_id())
        from cubeport.adapters.storage.profiles import DEFAULT, FILE

        with store_errors("make the catalog"):
            if not (root / FILE).exists():
                replace_file(root / FILE, DEFAULT.encode())
            replace_file(inner / CATALOG_FILE, WRITTEN.format(catalog_id, FORMAT, dumps(catalog)).encode())
        return cls.open(root, user_id=user_id, plugins=plugins, command=command)

    @classmethod
    def open(
        cls,
        directory: str | Path = ".",
        read_only: bool = False,
        *,
        user_id: str | None = None,
        plugins: bool = True,
        command: str | None = None,
        data_dir: Path | None = None,
        recover: bool = True,
    ) -> Self:
        """Open the catalog in *directory*; what dead processes left open is finished or undone first.

        Parameters
        ----------
        read_only
            Write nothing, take no lock, recover nothing.
        data_dir
            The root of the service's versions, if it is not the one that the instance's settings say.

        Raises
        ------
        NotACatalog, CorruptCatalog, NewerModel, NetworkFilesystem, InvalidConfiguration
        """
        arm(os.environ)
        root = Path(directory).resolve()
        file = _catalog_file(root)
        if not read_only and (root / MARK / CONVERTING).exists():
            file = _finish_conversion(root, file)
        ports, parts = _parts(root, file, read_only, user_id, plugins, command, data_dir)
        opened = cls(ports, parts)
        try:
            if recover and not read_only:
                opened.recovered = tuple(opened.recover())
        except BaseException:
            opened.close()
            raise
        return opened

    def convert(self, to: str) -> Conversion:
        """Move the catalog to another backend, ``sqlite`` or ``tinydb``; the old store's file stays.

        Afterwards this object reads the old store, and every write to it is CatalogMoved: open the catalog again.

        Raises
        ------
        Conflict
            If it is of that backend already.
        HashMismatch
            If the new store does not give back what went in; the old one stays in use.
        """
        from cubeport.catalog.convert import convert

        self._writable()
        root = self.root
        assert root is not None, "a catalog in a folder has one"
        file, inner = _catalog_file(root), root / MARK
        if to not in STORES:
            raise InvalidRequest(f"A catalog is sqlite or tinydb, not {to[:40]!r}.", next_step="cubeport convert --to tinydb")
        if to == file.backend:
            raise Conflict(f"The catalog is of {to} already.", next_step="cubeport info")
        with store_errors("convert the catalog"):
            _set_aside(inner, to)
            replace_file(inner / CONVERTING, dumps({"from": file.backend, "to": to}).encode())
        _create_backend(inner, to, file.catalog_id)
        target = _open_store(inner, to, lock_path=inner / "locks" / "convert.lock", lock_timeout_s=file.lock_timeout_s)
        source: Any = self.backend
        try:
            done = convert(source, target, to)
        finally:
            target.close()
        _swap(root, to)
        self.events.emit("operation.succeeded", f"converted from {file.backend} to {to}", operation_type="convert", to=to)
        return done

    @classmethod
    def migrate(cls, directory: str | Path = ".") -> dict[str, Any]:
        """Bring the store of the catalog in *directory* to this release's form; twice is once."""
        root = Path(directory).resolve()
        file, inner = _catalog_file(root), root / MARK
        if file.backend != "sqlite":
            return {"backend": file.backend, "before": FORMAT, "after": FORMAT}
        from cubeport.adapters.backends.sql.backend import migrate

        before, after = migrate(inner / STORES["sqlite"], lock_path=inner / "locks" / "catalog.lock")
        return {"backend": file.backend, "before": before, "after": after}


def _set_aside(inner: Path, kind: str) -> None:
    """Give a store that lies where a new one will be another name: it was converted from, or a conversion to it died."""
    store = inner / STORES[kind]
    number = next(n for n in range(1, 10_000) if not store.with_name(f"{store.name}.old{n}").exists())
    for suffix in ("", "-wal", "-shm", ".bak"):
        part = store.with_name(store.name + suffix)
        if part.exists():
            part.rename(part.with_name(f"{store.name}.old{number}{suffix}"))


def _swap(root: Path, to: str) -> None:
    """Make *to* the catalog's backend: its line in ``catalog.yaml`` changes, all others stay."""
    path = root / MARK / CATALOG_FILE
    line = f"backend: {dumps(to)}"
    text, found = re.subn(r"(?m)^backend:.*$", line, path.read_text("utf-8"))
    with store_errors("convert the catalog"):
        replace_file(path, (text if found else f"{text.rstrip()}\n{line}\n").encode())
        (root / MARK / CONVERTING).unlink(missing_ok=True)


def _finish_conversion(root: Path, file: CatalogFile) -> CatalogFile:
    """Finish a conversion whose process died: forward if the old store has retired, else there was none."""
    inner = root / MARK
    try:
        with contextlib.closing(_open_backend(inner, file, read_only=False)) as backend, backend.transaction():
            (inner / CONVERTING).unlink(missing_ok=True)
    except CatalogMoved as exc:
        _swap(root, str(exc.members["target"]))
    return _catalog_file(root)


def _catalog_file(root: Path) -> CatalogFile:
    path = root / MARK / CATALOG_FILE
    if not path.is_file():
        raise NotACatalog(f"{root} is not a catalog.", next_step="cubeport init")
    document = strictyaml.read(path, f"{MARK}/{CATALOG_FILE}")
    if isinstance(document.value, dict) and isinstance(written := document.value.get("format"), int) and written > FORMAT:
        raise NewerModel(f"The catalog has format {written}; this release knows up to {FORMAT}.", next_step="upgrade cubeport")
    try:
        return CatalogFile.model_validate(document.value)
    except ValidationError as exc:
        found = strictyaml.problems(document, exc.errors(include_url=False), {(): CatalogFile.model_fields})
        raise InvalidConfiguration("\n".join(each.message for each in found), errors=found) from None


def _parts(
    root: Path,
    file: CatalogFile,
    read_only: bool,
    user_id: str | None,
    use_plugins: bool,
    command: str | None,
    data_dir: Path | None,
) -> tuple[Ports, core.Parts]:
    from cubeport.adapters.extract.cubes import NetCDFExtractor, ZarrExtractor
    from cubeport.adapters.extract.files import DirectoryExtractor, FileExtractor
    from cubeport.adapters.storage.local import LocalProfile
    from cubeport.adapters.storage.profiles import read_profiles

    inner = root / MARK
    found = _plugins(file.plugins.disabled, wanted=use_plugins)
    who = user_id or os.environ.get("CUBEPORT_USER") or getpass.getuser()
    context = {"catalog_path": str(root), "backend": file.backend.partition(":")[0], "user_id": who, "command": command}
    events = EventLog(inner / "logs", context)
    if not read_only:
        found.tell(events)
    hooks = HookManager(events)
    join_hooks(found, hooks)
    profiles, written = read_profiles(root, inner / "scratch", os.environ, found.values("profile_type"))
    versions = data_dir or _data_dir(root)
    if data_dir is not None or versions.is_dir():  # a catalog without the service has none
        profiles.add(LocalProfile(DATA, versions))
    undoer = Undoer(profiles, hooks)
    for name, fn in found.values("undo").items():
        undoer.register(name, fn)
    extractors = Extractors(events)
    gate = _LazyGate(root)
    ours = (FileExtractor(), DirectoryExtractor(), NetCDFExtractor(gate), ZarrExtractor(gate))
    for extractor in (*ours, *found.values("extractor").values()):
        extractors.register(extractor)
    schemas = Schemas(
        inner / "schemas",
        file.schema_policy,
        {kind: KindPolicy(each.schema_, each.policy) for kind, each in file.schemas.items()},
    )
    for each, plugin in found.given("schema"):
        schemas.offer(each.name, each.value, each.options["version"], plugin=plugin)
    planner_fields = found.values("template_field")
    # Last, so that nothing that is wrong above leaves it open.
    backend = _open_backend(inner, file, read_only=read_only)
    ports = Ports(
        catalog_id=file.catalog_id,
        backend=failpoints.counted(backend),
        journal=FileJournal(inner / "journal"),
        profiles=profiles,
        hooks=hooks,
        events=events,
        undoer=undoer,
        user_id=who,
        session_id=session_id(),
        read_only=read_only,
        check=schemas.check,
    )
    planner = Planner(profiles, ports.clock, file.templates.directory, file.templates.filename, planner_fields)
    parts = core.Parts(
        schemas=schemas,
        extractors=extractors,
        planner=planner,
        root=root,
        locks=inner / "locks",
        quarantine=inner / "quarantine",
        keepers=partial(_keepers, backend, ports.journal, versions),
        apart=frozenset({DATA} | {name for name, each in written.items() if "data" in each.use}),
        settings={"backend": file.backend.partition(":")[0], "format": file.format, "schema_policy": file.schema_policy},
        plugins=found,
        closing=(gate.close,),
    )
    return ports, parts


def _keepers(backend: CatalogBackend, journal: Journal, versions: Path) -> Iterator[VersionKeeper]:
    """Yield who looks after the versions, where there are any."""
    from cubeport.adapters.engines.listing import DataFolder
    from cubeport.service.upkeep import VersionKeeper

    if versions.is_dir():
        yield VersionKeeper(backend, journal, DataFolder(versions), DATA)


class _LazyGate:
    """The children that extraction needs, started at the first call and ended with the catalog."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._children: Children | None = None

    def __call__(self) -> Children:
        if self._children is None:
            from cubeport.adapters.gate.children import Children
            from cubeport.settings import load

            self._children = Children(_limits(load(self._root)))
        return self._children

    def close(self) -> None:
        if self._children is not None:
            self._children.close()


def _plugins(disabled: Sequence[str], *, wanted: bool) -> Plugins:
    if not wanted or os.environ.get("CUBEPORT_PLUGINS") == "off":
        return Plugins()
    return discover(disabled=disabled)


def _data_dir(root: Path) -> Path:
    """Return the root of the service's versions; its settings are read only where an instance has any."""
    if (root / "config" / "service.yaml").is_file() or "CUBEPORT_DATA_DIR" in os.environ:
        from cubeport.settings import load

        return load(root).data_dir
    return root / "data"


def _create_backend(inner: Path, kind: str, catalog_id: str) -> str:
    """Make the catalog's store and return its id; one left by a creation that was killed is taken as it is."""
    match kind:
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            path = inner / "catalog.db"
            backend = SqlBackend.open(path) if path.exists() else SqlBackend.create(path, catalog_id)
            try:
                return backend.catalog_id
            finally:
                backend.close()
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            path = inner / "catalog.json"
            tiny = TinyBackend.open(path) if path.exists() else TinyBackend.create(path, catalog_id)
            try:
                return str(tiny.catalog_id)
            finally:
                tiny.close()
    raise InvalidRequest(f"A catalog is sqlite or tinydb, not {kind[:40]!r}.", next_step="cubeport init --catalog sqlite")


def _open_backend(inner: Path, file: CatalogFile, *, read_only: bool) -> CatalogBackend:
    options: dict[str, Any] = {
        "lock_path": inner / "locks" / "catalog.lock",
        "read_only": read_only,
        "lock_timeout_s": file.lock_timeout_s,
        "allow_network_filesystem": file.allow_network_filesystem,
    }
    opened = _open_store(inner, file.backend, **options)
    if opened.catalog_id != file.catalog_id:
        opened.close()
        raise CorruptCatalog("The catalog's store belongs to another catalog.", next_step="restore a backup of the whole folder")
    backend: CatalogBackend = opened
    return backend


def _open_store(inner: Path, kind: str, **options: Any) -> Any:
    match kind:
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            return SqlBackend.open(inner / STORES[kind], **options)
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            options.pop("allow_network_filesystem", None)  # nothing makes a JSON file safe there
            return TinyBackend.open(inner / STORES[kind], **options)
    raise InvalidConfiguration(f"{MARK}/{CATALOG_FILE}: backend: {kind.partition(':')[0]!r} is not sqlite or tinydb")


def arm(environment: Mapping[str, str]) -> None:
    """Arm the fail points of a test, once a process. Raises InvalidConfiguration where this is no test."""
    text = environment.get("CUBEPORT_FAIL_POINTS")
    if not text or failpoints.armed():
        return
    if environment.get("CUBEPORT_TESTING") != "1":
        raise InvalidConfiguration("CUBEPORT_FAIL_POINTS is for tests: set CUBEPORT_TESTING=1 as well, or unset it.")
    root = os.environ.setdefault("CUBEPORT_FAIL_POINTS_ROOT", str(os.getpid()))
    failpoints.arm(text, root=int(root))


# --- the service ----------------------------------------------------------------------------------------------------

DEMO: tuple[Mapping[str, Any], ...] = (
    {"dataset_id": "a1b-temperature", "start": "1860"},
    {"dataset_id": "a1b-temperature", "start": "1860", "extent_id": "great-lakes"},
    {"dataset_id": "ostia-sst", "start": "2006-04"},
    {"dataset_id": "toa-brightness"},
)
"""What ``cubeport demo`` ingests: templates of the ready instance."""


def connect(directory: str | Path = ".", *, read_only: bool = False, user_id: str | None = None, **flags: Any) -> Service:
    """Return the service of the instance in *directory*: every command has its twin there. Close it, or use it with ``with``.

    Parameters
    ----------
    flags
        Settings above environment and file, levels joined by ``__`` (``jobs__workers=4``).

    Raises
    ------
    NotACatalog, InvalidConfiguration, CubeportError
        What opening the catalog raises.
    """
    from cubeport.settings import load

    settings = load(directory, **({"read_only": True} if read_only else {}), **flags)
    catalog = Catalog.open(directory, read_only=settings.read_only, user_id=user_id, data_dir=settings.data_dir)
    return _service(settings, catalog, _children(settings))


def _children(settings: Settings) -> Children:
    from cubeport.adapters.gate.children import Children

    return Children(_limits(settings))


def _service(settings: Settings, catalog: Catalog, children: Children, *, public_url: str | None = None) -> Service:
    from cubeport.adapters.configuration import FolderConfiguration
    from cubeport.adapters.engines.zarr import ZarrEngine
    from cubeport.adapters.gate.gate import ConfinedGate
    from cubeport.adapters.places import LocalPlaces, iris_sample_data
    from cubeport.catalog.locks import FileLock
    from cubeport.errors import DatasetBusy, Locked
    from cubeport.service.datasets import Datasets
    from cubeport.service.ingest import Ingester
    from cubeport.service.jobs import Jobs
    from cubeport.service.service import Service
    from cubeport.service.templates import Broken, DatasetTemplate, Extent

    locks = settings.instance / MARK / "locks"
    engine = ZarrEngine(settings.data_dir)

    @contextmanager
    def lock(dataset_id: str) -> Iterator[None]:
        make_folders(locks / "datasets")
        try:
            with FileLock(locks / "datasets" / f"{dataset_id}.lock", {}, settings.ingest.lock_wait_s):
                catalog.recover()
                yield
        except Locked as exc:
            raise DatasetBusy(exc.message, next_step="try again when it is done") from exc

    datasets = Datasets(catalog)
    configuration = FolderConfiguration(settings.instance, template=DatasetTemplate, extent=Extent, broken=Broken)
    ingester = Ingester(
        catalog=catalog,
        datasets=datasets,
        configuration=configuration,
        sources=LocalPlaces(settings.instance, roots=settings.sources.roots, plugins={"iris-sample-data": iris_sample_data}),
        gate=ConfinedGate(children),
        engine=engine,
        lock=lock,
    )
    return Service(
        catalog=catalog,
        datasets=datasets,
        configuration=configuration,
        ingester=ingester,
        jobs=Jobs(catalog=catalog, ingester=ingester, locks=locks, workers=settings.jobs.workers, queue=settings.jobs.queue),
        engine=engine,
        public_url=public_url or settings.public_url or f"http://{settings.server.host}:{settings.server.port}",
        read_only=settings.read_only,
        user=catalog.ports.user_id,
        closing=(children.close, catalog.close),
    )


def _limits(settings: Settings) -> Limits:
    from cubeport.adapters.gate.limits import Limits

    gate = settings.gate
    return Limits(
        declared_bytes=settings.limits.declared_bytes,
        expansion=settings.limits.expansion,
        memory_bytes=gate.memory_bytes,
        base_s=gate.base_s,
        children=gate.children or os.cpu_count() or 1,
        sandbox=gate.sandbox,
    )


def serve(root: Path, *, announce: Callable[[str], None], jobs: bool = True, **flags: Any) -> int:
    """Serve the instance until SIGINT or SIGTERM; *announce* gets the address once requests are answered.

    Raises
    ------
    InvalidConfiguration
        Off loopback without a key, unless ``read_only``.
    Unavailable
        When the address cannot be bound.
    """
    from cubeport.server import run
    from cubeport.settings import load

    settings = load(root, **flags)
    _log(settings)
    with run.bind(settings.server.host, settings.server.port) as bound:
        public_url = settings.public_url or run.address(bound)
        # What would stop the start stops it here, and what the dead left is recovered once, before any process serves.
        with Catalog.open(root, read_only=settings.read_only, data_dir=settings.data_dir) as catalog:
            _check_exposure(settings, catalog)
        work = partial(_serve_one, root, flags, bound, public_url, jobs)
        if settings.server.workers > 1:
            return run.serve_many(work, settings.server.workers, ready=lambda: announce(public_url))
        work(lambda: announce(public_url))
    return 0


def _serve_one(root: Path, flags: Mapping[str, Any], bound: socket, public_url: str, jobs: bool, ready: Callable[[], None]) -> None:
    """Serve in this process until SIGTERM. Settings are loaded again: it may be a process of its own."""
    from cubeport.server import run
    from cubeport.server.app import create_app
    from cubeport.settings import load

    settings = load(root, **flags)
    _log(settings)
    children = _children(settings)
    catalog = Catalog.open(root, read_only=settings.read_only, data_dir=settings.data_dir)
    with _service(settings, catalog, children, public_url=public_url) as service:
        if jobs:
            service.start()
        app = create_app(_app_parts(settings, service, children))
        # What the first query needs takes seconds to import: done beside the first requests, and not in one of them.
        threading.Thread(target=import_module, args=["cubeport.adapters.ogc.provider"], name="warm-up", daemon=True).start()
        run.serve(app, [bound], max_connections=settings.server.max_connections, ready=ready)


def _check_exposure(settings: Settings, catalog: Catalog) -> None:
    from cubeport.server import auth
    from cubeport.service.keys import Keys

    auth.check_exposure(
        host=settings.server.host,
        public_url=settings.public_url,
        keys_exist=Keys(catalog.backend).any(),
        read_only=settings.read_only,
    )


def _log(settings: Settings) -> None:
    import logging

    logging.basicConfig(level=settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("uvicorn", "pygeoapi"):  # where we listen is said in our own words
        logging.getLogger(chatty).setLevel("WARNING")


def _app_parts(settings: Settings, service: Service, children: Children) -> AppParts:
    from importlib.metadata import version

    from cubeport.adapters.ogc.answers import Answers
    from cubeport.adapters.ogc.answers import Limits as AnswerLimits
    from cubeport.server.auth import Gatekeeper
    from cubeport.server.ogcapi import OgcFace
    from cubeport.server.parts import Parts as AppParts
    from cubeport.service.keys import Keys

    limits = settings.limits
    answers = Answers(
        service.engine,
        children,
        scratch=settings.data_dir / "answers",
        public_url=service.public_url,
        limits=AnswerLimits(
            json_cells=limits.json_cells,
            csv_cells=limits.csv_cells,
            binary_cells=limits.binary_cells,
            download_cells=limits.download_cells,
            answer_bytes=limits.answer_bytes,
            chunks=limits.chunks,
        ),
    )
    return AppParts(
        service=service,
        engine=service.engine,
        gatekeeper=Gatekeeper(
            keys=Keys(service.catalog.backend),
            public_reads=settings.auth.public_reads,
            open_on_loopback=settings.auth.open_on_loopback,
            read_only=settings.read_only,
        ),
        public_url=service.public_url,
        queries=OgcFace(service, answers, public_url=service.public_url, title=settings.title, description=settings.description),
        id=settings.id,
        title=settings.title,
        description=settings.description,
        version=version("cubeport"),
        wait_s=settings.ingest.wait_s,
        cors_origins=settings.cors.origins,
        offload=settings.zarr.offload,
        offload_prefix=settings.zarr.offload_prefix,
        limits=settings.limits.model_dump(),
        info={"engines": [service.engine.name], "source_kinds": ["files", "zarr", "plugin"], "formats": ["netcdf", "zarr"]},
        checks={"catalog": service.generation, "storage": lambda: os.scandir(settings.data_dir).close()},
    )


def prepare(
    root: Path,
    catalog: str = "sqlite",
    *,
    allow_roots: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    samples: bool = False,
) -> None:
    """Make *root* an instance; what is there stays as it is.

    Parameters
    ----------
    allow_roots, allow_origins
        Folders and origins that requests may name sources of, written to a new ``config/service.yaml``.
    samples
        Whether to add the ready instance's templates and extents.
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
    """Return the folder with the ready ``config/`` and ``extents/``: in the package, or in the checkout it is installed from."""
    packaged = Path(__file__).parent / "_instance"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


# --- the command line -----------------------------------------------------------------------------------------------


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code: the console script ``cubeport``."""
    from functools import partial

    from cubeport.cli import _app, keys, service
    from cubeport.cli._session import Options, Session, Wiring

    environment = Options(
        instance=Path(instance) if (instance := os.environ.get("CUBEPORT_INSTANCE")) else None,
        user=os.environ.get("CUBEPORT_USER"),
        plugins=os.environ.get("CUBEPORT_PLUGINS") != "off",
    )

    def plugins(root: Path | None) -> Plugins:
        file = _catalog_file(root) if root is not None and (root / MARK / CATALOG_FILE).is_file() else None
        return _plugins(file.plugins.disabled if file is not None else (), wanted=True)

    def init_service(_: Session, root: Path, *, catalog: str, allow_roots: Sequence[Path], allow_origins: Sequence[str]) -> Any:
        prepare(root, catalog, allow_roots=[str(each.absolute()) for each in allow_roots], allow_origins=allow_origins)
        return {"configuration": "config/service.yaml"}

    def of_service(session: Session) -> Service:
        return connect(session.root, user_id=session.options.user)

    faces = service.ServiceWiring(serve=serve, prepare=partial(prepare, samples=True), demo=DEMO)
    wiring = Wiring(
        open_catalog=Catalog.open,
        create_catalog=Catalog.create,
        migrate=Catalog.migrate,
        registers=(partial(service.register, wiring=faces), keys.register),
        plugins=plugins,
        connect=of_service,
        init_service=init_service,
        ingest_service=service.ingest,
        environment=environment,
    )
    return _app.run(wiring, arguments)
