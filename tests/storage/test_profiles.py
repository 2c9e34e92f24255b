"""Profiles: the local one, one on fsspec, and their configuration. Both keep the same promises."""

from __future__ import annotations

import errno
import os
import sys
import uuid
from pathlib import Path

import pytest
from tests import objectstore

import cubeport
from cubeport.adapters.storage import local, remote
from cubeport.adapters.storage.local import LocalProfile
from cubeport.adapters.storage.profiles import read_profiles
from cubeport.adapters.storage.remote import SCRATCH, RemoteProfile
from cubeport.catalog.artifacts.storage import Profiles
from cubeport.catalog.testing.storage import StorageContract
from cubeport.errors import InvalidConfiguration, StoreUnavailable, TargetExists


class TestLocal(StorageContract):
    @pytest.fixture
    def profile(self, tmp_path):
        (tmp_path / "files").mkdir()
        return LocalProfile("default", tmp_path / "files")

    @pytest.fixture
    def profiles(self, profile):
        found = Profiles()
        found.add(profile)
        return found

    def test_a_root_that_is_gone_says_nothing(self, profile):
        profile.root.rmdir()
        for ask in (
            lambda: profile.stat("x"),
            lambda: profile.open("x"),
            lambda: list(profile.walk()),
            lambda: profile.remove("x", {}),
            lambda: profile.free_bytes(),
        ):
            with pytest.raises(StoreUnavailable):
                ask()

    def test_a_symbolic_link_is_not_followed(self, profile, tmp_path):
        (tmp_path / "secret").write_text("secret")
        (profile.root / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(StoreUnavailable):
            profile.open("link")
        assert [each.kind for each in profile.walk()] == ["other"]

    def test_a_folder_that_cannot_be_is_told(self, profile):
        (profile.root / "dangling").symlink_to(profile.root / "nothing" / "here")
        with pytest.raises(StoreUnavailable):
            self.target(profile, "dangling/x.txt", [])


class TestLocalWithoutLinks(TestLocal):
    """A file system that cannot link: an empty placeholder takes the name, and the bytes are renamed over it."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch):
        def link(*args, **kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(local.os, "link", link)


class TestRemote(StorageContract):
    @pytest.fixture
    def scratch(self, tmp_path):
        return LocalProfile(SCRATCH, tmp_path / "scratch")

    @pytest.fixture
    def profile(self, scratch):
        return RemoteProfile("bucket", "memory", f"memory://{uuid.uuid4().hex}/prefix", scratch)

    @pytest.fixture
    def profiles(self, profile, scratch):
        found = Profiles()
        scratch.root.mkdir(exist_ok=True)
        found.add(profile)
        found.add(scratch)
        return found

    def test_a_store_that_takes_too_little_is_told(self, profile, monkeypatch):
        fs = profile.fs
        monkeypatch.setattr(type(fs), "info", lambda self, path, **kw: {"name": path, "size": 1, "type": "file"})
        monkeypatch.setattr(type(fs), "exists", lambda self, path, **kw: False)
        with pytest.raises(StoreUnavailable, match="number of bytes"):
            self.put(profile, "x", b"22", [])

    def test_a_store_that_flips_a_bit_is_told(self, profile, monkeypatch):
        fs = profile.fs
        real = type(fs).put_file
        monkeypatch.setattr(
            type(fs), "put_file", lambda self, here, there, **kw: (real(self, here, there), self.pipe_file(there, b"3"))
        )
        with pytest.raises(StoreUnavailable, match="other bytes"):
            self.put(profile, "x", b"2", [])

    def test_a_driver_that_fails_is_unavailable_never_absent(self, profile, monkeypatch):
        def info(self, path, **kw):
            raise ConnectionError("reset")

        monkeypatch.setattr(type(profile.fs), "info", info)
        with pytest.raises(StoreUnavailable):
            profile.stat("x")

    def test_a_refusal_of_the_store_says_what_to_do(self, profile, monkeypatch):
        def info(self, path, **kw):
            raise PermissionError("Forbidden") from OSError("An error occurred (403) when calling the HeadObject operation")

        monkeypatch.setattr(type(profile.fs), "info", info)
        with pytest.raises(StoreUnavailable, match=r"inspect the artifact: Forbidden\.") as caught:
            profile.stat("x")
        assert "key_env" in str(caught.value.next_step)
        monkeypatch.setattr(type(profile.fs), "exists", info)
        [problem] = profile.problems()
        assert "key_env" in problem.next_step

    def test_a_driver_that_is_not_installed_is_named(self, scratch):
        profile = RemoteProfile("bucket", "no-such-protocol", "no-such-protocol://x", scratch)
        with pytest.raises(StoreUnavailable):
            profile.stat("x")
        assert profile.problems()

    def test_a_driver_whose_library_is_not_installed_names_it(self, scratch, monkeypatch):
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(StoreUnavailable, match=r"s3fs is not installed") as caught:
            RemoteProfile("bucket", "s3", "s3://x", scratch).stat("x")
        assert caught.value.next_step == "pip install 'cubeport[s3]'"


class TestS3(StorageContract):
    """The same promises on an S3-compatible store, over a socket."""

    @pytest.fixture
    def scratch(self, tmp_path):
        return LocalProfile(SCRATCH, tmp_path / "scratch")

    @pytest.fixture
    def profile(self, scratch, object_store):
        options = {"key": objectstore.KEY, "secret": objectstore.SECRET, "endpoint_url": object_store.endpoint}
        return RemoteProfile("bucket", "s3", f"s3://{object_store.bucket()}/prefix", scratch, options=options)

    @pytest.fixture
    def profiles(self, profile, scratch):
        found = Profiles()
        scratch.root.mkdir(exist_ok=True)
        found.add(profile)
        found.add(scratch)
        return found


# --- durability -----------------------------------------------------------------------------------------------------


def test_every_file_is_synced_before_its_name_and_every_folder_after(tmp_path, monkeypatch):
    (tmp_path / "files").mkdir()
    told = []
    real = os.fsync

    def fsync(descriptor):
        told.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    profile = LocalProfile("default", tmp_path / "files")
    contract = StorageContract()
    target = contract.target(profile, "new/cube.zarr", [], kind="directory", operation_id="0" * 32)
    part = f"files/new/.cube.zarr.{'0' * 32}.part"
    assert told == ["files"], "the new folder's own name"
    (target.path / "c").mkdir()
    (target.path / "c" / "0").write_bytes(b"0")
    (target.path / "zarr.json").write_bytes(b"{}")
    told.clear()
    target.seal()
    assert sorted(told[:2]) == [f"{part}/c/0", f"{part}/zarr.json"]
    assert told[2:] == [f"{part}/c", part]
    told.clear()
    target.publish(lambda claim: None)
    assert told == ["files/new"]


# --- configuration --------------------------------------------------------------------------------------------------


def write(tmp_path, text):
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "profiles.yaml").write_text(text)
    return lambda **environment: read_profiles(tmp_path, tmp_path / "scratch", environment)


def test_profiles_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    read = write(
        tmp_path,
        "profiles:\n"
        "  default: {protocol: file, root: ./files}\n"
        '  scratch: {protocol: file, root: "~/${X}/cubeport", hash: none, collision: error}\n'
        '  bucket: {protocol: memory, root: "memory://bucket/prefix", storage_options_env: OPTIONS}\n',
    )
    profiles, _ = read(OPTIONS='{"a": 1}')
    assert profiles.get("default").root == tmp_path / "files"
    assert profiles.get("scratch").root == Path("/home/ana/${X}/cubeport")
    assert (profiles.get("scratch").hash, profiles.get("scratch").collision) == ("none", "error")
    assert profiles.get("bucket").key("x") == "bucket/prefix/x"


def test_the_environment_wins(tmp_path):
    read = write(tmp_path, "profiles:\n  default: {root: ./files}\n")
    profiles, _ = read(CUBEPORT_PROFILES__DEFAULT__ROOT="./elsewhere")
    assert profiles.get("default").root == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("profiles:\n  bad: {root: x, rooot: y}\n", "bad", "config/profiles.yaml:2:18"),
        ("profiles:\n  Bad: {root: x}\n", "Bad", "config/profiles.yaml:2:3"),
        ("profiles:\n  bad: {protocol: file}\n", "bad", "config/profiles.yaml:2"),
        ('profiles:\n  bad: {protocol: s3, root: "s3://user:pw@bucket"}\n', "bad", "config/profiles.yaml:2"),
        ("profiles:\n  bad: {root: x, directory: '{a'}\n", "bad", "config/profiles.yaml:2"),
        ("profiles:\n  bad: {protocol: memory, root: 'memory://b', key_env: THE_KEY}\n", "bad", "THE_KEY"),
    ],
)
def test_one_wrong_profile_is_one_line_and_stops_only_what_needs_it(tmp_path, text, name, place):
    write(tmp_path, text + "  default: {root: ./files}\n")
    with cubeport.Catalog.create(tmp_path, plugins=False) as catalog:
        kept = catalog.add_bytes(b"x", filename="x.txt")
        [problem] = catalog.profiles.get(name).problems()
        assert place in problem.message
        assert "pw" not in problem.message
        found = [(each.message, each.next_step) for each in catalog.doctor() if each.place == f"profile {name}"]
        assert found == [(problem.message, problem.next_step)]
        assert "config/profiles.yaml" in found[0][1]
        assert catalog.count() == 1
        assert catalog.fsck().findings == ()
        with pytest.raises(InvalidConfiguration) as caught:
            catalog.add_bytes(b"y", filename="y.txt", profile=name)
        assert place in caught.value.message
        assert catalog.path(kept.id).read_bytes() == b"x"


def test_a_file_without_profiles_is_refused_at_its_place(tmp_path):
    with pytest.raises(InvalidConfiguration, match=r"config/profiles\.yaml:1:1"):
        write(tmp_path, "other: 1\n")()


def test_the_name_of_the_user_is_filled_in_and_nothing_else(tmp_path):
    read = write(tmp_path, "profiles:\n  a: {root: /scratch/$USER/a}\n  b: {root: '/scratch/${USER}/$HOME'}\n")
    profiles, _ = read(USER="ana")
    assert profiles.get("a").root == Path("/scratch/ana/a")
    assert profiles.get("b").root == Path("/scratch/ana/$HOME")


# --- a catalog on a remote store ------------------------------------------------------------------------------------


@pytest.fixture
def on_memory(tmp_path):
    write(
        tmp_path,
        f"profiles:\n  default: {{root: ./files}}\n  bucket: {{protocol: memory, root: 'memory://{uuid.uuid4().hex}'}}\n",
    )
    with cubeport.Catalog.create(tmp_path, plugins=False) as catalog:
        yield catalog


def test_a_catalog_keeps_bytes_on_a_remote_store(on_memory, tmp_path):
    tree = tmp_path / "cube.zarr"
    tree.mkdir()
    (tree / "zarr.json").write_text("{}")
    one = on_memory.add_bytes(b"bytes", filename="x.txt", profile="bucket")
    two = on_memory.add_file(tree, profile="bucket")
    assert [v.verdict for v in on_memory.verify(one.id, two.id)] == ["ok", "ok"]
    with on_memory.open_artifact(one.id) as reading:
        assert reading.read() == b"bytes"
    assert list((tmp_path / ".cubeport" / "scratch").iterdir()) == []
    on_memory.purge(one.id)
    on_memory.purge(two.id)
    assert list(on_memory.profiles.get("bucket").walk()) == []


def test_a_remote_add_that_fails_leaves_nothing(on_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.RemoteTarget, "seal", lambda self: (_ for _ in ()).throw(StoreUnavailable("down")))
    with pytest.raises(StoreUnavailable):
        on_memory.add_bytes(b"bytes", filename="x.txt", profile="bucket")
    assert list(on_memory.profiles.get("bucket").walk()) == []
    assert list((tmp_path / ".cubeport" / "scratch").iterdir()) == []


def test_target_exists_is_a_conflict_on_any_store(on_memory):
    locator = {"kind": "urlpath", "profile": "bucket", "urlpath": "exactly/here.bin"}
    on_memory.add_artifact(source=b"1", locator=locator)
    with pytest.raises(TargetExists):
        on_memory.add_artifact(source=b"2", locator=locator)


def test_memory_warns_that_it_forgets(on_memory):
    added = on_memory.add_bytes(b"bytes", filename="x.txt", profile="bucket")
    assert [each for each in added.warnings if "lost when it ends" in each]
    assert on_memory.add_bytes(b"bytes", filename="x.txt").warnings == ()
