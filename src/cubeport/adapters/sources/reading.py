"""Open a scanned source as it is stored: only text is decoded and loaded; nothing is masked or scaled.

A *raw dataset* is an ``xarray.Dataset`` whose variables are stored numbers or ``StringDType`` text, with their CF attributes still
in ``attrs``. It has no indexes, because pandas would change the values in them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from cubeport.adapters.sources.excerpts import ExcerptArray
from cubeport.cubes.companions import REFERENCES
from cubeport.cubes.raw import dataset, variables
from cubeport.errors import CubeportError, SourceRejected

TEXT = np.dtypes.StringDType()
"""The dtype of all text, whether the source stores characters, fixed bytes or variable-length strings."""

RAW: dict[str, Any] = {"decode_cf": False, "create_default_indexes": False, "cache": False, "chunks": None}
"""The arguments of ``xarray.open_dataset`` that keep everything as stored and read nothing."""


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in native byte order. Text has no byte order."""
    return dtype if dtype == TEXT else dtype.newbyteorder("=")


_TEXT_BYTES = 64 * 2**20
"""The largest size of a text variable that is loaded. Text variables are labels, not documents."""

_PLACE = re.compile(r"(?:file://|(?<!\w))(?:/[^\s'\"/:,)]+){2,}/?")
"""An absolute path in the error message of a library."""

_LABEL_BYTES = 64 * 2**10
"""The largest size of a label that every source of a series keeps in memory."""

AXIS_BYTES = 16 * 2**20
"""The same where there is one source: the axis of two million steps."""

ADD = "cubeport add catalogues files that are not cubes"
"""The next step for a source without a cube."""

_NUMBERS = "biuf"


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """An opened source: the name that the user knows, and its raw dataset."""

    name: str
    raw: xr.Dataset
    warnings: tuple[tuple[str, str], ...] = ()
    close: Callable[[], None] = lambda: None
    """Closes the file. Values that were not read before can no longer be read."""
    excerpts: tuple[ExcerptArray, ...] = ()
    """Its arrays of which only a part was fetched."""


@contextlib.contextmanager
def opening(name: str) -> Iterator[None]:
    """Translate any error of a library that opens *name* to the refusal ``unreadable``."""
    try:
        yield
    except (CubeportError, MemoryError):
        raise
    except Exception as error:
        _check_memory(error)
        raise SourceRejected(
            f"{name} cannot be opened: {_words(error)}", reason="unreadable", source=name, next_step="bring an intact file"
        ) from error


@contextlib.contextmanager
def decoding(variable: str, source: str | None = None) -> Iterator[None]:
    """Translate any error while values are read to the refusal ``bad-codec``."""
    try:
        yield
    except (CubeportError, MemoryError):
        raise
    except Exception as error:
        _check_memory(error)
        where = f"{source}: " if source else ""
        raise SourceRejected(
            f"{where}the values of {variable!r} cannot be decoded: {_words(error)}",
            reason="bad-codec",
            source=source,
            next_step="bring an intact file",
        ) from error


def _check_memory(error: Exception) -> None:
    """Raise MemoryError if this was the cause, for example a thread without space for its stack. The source is then not at
    fault.
    """
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        raise MemoryError(str(error)) from error


