from __future__ import annotations

from pathlib import Path

import pytest

from cubeport.adapters.sources.places import LocalPlaces, iris_sample_data
from cubeport.errors import InvalidRequest, SourceRejected
from cubeport.service.templates import SourceBlock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "2024" / "01").mkdir(parents=True)
    for name in ("2024/01/sst_20240101.nc", "2024/01/sst_20240102.nc", "2024/01/readme.txt", "other.nc"):
        (folder / name).write_bytes(b"x")
    (folder / "2024/01/sst_20240103.nc").symlink_to(folder / "other.nc")
    (tmp_path / "secret.nc").write_bytes(b"secret")
    return folder


@pytest.fixture
def places(tmp_path: Path, root: Path) -> LocalPlaces:
    return LocalPlaces(tmp_path / "instance", roots=[root], plugins={"sample": lambda _: [root / "other.nc"]})


def files(*paths: str) -> SourceBlock:
    return SourceBlock(kind="files", paths=paths)


def test_placeholders_fit_digits_only_and_links_are_passed_over(places: LocalPlaces, root: Path) -> None:
    found = places.resolve(files(f"{root}/{{YYYY}}/{{MM}}/sst_{{YYYY}}{{MM}}{{DD}}.nc"))
    assert [path.name for path in found] == ["sst_20240101.nc", "sst_20240102.nc"]


def test_a_pattern_may_name_two_levels_alike(places: LocalPlaces, root: Path) -> None:
    (root / "2024" / "a.nc").write_bytes(b"x")
    assert [path.name for path in places.resolve(files(f"{root}/*/*"))] == ["01", "a.nc"]
    assert {path.name for path in places.resolve(files(f"{root}/*/*/*1.nc"))} == {"sst_20240101.nc"}


@pytest.mark.parametrize("name", ["../x.nc", "nothing.nc"])
def test_sample_data_outside_the_package_are_refused_by_name(name: str) -> None:
    pytest.importorskip("iris_sample_data")
    with pytest.raises(InvalidRequest) as caught:
        iris_sample_data({"files": [name]})
    assert "air_temp.pp" not in (caught.value.next_step or "")
    assert "E1_north_america.nc" in (caught.value.next_step or "")
    assert iris_sample_data({"files": ["E1_north_america.nc"]})[0].is_file()


def test_a_glob_and_a_plain_path_name_each_file_once(places: LocalPlaces, root: Path) -> None:
    found = places.resolve(files(f"{root}/2024/*/sst_*1.nc", f"{root}/2024/01/sst_20240101.nc"))
    assert [path.name for path in found] == ["sst_20240101.nc"]


@pytest.mark.parametrize(
    "text",
    [
        "{tmp}/secret.nc",
        "{tmp}/data/../secret.nc",
        "{tmp}/instance/data/x.nc",
        "https://example.org/x.nc",
        "file:///etc/passwd",
        "simplecache::s3://bucket/x.nc",
        "upload:0123",
        "store:bucket/key",
        "/etc/passwd",
        "a\0b",
    ],
)
def test_what_lies_outside_the_roots_is_not_allowed(places: LocalPlaces, tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceRejected) as refused:
        places.resolve(files(text.format(tmp=tmp_path)))
    assert refused.value.reason == "not-allowed"


def test_nothing_there_is_empty_and_not_a_guess(places: LocalPlaces, root: Path) -> None:
    with pytest.raises(SourceRejected) as refused:
        places.resolve(files(f"{root}/absent_*.nc"))
    assert refused.value.reason == "empty"


def test_a_plugin_is_found_by_name_and_an_unknown_one_is_told(places: LocalPlaces, root: Path) -> None:
    assert places.resolve(SourceBlock(kind="plugin", name="sample")) == (root / "other.nc",)
    with pytest.raises(InvalidRequest, match="installed: sample"):
        places.resolve(SourceBlock(kind="plugin", name="chirps"))


def test_the_callers_own_files_need_no_root_but_must_be_there(places: LocalPlaces, tmp_path: Path) -> None:
    assert places.own((tmp_path / "secret.nc",)) == (tmp_path / "secret.nc",)
    with pytest.raises(SourceRejected, match="no such file"):
        places.own((tmp_path / "absent.nc",))


def test_the_callers_own_files_may_lie_below_a_link(places: LocalPlaces, tmp_path: Path, root: Path) -> None:
    (tmp_path / "home").symlink_to(root)
    assert places.own((tmp_path / "home" / "other.nc",)) == (root / "other.nc",)
