"""Statements that differ only in their values are compiled once, and mean what a statement compiled for itself means."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import func, literal, select
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from cubeport.adapters.backends.sql.dialect import Dialect, among
from cubeport.adapters.backends.sql.postgresql import POSTGRESQL
from cubeport.adapters.backends.sql.search import SearchPlan
from cubeport.adapters.backends.sql.sqlite import SQLITE
from cubeport.adapters.backends.sql.tables import record
from cubeport.catalog.query import Query

QUERIES = [
    [Query(where=[f"instrument={name}", f"year>{year}"]) for name, year in (("a", 1), ("b", 2020))],
    [Query(where=[f"site={sites}"]) for sites in ("a", "a|b", "c|d", "a|b|c")],
    [Query(text=text, bbox=(west, 0, west + 9, 5)) for text, west in (("ocean", 0), ("air mass", 150), ("air", 3))],
    [Query(time=time, statuses=("active",)) for time in ("2001", "2003-04", "2000/..", "../2000")],
]


def _alone(dialect: Dialect, statement: ClauseElement) -> tuple[str, dict[str, object]]:
    compiled = statement.compile(dialect=dialect._compiling, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), dict(compiled.params)


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL], ids=lambda each: each.name)
@pytest.mark.parametrize("queries", QUERIES, ids=["fields", "lists", "words", "times"])
def test_a_statement_is_what_it_would_be_if_compiled_alone(dialect: Dialect, queries: list[Query]) -> None:
    for query in [*queries, *reversed(queries)]:
        plan = SearchPlan.of(dialect, query, {term.field: number for number, term in enumerate(query.terms, 1)})
        numbers = [each.numbers() for each in plan.candidates]
        statement = select(record.c.id).where(*plan.filters, *(record.c.n.in_(each) for each in numbers)).limit(len(queries))
        assert dialect.compiled(statement) == _alone(dialect, statement)


def test_a_value_that_the_text_contains_is_that_of_the_statement() -> None:
    for separator in (",", ";", ","):
        text, values = SQLITE.compiled(select(func.aggregate_strings(record.c.id, separator)))
        assert f"'{separator}'" in text
        assert separator not in values.values()


def test_other_values_are_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = SQLITE.compiled(select(record.c.id).where(record.c.key == "a").limit(3))
    monkeypatch.setattr(SQLITE, "_compiling", None)
    text, values = SQLITE.compiled(select(record.c.id).where(record.c.key == "b").limit(4))
    assert text == first
    assert {"b", 4} <= set(values.values())


def test_a_number_is_found_among_numbers_by_the_index() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE record (n INTEGER PRIMARY KEY, id TEXT)")
    connection.executemany("INSERT INTO record VALUES (?, ?)", [(n, f"r{n}") for n in range(9)])
    for numbers, found in ((["3", "7"], ["r3", "r7"]), ([], []), (["8"], ["r8"])):
        text, values = SQLITE.compiled(select(record.c.id).where(among(record.c.n, numbers), literal(1) == 1))
        assert [id_ for (id_,) in connection.execute(text, values)] == found
        plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values))
        assert "SEARCH record USING INTEGER PRIMARY KEY" in plan
    connection.close()
