"""Assemble the catalog in a folder from its file, backend, profiles and plugins."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

from cubeport.adapters.backends.stores import POSTGRESQL, STORES, Database, create_backend, kind_of, open_parts
from cubeport.catalog import catalog as core
from cubeport.catalog.artifacts.planning import Planner
from cubeport.catalog.backend import CatalogBackend, Finding
from cubeport.catalog.catalogfile import CATALOG_FILE, FORMAT, MARK, CatalogFile, catalog_file, written
from cubeport.catalog.disk import failpoints
from cubeport.catalog.disk.durable import give_to_group, make_folders, replace_file, share_with_group, store_errors
from cubeport.catalog.events import EventLog, session_id
from cubeport.catalog.extraction import Extractors
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.forms.folders import folder_of
from cubeport.catalog.hooks import HookManager
from cubeport.catalog.locks import Locks
from cubeport.catalog.parts import CatalogParts
from cubeport.catalog.plugins import join_hooks
from cubeport.catalog.retention import Retention
from cubeport.catalog.schemas import KindPolicy, Schemas
from cubeport.catalog.work.journal import Journal
from cubeport.catalog.work.undo import Undoer
from cubeport.catalog.work.unit_of_work import Ports
from cubeport.errors import (
    CatalogExists,
    Conflict,
    ExtraMissing,
    InvalidConfiguration,
    InvalidRequest,
    NotACatalog,
)
from cubeport.main import conversion
from cubeport.main.installed import find_plugins
from cubeport.main.stores import check_stores
from cubeport.main.versions import register

if TYPE_CHECKING:
    from cubeport.adapters.sandbox.children import Children
    from cubeport.adapters.sandbox.limits import SourceLimits
    from cubeport.adapters.storage.fetching import OriginFetcher
    from cubeport.catalog.keeping.convert import Conversion
    from cubeport.catalog.models import CatalogRecord
    from cubeport.service.servers import Servers
    from cubeport.service.upkeep import VersionKeeper
    from cubeport.settings import Settings

DATA = "data"
"""The profile of the service's versions and staging. Its root is ``data_dir``."""


