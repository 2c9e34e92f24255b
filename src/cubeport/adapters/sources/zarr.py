"""Zarr folders, version 2 and 3. Consolidated metadata of the source are not read: they may tell another story than the arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources import zarrfolder
from cubeport.adapters.sources.contents import Group, plain, variable
from cubeport.adapters.sources.reading import RAW, OpenedSource, check_group, opened, opening, parents, with_parents
from cubeport.adapters.sources.scanned import Scanned
from cubeport.cubes.raw import dataset
from cubeport.cubes.readers import reader
from cubeport.errors import SourceRejected

EXTRA = "zarr"


def matches(source: Input) -> bool:
    """Return whether the source is a folder: no other format is one."""
    return source.is_folder


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return what the store declares, all of it in the folder, decodable and within the limits."""
    return zarrfolder.scan(source.name, source.fd, limits)


def verify(source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()) -> None:
    """Check that no stored chunk of the arrays of *group*, but for those *left_out*, decodes to more than it may."""
    for each in (group, *parents(group)):
        zarrfolder.verify(source.name, source.fd, limits, pool, group=each, left_out=left_out)


def open(  # noqa: A001 - every format has it
    source: Input, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> OpenedSource:
    """Return the folder as one lazy source."""
    return open_zarr(str(source.path), source.name, group=group, wanted=wanted, skipped=skipped)


def open_zarr(
    path: str, name: str, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> OpenedSource:
    """Return the folder as one lazy source."""
    from cubeport.adapters.sources.zarrstore import FolderStore  # here: zarr may not be installed where only NetCDF is read

    with opening(name):
        store: Any = FolderStore(name, path)  # xarray's types know no stores of zarr
        check_group(name, group, lambda: _groups(store, name))

        def read(at: str | None) -> xr.Dataset:
            return xr.open_dataset(
                store, engine=reader("zarr"), group=at or None, consolidated=False, drop_variables=list(skipped), **RAW
            )

        try:
            listed = read(group)
            if above := parents(group):
                listed = with_parents(listed, [(each, read(each)) for each in above])
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


def contents(path: Path) -> Iterator[Group]:
    """Yield what each group says of itself, the root first; an array alone is the one variable of a root."""
    import zarr

    root = zarr.open(str(path), mode="r", use_consolidated=False)
    if isinstance(root, zarr.Array):
        yield Group("", {}, {"": _array(root)}, {})
        return
    groups: dict[str, Any] = {"": root}
    arrays: dict[str, dict[str, Any]] = {"": {}}
    for key, node in root.members(max_depth=None):
        if isinstance(node, zarr.Array):
            parent, _, name = key.rpartition("/")
            arrays.setdefault(parent, {})[name] = _array(node)
        else:
            groups[key] = node
            arrays.setdefault(key, {})
    for key, group in sorted(groups.items()):
        variables = dict(sorted(arrays[key].items()))
        sizes = {d: n for each in variables.values() for d, n in zip(each["dimensions"], each["shape"], strict=True)}
        yield Group(key, sizes, variables, plain(dict(group.attrs)))


def _array(node: Any) -> dict[str, Any]:
    attributes = dict(node.attrs)
    named = attributes.pop("_ARRAY_DIMENSIONS", None) or getattr(node.metadata, "dimension_names", None)
    dimensions = named or [f"dim_{i}" for i in range(node.ndim)]
    return variable(node.dtype, node.shape, dimensions, node.chunks, attributes)
