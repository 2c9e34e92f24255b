"""``/zones`` over the app: what is kept, what is refused, and who may."""

from __future__ import annotations

import json
import re

import pytest
import shapely
from shapely.geometry import mapping

from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper, NoKeys

from .conftest import LOCAL, URL, Client, FakeEngine, FakeService, make_parts

GEOJSON = {"Content-Type": "application/geo+json"}


def body(*ids: str, **members: object) -> bytes:
    box = mapping(shapely.box(0, 0, 1, 1))
    features = [{"type": "Feature", "id": each, "properties": {"code": f"c{each}"}, "geometry": box} for each in ids]
    return json.dumps({"type": "FeatureCollection", "features": features, **members}).encode()


def test_a_zone_set_is_kept_listed_read_and_removed(client: Client) -> None:
    made = client.put("/zones/d", content=body("a", "b", title="Two"), headers={**GEOJSON, **LOCAL})
    assert (made.status_code, made.json()["zones"], made.json()["title"]) == (200, 2, "Two"), made.text
    listed = client.get("/zones").json()
    assert [(each["zone_set_id"], each["zones"]) for each in listed["items"]] == [("d", 2)]
    got = client.get("/zones/d")
    assert got.headers["content-type"] == "application/geo+json"
    assert [each["id"] for each in got.json()["features"]] == ["a", "b"]
    assert client.get("/zones/d", headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    assert client.delete("/zones/d", headers=LOCAL).status_code == 204
    assert client.get("/zones/d").status_code == 404


def test_a_property_of_the_request_identifies_zones(client: Client) -> None:
    made = client.put("/zones/d?id_property=code", content=body("a"), headers={**GEOJSON, **LOCAL})
    assert made.status_code == 200
    assert client.get("/zones/d").json()["features"][0]["id"] == "ca"


def test_what_is_wrong_names_its_feature(client: Client) -> None:
    crossed = body("a", "b").replace(b"[[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]", b"[[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]", 1)
    answer = client.put("/zones/d", content=crossed, headers={**GEOJSON, **LOCAL})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["loc"] == ["features", "a"]
    assert "Self-intersection" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{", GEOJSON, 400),
        (b'{"type": "FeatureCollection", "type": 1}', GEOJSON, 400),
        (b"[" * 100, GEOJSON, 400),
        (b" " * 20_001, GEOJSON, 413),
    ],
    ids=["text", "cut", "doubled", "deep", "long"],
)
def test_a_body_that_is_not_zones_is_refused(
    service: FakeService, engine: FakeEngine, content: bytes, headers: dict[str, str], status: int
) -> None:
    with Client(App(make_parts(service, engine, zone_bytes=20_000))) as client:
        assert client.put("/zones/d", content=content, headers={**headers, **LOCAL}).status_code == status
    assert service.zone_sets_ == {}


def test_nobody_writes_without_a_key(service: FakeService, engine: FakeEngine) -> None:
    closed = Gatekeeper(NoKeys(), open_on_loopback=False)
    with Client(App(make_parts(service, engine, gatekeeper=closed))) as client:
        assert client.put("/zones/d", content=body("a"), headers=GEOJSON).status_code == 401
        assert client.delete("/zones/d").status_code == 401
        assert client.get("/zones").status_code == 200


def test_a_browser_reads_a_zone_set_as_a_page(client: Client) -> None:
    client.put("/zones/d", content=body("a", "b", title="<Two>"), headers={**GEOJSON, **LOCAL})
    got = client.get("/zones/d", headers={"Accept": "text/html,*/*;q=0.8"})
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>&lt;Two&gt;</h1>" in got.text
    assert "<code>a</code>" in got.text
    assert client.get("/zones/d?f=html").text == got.text
    as_json = client.get("/zones/d?f=json", headers={"Accept": "text/html"})
    assert as_json.headers["content-type"] == "application/geo+json"
    assert client.get("/zones/d", headers={"Accept": "image/png"}).status_code == 406
    assert f'href="{URL}/zones/d"' in client.get("/zones?f=html").text


def test_the_page_names_sets_that_have_no_title(client: Client) -> None:
    """It said "?" of each."""
    made = client.put("/zones/plain", content=body("a", "b"), headers={**GEOJSON, **LOCAL})
    assert made.status_code == 200, made.text
    page = client.get("/zones?f=html").text
    assert re.search(r'href="[^"]*/zones/plain">plain</a>', page), page
    assert "2 zones" in page
    client.delete("/zones/plain", headers=LOCAL)
