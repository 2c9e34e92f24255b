"""The application of an instance in this process, asked without a socket: what ``connect(folder)["id"]`` reads through.

The client is the same as for a service elsewhere, so both give the same values and raise the same errors.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from cubeport.errors import CubeportError

if TYPE_CHECKING:
    import xarray as xr

    from cubeport.service.engines import Engines

TIMEOUT_S = 600.0


class AppSession:
    """The port :class:`cubeport.client._http.Session` over an ASGI application. Its caller may do everything, as on the disk.

    Parameters
    ----------
    make
        Makes the application, when it is first asked.
    """

    def __init__(self, make: Callable[[], Any], engines: Engines, *, url: str) -> None:
        self.url = url.rstrip("/")
        self._make = make
        self._engines = engines
        self._thread: threading.Thread | None = None

    @cached_property
    def _app(self) -> Any:
        return self._make()

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, daemon=True, name="here")
        self._thread.start()
        return loop

    def close(self) -> None:
        """End the thread in which the application answers, if it was asked."""
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result(TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop.close()

    def json(self, path: str, **query: object) -> Any:
        return json.loads(self.get(path, query, accept="application/json"))

    def get(self, path: str, query: Mapping[str, object], *, accept: str = "*/*") -> bytes:
        return self.send("GET", path, query, headers={"Accept": accept})

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: Any = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        content = b"" if body is None else body if isinstance(body, bytes) else body.read()
        given = {"Accept": "application/json", **(headers or {})} | ({"Content-Type": media_type} if body is not None else {})
        given["Content-Length"] = str(len(content))
        answering = asyncio.run_coroutine_threadsafe(self._answer(method, path, query or {}, content, given), self._loop)
        status, answer = answering.result(TIMEOUT_S)
        if status >= 400:
            raise CubeportError.from_mapping(json.loads(answer))
        return answer

    def lines(self, path: str) -> Iterator[str]:
        yield from self.send("GET", path, headers={"Accept": "text/event-stream"}).decode().splitlines()

    def address(self, path: str, **query: object) -> str:
        given = {name: value for name, value in query.items() if value is not None}
        return f"{self.url}{quote(path, safe='/@:')}" + (f"?{urlencode(given, doseq=True, safe=',/:')}" if given else "")

    def opened(self, asset: Mapping[str, Any], *, dataset_id: str, version_id: str, chunks: Any = None) -> xr.Dataset:
        """Return the cube of a version lazily, from its store on the disk; *asset* says only how a reader elsewhere finds it."""
        import xarray

        from cubeport.adapters.engines.opened import VersionStore
        from cubeport.cubes.readers import reader

        store: Any = VersionStore(self._engines, dataset_id, version_id)
        options = {**asset.get("xarray:open_kwargs", {}), "engine": reader("zarr")}
        options.pop("storage_options", None)
        options |= {} if chunks is None else {"chunks": chunks}
        found: xr.Dataset = xarray.open_dataset(store, **options)
        return found

    async def _answer(
        self, method: str, path: str, query: Mapping[str, object], content: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        from cubeport.server.auth import Caller

        target = urlsplit(self.address(path, **query))
        sent: list[Any] = []
        ended, pending = asyncio.Event(), [content]

        async def receive() -> Any:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        prefix = urlsplit(self.url).path
        raw = target.path.removeprefix(prefix).encode()
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": raw,
            "query_string": target.query.encode(),
            "headers": [(b"host", b"localhost"), *((name.lower().encode(), value.encode()) for name, value in headers.items())],
            "client": None,
            "cubeport.caller": Caller("admin", None),
        }
        await self._app(scope, receive, send)
        ended.set()
        return int(sent[0]["status"]), b"".join(each.get("body", b"") for each in sent[1:])
