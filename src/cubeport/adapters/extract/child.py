"""What the confined child does for ``netcdf`` and ``zarr``: scan the source, then read its metadata and coordinates, no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.adapters.sandbox.child import Context
from cubeport.adapters.sources import netcdf
from cubeport.adapters.sources import zarr as zarr_source
from cubeport.adapters.sources.formats import scan
from cubeport.adapters.sources.reading import Source, opening
from cubeport.catalog.extraction import Limits, cut_to
from cubeport.cubes import describe, footprint
from cubeport.errors import CubeportError, UnsupportedMediaType

if TYPE_CHECKING:
    import xarray as xr

type Node = tuple[str, dict[str, int], dict[str, dict[str, Any]], dict[str, Any]]
"""A group: its path, dimensions, variables and attributes."""


def extract(request: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return ``block, start, end, bbox, truncated`` of the one source.

    ``request``: ``extractor`` (``netcdf`` or ``zarr``), ``leaves`` and ``bytes`` that are kept.
    """
    (source,) = context.sources
    found = scan(source, context.limits)
    context.declare(found.declared_bytes)
    readers = _READERS[request["extractor"]]
    if found.format not in readers:
        raise UnsupportedMediaType(f"{source.name} is {found.format}, not {request['extractor']}.")
    walk, opener = readers[found.format]
    with opening(source.name):
        block = _block(found.format, list(walk(str(source.path))))
    if request["extractor"] == "zarr":
        block["consolidated"] = _consolidated(source.path)
    start, end, bbox = _extent(lambda: opener(str(source.path), source.name), block)
    kept, truncated = cut_to(block, Limits(request["bytes"], request["leaves"]))
    return {"block": kept, "start": start, "end": end, "bbox": bbox, "truncated": truncated}


def _block(form: str, nodes: list[Node]) -> dict[str, Any]:
    """Return the block, what is asked for most in front: it may be cut."""
    root = next(node for node in nodes if node[0] == "")
    variables = {_join(path, name): value for path, _, held, _ in nodes for name, value in held.items()}
    coordinates = sorted(name for name, value in variables.items() if value["dimensions"] == [name.rpartition("/")[2]])
    conventions = root[3].get("Conventions", root[3].get("conventions"))
    return {
        "format": form,
        "conventions": conventions,
        "dimensions": {_join(path, name): size for path, sizes, _, _ in nodes for name, size in sizes.items()},
        "coordinates": coordinates,
        "attributes": root[3],
        "variables": variables,
        "groups": {path: attributes for path, _, _, attributes in nodes if path},
    }


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _variable(dtype: Any, shape: Any, dimensions: Any, chunks: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dtype": "string" if getattr(dtype, "kind", "O") in ("O", "T", "S", "U") else str(dtype),
        "shape": [int(length) for length in shape],
        "dimensions": [str(each) for each in dimensions],
        "chunks": None if chunks is None or isinstance(chunks, str) else [int(length) for length in chunks],
        "attributes": _said(attributes),
    }


# HDF5 keeps these for itself; they say nothing of the data.
_INTERNAL = frozenset(("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "DIMENSION_LIST", "REFERENCE_LIST"))


def _said(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {_text(str(key)): _texts(describe.plain(value)) for key, value in attributes.items() if key not in _INTERNAL}


def _texts(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case list():
            return [_texts(each) for each in value]
        case dict():
            return {_text(key): _texts(each) for key, each in value.items()}
    return value


def _text(value: str) -> str:
    """Return *value* as JSON can say it: libraries keep bytes that are no UTF-8 as lone surrogates."""
    return value.encode("utf-8", "replace").decode().replace("\0", "")


def _hdf5(path: str) -> Iterator[Node]:
    import h5netcdf

    def visit(group: Any, name: str) -> Iterator[Node]:
        variables = {
            key: _variable(each.dtype, each.shape, each.dimensions, each.chunks, each.attrs)
            for key, each in group.variables.items()
        }
        sizes = {key: int(each.size) for key, each in group.dimensions.items()}
        yield name, sizes, variables, _said(group.attrs)
        for key, child in group.groups.items():
            yield from visit(child, _join(name, key))

    with h5netcdf.File(path, "r", phony_dims="sort") as file:
        yield from visit(file, "")


def _classic(path: str) -> Iterator[Node]:
    import netCDF4

    with netCDF4.Dataset(path) as file:
        variables = {
            key: _variable(each.dtype, each.shape, each.dimensions, None, {name: each.getncattr(name) for name in each.ncattrs()})
            for key, each in file.variables.items()
        }
        sizes = {key: len(each) for key, each in file.dimensions.items()}
        yield "", sizes, variables, _said({name: file.getncattr(name) for name in file.ncattrs()})


def _zarr(path: str) -> Iterator[Node]:
    import zarr

    root = zarr.open(path, mode="r", use_consolidated=False)
    if isinstance(root, zarr.Array):
        yield "", {}, {"": _array(root)}, {}
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
        yield key, sizes, variables, _said(dict(group.attrs))


def _array(node: Any) -> dict[str, Any]:
    attributes = dict(node.attrs)
    named = attributes.pop("_ARRAY_DIMENSIONS", None) or getattr(node.metadata, "dimension_names", None)
    dimensions = named or [f"dim_{i}" for i in range(node.ndim)]
    return _variable(node.dtype, node.shape, dimensions, node.chunks, attributes)


def _consolidated(path: Path) -> bool:
    if (path / ".zmetadata").is_file():
        return True
    root = path / "zarr.json"
    if not root.is_file():
        return False
    import json

    return isinstance(json.loads(root.read_bytes()).get("consolidated_metadata"), dict)


def _extent(opened: Callable[[], Source], block: dict[str, Any]) -> tuple[str | None, str | None, list[float] | None]:
    """Return time and place as CF tells them; where it does not, the block says why."""
    try:
        return _measured(opened().raw)
    except CubeportError as exc:
        block["extent_unknown"] = exc.message
        return None, None, None


def _measured(raw: xr.Dataset) -> tuple[str | None, str | None, list[float] | None]:
    spatial, temporal = describe.where_and_when(raw)
    bbox = (
        None
        if spatial.family == "none" or (spatial.bbox == footprint.WORLD and spatial.native_bbox is None)
        else list(spatial.bbox)
    )
    if temporal is None:
        return None, None, bbox
    return temporal.index_start, temporal.index_end, bbox


_READERS: Mapping[str, Mapping[str, tuple[Callable[[str], Iterator[Node]], Callable[[str, str], Source]]]] = {
    "netcdf": {"hdf5": (_hdf5, netcdf.open_hdf5), "netcdf4": (_hdf5, netcdf.open_hdf5), "netcdf3": (_classic, netcdf.open_classic)},
    "zarr": {
        "zarr": (_zarr, zarr_source.open_zarr),
        "zarr2": (_zarr, zarr_source.open_zarr),
        "zarr3": (_zarr, zarr_source.open_zarr),
    },
}
