"""Two instances against dictionaries: a dataset that moves between them, is withdrawn, restored, purged, tagged and derived from.

What a reader gets on each side is remembered after each step, so that nothing changes but by what was asked. A copy that is cut
off changes nothing; one that is not is the source in every value and text, whatever both sides did before.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.service.test_model import Days, write

import cubeport
from cubeport.errors import Conflict, CubeportError, DatasetExists, NotFound, SourceFailed, VersionRemoved
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.replicate import read_replica
from cubeport.service.service import Service
from cubeport.service.state import VERSION

SIDES = st.sampled_from(["there", "here", "here"])
REFS = st.sampled_from(["", "", "@a", "@b"])
CUTS = st.sampled_from([None, None, None, None, 1, 2, 3, 5, 8])


class Line:
    """Another instance, asked in this process, whose line breaks after some requests."""

    def __init__(self, other: Service, left: int | None) -> None:
        self.other, self.left, self.url = other, left, other.public_url

    def _passes(self) -> None:
        if self.left == 0:
            raise SourceFailed("the line is cut")
        self.left = None if self.left is None else self.left - 1

    def replica(self, ref: str) -> Any:
        self._passes()
        return self.other.replica(ref, unpublished=True).model_dump(mode="json")

    def manifest(self, ref: str) -> bytes:
        self._passes()
        dataset_id, _, version = ref.partition("@")
        return self.other.engines.manifest(dataset_id, version)

    def object(self, ref: str, key: str) -> bytes:
        self._passes()
        dataset_id, _, version = ref.partition("@")
        found = self.other.engines.read(dataset_id, version, key)
        assert found is not None
        with found.file as file:
            return file.read()

    def begin(self, digest: str, manifest: bytes, *, dataset_id: str) -> list[str]:
        self._passes()
        return list(self.other.begin_replica(digest, manifest, dataset_id=dataset_id))

    def put(self, digest: str, sha256: str, data: bytes) -> None:
        self._passes()
        self.other.put_replica(digest, sha256, [data])

    def finish(self, digest: str, replica: Mapping[str, Any], *, publish: bool, ref: str | None) -> dict[str, Any]:
        self._passes()
        read = read_replica(replica)
        assert read.digest == digest
        return self.other.arrive(read, publish=publish, ref=ref).to_mapping()


class Two(RuleBasedStateMachine):
    root: Path
    there: Service
    here: Service
    made = 0

    @initialize()
    def make(self) -> None:
        Two.made += 1
        self.name = f"sea{Two.made}"
        self.result = f"{self.name}-mean"
        self.held: dict[str, Days | None] = {"there": None, "here": None}
        """What a reader gets of the dataset."""
        self.mean: float | None = None
        """What a reader gets of the dataset that is derived from it here."""
        self.versions: dict[str, dict[str, Days]] = {"there": {}, "here": {}}
        self.cursors = {side: self.side(side).changes(limit=1000).next for side in self.held}
        self.shown: dict[str, dict[str, str | None]] = {"there": {}, "here": {}}
        self.ingested("there", 0, 3, 1, "create")

    def side(self, name: str) -> Service:
        return self.there if name == "there" else self.here

    # --- what readers get ---

    def now(self, side: str) -> Days | None:
        try:
            return self.read(side, self.side(side).shown(self.name).version.version_id)
        except NotFound:
            return None

    def read(self, side: str, version: str) -> Days:
        import xarray as xr

        from cubeport.adapters.engines.opened import VersionStore

        store: Any = VersionStore(self.side(side).engines, self.name, version)
        with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as data:
            assert (data.t == data.t.isel(lat=0, lon=0)).all()
            return dict(zip(data.time.values.tolist(), data.t.values[:, 0, 0].tolist(), strict=True))

    def average(self) -> float | None:
        import xarray as xr

        from cubeport.adapters.engines.opened import VersionStore

        try:
            version = self.here.shown(self.result).version.version_id
        except NotFound:
            return None
        store: Any = VersionStore(self.here.engines, self.result, version)
        with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as data:
            return float(data.t.values[0, 0, 0])

    def keep(self, side: str) -> None:
        self.held[side] = self.now(side)
        dataset = self.side(side)._datasets.find(self.name)
        for pointer in () if dataset is None else (dataset.state.latest, dataset.state.head):
            if pointer is not None and pointer not in self.versions[side]:
                self.versions[side][pointer] = self.read(side, pointer)

    @invariant()
    def nothing_else_changed(self) -> None:
        if not hasattr(self, "held"):
            return
        for side, held in self.held.items():
            assert self.now(side) == held, side
            for version, days in self.versions[side].items():
                try:
                    self.side(side).shown(f"{self.name}@{version}", unpublished=True)
                except NotFound:
                    continue  # it was removed, or is another record's
                assert self.read(side, version) == days, "a version never changes"
            self.replay(side)
        assert self.average() == self.mean

    def replay(self, side: str) -> None:
        page = self.side(side).changes(cursor=self.cursors[side], limit=1000)
        for change in page.items:
            if change.type == "removed":
                self.shown[side].pop(change.dataset_id, None)
            else:
                self.shown[side][change.dataset_id] = change.version_id
        self.cursors[side] = page.next
        for name in (self.name, self.result):
            try:
                version = self.side(side).shown(name).version.version_id
            except NotFound:
                version = None
            assert self.shown[side].get(name) == version, (side, name)

    # --- one side alone ---

    @rule(side=SIDES, start=st.integers(0, 6), count=st.integers(1, 3), value=st.integers(0, 3),
          mode=st.sampled_from(["create", "replace", "replace", "update"]))  # fmt: skip
    def ingested(self, side: str, start: int, count: int, value: float, mode: str) -> None:
        days = {start + each: value + 10 * each for each in range(count)}
        path = self.root / f"{self.name}.nc"
        write(path, days)
        request = IngestionRequest.model_validate(
            {"dataset_id": self.name, "mode": mode, **({"on_overlap": "replace", "allow_gaps": True} if mode == "update" else {})}
        )
        before = self.held[side]
        try:
            done = self.side(side).ingest_here(request, FileOptions(files=(str(path),)))
        except CubeportError:
            assert mode != "replace"
            return
        self.keep(side)
        if done.status == "completed":
            assert days.items() <= (self.held[side] or {}).items(), done
            assert mode != "replace" or self.held[side] == days
        else:
            assert mode != "replace", done.error
            assert self.held[side] == before

    @rule(side=SIDES, title=st.sampled_from(["One", "Two"]), doi=st.sampled_from([None, "10.1/x"]))
    def described(self, side: str, title: str, doi: str | None) -> None:
        try:
            self.side(side).describe(self.name, title=title, doi=doi)
        except NotFound:
            return
        texts = self.side(side).dataset(self.name).state.texts
        assert (texts.title, texts.doi) == (title, doi)

    @rule(side=SIDES, tag=st.sampled_from(["a", "b"]), data=st.data())
    def tagged(self, side: str, tag: str, data: st.DataObject) -> None:
        if not self.versions[side]:
            return
        version = data.draw(st.sampled_from(sorted(self.versions[side])))
        try:
            self.side(side).tag(self.name, tag, version=version, force=True)
        except NotFound:
            return
        pinned = self.side(side).shown(f"{self.name}@{tag}", unpublished=True).version.version_id
        assert pinned == version

    @rule(side=SIDES, data=st.data())
    def rolled_back(self, side: str, data: st.DataObject) -> None:
        if not self.versions[side]:
            return
        to, before = data.draw(st.sampled_from(sorted(self.versions[side]))), self.held[side]
        try:
            self.side(side).rollback(self.name, to=to)
        except NotFound:
            return
        self.keep(side)
        assert self.held[side] == (None if before is None else self.versions[side][to])

    @rule(side=SIDES, how=st.sampled_from(["delete", "purge", "restore", "publish", "unpublish"]))
    def goes_or_comes(self, side: str, how: str) -> None:
        service, before = self.side(side), self.held[side]
        try:
            if how in ("delete", "purge"):
                service.delete(self.name, purge=how == "purge")
            else:
                getattr(service, how)(self.name)
        except CubeportError:
            assert self.now(side) == before
            return
        self.keep(side)
        assert (self.held[side] is None) == (how != "publish")

    @rule(side=SIDES)
    def retention_frees_the_disk(self, side: str) -> None:
        service = self.side(side)
        service.retain()
        dataset = service._datasets.find(self.name)
        kept = set()
        if dataset is not None:
            state, newest = dataset.state, service.versions(self.name, limit=1)
            kept = {state.latest, state.head, *state.tags.values(), newest[0][0].version_id} - {None}
        known = [service.catalog.rows.get(VERSION, version) for version in self.versions[side]]
        retained = {row.id for row in known if row is not None and row.state == "retained"}
        live = {row.id for row in known if row is not None and dataset is not None and row.owner == dataset.record.id}
        assert live & retained == live & kept, "what is pointed to is kept, and nothing else"
        folder = self.root / side / "data/store" / self.name
        assert {each.name for each in folder.glob("*")} & self.versions[side].keys() == retained, "and the disk is free of it"

    # --- derived ---

    @rule(again=st.booleans())
    def derived(self, again: bool) -> None:
        try:
            source = self.here.shown(self.name, unpublished=True).version.version_id
        except NotFound:
            source = None
        try:
            if again:
                self.here.sync(self.result)
            else:
                params = {"period_type": "monthly", "method": "mean", "partial": True, "least": 0.01}
                done = self.here.derive("resample", [self.name], dataset_id=self.result, params=params)
                assert done.status == "completed", done.error
        except NotFound:
            assert source is None or again
            return
        assert source is not None
        self.mean = self.average()
        assert self.mean == pytest.approx(np.mean(list(self.read("here", source).values())))

    # --- from one to the other ---

    @rule(by=st.sampled_from(["pull", "push"]))
    def copied_as_it_is(self, by: str) -> None:
        self.copied("", None, by, publish=True, replace=True)

    @rule(ref=REFS, cut=CUTS, by=st.sampled_from(["pull", "push"]), publish=st.sampled_from([True, True, False]),
          replace=st.booleans())  # fmt: skip
    def copied(self, ref: str, cut: int | None, by: str, publish: bool, replace: bool) -> None:
        before, mine = self.held["here"], self.here._datasets.find(self.name)
        foreign = mine is not None and mine.state.head is not None and mine.state.mirror_of is None
        shown = self.here.shown(self.name).version.created_at if before is not None else None
        line = Line(self.there if by == "pull" else self.here, cut)
        asks = self.here if by == "pull" else self.there
        asks._elsewhere = lambda url, key: line
        try:
            source = self.there.shown(self.name + ref, unpublished=True).version.version_id
        except NotFound:
            source = None
        try:
            if by == "pull":
                self.here.pull(self.name + ref, line.url, publish=publish, replace=replace)
            else:
                self.there.push(self.name + ref, line.url, publish=publish)
        except CubeportError as exc:
            assert self.now("here") == before, "what was refused changed nothing"
            if isinstance(exc, SourceFailed):
                assert cut is not None
            elif isinstance(exc, DatasetExists):
                assert foreign
                assert by == "push" or not replace
            elif source is not None:
                [deleted] = re.findall("cubeport restore ([0-9a-f]{32})", exc.next_step or str(exc))
                with contextlib.suppress(DatasetExists):  # which says to delete the other first
                    self.here.restore(deleted)
            return
        assert source is not None
        self.keep("here")
        assert self.versions["here"][source] == self.read("there", source)
        assert "@" not in ref or self.here.shown(self.name + ref, unpublished=True).version.version_id == source
        leads_back = (
            ref != ""
            and not foreign
            and shown is not None
            and shown > self.there.shown(f"{self.name}@{source}", unpublished=True).version.created_at
        )
        if publish and leads_back:
            assert self.held["here"] == before, "a version that was named does not lead back"
            assert self.here.shown(f"{self.name}@{source}").version.version_id == source
        elif publish:
            assert self.held["here"] == self.read("there", source)
        else:
            assert self.held["here"] == before
        asks._elsewhere = lambda url, key: Line(self.there, None)
        self.here._elsewhere = asks._elsewhere
        if publish and ref == "":
            assert self.here.verify_mirror(self.name, line.url)["differs"] == []


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two instances for all runs; each run has a dataset of its own. What retention does not have to keep goes at once."""
    Two.root = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as said:
        for name in ("KEEP_LAST", "KEEP_DAYS", "GRACE_MIN"):
            said.setenv(f"CUBEPORT_RETENTION__{name}", str(int(name == "KEEP_LAST")))
        for side in ("there", "here"):
            prepare(Two.root / side)
            with (Two.root / side / "config/service.yaml").open("a") as file:
                file.write(f"public_url: https://{side}.example\n")
        with cubeport.connect(Two.root / "there") as Two.there, cubeport.connect(Two.root / "here") as Two.here:
            yield


