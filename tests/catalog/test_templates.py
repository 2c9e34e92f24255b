"""Path templates: a small grammar, and segments that no value can break out of."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.catalog.artifacts.naming import split_suffix
from cubeport.catalog.artifacts.paths import SEGMENT_BYTES, parse, render, segment, slug
from cubeport.catalog.artifacts.storage import suffixed
from cubeport.errors import CubeportError, InvalidTemplate, PathEscapes

FIELDS = {"a": "one", "b": "", "c": "three", "original_suffix": ".tar.gz"}


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{a}", "one"),
        ("{b|a}", "one"),
        ("{b|c|a}/{a}", "three/one"),
        ("{c:2}", "th"),
        ("{b|c:3}{original_suffix}", "thr.tar.gz"),
        ("x{{y}}", "x{y}"),
        ("{metadata.k.n}", "7"),
        ("{metadata.absent|a}", "one"),
        ("{metadata.k|a}", "one"),
    ],
)
def test_what_templates_mean(template, path):
    assert render(template, FIELDS, {"k": {"n": 7}}) == path


@pytest.mark.parametrize(
    "template", ["{", "}", "{a", "{}", "{a:0}", "{a:x}", "{a.__class__}", "{a!r}", "{A}", "{a||b}", "{unknown}", "{{}"]
)
def test_what_is_no_template(template):
    with pytest.raises(InvalidTemplate):
        render(template, FIELDS)


@pytest.mark.parametrize("template", ["", "/a", "a//b", "../a", "a/..", "./a", "{b}", "a/{b}/c", "a/"])
def test_paths_that_lead_out_or_nowhere(template):
    with pytest.raises(PathEscapes):
        render(template, FIELDS)


@pytest.mark.parametrize("value", ["../../etc/passwd", "/etc/passwd", "a\\b", "a\0b", ".hidden", "..", "C:x", "a\nb"])
def test_a_value_never_makes_or_leaves_a_folder(value):
    path = render("x/{a}y", {"a": value})
    folder, name = path.split("/")
    assert folder == "x"
    assert not name.startswith(".")
    assert not set('\\:*?"<>|\0\n') & set(name)


@given(st.text(), st.text(min_size=1))
def test_any_text_renders_to_plain_segments_or_is_refused(template, value):
    try:
        path = render(template, {"a": value, "b": ""})
    except CubeportError:
        return
    for each in path.split("/"):
        assert 0 < len(each.encode()) <= SEGMENT_BYTES
        assert each not in (".", "..")
        assert not each.startswith(".")
        assert unicodedata.is_normalized("NFC", each)
        assert not any(unicodedata.category(c) == "Cc" for c in each)
        assert segment(each) == each, "once is enough"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='/\\:*?"<>|'), min_size=1))
def test_parse_and_literal_braces_round_trip(text):
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert "".join(map(str, parse(escaped))) == text


def test_long_names_keep_their_suffix():
    long = segment("ä" * 200 + ".tar.gz")
    assert len(long.encode()) <= SEGMENT_BYTES
    assert long.endswith(".tar.gz")


def test_suffixes():
    assert split_suffix("a.tar.gz") == ("a", ".tar.gz")
    assert split_suffix("a.b.nc") == ("a.b", ".nc")
    assert split_suffix(".hidden") == (".hidden", "")
    assert split_suffix("none") == ("none", "")
    assert split_suffix("v1.gz") == ("v1", ".gz")
    assert suffixed("d/a.tar.gz", "0123456789abcdef") == "d/a-01234567.tar.gz"


def test_slugs():
    assert slug("Ein Bericht: Übersicht (2020)") == "ein-bericht-ubersicht-2020"
    assert slug(None) == ""
