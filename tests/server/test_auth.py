"""Who may do what: default deny, the loopback exemption exactly, keys as sha256."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cubeport.errors import BackendUnavailable, Forbidden, InvalidConfiguration, ReadOnly, Unauthorized
from cubeport.server import peers
from cubeport.server.app import App
from cubeport.server.auth import RULES, Caller, Connection, Gatekeeper, NoKeys, check_exposure, scope_of
from cubeport.server.processes import ProcessesFace
from cubeport.service.keys import Key

from .conftest import V1, Client, make_parts


def checked(keeper: Gatekeeper, needed: Any, method: str, headers: Any, peer: str | None, **changes: Any) -> Caller:
    return keeper.check(needed, method, Connection(headers, (peer, 1234) if peer else None, **changes))


LOCAL = [(b"host", b"localhost:8000")]
FORWARDING = (
    *(
        b"cf-connecting-ip",
        b"true-client-ip",
        b"x-client-ip",
        b"client-ip",
        b"x-forwarded",
        b"x-forwarded-server",
        b"x-forwarded-port",
    ),
    *(b"x-original-host", b"x-original-forwarded-for", b"x-cluster-client-ip", b"x-envoy-external-address", b"x-host", b"cdn-loop"),
    *(b"fastly-client-ip", b"fly-client-ip", b"x-amzn-trace-id", b"x-amz-cf-id", b"x-azure-clientip", b"x-appengine-user-ip"),
)
TOKEN = "local_" + "t" * 43
SECRET = "cp_abcd_" + "s" * 24


class KnownKeys:
    def __init__(self, *keys: Key) -> None:
        self.keys = {key.key_id: key for key in keys}

    def any(self) -> bool:
        return bool(self.keys)

    def get(self, key_id: str) -> Key | None:
        return self.keys.get(key_id)


def key(**changes: Any) -> Key:
    values = {"key_id": "abcd", "sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "name": "ann", "scope": "ingest"}
    return Key(**(values | changes))


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [*LOCAL, (b"authorization", f"Bearer {secret}".encode())]


class LostKeys(KnownKeys):
    """The database with the keys does not answer."""

    def any(self) -> bool:
        raise BackendUnavailable("gone")

    def get(self, key_id: str) -> Key | None:
        raise BackendUnavailable("gone")


def test_the_own_user_sees_the_metrics_of_a_server_whose_database_does_not_answer() -> None:
    keeper = Gatekeeper(LostKeys(), open_on_loopback=True, asks_for_itself=lambda *_: True)
    assert not checked(keeper, "admin", "GET", LOCAL, "127.0.0.1").may("admin"), "but is nobody else"
    for method, headers, peer in (
        ("POST", LOCAL, "127.0.0.1"),
        ("GET", bearer(SECRET), "127.0.0.1"),
        ("GET", bearer(SECRET), "192.0.2.1"),
    ):
        with pytest.raises(BackendUnavailable):
            checked(keeper, "admin", method, headers, peer)
    with pytest.raises((BackendUnavailable, Unauthorized)):
        checked(keeper, "admin", "GET", LOCAL, "192.0.2.1")


def test_every_route_has_a_scope_and_no_write_is_a_read(app: App) -> None:
    walked = {(method, route.path) for route in app.routes for method in route.methods or ()}
    assert {each for each in walked if scope_of(*each) is None} == set()
    writes = {each for each in walked if each[0] not in ("GET", "HEAD")} - {("POST", "/stac/search")}
    assert {each for each in writes if scope_of(*each) in ("none", "read")} == set()
    assert {each for each in walked if each[1].startswith("/ingestions") and scope_of(*each) != "ingest"} == set()
    assert len(walked) >= 20


def test_a_route_without_a_rule_is_for_nobody(app: App, client: Client) -> None:
    app.framework.add_api_route("/forgotten", lambda: "open", methods=["GET"])
    assert client.get("/forgotten").status_code == 403
    assert ("GET", "/forgotten") not in RULES


BY_READERS = {
    *(("POST", "/stac/search"), ("POST", "/datasets/{dataset_id}/table")),
    *(("POST", "/ogcapi/processes/{process_id}/execution"), ("DELETE", "/ogcapi/jobs/{job_id}")),
}
"""What needs the right to read only: questions that are sent as a body, and a caller's own jobs, which change no dataset."""
GUARDED = {each for each in RULES if each[0] != "GET" or each[1].startswith("/ingestions")} - BY_READERS


