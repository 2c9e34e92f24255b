"""The STAC face over HTTP; what the documents say is tested with ``documents/stac``."""

from __future__ import annotations

import itertools
import json
import warnings
from typing import Any

import pytest
import xarray as xr

from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper, NoKeys

from .conftest import GONE, URL, V1, V2, Client, FakeEngine, FakeFinds, FakeService, Live, cube, make_parts


def test_one_state_on_every_face(client: Client, service: FakeService) -> None:
    def ids() -> tuple[list[str], ...]:
        children = [link["href"].rpartition("/")[2] for link in client.get("/stac").json()["links"] if link["rel"] == "child"]
        collections = [each["id"] for each in client.get("/stac/collections").json()["collections"]]
        datasets = [each["dataset_id"] for each in client.get("/datasets").json()["items"]]
        return children, collections, datasets

    assert ids() == (["sea"], ["sea"], ["sea"])
    assert client.get("/stac/catalog.json").json()["links"][0]["href"] == f"{URL}/stac/catalog.json"
    service.unpublish("sea")
    assert ids() == ([], [], [])
    for path in ("/stac/collections/sea", "/stac/collections/sea/items", f"/stac/collections/sea/items/sea@{V1}"):
        assert client.get(path).status_code == 404


def test_a_pinned_collection_is_pinned(client: Client) -> None:
    document = client.get("/stac/collections/sea@first").json()
    assert (document["id"], document["assets"]["zarr"]["href"]) == (f"sea@{V1}", f"{URL}/zarr/sea@{V1}")
    assert client.get(f"/stac/collections/sea@{GONE}").status_code == 410


def test_items_are_the_retained_versions_newest_first_and_page_into_the_whole(client: Client) -> None:
    found, path = [], "/stac/collections/sea/items?limit=1"
    while path:
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/geo+json"
        found += [each["id"] for each in answer.json()["features"]]
        path = next((link["href"].removeprefix(URL) for link in answer.json()["links"] if link["rel"] == "next"), "")
    assert found == [f"sea@{V2}", f"sea@{V1}"]
    [back] = [link["href"].removeprefix(URL) for link in answer.json()["links"] if link["rel"] == "prev"]
    assert [each["id"] for each in client.get(back).json()["features"]] == [f"sea@{V2}"]
    for item_id in found:
        item = client.get(f"/stac/collections/sea/items/{item_id}").json()
        assert (item["id"], item["properties"]["deprecated"]) == (item_id, item_id.endswith(V1))


@pytest.mark.parametrize("name", [f"sea@{'9' * 32}", "sea@first", "sea", f"other@{V1}", f"sea@{'4' * 32}"])
def test_what_is_no_item_is_404(client: Client, name: str) -> None:
    assert client.get(f"/stac/collections/sea/items/{name}").status_code == 404


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("bbox=-160,-5,-155,5", 2),
        ("bbox=175,0,-175,1", 2),
        ("bbox=-140,0,-130,1", 0),
        ("bbox=0,40,10,50", 0),
        ("datetime=2020-01-02T00:00:00Z", 2),
        ("datetime=2020-01-02T00:00:00%2B02:00", 2),
        ("datetime=../2019-12-31T00:00:00Z", 0),
        ("datetime=2020-01-03T00:00:00Z/..", 2),
        ("datetime=/2020-06-01T00:00:00Z", 2),
        (f"ids=sea@{V1}&collections=sea", 1),
        ("collections=other", 0),
        ("limit=5000", 2),
    ],
)
def test_items_are_filtered_by_place_and_time(client: Client, query: str, count: int) -> None:
    assert client.get(f"/stac/collections/sea/items?{query}").json()["numberReturned"] == count


