"""Every command and flag that a message names as the next step exists; a command that stands alone runs."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell
from tests.cli.test_help import LEAVES, ROOT

import cubeport
from cubeport.errors import SOURCE_REASONS

pytestmark = pytest.mark.slow

SOURCE = Path(cubeport.__file__).parent
NOT_COMMANDS = ("install cubeport", "upgrade cubeport")
FIRST_WORDS = {name.split()[0] for name in LEAVES}
GLOBAL = {each for parameter in ROOT.params for each in parameter.opts} | {"--help"}
PROSE = ("cannot",)
"""Words after the name of the program that begin a sentence about it."""


def texts(node: ast.expr) -> list[str]:
    """Return what an expression of text can be, with ``{}`` for values."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)]
        case ast.IfExp(body=one, orelse=other):
            return texts(one) + texts(other)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a, b in product(texts(left) or ["{}"], texts(right) or ["{}"])]
        case ast.BoolOp(values=values):
            return [text for value in values for text in texts(value)]
    return []


@cache
def advice() -> tuple[tuple[str, str], ...]:
    """Return each next step in the source, with its module: keyword arguments, default steps, and texts that begin as a command."""
    found = dict.fromkeys(("errors.py", text) for text in SOURCE_REASONS.values())
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "_help.py":
            continue  # examples of commands, which other tests run
        tree = ast.parse(path.read_text("utf-8"))
        # Not the pieces of a text with values, and not docstrings.
        parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        parts |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if node in parts:
                continue
            if isinstance(node, ast.keyword) and node.arg == "next_step":
                given = texts(node.value)
            elif isinstance(node, ast.Constant | ast.JoinedStr):
                given = [
                    text
                    for text in texts(node)
                    if text.startswith("cubeport ") and text.split()[1:2] and text.split()[1] in FIRST_WORDS
                ]
            else:
                continue
            found |= dict.fromkeys((path.relative_to(SOURCE).as_posix(), text) for text in given)
    return tuple(found)


def commands_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command that a text names, and the words after it up to the end of its part of the sentence."""
    for match in re.finditer(r"(?<![\w./'-])cubeport ([a-z][a-z-]*)([^;,.()\n`]*)", text):
        if not text[: match.start() + 8].endswith(NOT_COMMANDS):
            words = f"{match[1]}{match[2]}".split()
            name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in LEAVES), match[1])
            yield name, match[2]


def flags_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)


def flags_of(command: Any) -> set[str]:
    return {each for parameter in command.params for each in (*parameter.opts, *parameter.secondary_opts)} | GLOBAL


def test_every_command_and_flag_of_a_next_step_exists() -> None:
    every = set().union(*map(flags_of, LEAVES.values()))
    wrong: list[tuple[str, str, str]] = []
    for module, text in advice():
        for name, rest in commands_in(text):
            if name not in LEAVES and name not in (*FIRST_WORDS, *PROSE):
                wrong.append((module, text, f"there is no command {name}"))
            elif name in LEAVES:
                wrong += [(module, text, f"{name} has no {flag}") for flag in flags_in(rest) if flag not in flags_of(LEAVES[name])]
        # curl is the only other program whose flags are named.
        wrong += [(module, text, f"no command has {flag}") for flag in flags_in(text) if flag not in every and "curl" not in text]
    assert not wrong, "\n".join(map(str, wrong))


def test_a_planted_fault_is_found() -> None:
    assert list(commands_in("repeat it, or cubeport nonsense --x; see cubeport schema list")) == [
        ("nonsense", " --x"),
        ("schema list", " list"),
    ]
    assert "nonsense" not in FIRST_WORDS
    assert "--planted" not in set().union(*map(flags_of, LEAVES.values()))


ENDLESS = ("cubeport serve", "cubeport demo")
SENTENCES = ("cubeport add catalogues files that are not cubes",)


def test_a_command_that_is_the_next_step_runs(shell: Shell) -> None:
    alone = {text for _, text in advice() if re.fullmatch(r"cubeport [a-z][a-z-]*( [a-z-]+)*", text)}
    alone = {text for text in alone if next(commands_in(text))[0] in LEAVES and text not in (*ENDLESS, *SENTENCES)}
    assert len(alone) > 5
    for line in sorted(alone):
        said = shell(*shlex.split(line)[1:])
        kind = re.match(r"error\[([a-z-]+)\]", said.err)
        # It may find something, or say that it is already done; it may not be a line that cannot be meant.
        assert said.code in (0, 1, 3, 4), (line, said)
        assert kind is None or kind[1] not in ("usage", "internal"), (line, said)