@pytest.mark.parametrize(("method", "path"), sorted(GUARDED))
def test_who_has_no_right_is_told_401_and_nothing_happens(service: Any, engine: Any, method: str, path: str) -> None:
    concrete = path.replace("{dataset_id}", "sea").replace("{ingestion_id}", "a" * 32)
    with Client(App(make_parts(service, engine, gatekeeper=Gatekeeper(NoKeys())))) as client:
        answer = client.request(method, concrete, json={"dataset_id": "sea"} if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="cubeport"'
    assert answer.json()["kind"] == "unauthorized"
    assert service.calls == []


class TestLoopback:
    """Without any key, a loopback peer with a loopback Host, no forwarding header and no foreign Origin may ingest."""

    open = Gatekeeper(NoKeys(), open_on_loopback=True, asks_for_itself=lambda *_: True)

    @pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:8000", b"[::1]:80", b"LOCALHOST:1", b"127.9.9.9"])
    def test_here(self, host: bytes) -> None:
        assert checked(self.open, "ingest", "POST", [(b"host", host)], "127.0.0.1").scope == "ingest"
        assert checked(self.open, "ingest", "POST", [(b"host", host)], "::1").scope == "ingest"

    def test_what_destroys_needs_a_key_or_the_local_token(self) -> None:
        keeper = Gatekeeper(NoKeys(), open_on_loopback=True, local_token=TOKEN, asks_for_itself=lambda *_: True)
        with pytest.raises(Unauthorized, match="reverse proxy"):
            checked(keeper, "admin", "DELETE", LOCAL, "127.0.0.1")
        assert checked(keeper, "admin", "DELETE", bearer(TOKEN), "127.0.0.1").name == "local"
        for wrong in (TOKEN[:-1], TOKEN + "x", "", "local_"):
            with pytest.raises(Unauthorized):
                checked(keeper, "admin", "DELETE", bearer(wrong), "127.0.0.1")
        with pytest.raises(Unauthorized):
            checked(keeper, "admin", "DELETE", bearer(TOKEN), "192.168.1.7")
        with pytest.raises(Unauthorized):
            checked(keeper, "admin", "DELETE", [*bearer(TOKEN), (b"x-client-ip", b"1.2.3.4")], "127.0.0.1")
        with pytest.raises(Unauthorized):
            checked(Gatekeeper(NoKeys(), open_on_loopback=True), "admin", "DELETE", bearer(""), "127.0.0.1")

    def test_what_may_be_a_proxy_needs_the_token_and_old_http_is_not_this_machine(self) -> None:
        """A proxy may add no header; nginx speaks HTTP/1.0 unless told otherwise."""
        other = Gatekeeper(NoKeys(), open_on_loopback=True, local_token=TOKEN, asks_for_itself=lambda *_: False)
        with pytest.raises(Unauthorized, match="proxy or tunnel") as refused:
            checked(other, "ingest", "POST", LOCAL, "127.0.0.1")
        assert "local-token" in (refused.value.next_step or "")
        assert checked(other, "ingest", "POST", bearer(TOKEN), "127.0.0.1").name == "local"
        with pytest.raises(Unauthorized):
            checked(self.open, "ingest", "POST", LOCAL, "127.0.0.1", http_version="1.0")

    @pytest.mark.parametrize(
        ("headers", "peer"),
        [
            (LOCAL, "192.168.1.7"),
            (LOCAL, None),
            ([(b"host", b"data.example")], "127.0.0.1"),
            ([(b"host", b"localhost.evil.example")], "127.0.0.1"),
            ([(b"host", b"127.0.0.1.nip.io")], "127.0.0.1"),
            ([], "127.0.0.1"),
            ([*LOCAL, *LOCAL], "127.0.0.1"),
            ([*LOCAL, (b"x-forwarded-for", b"127.0.0.1")], "127.0.0.1"),
            ([*LOCAL, (b"forwarded", b"for=127.0.0.1")], "127.0.0.1"),
            ([*LOCAL, (b"via", b"1.1 proxy")], "127.0.0.1"),
            ([*LOCAL, (b"x-real-ip", b"127.0.0.1")], "127.0.0.1"),
            *(([*LOCAL, (name, b"1.2.3.4")], "127.0.0.1") for name in FORWARDING),
        ],
    )
    def test_elsewhere(self, headers: list[tuple[bytes, bytes]], peer: str | None) -> None:
        with pytest.raises(Unauthorized):
            checked(self.open, "ingest", "POST", headers, peer)

    @pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost:9999", b"http://127.0.0.1:8000"])
    def test_a_page_of_another_origin_is_forbidden(self, origin: bytes) -> None:
        with pytest.raises(Forbidden):
            checked(self.open, "ingest", "POST", [*LOCAL, (b"origin", origin)], "127.0.0.1")

    def test_a_page_of_this_origin_may(self) -> None:
        assert checked(self.open, "ingest", "POST", [*LOCAL, (b"origin", b"http://localhost:8000")], "127.0.0.1").may("ingest")

    def test_a_key_ends_it(self) -> None:
        with pytest.raises(Unauthorized):
            checked(Gatekeeper(KnownKeys(key()), open_on_loopback=True), "ingest", "POST", LOCAL, "127.0.0.1")

    def test_it_is_off_by_default(self) -> None:
        with pytest.raises(Unauthorized):
            checked(Gatekeeper(NoKeys()), "ingest", "POST", LOCAL, "127.0.0.1")


class TestKeys:
    def test_a_known_key_has_its_scope_and_those_below(self) -> None:
        keeper = Gatekeeper(KnownKeys(key()))
        assert checked(keeper, "ingest", "POST", bearer(SECRET), "8.8.8.8").name == "ann"
        assert checked(keeper, "read", "GET", [(b"x-api-key", SECRET.encode())], "8.8.8.8").name == "ann"
        with pytest.raises(Forbidden):
            checked(keeper, "admin", "DELETE", bearer(SECRET), "8.8.8.8")

    @pytest.mark.parametrize("secret", ["", "cp_abcd_" + "t" * 24, "cp_zzzz_" + "s" * 24, SECRET[:-1], SECRET.upper(), "x" * 5000])
    def test_a_wrong_key_is_401_even_for_reads(self, secret: str) -> None:
        with pytest.raises(Unauthorized):
            checked(Gatekeeper(KnownKeys(key())), "read", "GET", bearer(secret), "127.0.0.1")

    def test_an_expired_key_is_401(self) -> None:
        old = key(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(Unauthorized):
            checked(Gatekeeper(KnownKeys(old)), "ingest", "POST", bearer(SECRET), None)

    def test_two_keys_and_other_schemes_are_401(self) -> None:
        keeper = Gatekeeper(KnownKeys(key()))
        with pytest.raises(Unauthorized):
            checked(keeper, "read", "GET", [*bearer(SECRET), (b"x-api-key", SECRET.encode())], None)
        with pytest.raises(Unauthorized):
            checked(keeper, "read", "GET", [(b"authorization", b"Basic dTpw")], None)

    def test_a_key_of_other_datasets_is_forbidden(self, service: Any, engine: Any) -> None:
        keeper = Gatekeeper(KnownKeys(key(datasets=("air_*",))))
        headers = {"Authorization": f"Bearer {SECRET}"}
        with Client(App(make_parts(service, engine, gatekeeper=keeper)), peer="8.8.8.8") as client:
            assert client.post("/datasets/sea/unpublish", headers=headers).status_code == 403
            assert client.post("/ingestions", json={"dataset_id": "sea"}, headers=headers).status_code == 403
            assert client.post("/ingestions", json={"dataset_id": "air_no"}, headers=headers).status_code == 200
        assert [call[0] for call in service.calls] == ["ingest", "wait"]

    def test_without_public_reads_reading_needs_a_key(self, service: Any, engine: Any) -> None:
        keeper = Gatekeeper(KnownKeys(key(scope="read")), public_reads=False)
        with Client(App(make_parts(service, engine, gatekeeper=keeper))) as client:
            for path in ("/datasets", "/zarr/sea/zarr.json", "/"):
                assert client.get(path).status_code == 401
                assert client.get(path, headers={"X-API-Key": SECRET}).status_code == 200
            assert client.get("/health").status_code == 200

    def test_without_public_reads_what_readers_send_needs_a_key(self, service: Any, engine: Any) -> None:
        keeper = Gatekeeper(KnownKeys(key(scope="read")), public_reads=False)
        face = ProcessesFace(service, None, None, public_url="http://localhost", version="1", body_bytes=1 << 20)  # type: ignore[arg-type]
        with Client(App(make_parts(service, engine, gatekeeper=keeper, processes=face))) as client:
            for method, path, status in (
                ("POST", "/ogcapi/processes/zonal-statistics/execution", 400),
                ("DELETE", "/ogcapi/jobs/none", 404),
                ("POST", "/stac/search", 200),
            ):
                sent: Any = {"method": method, "url": path, "json": {} if method == "POST" else None}
                assert client.request(**sent).status_code == 401
                assert client.request(**sent, headers={"X-API-Key": SECRET}).status_code == status


def test_read_only_refuses_writes_whoever_asks() -> None:
    with pytest.raises(ReadOnly):
        checked(Gatekeeper(KnownKeys(key(scope="admin")), read_only=True), "admin", "DELETE", bearer(SECRET), None)
    assert checked(Gatekeeper(NoKeys(), read_only=True), "read", "GET", LOCAL, None).may("read")


@pytest.mark.parametrize(
    ("host", "public_url", "keys", "read_only", "starts"),
    [
        ("127.0.0.1", None, False, False, True),
        ("::1", "http://localhost:8000/x", False, False, True),
        ("127.0.0.1", "https://data.example", False, False, False),
        ("0.0.0.0", "https://data.example", False, False, False),
        ("0.0.0.0", None, True, True, False),
        ("0.0.0.0", "https://data.example", True, False, True),
        ("127.0.0.1", "https://data.example", False, True, True),
    ],
)
def test_no_start_where_others_could_write(host: str, public_url: str | None, keys: bool, read_only: bool, starts: bool) -> None:
    if starts:
        check_exposure(host=host, public_url=public_url, keys_exist=keys, read_only=read_only)
        return
    with pytest.raises(InvalidConfiguration):
        check_exposure(host=host, public_url=public_url, keys_exist=keys, read_only=read_only)


class TestUnpublished:
    """A key for some datasets sees what is not published of those alone."""

    @pytest.mark.parametrize(("pattern", "sees"), [("*", True), ("sea", True), ("s*", True), ("air-*", False)])
    def test_of_others_nothing_is_seen(self, service: Any, engine: Any, pattern: str, sees: bool) -> None:
        service.published = False
        keeper = Gatekeeper(KnownKeys(key(datasets=(pattern,))))
        with Client(App(make_parts(service, engine, gatekeeper=keeper)), peer="8.8.8.8") as client:
            client.headers["Authorization"] = f"Bearer {SECRET}"
            for path in ("/datasets/sea", "/datasets/sea/versions", "/datasets/sea/versions/latest", f"/datasets/sea@{V1}"):
                assert client.get(path).status_code == (200 if sees else 404), path
            listed = client.get("/datasets?publication=any&count=true").json()
        assert [each["dataset_id"] for each in listed["items"]] == (["sea"] if sees else [])
        assert listed.get("number_matched") == (1 if pattern == "*" else None)


def test_no_read_asks_the_kernel(service: Any, engine: Any) -> None:
    """It reads a line for each socket of the machine: 500 clients that left made /health wait for 20 seconds."""
    asked: list[Any] = []
    keeper = Gatekeeper(NoKeys(), open_on_loopback=True, asks_for_itself=lambda *each: asked.append(each) is None)
    with Client(App(make_parts(service, engine, gatekeeper=keeper))) as client:
        for path in ("/health", "/", "/datasets", "/datasets/sea", "/zarr/sea/zarr.json", "/stac/collections/sea", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert client.post("/stac/search", json={}).status_code == 200
        assert asked == []
        assert client.post("/datasets/sea/unpublish").status_code == 200
        assert len(asked) == 1


CONNECTED = "import socket, sys, time; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
ELSEWHERE = {
    "listens for all": "s = socket.create_server(('0.0.0.0', 0))",
    "listens for all, IPv6": "s = socket.create_server(('::', 0), family=socket.AF_INET6)",
    "takes datagrams": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 0))",
    "listens at a path": "import tempfile; s = socket.socket(socket.AF_UNIX); s.bind(tempfile.mkdtemp() + '/s'); s.listen()",
    "somebody came in": "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); d = s.accept()",
}
ALONE = {
    "nothing else": "",
    "a pair of its own": "s = socket.socketpair()",
    "listens for this machine": "s = socket.create_server(('127.0.0.1', 0))",
    "talks to itself": (
        "s = socket.create_server(('127.0.0.1', 0)); d = socket.create_connection(s.getsockname()); e = s.accept()"
    ),
}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux only")
class TestPeers:
    """Who opened a loopback connection is asked of the kernel: a client that others cannot reach, or something that passes on."""

    @pytest.mark.parametrize(("doing", "alone"), [*((each, False) for each in ELSEWHERE), *((each, True) for each in ALONE)])
    def test_a_process(self, doing: str, alone: bool) -> None:
        code = f"{CONNECTED} {(ELSEWHERE | ALONE)[doing]}\nprint('ready', flush=True); time.sleep(60)"
        with socket.create_server(("127.0.0.1", 0)) as server:
            command = [sys.executable, "-c", code, str(server.getsockname()[1])]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ExitStack() as held:
                connection = held.enter_context(server.accept()[0])
                assert process.stdout is not None
                line = process.stdout.readline()
                if line.strip().isdecimal():
                    other = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
                    stranger = subprocess.Popen([sys.executable, "-c", other, line.strip()], stdin=subprocess.PIPE)
                    held.callback(stranger.communicate)
                    line = process.stdout.readline()
                assert line == "ready\n"
                assert peers.asks_for_itself(connection.getpeername(), connection.getsockname()) is alone
                process.kill()

    def test_who_is_not_seen_proves_nothing(self, tmp_path: Path) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            ends = client.getsockname(), client.getpeername()
            assert peers.asks_for_itself(*ends) is True
            assert peers.asks_for_itself(*ends, proc=tmp_path) is False
            (tmp_path / "net").symlink_to("/proc/net")  # the connection, and no process that holds it: another container's
            assert peers.asks_for_itself(*ends, proc=tmp_path) is False
        assert peers.asks_for_itself(("127.0.0.1", 1), ("127.0.0.1", 1)) is False
        assert peers.asks_for_itself(None, ("127.0.0.1", 1)) is False
