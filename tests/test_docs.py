"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    from cubeport import settings

    page = (ROOT / "docs" / "configuration.md").read_text().partition("## Dataset templates")[0]
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    assert documented == set(settings.names()) - {"instance"}


def test_the_words_of_the_design_are_headings_of_the_first_decision() -> None:
    page = (ROOT / "docs" / "adr" / "0001-core-concepts.md").read_text()
    headings = {line.removeprefix("### ").lower() for line in page.splitlines() if line.startswith("### ")}
    words = "catalog backend record artifact locator metadata schema hook operation|unit of work|journal|event log"
    words += "|storage profile|storage plan|plugin|pipeline|extent|dataset template|dataset|version|job|ingestion|sync"
    words += "|projection|store engine|source|instance"
    first, *rest = words.split("|")
    assert {*first.split(), *rest} <= headings


def test_every_decision_is_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdigit() for number in numbers)


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w/-]+\.md", nav))


def test_the_map_names_only_what_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = set(re.findall(r"`((?:src|config|docs|tests)/[\w./-]+)`", page))
    assert len(paths) > 30
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    for name, path in re.findall(r"`(\w+)` in `(src/[\w/.]+)`", page):
        assert re.search(rf"^\s*(class |def )?{name}\b", (ROOT / path).read_text(), re.MULTILINE), (name, path)


def test_no_block_of_commands_moves_the_next_one_to_another_folder() -> None:
    """The tests give each block a shell of its own; a reader pastes all of them into one, where a second ``cd climate`` fails."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    blocks = [
        (page, each) for page in pages for each in re.findall(r"^```sh.*?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    moving = [(page.name, each) for page, each in blocks if re.search(r"(?:^|&& |; )cd (?!/)", each, re.MULTILINE)]
    exported = [(page.name, each) for page, each in blocks if re.search(r"^export CUBEPORT_FAIL", each, re.MULTILINE)]
    assert (moving, exported) == ([], [])
