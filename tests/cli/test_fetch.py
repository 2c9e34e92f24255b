"""``cubeport fetch`` and ``drop`` against a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
from tests.cli.conftest import Shell
from tests.fetching.conftest import Server, response
from tests.fetching.conftest import server as server

from cubeport.catalog.models import CatalogRecord

BYTES = b"whole bytes of a file\n"


@pytest.fixture
def allowed(shell: Shell, server: Server) -> Server:
    shell.file("config/service.yaml", f"sources: {{origins: ['{server.url}']}}\n")
    return server


def one(said_json: object) -> dict[str, object]:
    record = CatalogRecord.from_mapping(said_json)  # type: ignore[arg-type]
    [artifact] = record.artifacts
    return json.loads(json.dumps(artifact.to_mapping()))


def bytes_here(shell: Shell) -> list[bytes]:
    return [each.read_bytes() for each in (shell.root / "files").rglob("*") if each.is_file()]


def test_there_and_back(shell: Shell, allowed: Server) -> None:
    url = f"{allowed.url}/data/file.nc"
    allowed.answers["/data/file.nc"] = response(BYTES)
    record = shell.add(url)
    fetched = one(shell.ok("fetch", record.id, "--json").json)
    assert fetched["status"] == "available"
    assert fetched["origin"] == {"kind": "uri", "uri": url}
    assert (fetched["size_bytes"], fetched["hashes"]) == (len(BYTES), {"sha256": hashlib.sha256(BYTES).hexdigest()})
    assert bytes_here(shell) == [BYTES]
    assert shell.ok("verify", record.id, "--json").json[0]["verdict"] == "ok"

    allowed.answers["/data/file.nc"] = response(BYTES + b"more")
    assert shell("drop", record.id).code == 2
    assert bytes_here(shell) == [BYTES]
    allowed.answers["/data/file.nc"] = response(BYTES)
    dropped = one(shell.ok("drop", record.id, "--json").json)
    assert (dropped["status"], dropped["locator"], dropped["hashes"]) == ("external", fetched["origin"], fetched["hashes"])
    assert bytes_here(shell) == []

    allowed.answers["/data/file.nc"] = response(BYTES.upper())
    said = shell("fetch", record.id, "--json")
    assert (said.code, said.problem["kind"]) == (1, "hash-mismatch")
    assert bytes_here(shell) == []
    allowed.answers["/data/file.nc"] = response(BYTES)
    shell.ok("fetch", record.id)
    assert bytes_here(shell) == [BYTES]


def test_a_dead_origin_keeps_the_bytes_unless_forced(shell: Shell, allowed: Server) -> None:
    allowed.answers["/x"] = response(BYTES)
    record = shell.add(f"{allowed.url}/x")
    shell.ok("fetch", record.id)
    allowed.answers["/x"] = response(b"", status="404 Not Found")
    said = shell("drop", record.id)
    assert (said.code, bytes_here(shell)) == (2, [BYTES])
    assert f"cubeport drop {record.id} --force" in said.err
    shell.ok("drop", record.id, "--force")
    assert bytes_here(shell) == []


@pytest.mark.parametrize(
    ("answer", "code", "kind"),
    [
        (response(BYTES, length=len(BYTES) + 1), 6, "source-failed"),
        (response(b"", "Location: /y", status="302 Found"), 5, "source-rejected"),
        (response(b"", status="500 Oops"), 6, "source-failed"),
    ],
)
def test_what_fails_leaves_nothing(shell: Shell, allowed: Server, answer: bytes, code: int, kind: str) -> None:
    record = shell.add(f"{allowed.url}/x")
    allowed.answers["/x"] = answer
    said = shell("fetch", record.id, "--json")
    assert (said.code, said.problem["kind"]) == (code, kind)
    assert bytes_here(shell) == []
    shown = CatalogRecord.from_mapping(shell.ok("show", record.id, "--json").json)
    assert [each.status for each in shown.artifacts] == ["external"]
    assert {each["level"] for each in shell.ok("doctor", "--json").json if each["kind"] in ("journal", "open-operation")} == {"ok"}


def test_nobody_is_asked_without_an_allow_list(shell: Shell, server: Server) -> None:
    record = shell.add(f"{server.url}/x")
    said = shell("fetch", record.id, "--json")
    assert (said.code, said.problem["reason"], server.accepted) == (5, "not-allowed", 0)
    assert f"add {server.url} to sources.origins" in said.problem["next"]


def test_the_cap_is_a_setting(shell: Shell, allowed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBEPORT_LIMITS__SOURCE_BYTES", "5")
    allowed.answers["/x"] = response(BYTES)
    record = shell.add(f"{allowed.url}/x")
    said = shell("fetch", record.id, "--json")
    assert (said.code, said.problem["reason"], said.problem["setting"]) == (5, "too-big", "limits.source_bytes")


def test_without_the_extra_it_is_named(shell: Shell, allowed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    record = shell.add(f"{allowed.url}/x")
    monkeypatch.delitem(sys.modules, "cubeport.adapters.storage.fetching", raising=False)
    monkeypatch.setitem(sys.modules, "httpcore", None)
    said = shell("fetch", record.id, "--json")
    assert (said.code, said.problem["kind"], said.problem["what"]) == (6, "extra-missing", "fetch")
    assert said.problem["next"] == "pip install 'cubeport[fetch]'"
    assert allowed.accepted == 0
