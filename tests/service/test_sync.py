"""Following a source: every row of the plan, what a schedule means, and who runs what is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.catalog.forms.canonical import now
from cubeport.catalog.models import CatalogRecord
from cubeport.documents.texts import Texts
from cubeport.errors import Configuration, InvalidPeriod, InvalidRequest
from cubeport.service import sync
from cubeport.service.cron import Cron
from cubeport.service.datasets import Dataset
from cubeport.service.ingestions import Ingestion, IngestionRequest, Scope
from cubeport.service.schedules import FIRE, Schedules
from cubeport.service.state import KIND, DatasetState, VersionState
from cubeport.service.sync import Synced
from cubeport.service.templates import DatasetTemplate

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)


def template(period_type: str = "monthly", extents: dict[str, Any] | None = None, **rules: Any) -> DatasetTemplate:
    return DatasetTemplate.model_validate(
        {
            "id": "sst",
            "title": "SST",
            "period_type": period_type,
            "source": {"kind": "files", "paths": ["a.nc"]},
            "extents": extents or {},
            "sync": {"kind": "temporal", **rules},
        }
    )


def held(
    of: DatasetTemplate | None,
    *,
    start: str = "2020-01",
    end: str = "2026-05",
    calendar: str = "standard",
    release: str | None = None,
) -> tuple[Dataset, VersionState]:
    version = VersionState(
        version_id="f" * 32,
        seq=1,
        kind="created",
        created_at=NOW,
        coverage={"temporal": {"start": start, "end": end, "count": 1}, "calendar": calendar},
        request_scope=Scope(),
        size_bytes=1,
        digest="d",
        ingestion_id="e" * 32,
        engine="zarr",
        request_digest="r",
        release=release,
    )
    state = DatasetState(
        texts=Texts(dataset_id="sst", title="SST", description="SST"),
        head=version.version_id,
        source_dataset_id=of.id if of else None,
        template_digest=of.digest() if of else None,
    )
    return Dataset(CatalogRecord(kind=KIND, key="sst", metadata=state.metadata()), state), version


def plan(of: DatasetTemplate | None, *, end: str | None = None, at: datetime = NOW, **have: Any) -> sync.SyncDetail:
    dataset, head = held(of, **have)
    return sync.plan(dataset, head, of, end=end, now=at)


def said(detail: sync.SyncDetail) -> tuple[str, str, str]:
    return detail.action, detail.reason, detail.status


def test_what_cannot_be_synced_says_why() -> None:
    assert said(plan(template(kind="static"))) == ("not_syncable", "static_dataset", "not_syncable")
    assert said(plan(None)) == ("not_syncable", "no_template", "not_syncable")
    dataset, head = held(template())
    assert said(sync.plan(dataset, head, None, end=None, now=NOW)) == ("not_syncable", "template_missing", "not_syncable")
    changed = template().model_copy(update={"period_type": "daily"})
    assert said(sync.plan(dataset, head, changed, end=None, now=NOW)) == ("not_syncable", "template_changed", "not_syncable")


def test_new_periods_are_added_or_the_whole_is_rebuilt() -> None:
    found = plan(template())
    assert said(found) == ("append", "new_periods_available_for_append", "completed")
    assert (found.delta_start, found.delta_end, found.period_count) == ("2026-06", "2026-07", 2)
    assert (found.target_end, found.target_end_source) == ("2026-07", "default_today")
    assert said(plan(template(execution="rematerialize"))) == ("rematerialize", "new_periods_available", "completed")
    assert said(plan(template(), end="2026-05")) == ("no_op", "no_new_period", "up_to_date")
    assert plan(template(), end="2026-05").target_end_source == "current_coverage"
    assert plan(template(), end="2026-06").target_end_source == "request"
    assert said(plan(template(), end="2026-07")) == ("append", "new_periods_available_for_append", "completed")


def test_what_the_source_says_narrows_the_plan() -> None:
    found = plan(template())
    some = found.confirmed(("2026-06",), (("gap", "2026-07 is missing"),))
    assert (said(some), some.delta_start, some.delta_end, some.period_count) == (said(found), "2026-06", "2026-06", 1)
    assert (some.message, some.warnings) == (
        "The source has new periods: they will be read and added.",
        ({"kind": "gap", "message": "2026-07 is missing"},),
    )
    none = found.confirmed(())
    assert (said(none), none.delta_start, none.period_count) == (("no_op", "no_new_period", "up_to_date"), None, None)
    unread = found.confirmed(None)
    assert (said(unread), unread.message) == (said(found), found.message), "only reading it tells"
    assert (unread.delta_start, unread.delta_end, unread.period_count) == ("2026-06", None, None)
    asked = plan(template(), end="2026-06")
    assert asked.confirmed(None) == asked, "what was asked for is known"
    assert said(plan(template(kind="release")).confirmed(())) == ("no_op", "no_new_release", "up_to_date")
    assert said(plan(template(execution="rematerialize")).confirmed(())) == ("no_op", "no_new_period", "up_to_date")


def test_the_outcome_tells_what_was_done_and_not_what_could_have_been() -> None:
    def ended(of: DatasetTemplate, end: str, *, reused: bool = False) -> sync.SyncDetail:
        coverage = {"temporal": {"start": "2020-01", "end": end}}
        request = IngestionRequest(dataset_id="sst")
        done = Ingestion(dataset_id="sst", request=request, status="completed", reused=reused, coverage=coverage)
        return Synced.of(plan(of), done).detail

    added = ended(template(), "2026-06")
    assert (said(added)[:2], added.delta_end) == (("append", "new_periods_available_for_append"), "2026-06")
    assert said(ended(template(), "2026-05", reused=True)) == ("no_op", "no_new_period", "up_to_date")
    assert said(ended(template(), "2026-05"))[:2] == ("revise", "source_changed")
    assert said(ended(template(execution="rematerialize"), "2026-05"))[:2] == ("rematerialize", "source_changed")
    running = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst"), status="running")
    assert Synced.of(plan(template()), running).detail == plan(template())


@pytest.mark.parametrize(
    ("rules", "target"),
    [
        ({"lag_days": 20}, "2026-06"),
        ({"lag_hours": 24 * 50}, None),
        ({"complete_month_after_day": 14}, "2026-06"),
        ({"complete_month_after_day": 15}, None),
        ({"latest_year": 2026}, "2026-07"),
        ({"latest_year_offset": 0}, "2026-07"),
        ({"latest_year_offset": -1}, None),
        ({"lag_days": 20, "complete_month_after_day": 15}, None),
    ],
)
def test_availability_clamps_and_the_earliest_wins(rules: dict[str, int], target: str | None) -> None:
    found = plan(template(availability=rules))
    if target is None:
        assert said(found) == ("no_op", "no_new_period", "up_to_date"), found
    else:
        assert found.target_end == target
        clamped = target != "2026-07"
        assert found.target_end_source == ("default_today_clamped_by_availability" if clamped else "default_today")


def test_the_future_is_asked_for_only_where_it_exists() -> None:
    assert plan(template(), end="2027-01").target_end == "2026-07"
    assert plan(template(), end="2027-01").target_end_source == "request_clamped_by_availability"
    assert plan(template(availability={"allow_future": True}), end="2027-01").target_end == "2027-01"
    declared = {"temporal": {"end": "2026-06"}}
    assert plan(template(extents=declared)).target_end == "2026-06"


def test_ends_that_are_none_are_refused() -> None:
    for end in ("2026", "x", "2026-13"):
        if end == "2026":
            assert plan(template(availability={"allow_future": True}), end=end).target_end == "2026-12"
            continue
        with pytest.raises(InvalidPeriod):
            plan(template(), end=end)
    with pytest.raises(InvalidRequest):
        plan(template(), end="2019-12")
    with pytest.raises(InvalidPeriod, match="calendar 360_day"):
        plan(template(), calendar="360_day")
    assert plan(template(availability={"allow_future": True}), calendar="360_day", end="2026-06").delta_end == "2026-06"


def test_releases() -> None:
    newer = template(kind="release")
    assert said(plan(newer)) == ("rematerialize", "new_release_available", "completed")
    assert said(plan(newer, end="2026-05")) == ("no_op", "no_new_release", "up_to_date")
    named = template(kind="release", version={"value": "v2"})
    assert said(plan(named, release="v1")) == ("rematerialize", "release_version_changed", "completed")
    assert said(plan(named)) == ("rematerialize", "release_version_unknown", "completed")
    assert said(plan(named, release="v2")) == ("no_op", "no_new_release", "up_to_date")
    short = template(kind="release", version={"value": "v2"}, extents={"temporal": {"end": "2026-04"}})
    assert said(plan(short, release="v1")) == ("no_op", "release_version_unavailable", "waiting_for_source")


def test_planning_does_not_depend_on_who_plans() -> None:
    assert plan(template()) == plan(template())
    request, until = sync.request(held(template())[0], plan(template()), end=None, publish=None)
    assert (request.start, request.end, request.publish, request.overwrite, until) == ("2020-01", None, False, False, "2026-07")
    assert sync.request(held(template())[0], plan(template()), end="2026-06", publish=True)[1] is None


def test_a_source_with_nothing_new_after_all_is_up_to_date() -> None:
    ran = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst"), status="completed", reused=True)
    assert Synced(plan(template()), ran).status == "up_to_date"
    assert Synced(plan(template()), ran.model_copy(update={"reused": False})).status == "completed"
    assert Synced(plan(template(), end="2026-05")).status == "up_to_date"


@pytest.mark.parametrize(
    "rules",
    [
        {"kind": "static", "schedule": "0 0 * * *"},
        {"kind": "temporal", "version": {"value": "1"}},
        {"kind": "release", "execution": "rematerialize"},
        {"kind": "temporal", "schedule": "0 0 * *"},
        {"kind": "temporal", "schedule": "61 0 * * *"},
        {"kind": "temporal", "schedule": "@daily"},
        {"kind": "temporal", "schedule": "0 0 5-1 * *"},
        {"kind": "temporal", "schedule": "*/0 * * * *"},
        {"kind": "temporal", "availability": {"lag_days": 999_999_999}},
        {"kind": "temporal", "availability": {"lag_hours": 10**9}},
        {"kind": "temporal", "availability": {"latest_year_offset": -9_999}},
    ],
)
def test_rules_that_would_do_nothing_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        template(**rules)
    with pytest.raises(ValidationError):
        template("irregular")


UTC_ZONE, PARIS = ZoneInfo("UTC"), ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "at", "latest", "following"),
    [
        ("0 6 * * *", "2026-07-15T12:00", "2026-07-15T06:00", "2026-07-16T06:00"),
        ("0 6 * * *", "2026-07-15T06:00", "2026-07-15T06:00", "2026-07-16T06:00"),
        ("*/20 * * * *", "2026-07-15T12:19", "2026-07-15T12:00", "2026-07-15T12:20"),
        ("30 4 1 * *", "2026-07-15T12:00", "2026-07-01T04:30", "2026-08-01T04:30"),
        ("0 0 * * 1", "2026-07-15T12:00", "2026-07-13T00:00", "2026-07-20T00:00"),
        ("0 0 * * 7", "2026-07-15T12:00", "2026-07-12T00:00", "2026-07-19T00:00"),
        ("0 0 13 * 5", "2026-07-15T12:00", "2026-07-13T00:00", "2026-07-17T00:00"),
        ("0 0 29 2 *", "2026-07-15T12:00", "2024-02-29T00:00", "2028-02-29T00:00"),
        ("5,35 8-9 * * *", "2026-07-15T08:40", "2026-07-15T08:35", "2026-07-15T09:05"),
    ],
)
def test_cron(text: str, at: str, latest: str, following: str) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    cron = Cron.parse(text)
    assert cron.latest(moment, UTC_ZONE) == datetime.fromisoformat(latest).replace(tzinfo=UTC)
    assert cron.following(moment, UTC_ZONE) == datetime.fromisoformat(following).replace(tzinfo=UTC)


def test_cron_follows_the_clock_of_its_zone() -> None:
    cron = Cron.parse("30 2 * * *")
    assert cron.latest(datetime(2026, 7, 15, 12, tzinfo=UTC), PARIS) == datetime(2026, 7, 15, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        # On 29 March 2026 there is no half past two in Paris, and on 25 October there are two.
        ("30 2 * * 0", "2026-03-28T12:00", ["2026-03-29T01:30", "2026-04-05T00:30"]),
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("30 * * * *", "2026-03-29T00:10", ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"]),
        ("*/30 * * * *", "2026-10-25T00:10", ["2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"]),
    ],
)
def test_cron_follows_a_change_of_the_clock_as_crontab_does(text: str, at: str, expected: list[str]) -> None:
    """A week's only run was left out, and every ten minutes was once every 70."""
    cron, moment, found = Cron.parse(text), datetime.fromisoformat(at).replace(tzinfo=UTC), []
    for _ in expected:
        following = cron.following(moment, PARIS)
        assert following is not None
        moment = following
        found.append(f"{moment:%Y-%m-%dT%H:%M}")
        assert cron.latest(moment, PARIS) == cron.latest(moment + timedelta(minutes=1), PARIS) == moment
    assert found == expected


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 31 4,6 *", "0 0 30-31 2 *"])
def test_a_schedule_that_never_happens_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="never happens"):
        Cron.parse(text)
    assert Cron.parse("0 0 31 2 1").following(datetime(2026, 7, 15, tzinfo=UTC), UTC_ZONE) is not None


