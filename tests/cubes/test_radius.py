"""EDR radius: cells within a distance over the ellipsoid, held against a great circle of a sphere with a margin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cubes.asking import Version

from cubeport.cubes.edr.radius import Circle
from cubeport.errors import InvalidRequest, NotFound

_FLATTENING = 0.006
"""A great circle of the mean sphere and a geodesic of WGS 84 differ by less than this share."""


def great_circle_km(lon: Any, lat: Any, lon0: float, lat0: float) -> Any:
    """Return haversine distances on the mean sphere."""
    lon, lat, lon0, lat0 = map(np.radians, (lon, lat, lon0, lat0))
    half = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
    return 2 * 6371.0088 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def globe(step: float = 5.0, *, west: float = -180.0) -> xr.Dataset:
    """Return a field whose values number its cells."""
    lat = np.arange(-90 + step / 2, 90, step)
    lon = west + np.arange(step / 2, 360, step)
    values = np.arange(lat.size * lon.size, dtype="float64").reshape(lat.size, lon.size)
    return xr.Dataset(
        {"n": (("lat", "lon"), values)},
        coords={
            "lat": ("lat", lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", lon, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )


def turned() -> xr.Dataset:
    """Return the same cells with positions of two dimensions."""
    plain = globe()
    lon, lat = np.meshgrid(plain["lon"].values, plain["lat"].values)
    return xr.Dataset(
        {"n": (("j", "i"), plain["n"].values, {"coordinates": "lat lon"})},
        coords={
            "lat": (("j", "i"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": (("j", "i"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )


def inside(version: Version, lon: float, lat: float, km: float) -> set[float]:
    windows = version.edr("radius", coords=f"POINT({lon!r} {lat!r})", within=repr(km), **{"within-units": "km"})
    return set(version.values(windows))


@pytest.fixture(scope="module", params=["west -180", "west 0", "positions"])
def version(request: pytest.FixtureRequest) -> Version:
    return Version({"west -180": globe(), "west 0": globe(west=0), "positions": turned()}[request.param])


@settings(max_examples=60, deadline=None)
@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(800, 19_000))
def test_cells_within_the_distance_are_taken_and_no_others(version: Version, lon: float, lat: float, km: float) -> None:
    found = inside(version, lon, lat, km)
    raw = version.raw
    east, north = (raw["lon"].values, raw["lat"].values) if raw["lon"].ndim == 2 else np.meshgrid(raw["lon"], raw["lat"])
    far = great_circle_km(east, north, lon, lat)
    numbers = raw["n"].values
    assert set(numbers[far < km * (1 - _FLATTENING)].tolist()) <= found
    assert found <= set(numbers[far < km * (1 + _FLATTENING)].tolist())
    assert found


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(1, 20_000_000), st.floats(0, 360))
def test_the_box_surrounds_the_circle(lon: float, lat: float, metres: float, azimuth: float) -> None:
    from pyproj import Geod

    circle = Circle(lon, lat, metres)
    x, y, _ = Geod(ellps="WGS84").fwd(lon, lat, azimuth, metres)
    west, south, east, north = circle.bounds
    assert south <= y <= north
    assert (x - west) % 360 <= east - west + 1e-9


def test_a_circle_within_one_cell_is_that_cell(version: Version) -> None:
    assert inside(version, 3.5, 1.5, 1) == inside(version, 2.5, 2.5, 1)
    assert len(inside(version, 3.5, 1.5, 1)) == 1


def test_a_circle_outside_the_data_has_none() -> None:
    regional = Version(globe().sel(lat=slice(20, 60), lon=slice(20, 60)))
    with pytest.raises(NotFound):
        inside(regional, -100, -40, 100)


def test_units_mean_what_they_say() -> None:
    version = Version(globe(1.0))

    def count(within: str, units: str) -> int:
        return len(version.values(version.edr("radius", coords="POINT(10 50)", within=within, **{"within-units": units})))

    assert count("500", "km") == count("500000", "m") == count("310.6856", "mi") == count("269.9784", "nmi") > 50


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"coords": "POINT(1 2)", "within": "10"}, "within-units"),
        ({"coords": "POINT(1 2)", "within": "-1", "within-units": "km"}, "within"),
        ({"coords": "POINT(1 2)", "within": "inf", "within-units": "km"}, "within"),
        ({"coords": "POINT(1 2)", "within": "1", "within-units": "parsec"}, "within-units"),
        ({"coords": "POLYGON((0 0, 1 0, 1 1, 0 0))", "within": "1", "within-units": "km"}, "coords"),
        ({"within": "1", "within-units": "km"}, "coords"),
    ],
)
def test_what_is_wrong_is_named(query: dict[str, str], name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Version(globe()).edr("radius", **query)
    assert [each.loc for each in refused.value.errors] == [("query", name)]
