"""Refusals that a step of ``normalise`` resolves, with the command-line flag ready to paste."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.errors import SourceRejected


def flag(step: Mapping[str, Any], option: str = "--normalise") -> str:
    """Return a step of ``normalise``, or of another *option*, as a command-line flag, quoted for a shell."""
    ((name, value),) = step.items()
    return f"{option} {shlex.quote(f'{name}: {json.dumps(value, ensure_ascii=False)}')}"


_QUOTED = r"""(?:'[^']*'|"'")+"""


def after(told: str, option: str, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return a next step in which the flags of *option* follow those of *steps*.

    A request whose steps are those of its dataset loses them by the first one that it gives itself. A run of flags with
    ``deaccumulate`` is unchanged: such advice has all steps, because one of them becomes another.
    """
    before = "".join(f"{flag(step, option)} " for step in steps)
    one = f"{option} {_QUOTED}"
    return re.sub(f"{one}(?: {one})*", lambda match: match[0] if "'deaccumulate: " in match[0] else before + match[0], told)


def repairable(message: str, *, reason: str, repair: Mapping[str, Any], before: str = "repeat with") -> SourceRejected:
    """Return a refusal that the ``normalise`` step *repair* resolves. Its next step contains the flag ready to paste."""
    return SourceRejected(message, reason=reason, next_step=f"{before} {flag(repair)}", repair=[dict(repair)])
