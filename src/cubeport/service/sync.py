"""Sync: update a dataset from its source. What to do is a pure function of the dataset, its template, the request and the clock.

The plan comes from the clock and the template's availability; what the source says it has can only narrow it. The result is known
when the source is read. If nothing has changed, no version is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cubeport.cubes import following, periods
from cubeport.cubes.calendars import CalendarName, Stamp, canonical
from cubeport.errors import Configuration, CubeportError, InvalidPeriod, InvalidRequest
from cubeport.service.datasets import Dataset
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.scope import TIMELESS
from cubeport.service.state import VersionState
from cubeport.service.templates import Availability, DatasetTemplate

type SyncAction = Literal["not_syncable", "no_op", "append", "revise", "rematerialize"]
type SyncStatus = Literal["not_syncable", "up_to_date", "waiting_for_source", "completed", "accepted", "running"]
type Reason = Literal[
    "static_dataset",
    "no_template",
    "template_missing",
    "template_changed",
    "new_periods_available_for_append",
    "new_periods_available",
    "source_changed",
    "no_new_period",
    "release_version_changed",
    "release_version_unknown",
    "release_version_unavailable",
    "new_release_available",
    "no_new_release",
    "inputs_changed",
    "inputs_unchanged",
]

type AvailabilityRule = Callable[[dict[str, Any], str], str]
"""``f(template, end)`` returns the last period that the source has, given the one that would be asked for."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome of a sync: nothing to do, or the ingestion that runs it."""

    detail: SyncDetail
    ingestion: Ingestion | None = None

    @classmethod
    def of(cls, detail: SyncDetail, ingestion: Ingestion) -> Synced:
        """Return the outcome of the ingestion that ran, or runs, *detail*."""
        waits = detail.waiting_after(str(ingestion.error.get("kind"))) if ingestion.error is not None else None
        return cls(waits) if waits is not None else cls(detail.carried_out(ingestion), ingestion)

    @property
    def status(self) -> str:
        """The status; ``completed`` only if there is something new. Otherwise the dataset is up to date."""
        if self.ingestion is None:
            return self.detail.status
        if self.ingestion.status == "completed" and self.ingestion.reused:
            return "up_to_date"
        return self.ingestion.status


