"""publishing.md 6: pages that ask nothing of other hosts, escape what they show, and can be read by everybody."""

from __future__ import annotations

import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from cubeport import errors
from cubeport.documents.native import Periods
from cubeport.server.html import _span

from .conftest import URL, V2, Client, FakeService, Live

PAGES = ["/?f=html", "/datasets/sea?f=html", "/docs", "/docs/calendars", "/problems/gap?f=html", "/datasets/sea@first?f=html"]


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
        loaded = [tag.get("src") or tag.get("href") for name in ("script", "link", "img") for tag in outline.all(name)]
        fetched = [href for href in loaded if href]
        assert len(fetched) >= 2
        assert all(href.startswith(f"{URL}/") for href in fetched)
        for href in fetched:
            assert client.get(href.removeprefix(URL)).status_code == 200

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
        assert "170° E" not in text
        assert "30° S to 30° N, 167.5° E to 152.5° W" in text
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
