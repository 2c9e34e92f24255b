"""The catalog's own folder as a source: bytes that records own are never taken away, stored again or copied into themselves."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Shell


@pytest.fixture
def stored(shell: Shell) -> str:
    """Store one file and return where it is."""
    shell.add(shell.file("f.txt"), "--title", "f")
    (shell.root / "f.txt").unlink()
    [path] = [each for each in (shell.root / "files").rglob("*") if each.is_file()]
    return str(path)


def intact(shell: Shell) -> bool:
    return {each["verdict"] for each in shell.ok("verify", "--all", "--json").json} == {"ok"}


def test_what_a_record_owns_cannot_be_moved_by_name(shell: Shell, stored: str) -> None:
    said = shell("add", stored, "--move", "--json")
    assert said.code == 2, said
    assert "--reference" in said.problem["next"]
    assert intact(shell)
    assert shell.ok("search", "--count").out == "1\n"


def test_what_a_record_owns_cannot_be_moved_through_a_link(shell: Shell, stored: str) -> None:
    (shell.root / "link.txt").symlink_to(stored)
    assert shell("add", "link.txt", "--move").code == 2
    assert intact(shell)


def test_patterns_skip_what_the_catalog_holds_and_say_so(shell: Shell, stored: str) -> None:
    shell.file("g.txt")
    with shell.catalog(read_only=False) as catalog:
        first = catalog.ingest(str(shell.root / "**/*.txt"))
        assert first.counts["added"] == 1
        assert "1 paths" in first.warnings[0]
        moved = catalog.ingest(str(shell.root / "**/*.txt"), mode="move")
        assert moved.counts["added"] == 0
        assert catalog.count() == 2
    assert intact(shell)


@pytest.mark.parametrize("source", [".", ".cubeport", "files"])
def test_the_catalog_is_not_copied_into_itself(shell: Shell, stored: str, source: str) -> None:
    said = shell("add", shell.root / source)
    assert said.code == 2, said
    assert shell.ok("search", "--count").out == "1\n"


def test_a_file_of_the_catalog_is_not_stored(shell: Shell) -> None:
    assert shell("add", shell.root / ".cubeport" / "catalog.yaml").code == 2


def test_a_copy_or_a_reference_of_one_stored_file_is_allowed(shell: Shell, stored: str) -> None:
    shell.ok("add", stored)
    shell.ok("add", stored, "--reference")
    assert shell.ok("search", "--count").out == "3\n"


def test_a_folder_with_the_root_of_another_profile_is_not_copied(shell: Shell) -> None:
    (shell.root / "deep" / "store").mkdir(parents=True)
    (shell.root / "config" / "profiles.yaml").write_text(
        "profiles:\n  default: {protocol: file, root: ./files}\n  deep: {protocol: file, root: ./deep/store}\n"
    )
    assert shell("add", shell.root / "deep").code == 2
