"""OpenLayers alone, in Chromium, shows each cell of ``/geozarr/{id}`` in its place: what it reads, and the colour on the screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import Browser, chromium, hosted
from tests.families import FAMILIES

from .conftest import Site, bundled

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no chromium"),
]

PACKAGES = ("ol@10.11.0", "proj4@2.20.2")
SCRIPT = Path(__file__).with_name("openlayers.js")


@pytest.fixture(scope="module")
def page_address(pytestconfig: pytest.Config) -> Iterator[str]:
    with hosted(bundled(pytestconfig, "openlayers", PACKAGES, SCRIPT)) as address:
        yield address


def test_openlayers_shows_every_cell(site: Site, page_address: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "chromium")
    try:
        page = browser.open(f"{page_address}/index.html")
        for name in ("south-up", "over-the-dateline", "pressure-levels", "members"):
            data = FAMILIES[name].make().t.isel(time=1)
            for other in [each for each in data.dims if each not in ("lat", "lon")]:
                data = data.isel({other: 1})
            chosen = {str(each): 1 for each in FAMILIES[name].make().t.dims if each not in ("lat", "lon")}
            low, high = float(data.min()), float(data.max())
            cells = [(float(x), float(y)) for y in data.lat for x in data.lon]
            asked = ", ".join(map(json.dumps, (f"{site.url}/geozarr/{name}", "t", chosen, low, high, cells)))
            told = json.loads(page.evaluate(f"window.look({asked})"))
            assert told["code"] == "EPSG:4326"
            truth = data.transpose("lat", "lon").values.ravel().tolist()
            assert [each["data"] for each in told["found"]] == truth, name
            for value, each in zip(truth, told["found"], strict=True):
                red, *rest = each["shown"]
                assert abs(red - 255 * (value - low) / (high - low)) <= 1, (name, value, each)
                assert rest == [0, 0, 255]
    finally:
        browser.close()
