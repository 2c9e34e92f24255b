"""Fourteen kinds of faults between cubeport and SeaweedFS: each read and each export is right or an error, never other bytes."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests import badstores
from tests.objectstore import KEY, SECRET

from cubeport.adapters.engines.objects import StoreObjects
from cubeport.adapters.exporting import BucketTarget
from cubeport.adapters.storage.s3 import S3Place
from cubeport.cubes.write_request import StoreObject
from cubeport.errors import StoreUnavailable

pytestmark = pytest.mark.slow

PARTS = 40

BODY = hashlib.shake_256(b"a source").digest(PARTS * 1_000)


def place(store, bucket):
    return S3Place("archive", bucket, "data", store.endpoint, key=KEY, secret=SECRET, allow_http=True)


def outcome(act):
    """Return what *act* returns, or ``None`` if the store is unavailable."""
    try:
        return act()
    except StoreUnavailable:
        return None


RECOVERS = ("kills-requests", "kills-answers", "answers-503", "answers-500", "is-slow", "cuts-answers", "sends-twice")
"""What requests that are sent again come through."""

SAMPLE = ("kills-answers", "flips-what-is-answered")
LANE = [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.slow) for name in badstores.NETWORKS]


@pytest.mark.parametrize("network", LANE)
def test_parts_of_a_source_are_right_or_an_error(seaweed, network):
    bucket = seaweed.bucket()
    seaweed.put(bucket, "data/a.nc", BODY)
    etag = seaweed.client.head_object(Bucket=bucket, Key="data/a.nc")["ETag"]
    source = StoreObject("archive", "a.nc", etag, len(BODY), hashlib.sha256(BODY).hexdigest())
    wanted = [BODY[n * 1_000 : (n + 1) * 1_000] for n in range(PARTS)]
    count = 2 if network == "is-gone" else PARTS
    with badstores.behind(seaweed, badstores.NETWORKS[network]) as store:
        objects = StoreObjects(lambda: {"archive": place(store, bucket)})
        read = lambda n: outcome(lambda: objects.read(source, n * 1_000, 1_000, hashlib.sha256(wanted[n]).hexdigest()))  # noqa: E731
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(read, range(count)))
    assert all(body in (None, wanted[n]) for n, body in enumerate(found))
    if network in RECOVERS:
        assert None not in found
    if network in ("flips-what-is-answered", "is-gone", "refuses-credentials"):
        assert found == [None] * count


@pytest.mark.parametrize("network", LANE)
def test_what_an_export_wrote_is_right_or_was_an_error(seaweed, network):
    bucket = seaweed.bucket()
    wanted = {f"c/{n}": BODY[n * 1_000 : (n + 1) * 1_000] for n in range(2 if network == "is-gone" else PARTS)}
    with badstores.behind(seaweed, badstores.NETWORKS[network]) as store:
        at = place(store, bucket)
        target = BucketTarget(at, at.connect())

        def put(key):
            return outcome(lambda: target.put(f"x/{key}", wanted[key]) or key)

        with ThreadPoolExecutor(4) as threads:
            written = [key for key in threads.map(put, wanted) if key is not None]
    there = {
        key: seaweed.client.get_object(Bucket=bucket, Key=f"data/x/{key}")["Body"].read()
        for key in (each.removeprefix("data/x/") for each in seaweed.keys(bucket))
    }
    assert all(there[key] == wanted[key] for key in written), "acknowledged, so it is there"
    assert all(body == wanted[key] for key, body in there.items()), "nothing else is there"
    if network in RECOVERS:
        assert set(written) == set(wanted)
    if network == "is-gone":
        assert written == []
