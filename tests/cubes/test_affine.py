"""Axes that a file says by an affine transform, compared with the labels that rasterio and GDAL give the same cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import xarray as xr

from cubeport.cubes.affine import NoTransform, transforms_of, with_axes
from cubeport.cubes.groups import find

UTM = pyproj.CRS(32633)
GDAL = "500000.0 10.0 0.0 5400000.0 0.0 -20.0"
AFFINE = [10.0, 0.0, 500000.0, 0.0, -20.0, 5400000.0]


def field(**attributes: Any) -> xr.Dataset:
    """Three rows and four columns without labels."""
    return xr.Dataset({"band": (("y", "x"), np.zeros((3, 4), "f4"), attributes)})


def gdal(text: Any = GDAL, **names: str) -> xr.Dataset:
    mapping = {"spatial_ref": UTM.to_wkt(), "crs_wkt": UTM.to_wkt(), "GeoTransform": text}
    return field(grid_mapping="crs").assign(crs=((), np.int32(0), mapping))


@pytest.mark.parametrize(
    "raw",
    [
        gdal(),
        gdal(GDAL.replace(" ", ", ")),
        field(**{"spatial:transform": AFFINE, "proj:code": "EPSG:32633"}),
        field().assign_attrs({"spatial:transform": AFFINE, "spatial:dimensions": ["y", "x"], "proj:wkt2": UTM.to_wkt()}),
        field().assign_attrs({"spatial:transform": AFFINE, "proj:projjson": UTM.to_json_dict()}),
        field(transform=(*AFFINE, 0.0, 0.0, 1.0), crs="EPSG:32633"),
    ],
    ids=["GeoTransform", "with commas", "spatial of a variable", "spatial of the group", "PROJJSON", "transform"],
)
def test_labels_are_the_centres_of_the_cells_that_the_transform_has(raw: xr.Dataset) -> None:
    rasterio = pytest.importorskip("rasterio.transform")
    made = with_axes(raw)
    x, _ = rasterio.xy(rasterio.Affine(*AFFINE), [0] * 4, range(4))
    _, y = rasterio.xy(rasterio.Affine(*AFFINE), range(3), [0] * 3)
    assert (
        (made.x.values.tolist(), made.y.values.tolist())
        == (list(x), list(y))
        == ([500005, 500015, 500025, 500035], [5399990, 5399970, 5399950])
    )
    found = find(made)
    assert (found.family, found.x, found.y) == ("projected", "x", "y")


def test_a_transform_of_nodes_begins_at_the_first_node() -> None:
    made = with_axes(field(**{"spatial:transform": AFFINE, "spatial:registration": "node", "proj:code": "EPSG:32633"}))
    assert (made.x.values[0], made.y.values[0]) == (500000, 5400000)


@pytest.mark.parametrize(
    ("code", "family", "standard"), [(4326, "rectilinear", "longitude"), (32633, "projected", "projection_x_coordinate")]
)
def test_names_of_axes_follow_the_reference_system(code: int, family: str, standard: str) -> None:
    made = with_axes(field(**{"spatial:transform": [0.5, 0, 10, 0, -0.5, 50], "proj:code": f"EPSG:{code}"}))
    assert find(made).family == family
    assert made.x.attrs["standard_name"] == standard


def test_six_numbers_of_the_caller_are_as_gdal_orders_them() -> None:
    assert with_axes(field(), tuple(map(float, GDAL.split()))).y.values.tolist() == [5399990, 5399970, 5399950]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (field(), "no field without labels"),
        (gdal("1 2 3"), "no field without labels"),
        (gdal("1 nan 0 1 0 1"), "no field without labels"),
        (gdal("500000 10 1 5400000 1 -10"), "is turned"),
        (gdal("500000 0 0 5400000 0 -10"), "a step of 0"),
        (gdal().assign_coords(x=[1, 2, 3, 4]), "no field without labels"),
    ],
)
def test_what_gives_no_axes_is_named(raw: xr.Dataset, words: str) -> None:
    with pytest.raises(NoTransform, match=words):
        with_axes(raw)


def test_two_transforms_of_the_same_cells_contradict_each_other() -> None:
    other = field(**{"spatial:transform": [1.0, 0, 0, 0, 1, 0]}).rename(band="other")
    with pytest.raises(NoTransform, match="different transforms along 'y'"):
        with_axes(xr.merge([field(**{"spatial:transform": AFFINE}), other]))


def test_a_definition_that_reads_files_is_not_given_to_proj() -> None:
    raw = field(**{"spatial:transform": AFFINE, "proj:wkt2": "+proj=longlat +nadgrids=/etc/passwd"})
    assert "grid_mapping" not in with_axes(raw).band.attrs
    assert transforms_of(raw).keys() == {"band"}
