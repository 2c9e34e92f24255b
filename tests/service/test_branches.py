"""The tree of datasets: every dataset once, no branch too wide, each branch below the one that it names as its parent."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeport.service.branches import branch, parent

IDS = st.sets(st.from_regex(r"[a-c0][a-c0_-]{0,5}", fullmatch=True), max_size=60)


def lister(ids: set[str]) -> Callable[..., Any]:
    """Return a list of datasets of which only the ids are there."""

    def datasets(*, limit: int, between: tuple[str, str], count: bool = False) -> Any:
        found = sorted(each for each in ids if between[0] <= each < between[1])
        items = tuple(SimpleNamespace(texts=SimpleNamespace(dataset_id=each, title=each.upper())) for each in found[:limit])
        return SimpleNamespace(items=items, matched=len(found) if count else None)

    return datasets


@given(IDS, st.integers(1, 12))
@settings(deadline=None)
def test_a_walk_finds_every_dataset_once(ids: set[str], most: int) -> None:
    datasets = lister(ids)
    walked: list[str] = []

    def walk(beginning: str) -> None:
        found = branch(datasets, beginning, most=most)
        assert len(found.datasets) <= most
        walked.extend(each for each, _ in found.datasets)
        for each in found.branches:
            assert each.startswith(beginning)
            assert len(each) > len(beginning)
            assert parent(datasets, each) == beginning
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
