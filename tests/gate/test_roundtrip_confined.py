"""From a file to a published version and back, through real children and the real engine."""

from __future__ import annotations

import errno
import json
import os
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from cubeport.adapters.engines import zarr
from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.gate.measure import measure
from cubeport.adapters.gate.tasks import confined
from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.write_request import Measured, SourceWindow, Staging, WriteRequest, Written
from cubeport.errors import Cancelled, NotFound, SourceRejected
from cubeport.service.ports import Gate, Reader, Writer

from .desk import desk, same_values, source_of, tree, written


@pytest.fixture
def gate(children: Children) -> ConfinedGate:
    return ConfinedGate(children)


@pytest.fixture
def writer(tmp_path: Path) -> zarr.Writer:
    return zarr.Writer(tmp_path / "data")


@pytest.fixture
def reader(tmp_path: Path) -> zarr.Reader:
    return zarr.Reader(tmp_path / "data")


def staged(writer: zarr.Writer) -> Staging:
    staging, _ = writer.stage(secrets.token_hex(16), "made", secrets.token_hex(16))
    writer.begin(staging)
    return staging


def ingest(gate: ConfinedGate, writer: zarr.Writer, order: WriteRequest, staging: Staging) -> tuple[Written, Measured]:
    said = gate.write(order)
    found = gate.measure(staging.new, said)
    writer.assemble(staging)
    writer.sync(staging)
    writer.publish(staging)
    writer.clear(staging)
    return said, found


