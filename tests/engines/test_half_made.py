"""A repository is made only in a store that keeps its word; one whose making failed is made by the next attempt."""

import pytest
from tests import badstores
from tests.objectstore import KEY, SECRET

pytest.importorskip("icechunk")

from cubeport.adapters.engines.repositories import Bucket, Repositories, Tuning
from cubeport.adapters.storage.s3 import S3Place
from cubeport.errors import Corrupt, InvalidConfiguration, StoreUnavailable


def repositories(store, bucket):
    place = S3Place("bulk", bucket, "cubes", store.endpoint, key=KEY, secret=SECRET, allow_http=True)
    return Repositories(Bucket(place), Tuning(retries=1))


def ends_after(count):
    """Forward *count* writes, and answer no later one."""
    written = []

    def fault(request):
        if request.method == "PUT":
            written.append(request.path)
            if len(written) > count:
                raise badstores.Killed
        return request.forward()

    return fault


TRIAL = 5
"""Writes of the trial, which comes first."""


@pytest.mark.parametrize("count", [0, *range(TRIAL, TRIAL + 4)])
def test_the_next_attempt_makes_what_one_left_half(object_store, count):
    bucket = object_store.bucket()
    with badstores.behind(object_store, ends_after(count)) as failing:
        half = repositories(failing, bucket)
        try:
            half.make("a")
        except StoreUnavailable:
            made = False
        else:
            made = True
    left = object_store.keys(bucket)
    assert bool(left) == (count > TRIAL)
    again = repositories(object_store, bucket)
    assert (again.find("a") is not None) == made
    again.make("a")
    assert again.find("a") is not None
    again.make("a")


def test_chunks_without_a_repository_are_left_for_a_person(object_store):
    bucket = object_store.bucket()
    object_store.put(bucket, "cubes/a/chunks/ABC", b"data")
    with pytest.raises(Corrupt, match="chunks of a dataset and no repository"):
        repositories(object_store, bucket).make("a")
    assert object_store.keys(bucket) == ["cubes/a/chunks/ABC"]


def test_a_store_that_became_one_that_loses_data_gets_no_dataset(object_store):
    bucket = object_store.bucket()
    with badstores.lying(object_store, "ignores-if-match") as store, pytest.raises(InvalidConfiguration, match="would lose them"):
        repositories(store, bucket).make("a")
    assert object_store.keys(bucket) == []
