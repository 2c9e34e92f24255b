"""pygeoapi's coverage and EDR functions, called with a plan that is already checked, counted and resolved (publishing.md 5.1).

pygeoapi is imported here and only here, at the first OGC request. It sees one collection at a time, and of the query nothing but
``f``: parameters have been read by our own grammar. Our bytes and our exceptions come through it untouched; tests/facts holds the
behaviour this rests on.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pygeoapi.api import API, APIRequest
from pygeoapi.api.coverages import get_collection_coverage
from pygeoapi.api.environmental_data_retrieval import get_collection_edr_query
from pygeoapi.formatter.base import BaseFormatter
from pygeoapi.provider.base import BaseProvider
from pygeoapi.provider.base_edr import BaseEDRProvider

from cubeport.errors import CubeportError

type Plan = Callable[[], Any]
"""What makes the answer; called once, by the provider."""

_PROVIDER = f"{__name__}.CoverageProvider"
_LANGUAGE = "en-US"


class CoverageProvider(BaseProvider):  # type: ignore[misc]  # pygeoapi publishes no types
    """A provider that carries out the plan in its definition. Making one does no I/O."""

    def __init__(self, provider_def: dict[str, Any]) -> None:
        super().__init__(provider_def)
        self._plan: Plan = provider_def["plan"]

    def get_fields(self) -> dict[str, Any]:
        """Return no fields: names were checked before."""
        return {}

    def query(self, **_: Any) -> Any:
        """Return the answer's bytes, or whatever stands for them."""
        return self._plan()


class EdrProvider(BaseEDRProvider):  # type: ignore[misc]  # as above
    """The same for EDR. pygeoapi finds the queries by the names of the methods, and calls :meth:`query` for each."""

    def __init__(self, provider_def: dict[str, Any]) -> None:
        super().__init__(provider_def)
        self._plan: Plan = provider_def["plan"]

    def get_fields(self) -> dict[str, Any]:
        """Return no fields: names were checked before."""
        return {}

    def query(self, **_: Any) -> Any:
        """Return the answer's bytes, or whatever stands for them."""
        return self._plan()

    def position(self, **_: Any) -> Any:
        """Say that positions can be asked for."""
        return self._plan()

    area = cube = position


class Untouched(BaseFormatter):  # type: ignore[misc]  # as above
    """A formatter of the form asked for that hands on what it gets: EDR lets bytes through by no other way."""

    def __init__(self, formatter_def: dict[str, Any]) -> None:
        super().__init__(formatter_def)
        self.name = self.f = self.extension = formatter_def["form"]
        self.mimetype = formatter_def["media_type"]

    def write(self, options: Any = None, data: Any = None) -> Any:  # noqa: ARG002  # pygeoapi's signature
        """Return *data*."""
        return data


@dataclass(frozen=True)
class _Request:
    """What pygeoapi reads of a request: a canonical query and no header."""

    query_params: dict[str, str]
    scope: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)


def coverage(name: str, plan: Plan, *, form: str, media_type: str) -> Any:
    """Return what *plan* returns, by way of ``get_collection_coverage``.

    Parameters
    ----------
    name
        ``{id}@{version_id}``: the data that the definition names.
    form, media_type
        The value of ``f`` and its media type: as the collection's native format it lets bytes through.

    Raises
    ------
    CubeportError
        Whatever the plan raises; and a plain one should pygeoapi answer anything but 200.
    """
    view = copy.copy(_api())
    provider = {"type": "coverage", "name": _PROVIDER, "data": name, "plan": plan, "format": {"name": form, "mimetype": media_type}}
    resource = {"type": "collection", "extents": {"spatial": {"bbox": [-180, -90, 180, 90]}}, "providers": [provider]}
    view.config = {**view.config, "resources": {name: resource}}
    request = APIRequest(_Request({"f": form}, {"path": f"/collections/{name}/coverage"}), [_LANGUAGE])
    _, status, content = get_collection_coverage(view, request, name)
    if status != 200:
        raise CubeportError(f"pygeoapi answered {status} to a checked request")
    return content


def edr(name: str, plan: Plan, *, kind: str, where: Mapping[str, str], form: str, media_type: str) -> Any:
    """Return what *plan* returns, by way of ``get_collection_edr_query``.

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
    provider = {"type": "edr", "name": f"{__name__}.EdrProvider", "data": name, "plan": plan}
    formatter = {"name": f"{__name__}.Untouched", "form": form, "media_type": media_type}
    resource = {"type": "collection", "extents": {}, "providers": [provider], "formatters": [formatter]}
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
