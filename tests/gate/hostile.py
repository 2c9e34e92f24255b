"""A generator of hostile and odd sources: each case makes one, and says what the gate has to answer.

Names say which rule of docs/sources.md they break. ``SECRET`` stands for what no upload may bring out of the server.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

SECRET = "planted-secret-4711"


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], Path]
    """Makes the source below the given folder and returns it."""
    reason: str | None
    """Of the refusal; ``None`` for a source that is odd and good."""
    limit: str | None = None
    """The setting or rule that refuses it."""


@dataclass
class Cases:
    found: list[Case] = field(default_factory=list)

    def add(self, reason: str | None, limit: str | None = None) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
        def keep(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
            self.found.append(Case(make.__name__, make, reason, limit))
            return make

        return keep


CASES = Cases()


# --- any ------------------------------------------------------------------------------------------------------------


def content(name: str, body: bytes, reason: str) -> None:
    def make(folder: Path) -> Path:
        path = folder / "source.nc"
        path.write_bytes(body)
        return path

    make.__name__ = name
    CASES.add(reason)(make)


content("nothing", b"", "empty")
content("text", b"time,temperature\n1,2\n", "unreadable")
content("html", b"<!DOCTYPE html><html><body>404</body></html>", "unreadable")
content("html_with_a_mark", b"\xef\xbb\xbf\n <html>", "unreadable")
content("xml", b"<?xml version='1.0'?><error/>", "unreadable")
content("ncml", b"<?xml version='1.0'?>\n<netcdf xmlns='x' location='/etc/passwd'/>", "not-allowed")
content("kerchunk", json.dumps({"version": 1, "refs": {".zgroup": "{}", "a/0": ["/etc/passwd", 0, 99]}}).encode(), "not-allowed")
content("json", b'{"a": 1}', "unreadable")
content("noise", bytes(range(256)) * 8, "unreadable")
content("nulls", bytes(4_096), "unreadable")
content("grib", b"GRIB\0\0\0\1" + bytes(100) + b"7777", "unreadable")
content("grib_in_a_bulletin", b"HTXN50 KWBC 201200\r\r\nGRIB\0\0\0\1" + bytes(100), "unreadable")
content("zip", b"PK\x03\x04" + bytes(100), "not-allowed")
content("gzip_around_netcdf", gzip.compress(b"CDF\x01" + bytes(100)), "not-allowed")
content("tar", bytes(257) + b"ustar\0" + bytes(300), "not-allowed")
content("magic_alone_netcdf3", b"CDF\x01", "truncated")
content("magic_of_no_version", b"CDF\x07" + bytes(64), "unreadable")
content("magic_alone_hdf5", b"\x89HDF\r\n\x1a\n", "unreadable")
content("hdf5_after_a_block_of_nothing", bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(64), "unreadable")


@CASES.add("unsafe")
def a_link(folder: Path) -> Path:
    (folder / "secret").write_text(SECRET)
    (folder / "source.nc").symlink_to("secret")
    return folder / "source.nc"


@CASES.add("unsafe")
def a_link_to_itself(folder: Path) -> Path:
    (folder / "source.nc").symlink_to("source.nc")
    return folder / "source.nc"


@CASES.add("unsafe")
def below_a_link(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "real" / "source.nc").write_text(SECRET)
    (folder / "linked").symlink_to("real")
    return folder / "linked" / "source.nc"


@CASES.add("unsafe")
def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "source.nc")
    return folder / "source.nc"


@CASES.add("unsafe")
def a_socket(folder: Path) -> Path:
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("source.nc")
    finally:
        os.chdir(here)
    return folder / "source.nc"


@CASES.add("unsafe")
def a_device(folder: Path) -> Path:
    return Path("/dev/zero")


# --- HDF5 -----------------------------------------------------------------------------------------------------------


def hdf5(reason: str | None, limit: str | None = None, **options: Any) -> Callable[[Callable[[h5py.File, Path], None]], None]:
    def keep(fill: Callable[[h5py.File, Path], None]) -> None:
        def make(folder: Path) -> Path:
            path = folder / "source.nc"
            with h5py.File(path, "w", **options) as file:
                fill(file, folder)
            return path

        make.__name__ = f"hdf5_{fill.__name__}"
        CASES.add(reason, limit)(make)

    return keep


def secret(folder: Path) -> Path:
    path = folder / "secret"
    path.write_text(SECRET)
    return path


@hdf5("unsafe")
def external_storage(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(19,), dtype="u1", external=[(str(secret(folder)), 0, 19)])


@hdf5("unsafe")
def external_storage_deep(file: h5py.File, folder: Path) -> None:
    file.create_dataset("g/h/a", shape=(19,), dtype="u1", external=[(str(secret(folder)), 0, 19)])


@hdf5("unsafe")
def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["a"] = np.frombuffer(SECRET.encode(), "u1")
    file["a"] = h5py.ExternalLink(str(folder / "other.h5"), "/a")


@hdf5("unsafe")
def external_link_to_nothing(file: h5py.File, folder: Path) -> None:
    file["a"] = h5py.ExternalLink("/nonexistent", "/a")


@hdf5("unsafe")
def external_link_to_itself(file: h5py.File, folder: Path) -> None:
    file["g/a"] = h5py.ExternalLink("source.nc", "/g/a")


@hdf5("unsafe")
def soft_link_through_an_external_one(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["g/a"] = np.frombuffer(SECRET.encode(), "u1")
    file["a"] = h5py.SoftLink("/z/g/a")
    file["z"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


@hdf5("unsafe")
def soft_link_to_itself(file: h5py.File, folder: Path) -> None:
    file["a"] = h5py.SoftLink("/a")


@hdf5("unsafe")
def soft_links_in_a_ring(file: h5py.File, folder: Path) -> None:
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


@hdf5("unsafe")
def soft_link_to_nothing(file: h5py.File, folder: Path) -> None:
    file["a"] = h5py.SoftLink("/none")


@hdf5("unsafe")
def virtual_dataset_without_end(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other.create_dataset("a", data=np.frombuffer(SECRET.encode(), "u1"), maxshape=(None,), chunks=(19,))
    layout = h5py.VirtualLayout(shape=(19,), maxshape=(None,), dtype="u1")
    source = h5py.VirtualSource(str(folder / "other.h5"), "a", shape=(19,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("a", layout)


@hdf5("too-big", "limits.declared_bytes")
def one_array_by_many_names(file: h5py.File, folder: Path) -> None:
    data = file.create_dataset("a", data=np.zeros(2**22, "u1"))
    for n in range(1_000):
        file[f"b{n}"] = h5py.SoftLink("/a") if n % 2 else data
    file.create_dataset("d", shape=(48 * 2**30,), chunks=(2**24,), dtype="u1")


@hdf5(None)
def soft_link_inside(file: h5py.File, folder: Path) -> None:
    file["a"] = np.arange(4)
    file["b"] = h5py.SoftLink("/a")


@hdf5(None)
def hard_links_in_a_ring(file: h5py.File, folder: Path) -> None:
    file["g/a"] = np.arange(4)
    file["g/up"] = file["/"]


@hdf5("unsafe")
def virtual_dataset(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["a"] = np.frombuffer(SECRET.encode(), "u1")
    layout = h5py.VirtualLayout(shape=(19,), dtype="u1")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "a", shape=(19,))
    file.create_virtual_dataset("a", layout)


@hdf5("unsafe")
def virtual_dataset_of_itself(file: h5py.File, folder: Path) -> None:
    file["b"] = np.arange(4)
    layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
    layout[:] = h5py.VirtualSource(".", "b", shape=(4,))
    file.create_virtual_dataset("a", layout)


@hdf5("too-big", "limits.declared_bytes")
def huge_shape(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(10**9, 10**9), chunks=(100, 100), dtype="f8")


@hdf5("too-big", "limits.declared_bytes")
def shape_over_64_bits(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(2**62, 2**62, 2**62), chunks=(1, 1, 1), dtype="f8")


@hdf5("too-big", "limits.declared_bytes")
def many_that_are_huge_together(file: h5py.File, folder: Path) -> None:
    for n in range(60):
        file.create_dataset(f"a{n}", shape=(2**27,), chunks=(2**20,), dtype="f8")


@hdf5("too-big", "limits.expansion")
def bomb_of_unwritten_chunks(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(2**27,), chunks=(2**20,), dtype="f8")


@hdf5("too-big", "limits.expansion")
def bomb_of_zeros(file: h5py.File, folder: Path) -> None:
    data = file.create_dataset("a", shape=(2**28,), chunks=(2**25,), dtype="u1", compression="gzip")
    body = zlib.compress(bytes(2**25), 9)
    twice = zlib.compress(body, 9)
    for n in range(8):
        data.id.write_direct_chunk((n * 2**25,), twice)


@hdf5("too-big", "chunk_bytes")
def huge_chunk(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(2**26,), chunks=(2**26,), maxshape=(None,), dtype="f8")


@hdf5("too-big", "chunks")
def too_many_chunks(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(2_000_000,), chunks=(1,), dtype="u1")


@hdf5("too-big", "objects")
def too_many_objects(file: h5py.File, folder: Path) -> None:
    for n in range(2_001):
        file.create_group(f"g{n}")


@hdf5("too-big", "objects")
def too_many_links_to_one_object(file: h5py.File, folder: Path) -> None:
    file["a"] = np.arange(2)
    for n in range(2_001):
        file[f"b{n}"] = file["a"]


@hdf5("too-big", "depth")
def too_deep(file: h5py.File, folder: Path) -> None:
    file.create_group("/".join("g" * 40))


@hdf5(None)
def huge_items(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", shape=(2,), dtype="S2000")


@hdf5(None, libver="latest")
def huge_attribute(file: h5py.File, folder: Path) -> None:
    file.attrs["history"] = "x" * 70_000


@hdf5(None, libver="latest")
def huge_attribute_of_variable_length(file: h5py.File, folder: Path) -> None:
    file.attrs.create("history", "x" * 70_000, dtype=h5py.string_dtype())


@hdf5("too-big", "text_bytes", libver="latest")
def attributes_huge_together(file: h5py.File, folder: Path) -> None:
    for n in range(80):
        file.attrs[f"a{n}"] = "x" * 60_000


@hdf5("too-big", "objects", libver="latest")
def too_many_attributes(file: h5py.File, folder: Path) -> None:
    for n in range(2_001):
        file.attrs[f"a{n}"] = n


@hdf5(None)
def attribute_not_utf8(file: h5py.File, folder: Path) -> None:
    file.attrs["units"] = np.bytes_(b"\xb0C")


@hdf5(None)
def attribute_with_controls(file: h5py.File, folder: Path) -> None:
    file.attrs["title"] = np.bytes_(b"a\x1b[2Jb")


@hdf5(None)
def attribute_of_variable_length_with_controls(file: h5py.File, folder: Path) -> None:
    file.attrs["title"] = ["good", "bad\x07"]


@hdf5("bad-text")
def name_with_controls(file: h5py.File, folder: Path) -> None:
    file["a\x01b"] = np.arange(3)


@hdf5("bad-text")
def name_not_utf8(file: h5py.File, folder: Path) -> None:
    file[b"a\xff"] = np.arange(3)


@hdf5("bad-codec")
def filter_not_on_the_list(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", data=np.arange(100), chunks=(10,), compression="lzf")


@hdf5("bad-codec")
def filter_scale_and_offset(file: h5py.File, folder: Path) -> None:
    file.create_dataset("a", data=np.arange(100), chunks=(10,), scaleoffset=0)


@hdf5("bad-codec")
def filter_twice(file: h5py.File, folder: Path) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((10,))
    plist.set_deflate(9)
    plist.set_deflate(9)
    h5d.create(file.id, b"a", h5t.NATIVE_INT8, h5s.create_simple((100,)), dcpl=plist)


@hdf5("bad-codec")
def chunk_shorter_than_declared(file: h5py.File, folder: Path) -> None:
    data = file.create_dataset("a", shape=(1_000,), chunks=(1_000,), dtype="u1")
    data.id.write_direct_chunk((0,), bytes(10))


def _patched(name: str, old: bytes, new: bytes, reason: str) -> None:
    """A file with a filter's number changed in place: what its writer could not make."""

    def make(folder: Path) -> Path:
        path = folder / "source.nc"
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=np.arange(100), chunks=(10,), compression="lzf")
        body = path.read_bytes()
        assert body.count(old) == 1
        path.write_bytes(body.replace(old, new))
        return path

    make.__name__ = name
    CASES.add(reason)(make)


