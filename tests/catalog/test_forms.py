"""Forms that several faces read: strict JSON, and boxes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from cubeport.catalog.forms.boxes import boxes, checked_box, meet
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.forms.strictjson import DoubledNames, TooManyNames, strict_json
from cubeport.catalog.terms import read_json
from cubeport.errors import InvalidFilter


def test_strict_json_is_json():
    assert strict_json('{"a": [1, 2.5, "x", null, true, {"b": {}}]}') == {"a": [1, 2.5, "x", None, True, {"b": {}}]}
    assert strict_json(b'{"a": 1}') == {"a": 1}


def test_every_doubled_name_is_reported_once():
    with pytest.raises(DoubledNames) as caught:
        strict_json('{"b": 1, "a": {"c": 1, "c": 2, "c": 3}, "b": 2}')
    assert caught.value.names == ["b", "c"]
    assert caught.value.value == {"b": 2, "a": {"c": 3}}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "[1" + "0" * 5000 + "]"])
def test_numbers_that_json_does_not_have(text):
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)


def test_zarr_writes_nan():
    assert math.isnan(strict_json('{"missing_value": NaN}', nan=True)["missing_value"])
    with pytest.raises(DoubledNames):
        strict_json('{"a": NaN, "a": 1}', nan=True)


def test_members_are_counted_before_they_are_kept():
    text = json.dumps({str(n): n for n in range(6)})
    assert strict_json(text, most=6) == json.loads(text)
    with pytest.raises(TooManyNames):
        strict_json(text, most=5)


def test_metadata_of_a_command_have_each_name_once():
    assert read_json('{"a": 1}') == {"a": 1}
    with pytest.raises(InvalidFilter, match="a: more than once"):
        read_json('{"a": 1, "a": 2}')


@pytest.mark.parametrize("value", [(0, 0, 1), (0, 0, 1, math.nan), (-181, 0, 0, 0), (0, 1, 0, 0), (0, -91, 0, 0), (0, 0, 0, 91)])
def test_what_is_not_a_box(value):
    with pytest.raises(ValueError, match="bbox"):
        checked_box(value)


def test_the_antimeridian_is_one_edge():
    assert boxes(170, -10, -170, 10) == ((170, -10, 180.0, 10), (-180.0, -10, -170, 10))
    assert meet(checked_box((-180, 0, -180, 1)), (170, 0, 180, 1))
    assert meet(checked_box((175, 0, -175, 1)), (-176, 1, -170, 2))
    assert not meet(checked_box((175, 0, -175, 1)), (-174, 0, 174, 1))


_TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
_LEAVES = st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | _TEXTS
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4))


@given(_VALUES.filter(lambda value: "Infinity" not in json.dumps(value)))
def test_documents_are_read_as_the_standard_library_reads_them(value):
    """The catalog reads its documents with pydantic's parser, which takes half the time: every number and text must be equal."""
    text = dumps(value)
    assert repr(from_json(text)) == repr(json.loads(text))
