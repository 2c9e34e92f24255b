"""Faults of the network between cubeport and a bucket with versions: what was committed is whole, and nothing else is shown."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests import badstores
from tests.objectstore import ObjectStore
from tests.seaweedfs import SeaweedFS

pytest.importorskip("icechunk")

import zarr

import cubeport
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.errors import Corrupt, InvalidConfiguration, NotFound, StoreUnavailable
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.service import Service

from .test_icechunk import Place, days

pytestmark = pytest.mark.slow

SAMPLE = ("kills-answers",)
LANE = [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.slow) for name in badstores.NETWORKS]


def through(place: Place, store: ObjectStore) -> None:
    """Let the profile of the versions lead through *store*."""
    profiles = {"default": {"root": "./files"}, "bulk": store.profile(f"{place.bucket}/cubes", use=["data"])}
    (place.root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))


def values(service: Service, ref: str) -> np.ndarray:
    shown = service.shown(ref)
    opened = OpenedVersions(service.engines).open(shown.texts.dataset_id, shown.version.version_id, shown.description)
    return np.asarray(opened.raw("t", {}))


@pytest.mark.parametrize("network", LANE)
def test_what_was_committed_is_whole_and_nothing_else_is_shown(
    tmp_path: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    place = Place.make(tmp_path / "instance", seaweed)
    source = days(6)
    file, wanted = place.file("a", source), source.t.values
    request, options = IngestionRequest(dataset_id="a"), FileOptions(files=(str(file),))
    with badstores.behind(seaweed, badstores.NETWORKS[network]) as faulty:
        through(place, faulty)
        with cubeport.connect(place.root) as service:
            done = service.ingest_here(request, options)
            if done.status == "completed":
                # A fault can meet any read, and a version that was committed is read again below.
                with suppress(StoreUnavailable, Corrupt):
                    assert np.array_equal(values(service, "a"), wanted)
            else:
                assert done.error is not None
                # The trial of a store takes a network that flips bytes for a store that loses data.
                assert done.error["kind"] in {each.kind for each in (StoreUnavailable, Corrupt, InvalidConfiguration)}, done.error
                with pytest.raises(NotFound):
                    service.shown("a")
    through(place, seaweed)
    with cubeport.connect(place.root) as service:
        if done.status != "completed":
            done = service.ingest_here(request, options)
            assert done.status == "completed", done.error
        assert np.array_equal(values(service, "a"), wanted)
        assert [each for each in service.catalog.fsck(data=True).findings if each.level == "error"] == []
    stored = place.repository("a").readonly_session(tag=f"v-{done.version_id}").store
    assert np.array_equal(np.asarray(zarr.open_group(stored, mode="r")["t"][:]), wanted), "as any reader of Icechunk sees it"
