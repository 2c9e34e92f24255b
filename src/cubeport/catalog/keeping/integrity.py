"""Verify artifacts against the catalog, and fetch and drop external artifacts."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from cubeport.catalog.artifacts.paths import segment
from cubeport.catalog.artifacts.planning import PlannedPlace, Planner
from cubeport.catalog.artifacts.storage import Fetcher, Profiles, Stored
from cubeport.catalog.artifacts.writers import measure, sha256_of, tree_hash
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.models import Artifact, CatalogRecord, ExternalURILocator, FSSpecLocator, InlineLocator, LocalPathLocator
from cubeport.catalog.work.undo import Action
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import (
    AmbiguousId,
    ArtifactMissing,
    CubeportError,
    HashMismatch,
    InvalidRequest,
    SourceRejected,
    StoreUnavailable,
    TargetExists,
)

Verdict = Literal["ok", "missing", "size-differs", "hash-differs", "unhashed", "unreachable"]


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of verifying one artifact."""

    record_id: str
    artifact_id: str
    verdict: Verdict
    place: str
    detail: str | None = None


def place_of(artifact: Artifact) -> tuple[str, str] | None:
    """Return the profile and path of managed bytes, or ``None`` for other artifacts."""
    match artifact.locator:
        case LocalPathLocator(profile=str() as profile, path=path):
            return profile, path
        case FSSpecLocator(profile=str() as profile, urlpath=path):
            return profile, path
    return None


def shown(artifact: Artifact) -> str:
    """Return the artifact's location for users: ``profile:path`` for managed bytes."""
    if managed := place_of(artifact):
        return ":".join(managed)
    locator = artifact.locator
    return str(getattr(locator, "path", None) or getattr(locator, "urlpath", None) or getattr(locator, "uri", None) or locator.kind)


def verify(profiles: Profiles, record: CatalogRecord, *, fast: bool) -> Iterator[Verified]:
    """Verify each artifact whose bytes should be here, and yield the results. With *fast*, no bytes are read."""
    for artifact in record.artifacts:
        if artifact.status in ("external", "planned"):
            continue
        try:
            verdict = _verdict(profiles, artifact, fast=fast)
        except CubeportError as exc:
            # If the store fails, the state of its bytes is unknown.
            yield Verified(record.id, artifact.artifact_id, "unreachable", shown(artifact), exc.message)
        else:
            if verdict is not None:
                yield Verified(record.id, artifact.artifact_id, verdict, shown(artifact))


def _verdict(profiles: Profiles, artifact: Artifact, *, fast: bool) -> Verdict | None:
    match artifact.locator:
        case InlineLocator():
            return None
        case LocalPathLocator(profile=None, path=path):
            return _of_reference(Path(path), artifact, fast=fast)
    managed = place_of(artifact)
    if managed is None:
        raise StoreUnavailable("cubeport cannot read a locator of this kind.")
    profile = profiles.get(managed[0])
    found = profile.stat(managed[1])
    if found is None:
        return "missing"
    if artifact.target_kind == "directory":
        files = list(profile.files(managed[1]))
        size = sum(each.size_bytes for each in files)
    else:
        files, size = [found], found.size_bytes
    if artifact.size_bytes is not None and size != artifact.size_bytes:
        return "size-differs"
    expected = next(iter(artifact.hashes.items()), None)
    if expected is None:
        return "unhashed"
    if fast:
        return "ok"
    if expected[0] == "sha256-tree":
        digest = tree_hash((_hash(profile.open(f"{managed[1]}/{each.path}")), each.size_bytes, each.path) for each in files)
    else:
        digest = _hash(profile.open(managed[1]))
    return "ok" if digest == expected[1] else "hash-differs"


def _hash(reading: BinaryIO) -> str:
    with reading:
        return sha256_of(reading)[1]


def _of_reference(path: Path, artifact: Artifact, *, fast: bool) -> Verdict:
    if not path.exists():
        return "missing" if path.parent.is_dir() else "unreachable"
    if path.is_file() and artifact.size_bytes is not None and path.stat().st_size != artifact.size_bytes:
        return "size-differs"
    expected = next(iter(artifact.hashes.items()), None)
    if expected is None:
        return "unhashed"
    return "ok" if fast or measure(path).hashes.get(expected[0]) == expected[1] else "hash-differs"


def checked(record: CatalogRecord, found: Iterable[Verified], at: Any) -> CatalogRecord:
    """Return *record* with the time of verification and the missing artifacts. Unreachable artifacts do not change."""
    verdicts = {each.artifact_id: each.verdict for each in found if each.verdict != "unreachable"}

    def one(artifact: Artifact) -> Artifact:
        verdict = verdicts.get(artifact.artifact_id)
        if verdict is None:
            return artifact
        return artifact.replace(checked_at=at, status="missing" if verdict == "missing" else "available")

    return record.replace(artifacts=tuple(one(each) for each in record.artifacts))