def _words(error: Exception) -> str:
    """Return the first line of a library's error message, truncated and without paths of this machine."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _PLACE.sub("…", line)[:200]


def prepare(name: str, raw: xr.Dataset, wanted: Collection[str] = (), skipped: Collection[str] = ()) -> OpenedSource:
    """Return *raw* as a source, with decoded text, and without variables that cannot be in a cube or that the scan *skipped*.

    Raises
    ------
    SourceRejected
        ``not-a-cube``, if a wanted variable has such a type.
    """
    held: dict[str, xr.Variable] = {}
    strange: dict[str, str] = {}
    latin: list[str] = []
    dated: list[str] = []
    for key, variable in raw.variables.items():
        label = str(key)
        variable.attrs = _utf8(variable.attrs)
        if variable.dtype.kind in _NUMBERS and variable.dtype.itemsize <= 8:
            held[label] = _with_flags(variable)
        elif variable.dtype.kind in "SUOT" and (text := _as_text(label, variable, raw, latin)) is not None:
            held[label] = text
        elif variable.dtype.kind == "M" and (counted := _counted(label, variable)) is not None:
            held[label] = counted
            dated.append(label)
        else:
            strange[label] = variable.dtype.name
    if refused := [label for label in (*skipped, *strange) if label in wanted]:
        raise SourceRejected(
            f"{name}: {', '.join(refused)}: their type cannot be part of a cube",
            reason="not-a-cube",
            source=name,
            next_step="choose other variables with --variables",
        )
    warnings = [("variable-skipped", f"{each} has a type that cannot be part of a cube: {kind}") for each, kind in strange.items()]
    warnings += [("time-repaired", f"{label!r} has dates as a type of its own; it now counts them as CF does") for label in dated]
    warnings += [("text-repaired", f"the texts of {label!r} are not UTF-8; they were read as Windows-1252") for label in latin]
    return OpenedSource(name, dataset(held, _utf8(raw.attrs)), tuple(warnings), raw.close)


def _counted(name: str, variable: xr.Variable) -> xr.Variable | None:
    """Return dates that a Zarr store has as ``datetime64`` as CF numbers; ``None`` if they are too many to be labels."""
    unit, length = np.datetime_data(variable.dtype)
    if variable.nbytes > _LABEL_BYTES * 100 or unit not in _UNITS or "units" in variable.attrs:
        return None
    with decoding(name):
        values = variable.values.astype("int64")
    attributes = {"units": f"{_UNITS[unit]} since 1970-01-01", "calendar": "proleptic_gregorian", **variable.attrs}
    missing = values == np.iinfo("int64").min  # how NumPy writes a date that is not there
    if missing.any():
        attributes["_FillValue"] = np.iinfo("int64").min
    return xr.Variable(variable.dims, np.where(missing, values, values * length), attributes)


_UNITS = {
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}


def _utf8(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return *attributes* with UTF-8 text that HDF5 declares as ASCII decoded. Other bytes stay, and the checks handle them."""

    def read(value: Any) -> Any:
        if isinstance(value, str) and not value.isascii():
            with contextlib.suppress(UnicodeDecodeError):
                return value.encode("utf-8", "surrogateescape").decode("utf-8")
        return value

    return {name: read(value) for name, value in attributes.items()}


def _as_text(name: str, variable: xr.Variable, raw: xr.Dataset, latin: list[str]) -> xr.Variable | None:
    """Return the text of *variable*, with characters joined along their own dimension; ``None`` if its objects are not text.

    If it is not UTF-8, its name is added to *latin*.
    """
    joined = xr.conventions.decode_cf_variable(
        name,
        variable,
        mask_and_scale=False,
        decode_times=False,
        decode_endianness=False,
        stack_char_dim=variable.ndim > 0 and _only_characters(variable.dims[-1], raw),
    )
    if joined.size * max(joined.dtype.itemsize, 1) > _TEXT_BYTES:
        raise SourceRejected(f"variable {name!r} contains more text than labels can have", reason="too-big")
    with decoding(name):
        values = joined.values
    if values.dtype.kind == "O" and not all(isinstance(each, str | bytes) for each in values.flat):
        return None
    try:
        texts = _decoded(values, "utf-8", "strict")
    except UnicodeDecodeError:
        latin.append(name)
        texts = _decoded(values, "cp1252", "replace")
    return xr.Variable(joined.dims, texts.astype(TEXT), variable.attrs)


def _decoded(values: np.ndarray[Any, Any], encoding: str, errors: str) -> np.ndarray[Any, Any]:
    if values.dtype.kind == "S":
        return np.asarray(np.char.decode(values, encoding, errors))
    if values.dtype.kind == "O":
        texts = [each.decode(encoding, errors) if isinstance(each, bytes) else each for each in values.flat]
        return np.array(texts, dtype=TEXT).reshape(values.shape)
    return values


def _only_characters(dimension: object, raw: xr.Dataset) -> bool:
    """Return whether *dimension* only counts the characters of texts (xarray's own rule)."""
    users = [variable for variable in raw.variables.values() if dimension in variable.dims]
    return dimension not in raw.variables and all(each.dtype.kind == "S" and each.dims[-1] == dimension for each in users)


def _with_flags(variable: xr.Variable) -> xr.Variable:
    """Return *variable* with the names of a netCDF-4 enumeration as CF flags, because Zarr has no such type."""
    words = (getattr(variable.encoding.get("dtype"), "metadata", None) or {}).get("enum")
    if not words or "flag_values" in variable.attrs:
        return variable
    flags = {"flag_values": np.array(list(words.values()), variable.dtype), "flag_meanings": " ".join(words)}
    named = variable.copy(deep=False)
    named.attrs = {**variable.attrs, **flags}
    return named


