"""The output of commands: results as JSON or plain text, problems as ``error[kind]: …``, and exit codes."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cubeport.errors import Conflict, Corrupt, CubeportError, InvalidRequest, NotFound, Refused, Unavailable

EXIT_CODES: Mapping[type[CubeportError], int] = {
    CubeportError: 1,
    Corrupt: 1,
    InvalidRequest: 2,
    NotFound: 3,
    Conflict: 4,
    Refused: 5,
    Unavailable: 6,
}
"""Exit codes by group of problems, found along the class's MRO. Others: 0 done, 1 findings, 130 interrupted."""

INTERRUPTED = 130
_MOST_PROBLEMS = 20

BROKEN_PIPE = 141
"""The exit code in a shell of a process whose reader has closed the pipe."""


def exit_code(exc: CubeportError) -> int:
    """Return the exit code of a problem."""
    return next(EXIT_CODES[cls] for cls in type(exc).__mro__ if cls in EXIT_CODES)


def problem(exc: CubeportError) -> str:
    """Return the lines of a problem for people."""
    lines = [f"error[{exc.kind}]: {printable(exc.message, lines=True)}"]
    more = [each for each in exc.errors if each.message not in exc.message]
    lines += [f"  {printable('.'.join(map(str, each.loc)))}: {printable(each.message)}" for each in more[:_MOST_PROBLEMS]]
    if len(more) > _MOST_PROBLEMS:
        lines.append(f"  and {len(more) - _MOST_PROBLEMS} more, which --json lists")
    if exc.next_step is not None:
        lines.append(f"next: {printable(exc.next_step, lines=True)}")
    if exc.operation_id is not None:
        lines.append(f"operation: {exc.operation_id}")
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """Return a twin's result as JSON values, as ``--json`` prints them."""
    from cubeport.catalog.forms.canonical import json_value

    if hasattr(value, "to_mapping"):
        return value.to_mapping()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if not f.name.startswith("_")}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (str, bytes))):
        return [plain(inner) for inner in value]
    return json_value(value)


_JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: Persian, Hindi and emoji need them, and they cannot control a terminal."""


def printable(text: str, *, lines: bool = False) -> str:
    """Return *text* without characters that control a terminal, because records can come from anybody. A line feed is shown as
    ``↵``.
    """
    return "".join(
        c
        if (lines and c == "\n") or c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cs", "Cf", "Zl", "Zp")
        else "↵"
        if c == "\n"
        else "�"
        for c in text
    )


def cell(value: Any) -> str:
    """Return a value for a table: an empty text for null, lists with commas, objects as JSON."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str():
            return printable(value)
        case list() | tuple() if all(isinstance(each, (str, int, float)) for each in value):
            return ", ".join(cell(each) for each in value)
    from cubeport.catalog.forms.canonical import dumps

    return printable(dumps(plain(value)))


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], *, width: int | None = None) -> str:
    """Return aligned columns. On a terminal they are cut to its width; the first and the last column are cut last."""
    cells = [[name.upper() for name in header], *([cell(value) for value in row] for row in rows)]
    if len(cells) == 1:
        return ""
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    whole = width or columns()
    if whole is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - whole
        between, last = range(1, len(widths) - 1), (len(widths) - 1,)
        for some, least in ((between, 12), (last, 32), (between, 9), ((0,), 20), (last, 8), ((0,), 8)):
            while over > 0 and (wide := [i for i in some if widths[i] > least]):
                widths[max(wide, key=lambda i: widths[i])] -= 1
                over -= 1
    return "\n".join("  ".join(_fit(text, to) for text, to in zip(row, widths, strict=True)).rstrip() for row in cells)


def columns() -> int | None:
    """Return the width of the terminal; ``None`` where the output goes elsewhere."""
    return shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None


def moment(text: str) -> str:
    """Return a time of a document to the minute, as tables show it: ``2026-11-29 10:47``."""
    return text[:16].replace("T", " ")


def between(start: str | None, end: str | None, word: str) -> str:
    """Return a span of time for people; one step is one time."""
    return str(start) if start == end else f"{start}{word}{end}"


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, width: int) -> str:
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _width(text))


def tree(value: Any, indent: int = 0) -> str:
    """Return a mapping as indented ``name: value`` lines, without its empty members."""
    pad = "  " * indent
    lines: list[str] = []
    for name, inner in value.items():
        if inner is None or inner in ([], {}, ""):
            continue
        if isinstance(inner, Mapping):
            lines += [f"{pad}{printable(str(name))}:", tree(inner, indent + 1)]
        elif isinstance(inner, (list, tuple)) and any(isinstance(each, Mapping) for each in inner):
            lines.append(f"{pad}{printable(str(name))}:")
            for each in inner:
                first, *rest = (tree(each, indent + 2) if isinstance(each, Mapping) else cell(each)).splitlines() or [""]
                lines += [f"{pad}  - {first.strip()}", *rest]
        else:
            lines.append(f"{pad}{printable(str(name))}: {cell(inner)}")
    return "\n".join(lines)


def _csv_cell(value: Any) -> str:
    """Return a value unchanged, because a file is not a terminal. Lists of plain values are joined by ``; ``, because names can
    contain commas.
    """
    match value:
        case str():
            return value
        case list() | tuple() if all(isinstance(each, (str, int, float)) for each in value):
            return "; ".join(_csv_cell(each) for each in value)
        case Mapping() | list() | tuple():
            from cubeport.catalog.forms.canonical import dumps

            return dumps(plain(value))
    return cell(value)


def csv_text(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> str:
    """Return RFC 4180 lines, but with line feeds at the ends. A cell that a spreadsheet would run as a formula begins with
    ``'``.
    """
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        texts = [_csv_cell(value) for value in row]
        writer.writerow([f"'{text}" if text[:1] in "=+@" and text else text for text in texts])
    return out.getvalue()