def choose(record: CatalogRecord, name: str | None, *, status: str | None = None) -> Artifact:
    """Return the artifact that *name* selects: by id or its first characters, otherwise by role, otherwise by original name.

    Without a name it is the primary artifact, with *status* if it is given.

    Raises
    ------
    ArtifactMissing
        If there is none.
    AmbiguousId
        If several have the role or the name.
    """
    able = [each for each in record.artifacts if status is None or each.status == status]
    ways: tuple[Callable[[Artifact], bool], ...] = (
        lambda each: name is None or each.artifact_id.startswith(name),
        lambda each: each.role == name,
        lambda each: each.original_name == name,
    )
    found = next((some for way in ways if (some := [each for each in able if way(each)])), [])
    if name is not None and len(found) > 1:
        candidates = [{"id": each.artifact_id, "kind": each.role, "title": each.original_name} for each in found]
        lines = "".join(f"\n  {each.artifact_id}  {each.role}  {each.original_name or ''}".rstrip() for each in found)
        raise AmbiguousId(f"{name} matches several artifacts:{lines}", next_step="name one by its id", candidates=candidates)
    found.sort(key=lambda each: each.role != "primary")
    if not found:
        what = f"artifact {name}" if name else "artifact"
        of_status = f"{status} " if status else ""
        raise ArtifactMissing(f"Record {record.id} has no {of_status}{what}.", next_step=f"cubeport show {record.id}")
    return found[0]


def local_path(profiles: Profiles, record: CatalogRecord, artifact: Artifact) -> Path:
    """Return the local path of the artifact. Raises ArtifactMissing."""
    path = None
    if managed := place_of(artifact):
        path = profiles.get(managed[0]).local_path(managed[1])
    elif isinstance(artifact.locator, LocalPathLocator):
        path = Path(artifact.locator.path)
    if path is None:
        raise ArtifactMissing(
            f"Artifact {artifact.artifact_id} has no local path; it is {artifact.status}.",
            next_step=f"cubeport {'get' if managed else 'fetch'} {record.id}",
        )
    if not path.exists():
        raise ArtifactMissing(f"The bytes of artifact {artifact.artifact_id} are gone.", next_step=f"cubeport verify {record.id}")
    return path


def is_remote(profiles: Profiles, artifact: Artifact) -> bool:
    """Return whether the bytes are in a profile without local paths."""
    managed = place_of(artifact)
    return managed is not None and profiles.get(managed[0]).local_path(managed[1]) is None


def open_artifact(profiles: Profiles, artifact: Artifact) -> BinaryIO:
    """Open the bytes of an artifact. Raises ArtifactMissing, and InvalidRequest for a folder."""
    if artifact.target_kind == "directory":
        raise InvalidRequest(
            f"Artifact {artifact.artifact_id} is a folder; use its path, or copy it.", next_step="cubeport get ID -o DIR"
        )
    match artifact.locator:
        case InlineLocator(text=str() as text):
            return io.BytesIO(text.encode())
        case InlineLocator(data_base64=str() as data):
            return io.BytesIO(base64.b64decode(data))
        case LocalPathLocator(profile=None, path=path) if Path(path).is_file():
            return Path(path).open("rb")
    if managed := place_of(artifact):
        return profiles.get(managed[0]).open(managed[1])
    raise ArtifactMissing(
        f"The bytes of artifact {artifact.artifact_id} are not here.", next_step="cubeport fetch ID, with the id of its record"
    )


def copy_out(profiles: Profiles, artifact: Artifact, folder: Path) -> Path:
    """Copy the bytes of an artifact to *folder* under their original name, completely or not at all."""
    name = segment(artifact.original_name or shown(artifact).rpartition("/")[2].rpartition(":")[2] or artifact.artifact_id)
    target, part = folder / name, folder / f".{name}.{new_id()[:8]}.part"
    if target.exists():
        raise TargetExists(f"{target} already exists.", next_step="name another folder, or remove it")
    with store_errors("copy the bytes"):
        make_folders(folder)
        try:
            if artifact.target_kind == "directory":
                _copy_folder(profiles, artifact, part)
            else:
                with open_artifact(profiles, artifact) as reading, part.open("xb") as writing:
                    shutil.copyfileobj(reading, writing)
            part.rename(target)
        except BaseException:
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            raise
    return target


