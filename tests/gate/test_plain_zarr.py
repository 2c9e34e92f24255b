"""A version that numcodecs alone opens is what zarr-python opens: names, order, types, attributes and values."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.engines import attributes, zarrplain, zarrv3
from cubeport.adapters.gate.objects import InMemory
from cubeport.adapters.gate.parent import opened
from cubeport.cubes.keys import METADATA, chunk
from cubeport.errors import Corrupt

CHUNKS = {"time": 3, "lat": 2, "lon": 4, "nv": 2}


def version(cube: xr.Dataset) -> InMemory:
    """Return the objects of a version of *cube*, as the first child makes them."""
    made, nodes = InMemory(), {}
    for key, variable in cube.variables.items():
        name = str(key)
        dtype = np.dtypes.StringDType() if variable.dtype.kind in "TOU" else variable.dtype
        lengths = tuple(CHUNKS[str(each)] for each in variable.dims)
        grid = zarrv3.Grid(variable.shape, lengths, dtype, attributes.fill_of(variable.attrs, dtype))
        nodes[name] = zarrv3.array_document(
            grid, tuple(map(str, variable.dims)), attributes.encode(variable.attrs, dtype, name, [])
        )
        for index in product(*map(range, grid.counts)):
            _, stored = grid.encode(np.asarray(variable.values[grid.region(index)], dtype))
            if stored is not None:
                made.put(chunk(name, index), stored)
    group = zarrv3.group_document(attributes.encode(cube.attrs, None, "global", []))
    made.put(METADATA, zarrv3.to_bytes(zarrv3.consolidated(group, nodes)))
    return made


class ByKey:
    """The objects as an engine gives them."""

    def __init__(self, made: InMemory) -> None:
        self._made = made

    def read(self, dataset_id: str, version_id: str, key: str) -> Any:
        return self._made.open(key)


def both(cube: xr.Dataset) -> tuple[xr.Dataset | None, xr.Dataset]:
    made = version(cube)
    root = made.read(METADATA)
    assert root is not None
    return zarrplain.read(json.loads(root), made.read), opened(ByKey(made))


def cube() -> xr.Dataset:
    """Return a cube with everything that a version may have but text."""
    rng = np.random.default_rng(9)
    field = rng.standard_normal((7, 4, 6)).astype("f4")
    field[3:6, :2, :4] = np.nan  # a chunk that is not stored
    field[0, 0, 0] = -0.0
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f8")
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), field, {"_FillValue": np.float32(np.nan), "units": "K", "valid_range": [0.0, 1.5]}),
            "packed": (("time", "lat"), np.full((7, 4), -9, "i2"), {"_FillValue": np.int16(-9), "scale_factor": 0.5}),
            "mask": (("lat", "lon"), rng.random((4, 6)) > 0.5, {}),
            "crs": ((), np.int32(7), {"grid_mapping_name": "latitude_longitude"}),
            "lat_bnds": (("lat", "nv"), rng.random((4, 2)), {}),
            **{kind: (("time",), np.arange(7).astype(kind), {"_FillValue": np.dtype(kind).type(3)}) for kind in kinds},
        },
        coords={
            "time": ("time", np.arange(7), {"units": "days since 2000-01-01", "axis": "T"}),
            "lat": ("lat", np.linspace(-3, 3, 4), {"bounds": "lat_bnds"}),
            "lon": ("lon", np.linspace(0, 5, 6).astype("f4"), {}),
            "lat2": ("lat", np.arange(4.0), {}),
        },
        attrs={"title": "é", "_ncproperties": "version=2", "many": [1, 2, 3]},
    )


def test_it_is_what_zarr_python_opens() -> None:
    ours, theirs = both(cube())
    assert ours is not None
    assert list(ours.variables) == list(theirs.variables)
    assert set(ours.coords) == set(theirs.coords)
    assert ours.attrs == theirs.attrs
    for name, one in ours.variables.items():
        other = theirs.variables[name]
        assert (one.dims, one.shape, one.dtype) == (other.dims, other.shape, other.dtype), name
        assert one.encoding["chunks"] == other.encoding["chunks"], name
        assert list(map(repr, one.attrs.items())) == list(map(repr, other.attrs.items())), name
        np.testing.assert_array_equal(one.values, other.values)
        assert one.values.tobytes() == other.values.tobytes(), f"{name}: the bits of NaN and of zero"


def index(size: int) -> st.SearchStrategy[Any]:
    steps = st.integers(1, size + 1)
    ends = st.one_of(st.none(), st.integers(-size - 1, size + 1))
    return st.one_of(st.integers(-size, size - 1), st.builds(slice, ends, ends, steps))


@given(st.tuples(index(7), index(4), index(6)))
def test_any_part_is_that_part_of_the_whole(key: tuple[Any, ...]) -> None:
    held = cube()[["t"]]
    ours, _ = both(held)
    assert ours is not None
    np.testing.assert_array_equal(ours.variables["t"][key].values, held["t"].values[key])


def test_text_is_left_to_zarr_python() -> None:
    ours, theirs = both(xr.Dataset({"name": (("lat",), np.array(["a", "é"]))}))
    assert ours is None
    assert theirs["name"].values.tolist() == ["a", "é"]


def test_damaged_and_missing_chunks_are_no_values() -> None:
    made = version(cube()[["t"]])
    root = json.loads(made.read(METADATA) or b"")

    def lost(key: str) -> bytes | None:
        raise Corrupt(key)

    with pytest.raises(Corrupt):
        _ = zarrplain.read(root, lost).variables["t"].values  # type: ignore[union-attr]
    for damaged in (
        lambda data: data[:-1],
        lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:],
        lambda _: bytes(zarrv3.Zstd(level=3, checksum=True).encode(b"\0" * 40)),
    ):
        ours = zarrplain.read(root, lambda key, change=damaged: change(made.read(key) or b""))  # type: ignore[misc]
        assert ours is not None
        with pytest.raises((RuntimeError, ValueError)):
            _ = ours.variables["t"][0].values


def test_the_parent_of_an_update_is_opened_by_it(tmp_path: Path) -> None:
    """A missing, shorter or foreign object of a version is damage, however it is opened."""
    from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Entry, to_bytes
    from cubeport.adapters.gate.parent import Parent

    made = version(cube()[["t"]])
    for key in made.sizes():
        (tmp_path / CUBE / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / CUBE / key).write_bytes(made.read(key) or b"")
    listed = {key: Entry(size, made.digest(key)) for key, size in made.sizes().items()}
    (tmp_path / MANIFEST).write_bytes(to_bytes(listed))
    np.testing.assert_array_equal(Parent(tmp_path).source().raw["t"].values, cube()["t"].values)
    key = next(each for each in listed if "/c/" in each)
    data = (tmp_path / CUBE / key).read_bytes()
    (tmp_path / CUBE / key).write_bytes(data[:-3])
    with pytest.raises(Corrupt):
        _ = Parent(tmp_path).source().raw["t"].values
    (tmp_path / CUBE / key).unlink()
    with pytest.raises(Corrupt):
        _ = Parent(tmp_path).source().raw["t"].values
