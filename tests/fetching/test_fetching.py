"""Bytes from elsewhere: whole or not at all, and from nowhere else than was allowed."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import pytest
from tests.fetching.conftest import Server, dripping, response, silent
from tests.fetching.test_addresses import AMBIGUOUS

from cubeport.adapters.storage.fetching import Bounds, OriginFetcher
from cubeport.errors import CubeportError, SourceFailed, SourceRejected, SourceTimeout

SMALL = Bounds(max_bytes=1_000)
QUICK = Bounds(max_bytes=1_000, idle_s=0.2, base_s=0.4)
"""For those whom nobody can satisfy, however fast the machine is."""


def read(fetcher: OriginFetcher, uri: str) -> bytes:
    with fetcher.open(uri) as reading:
        return reading.read()


def fails(fetcher: OriginFetcher, uri: str) -> CubeportError:
    with pytest.raises(CubeportError) as caught:
        read(fetcher, uri)
    return caught.value


def reason(error: CubeportError) -> str:
    assert isinstance(error, SourceRejected), error
    return error.reason


@pytest.fixture
def fetcher(server: Server) -> OriginFetcher:
    return OriginFetcher([server.url], SMALL)


# --- what comes through ---------------------------------------------------------------------------------------------


def test_bytes_come_as_they_are(server: Server, fetcher: OriginFetcher) -> None:
    server.answers["/a/b.nc?c=d"] = response(bytes(range(256)))
    assert read(fetcher, f"{server.url}/a/b.nc?c=d") == bytes(range(256))
    assert fetcher.size(f"{server.url}/a/b.nc?c=d") == 256
    get, head = server.heads
    assert get.split("\r\n")[:5] == [
        "GET /a/b.nc?c=d HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: cubeport",
        "Accept: */*",
        "Accept-Encoding: identity",
    ]
    assert head.startswith("HEAD /a/b.nc?c=d HTTP/1.1")


def test_chunks_say_where_they_end(server: Server, fetcher: OriginFetcher) -> None:
    chunked = response(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None)
    server.answers["/whole"] = chunked
    server.answers["/cut"] = chunked[:-10]
    assert read(fetcher, f"{server.url}/whole") == b"hello world"
    assert isinstance(fails(fetcher, f"{server.url}/cut"), SourceFailed)
    assert fetcher.size(f"{server.url}/whole") is None


def test_a_body_is_never_held_whole(server: Server) -> None:
    server.answers["/x"] = response(b"x" * 3_000_000)
    with OriginFetcher([server.url]).open(f"{server.url}/x") as reading:
        assert reading.read(10) == b"x" * 10
        assert sum(len(block) for block in iter(lambda: reading.read(65_536), b"")) == 2_999_990


# --- what does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_no_ambiguous_form_makes_a_connection(server: Server, form: str) -> None:
    everybody = [server.url, "http://localhost", f"http://localhost:{server.port}", "http://127.0.0.1", "http://[::1]"]
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    fetcher = OriginFetcher(everybody, QUICK, resolve=resolve)
    uri = form.format(f"127.0.0.1:{server.port}").replace(":80/", f":{server.port}/")
    error = fails(fetcher, uri)
    assert reason(error) == "not-allowed"
    assert (server.accepted, asked) == (0, [])
    with pytest.raises(SourceRejected):
        fetcher.size(uri)
    assert len(uri) < 5 or uri not in error.message


ELSEWHERE = [
    "http://localhost:{port}/x",
    "https://127.0.0.1:{port}/x",
    "http://127.0.0.1/x",
    "http://127.0.0.2:{port}/x",
    "http://[::ffff:127.0.0.1]:{port}/x",
    "http://[::1]:{port}/x",
    "http://127.0.0.1.example.org:{port}/x",
    "http://0.0.0.0:{port}/x",
]


@pytest.mark.parametrize("form", ELSEWHERE)
def test_what_no_origin_of_the_list_is_is_not_asked(server: Server, fetcher: OriginFetcher, form: str) -> None:
    error = fails(fetcher, form.format(port=server.port))
    assert (reason(error), server.accepted) == ("not-allowed", 0)
    assert "sources.origins" in str(error.next_step)


def test_an_empty_list_is_nobody(server: Server) -> None:
    assert reason(fails(OriginFetcher([]), f"{server.url}/x")) == "not-allowed"
    assert server.accepted == 0


INWARD = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:127.0.0.1", "2002:7f00:1::", "fd00:ec2::254"]


@pytest.mark.parametrize("inward", INWARD)
@pytest.mark.parametrize("order", [1, -1])
def test_a_name_that_leads_inward_with_any_address_is_refused(server: Server, inward: str, order: int) -> None:
    network = Wires(server)
    fetcher = OriginFetcher(
        ["http://inward.example"], QUICK, resolve=lambda *_: ["93.184.215.14", inward][::order], network=network
    )
    error = fails(fetcher, "http://inward.example/x")
    assert (reason(error), server.accepted, network.connected) == ("not-allowed", 0, [])
    assert inward not in str(error.to_mapping())


def test_localhost_by_name_is_refused_even_from_the_list(server: Server) -> None:
    origin = f"http://localhost:{server.port}"
    assert reason(fails(OriginFetcher([origin], QUICK), f"{origin}/x")) == "not-allowed"
    assert server.accepted == 0


class Wires(httpcore.NetworkBackend):
    """Leads every connection to the server and keeps where it was meant to go."""

    def __init__(self, server: Server, down: Iterable[str] = ()) -> None:
        self.server, self.down = server, set(down)
        self.connected: list[tuple[str, int]] = []
        self.names: list[str | None] = []

    def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore.NetworkStream:
        self.connected.append((host, port))
        if host in self.down:
            raise httpcore.ConnectError("down")
        return Wire(httpcore.SyncBackend().connect_tcp("127.0.0.1", self.server.port, *rest, **named), self)


class Wire(httpcore.NetworkStream):
    """A stream that says it is encrypted."""

    def __init__(self, inner: httpcore.NetworkStream, wires: Wires) -> None:
        self.inner, self.wires = inner, wires

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, timeout)

    def close(self) -> None:
        self.inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> Wire:
        assert ssl_context.verify_mode == ssl.CERT_REQUIRED
        assert ssl_context.check_hostname
        self.wires.names.append(server_hostname)
        return self


def test_nobody_is_asked_where_a_written_address_is(server: Server) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("there is no name")

    server.answers["/x"] = response(b"bytes")
    assert read(OriginFetcher([server.url], resolve=resolve), f"{server.url}/x") == b"bytes"


def test_the_checked_address_is_the_one_connected_to(server: Server) -> None:
    """A second answer of the resolver (rebinding) is never asked for; host and SNI stay those of the address."""
    answers = [["93.184.215.14", "1.1.1.1"], ["127.0.0.1"]]
    network = Wires(server, down=["93.184.215.14"])
    fetcher = OriginFetcher(["https://data.example"], SMALL, resolve=lambda *_: answers.pop(0), network=network)
    server.answers["/x"] = response(b"bytes")
    assert read(fetcher, "https://DATA.example:443/x") == b"bytes"
    assert network.connected == [("93.184.215.14", 443), ("1.1.1.1", 443)]
    assert network.names == ["data.example"]
    assert "\r\nHost: data.example\r\n" in server.heads[0]
    assert answers == [["127.0.0.1"]]


def test_a_name_without_an_address_is_a_failure_of_now(server: Server) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    for resolve in (nowhere, lambda *_: []):
        error = fails(OriginFetcher(["http://gone.example"], QUICK, resolve=resolve), "http://gone.example/x")
        assert isinstance(error, SourceFailed)


def test_nothing_is_taken_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch, fetcher: OriginFetcher) -> None:
    proxy = Server()
    try:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        server.answers["/x"] = response(b"bytes")
        assert read(fetcher, f"{server.url}/x") == b"bytes"
        assert (proxy.accepted, server.accepted) == (0, 1)
    finally:
        proxy.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, fetcher: OriginFetcher, status: int) -> None:
    server.answers["/x"] = response(b"", f"Location: {server.url}/y", status=f"{status} Elsewhere")
    server.answers["/y"] = response(b"bytes")
    refused = fails(fetcher, f"{server.url}/x")
    assert reason(refused) == "not-allowed"
    assert f"a redirect to {server.url}, which" in str(refused)
    assert fetcher.size(f"{server.url}/x") is None
    assert server.accepted == 2


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://user:secret@elsewhere.example:8443/a?token=secret", " to https://elsewhere.example:8443,"),
        ("//[2001:db8::1]/a", " to http://[2001:db8::1],"),
        ("ftp://elsewhere.example/a", ","),
        ("http://[bad", ","),
        ("http://elsewhere.example:port/", ","),
    ],
)
def test_a_redirect_says_to_which_origin_and_not_more(server: Server, fetcher: OriginFetcher, location: str, told: str) -> None:
    server.answers["/x"] = response(b"", f"Location: {location}", status="302 Found")
    refused = fails(fetcher, f"{server.url}/x")
    assert f"answers with a redirect{told} which" in str(refused)
    assert "secret" not in f"{refused} {refused.next_step}"
    assert "curl -sI" in str(refused.next_step)


@pytest.mark.parametrize("answer", [response(b"x", "Content-Encoding: gzip"), response(b"until the end", length=None)])
def test_an_answer_that_is_the_same_next_time_is_not_advised_to_be_tried_again(
    server: Server, fetcher: OriginFetcher, answer: bytes
) -> None:
    server.answers["/x"] = answer
    refused = fails(fetcher, f"{server.url}/x")
    assert "fetch the file yourself" in str(refused.next_step)


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (response(b"", status="404 Not Found"), SourceRejected, "unreadable"),
        (response(b"no", status="206 Partial Content"), SourceRejected, "unreadable"),
        (response(b"", status="401 Unauthorized"), SourceRejected, "unreadable"),
        (response(b"", status="503 Busy"), SourceFailed, 503),
        (response(b"", status="429 Slowly"), SourceFailed, 429),
        (response(b"x", "Content-Encoding: gzip"), SourceRejected, "unreadable"),
        (response(b"until the end", length=None), SourceRejected, "truncated"),
        (response(b"short", length=6), SourceFailed, None),
        (response(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=6), SourceRejected, "truncated"),
        (response(b"x", "Content-Length: 2"), SourceFailed, None),
        (response(b"", length=1_001), SourceRejected, "too-big"),
        (response(b"3ea\r\n" + b"x" * 1_002 + b"\r\n", "Transfer-Encoding: chunked", length=None), SourceRejected, "too-big"),
        (b"", SourceFailed, None),
        (b"220 mail.example ESMTP\r\n", SourceFailed, None),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 200_000, SourceFailed, None),
    ],
)
def test_an_answer_that_is_not_the_bytes(
    server: Server, fetcher: OriginFetcher, answer: bytes, error: type[CubeportError], why: object
) -> None:
    server.answers["/x"] = answer
    found = fails(fetcher, f"{server.url}/x")
    assert type(found) is error, found
    assert why in (found.members.get("reason"), found.members.get("upstream_status"))
    assert len(found.message) < 300


def test_too_much_names_its_setting(server: Server, fetcher: OriginFetcher) -> None:
    server.answers["/x"] = response(b"x" * 1_001)
    members = fails(fetcher, f"{server.url}/x").members
    assert (members["setting"], members["limit"], members["value"]) == ("limits.source_bytes", 1_000, 1_001)
    server.answers["/x"] = response(b"x" * 1_000)
    assert len(read(fetcher, f"{server.url}/x")) == 1_000


@pytest.mark.parametrize(
    "answer", [silent, dripping(headers=True, for_s=3), dripping(headers=False, for_s=3)], ids=["silent", "head", "body"]
)
def test_who_is_slow_is_cut(server: Server, answer: Any) -> None:
    server.answers["/x"] = answer
    began = time.monotonic()
    assert isinstance(fails(OriginFetcher([server.url], QUICK), f"{server.url}/x"), SourceTimeout)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("bounds", [Bounds(idle_s=0.2, base_s=30), Bounds(idle_s=30, base_s=0.2)], ids=["idle", "in all"])
def test_each_of_the_two_bounds_ends_silence(server: Server, bounds: Bounds) -> None:
    server.answers["/x"] = silent
    began = time.monotonic()
    assert isinstance(fails(OriginFetcher([server.url], bounds), f"{server.url}/x"), SourceTimeout)
    assert time.monotonic() - began < 2


def test_who_is_slow_in_all_but_fast_enough_passes(server: Server) -> None:
    server.answers["/x"] = dripping(headers=False, for_s=0.8)
    patient = OriginFetcher([server.url], Bounds(idle_s=0.2, base_s=0.1, bytes_per_s=1))
    assert isinstance(fails(patient, f"{server.url}/x"), SourceFailed)  # it broke off, and was never too slow


def test_nobody_listens(server: Server) -> None:
    gone = Server()
    gone.close()
    fetcher = OriginFetcher([gone.url], QUICK)
    assert isinstance(fails(fetcher, f"{gone.url}/x"), SourceFailed)
    with pytest.raises(SourceFailed):
        fetcher.size(f"{gone.url}/x")
