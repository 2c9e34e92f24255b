"""STAC Browser of Radiant Earth, in Chromium, opens the catalog, a collection with its assets, and an item."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import Browser, Page, chromium, hosted

from .conftest import Site

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(chromium() is None, reason="no chromium"),
]

PACKAGE = "@radiantearth/stac-browser@4.0.1"
COMPANION = "ol-stac@1.1.0"
"""Later releases, which the package allows, need another release of OpenLayers than the package has."""


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> Path:
    """Build STAC Browser from npm, which has its source only, once."""
    folder = Path(pytestconfig.cache.mkdir("conformance")) / "stac-browser"  # type: ignore[union-attr]
    ready, wanted = folder / "ready", f"{PACKAGE} {COMPANION}"
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source, quiet = folder / "package", ["--no-audit", "--no-fund", "--ignore-scripts"]
        steps: list[tuple[list[str], Path]] = [
            (["npm", "pack", "--silent", PACKAGE], folder),
            (["tar", "xzf", "radiantearth-stac-browser-4.0.1.tgz"], folder),
            (["npm", "install", *quiet], source),
            (["npm", "install", *quiet, COMPANION], source),
            (["npx", "vue-cli-service", "build", "--noSourceMaps"], source),
        ]
        for command, where in steps:
            done = subprocess.run(
                command, cwd=where, capture_output=True, text=True, check=False, env={**os.environ, "SB_historyMode": "hash"}
            )
            if done.returncode != 0:
                pytest.skip(f"STAC Browser cannot be built: {command}: {done.stderr.strip()[-300:]}")
        ready.write_text(wanted)
    return folder / "package" / "dist"


@pytest.fixture(scope="session")
def viewer(built: Path) -> Iterator[str]:
    """Serve STAC Browser; return its address."""
    with hosted(built) as address:
        yield address


def shown(page: Page, *texts: str) -> str:
    """Return the text of the page once it has all of *texts*."""
    until = time.monotonic() + 60
    while not all(each in (found := str(page.evaluate("document.body.innerText"))) for each in texts):
        assert time.monotonic() < until, found[:3000]
        page.settle()
    return found


def test_stac_browser_shows_catalog_collection_and_item(site: Site, viewer: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "chromium")
    try:
        authority = site.url.removeprefix("http://")
        at = f"{viewer}/#/external/http:/{authority}/stac"
        page = browser.open(at, height=1400)
        shown(page, "Catalogs", "regular", "pressure-levels", "rotated-pole")
        page.screenshot(tmp_path / "catalog.png", whole=False)

        page = browser.open(f"{at}/collections/regular", height=1400)
        shown(
            page, "2020-01-01 00:00:00 UTC–2020-01-03 00:00:00 UTC", "Zarr, always the published version", "NetCDF, made on request"
        )
        shown(page, "latitude", "degrees_north", "Version History", "Assets in Items")
        assert page.evaluate("document.querySelectorAll('canvas').length") >= 1, "the map of OpenLayers"
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
        assert {f"{site.url}/zarr/regular", f"{site.url}/datasets/regular/download"} <= set(links), "assets lead to our bytes"
        (item,) = {each for each in links if "/items/regular@" in each}
        page.screenshot(tmp_path / "collection.png", whole=False)

        page = browser.open(item, height=1400)
        shown(page, "Zarr, this version, which never changes", "Data Version", "degrees_east")
        page.screenshot(tmp_path / "item.png", whole=False)
        # Tiles of a base map and one schema come from elsewhere, which is not reached from here; nothing of ours failed.
        assert not [each for each in page.told if site.url in each]
    finally:
        browser.close()
