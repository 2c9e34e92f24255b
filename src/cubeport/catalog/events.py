"""The event log, with one line of JSON for each event: ``logs/events-YYYYMM.jsonl``.

A line is one ``O_APPEND`` write, so processes do not mix their lines. Lines are not synced, because the log only informs, while the
journal decides. The log contains no metadata, no payloads and no secrets; see :mod:`cubeport.catalog.forms.redaction`.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import re
import socket
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, get_args

from cubeport.catalog.disk.durable import make_folders, open_file
from cubeport.catalog.forms.canonical import dumps, json_value, new_id, now, timestamp
from cubeport.catalog.forms.redaction import redact
from cubeport.errors import InvalidRange, InvalidRequest
from cubeport.leap import without_leap

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[str, ...] = get_args(Level)

FIELDS = (
    "timestamp", "level", "event", "message", "operation_id", "record_id", "artifact_id", "user_id", "session_id", "catalog_path",
    "backend", "plugin", "hook", "command", "cwd", "hostname", "pid", "process_name", "python_version", "cubeport_version",
    "exception_type", "exception_message", "traceback", "extra",
)  # fmt: skip
"""The members of all events; unknown values are null. Other fields are in ``extra``."""

MAX_LINE = 32 * 1024
"""The largest size of a line with its newline. Long texts are truncated to fit."""


@functools.cache
def session_id() -> str:
    """Return this process's random id."""
    return new_id()


class Sink(Protocol):
    """Another destination of events besides the file."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Receive one event, already redacted and truncated."""


@dataclass(frozen=True, slots=True, repr=False)
class EventPage:
    """Events, the newest last, and the number of unreadable lines."""

    items: list[dict[str, Any]]
    skipped: int = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<EventPage of {len(self.items)} events>"


class EventFields(TypedDict, total=False):
    """The arguments of :meth:`EventLog.read`."""

    user: str | None
    record: str | None
    artifact: str | None
    operation: str | None
    level: str | None
    event: str | None
    plugin: str | None
    hook: str | None
    since: str | datetime | None
    until: str | datetime | None
    limit: int | None


