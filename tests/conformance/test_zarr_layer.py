"""CarbonPlan's zarr-layer on MapLibre, in Chromium, shows each cell of ``/geozarr/{id}``: what it reads, and the colour drawn."""

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

# MapLibre 6 has its worker in a file of its own, which a bundle of one file lacks.
PACKAGES = ("@carbonplan/zarr-layer@0.5.0", "maplibre-gl@5.24.1")
SCRIPT = Path(__file__).with_name("zarrlayer.js")


@pytest.fixture(scope="module")
def page_address(pytestconfig: pytest.Config) -> Iterator[str]:
    with hosted(bundled(pytestconfig, "zarr-layer", PACKAGES, SCRIPT)) as address:
        yield address


@pytest.mark.parametrize("name", ["regular", "south-up", "pressure-levels", "members"])
def test_zarr_layer_shows_every_cell(site: Site, page_address: str, tmp_path: Path, name: str) -> None:
    browser = Browser(tmp_path / "chromium")
    try:
        page = browser.open(f"{page_address}/index.html")
        whole = FAMILIES[name].make().t
        others = {str(each): 1 for each in whole.dims if each not in ("lat", "lon")}
        data = whole.isel(others)
        low, high = float(data.min()), float(data.max())
        cells = [(float(x), float(y)) for y in data.lat for x in data.lon]
        chosen = {each: {"selected": 1, "type": "index"} for each in others}
        asked = ", ".join(map(json.dumps, (f"{site.url}/geozarr/{name}", "t", chosen, low, high, cells)))
        found = json.loads(page.evaluate(f"window.look({asked})"))["found"]
    finally:
        browser.close()
    truth = data.transpose("lat", "lon").values.ravel().tolist()
    assert [each["data"] for each in found] == truth
    for value, each in zip(truth, found, strict=True):
        red, *rest = each["shown"]
        assert abs(red - 255 * (value - low) / (high - low)) <= 1, (value, each)
        assert rest == [0, 0, 255]
