"""Real files with bytes changed, lost and cut: whatever comes of it is ours, and the service stays up (safety.md 11)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cubeport.adapters.gate.children import Children
from cubeport.errors import SourceRejected

FILES = (
    "small_rotPole_precipitation.nc",  # classic, fixed
    "era5_multi/era5_2t_1.nc",  # 64-bit offsets
    "croco_his.nc",  # classic, records
    "unicode.nc",  # HDF5, old and small
    "test_monotonic_coordinate.nc",
    "NO_TS_MO_FINO1_202209.nc",  # HDF5 with many attributes
    "MODIS_ARRAY.nc",
)
BATCH = 25
CLASSIC = FILES[:3]


def hold(children: Children, path: Path, folder: Path, mutations: int) -> Counter[str]:
    """Return how often which outcome came; a batch that crashed is done again one by one."""
    outcomes: Counter[str] = Counter()

    def batch(begin: int, end: int) -> None:
        try:
            outcomes.update(children.run("mutate", {"from": begin, "to": end}, sources=[path], write=[folder]))
        except SourceRejected as refusal:  # a library died of it
            if end - begin == 1:
                outcomes[refusal.reason] += 1
                return
            for seed in range(begin, end):
                batch(seed, seed + 1)

    for begin in range(0, mutations, BATCH):
        batch(begin, min(begin + BATCH, mutations))
    assert outcomes.total() == mutations
    assert outcomes["passed"] < mutations, "no mutation was noticed: does this test change anything?"
    assert outcomes["passed"] > 0, "nothing passes any more: does the scan read this at all?"
    return outcomes


@pytest.mark.parametrize("file", FILES)
def test_a_sample(children: Children, realdata: Path, tmp_path: Path, file: str) -> None:
    hold(children, realdata / file, tmp_path, 2 * BATCH)


@pytest.mark.hostile
@pytest.mark.parametrize("file", FILES)
def test_all(children: Children, realdata: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = hold(children, realdata / file, tmp_path, 300)
    with capsys.disabled():
        print(f"\n{file}: {dict(outcomes.most_common())}", end=" ")
    # A library may die of what it reads, in a child; our own code never does.
    assert not file.startswith(CLASSIC) or not outcomes["crashed"]
