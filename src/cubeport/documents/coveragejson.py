"""CoverageJSON 1.0 from arrays. orjson writes it, so float32 stays float32 and missing values are ``null``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, CubeDescription, Variable
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.variables import PRESSURE_UNITS
from cubeport.cubes.windows import LATITUDE_FIRST, UNKNOWN, IndexRange, Mask, Window, Windows, aligned, storage_crs, time_axis
from cubeport.errors import NotAcceptable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

MEDIA_TYPE = "application/vnd.cov+json"
NERC = "http://vocab.nerc.ac.uk/standard_name/"
"""The base URL of CF standard names."""
UCUM = "http://www.opengis.net/def/uom/UCUM/"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_AXES = ("t", "z", "y", "x")
_UCUM_WORDS = {
    **{
        word: word
        for word in ("m", "s", "g", "K", "Pa", "J", "W", "N", "V", "Hz", "mol", "cd", "A", "%", "1", "h", "rad", "sr", "bar", "dB")
    },
    **{
        f"{prefix}{unit}": f"{prefix}{unit}"
        for prefix in ("k", "c", "m", "h", "u", "n", "M", "G")
        for unit in ("m", "g", "s", "Pa", "J", "W", "mol")
    },
    **dict.fromkeys(("degC", "deg_C", "celsius", "Celsius", "degree_Celsius", "degrees_Celsius", "degree_C", "°C", "C"), "Cel"),
    **dict.fromkeys(("degree", "degrees", "degrees_north", "degrees_east", "degree_north", "degree_east", "deg"), "deg"),
    **dict.fromkeys(("kelvin", "Kelvin", "degK", "deg_K"), "K"),
    **dict.fromkeys(("meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("second", "seconds", "sec"), "s"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("hour", "hours"), "h"),
    **dict.fromkeys(("minute", "minutes", "min"), "min"),
    **dict.fromkeys(("radian", "radians"), "rad"),
    **dict.fromkeys(("millibar", "millibars", "mb", "mbar"), "mbar"),
    "percent": "%",
    "pascal": "Pa",
    "µm": "um",
}
_UNIT_WORD = re.compile(r"([^\d\s.*/^-]+|1|%)(?:\*\*|\^)?(-?[1-9])?")


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that share their dimensions, and therefore a domain."""

    fields: tuple[Variable, ...]
    dimensions: tuple[str, ...]
    named: Mapping[str, Axis]
    """The axes ``t z y x`` of the domain."""
    extra: tuple[str, ...]
    """Dimensions without a name in CoverageJSON. There is one coverage for each of their labels."""
    composite: tuple[str, ...]
    """Dimensions of cells with arbitrary positions, which are written as tuples: those of the positions, and before them those of
    the time and of the height, if each cell has its own."""

    def coverages(self, windows: Windows) -> int:
        """Return the number of coverages of the group."""
        return prod(windows.shape(self.extra))


def groups(description: CubeDescription, windows: Windows) -> tuple[Group, ...]:
    """Return the domains of the selected fields, from metadata alone."""
    found: dict[frozenset[str], list[Variable]] = {}
    for variable in map(description.variable, windows.fields):
        found.setdefault(frozenset(variable.dimensions), []).append(variable)
    return tuple(_group(description, windows, tuple(fields)) for fields in found.values())


def takes(description: CubeDescription) -> bool:
    """Return whether every field has an axis of place, height or time, one of which every domain needs."""
    fields = [description.variable(name) for name in description.fields]
    sizes = {name: size for each in fields for name, size in zip(each.dimensions, each.shape, strict=True)}
    along = {name: Window(name, (IndexRange(0, size),)) for name, size in sizes.items()}
    return all(group.named or group.composite for group in groups(description, Windows(description.fields, along)))


