"""Fixtures of the gate: one set of children for a module, with tasks of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cubeport.adapters.gate.tasks import TASKS, confined
from cubeport.adapters.sandbox.children import Children

MODULES = Path(__file__).resolve().parent / "modules"
_OURS = ("echo", "late", "refuse", "reach", "unshare", "interfaces", "read", "mutate", "kept")
OF_TESTS = {name: f"gate_tasks:{name}" for name in _OURS}


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with confined(tasks={**TASKS, **OF_TESTS}, modules=[MODULES]) as opened:
        yield opened