class Catalog(core.Catalog):
    """A catalog in a folder: ``Catalog.create(folder)`` once, then ``Catalog.open(folder)``."""

    @classmethod
    def create(
        cls,
        directory: str | Path,
        catalog: str = "sqlite",
        *,
        shared: Literal["group"] | None = None,
        allow_network_filesystem: bool = False,
        user_id: str | None = None,
        plugins: bool = True,
        command: str | None = None,
    ) -> Self:
        """Make a catalog in *directory* and open it. Existing configuration files are not changed.

        Parameters
        ----------
        shared
            ``group``: every member of the folder's Unix group may write to the catalog, whatever their umask.
        allow_network_filesystem
            Whether to allow NFS, Lustre, GPFS and similar, with a rollback journal. Locks are not reliable there, so there is no
            guarantee.

        Raises
        ------
        CatalogExists, NetworkFilesystem
        InvalidConfiguration
            If a profile with ``use: [data]`` names a store that would lose data.
        """
        root = folder_of(directory).resolve()
        inner = root / MARK
        if (inner / CATALOG_FILE).exists():
            raise CatalogExists(f"{root} already contains a catalog.", next_step="cubeport info")
        if shared not in (None, "group"):
            raise InvalidRequest(f"A catalog is shared with its group or not at all; shared cannot be {shared!r}.")
        if allow_network_filesystem and catalog != "sqlite":
            raise InvalidRequest(
                f"{catalog} is not safe on a network file system.", next_step="cubeport init --allow-network-filesystem"
            )
        check_stores(root)
        with store_errors("make the catalog"):
            make_folders(root)
            if shared:
                share_with_group(root)
                give_to_group(root)
            for folder in (inner, inner / "locks", inner / "journal" / "open", root / "files", root / "config"):
                make_folders(folder)
        # Its own file comes last: without it there is no catalog, so after a kill the command can simply run again.
        database = database_at(root, catalog)
        allowed = allow_network_filesystem
        catalog_id = create_backend(inner, catalog, new_id(), allow_network_filesystem=allowed, database=database)
        from cubeport.adapters.storage.profiles import DEFAULT, FILE

        given = {"shared": shared, "allow_network_filesystem": allow_network_filesystem}
        more = {key: value for key, value in given.items() if value}
        with store_errors("make the catalog"):
            if not (root / FILE).exists():
                replace_file(root / FILE, DEFAULT.encode())
            replace_file(inner / CATALOG_FILE, written(catalog_id, catalog, **more))
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
        """Open the catalog in *directory*. Operations that dead processes left open are first finished or undone.

        Parameters
        ----------
        read_only
            Whether to write nothing, take no lock and recover nothing.
        data_dir
            The root of the service's versions. Default: that of the instance's settings.

        Raises
        ------
        NotACatalog, CorruptCatalog, NewerModel, NetworkFilesystem, InvalidConfiguration
        """
        arm(os.environ)
        root = folder_of(directory).resolve()
        file = catalog_file(root)
        if file.shared:
            share_with_group(root)
        if not read_only and (root / MARK / conversion.CONVERTING).exists():
            file = conversion.finish_conversion(root, file, database_at(root, file.backend))
        ports, parts = _parts(root, file, read_only, user_id, plugins, command, data_dir)
        opened = cls(ports, parts)
        try:
            if recover and not read_only:
                opened.recovered = tuple(opened.recover())
        except BaseException:
            opened.close()
            raise
        return opened

    @classmethod
    def open_or_create(cls, directory: str | Path = ".", catalog: str = "sqlite", **choices: Any) -> Self:
        """Open the catalog in *directory*, or make one there; *choices* are those of :meth:`create`, used only if it is made."""
        kept = {name: choices[name] for name in ("user_id", "plugins", "command") if name in choices}
        try:
            return cls.open(directory, **kept)
        except NotACatalog:
            try:
                return cls.create(directory, catalog, **choices)
            except CatalogExists:  # another process was faster
                return cls.open(directory, **kept)

    def convert(self, to: str) -> Conversion:
        """Move the catalog to another backend: ``sqlite``, ``tinydb`` or an address of PostgreSQL. The old store is kept.

        Afterwards this object reads the old store, and every write to it is CatalogMoved: open the catalog again.

        Raises
        ------
        Conflict
            If the catalog already uses that backend.
        HashMismatch
            If the new store returns something else than was written. The old one remains in use.
        """
        self._writable()
        root = self.root
        assert root is not None, "a catalog in a folder has one"
        if POSTGRESQL in (kind_of(to), kind_of(catalog_file(root).backend)) and (left := self.ports.journal.open_ids()):
            # The journal is a table there and a folder here, and an open operation stays where it is.
            raise Conflict(f"Operation {left[0]} is open.", next_step="cubeport recover, or wait for it, then convert again")
        done = conversion.convert(root, self.backend, to, database_at(root, to))
        self.events.emit("operation.succeeded", f"converted to {to}", operation_type="convert", to=to)
        return done

    @classmethod
    def migrate(cls, directory: str | Path = ".") -> dict[str, Any]:
        """Convert the store of the catalog in *directory* to the form of this release. Repeating it does nothing."""
        root = Path(directory).resolve()
        file, inner = catalog_file(root), root / MARK
        if (kind := kind_of(file.backend)) == POSTGRESQL:
            from cubeport.adapters.backends.sql.backend import migrate_database
            from cubeport.adapters.backends.stores import database_of

            done = migrate_database(database_of(file.backend, database_at(root, file.backend)).url, file.catalog_id)
            return {"backend": kind, **done._asdict()}
        if file.backend != "sqlite":
            return {"backend": file.backend, "before": FORMAT, "after": FORMAT, "made": []}
        from cubeport.adapters.backends.sql.backend import migrate

        done = migrate(inner / STORES["sqlite"], lock_path=inner / "locks" / "catalog.lock")
        return {"backend": file.backend, **done._asdict()}


