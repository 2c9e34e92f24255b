"""``cubeport export zarr``: what is in the bucket is read by xarray with s3fs, and by zarr-python with obstore."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import S3Store
from tests.families import FAMILIES
from tests.objectstore import KEY, SECRET
from tests.seaweedfs import SeaweedFS
from zarr.storage import ObjectStore

import cubeport
from cubeport.errors import Corrupt, HashMismatch, InvalidRequest, StoreUnavailable, TargetExists, UnknownProfile
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli

pytestmark = pytest.mark.slow

NAMES = ("regular", "packed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "instance"
    cubeport.Catalog.create(root).close()
    with cubeport.connect(root) as service:
        for name in NAMES:
            file = FAMILIES[name].write(root.parent, name)
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(file),)))
            assert done.status == "completed", done.error
    return root


@pytest.fixture
def bucket(root: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    bucket = seaweed.bucket()
    profiles = {"default": {"root": "./files"}, "public": seaweed.profile(f"{bucket}/public", use=["export"])}
    (root / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    return bucket


@pytest.mark.parametrize("name", NAMES)
def test_other_readers_find_equal_values_in_the_bucket(root: Path, bucket: str, seaweed: SeaweedFS, name: str) -> None:
    done = cli("--instance", root, "--json", "export", "zarr", name, "--to", f"s3://{bucket}/public/a/{name}", "--check")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    keys = [each for each in seaweed.keys(bucket) if not each.endswith(".manifest.json")]
    assert (said["objects"], said["written"], said["checked"]) == (len(keys), len(keys), True)
    options = {"key": KEY, "secret": SECRET, "endpoint_url": seaweed.endpoint}
    store = S3Store(
        bucket,
        prefix=f"public/a/{name}",
        endpoint=seaweed.endpoint,
        access_key_id=KEY,
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    with xr.open_dataset(root.parent / f"{name}.nc") as truth:
        with xr.open_zarr(f"s3://{bucket}/public/a/{name}", storage_options=options, consolidated=True) as found:
            for variable in truth.variables:
                assert np.array_equal(found[variable].values, truth[variable].values, equal_nan=truth[variable].dtype.kind == "f")
        with xr.open_zarr(ObjectStore(store, read_only=True), consolidated=True) as found:
            assert np.array_equal(found.t.values, truth.t.values, equal_nan=True)
    group = zarr.open_consolidated(ObjectStore(store, read_only=True), mode="r")
    assert set(truth.variables) <= set(group.array_keys())


class Stopping:
    """A target that fails at one of its writes."""

    def __init__(self, inner, after):
        self._inner, self._left = inner, after
        self.put_keys = []

    def put(self, key, body):
        if self._left == 0:
            raise StoreUnavailable("the network is gone")
        self._left -= 1
        self._inner.put(key, body)
        self.put_keys.append(key)

    def __getattr__(self, name):
        return getattr(self._inner, name)


def test_a_profile_is_not_taken_for_a_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profiles = {"default": {"root": "./files"}, "public": {"protocol": "s3", "root": "s3://cubes/public", "use": ["export"]}}
    (root / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    with cubeport.connect(root) as service:
        with pytest.raises(InvalidRequest, match="names the profile public") as caught:
            service.export_zarr("regular", "public:sst")
        assert "--to s3://cubes/public/sst" in str(caught.value.next_step)
        assert not list(tmp_path.iterdir())
        service.export_zarr("regular", "./public:sst")
        service.export_zarr("regular", "nobody:sst")
    assert (tmp_path / "public:sst" / "zarr.json").is_file()


@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_an_export_that_was_stopped_goes_on_and_is_no_store_until_it_is_whole(
    root: Path, bucket: str, seaweed: SeaweedFS, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"s3://{bucket}/public/part" if where == "bucket" else str(tmp_path / "part")
    with cubeport.connect(root) as service:
        target, name = service._export_target(to)
        stopping, counting = Stopping(target, 2), Stopping(target, -1)
        monkeypatch.setattr(service, "_export_target", lambda address: (stopping, name))
        with pytest.raises(StoreUnavailable):
            service.export_zarr("regular", to)
        assert len(stopping.put_keys) == 2
        assert target.read("part/zarr.json") is None
        monkeypatch.setattr(service, "_export_target", lambda address: (counting, name))
        done = service.export_zarr("regular", to, check=True)
        assert (done.written, len(counting.put_keys)) == (done.objects - 2, done.objects - 2)
        assert counting.put_keys[-1] == "part/zarr.json", "the root comes last"
        again = service.export_zarr("regular", to)
        assert (again.written, again.objects) == (0, done.objects)


def test_a_place_that_holds_something_else_is_refused(root: Path, bucket: str, seaweed: SeaweedFS, tmp_path: Path) -> None:
    seaweed.put(bucket, "public/theirs/note.txt", b"important")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "note.txt").write_text("important")
    with cubeport.connect(root) as service:
        for to in (f"s3://{bucket}/public/theirs", str(tmp_path / "theirs")):
            with pytest.raises(TargetExists, match=r"already contains note\.txt"):
                service.export_zarr("regular", to)
        service.export_zarr("regular", str(tmp_path / "mine"))
        with pytest.raises(TargetExists, match="another version or another dataset"):
            service.export_zarr("packed", str(tmp_path / "mine"))
        service.export_zarr("regular", f"s3://{bucket}/public/mine")
        for to in (f"s3://{bucket}/public/mine", str(tmp_path / "mine")):
            for below in ("", "/t"):
                with pytest.raises(TargetExists, match=f"is inside the export {to}"):
                    service.export_zarr("regular", f"{to}{below}/inner")
            assert service.export_zarr("regular", to).written == 0
        (tmp_path / "mine" / "extra").write_text("x")
        with pytest.raises(TargetExists, match="already contains extra"):
            service.export_zarr("regular", str(tmp_path / "mine"))
        with pytest.raises(InvalidRequest, match="is the root of profile public") as root_given:
            service.export_zarr("regular", f"s3://{bucket}/public/")
        assert f"s3://{bucket}/public/NAME" in str(root_given.value.next_step)
        for wrong in (f"s3://{bucket}/private/x", "s3://another/x"):
            with pytest.raises(UnknownProfile) as caught:
                service.export_zarr("regular", wrong)
            assert "use: [export]" in str(caught.value.next_step)
    assert [each for each in seaweed.keys(bucket) if "/mine" not in each] == ["public/theirs/note.txt"]


def test_a_target_that_lost_bytes_and_a_damaged_version_are_noticed(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        done = service.export_zarr("regular", str(tmp_path / "out"))
        chunk = max((tmp_path / "out").rglob("*/c/**/*"), key=lambda each: each.is_file() and each.stat().st_size)
        chunk.write_bytes(bytes(len(chunk.read_bytes())))
        with pytest.raises(HashMismatch):
            service.export_zarr("regular", str(tmp_path / "out"), check=True)
        stored = next((root / "data" / "store" / "regular").glob("*/cube.zarr")) / chunk.relative_to(tmp_path / "out")
        before = stored.read_bytes()
        stored.chmod(0o644)
        stored.write_bytes(bytes(len(before)))
        try:
            with pytest.raises(Corrupt):
                service.export_zarr("regular", str(tmp_path / "new"))
        finally:
            stored.write_bytes(before)
    assert not (tmp_path / "new" / "zarr.json").exists()
    assert done.objects > 0
