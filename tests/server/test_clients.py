"""A proxy says for whom it asks, and only those that are named are believed."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.server.app import App
from cubeport.server.clients import Clients

from .conftest import Client, FakeEngine, FakeService, make_parts

PROXIES = ("127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32")
LISTED, FORWARDED = b"x-forwarded-for", b"forwarded"


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("127.0.0.1", [(LISTED, b"203.0.113.7")], "203.0.113.7"),
        ("203.0.113.9", [(LISTED, b"203.0.113.7")], "203.0.113.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("::ffff:10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", [(LISTED, b"::ffff:203.0.113.7")], "203.0.113.7"),
        ("-", [(LISTED, b"203.0.113.7")], "-"),
        # what the client wrote itself is before what the proxies added
        ("127.0.0.1", [(LISTED, b"198.51.100.1, 203.0.113.7")], "203.0.113.7"),
        ("127.0.0.1", [(LISTED, b"198.51.100.1, 203.0.113.7, 10.0.0.4, 10.0.0.5")], "203.0.113.7"),
        ("127.0.0.1", [(LISTED, b"198.51.100.1"), (LISTED, b"203.0.113.7")], "203.0.113.7"),
        ("127.0.0.1", [(LISTED, b"10.0.0.4, 10.0.0.5")], "10.0.0.4"),
        ("127.0.0.1", [(LISTED, b"198.51.100.1, unknown, 10.0.0.5")], "10.0.0.5"),
        ("127.0.0.1", [(LISTED, b"")], "127.0.0.1"),
        ("127.0.0.1", [(LISTED, b"203.0.113.7:1234")], "203.0.113.7"),
        ("127.0.0.1", [(LISTED, b"[2001:DB9::1]:1234")], "2001:db9::1"),
        ("127.0.0.1", [(LISTED, b"2001:db9:0::1")], "2001:db9::1"),
        ("127.0.0.1", [(LISTED, b"fe80::1%a\x1b[2J b")], "127.0.0.1"),
        ("127.0.0.1", [(LISTED, b"203.0.113.7 GET /")], "127.0.0.1"),
        # RFC 7239, 4
        ("127.0.0.1", [(FORWARDED, b"for=203.0.113.7")], "203.0.113.7"),
        ("127.0.0.1", [(FORWARDED, b'For="[2001:db9:cafe::17]:4711"')], "2001:db9:cafe::17"),
        ("127.0.0.1", [(FORWARDED, b"for=192.0.2.60;proto=http;by=203.0.113.43")], "192.0.2.60"),
        ("127.0.0.1", [(FORWARDED, b"for=192.0.2.43, for=198.51.100.17;host=a, for=10.0.0.9")], "198.51.100.17"),
        ("127.0.0.1", [(FORWARDED, b'for=192.0.2.43;host="a,b;for=1.2.3.4"')], "192.0.2.43"),
        ("127.0.0.1", [(FORWARDED, b"for=192.0.2.43, for=_hidden, for=10.0.0.9")], "10.0.0.9"),
        ("127.0.0.1", [(FORWARDED, b"for=192.0.2.43, proto=https")], "127.0.0.1"),
        ("127.0.0.1", [(FORWARDED, b'for="192.0.2.43')], "127.0.0.1"),
        ("127.0.0.1", [(FORWARDED, b"for=192.0.2.43 10.0.0.1")], "127.0.0.1"),
        # one of the two is the client's own
        ("127.0.0.1", [(LISTED, b"203.0.113.7"), (FORWARDED, b"for=198.51.100.1")], "127.0.0.1"),
        ("127.0.0.1", [(LISTED, b"203.0.113.7"), (FORWARDED, b"for=203.0.113.7;proto=https")], "203.0.113.7"),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_is(peer: str, headers: list[tuple[bytes, bytes]], client: str) -> None:
    assert Clients(PROXIES).of(peer, headers) == client
    assert Clients().of(peer, headers) == peer, "nobody is trusted"


@pytest.mark.parametrize("piece", [b" ", b"a", b"a=b;", b'"', b'a="', b"\\", b",", b'a="\\'])
def test_a_long_header_takes_no_longer_than_its_length(piece: bytes) -> None:
    began = process_time()
    Clients(PROXIES).of("127.0.0.1", [(FORWARDED, piece * (32_000 // len(piece)) + b"\x00")])
    assert process_time() - began < 0.5


@given(name=st.sampled_from([LISTED, FORWARDED]), value=st.binary(max_size=200))
def test_no_header_puts_more_than_an_address_into_the_log(name: bytes, value: bytes) -> None:
    assert set(Clients(PROXIES).of("127.0.0.1", [(name, value)])) <= set("0123456789abcdef.:")


@pytest.mark.parametrize(("trusted", "client"), [((), "127.0.0.1"), (("127.0.0.1/32",), "203.0.113.7")])
def test_the_access_log_has_the_client_and_links_do_not_change(
    service: FakeService, engine: FakeEngine, capsys: pytest.CaptureFixture[str], trusted: tuple[str, ...], client: str
) -> None:
    hostile = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
    app = App(make_parts(service, engine, access_log=True, trusted_proxies=trusted))
    with Client(app) as asking:
        answer = asking.get("/datasets", headers=hostile)
        assert answer.status_code == 200
        assert "evil" not in answer.text
        assert "gopher" not in answer.text
        assert asking.get("/metrics", headers=hostile).status_code == 401, "it is not of this machine, whoever forwards it"
    app.traffic.flush()
    lines = [line.split() for line in capsys.readouterr().err.splitlines() if " GET /" in line]
    assert [line[1] for line in lines] == [client] * 2
