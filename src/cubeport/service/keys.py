"""API keys, which give callers on other machines permissions over HTTP.

They are rows next to the records, so every process sees an added or revoked key at its next request. Only the sha256 of a key is
stored; its text is shown once, when it is made.
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
"""The largest number of active keys with the same name: the new one, and the old one while it is still in use."""


class Key(BaseModel):
    """A key in the catalog: the sha256 of its text, never the text itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_id: str
    sha256: str
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]
    scope: Scope
    datasets: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_*?\[\]!-]{1,64}$")], ...] = ("*",)
    """Globs of the dataset ids for which it is valid."""
    created_at: Timestamp = Field(default_factory=now)
    expires_at: Timestamp | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return the fields that may be shown."""
        return self.model_dump(mode="json", exclude={"sha256"})


@dataclass(frozen=True, slots=True)
class Made:
    """A new key with its text, which is shown only once."""

    key: Key
    text: str


class Keys:
    """The keys of a catalog."""

    def __init__(self, backend: CatalogBackend) -> None:
        self._backend = backend
        self._rows = backend.rows

    def any(self) -> bool:
        """Return whether any key is active. Callers on this machine then need a key too."""
        return self._rows.count(KEY, states=[ACTIVE]) > 0

    def get(self, key_id: str) -> Key | None:
        """Return the active key with this id, or ``None``."""
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
            If it would already be expired.
        Conflict
            If the name already has two active keys.
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
        """Revoke a key. It is invalid in every process from the next request on. Raises NotFound."""
        with self._backend.transaction():
            row = self._rows.get(KEY, key_id)
            if row is None or row.state != ACTIVE:
                raise NotFound(f"There is no active key {key_id[:40]!r}.", what="key", next_step="cubeport keys list")
            self._rows.put(Row(KEY, key_id, row.document, row.owner, REVOKED, row.seq, row.revision))
        return Key.model_validate(row.document)
