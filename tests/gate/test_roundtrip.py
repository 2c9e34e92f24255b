"""Every real file comes out as it went in, value by value and attribute by attribute, or is refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.sample import sample

from cubeport.errors import CalendarMismatch, CubeportError, SourceRejected

from .desk import ours_of, plain, same_bits, same_values, source_of, written

ACCEPTED = [
    "A1B-99999a-river-sep-2070-2099.nc",
    "Arctic20_1to5Feb_2016.nc",
    "CMIP5_rcp8.5_PCP_pctl25_P1Y.nc",
    "NO_TS_MO_FINO1_202209.nc",
    "PLANET_SCOPE_3D.nc",
    "SMALL_total_column_co2.nc",
    "archv_hycom.nc",
    "basin_mask.nc",
    "cmems_mod_bal_phy_anfc_P1D.nc",
    "coads_sst.nc",
    "croco_his.nc",
    "daily_surface_cancities_1990-1993.nc",
    "ensemble_multi/ACCESS1-0_tg_mean_YS.nc",
    "ensemble_multi/BNU-ESM_tg_mean_YS.nc",
    "ensemble_multi/CCSM4_tg_mean_YS.nc",
    "era5_multi/era5_2t_1.nc",
    "era5_multi/era5_2t_2.nc",
    "eraint_uvz.nc",
    "euro_air_temp.nc",
    "gebco_2020.nc",
    "goes_Cloud_Top_Height.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_203012-205511.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_205512-208011.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_208012-209912.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_209912-212411.nc",
    "indicators.nc",
    "landCoverFrac_Lmon_IPSL_201501.nc",
    "lfric_ngvat_2D_72t.nc",
    "msftmz_Omon_NorCPM1_185001.nc",
    "outCSne30_timeseries.nc",
    "polar_stereographic.nc",
    "rlds_Amon_IPSL-CM6A-LR_185001.nc",
    "roms_multi/Nordic_subset_day1.nc",
    "roms_multi/Nordic_subset_day2.nc",
    "roms_multi/Nordic_subset_day3.nc",
    "sic_SImon_CanESM5_2020.nc",
    "small_FC_167_mon_19601101.nc",
    "small_rotPole_precipitation.nc",
    "small_theta_colpex.nc",
    "sst_CMIP6_ssp245_mon_201501-210012.nc",
    "tas_ANT-44_HIRHAM5_20060101.nc",
    "tasmax_day_CanESM2_365day_2095.nc",
    "tasmax_day_HadGEM2-CC_360day_2095.nc",
    "test_lcc.nc",
    "tmean_1910_1910.nc",
    "tmmx_20190121.nc",
    "tos_Omon_CNRM-CM6-1_ssp245_201501.nc",
    "tos_Omon_IITM-ESM_1pctCO2_193001.nc",
    "unicode.nc",
    "analysed_sst.zarr",
    "rlds_v3.zarr",
]

REFUSED = {
    "b003_TS_200-299.nc": "bad-time",  # a calendar that CF does not know, days since the year 0
    "test_monotonic_coordinate.nc": "bad-time",  # a time that stands still
    "tiny.nc": "not-a-cube",
    "zero_length_time.nc": "empty",
    "corrupt/damaged_chunk.nc": "unreadable",
    "corrupt/empty.nc": "empty",
    "corrupt/html_error_page.nc": "unreadable",
    "corrupt/truncated_classic.nc": "truncated",
    "corrupt/truncated_netcdf4.nc": "truncated",
    "corrupt/truncated_netcdf4_b.nc": "truncated",
    "corrupt/truncated.grib": "truncated",
    "era5-levels-corrupted.grib": "unreadable",
}

REPAIRED = {
    "MODIS_ARRAY.nc": ("variable-renamed", "__xarray_dataarray_variable__", "values"),
    "climdiv_prcp_1899-1999.nc": ("time-repaired", "PRECT_WY_CD7", "PRECT_WY_CD7"),  # months since jan 1899
}
"""The warning, and a variable by its name in the source and here."""

FILLS_THAT_NO_VALUE_EQUALS = ("eraint_uvz.nc", *(f"roms_multi/Nordic_subset_day{day}.nc" for day in (1, 2, 3)))
"""NaN or 1e37 as ``_FillValue`` of packed integers: xarray finds no value missing either."""


def test_every_real_file_is_accepted_or_refused_here(realdata: Path) -> None:
    files = {path.relative_to(realdata).as_posix() for path in realdata.rglob("*") if path.suffix in (".nc", ".grib", ".grib2")}
    stores = {path.relative_to(realdata).as_posix() for path in realdata.rglob("*.zarr")}
    grib = {name for name in files if "grib" in name} - set(REFUSED)  # tests/gate/test_grib.py
    assert files | stores == set(ACCEPTED) | set(REPAIRED) | set(REFUSED) | grib


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@pytest.mark.parametrize("name", sample(ACCEPTED, every=4))
def test_what_is_accepted_comes_out_equal(name: str, realdata: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    said = written(target, realdata / name)
    about_queries = {"labels-ignored", "undated-time", "other-grids", "no-place", "two-places", "texts"}
    assert {kind for kind, _ in said["warnings"]} <= {"attribute-dropped", *about_queries}
    dropped = {words.partition(":")[0] for kind, words in said["warnings"] if kind == "attribute-dropped"}
    assert bool(dropped) == (name in FILLS_THAT_NO_VALUE_EQUALS)
    stored = {"decode_cf": False, "create_default_indexes": False}
    with source_of(realdata / name, **stored) as theirs, ours_of(target, **stored) as ours:
        assert set(ours.variables) == set(theirs.variables)
        assert plain(ours.attrs) == plain(theirs.attrs)
        for key, variable in theirs.variables.items():
            mine = ours.variables[key]
            if variable.dtype.kind not in "SO":
                assert mine.dims == variable.dims
                assert same_bits(mine.values, variable.values), key
                kept = {k: v for k, v in plain(variable.attrs).items() if not (k == "_FillValue" and key in dropped)}
                assert plain(mine.attrs) == kept
    decoded = {} if _decodes(realdata / name) else {"decode_times": False}
    with source_of(realdata / name, **decoded) as theirs, ours_of(target, **decoded) as ours:
        assert set(ours.coords) == set(theirs.coords)
        for key, variable in theirs.variables.items():
            assert ours[key].dims == variable.dims, key
            assert same_values(variable.values, ours[key].values), key
            assert plain(ours[key].attrs) == plain(variable.attrs), key


@pytest.mark.parametrize(("name", "kind", "theirs", "ours"), [(name, *row) for name, row in REPAIRED.items()])
def test_what_is_repaired_keeps_its_values(name: str, kind: str, theirs: str, ours: str, realdata: Path, tmp_path: Path) -> None:
    said = written(tmp_path / "new", realdata / name)
    assert kind in {each for each, _ in said["warnings"]}
    with source_of(realdata / name, decode_times=False) as source, ours_of(tmp_path / "new") as opened:
        assert same_values(source[theirs].values, opened[ours].values)


def test_months_since_are_the_months_of_the_calendar(realdata: Path, tmp_path: Path) -> None:
    written(tmp_path / "new", realdata / "climdiv_prcp_1899-1999.nc")
    with ours_of(tmp_path / "new") as opened:
        months = opened["time"].values.astype("datetime64[M]")
        assert (np.diff(months.astype(int)) == 1).all()
        assert (opened["time"].dt.day.values == 1).all()


def _decodes(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)
        try:
            source_of(path).close()
        except ValueError:
            return False
    return True


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_what_is_refused_is_refused_by_name(name: str, reason: str, realdata: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected) as refusal:
        written(tmp_path / "new", realdata / name)
    assert refusal.value.reason == reason


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@pytest.mark.parametrize(("folder", "along", "names"), [("roms_multi", "ocean_time", ()), ("hadgem2_multi", "time", slice(4))])
def test_a_series_equals_the_files_one_after_the_other(
    folder: str, along: str, names: object, realdata: Path, tmp_path: Path
) -> None:
    files = sorted((realdata / folder).glob("*.nc"))
    files = files[names] if isinstance(names, slice) else files
    target = tmp_path / "new"
    written(target, *reversed(files))
    parts = [source_of(path, decode_times=False) for path in files]
    with ours_of(target, decode_times=False) as ours:
        for key, variable in parts[0].variables.items():
            pieces = [part.variables[key] for part in parts]
            joined = xr.Variable.concat(pieces, along) if along in variable.dims else variable
            assert ours[key].dims == joined.dims
            assert same_values(joined.values, ours[key].values), key
    for part in parts:
        part.close()


def test_files_of_one_series_that_pack_differently_are_decoded(realdata: Path, tmp_path: Path) -> None:
    files = sorted((realdata / "era5_multi").glob("*.nc"))
    target = tmp_path / "new"
    said = written(target, *files)
    assert ["unpacked", "'t2m' is packed differently in era5_2t_2.nc; all its values are stored decoded"] in said["warnings"]
    parts = [source_of(path, decode_times=False) for path in files]
    with ours_of(target, decode_times=False) as ours:
        assert same_values(xr.Variable.concat([part.variables["t2m"] for part in parts], "time").values, ours["t2m"].values)
        assert "scale_factor" not in ours["t2m"].encoding
    for part in parts:
        part.close()


def test_series_that_overlap_or_differ_are_refused(realdata: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected, match="overlap along 'time', at 2099-12-16T00:00:00Z") as refusal:
        written(tmp_path / "a", *sorted((realdata / "hadgem2_multi").glob("*.nc")))
    assert refusal.value.reason == "bad-time"
    with pytest.raises(CalendarMismatch) as mismatch:
        written(tmp_path / "b", *sorted((realdata / "ensemble_multi").glob("*.nc")))
    assert [problem.loc[1] for problem in mismatch.value.errors] == ["BNU-ESM_tg_mean_YS.nc", "CCSM4_tg_mean_YS.nc"]
    with pytest.raises(CubeportError) as other:
        written(tmp_path / "c", realdata / "gebco_2020.nc", realdata / "test_lcc.nc")
    assert other.value.kind == "variables-mismatch"
