"""Pages that ask nothing of other hosts, escape what they show, and can be read by everybody."""

from __future__ import annotations

import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jinja2
import pytest

from cubeport import errors
from cubeport.documents.licences import in_words
from cubeport.documents.native import Periods, period_labels
from cubeport.server.app import App
from cubeport.server.browsing import BROWSABLE, _limited
from cubeport.server.html import _few, _options, _span

from . import conftest
from .conftest import GONE, PATH, URL, V1, V2, Client, FakeEngine, FakeService, Live, described, make_parts

PAGES = [
    "/?f=html",
    "/datasets/sea?f=html",
    "/docs",
    "/help",
    "/docs/calendars",
    "/problems/gap?f=html",
    "/datasets/sea@first?f=html",
]


class Outline(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(client: Client, path: str) -> Outline:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Outline(answer.text)


@pytest.mark.parametrize("path", PAGES)
class TestEveryPage:
    def test_nothing_comes_from_another_host(self, client: Client, path: str) -> None:
        outline = page(client, path)
        tags = [tag for name in ("script", "link", "img") for tag in outline.all(name) if tag.get("rel") != "canonical"]
        loaded = [tag.get("src") or tag.get("href") for tag in tags]
        fetched = [href for href in loaded if href]
        assert len(fetched) >= 2
        assert all(href.startswith(f"{PATH}/") for href in fetched)
        for href in fetched:
            assert client.get(href.removeprefix(PATH)).status_code == 200

    def test_no_inline_code_and_a_policy(self, client: Client, path: str) -> None:
        outline = page(client, path)
        assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on") or name == "style"]
        assert outline.all("style") == []
        assert [tag for tag in outline.all("script") if "src" not in tag and tag.get("type") != "application/ld+json"] == []
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy

    def test_language_landmarks_heading_and_labels(self, client: Client, path: str) -> None:
        outline = page(client, path)
        assert outline.all("html") == [{"lang": "en"}]
        assert [len(outline.all(tag)) for tag in ("header", "main", "footer", "h1", "title")] == [1] * 5
        assert all("alt" in image for image in outline.all("img"))
        labelled = {label.get("for") for label in outline.all("label")}
        assert {field["id"] for field in outline.all("input") if field.get("type") != "hidden"} <= labelled
        ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
        assert len(set(ids)) == len(ids)
        named = {attributes[name] for _, attributes in outline.tags for name in ("aria-labelledby",) if name in attributes}
        assert named <= set(ids)
        assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in outline.all("svg"))


def test_labels_are_options_with_one_chosen_and_nothing_breaks_out() -> None:
    labels = ["2020-01-01T00:00:00Z", '"><script>', "850"]
    wanted = jinja2.Environment(autoescape=True).from_string(
        """{% for label in labels %}<option{{ " selected" if loop.index0 == 1 }}>{{ label }}</option>{% endfor %}"""
    )

    def read(text: str) -> list[tuple[str, dict[str, str | None]]]:
        return Outline(text).tags

    assert read(str(_options(labels, 1))) == read(wanted.render(labels=labels))
    assert "<script>" not in str(_options(labels, 0))
    assert read(str(_options(["1000.0", "850.0"], 0)))[0] == ("option", {"value": "1000.0", "selected": None})
    assert read(str(_options(["1", "2"], 1, None, ["m(1)", 'm("2")'])))[1] == ("option", {"value": 'm("2")', "selected": None})


