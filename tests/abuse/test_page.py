"""docs/explanation/abuse.md: every fault has a row, and every test that a row names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.catalog.test_blackbox import CELL, definitions

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [*(f"F{n}" for n in range(1, 8)), *(f"M{n}" for n in range(1, 11)), *(f"L{n}" for n in range(1, 18))]


def rows() -> dict[str, list[str]]:
    page = (ROOT / "docs" / "explanation" / "abuse.md").read_text()
    found = re.findall(r"^\| ([FML]\d+) .* \| (.*) \|$", page, re.MULTILINE)
    return {name: CELL.findall(cell) for name, cell in found}


def test_every_fault_has_a_row_with_tests() -> None:
    assert list(rows()) == FAULTS
    assert [name for name, tests in rows().items() if not tests] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_every_test_of_a_row_exists(fault: str) -> None:
    for name in rows()[fault]:
        path, _, inner = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert not inner or inner in definitions(ROOT / path), name
