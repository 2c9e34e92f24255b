"""Positions that are not beside the values: in a grid file, as ICON and NEMO have them, or in another group, as satellites do."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from tests.provider import Provider, running

import cubeport
from cubeport.catalog.forms import strictyaml
from cubeport.cubes.steps import NormaliseStep, plain
from cubeport.errors import InvalidRequest, SourceRejected
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .desk import ours_of, written

PLACES = np.array([0.1, 0.2, 0.4, 0.3]), np.array([0.9, 0.7, 0.8, 0.6])


def steps(text: str) -> list[dict[str, Any]]:
    return plain((NormaliseStep.model_validate(strictyaml.parse(text, "--normalise").value),))


def pasted(advice: str | None) -> list[dict[str, Any]]:
    words = shlex.split(str(advice)[str(advice).index("--normalise") :])
    return steps(words[1])


def variable(file: Any, name: str, dims: tuple[str, ...], values: Any, **attributes: Any) -> None:
    for dim, size in zip(dims, np.shape(values), strict=True):
        if dim not in file.dimensions:
            file.createDimension(dim, size)
    made = file.createVariable(name, np.asarray(values).dtype, dims)
    made.setncatts(attributes)
    made[...] = values


def grid_file(path: Path, cells: str = "cell") -> Path:
    """Radians, with corners, beside variables that are not wanted."""
    with netCDF4.Dataset(path, "w") as file:
        for name, values, standard in (("clon", PLACES[0], "longitude"), ("clat", PLACES[1], "latitude")):
            corners = values[:, None] + np.array([-0.01, 0.01, 0.0])
            variable(file, name, (cells,), values, units="radian", standard_name=standard, bounds=f"{name}_vertices")
            variable(file, f"{name}_vertices", (cells, "nv"), corners, units="radian")
        variable(file, "edge_length", ("edge",), np.ones(6))
    return path


def data_file(path: Path, day: int, cells: int = 4) -> Path:
    with netCDF4.Dataset(path, "w") as file:
        variable(file, "time", ("time",), np.array([float(day)]), units="days since 2020-01-01", standard_name="time")
        variable(file, "t", ("time", "ncells"), 10.0 * day + np.arange(cells)[None, :], units="K", coordinates="clat clon")
    return path


def test_a_grid_file_places_every_file_of_a_series(tmp_path: Path) -> None:
    sources = [data_file(tmp_path / "b.nc", 1), grid_file(tmp_path / "grid.nc"), data_file(tmp_path / "a.nc", 0)]
    said = written(tmp_path / "bare", sources[0])
    (words,) = [words for kind, words in said["warnings"] if kind == "no-place"]
    told = written(tmp_path / "new", *sources, normalise=pasted(words.replace("GRID.nc", "grid.nc")))
    assert [each["name"] for each in told["sources"]] == ["b.nc", "grid.nc", "a.nc"]
    (mapped,) = [words for kind, words in told["warnings"] if kind == "positions-taken"]
    assert "'cell' is 'ncells' here" in mapped
    with ours_of(tmp_path / "new") as opened:
        assert opened["t"].values.tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
        assert np.degrees(opened["clon"].values).tolist() == np.degrees(PLACES[0]).tolist()
        assert opened["clat"].dims == ("ncells",)
        assert opened["clon_vertices"].values[2].tolist() == [0.39, 0.41000000000000003, 0.4]
        assert "edge_length" not in opened.variables


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("{longitude: clon, latitude: clat, file: other.nc}", "'other.nc' is not among the sources"),
        ("{longitude: lon, latitude: clat, file: grid.nc}", "grid.nc has no 'lon'"),
    ],
)
def test_a_step_that_does_not_fit_says_what_there_is(tmp_path: Path, step: str, words: str) -> None:
    sources = data_file(tmp_path / "a.nc", 0), grid_file(tmp_path / "grid.nc")
    with pytest.raises(InvalidRequest, match=words):
        written(tmp_path / "new", *sources, normalise=steps(f"positions: {step}"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running(tmp_path_factory.mktemp("provider")) as provider:
        data_file(provider.root / "20200101.nc", 0)
        data_file(provider.root / "20200102.nc", 1)
        grid_file(provider.root / "grid.nc")
        with xr.open_dataset(provider.root / "20200101.nc", decode_cf=False) as data:
            data.load().to_zarr(provider.root / "data.zarr", zarr_format=2)
        item = {"type": "Feature", "stac_version": "1.1.0", "id": "i", "geometry": None, "links": []}
        item |= {"properties": {"datetime": "2020-01-01T00:00:00Z"}}
        item |= {"assets": {"data": {"href": f"{provider.url}/20200101.nc", "type": "application/netcdf", "roles": ["data"]}}}
        provider.put("item.json", json.dumps(item).encode())
        yield provider


@pytest.fixture
def service(tmp_path: Path, served: Provider) -> Iterator[Any]:
    (tmp_path / "grids").mkdir()
    prepare(tmp_path / "i", allow_roots=(str(tmp_path / "grids"),), allow_origins=(served.url,))
    with cubeport.connect(tmp_path / "i") as made:
        yield made


def template(root: Path, source: str, grid: str, name: str = "icon", period_type: str = "daily") -> None:
    (root / f"i/config/datasets/{name}.yaml").write_text(
        f"id: {name}\ntitle: T\nperiod_type: {period_type}\nsource: {source}\n"
        f"normalise: [{{positions: {{longitude: clon, latitude: clat, file: '{grid}'}}}}]\n"
    )


def ingest(service: Any, **request: Any) -> Any:
    return service.ingest_here(IngestionRequest.model_validate(request), FileOptions())


def check_placed(service: Any, dataset_id: str, days: int) -> None:
    shown = service.shown(dataset_id)
    assert shown.description.spatial.family == "unstructured"
    [store] = (service.catalog.parts.root / "data" / "store" / dataset_id).glob(f"{shown.version.version_id}/cube.zarr")
    with xr.open_zarr(store, consolidated=True, decode_cf=False) as cube:
        assert cube["t"].values.tolist() == [[10.0 * day + cell for cell in range(4)] for day in range(days)]
        assert np.degrees(cube["clon"].values).tolist() == np.degrees(PLACES[0]).tolist()


def test_a_grid_file_at_an_address_is_fetched_once_for_all_periods(service: Any, served: Provider, tmp_path: Path) -> None:
    served.forget()
    template(tmp_path, f"{{kind: url, template: '{served.url}/{{YYYY}}{{MM}}{{DD}}.nc'}}", f"{served.url}/grid.nc")
    done = ingest(service, dataset_id="icon", start="2020-01-01", end="2020-01-01")
    assert done.error is None
    check_placed(service, "icon", 1)
    assert [each[1] for each in served.requests("GET")].count("/grid.nc") == 1
    served.forget()
    done = ingest(service, dataset_id="icon", start="2020-01-01", end="2020-01-02")
    assert (done.error, done.action) == (None, "append")
    check_placed(service, "icon", 2)
    assert [each[1] for each in served.requests("GET")] == ["/20200102.nc"], "of the grid file, only HEAD"
    served.forget()
    assert ingest(service, dataset_id="icon", start="2020-01-01", end="2020-01-02").reused
    assert served.requests() == []
    assert [each["name"] for each in service.versions("icon")[0][0].sources][-1] == "grid.nc"


@pytest.mark.parametrize("kind", ["zarr", "stac", "direct", "path"])
def test_each_kind_of_source_takes_its_positions_from_a_grid_file(
    service: Any, served: Provider, tmp_path: Path, kind: str
) -> None:
    grid = f"{served.url}/grid.nc"
    if kind == "path":
        grid = str(grid_file(tmp_path / "grids" / "own.nc"))
        template(tmp_path, f"{{kind: url, template: '{served.url}/{{YYYY}}{{MM}}{{DD}}.nc'}}", grid)
    elif kind == "zarr":
        template(tmp_path, f"{{kind: zarr, url: '{served.url}/data.zarr'}}", grid)
    elif kind == "stac":
        template(tmp_path, f"{{kind: stac, url: '{served.url}/item.json'}}", grid)
    if kind == "direct":
        step = steps(f"positions: {{longitude: clon, latitude: clat, file: '{grid}'}}")
        source = {"kind": "url", "template": f"{served.url}/20200101.nc"}
        done = ingest(service, dataset_id="icon", source=source, template={"title": "T", "normalise": step})
    else:
        done = ingest(service, dataset_id="icon", start="2020-01-01", end="2020-01-01")
    assert done.error is None
    check_placed(service, "icon", 1)
    if kind == "direct":  # the step is repeated, and finds the grid file again
        source["template"] = f"{served.url}/20200102.nc"
        assert ingest(service, dataset_id="icon", source=source, mode="update").error is None
        check_placed(service, "icon", 2)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("grid.nc", "A source of kind url has only the data at its address, so the grid file 'grid.nc' cannot be among them."),
        ("http://127.0.0.1:9/grid.nc", "127.0.0.1:9"),
        ("/etc/grid.nc", "The path is not in a folder that this server may read."),
        ("{url}/{{YYYY}}.nc", "its address has neither dates nor a query"),
        ("{url}/grid.nc?key=x", "its address has neither dates nor a query"),
        ("{url}/none.nc", "none.nc"),
        ("{url}/20200101.nc", "are both called 20200101.nc"),
    ],
)
def test_a_grid_file_that_cannot_be_had_is_refused(service: Any, served: Provider, tmp_path: Path, grid: str, words: str) -> None:
    served.forget()
    template(tmp_path, f"{{kind: url, template: '{served.url}/{{YYYY}}{{MM}}{{DD}}.nc'}}", grid.format(url=served.url))
    try:
        error = ingest(service, dataset_id="icon", start="2020-01-01", end="2020-01-01").error
    except (InvalidRequest, SourceRejected) as refusal:  # what needs no source is refused before there is a job
        error = refusal.to_mapping()
        assert served.requests() == []
    assert words in error["detail"]
    assert service.datasets(publication="any").items == ()


def test_the_grid_of_other_data_is_refused(tmp_path: Path) -> None:
    step = steps("positions: {longitude: clon, latitude: clat, file: grid.nc}")
    for number, (cells, words) in enumerate([("ncells", "4 cells in grid.nc, and 5"), ("cell", "no dimension of the source does")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        sources = data_file(folder / "a.nc", 0, cells=5), grid_file(folder / "grid.nc", cells)
        with pytest.raises(InvalidRequest, match=words):
            written(folder / "new", *sources, normalise=step)
    with pytest.raises(InvalidRequest, match="no sources besides the grid file"):
        written(tmp_path / "new", grid_file(tmp_path / "grid.nc"), normalise=step)


def test_dimensions_of_one_length_are_not_guessed(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        variable(file, "t", ("row", "column"), np.ones((4, 4)))
    step = steps("positions: {longitude: clon, latitude: clat, file: grid.nc}")
    with pytest.raises(InvalidRequest, match="several of the source do: row, column"):
        written(tmp_path / "new", tmp_path / "a.nc", grid_file(tmp_path / "grid.nc"), normalise=step)


def test_a_grid_file_can_have_the_labels_of_two_axes(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        variable(file, "t", ("y", "x"), np.arange(6.0).reshape(2, 3))
    with netCDF4.Dataset(tmp_path / "grid.nc", "w") as file:
        variable(file, "lon", ("lon",), np.array([1.0, 2.0, 3.0]))
        variable(file, "lat", ("lat",), np.array([50.0, 40.0]))
    step = steps("positions: {longitude: lon, latitude: lat, file: grid.nc}")
    written(tmp_path / "new", tmp_path / "a.nc", tmp_path / "grid.nc", normalise=step)
    with ours_of(tmp_path / "new") as opened:
        assert (opened["lon"].dims, opened["lat"].values.tolist()) == (("x",), [50.0, 40.0])
        assert opened["t"].values[1, 2] == 5


def test_positions_in_another_group_are_taken_by_the_step_that_the_refusal_prints(tmp_path: Path) -> None:
    path = tmp_path / "swath.nc"
    places = np.add.outer([0.0, 1, 2], [0.0, 0.1, 0.2, 0.3])
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("line", 3)
        file.createDimension("pixel", 4)
        odd = file.createCompoundType(np.dtype([("a", "i4"), ("b", "f8")]), "pair")
        file.createGroup("attitude").createVariable("odd", odd, ("line",))
        where, what = file.createGroup("navigation_data"), file.createGroup("geophysical_data")
        for name, units in (("longitude", "degrees_east"), ("latitude", "degrees_north")):
            made = where.createVariable(name, "f8", ("line", "pixel"))
            made.units = units
            made[:] = places + (40 if name == "latitude" else 0)
        what.createVariable("chl", "f4", ("line", "pixel"))[:] = np.arange(12).reshape(3, 4)
    with pytest.raises(SourceRejected, match="no coordinates") as caught:
        written(tmp_path / "new", path, group="geophysical_data")
    written(tmp_path / "cured", path, group="geophysical_data", normalise=pasted(caught.value.next_step))
    with ours_of(tmp_path / "cured") as opened:
        assert opened["latitude"].values[2, 3] == 42.3
        assert opened["chl"].values[2, 3] == 11


def test_dimensions_that_only_their_length_names_are_no_place(tmp_path: Path) -> None:
    """netCDF's library gives all dimensions of one length one name, so latitude and longitude seemed to be of the same cells."""
    path = tmp_path / "square.h5"
    with h5py.File(path, "w") as file:
        file["v"], file["lat"], file["lon"] = np.arange(9.0).reshape(3, 3), np.array([50.0, 40, 30]), np.array([1.0, 2, 3])
    with pytest.raises(SourceRejected, match="unknown which one is which") as caught:
        written(tmp_path / "new", path)
    with h5py.File(path, "a") as file:
        exec(str(caught.value.next_step).partition("the first: ")[2], {"file": file})
    written(tmp_path / "cured", path)
    with ours_of(tmp_path / "cured") as opened:
        assert float(opened["v"].sel(lat=40, lon=3)) == 5


