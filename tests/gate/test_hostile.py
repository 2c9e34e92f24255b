"""Hostile bytes cost their sender, nobody else: every case is refused for its reason, and leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from tests.descriptors import held, left_since

from cubeport.adapters.sandbox.children import Children
from cubeport.errors import SourceRejected

from .hostile import CASES, SECRET, Case

SAMPLE = CASES.found[::9]


def attempt(children: Children, source: Path) -> tuple[object, SourceRejected | None]:
    try:
        return children.run("scan", {}, sources=[source]), None
    except SourceRejected as refusal:
        return None, refusal


def hold(children: Children, case: Case, folder: Path) -> None:
    source = case.make(folder)
    others = set(psutil.Process(children.template_pid()).children())  # that services of other tests keep
    service = psutil.Process()
    before = service.memory_info().rss
    opened = held()
    began = time.monotonic()
    answer, refusal = attempt(children, source)
    told = str(answer or refusal)
    assert (refusal and refusal.reason) == case.reason, told
    if refusal is not None:
        assert refusal.members.get("setting", refusal.members.get("rule")) == case.limit, told
        assert case.limit is None or refusal.members["value"] > refusal.members["limit"]
        assert refusal.next_step
        assert refusal.members["source"] == source.name
        told = str(refusal.to_mapping())
    assert SECRET not in told
    assert str(folder) not in told
    assert time.monotonic() - began < 30
    assert service.memory_info().rss - before < 50 * 2**20
    assert left_since(opened) == []
    assert set(psutil.Process(children.template_pid()).children()) <= others


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_sample(children: Children, case: Case, tmp_path: Path) -> None:
    hold(children, case, tmp_path)


@pytest.mark.hostile
@pytest.mark.parametrize("case", CASES.found, ids=lambda case: case.name)
def test_all(children: Children, case: Case, tmp_path: Path) -> None:
    hold(children, case, tmp_path)


def test_the_generator_is_wide() -> None:
    assert len(CASES.found) >= 200
    names = [each.name for each in CASES.found]
    assert len(set(names)) == len(names)
    # What only reading the values or their meaning can tell is the writer's: bad-time, bad-coordinates, and so on.
    assert {each.reason for each in CASES.found} - {None} == {
        "unreadable",
        "truncated",
        "too-big",
        "unsafe",
        "bad-codec",
        "bad-text",
        "not-a-cube",
        "empty",
        "not-allowed",
    }


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("empty.nc", "empty"),
        ("html_error_page.nc", "unreadable"),
        ("truncated.grib", "truncated"),
        ("truncated_classic.nc", "truncated"),
        ("truncated_netcdf4.nc", "truncated"),
        ("truncated_netcdf4_b.nc", "truncated"),
    ],
)
def test_real_files_that_are_broken(children: Children, realdata: Path, file: str, reason: str) -> None:
    with pytest.raises(SourceRejected) as caught:
        children.run("scan", {}, sources=[realdata / "corrupt" / file])
    assert caught.value.reason == reason
    assert caught.value.members["source"] == file


def test_every_real_file_passes(children: Children, realdata: Path) -> None:
    passed = 0
    for path in sorted(
        [*realdata.glob("*.nc"), *realdata.glob("*.zarr"), *realdata.glob("*_multi/*.nc"), *realdata.glob("*.grib*")]
    ):
        if path.name == "era5-levels-corrupted.grib":
            with pytest.raises(SourceRejected) as caught:
                children.run("scan", {}, sources=[path])
            assert caught.value.reason in ("truncated", "unreadable")
            continue
        (scanned,) = children.run("scan", {}, sources=[path])["sources"]
        assert scanned["name"] == path.name
        assert scanned["format"] in ("netcdf3", "hdf5", "zarr2", "zarr3", "grib")
        assert scanned["skipped"] == []
        passed += 1
    assert passed >= 63
