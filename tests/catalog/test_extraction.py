from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.extract.files import DirectoryExtractor, FileExtractor, media_type_of
from cubeport.catalog.events import EventLog
from cubeport.catalog.extraction import MARK, Extracted, Extraction, ExtractionLimits, Extractors, cut_to
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import CatalogRecord, TimeSpan
from cubeport.errors import ExtraMissing, InvalidRequest, NamespaceTaken, SourceRejected

AT = datetime(2026, 11, 20, tzinfo=UTC)
SPAN = TimeSpan.from_mapping({"start": "2020-01-01T00:00:00Z", "end": None})


class Fake:
    version = "3"

    def __init__(self, name: str, found: Extracted | Exception, *, accepted: bool = True) -> None:
        self.name = name
        self.found = found
        self.accepted = accepted

    def accepts(self, source: Path) -> bool:
        return self.accepted

    def extract(self, source: Path, limits: ExtractionLimits) -> Extracted:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def extractors(tmp_path: Path) -> Extractors:
    return Extractors(EventLog(tmp_path / "logs"), clock=lambda: AT)


class TestExtractors:
    def test_each_block_lies_under_its_name_and_says_who_made_it(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("one", Extracted({"a": 1})))
        extractors.register(Fake("two", Extracted({"b": [AT]}, SPAN, (0.0, 1.0, 2.0, 3.0))))
        extractors.register(Fake("three", Extracted({}), accepted=False))
        found = extractors.extract(tmp_path)
        mark = {"version": "3", "at": "2026-11-20T00:00:00.000000Z", "truncated": False}
        assert found.blocks == {
            "one": {"a": 1, MARK: mark | {"name": "one"}},
            "two": {"b": ["2026-11-20T00:00:00.000000Z"], MARK: mark | {"name": "two"}},
        }
        applied = found.apply(CatalogRecord(metadata={"mine": 1}))
        assert set(applied.metadata) == {"mine", "one", "two"}
        assert (applied.time, applied.bbox) == (SPAN, (0, 1, 2, 3))

    def test_what_the_caller_said_stays(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("one", Extracted({}, SPAN, (0.0, 1.0, 2.0, 3.0))))
        found = extractors.extract(tmp_path)
        own = CatalogRecord(bbox=(5, 5, 6, 6), time=TimeSpan(end=AT))
        assert (found.apply(own).bbox, found.apply(own).time) == (own.bbox, own.time)
        with pytest.raises(NamespaceTaken, match=r"metadata\.one"):
            found.apply(CatalogRecord(metadata={"one": {"a": 1}}))
        again = found.apply(found.apply(CatalogRecord()))
        assert again.metadata["one"][MARK]["name"] == "one"

    def test_a_failure_is_told_costs_one_block_and_can_be_required(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("absent", ExtraMissing("xarray is not installed", next_step="pip install 'cubeport[netcdf]'")))
        extractors.register(Fake("bug", ZeroDivisionError("no")))
        extractors.register(Fake("good", Extracted({"a": 1})))
        found = extractors.extract(tmp_path, record_id="12" * 16)
        assert list(found.blocks) == ["good"]
        assert found.warnings == (
            "extractor absent failed: extra-missing: xarray is not installed",
            "extractor bug failed: invalid-request: ZeroDivisionError: no",
        )
        with pytest.raises(ExtraMissing):
            found.required()
        assert extractors.events is not None
        events = extractors.events.read(event="extract.failed").items
        assert [(e["exception_type"], e["record_id"]) for e in events] == [
            ("ExtraMissing", "12" * 16),
            ("ZeroDivisionError", "12" * 16),
        ]

    def test_a_library_that_is_absent_is_named(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("bib", ModuleNotFoundError("No module named 'pybtex'", name="pybtex")))
        failure = extractors.extract(tmp_path).failures["bib"]
        assert (failure.kind, failure.message, failure.next_step) == (
            "extra-missing", "pybtex is not installed", "pip install pybtex",
        )  # fmt: skip

    def test_only_the_named_run_and_must_read_it(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("one", Extracted({})))
        extractors.register(Fake("picky", Extracted({}), accepted=False))
        assert list(extractors.extract(tmp_path, only=["one"]).blocks) == ["one"]
        assert extractors.extract(tmp_path, only=["picky"]).failures["picky"].kind == "unsupported-media-type"
        with pytest.raises(InvalidRequest, match="there are one, picky"):
            extractors.extract(tmp_path, only=["none"])

    def test_a_name_has_one_owner(self, extractors: Extractors) -> None:
        extractors.register(FileExtractor())
        extractors.register(FileExtractor())
        with pytest.raises(NamespaceTaken):
            extractors.register(Fake("file", Extracted({})))
        with pytest.raises(InvalidRequest):
            extractors.register(Fake("Not A Name", Extracted({})))

    def test_a_gate_that_refuses_is_a_failure_with_its_reason(self, extractors: Extractors, tmp_path: Path) -> None:
        extractors.register(Fake("netcdf", SourceRejected("external links", reason="unsafe")))
        assert extractors.extract(tmp_path).failures["netcdf"].kind == "source-rejected"


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=8),
    max_leaves=60,
)


def leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(leaves(v) for v in value.values())
    return sum(leaves(v) for v in value) if isinstance(value, list) else 1


@given(st.dictionaries(st.text(min_size=1, max_size=8), documents), st.integers(1, 30), st.integers(10, 400))
def test_a_cut_block_keeps_the_limits_and_says_whether_it_was_cut(block: dict[str, Any], most: int, size: int) -> None:
    kept, cut = cut_to(block, ExtractionLimits(size, most))
    assert leaves(kept) <= most
    assert len(dumps(kept).encode()) <= size + 2  # the outermost brackets
    assert cut == (kept != block)
    assert list(kept) == list(block)[: len(kept)]


class TestFile:
    @pytest.mark.parametrize(
        ("data", "encoding"),
        [
            (b"plain\n", "ascii"),
            ("größe".encode(), "utf-8"),
            ("größe".encode("latin-1"), "latin-1"),
            ("größe".encode("utf-16"), "utf-16"),
            (b"CDF\x01\0\0", None),
            (b"", None),
            (bytes(range(1, 32)) * 10 + b"\xff", None),
            (("ä" * 40_000).encode()[:-1], "utf-8"),
        ],
    )
    def test_the_encoding_is_guessed(self, tmp_path: Path, data: bytes, encoding: str | None) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(data)
        os.utime(path, (0, 86_400))
        block = FileExtractor().extract(path, ExtractionLimits()).block
        assert block == {
            "suffix": ".txt",
            "media_type": "text/plain",
            "size_bytes": len(data),
            "modified_at": "1970-01-02T00:00:00.000000Z",
            "encoding": encoding,
        }

    @pytest.mark.parametrize(
        ("name", "media_type"),
        [("a.nc", "application/netcdf"), ("a.PDF", "application/pdf"), ("a.csv", "text/csv"), ("a", None), ("a.unheard-of", None)],
    )
    def test_media_types_come_from_the_name(self, name: str, media_type: str | None) -> None:
        assert media_type_of(name) == media_type

    def test_a_double_suffix_stays_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a.b.tar.gz"
        path.write_bytes(b"x")
        assert FileExtractor().extract(path, ExtractionLimits()).block["suffix"] == ".tar.gz"


class TestDirectory:
    def test_it_counts_and_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "x.NC").write_bytes(b"123")
        (tmp_path / "a" / "y.nc").write_bytes(b"4")
        (tmp_path / "z").write_bytes(b"")
        (tmp_path / "link").symlink_to(tmp_path / "a" / "y.nc")
        block = DirectoryExtractor().extract(tmp_path, ExtractionLimits()).block
        assert block == {
            "files": 3,
            "directories": 2,
            "others": 1,
            "size_bytes": 4,
            "depth": 3,
            "suffixes": {".nc": 2, "(none)": 1},
            "names": ["z", "a/y.nc", "a/b/x.NC"],
        }

    def test_only_the_first_hundred_names_are_kept(self, tmp_path: Path) -> None:
        for i in range(101):
            (tmp_path / f"{i:03}").write_bytes(b"")
        found = DirectoryExtractor().extract(tmp_path, ExtractionLimits())
        assert found.truncated
        assert found.block["names"] == [f"{i:03}" for i in range(100)]
        assert found.block["files"] == 101


def test_nothing_found_changes_nothing() -> None:
    record = CatalogRecord()
    assert Extraction().apply(record) is record
