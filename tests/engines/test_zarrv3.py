"""What we write is Zarr v3 by zarr-python's judgement, bit by bit, and every chunk is read from one block."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.cubes import keys

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], Grid]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=7))
    fill = draw(hnp.from_dtype(dtype)).item()
    usual = st.sampled_from([dtype.type(fill), dtype.type(0)]) | hnp.from_dtype(dtype)
    values = draw(hnp.arrays(dtype, shape, elements=usual))
    chunks = tuple(draw(st.integers(1, size + 2)) for size in shape)
    return values, Grid(shape, chunks, dtype, math.nan if fill != fill else fill)


def store(root: Path, grid: Grid, values: np.ndarray[Any, Any]) -> dict[tuple[int, ...], bytes]:
    """Write an array below *root*, and return its chunks' digests."""
    root.mkdir()
    (root / "zarr.json").write_bytes(
        zarrv3.to_bytes(zarrv3.array_document(grid, tuple(f"d{n}" for n in range(len(grid.shape))), {}))
    )
    digests = {}
    for region, indices in zarrv3.blocks(grid, None, 1 << 20):
        block = values[(*region, ...)]
        for index in indices:
            digests[index], stored = grid.encode(block[zarrv3.inside(grid.region(index), region)])
            if stored is not None:
                path = root / keys.chunk("", index)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stored)
    return digests


@settings(max_examples=150, deadline=None)
@given(arrays())
def test_zarr_python_reads_every_bit(tmp_path_factory: pytest.TempPathFactory, made: tuple[np.ndarray[Any, Any], Grid]) -> None:
    values, grid = made
    root = tmp_path_factory.mktemp("store") / "v"
    digests = store(root, grid, values)
    read = np.asarray(zarr.open_array(root, mode="r")[...])
    assert read.dtype == values.dtype
    assert read.shape == values.shape
    assert read.tobytes() == values.tobytes()
    again = {
        index: grid.digest(read[zarrv3.inside(grid.region(index), tuple(slice(0, n) for n in grid.shape))]) for index in digests
    }
    assert again == digests


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_zarr_python_reads_every_text(shape: tuple[int, ...], tmp_path: Path) -> None:
    words = ["", "Åland", "a b ", "日本", "x" * 300, "\n", "0", "end"]
    values = np.array(words[: math.prod(shape)], dtype=zarrv3.np.dtypes.StringDType()).reshape(shape)
    grid = Grid(shape, tuple(2 for _ in shape), values.dtype, "")
    store(tmp_path / "v", grid, values)
    assert np.asarray(zarr.open_array(tmp_path / "v", mode="r")[...]).tolist() == values.tolist()


def test_only_chunks_of_nothing_but_fill_need_no_bytes() -> None:
    grid = Grid((4,), (4,), np.dtype("float32"), 0.0)
    assert grid.encode(np.zeros(4, "float32"))[1] is None
    assert grid.encode(-np.zeros(4, "float32"))[1] is not None
    nan = Grid((2,), (2,), np.dtype("float32"), math.nan)
    other = np.array([0x7FC00000, 0x7FC00001], "uint32").view("float32")
    assert nan.encode(other[:1].repeat(2))[1] is None
    assert nan.encode(other)[1] is not None


@given(arrays(), st.lists(st.integers(1, 9), min_size=4, max_size=4), st.integers(1, 4_000))
def test_every_chunk_lies_whole_in_one_block(made: tuple[np.ndarray[Any, Any], Grid], source: list[int], budget: int) -> None:
    _, grid = made
    seen = []
    for region, indices in zarrv3.blocks(grid, tuple(source[: len(grid.shape)]), budget):
        size = math.prod(each.stop - each.start for each in region) * grid.itemsize
        assert size <= 4 * budget or len(indices) == 1
        for index in indices:
            chunk = grid.region(index)
            assert all(b.start <= c.start and c.stop <= b.stop for b, c in zip(region, chunk, strict=True))
        assert set(indices) == set(grid.within(region))
        seen += indices
    assert sorted(seen) == sorted(np.ndindex(grid.counts))


def test_a_block_covers_the_chunks_of_the_source() -> None:
    grid = Grid((1000, 400, 400), (10, 100, 100), np.dtype("float32"), 0.0)
    for region, _ in zarrv3.blocks(grid, (1000, 10, 10), 64 * 2**20):
        assert (region[0].start, region[0].stop) == (0, 1000)
    longest = max(region[0].stop - region[0].start for region, _ in zarrv3.blocks(grid, (1000, 10, 10), 5 * 2**20))
    assert longest >= 250, "as much of it as there is room for"


@given(arrays())
def test_a_document_says_what_it_was_made_of(made: tuple[np.ndarray[Any, Any], Grid]) -> None:
    _, grid = made
    dimensions = tuple(f"d{n}" for n in range(len(grid.shape)))
    document = zarrv3.array_document(grid, dimensions, {"units": "K"})
    again, names, attributes = zarrv3.parse_array(zarrv3.json.loads(zarrv3.to_bytes(document)))
    assert (again.shape, again.chunks, again.dtype, names, attributes) == (
        grid.shape,
        grid.chunks,
        grid.dtype,
        dimensions,
        {"units": "K"},
    )
    assert np.array(again.fill, grid.dtype).tobytes() == np.array(grid.fill, grid.dtype).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "pickle"}]},
        {"data_type": "object"},
        {"data_type": "int3"},
        {"fill_value": "now"},
        {"storage_transformers": [{"name": "evil"}]},
        {"extra": 1},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0]}}},
        {"shape": [-1]},
        {"shape": "4"},
        {"attributes": []},
        {"dimension_names": None},
    ],
)
def test_a_document_that_is_not_ours_is_refused(change: dict[str, Any]) -> None:
    document = zarrv3.array_document(Grid((4,), (2,), np.dtype("int16"), 0), ("x",), {})
    assert zarrv3.parse_array(document)
    with pytest.raises(ValueError, match="not an array of ours"):
        zarrv3.parse_array({**document, **change})


@pytest.mark.parametrize("key", ["zarr.json", "v/zarr.json", "v/c", "v/c/0", "v/c/10/0", "g/v/c/0/0", "a-b.c+d@e/zarr.json", "c/0"])
def test_keys_of_the_grammar(key: str) -> None:
    assert keys.parse(key) is not None


@pytest.mark.parametrize(
    "key",
    [
        *("", "/zarr.json", "v//c/0", "../zarr.json", "./zarr.json", "v/../zarr.json", "v/c/00", "v/c/-1", "v/c/0/", "v/c/01"),
        *("v/.zarray", "__x/zarr.json", "v\0/zarr.json", "v%2e/zarr.json", "v\\c", "é/zarr.json", "v/c/12345678901", "v/c/0\n"),
        "v" * 129 + "/zarr.json",
    ],
)
def test_keys_outside_the_grammar(key: str) -> None:
    assert keys.parse(key) is None
