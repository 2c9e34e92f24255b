"""Every gridded variable is a field, or an ingestion says which are not; the box is that of all, and all grids are cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer
from tests.cubes.asking import Version

from cubeport.cubes.checks import check
from cubeport.cubes.crs import from_attributes
from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.describe import describe, where_and_when
from cubeport.cubes.groups import find
from cubeport.cubes.write_request import SourceWindow
from cubeport.documents.stac_sealing import interval
from cubeport.errors import SourceRejected
from cubeport.service.state import Reach

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = {"units": "days since 2020-01-01", "standard_name": "time"}


def ocean() -> xr.Dataset:
    """A surface, a depth, and what does not change, on one grid."""
    return xr.Dataset(
        {
            "zos": (("time", "lat", "lon"), np.arange(12, dtype="f4").reshape(2, 2, 3)),
            "mlotst": (("time", "lat", "lon"), np.zeros((2, 2, 3), "f4")),
            "thetao": (("time", "depth", "lat", "lon"), np.arange(48, dtype="f4").reshape(2, 4, 2, 3)),
            "bathymetry": (("lat", "lon"), np.arange(6, dtype="f4").reshape(2, 3)),
        },
        {
            "time": ("time", [0.0, 1], DAYS),
            "depth": ("depth", [0.0, 10, 50, 100], {"units": "m", "standard_name": "depth", "positive": "down"}),
            "lat": ("lat", [0.0, 10], LAT),
            "lon": ("lon", [0.0, 10, 20], LON),
        },
    )


def two_clocks() -> xr.Dataset:
    """Daily and half-daily values on the same cells."""
    return xr.Dataset(
        {
            "daily": (("day", "lat", "lon"), np.arange(18, dtype="f4").reshape(3, 2, 3)),
            "often": (("time", "lat", "lon"), np.arange(24, dtype="f4").reshape(4, 2, 3)),
            "mask": (("lat", "lon"), np.zeros((2, 3), "f4")),
        },
        {
            "day": ("day", [0.0, 1, 2], DAYS),
            "time": ("time", [0.0, 0.5, 1, 1.5], DAYS),
            "lat": ("lat", [0.0, 10], LAT),
            "lon": ("lon", [0.0, 10, 20], LON),
        },
    )


def two_grids() -> xr.Dataset:
    return xr.Dataset(
        {"low": (("time", "lat", "lon"), np.zeros((2, 2, 3))), "high": (("time", "lat_hi", "lon_hi"), np.zeros((2, 4, 6)))},
        {
            "time": ("time", [0.0, 1], DAYS),
            "lat": ("lat", [0.0, 10], LAT),
            "lon": ("lon", [0.0, 10, 20], LON),
            "lat_hi": ("lat_hi", np.arange(4) * 5.0, {"units": "degrees_north"}),
            "lon_hi": ("lon_hi", np.arange(6) * 5.0, {"units": "degrees_east"}),
        },
    )


def staggered() -> xr.Dataset:
    """Curvilinear rho, u and v grids, half a step apart."""

    def grid(name: str, rows: float, columns: float, shape: tuple[int, int]) -> dict[str, tuple[tuple[str, str], np.ndarray, dict]]:
        lon, lat = np.meshgrid(columns + np.arange(shape[1]), rows + np.arange(shape[0]))
        dims = (f"eta_{name}", f"xi_{name}")
        return {f"lon_{name}": (dims, lon + 0.1 * lat, LON), f"lat_{name}": (dims, lat, LAT)}

    return xr.Dataset(
        {
            "temp": (("eta_rho", "xi_rho"), np.zeros((8, 10)), {"coordinates": "lon_rho lat_rho"}),
            "h": (("eta_rho", "xi_rho"), np.zeros((8, 10)), {"coordinates": "lon_rho lat_rho"}),
            "u": (("eta_u", "xi_u"), np.zeros((8, 9)), {"coordinates": "lon_u lat_u"}),
            "v": (("eta_v", "xi_v"), np.zeros((7, 10)), {"coordinates": "lon_v lat_v"}),
        },
        {**grid("rho", 40, 0, (8, 10)), **grid("u", 40, 0.5, (8, 9)), **grid("v", 40.5, 0, (7, 10))},
    )


def test_all_variables_on_one_grid_are_fields() -> None:
    version = Version(ocean())
    assert version.description.fields == ("zos", "mlotst", "thetao", "bathymetry")
    assert check(ocean()) == ()
    point = version.edr("position", coords="POINT(10 10)", datetime="2020-01-02")
    assert version.values(point, "thetao") == [24.0 + 4 + 6 * level for level in range(4)]
    assert version.values(point, "zos") == [10.0]
    assert version.values(point, "bathymetry") == [4.0]
    shallow = version.coverage(properties="thetao,bathymetry", bbox="0,0,10,10", subset="depth(0:10)")
    assert len(version.values(shallow, "thetao")) == 2 * 2 * 4
    assert len(version.values(shallow, "bathymetry")) == 4


def test_a_second_grid_is_described_next_to_the_first_and_in_the_box() -> None:
    raw = two_grids()
    cube = describe(raw)
    (other,) = cube.grids
    ((kind, words),) = check(raw)
    assert kind == "other-grids"
    assert f"{other.fields[0]!r} is on another grid than {cube.fields[0]!r}" in words
    assert f"':{other.name}'" in words
    assert {*cube.fields, *other.fields} == {*cube.all_fields} == {"low", "high"}
    assert other.name == other.fields[0]
    assert cube.spatial.bbox == (-5, -5, 27.5, 17.5)
    alone = describe(raw, fields=[other.name])
    assert alone.grids == ()
    assert cube.on(other.name).spatial == other.spatial == alone.spatial.model_copy(update={"bbox": other.spatial.bbox})
    assert [axis.name for axis in cube.on(other.name).axes] == [str(each) for each in raw[other.name].dims]
    with pytest.raises(KeyError):
        cube.on("missing")


def test_grids_have_names_of_their_own_and_are_not_without_number() -> None:
    columns = {f"v {at}": ((f"lat{at}", f"lon{at}"), np.zeros((2, 3))) for at in range(20)}
    coordinates = {f"lat{at}": (f"lat{at}", [0.0, 10], LAT) for at in range(20)}
    coordinates |= {f"lon{at}": (f"lon{at}", [0.0, 10, 20], LON) for at in range(20)}
    cube = describe(xr.Dataset({**columns, "v-1": (("lat0", "lon1"), np.zeros((2, 3)))}, coordinates))
    names = [each.name for each in cube.grids]
    assert len(names) == len(set(names)) == 16
    assert all(name.isascii() and " " not in name for name in names)
    words = " ".join(text for kind, text in cube.warnings if kind == "other-grids")
    assert all(name in cube.fields or repr(name) in words for name in (*columns, "v-1"))


def test_what_has_neither_place_nor_time_is_named() -> None:
    raw = ocean()
    raw["weights"] = (("region", "rank"), np.zeros((2, 2)))
    raw["monthly_mean"] = (("time",), [1.0, 2.0])
    cube = describe(raw)
    words = " ".join(text for kind, text in cube.warnings if kind == "other-grids")
    assert "'weights' has neither a place" in words
    assert "'monthly_mean' is on another grid" in words
    assert [(each.name, each.spatial.family, each.temporal.count) for each in cube.grids if each.temporal] == [
        ("monthly_mean", "none", 2)
    ]


def test_every_grid_of_staggered_ones_is_cut_in_both_directions() -> None:
    raw = staggered()
    box = (3.0, 42.0, 11.0, 45.0)
    cut = raw.isel(window_indexers(raw, SourceWindow(bbox=box)))
    for name in ("rho", "u", "v"):
        lon, lat = cut[f"lon_{name}"].values, cut[f"lat_{name}"].values
        assert 0 < lon.size < raw[f"lon_{name}"].size
        assert lat.min() >= 42
        assert lat.max() <= 45
        inside = (raw[f"lon_{name}"] >= 3) & (raw[f"lon_{name}"] <= 11) & (raw[f"lat_{name}"] >= 42) & (raw[f"lat_{name}"] <= 45)
        assert int(inside.sum()) == int(((lon >= 3) & (lon <= 11)).sum())


def test_positions_that_were_never_written_are_no_place() -> None:
    raw = staggered()
    raw["lon_u"] = raw["lon_u"] * 0
    raw["lat_u"] = raw["lat_u"] * 0
    whole = describe(staggered()).spatial.bbox
    assert describe(raw).spatial.bbox == pytest.approx(whole, abs=0.6)
    assert any("'u'" in words for _, words in check(raw))
    assert [each.name for each in describe(raw).grids] == ["v"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Arctic20_1to5Feb_2016.nc", {"temperature", "salinity", "u", "v", "aice"}),
        ("sic_SImon_CanESM5_2020.nc", {"siconc"}),
        ("roms_multi/Nordic_subset_day1.nc", {"temp", "salt", "zeta", "h"}),
        ("croco_his.nc", {"zeta", "h"}),
        ("cmems_mod_bal_phy_anfc_P1D.nc", {"thetao", "so"}),
    ],
)
def test_real_files_lose_no_variable_silently(opened: Callable[[str], xr.Dataset], name: str, fields: set[str]) -> None:
    raw = opened(name)
    found = find(raw)
    assert fields <= set(found.fields)
    words = " ".join(text for _, text in check(raw))
    offered = {field for each in (found, *found.others) for field in each.fields}
    levels = {axis.dimension for each in (found, *found.others) for axis in each.axes if axis.kind == "z"}
    for variable, role in found.roles.items():
        coefficient = set(raw.variables[variable].dims) <= levels
        assert role != "data" or variable in offered or coefficient or repr(variable) in words


@pytest.mark.parametrize("moved", [0.0, 0.001, 3.0])
def test_a_grid_mapping_that_contradicts_the_positions_is_not_believed(moved: float) -> None:
    laea = {"grid_mapping_name": "lambert_azimuthal_equal_area", "longitude_of_projection_origin": 10.0}
    laea |= {"latitude_of_projection_origin": 52.0, "false_easting": 0.0, "false_northing": 0.0}
    x, y = np.arange(-2e5, 2.1e5, 2e4), np.arange(-1e5, 1.1e5, 2e4)
    lon, lat = Transformer.from_crs(from_attributes(laea), "OGC:CRS84", always_xy=True).transform(*np.meshgrid(x, y))
    metres = {"units": "m"}
    raw = xr.Dataset(
        {
            "v": (("y", "x"), np.zeros((y.size, x.size), "f4"), {"grid_mapping": "crs", "coordinates": "lon lat"}),
            "crs": ((), 0, laea),
        },
        {
            "x": ("x", x, {**metres, "standard_name": "projection_x_coordinate"}),
            "y": ("y", y, {**metres, "standard_name": "projection_y_coordinate"}),
            "lon": (("y", "x"), lon + moved, LON),
            "lat": (("y", "x"), lat, LAT),
        },
    )
    found = find(raw)
    told = [kind for kind, _ in check(raw)]
    assert (found.family, told) == (("curvilinear", ["two-places"]) if moved == 3 else ("projected", []))


def test_fields_on_two_clocks_are_two_coverages_and_each_has_its_times() -> None:
    version = Version(two_clocks())
    (other,) = version.description.grids
    both = {version.description.fields: version.description.temporal, other.fields: other.temporal}
    assert {fields: (each.axis, each.count, each.end) for fields, each in both.items()} == {
        ("often", "mask"): ("time", 4, "2020-01-02T12:00:00Z"),
        ("daily",): ("day", 3, "2020-01-03T00:00:00Z"),
    }
    windows = version.coverage(datetime="2020-01-02T00:00:00Z", properties="often")
    assert version.values(windows, "often") == np.arange(12.0, 18).tolist()


def test_a_search_and_stac_know_the_times_of_all_grids() -> None:
    described = describe(two_clocks())
    assert interval(described) == ("2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z")
    assert (Reach.of(described).start, Reach.of(described).end) == ("2020-01-01T00:00:00.000000Z", "2020-01-03T00:00:00.000000Z")
    assert [each.end for each in where_and_when(two_clocks())[1]] == ["2020-01-02T12:00:00Z", "2020-01-03T00:00:00Z"]
    still = two_clocks().drop_vars(["daily", "often"]).assign(series=("time", np.arange(4.0)))
    assert describe(still).temporal is None  # the map has no time, the series has
    assert interval(describe(still)) == ("2020-01-01T00:00:00Z", "2020-01-02T12:00:00Z")


def same_dims() -> xr.Dataset:
    """Cell centres and edges along the same dimensions, as NEMO and MOM write them."""
    j, i = np.meshgrid(np.arange(3.0), np.arange(4.0), indexing="ij")
    values = np.arange(12.0).reshape(3, 4)
    return xr.Dataset(
        {
            "t": (("y", "x"), values, {"coordinates": "lon_t lat_t"}),
            "u": (("y", "x"), values, {"coordinates": "lat_u lon_u"}),
            "salt": (("y", "x"), values, {"coordinates": "lat_t lon_t"}),
            "mask": (("y", "x"), values),
            "lon_t": (("y", "x"), 10 + 2 * i, LON),
            "lat_t": (("y", "x"), 40 + 2 * j, LAT),
            "lon_u": (("y", "x"), 11 + 2 * i, LON),
            "lat_u": (("y", "x"), 40 + 2 * j, LAT),
        }
    )


def test_fields_on_the_same_dimensions_with_positions_of_their_own_are_two_coverages() -> None:
    described = describe(same_dims())
    (other,) = described.grids
    assert (described.fields, described.spatial.x) == (("t", "salt", "mask"), "lon_t")
    assert (other.fields, other.spatial.x, other.spatial.y) == (("u",), "lon_u", "lat_u")
    assert described.spatial.bbox == (9.0, 39.0, 18.0, 45.0)


def scalars(**of: str) -> xr.Dataset:
    """Fields on one grid, each with the scalar coordinates that are named for it."""
    one = {
        "height": ((), 2.0, {"units": "m", "standard_name": "height", "positive": "up"}),
        "height_2": ((), 10.0, {"units": "m", "standard_name": "height", "positive": "up"}),
        "then": ((), 0.0, DAYS),
        "later": ((), 5.0, DAYS),
    }
    used = {word for words in of.values() for word in words.split()}
    fields = {
        name: (("lat", "lon"), np.zeros((2, 3)), {"coordinates": words} if words else {}) for name, words in sorted(of.items())
    }
    return xr.Dataset(
        {**fields, **{name: one[name] for name in sorted(used)}},
        {"lat": ("lat", [0.0, 10], LAT), "lon": ("lon", [0.0, 10, 20], LON)},
    )


@pytest.mark.parametrize(
    ("of", "heights"),
    [
        ({"tas": "height", "huss": "height"}, ["height"]),
        ({"tas": "height", "uas": "height_2"}, []),
        ({"tas": "height", "psl": ""}, []),
    ],
)
def test_a_height_is_told_only_where_all_fields_have_it(of: dict[str, str], heights: list[str]) -> None:
    found = find(scalars(**of))
    assert [axis.name for axis in found.axes if axis.kind == "z"] == heights
    assert [words.startswith("'height' is a coordinate of 'tas' alone") for kind, words in found.notes] == [True] * (not heights)


def test_fields_with_a_scalar_time_of_their_own_are_coverages_of_their_own() -> None:
    described = describe(scalars(a="then", b="later", c=""))
    (other,) = described.grids
    both = {described.fields: described.temporal, other.fields: other.temporal}
    assert {fields: each and each.start for fields, each in both.items()} == {
        ("a", "c"): "2020-01-01T00:00:00Z",
        ("b",): "2020-01-06T00:00:00Z",
    }
    assert interval(described) == ("2020-01-01T00:00:00Z", "2020-01-06T00:00:00Z")


def test_fields_with_another_grid_mapping_are_a_coverage_of_their_own() -> None:
    metres = {"units": "m"}
    two = xr.Dataset(
        {
            "a": (("y", "x"), np.zeros((3, 4)), {"grid_mapping": "laea"}),
            "b": (("y", "x"), np.zeros((3, 4)), {"grid_mapping": "utm"}),
            "laea": ((), 0, {"grid_mapping_name": "lambert_azimuthal_equal_area", "latitude_of_projection_origin": 52.0,
                             "longitude_of_projection_origin": 10.0, "false_easting": 4321000.0, "false_northing": 3210000.0}),
            "utm": ((), 0, {"grid_mapping_name": "transverse_mercator", "latitude_of_projection_origin": 0.0,
                            "longitude_of_central_meridian": 15.0, "scale_factor_at_central_meridian": 0.9996,
                            "false_easting": 500000.0, "false_northing": 0.0}),
        },
        {
            "y": ("y", [0.0, 1e5, 2e5], {"standard_name": "projection_y_coordinate", **metres}),
            "x": ("x", [0.0, 1e5, 2e5, 3e5], {"standard_name": "projection_x_coordinate", **metres}),
        },
    )  # fmt: skip
    described = describe(two)
    (other,) = described.grids
    assert (described.fields, other.fields) == (("a",), ("b",))
    assert other.spatial.bbox == pytest.approx((10.06, -0.46, 13.65, 2.3), abs=0.1)


@pytest.mark.parametrize("index", [{"sample_dimension": "obs"}, {"instance_dimension": "station"}])
def test_a_ragged_array_is_refused_and_no_observation_is_advised_away(index: dict[str, str]) -> None:
    along = "station" if "sample_dimension" in index else "obs"
    numbers = [2, 3] if along == "station" else [0, 0, 1, 1, 1]
    ragged = xr.Dataset(
        {"t": ("obs", np.arange(5.0), {"coordinates": "time lat lon"}), "i": (along, numbers, index)},
        {"time": ("obs", [0.0, 1, 0, 1, 2], DAYS), "lat": ("station", [10.0, 20], LAT), "lon": ("station", [0.0, 10], LON)},
    )
    with pytest.raises(SourceRejected, match="ragged array") as caught:
        check(ragged)
    assert "drop_duplicates" not in str(caught.value.next_step)
