"""Each colour of a map is that of the value which EDR gives at the pixel's centre; GDAL decodes the PNG."""

from __future__ import annotations

import html
import io
import random
import re
from typing import Any

import httpx
import numpy as np
import pyproj
import pytest
import rasterio
from tests.families import FAMILIES
from tests.sample import sample

from cubeport.cubes.pictures.looks import Look

from .conftest import Server

pytestmark = pytest.mark.filterwarnings("ignore")

CASES = [(name, "OGC:CRS84") for name in FAMILIES] + [
    (name, crs) for name in ("from-0-to-360", "rotated-pole", "curvilinear") for crs in ("EPSG:3857", "EPSG:3995")
]


def picture(families: Server, path: str, **params: Any) -> tuple[np.ndarray, dict[str, str]]:
    """Return red, green, blue, opacity, (4, height, width), and the headers."""
    answer = families.get(path, **params)
    assert answer.status_code == 200, answer.text
    with rasterio.open(io.BytesIO(answer.content)) as opened:
        (band,) = opened.read()
        table = opened.colormap(1)
    colours = np.array([table.get(n, (0, 0, 0, 0)) for n in range(256)], "uint8")
    return np.moveaxis(colours[band], -1, 0), dict(answer.headers)


@pytest.mark.parametrize(("name", "crs"), sample(CASES, every=6))
def test_the_colour_of_a_pixel_is_that_of_the_value_at_its_centre(families: Server, name: str, crs: str) -> None:
    params = {"crs": crs, "width": 90} | ({"bbox": "-40,30,60,80"} if crs == "EPSG:3995" else {})
    pixels, headers = picture(families, f"/ogcapi/collections/{name}/map", **params)
    legend = families.json(f"/datasets/{name}/legend", f="json")
    look = Look(legend["palette"], *legend["range"])
    colours = look.colours()
    x0, y0, x1, y1 = map(float, headers["content-bbox"].split(","))
    height, width = pixels.shape[1:]
    to_degrees = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    when = {"datetime": headers["content-datetime"]} if "content-datetime" in headers else {}

    def colour_at(column: float, row: float) -> list[int] | None:
        """Return the colour of what EDR says of a place on the picture, ``None`` where there is no cell."""
        lon, lat = to_degrees.transform(x0 + column / width * (x1 - x0), y1 - row / height * (y1 - y0))
        point = f"POINT({(lon + 180) % 360 - 180:.9f} {lat:.9f})"
        answer = families.get(f"/ogcapi/collections/{name}/position", coords=point, **when)
        if answer.status_code == 404:
            return None
        document = answer.json()
        first = document["coverages"][0] if document["type"] == "CoverageCollection" else document
        return [*colours[int(look.classes(np.array(first["ranges"]["t"]["values"][:1]))[0])].tolist(), 255]

    # Interpolated places are right within an eighth of a pixel; cells of positions have no edges of their own.
    near = 0.45 if name in ("curvilinear", "unstructured") else 0.125
    rng, drawn = random.Random(5), 0
    for _ in range(50):
        column, row = rng.randrange(width), rng.randrange(height)
        seen = pixels[:, row, column].tolist()
        found = None if seen[3] == 0 else seen
        offsets = ((0, 0), (near, near), (-near, near), (near, -near), (-near, -near))
        wanted = (colour_at(column + 0.5 + dx, row + 0.5 + dy) for dx, dy in offsets)
        assert any(each == found for each in wanted), (column, row)
        drawn += found is not None
    assert drawn > 0


def test_the_tiles_of_a_zoom_join_into_the_map(families: Server) -> None:
    edge = 20037508.342789244
    box = f"{-edge},{-edge},{edge},{edge}"
    whole, _ = picture(
        families,
        "/ogcapi/collections/rotated-pole/map",
        crs="EPSG:3857",
        **{"bbox-crs": "EPSG:3857"},
        bbox=box,
        width=512,
        height=512,
    )
    base = "/ogcapi/collections/rotated-pole/map/tiles/WebMercatorQuad/1"
    rows = [np.concatenate([picture(families, f"{base}/{row}/{column}")[0] for column in (0, 1)], axis=2) for row in (0, 1)]
    joined = np.concatenate(rows, axis=1)
    assert (joined == whole).all(axis=0).mean() > 0.9999  # an interpolated place may be an eighth of a pixel off
    assert (whole[3] == 255).any()


