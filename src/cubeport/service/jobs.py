"""Jobs: ingestions that outlive their request, as rows that every process sees (service.md 10).

``accepted → running → completed | failed | cancelled``, each step a compare-and-set. A worker holds a kernel lock for its life: if
that lock can be taken, the worker is dead and its jobs are ended. No heartbeat, no clock decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cubeport.catalog.backend import Row
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.durable import make_folders
from cubeport.catalog.disk.locks import FileLock
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.errors import AlreadyFinished, Cancelled, CubeportError, Interrupted, NotFound, QueueFull, StaleRecord
from cubeport.service.ingest import Ingester, Outcome
from cubeport.service.ingestions import UNFINISHED, Ingestion, Phase
from cubeport.service.state import JOB

PROGRESS_S = 1.0
"""Progress is stored at most so often; what is between is lost, on purpose."""

POLL_S = 1.0
"""How long a worker sleeps when it knows of no work: jobs accepted by other processes are seen this late at most."""

_log = logging.getLogger(__name__)

type Listener = Callable[[str, int, int], None]


class Jobs:
    """The queue of an instance, and the worker threads of this process."""

    def __init__(self, *, catalog: Catalog, ingester: Ingester, locks: Path, workers: int, queue: int) -> None:
        self._catalog = catalog
        self._rows = catalog.rows
        self._ingester = ingester
        self._locks = locks
        self._workers = workers
        self._queue = queue
        self._worker = new_id()
        self._life: FileLock | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._work = threading.Condition()

    # --- asking ---

    def submit(self, ingestion: Ingestion) -> Ingestion:
        """Accept the ingestion, or return the unfinished one that asks for the same. Committed before it returns.

        Raises
        ------
        QueueFull
        """
        accepted = self._accept(ingestion, worker=None)
        self.wake()
        return accepted

    def _accept(self, ingestion: Ingestion, *, worker: str | None) -> Ingestion:
        self.recover()
        with self._catalog.backend.transaction():
            for row in self._rows.select(JOB, owner=ingestion.dataset_id, states=UNFINISHED):
                if (held := _ingestion(row)).digest == ingestion.digest:
                    return held
            if self._rows.count(JOB, states=UNFINISHED) >= self._queue:
                raise QueueFull(f"{self._queue} ingestions are waiting.", setting="jobs.queue", limit=self._queue)
            self._rows.put(_row(ingestion, worker=worker))
        return ingestion

    def get(self, ingestion_id: str) -> Ingestion:
        """Return the ingestion. Raises NotFound."""
        return _ingestion(self._row(ingestion_id))

    def page(
        self,
        *,
        dataset_id: str | None = None,
        status: str | None = None,
        limit: int = 100,
        after: tuple[int, str] | None = None,
    ) -> list[tuple[Ingestion, tuple[int, str]]]:
        """Return ingestions, newest first, each with its place in the list."""
        rows = self._rows.select(
            JOB, owner=dataset_id, states=[status] if status else None, after=after, descending=True, limit=limit
        )
        return [(_ingestion(row), (row.seq, row.id)) for row in rows]

    def wait(self, ingestion_id: str, seconds: float) -> Ingestion:
        """Return the ingestion when it has finished, or as it is after *seconds*; it may run in any process."""
        deadline = time.monotonic() + seconds
        looked = time.monotonic()
        while not (ingestion := self.get(ingestion_id)).finished and (left := deadline - time.monotonic()) > 0:
            with self._work:
                self._work.wait(min(0.25, left))
            if time.monotonic() - looked > POLL_S:
                # Whoever has it may have died meanwhile: nobody waits for the dead.
                self.recover()
                looked = time.monotonic()
        return ingestion

    def cancel(self, ingestion_id: str) -> Ingestion:
        """Ask for its end; seen between units and chunks. Raises NotFound, AlreadyFinished."""
        if self.get(ingestion_id).finished:
            raise AlreadyFinished(f"Ingestion {ingestion_id} has ended.")
        return self._change(ingestion_id, lambda held: held.model_copy(update={"cancel_requested": True}))

    # --- working ---

    def run(self, ingestion: Ingestion, listener: Listener | None = None) -> Ingestion:
        """Run *ingestion* in this thread and return it finished; an identical unfinished one elsewhere is waited for."""
        with self._living():
            mine = ingestion.started(now())
            accepted = self._accept(mine, worker=self._worker)
            if accepted.ingestion_id == mine.ingestion_id:
                self._run(mine, listener)
            return self.wait(accepted.ingestion_id, float("inf"))

    def start(self) -> None:
        """Start the worker threads of this process."""
        self._live()
        for n in range(self._workers):
            thread = threading.Thread(target=self._loop, name=f"cubeport-job-{n}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Let running jobs end for *timeout_s*; what runs longer is left to recovery, accepted ones to the next process."""
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._life is not None and not any(thread.is_alive() for thread in self._threads):
            self._end()
        self._threads.clear()

    def wake(self) -> None:
        """Tell workers and waiters of this process that something changed."""
        with self._work:
            self._work.notify_all()

    def recover(self) -> list[Ingestion]:
        """End the jobs of dead workers: queued again if nobody waits for them, else ``failed``, ``interrupted``; return them.

        What their attempts left is undone by the catalog's own recovery, which runs first.
        """
        ended = []
        for row in self._rows.select(JOB, states=["running", "retrying"], limit=1000):
            worker = str(row.document.get("worker"))
            if worker == self._worker or not self._is_dead(worker):
                continue
            held = _ingestion(row)
            ended.append(self._change(held.ingestion_id, _again if not held.waited_for else _interrupted))
        return ended

    def _loop(self) -> None:
        while not self._stopping.is_set():
            claimed = self._next()
            if claimed is not None:
                self._run(claimed, None)
                continue
            with self._work:
                if not self._stopping.is_set():
                    self._work.wait(POLL_S)

    def _next(self) -> Ingestion | None:
        try:
            rows = self._rows.select(JOB, states=["accepted"], limit=10)
        except CubeportError:
            _log.exception("jobs: the catalog does not answer")
            return None
        return next((claimed for row in rows if (claimed := self._claim(row.id))), None)

    def _claim(self, ingestion_id: str) -> Ingestion | None:
        row = self._row(ingestion_id)
        if row.state != "accepted":
            return None
        claimed = _ingestion(row).started(now())
        try:
            self._rows.put(_row(claimed, worker=self._worker, revision=row.revision))
        except StaleRecord:
            return None
        return claimed

    def _run(self, ingestion: Ingestion, listener: Listener | None) -> None:
        job_id = ingestion.ingestion_id
        try:
            self._ingester.attempt(
                ingestion,
                progress=_Progress(self, job_id, listener),
                complete=lambda outcome: self._put(job_id, _completed(outcome)),
            )
        except Cancelled:
            self._change(job_id, lambda held: held.model_copy(update={"status": "cancelled", "finished_at": now()}))
        except CubeportError as exc:
            self._change(job_id, _failed(exc))
        except Exception as exc:  # noqa: BLE001 - see below
            # The one place where the unforeseen ends a job instead of a worker: its traceback goes to the log, once.
            _log.exception("ingestion %s failed unforeseen", job_id)
            problem = CubeportError(
                "Something unforeseen happened; the log has it.", next_step=f"cubeport logs --operation {job_id}"
            )
            problem.__cause__ = exc
            self._change(job_id, _failed(problem))
        finally:
            self.wake()

    # --- rows ---

    def _row(self, ingestion_id: str) -> Row:
        row = self._rows.get(JOB, ingestion_id)
        if row is None:
            raise NotFound(f"There is no ingestion {ingestion_id[:40]!r}.", what="ingestion", next_step="cubeport jobs")
        return row

    def _put(self, ingestion_id: str, change: Callable[[Ingestion], Ingestion]) -> Ingestion:
        """Change the row in the transaction that is open, or in one of its own."""
        row = self._row(ingestion_id)
        changed = change(_ingestion(row))
        worker = row.document.get("worker") if not changed.finished and changed.status != "accepted" else None
        self._rows.put(_row(changed, worker=worker, revision=row.revision))
        return changed

    def _change(self, ingestion_id: str, change: Callable[[Ingestion], Ingestion]) -> Ingestion:
        """Change the row, reading again when another was faster."""
        while True:
            try:
                return self._put(ingestion_id, change)
            except StaleRecord:
                continue

    # --- this process's life, as others can see it ---

    @contextmanager
    def _living(self) -> Iterator[None]:
        began = self._live()
        try:
            yield
        finally:
            if began:
                self._end()

    def _live(self) -> bool:
        if self._life is not None:
            return False
        self._life = FileLock(self._lock_path(self._worker), timeout_s=0)
        self._life.acquire()
        return True

    def _end(self) -> None:
        assert self._life is not None
        # Random names: nobody else ever takes this one, so it may be unlinked under its own lock.
        self._lock_path(self._worker).unlink(missing_ok=True)
        self._life.release()
        self._life = None

    def _is_dead(self, worker: str) -> bool:
        path = self._lock_path(worker)
        if not path.exists():
            return True
        lock = FileLock(path, timeout_s=0)
        if not lock.try_lock():
            return False
        path.unlink(missing_ok=True)
        lock.release()
        return True

    def _lock_path(self, worker: str) -> Path:
        folder = self._locks / "workers"
        make_folders(folder)
        return folder / f"{worker}.lock"


