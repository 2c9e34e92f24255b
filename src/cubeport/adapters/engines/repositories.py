"""Icechunk's repositories of an instance: one for each dataset, below one place of an object store.

Only this module and :mod:`.icechunk` call Icechunk and obstore for versions. Their errors become ours here: what the store says it
does not have is missing; everything else is unavailable.
"""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import icechunk
import obstore
from zarr.core.buffer.core import default_buffer_prototype

from cubeport.adapters.engines.staging import checked_dataset, checked_id
from cubeport.adapters.storage.s3 import UPLOADS, cure, in_words, time_of
from cubeport.adapters.storage.trial import check_store
from cubeport.cubes.bounded import Bounded
from cubeport.errors import Corrupt, DatasetBusy, PathEscapes, StoreUnavailable

if TYPE_CHECKING:
    from cubeport.adapters.storage.s3 import S3Place

AT_ONCE = 16
"""How many objects are sent or fetched at the same time."""
_REPOSITORIES = 256
"""How many repositories stay open."""
_OVERWRITTEN = "overwritten"
_AGAIN = 100
"""How many tags a version can have one after another."""
_READ_TRIES = 3
"""How often a request to read is sent at most. A client that waits is told soon that the store does not answer."""
_ANSWER_S = 30.0
"""How long a call waits for an object, in seconds. Icechunk repeats failed requests on its own within this time."""
_TAG = re.compile(r"v-(?P<version>[0-9a-f]{32})(-[0-9]+)?")
"""The tag of a version. One that was deleted can never be made again, so that a second tag of a version has a number."""

MAIN = "main"


class ObjectPlace(Protocol):
    """Where the repositories are: a prefix of a bucket."""

    @property
    def profile(self) -> str:
        """The profile, for messages."""

    def below(self, prefix: str) -> ObjectPlace:
        """Return the place *prefix* below this one."""

    def storage(self) -> Any:
        """Return Icechunk's storage of the repository at this place."""

    def connect(self) -> Any:
        """Return obstore's store whose keys begin at this place."""

    def check(self) -> None:
        """Try whether the store keeps its word. Raises InvalidConfiguration, StoreUnavailable."""

    def ask(self) -> None:
        """Ask whether the bucket is there. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix of a bucket."""

    place: S3Place

    @property
    def profile(self) -> str:
        """The profile."""
        return self.place.profile

    def below(self, prefix: str) -> Bucket:
        """Return the prefix below this one."""
        return Bucket(self.place.below(prefix))

    def storage(self) -> Any:
        """Return Icechunk's storage."""
        place = self.place
        return icechunk.s3_storage(
            bucket=place.bucket,
            prefix=place.prefix,
            region=place.region or "us-east-1",
            endpoint_url=place.endpoint_url,
            allow_http=place.allow_http,
            access_key_id=place.key,
            secret_access_key=place.secret,
            session_token=place.token,
            anonymous=place.anonymous or None,
            from_env=None if place.anonymous or place.key else True,
            force_path_style=place.path_style,
            network_stream_timeout_seconds=30,
        )

    def connect(self) -> Any:
        """Return obstore's store."""
        return self.place.connect()

    def check(self) -> None:
        """Try whether the store keeps its word. Raises InvalidConfiguration, StoreUnavailable."""
        check_store(self.place)

    def ask(self) -> None:
        """Ask whether the bucket is there. Raises StoreUnavailable."""
        self.place.ask()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine. Icechunk does not make it durable and loses commits of two writers there: it is for tests."""

    path: Path
    profile: str = "folder"

    def below(self, prefix: str) -> Folder:
        """Return the folder *prefix* below this one."""
        return Folder(self.path / prefix)

    def storage(self) -> Any:
        """Return Icechunk's storage."""
        return icechunk.local_filesystem_storage(str(self.path))

    def connect(self) -> Any:
        """Return obstore's store."""
        from obstore.store import LocalStore

        return LocalStore(self.path, mkdir=True)

    def check(self) -> None:
        """Do nothing: one process writes to it."""

    def ask(self) -> None:
        """Do nothing: the folder is made when it is needed."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The settings ``icechunk.*``."""

    refs_per_manifest: int = 10_000
    """How many chunks one manifest of Icechunk lists. An append writes one manifest for each array, however long the array is."""
    inline_bytes: int = 512
    """Chunks that are smaller than this are stored in the manifest."""
    retries: int = 10
    """How often a request that writes is sent at most."""
    gc_cutoff_h: float = 24.0
    """Garbage that is younger than this stays, in hours."""
    kept_states: int = 100
    """How many former states of a repository always stay. This and the next are rules, not settings."""
    kept_days: float = 30.0
    """Former states of a repository that are younger than this stay, in days."""