class SyncDetail(BaseModel):
    """What a sync of a dataset does, with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_id: str
    source_dataset_id: str | None
    sync_kind: Literal["temporal", "release", "static", "derived"] | None
    action: SyncAction
    reason: Reason
    message: str
    current_start: str | None = None
    current_end: str | None = None
    target_end: str | None = None
    target_end_source: str | None = None
    delta_start: str | None = None
    delta_end: str | None = None
    period_count: int | None = None
    current_version: str | None = None
    target_version: str | None = None
    revised: tuple[str, ...] = ()
    estimate: dict[str, int | None] = {}
    base_version_id: str | None = None
    warnings: tuple[dict[str, str], ...] = ()

    @property
    def looks_back(self) -> bool:
        """Whether to compare existing periods with the source. An earlier decision applies to them too."""
        return self.reason in ("no_new_period", "new_periods_available_for_append")

    @property
    def looks_ahead(self) -> bool:
        """Whether it hopes for new periods, which only the source can confirm."""
        return self.reason in (*_NOTHING_NEW, "new_periods_available_for_append")

    @property
    def is_new_release(self) -> bool:
        """Whether it rebuilds the dataset from another release, which must have all periods that the dataset has."""
        return self.reason in following.NEW_RELEASE

    def asked_end(self, end: str | None) -> str | None:
        """Return the requested *end* if the source must have it; ``None`` if the target is earlier, as the template's availability
        or the dataset itself says.
        """
        return end if self.target_end_source == "request" else None

    def waiting_after(self, kind: str) -> SyncDetail | None:
        """Return it after its ingestion failed with an error of *kind*, if that says that the new release is not complete yet.

        Otherwise ``None``.
        """
        return None if following.waiting(self.reason, kind) is None else self.short()

    def short(self) -> SyncDetail:
        """Return it with a release that does not have all periods of the dataset: the dataset waits for the rest."""
        waits = following.WAITING
        return self.model_copy(update={**waits, "message": _MESSAGES[waits["reason"]]})

    def confirmed(self, new: Sequence[str] | None, warnings: Sequence[tuple[str, str]] = ()) -> SyncDetail:
        """Return it with the new periods that the source says it has; ``None`` if that is only known when it is read."""
        told = (*self.warnings, *({"kind": kind, "message": words} for kind, words in warnings))
        if new is None:
            # The source may end before the target, so nobody knows yet where the new periods end.
            unknown = {"delta_end": None, "period_count": None} if self.target_end_source != "request" else {}
            return self.model_copy(update={**unknown, "warnings": told})
        if not new:
            return self._without_news().model_copy(update={"warnings": told})
        update = {"delta_end": new[-1], "period_count": len(new)} if self.delta_start else {}
        return self.model_copy(update={**update, "warnings": told, "message": _CONFIRMED.get(self.reason, self.message)})

    def carried_out(self, ingestion: Ingestion) -> SyncDetail:
        """Return it as its ingestion ended: without new periods if there were none, with those that there were otherwise."""
        if self.is_new_release and ingestion.status == "completed" and ingestion.reused:
            same = "The new release is equal to the dataset in every value."
            return self.model_copy(update={"action": "no_op", "reason": "no_new_release", "message": same})
        if ingestion.status != "completed" or not (self.looks_ahead or self.action == "revise"):
            return self
        if ingestion.reused:
            return self._without_news().model_copy(update={"revised": ()})
        end = ((ingestion.coverage or {}).get("temporal") or {}).get("end")
        if end != self.current_end:
            return self.model_copy(update={"delta_end": end, "message": _DONE} if self.delta_start else {"message": _DONE})
        action: SyncAction = "revise" if self.action == "append" else self.action
        return self._without_news().model_copy(
            update={
                "action": action,
                "reason": "source_changed",
                "message": "Changed periods of the source were read again.",
            }
        )

    def _without_news(self) -> SyncDetail:
        reason = _NOTHING_NEW.get(self.reason, "no_new_period")
        gone = {"delta_start": None, "delta_end": None, "period_count": None}
        message = "The source has nothing new."
        return self.model_copy(update={"action": "no_op", "reason": reason, "message": message, **gone})

    def with_revised(self, revised: tuple[str, ...]) -> SyncDetail:
        """Return it with the existing periods that the source has changed. They are read again, with new periods or alone."""
        if not revised or not self.looks_back:
            return self
        changed: dict[str, Any] = {"revised": revised}
        if self.action == "no_op":
            changed |= {"action": "revise", "reason": "source_changed", "message": _MESSAGES["source_changed"]}
        return self.model_copy(update=changed)

    def without(self, gone: tuple[str, ...]) -> SyncDetail:
        """Return it with a warning about existing periods, or files, that the source does not have any more: they are kept."""
        if not gone:
            return self
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        words = f"The source says nothing of {', '.join(gone[:3])}{more} any more. The dataset keeps what it read."
        return self.model_copy(update={"warnings": (*self.warnings, {"kind": "vanished", "message": words})})

    @property
    def status(self) -> SyncStatus:
        """The status of a sync with nothing to do; ``completed`` otherwise."""
        if self.action == "not_syncable":
            return "not_syncable"
        if self.reason == "release_version_unavailable":
            return "waiting_for_source"
        return "up_to_date" if self.action == "no_op" else "completed"


_MESSAGES: Mapping[Reason, str] = {
    "static_dataset": "The template says that the source does not change.",
    "no_template": "The dataset was made from files that were named directly: add new ones with `cubeport update {id} FILES`.",
    "template_missing": "The template that it was made from is missing or broken: `cubeport check-config` says which.",
    "template_changed": "The template changed since the dataset was made: `cubeport ingest {id} --overwrite` rebuilds it.",
    "new_periods_available_for_append": "There may be new periods: they will be read and added.",
    "new_periods_available": "There may be new periods: the dataset will be rebuilt with them.",
    "source_changed": "The source changed periods that the dataset has: they will be read again.",
    "no_new_period": "The dataset has every period up to the target.",
    "release_version_changed": "The source has a newer release than the dataset: the dataset will be rebuilt.",
    "release_version_unknown": "It is unknown which release the dataset has: the dataset will be rebuilt.",
    "release_version_unavailable": "The new release does not yet cover all of the dataset.",
    "new_release_available": "A new release may be available: the dataset will be rebuilt.",
    "no_new_release": "The dataset has the newest release.",
    "inputs_changed": "Its inputs have newer versions: the dataset is derived again.",
    "inputs_unchanged": "It is derived from the newest versions of its inputs.",
}


_NOTHING_NEW: Mapping[Reason, Reason] = {"new_periods_available": "no_new_period", "new_release_available": "no_new_release"}
"""The reasons of a rebuild for new periods, each with the reason to do nothing if there are none."""

_CONFIRMED: Mapping[Reason, str] = {
    "new_periods_available_for_append": "The source has new periods: they will be read and added.",
    "new_periods_available": "The source has new periods: the dataset will be rebuilt with them.",
    "new_release_available": "The source has new periods: the dataset will be rebuilt with them.",
}

_DONE = "The new periods of the source were added."


def plan(
    dataset: Dataset,
    head: VersionState | None,
    template: DatasetTemplate | None,
    *,
    end: str | None,
    now: datetime,
    rules: Mapping[str, AvailabilityRule] | None = None,
) -> SyncDetail:
    """Return what a sync would do. Pure.

    Parameters
    ----------
    template
        The current template of the dataset; ``None`` if it does not exist or is invalid.
    end
        The last requested period, of the dataset's period type; ``None`` is the period of *now*.
    now
        The current time, with its time zone.
    rules
        The rules of plugins that ``sync.availability.function`` may name.

    Raises
    ------
    Configuration
        If the template names a rule that no plugin gives, or the rule does not return a period.
    InvalidPeriod, InvalidRequest
        If *end* is not a period, or is before the first period of the dataset.
    """
    state = dataset.state
    held: Mapping[str, Any] = (head.coverage.get("temporal") if head else None) or {}
    known: dict[str, Any] = {
        "dataset_id": state.texts.dataset_id,
        "source_dataset_id": state.source_dataset_id,
        "sync_kind": template.sync.kind if template else None,
        "current_start": held.get("start"),
        "current_end": held.get("end"),
        "current_version": head.release if head else None,
        "base_version_id": head.version_id if head else None,
    }

    def detail(action: SyncAction, reason: Reason, **more: Any) -> SyncDetail:
        message = _MESSAGES[reason].format(id=state.texts.dataset_id)
        return SyncDetail(**known, action=action, reason=reason, message=message, **more)

    kind = template.period_type if template is not None else state.texts.period_type
    if end is not None and kind is not None and kind not in TIMELESS:
        # A text that is no period is refused whatever else there is to say.
        periods.parse(end, kind, canonical((head.coverage.get("calendar") if head else None) or "") or "standard", side="end")
    if state.source_dataset_id is None:
        return detail("not_syncable", "no_template")
    if template is None or head is None:
        return detail("not_syncable", "template_missing" if template is None else "no_template")
    if template.sync.kind == "static":
        return detail("not_syncable", "static_dataset")
    if state.template_digest != template.digest():
        return detail("not_syncable", "template_changed")
    target = _target(template, head.coverage, end=end, now=now, rules=rules or {})
    more: dict[str, Any] = {"target_end": target.text, "target_end_source": target.source}
    if template.sync.kind == "release":
        return _release(template, head, target, detail, more)
    if target.number is None or target.held_end is None or target.number <= target.held_end:
        return detail("no_op", "no_new_period", **more)
    more |= {
        "delta_start": periods.format_period(target.held_end + 1, template.period_type, target.calendar),
        "delta_end": target.text,
        "period_count": target.number - target.held_end,
    }
    if template.sync.execution == "append":
        return detail("append", "new_periods_available_for_append", **more)
    return detail("rematerialize", "new_periods_available", **more)


def _release(template: DatasetTemplate, head: VersionState, target: _Target, detail: Any, more: dict[str, Any]) -> SyncDetail:
    wanted = template.sync.version.value if template.sync.version else None
    if wanted is None:
        newer = target.number is not None and target.held_end is not None and target.number > target.held_end
        found: SyncDetail = (
            detail("rematerialize", "new_release_available", **more) if newer else detail("no_op", "no_new_release", **more)
        )
        return found
    more["target_version"] = wanted
    if head.release == wanted:
        same: SyncDetail = detail("no_op", "no_new_release", **more)
        return same
    if target.source_end is not None and target.held_end is not None and target.source_end < target.held_end:
        short: SyncDetail = detail("no_op", "release_version_unavailable", **more)
        return short
    reason: Reason = "release_version_unknown" if head.release is None else "release_version_changed"
    changed: SyncDetail = detail("rematerialize", reason, **more)
    return changed


@dataclass(frozen=True, slots=True)
class _Target:
    number: int | None
    text: str | None
    source: str | None
    held_end: int | None
    source_end: int | None
    """The last period of the source according to the template."""
    calendar: CalendarName


def _target(
    template: DatasetTemplate,
    coverage: Mapping[str, Any],
    *,
    end: str | None,
    now: datetime,
    rules: Mapping[str, AvailabilityRule],
) -> _Target:
    """Return the last period to fetch: the requested one, otherwise the current one, limited by the availability."""
    kind = template.period_type
    calendar = canonical(coverage.get("calendar") or "") or "standard"
    temporal = coverage.get("temporal")
    if kind in TIMELESS or temporal is None:
        if end is not None:
            raise InvalidRequest(f"Template {template.id!r} has no periods: leave end out.")
        return _Target(None, None, None, None, None, calendar)
    held_end = periods.parse(temporal["end"], kind, calendar, side="end")
    declared = template.extents.temporal.end if template.extents.temporal else None
    source_end = periods.parse_holding(declared, kind, calendar, side="end") if declared else None
    if end is None and calendar not in ("standard", "gregorian", "proleptic_gregorian"):
        raise InvalidPeriod(f"The present time does not exist in the calendar {calendar}: name the end.")
    moment = Stamp(now.year, now.month, now.day, now.hour, now.minute, now.second)
    present = periods.of(moment, kind, calendar) if calendar in ("standard", "gregorian", "proleptic_gregorian") else None
    if end is not None:
        number, source = periods.parse(end, kind, calendar, side="end"), "request"
        if number < periods.parse(temporal["start"], kind, calendar):
            raise InvalidRequest(f"The end {end} is before {temporal['start']}, where the dataset begins.")
    else:
        assert present is not None
        number, source = present, "default_today"
    limits = [
        each for each in (_admitted(template.sync.availability, kind, calendar, now, present), source_end) if each is not None
    ]
    if limits and min(limits) < number:
        number, source = min(limits), f"{source}_clamped_by_availability"
    if template.sync.availability.function is not None:
        said = _said_by_plugin(template, periods.format_period(number, kind, calendar), calendar, rules)
        if said < number:
            number, source = said, "plugin_availability"
    if number <= held_end:
        return _Target(held_end, temporal["end"], "current_coverage", held_end, source_end, calendar)
    return _Target(number, periods.format_period(number, kind, calendar), source, held_end, source_end, calendar)


def _said_by_plugin(template: DatasetTemplate, end: str, calendar: CalendarName, rules: Mapping[str, AvailabilityRule]) -> int:
    """Return the last period that the template's rule says there is. Raises Configuration."""
    name = str(template.sync.availability.function)
    if name not in rules:
        raise Configuration(
            f"Template {template.id!r} names the availability function {name!r}, which no plugin provides.",
            next_step="cubeport plugins",
        )
    try:
        answer = rules[name](template.model_dump(mode="json", exclude_none=True), end)
        return periods.parse(answer, template.period_type, calendar, side="end")
    except Exception as exc:  # whatever a plugin does, its author has to know
        words = exc.message if isinstance(exc, CubeportError) else f"{type(exc).__name__}: {exc}"
        raise Configuration(
            f"The availability function {name!r} did not return a {template.period_type} period: {' '.join(words.split())[:200]}",
            next_step="tell the author of the plugin",
        ) from exc


