"""GRIB, editions 1 and 2. This module finds the messages by their lengths; cfgrib reads the values with ecCodes.

A file is one cube if all its messages have the same grid and one kind of level. Otherwise the caller selects messages by keys, like
cfgrib's ``filter_by_keys``. The keys are given as a group, such as ``typeOfLevel=surface,stepType=instant``, because groups select
one of several cubes in a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.contents import Group, plain, variable
from cubeport.adapters.sources.reading import RAW, OpenedSource, opened, opening
from cubeport.adapters.sources.scanned import Array, Arrays, Scanned, rejected, truncated, unreadable
from cubeport.adapters.sources.signatures import is_grib
from cubeport.cubes.raw import dataset, variables
from cubeport.errors import ExtraMissing, SourceRejected

EXTRA = "grib"

_START, _END = b"GRIB", b"7777"
_HEADING = 64 * 1_024
"""The largest number of bytes between messages that can be the heading of a bulletin or padding."""
_VALUE = 8
"""The bytes of a decoded value. ecCodes decodes to double precision."""
_CHOICE = re.compile(r"filter_by_keys=\{(.+?)\}")
_KINDS = ("typeOfLevel", "stepType", "shortName")
"""Keys that tell cubes of one file apart, coarsest first."""
_APART = ("lengthOfTimeRange", "stepRange", "percentileValue", "lowerLimit", "upperLimit", "typeOfStatisticalProcessing")
"""Keys by which messages differ that have one place in a cube: of accumulations from two starts, of percentiles and probabilities.
cfgrib does not index them.
"""
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,63}(?::[a-z]+)?)=([^,=]{1,128})")


def matches(source: Input) -> bool:
    """Return whether the file begins with a GRIB message, with or without the heading of a bulletin."""
    return not source.is_folder and is_grib(source.fd)


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return the arrays that the messages declare. Each message must be complete and within the limits."""
    size = os.fstat(source.fd).st_size
    arrays = Arrays(source.name, limits)
    at = 0
    while (at := _next(source, at, size)) < size:
        head = os.pread(source.fd, 64, at)
        edition = head[7] if len(head) > 15 else 0
        if edition not in (1, 2):
            raise unreadable(source.name, f"has a message of GRIB edition {edition} at byte {at:,}")
        length = _length(head)
        if edition == 1 and length & 0x800000:
            raise rejected(
                source.name, f"has a message of more than 8 MiB of edition 1 at byte {at:,}", "unreadable", "write edition 2"
            )
        if at + length > size:
            raise truncated(source.name, at + length, size, "its messages")
        if length < 24 or os.pread(source.fd, 4, at + length - 4) != _END:
            raise unreadable(source.name, f"has a message at byte {at:,} that does not end where it says")
        points = _points_2(source, at, length) if edition == 2 else _points_1(source, at, head)
        arrays.check("chunk_bytes", points * _VALUE, f"bytes of the message at byte {at:,}")
        arrays.add(Array(f"message {len(arrays.found) + 1}", (points,), _VALUE))
        arrays.check("chunks", len(arrays.found), "number of messages")
        at += length
    return Scanned(source.name, "grib", size, arrays.done(size))


def _length(head: bytes) -> int:
    """Return the length of the message that begins with these bytes."""
    return int.from_bytes(head[8:16]) if head[7] == 2 else int.from_bytes(head[4:7])


def _next(source: Input, at: int, size: int) -> int:
    """Return the offset of the next message, or *size* if there is none."""
    gap = os.pread(source.fd, _HEADING, at)
    found = gap.find(_START)
    if found >= 0:
        return at + found
    if gap.strip(b"\0 \r\n\x01\x03"):
        raise unreadable(source.name, f"has bytes at {at:,} that are not a GRIB message")
    return size


def _points_2(source: Input, at: int, length: int) -> int:
    """Return the number of grid points of an edition 2 message (WMO Manual on Codes, 306, sections 3 and 5)."""
    place, end, most = at + 16, at + length - 4, 0
    while place < end:
        head = os.pread(source.fd, 11, place)
        size = int.from_bytes(head[:4])
        if len(head) < 5 or size < 5 or place + size > end:
            raise unreadable(source.name, f"has a message at byte {at:,} whose sections do not fit it")
        if head[4] == 3:
            most = max(most, int.from_bytes(head[6:10]))
        place += size
    return most


def _points_1(source: Input, at: int, head: bytes) -> int:
    """Return the number of grid points of an edition 1 message from its grid description section; 0 if it has none."""
    product = int.from_bytes(head[8:11])
    if not head[15] & 0x80:  # a predefined grid, given by its number
        return 0
    place = at + 8 + product
    grid = os.pread(source.fd, 32, place)
    if len(grid) < 10:
        raise unreadable(source.name, f"has a message at byte {at:,} whose sections do not fit it")
    columns, rows = int.from_bytes(grid[6:8]), int.from_bytes(grid[8:10])
    if columns != 0xFFFF:
        return columns * rows
    first = place + grid[4] - 1 + 4 * grid[3]  # a reduced grid: the points of each row
    counts = os.pread(source.fd, 2 * rows, first)
    return sum(int.from_bytes(counts[i : i + 2]) for i in range(0, len(counts), 2))


def verify(source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()) -> None:
    """Do nothing. A message declares its number of points, and the scan has checked it against the limits."""