def test_they_are_what_the_service_asks_for(gate: ConfinedGate, writer: zarr.Writer, reader: zarr.Reader) -> None:
    # mypy holds the types together here: neither side imports the other.
    ports: tuple[Gate, Writer, Reader] = (gate, writer, reader)
    assert ports[1].name == "zarr"


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@pytest.mark.parametrize(
    "name", ["rlds_Amon_IPSL-CM6A-LR_185001.nc", "small_FC_167_mon_19601101.nc", "analysed_sst.zarr", "goes_Cloud_Top_Height.nc"]
)
def test_a_version_is_read_by_its_keys_and_equals_the_source(
    name: str, realdata: Path, gate: ConfinedGate, writer: zarr.Writer, reader: zarr.Reader, tmp_path: Path
) -> None:
    staging = staged(writer)
    said, found = ingest(gate, writer, WriteRequest(sources=(realdata / name,), target=staging.new), staging)
    assert isinstance(found.description, CubeDescription)
    assert found.documents["stac"]["extent"]
    assert said.sources[0]["sha256"] == gate.identify([realdata / name])[0]["sha256"]
    manifest = json.loads(reader.manifest("made", staging.version_id))
    assert len(manifest["entries"]) == found.files
    copy = tmp_path / "copy.zarr"
    for entry in manifest["entries"]:
        stored = reader.read("made", staging.version_id, entry["key"])
        assert stored is not None
        path = copy / entry["key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with stored.file as file:
            path.write_bytes(file.read())
    with xr.open_zarr(copy, chunks=None) as ours, source_of(realdata / name) as theirs:
        assert set(ours.variables) == set(theirs.variables)
        for key, variable in theirs.variables.items():
            assert same_values(variable.values, ours[key].values), key


def test_confinement_changes_no_byte(
    realdata: Path, gate: ConfinedGate, writer: zarr.Writer, reader: zarr.Reader, tmp_path: Path
) -> None:
    source = realdata / "eraint_uvz.nc"
    staging = staged(writer)
    _, found = ingest(gate, writer, WriteRequest(sources=(source,), target=staging.new), staging)
    said = written(tmp_path / "new", source)
    with desk([]) as context:
        here = measure({"target": str(tmp_path / "new"), "digests": said["digests"], "fields": None}, context)
    assert here["digest"] == found.digest
    assert tree(reader.path("made", staging.version_id)) == tree(tmp_path / "new/cube.zarr")


SMALL = ["rlds_Amon_IPSL-CM6A-LR_185001.nc", "small_FC_167_mon_19601101.nc", "eraint_uvz.nc", "era5-levels-members.grib"]


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
def test_kept_children_change_no_byte(realdata: Path, children: Children, writer: zarr.Writer, reader: zarr.Reader) -> None:
    gate = ConfinedGate(children)
    for name in SMALL:
        trees = []
        for keep in (None, "somebody"):
            staging = staged(writer)
            order = WriteRequest(sources=(realdata / name,), target=staging.new, keep=keep)
            said, _ = ingest(gate, writer, order, staging)
            assert (said.given is not None) == (keep is not None), name
            version = reader.path("made", staging.version_id).parent
            trees.append((tree(version), said.digests, said.sources))
        assert trees[0] == trees[1], name
    pids = [each.unit for each in children._idle]
    assert len(pids) == 2, "one that reads and one that checks"


@pytest.mark.parametrize("name", ["corrupt/damaged_chunk.nc", "README.md"])
def test_a_refusal_after_others_is_that_of_a_child_of_its_own(
    name: str, realdata: Path, gate: ConfinedGate, writer: zarr.Writer
) -> None:
    refusals = []
    for keep in ("somebody", None):
        good = staged(writer)
        gate.write(WriteRequest(sources=(realdata / SMALL[0],), target=good.new, keep="somebody"))
        bad = staged(writer)
        with pytest.raises(SourceRejected) as refusal:
            gate.write(WriteRequest(sources=(realdata / name,), target=bad.new, keep=keep))
        refusals.append(refusal.value.to_mapping())
    assert refusals[0] == refusals[1]


def test_what_is_too_much_for_a_kept_child_has_one_of_its_own(realdata: Path, writer: zarr.Writer) -> None:
    with confined(SourceLimits(kept_bytes=1_000)) as children:
        gate, staging = ConfinedGate(children), staged(writer)
        order = WriteRequest(sources=(realdata / SMALL[0],), target=staging.new, keep="somebody")
        said, _ = ingest(gate, writer, order, staging)
        assert said.given is None


def test_without_files_in_memory_each_has_a_child_of_its_own(
    realdata: Path, children: Children, writer: zarr.Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "vm.memfd_noexec")

    monkeypatch.setattr(os, "memfd_create", refuse)
    staging = staged(writer)
    order = WriteRequest(sources=(realdata / SMALL[0],), target=staging.new, keep="nobody")
    said, _ = ingest(ConfinedGate(children), writer, order, staging)
    assert said.given is None


def test_what_a_kept_child_checks_badly_is_checked_by_another(
    realdata: Path, children: Children, writer: zarr.Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, staging = ConfinedGate(children), staged(writer)
    said = gate.write(WriteRequest(sources=(realdata / SMALL[0],), target=staging.new, keep="somebody"))
    assert said.given is not None
    changed = {**said.given, "rlds/c/0/0/0": said.given["rlds/c/0/0/0"][:-1] + b"x"}
    with pytest.raises(SourceRejected):
        gate.measure(staging.new, replace(said, given=changed))
    assert not (staging.new / "manifest.json").exists()
    foreign = {**said.given, "../outside": b"x"}
    with pytest.raises(SourceRejected) as refusal:
        gate.measure(staged(writer).new, replace(said, given=foreign))
    assert refusal.value.reason == "unsafe"


def test_a_damaged_file_is_refused_and_leaves_no_version(realdata: Path, gate: ConfinedGate, writer: zarr.Writer) -> None:
    staging = staged(writer)
    with pytest.raises(SourceRejected) as refusal:
        gate.write(WriteRequest(sources=(realdata / "corrupt/damaged_chunk.nc",), target=staging.new))
    assert refusal.value.reason == "unreadable"
    writer.clear(staging)
    assert not any((writer.data / "staging").iterdir())


def test_an_order_is_carried_out_whole(realdata: Path, gate: ConfinedGate, writer: zarr.Writer) -> None:
    staging = staged(writer)
    order = WriteRequest(
        sources=(realdata / "cmems_mod_bal_phy_anfc_P1D.nc",),
        target=staging.new,
        window=SourceWindow(bbox=(23.4, 59.2, 23.5, 59.5)),
        variables=("thetao",),
        attributes={"title": "A window"},
        chunks={"depth": 3},
    )
    told: list[tuple[str, int, int]] = []
    said = gate.write(order, progress=lambda *step: told.append(step))
    found = gate.measure(staging.new, said, fields=["thetao"]).description
    assert set(said.digests) == {"thetao", "time", "depth", "latitude", "longitude"}
    assert found.title == "A window"
    assert found.variable("thetao").chunks[1] == 3
    west, south, east, north = found.spatial.bbox
    assert west <= 23.4 <= 23.5 <= east
    assert south <= 59.2 <= 59.5 <= north
    assert east - west < 0.2
    assert told[-1][0] == "writing"


def test_a_cancelled_job_ends_its_child(realdata: Path, gate: ConfinedGate, writer: zarr.Writer) -> None:
    def cancel(*_: object) -> None:
        raise Cancelled("the job was cancelled")

    staging = staged(writer)
    with pytest.raises(Cancelled):
        gate.write(WriteRequest(sources=(realdata / "eraint_uvz.nc",), target=staging.new), progress=cancel)


def test_identities_are_told_without_decoding(gate: ConfinedGate, realdata: Path, tmp_path: Path) -> None:
    import hashlib

    junk = tmp_path / "junk"
    junk.write_bytes(b"no data at all")
    (found,) = gate.identify([junk])
    assert (found["name"], found["size_bytes"]) == ("junk", 14)
    assert found["sha256"] == hashlib.sha256(b"no data at all").hexdigest()
    folder = tmp_path / "a.zarr"
    (folder / "v/c").mkdir(parents=True)
    (folder / "zarr.json").write_bytes(b"{}")
    (folder / "v/c/0").write_bytes(b"1")
    (whole,) = gate.identify([folder])
    assert whole["sha256"] == hashlib.sha256(b"v/c/0\x001zarr.json\x00{}").hexdigest()
    (folder / "v/c/1").symlink_to(junk)
    with pytest.raises(SourceRejected):
        gate.identify([folder])
    with pytest.raises(NotFound):
        gate.identify([tmp_path / "nothing"])
