"""Jobs: a worker survives whatever happens to a job, and no job runs for ever, whoever dies."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from cubeport.adapters.backends.documents import MemoryBackend, State
from cubeport.catalog.forms import clock
from cubeport.catalog.forms.canonical import now
from cubeport.catalog.locks import FileLocks
from cubeport.errors import (
    AlreadyFinished,
    BackendUnavailable,
    CubeportError,
    Interrupted,
    Locked,
    NoSpace,
    SourceFailed,
    SourceRejected,
    Unavailable,
)
from cubeport.service import jobs as module
from cubeport.service.ingestions import Ingestion, IngestionPlan, IngestionRequest, TableJob, job_of
from cubeport.service.jobs import Jobs
from cubeport.service.maker import Outcome
from cubeport.service.servers import SERVER, Servers
from cubeport.service.state import JOB
from cubeport.service.tablejobs import TableJobs
from cubeport.service.upkeep import VersionKeeper
from cubeport.service.workers import Workers


def test_a_job_of_an_earlier_release_is_read_by_the_rules_of_its_time() -> None:
    """A climatology did not say of what. One such row would have hidden all jobs from lists and workers."""
    asked = {"dataset_id": "x", "template": {"period_type": "climatology"}}
    with pytest.raises(ValidationError, match="needs climatology"):
        IngestionRequest.model_validate(asked)
    stored = Ingestion(dataset_id="x", request=IngestionRequest(dataset_id="x")).model_dump(mode="json") | {"request": asked}
    read = job_of(stored)
    assert isinstance(read, Ingestion)
    assert read.request.template is not None
    assert read.request.template.period_type == "climatology"


class Failing(MemoryBackend):
    """A store whose commits fail as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Callable[[], None] = lambda: None
        self.refused = 0

    def save_state(self, state: State) -> None:
        try:
            self.fault()
        except CubeportError:
            self.refused += 1
            raise
        super().save_state(state)


class Attempts:
    """Stands for the ingester: what an attempt does is the test's."""

    def __init__(self, act: Callable[..., None] | None = None) -> None:
        self.act = act or (lambda ingestion, progress: None)
        self.made: list[str] = []

    def attempt(self, ingestion: Ingestion, *, progress: Any, complete: Any) -> None:
        self.made.append(ingestion.ingestion_id)
        self.act(ingestion, progress)
        complete(
            Outcome(dataset_id=ingestion.dataset_id, plan=IngestionPlan(action="create", reason="the dataset does not exist yet"))
        )


def catalog(backend: MemoryBackend) -> Any:
    return SimpleNamespace(backend=backend, rows=backend.rows, recover=lambda: recovered.append(1))


recovered: list[int] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    recovered.clear()
    for name, value in {
        "POLL_S": 0.02,
        "FULL_S": 0.5,
        "CLOCK_S": 0.05,
        "PROGRESS_S": 0.0,
        "_FIRST_PAUSE_S": 0.01,
        "_LONGEST_PAUSE_S": 0.05,
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "RETRY_AFTER_S", (0.05, 0.05, 0.05))


