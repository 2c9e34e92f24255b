"""What ``select`` takes, and how the windows of a selection cut an xarray dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cubeport.errors import InvalidRequest

if TYPE_CHECKING:
    import xarray as xr

    from cubeport.cubes.quads import Outlines
    from cubeport.cubes.windows import Labels, Window, Windows

_MEANT = {
    "variable": "write variables='NAME'",
    "bbox": "write box=(west, south, east, north)",
    "datetime": "write time='FROM/TO'",
    "method": "leave it out: a place, a time and a level each select the cell that contains them",
}
"""What to do about names that addresses and xarray have for what ``select`` calls otherwise, or does not need."""


def asked(
    *,
    variables: str | Sequence[str] | None = None,
    time: str | slice | None = None,
    box: Sequence[float] | None = None,
    level: float | str | None = None,
    at: Sequence[float] | None = None,
    area: Any = None,
    along: Any = None,
    axes: Mapping[str, float | str],
) -> tuple[str, dict[str, str | None]]:
    """Return the kind of query that a selection is (``download``, ``coverage``, ``position``, ``area`` or ``trajectory``), and its
    parameters. Raises InvalidRequest.
    """
    names = (variables,) if isinstance(variables, str) else variables
    for name in axes.keys() & _MEANT.keys():
        raise InvalidRequest(f"select has no {name}.", next_step=_MEANT[name])
    for name, value in (*axes.items(), ("level", level)):
        if isinstance(value, (slice, list, tuple)):
            raise InvalidRequest(
                f"{name} takes one label, not several.",
                next_step="a range of places is box=(west, south, east, north); cut others out of what load gives",
            )
    if isinstance(time, slice):
        if time.step is not None:
            raise InvalidRequest("A slice of time has no step.", next_step="take each n-th step of what load gives")
        time = f"{_time(time.start)}/{_time(time.stop)}"
    elif isinstance(time, (list, tuple)):
        raise InvalidRequest("time takes one time or one interval.", next_step="write time='FROM/TO'")
    elif time is not None:
        time = _time(time)
    if sum(each is not None for each in (box, at, area, along)) > 1:
        raise InvalidRequest("select takes one of box, at, area and along.")
    if box is not None and len(box) != 4:
        raise InvalidRequest("box takes west, south, east, north in degrees.")
    if at is not None and len(at) != 2:
        raise InvalidRequest("at takes longitude and latitude in degrees.")
    subset = ",".join(f"{name}({_label(value)})" for name, value in axes.items()) or None
    words = ",".join(names) if names is not None else None
    placed = at is not None or area is not None or along is not None
    if not placed and level is None and subset is None:
        query = {
            "bbox": ",".join(repr(float(each)) for each in box) if box is not None else None,
            "datetime": time,
            "variables": words,
        }
        return "download", query
    query = {"datetime": time}
    if not placed:
        kind = "coverage"
        levels = f"z({_label(level)})" if level is not None else None
        query |= {
            "properties": words,
            "bbox": ",".join(repr(float(each)) for each in box) if box is not None else None,
            "subset": ",".join(each for each in (levels, subset) if each) or None,
        }
    else:
        if at is not None:
            kind, coords = "position", f"POINT({float(at[0])!r} {float(at[1])!r})"
        elif area is not None:
            kind, coords = "area", _well_known(area)
        else:
            kind, coords = "trajectory", _line(along)
        query |= {
            "coords": coords,
            "parameter-name": words,
            "z": None if level is None else str(level),
            "subset": subset,
        }
    return kind, query


def _time(value: Any) -> str:
    """Return a time as RFC 3339 writes it: of text, or of a date or time of Python, pandas, numpy or cftime; ``..`` without one."""
    return ".." if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _label(value: float | str | None) -> str:
    """Return a label in the syntax of ``subset``: text in quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _line(along: Any) -> str:
    """Return a line as well-known text. Raises InvalidRequest."""
    if isinstance(along, str):
        return along
    shape = along if isinstance(along, Mapping) else getattr(along, "__geo_interface__", None)
    points = along if shape is None else shape["coordinates"] if shape.get("type") == "LineString" else ()
    if not isinstance(points, Sequence) or len(points) < 2 or any(len(each) < 2 for each in points):
        raise InvalidRequest("along takes a line: well-known text, pairs of longitude and latitude, or a GeoJSON LineString.")
    return f"LINESTRING({','.join(f'{float(x)!r} {float(y)!r}' for x, y, *_ in points)})"


def _well_known(area: Any) -> str:
    """Return a polygon as well-known text. Raises InvalidRequest."""
    if isinstance(area, str):
        return area
    shape = area if isinstance(area, Mapping) else getattr(area, "__geo_interface__", None)
    if not isinstance(shape, Mapping) or shape.get("type") not in ("Polygon", "MultiPolygon"):
        raise InvalidRequest("area takes a polygon: well-known text, GeoJSON, or anything with __geo_interface__.")

    def rings(polygon: Any) -> str:
        return "(" + ",".join("(" + ",".join(f"{float(x)!r} {float(y)!r}" for x, y, *_ in ring) + ")" for ring in polygon) + ")"

    if shape["type"] == "Polygon":
        return f"POLYGON{rings(shape['coordinates'])}"
    return "MULTIPOLYGON(" + ",".join(rings(each) for each in shape["coordinates"]) + ")"


