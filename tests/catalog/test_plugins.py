from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cubeport.catalog.events import EventLog
from cubeport.catalog.hooks import POINTS, HookManager
from cubeport.catalog.plugins import GROUP, KINDS, RESERVED, PluginRegistry, Plugins, discover, join_hooks


@pytest.fixture
def installed() -> Iterator[Callable[..., EntryPoint]]:
    """``installed(name, register)`` is an entry point whose module has that ``register``."""
    made: list[str] = []

    def install(name: str, register: Callable[[PluginRegistry], Any]) -> EntryPoint:
        module = ModuleType(f"fake_plugin_{name}")
        module.register = register  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        return EntryPoint(name, f"{module.__name__}:register", GROUP)

    yield install
    for name in made:
        sys.modules.pop(name, None)


def nothing(*args: Any) -> None: ...


class Extractor:
    name = "bibtex"
    version = "1"


def everything(registry: PluginRegistry) -> None:
    registry.schema("paper", {"type": "object"}, "2")
    registry.extractor(Extractor())  # type: ignore[arg-type]
    registry.hook("before_record_commit", lambda context, payload: None, name="stamp", priority=5)
    registry.template_field("year_month_run", lambda fields: "x")
    registry.operation("calibrate")
    registry.relation("cites")
    registry.step("calibrate", object())
    registry.undo("unpublish", nothing)
    registry.writer("tar", object())
    registry.profile_type("ipfs", nothing)
    registry.cli("biblio", object())
    registry.formatter("bibtex", lambda records: "")
    registry.source("chirps", nothing)
    registry.recipe("smooth", nothing)
    registry.transform("log", nothing)
    registry.availability("after-release", nothing)


def test_a_plugin_gives_one_of_each_kind(installed: Callable[..., EntryPoint]) -> None:
    plugins = discover(entry_points=[installed("all", everything)])
    (plugin,) = plugins
    assert plugin.error is None
    assert {each.kind for each in plugin.registrations} == set(KINDS)
    assert plugin.to_mapping()["gives"]["schema"] == ["paper"]
    assert plugins.values("formatter").keys() == {"bibtex"}
    hooks = HookManager()
    join_hooks(plugins, hooks)
    assert [(h.point, h.name, h.priority, h.plugin) for h in hooks] == [("before_record_commit", "stamp", 5, "all")]


def test_the_same_twice_is_nothing(installed: Callable[..., EntryPoint]) -> None:
    def register(registry: PluginRegistry) -> None:
        for _ in range(2):
            registry.undo("unpublish", nothing)
            registry.relation("cites")

    point = installed("twice", register)
    (plugin,) = discover(entry_points=[point, point])
    assert [each.name for each in plugin.registrations] == ["unpublish", "cites"]


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda r: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda r: exit("bye"), "SystemExit: bye"),
        (lambda r: r.schema("x", {"type": "strin"}), "not a JSON Schema"),
        (lambda r: r.hook("before_lunch", nothing, name="x"), "not a hook point"),
        (lambda r: r.hook(POINTS[0], lambda: None, name="x"), "cannot be registered"),
        (lambda r: r.relation("Not A Name"), "not a name for a relation"),
        (lambda r: (r.step("x", 1), r.step("x", 2)), "twice, differently"),
        (lambda: None, "TypeError"),
    ],
)
def test_a_broken_plugin_is_one_line_an_event_and_no_harm(
    installed: Callable[..., EntryPoint], tmp_path: Path, register: Callable[..., Any], words: str
) -> None:
    def half(registry: PluginRegistry) -> None:
        registry.relation("half")
        register(registry)

    broken = installed("broken", half if words != "TypeError" else register)
    plugins = discover(entry_points=[broken, installed("good", lambda r: r.relation("cites"))])
    (line,) = plugins.lines()
    assert line.startswith("plugin broken is not used: ")
    assert words in line
    assert "\n" not in line
    assert plugins.values("relation").keys() == {"cites"}
    log = EventLog(tmp_path)
    plugins.tell(log)
    (event,) = log.read(plugin="broken").items
    assert (event["event"], event["level"]) == ("plugin.failed", "error")


def test_a_module_that_is_not_there_is_a_broken_plugin() -> None:
    (plugin,) = discover(entry_points=[EntryPoint("gone", "no_such_module_at_all:register", GROUP)])
    assert plugin.error is not None
    assert plugin.error.startswith("ModuleNotFoundError")


def test_a_second_owner_of_a_name_is_refused_whole_and_both_are_named(installed: Callable[..., EntryPoint]) -> None:
    def late(registry: PluginRegistry) -> None:
        registry.relation("mentions")
        registry.relation("cites")

    plugins = discover(entry_points=[installed("b", late), installed("a", lambda r: r.relation("cites"))])
    assert [(p.name, p.error) for p in plugins] == [
        ("a", None),
        ("b", "the relation cites already belongs to a, so b cannot provide it"),
    ]
    assert plugins.values("relation").keys() == {"cites"}


def test_our_own_names_are_reserved(installed: Callable[..., EntryPoint]) -> None:
    (plugin,) = discover(entry_points=[installed("x", everything)], reserved={"extractor": ["bibtex"]})
    assert plugin.error == "the extractor bibtex already belongs to cubeport, so x cannot provide it"
    (plugin,) = discover(entry_points=[installed("y", lambda r: r.relation("derived_from"))])
    assert plugin.error == "the relation derived_from already belongs to cubeport, so y cannot provide it"


def test_the_names_that_are_reserved_are_those_that_are_ours() -> None:
    from cubeport.catalog import pipelines
    from cubeport.catalog.artifacts import paths as templates
    from cubeport.catalog.work import undo

    assert set(RESERVED["step"]) == set(pipelines.STEPS)
    assert set(RESERVED["template_field"]) == set(templates.FIELDS)
    assert set(RESERVED["undo"]) == {*undo._UNDOS, "hook_undo"}


def test_hooks_of_one_name_and_undo_may_stand_at_several_points(installed: Callable[..., EntryPoint]) -> None:
    def register(registry: PluginRegistry) -> None:
        for point in ("before_record_commit", "after_record_commit"):
            registry.hook(point, lambda context, payload: None, name="mirror", undo=nothing)

    plugins = discover(entry_points=[installed("x", register)])
    assert plugins.broken == []

    other = installed("y", lambda r: r.hook("before_path_plan", lambda c, p: None, name="mirror", undo=nothing))
    assert "mirror already belongs to x" in discover(entry_points=[installed("x", register), other]).lines()[0]


def test_a_disabled_plugin_is_shown_and_not_loaded(installed: Callable[..., EntryPoint]) -> None:
    def never(registry: PluginRegistry) -> None:
        raise AssertionError("was loaded")

    (plugin,) = discover(entry_points=[installed("x", never)], disabled=["x"])
    assert (plugin.disabled, plugin.error, plugin.registrations) == (True, None, ())


def test_without_plugins_there_is_nothing() -> None:
    assert Plugins().lines() == []
    assert Plugins().values("step") == {}
