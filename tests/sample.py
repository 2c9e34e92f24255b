"""Cases of which a share runs always and all run with ``-m "slow or not slow"``: each alone finds nearly what all of them find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sample(cases: Iterable[Any], *, every: int) -> list[Any]:
    """Return *cases*, all but one of *every* with the marker ``slow``. A case is a value, or a tuple of several."""
    return [
        case if number % every == 0 else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for number, case in enumerate(cases)
    ]
