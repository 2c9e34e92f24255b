"""Figures of the catalog core (docs/performance.md): medians, beside plain sqlite3 and plain TinyDB in the same run.

    python benchmarks/catalog.py [--records 1000 100000] [--output results.json] [--compare earlier.json]
                                 [--write docs/performance.md] [--from results.json]

Prints JSON; never a test. What only reads is CPU time, as nothing else is waited for; what writes is wall-clock time, next to the
same work done plainly. Milliseconds, or seconds where the name ends in ``_s``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from report import arguments, report
from tinydb import TinyDB

from cubeport import main
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.tinydb import TinyBackend
from cubeport.catalog.backend import Row
from cubeport.catalog.keeping.convert import convert
from cubeport.catalog.models import Artifact, CatalogRecord, LocalPathLocator
from cubeport.catalog.ndjson import export_lines
from cubeport.catalog.query import Query

WORDS = ["temperature", "salinity", "daily", "monthly", "surface", "bottom", "wind", "precipitation", "ocean", "land", "level"]
INSTRUMENTS = [f"instrument{i}" for i in range(20)]
VARIABLES = ["tas", "pr", "sst", "sss", "uas", "vas", "zos", "hurs", "psl", "rsds"]


def records(number: int, seed: int = 7) -> Iterator[CatalogRecord]:
    """Yield records such as a data centre has: about 1.5 kB, 14 leaves of metadata, a file, a month and a box each."""
    dice = random.Random(seed)
    for i in range(number):
        year, month = 2000 + dice.randrange(24), 1 + dice.randrange(12)
        west, south = dice.uniform(-180, 170), dice.uniform(-80, 70)
        yield CatalogRecord(
            id=f"{dice.getrandbits(128):032x}",
            key=f"file:{i}",
            kind="document" if i % 5 else "dataset",
            title=f"{' '.join(dice.sample(WORDS, 3))} station{i % 500} {year}",
            tags=(f"t{i % 7}", f"u{i % 11}"),
            metadata={
                "instrument": dice.choice(INSTRUMENTS),
                "year": year,
                "month": month,
                "quality": dice.random(),
                "ready": bool(i % 2),
                "operator": {"name": f"operator {i % 40}", "team": f"team{i % 4}"},
                "variables": dice.sample(VARIABLES, 3),
                "netcdf": {"dims": {"time": 31, "lat": 180, "lon": 360}, "attrs": {"source": "simulation", "run": i}},
            },
            artifacts=(
                Artifact(locator=LocalPathLocator(path=f"{year}/{i}.nc", profile="default"), format="netcdf", size_bytes=i),
            ),
            time={"start": f"{year}-{month:02d}-01T00:00:00Z", "end": f"{year}-{month:02d}-28T00:00:00Z"},
            bbox=(west, south, west + 10, south + 10),
            created_at=f"2024-01-01T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.{i % 1000000:06d}Z",
        )


def median_ms(acts: Iterable[Callable[[], Any]], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median time of the acts, in milliseconds."""
    times = []
    for act in acts:
        began = clock()
        act()
        times.append(clock() - began)
    return round(statistics.median(times) * 1e3, 4)


def median_cpu_ms(acts: Iterable[Callable[[], Any]]) -> float:
    """Return the median CPU time of the acts, in milliseconds."""
    return median_ms(acts, time.process_time)


def repeated(act: Callable[[], Any], times: int = 20) -> list[Callable[[], Any]]:
    return [act] * times


