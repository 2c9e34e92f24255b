"""CPU of STAC item searches over many items, in one collection and in many, next to pgSTAC, in one run.

    python benchmarks/stac_items.py [--items 100000] [--folder F [--prepare]] [--write docs/performance.md]

pgSTAC needs PostgreSQL 15 with PostGIS (Debian: postgresql-15-postgis-3) and a Python with pypgstac[psycopg], named by --pgstac.
Both hold the same items: ours are rows of a catalog in SQLite, and pgSTAC is given the documents that we serve. Our CPU is that of
the server, with HTTP and JSON; pgSTAC's is that of its database process alone, without the API that it needs in front of it. The
ids that both find are compared. Filling both takes longer than measuring: with --folder, what was filled is kept and used again,
and with --prepare it is only filled.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cubeport
from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import new_id
from cubeport.service.state import CUBE, VERSION

from lists import grow, instance, place, served  # isort: skip  # the benchmarks next to this one
from report import arguments, report  # isort: skip
from serve import cpu_ns  # isort: skip

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
HEADING = "## STAC items"
COMMAND = "python benchmarks/stac_items.py --pgstac PGSTAC/bin/python --write docs/performance.md"
QUERIES: dict[str, dict[str, Any]] = {
    "the newest 10": {"limit": 10},
    "a box of 4° and a quarter": {"limit": 10, "bbox": [10, 10, 14, 14], "datetime": "2005-01-01T00:00:00Z/2005-03-31T00:00:00Z"},
    "a collection and a year": {"limit": 10, "collections": ["d000001"], "datetime": "2005-01-01T00:00:00Z/2005-12-31T00:00:00Z"},
    "the newest 100": {"limit": 100},
}


def fill(root: Path, items: int, collections: int) -> None:
    """Make an instance with *items* versions, spread evenly over *collections* datasets."""
    rng = random.Random(5)
    instance(root)
    grow(root, 0, collections, rng)
    with cubeport.Catalog.open(root) as catalog:
        for n in range(1, collections + 1):
            record = catalog.backend.get_by_key(f"d{n:06}")
            latest = record.metadata["dataset"]["latest"]
            rows = {table: catalog.rows.get(table, latest) for table in (VERSION, CUBE)}
            with catalog.backend.transaction():
                for seq in range(2, items // collections + 1):
                    version_id = new_id()
                    west, south, year = rng.uniform(-180, 170), rng.uniform(-80, 80), rng.randrange(1990, 2020)
                    box = (west, south, west + 2, south + 2)
                    span = {"start": f"{year}-01-01T00:00:00Z", "end": f"{year}-12-31T00:00:00Z"}
                    for table, row in rows.items():
                        document = dict(row.document)
                        if table == VERSION:
                            document |= {"version_id": version_id, "reach": {"bbox": box, **span}, "seq": seq}
                        else:
                            document = copy.deepcopy(document)
                            place(document["documents"]["item"], box, span)
                        catalog.rows.put(Row(table, version_id, document, row.owner, row.state, seq))


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """Start a private server; yield how to connect to it."""
    data = folder / "pg"
    run = ["runuser", "-u", "postgres", "--"]
    if not data.exists():
        data.mkdir(mode=0o700)
        folder.chmod(0o755)
        subprocess.run(["chown", "postgres", str(data)], check=True)
        initdb = [str(PROGRAMS / "initdb"), "-D", str(data), "-A", "trust", "-E", "UTF8"]
        subprocess.run([*run, *initdb], check=True, capture_output=True)
    options = (
        "-c listen_addresses=127.0.0.1 -c port=5499 -c unix_socket_directories= -c shared_buffers=512MB -c fsync=off -c jit=off"
    )
    log = str(data / "log")
    subprocess.run(
        [*run, str(PROGRAMS / "pg_ctl"), "-D", str(data), "-o", options, "-l", log, "-w", "start"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield "postgresql://postgres@127.0.0.1:5499/postgres"
    finally:
        subprocess.run(
            [*run, str(PROGRAMS / "pg_ctl"), "-D", str(data), "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL
        )


LOAD = """
import json, sys
import psycopg
from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods
from pypgstac.migrate import Migrate
dsn, collections, items = sys.argv[1:]
database = PgstacDB(dsn=dsn)
Migrate(database).run_migration()
loader = Loader(db=database)
loader.load_collections(collections, insert_mode=Methods.insert)
loader.load_items(items, insert_mode=Methods.insert)
with psycopg.connect(dsn, autocommit=True) as connection:
    connection.execute("ANALYZE")
