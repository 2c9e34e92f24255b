"""xarray's readers of files and stores, by class: asked for one by name, xarray first loads every backend that is installed.

With cfgrib among them that takes seconds, and ecCodes next to a PROJ that is loaded later crashes the process (adr/0018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from xarray.backends import BackendEntrypoint


def reader(name: Literal["zarr", "h5netcdf", "netcdf4"]) -> type[BackendEntrypoint]:
    """Return what ``xarray.open_dataset`` takes as its ``engine`` in place of the name."""
    from xarray import backends

    found: type[BackendEntrypoint] = {
        "zarr": backends.ZarrBackendEntrypoint,
        "h5netcdf": backends.H5netcdfBackendEntrypoint,
        "netcdf4": backends.NetCDF4BackendEntrypoint,
    }[name]
    if found.open_dataset_parameters is None:  # xarray fills it in for engines that it looks up by name, and asks for it always
        found.open_dataset_parameters = backends.plugins.detect_parameters(found.open_dataset)
    return found
