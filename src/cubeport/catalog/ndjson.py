"""Records as NDJSON: one canonical JSON document a line, which restores ids, versions and statuses unchanged."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from cubeport.catalog.models import CatalogRecord
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


@dataclass(frozen=True, slots=True)
class Lines:
    """Consecutive lines that contain whole documents."""

    first: int
    """The number of the first line."""
    texts: Sequence[str]


_BATCH_CHARACTERS = 1_000_000


def batches(text: str | Iterable[str]) -> Iterator[Lines]:
    """Yield the lines in batches of about a megabyte, cut only where a document begins: before a brace in the first column."""
    held: list[str] = []
    first, size = 1, 0
    for number, line in enumerate(_lines(text), 1):
        if size >= _BATCH_CHARACTERS and line.startswith("{"):
            yield Lines(first, held)
            held, first, size = [], number, 0
        held.append(line)
        size += len(line)
    if held:
        yield Lines(first, held)


def _lines(text: str | Iterable[str]) -> Iterable[str]:
    # Not io.StringIO, which needs four bytes for each character.
    return (found[0] for found in _LINE.finditer(text)) if isinstance(text, str) else text


_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def read_records(text: str | Iterable[str], *, first: int = 1) -> Iterator[CatalogRecord]:
    """Yield the records of NDJSON, or of documents that are indented over several lines as by ``show --json``.

    Parameters
    ----------
    text
        The text, or its lines. Only a line feed ends a line, because JSON can contain the other separators of ``splitlines``.
    first
        The number of the first line.

    Raises
    ------
    InvalidRequest, NewerModel
        With the line on which the document begins.
    """
    held: list[str] = []
    begins = 0
    for number, line in enumerate(_lines(text), first):
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
