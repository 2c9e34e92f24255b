"""Jobs: ingestions and tables that continue after their request, stored as rows that all processes see.

The states are ``accepted → running → completed | failed | cancelled`` and ``running → retrying → running``. Each change is a
compare-and-set. A worker holds a kernel lock while it lives. If this lock is free, the worker is dead, and any process that reads
its jobs ends them or queues them again. A worker survives any failure of a job: if it cannot write the row of the job, it retries
until it can.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Protocol

from cubeport.catalog.backend import Row
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.catalog.forms.clock import has_come
from cubeport.catalog.locks import Locks
from cubeport.errors import (
    AlreadyFinished,
    BackendUnavailable,
    Cancelled,
    CubeportError,
    DatasetBusy,
    ExecutorUnavailable,
    Interrupted,
    InvalidRequest,
    Locked,
    NoSpace,
    NotFound,
    QueueFull,
    SourceFailed,
    SourceTimeout,
    StaleRecord,
    StoreUnavailable,
    Unavailable,
)
from cubeport.service.ingest import Ingester
from cubeport.service.ingestions import UNFINISHED, WAITING, Ingestion, Phase, Status, TableJob, Work, job_of, no_ingestion
from cubeport.service.maker import Outcome
from cubeport.service.outages import CATALOG, Outages, Watch
from cubeport.service.servers import Servers
from cubeport.service.state import JOB
from cubeport.service.withheld import with_request_of, without_secrets
from cubeport.service.workers import Life, Workers

PROGRESS_S = 1.0
"""Progress is stored at most this often, in seconds. Progress in between is dropped on purpose, and so are the phases of a job that
is done within this time: to store each would cost a small file more than to write it.
"""

_UNTOLD = ("waiting", "planning")
"""Phases during which nothing more is told, however long they last. They are always stored; a job starts with the second, and has
the first only if somebody else holds its dataset. So a short job is stored once less."""

TABLES = 16
"""The largest number of unfinished jobs that make tables. They have a thread of their own, and no part in the queue of ingestions:
everybody who may read may ask for one."""

FULL_S = 2.0
"""How long a disk is full before a caller who waits hears it, in seconds. Space can come back at any moment."""

POLL_S = 1.0
"""How long an idle worker sleeps, in seconds. It sees jobs that other processes accepted after at most this time."""

CLOCK_S = 5.0
"""How often a process with workers checks for jobs of dead workers and for old rows, in seconds."""

CHORES_S = 60.0
"""How often the clock does the regular tasks, such as retention, in seconds."""

RETRY_AFTER_S = (60.0, 120.0, 240.0)
"""The pauses after failed attempts of an asynchronous job, in seconds."""

SPREAD = 1.1
"""A pause is longer by up to this factor, so that jobs that failed together do not come back together."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
_PRUNED_AT_ONCE = 500

_log = logging.getLogger(__name__)

_DEAD = Watch("the jobs of dead workers cannot be looked for", "the jobs of dead workers are looked for again")

type Listener = Callable[[str, int, int], None]


class TableMaker(Protocol):
    """Makes the tables of jobs."""

    def attempt(self, job: TableJob, *, progress: Listener) -> None:
        """Make the table. *progress* raises Cancelled once the job was cancelled. Raises what the table raises."""

    def has(self, job_id: str) -> bool:
        """Return whether the zones of a job are here. Servers on several machines may have no folder in common."""

    def prune(self) -> None:
        """Remove what is older than a day."""


