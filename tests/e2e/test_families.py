"""Each grid family, generated here, is read from a real server by clients that we did not write. Needs no data from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac_client
import pytest
import xarray as xr
from tests.families import FAMILIES, positions

from .conftest import Server, cli, start, stop

# What zarr-python and xarray say while they write these files is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: family.write(folder, name) for name, family in FAMILIES.items()}


@pytest.fixture(scope="module")
def server(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    import cubeport
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    root = tmp_path_factory.mktemp("instance")
    made = cli("init", root)
    assert made.returncode == 0, made.stderr
    with cubeport.connect(root) as service:
        for name, path in sources.items():
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(path),)))
            assert done.status == "completed", (name, done.error)
    process, url = start(root)
    yield Server(url, root, process)
    stop(process)


@pytest.mark.parametrize("name", FAMILIES)
def test_xarray_reads_every_value_and_coordinate_of_the_source(server: Server, sources: dict[str, Path], name: str) -> None:
    asset = pystac_client.Client.open(server.url + "/stac").get_collection(name).assets["zarr"]
    engine: dict[str, Any] = {"engine": "zarr"} if sources[name].suffix == ".zarr" else {}
    for raw in ({}, {"decode_cf": False}):
        served = xr.open_dataset(asset.href, **(asset.extra_fields["xarray:open_kwargs"] | raw))
        with xr.open_dataset(sources[name], **engine, **raw) as theirs:
            assert set(served.variables) == set(theirs.variables)
            for key in theirs.variables:
                assert served[key].dims == theirs[key].dims
                np.testing.assert_array_equal(served[key].values, theirs[key].values)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_point_in_each_cell_answers_with_that_cell(server: Server, name: str) -> None:
    family = FAMILIES[name]
    field = family.make().t
    stacked = field.values.reshape(-1, positions(family)[0].size)
    for cell, (lon, lat) in enumerate(zip(*positions(family), strict=True)):
        if cell % 3:
            continue
        lon = (lon + 180) % 360 - 180
        answer = server.json(f"/ogcapi/collections/{name}/position", coords=f"POINT({lon:.6f} {lat:.6f})")
        coverages = answer["coverages"] if answer["type"] == "CoverageCollection" else [answer]
        values = [value for coverage in coverages for value in coverage["ranges"]["t"]["values"]]
        assert sorted(values) == stacked[:, cell].tolist(), (cell, lon, lat)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_collection_contains_every_position(server: Server, name: str) -> None:
    (west, south, east, north), *_ = server.json(f"/stac/collections/{name}")["extent"]["spatial"]["bbox"]
    lon, lat = positions(FAMILIES[name])
    assert south <= lat.min() <= lat.max() <= north
    assert ((lon - west) % 360 <= (east - west) % 360 + 360 * (east - west == 360)).all()
