"""The part of a child that copies the assembled cube of a version into one NetCDF-4 file, and compares both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubeport.adapters.encoders.netcdf import NotNetCDF, copy
from cubeport.adapters.engines.manifest import COPY
from cubeport.adapters.engines.opened import OpenedVersion
from cubeport.adapters.gate.parent import parent_of
from cubeport.adapters.sandbox import child
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.part import Part
from cubeport.cubes.windows import Cost, Windows
from cubeport.errors import Problem, SourceRejected

_DECODED_BYTES = 128 * 2**20
"""Bytes of decoded chunks that are kept, because a strip can be a part of a chunk."""


def write(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Write ``target/copy.nc``.

    ``request``: ``folder`` and ``digest`` of the version, whether the service ``brings`` objects there, its ``description``,
    ``target``.

    Raises
    ------
    SourceRejected
        ``not-netcdf``, with every part of the version that the format cannot hold.
    """
    cube = CubeDescription.model_validate(request["description"])
    opened = OpenedVersion(parent_of(request, context), "", "", cube, Bounded(_DECODED_BYTES))
    windows = Windows(tuple(each.name for each in cube.variables if each.role == "data"), {})
    part = Part(opened, windows, Cost(0, 0, 0, 0), "", as_stored=True, everything=True)
    try:
        copy(part, Path(request["target"]) / COPY, lambda: None)
    except NotNetCDF as error:
        raise SourceRejected(
            f"The version cannot be copied into a NetCDF-4 file: {error.problems[0]}"
            + (f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""),
            reason="not-netcdf",
            errors=[Problem(("source",), "not-netcdf", each[:500]) for each in error.problems[:100]],
        ) from error
    return {}
