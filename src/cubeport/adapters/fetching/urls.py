"""``kind: url``: files behind HTTP addresses with dates in them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from cubeport.adapters.fetching.downloads import download, name_of, patiently
from cubeport.adapters.storage.fetching import KeepingFetcher, Resource
from cubeport.cubes.placeholders import Pattern
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.errors import Cancelled, NoData, SourceRejected

PROBES_AT_ONCE = 8

type Probe = Literal["head", "get", "none"]


class UrlSource:
    """One file at each period's address, or one file in all.

    Parameters
    ----------
    fetcher
        Holds origins, addresses and bounds to the settings.
    probe
        How the source is asked what there is: by HEAD, by GET (its body is left), or not at all.
    """

    max_concurrency = 8
    resumes = True
    asks_each = True

    def __init__(self, pattern: Pattern, fetcher: KeepingFetcher, *, probe: Probe = "head") -> None:
        self._pattern = pattern
        self._probe = probe
        self._stopping = threading.Event()
        self._fetcher = fetcher
        self.is_periodic = pattern.has_dates

    def stop(self) -> None:
        """End what runs."""
        self._stopping.set()

    def unit(self, period: Period) -> str:
        """Return the address of a period: periods of one file share it."""
        return self._pattern.at(period)

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:
        """Return those whose address answers; ``None`` without a probe."""
        if self._probe == "none":
            return None
        asked = [start.moved(n) for n in range(end.number - start.number + 1)]
        units = dict.fromkeys(self.unit(each) for each in asked)
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(PROBES_AT_ONCE))
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            there = dict(zip(units, pool.map(lambda uri: self._head(uri) is not None, units), strict=True))
        return [each for each in asked if there[self.unit(each)]]

    def validator(self, period: Period | None) -> str | None:
        """Return the ETag, or time and size, that the address says now."""
        if self._probe == "none":
            return None
        found = self._head(self._pattern.at(period))
        return found.validator if found is not None else None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:  # noqa: ARG002 - whole files come
        """Bring the file. Raises NoData when the origin says that there is none."""
        uri = self._pattern.at(period)
        path = into / name_of(uri)
        found = download(self._fetcher, uri, path, stopping=self._stopping)
        if found is None:
            raise NoData(f"There is nothing at {uri.partition('?')[0][:300]}.", next_step="check the address and the period")
        return Fetched((path,), found.validator)

    def _head(self, uri: str) -> Resource | None:
        def ask() -> Resource | None:
            if self._stopping.is_set():
                raise Cancelled("The fetch was stopped.")
            return self._fetcher.head(uri, by_get=self._probe == "get")

        try:
            return patiently(ask, self._stopping)
        except SourceRejected as exc:
            if self._probe == "head" and exc.members.get("upstream_status") in (405, 501):
                step = "set probe: get in the source, or probe: none"
                raise SourceRejected(exc.message, reason="unreadable", source=exc.members.get("source"), next_step=step) from exc
            raise