def _copy_folder(profiles: Profiles, artifact: Artifact, to: Path) -> None:
    managed = place_of(artifact)
    if managed is None:
        if not isinstance(artifact.locator, LocalPathLocator):
            raise ArtifactMissing(
                f"The bytes of artifact {artifact.artifact_id} are not here.",
                next_step="cubeport fetch ID, with the id of its record",
            )
        shutil.copytree(artifact.locator.path, to)
        return
    profile = profiles.get(managed[0])
    to.mkdir()
    for each in profile.files(managed[1]):
        (to / each.path).parent.mkdir(parents=True, exist_ok=True)
        with profile.open(f"{managed[1]}/{each.path}") as reading, (to / each.path).open("xb") as writing:
            shutil.copyfileobj(reading, writing)


def fetch(
    ports: Ports, planner: Planner, fetcher: Fetcher | None, record: CatalogRecord, artifact: Artifact, place: PlannedPlace
) -> CatalogRecord:
    """Fetch the bytes of an external artifact. ``origin`` keeps their source."""
    origin = artifact.locator
    if not isinstance(origin, ExternalURILocator):
        raise InvalidRequest(f"Artifact {artifact.artifact_id} does not have an address that can be fetched.")
    if fetcher is None:
        raise SourceRejected(
            "This catalog allows no origin to fetch from.", reason="not-allowed", source=origin.uri, next_step="set sources.origins"
        )
    name = origin.uri.rstrip("/").rpartition("/")[2].partition("?")[0] or "bytes"
    with UnitOfWork(ports, "fetch", inputs=[origin.uri], parameters={"record": record.id}) as work:
        fields = planner.fields(record, original=name, role=artifact.role, object_id=artifact.artifact_id, sha256=_unread)
        plan = planner.plan(record, place, fields, target_kind="file")
        planned = work.plan_artifact(record, plan=plan)
        with fetcher.open(origin.uri) as reading:
            # A known hash must match, even if the profile does not hash.
            written = work.write_artifact(planned, reading, hash="sha256" if artifact.hashes else None)
        _agree(artifact, written)
        fetched = artifact.replace(
            locator=written.locator,
            origin=origin,
            status="available",
            size_bytes=written.size_bytes,
            hashes=artifact.hashes | written.hashes,
            created_at=written.created_at,
        )
        work.forget(record.id)
        work.update_record(_with(record, fetched), validate=False)
        return work.commit().records[0]


def _unread() -> str:
    raise InvalidRequest("A fetched file cannot be named by its sha256, which is not known yet.")


def _agree(artifact: Artifact, written: Artifact) -> None:
    known = artifact.hashes.get("sha256")
    if known is not None and known != written.hashes.get("sha256", known):
        raise HashMismatch(
            "The bytes from the origin differ from the recorded hash.", next_step="ask the owner of the origin; nothing was stored"
        )
    if artifact.size_bytes is not None and artifact.size_bytes != written.size_bytes:
        raise HashMismatch(
            "The bytes from the origin differ from the recorded size.", next_step="ask the owner of the origin; nothing was stored"
        )


def drop(ports: Ports, fetcher: Fetcher | None, record: CatalogRecord, artifact: Artifact, *, force: bool) -> CatalogRecord:
    """Drop fetched bytes, which are removed after the commit. Their hash and URL are kept."""
    managed, origin = place_of(artifact), artifact.origin
    if managed is None or not isinstance(origin, ExternalURILocator):
        raise InvalidRequest(f"Artifact {artifact.artifact_id} was not fetched, so it cannot be fetched again.")
    if not force and (fetcher is None or fetcher.size(origin.uri) != artifact.size_bytes):
        raise InvalidRequest("The origin no longer has bytes of that size.", next_step=f"cubeport drop {record.id} --force")
    with UnitOfWork(ports, "drop", parameters={"record": record.id}) as work:
        work.afterwards(*removal(ports.profiles, artifact))
        work.update_record(_with(record, artifact.replace(locator=origin, origin=None, status="external")), validate=False)
        return work.commit().records[0]


def removal(profiles: Profiles, artifact: Artifact) -> list[Action]:
    """Return the actions that remove the artifact's bytes after a commit, only for managed bytes that exist now."""
    managed = place_of(artifact)
    if managed is None:
        return []
    found: Stored | None = profiles.get(managed[0]).stat(managed[1])
    if found is None:
        return []
    return [Action(action="remove_managed", profile=managed[0], path=managed[1], proof=dict(found.proof))]


def _with(record: CatalogRecord, artifact: Artifact) -> CatalogRecord:
    return record.replace(
        artifacts=tuple(artifact if each.artifact_id == artifact.artifact_id else each for each in record.artifacts)
    )
