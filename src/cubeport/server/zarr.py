"""Raw Zarr over HTTP, from the key grammar to the engine and its bytes. It is a small ASGI application that runs before the
framework.

A key is checked against the grammar and the shapes of the version's arrays before the store is read. Its ETag depends only on
version and key, so a 304 opens no file. Absent is not unreadable: the answer is 404 only if the grammar, the shape or the manifest
says that there is no such object, because a reader fills a missing chunk with fill values. Versions that were published before (and
then unpublished, deleted or removed) answer 410, which all clients raise as an error.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import ceil, prod
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

from cubeport.catalog.forms.canonical import is_id
from cubeport.cubes import keys
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.description import CubeDescription, Variable
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, CubeportError, Gone, InvalidRequest, NotFound, StoreUnavailable
from cubeport.server import incoming, problems, replies
from cubeport.server.files import EXTENSION, Answer, FilePart, Headers, is_cached, lines
from cubeport.server.freshness import Freshness
from cubeport.server.parts import Bytes
from cubeport.service.ports import Reader, StoredObject
from cubeport.service.viewing import RESTRICTED, sees

PIECE = 4 << 20
"""How many bytes are read at a time, so that memory use does not depend on the size of an answer."""

PAGE = 1_000
"""How many entries a listing contains."""

_WORTH = 32 << 10
"""From this size in bytes, it is cheaper to let the kernel send a file than to copy it."""

_KNOWN = 1_024
"""How many resolved addresses are cached within one generation of the catalog."""

_PLANS = 4_096
"""For how many addresses of objects it is kept, within one generation, how they are answered."""

_DOCUMENTS = 8 << 20
"""How many bytes of metadata documents are kept in memory. Opening and reading a small file costs more than answering."""

_DOCUMENT = 256 << 10
"""The size in bytes of the largest document that is kept."""

_REF = re.compile(r"(?P<id>[a-z0-9][a-z0-9_-]{0,63})(?:@(?P<ref>[a-z0-9][a-z0-9._-]{0,63}?))?(?P<suffix>\.zarr)?", re.ASCII)
_ZARR_2 = frozenset({".zgroup", ".zattrs", ".zarray", ".zmetadata"})
_DIGITS = 18
"""How many digits of a byte position are read. No file has so many bytes."""
type _Take = Callable[[BinaryIO, int, int], Awaitable[FilePart | bytes | bytearray]]

_RANGE = re.compile(r"\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)


def parse_ref(segment: str) -> str | None:
    """Return ``id`` or ``id@ref`` from the first path segment, without ``.zarr``; ``None`` if it is neither."""
    match = _REF.fullmatch(segment)
    if match is None:
        return None
    return f"{match['id']}@{match['ref']}" if match["ref"] else match["id"]


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte of a ``Range`` and the byte after its last; ``None`` means the whole object.

    Raises
    ------
    Unsatisfiable
        For a malformed or empty byte range. Several ranges and other units get the whole object (RFC 9110, 14.2).
    """
    if header is None:
        return None
    unit, _, ranges = header.partition("=")
    if unit.strip().lower() != "bytes" or "," in ranges:
        return None
    match = _RANGE.fullmatch(ranges)
    if match is None or not (match[1] or match[2]):
        raise Unsatisfiable
    first, last = _place(match[1]), _place(match[2])
    begin = first if first is not None else max(0, size - (last or 0))
    end = min(last + 1, size) if first is not None and last is not None else size
    if begin >= end:
        raise Unsatisfiable
    return begin, end


def _place(digits: str) -> int | None:
    """Return a byte position. All positions beyond any file are equivalent."""
    return int(digits.lstrip("0")[: _DIGITS + 1] or 0) if digits else None


