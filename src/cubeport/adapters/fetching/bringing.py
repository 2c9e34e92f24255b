"""Fetch the periods of a source. Kept files that are still valid are not fetched again; a source that breaks its contract is
named.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubeport.adapters.fetching.kept import KeptFolder, Unit
from cubeport.adapters.fetching.patience import Patience, patiently
from cubeport.cubes.sources import Fetched, Period, PeriodSource
from cubeport.cubes.write_request import BringOrder, Brought, Progress, StoreKey
from cubeport.errors import Cancelled, Configuration, CubeportError, NoData, SourceFailed, SourceTimeout

_LOOK_S = 0.25
"""How often to check for a cancelled job, in seconds."""


class Bringer:
    """Fetches the files that an ingestion needs from a source on another machine."""

    def __init__(self, kept: KeptFolder) -> None:
        self._kept = kept

    @contextmanager
    def bring(self, source: PeriodSource, order: BringOrder, *, progress: Progress) -> Iterator[Brought]:
        """Fetch the periods of *order*. Their files stay in place until the block ends.

        Raises
        ------
        CubeportError
            What the source raises. Other exceptions become SourceFailed with their message.
        Cancelled
            From *progress*.
        """
        with self._kept.using(order.dataset_id) as folder:
            yield self._all(source, order, folder, progress)

    def _all(self, source: PeriodSource, order: BringOrder, folder: Path, progress: Progress) -> Brought:
        units: dict[str, list[Period | None]] = {}
        for period in order.periods:
            units.setdefault(_unit(source, period), []).append(period)
        work = _Work(source, order, {name: self._kept.unit(folder, order.source, name) for name in units})
        found = work.run({name: each[0] for name, each in units.items()}, progress)
        by_period = {period: found.get(name) for name, each in units.items() for period in each}
        there = tuple((period, fetched.files) for period in order.periods if (fetched := by_period[period]) is not None)
        missing = tuple(period for period in order.periods if period is not None and by_period[period] is None)
        validators = {
            str(period): fetched.validator
            for period, fetched in by_period.items()
            if period is not None and fetched is not None and fetched.validator is not None
        }
        return Brought(there, missing, validators, _objects(source, by_period))


def _objects(source: PeriodSource, found: Mapping[Period | None, Fetched | None]) -> dict[Path, StoreKey]:
    """Return which object of an S3 store each file is, if the source says so and the store gave a strong ETag."""
    locate: Callable[[Period | None], tuple[str, str] | None] | None = getattr(source, "location", None)
    if locate is None:
        return {}
    return {
        file: StoreKey(*place, etag=etag)
        for period, fetched in found.items()
        if fetched is not None and (etag := fetched.validator or "").startswith('"') and (place := locate(period)) is not None
        for file in fetched.files
    }


@dataclass(slots=True)
class _Work:
    source: PeriodSource
    order: BringOrder
    places: dict[str, Unit]
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, units: dict[str, Period | None], progress: Progress) -> dict[str, Fetched | None]:
        """Fetch all units, some at the same time. The first failure stops the others."""
        at_once = min(self.order.at_once, int(getattr(self.source, "max_concurrency", 1)))
        found: dict[str, Fetched | None] = {}
        pool = ThreadPoolExecutor(max(1, at_once), thread_name_prefix="fetch")
        try:
            progress("fetching", 0, len(units))
            running: dict[Future[Fetched | None], str] = {
                pool.submit(self._one, name, period): name for name, period in units.items()
            }
            while running:
                # No local name keeps a future: it has its exception, whose traceback has this frame, so that the connections of
                # the source would live until a collection of cycles.
                done = {running.pop(each): each.result() for each in wait(running, _LOOK_S, FIRST_COMPLETED).done}
                if self.order.stops_at_missing and None in done.values():
                    self.over.set()
                found |= done
                progress("fetching", len(found), len(units))
        except BaseException:
            self.over.set()
            if (stop := getattr(self.source, "stop", None)) is not None:
                stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return found

    def _one(self, name: str, period: Period | None) -> Fetched | None:
        if self.over.is_set():
            return None
        place = self.places[name]
        with Patience(self.order.timeout_s, self.order.retries).used(), _named_errors(self.order.name, period):
            choose, fetch_chosen = self.order.choose, getattr(self.source, "fetch_chosen", None)
            if choose is not None and fetch_chosen is not None:
                # Which part is needed can change at any time, so the source checks itself what of it is kept.
                return self._fetched(place, period, lambda into: fetch_chosen(choose, into), resumes=True)
            if (held := place.held()) is not None and self._is_right(held, period):
                return held[0]
            resumes = bool(getattr(self.source, "resumes", False))
            try:
                return self._fetched(
                    place, period, lambda into: self.source.fetch_period(period, self.order.area, into), resumes=resumes
                )
            except NoData:
                if period is None:
                    raise
                return None

    def _fetched(self, place: Unit, period: Period | None, fetch: Callable[[Path], Fetched], *, resumes: bool) -> Fetched:
        """Fetch one unit. The sources of cubeport keep the limits themselves, for each file; for a plugin they are kept here."""
        if getattr(self.source, "is_patient", False):
            fetched = fetch(into := place.begin(resumes=resumes))
        else:

            def act() -> tuple[Fetched, Path]:
                with _named_errors(self.order.name, period):
                    into = place.begin(resumes=resumes, apart=True)
                    return fetch(into), into

            try:
                fetched, into = patiently(act, self.over, apart=True)
            except (Cancelled, SourceTimeout):
                place.leave()  # to a call that may still write there
                raise
        _check(self.order.name, fetched, into)
        place.done(fetched, self.order.job)
        return fetched

    def _is_right(self, held: tuple[Fetched, str], period: Period | None) -> bool:
        """Return whether kept files are current: the source's validator is the same, or this job fetched them itself."""
        fetched, job = held
        if job == self.order.job:
            return True
        ask: Callable[[Period | None], str | None] | None = getattr(self.source, "validator", None)
        return fetched.validator is not None and ask is not None and ask(period) == fetched.validator


