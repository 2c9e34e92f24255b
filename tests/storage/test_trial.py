"""The trial of a store: it passes two that keep their word, and refuses one for each broken promise, and a real one that lies."""

import json
import re

import pytest
from tests import badstores
from tests.objectstore import KEY, SECRET

from cubeport.adapters.storage.profiles import read_profiles, s3_places
from cubeport.adapters.storage.s3 import S3Place
from cubeport.adapters.storage.trial import broken_promises, check_store
from cubeport.cli._app import run
from cubeport.errors import InvalidConfiguration, StoreUnavailable
from cubeport.main.command import wiring


def place(store, bucket, prefix="data", **more):
    given = {"key": KEY, "secret": SECRET, "endpoint_url": store.endpoint, "allow_http": True}
    return S3Place("bucket", bucket, prefix, **(given | more))


@pytest.mark.parametrize("name", ["object_store", "seaweed"])
def test_a_store_that_keeps_its_word_passes_and_nothing_stays(name, request):
    store = request.getfixturevalue(name)
    bucket = store.bucket()
    check_store(place(store, bucket))
    assert store.keys(bucket) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("ignores-if-none-match", ["It ignores If-None-Match: it replaced an object that existed."]),
        ("ignores-if-match", ["It ignores If-Match: it replaced an object whose ETag was another."]),
        ("ignores-range", ["It does not answer Range: Generic S3 error: Received non-partial response when range requested."]),
        ("answers-stale", ["It returned other bytes than those that were written last."]),
    ],
)
def test_one_lie_is_named(object_store, fault, words):
    bucket = object_store.bucket()
    with badstores.lying(object_store, fault) as store:
        assert broken_promises(place(store, bucket)) == words
    assert object_store.keys(bucket) == [], "nothing stays"


def test_rclone_is_refused(tmp_path):
    with badstores.rclone(tmp_path) as store:
        bucket = store.bucket()
        with pytest.raises(InvalidConfiguration) as caught:
            check_store(place(store, bucket))
    lines = caught.value.message.splitlines()
    assert lines[0] == "The store of the profile bucket cannot keep data, because it would lose them:"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "- It does not answer Range",
        "- It ignores If-None-Match",
        "- It ignores If-Match",
    ]


def test_a_store_that_cannot_be_asked_is_unavailable_not_unfit(object_store):
    for wrong, advice in (
        (place(object_store, "no-such-bucket"), "make the bucket"),
        (place(object_store, "any", endpoint_url="http://127.0.0.1:1"), "check the profile"),
    ):
        with pytest.raises(StoreUnavailable, match=r"Cannot try the store at s3://") as caught:
            check_store(wrong)
        assert advice in str(caught.value.next_step)


def test_a_wrong_secret_is_unavailable_and_not_shown(seaweed):
    with pytest.raises(StoreUnavailable) as caught:
        check_store(place(seaweed, seaweed.bucket(), secret="another-secret-77"))
    assert "another-secret-77" not in repr((caught.value, caught.value.__cause__, place(seaweed, "b", secret="another-secret-77")))


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """Return what writes a profile with `use: [data]` and runs a command there."""

    def write(store, bucket, **more):
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "config").mkdir(exist_ok=True)
        profiles = {"default": {"root": "./files"}, "cubes": store.profile(f"{bucket}/data", use=["data"], **more)}
        (tmp_path / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
        return lambda *words: run(wiring(), ["--instance", str(tmp_path), *words])

    return write


@pytest.mark.parametrize("fault", ["ignores-if-match", "answers-stale"])
def test_init_refuses_a_store_that_lies_and_makes_nothing(object_store, instance, tmp_path, fault, capsys):
    with badstores.lying(object_store, fault) as store:
        assert instance(store, object_store.bucket())("init", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "would lose them" in said
    assert "doctor --try-stores" in said
    assert [each.name for each in tmp_path.iterdir()] == ["config"]


@pytest.mark.parametrize(
    ("store", "lies"),
    [
        (badstores.rclone, ["It ignores If-None-Match", "It ignores If-Match", "It does not answer Range"]),
        (badstores.localbucket, ["It ignores If-Match", "It does not remove objects"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_init_refuses_a_real_store_that_lies_and_makes_nothing(instance, tmp_path, tmp_path_factory, capsys, store, lies):
    with store(tmp_path_factory.mktemp("store")) as running:
        assert instance(running, running.bucket())("init", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert [each for each in lies if each not in said] == []
    assert [each.name for each in tmp_path.iterdir()] == ["config"]


def test_doctor_repeats_the_trial_and_its_rules_can_be_pasted(object_store, instance, tmp_path, capsys):
    bucket = object_store.bucket()
    command = instance(object_store, bucket)
    assert command("init", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "profile cubes: the lifecycle rules of the bucket are not checked" in said
    rule = json.loads(said[said.index('{"ID"') :])
    command = instance(object_store, bucket, lifecycle="checked")
    assert command("doctor", "--try-stores", "--all") == 0
    assert "no lifecycle rule removes unfinished uploads" in capsys.readouterr().out
    expiring = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "dat"}, "Expiration": {"Days": 30}}
    for rules in ([rule], [rule, expiring]):
        object_store.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
        assert command("--json", "doctor", "--try-stores", "--all") == (len(rules) - 1)
        found = [(each["kind"], each["level"]) for each in json.loads(capsys.readouterr().out) if each["place"] == "profile cubes"]
        assert ("store-trial", "ok") in found
        assert ("lifecycle", "ok") in found
        assert (("lifecycle", "error") in found) == (len(rules) == 2)
    with badstores.lying(object_store, "ignores-if-none-match") as store:
        assert instance(store, bucket)("doctor", "--try-stores") == 1
    assert "It ignores If-None-Match" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"protocol": "file", "root": "x", "use": ["data"]}, r"use: \[data\] is for protocol: s3"),
        ({"protocol": "file", "root": "x", "allow_http": True}, "allow_http is for protocol: s3"),
        ({"protocol": "s3", "root": "s3://b", "lifecycle": "checked"}, r"lifecycle is for profiles with use: \[data\]"),
        ({"protocol": "s3", "root": "s3://b", "endpoint_url": "http://192.0.2.1"}, "unencrypted: use https, or write allow_http"),
        ({"protocol": "s3", "root": "s3://b", "use": ["data"], "storage_options_env": "X"}, "needs key_env and secret_env"),
    ],
)
def test_settings_that_would_do_nothing_or_harm_are_refused(tmp_path, written, words):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "profiles.yaml").write_text(json.dumps({"profiles": {"cubes": written}}))
    profiles, _ = read_profiles(tmp_path, tmp_path / "scratch", {"X": "{}"})
    [problem] = profiles.get("cubes").problems()
    assert re.search(words, problem.message)


@pytest.mark.parametrize(
    ("given", "style"), [({}, "virtual"), ({"endpoint_url": "https://s"}, "path"), ({"force_path_style": True}, "path")]
)
def test_both_clients_take_the_same_addresses(tmp_path, given, style):
    (tmp_path / "config").mkdir()
    written = {"protocol": "s3", "root": "s3://b/p", "use": ["data"], "allow_http": True, **given}
    (tmp_path / "config" / "profiles.yaml").write_text(json.dumps({"profiles": {"cubes": written}}))
    profiles, _ = read_profiles(tmp_path, tmp_path / "scratch", {})
    assert profiles.get("cubes")._options["config_kwargs"] == {"s3": {"addressing_style": style}}
    assert s3_places(tmp_path, {}, "data")["cubes"].path_style == (style == "path")
    assert s3_places(tmp_path, {}, "source") == {}
