"""What waits for a moment: it waits no longer than was meant, also if the clock was wrong when the moment was noted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cubeport.catalog.forms.clock import has_come

NOW, MINUTE, YEARS = datetime(2026, 6, 1, tzinfo=UTC), timedelta(minutes=1), timedelta(days=4000)


@pytest.mark.parametrize(
    ("ahead", "come"),
    [(-YEARS, True), (-MINUTE, True), (0 * MINUTE, True), (MINUTE, False), (4 * MINUTE, False), (5 * MINUTE, True), (YEARS, True)],
)
def test_a_moment_that_is_further_ahead_than_anybody_waits_has_come(ahead: timedelta, come: bool) -> None:
    assert has_come(NOW + ahead, within=4 * MINUTE, at=NOW) is come
