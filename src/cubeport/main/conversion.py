"""Convert a catalog to another backend, and finish a conversion whose process died."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from cubeport.adapters.backends.stores import Database, create_backend, kind_of, open_backend, open_store, set_aside
from cubeport.catalog.catalogfile import CATALOG_FILE, MARK, CatalogFile, catalog_file
from cubeport.catalog.disk.durable import replace_file, store_errors
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.keeping.convert import Conversion
from cubeport.catalog.keeping.convert import convert as copy_over
from cubeport.errors import CatalogMoved, Conflict

CONVERTING = "converting.json"
"""The file that exists while a conversion runs, and after it died."""


def convert(root: Path, source: Any, to: str, database: Database | None = None) -> Conversion:
    """Copy the store *source* of the catalog in *root* to a new store of kind *to*, and use it for the catalog."""
    file, inner = catalog_file(root), root / MARK
    if kind_of(to) == kind_of(file.backend):
        raise Conflict(f"The catalog already uses {kind_of(to)}.", next_step="cubeport info")
    with store_errors("convert the catalog"):
        set_aside(inner, to, file.catalog_id, database)
        replace_file(inner / CONVERTING, dumps({"from": file.backend, "to": to}).encode())
    create_backend(inner, to, file.catalog_id, database=database)
    waiting = {"lock_path": inner / "locks" / "convert.lock", "lock_timeout_s": file.lock_timeout_s}
    target = open_store(inner, to, file.catalog_id, database=database, **waiting)
    try:
        done = copy_over(source, target, to)
    finally:
        target.close()
    _swap(root, to)
    return done


def _swap(root: Path, to: str) -> None:
    """Make *to* the backend of the catalog. Only its line in ``catalog.yaml`` changes."""
    path = root / MARK / CATALOG_FILE
    line = f"backend: {dumps(to)}"
    text, found = re.subn(r"(?m)^backend:.*$", line, path.read_text("utf-8"))
    with store_errors("convert the catalog"):
        replace_file(path, (text if found else f"{text.rstrip()}\n{line}\n").encode())
        (root / MARK / CONVERTING).unlink(missing_ok=True)


def finish_conversion(root: Path, file: CatalogFile, database: Database | None = None) -> CatalogFile:
    """Finish a conversion whose process died, if the old store was already retired; otherwise discard it."""
    inner = root / MARK
    try:
        with contextlib.closing(open_backend(inner, file, read_only=False, database=database)) as backend, backend.transaction():
            (inner / CONVERTING).unlink(missing_ok=True)
    except CatalogMoved as exc:
        _swap(root, exc.target)
    return catalog_file(root)
