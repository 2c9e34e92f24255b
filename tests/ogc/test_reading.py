"""Opened versions: bounded caches that are never stale, and failures that are reported as failures, never as fill values."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Zstd

from cubeport.adapters.engines import zarr
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import parse
from cubeport.cubes.windows import Mask, Windows, count, touched
from cubeport.errors import Cancelled, Corrupt, StoreUnavailable, Unavailable
from cubeport.service.queries import AnswerDeadline

VERSION = "0123456789abcdef0123456789abcdef"
CHUNKS = {"time": 4, "latitude": 60, "longitude": 80}


@pytest.fixture(scope="module")
def co2(stored: Any) -> Any:
    return stored("SMALL_total_column_co2.nc", chunks=CHUNKS)


@pytest.fixture
def copied(co2: Any, tmp_path: Path) -> tuple[zarr.Reader, Path]:
    """A store of one's own to damage: the engine, and the folder of the packed variable's chunks."""
    engine = zarr.Reader(tmp_path / "data")
    target = engine.path(co2.dataset_id, VERSION).parent
    shutil.copytree(co2.engine.path(co2.dataset_id, VERSION).parent, target)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return engine, target / "cube.zarr" / "tcco2" / "c"


def window(co2: Any, **query: str) -> Windows:
    return resolve(co2.description, co2.open().labels(), parse(query.items(), forms=()))


CORNER = {"bbox": "0,80,1,90", "datetime": "2006-01-01T06:00:00Z"}


class Failing:
    """An engine that fails from the n-th read of a chunk on."""

    def __init__(self, engine: Any, after: int) -> None:
        self._engine, self._left = engine, after

    def read(self, dataset_id: str, version_id: str, key: str) -> Any:
        if "/c/" in key and key.startswith("tcco2"):
            self._left -= 1
            if self._left < 0:
                raise StoreUnavailable("the disk does not answer")
        return self._engine.read(dataset_id, version_id, key)

    def waits(self, dataset_id: str, version_id: str) -> bool:
        return False


class Far:
    """An engine on another machine: each read of a chunk ends when *at_once* of them are on their way, or after a while."""

    def __init__(self, engine: Any, at_once: int) -> None:
        self._engine, self._together = engine, threading.Barrier(at_once)
        self.most = self.now = self.reads = 0
        self._lock = threading.Lock()

    def waits(self, dataset_id: str, version_id: str) -> bool:
        return True

    def read(self, dataset_id: str, version_id: str, key: str) -> Any:
        if key.startswith("tcco2/c/"):
            with self._lock:
                self.reads += 1
                self.now += 1
                self.most = max(self.most, self.now)
            with suppress(threading.BrokenBarrierError):
                self._together.wait(1)
            with self._lock:
                self.now -= 1
        return self._engine.read(dataset_id, version_id, key)


def test_values_are_those_of_the_source(co2: Any) -> None:
    whole = co2.open().read("tcco2", window(co2))
    assert whole.dtype.isnative
    assert whole.flags["C_CONTIGUOUS"]
    assert np.allclose(whole, co2.truth()["tcco2"].values, rtol=1e-6)


def test_a_lost_chunk_is_corrupt_and_never_fill(co2: Any, copied: tuple[zarr.Reader, Path]) -> None:
    engine, chunks = copied
    opened = OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)
    assert np.isfinite(opened.read("tcco2", window(co2, **CORNER))).all()
    (chunks / "0/0/0").unlink()
    fresh = OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)
    with pytest.raises(Corrupt):
        fresh.read("tcco2", window(co2, **CORNER))
    # The other chunks are unharmed.
    assert np.isfinite(fresh.read("tcco2", window(co2, bbox="200,-90,210,-80", datetime="2006-01-01T06:00:00Z"))).all()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_damaged_bytes_are_corrupt(co2: Any, copied: tuple[zarr.Reader, Path], damage: str) -> None:
    engine, chunks = copied
    chunk = chunks / "0/0/0"
    data = bytearray(chunk.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    chunk.write_bytes({"flipped": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[damage])
    opened = OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)
    with pytest.raises(Corrupt, match=rf" of {co2.dataset_id} "):
        opened.read("tcco2", window(co2, **CORNER))


def test_a_store_that_fails_is_unavailable_and_recovers(co2: Any) -> None:
    failing = Failing(co2.engine, after=3)
    opened = OpenedVersions(failing).open(co2.dataset_id, VERSION, co2.description)
    with pytest.raises(StoreUnavailable):
        opened.read("tcco2", window(co2))
    failing._left = 10**9
    assert np.allclose(opened.read("tcco2", window(co2)), co2.truth()["tcco2"].values, rtol=1e-6)


def test_metadata_that_are_gone_are_told_when_opening(co2: Any, copied: tuple[zarr.Reader, Path]) -> None:
    engine, chunks = copied
    (chunks.parent.parent / "zarr.json").write_text("{")
    with pytest.raises(Corrupt):
        OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)


def test_reading_ends_at_its_deadline(co2: Any) -> None:
    with pytest.raises(Unavailable):
        co2.open().read("tcco2", window(co2), deadline=AnswerDeadline(0))


def test_reading_ends_when_the_client_leaves(co2: Any) -> None:
    left, opened = threading.Event(), co2.open()
    deadline, chunks = AnswerDeadline(60, left), []

    def one_more() -> None:
        chunks.append(1)
        if len(chunks) == 3:
            left.set()
        deadline()

    with pytest.raises(Cancelled):
        opened.read("tcco2", window(co2), deadline=one_more)
    assert len(chunks) == 3


def test_a_chunk_is_read_once(co2: Any) -> None:
    opened = OpenedVersions(co2.engine).open(co2.dataset_id, VERSION, co2.description)
    corner = window(co2, **CORNER)
    first = opened.read("tcco2", corner)
    before = len(co2.engine.reads)
    assert np.array_equal(opened.read("tcco2", corner), first)
    assert len(co2.engine.reads) == before


def test_a_box_of_chunks_is_fetched_together_and_each_once(co2: Any) -> None:
    opened = OpenedVersions(co2.engine).open(co2.dataset_id, VERSION, co2.description)
    whole, first = window(co2), window(co2, datetime="2006-01-01T06:00:00Z")
    before = len(co2.engine.reads)
    one = opened.read("tcco2", first)
    assert len([key for key in co2.engine.reads[before:] if "/tcco2/c/" in key]) == 12
    truth = co2.truth()["tcco2"].values
    assert np.allclose(opened.read("tcco2", whole), truth, rtol=1e-6)
    assert np.allclose(one, truth[:1], rtol=1e-6)
    assert len([key for key in co2.engine.reads[before:] if "/tcco2/c/" in key]) == 8 * 12


class Watched:
    """An engine that keeps in which thread each chunk is read."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.threads: set[threading.Thread] = set()

    def read(self, dataset_id: str, version_id: str, key: str) -> Any:
        if "/c/" in key:
            self.threads.add(threading.current_thread())
        return self._engine.read(dataset_id, version_id, key)

    def waits(self, dataset_id: str, version_id: str) -> bool:
        return False


