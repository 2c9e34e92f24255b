"""A database that is down for an hour is a line in the log, and another when it is back, not one for each thread and try."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from cubeport.errors import BackendUnavailable, CubeportError, NoSpace
from cubeport.service.outages import CATALOG, REMINDER_S, Outages, Watch

CHORE = Watch("the task failed", "the task works again")


class Tried:
    """Something that many threads try, at a time that the test decides."""

    def __init__(self) -> None:
        self.now = 0.0
        self.outages = Outages(logging.getLogger("outages"), clock=lambda: self.now)

    def fails(self, exc: Exception, what: Watch = CATALOG) -> None:
        with suppress(CubeportError, OSError), self.outages.watched(what):
            raise exc

    def works(self, what: Watch = CATALOG) -> None:
        with self.outages.watched(what):
            pass


@pytest.fixture
def tried(caplog: pytest.LogCaptureFixture) -> Tried:
    caplog.set_level(logging.INFO, "outages")
    return Tried()


def test_an_outage_is_two_lines(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    tried.works()
    for second in range(90):
        tried.now = second
        for what in (CATALOG, CATALOG, CHORE):
            tried.fails(BackendUnavailable("connection refused"), what)
    tried.works()
    tried.works()
    tried.works(CHORE)
    assert caplog.messages == ["the catalog does not answer: connection refused", "the catalog answers again, after 89 s"]
    tried.fails(BackendUnavailable("connection refused"))
    assert len(caplog.messages) == 3, "the next outage is one of its own"


def test_another_reason_is_told_and_a_long_outage_is_told_again(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    tried.fails(BackendUnavailable("connection refused"))
    tried.fails(NoSpace("the disk is full"))
    tried.fails(BackendUnavailable("it starts"))
    assert caplog.messages == ["the catalog does not answer: connection refused", "the catalog does not answer: the disk is full"]
    tried.now = REMINDER_S
    tried.fails(BackendUnavailable("it starts"))
    tried.fails(BackendUnavailable("it starts"))
    assert caplog.messages[2:] == ["the catalog does not answer, for 60 min now: it starts"]


def test_what_fails_for_its_own_reason_is_told_by_its_own_name(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    tried.fails(OSError("no such folder"), CHORE)
    tried.works()
    tried.fails(OSError("no such folder"), CHORE)
    tried.works(CHORE)
    assert caplog.messages == ["the task failed: no such folder", "the task works again, after 0 s"]


def test_a_try_that_began_before_the_end_of_an_outage_is_no_new_one(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    tried.fails(BackendUnavailable("refused"))
    with suppress(CubeportError), tried.outages.watched(CATALOG):
        tried.now = 5
        tried.works()  # by another thread
        raise BackendUnavailable("refused")
    assert len(caplog.messages) == 2


def test_what_is_watched_is_raised(tried: Tried) -> None:
    with pytest.raises(NoSpace), tried.outages.watched(CATALOG):
        raise NoSpace("full")
    with pytest.raises(ValueError, match="a bug"), tried.outages.watched(CATALOG):
        raise ValueError("a bug")
