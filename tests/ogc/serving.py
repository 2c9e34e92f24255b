"""A server over a real socket, for tests of faces that have their own clients."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from cubeport.adapters.encoders.modules import EncoderModules
from cubeport.adapters.encoders.room import AnswerRoom
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.adapters.ogc.way import Pygeoapi
from cubeport.service.plans import AnswerLimits
from cubeport.service.queries import Queries

from .conftest import Shelf, app_of


class Door:
    """A server with OPeNDAP and griddap, and what it serves."""

    def __init__(self, shelf: Shelf, folder: Path, scratch: Path, **limits: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.folder = folder
        room = AnswerRoom(scratch, disk_bytes=1 << 40, memory_bytes=16 << 20)
        reader = OpenedVersions(shelf.engine)
        queries = Queries(reader, EncoderModules(), room, Pygeoapi(), public_url=self.url, limits=AnswerLimits(**limits))
        app = app_of(shelf, queries, self.url)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/dap/{path}", timeout=30, trust_env=False, **options)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