def load_labels(source: OpenedSource, *, most: int = _LABEL_BYTES) -> None:
    """Load one-dimensional variables of at most *most* bytes once: the checks read them many times, and a series after its file may
    be closed.
    """
    for name, variable in source.raw.variables.items():
        if is_label(variable, most=most):
            with decoding(str(name), source.name):
                variable.load()


def is_label(variable: xr.Variable, *, most: int = _LABEL_BYTES) -> bool:
    """Return whether a variable has at most one dimension and *most* bytes, as labels have."""
    return variable.ndim <= 1 and variable.nbytes <= most


def opened(
    name: str,
    raw: xr.Dataset,
    wanted: Collection[str],
    skipped: Collection[str],
    groups: Callable[[], list[str]],
    *,
    group: str | None,
) -> OpenedSource:
    """Return *raw* as a source. If it has no data variables, refuse it and name the *groups* that could be selected instead.

    If no group was selected and the root has data, the skipped groups are reported.
    """
    with contextlib.ExitStack() as refused:
        refused.callback(raw.close)
        source = prepare(name, raw, wanted, skipped)
        if not wanted and all(variable.dims == (label,) for label, variable in source.raw.variables.items()):
            raise _no_fields(name, groups(), [words for kind, words in source.warnings if kind == "variable-skipped"])
        others = groups() if group is None else []
        refused.pop_all()
    if not others:
        return source
    told = f"{name}: only the root is read; its groups {', '.join(others[:20])} are skipped (choose one with --group)"
    return replace(source, warnings=(*source.warnings, ("groups-skipped", told)))


def with_parents(raw: xr.Dataset, above: Sequence[tuple[str, xr.Dataset]]) -> xr.Dataset:
    """Return a group's *raw* with the coordinates that it uses from the groups *above* it, the nearest first.

    These are the coordinates of its dimensions, the variables that its attributes name (by name or by absolute path), and the
    variables that these need in turn (CF Conventions, 2.7 "Groups", upward search).
    """
    held = variables(raw)
    for path, parent in above:
        at = f"/{path}/" if path else "/"
        for name, variable in held.items():
            pointed = {
                key: " ".join(word.removeprefix(at) if "/" not in word.removeprefix(at) else word for word in str(value).split())
                for key, value in variable.attrs.items()
                if key in REFERENCES and at in str(value)
            }
            if pointed:
                held[name] = variable.copy(deep=False)
                held[name].attrs = {**variable.attrs, **pointed}
        front = list(held)
        while front:
            used = held[front.pop()]
            words = " ".join(str(used.attrs.get(key, "")) for key in REFERENCES)
            for name in dict.fromkeys((*map(str, used.dims), *re.findall(r"[^\s:]+", words))):
                found = parent.variables.get(name)
                if found is None or name in held or any(raw.sizes.get(d, n) != n for d, n in found.sizes.items()):
                    continue
                held[name] = found
                front.append(name)
    whole = dataset(held, raw.attrs)

    def close() -> None:
        for each in (raw, *(parent for _, parent in above)):
            each.close()

    whole.set_close(close)
    return whole


def parents(group: str | None) -> list[str]:
    """Return the paths of the groups above *group*, the nearest first, the root last."""
    parts = (group or "").strip("/").split("/")
    return ["/".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)] if parts != [""] else []


def check_group(name: str, group: str | None, groups: Callable[[], list[str]]) -> None:
    """Refuse a *group* that the source does not have, and name the existing groups. ``None`` and the root always exist."""
    if group is None or not group.strip("/"):
        return
    found = groups()
    if group.strip("/") not in found:
        raise no_group(name, group, found)


def no_group(name: str, group: str, groups: list[str]) -> SourceRejected:
    """Return the refusal of a *group* that a source does not have, with the existing *groups*."""
    return SourceRejected(
        f"{name} has no group {group[:80]!r} with variables"
        + (f"; its groups are {', '.join(groups[:20])}" if groups else "; it has no groups"),
        reason="not-a-cube",
        source=name,
        next_step=f"choose one, for example --group {groups[0]}" if groups else "leave out --group",
        groups=groups[:100],
    )


def _no_fields(name: str, groups: list[str], skipped: Sequence[str]) -> SourceRejected:
    why = f" ({'; '.join(skipped[:5])})" if skipped else ""
    return SourceRejected(
        f"{name} has no data variables{why}" + (f"; its groups are {', '.join(groups[:20])}" if groups else ""),
        reason="not-a-cube",
        source=name,
        next_step=f"choose one, for example --group {groups[0]}" if groups else ADD,
        groups=groups[:100],
    )
