"""A headless Chromium, driven by its DevTools protocol: what the tests of pages open, press, measure and photograph."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp


def chromium() -> str | None:
    """Return where Chromium is, or ``None``."""
    return shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # the name of the base class
        pass


@contextlib.contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """One Chromium, in which nothing outside this machine is found."""

    def __init__(self, folder: Path) -> None:
        program = chromium()
        assert program is not None  # the caller has looked
        rules = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--remote-debugging-port=0",
        ]
        self._process = subprocess.Popen(
            [program, *options, rules, f"--user-data-dir={folder}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = folder / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not port.exists() or len(port.read_text().split()) < 2:
            assert time.monotonic() < until, "Chromium does not start"
            time.sleep(0.05)
        self.port = int(port.read_text().split()[0])
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession = self._run(self._begun())

    async def _begun(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(trust_env=False)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, 60))

    def open(
        self,
        url: str,
        *,
        width: int = 1240,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        scale: float = 1,
        line: tuple[float, float] | None = None,
    ) -> Page:
        """Return the page at *url* once it is loaded and nothing more is fetched.

        With *line*, bits in a second and milliseconds of delay, nothing is cached and the network is as slow as that.
        """
        page = Page(self)
        self._run(page.begin(width, height, dark=dark, scripts=scripts, scale=scale))
        if line is not None:
            rate = {"downloadThroughput": line[0] / 8, "uploadThroughput": line[0] / 8, "latency": line[1]}
            self._run(page.send("Network.clearBrowserCache"))
            self._run(page.send("Network.emulateNetworkConditions", offline=False, **rate))
        self._run(page.go(url))
        return page

    def close(self) -> None:
        self._run(self._session.close())
        self._process.terminate()
        self._process.wait(20)
        self._loop.close()


class Page:
    """One tab."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self.told: list[str] = []
        """Messages of the console, and requests that failed."""

    async def begin(self, width: int, height: int, *, dark: bool, scripts: bool, scale: float) -> None:
        session = self._browser._session
        async with session.put(f"http://127.0.0.1:{self._browser.port}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        self._id = target["id"]
        self._socket = await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable")
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 500
        )
        scheme = "dark" if dark else "light"
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        if not scripts:
            await self.send("Emulation.setScriptExecutionDisabled", value=True)

    async def send(self, method: str, **params: Any) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        self._events.append(message)
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.told.append(str(params["exceptionDetails"].get("exception", {}).get("description", params)))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.told.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.told.append(str([each.get("value") for each in params["args"]]))

    async def go(self, url: str) -> None:
        self._events.clear()
        await self.send("Page.navigate", url=url)
        await self._until("Page.loadEventFired")
        await self._still()

    async def _until(self, method: str) -> None:
        while not any(each.get("method") == method for each in self._events):
            self._note(json.loads((await self._socket.receive()).data))

    async def _still(self, quiet_s: float = 0.25) -> None:
        """Wait until no request is open for a moment; streams that never end do not count."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                message = await asyncio.wait_for(self._socket.receive(), quiet_s)
            except TimeoutError:
                sent = {e["params"]["requestId"] for e in self._events if e.get("method") == "Network.requestWillBeSent"}
                ended = {
                    e["params"]["requestId"]
                    for e in self._events
                    if e.get("method") in ("Network.loadingFinished", "Network.loadingFailed")
                }
                if sent <= ended or time.monotonic() > until - 17:
                    return
                continue
            self._note(json.loads(message.data))

    def evaluate(self, code: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        found = self._browser._run(self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True))
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self) -> str:
        """Return all texts of the page, also where its scripts are off."""
        found = self._browser._run(self.send("DOM.getDocument", depth=-1, pierce=True))
        pending, texts = [found["root"]], []
        while pending:
            node = pending.pop()
            texts.append(node["nodeValue"])
            pending += node.get("children", ())[::-1]
        return " ".join(" ".join(texts).split())

    def settle(self) -> None:
        """Wait until nothing is fetched any more."""
        self._browser._run(self._still())

    def press(self, key: str, *, code: int = 0) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, " ": 32}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code or codes.get(key, ord(key[0]))}
        if key in ("Enter", " ") or len(key) == 1:
            event["text"] = "\r" if key == "Enter" else key
        self._browser._run(self.send("Input.dispatchKeyEvent", type="keyDown", **event))
        self._browser._run(self.send("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in event.items() if k != "text"}))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at *start*, and let it go at *end*."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self._browser._run(self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1))

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Photograph the page."""
        found = self._browser._run(self.send("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)))
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._browser._run(self.send("Page.getLayoutMetrics"))["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}}

    def close(self) -> None:
        self._browser._run(self._socket.close())
        self._browser._run(self._browser._session.get(f"http://127.0.0.1:{self._browser.port}/json/close/{self._id}"))
