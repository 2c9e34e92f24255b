"""Tables that are made as jobs: larger ones than fit in an answer. Their zones and their results are files, kept for a day.

A job is a row like that of an ingestion (``service.jobs``), so it is listed, followed, cancelled, retried and survives a restart in
the same way.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cubeport.catalog.disk.durable import demand_space, make_folders, replace_file
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.cubes.selection import parse_datetime
from cubeport.cubes.tables.request import TableRequest, parse_table
from cubeport.cubes.zones import ZoneSet, read_zone_set
from cubeport.documents.processes import results
from cubeport.documents.tables.form import TableForm
from cubeport.documents.tables.forms import TABLE_FORMS, table_form
from cubeport.documents.texts import PublishedView
from cubeport.errors import Interrupted, NoSuchJob, NotFound, TooLarge
from cubeport.service.ingestions import TableJob, Work, no_job
from cubeport.service.jobs import Jobs, Listener
from cubeport.service.queries import AnswerDeadline, Queries
from cubeport.service.tables import TablePlan, Tables

KEPT_H = 24
_ROW_BYTES = 90
"""Bytes of a row of CSV, about."""
_POLL_S = 0.05


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
    weighing: PublishedView | None = None
    """The dataset that says what cells count, if the request names one."""
    parameters: tuple[tuple[str, str], ...] = ()
    """The parameters that ``request`` was read from."""


class TableJobs:
    """The jobs of an instance that make tables.

    Parameters
    ----------
    folder
        Where zones and results are stored. Servers with another folder, on other machines, show a job, but do not run it and do not
        have its result.
    tables
        Makes the parts of a table. Its limit of rows is that of one part.
    jobs
        The queue.
    shown
        Returns the view of a dataset, ``id@version``.
    rows
        The most rows of a whole table.
    """

    def __init__(
        self, folder: Path, tables: Tables, queries: Queries, jobs: Jobs, shown: Callable[[str], PublishedView], *, rows: int
    ) -> None:
        self._folder = folder
        self._tables = tables
        self._queries = queries
        self._jobs = jobs
        self._shown = shown
        self._rows = rows

    # --- what callers ask ---

    def begin(self, order: TableOrder, *, owner: str | None) -> TableJob:
        """Accept a job and return it.

        Raises
        ------
        TooLarge, NotFound, InvalidRequest, NotAcceptable
            If it is over the limits of jobs, or the data cannot be tabled like this.
        QueueFull, NoSpace
        """
        plan = self._plan(order, AnswerDeadline(self._tables.limits.seconds))
        dataset_id = order.shown.texts.dataset_id
        job = TableJob(
            dataset_id=dataset_id,
            version_id=order.shown.version.version_id,
            parameters=_pinned(order),
            form=order.form.name,
            as_document=order.as_document,
            title=f"{plan.rows} values of {dataset_id} for {len(plan.zone_set.zones)} zones",
            asker=owner,
        )
        make_folders(self._folder)
        demand_space(self._folder, free_bytes=_ROW_BYTES * plan.rows)
        folder = self._folder / job.ingestion_id
        make_folders(folder)
        replace_file(folder / "zones.json", dumps(order.zone_set.document()).encode())
        try:
            return self._jobs.submit(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def job(self, job_id: str, *, owner: str | None, sees_all: bool = False) -> TableJob:
        """Return a job. Raises NoSuchJob for the job of another key, and for one whose result is no longer kept."""
        try:
            found: Work | None = self._jobs.get(job_id)
        except NotFound:
            found = None
        if not isinstance(found, TableJob) or not (sees_all or found.asker == owner):
            raise no_job(job_id)
        if found.status == "completed" and not self.result(found).exists():
            where = f"it is kept for {KEPT_H} hours, on the machine that took the job"
            raise NoSuchJob(f"The result of job {job_id[:40]} is not here: {where}.", what="job")
        return found

    def jobs(self, *, owner: str | None, sees_all: bool = False, limit: int) -> list[TableJob]:
        """Return the jobs of a key, or all, newest first. A caller without a key is nobody, so its jobs are not listed."""
        tables = (each for each, _ in self._jobs.page(limit=_LOOKED_AT) if isinstance(each, TableJob))
        return [each for each in tables if sees_all or (owner is not None and each.asker == owner)][:limit]

    def result(self, job: TableJob) -> Path:
        """Return the file with the result of a completed job."""
        return self._folder / job.ingestion_id / "result"

    def dismiss(self, job: TableJob) -> TableJob:
        """Cancel a job, or remove it and its result if it has ended (clause 13); return its last state."""
        if not job.finished:
            self._jobs.cancel(job.ingestion_id)
        else:
            self._jobs.forget(job.ingestion_id)
            shutil.rmtree(self._folder / job.ingestion_id, ignore_errors=True)
        return job.model_copy(update={"status": "cancelled"})

    # --- running (``service.jobs.TableMaker``) ---

    def attempt(self, job: TableJob, *, progress: Listener) -> None:
        """Make the table and store it. *progress* raises Cancelled once the job was cancelled."""
        folder = self._folder / job.ingestion_id
        progress("planning", 0, 1)
        try:
            order = self._order(job, (folder / "zones.json").read_bytes())
            with (folder / "part").open("wb") as file:
                file.writelines(self._written(job, order, progress))
            (folder / "part").rename(self.result(job))
        except OSError as exc:
            raise Interrupted(f"The table could not be written: {exc.strerror}.") from exc

    def has(self, job_id: str) -> bool:
        """Return whether the zones of a job are in the folder of this process."""
        return (self._folder / job_id / "zones.json").exists()

    def prune(self) -> None:
        """Remove the files of jobs that are older than a day, and end jobs that waited as long for the machine with their zones."""
        before = time.time() - KEPT_H * 3600
        for each in self._folder.glob("*"):
            if each.stat().st_mtime < before:
                shutil.rmtree(each, ignore_errors=True)
        for job, _ in self._jobs.page(status="accepted", limit=_LOOKED_AT):
            if isinstance(job, TableJob) and job.created_at.timestamp() < before and not self.has(job.ingestion_id):
                problem = Interrupted("No server with its zones has run it within a day.", next_step="ask for the table again")
                self._jobs.give_up(job.ingestion_id, problem)

    def _order(self, job: TableJob, zones: bytes) -> TableOrder:
        document = strict_json(zones.decode())
        form = table_form(job.form)
        assert form is not None, "it was looked up when the job was accepted"
        request = parse_table(list(job.parameters))
        return TableOrder(
            self._shown(f"{job.dataset_id}@{job.version_id}"),
            request,
            read_zone_set(str(document["id"]), document),
            form,
            as_document=job.as_document,
            weighing=None if request.weights is None else self._shown(request.weights[0]),
        )

    def _plan(self, order: TableOrder, deadline: Callable[[], None]) -> TablePlan:
        plan = self._tables.plan(order.shown, order.request, order.zone_set, deadline, weighing=order.weighing)
        limit = self._rows if order.form is TABLE_FORMS[0] else self._tables.limits.rows  # only CSV can be joined of parts
        if plan.rows > limit:
            setting = "limits.job_rows" if limit == self._rows else "limits.table_rows"
            step = "Ask for fewer zones or periods." if limit == self._rows else "Ask for the form csv."
            raise TooLarge(
                f"The table would take {plan.rows:,} rows; the limit is {limit:,}.",
                limit=limit, value=plan.rows, unit="rows", setting=setting, next_step=step,
            )  # fmt: skip
        if plan.refusal is not None and plan.refusal.members["unit"] != "rows":
            raise plan.refusal
        return plan

    def _written(self, job: TableJob, order: TableOrder, progress: Listener) -> Iterator[bytes]:
        """Yield the bytes of the result."""
        parts = self._parts(order, progress)
        if not job.as_document:
            yield from parts
            return
        yield dumps(results(b"".join(parts).decode(), order.form.media_type)).encode()

    def _parts(self, order: TableOrder, progress: Listener) -> Iterator[bytes]:
        """Yield the bytes of the table: whole periods that fit in one part, each with its rows."""
        done, count = 0, 1

        def deadline() -> None:
            progress("writing", done, count)

        plan = self._plan(order, deadline)
        count = len(plan.chosen)
        at_once = count if plan.refusal is None else max(1, count * self._tables.limits.rows // plan.rows)
        for first in range(0, count, at_once):
            last = min(count, first + at_once)
            part = plan if at_once == count else self._part(order, plan, first, last, deadline)
            while not self._queries.try_place():
                deadline()
                time.sleep(_POLL_S)
            try:
                table = self._tables.answer(part, deadline=deadline, placed=True)
            finally:
                self._queries.leave_place()
            content = order.form.write(table, order.request.elements)
            yield content if first == 0 else content.partition(b"\r\n")[2]
            done = last

    def _part(self, order: TableOrder, plan: TablePlan, first: int, last: int, deadline: Callable[[], None]) -> TablePlan:
        """Return the plan of some of the periods of *plan*."""
        starts = [plan.grouping.starts[plan.chosen[each]] for each in (first, last - 1)]
        # A period that an interval meets is whole, so it is enough to meet each at its start.
        moment = parse_datetime(f"{starts[0]}/{starts[1]}")
        request = replace(order.request, selection=replace(order.request.selection, datetime=moment))
        return self._tables.plan(order.shown, request, order.zone_set, deadline, weighing=order.weighing)


def _pinned(order: TableOrder) -> tuple[tuple[str, str], ...]:
    """Return the parameters with the version of the weights, so that every part of the table has the same."""
    if order.weighing is None or order.request.weights is None:
        return order.parameters
    dataset = f"{order.weighing.texts.dataset_id}@{order.weighing.version.version_id}"
    return tuple((name, f"{dataset}:{order.request.weights[1]}" if name == "weights" else text) for name, text in order.parameters)


_LOOKED_AT = 1000
"""So many of the newest jobs are looked at for those of a caller."""
