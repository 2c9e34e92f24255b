"""Answers that read values: counted from metadata before anything is read, then carried out within limits.

A *plan* is a selection held against one version. It knows its price; carrying it out gives bytes, or an open temporary file.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import Place, query_of, resolve_query
from cubeport.cubes.resolve import axis_named, cells, resolve
from cubeport.cubes.selection import Scale, Selection, parse_datetime, stamp_at
from cubeport.cubes.windows import Price, Run, Window, Windows, count, fitting, storage_crs, time_axis
from cubeport.documents import coveragejson, ogc, table
from cubeport.documents.texts import Shown
from cubeport.errors import Cancelled, Corrupt, NoSpace, SourceRejected, TooLarge, Unavailable

if TYPE_CHECKING:
    from cubeport.adapters.engines.opened import Opened, OpenedVersions

MIB = 1 << 20
_COVERAGE_CELLS = 1_000
"""What a coverage of its own within a collection counts as, in cells: its domain is written again for each."""
_LIGHT_CELLS = 65_536
"""Answers up to this size do not wait for a place among the heavy ones."""
_NETCDF_VARIABLE = 2_600
"""Bytes that a NetCDF-4 file has for a variable beside its values, about."""
_DOWNLOAD_PATIENCE = 10
"""How many times longer a download may take than a query: it is made to be large."""
_LEARNT = 4_096
"""How many answers' true sizes are remembered, to better later estimates of the same fields."""


class Engine(Protocol):
    """What answers need of an engine: reading, and the folder for the encoding child."""

    def read(self, dataset_id: str, version_id: str, key: str) -> Any: ...
    def path(self, dataset_id: str, version_id: str) -> Path: ...


