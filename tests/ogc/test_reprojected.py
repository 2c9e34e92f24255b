"""Coverages in CRS84, EPSG:4326 and EPSG:3857: each value is that of the cell which contains its place, in every form."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer
from tests.families import FAMILIES

URIS = {
    "OGC:CRS84": "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "EPSG:4326": "http://www.opengis.net/def/crs/EPSG/0/4326",
    "EPSG:3857": "http://www.opengis.net/def/crs/EPSG/0/3857",
}
CELLS = ["regular", "south-up", "from-0-to-360", "over-the-dateline", "packed", "projected", "rotated-pole", "curvilinear"]


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("reprojected")

    def write(name: str) -> Any:
        path = folder / f"crs-{name}.nc"
        if not path.exists():
            FAMILIES[name].make().to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def ask(client: httpx.Client, cube: Any, kind: str = "coverage", **query: str) -> httpx.Response:
    query = {name.replace("_", "-"): text for name, text in query.items()}
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def at(client: httpx.Client, cube: Any, lon: float, lat: float) -> float | None:
    """Return the value that a position query has there: another door to the same cell."""
    where = f"POINT({(lon + 180) % 360 - 180} {lat})"
    found = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params={"coords": where, "datetime": "2020-01-02"})
    if found.status_code == 404:
        return None
    assert found.status_code == 200, found.text
    return found.json()["ranges"]["t"]["values"][0]


@pytest.mark.parametrize("crs", URIS)
@pytest.mark.parametrize("name", CELLS)
def test_each_value_is_that_of_the_cell_at_its_place(client: httpx.Client, put: Any, name: str, crs: str) -> None:
    cube = put(name)
    if name == "curvilinear" and crs == "OGC:CRS84":
        pytest.skip("its positions are in CRS84: that is how it is stored")
    answer = ask(client, cube, crs=URIS[crs], datetime="2020-01-02")
    assert answer.headers["content-crs"] == f"<{URIS[crs]}>"
    document = answer.json()
    axes = document["domain"]["axes"]
    (horizontal, *_) = document["domain"]["referencing"]
    assert horizontal["coordinates"] == (["y", "x"] if crs == "EPSG:4326" else ["x", "y"])
    assert horizontal["system"]["id"] == URIS[crs]
    values = document["ranges"]["t"]
    assert values["axisNames"][-2:] == ["y", "x"] or name == "regular"
    grid = np.array(values["values"], "f8").reshape(values["shape"])[0]
    assert np.isfinite(grid).sum() > grid.size / 4
    back = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    number = np.random.default_rng(3)
    for row, column in {(int(number.integers(len(grid))), int(number.integers(len(grid[0])))) for _ in range(25)}:
        lon, lat = back.transform(axes["x"]["values"][column], axes["y"]["values"][row])
        expected, ours = at(client, cube, lon, lat), grid[row, column]
        if expected is None or name == "curvilinear":
            # The cell of a curvilinear grid is a quadrilateral; a position is answered by the nearest centre.
            assert np.isnan(ours) or name == "curvilinear"
            continue
        assert ours == expected, (lon, lat)


@pytest.mark.parametrize("name", ["south-up", "projected", "curvilinear"])
def test_every_form_has_the_same_cells(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    for crs in ("EPSG:4326", "EPSG:3857"):
        query = {"crs": URIS[crs], "datetime": "2020-01-02"}
        document = ask(client, cube, **query).json()
        axes, values = document["domain"]["axes"], np.array(document["ranges"]["t"]["values"], "f8")
        grid = values.reshape(document["ranges"]["t"]["shape"])[0]
        with xr.open_dataset(io.BytesIO(ask(client, cube, f="netcdf", **query).content), engine="h5netcdf") as found:
            assert np.array_equal(found["t"].values, grid, equal_nan=True)
            y, x = found["t"].dims[-2:]
            assert found[x].values.tolist() == axes["x"]["values"]
            assert found[y].values.tolist() == axes["y"]["values"]
            assert found["t"].attrs["grid_mapping"] in found
        with rasterio.open(io.BytesIO(ask(client, cube, f="geotiff", **query).content)) as found:
            assert found.crs.to_epsg() == (3857 if crs == "EPSG:3857" else 4326)
            rows = grid if axes["y"]["values"][0] > axes["y"]["values"][-1] else grid[::-1]
            assert np.array_equal(found.read(1), rows.astype("f4"), equal_nan=True)
            assert found.xy(0, 0) == pytest.approx((axes["x"]["values"][0], max(axes["y"]["values"])))
        table = ask(client, cube, f="csv", **query).text.splitlines()[1:]
        assert len(table) == grid.size


@pytest.mark.parametrize("name", ["south-up", "from-0-to-360", "projected", "curvilinear"])
def test_a_box_is_the_same_in_every_reference_system(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    west, south, east, north = cube.description.spatial.bbox
    if west == -180:
        south, north = -80.0, 80.0
    box = west + (east - west) * 0.2, south + (north - south) * 0.2, west + (east - west) * 0.7, south + (north - south) * 0.7
    plain = ask(client, cube, bbox=",".join(map(str, box)), datetime="2020-01-01").json()
    swapped = ask(
        client, cube, bbox=f"{box[1]},{box[0]},{box[3]},{box[2]}", bbox_crs=URIS["EPSG:4326"], datetime="2020-01-01"
    ).json()
    onto = Transformer.from_crs("OGC:CRS84", "EPSG:3857", always_xy=True)
    metres = (*onto.transform(*box[:2]), *onto.transform(*box[2:]))
    carried = ask(client, cube, bbox=",".join(map(repr, metres)), bbox_crs="[EPSG:3857]", datetime="2020-01-01").json()
    assert plain["ranges"] == swapped["ranges"] == carried["ranges"]
    assert plain["domain"] == swapped["domain"] == carried["domain"]


def test_content_bbox_has_the_axis_order_of_its_system(client: httpx.Client, put: Any) -> None:
    cube = put("south-up")
    plain, swapped = (ask(client, cube, crs=URIS[crs]).headers["content-bbox"] for crs in ("OGC:CRS84", "EPSG:4326"))
    west, south, east, north = plain.split(",")
    assert swapped.split(",") == [south, west, north, east]


def test_scaling_is_of_the_cells_of_the_answer(client: httpx.Client, put: Any) -> None:
    cube = put("projected")
    document = ask(client, cube, crs="EPSG:4326", scale_size="x(2),y(3)", datetime="2020-01-01").json()
    assert document["ranges"]["t"]["shape"] == [1, 3, 2]
    refused = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"crs": "EPSG:4326", "scale-size": "x(2000)"})
    assert refused.status_code == 400


def test_what_is_not_offered_is_refused_with_what_is(client: httpx.Client, put: Any) -> None:
    for name in ("south-up", "projected"):
        cube = put(name)
        for parameter, more in (("crs", {}), ("bbox-crs", {"bbox": "0,0,1,1"})):
            answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={parameter: "EPSG:2154", **more})
            assert answer.status_code == 400
            assert "EPSG:4326" in answer.text, answer.text
    crossed = client.get(
        f"/ogcapi/collections/{put('south-up').dataset_id}/coverage", params={"bbox": "10,0,0,5", "bbox-crs": "EPSG:4326"}
    )
    assert crossed.status_code == 400


def test_an_estimate_counts_the_chunks_of_the_store(client: httpx.Client, put: Any) -> None:
    found = ask(client, put("projected"), crs="EPSG:3857", estimate="true").json()
    assert found["chunks"] >= 1
    assert found["allowed"] is True


@pytest.mark.parametrize("name", ["south-up", "projected"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_one_row_or_column_has_the_extent_of_its_cells(client: httpx.Client, put: Any, name: str, crs: str) -> None:
    """As the row of two has: it is in the lower or upper half of their box."""
    cube = put(name)
    west, south, east, north = cube.description.spatial.bbox
    middle = (west + east) / 2, (south + north) / 2
    thin = {
        "row": f"{west},{middle[1] + 0.001},{east},{middle[1] + 0.002}",
        "column": f"{middle[0] + 0.001},{south},{middle[0] + 0.002},{north}",
    }
    for box in thin.values():
        answer = ask(client, cube, crs=crs, bbox=box, datetime="2020-01-01")
        low_x, low_y, high_x, high_y = map(float, answer.headers["content-bbox"].split(","))
        assert low_x < high_x, (box, answer.headers["content-bbox"])
        assert low_y < high_y, (box, answer.headers["content-bbox"])
        axes = answer.json()["domain"]["axes"]
        horizontal = (axes["y"], axes["x"]) if crs == "EPSG:4326" else (axes["x"], axes["y"])
        for axis, low, high in zip(horizontal, (low_x, low_y), (high_x, high_y), strict=True):
            assert low < min(axis["values"]) <= max(axis["values"]) < high


def cylinder(epsg: int, lon: np.ndarray, lat: np.ndarray) -> xr.Dataset:
    """Return a grid in metres whose values are the numbers of its cells."""
    onto = Transformer.from_crs("OGC:CRS84", epsg, always_xy=True)
    numbers = np.arange(lat.size * lon.size, dtype="f4").reshape(lat.size, lon.size)
    data = xr.Dataset({"t": (("y", "x"), numbers, {"units": "1", "grid_mapping": "crs"})})
    data["crs"] = xr.DataArray(0, attrs=CRS.from_epsg(epsg).to_cf())
    x, y = lon * onto.transform(1, 0)[0], onto.transform(np.zeros(lat.size), lat)[1]
    return data.assign_coords(
        x=("x", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        y=("y", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
    )


@pytest.mark.parametrize("box", ["161,-21,-161,22", "-100,-60,40,10", "-5,1,5,2", "12,-60,13,60", None])
@pytest.mark.parametrize("crs", ["OGC:CRS84", "EPSG:4326"])
@pytest.mark.parametrize("order", [(1, 1), (-1, 1), (1, -1)])
def test_rows_and_columns_that_stay_even_keep_every_cell(
    client: httpx.Client, stored: Any, tmp_path: Any, box: str | None, crs: str, order: tuple[int, int]
) -> None:
    lon, lat = np.arange(5.0, 360, 10)[:: order[0]], np.arange(-60.0, 61, 15)[:: order[1]]
    path = tmp_path / f"cylinder-{lon[0]:.0f}-{lat[0] + 90:.0f}.nc"
    data = cylinder(4087, lon, lat)
    data.to_netcdf(path)
    asked = {} if box is None else {"bbox": box}
    answer = ask(client, stored(str(path)), crs=crs, **asked).json()
    axes, values = answer["domain"]["axes"], answer["ranges"]["t"]["values"]
    native = ask(client, stored(str(path)), **asked).json()["ranges"]["t"]["values"]
    assert sorted(values) == sorted(native)
    by_place = {(round(x % 360, 6), round(y, 6)): float(data.t[j, i]) for i, x in enumerate(lon) for j, y in enumerate(lat)}
    x, y = axes["x"]["values"], axes["y"]["values"]
    assert values == [by_place[round(one % 360, 6), round(other, 6)] for other in y for one in x]
    assert x == sorted(x)
    assert y == sorted(y, reverse=True)


def test_a_geotiff_of_a_gaussian_grid_has_even_cells(client: httpx.Client, stored: Any, tmp_path: Any) -> None:
    lon, lat = np.arange(5.0, 360, 10), np.array([-70.0, -45, -20, 0, 20, 45, 70])
    data = cylinder(4087, lon, lat).drop_vars("crs").rename(x="lon", y="lat")
    data = data.assign_coords(lon=("lon", lon, {"units": "degrees_east"}), lat=("lat", lat, {"units": "degrees_north"}))
    del data.t.attrs["grid_mapping"]
    data.to_netcdf(tmp_path / "gaussian.nc")
    cube = stored(str(tmp_path / "gaussian.nc"))
    refused = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"f": "geotiff"})
    assert refused.status_code == 406
    assert "add crs=EPSG:4326" in refused.json()["detail"]
    with rasterio.open(io.BytesIO(ask(client, cube, f="geotiff", crs="EPSG:4326").content)) as found:
        band = found.read(1)
        for row, column in np.ndindex(band.shape):
            x, y = found.xy(row, column)
            assert band[row, column] == data.t[np.searchsorted((lat[1:] + lat[:-1]) / 2, y), int(round(x, 6) % 360 // 10)]
