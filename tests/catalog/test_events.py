from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cubeport.catalog.events import FIELDS, MAX_LINE, EventLog, LoggingBridge, compose
from cubeport.catalog.forms.canonical import now, timestamp
from cubeport.catalog.forms.redaction import remember
from cubeport.errors import InvalidRange, InvalidRequest

SECRET = "hunter2-9f1c"


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "logs", {"catalog_path": "/somewhere", "user_id": "ann"})


def the_file(log: EventLog) -> Path:
    (path,) = log.folder.iterdir()
    return path


class TestEmit:
    def test_an_event_has_every_member_and_the_rest_goes_into_extra(self, log: EventLog) -> None:
        log.emit("operation.failed", "It failed.", level="error", operation_id="ab" * 16, milliseconds=3)
        (found,) = log.read().items
        assert set(found) == set(FIELDS)
        assert found["extra"] == {"milliseconds": 3}
        assert (found["event"], found["level"], found["user_id"], found["catalog_path"]) == (
            "operation.failed", "error", "ann", "/somewhere",
        )  # fmt: skip
        assert len(found["session_id"]) == 32

    def test_the_file_is_of_this_month_and_nobody_elses_business(self, log: EventLog) -> None:
        log.emit("step.started", "x")
        assert the_file(log).name == f"events-{now():%Y%m}.jsonl"
        assert the_file(log).stat().st_mode & 0o007 == 0

    def test_an_exception_leaves_type_message_and_traceback(self, log: EventLog) -> None:
        try:
            raise FileNotFoundError("no such file: a.nc")
        except FileNotFoundError as exc:
            log.emit("operation.failed", "x", exception=exc)
        (found,) = log.read().items
        assert (found["exception_type"], found["exception_message"]) == ("FileNotFoundError", "no such file: a.nc")
        assert "test_events.py" in found["traceback"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"password": SECRET},
            {"options": {"deep": [{"aws_secret_access_key": SECRET}]}},
            {"url": f"https://me:{SECRET}@example.org/x"},
            {"url": f"see https://example.org/x?sig={SECRET} there"},
            {"url": f"https://example.org/data;token={SECRET};v=1/x.nc"},
            {"exception": ValueError(f"cannot open s3://u:{SECRET}@bucket/x")},
            {"plain": f"the value {SECRET} itself"},
        ],
    )
    def test_no_secret_reaches_the_file(self, tmp_path: Path, fields: dict[str, object]) -> None:
        remember({"client_kwargs": {"secret": SECRET}})
        log = EventLog(tmp_path)
        log.emit("operation.started", "x", **fields)  # type: ignore[arg-type]
        assert SECRET not in the_file(log).read_text()
        assert len(log.read().items) == 1

    @example({"extra": "0", "a": ""}, 0)
    @given(
        st.dictionaries(st.text(min_size=1, max_size=300), st.text() | st.binary() | st.floats(), max_size=20),
        st.integers(0, 60_000),
    )
    def test_a_line_is_json_and_never_longer_than_its_limit(self, fields: dict[str, object], length: int) -> None:
        line = compose({"event": "x", "message": "\N{SNOWMAN}" * length} | fields)
        assert len(line.encode()) < MAX_LINE
        assert "\n" not in line
        assert json.loads(line)["event"] == fields.get("event", "x")

    def test_a_log_that_cannot_be_written_fails_nothing_and_says_so_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "logs").write_text("a file is in the way")
        log = EventLog(tmp_path / "logs")
        log.emit("a", "x")
        log.emit("b", "x")
        assert capsys.readouterr().err.count("cannot be written") == 1
        assert log.failure is not None

    def test_sinks_get_the_redacted_event(self, tmp_path: Path) -> None:
        class Kept(list[dict[str, object]]):
            def write(self, event: object) -> None:
                self.append(event)  # type: ignore[arg-type]

        sink = Kept()
        EventLog(tmp_path, sinks=[sink]).emit("a", "x", token=SECRET)
        assert sink[0]["extra"] == {"token": "***"}

    def test_the_bridge_takes_what_a_library_warns(self, log: EventLog) -> None:
        logger = logging.getLogger("somebody.else")
        bridge = LoggingBridge(log)
        logger.addHandler(bridge)
        try:
            logger.warning("the %s is old", "file")
            logger.info("not this")
        finally:
            logger.removeHandler(bridge)
        assert [(e["event"], e["message"], e["level"]) for e in log.read().items] == [
            ("log.somebody.else", "the file is old", "warning")
        ]


