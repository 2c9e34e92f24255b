"""A Zarr v3 store as Zarr v2: the same chunks, with the names and documents of the older format. Pure functions.

GDAL before 3.11, netCDF-Java and early readers of Zarr only support version 2. Chunks are identical if the codecs are. Anything
that version 2 cannot express (shards, checksums, transposed axes) is omitted, with the reason.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cubeport.cubes.description import Crs, CubeDescription

type Json = dict[str, Any]

_TYPES = {
    "bool": "|b1",
    "int8": "|i1",
    "uint8": "|u1",
    **{f"{name}{bits}": f"<{code}{bits // 8}" for name, code in (("int", "i"), ("uint", "u")) for bits in (16, 32, 64)},
    **{f"float{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True)
class Array:
    """One array in version 2."""

    zarray: Json
    zattrs: Json
    absent: Any = None
    """The value of missing chunks, if a reader of version 2 would not know it; otherwise ``None``."""
    is_made: bool = False
    """Whether no chunk of the store has its type, so that all are made of ``absent``."""

    @property
    def counts(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return tuple(math.ceil(size / length) for size, length in zip(self.zarray["shape"], self.zarray["chunks"], strict=True))

    def empty_chunk(self) -> bytes:
        """Return the bytes of a chunk that is not stored, compressed as the others are."""
        import numpy as np
        from numcodecs.registry import get_codec

        values = np.full(self.zarray["chunks"], self.absent, dtype=self.zarray["dtype"])
        compressor = self.zarray["compressor"]
        return values.tobytes() if compressor is None else bytes(get_codec(compressor).encode(values))


@dataclass(frozen=True)
class View:
    """A version as Zarr v2: its groups and arrays by path. The path of the root is empty."""

    groups: Mapping[str, Json]
    arrays: Mapping[str, Array]
    left_out: Mapping[str, str]

    @classmethod
    def of(cls, root: Mapping[str, Any], cube: CubeDescription) -> View:
        """Return the view of a consolidated root document (``zarr.json``).

        Parameters
        ----------
        cube
            The description of the same version. Its reference system becomes the attribute ``_CRS``, which GDAL uses.
        """
        groups: dict[str, Json] = {"": dict(root.get("attributes", {}))}
        arrays: dict[str, Array] = {}
        left_out: dict[str, str] = {}
        mappings = {each.name for each in cube.variables if each.role == "grid_mapping"}
        for path, node in root.get("consolidated_metadata", {}).get("metadata", {}).items():
            if node["node_type"] == "group":
                groups[path] = dict(node.get("attributes", {}))
                continue
            try:
                if path in mappings and node["data_type"] == "string" and not node["shape"]:
                    arrays[path] = _mapping(node)
                    continue
                arrays[path] = _array(node, crs_of(cube) if _is_on_grid(cube, node) else None)
            except ValueError as exc:
                left_out[path] = str(exc)
        return cls(groups, arrays, left_out)

    def document(self, path: str, leaf: str) -> Json | None:
        """Return the document of a node: ``.zgroup``, ``.zattrs``, ``.zarray``; at the root also ``.zmetadata``."""
        match leaf:
            case ".zgroup" if path in self.groups:
                return {"zarr_format": 2}
            case ".zattrs" if path in self.groups:
                return self.groups[path]
            case ".zattrs" if path in self.arrays:
                return self.arrays[path].zattrs
            case ".zarray" if path in self.arrays:
                return self.arrays[path].zarray
            case ".zmetadata" if not path:
                return {"zarr_consolidated_format": 1, "metadata": self._consolidated()}
        return None

    def _consolidated(self) -> Json:
        found: Json = {}
        for path, attributes in self.groups.items():
            below = f"{path}/" if path else ""
            found |= {f"{below}.zgroup": {"zarr_format": 2}, f"{below}.zattrs": attributes}
        for path, array in self.arrays.items():
            found |= {f"{path}/.zarray": array.zarray, f"{path}/.zattrs": array.zattrs}
        return found


def crs_of(cube: CubeDescription) -> Json | None:
    """Return the reference system of the grid for GDAL's Zarr driver (``_CRS``), or ``None`` if it is unknown."""
    spatial = cube.spatial
    crs: Crs | None = spatial.system
    if crs is None or spatial.family not in ("rectilinear", "projected"):
        return None
    if spatial.family == "rectilinear" and spatial.to_crs != 1.0:
        return None  # GDAL reads the stored labels, which are not degrees
    if crs.authority is not None and crs.authority.startswith("EPSG:"):
        return {"url": f"http://www.opengis.net/def/crs/EPSG/0/{crs.authority.removeprefix('EPSG:')}"}
    if crs.authority == "OGC:CRS84":
        return {"url": "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "wkt": _CRS84}
    return {"wkt": crs.wkt2, "projjson": crs.projjson} if crs.wkt2 and crs.projjson else None


_CRS84 = (
    'GEOGCRS["WGS 84 (CRS84)",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563,LENGTHUNIT["metre",1]]],'
    'PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]],CS[ellipsoidal,2],'
    'AXIS["geodetic longitude (Lon)",east,ORDER[1],ANGLEUNIT["degree",0.0174532925199433]],'
    'AXIS["geodetic latitude (Lat)",north,ORDER[2],ANGLEUNIT["degree",0.0174532925199433]],ID["OGC","CRS84"]]'
)


def _is_on_grid(cube: CubeDescription, node: Mapping[str, Any]) -> bool:
    names = node.get("dimension_names") or ()
    axes = [axis.dimension for axis in cube.axes if axis.name in (cube.spatial.x, cube.spatial.y) and not axis.scalar]
    return len(axes) == 2 and set(axes) <= set(names)


def _array(node: Mapping[str, Any], crs: Json | None) -> Array:
    """Return an array of version 3 in version 2. Raises ValueError if version 2 cannot express it."""
    compressor, filters, big = _codecs(node["codecs"])
    if node["chunk_grid"]["name"] != "regular":
        raise ValueError("its chunks are not regular")
    separator = node.get("chunk_key_encoding", {}).get("configuration", {}).get("separator", "/")
    if node.get("chunk_key_encoding", {}).get("name", "default") != "default" or separator != "/":
        raise ValueError("its chunks have keys of their own")
    name = node["data_type"]
    is_text = name == "string"
    if not isinstance(name, str) or not (is_text or name in _TYPES):
        raise ValueError(f"version 2 has no type {name if isinstance(name, str) else name.get('name')}")
    attributes = dict(node.get("attributes", {}))
    fill, absent = None, None
    if not is_text:
        stored = _number(node["fill_value"], name)
        if "_FillValue" in attributes:
            fill = _number(attributes.pop("_FillValue"), name)
        # Readers treat fill_value as missing, so it must be a value that is missing in the data.
        absent = None if fill is not None and _same(fill, stored) else stored
    names = node.get("dimension_names")
    if names is not None and all(names):
        attributes["_ARRAY_DIMENSIONS"] = list(names)
    if crs is not None:
        attributes["_CRS"] = crs
    code = "|O" if is_text else _TYPES[name]
    zarray = {
        "zarr_format": 2,
        "shape": list(node["shape"]),
        "chunks": [max(1, each) for each in node["chunk_grid"]["configuration"]["chunk_shape"]],
        "dtype": code.replace("<", ">") if big else code,
        "compressor": compressor,
        "fill_value": _said(fill),
        "order": "C",
        "filters": filters,
        "dimension_separator": ".",
    }
    return Array(zarray, attributes, absent)


def _mapping(node: Mapping[str, Any]) -> Array:
    """Return a grid mapping as a number. Its value means nothing (CF 5.6), and GDAL before 3.11 prints an error for each text."""
    attributes = {**node.get("attributes", {}), "_ARRAY_DIMENSIONS": []}
    zarray = {
        "zarr_format": 2,
        "shape": [],
        "chunks": [],
        "dtype": "|i1",
        "compressor": None,
        "fill_value": None,
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
    }
    return Array(zarray, attributes, absent=0, is_made=True)


def _codecs(codecs: Sequence[Mapping[str, Any]]) -> tuple[Json | None, list[Json] | None, bool]:
    """Return the compressor, the filters, and whether bytes are big-endian. Raises ValueError."""
    first, *rest = codecs
    options = first.get("configuration", {})
    match first["name"]:
        case "bytes":
            filters, big = None, options.get("endian") == "big"
        case "vlen-utf8":
            filters, big = [{"id": "vlen-utf8"}], False
        case name:
            raise ValueError(f"version 2 has no codec {name}")
    if not rest:
        return None, filters, big
    if rest[0]["name"].startswith("numcodecs."):
        # Extensions in version 3, they are version 2's own: the last one compresses, those before it filter.
        own_ids = [{"id": each["name"].removeprefix("numcodecs."), **each.get("configuration", {})} for each in rest]
        return own_ids[-1], [*(filters or []), *own_ids[:-1]] or None, big
    if len(rest) > 1:
        raise ValueError(f"version 2 has no codec {rest[1]['name']}")
    options = rest[0].get("configuration", {})
    match rest[0]["name"]:
        case "zstd":
            return {"id": "zstd", "level": options.get("level", 0)}, filters, big
        case "gzip":
            return {"id": "gzip", "level": options.get("level", 5)}, filters, big
        case "blosc":
            shuffle = _SHUFFLES[options["shuffle"]]
            own = {"id": "blosc", "cname": options["cname"], "clevel": options["clevel"], "shuffle": shuffle}
            return {**own, "blocksize": options.get("blocksize", 0)}, filters, big
        case name:
            raise ValueError(f"version 2 has no codec {name}")


def _number(value: Any, name: str) -> Any:
    """Return a fill value as a number. Text represents numbers that JSON does not have, or the bytes of a double (xarray)."""
    if not isinstance(value, str) or not name.startswith("float"):
        return value
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    if value.startswith("0x"):
        return struct.unpack({"float16": ">e", "float32": ">f", "float64": ">d"}[name], bytes.fromhex(value[2:]))[0]
    return struct.unpack("<d", base64.b64decode(value))[0]


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _said(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def dumps(document: Json) -> bytes:
    """Return a document as deterministic bytes."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1).encode()
