"""Repair on the way in, by the gate's own writer: a refusal prints the step that cures it, and the step gives the right values."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr

from cubeport.catalog.forms import strictyaml
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.errors import CubeportError, GridMismatch, SourceRejected, VariablesMismatch

from .desk import ours_of, written


def grid(path: Path, *, time: Any = (0, 1), units: str = "days since 2000-01-01", **variables: Any) -> Path:
    """Make a small cube; a variable is (dims, values, attributes), ``None`` leaves one of the usual ones out."""
    held: dict[str, Any] = {
        "time": None if time is None else (("time",), np.asarray(time), {"units": units, "standard_name": "time"}),
        "lat": (("lat",), np.array([10.0, 20.0]), {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": (("lon",), np.array([1.0, 2.0, 3.0]), {"units": "degrees_east", "standard_name": "longitude"}),
        **variables,
    }
    if "t" not in held:
        first = 0 if time is None else len(time)
        dims = ("lat", "lon") if time is None else ("time", "lat", "lon")
        shape = (2, 3) if time is None else (first, 2, 3)
        held["t"] = (dims, np.arange(np.prod(shape), dtype="f4").reshape(shape), {})
    with netCDF4.Dataset(path, "w") as file:
        for dims, values, _ in filter(None, held.values()):
            for dim, size in zip(dims, np.shape(values), strict=True):
                if dim not in file.dimensions:
                    file.createDimension(dim, size)
        for name, (dims, values, attributes) in ((n, v) for n, v in held.items() if v is not None):
            fill = attributes.pop("_FillValue", None)
            variable = file.createVariable(name, np.asarray(values).dtype, dims, fill_value=fill)
            variable.set_auto_maskandscale(False)
            variable.setncatts(attributes)
            variable[...] = values
    return path


def steps(*given: Any) -> list[dict[str, Any]]:
    return plain(tuple(NormaliseStep.model_validate(each) for each in given))


def pasted(refusal: CubeportError) -> list[dict[str, Any]]:
    """Return the steps of the flags in the next step, as a shell and the command line read them."""
    advice = str(refusal.next_step).partition("; or leave out")[0]
    words = shlex.split(advice[advice.index("--normalise") :])
    found = [strictyaml.parse(words[at + 1], "--normalise").value for at, word in enumerate(words) if word == "--normalise"]
    assert found, refusal.next_step
    return steps(*found)


def kinds(said: dict[str, Any]) -> set[str]:
    return {kind for kind, _ in said["warnings"]}


def test_a_name_is_cured_by_the_step_that_the_refusal_prints(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", **{"sea temp": (("time", "lat", "lon"), np.ones((2, 2, 3), "f4"), {})})
    with pytest.raises(SourceRejected) as caught:
        written(tmp_path / "new", path)
    assert "--skip-bad" in str(caught.value.next_step)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert (opened["sea_temp"].values == 1).all()
    said = written(tmp_path / "skipped", path, skip_bad=True)
    assert "variable-skipped" in kinds(said)
    with ours_of(tmp_path / "skipped") as opened:
        assert list(opened.data_vars) == ["t"]


def test_a_name_keeps_its_letters_without_their_marks(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", Größe=(("time", "lat", "lon"), np.ones((2, 2, 3), "f4"), {}))
    with pytest.raises(SourceRejected) as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert (opened["Grosse"].values == 1).all()


def test_time_out_of_order_is_sorted_with_its_values(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", time=(2, 0, 1))
    with pytest.raises(SourceRejected) as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert [str(each)[:10] for each in opened["time"].values] == ["2000-01-01", "2000-01-02", "2000-01-03"]
        assert opened["t"][:, 0, 0].values.tolist() == [6.0, 12.0, 0.0]


def test_steps_with_the_same_time_are_one_when_the_step_is_pasted(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", time=(0, 1, 1, 2))
    with pytest.raises(SourceRejected, match="twice, at index 1 and 2") as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert [str(each)[8:10] for each in opened["time"].values] == ["01", "02", "03"]
        assert opened["t"][:, 0, 0].values.tolist() == [0.0, 12.0, 18.0]


def test_steps_without_a_time_are_left_out_when_the_step_is_pasted(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", time=(0.0, np.nan, 2.0))
    with pytest.raises(SourceRejected, match="label 1 is missing") as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert [str(each)[8:10] for each in opened["time"].values] == ["01", "03"]
        assert opened["t"][:, 0, 0].values.tolist() == [0.0, 12.0]


@pytest.mark.parametrize(
    ("labels", "words", "kept"),
    [([10.0, 10, 20], "same label at 0 and 1, 10", [3.0, 6]), ([10.0, np.nan, 20], "label 1", [0.0, 6])],
)
def test_rows_with_a_label_twice_or_without_one_are_left_out_when_the_step_is_pasted(
    tmp_path: Path, labels: list[float], words: str, kept: list[float]
) -> None:
    lat = (("lat",), np.array(labels), {"units": "degrees_north", "standard_name": "latitude"})
    path = grid(tmp_path / "a.nc", time=None, lat=lat, t=(("lat", "lon"), np.arange(9, dtype="f4").reshape(3, 3), {}))
    with pytest.raises(SourceRejected, match=words) as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert opened["t"][:, 0].values.tolist() == kept


def test_a_part_of_a_month_is_taken_when_the_step_is_pasted(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", time=(0.5, 1.5), units="months since 2001-01-01")
    with pytest.raises(SourceRejected) as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert [str(each)[:13] for each in opened["time"].values] == ["2001-01-16T12", "2001-02-15T00"]


def test_a_calendar_that_cf_does_not_know_is_stated_by_the_step(tmp_path: Path) -> None:
    clock = (("time",), np.array([0.0, 59.0]), {"units": "days since 2000-01-01", "calendar": "365_days", "standard_name": "time"})
    path = grid(tmp_path / "a.nc", time=None, t=(("time", "lat", "lon"), np.zeros((2, 2, 3), "f4"), {}))
    with netCDF4.Dataset(path, "a") as file:
        variable = file.createVariable("time", "f8", ("time",))
        variable.setncatts(clock[2])
        variable[:] = clock[1]
    with pytest.raises(SourceRejected, match="365_days") as caught:
        written(tmp_path / "new", path)
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured", decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as opened:
        assert [str(each)[:10] for each in opened["time"].values] == ["2000-01-01", "2000-03-01"]


def test_a_real_file_with_two_faults_is_taken_after_two_steps(realdata: Path, tmp_path: Path) -> None:
    path = realdata / "b003_TS_200-299.nc"
    done: list[dict[str, Any]] = []
    for words in ("365_days", "0000-00-00"):
        with pytest.raises(SourceRejected, match=words) as caught:
            written(tmp_path / words, path, normalise=done)
        done += pasted(caught.value)
    written(tmp_path / "cured", path, normalise=done)
    with ours_of(tmp_path / "cured") as opened, xr.open_dataset(path, decode_times=False) as source:
        assert (opened["TS"].values == source["TS"].values).all()


def test_years_before_the_first_become_an_axis_of_numbers(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", time=(-4_000_000, -3_999_000), units="days since 0001-01-01")
    with pytest.raises(SourceRejected, match="at index 0 is outside") as caught:
        written(tmp_path / "new", path)
    said = written(tmp_path / "cured", path, normalise=pasted(caught.value))
    assert "undated-time" in kinds(said)
    with ours_of(tmp_path / "cured") as opened:
        assert opened["time"].values.tolist() == [-4_000_000, -3_999_000]


def test_a_bad_variable_costs_itself_when_it_may_be_skipped(tmp_path: Path) -> None:
    bad = {"scale_factor": 0.0}
    path = grid(tmp_path / "a.nc", p=(("time", "lat", "lon"), np.zeros((2, 2, 3), "i2"), bad))
    with pytest.raises(SourceRejected, match="'scale_factor' of 'p' is 0") as caught:
        written(tmp_path / "new", path)
    assert "leave out 'p' with --skip-bad" in str(caught.value.next_step)
    said = written(tmp_path / "skipped", path, skip_bad=True)
    assert any(kind == "variable-skipped" and "'p' is skipped: 'scale_factor'" in words for kind, words in said["warnings"])
    with ours_of(tmp_path / "skipped") as opened:
        assert list(opened.data_vars) == ["t"]


def test_nothing_is_left_when_all_is_bad_so_it_is_refused(tmp_path: Path) -> None:
    path = grid(tmp_path / "a.nc", t=(("time", "lat", "lon"), np.zeros((2, 2, 3), "i2"), {"scale_factor": 0.0}))
    with pytest.raises(SourceRejected, match="scale_factor"):
        written(tmp_path / "new", path, skip_bad=True)


class TestSeries:
    def test_noise_of_single_precision_is_one_grid(self, tmp_path: Path) -> None:
        lat = -58.25 + 0.5 * np.arange(2)
        north = {"units": "degrees_north", "standard_name": "latitude"}
        a = grid(tmp_path / "a.nc", time=(0,), lat=(("lat",), lat, dict(north)))
        b = grid(tmp_path / "b.nc", time=(1,), lat=(("lat",), lat + np.array([0, -3.81e-6]), dict(north)))
        written(tmp_path / "new", a, b)
        with ours_of(tmp_path / "new") as opened:
            assert opened.sizes["time"] == 2
            assert opened["lat"].values.tolist() == lat.tolist()

    def test_single_and_double_precision_are_one_grid(self, tmp_path: Path) -> None:
        lat = np.array([-88.775, -88.725])
        north = {"units": "degrees_north", "standard_name": "latitude"}
        a = grid(tmp_path / "a.nc", time=(0,), lat=(("lat",), lat, dict(north)))
        b = grid(tmp_path / "b.nc", time=(1,), lat=(("lat",), lat.astype("f4"), dict(north)))
        written(tmp_path / "new", a, b)
        with ours_of(tmp_path / "new") as opened:
            assert opened["lat"].dtype == np.float64
            assert opened["lat"].values.tolist() == lat.tolist()

    def test_values_of_less_precision_are_stored_in_more(self, tmp_path: Path) -> None:
        def one(name: str, time: int, kind: str) -> Path:
            values = np.array([[[0.1, 1e20, 3], [4, 5, 6]]], kind)
            return grid(tmp_path / name, time=(time,), t=(("time", "lat", "lon"), values, {"_FillValue": np.array(1e20, kind)[()]}))

        said = written(tmp_path / "new", one("a.nc", 0, "f4"), one("b.nc", 1, "f8"))
        assert "widened" in kinds(said)
        with ours_of(tmp_path / "new") as opened:
            assert opened["t"].dtype == np.float64
            assert opened["t"][:, 0, 0].values.tolist() == [float(np.float32(0.1)), 0.1]
            assert np.isnan(opened["t"][:, 0, 1].values).all()

    def test_another_grid_is_refused_with_its_place_and_values(self, tmp_path: Path) -> None:
        north = {"units": "degrees_north", "standard_name": "latitude"}
        a = grid(tmp_path / "a.nc", time=(0,))
        b = grid(tmp_path / "b.nc", time=(1,), lat=(("lat",), np.array([10.0, 20.02]), dict(north)))
        with pytest.raises(GridMismatch, match=r"'lat' differs at index 1, 20.02 and not 20.0") as caught:
            written(tmp_path / "new", a, b)
        written(tmp_path / "cured", a, b, normalise=pasted(caught.value))
        c = grid(tmp_path / "c.nc", time=(1,), lat=(("lat",), np.array([10.0, 40.0]), dict(north)))
        with pytest.raises(GridMismatch) as caught:
            written(tmp_path / "other", a, c)
        assert "--normalise" not in str(caught.value.next_step)

    def test_files_of_one_image_each_are_joined_along_their_scalar_time(self, tmp_path: Path) -> None:
        def image(name: str, minutes: int) -> Path:
            clock = ((), np.int32(minutes), {"units": "minutes since 2019-01-01", "standard_name": "time"})
            rate = (("lat", "lon"), np.full((2, 3), float(minutes)), {"coordinates": "time"})
            return grid(tmp_path / name, time=None, clock=clock, t=rate)

        said = written(tmp_path / "new", image("b.nc", 72), image("a.nc", 70))
        assert "time-joined" in kinds(said)
        with ours_of(tmp_path / "new") as opened:
            assert opened["t"].dims == ("clock", "lat", "lon")
            assert [str(each)[11:16] for each in opened["clock"].values] == ["01:10", "01:12"]
            assert opened["t"][:, 0, 0].values.tolist() == [70.0, 72.0]

    def test_files_without_time_take_it_from_their_names(self, tmp_path: Path) -> None:
        paths = [
            grid(tmp_path / f"sst_2024010{day}.nc", time=None, t=(("lat", "lon"), np.full((2, 3), float(day)), {}))
            for day in (2, 1, 3)
        ]
        with pytest.raises(VariablesMismatch, match="no time axis") as caught:
            written(tmp_path / "new", *paths)
        written(tmp_path / "cured", *paths, normalise=pasted(caught.value))
        with ours_of(tmp_path / "cured") as opened:
            assert [str(each)[:10] for each in opened["time"].values] == ["2024-01-01", "2024-01-02", "2024-01-03"]
            assert opened["t"][:, 1, 1].values.tolist() == [1.0, 2.0, 3.0]

    def test_a_variable_of_few_files_is_skipped_and_one_that_is_missing_is_named(self, tmp_path: Path) -> None:
        extra = (("lat", "lon"), np.zeros((2, 3)), {})
        paths = [grid(tmp_path / f"{n}.nc", time=(n,), **({"odd": extra} if n == 2 else {})) for n in range(3)]
        said = written(tmp_path / "new", *paths)
        assert ["variable-skipped", "variables that only some of the files have are skipped: 'odd' (1 of 3)"] in said["warnings"]
        lacking = grid(tmp_path / "3.nc", time=(3,), t=None, u=(("time", "lat", "lon"), np.zeros((1, 2, 3), "f4"), {}))
        with pytest.raises(VariablesMismatch, match=r"3\.nc: variables 't' is missing") as caught:
            written(tmp_path / "other", *paths[:2], lacking)
        assert caught.value.next_step == "publish each file as a dataset of its own: --each"  # they have no field in common
        whole = [grid(tmp_path / f"w{n}.nc", time=(n,), **({"odd": extra} if n != 2 else {})) for n in range(3)]
        with pytest.raises(VariablesMismatch, match=r"w2\.nc: variables 'odd' is missing"):
            written(tmp_path / "refused", *whole)
        said = written(tmp_path / "cured", *whole, skip_bad=True)
        assert ["variable-skipped", "variables that only some of the files have are skipped: 'odd' (2 of 3)"] in said["warnings"]

    def test_a_variable_of_all_files_is_kept(self, tmp_path: Path) -> None:
        extra = (("lat", "lon"), np.ones((2, 3)), {})
        written(tmp_path / "new", *(grid(tmp_path / f"{n}.nc", time=(n,), odd=extra) for n in range(3)))
        with ours_of(tmp_path / "new") as opened:
            assert opened["odd"].values.tolist() == [[1.0] * 3] * 2

    def test_all_kinds_of_difference_are_reported_at_once(self, tmp_path: Path) -> None:
        a = grid(tmp_path / "a.nc", time=(0,), t=(("time", "lat", "lon"), np.zeros((1, 2, 3), "f4"), {"units": "K"}))
        b = grid(tmp_path / "b.nc", time=(1,), t=(("time", "lat", "lon"), np.zeros((1, 2, 3), "i2"), {"units": "degC"}))
        with pytest.raises(CubeportError) as caught:
            written(tmp_path / "new", a, b)
        assert {each.kind for each in caught.value.errors} == {"units-mismatch", "dtype-mismatch"}


def test_values_are_changed_before_the_window_is_cut(tmp_path: Path) -> None:
    """The first step of a window is a difference too."""
    path = grid(
        tmp_path / "a.nc",
        time=(0, 1, 2),
        t=(("time", "lat", "lon"), np.array([1.0, 3, 6]).repeat(6).reshape(3, 2, 3), {"units": "m"}),
    )
    window = {"bbox": None, "start": "2000-01-02", "end": "2000-01-03", "clip": "touch"}
    transforms = plain(tuple(TransformStep.model_validate(each) for each in ({"deaccumulate": "t"}, {"metres_to_mm": "t"})))
    written(tmp_path / "new", path, window=window, transforms=transforms)
    with ours_of(tmp_path / "new") as opened:
        assert opened["t"][:, 0, 0].values.tolist() == [2000.0, 3000.0]
        assert opened["t"].attrs["units"] == "mm"


def test_steps_are_lazy_and_equal_to_xarray(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(5, 2, 3)).astype("f4")
    path = grid(tmp_path / "a.nc", time=(4, 3, 2, 1, 0), t=(("time", "lat", "lon"), values, {"units": "K"}))
    written(
        tmp_path / "new",
        path,
        normalise=steps({"sort": ["time", "-lat"]}, {"transpose": ["lat", "lon", "time"]}, {"rename": {"t": "temperature"}}),
    )
    with xr.open_dataset(path) as theirs, ours_of(tmp_path / "new") as ours:
        expected = theirs["t"].sortby("time").sortby("lat", ascending=False).transpose("lat", "lon", "time")
        assert (ours["temperature"].values == expected.values).all()
        assert ours["temperature"].dims == expected.dims


def test_five_faults_of_one_file_are_listed_and_cured_together(tmp_path: Path) -> None:
    path = grid(
        tmp_path / "a.nc",
        time=(0, 1, 1),
        lat=(("lat",), np.array([30.0, 20, 20]), {"units": "degrees_north", "standard_name": "latitude"}),
        lon=(("lon",), np.array([0.0, 10, 5]), {"units": "degrees_east", "standard_name": "longitude"}),
        t=(("time", "lat", "lon"), np.arange(27, dtype="f4").reshape(3, 3, 3), {}),
        **{
            "sea temp": (("time", "lat", "lon"), np.ones((3, 3, 3), "f4"), {}),
            "p": (("time", "lat", "lon"), np.ones((3, 3, 3), "i2"), {"scale_factor": "0.5", "add_offset": "one"}),
            "q": (("time",), np.zeros(3), {"units": "days since 2020-13-45"}),
        },
    )
    with pytest.raises(SourceRejected) as caught:
        written(tmp_path / "new", path)
    listed = [(each.loc, each.kind) for each in caught.value.errors]
    assert listed == [
        (("variables", "sea temp"), "bad-text"),
        (("variables", "p", "scale_factor"), "bad-coordinates"),
        (("variables", "p", "add_offset"), "bad-coordinates"),
        (("variables", "q"), "bad-time"),
        (("variables", "time"), "bad-time"),
        (("variables", "lat"), "bad-coordinates"),
        (("variables", "lon"), "bad-coordinates"),
    ]
    words = {each.loc[1]: each.message for each in caught.value.errors}
    assert "at index 1 and 2" in words["time"]
    assert "same label at 1 and 2, 20" in words["lat"]
    assert "index 2, from 10 to 5" in words["lon"]
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured") as opened:
        assert opened["lon"].values.tolist() == [0, 5, 10]
        assert opened["t"][:, :, 0].values.tolist() == [[0, 6], [18, 24]]
        assert opened["p"].values.max() == 0.5
        assert "sea_temp" in opened


def test_one_fault_that_two_checks_meet_is_listed_once(tmp_path: Path) -> None:
    clock = (("time",), np.array([0.0, 59.0]), {"units": "days since 2000-01-01", "calendar": "365_days", "standard_name": "time"})
    with pytest.raises(SourceRejected) as caught:
        written(
            tmp_path / "new", grid(tmp_path / "a.nc", clock=clock, time=None, t=(("time", "lat", "lon"), np.ones((2, 2, 3)), {}))
        )
    assert len(caught.value.errors) == 1


def ragged(path: Path, **index: Any) -> Path:
    """Make seven observations of three stations, in the order of the stations or not."""
    ((name, (dims, values, attributes)),) = index.items()
    return grid(
        path,
        time=None,
        lat=(("station",), np.array([10.0, 20, 30]), {"units": "degrees_north", "standard_name": "latitude"}),
        lon=(("station",), np.array([0.0, 10, 200]), {"units": "degrees_east", "standard_name": "longitude"}),
        clock=(("obs",), np.array([0.0, 1, 0, 1, 2, 5, 6]), {"units": "days since 2000-01-01", "standard_name": "time"}),
        t=(("obs",), np.arange(7, dtype="f4"), {"coordinates": "clock lat lon"}),
        n=(("obs",), np.arange(7, dtype="i2"), {"coordinates": "clock lat lon"}),
        **{name: (dims, np.array(values, "i4"), attributes)},
    )


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ({"size": (("station",), [2, 3, 2], {"sample_dimension": "obs"})}, [0, 0, 1, 1, 1, 2, 2]),
        ({"of": (("obs",), [0, 1, 1, 0, 2, 1, 2], {"instance_dimension": "station"})}, [0, 1, 1, 0, 2, 1, 2]),
    ],
    ids=["contiguous", "indexed"],
)
def test_a_ragged_array_is_rows_of_stations_when_the_step_is_pasted(tmp_path: Path, index: Any, rows: list[int]) -> None:
    path = ragged(tmp_path / "a.nc", **index)
    with pytest.raises(SourceRejected, match="several stations one after the other") as caught:
        written(tmp_path / "new", path)
    assert "--skip-bad" not in str(caught.value.next_step)  # nothing would be left
    written(tmp_path / "cured", path, normalise=pasted(caught.value))
    with ours_of(tmp_path / "cured", decode_times=False) as opened:
        assert opened["t"].dims == ("station", "clock")
        assert opened["clock"].values.tolist() == [0, 1, 2, 5, 6]
        truth = {(row, day): value for value, (row, day) in enumerate(zip(rows, [0, 1, 0, 1, 2, 5, 6], strict=True))}
        for field in ("t", "n"):
            found = {
                (row, int(opened["clock"][column])): int(value)
                for (row, column), value in np.ndenumerate(opened[field].values)
                if np.isfinite(value)
            }
            assert found == truth


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"size": (("station",), [2, 3, 3], {"sample_dimension": "obs"})}, "does not count the 7 observations"),
        ({"of": (("obs",), [0, 1, 1, 0, 2, 1, 9], {"instance_dimension": "station"})}, "does not give each observation"),
        ({"of": (("obs",), [0, 1, 0, 0, 2, 1, 2], {"instance_dimension": "station"})}, "one time twice, at index 0 and 2"),
        ({"other": (("station",), [2, 3, 2], {})}, "is not the sample dimension"),
    ],
)
def test_a_ragged_array_that_contradicts_itself_is_refused(tmp_path: Path, index: Any, words: str) -> None:
    with pytest.raises(CubeportError, match=words):
        written(tmp_path / "new", ragged(tmp_path / "a.nc", **index), normalise=steps({"ragged": ["obs"]}))


def test_dates_that_zarr_has_as_a_type_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values, dims, attributes in (
        ("time", np.array(["2020-01-01", "2020-01-02T06"], "M8[ns]"), ["time"], {}),
        ("lat", np.array([10.0, 20]), ["lat"], {"units": "degrees_north"}),
        ("lon", np.array([1.0, 2]), ["lon"], {"units": "degrees_east"}),
        ("t", np.arange(8, dtype="f4").reshape(2, 2, 2), ["time", "lat", "lon"], {}),
        ("z", np.ones((2, 2), "c8"), ["lat", "lon"], {}),
    ):
        array = group.create_array(name, shape=values.shape, dtype=values.dtype)
        array.attrs.update({"_ARRAY_DIMENSIONS": dims, **attributes})
        array[...] = values
    zarr.consolidate_metadata(path)
    said = written(tmp_path / "new", path)
    assert {kind: text for kind, text in said["warnings"] if "'time'" in text or "complex" in text} == {
        "time-repaired": "'time' has dates as a type of its own; it now counts them as CF does",
        "variable-skipped": "z has a type that cannot be part of a cube: complex64",
    }
    with ours_of(tmp_path / "new") as opened:
        assert [str(each)[:13] for each in opened["time"].values] == ["2020-01-01T00", "2020-01-02T06"]


def test_texts_that_are_data_are_named(tmp_path: Path) -> None:
    path = grid(
        tmp_path / "a.nc",
    )
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("kind", str, ("lat", "lon"))[...] = np.array([["a", "b", "c"], ["d", "e", "f"]], dtype=object)
        file.createVariable("model", str, ("lat",))[...] = np.array(["x", "y"], dtype=object)
        file["t"].coordinates = "model"
    (text,) = (text for kind, text in written(tmp_path / "new", path)["warnings"] if kind == "texts")
    assert (
        text == "'kind': OGC and EDR queries return numbers, so only the Zarr store and NetCDF files of the whole have these texts"
    )


def placeless(said: dict[str, Any]) -> str | None:
    """Return the warning that the place is unknown."""
    return next((message for kind, message in said["warnings"] if kind == "no-place"), None)


TRANSFORM = "500000 10 0 5400000 0 -20"


def without_labels(path: Path, *, time: Any) -> Path:
    """Make a file that says where its cells are by GDAL's GeoTransform alone."""
    mapping = {"grid_mapping_name": "transverse_mercator", "crs_wkt": pyproj.CRS(32633).to_wkt(), "GeoTransform": TRANSFORM}
    dims, shape = (("y", "x"), (3, 4)) if time is None else (("time", "y", "x"), (len(time), 3, 4))
    band = (dims, np.arange(np.prod(shape), dtype="f4").reshape(shape), {"grid_mapping": "crs"})
    return grid(path, time=time, lat=None, lon=None, t=band, crs=((), np.int32(0), mapping))


