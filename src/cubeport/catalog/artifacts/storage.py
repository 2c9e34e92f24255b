"""Where managed bytes lie: profiles, what the core needs of one, and plans for where a new artifact will go.

A record names a profile and a path relative to its root, so an instance can be moved. Paths are created, never looked for and then
written: exclusive creation is the only check that means anything next to other writers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from cubeport.catalog.artifacts.naming import split_suffix
from cubeport.catalog.models import FSSpecLocator, LocalPathLocator, TargetKind
from cubeport.errors import InvalidConfiguration, UnknownProfile

WriteMode = Literal["copy", "move", "write", "reference"]
Collision = Literal["suffix", "error"]


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """Where an artifact will go. Nothing is written or reserved by planning; use checks again."""

    locator: Any
    target_kind: TargetKind
    write_mode: WriteMode
    profile: str | None
    relative_path: str | None
    directory: str
    filename: str
    warnings: tuple[str, ...] = ()
    collision: Collision = "suffix"
    object_id: str = ""
    """What makes the name unique when it is taken."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says about one place."""

    path: str
    """Relative to the profile's root."""
    kind: Literal["file", "directory", "other"]
    size_bytes: int
    modified_s: float
    """By the store's clock."""
    proof: Mapping[str, Any] = field(default_factory=dict)
    etag: str | None = None
    """What the store calls exactly these bytes, where it does."""


def part_path(path: str, operation_id: str) -> str:
    """Return where the bytes of *path* are made, next to it: only this operation was ever given that name."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{operation_id}.part"


def suffixed(path: str, object_id: str) -> str:
    """Return *path* with ``-{object_id:8}`` before its suffix (``.tar.gz`` is one)."""
    folder, slash, name = path.rpartition("/")
    stem, suffix = split_suffix(name)
    return f"{folder}{slash}{stem}-{object_id[:8]}{suffix}"


class Target(Protocol):
    """Bytes on their way to a final name, next to it, where nobody looks."""

    @property
    def path(self) -> Path:
        """The empty file or folder to write into."""

    @property
    def compensations(self) -> Sequence[Mapping[str, Any]]:
        """What is to be journalled, durably, before the first byte."""

    def seal(self) -> None:
        """Return when all bytes are on the disk. An error abandons them."""

    def publish(self, claim: Callable[[Mapping[str, Any]], None]) -> str:
        """Give the bytes their final name without replacing anything, durably; return the path, relative to the root.

        *claim* journals one more compensation, durably, where the file system cannot link.

        Raises
        ------
        TargetExists
            When every name that the plan allows is taken.
        """


class Profile(Protocol):
    """One place for managed bytes, by its name."""

    name: str
    writable: bool
    hash: str
    """``sha256``, or ``none``."""
    directory: str | None
    filename: str | None
    collision: Collision
    unique_names: bool
    """Whether names must carry the object id, as nothing there is created exclusively."""

    def locator(self, path: str) -> LocalPathLocator | FSSpecLocator:
        """Return the locator of a path relative to the root."""

    def check(self, path: str) -> None:
        """Raise PathEscapes if *path* resolves outside the root."""

    def target(self, plan: StoragePlan, operation_id: str) -> Target:
        """Make an empty place for bytes next to their final name, exclusively."""

    def stat(self, path: str) -> Stored | None:
        """Return what is there; ``None`` only when the store said that nothing does. Raises StoreUnavailable."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading. Raises ArtifactMissing, StoreUnavailable."""

    def local_path(self, path: str) -> Path | None:
        """Return the place in the local file system, or ``None`` where there is none."""

    def files(self, path: str) -> Iterator[Stored]:
        """Yield the regular files of a directory artifact, sorted by path; anything else there comes as ``other``."""

    def walk(self) -> Iterator[Stored]:
        """Yield every file below the root, hidden ones too, folders not."""

    def remove(
        self, path: str, proof: Mapping[str, Any], *, operation_id: str | None = None
    ) -> Literal["removed", "absent", "not-ours"]:
        """Remove what is there, file or tree, durably, if it is what was meant.

        That is shown by *proof* (``device`` and ``inode`` of the thing or of its ``data``; a remote ``object`` id in the name), or
        by the operation's random id in its name: nobody else was ever given that.
        """

    def remove_folders(self, folders: Iterable[Mapping[str, Any]]) -> None:
        """Remove folders that an operation made, innermost first, as far as they are empty."""

    def quarantine(self, path: str, to: Path) -> None:
        """Move what is there to *to*, a folder of the catalog."""

    def now(self) -> float:
        """Return the present by the store's clock."""

    def free_bytes(self) -> int | None:
        """Return the free space, or ``None`` where nobody can tell."""

    def problems(self) -> list[str]:
        """Return what is wrong with the profile, in words, changing nothing."""


class Fetcher(Protocol):
    """The gate's way to bytes elsewhere: allow-list, size cap, deadline."""

    def size(self, uri: str) -> int | None:
        """Return the size that the origin says, or ``None`` if it does not answer with one."""

    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Open the bytes. Raises Refused, SourceFailed, SourceTimeout."""


@dataclass(slots=True)
class Profiles:
    """The profiles of a catalog, by name."""

    _profiles: dict[str, Profile] = field(default_factory=dict)

    def add(self, profile: Profile) -> None:
        """Make the profile known under its name, in place of a former one."""
        self._profiles[profile.name] = profile

    def get(self, name: str) -> Profile:
        """Return the profile. Raises UnknownProfile, which names near ones."""
        from difflib import get_close_matches

        try:
            return self._profiles[name]
        except KeyError:
            near = get_close_matches(name, self._profiles, 1)
            words = f"; do you mean {near[0]}?" if near else "."
            raise UnknownProfile(f"There is no storage profile {name}{words}", next_step="cubeport profiles") from None

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._profiles.values())

    def __contains__(self, name: object) -> bool:
        return name in self._profiles


def root_of(profile: Profile) -> Path | None:
    """Return the local folder that a profile's bytes are below, ``None`` where they are elsewhere or the profile is broken."""
    try:
        place = profile.local_path("x")
    except InvalidConfiguration:
        return None
    return None if place is None else place.parent