def once_s(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return round(time.perf_counter() - began, 3)


# --- SQLite ---------------------------------------------------------------------------------------------------------


def sqlite_figures(folder: Path, number: int) -> dict[str, Any]:
    dice = random.Random(1)
    every = list(records(number))
    ids = [each.id for each in every]
    lines = list(export_lines(every))
    path = folder / "instance" / ".cubeport" / "catalog.db"
    with main.Catalog.create(folder / "instance") as catalog:
        before = os.times()
        figures: dict[str, Any] = {"import_s": once_s(lambda: catalog.import_records(lines))}
        after = os.times()
        figures["import_cpu_s"] = round(after.user + after.system - before.user - before.system, 3)
        helper = after.children_user + after.children_system - before.children_user - before.children_system
        figures["import_helper_cpu_s"] = round(helper, 3)
    figures["open_s"] = once_s(lambda: SqlBackend.open(path).close())
    backend = SqlBackend.open(path)
    fresh = [each.replace(key=None, artifacts=()) for each in records(60, seed=8)]
    figures["add"] = median_ms([lambda each=each: backend.add_record(each) for each in fresh])
    plain = plain_inserts(folder / "plain.db", lines, [each.to_json() for each in fresh])
    figures["import_plain_sqlite3_s"], figures["add_plain_sqlite3"] = plain
    figures["import_ratio"] = round(figures["import_s"] / max(figures["import_plain_sqlite3_s"], 1e-3), 1)
    figures["add_ratio"] = round(figures["add"] / figures["add_plain_sqlite3"], 2)
    version = backend.rows.put(Row("version", "v1", {"files": 7, "size": 1}, owner="d", state="sealed", seq=1))
    figures["rows_update"] = median_ms([lambda: backend.rows.put(Row("job", f"{dice.random()}", {"done": 1}))] * 30)
    figures["get"] = median_cpu_ms([lambda each=each: backend.get_record(each) for each in dice.sample(ids, 200)])
    figures["get_by_key_and_row"] = median_cpu_ms(
        [
            lambda i=i: (backend.get_by_key(f"file:{i}"), backend.rows.get("version", version.id))
            for i in dice.sample(range(number), 200)
        ]
    )
    figures["generation"] = median_cpu_ms(repeated(backend.generation, 200))
    figures["prefix"] = median_cpu_ms([lambda each=each: backend.match_prefix(each[:6]) for each in dice.sample(ids, 200)])
    corners = [(dice.uniform(-180, 160), dice.uniform(-80, 60)) for _ in range(30)]
    pages = {
        "newest": [Query()] * 20,
        "two_fields": [Query(where=[f"instrument={dice.choice(INSTRUMENTS)}", f"year={2000 + i % 24}"]) for i in range(30)],
        "two_fields_dense": [Query(where=["ready=true", f"quality>=0.{i % 9}"]) for i in range(20)],
        "one_value": [Query(where=[f"netcdf.attrs.run={i}"]) for i in dice.sample(range(number), 30)],
        "contains": [Query(where=[f"operator.name:{i} "]) for i in range(10)],
        "text_rare": [Query(text=f"station{i} ocean") for i in dice.sample(range(500), 30)],
        "text_common": [Query(text=dice.choice(WORDS)) for _ in range(30)],
        "text_two_common": [Query(text=" ".join(dice.sample(WORDS, 2))) for _ in range(30)],
        "time_and_bbox": [
            Query(
                time=f"{2000 + i % 24}-0{i % 9 + 1}",
                bbox=(w := dice.uniform(-180, 160), s := dice.uniform(-80, 60), w + 20, s + 20),
            )
            for i in range(30)
        ],
        "time": [Query(time=f"{2000 + i % 24}-0{i % 9 + 1}") for i in range(30)],
        "bbox": [Query(bbox=(west, south, west + 20, south + 20)) for west, south in corners],
        "by_title": [Query(order=("title",))] * 5,
        "by_title_down": [Query(order=("-title",))] * 5,
        "by_key": [Query(order=("key",))] * 5,
        "by_update": [Query(order=("-updated_at",))] * 5,
        "by_time": [Query(order=("time.start",))] * 5,
        "by_time_down": [Query(order=("-time.start",))] * 5,
        "by_field": [Query(order=("-quality",))] * 5,
    }
    for name, queries in pages.items():
        figures[f"page_{name}"] = median_cpu_ms([lambda query=query: backend.search(query) for query in queries])
    second = [query.at(page.next) for query in pages["two_fields_dense"] if (page := backend.search(query)).next]
    figures["page_next"] = median_cpu_ms([lambda query=query: backend.search(query) for query in second])
    counts = {"count": Query(), "count_field": Query(where=["instrument=instrument3"]), "count_dense": Query(where=["ready=true"])}
    for name, query in counts.items():
        figures[name] = median_cpu_ms(repeated(lambda query=query: backend.count(query), 10))
    figures["fields"] = median_cpu_ms(repeated(backend.list_fields, 3))
    figures["iterate_s"] = once_s(lambda: sum(1 for _ in backend.iterate()))
    backend.close()
    figures["size_mb"] = round(sum(each.stat().st_size for each in path.parent.glob("catalog.db*")) / 1e6, 1)
    figures["memory_mb"] = memory(path)
    return figures


def plain_inserts(path: Path, lines: list[str], fresh: list[str]) -> tuple[float, float]:
    """Return the seconds of a bare bulk insert, and the milliseconds of a bare insert of one: a document, its id and its key.

    They are as durable: WAL, synchronous=FULL.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE record (id TEXT PRIMARY KEY, key TEXT UNIQUE, doc TEXT)")
        began = time.perf_counter()
        connection.execute("BEGIN")
        rows = ((f"{i:032x}", str(i), line) for i, line in enumerate(lines))
        connection.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        whole = round(time.perf_counter() - began, 3)
        acts = [
            lambda i=i, text=text: connection.execute("INSERT INTO record VALUES (?, NULL, ?)", (f"x{i}", text))
            for i, text in enumerate(fresh)
        ]
        return whole, median_ms(acts)


MEMORY = """
import sys
from pathlib import Path
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.catalog.query import Query
backend = SqlBackend.open(Path(sys.argv[1]), read_only=True)
backend.search(Query(where=["ready=true"], text="ocean"))
assert sum(1 for _ in backend.iterate()) > 0
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def memory(path: Path) -> float:
    """Return the most memory that opening, searching and iterating all takes, in MB."""
    found = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    return round(float(found.stdout), 1)


# --- adding bytes, many processes, TinyDB, start ---------------------------------------------------------------------


def adding_figures(folder: Path) -> dict[str, Any]:
    """Return what ``add_bytes`` of 1 kB costs next to its bare parts: an insert, a file and two journal syncs."""
    with main.Catalog.create(folder / "instance") as catalog:
        whole = median_ms([lambda i=i: catalog.add_bytes(os.urandom(1000), filename=f"{i}.bin") for i in range(60)])
    _, insert = plain_inserts(folder / "bare.db", [], ["x" * 1500] * 60)

    def synced(name: str, data: bytes) -> None:
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)

    bare = median_ms(
        [lambda i=i: (synced(f"bytes{i}", b"x" * 1000), synced("j", b"line"), synced("j", b"line")) for i in range(60)]
    )
    return {"add_bytes": whole, "bare": round(insert + bare, 4), "ratio": round(whole / (insert + bare), 2)}