class Unsatisfiable(Exception):
    """The range is outside the object."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The nodes of one version: groups, and arrays with the number of chunks along each axis."""

    arrays: Mapping[str, Variable]
    groups: frozenset[str]

    @classmethod
    def of(cls, cube: CubeDescription) -> Tree:
        """Return the nodes of a description."""
        arrays = {variable.name: variable for variable in cube.variables}
        parents = {name.rsplit("/", n)[0] for name in arrays for n in range(1, name.count("/") + 1)}
        return cls(arrays, frozenset({"", *parents}))

    def has(self, node: str, indices: Sequence[int] | None) -> bool:
        """Return whether the version can have a key with this node and these indices."""
        if indices is None:
            return node in self.arrays or node in self.groups
        array = self.arrays.get(node)
        if array is None or len(indices) != len(array.shape):
            return False
        # The limit is that of the inner chunks. A sharded array has fewer keys, and the manifest decides.
        return all(index * chunk < size for index, chunk, size in zip(indices, array.chunks, array.shape, strict=True))

    def children(self, group: str) -> list[tuple[str, str]]:
        """Return the name and kind of each member of a group, sorted by name."""
        below = f"{group}/" if group else ""
        nodes = {*self.arrays, *self.groups} - {group}
        names = {node[len(below) :].split("/")[0] for node in nodes if node.startswith(below)}
        return sorted([*((name, "directory") for name in names if name), ("zarr.json", "file")])


@dataclass(frozen=True, slots=True)
class Known:
    """The version of one address in one generation of the catalog."""

    dataset_id: str
    version_id: str
    tree: Tree
    immutable: bool
    record_version: int
    levels: int = 0
    """Overviews, as groups ``1``, ``2`` and so on; ``0`` is the cube itself."""
    visibility: str | None = None
    created_by: str | None = None


@dataclass(frozen=True)
class Plan:
    """How an object is answered: what a path names as long as nothing is committed."""

    known: Known
    key: str
    """The key in the store."""
    named: keys.Key
    read: Callable[[str, str, str], StoredObject | None]

    @cached_property
    def tag(self) -> str:
        """The ETag, which depends only on the version and the key."""
        return f'"{self.known.version_id[:16]}-{sha256(self.key.encode()).hexdigest()[:16]}"'

    @cached_property
    def headers(self) -> Headers:
        """The headers of every answer, also of 304."""
        return (*_headers(self.known), (b"etag", self.tag.encode()))

    @property
    def of_bytes(self) -> Headers:
        """The further headers of an answer with bytes, without their number."""
        media_type = b"application/json" if self.named.indices is None else b"application/octet-stream"
        return ((b"content-type", media_type), (b"accept-ranges", b"bytes"))

    @cached_property
    def lines(self) -> bytes:
        """The lines of :attr:`headers`."""
        return lines(self.headers)

    @cached_property
    def lines_of_bytes(self) -> bytes:
        """The lines of :attr:`of_bytes`."""
        return lines(self.of_bytes)


class Address(NamedTuple):
    """A parsed path below ``/zarr/``."""

    ref: str
    """The first segment, as given."""
    name: str
    """``id`` or ``id@ref``."""
    path: str
    key: keys.Key | None
    """The path as a key; ``None`` if it is the path of a group or an array, or empty."""

    @property
    def asks_for_zarr_2(self) -> bool:
        """Whether it is that of a document of Zarr v2. Each opening by zarr-python asks for three of them beside ``zarr.json``."""
        return self.key is None and self.path.rpartition("/")[2] in _ZARR_2

    @classmethod
    def parse(cls, raw: bytes) -> Address:
        """Return the address of a raw path. Raises NotFound if the path cannot be one."""
        ref, _, path = _decoded(raw).partition("/")
        name = parse_ref(ref)
        if name is None:
            raise _no_path()
        return cls(ref, name, path, keys.parse(path) if path else None)


