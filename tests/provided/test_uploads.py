"""Files that clients send, over a real socket: kept for their key, bounded, and ingested as any file."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.e2e.conftest import cli, start, stop
from tests.objectstore import KEY, SECRET, ObjectStore
from tests.provided.places import instance, netcdf

from cubeport.adapters.fetching import shared_uploads
from cubeport.adapters.fetching.shared_uploads import SharedUploads
from cubeport.adapters.fetching.uploads import UploadFolder
from cubeport.adapters.storage.s3 import UPLOADS, S3Place
from cubeport.errors import NotFound, SourceRejected, StoreUnavailable, TooLarge


def test_a_file_is_sent_and_ingested(tmp_path: Path) -> None:
    root = instance(tmp_path / "instance", settings="limits: {upload_bytes: 100000}\n")
    keys = []
    for name in ("one", "two"):
        made = cli("keys", "add", name, "--scope", "ingest", "-i", root, "--json")
        keys.append(next(part.strip('",') for part in made.stdout.split() if "cp_" in part))
    data = netcdf(tmp_path, 0, 1, 2)
    process, url = start(root)
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60, headers={"X-API-Key": keys[0]}) as client:
            assert httpx.post(f"{url}/uploads", content=data, trust_env=False).status_code == 401
            sent = client.post("/uploads", params={"filename": "../../days.nc"}, content=data)
            assert sent.status_code == 201, sent.text
            document = sent.json()
            assert (document["size_bytes"], document["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert document["filename"] == "days.nc"
            request = {"dataset_id": "sent", "source": f"upload:{document['upload_id']}"}
            # Another key has no such upload.
            assert client.post("/ingestions", json=request, headers={"X-API-Key": keys[1]}).status_code == 404
            done = client.post("/ingestions", json=request)
            assert (done.status_code, done.json()["status"]) == (200, "completed"), done.text
            assert client.get("/datasets/sent").json()["extent"]["temporal"] == {"start": "2024-01-01", "end": "2024-01-03"}
            # What is wrong is said, and nothing stays.
            big = client.post("/uploads", content=b"x" * 100_001)
            assert (big.status_code, big.json()["setting"]) == (413, "limits.upload_bytes")
            chunked = client.post("/uploads", content=iter([b"x" * 60_000, b"x" * 60_000]))
            assert chunked.status_code == 413
            wrong = client.post("/uploads", params={"sha256": "0" * 64}, content=b"abc")
            assert (wrong.status_code, wrong.json()["reason"]) == (422, "digest-mismatch")
            assert client.post("/uploads", content=b"").json()["reason"] == "empty"
            form = client.post("/uploads", files={"file": b"abc"})
            assert (form.status_code, "--data-binary" in form.json()["detail"] + str(form.json())) == (415, True)
            assert client.get("/uploads").status_code == 405
            assert [each.name for each in (root / "data/uploads").iterdir()] == [document["upload_id"]]
    finally:
        stop(process)


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path / "uploads", max_bytes=10)
    with folder.begin(filename="a", owner="k", declared=None) as receiving:
        receiving.take(b"half")
    with pytest.raises(TooLarge):
        folder.begin(filename="a", owner="k", declared=11)
    with pytest.raises(SourceRejected), folder.begin(filename="a", owner="k", declared=0) as receiving:
        receiving.finish(sha256=None)
    assert [each.name for each in (tmp_path / "uploads").iterdir()] == []


def test_an_upload_is_for_its_owner_and_for_a_day(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path / "uploads", max_bytes=10)
    with folder.begin(filename="upload.json", owner="k", declared=3) as receiving:
        receiving.take(b"abc")
        upload = receiving.finish(sha256=hashlib.sha256(b"abc").hexdigest())
    assert folder.file(upload.upload_id, owner="k").read_bytes() == b"abc"
    for owner in ("other", None):
        with pytest.raises(NotFound):
            folder.file(upload.upload_id, owner=owner)
    with pytest.raises(NotFound):
        folder.file("../../etc", owner="k")
    os.utime(folder.folder(upload.upload_id), (0, 0))
    folder.prune()
    assert [each.name for each in (tmp_path / "uploads").iterdir()] == []


def sent(uploads: UploadFolder, body: bytes, owner: str = "k") -> str:
    with uploads.begin(filename="a.nc", owner=owner, declared=len(body)) as receiving:
        receiving.take(body)
        return receiving.finish(sha256=None).upload_id


@pytest.fixture
def machines(tmp_path: Path, object_store: ObjectStore) -> tuple[SharedUploads, SharedUploads, str]:
    """Two machines with a bucket in common, and its name."""
    bucket = object_store.bucket()
    place = S3Place("p", bucket, f"versions/{UPLOADS}", object_store.endpoint, key=KEY, secret=SECRET, allow_http=True)
    one, two = (SharedUploads(tmp_path / name, lambda: place, max_bytes=50 << 20) for name in ("one", "two"))
    return one, two, bucket


def test_another_machine_has_what_one_received(machines: tuple[SharedUploads, SharedUploads, str]) -> None:
    one, two, _ = machines
    body = os.urandom(17 << 20)  # three requests
    upload = sent(one, body)
    with pytest.raises(NotFound):
        two.file(upload, owner="other")
    assert not two.folder(upload).exists(), "it is fetched for its owner only"
    with ThreadPoolExecutor(4) as threads:
        assert {path.read_bytes() == body for path in threads.map(lambda _: two.file(upload, owner="k"), range(4))} == {True}
    assert [each.name for each in two.folder(upload).parent.iterdir()] == [upload]
    with pytest.raises(NotFound):
        two.file("0" * 32, owner="k")


def test_an_upload_that_changed_in_the_bucket_is_not_taken(
    machines: tuple[SharedUploads, SharedUploads, str], object_store: ObjectStore
) -> None:
    one, two, bucket = machines
    upload = sent(one, b"abc")
    object_store.put(bucket, f"versions/{UPLOADS}/{upload}/a.nc", b"abd")
    with pytest.raises(StoreUnavailable, match="other bytes"):
        two.file(upload, owner="k")
    assert list(two.folder(upload).parent.iterdir()) == []


def test_an_upload_that_cannot_be_shared_is_not_kept(machines: tuple[SharedUploads, SharedUploads, str], tmp_path: Path) -> None:
    gone = S3Place("p", "gone", "x", "http://127.0.0.1:9", key=KEY, secret=SECRET, allow_http=True)
    uploads = SharedUploads(tmp_path / "three", lambda: gone, max_bytes=10)
    with pytest.raises(StoreUnavailable):
        sent(uploads, b"abc")
    assert list((tmp_path / "three").iterdir()) == []


def test_old_uploads_leave_the_bucket(
    machines: tuple[SharedUploads, SharedUploads, str], object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, bucket = machines
    upload = sent(one, b"abc")
    two.prune()
    assert len(object_store.keys(bucket)) == 2, "it is for a day"
    monkeypatch.setattr(shared_uploads, "KEPT_H", -1)
    two.prune()
    assert object_store.keys(bucket) == []
    with pytest.raises(NotFound):
        two.file(upload, owner="k")


def test_fsck_takes_no_upload_for_a_stray_object(
    machines: tuple[SharedUploads, SharedUploads, str], object_store: ObjectStore
) -> None:
    pytest.importorskip("icechunk")
    from cubeport.adapters.engines.repositories import Bucket, Repositories, Tuning

    one, _, bucket = machines
    sent(one, b"abc")
    object_store.put(bucket, "versions/lost/chunks/x", b"x")
    place = S3Place("p", bucket, "versions", object_store.endpoint, key=KEY, secret=SECRET, allow_http=True)
    assert list(Repositories(Bucket(place), Tuning()).strays()) == ["lost"]
