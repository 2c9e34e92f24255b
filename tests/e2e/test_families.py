"""Each grid family, generated here, is read from a real server by clients that we did not write. Needs no data from elsewhere."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pystac_client
import pytest
import xarray as xr
from tests.families import FAMILIES, positions

from .conftest import Server

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


@pytest.mark.parametrize("name", FAMILIES)
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
        if known.size:
            assert f"least {known.min():.6g}" in sentence, (name, sentence)
            assert f"greatest {known.max():.6g}" in sentence, (name, sentence)
