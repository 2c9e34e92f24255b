"""The time that counts: that of this machine, or that of the database which several machines share.

Ages decide what is removed (retention, old jobs, uploads) and what is due, and two machines must agree on them. If a catalog is in
a database server, its clock counts. It is asked seldom, and its time is carried on by the time since the start of this machine,
which nobody sets. So a wrong clock of one machine, or one that is set while it runs, changes nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_ASKED_EVERY_S = 60.0
_followed: tuple[datetime, float] | None = None
"""The time of the database, and when it was told, in seconds since the start of this machine."""


def now() -> datetime:
    """Return the current time in UTC. It is only information; the generation of the catalog gives the order of changes."""
    if _followed is None:
        return datetime.now(UTC)
    at, told = _followed
    return at + timedelta(seconds=elapsed() - told)


def follow(at: datetime, told: float) -> None:
    """From now on, return the time of a database that said *at* when :func:`elapsed` was *told*."""
    global _followed  # one process has one time, as it has one clock
    _followed = at.astimezone(UTC), told


def has_come(moment: datetime, *, within: timedelta, at: datetime | None = None) -> bool:
    """Return whether a moment that was set for *within* from then, or sooner, has come.

    If it is still further ahead, the clock was set back since, and it counts as come: nobody waits for the hours, or years, by
    which a clock was wrong.
    """
    ahead = moment - (at or now())
    return not timedelta() < ahead <= within


def is_stale() -> bool:
    """Return whether the database should be asked again."""
    return _followed is None or elapsed() - _followed[1] > _ASKED_EVERY_S


def elapsed() -> float:
    """Return the seconds since the start of this machine, also those in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
