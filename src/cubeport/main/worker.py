"""Run the jobs of an instance in a process that does not answer HTTP."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cubeport.errors import CubeportError, ReadOnly
from cubeport.main import logs
from cubeport.main.allocator import share_arenas
from cubeport.main.catalog import Catalog
from cubeport.main.querying import jobs_of, queries_of, room_of, versions_of
from cubeport.main.service import children_of, service_of, warm_up

LOOK_S = 5.0
"""How often the process looks whether its own threads can work, in seconds."""

_log = logging.getLogger("cubeport.worker")


def work(root: Path, *, announce: Callable[[str], None], tell: Callable[[str], None], **flags: Any) -> int:
    """Run the jobs, schedules, retention and webhooks of the instance until SIGINT or SIGTERM. Return the exit code.

    Jobs of dead processes are recovered first. At a signal, no job is begun any more, and running ones have 30 s to end; another
    process then takes the others, as if this one had died. A second signal does not wait.

    Parameters
    ----------
    announce
        Called with what this process does, when it does it.
    tell
        Called with notes: what was recovered, and what a signal began.

    Raises
    ------
    ReadOnly
        If the instance accepts no writes, so that there can be no jobs.
    InvalidConfiguration, Unavailable
        What opening the instance raises.
    """
    from cubeport.settings import load

    share_arenas()
    settings = load(root, **flags)
    logs.begin(settings)
    if settings.read_only:
        raise ReadOnly(
            "This instance is read-only, so it has no jobs to run.",
            setting="read_only",
            next_step="set read_only: false in config/service.yaml, or run the worker on the instance that this one copies",
        )
    with _signals(tell) as stopping:
        catalog = Catalog.open(root, data_dir=settings.data_dir)
        with service_of(settings, catalog, children_of(settings)) as service:
            service.engines.writer.set_up()  # an engine that cannot write stops the start
            queries = queries_of(settings, service, versions_of(settings, service), room_of(settings))
            service.jobs.makes_tables(jobs_of(settings, queries, service))
            warm_up(settings, requests=False)
            for each in (*catalog.recovered, *service.recover()):
                tell(_recovered(each))
            doing = _doing(root, settings.jobs.workers, service.jobs.unfinished())
            service.start(answers=False)
            announce(doing)
            logs.tell_supervisor("READY=1")
            said = ""
            while not stopping.wait(LOOK_S):
                said = _looked(service.check_jobs, said)
            logs.tell_supervisor("STOPPING=1")
        tell("The worker has stopped.")
    return 0


def _doing(root: Path, at_once: int, unfinished: Mapping[str, int]) -> str:
    waiting = unfinished["accepted"] + unfinished["retrying"]
    ingestions = "one ingestion" if at_once == 1 else f"{at_once} ingestions"
    jobs = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
    return f"Runs the jobs, schedules and webhooks of {root}: {ingestions} at once; {jobs} now.\nPress Ctrl-C to stop."


def _recovered(what: Any) -> str:
    """Return the line about an operation or a job whose process died."""
    if hasattr(what, "outcome"):
        return f"operation {what.operation_id[:8]} did not finish: {what.outcome}"
    again = "it waits again" if what.status == "accepted" else f"it is {what.status}"
    return f"job {what.ingestion_id} of {what.dataset_id}: the process that ran it died, and {again}"


def _looked(check: Callable[[], None], said: str) -> str:
    """Log why the jobs of this process cannot go on, once for each reason, and return the reason."""
    try:
        check()
    except CubeportError as exc:
        if exc.message != said:
            _log.warning("jobs do not go on: %s", exc.message)
        return exc.message
    return ""


@contextmanager
def _signals(tell: Callable[[str], None]) -> Iterator[threading.Event]:
    """Yield the event that the first SIGINT or SIGTERM sets. The second raises KeyboardInterrupt."""
    stopping = threading.Event()

    def heard(*_: object) -> None:
        if stopping.is_set():
            exc = KeyboardInterrupt()
            exc.add_note("Stopped at once: the next process that looks takes the jobs that were running.")
            raise exc
        tell(
            "Stopping: no job begins any more, and running ones have 30 s to end; then another process takes them."
            " Press Ctrl-C again to stop at once."
        )
        stopping.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
