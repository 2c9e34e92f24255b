"""Versions in an object store: the same values on every face as from files, what a store loses is told, and nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import xarray as xr
from tests import badstores
from tests.objectstore import KEY, SECRET, ObjectStore

pytest.importorskip("icechunk")

import httpx
import icechunk

import cubeport
from cubeport.catalog.disk import failpoints
from cubeport.errors import InvalidConfiguration, StoreUnavailable
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.service import Service
from cubeport.service.templates import TemplateFields
from cubeport.settings import load

from .conftest import Server, here, start, stop

LAT, LON = 120, 100


def days(count: int, first: int = 0, *, lat: int = LAT, lon: int = LON) -> xr.Dataset:
    values = np.random.default_rng(first).normal(280, 10, size=(count, lat, lon)).astype("f4")
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(first, first + count), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-86, 86, lat), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 350, lon), {"units": "degrees_east"}),
        },
    )


@dataclass
class Place:
    """An instance whose versions are in a bucket."""

    root: Path
    store: ObjectStore
    bucket: str

    @classmethod
    def make(cls, root: Path, store: ObjectStore) -> Place:
        bucket = store.bucket()
        (root / "config").mkdir(parents=True)
        profiles = {
            "default": {"protocol": "file", "root": "./files"},
            "bulk": {**store.profile(f"{bucket}/cubes", use=["data"])},
        }
        (root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
        (root / "config/service.yaml").write_text("engine: icechunk\nprofile: bulk\n")
        prepare(root)
        return cls(root, store, bucket)

    def file(self, name: str, data: xr.Dataset) -> Path:
        path = self.root / f"{name}.nc"
        data.to_netcdf(path)
        return path

    def below(self, dataset_id: str, kind: str) -> list[str]:
        """Return the keys of one kind of object of a repository."""
        return [each for each in self.store.keys(self.bucket) if each.startswith(f"cubes/{dataset_id}/{kind}/")]

    def repository(self, dataset_id: str) -> icechunk.Repository:
        """Open the repository as anybody would who has Icechunk and the keys of the bucket."""
        return icechunk.Repository.open(
            icechunk.s3_storage(
                bucket=self.bucket,
                prefix=f"cubes/{dataset_id}",
                endpoint_url=self.store.endpoint,
                allow_http=True,
                force_path_style=True,
                region="us-east-1",
                access_key_id=KEY,
                secret_access_key=SECRET,
            )
        )


def ingest(service: Service, dataset_id: str, path: Path, **request: Any) -> str:
    done = service.ingest_here(IngestionRequest(dataset_id=dataset_id, publish=True, **request), FileOptions(files=(str(path),)))
    assert done.status == "completed", done.error
    assert done.version_id is not None
    return done.version_id


@pytest.fixture
def credentials(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def place(tmp_path: Path, object_store: ObjectStore, credentials: None) -> Place:
    return Place.make(tmp_path / "instance", object_store)


FACES = {
    "zarr": "/zarr/{id}/t/c/0/0/0",
    "zarr-root": "/zarr/{id}/zarr.json",
    "zarr-v2": "/zarr-v2/{id}/t/0.0.0",
    "manifest": "/zarr/{id}?f=manifest",
    "overview": "/zarr/{id}/1/t/c/0/0/0",
    "geozarr": "/geozarr/{id}/zarr.json",
    "coverage": "/ogcapi/collections/{id}/coverage?bbox=0,0,40,40&f=json",
    "edr": "/ogcapi/collections/{id}/position?coords=POINT(20 20)&f=CoverageJSON",
    "opendap": "/dap/{id}.ascii?t[0:2][3:4][5:6]",
    "thumbnail": "/datasets/{id}/thumbnail.png",
    "map": "/wms/{id}?service=WMS&version=1.3.0&request=GetMap&layers=t&styles=&crs=CRS:84&bbox=0,0,90,45&width=64&height=32"
    "&format=image/png",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore) -> Iterator[tuple[Place, Server]]:
    """A file in a bucket, and the same in files, each with an update; one server for both."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.environment.items():
            patch.setenv(name, value)
        place = Place.make(tmp_path_factory.mktemp("served") / "instance", object_store)
        first, more = place.file("first", days(9)), place.file("more", days(3, 9))
        for engine, dataset_id in (("icechunk", "kept"), ("zarr", "copy")):
            with cubeport.connect(place.root, engine=engine) as service:
                fields = TemplateFields.model_validate({"layout": {"pyramid": {"levels": 2}}})
                ingest(service, dataset_id, first, template=fields)
                ingest(service, dataset_id, more, mode="update")
        process, url = start(place.root)
        try:
            yield place, Server(url, place.root, process)
        finally:
            stop(process)


