"""Fields and terms: ``FIELD OP VALUE`` as a user writes it, and the canonical form of a field's name.

::

    TERM  = FIELD OP VALUE | FIELD "?"
    OP    = "=" "!=" "<" "<=" ">" ">=" ":" "~"       ":" contains, "~" glob (* ?), both fold ASCII case; "!=" is "not ="
    VALUE = number | true | false | "text" | [array: any of] | bare text
    FIELD = record field | artifact.FIELD | metadata.a.b | a.b       a dotted key is quoted: "a.b"

A number or boolean contains only itself: ``year:1843`` matches the same records as ``year=1843``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from cubeport.catalog.forms.canonical import Json, dumps, json_value
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.catalog.models import CatalogRecord
from cubeport.errors import InvalidFilter, InvalidRequest

type Scalar = bool | int | float | str
type Op = Literal["=", "!=", "<", "<=", ">", ">=", ":", "~", "?"]
type Path = tuple[str, ...]

RECORD_FIELDS = frozenset(CatalogRecord.model_fields) - {"metadata", "artifacts"}
"""First parts of a path that are fields of the record. Any other first part is a key of its metadata."""

_SEGMENT = re.compile(r'[^\s."=!<>:~?]+')
_OPERATOR = re.compile(r"!=|<=|>=|[=<>:~?]")


# --- fields ---------------------------------------------------------------------------------------------------------


def split_field(text: str) -> Path:
    """Return the parts of a dotted field. A quoted part (JSON) can contain dots.

    Raises
    ------
    InvalidFilter
        With a caret under the position of the problem.
    """
    path, end = _read_path(text, 0)
    if end != len(text):
        raise _wrong(text, end, "this cannot be part of a field; quote the key")
    return path


def resolve(path: Path) -> Path:
    """Return *path* from the root of the record. Anything but a record field is in ``metadata``; ``artifacts`` becomes
    ``artifact``.
    """
    match path[0]:
        case "artifact" | "artifacts":
            return ("artifact", *path[1:])
        case "metadata":
            return path
        case first if first in RECORD_FIELDS:
            return path
    return ("metadata", *path)


def join_field(path: Iterable[str]) -> str:
    """Return the canonical text of a path: dotted, with parts quoted if necessary."""
    return ".".join(join_step(step) for step in path)


@functools.lru_cache(4096)
def join_step(step: str) -> str:
    """Return one key of a field's path, quoted if it needs quotes."""
    return step if _SEGMENT.fullmatch(step) else dumps(step)


def canonical_field(text: str) -> str:
    """Return the canonical text of the field *text*, from the root of the record."""
    return join_field(resolve(split_field(text)))


def shown_field(canonical: str) -> str:
    """Return the shortest text for the field, as a user would type it."""
    first, _, rest = canonical.partition(".")
    if first != "metadata" or not rest:
        return canonical
    path = split_field(rest)
    return rest if resolve(path) == ("metadata", *path) else canonical


def _read_path(text: str, at: int) -> tuple[Path, int]:
    steps: list[str] = []
    while True:
        if text[at : at + 1] == '"':
            try:
                step, at = json.JSONDecoder().raw_decode(text, at)
            except json.JSONDecodeError:
                raise _wrong(text, at, "this quoted key does not end") from None
        elif found := _SEGMENT.match(text, at):
            step, at = found.group(), found.end()
        else:
            raise _wrong(text, at, "a field name is expected here")
        steps.append(step)
        if text[at : at + 1] != ".":
            return tuple(steps), at
        at += 1


_GRAMMAR = (
    'write FIELD OP VALUE with one of = != < <= > >= : ~, or FIELD? (quote it for the shell), e.g. "year>=2018", '
    'or "title:rain" for a word'
)


def _wrong(text: str, at: int, why: str, advice: str = _GRAMMAR) -> InvalidFilter:
    return InvalidFilter(f"{why}\n    {text}\n    {' ' * at}^", next_step=advice)


# --- values and terms -----------------------------------------------------------------------------------------------


