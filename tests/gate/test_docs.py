"""The page on sources says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cubeport.adapters.sandbox.limits import SETTINGS, SourceLimits
from cubeport.adapters.sources import zarrfolder
from cubeport.errors import SOURCE_REASONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sources.md").read_text()
ROWS = dict(re.findall(r"^\| `([a-z._-]+)` \| ([^|]+?) \|", PAGE, re.MULTILINE))
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
NOT_OF_SOURCES = {"children", "sandbox", "answer_bytes", "kill_after_s", "small_bytes", "bytes_per_s"} | {
    "kept_bytes",
    "kept_source_bytes",
    "kept_units",
    "kept_s",
}


def test_every_reason_is_explained() -> None:
    assert set(ROWS) >= set(SOURCE_REASONS)


@pytest.mark.parametrize("name", sorted({each.name for each in fields(SourceLimits)} - NOT_OF_SOURCES))
def test_every_limit_stands_there_with_its_value(name: str) -> None:
    number, unit = re.fullmatch(r"([\d ]+?) ?([KMG]iB)?", ROWS[SETTINGS.get(name, name)]).groups()
    assert int(number.replace(" ", "")) * UNITS.get(unit, 1) == getattr(SourceLimits(), name)


def test_every_codec_stands_there() -> None:
    (line,) = re.findall(r"^\| Zarr 2 and 3 \|.*codecs ([^;]+);", PAGE, re.MULTILINE)
    assert set(line.replace("sharding", "sharding_indexed").split(", ")) == zarrfolder._CODECS
