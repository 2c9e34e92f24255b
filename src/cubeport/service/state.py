"""What the service stores about a dataset: its state in the catalog's record, and rows for its versions.

The record (kind ``dataset``, key = dataset id) contains the texts and the pointers. ``version`` rows contain the small immutable
part of a version; ``cube`` rows contain the large immutable part (description and sealed documents), which is read once and cached
by version id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cubeport.catalog.backend import Row
from cubeport.catalog.forms.boxes import boxes, query_boxes
from cubeport.catalog.forms.canonical import Timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import parse_interval
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.recipes import Derivation
from cubeport.documents.texts import Texts, VersionRef
from cubeport.errors import Corrupt, InvalidRequest, NewerModel
from cubeport.service.ingestions import Scope
from cubeport.service.templates import SourceBlock

type VersionKind = Literal["created", "appended", "extended", "revised", "replaced", "rematerialized"]

KIND = "dataset"
VERSION, CUBE, JOB, CHANGE = "version", "cube", "job", "change"
"""The row tables of the service."""


RETAINED = "retained"
"""The state of the row of a version with bytes."""

GONE = ("removed", "freed", "missing")
"""The states of the row of a version without bytes: retention or a purge removed it, or ``fsck --repair`` found it broken."""


type VersionName = Literal["latest", "head", "retained", "removed", "missing"]


def named(stored: str, version_id: str, *, latest: str | None, head: str | None) -> VersionName:
    """Return how a version is called where people read it: by the pointer to it, or by the state of its row."""
    if stored in GONE:
        return "missing" if stored == "missing" else "removed"
    return "latest" if version_id == latest else "head" if version_id == head else "retained"


def why_gone(stored: str) -> str:
    """Return what became of a version whose row is in one of the states :data:`GONE`, as the end of a sentence."""
    return "was found damaged and taken off" if stored == "missing" else "was removed by retention"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Publication(_Value):
    """Whether faces show the dataset."""

    status: Literal["published", "unpublished"] = "unpublished"
    published_at: Timestamp | None = None


class Reach(_Value):
    """The place and time of a cube for searches. A search with a place or a time does not find cubes for which it is unknown."""

    bbox: tuple[float, float, float, float] | None = None
    """The box of the outer cell edges: west, south, east, north in CRS84; west > east crosses the antimeridian (RFC 7946, 5.2)."""
    start: str | None = None
    """The outer time bounds of the cells, RFC 3339, both included."""
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
        """Return whether it intersects *box*, including edges."""
        if self.bbox is None:
            return False
        pairs = ((a, b) for a in query_boxes(box) for b in boxes(*self.bbox))
        return any(a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a, b in pairs)

    def during(self, start: str | None, end: str | None) -> bool:
        """Return whether it intersects the closed time interval; ``None`` is an open end."""
        if self.start is None or self.end is None:
            return False
        return (end is None or self.start <= end) and (start is None or start <= self.end)


class DatasetState(_Value):
    """``metadata.dataset`` of the record."""

    texts: Texts
    described: dict[str, Any] = {}
    """Texts that users set. They take precedence over the template and the data until they are reset."""
    latest: str | None = None
    """The published version."""
    head: str | None = None
    """The version that the next ingestion updates."""
    tags: dict[str, str] = {}
    publication: Publication = Publication()
    source_dataset_id: str | None = None
    """The template; ``None`` if the source was given directly."""
    extent_id: str | None = None
    extent_digest: str | None = None
    template_digest: str | None = None
    variables: tuple[str, ...] = ()
    """The names of the data variables of the published version, on all its grids, for searches."""
    quantities: str = ""
    """What these variables are in words: their names, long names and standard names, for searches by words."""
    grids: int = 0
    """The number of additional coverages of the published version."""
    shown_since: Timestamp | None = None
    """When ``latest`` last moved."""
    left: dict[str, Timestamp] = {}
    """When each of the newest versions stopped being ``latest``, for retention."""
    derived: SourceBlock | None = None
    """The source block of a derived dataset. A sync derives it again if an input has another version."""
    mirror_of: str | None = None
    """The URL of the service from which its versions come, if it is a mirror; if that has no ``public_url``, with the id of its
    catalog as fragment."""

    @model_validator(mode="before")
    @classmethod
    def _without_elsewhere(cls, values: Any) -> Any:
        # A field of earlier releases; versions now have their own places in the index.
        return {key: each for key, each in values.items() if key != "elsewhere"} if isinstance(values, Mapping) else values

    @property
    def published(self) -> bool:
        """Whether the dataset is published."""
        return self.publication.status == "published" and self.latest is not None

    @classmethod
    def of(cls, record: CatalogRecord) -> DatasetState:
        """Return the state in *record*. Raises NewerModel, Corrupt; KeyError if it is not the record of a dataset."""
        return _stored(cls, record.metadata["dataset"])

    def metadata(self) -> dict[str, Any]:
        """Return the state as metadata of the record."""
        return {"dataset": self.model_dump(mode="json")}


_MIRRORED = ("key", "kind", "title", "description", "tags", "time", "bbox")


def protect(old: CatalogRecord, new: CatalogRecord) -> None:
    """Refuse an edit of a dataset's record that faces would not show, because they read the state instead.

    Raises
    ------
    InvalidRequest
        With the command that makes this change.
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


