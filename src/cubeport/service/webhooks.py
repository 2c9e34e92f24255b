"""Webhooks: changes that readers can see are sent to URLs in the settings after the commit, at least once.

A thread reads the feed of changes from the position of each webhook, and moves the position after the receiver has accepted a
change. Nothing is kept only in memory, so a kill loses nothing; a change that was being sent is sent again with the same id.
Requests are signed as defined by https://www.standardwebhooks.com, so its libraries can verify them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from cubeport.catalog.backend import CatalogBackend, Row
from cubeport.catalog.forms.canonical import dumps, new_id, now, timestamp
from cubeport.catalog.forms.clock import has_come
from cubeport.errors import CubeportError, InvalidConfiguration, Locked, NotFound, StaleRecord
from cubeport.service.changes import Change
from cubeport.service.changes import change as read_change
from cubeport.service.outages import CATALOG, Outages
from cubeport.service.state import CHANGE
from cubeport.service.viewing import RESTRICTED

WEBHOOK = "webhook"
"""The table of positions, with one row for each webhook."""

TRIES = 8
"""The largest number of attempts for one change."""

WAITS_S = (2, 10, 30, 120, 600, 1_800, 3_600)
"""The pauses between the attempts for one change, in seconds."""

LOOK_S = 1.0
"""How often the feed is read, in seconds."""

_AT_ONCE = 100
_SHORTEST_SECRET = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver in the settings."""

    url: str
    secret: str | None
    """The signing secret; ``None`` if the variable is not set."""
    secret_env: str
    """The name of the environment variable with the secret."""
    events: tuple[str, ...] = ()
    """The reasons of changes to send; empty for all."""
    restricted: bool = False
    """Whether it receives the changes of datasets that not everybody may see."""
    old_secret: str | None = None
    """The secret before this one: as long as it is named, requests are signed with both."""
    old_secret_env: str | None = None

    @classmethod
    def of(
        cls,
        environ: Mapping[str, str],
        *,
        url: str,
        secret_env: str,
        old_secret_env: str | None,
        events: tuple[str, ...],
        restricted: bool,
    ) -> Webhook:
        """Return a receiver with the secrets that its variables have in *environ*."""
        old = environ.get(old_secret_env) if old_secret_env is not None else None
        return cls(url, environ.get(secret_env), secret_env, events, restricted, old, old_secret_env)

    @property
    def id(self) -> str:
        """The id for commands. The URL is not shown completely, because it can contain a secret."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:8]

    def wants(self, change: Change) -> bool:
        """Return whether a change is sent to it."""
        told = self.restricted or change.visibility not in RESTRICTED
        return told and (not self.events or change.reason in self.events)

    @property
    def origin(self) -> str:
        """Its scheme, host and port."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"

    def check(self) -> None:
        """Check that each variable has a secret that is long enough. Raises InvalidConfiguration with the name of the variable."""
        words = f"needs a secret of {_SHORTEST_SECRET} bytes or more in the variable"
        if not _is_good(self.secret):
            raise InvalidConfiguration(
                f"The webhook to {self.origin} {words} {self.secret_env}.",
                next_step=f"export {self.secret_env}=$(openssl rand -hex 32)",
            )
        if self.old_secret_env is not None and not _is_good(self.old_secret):
            raise InvalidConfiguration(
                f"The webhook to {self.origin} {words} {self.old_secret_env}.",
                next_step="set it to the secret that the receiver still knows, or remove old_secret_env when it knows the new one",
            )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The progress of a webhook."""

    cursor: int
    """The number of the last finished change: accepted by the receiver, given up, or not requested."""
    tries: int = 0
    """The number of attempts for the next change."""
    next_at: str | None = None
    """When the next attempt starts."""
    delivered: int = 0
    given_up: int = 0
    last_at: str | None = None
    """When a change was last accepted."""
    last_error: str | None = None


class Post(Protocol):
    """Sends a body to an allowed URL."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer. Raises CubeportError if there is none, or the URL is not allowed."""


