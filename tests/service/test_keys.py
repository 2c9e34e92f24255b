"""service.md 11: keys kept as sha256, shown once, ended at once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from cubeport.adapters.backends.sql import SqlBackend
from cubeport.catalog.forms.canonical import dumps, now
from cubeport.errors import Conflict, InvalidRequest, NotFound, Unauthorized
from cubeport.server.auth import Connection, Gatekeeper
from cubeport.service.keys import KEY, Keys


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqlBackend]:
    with contextlib.closing(SqlBackend.create(tmp_path / "catalog.db", "c" * 32)) as backend:
        yield backend


@pytest.fixture
def keys(backend: SqlBackend) -> Keys:
    return Keys(backend)


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"data.example"), (b"authorization", f"Bearer {text}".encode())]


def test_a_key_opens_what_it_is_for_and_its_text_is_kept_nowhere(keys: Keys, backend: SqlBackend) -> None:
    assert not keys.any()
    made = keys.add("ann", scope="ingest", datasets=["sea-*"])
    assert keys.any()
    caller = Gatekeeper(keys).check("ingest", "POST", Connection(bearer(made.text), ("8.8.8.8", 1234)))
    assert (caller.name, caller.scope, caller.covers("sea-ice"), caller.covers("land")) == ("ann", "ingest", True, False)
    row = backend.rows.get(KEY, made.key.key_id)
    assert row is not None
    assert made.text not in dumps(row.document)
    assert row.document["sha256"] == hashlib.sha256(made.text.encode()).hexdigest()
    assert "sha256" not in made.key.to_mapping()


def test_texts_are_random_and_fit_the_grammar_of_the_edge(keys: Keys) -> None:
    texts = {keys.add(f"n{n}", scope="read").text for n in range(50)}
    assert len(texts) == 50
    for text in texts:
        assert Gatekeeper(keys).check("read", "GET", Connection(bearer(text))).scope == "read"


def test_a_revoked_key_opens_nothing_at_the_next_request(keys: Keys, backend: SqlBackend) -> None:
    made = keys.add("ann", scope="admin")
    Keys(backend).revoke(made.key.key_id)
    with pytest.raises(Unauthorized):
        Gatekeeper(keys).check("read", "GET", Connection(bearer(made.text)))
    assert (keys.list(), keys.any()) == ([], False)
    with pytest.raises(NotFound):
        keys.revoke(made.key.key_id)


def test_a_key_expires(keys: Keys) -> None:
    made = keys.add("ann", expires_at=now() + timedelta(hours=1))
    keeper = Gatekeeper(keys)
    assert keeper.caller(Connection(bearer(made.text))).name == "ann"
    with pytest.raises(Unauthorized):
        keeper.caller(Connection(bearer(made.text)), now=now() + timedelta(hours=2))
    with pytest.raises(InvalidRequest):
        keys.add("ann", expires_at=now() - timedelta(seconds=1))


def test_two_active_keys_a_name(keys: Keys) -> None:
    first = keys.add("ann")
    keys.add("ann")
    with pytest.raises(Conflict):
        keys.add("ann")
    keys.add("bob")
    keys.revoke(first.key.key_id)
    keys.add("ann")
    assert [each.name for each in keys.list()] == ["ann", "bob", "ann"]


@pytest.mark.parametrize(("name", "datasets"), [("Ann Lee", ["*"]), ("", ["*"]), ("ann", ["../x"]), ("ann", [""])])
def test_names_and_globs_are_checked(keys: Keys, name: str, datasets: list[str]) -> None:
    with pytest.raises(ValidationError):
        keys.add(name, datasets=datasets)
    assert not keys.any()
