"""The corners of cells as the data give them: CF bounds of 1-D or 2-D positions, or the faces of a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cubeport.cubes.footprint import corners_of
from cubeport.cubes.nearest import on_sphere
from cubeport.cubes.quads import Outlines

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from cubeport.cubes.description import CubeDescription

    type Array = np.ndarray[Any, Any]

_MOST_CELLS = 1 << 22
"""The vertices of larger grids are not used for places: they would take more than 256 MiB of memory."""
_ROWS = 64
"""How many rows are checked together."""
_EDGE = 1e-3
"""A centre may be outside its vertices by this part of the cell: both are rounded."""


class _Opened(Protocol):
    @property
    def description(self) -> CubeDescription: ...
    def names(self) -> tuple[str, ...]: ...
    def dimensions(self, name: str) -> tuple[str, ...]: ...
    def attributes(self, name: str) -> Mapping[str, Any]: ...
    def raw(self, name: str, along: Mapping[str, Any]) -> Array: ...


def corners(opened: _Opened) -> tuple[Array, Array] | None:
    """Return longitudes and latitudes of corners in degrees, with one axis more than the positions, if the data have them."""
    import xarray as xr

    spatial, names = opened.description.spatial, opened.names()
    x, y = str(spatial.x), str(spatial.y)
    if not {x, y} <= set(names) or any(opened.dimensions(each) != opened.description.cell_dimensions for each in (x, y)):
        return None
    about = {name: opened.attributes(name) for name in names}
    wanted = {x, y, *(str(about[each].get("bounds")) for each in (x, y))}
    for name, mesh in about.items():
        if mesh.get("cf_role") == "mesh_topology":
            wanted |= {name, *f"{mesh.get('node_coordinates', '')} {mesh.get('face_node_connectivity', '')}".split()}
    held = {name: (opened.dimensions(name), opened.raw(name, {}), dict(about[name])) for name in names if name in wanted}
    return corners_of(xr.Dataset({name: xr.Variable(*each) for name, each in held.items()}), x, y)


def outlines(opened: _Opened, lon: Array, lat: Array) -> Outlines | None:
    """Return the vertices of the cells of a curvilinear grid; ``None`` if the data have none, or most are not around their centres.

    Parameters
    ----------
    lon, lat
        The centres in degrees, ``(rows, columns)``.
    """
    import numpy as np

    spatial = opened.description.spatial
    declared = {str(spatial.x), str(spatial.y)} <= set(opened.names()) and all(
        isinstance(opened.attributes(str(name)).get("bounds"), str) for name in (spatial.x, spatial.y)
    )
    if not declared or lon.size > _MOST_CELLS or (found := corners(opened)) is None or found[0].shape != (*lon.shape, 4):
        return None
    size = np.concatenate([_sizes(lon[at], lat[at], found[0][at], found[1][at]) for at in _strips(len(lon))])
    known = np.isfinite(lon) & np.isfinite(lat)
    return Outlines(*found, size) if np.isfinite(size[known]).sum() > known.sum() / 2 else None


def _strips(rows: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, rows, _ROWS)]


def _sizes(lon: Array, lat: Array, corner_lon: Array, corner_lat: Array) -> Array:
    """Return the longer diagonals of cells in degrees; NaN of those whose vertices are not around their centre."""
    import numpy as np

    ring = [np.moveaxis(on_sphere(corner_lon[..., n], corner_lat[..., n]), -1, 0) for n in range(4)]
    x, y, z = np.moveaxis(on_sphere(lon, lat), -1, 0)
    with np.errstate(invalid="ignore"):
        across = np.sqrt(np.maximum(*(((ring[n + 2] - ring[n]) ** 2).sum(axis=0) for n in (0, 1))))
        sides = np.stack(
            [
                (a[1] * b[2] - a[2] * b[1]) * x + (a[2] * b[0] - a[0] * b[2]) * y + (a[0] * b[1] - a[1] * b[0]) * z
                for a, b in zip(ring, (*ring[1:], ring[0]), strict=True)
            ]
        )
        slack = _EDGE * across**2
        around = (sides >= -slack).all(axis=0) | (sides <= slack).all(axis=0)
        near = np.minimum.reduce([a[0] * x + a[1] * y + a[2] * z for a in ring]) > 0
    return np.where(around & near & (across > 0), np.degrees(across), np.nan)


def repeated(lon: Array, lat: Array) -> Array:
    """Return which cells of a grid are at the place of another: columns that come round again, and a folded row.

    One of them is not, the one that :func:`cubeport.cubes.boxes.nearest` finds.

    Parameters
    ----------
    lon, lat
        The centres in degrees, ``(rows, columns)``.
    """
    import numpy as np

    edge = np.zeros(lon.shape, "int8")
    for side in (np.s_[[0, -1], :], np.s_[:, [0, -1]]):
        edge[side] += 1
    rank = np.empty(lon.size, "int64")
    rank[np.argsort(edge.ravel(), kind="stable")] = np.arange(lon.size)
    places = on_sphere(lon, lat).reshape(-1, 3)
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    found = np.zeros(lon.size, bool)
    # Two places that are near each other can be on both sides of an edge in each direction. So at least one of four lattices has
    # them together.
    for shift in (0.0, 0.25, 0.5, 0.75):
        x, y, z = np.floor((places[known] + 1) / _APART + shift).astype("int64").T
        _, cell = np.unique((x * _MOST + y) * _MOST + z, return_inverse=True)
        first = np.full(cell.max(initial=-1) + 1, lon.size)
        np.minimum.at(first, cell, rank[known])
        found[known] |= rank[known] > first[cell]
    return found.reshape(lon.shape)


_APART = 1.2e-6
"""The side of the cubes whose places are the same (8 m). Near the poles of a tripolar grid, cells on land are 30 m wide."""
_MOST = 1 << 21
"""The number of cubes along each side of the Earth, at least; its third power is the most that fits in 64 bits."""
