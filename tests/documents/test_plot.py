"""Plots: what is drawn is read back from the path, and compared with the values."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.encoders.plot import _along, _elapsed, _short
from cubeport.cubes.calendars import parse_stamp
from cubeport.cubes.description import Axis
from cubeport.documents import plot
from cubeport.documents.plot import Line

SVG = "{http://www.w3.org/2000/svg}"


def line(values: Any, **changes: Any) -> Line:
    values = np.asarray(values, dtype=float)
    labels = [f"2000-01-{at + 1:02d}" for at in range(values.size)]
    given = {"positions": np.arange(values.size, dtype=float), "labels": labels, "values": values, "title": "t", "units": "K"}
    return Line(**(given | changes))


def drawn_values(content: bytes) -> list[float]:
    """Return the values of a series, read from the drawing by its own gridlines."""
    root = ET.fromstring(content)
    group = root.find(f"{SVG}g")
    rows = []
    for grid, text in zip(group.findall(f"{SVG}path[@class='grid']"), group.findall(f"{SVG}text[@text-anchor='end']"), strict=True):
        rows.append((float(re.match(r"M[\d.]+ ([\d.]+)", grid.get("d", ""))[1]), float(text.text or "")))
    (y0, v0), (y1, v1) = rows[0], rows[-1]
    points = [
        float(y)
        for path in group.findall(f"{SVG}path[@class='line']")
        for _, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d", ""))
    ]
    points += [float(dot.get("cy", "")) for dot in group.findall(f"{SVG}circle")]
    return [v0 + (y - y0) * (v1 - v0) / (y1 - y0) for y in points]


def test_the_line_is_at_the_values() -> None:
    values = [280.5, 284.25, 279.0, 290.0]
    assert drawn_values(plot.svg(line(values))) == pytest.approx(values, abs=0.02)


def test_a_missing_value_breaks_the_line() -> None:
    content = plot.svg(line([1.0, 2.0, np.nan, 3.0, np.nan, 4.0, 5.0]))
    root = ET.fromstring(content)
    pieces = [path for path in root.iter(f"{SVG}path") if path.get("class") == "line"]
    assert len(pieces) == 2
    assert len(list(root.iter(f"{SVG}circle"))) == 1
    assert sorted(drawn_values(content)) == pytest.approx([1, 2, 3, 4, 5], abs=0.01)


def test_a_very_long_series_keeps_its_extremes_and_says_so() -> None:
    values = np.sin(np.arange(50_000) / 900)
    values[31_234] = 9.0
    content = plot.svg(line(values, labels=[str(at) for at in range(values.size)]))
    assert b"least and the greatest" in content
    assert len(content) < 40_000
    heights = [float(y) for y in re.findall(rb"V([\d.]+)", content)]
    # The peak of one step among 50 000 reaches the gridline of about 9: the top one is 10.
    assert min(heights) < 45


def test_the_sentence_says_what_is_seen() -> None:
    text = plot.summary(line([1.0, 5.0, np.nan, 2.0]))
    assert (
        text
        == "t: 3 values from 2000-01-01 to 2000-01-04; least 1 K at 2000-01-01, greatest 5 K at 2000-01-02. 1 of 4 are missing."
    )
    assert "no value" in plot.summary(line([np.nan, np.nan]))


def test_titles_are_text() -> None:
    content = plot.svg(line([1.0, 2.0], title='<script>"&', units="<b>"))
    root = ET.fromstring(content)
    assert b"<script>" not in content
    assert root.get("aria-label", "").startswith('<script>"&')


def test_a_title_that_is_too_long_for_the_width_is_shortened_and_the_label_has_it_whole() -> None:
    long = "An index of temperature with a long name, by the bureau"
    for text, width, whole in ((long, 360, False), (long, 720, True), ("W" * 100, 720, False), ("気" * 56, 720, False)):
        root = ET.fromstring(plot.svg(line([1, 2], title=text), width=width))
        (title,) = root.findall(f"{SVG}text[@class='title']")
        assert (title.text == f"{text} (K)", str(title.text).endswith("… (K)")) == (whole, not whole)
        assert root.get("aria-label", "").startswith(text)


@pytest.mark.parametrize("upright", [False, True])
def test_a_plot_without_values_says_so_and_has_no_scale_of_them(upright: bool) -> None:
    positions = np.array([200.0, 850.0])
    shown = [each.text for each in ET.fromstring(plot.svg(line([np.nan, np.nan], positions=positions, upright=upright))).iter()]
    assert "no values" in shown
    assert "1" not in shown, "a made-up scale"


def test_depths_count_downwards() -> None:
    content = plot.svg(line([10.0, 8.0, 4.0], positions=np.array([0.0, 10.0, 100.0]), upright=True, downwards=True))
    heights = [float(dot.get("cy", "")) for dot in ET.fromstring(content).iter(f"{SVG}circle")]
    assert heights == sorted(heights)
    upwards = plot.svg(line([10.0, 8.0, 4.0], positions=np.array([0.0, 10.0, 100.0]), upright=True))
    heights = [float(dot.get("cy", "")) for dot in ET.fromstring(upwards).iter(f"{SVG}circle")]
    assert heights == sorted(heights, reverse=True)


def test_pressures_count_downwards_also_if_nothing_says_so() -> None:
    axis = Axis(name="level", dimension="level", kind="z", size=2, units="millibars")
    found = _along(axis, np.array([200, 850]), np.array([1.0, 2.0]), "t", "K")
    assert (found.upright, found.downwards) == (True, True)


def test_the_numbers_below_a_profile_are_whole() -> None:
    root = ET.fromstring(plot.svg(line([1e4, 121749.0], positions=np.array([850.0, 200.0]), upright=True)))
    ends = [float(each.get("x", "")) + 3.8 * len(each.text or "") for each in root.iter(f"{SVG}text")]
    assert max(ends) <= 720


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_surround_the_values(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = plot.ticks(low, high)
    span = found[-1] - found[0]
    assert found[0] <= low + 1e-8 * span
    assert high - 1e-8 * span <= found[-1]
    assert 2 <= len(found) <= 9


@pytest.mark.parametrize(
    ("count", "shown"),
    [(1, [0]), (2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (7, [0, 2, 4, 6]), (12, None), (13, [0, 3, 6, 9, 12]), (100, [0, 33, 66, 99])],
)
def test_dates_of_a_series_have_the_same_distance(count: int, shown: list[int] | None) -> None:
    labels = [f"m{at:03}" for at in range(count)]
    root = ET.fromstring(plot.svg(line(np.arange(count), labels=labels)))
    found = [labels.index(text.text) for text in root.iter(f"{SVG}text") if text.text in labels]
    assert (found[0], found[-1]) == (0, count - 1)
    assert found == shown or (shown is None and len(found) == 5)


@pytest.mark.parametrize("width", [360, 720])
@pytest.mark.parametrize("count", range(3, 40))
def test_dates_never_run_into_each_other(count: int, width: int) -> None:
    labels = [f"2020-01-{at:02}" for at in range(count)]
    root = ET.fromstring(plot.svg(line(np.arange(count), labels=labels), width=width))
    middles = [float(text.get("x", "")) for text in root.iter(f"{SVG}text") if text.text in labels]
    assert all(b - a >= 10 * 7.7 for a, b in pairwise(middles)), "ten letters in a wide font"


def test_long_dates_are_fewer() -> None:
    labels = [f"2006-01-{at + 1:02}T18:00:00Z" for at in range(12)]
    root = ET.fromstring(plot.svg(line(np.arange(12), labels=labels)))
    assert sum(text.text in labels for text in root.iter(f"{SVG}text")) <= 4


@pytest.mark.parametrize("width", [320, 360, 720, 1200])
@pytest.mark.parametrize("last", ["2024-05-04T23:00", "2024-01-09T07:00:00Z", "2024", "9"])
def test_no_label_is_cut_off_at_a_side(width: int, last: str) -> None:
    root = ET.fromstring(plot.svg(line(np.arange(3), labels=[last] * 3), width))
    found = [float(each.get("x", "")) for each in root.iter(f"{SVG}text") if each.text == last]
    half = 3.8 * len(last)
    assert found
    assert all(half <= at <= width - half for at in found)


@pytest.mark.parametrize("width", [320, 360, 720, 1200])
@pytest.mark.parametrize("length", [4, 7, 10, 13, 16, 20])
def test_labels_do_not_touch(width: int, length: int) -> None:
    labels = [f"{at:0{length}}" for at in range(3000)]
    root = ET.fromstring(plot.svg(line(np.sin(np.arange(3000)), labels=labels), width))
    found = [float(each.get("x", "")) for each in root.iter(f"{SVG}text") if each.text in set(labels)]
    assert len(found) >= 2
    if len(found) > 2:
        assert min(np.diff(found)) >= 7.7 * length


@pytest.mark.parametrize(
    ("calendar", "times", "shares"),
    [
        ("standard", ["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"], [0, 1 / 3, 2 / 3, 1]),
        ("360_day", ["2024-02-29", "2024-02-30", "2024-03-01", "2024-03-02"], [0, 1 / 3, 2 / 3, 1]),
        ("noleap", ["2024-02-27", "2024-02-28", "2024-03-01", "2024-03-02"], [0, 1 / 3, 2 / 3, 1]),
        ("of some moon", ["2024-02-27", "2024-02-28", "2024-03-02"], [0, 0.5, 1]),
    ],
)
def test_days_are_equally_far_apart_at_the_end_of_a_month_too(calendar: str, times: list[str], shares: list[float]) -> None:
    """Each month had 31 days in a plot, so that lines had holes, or were too steep, at the end of shorter ones."""
    stamps = [parse_stamp(f"{each}T00:00:00Z", "360_day" if "30" in each[-2:] else "standard") for each in times]
    found = _elapsed(stamps, calendar)
    assert ((found - found[0]) / (found[-1] - found[0])).tolist() == pytest.approx(shares)


def test_hours_are_written_without_their_seconds() -> None:
    assert list(_short(["2024-01-01T00:00:00Z", "2024-01-01T06:00:00Z"], "hourly")) == ["2024-01-01T00:00", "2024-01-01T06:00"]