class Overviews(_Value):
    """The overviews that a version got after it was sealed."""

    levels: int
    fields: tuple[tuple[str, str], ...]
    """Fields, with how their levels were made (``mean``, ``nearest``, ``max``)."""


class VersionState(_Value):
    """The small part of a version, which lists read."""

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
    until: str | None = None
    """The limit of the sync that made it: its sources may have more periods behind it. ``None`` if no sync set one."""
    release: str | None = None
    """The release of the source according to the template; ``None`` if it is unknown."""
    engine: str
    reference: str = ""
    """Where the version is, in the words of its engine; empty if its ids say it."""
    request_digest: str
    """The sha256 of source identities and options. If it is equal, the ingestion is the same."""
    sources: tuple[dict[str, Any], ...] = ()
    steps: dict[str, Any] = {}
    """The steps of ``normalise`` and ``transforms`` that its sources went through. An update without steps of its own repeats
    them."""
    chunks: dict[str, int] | None = Field(default=None, exclude_if=lambda chosen: chosen is None)
    """The chunk lengths that somebody chose, by dimension. An update keeps them; others can grow. Releases that do not know this
    member refuse a version that has it, so it is written only where somebody chose."""
    validators: dict[str, str] = {}
    """The source's validators of the last periods, by period, if it has any."""
    shown_at: Timestamp | None = None
    """When it was first ``latest``. Before that, the version is 404 for readers."""
    warnings: tuple[dict[str, str], ...] = ()
    removed_at: Timestamp | None = None
    """When retention or a purge removed it. Its bytes are freed ``retention.grace_min`` later."""
    derived: Derivation | None = None
    """Its derivation, if it was derived."""
    reach: Reach | None = None
    """Its place and time; ``None`` in versions of cubeport 0.1.0, for which the cube contains them."""

    overviews: Overviews | None = None
    """Its overviews, if they were made later; otherwise the description names them."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> VersionState:
        """Return the version in the document of a row. Raises NewerModel, Corrupt."""
        return _stored(cls, document)

    def described(self, cube: CubeDescription) -> CubeDescription:
        """Return the sealed description with the overviews that were made later."""
        if self.overviews is None:
            return cube
        return cube.model_copy(update={"overviews": self.overviews.fields, "overview_levels": self.overviews.levels})

    def ref(self) -> VersionRef:
        """Return the reference to it for documents."""
        return VersionRef(
            version_id=self.version_id,
            created_at=self.created_at,
            digest=self.digest,
            size_bytes=self.size_bytes,
            format=self.format,
            copies=self.copies,
        )

    def row(self, owner: str, *, state: str = "retained", revision: int = 0) -> Row:
        """Return the row of the version, owned by the record *owner*."""
        return Row(VERSION, self.version_id, self.model_dump(mode="json"), owner, state, self.seq, revision)


class Cube(_Value):
    """The large part of a version. It is immutable and cached by version id."""

    description: CubeDescription
    documents: dict[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Cube:
        """Return the cube in the document of a row. Raises NewerModel, Corrupt."""
        return _stored(cls, document)

    def row(self, version_id: str, owner: str) -> Row:
        """Return its row."""
        return Row(CUBE, version_id, self.model_dump(mode="json"), owner)


def _stored[M: BaseModel](model: type[M], document: object) -> M:
    """Return what a catalog has of a dataset or a version.

    Raises
    ------
    NewerModel
        If it has members that this release does not know.
    Corrupt
        If it is something else.
    """
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        if all(each["type"] == "extra_forbidden" for each in exc.errors(include_url=False, include_input=False)):
            raise NewerModel("Its record in the catalog was written by a newer cubeport.", next_step="upgrade cubeport") from exc
        raise Corrupt("Its record in the catalog cannot be read.", next_step="cubeport fsck") from exc


def shown_since(state: DatasetState, version: VersionState) -> datetime:
    """Return when the version was published."""
    return state.shown_since or version.created_at


def shown_origin(mirror_of: str) -> str:
    """Return a ``mirror_of`` for people."""
    url, _, catalog_id = mirror_of.partition("#")
    return f"{url} (catalog {catalog_id[:8]})" if catalog_id else url