class Repositories:
    """The repositories below *place*, opened at their first use. Thread-safe."""

    def __init__(self, place: ObjectPlace, tuning: Tuning | None = None) -> None:
        self.place = place
        self.tuning = tuning or Tuning()
        self._open: Bounded[str, icechunk.Repository] = Bounded(_REPOSITORIES)
        self._tried: set[str] = set()
        """The datasets whose repository is about to be made, after a trial of the store."""

    def find(self, dataset_id: str) -> icechunk.Repository | None:
        """Return the repository of a dataset, or ``None`` if the store says that there is none. Raises StoreUnavailable."""
        found = self._open.get(dataset_id)
        if found is None:
            found = self._opened(dataset_id, self._configuration({}, tries=min(_READ_TRIES, self.tuning.retries)))
            if found is not None:
                self._open.put(dataset_id, found)
        return found

    def fresh(self, dataset_id: str) -> icechunk.Repository | None:
        """Return the repository, opened anew, so that nothing comes from a cache."""
        return self._opened(dataset_id, self._configuration({}, tries=self.tuning.retries))

    def writing(self, dataset_id: str, splits: Mapping[str, tuple[int, int]] | None = None) -> icechunk.Repository | None:
        """Return the repository of :meth:`find` to write with: the manifests of an array (by path) are split along one axis, after
        so many chunks. Its branches and tags are asked of the store anew with each call and session.
        """
        found = self.find(dataset_id)
        with errors("open the repository of a dataset"):
            return None if found is None else found.reopen(self._configuration(splits or {}, tries=self.tuning.retries))

    def _opened(self, dataset_id: str, configuration: icechunk.RepositoryConfig) -> icechunk.Repository | None:
        storage = self.place.below(checked_dataset(dataset_id)).storage()
        with errors("open the repository of a dataset"), suppress(icechunk.RepositoryNotFoundError):
            return icechunk.Repository.open(storage, configuration)
        return None

    def demand(self, dataset_id: str) -> None:
        """Look whether a version of the dataset can be stored: its repository opens, or the store passes the trial.

        Raises
        ------
        InvalidConfiguration, StoreUnavailable
            As :meth:`make`.
        """
        if self.find(dataset_id) is None:
            # `init` has tried the profiles that were there; this one may be newer, or its store another release.
            self.place.check()
            self._tried.add(dataset_id)

    def make(self, dataset_id: str) -> None:
        """Make the repository of a dataset unless it is there.

        What an attempt that failed in the middle left is removed first, because Icechunk makes a repository only where nothing is.
        The caller holds the lock of the dataset.

        Raises
        ------
        Corrupt
            If there are chunks and no repository: somebody must look at it.
        InvalidConfiguration
            If the store would lose data (:mod:`cubeport.adapters.storage.trial`).
        StoreUnavailable
            If the store cannot be reached.
        """
        if self.find(dataset_id) is not None:
            return
        if dataset_id not in self._tried:
            self.place.check()
        self._tried.discard(dataset_id)
        place = self.place.below(checked_dataset(dataset_id))
        self._clear(place)
        with errors("make the repository of a dataset"):
            icechunk.Repository.create(place.storage(), self._configuration({}, tries=self.tuning.retries))

    def _clear(self, place: ObjectPlace) -> None:
        """Remove the few objects that Icechunk writes before a repository can be opened."""
        with errors("make the repository of a dataset"):
            store = place.connect()
            left = [each["path"] for page in obstore.list(store) for each in page]
            if any(each.startswith("chunks/") for each in left):
                raise Corrupt("There are chunks of a dataset and no repository.", next_step="restore the bucket from its backup")
            for each in left:
                obstore.delete(store, each)

    def datasets(self) -> list[str]:
        """Return the names of all datasets with a repository, sorted."""
        return sorted(each for each in self._folders() if self.find(each) is not None)

    def now(self) -> datetime:
        """Return the present time by the clock of the store, which says when an object was written now."""
        with errors("ask the store for the time"):
            return time_of(self.place.below(UPLOADS).connect())

    def forget(self, dataset_id: str, now: datetime, *, dry_run: bool = False) -> int:
        """Remove former states of a repository; return their size in bytes.

        Icechunk copies its file ``repo`` to ``overwritten/`` at each change and never removes a copy (icechunk#1852). The copies
        grow with the square of the number of updates. Only the log of its operations reads them.
        """
        with errors("remove former states of a repository"):
            store = self.place.below(checked_dataset(dataset_id)).connect()
            listed = [each for page in obstore.list(store, prefix=_OVERWRITTEN) for each in page]
            listed.sort(key=lambda each: each["last_modified"], reverse=True)
            limit = now - timedelta(days=self.tuning.kept_days)
            old = [each for each in listed[self.tuning.kept_states :] if each["last_modified"] < limit]
            if old and not dry_run:
                obstore.delete(store, [each["path"] for each in old])
        return sum(each["size"] for each in old)

    def strays(self) -> Iterator[str]:
        """Yield what is at the place and in no repository."""
        with errors("list the store"):
            found = obstore.list_with_delimiter(self.place.connect())
        yield from (each["path"] for each in found["objects"])
        for each in self._folders(found):
            if each != UPLOADS and self.find(each) is None and not self._is_empty(each):
                yield each

    def _is_empty(self, prefix: str) -> bool:
        """Return whether there is nothing below a prefix. Some stores keep the name of one that had something."""
        with errors("list the store"):
            return next(iter(obstore.list(self.place.below(prefix).connect(), chunk_size=1)), None) is None

    def _folders(self, found: Any = None) -> list[str]:
        with errors("list the store"):
            found = found or obstore.list_with_delimiter(self.place.connect())
        names = [each.strip("/").rpartition("/")[2] for each in found["common_prefixes"]]
        return [each for each in names if _is_dataset(each)]

    def _configuration(self, splits: Mapping[str, tuple[int, int]], *, tries: int) -> icechunk.RepositoryConfig:
        configuration = icechunk.RepositoryConfig.default()
        configuration.inline_chunk_threshold_bytes = self.tuning.inline_bytes
        retries = icechunk.StorageRetriesSettings(max_tries=tries, initial_backoff_ms=50, max_backoff_ms=5_000)
        timeouts = icechunk.StorageTimeoutSettings(connect_timeout_ms=5_000)
        configuration.storage = icechunk.StorageSettings(retries=retries, timeouts=timeouts)
        # Else each session first reads the manifest of every coordinate, needed or not.
        preload = icechunk.ManifestPreloadConfig(max_total_refs=0, preload_if=icechunk.ManifestPreloadCondition.false())
        splitting = None
        if splits:
            condition, along = icechunk.ManifestSplitCondition, icechunk.ManifestSplitDimCondition
            sizes: dict[Any, dict[Any, int]] = {
                condition.path_matches(f"^/{re.escape(path)}$"): {along.Axis(axis): length, along.Any(): 2**32 - 1}
                for path, (axis, length) in splits.items()
            }
            splitting = icechunk.ManifestSplittingConfig.from_dict(sizes)
        configuration.manifest = icechunk.ManifestConfig(preload=preload, splitting=splitting)
        return configuration


