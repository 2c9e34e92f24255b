"""Tables that are made as jobs: larger ones than fit in an answer. Each has a folder with its state and its result, for a day.

Any server process of the instance reads the state of a job. The process that runs it holds the lock of a worker, so a job whose
process has died is known to have failed.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cubeport.catalog.disk.durable import demand_space, make_folders, replace_file
from cubeport.catalog.forms.canonical import new_id, now, timestamp
from cubeport.cubes.selection import parse_datetime
from cubeport.cubes.tables.request import TableRequest
from cubeport.cubes.zones import ZoneSet
from cubeport.documents.tables.form import TableForm
from cubeport.documents.tables.forms import TABLE_FORMS
from cubeport.documents.texts import PublishedView
from cubeport.errors import Cancelled, CubeportError, Interrupted, NoSuchJob, QueueFull, TooLarge
from cubeport.service.queries import AnswerDeadline, Queries
from cubeport.service.tables import TablePlan, Tables
from cubeport.service.workers import Life, Workers

KEPT_H = 24
WAITING = 16
"""Jobs of an instance that are waiting or running at most."""
_JOB = re.compile(r"[0-9a-f]{32}")
_ROW_BYTES = 90
"""Bytes of a row of CSV, about."""
_POLL_S = 0.05
UNFINISHED = ("accepted", "running")

type Job = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TableOrder:
    """A table to make."""

    shown: PublishedView
    request: TableRequest
    zone_set: ZoneSet
    form: TableForm
    tag: str | None = None
    """The entity tag of the answer, if it can be asked for again."""
    as_document: bool = False
    """Whether the answer is the JSON document of a process, with the table as a value."""


class TableJobs:
    """The jobs of an instance that make tables.

    Parameters
    ----------
    folder
        Where states and results are stored, on the disk that all server processes share.
    tables
        Makes the parts of a table. Its limit of rows is that of one part.
    rows
        The most rows of a whole table.
    """

    def __init__(self, folder: Path, tables: Tables, queries: Queries, workers: Workers, *, rows: int) -> None:
        self._folder = folder
        self._tables = tables
        self._queries = queries
        self._workers = workers
        self._rows = rows
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="table")
        self._life: Life | None = None
        self._starting = threading.Lock()
        self._left: dict[str, threading.Event] = {}

    # --- what callers ask ---

    def begin(self, order: TableOrder, *, owner: str | None) -> Job:
        """Accept a job and return it.

        Raises
        ------
        TooLarge, NotFound, InvalidRequest, NotAcceptable
            If it is over the limits of jobs, or the data cannot be tabled like this.
        QueueFull, NoSpace
        """
        self._prune()
        if sum(each["status"] in UNFINISHED for each in self._all()) >= WAITING:
            raise QueueFull(f"{WAITING} jobs are waiting already.", next_step="try again later")
        plan = self._plan(order, threading.Event())
        make_folders(self._folder)
        demand_space(self._folder, free_bytes=_ROW_BYTES * plan.rows)
        job_id = new_id()
        at = timestamp(now())
        with self._starting:
            if self._life is None:
                self._life = self._workers.begin()
        job: Job = {
            "job_id": job_id,
            "owner": owner,
            "worker": self._life.worker,
            "status": "accepted",
            "message": f"{plan.rows} values of {order.shown.texts.dataset_id} for {len(plan.zone_set.zones)} zones",
            "progress": 0,
            "created": at,
            "updated": at,
            "media_type": order.form.media_type,
            "error": None,
        }
        make_folders(self._folder / job_id)
        self._keep(job)
        self._left[job_id] = threading.Event()
        self._pool.submit(self._run, job, order)
        return job

    def job(self, job_id: str, *, owner: str | None, sees_all: bool = False) -> Job:
        """Return a job. Raises NoSuchJob for the job of another key."""
        found = self._read(job_id) if _JOB.fullmatch(job_id) else None
        if found is None or not (sees_all or found["owner"] == owner):
            raise NoSuchJob(f"There is no job {job_id[:40]}.", what="job")
        return found

    def jobs(self, *, owner: str | None, sees_all: bool = False) -> list[Job]:
        """Return the jobs of a key, or all, newest first. A caller without a key is nobody, so its jobs are not listed."""
        seen = [each for each in self._all() if sees_all or (owner is not None and each["owner"] == owner)]
        return sorted(seen, key=lambda each: str(each["created"]), reverse=True)

    def result(self, job: Job) -> Path:
        """Return the file with the result of a successful job."""
        return self._folder / str(job["job_id"]) / "result"

    def dismiss(self, job: Job) -> Job:
        """Cancel a job, or remove its result (clause 13); return its last state."""
        job_id = str(job["job_id"])
        if (left := self._left.get(job_id)) is not None:
            left.set()
        ended = job | {"status": "dismissed", "message": "It was dismissed.", "updated": timestamp(now())}
        shutil.rmtree(self._folder / job_id, ignore_errors=True)
        return ended

    # --- running ---

    def _plan(self, order: TableOrder, left: threading.Event) -> TablePlan:
        plan = self._tables.plan(order.shown, order.request, order.zone_set, AnswerDeadline(self._tables.limits.seconds, left))
        limit = self._rows if order.form is TABLE_FORMS[0] else self._tables.limits.rows  # only CSV can be joined of parts
        if plan.rows > limit:
            setting = "limits.job_rows" if limit == self._rows else "limits.table_rows"
            step = "Ask for fewer zones or periods." if limit == self._rows else "Ask for the form csv."
            raise TooLarge(
                f"The table would take {plan.rows} rows; the limit is {limit}.",
                limit=limit, value=plan.rows, unit="rows", setting=setting, next_step=step,
            )  # fmt: skip
        if plan.refusal is not None and plan.refusal.members["unit"] != "rows":
            raise plan.refusal
        return plan

    def _run(self, job: Job, order: TableOrder) -> None:
        job_id = str(job["job_id"])
        left = self._left[job_id]
        try:
            if left.is_set():
                return
            job |= {"status": "running", "started": timestamp(now())}
            self._keep(job)
            plan = self._plan(order, left)
            with (self._folder / job_id / "part").open("wb") as file:
                for part, done in self._parts(order, plan, left):
                    file.write(part)
                    job |= {"progress": min(99, int(100 * done))}
                    self._keep(job)
            (self._folder / job_id / "part").rename(self.result(job))
            job |= {"status": "successful", "progress": 100, "message": "The table is ready."}
        except Cancelled:
            return
        except CubeportError as exc:
            job |= {"status": "failed", "message": exc.message, "error": exc.to_mapping()}
        except FileNotFoundError:  # another process has dismissed it, and its folder is gone
            return
        except OSError as exc:
            error = Interrupted(f"The table could not be written: {exc.strerror}.")
            job |= {"status": "failed", "message": error.message, "error": error.to_mapping()}
        finally:
            self._left.pop(job_id, None)
        job["finished"] = timestamp(now())
        self._keep(job)

    def _parts(self, order: TableOrder, plan: TablePlan, left: threading.Event) -> Iterator[tuple[bytes, float]]:
        """Yield the bytes of the table, and how much of it is done: whole periods that fit in one part, each with its rows."""
        count = len(plan.chosen)
        at_once = count if plan.refusal is None else max(1, count * self._tables.limits.rows // plan.rows)
        for first in range(0, count, at_once):
            last = min(count, first + at_once)
            part = plan if at_once == count else self._part(order, plan, first, last, left)
            while not self._queries.try_place():
                if left.is_set():
                    raise Cancelled("The job was dismissed.")
                time.sleep(_POLL_S)
            try:
                table = self._tables.answer(part, left=left, placed=True)
            finally:
                self._queries.leave_place()
            content = order.form.write(table, order.request.elements)
            yield content if first == 0 else content.partition(b"\r\n")[2], last / count

    def _part(self, order: TableOrder, plan: TablePlan, first: int, last: int, left: threading.Event) -> TablePlan:
        """Return the plan of some of the periods of *plan*."""
        starts = [plan.grouping.starts[plan.chosen[each]] for each in (first, last - 1)]
        # A period that an interval meets is whole, so it is enough to meet each at its start.
        moment = parse_datetime(f"{starts[0]}/{starts[1]}")
        request = replace(order.request, selection=replace(order.request.selection, datetime=moment))
        return self._tables.plan(order.shown, request, order.zone_set, AnswerDeadline(self._tables.limits.seconds, left))

    # --- states ---

    def _all(self) -> list[Job]:
        found = (self._read(each.name) for each in self._folder.glob("*") if _JOB.fullmatch(each.name))
        return [each for each in found if each is not None]

    def _read(self, job_id: str) -> Job | None:
        try:
            found: Job = json.loads((self._folder / job_id / "job.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if found["status"] in UNFINISHED and self._workers.is_dead(str(found["worker"])):
            error = Interrupted("The server process that made this table has ended.", next_step="run it again")
            found |= {"status": "failed", "message": error.message, "error": error.to_mapping(), "finished": found["updated"]}
        return found

    def _keep(self, job: Mapping[str, Any]) -> None:
        said = {**job, "updated": timestamp(now())}
        replace_file(self._folder / str(job["job_id"]) / "job.json", json.dumps(said).encode())

    def _prune(self) -> None:
        before = time.time() - KEPT_H * 3600
        for each in self._folder.glob("*"):
            if _JOB.fullmatch(each.name) and each.stat().st_mtime < before:
                shutil.rmtree(each, ignore_errors=True)

    def close(self) -> None:
        """Cancel the jobs of this process."""
        for each in list(self._left.values()):
            each.set()
        self._pool.shutdown(cancel_futures=True)
        if self._life is not None:
            self._life.end()
