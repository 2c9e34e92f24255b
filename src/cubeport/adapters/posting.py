"""Sends a body to an allowed origin, through the same gate that fetching uses: checked addresses, no redirects, bounded time."""

from __future__ import annotations

from collections.abc import Mapping

import httpcore

from cubeport.adapters.storage.fetching import OriginFetcher
from cubeport.catalog.forms.addresses import WebURL
from cubeport.errors import SourceFailed, SourceRejected, SourceTimeout


class OriginPoster(OriginFetcher):
    """The port ``service.webhooks.Post``."""

    setting = "webhooks.origins"

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer; what it says is not read.

        Raises
        ------
        SourceRejected
            For an origin or an address that may not be asked.
        SourceFailed, SourceTimeout
            When there is no answer.
        """
        try:
            return self._posted(self._allowed(url), body, headers)
        except SourceRejected as exc:
            # The gate speaks of sources; here another list allows.
            step = exc.next_step.replace("sources.origins", self.setting) if exc.next_step else None
            raise SourceRejected(exc.message, next_step=step, **exc.members) from None

    def _posted(self, url: WebURL, body: bytes, headers: Mapping[str, str]) -> int:
        origin = url.origin
        where = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.target)
        sent = [("Host", origin.authority), ("User-Agent", "cubeport"), ("Content-Length", str(len(body))), *headers.items()]
        with httpcore.ConnectionPool(max_connections=1, max_keepalive_connections=0, network_backend=self.network(origin)) as pool:
            try:
                response = pool.handle_request(httpcore.Request("POST", where, headers=sent, content=body))
            except httpcore.TimeoutException as exc:
                raise SourceTimeout(f"{origin} took too long.", next_step="try again later") from exc
            except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
                raise SourceFailed(f"{origin} failed: {str(exc)[:200]}.", next_step="try again later") from exc
            response.close()
            return int(response.status)
