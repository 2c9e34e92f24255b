"""docs/reference/answers: each request there is sent again, and has the answer that is written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_pages_of_doors_have_the_answers_of_now() -> None:
    """To write them anew: ``python .ci/answers.py``."""
    done = subprocess.run(
        [sys.executable, ".ci/answers.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_answer_is_what_its_title_says() -> None:
    """An answer other than 200 or 206 shows an error on purpose."""
    wrong = []
    for page in sorted((ROOT / "docs/reference/answers").glob("*.md")):
        for title, status in re.findall(r"^## (.*?)$.*?^```\w+ title=\"(\d+)\"$", page.read_text(), re.MULTILINE | re.DOTALL):
            expected = ("400", "404") if title in ("Errors", "Absent chunk") else ("200", "206")
            if status not in expected:
                wrong.append((page.name, title, status))
    assert not wrong
