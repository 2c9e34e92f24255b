"""Zarr folders, version 2 and 3. Consolidated metadata of the source are not read: they may tell another story than the arrays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import xarray as xr

from cubeport.adapters.sources.reading import RAW, Source, check_group, dataset, opened, opening
from cubeport.errors import SourceRejected


def open_zarr(
    path: str, name: str, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> Source:
    """Return the folder as one lazy source."""
    from cubeport.adapters.sources.zarrstore import FolderStore  # here: zarr may not be installed where only NetCDF is read

    with opening(name):
        store: Any = FolderStore(name, path)  # xarray's types know no stores of zarr
        check_group(name, group, lambda: _groups(store, name))
        try:
            listed = xr.open_dataset(store, engine="zarr", group=group, consolidated=False, drop_variables=list(skipped), **RAW)
        except KeyError as error:  # xarray's word for an array that does not name its dimensions
            raise SourceRejected(
                f"{name} has arrays that do not name their dimensions",
                reason="not-a-cube",
                source=name,
                next_step="write it with xarray, or set dimension_names (version 2: _ARRAY_DIMENSIONS)",
            ) from error
    # A folder has no order: the same source gives the same bytes only when its variables are given one.
    raw = dataset({name: listed.variables[name] for name in sorted(map(str, listed.variables))}, listed.attrs)
    return opened(name, raw, wanted, skipped, lambda: _groups(store, name), group=group)


def _groups(store: Any, name: str) -> list[str]:
    """Return the paths of all groups that hold arrays."""
    import zarr

    with opening(name):
        members = zarr.open_group(store, mode="r", use_consolidated=False).members(max_depth=None)
        arrays = [key for key, node in members if isinstance(node, zarr.Array)]
    return sorted({key.rpartition("/")[0] for key in arrays} - {""})