def _unit(source: PeriodSource, period: Period | None) -> str:
    if period is None:
        return ""
    name: Callable[[Period], str] | None = getattr(source, "unit", None)
    return str(period) if name is None else name(period)


def _check(name: str, fetched: Any, into: Path) -> None:
    """Check the answer of a source against its contract. Raises Configuration."""
    if not isinstance(fetched, Fetched) or not fetched.files:
        raise Configuration(f"The source {name} did not return files of a period.")
    for each in fetched.files:
        if not each.is_relative_to(into) or not each.exists():
            raise Configuration(f"The source {name} returned {each.name!r}, which is not below the folder that it was given.")


def check_listed(name: str, listed: Sequence[Period], start: Period, end: Period) -> None:
    """Check a list of periods against its contract: ascending, each once, none outside. Raises Configuration."""
    numbers = [each.number for each in listed]
    if sorted(set(numbers)) != numbers:
        raise Configuration(f"The source {name} lists its periods out of order, or some of them twice.")
    if numbers and not (start.number <= numbers[0] and numbers[-1] <= end.number):
        raise Configuration(f"The source {name} lists periods that were not asked for.")


@contextmanager
def _named_errors(name: str, period: Period | None) -> Iterator[None]:
    try:
        yield
    except CubeportError:
        raise
    except Exception as exc:
        at = f" for {period}" if period is not None else ""
        words = " ".join(f"{type(exc).__name__}: {exc}".split())[:200]
        raise SourceFailed(f"The source {name} failed{at}: {words}", next_step="try again later, or tell its author") from exc


AHEAD = 100
"""With an open end, a source with ``asks_each`` is searched this many periods beyond the last existing one."""


def listed(name: str, source: PeriodSource, start: Period, end: Period, *, is_open: bool = False) -> tuple[Period, ...] | None:
    """Return the periods that the source lists; see :class:`~cubeport.cubes.sources.PeriodSource`."""
    found: list[Period] = []
    step = AHEAD if is_open and getattr(source, "asks_each", False) else end.number - start.number + 1
    for first in range(start.number, end.number + 1, step):
        lower, upper = start.moved(first - start.number), start.moved(min(first + step - 1, end.number) - start.number)
        with _named_errors(name, None):
            part = source.periods(lower, upper)
        if part is None:
            return None
        check_listed(name, part, lower, upper)
        found += part
        if not part:
            break
    return tuple(found)
