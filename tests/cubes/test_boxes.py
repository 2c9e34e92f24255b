"""What is cut out of a source by a box and what is asked of a version by the same box are the same cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cubes.asking import labels_of
from tests.sample import sample

from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.describe import describe
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels
from cubeport.cubes.write_request import SourceWindow
from cubeport.errors import AreaOutsideSource, InvalidRequest, NotFound

type Box = tuple[float, float, float, float]


def asked(description: CubeDescription, labels: Labels, box: Box) -> dict[str, list[int]] | None:
    """Return what a query of the box takes along x and y, in stored order; ``None`` where there is nothing."""
    spatial = description.spatial
    x, y = (next((a.dimension for a in description.axes if a.name == n and not a.scalar), None) for n in (spatial.x, spatial.y))
    try:
        found = resolve(description, labels, Selection(bbox=box))
    except NotFound:
        return None
    wanted = [each for each in (x, y) if each] or list(description.variable(str(spatial.x)).dimensions)
    return {name: sorted(found.along[name].indices().tolist()) for name in wanted if name in found.along}


def held_against(raw: xr.Dataset, description: CubeDescription, boxes: list[Box]) -> int:
    """Hold the two rules against each other; return how many boxes took anything."""
    labels = labels_of(raw, description)
    held = 0
    for box in boxes:
        ours = asked(description, labels, box)
        try:
            taken = window_indexers(raw, SourceWindow(bbox=box))
        except AreaOutsideSource as refused:
            if "seam" in refused.message:
                assert ours is not None
                assert any(np.diff(each).max(initial=1) > 1 for each in ours.values())
            else:
                assert ours is None, (box, ours)
            continue
        except InvalidRequest:
            continue  # a mesh is never cut
        assert ours is not None, (box, taken)
        assert {name: np.arange(raw.sizes[name])[index].tolist() for name, index in taken.items()} == ours, box
        held += 1
    return held


GRIDS: list[tuple[Any, Any]] = [
    (np.arange(0.5, 360), np.arange(89.5, -90, -1)),
    (np.arange(-180, 180, 2.5, dtype="f4"), np.arange(-90, 90.1, 2.5)),
    (np.arange(170.0, 191), np.arange(-20.0, 21)),
    (np.concatenate((np.arange(0.0, 4), np.arange(323.0, 360))), np.arange(-20.0, 21)),
    (np.array([170.0, 175, -180, -175]), np.array([40.0, 30])),
    (np.arange(10.0, -10, -0.25), np.array([50.0])),
]
grids = st.integers(0, len(GRIDS) - 1)
edge = st.integers(-72, 71).map(lambda n: n * 2.5) | st.floats(-180, 179.99).map(lambda x: round(x, 3))
height = st.integers(-36, 36).map(lambda n: n * 2.5) | st.floats(-90, 90).map(lambda y: round(y, 3))


@settings(max_examples=200, deadline=None)
@given(grids, edge, edge, height, height, st.booleans())
def test_ingested_and_asked_by_one_box_are_the_same_cells(
    grid: int, west: float, east: float, south: float, north: float, bounded: bool
) -> None:
    lon, lat = GRIDS[grid]
    coords: dict[str, Any] = {
        "lon": ("lon", lon, {"units": "degrees_east"} | ({"bounds": "lon_bnds"} if bounded else {})),
        "lat": ("lat", lat, {"units": "degrees_north"}),
    }
    variables: dict[str, Any] = {"v": (("lat", "lon"), np.zeros((len(lat), len(lon)), "f4"))}
    if bounded:
        half = np.float64(0.5)
        variables["lon_bnds"] = (("lon", "nv"), np.stack((lon - half, lon + half), axis=1))
    raw = xr.Dataset(variables, coords)
    held_against(raw, describe(raw), [(west, min(south, north), east, max(south, north))])


FILES = [
    "A1B-99999a-river-sep-2070-2099.nc",
    "archv_hycom.nc",
    "cmems_mod_bal_phy_anfc_P1D.nc",
    "coads_sst.nc",
    "croco_his.nc",
    "daily_surface_cancities_1990-1993.nc",
    "eraint_uvz.nc",
    "euro_air_temp.nc",
    "goes_Cloud_Top_Height.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc",
    "polar_stereographic.nc",
    "rlds_Amon_IPSL-CM6A-LR_185001.nc",
    "sic_SImon_CanESM5_2020.nc",
    "SMALL_total_column_co2.nc",
    "small_rotPole_precipitation.nc",
    "small_theta_colpex.nc",
    "tas_ANT-44_HIRHAM5_20060101.nc",
    "test_lcc.nc",
    "tmean_1910_1910.nc",
    "tos_Omon_CNRM-CM6-1_ssp245_201501.nc",
]


@pytest.mark.parametrize("name", sample(FILES, every=6))
def test_the_two_rules_agree_on_real_grids(opened: Callable[[str], xr.Dataset], name: str) -> None:
    raw = opened(name)
    description = describe(raw)
    spatial = description.spatial
    if spatial.family == "none":
        return
    west, south, east, north = spatial.bbox
    width = (east - west) % 360 or 360.0
    number = np.random.default_rng(7)
    boxes: list[Box] = [spatial.bbox, (-180.0, -90.0, 180.0, 90.0)]
    for _ in range(30):
        a, b = np.sort(west + width * number.random(2))
        low, high = np.sort(south + (north - south) * number.random(2))
        boxes.append(tuple(round(float(each), 4) for each in ((a + 180) % 360 - 180, low, (b + 180) % 360 - 180, high)))  # type: ignore[arg-type]
    assert held_against(raw, description, boxes) > 1