def open(  # noqa: A001 - every format has it
    source: Input, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> OpenedSource:
    """Return the messages that *group* selects as one lazy source.

    Raises
    ------
    SourceRejected
        ``not-a-cube``, if the messages are not one cube, or several are for one time, level and member. The next step names keys
        to select by.
    """
    if find_spec("cfgrib") is None:
        raise ExtraMissing(
            f"{source.name} is GRIB, and cfgrib is not installed", next_step="pip install 'cubeport[grib]'", what="grib"
        )

    keys = _keys(source.name, group)
    raw = _opened(source.name, source.path, keys)
    for name, each in variables(raw).items():
        _check_once(source, name, each, keys)
    held = {}
    for name, each in variables(raw).items():
        each.attrs.pop("dtype", None)  # cfgrib adds it for xarray; it is not an attribute of the data
        if each.attrs.get("standard_name") == "unknown":
            del each.attrs["standard_name"]
        each.encoding.pop("source", None)
        held[name] = each
    whole = dataset(held, {key: value for key, value in raw.attrs.items() if key != "history"})
    whole.set_close(raw.close)
    return opened(source.name, whole, wanted, skipped, list, group=group)


def _check_once(source: Input, name: str, variable: xr.Variable, keys: dict[str, Any]) -> None:
    """Refuse different messages for one time, level and member of a variable, of which cfgrib would read only the first."""
    from cfgrib.dataset import OnDiskArray

    array: Any = variable._data  # noqa: SLF001 - xarray's layers around the array of cfgrib, which has the messages of each place
    while not isinstance(array, OnDiskArray):
        if not hasattr(array, "array"):
            return
        array = array.array
    for places in array.field_id_index.values():
        if len(places) > 1 and len({_message(source.fd, each) for each in places}) > 1:
            fields = [array.index.get_field(each) for each in places]
            told = ((key, [each.get(key) for each in fields]) for key in _APART)
            key, values = next(((key, found) for key, found in told if len(set(found)) == len(found)), ("", []))
            what = f"{len(places)} different messages of {name} for one time, level and member"
            raise _several(source.name, keys, [{key: each} for each in values], what)


def _message(fd: int, place: int | tuple[int, int]) -> object:
    """Return the bytes of a message by its offset; of one of several fields in a message, the place itself."""
    return os.pread(fd, _length(os.pread(fd, 16, place)), place) if isinstance(place, int) else place


def _keys(name: str, group: str | None) -> dict[str, Any]:
    """Return the keys in the name of a group: whole numbers as numbers, others as text."""
    keys: dict[str, Any] = {}
    for part in filter(None, (group or "").strip("/").split(",")):
        found = _KEY.fullmatch(part.strip())
        if found is None:
            raise rejected(
                name, f"is GRIB, and {part[:80]!r} is not a key and its value", "not-a-cube", "write typeOfLevel=surface"
            )
        keys[found[1]] = int(found[2]) if re.fullmatch(r"-?\d{1,9}", found[2]) else found[2]
    return keys


def _opened(name: str, path: Path, keys: dict[str, Any]) -> xr.Dataset:
    import pyproj  # noqa: F401 - first: loaded after ecCodes, PROJ crashes the process (adr/0018)
    from cfgrib import DatasetBuildError

    with opening(name):
        try:
            raw = xr.open_dataset(
                str(path), engine="cfgrib", backend_kwargs={"indexpath": "", "errors": "raise", "filter_by_keys": keys}, **RAW
            )
        except DatasetBuildError as error:
            what = "messages that are not one cube: their levels, grids or kinds of step differ"
            raise _several(name, keys, _choices(str(error)) or _kinds(path, keys), what) from error
        if not raw.data_vars:
            chosen = ", ".join(f"{key}={value}" for key, value in keys.items())
            raise SourceRejected(
                f"{name} has no GRIB message with {chosen}" if keys else f"{name} has no GRIB message that is a field",
                reason="empty",
                source=name,
                next_step="leave filter_by_keys out to see which messages there are" if keys else None,
            )
        return raw


def _several(name: str, keys: dict[str, Any], choices: list[dict[str, Any]], what: str) -> SourceRejected:
    """Return the refusal of messages that are not one cube, with the keys to select by."""
    written = [",".join(f"{key}={value}" for key, value in {**keys, **each}.items()) for each in choices]
    return SourceRejected(
        f"{name} contains {what}",
        reason="not-a-cube",
        source=name,
        next_step="ingest one of them, or each as a separate dataset: "
        + " or ".join(f"--filter-by-keys {each}" for each in written[:8])
        if written
        else "split the file, for example with grib_copy of ecCodes",
        filter_by_keys=written[:50],
    )


def _choices(text: str) -> list[dict[str, Any]]:
    """Return the keys that cfgrib itself offers."""
    found = [dict(re.findall(r"'([^']+)': ('[^']*'|[^,]+)", each)) for each in _CHOICE.findall(text)]
    return [{key: value.strip("'") for key, value in each.items()} for each in found]


def _kinds(path: Path, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of the first key that tells messages apart, for files of which cfgrib says only that levels differ."""
    import eccodes

    with eccodes.FileReader(str(path)) as messages:
        headers = [{key: each.get(key) for key in (*_KINDS, *keys)} for each in messages]
    chosen = [each for each in headers if all(str(each[key]) == str(value) for key, value in keys.items())]
    for key in _KINDS:
        values = dict.fromkeys(each[key] for each in chosen if each[key] is not None)
        if len(values) > 1:
            return [{key: value} for value in values]
    return []


def contents(path: Path) -> Iterator[Group]:
    """Yield the description of the file. It does not include messages that do not fit the first ones."""
    import pyproj  # noqa: F401 - as above

    with xr.open_dataset(str(path), engine="cfgrib", backend_kwargs={"indexpath": "", "errors": "ignore"}, **RAW) as raw:
        described = {name: variable(each.dtype, each.shape, each.dims, None, each.attrs) for name, each in variables(raw).items()}
        yield Group("", {str(d): int(n) for d, n in raw.sizes.items()}, described, plain({str(k): v for k, v in raw.attrs.items()}))