def encode(cut: Cut, *, public_url: str) -> bytes:
    """Return the cut as a Coverage, or as a CoverageCollection if its fields or axes need several coverages.

    Raises
    ------
    NotAcceptable
        If the data have no axis for place, height or time, one of which every domain needs.
    """
    import orjson

    layout = groups(cut.description, cut.windows)
    if not all(group.named or group.composite for group in layout):
        raise NotAcceptable(
            "CoverageJSON needs an axis of place, height or time, and some of these fields have none.",
            next_step="Request f=netcdf instead.",
        )
    coverages = [coverage for group in layout for coverage in _coverages(cut, group)]
    parameters = {name: _parameter(cut.description.variable(name)) for name in cut.windows.fields}
    referencing = _referencing(cut.description, layout, public_url)
    if len(coverages) == 1:
        (only,) = coverages
        domain = {**only["domain"], "referencing": referencing}
        document = {**only, "domain": domain, "parameters": parameters, "ranges": only["ranges"]}
    else:
        document = {"type": "CoverageCollection", "parameters": parameters, "referencing": referencing, "coverages": coverages}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _group(description: CubeDescription, windows: Windows, fields: tuple[Variable, ...]) -> Group:
    dimensions = fields[0].dimensions
    time = time_axis(description)
    composite: tuple[str, ...] = ()
    if (positions := description.cell_dimensions) and not set(positions) < set(windows.scattered):
        composite = positions if set(positions) <= set(dimensions) else ()
    elif windows.scattered and set(windows.scattered) <= set(dimensions):
        composite = windows.scattered
    named: dict[str, Axis] = {}
    for axis in sorted(description.axes, key=lambda each: each.scalar):
        here = axis.scalar or (axis.dimension in dimensions and axis.dimension not in composite)
        is_number = axis is time or (axis.kind in ("x", "y", "z") and axis.units != "" and _has_numbers(axis))
        kind = "t" if axis is time else axis.kind
        if here and is_number and kind in _AXES and not (composite and kind in ("x", "y")):
            named.setdefault(kind, axis)
    height = named.get("z")
    if composite and height is not None and not height.scalar and windows.along[height.dimension].size > 1:
        # A tuple has one height, so several heights need several coverages.
        del named["z"]
    taken = {axis.dimension for axis in named.values() if not axis.scalar} | set(composite)
    extra = tuple(dimension for dimension in dimensions if dimension not in taken)
    return Group(fields, dimensions, {kind: named[kind] for kind in _AXES if kind in named}, extra, composite)


def _has_numbers(axis: Axis) -> bool:
    return not (axis.values is not None and any(isinstance(value, str) for value in axis.values))


def _coverages(cut: Cut, group: Group) -> Iterator[dict[str, Any]]:
    import numpy as np

    chosen = _cells(cut, group) if group.composite else None
    mask = cut.windows.mask
    if mask is not None and not set(mask.dimensions) <= set(group.dimensions):
        mask = None
    of_levels = chosen is not None and mask is not None and bool(set(mask.dimensions) & set(group.extra))
    same = None if of_levels or _own_times(cut, group) else _domain(cut, group, chosen, {})
    sizes = cut.windows.shape(group.extra)
    for place in product(*(range(size) for size in sizes)):
        at = dict(zip(group.extra, place, strict=True))
        here = None if mask is None else mask.at(at)
        if here is not None and not here.inside.any():
            continue  # the caller asked for another time
        coverage: dict[str, Any] = {"type": "Coverage"}
        if at:
            coverage["id"] = ",".join(f"{name}={label}" for name, label in (_label(cut, *each) for each in at.items()))
        cells = chosen
        if cells is not None and here is not None and of_levels and set(here.dimensions) <= {*group.composite}:
            level = np.broadcast_to(here.aligned(group.composite), cut.windows.shape(group.composite))  # each has its own places
            cells = _only(cells, level) if isinstance(cells, tuple) else cells & level
        coverage["domain"] = _domain(cut, group, cells, at) if same is None else same
        coverage["ranges"] = {field.name: _range(cut, group, field, at, cells, here) for field in group.fields}
        yield coverage


def _own_times(cut: Cut, group: Group) -> bool:
    """Return whether times are not an axis, so that each coverage, or each of its cells, has its own time."""
    temporal = cut.description.temporal
    if temporal is None or cut.times is None or "t" in group.named:
        return False
    return bool(temporal.dimensions) and set(temporal.dimensions) <= {*group.extra, *group.composite}


