"""Files that clients send, over a real socket: kept for their key, bounded, and ingested as any file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import httpx
import pytest
from tests.e2e.conftest import cli, start, stop
from tests.provided.places import instance, netcdf

from cubeport.adapters.fetching.uploads import UploadFolder
from cubeport.errors import NotFound, SourceRejected, TooLarge


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
