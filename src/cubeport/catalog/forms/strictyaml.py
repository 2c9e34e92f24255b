"""Read configuration files as plain values with their places: YAML 1.2 core schema, safe and strict.

PyYAML reads YAML 1.1, in which ``no`` is false, ``12:30`` is 750 and ``2024-01-01`` is a date, and it silently keeps the last of
two equal keys. Here, dates and ``${X}`` stay text; duplicate keys, tags and aliases are refused; and every problem has
``file:line:column``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cubeport.catalog.forms.wording import suggestion
from cubeport.errors import InvalidConfiguration, Problem

type Loc = tuple[str | int, ...]

MAX_BYTES = 1 << 20
"""The largest size of a configuration file, which people write by hand."""

_MAX_DEPTH = 32
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file and their places."""

    name: str
    """The name of the file in messages, relative to the instance, never a full path."""
    value: Any
    marks: Mapping[Loc, tuple[int, int]]
    """Line and column (from 1) of each key of a mapping or item of a list."""

    def place(self, loc: Loc) -> str:
        """Return ``file:line:column`` of *loc*, or of the nearest enclosing place in the file."""
        while loc and loc not in self.marks:
            loc = loc[:-1]
        line, column = self.marks.get(loc, (1, 1))
        return f"{self.name}:{line}:{column}"


def read(path: Path, name: str | None = None) -> Document:
    """Return the values of the file. A file with only comments gives ``None``.

    Raises
    ------
    InvalidConfiguration
        With the place of every duplicate key, tag and alias, or of the first syntax error.
    """
    name = name or path.name
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise _refused([Problem((name,), "too-big", f"{name}:1:1: is larger than {MAX_BYTES} bytes")])
    try:
        return parse(raw.decode("utf-8"), name)
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise _refused([Problem((name,), "bad-text", f"{name}:{line}:1: is not UTF-8")]) from exc


def parse(text: str, name: str) -> Document:
    """Return the values of *text*; see :func:`read`."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{name}:1:1"
        raise _refused([Problem((name,), "bad-yaml", f"{place}: {exc.problem or exc.context or 'is not YAML'}")]) from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise _refused([Problem((name,), "bad-yaml", f"{name}:1:1: is not YAML that can be read")]) from exc
    if node is None:
        return Document(name, None, {})
    builder = _Builder(name)
    value = builder.value(node, ())
    if builder.problems:
        raise _refused(builder.problems)
    return Document(name, value, builder.marks)


def problems(
    document: Document, errors: Iterable[Mapping[str, Any]], known: Mapping[Loc, Iterable[str]] | None = None
) -> list[Problem]:
    """Return pydantic's *errors* as problems with their place in *document*. *known* lists the keys of each level."""
    return [
        Problem(
            tuple(error["loc"]),
            str(error["type"]),
            f"{document.place(tuple(error['loc']))}: {explain(error, known or {})}",
        )
        for error in errors
    ]


def validated[M: BaseModel](document: Document, model: type[M], known: Mapping[Loc, Iterable[str]]) -> M:
    """Return *document* as *model*. *known* lists the keys of each level, to suggest a correction for a misspelt key.

    Raises
    ------
    InvalidConfiguration
        With all problems, each with ``file:line:column``.
    """
    try:
        return model.model_validate(document.value)
    except ValidationError as exc:
        raise _refused(problems(document, exc.errors(include_url=False), known)) from None


def explain(error: Mapping[str, Any], known: Mapping[Loc, Iterable[str]]) -> str:
    """Return our message for a pydantic error: ``sync.kind: 'tempral' is not one of …; did you mean 'temporal'?``."""
    loc: Loc = tuple(error["loc"])
    where = ".".join(str(part) for part in loc)
    match error["type"]:
        case "extra_forbidden":
            others = list(known.get(loc[:-1], ()))
            near = suggestion(str(loc[-1]), others)
            few = f"; there are {', '.join(others)}" if not near and 0 < len(others) <= _FEW else ""
            return f"{where}: is unknown{near or few}"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            given = str(error["input"])[:80]
            return f"{where}: {given!r} is not one of {', '.join(choices)}" + suggestion(given, choices)
        case "missing":
            return f"{where}: is required"
        case "model_type" | "dict_type" | "mapping_type" | "model_attributes_type":
            keys = ", ".join(sorted(known.get(loc, ())))
            return f"{where}: should be a mapping (key: value)" + (f" with {keys}" if keys else "")
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


_FEW = 12
"""Up to how many keys are listed where none is like the given one."""


def _refused(found: list[Problem]) -> InvalidConfiguration:
    return InvalidConfiguration("\n".join(problem.message for problem in found), errors=found)


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases, because a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # missing in the stubs
            raise yaml.composer.ComposerError(None, None, "aliases are refused; write the value again", event.start_mark)
        return super().compose_node(parent, index)


class _Builder:
    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[Loc, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.marks.setdefault(loc, _mark(node))
        if len(loc) > _MAX_DEPTH:
            return self._problem(node, loc, "too-deep", f"is nested deeper than {_MAX_DEPTH} levels")
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in _TAGS:
            return self._problem(node, loc, "bad-tag", "tags are refused")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, loc)
            case yaml.SequenceNode():
                return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
        return _scalar(str(node.value), plain=isinstance(node, yaml.ScalarNode) and node.style is None)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, loc, "bad-key", "a key must be text")
                continue
            key = str(key_node.value)
            if key in found:
                first = self.marks[(*loc, key)][0]
                self._problem(key_node, (*loc, key), "duplicate-key", f"appears twice, first in line {first}")
                continue
            self.marks[(*loc, key)] = _mark(key_node)
            found[key] = self.value(value_node, (*loc, key))
        return found

    def _problem(self, node: yaml.Node, loc: Loc, kind: str, why: str) -> None:
        line, column = _mark(node)
        where = ".".join(str(part) for part in loc) or "the file"
        self.problems.append(Problem(loc, kind, f"{self.name}:{line}:{column}: {where}: {why}"))


_TAGS = ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value")
"""The tags that PyYAML resolves plain text to. Here only the text decides, so all scalars with these tags are read alike."""


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(text: str, *, plain: bool) -> str | int | float | bool | None:
    if not plain:  # quoted or block
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    # Infinity and NaN stay text, because no setting accepts them and JSON cannot express them.
    return float(text) if _FLOAT.fullmatch(text) else text
