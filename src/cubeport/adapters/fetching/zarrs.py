"""``kind: zarr`` on another machine: fetch the keys that its metadata name to a folder, which the gate reads. If only a part is
needed, fetch only that.

Keys cannot be listed over HTTP, so the consolidated metadata decide which nodes exist. The description of a node comes from its own
document.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from cubeport.adapters.fetching.downloads import name_of, small, validator
from cubeport.adapters.fetching.patience import patience, patiently
from cubeport.adapters.storage.fetching import KeepingFetcher, hold_time
from cubeport.catalog.artifacts.storage import Profile
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.cubes.companions import REFERENCES
from cubeport.cubes.excerpt import NAME, Excerpt, Ranges, of_chunks
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.cubes.write_request import Choose
from cubeport.errors import ArtifactMissing, Cancelled, NoData, SourceFailed, SourceRejected, SourceTimeout

_DOCUMENT_BYTES = 4 << 20
_PIECE = 1 << 20
_NODES = 2_000
_CHUNKS = 1_000_000
_AT_ONCE = 8
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
_LONGEST_LENGTH = 2**63 - 1


class Keys(Protocol):
    """Access to a store by its keys."""

    @property
    def name(self) -> str:
        """Return the name of the store, without secrets."""

    def read(self, key: str) -> bytes | None:
        """Return a small object, or ``None`` if the store says that it does not exist."""

    def take(self, key: str, path: Path) -> str | None:
        """Download an object to *path*. Return its validator (empty if it has none), or ``None`` if the object does not exist."""

    def validator(self, key: str) -> str | None:
        """Return the current validator of the object, or ``None`` if it has none."""

    def listed(self) -> Sequence[str] | None:
        """Return all keys, or ``None`` if the store cannot list them."""


class WebKeys:
    """Keys below an HTTP URL."""

    def __init__(self, fetcher: KeepingFetcher, uri: str, stopping: threading.Event) -> None:
        self._fetcher = fetcher
        self._base, _, query = uri.partition("?")
        self._query = f"?{query}" if query else ""
        self._stopping = stopping
        self.name = self._base.rstrip("/")

    def read(self, key: str) -> bytes | None:
        return patiently(lambda: small(self._fetcher, self._at(key), most=_DOCUMENT_BYTES), self._stopping)

    def take(self, key: str, path: Path) -> str | None:
        def once() -> str | None:
            with self._fetcher.get(self._at(key)) as answer:
                if answer is None:
                    return None
                with path.open("wb") as file:
                    while piece := answer.body.read(_PIECE):
                        file.write(piece)
                return answer.resource.validator or ""

        return patiently(once, self._stopping)

    def validator(self, key: str) -> str | None:
        found = patiently(lambda: self._fetcher.head(self._at(key)), self._stopping)
        return found.validator if found else None

    def listed(self) -> None:
        return None

    def _at(self, key: str) -> str:
        return f"{self.name}/{quote(key)}{self._query}"


class StoreKeys:
    """Keys below a storage profile."""

    def __init__(self, profile: Profile, key: str, stopping: threading.Event) -> None:
        self._profile, self._key, self._stopping = profile, key.rstrip("/"), stopping
        self.name = f"{profile.name}/{self._key}"

    def read(self, key: str) -> bytes | None:
        return patiently(lambda: self._read(key), self._stopping)

    def _read(self, key: str) -> bytes | None:
        stored = self._profile.stat(f"{self._key}/{key}")
        if stored is None or stored.kind != "file":
            return None
        if stored.size_bytes > _DOCUMENT_BYTES:
            raise _refused(self.name, f"has metadata of {stored.size_bytes} bytes", "too-big")
        with self._profile.open(f"{self._key}/{key}") as file:
            return file.read()

    def take(self, key: str, path: Path) -> str | None:
        return patiently(lambda: self._take(f"{self._key}/{key}", path), self._stopping)

    def _take(self, whole: str, path: Path) -> str | None:
        stored = self._profile.stat(whole)
        if stored is None or stored.kind != "file":
            return None
        try:
            with self._profile.open(whole) as source, path.open("wb") as file:
                while piece := source.read(_PIECE):
                    file.write(piece)
                    hold_time(whole)
        except ArtifactMissing:
            return None
        return validator(stored)

    def validator(self, key: str) -> str | None:
        stored = patiently(lambda: self._profile.stat(f"{self._key}/{key}"), self._stopping)
        return validator(stored) if stored is not None else None

    def listed(self) -> Sequence[str]:
        return [each.path for each in self._profile.files(self._key) if each.kind == "file"]


@dataclass(frozen=True, slots=True)
class _Array:
    path: str
    dims: tuple[str, ...] | None
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    """The lengths of a chunk, or of a shard."""
    separator: str
    prefix: str | None
    words: frozenset[str]
    """Names that its attributes refer to."""

    def all(self) -> tuple[Ranges, ...]:
        """Return the ranges of the complete array."""
        return tuple(((0, size),) if size else () for size in self.shape)

    def widened(self, ranges: Sequence[Ranges]) -> tuple[Ranges, ...]:
        """Return the ranges of all chunks that have some of *ranges*."""
        return tuple(of_chunks(*each)[0] for each in zip(ranges, self.chunks, self.shape, strict=True))

    def counts(self, ranges: Sequence[Ranges]) -> int:
        """Return the number of chunks of *ranges*."""
        return prod(len(of_chunks(*each)[1]) for each in zip(ranges, self.chunks, self.shape, strict=True))

    def keys(self, ranges: Sequence[Ranges]) -> Iterator[str]:
        """Yield the keys of the chunks of *ranges*."""
        for index in product(*(of_chunks(*each)[1] for each in zip(ranges, self.chunks, self.shape, strict=True))):
            parts = [*([self.prefix] if self.prefix else []), *map(str, index)]
            yield f"{self.path}/{self.separator.join(parts) or '0'}"

    @property
    def group(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def label(self) -> str:
        return self.path.rpartition("/")[2]


class ZarrSource:
    """A Zarr group on another machine: the selected variables and everything that describes them.

    Parameters
    ----------
    variables
        The variables to fetch; empty for all. Variables that they refer to, and the coordinates of their dimensions, are fetched
        too.
    most
        The largest total size in bytes.
    """

    max_concurrency = 1
    resumes = True
    is_patient = True
    is_periodic: bool | None = False

    def __init__(
        self, keys: Keys, *, group: str | None, variables: Sequence[str], most: int, stopping: threading.Event, name: str = ""
    ) -> None:
        self._keys, self._group, self._variables, self._most = keys, (group or "").strip("/"), tuple(variables), most
        self._stopping = stopping
        self._name = name or name_of(keys.name)

    def stop(self) -> None:
        """Stop running fetches."""
        self._stopping.set()

    def exists(self) -> bool:
        """Return whether the origin has the metadata of a store here. An origin that refuses or fails to answer has none."""
        with suppress(SourceFailed, SourceTimeout):
            for key in ("zarr.json", ".zgroup"):
                with suppress(SourceRejected):
                    if (data := self._keys.read(key)) is not None and data.lstrip()[:1] == b"{":
                        return True
        return False

    def periods(self, start: Period, end: Period) -> None:  # noqa: ARG002 - the store is one unit
        """Return ``None``, because the periods are only known when the store is read."""
        return

    def unit(self, period: Period) -> str:  # noqa: ARG002
        """Return the same name for all periods."""
        return self._keys.name

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:  # noqa: ARG002
        """Fetch the store. Raises NoData if it does not exist."""
        return self.fetch_chosen(None, into)

    def fetch_chosen(self, choose: Choose | None, into: Path) -> Fetched:
        """Fetch the part of the store that *choose* needs. Raises NoData if the store does not exist."""
        name = self._name if self._name.endswith(".zarr") else f"{self._name}.zarr"
        folder = into / name
        bring(
            self._keys,
            folder,
            group=self._group,
            variables=self._variables,
            most=self._most,
            stopping=self._stopping,
            choose=choose,
        )
        return Fetched((folder,))


class PerhapsZarr:
    """A source with one name that does not tell whether a file is there or a Zarr store. The origin is asked once.

    Parameters
    ----------
    store
        The same place read as a Zarr store, which is used if it has the metadata of one; ``None`` if the name tells what is there.
    """

    def __init__(self, store: ZarrSource | None) -> None:
        self._named_store = store

    @cached_property
    def _store(self) -> ZarrSource | None:
        return self._named_store if self._named_store is not None and self._named_store.exists() else None

    @property
    def fetch_chosen(self) -> Callable[[Choose, Path], Fetched] | None:
        """Fetches a part, which only a Zarr store has."""
        return None if self._store is None else self._store.fetch_chosen


def bring(
    keys: Keys,
    folder: Path,
    *,
    group: str,
    variables: Sequence[str],
    most: int,
    stopping: threading.Event,
    choose: Choose | None = None,
) -> None:
    """Fetch a Zarr store of version 2 or 3 to *folder*: first the metadata documents, then the chunks that they name.

    With *choose*, first fetch only labels, and then the chunks that *choose* needs; the folder is then an excerpt
    (:mod:`cubeport.cubes.excerpt`). A chunk that the store says does not exist contains only fill values, so it stays missing.
    Chunks of an earlier fetch are not fetched again if the store says that they are unchanged; those that are not needed any more
    are removed.

    Raises
    ------
    NoData
        If there is no Zarr store.
    SourceRejected
        If the metadata name no keys or too many; ``too-big`` over *most* bytes. Also what *choose* raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = _documents(keys)
    every = _arrays(keys.name, documents)
    groups = sorted({each.path.rpartition("/")[0] for each in every} - {""})
    if group and group not in groups:
        from cubeport.adapters.sources.reading import no_group  # with xarray, which a service that fetches nothing does not need

        raise no_group(name_of(keys.name), group, groups)
    arrays = {each.path: each for each in _chosen(every, group, variables)}
    others = {each.path for each in every} - arrays.keys()
    written = {key: data for key, data in documents.items() if key.rpartition("/")[0] not in others}
    for key, data in written.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    said = folder / NAME
    said.unlink(missing_ok=True)
    chunks = _Chunks(keys, folder, most - sum(map(len, written.values())), stopping)
    if choose is None:
        chunks.bring([(each, each.all()) for each in arrays.values()])
    else:
        partial = {path for path, each in arrays.items() if not _is_label(each, list(arrays.values()))}
        chunks.bring([(each, each.all()) for path, each in arrays.items() if path not in partial])
        while True:
            nothing: dict[str, tuple[Ranges, ...]] = {path: ((),) * len(arrays[path].shape) for path in partial}
            said.write_bytes(Excerpt(nothing).to_bytes())
            needs = choose(folder)
            if not (deciding := partial & set(needs.whole)):
                break
            chunks.bring([(arrays[path], arrays[path].all()) for path in deciding])
            partial -= deciding
        needed = {path: arrays[path].widened(each) for path, each in needs.arrays.items() if path in partial}
        chunks.bring([(arrays[path], each) for path, each in needed.items()])
        said.write_bytes(Excerpt({**nothing, **needed}).to_bytes())
    chunks.forget_others({*written, NAME})