@pytest.mark.parametrize("face", FACES)
def test_every_face_gives_what_files_give(served: tuple[Place, Server], face: str) -> None:
    _, server = served
    found, copied = (server.get(FACES[face].format(id=name)) for name in ("kept", "copy"))
    assert found.status_code == copied.status_code == 200, found.text
    assert found.content.replace(b"kept", b"copy") == copied.content


def test_xarray_reads_the_values_of_the_source(served: tuple[Place, Server]) -> None:
    place, server = served
    with xr.open_zarr(f"{server.url}/zarr/kept", consolidated=True, chunks=None, decode_times=False) as seen:
        assert seen.t.values.tobytes() == np.concatenate([days(9).t.values, days(3, 9).t.values]).tobytes()
        assert seen.time.values.tolist() == list(range(12))
    part = server.get("/zarr/kept/t/c/0/0/0")
    assert part.headers["etag"]
    again = server.get("/zarr/kept/t/c/0/0/99")
    assert again.status_code == 404
    repository = place.repository("kept")
    with xr.open_zarr(repository.readonly_session("main").store, consolidated=False, chunks=None, decode_times=False) as seen:
        assert seen.t.values.tobytes() == np.concatenate([days(9).t.values, days(3, 9).t.values]).tobytes()


def test_an_update_stores_what_changed_and_nothing_else(place: Place) -> None:
    with cubeport.connect(place.root) as service:
        first = ingest(service, "kept", place.file("first", days(30, lat=60, lon=60)))
        before = set(place.below("kept", "chunks"))
        second = ingest(service, "kept", place.file("more", days(1, 30, lat=60, lon=60)), mode="update")
        added = set(place.below("kept", "chunks")) - before
        listed = {each: json.loads(service.engines.manifest("kept", each))["entries"] for each in (first, second)}
        changed = {(e["key"], e["sha256"]) for e in listed[second]} - {(e["key"], e["sha256"]) for e in listed[first]}
        objects = [key for key, _ in changed if not key.endswith("zarr.json")]
        assert len(added) <= len(objects) + 1, "the chunks that changed, and the manifest"
        kept = {row.id: row.document["reference"] for row in service.catalog.rows.select("version")}
        repository = place.repository("kept")
        assert {repository.lookup_tag(f"v-{each}") for each in (first, second)} == set(kept.values())
        assert repository.lookup_branch("main") == kept[second]


