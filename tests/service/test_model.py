"""A dataset against dictionaries of its days: whatever is done to it, in whatever order, what cubeport says of it is so.

The machine does not foresee what is refused. It holds every answer to its word: a refusal changes nothing, «replaced» is exactly
the sources, «nothing changed» is only said where what was asked for is there, and a dry run says what happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import cubeport
from cubeport.errors import CubeportError
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest
from cubeport.service.service import Service

type Days = dict[int, float]

FILES = st.integers(0, 3)
HOW = st.sampled_from([{}, {"overwrite": True}, {"mode": "replace"}])
OVERLAPS = st.sampled_from([None, "error", "skip", "replace"])
TEMPLATE = """\
id: {name}
title: Days
period_type: daily
source: {{kind: files, paths: {folder}/*.nc}}
"""


def write(path: Path, days: Days) -> None:
    values = np.array(list(days.values()), "f4")[:, None, None] * np.ones((1, 2, 2), "f4")
    axes = {
        "time": ("time", list(days), {"units": "days since 2020-01-01", "standard_name": "time"}),
        "lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}),
        "lon": ("lon", [1.0, 2.0], {"units": "degrees_east"}),
    }
    xr.Dataset({"t": (("time", "lat", "lon"), values)}, axes).to_netcdf(path, engine="h5netcdf")


def day(number: int) -> str:
    return f"2020-01-{number + 1:02}"


class Machine(RuleBasedStateMachine):
    service: Service
    root: Path
    made = 0

    @initialize()
    def make(self) -> None:
        Machine.made += 1
        self.name = f"sea{Machine.made}"
        self.folder = self.root / self.name
        self.folder.mkdir()
        self.there: dict[int, Days] = {}
        """The days of each file."""
        self.held: Days | None = None
        """The days of the published version; ``None`` if there is no dataset, or a deleted one."""
        self.versions: dict[str, Days] = {}
        for number in range(4):
            self.put(number, number * 2, 2, number)

    def path(self, number: int) -> Path:
        return self.folder / f"{number}.nc"

    def put(self, number: int, start: int, count: int, value: float) -> None:
        self.there[number] = {start + each: value + 10 * each for each in range(count)}
        write(self.path(number), self.there[number])

    @rule(number=FILES, start=st.integers(0, 8), count=st.integers(1, 3), value=st.integers(0, 3))
    def the_provider_writes(self, number: int, start: int, count: int, value: int) -> None:
        self.put(number, start, count, value)

    # --- what is asked, and what may be believed ---

    def ask(self, **asked: Any) -> Ingestion | None:
        """Return what was done; ``None`` if it was refused."""
        files = tuple(str(self.path(each)) for each in asked.pop("files", ()))
        request, options = IngestionRequest.model_validate({"dataset_id": self.name, **asked}), FileOptions(files=files)
        try:
            planned = self.service.ingest_here(request.model_copy(update={"dry_run": True}), options).plan
        except CubeportError:
            planned = None
        try:
            done = self.service.ingest_here(request, options)
        except CubeportError:
            assert planned is None, "a dry run is refused too"
            return None
        assert done.status in ("completed", "failed"), done
        if done.status == "failed":
            return None
        assert planned is not None, done
        adds = {"append", "extend", "revise"}  # which of them, the file says, and a dry run does not read it
        assert done.reused or planned.action == done.action or {planned.action, done.action} <= adds, "a dry run says what happens"
        return done

    def now(self) -> Days | None:
        """Return the days that a reader gets."""
        try:
            data = self.service[self.name].open()
        except CubeportError:
            return None
        assert (data.t == data.t.isel(lat=0, lon=0)).all()
        return dict(zip(data.time.dt.dayofyear.values.tolist(), data.t[:, 0, 0].values.tolist(), strict=True))

    def keep(self, done: Ingestion | None) -> None:
        """Remember what the published version has, which is read and not foreseen."""
        found = self.now()
        self.held = None if found is None else {number - 1: value for number, value in found.items()}
        if done is not None and done.version_id is not None and self.held is not None:
            known = self.versions.setdefault(done.version_id, self.held)
            assert known == self.held, "a version never changes"

    @invariant()
    def what_is_there_stays(self) -> None:
        if hasattr(self, "held"):
            before, _ = self.held, self.keep(None)
            assert self.held == before

    def union(self, files: list[int], on_overlap: str | None) -> Days:
        joined: Days = {}
        for each in sorted(files, key=lambda number: min(self.there[number])):
            for number, value in self.there[each].items():
                if on_overlap != "skip" or number not in joined:
                    joined[number] = value
        return dict(sorted(joined.items()))

    def disjoint(self, files: list[int]) -> bool:
        return sum(len(self.there[each]) for each in files) == len({number for each in files for number in self.there[each]})

    @rule(files=st.lists(FILES, min_size=1, max_size=3, unique=True), mode=st.sampled_from(["create", "replace"]))
    def files_are_ingested(self, files: list[int], mode: str) -> None:
        before = self.held
        done = self.ask(files=files, mode=mode)
        self.keep(done)
        if done is None:
            assert self.held == before
            return
        assert self.held is not None
        whole = self.union(files, None)
        if self.disjoint(files):
            if not done.reused or mode == "replace":
                assert self.held == whole, (done.action, done.reused)
            else:
                assert whole.items() <= self.held.items(), "nothing changed"

    @rule(file=FILES, on_overlap=OVERLAPS, allow_gaps=st.booleans())
    def a_file_is_added(self, file: int, on_overlap: str | None, allow_gaps: bool) -> None:
        before, new = self.held, self.there[file]
        done = self.ask(files=[file], mode="update", on_overlap=on_overlap, allow_gaps=allow_gaps)
        self.keep(done)
        if done is None:
            assert self.held == before
            return
        assert before is not None
        assert self.held == dict(sorted(({**new, **before} if on_overlap == "skip" else {**before, **new}).items()))
        if on_overlap in (None, "error"):
            assert all(new[number] == before[number] for number in new.keys() & before.keys()), "refused where they differ"
        assert done.reused == (self.held == before), done

    @precondition(lambda self: self.held is not None)
    @rule(data=st.data())
    def it_goes_back(self, data: st.DataObject) -> None:
        to = data.draw(st.sampled_from(sorted(self.versions)))
        try:
            self.service.rollback(self.name, to=to)
        except CubeportError:
            assert self.now() is not None
            return
        self.keep(None)
        assert self.held == self.versions[to]

    @rule(how=st.sampled_from(["delete", "purge", "restore", "hide"]))
    def it_goes_or_comes(self, how: str) -> None:
        before = self.held
        try:
            if how in ("delete", "purge"):
                self.service.delete(self.name, purge=how == "purge")
            elif how == "restore":
                self.service.restore(self.name)
            else:
                self.service.unpublish(self.name)
        except CubeportError:
            assert how == "restore" or before is None
            return
        assert self.now() is None, "what is restored is not published"
        if how in ("restore", "hide"):
            self.service.publish(self.name)
        elif how == "purge":
            self.versions = {}
        self.keep(None)
        assert self.held == before if how == "hide" else self.held is None or self.held in self.versions.values()
        assert how != "restore" or self.held is not None


class Follower(Machine):
    """The dataset of a template, whose files are all that are there."""

    files_are_ingested = a_file_is_added = None  # type: ignore[assignment]

    @initialize()
    def make(self) -> None:
        super().make()
        for number in (2, 3):  # they come later
            self.path(number).unlink()
            del self.there[number]
        config = self.root / "instance" / "config" / "datasets"
        (config / f"{self.name}.yaml").write_text(TEMPLATE.format(name=self.name, folder=self.folder))

    @rule(start=st.integers(0, 8), length=st.sampled_from([None, None, 0, 4]), how=HOW)
    def some_periods_are_ingested(self, start: int, length: int | None, how: dict[str, Any]) -> None:
        self.template(start, length, how)

    @precondition(lambda self: self.held is not None)
    @rule(how=HOW)
    def all_that_there_is_is_ingested(self, how: dict[str, Any]) -> None:
        self.template(None, None, how)

    def template(self, start: int | None, length: int | None, how: dict[str, Any]) -> None:
        end = None if length is None or start is None else start + length
        asked = {"start": None if start is None else day(start), "end": None if end is None else day(end)}
        before, source = self.held, self.union(list(self.there), None)
        done = self.ask(**{name: each for name, each in asked.items() if each is not None}, **how)
        self.keep(done)
        if done is None:
            assert self.held == before
            return
        assert self.held is not None
        inside = [each for each in self.held if (start is None or each >= start) and (end is None or each <= end)]
        if how.get("overwrite"):
            taken = [each for each in inside if each in source]  # what the source has no more is kept
        elif how.get("mode") == "replace":
            taken = list(self.held)
        else:
            taken = [each for each in self.held if each not in (before or {})]
        assert {each: self.held[each] for each in taken} == {each: source.get(each) for each in taken}, (done.action, done.reused)
        kept = (before or {}).keys() - set(taken)
        assert {each: self.held.get(each) for each in kept} == {each: (before or {})[each] for each in kept}
        if start is not None and end is not None:
            assert set(range(start, end + 1)) & source.keys() <= self.held.keys(), "all that was asked for is there"

    @rule(value=st.integers(0, 3))
    def the_provider_goes_on(self, value: int) -> None:
        """Writes the days after the last, and changes the first ones."""
        last = max(number for days in self.there.values() for number in days)
        self.put(3 if 2 in self.there else 2, last + 1, 2, value)
        self.put(0, 0, 2, value)

    @precondition(lambda self: self.held is not None)
    @rule()
    def it_is_synced(self) -> None:
        before, source = self.held or {}, self.union(list(self.there), None)
        try:
            synced = self.service.sync(self.name)
        except CubeportError:
            synced = None
        self.keep(None)
        assert self.held is not None
        assert before.keys() <= self.held.keys()
        if synced is not None:
            new = self.held.keys() - before.keys()
            assert {each: self.held[each] for each in new} == {each: source[each] for each in new}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One instance for all runs of both machines; each run has a dataset of its own."""
    Machine.root = tmp_path_factory.mktemp("model")
    prepare(Machine.root / "instance", allow_roots=(str(Machine.root),))
    (Machine.root / "instance" / "config" / "datasets").mkdir(parents=True, exist_ok=True)
    with cubeport.connect(Machine.root / "instance") as Machine.service:
        yield


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("runs", [3, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [Machine, Follower])
def test_what_is_said_of_a_dataset_is_so(kind: type[Machine], runs: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        kind,
        settings=settings(
            max_examples=runs,
            stateful_step_count=12,
            deadline=None,
            phases=[Phase.generate],  # a shorter run that fails too is not worth its minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
