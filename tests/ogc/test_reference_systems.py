"""Labels and the reference system that an answer shows with them lead to the same place, in whatever units a file has x and y.

The truth is computed here, by PROJ from metres and by CF's own words: ``false_easting`` is in the units of x (Appendix F).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyproj
import pytest
import xarray as xr

from cubeport.documents import geozarr, zarr_v2

pytestmark = pytest.mark.filterwarnings("ignore")

FOOT = 1200 / 3937
NEW_YORK = pyproj.CRS.from_epsg(2263)
EUROPE = pyproj.CRS.from_epsg(3035)
SEEN_FROM_SPACE = {
    "grid_mapping_name": "geostationary",
    "perspective_point_height": 35786023.0,
    "semi_major_axis": 6378137.0,
    "semi_minor_axis": 6356752.31414,
    "latitude_of_projection_origin": 0.0,
    "longitude_of_projection_origin": -75.0,
    "sweep_angle_axis": "x",
}
PROJECTED = ("projection_x_coordinate", "projection_y_coordinate")
TRUE = ("longitude", "latitude")


def mapping(crs: pyproj.CRS, **changes: Any) -> dict[str, Any]:
    """Return the CF parameters of a CRS without its WKT."""
    return {key: value for key, value in crs.to_cf().items() if key not in ("crs_wkt", "geographic_crs_name")} | changes


KINDS: dict[str, Any] = {
    # stored x and y, their units and names, the grid mapping, and how PROJ finds the place of the stored numbers
    "metres": ([4e6, 4.1e6, 4.2e6], [3.2e6, 3.1e6], "m", PROJECTED, mapping(EUROPE), (EUROPE, 1.0)),
    "kilometres": ([4000.0, 4100, 4200], [3200.0, 3100], "km", PROJECTED, mapping(EUROPE), (EUROPE, 1000.0)),
    "kilometres-as-cf-says": (
        [4000.0, 4100, 4200],
        [3200.0, 3100],
        "km",
        PROJECTED,
        mapping(EUROPE, false_easting=4321.0, false_northing=3210.0),
        (EUROPE, 1000.0),
    ),
    "hundreds-of-kilometres": ([40.0, 41, 42], [32.0, 31], "100 km", PROJECTED, mapping(EUROPE), (EUROPE, 1e5)),
    "feet": ([9.8e5, 9.9e5, 1e6], [2e5, 1.9e5], "US_survey_foot", PROJECTED, mapping(NEW_YORK), (NEW_YORK, 1.0)),
    "metres-with-wkt-in-feet": (
        [9.8e5 * FOOT, 9.9e5 * FOOT, 1e6 * FOOT],
        [2e5 * FOOT, 1.9e5 * FOOT],
        "m",
        PROJECTED,
        NEW_YORK.to_cf(),
        (NEW_YORK, 1 / FOOT),
    ),
    "scan-angles": (
        [-0.02, 0.0, 0.02],
        [0.03, 0.01],
        "rad",
        PROJECTED,
        SEEN_FROM_SPACE,
        (pyproj.CRS.from_cf(SEEN_FROM_SPACE), 35786023.0),
    ),
    "from-paris": (
        [0.0, 1, 2],
        [48.0, 47],
        ("degrees_east", "degrees_north"),
        TRUE,
        {"grid_mapping_name": "latitude_longitude", "longitude_of_prime_meridian": 2.33722917},
        None,
    ),
    "radians": ([0.0, 0.1, 0.2], [0.8, 0.7], "radian", TRUE, {}, None),
}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("systems")

    def write(name: str) -> Any:
        x, y, units, names, crs, _ = KINDS[name]
        both = (units, units) if isinstance(units, str) else units
        path: Path = folder / f"system-{name}.nc"
        if not path.exists():
            held = {
                "y": ("y", np.array(y), {"standard_name": names[1], "units": both[1]}),
                "x": ("x", np.array(x), {"standard_name": names[0], "units": both[0]}),
                "t": (("y", "x"), np.arange(6.0).reshape(2, 3), {"grid_mapping": "crs"} if crs else {}),
                **({"crs": ((), np.int32(0), crs)} if crs else {}),
            }
            xr.Dataset(held).to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def places(name: str) -> list[tuple[float, float]]:
    """Return the longitude and latitude of each cell, rows first."""
    x, y, _, _, crs, way = KINDS[name]
    across, up = np.meshgrid(x, y)
    if way is not None:
        across, up = pyproj.Transformer.from_crs(way[0], "OGC:CRS84", always_xy=True).transform(across * way[1], up * way[1])
    elif name == "radians":
        across, up = np.degrees(across), np.degrees(up)
    else:
        across = across + crs["longitude_of_prime_meridian"]
    return list(zip(across.ravel().tolist(), up.ravel().tolist(), strict=True))


def seen(system: Any, x: Any, y: Any) -> list[tuple[float, float]]:
    """Return where a client sees the numbers of an answer in the reference system of the answer."""
    across, up = np.meshgrid(x, y)
    found = pyproj.CRS(system) if not isinstance(system, dict) else pyproj.CRS.from_json_dict(system)
    lon, lat = pyproj.Transformer.from_crs(found, "OGC:CRS84", always_xy=True).transform(across, up)
    return list(zip(lon.ravel().tolist(), lat.ravel().tolist(), strict=True))


def near(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=1e-6))


@pytest.mark.parametrize("name", KINDS)
def test_a_coverage_shows_its_labels_in_their_own_system(client: httpx.Client, put: Any, name: str) -> None:
    dataset = put(name).dataset_id
    domain = client.get(f"/ogcapi/collections/{dataset}/coverage").json()["domain"]
    (system,) = (each["system"] for each in domain["referencing"] if "x" in each["coordinates"])
    x, y = (domain["axes"][axis]["values"] for axis in "xy")
    assert near(seen(system.get("wkt") or system["id"], x, y), places(name))


@pytest.mark.parametrize("name", KINDS)
def test_a_place_is_that_of_the_source_on_every_door(client: httpx.Client, put: Any, name: str) -> None:
    dataset = put(name).dataset_id
    for value, (lon, lat) in enumerate(places(name)):
        point = client.get(f"/ogcapi/collections/{dataset}/position", params={"coords": f"POINT({lon} {lat})"})
        assert point.json()["ranges"]["t"]["values"] == [value], point.text
    west, south, east, north = client.get(f"/ogcapi/collections/{dataset}").json()["extent"]["spatial"]["bbox"][0]
    assert all(west <= lon <= east and south <= lat <= north for lon, lat in places(name))


@pytest.mark.parametrize("name", KINDS)
def test_stac_names_the_system_of_the_extent_and_of_the_pixels(put: Any, name: str) -> None:
    stac = put(name).documents["stac"]
    axes = stac["cube:dimensions"]
    system = axes["x"]["reference_system"]
    x, y = axes["x"]["extent"], axes["y"]["extent"]
    middle = seen(f"EPSG:{system}" if isinstance(system, int) else system, [np.mean(x)], [np.mean(y)])
    west, south, east, north = stac["proj:bbox"]
    pixels = seen(stac["proj:code"] or stac["proj:wkt2"], [(west + east) / 2], [(south + north) / 2])
    lon, lat = np.mean(np.array(places(name)).reshape(2, 3, 2)[:, 1], axis=0)
    assert near(middle, pixels)
    assert np.allclose(pixels, [(lon, lat)], atol=0.2), (pixels, lon, lat)


@pytest.mark.parametrize("name", KINDS)
def test_the_views_for_gdal_lead_to_the_same_place(put: Any, name: str) -> None:
    description = put(name).description
    about = geozarr.attributes(description)
    assert about is not None
    dx, _, left, _, dy, top = about["spatial:transform"]
    x, y = [left + dx * (column + 0.5) for column in range(3)], [top + dy * (row + 0.5) for row in range(2)]
    assert near(seen(about.get("proj:code") or about["proj:wkt2"], x, y), places(name))
    crs = zarr_v2.crs_of(description)
    if name == "radians":
        assert crs is None  # GDAL would take the stored radians for degrees
    else:
        assert crs is not None
        stored_x, stored_y = KINDS[name][:2]
        assert near(seen(crs.get("wkt") or crs["url"], stored_x, stored_y), places(name))


@pytest.mark.parametrize(
    ("x", "y", "named"), [("parsec", "parsec", "parsec"), ("km", "m", "km"), ("degrees", "degrees", "degrees")]
)
def test_units_that_are_no_length_leave_the_place_unknown(stored: Any, tmp_path: Path, x: str, y: str, named: str) -> None:
    path = tmp_path / f"unknown-{x}-{y}.nc"
    held = {
        "y": ("y", [2.0, 1], {"standard_name": PROJECTED[1], "units": y}),
        "x": ("x", [1.0, 2, 3], {"standard_name": PROJECTED[0], "units": x}),
        "t": (("y", "x"), np.arange(6.0).reshape(2, 3), {"grid_mapping": "crs"}),
        "crs": ((), np.int32(0), mapping(EUROPE)),
    }
    xr.Dataset(held).to_netcdf(path, engine="netcdf4")
    description = stored(str(path)).description
    assert (description.spatial.family, description.spatial.bbox) == ("none", None)