_LZF = struct.pack("<HHHH", 32_000, 8, 1, 3)
_patched("hdf5_filter_unknown_to_all", _LZF, struct.pack("<HHHH", 60_000, 8, 1, 3), "bad-codec")
_patched("hdf5_filter_not_installed", _LZF, struct.pack("<HHHH", 32_015, 8, 1, 3), "bad-codec")


@hdf5(None)
def references_beside_good_data(file: h5py.File, folder: Path) -> None:
    file["a"] = np.arange(4.0)
    file.create_dataset("r", shape=(2,), dtype=h5py.ref_dtype)
    file.create_dataset("v", shape=(2,), dtype=h5py.vlen_dtype("i4"))
    file.create_dataset("c", shape=(2,), dtype=[("x", "i4"), ("y", "f8")])
    file.create_dataset("s", data=["text", "of any length"], dtype=h5py.string_dtype())


@hdf5(None)
def links_and_types_of_all_kinds(file: h5py.File, folder: Path) -> None:
    file["g/a"] = np.arange(4)
    file["h"] = h5py.SoftLink("/g")
    file["t"] = np.dtype("f4")
    file["nothing"] = h5py.Empty("f4")
    file.attrs["nothing"] = h5py.Empty("S9")
    file["g/a"].attrs["NAME"] = 7
    file.create_dataset("b", data=[1.0]).attrs["NAME"] = "of any length"


