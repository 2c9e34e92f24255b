"""OPeNDAP's DAP2 as text and bytes (ESE-RFC-004.1.1): descriptions, attributes, constraints and data. Pure functions.

DAP2 has no 64-bit integers and no signed 8-bit integers, and its clients read unsigned integers as signed (libnetcdf reads a Byte
of 255 as -1). Values are sent in the smallest signed type that contains all of them exactly: :data:`TYPES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cubeport.errors import InvalidRequest, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Array = NDArray[Any]

TYPES: Mapping[str, tuple[str, str]] = {
    "b1": ("Byte", "u1"),
    "u1": ("Int16", ">i4"),
    "i1": ("Int16", ">i4"),
    "i2": ("Int16", ">i4"),
    "u2": ("Int32", ">i4"),
    "i4": ("Int32", ">i4"),
    "u4": ("Float64", ">f8"),
    "i8": ("Float64", ">f8"),
    "u8": ("Float64", ">f8"),
    "f2": ("Float32", ">f4"),
    "f4": ("Float32", ">f4"),
    "f8": ("Float64", ">f8"),
}
"""The DAP2 type and its XDR form (RFC 4506), by numpy's kind and size."""

EXACT = 2**53
"""Float64 contains all whole numbers up to this one."""

MAX_CONSTRAINT = 30 << 10

_PLAIN = re.compile(r"[A-Za-z0-9_!~*'\"-]")


