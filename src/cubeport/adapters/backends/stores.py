"""The store of a catalog: its backend, and the journal and locks that go with it. A backend is imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.catalog.backend import CatalogBackend, Finding
from cubeport.catalog.catalogfile import CATALOG_FILE, MARK, CatalogFile
from cubeport.catalog.locks import FileLocks, Locks
from cubeport.catalog.work.journal import FileJournal, Journal
from cubeport.errors import CorruptCatalog, ExtraMissing, InvalidConfiguration, InvalidRequest, SecretRefused

if TYPE_CHECKING:
    from types import ModuleType

STORES: Mapping[str, str] = {"sqlite": "catalog.db", "tinydb": "catalog.json"}
"""The file name of each backend's store in the folder of the catalog."""

POSTGRESQL = "postgresql"
"""The value in ``catalog.yaml`` for a store in a database: this word, or an address that begins with it."""

KINDS = "sqlite, tinydb or postgresql://HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class Database:
    """Where a catalog in PostgreSQL is, and how its connections behave; see ``PostgresStore``."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store."""

    backend: CatalogBackend
    journal: Journal
    locks: Locks
    close: Callable[[], None] = lambda: None
    """Close what the journal keeps open."""
    facts: Callable[[], Iterable[Finding]] = tuple
    """What ``doctor`` reports about the store."""
    version: Callable[[], Mapping[str, str]] = dict
    """The name and the version of the database in use."""
    demand_space: Callable[[], float] = lambda: 0.0
    """Raises NoSpace if the disk of a database is full; returns how long ago it was not, in seconds. The disk of the folder is
    checked by its own free space."""


def kind_of(backend: str) -> str:
    """Return the kind of store that ``catalog.yaml`` or a caller names. Raises InvalidRequest."""
    kind = backend.partition(":")[0]
    if backend in STORES or kind == POSTGRESQL:
        return kind
    kind_meant = "postgresql://HOST/DATABASE" if ":" in backend else "sqlite"
    raise InvalidRequest(f"A catalog is {KINDS}, not {kind[:40]!r}.", next_step=f"cubeport init --catalog {kind_meant}")


def database_of(backend: str, given: Database | None) -> Database:
    """Return the database that a setting gives, or that ``catalog.yaml`` names.

    Raises
    ------
    SecretRefused
        If an address with a password would be written into a file.
    """
    if given is not None:
        return given
    if backend == POSTGRESQL:
        raise InvalidConfiguration(
            "The catalog is in PostgreSQL, and no address says where.",
            next_step="export CUBEPORT_CATALOG_URL=postgresql://HOST/DATABASE",
        )
    authority = backend.partition("://")[2].partition("/")[0]
    if ":" in authority.rpartition("@")[0] or "password" in backend.partition("?")[2].lower():
        raise SecretRefused(
            "An address with a password is not written to a file.",
            next_step="put the password into ~/.pgpass or PGPASSWORD, or use --catalog postgresql with CUBEPORT_CATALOG_URL",
        )
    return Database(backend)


def _postgresql() -> ModuleType:
    try:
        from cubeport.adapters.backends.sql import postgresql
    except ModuleNotFoundError as exc:
        words = f"A catalog in PostgreSQL needs {exc.name}, which is not installed."
        raise ExtraMissing(words, next_step="pip install 'cubeport[postgresql]'", what="postgresql") from exc
    return postgresql


def create_backend(
    inner: Path, backend: str, catalog_id: str, *, allow_network_filesystem: bool = False, database: Database | None = None
) -> str:
    """Make the catalog's store and return its id. A file that a killed process left is used as it is."""
    match kind_of(backend):
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            path = inner / "catalog.db"
            allowed = {"allow_network_filesystem": allow_network_filesystem}
            opened = SqlBackend.open(path, **allowed) if path.exists() else SqlBackend.create(path, catalog_id, **allowed)
            try:
                return opened.catalog_id
            finally:
                opened.close()
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            path = inner / "catalog.json"
            tiny = TinyBackend.open(path) if path.exists() else TinyBackend.create(path, catalog_id)
            try:
                return str(tiny.catalog_id)
            finally:
                tiny.close()
    _postgresql().create(database_of(backend, database).url, catalog_id)
    return catalog_id


def open_parts(inner: Path, file: CatalogFile, *, read_only: bool, database: Database | None = None) -> Opened:
    """Open the store that ``catalog.yaml`` names. Raises CorruptCatalog if it belongs to another catalog."""
    options: dict[str, Any] = {
        "lock_path": inner / "locks" / "catalog.lock",
        "read_only": read_only,
        "lock_timeout_s": file.lock_timeout_s,
        "allow_network_filesystem": file.allow_network_filesystem,
    }
    backend = open_store(inner, file.backend, file.catalog_id, database=database, **options)
    if backend.catalog_id != file.catalog_id:
        backend.close()
        raise CorruptCatalog("The catalog's store belongs to another catalog.", next_step="restore a backup of the whole folder")
    if kind_of(file.backend) != POSTGRESQL:
        return Opened(backend, FileJournal(inner / "journal"), FileLocks(inner / "locks"), version=partial(_library, file.backend))
    from cubeport.adapters.backends.sql.sessions import PostgresLocks, TableJournal

    journal = TableJournal(backend.store, file.catalog_id)
    return Opened(
        backend,
        journal,
        PostgresLocks(backend.store, file.catalog_id),
        journal.end,
        backend.store.facts,
        lambda: {POSTGRESQL: backend.store.server_version()},
        backend.store.demand_space,
    )


def _library(backend: str) -> dict[str, str]:
    if backend == "tinydb":
        from importlib.metadata import version

        return {backend: version(backend)}
    import sqlite3

    return {backend: sqlite3.sqlite_version}


def open_backend(inner: Path, file: CatalogFile, *, read_only: bool, database: Database | None = None) -> CatalogBackend:
    """Open the backend alone; see :func:`open_parts`."""
    return open_parts(inner, file, read_only=read_only, database=database).backend


def open_store(inner: Path, backend: str, catalog_id: str, *, database: Database | None = None, **options: Any) -> Any:
    """Open the store of this kind. The options are those of its class."""
    match backend.partition(":")[0]:
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            return SqlBackend.open(inner / STORES["sqlite"], **options)
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            options.pop("allow_network_filesystem", None)  # nothing can make a JSON file safe on one
            return TinyBackend.open(inner / STORES["tinydb"], **options)
        case "postgresql":
            from cubeport.adapters.backends.sql import SqlBackend

            at = database_of(backend, database)
            own = {name: options[name] for name in ("read_only", "lock_timeout_s") if name in options}
            return SqlBackend(_postgresql().PostgresStore(at.url, catalog_id, **own, **at.options))
    raise InvalidConfiguration(f"{MARK}/{CATALOG_FILE}: backend: {backend.partition(':')[0]!r} is not {KINDS}")


def set_aside(inner: Path, backend: str, catalog_id: str, database: Database | None = None) -> None:
    """Rename a store that is where a new one will be: it was converted from, or a conversion to it died."""
    kind = kind_of(backend)
    if kind == POSTGRESQL:
        _postgresql().set_aside(database_of(backend, database).url, catalog_id)
        return
    store = inner / STORES[kind]
    number = next(n for n in range(1, 10_000) if not store.with_name(f"{store.name}.old{n}").exists())
    for suffix in ("", "-wal", "-shm", ".bak"):
        part = store.with_name(store.name + suffix)
        if part.exists():
            part.rename(part.with_name(f"{store.name}.old{number}{suffix}"))