@hdf5(None)
def dimension_without_a_variable(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(2**40,), chunks=(2**20,), dtype=">f4").make_scale(
        "This is a netCDF dimension but not a netCDF variable.       1099511627776"
    )


@hdf5(None)
def chunked_text(file: h5py.File, folder: Path) -> None:
    words = np.array(["a", "of any length"] * 8, dtype=object)
    for name, options in (("plain", {}), ("packed", {"compression": "gzip", "shuffle": True})):
        file.create_dataset(name, data=words, dtype=h5py.string_dtype(), chunks=(5,), **options)


@hdf5(None)
def fixed_text(file: h5py.File, folder: Path) -> None:
    file["s"] = np.array([b"a", b"bc"])
    file.attrs["s"] = np.array([b"a\0\0", b"bc"], "S9")


def hdf5_cut(fraction: float) -> None:
    def make(folder: Path) -> Path:
        path = folder / "source.nc"
        with h5py.File(path, "w") as file:
            file["a"] = np.random.default_rng(0).random(10_000)
        os.truncate(path, int(path.stat().st_size * fraction))
        return path

    make.__name__ = f"hdf5_cut_at_{int(fraction * 100)}_percent"
    CASES.add("truncated")(make)


for each in (0.1, 0.5, 0.99):
    hdf5_cut(each)


