"""The contract of a source as tests. They need pytest.

A third party inherits the class and gives the periods of its source::

    class TestOurs(SourceContract):
        there = (Period.parse("2024-01-01", "daily"), Period.parse("2024-01-02", "daily"))
        absent = Period.parse("2024-01-03", "daily")

        @pytest.fixture
        def source(self):
            return OurSource({"station": "18700"})
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cubeport.cubes.sources import Area, Fetched, Period, PeriodSource
from cubeport.errors import NoData


class SourceContract:
    """The contract on which the service relies.

    ``there`` contains consecutive, ascending periods that the source has. ``absent`` is a period outside them that it does not
    have.
    """

    there: ClassVar[Sequence[Period]]
    absent: ClassVar[Period]
    area: ClassVar[Area | None] = None

    @pytest.fixture
    def source(self) -> PeriodSource:
        """Return the source."""
        raise NotImplementedError

    def fetch(self, source: PeriodSource, period: Period | None, into: Path) -> Fetched:
        """Fetch a period, and check that its files or folders are below *into*."""
        into.mkdir(parents=True, exist_ok=True)
        fetched = source.fetch_period(period, self.area, into)
        assert isinstance(fetched, Fetched), "fetch_period returns cubeport.cubes.sources.Fetched"
        assert fetched.files, "a period that is there has files"
        for file in fetched.files:
            assert file.is_relative_to(into), f"{file} is not below the folder that was given"
            assert file.exists(), f"{file} was promised and is not there"
            assert not file.is_symlink(), f"{file} is a link: the gate follows none"
        return fetched

    def test_its_list_is_ascending_and_each_period_is_there_once(self, source: PeriodSource) -> None:
        first, last = min(*self.there, self.absent), max(*self.there, self.absent)
        listed = source.periods(first, last)
        if listed is None:
            pytest.skip("this source cannot list its periods")
        numbers = [each.number for each in listed]
        assert numbers == sorted(set(numbers))
        assert set(self.there) <= set(listed)
        assert self.absent not in listed

    def test_it_lists_only_what_is_asked_for(self, source: PeriodSource) -> None:
        listed = source.periods(self.there[0], self.there[0])
        assert listed is None or list(listed) == [self.there[0]]

    def test_a_period_comes_with_its_files(self, source: PeriodSource, tmp_path: Path) -> None:
        self.fetch(source, self.there[0], tmp_path / "a")

    def test_the_same_period_twice_is_the_same(self, source: PeriodSource, tmp_path: Path) -> None:
        found = [content(self.fetch(source, self.there[0], tmp_path / name), tmp_path / name) for name in "ab"]
        assert found[0] == found[1], "no state is kept, and nothing of the first fetch is missing in the second"

    def test_a_period_that_is_not_there_is_no_data(self, source: PeriodSource, tmp_path: Path) -> None:
        with pytest.raises(NoData):
            self.fetch(source, self.absent, tmp_path / "a")

    def test_what_it_says_of_the_bytes_is_what_it_says_when_asked(self, source: PeriodSource, tmp_path: Path) -> None:
        ask = getattr(source, "validator", None)
        if ask is None:
            pytest.skip("this source says nothing of its bytes: they come again when a fetch is repeated")
        fetched = self.fetch(source, self.there[0], tmp_path / "a")
        assert ask(self.there[0]) == fetched.validator

    def test_periods_of_one_unit_come_as_one(self, source: PeriodSource, tmp_path: Path) -> None:
        unit = getattr(source, "unit", str)
        assert isinstance(unit(self.there[0]), str)
        if len(self.there) < 2 or unit(self.there[0]) != unit(self.there[1]):
            pytest.skip("each period here has files of its own")
        found = [content(self.fetch(source, each, tmp_path / str(each)), tmp_path / str(each)) for each in self.there[:2]]
        assert found[0] == found[1]


def content(fetched: Fetched, below: Path) -> Mapping[str, Any]:
    """Return the sha256 of every file, by its path."""
    found: dict[str, Any] = {}
    for each in fetched.files:
        for file in sorted(p for p in (each, *each.rglob("*")) if p.is_file()):
            found[file.relative_to(below).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