class Encoders(Protocol):
    """The confined children (``adapters.sandbox.children``)."""

    def run(
        self,
        task: str,
        request: Mapping[str, Any],
        *,
        read: Sequence[Path] = (),
        write: Sequence[Path] = (),
        declared_bytes: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one answer (publishing.md 5.5); each refusal names its setting."""

    json_cells: int = 1_000_000
    csv_cells: int = 1_000_000
    binary_cells: int = 64_000_000
    download_cells: int = 64_000_000
    answer_bytes: int = 256 * MIB
    chunks: int = 10_000
    seconds: float = 30.0
    heavy: int = field(default_factory=lambda: os.cpu_count() or 1)
    wait_s: float = 2.0
    """How long a heavy answer waits for a place before 503."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit a plan is over."""

    setting: str
    limit: int
    value: int
    unit: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A selection held against one version, with its price."""

    shown: Shown
    selection: Selection
    form: str
    windows: Windows
    price: Price
    opened: Opened
    refusal: Refusal | None
    download: bool = False
    place: Place | None = None
    """Of EDR queries."""

    @property
    def description(self) -> CubeDescription:
        found: CubeDescription = self.shown.description
        return found


class Patience:
    """Lasts for some seconds, and as long as the client is there."""

    def __init__(self, seconds: float, left: threading.Event | None = None) -> None:
        self._until = time.monotonic() + seconds
        self._left = left

    def __call__(self) -> None:
        """Return, or raise Cancelled when the client has gone and Unavailable when the time is up."""
        if self._left is not None and self._left.is_set():
            raise Cancelled("The client has left.")
        if time.monotonic() > self._until:
            raise _too_slow()


class Answers:
    """Makes plans and carries them out; one for a process.

    Parameters
    ----------
    scratch
        A folder below ``data_dir`` for temporary files: what dead processes left there is removed now.
    """

    def __init__(self, engine: Engine, children: Encoders, *, scratch: Path, public_url: str, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.public_url = public_url
        self._engine = engine
        self._children = children
        self._scratch = scratch
        self._versions: OpenedVersions | None = None
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(self.limits.heavy)
        self._rates = {"json": 20e6, "netcdf": 40e6}
        """Decoded bytes a second of recent answers; guesses at first."""
        self._true_sizes: dict[tuple[str, ...], float] = {}
        """How far estimates of a version's fields were off."""
        _sweep(scratch)

    # --- planning -------------------------------------------------------------------------------------------------------

    def plan(self, shown: Shown, selection: Selection, *, form: str, download: bool = False, place: Place | None = None) -> Plan:
        """Return the plan, refused or not: coordinates are read (once a version), no values.

        Raises
        ------
        InvalidRequest, NotFound
            What the selection names and the cube does not have; what lies outside the data.
        """
        opened = self._open(shown)
        labels = opened.labels()
        if place is None:
            windows = resolve(shown.description, labels, selection)
        else:
            windows = resolve_query(shown.description, labels, selection, place)
        if download and form == "netcdf" and selection.properties is None:
            windows = _with_everything(shown.description, windows)
        price = count(shown.description, windows)
        plan = Plan(shown, selection, form, windows, price, opened, None, download, place)
        return replace(plan, refusal=self._refusal(plan))

    def _open(self, shown: Shown) -> Opened:
        with self._lock:
            if self._versions is None:
                from cubeport.adapters.engines.opened import OpenedVersions

                self._versions = OpenedVersions(self._engine)
        return self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)

    def _refusal(self, plan: Plan) -> Refusal | None:
        limits = self.limits
        binary = "download_cells" if plan.download else "binary_cells"
        name = {"netcdf": binary, "csv": "csv_cells"}.get(plan.form, "json_cells")
        value = plan.price.cells
        if name == "json_cells":
            parts = sum(group.coverages(plan.windows) for group in coveragejson.groups(plan.description, plan.windows))
            value += _COVERAGE_CELLS * (parts - 1)
        checks = [
            Refusal(f"limits.{name}", getattr(limits, name), value, "cells"),
            Refusal("limits.answer_bytes", limits.answer_bytes, plan.price.bytes, "bytes"),
            Refusal("limits.chunks", limits.chunks, plan.price.chunks, "chunks"),
        ]
        return next((each for each in checks if each.value > each.limit), None)

    def check(self, plan: Plan) -> None:
        """Raise TooLarge, with what could be asked instead, when the plan is over a limit."""
        over = plan.refusal
        if over is not None:
            raise TooLarge(
                f"The answer would have {over.value} {over.unit}; the limit is {over.limit}.",
                limit=over.limit,
                value=over.value,
                unit=over.unit,
                setting=over.setting,
                alternatives=self.alternatives(plan),
            )

    def estimate(self, plan: Plan) -> dict[str, Any]:
        """Return what the answer would cost; no value is read."""
        rate = self._rates["netcdf" if plan.form == "netcdf" else "json"]
        return {
            "cells": plan.price.cells,
            "bytes": self._size(plan),
            "chunks": plan.price.chunks,
            "seconds": round(0.005 + plan.price.bytes / rate, 3),
            "format": plan.form,
            "allowed": plan.refusal is None,
            "limit": None if plan.refusal is None else {"setting": plan.refusal.setting, "limit": plan.refusal.limit},
            "alternatives": self.alternatives(plan) if plan.refusal is not None else [],
        }

    def alternatives(self, plan: Plan) -> list[dict[str, str]]:
        """Return queries that would be answered: less time, a binary format, the store itself, an estimate."""
        found = []
        shorter = self._shorter(plan)
        if shorter is not None:
            found.append({"title": "The longest leading time that fits", "href": self._href(plan, shorter)})
        coarser = self._coarser(plan)
        if coarser is not None:
            found.append({"title": "Fewer cells of all of it", "href": self._href(plan, coarser)})
        if plan.form != "netcdf":
            binary = self.plan(
                plan.shown, replace(plan.selection, form="netcdf"), form="netcdf", download=plan.download, place=plan.place
            )
            if binary.refusal is None:
                found.append({"title": "The same as NetCDF", "href": self._href(plan, binary.selection)})
        pinned = f"{plan.shown.texts.dataset_id}@{plan.shown.version.version_id}"
        found.append({"title": "All of it as Zarr", "href": f"{self.public_url}/zarr/{pinned}"})
        found.append({"title": "What it would cost", "href": self._href(plan, replace(plan.selection, estimate=True))})
        return found

    def _shorter(self, plan: Plan) -> Selection | None:
        """Return the selection with the longest leading time that is within every limit."""
        time_is = time_axis(plan.description)
        if plan.refusal is None or time_is is None or time_is.scalar:
            return None
        share = plan.refusal.limit / plan.refusal.value
        budget = int(plan.price.cells * share)
        while budget > 0:
            cut = fitting(plan.description, plan.windows, cells=budget)
            if cut is None:
                return None
            labels = plan.opened.labels().values[time_is.name][cut.along[time_is.dimension].indices()]
            first, last = (str(stamp_at(int(each))) for each in (labels.min(), labels.max()))
            others = tuple(each for each in plan.selection.subsets if axis_named(plan.description, each.axis) is not time_is)
            text = first if first == last else f"{first}/{last}"
            selection = replace(plan.selection, subsets=others, datetime=parse_datetime(text))
            if self.plan(plan.shown, selection, form=plan.form, download=plan.download, place=plan.place).refusal is None:
                return selection
            budget = budget * 3 // 4
        return None

    def _coarser(self, plan: Plan) -> Selection | None:
        """Return the selection with the least ``scale-factor`` that is within every limit; for coverages with x and y."""
        over = plan.refusal
        axes = [plan.description.axis_of(kind) for kind in ("x", "y")]
        windows = [plan.windows.along.get(axis.dimension) if axis is not None and not axis.scalar else None for axis in axes]
        if over is None or plan.download or plan.place is not None or plan.selection.scale is not None:
            return None
        if any(window is None or window.sliced for window in windows):
            return None
        factor = math.ceil(math.sqrt(over.value / over.limit))
        while factor <= max(window.size for window in windows if window is not None):
            selection = replace(plan.selection, scale=Scale("scale-factor", (("", float(factor)),)))
            if self.plan(plan.shown, selection, form=plan.form).refusal is None:
                return selection
            factor *= 2
        return None

    def _href(self, plan: Plan, selection: Selection) -> str:
        from urllib.parse import urlencode

        name = ogc.name_of(plan.shown)
        pairs = selection.query()
        if plan.download:
            base = f"{self.public_url}/datasets/{name}/download"
            renamed = {"properties": "variables", "f": "format"}
            pairs = [(renamed.get(key, key), value) for key, value in pairs]
        else:
            base = f"{self.public_url}/ogcapi/collections/{name}/{plan.place.kind if plan.place else 'coverage'}"
            pairs = pairs if plan.place is None else query_of(plan.place, selection)
        return f"{base}?{urlencode(pairs)}" if pairs else base

    def _size(self, plan: Plan) -> int:
        """Return the bytes of the answer: how much is missing no metadata tell, so answers before this one count too."""
        size = {"netcdf": _netcdf_size, "csv": _csv_size}.get(plan.form, _json_size)(plan)
        return round(size * self._true_sizes.get(_kind_of(plan), 1.0))

    def _remember(self, plan: Plan, size: int) -> None:
        if len(self._true_sizes) >= _LEARNT:
            self._true_sizes.clear()
        self._true_sizes[_kind_of(plan)] = size / max(1, _json_size(plan))

    # --- carrying out ---------------------------------------------------------------------------------------------------

    def coverage(self, plan: Plan, *, left: threading.Event | None = None) -> bytes | BinaryIO:
        """Return CoverageJSON as bytes, or NetCDF as an open file that is nowhere in a folder any more.

        Parameters
        ----------
        left
            Set when the client has gone: then the work is given up.

        Raises
        ------
        TooLarge, Unavailable, Cancelled
            As :meth:`check`; when there is no place or no time; when the client left.
        """
        from cubeport.adapters.ogc import provider

        self.check(plan)
        with self._place(plan):
            name = f"{plan.shown.texts.dataset_id}@{plan.shown.version.version_id}"
            work = {"netcdf": self._netcdf, "csv": self._csv}.get(plan.form, self._json)
            make = partial(work, plan, Patience(self.limits.seconds, left))
            words = {"form": plan.form, "media_type": ogc.FORMS[plan.form]}
            answer: bytes | BinaryIO
            if plan.place is None:
                answer = provider.coverage(name, make, **words)
            else:
                where = {key: value for key, value in query_of(plan.place, plan.selection) if key in ("coords", "bbox")}
                answer = provider.edr(name, make, kind=plan.place.kind, where=where, **words)
            return answer

    def download(self, plan: Plan, *, left: threading.Event | None = None) -> bytes | BinaryIO:
        """Return the NetCDF file, values as stored, or the table. Raises as :meth:`coverage`."""
        self.check(plan)
        with self._place(plan):
            if plan.form == "csv":
                return self._csv(plan, Patience(self.limits.seconds, left))
            return self._netcdf(plan, Patience(_DOWNLOAD_PATIENCE * self.limits.seconds, left))

    @contextmanager
    def _place(self, plan: Plan) -> Iterator[None]:
        """Hold one of the places of heavy work: as many as there are cores."""
        if plan.price.cells <= _LIGHT_CELLS and plan.form != "netcdf":
            yield
            return
        if not self._places.acquire(timeout=self.limits.wait_s):
            raise Unavailable("Other large answers are being made.", retry_after_s=5, next_step="Try again in a few seconds.")
        began = time.perf_counter()
        try:
            yield
        finally:
            self._places.release()
        self._learn(plan, time.perf_counter() - began)

    def _learn(self, plan: Plan, seconds: float) -> None:
        kind = "netcdf" if plan.form == "netcdf" else "json"
        if plan.price.bytes > MIB:
            self._rates[kind] = 0.7 * self._rates[kind] + 0.3 * plan.price.bytes / max(seconds, 1e-3)

    def _json(self, plan: Plan, patience: Patience) -> bytes:
        content = coveragejson.encode(self._cut(plan, patience), public_url=self.public_url)
        self._remember(plan, len(content))
        return content

    def _cut(self, plan: Plan, patience: Patience) -> Cut:
        point = plan.place is not None and plan.place.kind == "position"
        return replace(plan.opened.cut(plan.windows, patience=patience), point=point)

    def _csv(self, plan: Plan, patience: Patience) -> bytes:
        return table.encode(self._cut(plan, patience))

    def _netcdf(self, plan: Plan, patience: Patience) -> BinaryIO:
        address = plan.shown.texts.dataset_id, plan.shown.version.version_id
        store = self._engine.path(*address)
        folder = self._scratch / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True)
            request = encode_request(plan, folder / "answer.nc", store)
            self._children.run(
                "encode",
                request,
                read=[store.parent],
                write=[folder],
                declared_bytes=plan.price.bytes,
                progress=lambda *_: patience(),
            )
            return (folder / "answer.nc").open("rb", buffering=0)
        except SourceRejected as error:
            if error.reason in ("timed-out", "too-big"):
                raise _too_slow() from error
            raise Corrupt(f"The data of {address[0]} could not be encoded.", next_step="Tell the administrator.") from error
        except OSError as error:
            raise NoSpace("There is no room for a temporary file.", next_step="Try a smaller part.") from error
        finally:
            # On Linux the open file outlives its name: nothing is left whatever happens while it is sent.
            shutil.rmtree(folder, ignore_errors=True)