def test_items_of_one_collection_are_sorted(client: Client) -> None:
    orders: list[object] = []
    for sortby in ("version", "-version", "+properties.version", "-created,version"):
        answer = client.get("/stac/collections/sea/items", params={"sortby": sortby})
        assert answer.status_code == 200, answer.text
        orders.append(FakeFinds.orders[-1])
    assert orders == [
        (("id", False),), (("id", True),), (("id", False),), (("created", True), ("id", False)),
    ]  # fmt: skip
    assert client.get("/stac/collections/sea/items?sortby=colour").status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        *(
            "bbox=1,2,3",
            "bbox=0,10,1,5",
            "bbox=-190,0,1,1",
            "limit=0",
            "limit=x",
            "token=nix",
            "datetime=2020-01-02",
            "datetime=../..",
        ),
        *("datetime=2020-13-01T00:00:00Z", "datetime=2021-01-01T00:00:00Z/2020-01-01T00:00:00Z", "limit=1&limit=1", "what=1"),
    ],
)
def test_malformed_parameters_are_400(client: Client, query: str) -> None:
    assert client.get(f"/stac/collections/sea/items?{query}").status_code == 400


def test_collections_pass_their_filters_down(client: Client, service: FakeService) -> None:
    client.get("/stac/collections?limit=5000&q=sea&bbox=1,2,3,4&datetime=2020-01-02T00:00:00z&token=abc")
    assert service.filters == {
        "limit": 1000, "cursor": "abc", "q": ("sea",), "bbox": (1.0, 2.0, 3.0, 4.0), "datetime": "2020-01-02T00:00:00Z",
        "versions": True, "ids": None, "sort": ("dataset_id",), "count": "few",
    }  # fmt: skip
    client.get("/stac/collections?q=sea ice,land&sortby=-title,created&ids=sea,air")
    assert (service.filters["q"], service.filters["sort"]) == (("sea ice", "land"), ("-dataset_name", "created"))
    assert service.filters["ids"] == {"sea", "air"}


def test_every_own_link_answers_as_it_is_typed(client: Client) -> None:
    known = {"/ogcapi", "/download", "/docs", "/thumbnail.png", "/dap/"}  # of parts that this app does not have
    pending, seen = [f"{URL}/stac"], set()
    while pending:
        href = pending.pop()
        if href in seen or any(part in href for part in known) or not href.startswith(URL):
            continue
        seen.add(href)
        answer = client.get(href.removeprefix(URL))
        assert answer.status_code == 200, href
        if "json" in answer.headers["content-type"]:
            document = answer.json()
            assets = [asset["href"] for asset in document.get("assets", {}).values()]
            for link in document.get("links", ()):
                pending.append(link["href"])
                assert link["title"]
                if link["rel"] == "self":
                    assert link["href"] == href
            pending += assets
    assert len(seen) >= 8


