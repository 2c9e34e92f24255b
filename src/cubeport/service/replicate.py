"""Mirrors: copy a version with everything that faces show of it from one instance to another, byte for byte.

Received data are untrusted, like any source. The objects are compared with the manifest, and the gate's child decodes all of them.
The version is kept only if its manifest has the digest that the other instance reported. It is then registered in one commit, like
an ingestion.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cubeport.catalog.backend import Row
from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.durable import store_errors
from cubeport.catalog.disk.failpoints import passing, step
from cubeport.catalog.forms.addresses import is_loopback
from cubeport.catalog.forms.canonical import now
from cubeport.catalog.models import CatalogRecord, invalid
from cubeport.catalog.work.undo import Action, Compensation
from cubeport.cubes.overviews import MOST, Method
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.write_request import Measured, Staging, StoredObject, Written
from cubeport.documents import native
from cubeport.documents.texts import PublishedView, Texts
from cubeport.errors import Conflict, DatasetExists, NotFound, SourceRejected
from cubeport.service import describe
from cubeport.service.changes import Reason, announce, join_version
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.ingestions import Scope
from cubeport.service.making import clearing, underived
from cubeport.service.overviews import with_those_of
from cubeport.service.ports import Gate, Writer
from cubeport.service.publish import pointed, with_shown, with_state
from cubeport.service.state import CUBE, GONE, KIND, VERSION, Cube, DatasetState, Reach, VersionKind, VersionState, shown_origin
from cubeport.service.templates import PublicId
from cubeport.service.viewing import strictest

type Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
type HexId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Replica(BaseModel):
    """The description of a version for another instance: everything except its bytes, and nothing that is only valid in one
    instance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_id: PublicId
    version_id: HexId
    digest: Sha256
    """The sha256 of the manifest."""
    size_bytes: Annotated[int, Field(ge=0)]
    kind: VersionKind
    created_at: datetime
    release: Annotated[str | None, Field(max_length=200)] = None
    fields: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=10_000)] = ()
    """The data variables that faces offer together."""
    period_type: Annotated[str | None, Field(max_length=40)] = None
    time_label: TimeLabel = "start"
    climatology_period: Annotated[tuple[int, int] | None, Field(exclude_if=lambda said: said is None)] = None
    """The years of a climatology that no bounds tell. Releases that do not know this member refuse a replica that has it."""
    overview_levels: Annotated[int, Field(ge=0, le=MOST)] = 0
    overviews: Annotated[tuple[tuple[Annotated[str, Field(max_length=200)], Method], ...], Field(max_length=10_000)] = ()
    """The overviews. They are not sent: an instance makes those of the versions that it receives."""
    texts: dict[str, Any] = {}
    """The texts, in the format of ``describe``."""
    visibility: Annotated[Literal["private", "project"] | None, Field(exclude_if=lambda said: said is None)] = None
    """Who may see it, if not everybody. Releases that do not know this member refuse a replica that has it, so they never show it
    to everybody."""
    origin: Annotated[str, Field(max_length=2_000)]
    """The URL of the service from which it comes; of a service without ``public_url``, with the id of its catalog as fragment."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The outcome of receiving a version."""

    dataset_id: str
    version_id: str
    added: bool
    """False if the version existed already."""
    sent_objects: int = 0
    sent_bytes: int = 0
    changed: tuple[str, ...] = ()
    """What changed where it existed already, for users: ``published`` if it is the published version now, ``head`` if the next
    update builds on it, ``visibility``, the names of texts, and ``tag paper``. It has ``not published`` if a newer version stays
    the published one."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the outcome as shown over HTTP and on the command line."""
        names = ("dataset_id", "version_id", "added", "sent_objects", "sent_bytes")
        return {"kind": "Replication", **{name: getattr(self, name) for name in names}, "changed": list(self.changed)}


def _has(there: Elsewhere, replica: Replica) -> bool:
    """Return whether the other instance has the bytes of a version."""
    try:
        return read_replica(there.replica(f"{replica.dataset_id}@{replica.version_id}")).digest == replica.digest
    except NotFound:  # also of a version that was found damaged there: it may come again
        return False


