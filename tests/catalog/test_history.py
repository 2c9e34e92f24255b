"""The former states of records: each edit can be seen, and each version shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cubeport
from cubeport.errors import RecordNotFound


@pytest.fixture(params=["sqlite", "tinydb"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with cubeport.Catalog.create(tmp_path / "instance", request.param, user_id="ana", plugins=False) as opened:
        yield opened


def test_each_version_is_shown_again_as_it_was(catalog: Any) -> None:
    states = [catalog.add({"a": 1, "deep": {"x": 1}}, title="one", tags=["t"]).record]
    states.append(catalog.update(states[0].id, set={"a": 2, "b": 3}, title="two"))
    states.append(catalog.update(states[0].id, unset=["a", "deep.x"], tags=[]))
    catalog.add_artifact(record=states[0].id, source=b"x", filename="x.txt")
    states.append(catalog.get(states[0].id))
    states.append(catalog.delete(states[0].id))
    for state in states:
        assert catalog.at(state.id, state.version) == state


def test_the_history_says_what_changed(catalog: Any) -> None:
    added = catalog.add({"a": 1}, title="one")
    catalog.update(added.id, set={"a": 2, "b": None}, title="two")
    newest, first = catalog.history(added.id)
    assert (newest.version, newest.by, first.version) == (2, "ana", 1)
    assert {each.field: (each.before, each.after) for each in newest.changes} == {
        "title": ("one", "two"),
        "metadata.a": (1, 2),
        "metadata.b": (None, None),
    }
    assert first.changes == ()
    assert newest.operation_id == catalog.get(added.id).operation_id


def test_a_version_that_never_was(catalog: Any) -> None:
    added = catalog.add()
    with pytest.raises(RecordNotFound, match="no version 2"):
        catalog.at(added.id, 2)


def test_history_goes_with_the_record(catalog: Any) -> None:
    added = catalog.add(id="a" * 32, title="x")
    catalog.update(added.id, title="y")
    catalog.purge(added.id)
    catalog.add(id="a" * 32, title="z")
    catalog.update("a" * 32, title="zz")
    assert [each.version for each in catalog.history("a" * 32)] == [2, 1]
    assert catalog.at("a" * 32, 1).title == "z"


def test_history_is_converted_too(tmp_path: Path) -> None:
    with cubeport.Catalog.create(tmp_path, plugins=False) as catalog:
        added = catalog.add(title="one")
        catalog.update(added.id, title="two")
        catalog.convert("tinydb")
    with cubeport.Catalog.open(tmp_path, plugins=False) as catalog:
        assert catalog.at(added.id, 1).title == "one"


def test_an_edit_that_is_rolled_back_leaves_no_history(catalog: Any) -> None:
    added = catalog.add(title="one")
    with catalog.unit_of_work("update") as work:
        work.update_record(added.record.replace(title="two"))
        work.rollback()
    assert len(catalog.history(added.id)) == 1


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3)
VALUES = st.recursive(SCALARS, lambda values: st.lists(values, max_size=2), max_leaves=3)
METADATA = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(METADATA, min_size=1, max_size=4))
def test_any_walk_of_edits_is_walked_back(tmp_path_factory: pytest.TempPathFactory, edits: list[dict[str, Any]]) -> None:
    with cubeport.Catalog.create(tmp_path_factory.mktemp("c"), plugins=False) as catalog:
        states = [catalog.add().record]
        for metadata in edits:
            states.append(catalog.update(states[0].id, metadata=metadata))
        assert [catalog.at(state.id, state.version) for state in states] == states


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with cubeport.Catalog.create(tmp_path, plugins=False) as catalog:
        added = catalog.add(title="one", key="a@b")
        catalog.update(added.id, title="two")
    monkeypatch.chdir(tmp_path)
    assert cubeport.main.run(["history", added.id]) == 0
    assert "title: one → two" in capsys.readouterr().out
    assert cubeport.main.run(["show", f"{added.id[:8]}@1"]) == 0
    assert "title: one" in capsys.readouterr().out
    assert cubeport.main.run(["show", "a@b"]) == 0
    assert "title: two" in capsys.readouterr().out
    assert cubeport.main.run(["show", f"{added.id[:8]}@7"]) == 3
