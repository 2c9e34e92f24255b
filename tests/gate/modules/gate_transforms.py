"""A transform as a plugin has it, which children import."""

from __future__ import annotations

from typing import Any

import numpy as np


def above(values: Any, *, base: float = 5.0) -> Any:
    return np.maximum(values - base, 0)
