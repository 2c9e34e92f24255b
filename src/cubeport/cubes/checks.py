"""What cubeport checks in a dataset before it takes any value from it.

The checks are strict where wrong numbers would follow, and tolerant elsewhere: everything that is skipped is returned as a warning.
All problems are reported at once, each with its place, and with the step of ``normalise`` that repairs it if there is one.
"""

from __future__ import annotations

import math
import re
import warnings as python_warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cubeport.catalog.forms.names import unmarked
from cubeport.cubes import keys, times
from cubeport.cubes.affine import NoTransform, transforms_of
from cubeport.cubes.axes import CubeAxes, FoundAxis
from cubeport.cubes.cells import degrees, exact, places
from cubeport.cubes.decoding import decoded, opened, whole
from cubeport.cubes.describe import named_place
from cubeport.cubes.gathered import gathered
from cubeport.cubes.groups import find, is_ragged
from cubeport.cubes.repairs import flag, repairable
from cubeport.cubes.variables import is_latitude, is_text, roles_of, text_dims
from cubeport.errors import Problem, SourceRejected

if TYPE_CHECKING:
    import xarray as xr

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

ATTRIBUTE_BYTES = 64 * 1024
"""The largest size of an attribute, as UTF-8 or as numbers."""

TEXT_BYTES = 4 * 1024 * 1024
"""The largest total size of all attributes of a dataset."""

_LONGITUDE = 720
"""The largest longitude in degrees, two turns. Anything more is not a longitude."""

_LATITUDE_SLACK = 1e-4
"""Latitudes may be this many degrees beyond a pole, because of rounding."""


def check(raw: xr.Dataset) -> tuple[tuple[str, str], ...]:
    """Return warnings, ``(kind, message)``, about an undecoded dataset that is accepted.

    Raises
    ------
    SourceRejected
        ``bad-text``, ``empty``, ``not-a-cube``, ``bad-coordinates`` or ``bad-time``, with the place and the next step. If there are
        several problems, ``errors`` lists them all.
    """
    problems = _Problems()
    _check_names(raw, problems)
    _check_texts(raw, problems)
    _check_lengths(raw, problems)
    _check_packing(raw, problems)
    _check_dates(raw, problems)
    try:
        notes = _check_axes(raw, problems)
    except Exception:
        problems.refuse()  # what was found before can make the axes unreadable; without it, the error counts
        raise
    problems.refuse()
    _check_decodable(raw, problems)
    problems.refuse()
    return tuple(dict.fromkeys(notes))


def _check_axes(raw: xr.Dataset, problems: _Problems) -> list[tuple[str, str]]:
    """Check the axes and positions of the fields, and return the warnings about them."""
    found = find(raw)
    _check_cube(raw, found)
    notes = list(found.notes)
    used = {str(d) for name, role in found.roles.items() if role == "data" for d in raw.variables[name].dims}
    for axis in found.axes:
        if axis.labels is not None and (axis.scalar or axis.dimension in used):
            with problems.of("variables", axis.name):
                _check_axis(raw, axis, found, notes)
    if found.family in ("curvilinear", "unstructured"):
        _check_names_of_lengths(raw, found)
        with problems.of("variables", str(found.x)):
            _check_positions(raw, str(found.x), str(found.y))
    if not any(kind in ("no-place", "no-crs") for kind, _ in notes):
        without = [each for each in (found, *found.others) if each.family == "none"]
        named = [each for each in without if named_place(raw, each) is not None]
        for some, words in ((named, _place_beside), ([each for each in without if each not in named], partial(_no_place, raw))):
            if some:
                notes.append(("no-place", words([name for each in some for name in each.fields])))
    return notes


def _place_beside(fields: Sequence[str]) -> str:
    names = ", ".join(map(repr, fields[:5])) + (f" and {len(fields) - 5} more" if len(fields) > 5 else "")
    one = len(fields) == 1
    return (
        f"{names} {'names' if one else 'name'} a place and {'does' if one else 'do'} not lie along it: searches find "
        f"{'it' if one else 'them'} there, and coverages and downloads have the values, but queries at a place and maps do not"
    )


