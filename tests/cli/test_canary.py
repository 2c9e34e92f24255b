"""Secrets are planted wherever a user may put one; then every file of the instance and all that was said is searched for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Said, Shell

from cubeport.catalog.hooks import HookContext

CANARIES = {
    "options": "canary-options-4711",
    "key": "canary-key-4712",
    "secret": "canary-secret-4713",
    "user": "canary-user-4714",
    "query": "canary-query-4715",
    "fragment": "canary-fragment-4716",
    "hook": "canary-hook-4717",
}


def planted(root: Path) -> dict[str, list[str]]:
    """Return which files hold which canary."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            held = [name for name, value in CANARIES.items() if value.encode() in data]
            if held:
                found[path.relative_to(root).as_posix()] = held
    return found


@pytest.fixture
def profiles(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.root / "config" / "profiles.yaml").write_text(
        "profiles:\n"
        "  default: {protocol: file, root: ./files}\n"
        "  mem: {protocol: memory, root: 'memory://canary', storage_options_env: CUBEPORT_CANARY}\n"
        "  keys: {protocol: memory, root: 'memory://keys', key_env: CANARY_KEY, secret_env: CANARY_SECRET}\n"
    )
    monkeypatch.setenv("CUBEPORT_CANARY", json.dumps({"client_kwargs": {"password": CANARIES["options"]}}))
    monkeypatch.setenv("CANARY_KEY", CANARIES["key"])
    monkeypatch.setenv("CANARY_SECRET", CANARIES["secret"])


@pytest.mark.usefixtures("profiles")
def test_no_file_and_no_message_holds_a_secret(shell: Shell) -> None:
    path = shell.file("a.txt")
    url = f"https://{CANARIES['user']}:x@example.org/a.nc?token={CANARIES['query']}#{CANARIES['fragment']}"
    said: list[Said] = [
        shell("add", path, "--title", "fine"),
        shell("add", path, "--profile", "mem"),
        shell("add", path, "--profile", "keys"),
        shell("add", url),
        shell("add", url, "--json", "--verbose"),
        shell("add", "--title", "x", "--link", f"uses={url}"),
        shell("import", url, "--continue-on-error"),
        shell("import", url, "--continue-on-error", "--json"),
        shell("show", url),
        shell("path", url),
        shell("fetch", url),
        shell("search", f"title={CANARIES['query']}"),
        shell("profiles", "--json"),
        shell("info", "--json"),
        shell("doctor", "--json"),
        shell("logs", "--json"),
        shell("operations", "--json"),
    ]
    with shell.catalog(read_only=False) as catalog:
        # A hook of others fails and puts what it knows into its message: a value that a profile holds is masked there too.
        def leaks(context: HookContext, payload: object) -> None:
            raise OSError(f"403 from s3://{CANARIES['user']}:y@bucket/x?sig={CANARIES['query']} with key {CANARIES['key']}")

        catalog.hooks.register("before_record_commit", leaks, name="leaks")
        with pytest.raises(Exception, match="leaks"):
            catalog.add({}, title="fails")
    said.append(shell("logs", "--level", "error", "--json"))
    said.append(shell("operations", "--json"))
    assert "leaks" in said[-2].out
    assert planted(shell.root) == {}
    # What the user typed may come back to the user's own screen; nothing else may.
    typed = {"query"}
    for each in said:
        shown = {name for name, value in CANARIES.items() if value in each.out + each.err}
        assert shown <= typed, each


def test_the_search_finds_what_is_planted(shell: Shell) -> None:
    """The canary test could not fail if it looked in the wrong place."""
    shell.ok("add", "--title", CANARIES["hook"], "--meta", f"note={CANARIES['hook']}")
    assert any(name.startswith(".cubeport/catalog.db") for name in planted(shell.root))
