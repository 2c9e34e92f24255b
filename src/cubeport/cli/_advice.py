"""Commands in messages, as they work where the caller stands: the one place that knows how a next step names its instance."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cubeport.cli._help import HERE_ONLY, OVER_HTTP

_COMMAND = re.compile(r"(?<![\w./'-])cubeport (?P<words>(?P<name>[a-z][a-z-]*)(?: (?P<inner>[a-z][a-z-]*))?[^\n;`]*)")
_PLACED = re.compile(r"(?:^|\s)(?:--instance|--url|-i)\b|^(?:[a-z-]+ )+(?:--help|-h)\b")
"""The command says already where it runs, or asks for help, which every folder gives."""
_ANYWHERE = frozenset({"init", "demo"})
_NAMES = OVER_HTTP | HERE_ONLY.keys()
_REPLACED = re.compile(r"ingest FILES --id \S+ --replace\b")
"""What makes the same dataset again."""
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command line ran, if the caller said so: the folder of ``--instance``, or the address of ``--url``."""

    instance: Path | None = None
    url: str | None = None
    files: Sequence[str] = ()
    """The files that it named, as they were written."""
    arguments: Sequence[str] = ()
    """The command line itself, as it was given."""

    def pasted(self, text: str) -> str:
        """Return a text whose commands work when they are pasted: each names the same instance or service, and the same files."""
        if self.url is not None and (first := _COMMAND.match(text)) is not None and _name(first) in HERE_ONLY:
            return text if _PLACED.search(first["words"]) else f"who runs the service can run {text}"
        return _COMMAND.sub(self._placed, text)

    def _placed(self, match: re.Match[str]) -> str:
        name, words = _name(match), match["words"]
        if name is None or name in _ANYWHERE or _PLACED.search(words):
            return match[0]
        of_files = bool(self.files) and "ingest" in self.arguments
        if of_files and _REPLACED.match(words) and len(line := again(self.arguments, "--replace")) <= _LONGEST:
            return line  # with all its flags: without them other data would be made
        if self.files and len(files := shlex.join(self.files)) <= _LONGEST:  # longer where a shell has expanded a pattern
            words = re.sub(r"\bFILES\b", lambda _: files, words)
        if self.url is not None and name in OVER_HTTP:
            return f"cubeport --url {shlex.quote(self.url)} {words}"
        if self.url is None and self.instance is not None:
            return f"cubeport --instance {shlex.quote(str(self.instance))} {words}"
        return f"cubeport {words}"


def _name(match: re.Match[str]) -> str | None:
    """Return the command that a text names; ``None`` for a sentence about cubeport."""
    return next((each for each in (f"{match['name']} {match['inner']}", match["name"]) if each in _NAMES), None)


def again(arguments: Sequence[str], *more: str) -> str:
    """Return the command line as it was given, and more words at its end."""
    return shlex.join(["cubeport", *arguments, *more])


def below(here: Path, mark: str) -> list[str]:
    """Return the names of instances directly in a folder, in which a caller may have made one a moment ago."""
    try:
        return sorted(each.name for each in here.iterdir() if (each / mark).is_dir())
    except OSError:
        return []


def in_one_of(names: Sequence[str], arguments: Sequence[str]) -> str:
    """Return how to run the command line in the instance below the current folder, or in one of several."""
    lines = [shlex.join(["cubeport", "--instance", name, *arguments]) for name in names]
    if max(map(len, lines)) > _LONGEST:  # a shell has expanded a pattern
        lines = [f"export CUBEPORT_INSTANCE={shlex.quote(name)}" for name in names]
    return lines[0] if len(lines) == 1 else "\n  ".join(("one of these", *lines))
