"""The GeoZarr view below ``/geozarr``: the metadata of ``/zarr`` with GeoZarr attributes, and the same chunks.

The face of ``/zarr`` answers requests for chunks, so ranges, ETags, caching and offloading are the same.
"""

from __future__ import annotations

import asyncio
import json

from starlette.types import Receive, Scope, Send

from cubeport.cubes import keys
from cubeport.cubes.bounded import Bounded
from cubeport.documents.geozarr import Level, View
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, NotFound
from cubeport.server import replies
from cubeport.server.parts import Bytes
from cubeport.server.zarr import Address, ZarrFace, send_document, shown_or_gone
from cubeport.service.ports import Reader

_VIEWS = 256
"""Views that are kept in memory. A version never changes."""


class GeoZarrFace:
    """Serves ``/geozarr/{id}[@ref][/{key}]``, mounted at any path."""

    def __init__(self, service: Bytes, engine: Reader, public_url: str, zarr: ZarrFace) -> None:
        self._service = service
        self._engine = engine
        self._url = f"{public_url}/geozarr"
        self._zarr = zarr
        self._views: Bounded[str, View] = Bounded(_VIEWS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI; no body is read)
        """Answer GET and HEAD for ``scope["cubeport.path"]``, the raw path below ``/geozarr/``."""
        address = Address.parse(scope["cubeport.path"])
        if address.key is not None and address.key.indices is not None:
            await self._zarr.answer_object(address, scope, send)
            return
        shown = shown_or_gone(self._service, address.name)
        view = await asyncio.to_thread(self._view, shown)
        if not address.path:
            document: object = self._listing(shown, view, address.ref)
        elif address.key is not None and address.key.node in view.documents:
            document = view.documents[address.key.node]
        else:
            raise NotFound("There is no such object", what="path")
        tag = replies.etag(
            shown.version.version_id,
            "geozarr",
            address.ref,
            address.path,
            shown.description.overview_levels,
            replies.REVISION,
            self._url,
        )
        await send_document(scope, send, tag, lambda: replies.dumps(document), shown.version.version_id)

    def _view(self, shown: PublishedView) -> View:
        name = f"{shown.texts.dataset_id}@{shown.version.version_id}"
        found = self._views.get(name)
        if found is None:
            cube = shown.description
            method = next((method for _, method in cube.overviews), "mean")
            levels = [Level(self._root(shown, number), method) for number in range(1, cube.overview_levels + 1)]
            found = View.of(self._root(shown), cube, levels)
            if found is None:
                why = f"GeoZarr describes grids with x and y axes; this one is {shown.description.spatial.family}"
                raise NotFound(f"There is no GeoZarr view of this dataset: {why}.", what="data", next_step="read /zarr")
            self._views.put(name, found)
        return found

    def _root(self, shown: PublishedView, level: int = 0) -> dict[str, object]:
        address = shown.texts.dataset_id, shown.version.version_id
        if level:
            stored = self._engine.overview(*address, f"{level}/{keys.METADATA}")
        else:
            stored = self._engine.read(*address, keys.METADATA)
        if stored is None:
            raise Corrupt(f"Version {shown.version.version_id} has lost its metadata.", next_step="cubeport fsck")
        with stored.file as file:
            found: dict[str, object] = json.loads(b"".join(iter(lambda: file.read(1 << 20), b"")))
        return found

    def _listing(self, shown: PublishedView, view: View, ref: str) -> dict[str, object]:
        return {
            "kind": "GeoZarrView",
            "dataset_id": shown.texts.dataset_id,
            "version_id": shown.version.version_id,
            "entries": [
                {"name": name or "zarr.json", "href": f"{self._url}/{ref}/{f'{name}/' if name else ''}zarr.json"}
                for name in sorted(view.documents)
            ],
        }
