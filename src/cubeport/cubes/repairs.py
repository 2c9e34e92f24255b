"""Refusals that a step of ``normalise`` resolves, with the command-line flag ready to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from cubeport.errors import SourceRejected


def flag(step: Mapping[str, Any]) -> str:
    """Return a step of ``normalise`` as a command-line flag, quoted for a shell."""
    ((name, value),) = step.items()
    return f"--normalise {shlex.quote(f'{name}: {json.dumps(value, ensure_ascii=False)}')}"


def repairable(message: str, *, reason: str, repair: Mapping[str, Any], before: str = "repeat with") -> SourceRejected:
    """Return a refusal that the ``normalise`` step *repair* resolves. Its next step contains the flag ready to paste."""
    return SourceRejected(message, reason=reason, next_step=f"{before} {flag(repair)}", repair=[dict(repair)])
