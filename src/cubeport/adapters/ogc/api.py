"""Make our own answers through pygeoapi's API functions, with a query that is already planned.

pygeoapi is imported for the first OGC answer. It sees one collection at a time, and only ``f`` and the place of the query, because
our own grammar has already parsed the parameters. Our bytes and exceptions pass through it unchanged; tests/facts tests the
behaviour of pygeoapi that this needs.
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
    """The parts of a request that pygeoapi reads: a canonical query and no headers."""

    query_params: dict[str, str]
    scope: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)


def coverage(name: str, make: Make, *, form: str, media_type: str) -> Any:
    """Return the result of *make*, called through ``get_collection_coverage``.

    Parameters
    ----------
    name
        The name of the collection for pygeoapi: ``{id}@{version_id}``.
    form, media_type
        The value of ``f`` and its media type. pygeoapi passes bytes through unchanged for the collection's native format.

    Raises
    ------
    CubeportError
        What *make* raises, or a plain CubeportError if pygeoapi does not answer 200.
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
    """Return the result of *make*, called through ``get_collection_edr_query``.

    Parameters
    ----------
    kind
        ``position``, ``area`` or ``cube``.
    where
        ``coords`` or ``bbox`` in canonical form. pygeoapi requires one of them and parses it again.

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
    """Return the API object of this process, without resources."""
    with _making:
        if not _made:
            _made.append(_quietly())
        return _made[0]


def _quietly() -> API:
    """Make an API object without its logging set-up, because ``basicConfig`` would add a handler to the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    server = {"url": "", "languages": [_LANGUAGE], "encoding": "utf-8", "mimetype": "application/json"}
    try:
        return API({"server": server, "logging": {"level": "ERROR"}, "metadata": {}, "resources": {}}, {})
    finally:
        for handler in [each for each in root.handlers if each not in handlers]:
            root.removeHandler(handler)
        root.setLevel(level)