ADDER = """
import sys
from pathlib import Path
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.catalog.models import CatalogRecord
backend = SqlBackend.open(Path(sys.argv[1]))
for i in range(100):
    backend.add_record(CatalogRecord(title=str(i), metadata={"n": i}))
"""


def crowd_s(folder: Path) -> float:
    """Return how long 8 processes take to add 100 records each, none lost."""
    path = folder / "crowd.db"
    with contextlib.closing(SqlBackend.create(path, "c" * 32)) as backend:

        def run() -> None:
            children = [subprocess.Popen([sys.executable, "-c", ADDER, str(path)]) for _ in range(8)]
            assert [child.wait() for child in children] == [0] * 8

        taken = once_s(run)
        assert backend.generation() == backend.count(Query()) == 800
    return taken


def tinydb_figures(folder: Path) -> dict[str, Any]:
    every = list(records(1000))
    backend = TinyBackend.create(folder / "catalog.json", "c" * 32)
    backend.add_records(every)
    fresh = [each.replace(key=None, artifacts=()) for each in records(20, seed=8)]
    figures: dict[str, Any] = {"add": median_ms([lambda each=each: backend.add_record(each) for each in fresh])}
    with TinyDB(folder / "plain.json") as plain:
        plain.insert_multiple(each.to_mapping() for each in every)
        figures["add_plain_tinydb"] = median_ms([lambda each=each: plain.insert(each.to_mapping()) for each in fresh])
    figures["add_ratio"] = round(figures["add"] / figures["add_plain_tinydb"], 2)
    figures["page_two_fields"] = median_cpu_ms(
        repeated(lambda: backend.search(Query(where=["instrument=instrument3", "year=2010"])), 5)
    )
    there = SqlBackend.create(folder / "there.db", "c" * 32, lock_path=folder / "there.lock")
    back = TinyBackend.create(folder / "back.json", "c" * 32, lock_path=folder / "back.lock")
    figures["convert_there_and_back_s"] = once_s(lambda: (convert(backend, there, "sqlite"), convert(there, back, "tinydb")))
    assert [each.to_json() for each in back.iterate()] == sorted(
        (each.to_json() for each in (*every, *fresh)), key=lambda text: json.loads(text)["id"]
    )
    for each in (backend, there, back):
        each.close()
    return figures


