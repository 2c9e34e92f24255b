"""What a dataset must be before one value of it is taken (service.md 5.2 "alone"; safety.md 2.2 "meaning", "text", "names").

Strict where wrong numbers would follow, generous where not: what is passed over comes back as warnings.
"""

from __future__ import annotations

import math
import re
import warnings as python_warnings
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cubeport.cubes import keys, times
from cubeport.cubes.axes import CubeAxes, FoundAxis, find, is_latitude, is_text
from cubeport.cubes.cells import exact
from cubeport.cubes.decoding import decoded, opened, whole
from cubeport.errors import SourceRejected

if TYPE_CHECKING:
    import xarray as xr

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

ATTRIBUTE_BYTES = 64 * 1024
"""An attribute may have so many bytes, as UTF-8 or as numbers."""

TEXT_BYTES = 4 * 1024 * 1024
"""The attributes of a dataset together."""

_LONGITUDE = 720
"""Degrees that a longitude may run to: two turns; more is no longitude, and would be turned back without end."""

_LATITUDE_SLACK = 1e-4
"""Degrees past a pole that are noise of the encoding."""


def check(raw: xr.Dataset) -> tuple[tuple[str, str], ...]:
    """Return warnings, ``(kind, message)``, about an undecoded dataset that may be taken.

    Raises
    ------
    SourceRejected
        ``bad-text``, ``empty``, ``not-a-cube``, ``bad-coordinates`` or ``bad-time``; names the place and the next step.
    """
    check_names("variable", map(str, raw.variables))
    check_names("dimension", map(str, raw.sizes))
    _check_texts(raw)
    _check_lengths(raw)
    _check_packing(raw)
    _check_dates(raw)
    found = find(raw)
    _check_cube(found)
    notes = list(found.notes)
    used = {str(d) for name, role in found.roles.items() if role == "data" for d in raw.variables[name].dims}
    for axis in found.axes:
        if axis.labels is not None and (axis.scalar or axis.dimension in used):
            _check_axis(raw, axis, found, notes)
    if found.family in ("curvilinear", "unstructured"):
        _check_positions(raw, str(found.x), str(found.y))
    _check_decodable(raw)
    return tuple(dict.fromkeys(notes))


def check_names(what: str, names: Iterable[str]) -> None:
    """Refuse names that cannot be keys of a store everywhere: by grammar, reserved, or equal but for case."""
    seen: dict[str, str] = {}
    for name in names:
        if not keys.is_node(name):
            shown = _CONTROL.sub("?", name[:60]).encode("utf-8", "replace").decode()
            raise SourceRejected(
                f"{what} {shown!r} is no name for an address: at most 128 letters, digits and _ . + @ -, not starting with '__'",
                reason="bad-text",
                next_step=_renaming(shown, _cured(name)),
            )
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise SourceRejected(
                f"{what}s {other!r} and {name!r} differ in case only, which not every store can keep apart",
                reason="bad-text",
                next_step=_renaming(name, f"{name}_2"),
            )


def _renaming(name: str, cured: str) -> str:
    return f"rename it in the source, with xarray: ds.rename({{{name!r}: {cured!r}}})"


def _cured(name: str) -> str:
    cured = re.sub(r"[^A-Za-z0-9_.+@-]+", "_", name).strip("_.")[:120]
    return cured if keys.is_node(cured) else f"{cured or 'variable'}_1"


