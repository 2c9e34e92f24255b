"""HDF5 and NetCDF-4, walked by h5py (:mod:`hdf5walk`) and opened by h5netcdf, which uses the same HDF5.

Plain files, which most are, are opened by h5py alone (:mod:`hdf5plain`), in a third of the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.contents import Group, joined, plain, variable
from cubeport.adapters.sources.reading import RAW, OpenedSource, check_group, opened, opening, parents, with_parents
from cubeport.adapters.sources.scanned import Scanned
from cubeport.adapters.sources.signatures import is_hdf5
from cubeport.adapters.sources.stored import Stored
from cubeport.cubes.readers import reader

EXTRA = "netcdf"

_COORDINATE = 2
"""The largest number of dimensions of a coordinate. From the groups above the selected group, only coordinates are read."""


def matches(source: Input) -> bool:
    """Return whether the file has an HDF5 signature."""
    return not source.is_folder and is_hdf5(source.fd)


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return the arrays that the file declares. Everything must be inside the file, decodable and within the limits."""
    from cubeport.adapters.sources import hdf5walk

    return hdf5walk.scan(source.name, source.fd, limits)


def verify(source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()) -> None:  # noqa: ARG001 - every format has it
    """Check that every stored chunk of the arrays of *group*, except those in *left_out*, decodes to its declared length."""
    from cubeport.adapters.sources import hdf5walk

    hdf5walk.verify(source.name, source.fd, pool, group=group, left_out=left_out)
    for above in parents(group):
        hdf5walk.verify(source.name, source.fd, pool, group=above, left_out=left_out, most_dimensions=_COORDINATE)


def open(  # noqa: A001 - every format has it
    source: Input, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> OpenedSource:
    """Return the file as one lazy source. Dimensions without a scale get the same names as in netCDF."""
    from cubeport.adapters.sources import hdf5plain, hdf5walk

    path, name = str(source.path), source.name
    driver = hdf5walk.driver_of(source.fd)
    if not (group or "").strip("/") and not skipped:
        with opening(name):
            plain_root = hdf5plain.read(path, driver)
        if plain_root is not None:
            return opened(name, plain_root, wanted, skipped, list, group=group)
    options = RAW if driver is None else {**RAW, "driver": driver}
    check_group(name, group, lambda: _groups(path, name, driver))

    def read(at: str | None) -> xr.Dataset:
        return xr.open_dataset(
            path,
            engine=reader("h5netcdf"),
            group=at or None,
            phony_dims="sort",
            drop_variables=list(skipped),
            **options,
        )

    with opening(name):
        raw = read(group)
        if above := parents(group):
            raw = with_parents(raw, [(each, read(each)) for each in above])
    return opened(name, raw, wanted, skipped, lambda: _groups(path, name, driver), group=group)


def stored(source: Input, *, group: str = "", variables: Collection[str] = ()) -> dict[str, Stored | str]:
    """Return how each variable of *group* is stored, or in words why its chunks cannot be pointed at."""
    from cubeport.adapters.sources import hdf5walk

    return hdf5walk.stored(source.name, source.fd, group, variables)


def _groups(path: str, name: str, driver: str | None) -> list[str]:
    """Return the paths of all groups that contain variables."""
    import h5py

    with opening(name):
        # Most files have none, which is known much sooner than what the groups contain.
        with h5py.File(path, "r", driver=driver) as file:
            if not any(file.get(key, getclass=True) is h5py.Group for key in file):
                return []
        return [group.path for group in _contents(Path(path), driver) if group.path and group.variables]


def contents(path: Path) -> Iterator[Group]:
    """Yield the description of each group, the root first."""
    return _contents(path, None)


def _contents(path: Path, driver: str | None) -> Iterator[Group]:
    import h5netcdf

    def visit(group: Any, name: str) -> Iterator[Group]:
        variables = {
            key: variable(each.dtype, each.shape, each.dimensions, each.chunks, each.attrs) for key, each in group.variables.items()
        }
        sizes = {key: int(each.size) for key, each in group.dimensions.items()}
        yield Group(name, sizes, variables, plain(group.attrs))
        for key, child in group.groups.items():
            yield from visit(child, joined(name, key))

    with h5netcdf.File(path, "r", phony_dims="sort", driver=driver) as file:
        yield from visit(file, "")
