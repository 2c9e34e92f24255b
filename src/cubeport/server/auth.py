"""Authorisation: everything is denied by default, and decided before any handler runs.

Each route has a scope in :data:`RULES`; any other route is refused for all callers. ``/zarr`` and the read faces need ``read``, for
which no key is needed unless ``auth.public_reads`` is false.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import Scope as ASGIScope

from cubeport.catalog.audience import Audience
from cubeport.catalog.forms import clock
from cubeport.catalog.forms.addresses import is_loopback
from cubeport.errors import Forbidden, InvalidConfiguration, ReadOnly, Unauthorized, Unavailable
from cubeport.server import peers
from cubeport.server.peers import Address
from cubeport.service.keys import Key, Scope

ORDER: tuple[Scope, ...] = ("none", "read", "ingest", "admin")
"""The scopes. Each includes those before it."""

OPEN: tuple[Scope, ...] = ("none", "read")
"""The scopes that change nothing."""

RULES: Mapping[tuple[str, str], Scope] = {
    ("GET", "/health"): "none",
    ("GET", "/ready"): "none",
    ("GET", "/metrics"): "admin",
    ("GET", "/"): "read",
    ("GET", "/info"): "read",
    ("GET", "/docs"): "read",
    ("GET", "/docs/calendars"): "read",
    ("GET", "/help"): "read",
    ("GET", "/openapi.json"): "read",
    ("GET", "/assets/{name}"): "read",
    ("GET", "/coast.svg"): "read",
    ("GET", "/robots.txt"): "read",
    ("GET", "/sitemap.xml"): "read",
    ("GET", "/problems/{kind}"): "read",
    ("POST", "/ingestions"): "ingest",
    ("GET", "/ingestions"): "ingest",
    ("GET", "/ingestions/{ingestion_id}"): "ingest",
    ("GET", "/ingestions/{ingestion_id}/events"): "ingest",
    ("DELETE", "/ingestions/{ingestion_id}"): "ingest",
    ("POST", "/ingestions/{ingestion_id}/retry"): "ingest",
    ("GET", "/jobs"): "read",
    ("POST", "/uploads"): "ingest",
    ("POST", "/sync/{dataset_id}"): "ingest",
    ("GET", "/sync/{dataset_id}/plan"): "ingest",
    ("GET", "/extent"): "read",
    ("GET", "/extent/{extent_id}"): "read",
    ("GET", "/zones"): "read",
    ("GET", "/zones/{zone_set_id}"): "read",
    ("PUT", "/zones/{zone_set_id}"): "ingest",
    ("DELETE", "/zones/{zone_set_id}"): "ingest",
    ("GET", "/dataset-templates"): "read",
    ("GET", "/dataset-templates/{template_id}"): "read",
    ("GET", "/records"): "read",
    ("GET", "/records/{record_id}"): "read",
    ("GET", "/records/{record_id}/history"): "read",
    ("GET", "/records/{record_id}/lineage"): "read",
    ("GET", "/records/{record_id}/artifacts"): "read",
    ("GET", "/records/{record_id}/artifacts/{artifact_id}"): "read",
    ("GET", "/records/{record_key:path}"): "read",
    ("GET", "/datasets"): "read",
    ("GET", "/datasets/{dataset_id}"): "read",
    ("GET", "/datasets/{dataset_id}/versions"): "read",
    ("GET", "/datasets/{dataset_id}/versions/{ref}"): "read",
    ("GET", "/datasets/{dataset_id}/diff"): "read",
    ("GET", "/datasets/{dataset_id}/citation"): "read",
    ("GET", "/datasets/{dataset_id}/download"): "read",
    ("GET", "/datasets/{dataset_id}/plot"): "read",
    ("GET", "/datasets/{dataset_id}/table"): "read",
    ("POST", "/datasets/{dataset_id}/table"): "read",
    ("POST", "/ogcapi/processes/{process_id}/execution"): "read",
    ("DELETE", "/ogcapi/jobs/{job_id}"): "read",
    ("GET", "/datasets/{dataset_id}/thumbnail.png"): "read",
    ("GET", "/datasets/{dataset_id}/legend"): "read",
    ("GET", "/datasets/{dataset_id}/replica"): "read",
    ("PUT", "/replicas/{digest}"): "ingest",
    ("PUT", "/replicas/{digest}/objects/{sha256}"): "ingest",
    ("POST", "/replicas/{digest}"): "ingest",
    ("GET", "/wms/{dataset_id}"): "read",
    ("GET", "/wmts/{dataset_id}"): "read",
    ("GET", "/wmts/{dataset_id}/1.0.0/WMTSCapabilities.xml"): "read",
    ("PATCH", "/datasets/{dataset_id}"): "ingest",
    ("POST", "/datasets/{dataset_id}/publish"): "ingest",
    ("POST", "/datasets/{dataset_id}/unpublish"): "ingest",
    ("POST", "/datasets/{dataset_id}/refresh"): "ingest",
    ("POST", "/datasets/{dataset_id}/rollback"): "admin",
    ("PUT", "/datasets/{dataset_id}/tags/{tag}"): "ingest",
    ("DELETE", "/datasets/{dataset_id}/tags/{tag}"): "ingest",
    ("GET", "/changes"): "read",
    ("DELETE", "/datasets/{dataset_id}"): "admin",
    ("GET", "/usage"): "admin",
    ("GET", "/webhooks"): "admin",
    ("GET", "/recipes"): "read",
    ("GET", "/derived"): "ingest",
    ("POST", "/datasets/{dataset_id}/restore"): "admin",
    ("GET", "/dap/{dap_name}"): "read",
    ("GET", "/griddap/{griddap_name}"): "read",
    ("GET", "/info/{griddap_id}/index.{table_form}"): "read",
    ("GET", "/stac"): "read",
    ("GET", "/stac/catalog.json"): "read",
    ("GET", "/stac/catalogs/{beginning}"): "read",
    ("GET", "/stac/conformance"): "read",
    ("GET", "/stac/api"): "read",
    ("GET", "/stac/api.html"): "read",
    ("GET", "/stac/search"): "read",
    ("POST", "/stac/search"): "read",
    ("GET", "/stac/collections"): "read",
    ("GET", "/stac/collections/{collection_id}"): "read",
    ("GET", "/stac/queryables"): "read",
    ("GET", "/stac/collections/{collection_id}/queryables"): "read",
    ("GET", "/stac/collections/{collection_id}/items"): "read",
    ("GET", "/stac/collections/{collection_id}/items/{item_id}"): "read",
}
"""The scope by method and route. All reads below ``/ogcapi`` have the scope ``read``."""


def scope_of(method: str, template: str) -> Scope | None:
    """Return the scope of a route; ``None`` means that it is refused for all callers."""
    if method == "GET" and (template == "/ogcapi" or template.startswith("/ogcapi/")):
        return "read"
    return RULES.get((method, template))


class Keys(Protocol):
    """The store of keys. It is read for each request, so that a revoked key is invalid everywhere immediately."""

    def any(self) -> bool:
        """Return whether any key exists."""

    def get(self, key_id: str) -> Key | None: ...


class Visible(Protocol):
    """What says whether the caller may see a dataset."""

    def visible(self, dataset_id: str, *, if_none: bool = True) -> bool: ...


class NoKeys:
    """An instance without keys."""

    def any(self) -> bool:
        """Return False."""
        return False

    def get(self, key_id: str) -> Key | None:  # noqa: ARG002 (the protocol's signature)
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request."""

    scope: Scope
    name: str | None = None
    datasets: tuple[str, ...] = ("*",)

    def may(self, scope: Scope) -> bool:
        """Return whether the caller has *scope*."""
        return ORDER.index(self.scope) >= ORDER.index(scope)

    def covers(self, dataset_id: str) -> bool:
        """Return whether the key is valid for this dataset."""
        return any(fnmatchcase(dataset_id, pattern) for pattern in self.datasets)

    def check_dataset(self, dataset_id: str) -> None:
        """Raise Forbidden if the key is not valid for the dataset."""
        if not self.covers(dataset_id):
            raise Forbidden("The key is not for this dataset")