def _check_texts(raw: xr.Dataset) -> None:
    total = 0
    for place, attributes in (("", raw.attrs), *((str(name), v.attrs) for name, v in raw.variables.items())):
        for key, value in attributes.items():
            where = f"attribute {_CONTROL.sub('?', str(key)[:60])!r}" + (f" of {place!r}" if place else "")
            size = 0
            for text in (str(key), *_strings(value)):
                size += _check_text(text, where)
            size += int(getattr(value, "nbytes", 0))
            if size > ATTRIBUTE_BYTES:
                raise SourceRejected(f"{where} has {size} bytes, more than {ATTRIBUTE_BYTES}", reason="bad-text")
            total += size
    if total > TEXT_BYTES:
        raise SourceRejected(f"the attributes together have {total} bytes, more than {TEXT_BYTES}", reason="bad-text")


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "surrogateescape")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _strings(each)
    elif isinstance(value, list | tuple) or getattr(getattr(value, "dtype", None), "kind", "-") in "SUOT":
        for each in value.ravel().tolist() if hasattr(value, "ravel") else value:
            yield from _strings(each)


def _check_text(text: str, where: str) -> int:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise SourceRejected(
            f"{where} is not UTF-8", reason="bad-text", next_step="rewrite the text as UTF-8 in the source"
        ) from None
    if found := _CONTROL.search(text):
        raise SourceRejected(
            f"{where} has the control character U+{ord(found[0]):04X} at place {found.start()}",
            reason="bad-text",
            next_step="remove it in the source; line feeds and tabs may stay",
        )
    return size


def _check_lengths(raw: xr.Dataset) -> None:
    for name, variable in raw.variables.items():
        for dimension, length in zip(variable.dims, variable.shape, strict=True):
            if length == 0:
                raise SourceRejected(f"dimension {dimension!r} of {name!r} has length 0: there are no data", reason="empty")


def _check_packing(raw: xr.Dataset) -> None:
    for name, variable in raw.variables.items():
        for key in ("scale_factor", "add_offset"):
            if key not in variable.attrs:
                continue
            value = variable.attrs[key]
            try:
                number = math.nan if isinstance(value, str | bytes) else float(value.item() if hasattr(value, "item") else value)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number) or (key == "scale_factor" and number == 0):
                raise SourceRejected(
                    f"{key!r} of {name!r} is {'0' if number == 0 else 'no finite number'}: its values cannot be unpacked",
                    reason="bad-coordinates",
                    next_step=f"correct {key!r} in the source",
                )


def _check_dates(raw: xr.Dataset) -> None:
    """Whatever says ``… since …`` must be decodable: xarray refuses to open a dataset with one that is not."""
    import numpy as np

    for key, variable in raw.variables.items():
        units = variable.attrs.get("units")
        if not times.is_time_units(units) or variable.dtype.kind not in "iuf" or variable.size == 0:
            continue
        name = str(key)
        calendar = times.calendar_of(variable.attrs, name=name)
        corner = variable[tuple(slice(0, 1) for _ in variable.dims)]
        values = np.asarray(decoded(corner, name=name), dtype="float64").ravel()
        # A missing date among data is missing data, NaT too, as xarray writes it; whether an axis may miss one is asked elsewhere.
        values = values[np.isfinite(values) & (values != float(np.iinfo("int64").min))]
        times.decode(values if values.size else np.zeros(1), str(units), calendar, name=name)


def _check_decodable(raw: xr.Dataset) -> None:
    """What xarray cannot decode no reader can open; a corner of each variable tells."""
    whole(raw, times=True)
    for key, variable in raw.variables.items():
        corner = variable[tuple(slice(0, 1) for _ in variable.dims)]
        decoded(corner, name=str(key))
        opened(corner, name=str(key), times=True)


def _check_cube(found: CubeAxes) -> None:
    if not found.fields:
        raise SourceRejected(
            "no variable holds numbers along a dimension",
            reason="not-a-cube",
            next_step="cubeport add catalogues files that are no cubes",
        )
    if found.family == "none" and not any(axis.labels is not None and axis.kind != "index" for axis in found.axes):
        raise SourceRejected(
            f"{found.fields[0]!r} has no coordinates: nothing says where or when its values are",
            reason="not-a-cube",
            next_step="add coordinate variables with CF attributes; or cubeport add, which catalogues files that are no cubes",
        )