class Jobs:
    """The queue of an instance, and the worker threads of this process.

    Parameters
    ----------
    locks
        The locks between the processes of the instance.
    workers, queue, max_attempts, keep_days
        The settings ``jobs.*``: the number of threads of this process, the largest number of unfinished jobs, the largest number of
        attempts of an asynchronous job, and how long finished jobs stay listed.
    chores
        Functions that the clock calls every minute.
    servers
        Where this process announces that it is running.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        ingester: Ingester,
        locks: Locks,
        workers: int,
        queue: int,
        max_attempts: int = 3,
        keep_days: int = 30,
        chores: Sequence[Callable[[], object]] = (),
        servers: Servers | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._outages = outages or Outages(_log)
        self._catalog = catalog
        self._rows = catalog.rows
        self._ingester = ingester
        self._alive = Workers(locks)
        self._workers = workers
        self._queue = queue
        self._max_attempts = max_attempts
        self._keep_days = keep_days
        self._chores = chores
        self._servers = servers
        self._worker = new_id()
        self._life: Life | None = None
        self._answers = True
        """Whether this process also answers HTTP."""
        self._unannounced = False
        """Whether this process lives again and has not said so yet."""
        self._running_here = 0
        """How many threads are in :meth:`run`. A process without worker threads is a worker only while there are any."""
        self._lives = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._work = threading.Condition()
        self._tables: TableMaker | None = None
        self._outcomes: Counter[str] = Counter()
        self._runs_ingestions = False
        self._kept: dict[str, Work] = {}
        """The jobs whose rows do not have all of their requests, as they were accepted here."""
        self._trouble: dict[str, CubeportError] = {}
        """Why the row of a job cannot be written, by job."""

    def makes_tables(self, maker: TableMaker) -> None:
        """Let this process also run jobs that make tables. Call it before :meth:`start`."""
        self._tables = maker
        self._chores = (*self._chores, maker.prune)

    # --- requests ---

    def submit[J: Work](self, job: J) -> J:
        """Accept the job, or return an identical unfinished one. It is committed before this returns.

        Raises
        ------
        InvalidRequest
            If its request has something that is not stored, which only this process could know, and this process runs no jobs.
        QueueFull
            If there are too many unfinished jobs.
        """
        accepted = self._accept(job, worker=None)
        self.wake()
        return accepted

    def _accept[J: Work](self, job: J, *, worker: str | None) -> J:
        self.recover()
        stored = without_secrets(job)
        if stored is job:
            return self._stored(job, worker=worker)
        if worker is None and not self._runs_ingestions:
            raise InvalidRequest(
                "The request has a query string in an address, or a secret. It is not stored, so no other process can run the job.",
                next_step="send the request to a server that runs jobs, or make a template of its source (config/datasets)",
            )
        self._kept[job.ingestion_id] = job  # before a thread can take it
        accepted = None
        try:
            accepted = self._stored(stored, worker=worker, keeper=self._worker, digest=job.digest)
        finally:
            if accepted is not stored:
                del self._kept[job.ingestion_id]
        return accepted

    def _stored[J: Work](self, job: J, *, worker: str | None, keeper: str | None = None, digest: str | None = None) -> J:
        """Store the job, or return an identical unfinished one.

        *digest* is that of the whole request, if the row has not all of it: two rows can then be equal, and their requests not.
        """
        with self._catalog.backend.transaction():
            for row in self._rows.select(JOB, owner=job.dataset_id, states=UNFINISHED):
                held = _job(row)
                if isinstance(held, type(job)) and self._kept.get(row.id, held).digest == (digest or job.digest):
                    return held
            self._check_room(job)
            self._rows.put(_row(job, worker=worker, keeper=keeper))
        return job

    def _check_room(self, job: Work) -> None:
        """Raise QueueFull if too many jobs of this kind are unfinished. The kinds do not take each other's places."""
        unfinished = self._rows.select(JOB, states=UNFINISHED, limit=self._queue + TABLES)
        tables = sum(map(_is_table, unfinished))
        if isinstance(job, TableJob):
            if tables >= TABLES:
                raise QueueFull(f"{TABLES} tables are waiting already.", limit=TABLES, next_step="try again later")
        elif len(unfinished) - tables >= self._queue:
            raise QueueFull(
                f"{self._queue} ingestions are waiting or running, which is the limit.",
                setting="jobs.queue",
                limit=self._queue,
                next_step="try again when one has ended (cubeport jobs), or raise jobs.queue",
            )

    def again(self, job: TableJob) -> Work:
        """Put a table that has ended back into the queue, as the same job. Raises NotFound, QueueFull."""
        with self._catalog.backend.transaction():
            self._check_room(job)
            begun = {"status": "accepted", "attempt": 0, "cancel_requested": False, "finished_at": None, "error": None}
            changed = self._put(job.ingestion_id, lambda held, _: held.model_copy(update={**begun, "progress": Phase()}))
        self.wake()
        return changed

    def give_up(self, ingestion_id: str, problem: CubeportError) -> None:
        """End a job that nothing can run any more. Raises NotFound."""
        self._change(ingestion_id, _ended(_failed(problem)))

    def forget(self, ingestion_id: str) -> None:
        """Remove a job that has ended from the list."""
        self._rows.delete(JOB, ingestion_id)

    def get(self, ingestion_id: str) -> Work:
        """Return the job. If its worker has died, this ends it. Raises NotFound."""
        row = self._row(ingestion_id)
        return self._seen([row])[0] if self._is_orphan(row) else _job(row)

    def follow(self, ingestion_id: str) -> tuple[Work, int]:
        """Return the ingestion and the number of changes of its row. A higher number means that there is news."""
        row = self._row(ingestion_id)
        if self._is_orphan(row):
            return self._seen([row])[0], row.revision + 1
        return _job(row), row.revision

    def page(
        self,
        *,
        dataset_id: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        after: tuple[int, str] | None = None,
    ) -> list[tuple[Work, tuple[int, str]]]:
        """Return ingestions, newest first, each with its position in the list: of a *kind*, and not before *since*."""
        found: list[tuple[Work, tuple[int, str]]] = []
        while True:
            part = self._page(dataset_id=dataset_id, status=status, limit=limit, after=after)
            for each, place in part.items:
                if since is not None and each.created_at < since:
                    return found
                if kind in (None, getattr(each, "kind", None)):
                    found.append((each, place))
                if len(found) == limit:
                    return found
            if part.last is None:
                return found
            after = part.last

    def _page(self, *, dataset_id: str | None, status: str | None, limit: int, after: tuple[int, str] | None) -> _Part:
        """Return the next rows, whatever their kind, and the place after which there are more."""

        def select() -> list[Row]:
            states = [status] if status else None
            return self._rows.select(JOB, owner=dataset_id, states=states, after=after, descending=True, limit=limit)

        rows = select()
        if any(self._is_orphan(row) for row in rows):
            seen = self._seen(rows)
            pairs = [(i, (r.seq, r.id)) for r, i in zip(rows, seen, strict=True) if status in (None, i.status)]
        else:
            pairs = [(_job(row), (row.seq, row.id)) for row in rows]
        return _Part(pairs, (rows[-1].seq, rows[-1].id) if len(rows) == limit else None)

    def _is_orphan(self, row: Row) -> bool:
        worker = row.document.get("worker")
        return row.state == "running" and worker != self._worker and self._alive.is_dead(str(worker))

    def _seen(self, rows: Sequence[Row]) -> list[Work]:
        """End the jobs of dead workers, then return the current *rows*. If nothing can be written, return them as they would be."""
        try:
            self.recover()
        except (CubeportError, OSError):
            return [self._orphaned(_job(row)) if self._is_orphan(row) else _job(row) for row in rows]
        held = self._rows.get_many(JOB, [row.id for row in rows])
        return [_job(held.get(row.id, row)) for row in rows]

    def wait(self, ingestion_id: str, seconds: float) -> Work:
        """Return the ingestion after it has finished, or its state after *seconds*. It can run in any process.

        Raises
        ------
        NoSpace
            If it has ended here, and its row cannot be written because the disk is full.
        """
        deadline, full_since = time.monotonic() + seconds, float("inf")
        while not (ingestion := self.get(ingestion_id)).finished and (left := deadline - time.monotonic()) > 0:
            if isinstance(trouble := self._trouble.get(ingestion_id), NoSpace):
                full_since = min(full_since, time.monotonic())
                if time.monotonic() - full_since > FULL_S:
                    raise trouble
            with self._work:
                self._work.wait(min(0.25, left))
        return ingestion

    def cancel(self, ingestion_id: str) -> Work:
        """Cancel an ingestion. A running one ends between units or chunks; one that has not begun ends immediately.

        Raises
        ------
        NotFound, AlreadyFinished
            If there is no such ingestion, or it has ended.
        """
        if self.get(ingestion_id).finished:
            raise AlreadyFinished(f"Ingestion {ingestion_id} has ended.")
        asked = self._change(ingestion_id, _asked_to_end)
        if asked.finished:
            self._kept.pop(ingestion_id, None)
        return asked

    def unfinished(self) -> Mapping[str, int]:
        """Return the number of unfinished jobs of the instance by status."""
        return {status: self._rows.count(JOB, states=[status]) for status in UNFINISHED}

    def outcomes(self) -> Mapping[str, int]:
        """Return the number of ended attempts of this process by status, including ``retrying``."""
        return {status: self._outcomes[status] for status in ("completed", "failed", "cancelled", "retrying")}

    def check(self) -> None:
        """Check that this process runs its jobs.

        Raises
        ------
        Unavailable
            If a worker thread has ended, or the row of a job cannot be written.
        """
        ended = [each.name for each in self._threads if not each.is_alive()]
        if ended and not self._stopping.is_set():
            raise Unavailable(f"{len(ended)} of {len(self._threads)} threads for jobs have ended.", next_step="restart the server")
        for exc in list(self._trouble.values()):
            raise exc

    # --- working ---

    def run(self, ingestion: Ingestion, listener: Listener | None = None) -> Ingestion:
        """Run *ingestion* in this thread and return it after it has finished. If an identical one is running elsewhere, wait for
        it.

        An interrupt (Ctrl-C) cancels the job, undoes its changes, and is raised again with a note about this.

        Raises
        ------
        Unavailable, NoSpace
            If the end of the job cannot be written, as on a full disk. The next process to look for the jobs of dead ones ends it.
        """
        with self._living():
            mine = ingestion.started(now())
            accepted = self._accept(mine, worker=self._worker)
            if accepted.ingestion_id != mine.ingestion_id:
                return _an_ingestion(self.wait(accepted.ingestion_id, float("inf")))
            try:
                self._run(mine, listener, timeout_s=_LONGEST_PAUSE_S)
            except KeyboardInterrupt as exc:
                ended = None
                with suppress(CubeportError):  # it was interrupted, whatever else there is
                    ended = self._surely(mine.ingestion_id, _ended(_cancelled), timeout_s=_LONGEST_PAUSE_S)
                exc.add_note(_farewell(ended or mine))
                raise
            known = self._known(accepted.ingestion_id)
            return _an_ingestion(known if known.finished else self.wait(accepted.ingestion_id, float("inf")))

    def start(self, *chores: Callable[[], object], answers: bool = True) -> None:
        """Start the worker threads of this process and its clock, which also calls these *chores*.

        Parameters
        ----------
        answers
            Whether this process also answers HTTP. It is only announced.
        """
        self._chores = (*self._chores, *chores)
        self._answers = answers
        self._live()
        self._announce(runs_jobs=True)
        self._runs_ingestions = self._workers > 0
        targets: dict[str, Callable[[], None]] = {
            f"cubeport-job-{n}": partial(self._loop, self._can_ingest) for n in range(self._workers)
        }
        if self._tables is not None:
            has = self._tables.has
            targets["cubeport-table"] = partial(self._loop, lambda row: _is_table(row) and has(row.id))
        for name, target in (targets | {"cubeport-clock": self._clock}).items():
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def watch(self) -> None:
        """Announce this process, which answers HTTP and runs no jobs."""
        self._live()
        self._announce(runs_jobs=False)
        thread = threading.Thread(target=self._stay, name="cubeport-presence", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _stay(self) -> None:
        while not self._stopping.wait(CLOCK_S):
            with suppress(CubeportError, OSError), self._outages.watched(CATALOG):
                self._renew(runs_jobs=False)

    def _renew(self, *, runs_jobs: bool) -> None:
        """Take the lock of this process again if it was lost: others have taken it for dead, and removed its row."""
        if self._life is not None and (self._life.renew() or self._unannounced):
            self._unannounced = True
            self._announce(runs_jobs=runs_jobs)
            self._unannounced = False

    def _announce(self, *, runs_jobs: bool) -> None:
        if self._servers is not None:
            self._servers.announce(self._worker, answers=self._answers, runs_jobs=runs_jobs)

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Wait up to *timeout_s* for running jobs. Longer jobs are left to recovery, and accepted jobs to the next process."""
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._life is not None and not any(thread.is_alive() for thread in self._threads):
            if self._servers is not None:
                with suppress(CubeportError):  # its lock tells as well
                    self._servers.withdraw(self._worker)
            self._end()
        self._threads.clear()

    def wake(self) -> None:
        """Notify the workers and waiting threads of this process that something changed."""
        with self._work:
            self._work.notify_all()

    def recover(self) -> list[Work]:
        """End the jobs of dead workers and return them. They are queued again if nobody waits for them, and otherwise fail as
        ``interrupted``.

        Everything that their attempts left in staging is also undone.
        """
        ended, buried = [], set()
        for row in self._rows.select(JOB, states=["running"], limit=1000):
            worker = str(row.document.get("worker"))
            if worker == self._worker or not self._alive.is_dead(worker):
                continue
            ended.append(self._change(row.id, self._of_the_dead(worker)))
            buried.add(worker)
        if ended:
            self._catalog.recover()
        ended += self._forgotten()
        if ended:
            self.wake()
        for worker in buried:
            self._alive.bury(worker)
        return ended

    def _forgotten(self) -> list[Work]:
        """End the waiting jobs of which a part has died with the process that accepted them, and return them."""
        found = [(row.id, row.document.get("keeper")) for row in self._rows.select(JOB, states=WAITING, limit=1000)]
        dead = {keeper for _, keeper in found if keeper not in (None, self._worker) and self._alive.is_dead(str(keeper))}
        return [self._change(job_id, _ended(_interrupted)) for job_id, keeper in found if keeper in dead]

    def _of_the_dead(self, worker: str) -> Callable[[Work, object], Work]:
        """Return the change that ends a job of *worker*, unless another process has taken the job."""
        return lambda held, owner: self._orphaned(held) if owner == worker and not held.finished else held

    def _orphaned(self, held: Work) -> Work:
        if held.cancel_requested:
            return _cancelled(held)
        return _again(held) if not held.waited_for and held.attempt < self._max_attempts else _interrupted(held)

    def _loop(self, mine: Callable[[Row], bool]) -> None:
        while not self._stopping.is_set():
            claimed = self._next(mine)
            if claimed is not None:
                self._run(claimed, None)
                continue
            with self._work:
                if not self._stopping.is_set():
                    self._work.wait(POLL_S)

    def _clock(self) -> None:
        chores_at = time.monotonic() + CHORES_S
        while not self._stopping.wait(CLOCK_S):
            if time.monotonic() >= chores_at:
                chores_at = time.monotonic() + CHORES_S
                self._do_chores()
            with suppress(CubeportError, OSError), self._outages.watched(_DEAD):
                self.recover()
                self._prune()

    def _do_chores(self) -> None:
        for chore in self._chores:
            name = getattr(chore, "__qualname__", "of a plugin")
            what = Watch(f"the regular task {name} failed and is tried again every minute", f"the regular task {name} works again")
            with suppress(CubeportError, OSError), self._outages.watched(what):
                chore()

    def _prune(self) -> None:
        """Remove finished jobs that are older than ``keep_days``, a limited number at a time."""
        before = int((now() - timedelta(days=self._keep_days)).timestamp() * 1_000_000)
        finished = ["completed", "failed", "cancelled"]
        for row in self._rows.select(JOB, states=finished, limit=_PRUNED_AT_ONCE):
            if row.seq >= before:
                return
            self._rows.delete(JOB, row.id)

    def _next(self, mine: Callable[[Row], bool]) -> Work | None:
        with suppress(CubeportError, OSError), self._outages.watched(CATALOG):
            self._renew(runs_jobs=True)
            waiting = self._rows.select(JOB, states=WAITING, limit=100)
            if not any(mine(row) and _is_due(row) for row in waiting):
                return None  # without a write transaction: nobody has work most of the time
            claimed = self._rows.claim(JOB, WAITING, lambda row: self._started(row) if mine(row) else None)
            return None if claimed is None else _job(claimed)
        self._stopping.wait(POLL_S)
        return None

    def _started(self, row: Row) -> Row | None:
        """Return the row of a waiting job as this worker's, if it is due."""
        if not _is_due(row):
            return None
        return _row(_job(row).started(now()), worker=self._worker, keeper=row.document.get("keeper"), revision=row.revision)

    def _can_ingest(self, row: Row) -> bool:
        return not _is_table(row) and row.document.get("keeper") in (None, self._worker)

    def _run(self, job: Work, listener: Listener | None, *, timeout_s: float = float("inf")) -> None:
        job_id = job.ingestion_id
        _log.info("%s: begins, attempt %s", _named(job), job.attempt)
        try:
            change = self._attempted(job, listener)
            ended = self._surely(job_id, change, timeout_s=timeout_s) if change is not None else self._known(job_id)
            if ended is None or ended.finished:
                self._kept.pop(job_id, None)
            if ended is not None:
                _log.info("%s: %s", _named(ended), _ending(ended))
                with self._work:
                    self._outcomes[ended.status] += 1
        finally:
            self.wake()

    def _attempted(self, job: Work, listener: Listener | None) -> Callable[[Work, object], Work] | None:
        """Run one attempt. Return the change of its row, or ``None`` if the commit has already changed it."""
        job_id = job.ingestion_id
        if (kept := self._kept.get(job_id)) is not None:
            job = with_request_of(job, kept)
        progress = _Progress(self, job_id, listener)
        try:
            if isinstance(job, TableJob):
                assert self._tables is not None, "only a process that makes tables takes such a job"
                self._tables.attempt(job, progress=self._while_running(progress))
                return _ended(_made)
            self._ingester.attempt(
                job,
                progress=progress,
                complete=lambda outcome: self._put(job_id, _ended(_completed(outcome))),
            )
        except Cancelled:
            return _ended(_cancelled)
        except CubeportError as exc:
            if isinstance(exc, _MAY_PASS) and not job.waited_for and job.attempt < self._max_attempts:
                return _ended(_retrying(exc))
            return _ended(_failed(exc))
        except Exception as exc:  # noqa: BLE001 - see below
            # Only here, an unexpected exception ends a job instead of a worker. Its traceback is logged once.
            _log.exception("ingestion %s failed unexpectedly", job_id)
            problem = CubeportError("Something unexpected happened; see the log.", next_step=f"cubeport logs --operation {job_id}")
            problem.__cause__ = exc
            return _ended(_failed(problem))
        return None

    def _while_running(self, progress: Listener) -> Listener:
        """Return *progress*, which also ends the attempt when this process stops. The next process begins it again."""

        def told(phase: str, done: int, total: int) -> None:
            if self._stopping.is_set():
                raise Interrupted("The server process was stopped.")
            progress(phase, done, total)

        return told

    def _known(self, ingestion_id: str) -> Work:
        """Return a job that was run here. It may be done: a read that fails for a moment must not make it look as if it failed."""
        deadline = time.monotonic() + _LONGEST_PAUSE_S
        while True:
            try:
                return self.get(ingestion_id)
            except (Unavailable, NoSpace):
                if time.monotonic() > deadline or self._stopping.wait(_FIRST_PAUSE_S):
                    raise

    # --- rows ---

    def _row(self, ingestion_id: str) -> Row:
        row = self._rows.get(JOB, ingestion_id)
        if row is None:
            raise no_ingestion(ingestion_id)
        return row

    def _put(self, ingestion_id: str, change: Callable[[Work, object], Work]) -> Work:
        """Change the row in the open transaction, or in a new one."""
        row = self._row(ingestion_id)
        held, owner = _job(row), row.document.get("worker")
        changed = change(held, owner)
        if changed is not held:
            worker = owner if changed.status == "running" else None
            keeper = None if changed.finished else row.document.get("keeper")
            self._rows.put(_row(changed, worker=worker, keeper=keeper, revision=row.revision))
        return changed

    def _change(self, ingestion_id: str, change: Callable[[Work, object], Work]) -> Work:
        """Change the row, and try again if another process was faster."""
        while True:
            try:
                return self._put(ingestion_id, change)
            except StaleRecord:
                continue

    def _surely(self, ingestion_id: str, change: Callable[[Work, object], Work], *, timeout_s: float = float("inf")) -> Work | None:
        """Change the row, and retry until it works, because a job whose row cannot be written would seem to run forever.

        Return ``None`` if the process stops, and raise what is in the way after *timeout_s*. The next process that finds this one
        dead then ends the row.
        """
        pause, deadline = _FIRST_PAUSE_S, time.monotonic() + timeout_s
        try:
            while True:
                try:
                    return self._change(ingestion_id, change)
                except NotFound:
                    return None  # it was removed meanwhile
                except (CubeportError, OSError) as exc:
                    if ingestion_id not in self._trouble:
                        _log.warning("ingestion %s has ended, and its row cannot be written yet: %s", ingestion_id, exc)
                    self._trouble[ingestion_id] = exc if isinstance(exc, CubeportError) else Unavailable(str(exc.strerror))
                if time.monotonic() + pause > deadline:
                    raise self._trouble[ingestion_id]
                if self._stopping.wait(pause):
                    return None
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            self._trouble.pop(ingestion_id, None)

    # --- the lock that shows that this process lives ---

    @contextmanager
    def _living(self) -> Iterator[None]:
        with self._lives:
            if self._live() or self._running_here:
                self._running_here += 1
                borrowed = True
            else:
                borrowed = False
        try:
            yield
        finally:
            with self._lives:
                if borrowed:
                    self._running_here -= 1
                    if not self._running_here:
                        self._end()

    def _live(self) -> bool:
        if self._life is not None:
            return False
        self._life = self._alive.begin(self._worker)
        return True

    def _end(self) -> None:
        assert self._life is not None
        self._life.end()
        self._life = None
        self._worker = new_id()  # an ended lock is not reused


class _Part(NamedTuple):
    """A part of the list of jobs."""

    items: Sequence[tuple[Work, tuple[int, str]]]
    last: tuple[int, str] | None
    """The place of its last row; ``None`` at the end of the list."""


_PHASES = {"start": "checking"}
"""Phases of a gate child that have another name in an ingestion."""


class _Progress:
    """Stores the progress of a job from time to time, and raises if the job was cancelled."""

    def __init__(self, jobs: Jobs, ingestion_id: str, listener: Listener | None) -> None:
        self._jobs = jobs
        self._id = ingestion_id
        self._listener = listener
        self._began = time.monotonic()
        self._stored = self._began
        self._phase = "planning"
        """The phase in the row, which a job that starts has."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        phase = _PHASES.get(phase, phase)
        if self._listener is not None:
            self._listener(phase, done, total)
        at = time.monotonic()
        if phase == "done" or (at - self._stored < PROGRESS_S and not self._is_news(phase, at)):
            return
        self._phase = phase
        percent = round(100 * done / total, 1) if total else 0.0
        unit = "periods" if phase == "fetching" else "bytes"
        shown = Phase.model_validate({"phase": phase, "done": done, "total": total, "unit": unit, "percent": percent})
        try:
            held = self._jobs._change(self._id, lambda each, _: each.model_copy(update={"progress": shown}))  # noqa: SLF001 - one thing in two classes
        except Unavailable as exc:
            # Progress can be lost. A busy catalog must not end an attempt that needs it only for its commit.
            _log.info("ingestion %s: its progress was not stored: %s", self._id, exc)
            return
        finally:
            self._stored = time.monotonic()
        if held.cancel_requested and phase != "committing":
            raise Cancelled(f"Ingestion {self._id} was cancelled.")

    def _is_news(self, phase: str, at: float) -> bool:
        return phase != self._phase and (phase in _UNTOLD or at - self._began >= PROGRESS_S)


def _row(ingestion: Work, *, worker: object = None, keeper: object = None, revision: int = 0) -> Row:
    """Return the row of a job. *keeper* is the process that alone knows what of its request is not stored."""
    document = {"ingestion": ingestion.model_dump(mode="json"), "worker": worker}
    if keeper is not None:
        document["keeper"] = keeper
    seq = int(ingestion.created_at.timestamp() * 1_000_000)
    return Row(JOB, ingestion.ingestion_id, document, ingestion.dataset_id, ingestion.status, seq, revision)


def _is_due(row: Row) -> bool:
    retry_at = _job(row).retry_at
    return retry_at is None or has_come(retry_at, within=timedelta(seconds=RETRY_AFTER_S[-1] * SPREAD))


def _job(row: Row) -> Work:
    return job_of(row.document["ingestion"])


def _an_ingestion(job: Work) -> Ingestion:
    assert isinstance(job, Ingestion)  # an identical job is of the same kind
    return job


def _is_table(row: Row) -> bool:
    return bool(row.document["ingestion"].get("kind") == "table")


_MAY_PASS = (
    *(SourceFailed, SourceTimeout, Interrupted, NoSpace, Locked, BackendUnavailable, StoreUnavailable, DatasetBusy),
    ExecutorUnavailable,
)
"""Errors of a source, a disk or another process, after which the same attempt can succeed later. Refusals are not retried."""


def _ended(change: Callable[[Work], Work]) -> Callable[[Work, object], Work]:
    """Return *change* restricted to jobs that have not ended, because an end is final."""
    return lambda held, _: held if held.finished else change(held)


def _asked_to_end(held: Work, _: object) -> Work:
    if held.finished or held.cancel_requested:
        return held
    asked = held.model_copy(update={"cancel_requested": True})
    return asked if held.status == "running" else _cancelled(asked)


def _completed(outcome: Outcome) -> Callable[[Work], Work]:
    changes = {
        "status": "completed",
        "dataset_id": outcome.dataset_id,
        "action": outcome.plan.action,
        "plan": outcome.plan,
        "reused": outcome.reused,
        "changed": outcome.changed,
        "version_id": outcome.version_id,
        "coverage": dict(outcome.coverage) if outcome.coverage else None,
        "warnings": outcome.warnings,
        "finished_at": now(),
        "error": None,
        "retry_at": None,
        "progress": Phase(phase="done", done=1, total=1, percent=100.0),
    }
    return lambda held: held.model_copy(update=changes)


def _made(held: Work) -> Work:
    """Return a job that has written a file and changed nothing in the catalog, as completed."""
    done = Phase(phase="done", done=1, total=1, percent=100.0)
    return held.model_copy(update={"status": "completed", "finished_at": now(), "retry_at": None, "progress": done})


def _cancelled(held: Work) -> Work:
    return held.model_copy(update={"status": "cancelled", "cancel_requested": True, "finished_at": now(), "retry_at": None})


def _failed(problem: CubeportError) -> Callable[[Work], Work]:
    changes = {"status": "failed", "error": problem.to_mapping(), "finished_at": now(), "retry_at": None}
    return lambda held: held.model_copy(update=changes)


def _retrying(problem: CubeportError) -> Callable[[Work], Work]:
    """Return the change that makes the job wait for its next attempt. ``error`` contains the last failure."""

    def change(held: Work) -> Work:
        wait_s = RETRY_AFTER_S[min(held.attempt, len(RETRY_AFTER_S)) - 1] * random.uniform(1, SPREAD)  # noqa: S311 - spreads load only
        status: Status = "retrying"
        changes = {"status": status, "error": problem.to_mapping(), "retry_at": now() + timedelta(seconds=wait_s)}
        return held.model_copy(update={**changes, "progress": Phase()})

    return change


def _interrupted(held: Work) -> Work:
    problem = Interrupted("The process that ran it died. It left nothing behind.", next_step="send the request again")
    return _failed(problem)(held)


def _again(held: Work) -> Work:
    return held.model_copy(update={"status": "accepted", "progress": Phase()})


def _named(job: Work) -> str:
    return f"{'table' if isinstance(job, TableJob) else 'ingestion'} {job.ingestion_id} of {job.dataset_id}"


def _ending(ended: Work) -> str:
    """Return how an attempt ended, for the log."""
    if ended.error is not None:
        return f"{ended.status}: {ended.error.get('kind')}: {ended.error.get('detail')}"
    if isinstance(ended, Ingestion) and ended.status == "completed":
        return "completed: nothing changed" if ended.reused else f"completed: {ended.action}, version {ended.version_id}"
    return ended.status


TOO_LATE = "Interrupted too late"
"""How the note of an interrupt begins whose ingestion was committed all the same."""


def _farewell(ended: Work) -> str:
    if ended.status == "completed":
        return f"{TOO_LATE}: ingestion {ended.ingestion_id} of {ended.dataset_id} was already committed."
    return f"Interrupted: ingestion {ended.ingestion_id} of {ended.dataset_id} was cancelled. It left nothing behind."
