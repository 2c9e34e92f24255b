from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cubeport.catalog.events import EventLog
from cubeport.catalog.hooks import (
    ADVISORY,
    POINTS,
    CommitPayload,
    ErrorPayload,
    HookContext,
    HookManager,
    HookResult,
    PlanPayload,
    ValidatePayload,
    set_paths,
)
from cubeport.catalog.models import CatalogRecord, LocalPathLocator
from cubeport.errors import HookFailed, InvalidRequest, NamespaceTaken

CONTEXT = HookContext("c" * 32, "a" * 32, "add", user_id="ann")
RECORD = CatalogRecord(title="x", tags=("one",), metadata={"a": {"b": 1}})
DRAFT = ValidatePayload(RECORD)


@pytest.fixture
def events(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path)


@pytest.fixture
def hooks(events: EventLog) -> HookManager:
    return HookManager(events)


def adds(key: str, value: object = True) -> Any:
    return lambda context, payload: HookResult(metadata_updates={key: value})


def fails(context: HookContext, payload: Any) -> None:
    raise OSError("the disk is full of eels")


def test_there_are_the_twelve_points_of_the_spec() -> None:
    stages = ("record_validate", "metadata_extract", "path_plan", "artifact_write", "record_commit")
    assert set(POINTS) == {f"{side}_{s}" for s in stages for side in ("before", "after")} | {
        "on_operation_error",
        "on_operation_rollback",
    }
    assert len(POINTS) == 12


class TestRegister:
    def test_priority_then_registration_decide_the_order_whatever_the_run(self, hooks: HookManager) -> None:
        seen: list[str] = []
        wanted = [("late", 200), ("first", 1), ("b", 100), ("a", 100)]
        for name, priority in wanted:
            hooks.register("before_record_validate", lambda c, p, name=name: seen.append(name), name=name, priority=priority)
        for _ in range(100):
            hooks.run("before_record_validate", CONTEXT, DRAFT)
        assert seen == ["first", "b", "a", "late"] * 100

    def test_the_same_twice_is_nothing(self, hooks: HookManager) -> None:
        fn = adds("a")
        hooks.register("before_record_validate", fn, name="x")
        hooks.register("before_record_validate", fn, name="x")
        assert len(list(hooks)) == 1

    def test_a_second_owner_is_refused_and_both_are_named(self, hooks: HookManager) -> None:
        hooks.register("before_record_validate", adds("a"), name="x", plugin="mine")
        with pytest.raises(NamespaceTaken, match="mine and yours"):
            hooks.register("before_record_validate", adds("b"), name="x", plugin="yours")

    @pytest.mark.parametrize("point", ADVISORY)
    def test_required_is_refused_where_nothing_can_be_refused(self, hooks: HookManager, point: str) -> None:
        with pytest.raises(InvalidRequest, match="cannot be required"):
            hooks.register(point, adds("a"), name="x", required=True)
        hooks.register(point, adds("a"), name="x")
        assert not next(iter(hooks)).required

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"point": "before_record_validat"}, "before_record_validate"),
            ({"fn": lambda: None}, "too many positional"),
            ({"fn": lambda a, b, c: None}, "missing a required argument"),
            ({"name": "Not A Name"}, "begin with a letter"),
            ({"undo": lambda: None}, "too many positional"),
        ],
    )
    def test_what_cannot_work_is_refused_on_registering(self, hooks: HookManager, changed: dict[str, Any], words: str) -> None:
        call: dict[str, Any] = {"point": "before_record_validate", "fn": adds("a"), "name": "x"} | changed
        with pytest.raises(InvalidRequest, match=words):
            hooks.register(call.pop("point"), call.pop("fn"), **call)
        assert list(hooks) == []

    def test_a_coroutine_function_is_refused(self, hooks: HookManager) -> None:
        async def hook(context: HookContext, payload: Any) -> None: ...

        with pytest.raises(InvalidRequest, match="coroutine"):
            hooks.register("before_record_validate", hook, name="x")  # type: ignore[arg-type]


