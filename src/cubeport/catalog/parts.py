"""What ``main`` puts into a catalog besides the ports of a unit of work, and who keeps the bytes that are not artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.artifacts.planning import Planner
from cubeport.catalog.artifacts.storage import Fetcher
from cubeport.catalog.backend import Finding
from cubeport.catalog.extraction import Extractors
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.plugins import Plugins
from cubeport.catalog.schemas import Schemas
from cubeport.catalog.work.unit_of_work import Ports


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that no record names."""

    profile: str
    path: str
    size_bytes: int
    modified: str
    reason: str
    ours: bool
    """Whether a journal, or an operation's id in the name, proves that we made it."""
    removed: bool = False
    kind: str = "orphan-file"
    """What ``fsck`` calls it; a stranger's is always ``unknown-file``."""


class Keeper(Protocol):
    """Looks after bytes that are no artifacts: the service's versions."""

    def garbage(self) -> list[Garbage]:
        """Return what nothing keeps; stores are listed first, then journals, then rows."""

    def faults(self, *, data: bool, after: str = "", owner: str | None = None) -> Iterator[tuple[str, Finding | None]]:
        """Yield each place that is looked at, behind *after* and always in the same order, with what is wrong there.

        With *data* every byte is read; with *owner* only what the record of that id owns is looked at.
        """

    def repair(self, ports: Ports, findings: Sequence[Finding], quarantine: Path) -> list[str]:
        """Move what is broken by *findings* into the folder *quarantine*, take it off the faces, and say what was done."""

    def problems(self) -> Iterator[Finding]:
        """Yield what ``doctor`` tells of the work on it; reads rows and locks only."""


@dataclass(frozen=True, slots=True)
class CatalogParts:
    """What ``main`` brings besides the ports of a unit of work."""

    schemas: Schemas
    extractors: Extractors
    planner: Planner
    root: Path | None = None
    """The instance's folder, where there is one."""
    fetcher: Fetcher | None = None
    locks: Path | None = None
    quarantine: Path | None = None
    apart: frozenset[str] = frozenset()
    """Profiles that hold the service's versions: its rows, not artifacts, tell what lives there."""
    keepers: Callable[[], Iterable[Keeper]] = tuple
    """Who looks after those; asked by ``fsck`` and ``gc`` alone."""
    protect: Callable[[CatalogRecord, CatalogRecord], None] = lambda _old, _new: None
    """Called with a record and what an edit makes of it; raises InvalidRequest where the edit is another command's work."""
    surroundings: Callable[[], Iterable[Finding]] = tuple
    """What ``doctor`` tells of the machine."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What ``info`` shows of ``catalog.yaml``."""
    plugins: Plugins = field(default_factory=Plugins)
    """What other packages added; their hooks, schemas and so on are in their places already."""
    relations: tuple[str, ...] = ()
    """Relations of lineage that ``catalog.yaml`` names."""
    openers: Mapping[str, Callable[[Path], Any]] = field(default_factory=dict)
    """By the format of an artifact: what opens it for a user of Python."""
    closing: tuple[Callable[[], None], ...] = ()
    """What :meth:`Catalog.close` calls besides closing the backend."""