def _is_label(array: _Array, others: Sequence[_Array]) -> bool:
    """Return whether an array has labels, bounds or positions, which are always needed: it has one dimension, or another one names
    it and it has two.
    """
    return len(array.shape) <= 1 or (len(array.shape) == 2 and any(array.label in each.words for each in others))


class _Chunks:
    """Fetches the chunks of a store to a folder. An index next to it records each received chunk with its validator and sha256."""

    def __init__(self, keys: Keys, folder: Path, most: int, stopping: threading.Event) -> None:
        self._keys, self._folder, self._most, self._stopping = keys, folder, most, stopping
        self._index = folder.with_name(f"{folder.name}.keys")
        self._had = {key: (said, digest) for key, said, digest in _lines(self._index)}
        self._taken = 0
        self._count_of_chunks = 0
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def bring(self, parts: Sequence[tuple[_Array, Sequence[Ranges]]]) -> None:
        """Fetch the chunks of these parts of arrays. Raises SourceRejected (``too-big``)."""
        self._count_of_chunks += sum(array.counts(ranges) for array, ranges in parts)
        if self._count_of_chunks > _CHUNKS:
            words = f"has {self._count_of_chunks} chunks, more than {_CHUNKS}"
            raise _refused(self._keys.name, words, "too-big", next_step="choose variables, or a start and an end")
        names = (key for array, ranges in parts for key in array.keys(ranges))
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="chunks", initializer=patience().apply)
        try:
            with self._index.open("a") as index:
                for line in pool.map(self._one, names):
                    if line is not None:
                        index.write(json.dumps(line) + "\n")
                        index.flush()
        except BaseException:
            self._stopping.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def forget_others(self, kept: Collection[str]) -> None:
        """Remove the files of earlier fetches, except *kept* and the chunks that were fetched or checked now."""
        for path in [each for each in self._folder.rglob("*") if each.is_file()]:
            key = path.relative_to(self._folder).as_posix()
            if key not in self._seen and key not in kept:
                path.unlink()

    def _one(self, key: str) -> tuple[str, str, str] | None:
        """Fetch one chunk if necessary; return its line for the index."""
        if self._stopping.is_set():
            raise Cancelled("The fetch was stopped.")
        path = self._folder / key
        with self._lock:
            self._seen.add(key)
        if key in self._had and path.is_file():
            said, digest = self._had[key]
            if _sha256(path) == digest and self._keys.validator(key) == said:
                self._count(path)
                return None
        path.parent.mkdir(parents=True, exist_ok=True)
        came = self._keys.take(key, path)
        if came is None:
            path.unlink(missing_ok=True)
            return None
        self._count(path)
        return (key, came, _sha256(path)) if came else None

    def _count(self, path: Path) -> None:
        with self._lock:
            self._taken += path.stat().st_size
            if self._taken > self._most:
                raise _refused(
                    self._keys.name,
                    "has more bytes than may be fetched",
                    "too-big",
                    setting="limits.source_bytes",
                    limit=self._most,
                    next_step="choose variables, or raise limits.source_bytes",
                )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the key, validator and sha256 of each received chunk. A line that a kill cut off is ignored."""
    if path.is_file():
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                key, said, digest = json.loads(line)
                yield key, said, digest


# --- metadata -------------------------------------------------------------------------------------------------------


def _documents(keys: Keys) -> dict[str, bytes]:
    """Return all metadata documents by key. The nodes' own documents are used, not the copies in the consolidated metadata."""
    root = keys.read("zarr.json")
    if root is not None:
        names = _nodes_3(keys, root)
        leaves: tuple[str, ...] = ("zarr.json",)
    elif keys.read(".zgroup") is not None or keys.read(".zarray") is not None:
        names = _nodes_2(keys)
        leaves = (".zgroup", ".zarray", ".zattrs")
    else:
        raise NoData(
            f"There is no Zarr at {keys.name}.", next_step="name the address of its root, the folder of zarr.json or .zgroup"
        )
    if len(names) > _NODES:
        raise _refused(keys.name, f"has {len(names)} nodes, more than {_NODES}", "too-big")
    wanted = [f"{node}/{leaf}" if node else leaf for node in ("", *names) for leaf in leaves]
    with ThreadPoolExecutor(_AT_ONCE, initializer=patience().apply) as pool:
        found = dict(zip(wanted, pool.map(keys.read, wanted), strict=True))
    return {key: data for key, data in found.items() if data is not None}