class TestSearch:
    """Item search, by GET and by POST alike."""

    @pytest.mark.parametrize(
        ("asked", "count"),
        [
            ({}, 2),
            ({"ids": [f"sea@{V1}", "nix@x"]}, 1),
            ({"collections": ["sea"]}, 2),
            ({"collections": ["other"]}, 0),
            ({"collections": ["sea"], "ids": [f"sea@{V2}"]}, 1),
            ({"bbox": [175, 0, -175, 1]}, 2),
            ({"bbox": [175, 0, -5, -175, 1, 5]}, 2),
            ({"bbox": [-140, 0, -130, 1]}, 0),
            ({"datetime": "2020-01-02T00:00:00Z"}, 2),
            ({"datetime": "../2019-12-31T00:00:00Z"}, 0),
            ({"intersects": {"type": "Point", "coordinates": [-160, 0]}}, 2),
            ({"intersects": {"type": "Point", "coordinates": [0, 0]}}, 0),
            ({"limit": 5000}, 2),
        ],
    )
    def test_get_and_post_find_the_same(self, client: Client, asked: dict[str, Any], count: int) -> None:
        texts = {
            name: ",".join(map(str, value)) if isinstance(value, list) else json.dumps(value) if isinstance(value, dict) else value
            for name, value in asked.items()
        }
        got, posted = client.get("/stac/search", params=texts), client.post("/stac/search", json=asked)
        assert (got.status_code, posted.status_code) == (200, 200), got.text + posted.text
        assert got.headers["content-type"] == posted.headers["content-type"] == "application/geo+json"
        assert got.json()["features"] == posted.json()["features"]
        assert got.json()["numberReturned"] == got.json()["numberMatched"] == posted.json()["numberMatched"] == count

    def test_the_number_that_match_is_known_where_one_page_has_all(self, client: Client) -> None:
        first = client.get("/stac/search?limit=1&collections=sea").json()
        following = next(link["href"].removeprefix(URL) for link in first["links"] if link["rel"] == "next")
        last = client.get(following).json()
        assert ["numberMatched" in page for page in (first, last)] == [False, False]

    def test_pages_join_into_the_whole(self, client: Client) -> None:
        found, path = [], "/stac/search?limit=1&collections=sea"
        while path:
            page = client.get(path).json()
            found += [each["id"] for each in page["features"]]
            path = next((link["href"].removeprefix(URL) for link in page["links"] if link["rel"] == "next"), "")
        assert found == [f"sea@{V2}", f"sea@{V1}"]
        [back] = [link for link in page["links"] if link["rel"] == "prev"]
        first = client.get(back["href"].removeprefix(URL)).json()
        assert [each["id"] for each in first["features"]] == [f"sea@{V2}"]
        assert not [link for link in first["links"] if link["rel"] == "prev"]
        body: dict[str, Any] = {"limit": 1, "collections": ["sea"], "sortby": [{"field": "created", "direction": "desc"}]}
        page = client.post("/stac/search", json=body).json()
        [following] = [link for link in page["links"] if link["rel"] == "next"]
        assert (following["method"], following["merge"]) == ("POST", True)
        for asked in (body | following["body"], following["body"]):  # some clients merge, some do not
            last = client.post("/stac/search", json=asked).json()
            assert [each["id"] for each in last["features"]] == [f"sea@{V1}"]
        assert not [link for link in last["links"] if link["rel"] == "next"]
        [back] = [link for link in last["links"] if link["rel"] == "prev"]
        assert [each["id"] for each in client.post("/stac/search", json=back["body"]).json()["features"]] == [f"sea@{V2}"]

    @pytest.mark.parametrize(
        "asked",
        [
            {"bbox": [1, 2, 3]},
            {"bbox": [0, 10, 1, 5]},
            {"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}},
            {"intersects": {"type": "Point"}},
            {"intersects": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}},
            {"intersects": {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [2, 2]]]]}},
            {"intersects": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]}},
            {"intersects": {"type": "MultiPoint", "coordinates": [[0, 0]] * 10_001}},
            {"datetime": "2020-01-02"},
            {"limit": 0},
            {"token": "nix"},
            {"sortby": [{"field": "colour"}]},
            {"sortby": [{"field": "id", "direction": "up"}]},
            {"filter": "nonsense ("},
            {"filter": {"op": "explode", "args": []}},
            {"filter": "a = 1", "filter-lang": "cql2-json"},
            {"filter": "a = 1", "filter-crs": "EPSG:3857"},
            {"ids": "sea"},
        ],
    )
    def test_malformed_searches_are_400(self, client: Client, asked: dict[str, Any]) -> None:
        answer = client.post("/stac/search", json=asked)
        assert (answer.status_code, answer.json()["kind"]) == (400, "invalid-request")

    @pytest.mark.parametrize("query", ["bbox=a,b", "limit=x", "intersects={", "ids=a&ids=b", "what=1", "bbox=nan,0,1,1"])
    def test_malformed_queries_are_400(self, client: Client, query: str) -> None:
        assert client.get(f"/stac/search?{query}").status_code == 400

    def test_a_token_is_bound_to_its_query(self, client: Client) -> None:
        page = client.get("/stac/search?limit=1").json()
        token = next(link["href"].rpartition("token=")[2] for link in page["links"] if link["rel"] == "next")
        assert client.get(f"/stac/search?limit=1&token={token}").status_code == 200
        assert client.get(f"/stac/search?limit=1&collections=sea&token={token}").status_code == 400

    @pytest.mark.parametrize(
        ("asked", "versions"),
        [
            ({"filter": "deprecated = FALSE"}, [V2]),
            ({"filter": f"version = '{V1}' OR id = 'sea@{V2}'"}, [V2, V1]),
            ({"filter": "collection = 'other'"}, []),
            ({"filter": "S_INTERSECTS(geometry, POINT(-160 0)) AND deprecated = TRUE"}, [V1]),
            ({"filter": "S_INTERSECTS(geometry, POINT(0 0))"}, []),
            ({"filter": "T_INTERSECTS(datetime, INTERVAL('2020-01-02T00:00:00Z', '..'))"}, [V2, V1]),
            ({"filter": {"op": "=", "args": [{"property": "deprecated"}, True]}}, [V1]),
            ({"filter": "nothing.of_the_kind = 3"}, []),
            ({"sortby": [{"field": "version", "direction": "asc"}]}, None),
        ],
    )
    def test_filters_fit_the_same_by_get_and_post(self, client: Client, asked: dict[str, Any], versions: list[str] | None) -> None:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items() if name == "filter"}
        if isinstance(asked.get("filter"), dict):
            texts["filter-lang"] = "cql2-json"
        if "sortby" in asked:
            texts["sortby"] = "properties.version"
        got, posted = client.get("/stac/search", params=texts), client.post("/stac/search", json=asked)
        assert (got.status_code, posted.status_code) == (200, 200), got.text + posted.text
        assert got.json()["features"] == posted.json()["features"]
        if versions is not None:
            assert [each["properties"]["version"] for each in got.json()["features"]] == versions

    def test_some_fields(self, client: Client) -> None:
        whole = client.get("/stac/search").json()["features"][0]
        some = client.get("/stac/search?fields=properties.version,-properties.created").json()["features"][0]
        assert some == {**{name: whole[name] for name in ("id", "type", "collection")}, "properties": {"version": V2}}
        body = {"fields": {"exclude": ["assets", "links", "properties.cube:variables"]}}
        less = client.post("/stac/search", json=body).json()["features"][0]
        assert set(whole) - set(less) == {"assets", "links"}
        assert set(whole["properties"]) - set(less["properties"]) == {"cube:variables"}
        [collection] = client.get("/stac/collections?fields=title").json()["collections"]
        assert set(collection) == {"id", "type", "title"}

    def test_queryables_are_what_filters_know(self, client: Client) -> None:
        for path in ("/stac/queryables", "/stac/collections/sea/queryables"):
            answer = client.get(path)
            assert answer.headers["content-type"] == "application/schema+json"
            document = answer.json()
            assert (document["$id"], document["type"]) == (URL + path, "object")
            # Each name at one of the addresses: compiling a condition for a new field takes most of the time.
            addresses = itertools.cycle(("/stac/search", "/stac/collections", "/stac/collections/sea/items"))
            for name, address in zip(document["properties"], addresses, strict=False):
                assert client.get(address, params={"filter": f'"{name}" IS NULL OR 1 = 1'}).json()["numberReturned"] >= 1
        assert client.get("/stac/collections/nix/queryables").status_code == 404

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("id = 'sea'", 1),
            ("title LIKE 'S%'", 1),
            ("deprecated = TRUE", 0),
            ("A_CONTAINS(variables, ('nix'))", 0),
            ("updated IS NULL", 0),
        ],
    )
    def test_collections_are_filtered(self, client: Client, text: str, count: int) -> None:
        found = client.get("/stac/collections", params={"filter": text}).json()
        assert found["numberReturned"] == found["numberMatched"] == count

    def test_lists_of_collections_say_how_many_match(self, client: Client) -> None:
        """pystac-client reads it in ``CollectionSearch.matched()``, and warns where it is missing."""
        for query in ("", "?limit=1", "?bbox=-180,-90,180,90", "?q=sea"):
            assert client.get(f"/stac/collections{query}").json()["numberMatched"] == 1, query
        # A page that is not the last does not show how many a filter finds.
        assert "numberMatched" not in client.get("/stac/collections?limit=1&filter=1 = 1").json()

    def test_a_percent_sign_that_is_not_encoded_is_refused_in_a_sentence(self, client: Client) -> None:
        refused = client.get("/stac/collections?filter=title LIKE 'S%'")
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith("The request has a parameter that has a % that is not followed by two"), (
            refused.json()
        )

    def test_a_filter_finds_what_the_documents_say(self, client: Client) -> None:
        """A text that a filter compares is the one that the document has."""
        asked = {"/stac/search": "features", "/stac/collections": "collections"}
        for address, members in asked.items():
            for document in client.get(address).json()[members]:
                said = document.get("properties", document)
                for name in ("title", "description", "license", "keywords"):
                    if name not in said:
                        continue
                    value = ", ".join(f"'{each}'" for each in said[name]) if name == "keywords" else f"'{said[name]}'"
                    text = f"A_EQUALS(keywords, ({value}))" if name == "keywords" else f"{name} = {value}"
                    answer = client.get(address, params={"filter": f"{text} AND id = '{document['id']}'"}).json()
                    assert answer["numberReturned"] == 1, text

    def test_what_is_unpublished_meanwhile_is_not_found(self, client: Client, service: FakeService) -> None:
        service.unpublish("sea")
        assert client.post("/stac/search", json={"collections": ["sea"]}).json()["features"] == []

    def test_pages_of_every_origin_may_search(self, client: Client) -> None:
        headers = {"Origin": "https://viewer.example"}
        assert client.post("/stac/search", json={}, headers=headers).headers["access-control-allow-origin"] == "*"
        asked = headers | {"Access-Control-Request-Method": "POST"}
        assert "POST" in client.options("/stac/search", headers=asked).headers["access-control-allow-methods"]

    def test_a_read_only_server_searches(self, service: FakeService, engine: FakeEngine) -> None:
        with Client(App(make_parts(service, engine, gatekeeper=Gatekeeper(NoKeys(), read_only=True)))) as reader:
            assert reader.post("/stac/search", json={}).status_code == 200
            assert reader.post("/datasets/sea/unpublish").json()["kind"] == "read-only"

    def test_pystac_client_searches(self, live: Live) -> None:
        pystac_client = pytest.importorskip("pystac_client")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The item .* is deprecated")
            catalog = pystac_client.Client.open(f"{live.url}/stac")
            for method in ("GET", "POST"):
                found = catalog.search(
                    collections=["sea"], bbox=[175, -5, 179, 5], datetime="2020-01-02/2020-01-03", limit=1, method=method
                )
                assert [each.id for each in found.items()] == [f"sea@{V2}", f"sea@{V1}"]
            items = list(next(catalog.get_collections()).get_items())
            assert [each.id for each in items] == [f"sea@{V2}", f"sea@{V1}"]


def test_pystac_client_walks_it_and_xarray_opens_what_it_finds(live: Live) -> None:
    pystac_client = pytest.importorskip("pystac_client")
    catalog = pystac_client.Client.open(f"{live.url}/stac")
    [collection] = catalog.get_collections()
    assert collection.id == "sea"
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Server does not conform to ITEM_SEARCH|Falling back to pystac|The item .* is deprecated"
        )
        items = list(collection.get_items())
    assert [item.id for item in items] == [f"sea@{V2}", f"sea@{V1}"]
    for name in ("zarr", "zarr-pinned"):
        asset = collection.assets[name]
        kwargs = dict(asset.extra_fields["xarray:open_kwargs"])
        with xr.open_dataset(asset.href, **kwargs, chunks=None) as opened:
            xr.testing.assert_identical(opened.load(), xr.decode_cf(cube()).load())
