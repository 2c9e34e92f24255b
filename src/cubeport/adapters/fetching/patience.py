"""How long a source may take, and how often it is asked again: one rule for every kind of source.

A unit is one file, one object, one chunk of a Zarr store or one period of a plugin. A try of it takes at most
``ingestion.timeout_s``; a try that failed with an error that can pass is made again ``ingestion.retries`` times,
with growing pauses. What a try received is kept if the source can continue there. The attempts of the job (``jobs.max_attempts``)
come after all of this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from cubeport.adapters.storage.fetching import is_over, within
from cubeport.errors import Cancelled, SourceFailed, SourceTimeout, StoreUnavailable

FIRST_PAUSE_S = 0.5
"""The pause before the second try, in seconds. Each further one is four times as long, up to :data:`LONGEST_PAUSE_S`."""

LONGEST_PAUSE_S = 60.0

MAY_PASS = (SourceFailed, SourceTimeout, StoreUnavailable)
"""What another try can cure (502, 503, 504, a lost connection). A refusal, and data that do not exist, are final."""

_LOOK_S = 0.25
"""How often to check whether to stop while another thread works, in seconds."""


@dataclass(frozen=True, slots=True)
class Patience:
    """``timeout_s`` and ``retries`` of ``ingestion`` in a template."""

    timeout_s: float | None = None
    """The longest time of a try, in seconds; ``None`` leaves it to the limits of the connection."""
    retries: int = 3

    @contextmanager
    def used(self) -> Iterator[None]:
        """Apply it to what this thread fetches during the block."""
        before = _MINE.set(self)
        try:
            yield
        finally:
            _MINE.reset(before)

    def apply(self) -> None:
        """Apply it to what this thread fetches from now on."""
        _MINE.set(self)


_MINE: ContextVar[Patience] = ContextVar("patience", default=Patience())  # noqa: B039 - the default is frozen


def patience() -> Patience:
    """Return what applies in this thread; outside a unit (listing a source), that has no limit of time of its own."""
    return _MINE.get()


def patiently[T](act: Callable[[], T], stopping: threading.Event, *, apart: bool = False) -> T:
    """Return the result of *act*. Errors that can pass are followed by another try until none is left.

    Parameters
    ----------
    apart
        Whether *act* knows no limits, as the code of a plugin. It then runs in a thread of its own, which is left behind if it
        takes too long, and is not called again beside itself.

    Raises
    ------
    SourceTimeout
        If a try took longer than ``timeout_s``.
    Cancelled
        If *stopping* was set.
    CubeportError
        What *act* raises.
    """
    mine = patience()
    for tried in range(mine.retries):
        try:
            return _try(act, mine, stopping, apart=apart)
        except MAY_PASS as exc:
            if isinstance(exc.__cause__, _StillRuns) or stopping.wait(min(FIRST_PAUSE_S * 4**tried, LONGEST_PAUSE_S)):
                raise
    return _try(act, mine, stopping, apart=apart)


def _try[T](act: Callable[[], T], mine: Patience, stopping: threading.Event, *, apart: bool) -> T:
    if mine.timeout_s is None:
        return act()
    with within(mine.timeout_s):
        try:
            return _apart(act, stopping) if apart else act()
        except (SourceTimeout, _StillRuns) as exc:
            if not is_over():
                raise
            raise SourceTimeout(
                f"The source took longer than {mine.timeout_s:g} s.",
                next_step="try again later, or raise ingestion.timeout_s in the template",
                setting="ingestion.timeout_s",
                limit=mine.timeout_s,
            ) from exc


class _StillRuns(Exception):
    """The time is over, and the call cannot be ended."""


def _apart[T](act: Callable[[], T], stopping: threading.Event) -> T:
    """Return the result of *act*, or leave its thread behind when the time is over."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as exc:  # noqa: BLE001 - raised again where the result is awaited
            future.set_exception(exc)

    threading.Thread(target=run, name="fetch-apart", daemon=True).start()
    while not wait([future], _LOOK_S).done:
        if stopping.is_set():
            raise Cancelled("The fetch was stopped.")
        if is_over():
            raise _StillRuns
    return future.result()
