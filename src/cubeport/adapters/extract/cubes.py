"""The extractors ``netcdf`` and ``zarr``. A confined child reads the metadata of the source, never this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from cubeport.adapters.sources.signatures import is_hdf5, is_netcdf3
from cubeport.catalog.extraction import Extracted, ExtractionLimits
from cubeport.catalog.forms.canonical import json_value
from cubeport.catalog.models import TimeSpan
from cubeport.errors import ExtraMissing, SourceRejected

_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


class Runs(Protocol):
    """The part of the gate that extraction needs (``adapters.sandbox.children.Children``)."""

    def run(self, task: str, request: Mapping[str, Any], *, sources: Any = ()) -> Mapping[str, Any]:
        """Run *task* in a child on *sources* and return its answer, which is untrusted."""


class _InChild:
    """The common part of both extractors: the extra that they need, the child, and the checks of its answer."""

    name: str
    version = "1"
    needs: tuple[str, ...]

    def __init__(self, children: Callable[[], Runs]) -> None:
        self._children = children

    def extract(self, source: Path, limits: ExtractionLimits) -> Extracted:
        """Return the checked answer of the child. Raises ExtraMissing, SourceRejected."""
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            raise ExtraMissing(
                f"{source.name} cannot be read: {', '.join(missing)} is not installed",
                next_step=f"pip install 'cubeport[{self.name}]'",
                what=self.name,
            )
        request = {"extractor": self.name, "leaves": limits.leaves, "bytes": limits.block_bytes}
        said = self._children().run("extract", request, sources=[source.resolve()])
        match said:
            case {"block": dict(block), "start": start, "end": end, "bbox": bbox, "truncated": bool(truncated)}:
                time = None if start is None and end is None else TimeSpan.from_mapping({"start": start, "end": end})
                return Extracted(dict(json_value(block)), time, _box(bbox), truncated)  # type: ignore[arg-type]  # an object stays an object
        raise SourceRejected(f"the answer about {source.name} is not valid", reason="crashed", source=source.name)


def _box(value: Any) -> tuple[float, float, float, float] | None:
    match value:
        case [float() | int() as w, float() | int() as s, float() | int() as e, float() | int() as n]:
            if -180 <= w <= 180 and -180 <= e <= 180 and -90 <= s <= n <= 90:
                return float(w), float(s), float(e), float(n)
    return None


class NetCDFExtractor(_InChild):
    """``netcdf``: groups, dimensions, coordinates, variables, attributes, conventions; its time and place."""

    name = "netcdf"
    needs = ("xarray", "h5netcdf", "h5py", "netCDF4", "cftime", "pyproj")

    def accepts(self, source: Path) -> bool:
        """Decide by the first bytes, not by the name."""
        if not source.is_file():
            return False
        with source.open("rb") as file:
            return is_netcdf3(file.fileno()) or is_hdf5(file.fileno())


class ZarrExtractor(_InChild):
    """``zarr``: the same for a Zarr folder, and whether its metadata are consolidated."""

    name = "zarr"
    needs = ("xarray", "zarr", "numcodecs", "pyproj")

    def accepts(self, source: Path) -> bool:
        """Decide by the metadata file of the root."""
        return source.is_dir() and any((source / name).is_file() for name in _ZARR)
