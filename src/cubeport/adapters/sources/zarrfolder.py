"""The metadata of a Zarr store in a folder, version 2 or 3, read only through descriptors.

First the tree is searched. A link, FIFO or device anywhere in it refuses the store, because a library would follow it. Then only
the metadata documents are read, as strict JSON. Consolidated metadata are not read, because they can differ from the arrays.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.scanned import (
    Array,
    Arrays,
    Scanned,
    SourceTexts,
    bad_codec,
    chunk_count,
    rejected,
    shown,
    unreadable,
    unsafe,
)
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.errors import SourceRejected

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_CODECS = frozenset(
    ("bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "zlib", "zstd", "blosc", "lz4", "shuffle", "delta")
) | {"fixedscaleoffset", "packbits", "vlen-utf8"}
"""The allowed codecs. Others, such as pickle and json2, can contain code or references, even inside another codec."""
_RUNS_CODE = frozenset(("pickle", "msgpack", "msgpack2", "json", "json2", "categorize"))

_COMPRESSORS = frozenset(("gzip", "zlib", "zstd", "blosc", "lz4"))
_KEEP_LENGTH = frozenset(("bytes", "transpose", "shuffle", "crc32c"))
_METADATA = frozenset((".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"))

_INSTEAD = "write numbers, or texts with vlen-utf8"

_PLAIN_2 = re.compile(r"[<>|=]?([biufcMm])([1-9]\d{0,3})(?:\[[a-zA-Z0-9]{1,8}\])?")
_TEXT_2 = re.compile(r"[<>|=]?([SU])(\d{1,9})")
_SIZES_3 = {
    "bool": 1,
    "string": 16,
    "complex64": 8,
    "complex128": 16,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "numpy.datetime64": 8,
    "numpy.timedelta64": 8,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_COUNTED_3 = frozenset(("fixed_length_utf32", "null_terminated_bytes", "fixed_length_ascii"))
_LARGEST = 2**63 - 1


def scan(name: str, descriptor: int, limits: SourceLimits) -> Scanned:
    """Return the arrays that the store declares. Everything must be in the folder, decodable and within the limits."""
    files = _walk(name, descriptor, limits)
    if not files:
        raise rejected(name, "is an empty folder", "empty", "bring a Zarr store")
    store = _Store(name, descriptor, limits, files)
    leaves = {key.rpartition("/")[2] for key in files}
    if "zarr.json" in leaves and leaves & {".zgroup", ".zarray"}:
        raise unreadable(name, "has metadata of both Zarr version 2 and version 3, which may contradict each other")
    if "zarr.json" in files:
        arrays, version = _version_3(store), "zarr3"
    elif ".zgroup" in files or ".zarray" in files:
        arrays, version = _version_2(store), "zarr2"
    else:
        raise unreadable(name, "is a folder without zarr.json or .zgroup")
    stored = sum(files.values())
    return Scanned(name, version, stored, arrays.done(stored), warnings=tuple(store.warnings))


def verify(
    name: str, descriptor: int, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()
) -> None:
    """Check that no stored chunk of the arrays of *group*, except those in *left_out*, decodes to more than its limit.

    Decoders allocate the size that a chunk declares (8 kB of zstd became 256 MiB before zarr refused it), so the declared size is
    read first. For shards, and for zstd without a declared size, only the memory limit applies.

    Raises
    ------
    SourceRejected
        ``bad-codec``, if a chunk decodes to more.
    """
    inside = f"{group}/" if group else ""
    found = scan(name, descriptor, limits)
    arrays = {each.path: each for each in found.arrays if each.path.removeprefix(inside) not in left_out}
    chunks = [
        (key, array)
        for key in _walk(name, descriptor, limits)
        if key.startswith(inside) and key.rpartition("/")[2] not in _METADATA and (array := _owner(key, arrays)) is not None
    ]
    for (_, array), is_bounded in zip(chunks, pool.map(partial(_is_bounded, descriptor, limits), chunks), strict=True):
        if not is_bounded:
            raise bad_codec(name, f"has a chunk of {shown(array.path)} that decodes to more than its declared length")


def _owner(key: str, arrays: Mapping[str, Array]) -> Array | None:
    """Return the array to which the chunk *key* can belong, which is the nearest one above it."""
    while key:
        key = key.rpartition("/")[0]
        if key in arrays:
            return arrays[key]
    return None


def _is_bounded(descriptor: int, limits: SourceLimits, chunk: tuple[str, Array]) -> bool:
    key, array = chunk
    compressors = [each for each in array.codecs if each not in _KEEP_LENGTH]
    last = next((each for each in reversed(array.codecs) if each != "crc32c"), "bytes")
    if last not in _COMPRESSORS:
        return True
    declared = math.prod(array.chunks or array.shape) * array.item_bytes
    most = declared + 64 if compressors == [last] else limits.chunk_bytes  # 64 for checksums inside
    with opened_key(descriptor, key) as file:
        size = os.fstat(file).st_size
        match last:
            case "zstd":
                return _zstd_length(os.pread(file, 18, 0)) <= most
            case "blosc":
                return int.from_bytes(os.pread(file, 4, 4), "little") <= most
            case "lz4":
                return int.from_bytes(os.pread(file, 4, 0), "little") <= most
        return size <= most + most // 8 + 4_096 and _inflates(os.pread(file, size, 0), most)


def _zstd_length(head: bytes) -> int:
    """Return the decoded length that a zstd frame declares, or 0 if it declares none (RFC 8878, 3.1.1.1)."""
    if len(head) < 6 or not head.startswith(b"\x28\xb5\x2f\xfd"):
        return 0
    is_single = head[4] >> 5 & 1
    width = (is_single, 2, 4, 8)[head[4] >> 6]
    at = 5 + (1 - is_single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)


def _inflates(body: bytes, most: int) -> bool:
    """Return whether zlib or gzip data decode to at most *most* bytes, checked in pieces. The decoder refuses invalid data."""
    inflater = zlib.decompressobj(wbits=47)  # zlib or gzip header
    length = 0
    try:
        while body and not inflater.eof and length <= most:
            length += len(inflater.decompress(body, 1 << 20))
            body = inflater.unconsumed_tail
    except zlib.error:
        pass
    return length <= most


def _walk(name: str, descriptor: int, limits: SourceLimits) -> dict[str, int]:
    """Return the size of every file by path. Anything but regular files and folders refuses the store."""
    return listing(name, descriptor, limits)[0]


def listing(name: str, descriptor: int, limits: SourceLimits) -> tuple[dict[str, int], set[str]]:
    """Return the size of every file by path, and the paths of all folders.

    Raises
    ------
    SourceRejected
        ``unsafe``, for anything but regular files and folders; ``too-big``, for more of them than allowed.
    """
    files: dict[str, int] = {}
    folders: set[str] = set()

    def walk(folder: int, path: str, depth: int) -> None:
        # Arrays can be `limits.depth` levels deep, and their chunks one more level for each dimension.
        limits.check("depth", depth - limits.dimensions, f"{name}: depth of folders", source=name)
        with os.scandir(folder) as found:
            for entry in found:
                if len(files) + len(folders) >= limits.chunks + 4 * limits.objects:
                    raise limits.too_big("chunks", len(files) + len(folders), f"{name}: number of files", source=name)
                here = f"{path}{entry.name}"
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    files[here] = status.st_size
                elif stat.S_ISDIR(status.st_mode):
                    folders.add(here)
                    with _opened(entry.name, _FOLDER, folder) as inner:
                        walk(inner, f"{here}/", depth + 1)
                else:
                    raise unsafe(name, f"holds {shown(here)}, which is neither a file nor a folder", "copy it without links")

    try:
        walk(descriptor, "", 0)
    except OSError as error:
        raise unreadable(name, "changed while it was read, or cannot be listed") from error
    return files, folders


@contextlib.contextmanager
def _opened(name: str, flags: int, folder: int) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_key(store: int, key: str) -> Iterator[int]:
    """Open one file of the store, component by component."""
    *folders, file = key.split("/")
    with contextlib.ExitStack() as stack:
        for part in folders:
            store = stack.enter_context(_opened(part, _FOLDER, store))
        yield stack.enter_context(_opened(file, _FILE, store))


@dataclass(slots=True)
class _Store:
    name: str
    descriptor: int
    limits: SourceLimits
    files: Mapping[str, int]
    texts: SourceTexts = field(init=False)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = SourceTexts(self.name, self.limits)

    def check(self, limit: str, value: int, what: str) -> None:
        self.limits.check(limit, value, f"{self.name}: {what}", source=self.name)

    def document(self, key: str) -> dict[str, Any]:
        """Return the strict JSON object at *key*."""
        self.check("json_bytes", self.files[key], f"bytes of {shown(key)}")
        try:
            document = strict_json(self._read(key), nan=True)
        except RecursionError:
            raise self.limits.too_big(
                "json_depth", self.limits.json_depth + 1, f"{self.name}: nesting of {shown(key)}", source=self.name
            ) from None
        except ValueError as error:
            raise unreadable(self.name, f"does not have strict JSON in {shown(key)}") from error
        self._values(document, key, 0)
        if not isinstance(document, dict):
            raise unreadable(self.name, f"does not have a JSON object in {shown(key)}")
        return document

    def _read(self, key: str) -> str:
        try:
            with opened_key(self.descriptor, key) as descriptor:
                return os.pread(descriptor, self.limits.json_bytes + 1, 0).decode()
        except OSError as error:
            raise unreadable(self.name, f"changed while it was read: {shown(key)}") from error

    def _values(self, value: Any, where: str, depth: int) -> None:
        self.check("json_depth", depth, f"nesting of {shown(where)}")
        match value:
            case list():
                for each in value:
                    self._values(each, where, depth + 1)
            case dict():
                for key, each in value.items():
                    self.texts.check(where, key)
                    self._values(each, where, depth + 1)

    def attributes(self, where: str, attributes: Any) -> None:
        """Check attributes against the limits. Their characters were checked when they were read."""
        if not isinstance(attributes, dict):
            raise unreadable(self.name, f"has attributes that are not an object: {shown(where)}")
        for key, value in attributes.items():
            self.texts.size(len(key) + len(json.dumps(value)))

    def one_array(self) -> SourceRejected:
        return rejected(self.name, "is one array, not a group of arrays", "not-a-cube", "bring the group that holds the array")

    def fail(self, where: str, why: str) -> SourceRejected:
        return unreadable(self.name, f"has metadata that do not fit its format: {shown(where or 'the root')} {why}")


def _nodes(files: Mapping[str, int], leaf: str) -> list[str]:
    """Return the folders that contain *leaf*, parents first."""
    return sorted(key[: -len(leaf)].rstrip("/") for key in files if key == leaf or key.endswith(f"/{leaf}"))


# --- version 2 (zarr-specs, v2.0) -----------------------------------------------------------------------------------

_REQUIRED_2 = frozenset(("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters"))


def _version_2(store: _Store) -> Arrays:
    arrays = Arrays(store.name, store.limits)
    if ".zarray" in store.files:
        raise store.one_array()
    for where in _nodes(store.files, ".zgroup"):
        arrays.count()
        if store.document(_join(where, ".zgroup")) != {"zarr_format": 2}:
            raise store.fail(where, "is not a group of Zarr version 2")
    for where in _nodes(store.files, ".zarray"):
        arrays.count()
        arrays.add(_array_2(store, where, store.document(_join(where, ".zarray"))))
    for where in _nodes(store.files, ".zattrs"):
        store.attributes(where, store.document(_join(where, ".zattrs")))
    return arrays


def _array_2(store: _Store, where: str, document: dict[str, Any]) -> Array:
    if set(document) - {"dimension_separator"} != _REQUIRED_2 or document["zarr_format"] != 2:
        raise store.fail(where, "has missing or unknown members")
    if document["order"] not in ("C", "F") or document.get("dimension_separator", ".") not in (".", "/"):
        raise store.fail(where, "has an unknown order or separator")
    shape = _lengths(store, where, document["shape"], 0)
    chunks = _lengths(store, where, document["chunks"], 1)
    filters = document["filters"] or []
    if len(shape) != len(chunks) or not isinstance(filters, list):
        raise store.fail(where, "has chunks that do not fit its shape, or filters that are not a list")
    codecs = [*filters, *([document["compressor"]] if document["compressor"] is not None else [])]
    identities = _codecs(store, where, codecs, _configuration_2)
    if document["fill_value"] is None and chunks:
        wanted = chunk_count(shape, chunks)
        held = sum(key.startswith(f"{where}/") and key.rpartition("/")[2] not in _METADATA for key in store.files)
        if held < wanted:
            told = f"{wanted - held} of {wanted} chunks of {shown(where)!r} were never written, and it has no fill value"
            store.warnings.append(("chunks-missing", f"{told}: readers get zeros there, which are not data"))
    return Array(where, shape, _item_2(store, where, document["dtype"], identities), chunks, tuple(identities))


def _configuration_2(codec: Mapping[str, Any]) -> tuple[Any, Any]:
    return codec.get("id"), codec


def _item_2(store: _Store, where: str, dtype: Any, codecs: Sequence[str]) -> int:
    if dtype == "|O":
        if codecs[:1] != ["vlen-utf8"]:
            raise unsafe(store.name, f"keeps Python objects in {shown(where)}", _INSTEAD)
        return 16
    if isinstance(dtype, str) and (found := _PLAIN_2.fullmatch(dtype)):
        return int(found[2])
    if isinstance(dtype, str) and (found := _TEXT_2.fullmatch(dtype)):
        return int(found[2]) * (4 if found[1] == "U" else 1)
    raise bad_codec(store.name, f"has items of a type that a cube cannot contain in {shown(where)}")


# --- version 3 (zarr-specs, v3.1) -----------------------------------------------------------------------------------

_GROUP_3 = frozenset(("zarr_format", "node_type"))
_REQUIRED_3 = frozenset(
    ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")
)
_OPTIONAL_3 = frozenset(("attributes", "dimension_names", "storage_transformers"))


def _version_3(store: _Store) -> Arrays:
    arrays = Arrays(store.name, store.limits)
    for where in _nodes(store.files, "zarr.json"):
        arrays.count()
        document = store.document(_join(where, "zarr.json"))
        store.attributes(where, document.get("attributes", {}))
        match document.get("zarr_format"), document.get("node_type"):
            case 3, "group":
                _known(
                    store,
                    where,
                    document,
                    _GROUP_3,
                    frozenset(("attributes", "consolidated_metadata")),
                )
            case 3, "array" if where:
                arrays.add(_array_3(store, where, document))
            case 3, "array":
                raise store.one_array()
            case _:
                raise store.fail(where, "is neither a group nor an array of Zarr version 3")
    return arrays


def _known(store: _Store, where: str, document: Mapping[str, Any], required: frozenset[str], optional: frozenset[str]) -> None:
    """Refuse a document with an unknown member, unless the member has ``must_understand: false`` (Zarr v3, "Extensions")."""
    extra = [
        key
        for key, value in document.items()
        if key not in required | optional and not (isinstance(value, dict) and value.get("must_understand") is False)
    ]
    if extra or not required <= set(document):
        raise store.fail(where, "has missing or unknown members")


def _array_3(store: _Store, where: str, document: dict[str, Any]) -> Array:
    _known(store, where, document, _REQUIRED_3, _OPTIONAL_3)
    if document.get("storage_transformers"):
        raise bad_codec(store.name, f"transforms the storage of {shown(where)}")
    shape = _lengths(store, where, document["shape"], 0)
    match document["chunk_grid"]:
        case {"name": "regular", "configuration": {"chunk_shape": list(lengths)}}:
            chunks = _lengths(store, where, lengths, 1)
        case _:
            raise store.fail(where, "has a chunk grid that is not regular")
    match document["chunk_key_encoding"]:
        case "default" | "v2" | {"name": "default" | "v2"}:
            pass
        case _:
            raise store.fail(where, "names its chunks in an unknown way")
    if len(chunks) != len(shape):
        raise store.fail(where, "has chunks that do not fit its shape")
    identities = _codecs(store, where, document["codecs"], _configuration_3)
    item = _item_3(store, where, document["data_type"], identities)
    inner = _inner_chunks(store, where, document["codecs"], chunks)
    if inner != chunks:  # the decoded chunks are those inside the shards
        store.check("chunks", chunk_count(shape, chunks), f"shards of {shown(where)}")
    return Array(where, shape, item, inner, tuple(identities))


def _configuration_3(codec: Mapping[str, Any]) -> tuple[Any, Any]:
    if set(codec) - {"name", "configuration", "must_understand"}:
        return None, None
    return codec.get("name"), codec.get("configuration", {})


def _item_3(store: _Store, where: str, kind: Any, codecs: Sequence[str]) -> int:
    match {"name": kind} if isinstance(kind, str) else kind:
        case {"name": "string"} if "vlen-utf8" not in codecs:
            raise unsafe(store.name, f"keeps Python objects in {shown(where)}", _INSTEAD)
        case {"name": str(name)} if name in _SIZES_3:
            return _SIZES_3[name]
        case {"name": str(name), "configuration": {"length_bytes": int(length)}} if name in _COUNTED_3 and 0 <= length <= _LARGEST:
            return length
    raise bad_codec(store.name, f"has items of a type that a cube cannot contain in {shown(where)}")


def _inner_chunks(store: _Store, where: str, codecs: Any, chunks: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that is decoded at a time: the chunk, or the innermost chunk of a shard."""
    for codec in codecs:
        if isinstance(codec, dict) and codec.get("name") == "sharding_indexed":
            inner = _lengths(store, where, codec["configuration"].get("chunk_shape"), 1)
            if len(inner) != len(chunks) or any(outer % part for outer, part in zip(chunks, inner, strict=True)):
                raise store.fail(where, "has shards that its chunks do not fill")
            return _inner_chunks(store, where, codec["configuration"]["codecs"], inner)
    return chunks


