"""What a hook did outside is undone from what it journalled: on rollback, and after a death by another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cubeport.catalog.hooks import HookContext
from cubeport.errors import HookFailed
from cubeport.main import Catalog

SCRIPT = """
import sys
from pathlib import Path
from cubeport.main import Catalog

note = Path(sys.argv[2])

def outside(context, payload):
    context.journal_undo({"note": str(note)})
    note.write_text("made outside")

with Catalog.open(sys.argv[1]) as catalog:
    catalog.hooks.register("before_record_commit", outside, name="outsider", undo=lambda data: None)
    catalog.add({}, title="never")
"""


def undo(data: Mapping[str, Any]) -> None:
    Path(data["note"]).unlink(missing_ok=True)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "instance", plugins=False) as opened:
        yield opened


def test_a_rollback_calls_the_undo_with_what_was_journalled(catalog: Catalog, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def outside(context: HookContext, payload: object) -> None:
        context.journal_undo({"note": str(note)})
        note.write_text("made outside")

    def refuses(context: HookContext, payload: object) -> None:
        assert note.exists()
        raise ValueError("no")

    catalog.hooks.register("before_record_commit", outside, name="outsider", undo=undo)
    catalog.hooks.register("before_record_commit", refuses, name="refuses", priority=200)
    with pytest.raises(HookFailed):
        catalog.add({}, title="never")
    assert not note.exists()
    assert catalog.count(statuses=None) == 0


def test_a_commit_leaves_what_the_hook_did(catalog: Catalog, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def outside(context: HookContext, payload: object) -> None:
        context.journal_undo({"note": str(note)})
        note.write_text("made outside")

    catalog.hooks.register("before_record_commit", outside, name="outsider", undo=undo)
    catalog.add({}, title="stays")
    assert note.exists()


@pytest.mark.parametrize("skip", [False, True])
def test_after_a_death_the_undo_waits_for_its_hook_or_is_skipped(tmp_path: Path, skip: bool) -> None:
    root, note = tmp_path / "instance", tmp_path / "note"
    Catalog.create(root, plugins=False).close()
    armed = os.environ | {"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "commit:before", "CUBEPORT_PLUGINS": "off"}
    killed = subprocess.run([sys.executable, "-c", SCRIPT, root, note], env=armed, capture_output=True, timeout=60)
    assert killed.returncode < 0, killed.stderr
    assert note.exists()
    with Catalog.open(root, plugins=False) as catalog:
        (left,) = catalog.recovered
        assert left.outcome == "left"
        assert "outsider" in left.left[0]
        assert note.exists()
        if skip:
            catalog.recover(skip=True)
            assert note.exists()
        else:
            catalog.hooks.register("before_record_commit", lambda context, payload: None, name="outsider", undo=undo)
            (done,) = catalog.recover()
            assert done.outcome == "back"
            assert not note.exists()
        assert catalog.recover() == []
        assert catalog.count(statuses=None) == 0
