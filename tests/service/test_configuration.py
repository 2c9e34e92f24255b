from __future__ import annotations

import os
from pathlib import Path

import pytest

from cubeport.adapters.configuration import FolderConfiguration
from cubeport.service.templates import Broken, DatasetTemplate, Extent

ROOT = Path(__file__).resolve().parents[2]

GOOD = "id: {id}\ntitle: T\nperiod_type: monthly\nsource: {{kind: files, paths: a.nc}}\n"


@pytest.fixture
def read(tmp_path: Path) -> FolderConfiguration:
    (tmp_path / "config" / "datasets").mkdir(parents=True)
    (tmp_path / "extents").mkdir()
    return make(tmp_path)


def make(root: Path) -> FolderConfiguration:
    return FolderConfiguration(root, template=DatasetTemplate, extent=Extent, broken=Broken, look_again_s=0.0)


def test_the_repositorys_own_instance_is_whole() -> None:
    own = make(ROOT)
    assert own.broken() == ()
    assert {"a1b-temperature", "ostia-sst", "toa-brightness"} <= set(own.templates())
    assert {"great-lakes", "tropical-pacific"} <= set(own.extents())


def test_a_new_file_is_seen_without_a_restart(read: FolderConfiguration, tmp_path: Path) -> None:
    assert read.templates() == {}
    (tmp_path / "config/datasets/a.yaml").write_text(GOOD.format(id="a"))
    assert set(read.templates()) == {"a"}


def test_a_wrong_entry_disables_itself_only_and_says_where(read: FolderConfiguration, tmp_path: Path) -> None:
    folder = tmp_path / "config/datasets"
    (folder / "a.yaml").write_text(GOOD.format(id="a"))
    (folder / "b.yaml").write_text(GOOD.format(id="b") + "sync:\n  kind: tempral\n")
    (folder / "c.yaml").write_text(GOOD.format(id="c") + "titel: x\n")
    (folder / "d.yaml").write_text("id: [\n")
    assert set(read.templates()) == {"a"}
    told = "\n".join(problem for each in read.broken() for problem in each.problems)
    assert (
        "config/datasets/b.yaml:6:3: sync.kind: 'tempral' is not one of temporal, release, static; did you mean 'temporal'?" in told
    )
    assert "config/datasets/c.yaml:5:1: titel: is unknown" in told
    assert "config/datasets/d.yaml:" in told


def test_a_list_of_templates_in_one_file_and_an_id_twice(read: FolderConfiguration, tmp_path: Path) -> None:
    entry = "- id: {id}\n  title: T\n  period_type: monthly\n  source: {{kind: files, paths: a.nc}}\n"
    (tmp_path / "config/datasets/a.yaml").write_text(entry.format(id="a") + entry.format(id="b") + entry.format(id="a"))
    assert set(read.templates()) == {"a", "b"}
    assert "a is defined twice" in read.broken()[0].problems[0]


def test_dates_and_variables_in_texts_stay_text(read: FolderConfiguration, tmp_path: Path) -> None:
    text = GOOD.format(id="a").replace("title: T", "title: ${HOME} since\nextents: {temporal: {begin: 2024-01-01}}")
    (tmp_path / "config/datasets/a.yaml").write_text(text)
    template = read.templates()["a"]
    assert template.title == "${HOME} since"
    assert template.extents.temporal.begin == "2024-01-01"


@pytest.mark.parametrize("box", ["[0, 10, 5, 10]", "[0, 10, 5, 5]", "[-200, 0, 5, 5]", "[0, 0, 5]"])
def test_an_extent_that_is_no_area_is_broken(read: FolderConfiguration, tmp_path: Path, box: str) -> None:
    (tmp_path / "extents/x.yaml").write_text(f"extent_id: x\nbbox: {box}\n")
    assert read.extents() == {}
    assert "extents/x.yaml:" in read.broken()[0].problems[0]


def test_an_extent_may_cross_the_antimeridian(read: FolderConfiguration, tmp_path: Path) -> None:
    (tmp_path / "extents/fiji.yaml").write_text("extent_id: fiji\nbbox: [176.0, -20.0, -178.0, -15.0]\n")
    assert read.extents()["fiji"].bbox == (176.0, -20.0, -178.0, -15.0)


def test_a_pipe_is_reported_and_not_opened(read: FolderConfiguration, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe.yaml")
    assert [each.problems for each in read.broken()] == [("config/datasets/pipe.yaml: is not a regular file",)]
