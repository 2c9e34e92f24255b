"""Writers killed at any moment, again and again: what was acknowledged is there, whole, and the next writer goes on."""

from __future__ import annotations

import contextlib
import functools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.tinydb import TinyBackend

pytestmark = pytest.mark.crash

WRITER = """
import sys
from pathlib import Path
from cubeport.adapters.backends.{module} import {cls}
from cubeport.catalog.backend import Row
from cubeport.catalog.models import CatalogRecord

backend = {cls}.open(Path(sys.argv[1]))
print("open", flush=True)
for i in range(10_000):
    with backend.transaction():
        pair = [backend.add_record(CatalogRecord(title="one of two", metadata={{"i": i, "text": "x" * 300}})) for _ in range(2)]
        backend.rows.put(Row("pair", pair[0].id, {{"other": pair[1].id}}))
    print(pair[0].id, flush=True)
"""


@pytest.mark.parametrize(("module", "cls"), [("sql", SqlBackend), ("tinydb", TinyBackend)])
def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path, module: str, cls: type[SqlBackend | TinyBackend]) -> None:
    path = tmp_path / "catalog"
    cls.create(path, "c" * 32).close()
    dice = random.Random(5)
    start = functools.partial(
        subprocess.Popen,
        [sys.executable, "-c", WRITER.format(module=module, cls=cls.__name__), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    acknowledged: set[str] = set()
    for turn in range(8):
        writers = [start() for _ in range(2)]
        for each in writers:
            assert each.stdout is not None
            assert each.stdout.readline() == "open\n"
        if turn % 2 and writers[0].stdout is not None:
            # However slow the machine is, some are acknowledged.
            acknowledged.add(writers[0].stdout.readline().strip())
        time.sleep(dice.uniform(0.05, 0.5))
        for each in writers:
            each.kill()
            said = each.communicate()[0]
            acknowledged |= {line for line in said.split("\n")[:-1] if line}
        with contextlib.closing(cls.open(path)) as backend:
            there = {record.id for record in backend.iterate()}
            pairs = backend.rows.select("pair", limit=100_000)
            assert {row.id for row in pairs} | {row.document["other"] for row in pairs} == there, "pairs are whole"
            assert acknowledged <= {row.id for row in pairs}
            assert backend.generation() == len(pairs)
            assert backend.check(deep=True) == []
    assert len(acknowledged) >= 4
