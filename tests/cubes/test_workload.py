"""Chunks are divided into disjoint units, and what does not fit together is not merged."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.engines import zarrv3
from cubeport.cubes.workload import Block, Box, Made, Run, Runs, Unit, divide, merge, runs_of, share, together
from cubeport.errors import Corrupt


def digest(name: str, index: tuple[int, ...]) -> str:
    return hashlib.sha256(repr((name, index)).encode()).hexdigest()


def rows(name: str, starts: list[int], width: int = 2) -> list[Block]:
    """Blocks of one row of chunks each."""
    return [Block(Box(name, (n, 0), (n + 1, width)), width, 10 * width) for n in starts]


def made(unit: Unit) -> list[Made]:
    return [Made(box.array, index, digest(box.array, index), 1) for box in unit.boxes for index in box.indices()]


@st.composite
def grids(draw: st.DrawFn) -> tuple[dict[str, tuple[int, ...]], list[Block]]:
    """Arrays of 0 to 3 dimensions, each cut into boxes of any length, some of whose chunks need not be written."""
    counts, blocks = {}, []
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True)):
        counts[name] = tuple(draw(st.lists(st.integers(1, 5), max_size=3)))
        step = [draw(st.integers(1, count)) for count in counts[name]]
        for corner in itertools.product(*(range(0, n, s) for n, s in zip(counts[name], step, strict=True))):
            stop = tuple(min(c + s, n) for c, s, n in zip(corner, step, counts[name], strict=True))
            box = Box(name, corner, stop)
            blocks.append(Block(box, box.volume, draw(st.integers(0, 100))))
    return counts, blocks


@given(grids(), st.integers(1, 300))
def test_each_chunk_is_in_one_unit_and_only_a_large_block_makes_a_large_unit(
    grid: tuple[dict[str, tuple[int, ...]], list[Block]], unit_bytes: int
) -> None:
    counts, blocks = grid
    units = divide(blocks, unit_bytes)
    found = [(box.array, index) for unit in units for box in unit.boxes for index in box.indices()]
    assert sorted(found) == sorted((name, index) for name in counts for index in itertools.product(*map(range, counts[name])))
    assert all(unit.size <= unit_bytes or len(unit.boxes) == 1 for unit in units)


@given(grids(), st.integers(1, 300))
def test_merged_units_have_the_digests_that_one_process_computes(
    grid: tuple[dict[str, tuple[int, ...]], list[Block]], unit_bytes: int
) -> None:
    counts, blocks = grid
    units = divide(blocks, unit_bytes)

    def chunks(name: str) -> Iterator[bytes]:
        return (bytes.fromhex(digest(name, index)) for index in itertools.product(*map(range, counts[name])))

    whole = {name: zarrv3.digest_of(list(chunks(name))) for name in counts}
    assert merge(units, [made(unit) for unit in units], list(counts)) == whole


def test_overlapping_units_are_refused_before_anything_is_merged() -> None:
    with pytest.raises(Corrupt, match="Two units have the chunk t/c/1/0, so nothing is merged"):
        divide([*rows("t", [0, 1]), *rows("t", [1])], 20)
    planted = [Unit((Box("t", (0, 0), (2, 2)),), 4, 40), Unit((Box("t", (1, 1), (2, 2)),), 1, 10)]
    with pytest.raises(Corrupt, match="Two units have the chunk t/c/1/1"):
        merge(planted, [made(each) for each in planted], ["t"])


def test_a_unit_makes_its_own_chunks_all_of_them_and_each_once() -> None:
    one, two = units = divide(rows("t", [0, 1]), 20)
    with pytest.raises(Corrupt, match="Unit 1 made t/c/0/0, which is not in it"):
        merge(units, [made(one), [*made(two), *made(one)]], ["t"])
    with pytest.raises(Corrupt, match="Unit 0 made 1 of 2 chunks"):
        merge(units, [made(one)[:1], made(two)], ["t"])
    with pytest.raises(Corrupt, match="Two units have the chunk t/c/1/0"):
        merge(units, [made(one), [made(two)[0], made(two)[0]]], ["t"])


def test_a_unit_opens_the_sources_of_its_chunks_and_what_is_between_them() -> None:
    parts = tuple(Run(3 * n, 3, n, "t") for n in range(6))
    known = {"t": Runs(1, 2, parts)}

    def sources(*boxes: Box) -> list[int] | None:
        found = runs_of(Unit(boxes, 1, 1), known)
        return None if found is None else [each.source for each in found["t"][1]]

    assert sources(Box("t", (0, 0), (1, 1))) == [0]
    assert sources(Box("t", (0, 1), (1, 2))) == [0, 1]
    assert sources(Box("t", (0, 8), (1, 9))) == [5]
    assert sources(Box("t", (0, 8), (1, 9)), Box("t", (1, 4), (2, 5))) == [2, 3, 4, 5]
    assert sources(Box("t", (0, 0), (1, 1)), Box("lat", (0,), (1,))) is None


def test_what_an_update_shares_with_the_version_before_is_in_no_unit() -> None:
    [unit] = divide([Block(Box("t", (0,), (3,)), 1, 5), Block(Box("t", (3,), (6,)), 0, 0)], 100)
    assert unit == Unit((Box("t", (0,), (3,)),), 1, 5)
    merge([unit], [[Made("t", (2,), digest("t", (2,)), None)]], ["t"])


MIB = 2**20


def sizes(total: int, block: int, most: int, workers: int) -> list[int]:
    """The sizes in MiB of the units of a cube of *total* MiB in blocks of *block* MiB."""
    blocks = [Block(Box("t", (n,), (n + 1,)), 1, block * MIB) for n in range(total // block)]
    return [unit.size // MIB for unit in divide(blocks, most * MIB, workers=workers)]


def test_all_workers_have_the_same_to_do() -> None:
    assert sizes(720, 24, 256, 1) == [240, 240, 240]
    assert sizes(720, 24, 256, 2) == [168, 192, 168, 192], "not 256, 256 and 208, of which one worker has two"
    assert sizes(1_500, 50, 256, 4) == [200, 150, 200, 200, 200, 150, 200, 200]
    assert sizes(320, 32, 256, 16) == [64] * 5, "smaller units are not worth two children"
    assert sizes(64, 64, 256, 2) == [64]


@given(grids(), st.integers(1, 300), st.integers(1, 9))
def test_more_workers_change_the_size_of_units_and_not_what_is_in_them(
    grid: tuple[dict[str, tuple[int, ...]], list[Block]], unit_bytes: int, workers: int
) -> None:
    counts, blocks = grid
    units = divide(blocks, unit_bytes, workers=workers)
    found = [(box.array, index) for unit in units for box in unit.boxes for index in box.indices()]
    assert sorted(found) == sorted((name, index) for name in counts for index in itertools.product(*map(range, counts[name])))
    assert all(unit.size <= unit_bytes or len(unit.boxes) == 1 for unit in units)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3))), st.integers(1, 9), st.integers(1, 60), st.integers(1, 6))
def test_groups_keep_the_order_and_none_of_several_is_too_large(
    weights: list[tuple[int, int]], count: int, size: int, number: int
) -> None:
    found = together(range(len(weights)), weights, count, most=(size, number))
    assert [each for own in found for each in own] == list(range(len(weights)))
    for own in found:
        assert own
        assert len(own) == 1 or (sum(weights[n][0] for n in own) <= size and sum(weights[n][1] for n in own) <= number)


def test_as_many_parts_for_one_worker_as_for_another() -> None:
    assert [share(3, 1, workers) for workers in (1, 2, 3, 4, 5, 16)] == [3, 4, 3, 3, 3, 3]
    assert share(1, 16, 16) == 16
    assert share(0, 0, 4) == 1