class ZarrFace:
    """Serves ``/zarr/{id}[@ref][/{key}]``.

    Parameters
    ----------
    offload_prefix
        If set, the proxy in front sends the bytes (``X-Accel-Redirect``). This class still decides status, ETag and access.
    freshness
        With it, the number of the last commit is read off the event loop, once for many requests.
    """

    def __init__(
        self,
        service: Bytes,
        engine: Reader,
        public_url: str,
        *,
        offload_prefix: str | None = None,
        freshness: Freshness | None = None,
    ) -> None:
        self._service = service
        self._engine = engine
        self._public_url = public_url
        self._url = f"{public_url}/zarr"
        self._offload_prefix = offload_prefix
        self._freshness = freshness
        self._generation = -1
        self._known: Bounded[str, Known] = Bounded(_KNOWN)
        self._plans: Bounded[bytes, Plan] = Bounded(_PLANS)
        self._trees: Bounded[str, Tree] = Bounded(_KNOWN)
        self._documents: Bounded[tuple[str, str, str], bytes] = Bounded(_DOCUMENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI; no body is read)
        """Answer GET and HEAD for ``scope["cubeport.path"]``, the raw path below ``/zarr/``."""
        address = Address.parse(scope["cubeport.path"])
        if address.key is not None:
            await self.answer_object(address, scope, send)
        elif keys.is_path(address.path):
            await self._document(scope, send, self._look(address.name, await self._fresh()), address.path, address.ref)
        else:
            raise _no_path()

    async def answer_object(self, address: Address, scope: Scope, send: Send) -> None:
        """Answer GET and HEAD for the address of an object, which has a key."""
        assert address.key is not None
        known = self._held(address.name, address.key, await self._fresh())
        plan = self._plan(known, address.path, *address.key)
        if known.visibility not in RESTRICTED:
            self._plans.put(scope["cubeport.path"], plan)
        await self._object(scope, send, plan)

    async def answer_absent(self, address: Address, scope: Scope, send: Send) -> None:
        """Answer GET and HEAD for something that no version has, without the cost of an exception and of a page for it."""
        await self._absent(send, self._look(address.name, await self._fresh()), scope)

    async def _fresh(self) -> int | None:
        return None if self._freshness is None else await self._freshness()

    def _held(self, name: str, key: keys.Key, generation: int | None = None) -> Known:
        """Return the version of the address of an object.

        Raises
        ------
        Gone
            If it was published and no longer is: a reader that has it open would read 404 as a chunk of fill values.
        NotFound
            If it was never published.
        """
        try:
            return self._look(name, generation)
        except Gone:
            raise
        except NotFound as error:
            # A client that requests a chunk has read the metadata, also if the tag no longer exists.
            held = name.partition("@")[0] if key.indices is not None and not is_id(name.partition("@")[2]) else name
            if self._service.was_shown(held):
                raise _gone(name) from error
            raise

    def _look(self, name: str, generation: int | None = None) -> Known:
        # Read for each request, so that a commit of any process is visible immediately. Within one generation nothing changes.
        if generation is None:
            generation = self._service.generation()
        if generation != self._generation:
            self._known.clear()
            self._plans.clear()
            self._generation = generation
        known = self._known.get(name)
        if known is None:
            shown = self._service.shown(name)
            version_id = shown.version.version_id
            immutable = name.partition("@")[2] == version_id
            known = Known(
                shown.texts.dataset_id,
                version_id,
                self._tree(shown),
                immutable,
                shown.record_version,
                shown.description.overview_levels,
                shown.visibility,
                shown.created_by,
            )
            self._known.put(name, known)
        elif known.visibility is not None and not sees(known):
            self._service.shown(name)  # raises as for a dataset that does not exist
        return known

    def _tree(self, shown: PublishedView) -> Tree:
        name = f"{shown.texts.dataset_id}@{shown.version.version_id}"
        tree = self._trees.get(name)
        if tree is None:
            tree = Tree.of(shown.description)
            self._trees.put(name, tree)
        return tree

    def _plan(self, known: Known, key: str, node: str, indices: tuple[int, ...] | None) -> Plan:
        """Return how the object is answered. Raises NotFound if the version can have no such object."""
        read = self._engine.read
        if not known.tree.has(node, indices):
            level, _, below = key.partition("/")
            if not (known.levels and level.isdecimal() and below and int(level) <= known.levels):
                raise _no_path()
            if level == "0":
                key, node = below, node.partition("/")[2]
                if not known.tree.has(node, indices):
                    raise _no_path()
            else:
                read = self._engine.overview
        return Plan(known, key, keys.Key(node, indices), read)

    async def _object(self, scope: Scope, send: Send, plan: Plan) -> None:
        known, key, tag = plan.known, plan.key, plan.tag
        asked = _asked(scope)
        wanted = asked.get(b"if-none-match")
        if wanted is not None and wanted.strip() != "*" and replies.fits(wanted, tag):
            await _send(send, 304, plan.headers)
            return
        address = known.dataset_id, known.version_id
        is_kept = plan.named.indices is None and self._offload_prefix is None
        stored = self._kept((*address, key)) if is_kept else None
        if stored is None:
            try:
                stored = await off_the_loop(self._engine, *address, plan.read, *address, key)
            except Corrupt:
                # Bytes that were removed between reading the record and this read are gone, not damaged.
                self._held(f"{known.dataset_id}@{known.version_id}", plan.named)
                raise
            if is_kept and stored is not None and stored.size <= _DOCUMENT:
                stored = await self._keep((*address, key), stored)
        if stored is None:
            await self._absent(send, known, scope)
            return
        with stored.file:
            if wanted is not None and replies.fits(wanted, tag):
                await _send(send, 304, plan.headers)
                return
            headers = [*plan.headers, *plan.of_bytes]
            offloaded = self._offload_prefix is not None and plan.read == self._engine.read
            place = self._engine.place(known.dataset_id, known.version_id, key) if offloaded else None
            if place is not None:
                headers.append((b"x-accel-redirect", f"{self._offload_prefix}{place}".encode()))
                await _send(send, 200, headers)
                return
            await send_object(scope, send, stored, headers, tag)

    def at_once(self, raw: bytes, headers: Headers) -> Answer | None:
        """Return the answer to GET for a path that was read since the last commit, without the lines that all answers have.

        Returns
        -------
        Answer | None
            ``None`` if it is not known, waits for a disk or another machine, or is an error. Calling this face gives that answer.
        """
        if self._freshness is not None or self._offload_prefix is not None:
            return None
        try:
            if self._service.generation() != self._generation or (plan := self._plans.get(raw)) is None:
                return None
            return self._answer(plan, {name: value.decode("latin-1") for name, value in headers if name in _ASKED})
        except (CubeportError, OSError, Unsatisfiable):
            return None  # the call finds it again, and says it

    def _answer(self, plan: Plan, asked: Mapping[bytes, str]) -> Answer | None:
        wanted = asked.get(b"if-none-match")
        if wanted is not None and (wanted == plan.tag or replies.fits(wanted, plan.tag)):
            return None if wanted.strip() == "*" else Answer(304, plan.lines)
        address = plan.known.dataset_id, plan.known.version_id, plan.key
        if plan.named.indices is None:
            content = self._documents.get(address)
            if content is None or b"range" in asked:
                return None
            return Answer(200, b"%s%scontent-length: %d\r\n" % (plan.lines, plan.lines_of_bytes, len(content)), content)
        stored = None if self._engine.waits(*address[:2]) else plan.read(*address)
        if stored is None:
            return None
        answer = None
        try:
            answer = _whole_answer(plan, stored, asked)
        finally:
            if answer is None or answer.file is None:
                stored.file.close()
        return answer

    def _kept(self, name: tuple[str, str, str]) -> StoredObject | None:
        """Return a metadata document that was read before. A version never changes."""
        content = self._documents.get(name)
        return None if content is None else StoredObject(io.BytesIO(content), len(content), "")

    async def _keep(self, name: tuple[str, str, str], stored: StoredObject) -> StoredObject:
        with stored.file:
            content = bytes(await _read(stored.file, stored.offset, stored.size))
        self._documents.put(name, content, len(content))
        return StoredObject(io.BytesIO(content), len(content), stored.digest)

    async def _absent(self, send: Send, known: Known, scope: Scope) -> None:
        """Answer for a chunk that the version never had. The client fills it, so this is not an error."""
        missing = NotFound("The version has no such object", what="data")
        body = problems.body(missing, public_url=self._public_url, request_id=scope["cubeport.request_id"])
        headers = [*_headers(known), (b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
        await _send(send, 404, headers, b"" if scope["method"] == "HEAD" else body)

    async def _document(self, scope: Scope, send: Send, known: Known, path: str, ref: str) -> None:
        values = incoming.query(scope["query_string"], ListingQuery)
        if values.f == "manifest":
            if path:
                raise InvalidRequest("The manifest is that of the whole version", next_step=f"Ask {self._url}/{ref}?f=manifest.")
            build: Callable[[], bytes] = lambda: self._engine.manifest(known.dataset_id, known.version_id)  # noqa: E731
        elif path in known.tree.arrays or path in known.tree.groups:
            build = lambda: replies.dumps(self._listing(known, path, ref, values.cursor))  # noqa: E731
        else:
            raise _no_path()
        query = scope["query_string"].decode("latin-1")
        tag = replies.etag(known.version_id, "listing", ref, path, query, known.record_version, replies.REVISION, self._url)
        headers = [*_headers(known, immutable=False), (b"etag", tag.encode())]
        if replies.fits(_asked(scope).get(b"if-none-match"), tag):
            await _send(send, 304, headers)
            return
        body = await off_the_loop(self._engine, known.dataset_id, known.version_id, build)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)

    def _listing(self, known: Known, path: str, ref: str, cursor: str | None) -> dict[str, object]:
        base = f"{self._url}/{ref}"
        here = f"{base}/{path}" if path else base
        array = known.tree.arrays.get(path)
        children = [("zarr.json", "file")] if array else known.tree.children(path)
        page = [child for child in children if cursor is None or child[0] > cursor][: PAGE + 1]
        more, page = len(page) > PAGE, page[:PAGE]
        pinned = f"{self._url}/{known.dataset_id}@{known.version_id}"
        links = [
            {"href": here, "rel": "self", "type": "application/json", "title": "This listing"},
            {"href": base, "rel": "root", "type": "application/json", "title": "The root of the cube"},
            {"href": pinned, "rel": "version", "type": "application/json", "title": "This version, which never changes"},
            {
                "href": f"{pinned}?f=manifest",
                "rel": "manifest",
                "type": "application/json",
                "title": "Every object with its sha256",
            },
        ]
        if path:
            parent = f"{base}/{path.rpartition('/')[0]}".rstrip("/")
            links.append({"href": parent, "rel": "up", "type": "application/json", "title": "The parent group"})
        if more:
            links.append(
                {"href": f"{here}?cursor={page[-1][0]}", "rel": "next", "type": "application/json", "title": "More entries"}
            )
        listing: dict[str, object] = {
            "kind": "ZarrListing",
            "dataset_id": known.dataset_id,
            "version_id": known.version_id,
            "path": path,
            "entries": [{"name": name, "kind": kind, "href": f"{here}/{name}"} for name, kind in page],
            "links": links,
        }
        if array is not None:
            grid = [ceil(size / chunk) if chunk else 0 for size, chunk in zip(array.shape, array.chunks, strict=True)]
            listing |= {"shape": array.shape, "chunks": array.chunks, "shards": None, "chunk_count": prod(grid)}
        return listing


class ListingQuery(incoming.Model):
    """The parameters of a listing."""

    f: str | None = None
    cursor: str | None = None


def _decoded(raw: bytes) -> str:
    """Return the path with each segment percent-decoded once. A decoded separator matches no grammar."""
    if b"%" not in raw:
        return raw.decode("latin-1")
    segments = [unquote_to_bytes(segment).decode("latin-1") for segment in raw.split(b"/")]
    if any("/" in segment or "%" in segment for segment in segments):
        raise _no_path()
    return "/".join(segments)


def shown_or_gone(service: Bytes, name: str) -> PublishedView:
    """Return the published version that an address of a view names.

    Raises
    ------
    Gone
        If it was published and no longer is: a reader that has it open would read 404 as a chunk of fill values.
    NotFound
        If it was never published.
    """
    try:
        return service.shown(name)
    except Gone:
        raise
    except NotFound as error:
        if service.was_shown(name):
            raise _gone(name) from error
        raise


async def send_document(
    scope: Scope, send: Send, tag: str, build: Callable[[], bytes], version_id: str, *, cache: str = replies.NO_CACHE
) -> None:
    """Answer GET and HEAD with a JSON document of a version, or 304 without building it."""
    headers = [(b"cache-control", cache.encode()), (b"cubeport-version", version_id.encode()), (b"etag", tag.encode())]
    if replies.fits(_asked(scope).get(b"if-none-match"), tag):
        await _send(send, 304, headers)
        return
    body = build()
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)


