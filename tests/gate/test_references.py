"""What says which bytes of a source are which chunk is not believed, and neither is what says into which files a version points."""

from __future__ import annotations

import json
import secrets
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import zarr

from cubeport.adapters.engines import inflating
from cubeport.adapters.engines.manifest import Entry, Lying, parse, to_bytes
from cubeport.adapters.engines.opened import VersionStore
from cubeport.adapters.engines.zarr import Reader, Writer
from cubeport.adapters.engines.zarrv3 import Form, Grid
from cubeport.adapters.gate import references
from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sources.stored import pieces
from cubeport.cubes.write_request import Staging, StoredObject, WriteRequest
from cubeport.errors import Corrupt, SourceRejected

GRID = Grid((10, 4), (5, 4), np.dtype("f4"), 0.0, Form(filters=(("zlib", 1),)))
PLAIN = replace(GRID, form=Form())


@pytest.mark.parametrize(
    ("grid", "rows"),
    [
        (GRID, [[2, 0, 0, 10, 5]]),  # outside the array
        (GRID, [[0, 0, 1, 10, 5]]),  # no such source
        (GRID, [[0, 0, 0, 96, 5]]),  # behind the end of the source
        (GRID, [[0, 0, 0, -1, 5]]),
        (GRID, [[0, 0, 0, 10, 0]]),
        (GRID, [[0, 0, 0, 10, 5], [0, 0, 0, 20, 5]]),  # twice
        (GRID, [[0, 0, 0, 10.5, 5]]),
        (GRID, [[0, True, 0, 10, 5]]),
        (GRID, [[0, 0, 0, 10]]),
        (GRID, [[1, 0, 0, 10, 5]]),  # it was written as well
        (PLAIN, [[0, 0, 0, 10, 79]]),  # without filters a chunk has its own length
        (replace(GRID, form=None), [[0, 0, 0, 10, 5]]),  # an array in our own form
    ],
)
def test_a_reference_to_anywhere_else_is_refused(tmp_path: Path, grid: Grid, rows: list[Any]) -> None:
    path = tmp_path / references.REFERENCES
    path.write_text(json.dumps({"t": rows}))
    with pytest.raises(SourceRejected) as refusal:
        references.parse(path, {"t": grid}, [100], ["t/c/1/0"])
    assert refusal.value.reason == "unsafe"


@pytest.mark.parametrize("text", ["[]", "{", '{"u": []}', '{"t": 1}', '{"t": [1]}'])
def test_what_is_no_list_of_references_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / references.REFERENCES
    path.write_text(text)
    with pytest.raises(SourceRejected):
        references.parse(path, {"t": GRID}, [100], [])


@pytest.fixture
def staged(tmp_path: Path, children: Children) -> tuple[Writer, Staging, Path]:
    """A version that points into a file, written and measured and not yet taken in."""
    sources = tmp_path / "sources"
    sources.mkdir()
    with netCDF4.Dataset(sources / "a.nc", "w") as file:
        for name, size in (("time", 8), ("lat", 50), ("lon", 60)):
            file.createDimension(name, size)
            file.createVariable(name, "f8", (name,))[:] = np.arange(size)
        file["time"].units, file["lat"].units, file["lon"].units = "days since 2000-01-01", "degrees_north", "degrees_east"
        file.createVariable("t", "f4", ("time", "lat", "lon"), zlib=True, chunksizes=(4, 50, 60))[:] = np.random.rand(8, 50, 60)
    gate, writer = ConfinedGate(children), Writer(tmp_path / "data", roots=[sources])
    staging, _ = writer.stage(secrets.token_hex(16), "a", secrets.token_hex(16))
    writer.begin(staging)
    held = gate.hold([sources / "a.nc"])
    order = WriteRequest(sources=(sources / "a.nc",), target=staging.new, storage="virtual", held=held)
    written = gate.write(order)
    gate.measure(staging.new, written, held=held)
    return writer, replace(staging, held=held), sources / "a.nc"


