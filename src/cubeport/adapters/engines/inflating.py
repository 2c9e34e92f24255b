"""The codec ``numcodecs.zlib`` with a limit: a chunk is inflated to its declared length at most.

The codec of zarr-python has no limit, and one byte can inflate to a thousand. If a source was verified by a sample, somebody else
wrote its chunks, and most of them are decoded for the first time when a client requests them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import zarr
from zarr.codecs.numcodecs import Zlib
from zarr.registry import register_codec

try:
    from isal import isal_zlib as zlib  # 2.4 times as fast (see hdf5walk); part of the extra netcdf
except ImportError:
    import zlib  # type: ignore[no-redef]  # the same functions

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

_NAME = "numcodecs.zlib"
_CHECKSUM = 4
"""Bytes of a fletcher32, which may have been added before the chunk was deflated."""


class Inflating(Zlib, codec_name="zlib"):
    """The codec. Decoding raises ValueError for a chunk that is damaged, or longer than declared."""

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        declared = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        inflater = zlib.decompressobj()
        try:
            found = inflater.decompress(chunk_data.as_numpy_array(), declared + _CHECKSUM + 1)
        except zlib.error as error:  # type: ignore[misc]  # its stubs take the class for an instance
            raise ValueError("a chunk cannot be inflated") from error
        if not inflater.eof or len(found) not in (declared, declared + _CHECKSUM):
            raise ValueError("a chunk does not have its declared length")
        return chunk_spec.prototype.buffer.from_bytes(found)


def use() -> None:
    """Register :class:`Inflating` with zarr-python for this codec. Idempotent."""
    codecs: dict[str, Any] = zarr.config.get("codecs")
    name = f"{Inflating.__module__}.{Inflating.__qualname__}"
    if codecs.get(_NAME) != name:
        register_codec(_NAME, Inflating, qualname=name)
        zarr.config.set({"codecs": {**codecs, _NAME: name}})