class TestRun:
    def test_results_are_gathered_and_the_later_hook_wins(self, hooks: HookManager) -> None:
        hooks.register("before_record_validate", adds("a.b", 2), name="x")
        hooks.register(
            "before_record_validate",
            lambda c, p: HookResult(metadata_updates={"a.b": 3, "new.deep": 1}, tags_add=("one", "two"), warnings=("careful",)),
            name="y",
        )
        outcome = hooks.run("before_record_validate", CONTEXT, DRAFT)
        assert outcome.warnings == ("careful",)
        applied = outcome.apply(RECORD)
        assert applied.metadata == {"a": {"b": 3}, "new": {"deep": 1}}
        assert applied.tags == ("one", "two")
        assert RECORD.metadata == {"a": {"b": 1}}

    def test_a_hook_sees_who_and_where(self, hooks: HookManager) -> None:
        seen: list[HookContext] = []
        hooks.register("before_record_validate", lambda c, p: seen.append(c), name="x")
        hooks.run("before_record_validate", CONTEXT, DRAFT)
        assert (seen[0].point, seen[0].operation_id, seen[0].user_id) == ("before_record_validate", "a" * 32, "ann")

    def test_a_required_failure_stops_and_names_the_hook(self, hooks: HookManager, events: EventLog) -> None:
        ran: list[int] = []
        hooks.register("before_record_validate", fails, name="eels")
        hooks.register("before_record_validate", lambda c, p: ran.append(1), name="behind")
        with pytest.raises(HookFailed, match="eels failed at before_record_validate: OSError") as caught:
            hooks.run("before_record_validate", CONTEXT, DRAFT)
        assert ran == []
        assert caught.value.operation_id == "a" * 32
        assert caught.value.next_step == f"cubeport logs --operation {'a' * 32}"
        (event,) = events.read(event="hook.failed").items
        assert (event["level"], event["hook"], event["exception_type"]) == ("error", "eels", "OSError")

    def test_an_optional_failure_is_a_warning_and_the_rest_runs(self, hooks: HookManager, events: EventLog) -> None:
        hooks.register("before_record_validate", fails, name="eels", required=False)
        hooks.register("before_record_validate", adds("there"), name="behind")
        outcome = hooks.run("before_record_validate", CONTEXT, DRAFT)
        assert outcome.warnings == ("hook eels failed: OSError: the disk is full of eels",)
        assert outcome.metadata_updates == {"there": True}
        assert [e["event"] for e in events.read().items] == [
            "hook.started", "hook.failed", "hook.started", "hook.succeeded",
        ]  # fmt: skip
        assert events.read(event="hook.succeeded").items[0]["extra"]["milliseconds"] >= 0

    @pytest.mark.parametrize(
        ("point", "payload", "result"),
        [
            ("before_record_validate", DRAFT, {"not": "a result"}),
            ("before_record_validate", DRAFT, HookResult(locator=LocalPathLocator(path="/x"))),
            ("after_record_commit", CommitPayload([RECORD]), HookResult(tags_add=("late",))),
            ("on_operation_error", ErrorPayload(ValueError()), HookResult(metadata_updates={"a": 1})),
        ],
    )
    def test_a_result_that_has_no_place_is_the_hooks_failure(
        self, hooks: HookManager, point: str, payload: Any, result: Any
    ) -> None:
        hooks.register(point, lambda c, p: result, name="x", required=False)
        outcome = hooks.run(point, CONTEXT, payload)
        assert len(outcome.warnings) == 1
        assert (outcome.metadata_updates, outcome.tags_add, outcome.locator) == ({}, (), None)

    def test_a_locator_is_taken_before_the_path_is_planned(self, hooks: HookManager) -> None:
        locator = LocalPathLocator(path="a/b", profile="default")
        hooks.register("before_path_plan", lambda c, p: HookResult(locator=locator), name="x")
        assert hooks.run("before_path_plan", CONTEXT, PlanPayload({})).locator == locator

    def test_interruption_is_not_a_failure_of_the_hook(self, hooks: HookManager) -> None:
        def interrupted(context: HookContext, payload: Any) -> None:
            raise KeyboardInterrupt

        hooks.register("before_record_validate", interrupted, name="x", required=False)
        with pytest.raises(KeyboardInterrupt):
            hooks.run("before_record_validate", CONTEXT, DRAFT)


class TestUndo:
    def test_data_is_journalled_under_the_hooks_name_and_undone_from_it(self, hooks: HookManager) -> None:
        outside: set[int] = set()
        journal: list[tuple[str, Mapping[str, Any]]] = []

        def hook(context: HookContext, payload: Any) -> None:
            context.journal_undo({"made": 7})
            outside.add(7)

        hooks.register("before_record_commit", hook, name="maker", undo=lambda data: outside.discard(data["made"]))
        context = HookContext("c" * 32, "a" * 32, "add", journal=lambda name, data: journal.append((name, data)))
        hooks.run("before_record_commit", context, CommitPayload([RECORD]))
        assert (outside, journal) == ({7}, [("maker", {"made": 7})])
        assert hooks.undo(*journal[0])
        assert outside == set()
        assert not hooks.undo("gone", {})

    def test_a_dry_run_lets_nothing_act_outside(self, hooks: HookManager) -> None:
        hooks.register("before_record_commit", lambda c, p: c.journal_undo({}), name="maker")
        context = HookContext("c" * 32, "a" * 32, "add", dry_run=True, journal=lambda name, data: None)
        with pytest.raises(HookFailed, match="check context"):
            hooks.run("before_record_commit", context, CommitPayload([RECORD]))


def test_set_paths_never_writes_through_a_value() -> None:
    with pytest.raises(InvalidRequest, match="a holds a value"):
        set_paths({"a": 1}, {"a.b": 2})
    order = list(range(20))
    random.shuffle(order)
    assert set_paths({}, {f"k.{i}": i for i in order}) == {"k": {str(i): i for i in range(20)}}
