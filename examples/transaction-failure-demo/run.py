"""What is left when something fails halfway: nothing. Needs `pip install cubeport`."""

import os
import signal
import subprocess
import sys

from cubeport import Catalog
from cubeport.errors import HookFailed

DIES = """
import os, signal
from cubeport import Catalog

with Catalog.open("work") as catalog, catalog.unit_of_work("ingest") as work:
    record = work.plan_record(title="half")
    work.write_artifact(work.plan_artifact(record, filename="half.bin"), b"x" * 100_000)
    work.add_record(record)
    os.kill(os.getpid(), signal.SIGKILL)  # as a power cut or the out-of-memory killer would
"""


def left(catalog: Catalog) -> str:
    """Tell how many records there are, and how many files below files/."""
    files = [path for path in (catalog.root / "files").rglob("*") if path.is_file()]
    return f"{catalog.count()} records, {len(files)} files"


def refuse(context, payload):
    """A rule of yours: it stops the commit after the bytes were written."""
    if any("forbidden" in record.tags for record in payload.records):
        raise ValueError("no forbidden records here")


with Catalog.create("work") as catalog:
    catalog.add_bytes(b"the first one", filename="one.txt", title="one")
    print("to begin with:", left(catalog))

    # 1. Your own code fails in the middle of a unit of work.
    try:
        with catalog.unit_of_work("ingest") as work:
            for name in ("two", "three"):
                record = work.plan_record(title=name)
                work.write_artifact(work.plan_artifact(record, filename=f"{name}.txt"), b"bytes")
                work.add_record(record)
            raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        print("after an exception:", left(catalog))

    # 2. A rule refuses at the last step.
    catalog.hooks.register("before_record_commit", refuse, name="refuse", required=True)
    try:
        catalog.add_bytes(b"bytes", filename="four.txt", tags=["forbidden"])
    except HookFailed:
        print("after a refusal:", left(catalog))

# 3. The process is killed after its bytes were written.
killed = subprocess.run([sys.executable, "-c", DIES], check=False)
assert killed.returncode == -signal.SIGKILL
print("killed, files left:", sum(len(files) for _, _, files in os.walk("work/files")) - 1)

# 4. The next one who opens the catalog for writing undoes it. Nobody has to do anything.
with Catalog.open("work") as catalog:
    print("recovered:", [each.outcome for each in catalog.recovered])
    print("in the end:", left(catalog))
    print("operations:", sorted(f"{each.operation_type} {each.status}" for each in catalog.operations()))
    print("doctor:", [each.message for each in catalog.doctor() if each.level == "error"])