def test_cells_of_an_affine_transform_have_their_place_when_the_step_is_pasted(tmp_path: Path) -> None:
    with pytest.raises(SourceRejected, match="has no coordinates") as caught:
        written(tmp_path / "new", without_labels(tmp_path / "a.nc", time=None))
    with_time = without_labels(tmp_path / "b.nc", time=(0, 1))
    told = placeless(written(tmp_path / "told", with_time))
    for number, (source, advice) in enumerate([(tmp_path / "a.nc", caught.value), (with_time, CubeportError("", next_step=told))]):
        cured = written(tmp_path / f"cured{number}", source, normalise=pasted(advice))
        assert placeless(cured) is None
        with ours_of(tmp_path / f"cured{number}") as opened:
            assert opened["x"].values.tolist() == [500005, 500015, 500025, 500035]
            assert opened["y"].values.tolist() == [5399990, 5399970, 5399950]


def test_gathered_cells_have_their_grid_when_the_step_is_pasted(tmp_path: Path) -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], "i2")
    listed = (("land",), np.array([0, 4, 5], "i4"), {"compress": "lat lon"})
    path = grid(tmp_path / "a.nc", land=listed, t=(("time", "land"), values, {"units": "kg m-2"}))
    told = placeless(written(tmp_path / "told", path))
    cured = written(tmp_path / "cured", path, normalise=pasted(CubeportError("", next_step=told)))
    assert placeless(cured) is None
    with ours_of(tmp_path / "cured") as opened:
        np.testing.assert_array_equal(
            opened["t"].values, [[[1, np.nan, np.nan], [np.nan, 2, 3]], [[4, np.nan, np.nan], [np.nan, 5, 6]]]
        )


