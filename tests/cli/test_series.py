"""Files that do not fit together as they are: what the refusal advises makes one dataset of them with every value at its place."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.cli.conftest import Shell

LAT, LON = (10.0, 20.0, 30.0), (-20.0, -10.0, 0.0, 10.0)


def maps(*days: float, lat: Sequence[float] = LAT, lon: Sequence[float] = LON) -> xr.Dataset:
    """Return maps whose values tell the day and the place."""
    rows, columns = np.array(lat), np.array(lon)
    values = np.stack([100_000 * day + 1000 * rows[:, None] + (columns[None, :] + 180) % 360 - 180 for day in days])
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": ("time", np.array(days, "f8"), {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", rows, {"units": "degrees_north"}),
            "lon": ("lon", columns, {"units": "degrees_east"}),
        },
    )


def whole(made: xr.Dataset) -> xr.Dataset:
    """Return the same maps with whole numbers as labels."""
    kinds = {"lat": "i8", "lon": "i2", "time": "i4"}
    return made.assign_coords({name: (name, made[name].values.astype(kind), made[name].attrs) for name, kind in kinds.items()})


def bounded(made: xr.Dataset) -> xr.Dataset:
    """Return the same maps with bounds of time, which are no field."""
    made = made.assign(time_bnds=(("time", "nv"), np.stack([made.time.values, made.time.values + 1], axis=1)))
    made.time.attrs["bounds"] = "time_bnds"
    return made


CURED: dict[str, tuple[xr.Dataset, xr.Dataset, str]] = {
    "rows turned": (maps(0, 1), maps(2, 3, lat=LAT[::-1]), 'sort: ["lat"]'),
    "rows turned, north first": (maps(0, 1, lat=LAT[::-1]), maps(2, 3), 'sort: ["-lat"]'),
    "other longitudes": (maps(0, 1), maps(2, 3, lon=(340, 350, 0, 10)), "wrap_longitude: 180"),
    "longitudes beyond": (maps(0, 1), maps(2, 3, lon=(340, 350, 360, 370)), "wrap_longitude: 180"),
    "both": (maps(0, 1), maps(2, 3, lat=LAT[::-1], lon=(0, 10, 340, 350)), "wrap_longitude: 180"),
    "positive longitudes": (maps(0, 1, lon=(170, 180, 190, 200)), maps(2, 3, lon=(-170, -160, 170, 180)), "wrap_longitude: 360"),
    "dimensions turned": (maps(0, 1), maps(2, 3).transpose("lat", "lon", "time"), "transpose: "),
    "whole numbers": (maps(0, 1), maps(2, 3).assign(t=lambda made: made.t.astype("i4")), 'decode_packed: ["t"]'),
    "rows mixed": (maps(0, 1), maps(2, 3, lat=(20.0, 10.0, 30.0)), 'sort: ["lat"]'),
    "a further variable": (maps(0, 1), maps(2, 3).assign(u=lambda made: made.t * 2), "--skip-bad"),
}


def save(folder: Path, *made: xr.Dataset) -> list[Path]:
    paths = [folder / f"f{number}.nc" for number, _ in enumerate(made)]
    for path, each in zip(paths, made, strict=True):
        each.to_netcdf(path)
    return paths


def check(shell: Shell, days: Sequence[float]) -> None:
    (store,) = (shell.root / "data/store/x").glob("*/cube.zarr")
    with xr.open_zarr(store, chunks=None, decode_times=False) as found:
        assert found.time.values.tolist() == list(days)
        assert sorted(found.lat.values) == sorted(LAT)
        wanted = maps(*days, lat=found.lat.values, lon=found.lon.values)
        np.testing.assert_array_equal(found.t.transpose("time", "lat", "lon").values, wanted.t.values)


@pytest.mark.parametrize("name", CURED)
def test_the_advice_joins_them(name: str, shell: Shell, tmp_path: Path) -> None:
    *made, expected = CURED[name]
    paths = save(tmp_path, *made)
    refused = shell("ingest", *paths, "--series", "--id", "x")
    assert refused.code == 4
    (advice,) = [line for line in refused.err.splitlines() if line.startswith("next: ")]
    assert expected in advice
    shell.ok("ingest", *paths, "--series", "--id", "x", *shlex.split(advice[advice.index("--") :]))
    check(shell, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("made", "days"),
    [
        ((maps(0, 2), maps(1, 3)), [0, 1, 2, 3]),
        ((maps(1, 4, 7), maps(0, 3, 6), maps(2, 5, 8)), list(range(9))),
        ((maps(0, 1), maps(2).isel(time=0)), [0, 1, 2]),
        ((maps(2).isel(time=0), maps(0, 1)), [0, 1, 2]),
        ((maps(0, 1), whole(maps(2, 3))), [0, 1, 2, 3]),
    ],
    ids=["alternating", "three that alternate", "one with a single time", "one with a single time first", "labels that are whole"],
)
def test_what_needs_no_advice(made: Sequence[xr.Dataset], days: list[int], shell: Shell, tmp_path: Path) -> None:
    shell.ok("ingest", *save(tmp_path, *made), "--series", "--id", "x")
    check(shell, days)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((maps(0, 1), maps(0, 1, lon=(20, 30, 40, 50))), "'lon' differs at index 0"),
        ((maps(0, 1), maps(1, 2, lat=(40, 50, 60))), "'lat' differs at index 0"),
        ((maps(0, 1), maps(2, 3, lat=(10, 20, 31))), "'lat' differs at index 2"),
    ],
    ids=["tiles", "bands", "another row"],
)
def test_other_grids_are_other_datasets(made: Sequence[xr.Dataset], words: str, shell: Shell, tmp_path: Path) -> None:
    refused = shell("ingest", *save(tmp_path, *made), "--series", "--id", "x")
    assert refused.code == 4
    assert words in refused.err
    assert "overlap" not in refused.err, "no choice of steps joins them"
    assert "sort" not in refused.err


@pytest.mark.parametrize(
    "made",
    [
        (maps(0, 1), maps(0, 1).rename(t="u")),
        (bounded(maps(0, 1)), bounded(maps(0, 1)).rename(t="u")),
        (maps(0, 1), maps(2, 3).rename(lat="latitude", lon="longitude")),
    ],
    ids=["other variables", "other variables, the same bounds", "other names"],
)
def test_what_has_no_cure_can_be_published_apart(made: Sequence[xr.Dataset], shell: Shell, tmp_path: Path) -> None:
    paths = save(tmp_path, *made)
    refused = shell("ingest", *paths, "--series", "--id", "x")
    assert refused.code == 4
    assert "publish each file as a dataset of its own" in refused.err
    assert "2 created" in shell.ok("ingest", *paths, "--each").err
