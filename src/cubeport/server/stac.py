"""The STAC face: sealed documents joined with the record's texts; a request only fills in links."""

from __future__ import annotations

from fastapi import APIRouter

from cubeport.server.parts import Parts


def routes(parts: Parts) -> APIRouter:  # noqa: ARG001
    """Return the routes of this face."""
    return APIRouter()
