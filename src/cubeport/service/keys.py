"""Keys of callers over HTTP: who may do what without being on this machine.

Rows next to the records: every process sees an added or revoked key at its next request. Of a key only the sha256 is
kept; its text is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cubeport.catalog.backend import CatalogBackend, Row
from cubeport.catalog.forms.canonical import Timestamp, now
from cubeport.errors import Conflict, InvalidRequest, NotFound

type Scope = Literal["none", "read", "ingest", "admin"]

KEY = "key"
"""The row table."""

ACTIVE, REVOKED = "active", "revoked"

PER_NAME = 2
"""Active keys of one name: the old and the new one, while the old is still in use somewhere."""


class Key(BaseModel):
    """A key as the catalog keeps it: never its text, only the sha256 of that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_id: str
    sha256: str
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]
    scope: Scope
    datasets: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_*?\[\]!-]{1,64}$")], ...] = ("*",)
    """Globs of the dataset ids that it is for."""
    created_at: Timestamp = Field(default_factory=now)
    expires_at: Timestamp | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return what may be shown of it."""
        return self.model_dump(mode="json", exclude={"sha256"})


@dataclass(frozen=True, slots=True)
class Made:
    """A key just made, with its text: the only time that anybody sees it."""

    key: Key
    text: str


class Keys:
    """The keys of a catalog."""

    def __init__(self, backend: CatalogBackend) -> None:
        self._backend = backend
        self._rows = backend.rows

    def any(self) -> bool:
        """Return whether any key is active; then nobody is let in for being on this machine."""
        return self._rows.count(KEY, states=[ACTIVE]) > 0

    def get(self, key_id: str) -> Key | None:
        """Return the active key of that id."""
        row = self._rows.get(KEY, key_id)
        return Key.model_validate(row.document) if row is not None and row.state == ACTIVE else None

    def list(self) -> Sequence[Key]:
        """Return the active keys, oldest first."""
        return [Key.model_validate(row.document) for row in self._rows.select(KEY, states=[ACTIVE], limit=1000)]

    def add(
        self, name: str, *, scope: Scope = "read", datasets: Sequence[str] = ("*",), expires_at: datetime | None = None
    ) -> Made:
        """Make a key.

        Raises
        ------
        InvalidRequest
            When it would be expired already.
        Conflict
            When the name has two active keys.
        """
        if expires_at is not None and expires_at <= now():
            raise InvalidRequest("A key must expire in the future.")
        key_id = secrets.token_hex(4)
        text = f"cp_{key_id}_{secrets.token_urlsafe(24)}"
        made_at = now()
        key = Key(
            key_id=key_id,
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            name=name,
            scope=scope,
            datasets=tuple(datasets),
            created_at=made_at,
            expires_at=expires_at,
        )
        seq = int(made_at.timestamp() * 1_000_000)
        with self._backend.transaction():
            if self._rows.count(KEY, owner=name, states=[ACTIVE]) >= PER_NAME:
                raise Conflict(f"{name} has {PER_NAME} active keys.", next_step="cubeport keys revoke KEY_ID")
            self._rows.put(Row(KEY, key_id, key.model_dump(mode="json"), name, ACTIVE, seq))
        return Made(key, text)

    def revoke(self, key_id: str) -> Key:
        """End a key: it opens nothing at the next request, in every process. Raises NotFound."""
        with self._backend.transaction():
            row = self._rows.get(KEY, key_id)
            if row is None or row.state != ACTIVE:
                raise NotFound(f"There is no active key {key_id[:40]!r}.", what="key", next_step="cubeport keys list")
            self._rows.put(Row(KEY, key_id, row.document, row.owner, REVOKED, row.seq, row.revision))
        return Key.model_validate(row.document)