def _is_dataset(name: str) -> bool:
    try:
        checked_dataset(name)
    except PathEscapes:
        return False
    return True


def tag_of(version_id: str) -> str:
    """Return the tag of a version."""
    return f"v-{checked_id(version_id)}"


def versions_of(repository: icechunk.Repository) -> dict[str, str]:
    """Return the tag of each version, by its id."""
    with errors("list the versions of a dataset"):
        tags = repository.list_tags()
    return {match["version"]: tag for tag in sorted(tags) if (match := _TAG.fullmatch(tag))}


def tagged(repository: icechunk.Repository, version_id: str) -> str | None:
    """Return the snapshot of a version, or ``None`` if it has no tag."""
    with errors("look up a version"), suppress(icechunk.RefNotFoundError):
        return repository.lookup_tag(tag_of(version_id))
    tag = versions_of(repository).get(version_id)
    if tag is not None:
        with errors("look up a version"), suppress(icechunk.RefNotFoundError):
            return repository.lookup_tag(tag)
    return None


def tag_again(repository: icechunk.Repository, version_id: str, snapshot: str) -> None:
    """Give the snapshot of a version another tag than the one that was deleted."""
    taken = {tag_of(version_id)}
    with errors("tag a version"):
        while len(taken) < _AGAIN:
            tag = f"{tag_of(version_id)}-{len(taken) + 1}"
            try:
                repository.create_tag(tag, snapshot)
                return
            except icechunk.AlreadyExistsError:  # it was deleted as well
                taken.add(tag)
    raise Corrupt(f"Somebody deletes the tags of version {version_id} again and again.", next_step="look at who has the keys")


