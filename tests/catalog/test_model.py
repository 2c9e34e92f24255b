"""The catalog against a dictionary: whatever is done to it, and wherever it fails or dies, both say the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import cubeport
from cubeport.catalog.disk import failpoints
from cubeport.catalog.disk.failpoints import FailPointRaised
from cubeport.errors import CubeportError, KeyExists

BEFORE = [
    "planned:after",
    "artifact_write_started:after",
    "bytes:half",
    "fsync:before",
    "publish:before",
    "publish:after",
    "artifact_write_succeeded:before",
    "catalog_write_started:before",
    "catalog_write_started:after",
]
AFTER = ["commit:unknown", "catalog_write_succeeded:before", "hooks_started:before", "afterwards:before", "committed:before"]
FAULTS = st.one_of(
    st.none(),
    st.tuples(st.sampled_from([*BEFORE, *AFTER]), st.sampled_from(["eio", "enospc"])),
    st.tuples(st.sampled_from(BEFORE), st.just("raise")),
)
KILLS = st.sampled_from([*BEFORE, *AFTER, "commit:after", "started:before", "committed:after"])


@dataclass
class Known:
    """What the dictionary holds of a record."""

    key: str | None
    title: str
    data: bytes | None
    status: str = "active"
    version: int = 1


class Machine(RuleBasedStateMachine):
    backend = "sqlite"
    children: subprocess.Popen[str]

    @initialize()
    def make(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "instance"
        self.catalog = cubeport.Catalog.create(self.root, self.backend, plugins=False)
        self.known: dict[str, Known] = {}
        self.made = 0

    def teardown(self) -> None:
        failpoints.arm("")
        if hasattr(self, "catalog"):
            self.catalog.close()
            shutil.rmtree(self.folder)

    # --- doing ------------------------------------------------------------------------------------------------------

    def attempt(self, fault, do):
        """Do it with the fault armed; return its result, or None when it was refused, having left no trace."""
        failpoints.arm("" if fault is None else "=".join(fault))
        try:
            return do()
        except (CubeportError, FailPointRaised, OSError):
            if fault is None:
                raise
            return None
        finally:
            failpoints.arm("")
            self.catalog.recover()

    def live_keys(self):
        return {each.key for each in self.known.values() if each.status != "deleted"} - {None}

    @rule(data=st.binary(max_size=20), key=st.sampled_from([None, "a", "b"]), fault=FAULTS, moved=st.booleans())
    def add(self, data, key, fault, moved):
        self.made += 1
        title = f"t{self.made}"
        if key in self.live_keys():
            with pytest.raises(KeyExists):
                self.catalog.add_bytes(data, key=key)
            return
        source = self.folder / "source.bin"
        source.write_bytes(data)
        done = self.attempt(
            fault,
            lambda: (
                self.catalog.add_file(source, operation="move", key=key, title=title)
                if moved
                else self.catalog.add_bytes(data, key=key, title=title, filename="same.bin")
            ),
        )
        assert source.exists() == (not (moved and done))
        if done is not None:
            self.known[done.id] = Known(key, title, data)

    def pick(self, data, *statuses):
        ids = [each for each, known in self.known.items() if known.status in statuses]  # ids are random, their order is not
        return ids[data.draw(st.integers(0, len(ids) - 1))]

    def has(self, *statuses):
        return any(each.status in statuses for each in getattr(self, "known", {}).values())

    @precondition(lambda self: self.has("active"))
    @rule(data=st.data(), fault=FAULTS)
    def update(self, data, fault):
        record = self.pick(data, "active")
        self.made += 1
        if self.attempt(fault, lambda: self.catalog.update(record, title=f"t{self.made}")) is not None:
            self.known[record].title = f"t{self.made}"
            self.known[record].version += 1

    @precondition(lambda self: self.has("active"))
    @rule(data=st.data(), fault=FAULTS)
    def delete(self, data, fault):
        record = self.pick(data, "active")
        if self.attempt(fault, lambda: self.catalog.delete(record)) is not None:
            self.known[record].status = "deleted"
            self.known[record].version += 1

    @precondition(lambda self: self.has("deleted"))
    @rule(data=st.data(), fault=FAULTS)
    def restore(self, data, fault):
        record = self.pick(data, "deleted")
        if self.known[record].key in self.live_keys():
            with pytest.raises(KeyExists):
                self.catalog.restore(record)
            return
        if self.attempt(fault, lambda: self.catalog.restore(record)) is not None:
            self.known[record].status = "active"
            self.known[record].version += 1

    @precondition(lambda self: self.has("active", "deleted"))
    @rule(data=st.data(), fault=FAULTS)
    def purge(self, data, fault):
        record = self.pick(data, "active", "deleted")
        if self.attempt(fault, lambda: self.catalog.purge(record)) is not None:
            del self.known[record]

    @precondition(lambda self: "new" not in self.live_keys())
    @rule(point=KILLS)
    def die_adding(self, point):
        assert self.child("add", point) == -signal.SIGKILL
        self.reopen()
        found = self.catalog.search('key="new"')
        if found:
            [record] = found
            self.known[record.id] = Known("new", None, b"new bytes" * 1000)

    @rule()
    def reopen(self):
        self.catalog.close()
        self.catalog = cubeport.Catalog.open(self.root, plugins=False)

    @rule()
    def collect(self):
        assert [each for each in self.catalog.gc(older_than_s=0) if not each.removed] == []

    def child(self, action, point):
        self.children.stdin.write(json.dumps({"root": str(self.root), "action": action, "points": point}) + "\n")
        self.children.stdin.flush()
        return int(self.children.stdout.readline())

    # --- what holds always ------------------------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self):
        if not hasattr(self, "catalog"):
            return
        records = {each.id: each for each in self.catalog.iterate(statuses=None, order=("id",))}
        assert {
            each.id: Known(each.key, each.title, self.bytes_of(each), each.status, each.version) for each in records.values()
        } == self.known
        assert self.catalog.recover() == []
        assert self.catalog.fsck(data=True).findings == ()

    def bytes_of(self, record):
        with self.catalog.open_artifact(record.id) as reading:
            return reading.read()


@pytest.mark.parametrize("backend", ["sqlite", "tinydb"])
@pytest.mark.parametrize("examples", [pytest.param(6), pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_the_catalog_is_a_dictionary_whatever_happens(backend, examples):
    script = Path(__file__).with_name("zygote.py")
    children = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    machine = type("Machine", (Machine,), {"backend": backend, "children": children})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=12 if examples < 50 else 40,
                deadline=None,
                derandomize=examples < 50,
                database=None,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            ),
        )
    finally:
        children.stdin.close()
        children.wait(30)
        children.stdout.close()