@pytest.mark.parametrize(
    ("period", "labels", "shown"),
    [
        ("monthly", ["2020-01-16T12:00:00Z", "2020-02-15T00:00:00Z"], ["2020-01", "2020-02"]),
        ("yearly", ["2019-12-01T00:00:00Z", "2020-12-01T00:00:00Z"], ["2019", "2020"]),
        ("daily", ["2020-01-01T12:00:00Z", "2020-01-02T12:00:00Z"], ["2020-01-01", "2020-01-02"]),
        ("monthly", ["2020-01-01T00:00:00Z", "2020-01-16T00:00:00Z"], ["2020-01-01", "2020-01-16"]),  # two steps in a month
        ("hourly", ["2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z"], ["2020-01-01T00:00", "2020-01-01T01:00"]),
        ("hourly", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:30Z"], ["2020-01-01T00:00:00Z", "2020-01-01T00:00:30Z"]),
        (None, ["1", "2"], ["1", "2"]),
    ],
)
def test_a_month_is_shown_and_asked_for_as_its_month(period: str | None, labels: list[str], shown: list[str]) -> None:
    found = Outline(str(_options(labels, 0, period)))
    assert ["value" in attributes for _, attributes in found.tags] == [False] * len(labels)  # then its text is its value
    assert list(period_labels(labels, period)) == shown
    assert re.findall(r">([^<]+)", str(_options(labels, 0, period))) == shown


@pytest.mark.parametrize(("query", "wanted"), [("f=html", 25), ("f=html&limit=3", 3), ("f=json", None)])
def test_a_page_lists_as_many_datasets_as_a_person_reads(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch, query: str, wanted: int | None
) -> None:
    asked: list[Any] = []
    datasets = service.datasets
    monkeypatch.setattr(service, "datasets", lambda **given: asked.append(given.get("limit")) or datasets(**given))
    assert client.get(f"/datasets?{query}").status_code == 200
    assert asked[-1] == (100 if wanted is None else wanted)


@pytest.mark.parametrize("face", ["/stac/collections", "/ogcapi/collections", "/records"])
@pytest.mark.parametrize("name", ["collections", "records", "datasets", "ingestions"])
def test_one_entry_is_no_list_whatever_its_name(face: str, name: str) -> None:
    assert _limited(face, b"") == b"limit=25"
    assert _limited(f"{face}/{name}", b"") == b""


def test_every_tab_has_a_pane_that_shows() -> None:
    """Two of the nine tabs showed nothing: the style counted to seven."""
    style = (files("cubeport.server") / "assets" / "cubeport.css").read_text()
    shown = {int(number) for number in re.findall(r":checked ~ \.pane:nth-of-type\((\d+)\)", style)}
    assert shown == set(range(1, 11))


def test_only_the_page_of_routes_loads_the_colours_of_swagger_ui(client: Client) -> None:
    style = client.get("/assets/cubeport.css").text
    assert "swagger" not in style, "each page would load it, and that of a long series is at the budget of 30 kB"
    assert "#swagger" in client.get("/assets/docs.css").text
    assert "/assets/docs.css" in client.get("/docs", headers={"Accept": "text/html"}).text
    assert "/assets/docs.css" not in client.get("/", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("f=covjson", "text/html,*/*;q=0.8", "text/html"),
        ("f=json", "text/html,*/*;q=0.8", "application/problem+json"),
        ("f=covjson", "*/*", "application/problem+json"),
        ("", "text/html,*/*;q=0.8", "text/html"),
    ],
)
def test_a_browser_reads_a_problem_as_a_page_whatever_file_it_asked_for(client: Client, query: str, accept: str, kind: str) -> None:
    answer = client.get(f"/datasets/nowhere/download?{query}", headers={"Accept": accept})
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"].partition(";")[0] == kind


class TestLanding:
    def test_json_by_default_html_for_browsers(self, client: Client) -> None:
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        kinds = {
            accept: client.get("/", headers={"Accept": accept}).headers["content-type"]
            for accept in ("*/*", "application/json", browser["Accept"], "application/json;q=0.5, text/html")
        }
        assert list(kinds.values()) == ["application/json", "application/json", *["text/html; charset=utf-8"] * 2]
        answer = client.get("/", headers={"Accept": "image/png"})
        assert (answer.status_code, answer.json()["kind"]) == (406, "not-acceptable")
        assert client.get("/?f=json", headers=browser).headers["content-type"] == "application/json"
        assert client.get("/?f=xml").status_code == 400
        assert "Accept" in client.get("/").headers["vary"]

    def test_every_face_is_linked_and_answers(self, client: Client) -> None:
        links = {link["rel"]: link for link in client.get("/").json()["links"]}
        assert {"self", "stac", "ogc", "data", "service-doc", "service-desc"} <= set(links)
        for rel, link in links.items():
            if rel != "ogc":
                answer = client.get(link["href"].removeprefix(URL), headers={"Accept": link["type"]})
                assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
                    200,
                    link["type"].partition(";")[0],
                )

    def test_datasets_and_their_faces(self, client: Client, service: FakeService) -> None:
        text = client.get("/?f=html&q=sea+ice").text
        assert service.filters["q"] == "sea ice"
        for href in (
            f"{URL}/zarr/sea",
            f"{URL}/stac/collections/sea",
            f"{URL}/ogcapi/collections/sea",
            f"{URL}/datasets/sea/download",
        ):
            assert f'href="{href}"' in text
        words = text.replace("\N{NO-BREAK SPACE}", " ")
        assert "170° E" not in words
        assert "30° S to 30° N, 167.5° E to 152.5° W" in words
        service.unpublish("sea")
        assert "Nothing is published yet" in client.get("/?f=html").text

    def test_a_hostile_title_is_text(self, client: Client) -> None:
        for path in ("/?f=html", "/datasets/sea?f=html", '/?f=html&q="><script>alert(1)</script>'):
            text = client.get(path).text
            assert "<script>" not in text
            assert "${HOME} {{7*7}} &#34;quoted&#34;" in text
            assert "49" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).replace("#34", "")


