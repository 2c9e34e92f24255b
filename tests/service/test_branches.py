"""The tree of datasets: every dataset once, no branch too wide, each branch below the one that it names as its parent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeport.service.branches import Name, Names, branch, parent

IDS = st.sets(st.from_regex(r"[a-c0][a-c0_-]{0,5}", fullmatch=True), max_size=60)


def lister(ids: set[str]) -> Names:
    def names(*, between: tuple[str, str], limit: int) -> list[Name]:
        found = sorted(each for each in ids if between[0] <= each < between[1])
        return [(each, each.upper()) for each in found[:limit]]

    return names


@given(IDS, st.integers(1, 12))
@settings(deadline=None)
def test_a_walk_finds_every_dataset_once(ids: set[str], most: int) -> None:
    names = lister(ids)
    walked: list[str] = []

    def walk(beginning: str) -> None:
        found = branch(names, beginning, most=most)
        assert len(found.datasets) <= most
        walked.extend(each for each, _ in found.datasets)
        for each in found.branches:
            assert each.startswith(beginning)
            assert len(each) > len(beginning)
            assert parent(names, each) == beginning
            walk(each)

    walk("")
    assert sorted(walked) == sorted(ids)
    assert len(walked) == len(ids)


def test_a_common_beginning_is_no_level_of_its_own() -> None:
    ids = {f"cmip6-tas-{n:04}" for n in range(2_000)}
    found = branch(lister(ids), "", most=1_000)
    assert found.branches == ("cmip6-tas-0", "cmip6-tas-1") or found.branches == ("cmip6-tas-",)


@pytest.mark.parametrize("beginning", ["x", "abcd"])
def test_nothing_begins_so(beginning: str) -> None:
    assert branch(lister({"abc"}), beginning, most=3) == branch(lister(set()), "", most=3)
