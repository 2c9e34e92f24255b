"""GRIB through the gate: the values, places and times of cfgrib, several cubes refused with the keys, cut files refused.

ecCodes is loaded in other processes only, as the service does.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.sandbox.children import Children
from cubeport.cubes.describe import describe
from cubeport.errors import SourceRejected

from . import gribs
from .desk import ours_of

FILES = (
    "regular_gg.grib2",
    "rotated_nae.grib2",
    "reduced_gg.grib2",
    "healpix_H8.grib2",
    "era5-levels-members.grib",
    "era5-2mt-2019-03-uk.grib",
)


def written(children: Children, target: Path, *paths: Path, **changes: Any) -> Any:
    """Write *paths* in a confined child, as an ingestion does."""
    target.mkdir()
    request = {"target": str(target), "window": {"bbox": None, "start": None, "end": None, "clip": "touch"}, "variables": None}
    request |= {"attributes": {}, "chunks": None, "append_dim": None, "group": None, **changes}
    return children.run("write", request, sources=paths, write=[target])


_READ = """
import sys, xarray as xr
keys = {key: int(value) for key, _, value in (each.partition("=") for each in sys.argv[3:])}
opened = xr.open_dataset(sys.argv[1], engine="cfgrib", backend_kwargs={"indexpath": "", "filter_by_keys": keys})
opened.drop_attrs().to_netcdf(sys.argv[2], engine="h5netcdf")
"""


def theirs(path: Path, folder: Path, *keys: str) -> xr.Dataset:
    """Return what cfgrib reads, by way of a file that another process writes."""
    subprocess.run([sys.executable, "-c", _READ, str(path), str(folder / "theirs.nc"), *keys], check=True, capture_output=True)
    return xr.load_dataset(folder / "theirs.nc", engine="h5netcdf", decode_timedelta=True)


def test_a_made_file_comes_back_value_by_value(children: Children, tmp_path: Path) -> None:
    path = gribs.made(tmp_path / "t.grib2", "isobaricInhPa:850:20240101:t", "isobaricInhPa:850:20240102:t")
    written(children, tmp_path / "new", path)
    with ours_of(tmp_path / "new") as opened:
        assert opened["t"].dims == ("time", "latitude", "longitude")
        assert (opened["t"].values == [gribs.field(0), gribs.field(1)]).all()
        assert opened["latitude"].values.tolist() == [52, 51, 50]
        assert opened["longitude"].values.tolist() == [10, 11, 12, 13]
        assert opened["time"].values.astype("M8[D]").astype(str).tolist() == ["2024-01-01", "2024-01-02"]


def test_files_of_one_step_each_are_joined_as_cfgrib_joins_their_messages(children: Children, tmp_path: Path) -> None:
    days = ("20240101", "20240102", "20240103")
    files = [gribs.made(tmp_path / f"{day}.grib2", f"isobaricInhPa:850:{day}:t") for day in days]
    written(children, tmp_path / "new", files[2], *files[:2])
    whole = gribs.made(tmp_path / "whole.grib2", *(f"isobaricInhPa:850:{day}:t" for day in days))
    with ours_of(tmp_path / "new") as opened, theirs(whole, tmp_path) as source:
        assert {name: each.dims for name, each in opened.variables.items()} == {
            name: each.dims for name, each in source.variables.items()
        }
        for name in ("time", "valid_time"):
            assert (opened[name].values == source[name].values).all()
        assert (opened["t"].values == gribs.field(0)).all()


def test_clashing_levels_are_refused_with_keys_until_one_cube_is_chosen(children: Children, tmp_path: Path) -> None:
    levels = ("isobaricInhPa:850:20240101:t", "heightAboveGround:2:20240101:2t", "heightAboveGround:10:20240101:10u")
    path = gribs.made(tmp_path / "several.grib2", *levels)
    refused: list[list[str]] = []
    for group in (None, "typeOfLevel=heightAboveGround"):
        with pytest.raises(SourceRejected, match="not one cube") as caught:
            written(children, tmp_path / f"refused{len(refused)}", path, group=group)
        refused.append(caught.value.members["filter_by_keys"])
    assert refused[0] == ["typeOfLevel=isobaricInhPa", "typeOfLevel=heightAboveGround"]
    assert refused[1] == [f"typeOfLevel=heightAboveGround,shortName={name}" for name in ("2t", "10u")]
    for number, choice in enumerate((refused[0][0], *refused[1])):
        written(children, tmp_path / f"cube{number}", path, group=choice)
        with ours_of(tmp_path / f"cube{number}") as opened:
            (name,) = opened.data_vars
            assert (opened[name].values == gribs.field(number)).all()


def test_messages_for_one_place_are_refused_with_what_tells_them_apart(children: Children, tmp_path: Path) -> None:
    """Sums of 6 and of 3 hours with one end, as in each file of GFS: cfgrib reads the first, and says nothing of the others."""
    six, three = (f"surface:0:20240101:tp:productDefinitionTemplateNumber=8:stepRange={start}-6" for start in (0, 3))
    path = gribs.made(tmp_path / "sums.grib2", six, three)
    with pytest.raises(SourceRejected, match="2 different messages of tp") as refused:
        written(children, tmp_path / "none", path)
    keys = refused.value.members["filter_by_keys"]
    assert keys == ["lengthOfTimeRange=6", "lengthOfTimeRange=3"]
    for number, each in enumerate(keys):
        target = tmp_path / f"chosen-{number}"
        written(children, target, path, group=each)
        with ours_of(target) as opened:
            assert (opened["tp"].values == gribs.field(number)).all()
    twice = tmp_path / "twice.grib2"
    one = gribs.made(tmp_path / "one.grib2", six).read_bytes()
    twice.write_bytes(one + one)
    written(children, tmp_path / "twice", twice)


@pytest.mark.parametrize("name", [FILES[0], *(pytest.param(each, marks=pytest.mark.slow) for each in FILES[1:])])
def test_values_places_and_times_are_those_of_cfgrib(name: str, children: Children, realdata: Path, tmp_path: Path) -> None:
    written(children, tmp_path / "new", realdata / name)
    with theirs(realdata / name, tmp_path) as source, ours_of(tmp_path / "new") as opened:
        assert set(opened.variables) == set(source.variables)
        for key, variable in source.variables.items():
            mine = opened[key]
            assert mine.dims == variable.dims
            expected = variable.values
            if expected.dtype.kind == "m":  # a period stays the hours that CF writes
                expected = expected / np.timedelta64(1, "h")
            assert (np.asarray(mine.values, expected.dtype) == expected).all() or np.allclose(
                mine.values.astype("float64"), expected.astype("float64"), equal_nan=True, rtol=0, atol=0
            ), key


def test_a_series_of_messages_has_its_times_and_place(children: Children, realdata: Path, tmp_path: Path) -> None:
    written(children, tmp_path / "new", realdata / "era5-2mt-2019-03-uk.grib")
    with ours_of(tmp_path / "new", decode_cf=False) as raw:
        described = describe(raw)
    assert described.temporal is not None
    assert (described.temporal.count, described.temporal.index_start[:13]) == (744, "2019-03-01T00")
    assert described.spatial.family == "rectilinear"


@pytest.mark.slow
def test_messages_of_several_cubes_are_refused_with_keys_that_work(children: Children, realdata: Path, tmp_path: Path) -> None:
    path = realdata / "3_layer.grib2"
    with pytest.raises(SourceRejected, match="not one cube") as caught:
        written(children, tmp_path / "new", path)
    words = shlex.split(str(caught.value.next_step))
    choices = [words[at + 1] for at, word in enumerate(words) if word == "--filter-by-keys"]
    assert choices == caught.value.members["filter_by_keys"]
    assert len(choices) == 3
    for number, choice in enumerate(choices):
        written(children, tmp_path / f"cube{number}", path, group=choice)
        with theirs(path, tmp_path, choice) as source, ours_of(tmp_path / f"cube{number}") as opened:
            (name,) = source.data_vars
            assert (opened[name].values == source[name].values).all()


def test_keys_that_choose_nothing_or_are_none_are_refused(children: Children, realdata: Path, tmp_path: Path) -> None:
    path = realdata / "regular_gg.grib2"
    with pytest.raises(SourceRejected, match="no GRIB message with typeOfLevel=surface") as caught:
        written(children, tmp_path / "a", path, group="typeOfLevel=surface")
    assert caught.value.reason == "empty"
    with pytest.raises(SourceRejected, match="is not a key and its value"):
        written(children, tmp_path / "b", path, group="surface")


@pytest.mark.parametrize("name", ["corrupt/truncated.grib", "era5-levels-corrupted.grib"])
def test_a_cut_file_is_refused_and_no_part_of_it_published(name: str, children: Children, realdata: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected) as caught:
        written(children, tmp_path / "new", realdata / name)
    assert caught.value.reason in ("truncated", "unreadable")


def test_a_message_that_declares_more_than_it_may_is_refused(children: Children, realdata: Path, tmp_path: Path) -> None:
    body = bytearray((realdata / "regular_gg.grib2").read_bytes())
    at = 16
    while body[at + 4] != 3:
        at += int.from_bytes(body[at : at + 4])
    body[at + 6 : at + 10] = (2**31).to_bytes(4)
    (tmp_path / "bomb.grib2").write_bytes(body)
    with pytest.raises(SourceRejected) as caught:
        children.run("scan", {}, sources=[tmp_path / "bomb.grib2"])
    assert caught.value.members["rule"] == "chunk_bytes"
