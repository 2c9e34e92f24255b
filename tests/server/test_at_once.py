"""What is answered without a task is what the application answers, and it is never asked when something could have changed."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sample import sample

from cubeport.cubes.pictures.looks import Look
from cubeport.cubes.selection import order
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt
from cubeport.server import files
from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper
from cubeport.server.files import Answer
from cubeport.server.html import Site
from cubeport.server.maps import MapsFace
from cubeport.service import pictures, viewing
from cubeport.service.pictures import Picture, PictureQuery

from .conftest import URL, V1, FakeEngine, FakeService, Live, make_parts

CHUNK = "sst/c/0/0/0"


class Watched:
    """The application, and how it answered each request."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.at_once_: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def at_once(self, *asked: Any) -> Answer | None:
        answer = self.app.at_once(*asked)
        self.at_once_.append(answer is not None)
        return answer


@contextlib.contextmanager
def watched(service: FakeService, engine: FakeEngine, **changes: Any) -> Iterator[tuple[Watched, Live]]:
    made: list[Watched] = []

    def make(url: str) -> Watched:
        made.append(Watched(App(make_parts(service, engine, public_url=url, **changes))))
        return made[0]

    with Live(make) as live:
        yield made[0], live


@pytest.fixture
def seen(service: FakeService, engine: FakeEngine) -> Iterator[tuple[Watched, Live]]:
    with watched(service, engine) as both:
        yield both


def ask(live: Live, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask by Python's own client on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        assert len(fields.pop("x-request-id")) == 16
        del fields["date"]
        return answer.status, fields, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", sample(["sea", "sea.zarr", f"sea@{V1}", "sea@first"], every=2))
@pytest.mark.parametrize("key", ["zarr.json", "sst/zarr.json", CHUNK, "lat/c/0"])
@pytest.mark.parametrize("span", ["", "bytes=3-9", "bytes=-5", "bytes=4-", "bytes=0-0", "bytes=0-1,4-5", "lines=1-2"])
def test_the_same_answer(seen: tuple[Watched, Live], name: str, key: str, span: str) -> None:
    app, live = seen
    headers = {"Range": span} if span else {}
    first, second = (ask(live, f"/zarr/{name}/{key}", **headers) for _ in range(2))
    assert second == first
    assert app.at_once_[0] is False, "nothing was known"
    assert app.at_once_[1] is not (key.endswith("zarr.json") and bool(span)), "parts of documents are too rare to be quick"
    held = ask(live, f"/zarr/{name}/{key}", If_None_Match=first[1]["etag"])
    assert (held[0], held[2], held[1]["etag"]) == (304, b"", first[1]["etag"])
    assert app.at_once_[-1]
    assert {"content-length", "content-type"}.isdisjoint(held[1])
    for other in ({"If_None_Match": '"other"'}, {"If_Range": '"other"', "Range": "bytes=0-3"}):
        assert ask(live, f"/zarr/{name}/{key}", **other)[0] == 200
    part = ask(live, f"/zarr/{name}/{key}", If_Range=first[1]["etag"], Range="bytes=0-3")
    assert (part[0], len(part[2])) == (206, 4)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/zarr/sea/{CHUNK}", {"Range": "bytes=99999999-"}),
        (f"/zarr/sea/{CHUNK}", {"If_None_Match": "*"}),
        ("/zarr/sea/sst/c/1/1/1", {}),
        ("/zarr/sea/sst/c/9/9/9", {}),
        ("/zarr/sea", {}),
        (f"/zarr/sea/{CHUNK}", {"Authorization": "Bearer wrong"}),
        (f"/zarr/sea/{CHUNK}", {"X-API-Key": "wrong"}),
        (f"/zarr/sea/{CHUNK}?x=1", {}),
    ],
)
def test_what_the_application_decides_stays_with_it(seen: tuple[Watched, Live], path: str, headers: dict[str, str]) -> None:
    app, live = seen
    for key in (CHUNK, "zarr.json"):
        assert ask(live, f"/zarr/sea/{key}")[0] == 200
    first = ask(live, path, **headers)
    second = ask(live, path, **headers)
    assert first[:2] == second[:2] or first[0] >= 400
    assert first[0] == second[0]
    assert app.at_once_[-2:] == [False, False]