def _parts(
    root: Path,
    file: CatalogFile,
    read_only: bool,
    user_id: str | None,
    use_plugins: bool,
    command: str | None,
    data_dir: Path | None,
) -> tuple[Ports, CatalogParts]:
    from cubeport.adapters.extract.cubes import NetCDFExtractor, ZarrExtractor
    from cubeport.adapters.extract.files import DirectoryExtractor, FileExtractor
    from cubeport.adapters.storage.local import LocalProfile
    from cubeport.adapters.storage.profiles import read_profiles

    inner = root / MARK
    found = find_plugins(file.plugins.disabled, wanted=use_plugins)
    who = user_id or os.environ.get("CUBEPORT_USER") or user_name()
    context = {"catalog_path": str(root), "backend": file.backend.partition(":")[0], "user_id": who, "command": command}
    events = EventLog(inner / "logs", context)
    if not read_only:
        found.tell(events)
    hooks = HookManager(events)
    join_hooks(found, hooks)
    profiles, configured = read_profiles(root, inner / "scratch", os.environ, found.values("profile_type"))
    versions = data_dir or _data_dir(root)
    if data_dir is not None or versions.is_dir():  # a catalog without the service has none
        profiles.add(LocalProfile(DATA, versions))
    undoer = Undoer(profiles, hooks)
    register(undoer, root)
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
        {kind: KindPolicy(each.schema_, each.policy, each.required) for kind, each in file.schemas.items()},
    )
    for each, plugin in found.given("schema"):
        schemas.offer(each.name, each.value, each.options["version"], plugin=plugin)
    planner_fields = found.called("template_field")
    # Opened last, so that an error above does not leave it open.
    opened = open_parts(inner, file, read_only=read_only, database=database_at(root, file.backend))
    backend = opened.backend
    ports = Ports(
        catalog_id=file.catalog_id,
        backend=failpoints.counted(backend),
        journal=opened.journal,
        profiles=profiles,
        hooks=hooks,
        events=events,
        undoer=undoer,
        user_id=who,
        session_id=session_id(),
        read_only=read_only,
        check=schemas.check,
    )
    planner = Planner(
        profiles,
        ports.clock,
        file.templates.directory,
        file.templates.filename,
        {kind: (each.directory, each.filename) for kind, each in file.templates.kinds.items()},
        planner_fields,
    )
    parts = CatalogParts(
        schemas=schemas,
        extractors=extractors,
        planner=planner,
        root=root,
        locks=inner / "locks",
        quarantine=inner / "quarantine",
        named_locks=opened.locks,
        keepers=partial(_keepers, root, backend, ports.journal, versions, opened.locks),
        apart=frozenset({DATA} | {name for name, each in configured.items() if {"data", "export"} & set(each.use)}),
        fetcher=_LazyFetcher(root),
        protect=_protect,
        surroundings=partial(_surroundings, root, backend, opened.locks),
        store_facts=opened.facts,
        store_version=opened.version,
        demand_space=opened.demand_space,
        relations=file.relations,
        retention=Retention(
            file.retention.purge_deleted_days, {kind: each.delete_days for kind, each in file.retention.kinds.items()}
        ),
        openers=_LazyOpeners(),
        settings={"backend": file.backend.partition(":")[0], "format": file.format, "schema_policy": file.schema_policy},
        plugins=found,
        closing=(gate.close, opened.close),
    )
    return ports, parts


def user_name() -> str:
    """Return the user name of this process, or its number if it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13
        return str(os.getuid())


def _keepers(root: Path, backend: CatalogBackend, journal: Journal, versions: Path, locks: Locks) -> Iterator[VersionKeeper]:
    """Yield the keeper of the versions, if there are any."""
    from cubeport.main.versions import listers_of, place_of
    from cubeport.service.upkeep import VersionKeeper
    from cubeport.service.workers import Workers
    from cubeport.settings import load

    if versions.is_dir():
        listers = listers_of(place_of(load(root), backend.rows, versions))
        yield VersionKeeper(backend, journal, listers, DATA, Workers(locks), partial(locks.hold, "dataset"))


def _protect(old: CatalogRecord, new: CatalogRecord) -> None:
    if "dataset" in old.metadata:  # otherwise it does not belong to the service, whose modules are then not imported
        from cubeport.service.state import protect

        protect(old, new)


def servers_of(root: Path, backend: CatalogBackend, locks: Locks) -> Servers:
    """Return the server processes of a catalog, compared with the configuration in *root*."""
    from importlib.metadata import version

    from cubeport.service.servers import Servers, configuration_digest
    from cubeport.service.workers import Workers

    return Servers(backend, Workers(locks), version("cubeport"), configuration_digest(root))


def _surroundings(root: Path, backend: CatalogBackend, locks: Locks) -> Iterable[Finding]:
    from cubeport.adapters.sandbox.surroundings import findings
    from cubeport.main import executing
    from cubeport.service.keys import Keys
    from cubeport.settings import load

    settings = load(root)
    yield from findings(settings.gate.sandbox)
    yield from executing.findings(settings)
    yield from servers_of(root, backend, locks).findings()
    for folder in settings.sources.roots:
        if root.resolve().is_relative_to(folder.resolve()):
            yield Finding(
                "wide-root",
                "sources.roots",
                f"requests may name any file below {folder}, in which the instance itself is",
                "name the folders that contain sources, in config/service.yaml",
                "warn",
            )
    if settings.auth.open_on_loopback and not settings.read_only and not Keys(backend).any():
        yield Finding(
            "open-on-loopback",
            "auth",
            "there is no key, so this user's processes on this machine may ingest; a proxy or a tunnel may not",
            "before other machines can reach this instance: cubeport keys add NAME --scope ingest",
            "warn",
        )


class _LazyOpeners(Mapping[str, Callable[[Path], Any]]):
    """The openers of artifacts, imported when something is opened."""

    def _made(self) -> Mapping[str, Callable[[Path], Any]]:
        from cubeport.adapters.openers import OPENERS

        return OPENERS

    def __getitem__(self, form: str) -> Callable[[Path], Any]:
        return self._made()[form]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


class _LazyGate:
    """The children for extraction, started by the first call and ended with the catalog."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._children: Children | None = None

    def __call__(self) -> Children:
        if self._children is None:
            from cubeport.adapters.gate.tasks import confined
            from cubeport.settings import load

            self._children = confined(gate_limits(load(self._root)))
        return self._children

    def close(self) -> None:
        if self._children is not None:
            self._children.close()


