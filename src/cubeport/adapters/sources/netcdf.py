"""NetCDF-4 and HDF5 by h5netcdf, whose HDF5 is that of the gate; the classic formats by netCDF4."""

from __future__ import annotations

from collections.abc import Collection

import xarray as xr

from cubeport.adapters.sources.reading import RAW, Source, check_group, opened, opening


def open_hdf5(
    path: str, name: str, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> Source:
    """Return the file as one lazy source; dimensions without a scale get the names that netCDF gives them."""
    check_group(name, group, lambda: _hdf5_groups(path, name))
    with opening(name):
        raw = xr.open_dataset(path, engine="h5netcdf", group=group, phony_dims="sort", drop_variables=list(skipped), **RAW)
    return opened(name, raw, wanted, skipped, lambda: _hdf5_groups(path, name), group=group)


def open_classic(
    path: str, name: str, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> Source:
    """Return a classic file (CDF-1, 2 or 5) as one lazy source."""
    check_group(name, group, list)
    with opening(name):
        raw = xr.open_dataset(path, engine="netcdf4", group=group, drop_variables=list(skipped), **RAW)
    return opened(name, raw, wanted, skipped, list, group=group)


def _hdf5_groups(path: str, name: str) -> list[str]:
    """Return the paths of all groups that hold variables."""
    import h5netcdf

    found: list[str] = []

    def visit(group: h5netcdf.Group) -> None:
        for child in group.groups.values():
            if child.variables:
                found.append(child.name.strip("/"))
            visit(child)

    with opening(name), h5netcdf.File(path, "r", phony_dims="sort") as file:
        visit(file)
    return found
