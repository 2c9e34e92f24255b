"""The reference pages are made from the code, and miss nothing of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import cubeport
from cubeport import errors

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return the hook that the site is built with."""
    named = importlib.util.spec_from_file_location("reference", ROOT / ".ci" / "reference.py")
    assert named is not None
    assert named.loader is not None
    module = importlib.util.module_from_spec(named)
    named.loader.exec_module(module)
    return module


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#{3,4} `(.+)`$", text, re.MULTILINE))


def test_the_site_fills_every_mark(reference: ModuleType) -> None:
    assert "hooks: [.ci/reference.py]" in (ROOT / "mkdocs.yml").read_text()
    marks = {
        mark: reference.on_page_markdown(page.read_text())
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for mark in re.findall(r"<!-- reference: (\w+) -->", page.read_text())
    }
    assert set(marks) == set(reference.REFERENCES)
    assert not any("<!-- reference" in page for page in marks.values())


def test_every_kind_of_error_is_listed_with_its_status(reference: ModuleType) -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .+ \| (\d+) \| \d+ \|", reference.errors(), re.MULTILINE))
    assert set(rows) == {each.kind for each in errors.kinds()}
    assert (rows["not-found"], rows["too-large"], rows["no-space"]) == ("404", "413", "507")


def test_every_route_is_listed(reference: ModuleType) -> None:
    from cubeport.server.auth import RULES

    listed = headings(reference.http())
    routes = {f"{method.upper()} {path}" for path, each in reference.openapi()["paths"].items() for method in each}
    assert listed == routes
    assert {
        f"{method} {path}" for method, path in RULES if path.startswith(("/datasets", "/ingestions", "/sync"))
    } - listed == set()
    assert "| `bbox` | query |" in reference.http()
    assert "| `dataset_id`, required |" in reference.http()


def test_every_command_is_listed_with_its_options(reference: ModuleType) -> None:
    from cubeport.cli._help import EXAMPLES

    listed = headings(reference.cli())
    assert {f"cubeport {name}" for name in EXAMPLES} - listed == set()
    assert "| `--on-overlap` |" in reference.cli()


def test_every_public_name_is_listed_with_its_signature(reference: ModuleType) -> None:
    text = reference.python()
    listed = headings(text)
    assert {name for name in cubeport.__all__ if name not in listed and f"cubeport.{name}" not in listed} == set()
    assert {"Catalog.search", "Port.search", "Dataset.open", "Service.ingest"} <= listed
    assert not re.search(r"^-{4,}$", text, re.MULTILINE)


def test_the_navigation_shows_them() -> None:
    class Loose(yaml.SafeLoader):
        pass

    Loose.add_multi_constructor("", lambda *_: None)
    nav = str(yaml.load((ROOT / "mkdocs.yml").read_text(), Loose)["nav"])
    assert all(f"reference/{page.name}" in nav for page in (ROOT / "docs" / "reference").glob("*.md"))
