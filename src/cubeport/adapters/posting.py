"""Send requests to allowed origins with the checks of fetching: checked addresses, no redirects, limits on time and size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import httpcore

from cubeport.adapters.storage.fetching import Bounds, OriginFetcher
from cubeport.catalog.forms.addresses import WebURL
from cubeport.errors import SourceFailed, SourceRejected, SourceTimeout


class Asker(OriginFetcher):
    """Sends requests with any method.

    Parameters
    ----------
    setting
        The name of the list that *origins* come from, for messages.
    """

    def __init__(self, origins: Iterable[str], bounds: Bounds | None = None, *, setting: str, **rest: object) -> None:
        super().__init__(origins, bounds, **rest)  # type: ignore[arg-type]  # passed on unchanged
        self._setting = setting

    def ask(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, most: int = 64 << 10
    ) -> tuple[int, bytes]:
        """Return the status and the body of the answer.

        Raises
        ------
        SourceRejected
            If the origin or the address is not allowed, or the answer has more than *most* bytes.
        SourceFailed, SourceTimeout
            If there is no complete answer.
        """
        try:
            return self._asked(method, self._allowed(url), body, headers or {}, most)
        except SourceRejected as exc:
            # The fetcher's message is about sources; here another list of origins decides.
            step = exc.next_step.replace("sources.origins", self._setting) if exc.next_step else None
            raise SourceRejected(exc.message, next_step=step, **exc.members) from None

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send *body* and return the status (the port ``service.webhooks.Post``)."""
        return self.ask("POST", url, body, headers)[0]

    def _asked(self, method: str, url: WebURL, body: bytes, headers: Mapping[str, str], most: int) -> tuple[int, bytes]:
        origin = url.origin
        where = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.target)
        sent = [("Host", origin.authority), ("User-Agent", "cubeport"), ("Accept-Encoding", "identity"), *headers.items()]
        sent += [("Content-Length", str(len(body)))] if body or method != "GET" else []
        with httpcore.ConnectionPool(max_connections=1, max_keepalive_connections=0, network_backend=self.network(origin)) as pool:
            try:
                response = pool.handle_request(httpcore.Request(method, where, headers=sent, content=body))
                try:
                    answer = bytearray()
                    for piece in response.iter_stream():
                        answer += piece
                        if len(answer) > most:
                            raise SourceRejected(f"{origin} answers with more than {most} bytes.", reason="too-big")
                finally:
                    response.close()
            except httpcore.TimeoutException as exc:
                raise SourceTimeout(f"{origin} took too long.", next_step="try again later") from exc
            except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
                raise SourceFailed(f"{origin} failed: {str(exc)[:200]}.", next_step="try again later") from exc
        return int(response.status), bytes(answer)
