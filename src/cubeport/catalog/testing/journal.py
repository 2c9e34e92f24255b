"""The contract of a journal as tests. They need pytest.

A third party inherits the class and defines the fixture ``open_journal``. Each call opens the same journal again, like another
process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.work.journal import Journal, JournalEntry, Line
from cubeport.errors import RecordExists

type OpenJournal = Callable[[], Journal]


def states(lines: Sequence[Line]) -> list[str]:
    """Return the states of *lines*, in order."""
    return [line.state for line in lines]


class JournalContract:
    """The contract on which recovery relies."""

    @pytest.fixture
    def journal(self, open_journal: OpenJournal) -> Journal:
        """The owner's journal."""
        return open_journal()

    @pytest.fixture
    def stranger(self, open_journal: OpenJournal) -> Journal:
        """The same journal, as another process sees it."""
        return open_journal()

    def begun(self, journal: Journal, *reached: str) -> JournalEntry:
        """Begin an operation that reaches these states."""
        entry = journal.begin(new_id())
        for state in ("started", *reached):
            entry.write(state)
        return entry

    def test_lines_are_numbered_and_read_back(self, journal: Journal, stranger: Journal) -> None:
        """Others can read what was written while its owner lives."""
        entry = journal.begin(new_id())
        entry.write("started", {"user_id": "ana", "nested": {"n": [1, 2.5, None]}})
        entry.write("planned")
        lines = stranger.read(entry.operation_id)
        assert [(line.n, line.state, line.operation_id) for line in lines] == [
            (0, "started", entry.operation_id),
            (1, "planned", entry.operation_id),
        ]
        assert lines[0].data == {"user_id": "ana", "nested": {"n": [1, 2.5, None]}}
        entry.leave()

    def test_a_living_owner_keeps_others_out_and_death_lets_one_in(self, journal: Journal, stranger: Journal) -> None:
        """Nobody waits for the lock."""
        entry = self.begun(journal)
        assert stranger.alive(entry.operation_id)
        assert stranger.take(entry.operation_id) is None
        entry.leave()
        assert not stranger.alive(entry.operation_id)
        taken = stranger.take(entry.operation_id)
        assert taken is not None
        assert states(taken.lines) == ["started"]
        assert journal.take(entry.operation_id) is None
        taken.leave()

    def test_whoever_takes_it_writes_on(self, journal: Journal, stranger: Journal) -> None:
        """The numbers continue."""
        entry = self.begun(journal, "planned")
        entry.leave()
        taken = stranger.take(entry.operation_id)
        assert taken is not None
        taken.write("rollback_started", {"cause": None})
        taken.leave()
        assert [(line.n, line.state) for line in journal.read(entry.operation_id)][-1] == (2, "rollback_started")

    def test_an_id_is_begun_once(self, journal: Journal, stranger: Journal) -> None:
        """Open operations are not begun again."""
        entry = self.begun(journal)
        with pytest.raises(RecordExists):
            stranger.begin(entry.operation_id)
        entry.leave()

    def test_closed_is_not_open_and_can_still_be_read(self, journal: Journal, stranger: Journal) -> None:
        """Recovery no longer handles it."""
        opened, closed = self.begun(journal), self.begun(journal, "committed")
        assert set(stranger.open_ids()) == {opened.operation_id, closed.operation_id}
        closed.close()
        assert stranger.open_ids() == [opened.operation_id]
        assert stranger.take(closed.operation_id) is None
        assert states(stranger.read(closed.operation_id)) == ["started", "committed"]
        assert [(lines[0].operation_id, states(lines)) for lines in stranger.closed()] == [
            (closed.operation_id, ["started", "committed"])
        ]
        opened.leave()

    def test_an_operation_that_wrote_nothing_leaves_nothing(self, journal: Journal, stranger: Journal) -> None:
        """Its owner died before its first line."""
        entry = journal.begin(new_id())
        entry.leave()
        taken = stranger.take(entry.operation_id)
        assert taken is not None
        taken.close()
        assert stranger.open_ids() == []
        assert list(stranger.closed()) == []

    def test_unknown_operations_have_no_lines(self, journal: Journal) -> None:
        """An unknown operation has no lines."""
        assert journal.read(new_id()) == []
        assert journal.take(new_id()) is None
        assert not journal.alive(new_id())
