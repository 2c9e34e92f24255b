"""GeoZarr attributes of a cube, by the conventions ``proj``, ``spatial`` and ``multiscales`` (all v0.1). Pure functions of values.

They are added to the metadata when a client requests these, and are never in the sealed store, for two reasons: a list of objects
among the attributes makes ``Dataset.to_netcdf`` fail, and the conventions are drafts. If they change, only this module changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cubeport.cubes.description import Axis, CubeDescription

type Json = dict[str, Any]

_BASE = "https://raw.githubusercontent.com/zarr-conventions"


def _convention(name: str, uuid: str, description: str) -> Json:
    return {
        "uuid": uuid,
        "schema_url": f"{_BASE}/{name}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
        "name": name,
        "description": description,
    }


PROJ = _convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data")
SPATIAL = _convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information")
MULTISCALES = _convention("multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets")

_METHODS = {"mean": "average", "nearest": "nearest", "max": "max"}
"""The names that the convention gives to our methods for overviews."""


@dataclass(frozen=True, slots=True)
class Level:
    """An overview: each cell combines two by two cells of the level before; odd edges are kept."""

    root: Mapping[str, Any]
    """Its consolidated ``zarr.json``."""
    method: str
    """``mean``, ``nearest`` or ``max``: the method of its first field."""


@dataclass(frozen=True, slots=True)
class View:
    """The metadata of a version with GeoZarr attributes, by path. The path of the root is empty."""

    documents: Mapping[str, Json]

    @classmethod
    def of(cls, root: Mapping[str, Any], cube: CubeDescription, levels: Sequence[Level] = ()) -> View | None:
        """Return the view of a consolidated root document; ``None`` for a grid that the conventions cannot describe."""
        own = attributes(cube)
        if own is None:
            return None
        nodes = _placed(root, cube)
        documents: dict[str, Json] = {}
        whole = {**root, "attributes": {**root.get("attributes", {}), **own}}
        if levels:
            below = {"0": _group(root, own, nodes)}
            for number, level in enumerate(levels, 1):
                of_level = attributes(cube, number)
                assert of_level is not None
                below[str(number)] = _group(level.root, of_level, _placed(level.root, cube, number))
            whole["attributes"] = {
                **whole["attributes"],
                "zarr_conventions": [MULTISCALES, *own["zarr_conventions"]],
                "multiscales": _layout(cube, levels),
            }
            for name, group in below.items():
                documents[name] = group
                inside = group["consolidated_metadata"]["metadata"]
                documents |= {f"{name}/{path}": node for path, node in inside.items()}
                nodes = {**nodes, name: _bare(group), **{f"{name}/{path}": node for path, node in inside.items()}}
        whole["consolidated_metadata"] = {**root["consolidated_metadata"], "metadata": nodes}
        return cls({**documents, **nodes, "": whole} | {name: documents[name] for name in documents})


def _group(root: Mapping[str, Any], own: Json, nodes: Mapping[str, Json]) -> Json:
    consolidated = {**root["consolidated_metadata"], "metadata": dict(nodes)}
    return {**root, "attributes": {**root.get("attributes", {}), **own}, "consolidated_metadata": consolidated}


def _bare(group: Mapping[str, Any]) -> Json:
    """Return a group as the metadata of its parent contain it: without its own consolidated metadata."""
    return {name: value for name, value in group.items() if name != "consolidated_metadata"}


def _placed(root: Mapping[str, Any], cube: CubeDescription, level: int = 0) -> dict[str, Json]:
    """Return the nodes of a root; arrays with both dimensions of a grid have its attributes."""
    grids = [cube, *(cube.on(each.name) for each in cube.grids)]
    said = [(set(found["spatial:dimensions"]), found) for each in grids if (found := attributes(each, level, whole=True))]
    nodes: dict[str, Json] = {}
    for path, node in root["consolidated_metadata"]["metadata"].items():
        names = set(node.get("dimension_names") or ()) if node["node_type"] == "array" else set()
        fitting = next((found for dimensions, found in said if dimensions <= names), None)
        kept = dict(node.get("attributes", {}))
        nodes[path] = dict(node) if fitting is None else {**node, "attributes": {**kept, **_told(fitting)}}
    return nodes


def attributes(cube: CubeDescription, level: int = 0, *, whole: bool = False) -> Json | None:
    """Return the attributes of the grid, or of one of its overviews; ``None`` if the conventions cannot describe it.

    Parameters
    ----------
    whole
        Name the dimensions even if the spacing is not regular; used to choose arrays.
    """
    spatial = cube.spatial
    if spatial.family not in ("rectilinear", "projected"):
        return None
    x, y = cube.axis_of("x"), cube.axis_of("y")
    if x is None or y is None or x.scalar or y.scalar:
        return None
    found = _reference(cube)
    conventions = [PROJ] if found else []
    affine = _affine(x, y, spatial.axis_factor, level)
    if affine is not None:
        found |= affine
        conventions.append(SPATIAL)
    elif whole:
        found["spatial:dimensions"] = [y.dimension, x.dimension]
    return {**found, "zarr_conventions": conventions} if conventions else None


def _told(found: Json) -> Json:
    """Return the attributes of an array, without the names of dimensions if the group does not declare their convention."""
    return found if SPATIAL in found["zarr_conventions"] else {k: v for k, v in found.items() if k != "spatial:dimensions"}


def _reference(cube: CubeDescription) -> Json:
    crs = cube.spatial.crs
    if crs is not None and crs.authority is not None and crs.authority.startswith("EPSG:"):
        return {"proj:code": crs.authority}
    if cube.spatial.family != "projected":
        # Not OGC:CRS84, which some readers do not know: spatial:dimensions says which axis is which.
        return {"proj:code": "EPSG:4326"}
    return {"proj:wkt2": crs.wkt2, "proj:projjson": crs.projjson} if crs is not None and crs.wkt2 and crs.projjson else {}


def _affine(x: Axis, y: Axis, scale: float, level: int) -> Json | None:
    """Return the positions of the cells; ``None`` if their spacing is not regular. Boxes are not cut at the poles, because clients
    divide the box by the shape.
    """
    if not (x.regular and y.regular) or x.first is None or x.step is None or y.first is None or y.step is None:
        return None
    across, down = x.step * scale, y.step * scale
    left, top = x.first * scale - across / 2, y.first * scale - down / 2
    width, height = (_halved(size, level) for size in (x.size, y.size))
    across, down = across * 2**level, down * 2**level
    # Of an overview with an odd edge the last cell reaches beyond the data, as its bbox says.
    ends = left + across * width, top + down * height
    box = [min(left, ends[0]), min(top, ends[1]), max(left, ends[0]), max(top, ends[1])]
    return {
        "spatial:dimensions": [y.dimension, x.dimension],
        "spatial:shape": [height, width],
        "spatial:transform": [_number(each) for each in (across, 0.0, left, 0.0, down, top)],
        "spatial:bbox": [_number(each) for each in box],
        "spatial:registration": "pixel",
    }


def _number(value: float) -> float:
    """Return a number without the noise in its last digits, which labels of 32 or 64 bits get when they are multiplied."""
    return float(f"{value:.12g}")


def _halved(size: int, times: int) -> int:
    return -(-size // (1 << times))


def _layout(cube: CubeDescription, levels: Sequence[Level]) -> Json:
    layout: list[Json] = []
    for number in range(len(levels) + 1):
        found = attributes(cube, number) or {}
        scale = 1.0 if number == 0 else 2.0
        entry: Json = {"asset": str(number), "transform": {"scale": [scale, scale], "translation": [0.0, 0.0]}}
        entry |= {name: found[name] for name in ("spatial:shape", "spatial:transform") if name in found}
        if number:
            entry |= {"derived_from": str(number - 1), "resampling_method": _METHODS[levels[number - 1].method]}
        layout.append(entry)
    return {"layout": layout, "resampling_method": _METHODS[levels[0].method]}