# --- NetCDF-3 -------------------------------------------------------------------------------------------------------


class Classic:
    """A writer of classic headers that does as it is reported, also what is wrong."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.body = b"CDF" + bytes([version])

    def count(self, value: int) -> Classic:
        self.body += value.to_bytes(8 if self.version == 5 else 4)
        return self

    def offset(self, value: int) -> Classic:
        self.body += value.to_bytes(4 if self.version == 1 else 8)
        return self

    def tag(self, value: int) -> Classic:
        self.body += value.to_bytes(4)
        return self

    def text(self, value: bytes) -> Classic:
        self.count(len(value))
        self.body += value + bytes(-len(value) % 4)
        return self

    def dimensions(self, *lengths: int, names: tuple[bytes, ...] = ()) -> Classic:
        if not lengths:
            return self.tag(0).count(0)
        self.tag(10).count(len(lengths))
        for n, length in enumerate(lengths):
            self.text(names[n] if names else b"d%d" % n).count(length)
        return self

    def attributes(self, *pairs: tuple[bytes, int, bytes, int]) -> Classic:
        if not pairs:
            return self.tag(0).count(0)
        self.tag(12).count(len(pairs))
        for name, kind, value, length in pairs:
            self.text(name).tag(kind).count(length)
            self.body += value + bytes(-len(value) % 4)
        return self

    def variables(self, count: int) -> Classic:
        return self.tag(11).count(count)

    def variable(self, name: bytes, numbers: tuple[int, ...], kind: int = 5, begin: int = 200) -> Classic:
        self.text(name).count(len(numbers))
        for each in numbers:
            self.count(each)
        self.attributes()
        return self.tag(kind).count(0).offset(begin)


def classic(name: str, body: Classic, reason: str | None, limit: str | None = None, size: int = 1_000) -> None:
    def make(folder: Path) -> Path:
        path = folder / "source.nc"
        path.write_bytes(body.body.ljust(size, b"\0"))
        return path

    make.__name__ = f"classic_{name}"
    CASES.add(reason, limit)(make)


def good(version: int = 1, records: int = 0) -> Classic:
    return Classic(version).count(records)


_LONG = 2**31 - 1
classic("good", good().dimensions(10, 20).attributes().variables(1).variable(b"a", (0, 1)), None)
classic("good_64_bit_offsets", good(2).dimensions(10, 20).attributes().variables(1).variable(b"a", (0, 1)), None)
classic("good_64_bit_counts", good(5).dimensions(10, 9).attributes().variables(1).variable(b"a", (0, 1), 10, 280), None)
classic("good_records", good(1, 5).dimensions(0, 20).attributes().variables(1).variable(b"a", (0, 1)), None)
classic("good_streamed", good(1, 2**32 - 1).dimensions(0, 20).attributes().variables(1).variable(b"a", (0, 1)), None)
classic("good_streamed_without_records", good(1, 2**32 - 1).dimensions(9).attributes().variables(1).variable(b"a", (0,)), None)
classic("good_no_records_yet", good(1, 0).dimensions(0).attributes().variables(1).variable(b"a", (0,), 5, 1_000), None)
classic("good_attributes", good().dimensions().attributes((b"a", 6, bytes(16), 2), (b"b", 2, b"words\n", 6)), None)
classic("good_and_empty", good().dimensions().attributes().tag(0).count(0), None)
classic("values_beyond_the_end", good().dimensions(10, 21).attributes().variables(1).variable(b"a", (0, 1)), "truncated")
classic("records_beyond_the_end", good(1, 11).dimensions(0, 20).attributes().variables(1).variable(b"a", (0, 1)), "truncated")
classic("begin_beyond_the_end", good().dimensions(1).attributes().variables(1).variable(b"a", (0,), 5, 999), "truncated")
classic(
    "product_over_64_bits", good().dimensions(*[_LONG] * 5).attributes().variables(1).variable(b"a", (0, 1, 2, 3, 4)), "truncated"
)
classic("most_records", good(1, 2**32 - 2).dimensions(0).attributes().variables(1).variable(b"a", (0,)), "truncated")
classic("begin_in_the_header", good().dimensions(10).attributes().variables(1).variable(b"a", (0,), 5, 8), "unreadable")
classic("two_record_dimensions", good().dimensions(0, 0).attributes().variables(0), "unreadable")
classic("record_dimension_not_first", good().dimensions(0, 3).attributes().variables(1).variable(b"a", (1, 0)), "unreadable")
classic("dimension_out_of_range", good().dimensions(3).attributes().variables(1).variable(b"a", (1,)), "unreadable")
classic("dimension_minus_one", good().dimensions(3).attributes().variables(1).variable(b"a", (2**32 - 1,)), "unreadable")
classic("unknown_type", good().dimensions(3).attributes().variables(1).variable(b"a", (0,), 13), "unreadable")
classic("type_of_a_later_version", good(2).dimensions(3).attributes().variables(1).variable(b"a", (0,), 11), "unreadable")
classic("type_zero", good().dimensions(3).attributes().variables(1).variable(b"a", (0,), 0), "unreadable")
classic("wrong_tag", good().tag(11).count(1), "unreadable")
classic("absent_with_a_count", good().tag(0).count(7), "unreadable")
classic("doubled_variable", good().dimensions(3).attributes().variables(2).variable(b"a", (0,)).variable(b"a", (0,)), "unreadable")
classic("doubled_dimension", good().dimensions(3, 3, names=(b"x", b"x")).attributes(), "unreadable")
classic("doubled_attribute", good().dimensions().attributes((b"a", 2, b"x", 1), (b"a", 2, b"y", 1)), "unreadable")
classic("nameless", good().dimensions(3, names=(b"",)), "unreadable")
classic("name_too_long", good().dimensions(3, names=(b"x" * 300,)), "unreadable")
classic("name_not_utf8", good().dimensions(3, names=(b"\xff\xfe",)), "bad-text")
classic("attribute_not_utf8", good().dimensions().attributes((b"units", 2, b"\xb0C", 2)), None)
classic("attribute_with_controls", good().dimensions().attributes((b"title", 2, b"a\x1b[2J", 5)), None)
classic("attribute_too_long", good().dimensions().attributes((b"a", 2, b"", 70_000)), "truncated")
classic("attribute_count_overflows", good(5).dimensions().attributes((b"a", 6, b"", 2**61)), "too-big", "text_bytes")
classic("attributes_without_end", good().dimensions().tag(12).count(2**31), "too-big", "objects")
classic("dimensions_without_end", good().tag(10).count(2**32 - 1), "too-big", "objects")
classic("variables_without_end", good(5).dimensions().attributes().tag(11).count(2**64 - 1), "too-big", "objects")
classic(
    "rank_without_end",
    good().dimensions(3).attributes().variables(1).text(b"a").count(2**32 - 1),
    "too-big",
    "dimensions",
)
classic("rank_65", good().dimensions(1).attributes().variables(1).variable(b"a", (0,) * 65), "too-big", "dimensions")
classic("cut_in_the_header", good().dimensions(3), "truncated", size=0)


def classic_cut(length: int) -> None:
    def make(folder: Path) -> Path:
        path = folder / "source.nc"
        body = good(2, 3).dimensions(0, 4).attributes((b"title", 2, b"words", 5)).variables(2)
        body = body.variable(b"a", (0, 1), 6, 200).variable(b"b", (0,), 3, 232).body
        path.write_bytes(body.ljust(200, b"\0")[:length] if length < 200 else body.ljust(length, b"\0"))
        return path

    make.__name__ = f"classic_cut_at_{length}"
    CASES.add("truncated")(make)


for each in (5, 8, 31, 60, 99, 150, 199, 200, 232, 290, 305):  # 200 + 2 × 36 + 34 = 306 are all
    classic_cut(each)


# --- Zarr -----------------------------------------------------------------------------------------------------------

ARRAY_2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4, 4],
    "chunks": [2, 4],
    "dtype": "<f8",
    "compressor": {"id": "zstd", "level": 1},
    "fill_value": None,
    "order": "C",
    "filters": None,
}
ARRAY_3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 4],
    "data_type": "float64",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd", "configuration": {"level": 1}}],
    "attributes": {},
}
GROUP_3: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def put(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def store_2(folder: Path, **members: Any) -> Path:
    put(folder / "source.zarr" / ".zgroup", {"zarr_format": 2})
    document = ARRAY_2 | {key: value for key, value in members.items() if value is not ...}
    put(folder / "source.zarr" / "a" / ".zarray", {key: value for key, value in document.items() if members.get(key) is not ...})
    return folder / "source.zarr"


def store_3(folder: Path, **members: Any) -> Path:
    put(folder / "source.zarr" / "zarr.json", GROUP_3)
    document = ARRAY_3 | members
    put(folder / "source.zarr" / "a" / "zarr.json", {key: value for key, value in document.items() if value is not ...})
    return folder / "source.zarr"


def zarr2(name: str, reason: str | None, limit: str | None = None, **members: Any) -> None:
    def make(folder: Path) -> Path:
        return store_2(folder, **members)

    make.__name__ = f"zarr2_{name}"
    CASES.add(reason, limit)(make)


def zarr3(name: str, reason: str | None, limit: str | None = None, **members: Any) -> None:
    def make(folder: Path) -> Path:
        return store_3(folder, **members)

    make.__name__ = f"zarr3_{name}"
    CASES.add(reason, limit)(make)


def grid(*lengths: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(lengths)}}


def sharding(*lengths: int, codecs: Any = None, index: Any = None) -> list[dict[str, Any]]:
    inner = ARRAY_3["codecs"] if codecs is None else codecs
    ends = [{"name": "bytes"}, {"name": "crc32c"}] if index is None else index
    configuration = {"chunk_shape": list(lengths), "codecs": inner, "index_codecs": ends, "index_location": "end"}
    return [{"name": "sharding_indexed", "configuration": configuration}]


def nested(depth: int) -> Any:
    return sharding(2, 4, codecs=nested(depth - 1)) if depth else ARRAY_3["codecs"]


zarr2("good", None)
zarr2("good_text", None, dtype="|O", filters=[{"id": "vlen-utf8"}])
zarr2("good_filters", None, filters=[{"id": "delta", "dtype": "<f8"}, {"id": "shuffle", "elementsize": 8}], compressor=None)
zarr2("good_text_of_one_length", None, dtype="<U9")
zarr2("good_bytes_of_one_length", None, dtype="|S9", chunks=[4, 4], dimension_separator="/")
zarr2("good_times", None, dtype="<M8[ns]")
zarr2("pickle", "unsafe", dtype="|O", filters=[{"id": "pickle"}])
zarr2("pickle_behind_vlen_utf8", "unsafe", dtype="|O", filters=[{"id": "vlen-utf8"}, {"id": "pickle"}])
zarr2("pickle_as_compressor", "unsafe", compressor={"id": "pickle", "protocol": 5})
zarr2("objects_as_json", "unsafe", dtype="|O", filters=[{"id": "json2"}])
zarr2("objects", "unsafe", dtype="|O")
zarr2("objects_after_a_filter", "unsafe", dtype="|O", filters=[{"id": "shuffle"}, {"id": "vlen-utf8"}])
zarr2("filter_into_objects", "unsafe", filters=[{"id": "delta", "dtype": "|O"}])
zarr2(
    "filter_into_odd_types",
    "unsafe",
    filters=[{"id": "fixedscaleoffset", "dtype": "<f8", "astype": ["x"], "scale": 1, "offset": 0}],
)
zarr2("unknown_codec", "bad-codec", compressor={"id": "lzma"})
zarr2("codec_without_a_name", "bad-codec", compressor={"level": 1})
zarr2("codec_that_is_text", "bad-codec", compressor="lzma")
zarr2("structured", "bad-codec", dtype=[["x", "<f8"], ["y", "<f8"]])
zarr2("filters_that_are_text", "unreadable", filters="zlib")
zarr2("too_many_filters", "too-big", "filters", filters=[{"id": "shuffle"}] * 20)
zarr2("huge_shape", "too-big", "limits.declared_bytes", shape=[10**9, 10**9], chunks=[10**6, 10])
zarr2("shape_over_64_bits", "unreadable", shape=[2**64, 4])
zarr2("shape_negative", "unreadable", shape=[-4, 4])
zarr2("shape_of_fractions", "unreadable", shape=[4.5, 4])
zarr2("shape_of_truths", "unreadable", shape=[True, 4])
zarr2("shape_null", "unreadable", shape=None)
zarr2("chunk_zero", "unreadable", chunks=[0, 4])
zarr2("chunks_of_another_rank", "unreadable", chunks=[4])
zarr2("huge_chunk", "too-big", "chunk_bytes", shape=[10**4, 10**4], chunks=[10**5, 10**5])
zarr2("too_many_chunks", "too-big", "chunks", shape=[2_000, 2_000], chunks=[1, 1], dtype="|u1")
zarr2("too_many_dimensions", "too-big", "dimensions", shape=[1] * 65, chunks=[1] * 65)
zarr2("empty_but_huge", "too-big", "limits.expansion", shape=[2**20, 2**8], chunks=[2**16, 2**8])
zarr2("huge_items", "too-big", "item_bytes", dtype="<U2000")
zarr2("unknown_order", "unreadable", order="K")
zarr2("separator_that_escapes", "unreadable", dimension_separator="/../")
zarr2("unknown_member", "unreadable", object_codec={"id": "pickle"})
zarr2("missing_member", "unreadable", order=...)
zarr3("good", None)
zarr3("good_text_of_one_length", None, data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 16}})
zarr3("good_shards", None, chunk_grid=grid(4, 4), codecs=sharding(2, 4))
zarr3("good_text", None, data_type="string", codecs=[{"name": "vlen-utf8"}])
zarr3("good_time", None, data_type={"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}})
zarr3("good_short_forms", None, chunk_key_encoding="v2", codecs=["bytes"], data_type={"name": "float64"})
zarr3("good_with_an_extension", None, remark={"must_understand": False, "text": "x"})
zarr3("pickle", "unsafe", codecs=[{"name": "numcodecs.pickle"}])
zarr3("pickle_in_a_shard", "unsafe", chunk_grid=grid(4, 4), codecs=sharding(2, 4, codecs=[{"name": "pickle"}]))
zarr3("pickle_in_an_index", "unsafe", chunk_grid=grid(4, 4), codecs=sharding(2, 4, index=[{"name": "numcodecs.pickle"}]))
zarr3("text_without_its_codec", "unsafe", data_type="string")
zarr3("text_by_name_without_its_codec", "unsafe", data_type={"name": "string"})
zarr3("unknown_codec", "bad-codec", codecs=[{"name": "bytes"}, {"name": "bz2"}])
zarr3("codec_with_unknown_members", "bad-codec", codecs=[{"name": "bytes", "path": "/etc/passwd"}])
zarr3("codecs_that_are_text", "unreadable", codecs="bytes")
zarr3("unknown_type", "bad-codec", data_type="variable_length_bytes")
zarr3("type_that_is_a_list", "bad-codec", data_type=["float64"])
zarr3("huge_items", "too-big", "item_bytes", data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}})
zarr3("transformed_storage", "bad-codec", storage_transformers=[{"name": "reference"}])
zarr3("odd_grid", "unreadable", chunk_grid={"name": "rectilinear", "configuration": {"chunk_shapes": [[1]]}})
zarr3("grid_zero", "unreadable", chunk_grid=grid(0, 4))
zarr3("grid_of_another_rank", "unreadable", chunk_grid=grid(4))
zarr3("odd_keys", "unreadable", chunk_key_encoding={"name": "reference", "configuration": {"root": "/etc"}})
zarr3("unknown_member", "unreadable", external={"path": "/etc/passwd"})
zarr3("missing_member", "unreadable", fill_value=...)
zarr3("of_no_kind", "unreadable", node_type="link")
zarr3("of_another_version", "unreadable", zarr_format=4)
zarr3("attributes_that_are_a_list", "unreadable", attributes=[1])
zarr3("attribute_too_long", None, attributes={"history": "x" * 70_000})
zarr3("attribute_with_controls", None, attributes={"title": "a\x1b[2J"})
zarr3("attribute_with_a_lone_surrogate", None, attributes={"title": "\ud800"})
zarr3("attribute_name_with_controls", "bad-text", attributes={"a\x07": 1})
zarr3("shards_that_do_not_fit", "unreadable", chunk_grid=grid(4, 4), codecs=sharding(3, 4))
zarr3("shards_of_another_rank", "unreadable", chunk_grid=grid(4, 4), codecs=sharding(2))
zarr3("shard_without_codecs", "unreadable", codecs=[{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 4]}}])
zarr3(
    "shard_of_millions",
    "too-big",
    "chunks",
    shape=[2**11, 2**11],
    data_type="uint8",
    chunk_grid=grid(2**11, 2**11),
    codecs=sharding(1, 1),
)
zarr3("shards_in_shards", "too-big", "filters", codecs=nested(7))
zarr3("huge_chunk", "too-big", "chunk_bytes", shape=[2**13, 2**13], chunk_grid=grid(2**13, 2**13))
zarr3("huge_shape", "too-big", "limits.declared_bytes", shape=[2**62, 2**62], chunk_grid=grid(2**61, 2**61))


def text_of(name: str, document: str, reason: str, limit: str | None = None, key: str = "a/zarr.json") -> None:
    def make(folder: Path) -> Path:
        path = store_3(folder)
        put(path / key, document)
        return path

    make.__name__ = f"zarr_json_{name}"
    CASES.add(reason, limit)(make)


text_of("doubled_key", json.dumps(ARRAY_3)[:-1] + ', "shape": [9, 9]}', "unreadable")
text_of("nan", json.dumps(ARRAY_3 | {"fill_value": float("nan")}), None)  # as zarr writes it
text_of("not_json", "{", "unreadable")
text_of("a_list", "[]", "unreadable")
text_of("a_number_without_end", '{"a": ' + "9" * 5_000 + "}", "unreadable")
text_of("deep", '{"a": ' + "[" * 40 + "]" * 40 + "}", "too-big", "json_depth")
text_of("very_deep", "[" * 200_000, "too-big", "json_depth")
text_of("huge", json.dumps(GROUP_3 | {"attributes": {"a": "x" * 5_000_000}}), "too-big", "json_bytes", "zarr.json")


@CASES.add("unreadable")
def zarr_json_not_utf8(folder: Path) -> Path:
    path = store_3(folder)
    (path / "a" / "zarr.json").write_bytes(json.dumps(ARRAY_3).encode("utf-16"))
    return path


@CASES.add("empty")
def zarr_empty_folder(folder: Path) -> Path:
    (folder / "source.zarr").mkdir()
    return folder / "source.zarr"


@CASES.add("unreadable")
def zarr_folder_of_other_things(folder: Path) -> Path:
    put(folder / "source.zarr" / "readme.txt", "hello")
    return folder / "source.zarr"


@CASES.add("not-a-cube")
def zarr2_root_is_an_array(folder: Path) -> Path:
    put(folder / "source.zarr" / ".zarray", ARRAY_2)
    return folder / "source.zarr"


@CASES.add("not-a-cube")
def zarr3_root_is_an_array(folder: Path) -> Path:
    put(folder / "source.zarr" / "zarr.json", ARRAY_3)
    return folder / "source.zarr"


@CASES.add("too-big", "depth")
def zarr_folders_without_end(folder: Path) -> Path:
    path = store_3(folder)
    inner = path
    for _ in range(120):
        inner /= "d"
    inner.mkdir(parents=True)
    return path


@CASES.add(None)
def zarr_of_many_folders(folder: Path) -> Path:
    """More folders than a child may have descriptors."""
    path = store_3(folder, shape=[600, 4])
    for n in range(300):
        (path / "a" / "c" / str(n)).mkdir(parents=True)
        (path / "a" / "c" / str(n) / "0").write_bytes(b"x")
    return path


@CASES.add("unreadable")
def zarr_of_both_versions(folder: Path) -> Path:
    store_2(folder)
    return store_3(folder)


@CASES.add("unreadable")
def zarr2_odd_group(folder: Path) -> Path:
    path = store_2(folder)
    put(path / ".zgroup", {"zarr_format": 2, "path": "/etc"})
    return path


@CASES.add(None)
def zarr2_attributes_with_nan(folder: Path) -> Path:
    path = store_2(folder)
    put(path / "a" / ".zattrs", '{"valid_min": NaN}')
    return path


def special(name: str, make_special: Callable[[Path, Path], None]) -> None:
    """A link or device at the place of a chunk, of metadata, and of a folder."""
    for place in ("a/c/0/0", "a/zarr.json", "b", "a/c", "unnamed"):

        def make(folder: Path, place: str = place) -> Path:
            path = store_3(folder)
            target = path / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            make_special(target, folder)
            return path

        make.__name__ = f"zarr_{name}_at_{place.replace('/', '_')}"
        CASES.add("unsafe")(make)


special_kinds: dict[str, Callable[[Path, Path], None]] = {
    "link_to_a_secret": lambda target, folder: target.symlink_to(secret(folder)),
    "link_to_nothing": lambda target, folder: target.symlink_to("../../../none"),
    "link_to_a_folder": lambda target, folder: target.symlink_to(folder, target_is_directory=True),
    "fifo": lambda target, folder: os.mkfifo(target),
}
for _name, _make in special_kinds.items():
    special(_name, _make)
