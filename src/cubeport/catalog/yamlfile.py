"""Configuration files: YAML 1.2 core, read safely, with the place of every key.

Dates stay text, ``${X}`` is plain text, ``on`` and ``yes`` are words; duplicate keys are refused. YAML is never made from data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cubeport.errors import InvalidConfiguration, Problem

MAX_BYTES = 1024 * 1024
MAX_NODES = 20_000
"""Values in one file, aliases expanded: a few lines of nested aliases could otherwise fill the memory."""


_TAGS = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("map", "seq", "str", "int", "float", "bool", "null"))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - a class attribute of PyYAML's, replaced as a whole


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first) if _tag != "null" else ["~", "n", "N", ""]
    )


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A file's value and the line and column of each of its nodes."""

    path: Path
    name: str
    """As messages call it: relative to the instance."""
    value: Any
    places: dict[tuple[str | int, ...], tuple[int, int]]

    def place(self, loc: Sequence[str | int]) -> str:
        """Return ``name:line:column`` of the node at *loc*, or of its nearest parent."""
        loc = tuple(loc)
        while loc and loc not in self.places:
            loc = loc[:-1]
        line, column = self.places.get(loc, (1, 1))
        return f"{self.name}:{line}:{column}"

    def problem(self, loc: Sequence[str | int], message: str, kind: str = "invalid-configuration") -> Problem:
        """Return one problem whose message begins with its place: ``config/x.yaml:14:9: sync.kind: …``."""
        where = ".".join(map(str, loc))
        return Problem(tuple(loc), kind, f"{self.place(loc)}: {where + ': ' if where else ''}{message}")

    def problems(self, error: ValidationError, known: Iterable[str] = ()) -> list[Problem]:
        """Return pydantic's findings with their places; an unknown key gets the nearest of *known* names."""
        known = list(known)
        found = []
        for each in error.errors(include_input=False, include_url=False):
            message = each["msg"].removeprefix("Value error, ")
            if each["type"] == "extra_forbidden":
                near = difflib.get_close_matches(str(each["loc"][-1]), known, n=1)
                message = "unknown key" + (f"; did you mean '{near[0]}'?" if near else "")
            found.append(self.problem(each["loc"], message, each["type"]))
        return found


def load(path: Path, *, name: str | None = None) -> YamlFile:
    """Return the file's value with places.

    Raises
    ------
    InvalidConfiguration
        If it cannot be read, is no YAML, is over 1 MiB, or names a key twice; with file, line and column.
    """
    name = name or path.name
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidConfiguration(f"{name}: cannot be read: {exc.strerror}") from exc
    return parse(data, path=path, name=name)


def parse(data: bytes, *, path: Path, name: str) -> YamlFile:
    """Return the value of *data*; see :func:`load`."""
    if len(data) > MAX_BYTES:
        raise InvalidConfiguration(f"{name}: is over {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            places: dict[tuple[str | int, ...], tuple[int, int]] = {}
            value = _value(loader, node, (), places, name) if node is not None else None
        finally:
            loader.dispose()
    except UnicodeDecodeError as exc:
        raise InvalidConfiguration(f"{name}: is not UTF-8") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidConfiguration(f"{name}{where}: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise InvalidConfiguration(f"{name}: is not YAML") from exc
    return YamlFile(path, name, value, places)


def _value(
    loader: _Loader,
    node: yaml.Node,
    loc: tuple[str | int, ...],
    places: dict[tuple[str | int, ...], tuple[int, int]],
    name: str,
) -> Any:
    mark = node.start_mark
    places.setdefault(loc, (mark.line + 1, mark.column + 1))
    if node.tag not in _TAGS:
        raise InvalidConfiguration(f"{name}:{mark.line + 1}:{mark.column + 1}: the tag {node.tag[:60]} is not allowed")
    if len(places) > MAX_NODES:
        raise InvalidConfiguration(f"{name}: holds more than {MAX_NODES} values")
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]  # PyYAML has no annotations here
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key, Hashable) or not isinstance(key, str):
                key = str(key_node.value)
            if key in mapping:
                raise InvalidConfiguration(f"{name}:{place[0]}:{place[1]}: {'.'.join(map(str, (*loc, key)))}: duplicate key")
            places[(*loc, key)] = place
            mapping[key] = _value(loader, value_node, (*loc, key), places, name)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*loc, i), places, name) for i, child in enumerate(node.value)]
    return loader.construct_object(node, deep=True)  # type: ignore[no-untyped-call]  # as above
