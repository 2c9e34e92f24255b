"""Cursors are opaque to callers, and only what was written is read back."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.catalog.forms import cursors


@given(st.lists(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")), max_size=6))
def test_what_was_written_is_read(values: list[object]) -> None:
    text = cursors.write(*values)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert cursors.read(text, len(values)) == values
    with pytest.raises(ValueError, match="not a cursor"):
        cursors.read(text, len(values) + 1)


@pytest.mark.parametrize(
    "text",
    ["", "!", "WzEsMl0=", "a" * 1001, "ß", base64.b64encode(b"{}").decode(), base64.b64encode(b"[" * 100_000).decode()],
)
def test_what_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cursors.read(text, 3)


def test_a_place_is_a_number_and_an_id() -> None:
    assert cursors.read_place(cursors.write_place(7, "ab")) == (7, "ab")
    for other in (cursors.write("7", "ab"), cursors.write(True, "ab"), cursors.write(7, None)):
        with pytest.raises(ValueError, match="position"):
            cursors.read_place(other)