@dataclass(slots=True)
class EventLog:
    """The event log of one catalog."""

    folder: Path
    """The folder of the log. The first event creates it."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """The fields of all events: ``catalog_path``, ``backend``, ``user_id``, ``command``…"""
    sinks: Sequence[Sink] = ()
    failure: str | None = None
    """Why an event could not be written, for ``doctor``. It is printed to stderr once."""

    def emit(
        self, event: str, message: str, *, level: Level = "info", exception: BaseException | None = None, **fields: Any
    ) -> None:
        """Write one event. If the log cannot be written, the operation continues.

        Parameters
        ----------
        fields
            Members of :data:`FIELDS`; all others are added to ``extra``.
        """
        said = dict(self.context) | {"event": event, "message": message, "level": level} | fields
        if exception is not None:
            said |= {
                "exception_type": type(exception).__name__,
                "exception_message": str(exception),
                "traceback": "".join(traceback.format_exception(exception)),
            }
        written = compose(said)
        try:
            self._append(written)
        except OSError as exc:
            if self.failure is None:
                sys.stderr.write(f"warning: the event log {self.folder} cannot be written: {exc.strerror}\n")
            self.failure = f"{exc.strerror}: {exc.filename or self.folder}"
        for sink in self.sinks:
            sink.write(json.loads(written))

    def _append(self, line: str) -> None:
        make_folders(self.folder)
        path = self.folder / f"events-{now():%Y%m}.jsonl"
        descriptor = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)

    def read(
        self,
        *,
        user: str | None = None,
        record: str | None = None,
        artifact: str | None = None,
        operation: str | None = None,
        level: str | None = None,
        event: str | None = None,
        plugin: str | None = None,
        hook: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        limit: int | None = 100,
    ) -> EventPage:
        """Return the last *limit* events that match all filters. Only the files of the requested months are opened.

        Parameters
        ----------
        operation, record
            An id, or its first characters. The events of a record are all events of the operations on it.
        level
            The lowest level.
        event
            A name (``operation.failed``), or a part before a dot (``operation``).
        since, until
            A date (for *until*, its whole day), a timestamp, or an age (``7d``, ``2h``, ``30m``). Both ends are included.
        """
        if limit is not None and limit < 0:
            raise InvalidRequest("limit must be at least 0")
        first, last = instant_of(since, ends=False), instant_of(until, ends=True)
        operations = self._operations_on(record, first, last) if record is not None else set[str]()
        if first is not None and last is not None and last < first:
            raise InvalidRange(f"Since {since} is after until {until}.")
        lowest = _level(level)
        equal = {"user_id": user, "artifact_id": artifact, "plugin": plugin, "hook": hook}
        begins = {"operation_id": operation}

        def fits(found: Mapping[str, Any]) -> bool:
            at, name = found.get("timestamp") or "", found.get("event") or ""
            return (
                (first is None or at >= timestamp(first))
                and (last is None or at <= timestamp(last))
                and _level(found.get("level", "error")) >= lowest
                and (event is None or name == event or name.startswith(f"{event}."))
                and all(value is None or found.get(key) == value for key, value in equal.items())
                and all(value is None or str(found.get(key) or "").startswith(value) for key, value in begins.items())
                and (record is None or found.get("operation_id") in operations or _names(found, record))
            )

        months: list[list[dict[str, Any]]] = []
        wanted, skipped = limit, 0
        for path in self._months(first, last):
            kept: deque[dict[str, Any]] = deque(maxlen=wanted)
            for found in _lines(path):
                if found is None:
                    skipped += 1
                elif fits(found):
                    kept.append(found)
            months.append(list(kept))
            if wanted is not None:
                wanted -= len(kept)
                if wanted <= 0:
                    break
        return EventPage([found for month in reversed(months) for found in month], skipped)

    def _operations_on(self, record: str, first: datetime | None, last: datetime | None) -> set[str]:
        """Return the operations of all events that name the record. Events of hooks and steps name only the operation."""
        found = (line for path in self._months(first, last) for line in _lines(path) if line is not None)
        return {str(each["operation_id"]) for each in found if each.get("operation_id") and _names(each, record)}

    def _months(self, first: datetime | None, last: datetime | None) -> list[Path]:
        """Return the files that can contain events of the time span, newest first."""
        low = f"events-{first:%Y%m}.jsonl" if first else ""
        high = f"events-{last:%Y%m}.jsonl" if last else "f"
        return sorted((p for p in self.folder.glob("events-*.jsonl") if low <= p.name <= high), reverse=True)


def _names(event: Mapping[str, Any], record: str) -> bool:
    """Return whether an event names the record, by its id or the first characters."""
    more = (event.get("extra") or {}).get("record_ids") or ()
    return any(str(each).startswith(record) for each in (event.get("record_id"), *more) if each)


def compose(fields: Mapping[str, Any]) -> str:
    """Return the line of one event: all members, redacted, and truncated to :data:`MAX_LINE`."""
    whole: dict[str, Any] = dict.fromkeys(FIELDS) | _process() | {"timestamp": timestamp(now())}
    extra: dict[str, Any] = {}
    for key, value in fields.items():
        (whole if key in FIELDS else extra)[key] = _sayable(value)
    if extra:
        own = whole["extra"]  # a caller's, which may be of any kind
        whole["extra"] = extra | (dict(own) if isinstance(own, Mapping) else {} if own is None else {"extra": own})
    whole = redact(whole)
    for longest in (MAX_LINE, 8_000, 2_000, 500, 100):
        line = dumps(_cut(whole, longest))
        if len(line.encode()) < MAX_LINE:
            return line
    return dumps(_cut(whole | {"extra": {"cut": True}}, 100))


@functools.cache
def _of_machine() -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "hostname": socket.gethostname(),
        "process_name": Path(sys.argv[0]).name if sys.argv else None,
        "python_version": platform.python_version(),
        "cubeport_version": version("cubeport"),
        "session_id": session_id(),
    }


def _process() -> dict[str, Any]:
    try:
        cwd = str(Path.cwd())
    except FileNotFoundError:  # the working folder was removed
        cwd = None
    return _of_machine() | {"pid": os.getpid(), "cwd": cwd}


def _sayable(value: object) -> Any:
    try:
        return json_value(value)
    except InvalidRequest:
        return f"<{type(value).__name__}>"


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[: longest - 1] + "…"
    if isinstance(value, dict):
        return {key: _cut(inner, longest) for key, inner in value.items()}
    return [_cut(inner, longest) for inner in value] if isinstance(value, list) else value


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    with path.open("rb") as file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                yield None
            else:
                yield found if isinstance(found, dict) else None


def _level(level: str | None) -> int:
    if level is None:
        return 0
    if level not in LEVELS:
        raise InvalidRequest(f"{level!r} is not a level; there are {', '.join(LEVELS)}.")
    return LEVELS.index(level)


_AGE = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def instant_of(value: str | datetime | None, *, ends: bool) -> datetime | None:
    """Return the instant of a date (with *ends*, its last instant), a timestamp, or an age (``7d``, ``2h``) before now."""
    if value is None or isinstance(value, datetime):
        return value
    if age := _AGE.fullmatch(value):
        return now() - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        if len(value) == len("2026-04-01"):
            return datetime.combine(date.fromisoformat(value), time.max if ends else time.min, UTC)
        instant = datetime.fromisoformat(without_leap(value))
    except ValueError:
        raise InvalidRequest(
            f"{value!r} is neither a date (2026-04-01), a timestamp nor an age (7d, 2h).", next_step="cubeport logs --since 7d"
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


class LoggingBridge(logging.Handler):
    """Writes the log messages of libraries to the event log: ``logging.getLogger().addHandler(LoggingBridge(events))``."""

    def __init__(self, events: EventLog, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write the log record as an event ``log.<logger>``."""
        level: Level = "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        exception = record.exc_info[1] if record.exc_info else None
        self.events.emit(f"log.{record.name}", record.getMessage(), level=level, exception=exception)