# --- both -----------------------------------------------------------------------------------------------------------


def _codecs(
    store: _Store, where: str, codecs: Any, configuration: Callable[[Mapping[str, Any]], tuple[Any, Any]], depth: int = 0
) -> list[str]:
    """Return the names of the codecs in order. All must be allowed and have plain settings, including codecs inside shards."""
    if not isinstance(codecs, list):
        raise store.fail(where, "has codecs that are not a list")
    store.check("filters", len(codecs) + depth, f"codecs of {shown(where)}")
    names = []
    for codec in codecs:
        name, settings = configuration(codec) if isinstance(codec, dict) else (codec, {})
        plain = str(name).removeprefix("numcodecs.")
        if plain in _RUNS_CODE:
            raise unsafe(store.name, f"keeps Python objects in {shown(where)} by the codec {plain}", _INSTEAD)
        if plain not in _CODECS or not isinstance(settings, dict):
            raise bad_codec(store.name, f"encodes {shown(where)} with {shown(plain)}, which is not on the list")
        if not all(_is_plain(settings[key]) for key in ("dtype", "astype") if key in settings):
            raise unsafe(store.name, f"decodes {shown(where)} into Python objects", _INSTEAD)
        if plain == "sharding_indexed":
            for inner in ("codecs", "index_codecs"):
                _codecs(store, where, settings.get(inner), configuration, depth + 1)
        names.append(plain)
    return names


def _is_plain(dtype: Any) -> bool:
    return dtype is None or (isinstance(dtype, str) and _PLAIN_2.fullmatch(dtype) is not None)


def _lengths(store: _Store, where: str, value: Any, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and least <= each <= _LARGEST for each in value):
        raise store.fail(where, "has lengths that are not whole numbers")
    store.check("dimensions", len(value), f"dimensions of {shown(where)}")
    return tuple(value)


def _join(where: str, leaf: str) -> str:
    return f"{where}/{leaf}" if where else leaf
