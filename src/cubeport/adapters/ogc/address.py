"""Access to a running service over HTTP, for our pygeoapi provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from cubeport.errors import CubeportError, InvalidRequest, NotFound, Problem, TooLarge, Unavailable

_TIMEOUT_S = 120
_STATUSES: Mapping[int, type[CubeportError]] = {
    400: InvalidRequest,
    404: NotFound,
    406: InvalidRequest,
    410: NotFound,
    413: TooLarge,
}


class ServiceAddress:
    """A service as a ``provider.DatasetSource``. It sends requests only to the address in the configuration."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def fields(self, dataset: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the fields as JSON Schema properties."""
        found: Mapping[str, Mapping[str, Any]] = json.loads(self._get(f"/ogcapi/collections/{quote(dataset)}/schema"))["properties"]
        return found

    def axes(self, dataset: str) -> Sequence[str]:
        """Return the names of the axes, which are the dimensions of the STAC Collection."""
        return list(json.loads(self._get(f"/stac/collections/{quote(dataset)}"))["cube:dimensions"])

    def extent(self, dataset: str) -> Mapping[str, Any]:
        """Return the ``extent`` of the OGC collection."""
        found: Mapping[str, Any] = json.loads(self._get(f"/ogcapi/collections/{quote(dataset)}"))["extent"]
        return found

    def ask(self, dataset: str, kind: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        """Return the answer to a coverage or EDR query.

        Raises
        ------
        InvalidRequest, NotFound, TooLarge, Unavailable
            If the service answers with this error. The message is that of the service.
        """
        return self._get(f"/ogcapi/collections/{quote(dataset)}/{kind}?{urlencode(list(parameters))}")

    def _get(self, path: str) -> bytes:
        # The caller has checked that the scheme is http or https.
        request = Request(  # noqa: S310
            self._url + path, headers={"Accept": "*/*", "User-Agent": "cubeport-pygeoapi"}
        )
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # as above
                content: bytes = answer.read()
                return content
        except HTTPError as error:
            raise _told(error.code, error.read()) from error
        except (URLError, OSError) as error:
            raise Unavailable(f"The service at {self._url} does not answer.", next_step="Start it and try again.") from error


def _told(status: int, body: bytes) -> CubeportError:
    """Return the error that a problem document (RFC 9457) describes."""
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    words = str(document.get("detail") or document.get("title") or f"The service answered {status}.")
    if status in (400, 406):
        told = [
            Problem(tuple(each.get("loc", ())), str(each.get("kind", "")), str(each.get("message", "")))
            for each in document.get("errors", ())
        ]
        return InvalidRequest(words, errors=told)
    return _STATUSES.get(status, Unavailable)(words)