class Made:
    """Datasets of one template, as far as schedules look."""

    def __init__(self, created: datetime) -> None:
        self.record = CatalogRecord(kind=KIND, key="sst", created_at=created)

    def page(self, **_: Any) -> Any:
        return SimpleNamespace(items=[SimpleNamespace(texts=SimpleNamespace(dataset_id="sst"))], next=None)

    def get(self, _: str) -> Any:
        return SimpleNamespace(record=self.record)


def schedules(backend: MemoryBackend, created: datetime, schedule: str | None = "0 6 * * *") -> Schedules:
    configuration = SimpleNamespace(templates=lambda: {"sst": template(schedule=schedule)})
    return Schedules(backend, Made(created), configuration)  # type: ignore[arg-type]


def test_what_is_due_is_claimed_once_among_processes() -> None:
    backend = MemoryBackend()
    four = [schedules(backend, NOW - timedelta(days=10)) for _ in range(4)]
    assert [each.claim(NOW) for each in four] == [["sst"], [], [], []]
    assert four[0].claim(NOW + timedelta(hours=1)) == []
    missed = NOW + timedelta(days=5)
    assert [each.claim(missed) for each in four] == [["sst"], [], [], []], "what was missed runs once, not five times"
    assert four[1].last("sst") == datetime(2026, 7, 20, 6, tzinfo=UTC)
    for day in range(6, 40):
        four[0].claim(NOW + timedelta(days=day))
    assert backend.rows.count(FIRE) <= 11, "claims do not pile up"


