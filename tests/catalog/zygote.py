"""Runs one operation per line of its input in a forked child with fail points armed, and prints how the child ended.

A fresh interpreter for each of hundreds of kills would spend its time importing; here the libraries are imported once, nothing is
open, and each child is as fresh as a new process.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import cubeport.adapters.backends.sql
import cubeport.adapters.backends.tinydb  # noqa: F401 - for the children
from cubeport import Catalog
from cubeport.catalog.disk import failpoints
from cubeport.errors import CubeportError, InvalidRequest


def add(catalog: Catalog, folder: Path) -> None:
    catalog.add_bytes(b"new bytes" * 1000, {"n": 1}, filename="new.txt", key="new")


def move(catalog: Catalog, folder: Path) -> None:
    catalog.add_file(folder / "source.bin", operation="move", key="moved")


def folder(catalog: Catalog, folder: Path) -> None:
    catalog.add_file(folder / "tree", key="tree")


def update(catalog: Catalog, folder: Path) -> None:
    catalog.add_artifact(record=catalog.get("old"), source=b"second", filename="second.txt", role="preview")


def purge(catalog: Catalog, folder: Path) -> None:
    catalog.purge("old")


def fail(catalog: Catalog, folder: Path) -> None:
    with catalog.unit_of_work("add") as work:
        record = work.plan_record(title="x")
        work.write_artifact(work.plan_artifact(record, filename="x.txt"), b"1")
        raise InvalidRequest("as meant")


def stuck(catalog: Catalog, folder: Path) -> None:
    with catalog.unit_of_work("add") as work:
        work.compensate({"undo": "x-missing-plugin"})
        work.rollback()


def recover(catalog: Catalog, folder: Path) -> None:
    catalog.recover()


def gc(catalog: Catalog, folder: Path) -> None:
    catalog.gc(older_than_s=0)


ACTIONS = {fn.__name__: fn for fn in (add, move, folder, update, purge, fail, stuck, recover, gc)}


def run(order: dict[str, str]) -> int:
    root = Path(order["root"])
    with Catalog.open(root, plugins=False, recover=False) as catalog:
        failpoints.arm(order["points"])
        try:
            ACTIONS[order["action"]](catalog, root.parent)
        except CubeportError as exc:
            sys.stderr.write(f"{exc.kind}: {exc.message}\n")
            return 2
    return 0


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                os._exit(run(json.loads(line)))
            except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
                traceback.print_exc()
                os._exit(3)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
