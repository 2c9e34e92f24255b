"""Manifests in snapshots of Icechunk: what was stored is read again, and a version shares what it did not change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest

pytest.importorskip("icechunk")

import icechunk

from cubeport.adapters.engines import documents, repositories
from cubeport.adapters.engines.manifest import Entry, to_bytes

NODE = ".cubeport/manifest"


def manifest(steps: Iterable[int], *, changed: str = "") -> bytes:
    """Return the manifest of a cube with a hundred chunks a step."""
    found = {f"t/c/{step}/{place // 10}/{place % 10}" for step in steps for place in range(100)}
    found |= {"lat/c/0", "lat/zarr.json", "t/zarr.json", "time/c/0", "time/zarr.json", "zarr.json"}
    return to_bytes({key: Entry(900, hashlib.sha256((key + changed * (key == "t/c/7/0/0")).encode()).hexdigest()) for key in found})


@pytest.fixture
def repository() -> Any:
    return icechunk.Repository.create(icechunk.in_memory_storage())


def stored(repository: Any, content: bytes) -> str:
    session = repository.writable_session("main")
    documents.put(session, NODE, content)
    snapshot: str = session.commit("a version")
    return snapshot


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []
    send = repositories.set_all

    def noted(session: Any, objects: Iterable[tuple[str, Callable[[], bytes]]]) -> None:
        objects = list(objects)
        keys.extend(key for key, _ in objects if not key.endswith("zarr.json"))
        send(session, objects)

    monkeypatch.setattr(repositories, "set_all", noted)
    return keys


def test_a_version_sends_the_parts_of_its_manifest_that_changed(repository: Any, sent: list[str]) -> None:
    states = [manifest(range(60)), manifest(range(61)), manifest(range(61), changed="x"), manifest(range(9)), manifest([3])]
    states += [manifest(range(5, 80)), manifest(range(40))]
    found, parts = [], []
    for each in states:
        sent.clear()
        found.append(stored(repository, each))
        parts.append(len(sent))
    assert parts[0] > 8
    assert max(parts[1:3]) <= 3, "one part has the new step, one the end of the list"
    for snapshot, each in zip(found, states, strict=True):
        assert documents.get(repository.readonly_session(snapshot_id=snapshot), NODE) == each
    last = repository.readonly_session(snapshot_id=found[-1])
    there = [key for key in repositories.keys_of(last) if key.startswith(f"{NODE}/c/")]
    assert len(there) == len(list(documents.cut(states[-1]))), "parts of earlier states are not kept"


def test_parts_begin_where_keys_say_so(sent: list[str]) -> None:
    one, other = (list(documents.cut(manifest(range(count)))) for count in (300, 301))
    assert b"".join(one) == manifest(range(300))
    assert len({*other} - {*one}) <= 3
    assert 20 < len(one) < 200
    assert max(map(len, one)) < 700_000
    assert sent == []


def test_a_document_with_a_lost_part_or_one_that_cannot_be_decoded_is_no_document(repository: Any) -> None:
    stored(repository, manifest(range(60)))
    for damage in (None, b"nothing that zstd made"):
        session = repository.writable_session("main")
        if damage is None:
            repositories.delete_all(session, [f"{NODE}/c/2"])
        else:
            repositories.set_all(session, [(f"{NODE}/c/2", lambda damage=damage: damage)])
        with pytest.raises(ValueError, match="a document that"):
            documents.get(session, NODE)


@pytest.mark.parametrize("content", [b"{}", b"\n" * 300_000, b"x" * 3_000_000])
def test_any_other_document_is_kept_as_it_is(repository: Any, content: bytes) -> None:
    stored(repository, manifest(range(60)))
    snapshot = stored(repository, content)
    assert documents.get(repository.readonly_session(snapshot_id=snapshot), NODE) == content
    assert documents.get(repository.readonly_session(snapshot_id=snapshot), "elsewhere") is None