def jobs(backend: MemoryBackend, attempts: Attempts, folder: Path, **how: Any) -> Jobs:
    options = {"workers": 1, "queue": 10, **how}
    return Jobs(catalog=catalog(backend), ingester=attempts, locks=FileLocks(folder), **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def working(made: Jobs) -> Iterator[Jobs]:
    made.start()
    try:
        yield made
    finally:
        made.stop(timeout_s=5)


def asked(dataset_id: str, **how: Any) -> Ingestion:
    return Ingestion(dataset_id=dataset_id, request=IngestionRequest(dataset_id=dataset_id), **how)


def until(condition: Callable[[], Any], seconds: float = 5) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("error", [Locked, NoSpace, BackendUnavailable])
def test_a_worker_survives_rows_that_cannot_be_written_and_writes_them_later(tmp_path: Path, error: type[CubeportError]) -> None:
    backend = Failing()

    def act(ingestion: Ingestion, progress: Any) -> None:
        if ingestion.dataset_id == "first":
            backend.fault = fail
            progress("writing", 1, 2)  # lost, and the attempt goes on
            raise SourceRejected("no", reason="unreadable")

    def fail() -> None:
        raise error("not now")

    attempts = Attempts(act)
    with working(jobs(backend, attempts, tmp_path)) as made:
        first = made.submit(asked("first"))
        until(lambda: backend.refused >= 4)
        with pytest.raises(error):
            made.check()
        assert made.get(first.ingestion_id).status == "running"
        backend.fault = lambda: None
        ended = made.wait(first.ingestion_id, 5)
        assert (ended.status, ended.error and ended.error["kind"]) == ("failed", "source-rejected")
        until(lambda: not made._trouble)
        made.check()
        second = made.submit(asked("second"))
        assert made.wait(second.ingestion_id, 5).status == "completed", "the worker lives on"


def test_what_nobody_foresaw_ends_the_job_and_not_the_worker(tmp_path: Path) -> None:
    def act(ingestion: Ingestion, _: Any) -> None:
        if ingestion.dataset_id == "first":
            raise ZeroDivisionError

    with working(jobs(MemoryBackend(), Attempts(act), tmp_path)) as made:
        assert made.wait(made.submit(asked("first")).ingestion_id, 5).error["kind"] == "internal"  # type: ignore[index]
        assert made.wait(made.submit(asked("second")).ingestion_id, 5).status == "completed"
        made.check()


def test_a_store_that_does_not_answer_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryBackend()
    with working(jobs(backend, Attempts(), tmp_path)) as made:
        real = type(backend.rows).select

        def broken(*_: Any, **__: Any) -> Any:
            raise OSError(5, "injected")

        monkeypatch.setattr(type(backend.rows), "select", broken)
        time.sleep(0.2)
        monkeypatch.setattr(type(backend.rows), "select", real)
        assert made.wait(made.submit(asked("first")).ingestion_id, 5).status == "completed"


def test_a_thread_that_ended_is_seen(tmp_path: Path) -> None:
    with working(jobs(MemoryBackend(), Attempts(), tmp_path, workers=2)) as made:
        made.check()
        dead = threading.Thread(target=lambda: None)
        dead.start()
        dead.join()
        made._threads[0] = dead
        with pytest.raises(Unavailable, match="1 of 3 threads"):
            made.check()


@pytest.fixture
def left_by_the_dead(tmp_path: Path) -> tuple[MemoryBackend, Ingestion, Ingestion]:
    """Two running jobs of a process that is gone: one waited for, one not."""
    backend = MemoryBackend()
    waited, alone = asked("waited").started(now()), asked("alone", waited_for=False).started(now())
    for each in (waited, alone):
        backend.rows.put(module._row(each, worker="d" * 32))
    return backend, waited, alone


def test_reading_ends_the_jobs_of_the_dead(tmp_path: Path, left_by_the_dead: Any) -> None:
    backend, waited, alone = left_by_the_dead
    reader = jobs(backend, Attempts(), tmp_path)  # no thread of its own
    ended = reader.get(waited.ingestion_id)
    assert (ended.status, ended.error and ended.error["kind"]) == ("failed", "interrupted")
    assert reader.get(alone.ingestion_id).status == "accepted"
    assert backend.rows.count(JOB, states=["running"]) == 0
    assert recovered, "what its attempt left in staging is undone"


def test_a_list_ends_the_jobs_of_the_dead(tmp_path: Path, left_by_the_dead: Any) -> None:
    backend, _, _ = left_by_the_dead
    reader = jobs(backend, Attempts(), tmp_path)
    assert {i.dataset_id: i.status for i, _ in reader.page()} == {"waited": "failed", "alone": "accepted"}
    assert reader.page(status="running") == []


def test_the_clock_of_any_living_process_ends_the_jobs_of_the_dead(tmp_path: Path, left_by_the_dead: Any) -> None:
    backend, waited, alone = left_by_the_dead
    with working(jobs(backend, Attempts(), tmp_path)):
        until(lambda: backend.rows.count(JOB, states=["running", "accepted"]) == 0)
    assert backend.rows.get(JOB, alone.ingestion_id).state == "completed"
    assert backend.rows.get(JOB, waited.ingestion_id).state == "failed"


def test_who_may_not_write_is_told_the_truth_all_the_same(tmp_path: Path, left_by_the_dead: Any) -> None:
    backend, waited, _ = left_by_the_dead
    backend.read_only = True
    assert jobs(backend, Attempts(), tmp_path).get(waited.ingestion_id).status == "failed"
    assert backend.rows.get(JOB, waited.ingestion_id).state == "running", "nothing was written"


def test_a_living_worker_keeps_its_jobs(tmp_path: Path) -> None:
    backend = MemoryBackend()
    life = Workers(FileLocks(tmp_path)).begin()
    running = asked("sst").started(now())
    backend.rows.put(module._row(running, worker=life.worker))
    reader = jobs(backend, Attempts(), tmp_path)
    assert reader.recover() == []
    assert reader.get(running.ingestion_id).status == "running"
    life.end()
    assert reader.get(running.ingestion_id).status == "failed"


class RestartedDatabase:
    """Locks whose database was restarted, and does not accept connections at once."""

    def __init__(self) -> None:
        self.is_up, self.holders, self.sessions = True, [], 0

    def hold(self, *_: object) -> Any:
        locks = self

        class Session:
            number: int | None = None

            def __enter__(self) -> None:
                if not locks.is_up:
                    raise BackendUnavailable("the database system is starting up")
                self.number = locks.sessions
                locks.holders.append(self)

            def __exit__(self, *_: object) -> None:
                locks.holders.remove(self)
                self.number = None

            def lost(self) -> bool:
                return self.number is not None and self.number != locks.sessions

        return Session()

    def held(self, *_: object) -> bool:
        return any(not each.lost() for each in self.holders)


def test_a_worker_takes_its_lock_again_also_if_the_database_starts_slowly() -> None:
    locks: Any = RestartedDatabase()
    workers = Workers(locks)
    life = workers.begin()
    locks.is_up, locks.sessions = False, 1
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            life.renew()
        assert workers.is_dead(life.worker)
    locks.is_up = True
    assert life.renew()
    assert not workers.is_dead(life.worker)
    assert not life.renew()


def test_a_server_announces_itself_again_whether_or_not_its_row_is_there(tmp_path: Path) -> None:
    backend, workers = MemoryBackend(), Workers(FileLocks(tmp_path))
    life = workers.begin()
    servers = Servers(backend, workers, "1", "c")
    for gone in (False, True):
        servers.announce(life.worker, answers=True, runs_jobs=True)
        servers.announce(life.worker, answers=True, runs_jobs=True)
        assert [each.id for each in backend.rows.select(SERVER)] == [life.worker]
        if not gone:
            servers.withdraw(life.worker)


def test_jobs_in_several_threads_live_as_long_as_the_last_of_them(tmp_path: Path) -> None:
    """The thread that began the life of the process may be done first: the others are not dead for that."""
    first_done, second_runs = threading.Event(), threading.Event()

    def act(ingestion: Ingestion, _: Any) -> None:
        if ingestion.dataset_id == "first":
            assert second_runs.wait(5)
        else:
            second_runs.set()
            assert first_done.wait(5)
            assert jobs(backend, Attempts(), tmp_path).recover() == []

    backend = MemoryBackend()
    made = jobs(backend, Attempts(act), tmp_path)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(made.run, asked("first"))
        until(lambda: backend.rows.select(JOB, states=["running"]))
        second = pool.submit(made.run, asked("second"))
        assert first.result(10).status == "completed"
        first_done.set()
        assert second.result(10).status == "completed"
    assert not list((tmp_path / "workers").iterdir())


def test_attempts_are_bounded(tmp_path: Path) -> None:
    backend = MemoryBackend()
    killed = asked("sst", waited_for=False).model_copy(update={"attempt": 2}).started(now())
    backend.rows.put(module._row(killed, worker="d" * 32))
    assert jobs(backend, Attempts(), tmp_path, max_attempts=3).get(killed.ingestion_id).status == "failed"


def test_a_retry_that_a_wrong_clock_set_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(ingestion: Ingestion, _: Any) -> None:
        if ingestion.attempt == 1:
            raise SourceFailed("502")

    with monkeypatch.context() as ahead:
        for each in (module, clock):
            ahead.setattr(each, "now", lambda: datetime.now(UTC) + timedelta(hours=5))
        ahead.setattr(module, "RETRY_AFTER_S", (60.0, 60.0, 60.0))
        backend = MemoryBackend()
        with working(jobs(backend, Attempts(act), tmp_path, max_attempts=3)) as made:
            job = made.submit(asked("sst", waited_for=False)).ingestion_id
            until(lambda: made.get(job).status == "retrying")
    with working(jobs(backend, Attempts(act), tmp_path, max_attempts=3)) as made:
        assert until(lambda: (each := made.get(job)).status == "completed" and each).attempt == 2


def test_what_may_pass_is_tried_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    def act(ingestion: Ingestion, _: Any) -> None:
        if ingestion.dataset_id == "refused":
            raise SourceRejected("no", reason="unreadable")
        if ingestion.attempt < 3:
            raise SourceFailed("502")

    attempts = Attempts(act)
    with working(jobs(MemoryBackend(), attempts, tmp_path, max_attempts=3)) as made:
        job = made.submit(asked("sst", waited_for=False)).ingestion_id
        seen = until(lambda: (each := made.get(job)).status == "retrying" and each)
        assert (seen.error["kind"], seen.attempt) == ("source-failed", 1)
        assert seen.retry_at is not None
        done = made.wait(job, 5)
        assert (done.status, done.attempt, done.error, done.retry_at) == ("completed", 3, None, None)
        refused = made.wait(made.submit(asked("refused", waited_for=False)).ingestion_id, 5)
        assert (refused.status, refused.attempt) == ("failed", 1)
        waited = made.wait(made.submit(asked("waited")).ingestion_id, 5)
        assert (waited.status, waited.attempt) == ("failed", 1), "its caller waits and hears of it at once"


def test_the_phases_of_a_short_job_are_not_stored_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_S", 0.5)
    made: Jobs
    shown: list[str] = []

    def act(ingestion: Ingestion, progress: Any) -> None:
        for phase in ("waiting", "planning", "checking", "writing", "measuring"):
            progress(phase, 0, 0)
            shown.append(made.get(ingestion.ingestion_id).progress.phase)
        if ingestion.dataset_id == "long":
            time.sleep(0.6)
            for phase in ("sealing", "committing"):
                progress(phase, 0, 0)
                shown.append(made.get(ingestion.ingestion_id).progress.phase)

    made = jobs(MemoryBackend(), Attempts(act), tmp_path)
    made.run(asked("short"))
    assert shown == ["waiting", "planning", "planning", "planning", "planning"], "a phase in which nothing more is told is stored"
    shown.clear()
    made.run(asked("long"))
    assert shown[2:] == ["planning", "planning", "planning", "sealing", "committing"]


def test_an_interrupt_ends_the_row_and_says_so(tmp_path: Path) -> None:
    def act(_: Ingestion, progress: Any) -> None:
        progress("writing", 1, 2)
        raise KeyboardInterrupt

    backend = MemoryBackend()
    made = jobs(backend, Attempts(act), tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        made.run(asked("sst"))
    [row] = backend.rows.select(JOB)
    assert row.state == "cancelled"
    assert caught.value.__notes__ == [f"Interrupted: ingestion {row.id} of sst was cancelled. It left nothing behind."]
    assert not list((tmp_path / "workers").iterdir())


@pytest.mark.parametrize("error", [NoSpace, BackendUnavailable])
def test_whoever_waits_for_a_row_that_cannot_be_written_hears_why(tmp_path: Path, error: type[CubeportError]) -> None:
    backend = Failing()

    def fail() -> None:
        raise error("the disk")

    def act(_: Ingestion, __: Any) -> None:
        backend.fault = fail
        raise NoSpace("there is not enough free space for the data")

    with pytest.raises(error, match="the disk"):  # it waited for ever
        jobs(backend, Attempts(act), tmp_path).run(asked("sst"))
    backend.fault = lambda: None
    with working(jobs(backend, Attempts(), tmp_path)) as other:
        [left] = until(lambda: [each for each, _ in other.page(limit=10) if each.finished])
    assert (left.status, left.error and left.error["kind"]) == ("failed", "interrupted")


def test_a_caller_who_waits_hears_of_a_full_disk_before_the_row_is_written(tmp_path: Path) -> None:
    backend = Failing()

    def fail() -> None:
        raise NoSpace("the disk")

    def act(_: Ingestion, __: Any) -> None:
        backend.fault = fail

    with working(jobs(backend, Attempts(act), tmp_path)) as made:
        accepted = made.submit(asked("sst"))
        with pytest.raises(NoSpace, match="the disk"):  # it waited as long as it may, and heard that the job runs
            made.wait(accepted.ingestion_id, 20)
        backend.fault = lambda: None
        until(lambda: made.get(accepted.ingestion_id).finished)


def test_an_interrupt_behind_the_commit_is_too_late(tmp_path: Path) -> None:
    class Late(Attempts):
        def attempt(self, ingestion: Ingestion, *, progress: Any, complete: Any) -> None:
            super().attempt(ingestion, progress=progress, complete=complete)
            raise KeyboardInterrupt

    backend = MemoryBackend()
    with pytest.raises(KeyboardInterrupt) as caught:
        jobs(backend, Late(), tmp_path).run(asked("sst"))
    assert [row.state for row in backend.rows.select(JOB)] == ["completed"]
    assert "already committed" in caught.value.__notes__[0]


def test_a_job_that_nobody_has_begun_is_cancelled_at_once(tmp_path: Path) -> None:
    made = jobs(MemoryBackend(), Attempts(), tmp_path)
    job = made.submit(asked("sst")).ingestion_id
    assert made.cancel(job).status == "cancelled"
    with pytest.raises(AlreadyFinished):
        made.cancel(job)


def test_a_running_job_is_cancelled_between_units(tmp_path: Path) -> None:
    going = threading.Event()

    def act(_: Ingestion, progress: Any) -> None:
        going.set()
        while True:
            progress("writing", 1, 2)
            time.sleep(0.01)

    with working(jobs(MemoryBackend(), Attempts(act), tmp_path)) as made:
        job = made.submit(asked("sst")).ingestion_id
        going.wait(5)
        assert made.cancel(job).cancel_requested
        assert made.cancel(job).cancel_requested, "asking again is the same"
        assert made.wait(job, 5).status == "cancelled"


def test_finished_jobs_are_forgotten_after_their_days(tmp_path: Path) -> None:
    backend = MemoryBackend()
    old = asked("old").model_copy(update={"created_at": now() - timedelta(days=31), "status": "completed"})
    young = asked("young").model_copy(update={"status": "completed"})
    for each in (old, young):
        backend.rows.put(module._row(each))
    with working(jobs(backend, Attempts(), tmp_path, keep_days=30)):
        until(lambda: backend.rows.count(JOB) == 1)
    assert backend.rows.get(JOB, young.ingestion_id) is not None


def test_doctor_sees_dead_workers(tmp_path: Path, left_by_the_dead: Any) -> None:
    backend, waited, _ = left_by_the_dead
    keeper = VersionKeeper(backend, None, None, "data", Workers(FileLocks(tmp_path)))  # type: ignore[arg-type]
    found = {each.place: each for each in keeper.problems()}
    assert len(found) == 2
    assert found[waited.ingestion_id].kind == "dead-worker"
    assert found[waited.ingestion_id].next_step == f"cubeport jobs {waited.ingestion_id}"
    assert Interrupted.kind == "interrupted"


class Tables(TableJobs):
    """The tables of a machine with a folder of its own. To make one takes no time."""

    def __init__(self, folder: Path, queue: Jobs) -> None:
        super().__init__(folder, None, None, queue, None, rows=1)  # type: ignore[arg-type]
        self.made: list[str] = []

    def attempt(self, job: TableJob, *, progress: Any) -> None:
        self.made.append(job.ingestion_id)

    def take(self, job: TableJob) -> None:
        (self._folder / job.ingestion_id).mkdir(parents=True)
        (self._folder / job.ingestion_id / "zones.json").write_text("{}")


def table(**how: Any) -> TableJob:
    return TableJob(dataset_id="d", version_id="v", parameters=(), form="csv", title="a table", **how)


def test_a_table_is_made_by_the_machine_that_has_its_zones(tmp_path: Path) -> None:
    backend, job = MemoryBackend(), table()
    one, two = (jobs(backend, Attempts(), tmp_path / "locks") for _ in range(2))
    mine, other = Tables(tmp_path / "one", one), Tables(tmp_path / "two", two)
    for queue, maker in ((one, mine), (two, other)):
        queue.makes_tables(maker)
    mine.take(job)
    one.submit(job)
    with working(two):
        time.sleep(0.3)
        assert (two.get(job.ingestion_id).status, other.made) == ("accepted", [])
        with working(one):
            assert one.wait(job.ingestion_id, 10).status == "completed"
    assert (mine.made, other.made) == ([job.ingestion_id], [])


def test_a_table_whose_zones_are_nowhere_ends_after_a_day(tmp_path: Path) -> None:
    backend = MemoryBackend()
    queue = jobs(backend, Attempts(), tmp_path / "locks")
    old, young, here = table(created_at=now() - timedelta(hours=25)), table(), table(created_at=now() - timedelta(hours=25))
    maker = Tables(tmp_path / "tables", queue)
    maker.take(here)
    for each in (old, young, here):
        queue.submit(each)
    maker.prune()
    assert [queue.get(each.ingestion_id).status for each in (old, young, here)] == ["failed", "accepted", "accepted"]
    ended = queue.get(old.ingestion_id).error
    assert ended is not None
    assert (ended["kind"], ended["next"]) == ("interrupted", "ask for the table again")


def test_a_job_that_an_earlier_cubeport_stored_is_read() -> None:
    ingestion = {"dataset_id": "tas", "template": {"ingestion": {"params": {}, "clip": "touch"}, "time_label": "start"}}
    assert IngestionRequest.model_validate(ingestion).template is not None
    ingestion["template"] = {"ingestion": {"params": {"year": 2020}}}
    with pytest.raises(ValidationError, match="params"):
        IngestionRequest.model_validate(ingestion)
