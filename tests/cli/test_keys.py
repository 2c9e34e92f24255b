"""``cubeport keys``: shown once, listed without its text, ended at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cubeport.server.auth import Connection, Gatekeeper
from cubeport.service.keys import Keys

from .conftest import Shell


def test_a_key_is_made_listed_and_ended(shell: Shell) -> None:
    made = shell.ok(
        "keys", "add", "ann", "--scope", "ingest", "--datasets", "sea-*, air", "--expires", "2999-01-01T00:00:00Z", "--json"
    ).json
    assert (made["name"], made["scope"], made["datasets"]) == ("ann", "ingest", ["sea-*", "air"])
    with shell.catalog() as catalog:
        headers = [(b"x-api-key", made["key"].encode())]
        assert Gatekeeper(Keys(catalog.backend)).caller(Connection(headers)).covers("sea-ice")
    listed = shell.ok("keys", "list", "--json")
    assert [each["key_id"] for each in listed.json["items"]] == [made["key_id"]]
    assert made["key"] not in listed.out + shell.ok("keys", "list").out
    shell.ok("keys", "revoke", made["key_id"][:5])
    other = shell.ok("keys", "add", "ben")
    assert re.fullmatch(r"cp_\S+\n", other.out), "the output is the key, and nothing else"
    assert "Save it now" in other.err
    shell.ok("keys", "revoke", other.out.split("_")[1])
    assert shell.ok("keys", "list", "--json").json["items"] == []
    assert shell("keys", "revoke", made["key_id"]).code == 3


def test_a_key_of_a_date_is_valid_on_that_day(shell: Shell) -> None:
    made = shell.ok("keys", "add", "ann", "--expires", "2999-01-31")
    assert "It is valid until 2999-02-01T00:00:00Z." in made.err
    [held] = shell.ok("keys", "list", "--json").json["items"]
    assert held["expires_at"] == "2999-02-01T00:00:00.000000Z"
    today = shell.ok("keys", "add", "ben", "--expires", f"{datetime.now(UTC):%Y-%m-%d}", "--json").json
    with shell.catalog() as catalog:
        caller = Gatekeeper(Keys(catalog.backend)).caller(Connection([(b"x-api-key", today["key"].encode())]))
    assert caller.covers("sea-ice")


def test_what_is_wrong_is_told(shell: Shell) -> None:
    assert shell("keys", "add", "Ann Lee").code == 2
    no_zone = shell("keys", "add", "ann", "--expires", "2999-01-01T12:00")
    assert (no_zone.code, "--expires 2999-01-01T12:00:00Z" in no_zone.err) == (2, True)
    for text in ("2999-02-30", "next year", "9999-12-31"):
        assert shell("keys", "add", "ann", "--expires", text).code == 2, text
    assert shell("keys", "add", "ann", "--expires", "2001-01-01T00:00:00Z").code == 2
    assert shell("keys", "add", "ann", "--scope", "all").code == 2
    assert shell.ok("keys", "list", "--json").json["items"] == []


def test_a_server_that_others_reach_needs_a_key(shell: Shell) -> None:
    said = shell("serve", "--port", "0", "--public-url", "https://data.example/cubes")
    assert (said.code, "cubeport keys add" in said.err) == (2, True)
