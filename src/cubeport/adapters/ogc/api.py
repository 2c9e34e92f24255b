"""The way of our own answers through pygeoapi: its API functions, called with a query that is planned already.

pygeoapi is imported here at the first OGC answer. It sees one collection at a time, and of the query nothing but ``f`` and the
place: parameters have been read by our own grammar. Our bytes and our exceptions come through it untouched; tests/facts holds the
behaviour this rests on.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pygeoapi.api import API, APIRequest
from pygeoapi.api.coverages import get_collection_coverage
from pygeoapi.api.environmental_data_retrieval import get_collection_edr_query

from cubeport.adapters.ogc import provider
from cubeport.adapters.ogc.provider import Make, Planned
from cubeport.errors import CubeportError

_PROVIDER = f"{provider.__name__}.CoverageProvider"
_EDR_PROVIDER = f"{provider.__name__}.EdrProvider"
_FORMATTER = f"{provider.__name__}.Untouched"
_LANGUAGE = "en-US"


@dataclass(frozen=True)
class _Request:
    """What pygeoapi reads of a request: a canonical query and no header."""

    query_params: dict[str, str]
    scope: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)


def coverage(name: str, make: Make, *, form: str, media_type: str) -> Any:
    """Return what *make* returns, by way of ``get_collection_coverage``.

    Parameters
    ----------
    name
        ``{id}@{version_id}``: the name of the collection that pygeoapi sees.
    form, media_type
        The value of ``f`` and its media type: as the collection's native format it lets bytes through.

    Raises
    ------
    CubeportError
        Whatever *make* raises; and a plain one should pygeoapi answer anything but 200.
    """
    view = copy.copy(_api())
    definition = {
        "type": "coverage",
        "name": _PROVIDER,
        "data": Planned(make),
        "format": {"name": form, "mimetype": media_type},
    }
    resource = {"type": "collection", "extents": {"spatial": {"bbox": [-180, -90, 180, 90]}}, "providers": [definition]}
    view.config = {**view.config, "resources": {name: resource}}
    request = APIRequest(_Request({"f": form}, {"path": f"/collections/{name}/coverage"}), [_LANGUAGE])
    _, status, content = get_collection_coverage(view, request, name)
    if status != 200:
        raise CubeportError(f"pygeoapi answered {status} to a checked request")
    return content


def edr(name: str, make: Make, *, kind: str, where: Mapping[str, str], form: str, media_type: str) -> Any:
    """Return what *make* returns, by way of ``get_collection_edr_query``.

    Parameters
    ----------
    kind
        ``position``, ``area`` or ``cube``.
    where
        ``coords`` or ``bbox``, in canonical form: pygeoapi demands one, and reads it again.

    Raises
    ------
    CubeportError
        As :func:`coverage`.
    """
    view = copy.copy(_api())
    definition = {"type": "edr", "name": _EDR_PROVIDER, "data": Planned(make)}
    formatter = {"name": _FORMATTER, "form": form, "media_type": media_type}
    resource = {"type": "collection", "extents": {}, "providers": [definition], "formatters": [formatter]}
    view.config = {**view.config, "resources": {name: resource}}
    request = APIRequest(_Request({"f": form, **where}, {"path": f"/collections/{name}/{kind}"}), [_LANGUAGE])
    _, status, content = get_collection_edr_query(view, request, name, None, kind)
    if status != 200:
        raise CubeportError(f"pygeoapi answered {status} to a checked request")
    return content


_made: list[API] = []
_making = threading.Lock()


def _api() -> API:
    """Return the one API of this process, with no resources."""
    with _making:
        if not _made:
            _made.append(_quietly())
        return _made[0]


def _quietly() -> API:
    """Make an API without letting it set up logging: its ``basicConfig`` would add a handler to the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    server = {"url": "", "languages": [_LANGUAGE], "encoding": "utf-8", "mimetype": "application/json"}
    try:
        return API({"server": server, "logging": {"level": "ERROR"}, "metadata": {}, "resources": {}}, {})
    finally:
        for handler in [each for each in root.handlers if each not in handlers]:
            root.removeHandler(handler)
        root.setLevel(level)