def encode_request(plan: Plan, target: Path, store: Path) -> dict[str, Any]:
    """Return what the encoding child is told, JSON values only."""
    from base64 import b64encode

    mask = None
    if plan.windows.mask is not None:
        import numpy as np

        inside = plan.windows.mask.inside
        mask = {
            "dimensions": list(plan.windows.mask.dimensions),
            "shape": list(inside.shape),
            "bits": b64encode(np.packbits(inside).tobytes()).decode(),
        }
    return {
        "target": str(target),
        "store": str(store),
        "description": plan.description.model_dump(mode="json"),
        "fields": list(plan.windows.fields),
        "everything": plan.download and plan.selection.properties is None,
        "windows": {
            name: {"runs": [[run.start, run.stop, run.shift] for run in window.runs], "sliced": window.sliced}
            for name, window in plan.windows.along.items()
        },
        "mask": mask,
        "as_stored": plan.download,
    }


# --- what is said of an answer -----------------------------------------------------------------------------------------


def headers(plan: Plan, *, public_url: str) -> dict[str, str]:
    """Return ``Content-Crs, Content-Bbox, Content-Datetime`` of what is returned."""
    told: dict[str, str] = {}
    crs = storage_crs(plan.description)
    if plan.description.spatial.family != "none":
        own = f"{public_url}/ogcapi/collections/{ogc.name_of(plan.shown)}#storageCrs"
        told["Content-Crs"] = f"<{own if crs == 'native' else coveragejson.crs_uri(crs)}>"
    box = _box(plan)
    if box is not None:
        told["Content-Bbox"] = ",".join(f"{edge:.10g}" for edge in box)
    if plan.selection.scale is not None:
        told["Content-Interpolation"] = "nearest-neighbor"
    span = period(plan)
    if span is not None:
        told["Content-Datetime"] = span[0] if span[0] == span[1] else "/".join(span)
    return told