def signature(secret: str, message_id: str, at: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``: HMAC-SHA256 of ``{id}.{timestamp}.{body}``, base64 (Standard Webhooks 1.0)."""
    signed = b".".join((message_id.encode(), str(at).encode(), body))
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _is_good(secret: str | None) -> bool:
    return secret is not None and len(_key(secret)) >= _SHORTEST_SECRET


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidConfiguration("After whsec_, the secret of a webhook must be base64.") from None


class Webhooks:
    """The webhooks of an instance.

    Parameters
    ----------
    post
        Sends requests; see :class:`Post`.
    lock
        ``lock(webhook_id)`` is held by the process that serves a webhook. It raises Locked immediately if another process holds it.
    name
        The id of the instance, with which every message id begins.
    """

    def __init__(
        self,
        backend: CatalogBackend,
        hooks: Sequence[Webhook],
        *,
        post: Post,
        lock: Callable[[str], AbstractContextManager[object]],
        name: str,
        public_url: str,
        outages: Outages | None = None,
    ) -> None:
        self._outages = outages or Outages(_log)
        self._rows = backend.rows
        self.hooks = tuple(hooks)
        self._post = post
        self._lock = lock
        self._name = name
        self._url = public_url

    def check(self) -> None:
        """Check that every webhook has a secret. Raises InvalidConfiguration with the names of the variables."""
        for hook in self.hooks:
            hook.check()

    def list(self) -> list[dict[str, Any]]:
        """Return all webhooks with their progress."""
        newest = self._newest()
        return [self._document(hook, newest) for hook in self.hooks]

    def _document(self, hook: Webhook, newest: int) -> dict[str, Any]:
        row = self._rows.get(WEBHOOK, hook.id)
        place = _place(row) if row is not None else None
        waiting = newest - place.cursor if place is not None else 0
        state = "new" if place is None else "failing" if place.tries else "behind" if waiting else "up-to-date"
        shown = {name: value for name, value in asdict(place or Delivered(newest)).items() if name != "cursor"}
        return {
            "webhook_id": hook.id,
            "origin": hook.origin,
            "events": list(hook.events),
            "secret_env": hook.secret_env,
            "has_secret": hook.secret is not None,
            "state": state,
            "waiting": waiting,
            **shown,
        }

    def test(self, webhook_id: str) -> dict[str, Any]:
        """Send a ``ping`` now. Return the status of the answer, or why there is none. Raises NotFound, InvalidConfiguration."""
        found = [each for each in self.hooks if each.id.startswith(webhook_id) and len(webhook_id) >= 4]
        if len(found) != 1:
            raise NotFound(f"There is no webhook {webhook_id[:40]!r}.", what="webhook", next_step="cubeport webhooks list")
        self.check()
        body = dumps({"kind": "Ping", "time": timestamp(now())}).encode()
        status, problem = self._send(found[0], f"{self._name}-ping-{new_id()[:12]}", body)
        return {"webhook_id": found[0].id, "origin": found[0].origin, "status": status, "error": problem}

    def deliver(self, hook: Webhook, at: datetime | None = None, *, stopping: threading.Event | None = None) -> int:
        """Send new and due changes to a webhook, unless another process serves it, and at most one after *stopping* is set. Return
        how many were accepted.
        """
        taken = 0
        try:
            with self._lock(hook.id):
                while (more := self._serve(hook, at or now())) is not None:
                    taken += more
                    if stopping is not None and stopping.is_set():
                        break
        except (Locked, StaleRecord):
            pass  # another process serves it
        return taken

    def run(self, hook: Webhook, stopping: threading.Event) -> None:
        """Deliver to one webhook until *stopping* is set."""
        while not stopping.is_set():
            with suppress(CubeportError, OSError), self._outages.watched(CATALOG):
                self.deliver(hook, stopping=stopping)
            stopping.wait(LOOK_S)

    def _serve(self, hook: Webhook, at: datetime) -> int | None:
        """Process the next change of a webhook. Return 1 if it was accepted, 0 if it was skipped, ``None`` if there is nothing to
        do.
        """
        row = self._rows.get(WEBHOOK, hook.id)
        if row is None:
            # A new webhook begins here. Earlier changes are in the feed.
            self._rows.put(Row(WEBHOOK, hook.id, asdict(Delivered(self._newest()))))
            return 0
        place = _place(row)
        longest = timedelta(seconds=WAITS_S[-1])
        if place.next_at is not None and not has_come(datetime.fromisoformat(place.next_at), within=longest, at=at):
            return None
        changes = self._rows.select(CHANGE, after=(place.cursor, "~"), limit=_AT_ONCE)
        if not changes:
            return None
        if (lost := changes[0].seq - place.cursor - 1) > 0:
            _log.warning("webhook %s: %d changes were forgotten (changes.keep_days) before it could be told", hook.id, lost)
            row = self._rows.put(_row(row, replace(place, cursor=changes[0].seq - 1, given_up=place.given_up + lost, tries=0)))
            place = _place(row)
        wanted = [each for each in map(read_change, changes) if hook.wants(each)]
        if not wanted:
            self._rows.put(_row(row, replace(place, cursor=changes[-1].seq)))
            return 0
        change = wanted[0]
        _, problem = self._send(hook, f"{self._name}-{change.seq}-{change.id[:12]}", self._body(change))
        done = replace(place, cursor=change.seq, tries=0, next_at=None, last_error=problem)
        if problem is None:
            self._rows.put(_row(row, replace(done, delivered=place.delivered + 1, last_at=timestamp(now()))))
            return 1
        tries = place.tries + 1
        _log.warning("webhook %s: change %d was not taken at try %d of %d: %s", hook.id, change.seq, tries, TRIES, problem)
        if tries >= TRIES:
            self._rows.put(_row(row, replace(done, given_up=place.given_up + 1)))
            return 0
        wait = timedelta(seconds=WAITS_S[tries - 1])
        self._rows.put(_row(row, replace(place, tries=tries, next_at=timestamp(now() + wait), last_error=problem)))
        return None

    def _send(self, hook: Webhook, message_id: str, body: bytes) -> tuple[int | None, str | None]:
        """Return the status and, unless the body was accepted (2xx), the problem."""
        if hook.secret is None:
            return None, f"{hook.secret_env} is not set"
        secrets = (hook.secret,) if hook.old_secret is None else (hook.secret, hook.old_secret)
        at = int(now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join(signature(secret, message_id, at, body) for secret in secrets),
        }
        try:
            status = self._post(hook.url, body, headers)
        except CubeportError as exc:
            return None, exc.message
        return status, None if 200 <= status < 300 else f"the receiver answers {status}"

    def _body(self, change: Change) -> bytes:
        document = {name: getattr(change, name) for name in ("cursor", "time", "type", "reason", "dataset_id", "version_id")}
        return dumps({**document, "href": f"{self._url}/datasets/{change.dataset_id}"}).encode()

    def _newest(self) -> int:
        newest = self._rows.select(CHANGE, descending=True, limit=1)
        return newest[0].seq if newest else 0


def _place(row: Row) -> Delivered:
    return Delivered(**dict(row.document))


def _row(row: Row, place: Delivered) -> Row:
    return replace(row, document=asdict(place))