def test_a_commit_is_seen_at_the_next_request(seen: tuple[Watched, Live], service: FakeService) -> None:
    app, live = seen
    for _ in range(2):
        assert ask(live, f"/zarr/sea@{V1}/{CHUNK}")[0] == 200
    service.commit()
    assert ask(live, f"/zarr/sea@{V1}/{CHUNK}")[0] == 200
    assert app.at_once_ == [False, True, False]
    service.unpublish("sea")
    for key in (CHUNK, "zarr.json"):
        assert ask(live, f"/zarr/sea@{V1}/{key}")[0] == 410


def test_what_not_everybody_may_see_is_never_answered_so(
    service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service.shown
    monkeypatch.setattr(service, "shown", lambda ref, **more: real(ref, **more).model_copy(update={"visibility": "project"}))
    with watched(service, engine) as (app, live):
        assert [ask(live, f"/zarr/sea/{CHUNK}")[0] for _ in range(3)] == [200] * 3  # this machine sees all
        assert app.at_once_ == [False] * 3


@pytest.mark.parametrize("changes", [{"cors_origins": ("https://viewer.example",)}, {"offload": "x-accel-redirect"}])
def test_where_each_answer_is_decided_for_itself(service: FakeService, engine: FakeEngine, changes: dict[str, Any]) -> None:
    with watched(service, engine, **changes) as (app, live):
        for _ in range(3):
            assert ask(live, f"/zarr/sea/{CHUNK}")[0] == 200
        assert not any(app.at_once_)


def test_reads_that_need_a_key(service: FakeService, engine: FakeEngine) -> None:
    from cubeport.server.auth import NoKeys

    with watched(service, engine, gatekeeper=Gatekeeper(NoKeys(), public_reads=False)) as (app, live):
        for _ in range(2):
            assert ask(live, f"/zarr/sea/{CHUNK}")[0] == 401
        assert not any(app.at_once_)


def test_an_error_is_told_by_the_application(seen: tuple[Watched, Live], service: FakeService, engine: FakeEngine) -> None:
    app, live = seen
    for _ in range(2):
        ask(live, f"/zarr/sea/{CHUNK}")
    engine.fail = Corrupt("damaged")
    status, _, body = ask(live, f"/zarr/sea/{CHUNK}")
    assert (status, b"corrupt" in body) == (500, True)
    engine.fail = None
    assert ask(live, f"/zarr/sea/{CHUNK}")[0] == 200
    engine.short = True
    assert ask(live, f"/zarr/sea/{CHUNK}")[0] == 500
    engine.short = False
    service.busy = Corrupt("the catalog is damaged")
    assert ask(live, f"/zarr/sea/{CHUNK}")[0] == 500
    assert app.at_once_ == [False, True, False, True, False, False]


def test_no_file_is_left_open(
    seen: tuple[Watched, Live], engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.folder = Path(shutil.copytree(engine.folder, tmp_path / "store"))
    (engine.folder / CHUNK).write_bytes(os.urandom(100_000))  # so large that the kernel sends it
    app, live = seen
    real, opened = engine.read, []

    def read(*named: str) -> Any:
        stored = real(*named)
        opened.append(stored.file)  # kept here, so that Python does not close it itself
        return stored

    monkeypatch.setattr(engine, "read", read)
    spans = ["", "bytes=-4", "bytes=99999999-", "lines=1", "bytes=0-1,4-5"] * 3
    for span in spans:
        ask(live, f"/zarr/sea/{CHUNK}", **({"Range": span} if span else {}))
    assert sum(app.at_once_) == len(spans) - 1 - 3, "all but the first, and those that are out of range"
    assert len(opened) >= len(spans)
    until = time.monotonic() + 5
    while not all(file.closed for file in opened):  # the last one is closed after its last byte was sent
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_client_that_takes_nothing_is_waited_for(service: FakeService, engine: FakeEngine, tmp_path: Path) -> None:
    """At most one answer waits in memory, however many are asked for on one connection."""
    engine.folder = Path(shutil.copytree(engine.folder, tmp_path / "store"))
    content = os.urandom(3_000_000)
    (engine.folder / CHUNK).write_bytes(content)
    asked = f"GET /zarr/sea/{CHUNK} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with watched(service, engine) as (_, live):
        for _ in range(2):
            ask(live, f"/zarr/sea/{CHUNK}")
        with socket.create_connection(("127.0.0.1", live.port), timeout=20) as client, client.makefile("rb") as read:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.sendall(asked * 50)
            time.sleep(0.5)
            assert engine.reads.count(CHUNK) < 10, "the rest is not read before the client takes what there is"
            for _ in range(50):
                assert read.readline() == b"HTTP/1.1 200 OK\r\n"
                fields = dict(line.lower().strip().split(b": ", 1) for line in iter(read.readline, b"\r\n"))
                assert read.read(int(fields[b"content-length"])) == content


def test_answers_keep_their_order(seen: tuple[Watched, Live], store: Path) -> None:
    _, live = seen
    names = ["zarr.json", CHUNK, "sst/zarr.json", "lat/c/0"] * 5
    for name in names:
        ask(live, f"/zarr/sea/{name}")
    mixed = [each for name in names for each in (f"/zarr/sea/{name}", f"/zarr/sea/{name}?slow")]
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as client, client.makefile("rb") as read:
        client.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in mixed))
        for path in mixed:
            assert read.readline() == b"HTTP/1.1 200 OK\r\n"
            fields = dict(line.lower().strip().split(b": ", 1) for line in iter(read.readline, b"\r\n"))
            key = path.removeprefix("/zarr/sea/").partition("?")[0]
            assert read.read(int(fields[b"content-length"])) == (store / key).read_bytes()


