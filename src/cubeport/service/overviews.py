"""Which overviews a version gets."""

from __future__ import annotations

from cubeport.cubes import overviews
from cubeport.cubes.description import CubeDescription
from cubeport.service.templates import Pyramid


def with_overviews(cube: CubeDescription, pyramid: Pyramid, parent: CubeDescription | None = None) -> CubeDescription:
    """Return the description with the overviews that a template asks for; without any where the grid has no axes for them.

    Parameters
    ----------
    parent
        Of the version that this one updates: where nothing is asked for, its overviews are made again, so that they are shared.
    """
    held = parent is not None and pyramid == Pyramid()
    levels = overviews.levels(cube, (parent.overview_levels or "auto") if held and parent is not None else pyramid.levels)
    known = dict(parent.overviews) if held and parent is not None else {}
    fields = overviews.fields_of(cube) if levels else ()
    made = tuple((name, known.get(name) or overviews.method_of(cube.variable(name), pyramid.method)) for name in fields)
    return cube.model_copy(update={"overviews": made, "overview_levels": levels if made else 0})
