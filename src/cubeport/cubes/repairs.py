"""Refusals that a step of ``normalise`` cures: the step, and the flag of it ready to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from cubeport.errors import SourceRejected


def flag(step: Mapping[str, Any]) -> str:
    """Return a step of ``normalise`` as the command line takes it, quoted for a shell."""
    ((name, value),) = step.items()
    return f"--normalise {shlex.quote(f'{name}: {json.dumps(value, ensure_ascii=False)}')}"


def repairable(message: str, *, reason: str, repair: Mapping[str, Any], before: str = "repeat with") -> SourceRejected:
    """Return a refusal that the step *repair* of ``normalise`` cures; its next step has the flag ready to paste."""
    return SourceRejected(message, reason=reason, next_step=f"{before} {flag(repair)}", repair=[dict(repair)])
