"""The values below the bar of a legend never run into each other."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cubeport.cubes.pictures.letters import written
from cubeport.cubes.pictures.looks import Look
from cubeport.documents import maps
from cubeport.documents.legends import legend_png


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


def decoded(picture: bytes) -> np.ndarray:
    """Return red, green and blue of a PNG, ``(height, width, 3)``, read by GDAL."""
    from rasterio.io import MemoryFile

    with MemoryFile(picture) as file, file.open() as opened:
        found: np.ndarray = opened.read()
        if opened.count == 1:
            table = opened.colormap(1)
            found = np.array([[table[each] for each in row] for row in found[0].tolist()]).transpose(2, 0, 1)
    return found[:3].transpose(1, 2, 0)


def has(picture: np.ndarray, text: str) -> bool:
    """Return whether a text stands somewhere in a picture, pixel by pixel."""
    ink = (picture == (20, 37, 46)).all(axis=-1)
    letters = written(text)
    views = np.lib.stride_tricks.sliding_window_view(ink, letters.shape)
    return bool((views == letters).all(axis=(2, 3)).any())


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_legend_as_png_has_the_colours_and_the_words() -> None:
    look = Look("viridis", 270.0, 300.0)
    picture = decoded(legend_png("Temperature at 2 m, °", "K", look))
    assert has(picture, "Temperature at 2 m, ° (K)")
    assert all(has(picture, each) for each in ("270", "277.5", "285", "300"))
    assert not has(picture, "271")
    bar = picture[40, 8:288]
    assert np.array_equal(bar[[0, -1]], look.colours()[[1, -1]])
    assert len(np.unique(bar, axis=0)) > 200
    classes = Look("Paired", 1, 2, flags=(1.0, 2.0), meanings=("open_water", "fast_ice_that_has_a_name_of_more_than_a_bar_is_wide"))
    picture = decoded(legend_png("Kind", None, classes))
    assert has(picture, "open water")
    assert has(picture, "fast ice that has a name of more than a bar is wide")
    assert np.array_equal(picture[[40, 60], 10], classes.colours()[1:3])
