"""Choose the overviews of a version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cubeport.cubes import overviews
from cubeport.cubes.description import CubeDescription
from cubeport.service.templates import Pyramid


def with_overviews(
    cube: CubeDescription, pyramid: Pyramid, parent: CubeDescription | None = None, *, of_template: bool = True
) -> CubeDescription:
    """Return the description with the overviews that a template requests; without overviews if the grid has no axes for them.

    Parameters
    ----------
    parent
        The description of the version that this one updates. If nothing is requested, the new version gets the same overviews as
        its parent, so that both can share them.
    of_template
        Whether a template says what a parent without overviews gets. For other sources, somebody turned them off.
    """
    held = parent if pyramid == Pyramid() else None
    without: overviews.Wanted = "auto" if of_template else "off"
    levels = overviews.levels(cube, pyramid.levels if held is None else held.overview_levels or without)
    known = {} if held is None else dict(held.overviews)
    fields = overviews.fields_of(cube) if levels else ()
    made = tuple((name, known.get(name) or overviews.method_of(cube.variable(name), pyramid.method)) for name in fields)
    return cube.model_copy(update={"overviews": made, "overview_levels": levels if made else 0})


def with_those_of(cube: CubeDescription, levels: int, fields: Iterable[tuple[str, overviews.Method]]) -> CubeDescription:
    """Return the description with the overviews that another instance has, as far as the grid can have them."""
    known = dict(fields)
    found = overviews.levels(cube, levels or "off")
    made = tuple((name, known[name]) for name in (overviews.fields_of(cube) if found else ()) if name in known)
    return cube.model_copy(update={"overviews": made, "overview_levels": found if made else 0})


def sparing(pyramid: Pyramid, documents: Mapping[str, Any], *, elsewhere: bool = False) -> Pyramid:
    """Return what to make of a version, whose chunks overviews read: nothing by default if most of them were not decoded, or are
    *elsewhere*, in a store.
    """
    sampled = documents.get("storage", {}).get("verify") == "sample"
    return Pyramid(levels="off") if (sampled or elsewhere) and pyramid == Pyramid() else pyramid