def _gone(name: str) -> Gone:
    return Gone(
        f"{name[:160]} is no longer published; what you have read of it is incomplete.",
        what="version" if "@" in name else "dataset",
        next_step="open it again, or ask its owner",
    )


def _no_path() -> NotFound:
    return NotFound("There is no such object", what="path")


def _headers(known: Known, *, immutable: bool = True) -> list[tuple[bytes, bytes]]:
    cache = replies.IMMUTABLE if known.immutable and immutable else replies.NO_CACHE
    return [(b"cache-control", cache.encode()), (b"cubeport-version", known.version_id.encode())]


async def off_the_loop[**P, T](
    engine: Reader, dataset_id: str, version_id: str, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return what *read* returns; call it in a thread if reading that version waits for another machine."""
    if engine.waits(dataset_id, version_id):
        return await asyncio.to_thread(read, *args, **kwargs)
    return read(*args, **kwargs)


_ASKED = frozenset({b"range", b"if-range", b"if-none-match"})


def _asked(scope: Scope) -> dict[bytes, str]:
    return {name: value.decode("latin-1") for name, value in scope["headers"] if name in _ASKED}


async def send_object(scope: Scope, send: Send, stored: StoredObject, headers: Headers, tag: str) -> None:
    """Answer GET and HEAD with an object, or with the part of it that ``Range`` names. The caller closes it."""
    size = stored.size
    if scope["method"] == "HEAD":
        await _send(send, 200, [*headers, (b"content-length", b"%d" % size)])
        return
    try:
        part = _part_asked(_asked(scope), size, tag)
    except Unsatisfiable:
        await _send(send, 416, [*headers, (b"content-range", b"bytes */%d" % size), (b"content-length", b"0")])
        return
    status, begin, end = 200 if part is None else 206, *(part or (0, size))
    headers = [*headers, *_extent_headers(part, size)]
    # The first piece is read before the status is sent, so that unreadable bytes give an error instead of a short 200.
    # Each piece of a source is compared after it was read, so the kernel does not send it on its own.
    take = _part if EXTENSION in scope.get("extensions", ()) and stored.check is None else _read
    begin, end = begin + stored.offset, end + stored.offset
    piece = await _take(take, stored, begin, min(PIECE, end - begin))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    begin += len(piece)
    while begin < end:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        piece = await _take(take, stored, begin, min(PIECE, end - begin))
        begin += len(piece)
    await send({"type": "http.response.body", "body": piece})


def _part_asked(asked: Mapping[bytes, str], size: int, tag: str) -> tuple[int, int] | None:
    """Return the part that a request names, if it is one of this object; ``None`` for the whole. Raises Unsatisfiable."""
    return parse_range(asked[b"range"], size) if b"range" in asked and asked.get(b"if-range", tag) == tag else None


def _extent_headers(part: tuple[int, int] | None, size: int) -> Headers:
    if part is None:
        return ((b"content-length", b"%d" % size),)
    begin, end = part
    return ((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, size)), (b"content-length", b"%d" % (end - begin)))


def _whole_answer(plan: Plan, stored: StoredObject, asked: Mapping[bytes, str]) -> Answer | None:
    """Return the answer with an object, or the part of it that ``Range`` names; ``None`` if reading it waits for the disk.

    Raises
    ------
    Unsatisfiable
        If ``Range`` is outside the object.
    """
    part = _part_asked(asked, stored.size, plan.tag)
    begin, end = part or (0, stored.size)
    if end - begin > PIECE or stored.check is not None or not isinstance(stored.file, io.FileIO):
        return None
    status = 200 if part is None else 206
    text = b"%s%s%s" % (plan.lines, plan.lines_of_bytes, lines(_extent_headers(part, stored.size)))
    from_file = FilePart(stored.file.fileno(), begin + stored.offset, end - begin)
    if end - begin >= _WORTH and is_cached(from_file):
        return Answer(status, text, from_file, stored.file)
    buffer = bytearray(end - begin)
    if buffer and _read_now(from_file.descriptor, buffer, from_file.begin) < len(buffer):
        return None
    return Answer(status, text, buffer)


async def _take(take: _Take, stored: StoredObject, begin: int, count: int) -> FilePart | bytes | bytearray:
    """Return a piece once it is known to be of what was published. Raises SourceChanged."""
    try:
        return await take(stored.file, begin, count)
    finally:
        if stored.check is not None:
            stored.check()


async def _send(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _part(file: BinaryIO, begin: int, count: int) -> FilePart | bytes | bytearray:
    """Return *count* bytes as a part of the file if the kernel has cached them, otherwise as :func:`_read`."""
    if count >= _WORTH and isinstance(file, io.FileIO | io.BufferedReader):
        part = FilePart(file.fileno(), begin, count)
        if is_cached(part):
            return part
    return await _read(file, begin, count)


async def _read(file: BinaryIO, begin: int, count: int) -> bytes | bytearray:
    """Return exactly *count* bytes, directly if the kernel has cached them, otherwise in a thread, so that the disk does not block
    the loop.

    Raises
    ------
    Corrupt
        If the file is too short.
    StoreUnavailable
        If the file cannot be read.
    """
    if isinstance(file, io.BytesIO):
        file.seek(begin)
        return file.read(count)
    try:
        descriptor = file.fileno()
    except io.UnsupportedOperation:
        return await asyncio.to_thread(_read_elsewhere, file, begin, count)
    buffer = bytearray(count)
    try:
        got = _read_now(descriptor, buffer, begin) if count else 0
        if got < count:
            got = await asyncio.to_thread(_read_on, descriptor, memoryview(buffer), begin, got)
    except OSError as exc:
        raise StoreUnavailable("An object of this version cannot be read now") from exc
    if got < count:
        raise Corrupt("An object of this version is shorter than its manifest says", next_step="Tell the operator: cubeport fsck.")
    return buffer


def _read_elsewhere(file: BinaryIO, begin: int, count: int) -> bytes:
    """Return exactly *count* bytes of a file on another machine."""
    try:
        file.seek(begin)
        content = file.read(count)
    except OSError as exc:
        raise StoreUnavailable("The bytes cannot be read now") from exc
    if len(content) < count:
        raise Corrupt("The bytes are shorter than the catalog says", next_step="Tell the operator: cubeport verify.")
    return content


def _read_now(descriptor: int, buffer: bytearray, begin: int) -> int:
    """Return how many bytes could be read without waiting for the disk."""
    try:
        return os.preadv(descriptor, [buffer], begin, _NOWAIT)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return 0
        raise


_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


def _read_on(descriptor: int, buffer: memoryview, begin: int, got: int) -> int:
    while got < len(buffer) and (count := os.preadv(descriptor, [buffer[got:]], begin + got)):
        got += count
    return got
