"""The window of an ingestion holds exactly the cells and steps that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.cutout import not_asked, window_indexers
from cubeport.cubes.write_request import SourceWindow
from cubeport.errors import AreaOutsideSource, InvalidPeriod, InvalidRange, InvalidRequest, NoData


def grid(lon: np.ndarray, lat: np.ndarray, **extra: object) -> xr.Dataset:  # type: ignore[type-arg]
    return xr.Dataset(
        {"v": (("lat", "lon"), np.zeros((len(lat), len(lon)), "f4"))},
        coords={
            "lon": ("lon", lon, {"units": "degrees_east"}),
            "lat": ("lat", lat, {"units": "degrees_north"}),
        },
    )


GLOBE = grid(np.arange(0.5, 360), np.arange(89.5, -90, -1))


def test_nothing_asked_is_everything() -> None:
    assert window_indexers(GLOBE, SourceWindow()) == {}


def test_western_longitudes_are_found_in_a_0_360_frame_and_descending_latitudes_stay() -> None:
    found = window_indexers(GLOBE, SourceWindow(bbox=(-93.0, 41.0, -76.0, 49.5)))
    assert found == {"lon": slice(267, 284), "lat": slice(40, 49)}


def test_touch_takes_cells_that_the_box_enters_and_centre_those_whose_label_is_inside() -> None:
    touch = window_indexers(GLOBE, SourceWindow(bbox=(10.2, 0.0, 12.2, 1.4)))
    assert touch == {"lon": slice(10, 13), "lat": slice(88, 90)}
    centre = window_indexers(GLOBE, SourceWindow(bbox=(10.2, 0.0, 12.2, 1.4), clip="centre"))
    assert centre == {"lon": slice(10, 12), "lat": slice(89, 90)}


def test_a_box_over_the_seam_is_refused_with_words() -> None:
    with pytest.raises(AreaOutsideSource, match="seam") as caught:
        window_indexers(GLOBE, SourceWindow(bbox=(-10.0, 40.0, 10.0, 50.0)))
    assert caught.value.next_step is not None
    assert window_indexers(GLOBE, SourceWindow(bbox=(-180.0, 40.0, 180.0, 50.0)))["lon"] == slice(0, 360)


def test_a_box_over_the_antimeridian_is_one_range_in_a_0_360_frame() -> None:
    assert window_indexers(GLOBE, SourceWindow(bbox=(170.0, -10.0, -170.0, 10.0)))["lon"] == slice(170, 190)


def test_nothing_inside_is_said() -> None:
    small = grid(np.arange(10.0, 20), np.arange(40.0, 50))
    with pytest.raises(AreaOutsideSource):
        window_indexers(small, SourceWindow(bbox=(100.0, 40.0, 110.0, 50.0)))
    with pytest.raises(AreaOutsideSource):
        window_indexers(small, SourceWindow(bbox=(10.0, -50.0, 20.0, -40.0)))


@given(
    st.floats(-180, 179).map(lambda number: round(number, 3)),
    st.floats(0.01, 200).map(lambda number: round(number, 3)),
    st.floats(-90, 89).map(lambda number: round(number, 3)),
    st.floats(0, 100).map(lambda number: round(number, 3)),
    st.sampled_from([0.0, -180.0, 30.0]),
)
def test_exactly_the_cells_that_the_box_enters_are_taken(
    west: float, width: float, south: float, height: float, frame: float
) -> None:
    lon = frame + np.arange(2.5, 360, 5)
    raw = grid(lon, np.arange(-87.5, 90, 5))
    north = min(90.0, south + height)
    east = west + width if west + width <= 180 else west + width - 360
    try:
        found = window_indexers(raw, SourceWindow(bbox=(west, south, east, north)))
    except AreaOutsideSource as exc:
        if "seam" not in exc.message:
            raise
        return
    full = east + (360 if east < west else 0)
    expected = {n for n, x in enumerate(lon) if any(x + 2.5 + 360 * k > west and x - 2.5 + 360 * k < full for k in range(-3, 4))}
    assert set(range(len(lon))[found["lon"]]) == expected
    rows = {
        n
        for n, y in enumerate(np.arange(-87.5, 90, 5))
        if (y + 2.5 > south and y - 2.5 < north) or y - 2.5 <= south == north < y + 2.5 or y + 2.5 == south == north == 90
    }
    assert set(range(36)[found["lat"]]) == rows


def test_months_are_cut_by_their_bounds_whatever_their_labels(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc")  # labels on the 16th, 360_day
    assert window_indexers(raw, SourceWindow(start="2006-01", end="2006-12")) == {"time": slice(1, 13)}
    assert window_indexers(raw, SourceWindow(start="2006", end="2006")) == {"time": slice(1, 13)}
    assert window_indexers(raw, SourceWindow(start="2006-02-16T00:00:00Z", end="2006-02-30T00:00:00Z")) == {"time": slice(2, 3)}
    with pytest.raises(InvalidPeriod):
        window_indexers(raw, SourceWindow(start="2006-13"))
    with pytest.raises(InvalidRange):
        window_indexers(raw, SourceWindow(start="2007", end="2006"))
    with pytest.raises(NoData, match="2005-12-16"):
        window_indexers(raw, SourceWindow(start="1990", end="1991"))


def test_years_that_begin_in_december_are_the_years_of_their_labels() -> None:
    days = np.arange(3.0) * 360
    raw = xr.Dataset(
        {"v": (("time",), np.zeros(3)), "time_bnds": (("time", "bnds"), np.stack((days - 180, days + 180), axis=1))},
        coords={"time": ("time", days, {"units": "days since 1860-06-01", "calendar": "360_day", "bounds": "time_bnds"})},
    )
    assert window_indexers(raw, SourceWindow(start="1861", end="1861")) == {"time": slice(1, 2)}


def test_steps_that_files_of_periods_have_besides_are_told() -> None:
    raw = xr.Dataset({"v": (("time",), np.zeros(6))}, coords={"time": ("time", np.arange(6.0), {"units": "days since 2024-01-01"})})
    window = SourceWindow(start="2024-01-02", end="2024-01-02", is_all=True)
    ((kind, words),) = not_asked(raw, window)
    assert kind == "steps-left-out"
    assert words.startswith("beside the steps of 2024-01-02, the files have 5 of other periods in 'time', which are left out: 20")
    assert words.endswith("2024-01-04T00:00:00Z, …")
    assert not_asked(raw, replace(window, start="2024-01-01", end="2024-01-06")) == []
    assert not_asked(raw, replace(window, is_all=False)) == []


def test_a_day_stamped_at_its_end_belongs_to_its_own_day() -> None:
    days = np.arange(1.0, 4)
    raw = xr.Dataset(
        {"v": (("time",), np.zeros(3)), "time_bnds": (("time", "bnds"), np.stack((days - 1, days), axis=1))},
        coords={"time": ("time", days, {"units": "days since 2024-01-01", "bounds": "time_bnds"})},
    )
    assert window_indexers(raw, SourceWindow(start="2024-01-01", end="2024-01-01")) == {"time": slice(0, 1)}


def test_days_keep_their_own_calendar(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("tasmax_day_HadGEM2-CC_360day_2095.nc")
    assert window_indexers(raw, SourceWindow(start="2095-02-30", end="2095-03-01")) == {"time": slice(59, 61)}
    with pytest.raises(InvalidPeriod):
        window_indexers(opened("tasmax_day_CanESM2_365day_2095.nc"), SourceWindow(start="2095-02-30"))


def test_no_time_takes_no_start_and_no_place_no_box(opened: Callable[[str], xr.Dataset]) -> None:
    with pytest.raises(InvalidPeriod):
        window_indexers(opened("gebco_2020.nc"), SourceWindow(start="2020"))
    with pytest.raises(InvalidRequest):
        window_indexers(opened("outCSne30_timeseries.nc"), SourceWindow(bbox=(0.0, 0.0, 10.0, 10.0)))


def test_scalar_time_is_in_or_out(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("polar_stereographic.nc")
    assert window_indexers(raw, SourceWindow(start="2016", end="2016")) == {}
    with pytest.raises(NoData):
        window_indexers(raw, SourceWindow(start="2017"))


@pytest.mark.parametrize(
    ("name", "bbox"),
    [
        ("test_lcc.nc", (11.2, 47.1, 11.5, 47.3)),
        ("tas_ANT-44_HIRHAM5_20060101.nc", (150.0, -80.0, -150.0, -70.0)),
        ("tas_ANT-44_HIRHAM5_20060101.nc", (-180.0, -90.0, 180.0, -85.0)),
        ("small_theta_colpex.nc", (-3.5, 52.2, -2.8, 52.6)),
    ],
)
def test_the_native_window_holds_every_cell_whose_centre_is_in_the_box(
    opened: Callable[[str], xr.Dataset], name: str, bbox: tuple[float, float, float, float]
) -> None:
    from pyproj import Transformer

    from cubeport.cubes import crs
    from cubeport.cubes.groups import find

    raw = opened(name)
    found = find(raw)
    x, y = raw.variables[str(found.x)], raw.variables[str(found.y)]
    lon, lat = Transformer.from_crs(crs.from_attributes(found.mapping), "OGC:CRS84", always_xy=True).transform(
        *np.meshgrid(x.values.astype("f8"), y.values.astype("f8"))
    )
    west, south, east, north = bbox
    width = 360.0 if east - west == 360 else (east - west) % 360
    inside = ((lon - west) % 360 <= width) & (lat >= south) & (lat <= north)
    window = window_indexers(raw, SourceWindow(bbox=bbox))
    taken = np.zeros(inside.shape, bool)
    taken[window[str(y.dims[0])], window[str(x.dims[0])]] = True
    assert inside.any()
    assert taken[inside].all()
    assert not taken.all()


def test_curvilinear_cells_are_picked_by_their_centres(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("croco_his.nc")
    window = window_indexers(raw, SourceWindow(bbox=(10.0, -35.0, 12.0, -33.0)))
    lon, lat = raw.variables["lon_rho"].values, raw.variables["lat_rho"].values
    inside = (lon >= 10) & (lon <= 12) & (lat >= -35) & (lat <= -33)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert window == {"eta_rho": slice(rows[0], rows[-1] + 1), "xi_rho": slice(columns[0], columns[-1] + 1)}


def test_stations_are_picked_one_by_one(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("daily_surface_cancities_1990-1993.nc")
    window = window_indexers(raw, SourceWindow(bbox=(-80.0, 40.0, -60.0, 50.0)))
    taken = raw.isel(window)
    assert 0 < taken.sizes["location"] < 5
    assert ((taken.lon.values >= -80) & (taken.lon.values <= -60)).all()


def test_a_mesh_is_not_cut(opened: Callable[[str], xr.Dataset]) -> None:
    with pytest.raises(InvalidRequest, match="mesh"):
        window_indexers(opened("lfric_ngvat_2D_72t.nc"), SourceWindow(bbox=(0.0, 0.0, 30.0, 30.0)))