class _LazyFetcher:
    """The core's ``Fetcher``, made when something is fetched, because no other command needs its libraries."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, uri: str) -> int | None:
        return self._made().size(uri)

    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        return self._made().open(uri)

    def _made(self) -> OriginFetcher:
        try:
            from cubeport.adapters.storage.fetching import Bounds, OriginFetcher
        except ModuleNotFoundError as exc:
            words = f"Fetching needs {exc.name}, which is not installed."
            raise ExtraMissing(words, next_step="pip install 'cubeport[fetch]'", what="fetch") from exc
        from cubeport.settings import load

        settings = load(self._root)
        return OriginFetcher(settings.sources.origins, Bounds(max_bytes=settings.limits.source_bytes))


def gate_limits(settings: Settings) -> SourceLimits:
    """Return the limits of every source."""
    from cubeport.adapters.sandbox.limits import SourceLimits

    gate = settings.gate
    limits = SourceLimits(
        declared_bytes=settings.limits.declared_bytes,
        expansion=settings.limits.expansion,
        memory_bytes=gate.memory_bytes,
        base_s=gate.base_s,
        children=gate.children or os.cpu_count() or 1,
        sandbox=gate.sandbox,
    )
    return limits if gate.keep_children else replace(limits, kept_source_bytes=-1)


def database_at(root: Path, backend: str) -> Database | None:
    """Return the database that ``catalog_url`` names, with the settings of its connections, if *backend* is PostgreSQL.

    Raises
    ------
    InvalidConfiguration
        If an address is given and the catalog is not in PostgreSQL.
    """
    in_database = kind_of(backend) == POSTGRESQL
    if not in_database and "CUBEPORT_CATALOG_URL" not in os.environ:
        return None  # what the file says is checked when the service reads it
    from cubeport.settings import load

    settings = load(root)
    if not in_database:
        refuse_address(settings, backend)
        return None
    url = backend if settings.catalog_url is None else settings.catalog_url.get_secret_value()
    if settings.catalog_url is None:
        from cubeport.adapters.backends.stores import database_of

        url = database_of(backend, None).url
    given = settings.catalog
    return Database(url, {"pool": given.pool, "statement_timeout_s": given.statement_timeout_s, "dead_peer_s": given.dead_peer_s})


def refuse_address(settings: Settings, backend: str) -> None:
    """Raise InvalidConfiguration if a database is named for a catalog that is not in one."""
    if settings.catalog_url is not None and kind_of(backend) != POSTGRESQL:
        raise InvalidConfiguration(
            f"catalog_url names a database, but the catalog of this folder is {backend}.",
            next_step="for a new one: cubeport init --catalog postgresql; otherwise leave catalog_url out, and run "
            "cubeport convert --to postgresql://HOST/DATABASE",
        )


def _data_dir(root: Path) -> Path:
    """Return the root of the service's versions. The settings are only read if the instance has any."""
    if (root / "config" / "service.yaml").is_file() or "CUBEPORT_DATA_DIR" in os.environ:
        from cubeport.settings import load

        return load(root).data_dir
    return root / "data"


def arm(environment: Mapping[str, str]) -> None:
    """Arm the fail points of a test, once in a process. Raises InvalidConfiguration if this is not a test."""
    text = environment.get("CUBEPORT_FAIL_POINTS")
    if not text or failpoints.armed():
        return
    if environment.get("CUBEPORT_TESTING") != "1":
        raise InvalidConfiguration("CUBEPORT_FAIL_POINTS is for tests: set CUBEPORT_TESTING=1 as well, or unset it.")
    root = os.environ.setdefault("CUBEPORT_FAIL_POINTS_ROOT", str(os.getpid()))
    failpoints.arm(text, root=int(root))
