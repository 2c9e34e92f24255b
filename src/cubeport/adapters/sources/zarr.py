"""Zarr folders, version 2 and 3. Consolidated metadata of the source are not read: they may tell another story than the arrays."""

from __future__ import annotations

from collections.abc import Collection

import xarray as xr

from cubeport.adapters.sources.reading import RAW, Source, dataset, opened, opening


def open_zarr(
    path: str, name: str, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> Source:
    """Return the folder as one lazy source."""
    with opening(name):
        listed = xr.open_dataset(path, engine="zarr", group=group, consolidated=False, **RAW)
    # A folder has no order: the same source gives the same bytes only when its variables are given one.
    raw = dataset({name: listed.variables[name] for name in sorted(map(str, listed.variables))}, listed.attrs)
    return opened(name, raw, wanted, skipped, lambda: _groups(path, name))


def _groups(path: str, name: str) -> list[str]:
    """Return the paths of all groups that hold arrays."""
    import zarr

    with opening(name):
        members = zarr.open_group(path, mode="r", use_consolidated=False).members(max_depth=None)
        arrays = [key for key, node in members if isinstance(node, zarr.Array)]
    return sorted({key.rpartition("/")[0] for key in arrays} - {""})