def test_a_version_points_only_into_files_that_were_ordered(staged: tuple[Writer, Staging, Path], tmp_path: Path) -> None:
    writer, staging, _ = staged
    secret = tmp_path / "sources" / "secret"
    secret.write_bytes(bytes(1_000))
    other = replace_path(staging, secret)
    entries = dict(parse((staging.new / "manifest.json").read_bytes()))
    entries["t/c/0/0/0"] = Entry(100, "0" * 64, Lying.of(other), 0)
    (staging.new / "manifest.json").write_bytes(to_bytes(entries))
    with pytest.raises(SourceRejected, match="points into a file that is no source") as refusal:
        writer.assemble(staging)
    assert refusal.value.reason == "unsafe"


def replace_path(staging: Staging, path: Path) -> Any:
    status = path.stat()
    held = staging.held[0]
    return held._replace(path=str(path), inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns)


def test_a_source_that_changes_before_the_version_is_taken_in_ends_it(staged: tuple[Writer, Staging, Path]) -> None:
    writer, staging, source = staged
    source.touch()
    with pytest.raises(SourceRejected, match="changed while it was read"):
        writer.assemble(staging)


def test_a_version_that_has_lost_where_its_files_are_is_damaged_and_not_empty(staged: tuple[Writer, Staging, Path]) -> None:
    writer, staging, source = staged
    writer.assemble(staging)
    writer.publish(staging)
    reader = Reader(writer.data, roots=[source.parent])
    found = reader.read("a", staging.version_id, "t/c/0/0/0")
    assert found is not None
    with found.file as file:
        assert file.read() in source.read_bytes()
        assert reader.place("a", staging.version_id, "t/c/0/0/0") is None
    (writer.version("a", staging.version_id) / "sources.json").unlink()
    with pytest.raises(Corrupt, match=r"does not say where its file a\.nc is"):
        Reader(writer.data, roots=[source.parent]).read("a", staging.version_id, "t/c/0/0/0")


class One:
    """One array in memory, with one chunk."""

    def __init__(self, chunk: bytes) -> None:
        document = {"shape": [64], "chunk_shape": [64]}
        node = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": document["shape"],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0,
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "numcodecs.zlib", "configuration": {"level": 1}},
            ],
        }
        self.objects = {"zarr.json": json.dumps(node).encode(), "c/0": chunk}

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        import io

        body = self.objects.get(key)
        return None if body is None else StoredObject(file=io.BytesIO(body), size=len(body), digest="")  # type: ignore[arg-type]


def test_a_chunk_is_inflated_to_its_declared_length_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(64, dtype="f4")
    longest: list[int] = []
    inflate = inflating.Inflating._decode_sync

    def watched(self: Any, data: Any, spec: Any) -> Any:
        found = inflate(self, data, spec)
        longest.append(len(found))
        return found

    monkeypatch.setattr(inflating.Inflating, "_decode_sync", watched)
    opened: Any = zarr.open_array(VersionStore(One(zlib.compress(values.tobytes())), "", ""), mode="r", zarr_format=3)
    assert opened[:].tolist() == values.tolist()
    assert longest == [256]
    for bad in (zlib.compress(bytes(50_000_000)), zlib.compress(bytes(255)), zlib.compress(bytes(256))[:-6], b"no"):
        opened = zarr.open_array(VersionStore(One(bad), "", ""), mode="r", zarr_format=3)
        with pytest.raises(ValueError, match="a chunk"):
            opened[:]


@pytest.mark.parametrize(
    ("block", "axis", "unit", "lengths"),
    [
        ((1000, 100, 100), None, None, (25, 100, 100)),  # 1 MB, and 1000 is a multiple
        ((7, 600, 600), None, None, (1, 300, 600)),
        ((1, 5000, 5000), None, None, (1, 50, 5000)),
        ((1000, 100, 100), 0, 10, (10, 100, 100)),  # files of 1000 and of 10 steps
        ((1_048_573,), None, None, (1,)),  # a prime number
    ],
)
def test_what_has_no_chunks_is_cut_without_rest(block: Any, axis: int | None, unit: int | None, lengths: Any) -> None:
    assert pieces(block, 4, axis, unit) == lengths
