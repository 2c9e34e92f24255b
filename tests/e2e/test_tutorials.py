"""The tutorials work as written: a folder becomes a dataset, and clients that know nothing of cubeport read its numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.pages import Follower

from .conftest import start, stop


def test_the_tutorials_work_as_written(tmp_path: Path) -> None:
    officer = Follower(tmp_path)
    officer.follow("tutorials/publish.md")
    assert "tas" in officer.outputs[-1]
    assert "Air temperature" in officer.outputs[-1]
    process, url = start(tmp_path / "climate")
    try:
        scientist = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        assert scientist.follow("tutorials/read.md") == 1
    finally:
        stop(process)
    _, series, _, sizes, coverage = scientist.outputs
    assert [float(row["tas"]) for row in csv.DictReader(io.StringIO(series))] == [281.0, 282.0]
    assert sizes.strip() == "{'time': 2, 'lat': 11, 'lon': 21}"
    assert set(json.loads(coverage)["ranges"]["tas"]["values"]) == {285.0}
