"""A Zarr v2 view below ``/zarr-v2``, with the documents of version 2 and the same chunks as version 3.

The face ``/zarr`` answers chunks, so that ranges, ETags, caching and offloading are the same.
"""

from __future__ import annotations

import asyncio
import json
import re

from starlette.types import Receive, Scope, Send

from cubeport.cubes import keys
from cubeport.cubes.bounded import Bounded
from cubeport.documents import zarr_v2
from cubeport.documents.texts import PublishedView
from cubeport.documents.zarr_v2 import Array, View
from cubeport.errors import Corrupt, NotFound
from cubeport.server import replies
from cubeport.server.parts import Bytes
from cubeport.server.zarr import Address, ZarrFace, off_the_loop, send_document, shown_or_gone
from cubeport.service.ports import Reader

_VIEWS = 256
"""How many views are cached. A version never changes."""
_LEAVES = (".zgroup", ".zattrs", ".zarray", ".zmetadata")
_CHUNK = re.compile(r"(?:0|[1-9][0-9]{0,9})(?:\.(?:0|[1-9][0-9]{0,9}))*", re.ASCII)


class ZarrV2Face:
    """Serves ``/zarr-v2/{id}[@ref][/{key}]``."""

    def __init__(self, service: Bytes, engine: Reader, public_url: str, chunks: ZarrFace) -> None:
        self._service = service
        self._engine = engine
        self._url = f"{public_url}/zarr-v2"
        self._chunks = chunks
        self._views: Bounded[str, View] = Bounded(_VIEWS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD for ``scope["cubeport.path"]``, the raw path below ``/zarr-v2/``."""
        ref, name, path, _ = Address.parse(scope["cubeport.path"])
        shown = shown_or_gone(self._service, name)
        node, _, leaf = path.rpartition("/")
        view = await asyncio.to_thread(self._view, shown)
        if _CHUNK.fullmatch(leaf):
            await self._chunk(scope, receive, send, shown, ref, node, view.arrays.get(node), leaf)
            return
        document = self._listing(shown, view, ref) if not path else view.document(node, leaf) if leaf in _LEAVES else None
        if document is None:
            raise _no_path()
        pinned = name.endswith(f"@{shown.version.version_id}")
        tag = replies.etag(shown.version.version_id, "zarr-v2", ref if not path else "", path, shown.record_id, self._url)
        cache = replies.IMMUTABLE if pinned else replies.NO_CACHE
        await send_document(scope, send, tag, lambda: zarr_v2.dumps(document), shown.version.version_id, cache=cache)

    def _view(self, shown: PublishedView) -> View:
        version_id = shown.version.version_id
        name = f"{shown.texts.dataset_id}@{version_id}"
        found = self._views.get(name)
        if found is None:
            stored = self._engine.read(shown.texts.dataset_id, version_id, keys.METADATA)
            if stored is None:
                raise Corrupt(f"Version {version_id} has lost its metadata.", next_step="cubeport fsck")
            with stored.file as file:
                content = b"".join(iter(lambda: file.read(1 << 20), b""))
            found = View.of(json.loads(content), shown.description)
            self._views.put(name, found)
        return found

    async def _chunk(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        shown: PublishedView,
        ref: str,
        node: str,
        array: Array | None,
        leaf: str,
    ) -> None:
        if array is None:
            raise _no_path()
        indices = tuple(int(each) for each in leaf.split(".")) if array.zarray["shape"] else ()
        counts = array.counts
        if (not counts and leaf != "0") or len(indices) != len(counts) or any(a >= b for a, b in zip(indices, counts, strict=True)):
            raise _no_path()
        key = keys.chunk(node, indices)
        if array.absent is not None:
            address = shown.texts.dataset_id, shown.version.version_id
            stored = None if array.is_made else await off_the_loop(self._engine, *address, self._engine.read, *address, key)
            if stored is None:
                body = await asyncio.to_thread(array.empty_chunk)
                tag = replies.etag(shown.version.version_id, "zarr-v2", key)
                headers = _headers(shown, tag, immutable=ref.endswith(f"@{shown.version.version_id}"))
                headers += [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
                await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)
                return
            stored.file.close()
        await self._chunks({**scope, "cubeport.path": f"{ref}/{key}".encode("latin-1")}, receive, send)

    def _listing(self, shown: PublishedView, view: View, ref: str) -> zarr_v2.Json:
        return {
            "kind": "ZarrV2View",
            "dataset_id": shown.texts.dataset_id,
            "version_id": shown.version.version_id,
            # Each is a document: version 2 has no listing of an array.
            "entries": [
                {"name": name, "href": f"{self._url}/{ref}/{name}"}
                for name in (".zmetadata", ".zgroup", ".zattrs", *(f"{array}/.zarray" for array in view.arrays))
            ],
            "left_out": [{"name": name, "reason": reason} for name, reason in view.left_out.items()],
        }


def _no_path() -> NotFound:
    return NotFound("There is no such object", what="path")


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(shown: PublishedView, tag: str, *, immutable: bool) -> list[tuple[bytes, bytes]]:
    cache = replies.IMMUTABLE if immutable else replies.NO_CACHE
    version = (b"cubeport-version", shown.version.version_id.encode())
    return [(b"cache-control", cache.encode()), version, (b"etag", tag.encode())]