def test_each_is_counted_and_logged(service: FakeService, engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    with watched(service, engine, access_log=True) as (app, live):
        for _ in range(3):
            ask(live, f"/zarr/sea/{CHUNK}")
        app.app.traffic.flush()
        logged = [line for line in capfd.readouterr().err.splitlines() if CHUNK in line]
        assert len(logged) == 3
        assert len({line.split()[-1] for line in logged}) == 3, "each has a request id of its own"
        assert {line.split()[1] for line in logged} == {"127.0.0.1"}
        assert 'cubeport_requests_total{route="/zarr/{key}",method="GET",status="200"} 3' in app.app.traffic.text(())


@pytest.mark.skipif(files._SYSCALL is None, reason="only Linux says what it has cached")
def test_what_is_on_disk_only_is_read_by_a_thread(
    service: FakeService, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.folder = Path(shutil.copytree(engine.folder, tmp_path / "store"))
    (engine.folder / CHUNK).write_bytes(content := os.urandom(100_000))
    with watched(service, engine) as (app, live):
        for _ in range(2):
            assert ask(live, f"/zarr/sea/{CHUNK}")[2] == content
        monkeypatch.setattr("cubeport.server.zarr.is_cached", lambda _: False)
        monkeypatch.setattr("cubeport.server.zarr._read_now", lambda *_: 0)
        assert ask(live, f"/zarr/sea/{CHUNK}")[2] == content
        assert app.at_once_ == [False, True, False]


class Drawn:
    """Draws the number of the picture, so that every drawing is another one."""

    def __init__(self) -> None:
        self.count = 0

    def draw(self, shown: PublishedView, query: PictureQuery) -> Picture:
        self.count += 1
        return Picture(b"%d" % self.count, Look("viridis", 0.0, 1.0), "sst", {})


@contextlib.contextmanager
def drawing(service: FakeService, engine: FakeEngine, **changes: Any) -> Iterator[tuple[Watched, Live, Drawn]]:
    drawn = Drawn()
    face = MapsFace(service, drawn, site=Site(URL, "Test", "Test", "1"))  # type: ignore[arg-type]  # fakes
    with watched(service, engine, pictures=face, **changes) as (app, live):
        yield app, live, drawn


MAP = "/ogcapi/collections/sea/map?width=10"
TILE = "/ogcapi/collections/sea/map/tiles/WebMercatorQuad/0/0/0?palette=gray"


@pytest.mark.parametrize("path", [MAP, TILE, f"/ogcapi/collections/sea@{V1}/map", "/datasets/sea/thumbnail.png"])
def test_a_picture_that_the_client_holds(service: FakeService, engine: FakeEngine, path: str) -> None:
    with drawing(service, engine) as (app, live, drawn):
        first = ask(live, path)
        assert first[0] == 200
        tag = first[1]["etag"]
        answers = [ask(live, path, If_None_Match=tag) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert (answers[0][0], answers[0][2], answers[0][1]["etag"]) == (304, b"", tag)
        assert app.at_once_ == [False, False, True, True]
        for other in ({}, {"If_None_Match": '"other"'}, {"If_None_Match": f'"other", {tag}'}, {"If_None_Match": "*"}):
            ask(live, path, **other)
        with_key = ask(live, path, If_None_Match=tag, X_API_Key="wrong")
        assert with_key[0] == 401
        assert ask(live, path + ("&" if "?" in path else "?") + "steps=5", If_None_Match=tag)[0] != 304
        assert not any(app.at_once_[4:])
        assert drawn.count == 3 + ("thumbnail" not in path)
        service.commit()
        assert ask(live, path, If_None_Match=tag)[0] == 200, "something was committed"
        service.unpublish("sea")
        assert ask(live, path, If_None_Match=tag)[0] in (404, 410)


def test_a_picture_of_a_step_in_the_future_is_not_held_for_longer_than_its_step(
    service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service.shown

    def later(ref: str, **more: Any) -> PublishedView:
        shown = real(ref, **more)
        temporal = shown.description.temporal
        assert temporal is not None
        ahead = temporal.model_copy(update={"end": "9000-01-01T00:00:00Z"})
        return shown.model_copy(update={"description": shown.description.model_copy(update={"temporal": ahead})})

    monkeypatch.setattr(service, "shown", later)
    now = [order((2026, 11, 29, 22, 0, 0, 0))]
    monkeypatch.setattr(pictures, "_now", lambda: now[0])
    with drawing(service, engine) as (app, live, _):
        tag = ask(live, MAP)[1]["etag"]
        assert [ask(live, MAP, If_None_Match=tag)[0] for _ in range(2)] == [304, 304]
        now[0] += 60_000_000
        assert ask(live, MAP, If_None_Match=tag)[0] == 200, "another step may be the newest"
        dated = f"{MAP}&datetime=2020-01-01T00:00:00Z"
        tag = ask(live, dated)[1]["etag"]
        now[0] += 60_000_000
        assert [ask(live, dated, If_None_Match=tag)[0] for _ in range(2)] == [304, 304]
        assert app.at_once_ == [False] * 6 + [True]


def test_a_picture_that_not_everybody_may_see_is_never_answered_so(
    service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(ref: str, **more: Any) -> PublishedView:
        shown = real(ref, **more).model_copy(update={"visibility": "project"})
        assert viewing.sees(shown)  # as the service asks
        return shown

    real = service.shown
    monkeypatch.setattr(service, "shown", hidden)
    with drawing(service, engine) as (app, live, _):
        tag = ask(live, MAP)[1]["etag"]
        assert [ask(live, MAP, If_None_Match=tag)[0] for _ in range(3)] == [304] * 3
        assert not any(app.at_once_)