"""

ASK = """
import json, statistics, sys
import psutil, psycopg
dsn, queries, rounds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
found = {}
with psycopg.connect(dsn, autocommit=True) as connection:
    connection.execute("SET search_path TO pgstac, public")
    process = psutil.Process(connection.info.backend_pid)
    for name, query in queries.items():
        text = json.dumps(query)
        answer = connection.execute("SELECT search(%s::jsonb)", (text,)).fetchone()[0]
        before = sum(process.cpu_times()[:2])
        for _ in range(rounds):
            connection.execute("SELECT search(%s::jsonb)", (text,)).fetchone()
        spent = sum(process.cpu_times()[:2]) - before
        found[name] = [1e3 * spent / rounds, sorted(each["id"] for each in answer["features"])]
print(json.dumps(found))
"""


def prepare(folder: Path, items: int, collections: int, python: str) -> None:
    """Fill our instance, and pgSTAC with the documents that we serve."""
    fill(folder / "instance", items, collections)
    with served(folder / "instance") as (client, _):
        for name, address, member in (
            ("collections", "/stac/collections?limit=1000", "collections"),
            ("items", "/stac/search?limit=1000", "features"),
        ):
            following: str | None = address
            with (folder / f"{name}.ndjson").open("w") as file:
                while following:
                    page = client.get(following).json()
                    file.writelines(json.dumps(each) + "\n" for each in page[member])
                    following = next((each["href"] for each in page["links"] if each["rel"] == "next"), None)
    with database(folder) as dsn:
        files = [str(folder / each) for each in ("collections.ndjson", "items.ndjson")]
        subprocess.run([python, "-W", "ignore", "-c", LOAD, dsn, *files], check=True, stdout=subprocess.DEVNULL)
    (folder / "ready").touch()


def ours(root: Path, rounds: int) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return the CPU of each query in ms, and the ids found."""
    costs, ids = {}, {}
    with served(root) as (client, process):
        for name, query in QUERIES.items():
            answer = client.post("/stac/search", json=query)
            assert answer.status_code == 200, answer.text
            ids[name] = sorted(each["id"] for each in answer.json()["features"])
            spent = []
            for _ in range(rounds):
                before = cpu_ns(process)
                client.post("/stac/search", json=query)
                spent.append((cpu_ns(process) - before) / 1e6)
            costs[name] = statistics.mean(spent)
    return costs, ids


def theirs(folder: Path, python: str, rounds: int) -> dict[str, Any]:
    """Return the CPU of each query in ms and the ids found, by pgSTAC."""
    with database(folder) as dsn:
        command = [python, "-W", "ignore", "-c", ASK, dsn, json.dumps(QUERIES), str(rounds)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--pgstac", default="python3", help="a Python with pypgstac[psycopg] and psutil")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--prepare", action="store_true")
    asked = parser.parse_args()
    lines = ["| items | collections | query | ours, ms CPU | pgSTAC, ms CPU | × | same ids |", "|--:|--:|---|--:|--:|--:|---|"]
    with tempfile.TemporaryDirectory() as name:
        for collections in (1, 1_000):
            folder = (asked.folder or Path(name)) / str(collections)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "ready").exists():
                prepare(folder, asked.items, collections, asked.pgstac)
            if asked.prepare:
                continue
            costs, ids = ours(folder / "instance", asked.rounds)
            peers = theirs(folder, asked.pgstac, asked.rounds)
            count = sum(1 for _ in (folder / "items.ndjson").open())
            for query, cost in costs.items():
                peer, found = peers[query]
                # Without sortby, we give the newest version first, and pgSTAC the latest time.
                same = "yes" if found == ids[query] else "another order" if "newest" in query else "NO"
                lines.append(f"| {count:,} | {collections:,} | {query} | {cost:.2f} | {peer:.2f} | {cost / peer:.2f} | {same} |")
                print(lines[-1], flush=True)
    if not asked.prepare:
        what = (
            "For pgSTAC, only the database process is counted, without JIT and without the API in front of it; "
            "for cubeport, the whole server."
        )
        means = f"Mean of {asked.rounds}. Python {platform.python_version()}, {os.cpu_count()} cores."
        table = "\n".join([*lines, "", f"{what} {means}"])
        report(table, asked.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