def _no_place(raw: xr.Dataset, fields: Sequence[str]) -> str:
    cure = _cure(raw, fields)
    more = f". {cure[0].upper()}{cure[1:]}" if cure else ""
    names = ", ".join(map(repr, fields[:5])) + (f" and {len(fields) - 5} more" if len(fields) > 5 else "")
    if len(fields) == 1:
        return f"it is unknown where {names} is: it has no place, so no box finds it, and no map shows it{more}"
    return f"it is unknown where {names} are: they have no place, so no box finds them, and no map shows them{more}"


def _cure(raw: xr.Dataset, fields: Sequence[str]) -> str | None:
    """Return how *fields* get a place, if the source says it in another form, or names a place that it does not have."""
    dims = {dim for name in fields for dim in text_dims(raw.variables[name])}
    for dimension, grid in gathered(raw).items():
        if dimension in dims:
            words = f"{dimension!r} has some of the cells of {' × '.join(grid)} (compression by gathering, CF 8.2)"
            return f"{words}: to have the whole grid, repeat with {flag({'scatter': [dimension]})}"
    try:
        said = transforms_of(raw).keys() & set(fields)
    except NoTransform:
        said = set()  # a turned one
    if said:
        return f"an affine transform says where its cells are: repeat with {flag({'axes_from_transform': True})}"
    return _grid_file(raw, fields)


def _grid_file(raw: xr.Dataset, fields: Sequence[str]) -> str | None:
    """Return how to bring positions that *fields* name and the source does not have; ``None`` if they name none."""
    named = dict.fromkeys(word for name in fields for word in str(raw.variables[name].attrs.get("coordinates", "")).split())
    absent = [word for word in named if word not in raw.variables]
    longitude, latitude = ([word for word in absent if part in word.lower()] for part in ("lon", "lat"))
    if len(longitude) != 1 or len(latitude) != 1 or longitude == latitude:
        return None
    step = flag({"positions": {"longitude": longitude[0], "latitude": latitude[0], "file": "GRID.nc"}})
    return f"if a grid file has its positions {longitude[0]!r} and {latitude[0]!r}, bring it too, with its name in {step}"


class _Problems:
    """Collects the problems of a source, so that they are reported together."""

    def __init__(self) -> None:
        self._found: list[tuple[tuple[str, ...], SourceRejected]] = []

    @contextmanager
    def of(self, *loc: str) -> Iterator[None]:
        """Collect a refusal instead of raising it; *loc* is its place."""
        try:
            yield
        except SourceRejected as error:
            self._found.append((loc, error))

    def refuse(self) -> None:
        """Raise one refusal with all problems, if there are any."""
        if not self._found:
            return
        # Two checks can meet one fault, such as a calendar that does not exist.
        self._found = list({(loc, error.reason, error.message): (loc, error) for loc, error in self._found}.values())
        first = self._found[0][1]
        steps = list(dict.fromkeys(error.next_step for _, error in self._found if error.next_step))
        repairs = [step for _, error in self._found for step in error.members.get("repair", ())]
        if len(steps) > 1 and len(repairs) == len(self._found):
            steps = [f"repeat with {' '.join(flag(step) for step in _merged(repairs))}"]
        members = {**first.members, **({"repair": _merged(repairs)} if repairs else {})}
        more = f" (and {len(self._found) - 1} more)" if len(self._found) > 1 else ""
        raise SourceRejected(
            f"{first.message}{more}",
            next_step="; ".join(steps[:_SHOWN]) or None,
            errors=[Problem(loc, error.reason, error.message) for loc, error in self._found],
            **members,
        ) from first


_SHOWN = 5
"""The largest number of next steps in one message."""


