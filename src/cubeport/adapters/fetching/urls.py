"""``kind: url``: files at HTTP URLs that can contain dates, or one Zarr store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from cubeport.adapters.fetching.downloads import download, name_of
from cubeport.adapters.fetching.patience import patiently
from cubeport.adapters.fetching.stac import refuse_stac
from cubeport.adapters.fetching.zarrs import PerhapsZarr, ZarrSource
from cubeport.adapters.storage.fetching import KeepingFetcher, Resource
from cubeport.cubes.placeholders import Pattern
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.errors import Cancelled, NoData, SourceFailed, SourceRejected, SourceTimeout

PROBES_AT_ONCE = 8

type Probe = Literal["head", "get", "none"]


class UrlSource(PerhapsZarr):
    """One file for each period's URL, or a single file.

    Parameters
    ----------
    fetcher
        Enforces the settings for origins, addresses and limits.
    probe
        How to find out which files exist: by HEAD, by GET (without reading the body), or not at all.
    store
        The same address read as a Zarr store, if its name does not tell what is there.
    """

    max_concurrency = 8
    resumes = True
    is_patient = True
    asks_each = True

    def __init__(
        self, pattern: Pattern, fetcher: KeepingFetcher, *, probe: Probe = "head", store: ZarrSource | None = None
    ) -> None:
        super().__init__(store)
        self._pattern = pattern
        self._probe = probe
        self._stopping = fetcher.stopping
        self._fetcher = fetcher
        self.is_periodic = pattern.has_dates

    def stop(self) -> None:
        """Stop running fetches."""
        self._stopping.set()

    def unit(self, period: Period) -> str:
        """Return the URL of a period. Periods of the same file share it."""
        return self._pattern.at(period)

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:
        """Return the periods whose URL exists; ``None`` without a probe."""
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
        """Return the current ETag of the URL, or its time and size; ``None`` for a Zarr store, which checks each key itself."""
        if self._probe == "none" or self._store is not None:
            return None
        found = self._head(self._pattern.at(period))
        return found.validator if found is not None else None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        """Fetch the file. Raises NoData if the origin says that it does not exist."""
        if (store := self._store) is not None:
            return store.fetch_period(period, area, into)
        uri = self._pattern.at(period)
        path = into / name_of(uri)
        with _named(uri):
            found = download(self._fetcher, uri, path, stopping=self._stopping)
        if found is None:
            raise NoData(f"There is nothing at {uri.partition('?')[0][:300]}.", next_step="check the address and the period")
        refuse_stac(uri, path)
        return Fetched((path,), found.validator)

    def _head(self, uri: str) -> Resource | None:
        def ask() -> Resource | None:
            if self._stopping.is_set():
                raise Cancelled("The fetch was stopped.")
            return self._fetcher.head(uri, by_get=self._probe == "get")

        try:
            with _named(uri):
                return patiently(ask, self._stopping)
        except SourceRejected as exc:
            if self._probe == "head" and exc.members.get("upstream_status") in (405, 501):
                step = "set probe: get in the source, or probe: none"
                raise SourceRejected(exc.message, reason="unreadable", source=exc.members.get("source"), next_step=step) from exc
            raise


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Name the file in errors of the origin, of which a template with dates asks for many."""
    try:
        yield
    except (SourceFailed, SourceRejected, SourceTimeout) as exc:
        exc.message = f"{name_of(uri)}: {exc.message}"
        raise