def _nodes_3(keys: Keys, root: bytes) -> list[str]:
    document = _json(keys.name, root)
    consolidated = document.get("consolidated_metadata")
    if (listed := keys.listed()) is not None:
        return _names(keys.name, [key[: -len("/zarr.json")] for key in listed if key.endswith("/zarr.json")])
    if document.get("node_type") == "array":
        return []
    if not isinstance(consolidated, dict) or not isinstance(consolidated.get("metadata"), dict):
        raise _not_consolidated(keys.name)
    return _names(keys.name, list(consolidated["metadata"]))


def _nodes_2(keys: Keys) -> list[str]:
    if (listed := keys.listed()) is not None:
        nodes = [key.rpartition("/")[0] for key in listed if key.rpartition("/")[2] in (".zgroup", ".zarray")]
        return _names(keys.name, [node for node in dict.fromkeys(nodes) if node])
    consolidated = keys.read(".zmetadata")
    if consolidated is None:
        raise _not_consolidated(keys.name)
    metadata = _json(keys.name, consolidated).get("metadata")
    if not isinstance(metadata, dict):
        raise _refused(keys.name, "has consolidated metadata that are none", "unreadable")
    return _names(keys.name, [node for node in dict.fromkeys(key.rpartition("/")[0] for key in metadata) if node])


