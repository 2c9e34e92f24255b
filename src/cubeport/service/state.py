"""What the service keeps of a dataset: its state in the catalog's record, and one row a version next to it.

The record (kind ``dataset``, key = dataset id) holds the texts and the pointers; ``version`` rows hold what never changes about a
version, ``cube`` rows the large immutable rest (description and sealed documents), read once and cached by version id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from cubeport.catalog.backend import Row
from cubeport.catalog.forms.boxes import boxes, query_boxes
from cubeport.catalog.forms.canonical import Timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import parse_interval
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.recipes import Derivation
from cubeport.documents.texts import Texts, VersionRef
from cubeport.errors import InvalidRequest
from cubeport.service.ingestions import Scope
from cubeport.service.templates import SourceBlock

type VersionKind = Literal["created", "appended", "extended", "revised", "replaced", "rematerialized"]

KIND = "dataset"
VERSION, CUBE, JOB, CHANGE = "version", "cube", "job", "change"
"""The service's row tables."""


RETAINED = "retained"
"""The state of a version's row that has its bytes."""

GONE = ("removed", "freed", "missing")
"""States of a version's row without bytes: retention or a purge removed it, or ``fsck --repair`` found it broken."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Publication(_Value):
    """Whether faces show the dataset."""

    status: Literal["published", "unpublished"] = "unpublished"
    published_at: Timestamp | None = None


class Reach(_Value):
    """The place and the time that a search finds a cube by; what is unknown is found by no search that asks for it."""

    bbox: tuple[float, float, float, float] | None = None
    """Of the outer cell edges: west, south, east, north in CRS84; west > east crosses the antimeridian (RFC 7946, 5.2)."""
    start: str | None = None
    """Outer bounds of the cells in time, RFC 3339, both included."""
    end: str | None = None

    @classmethod
    def of(cls, cube: CubeDescription) -> Reach:
        """Return the reach of a cube."""
        bbox = cube.spatial.bbox
        known = [each for each in cube.clocks if each.index_start]
        if not known:
            return cls(bbox=bbox)
        outer = f"{min(each.index_start for each in known)}/{max(each.index_end for each in known)}"
        start, end = parse_interval(outer)
        return cls(bbox=bbox, start=start, end=end)

    def meets(self, box: tuple[float, float, float, float]) -> bool:
        """Return whether it is in *box*, edges included."""
        if self.bbox is None:
            return False
        pairs = ((a, b) for a in query_boxes(box) for b in boxes(*self.bbox))
        return any(a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a, b in pairs)

    def during(self, start: str | None, end: str | None) -> bool:
        """Return whether it has time in the closed interval; ``None`` is an open end."""
        if self.start is None or self.end is None:
            return False
        return (end is None or self.start <= end) and (start is None or start <= self.end)


class DatasetState(_Value):
    """``metadata.dataset`` of the record."""

    texts: Texts
    described: dict[str, Any] = {}
    """What somebody set of the texts: it wins over the template and the data until it is unset."""
    latest: str | None = None
    """The version that faces show."""
    head: str | None = None
    """The version that the next ingestion builds on."""
    tags: dict[str, str] = {}
    publication: Publication = Publication()
    source_dataset_id: str | None = None
    """The template; ``None`` when the source was given directly."""
    extent_id: str | None = None
    extent_digest: str | None = None
    template_digest: str | None = None
    variables: tuple[str, ...] = ()
    """Names of the data variables of what is shown, on all its grids, for searches."""
    grids: int = 0
    """How many coverages what is shown has next to its first."""
    shown_since: Timestamp | None = None
    """When ``latest`` last moved."""
    left: dict[str, Timestamp] = {}
    """When each version stopped being ``latest``; the newest ones, for retention."""
    derived: SourceBlock | None = None
    """What it is derived by, when it is; a sync does it again when an input has another version."""
    mirror_of: str | None = None
    """The service that its versions come from, when it is a mirror."""

    @model_validator(mode="before")
    @classmethod
    def _without_elsewhere(cls, values: Any) -> Any:
        # A mark of earlier releases; versions are indexed by their own places now.
        return {key: each for key, each in values.items() if key != "elsewhere"} if isinstance(values, Mapping) else values

    @property
    def published(self) -> bool:
        """Whether the dataset is on the faces."""
        return self.publication.status == "published" and self.latest is not None

    @classmethod
    def of(cls, record: CatalogRecord) -> DatasetState:
        """Return the state that *record* holds."""
        return cls.model_validate(record.metadata["dataset"])

    def metadata(self) -> dict[str, Any]:
        """Return it as the record's metadata."""
        return {"dataset": self.model_dump(mode="json")}


