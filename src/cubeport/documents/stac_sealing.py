"""The part of the STAC documents that comes from the bytes. It is made once, when a version is sealed, with pystac and xstac.

xstac makes the datacube of horizontal axes and variables. It refuses vertical axes, gives centres instead of edges, does not find
float32 steps and writes an older schema. Its result is corrected here from the description, and all other axes are added here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from cubeport.cubes import times
from cubeport.cubes.calendars import canonical, gregorian, parse_stamp
from cubeport.cubes.cells import labels
from cubeport.cubes.decoding import decoded, whole
from cubeport.cubes.description import Axis, CubeDescription, Temporal, Variable
from cubeport.cubes.pictures.looks import look_of
from cubeport.documents.geojson import box_geometry
from cubeport.documents.json_types import SealedStacJSON, problems
from cubeport.errors import Corrupt

if TYPE_CHECKING:
    import xarray as xr

EXTENSIONS = {
    "cube": "https://stac-extensions.github.io/datacube/v2.3.0/schema.json",
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "cf": "https://stac-extensions.github.io/cf/v0.3.0/schema.json",
    "renders": "https://stac-extensions.github.io/render/v2.0.0/schema.json",
}
"""The extensions of sealed fields."""

_LISTED = 10_000
_LISTED_TIMES = 1_000
_LISTED_RENDERS = 100

_DATA_TYPES = frozenset(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"))


def seal(cube: CubeDescription, raw: xr.Dataset) -> SealedStacJSON:
    """Return ``{"stac", "item"}``: the parts of Collection and Item that describe the content of this version, without texts and
    links.

    Parameters
    ----------
    cube
        The description of the same dataset.
    raw
        Opened with ``decode_cf=False``. Only labels are read.
    """
    skeleton = _skeleton(cube, raw)
    dimensions = _dimensions(cube, raw, skeleton["cube:dimensions"])
    variables = _variables(cube, skeleton["cube:variables"])
    projection = _projection(cube)
    datacube = {"cube:dimensions": dimensions, "cube:variables": variables, **projection}
    base = [EXTENSIONS["cube"], *([EXTENSIONS["proj"]] if projection else [])]
    summaries, renders = _summaries(cube), _renders(cube)
    collection: dict[str, Any] = {"extent": skeleton["extent"], **datacube}
    if summaries:
        collection["summaries"] = summaries
    if renders:
        collection["renders"] = renders
    extra = [EXTENSIONS["cf"]] * bool(summaries) + [EXTENSIONS["renders"]] * bool(renders)
    made = {
        "stac": {"stac_extensions": [*base, *extra], **collection},
        "item": {
            "stac_extensions": base,
            **_place(cube),
            "properties": {**_moments(cube), **datacube},
        },
    }
    # The results of xstac and pystac have no types, so they are checked here before they are used.
    if found := problems(made, SealedStacJSON):
        raise Corrupt(f"The STAC documents do not conform to the standard: {found[0].message}", errors=found)
    return cast("SealedStacJSON", made)


WORLD = (-180.0, -90.0, 180.0, 90.0)
"""The box of a Collection whose place is unknown, because STAC requires one. Its Items have no box."""


def interval(cube: CubeDescription) -> tuple[str | None, str | None]:
    """Return the first and the last label of all grids as Gregorian instants; both ``None`` without time.

    Of a climatology, they are the begin and the end of its years, as in searches.
    """
    both = [_ends(each) if each.years is None else (each.index_start, each.index_end) for each in cube.clocks]
    return (min(start for start, _ in both), max(end for _, end in both)) if both else (None, None)


def _ends(temporal: Temporal) -> tuple[str, str]:
    calendar = canonical(temporal.calendar) or "standard"
    return str(gregorian(parse_stamp(temporal.start, calendar))), str(gregorian(parse_stamp(temporal.end, calendar)))


def _place(cube: CubeDescription) -> dict[str, Any]:
    """Return the geometry and box of an Item. Without a place, the geometry is null and there is no box (RFC 7946, 3.2 and 5)."""
    if cube.spatial.bbox is None:
        return {"geometry": None}
    return {"geometry": box_geometry(cube.spatial.bbox), "bbox": list(cube.spatial.bbox)}


def _skeleton(cube: CubeDescription, raw: xr.Dataset) -> dict[str, Any]:
    """Return the result of pystac and xstac for the dataset as a mapping."""
    import pystac
    import xstac

    bounds = [None if edge is None else datetime.fromisoformat(edge) for edge in interval(cube)]
    template = pystac.Collection(
        id="sealed",
        description="sealed",
        extent=pystac.Extent(pystac.SpatialExtent([list(cube.spatial.bbox or WORLD)]), pystac.TemporalExtent([bounds])),
    )
    x, y = _horizontal(cube)
    with warnings.catch_warnings():
        # xstac uses deprecated functions of pandas and pystac, which only its authors can change.
        warnings.simplefilter("ignore")
        opened = xstac.fix_attrs(whole(raw, times=False))
        made = xstac.xarray_to_stac(
            opened,
            template,
            temporal_dimension=False,
            x_dimension=x.name if x else False,
            x_extent=[x.lower, x.upper] if x else None,
            x_step=x.step if x and x.step is not None else False,
            y_dimension=y.name if y else False,
            y_extent=[y.lower, y.upper] if y else None,
            y_step=y.step if y and y.step is not None else False,
            reference_system=_reference_system(cube) or False,
            validate=False,
        ).to_dict(include_self_link=False, transform_hrefs=False)
    extent = {"spatial": {"bbox": [list(cube.spatial.bbox or WORLD)]}, "temporal": {"interval": [list(interval(cube))]}}
    return {**made, "extent": extent}


def _horizontal(cube: CubeDescription) -> tuple[Axis | None, Axis | None]:
    """Return the x and y axes that xstac can read: dimensions with labels of their own name."""

    def readable(name: str | None) -> Axis | None:
        axis = next((each for each in cube.axes if each.name == name), None)
        fits = axis is not None and axis.name == axis.dimension and not axis.scalar and axis.kind in ("x", "y")
        return axis if fits else None

    x, y = readable(cube.spatial.x), readable(cube.spatial.y)
    return (x, y) if x is not None and y is not None else (None, None)


def _reference_system(cube: CubeDescription) -> int | dict[str, Any] | None:
    """Return the EPSG code as a number, otherwise PROJJSON. Its units are those of the labels that are shown with it."""
    crs = cube.spatial.system
    if crs is None:
        return None
    if crs.authority == "OGC:CRS84":
        return 4326
    if crs.authority is not None and crs.authority.startswith("EPSG:") and crs.authority[5:].isdigit():
        return int(crs.authority[5:])
    return crs.projjson


def _listed(cube: CubeDescription) -> list[Variable]:
    """Return data and auxiliary variables. Labels that are not the coordinate of a dimension count as auxiliary."""
    own = {axis.name for axis in cube.axes if axis.name == axis.dimension and not axis.scalar}
    return [
        each
        for each in cube.variables
        if each.role in ("data", "auxiliary")
        or (each.role == "coordinate" and each.name not in own and each.dimensions != (each.name,))
    ]


def _dimensions(cube: CubeDescription, raw: xr.Dataset, made: Mapping[str, Any]) -> dict[str, Any]:
    axes = {axis.dimension: axis for axis in cube.axes if not axis.scalar}
    sizes = {d: n for each in _listed(cube) for d, n in zip(each.dimensions, each.shape, strict=True)}
    found = {}
    for dimension, size in sizes.items():
        axis = axes.get(dimension) or Axis(name=dimension, dimension=dimension, kind="index", size=size)
        found[dimension] = {**made.get(dimension, {}), **_dimension(cube, raw, axis)}
    return found


def _dimension(cube: CubeDescription, raw: xr.Dataset, axis: Axis) -> dict[str, Any]:
    found: dict[str, Any]
    match axis.kind:
        case "x" | "y" if axis.lower is not None and axis.upper is not None:
            found = {"type": "spatial", "axis": axis.kind, "extent": [axis.lower, axis.upper], **_steps(axis)}
            system = _reference_system(cube)
            if axis.name in (cube.spatial.x, cube.spatial.y) and system is not None:
                found["reference_system"] = system
        case "z" if axis.lower is not None:
            values = labels(raw, axis.name).tolist()
            listed = {"values": values} if len(values) <= _LISTED else {}
            found = {"type": "spatial", "axis": "z", **listed, "extent": [axis.lower, axis.upper]}
        case "t" if axis.lower is not None:
            found = _time(cube, raw, axis)
        case "member":
            found = {"type": "ensemble", **_labels(raw, axis)}
        case "category":
            found = {"type": "nominal", **_labels(raw, axis)}
        case "index":
            found = {"type": "index", "extent": [0, axis.size - 1]}
        case _:
            found = {"type": "ordinal", **_labels(raw, axis)}
    if axis.units and axis.kind != "t":
        found["unit"] = axis.units
    description = _about(cube, axis)
    return {**found, "description": description} if description else found


def _about(cube: CubeDescription, axis: Axis) -> str | None:
    if axis.dimension in cube.cell_dimensions:
        return f"cells at the positions {cube.spatial.x} and {cube.spatial.y}"
    statistic = cube.temporal.statistic if cube.temporal is not None and cube.temporal.axis == axis.name else None
    said = [axis.long_name or axis.standard_name, statistic, f"positive {axis.positive}" if axis.positive else None]
    return ", ".join(each for each in said if each) or None


def _steps(axis: Axis) -> dict[str, Any]:
    if axis.step is not None:
        return {"step": axis.step}
    return {"step": None, "values": list(axis.values)} if axis.values else {"step": None}


def _labels(raw: xr.Dataset, axis: Axis) -> dict[str, Any]:
    if axis.values is None and (axis.first is None or axis.name not in raw.variables):
        return {"extent": [0, axis.size - 1]}
    if axis.step is not None and axis.size > _LISTED_TIMES:
        return {"extent": [axis.lower, axis.upper], "step": axis.step}
    values = list(axis.values) if axis.values is not None else labels(raw, axis.name).tolist()
    return {"values": values} if len(values) <= _LISTED else {"extent": [axis.lower, axis.upper]}


def _time(cube: CubeDescription, raw: xr.Dataset, axis: Axis) -> dict[str, Any]:
    temporal = cube.temporal
    if temporal is not None and temporal.axis == axis.name:
        values = list(temporal.values) if temporal.values is not None else None
        return _temporal(_ends(temporal), temporal.step, values)
    attributes = raw.variables[axis.name].attrs
    calendar = times.calendar_of(attributes, name=axis.name)
    stamps = times.decode(
        decoded(raw.variables[axis.name], name=axis.name), str(attributes.get("units", "")), calendar, name=axis.name
    )
    step = times.step_of(stamps, calendar)
    listed = [str(each) for each in stamps] if step is None and len(stamps) <= _LISTED_TIMES else None
    return _temporal((str(gregorian(stamps[0])), str(gregorian(stamps[-1]))), step, listed)


def _temporal(extent: tuple[str | None, str | None], step: str | None, values: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "temporal", "extent": list(extent), "step": step}
    return {**found, "values": values} if values else found


def _variables(cube: CubeDescription, made: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for each in _listed(cube):
        known = made.get(each.name, {})
        entry: dict[str, Any] = {
            "type": "data" if each.role == "data" else "auxiliary",
            "dimensions": list(each.dimensions),
            "description": each.long_name or known.get("description") or each.standard_name,
            "unit": each.units,
            "shape": list(each.shape),
            "chunks": list(each.chunks),
            "data_type": each.dtype if each.dtype in _DATA_TYPES else "other",
            "nodata": each.nodata,
            "attrs": each.attributes or None,
        }
        found[each.name] = {key: value for key, value in entry.items() if value is not None}
    return found


def _projection(cube: CubeDescription) -> dict[str, Any]:
    """Return ``proj:*`` in the units of the CRS, rows first, as stored: south-up grids have a positive step of y."""
    x, y = (next((a for a in cube.axes if a.name == name), None) for name in (cube.spatial.x, cube.spatial.y))
    crs, native, factor = cube.spatial.crs, cube.spatial.native_bbox, cube.spatial.axis_factor
    if x is None or y is None or crs is None or native is None or x.scalar or y.scalar:
        return {}
    found: dict[str, Any] = {}
    if crs.authority is not None:
        found["proj:code"] = "EPSG:4326" if crs.authority == "OGC:CRS84" else crs.authority
    else:
        found |= {"proj:code": None, "proj:projjson": crs.projjson, "proj:wkt2": crs.wkt2}
    found["proj:bbox"] = [edge * factor for edge in native]
    found["proj:shape"] = [y.size, x.size]
    if x.step is not None and y.step is not None:
        xmin, ymin, xmax, ymax = native
        corner = xmin if x.step > 0 else xmax, ymin if y.step > 0 else ymax
        found["proj:transform"] = [x.step * factor, 0.0, corner[0] * factor, 0.0, y.step * factor, corner[1] * factor]
    return found


def _summaries(cube: CubeDescription) -> dict[str, Any]:
    data = [each for each in cube.variables if each.role == "data"]
    names = list(dict.fromkeys(each.standard_name for each in data if each.standard_name))
    methods = list(dict.fromkeys(str(m) for each in data if (m := each.attributes.get("cell_methods")) and str(m).strip()))
    return {**({"cf:standard_name": names} if names else {}), **({"cf:cell_methods": methods} if methods else {})}


def _renders(cube: CubeDescription) -> dict[str, Any]:
    """Return how maps draw each field: the palette and the range of its look. Classes have no range."""
    found: dict[str, dict[str, Any]] = {}
    for name in cube.fields[:_LISTED_RENDERS]:
        each = cube.variable(name)
        if each.shown_min is None or each.shown_max is None:
            continue
        try:
            look = look_of(each)
        except ValueError:
            continue  # it has nothing to draw
        found[name] = {"title": each.long_name or name, "assets": ["zarr"], "colormap_name": look.palette}
        if not look.flags:
            found[name]["rescale"] = [[look.low, look.high]]
        if each.nodata is not None:
            found[name]["nodata"] = each.nodata
    return found


def _moments(cube: CubeDescription) -> dict[str, Any]:
    """Return the times of an Item. For data without time, the caller sets the day on which the version was made."""
    start, end = interval(cube)
    if start is None:
        return {}
    if start == end:
        return {"datetime": start}
    return {"datetime": None, "start_datetime": start, "end_datetime": end}