class TestDataset:
    def test_time_is_told_once_when_it_is_one_moment(self) -> None:
        def told(start: str, end: str) -> str:
            return _span(Periods(start=start, end=end))

        assert told("2020-01", "2020-12") == "2020-01 to 2020-12"
        assert told("1998-12-01T00:00:00Z", "1998-12-01T00:00:00Z") == "1998-12-01"

    def test_linked_data_is_json_whatever_the_title(self, client: Client) -> None:
        [block] = re.findall(
            r'<script type="application/ld\+json">(.*?)</script>', client.get("/datasets/sea?f=html").text, re.DOTALL
        )
        assert json.loads(block)["name"] == "Sea <script>"

    def test_snippets_name_the_real_id_and_its_pin(self, client: Client) -> None:
        text = client.get("/datasets/sea?f=html").text
        assert f"{URL}/zarr/sea.zarr" in text
        assert f"{URL}/zarr/sea@{V2}.zarr" in text


def test_every_kind_is_explained(client: Client) -> None:
    for kind in errors.kinds():
        document = client.get(f"/problems/{kind.kind}").json()
        assert (document["kind"], document["title"]) == (kind.kind, kind.title())
    assert client.get("/problems/nonsense").status_code == 404


def test_what_ships_is_what_is_recorded() -> None:
    folder = files("cubeport.server") / "assets" / "swagger-ui"
    recorded = dict(re.findall(r"\| `([\w.-]+)` \| `([0-9a-f]{64})` \|", (folder / "README.md").read_text()))
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in recorded} == recorded
    assert len(recorded) == 2
    assert "Apache License" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("name", ["nix.css", "..%2Fapp.py", "README.md", "%2e%2e", "swagger-ui"])
