"""Catalogs and servers that are not ours: odd shapes are opened, or refused by name; and what is asked again, and when."""

from __future__ import annotations

import email.utils
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.client._http import HttpSession, wait_s
from cubeport.client.awaitable import AsyncRecords
from cubeport.client.records import Records
from cubeport.errors import ExtraMissing, InvalidRequest, NoData, NotFound, TooLarge, Unavailable

type Answer = tuple[int, dict[str, str], bytes]

VALUES = np.arange(6.0).reshape(2, 3)


class _Folder(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


class _Script(http.server.BaseHTTPRequestHandler):
    """Gives the answers of a list, one after the other, and notes when it was asked."""

    answers: list[Answer]
    asked: list[tuple[float, str]]

    def do_GET(self) -> None:
        self.asked.append((time.monotonic(), self.path))
        status, headers, body = self.answers.pop(0)
        if status == 0:  # the connection is lost
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def _serve(handler: Any) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "public"


@pytest.fixture
def files(folder: Path) -> Iterator[str]:
    """Serve the folder as ``python -m http.server`` does."""
    folder.mkdir()
    yield from _serve(lambda *given, **options: _Folder(*given, directory=str(folder), **options))


@pytest.fixture
def script() -> Iterator[Callable[..., tuple[str, list[tuple[float, str]]]]]:
    servers = []

    def run(*answers: Answer) -> tuple[str, list[tuple[float, str]]]:
        handler = type("Script", (_Script,), {"answers": list(answers), "asked": []})
        serving = _serve(handler)
        servers.append(serving)
        return next(serving), handler.asked  # type: ignore[attr-defined]

    yield run
    for each in servers:
        next(each, None)


def write(folder: Path, documents: dict[str, Any]) -> None:
    for name, document in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))


def catalog(*links: tuple[str, str], **more: Any) -> dict[str, Any]:
    made = [{"rel": rel, "href": href} for rel, href in links]
    return {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "", "links": made, **more}


def collection(name: str, *links: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {**catalog(*links), "type": "Collection", "id": name, "license": "other", "extent": {}, **more}


def item(name: str, **more: Any) -> dict[str, Any]:
    about = {"datetime": "2020-01-01T00:00:00Z", "title": f"The item {name}"}
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "properties": about, "links": [], "assets": {}, **more}


def store(path: Path, zarr_format: int) -> None:
    xr.Dataset({"v": (("y", "x"), VALUES)}).to_zarr(path, zarr_format=zarr_format, consolidated=zarr_format == 2)