def _names(store: str, nodes: Sequence[str]) -> list[str]:
    """Return the nodes if all their paths stay inside the store. Raises SourceRejected."""
    for node in nodes:
        if not all(_NAME.fullmatch(part) and part not in (".", "..", NAME) for part in node.split("/")):
            raise _refused(store, "names a node that is no name", "unsafe")
    return list(nodes)


def _not_consolidated(name: str) -> SourceRejected:
    return _refused(
        name,
        "has no consolidated metadata, and over HTTP nobody can list what is in it",
        "unreadable",
        next_step="if it is a group, name the store that it is in, with --group; otherwise have it written with"
        " zarr.consolidate_metadata(store), or name it by a storage profile, which can list",
    )


def _json(name: str, data: bytes) -> dict[str, Any]:
    try:
        document = strict_json(data.decode(), nan=True)
    except (ValueError, RecursionError):
        if data.lstrip()[:1] == b"<":
            words = "has a page of HTML where metadata are expected: its server answers so for what it does not have"
            step = "name it by a storage profile, or copy it and ingest the copy: missing chunks could not be told from others"
            raise _refused(name, words, "unreadable", next_step=step) from None
        raise _refused(name, "has metadata that are not strict JSON", "unreadable") from None
    if not isinstance(document, dict):
        raise _refused(name, "has metadata that are not a JSON object", "unreadable")
    return document