def test_a_process_opens_the_repository_twice_and_an_update_asks_for_no_manifest_that_it_does_not_need(place: Place) -> None:
    """To read and write, and to do what a commit has left to do. Each takes four requests."""
    asked: list[str] = []

    def noted(request: badstores.Request) -> badstores.Answer:
        asked.append(f"{request.method} {urlsplit(request.path).path}")
        return request.forward()

    with cubeport.connect(place.root) as service:
        ingest(service, "asked", place.file("first", days(30)))
    with badstores.behind(place.store, noted) as proxy:
        profiles = {"default": {"root": "./files"}, "bulk": proxy.profile(f"{place.bucket}/cubes", use=["data"])}
        (place.root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
        with cubeport.connect(place.root) as service:
            ingest(service, "asked", place.file("more", days(1, 30)), mode="update")
            first, asked[:] = list(asked), []
            ingest(service, "asked", place.file("most", days(1, 31)), mode="update")
    opened, others = ([each for each in all_ if "/chunks/" not in each] for all_ in (first, asked))
    assert sum(each.endswith("/config.yaml") for each in opened) == 2
    assert len(opened) <= 33, "\n".join(opened)
    assert not [each for each in others if each.endswith("/config.yaml")]
    assert len(others) <= 20, "\n".join(others)


def test_ready_says_whether_the_bucket_answers(place: Place) -> None:
    faults = {"a bucket that answers": badstores.Request.forward, "503": badstores.NETWORKS["is-gone"]}
    now = "a bucket that answers"
    with badstores.behind(place.store, lambda request: faults[now](request)) as proxy:
        profiles = {"default": {"root": "./files"}, "bulk": proxy.profile(f"{place.bucket}/cubes", use=["data"])}
        (place.root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
        process, url = start(place.root)
        try:
            for now in (*faults, *faults):
                answer = httpx.get(f"{url}/ready", trust_env=False, timeout=60)
                good = now == "a bucket that answers"
                assert answer.json()["checks"]["bucket"] == ("ok" if good else "store-unavailable")
                assert answer.status_code == (200 if good else 503)
        finally:
            stop(process)


def test_versions_are_rolled_back_removed_and_freed(place: Place) -> None:
    with cubeport.connect(place.root, retention__keep_last=1, retention__keep_days=0, retention__grace_min=0) as service:
        first = ingest(service, "t", place.file("first", days(4, lat=40, lon=40)))
        second = ingest(service, "t", place.file("second", days(4, 7, lat=40, lon=40)), mode="replace")
        service.rollback("t", to=first)
        with xr.open_dataset(_stored(service, "t", first), engine="zarr", consolidated=True, decode_times=False) as seen:
            assert seen.t.values.tobytes() == days(4, lat=40, lon=40).t.values.tobytes()
        service.rollback("t", to=second)
        assert [(each.act, each.version_id) for each in service.retain()].count(("freed", first)) == 1
        repository = place.repository("t")
        assert repository.list_tags() == {f"v-{second}"}
        usage = service.usage()
        assert usage.size_bytes >= sum(version.own_bytes for each in usage.datasets for version in each.versions) > 0
        repository.create_tag(f"v-{'0' * 32}", repository.lookup_branch("main"))  # no row names this one
        [found] = [each for each in service.catalog.gc(older_than_s=0, dry_run=False) if each.kind == "orphan-version"]
        assert (found.path, found.removed) == (f"store/t/{'0' * 32}", True)
        assert place.repository("t").list_tags() == {f"v-{second}"}
        service.delete("t", purge=True)
        service.retain()
        assert place.repository("t").list_tags() == set()


def test_a_derived_dataset_is_computed_from_versions_in_the_bucket(place: Place) -> None:
    with cubeport.connect(place.root) as service:
        ingest(service, "t", place.file("first", days(60, lat=20, lon=30)))
        done = service.derive("resample", ["t"], dataset_id="monthly", params={"period_type": "monthly", "method": "mean"})
        assert done.status == "completed", done.error
        assert done.version_id is not None
        store = _stored(service, "monthly", done.version_id)
        with xr.open_dataset(store, engine="zarr", consolidated=True) as seen:
            january = days(60, lat=20, lon=30).t.values[:31].astype("f8").mean(0)
            np.testing.assert_allclose(seen.t.values[0], january, rtol=1e-5)


def test_what_the_store_lost_or_changed_is_told_and_never_served(place: Place) -> None:
    with cubeport.connect(place.root) as service:
        version = ingest(service, "t", place.file("first", days(4, lat=90, lon=90)))
    keys = sorted(place.below("t", "chunks"), key=lambda key: -len(_bytes(place, key)))
    data = _bytes(place, keys[0])
    for content in (data[:100], bytes([data[0] ^ 1]) + data[1:], None):
        if content is None:
            place.store.client.delete_object(Bucket=place.bucket, Key=keys[0])
        else:
            place.store.put(place.bucket, keys[0], content)
        with cubeport.connect(place.root) as service:
            entries = json.loads(service.engines.manifest("t", version))["entries"]
            raised = []
            for each in entries:
                try:
                    found = service.engines.read("t", version, each["key"])
                except cubeport.errors.Corrupt as error:
                    raised.append(str(error))
                else:
                    assert found is not None
                    found.file.close()
            assert len(raised) == 1, raised
            [finding] = service.catalog.fsck(data=True).findings
            assert finding.place.startswith(f"t@{version}/")
        place.store.put(place.bucket, keys[0], data)
    with cubeport.connect(place.root) as service:
        assert not service.catalog.fsck(data=True).findings
        held = json.loads(service.engines.manifest("t", version))["entries"]
        for key in place.store.keys(place.bucket):
            place.store.client.delete_object(Bucket=place.bucket, Key=key)
        place.store.client.delete_bucket(Bucket=place.bucket)
        _check_gone(service, version, held)
    with cubeport.connect(place.root) as service:
        _check_gone(service, version, held)


def _check_gone(service: Service, version: str, entries: list[dict[str, Any]]) -> None:
    """A bucket that is not there is not damage of its versions."""

    def read_all() -> None:
        for each in entries:
            service.engines.read("t", version, each["key"])

    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        read_all()


def test_a_version_whose_tag_somebody_deleted_is_told_and_gc_keeps_it(place: Place) -> None:
    """Readers open the snapshot in the catalog, but Icechunk's own garbage collection removes what no tag and no branch names."""
    with cubeport.connect(place.root) as service:
        first = ingest(service, "t", place.file("first", days(2)))
        ingest(service, "t", place.file("other", days(2, 10)), mode="replace")
        place.repository("t").delete_tag(f"v-{first}")
        [found] = [each for each in service.catalog.fsck(data=True).findings if each.level == "error"]
        assert (found.kind, found.place) == ("untagged-snapshot", f"t@{first}")
        assert "cubeport gc" in (found.next_step or "")
        for number in (2, 3):
            service.catalog.gc()
            assert [each for each in service.catalog.fsck(data=True).findings if each.level == "error"] == []
            assert f"v-{first}-{number}" in place.repository("t").list_tags()
            place.repository("t").delete_tag(f"v-{first}-{number}")


def test_the_engine_needs_a_profile_for_data(place: Place) -> None:
    service_yaml = place.root / "config/service.yaml"
    service_yaml.write_text("engine: icechunk\n")
    with pytest.raises(InvalidConfiguration, match="engine icechunk needs profile"):
        load(place.root)
    service_yaml.write_text("engine: icechunk\nprofile: default\n")
    refused = here("serve", "--instance", place.root, "--port", "0")
    assert refused.returncode == 2
    assert "'default' is not a profile with `protocol: s3` and `use: [data]`" in refused.stderr + refused.stdout


def test_a_virtual_version_is_refused_by_name(place: Place) -> None:
    (place.root / "config/service.yaml").write_text(
        f"engine: icechunk\nprofile: bulk\nsources:\n  roots: ['{place.root.parent}']\n"
    )
    path = place.root.parent / "elsewhere.nc"
    days(3, lat=4, lon=5).to_netcdf(path)
    with cubeport.connect(place.root) as service:
        request = IngestionRequest(dataset_id="t", storage="virtual")
        refused = service.ingest_here(request, FileOptions(files=(str(path),)))
        assert refused.status == "failed"
        assert refused.error is not None
        assert "versions of the engine icechunk are read by other machines" in json.dumps(refused.error)
        copied = service.ingest_here(IngestionRequest(dataset_id="t", storage="auto"), FileOptions(files=(str(path),)))
        assert copied.status == "completed", copied.error


def _stored(service: Service, dataset_id: str, version_id: str) -> Any:
    from cubeport.adapters.engines.opened import VersionStore

    return VersionStore(service.engines, dataset_id, version_id)


def _bytes(place: Place, key: str) -> bytes:
    data: bytes = place.store.client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    return data


@pytest.mark.parametrize("newer", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["the-only-version", "after-another"])
def test_a_damaged_version_of_a_mirror_in_a_bucket_is_repaired_by_pulling_it_again(
    place: Place, tmp_path: Path, newer: bool
) -> None:
    there = tmp_path / "there"
    prepare(there)
    with cubeport.connect(there) as service:
        version = ingest(service, "t", place.file("first", days(4, lat=90, lon=90)))
    process, url = start(there)
    try:
        with (place.root / "config/service.yaml").open("a") as file:
            file.write(f"mirrors:\n  origins: ['{url}']\n")
        with cubeport.connect(place.root) as service:
            service.pull("t", url)
            if newer:
                with cubeport.connect(there) as other:
                    version = ingest(other, "t", place.file("more", days(2, 4, lat=90, lon=90)), mode="update")
                known = set(place.below("t", "chunks"))
                assert service.pull("t", url).version_id == version
            own = set(place.below("t", "chunks")) - (known if newer else set())
            kept = [(state.version_id, state.seq) for state, _ in service.versions("t")]
        key = max(own, key=lambda each: len(_bytes(place, each)))
        data = _bytes(place, key)
        place.store.put(place.bucket, key, bytes([data[0] ^ 1]) + data[1:])
        with cubeport.connect(place.root) as service:
            said = service.catalog.fsck(data=True, repair=True)
            [line] = [each for each in said.repaired if version in each]
            assert "marked missing" in line
            assert "quarantine" not in line, "what is in a bucket stays there, and nothing else is said"
            assert service.dataset("t").state.latest != version
            done = service.pull("t", url)
            assert (done.added, done.version_id) == (True, version)
            assert service.verify_mirror("t", url)["equal"]
            assert service.shown("t").version.version_id == version
            assert [(state.version_id, state.seq) for state, _ in service.versions("t")] == kept, "in its own place"
            assert service.catalog.fsck(data=True).findings == ()
            assert not service.pull("t", url).added
        opened, here_url = start(place.root)
        try:
            with xr.open_zarr(f"{here_url}/zarr/t") as ours, xr.open_zarr(f"{url}/zarr/t") as theirs:
                xr.testing.assert_identical(ours.load(), theirs.load())
        finally:
            stop(opened)
    finally:
        stop(process)


def test_a_pull_that_was_undone_after_its_tag_can_be_made_again(place: Place, tmp_path: Path) -> None:
    """The other service gives a version its id, so the tag that was taken back is the one that the next attempt wants."""
    there = tmp_path / "there"
    prepare(there)
    with cubeport.connect(there) as service:
        version = ingest(service, "t", place.file("first", days(2)))
    process, url = start(there)
    try:
        with (place.root / "config/service.yaml").open("a") as file:
            file.write(f"mirrors:\n  origins: ['{url}']\n")
        with cubeport.connect(place.root) as service:
            for _ in range(2):
                failpoints.arm("publish:after=raise")
                with pytest.raises(failpoints.FailPointRaised):
                    service.pull("t", url)
                failpoints.arm("")
                assert not any("v-" in each for each in place.repository("t").list_tags())
            assert service.pull("t", url).version_id == version
            assert service.verify_mirror("t", url)["equal"]
            assert service.catalog.fsck(data=True).findings == ()
    finally:
        failpoints.arm("")
        stop(process)


def test_a_store_that_refuses_is_noticed_before_the_work_and_leaves_nothing_to_undo(place: Place) -> None:
    """A key that has ended would otherwise be noticed after hours, and what it cannot undo would stay open."""
    source = place.file("a", days(4))
    for key in place.store.keys(place.bucket):
        place.store.client.delete_object(Bucket=place.bucket, Key=key)
    place.store.client.delete_bucket(Bucket=place.bucket)
    phases: list[str] = []
    with cubeport.connect(place.root) as service:
        done = service.ingest_here(
            IngestionRequest(dataset_id="d"), FileOptions(files=(str(source),)), listener=lambda phase, *_: phases.append(phase)
        )
        assert done.error is not None
        assert done.error["kind"] == "store-unavailable"
        assert "writing" not in phases
        assert not [each for each in service.catalog.doctor() if each.kind == "open-operation"]
    assert not any((place.root / "data" / "staging").iterdir())
