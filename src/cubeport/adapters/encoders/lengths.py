"""Estimate the length of values as text from metadata, for the sizes of text forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from cubeport.cubes.part import Part


def value_length(part: Part, name: str) -> float:
    """Return the mean length of a value as text, from evenly spread values in its range, with its type and packing."""
    variable = part.description.variable(name)
    low, high = variable.valid_min, variable.valid_max
    if low is None or high is None:
        return 12.0 if variable.decoded_dtype.startswith(("str", "<U", "object", "String")) else 5.0
    spread = low + (high - low) * ((np.arange(256) * 0.6180339887498949) % 1)
    attributes = part.opened.attributes(name)
    scale, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    if scale is not None or offset is not None:
        dtype = variable.dtype if "int" in variable.dtype else "int64"
        stored = np.round((spread - float(offset or 0)) / float(scale or 1)).astype(dtype)
        return mean_length(part.opened.decode_like(name, stored))
    return mean_length(spread.astype(variable.decoded_dtype))


def mean_length(values: Any) -> float:
    """Return the mean length of values as JSON, including the comma."""
    if values.dtype.kind not in "iuf":
        return float(np.mean([len(str(value).encode()) + 3 for value in values[:256].tolist()]))
    sample = np.ascontiguousarray(values[:: max(1, values.size // 256)], dtype=values.dtype.newbyteorder("="))
    return (len(orjson.dumps(sample, option=orjson.OPT_SERIALIZE_NUMPY)) - 1) / max(1, sample.size)