@pytest.mark.usefixtures("instances")
@pytest.mark.parametrize(("runs", "steps"), [(2, 10), pytest.param(30, 20, marks=pytest.mark.slow)])
def test_a_dataset_that_moves_is_what_both_sides_say(runs: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Two,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # as for one instance
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def mirrored(instances: None) -> Two:
    """A mirror here of a dataset there."""
    two = Two()
    two.make()
    two.copied("", None, "pull", publish=True, replace=False)
    return two


def test_a_version_that_retention_removed_comes_again_when_its_source_shows_it(mirrored: Two) -> None:
    first = mirrored.here.shown(mirrored.name).version.version_id
    for by in ("pull", "push"):
        mirrored.ingested("here", 9, 1, 2, "update")
        mirrored.retention_frees_the_disk("here")
        with pytest.raises(VersionRemoved):
            mirrored.here.shown(f"{mirrored.name}@{first}")
        mirrored.copied("", None, by, publish=True, replace=False)
        mirrored.retention_frees_the_disk("here")
        assert mirrored.now("here") == mirrored.held["there"]
        assert mirrored.here.shown(f"{mirrored.name}@{first}").is_latest


@pytest.mark.parametrize("freed", [False, True])
def test_a_mirror_that_was_purged_can_be_made_again(mirrored: Two, freed: bool) -> None:
    mirrored.goes_or_comes("here", "purge")
    if freed:
        mirrored.retention_frees_the_disk("here")
    mirrored.copied("", None, "pull", publish=True, replace=False)
    mirrored.retention_frees_the_disk("here")
    assert mirrored.now("here") == mirrored.held["there"]
    mirrored.here.delete(mirrored.name, purge=True)
    assert mirrored.now("here") is None
    with pytest.raises(NotFound, match="purged"):
        mirrored.here.restore(mirrored.name)


def test_a_mirror_that_was_deleted_is_restored_and_not_copied_twice(mirrored: Two) -> None:
    mirrored.goes_or_comes("here", "delete")
    mirrored.here._elsewhere = lambda url, key: Line(mirrored.there, None)
    with pytest.raises(Conflict, match="was deleted") as refused:
        mirrored.here.pull(mirrored.name, mirrored.there.public_url)
    [deleted] = re.findall("cubeport restore ([0-9a-f]{32})", str(refused.value.next_step))
    mirrored.here.restore(deleted)
    mirrored.here.pull(mirrored.name, mirrored.there.public_url)
    assert mirrored.now("here") == mirrored.held["there"]


@pytest.mark.parametrize("by", ["pull", "push"])
def test_a_version_that_is_named_comes_beside_the_newer_one_with_its_tag(instances: None, by: str) -> None:
    """It became the published one, and its tag stayed where it was."""
    two = Two()
    two.make()
    old = two.there.shown(two.name).version.version_id
    two.there.tag(two.name, "paper", version=old)
    two.ingested("there", 3, 2, 1, "update")
    two.copied("", None, "pull", publish=True, replace=False)
    newest = two.here.shown(two.name).version.version_id
    line = Line(two.there if by == "pull" else two.here, None)
    asks = two.here if by == "pull" else two.there
    asks._elsewhere = lambda url, key: line
    for n, ref in enumerate(("@paper", f"@{old}", "@paper", "@latest")):
        done = asks.pull(two.name + ref, line.url) if by == "pull" else asks.push(two.name + ref, line.url)
        assert (done.added, done.changed) == (n == 0, () if ref == "@latest" else ("not published",))
        assert two.here.shown(two.name).version.version_id == newest
        assert two.here.dataset(two.name).state.head == newest
        assert (
            two.here.shown(f"{two.name}@paper").version.version_id == two.here.shown(f"{two.name}@{old}").version.version_id == old
        )
    two.ingested("there", 5, 2, 1, "update")
    two.there.tag(two.name, "paper", force=True)
    done = asks.pull(f"{two.name}@paper", line.url) if by == "pull" else asks.push(f"{two.name}@paper", line.url)
    assert two.here.shown(two.name).version.version_id == done.version_id == two.here.shown(f"{two.name}@paper").version.version_id


@pytest.mark.parametrize("by", ["gc", "fsck"])
def test_a_version_that_was_pulled_again_while_garbage_was_looked_for_stays(
    mirrored: Two, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The bytes of the purged dataset were listed, and those that had come in their place were removed, or put in quarantine."""
    module = importlib.import_module(f"cubeport.catalog.keeping.{by}")

    mirrored.here.catalog.purge(mirrored.here.delete(mirrored.name).id)
    listed = module.garbage

    def pulled(*arguments: Any) -> Any:
        found = listed(*arguments)
        assert "the dataset of this version was purged" in {each.reason for each in found}
        mirrored.here.pull(mirrored.name, mirrored.there.public_url)
        return found

    mirrored.here._elsewhere = lambda url, key: Line(mirrored.there, None)
    monkeypatch.setattr(module, "garbage", pulled)
    if by == "gc":
        assert [each.removed for each in mirrored.here.catalog.gc(older_than_s=0) if each.kind == "orphan-version"] == [False]
    else:
        assert not [each for each in mirrored.here.catalog.fsck(repair=True).repaired if "versions" in each]
    assert mirrored.now("here") == mirrored.held["there"]