def test_a_clock_that_was_wrong_stops_no_schedule() -> None:
    backend = MemoryBackend()
    several = [schedules(backend, NOW - timedelta(days=10)) for _ in range(2)]
    for ahead in (timedelta(hours=24), timedelta(days=4000)):
        assert several[0].claim(NOW + ahead) == ["sst"]
    assert [each.claim(NOW) for each in several] == [["sst"], []], "the clock was set right: what was due is due, once"
    assert several[1].last("sst") == datetime(2026, 7, 15, 6, tzinfo=UTC)
    assert several[0].claim(NOW + timedelta(days=1)) == ["sst"]
    for each in several:
        each.claim(NOW + timedelta(days=1) - timedelta(minutes=4))
    assert several[0].claim(NOW + timedelta(days=1, minutes=1)) == [], "clocks that differ by minutes do nothing twice"
    made_ahead = schedules(MemoryBackend(), NOW + timedelta(days=4000))
    assert [made_ahead.claim(NOW), made_ahead.claim(NOW)] == [["sst"], []], "made by a clock that was ahead"


def test_nothing_is_due_before_the_dataset_was_made_or_without_a_schedule() -> None:
    assert schedules(MemoryBackend(), NOW - timedelta(hours=1)).claim(NOW) == []
    assert schedules(MemoryBackend(), NOW - timedelta(days=9), None).claim(NOW) == []
    assert schedules(MemoryBackend(), now()).following("0 6 * * *", NOW) == datetime(2026, 7, 16, 6, tzinfo=UTC)


