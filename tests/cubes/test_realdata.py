"""Every real file is taken as what it is, or refused for its own reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes.checks import check
from cubeport.cubes.describe import describe
from cubeport.errors import SourceRejected

WORLD = (-180.0, -90.0, 180.0, 90.0)

# name, family, bbox, calendar or None, period type, first field
ACCEPTED = [
    ("A1B-99999a-river-sep-2070-2099.nc", "none", None, "360_day", "climatology", "temp_dmax_tmean_abs"),
    ("Arctic20_1to5Feb_2016.nc", "curvilinear", (-11.0, 64.731, 52.513, 82.478), "standard", "daily", "aice"),
    ("CMIP5_rcp8.5_PCP_pctl25_P1Y.nc", "rectilinear", (-150, 40, -45, 90), "noleap", "yearly", "pr"),
    ("NO_TS_MO_FINO1_202209.nc", "none", (6.58333, 54.0, 6.58333, 54.0), "standard", "irregular", "DEPH_QC"),
    ("PLANET_SCOPE_3D.nc", "projected", (-51.3175, -17.3231, -51.3172, -17.3229), "proleptic_gregorian", "irregular", "blue"),
    ("SMALL_total_column_co2.nc", "rectilinear", WORLD, "standard", "6-hourly", "tcco2"),
    ("analysed_sst.zarr", "rectilinear", (-28.005, 39.995, -26.995, 41.005), "proleptic_gregorian", "daily", "sea_ice_fraction"),
    ("archv_hycom.nc", "rectilinear", (-98.0, -20.5531855, 16.0, 63.573068), "360_day", "irregular", "u"),
    ("basin_mask.nc", "rectilinear", WORLD, None, None, "basin"),
    ("cmems_mod_bal_phy_anfc_P1D.nc", "rectilinear", (23.2501885, 59.066326, 23.6668645, 59.966281), "standard", "daily", "thetao"),
    ("coads_sst.nc", "rectilinear", WORLD, "proleptic_gregorian", "monthly", "SST"),
    ("croco_his.nc", "curvilinear", (7.83333, -38.13134, 22.16667, -25.74725), None, None, "angle"),
    (
        "daily_surface_cancities_1990-1993.nc",
        "unstructured",
        (-123.15, 44.5, -63.4, 63.75),
        "proleptic_gregorian",
        "daily",
        "evspsblpot",
    ),
    ("ensemble_multi/ACCESS1-0_tg_mean_YS.nc", "rectilinear", (-75, 45, -72, 47), "proleptic_gregorian", "yearly", "tg_mean"),
    ("ensemble_multi/BNU-ESM_tg_mean_YS.nc", "rectilinear", (-75, 45, -72, 47), "noleap", "yearly", "tg_mean"),
    ("ensemble_multi/CCSM4_tg_mean_YS.nc", "rectilinear", (-75, 45, -72, 47), "noleap", "yearly", "tg_mean"),
    ("era5_multi/era5_2t_1.nc", "rectilinear", WORLD, "standard", "irregular", "t2m"),
    ("era5_multi/era5_2t_2.nc", "rectilinear", WORLD, "standard", "irregular", "t2m"),
    ("eraint_uvz.nc", "rectilinear", WORLD, None, None, "z"),
    ("euro_air_temp.nc", "projected", (-67.461, 18.326, 76.342, 77.1066), "standard", "irregular", "air_temperature"),
    ("gebco_2020.nc", "rectilinear", (12.2, 55.2, 13.1, 56.3), None, None, "elevation"),
    ("goes_Cloud_Top_Height.nc", "projected", (-140.616, 14.000, -49.179, 52.768), "standard", "irregular", "HT"),
    (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc",
        "rectilinear",
        (-0.9375, -90, -171.5625, 35.625),
        "360_day",
        "monthly",
        "tas",
    ),
    (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_203012-205511.nc",
        "rectilinear",
        (-0.9375, -90, -171.5625, 35.625),
        "360_day",
        "monthly",
        "tas",
    ),
    (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_205512-208011.nc",
        "rectilinear",
        (-0.9375, -90, -171.5625, 35.625),
        "360_day",
        "monthly",
        "tas",
    ),
    (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_208012-209912.nc",
        "rectilinear",
        (-0.9375, -90, -171.5625, 35.625),
        "360_day",
        "monthly",
        "tas",
    ),
    (
        "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_209912-212411.nc",
        "rectilinear",
        (-0.9375, -90, -171.5625, 35.625),
        "360_day",
        "monthly",
        "tas",
    ),
    ("indicators.nc", "rectilinear", (-124.9375, 24.9375, -66.9375, 52.9375), "standard", "yearly", "meantemp"),
    ("landCoverFrac_Lmon_IPSL_201501.nc", "rectilinear", WORLD, "standard", "monthly", "landCoverFrac"),
    ("lfric_ngvat_2D_72t.nc", "unstructured", WORLD, "standard", "irregular", "conv_rain"),
    ("msftmz_Omon_NorCPM1_185001.nc", "none", None, "noleap", "monthly", "msftmz"),
    ("outCSne30_timeseries.nc", "none", None, "proleptic_gregorian", "hourly", "psi"),
    ("polar_stereographic.nc", "projected", (-102.258, 16.673, 46.913, 81.3572), "standard", "irregular", "data"),
    ("rlds_Amon_IPSL-CM6A-LR_185001.nc", "rectilinear", WORLD, "standard", "monthly", "rlds"),
    ("rlds_v3.zarr", "rectilinear", WORLD, "proleptic_gregorian", "monthly", "rlds"),
    ("roms_multi/Nordic_subset_day1.nc", "curvilinear", (12.2888, 66.6872, 15.7749, 68.0204), "standard", "irregular", "aice"),
    ("roms_multi/Nordic_subset_day2.nc", "curvilinear", (12.2888, 66.6872, 15.7749, 68.0204), "standard", "irregular", "aice"),
    ("roms_multi/Nordic_subset_day3.nc", "curvilinear", (12.2888, 66.6872, 15.7749, 68.0204), "standard", "irregular", "aice"),
    ("sic_SImon_CanESM5_2020.nc", "curvilinear", (-180, -78.4945, 180, 89.9417), "noleap", "monthly", "siconc"),
    ("small_FC_167_mon_19601101.nc", "rectilinear", WORLD, None, None, "tas"),
    # Its grid mapping puts it over the pole, its positions over Europe: the positions are believed.
    ("small_rotPole_precipitation.nc", "curvilinear", (-34.59602, 26.482145, 59.436535, 71.75993), "standard", "daily", "pr"),
    (
        "small_theta_colpex.nc",
        "projected",
        (-3.8693, 51.9582, -2.3801, 52.8649),
        "standard",
        "irregular",
        "air_potential_temperature",
    ),
    ("sst_CMIP6_ssp245_mon_201501-210012.nc", "rectilinear", (-180, -90, 121, 11), "standard", "monthly", "sst"),
    ("tas_ANT-44_HIRHAM5_20060101.nc", "projected", (-180, -90, 180, -55.6946), "proleptic_gregorian", "daily", "tas"),
    ("tasmax_day_CanESM2_365day_2095.nc", "rectilinear", (-75.0041, 41.9993, -72.0042, 44.9992), "noleap", "daily", "tasmax"),
    ("tasmax_day_HadGEM2-CC_360day_2095.nc", "rectilinear", (-75.0041, 41.9993, -72.0042, 44.9992), "360_day", "daily", "tasmax"),
    ("test_lcc.nc", "projected", (10.9783, 46.9903, 11.7910, 47.5435), "standard", "monthly", "tas"),
    ("tmean_1910_1910.nc", "projected", (-13.0195, 47.8195, 3.5551, 61.1325), "standard", "climatology", "tmean"),
    ("tmmx_20190121.nc", "rectilinear", (-124.7875, 25.0458, -67.0375, 49.4208), "standard", "irregular", "air_temperature"),
    ("tos_Omon_CNRM-CM6-1_ssp245_201501.nc", "curvilinear", (-180, -79.0079, 180, 89.9417), "standard", "monthly", "tos"),
    ("tos_Omon_IITM-ESM_1pctCO2_193001.nc", "curvilinear", (-180, -82, 180, 89.9838), "julian", "daily", "tos"),
    ("unicode.nc", "projected", (-75.7356, 39.5631, -75.4882, 39.8351), None, None, "LST"),
]

REFUSED = [
    ("MODIS_ARRAY.nc", "bad-text", "__xarray_dataarray_variable__"),
    ("b003_TS_200-299.nc", "bad-time", "365_days"),
    ("climdiv_prcp_1899-1999.nc", "bad-time", "months since jan 1899"),
    ("test_monotonic_coordinate.nc", "bad-time", "time1"),
    ("tiny.nc", "not-a-cube", "tiny"),
    ("zero_length_time.nc", "empty", "length 0"),
]


@pytest.mark.parametrize(("name", "family", "bbox", "calendar", "period", "field"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_a_real_file_is_what_it_is(
    opened: Callable[[str], xr.Dataset],
    name: str,
    family: str,
    bbox: tuple[float, ...],
    calendar: str | None,
    period: str | None,
    field: str,
) -> None:
    raw = opened(name)
    before = {key: dict(variable.attrs) for key, variable in raw.variables.items()}
    check(raw)
    cube = describe(raw)
    assert {key: list(variable.attrs) for key, variable in raw.variables.items()} == {
        key: list(attrs) for key, attrs in before.items()
    }
    assert cube.spatial.family == family
    # The GOES file tells its own extent, of its image's edge as the producer computed it: a tenth of a degree.
    assert cube.spatial.bbox == pytest.approx(bbox, abs=0.1 if name.startswith("goes") else 1e-3)
    assert (cube.temporal.calendar if cube.temporal else None) == calendar
    assert (cube.temporal.period_type if cube.temporal else None) == period
    # zarr-python lists the arrays of an unconsolidated group in any order.
    assert field in cube.fields if name.endswith(".zarr") else cube.fields[0] == field
    assert describe(raw) == cube
    assert type(cube).model_validate_json(cube.model_dump_json()) == cube


@pytest.mark.parametrize(("name", "reason", "word"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_bad_file_is_refused_for_its_reason(opened: Callable[[str], xr.Dataset], name: str, reason: str, word: str) -> None:
    with pytest.raises(SourceRejected) as caught:
        check(opened(name))
    assert caught.value.reason == reason
    assert word in caught.value.message


def test_periods_are_those_of_the_bounds(opened: Callable[[str], xr.Dataset]) -> None:
    temporal = describe(opened("hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc")).temporal
    assert temporal is not None
    assert (temporal.first_period, temporal.last_period) == ("2005-12", "2030-11")
    days = describe(opened("tasmax_day_HadGEM2-CC_360day_2095.nc")).temporal
    assert days is not None
    assert (days.first_period, days.last_period) == ("2095-01-01", "2095-12-30")


def test_every_netcdf_and_zarr_is_in_the_tables(realdata) -> None:  # type: ignore[no-untyped-def]
    there = {str(path.relative_to(realdata)) for pattern in ("*.nc", "*_multi/*.nc", "*.zarr") for path in realdata.glob(pattern)}
    assert there == {row[0] for row in (*ACCEPTED, *REFUSED)}


def test_the_name_that_refuses_a_file_is_cured_by_the_line_it_is_told(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("MODIS_ARRAY.nc")
    with pytest.raises(SourceRejected) as caught:
        check(raw)
    assert caught.value.next_step is not None
    assert caught.value.members["repair"] == [{"rename": {"__xarray_dataarray_variable__": "xarray_dataarray_variable"}}]
    renamed = raw.rename({"__xarray_dataarray_variable__": "xarray_dataarray_variable"})
    check(renamed)
    spatial = describe(renamed).spatial
    assert spatial.family == "projected"
    assert spatial.bbox == pytest.approx((-93.1933, 45.0, -91.9239, 45.41667), abs=1e-3)


@pytest.mark.parametrize("name", ["test_lcc.nc", "tas_ANT-44_HIRHAM5_20060101.nc", "tmean_1910_1910.nc"])
def test_a_projected_box_holds_the_positions_that_the_producer_wrote(opened: Callable[[str], xr.Dataset], name: str) -> None:
    raw = opened(name)
    west, south, east, north = describe(raw).spatial.bbox
    lat = raw.variables["latitude" if "latitude" in raw.variables else "lat"].values
    lon = raw.variables["longitude" if "longitude" in raw.variables else "lon"].values
    assert south <= lat.min()
    assert lat.max() <= north
    assert west <= ((lon + 180) % 360 - 180).min()
    assert ((lon + 180) % 360 - 180).max() <= east
    # and no more than about one cell around them
    if south > -90:
        assert lat.min() - south < 0.5
        assert lon.min() - west < 2.5


def test_values_are_measured_decoded(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("era5_multi/era5_2t_1.nc")
    decoded = xr.decode_cf(raw)["t2m"].values
    found = describe(raw).variable("t2m")
    assert (found.dtype, found.decoded_dtype) == ("int16", str(decoded.dtype))
    assert found.valid_min == pytest.approx(float(np.nanmin(decoded)), rel=1e-12)
    assert found.valid_max == pytest.approx(float(np.nanmax(decoded)), rel=1e-12)
    assert found.nodata == -32767
