"""CSV over a real socket: every row says where its values are, and they are the source's."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import numpy as np
import pytest

CASES = [
    ("tasmax_day_HadGEM2-CC_360day_2095.nc", "tasmax", {"bbox": "-74,43,-73.7,43.3", "datetime": "2095-02-28/2095-03-01"}),
    ("coads_sst.nc", "SST", {"bbox": "150,-31,157,-24", "subset": "TIME(*)"}),
    ("SMALL_total_column_co2.nc", "tcco2", {"bbox": "-5.2,40,3.1,44", "datetime": "2006-01-06"}),
]


def table(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize(("name", "field", "query"), CASES, ids=[name[:10] for name, _, _ in CASES])
def test_each_row_is_a_cell_of_the_source(client: httpx.Client, stored: Any, name: str, field: str, query: dict[str, str]) -> None:
    cube = stored(name)
    address = f"/ogcapi/collections/{cube.dataset_id}/coverage"
    query = {**query, "properties": field}
    rows = table(client.get(address, params={**query, "f": "csv"}))
    document = client.get(address, params=query).json()
    told = document["ranges"][field]
    assert len(rows) == len(told["values"])
    truth = cube.truth()
    kinds = {axis.kind: axis for axis in cube.description.axes if not axis.scalar}
    x, y = truth[kinds["x"].name].values.astype("float64"), truth[kinds["y"].name].values.astype("float64")
    whole = truth[field].transpose(kinds["t"].dimension, kinds["y"].dimension, kinds["x"].dimension).values
    stamps = list(cube.description.temporal.values or [])
    for row, value in zip(rows, told["values"], strict=True):
        assert (row[field] == "") == (value is None)
        assert value is None or float(row[field]) == value
        at_x = int(np.abs((x - float(row[kinds["x"].name]) + 180) % 360 - 180).argmin())
        at_y = int(np.abs(y - float(row[kinds["y"].name])).argmin())
        here = whole[:, at_y, at_x]
        assert np.isnan(here).any() if value is None else np.isclose(here.astype("float64"), value, rtol=1e-6).any()
        assert row[kinds["t"].name].endswith("Z")
        assert not stamps or row[kinds["t"].name] in stamps


def test_text_labels_and_indices_stand_in_their_columns(client: httpx.Client, stored: Any) -> None:
    cube = stored("sst_CMIP6_ssp245_mon_201501-210012.nc")
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"datetime": "2050-01/2050-02", "f": "csv"})
    rows = table(answer)
    assert len(rows) == 20 * 2 * 2 * 4
    assert list(rows[0]) == ["member_id", "time", "lat", "lon", "sst"]
    truth = cube.truth()["sst"]
    at = next(number for number, row in enumerate(rows) if row["member_id"] == "MIROC_MIROC-ES2L_r1i1p1f2")
    names = [each.decode() if isinstance(each, bytes) else str(each) for each in cube.truth()["member_id"].values]
    member = names.index("MIROC_MIROC-ES2L_r1i1p1f2")
    expected = truth.values[member, 35 * 12 : 35 * 12 + 2].ravel()
    ours = np.array([float(row["sst"]) if row["sst"] else np.nan for row in rows[at : at + 16]], dtype="float32")
    assert np.array_equal(ours, expected.astype("float32"), equal_nan=True)


def test_cells_without_axes_have_their_positions(client: httpx.Client, stored: Any) -> None:
    cube = stored("sic_SImon_CanESM5_2020.nc")
    query = {"bbox": "-20,60,10,70", "datetime": "2020-03", "properties": "siconc", "f": "csv"}
    rows = table(client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params=query))
    truth = cube.truth()
    lon, lat = truth["longitude"].values, truth["latitude"].values
    inside = ((lon + 20) % 360 <= 30) & (lat >= 60) & (lat <= 70)
    assert len(rows) == inside.sum()
    assert np.allclose([float(row["longitude"]) for row in rows], lon[inside])
    ours = np.array([float(row["siconc"]) if row["siconc"] else np.nan for row in rows], dtype="float32")
    assert np.array_equal(ours, truth["siconc"].values[2][inside], equal_nan=True)


def test_a_download_may_be_a_table(client: httpx.Client, stored: Any) -> None:
    cube = stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")
    answer = client.get(f"/datasets/{cube.dataset_id}/download", params={"format": "csv", "bbox": "0,0,5,5"})
    assert table(answer)
    assert answer.headers["content-disposition"].endswith('.csv"')
    other = client.get(f"/datasets/{cube.dataset_id}/download", params={"bbox": "0,0,5,5"}, headers={"Accept": "text/csv"})
    assert other.content == answer.content


def test_fields_of_other_axes_make_no_table(client: httpx.Client, stored: Any) -> None:
    cube = stored("basin_mask.nc")
    assert client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"bbox": "0,0,3,3", "f": "csv"}).status_code == 200


def test_tables_have_a_limit_and_an_estimate(serve: Any, client: httpx.Client, stored: Any) -> None:
    cube = stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")
    address = f"/ogcapi/collections/{cube.dataset_id}/coverage"
    refused = serve(csv_cells=100).get(address, params={"f": "csv"})
    assert refused.status_code == 413
    assert refused.json()["setting"] == "limits.csv_cells"
    told = client.get(address, params={"f": "csv", "estimate": "true"}).json()["bytes"]
    size = len(client.get(address, params={"f": "csv"}).content)
    assert abs(told - size) < 0.2 * size
