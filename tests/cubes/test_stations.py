"""Each station has a name of its own, whatever the file calls them."""

from __future__ import annotations

import pytest

from cubeport.cubes.stations import _unique


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["Oslo", "Bergen"], ("Oslo", "Bergen")),
        (["Oslo", "Oslo"], ("Oslo", "station-2")),
        (["station-2", ""], ("station-2", "station-2-")),
        (["", "station-1"], ("station-1-", "station-1")),
        (["a/b", "c"], ("station-1", "c")),
        ([], ("station-1", "station-2")),
    ],
)
def test_names_are_unique(names: list[str], unique: tuple[str, ...]) -> None:
    assert _unique(names, 2) == unique
