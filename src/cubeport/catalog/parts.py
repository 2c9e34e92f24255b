"""The parts of a catalog besides the ports of a unit of work, and the interface for bytes that are not artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.artifacts.planning import Planner
from cubeport.catalog.artifacts.storage import Fetcher
from cubeport.catalog.backend import Finding
from cubeport.catalog.extraction import Extractors
from cubeport.catalog.locks import Locks
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.plugins import Plugins
from cubeport.catalog.retention import Retention
from cubeport.catalog.schemas import Schemas
from cubeport.catalog.work.unit_of_work import Ports


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes to which no record refers."""

    profile: str
    path: str
    size_bytes: int
    modified: str
    reason: str
    ours: bool
    """Whether a journal, or the id of an operation in the name, proves that we made them."""
    removed: bool = False
    kind: str = "orphan-file"
    """The kind of finding in ``fsck``; always ``unknown-file`` for files that are not ours."""
    is_file: bool = True
    """Whether it is a file or folder of the profile."""


class Keeper(Protocol):
    """Maintains bytes that are not artifacts, such as the service's versions."""

    def garbage(self) -> list[Garbage]:
        """Return unused bytes. Stores are listed first, then journals, then rows."""

    def faults(self, *, data: bool, after: str = "", owner: str | None = None) -> Iterator[tuple[str, Finding | None]]:
        """Yield each checked place after *after*, always in the same order, with its problem or ``None``.

        With *data*, every byte is read. With *owner*, only what the record with this id owns is checked.
        """

    def repair(self, ports: Ports, findings: Sequence[Finding], quarantine: Path) -> list[str]:
        """Move the broken parts in *findings* to the folder *quarantine*, unpublish them, and return what was done."""

    def remove(self, each: Garbage, *, instead: Callable[[], object] | None = None) -> bool:
        """Remove a version if it is garbage still, or do something else with it *instead*, and return whether it was."""

    def collect(self, *, dry_run: bool) -> Iterator[Garbage]:
        """Free what is only known to be unused while nobody writes, and yield what was freed, or with *dry_run* would be."""

    def problems(self) -> Iterator[Finding]:
        """Yield the findings for ``doctor``. Only rows and locks are read."""


@dataclass(frozen=True, slots=True)
class CatalogParts:
    """The parts that ``main`` provides besides the ports of a unit of work."""

    schemas: Schemas
    extractors: Extractors
    planner: Planner
    root: Path | None = None
    """The folder of the instance, if there is one."""
    fetcher: Fetcher | None = None
    locks: Path | None = None
    named_locks: Locks | None = None
    """Locks between all processes that use the catalog."""
    quarantine: Path | None = None
    apart: frozenset[str] = frozenset()
    """Profiles with the service's versions. Rows, not artifacts, say what is in use there."""
    keepers: Callable[[], Iterable[Keeper]] = tuple
    """The keepers of these profiles. Only ``fsck`` and ``gc`` use them."""
    protect: Callable[[CatalogRecord, CatalogRecord], None] = lambda _old, _new: None
    """Called with a record before and after an edit. Raises InvalidRequest if another command must make this edit."""
    surroundings: Callable[[], Iterable[Finding]] = tuple
    """The findings of ``doctor`` about the machine."""
    store_facts: Callable[[], Iterable[Finding]] = tuple
    """The findings of ``doctor`` about the store, besides its problems."""
    store_version: Callable[[], Mapping[str, str]] = dict
    """The name and the version of the database in use, for ``info``."""
    demand_space: Callable[[], float] = lambda: 0.0
    """Raises NoSpace if the disk of a database on another machine is full. That of a file is the disk of the catalog. Returns how
    long ago there was space, in seconds: a database is not asked each time."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The part of ``catalog.yaml`` that ``info`` shows."""
    plugins: Plugins = field(default_factory=Plugins)
    """The installed plugins. Their hooks, schemas and so on are already registered."""
    retention: Retention = field(default_factory=Retention)
    """The retention of records in ``catalog.yaml``."""
    relations: tuple[str, ...] = ()
    """The lineage relations in ``catalog.yaml``."""
    openers: Mapping[str, Callable[[Path], Any]] = field(default_factory=dict)
    """Functions that open an artifact as a Python object, by its format."""
    closing: tuple[Callable[[], None], ...] = ()
    """Functions that :meth:`Catalog.close` calls in addition to closing the backend."""
