"""The encoder for ERDDAP's JSON tables (:mod:`cubeport.documents.griddap`)."""

from __future__ import annotations

from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Part
from cubeport.documents import griddap


class _Json(Encoder):
    def encode(self, part: Part, room: Room, deadline: Deadline) -> bytes:  # noqa: ARG002  # it is made of bytes at once
        return griddap.table_json(griddap.columns(part.opened.cut(part.windows, deadline=deadline)), deadline=deadline)


ENCODER = _Json()