def _if_any(find: Callable[[], Replica]) -> Replica | None:
    """Return what *find* finds; ``None`` if an instance says that it has no such dataset."""
    try:
        return find()
    except NotFound as exc:
        if exc.members.get("what") != "dataset":
            raise
        return None


class Arriving(Protocol):
    """The objects of versions that are being received: ``adapters.engines.arriving.Arrivals``."""

    def begin(self, digest: str, manifest: bytes) -> dict[str, int]: ...

    def missing(self, digest: str) -> dict[str, int]: ...

    def put(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None: ...

    def seed(self, digest: str, stored: Stored, dataset_id: str, version_id: str) -> int: ...

    def place(self, digest: str, staging: Staging) -> None: ...

    def thin(self, staging: Staging) -> None: ...

    def drop(self, digest: str) -> None: ...


class Elsewhere(Protocol):
    """Another instance over HTTP. Its refusals are raised as the errors that it reports."""

    @property
    def url(self) -> str: ...

    def replica(self, ref: str) -> Any:
        """Return the document of a Replica, not yet validated."""

    def manifest(self, ref: str) -> bytes: ...

    def object(self, ref: str, key: str) -> bytes: ...

    def begin(self, digest: str, manifest: bytes, *, dataset_id: str) -> list[str]:
        """Send the manifest of a version of this dataset. Return the sha256 of missing objects: all of them, or some if there are
        many.
        """

    def put(self, digest: str, sha256: str, data: bytes) -> None: ...

    def finish(self, digest: str, replica: Mapping[str, Any], *, publish: bool, ref: str | None) -> dict[str, Any]: ...


class Stored(Protocol):
    """The bytes of this instance's versions: the service's engines."""

    @property
    def writer(self) -> Writer:
        """The writer of the engine for new versions."""

    def drop(self, dataset_id: str, version_id: str) -> object: ...

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None: ...

    def manifest(self, dataset_id: str, version_id: str) -> bytes: ...


type Listened = Callable[[str, int, int], None]


class Replicator:
    """Sends, receives and compares versions.

    Parameters
    ----------
    lock
        ``lock(dataset_id)``, held while a version is received.
    origin
        The address that the world uses, by which mirrors know where they come from. Without one it is an address of this machine,
        which other services have too, and the id of the catalog as its fragment.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        stored: Stored,
        arriving: Arriving,
        gate: Gate,
        lock: Callable[[str], AbstractContextManager[object]],
        origin: str,
    ) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._stored = stored
        self.arriving = arriving
        self._gate = gate
        self._lock = lock
        self._origin = origin

    def replica(self, shown: PublishedView) -> Replica:
        """Return the description of a version for another instance.

        Raises
        ------
        Conflict
            If its chunks are in files or objects that are nobody's but this instance's to read.
        """
        if "storage" in shown.sealed:
            raise Conflict(
                f"{shown.texts.dataset_id} points into its sources where they are, so it can be neither pushed nor pulled.",
                next_step=f"publish a copy of them: cubeport ingest SOURCE --id {shown.texts.dataset_id} --replace --storage copy",
            )
        row = self._catalog.rows.get(VERSION, shown.version.version_id)
        if row is None:
            raise NotFound("There is no such version.", what="version")
        version = VersionState.of(row.document)
        said = shown.texts.model_dump(mode="json", include=set(describe.TEXTS))
        temporal = shown.description.temporal
        return Replica(
            dataset_id=shown.texts.dataset_id,
            version_id=version.version_id,
            digest=version.digest,
            size_bytes=version.size_bytes,
            kind=version.kind,
            created_at=version.created_at,
            release=version.release,
            fields=shown.description.fields,
            period_type=shown.texts.period_type,
            time_label="start" if temporal is None else temporal.time_label,
            climatology_period=None if temporal is None else temporal.given_years,
            overview_levels=shown.description.overview_levels,
            overviews=shown.description.overviews,
            texts={name: value for name, value in said.items() if value not in (None, [], {})},
            visibility=strictest([shown.visibility]),
            origin=self._origin,
        )

    def push(
        self,
        shown: PublishedView,
        there: Elsewhere,
        *,
        publish: bool = True,
        ref: str | None = None,
        progress: Listened | None = None,
    ) -> Arrived:
        """Send a version to another instance: the objects that the dataset does not have there. Of a version that was cut off the
        rest is sent, and nothing of one that is there. See :meth:`arrive` for *ref*.

        Raises
        ------
        CubeportError
            If the other instance refuses it, or reading fails here.
        """
        replica = self.replica(shown)
        manifest = self._stored.manifest(replica.dataset_id, replica.version_id)
        keys = {each["sha256"]: each["key"] for each in _listed(manifest)}
        sent, size, total = 0, 0, len(keys)
        is_there = _has(there, replica)
        while not is_there and (missing := there.begin(replica.digest, manifest, dataset_id=replica.dataset_id)):
            for sha256 in missing:
                data = self._read(replica, keys[sha256])
                there.put(replica.digest, sha256, data)
                with store_errors("read the version"):
                    passing("port")
                sent, size = sent + 1, size + len(data)
                if progress is not None:
                    progress("sending", sent, total)
        done = there.finish(replica.digest, replica.model_dump(mode="json"), publish=publish, ref=ref)
        changed = tuple(map(str, done.get("changed", ())))  # earlier releases do not say it
        return Arrived(replica.dataset_id, replica.version_id, bool(done["added"]), sent, size, changed)

    def begin(self, digest: str, manifest: bytes, *, dataset_id: str | None = None) -> dict[str, int]:
        """Accept the manifest of a version, and return the sizes of the missing objects by sha256.

        Parameters
        ----------
        dataset_id
            The dataset that gets the version. What its newest version has is taken from there, so the caller must be one who may
            read it: the manifest alone shows nothing of who has the bytes.
        """
        return self._begin(digest, manifest, None if dataset_id is None else self._datasets.find(dataset_id))

    def _begin(self, digest: str, manifest: bytes, held: Dataset | None) -> dict[str, int]:
        missing = self.arriving.begin(digest, manifest)
        if not missing or held is None or (parent := self._parent(held)) is None:
            return missing
        self.arriving.seed(digest, self._stored, held.state.texts.dataset_id, parent)
        return self.arriving.missing(digest)

    def pull(
        self, there: Elsewhere, ref: str, *, publish: bool = True, replace: bool = False, progress: Listened | None = None
    ) -> Arrived:
        """Fetch a version from another instance: ``id`` or ``id@ref``. Objects that exist here are not fetched.

        Raises
        ------
        DatasetExists
            If a dataset with this id exists here and does not come from the other instance, unless *replace*.
        SourceRejected
            ``digest-mismatch``, if something does not match its digest.
        """
        replica = read_replica(there.replica(ref))
        wanted = f"{replica.dataset_id}@{replica.version_id}"
        held = self._check(replica, replace=replace)
        sent = size = 0
        if self._held(held, replica) is None:
            manifest = there.manifest(wanted)
            missing = self._begin(replica.digest, manifest, held)
            keys = {each["sha256"]: each["key"] for each in _listed(manifest)}
            for sha256 in missing:
                with step("fetch"):
                    data = there.object(wanted, keys[sha256])
                    self.arriving.put(replica.digest, sha256, [data])
                sent, size = sent + 1, size + len(data)
                if progress is not None:
                    progress("fetching", sent, len(missing))
        done = self.arrive(replica, publish=publish, replace=replace, ref=pinned_by(ref), progress=progress)
        return Arrived(done.dataset_id, done.version_id, done.added, sent, size, done.changed)

    def arrive(
        self,
        replica: Replica,
        *,
        publish: bool = True,
        replace: bool = False,
        ref: str | None = None,
        progress: Listened | None = None,
    ) -> Arrived:
        """Make a version from the received objects and register it, in one unit of work and one commit.

        Parameters
        ----------
        ref
            What chose it, if it was not the version that its source shows: its id, or a tag, which it has here too then. A mirror
            that shows a newer version goes on to show that one, and can be read at this one beside it.

        Raises
        ------
        DatasetExists, DatasetBusy, SourceRejected, NoSpace
            See :meth:`pull`. Another process can also hold the dataset, or the disk can be full.
        """
        changes, changed = describe.read(replica.texts), tuple[str, ...]()
        with self._lock(replica.dataset_id), step("lock"):
            held = self._check(replica, replace=replace)
            row = self._held(held, replica)
            if row is not None:
                assert held is not None
                changed = self._point(held, replica, changes.values(), row, publish=publish, ref=ref)
            else:
                if self._catalog.rows.get(VERSION, replica.version_id) is not None:
                    self._stored.drop(replica.dataset_id, replica.version_id)  # what is left of it makes place for what came
                self._make(replica, changes.values(), held, publish=publish, ref=ref, progress=progress or _silent)
                if publish and self._leads_back(held, replica, ref, publish=publish):
                    changed = ("not published",)
        self.arriving.drop(replica.digest)
        return Arrived(replica.dataset_id, replica.version_id, added=row is None, changed=changed)

    def verify(self, there: Elsewhere, dataset_id: str) -> dict[str, Any]:
        """Compare a dataset with the dataset with the same id in another instance: version, objects by their manifests, and
        texts. A dataset that one of them does not have differs.
        """
        theirs, ours = _if_any(lambda: read_replica(there.replica(dataset_id))), _if_any(lambda: self._local(dataset_id))
        differs = [f"missing {where}" for where, each in (("here", ours), ("there", theirs)) if each is None]
        if ours is not None and theirs is not None:
            differs = self._differs(there, ours, theirs)
        return {
            "kind": "MirrorCheck",
            "dataset_id": dataset_id,
            "source": there.url,
            "equal": not differs,
            "version_id": {"here": ours and ours.version_id, "there": theirs and theirs.version_id},
            "digest": {"here": ours and ours.digest, "there": theirs and theirs.digest},
            "differs": differs,
        }

    def _local(self, dataset_id: str) -> Replica:
        return self.replica(self._datasets.shown(dataset_id, unpublished=True))

    def _differs(self, there: Elsewhere, ours: Replica, theirs: Replica) -> list[str]:
        dataset_id, differs = ours.dataset_id, list[str]()
        if ours.digest != theirs.digest:
            lists = [
                {each["key"]: each["sha256"] for each in _listed(manifest)}
                for manifest in (
                    there.manifest(f"{dataset_id}@{theirs.version_id}"),
                    self._stored.manifest(dataset_id, ours.version_id),
                )
            ]
            keys = sorted(key for key in lists[0].keys() | lists[1].keys() if lists[0].get(key) != lists[1].get(key))
            differs += [f"object {key}" for key in keys]
        for key in (each["key"] for each in _listed(self._stored.manifest(dataset_id, ours.version_id))):
            try:
                self._read(ours, key)
            except SourceRejected:
                differs.append(f"damaged {key}")
        return differs + [f"text {name}" for name in describe.TEXTS if ours.texts.get(name) != theirs.texts.get(name)]

    def _read(self, replica: Replica, key: str) -> bytes:
        """Return a local object after comparing it with its digest. Raises SourceRejected (``digest-mismatch``)."""
        found = self._stored.read(replica.dataset_id, replica.version_id, key)
        if found is None:
            raise NotFound("The version has no such object.", what="data")
        with found.file as file:
            data = b"".join(iter(lambda: file.read(1 << 20), b""))
        if hashlib.sha256(data).hexdigest() != found.digest:
            raise SourceRejected(
                f"{key} of {replica.dataset_id} is damaged here.", reason="digest-mismatch", next_step="cubeport fsck --data"
            )
        return data

    def _check(self, replica: Replica, *, replace: bool) -> Dataset | None:
        """Return the local dataset with this id. Raises DatasetExists if it is not a mirror of the same service."""
        held = self._datasets.find(replica.dataset_id)
        if held is None or held.state.head is None or replace:
            return held
        if not same_origin(held.state.mirror_of, replica.origin):
            raise DatasetExists(
                f"Dataset {replica.dataset_id!r} is here and is not a mirror of {shown_origin(replica.origin)}.",
                next_step="give it another id there, or pull it with --replace",
            )
        return held

    def _held(self, held: Dataset | None, replica: Replica) -> Row | None:
        """Return the row of the version if its bytes exist here. A version whose bytes are gone comes again: it was removed by
        retention or with a deleted dataset, or found damaged. Raises Conflict.
        """
        row = self._catalog.rows.get(VERSION, replica.version_id)
        if row is None:
            return None
        if row.document["digest"] != replica.digest:
            raise Conflict(f"Version {replica.version_id} is here with other bytes.")
        if held is not None and row.owner == held.record.id:
            return None if row.state in GONE else row
        owner = self._catalog.backend.get_record(row.owner)
        if owner is None or (owner.status == "deleted" and row.state in GONE):
            return None
        if owner.status == "deleted":
            raise Conflict(
                f"Version {replica.version_id} is here, of a dataset {replica.dataset_id!r} that was deleted.",
                next_step=f"restore it there (cubeport restore {owner.id}), then copy it again",
            )
        raise Conflict(f"Version {replica.version_id} is here, of another dataset.")

    def _parent(self, held: Dataset) -> str | None:
        """Return the version with which to share objects, which is the head if the engine for new versions wrote it."""
        row = self._catalog.rows.get(VERSION, held.state.head) if held.state.head else None
        return row.id if row is not None and row.state not in GONE and row.document["engine"] == self._stored.writer.name else None

    def _leads_back(self, held: Dataset | None, replica: Replica, ref: str | None, *, publish: bool) -> bool:
        """Return whether a mirror has a newer version than the one that *ref* chose, which it does not go back to."""
        if ref is None or held is None or held.state.mirror_of != replica.origin or (publish and not held.state.published):
            return False
        row = self._catalog.rows.get(VERSION, (held.state.latest if held.state.published else held.state.head) or "")
        return row is not None and VersionState.of(row.document).created_at > replica.created_at

    def _point(
        self, held: Dataset, replica: Replica, texts: Mapping[str, Any], row: Row, *, publish: bool, ref: str | None
    ) -> tuple[str, ...]:
        """Publish an existing version, and update the texts from its source. Return what changed; without a change, no commit."""
        version = VersionState.of(row.document)
        back = self._leads_back(held, replica, ref, publish=publish)
        head = held.state.head if back and held.state.head is not None else row.id
        record, state = _mirrored(held.record, held.state, replica), _follows(held.state, replica, texts, head=head)
        state = _tagged(state, replica, ref)
        shows = publish and not back and not (held.state.published and held.state.latest == row.id)
        becomes_readable = publish and version.shown_at is None
        if not shows and not becomes_readable and state == held.state and record == held.record:
            return ("not published",) if back and publish else ()
        cube = self._datasets.cube(row.id)
        with self._catalog.unit_of_work("replicate", inputs=(held.record.id,), parameters={"origin": replica.origin}) as work:
            after = with_shown(record, pointed(state, row.id), cube.description) if shows else with_state(record, state)
            if becomes_readable:
                shown = version.model_copy(update={"shown_at": now()}).row(row.owner, state=row.state, revision=row.revision)
                work.join(lambda: self._catalog.rows.put(shown))
            work.update_record(after)
            reason: Reason = "metadata" if not shows else "version" if held.state.published else "published"
            announce(work, self._catalog.backend, held.record, after, reason)
            work.commit()
        before, told = held.state.texts, state.texts
        return (
            *(["published"] if shows else []),
            *(["head"] if state.head != held.state.head else []),
            *(["not published"] if back and publish else []),
            *(["visibility"] if record.visibility != held.record.visibility else []),
            *(name for name in describe.TEXTS if getattr(before, name) != getattr(told, name)),
            *([f"tag {ref}"] if state.tags != held.state.tags else []),
        )

    def _make(
        self,
        replica: Replica,
        texts: Mapping[str, Any],
        held: Dataset | None,
        *,
        publish: bool,
        ref: str | None,
        progress: Listened,
    ) -> None:
        parent = self._parent(held) if held is not None else None
        with self._catalog.unit_of_work(
            "replicate", inputs=(replica.origin,), parameters={"dataset_id": replica.dataset_id, "version_id": replica.version_id}
        ) as work:
            work.planned(
                dataset_id=replica.dataset_id,
                record_id=held.record.id if held else None,
                record_version=held.record.version if held else None,
                parent=parent,
                version_id=replica.version_id,
                engine=self._stored.writer.name,
            )
            work.claim(self._stored.writer.claim(work.operation_id))
            staging, undo = self._stored.writer.stage(work.operation_id, replica.dataset_id, replica.version_id, parent=parent)
            work.compensate(*(Compensation.model_validate(each) for each in undo))
            with step("begin"):
                self._stored.writer.begin(staging)
            with step("bytes"):
                self.arriving.place(replica.digest, staging)
            with step("measure"):
                # The digests of values are unknown here, so the digest of the manifest is used instead.
                measured = self._gate.measure(
                    staging.new,
                    Written(digests={}),
                    fields=replica.fields or None,
                    arrived=True,
                    time_label=replica.time_label,
                    years=replica.climatology_period,
                    progress=progress,
                )
            if measured.digest != replica.digest:
                raise SourceRejected("The version is not what its digest says.", reason="digest-mismatch", source=replica.origin)
            self.arriving.thin(staging)
            with step("assemble"):
                self._stored.writer.assemble(staging)
            cube = with_those_of(measured.description, replica.overview_levels, replica.overviews)
            measured = dataclasses.replace(measured, description=cube)
            if cube.overview_levels:
                with step("overviews"):
                    self._gate.overviews(staging, measured.digest, cube)
                    self._stored.writer.assemble(staging, overviews=True)
            with step("fsync"):
                self._stored.writer.sync(staging)
            work.written(digest=measured.digest, files=measured.files, size_bytes=measured.size_bytes)
            with step("publish"):
                reference = self._stored.writer.publish(staging)
            work.afterwards(*clearing(undo), *map(Action.from_mapping, self._stored.writer.afterwards(staging, reference)))
            self._commit(work, replica, texts, held, parent, measured, reference, publish=publish, ref=ref)

    def _commit(
        self,
        work: Any,
        replica: Replica,
        texts: Mapping[str, Any],
        held: Dataset | None,
        parent: str | None,
        measured: Measured,
        reference: str,
        *,
        publish: bool,
        ref: str | None,
    ) -> None:
        description = measured.description
        period_type = native.period_type(replica.period_type, description.temporal)
        at = now()
        # A version that was removed or found damaged comes again in its own place, unless its dataset was deleted.
        gone = self._catalog.rows.get(VERSION, replica.version_id)
        before = None if gone is None or held is None or gone.owner != held.record.id else VersionState.of(gone.document)
        if before is not None:
            seq, parent = before.seq, before.parent_id
        else:
            seq = self._catalog.rows.next_seq(VERSION, held.record.id) if held else 1
        version = VersionState(
            version_id=replica.version_id,
            seq=seq,
            parent_id=parent,
            kind=replica.kind,
            created_at=replica.created_at,
            coverage=native.coverage(description, period_type).model_dump(mode="json"),
            request_scope=Scope(),
            size_bytes=measured.size_bytes,
            digest=measured.digest,
            ingestion_id=work.operation_id,
            release=replica.release,
            engine=self._stored.writer.name,
            reference=reference,
            request_digest=f"replica {replica.digest}",
            sources=({"name": replica.origin, "sha256": replica.digest, "size_bytes": replica.size_bytes},),
            shown_at=(before.shown_at if before is not None else None) or (at if publish else None),
            warnings=tuple({"kind": kind, "message": message} for kind, message in description.warnings),
            reach=Reach.of(description),
        )
        record = held.record if held else CatalogRecord(key=replica.dataset_id, kind=KIND)
        old = held.state if held else DatasetState(texts=Texts(dataset_id=replica.dataset_id, title="", description=""))
        back = self._leads_back(held, replica, ref, publish=publish)
        head = old.head if back and old.head is not None else version.version_id
        record, state = _mirrored(record, old, replica), _tagged(_follows(old, replica, texts, head=head), replica, ref)
        shows = publish and not back
        if shows:
            after = with_shown(record, pointed(state, version.version_id), description)
        else:
            after = with_state(record, state) if state.latest else with_shown(record, state, description)
        cube = Cube(description=description, documents=dict(measured.documents))
        rows = [version.row(after.id), cube.row(version.version_id, after.id)]
        if gone is not None:
            known = (gone, self._catalog.rows.get(CUBE, version.version_id))
            rows = [
                dataclasses.replace(each, revision=0 if was is None else was.revision)
                for each, was in zip(rows, known, strict=True)
            ]
        join_version(work, self._catalog.backend, held.record if held else None, after, rows, seen=shows)
        work.commit()


def same_origin(mirror_of: str | None, origin: str) -> bool:
    """Return whether a mirror comes from *origin*. The same catalog can have several addresses on its machine. Earlier releases
    gave only the address of a service without ``public_url``: the first copy says which catalog that is.
    """
    if mirror_of is None or mirror_of == origin:
        return mirror_of is not None
    held, named = urlsplit(mirror_of), urlsplit(origin)
    if held.fragment:
        return held.fragment == named.fragment
    return bool(named.fragment) and is_loopback(held.hostname or "")


def _follows(state: DatasetState, replica: Replica, texts: Mapping[str, Any], *, head: str) -> DatasetState:
    """Return the state of a mirror: its texts are those of the source and no others, and nothing else makes its versions."""
    named = {"title": replica.dataset_id, "description": replica.dataset_id}
    kept = state.texts.model_dump(mode="json", exclude=set(describe.TEXTS)) | {"period_type": replica.period_type}
    return state.model_copy(
        update={
            "texts": Texts.model_validate({**kept, **named, **texts}, strict=False),
            "described": dict(texts),
            "head": head,
            "mirror_of": replica.origin,
            "source_dataset_id": None,
            "template_digest": None,
            "extent_id": None,
            "extent_digest": None,
            "derived": None,
        }
    )


def pinned_by(ref: str) -> str | None:
    """Return what chooses the version in ``id@ref``; ``None`` if it is the published one."""
    said = ref.partition("@")[2]
    return None if said in ("", "latest") else said


def _tagged(state: DatasetState, replica: Replica, ref: str | None) -> DatasetState:
    """Return the state with the tag by which a version was chosen, which is that of the source."""
    if ref is None or replica.version_id.startswith(ref):
        return state
    return state.model_copy(update={"tags": {**state.tags, ref: replica.version_id}})


def _mirrored(record: CatalogRecord, state: DatasetState, replica: Replica) -> CatalogRecord:
    """Return the record of a mirror. It is derived from nothing here, and its source says who may see it, unless somebody has said
    it here.
    """
    lineage = record.lineage if state.derived is None else underived(record.lineage)
    return record.replace(lineage=lineage, visibility=record.visibility or replica.visibility)


def read_replica(document: Any) -> Replica:
    """Return the replica in another instance's document. Raises InvalidRequest with the place of each problem."""
    try:
        return Replica.model_validate(document, strict=False)
    except ValidationError as exc:
        raise invalid("replica", exc, Replica) from None


def _listed(manifest: bytes) -> list[dict[str, Any]]:
    """Return the entries of a manifest that was already checked."""
    entries: list[dict[str, Any]] = json.loads(manifest)["entries"]
    return entries


def _silent(phase: str, done: int, total: int) -> None: ...
