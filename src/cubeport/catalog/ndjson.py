"""Records as NDJSON: one canonical JSON document a line, which restores ids, versions and statuses unchanged."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from cubeport.catalog.artifacts.storage import Profiles
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.keeping.integrity import place_of
from cubeport.catalog.models import Artifact, CatalogRecord
from cubeport.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Imported:
    """How many records were imported, and how many existed already."""

    added: int
    skipped: int


def export_lines(records: Iterable[CatalogRecord]) -> Iterator[str]:
    """Yield one line for each record, with its line end."""
    for record in records:
        yield record.to_json() + "\n"


def read_records(text: str | Iterable[str]) -> Iterator[CatalogRecord]:
    """Yield the records of NDJSON, or of documents that are indented over several lines as by ``show --json``.

    Parameters
    ----------
    text
        The text, or its lines. Only a line feed ends a line, because JSON can contain the other separators of ``splitlines``.

    Raises
    ------
    InvalidRequest, NewerModel
        With the line on which the document begins.
    """
    lines = io.StringIO(text, newline="\n") if isinstance(text, str) else text
    held: list[str] = []
    begins = 0
    for number, line in enumerate(lines, 1):
        if not held:
            try:  # nearly every line is a whole document
                document = from_json(line, allow_inf_nan=False)  # half the time of the standard library's
            except ValueError:
                begins = number
            else:
                yield _record(document, number)
                continue
        held.append(line)
        # A document ends with its line or, if it is indented, with the first brace in the first column.
        if len(held) > 1 and not line.startswith("}"):
            continue
        if (document := _whole("".join(held), begins, more=len(held) == 1)) is not None:
            yield _record(document, begins)
        if document is not None or not "".join(held).strip():
            held = []
    if held:
        yield _record(_whole("".join(held), begins, more=False), begins)


def _whole(text: str, line: int, *, more: bool) -> object:
    """Return the JSON document in *text*; ``None`` for blank text, or if *more* lines can complete it."""
    if not text.strip():
        return None
    with contextlib.suppress(ValueError):
        return from_json(text, allow_inf_nan=False)
    try:
        return json.loads(text)
    except ValueError as exc:
        if more and text.strip() in ("{", "["):
            return None
        raise InvalidRequest(
            f"Line {line} is not the beginning of a JSON document: {exc}", next_step="give NDJSON of `export records`"
        ) from None


def _record(document: object, line: int) -> CatalogRecord:
    if not isinstance(document, dict):
        raise InvalidRequest(f"Line {line} is not the beginning of a record.", next_step="give NDJSON of `export records`")
    try:
        return CatalogRecord.from_mapping(document)
    except InvalidRequest as exc:
        raise InvalidRequest(f"Line {line}: {exc.message}", errors=exc.errors) from None


def copy_out(profiles: Profiles, artifact: Artifact, folder: Path) -> None:
    """Copy managed bytes to ``folder/<profile>/<path>``, which gives a copy of the profiles' roots. Existing files stay."""
    place = place_of(artifact)
    if place is None:
        return
    name, path = place
    profile = profiles.get(name)
    files = [f"{path}/{each.path}" for each in profile.files(path)] if artifact.target_kind == "directory" else [path]
    for each in files:
        target = folder / name / each
        with store_errors("copy the bytes"):
            make_folders(target.parent)
            if not target.exists():
                with profile.open(each) as reading, target.open("xb") as writing_to:
                    shutil.copyfileobj(reading, writing_to)
