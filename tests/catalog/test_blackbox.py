"""What a stranger sees of the catalog, and the page that says which test shows each promise."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cubeport.catalog.models import Artifact, CatalogRecord
from cubeport.catalog.testing.generated import every_locator
from cubeport.catalog.work.undo import Report, Undoer
from cubeport.cli import _app
from cubeport.cli._session import Wiring
from cubeport.errors import AmbiguousId, InvalidRequest
from cubeport.main import Catalog

ROOT = Path(__file__).resolve().parents[2]
CELL = re.compile(r"`(tests/[^`]+)`")

FEATURES = (
    "Core words|Models|Backend protocol|Unit of work, journal|Event log|Storage|References, views|Schemas|Hooks|Extraction"
    "|Commands, twins|Locks, conflicts|Documentation|Packaging, tests|Plugins|Pipelines|Batch ingest|Scale"
)
"""What is promised now; what is named for later comes with its examples."""


FACES = "explanation/faces.md"
"""The same of the faces of a service."""


def rows(path: str = "core/checks.md") -> dict[str, list[str]]:
    """Return the tests that a page names, by feature."""
    page = (ROOT / "docs" / path).read_text()
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {cell[0]: CELL.findall(cell[-1]) for cell in cells[1:] if cell[-1] != "tests"}


def definitions(path: Path) -> set[str]:
    """Return ``name`` and ``Class::name`` of all that a test file defines."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_every_promise_has_a_test() -> None:
    assert set(FEATURES.split("|")) - set(rows()) == set()
    assert [feature for feature, tests in rows().items() if not tests] == []


def test_every_promise_of_the_faces_has_a_test() -> None:
    named = {feature: tests for feature, tests in rows(FACES).items() if feature not in ("client", "promise")}
    assert len(named) > 30
    assert [feature for feature, tests in named.items() if not tests] == []


@pytest.mark.parametrize("feature", [*rows(), *rows(FACES)])
def test_every_test_of_the_page_exists(feature: str) -> None:
    for name in (rows() | rows(FACES))[feature]:
        path, _, inner = name.partition("::")
        known = definitions(ROOT / path)
        if "BackendContract" in (ROOT / path).read_text() and "::" in inner:
            known |= {f"{inner.partition('::')[0]}::{each.partition('::')[2]}" for each in definitions(CONTRACT)}
        assert inner in known, name


CONTRACT = ROOT / "src" / "cubeport" / "catalog" / "testing" / "backend.py"


FLAGS = {
    "add": "meta meta-file title description tag kind id key on-exists schema policy profile copy move reference role media-type "
    "format directory-template filename-template filename unzip hash time bbox link to extract-metadata require-metadata dry-run",
    "search": "not text time bbox kind status order limit cursor count first ids paths fields format",
    "show": "history",
    "path": "artifact",
    "edit": "set unset replace meta-file title tag untag status link if-version",
    "delete": "yes dry-run",
    "restore": "dry-run",
    "purge": "yes force dry-run",
    "fields": "values",
    "lineage": "up down depth rel format",
    "validate": "all file",
    "verify": "all fast record",
    "drop": "force",
    "view": "template apply prune",
    "run": "dry-run",
    "logs": "user record artifact operation level event plugin hook since until limit",
    "doctor": "strict",
    "recover": "dry-run skip",
    "fsck": "data time-limit resume repair",
    "gc": "older-than dry-run",
    "convert": "to",
    "import": "kind reference move extract-metadata continue-on-error on-changed on-exists dry-run",
    "init": "catalog",
}


@pytest.mark.parametrize(("command", "flags"), FLAGS.items(), ids=FLAGS)
def test_each_command_has_its_flags(command: str, flags: str) -> None:
    params = {option.lstrip("-") for each in _app.build(Wiring(_never, _never)).commands[command].params for option in each.opts}
    assert set(flags.split()) - params == set()


def _never(*_: object, **__: object) -> Catalog:
    raise AssertionError("opens nothing")