def audience_of(caller: Caller) -> Audience | None:
    """Return the records that a caller sees by their ``visibility``; ``None`` for all.

    Everybody sees ``public``; each key sees ``project`` too, and what was created under its name; admin keys see everything, and so
    does the own user on this machine.
    """
    if caller.may("admin") or caller.name == "loopback":
        return None
    return Audience() if caller.name is None else Audience(frozenset({"public", "project"}), name=caller.name)


def may_know_of(request: Request, service: Visible, dataset_id: str, *, if_none: bool = False) -> bool:
    """Return whether the caller may read the id of a dataset in what was kept of it, such as its jobs.

    Parameters
    ----------
    if_none
        The answer if the catalog has no record with this id, so that nobody knows whether it was private: it never existed, or its
        record was purged. Who sees everything sees this too.
    """
    return audience_of(caller_of(request)) is None or service.visible(dataset_id, if_none=if_none)


def caller_of(request: Request) -> Caller:
    """Return the caller of a request that passed the gatekeeper."""
    caller: Caller = request.scope["cubeport.caller"]
    return caller


def require(request: Request, scope: Literal["ingest", "admin"]) -> None:
    """Raise Unauthorized or Forbidden if the caller does not have *scope*."""
    caller = caller_of(request)
    if not caller.may(scope):
        raise (Unauthorized if caller.name is None else Forbidden)(f"This needs a key with the scope {scope}")


