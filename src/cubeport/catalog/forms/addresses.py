"""Which URLs of other machines are allowed: one parser, an allow-list of origins, and a check for public addresses.

Pure functions: nothing is resolved or opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Self

type Address = IPv4Address | IPv6Address

_PORTS = {"http": 80, "https": 443}
_LONGEST = 8_192
_URL = re.compile(
    r"(https?)://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?"
    r"([/?](?:[a-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE | re.ASCII,  # without ASCII, letters of other scripts that fold to ASCII letters would match
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNICAST = IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a URL, which is the unit of the allow-list."""

    scheme: str
    host: str
    """The host in lower case; an IPv6 address in its shortest form, without brackets."""
    port: int
    literal: Address | None = None
    """The IP address, if the URL contains one instead of a name."""

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Return the origin ``scheme://host`` or ``scheme://host:port``. Raises ValueError."""
        url = WebURL.parse(text)
        if url.target != "/" or "?" in text:
            raise ValueError("must be scheme://host or scheme://host:port")
        return url.origin

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class WebURL:
    """A URL that all parsers understand in the same way."""

    origin: Origin
    target: str
    """The path and query of the request."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the URL of *text*.

        Raises
        ------
        ValueError
            If two parsers could understand it differently: user info, fragments, backslashes, control characters, white space,
            hosts that are not ASCII or are unusual forms of a number, and fsspec chains (``::``).
        """
        found = _URL.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise ValueError("must be http or https, a host, a port if need be, and a path in plain ASCII; no user, no fragment")
        scheme, host, port, target = found.groups()
        scheme, target = scheme.lower(), target or "/"
        if "::" in target:
            raise ValueError("must be one plain address; chains (::) are refused")
        number = int(port) if port else _PORTS[scheme]
        if number > 65_535:
            raise ValueError("must have a port up to 65535")
        literal = _literal(host.lower())
        name = host.lower() if literal is None else str(literal)
        return cls(Origin(scheme, name, number, literal), f"/{target}" if target[0] == "?" else target)


def _literal(host: str) -> Address | None:
    """Return *host* as an IP address, or ``None`` for a name. Raises ValueError."""
    try:
        if host[0] == "[":
            return IPv6Address(host[1:-1])
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            return IPv4Address(host)  # four decimal numbers without leading zeros; 127.1, 0x7f000001 and 2130706433 are not
    except ValueError:
        raise ValueError("must name a host, or an address in its plain form") from None
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must name a host of letters, digits and hyphens")
    return None


def is_public(address: Address) -> bool:
    """Return whether *address* is globally routable. IPv4 inside IPv6 is checked as IPv4."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        return is_public(inner) if inner is not None else address in _UNICAST and address.is_global
    return address.is_global and not address.is_multicast


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address is loopback."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
