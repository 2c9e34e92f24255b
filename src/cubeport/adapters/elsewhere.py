"""Another instance of cubeport over HTTP: the port ``service.replicate.Elsewhere``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from cubeport.adapters.engines.arriving import MOST_MANIFEST, MOST_OBJECT
from cubeport.adapters.posting import Asker
from cubeport.errors import CubeportError, NotFound, SourceFailed, SourceRejected, SourceTimeout, Unavailable

TRIES = 4
"""How often one request is tried if the connection breaks or the server is busy."""

_DOCUMENT = 8 << 20


class OtherInstance:
    """The service at *url*. Requests use the API key *key*."""

    def __init__(self, asker: Asker, url: str, *, key: str | None = None, pause: Callable[[float], None] = time.sleep) -> None:
        self.url = url.rstrip("/")
        self._asker = asker
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pause = pause

    def replica(self, ref: str) -> Any:
        """Return the other instance's document about ``id`` or ``id@ref``, not yet validated."""
        try:
            found = self._ask("GET", f"/datasets/{quote(ref, safe='@')}/replica", most=_DOCUMENT)
        except NotFound as error:
            if error.members.get("what") == "dataset":  # its advice leads to its own datasets, not to those of this instance
                error.next_step = f"cubeport --url {quote(self.url, safe=':/')} datasets"
            raise
        return _json(found, self.url)

    def manifest(self, ref: str) -> bytes:
        """Return the manifest of a version."""
        return self._ask("GET", f"/zarr/{quote(ref, safe='@')}?f=manifest", most=MOST_MANIFEST)

    def object(self, ref: str, key: str) -> bytes:
        """Return one object of a version."""
        return self._ask("GET", f"/zarr/{quote(ref, safe='@')}/{quote(key)}", most=MOST_OBJECT)

    def begin(self, digest: str, manifest: bytes, *, dataset_id: str) -> list[str]:
        """Send the manifest of a version of this dataset; return the objects that the other instance does not have."""
        path = f"/replicas/{digest}?dataset_id={quote(dataset_id)}"
        missing: list[str] = _json(self._ask("PUT", path, manifest, most=_DOCUMENT), self.url)["missing"]
        return missing

    def put(self, digest: str, sha256: str, data: bytes) -> None:
        """Send one object."""
        assert hashlib.sha256(data).hexdigest() == sha256
        self._ask("PUT", f"/replicas/{digest}/objects/{sha256}", data)

    def finish(self, digest: str, replica: Mapping[str, Any], *, publish: bool, ref: str | None) -> dict[str, Any]:
        """Make the version from the objects that were sent."""
        chosen = {} if ref is None else {"ref": ref}  # earlier releases do not know it
        body = json.dumps({"replica": dict(replica), "publish": publish, **chosen}).encode()
        headers = {"Content-Type": "application/json"}
        found: dict[str, Any] = _json(self._ask("POST", f"/replicas/{digest}", body, headers, most=_DOCUMENT), self.url)
        return found

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, most: int = 64 << 10
    ) -> bytes:
        """Return the body of a successful answer. Every request is safe to repeat. Raises the error that the other instance
        reports.
        """
        sent = {"Content-Type": "application/octet-stream"} if body else {}
        for left in reversed(range(TRIES)):
            try:
                status, answer = self._asker.ask(
                    method, self.url + path, body, {**sent, **self._headers, **(headers or {})}, most=most
                )
            except (SourceFailed, SourceTimeout):
                if not left:
                    raise
            else:
                if status == 200:
                    return answer
                if status != 503 or not left:
                    raise _problem(status, answer, self.url)
            self._pause(0.5 * 2 ** (TRIES - left - 1))
        raise AssertionError("the last try returns or raises")


def _json(answer: bytes, url: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        raise Unavailable(f"{url} does not answer as a cubeport service does.", next_step="check the address") from None


def _problem(status: int, answer: bytes, url: str) -> CubeportError:
    try:
        problem = json.loads(answer)
        return CubeportError.from_mapping(problem)
    except (ValueError, KeyError, TypeError, AttributeError):
        if status == 404:
            return NotFound(f"{url} answers 404, but not as a cubeport service does.", what="path")
        if 300 <= status < 400:
            return SourceRejected(f"{url} redirects; none is followed.", reason="not-allowed", next_step="name the address itself")
        return Unavailable(f"{url} answers {status}, but not as a cubeport service does.")