def _admitted(rules: Availability, kind: str, calendar: CalendarName, now: datetime, present: int | None) -> int | None:
    """Return the last period that all rules allow; ``None`` if there are no rules."""
    found: list[int] = [] if rules.allow_future or present is None else [present]

    def holding(moment: datetime) -> int:
        return periods.of(Stamp(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second), kind, calendar)

    lag = timedelta(hours=rules.lag_hours, days=rules.lag_days)
    if lag and present is not None:
        found.append(holding(now - lag))
    if rules.complete_month_after_day is not None and present is not None:
        back = 1 if now.day > rules.complete_month_after_day else 2
        month = now.year * 12 + now.month - 1 - back
        found.append(periods.parse(f"{month // 12:04d}-{month % 12 + 1:02d}", kind, calendar, side="end"))
    if rules.latest_year is not None:
        found.append(periods.parse(f"{rules.latest_year:04d}", kind, calendar, side="end"))
    if rules.latest_year_offset is not None and present is not None:
        found.append(periods.parse(f"{now.year + rules.latest_year_offset:04d}", kind, calendar, side="end"))
    return min(found) if found else None


def request(
    dataset: Dataset, detail: SyncDetail, *, end: str | None, publish: bool | None, by_file: bool = False
) -> tuple[IngestionRequest, str | None]:
    """Return the ingestion for *detail*, and the last period that it may fetch if no end was requested.

    With *by_file*, the source is local files, which are read from the first period that can have changed.
    """
    again = by_file and bool(detail.revised)
    asked = IngestionRequest(
        dataset_id=dataset.state.texts.dataset_id,
        start=detail.revised[0] if again else detail.current_start,
        end=end,
        overwrite=detail.action == "rematerialize" or again,
        publish=dataset.state.published if publish is None else publish,
    )
    return asked, None if end is not None else detail.target_end