_MIRRORED = ("key", "kind", "title", "description", "tags", "time", "bbox")


def protect(old: CatalogRecord, new: CatalogRecord) -> None:
    """Refuse an edit of what faces show of a dataset: they read its state, so the edit would be done and never seen.

    Raises
    ------
    InvalidRequest
        With the command that changes it on every face.
    """
    state = old.metadata.get("dataset") if old.kind == KIND else None
    if not isinstance(state, Mapping) or "texts" not in state:
        return
    changed = [name for name in _MIRRORED if getattr(old, name) != getattr(new, name)]
    if new.metadata.get("dataset") != state:
        changed.append("metadata.dataset")
    if changed:
        dataset_id = state["texts"]["dataset_id"]
        raise InvalidRequest(
            f"{', '.join(changed)} of dataset {dataset_id!r} cannot be edited in its record, "
            "because faces would not show the change.",
            next_step=f"cubeport describe {dataset_id} --title TEXT",
        )


class VersionState(_Value):
    """One immutable state of a cube: the small part, read for lists."""

    version_id: str
    seq: int
    parent_id: str | None = None
    kind: VersionKind
    created_at: Timestamp
    format: str = "zarr"
    copies: tuple[dict[str, Any], ...] = ()
    coverage: dict[str, Any]
    request_scope: Scope
    added: tuple[dict[str, Any], ...] = ()
    replaced: tuple[dict[str, Any], ...] = ()
    size_bytes: int
    digest: str
    ingestion_id: str
    template_digest: str | None = None
    release: str | None = None
    """Which release of the source it holds, as its template said; ``None`` when nobody said."""
    engine: str
    request_digest: str
    """sha256 of source identities and options: equal means the same ingestion again."""
    sources: tuple[dict[str, Any], ...] = ()
    validators: dict[str, str] = {}
    """By period, what the source said of its bytes: of the last periods, as far as it said anything."""
    shown_at: Timestamp | None = None
    """When it first was ``latest``. A version that has never been is 404 for readers."""
    warnings: tuple[dict[str, str], ...] = ()
    removed_at: Timestamp | None = None
    """When retention or a purge removed it; its bytes are freed ``retention.grace_min`` later."""
    derived: Derivation | None = None
    """What it was derived from, when it was."""
    reach: Reach | None = None
    """``None`` in versions of cubeport 0.1.0: their cube tells it."""

    def ref(self) -> VersionRef:
        """Return what documents say of it."""
        return VersionRef(
            version_id=self.version_id,
            created_at=self.created_at,
            digest=self.digest,
            size_bytes=self.size_bytes,
            format=self.format,
        )

    def row(self, owner: str, *, state: str = "retained", revision: int = 0) -> Row:
        """Return the row of the version of the record *owner*."""
        return Row(VERSION, self.version_id, self.model_dump(mode="json"), owner, state, self.seq, revision)


class Cube(_Value):
    """The large part of a version: immutable, cached by version id."""

    description: CubeDescription
    documents: dict[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Cube:
        """Return the cube that a row's document says."""
        return cls.model_validate(document)

    def row(self, version_id: str, owner: str) -> Row:
        """Return its row."""
        return Row(CUBE, version_id, self.model_dump(mode="json"), owner)


def shown_since(state: DatasetState, version: VersionState) -> datetime:
    """Return when the shown version became the shown one."""
    return state.shown_since or version.created_at