def start_figures(folder: Path) -> dict[str, float]:
    """Return the CPU seconds that starting takes, the median of five. Bytecode is kept, as for a user."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def cpu_s(*arguments: str) -> float:
        taken = []
        for _ in range(5):
            before = os.times()
            command = [sys.executable, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
            after = os.times()
            taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
        return round(statistics.median(taken), 3)

    with main.Catalog.create(folder / "instance") as catalog:
        catalog.add({"a": 1}, title="one")
    return {
        "python": cpu_s("-c", "pass"),
        "import_cubeport": cpu_s("-c", "import cubeport"),
        "help": cpu_s("-m", "cubeport", "--help"),
        "search": cpu_s("-m", "cubeport", "search", "a=1", "--instance", str(folder / "instance")),
        "import_sqlalchemy": cpu_s("-c", "import sqlalchemy"),
    }


# --- results --------------------------------------------------------------------------------------------------------

LIMITS: dict[str, dict[int, float]] = {
    "get": {0: 1},
    "prefix": {0: 1},
    "page_two_fields": {0: 5},
    "page_text_rare": {0: 5},
    "page_text_common": {0: 5},
    "page_time_and_bbox": {0: 5},
    **{f"page_by_{name}": {0: 20.0} for name in ("title", "title_down", "key", "update", "time", "time_down", "field")},
    "count": {1_000: 2, 100_000: 20},
    "count_field": {0: 20},
    "fields": {1_000: 20, 100_000: 2_000},
    "import_s": {1_000: 1, 100_000: 20},
    "size_mb": {100_000: 500},
    "memory_mb": {1_000: 90, 100_000: 120},
    "open_s": {0: 2},
    "add_ratio": {0: 3},
}
"""The figures to stay under, by the number of records (0: any)."""


def over(number: int, figures: dict[str, float]) -> list[str]:
    found = []
    for name, limits in LIMITS.items():
        limit = limits.get(0, limits.get(number))
        if limit is not None and figures[name] > limit:
            found.append(f"{name}: {figures[name]} > {limit}")
    return found


def run(sizes: list[int]) -> dict[str, Any]:
    results: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
        "sqlite": {},
    }
    with tempfile.TemporaryDirectory(prefix="cubeport-benchmark-") as name:
        for number in sizes:
            folder = Path(name, str(number))
            folder.mkdir()
            figures = sqlite_figures(folder, number)
            results["sqlite"][str(number)] = figures | {"over": over(number, figures)}
        for part, measure in {"add_bytes": adding_figures, "tinydb": tinydb_figures, "start_cpu_s": start_figures}.items():
            folder = Path(name, part)
            folder.mkdir()
            results[part] = measure(folder)
        results["crowd_8x100_s"] = crowd_s(Path(name))
    return results


def compared(now: Any, earlier: Any) -> Any:
    """Return *now* over *earlier*, figure by figure."""
    if isinstance(now, dict) and isinstance(earlier, dict):
        return {name: compared(now[name], earlier[name]) for name in now if name in earlier}
    numbers = isinstance(now, (int, float)) and isinstance(earlier, (int, float)) and earlier
    return round(now / earlier, 2) if numbers else None


HEADING = "## Catalog"
COMMAND = "python benchmarks/catalog.py --write docs/performance.md"

SHOWN = {
    "add": "one record added and synced (ms)",
    "add_plain_sqlite3": "the same by plain sqlite3: a document, its id, its key (ms)",
    "add_ratio": "ratio",
    "rows_update": "one row next to the records written and synced (ms)",
    "get": "a record by id (CPU ms)",
    "get_by_key_and_row": "a record by key, and a row (CPU ms)",
    "prefix": "ids by their beginning (CPU ms)",
    "page_newest": "page of 50: the newest (CPU ms)",
    "page_two_fields": "by two fields, 1 in 500 fits (CPU ms)",
    "page_two_fields_dense": "by two fields that most fit (CPU ms)",
    "page_next": "its second page (CPU ms)",
    "page_one_value": "by a value that one has (CPU ms)",
    "page_contains": "by a part of a text (CPU ms)",
    "page_text_rare": "by two words, 1 in 200 fits (CPU ms)",
    "page_text_common": "by a word that 1 in 4 has (CPU ms)",
    "page_time_and_bbox": "by time and area (CPU ms)",
    "page_by_title": "in the order of titles (CPU ms)",
    "page_by_title_down": "of titles downwards (CPU ms)",
    "page_by_key": "of keys (CPU ms)",
    "page_by_update": "the last updated (CPU ms)",
    "page_by_time": "in the order of times (CPU ms)",
    "page_by_time_down": "of times downwards (CPU ms)",
    "page_by_field": "of a metadata field with as many values as records (CPU ms)",
    "count": "count of all (CPU ms)",
    "count_field": "count by a field (CPU ms)",
    "fields": "all fields, types and examples (CPU ms)",
    "import_s": "NDJSON import by `Catalog.import_records`, one commit (s)",
    "import_cpu_s": "CPU of the process (s)",
    "import_helper_cpu_s": "CPU of the one that prepares rows (s)",
    "import_plain_sqlite3_s": "the lines by plain sqlite3: a document, its id, its key (s)",
    "import_ratio": "ratio",
    "open_s": "opening (s)",
    "iterate_s": "reading all (s)",
    "memory_mb": "memory to open, search and read all (MB)",
    "size_mb": "files (MB)",
}


def section(results: dict[str, Any]) -> str:
    """Return the results as a section of ``docs/performance.md``."""
    sizes = list(results["sqlite"])
    machine = results["machine"]
    lines = [
        f"Medians, CPython {machine['python']}, SQLite {machine['sqlite']},",
        f"{machine['cpus']} cores and a disk shared with other work. Records have 14 leaves of metadata, a file,",
        "a month and a box. What only reads is CPU time.",
        "",
        f"| SQLite | {' | '.join(f'{int(size):,} records' for size in sizes)} |",
        f"|---|{'--:|' * len(sizes)}",
        *(f"| {words} | {' | '.join(str(results['sqlite'][size][name]) for size in sizes)} |" for name, words in SHOWN.items()),
        "",
    ]
    tiny, bytes_, start = results["tinydb"], results["add_bytes"], results["start_cpu_s"]
    lines += [
        f"- `add_bytes` of 1 kB, whole: {bytes_['add_bytes']} ms, {bytes_['ratio']} × its bare parts"
        " (an insert, a file, two journal syncs).",
        f"- TinyDB at 1,000 records: an add {tiny['add']} ms, plain TinyDB without a sync {tiny['add_plain_tinydb']} ms;"
        f" converting there and back {tiny['convert_there_and_back_s']} s.",
        f"- 8 processes × 100 adds: {results['crowd_8x100_s']} s with the start of the processes, none lost.",
        f"- Start (CPU): `import cubeport` {start['import_cubeport']} s, `cubeport --help` {start['help']} s,"
        f" `cubeport search` {start['search']} s, of which Python {start['python']} s.",
    ]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--compare", type=Path, help="an earlier output; adds the ratio of each figure to it")
    parser.add_argument("--from", type=Path, dest="source", help="an earlier output, which is written; nothing is measured")
    return parser.parse_args()


if __name__ == "__main__":
    asked = parsed()
    found = json.loads(asked.source.read_text()) if asked.source else run(asked.records)
    if asked.compare:
        found["compared"] = compared(found, json.loads(asked.compare.read_text()))
    text = json.dumps(found, indent=2)
    if asked.output:
        asked.output.write_text(text + "\n")
    report(section(found) if asked.write else text, asked.write, heading=HEADING, command=COMMAND)
