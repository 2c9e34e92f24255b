"""What a child says is hostile: it is read as strict frames within their size, and becomes our errors or none."""

from __future__ import annotations

import json
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.sandbox import wire
from cubeport.adapters.sandbox.limits import SETTINGS, SourceLimits
from cubeport.errors import SOURCE_REASONS, Cancelled, CubeportError, NoData, Problem, SourceRejected, kinds

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["C"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["C"])), inner, max_size=4)
    ),
    max_leaves=10,
)


def frame(body: bytes) -> bytearray:
    return bytearray(struct.pack("!I", len(body)) + body)


class TestFrames:
    @given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), st.integers(1, 7))
    def test_they_come_as_they_went_however_they_are_cut(self, documents: list[dict], piece: int) -> None:
        sent = b"".join(bytes(frame(json.dumps(each).encode())) for each in documents)
        held, found = bytearray(), []
        for at in range(0, len(sent), piece):
            held += sent[at : at + piece]
            while (document := wire.take(held, 10_000)) is not None:
                found.append(document)
        assert found == documents
        assert not held

    def test_over_a_socket(self) -> None:
        here, there = socket.socketpair()
        document = {"a": ["ü", None, 1.5], "b": {"c": "x" * 300_000}}
        with here, there:
            thread = threading.Thread(target=wire.send, args=(here, document))
            thread.start()
            assert wire.receive(there, 2**20) == document
            thread.join()
            here.close()
            assert wire.receive(there, 2**20) is None

    def test_a_cut_one(self) -> None:
        here, there = socket.socketpair()
        with there:
            here.sendall(frame(b'{"a": 1}')[:-1])
            here.close()
            with pytest.raises(wire.Garbled, match="cut"):
                wire.receive(there, 100)

    def test_a_long_one_is_refused_by_its_head(self) -> None:
        with pytest.raises(wire.Garbled, match="over 100"):
            wire.take(bytearray(struct.pack("!I", 101)), 100)
        assert wire.take(bytearray(struct.pack("!I", 100)), 100) is None
        assert wire.take(bytearray(b"\0\0"), 100) is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"1",
            b"null",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": 1, "a": 2}',
            b'{"a": {"b": 1, "b": 1}}',
            b'\xff\xfe{"a"',
            b'{"a": "\xff"}',
            b'{"a": ' + b"[" * 100_000,
            b'{"a": ' + b"9" * 5_000 + b"}",
        ],
    )
    def test_what_is_no_strict_object_is_garbled(self, body: bytes) -> None:
        with pytest.raises(wire.Garbled):
            wire.take(frame(body), 10**6)

    @given(st.binary(max_size=64))
    def test_noise_is_garbled_or_waited_for(self, noise: bytes) -> None:
        held = bytearray(noise)
        try:
            while (document := wire.take(held, 50)) is not None:
                assert isinstance(document, dict)
        except wire.Garbled:
            pass


class TestErrors:
    @pytest.mark.parametrize("cls", sorted(kinds(), key=lambda cls: cls.kind))
    def test_every_kind_comes_back_as_its_class(self, cls: type[CubeportError]) -> None:
        if cls is SourceRejected:
            return
        error = cls("words\nand more", next_step="do", errors=[Problem(("a", 1), "k", "m")], limit=5, alternatives=[{"a": None}])
        back = wire.error_from_mapping(wire.error_to_mapping(error))
        assert type(back) is cls
        assert back.to_mapping() == error.to_mapping()

    @pytest.mark.parametrize("reason", SOURCE_REASONS)
    def test_every_reason_comes_back(self, reason: str) -> None:
        error = SourceRejected("words", reason=reason, source="a.nc", setting="limits.expansion", limit=1, value=2)
        back = wire.error_from_mapping(json.loads(json.dumps(wire.error_to_mapping(error))))
        assert isinstance(back, SourceRejected)
        assert back.to_mapping() == error.to_mapping()

    def test_words_are_cut_and_plain(self) -> None:
        error = NoData("\x1b[2J" + "x" * 9_000, next_step="\x00", what=["\x07", {"\x07": "\x07"}])
        back = wire.error_from_mapping(wire.error_to_mapping(error))
        assert back.message.startswith("�[2Jxx")
        assert len(back.message) == 4_000
        assert back.next_step == "�"
        assert back.members == {"what": ["�", {"�": "�"}]}

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "no-such-kind"},
            {"kind": None},
            {"message": 5},
            {"next_step": 5},
            {"errors": None},
            {"errors": [{"loc": ["a"]}]},
            {"errors": [{"loc": [None], "kind": "k", "message": "m"}]},
            {"members": None},
            {"members": {"message": "other"}},
            {"members": {"errors": []}},
            {"members": {"next_step": "x"}},
            {"members": {"__class__": "x"}},
            {"members": {"Not a name": "x"}},
            {"kind": "source-rejected", "members": {}},
            {"kind": "source-rejected", "members": {"reason": "because"}},
        ],
    )
    def test_forged_ones_are_garbled(self, change: dict) -> None:
        honest = wire.error_to_mapping(Cancelled("enough"))
        assert type(wire.error_from_mapping(honest)) is Cancelled
        with pytest.raises(wire.Garbled):
            wire.error_from_mapping(honest | change)

    @given(JSON)
    def test_noise_is_garbled(self, noise: object) -> None:
        with pytest.raises(wire.Garbled):
            wire.error_from_mapping(noise)


class TestLimits:
    def test_they_go_to_the_child_and_back(self) -> None:
        limits = SourceLimits(declared_bytes=7, sandbox="off", children=3)
        assert SourceLimits.from_mapping(json.loads(json.dumps(limits.to_mapping()))) == limits

    @given(st.integers(-(10**18), 10**18))
    def test_time_grows_with_what_is_declared_and_ends(self, declared: int) -> None:
        limits = SourceLimits()
        seconds = limits.seconds(declared)
        assert limits.base_s <= seconds <= limits.seconds(limits.declared_bytes)
        assert seconds <= limits.seconds(declared + 1)

    @pytest.mark.parametrize(("field", "setting"), SETTINGS.items())
    def test_a_refusal_names_the_setting_that_can_be_changed(self, field: str, setting: str) -> None:
        refusal = SourceLimits(**{field: 5}).too_big(field, 6, "what it has", source="a.nc")
        assert refusal.members == {"reason": "too-big", "source": "a.nc", "setting": setting, "limit": 5, "value": 6}
        assert setting in str(refusal.next_step)

    def test_or_the_rule_that_cannot(self) -> None:
        refusal = SourceLimits().too_big("dimensions", 65, "dimensions", source="a.nc")
        assert refusal.members == {"reason": "too-big", "source": "a.nc", "rule": "dimensions", "limit": 64, "value": 65}

    def test_what_is_at_the_limit_passes(self) -> None:
        SourceLimits().check("dimensions", 64, "dimensions")
        SourceLimits(expansion=10, small_bytes=100).check_expansion(1_000, 100, "bytes")
        SourceLimits(expansion=10, small_bytes=100).check_expansion(100, 1, "bytes")
        with pytest.raises(SourceRejected):
            SourceLimits(expansion=10, small_bytes=100).check_expansion(1_001, 100, "bytes")
