"""The contract of a catalog backend as tests. They need pytest and hypothesis.

A third party inherits the class and defines how to open its store::

    class TestOurs(BackendContract):
        @pytest.fixture
        def open_backend(self, tmp_path):
            OurBackend.create(tmp_path / "catalog").close()
            return functools.partial(OurBackend, tmp_path / "catalog")
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubeport.catalog.audience import Audience
from cubeport.catalog.backend import CatalogBackend, Edge, Name, Placed, RecordChange, Row, RowSearch
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.models import (
    Artifact,
    CatalogRecord,
    ExternalURILocator,
    Lineage,
    LocalPathLocator,
    Operation,
    TimeSpan,
)
from cubeport.catalog.ndjson import Lines
from cubeport.catalog.query import Page, Query, matches, select
from cubeport.catalog.summaries import count_values, summarise
from cubeport.catalog.testing.generated import FIELDS, FIRST, QUERIES, every_locator, record_lists, sample, walk
from cubeport.catalog.testing.journal import JournalContract
from cubeport.catalog.testing.placed import placed_rows, random_row_search, row_fits, row_order
from cubeport.catalog.testing.storage import StorageContract
from cubeport.errors import Corrupt, InvalidCursor, InvalidRequest, KeyExists, RecordExists, StaleRecord, TargetExists

__all__ = ["BackendContract", "JournalContract", "StorageContract"]

type Open = Callable[[], CatalogBackend]

_EXAMPLES = settings(
    max_examples=24,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors],
)


class _Undo(Exception):
    """Leaves a transaction without a trace, so that many examples can use the same store."""


# --- what other processes do ----------------------------------------------------------------------------------------


def add_many(open_backend: Open, worker: int, adds: int) -> None:
    """Add records one by one. It runs in a separate process."""
    backend = open_backend()
    for i in range(adds):
        backend.add_record(sample(i, key=f"{worker}-{i}"))
    backend.close()


def _in_processes(target: Callable[..., None], *arguments: tuple[Any, ...]) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=target, args=each) for each in arguments]
    for child in children:
        child.start()
    return children


# --- the promises ---------------------------------------------------------------------------------------------------


class BackendContract:
    """The contract of every :class:`~cubeport.catalog.backend.CatalogBackend`."""

    durable = True
    """Whether ``open_backend`` opens a persistent store, also in other processes (it is then pickled)."""

    @pytest.fixture
    def open_backend(self) -> Open:
        """Return a function without arguments that opens the same store each time."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, open_backend: Open) -> Iterator[Open]:
        """Yield a function that opens the same store again. All are closed at the end."""
        with contextlib.ExitStack() as opened:
            yield lambda: opened.enter_context(contextlib.closing(open_backend()))

    @pytest.fixture
    def backend(self, reopen: Open) -> CatalogBackend:
        """Return the open store, which is empty at first."""
        return reopen()

    def store_file(self, tmp_path: Path) -> Path:
        """Return the file to damage. It must contain all committed bytes."""
        raise NotImplementedError

    # records

    def test_records_come_back_as_equal_values_and_equal_bytes(self, reopen: Open, backend: CatalogBackend) -> None:
        record = CatalogRecord(
            key="k",
            title="Überblick ✓",
            tags=("b", "a"),
            metadata={"z": [1, 1.0, -0.0, 1e300, 10**30, "é", True, None, {}, []], "a.b": {"c": "x"}},
            artifacts=tuple(
                Artifact(locator=each, origin=ExternalURILocator(uri="https://example.org/o"), hashes={"sha256": "0" * 64})
                for each in every_locator("r")
            ),
            lineage=(Lineage(rel="derived_from", target="urn:a", note="n"), Lineage(rel="uses", target=new_id())),
            time=TimeSpan(start=datetime(2020, 1, 1, tzinfo=UTC)),
            bbox=(170.5, -10, -170.25, 10),
        )
        stored = backend.add_record(record)
        assert stored == record
        for found in (backend.get_record(record.id), backend.get_by_key("k"), reopen().get_record(record.id)):
            assert found == record
            assert found is not None
            assert found.to_json() == record.to_json()
        assert [each.to_json() for each in backend.iterate()] == [record.to_json()]

    def test_many_records_at_once_are_as_one_by_one(self, backend: CatalogBackend) -> None:
        """``add_records``: all indexes find the records, with one generation. A conflict names the record and adds none."""
        many = [CatalogRecord(title=f"number {n}", key=f"k{n}", tags=(f"t{n % 3}",), metadata={"n": n}) for n in range(40)]
        before = backend.generation()
        with backend.transaction():
            backend.add_records(many)
        assert backend.generation() == before + 1
        assert list(backend.iterate()) == sorted(many, key=lambda each: each.id)
        assert backend.get_by_key("k7") == many[7]
        for query in (Query("n>=30"), Query(text="number 39"), Query("tags=t1"), Query(order=("-n",), limit=3)):
            assert [each.id for each in backend.search(query)] == [each.id for each in select(query, many)]
        fresh, taken = CatalogRecord(title="fresh"), CatalogRecord(key="k3")
        with pytest.raises(KeyExists, match="k3"), backend.transaction():
            backend.add_records([fresh, taken])
        with pytest.raises(RecordExists, match=many[0].id), backend.transaction():
            backend.add_records([fresh, many[0]])
        assert backend.get_record(fresh.id) is None

    def test_prepared_records_are_as_records(self, backend: CatalogBackend) -> None:
        """``preparing`` and ``add_prepared``: the same records, and the same errors."""
        many = [CatalogRecord(title=f"number {n}", key=f"k{n}", tags=(f"t{n % 3}",), metadata={"n": n}) for n in range(40)]
        lines = [f"{each.to_json()}\n" for each in many]
        before = backend.generation()
        with backend.transaction(), backend.preparing([Lines(1, lines[:25]), Lines(26, lines[25:])]) as batches:
            for batch, same in zip(batches, (many[:25], many[25:]), strict=True):
                assert [(each.id, each.kind, each.schema_name) for each in batch] == [(one.id, one.kind, None) for one in same]
                assert [each.record() for each in batch] == same
                backend.add_prepared(batch)
        assert backend.generation() == before + 1
        assert list(backend.iterate()) == sorted(many, key=lambda each: each.id)
        for query in (Query("n>=30"), Query(text="number 39"), Query("tags=t1"), Query(order=("-n",), limit=3)):
            assert [each.id for each in backend.search(query)] == [each.id for each in select(query, many)]
        fresh, taken = CatalogRecord(title="fresh"), CatalogRecord(key="k3")
        for odd, error, named in ((taken, KeyExists, "k3"), (many[0], RecordExists, many[0].id)):
            named_only_here = fresh.replace(metadata={"first": 1, f"of{named[:2]}": 1})
            texts = [f"{each.to_json()}\n" for each in (named_only_here, odd)]
            with pytest.raises(error, match=named), backend.transaction(), backend.preparing([Lines(1, texts)]) as batches:
                backend.add_prepared(next(batches))
            # A caller that goes on has all of a batch or nothing.
            later = CatalogRecord(title="later", tags=("t1",), metadata={"n": 70, "novel": 1, "first": 2})
            with backend.transaction(), backend.preparing([Lines(1, texts), Lines(3, [f"{later.to_json()}\n"])]) as batches:
                with pytest.raises(error, match=named):
                    backend.add_prepared(next(batches))
                backend.add_prepared(next(batches))
            assert backend.get_record(fresh.id) is None
            assert [each.id for each in backend.search(Query("novel=1"))] == [later.id]
            assert {each.id for each in backend.search(Query("n>=39"))} == {many[39].id, later.id}
            assert [each.id for each in backend.search(Query("first>0"))] == [later.id]
            assert backend.check(deep=True) == []
            backend.delete_record(later.id, later.version)
        with (
            pytest.raises(InvalidRequest, match="Line 8"),
            backend.transaction(),
            backend.preparing([Lines(7, [lines[0], '{"kind": "UPPER"}'])]) as batches,
        ):
            next(batches)
        assert backend.get_record(fresh.id) is None

    def test_none_only_for_what_is_not_there(self, backend: CatalogBackend) -> None:
        assert backend.get_record(new_id()) is None
        assert backend.get_by_key("nobody") is None
        assert backend.get_operation(new_id()) is None
        assert backend.generation() == 0
        assert list(backend.iterate()) == []
        assert tuple(backend.search(Query(count=True))) == ()

    def test_adding_never_overwrites(self, backend: CatalogBackend) -> None:
        record = backend.add_record(sample(1, key="k"))
        with pytest.raises(RecordExists):
            backend.add_record(record.replace(title="other"))
        assert backend.get_record(record.id) == record
        assert backend.generation() == 1

    def test_a_key_belongs_to_one_record_that_is_not_deleted(self, backend: CatalogBackend) -> None:
        first = backend.add_record(sample(1, key="k"))
        other = backend.add_record(sample(2))
        with pytest.raises(KeyExists):
            backend.add_record(sample(3, key="k"))
        with pytest.raises(KeyExists):
            backend.update_record(other.replace(key="k"))
        assert backend.get_record(other.id) == other
        tombstone = backend.update_record(first.replace(status="deleted", deleted_from="active"))
        assert backend.get_by_key("k") is None
        heir = backend.add_record(sample(4, key="k"))
        assert backend.get_by_key("k") == heir
        with pytest.raises(KeyExists):
            backend.update_record(tombstone.replace(status="active", deleted_from=None))
        assert backend.get_record(first.id) == tombstone

    def test_a_managed_path_belongs_to_one_artifact(self, backend: CatalogBackend) -> None:
        def at(path: str, profile: str | None = "default") -> Artifact:
            return Artifact(locator=LocalPathLocator(path=path, profile=profile))

        first = backend.add_record(sample(1, artifacts=[at("a/x"), at("/abs", None)]))
        backend.add_record(sample(2, artifacts=[at("a/y"), at("/abs", None), at("a/x", "other")]))
        with pytest.raises(TargetExists):
            backend.add_record(sample(3, artifacts=[at("a/x")]))
        with pytest.raises(TargetExists):
            backend.add_record(sample(3, artifacts=[at("a/z"), at("a/z")]))
        moved = backend.update_record(first.replace(artifacts=[at("b/x")]))
        backend.add_record(sample(4, artifacts=[at("a/x")]))
        assert backend.get_record(first.id) == moved
        assert backend.generation() == 4

    def test_an_update_names_the_version_that_it_read(self, backend: CatalogBackend) -> None:
        record = backend.add_record(sample(1))
        second = backend.update_record(record.replace(title="second"))
        assert (second.version, second.title) == (2, "second")
        with pytest.raises(StaleRecord):
            backend.update_record(record.replace(title="late"))
        assert backend.get_record(record.id) == second
        with pytest.raises(StaleRecord):
            backend.update_record(sample(2))
        with pytest.raises(StaleRecord):
            backend.delete_record(record.id, 1)
        backend.delete_record(record.id, 2)
        assert backend.get_record(record.id) is None
        with pytest.raises(StaleRecord):
            backend.delete_record(record.id, 2)
        assert len(backend.search(Query(statuses=None, text="second"))) == 0

    def test_what_an_update_drops_is_found_no_more(self, backend: CatalogBackend) -> None:
        old = {
            "metadata": {"a": 1, "b": ["x", "y"]},
            "tags": ["t"],
            "bbox": (0, 0, 1, 1),
            "time": TimeSpan(start=FIRST, end=FIRST),
        }
        record = backend.add_record(sample(1, title="old words", **old))
        record = backend.update_record(
            record.replace(title="new words", metadata={"b": ["y"]}, tags=(), bbox=(5, 5, 6, 6), time=None)
        )
        gone = ["a?", "b=x", "tags?", "time?"]
        assert [len(backend.search(Query(where=[term]))) for term in gone] == [0, 0, 0, 0]
        assert len(backend.search(Query(text="old"))) == len(backend.search(Query(bbox=(0, 0, 2, 2)))) == 0
        assert len(backend.search(Query(time="0001"))) == 0
        assert tuple(backend.search(Query(where=["b=y"], text="new", bbox=(5, 5, 5, 5)))) == (record,)
        assert backend.check(deep=True) == []

    def test_of_several_texts_any_may_fit(self, backend: CatalogBackend) -> None:
        for n, title in enumerate(("sea ice", "sea level", "land", "ice sheet")):
            backend.add_record(sample(n, title=title))

        def found(*texts: str) -> list[str]:
            return sorted(each.title or "" for each in backend.search(Query(text=texts)))

        assert found("sea ice") == ["sea ice"]
        assert found("sea ice", "land") == ["land", "sea ice"]
        assert found("sea", "ice") == ["ice sheet", "sea ice", "sea level"]
        assert found("nothing", "lan") == ["land"]
        assert found("...", "land") == ["land"], "a text without a word is left out"
        assert found("...") == []

    def test_prefixes_of_ids(self, backend: CatalogBackend) -> None:
        ids = ["abcd" + f"{i:028x}" for i in range(12)] + ["abce" + "f" * 28, "f" * 32]
        with backend.transaction():
            for i, each in enumerate(ids):
                backend.add_record(sample(i, id=each, status="deleted" if i == 0 else "active"))
        assert backend.match_prefix("abcd") == ids[:10]
        assert backend.match_prefix("abcd", limit=20) == ids[:12]
        assert backend.match_prefix("abce") == ["abce" + "f" * 28]
        assert backend.match_prefix("ffff") == ["f" * 32]
        assert backend.match_prefix("0") == []

    def test_edges_both_ways(self, backend: CatalogBackend) -> None:
        target = backend.add_record(sample(1))
        edges = [
            Lineage(rel="derived_from", target=target.id),
            Lineage(rel="uses", target=target.id),
            Lineage(rel="uses", target="urn:x"),
        ]
        source = backend.add_record(sample(2, lineage=edges))
        out = [Edge(source.id, edge.rel, edge.target) for edge in edges]
        assert sorted(backend.edges(source.id, "out"), key=str) == sorted(out, key=str)
        assert backend.edges(source.id, "out", "derived_from") == out[:1]
        assert sorted(backend.edges(target.id, "in"), key=str) == sorted(out[:2], key=str)
        assert backend.edges(source.id, "in") == []
        backend.update_record(source.replace(lineage=edges[2:]))
        assert backend.edges(target.id, "in") == []

    # operations and rows

    def test_operations_are_written_once(self, backend: CatalogBackend) -> None:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        operations = [
            Operation(
                operation_type="add",
                status="succeeded" if i % 2 else "failed",
                started_at=start + timedelta(days=i),
                outputs=("r",),
                parameters={"a": [1]},
                error=None if i % 2 else {"kind": "internal", "message": "m"},
            )
            for i in range(4)
        ]
        for each in operations:
            backend.put_operation(each)
        assert backend.get_operation(operations[0].operation_id) == operations[0]
        with pytest.raises(RecordExists):
            backend.put_operation(operations[0].replace(status="rolled_back"))
        assert backend.get_operation(operations[0].operation_id) == operations[0]
        assert backend.list_operations() == operations[::-1]
        assert backend.list_operations(status="failed", limit=1) == [operations[2]]
        assert backend.list_operations(since=start + timedelta(days=2)) == [operations[3], operations[2]]

    def test_rows_compare_and_set(self, reopen: Open, backend: CatalogBackend) -> None:
        rows = backend.rows
        row = rows.put(Row("job", "a", {"n": [1, None, "é"]}, owner="d", state="queued", seq=3))
        assert row.revision == 1
        assert rows.get("job", "a") == row == reopen().rows.get("job", "a")
        assert rows.get("other", "a") is None
        with pytest.raises(RecordExists):
            rows.put(replace(row, revision=0, state="x"))
        running = rows.put(replace(row, state="running", document={"n": 2}))
        assert running.revision == 2
        with pytest.raises(StaleRecord):
            rows.put(replace(row, state="late"))
        assert rows.get("job", "a") == running
        rows.delete("job", "a")
        rows.delete("job", "a")
        assert rows.get("job", "a") is None
        with pytest.raises(StaleRecord):
            rows.put(running)
        assert backend.generation() == 0, "rows alone do not move the generation of records"

    def test_rows_are_found_by_place_time_and_record(self, backend: CatalogBackend) -> None:
        """Every search, with any order and pages, finds the same rows as a check of each row."""
        rng = random.Random(5)  # noqa: S311  # the same each time
        records, rows = placed_rows(rng, backend)
        for n in range(60):
            asked = random_row_search(rng, rows, records)
            fits = [row for row in rows if row_fits(row, records[row.owner], asked)]
            found: list[Placed] = []
            while page := backend.rows.find(replace(asked, after=found[-1].at if found else None)):
                assert len(page) <= asked.limit
                found += page
            assert sorted(each.row.id for each in found) == sorted(row.id for row in fits), (n, asked)
            assert all(each.owner.id == each.row.owner for each in found)
            keys = [(row_order(each.row, each.owner, asked), each.row.id) for each in found]
            down = asked.order[-1][1]
            for (a, a_id), (b, b_id) in pairwise(keys):
                assert a < b or (a == b and (a_id > b_id if down else a_id < b_id)), (asked.order, a, b)
        assert backend.check(deep=True) == []

    def test_an_audience_finds_only_what_it_sees(self, backend: CatalogBackend) -> None:
        makers: tuple[str | None, ...] = (None, "anna", "ben")
        with backend.transaction():
            for n, (visibility, maker) in enumerate(product((None, "public", "project", "private"), makers)):
                fields = {"visibility": visibility, "created_by": maker, "metadata": {"n": n}, "kind": "k"}
                owner = backend.add_record(sample(n, **fields))
                shown = {"created_at": "2020-01-01T00:00:00Z", "shown_at": "2020-01-02T00:00:00Z", "reach": None}
                backend.rows.put(Row("v", f"row{n:02}", shown, owner.id, "there", n))
        every = list(backend.iterate())
        for audience in (
            Audience(),
            Audience(unstated=False),
            Audience(frozenset({"public", "project"}), name="anna"),
            Audience(frozenset(), unstated=False, name="ben"),
        ):
            for query in (Query(audience=audience), Query(audience=audience, where=["n>=3"], kinds=["k"], count=True, limit=2)):
                found = backend.search(query)
                assert found == select(query, every)
                assert backend.count(query) == len([each for each in every if matches(query, each)])
                assert backend.field_values("n", query) == count_values(query, "n", every, 1000)
                assert backend.list_fields(query) == summarise(query, every)
            seen = {each.id for each in every if audience.sees(each.visibility, each.created_by)}
            assert 0 < len(seen) < len(every)
            assert {each.owner.id for each in backend.rows.find(RowSearch("v", "there", Query(audience=audience)))} == seen
        page = backend.search(Query(audience=Audience(), limit=1))
        with pytest.raises(InvalidCursor):
            backend.search(Query(audience=Audience(unstated=False), limit=1, cursor=page.next))

    def test_rows_are_found_where_they_are_now(self, backend: CatalogBackend) -> None:
        rows = backend.rows
        owner = backend.add_record(sample(1, kind="k"))
        document = {
            "created_at": "2020-01-01T00:00:00Z",
            "shown_at": None,
            "reach": {"bbox": [0, 0, 1, 1], "start": None, "end": None},
        }
        asked = RowSearch("v", "there", box=(0.5, 0.5, 0.6, 0.6))
        row = rows.put(Row("v", "a", document, owner.id, "there", 1))
        assert rows.find(asked) == [], "not shown"
        row = rows.put(replace(row, document={**document, "shown_at": "2020-01-02T00:00:00Z"}))
        assert [each.row for each in rows.find(asked)] == [row]
        row = rows.put(replace(row, document={**row.document, "reach": {"bbox": [5, 5, 6, 6], "start": None, "end": None}}))
        assert rows.find(asked) == []
        row = rows.put(replace(row, document={**row.document, "reach": None}))
        assert [each.row for each in rows.find(asked)] == [row], "what was never measured may be anywhere"
        owner = backend.update_record(owner.replace(status="deleted", deleted_from="active", deleted_at=FIRST))
        assert rows.find(asked) == []
        backend.update_record(owner.replace(status="active", deleted_from=None, deleted_at=None))
        assert [each.row for each in rows.find(asked)] == [row]
        assert rows.find(replace(asked, state="gone")) == []
        rows.delete("v", "a")
        assert rows.find(asked) == []
        assert backend.check(deep=True) == []

    def test_the_newest_rows_of_each_record_and_their_neighbours(self, backend: CatalogBackend) -> None:
        rows = backend.rows
        reach = {"created_at": "2020-01-01T00:00:00Z", "reach": {}}
        with backend.transaction():
            for n in range(12):
                shown = None if n == 7 else "2020-01-01T00:00:00Z"
                rows.put(Row("v", f"r{n:02}", {**reach, "shown_at": shown}, f"o{n % 2}", "gone" if n == 3 else "there", n))
        found = rows.newest("v", "there", ["o1", "o0", "nobody"], 2)
        assert {owner: [row.id for row in own] for owner, own in found.items()} == {"o0": ["r10", "r08"], "o1": ["r11", "r09"]}
        assert rows.neighbours("v", "there", ["r01", "r05", "r11", "r00", "nobody"]) == {
            "r01": (None, "r05"), "r05": ("r01", "r09"), "r11": ("r09", None), "r00": (None, "r02"),
        }  # fmt: skip

    def test_a_row_is_claimed_once(self, backend: CatalogBackend) -> None:
        """In order, whatever several callers do at once; what *take* leaves is left."""
        rows = backend.rows
        for n in range(12):
            rows.put(Row("job", f"j{n:02}", {"ready": n != 3}, state="accepted" if n != 5 else "done", seq=n))

        def take(row: Row) -> Row | None:
            return replace(row, state="running") if row.document["ready"] else None

        first = rows.claim("job", ["accepted", "retrying"], take)
        assert first is not None
        assert (first.id, first.state, first.revision) == ("j00", "running", 2)
        assert rows.get("job", "j00") == first
        start = threading.Barrier(4)

        def work(_: int) -> list[str]:
            start.wait()
            claimed = []
            while (row := rows.claim("job", ["accepted", "retrying"], take)) is not None:
                claimed.append(row.id)
            return claimed

        with ThreadPoolExecutor(4) as pool:
            found = [each for claimed in pool.map(work, range(4)) for each in claimed]
        assert sorted(found) == [f"j{n:02}" for n in range(12) if n not in (0, 3, 5)]
        assert rows.claim("job", ["accepted"], take) is None
        assert rows.count("job", states=["accepted"]) == 1

    def test_rows_are_listed_by_sequence(self, backend: CatalogBackend) -> None:
        rows = backend.rows
        with backend.transaction():
            for i in range(9):
                seq = rows.next_seq("v", f"d{i % 2}")
                assert seq == i // 2 + 1
                rows.put(Row("v", f"id{i}", owner=f"d{i % 2}", state="abc"[i % 3], seq=seq))
            rows.put(Row("w", "other", owner="d0", seq=99))
        every = rows.select("v")
        assert [(row.seq, row.id) for row in every] == sorted((i // 2 + 1, f"id{i}") for i in range(9))
        assert rows.select("v", descending=True) == every[::-1]
        assert [row.id for row in rows.select("v", owner="d0")] == ["id0", "id2", "id4", "id6", "id8"]
        assert {row.state for row in rows.select("v", states=["a", "c"])} == {"a", "c"}
        assert rows.select("v", states=[]) == []
        for descending in (False, True):
            walked: list[Row] = []
            while page := rows.select(
                "v", after=(walked[-1].seq, walked[-1].id) if walked else None, descending=descending, limit=2
            ):
                walked += page
            assert walked == (every[::-1] if descending else every)
        assert (rows.count("v"), rows.count("v", owner="d1"), rows.count("v", owner="d0", states=["a"])) == (9, 4, 2)
        assert rows.get_many("v", ["id1", "nobody", "id3"]) == {each.id: each for each in every if each.id in ("id1", "id3")}
        assert rows.get_many("v", []) == {}
        assert rows.of_owners("v", ["d1", "nobody"]) == {"d1": rows.select("v", owner="d1", descending=True)}
        assert rows.of_owners("v", ["d0", "d1"]) == {
            owner: rows.select("v", owner=owner, descending=True) for owner in ("d0", "d1")
        }

    # transactions, generation

    def test_a_transaction_is_whole(self, reopen: Open, backend: CatalogBackend) -> None:
        record = backend.add_record(sample(1))
        operation = Operation(operation_type="add", status="succeeded")
        with backend.transaction():
            added = backend.add_record(sample(2))
            changed = backend.update_record(record.replace(title="changed"))
            backend.put_operation(operation)
            backend.rows.put(Row("job", "a"))
            assert backend.get_record(added.id) == added, "own writes are seen"
            assert backend.search(Query(text="changed"))[0] == changed
            other = ThreadPoolExecutor(1)
            assert other.submit(backend.get_record, added.id).result() is None, "nobody else sees them"
            assert other.submit(backend.get_record, record.id).result() == record
            other.shutdown()
        reopened = reopen()
        assert reopened.get_record(added.id) == added
        assert reopened.get_record(record.id) == changed
        assert reopened.get_operation(operation.operation_id) == operation
        assert reopened.rows.get("job", "a") is not None
        assert reopened.generation() == 2, "one commit, one generation"
        assert {change.id for change in reopened.changes(1)} == {added.id, record.id}

    def test_a_transaction_left_by_an_exception_leaves_no_trace(self, reopen: Open, backend: CatalogBackend) -> None:
        record = backend.add_record(sample(1, key="k", metadata={"a": 1}))
        operation = Operation(operation_type="add", status="succeeded")
        with contextlib.suppress(_Undo), backend.transaction():
            backend.add_record(sample(2))
            backend.update_record(record.replace(key=None, title="changed", metadata={}))
            backend.put_operation(operation)
            backend.rows.put(Row("job", "a"))
            raise _Undo
        for each in (backend, reopen()):
            assert [r.to_json() for r in each.iterate()] == [record.to_json()]
            assert each.get_by_key("k") == record
            assert tuple(each.search(Query(where=["a=1"]))) == (record,)
            assert each.get_operation(operation.operation_id) is None
            assert each.rows.get("job", "a") is None
            assert each.generation() == 1
            assert each.changes(0) == [RecordChange(1, record.id, False)]

    def test_a_refused_call_in_a_transaction_spoils_nothing_else(self, backend: CatalogBackend) -> None:
        first = backend.add_record(sample(1, key="k"))
        with backend.transaction():
            second = backend.add_record(sample(2))
            with pytest.raises(KeyExists):
                backend.add_record(sample(3, key="k", metadata={"a": 1}))
            artifact = Artifact(locator=LocalPathLocator(path="a", profile="default"))
            twice = sample(4, artifacts=[artifact, artifact.replace(artifact_id="00000000")])
            with pytest.raises(TargetExists):
                backend.add_record(twice)
        assert {each.id for each in backend.iterate()} == {first.id, second.id}
        assert backend.changes(1) == [RecordChange(2, second.id, False)]
        assert backend.check(deep=True) == []

    def test_transactions_do_not_nest(self, backend: CatalogBackend) -> None:
        with backend.transaction(), pytest.raises(RuntimeError, match="nest"), backend.transaction():
            pass
        with backend.transaction():
            record = backend.add_record(sample(1))
        assert backend.get_record(record.id) == record

    def test_generation_and_changes(self, backend: CatalogBackend) -> None:
        records = [backend.add_record(sample(i)) for i in range(3)]
        assert backend.generation() == 3
        backend.update_record(records[0])
        with backend.transaction():
            backend.delete_record(records[1].id, 1)
            extra = sorted((backend.add_record(sample(i)) for i in (3, 4)), key=lambda r: r.id)
        backend.put_operation(Operation(operation_type="add", status="failed"))
        with backend.transaction():
            pass
        assert backend.generation() == 5
        fifth = sorted([(records[1].id, True), *((each.id, False) for each in extra)])
        expected = [
            RecordChange(3, records[2].id, False),
            RecordChange(4, records[0].id, False),
            *(RecordChange(5, *each) for each in fifth),
        ]
        assert backend.changes(0) == expected
        assert backend.changes(4) == expected[2:]
        assert backend.changes(5) == []
        assert backend.changes(0, limit=1) == expected[:1]
        assert backend.changes(3, limit=2) == expected[1:], "a generation is never cut"

    # searching

    @_EXAMPLES
    @given(records=record_lists(), queries=st.lists(QUERIES, min_size=4, max_size=4))
    def test_searching_is_what_matches_says(
        self, backend: CatalogBackend, records: list[CatalogRecord], queries: list[Query]
    ) -> None:
        with contextlib.suppress(_Undo), backend.transaction():
            for each in records:
                backend.add_record(each)
            for query in queries:
                expected = select(replace(query, limit=1000, count=True), records)
                pages = list(walk(backend, query))
                assert [r.id for page in pages for r in page] == [r.id for r in expected], query
                assert [r for page in pages for r in page] == list(expected)
                assert {r.id for r in expected} == {r.id for r in records if matches(query, r)}
                assert all(len(page) == query.limit for page in pages[:-1])
                assert {page.matched for page in pages} == {len(expected) if query.count else None}
                assert backend.count(query) == len(expected)
                stepwise = [r.id for page in walk(backend, replace(query, most_read=2)) for r in page]
                assert stepwise == [r.id for r in expected], query
                self._check_counted(backend, query, expected)
                assert backend.names(query) == [Name(r.id, r.key, r.title) for r in pages[0]]
            raise _Undo

    @staticmethod
    def _check_counted(backend: CatalogBackend, query: Query, expected: Page) -> None:
        """Check a query that may count and sort only two records."""
        bounded = replace(query, most_counted=2, count=True)
        try:
            pages = list(walk(backend, bounded))
        except InvalidRequest:
            assert query.orders, "only an order is refused"
        else:
            assert [r.id for page in pages for r in page] == [r.id for r in expected], query
            for page in pages:
                assert page.matched is not None
                assert 2 >= page.matched <= len(expected) if page.at_least else page.matched == len(expected), query
        for name in ("kind", "tags"):
            some = dict(backend.field_values(name, bounded, 100))
            whole = dict(backend.field_values(name, query, 100))
            assert {value for value, count in some.items() if count > whole[value]} == set(), (name, some, whole)

    @_EXAMPLES
    @given(data=st.data(), first=record_lists("1", 6), later=record_lists("2", 6), query=QUERIES)
    def test_pages_joined_are_the_whole_while_others_insert(
        self, backend: CatalogBackend, data: st.DataObject, first: list[CatalogRecord], later: list[CatalogRecord], query: Query
    ) -> None:
        with contextlib.suppress(_Undo), backend.transaction():
            for each in first:
                backend.add_record(each)
            waiting = list(later)
            seen: list[str] = []
            for page in walk(backend, query):
                seen += [r.id for r in page]
                for _ in range(data.draw(st.integers(0, 2))):
                    if waiting:
                        backend.add_record(waiting.pop())
            assert len(seen) == len(set(seen)), "nothing comes twice"
            assert {r.id for r in first if matches(query, r)} <= set(seen), "nothing that was there all the time is missing"
            raise _Undo

    @_EXAMPLES
    @given(records=record_lists(), query=st.none() | QUERIES, field=FIELDS)
    def test_fields_and_values_are_summed_up_alike(
        self, backend: CatalogBackend, records: list[CatalogRecord], query: Query | None, field: str
    ) -> None:
        with contextlib.suppress(_Undo), backend.transaction():
            for each in records:
                backend.add_record(each)
            assert backend.list_fields(query) == summarise(query, records)
            assert backend.field_values(field, query, 5) == count_values(query, field, records, 5)
            raise _Undo

    def test_fields_tell_which_schemas_have_them(self, backend: CatalogBackend) -> None:
        for i, schema in enumerate(("station", "buoy", "station", None)):
            names = {} if schema is None else {"schema_name": schema, "schema_version": "1"}
            backend.add_record(sample(i, metadata={"x": i}, **names))
        [found] = backend.list_fields()
        assert (found.field, found.records, list(found.schemas)) == ("x", 4, ["buoy", "station"])

    def test_order(self, backend: CatalogBackend) -> None:
        values = [10, 9.5, "a", "B", True, False, [3, 1], None, {}, 10**400]
        with backend.transaction():
            for i, value in enumerate(values):
                backend.add_record(sample(i, id=f"{i:032x}", metadata={"v": value}))

        def ordered(*order: str) -> list[int]:
            return [int(r.id, 16) for page in walk(backend, Query(order=order, limit=3)) for r in page]

        assert ordered("v") == [6, 1, 0, 9, 3, 2, 5, 4, 7, 8], "numbers, texts, booleans, missing; ties by id"
        assert ordered("-v") == [4, 5, 2, 3, 9, 0, 1, 6, 7, 8], "missing last both ways"
        assert ordered("-created_at") == list(range(9, -1, -1))
        assert ordered() == list(range(10))

    def test_a_cursor_belongs_to_its_query(self, backend: CatalogBackend) -> None:
        for i in range(3):
            backend.add_record(sample(i))
        query = Query(limit=2, text="t")
        cursor = backend.search(query).next
        assert cursor is not None
        assert len(backend.search(replace(query, cursor=cursor, limit=5, count=True))) == 1, "limit and count may change"
        for other in (Query(), replace(query, text="u"), replace(query, order=("title",)), replace(query, where=("a=1",))):
            with pytest.raises(InvalidCursor):
                backend.search(other.at(cursor))
        for bad in ("", "x", cursor[:-4], "é", "W10"):
            with pytest.raises(InvalidCursor):
                backend.search(query.at(bad))

    # concurrency and damage

    def test_one_object_serves_threads(self, backend: CatalogBackend) -> None:
        start = threading.Barrier(4)

        def work(worker: int) -> None:
            start.wait()
            for i in range(5):
                with backend.transaction():
                    backend.add_record(sample(i, key=f"{worker}-{i}"))
                    backend.rows.put(Row("job", f"{worker}-{i}"))
                assert backend.get_by_key(f"{worker}-{i}") is not None

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, i) for i in range(4)]:
                done.result()
        assert backend.count(Query()) == backend.rows.count("job") == backend.generation() == 20

    def test_processes_in_turn_lose_nothing_and_a_reader_sees_whole_commits(
        self, open_backend: Open, backend: CatalogBackend
    ) -> None:
        if not self.durable:
            pytest.skip("lives in one process")
        children = _in_processes(add_many, *((open_backend, worker, 50) for worker in range(4)))
        last = 0
        while any(child.is_alive() for child in children):
            generation = backend.generation()
            records = list(backend.iterate())
            assert len(records) >= generation >= last
            last = generation
            time.sleep(0.02)
        assert [child.exitcode for child in children] == [0, 0, 0, 0]
        assert {r.key for r in backend.iterate()} == {f"{worker}-{i}" for worker in range(4) for i in range(50)}
        assert backend.generation() == 200
        assert sorted(change.generation for change in backend.changes(0)) == list(range(1, 201)), "no gaps, no doubles"
        assert backend.check(deep=True) == []

    def test_a_reader_beside_a_writer_sees_whole_commits(self, reopen: Open, backend: CatalogBackend) -> None:
        writer = reopen()
        done = threading.Event()

        def write() -> None:
            try:
                for i in range(15):
                    with writer.transaction():
                        writer.add_record(sample(i))
                        writer.add_record(sample(i))
            finally:
                done.set()

        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(write)
            seen = [0]
            while not done.is_set():
                seen.append(len(list(backend.iterate())))
                assert backend.count(Query()) % 2 == 0
            outcome.result()
        assert all(count % 2 == 0 for count in seen)
        assert seen == sorted(seen)
        assert backend.count(Query()) == 30

    @pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "overwritten"])
    def test_unreadable_is_corrupt_never_empty(self, open_backend: Open, tmp_path: Path, damage: str) -> None:
        if not self.durable:
            pytest.skip("lives in one process")
        backend = open_backend()
        with backend.transaction():
            for i in range(40):
                backend.add_record(sample(i, metadata={"text": "x" * 500}))
        backend.close()
        path = self.store_file(tmp_path)
        whole = path.read_bytes()
        match damage:
            case "removed":
                path.unlink()
            case "emptied":
                path.write_bytes(b"")
            case "cut":
                path.write_bytes(whole[: len(whole) // 2])
            case "overwritten":
                path.write_bytes(b"\0" * 2048 + whole[2048:])
        left = path.read_bytes() if path.exists() else None

        for use in (lambda backend: list(backend.iterate()), lambda backend: backend.add_record(sample(1))):
            with pytest.raises(Corrupt), contextlib.closing(open_backend()) as damaged:
                use(damaged)
        assert (path.read_bytes() if path.exists() else None) == left, "nothing is written over it"