class TestShapes:
    @pytest.mark.parametrize(
        ("media_type", "href", "zarr_format"),
        [
            ("application/vnd+zarr", "../cube.zarr", 2),
            ("Application/VND.zarr; version=2", "../cube.zarr/", 2),
            ("application/x-zarr", "../cube.zarr", 3),
            (None, "../cube.zarr", 3),
        ],
    )
    def test_relative_zarr_assets_of_nested_catalogs_open(
        self, files: str, folder: Path, media_type: str | None, href: str, zarr_format: int
    ) -> None:
        store(folder / "deep" / "cube.zarr", zarr_format)
        asset = {"href": href, "xarray:open_kwargs": {"consolidated": zarr_format == 2, "chunks": {}}}
        write(
            folder,
            {
                "catalog.json": catalog(("child", "./deep/catalog.json"), ("parent", "../other.json")),
                "deep/catalog.json": catalog(("child", "sea/collection.json"), ("root", "../catalog.json")),
                "deep/sea/collection.json": collection(
                    "sea", assets={"cube": asset | ({"type": media_type} if media_type else {})}
                ),
            },
        )
        found = cubeport.open_stac(f"{files}/catalog.json")["sea"].open()
        np.testing.assert_array_equal(found.v, VALUES)

    def test_items_without_a_collection_are_found(self, files: str, folder: Path) -> None:
        store(folder / "a cube.zarr", 2)
        asset = {"href": "./a cube.zarr", "type": "application/vnd+zarr"}
        write(
            folder,
            {
                "catalog.json": catalog(("item", "./one day.json")),
                "one day.json": item("day", assets={"cube": asset}),
            },
        )
        search = cubeport.open_stac(f"{files}/catalog.json").search("item day")
        assert [each.id for each in (search[0], *search, search[0])] == ["day"] * 3  # as of the search of a service
        with pytest.raises(IndexError, match="finds 1 dataset"):
            search[1]
        found = search[0]
        assert (found.id, found.title) == ("day", "The item day")
        assert "2020-01-01" in found._repr_html_()
        np.testing.assert_array_equal(found.open().v, VALUES)
        alone = cubeport.open_stac(f"{files}/one%20day.json")["day"]
        np.testing.assert_array_equal(alone.open().v, VALUES)

    def test_items_of_a_collection_are_its_own(self, files: str, folder: Path) -> None:
        store(folder / "cube.zarr", 2)
        write(
            folder,
            {
                "catalog.json": catalog(("child", "c.json")),
                "c.json": collection("c", ("item", "i.json")),
                "i.json": item("i", assets={"cube": {"href": "cube.zarr", "type": "application/zarr"}}),
            },
        )
        (data,) = cubeport.open_stac(f"{files}/catalog.json")
        assert data.id == "c"
        with pytest.raises(NoData, match="items"):
            data.open()
        np.testing.assert_array_equal(next(data.items()).open().v, VALUES)

    def test_a_collection_of_before_1_0_has_no_type(self, files: str, folder: Path) -> None:
        old = {key: value for key, value in collection("old").items() if key != "type"} | {"stac_version": "0.9.0"}
        write(folder, {"catalog.json": catalog(("child", "old.json")), "old.json": old})
        assert [each.id for each in cubeport.open_stac(f"{files}/catalog.json")] == ["old"]

    def test_links_are_relative_to_where_the_server_sends(self, script: Any) -> None:
        api = json.dumps(catalog(("data", "collections"))).encode()
        listed = json.dumps({"collections": [collection("sea")]}).encode()
        url, asked = script((301, {"Location": "/stac/"}, b""), (200, {}, api), (200, {}, listed))
        assert [each.id for each in cubeport.open_stac(f"{url}/stac")] == ["sea"]
        assert [path for _, path in asked] == ["/stac", "/stac/", "/stac/collections"]

    def test_one_collection_of_an_api_is_one_request(self, script: Any) -> None:
        api = json.dumps(catalog(("data", "./collections"))).encode()
        url, asked = script((200, {}, api), (200, {}, json.dumps(collection("a/b")).encode()))
        assert cubeport.open_stac(f"{url}/")["a/b"].id == "a/b"
        assert [path for _, path in asked] == ["/", "/collections/a%2Fb"]