def sees_unpublished(request: Request, dataset_id: str) -> bool:
    """Return whether the caller may see unpublished parts of a dataset."""
    caller = caller_of(request)
    return caller.may("ingest") and caller.covers(dataset_id)


_KEY = re.compile(r"cp_([a-z0-9]{4,32})_([A-Za-z0-9_-]{22,128})")
_FORWARDING = re.compile(
    rb"forwarded|via|cdn-loop|client-ip|true-client-ip|x-(?:forwarded|original|real|client|cluster|proxy|envoy|remote|host|scheme|"
    rb"azure|appengine|amzn?|arr|sendfile|accel|traefik|varnish|wap)\b.*|(?:cf|fastly|fly|akamai|do|incap|x-nf|x-vercel)-.*"
)
"""Headers that proxies, load balancers and content networks add. A direct client sends none of them."""

KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})

type Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Connection:
    """The addresses and headers that show where a request comes from."""

    headers: Headers
    peer: Address | None = None
    here: Address | None = None
    """The local address of the connection."""
    http_version: str = "1.1"

    @classmethod
    def of(cls, scope: ASGIScope) -> Connection:
        """Return the connection of an ASGI scope."""
        peer, here = scope.get("client"), scope.get("server")
        return cls(scope["headers"], peer and tuple(peer), here and tuple(here), scope.get("http_version", "1.1"))


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Identifies callers and checks their scopes."""

    keys: Keys
    public_reads: bool = True
    open_on_loopback: bool = False
    read_only: bool = False
    public_metrics: bool = False
    local_token: str | None = None
    """The secret with which a caller on this machine proves its identity. Only the user of the instance can read it."""
    asks_for_itself: Callable[[Address | None, Address | None], bool] = peers.asks_for_itself

    def caller(self, connection: Connection, now: datetime | None = None, *, prove: bool = True) -> Caller:
        """Return the caller of a request.

        Parameters
        ----------
        prove
            Whether to ask the kernel for the identity of a caller on this machine. This reads a line for each socket of the
            machine, so it runs in a thread, and not for public reads.

        Raises
        ------
        Unauthorized
            If a key is malformed, unknown or expired, or is not in the ``Authorization`` header.
        """
        given = _given_key(connection.headers)
        if given is not None:
            if self._is_local_token(given, connection):
                return Caller("admin", "local")
            return self._known(given, now or clock.now())
        if self._is_open(connection, prove=prove):
            return Caller("ingest", "loopback")
        return Caller("read" if self.public_reads else "none")

    def _is_open(self, connection: Connection, *, prove: bool) -> bool:
        """Return whether the caller is on this machine and may ingest without a key."""
        return (
            self.open_on_loopback
            and is_local(connection)
            and not foreign_origin(connection.headers)
            and not self.keys.any()
            # A proxy or tunnel on this machine may add no headers. A process without incoming connections is neither.
            and (not prove or self.asks_for_itself(connection.peer, connection.here))
        )

    def _may_watch(self, connection: Connection) -> bool:
        """Return whether a caller may read operator data without a key: only the own user on this machine, which can read the
        files too.
        """
        return is_local(connection) and self.asks_for_itself(connection.peer, connection.here)

    def _is_local_token(self, given: str, connection: Connection) -> bool:
        """Return whether a caller on this machine sent the local secret, which a proxy does not know."""
        if self.local_token is None or not hmac.compare_digest(given.encode(), self.local_token.encode()):
            return False
        return self._is_open(connection, prove=False)

    def needed(self, method: str, template: str) -> Scope | None:
        """Return the scope of a route here; ``None`` means that it is refused for all callers."""
        if self.public_metrics and (method, template) == ("GET", "/metrics"):
            return "none"  # and nothing else of operators: /usage names all datasets
        return scope_of(method, template)

    def check_read(self, connection: Connection) -> None:
        """Refuse a read without a required key. If reads are public and there is no key, nothing else is checked."""
        if not self.public_reads or any(name in KEY_HEADERS for name, _ in connection.headers):
            self.check("read", "GET", connection)

    def check(self, needed: Scope | None, method: str, connection: Connection) -> Caller:
        """Return the caller if it has the scope *needed*. ``None`` refuses all callers.

        Raises
        ------
        ReadOnly
            For everything except reads, if the server is read-only.
        Unauthorized, Forbidden
            If the caller has no key, or a key without the scope.
        """
        if needed == "none":
            return Caller("none")
        watches = needed == "admin" and method in ("GET", "HEAD")
        try:
            caller = self.caller(connection, prove=needed not in OPEN)
        except Unavailable:
            # The metrics of a server whose catalog does not answer are needed most.
            if watches and _given_key(connection.headers) is None and self._may_watch(connection):
                return Caller("read" if self.public_reads else "none")
            raise
        if needed is None:
            raise Forbidden("This is not possible over HTTP")
        if needed != "read" and method not in ("GET", "HEAD") and self.read_only:
            raise ReadOnly("This server is read-only")
        if caller.may(needed) or (watches and self._may_watch(connection)):
            return caller
        if caller.name == "loopback":
            raise Unauthorized(
                f"Without a key, a caller on this machine may only ingest, because a reverse proxy could forward the request "
                f"for anybody; this needs the scope {needed}",
                next_step="Use the command line, or send a key, or the text of .cubeport/local-token, as Authorization: Bearer ….",
                scope=needed,
            )
        if caller.name is not None:
            raise Forbidden(f"This needs the scope {needed}", scope=needed)
        if method not in ("GET", "HEAD") and foreign_origin(connection.headers):
            raise Forbidden("A web page from another origin may not do this")
        if self._is_open(connection, prove=False):
            raise Unauthorized(
                "The process that sent this may be a proxy or tunnel, or cannot be identified. Without a key, it may not write",
                next_step="Use the command line, or send a key, or the text of .cubeport/local-token, as Authorization: Bearer ….",
            )
        raise Unauthorized(
            f"This needs a key with the scope {needed}", next_step="Send it as Authorization: Bearer cp_….", scope=needed
        )

    def _known(self, given: str, now: datetime) -> Caller:
        match = _KEY.fullmatch(given)
        key = self.keys.get(match[1]) if match else None
        digest = hashlib.sha256(given.encode()).hexdigest()
        # Compared even if there is no such key, so that the time does not reveal which ids exist.
        right = hmac.compare_digest(digest, key.sha256 if key else "0" * 64)
        if key is None or not right or (key.expires_at is not None and key.expires_at <= now):
            raise Unauthorized("The key is not known or no longer valid")
        return Caller(key.scope, key.name, key.datasets)


def _given_key(headers: Headers) -> str | None:
    found: list[str] = []
    for name, value in headers:
        if name == b"x-api-key":
            found.append(value.decode("latin-1").strip())
        elif name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized("The only scheme is Bearer", next_step="Send Authorization: Bearer cp_….")
            found.append(token.strip())
    if len(found) > 1:
        raise Unauthorized("There is more than one key in the request")
    return found[0] if found else None


def is_local(connection: Connection) -> bool:
    """Return whether the peer and the single ``Host`` are loopback, and no header shows that the request was forwarded."""
    hosts = [value.decode("latin-1") for name, value in connection.headers if name == b"host"]
    if connection.http_version == "1.0" or any(_FORWARDING.fullmatch(name) for name, _ in connection.headers):
        return False  # HTTP/1.0, which nginx uses for forwarding by default
    peer = connection.peer[0] if connection.peer else ""
    return len(hosts) == 1 and is_loopback(peer) and is_loopback(host_of(hosts[0]))


def foreign_origin(headers: Headers) -> bool:
    """Return whether a page of another origin sent the request, because its ``Origin`` differs from the ``Host``."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
    return any(len(hosts) != 1 or urlsplit(origin).netloc != hosts[0] for origin in origins)


def host_of(authority: str) -> str:
    """Return the host of ``host``, ``host:port`` or ``[v6]:port``."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def check_exposure(*, host: str, public_url: str | None, keys_exist: bool, read_only: bool) -> None:
    """Refuse to start a server that others can reach and anybody could modify.

    Raises
    ------
    InvalidConfiguration
        If the bind address or ``public_url`` is not loopback and there is neither a key nor ``read_only``; or if the bind address
        is not loopback and there is no ``public_url`` for links.
    """
    outside = not is_loopback(host) or (public_url is not None and not is_loopback(urlsplit(public_url).hostname or ""))
    if not is_loopback(host) and public_url is None:
        raise InvalidConfiguration(
            f"server.host {host} is not loopback, so public_url is required: links begin with it.",
            next_step="set public_url, for example with `cubeport serve --public-url https://data.example.org`",
        )
    if outside and not keys_exist and not read_only:
        raise InvalidConfiguration(
            "Other machines can reach this server, but no key exists.",
            next_step="add a key with `cubeport keys add NAME --scope ingest`, or start it with `cubeport serve --read-only`",
        )
