"""Stored coordinates are brought into the units of their CRS."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes.crs import is_off_greenwich
from cubeport.cubes.describe import describe

VIEW = {
    "grid_mapping_name": "geostationary",
    "perspective_point_height": 35786023.0,
    "semi_major_axis": 6378137.0,
    "semi_minor_axis": 6356752.31414,
    "latitude_of_projection_origin": 0.0,
    "longitude_of_projection_origin": 0.0,
    "sweep_angle_axis": "y",
}


@pytest.mark.parametrize(("units", "factor"), [("rad", 1.0), ("degree", 180 / np.pi), ("microradian", 1e6)])
def test_the_angles_of_a_satellite_are_one_place_in_every_unit(units: str, factor: float) -> None:
    angles = np.linspace(-0.1, 0.1, 9) * factor
    cube = xr.Dataset(
        {"a": (("y", "x"), np.zeros((9, 9)), {"grid_mapping": "crs"}), "crs": ((), 0, VIEW)},
        {name: (name, angles, {"units": units, "standard_name": f"projection_{name}_coordinate"}) for name in ("y", "x")},
    )
    west, south, east, north = describe(cube).spatial.bbox
    assert (round(east, 6), round(north, 6)) == (-round(west, 6), -round(south, 6)) == (78.106254, 47.263483)


@pytest.mark.parametrize(
    ("attributes", "off"),
    [
        ({"longitude_of_prime_meridian": 2.337229}, True),
        ({"longitude_of_prime_meridian": "2.337229"}, True),
        ({"longitude_of_prime_meridian": 0.0}, False),
        ({"longitude_of_prime_meridian": "Paris"}, False),
        ({"crs_wkt": 'GEOGCRS["x", PRIMEM["Paris", 1.2.3]]'}, False),
    ],
)
def test_a_meridian_that_is_no_number_is_not_read(attributes: dict[str, object], off: bool) -> None:
    assert is_off_greenwich(attributes) is off
