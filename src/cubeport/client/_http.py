"""Requests to a service. Problem documents are raised as our own errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from cubeport.errors import CubeportError, NotFound, Unavailable

TIMEOUT_S = 60
TRIES = 3
"""Only for 503 and lost connections; ``Retry-After`` is respected."""


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
        address = self.address(path, **query)
        if not address.startswith(("http://", "https://")):
            raise Unavailable(f"{self.url} is not an http or https address.")
        headers = {"Accept": accept, "User-Agent": "cubeport"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        for left in reversed(range(TRIES)):
            try:
                with urlopen(Request(address, headers=headers), timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
                    body: bytes = answer.read()
                    return body
            except HTTPError as exc:
                if exc.code != 503 or not left:
                    raise _problem(exc, address) from None
                wait = exc.headers.get("Retry-After", "")
                time.sleep(min(int(wait), 30) if wait.isdigit() else 1)
            except (URLError, TimeoutError, ConnectionError) as exc:
                if not left:
                    reason = getattr(exc, "reason", exc)
                    raise Unavailable(f"{self.url} does not answer: {reason}", next_step="check the address") from exc
                time.sleep(0.2)
        raise AssertionError("the last try returns or raises")

    def address(self, path: str, **query: object) -> str:
        """Return the complete address of *path*, without parameters that are ``None``."""
        given = {name: value for name, value in query.items() if value is not None}
        return f"{self.url}{quote(path, safe='/@')}" + (f"?{urlencode(given, safe=',/:')}" if given else "")


def _problem(exc: HTTPError, address: str) -> CubeportError:
    with exc:
        body = exc.read(1 << 20)
    try:
        problem: Mapping[str, Any] = json.loads(body)
        return CubeportError.from_mapping(problem)
    except (ValueError, KeyError, TypeError):
        error = NotFound if exc.code == 404 else Unavailable
        return error(f"{address.partition('?')[0]} answers {exc.code}, but not as a cubeport service does.")
