"""The page on reliability names every fail point, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from cubeport.catalog.disk.failpoints import SINGLE, STATES, STEPS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "core" / "reliability.md"


def test_every_fail_point_is_documented_and_every_documented_one_exists() -> None:
    text = PAGE.read_text().partition("The names are")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+(?::[a-z]+)?)`", text)) == {*STATES, *STEPS, *SINGLE}


def test_the_examples_fit_the_grammar() -> None:
    from cubeport.catalog.disk import failpoints

    found = re.findall(r"CUBEPORT_FAIL_POINTS=(\S+)", PAGE.read_text())
    assert len(found) == 3
    for each in found:
        failpoints.arm(each)
    failpoints.arm("")
