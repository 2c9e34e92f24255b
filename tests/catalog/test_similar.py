"""Ids for whoever mistyped one."""

from __future__ import annotations

import pytest

from cubeport.catalog.similar import Keys, similar


def lister(ids: list[str], asked: list[int]) -> Keys:
    def names(*, between: tuple[str, str], limit: int) -> list[str]:
        found = sorted(each for each in ids if between[0] <= each < between[1])[:limit]
        asked.append(len(found))
        return found

    return names


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("tas-dya", ["tas-day"]), ("prday", ["pr-day"]), ("tas-day", ["pr-day"]), ("zzz", []), ("t", []), ("", [])],
)
def test_the_most_similar_of_a_few(wanted: str, found: list[str]) -> None:
    assert similar(lister(["tas-day", "pr-day", "huss-mon"], []), wanted) == found


def test_of_many_those_with_the_same_beginning_are_compared() -> None:
    asked: list[int] = []
    many = lister([f"cmip6-{name}-{n:05}" for n in range(2_000) for name in ("tas", "pr")], asked)
    found = similar(many, "cmip6-tas-0123")
    assert len(found) == 3
    assert all(each.startswith("cmip6-tas-01") for each in found)
    assert similar(many, "x" * 80) == []
    assert sum(asked) < 2_000