_PHASES = {"start": "checking"}
"""What a gate child calls its phases, where an ingestion says otherwise."""


class _Progress:
    """Stores a job's phase now and then, and raises when somebody asked for its end."""

    def __init__(self, jobs: Jobs, ingestion_id: str, listener: Listener | None) -> None:
        self._jobs = jobs
        self._id = ingestion_id
        self._listener = listener
        self._stored = 0.0
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        phase = _PHASES.get(phase, phase)
        if self._listener is not None:
            self._listener(phase, done, total)
        at = time.monotonic()
        if phase == "done" or (phase == self._phase and at - self._stored < PROGRESS_S):
            return
        self._stored, self._phase = at, phase
        percent = round(100 * done / total, 1) if total else 0.0
        shown = Phase.model_validate({"phase": phase, "done": done, "total": total, "percent": percent})
        held = self._jobs._change(self._id, lambda each: each.model_copy(update={"progress": shown}))  # noqa: SLF001 - one thing in two classes
        if held.cancel_requested and phase != "committing":
            raise Cancelled(f"Ingestion {self._id} was cancelled.")


def _row(ingestion: Ingestion, *, worker: Any = None, revision: int = 0) -> Row:
    document = {"ingestion": ingestion.model_dump(mode="json"), "worker": worker}
    seq = int(ingestion.created_at.timestamp() * 1_000_000)
    return Row(JOB, ingestion.ingestion_id, document, ingestion.dataset_id, ingestion.status, seq, revision)


def _ingestion(row: Row) -> Ingestion:
    return Ingestion.model_validate(row.document["ingestion"])


def _completed(outcome: Outcome) -> Callable[[Ingestion], Ingestion]:
    changes = {
        "status": "completed",
        "dataset_id": outcome.dataset_id,
        "action": outcome.plan.action,
        "plan": outcome.plan,
        "reused": outcome.reused,
        "version_id": outcome.version_id,
        "coverage": dict(outcome.coverage) if outcome.coverage else None,
        "warnings": outcome.warnings,
        "finished_at": now(),
        "progress": Phase(phase="done", done=1, total=1, percent=100.0),
    }
    return lambda held: held.model_copy(update=changes)


def _failed(problem: CubeportError) -> Callable[[Ingestion], Ingestion]:
    return lambda held: held.model_copy(update={"status": "failed", "error": problem.to_mapping(), "finished_at": now()})


def _interrupted(held: Ingestion) -> Ingestion:
    return _failed(Interrupted("The process that ran it died; nothing of it is left.", next_step="send the request again"))(held)


def _again(held: Ingestion) -> Ingestion:
    return held.model_copy(update={"status": "accepted", "progress": Phase()})
