"""A profile on any file system of fsspec. Names contain the object id, because remote checks are not atomic.

fsspec's own transactions are not used, because they skip ``put_file`` and ``makedirs`` and do not know our journal. Bytes are made
in a local scratch folder, sent under a new name, and compared by length and hash.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Unpack

from cubeport.adapters.storage.local import LocalProfile, LocalTarget
from cubeport.adapters.storage.s3 import cure
from cubeport.adapters.storage.settings import ConfiguredProfile, ProfileSettings
from cubeport.catalog.artifacts.storage import StoragePlan, Stored
from cubeport.catalog.artifacts.writers import sha256_of
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.models import FSSpecLocator
from cubeport.errors import ArtifactMissing, CubeportError, StoreUnavailable, TargetExists

SCRATCH = "_scratch"
"""The internal profile in which bytes for remote profiles are made. It contains no artifacts."""


class RemoteProfile(ConfiguredProfile):
    """Managed bytes below one fsspec URL."""

    unique_names = True

    @property
    def protocol(self) -> str:
        """The protocol, by fsspec's name."""
        return self._protocol

    @property
    def volatile(self) -> bool:
        """Whether the bytes are lost when this process ends."""
        return self._protocol == "memory"

    def __init__(
        self,
        name: str,
        protocol: str,
        root: str,
        scratch: LocalProfile,
        *,
        options: Mapping[str, Any] | None = None,
        **settings: Unpack[ProfileSettings],
    ) -> None:
        super().__init__(name, **settings)
        self.scratch = scratch
        self._protocol = protocol
        self._options = dict(options or {})
        self._root = root.removeprefix(f"{protocol}://").rstrip("/")
        self._filesystem: Any = None

    @property
    def fs(self) -> Any:
        """The file system. fsspec is imported at the first use."""
        if self._filesystem is None:
            import fsspec

            with self._errors("reach the store"):
                self._filesystem = fsspec.filesystem(self._protocol, **self._options)
        return self._filesystem

    def locator(self, path: str) -> FSSpecLocator:
        """Return the locator of a path relative to the root."""
        return FSSpecLocator(urlpath=path, profile=self.name)

    def check(self, path: str) -> None:
        """Do nothing. The locator has already refused paths that could leave the root."""

    def target(self, plan: StoragePlan, operation_id: str) -> RemoteTarget:
        """Make an empty local file or folder for bytes that will be sent under a new name."""
        assert plan.relative_path is not None, "a plan for this profile has a path"
        with store_errors("write the artifact"):
            make_folders(self.scratch.root)
            return RemoteTarget(self, plan, operation_id)

    def stat(self, path: str) -> Stored | None:
        """Return the description of a path, or ``None``; see :class:`~cubeport.catalog.artifacts.storage.Profile`."""
        with self._errors("inspect the artifact"):
            self.fs.invalidate_cache()  # other processes write too, so an earlier listing can be outdated
            try:
                return self._stored(path, self.fs.info(self.key(path)))
            except FileNotFoundError:
                return None

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with self._errors("open the artifact"):
            try:
                opened: BinaryIO = self.fs.open(self.key(path), "rb")
            except FileNotFoundError:
                raise ArtifactMissing(f"The bytes at {path} are missing.", next_step="cubeport verify --all") from None
        return opened

    def local_path(self, path: str) -> Path | None:  # noqa: ARG002 - the protocol's
        """Return ``None``, because there are no local files."""
        return None

    def files(self, path: str) -> Iterator[Stored]:
        """Yield the files of a directory artifact, sorted by their relative paths."""
        top = self.key(path) + "/"
        with self._errors("list the artifact"):
            self.fs.invalidate_cache()
            for key, found in sorted(self.fs.find(self.key(path), detail=True).items()):
                yield self._stored(key.removeprefix("/").removeprefix(top.removeprefix("/")), found)

    def walk(self) -> Iterator[Stored]:
        """Yield every object below the root."""
        with self._errors("list the store"):
            self.fs.invalidate_cache()
            for key, found in sorted(self.fs.find(self._root, detail=True).items()):
                yield self._stored(key.removeprefix("/").removeprefix(self._root.removeprefix("/") + "/"), found)

    def remove(
        self, path: str, proof: Mapping[str, Any], *, operation_id: str | None = None
    ) -> Literal["removed", "absent", "not-ours"]:
        """Remove an object if its name contains the object id of the proof, which no other artifact ever has."""
        proofs = [each for each in (proof.get("object"), operation_id) if each]
        with self._errors("remove the bytes"):
            if not self.fs.exists(self.key(path)):
                return "absent"
            if not any(each in path for each in proofs):
                return "not-ours"
            self.fs.rm(self.key(path), recursive=True)
        return "removed"

    def remove_folders(self, folders: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing. Object stores have no folders."""

    def quarantine(self, path: str, to: Path) -> None:
        """Copy an object to *to*, then remove it."""
        with self._errors("move to quarantine"):
            make_folders(to.parent)
            self.fs.get(self.key(path), str(to), recursive=True)
            self.fs.rm(self.key(path), recursive=True)

    def now(self) -> float:
        """Return the current time of this machine, because most stores do not report theirs."""
        return time.time()

    def free_bytes(self) -> int | None:
        """Return ``None``, because the free space is unknown."""
        return None

    def problems(self) -> list[CubeportError]:
        """Return the problems of the profile, each with what to do. Nothing is changed."""
        try:
            with self._errors("reach the store"):
                self.fs.exists(self._root)
        except CubeportError as exc:
            return [exc]
        return []

    def key(self, path: str) -> str:
        """Return the full key of a path below the root."""
        return f"{self._root}/{path}"

    def _stored(self, path: str, found: Mapping[str, Any]) -> Stored:
        modified = found.get("LastModified") or found.get("mtime") or found.get("created")
        seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified or 0)
        kind: Literal["file", "directory"] = "directory" if found["type"] == "directory" else "file"
        # The random id in the name is the proof.
        said = found.get("ETag") or found.get("etag")
        etag = said if isinstance(said, str) else None
        return Stored(path, kind, int(found.get("size") or 0), seconds, {"object": path.rpartition("/")[2]}, etag)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Translate the errors of a driver to ours, because each protocol has its own errors."""
        try:
            with store_errors(what), _refusals(what):
                yield
        except (CubeportError, FileNotFoundError):
            raise
        except ImportError as exc:
            # fsspec hides a failed import behind an error of its own.
            missing = exc.name or getattr(exc.__cause__, "name", None) or f"the driver of {self._protocol}"
            install = "pip install 'cubeport[s3]'" if missing == "s3fs" else f"pip install {missing}"
            raise StoreUnavailable(f"Could not {what}: {missing} is not installed.", next_step=install) from exc
        except Exception as exc:
            advice = cure(str(exc), "check the profile in config/profiles.yaml (endpoint_url) and the network")
            raise StoreUnavailable(f"Could not {what}: {type(exc).__name__}.", next_step=advice) from exc


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say what to do if the store refuses a request. Drivers raise the error of a file for it, without a number."""
    try:
        yield
    except PermissionError as exc:
        if exc.errno is not None:
            raise
        advice = (
            "the store refuses the credentials of the profile, or their rights: correct what key_env, secret_env and token_env name"
        )
        words = str(exc).rstrip(".")
        raise StoreUnavailable(f"Could not {what}: {words}.", next_step=cure(f"{exc} {exc.__cause__}", advice)) from exc


class RemoteTarget:
    """Bytes for a store. They are first completed in the scratch folder."""

    def __init__(self, profile: RemoteProfile, plan: StoragePlan, operation_id: str) -> None:
        assert plan.relative_path is not None, "a plan for this profile has a path"
        self._profile = profile
        self._path = plan.relative_path
        self._kind = plan.target_kind
        self._local = LocalTarget(profile.scratch, plan, plan.object_id, operation_id)
        self.path = self._local.path
        undo = {"undo": "remove_tree" if self._kind == "directory" else "remove_file", "profile": profile.name}
        self.compensations: list[dict[str, Any]] = [
            *self._local.compensations,
            {**undo, "path": self._path, "proof": {"object": plan.object_id[:8]}},
        ]

    def seal(self) -> None:
        """Do nothing. The store keeps what was sent; everything else is temporary."""

    def publish(self, claim: Callable[[Mapping[str, Any]], None]) -> str:  # noqa: ARG002 - nothing is claimed here
        """Send the bytes under the new name, with the root's ``zarr.json`` last, and compare lengths."""
        profile, fs = self._profile, self._profile.fs
        with profile._errors("send the artifact"):  # noqa: SLF001 - one adapter in two classes
            if fs.exists(profile.key(self._path)):
                raise TargetExists(f"{self._path} already exists in profile {profile.name}.")
            for local, path in self._objects():
                fs.put_file(str(local), profile.key(path))
                if fs.info(profile.key(path))["size"] != local.stat().st_size:
                    raise StoreUnavailable("The store received a different number of bytes than were sent.", next_step="try again")
                with fs.open(profile.key(path), "rb") as there, local.open("rb") as here:
                    if sha256_of(there) != sha256_of(here):
                        raise StoreUnavailable("The store returns other bytes than were sent.", next_step="try again")
            shutil.rmtree(self.path) if self._kind == "directory" else self.path.unlink()
        return self._path

    def _objects(self) -> Iterator[tuple[Path, str]]:
        if self._kind == "file":
            self._profile.fs.makedirs(self._profile.key(self._path).rpartition("/")[0], exist_ok=True)
            yield self.path, self._path
            return
        files = sorted(each for each in self.path.rglob("*") if each.is_file())
        files.sort(key=lambda each: each == self.path / "zarr.json")
        for each in files:
            key = f"{self._path}/{each.relative_to(self.path).as_posix()}"
            self._profile.fs.makedirs(self._profile.key(key).rpartition("/")[0], exist_ok=True)
            yield each, key
