"""Real files with bytes changed, lost and cut: whatever comes of it is ours, and the service stays up."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.sandbox.children import Children
from cubeport.cubes.write_request import WriteRequest
from cubeport.errors import CubeportError, SourceRejected

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


@pytest.mark.hostile
@pytest.mark.parametrize("file", [*FILES, "rlds_v3.zarr", "analysed_sst.zarr"])
def test_what_passes_is_written_or_refused(children: Children, realdata: Path, tmp_path: Path, file: str) -> None:
    """The whole way in: scan, decoding, rules, writing."""
    gate = ConfinedGate(children)
    outcomes: Counter[str] = Counter()
    for seed in range(30):
        source, target = tmp_path / f"{seed}{Path(file).suffix}", tmp_path / f"new{seed}"
        (shutil.copytree if (realdata / file).is_dir() else shutil.copy)(realdata / file, source)
        target.mkdir()
        flip(source, random.Random(seed))
        try:
            gate.write(WriteRequest(sources=(source,), target=target))
            outcomes["written"] += 1
        except CubeportError as error:
            outcomes[str(error.members.get("reason", error.kind))] += 1
        shutil.rmtree(target)
    assert outcomes.total() == 30
    assert not outcomes["crashed"], outcomes


def flip(source: Path, chance: random.Random) -> None:
    """Change some bits of a file, or of one file of a folder."""
    path = chance.choice(sorted(each for each in source.rglob("*") if each.is_file())) if source.is_dir() else source
    body = bytearray(path.read_bytes())
    reach = chance.choice((512, 4_096, len(body), len(body)))
    for _ in range(chance.choice((1, 1, 2, 8))):
        body[chance.randrange(min(reach, len(body)))] ^= 1 << chance.randrange(8)
    path.write_bytes(body)
