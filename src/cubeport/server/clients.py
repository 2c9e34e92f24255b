"""The address of the client behind trusted proxies: ``X-Forwarded-For``, or ``Forwarded`` (RFC 7239).

Anybody can send these headers, so they count only if the connection is from a network in ``server.trusted_proxies``. They decide
whom the access log names, and nothing else: links begin with ``public_url``, and a forwarded request is never one of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cubeport.server.files import Headers

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PAIR = re.compile(rf'[ \t]*+(?:({_WORD})=({_WORD}|"(?:[^"\\]|\\.)*+"))?+[ \t]*+([;,]|\Z)')
"""One pair of ``Forwarded`` and what follows it (RFC 7239, 4). Nothing is tried twice, however long the header is."""


class Clients:
    """Finds the address of a client.

    Parameters
    ----------
    trusted
        The networks of the proxies, ``10.0.0.0/8`` or ``::1``.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(ip_network(each) for each in trusted)

    def of(self, peer: str, headers: Headers) -> str:
        """Return the address of the client: *peer*, unless it is a trusted proxy that names another.

        Of several addresses it is the last that is not of a trusted proxy, because a client can write those before it. Where the
        chain has something that is no address, the last address after it is returned. If both headers are there and name different
        clients, neither is believed: a proxy that writes one of them passes the other on as the client sent it.
        """
        if not self._trusted or (nearest := _address(peer)) is None or not self._trusts(nearest):
            return peer
        chains = [_listed(headers), _forwarded(headers)]
        found = {self._client(nearest, chain) for chain in chains if chain is not None}
        return str(found.pop() if len(found) == 1 else nearest)

    def _client(self, nearest: IPv4Address | IPv6Address, chain: Sequence[str]) -> IPv4Address | IPv6Address:
        for each in reversed(chain):
            address = _address(each)
            if address is None:
                break
            nearest = address
            if not self._trusts(nearest):
                break
        return nearest

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _values(headers: Headers, wanted: bytes) -> str | None:
    """Return the lines of a header as one list."""
    found = [value.decode("latin-1") for name, value in headers if name == wanted]
    return ",".join(found) if found else None


def _listed(headers: Headers) -> list[str] | None:
    """Return the addresses of ``X-Forwarded-For``, that of the last proxy last; ``None`` without this header."""
    value = _values(headers, b"x-forwarded-for")
    return None if value is None else value.split(",")


def _forwarded(headers: Headers) -> list[str] | None:
    """Return the ``for`` of each element of ``Forwarded``, empty where it has none; ``None`` without this header.

    A header that breaks the grammar has no elements.
    """
    value = _values(headers, b"forwarded")
    if value is None:
        return None
    elements, at = [""], 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is None:
            return []
        name, given, end = pair.groups()
        if name is not None and name.lower() == "for":
            elements[-1] = re.sub(r"\\(.)", r"\1", given[1:-1]) if given.startswith('"') else given
        if end == ",":
            elements.append("")
        at = pair.end()
    return elements


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; ``None`` if it is none.

    An IPv4 address of a socket of both families (``::ffff:1.2.3.4``) is that of IPv4.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        # A zone means something on the machine that wrote it only, and can be any text.
        return None if found.scope_id is not None else found.ipv4_mapped or found
    return found