def afresh(repository: icechunk.Repository, session: icechunk.Session, snapshot: str) -> icechunk.Session | None:
    """Return a session that reads *snapshot* with nothing in its caches, so that what it says comes from the store; ``None`` if the
    store says that there is none.

    A session that was just stored is at its snapshot, and a copy of it asks for nothing else. To open it anew would ask the store
    for the repository first.
    """
    if session.read_only and session.snapshot_id == snapshot:
        copy: icechunk.Session = pickle.loads(pickle.dumps(session))  # noqa: S301 (made in this line)
        return copy
    return at(pickle.loads(pickle.dumps(repository)), snapshot)  # noqa: S301 (made in this line)


def at(repository: icechunk.Repository, snapshot: str) -> icechunk.Session | None:
    """Return a session that reads one snapshot, or ``None`` if the store says that there is none."""
    with errors("open a version"), suppress(icechunk.NotFoundError):
        return repository.readonly_session(snapshot_id=snapshot)
    return None


def history_of(repository: icechunk.Repository, version_id: str) -> list[str]:
    """Return the snapshot of a version and all before it, the newest first; none if the version has no tag."""
    with errors("read the history of a dataset"):
        with suppress(icechunk.RefNotFoundError):
            return [each.id for each in repository.ancestry(tag=tag_of(version_id))]
        snapshot = tagged(repository, version_id)
        return [] if snapshot is None else [each.id for each in repository.ancestry(snapshot_id=snapshot)]


def snapshot_of(repository: icechunk.Repository, operation_id: str) -> str | None:
    """Return the snapshot that an operation has written, or ``None``."""
    # Not inspect_repo_info, which holds all threads of the process until the store has answered.
    for each in run(repository.inspect_repo_info_async())["snapshots"]:
        if each.get("metadata", {}).get("operation") == operation_id:
            return str(each["id"])
    return None


def root_of(repository: icechunk.Repository) -> str:
    """Return the first snapshot of a repository, which is empty and always stays."""
    with errors("read the history of a dataset"):
        return [each.id for each in repository.ancestry(branch=MAIN)][-1]


def point_main(repository: icechunk.Repository, snapshot: str, *, there: str | None = None) -> None:
    """Let the branch ``main`` name *snapshot*. The caller holds the lock of the dataset; the guard refuses anybody without it.

    Parameters
    ----------
    there
        The snapshot that it names, if that is known. Nothing is changed if it names another one.

    Raises
    ------
    DatasetBusy
        If somebody else moved the branch at the same time.
    """
    with errors("move the branch of a dataset"):
        there = there or repository.lookup_branch(MAIN)
        if there == snapshot:
            return
        try:
            repository.reset_branch(MAIN, snapshot, from_snapshot_id=there)
        except icechunk.IcechunkError:
            # An error does not show whether it happened: the branch does.
            if repository.lookup_branch(MAIN) != snapshot:
                raise


def get(session: icechunk.Session, key: str) -> bytes | None:
    """Return an object of a snapshot, or ``None`` if the snapshot has none.

    Raises
    ------
    Corrupt
        If the snapshot has it, and the store does not.
    StoreUnavailable
        If the store cannot be read.
    """
    with errors("read an object"):
        return run(fetch(session, key))


async def fetch(session: icechunk.Session, key: str) -> bytes | None:
    """Do as :func:`get`, for :func:`run`; errors are those of Icechunk."""
    found = await session.store.get(key, default_buffer_prototype())
    return None if found is None else found.to_bytes()


async def together[T](*work: Coroutine[Any, Any, T]) -> list[T]:
    """Return the results of all, which wait for the store at the same time."""
    return await asyncio.gather(*work)


def get_all(session: icechunk.Session, keys: Iterable[str], take: Callable[[str, bytes | None], None]) -> None:
    """Fetch objects, several at once, and pass each to *take*. Raises as :func:`get`."""

    async def bring(key: str) -> None:
        take(key, await fetch(session, key))

    with errors("read objects"):
        run(_each(bring, keys), wait_s=None)


def set_all(session: icechunk.Session, objects: Iterable[tuple[str, Callable[[], bytes]]]) -> None:
    """Send objects, several at once. Raises StoreUnavailable."""
    store, buffer = session.store, default_buffer_prototype().buffer

    async def send(item: tuple[str, Callable[[], bytes]]) -> None:
        key, content = item
        await store.set(key, buffer.from_bytes(content()))

    with errors("store objects"):
        run(_each(send, objects), wait_s=None)


