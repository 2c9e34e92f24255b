"""The encoder for CoverageJSON (:mod:`cubeport.documents.coveragejson`), with an estimate of the size."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson

from cubeport.adapters.encoders.lengths import mean_length, value_length
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Part
from cubeport.cubes.sampled import Sampled
from cubeport.cubes.windows import time_axis
from cubeport.documents import coveragejson
from cubeport.errors import NotAcceptable

_COVERAGE_CELLS = 1_000
"""Each additional coverage of a collection counts as this many cells, because its domain is written again."""


class _CoverageJSON(Encoder):
    def counted(self, part: Part) -> int:
        coverages = sum(group.coverages(part.windows) for group in coveragejson.groups(part.description, part.windows))
        return part.cost.written + _COVERAGE_CELLS * (coverages - 1)

    def size(self, part: Part) -> int:
        """Return the estimated size of the document in bytes, from the actual labels and from values in the range of each field."""
        description, found = part.description, part.opened.labels()
        size = 500.0
        for group in coveragejson.groups(description, part.windows):
            copies = group.coverages(part.windows)
            axes = 0.0
            for axis in group.named.values():
                window = None if axis.scalar else part.windows.along[axis.dimension]
                length = 24.0 if axis is time_axis(description) else mean_length(found.values[axis.name])
                edges = 2 * length if axis.name in found.bounds else 0
                axes += (1 if window is None else window.size) * (length + edges)
            if group.composite:
                axes += 34.0 * part.windows.written(group.composite)
            size += copies * (axes + 150)
            for variable in group.fields:
                values = part.windows.written(variable.dimensions)
                size += values * value_length(part, variable.name) + copies * 100 + 300
        crs = description.spatial.system
        size += len(orjson.dumps(crs.wkt2)) if crs is not None and crs.wkt2 and not crs.authority else 0
        return int(size)

    def check(self, part: Part) -> None:
        """Raise NotAcceptable if the caller asked for one place twice: a composite axis has each tuple once."""
        if not isinstance(part.opened, Sampled):
            return
        labels, spatial = part.opened.labels().values, part.description.spatial
        places = Counter(zip(labels[str(spatial.x)].tolist(), labels[str(spatial.y)].tolist(), strict=True))
        (x, y), times = places.most_common(1)[0]
        if times > 1:
            raise NotAcceptable(
                f"CoverageJSON has each place once, and {x:g} {y:g} is asked for {times} times.",
                next_step="Ask for each place once, or with f=csv or f=netcdf.",
            )

    def encode(self, part: Part, room: Room, deadline: Deadline) -> bytes:  # noqa: ARG002  # it is made of bytes at once
        cut = replace(part.opened.cut(part.windows, deadline=deadline), point=part.point)
        return coveragejson.encode(cut, public_url=part.public_url)


ENCODER = _CoverageJSON()
