"""Queries that cost much: counted before computed; bounded in time, place, memory and disk; given up when nobody waits."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.encoders.modules import EncoderModules
from cubeport.adapters.encoders.room import AnswerRoom
from cubeport.cubes.edr.polygons import anywhere, on_axes
from cubeport.cubes.edr.queries import parse_query
from cubeport.cubes.edr.query import Place
from cubeport.cubes.forms import FORMS, form_named
from cubeport.cubes.nearest import index_of
from cubeport.cubes.selection import Selection
from cubeport.errors import Cancelled, InvalidRequest, NoSpace, Unavailable
from cubeport.service import plans
from cubeport.service.plans import AnswerLimits, CubeQuery
from cubeport.service.queries import AnswerDeadline

NETCDF = "application/x-netcdf"


def ring(count: int, rx: float = 170, ry: float = 85) -> str:
    angles = [2 * math.pi * at / count for at in range(count)] + [0.0]
    return "POLYGON((" + ",".join(f"{rx * math.cos(each):.6f} {ry * math.sin(each):.6f}" for each in angles) + "))"


@pytest.fixture(scope="module")
def fine(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A global grid of 0.1°: 6.5 million cells, stored in a few kilobytes."""
    path = tmp_path_factory.mktemp("abuse") / "fine.nc"
    lat = (np.arange(1800) * 0.1 - 89.95).astype("f4")
    lon = (np.arange(3600) * 0.1 - 179.95).astype("f4")
    cube = xr.Dataset({"v": (("lat", "lon"), np.zeros((1800, 3600), "i1"))}, {"lat": lat, "lon": lon})
    cube.v[900:, 1800:] = 7
    cube.lat.attrs["units"], cube.lon.attrs["units"] = "degrees_north", "degrees_east"
    cube.to_netcdf(path, encoding={"v": {"zlib": True, "chunksizes": (600, 1200)}})
    return stored(str(path))