def _label(cut: Cut, dimension: str, at: int) -> tuple[str, Any]:
    """Return the name and the label at an index of a dimension; the index itself if there are no labels."""
    for axis in cut.description.axes:
        if axis.dimension == dimension and not axis.scalar and axis.name in cut.labels:
            value = cut.labels[axis.name][at]
            return axis.name, stamp_at(int(value)) if axis is time_axis(cut.description) else value
    return dimension, int(cut.windows.along[dimension].indices()[at])


type _Chosen = Array | tuple[Array, ...]
"""Which cells are written: a mask, or their indices in order."""


def _cells(cut: Cut, group: Group) -> _Chosen:
    """Return which cells of the window to write: those in the box with a known position. It has the shape of the positions."""
    import numpy as np

    assert cut.positions is not None  # the group has a composite axis because the cube has positions
    x, y = (np.broadcast_to(each, cut.windows.shape(group.composite)) for each in cut.positions)
    inside: Array = np.isfinite(x) & np.isfinite(y)
    mask = cut.windows.mask
    if mask is not None and set(mask.dimensions) <= {*group.composite}:
        inside = inside & mask.aligned(group.composite)
    path = cut.windows.path
    if path is not None and path.keys() == {*group.composite}:
        return _only(tuple(path[each] for each in group.composite), inside)
    return inside


def _only(cells: tuple[Array, ...], inside: Array) -> tuple[Array, ...]:
    known = inside[cells]
    return tuple(each[known] for each in cells)


def _domain(cut: Cut, group: Group, chosen: _Chosen | None, at: Mapping[str, int]) -> dict[str, Any]:
    import numpy as np

    time = time_axis(cut.description)
    axes: dict[str, Any] = {}
    times = _times_at(cut, group, at)
    if chosen is not None and cut.positions is not None:
        shape = cut.windows.shape(group.composite)
        columns: list[Sequence[Any]] = [np.broadcast_to(each, shape)[chosen].tolist() for each in cut.positions]
        coordinates = ["x", "y"]
        height_of = cut.description.axis_of("z")
        if cut.heights is not None:
            columns.append(_column(np.broadcast_to(cut.heights, shape), chosen))
            coordinates.append("z")
        elif height_of is not None and (along := _along_tuples(cut, group, height_of)) is not None:
            columns.append(along[chosen].tolist())
            coordinates.append("z")
        elif "z" in group.named:
            height = cut.labels[group.named["z"].name].tolist()[0]
            columns.append([height] * len(columns[0]))
            coordinates.append("z")
        on_the_way = _times_on_the_way(cut, group) if times is None else times if times.ndim else None
        if on_the_way is not None:
            columns.insert(0, [_stamp(each) for each in on_the_way[chosen].tolist()])
            coordinates.insert(0, "t")
        elif times is not None:
            axes["t"] = {"values": [_stamp(int(times))]}
        elif "t" in group.named:
            axes["t"] = _axis(cut, group.named["t"], is_time=True)
        axes["composite"] = {"dataType": "tuple", "coordinates": coordinates, "values": list(zip(*columns, strict=True))}
        if on_the_way is not None:
            return {"type": "Domain", "domainType": "Trajectory", "axes": axes}
        series = "t" in axes and len(axes["t"]["values"]) > 1
        return {"type": "Domain", "domainType": "MultiPointSeries" if series else "MultiPoint", "axes": axes}
    for kind in ("x", "y", "z", "t"):
        if kind in group.named:
            axes[kind] = _axis(cut, group.named[kind], is_time=group.named[kind] is time)
    if times is not None and not times.ndim:
        axes["t"] = {"values": [_stamp(int(times))]}
    kind_of = {"domainType": _domain_type(cut, axes)} if "x" in axes and "y" in axes else {}
    return {"type": "Domain", **kind_of, "axes": axes}


