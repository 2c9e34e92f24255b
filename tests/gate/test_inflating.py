"""A stored chunk is judged as zlib judges it, whatever is wrong with it."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest

from cubeport.adapters.sources.hdf5walk import _DEFLATE, _verdict

VALUES = bytes(range(256)) * 40
STORED = zlib.compress(VALUES, 5)


def by_zlib(body: bytes, declared: int) -> str:
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(body, declared + 1)
    except zlib.error:
        return "damaged"
    if not inflater.eof:
        return "lies" if len(found) > declared else "damaged"
    return "whole" if len(found) == declared else "lies"


def flips() -> list[bytes]:
    chance = random.Random(7)
    flipped = []
    for _ in range(500):
        body = bytearray(STORED)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        flipped.append(bytes(body))
    return flipped


@pytest.mark.parametrize(
    ("bodies", "declared", "verdicts"),
    [
        ([STORED, STORED + b"behind"], len(VALUES), {"whole"}),
        ([STORED], len(VALUES) - 1, {"lies"}),
        ([STORED], len(VALUES) + 1, {"lies"}),
        ([STORED[:-1], STORED[:-5], STORED[: len(STORED) // 2], b""], len(VALUES), {"damaged"}),
        (flips(), len(VALUES), {"damaged"}),
    ],
    ids=["whole", "too long", "too short", "cut", "flipped"],
)
def test_a_chunk_is_judged_as_by_zlib(tmp_path: Path, bodies: list[bytes], declared: int, verdicts: set[str]) -> None:
    found = []
    for body in bodies:
        path = tmp_path / "chunk"
        path.write_bytes(body)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            found.append(_verdict(descriptor, (_DEFLATE,), declared, (0, len(body), 0)))
        finally:
            os.close(descriptor)
    assert found == [by_zlib(body, declared) for body in bodies]
    assert verdicts <= set(found)
