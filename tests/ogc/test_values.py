"""Windows chosen so that a flip or a shift would show, over a real socket: every value equals the source file's."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from covjson_pydantic.coverage import Coverage, CoverageCollection
from jsonschema.validators import validator_for

# The source of the members has two fill values, and so has what is as stored.
pytestmark = pytest.mark.filterwarnings("ignore:variable 'sst' has multiple fill values")


@dataclass(frozen=True)
class Case:
    """A query of a real file."""

    file: str
    field: str
    query: dict[str, str]
    chunks: tuple[tuple[str, int], ...] = ()


CASES = {
    "north-up, -180..180, whole files": Case(
        "CMIP5_rcp8.5_PCP_pctl25_P1Y.nc",
        "pr",
        {"bbox": "-100,50,-96,53", "datetime": "2010/2012"},
        chunks=(("time", 10), ("lat", 7), ("lon", 11)),
    ),
    "south-up": Case("coads_sst.nc", "SST", {"bbox": "150,-31,157,-24", "subset": "TIME(*)"}),
    "0..360 asked in west": Case("SMALL_total_column_co2.nc", "tcco2", {"bbox": "-5.2,40,3.1,44", "datetime": "2006-01-06"}),
    "packed, levels, months, -180..180": Case("eraint_uvz.nc", "u", {"bbox": "10,0,13,4", "subset": "level(500:850),month(7)"}),
    "x before y, 360_day": Case(
        "tasmax_day_HadGEM2-CC_360day_2095.nc", "tasmax", {"bbox": "-74,43,-73.5,43.3", "datetime": "2095-02-28/2095-03-01"}
    ),
    "x before y, noleap": Case(
        "tasmax_day_CanESM2_365day_2095.nc", "tasmax", {"bbox": "-74,43,-73.5,43.3", "datetime": "2095-02-28"}
    ),
    "descending depths": Case("cmems_mod_bal_phy_anfc_P1D.nc", "thetao", {"bbox": "23.3,59.2,23.5,59.5", "subset": "depth(0:10)"}),
    "0..360 over the seam": Case("rlds_Amon_IPSL-CM6A-LR_185001.nc", "rlds", {"bbox": "-10,-20,10,20"}),
    "antimeridian": Case("rlds_Amon_IPSL-CM6A-LR_185001.nc", "rlds", {"bbox": "170,-20,-170,20"}),
    "one cell": Case("rlds_Amon_IPSL-CM6A-LR_185001.nc", "rlds", {"bbox": "7.1,50.1,7.2,50.2"}),
    "bathymetry without time": Case("gebco_2020.nc", "elevation", {"bbox": "12.31,55.41,12.52,55.63"}),
    "British metres": Case("tmean_1910_1910.nc", "tmean", {"bbox": "-3.5,54,-3,54.5"}),
    "rotated pole": Case("tas_ANT-44_HIRHAM5_20060101.nc", "tas", {"bbox": "40,-72,45,-70"}),
    "members": Case(
        "sst_CMIP6_ssp245_mon_201501-210012.nc",
        "sst",
        {"subset": 'member_id("MIROC_MIROC-ES2L_r1i1p1f2")', "datetime": "2050/2051"},
    ),
}


def expected(case: Case, stored: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The columns and rows that a reader would cut by hand, with plain comparisons of the source's own labels."""
    truth = stored.truth()
    values = truth[case.field]
    box = [float(edge) for edge in case.query["bbox"].split(",")] if "bbox" in case.query else None
    picked: dict[str, np.ndarray[Any, Any]] = {}
    for axis in stored.description.axes:
        if axis.dimension not in values.dims or axis.name not in truth.variables:
            continue
        labels = truth[axis.name].values
        if axis.kind in ("x", "y") and box is not None and stored.description.spatial.family == "rectilinear":
            low, high = (box[0], box[2]) if axis.kind == "x" else (box[1], box[3])
            half = abs(np.diff(labels.astype("float64"))).mean() / 2
            bounds = (
                truth[axis.bounds].values if axis.bounds in truth.variables else np.stack([labels - half, labels + half], axis=-1)
            )
            lower, upper = bounds.min(axis=1), bounds.max(axis=1)
            turns = (-360, 0, 360) if axis.kind == "x" else (0,)
            if axis.kind == "x" and low > high:
                high += 360
            found = [
                (labels[at] + turn, at)
                for at in range(labels.size)
                for turn in turns
                if lower[at] + turn < high - 1e-6 and upper[at] + turn > low + 1e-6
            ]
            found.sort(reverse=labels[0] > labels[-1])
            picked[axis.dimension] = np.array([at for _, at in found])
    return picked