def test_documents_lead_to_tiles(families: Server) -> None:
    tilejson = families.json("/ogcapi/collections/regular/map/tiles/WebMercatorQuad", f="tilejson", datetime="2020-01-02T00:00:00Z")
    address = tilejson["tiles"][0].format(z=0, y=0, x=0).removeprefix(families.url)
    assert "datetime=2020-01-02" in address
    pixels, headers = picture(families, address)
    assert pixels.shape == (4, 256, 256)
    assert headers["content-datetime"].startswith("2020-01-02")
    sets = families.json("/ogcapi/tileMatrixSets")["tileMatrixSets"]
    assert [each["id"] for each in sets] == ["WebMercatorQuad", "WorldCRS84Quad"]
    for each in sets:
        assert families.json(each["links"][0]["href"].removeprefix(families.url))["tileMatrices"][3]["matrixHeight"] == 8
    assert families.get("/ogcapi/collections/regular/map/tiles/WebMercatorQuad/1/2/0").status_code == 404


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("palette=jet", "palette"),
        ("range=5,1", "range"),
        ("bbox=1,2,3", "bbox"),
        ("crs=EPSG:1", "crs"),
        ("crs=EPSG:1&bbox=0,0,1,1&bbox-crs=EPSG:3857", "crs"),
        ("bgcolor=red", "bgcolor"),
        ("properties=nothing", "properties"),
        ("width=9999", "width"),
        ("nothing=1", "nothing"),
        ("datetime=tomorrow", "datetime"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_place(families: Server, query: str, place: str) -> None:
    answer = families.get(f"/ogcapi/collections/regular/map?{query}")
    assert answer.status_code == 400, answer.text
    assert {each["loc"][-1] for each in answer.json()["errors"]} == {place}
    words = {"crs": "EPSG:1 is not a known", "bgcolor": "a colour of six hex digits, such as 0x"}.get(place, "")
    assert words in answer.json()["errors"][0]["message"]


def test_a_legend_is_in_the_form_that_a_client_accepts(families: Server) -> None:
    for accept, kind in (
        ("*/*", "image/svg+xml"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,image/apng,*/*;q=0.8", "image/svg+xml"),
        ("image/png", "image/png"),
        ("application/json;q=0.5, image/svg+xml;q=0.1", "application/json"),
    ):
        answer = httpx.get(f"{families.url}/datasets/regular/legend", headers={"Accept": accept}, trust_env=False)
        assert (answer.headers["content-type"], "Accept" in answer.headers["vary"]) == (kind, True)
    refused = httpx.get(f"{families.url}/datasets/regular/legend", headers={"Accept": "image/gif"}, trust_env=False)
    assert refused.status_code == 406


def test_a_subset_of_longitudes_and_latitudes_is_the_box(families: Server) -> None:
    base = "/ogcapi/collections/regular/map"
    box = families.get(base, bbox="-90,-30,0,60", width=90)
    subset = families.get(base, subset="Lat(-30:60),Lon(-90:0)", width=90)
    assert subset.content == box.content
    assert subset.headers["content-bbox"] == box.headers["content-bbox"]
    assert families.get(base, subset="Lat(-30:60)", width=90).headers["content-bbox"] == "-180,-30,180,60"
    for query in (
        {"subset": "Lat(0:10)", "bbox": "0,0,9,9"},
        {"subset": "Lat(*:10)"},
        {"subset": "Lat(10)"},
        {"subset": "Lat(9:1)"},
    ):
        assert families.get(base, **query).status_code == 400, query


def test_a_map_shows_one_label_of_each_axis(families: Server) -> None:
    base = "/ogcapi/collections/pressure-levels/map"
    for subset in ("level(500:1000)", "level(1000,500)", 'time("2020-01-01":"2020-01-03")'):
        answer = families.get(base, subset=subset)
        assert answer.status_code == 400, subset
        assert "one slice" in answer.json()["errors"][0]["message"]
    assert families.get(base, subset="level(500)").status_code == 200
    # A shorter form of a time names several: the first is drawn, and the answer says which.
    assert families.get(base, datetime="2020-01").headers["content-datetime"] == "2020-01-01T00:00:00Z"


def test_what_a_map_would_cost(families: Server) -> None:
    found = families.json("/ogcapi/collections/regular/map", estimate="true", width=40, height=20)
    assert found == {
        "pixels": 800, "cells": 48, "chunks": 1, "overview": 0, "format": "png", "allowed": True, "limit": None
    }  # fmt: skip
    assert families.json("/ogcapi/collections/projected/map", estimate="true", bbox="100,-60,120,-40")["cells"] == 0
    assert families.get("/ogcapi/collections/regular/map", estimate="true", width=5000).status_code == 400


def test_a_box_without_data_is_a_picture_without_anything_on_it(families: Server) -> None:
    pixels, _ = picture(families, "/ogcapi/collections/projected/map", bbox="100,-60,120,-40", width=50)
    assert (pixels[3] == 0).all()
    pixels, _ = picture(
        families, "/ogcapi/collections/projected/map", bbox="100,-60,120,-40", width=50, transparent="false", bgcolor="0x102030"
    )
    assert (pixels.reshape(4, -1).T == [16, 32, 48, 255]).all()


def test_pinned_and_dated_pictures_never_change(families: Server) -> None:
    version = families.json("/datasets/regular")["latest_version"]
    path = f"/ogcapi/collections/regular@{version}/map"
    dated = families.get(path, datetime="2020-01-02T00:00:00Z", width=20)
    assert "immutable" in dated.headers["cache-control"]
    assert "immutable" not in families.get(path, width=20).headers["cache-control"]
    again = families.get("/datasets/regular/thumbnail.png")
    assert again.headers["content-type"] == "image/png"

    known = httpx.get(
        families.url + "/datasets/regular/thumbnail.png", headers={"If-None-Match": again.headers["etag"]}, trust_env=False
    )
    assert known.status_code == 304


def test_the_page_of_a_dataset_shows_its_map_and_legend(families: Server) -> None:
    page = httpx.get(f"{families.url}/datasets/over-the-dateline", headers={"Accept": "text/html"}, trust_env=False).text
    (drawn,) = re.findall(r'<image class="data" href="([^"]+/map\?[^"]+)"', page)
    pixels, _ = picture(families, html.unescape(drawn))
    # The box crosses the antimeridian and is drawn whole: 40° by 40° of a frame of 92° by 46°.
    assert 0.37 < (pixels[3] == 255).mean() < 0.39
    (legend,) = re.findall(r'<img class="legend" src="([^"]+)"', page)
    assert families.get(legend.removeprefix(families.url)).headers["content-type"] == "image/svg+xml"
    (card,) = re.findall(r'property="og:image" content="([^"]+)"', page)
    assert families.get(card.removeprefix(families.url)).headers["content-type"] == "image/png"