def test_the_topology_of_a_mesh_is_no_data(tmp_path: Path) -> None:
    path = tmp_path / "mesh.nc"
    with netCDF4.Dataset(path, "w") as file:
        topology = {"node_coordinates": "nx ny", "face_node_connectivity": "nodes", "face_coordinates": "fx fy"}
        file.createVariable("mesh", "i4").setncatts({"cf_role": "mesh_topology", "topology_dimension": 2, **topology})
        variable(file, "nodes", ("face", "three"), np.array([[0, 1, 2], [1, 2, 3]], "i4"))
        for name, dim, values in (("nx", "node", [0.0, 1, 0, 1]), ("fx", "face", [0.3, 0.7])):
            variable(file, name, (dim,), np.array(values), units="degrees_east", standard_name="longitude")
        for name, dim, values in (("ny", "node", [0.0, 0, 1, 1]), ("fy", "face", [0.3, 0.7])):
            variable(file, name, (dim,), np.array(values), units="degrees_north", standard_name="latitude")
        variable(file, "v", ("face",), np.array([5.0, 6.0]), mesh="mesh", location="face", coordinates="fx fy")
    said = written(tmp_path / "new", path)
    assert not {kind for kind, _ in said["warnings"]} & {"other-grids", "undeclared-missing"}
    with ours_of(tmp_path / "new") as opened:
        assert opened["v"].values.tolist() == [5, 6]
        assert opened["nodes"].values.tolist() == [[0, 1, 2], [1, 2, 3]]