def _times_at(cut: Cut, group: Group, at: Mapping[str, int]) -> Array | None:
    """Return the time of a coverage, or of each of its cells, if times are not an axis."""
    import numpy as np

    temporal = cut.description.temporal
    if temporal is None or cut.times is None or not _own_times(cut, group):
        return None
    here = cut.times[tuple(at.get(each, slice(None)) for each in temporal.dimensions)]
    left = [each for each in temporal.dimensions if each not in at]
    if not left:
        return np.asarray(here)
    sizes = cut.windows.shape(group.composite)
    order = [left.index(each) for each in group.composite if each in left]
    shape = [size if each in left else 1 for each, size in zip(group.composite, sizes, strict=True)]
    return np.broadcast_to(here.transpose(order).reshape(shape), sizes)


def _times_on_the_way(cut: Cut, group: Group) -> Array | None:
    """Return the time of each cell if it has its own: that of a point of a trajectory, or of a line with times."""
    time = time_axis(cut.description)
    return None if time is None else _along_tuples(cut, group, time)


def _along_tuples(cut: Cut, group: Group, axis: Axis) -> Array | None:
    """Return the label of each cell along an axis whose labels are in the tuples, otherwise ``None``."""
    import numpy as np

    if axis.scalar or axis.dimension not in group.composite or axis.name not in cut.labels:
        return None
    labels = aligned(cut.labels[axis.name], (axis.dimension,), group.composite)
    return np.broadcast_to(labels, cut.windows.shape(group.composite))


def _stamp(number: int) -> str | None:
    return None if number == UNKNOWN else str(stamp_at(number))


def _column(values: Array, chosen: _Chosen) -> list[Any]:
    return [None if each != each else each for each in values[chosen].tolist()]


def _domain_type(cut: Cut, axes: Mapping[str, Any]) -> str:
    times, heights = (len(axes[kind]["values"]) if kind in axes else 0 for kind in ("t", "z"))
    if not cut.point or (times > 1 and heights > 1):
        return "Grid"
    return "PointSeries" if times > 1 else "VerticalProfile" if heights > 1 else "Point"


def _axis(cut: Cut, axis: Axis, *, is_time: bool) -> dict[str, Any]:
    values, bounds = cut.labels[axis.name], cut.bounds.get(axis.name)
    if is_time:
        told: dict[str, Any] = {"values": [str(stamp_at(int(value))) for value in values]}
        if bounds is not None:
            told["bounds"] = [str(stamp_at(int(value))) for value in bounds.ravel()]
        return told
    told = {"values": plain(values)}
    if bounds is not None:
        told["bounds"] = plain(bounds.ravel())
    return told


def _range(
    cut: Cut, group: Group, field: Variable, at: Mapping[str, int], chosen: _Chosen | None, mask: Mask | None
) -> dict[str, Any]:
    import numpy as np

    values = cut.values[field.name]
    values = values[tuple(at.get(dimension, slice(None)) for dimension in field.dimensions)]
    values = values.astype("int8") if values.dtype.kind == "b" else values
    kinds = {axis.dimension: kind for kind, axis in group.named.items() if not axis.scalar}
    left = [dimension for dimension in field.dimensions if dimension not in at]
    inside = None
    covered = set() if mask is None else set(mask.dimensions)
    if mask is not None and covered and covered <= set(left) and not covered <= set(group.composite):
        inside = np.broadcast_to(mask.aligned(left), values.shape)
    if chosen is not None:
        kept = [dimension for dimension in left if dimension not in group.composite and kinds[dimension] == "t"]
        order = [left.index(dimension) for dimension in (*kept, *group.composite)]
        # A height with one label is already in the tuples.
        flat = tuple(number for number in range(values.ndim) if number not in order)
        ranks = sorted(order)

        def told(each: Array) -> Array:
            squeezed = np.squeeze(each, axis=flat) if flat else each
            index: tuple[Any, ...] = (..., *chosen) if isinstance(chosen, tuple) else (..., chosen)
            return np.asarray(squeezed.transpose([ranks.index(number) for number in order])[index])

        values, inside = told(values), None if inside is None else told(inside)
        names, shape = [*(["t"] * len(kept)), "composite"], list(values.shape)
        scalar_time = "t" in group.named or (cut.times is not None and _own_times(cut, group) and not _in_tuples(cut, group))
        if scalar_time and not kept and _times_on_the_way(cut, group) is None:
            names, shape = ["t", *names], [1, *shape]
    else:
        alone = [kind for kind, axis in group.named.items() if axis.scalar]
        alone += ["t"] if _own_times(cut, group) else []
        names = alone + [kinds[dimension] for dimension in left]
        shape = [1] * len(alone) + list(values.shape)
    document = {"type": "NdArray", "dataType": _type(values), "axisNames": names, "shape": shape}
    if inside is not None and values.dtype.kind != "f":
        shown = inside.ravel().tolist()
        return {**document, "values": [v if kept_ else None for v, kept_ in zip(values.ravel().tolist(), shown, strict=True)]}
    if inside is not None:
        values = np.where(inside, values, values.dtype.type(np.nan))
    return {**document, "values": plain(values.ravel())}


