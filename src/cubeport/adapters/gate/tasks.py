"""The tasks of confined children, and the libraries that their template imports. The sandbox itself knows neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sandbox.limits import SourceLimits

TASKS: Mapping[str, str] = {
    "write": "cubeport.adapters.gate.write:write",
    "write-runs": "cubeport.adapters.gate.write:write_runs",
    "verify": "cubeport.adapters.gate.write:verify",
    "needs": "cubeport.adapters.gate.needs:needs",
    "read-back": "cubeport.adapters.gate.shares:read_back",
    "measure": "cubeport.adapters.gate.measure:measure",
    "overviews": "cubeport.adapters.gate.overviews:write",
    "copy": "cubeport.adapters.gate.copying:write",
    "derive": "cubeport.adapters.gate.derive:derive",
    "scan": "cubeport.adapters.sources.formats:task",
    "extract": "cubeport.adapters.extract.child:extract",
}
"""All tasks as ``module:function``. Each is called as ``function(request, context)``."""

LIBRARIES = (
    *("numpy", "cftime", "h5py", "netCDF4", "h5netcdf.legacyapi", "numcodecs", "zarr", "xarray", "pandas"),
    "cubeport.adapters.sources.hdf5walk",
    "cubeport.adapters.gate.warm",
)
"""The modules that the template imports once, if they are installed."""


def confined(
    limits: SourceLimits | None = None,
    *,
    tasks: Mapping[str, str] = TASKS,
    modules: Sequence[Path] = (),
    libraries: Sequence[str] = LIBRARIES,
) -> Children:
    """Return children for the tasks of this package; see :class:`~cubeport.adapters.sandbox.children.Children`."""
    return Children(limits, tasks=tasks, modules=modules, libraries=libraries)