@pytest.fixture(scope="module", params=list(CASES), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def asked(client: httpx.Client, dataset_id: str, query: dict[str, str], form: str) -> httpx.Response:
    answer = client.get(f"/ogcapi/collections/{dataset_id}/coverage", params={**query, "f": form})
    assert answer.status_code == 200, answer.text
    return answer


def test_coveragejson_has_the_values_of_the_source(case: Case, client: httpx.Client, stored: Any, equal: Any, schemas: Any) -> None:
    cube = stored(case.file, chunks=dict(case.chunks) or None)
    document = asked(client, cube.dataset_id, {**case.query, "properties": case.field}, "covjson").json()
    coverage = document["coverages"][0] if document["type"] == "CoverageCollection" else document
    axes, told = coverage["domain"]["axes"], coverage["ranges"][case.field]
    truth = by_label(cube, case.field, axes, told["axisNames"], coverage.get("id", ""))
    assert told["shape"] == [len(axes[name]["values"]) for name in told["axisNames"]]
    assert equal(told["values"], truth, packed="scale_factor" in cube.truth()[case.field].encoding)
    picked = expected(case, cube)
    for axis in cube.description.axes:
        if axis.dimension in picked:
            assert len(axes[axis.kind]["values"]) == picked[axis.dimension].size
    schema = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())
    assert list(validator_for(schema)(schema).iter_errors(document)) == []
    if "360_day" not in str(cube.description.temporal):
        model = CoverageCollection if document["type"] == "CoverageCollection" else Coverage
        model.model_validate_json(json.dumps(document))


def by_label(cube: Any, name: str, axes: dict[str, Any], order: list[str], identity: str) -> np.ndarray[Any, Any]:
    """Look every value of the answer up in the source by its own labels: no index of ours is trusted."""
    truth = cube.truth()
    values = truth[name]
    for part in filter(None, identity.split(",")):
        axis_name, _, label = part.partition("=")
        axis = cube.description.axis(axis_name)
        at = [str(each.decode() if isinstance(each, bytes) else each) for each in np.atleast_1d(truth[axis.name].values)].index(
            label
        )
        values = values.isel({axis.dimension: at})
    times = list(cube.description.temporal.values or ()) if cube.description.temporal else []
    dims = []
    for kind in order:
        axis = next((each for each in cube.description.axes if each.kind == kind), None)
        assert axis is not None
        if axis.dimension not in values.dims:
            values = values.expand_dims(axis.dimension)
            dims.append(axis.dimension)
            continue
        dims.append(axis.dimension)
        if kind == "t":
            stamps = times or [str(each) for each in stamps_of(truth[axis.name])]
            indices = [stamps.index(each) for each in axes["t"]["values"]]
        else:
            labels = truth[axis.name].values.astype("float64")
            asked = np.array(axes[kind]["values"], dtype="float64")
            apart = np.abs(labels[None, :] - asked[:, None])
            if kind == "x" and cube.description.spatial.family == "rectilinear":
                apart = np.abs((apart + 180) % 360 - 180)
            indices = apart.argmin(axis=1).tolist()
            assert apart.min(axis=1).max() < 1e-4
        values = values.isel({axis.dimension: indices})
    return values.transpose(*dims).values


def stamps_of(times: xr.DataArray) -> list[str]:
    import cftime

    decoded = cftime.num2date(
        np.atleast_1d(times.values), times.attrs["units"], times.attrs.get("calendar", "standard"), only_use_cftime_datetimes=True
    )
    return [
        f"{each.year:04d}-{each.month:02d}-{each.day:02d}T{each.hour:02d}:{each.minute:02d}:{each.second:02d}Z" for each in decoded
    ]


def test_netcdf_has_the_values_of_the_source(case: Case, client: httpx.Client, stored: Any, equal: Any, tmp_path: Any) -> None:
    cube = stored(case.file, chunks=dict(case.chunks) or None)
    document = asked(client, cube.dataset_id, {**case.query, "properties": case.field}, "covjson").json()
    answer = asked(client, cube.dataset_id, {**case.query, "properties": case.field}, "netcdf")
    assert answer.headers["content-type"] == "application/x-netcdf"
    with xr.open_dataset(io.BytesIO(answer.content), decode_times=False, engine="h5netcdf") as found:
        assert document["type"] == "Coverage"
        coverage, told = document, document["ranges"][case.field]
        ours = found[case.field].values
        assert equal(told["values"], ours)
        for axis in cube.description.axes:
            if axis.kind in ("x", "y", "z") and axis.name in found.variables and axis.kind in coverage["domain"]["axes"]:
                assert np.allclose(
                    np.atleast_1d(found[axis.name].values), coverage["domain"]["axes"][axis.kind]["values"], atol=1e-5
                )
        source = cube.truth()[case.field]
        for key in ("units", "long_name", "standard_name"):
            assert found[case.field].attrs.get(key) == source.attrs.get(key)