def write(log: EventLog, at: datetime, **fields: object) -> None:
    log.folder.mkdir(exist_ok=True)
    line = json.loads(compose({"event": "e", "message": "m"} | fields)) | {"timestamp": timestamp(at)}
    with (log.folder / f"events-{at:%Y%m}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


class TestRead:
    def test_each_filter_keeps_what_fits_and_they_are_anded(self, log: EventLog) -> None:
        log.emit("operation.failed", "1", level="error", user_id="bob", operation_id="aa" * 16, record_id="12" * 16)
        log.emit("operation.succeeded", "2", artifact_id="00000001", plugin="p", hook="h")
        log.emit("step.started", "3", level="debug", user_id="bob")

        def found(**filters: object) -> list[str]:
            return [e["message"] for e in log.read(**filters).items]  # type: ignore[arg-type]

        assert found() == ["1", "2", "3"]
        assert found(user="bob") == ["1", "3"]
        assert found(user="bob", level="error") == ["1"]
        assert found(level="info") == ["1", "2"]
        assert found(event="operation") == ["1", "2"]
        assert found(event="operation.failed") == ["1"]
        assert found(event="op") == []
        assert found(operation="aaaa") == found(record="1212") == ["1"]
        assert found(artifact="00000001") == found(plugin="p") == found(hook="h") == ["2"]
        assert found(limit=2) == ["2", "3"]

    def test_the_newest_come_last_over_months_and_only_asked_months_are_read(self, log: EventLog) -> None:
        for month in (8, 9, 10):
            for day in (1, 2):
                write(log, datetime(2026, month, day, 12, tzinfo=UTC), message=f"{month}-{day}")
        (log.folder / "events-202608.jsonl").chmod(0o600)
        broken = log.folder / "events-202607.jsonl"
        broken.mkdir()  # opening it would raise
        assert [e["message"] for e in log.read(limit=3).items] == ["9-2", "10-1", "10-2"]
        assert [e["message"] for e in log.read(since="2026-08-02", until="2026-09-01").items] == ["8-2", "9-1"]
        assert [e["message"] for e in log.read(since="2026-10-02T12:00:00Z", until="2026-12-01").items] == ["10-2"]

    def test_an_age_counts_back_from_now(self, log: EventLog) -> None:
        write(log, now() - timedelta(days=3), message="old")
        write(log, now() - timedelta(minutes=5), message="new")
        assert [e["message"] for e in log.read(since="2h").items] == ["new"]
        assert [e["message"] for e in log.read(since="7d").items] == ["old", "new"]

    def test_bad_lines_are_skipped_and_counted(self, log: EventLog) -> None:
        log.emit("a", "x")
        with the_file(log).open("ab") as file:
            file.write(b'{"torn\n[1]\n\xff\xfe\n')
        log.emit("b", "y")
        page = log.read()
        assert ([e["event"] for e in page.items], page.skipped) == (["a", "b"], 3)

    def test_nonsense_is_refused(self, log: EventLog) -> None:
        with pytest.raises(InvalidRequest, match="neither a date"):
            log.read(since="yesterday")
        with pytest.raises(InvalidRequest, match="not a level"):
            log.read(level="loud")  # type: ignore[arg-type]
        with pytest.raises(InvalidRange):
            log.read(since="2026-05-01", until="2026-04-01")

    def test_without_a_log_there_are_no_events(self, log: EventLog) -> None:
        assert log.read().items == []
