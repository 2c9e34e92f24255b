"""Count the answers of this process for ``/metrics``, in the text format of Prometheus (0.0.4), and write the access log."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cubeport.errors import CubeportError

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is measured on request."""

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    """The description for ``# HELP``."""
    values: Callable[[], Mapping[str, float]]
    """Returns the values by label text: ``""``, ``state="ok"``."""


BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0)
"""The upper bounds of the histogram of response times, in seconds."""

_BATCH = 200
_DELAY_S = 0.5


class Traffic:
    """Counts answers by route, method and status. Only the event loop uses it, so it needs no lock.

    Parameters
    ----------
    write
        Writes lines of the access log; ``None`` for no log.
    form
        Whether a line is plain text or a JSON object.
    """

    def __init__(self, write: Callable[[str], object] | None = None, form: Literal["text", "json"] = "text") -> None:
        self._form = form
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._bytes: Counter[str] = Counter()
        self._times: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._write = write
        self._lines: list[str] = []

    def add(
        self, *, route: str, method: str, target: str, client: str, status: int, size: int, seconds: float, request_id: str
    ) -> None:
        """Count one answer after its last byte was passed to the connection."""
        method = method if method in _METHODS else "OTHER"
        self._requests[route, method, status] += 1
        self._bytes[route] += size
        self._seconds[route] += seconds
        bounds = self._times[route]
        bounds[bisect_left(BUCKETS_S, seconds)] += 1
        if self._write is not None:
            document = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": "info",
                "logger": "cubeport.access",
                "client": client,
                "method": method,
                "target": target[:2000],
                "route": route,
                "status": status,
                "bytes": size,
                "ms": round(seconds * 1000, 1),
                "request_id": request_id,
            }
            self._lines.append(f"{json.dumps(document) if self._form == 'json' else _words(document)}\n")
            # Several lines are written together, because writing each line would cost more than a small answer.
            if len(self._lines) >= _BATCH:
                self.flush()
            elif len(self._lines) == 1:
                asyncio.get_running_loop().call_later(_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write the waiting lines of the access log."""
        if self._write is not None and self._lines:
            lines, self._lines = self._lines, []
            self._write("".join(lines))

    def text(self, metrics: Iterable[Metric]) -> str:
        """Return all counts and *metrics*. A metric that cannot be measured now is omitted."""
        return "".join(f"{line}\n" for line in self._all(metrics))

    def _all(self, metrics: Iterable[Metric]) -> Iterable[str]:
        yield from _head("cubeport_requests_total", "counter", "Answers of this process by route, method and status.")
        for (route, method, status), count in sorted(self._requests.items()):
            yield f'cubeport_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}'
        yield from _head("cubeport_response_bytes_total", "counter", "Bytes of bodies by face and route.")
        for route, size in sorted(self._bytes.items()):
            yield f'cubeport_response_bytes_total{{face="{_face(route)}",route="{route}"}} {size}'
        yield from _head("cubeport_request_seconds", "histogram", "Seconds from the head of a request to the end of its answer.")
        for route, counts in sorted(self._times.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
                total += count
                yield f'cubeport_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'cubeport_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'cubeport_request_seconds_count{{route="{route}"}} {total}'
        for metric in metrics:
            try:
                values = metric.values()
            except (CubeportError, OSError):
                continue  # cubeport_check shows what does not respond
            yield from _head(metric.name, metric.kind, metric.text)
            for labels, value in sorted(values.items()):
                yield f"{metric.name}{{{labels}}} {value:.17g}" if labels else f"{metric.name} {value:.17g}"


def _face(route: str) -> str:
    """Return the face of a route, by its first part."""
    return route.split("/")[1] or "pages" if route.startswith("/") else route


_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _words(document: Mapping[str, Any]) -> str:
    """Return the text line of an answer. No word in it contains a space."""
    return "{time} {client} {method} {target} {status} {bytes} {ms}ms {request_id}".format_map(
        {**document, "target": _printable(document["target"])}
    )


_PLAIN = re.compile("[!-~]{1,2000}")


def _printable(text: str) -> str:
    """Return the target of a request as one word, with characters that could break the line or the terminal escaped."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(each if "!" <= each <= "~" else f"\\x{ord(each):02x}" for each in text[:2000])


def to_stderr(text: str) -> None:
    """Write lines of the access log to standard error, like the rest of the log."""
    sys.stderr.write(text)
    sys.stderr.flush()
