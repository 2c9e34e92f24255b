"""The task of the confined child for ``netcdf`` and ``zarr``: scan the source, then read its metadata and coordinates, but no
data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.adapters.sandbox.child import Context
from cubeport.adapters.sources.contents import Group, joined
from cubeport.adapters.sources.formats import format_of, scan
from cubeport.adapters.sources.reading import OpenedSource, opening
from cubeport.catalog.extraction import ExtractionLimits, cut_to
from cubeport.cubes import describe
from cubeport.errors import CubeportError, UnsupportedMediaType

if TYPE_CHECKING:
    import xarray as xr


def extract(request: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return ``block, start, end, bbox, truncated`` of the one source.

    ``request`` contains ``extractor`` (``netcdf`` or ``zarr``) and the limits ``leaves`` and ``bytes``.
    """
    (source,) = context.sources
    found = scan(source, context.limits)
    context.declare(found.declared_bytes)
    form = format_of(source)
    if request["extractor"] != form.EXTRA:
        raise UnsupportedMediaType(f"{source.name} is {found.format}, not {request['extractor']}.")
    with opening(source.name):
        block = _block(found.format, list(form.contents(source.path)))
    if request["extractor"] == "zarr":
        block["consolidated"] = _consolidated(source.path)
    start, end, bbox = _extent(lambda: form.open(source), block)
    kept, truncated = cut_to(block, ExtractionLimits(request["bytes"], request["leaves"]))
    return {"block": kept, "start": start, "end": end, "bbox": bbox, "truncated": truncated}


def _block(form: str, groups: list[Group]) -> dict[str, Any]:
    """Return the block, with the most useful parts first, because it may be truncated."""
    root = next(group for group in groups if group.path == "")
    variables = {joined(group.path, name): value for group in groups for name, value in group.variables.items()}
    coordinates = sorted(name for name, value in variables.items() if value["dimensions"] == [name.rpartition("/")[2]])
    conventions = root.attributes.get("Conventions", root.attributes.get("conventions"))
    return {
        "format": form,
        "conventions": conventions,
        "dimensions": {joined(group.path, name): size for group in groups for name, size in group.dimensions.items()},
        "coordinates": coordinates,
        "attributes": dict(root.attributes),
        "variables": variables,
        "groups": {group.path: dict(group.attributes) for group in groups if group.path},
    }


def _consolidated(path: Path) -> bool:
    if (path / ".zmetadata").is_file():
        return True
    root = path / "zarr.json"
    if not root.is_file():
        return False
    import json

    return isinstance(json.loads(root.read_bytes()).get("consolidated_metadata"), dict)


def _extent(opened: Callable[[], OpenedSource], block: dict[str, Any]) -> tuple[str | None, str | None, list[float] | None]:
    """Return time and place by CF. If there are none, the block contains the reason."""
    try:
        return _measured(opened().raw)
    except CubeportError as exc:
        block["extent_unknown"] = exc.message
        return None, None, None


def _measured(raw: xr.Dataset) -> tuple[str | None, str | None, list[float] | None]:
    box, clocks = describe.where_and_when(raw)
    bbox = None if box is None else list(box)
    if not clocks:
        return None, None, bbox
    return min(each.index_start for each in clocks), max(each.index_end for each in clocks), bbox