def test_only_named_assets_are_served(client: Client, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404


def test_the_coast_of_a_part_is_a_picture_of_it(client: Client) -> None:
    found = client.get("/coast.svg?bbox=-10,35,5,45&width=600")
    assert (found.status_code, found.headers["content-type"]) == (200, "image/svg+xml")
    root = ET.fromstring(found.content)
    assert root.get("viewBox") == "0 0 600 400"
    assert len(root.find("{http://www.w3.org/2000/svg}path").get("d", "")) > 500  # type: ignore[union-attr]
    assert client.get("/coast.svg?bbox=-10,35,5,45&width=600", headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    assert client.get("/coast.svg?bbox=-4e6,0,4e6,1&crs=EPSG:3995").status_code == 400
    assert client.get("/coast.svg?bbox=-4000000,-4000000,4000000,4000000&crs=EPSG:3995&width=400").status_code == 200
    for wrong in ("", "?bbox=0,0,1", "?bbox=0,50,10,40", "?bbox=0,0,10,10&crs=EPSG:4326", "?bbox=0,0,10,10&width=99999"):
        assert client.get(f"/coast.svg{wrong}").status_code == 400, wrong


def test_text_is_compressed_with_a_tag_of_its_own(client: Client) -> None:
    plain = client.get("/assets/cubeport.css", headers={"Accept-Encoding": "identity"})
    small = client.get("/assets/cubeport.css", headers={"Accept-Encoding": "gzip"})
    assert (plain.headers.get("content-encoding"), small.headers["content-encoding"]) == (None, "gzip")
    assert plain.content == small.content
    assert plain.headers["etag"] != small.headers["etag"]
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert {plain.headers["vary"], small.headers["vary"]} == {"Accept-Encoding"}
    assert client.get("/", headers={"Accept-Encoding": "gzip;q=0"}).headers.get("content-encoding") is None


def test_the_first_load_is_small(client: Client) -> None:
    sizes = [int(client.get(path).headers["content-length"]) for path in ("/?f=html", "/assets/cubeport.css", "/assets/icon.svg")]
    assert sum(sizes) < 20_000


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/?f=html", "/docs", "/datasets/sea?f=html"])
def test_a_browser_shows_it_without_errors(live: Live, path: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    options: list[Any] = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    rules = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", f"--user-data-dir={tmp_path}", "--dump-dom"]
    run = subprocess.run([chromium, *options, *rules, f"{live.url}{path}"], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in run.stderr
    if path == "/docs":
        assert "/ingestions/{ingestion_id}" in run.stdout.replace("\u200b", "").replace("<wbr>", "")


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
DOCUMENTS = (
    *("/datasets", "/datasets/sea/versions", f"/datasets/sea/versions/{V1}", "/dataset-templates", "/dataset-templates/air"),
    *("/extent", "/extent/north", "/info", "/ingestions", "/stac", "/stac/conformance", "/stac/collections"),
    *("/stac/collections/sea", "/stac/collections/sea/items", f"/stac/collections/sea/items/sea@{V1}", "/stac/search", "/zarr/sea"),
)


@pytest.mark.parametrize("path", DOCUMENTS)
class TestDocumentsAsPages:
    def test_a_browser_gets_a_page_and_others_the_document(self, client: Client, path: str) -> None:
        document = client.get(path)
        assert "json" in document.headers["content-type"]
        assert "Accept" in document.headers["vary"]
        page = client.get(path, headers=BROWSER)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert client.get(f"{path}?f=html").text == page.text
        assert client.get(f"{path}?f=json", headers=BROWSER).headers["content-type"] == document.headers["content-type"]
        for link in document.json().get("links", ()):
            if link["rel"] not in ("self", "next") and "{" not in link["href"]:
                assert f'href="{link["href"]}"'.replace("&", "&amp;") in page.text, link

    def test_it_is_conditional_has_a_head_and_a_policy(self, client: Client, path: str) -> None:
        page, document = client.get(path, headers=BROWSER), client.get(path)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers.get("cubeport-version") == document.headers.get("cubeport-version")
        head = client.head(path, headers=BROWSER)
        assert (head.content, head.headers["content-type"]) == (b"", page.headers["content-type"])
        tag = page.headers.get("etag")
        assert (tag is None) == (document.headers.get("etag") is None)
        if tag is not None:
            assert tag != document.headers["etag"]
            assert client.get(path, headers=BROWSER | {"If-None-Match": tag}).status_code == 304
            assert client.get(path, headers={"If-None-Match": tag}).status_code == 200

    def test_it_is_one_of_our_pages(self, client: Client, path: str) -> None:
        outline = Outline(client.get(path, headers=BROWSER).text)
        assert [len(outline.all(tag)) for tag in ("header", "main", "footer", "h1", "title")] == [1] * 5
        assert "<script>" not in client.get(path, headers=BROWSER).text


class TestFailures:
    @pytest.mark.parametrize(
        ("path", "status", "title"),
        [
            ("/nix", 404, "There is no such thing"),
            ("/datasets/nix", 404, "There is no such thing"),
            (f"/datasets/sea@{GONE}", 410, "removed"),
            ("/datasets?limit=x&f=html", 400, "not valid"),
        ],
    )
    def test_a_browser_gets_a_page_with_the_same_status(self, client: Client, path: str, status: int, title: str) -> None:
        page, document = client.get(path, headers=BROWSER), client.get(path.removesuffix("&f=html"))
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert (document.status_code, document.headers["content-type"]) == (status, "application/problem+json")
        assert page.headers["cache-control"] == "no-store"
        assert document.json()["title"] in page.text
        assert page.headers["x-request-id"] in page.text

    def test_alternatives_are_buttons(self, service: FakeService, engine: FakeEngine) -> None:
        from cubeport.errors import TooLarge

        class Narrow:
            def routes(self) -> Any:
                from fastapi import APIRouter

                router = APIRouter()

                def refuse() -> None:
                    way = {"title": "Less <time>", "href": f"{URL}/ogcapi/collections/sea/coverage?datetime=2020&f=netcdf"}
                    raise TooLarge("Too many cells", alternatives=[way])

                router.add_api_route("/ogcapi/collections/{collection_id}/coverage", refuse)
                return router

        with Client(App(make_parts(service, engine, queries=Narrow()))) as client:
            page = client.get("/ogcapi/collections/sea/coverage", headers=BROWSER)
        assert page.status_code == 413
        where = f"{URL}/ogcapi/collections/sea/coverage?datetime=2020&amp;f=netcdf"
        assert f'<a class="button" href="{where}">Less &lt;time&gt;</a>' in page.text


class TestWords:
    def test_a_licence_that_nobody_stated_is_not_told(self, client: Client) -> None:
        assert [in_words(*each) for each in ((None, None), ("various", None), ("CC-BY-4.0", None), ("other", "https://a"))] == [
            *("not stated", "not stated", "CC-BY-4.0", "other")
        ]
        assert in_words("other", None) == "as stated in the attribution"  # its words are there
        for path in ("/?f=html", "/datasets/sea?f=html"):
            assert "various" not in client.get(path).text

    def test_a_pinned_page_says_so_and_versions_are_short(self, client: Client) -> None:
        pinned = client.get(f"/datasets/sea@{V1}?f=html").text
        assert "never changes" in pinned
        assert f'href="{PATH}/datasets/sea?f=html"' in pinned
        latest = client.get("/datasets/sea?f=html").text
        assert "never changes" not in latest
        assert f">{V1[:8]}…<" in latest

    def test_an_error_about_a_dataset_leads_back_to_its_page(self, client: Client) -> None:
        back = f'href="{PATH}/datasets/sea?f=html">The page of the dataset'
        for path in ("/datasets/sea?f=html&x=1", "/datasets/sea@nix?f=html", "/ogcapi/collections/sea/coverage?f=html&x=1"):
            assert back in client.get(path).text, path
        assert "The page of the dataset" not in client.get("/datasets/nix?f=html").text

    def test_a_single_place_is_written_once_and_its_map_shows_where_it_is(self) -> None:
        from cubeport.server.html import _place, frame, lead

        assert _place((13.4, 52.5, 13.4, 52.5)) == "52.5°\N{NO-BREAK SPACE}N, 13.4°\N{NO-BREAK SPACE}E"
        assert _place((-10, 0, 10, 0)) == "0°, 10°\N{NO-BREAK SPACE}W to 10°\N{NO-BREAK SPACE}E"
        assert (frame((13.4, 52.5, 13.4, 52.5))[2], frame((13.4, 52.5, 13.5, 52.5))[2]) == (30, 4)
        long = "A sentence of a long description. " * 20
        assert lead("short") == "short"
        assert lead(long) != long
        assert len(lead(long)) <= 321

    def test_what_has_no_place_has_no_map(self) -> None:
        from cubeport.server.html import _environment

        macro = _environment().from_string('{% from "_parts.html" import footprint with context %}{{ footprint(box, "x") }}')
        site = {"url": URL, "path": PATH}
        assert "<svg" not in macro.render(box=None, site=site)
        assert "No place" in macro.render(box=None, site=site)
        assert f'href="{PATH}/assets/land.svg"' in macro.render(box=(0, 0, 10, 10), site=site)

    @pytest.mark.parametrize(
        ("box", "view"),
        [
            ((-180, -90, 180, 90), (-180, -90, 360, 180)),
            ((170, -20, -170, 20), (-180, -90, 360, 180)),
            ((12, 55, 13, 56), (-17.5, -70.5, 60, 30)),
            ((-180, -90, -170, -80), (-180, 60, 60, 30)),
        ],
    )
    def test_a_small_map_shows_where_a_small_box_is(self, box: Any, view: Any) -> None:
        from cubeport.server.html import _view

        assert _view(box) == view


class TestExamples:
    def test_every_example_of_the_api_works_as_it_stands(self, client: Client) -> None:
        tried = 0
        for path, operations in client.get("/openapi.json").json()["paths"].items():
            parameters = operations.get("get", {}).get("parameters", ())
            values = {each["name"]: each["example"] for each in parameters if "example" in each}
            own = ("/", "/datasets/{dataset_id}", "/problems/{kind}", "/docs", "/assets/{name}")
            if "{ingestion_id}" in path or "{record_id}" in path or not (path in own or path in BROWSABLE):
                continue  # no example, or values
            query = {each["name"]: values[each["name"]] for each in parameters if each["in"] == "query" and each["name"] in values}
            answer = client.get(re.sub(r"\{(\w+)\}", lambda found, values=values: str(values[found[1]]), path), params=query)
            assert answer.status_code == 200, (path, query, answer.text)
            tried += 1
        assert tried > 20

    def test_they_are_of_a_dataset_that_is_there(self, client: Client, service: FakeService) -> None:
        def example() -> Any:
            operation = client.get("/openapi.json").json()["paths"]["/datasets/{dataset_id}"]["get"]
            return next(each.get("example") for each in operation["parameters"] if each["name"] == "dataset_id")

        assert example() == "sea"
        service.published = False
        service.commit()
        assert example() is None


def test_the_page_says_the_range_and_what_was_checked(client: Client) -> None:
    text = client.get("/datasets/sea?f=html").text
    assert '<th scope="col">Range</th>' in text
    assert "compared it with the source" in text


def test_a_list_has_a_heading_for_people_and_the_way_to_it(client: Client) -> None:
    versions = client.get("/datasets/sea/versions?f=html").text
    assert "<h1>Versions of sea</h1>" in versions
    assert "VersionList" not in versions
    assert f'<a href="{PATH}/datasets?f=html">Datasets</a> / <a href="{PATH}/datasets/sea?f=html">sea</a>' in versions
    assert "the page of the dataset" in client.get("/stac/collections/sea?f=html").text


def test_the_page_of_a_template_leads_to_what_was_made_from_it(client: Client) -> None:
    made = client.get("/dataset-templates/air").json()["datasets"]
    page = client.get("/dataset-templates/air?f=html").text
    assert [f'<a href="{URL}/datasets/{each}?f=html">{each}</a>' in page for each in made] == [True] * len(made)
    assert made


def test_changes_are_a_page_with_a_way_to_those_that_follow(client: Client) -> None:
    first = client.get("/changes?limit=1&f=html").text
    assert "<h1>Changes, oldest first</h1>" in first
    assert "next_cursor" not in first
    more = re.search(r'<a href="([^"]+)" rel="next">', first)
    known = client.get("/changes?limit=1").json()
    assert bool(more) == bool(known["items"])
    if more:
        assert more[1].startswith(f"{URL}/changes?limit=1&amp;cursor=")
        assert client.get(unescape(more[1].removeprefix(URL))).status_code == 200
        assert known["items"][0]["href"] in first


def test_an_empty_list_says_so(client: Client) -> None:
    page = client.get("/zones?f=html").text
    assert "The list is empty." in page
    assert "cubeport zones add districts.geojson" in page
    assert "The list is empty." not in client.get("/datasets?f=html").text


def test_a_card_names_a_dozen_variables() -> None:
    names = [f"v{number}" for number in range(345)]
    assert _few(names).endswith("v11 and 333 more")
    assert _few(names[:13]) == ", ".join(names[:13])


def test_the_page_of_a_problem_does_not_speak_of_errors_members(client: Client) -> None:
    page = client.get("/datasets?limit=-1&nonsense=1", headers={"Accept": "text/html"}).text
    assert "errors lists" not in page
    assert "nonsense" in page


def test_the_land_of_a_part_is_a_filled_picture(client: Client) -> None:
    found = client.get("/coast.svg?bbox=-10,35,5,45&width=600&land=true")
    assert "fill:#c3d8df" in found.text
    assert found.text != client.get("/coast.svg?bbox=-10,35,5,45&width=600").text
    assert 'class="grid"' in client.get("/coast.svg?bbox=-4000000,-4000000,4000000,4000000&crs=EPSG:3995").text


@pytest.mark.parametrize("path", ["/wms?SERVICE=WMS&REQUEST=GetCapabilities", "/wmts/", "/dap", "/zarr"])
def test_an_address_for_all_data_says_that_each_dataset_has_its_own(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert f"each dataset has its own, /{re.split('[/?]', path)[1]}/ID" in answer.json()["detail"]
    assert "its own" not in client.get("/nowhere").json()["detail"]


def test_a_thousand_variables_are_not_all_in_the_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    *axes, sst = described().variables
    names = tuple(f"tracer_{number:04}" for number in range(1000))
    variables = [sst.model_copy(update={"name": name, "long_name": f"Mole concentration of {name} in sea water"}) for name in names]
    made = described().model_copy(update={"variables": (*axes, *variables), "fields": names})
    monkeypatch.setattr(conftest, "described", lambda: made)
    text = client.get("/datasets/sea?f=html").text
    assert (text.count("<code>tracer_"), 'name="properties" value=' in text, '<input id="properties"' in text) == (100, False, True)
    assert "The first 100 of 1,000 variables" in text
