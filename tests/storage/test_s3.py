"""A catalog whose bytes are on an S3-compatible store, over a socket; boto3 looks at what is in the bucket."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import objectstore

import cubeport
from cubeport.adapters.storage.s3 import cure, in_words, reason
from cubeport.errors import ArtifactMissing, StoreUnavailable

ADD = "import cubeport; cubeport.Catalog.open('.').add_bytes(b'x' * 100, filename='big.bin', profile='bucket')"


@pytest.fixture
def bucket(object_store):
    return object_store.bucket()


@pytest.fixture
def root(tmp_path, object_store, bucket, monkeypatch):
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").mkdir()
    profiles = {"default": {"root": "./files"}, "bucket": object_store.profile(f"{bucket}/pre fix")}
    (tmp_path / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    return tmp_path


@pytest.fixture
def catalog(root):
    with cubeport.Catalog.create(root) as catalog:
        yield catalog


def test_bytes_go_there_and_come_back(catalog, root, object_store, bucket):
    one = catalog.add_bytes(b"some bytes", filename="note.txt", profile="bucket", title="Ein Größer")
    [key] = object_store.keys(bucket)
    assert key.startswith("pre fix/")
    assert object_store.client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"some bytes"
    with catalog.open_artifact(one) as reading:
        assert reading.read() == b"some bytes"
    assert catalog.copy_out(one, root / "out").read_bytes() == b"some bytes"
    with pytest.raises(ArtifactMissing) as caught:
        catalog.path(one)
    assert caught.value.next_step == f"cubeport get {one.id}"
    assert [each.verdict for each in catalog.verify(one)] == ["ok"]
    object_store.put(bucket, key, b"other byte")
    assert [each.verdict for each in catalog.verify(one)] == ["hash-differs"]
    object_store.client.delete_object(Bucket=bucket, Key=key)
    assert [each.verdict for each in catalog.verify(one)] == ["missing"]


def test_a_folder_goes_there_its_root_last_and_is_removed_whole(catalog, root, object_store, bucket):
    cube = root / "cube.zarr"
    (cube / "c").mkdir(parents=True)
    (cube / "c" / "0").write_bytes(b"chunk")
    (cube / "zarr.json").write_text("{}")
    added = catalog.add_file(cube, profile="bucket")
    keys = object_store.keys(bucket)
    assert [each.rpartition(".zarr/")[2] for each in keys] == ["c/0", "zarr.json"]
    copied = catalog.copy_out(added, root / "out")
    assert {each.relative_to(copied).as_posix(): each.read_bytes() for each in copied.rglob("*") if each.is_file()} == {
        "c/0": b"chunk",
        "zarr.json": b"{}",
    }
    catalog.replace_artifact(added, b"instead", filename="one.txt", profile="bucket")
    assert [each.endswith(".txt") for each in object_store.keys(bucket)] == [True]
    catalog.purge(added)
    assert object_store.keys(bucket) == []
    assert list((root / ".cubeport" / "scratch").iterdir()) == []


def test_remote_bytes_open_by_their_format(root):
    pandas = pytest.importorskip("pandas")
    with cubeport.Catalog.create(root) as catalog:
        table = catalog.add_bytes(b"a,b\n1,2\n", filename="t.csv", profile="bucket")
        values = catalog.add_bytes(b'{"a": 1}', filename="v.json", profile="bucket")
        frame = table.open()
        assert isinstance(frame, pandas.DataFrame)
        assert frame.to_dict("list") == {"a": [1], "b": [2]}
        assert values.open() == {"a": 1}
        kept = Path(catalog._copies.name)
        assert len(list(kept.iterdir())) == 2
        assert table.open().equals(frame)
        assert len(list(kept.iterdir())) == 2
    assert not kept.exists()


def test_a_remote_cube_opens_as_xarray(catalog, root):
    xarray = pytest.importorskip("xarray")
    stored = xarray.Dataset({"t": ("x", [1.5, 2.5])})
    stored.to_zarr(root / "t.zarr", consolidated=False)
    stored.to_netcdf(root / "t.nc")
    for name in ("t.zarr", "t.nc"):
        with catalog.add_file(root / name, profile="bucket").open() as opened:
            assert opened.t.values.tolist() == [1.5, 2.5]


def test_a_store_that_is_away_is_unavailable_never_absent(catalog, root, object_store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore tries for ten seconds else
    added = catalog.add_bytes(b"x", filename="x", profile="bucket")
    profiles = {"default": {"root": "./files"}, "bucket": {**object_store.profile("gone/x"), "endpoint_url": "http://127.0.0.1:1"}}
    (root / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    with cubeport.Catalog.open(root) as unreachable:
        assert [each.verdict for each in unreachable.verify(added.id)] == ["unreachable"]
        with pytest.raises(StoreUnavailable):
            unreachable.add_bytes(b"y", filename="y", profile="bucket")
        assert unreachable.count() == 1
        assert "profile bucket" in [each.place for each in unreachable.doctor() if each.level == "error"]


@pytest.mark.parametrize("points", ["publish:before=kill", "publish:after=kill", "catalog_write_started:after=kill"])
def test_an_add_that_is_killed_is_undone_in_the_bucket(catalog, root, object_store, bucket, points):
    catalog.close()
    environment = {**os.environ, "CUBEPORT_FAIL_POINTS": points, "CUBEPORT_TESTING": "1"}
    killed = subprocess.run([sys.executable, "-c", ADD], cwd=root, env=environment, check=False)
    assert killed.returncode == -9
    assert len(object_store.keys(bucket)) == (points != "publish:before=kill")
    with cubeport.Catalog.open(root) as again:
        assert [each.outcome for each in again.recovered] == ["back"]
        assert again.count() == 0
    assert object_store.keys(bucket) == []


def test_its_secret_is_in_no_file(catalog, root):
    catalog.add_bytes(b"x", filename="x", profile="bucket")
    list(catalog.profiles)
    catalog.close()
    for path in root.rglob("*"):
        assert path.is_dir() or objectstore.SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("service error: unhandled error (ExpiredToken): The provided token has expired", "renew"),
        ("Client error with status 403 Forbidden: <Error><Code>InvalidAccessKeyId</Code></Error>", "renew"),
        ("unhandled error (RequestTimeTooSkewed)", "set the clock"),
        ("unhandled error (AccessDenied)", "the right"),
        ("unhandled error (AuthorizationHeaderMalformed)", "region"),
        ("unhandled error (PermanentRedirect)", "region"),
        ("invalid peer certificate: certificate expired: verification time 1796112643 (UNIX)", "renew the certificate"),
        ("invalid peer certificate: UnknownIssuer", "install the authority"),
        ("unhandled error (InsufficientStorage)", "make space"),
        ("Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>", "make the bucket"),
        ("unhandled error (SlowDown): Please reduce your request rate", "wait"),
    ],
)
def test_the_advice_helps_against_what_the_store_said(said: str, advice: str) -> None:
    assert advice in cure(said, "wait")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("<Code>NoSuchBucket</Code><Message>The bucket does not exist.</Message>", "The bucket does not exist (NoSuchBucket)"),
        ("", "Server returned non-2xx status code: 404 Not Found"),
    ],
)
def test_an_error_of_a_bucket_has_the_words_of_the_store(said: str, words: str) -> None:
    start = 'Server returned non-2xx status code: 404 Not Found: <?xml version="1.0" encoding="UTF-8"?>\n'
    assert reason(OSError(f"{start}<Error>{said}</Error>\nDebug source: …")) == words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "object store error service error: unhandled error (AccessDenied):"
            ' Error { code: "AccessDenied", message: "Access Denied." }',
            "Access Denied (AccessDenied)",
        ),
        (
            "object store error dispatch failure: io error: client error (Connect):"
            " tcp connect error: Connection refused (os error 111)",
            "tcp connect error: Connection refused (os error 111)",
        ),
        (
            'Generic S3 error: Error performing GET http://s/b in 47.9ms - 404 Not Found: <?xml version="1.0"?>\n'
            "<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist.</Message></Error>",
            "The bucket does not exist (NoSuchBucket)",
        ),
        ("decompression failed\n  |-> for developers", "decompression failed"),
        ("much " * 60, "much " * 49 + "much…"),
    ],
)
def test_an_error_of_the_client_is_told_in_words(said: str, words: str) -> None:
    assert in_words(said) == words