def _arrays(name: str, documents: Mapping[str, bytes]) -> list[_Array]:
    found = []
    for key, data in documents.items():
        node, _, leaf = key.rpartition("/")
        if leaf == "zarr.json":
            document = _json(name, data)
            if document.get("node_type") == "array":
                found.append(_array_3(name, node, document))
        elif leaf == ".zarray":
            attributes = documents.get(f"{node}/.zattrs" if node else ".zattrs")
            found.append(_array_2(name, node, _json(name, data), _json(name, attributes) if attributes else {}))
    return found


def _array_3(name: str, node: str, document: Mapping[str, Any]) -> _Array:
    try:
        shape, grid, encoding = document["shape"], document["chunk_grid"], document["chunk_key_encoding"]
        if grid["name"] != "regular" or encoding["name"] not in ("default", "v2"):
            raise ValueError
        default = encoding["name"] == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if default else ".")
        lengths = _lengths(shape, grid["configuration"]["chunk_shape"])
        attributes, dims = document.get("attributes", {}), document.get("dimension_names")
        return _array(node, lengths, separator, "c" if default else None, attributes, dims)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _refused(name, f"has metadata that do not fit Zarr version 3: {node[:80]}", "unreadable") from None


def _array_2(name: str, node: str, document: Mapping[str, Any], attributes: Mapping[str, Any]) -> _Array:
    try:
        lengths = _lengths(document["shape"], document["chunks"])
        separator = document.get("dimension_separator", ".")
        return _array(node, lengths, separator, None, attributes, attributes.get("_ARRAY_DIMENSIONS"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _refused(name, f"has metadata that do not fit Zarr version 2: {node[:80]}", "unreadable") from None


def _lengths(shape: Any, chunks: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of an array and of its chunks. Raises ValueError."""
    if not isinstance(shape, list) or not isinstance(chunks, list) or len(shape) != len(chunks) or len(shape) > 64:
        raise ValueError("not a grid")
    if not all(type(n) is int and 0 <= n <= _LONGEST_LENGTH for n in shape) or not all(type(n) is int and n > 0 for n in chunks):
        raise ValueError("not a grid")
    return tuple(shape), tuple(chunks)


def _array(
    node: str,
    lengths: tuple[tuple[int, ...], tuple[int, ...]],
    separator: Any,
    prefix: str | None,
    attributes: Mapping[str, Any],
    dims: Any,
) -> _Array:
    if separator not in ("/", "."):
        raise ValueError("not a separator")

    words = {word for key in REFERENCES if isinstance(attributes.get(key), str) for word in re.findall(r"[^\s:]+", attributes[key])}
    named = tuple(map(str, dims)) if isinstance(dims, list) else None
    return _Array(node, named, *lengths, separator, prefix, frozenset(words))


def _chosen(arrays: Sequence[_Array], group: str, variables: Sequence[str]) -> list[_Array]:
    """Return the wanted arrays of *group*, with the arrays that they refer to, there and in the groups above."""
    above = {"", *(group[:n] for n, c in enumerate(group) if c == "/"), group}
    own = [each for each in arrays if each.group == group]
    if not variables and not group:
        return list(arrays)
    wanted = [each for each in own if each.label in variables] if variables else own
    if not wanted:
        return own  # the gate reports what is missing
    reachable = {each.path: each for each in arrays if each.group in above}
    chosen = {each.path: each for each in wanted}
    front = list(wanted)
    while front:
        each = front.pop()
        for label in {*(each.dims or ()), *each.words}:
            for path, other in reachable.items():
                if other.label == label.rpartition("/")[2] and path not in chosen:
                    chosen[path] = other
                    front.append(other)
    return [each for each in arrays if each.path in chosen]


def _refused(name: str, text: str, reason: str, **rest: Any) -> SourceRejected:
    return SourceRejected(f"{name[:200]} {text}.", reason=reason, source=name[:200], **rest)
