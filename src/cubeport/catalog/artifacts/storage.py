"""Where managed bytes are stored: profiles, their interface, and plans for new artifacts.

A record names a profile and a path relative to its root, so an instance can be moved. Files are created exclusively instead of
being checked first, because no other check is safe while other processes write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from cubeport.catalog.artifacts.naming import split_suffix
from cubeport.catalog.models import FSSpecLocator, LocalPathLocator, TargetKind
from cubeport.errors import CubeportError, InvalidConfiguration, UnknownProfile

WriteMode = Literal["copy", "move", "write", "reference"]
Collision = Literal["suffix", "error"]


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """Where an artifact will be stored. Planning writes and reserves nothing; everything is checked again on use."""

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
    """Makes the name unique if it is taken."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A store's description of one path."""

    path: str
    """The path relative to the profile's root."""
    kind: Literal["file", "directory", "other"]
    size_bytes: int
    modified_s: float
    """The modification time by the store's clock."""
    proof: Mapping[str, Any] = field(default_factory=dict)
    etag: str | None = None
    """The store's identifier of exactly these bytes, if it has one."""


def part_path(path: str, operation_id: str) -> str:
    """Return the temporary path next to *path*. Only this operation uses this name."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{operation_id}.part"


def suffixed(path: str, object_id: str) -> str:
    """Return *path* with ``-{object_id:8}`` before its suffix (``.tar.gz`` is one suffix)."""
    folder, slash, name = path.rpartition("/")
    stem, suffix = split_suffix(name)
    return f"{folder}{slash}{stem}-{object_id[:8]}{suffix}"


class Target(Protocol):
    """Bytes that are being written under a temporary name next to their final name."""

    @property
    def path(self) -> Path:
        """Return the empty file or folder to write to."""

    @property
    def compensations(self) -> Sequence[Mapping[str, Any]]:
        """Return the compensations to record durably in the journal before the first byte."""

    def seal(self) -> None:
        """Sync all bytes to the disk. An error abandons them."""

    def publish(self, claim: Callable[[Mapping[str, Any]], None]) -> str:
        """Give the bytes their final name durably, without replacing anything. Return the path relative to the root.

        If the file system does not support links, *claim* records one more compensation durably in the journal.

        Raises
        ------
        TargetExists
            If all names that the plan allows are taken.
        """


class Profile(Protocol):
    """A named place for managed bytes."""

    name: str
    writable: bool
    hash: str
    """``sha256``, or ``none``."""
    directory: str | None
    filename: str | None
    collision: Collision
    unique_names: bool
    """Whether names must contain the object id, because the store cannot create files exclusively."""

    def locator(self, path: str) -> LocalPathLocator | FSSpecLocator:
        """Return the locator of a path relative to the root."""

    def check(self, path: str) -> None:
        """Raise PathEscapes if *path* resolves outside the root."""

    def target(self, plan: StoragePlan, operation_id: str) -> Target:
        """Make an empty file or folder next to the final name, exclusively."""

    def stat(self, path: str) -> Stored | None:
        """Return the description of a path; ``None`` only if the store says that it does not exist. Raises StoreUnavailable."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading. Raises ArtifactMissing, StoreUnavailable."""

    def local_path(self, path: str) -> Path | None:
        """Return the path in the local file system, or ``None`` if there is none."""

    def files(self, path: str) -> Iterator[Stored]:
        """Yield the regular files of a directory artifact, sorted by path. Anything else is yielded as ``other``."""

    def walk(self) -> Iterator[Stored]:
        """Yield all files below the root, including hidden files but not folders."""

    def remove(
        self, path: str, proof: Mapping[str, Any], *, operation_id: str | None = None
    ) -> Literal["removed", "absent", "not-ours"]:
        """Remove a file or tree durably, if it is proven to be the right one.

        The proof is *proof* (``device`` and ``inode`` of the path or of its ``data``, or a remote ``object`` id in the name), or
        the operation's random id in the name, which no other operation uses.
        """

    def remove_folders(self, folders: Iterable[Mapping[str, Any]]) -> None:
        """Remove the folders that an operation made and that are empty, innermost first."""

    def quarantine(self, path: str, to: Path) -> None:
        """Move a file or folder to *to*, in a folder of the catalog."""

    def now(self) -> float:
        """Return the current time by the store's clock."""

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, or ``None`` if it is unknown."""

    def problems(self) -> list[CubeportError]:
        """Return the problems of the profile, each with what to do. Nothing is changed."""


class Fetcher(Protocol):
    """Fetches external bytes, with an allow-list, a size limit and a deadline."""

    def size(self, uri: str) -> int | None:
        """Return the size that the origin reports, or ``None`` if it reports none."""

    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Open the bytes. Raises Refused, SourceFailed, SourceTimeout."""


@dataclass(slots=True)
class Profiles:
    """The profiles of a catalog, by name."""

    _profiles: dict[str, Profile] = field(default_factory=dict)

    def add(self, profile: Profile) -> None:
        """Register the profile under its name, replacing an earlier one."""
        self._profiles[profile.name] = profile

    def get(self, name: str) -> Profile:
        """Return the profile. Raises UnknownProfile with similar names."""
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
    """Return the local root folder of a profile, or ``None`` if it is not local or the profile is broken."""
    try:
        place = profile.local_path("x")
    except InvalidConfiguration:
        return None
    return None if place is None else place.parent