class TestRefusals:
    def test_what_is_no_stac_is_named(self, files: str, folder: Path) -> None:
        write(folder, {"catalog.json": catalog(("child", "gone.json")), "list.json": "[1]", "page.html": "<p>"})
        with pytest.raises(NotFound, match=r"/gone\.json") as lost:
            list(cubeport.open_stac(f"{files}/catalog.json"))
        assert "cubeport" not in str(lost.value)
        for name in ("list.json", "page.html", ""):
            with pytest.raises(InvalidRequest, match=f"/{name}"):
                list(cubeport.open_stac(f"{files}/{name}"))
        write(folder, {"catalog.json": catalog(("child", "list.json"))})
        with pytest.raises(InvalidRequest, match=r"/list\.json is not"):
            list(cubeport.open_stac(f"{files}/catalog.json"))
        write(folder, {"catalog.json": catalog(("child", "s3://bucket/catalog.json"))})
        with pytest.raises(InvalidRequest, match="s3://bucket"):
            list(cubeport.open_stac(f"{files}/catalog.json"))

    def test_assets_that_do_not_open_are_named(self, files: str, folder: Path) -> None:
        store(folder / "cube.zarr", 2)
        assets = {
            "gone": {"href": "gone.zarr", "type": "application/vnd+zarr"},
            "bucket": {"href": "gs://bucket/cube.zarr", "type": "application/vnd+zarr"},
            "odd": {"href": "cube.zarr", "type": "application/vnd+zarr", "xarray:open_kwargs": {"flavour": "sweet"}},
            "bad": {"type": "application/vnd+zarr"},
            "references": {"href": "refs.json", "type": "application/json", "roles": ["references"]},
        }
        write(folder, {"c.json": collection("c", assets=assets)})
        (data,) = cubeport.open_stac(f"{files}/c.json")
        assert set(data.assets) == {"gone", "bucket", "odd"}
        with pytest.raises(NotFound, match=r"/gone\.zarr"):
            data.open("gone")
        with pytest.raises(ExtraMissing, match="gs://bucket"):
            data.open("bucket")
        with pytest.raises(InvalidRequest, match="flavour"):
            data.open("odd")
        with pytest.raises(NotFound, match="no Zarr asset 'references'; it has gone, bucket, odd"):
            data.open("references")
        write(folder, {"i.json": item("i", assets={"references": assets["references"]})})
        with pytest.raises(NoData, match=r"but references \(application/json\)"):
            next(iter(cubeport.open_stac(f"{files}/i.json"))).open()

    def test_a_catalog_that_is_too_large_is_never_cut_silently(
        self, files: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cubeport.client.stac._MOST_DOCUMENTS", 3)
        write(folder, {f"{n}.json": collection(str(n)) for n in range(4)})
        write(folder, {"catalog.json": catalog(*(("child", f"{n}.json") for n in range(4)))})
        with pytest.raises(TooLarge, match="3"):
            list(cubeport.open_stac(f"{files}/catalog.json"))


class TestAskedAgain:
    def test_503_is_asked_again_when_it_says(self, script: Any) -> None:
        url, asked = script((503, {"Retry-After": "1"}, b""), (200, {}, b"{}"))
        assert HttpSession(url).json("/x") == {}
        assert asked[1][0] - asked[0][0] >= 1.0

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ("7", 7.0),
            (email.utils.formatdate(1_000_090, usegmt=True), 90.0),
            (email.utils.formatdate(10), 0.0),
            (None, 1.0),
            ("x", 1.0),
        ],
    )
    def test_a_wait_is_a_number_or_a_date(self, said: str | None, seconds: float) -> None:
        assert wait_s(said, 1_000_000.0) == seconds

    def test_a_long_wait_is_left_to_the_caller(self, script: Any) -> None:
        url, asked = script((503, {"Retry-After": "3600"}, b""))
        with pytest.raises(Unavailable, match="503"):
            HttpSession(url).json("/x")
        assert len(asked) == 1

    @pytest.mark.parametrize("lost", [(0, {}, b""), (200, {"Content-Length": "99"}, b"{")], ids=["before", "in the middle"])
    def test_a_lost_connection_is_asked_again(self, script: Any, lost: Answer) -> None:
        url, asked = script(lost, (200, {}, b"{}"))
        assert HttpSession(url).json("/x") == {}
        assert len(asked) == 2
        url, asked = script(lost, lost, lost)
        with pytest.raises(Unavailable, match="does not answer"):
            HttpSession(url).json("/x")
        assert len(asked) == 3

    @pytest.mark.parametrize("status", [400, 404, 429, 500, 502])
    def test_nothing_else_is_asked_again(self, script: Any, status: int) -> None:
        url, asked = script((status, {"Retry-After": "0"}, b""))
        with pytest.raises((NotFound, Unavailable)):
            HttpSession(url).json("/x")
        assert len(asked) == 1

    def test_what_changes_something_is_sent_once(self, script: Any) -> None:
        url, asked = script((503, {"Retry-After": "0"}, b""), (200, {}, b"{}"))
        with pytest.raises(Unavailable):
            HttpSession(url).send("GET", "/x")
        assert len(asked) == 1


def test_the_async_records_have_the_names_of_the_records() -> None:
    made = AsyncRecords(Records.__new__(Records))
    assert {each for each in vars(Records) if not each.startswith("_")} <= set(dir(made))
