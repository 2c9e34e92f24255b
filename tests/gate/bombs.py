"""Sources that pass the scan and go off when their values are read: each is a small honest cube with one chunk that is not."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numcodecs
import numpy as np
import zarr

CASES: dict[str, tuple[Callable[[Path], Path], frozenset[str]]] = {}
"""Name: how it is made, and the reasons with which it may be refused."""


def case(*reasons: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def keep(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        CASES[make.__name__] = make, frozenset(reasons)
        return make

    return keep


def netcdf(folder: Path, **options: Any) -> Path:
    path = folder / "source.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, values, units in (
            ("time", np.arange(1.0, 5.0), "days since 2000-01-01"),
            ("lat", np.linspace(10, 20, 16), "degrees_north"),
            ("lon", np.linspace(10, 20, 16), "degrees_east"),
        ):
            file.createDimension(name, len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis[:] = values
            axis.units = units
            axis.standard_name = {"lat": "latitude", "lon": "longitude"}.get(name, name)
        field = file.createVariable("tas", "f4", ("time", "lat", "lon"), chunksizes=(1, 16, 16), **options)
        field[:] = np.random.default_rng(0).random((4, 16, 16))
        field.units = "K"
    return path


def netcdf_of_all_filters(folder: Path) -> Path:
    """Every filter of the list, and chunks that a filter was left out of, that were never written, or that reach over the edge."""
    path = netcdf(folder)
    with netCDF4.Dataset(path, "a") as file:
        for n, options in enumerate(
            (
                {"zlib": True, "shuffle": True, "fletcher32": True},
                {"zlib": True, "shuffle": False, "complevel": 9},
                {"compression": "szip", "szip_coding": "nn"},
                {"compression": "szip", "szip_coding": "ec", "fletcher32": True},
                {"fletcher32": True},
                {},
            )
        ):
            field = file.createVariable(f"v{n}", "i2", ("time", "lat", "lon"), chunksizes=(3, 16, 7), **options)
            field[:] = np.arange(4 * 256).reshape(4, 16, 16) + n
            field.units = "K"
        names = file.createVariable("name", str, ("time",), chunksizes=(3,), zlib=True)
        names[:] = np.array(["a", "of", "any", "length"], dtype=object)
    with h5py.File(path, "r+") as file:
        raw = np.full((3, 16, 7), 7, "i2").tobytes()
        file["v1"].id.write_direct_chunk((0, 0, 0), raw, filter_mask=1)
    return path


def with_chunk(folder: Path, body: bytes, **options: Any) -> Path:
    path = netcdf(folder, zlib=True, **options)
    with h5py.File(path, "r+") as file:
        file["tas"].id.write_direct_chunk((2, 0, 0), body)
    return path


@case("bad-codec")
def hdf5_deflate_bomb(folder: Path) -> Path:
    squeeze = zlib.compressobj(9)
    zeros = bytes(2**24)
    return with_chunk(folder, b"".join([*(squeeze.compress(zeros) for _ in range(2**6)), squeeze.flush()]))


@case("bad-codec")
def hdf5_chunk_too_long(folder: Path) -> Path:
    return with_chunk(folder, zlib.compress(bytes(5_000)))


@case("bad-codec")
def hdf5_chunk_too_short(folder: Path) -> Path:
    return with_chunk(folder, zlib.compress(bytes(500)))


@case("unreadable")
def hdf5_chunk_of_noise(folder: Path) -> Path:
    return with_chunk(folder, bytes(range(256)))


@case("unreadable")
def hdf5_chunk_cut(folder: Path) -> Path:
    return with_chunk(folder, zlib.compress(np.random.default_rng(0).bytes(1_024))[:-9])


@case("bad-codec")
def hdf5_szip_that_lies(folder: Path) -> Path:
    path = netcdf(folder, compression="szip")
    with h5py.File(path, "r+") as file:
        dataset = file["tas"].id
        _, body = dataset.read_direct_chunk((2, 0, 0))
        dataset.write_direct_chunk((2, 0, 0), struct.pack("<I", 900) + body[4:])
    return path


@case("bad-codec")
def hdf5_plain_chunk_behind_filters_too_long(folder: Path) -> Path:
    path = netcdf(folder, zlib=True)
    with h5py.File(path, "r+") as file:
        file["tas"].id.write_direct_chunk((2, 0, 0), bytes(5_000), filter_mask=0b11)
    return path


@case("bad-codec")
def hdf5_flipped_bit(folder: Path) -> Path:
    path = netcdf(folder, fletcher32=True)
    with h5py.File(path) as file:
        at = file["tas"].id.get_chunk_info(2).byte_offset
    body = bytearray(path.read_bytes())
    body[at + 100] ^= 1
    path.write_bytes(body)
    return path


def store(folder: Path, version: int, body: bytes | None, **options: Any) -> Path:
    path = folder / "source.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    for name, values, units in (
        ("time", np.arange(1.0, 5.0), "days since 2000-01-01"),
        ("lat", np.linspace(10, 20, 16), "degrees_north"),
        ("lon", np.linspace(10, 20, 16), "degrees_east"),
    ):
        names = {"dimension_names": (name,)} if version == 3 else {}
        axis = root.create_array(name, data=values, **names)
        axis.attrs.update({"units": units, "_ARRAY_DIMENSIONS": [name]} if version == 2 else {"units": units})
    names = {"dimension_names": ("time", "lat", "lon")} if version == 3 else {}
    field = root.create_array("tas", shape=(4, 16, 16), chunks=(1, 16, 16), dtype="f4", **names, **options)
    field[:] = np.random.default_rng(0).random((4, 16, 16))
    field.attrs.update({"units": "K"} | ({"_ARRAY_DIMENSIONS": ["time", "lat", "lon"]} if version == 2 else {}))
    if body is not None:
        chunk = path / "tas" / ("2.0.0" if version == 2 else "c/2/0/0")
        assert chunk.exists()
        chunk.write_bytes(body)
    return path


BLOWN = bytes(3 * 2**28)


@case("bad-codec")
def zarr2_zstd_bomb(folder: Path) -> Path:
    return store(folder, 2, numcodecs.Zstd(1).encode(BLOWN), compressors=numcodecs.Zstd(1))


@case("bad-codec")
def zarr3_zstd_bomb(folder: Path) -> Path:
    return store(folder, 3, numcodecs.Zstd(1).encode(BLOWN))


@case("bad-codec")
def zarr2_zlib_bomb(folder: Path) -> Path:
    return store(folder, 2, zlib.compress(BLOWN, 1), compressors=numcodecs.Zlib(1))


@case("bad-codec")
def zarr3_blosc_that_lies(folder: Path) -> Path:
    """A header of two GiB over sixteen bytes."""
    lies = struct.pack("<BBBBIII", 2, 1, 0x21, 4, 2**31 - 17, 2**31 - 17, 32) + bytes(16)
    return store(folder, 3, lies, compressors=zarr.codecs.BloscCodec())


@case("bad-codec")
def zarr2_lz4_that_lies(folder: Path) -> Path:
    return store(folder, 2, struct.pack("<I", 2**31 - 1) + bytes(16), compressors=numcodecs.LZ4())


@case("bad-codec")
def zarr2_gzip_bomb(folder: Path) -> Path:
    return store(folder, 2, gzip.compress(BLOWN, 1), compressors=numcodecs.GZip(1))


@case("bad-codec", "too-big")
def zarr2_zstd_bomb_that_says_nothing(folder: Path) -> Path:
    """Frames without a length: only the limit of memory stops them."""
    block = struct.pack("<I", 2**17 << 3 | 1 << 1)[:3] + b"\0"  # 128 KiB of one byte (RFC 8878, 3.1.1.2)
    last = struct.pack("<I", 2**17 << 3 | 1 << 1 | 1)[:3] + b"\0"
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x38" + block * (8 * 768) + last
    return store(folder, 2, frame, compressors=numcodecs.Zstd(1))


@case("bad-codec")
def zarr3_chunk_too_short(folder: Path) -> Path:
    return store(folder, 3, bytes(100), compressors=None)


@case("bad-codec")
def zarr3_chunk_too_long(folder: Path) -> Path:
    return store(folder, 3, bytes(10_000), compressors=None)


@case("bad-codec")
def zarr3_empty_chunk(folder: Path) -> Path:
    return store(folder, 3, b"")


@case("bad-codec")
def zarr3_noise(folder: Path) -> Path:
    return store(folder, 3, bytes(range(256)))


def with_inner_chunk(folder: Path, more: bytes, entry: tuple[int, int] | None) -> Path:
    """A shard whose third chunk is *more*, or lies where *entry* says."""
    path = store(folder, 3, None, shards=(4, 16, 16))
    shard = path / "tas" / "c" / "0" / "0" / "0"
    body = shard.read_bytes()
    data, index = body[: -4 - 4 * 16], bytearray(body[-4 - 4 * 16 : -4])
    index[32:48] = struct.pack("<QQ", *(entry or (len(data), len(more))))
    checksum = numcodecs.CRC32C().encode(bytes(index))[-4:]
    shard.write_bytes(data + more + bytes(index) + bytes(checksum))
    return path


@case("bad-codec")
def zarr3_shard_that_points_outside(folder: Path) -> Path:
    return with_inner_chunk(folder, b"", (2**62, 2**62))


@case("bad-codec", "too-big")
def zarr3_bomb_in_a_shard(folder: Path) -> Path:
    return with_inner_chunk(folder, bytes(numcodecs.Zstd(1).encode(BLOWN)), None)


@case("bad-codec", "too-big", "bad-text")
def zarr2_text_that_lies(folder: Path) -> Path:
    """A list of two thousand million texts in eight bytes."""
    path = store(folder, 2, None)
    text = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|O", "compressor": None, "fill_value": "", "order": "C"}
    (path / "name").mkdir()
    (path / "name" / ".zarray").write_text(json.dumps(text | {"filters": [{"id": "vlen-utf8"}]}))
    (path / "name" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["time"]}')
    (path / "name" / "0").write_bytes(struct.pack("<II", 2**31 - 1, 2**31 - 1))
    return path