def test_existing_periods_that_the_source_changed_go_with_new_ones_or_alone() -> None:
    with_new = sync.plan(*held(template()), template(), end=None, now=NOW)
    assert with_new.action == "append"
    both = with_new.with_revised(("2026-04",))
    assert (both.action, both.reason, both.revised) == ("append", "new_periods_available_for_append", ("2026-04",))
    nothing_new = sync.plan(*held(template(), end="2026-07"), template(), end=None, now=NOW)
    assert nothing_new.with_revised(()) is nothing_new
    alone = nothing_new.with_revised(("2026-04",))
    assert (alone.action, alone.reason, alone.status) == ("revise", "source_changed", "completed")
    static = sync.plan(*held(None), None, end=None, now=NOW)
    assert static.with_revised(("2026-04",)) is static


@pytest.mark.parametrize("rules", [{"kind": "release"}, {"kind": "static"}, {"kind": "temporal", "execution": "rematerialize"}])
def test_only_what_is_appended_to_is_looked_back_at(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="revisit_periods needs kind temporal"):
        template(**{"revisit_periods": 3, **rules})


def test_a_rule_of_a_plugin_says_how_far_the_source_goes() -> None:
    asked: list[tuple[str, str]] = []

    def rule(template: dict[str, Any], end: str) -> str:
        asked.append((template["id"], end))
        return "2026-06"

    follows = template(availability={"function": "released", "lag_days": 1})
    dataset, head = held(follows)
    plan = sync.plan(dataset, head, follows, end=None, now=NOW, rules={"released": rule})
    assert asked == [("sst", "2026-07")]
    assert (plan.target_end, plan.target_end_source, plan.period_count) == ("2026-06", "plugin_availability", 1)
    later = sync.plan(dataset, head, follows, end=None, now=NOW, rules={"released": lambda *_: "2027-01"})
    assert (later.target_end, later.target_end_source) == ("2026-07", "default_today"), "the earliest rule wins"
    nothing = sync.plan(dataset, head, follows, end=None, now=NOW, rules={"released": lambda *_: "2026-05"})
    assert (nothing.reason, nothing.target_end_source) == ("no_new_period", "current_coverage")


@pytest.mark.parametrize("answer", ["soon", "", None, 202606, "2026-06-31", ValueError("no network")])
def test_a_rule_that_breaks_its_contract_is_named(answer: Any) -> None:
    def rule(*_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    follows = template(availability={"function": "released"})
    dataset, head = held(follows)
    with pytest.raises(Configuration, match="'released'"):
        sync.plan(dataset, head, follows, end=None, now=NOW, rules={"released": rule})
    with pytest.raises(Configuration, match="which no plugin provides"):
        sync.plan(dataset, head, follows, end=None, now=NOW)
