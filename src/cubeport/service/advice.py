"""Advice that works where it is read: in the words of a template, whose file has fields where a command for files has flags, and
after what was done already.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.cubes.repairs import flag

_QUOTED = r"""'[^']*'(?:"'"'[^']*')*|"[^"]*\""""
_FLAGS = rf"--(?:normalise|transform) (?:{_QUOTED})(?: --(?:normalise|transform) (?:{_QUOTED}))*"
_RUN = re.compile(rf"(?P<verb>\b(?:repeat|ingest) with )?(?P<run>{_FLAGS})")
_BARE = re.compile(r"--(normalise|transform)\b")
_FIELD = re.compile(rf"--(?P<flag>group|period-type|chunks|variables|filter-by-keys)(?: (?P<value>{_QUOTED}|[^\s;,.)]+))?")
_FIELDS = {"normalise": "normalise", "transform": "transforms", "period-type": "period_type", "chunks": "layout: {chunks: …}"}
_IN_SOURCE = {"group": "group", "filter-by-keys": "filter_by_keys"}

OPTIONS = {"normalise": "--normalise", "transforms": "--transform"}
"""The flag of each kind of steps that a template has."""

type Steps = Mapping[str, Sequence[Mapping[str, Any]]]
"""The steps of a template or a version, by ``normalise`` and ``transforms``."""


def of_version(text: str, dataset_id: str, steps: Steps | None) -> str:
    """Return a warning of a version, which exists by now, so that what it advises makes the version again.

    Parameters
    ----------
    steps
        For an update, the steps of its dataset. A warning is of the whole cube, so all files go through them again.
    """
    held = [flag(each, option) for name, option in OPTIONS.items() for each in (steps or {}).get(name, ())]
    again = "repeat" if steps is None else f"ingest all files of {dataset_id} again"

    def said(found: re.Match[str]) -> str:
        return " ".join((f"{again} with --replace", *held, found["run"])) if found["verb"] else found[0]

    return _RUN.sub(said, text)


def of_template(text: str, template_id: str, steps: Steps) -> str:
    """Return a text that names flags of a command for files with the fields of a template instead.

    Parameters
    ----------
    steps
        Those that the template has. Its lists with them and the steps of the text are what its file has to have.
    """

    def run(found: re.Match[str]) -> str:
        given, lines = shlex.split(found["run"]), []
        for name, option in OPTIONS.items():
            new = [step for its, step in zip(given[::2], given[1::2], strict=True) if its == option]
            if new:
                # Advice with deaccumulate has all steps, because one of them becomes another.
                is_whole = any(step.startswith("deaccumulate: ") for step in new)
                old = [] if is_whole else [shlex.split(flag(each))[1] for each in steps.get(name, ())]
                lines.append(f"{name}: [{', '.join(f'{{{step}}}' for step in (*old, *new))}]")
        return f"{'repeat with ' if found['verb'] else ''}{' and '.join(lines)}"

    def field(found: re.Match[str]) -> str:
        name, value = found["flag"], found["value"]
        if name in _IN_SOURCE:
            return f"{_IN_SOURCE[name]}{f': {value}' if value and name == 'group' else ''} in its source"
        if name == "variables":
            return f"variables: [{', '.join(shlex.split(value)[0].split(','))}]" if value else "variables"
        return _FIELDS[name] if name == "chunks" or not value else f"{_FIELDS[name]}: {value}"

    said = _FIELD.sub(field, _BARE.sub(lambda found: _FIELDS[found[1]], _RUN.sub(run, text)))
    return text if said == text else f"{said} (in the template {template_id})"