def _in_tuples(cut: Cut, group: Group) -> bool:
    """Return whether each cell of a coverage has its own time."""
    temporal = cut.description.temporal
    return temporal is not None and bool(set(temporal.dimensions) & set(group.composite))


def _type(values: Array) -> str:
    return {"f": "float", "i": "integer", "u": "integer", "b": "integer"}.get(values.dtype.kind, "string")


def plain(values: Array) -> Any:
    """Return a one-dimensional array for orjson, which writes NaN and infinity as ``null``."""
    import numpy as np

    match values.dtype.kind:
        case "f" if values.dtype.itemsize not in (4, 8):
            return np.ascontiguousarray(values, dtype="float32" if values.dtype.itemsize < 4 else "float64")
        case "b":
            return np.ascontiguousarray(values, dtype="int8")
        case "i" | "u" | "f":
            return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        case _:
            return [None if value is None or value != value else str(value) for value in values.tolist()]


# --- what the numbers mean ----------------------------------------------------------------------------------------------


def _parameter(variable: Variable) -> dict[str, Any]:
    standard_name = (variable.standard_name or "").split()
    label = variable.long_name or " ".join(standard_name) or variable.name
    observed: dict[str, Any] = {
        "id": f"{NERC}{standard_name[0]}/" if standard_name else variable.name,
        "label": {"en": label},
    }
    parameter: dict[str, Any] = {"type": "Parameter"}
    if variable.long_name:
        parameter["description"] = {"en": variable.long_name}
    parameter["observedProperty"] = observed
    flags = _flags(variable.attributes) if variable.has_classes else {}
    if flags:
        observed["categories"] = [{"id": meaning, "label": {"en": meaning.replace("_", " ")}} for meaning in flags]
        parameter["categoryEncoding"] = flags
    elif unit := unit_of(variable.units):
        parameter["unit"] = unit
    return parameter


def _flags(attributes: Mapping[str, Any]) -> dict[str, int | list[int]]:
    """Return the meaning of each flag value (CF 3.5); an empty mapping if the attributes are inconsistent."""
    meanings, values = attributes.get("flag_meanings"), attributes.get("flag_values")
    if not isinstance(meanings, str) or values is None:
        return {}
    numbers = values if isinstance(values, list | tuple) else [values]
    words = meanings.split()
    if len(words) != len(numbers) or not all(isinstance(number, int) for number in numbers):
        return {}
    found: dict[str, list[int]] = {}
    for word, number in zip(words, numbers, strict=True):
        found.setdefault(word, []).append(number)
    return {word: each[0] if len(each) == 1 else each for word, each in found.items()}


def unit_of(units: str | None) -> dict[str, Any] | None:
    """Return the ``unit`` member: a UCUM symbol if the CF units map to one, otherwise the text; ``None`` without units."""
    text = (units or "").strip()
    if not text:
        return None
    symbol = ucum(text)
    return {"label": {"en": text}} if symbol is None else {"label": {"en": text}, "symbol": {"value": symbol, "type": UCUM}}