@pytest.mark.parametrize("masked", [False, True])
def test_chunks_of_another_machine_come_together_and_each_once(co2: Any, masked: bool) -> None:
    engine = Far(co2.engine, 4)
    opened = OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)
    box = window(co2)
    if masked:
        inside = np.zeros([box.along[each].size for each in ("latitude", "longitude")], bool)
        inside[::70, 5:7] = True
        box = replace(box, mask=Mask(("latitude", "longitude"), inside))
    values = opened.read("tcco2", box)
    truth = co2.truth()["tcco2"].values
    assert engine.most >= 4
    assert engine.most <= 16
    if masked:
        assert np.allclose(values[:, inside], truth[:, inside], rtol=1e-6)
        assert engine.reads == touched(co2.description, replace(box, fields=("tcco2",))) < count(co2.description, box).chunks
    else:
        assert np.allclose(values, truth, rtol=1e-6)
    failing = OpenedVersions(Far(Failing(co2.engine, 2), 2)).open(co2.dataset_id, VERSION, co2.description)
    with pytest.raises(StoreUnavailable):
        failing.read("tcco2", box)


def test_chunks_of_ours_are_read_without_the_loop_of_zarr(co2: Any) -> None:
    """zarr reads in a thread of its own, which costs as much as reading and decoding a chunk."""
    watched = Watched(co2.engine)
    opened = OpenedVersions(watched).open(co2.dataset_id, VERSION, co2.description)
    watched.threads.clear()
    assert np.allclose(opened.read("tcco2", window(co2)), co2.truth()["tcco2"].values, rtol=1e-6)
    assert watched.threads == {threading.current_thread()}


