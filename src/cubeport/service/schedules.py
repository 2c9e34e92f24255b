"""Schedules: syncs that are due by the cron expressions of their templates. Each is run by only one process."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cubeport.catalog.backend import CatalogBackend, Row
from cubeport.catalog.forms.canonical import now, timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.documents.native import Sync
from cubeport.errors import RecordExists
from cubeport.service.cron import Cron
from cubeport.service.datasets import Datasets
from cubeport.service.templates import Configuration

FIRE = "fire"
"""The table of claims, with one row for each dataset and time."""

_KEPT = 10

_WRONG = timedelta(minutes=5)
"""A claim that is further ahead than this was made by a clock that was wrong: no two processes differ as much."""

_log = logging.getLogger(__name__)


class Schedules:
    """The schedules of an instance.

    Parameters
    ----------
    zone
        The setting ``schedule.timezone``, which is the time zone of the cron expressions.
    """

    def __init__(self, backend: CatalogBackend, datasets: Datasets, configuration: Configuration, *, zone: str = "UTC") -> None:
        self._backend = backend
        self._datasets = datasets
        self._configuration = configuration
        self._zone = ZoneInfo(zone)

    def claim(self, at: datetime | None = None) -> list[str]:
        """Claim the syncs that are due and that no other process has claimed, and return their datasets. The caller must run them.

        If several scheduled times have passed, only the latest counts, once.
        """
        at = at or now()
        found: list[str] = []
        for template in self._configuration.templates().values():
            if template.sync.schedule is None:
                continue
            cron = Cron.parse(template.sync.schedule)
            made = self._made_from(template.id)
            found += [str(each.key) for each in made if self._claimed(cron, each, at)]
        return found

    def following(self, schedule: str, at: datetime | None = None) -> datetime | None:
        """Return the next time at which a schedule is due."""
        return Cron.parse(schedule).following(at or now(), self._zone)

    def last(self, dataset_id: str) -> datetime | None:
        """Return the last claimed time of a sync of the dataset."""
        rows = self._backend.rows.select(FIRE, owner=dataset_id, descending=True, limit=1)
        return datetime.fromtimestamp(rows[0].seq, UTC) if rows else None

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> Sync:
        """Return how a dataset follows its source, by its present template, with the last and next time of its schedule."""
        template = self._configuration.templates().get(source_dataset_id or "")
        if template is None:
            dataset = self._datasets.find(dataset_id)
            is_derived = dataset is not None and dataset.state.derived is not None
            return Sync(kind="derived", execution="rematerialize") if is_derived else Sync(kind="static", execution="append")
        rules = template.sync
        if rules.schedule is None:
            return Sync(kind=rules.kind, execution=rules.execution)
        runs = {"last_run": self.last(dataset_id), "next_run": self.following(rules.schedule)}
        return Sync(kind=rules.kind, execution=rules.execution, schedule=rules.schedule, **runs)

    def _made_from(self, template_id: str) -> list[CatalogRecord]:
        found: list[CatalogRecord] = []
        cursor: str | None = None
        while True:
            page = self._datasets.page(source_dataset_id=template_id, publication="any", limit=1000, cursor=cursor)
            found += [self._datasets.get(each.texts.dataset_id).record for each in page.items]
            if (cursor := page.next) is None:
                return found

    def _claimed(self, cron: Cron, record: CatalogRecord, at: datetime) -> bool:
        due = cron.latest(at, self._zone)
        if due is None or due <= record.created_at <= at:
            return False
        self._forget(str(record.key), at + _WRONG)
        last = self.last(str(record.key))
        if last is not None and due <= last:
            return False
        row = Row(FIRE, f"{record.key} {timestamp(due)}", {"at": timestamp(at)}, str(record.key), seq=int(due.timestamp()))
        try:
            self._backend.rows.put(row)
        except RecordExists:
            return False  # another process was faster
        for old in self._backend.rows.select(FIRE, owner=str(record.key), descending=True, limit=1000)[_KEPT:]:
            self._backend.rows.delete(FIRE, old.id)
        return True

    def _forget(self, dataset_id: str, after: datetime) -> None:
        """Remove claims of a clock that was ahead. Behind them, nothing would be due until their time has come."""
        for row in self._backend.rows.select(FIRE, owner=dataset_id, descending=True, limit=_KEPT):
            if row.seq <= after.timestamp():
                break
            self._backend.rows.delete(FIRE, row.id)