def started(path: Path, start: Any) -> Path:
    """Make a file without a time that says when it begins (ACDD)."""
    grid(path, time=None)
    with netCDF4.Dataset(path, "a") as file:
        file.time_coverage_start = start
    return path


def test_files_that_say_when_they_begin_are_a_series_when_the_step_is_pasted(tmp_path: Path) -> None:
    days = ("2020-01-01T00:00:00.000Z", "2020-02-01T00:00:00Z", "20200301")
    paths = [started(tmp_path / f"{number}.nc", day) for number, day in enumerate(days)]
    with pytest.raises(VariablesMismatch, match="no time axis") as caught:
        written(tmp_path / "new", *paths)
    written(tmp_path / "cured", *reversed(paths), normalise=pasted(caught.value))
    alone = written(tmp_path / "alone", paths[1])
    [told] = [words for kind, words in alone["warnings"] if kind == "undated-time"]
    assert "'2020-02-01T00:00:00Z'" in told
    written(tmp_path / "dated", paths[1], normalise=pasted(CubeportError("", next_step=told)))
    for folder, expected in (("cured", ["2020-01-01", "2020-02-01", "2020-03-01"]), ("dated", ["2020-02-01"])):
        with ours_of(tmp_path / folder) as opened:
            assert [str(each)[:10] for each in opened["time"].values] == expected
            assert opened["t"].dims == ("time", "lat", "lon")


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [("start", "2020-01-01", "no attribute 'start'"), ("time_coverage_start", "soon", "'soon' is not a date")],
)
def test_an_attribute_without_a_date_is_named(tmp_path: Path, name: str, start: str, words: str) -> None:
    with pytest.raises(CubeportError, match=words):
        written(tmp_path / "new", started(tmp_path / "a.nc", start), normalise=steps({"set_time": {"from_attribute": name}}))


@pytest.mark.parametrize(("scale", "code", "unit"), [(1.0, "EPSG:4326", "degrees_east"), (1e5, "EPSG:3035", "m")])
def test_axes_without_a_reference_system_have_one_when_the_step_is_pasted(
    tmp_path: Path, scale: float, code: str, unit: str
) -> None:
    x, y = np.array([40.0, 41.0, 42.0]) * scale, np.array([20.0, 21.0]) * scale
    field = (("time", "y", "x"), np.zeros((2, 2, 3), "f4"), {})
    path = grid(tmp_path / "a.nc", lat=None, lon=None, x=(("x",), x, {}), y=(("y",), y, {}), t=field)
    [told] = [words for kind, words in written(tmp_path / "told", path)["warnings"] if kind == "no-crs"]
    assert code in told
    cured = written(
        tmp_path / "cured", path, normalise=pasted(CubeportError("", next_step=told.replace(", with its own code", "")))
    )
    assert not {"no-crs", "no-place"} & set(kinds(cured))
    with ours_of(tmp_path / "cured") as opened:
        assert opened["x"].attrs.get("units") == unit
