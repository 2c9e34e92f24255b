"""The probes of ``/ready``: one small request to each face, like that of a reader."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message

from cubeport.server.auth import Caller

DATASETS = 3
PROBES: Mapping[str, str] = {
    "datasets": f"/datasets?limit={DATASETS}",
    "pages": "/?f=html",
    "stac": "/stac/collections?limit=1",
    "search": "/stac/search?limit=1&intersects=" + quote('{"type":"Point","coordinates":[0,0]}'),
    "ogcapi": "/ogcapi/collections?limit=1",
}
OF_A_DATASET: Mapping[str, str] = {
    "zarr": "/zarr/{id}/zarr.json",
    "coverage": "/ogcapi/collections/{id}/coverage?estimate=true",
}
"""Probes that try one dataset after another until one answers, because a damaged dataset does not mean a damaged face."""

LASTS_S = 2.0
"""How long a result is cached, in seconds, because anybody may request it."""
TIMEOUT_S = 10.0


class Probes:
    """Tests each face of *app*, at most once in :data:`LASTS_S`.

    Parameters
    ----------
    app
        The complete application. A probe passes through everything that a request does, except authorisation.
    """

    def __init__(self, app: ASGIApp, *, queries: bool) -> None:
        self._app = app
        self._left_out = () if queries else ("ogcapi", "coverage")
        self._trying = asyncio.Lock()
        self._found: tuple[float, Mapping[str, str]] = (-LASTS_S, {})

    async def __call__(self) -> Mapping[str, str]:
        """Return ``ok`` or the problem of each face, by name."""
        async with self._trying:
            if time.monotonic() - self._found[0] >= LASTS_S:
                self._found = (time.monotonic(), await self._try())
            return self._found[1]

    async def _try(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        ids: list[str] = []
        for name, path in PROBES.items():
            if name not in self._left_out:
                found[name], body = await self._word(path)
                if name == "datasets" and found[name] == "ok":
                    ids = [each["dataset_id"] for each in json.loads(body)["items"]]
        for name, template in OF_A_DATASET.items():
            for dataset_id in ids if name not in self._left_out else ():
                found[name], _ = await self._word(template.replace("{id}", dataset_id))
                if found[name] == "ok":
                    break
        return found

    async def _word(self, path: str) -> tuple[str, bytes]:
        try:
            status, body = await asyncio.wait_for(self._answer(path), TIMEOUT_S)
        except TimeoutError:
            return "timed-out", b""
        return "ok" if status < 500 else "unavailable", body

    async def _answer(self, target: str) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        sent: list[Message] = []
        ended = asyncio.Event()

        async def receive() -> Message:
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
            "client": None,
            "cubeport.caller": Caller("read", "probe"),
        }
        await self._app(scope, receive, send)
        ended.set()
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])