def delete_all(session: icechunk.Session, keys: Iterable[str]) -> None:
    """Delete objects from a session that writes."""
    store = session.store
    with errors("change a version"):
        run(_each(store.delete, keys), wait_s=None)


def delete_below(session: icechunk.Session, prefixes: Iterable[str]) -> None:
    """Delete everything below each prefix from a session that writes."""
    store = session.store
    with errors("change a version"):
        run(_each(store.delete_dir, prefixes), wait_s=None)


def sizes(session: icechunk.Session, keys: Iterable[str]) -> dict[str, int | None]:
    """Return the size of each object as the snapshot has it, ``None`` for none."""
    found: dict[str, int | None] = {}
    store = session.store

    async def ask(key: str) -> None:
        try:
            found[key] = await store.getsize(key)
        except KeyError:
            found[key] = None

    with errors("look at the objects of a version"):
        run(_each(ask, keys), wait_s=None)
    return found


def keys_of(session: icechunk.Session) -> list[str]:
    """Return the keys of all objects of a snapshot, sorted."""

    async def every() -> list[str]:
        return [key async for key in session.store.list_prefix("")]

    with errors("list the objects of a version"):
        return sorted(run(every(), wait_s=None))


async def _each[T](do: Callable[[T], Coroutine[Any, Any, None]], things: Iterable[T]) -> None:
    left = iter(things)

    async def work() -> None:
        for thing in left:
            await do(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Translate errors of the store to ours. Icechunk's ``NotFoundError`` passes: the store said that there is none.

    Raises
    ------
    Corrupt
        If the store does not have an object that its repository names: absent is not unreadable.
    DatasetBusy
        If somebody else changed the repository at the same time.
    StoreUnavailable
        For every other error of the store.
    """
    try:
        yield
    except icechunk.NotFoundError:
        raise
    except BaseExceptionGroup as group:
        raise _ours(what, group.exceptions[0]) from group
    except _ERRORS as error:
        raise _ours(what, error) from error


_ERRORS = (icechunk.IcechunkError, TimeoutError, OSError, obstore.exceptions.BaseError)


def _ours(what: str, error: BaseException) -> BaseException:
    if isinstance(error, icechunk.StorageError) and str(error).startswith("object not found"):
        return Corrupt(f"Could not {what}: the store has lost it.", next_step="cubeport fsck --data")
    if isinstance(error, icechunk.ConflictError):
        return DatasetBusy(f"Could not {what}: somebody else changed the dataset at the same time.", next_step="try again")
    if isinstance(error, _ERRORS):
        first = in_words(str(error)).rstrip(".") or type(error).__name__
        return StoreUnavailable(f"Could not {what}: {first}.", next_step=cure(str(error), "try again when the store answers"))
    return error


def run[T](work: Coroutine[Any, Any, T], *, wait_s: float | None = _ANSWER_S) -> T:
    """Run *work* on the loop of this process that speaks with stores, and wait for its result. Any thread may call it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result(wait_s)
    except TimeoutError:
        future.cancel()
        raise


_LOCK = threading.Lock()
_LOOPS: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop, started in a thread of its own at the first call."""
    if not _LOOPS:
        with _LOCK:
            if not _LOOPS:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="cubeport-stores", daemon=True).start()
                _LOOPS.append(loop)
    return _LOOPS[0]


def splits(documents: Mapping[str, bytes], refs: int) -> dict[str, tuple[int, int]]:
    """Return, by the path of each array, along which axis and after how many chunks to split its manifests.

    Parameters
    ----------
    documents
        The ``zarr.json`` of each array, by its path.
    refs
        How many chunks one manifest lists.
    """
    arrays = {path: json.loads(each) for path, each in documents.items()}
    times = {
        dimensions[0]
        for each in arrays.values()
        if len(dimensions := each.get("dimension_names") or []) == 1 and " since " in str(each.get("attributes", {}).get("units"))
    }
    found = {}
    for path, each in arrays.items():
        counts = [
            math.ceil(size / length)
            for size, length in zip(each["shape"], each["chunk_grid"]["configuration"]["chunk_shape"], strict=True)
        ]
        names = each.get("dimension_names") or [None] * len(counts)
        axis = next((number for number, name in enumerate(names) if name in times), 0)
        if counts:
            across = math.prod(counts) // max(1, counts[axis])
            found[path] = axis, max(1, refs // max(1, across))
    return found


def modified(repository: icechunk.Repository, snapshot: str) -> datetime:
    """Return when a snapshot was written, by the clock of its writer."""
    with errors("look at a version"):
        return repository.lookup_snapshot(snapshot).written_at
