"""Which addresses may be asked, decided on text and numbers alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.catalog.forms.addresses import Origin, WebURL, is_public

AMBIGUOUS = {
    "user": "http://user@{0}/x",
    "user and password": "http://user:pw@{0}/x",
    "empty user": "http://@{0}/x",
    "user that looks like the host": "http://example.org@{0}/x",
    "encoded at": "http://example.org%40{0}/x",
    "fragment": "http://{0}/x#y",
    "fragment before an at": "http://{0}#@example.org/",
    "empty fragment": "http://{0}/x#",
    "backslash": "http://{0}\\@example.org/",
    "backslash in the path": "http://{0}/a\\b",
    "backslashes for slashes": "http:\\\\{0}\\x",
    "no slashes": "http:{0}/x",
    "one slash": "http:/{0}/x",
    "three slashes": "http:///{0}/x",
    "no scheme": "//{0}/x",
    "nothing but a host": "{0}",
    "leading space": " http://{0}/x",
    "trailing space": "http://{0}/x ",
    "space in the path": "http://{0}/a b",
    "tab in the host": "http://127.0.\t0.1/x",
    "newline at the end": "http://{0}/x\n",
    "carriage return and header": "http://{0}/x\r\nHost: example.org",
    "null": "http://{0}/x\0",
    "delete": "http://{0}/x\x7f",
    "no-break space": "http://{0}/\u00a0x",
    "path beyond ASCII": "http://{0}/\u00e9",
    "percent and no number": "http://{0}/%zz",
    "half a percent": "http://{0}/%2",
    "file": "file:///etc/passwd",
    "file on the host": "file://{0}/x",
    "ftp": "ftp://{0}/x",
    "gopher": "gopher://{0}/x",
    "s3": "s3://bucket/x",
    "dict": "dict://{0}/x",
    "data": "data:text/plain,x",
    "javascript": "javascript:alert(1)",
    "simplecache": "simplecache::http://{0}/x",
    "reference": "reference://",
    "vsicurl": "/vsicurl/http://{0}/x",
    "mode of netCDF-C": "[mode=bytes]http://{0}/x",
    "dap": "dap2://{0}/x",
    "chain in the path": "http://{0}/x::file:///etc/passwd",
    "long s in the scheme": "http\u017f://{0}/x",
    "decimal": "http://2130706433/x",
    "hexadecimal": "http://0x7f000001/x",
    "octal": "http://017700000001/x",
    "hexadecimal parts": "http://0x7f.0.0.1/x",
    "octal part": "http://0177.0.0.1/x",
    "leading zeros": "http://127.000.000.001/x",
    "short": "http://127.1/x",
    "zero": "http://0/x",
    "five parts": "http://127.0.0.1.1/x",
    "trailing dot": "http://127.0.0.1./x",
    "name with a trailing dot": "http://localhost./x",
    "two dots": "http://127..0.1/x",
    "circled digits": "http://\u2460\u2461\u2466.0.0.1/x",
    "ideographic dots": "http://127\u30020\u30020\u30021/x",
    "Kelvin sign": "http://local\u212aost/x",
    "soft hyphen": "http://local\u00adhost/x",
    "percent in the host": "http://127.0.0.%31/x",
    "underscore in the host": "http://local_host/x",
    "hyphen first": "http://-localhost/x",
    "label of 64": "http://" + "a" * 64 + ".example/x",
    "empty host": "http:///x",
    "only a port": "http://:80/x",
    "empty port": "http://example.org:/x",
    "port zero": "http://example.org:0/x",
    "port with zeros": "http://example.org:0080/x",
    "port too high": "http://example.org:65536/x",
    "port of six digits": "http://example.org:123456/x",
    "port with a sign": "http://example.org:+80/x",
    "IPv6 without brackets": "http://::1/x",
    "IPv6 with a zone": "http://[fe80::1%25eth0]/x",
    "IPv6 cut": "http://[::1/x",
    "IPv6 of nonsense": "http://[:::]/x",
    "brackets about a name": "http://[localhost]/x",
    "IPv6 and more": "http://[::1]example.org/x",
    "too long": "http://example.org/" + "x" * 8_192,
    "empty": "",
}
"""Forms that parsers disagree about; ``{0}`` stands for a server that would count the connection."""


@pytest.mark.parametrize("form", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_mean_two_places_is_none(form: str) -> None:
    with pytest.raises(ValueError, match="must"):
        WebURL.parse(form.format("127.0.0.1:80"))


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("http://example.org", "http://example.org", "/"),
        ("HTTPS://Example.ORG:443/A/b?c=d", "https://example.org", "/A/b?c=d"),
        ("http://example.org:8080?q", "http://example.org:8080", "/?q"),
        ("https://d.example.org:80/x.nc?sst[0:1]&a=%2F", "https://d.example.org:80", "/x.nc?sst[0:1]&a=%2F"),
        ("http://127.0.0.1:8000/@me/x", "http://127.0.0.1:8000", "/@me/x"),
        ("http://[::1]:8000/x", "http://[::1]:8000", "/x"),
        ("http://[0:0:0:0:0:0:0:1]/x", "http://[::1]", "/x"),
        ("http://3com.example/", "http://3com.example", "/"),
    ],
)
def test_a_plain_address_is_read(text: str, origin: str, target: str) -> None:
    url = WebURL.parse(text)
    assert (str(url.origin), url.target) == (origin, target)
    assert Origin.parse(origin) == url.origin


def test_only_a_written_address_is_literal() -> None:
    assert Origin.parse("http://10.0.0.1").literal == IPv4Address("10.0.0.1")
    assert Origin.parse("http://[fd00::1]").literal == IPv6Address("fd00::1")
    assert Origin.parse("http://localhost").literal is None


@pytest.mark.parametrize("text", ["http://example.org/a", "http://example.org/?", "http://example.org?", "example.org"])
def test_an_origin_is_no_more_than_scheme_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Origin.parse(text)


@given(st.text(max_size=40))
def test_the_parser_refuses_with_one_error_only(tail: str) -> None:
    for text in (tail, f"http://{tail}", f"http://example.org{tail}", f"http://example.org/{tail}"):
        try:
            url = WebURL.parse(text)
        except ValueError:
            continue
        assert text.isascii()
        assert WebURL.parse(f"{url.origin}{url.target}") == url


NOT_PUBLIC = """
127.0.0.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 100.127.255.255
192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::7f00:1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1
2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1 4000::1
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_that_are_nobody_elses_business(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "2002:101:101::"])
def test_addresses_of_the_public_net(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_of_another_counts_as_itself(address: IPv4Address) -> None:
    number = int(address)
    assert is_public(IPv6Address(0xFFFF << 32 | number)) == is_public(address)
    assert is_public(IPv6Address(0x2002 << 112 | number << 80)) == is_public(address)
