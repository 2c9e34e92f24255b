"""The executor that ``jobs.executor`` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from cubeport.catalog.backend import Finding
from cubeport.errors import Unavailable

if TYPE_CHECKING:
    from cubeport.adapters.executors.dask import DaskExecutor
    from cubeport.adapters.gate.divided import Divided
    from cubeport.adapters.sandbox.limits import SourceLimits
    from cubeport.settings import Settings


def executor_of(settings: Settings) -> DaskExecutor | None:
    """Return the executor, whose library is imported when it is first used; ``None`` if this process does the work."""
    if settings.jobs.executor == "local":
        return None
    assert settings.jobs.dask_address is not None, "the settings demand it"
    return _executor(settings.jobs.dask_address, settings.jobs.dask_wait_s)


_READY_S = 1.0
"""How long ``/ready`` waits for the scheduler. A probe waits a few seconds for the whole answer."""


@cache
def _executor(address: str, wait_s: float) -> DaskExecutor:
    """Return the one executor of this process for a scheduler, so that ingestions and ``/ready`` ask it once for both."""
    from cubeport.adapters.executors.dask import DaskExecutor

    return DaskExecutor(address, wait_s)


def divided_of(settings: Settings, limits: SourceLimits) -> Divided | None:
    """Return what has the chunks of a large version written by the executor; ``None`` if this process does the work."""
    executor = executor_of(settings)
    if executor is None:
        return None
    from cubeport.adapters.gate.divided import Divided

    return Divided(executor, limits, settings.jobs.unit_bytes)


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield for ``doctor`` whether the executor answers; nothing if this process does the work."""
    executor = executor_of(settings)
    if executor is None:
        return
    try:
        found = executor.check()
    except Unavailable as exc:
        yield Finding(exc.kind, "jobs.dask_address", exc.message, exc.next_step, "error")
        return
    words = f"the Dask scheduler {executor.address} answers: {found.workers} workers, {found.threads} threads"
    yield Finding("executor", "jobs.dask_address", words, level="ok")


def summary(executor: DaskExecutor) -> Mapping[str, Any]:
    """Return what ``/ready`` shows. Readers need no executor, so it neither decides whether the server is ready nor delays that."""
    try:
        found = executor.check(_READY_S)
    except Unavailable as exc:
        return {"status": exc.kind}
    return {"status": "ok", "workers": found.workers, "threads": found.threads}