def read_value(text: str) -> Any:
    """Return the value of VALUE: a JSON number, ``true``, ``false``, quoted text or array. Anything else is bare text.

    ``--meta`` and ``--set`` also use this function.

    Raises
    ------
    InvalidFilter
        If it begins like quoted text or an array but is not valid.
    """
    text = text.strip()
    begins_json = text[:1] in ('"', "[")
    if not begins_json and text not in ("true", "false") and not _is_number(text):
        return text
    try:
        return json_value(strict_json(text))
    except json.JSONDecodeError as exc:
        raise _wrong(text, exc.pos, f"this is not a whole {'text' if text[0] == '"' else 'array'}: {exc.msg}") from None
    except InvalidRequest as exc:
        raise InvalidFilter(exc.message) from None
    except ValueError as exc:  # a name twice in an object, or no number
        raise InvalidFilter(f"{exc}.") from None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on one field; :func:`parse_term` reads it from text.

    Parameters
    ----------
    field
        The field as a user writes it. It is stored in canonical form.
    value
        A text, number or boolean, or a sequence of them, any of which may match. Ignored with ``?``.
    """

    field: str
    op: Op
    value: Any = None
    negate: bool = False

    def __post_init__(self) -> None:
        if self.op not in ("=", "!=", "<", "<=", ">", ">=", ":", "~", "?"):
            raise InvalidFilter(f"{self.op!r} is not an operator; use one of = != < <= > >= : ~ ?")
        object.__setattr__(self, "field", canonical_field(self.field))
        if self.op == "!=":
            object.__setattr__(self, "op", "=")
            object.__setattr__(self, "negate", not self.negate)
        object.__setattr__(self, "value", None if self.op == "?" else _any_of(self.value))

    @property
    def wanted(self) -> tuple[Scalar, ...]:
        """The values, any of which may match."""
        return self.value if isinstance(self.value, tuple) else () if self.value is None else (self.value,)


def _any_of(value: Any) -> Any:
    plain: Json = json_value(value)
    many = plain if isinstance(plain, list) else [plain]
    if not all(isinstance(each, (bool, int, float, str)) for each in many):
        raise InvalidFilter("A term compares with texts, numbers and booleans, or a list of these.")
    return tuple(many) if isinstance(plain, list) else plain


def parse_term(text: str, *, negate: bool = False) -> Term:
    """Return the term of *text*. A bare number matches numbers and texts; a quoted one matches only texts.

    Raises
    ------
    InvalidFilter
        With the text and a caret under the position of the problem.
    """
    path, at = _read_path(text, 0)
    at += len(text[at:]) - len(text[at:].lstrip())
    found = _OPERATOR.match(text, at)
    if found is None:
        raise _wrong(text, at, "an operator is expected here: = != < <= > >= : ~ ?")
    rest = text[found.end() :].strip()
    op: Any = found.group()
    if rest[:1] in ("=", "<", ">", "!") and not text[found.end() :].startswith(" "):
        raise _wrong(text, found.end(), f"write {op} once; a value that begins with {rest[0]} is quoted")
    if op == "?":
        if rest:
            raise _wrong(text, found.end(), "write nothing after ?")
        return Term(join_field(path), "?", negate=negate)
    try:
        value = read_value(rest)
    except InvalidFilter as exc:
        raise _wrong(text, text.index(rest, found.end()), exc.message.splitlines()[0]) from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = (value, rest)
    return Term(join_field(path), op, value, negate)


def parse_assignment(text: str, read: Callable[[str], Any] | None = None) -> tuple[Path, Any]:
    """Return the path and the value of ``F=V`` for ``--meta`` and ``--set``. For ``--set``, apply :func:`resolve` to the path.

    Parameters
    ----------
    read
        The function that parses the value; by default :func:`read_assigned`.
    """
    path, at = _read_path(text, 0)
    rest = text[at:].lstrip()
    if not rest.startswith("="):
        raise _wrong(text, at, "= is expected here", 'write FIELD=VALUE, e.g. "year=2018"')
    return path, (read or read_assigned)(rest[1:])


def read_assigned(text: str) -> Any:
    """Return the value of ``F=V``, as :func:`read_value`, but also JSON objects and ``null``."""
    text = text.strip()
    return None if text == "null" else read_json(text) if text.startswith("{") else read_value(text)


def read_json(text: str) -> Any:
    """Return the JSON value of *text*. Raises InvalidFilter with the position of the problem."""
    try:
        return json_value(strict_json(text))
    except json.JSONDecodeError as exc:
        raise _wrong(text, exc.pos, f"this is not JSON: {exc.msg}", 'write JSON, e.g. {"a": 1}') from None
    except InvalidRequest as exc:
        raise InvalidFilter(exc.message) from None
    except ValueError as exc:  # a name twice in an object, or no number
        raise InvalidFilter(f"{exc}.") from None
