"""Requests to a service. Problem documents are raised as our own errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException, InvalidURL
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from cubeport.cubes.readers import reader
from cubeport.errors import CubeportError, InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    import xarray as xr

TIMEOUT_S = 60
TRIES = 3
"""Only for 503 and lost connections; ``Retry-After`` is respected."""
LONGEST_WAIT_S = 30
"""What a server that asks for more than this answers is left to the caller."""


class Session(Protocol):
    """How a service is reached."""

    url: str

    def json(self, path: str, **query: object) -> Any: ...

    def get(self, path: str, query: Mapping[str, object], *, accept: str = "*/*") -> bytes: ...

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: Any = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes: ...

    def lines(self, path: str) -> Iterator[str]: ...

    def address(self, path: str, **query: object) -> str: ...

    def opened(self, asset: Mapping[str, Any], *, dataset_id: str, version_id: str, chunks: Any = None) -> xr.Dataset:
        """Return the cube of a version lazily."""


class HttpSession:
    """One service, with the key of its caller."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._key = key

    def json(self, path: str, **query: object) -> Any:
        """Return the document at *path* below the service's address. Raises what :meth:`get` raises."""
        return json.loads(self.get(path, query, accept="application/json"))

    def get(self, path: str, query: Mapping[str, object], *, accept: str = "*/*") -> bytes:
        """Return the bytes at *path* below the service's address.

        Raises
        ------
        CubeportError
            Of the class that the problem document of the service names.
        NotFound, Unavailable
            If nothing answers, or something that is not a cubeport service.
        """
        return self._send("GET", path, query, {"Accept": accept})

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: Any = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request that may change something, once, and return the bytes of the answer. Raises the same as :meth:`get`."""
        given = {"Accept": "application/json", **(headers or {})} | ({"Content-Type": media_type} if body is not None else {})
        return self._send(method, path, query or {}, given, body=body, tries=1)

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of an answer (server-sent events) as they arrive. Raises the same as :meth:`get`."""
        headers = self._headers({"Accept": "text/event-stream"})
        request = Request(self._checked(self.address(path)), headers=headers)  # noqa: S310 - checked
        with self._open(request) as answer:
            for line in answer:
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    def opened(self, asset: Mapping[str, Any], *, dataset_id: str, version_id: str, chunks: Any = None) -> xr.Dataset:  # noqa: ARG002 (its asset says it)
        """Return the cube that a STAC asset describes, lazily."""
        import xarray

        # By its class: xarray would load every installed backend for a name, which takes seconds where ecCodes is one (adr/0018).
        said = {**asset["xarray:open_kwargs"], "engine": reader("zarr"), **({} if chunks is None else {"chunks": chunks})}
        found: xr.Dataset = xarray.open_dataset(asset["href"], **said)
        return found

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        return {"User-Agent": "cubeport", **given} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    def _checked(self, address: str) -> str:
        if not address.startswith(("http://", "https://")):
            raise Unavailable(f"{self.url} is not an http or https address.")
        return address

    def _open(self, request: Request) -> Any:
        try:
            return urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - its address was checked
        except HTTPError as exc:
            raise _problem(exc, request.full_url) from None
        except (URLError, TimeoutError, ConnectionError) as exc:
            reason = getattr(exc, "reason", exc)
            raise Unavailable(f"{self.url} does not answer: {reason}", next_step="check the address") from exc

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        headers: Mapping[str, str],
        *,
        body: Any = None,
        tries: int = TRIES,
    ) -> bytes:
        address = self._checked(self.address(path, **query))
        request = Request(address, data=body, headers=self._headers(headers), method=method)  # noqa: S310 - checked
        return fetched(request, self.url, lambda exc: _problem(exc, address), tries=tries)[0]

    def address(self, path: str, **query: object) -> str:
        """Return the complete address of *path*, without parameters that are ``None``. A list is repeated."""
        given = {name: value for name, value in query.items() if value is not None}
        return f"{self.url}{quote(path, safe='/@')}" + (f"?{urlencode(given, doseq=True, safe=',/:')}" if given else "")


def fetched(request: Request, who: str, refused: Callable[[HTTPError], CubeportError], *, tries: int = TRIES) -> tuple[bytes, str]:
    """Return the content of an answer, and its address after redirects.

    It is asked for again after 503, when ``Retry-After`` says, and after a lost connection; never after anything else.

    Parameters
    ----------
    request
        Its address must be http or https.
    who
        The name of what is asked, for messages.
    refused
        Returns the error of an answer that is an error.

    Raises
    ------
    CubeportError
        What *refused* returns, also if the server says that it takes more than ``LONGEST_WAIT_S``.
    InvalidRequest
        For an address that cannot be sent.
    Unavailable
        If nothing answers.
    """
    for left in reversed(range(tries)):
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the caller has checked the address
                return answer.read(), answer.url
        except HTTPError as exc:
            wait = wait_s(exc.headers.get("Retry-After"), time.time()) if exc.code == 503 else None
            if wait is None or wait > LONGEST_WAIT_S or not left:
                raise refused(exc) from None
            exc.close()
            time.sleep(wait)
        except InvalidURL as exc:
            raise InvalidRequest(f"{request.full_url!r} is not an address: {exc}") from exc
        except (URLError, TimeoutError, ConnectionError, HTTPException) as exc:
            if not left:
                reason = getattr(exc, "reason", exc)
                raise Unavailable(f"{who} does not answer: {reason}", next_step="check the address") from exc
            time.sleep(0.2)
    raise AssertionError("the last try returns or raises")


def wait_s(retry_after: str | None, now: float) -> float:
    """Return how long to wait before asking again, in seconds: ``Retry-After`` (RFC 9110, 10.2.3), otherwise one second."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return 1.0


def next_cursor(page: Mapping[str, Any]) -> str | None:
    """Return the cursor of the page after *page*, by its link ``next``."""
    following = next((link["href"] for link in page.get("links", ()) if link["rel"] == "next"), None)
    return None if following is None else parse_qs(urlsplit(following).query)["cursor"][0]


def _problem(exc: HTTPError, address: str) -> CubeportError:
    with exc:
        body = exc.read(1 << 20)
    try:
        problem: Mapping[str, Any] = json.loads(body)
        return CubeportError.from_mapping(problem)
    except (ValueError, KeyError, TypeError):
        error = NotFound if exc.code == 404 else Unavailable
        return error(f"{address.partition('?')[0]} answers {exc.code}, but not as a cubeport service does.")
