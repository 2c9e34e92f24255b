"""The header reader agrees with the library on whole files, and refuses every cut one."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources import netcdf3
from cubeport.adapters.sources.scanned import Scanned
from cubeport.errors import SourceRejected

FORMATS = {"NETCDF3_CLASSIC": "i1 S1 i2 i4 f4 f8", "NETCDF3_64BIT_OFFSET": "i1 S1 i2 i4 f4 f8"}
FORMATS["NETCDF3_64BIT_DATA"] = "i1 S1 i2 i4 f4 f8 u1 u2 u4 i8 u8"
LIMITS = SourceLimits()


def scan(path: Path) -> Scanned:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return netcdf3.scan(Input("a.nc", descriptor, False), LIMITS)
    finally:
        os.close(descriptor)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[int], int, list[tuple[str, list[int], bool]], dict[str, object]]:
    form = draw(st.sampled_from(sorted(FORMATS)))
    lengths = draw(st.lists(st.integers(1, 5), max_size=3))
    records = draw(st.integers(0, 4))
    variable = st.tuples(
        st.sampled_from(FORMATS[form].split()),
        st.lists(st.integers(0, len(lengths) - 1), max_size=2, unique=True) if lengths else st.just([]),
        st.booleans(),
    )
    text = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=9)
    values = st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False) | text
    return form, lengths, records, draw(st.lists(variable, max_size=4)), draw(st.dictionaries(st.sampled_from("abc"), values))


def write(path: Path, made: tuple) -> int:
    """Write the file and return how many of its bytes are needed, where it has values: what follows the last is padding."""
    form, lengths, records, variables, attributes = made
    with netCDF4.Dataset(path, "w", format=form) as file:
        file.setncatts(attributes)
        file.createDimension("r", None)
        for n, length in enumerate(lengths):
            file.createDimension(f"d{n}", length)
        for n, (kind, numbers, is_record) in enumerate(variables):
            names = ("r",) * is_record + tuple(f"d{each}" for each in numbers)
            variable = file.createVariable(f"v{n}", kind, names)
            shape = (records,) * is_record + tuple(lengths[each] for each in numbers)
            variable[...] = np.full(shape, np.frombuffer(b"A" * 8, dtype=kind)[0], dtype=kind)
    body = path.read_bytes()
    return body.rindex(b"A") + 1 if any(records or not each[2] for each in variables) else 0


@settings(max_examples=150, deadline=None)
@given(files(), st.randoms(use_true_random=False))
def test_whole_files_pass_and_cut_ones_do_not(made: tuple, chance) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nc")
        size = write(path, made)
        found = scan(path)
        with netCDF4.Dataset(path) as file:
            expected = [(name, variable.shape, variable.dtype.itemsize) for name, variable in file.variables.items()]
        assert [(each.path, each.shape, each.item_bytes) for each in found.arrays] == expected
        if not size:
            return
        body = path.read_bytes()
        path.write_bytes(body[:size])
        assert scan(path) == replace(found, stored_bytes=size)
        for length in (size - 1, *(chance.randrange(4, size) for _ in range(8))):
            path.write_bytes(body[:length])
            with pytest.raises(SourceRejected) as caught:
                scan(path)
            assert caught.value.reason == "truncated"


def test_every_length_of_one_file(tmp_path: Path) -> None:
    made = ("NETCDF3_CLASSIC", [3], 3, [("i2", [0], True), ("f8", [0], False), ("i1", [], True)], {"a": "words"})
    size = write(tmp_path / "a.nc", made)
    body = (tmp_path / "a.nc").read_bytes()
    passed = []
    for length in range(4, size + 1):
        (tmp_path / "a.nc").write_bytes(body[:length])
        try:
            scan(tmp_path / "a.nc")
            passed.append(length)
        except SourceRejected as refusal:
            assert refusal.reason == "truncated"  # noqa: PT017 - many are refused, some are not
    assert passed == [size]


def test_a_file_over_four_gib_is_counted_in_full(tmp_path: Path) -> None:
    """``vsize`` cannot say it; Python's integers can."""
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        file.set_fill_off()
        file.createDimension("x", 2**29 + 100)
        file.createVariable("a", "f8", ("x",))
    with path.open("r+b") as sparse:
        sparse.truncate(2**32 + 2_000)
    assert scan(path).declared_bytes == (2**29 + 100) * 8
    os.truncate(path, 2**32 + 700)
    with pytest.raises(SourceRejected) as caught:
        scan(path)
    assert caught.value.reason == "truncated"
