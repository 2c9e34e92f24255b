"""The values below the bar of a legend never run into each other."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest

from cubeport.cubes.pictures.looks import Look
from cubeport.documents import maps


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [
        (0.0, 100.0, 5),
        (275.0, 291.0, 5),
        (-0.0018, -0.00125, 3),
        (-1.23456e-05, 1.23456e-05, 3),
        (1234567.0, 7654321.0, 3),
        (10000.0, 130000.0, 3),
    ],
)
def test_values_of_a_legend_have_room(low: float, high: float, count: int) -> None:
    root = ET.fromstring(maps.legend_svg("t", "K", Look("viridis", low, high)))
    texts = [each for each in root.iter("{http://www.w3.org/2000/svg}text") if each.get("text-anchor")]
    assert len(texts) == count
    assert [texts[0].text, texts[-1].text] == [f"{low:g}", f"{high:g}"]
    ends = []
    for each in texts:
        width = 7.7 * len(each.text or "")
        begin = float(each.get("x", "")) - {"start": 0, "middle": width / 2, "end": width}[str(each.get("text-anchor"))]
        ends.append((begin, begin + width))
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))
