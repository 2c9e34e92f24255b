"""The contract of a storage profile as tests. They need pytest.

A third party inherits the class and defines the fixtures ``profiles`` (a :class:`~cubeport.catalog.artifacts.storage.Profiles` with
the profile and any others that it needs) and ``profile``, which is writable and empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cubeport.catalog.artifacts.storage import Collision, Profile, Profiles, StoragePlan, Target, suffixed
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.hooks import HookManager
from cubeport.catalog.models import TargetKind
from cubeport.catalog.work.undo import Compensation, Undoer
from cubeport.errors import ArtifactMissing, TargetExists


class StorageContract:
    """The contract on which the core relies."""

    @pytest.fixture
    def journal(self) -> list[Compensation]:
        """Return the recorded compensations in order."""
        return []

    def target(
        self,
        profile: Profile,
        path: str,
        journal: list[Compensation],
        *,
        kind: TargetKind = "file",
        collision: Collision = "suffix",
        operation_id: str | None = None,
    ) -> Target:
        """Return a target for *path*, and record its compensations like a unit of work."""
        object_id = new_id()
        path = suffixed(path, object_id) if profile.unique_names else path
        folder, _, name = path.rpartition("/")
        plan = StoragePlan(
            profile.locator(path), kind, "write", profile.name, path, folder, name, collision=collision, object_id=object_id
        )
        target = profile.target(plan, operation_id or new_id())
        journal += map(Compensation.from_mapping, target.compensations)
        return target

    def put(self, profile: Profile, path: str, data: bytes, journal: list[Compensation], **options: Any) -> str:
        """Publish *data* and return its path."""
        target = self.target(profile, path, journal, **options)
        target.path.write_bytes(data)
        target.seal()
        return target.publish(_claim(journal))

    def read(self, profile: Profile, path: str) -> bytes:
        """Return the bytes that a reader gets."""
        with profile.open(path) as reading:
            return reading.read()

    def test_bytes_have_their_name_when_they_are_whole_and_not_before(self, profile: Profile, journal: list[Compensation]) -> None:
        """A reader never sees half a file under its final name."""
        target = self.target(profile, "a/b.txt", journal)
        target.path.write_bytes(b"half")
        names = [each.path for each in profile.walk() if not each.path.rpartition("/")[2].startswith(".")]
        assert names == []
        target.path.write_bytes(b"whole")
        target.seal()
        path = target.publish(_claim(journal))
        assert self.read(profile, path) == b"whole"
        found = profile.stat(path)
        assert found is not None
        assert (found.kind, found.size_bytes) == ("file", 5)
        assert [each.path for each in profile.walk()] == [path]

    def test_nothing_is_ever_replaced(self, profile: Profile, journal: list[Compensation]) -> None:
        """Publishing the same name twice gives two paths, or is refused."""
        first = self.put(profile, "x.tar.gz", b"1", journal)
        second = self.put(profile, "x.tar.gz", b"2", journal)
        assert first != second
        assert second.endswith(".tar.gz")
        assert (self.read(profile, first), self.read(profile, second)) == (b"1", b"2")
        if not profile.unique_names:
            with pytest.raises(TargetExists):
                self.put(profile, "x.tar.gz", b"3", journal, collision="error")
            assert self.read(profile, first) == b"1"

    def test_absent_is_said(self, profile: Profile) -> None:
        """A path is absent only if the store says so."""
        assert profile.stat("nothing/here") is None
        with pytest.raises(ArtifactMissing):
            profile.open("nothing/here")

    def test_a_folder_is_published_whole(self, profile: Profile, journal: list[Compensation]) -> None:
        """Its files are sorted, with relative paths."""
        target = self.target(profile, "cube.zarr", journal, kind="directory")
        (target.path / "c").mkdir()
        (target.path / "c" / "0").write_bytes(b"00")
        (target.path / "zarr.json").write_bytes(b"{}")
        target.seal()
        path = target.publish(_claim(journal))
        assert [(each.path, each.size_bytes) for each in profile.files(path)] == [("c/0", 2), ("zarr.json", 2)]
        assert self.read(profile, f"{path}/zarr.json") == b"{}"

    @pytest.mark.parametrize("kind", ["file", "directory"])
    @pytest.mark.parametrize("reached", ["made", "written", "published"])
    def test_compensations_leave_nothing_wherever_it_stopped(
        self, profiles: Profiles, profile: Profile, journal: list[Compensation], kind: TargetKind, reached: str
    ) -> None:
        """They run twice, as recovery can."""
        stranger = self.put(profile, "deep/theirs.txt", b"a stranger's", [])
        operation_id = new_id()
        target = self.target(profile, "deep/er/ours.bin", journal, kind=kind, operation_id=operation_id)
        if reached != "made":
            (target.path if kind == "file" else target.path / "inner").write_bytes(b"bytes")
        if reached == "published":
            target.seal()
            target.publish(_claim(journal))
        undoer = Undoer(profiles, HookManager())
        for _ in range(2):
            assert undoer.undo(journal, operation_id).left == ()
            assert [each.path for each in profile.walk()] == [stranger]
        assert not target.path.exists()

    def test_only_what_is_proven_is_removed(self, profile: Profile, journal: list[Compensation]) -> None:
        """A wrong proof removes nothing; the right proof removes once."""
        path = self.put(profile, "x.bin", b"1", journal)
        other = self.put(profile, "y.bin", b"2", journal)
        found, of_other = profile.stat(path), profile.stat(other)
        assert found is not None
        assert of_other is not None
        assert profile.remove(path, {}) == "not-ours"
        assert profile.remove(path, of_other.proof) == "not-ours"
        assert self.read(profile, path) == b"1"
        assert profile.remove(path, found.proof) == "removed"
        assert profile.remove(path, found.proof) == "absent"


def _claim(journal: list[Compensation]) -> Any:
    def claim(document: Mapping[str, Any]) -> None:
        journal.append(Compensation.from_mapping(document))

    return claim
