"""Zarr folders, versions 2 and 3. Consolidated metadata of the source are not read, because they can differ from the arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources import zarrfolder
from cubeport.adapters.sources.contents import Group, plain, variable
from cubeport.adapters.sources.excerpts import ExcerptArray, excerpt_of, guarded
from cubeport.adapters.sources.reading import RAW, OpenedSource, check_group, opened, opening, parents, with_parents
from cubeport.adapters.sources.scanned import Scanned
from cubeport.cubes.raw import dataset
from cubeport.cubes.readers import reader
from cubeport.errors import SourceRejected

EXTRA = "zarr"


def matches(source: Input) -> bool:
    """Return whether the source is a folder. No other format is a folder."""
    return source.is_folder


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return the arrays that the store declares. Everything must be in the folder, decodable and within the limits."""
    return zarrfolder.scan(source.name, source.fd, limits)


def verify(source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()) -> None:
    """Check that no stored chunk of the arrays of *group*, except those in *left_out*, decodes to more than its limit."""
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
    from cubeport.adapters.sources.zarrstore import FolderStore  # imported here, because zarr is optional if only NetCDF is read

    with opening(name):
        store: Any = FolderStore(name, path)  # xarray's types do not include zarr stores
        check_group(name, group, lambda: _groups(store, name))

        excerpt = excerpt_of(Path(path), name)
        parts: list[ExcerptArray] = []

        def read(at: str | None) -> xr.Dataset:
            found = xr.open_dataset(
                store, engine=reader("zarr"), group=at or None, consolidated=False, drop_variables=list(skipped), **RAW
            )
            if excerpt is None:
                return found
            found, more = guarded(name, (at or "").strip("/"), found, excerpt)
            parts.extend(more)
            return found

        try:
            listed = read(group)
            if above := parents(group):
                listed = with_parents(listed, [(each, read(each)) for each in above])
        except KeyError as error:  # xarray raises it for an array that does not name its dimensions
            raise SourceRejected(
                f"{name} has arrays that do not name their dimensions",
                reason="not-a-cube",
                source=name,
                next_step="write it with xarray, or set dimension_names (version 2: _ARRAY_DIMENSIONS)",
            ) from error
    # A folder has no order, so variables are sorted. Otherwise the same source could give different bytes.
    raw = dataset({name: listed.variables[name] for name in sorted(map(str, listed.variables))}, listed.attrs)
    return replace(opened(name, raw, wanted, skipped, lambda: _groups(store, name), group=group), excerpts=tuple(parts))


def _groups(store: Any, name: str) -> list[str]:
    """Return the paths of all groups that contain arrays."""
    import zarr

    with opening(name):
        members = zarr.open_group(store, mode="r", use_consolidated=False).members(max_depth=None)
        arrays = [key for key, node in members if isinstance(node, zarr.Array)]
    return sorted({key.rpartition("/")[0] for key in arrays} - {""})


def contents(path: Path) -> Iterator[Group]:
    """Yield the description of each group, the root first. A single array is the only variable of its root."""
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
