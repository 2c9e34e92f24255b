"""A large import: another process prepares the rows while this one inserts them. All is one commit, and nothing is left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import cubeport
from cubeport.adapters.backends.sql import prepared
from cubeport.adapters.backends.sql.batch import Batch
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.ndjson import Imported, Lines, batches
from cubeport.catalog.query import Query
from cubeport.catalog.testing.generated import sample
from cubeport.errors import InvalidRequest, KeyExists, SchemaInvalid

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one processor nothing is prepared ahead")


def large(n: int) -> CatalogRecord:
    """Return a record of about 330 kB, so that three are a batch."""
    return sample(n, key=f"k{n}", metadata={"n": n, "long": [f"{n} {'x' * 40_000}"] * 8})


def texts(records: list[CatalogRecord]) -> list[str]:
    return [f"{each.to_json()}\n" for each in records]


@contextlib.contextmanager
def preparing(lines: Iterable[Lines], known: dict[str, int] | None = None) -> Iterator[Iterator[Batch]]:
    """Prepare as a transaction does that has inserted nothing before."""
    numbers = itertools.count(1)
    with prepared.preparing(lines, lambda count: list(itertools.islice(numbers, count)), {} if known is None else known) as batches:
        yield batches


def helpers(pid: int | str = "self") -> list[int]:
    """Return the processes that prepare records for a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(each) for task in tasks for each in task.read_text().split()]
    return [each for each in found if b"sql.prepared" in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_documents_are_never_cut() -> None:
    records = [large(n) for n in range(14)]
    mixed = "\n".join(
        [records[0].to_json(indent=True), "", *(each.to_json() for each in records[1:13]), records[13].to_json(indent=True)]
    )
    found = list(batches(mixed))
    assert len(found) > 3
    assert "".join(text for each in found for text in each.texts) == mixed
    assert [each.first for each in found] == [1 + sum(len(one.texts) for one in found[:n]) for n in range(len(found))]
    with preparing(found) as made:
        assert [each.record() for batch in made for each in batch] == records


def test_rows_come_from_another_process_in_order_and_without_it_too() -> None:
    records = [large(n) for n in range(40)]
    lines = list(batches("".join(texts(records))))
    seen: list[CatalogRecord] = []
    with preparing(lines) as made:
        for number, batch in enumerate(made):
            seen += [each.record() for each in batch]
            if number == 4:
                (helper,) = helpers()
                os.kill(helper, signal.SIGKILL)
    assert seen == records
    assert not helpers()


def test_new_fields_in_any_batch_are_found(tmp_path: Path) -> None:
    """Those that come late are numbered by another process before anybody knows their numbers."""
    records = [large(n).replace(metadata={"long": ["x" * 100_000] * 3, f"f{n % 20}": n, f"g{n}": n}) for n in range(60)]
    with cubeport.Catalog.create(tmp_path) as catalog:
        catalog.import_records(texts(records))
        for n in (0, 13, 29, 44, 59):
            assert [each.id for each in catalog.search(f"g{n}={n}")] == [records[n].id]
            assert {each.id for each in catalog.search(f"f{n % 20}>=0")} == {each.id for each in records[n % 20 :: 20]}
        assert catalog.backend.check(deep=True) == []


def test_a_few_records_need_no_other_process() -> None:
    with preparing([Lines(1, texts([sample(1)])), Lines(2, texts([sample(2)]))]) as made:
        assert len(list(made)) == 2
        assert not helpers()


def test_a_large_import_is_one_commit_and_is_repeated_without_harm(tmp_path) -> None:
    records = [large(n) for n in range(30)]
    with cubeport.Catalog.create(tmp_path) as catalog:
        assert catalog.import_records(texts(records)) == Imported(30, 0)
        assert catalog.generation() == 1
        (done,) = catalog.operations()
        assert (done.operation_type, set(done.outputs)) == ("import", {each.id for each in records})
        stored = [each.to_json() for each in catalog.iterate(order=("key",), statuses=None)]
        assert stored == [each.to_json() for each in sorted(records, key=lambda each: str(each.key))]
        assert [each.id for each in catalog.search("n>27", order=("n",))] == [records[28].id, records[29].id]
        assert catalog.backend.check(deep=True) == []
        (event,) = catalog.logs(record=records[3].id, event="operation.succeeded")
        assert event["operation_id"] == done.operation_id
        extra = large(99)
        assert catalog.import_records(texts([*records, extra]), on_exists="skip") == Imported(1, 30)
        assert not helpers()


@pytest.mark.parametrize(
    ("odd", "error", "named"),
    [('{"kind": "UPPER"}\n', InvalidRequest, "Line 26"), (f"{sample(50, key='k3').to_json()}\n", KeyExists, "k3")],
)
def test_a_fault_in_a_late_batch_leaves_nothing(odd: str, error: type[Exception], named: str, tmp_path) -> None:
    lines = texts([large(n) for n in range(30)])
    with cubeport.Catalog.create(tmp_path) as catalog:
        with pytest.raises(error, match=named):
            catalog.import_records([*lines[:25], odd, *lines[25:]])
        assert catalog.count(statuses=None) == 0
        assert catalog.operations()[0].status == "rolled_back"
        assert not helpers()


def test_hooks_and_schemas_hold_for_each_record(tmp_path) -> None:
    lines = texts([large(n) for n in range(20)])
    with cubeport.Catalog.create(tmp_path) as catalog:
        catalog.schemas.register("small", {"properties": {"n": {"maximum": 17}}}, "1")
        odd = large(18).replace(schema_name="small", schema_version="1")
        with pytest.raises(SchemaInvalid, match=r"metadata\.n"):
            catalog.import_records([*lines[:15], *texts([odd])], schema_policy="strict")
        with pytest.raises(InvalidRequest, match="A policy is one of"):
            catalog.import_records(lines, schema_policy="loose")  # type: ignore[arg-type]
        shown: list[int] = []
        catalog.hooks.register("before_record_commit", lambda _, payload: shown.append(len(payload.records)), name="count")
        catalog.import_records(lines)
        assert shown == [20]
        assert catalog.count() == 20


IMPORT = """
import sys
import cubeport
with cubeport.Catalog.open(sys.argv[1]) as catalog:
    catalog.import_records(open(sys.argv[2], encoding="utf-8"))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_import_ends_its_helper_and_leaves_nothing(how: signal.Signals, tmp_path) -> None:
    file = tmp_path / "records.ndjson"
    file.write_text("".join(texts([large(n) for n in range(150)])))
    cubeport.Catalog.create(tmp_path / "instance").close()
    running = subprocess.Popen([sys.executable, "-c", IMPORT, tmp_path / "instance", file], stderr=subprocess.DEVNULL)
    while not (found := helpers(running.pid)):
        assert running.poll() is None, "it was over before anybody could stop it"
        time.sleep(0.01)
    running.send_signal(how)
    assert running.wait(30) != 0
    deadline = time.monotonic() + 30
    while Path(f"/proc/{found[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with cubeport.Catalog.open(tmp_path / "instance") as catalog:
        catalog.recover()
        assert catalog.backend.count(Query(statuses=None)) == 0
        assert catalog.operations()[0].status == "rolled_back"
        assert catalog.backend.check(deep=True) == []