def test_every_locator_goes_through_both_backends_as_equal_bytes(tmp_path: Path) -> None:
    record = CatalogRecord(key="k", artifacts=tuple(Artifact(locator=each) for each in every_locator("r")))
    texts = {record.to_json()}
    for backend in ("sqlite", "tinydb"):
        for turn in ("first", "second"):
            with Catalog.create(tmp_path / backend / turn, catalog=backend, plugins=False) as catalog:
                catalog.import_records([texts.pop()])
                texts = {catalog.get("k").to_json()}
                assert texts == {record.to_json()}


HOLDER = """
import sys
from pathlib import Path
from cubeport.catalog.disk.locks import FileLock
with FileLock(Path(sys.argv[1]), {"command": "cubeport import"}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_doctor_tells_a_living_holder_from_a_dead_one(tmp_path: Path) -> None:
    Catalog.create(tmp_path, plugins=False).close()
    lock = tmp_path / ".cubeport" / "locks" / "catalog.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def told() -> list[tuple[str, str]]:
        with Catalog.open(tmp_path, read_only=True, plugins=False) as catalog:
            assert catalog.count() <= 1, "a reader waits for nobody"
            return [(each.level, each.message) for each in catalog.doctor() if each.kind == "lock"]

    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        [(level, message)] = told()
        assert (level, f"held by pid {other.pid}" in message) == ("ok", True)
    finally:
        other.kill()
        other.communicate()
    [(level, message)] = told()
    assert (level, f"its last holder died (pid {other.pid}" in message) == ("warn", True)
    with Catalog.open(tmp_path, plugins=False) as catalog:
        catalog.add(title="nobody has to clear it")
        catalog.recover()
    assert told() == []


def test_a_broken_line_of_the_rollback_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Undoer, "undo", lambda *_: Report())
    with Catalog.create(tmp_path, plugins=False) as catalog:
        with catalog.unit_of_work(operation_type="add") as uow:
            uow.write_artifact(uow.plan_artifact(uow.plan_record(), filename="x.txt"), b"left behind")
            uow.rollback()
        assert {each.kind for each in catalog.fsck().findings} == {"orphan-file"}


def test_what_no_record_may_say_is_refused_by_the_twin_too(tmp_path: Path) -> None:
    with Catalog.create(tmp_path, plugins=False) as catalog:
        catalog.add(key="k", title="a")
        catalog.add(title="b")
        with pytest.raises(InvalidRequest, match="key must be 1 to 512 characters"):
            catalog.add(key="line\nfeed")
        with pytest.raises(InvalidRequest, match="no relation invented"):
            catalog.update("k", link=[("invented", "urn:x")])
        with pytest.raises(AmbiguousId, match=r"^Several records match:") as caught:
            catalog.one()
        assert [each["title"] for each in caught.value.members["candidates"]] == ["b", "a"]
        assert catalog.count() == 2


def test_a_pipe_is_refused_before_anybody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Catalog.create(tmp_path / "root", plugins=False) as catalog:
        for operation in ("copy", "move", "reference"):
            with pytest.raises(InvalidRequest, match="not a regular file"):
                catalog.add_file(tmp_path / "pipe", operation=operation)
        with pytest.raises(InvalidRequest, match=r"role must be 1 to 64"):
            catalog.add_bytes(b"x", filename="x.txt", role="not a/name")
        assert (catalog.count(), catalog.fsck().findings) == (0, ())


def test_metadata_of_bytes_are_never_silently_none(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "root", plugins=False) as catalog:
        added = catalog.add_bytes(b"a,b\n", filename="x.csv", extract_metadata=True)
        assert [each for each in added.warnings if "extract-metadata" in each] == list(added.warnings) != []
        with pytest.raises(InvalidRequest, match="extracted only from files"):
            catalog.add_bytes(b"a,b\n", filename="y.csv", extract_metadata=True, require_metadata=True)
        assert catalog.count() == 1
