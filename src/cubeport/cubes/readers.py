"""xarray's readers of files and stores, by class. If it gets the name of a reader, xarray first loads every installed backend.

With cfgrib installed this takes seconds, and ecCodes crashes the process if PROJ is loaded after it (adr/0018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from xarray.backends import BackendEntrypoint


def reader(name: Literal["zarr", "h5netcdf", "netcdf4"]) -> type[BackendEntrypoint]:
    """Return the class that ``xarray.open_dataset`` accepts as ``engine`` instead of the name."""
    from xarray import backends

    found: type[BackendEntrypoint] = {
        "zarr": backends.ZarrBackendEntrypoint,
        "h5netcdf": backends.H5netcdfBackendEntrypoint,
        "netcdf4": backends.NetCDF4BackendEntrypoint,
    }[name]
    if found.open_dataset_parameters is None:  # xarray fills it in for engines that it looks up by name, and always needs it
        found.open_dataset_parameters = backends.plugins.detect_parameters(found.open_dataset)
    return found
