"""Describe the groups of a source: dimensions, variables and attributes as JSON values, without data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubeport.cubes import describe

_INTERNAL = frozenset(("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "DIMENSION_LIST", "REFERENCE_LIST"))
"""Internal attributes of HDF5 and netCDF. They do not describe the data."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of a source."""

    path: str
    """The path from the root, with parts joined by ``/``; empty for the root."""
    dimensions: Mapping[str, int]
    variables: Mapping[str, Mapping[str, Any]]
    """The variables by name; see :func:`variable`."""
    attributes: Mapping[str, Any]


def variable(dtype: Any, shape: Any, dimensions: Any, chunks: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``dtype, shape, dimensions, chunks, attributes`` of a variable as JSON values."""
    return {
        "dtype": "string" if getattr(dtype, "kind", "O") in ("O", "T", "S", "U") else str(dtype),
        "shape": [int(length) for length in shape],
        "dimensions": [str(each) for each in dimensions],
        "chunks": None if chunks is None or isinstance(chunks, str) else [int(length) for length in chunks],
        "attributes": plain(attributes),
    }


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *attributes* as JSON values, without the internal attributes of libraries."""
    return {_text(str(key)): _texts(describe.plain(value)) for key, value in attributes.items() if key not in _INTERNAL}


def joined(path: str, name: str) -> str:
    """Return the path of *name* in the group at *path*."""
    return f"{path}/{name}" if path else name


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
    """Return *value* as valid JSON text. Libraries represent bytes that are not UTF-8 as lone surrogates."""
    return value.encode("utf-8", "replace").decode().replace("\0", "")
