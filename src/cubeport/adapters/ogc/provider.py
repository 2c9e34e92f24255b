"""Providers for pygeoapi. Any pygeoapi that names them in its configuration can serve the datasets of an instance.

``data`` is the folder of an instance, which pygeoapi's own process reads, or the URL of a running service. ``options.dataset`` is a
dataset or one of its versions (``sea@{version_id}``). Our own ``/ogcapi`` uses the same classes, with its planned answer as
``data``. docs/how-to/pygeoapi.md shows a configuration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import orjson
from pygeoapi.formatter.base import BaseFormatter
from pygeoapi.provider.base import (
    BaseProvider,
    ProviderConnectionError,
    ProviderGenericError,
    ProviderInvalidQueryError,
    ProviderItemNotFoundError,
    ProviderRequestEntityTooLargeError,
)
from pygeoapi.provider.base_edr import BaseEDRProvider

from cubeport.adapters.ogc.address import ServiceAddress
from cubeport.cubes.edr.queries import QUERIES, query_named
from cubeport.cubes.edr.query import EdrQuery
from cubeport.errors import CubeportError, InvalidRequest, NotFound, TooLarge

type Make = Callable[[], Any]
"""Makes a planned answer. The provider calls it once."""

_ALIASES = ("x", "y", "z", "t", "lon", "lat", "Lon", "Lat", "time")
"""Names that ``subset`` accepts for axes in addition to their names in the store."""


class DatasetSource(Protocol):
    """Answers queries about datasets: an instance in this process, or a service. Each method can raise CubeportError."""

    def fields(self, dataset: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the fields as JSON Schema properties."""

    def axes(self, dataset: str) -> Sequence[str]:
        """Return the names of the axes in the store."""

    def extent(self, dataset: str) -> Mapping[str, Any]:
        """Return the ``extent`` of the collection in our own OGC API."""

    def ask(self, dataset: str, kind: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        """Return the answer to the query *kind* (``coverage``, or an EDR query) with the parameters of our own OGC API."""


class Planned:
    """An answer that our own OGC face has planned. A query makes it, and its errors are not translated."""

    def __init__(self, make: Make) -> None:
        self.make = make


class _Cubes:
    """The common part of both providers. The constructor does no I/O, because pygeoapi makes a provider for each request."""

    def _take(self, definition: Mapping[str, Any]) -> None:
        self._data: Any = definition["data"]
        self._dataset = str((definition.get("options") or {}).get("dataset") or "")
        if not isinstance(self._data, Planned) and not self._dataset:
            raise ProviderConnectionError(user_msg="The provider needs the name of a dataset in options.dataset.")
        self._native = (definition.get("format") or {}).get("name")

    @property
    def fields(self) -> dict[str, Any]:
        """The fields, each with ``type``, ``title`` and ``x-ogc-unit``."""
        return self.get_fields()

    def get_fields(self) -> dict[str, Any]:
        """Return the fields. A planned answer has none, because its names were checked before."""
        if isinstance(self._data, Planned):
            return {}
        with _as_pygeoapi():
            found = _source(self._data).fields(self._dataset)
        kinds = {"number": "number", "integer": "integer", "string": "string"}
        return {
            name: {**each, "type": kinds.get(str(each.get("type")), "number"), "x-ogc-unit": each.get("x-ogc-unit", "1")}
            for name, each in found.items()
        }

    def _answer(self, kind: str, parameters: Sequence[tuple[str, str]], form: str | None, native: bool) -> Any:
        """Return bytes in a native form, or CoverageJSON as a value that pygeoapi writes itself."""
        if isinstance(self._data, Planned):
            return self._data.make()
        with _as_pygeoapi():
            asked = [*parameters, ("f", str(form) if native else "covjson")]
            content = _source(self._data).ask(self._dataset, kind, asked)
        return content if native else orjson.loads(content)


class CoverageProvider(_Cubes, BaseProvider):  # type: ignore[misc]  # pygeoapi publishes no types
    """A coverage provider."""

    def __init__(self, provider_def: dict[str, Any]) -> None:
        super().__init__(provider_def)
        self._take(provider_def)

    @property
    def axes(self) -> list[str]:
        """The axes that ``subset`` accepts."""
        if isinstance(self._data, Planned):
            return []
        with _as_pygeoapi():
            return [*_source(self._data).axes(self._dataset), *_ALIASES]

    @axes.setter
    def axes(self, value: Any) -> None:
        """Ignore the value of the base class, which knows no axes."""

    @property
    def _coverage_properties(self) -> dict[str, Any]:
        """The properties that pygeoapi adds to the description of a collection, by the names that it expects."""
        with _as_pygeoapi():
            extent = _source(self._data).extent(self._dataset)
        grid: Sequence[Mapping[str, Any]] = extent.get("spatial", {}).get("grid") or ({}, {})
        x, y = grid
        found = {
            "width": x.get("cellsCount"),
            "resx": x.get("resolution"),
            "height": y.get("cellsCount"),
            "resy": y.get("resolution"),
        }
        time = extent.get("temporal")
        if time is not None:
            found |= {"time_range": time["interval"][0], "restime": time["grid"].get("resolution")}
        return found

    def query(
        self,
        properties: Sequence[str] = (),
        subsets: Mapping[str, Sequence[Any]] | None = None,
        bbox: Sequence[float] = (),
        bbox_crs: str | None = None,
        datetime_: str | None = None,
        format_: str = "json",
        **_: Any,
    ) -> Any:
        """Return the answer: bytes in the native format, otherwise CoverageJSON as a dictionary."""
        parameters = [("bbox", ",".join(map(repr, bbox)))] if bbox else []
        parameters += [("bbox-crs", str(bbox_crs))] if bbox and bbox_crs else []
        parameters += [("datetime", datetime_)] if datetime_ else []
        parameters += [("subset", f"{axis}({':'.join(map(_end, ends))})") for axis, ends in (subsets or {}).items()]
        parameters += [("properties", ",".join(properties))] if properties else []
        return self._answer("coverage", parameters, format_, format_ == self._native)


class _EdrQueries(_Cubes):
    """The queries of an EDR provider. pygeoapi's arguments have the names of the parameters, except ``coords``, which it parses
    first.
    """

    def query(
        self,
        *,
        query_type: str,
        wkt: Any = None,
        bbox: Sequence[float] | None = None,
        datetime_: str | None = None,
        select_properties: Sequence[str] = (),
        z: Any = None,
        format_: str = "json",
        **others: Any,
    ) -> Any:
        """Return CoverageJSON as a dictionary, or bytes in a form for which the collection has a formatter."""
        own = {each.name for each in query_named(query_type).parameters}
        given = {name.replace("_", "-"): value for name, value in others.items() if value is not None}
        parameters = [("coords", wkt.wkt)] if wkt is not None and "coords" in own else []
        parameters += [(name, str(value)) for name, value in given.items() if name in own]
        parameters += [("bbox", ",".join(map(repr, bbox)))] if bbox else []
        parameters += [("datetime", datetime_)] if datetime_ else []
        parameters += [("parameter-name", ",".join(select_properties))] if select_properties else []
        parameters += [("z", str(z))] if z is not None else []
        return self._answer(query_type, parameters, format_, format_ not in _AS_VALUES)


def _method(kind: EdrQuery) -> Callable[..., Any]:
    def ask(self: _EdrQueries, **query: Any) -> Any:
        return self.query(**{**query, "query_type": kind.name})

    ask.__name__, ask.__doc__ = kind.name, f"{kind.text}."
    return ask


class EdrProvider(_EdrQueries, BaseEDRProvider):  # type: ignore[misc]  # as above
    """An EDR provider. pygeoapi finds queries by the names in the body of the class, so each kind of query is added to it."""

    vars().update({kind.name: _method(kind) for kind in QUERIES})

    def __init__(self, provider_def: dict[str, Any]) -> None:
        super().__init__(provider_def)
        self._take(provider_def)


_AS_VALUES = (None, "json", "html", "jsonld")
"""Formats of EDR answers that pygeoapi writes itself, from CoverageJSON."""


class Untouched(BaseFormatter):  # type: ignore[misc]  # as above
    """A formatter that returns its input unchanged. pygeoapi's EDR passes bytes through only by a formatter.

    Its definition names the ``form`` (a value of our ``f``) and its ``media_type``.
    """

    def __init__(self, formatter_def: dict[str, Any]) -> None:
        super().__init__(formatter_def)
        self.name = self.f = self.extension = formatter_def["form"]
        self.mimetype = formatter_def["media_type"]

    def write(self, options: Any = None, data: Any = None) -> Any:  # noqa: ARG002  # pygeoapi's signature
        """Return *data*."""
        return data


def _end(value: Any) -> str:
    """Return one end of a subset in our grammar: text in quotes, ``*`` unchanged."""
    text = str(value)
    return text if text == "*" or not isinstance(value, str) else f'"{text}"'


_sources: dict[str, DatasetSource] = {}
_opening = threading.Lock()


def _source(data: str) -> DatasetSource:
    """Return the service at a URL, or the instance in a folder. Each is opened once in a process."""
    with _opening:
        if data not in _sources:
            _sources[data] = ServiceAddress(data) if data.startswith(("http://", "https://")) else _instance(data)
        return _sources[data]


def _instance(folder: str) -> DatasetSource:
    # pygeoapi is the main program here and enters through this module. The public function of the package assembles the instance.
    # It is found by name, because no adapter may import the code that assembles adapters.
    found: DatasetSource = import_module("cubeport").queries(folder)
    return found


@contextmanager
def _as_pygeoapi() -> Iterator[None]:
    """Translate our errors to pygeoapi's, with its status and our message."""
    try:
        yield
    except CubeportError as error:
        words = " ".join([error.message, *(f"{'.'.join(map(str, each.loc))}: {each.message}." for each in error.errors)])
        kind: type[ProviderGenericError] = ProviderConnectionError
        for ours, theirs in (
            (TooLarge, ProviderRequestEntityTooLargeError),
            (NotFound, ProviderItemNotFoundError),
            (InvalidRequest, ProviderInvalidQueryError),
        ):
            if isinstance(error, ours):
                kind = theirs
                break
        raise kind(words, user_msg=words) from error