def _check_axis(raw: xr.Dataset, axis: FoundAxis, found: CubeAxes, notes: list[tuple[str, str]]) -> None:
    import numpy as np

    name = axis.name
    variable = raw.variables[name]
    values = np.atleast_1d(decoded(variable, name=name))
    if is_text(variable):
        for text in map(str, values.tolist()):
            _check_text(text, f"a label of {name!r}")
        return
    if axis.kind == "t":
        _check_time(variable, name, values)
        return
    if axis.kind == "other" and str(variable.attrs.get("standard_name", "")) == "time":
        notes.append(
            ("undated-time", f"{name!r} counts {variable.attrs.get('units', 'steps')!r} since no date: it is an axis of numbers")
        )
    if axis.kind == "index":
        return
    numbers = exact(values)
    _check_finite(numbers, name, "bad-coordinates")
    differences = np.diff(numbers)
    if (differences == 0).any():
        where = int(np.flatnonzero(differences == 0)[0])
        raise SourceRejected(f"coordinate {name!r} has the same label at {where} and {where + 1}", reason="bad-coordinates")
    if not ((differences > 0).all() or (differences < 0).all()):
        sign = 1 if differences[0] > 0 else -1
        where = int(np.flatnonzero(differences * sign < 0)[0]) + 1
        raise SourceRejected(
            f"coordinate {name!r} turns back at index {where}: labels must rise or fall all the way",
            reason="bad-coordinates",
            next_step=f"put it in order in the source, with xarray: ds.{_ordering(axis, numbers)}",
        )
    if axis.name == found.y and found.family == "rectilinear":
        _check_latitude(numbers, name)
    if axis.name == found.x and found.family == "rectilinear":
        _check_longitude(numbers, name)


def _ordering(axis: FoundAxis, numbers: Any) -> str:
    """Return what puts an axis in order: longitudes that jump at the antimeridian are counted on, not sorted apart."""
    import numpy as np

    on = np.diff(numbers % 360)
    if axis.kind == "x" and ((on > 0).all() or (on < 0).all()):
        return f"assign_coords({{{axis.name!r}: ds[{axis.name!r}] % 360}})"
    return f"sortby({axis.name!r})"


def _check_finite(numbers: Any, name: str, reason: str) -> None:
    import numpy as np

    if not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise SourceRejected(f"coordinate {name!r}: label {where} is missing or not finite", reason=reason)


def _check_time(variable: Any, name: str, values: Any) -> None:
    calendar = times.calendar_of(variable.attrs, name=name)
    stamps = times.decode(values, str(variable.attrs.get("units", "")), calendar, name=name)
    for index, (a, b) in enumerate(pairwise(stamps)):
        if b <= a:
            what = "is there twice" if a == b else f"is followed by {b}"
            raise SourceRejected(
                f"time {name!r} must rise all the way: {a} at index {index} {what}",
                reason="bad-time",
                next_step="sort the source in time and remove what is there twice",
            )


def _check_latitude(numbers: Any, name: str) -> None:
    import numpy as np

    known = numbers[np.isfinite(numbers)]
    if known.size and float(np.abs(known).max()) > 90 + _LATITUDE_SLACK:
        raise SourceRejected(f"latitude {name!r} lies outside ±90", reason="bad-coordinates")


def _check_longitude(numbers: Any, name: str) -> None:
    import numpy as np

    if float(np.abs(numbers).max()) > _LONGITUDE:
        raise SourceRejected(f"longitude {name!r} lies outside ±{_LONGITUDE}", reason="bad-coordinates")


def _check_positions(raw: xr.Dataset, x: str, y: str) -> None:
    import numpy as np

    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", RuntimeWarning)
        lon, lat = (np.asarray(decoded(raw.variables[name], name=name), dtype="float64") for name in (x, y))
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any():
        raise SourceRejected(f"positions {x!r} and {y!r} are all missing", reason="bad-coordinates")
    if is_latitude(y, raw.variables[y]):
        _check_latitude(lat[known], y)
    _check_longitude(lon[known], x)