def ucum(units: str) -> str | None:
    """Return CF units as a UCUM code (``kg m-2 s-1`` → ``kg.m-2.s-1``), or ``None`` if a unit is unknown."""
    divided = units.split("/")
    words: list[str] = []
    for number, part in enumerate(divided):
        for word in part.replace("*", " ").replace(".", " ").split() if "**" not in part else part.split():
            match = _UNIT_WORD.fullmatch(word)
            if match is None or (known := _UCUM_WORDS.get(match[1])) is None:
                return None
            power = int(match[2] or 1) * (-1 if number else 1)
            if known != "1" or len(divided) == 1:
                words.append(known if power == 1 else f"{known}{power}")
    return ".".join(words) or None


def _referencing(description: CubeDescription, layout: Sequence[Group], public_url: str) -> list[dict[str, Any]]:
    kinds = {kind for group in layout for kind in group.named} | ({"x", "y"} if any(group.composite for group in layout) else set())
    temporal = description.temporal
    if temporal is not None:
        along = set(temporal.dimensions) or {description.axis(temporal.axis).dimension}
        own = bool(temporal.dimensions) or tuple(along) == description.cell_dimensions
        kinds |= {"t"} if own and any(along <= {*group.extra, *group.composite} for group in layout) else set()
    found: list[dict[str, Any]] = []
    horizontal = [kind for kind in ("x", "y") if kind in kinds]
    if horizontal:
        swapped = storage_crs(description) == LATITUDE_FIRST
        found.append({"coordinates": horizontal[::-1] if swapped else horizontal, "system": _horizontal(description)})
    z = next((group.named["z"] for group in layout if "z" in group.named), None)
    if description.spatial.z is not None and any(group.composite for group in layout):
        heights = description.variable(description.spatial.z)
        found.append({"coordinates": ["z"], "system": _vertical(heights)})
    elif z is not None:
        found.append({"coordinates": ["z"], "system": _vertical(z)})
    if "t" in kinds and description.temporal is not None:
        calendar = description.temporal.calendar
        gregorian = calendar in ("standard", "gregorian", "proleptic_gregorian")
        name = "Gregorian" if gregorian else f"{public_url}/docs/calendars#{calendar}"
        found.append({"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": name}})
    return found


def _horizontal(description: CubeDescription) -> dict[str, Any]:
    crs = description.spatial.system
    if crs is None or not description.spatial.is_native:
        return {"type": "GeographicCRS", "id": crs_uri(storage_crs(description))}
    system: dict[str, Any] = {"type": "GeographicCRS" if crs.geographic else "ProjectedCRS"}
    if crs.authority:
        return {**system, "id": crs_uri(crs.authority)}
    return {**system, "description": {"en": crs.name}, **({"wkt": crs.wkt2} if crs.wkt2 else {})}


def crs_uri(code: str, collection: str = "") -> str:
    """Return the URI of a reference system in the OGC registry; of the ``native`` one, which has no code, below the URL of its
    collection.
    """
    if code == "native":
        return f"{collection}#storageCrs"
    authority, _, number = code.partition(":")
    return CRS84 if code == "OGC:CRS84" else f"http://www.opengis.net/def/crs/{authority}/0/{number}"


def direction_of(axis: Axis | Variable) -> str:
    """Return the direction of a vertical axis, ``up`` or ``down``, from its attributes; by default, pressures and depths increase
    downwards.
    """
    positive = axis.positive if isinstance(axis, Axis) else str(axis.attributes.get("positive", "")).lower()
    if positive in ("up", "down"):
        return positive
    pressure = (axis.units or "").lower() in PRESSURE_UNITS or "pressure" in (axis.standard_name or "")
    deep = "depth" in (axis.standard_name or "").lower() or axis.name.lower().startswith("depth")
    return "down" if pressure or deep else "up"


def _vertical(axis: Axis | Variable) -> dict[str, Any]:
    up = direction_of(axis)
    about = {"name": {"en": axis.long_name or axis.standard_name or axis.name}, "direction": up}
    unit = unit_of(axis.units)
    if unit is not None:
        about["unit"] = unit
    return {"type": "VerticalCRS", "cs": {"csAxes": [about]}}