def period(plan: Plan) -> tuple[str, str] | None:
    """Return first and last label of the time that is returned."""
    axis = time_axis(plan.description)
    if axis is None or axis.name not in plan.opened.labels().values:
        return None
    values = plan.opened.labels().values[axis.name]
    window = None if axis.scalar else plan.windows.along.get(axis.dimension)
    if not axis.scalar and window is None:
        return None
    taken = values if window is None else values[window.indices()]
    return str(stamp_at(int(taken.min()))), str(stamp_at(int(taken.max())))


def _box(plan: Plan) -> tuple[float, float, float, float] | None:
    """Return the outer edges of the cells that are returned, in the native reference system."""
    description, labels = plan.description, plan.opened.labels()
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is None or y is None or description.spatial.family not in ("rectilinear", "projected"):
        return None
    ends: list[tuple[float, float]] = []
    for axis in (x, y):
        window = plan.windows.along.get(axis.dimension)
        if axis.scalar or window is None:
            return None
        lower, upper = cells(description, axis, labels)
        pieces = [(lower[run.start : run.stop] + run.shift, upper[run.start : run.stop] + run.shift) for run in window.runs]
        ends.append((min(float(low.min()) for low, _ in pieces), max(float(high.max()) for _, high in pieces)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def file_name(plan: Plan) -> str:
    """Return ``{id}_{start}_{end}.nc`` (or ``.csv``); days alone where every label is at midnight."""
    span = period(plan)
    name, ending = plan.shown.texts.dataset_id, "csv" if plan.form == "csv" else "nc"
    if span is None:
        return f"{name}.{ending}"
    midnight = all(end.endswith("T00:00:00Z") for end in span)
    return "_".join([name, *(end[:10] if midnight else end.replace(":", "").replace("-", "") for end in span)]) + f".{ending}"


# --- sizes ---------------------------------------------------------------------------------------------------------------


def _with_everything(description: CubeDescription, windows: Windows) -> Windows:
    """Return the windows for every variable that holds data, those apart from the main axes with them."""
    data = tuple(variable.name for variable in description.variables if variable.role in ("data", "auxiliary"))
    along = dict(windows.along)
    for name in data:
        variable = description.variable(name)
        for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
            along.setdefault(dimension, Window(dimension, (Run(0, size),)))
    kept = tuple(
        name for name in data if all(windows.along[d].size for d in description.variable(name).dimensions if d in windows.along)
    )
    return replace(windows, fields=kept, along=along)


def _netcdf_size(plan: Plan) -> int:
    """Return the bytes of the file: values as stored, uncompressed, and what HDF5 keeps of each variable and attribute."""
    opened = plan.opened
    names = opened.names() if plan.download and plan.selection.properties is None else opened.needed(plan.windows.fields)
    size = _NETCDF_VARIABLE * len(names) + 3 * len(str(opened.global_attributes()))
    for name in names:
        lengths = [
            plan.windows.along[dimension].size if dimension in plan.windows.along else length
            for dimension, length in zip(opened.dimensions(name), opened.shape(name), strict=True)
        ]
        size += math.prod(lengths) * (opened.dtype(name).itemsize if opened.dtype(name).kind in "iufb" else 48)
    return size


def _csv_size(plan: Plan) -> int:
    """Return the bytes of the table: each row has its labels again."""
    labels = plan.opened.labels().values
    clock = time_axis(plan.description)
    size = 0.0
    for group in coveragejson.groups(plan.description, plan.windows):
        rows = math.prod(plan.windows.shape(group.fields[0].dimensions))
        width = 1.0
        for dimension in group.fields[0].dimensions:
            axis = next((each for each in plan.description.axes if each.dimension == dimension and not each.scalar), None)
            known = axis is not None and axis.name in labels
            width += 4.0 if axis is None or not known else 21.0 if axis is clock else _mean_length(labels[axis.name])
        width += 18.0 * len(group.composite)
        size += rows * (width + sum(_value_length(plan, field.name) for field in group.fields))
    return int(size)


def _json_size(plan: Plan) -> int:
    """Return the bytes of the document: labels as they will be written, values like those between the least and greatest."""
    import orjson

    description = plan.description
    size = 500.0
    for group in coveragejson.groups(description, plan.windows):
        copies = group.coverages(plan.windows)
        axes = 0.0
        for axis in group.named.values():
            labels = plan.opened.labels().values[axis.name]
            window = None if axis.scalar else plan.windows.along[axis.dimension]
            length = 24.0 if axis is time_axis(description) else _mean_length(labels)
            edges = 2 * length if axis.name in plan.opened.labels().bounds else 0
            axes += (1 if window is None else window.size) * (length + edges)
        if group.composite:
            axes += 34.0 * math.prod(plan.windows.shape(group.composite))
        size += copies * (axes + 150)
        for variable in group.fields:
            values = math.prod(plan.windows.shape(variable.dimensions))
            size += values * _value_length(plan, variable.name) + copies * 100 + 300
    crs = description.spatial.crs
    size += len(orjson.dumps(crs.wkt2)) if crs is not None and crs.wkt2 and not crs.authority else 0
    return int(size)


def _value_length(plan: Plan, name: str) -> float:
    """Return the mean length of a written value, from evenly spread values of its own range, type and packing."""
    import numpy as np

    variable = plan.description.variable(name)
    low, high = variable.valid_min, variable.valid_max
    if low is None or high is None:
        return (
            5.0 if np.dtype("f4").kind == "f" and not variable.decoded_dtype.startswith(("str", "<U", "object", "String")) else 12.0
        )
    spread = low + (high - low) * ((np.arange(256) * 0.6180339887498949) % 1)
    attributes = plan.opened.attributes(name)
    scale, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    if scale is not None or offset is not None:
        stored = np.round((spread - float(offset or 0)) / float(scale or 1)).astype(
            variable.dtype if "int" in variable.dtype else "int64"
        )
        return _mean_length(plan.opened.decode_like(name, stored))
    return _mean_length(spread.astype(variable.decoded_dtype))


def _kind_of(plan: Plan) -> tuple[str, ...]:
    return (plan.shown.version.version_id, plan.form, *plan.windows.fields)


def _is_number(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "float", "bool"))


def _mean_length(values: Any) -> float:
    """Return the mean length of values as JSON, each with its comma."""
    import numpy as np
    import orjson

    if values.dtype.kind not in "iuf":
        return float(np.mean([len(str(value).encode()) + 3 for value in values[:256].tolist()]))
    sample = np.ascontiguousarray(values[:: max(1, values.size // 256)], dtype=values.dtype.newbyteorder("="))
    return (len(orjson.dumps(sample, option=orjson.OPT_SERIALIZE_NUMPY)) - 1) / max(1, sample.size)


def _too_slow() -> Unavailable:
    return Unavailable("The answer takes too long.", retry_after_s=5, next_step="Ask for less, or read the Zarr store.")


def _sweep(scratch: Path) -> None:
    """Remove what processes that are gone have left."""
    for folder in scratch.glob("*-*") if scratch.is_dir() else ():
        owner = folder.name.partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
