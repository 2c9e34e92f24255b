"""Where exports are written: a folder, or a prefix of a bucket that a profile with ``use: [export]`` contains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.adapters.fetching.stores import check_key
from cubeport.adapters.storage.s3 import S3Place
from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.errors import ArtifactMissing, InvalidRequest, UnknownProfile

if TYPE_CHECKING:
    from obstore.store import S3Store


BESIDE = ".manifest.json"
"""What follows the name of an export in that of its manifest, which is next to it."""


def target_of(address: str, places: Mapping[str, S3Place]) -> tuple[FolderTarget | BucketTarget, str]:
    """Return where *address* is, and the name of the export there; in a bucket it is a prefix of several parts.

    Parameters
    ----------
    address
        A folder, or ``s3://bucket/prefix`` below the root of a profile.
    places
        The roots of the profiles that exports may be written to.

    Raises
    ------
    UnknownProfile
        If no profile has a root above the address.
    SourceRejected, InvalidRequest
        If the prefix is not a valid key, or the address is not one of the two.
    """
    if "://" not in address:
        folder = Path(address).absolute()
        return FolderTarget(folder.parent), folder.name
    for place in places.values():
        above = place.url + "/"
        if address.rstrip("/") == place.url:
            raise InvalidRequest(
                f"{address[:200]} is the root of profile {place.profile}.", next_step=f"name an export below it: {above}NAME"
            )
        if address.startswith(above):
            return BucketTarget(place, place.connect()), check_key(address.removeprefix(above).rstrip("/"))
    if not address.startswith("s3://"):
        raise InvalidRequest(f"{address[:200]} is neither a folder nor an address s3://bucket/prefix.")
    raise UnknownProfile(
        f"No profile for exports has a root above {address[:200]}.",
        next_step="add a profile with protocol: s3, its root and `use: [export]` to config/profiles.yaml",
    )


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A folder of this machine."""

    root: Path

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def within(self, name: str) -> str | None:
        """Return the folder of another export that *name* would lie in."""
        with store_errors("read the export"):
            above = (self.root / name).parents
            return next((str(each) for each in above if Path(f"{each}{BESIDE}").is_file()), None)

    def listed(self, name: str) -> Mapping[str, int]:
        """Return the size of each file below *name*, by its path there."""
        top = self.root / name
        with store_errors("list the export"):
            found = (Path(folder) / file for folder, _, files in os.walk(top) for file in files)
            return {each.relative_to(top).as_posix(): each.lstat().st_size for each in found if not _is_part(each.name)}

    def clear(self, name: str) -> None:
        """Remove the unfinished files that a killed export left below *name*."""
        with store_errors("write the export"):
            for folder, _, files in os.walk(self.root / name):
                for file in filter(_is_part, files):
                    (Path(folder) / file).unlink(missing_ok=True)

    def read(self, key: str) -> bytes | None:
        """Return an object, or ``None`` if there is none."""
        with store_errors("read the export"):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def create(self, key: str, body: bytes) -> bool:
        """Write an object if there is none. Return whether it was written."""
        with store_errors("write the export"):
            make_folders((self.root / key).parent)
            try:
                with (self.root / key).open("xb") as file:
                    file.write(body)
            except FileExistsError:
                return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whole or not at all."""
        with store_errors("write the export"):
            make_folders((self.root / key).parent)
            replace_file(self.root / key, body)


def _is_part(name: str) -> bool:
    """Return whether a name is that of a file that is being written, as :func:`replace_file` makes it."""
    return name.startswith(".") and name.endswith(".part")


@dataclass(frozen=True, slots=True)
class BucketTarget:
    """A prefix of a bucket."""

    place: S3Place
    store: S3Store

    @property
    def url(self) -> str:
        """The address of the prefix."""
        return self.place.url

    def within(self, name: str) -> str | None:
        """Return the address of another export that *name* would lie in."""
        above = list(accumulate(name.split("/"), "{}/{}".format))[:-1]
        return next((f"{self.url}/{each}" for each in above if self.read(f"{each}{BESIDE}") is not None), None)

    def listed(self, name: str) -> Mapping[str, int]:
        """Return the size of each object below *name*, by its key there."""
        with self.place.errors("list the export"):
            return {each["path"].removeprefix(f"{name}/"): each["size"] for page in self.store.list(f"{name}/") for each in page}

    def clear(self, name: str) -> None:
        """Do nothing: an object of a bucket is whole, or not there."""

    def read(self, key: str) -> bytes | None:
        """Return an object, or ``None`` if there is none."""
        try:
            with self.place.errors("read the export"):
                return bytes(self.store.get(key).bytes())
        except ArtifactMissing:
            return None

    def create(self, key: str, body: bytes) -> bool:
        """Write an object if there is none. Return whether it was written."""
        from obstore.exceptions import AlreadyExistsError

        with self.place.errors("write the export"):
            try:
                self.store.put(key, body, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whole or not at all. The store compares it with the checksum that is sent."""
        with self.place.errors("write the export"):
            self.store.put(key, body, use_multipart=False)
