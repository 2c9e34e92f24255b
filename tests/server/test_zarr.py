"""publishing.md 4: the key grammar on the raw path, ranges, ETags, caching; absent is not unreadable."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes import keys
from cubeport.cubes.description import CubeDescription
from cubeport.errors import Corrupt, StoreUnavailable
from cubeport.server.app import App
from cubeport.server.zarr import Tree, Unsatisfiable, parse_range, parse_ref

from .conftest import GONE, V1, V2, Client, FakeEngine, FakeService, ask_raw, described, make_parts

CHUNK = "/zarr/sea/sst/c/0/0/0"
PINNED = f"/zarr/sea@{V1}/sst/c/0/0/0"


def stored(store: Path, key: str) -> bytes:
    return (store / key).read_bytes()


@pytest.mark.parametrize("leaf", [".zgroup", ".zattrs", ".zarray", ".zmetadata"])
def test_what_zarr_python_asks_for_beside_the_root(client: Client, service: FakeService, leaf: str) -> None:
    for node in ("", "sst/"):
        answer = client.get(f"/zarr/sea/{node}{leaf}")
        assert (answer.status_code, answer.json()["kind"]) == (404, "not-found")
        assert client.head(f"/zarr/sea/{node}{leaf}").status_code == 404
    assert client.get(f"/zarr/nothing/{leaf}").status_code == 404
    page = client.get(f"/zarr/sea/{leaf}", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    service.unpublish("sea")
    assert client.get(f"/zarr/sea/{leaf}").status_code in (404, 410)


class TestBytes:
    def test_every_object_is_served_as_it_lies(self, client: Client, store: Path) -> None:
        keys = [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]
        assert len(keys) > 8
        for key in keys:
            answer = client.get(f"/zarr/sea/{key}")
            assert (answer.status_code, answer.content) == (200, stored(store, key)), key
            kind = "application/json" if key.endswith("zarr.json") else "application/octet-stream"
            assert answer.headers["content-type"] == kind
            assert answer.headers["content-length"] == str(len(answer.content))
            assert answer.headers["accept-ranges"] == "bytes"
            assert "content-encoding" not in answer.headers
            assert answer.headers["cubeport-version"] == V2

    @pytest.mark.parametrize("name", ["sea", "sea.zarr", f"sea@{V2}", f"sea@{V2}.zarr", "sea@latest", "sea@first", "sea%40latest"])
    def test_names_of_one_store(self, client: Client, store: Path, name: str) -> None:
        assert client.get(f"/zarr/{name}/zarr.json").content == stored(store, "zarr.json")

    def test_the_query_and_a_last_slash_of_a_key_change_nothing(self, client: Client, store: Path) -> None:
        assert client.get(f"{CHUNK}?x=1&x=2").content == stored(store, "sst/c/0/0/0")
        assert client.get(f"{CHUNK}/").content == stored(store, "sst/c/0/0/0")

    def test_head_is_get_without_its_body(self, client: Client) -> None:
        got, head = client.get(CHUNK), client.head(CHUNK)
        assert head.content == b""
        for headers in (got.headers, head.headers):
            headers.pop("x-request-id")
        assert dict(head.headers) == dict(got.headers)

    def test_cors_and_safety_headers(self, client: Client) -> None:
        headers = client.get(CHUNK, headers={"Origin": "https://viewer.example"}).headers
        assert headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in headers
        assert {"ETag", "Content-Range", "Cubeport-Version"} <= set(headers["access-control-expose-headers"].split(", "))
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "cross-origin"

    def test_a_preflight_of_a_suffix_range(self, client: Client) -> None:
        answer = client.options(CHUNK, headers={"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Range" in answer.headers["access-control-allow-headers"]
        assert answer.headers["access-control-max-age"] == "86400"
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"

    @pytest.mark.parametrize("method", ["PROPFIND", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
    def test_other_methods_are_405(self, client: Client, method: str) -> None:
        answer = client.request(method, CHUNK)
        assert (answer.status_code, answer.json()["kind"]) == (405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


class TestAbsent:
    """404 only when grammar, shape or manifest said none."""

    def test_a_chunk_that_is_not_stored_is_404_and_immutable_when_pinned(self, client: Client, engine: FakeEngine) -> None:
        answer = client.get(f"/zarr/sea@{V1}/sst/c/1/1/1")
        assert (answer.status_code, answer.json()["kind"], answer.json()["what"]) == (404, "not-found", "data")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get("/zarr/sea/sst/c/1/1/1").headers["cache-control"] == "no-cache"
        assert engine.reads == ["sst/c/1/1/1"] * 2

    @pytest.mark.parametrize(
        "key",
        [
            "sst/c/2/0/0", "sst/c/0/2/0", "sst/c/0/0", "sst/c/0/0/0/0", "sst/c", "lat/c", "nix/zarr.json", "nix/c/0", "c/0",
            "c", "sst/c/00/0/0", "sst/c/-1/0/0", "sst/c/+1/0/0", "sst/c/0x1/0/0", "sst/c/1e0/0/0", "sst/c/%30%30/0/0",
            "sst/c/99999999999/0/0", "../zarr.json", "%2e%2e/zarr.json", "%252e%252e/zarr.json", "..%2fzarr.json",
            "sst/../zarr.json", "./zarr.json", "sst//c/0/0/0", "sst%2fzarr.json", "sst%252fzarr.json", "sst/c%2f0%2f0%2f0",
            "sst\\zarr.json", "sst%5czarr.json", "sst%00/zarr.json", "zarr.json%00", "zarr.json%0a", "zarr.json%20",
            "%zarr.json", "zarr%2ejson%zz", "__x/zarr.json", ".zgroup", ".zattrs", ".zmetadata", "sst/.zarray",
            "meta/" "root.group", "sst/0.0.0", "zarr.json/zarr.json", "c/zarr.json", "ÿ/zarr.json", "%ff/zarr.json", "sst/c/٠/0/0",
            "manifest.json", "../manifest.json", "sst/c/0/0/0/zarr.json", "%C0%AE%C0%AE/zarr.json", "n" * 129 + "/zarr.json",
        ],
    )  # fmt: skip
    def test_bad_keys_are_404_and_nothing_is_opened(self, app: App, engine: FakeEngine, key: str) -> None:
        status, body = ask_raw(app, f"/zarr/sea/{key}".encode())
        assert (status, json.loads(body)["kind"]) == (404, "not-found")
        assert engine.reads == []

    @pytest.mark.parametrize(
        "name", ["SEA", "sea@", "@", "sea@@", f"sea@{V2}@{V1}", "..", "%2e%2e", "sea%2fx", "-sea", "s" * 65, "", "sea\\", "sea%00"]
    )
    def test_bad_names_are_404_and_the_service_is_not_asked(self, client: Client, service: FakeService, name: str) -> None:
        service.shown = None  # type: ignore[assignment,method-assign]  # any call would be an error
        assert client.get(f"/zarr/{name}/zarr.json").status_code == 404

    @pytest.mark.parametrize("name", ["sea", "sea@latest", "sea@first", f"sea@{V1}"])
    @pytest.mark.parametrize("key", ["sst/c/0/0/0", "zarr.json", "sst/c/1/1/1"])
    def test_what_was_shown_and_is_not_any_more_is_410(self, client: Client, service: FakeService, name: str, key: str) -> None:
        for hide in ("published", "deleted"):
            service.published, service.deleted = hide != "published", hide == "deleted"
            answer = client.get(f"/zarr/{name}/{key}")
            assert (answer.status_code, answer.json()["kind"]) == (410, "gone")
            assert answer.headers["cache-control"] == "no-store"
            assert client.get(f"/zarr/{name}").status_code == 404, "a listing is not part of a read"

    def test_chunks_behind_an_unknown_tag_are_410_its_metadata_404(self, client: Client) -> None:
        # A tag that was taken away is not remembered, but who asks for a chunk has read metadata before.
        assert client.get("/zarr/sea@gone/sst/c/0/0/0").status_code == 410
        assert client.get("/zarr/sea@gone/zarr.json").status_code == 404
        assert client.get(f"/zarr/sea@{'9' * 32}/sst/c/0/0/0").status_code == 404
        assert client.get("/zarr/other/sst/c/0/0/0").status_code == 404

    def test_bytes_that_a_removal_took_meanwhile_are_gone_and_not_corrupt(
        self, client: Client, engine: FakeEngine, service: FakeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(*_: str) -> None:
            service.unpublish("sea")
            raise Corrupt("sst/c/0/0/0 is listed and not there")

        monkeypatch.setattr(engine, "read", read)
        assert client.get(CHUNK).status_code == 410

    def test_an_unknown_dataset_and_version_are_404_a_removed_version_410(self, client: Client) -> None:
        assert client.get("/zarr/other/zarr.json").json()["what"] == "dataset"
        assert client.get(f"/zarr/sea@{'9' * 32}/zarr.json").json()["what"] == "version"
        answer = client.get(f"/zarr/sea@{GONE}/zarr.json")
        assert (answer.status_code, answer.json()["kind"]) == (410, "version-removed")


class TestUnreadable:
    """R7: what the manifest lists and the store does not give is never 404."""

    def test_a_missing_object_is_500_corrupt(self, client: Client, engine: FakeEngine) -> None:
        engine.fail = Corrupt("sst/c/0/0/0 is listed and not there")
        answer = client.get(CHUNK)
        assert (answer.status_code, answer.json()["kind"]) == (500, "corrupt")
        assert answer.headers["cache-control"] == "no-store"

    def test_a_store_that_fails_is_503(self, client: Client, engine: FakeEngine) -> None:
        engine.fail = StoreUnavailable("no answer from /srv/disk/x")
        answer = client.get(CHUNK)
        assert (answer.status_code, answer.json()["kind"], answer.headers["retry-after"]) == (503, "store-unavailable", "5")
        assert "/srv" not in answer.text

    def test_a_short_object_is_500_and_not_a_short_200(self, client: Client, engine: FakeEngine) -> None:
        engine.short = True
        assert (client.get(CHUNK).status_code, client.get(CHUNK).json()["kind"]) == (500, "corrupt")

    def test_a_catalog_that_fails_is_503(self, client: Client, service: FakeService) -> None:
        service.busy = StoreUnavailable("locked")
        assert client.get(CHUNK).status_code == 503


class TestConditional:
    def test_304_opens_nothing(self, client: Client, engine: FakeEngine) -> None:
        tag = client.get(CHUNK).headers["etag"]
        assert tag == f'"{V2[:16]}-{hashlib.sha256(b"sst/c/0/0/0").hexdigest()[:16]}"'
        engine.reads.clear()
        for header in (tag, f"W/{tag}", f'"x", {tag}'):
            answer = client.get(CHUNK, headers={"If-None-Match": header})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert engine.reads == []
        assert client.get(CHUNK, headers={"If-None-Match": "*"}).status_code == 304
        assert client.get("/zarr/sea/sst/c/1/1/1", headers={"If-None-Match": "*"}).status_code == 404

    def test_metadata_is_read_once_and_still_gone_with_its_dataset(
        self, client: Client, engine: FakeEngine, service: FakeService, store: Path
    ) -> None:
        engine.reads.clear()
        for name, version in (("sea", V2), (f"sea@{V1}", V1), ("sea", V2), (f"sea@{V1}", V1)):
            answer = client.get(f"/zarr/{name}/sst/zarr.json")
            assert (answer.content, answer.headers["cubeport-version"]) == (stored(store, "sst/zarr.json"), version)
        part = client.get("/zarr/sea/sst/zarr.json", headers={"Range": "bytes=-7"})
        assert (part.status_code, part.content) == (206, stored(store, "sst/zarr.json")[-7:])
        assert engine.reads == ["sst/zarr.json"] * 2  # once for each version
        service.unpublish("sea")
        assert client.get("/zarr/sea/sst/zarr.json").status_code == 410

    def test_another_tag_gets_the_bytes(self, client: Client) -> None:
        assert client.get(CHUNK, headers={"If-None-Match": '"x"'}).status_code == 200

    def test_latest_and_pin_share_the_tag_and_versions_do_not(self, client: Client) -> None:
        tags = [
            client.get(f"/zarr/{name}/zarr.json").headers["etag"]
            for name in ("sea", "sea@latest", f"sea@{V2}", f"sea@{V1}", "sea@first")
        ]
        assert tags[0] == tags[1] == tags[2]
        assert tags[3] == tags[4] != tags[0]

    def test_only_a_version_id_is_immutable(self, client: Client) -> None:
        caches = {
            name: client.get(f"/zarr/{name}/zarr.json").headers["cache-control"] for name in ("sea", "sea@latest", "sea@first")
        }
        assert set(caches.values()) == {"no-cache"}
        assert client.get(PINNED).headers["cache-control"] == "public, max-age=31536000, immutable"

    def test_unpublishing_shows_at_the_next_request(self, client: Client, service: FakeService) -> None:
        tag = client.get(CHUNK).headers["etag"]
        service.unpublish("sea")
        assert client.get(CHUNK, headers={"If-None-Match": tag}).status_code == 410
        service.publish("sea")
        assert client.get(CHUNK, headers={"If-None-Match": tag}).status_code == 304


class TestRange:
    @pytest.mark.parametrize(
        ("header", "part"),
        [
            ("bytes=0-9", slice(0, 10)),
            ("bytes=5-", slice(5, None)),
            ("bytes=-7", slice(-7, None)),
            ("bytes=0-999999", slice(0, None)),
            ("bytes=-999999", slice(0, None)),
            ("bytes=0-99999999999999999999", slice(0, None)),
            (f"bytes=-{'9' * 400}", slice(0, None)),
            (f"bytes={'0' * 30}3-", slice(3, None)),
            ("Bytes = 1-1", slice(1, 2)),
        ],
    )
    def test_one_range(self, client: Client, store: Path, header: str, part: slice) -> None:
        whole = stored(store, "sst/c/0/0/0")
        answer = client.get(CHUNK, headers={"Range": header})
        begin, end, _ = part.indices(len(whole))
        assert (answer.status_code, answer.content) == (206, whole[part])
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(whole)}"
        assert answer.headers["content-length"] == str(end - begin)

    @pytest.mark.parametrize(
        "header",
        [
            "bytes=999999-",
            "bytes=99999999999999999999-",
            "bytes=-0",
            "bytes=5-2",
            "bytes=-",
            "bytes=a-b",
            "bytes=",
            "bytes=1",
            "bytes=--1",
        ],
    )
    def test_unsatisfiable_or_malformed(self, client: Client, store: Path, header: str) -> None:
        answer = client.get(CHUNK, headers={"Range": header})
        assert (answer.status_code, answer.content) == (416, b"")
        assert answer.headers["content-range"] == f"bytes */{len(stored(store, 'sst/c/0/0/0'))}"

    @pytest.mark.parametrize("header", ["bytes=0-1,3-4", "items=0-1", "nonsense"])
    def test_several_or_another_unit_is_the_whole(self, client: Client, store: Path, header: str) -> None:
        answer = client.get(CHUNK, headers={"Range": header})
        assert (answer.status_code, answer.content) == (200, stored(store, "sst/c/0/0/0"))

    def test_if_range(self, client: Client) -> None:
        tag = client.get(CHUNK).headers["etag"]
        for condition, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200), ("Wed, 21 Oct 2026 07:28:00 GMT", 200)):
            assert client.get(CHUNK, headers={"Range": "bytes=0-1", "If-Range": condition}).status_code == status

    @given(size=st.integers(0, 50), first=st.none() | st.integers(0, 60), last=st.none() | st.integers(0, 60))
    def test_a_range_is_what_python_slices(self, size: int, first: int | None, last: int | None) -> None:
        header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        whole = bytes(range(size))
        if first is None and last is None:
            expected = None
        elif first is None:
            expected = whole[max(0, size - (last or 0)) :]
        else:
            expected = whole[first:] if last is None else whole[first : last + 1]
        try:
            part = parse_range(header, size)
        except Unsatisfiable:
            assert not expected
            return
        assert part is not None
        assert whole[slice(*part)] == expected != b""


class TestListing:
    def test_the_root(self, client: Client) -> None:
        document = client.get(f"/zarr/sea@{V1}").json()
        assert (document["kind"], document["dataset_id"], document["version_id"], document["path"]) == (
            "ZarrListing",
            "sea",
            V1,
            "",
        )
        assert [(each["name"], each["kind"]) for each in document["entries"]] == [
            ("lat", "directory"), ("lon", "directory"), ("sst", "directory"), ("time", "directory"), ("zarr.json", "file"),
        ]  # fmt: skip
        assert all(each["href"].startswith(f"https://data.example/cubes/zarr/sea@{V1}/") for each in document["entries"])

    def test_an_array(self, client: Client) -> None:
        document = client.get("/zarr/sea/sst").json()
        assert [document[name] for name in ("shape", "chunks", "shards", "chunk_count")] == [[4, 6, 8], [2, 3, 4], None, 8]
        assert [each["name"] for each in document["entries"]] == ["zarr.json"]

    def test_every_href_answers(self, client: Client) -> None:
        document = client.get("/zarr/sea").json()
        for each in [*document["entries"], *document["links"]]:
            assert client.get(each["href"].removeprefix("https://data.example/cubes")).status_code == 200, each

    def test_the_manifest_proves_every_object(self, client: Client, engine: FakeEngine) -> None:
        document = client.get(f"/zarr/sea@{V1}?f=manifest").json()
        assert document["algorithm"] == "sha256"
        for entry in document["entries"]:
            content = client.get(f"/zarr/sea@{V1}/{entry['key']}").content
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])

    def test_a_listing_is_a_page_for_browsers_alone_and_an_object_never(self, client: Client) -> None:
        for accept in ("*/*", "application/json", "application/json, text/html;q=0.9"):
            assert client.get("/zarr/sea", headers={"Accept": accept}).headers["content-type"] == "application/json"
        page = client.get("/zarr/sea", headers={"Accept": "text/html"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert 'href="https://data.example/cubes/zarr/sea/zarr.json"' in page.text or "/zarr/sea/zarr.json" in page.text
        assert client.get("/zarr/sea/zarr.json", headers={"Accept": "text/html"}).headers["content-type"] == "application/json"

    def test_it_is_conditional_and_checks_its_query(self, client: Client) -> None:
        tag = client.get("/zarr/sea").headers["etag"]
        assert client.get("/zarr/sea", headers={"If-None-Match": tag}).status_code == 304
        assert client.get("/zarr/sea@latest", headers={"If-None-Match": tag}).status_code == 200
        assert client.get("/zarr/sea?x=1").json()["errors"][0]["loc"] == ["query", "x"]

    def test_groups_page(self) -> None:
        names = [f"g/v{n:04d}" for n in range(1_500)]
        variable = described().variables[0]
        cube = described().model_copy(update={"variables": tuple(variable.model_copy(update={"name": name}) for name in names)})
        tree = Tree.of(cube)
        assert tree.children("") == [("g", "directory"), ("zarr.json", "file")]
        assert len(tree.children("g")) == 1_501
        assert tree.has("g", None)
        assert not tree.has("v0001", None)


def test_offload_leaves_the_bytes_to_the_proxy(service: FakeService, engine: FakeEngine) -> None:
    parts = make_parts(service, engine, offload="x-accel-redirect", offload_prefix="/_bytes/")
    with Client(App(parts)) as client:
        answer = client.get(CHUNK)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["x-accel-redirect"] == f"/_bytes/sea/{V2}/cube.zarr/sst/c/0/0/0"
        assert client.get("/zarr/sea/sst/c/1/1/1").status_code == 404
        assert client.get(CHUNK, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_large_objects_go_in_pieces(monkeypatch: pytest.MonkeyPatch, client: Client, store: Path) -> None:
    monkeypatch.setattr("cubeport.server.zarr.PIECE", 7)
    assert client.get(CHUNK).content == stored(store, "sst/c/0/0/0")
    assert client.get(CHUNK, headers={"Range": "bytes=3-25"}).content == stored(store, "sst/c/0/0/0")[3:26]


def test_where_the_kernel_cannot_read_at_once_a_thread_does(monkeypatch: pytest.MonkeyPatch, client: Client, store: Path) -> None:
    monkeypatch.setattr("cubeport.server.zarr._read_now", lambda *_: 0)
    assert client.get(CHUNK).content == stored(store, "sst/c/0/0/0")


NAMES = st.text("abcxyz0._-+@", min_size=1, max_size=5)
NODES = st.lists(NAMES.filter(lambda name: name not in (".", "..", "c", "zarr.json") and not name.startswith("__")), max_size=3)


@given(nodes=NODES, indices=st.none() | st.lists(st.integers(0, 10**9), max_size=4))
def test_a_key_parses_to_what_it_was_made_of(nodes: list[str], indices: list[int] | None) -> None:
    leaf = "zarr.json" if indices is None else "/".join(["c", *map(str, indices)])
    parsed = keys.parse("/".join([*nodes, leaf]))
    assert keys.is_key("/".join([*nodes, leaf])) == (parsed is not None)
    assert parsed == ("/".join(nodes), None if indices is None else tuple(indices))


@given(st.text(max_size=30))
def test_whatever_parses_has_no_dangerous_segment(text: str) -> None:
    assert keys.is_key(text) == (keys.parse(text) is not None)
    if keys.parse(text) is not None:
        segments = text.split("/")
        assert not {"", ".", ".."} & set(segments)
        assert text.isascii()
        assert not set(text) & set("\\%\0 \n?#")


@given(st.text("sea@.zr1-_A/", max_size=20))
def test_a_reference_is_an_id_and_maybe_a_ref(text: str) -> None:
    parsed = parse_ref(text)
    if parsed is not None:
        assert "/" not in parsed
        assert parsed in (text, text.removesuffix(".zarr"))


def test_the_grammar_is_linear() -> None:
    import time

    began = time.perf_counter()
    for text in ("a/" * 50_000 + "!", "c/" * 50_000, "%2e" * 50_000, "0" * 100_000, "a" * 100_000):
        keys.parse(text)
        parse_ref(text)
    assert time.perf_counter() - began < 1


def test_the_tree_knows_exactly_the_chunk_grid() -> None:
    cube: CubeDescription = described()
    tree = Tree.of(cube)
    inside = {key for key in itertools.product(range(4), repeat=3) if tree.has("sst", key)}
    assert inside == set(itertools.product(range(2), range(2), range(2)))


def test_any_key_of_the_store_fits(store: Path) -> None:
    tree: Any = Tree.of(described())
    for path in store.rglob("*"):
        if path.is_file():
            parsed = keys.parse(str(path.relative_to(store)))
            assert parsed is not None
            assert tree.has(*parsed)