def _merged(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return *steps* in order, with the mappings and lists of steps of the same name merged.

    Names change last, because every other step refers to the names in the source.
    """
    found: dict[str, Any] = {}
    for step in sorted(steps, key=lambda step: "rename" in step):
        for name, value in step.items():
            if isinstance(value, dict):
                found[name] = _united(found.get(name, {}), value)
            elif isinstance(value, list):
                found[name] = list(dict.fromkeys([*found.get(name, []), *value]))
            else:
                found[name] = value
    return [{name: value} for name, value in found.items()]


def _united(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings in one, and the mappings within them too, such as several attributes of one variable."""
    inner = {key: _united(one[key], value) for key, value in other.items() if isinstance(value, dict) and key in one}
    return {**one, **other, **inner}


def droppable(raw: xr.Dataset, refusal: SourceRejected) -> dict[str, str]:
    """Return the variables that *refusal* is about, with the reasons, if the source still has a field without them; otherwise
    nothing.

    A coordinate variable is not droppable on its own, because its fields would lose their coordinates. Nor is a grid mapping:
    they would lose their reference system.
    """
    parts = {str(each.loc[1]): each.message for each in refusal.errors if len(each.loc) > 1 and each.loc[0] == "variables"}
    parts = {name: why for name, why in parts.items() if name in raw.variables}
    if not parts or len(parts) != len({tuple(each.loc[:2]) for each in refusal.errors}):
        return {}
    for name in list(parts):
        fields = {str(other) for other, each in raw.variables.items() if name in str(each.attrs.get("coordinates", "")).split()}
        parts |= dict.fromkeys(fields - parts.keys(), f"its coordinate {name!r} is bad")
        placed = {str(other) for other, each in raw.variables.items() if name in _mappings(each)}
        parts |= dict.fromkeys(placed - parts.keys(), f"its reference system {name!r} is bad")
        if raw.variables[name].dims == (name,):
            parts |= {str(other): f"its dimension {name!r} is bad" for other, each in raw.variables.items() if name in each.dims}
    kept = [name for name, role in roles_of(raw).items() if role == "data" and name not in parts]
    return parts if kept else {}


def _mappings(variable: xr.Variable) -> list[str]:
    """Return the names in ``grid_mapping``, which can have two and their coordinates: ``crs: x y wgs84: lat lon`` (CF 5.6)."""
    return str(variable.attrs.get("grid_mapping", "")).replace(":", " ").split()


def _check_names(raw: xr.Dataset, problems: _Problems) -> None:
    seen: dict[str, str] = {}
    for name in map(str, raw.variables):
        with problems.of("variables", name):
            _check_name("variable", name, seen)
    seen = {}
    for name in map(str, raw.sizes):
        if name not in raw.variables:
            with problems.of("dimensions", name):
                _check_name("dimension", name, seen)


def _check_name(what: str, name: str, seen: dict[str, str]) -> None:
    if not keys.is_node(name):
        shown = _CONTROL.sub("?", name[:60]).encode("utf-8", "replace").decode()
        why = (
            "is the name of a folder of chunks in a Zarr store"
            if name == "c"
            else ("cannot be part of an address: at most 128 letters, digits and _ . + @ -, not starting with '__'")
        )
        raise repairable(
            f"{what} {shown!r} {why}",
            reason="bad-text",
            repair={"rename": {name: _cured(name)}},
        )
    other = seen.setdefault(name.casefold(), name)
    if other != name:
        raise repairable(
            f"{what}s {other!r} and {name!r} differ only in case, which not every store can distinguish",
            reason="bad-text",
            repair={"rename": {name: f"{name}_2"}},
        )


def _cured(name: str) -> str:
    cured = re.sub(r"[^A-Za-z0-9_.+@-]+", "_", unmarked(name)).strip("_.")[:120]
    return cured if keys.is_node(cured) else f"{cured or 'variable'}_1"


def _check_texts(raw: xr.Dataset, problems: _Problems) -> None:
    total = 0
    for place, attributes in (("", raw.attrs), *((str(name), v.attrs) for name, v in raw.variables.items())):
        for key, value in attributes.items():
            with problems.of(*(("variables", place) if place else ("attributes",)), str(key)[:60]):
                total += _check_attribute(place, key, value)
    if total > TEXT_BYTES:
        with problems.of("attributes"):
            raise SourceRejected(f"the attributes together have {total} bytes, more than {TEXT_BYTES}", reason="bad-text")


def _check_attribute(place: str, key: Any, value: Any) -> int:
    """Return the size of an attribute in bytes. Raises SourceRejected."""
    where = f"attribute {_CONTROL.sub('?', str(key)[:60])!r}" + (f" of {place!r}" if place else "")
    size = 0
    for text in (str(key), *_strings(value)):
        size += _check_text(text, where)
    size += int(getattr(value, "nbytes", 0))
    if size > ATTRIBUTE_BYTES:
        raise SourceRejected(f"{where} has {size} bytes, more than {ATTRIBUTE_BYTES}", reason="bad-text")
    return size


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


def _check_lengths(raw: xr.Dataset, problems: _Problems) -> None:
    for name, variable in raw.variables.items():
        for dimension, length in zip(variable.dims, variable.shape, strict=True):
            if length == 0:
                with problems.of("variables", str(name)):
                    raise SourceRejected(
                        f"dimension {dimension!r} of {name!r} has length 0, so there are no data",
                        reason="empty",
                        next_step="bring a file that has data",
                    )


def _check_packing(raw: xr.Dataset, problems: _Problems) -> None:
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
                meant = _number(value)
                with problems.of("variables", str(name), key):
                    raise repairable(
                        f"{key!r} of {name!r} is {'0' if number == 0 else 'no finite number'}: its values cannot be unpacked",
                        reason="bad-coordinates",
                        repair={"set_attributes": {str(name): {key: meant}}},
                        before="repeat with" if meant is not None else "to publish the stored numbers without it, repeat with",
                    )


def _number(text: Any) -> float | None:
    """Return the number that a text means, if it can be a scale or an offset."""
    try:
        number = float(text) if isinstance(text, str) else 0.0
    except ValueError:
        return None
    return number if math.isfinite(number) and number else None


def _check_dates(raw: xr.Dataset, problems: _Problems) -> None:
    """Refuse units ``… since …`` that cannot be decoded, because xarray cannot open a dataset that has any."""
    import numpy as np

    for key, variable in raw.variables.items():
        units = variable.attrs.get("units")
        if not times.is_time_units(units) or variable.dtype.kind not in "iuf" or variable.size == 0:
            continue
        name = str(key)
        with problems.of("variables", name):
            calendar = times.calendar_of(variable.attrs, name=name)
            corner = variable[tuple(slice(0, 1) for _ in variable.dims)]
            values = np.asarray(decoded(corner, name=name), dtype="float64").ravel()
            # A missing date in data is missing data, also NaT as xarray writes it. Axes are checked elsewhere.
            values = values[np.isfinite(values) & (values != float(np.iinfo("int64").min))]
            times.decode(values if values.size else np.zeros(1), str(units), calendar, name=name)


def _check_decodable(raw: xr.Dataset, problems: _Problems) -> None:
    """Refuse variables that xarray cannot decode, because no reader could open them. One corner of each variable is tested."""
    for key, variable in raw.variables.items():
        with problems.of("variables", str(key)):
            corner = _corner(variable)
            decoded(corner, name=str(key))
            opened(corner, name=str(key), times=True)
    problems.refuse()
    whole(raw, times=True)


def _corner(variable: xr.Variable) -> xr.Variable:
    """Return one value of *variable*. The attributes of a field are tested with a zero, so that nothing is read from it."""
    import numpy as np
    import xarray as xr

    if variable.ndim < 2 or variable.dtype.kind not in "iuf" or times.is_time_units(variable.attrs.get("units")):
        return variable[tuple(slice(0, 1) for _ in variable.dims)]
    return xr.Variable(variable.dims, np.zeros((1,) * variable.ndim, variable.dtype), variable.attrs, variable.encoding)


def _check_cube(raw: xr.Dataset, found: CubeAxes) -> None:
    if not found.fields:
        raise SourceRejected(
            "no variable contains numbers along a dimension",
            reason="not-a-cube",
            next_step="cubeport add catalogues files that are not cubes",
        )
    if found.family == "none" and not any(axis.labels is not None and axis.kind != "index" for axis in found.axes):
        raise SourceRejected(
            f"{found.fields[0]!r} has no coordinates, so it is unknown where or when its values are",
            reason="not-a-cube",
            lacks="coordinates",
            next_step=_cure(raw, found.fields)
            or "add coordinate variables with CF attributes; or cubeport add, which catalogues files that are not cubes",
        )


_NAMED_BY_LENGTH = "phony_dim_"
"""How netCDF's library, and h5netcdf as it does, names a dimension that has no name: one for each length."""


def _check_names_of_lengths(raw: xr.Dataset, found: CubeAxes) -> None:
    """Refuse longitudes and latitudes that seem to be of the same cells only because there are as many of both.

    In an HDF5 file whose dimensions have no names, a square field shares one of its dimensions with both.
    """
    own = str(text_dims(raw.variables[str(found.x)])[-1])
    alike = {str(dim) for name in found.fields for dim in raw.variables[name].dims if raw.sizes[dim] == raw.sizes[own]}
    if own.startswith(_NAMED_BY_LENGTH) and raw.variables[str(found.x)].ndim == 1 and len(alike) > 1:
        first = found.fields[0]
        raise SourceRejected(
            f"the dimensions of the file have no names, and {found.x!r}, {found.y!r} and both dimensions of {first!r} "
            f"have the length {raw.sizes[own]}: it is unknown which one is which",
            reason="bad-coordinates",
            next_step=f"name them in the file with h5py, if {found.y!r} is the first: {_scaled(first, 0, found.y)}; "
            f"{_scaled(first, 1, found.x)}",
        )


def _scaled(field: str, number: int, labels: str | None) -> str:
    return f"file[{labels!r}].make_scale({labels!r}); file[{field!r}].dims[{number}].attach_scale(file[{labels!r}])"


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
        if is_ragged(raw, axis.dimension):
            raise repairable(
                f"{axis.dimension!r} has the observations of several stations one after the other (a ragged array, CF 9.3): "
                "time would stand for all of them",
                reason="not-a-cube",
                repair={"ragged": [axis.dimension]},
                before="to place them by station and time, repeat with",
            )
        _check_hidden(variable, exact(values), name, "time")
        _check_time(variable, name, values)
        return
    if axis.kind == "index":
        return
    numbers = exact(values)
    _check_hidden(variable, numbers, name)
    _check_finite(numbers, name, "bad-coordinates")
    differences = np.diff(numbers)
    if (differences == 0).any():
        where = int(np.flatnonzero(differences == 0)[0])
        raise repairable(
            f"coordinate {name!r} has the same label at {where} and {where + 1}, {numbers[where]:g}",
            reason="bad-coordinates",
            repair={"drop_duplicates": [name]},
            before="to keep the last of each, repeat with",
        )
    straight = bool((differences > 0).all() or (differences < 0).all())
    around = axis.name == found.x and found.family == "rectilinear" and _goes_round(differences, degrees(raw, name))
    if around and not straight:  # two labels more than half a turn apart are not a jump
        notes.append(
            (
                "labels-jump",
                f"the longitudes {name!r} jump by a turn of 360°, from {_jump(numbers)}: they stay as they are, "
                "and places are found on both sides of the jump",
            )
        )
    elif not straight:
        sign = 1 if differences[0] > 0 else -1
        where = int(np.flatnonzero(differences * sign < 0)[0]) + 1
        raise repairable(
            f"coordinate {name!r} changes direction at index {where}, from {numbers[where - 1]:g} to {numbers[where]:g}:"
            " labels must always increase or always decrease",
            reason="bad-coordinates",
            repair={"sort": [axis.name]},
        )
    if axis.name == found.y and found.family == "rectilinear":
        _check_latitude(numbers * degrees(raw, name), name)
    if axis.name == found.x and found.family == "rectilinear":
        _check_longitude(numbers * degrees(raw, name), name)


def _goes_round(differences: Any, factor: float) -> bool:
    """Return whether longitudes go round the Earth in one direction, at most once, with one jump of 360°."""
    import numpy as np

    steps = differences * factor
    turned = (steps + 180) % 360 - 180
    one_way = (turned > 0).all() or (turned < 0).all()
    return bool(one_way and (np.abs(turned - steps) > 180).sum() == 1 and abs(turned.sum()) < 360)


def _jump(numbers: Any) -> str:
    import numpy as np

    at = int(np.abs(np.diff(numbers)).argmax())
    return f"{numbers[at]:g} to {numbers[at + 1]:g} at index {at}"


def _fits(steps: Any, index: int) -> bool:
    """Return whether a label goes on as its neighbours do, so that it is no number that stands for none: the steps to and from it
    are like the others.
    """
    import numpy as np

    there = [at for at in (index - 1, index) if 0 <= at < steps.size]
    own, others = np.abs(steps[there]), np.abs(np.delete(steps, there))
    if not ((steps > 0).all() or (steps < 0).all()):
        return False
    if not others.size:
        return bool(np.allclose(steps, steps[0], rtol=1e-3, atol=0))
    return bool((own >= others.min() / 2).all() and (own <= others.max() * 2).all())


def _check_hidden(variable: xr.Variable, numbers: Any, name: str, what: str = "coordinate") -> None:
    """Refuse labels that only their own fill value hides, such as 0 in a Zarr v2 array whose ``fill_value`` is 0."""
    import numpy as np

    where = np.flatnonzero(~np.isfinite(numbers))
    fill = variable.attrs.get("_FillValue")
    if where.size != 1 or numbers.size < 3 or fill is None or "scale_factor" in variable.attrs or "add_offset" in variable.attrs:
        return
    stored = np.asarray(variable.values, dtype="float64").reshape(-1)
    if np.isfinite(stored).all() and _fits(np.diff(stored), int(where[0])):
        raise repairable(
            f"{what} {name!r}: label {where[0]} is {stored[where[0]]:g}, which is its _FillValue too, so it is read as missing",
            reason="bad-coordinates",
            repair={"set_attributes": {name: {"_FillValue": None}}},
            before="to read it as a label, repeat with",
        )


def _check_finite(numbers: Any, name: str, reason: str) -> None:
    import numpy as np

    if not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise repairable(
            f"coordinate {name!r}: label {where} is missing or not finite",
            reason=reason,
            repair={"drop_missing": [name]},
            before="to leave out the cells without a label, repeat with",
        )


def _check_time(variable: Any, name: str, values: Any) -> None:
    calendar = times.calendar_of(variable.attrs, name=name)
    stamps = times.decode(values, str(variable.attrs.get("units", "")), calendar, name=name)
    if stamps.is_ascending:
        return
    for index, (a, b) in enumerate(pairwise(stamps)):
        if b <= a:
            if a == b or len(set(stamps)) != len(stamps):
                twice = a if a == b else next(each for each, count in Counter(stamps).items() if count > 1)
                raise repairable(
                    f"time {name!r} has {twice} twice, at index {' and '.join(str(i) for i, s in enumerate(stamps) if s == twice)}",
                    reason="bad-time",
                    repair={"drop_duplicates": [name]},
                    before="to keep the last of each, repeat with",
                )
            raise repairable(
                f"time {name!r} must always increase: {a} at index {index} is followed by {b}",
                reason="bad-time",
                repair={"sort": [name]},
            )


def _check_latitude(numbers: Any, name: str) -> None:
    import numpy as np

    known = numbers[np.isfinite(numbers)]
    if known.size and float(np.abs(known).max()) > 90 + _LATITUDE_SLACK:
        raise SourceRejected(
            f"latitude {name!r} is outside ±90: it reaches {float(known[np.abs(known).argmax()]):g}",
            reason="bad-coordinates",
            next_step=f"if {name!r} is not a latitude, say what it is with --normalise 'set_attributes: {{{name}: {{units: m}}}}'; "
            "otherwise correct it in the source",
        )


def _check_longitude(numbers: Any, name: str) -> None:
    import numpy as np

    if float(np.abs(numbers).max()) > _LONGITUDE:
        raise SourceRejected(f"longitude {name!r} is outside ±{_LONGITUDE}", reason="bad-coordinates")


def _check_positions(raw: xr.Dataset, x: str, y: str) -> None:
    import numpy as np

    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", RuntimeWarning)
        lon, lat = places(raw, x), places(raw, y)
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any():
        raise SourceRejected(f"positions {x!r} and {y!r} are all missing", reason="bad-coordinates")
    if is_latitude(y, raw.variables[y]):
        _check_latitude(lat[known], y)
    _check_longitude(lon[known], x)
