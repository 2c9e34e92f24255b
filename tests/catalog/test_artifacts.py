"""Artifacts as things of their own: named, described, selected, replaced, taken off, copied out, known before they are here."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

import cubeport
from cubeport.errors import AmbiguousId, ArtifactMissing, HashMismatch, InvalidRequest, RecordExists, TargetExists


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    root = tmp_path / "instance"
    (root / "config").mkdir(parents=True)
    (root / "config" / "profiles.yaml").write_text(
        f"profiles:\n  default: {{root: ./files}}\n  bucket: {{protocol: memory, root: 'memory://{uuid.uuid4().hex}'}}\n"
    )
    with cubeport.Catalog.create(root, user_id="ana", plugins=False) as opened:
        yield opened


@pytest.fixture
def run(catalog: Any, tmp_path: Path) -> str:
    """Add a run with three artifacts and return its id."""
    (tmp_path / "Config File.yaml").write_text("config")
    added = catalog.add_file(tmp_path / "Config File.yaml", title="Run 1", role="config")
    catalog.add_artifact({"lines": 2}, record=added, source=b"log", filename="out.log", role="log")
    catalog.add_artifact(record=added, source=b"1,2", filename="result.csv", role="derived")
    return str(added.id)


def files(catalog: Any) -> list[str]:
    return sorted(each.name for each in (catalog.root / "files").rglob("*") if each.is_file())


def test_the_original_name_is_kept_and_attachments_keep_theirs(catalog: Any, run: str) -> None:
    assert [each.original_name for each in catalog.get(run).artifacts] == ["Config File.yaml", "out.log", "result.csv"]
    assert files(catalog) == ["out.log", "result.csv", "run-1.yaml"]


@pytest.mark.parametrize(("name", "expected"), [("log", b"log"), ("result.csv", b"1,2"), ("Config File.yaml", b"config")])
def test_an_artifact_is_selected_by_role_or_name(catalog: Any, run: str, name: str, expected: bytes) -> None:
    assert catalog.path(run, name).read_bytes() == expected
    with catalog.open_artifact(run, name) as reading:
        assert reading.read() == expected


def test_a_role_that_several_have_is_ambiguous(catalog: Any, run: str) -> None:
    catalog.add_artifact(record=run, source=b"more", filename="more.log", role="log")
    with pytest.raises(AmbiguousId, match=r"out\.log"):
        catalog.path(run, "log")
    assert catalog.path(run, "more.log").read_bytes() == b"more"
    with pytest.raises(ArtifactMissing):
        catalog.path(run, "preview")


def test_an_artifact_is_described(catalog: Any, run: str) -> None:
    changed = catalog.update_artifact(run, "log", set={"lines": 3, "deep.a": 1}, media_type="text/plain")
    log = next(each for each in changed.artifacts if each.role == "log")
    assert (log.metadata, log.media_type) == ({"lines": 3, "deep": {"a": 1}}, "text/plain")
    assert catalog.count("artifact.metadata.lines=3") == 1
    with pytest.raises(InvalidRequest, match="size_bytes"):
        catalog.update_artifact(run, "log", size_bytes=3)


def test_an_artifact_is_detached_with_its_bytes(catalog: Any, run: str) -> None:
    assert [each.role for each in catalog.detach(run, "log").artifacts] == ["config", "derived"]
    assert files(catalog) == ["result.csv", "run-1.yaml"]
    assert catalog.fsck(data=True).findings == ()
    assert len(catalog.at(run, 3).artifacts) == 3


def test_a_reference_that_is_detached_stays(catalog: Any, run: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("theirs")
    catalog.add_artifact(record=run, locator=tmp_path / "theirs.txt", role="preview")
    catalog.detach(run, "preview")
    assert (tmp_path / "theirs.txt").read_text() == "theirs"


def test_an_artifact_is_replaced_in_one_commit(catalog: Any, run: str) -> None:
    added = catalog.replace_artifact(run, b"new log", "log", filename="new.log")
    log = next(each for each in added.record.artifacts if each.role == "log")
    assert (log.original_name, log.metadata, log.size_bytes) == ("new.log", {"lines": 2}, 7)
    assert files(catalog) == ["new.log", "result.csv", "run-1.yaml"]
    assert catalog.fsck(data=True).findings == ()


def test_a_replacement_that_fails_leaves_the_old_bytes(catalog: Any, run: str) -> None:
    with pytest.raises(HashMismatch):
        catalog.replace_artifact(run, b"new log", "log", filename="new.log", hashes={"sha256": "0" * 64})
    assert catalog.path(run, "log").read_bytes() == b"log"
    assert files(catalog) == ["out.log", "result.csv", "run-1.yaml"]


@pytest.mark.parametrize("profile", ["default", "bucket"])
def test_bytes_are_copied_out_of_any_store_under_their_own_name(catalog: Any, tmp_path: Path, profile: str) -> None:
    folder = tmp_path / "data.zarr"
    (folder / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "c" / "0").write_bytes(b"0")
    one = catalog.add_bytes(b"bytes", title="Other", filename="My name.txt", profile=profile)
    two = catalog.add_file(folder, profile=profile)
    assert catalog.copy_out(one, tmp_path / "out").name == "My name.txt"
    assert (tmp_path / "out" / "My name.txt").read_bytes() == b"bytes"
    assert (catalog.copy_out(two, tmp_path / "out") / "c" / "0").read_bytes() == b"0"
    with pytest.raises(TargetExists):
        catalog.copy_out(one, tmp_path / "out")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["My name.txt", "data.zarr"]


def test_a_folder_is_no_stream_of_bytes(catalog: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("a")
    added = catalog.add_file(tmp_path / "d", profile="bucket")
    with pytest.raises(InvalidRequest, match="folder"):
        catalog.open_artifact(added)


def test_known_size_and_hash_are_kept_and_compared(catalog: Any, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"bytes").hexdigest()
    added = catalog.add_artifact(locator="https://example.org/a.nc", size_bytes=5, hashes={"sha256": digest})
    [artifact] = added.record.artifacts
    assert (artifact.status, artifact.size_bytes, artifact.hashes) == ("external", 5, {"sha256": digest})
    catalog.add_bytes(b"bytes", size_bytes=5, hashes={"sha256": digest})
    for wrong in ({"size_bytes": 4}, {"hashes": {"sha256": "0" * 64}}):
        with pytest.raises(HashMismatch):
            catalog.add_bytes(b"bytes", **wrong)
    assert catalog.count() == 2
    assert len(files(catalog)) == 1


def test_the_same_bytes_are_found_by_their_hash(catalog: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"same")
    (tmp_path / "b.txt").write_bytes(b"same")
    first = catalog.add_file(tmp_path / "a.txt")
    again = catalog.add_file(tmp_path / "b.txt", duplicates="skip")
    assert (again.outcome, again.id) == ("skipped", first.id)
    with pytest.raises(RecordExists, match="same bytes"):
        catalog.add_bytes(b"same", duplicates="error")
    assert catalog.add_bytes(b"other", duplicates="error").outcome == "added"
    catalog.delete(first)
    assert catalog.add_file(tmp_path / "b.txt", duplicates="skip").outcome == "added"


def test_templates_and_relations_are_set_in_the_catalogs_file(catalog: Any) -> None:
    with (catalog.root / ".cubeport" / "catalog.yaml").open("a") as file:
        file.write('templates: {kinds: {paper: {directory: "papers/{metadata.year}", filename: "{key_slug}{original_suffix}"}}}\n')
        file.write("relations: [cites]\n")
    with cubeport.Catalog.open(catalog.root, plugins=False) as again:
        one = again.add_bytes(b"1", {"year": 1843}, kind="paper", key="lovelace", filename="x.pdf")
        assert one.plan.relative_path == "papers/1843/lovelace.pdf"
        assert again.add_bytes(b"2", title="Other", filename="y.pdf").plan.filename == "other.pdf"
        two = again.add(kind="paper", lineage=[("cites", one)])
        assert two.record.lineage[0].rel == "cites"


def test_commands(catalog: Any, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    monkeypatch.chdir(catalog.root)
    for line, out in (
        (["cat", run, "--artifact", "log"], b"log"),
        (["get", run, "--artifact", "result.csv", "-o", "out"], b"out/result.csv\n"),
        (["replace", run, "out/result.csv", "--artifact", "log"], b"is at version 4"),
        (["detach", run, "log", "--yes"], b"is at version 5"),
    ):
        assert cubeport.main.run(line) == 0, line
        assert out in capfdbinary.readouterr().out
