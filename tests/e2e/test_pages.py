"""Every page in a real browser: by axe-core, in light and dark, on a phone, by keyboard, and with scripts off."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pyproj
import pytest
import xarray as xr
from tests.browser import Browser, Page, chromium
from tests.families import FAMILIES

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import here, start, stop

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium")

AXE = "axe-core@4.14.1"
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, from npm, once."""
    folder = Path(pytestconfig.cache.mkdir("axe"))  # type: ignore[union-attr]
    found = folder / "package" / "axe.min.js"
    if not found.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm")
        packed = subprocess.run([npm, "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, check=False)
        if packed.returncode != 0:
            pytest.skip(f"axe-core cannot be had: {packed.stderr.strip()[-200:]}")
        subprocess.run(["tar", "xzf", packed.stdout.split()[-1]], cwd=folder, check=True)
    return found.read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    root = folder / "instance"
    assert here("init", root).returncode == 0
    (root / "extents").mkdir(exist_ok=True)
    (root / "zones").mkdir(exist_ok=True)
    ring = [[-10, -10], [10, -10], [10, 10], [-10, 10], [-10, -10]]
    zone = {"type": "Feature", "id": "a", "properties": {"name": "A box"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (root / "zones" / "box.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [zone]}))
    (root / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    index = xr.Dataset(
        {"nino": ("time", [0.1, 0.5, -0.3], {"units": "K"})}, {"time": ("time", [0, 31, 59], {"units": "days since 2020-01-01"})}
    )
    index.to_netcdf(folder / "index.nc")
    with cubeport.connect(root) as service:
        for name in ("regular", "rotated-pole", "curvilinear"):
            file = FAMILIES[name].write(folder, name)
            template: Any = {"title": f"Air of {name.replace('-', ' ')}", "keywords": ["air", name], "license": "CC-BY-4.0"}
            request = IngestionRequest(dataset_id=name, template=template)
            assert service.ingest_here(request, FileOptions(files=(str(file),))).status == "completed"
        template = {"title": "An index of <b>temperature</b>", "keywords": ["index"]}
        request = IngestionRequest(dataset_id="index", template=template)
        assert service.ingest_here(request, FileOptions(files=(str(folder / "index.nc"),))).status == "completed"
        xr.Dataset(
            {
                "t": (("time", "level", "member", "lat", "lon"), np.arange(240.0).reshape(2, 3, 4, 2, 5), {"units": "1"}),
                "land": (
                    ("lat", "lon"),
                    np.full((2, 5), 2, "i1"),
                    {"flag_values": np.array([1, 2], "i1"), "flag_meanings": "sea dry_land"},
                ),
            },
            {
                "time": ("time", [0, 31], {"units": "days since 2020-01-01"}),
                "level": ("level", [850.0, 500.0, 200.0], {"standard_name": "air_pressure", "units": "hPa", "positive": "down"}),
                "member": ("member", [1, 2, 3, 4], {"standard_name": "realization", "units": "1"}),
                "lat": ("lat", [40.0, 50.0], {"units": "degrees_north"}),
                "lon": ("lon", [0.0, 10, 20, 30, 40], {"units": "degrees_east"}),
            },
        ).to_netcdf(folder / "members.nc", engine="h5netcdf")
        request = IngestionRequest(dataset_id="members")
        assert service.ingest_here(request, FileOptions(files=(str(folder / "members.nc"),))).status == "completed"
        bins = {each: ("bin", [1, 2, 3], {"long_name": "count"}) for each in ("a", "b")}
        xr.Dataset(bins, {"bin": ("bin", [0.5, 1.5, 4.0])}).to_netcdf(folder / "bins.nc", engine="h5netcdf")
        sampled = {"lat": [0.0, 40.0], "lon": [0.0, 100.0]}
        axes = {
            name: (name, values, {"units": f"degrees_{way}", "bounds": f"{name}_bnds"})
            for (name, values), way in zip(sampled.items(), ("north", "east"), strict=True)
        }
        bounds = {f"{name}_bnds": ((name, "bnds"), [[each - 1, each + 1] for each in values]) for name, values in sampled.items()}
        data = {"t": (("lat", "lon"), [[0.0, 1], [2, 3]], {"units": "K"})}
        xr.Dataset({**data, **bounds}, axes).to_netcdf(folder / "sample.nc", engine="h5netcdf")
        for name in ("bins", "sample"):
            request = IngestionRequest(dataset_id=name)
            assert service.ingest_here(request, FileOptions(files=(str(folder / f"{name}.nc"),))).status == "completed"
        (folder / "bad.nc").write_bytes(b"nothing")
        assert (
            service.ingest_here(IngestionRequest(dataset_id="bad"), FileOptions(files=(str(folder / "bad.nc"),))).status == "failed"
        )
    return root


@pytest.fixture(scope="module")
def key(root: Path) -> str:
    return str(json.loads(here("keys", "add", "ann", "--scope", "ingest", "--instance", root, "--json").stdout)["key"])


@pytest.fixture(scope="module")
def url(root: Path, key: str) -> Iterator[str]:
    process, url = start(root)
    yield url
    stop(process)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_(path: str, **options: Any) -> Page:
        opened.append(browser.open(f"{url}{path}", **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


PAGES = {
    "landing": "/?f=html",
    "found": "/?f=html&q=air&keyword=regular",
    "nothing": "/?f=html&q=nowhere",
    "dataset": "/datasets/regular?f=html",
    "view": "/datasets/rotated-pole?f=html&t=2020-01-02",
    "curved": "/datasets/curvilinear?f=html",
    "polar": "/datasets/regular?f=html&map=north",
    "index": "/datasets/index?f=html",
    "plot": "/datasets/regular/plot?at=0,0&f=html",
    "docs": "/docs",
    "calendars": "/docs/calendars",
    "help": "/help",
    "jobs": "/jobs",
    "problem": "/problems/gap?f=html",
    "missing": "/datasets/nix?f=html",
    "datasets": "/datasets?f=html",
    "versions": "/datasets/regular/versions?f=html",
    "zones": "/zones?f=html",
    "table": "/datasets/regular/table?zones=box&f=html",
    "changes": "/changes?f=html",
    "wms": "/wms/regular?f=html",
    "wmts": "/wmts/regular?f=html",
    "extent": "/extent/there?f=html",
    "info": "/info?f=html",
    "stac": "/stac?f=html",
    "collection": "/stac/collections/regular?f=html",
    "items": "/stac/collections/regular/items?f=html",
    "ogc": "/ogcapi?f=html",
    "ogc-collection": "/ogcapi/collections/regular?f=html",
    "conformance": "/ogcapi/conformance?f=html",
    "zarr": "/zarr/regular?f=html",
}
LOOKS: dict[str, dict[str, Any]] = {"light": {}, "dark": {"dark": True}, "phone": {"width": 390, "height": 800}}
SAMPLE = {("landing", "light"), ("dataset", "dark"), ("jobs", "phone")}
CASES = [
    pytest.param(name, look, id=f"{name}-{look}", marks=() if (name, look) in SAMPLE else pytest.mark.browser)
    for name in PAGES
    for look in LOOKS
]


@pytest.mark.parametrize(("name", "look"), CASES)
def test_axe_finds_nothing_and_the_console_is_quiet(page: Callable[..., Page], axe: str, name: str, look: str) -> None:
    opened = page(PAGES[name], **LOOKS[look])
    opened.evaluate(axe + ";0")
    # What is wrong inside Swagger UI is for its own project: ours is around it.
    context = '{exclude: [["#swagger"]]}' if name == "docs" else "document"
    found = opened.evaluate(f"axe.run({context}, {{resultTypes: ['violations']}}).then(r => r.violations.map(v => "
                            "[v.id, v.impact, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160))]))")  # fmt: skip
    assert found == [], json.dumps(found, indent=1)
    quiet = [text for text in opened.told if not (name == "missing" and "404" in text)]
    assert quiet == []
    wide = opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} px wider than the window"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_routes_are_readable(page: Callable[..., Page], axe: str, dark: bool) -> None:
    opened = page("/docs", dark=dark)
    ground = opened.evaluate("getComputedStyle(document.querySelector('#swagger')).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(ground) < 64) == dark
    opened.evaluate("document.querySelectorAll('.opblock-summary-control')[1].click()")
    opened.evaluate("new Promise(done => setTimeout(done, 500))")
    opened.evaluate(axe + ";0")
    shown = "{include: [['.info'], ['.auth-wrapper'], ['.opblock']]}"
    found = opened.evaluate(f"axe.run({shown}, {{runOnly: ['color-contrast'], resultTypes: ['violations']}}).then(r => "
                            "r.violations.flatMap(v => v.nodes.slice(0, 5).map(n => n.html.slice(0, 160))))")  # fmt: skip
    assert found == []


@pytest.mark.browser
def test_the_picture_of_a_part_leaves_room_for_its_forms(page: Callable[..., Page]) -> None:
    opened = page("/ogcapi/collections/regular/coverage?f=html", height=900)
    assert opened.evaluate("document.querySelector('figure img').getBoundingClientRect().height") <= 384


@pytest.mark.browser
def test_a_page_that_one_goes_back_to_chooses_what_it_draws(page: Callable[..., Page]) -> None:
    opened = page("/datasets/regular?f=html")
    opened.evaluate("(look.value = 'magma', look.dispatchEvent(new Event('change')), 1)")
    opened.settle()
    assert "look=magma" in opened.evaluate("location.search")
    opened.evaluate("(setTimeout(() => history.back(), 20), 1)")
    opened.settle()
    assert opened.evaluate("[location.search.includes('magma'), look.value]") == [False, ""]


@pytest.mark.browser
def test_a_table_of_values_moves_in_its_frame_on_a_phone_and_breaks_no_time(page: Callable[..., Page]) -> None:
    opened = page(
        "/ogcapi/collections/members/coverage?f=html&form=csv&properties=t&subset=level(500.0)&subset=member(3)", width=390
    )
    assert opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    cell = "document.querySelector('td')"
    assert opened.evaluate(f"{cell}.getBoundingClientRect().height < 2 * parseFloat(getComputedStyle({cell}).lineHeight)")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "dataset" else pytest.mark.browser) for n in ("landing", "dataset", "found", "ogc")]
)
def test_at_twice_the_size_nothing_runs_out(page: Callable[..., Page], name: str) -> None:
    opened = page(PAGES[name], width=620, height=450, scale=2)
    assert opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.browser
@pytest.mark.parametrize("name", ["landing", "dataset", "jobs", "found"])
def test_every_control_is_reached_by_tab_and_shows_that_it_is(page: Callable[..., Page], name: str) -> None:
    opened = page(PAGES[name])
    wanted = opened.evaluate(
        "[...document.querySelectorAll('a[href],button,input,select,summary,[tabindex=\"0\"]')]"
        ".filter(e => e.offsetParent !== null && !e.disabled && e.type !== 'hidden' && e.type !== 'radio')"
        ".filter(e => e.tagName === 'SUMMARY' || !e.closest('details:not([open])')).length"
    )
    seen: set[str] = set()
    unseen = []
    for _ in range(3 * int(wanted) + 20):
        opened.press("Tab")
        place, outlined = opened.evaluate(
            "(() => { const e = document.activeElement; const all = [...document.querySelectorAll('*')];"
            "const s = getComputedStyle(e); const l = e.labels && e.labels[0] ? getComputedStyle(e.labels[0]) : s;"
            "return [String(all.indexOf(e)), s.outlineStyle !== 'none' || l.outlineStyle !== 'none' || e === document.body] })()"
        )
        seen.add(place)
        if not outlined:
            unseen.append(opened.evaluate("document.activeElement.outerHTML.slice(0, 120)"))
    assert unseen == []
    assert len(seen) >= int(wanted), (len(seen), wanted)


def test_with_scripts_off_the_pages_are_whole(page: Callable[..., Page]) -> None:
    landing = page("/?f=html&q=air", scripts=False)
    assert "3 datasets" in landing.text()
    assert "CC-BY-4.0" in landing.text()
    assert landing.told == []
    dataset = page("/datasets/regular?f=html&t=2020-01-02", scripts=False).text()
    assert all(each in dataset for each in ("Where and when", "How far to trust it", "Cite it", "pip install"))
    assert "cubeport keys add" in page(PAGES["jobs"], scripts=False).text()


def test_a_collection_says_what_it_is_before_its_document(url: str) -> None:
    for name, placed in (("regular", True), ("index", False)):
        for face in ("stac", "ogcapi"):
            text = httpx.get(f"{url}/{face}/collections/{name}?f=html").text
            first, closed, rest = text.partition('<details class="whole"><summary>')
            assert closed, (name, face)
            assert ("<dt>Where</dt>" in first) == placed, (name, face)
            assert "<dt>When</dt><dd>2020-01-01 to 2020-0" in first, (name, face)
            assert "<dt>extent</dt>" in rest, (name, face)
            assert f'href="{url}/zarr/{name}"' in first or face == "ogcapi"
    assert '<details class="whole">' not in httpx.get(f"{url}/info?f=html").text


def test_a_table_by_areas_is_a_page_that_has_its_files(url: str) -> None:
    (href,) = re.findall(r'href="([^"]*/table\?[^"]*zones=box[^"]*)"', httpx.get(f"{url}/datasets/regular?f=html").text)
    text = httpx.get(f"{url}{unescape(href)}").text
    assert "A box" in text
    assert "f=csv" in text


def test_a_page_of_values_offers_the_forms_that_can_have_them(url: str) -> None:
    for query, offered in (("", False), ("&datetime=2020-01-01", True)):
        text = httpx.get(f"{url}/ogcapi/collections/regular/coverage?f=html{query}").text
        assert ("f=geotiff" in text, "f=netcdf" in text) == (offered, True), query


def test_pages_of_an_api_begin_with_its_links(url: str) -> None:
    for path in ("/stac", "/ogcapi"):
        text = httpx.get(f"{url}{path}?f=html").text
        assert text.count(f'href="{url}/stac/search"') == (path == "/stac"), "a page cannot send a POST"
        assert 0 < text.index("<h2>Links</h2>") < text.find("conf/core") or "conf/core" not in text
    assert "conf/core" in httpx.get(f"{url}/ogcapi/conformance?f=html").text
    assert "http://www.opengis.net/def/rel" not in httpx.get(f"{url}/ogcapi/collections/regular?f=html").text.split("<details")[0]


@pytest.mark.browser
def test_on_a_phone_a_plot_is_whole_and_marks_the_time_of_the_map(page: Callable[..., Page]) -> None:
    opened = page("/datasets/regular?f=html&at=0,0", width=390, height=800)
    shown, drawn = opened.evaluate(
        "(() => { const e = document.querySelector('img.plot'); return [e.currentSrc, e.getBoundingClientRect().width] })()"
    )
    assert "w=360" in shown
    assert 300 < drawn <= 390
    assert opened.evaluate("document.querySelector('.plotted').scrollWidth - document.querySelector('.plotted').clientWidth") <= 0
    assert opened.evaluate("document.querySelector('.plotted svg').getAttribute('viewBox')") == "0 0 360 320"
    assert float(opened.evaluate("document.querySelector('.now').getAttribute('d').match(/[0-9.]+/)[0]")) <= 346
    wide = page("/datasets/regular?f=html&at=0,0")
    assert "w=" not in wide.evaluate("document.querySelector('img.plot').currentSrc")
    alone = page("/datasets/regular/plot?at=0,0&w=500&f=html", width=390, height=800)
    assert alone.evaluate("document.querySelector('img.plot').currentSrc").endswith("w=360")


def test_a_shared_view_has_its_part_of_the_map_and_wrong_ones_are_refused(url: str) -> None:
    text = httpx.get(f"{url}/datasets/regular?f=html&bbox=-10,40,10,50").text
    assert 'viewBox="-10.0 -50.0 20.0 10.0"' in text
    assert '<input type="hidden" name="bbox" value="-10,40,10,50">' in text  # so that the form keeps it
    home = re.search(r'data-home="([^"]+)"', text)
    assert home is not None
    assert home[1] != "-10.0 -50.0 20.0 10.0"
    for wrong in ("1,2,3", "a,b,c,d", "0,50,10,40", "0,0,10,91", "1e3,0,10,10", "nan,0,10,10"):
        answer = httpx.get(f"{url}/datasets/regular?f=html&bbox={wrong}")
        assert (answer.status_code, "west,south,east,north" in answer.text) == (400, True), wrong


def test_the_form_of_a_part_has_each_axis_and_variables_that_can_be_told_apart(url: str) -> None:
    text = unescape(httpx.get(f"{url}/datasets/members?f=html").text)
    form = text[text.index('<form class="choose part"') :]
    chosen = [re.findall(r'<option value="([^"]+)">', each) for each in re.findall(r'<select id="only.*?</select>', form)]
    assert chosen == [["level(850.0)", "level(500.0)", "level(200.0)"], [f"member({each})" for each in (1, 2, 3, 4)]]
    address = httpx.get(
        f"{url}/ogcapi/collections/members/coverage?f=html&form=csv&bbox=&properties=t&subset=level(500.0)&subset=member(3)"
    ).text
    assert "20 values" in address
    # A dataset without a place or a series is taken from its page too; names tell its variables apart.
    text = unescape(httpx.get(f"{url}/datasets/bins?f=html").text)
    assert '<a href="/datasets/bins/download">All of it (NetCDF)' in text
    assert re.findall(r'value="\w+"> ([^<]*)</label>', text) == ["count (a)", "count (b)"]


@pytest.mark.browser
def test_the_place_of_a_page_is_in_a_cell(page: Callable[..., Page]) -> None:
    """A sample of a grid, whose bounds leave gaps between its cells, also in the middle of them."""
    opened = page("/datasets/sample?f=html")
    _until(opened, "document.querySelector('[data-value]').textContent")
    assert opened.evaluate("document.querySelector('[data-value]').textContent") == "0"
    assert opened.told == []


def test_a_member_is_chosen_on_the_page_and_shown_everywhere(url: str) -> None:
    text = unescape(httpx.get(f"{url}/datasets/members?f=html&v=t&z=500.0&subset=member(3)&at=20,40").text)
    select = re.search(r'<select id="axis1" name="subset">(.*?)</select>', text)
    assert select is not None
    assert re.findall(r"<option( selected)?[^>]*>([^<]*)", select[1]) == [("", "1"), ("", "2"), (" selected", "3"), ("", "4")]
    assert re.findall(r"<option(?: selected)? value=[^>]*>([^<]*)", re.search(r'<select id="z".*?</select>', text)[0]) == [  # type: ignore[index]
        "850",
        "500",
        "200",
    ]
    assert ">member <select" in text  # no unit beside it: a number has none
    place = re.search(r'<a data-form="csv" href="([^"]+)"', text)
    plotted = re.search(r'<img class="plot" src="([^"]+)"', text)
    assert place is not None
    assert plotted is not None
    rows = list(csv.DictReader(io.StringIO(httpx.get(f"{url}{place[1]}").text)))
    assert [(row["member"], row["level"], float(row["t"])) for row in rows] == [("3", "500.0", 62.0), ("3", "500.0", 182.0)]
    assert "member 3" in httpx.get(f"{url}{plotted[1]}").text
    assert httpx.get(f"{url}/datasets/members?f=html&subset=member(9)").status_code == 400


@pytest.mark.browser
def test_a_chosen_member_stays_in_the_address_and_in_the_plots(page: Callable[..., Page]) -> None:
    opened = page("/datasets/members?f=html&v=t&subset=member(3)&at=20,40")
    opened.evaluate("document.querySelector('[data-zoom=\"0.5\"]').click()")
    opened.settle()
    assert "subset=member%283%29" in opened.evaluate("location.search")
    plots = opened.evaluate("[...document.querySelectorAll('img.plot')].map((each) => each.src).join(' ')")
    assert plots.count("subset=member%283%29") == 2
    assert opened.evaluate("document.querySelector('[data-value]').textContent") == "142"
    assert opened.evaluate("document.querySelector('[data-unit]').textContent") == ""
    opened.evaluate("(() => { const e = document.querySelector('[name=subset]'); e.selectedIndex = 0; e.onchange() })()")
    opened.settle()
    assert "subset=member%281%29" in opened.evaluate("document.querySelector('img.plot').src")


@pytest.mark.browser
def test_the_value_of_a_class_is_its_word(page: Callable[..., Page]) -> None:
    opened = page("/datasets/members?f=html&v=land&at=20,40")
    assert opened.evaluate("document.querySelector('[data-value]').textContent") == "dry land"


def test_what_was_asked_for_and_what_is_not_stated_are_in_words(url: str) -> None:
    nothing = httpx.get(f"{url}/?f=html&q=nowhere&bbox=0,0,1,1").text
    assert ">Remove </span>Words: nowhere " in nothing
    assert ">Remove </span>Place: 0,0,1,1 " in nothing
    assert "all of them must be there" in nothing
    collection = httpx.get(f"{url}/stac/collections/members?f=html").text
    assert re.search(r"Licence</dt>\s*<dd>not stated<", collection) is not None
    for path in ("datasets/members?f=html&v=nope", "datasets/members/plot?at=0,40&v=nope"):
        answer = httpx.get(f"{url}/{path}")
        assert (answer.status_code, "v: name one of t, land" in answer.text) == (400, True), answer.text


def test_a_shared_view_has_its_colours(url: str) -> None:
    """The map and the legend of the page are those of the palette and the range in the address, without scripts."""
    text = httpx.get(f"{url}/datasets/regular?f=html&look=magma&range=0,50").text
    drawn = re.search(r'<image class="data" href="([^"]+)"', text)
    legend = re.search(r'<img class="legend" src="([^"]+)"', text)
    assert drawn is not None
    assert legend is not None
    picture, plain = unescape(drawn[1]), re.sub(r"&(palette|range)=[^&]*", "", unescape(drawn[1]))
    assert picture != plain
    asked = httpx.get(f"{url}{plain}&palette=magma&range=0,50").content
    assert httpx.get(f"{url}{picture}").content == asked
    assert httpx.get(f"{url}{plain}").content != asked
    stops = httpx.get(f"{url}{unescape(legend[1])}&f=json").json()
    assert stops["range"] == [0, 50]
    assert stops != httpx.get(f"{url}/datasets/regular/legend?properties=t&range=0,50&f=json").json()
    assert "<option selected>magma</option>" in text
    link = re.search(r'data-link="view" href="([^"]+)"', text)
    assert link is not None
    assert httpx.get(f"{url}{unescape(link[1])}").text == text
    assert "palette=magma" in (re.search(r'property="og:image" content="([^"]+)"', text) or [""])[1]
    # A form sends what is empty too.
    assert httpx.get(f"{url}/datasets/regular?f=html&look=&range=&at=0,0").status_code == 200
    for wrong in ("look=nix", "range=5,1", "range=a,b", "range=nan,1", "range=1"):
        assert httpx.get(f"{url}/datasets/regular?f=html&{wrong}").status_code == 400, wrong


def test_a_level_is_drawn_in_the_range_of_its_values(url: str) -> None:
    """The page, its legend and the preview of its link, unless the view has a range of its own."""

    def seen(query: str) -> tuple[str, list[float], str]:
        text = httpx.get(f"{url}/datasets/members?f=html&v=t{query}").text
        places = r'class="data" href="([^"]+)"', r'class="legend" src="([^"]+)"', r'og:image" content="([^"]+)"'
        found = [re.search(each, text) for each in places]
        picture, legend, preview = (unescape(each[1]) for each in found if each is not None)
        return picture, httpx.get(f"{url}{legend}&f=json").json()["range"], unquote(preview)

    picture, level, preview = seen("&z=500.0")
    assert "range=level" in picture
    assert "subset=level(500.0)" in preview
    assert "range=level" in preview
    assert 40 <= level[0] <= 50  # the values of this level are 40 to 79 and 160 to 199
    assert 190 <= level[1] <= 200
    picture, whole, preview = seen("&z=500.0&range=auto")
    assert "range=level" not in picture + preview
    assert whole == httpx.get(f"{url}/datasets/members/legend?properties=t&f=json").json()["range"]
    assert whole != level
    assert seen("&z=500.0&range=0,5")[1] == [0, 5]


@pytest.mark.browser
def test_the_legend_follows_the_level(page: Callable[..., Page]) -> None:
    opened = page("/datasets/members?f=html&v=t&z=500.0")
    source = "new URLSearchParams(document.querySelector('.legend').src.split('?')[1]).get('subset')"
    assert opened.evaluate(source).startswith("level(500.0)")
    opened.evaluate("const z = document.querySelector('#z'); z.value = '200.0'; z.onchange()")
    _until(opened, f"{source}.startsWith('level(200.0)')")
    opened.settle()
    assert opened.told == []


@pytest.mark.parametrize(
    "query", ["at=-157,75", "at=-157,75&relative-to=2020/2020&period=day", "at=-157,75&t=2020-01-01/2020-01-02"]
)
def test_a_plot_is_a_page_with_its_values(url: str, query: str) -> None:
    address = f"{url}/datasets/regular/plot?{query}"
    page = httpx.get(f"{address}&f=html")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8"), page.text
    rows = list(csv.reader(io.StringIO(httpx.get(f"{address}&f=csv").text)))
    cells = [unescape(each) for each in re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page.text)]
    assert cells == [each for row in rows for each in row]
    assert len(rows) == (3 if "&t=" in query else 4)
    if query == "at=-157,75":
        edr = "/ogcapi/collections/regular/position?coords=POINT(-157 75)&parameter-name=t&f=csv"
        assert httpx.get(f"{url}{edr}").text == httpx.get(f"{address}&f=csv").text
    picture = re.search(r'<img class="plot" src="([^"]+)"', page.text)
    assert picture is not None
    assert httpx.get(f"{url}{unescape(picture[1])}").content == httpx.get(address).content
    again = httpx.get(f"{address}&f=html", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    for wrong in ("at=x&f=html", "f=html", "at=0,0&v=nix&f=html"):
        refused = httpx.get(f"{url}/datasets/regular/plot?{wrong}")
        assert (refused.status_code, refused.headers["content-type"]) == (400, "text/html; charset=utf-8"), wrong


def test_a_name_that_is_not_there_can_be_searched(url: str) -> None:
    text = httpx.get(f"{url}/datasets/regulr?f=html").text
    assert 'value="regulr"' in text
    assert "GET http" not in text


def test_without_scripts_the_value_at_a_place_is_one_link_away(url: str) -> None:
    text = httpx.get(f"{url}/datasets/regular?f=html&t=2020-01-02&at=5,3").text
    (link,) = re.findall(r'<noscript><a href="([^"]+)">Its value</a>', text)
    shown = httpx.get(f"{url}{unescape(link)}").text
    rows = list(csv.reader(io.StringIO(httpx.get(f"{url}{unescape(link).replace('f=html', 'f=csv')}").text)))
    assert len(rows) == 2
    assert all(f"<td>{each}</td>" in shown for each in rows[1])
    assert "<p>1 value, about" in shown


@pytest.mark.browser
@pytest.mark.parametrize("map_", ["world", "north"])
def test_a_view_that_is_shared_is_seen_the_same(page: Callable[..., Page], tmp_path: Path, map_: str) -> None:
    """The map is moved and zoomed; the address then gives the same pixels in a page that was never moved."""
    mine = page(f"/datasets/regular?f=html&map={map_}")
    mine.evaluate("document.querySelector('[data-zoom=\"0.5\"]').click()")
    _until(mine, "location.search.includes('bbox=')")
    mine.settle()
    picture = mine.screenshot(tmp_path / "mine.png").read_bytes()
    link = mine.evaluate("document.querySelector('[data-link=view]').getAttribute('href')")
    theirs = page(f"{link}&f=html")
    seen = (
        "[document.querySelector('svg.view').getAttribute('viewBox').split(' ').map(Number),"
        "decodeURIComponent(document.querySelector('image.data').getAttribute('href'))]"
    )
    views = [each.evaluate(seen) for each in (mine, theirs)]
    assert views[0] == views[1]
    assert "bbox=" in views[0][1]
    assert theirs.screenshot(tmp_path / "theirs.png").read_bytes() == picture


@pytest.mark.browser
@pytest.mark.parametrize(("map_", "crs"), [("north", "EPSG:3995"), ("south", "EPSG:3031")])
def test_a_place_of_a_polar_map_is_where_it_was_pressed(page: Callable[..., Page], url: str, map_: str, crs: str) -> None:
    opened = page(f"/datasets/regular?f=html&map={map_}")
    to_degrees = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    left, top, width, height = opened.evaluate(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('svg.view').getBoundingClientRect())"
    )
    x0, y0, across, down = opened.evaluate("document.querySelector('svg.view').getAttribute('viewBox').split(' ').map(Number)")
    for right, below in ((0.5, 0.42), (0.61, 0.55), (0.44, 0.68), (0.3, 0.5)):
        x, y = round(left + width * right), round(top + height * below)
        opened.drag((x, y), (x, y))
        _until(opened, "document.querySelector('[data-value]').textContent")
        lon, lat = to_degrees.transform(x0 + (x - left) / width * across, -(y0 + (y - top) / height * down))
        at = [float(each) for each in opened.evaluate("document.getElementById('at').value").split(",")]
        assert at == pytest.approx([lon, lat], abs=0.002), (right, below)
        spot = opened.evaluate("document.querySelector('.pin').getAttribute('d')")
        assert [float(each) for each in spot[1:-2].split()] == pytest.approx(
            [x0 + (x - left) / width * across, y0 + (y - top) / height * down], abs=300
        )
        edr = httpx.get(f"{url}/ogcapi/collections/regular/position?coords=POINT({lon:.3f} {lat:.3f})&parameter-name=t&f=csv").text
        _until(opened, f"document.querySelector('[data-at]').textContent.startsWith({json.dumps(f'{at[0]:g}, ')})")
        opened.settle()
        value = opened.evaluate("document.querySelector('[data-value]').textContent").split()[0]
        assert float(value) == pytest.approx(float(edr.strip().splitlines()[-1].split(",")[-1]), rel=1e-5)
    # The data in view: with the pole in it, all around it.
    box = opened.evaluate("new URL(document.querySelector('[data-link=data]').href).searchParams.get('bbox')").split(",")
    assert (float(box[0]), float(box[2]), abs(float(box[3 if map_ == "north" else 1]))) == (-180, 180, 90)


def test_a_map_of_a_pole_is_refused_where_there_are_no_data(url: str) -> None:
    text = httpx.get(f"{url}/datasets/regular?f=html&map=north").text
    assert "crs=EPSG%3A3995" in text
    assert '<input type="hidden" name="map" value="north">' in text
    answer = httpx.get(f"{url}/datasets/rotated-pole?f=html&map=south")
    assert (answer.status_code, "rotated-pole" in answer.text or "not near that pole" in answer.text) == (400, True)
    assert httpx.get(f"{url}/datasets/regular?f=html&map=").status_code == 200


@pytest.mark.browser
def test_the_data_in_view_are_those_of_the_map(page: Callable[..., Page], url: str, tmp_path: Path) -> None:
    """One member and one level, and across 180 degrees what is east of it too."""
    link = "document.querySelector('[data-link=data]').href"
    opened = page("/datasets/members?f=html&v=t&z=500.0&subset=member(3)&at=20,40&bbox=5,35,25,55")
    _until(opened, "!document.querySelector('[data-in-view]').hidden")
    assert "kB" in opened.evaluate("document.querySelector('[data-size]').textContent")
    (tmp_path / "t.nc").write_bytes(httpx.get(opened.evaluate(link)).content)
    with xr.open_dataset(tmp_path / "t.nc") as seen:
        assert (seen.t.size, float(seen.level), float(seen.member)) == (2 * 2, 500.0, 3.0)
        assert seen.t.squeeze().values.tolist() == (np.arange(240.0).reshape(2, 3, 4, 2, 5)[1, 1, 2, :, 1:3]).tolist()
    opened = page("/datasets/regular?f=html&bbox=170,-40,200,-10")
    _until(opened, f"new URL({link}).searchParams.has('bbox')")
    assert opened.evaluate(f"new URL({link}).searchParams.get('bbox')").startswith("170,")
    box = [float(each) for each in opened.evaluate(f"new URL({link}).searchParams.get('bbox')").split(",")]
    assert (box[0], box[2]) == (170, -160)


@pytest.mark.browser
def test_the_coast_is_finer_when_the_map_is_near(page: Callable[..., Page]) -> None:
    opened = page("/datasets/regular?f=html")
    lines = "[...document.querySelectorAll('path.coast')].map(each => each.getAttribute('d').length)"
    assert len(opened.evaluate(lines)) == 3
    for _ in range(3):
        opened.evaluate("document.querySelector('[data-zoom=\"0.5\"]').click()")
    _until(opened, "document.querySelectorAll('path.coast').length === 1")
    assert opened.evaluate("getComputedStyle(document.querySelector('.land')).display") == "none"
    opened.evaluate("document.querySelector('[data-zoom=home]').click()")
    _until(opened, "document.querySelectorAll('path.coast').length === 3")
    assert opened.told == []


@pytest.mark.browser
def test_the_parallels_of_a_polar_map_have_their_latitudes(page: Callable[..., Page]) -> None:
    shown = page("/datasets/regular?f=html&map=north")
    sizes = shown.evaluate(
        "[...document.querySelectorAll('text.coast')].map(each => [each.textContent, each.getBoundingClientRect().height])"
    )
    assert {"60°N", "70°N"} <= {words for words, _ in sizes}
    assert all(9 < height < 18 for _, height in sizes)


@pytest.mark.browser
def test_a_series_without_a_place_is_drawn_and_each_tab_shows_its_lines(page: Callable[..., Page]) -> None:
    opened = page("/datasets/index?f=html")
    assert opened.evaluate("document.querySelector('img.plot').naturalWidth") > 0
    assert "Along time" in opened.text()
    tabs = int(opened.evaluate("document.querySelectorAll('.tabs input').length"))
    assert tabs >= 7
    for number in range(tabs):
        opened.evaluate(f"document.querySelectorAll('.tabs input')[{number}].click()")
        assert opened.evaluate(f"document.querySelectorAll('.pane')[{number}].offsetHeight") > 0, number


@pytest.mark.browser
def test_at_a_place_without_data_words_are_in_place_of_the_plot(page: Callable[..., Page]) -> None:
    """A browser shows a picture that is not there as a broken one."""
    opened = page("/datasets/rotated-pole?f=html")
    shown = "[...document.querySelectorAll('.plotted > *')].filter((each) => getComputedStyle(each).display !== 'none').length"
    assert opened.evaluate(f"{shown} === 2 && !document.querySelector('.plotted').innerText")
    opened.evaluate("document.querySelector('#at').value = '10,-80'; document.querySelector('#at').onchange()")
    opened.settle()
    assert opened.evaluate(f"{shown} === 1 && document.querySelector('.plotted').innerText").startswith("There are no data")


@pytest.mark.browser
def test_a_box_is_drawn_on_the_map_of_the_landing_page(page: Callable[..., Page]) -> None:
    opened = page(PAGES["landing"], height=2000)
    opened.evaluate("document.getElementById('drawn').open = true")
    x, y, w, h = opened.evaluate(
        "(() => { const r = document.querySelector('#drawn svg').getBoundingClientRect(); return [r.x, r.y, r.width, r.height] })()"
    )
    opened.drag((x + w * 0.5, y + h * 0.5), (x + w * 0.75, y + h * 0.25))
    assert opened.evaluate("document.getElementById('bbox').value") == "0,0,90,45"


def test_an_operator_follows_jobs_with_a_key_and_reads_why_one_failed(page: Callable[..., Page], key: str, tmp_path: Path) -> None:
    opened = page(PAGES["jobs"])
    assert opened.evaluate("document.getElementById('work').hidden") is True
    opened.evaluate(f"document.getElementById('secret').value = {json.dumps(key)}; document.querySelector('#key button').click()")
    _until(opened, "document.querySelectorAll('#jobs li').length >= 5")
    failed = opened.evaluate("[...document.querySelectorAll('#jobs li')].find(e => e.querySelector('.failed')).innerText")
    assert "bad" in failed
    assert "NetCDF" in failed or "format" in failed
    assert "Retry" not in failed  # its file was named on the command line, where it can be run again
    assert key not in opened.evaluate("document.documentElement.outerHTML")
    # A file of the browser's becomes a dataset, and its progress is followed to the end.
    opened.evaluate(
        "(() => { const f = document.getElementById('ingest'); f.elements.dataset_id.value = 'later';"
        "f.elements.source.value = 'nowhere/*.nc'; f.requestSubmit(); })()"
    )
    _until(opened, "document.getElementById('said').innerText.length > 0")
    assert opened.evaluate("document.getElementById('said').innerText") != ""
    opened.evaluate("document.getElementById('forget').click()")
    _until(opened, "document.getElementById('work').hidden")
    assert opened.evaluate("sessionStorage.length") == 0


@pytest.mark.browser
def test_an_operator_syncs_a_dataset_with_the_form(tmp_path: Path, browser: Browser) -> None:
    """The plan says the month that is missing, and the sync adds it."""
    root = tmp_path / "instance"
    assert here("init", root, "--allow-root", tmp_path).returncode == 0
    for month in (1, 2, 3):
        values = xr.DataArray(np.full((1, 2, 2), month, "f4"), dims=("time", "lat", "lon"), attrs={"units": "K"})
        days = {"units": "days since 2020-01-01", "standard_name": "time"}
        data = xr.Dataset({"tas": values}, {"time": ("time", [[0.0], [31.0], [60.0]][month - 1], days)})
        data = data.assign_coords(
            lat=("lat", [0.0, 1.0], {"units": "degrees_north"}), lon=("lon", [0.0, 1.0], {"units": "degrees_east"})
        )
        data.to_netcdf(tmp_path / f"tas_2020{month:02}.nc")
    template = {"id": "tas", "title": "Air", "period_type": "monthly", "sync": {"kind": "temporal"}}
    template["source"] = {"kind": "files", "paths": f"{tmp_path}/tas_*.nc"}
    (root / "config/datasets").mkdir(parents=True, exist_ok=True)
    (root / "config/datasets/tas.yaml").write_text(json.dumps(template))
    assert here("ingest", "tas", "--start", "2020-01", "--end", "2020-02", "--instance", root).returncode == 0
    key = str(json.loads(here("keys", "add", "ann", "--scope", "ingest", "--instance", root, "--json").stdout)["key"])
    process, url = start(root)
    opened = browser.open(f"{url}/jobs")
    try:
        opened.evaluate(
            f"document.getElementById('secret').value = {json.dumps(key)}; document.querySelector('#key button').click()"
        )
        _until(opened, "!document.getElementById('work').hidden")
        opened.evaluate("document.querySelector('#sync [name=dataset_id]').value = 'tas'; document.getElementById('plan').click()")
        _until(opened, "document.getElementById('said').innerText.startsWith('tas:')")
        assert "2020-03" in opened.evaluate("document.getElementById('said').innerText")
        assert httpx.get(f"{url}/datasets/tas").json()["extent"]["temporal"]["end"].startswith("2020-02")
        opened.evaluate("document.querySelector('#sync button').click()")
        _until(opened, "document.querySelectorAll('#jobs li .completed').length === 2")
        assert httpx.get(f"{url}/datasets/tas").json()["extent"]["temporal"]["end"].startswith("2020-03")
        assert opened.told == []
    finally:
        opened.close()
        stop(process)


def _until(opened: Page, condition: str) -> None:
    for _ in range(100):
        if opened.evaluate(f"Boolean({condition})"):
            return
        opened.settle()
    raise AssertionError(f"never: {condition}; {opened.told}; {opened.evaluate('document.body.innerText')[:2000]}")


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the data of ``cubeport demo``."""
    root = tmp_path_factory.mktemp("demonstration") / "demo"
    assert here("demo", root, "--no-serve").returncode == 0
    process, url = start(root)
    yield url
    stop(process)


DOCUMENTED = {"landing": "/?f=html", "dataset": "/datasets/a1b-temperature?f=html", "jobs": "/jobs"}


@pytest.mark.browser
@pytest.mark.parametrize("name", DOCUMENTED)
def test_screenshots_of_the_documentation_are_made(browser: Browser, demonstration: str, name: str, tmp_path: Path) -> None:
    """Made anew by each run of this lane, of the demonstration; with CUBEPORT_SCREENSHOTS they go into ``docs/images``."""
    opened = browser.open(f"{demonstration}{DOCUMENTED[name]}", height=1000)
    made = opened.screenshot(tmp_path / f"{name}.png", whole=name == "jobs")
    opened.close()
    assert made.read_bytes()[:4] == b"\x89PNG"
    assert made.stat().st_size > 20_000
    if os.environ.get("CUBEPORT_SCREENSHOTS"):
        shutil.copy(made, IMAGES / f"{name}.png")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1240, 820, 390])
def test_no_column_of_the_variables_is_cut(page: Callable[..., Page], width: int) -> None:
    """The last column, the dimensions, was beyond the edge of its box."""
    opened = page("/datasets/regular?f=html", width=width)
    wide, seen = opened.evaluate(
        "(each => [each.scrollWidth, each.clientWidth])(document.querySelector('.variables').parentElement)"
    )
    assert wide <= seen
    assert opened.evaluate("document.querySelector('.variables td:last-child').getBoundingClientRect().right") <= width