def test_a_chunk_of_another_length_is_corrupt(co2: Any, copied: tuple[zarr.Reader, Path]) -> None:
    engine, chunks = copied
    chunk = chunks / "0/0/0"
    size = chunk.stat().st_size
    short = Zstd(level=1).encode(np.random.default_rng(1).bytes(size - 200))
    # A frame that may be skipped (RFC 8878, 3.1.2) fills the file to the size in the manifest.
    gap = size - len(short) - 8
    chunk.write_bytes(short + b"\x50\x2a\x4d\x18" + gap.to_bytes(4, "little") + bytes(gap))
    opened = OpenedVersions(engine).open(co2.dataset_id, VERSION, co2.description)
    with pytest.raises(Corrupt, match="cannot be decoded"):
        opened.read("tcco2", window(co2, **CORNER))


def test_what_is_handed_out_is_nobody_elses(co2: Any) -> None:
    opened = OpenedVersions(co2.engine).open(co2.dataset_id, VERSION, co2.description)
    first = opened.read("tcco2", window(co2, **CORNER))
    kept = first.copy()
    first[...] = -1
    assert np.array_equal(opened.read("tcco2", window(co2, **CORNER)), kept)


def test_caches_are_bounded(co2: Any) -> None:
    versions = OpenedVersions(co2.engine, handle_bytes=1 << 20, chunk_bytes=200_000)
    opened = versions.open(co2.dataset_id, VERSION, co2.description)
    opened.read("tcco2", window(co2))
    assert 0 < versions._chunks.weight <= 200_000
    assert versions.open(co2.dataset_id, VERSION, co2.description) is opened
    versions._kept.put(("other", VERSION), object(), 1 << 20)
    assert versions.open(co2.dataset_id, VERSION, co2.description) is not opened


def test_opened_versions_weigh_what_their_coordinates_weigh(co2: Any) -> None:
    versions = OpenedVersions(co2.engine)
    opened = versions.open(co2.dataset_id, VERSION, co2.description)
    before = versions._kept.weight
    labels = opened.labels()
    assert versions._kept.weight - before == sum(each.nbytes for each in (*labels.values.values(), *labels.bounds.values()))
    # One that is heavier than all that may be kept is served, and not kept.
    small = OpenedVersions(co2.engine, handle_bytes=before + 1)
    first = small.open(co2.dataset_id, VERSION, co2.description)
    assert small.open(co2.dataset_id, VERSION, co2.description) is first
    first.labels()
    assert small._kept.weight == 0
    assert small.open(co2.dataset_id, VERSION, co2.description) is not first


def test_threads_share_one_opened_version(co2: Any) -> None:
    versions = OpenedVersions(co2.engine, chunk_bytes=300_000)
    truth = co2.truth()["tcco2"].values
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        opened = versions.open(co2.dataset_id, VERSION, co2.description)
        return bool(
            np.allclose(
                opened.read("tcco2", window(co2, datetime=f"2006-01-0{number % 7 + 2}T00:00:00Z")),
                truth[[4 * (number % 7) + 3]],
                rtol=1e-6,
            )
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_damaged_dataset_harms_no_other_over_http(client: Any, shelf: Any, stored: Any) -> None:
    cube = stored("euro_air_temp.nc")
    sound = stored("gebco_2020.nc")
    chunk = next((shelf.engine.path(cube.dataset_id, VERSION) / "air_temperature" / "c").rglob("*/*"))
    kept = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.unlink()
    try:
        for form, kind in (("covjson", "corrupt"), ("netcdf", "corrupt")):
            answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"f": form})
            assert answer.status_code == 500
            assert answer.json()["kind"] == kind
            assert str(shelf.engine.path(cube.dataset_id, VERSION)) not in answer.text
        assert client.get(f"/ogcapi/collections/{cube.dataset_id}").status_code == 200
        assert client.get(f"/ogcapi/collections/{sound.dataset_id}/coverage").status_code == 200
    finally:
        chunk.write_bytes(kept)
    assert client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage").status_code == 200
