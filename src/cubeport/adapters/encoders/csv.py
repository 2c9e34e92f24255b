"""The encoder for CSV (:mod:`cubeport.documents.table`), with an estimate of the size."""

from __future__ import annotations

from cubeport.adapters.encoders.lengths import mean_length, value_length
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Part
from cubeport.cubes.windows import time_axis
from cubeport.documents import coveragejson, table


class _Csv(Encoder):
    def counted(self, part: Part) -> int:
        return part.cost.written

    def size(self, part: Part) -> int:
        """Return the estimated size of the table in bytes. Each row repeats its labels."""
        labels = part.opened.labels().values
        clock = time_axis(part.description)
        size = 0.0
        for group in coveragejson.groups(part.description, part.windows):
            rows = part.windows.written(group.fields[0].dimensions)
            width = 1.0
            for dimension in group.fields[0].dimensions:
                axis = next((each for each in part.description.axes if each.dimension == dimension and not each.scalar), None)
                known = axis is not None and axis.name in labels
                width += 4.0 if axis is None or not known else 21.0 if axis is clock else mean_length(labels[axis.name])
            width += 18.0 * (len(group.composite) + sum(axis.scalar for axis in group.named.values()))
            size += rows * (width + sum(value_length(part, field.name) for field in group.fields))
        return int(size)

    def encode(self, part: Part, room: Room, deadline: Deadline) -> bytes:  # noqa: ARG002  # it is made of bytes at once
        return table.encode(part.opened.cut(part.windows, deadline=deadline), deadline=deadline)


ENCODER = _Csv()