@pytest.fixture(scope="module")
def curved(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A turned grid of 400 × 500 positions."""
    path = tmp_path_factory.mktemp("abuse") / "many_curved.nc"
    y, x = np.meshgrid(np.linspace(40, 60, 400), np.linspace(-20, 20, 500), indexing="ij")
    values = np.arange(x.size, dtype="f8").reshape(x.shape)
    cube = xr.Dataset(
        {"v": (("j", "i"), values, {"coordinates": "lat lon"})},
        {"lat": (("j", "i"), y + x / 20, {"units": "degrees_north"}), "lon": (("j", "i"), x + y / 5, {"units": "degrees_east"})},
    )
    cube.to_netcdf(path)
    return stored(str(path))


# --- counted before computed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vertices", [3, 330, 150])
def test_a_polygon_over_a_fine_grid_is_413_at_once_with_nothing_read(
    client: httpx.Client, fine: Any, shelf: Any, vertices: int
) -> None:
    address = f"/ogcapi/collections/{fine.dataset_id}/area"
    client.get(address, params={"coords": "POLYGON((0 0,1 1,1 0,0 0))"})  # the version is open
    shelf.engine.reads.clear()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        answer = client.get(address, params={"coords": ring(vertices)})
        seconds.append(time.perf_counter() - began)
        assert answer.status_code == 413, answer.text
        assert answer.json()["alternatives"]
    assert shelf.engine.reads == []
    # 2.5 s when each cell was compared with the polygon before any was counted.
    assert min(seconds) < 0.25


def test_an_area_that_is_within_the_limits_has_the_cells_of_its_polygon(client: httpx.Client, fine: Any) -> None:
    answer = client.get(f"/ogcapi/collections/{fine.dataset_id}/area", params={"coords": ring(60, 40, 40)})
    assert answer.status_code == 200, answer.text[:300]
    document = answer.json()
    axes, told = document["domain"]["axes"], document["ranges"]["v"]
    values = np.array(told["values"], dtype="f8").reshape(len(axes["y"]["values"]), len(axes["x"]["values"]))
    x, y = np.meshgrid(axes["x"]["values"], axes["y"]["values"])
    inside = np.isfinite(values)
    assert inside[np.hypot(x, y) < 39.5].all()
    assert not inside[np.hypot(x, y) > 40].any()
    assert (values[inside] == np.where((x > 0) & (y > 0), 7, 0)[inside]).all()


def test_tiles_say_the_same_as_cells() -> None:
    import shapely

    rng = np.random.default_rng(3)
    for count in (3, 8, 40):
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        radii = rng.uniform(5, 60, count)
        shape = shapely.Polygon(np.column_stack([100 + radii * np.cos(angles), radii * np.sin(angles)])).buffer(0)
        lon, lat = np.arange(0, 360, 1.5), np.arange(90, -90.1, -1.25)
        x, y = np.meshgrid(lon, lat)
        expected = shapely.intersects_xy(shape, x, y) | shapely.intersects_xy(shape, x - 360, y)
        assert np.array_equal(on_axes(shape, lon, lat, lambda: None), expected)
        assert np.array_equal(anywhere(shape, x, y, lambda: None), expected)


@pytest.mark.parametrize("count", [10_001, 100_000])
def test_more_vertices_than_allowed_are_refused_before_a_polygon_is_made(count: int) -> None:
    text = ring(count)
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="parameters that are not valid: "):
        parse_query("area", [("coords", text)], forms=())
    assert time.process_time() - began < 0.3


def test_the_nearest_cell_is_found_without_looking_at_all(client: httpx.Client, curved: Any) -> None:
    truth = curved.truth()
    lon, lat = truth.lon.values, truth.lat.values
    rng = np.random.default_rng(5)
    for at in rng.integers(0, lon.size, 100).tolist():
        j, i = divmod(at, lon.shape[1])
        text = f"POINT({lon[j, i] + rng.uniform(-0.01, 0.01):.6f} {lat[j, i] + rng.uniform(-0.01, 0.01):.6f})"
        answer = client.get(f"/ogcapi/collections/{curved.dataset_id}/position", params={"coords": text})
        assert answer.json()["ranges"]["v"]["values"] == [truth.v.values[j, i]]
    index = index_of(lon, lat)
    began = time.process_time()
    for _ in range(100):
        index.nearest(float(rng.uniform(-10, 25)), float(rng.uniform(41, 59)))
    # Each looks at a few of the 2,000-cell blocks; all 200,000 cells took 20 ms each.
    assert (time.process_time() - began) / 100 < 0.01
    assert index_of(lon, lat) is index


def test_nearest_is_the_least_distance_of_all() -> None:
    rng = np.random.default_rng(7)
    lon, lat = rng.uniform(-180, 180, (70, 90)), np.degrees(np.arcsin(rng.uniform(-1, 1, (70, 90))))
    lon[3], lat[5] = np.nan, np.inf
    index = index_of(lon, lat)
    for _ in range(200):
        x, y = rng.uniform(-180, 180), rng.uniform(-90, 90)
        with np.errstate(invalid="ignore"):
            half = np.sin(np.radians(lat - y) / 2) ** 2
            half = half + np.cos(np.radians(y)) * np.cos(np.radians(lat)) * np.sin(np.radians(lon - x) / 2) ** 2
        order = np.argsort(np.where(np.isfinite(half), half, 9), axis=None, kind="stable")[:4]
        found = index.nearest(x, y, 4)
        assert [cell for cell, _ in found] == [tuple(map(int, np.unravel_index(at, lon.shape))) for at in order]


# --- time, place, and clients that leave --------------------------------------------------------------------------------


def plan_of(cube: Any, coords: str, *, form: str = "netcdf", limits: AnswerLimits | None = None) -> plans.QueryPlan:
    named = form_named(form)
    assert named is not None
    query = CubeQuery(Selection(), named, Place("area", (("coords", coords),)))
    return plans.plan(cube.shown(), query, cube.open(), EncoderModules().of(named), limits or AnswerLimits(), public_url="")


def test_an_area_is_held_against_its_polygon_within_the_deadline(fine: Any) -> None:
    plan = plan_of(fine, ring(300))
    assert not plan.settled
    assert plan.part.windows.mask is None
    with pytest.raises(Unavailable, match="too long"):
        plans.settled(plan, AnswerLimits(), AnswerDeadline(-1))
    left = threading.Event()
    left.set()
    with pytest.raises(Cancelled):
        plans.settled(plan, AnswerLimits(), AnswerDeadline(30, left))
    done = plans.settled(plan, AnswerLimits(), AnswerDeadline(30))
    assert done.part.windows.mask is not None


def test_heavy_queries_hold_up_neither_lists_nor_light_ones(serve: Any, fine: Any) -> None:
    server = serve(heavy=1, wait_s=8)
    address = f"{server.base_url}/ogcapi/collections/{fine.dataset_id}"
    assert server.queries.try_place()
    try:
        with ThreadPoolExecutor(60) as pool:
            heavy = [
                pool.submit(httpx.get, f"{address}/coverage", params={"f": "netcdf", "bbox": f"{at},0,160,60"}, timeout=60)
                for at in range(50)
            ]
            time.sleep(0.5)
            seconds = []
            for path in ("/ogcapi/collections", f"/ogcapi/collections/{fine.dataset_id}/position?coords=POINT(10 10)"):
                began = time.perf_counter()
                assert server.get(path).status_code == 200
                seconds.append(time.perf_counter() - began)
            statuses = [each.result().status_code for each in heavy]
    finally:
        server.queries.leave_place()
    assert max(seconds) < 6  # one that waited for its turn would take 8
    assert set(statuses) == {503}
    assert server.get(f"{address}/coverage", params={"f": "netcdf", "bbox": "0,0,160,60"}).status_code == 200


# --- room ---------------------------------------------------------------------------------------------------------------


def test_answers_that_are_being_sent_have_a_quota(serve: Any, fine: Any) -> None:
    server = serve(memory_bytes=0, disk_bytes=7_000_000)
    address = f"/ogcapi/collections/{fine.dataset_id}/coverage"
    assert server.room.taken == (0, 0)
    with server.stream("GET", address, params={"f": "netcdf"}) as slow:
        assert slow.status_code == 200
        assert server.room.taken[0] > 6_000_000
        refused = httpx.get(f"{server.base_url}{address}", params={"f": "netcdf"}, timeout=60)
        assert refused.status_code == 507
        assert refused.json()["kind"] == "no-space"
        assert "Try again later" in refused.text
    deadline = time.monotonic() + 10
    while server.room.taken != (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.room.taken == (0, 0)
    assert server.get(address, params={"f": "netcdf"}).status_code == 200


def test_memory_of_answers_is_bounded_too(tmp_path: Path) -> None:
    room = AnswerRoom(tmp_path, disk_bytes=100, memory_bytes=50, memory_total=80)
    held = [room.hold(bytes(40)) for _ in range(4)]
    assert room.taken == (80, 80)
    assert [file.read() for file in held] == [bytes(40)] * 4
    with pytest.raises(NoSpace):
        room.hold(bytes(40))
    for file in held:
        file.close()
    assert room.taken == (0, 0)
    assert list(tmp_path.iterdir()) == []


class FullRoom:
    """Room on a disk that is full: the kernel's own, which takes no byte."""

    def __init__(self, folder: Path) -> None:
        self._room = AnswerRoom(folder, disk_bytes=1 << 40, memory_bytes=0)

    def open(self, declared_bytes: int) -> Any:
        file = self._room.open(declared_bytes)
        file._file.close()  # type: ignore[attr-defined]
        file._file = Path("/dev/full").open("r+b", buffering=0)  # type: ignore[attr-defined]  # noqa: SIM115  # closed by the file it is in
        file.truncate = lambda size=None: size or 0  # type: ignore[method-assign]  # a device cannot be cut
        return file

    def hold(self, content: bytes) -> Any:
        raise NotImplementedError

    def finished(self, file: Any) -> Any:
        return self._room.finished(file)

    @property
    def taken(self) -> Any:
        return self._room.taken


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_full_disk_is_no_space_and_leaves_nothing(fine: Any, tmp_path: Path, form: Any) -> None:
    room = FullRoom(tmp_path)
    plan = plan_of(fine, ring(4, 20, 20), form=form.name)
    try:
        made = plan.encoder.encode(plans.settled(plan, AnswerLimits(), lambda: None).part, room, lambda: None)
    except NoSpace:
        made = b""
    assert isinstance(made, bytes), "a file on a full disk was handed on as if it were whole"
    assert form.name not in ("netcdf", "zarr", "geotiff") or made == b""
    assert room.taken == (0, 0)


@pytest.mark.abuse
def test_many_polygons_at_once_leave_the_lists_alone(client: httpx.Client, fine: Any) -> None:
    address = f"{client.base_url}/ogcapi/collections/{fine.dataset_id}/area"
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(httpx.get, address, params={"coords": ring(330, 170 - at, 80)}, timeout=60) for at in range(40)]
        began = time.perf_counter()
        assert client.get("/ogcapi/collections").status_code == 200
        waited = time.perf_counter() - began
        assert {each.result().status_code for each in asked} == {413}
    assert waited < 2


def test_many_points_wait_for_a_place_and_few_do_not(serve: Any, curved: Any) -> None:
    server = serve(heavy=1, wait_s=0.05)
    address = f"/ogcapi/collections/{curved.dataset_id}/position"
    truth = curved.truth()
    cells = [(j, i) for j in range(10, 400, 40) for i in range(10, 500, 50)]
    many = "MULTIPOINT(" + ",".join(f"{truth.lon.values[cell]:.5f} {truth.lat.values[cell]:.5f}" for cell in cells) + ")"
    assert server.queries.try_place()
    try:
        assert server.get(address, params={"coords": many}).status_code == 503
        assert server.get(address, params={"coords": "POINT(10 50)"}).status_code == 200
    finally:
        server.queries.leave_place()
    answer = server.get(address, params={"coords": many, "f": "csv"})
    assert answer.status_code == 200, answer.text[:300]
    told = sorted(float(row.split(",")[-1]) for row in answer.text.split("\r\n")[1:-1] if row.split(",")[-1])
    assert told == sorted(float(truth.v.values[cell]) for cell in cells)