@dataclass(frozen=True, slots=True)
class Slab:
    """Indices of one dimension: from *start* to *stop* (included), with step *stride*."""

    start: int
    stride: int
    stop: int

    @property
    def size(self) -> int:
        """How many indices there are."""
        return (self.stop - self.start) // self.stride + 1


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable, as stored."""

    name: str
    code: str
    """numpy's kind and size of the stored values, such as ``f4``; ``text`` for texts."""
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any]
    is_grid: bool = False
    """Whether each dimension has a coordinate variable with its name. It is then sent as a Grid with these as Maps."""

    @property
    def meant(self) -> str:
        """The code of the actual values: ``_Unsigned`` (NUG) changes the signedness of stored integers."""
        said = str(self.attributes.get("_Unsigned", "")).lower()
        if self.code[0] in "iu" and said in ("true", "false"):
            return ("u" if said == "true" else "i") + self.code[1:]
        return self.code

    @property
    def type(self) -> str:
        """DAP2's type."""
        return "String" if self.code == "text" else TYPES[self.meant][0]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The variables and attributes of a dataset, in the order of the store."""

    name: str
    variables: tuple[Variable, ...]
    attributes: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The variables that DAP2 cannot express, with the reasons."""

    def named(self, name: str) -> Variable | None:
        """Return the variable with this name, or ``None``."""
        return next((each for each in self.variables if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Part:
    """The requested part of one variable: all of a Grid, or some of its members. The slabs are those of the array."""

    variable: Variable
    slabs: tuple[Slab, ...]
    members: tuple[tuple[Variable, tuple[Slab, ...]], ...]
    """The arrays to return in order, with their slabs."""
    form: str = "array"
    """``array``, ``grid`` or ``structure`` (some members of a grid)."""

    @property
    def cells(self) -> int:
        """The number of values."""
        return sum(math.prod(slab.size for slab in slabs) for _, slabs in self.members)


def code_of(dtype: np.dtype[Any]) -> str | None:
    """Return the code of a stored type; ``None`` if DAP2 cannot express it."""
    if dtype.kind in "OSUT":
        return "text"
    code = f"{dtype.kind}{dtype.itemsize}"
    return code if code in TYPES else None


def grids(variables: Iterable[Variable]) -> tuple[Variable, ...]:
    """Return the variables, with those that are Grids marked."""
    known = list(variables)
    maps = {each.name for each in known if each.dimensions == (each.name,) and each.code != "text"}
    return tuple(
        replace(each, is_grid=bool(each.dimensions) and each.name not in maps and set(each.dimensions) <= maps and _distinct(each))
        for each in known
    )


def _distinct(variable: Variable) -> bool:
    return len(set(variable.dimensions)) == len(variable.dimensions) and variable.name not in variable.dimensions


# --- constraints ----------------------------------------------------------------------------------------------------


def constrained(dataset: Dataset, expression: str) -> tuple[Part, ...]:
    """Return the parts of a constraint expression, or the whole dataset if it is empty.

    Parameters
    ----------
    expression
        The expression in the URL: ``sst[0:2:10][3],lat,sst.lon[0:9]``. Bounds are included (DAP2, 4).

    Raises
    ------
    InvalidRequest
        If it is not a projection of this dataset, or has selections or functions, which only apply to sequences.
    """
    text = unquote(expression)
    if len(text) > MAX_CONSTRAINT:
        raise _wrong(f"is longer than {MAX_CONSTRAINT} characters")
    projection, selection, _ = text.partition("&")
    if selection:
        raise _wrong("has a selection (&…), which only sequences have; give ranges of indices: sst[0:9]")
    if not projection:
        return tuple(_whole(dataset, each) for each in dataset.variables)
    parts = [_part(dataset, each) for each in dict.fromkeys(each.strip() for each in projection.split(","))]
    # In the order of the dataset, not of the constraint, as in all servers.
    order = {each.name: n for n, each in enumerate(dataset.variables)}
    found: list[Part] = []
    for part in sorted(parts, key=lambda part: order[part.variable.name]):
        if found and found[-1].form == part.form == "structure" and found[-1].variable is part.variable:
            found[-1] = replace(part, members=(*found[-1].members, *part.members))
        else:
            found.append(part)
    return tuple(found)


def _whole(dataset: Dataset, variable: Variable) -> Part:
    return _taken(dataset, variable, _all(variable.shape))


def _all(shape: Sequence[int]) -> tuple[Slab, ...]:
    return tuple(Slab(0, 1, size - 1) for size in shape)


def _taken(dataset: Dataset, variable: Variable, slabs: tuple[Slab, ...]) -> Part:
    own = (variable, slabs)
    if not variable.is_grid:
        return Part(variable, slabs, (own,))
    maps = tuple((_map(dataset, name), (slab,)) for name, slab in zip(variable.dimensions, slabs, strict=True))
    return Part(variable, slabs, (own, *maps), "grid")


def _map(dataset: Dataset, name: str) -> Variable:
    found = dataset.named(name)
    assert found is not None  # each dimension of a grid has one
    return found


_ITEM = re.compile(r"([^\[\],()]+)((?:\[[^\[\]]*\])*)(?:\.([^\[\],()]+)((?:\[[^\[\]]*\])*))?")
_INDEX = re.compile(r"\[\s*(\d{1,18})\s*(?::\s*(\d{1,18})\s*)?(?::\s*(\d{1,18})\s*)?\]", re.ASCII)


def _part(dataset: Dataset, item: str) -> Part:
    read = _ITEM.fullmatch(item)
    if read is None:
        raise _wrong(f"has {item[:80]!r}, which is not NAME[start:stride:stop]… or GRID.MEMBER[…]")
    name, slabs, member, member_slabs = read.groups()
    variable = dataset.named(_unescaped(name))
    if variable is None and member is None:
        # The ranges of GRID.MEMBER[…] are those of the member. Names have dots too, which pydap and browsers send as dots.
        dots = [at for at, char in enumerate(name) if char == "." and dataset.named(_unescaped(name[:at])) is not None]
        at = next((at for at in dots if _is_member(dataset, name[:at], name[at + 1 :])), next(iter(dots), None))
        if at is not None:
            name, slabs, member, member_slabs = name[:at], "", name[at + 1 :], slabs
            variable = dataset.named(_unescaped(name))
    if variable is None and (why := dataset.left_out.get(_unescaped(name))) is not None:
        raise _wrong(f"names {name[:80]!r}, which is not here: {why}; read its Zarr store")
    if variable is None:
        raise _wrong(f"names {name[:80]!r}, which this dataset does not have")
    if member is None:
        return _taken(dataset, variable, _slabs(variable, slabs))
    inside = _unescaped(member)
    if slabs or not variable.is_grid or inside not in (variable.name, *variable.dimensions):
        raise _wrong(f"has {item[:80]!r}: {name[:80]} has no such member")
    own = variable if inside == variable.name else _map(dataset, inside)
    return Part(variable, (), ((own, _slabs(own, member_slabs)),), "structure")


def _is_member(dataset: Dataset, name: str, member: str) -> bool:
    variable = dataset.named(_unescaped(name))
    return variable is not None and variable.is_grid and _unescaped(member) in (variable.name, *variable.dimensions)


def _unescaped(name: str) -> str:
    return unquote(name.replace("%2E", "."))


def _slabs(variable: Variable, text: str) -> tuple[Slab, ...]:
    found = re.findall(r"\[[^\]]*\]", text)
    if not found:
        return _all(variable.shape)
    if len(found) != len(variable.shape):
        ranges, dimensions = _counted(len(found), "range"), _counted(len(variable.shape), "dimension")
        raise _wrong(f"gives {ranges} of {variable.name}, which has {dimensions}")
    return tuple(_slab(variable, each, size) for each, size in zip(found, variable.shape, strict=True))


def _slab(variable: Variable, text: str, size: int) -> Slab:
    read = _INDEX.fullmatch(text)
    if read is None:
        raise _wrong(f"has {text[:40]!r}, which is not [index], [start:stop] or [start:stride:stop]")
    first, second, third = (None if each is None else int(each) for each in read.groups())
    start, stride, stop = (first, 1, first if second is None else second) if third is None else (first, second, third)
    assert start is not None
    assert stride is not None
    assert stop is not None  # guaranteed by the pattern
    if not (start <= stop < size and stride >= 1):
        raise _wrong(f"has {text[:40]!r} of {variable.name}, whose indices go from 0 to {size - 1}; stop is included")
    return Slab(start, stride, stop)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest(f"The constraint {why}", errors=[Problem(("query",), "bad-constraint", why)])


# --- descriptions ---------------------------------------------------------------------------------------------------


def dds(dataset: Dataset, parts: Iterable[Part]) -> str:
    """Return the Dataset Descriptor Structure of the requested parts."""
    lines = [line for part in parts for line in _declared(part)]
    return "\n".join(["Dataset {", *(f"    {line}" for line in lines), f"}} {escaped(dataset.name)};", ""])


def _declared(part: Part) -> Iterator[str]:
    lines = [_line(variable, slabs) for variable, slabs in part.members]
    match part.form:
        case "array":
            yield lines[0]
        case "grid":
            yield from ("Grid {", "  Array:", f"    {lines[0]}", "  Maps:", *(f"    {each}" for each in lines[1:]))
            yield f"}} {escaped(part.variable.name)};"
        case _:
            yield from ("Structure {", *(f"    {each}" for each in lines), f"}} {escaped(part.variable.name)};")


def _line(variable: Variable, slabs: Sequence[Slab]) -> str:
    lengths = "".join(f"[{escaped(name)} = {slab.size}]" for name, slab in zip(variable.dimensions, slabs, strict=True))
    return f"{variable.type} {escaped(variable.name)}{lengths};"


def escaped(name: str) -> str:
    """Return a name for descriptions, with other characters as %XX of UTF-8."""
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in name
    )


TEXT = 64
"""netCDF-C reads this many bytes of each text, and leaves out the rest, if the attribute ``DODS.strlen`` gives no other length."""


def das(dataset: Dataset, lengths: Mapping[str, int] | None = None) -> str:
    """Return the Dataset Attribute Structure: stored attributes, each in a type that contains it exactly.

    Parameters
    ----------
    lengths
        The bytes of the longest text of each variable of texts, if they are known.
    """
    lines = ["Attributes {"]
    for variable in dataset.variables:
        longest = (lengths or {}).get(variable.name, 0)
        said = [f"        Int32 DODS.strlen {longest};"] if longest > TEXT and "DODS.strlen" not in variable.attributes else []
        lines += [f"    {escaped(variable.name)} {{", *said, *_attributes(variable.attributes, variable), "    }"]
    without = [f"{name}: {why}" for name, why in dataset.left_out.items()]
    stated = {**dataset.attributes, **({LEFT_OUT: without} if without else {})}
    lines += ["    NC_GLOBAL {", *_attributes(stated, None), "    }", "}", ""]
    return "\n".join(lines)


LEFT_OUT = "not_in_dap2"
"""The global attribute that names the variables which DAP2 cannot express, with the reasons."""

_OF_THE_TYPE = frozenset({"_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "flag_values", "flag_masks"})
"""Attributes that have the type of their variable (CF, 2.5.1, 3.5)."""


def _attributes(attributes: Mapping[str, Any], variable: Variable | None) -> Iterator[str]:
    for name, value in attributes.items():
        if variable is not None and name == "_Unsigned" and variable.code[0] in "iu":
            continue  # the actual values are sent
        values = [_plain(each) for each in value] if isinstance(value, list | tuple) or _is_array(value) else [_plain(value)]
        typed = variable is not None and name in _OF_THE_TYPE and variable.code != "text"
        if typed and variable is not None and variable.meant != variable.code:
            values = [_turned(variable.meant, each) for each in values]
        kind = variable.type if typed and variable is not None and _numbers(values) else _type_of(values)
        if kind is None or not values:
            continue
        said = ", ".join(_said(kind, each) for each in values)
        yield f"        {kind} {escaped(name)} {said};"


def _turned(meant: str, value: Any) -> Any:
    """Return an integer with its bits interpreted as the type *meant*."""
    if not isinstance(value, int):
        return value
    bits = 8 * int(meant[1:])
    value %= 1 << bits
    return value - (1 << bits) if meant[0] == "i" and value >= 1 << (bits - 1) else value


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) for each in values)


def _type_of(values: Sequence[Any]) -> str | None:
    if all(isinstance(each, bool | int) for each in values):
        return "Int32" if all(-(2**31) <= each < 2**31 for each in values) else "Float64" if _is_exact(values) else "String"
    if _numbers(values):
        return "Float64"
    return "String" if all(isinstance(each, str | bool | int | float) or each is None for each in values) else None


def _is_exact(values: Sequence[int]) -> bool:
    return all(int(float(each)) == each for each in values)


def _said(kind: str, value: Any) -> str:
    if kind == "String":
        text = "" if value is None else str(value)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if kind in ("Float32", "Float64"):
        number = float(value)
        return "NaN" if math.isnan(number) else ("Inf" if number > 0 else "-Inf") if math.isinf(number) else repr(number)
    return str(int(value))


# --- data -----------------------------------------------------------------------------------------------------------


def size_of(parts: Iterable[Part]) -> int | None:
    """Return the size of the data after the description in bytes; ``None`` if they include texts."""
    found = 0
    for part in parts:
        for variable, slabs in part.members:
            if variable.code == "text":
                return None
            cells = math.prod(slab.size for slab in slabs)
            width = 1 if variable.type == "Byte" and slabs else 8 if variable.type == "Float64" else 4
            found += (cells * width + 3) // 4 * 4 + (8 if slabs else 0)
    return found


def head(variable: Variable, slabs: Sequence[Slab]) -> bytes:
    """Return the header of an array: the number of values, twice (once before texts)."""
    if not slabs:
        return b""
    return math.prod(slab.size for slab in slabs).to_bytes(4, "big") * (1 if variable.code == "text" else 2)


def encoded(variable: Variable, values: Array, *, is_array: bool) -> bytes:
    """Return values as XDR, without the count before and the padding after them.

    Raises
    ------
    InvalidRequest
        For integers that no type of DAP2 contains.
    """
    import numpy as np

    if variable.code == "text":
        return b"".join(_text(each) for each in values.reshape(-1).tolist())
    if variable.meant != variable.code:
        values = values.view(variable.meant)
    if variable.meant in ("i8", "u8") and not is_exact(_present(variable, values)):
        raise too_large(variable.name)
    kind, form = TYPES[variable.meant]
    if kind == "Byte" and not is_array:
        form = ">i4"
    return np.ascontiguousarray(values.astype(form)).tobytes()


def _present(variable: Variable, values: Array) -> Array:
    """Return the values that are not missing: ``_FillValue`` and what equals it get the same neighbour in Float64."""
    import numpy as np

    given = (variable.attributes.get(key) for key in ("_FillValue", "missing_value"))
    marks = [_plain(each) for mark in given for each in np.ravel(mark if mark is not None else [])]
    whole = [_turned(variable.meant, each) for each in marks if isinstance(each, int)]
    return values[~np.isin(values, np.array(whole, dtype=values.dtype))] if whole else values


def is_exact(values: Array) -> bool:
    """Return whether Float64 holds each of these whole numbers."""
    if not values.size or (int(values.max()) <= EXACT and int(values.min()) >= -EXACT):
        return True
    return all(int(float(each)) == each for each in values.reshape(-1).tolist())


def too_large(name: str) -> InvalidRequest:
    """Return the error for integers beyond the range of Float64."""
    return _wrong(f"asks for {name}, which has whole numbers that no type of DAP2 holds; leave it out, or read its Zarr store")


def padding(size: int) -> bytes:
    """Return the padding of *size* bytes to a multiple of four."""
    return b"\0" * (-size % 4)


def longest(values: Array) -> int:
    """Return the bytes of the longest text; 0 without any."""
    return max((len(_raw(each)) for each in values.reshape(-1).tolist()), default=0)


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(value: Any) -> bytes:
    raw = _raw(value)
    return len(raw).to_bytes(4, "big") + raw + padding(len(raw))


def ascii_of(variable: Variable, values: Array, slabs: Sequence[Slab], *, of: str | None = None) -> Iterator[str]:
    """Yield the lines of one array: its name and shape, then a line for each row that starts with its indices (from 0)."""
    import numpy as np

    name = variable.name if of is None else f"{of}.{variable.name}"
    shape = tuple(slab.size for slab in slabs)
    if not shape:
        yield f"{name}, {_cell(values.reshape(-1)[0])}"
        return
    yield name + "".join(f"[{size}]" for size in shape)
    for index in np.ndindex(shape[:-1]):
        place = "".join(f"[{each}]" for each in index)
        yield (f"{place}, " if place else "") + ", ".join(map(_cell, values[index].tolist()))


def _cell(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str | float):
        return _said("String" if isinstance(value, str) else "Float64", value)
    return str(int(value))


def error(status: int, message: str) -> bytes:
    """Return an error in DAP2's form, which clients show."""
    words = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'Error {{\n    code = {status};\n    message = "{words}";\n}};\n'.encode()
