"""Each grid family, generated here, is read from a real server by clients that we did not write. Needs no data from elsewhere."""

from __future__ import annotations

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
