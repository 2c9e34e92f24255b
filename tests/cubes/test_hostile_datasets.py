"""Whatever a file says of itself, it is taken or refused in words: no other error, and what is taken can be described."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubeport.cubes.checks import check
from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.describe import describe
from cubeport.cubes.layout import chunks
from cubeport.cubes.write_request import SourceWindow
from cubeport.documents import stac
from cubeport.errors import CubeportError, SourceRejected

NAMES = ("lon", "lat", "time", "x", "y", "depth", "member", "crs", "lon_bnds", "time_bnds", "v", "w", "rotated_pole", "nv")
KEYS: dict[str, list[Any]] = {
    "units": ["degrees_east", "degrees_north", "days since 2000-01-01", "months since 2000-01-01", "hours since", "km", "", 5],
    "standard_name": ["longitude", "latitude", "time", "projection_x_coordinate", "projection_y_coordinate", "depth", 3],
    "axis": ["X", "Y", "Z", "T", "", 1],
    "positive": ["up", "down", "sideways", 1],
    "calendar": ["standard", "noleap", "360_day", "365_days", "", 7],
    "bounds": ["lon_bnds", "time_bnds", "missing", "lon", "v", 1],
    "climatology": ["time_bnds", "missing"],
    "coordinates": ["lon lat", "time", "missing lon", "", 4],
    "grid_mapping": ["crs", "rotated_pole", "crs: x y", "missing", "", 2],
    "grid_mapping_name": ["latitude_longitude", "rotated_latitude_longitude", "geostationary", "lambert_conformal_conic", 1],
    "grid_north_pole_latitude": [30.0, "north", np.nan, [1.0, 2.0]],
    "grid_north_pole_longitude": [10.0, np.inf],
    "perspective_point_height": [35786023.0, "high", 0.0],
    "standard_parallel": [[30.0, 60.0], 45.0, "x"],
    "crs_wkt": ["PROJCS[", "EPSG:4326", ""],
    "spatial_ref": ['GEOGCS["WGS 84"]', "+proj=utm +zone=3 +init=/etc/passwd", "+proj=sinu +nadgrids=@x"],
    "crs": ["+proj=sinu +R=6371007", "EPSG:99999999", "EPSG:3857"],
    "scale_factor": [0.5, 2, "2", 0.0, np.nan, [1.0], [1.0, 2.0]],
    "add_offset": [1.0, np.inf, "a"],
    "_FillValue": [np.float32(-1), np.int16(-1), np.nan, "x", [1, 2]],
    "missing_value": [np.float64(9), "none"],
    "_Unsigned": ["true", "false", "x"],
    "cf_role": ["mesh_topology", "timeseries_id"],
    "face_coordinates": ["lon lat", "missing"],
    "node_coordinates": ["lon lat", "lon"],
    "face_node_connectivity": ["w", "missing"],
    "mesh": ["v", "missing"],
    "long_name": ["a name", "", 2],
    "dtype": ["bool", "str"],
    "start_index": [1, "one"],
    "_Encoding": ["utf-8", "klingon"],
}  # fmt: skip
DIMS = ("lon", "lat", "time", "x", "nv", "strlen")


@st.composite
def datasets(draw: st.DrawFn) -> xr.Dataset:
    sizes = {dim: draw(st.sampled_from([0, 1, 2, 2, 3, 4])) for dim in DIMS}
    variables: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True)):
        own = (name,) if name in DIMS else ()
        dims = draw(
            st.sampled_from([own, own, *(tuple(d) for d in (("lat", "lon"), ("time", "lat", "lon"), ("time",), ("lon", "nv"), ()))])
        )
        shape = tuple(sizes[dim] for dim in dims)
        kind = draw(st.sampled_from(["f8", "f4", "i2", "u1", "S1", "?", "f8", "f8"]))
        if kind == "S1":
            values: Any = np.full(shape, draw(st.sampled_from([b"a", b"", b"\xff"])), "S1")
        elif draw(st.booleans()):
            values = np.arange(int(np.prod(shape)), dtype=kind if kind != "?" else "f8").reshape(shape).astype(kind)
        else:
            pool = [0.0, 1.0, -90.0, 91.0, 400.0, np.nan, np.inf, 1e20] if kind[0] == "f" else [0, 1, 2, 100]
            values = np.array(
                draw(st.lists(st.sampled_from(pool), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))), kind
            ).reshape(shape)
        keys = draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=5, unique=True))
        attributes = {key: draw(st.sampled_from(KEYS[key])) for key in keys}
        variables[name] = xr.Variable(dims, values, attributes)
    try:
        return xr.Dataset(variables)
    except (xr.CoordinateValidationError, ValueError):
        # A variable of the name of another's dimension: xarray itself cannot hold it.
        return xr.Dataset({"v": ((), 1.0)})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets())
def test_a_dataset_is_taken_or_refused_in_words(raw: xr.Dataset) -> None:
    with warnings.catch_warnings():
        # xarray tells of odd packing; the gate's child shows warnings to nobody.
        warnings.simplefilter("ignore")
        try:
            check(raw)
        except SourceRejected:
            return
        cube = describe(raw)
        assert cube.fields
        # What has no place has no box.
        west, south, east, north = cube.spatial.bbox or (-180.0, -90.0, 180.0, 90.0)
        assert cube.spatial.family == "none" or cube.spatial.bbox is not None
        assert -180 <= west <= 180
        assert -180 <= east <= 180
        assert -90 <= south <= north <= 90
        assert type(cube).model_validate_json(cube.model_dump_json()) == cube
        assert stac.seal(cube, raw)["item"].get("bbox") == (cube.spatial.bbox and list(cube.spatial.bbox))
        assert set(chunks(raw)) == set(map(str, raw.variables))
        try:
            indexers = window_indexers(raw, SourceWindow(bbox=(0.0, 0.0, 2.0, 2.0), start="2000", end="2001"))
        except CubeportError:
            return
        raw.isel(indexers)
