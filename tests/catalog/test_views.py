from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cubeport.catalog.artifacts.views import LIST, ViewPlan, apply_view, plan_view
from cubeport.catalog.models import Artifact, CatalogRecord, ExternalURILocator, LocalPathLocator
from cubeport.errors import Conflict, InvalidTemplate

TEMPLATE = "{metadata.group|kind}/{title_slug|original_stem}{original_suffix}"


def resolve(artifact: Artifact) -> Path | None:
    return Path(artifact.locator.path) if isinstance(artifact.locator, LocalPathLocator) else None


class Shelf:
    """A folder of files, records of them, and a folder for the view."""

    def __init__(self, root: Path) -> None:
        self.files = root / "files"
        self.files.mkdir()
        self.view = root / "views" / "mine"
        self.records: list[CatalogRecord] = []

    def add(self, name: str, title: str, group: str = "g") -> CatalogRecord:
        path = self.files / name
        path.write_text(title)
        artifact = Artifact(locator=LocalPathLocator.from_path(path))
        self.records.append(CatalogRecord(title=title, metadata={"group": group}, artifacts=(artifact,)))
        return self.records[-1]

    def plan(self) -> ViewPlan:
        return plan_view(self.view, self.records, TEMPLATE, resolve=resolve)

    def apply(self, *, prune: bool = False) -> ViewPlan:
        return apply_view(self.plan(), prune=prune)

    def tree(self) -> dict[str, str]:
        found = {}
        for folder, _, names in os.walk(self.view):
            for name in names:
                path = Path(folder) / name
                if name != LIST:
                    found[path.relative_to(self.view).as_posix()] = path.read_text()
        return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_planning_makes_nothing(shelf: Shelf) -> None:
    record = shelf.add("a.txt", "One")
    plan = shelf.plan()
    (link,) = plan.links
    assert (link.path, link.state, link.record_id) == ("g/one.txt", "planned", record.id)
    assert plan.counts == {"planned": 1}
    assert not shelf.view.exists()


def test_links_are_relative_lead_to_the_bytes_and_move_with_the_tree(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("a.txt", "One")
    shelf.add("b.txt", "Two", "h")
    assert shelf.apply().counts == {"up-to-date": 2}
    assert shelf.tree() == {"g/one.txt": "One", "h/two.txt": "Two"}
    assert str((shelf.view / "g/one.txt").readlink()) == "../../../files/a.txt"
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert (moved / "views/mine/h/two.txt").read_text() == "Two"


def test_a_second_application_changes_nothing(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    shelf.apply()
    before = {p: p.lstat().st_ino for p in shelf.view.rglob("*.txt")}
    assert shelf.plan().counts == {"up-to-date": 1}
    shelf.apply()
    assert {p: p.lstat().st_ino for p in shelf.view.rglob("*.txt")} == before


def test_what_is_not_ours_is_a_collision_and_stays(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    shelf.add("b.txt", "Two")
    (shelf.view / "g").mkdir(parents=True)
    (shelf.view / "g" / "one.txt").write_text("somebody's")
    applied = shelf.apply(prune=True)
    assert applied.counts == {"collision": 1, "up-to-date": 1}
    assert shelf.tree() == {"g/one.txt": "somebody's", "g/two.txt": "Two"}


def test_two_records_of_one_path_are_a_collision(shelf: Shelf) -> None:
    first = shelf.add("a.txt", "One")
    shelf.add("b.txt", "One")
    collision = next(link for link in shelf.apply().links if link.state == "collision")
    assert collision.reason == f"record {first.id} already has this path"
    assert shelf.tree() == {"g/one.txt": "One"}


def test_a_folder_that_is_a_link_is_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("a.txt", "One")
    outside = tmp_path / "outside"
    outside.mkdir()
    shelf.view.mkdir(parents=True)
    (shelf.view / "g").symlink_to(outside)
    assert shelf.apply().counts == {"collision": 1}
    assert list(outside.iterdir()) == []


def test_remote_and_missing_bytes_are_told(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    (shelf.files / "a.txt").unlink()
    remote = Artifact(locator=ExternalURILocator(uri="https://example.org/x.nc"))
    shelf.records.append(CatalogRecord(title="Far", artifacts=(remote,)))
    assert {(link.state, link.reason) for link in shelf.apply().links} == {
        ("missing-target", "its bytes are missing"),
        ("unsupported", "a uri is not a local file"),
    }


def test_prune_removes_only_our_stale_links_and_empty_folders(shelf: Shelf) -> None:
    shelf.add("a.txt", "One", "g")
    shelf.add("b.txt", "Two", "h")
    shelf.apply()
    (shelf.view / "g" / "note.txt").write_text("mine")
    shelf.records.clear()
    assert shelf.apply().counts == {"stale": 2}
    assert set(shelf.tree()) == {"g/one.txt", "g/note.txt", "h/two.txt"}
    assert shelf.apply(prune=True).counts == {}
    assert set(shelf.tree()) == {"g/note.txt"}
    assert not (shelf.view / "h").exists()


def test_a_link_that_somebody_changed_is_not_ours_any_more(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    shelf.apply()
    link = shelf.view / "g/one.txt"
    link.unlink()
    link.symlink_to("/etc/hostname")
    assert shelf.plan().counts == {"collision": 1}
    shelf.records.clear()
    shelf.apply(prune=True)
    assert str((link).readlink()) == "/etc/hostname"


def test_a_changed_target_of_ours_is_replaced(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    shelf.apply()
    shelf.records.clear()
    shelf.add("c.txt", "One")
    assert shelf.plan().counts == {"planned": 1}
    shelf.apply()
    assert str((shelf.view / "g/one.txt").readlink()).endswith("files/c.txt")


def test_a_path_taken_between_plan_and_application_is_a_collision(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    plan = shelf.plan()
    (shelf.view / "g").mkdir(parents=True)
    (shelf.view / "g" / "one.txt").write_text("first")
    assert apply_view(plan).counts == {"collision": 1}
    assert (shelf.view / "g" / "one.txt").read_text() == "first"


@pytest.mark.parametrize(
    "text", ["{", '{"links": 3}', '{"links": {"../x": "y"}, "folders": []}', '{"links": {}, "folders": ["/etc"]}']
)
def test_a_list_that_cannot_be_believed_stops_everything(shelf: Shelf, text: str) -> None:
    shelf.view.mkdir(parents=True)
    (shelf.view / LIST).write_text(text)
    with pytest.raises(Conflict):
        shelf.plan()


def test_a_wrong_template_is_refused_before_anything(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    with pytest.raises(InvalidTemplate):
        plan_view(shelf.view, shelf.records, "{titel_slug}", resolve=resolve)


def test_the_list_names_what_is_ours(shelf: Shelf) -> None:
    shelf.add("a.txt", "One")
    shelf.apply()
    assert json.loads((shelf.view / LIST).read_text()) == {
        "view": 1,
        "template": TEMPLATE,
        "links": {"g/one.txt": "../../../files/a.txt"},
        "folders": ["g"],
    }
