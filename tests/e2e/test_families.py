"""Each grid family, generated here, is read from a real server by clients that we did not write. Needs no data from elsewhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyproj
import pystac_client
import pytest
import xarray as xr
from tests.families import FAMILIES, positions
from tests.sample import sample

import cubeport

from .conftest import Server, here

# What zarr-python and xarray say while they write these files is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", FAMILIES)
def test_xarray_reads_every_value_and_coordinate_of_the_source(families: Server, family_files: dict[str, Path], name: str) -> None:
    asset = pystac_client.Client.open(families.url + "/stac").get_collection(name).assets["zarr"]
    engine: dict[str, Any] = {"engine": "zarr"} if family_files[name].suffix == ".zarr" else {}
    for raw in ({}, {"decode_cf": False}):
        served = xr.open_dataset(asset.href, **(asset.extra_fields["xarray:open_kwargs"] | raw))
        with xr.open_dataset(family_files[name], **engine, **raw) as theirs:
            assert set(served.variables) == set(theirs.variables)
            for key in theirs.variables:
                assert served[key].dims == theirs[key].dims
                np.testing.assert_array_equal(served[key].values, theirs[key].values)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_point_in_each_cell_answers_with_that_cell(families: Server, name: str) -> None:
    family = FAMILIES[name]
    field = family.make().t
    stacked = field.values.reshape(-1, positions(family)[0].size)
    for cell, (lon, lat) in enumerate(zip(*positions(family), strict=True)):
        if cell % 3:
            continue
        lon = (lon + 180) % 360 - 180
        answer = families.json(f"/ogcapi/collections/{name}/position", coords=f"POINT({lon:.6f} {lat:.6f})")
        coverages = answer["coverages"] if answer["type"] == "CoverageCollection" else [answer]
        values = [value for coverage in coverages for value in coverage["ranges"]["t"]["values"]]
        assert sorted(values) == stacked[:, cell].tolist(), (cell, lon, lat)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_collection_contains_every_position(families: Server, name: str) -> None:
    (west, south, east, north), *_ = families.json(f"/stac/collections/{name}")["extent"]["spatial"]["bbox"]
    lon, lat = positions(FAMILIES[name])
    assert south <= lat.min() <= lat.max() <= north
    assert ((lon - west) % 360 <= (east - west) % 360 + 360 * (east - west == 360)).all()


@pytest.mark.parametrize("name", sample(FAMILIES, every=4))
def test_the_page_draws_the_data_and_its_addresses_answer(families: Server, name: str) -> None:
    page = families.get(f"/datasets/{name}", f="html")
    assert page.status_code == 200
    loaded = {unescape(each) for each in re.findall(r'(?:src|href)="(/[^"]+)"', page.text)}
    assert any(each.startswith(f"/ogcapi/collections/{name}/map?") for each in loaded)
    for address in loaded:
        answer = families.get(address)
        # The place of the plot is the middle of the box, where a mooring or a swath may have nothing.
        allowed = (200, 404) if "/plot" in address or "/position" in address else (200,)
        assert answer.status_code in allowed, (address, answer.text)


def test_a_plot_is_at_the_values_of_the_cell(families: Server) -> None:
    for name, family in FAMILIES.items():
        made = family.make()
        lon, lat = (each[0] for each in positions(family))
        if made.t.size != positions(family)[0].size * made.sizes.get("time", 1):
            continue  # members or levels: the first of them is drawn
        answer = families.get(f"/datasets/{name}/plot", at=f"{(lon + 180) % 360 - 180:.6f},{lat:.6f}", v="t")
        assert answer.status_code == 200, (name, answer.text)
        assert answer.headers["content-type"] == "image/svg+xml"
        series = made.t.values.reshape(-1, positions(family)[0].size)[:, 0]
        known = series[np.isfinite(series)]
        sentence = re.search('aria-label="([^"]+)"', answer.text)[1]
        if series.size == 1:
            assert f": {known[0]:.6g}" in sentence, (name, sentence)
        elif known.size:
            assert f"least {known.min():.6g}" in sentence, (name, sentence)
            assert f"greatest {known.max():.6g}" in sentence, (name, sentence)


def odd(path: Path) -> Path:
    """Make a grid in kilometres with infinite values, texts, a second grid and a repaired time."""
    kilometres = (
        {"standard_name": "projection_x_coordinate", "units": "km"},
        {"standard_name": "projection_y_coordinate", "units": "km"},
    )
    crs = {key: value for key, value in pyproj.CRS.from_epsg(3035).to_cf().items() if key != "crs_wkt"}
    months = {"units": "months since 2001-01-01", "standard_name": "time"}
    xr.Dataset(
        {
            "t": (("time", "y", "x"), [[[np.inf, 1.0], [2.0, 3.0]]], {"grid_mapping": "crs"}),
            "kind": (("y", "x"), np.array([["a", "b"], ["c", "d"]], dtype=object)),
            "u": (("time", "x_u"), np.ones((1, 3))),
            "crs": ((), np.int32(0), crs),
        },
        {"x": ("x", [4000.0, 4100], kilometres[0]), "y": ("y", [3100.0, 3000], kilometres[1]), "time": ("time", [0], months)},
    ).to_netcdf(path, engine="netcdf4")
    return path


def mooring(path: Path) -> Path:
    """Make data along time and depth, whose place the fields name."""
    place = {"lat": ("place", [54.0], {"units": "degrees_north"}), "lon": ("place", [6.5], {"units": "degrees_east"})}
    deep = ("depth", [1.0, 2], {"units": "m", "positive": "down", "standard_name": "depth"})
    cube = xr.Dataset(
        {"s": (("time", "depth"), np.arange(4.0).reshape(2, 2), {"coordinates": "lat lon"})}, {"depth": deep, **place}
    )
    cube["time"] = ("time", [0, 1], {"units": "days since 2020-01-01", "standard_name": "time"})
    cube.reset_coords(["lat", "lon"]).to_netcdf(path, engine="netcdf4")
    return path


@pytest.mark.parametrize("make", [odd, mooring])
def test_warnings_have_the_same_words_wherever_they_are_shown(
    families: Server, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    name = make.__name__
    made = here("ingest", make(tmp_path / f"{name}.nc"), "--id", name, "--instance", families.root, "--no-progress", "--json")
    assert made.returncode == 0, made.stderr
    ingestion = json.loads(made.stdout)
    words = [each["message"] for each in ingestion["warnings"]]
    kinds = {each["kind"] for each in ingestion["warnings"]}
    assert kinds == ({"infinite", "texts", "other-grids", "time-repaired", "no-place"} if make is odd else {"no-place"})
    shown = families.json(f"/datasets/{name}")
    assert [each["message"] for each in shown["versions"][0]["warnings"]] == words
    job = families.json(f"/ingestions/{ingestion['ingestion_id']}")
    assert [each["message"] for each in job["warnings"]] == words
    page = families.get(f"/datasets/{name}", f="html")
    assert page.status_code == 200
    assert all(each in unescape(page.text) for each in words)
    told = here("datasets", name, "--instance", families.root)
    assert told.returncode == 0, told.stderr
    assert all(f"\n  {each}" in told.stdout for each in words)
    if make is mooring:
        assert words == [
            "'s' names a place and does not lie along it: searches find it there, and coverages and downloads have the values, but "
            "queries at a place and maps do not"
        ]
        found = families.json("/stac/search", bbox="6,53,7,55", collections=name)["features"]
        assert [each["collection"] for each in found] == [name]
        assert families.get(f"/ogcapi/collections/{name}/position", coords="POINT(6.5 54)").status_code == 400
        assert families.get(f"/ogcapi/collections/{name}/coverage").status_code == 200
    box = shown["extent"]["spatial_wgs84"]
    assert f"place: {', '.join(f'{edge:g}' for edge in box)} (west, south, east, north)" in told.stdout
    assert cubeport.connect(families.url)[name].box == tuple(box)


def test_pages_offer_tables_by_areas_exactly_where_they_work(families: Server) -> None:
    """Each table that a page offers is read as it stands; each dataset whose page offers none refuses one."""
    folder = families.root / "zones"
    folder.mkdir(exist_ok=True)
    place = {"type": "Polygon", "coordinates": [[[-60, -60], [60, -60], [60, 60], [-60, 60], [-60, -60]]]}
    feature = {"type": "Feature", "id": "a", "properties": {"name": "A"}, "geometry": place}
    (folder / "offered.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    try:
        until = time.monotonic() + 10
        while "offered" not in families.get("/zones").text:  # each process looks once a second
            assert time.monotonic() < until
            time.sleep(0.1)
        without = set()
        for name in FAMILIES:
            text = families.get(f"/datasets/{name}", f="html").text
            offers = [unescape(each) for each in re.findall(r'href="([^"]+/table\?[^"]*zones=offered[^"]*)"', text)]
            if not offers:
                without.add(name)
                assert families.get(f"/datasets/{name}/table", zones="offered").status_code == 406, name
            for each in offers:
                page, answer = (httpx.get(families.url + href, trust_env=False) for href in (each, each.replace("f=html", "f=csv")))
                assert (page.status_code, answer.status_code) == (200, 200), (name, each, answer.text)
                assert "<table" in page.text
                assert len(answer.text.splitlines()) == (2 if name == "no-time" else 4), (name, answer.text)
        assert without == {"unstructured"}
    finally:
        (folder / "offered.geojson").unlink()
