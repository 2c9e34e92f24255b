"""Departures from normal at a position (EDR): each value less the mean of the same month over years, of the same cell."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

RNG = np.random.default_rng(5)
YEARS = 12


@pytest.fixture(scope="module")
def source() -> xr.Dataset:
    """Twelve years of months on a small grid at two levels, with a hole."""
    time = np.array([f"{2000 + at // 12}-{at % 12 + 1:02d}-01" for at in range(12 * YEARS)], "datetime64[ns]")
    values = RNG.normal(10, 3, (time.size, 2, 3, 4))
    values[17] = np.nan
    rain = xr.DataArray(
        values,
        {"time": time, "z": [10.0, 100], "lat": [50.0, 40, 30], "lon": [0.0, 10, 20, 30]},
        ("time", "z", "lat", "lon"),
        name="rain",
        attrs={"units": "mm", "standard_name": "precipitation_amount"},
    )
    rain.lat.attrs, rain.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    rain.z.attrs = {"units": "m", "standard_name": "depth", "positive": "down", "axis": "Z"}
    return rain.to_dataset()


@pytest.fixture(scope="module")
def dataset(stored: Any, source: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("departures") / "departing-rain.nc"
    source.assign(warm=source.rain.assign_attrs(units="K", standard_name="air_temperature")).to_netcdf(path, engine="netcdf4")
    return str(stored(str(path)).dataset_id)


def ask(client: httpx.Client, dataset: str, **query: str) -> httpx.Response:
    given = {"coords": "POINT(11 38)", "parameter-name": "rain", **{name.replace("_", "-"): each for name, each in query.items()}}
    return client.get(f"/ogcapi/collections/{dataset}/position", params=given)


def wanted(source: xr.Dataset, how: str = "absolute") -> xr.DataArray:
    """Return the departures of the cell from the normal of 2001 to 2010, by xarray's own grouping."""
    cell = source.rain.sel(lon=10, lat=40)
    groups = cell.sel(time=slice("2001", "2010")).groupby("time.month")
    gap = cell.groupby("time.month") - groups.mean()
    if how == "percent":
        return (100 * gap).groupby("time.month") / groups.mean()
    return gap.groupby("time.month") / groups.std(ddof=1) if how == "standard" else gap


@pytest.mark.parametrize(("how", "units"), [("absolute", "mm"), ("percent", "%"), ("standard", "1")])
def test_values_are_the_departures_of_the_cell(
    client: httpx.Client, dataset: str, source: xr.Dataset, how: str, units: str
) -> None:
    asked = {} if how == "absolute" else {"departure": how}
    answer = ask(client, dataset, relative_to="2001/2010", datetime="2001-01/2002-12", z="100", **asked)
    assert answer.status_code == 200, answer.text
    coverage = answer.json()
    found = np.array([np.nan if each is None else each for each in coverage["ranges"]["rain"]["values"]])
    truth = wanted(source, how).sel(z=100, time=slice("2001-01", "2002-12")).values
    np.testing.assert_allclose(found, truth, rtol=1e-9)
    assert np.isnan(found).sum() == 1
    assert len(coverage["domain"]["axes"]["t"]["values"]) == 24
    parameter = coverage["parameters"]["rain"]
    assert "departure from the normal of 2001 to 2010" in str(parameter)
    assert "precipitation_amount" not in str(parameter["observedProperty"].get("id"))
    assert units in str(parameter["unit"])


def test_csv_has_the_departures_of_each_level(client: httpx.Client, dataset: str, source: xr.Dataset) -> None:
    answer = ask(client, dataset, relative_to="2001/2010", datetime="2011-07", f="csv")
    found = {float(row["z"]): float(row["rain"]) for row in csv.DictReader(io.StringIO(answer.text))}
    truth = wanted(source).sel(time="2011-07").squeeze("time")
    assert found == {float(z): pytest.approx(float(truth.sel(z=z))) for z in (10, 100)}


def test_several_points_each_have_their_own_normal(client: httpx.Client, dataset: str, source: xr.Dataset) -> None:
    points = {"coords": "MULTIPOINT((11 38),(30 50))", "datetime": "2005-03", "z": "10", "f": "csv"}
    answer = ask(client, dataset, relative_to="2001/2010", **points)
    assert answer.status_code == 200, answer.text
    found = [float(row["rain"]) for row in csv.DictReader(io.StringIO(answer.text))]
    march = source.rain.sel(z=10, time=source["time.month"] == 3)
    gap = march.sel(time="2005").squeeze("time") - march.sel(time=slice("2001", "2010")).mean("time")
    assert sorted(found) == pytest.approx(sorted([float(gap.sel(lon=10, lat=40)), float(gap.sel(lon=30, lat=50))]))


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"departure": "percent"}, 400, "departure needs relative-to"),
        ({"relative_to": "2010/2001"}, 400, "must be the first and the last year"),
        ({"relative_to": "2001/2010", "departure": "double"}, 400, "must be one of absolute, percent, standard"),
        ({"relative_to": "1961/1990"}, 409, "0 of the 30 years"),
        ({"relative_to": "2001/2010", "f": "netcdf"}, 406, "Request f=covjson or f=csv"),
        ({"relative_to": "2001/2010", "departure": "percent", "parameter_name": "warm"}, 400, "temperature"),
    ],
)
def test_what_is_no_departure_is_refused(
    client: httpx.Client, dataset: str, query: dict[str, str], status: int, words: str
) -> None:
    answer = ask(client, dataset, **query)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_the_cost_is_that_of_the_years_of_the_normal(client: httpx.Client, dataset: str) -> None:
    once = ask(client, dataset, datetime="2011-07", estimate="true").json()
    normal = ask(client, dataset, datetime="2011-07", estimate="true", relative_to="2001/2010").json()
    assert normal["chunks"] >= once["chunks"]
    assert normal["cells"] > 100 * once["cells"] / 2
