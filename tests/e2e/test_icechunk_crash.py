"""``kill -9`` at each step of an append to a version in a bucket: old or new, and nobody repairs anything by hand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.objectstore import ObjectStore

pytest.importorskip("icechunk")

import cubeport
from cubeport.adapters.engines.opened import VersionStore

from .conftest import CUBEPORT
from .test_icechunk import Place, days, ingest

STEPS = ["lock", "started", "planned", "artifact_write_started", "begin", "bytes", "measure", "assemble", "fsync"]
STEPS += ["artifact_write_succeeded", "publish", "pointer", "catalog_write_started", "commit", "catalog_write_succeeded"]
STEPS += ["hooks_started", "afterwards", "committed"]
POINTS = [f"{name}:{side}" for name in STEPS for side in ("before", "after")] + ["fsync:half", "commit:unknown"]
POINTS += ["pointer:before@2", "pointer:after@2"]  # the first is the tag, the second the branch after the commit
SAMPLE = ["pointer:after"]
SIDE = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore) -> Iterator[Place]:
    """A dataset with two steps in a bucket, to which every test appends."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.environment.items():
            patch.setenv(name, value)
        place = Place.make(tmp_path_factory.mktemp("crash") / "instance", object_store)
        with cubeport.connect(place.root) as service:
            ingest(service, "t", place.file("first", days(2, lat=SIDE, lon=SIDE)))
        yield place


def steps_of(place: Place) -> int:
    """Check everything that there is, and return how many steps the published version has."""
    with cubeport.connect(place.root) as service:
        service.catalog.recover()
        shown = service.shown("t")
        with xr.open_dataset(
            VersionStore(service.engines, "t", shown.version.version_id), engine="zarr", consolidated=True, decode_times=False
        ) as seen:
            steps = seen.sizes["time"]
            wanted = [days(2, lat=SIDE, lon=SIDE)] + [days(1, number, lat=SIDE, lon=SIDE) for number in range(2, steps)]
            np.testing.assert_array_equal(seen.t.values, np.concatenate([each.t.values for each in wanted]))
        rows = service.catalog.rows.select("version", limit=100)
        repository = place.repository("t")
        assert repository.list_tags() == {f"v-{row.id}" for row in rows}, "a tag without a version, or the reverse"
        assert {repository.lookup_tag(f"v-{row.id}") for row in rows} == {row.document["reference"] for row in rows}
        head = service.dataset("t").state.head
        [of_head] = [row.document["reference"] for row in rows if row.id == head]
        assert repository.lookup_branch("main") == of_head
        assert not list((place.root / ".cubeport/journal/open").glob("*")), "an operation was left open"
        assert not list((place.root / "data/staging").glob("*")), "bytes were left in staging"
        assert not service.catalog.fsck(data=True).findings
    return int(steps)


def killed_at(place: Place, point: str) -> None:
    before = steps_of(place)
    more: Path = place.file("more", days(1, before, lat=SIDE, lon=SIDE))
    process = subprocess.run(
        [*CUBEPORT, "update", "t", str(more), "--publish", "--no-progress", "--instance", str(place.root)],
        env={**os.environ, "CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": point},
        capture_output=True,
        timeout=120,
        start_new_session=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, (point, process.stdout, process.stderr)
    after = steps_of(place)
    assert after in (before, before + 1)
    with cubeport.connect(place.root) as service:
        if after == before:
            ingest(service, "t", more, mode="update")
    assert steps_of(place) == before + 1


@pytest.mark.parametrize("point", SAMPLE)
def test_a_kill_at_a_step_of_an_append_leaves_old_or_new(place: Place, point: str) -> None:
    killed_at(place, point)


@pytest.mark.crash
@pytest.mark.parametrize("point", [point for point in POINTS if point not in SAMPLE])
def test_a_kill_at_any_step_of_an_append_leaves_old_or_new(place: Place, point: str) -> None:
    killed_at(place, point)
