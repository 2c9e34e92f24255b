"""Hooks: functions of plugins that run at twelve points of an operation, in a defined order, and return values.

A hook does not change its arguments. It returns a :class:`HookResult`, which the core applies and logs. If a required hook fails,
the operation ends; if an optional hook fails, there is a warning. Changes that a hook makes outside the catalog are undone by its
own ``undo``, with data that it first records in the journal. Recovery therefore needs nothing from the process that died.
"""

from __future__ import annotations

import inspect
import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from cubeport.catalog.events import EventLog
from cubeport.catalog.forms.canonical import JsonObject, Tag, check_name
from cubeport.catalog.models import Artifact, CatalogRecord, Locator, Model
from cubeport.errors import HookFailed, InvalidRequest, NamespaceTaken

Stage = Literal["record_validate", "metadata_extract", "path_plan", "artifact_write", "record_commit"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""The stages of an operation, in order. Hooks run before and after each."""

POINTS = (
    *(f"{side}_{stage}" for stage in STAGES for side in ("before", "after")),
    "on_operation_error",
    "on_operation_rollback",
)
"""The twelve points. At the points in :data:`ADVISORY`, it is too late to refuse."""

ADVISORY = ("after_record_commit", "on_operation_error", "on_operation_rollback")


@dataclass(frozen=True, slots=True)
class ValidatePayload:
    """``before_record_validate`` (a draft) and ``after_record_validate`` (with the ValidationResult)."""

    record: CatalogRecord
    validation: Any = None


@dataclass(frozen=True, slots=True)
class ExtractPayload:
    """``before_metadata_extract`` (the source) and ``after_metadata_extract`` (with the blocks by extractor)."""

    source: Any
    blocks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanPayload:
    """``before_path_plan`` (template fields, planned locators) and ``after_path_plan`` (with the StoragePlan)."""

    fields: Mapping[str, Any]
    locators: Sequence[Any] = ()
    plan: Any = None


@dataclass(frozen=True, slots=True)
class WritePayload:
    """``before_artifact_write`` and ``after_artifact_write``: the plan, and the artifact as far as it is known."""

    plan: Any
    artifact: Artifact | None


@dataclass(frozen=True, slots=True)
class CommitPayload:
    """``before_record_commit`` and ``after_record_commit``: the records of this commit."""

    records: Sequence[CatalogRecord]


@dataclass(frozen=True, slots=True)
class ErrorPayload:
    """``on_operation_error``: the error."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class RollbackPayload:
    """``on_operation_rollback``: the error, and the compensations in the journal."""

    error: BaseException | None
    compensations: Sequence[Mapping[str, Any]] = ()


PAYLOADS: Mapping[str, type[Any]] = {
    "record_validate": ValidatePayload,
    "metadata_extract": ExtractPayload,
    "path_plan": PlanPayload,
    "artifact_write": WritePayload,
    "record_commit": CommitPayload,
    "operation_error": ErrorPayload,
    "operation_rollback": RollbackPayload,
}
"""The payload of each point, by the name of the point without its first word."""


@dataclass(frozen=True, slots=True)
class HookContext:
    """The context in which a hook runs."""

    catalog_id: str
    operation_id: str
    operation_type: str
    user_id: str | None = None
    session_id: str | None = None
    dry_run: bool = False
    point: str = ""
    step: str | None = None
    """The pipeline step before or after which the hook runs."""
    journal: Callable[[str, Mapping[str, Any]], None] | None = field(default=None, repr=False, compare=False)
    """``journal(hook name, data)`` records a synced ``hook_undo`` compensation; ``None`` if there is nothing to undo."""
    hook: str = ""

    def journal_undo(self, data: Mapping[str, Any]) -> None:
        """Record durably what the hook's ``undo(data)`` needs. Call it before you change anything outside the catalog."""
        if self.dry_run or self.journal is None:
            raise InvalidRequest(
                f"Hook {self.hook} changes something outside the catalog where nothing can be undone; check context.dry_run first."
            )
        self.journal(self.hook, data)


class HookResult(Model):
    """The changes that a hook requests."""

    label = "hook result"

    metadata_updates: JsonObject = Field(default_factory=dict)
    """Values by dotted path."""
    tags_add: tuple[Tag, ...] = ()
    warnings: tuple[str, ...] = ()
    locator: Locator | None = None
    """A new place for the artifact; only in ``before_path_plan``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The combined results of all hooks of one point. If two hooks set the same value, the later one wins."""

    metadata_updates: Mapping[str, Any] = field(default_factory=dict)
    tags_add: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    locator: Any = None

    def apply(self, record: CatalogRecord) -> CatalogRecord:
        """Return *record* with the updates and tags, or the same object if there are none."""
        if not self.metadata_updates and not self.tags_add:
            return record
        tags = tuple(dict.fromkeys((*record.tags, *self.tags_add)))
        return record.replace(metadata=set_paths(record.metadata, self.metadata_updates), tags=tags)


def set_paths(metadata: Mapping[str, Any], updates: Mapping[Any, Any]) -> dict[str, Any]:
    """Return *metadata* with all paths set. A path is dotted text or a sequence of keys; missing objects are created.

    Raises
    ------
    InvalidRequest
        If a path leads through a value that is not an object.
    """
    result = dict(metadata)
    for path, value in updates.items():
        *parents, last = path.split(".") if isinstance(path, str) else path
        here = result
        for name in parents:
            inner = here.get(name, {})
            if not isinstance(inner, Mapping):
                where = ".".join((*parents, last))
                raise InvalidRequest(f"metadata.{where} cannot be set: {name} holds a value, not an object.")
            here[name] = dict(inner)
            here = here[name]
        here[last] = value
    return result


@dataclass(frozen=True, slots=True)
class Hook:
    """One registration."""

    point: str
    name: str
    fn: Callable[[HookContext, Any], HookResult | None]
    required: bool
    priority: int
    undo: Callable[[Mapping[str, Any]], None] | None
    plugin: str | None


class HookManager:
    """The registered hooks of one catalog."""

    def __init__(self, events: EventLog | None = None) -> None:
        self.events = events
        self._hooks: dict[str, list[Hook]] = {point: [] for point in POINTS}

    def __iter__(self) -> Any:
        """Yield all hooks by point, in the order in which they run."""
        return (hook for hooks in self._hooks.values() for hook in hooks)

    def any_at(self, *points: str) -> bool:
        """Return whether any hook is registered at one of the points."""
        return any(self._hooks[point] for point in points)

    def register(
        self,
        point: str,
        fn: Callable[[HookContext, Any], HookResult | None],
        *,
        name: str,
        required: bool | None = None,
        priority: int = 100,
        undo: Callable[[Mapping[str, Any]], None] | None = None,
        plugin: str | None = None,
    ) -> None:
        """Register ``fn(context, payload)``. Lower priorities run first, equal ones in order of registration. Repeating it does
        nothing.

        Parameters
        ----------
        required
            Whether a failure ends the operation. The default is true at all points except :data:`ADVISORY`.

        Raises
        ------
        InvalidRequest
            If the point is unknown, the signature does not fit, or *required* is true at an advisory point.
        NamespaceTaken
            If another hook has this name at this point, or the name has another ``undo``.
        """
        if point not in POINTS:
            near = get_close_matches(point, POINTS, 1)
            raise InvalidRequest(f"{point!r} is not a hook point" + (f"; do you mean {near[0]}?" if near else "."))
        _check(name, fn, 2)
        if undo is not None:
            _check(name, undo, 1)
        if required and point in ADVISORY:
            raise InvalidRequest(f"Hook {name} cannot be required at {point}: it is too late to refuse anything there.")
        hook = Hook(point, name, fn, point not in ADVISORY if required is None else required, priority, undo, plugin)
        for other in self:
            if other == hook:
                return
            if other.name == name and (other.point == point or other.undo != undo):
                owners = " and ".join(str(owner or "the caller") for owner in (other.plugin, plugin))
                raise NamespaceTaken(f"Hook {name} is already registered at {other.point}, by {owners}.")
        insort(self._hooks[point], hook, key=lambda each: each.priority)

    def run(self, point: str, context: HookContext, payload: Any) -> Outcome:
        """Run the hooks of a point in order and return their combined result.

        Raises
        ------
        HookFailed
            If a required hook fails. The following hooks do not run.
        """
        assert isinstance(payload, PAYLOADS[point.split("_", 1)[1]]), point
        updates: dict[str, Any] = {}
        tags: list[str] = []
        warnings: list[str] = []
        locator = None
        for hook in self._hooks[point]:
            begun = time.perf_counter()
            self._say(hook, context, "started", level="debug")
            try:
                shown = _copied(payload)
                result = _checked(hook, hook.fn(replace(context, point=point, hook=hook.name), shown))
            except Exception as exc:  # code of others: any exception is its failure and is reported
                self._say(hook, context, "failed", level="error" if hook.required else "warning", begun=begun, exception=exc)
                if hook.required:
                    raise _failed(hook, context, exc) from exc
                warnings.append(f"hook {hook.name} failed: {type(exc).__name__}: {exc}")
                continue
            self._say(hook, context, "succeeded", begun=begun, changes=sorted(result.metadata_updates))
            updates |= result.metadata_updates
            tags += result.tags_add
            warnings += result.warnings
            locator = result.locator or locator
        return Outcome(updates, tuple(dict.fromkeys(tags)), tuple(warnings), locator)

    def undo(self, name: str, data: Mapping[str, Any]) -> bool:
        """Call the hook's ``undo(data)``. Return False if no such hook with an ``undo`` is registered, so that it remains to be
        done.
        """
        for hook in self:
            if hook.name == name and hook.undo is not None:
                hook.undo(data)
                return True
        return False

    def _say(
        self,
        hook: Hook,
        context: HookContext,
        what: str,
        *,
        level: Any = "info",
        begun: float | None = None,
        exception: BaseException | None = None,
        **extra: Any,
    ) -> None:
        if self.events is None:
            return
        if begun is not None:
            extra["milliseconds"] = round((time.perf_counter() - begun) * 1000, 3)
        self.events.emit(
            f"hook.{what}",
            f"Hook {hook.name} at {hook.point} {what}.",
            level=level,
            exception=exception,
            operation_id=context.operation_id,
            user_id=context.user_id,
            hook=hook.name,
            plugin=hook.plugin,
            point=hook.point,
            step=context.step,
            **extra,
        )


def _check(name: str, fn: Callable[..., Any], arguments: int) -> None:
    try:
        check_name(name)
        inspect.signature(fn).bind(*[None] * arguments)
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(f"Hook {name!r} cannot be registered: {exc}") from None
    if inspect.iscoroutinefunction(fn):
        raise InvalidRequest(f"Hook {name} is a coroutine function; hooks are plain functions.")


def _copied(payload: Any) -> Any:
    """Return the payload with copies of mutable values, because hooks must return changes instead of making them in place."""
    return replace(payload, **{each.name: _copy(getattr(payload, each.name)) for each in fields(payload)})


def _copy(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_copy(deep=True)
        case Mapping():
            return {key: _copy(inner) for key, inner in value.items()}
        case list() | tuple():
            return type(value)(map(_copy, value))
    return value


def _checked(hook: Hook, result: HookResult | None) -> HookResult:
    if result is None:
        return HookResult()
    if not isinstance(result, HookResult):
        raise TypeError(f"returned a {type(result).__name__}, not a HookResult or None")
    if result.locator is not None and hook.point != "before_path_plan":
        raise ValueError("a locator can be given at before_path_plan only")
    if hook.point in ADVISORY and (result.metadata_updates or result.tags_add):
        raise ValueError("after the commit and on errors, a hook can only warn")
    return result


def _failed(hook: Hook, context: HookContext, exc: Exception) -> HookFailed:
    return HookFailed(
        f"The required hook {hook.name} failed at {hook.point}: {type(exc).__name__}: {exc}",
        next_step=f"cubeport logs --operation {context.operation_id}",
        operation_id=context.operation_id,
        hook=hook.name,
        point=hook.point,
    )