def taken(data: xr.Dataset, windows: Mapping[str, Sequence[Sequence[float]]]) -> xr.Dataset:
    """Return the part of a dataset in windows, lazily.

    Parameters
    ----------
    windows
        By dimension, the ranges in the order of the answer: start, stop, and what is added to the labels, in degrees.
    """
    import xarray

    cut = data
    for dimension, runs in windows.items():
        if dimension not in cut.dims:
            continue
        parts = []
        for start, stop, shift in runs:
            part = cut.isel({dimension: slice(int(start), int(stop))})
            if any(each[2] for each in runs) and dimension in part.coords:
                for name in (dimension, part[dimension].attrs.get("bounds")):
                    if name in part.variables:
                        moved = part[name].astype("float64") + shift
                        part[name] = moved.assign_attrs(part[name].attrs)
            parts.append(part)
        cut = parts[0] if len(parts) == 1 else xarray.concat(parts, dimension, data_vars="minimal", coords="minimal")
    return cut


def selected(raw: xr.Dataset, data: xr.Dataset, kind: str, query: Mapping[str, str | None]) -> xr.Dataset:
    """Return the part of a dataset that a query selects, lazily, by the rules of the service.

    Parameters
    ----------
    raw
        The dataset, opened with ``decode_cf=False``. Its coordinates are read.
    data
        The dataset as the caller opened it.
    kind, query
        As :func:`asked` returns them, except ``trajectory``.

    Raises
    ------
    InvalidRequest, NotFound
        If the query names something that the data do not have, or is outside them.
    SourceRejected
        If the data are not a cube.
    """
    from cubeport.cubes.describe import describe
    from cubeport.cubes.download import parse_download, resolve_download
    from cubeport.cubes.edr.queries import parse_query, resolve_query, settle
    from cubeport.cubes.resolve import resolve
    from cubeport.cubes.selection import parse

    opened = _Coordinates(raw, describe(raw, ranges=dict.fromkeys(map(str, raw.variables))))
    description, labels = opened.description, opened.labels()
    pairs = [(name, value) for name, value in query.items() if value is not None]
    if kind == "download":
        windows = resolve_download(description, labels, parse_download(pairs)[0])
    elif kind == "coverage":
        windows = resolve(description, labels, parse(pairs, forms=()))
    else:
        place, selection = parse_query(kind, pairs, forms=())
        windows = resolve_query(description, labels, selection, place)
        windows = settle(description, labels, windows, selection, place, lambda: None)
    return _cut(data, windows, drops=kind != "download")


def _cut(data: xr.Dataset, windows: Windows, *, drops: bool) -> xr.Dataset:
    import xarray

    # Coordinates that hold no data stay; a download keeps the longitudes of the store and shifts only those after the seam.
    first = {name: 0.0 if drops else each.runs[0].shift for name, each in windows.along.items()}
    runs = {name: [(run.start, run.stop, run.shift - first[name]) for run in each.runs] for name, each in windows.along.items()}
    part = taken(data[list(windows.fields)], runs)
    if windows.mask is not None:
        inside = xarray.DataArray(windows.mask.inside, dims=windows.mask.dimensions)
        hidden = {name: part[name].where(inside) for name in windows.fields if {*inside.dims} <= {*part[name].dims}}
        part = part.assign(hidden)
    return part.isel({name: 0 for name, each in windows.along.items() if drops and each.sliced and name in part.dims})


class _Coordinates:
    """The coordinates of a dataset, as :func:`cubeport.cubes.labels.labels_of` reads those of a version."""

    def __init__(self, raw: xr.Dataset, description: Any) -> None:
        self._raw = raw
        self.description = description

    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self._raw.variables))

    def attributes(self, name: str) -> Mapping[str, Any]:
        return {str(key): value for key, value in self._raw.variables[name].attrs.items()}

    def dimensions(self, name: str) -> tuple[str, ...]:
        return tuple(map(str, self._raw.variables[name].dims))

    def raw(self, name: str, along: Mapping[str, Window]) -> Any:
        return self._raw.variables[name].isel({each: window.indices() for each, window in along.items()}).values

    def decode(self, name: str, raw: Any) -> Any:
        from cubeport.cubes.decoding import decoded

        stored = self._raw.variables[name]
        dims = stored.dims if raw.ndim == len(stored.dims) else tuple(f"n{number}" for number in range(raw.ndim))
        return decoded(type(stored)(dims, raw, stored.attrs, stored.encoding), name=name)

    def labels(self) -> Labels:
        from cubeport.cubes.labels import labels_of

        found = labels_of(self, outlines=lambda: self._outlines(found))
        return found

    def _outlines(self, labels: Labels) -> Outlines | None:
        import numpy as np

        from cubeport.cubes.outlines import outlines

        spatial = self.description.spatial
        return outlines(self, *(np.asarray(labels.values[str(name)], "float64") for name in (spatial.x, spatial.y)))
