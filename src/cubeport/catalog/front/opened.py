"""The base class of the catalog: opening and closing, finding one record and its bytes, and units of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from cubeport.catalog.adding import Added, Adder
from cubeport.catalog.backend import CatalogBackend, Rows
from cubeport.catalog.catalogfile import MARK
from cubeport.catalog.drafts import Edge, Options, draft, time_span
from cubeport.catalog.forms.canonical import is_id
from cubeport.catalog.keeping import integrity
from cubeport.catalog.lineage import edge_of
from cubeport.catalog.models import Artifact, CatalogRecord, Lineage
from cubeport.catalog.names import Named, name_of
from cubeport.catalog.parts import CatalogParts
from cubeport.catalog.plugins import RESERVED
from cubeport.catalog.query import Query
from cubeport.catalog.schemas import Policy
from cubeport.catalog.similar import did_you_mean, similar
from cubeport.catalog.terms import Term
from cubeport.catalog.work.recovery import Recovered
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import AmbiguousId, CubeportError, ReadOnly, RecordNotFound

SHORTEST_PREFIX = 4
_LONGEST_TYPED = 80
"""Longer names are pasted, not typed, so nothing similar is looked for."""


def logged[F: Callable[..., Any]](method: F) -> F:
    """Log an error of the method in the event log, also if it is raised before an operation starts."""

    @wraps(method)
    def call(self: OpenedCatalog, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except CubeportError as exc:
            if exc.operation_id is None and not self.read_only:
                self.events.emit("operation.failed", f"{method.__name__} failed", level="error", exception=exc)
            raise

    return cast("F", call)


class OpenedCatalog:
    """A catalog that is open."""

    def __init__(self, ports: Ports, parts: CatalogParts) -> None:
        self.ports = ports
        self.parts = parts
        self.hooks = ports.hooks
        self.events = ports.events
        self.schemas = parts.schemas
        self.extractors = parts.extractors
        self.profiles = ports.profiles
        self.plugins = parts.plugins
        self.backend: CatalogBackend = ports.backend
        self.rows: Rows = ports.backend.rows
        self.recovered: tuple[Recovered, ...] = ()
        """The operations that opening the catalog finished, undid, or could not handle."""
        self._copies: TemporaryDirectory[str] | None = None
        """Copies of the remote bytes that :meth:`load` opened."""
        self._adder = Adder(ports, parts.schemas, parts.extractors, parts.planner, parts.root / MARK if parts.root else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog and everything that it has opened."""
        for close in self.parts.closing:
            close()
        if self._copies is not None:
            self._copies.cleanup()
            self._copies = None
        self.backend.close()

    @property
    def catalog_id(self) -> str:
        """The catalog's own id, which a copy keeps."""
        return self.ports.catalog_id

    @property
    def root(self) -> Path | None:
        """The instance's folder."""
        return self.parts.root

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self.ports.read_only

    def __repr__(self) -> str:
        return f"<Catalog {self.root or self.catalog_id} ({self.parts.settings.get('backend', 'in memory')})>"

    def get(self, name: Named) -> CatalogRecord:
        """Return the record with this id or key, or the only record whose id begins with it (at least 4 characters).

        All methods that accept a name also accept a record or the result of :meth:`add`, which they read again.

        Raises
        ------
        RecordNotFound
        AmbiguousId
            If several ids match, with up to ten candidates.
        """
        name = name_of(name)
        record = self.backend.get_record(name) if is_id(name) else None
        record = record or self.backend.get_by_key(name)
        if record is not None:
            return record.of(self)
        ids = self.backend.match_prefix(name, 11) if len(name) >= SHORTEST_PREFIX else []
        if len(ids) > 1:
            raise self._ambiguous(f"{name} is the beginning of several ids:", ids, "give more of the id")
        if ids and (found := self.backend.get_record(ids[0])) is not None:
            return found.of(self)
        if (gone := self._deleted(name)) is not None:
            raise RecordNotFound(f"The record with the key {name[:80]!r} was deleted.", next_step=f"cubeport restore {gone.id[:8]}")
        # A URI is pasted, and an import asks for thousands of them.
        near = did_you_mean(similar(self._keys, name)) if len(name) <= _LONGEST_TYPED and ":" not in name else "."
        raise RecordNotFound(f"No record has the id, key or prefix {name[:80]!r}{near}", next_step="cubeport search")

    def _keys(self, *, between: tuple[str, str], limit: int) -> list[str]:
        """Return the first *limit* keys from the first text on and below the second."""
        where = (Term("key", ">=", between[0]), Term("key", "<", between[1]))
        return [each.key for each in self.backend.names(Query(where=where, order=("key",), limit=limit)) if each.key is not None]

    def _deleted(self, key: str) -> CatalogRecord | None:
        """Return the record with this key that was deleted last. A deleted record does not keep its key from others."""
        found = self.backend.search(
            Query(where=[Term("key", "=", key)], statuses=frozenset({"deleted"}), order=("-updated_at",), limit=1)
        )
        return found.items[0] if found.items else None

    def even_deleted(self, name: Named) -> CatalogRecord:
        """Return :meth:`get`, or else the record with this key that was deleted last. Raises as :meth:`get`."""
        try:
            return self.get(name)
        except RecordNotFound:
            if (gone := self._deleted(name_of(name))) is None:
                raise
            return gone.of(self)

    def _ambiguous(self, text: str, ids: Sequence[str], next_step: str) -> AmbiguousId:
        found = [record for each in ids[:10] if (record := self.backend.get_record(each)) is not None]
        candidates = [{"id": each.id, "kind": each.kind, "title": each.title} for each in found]
        lines = "".join(f"\n  {each.id}  {each.kind}  {each.title or ''}".rstrip() for each in found)
        return AmbiguousId(f"{text}{lines}", next_step=next_step, candidates=candidates)

    def unit_of_work(
        self,
        operation_type: str = "add",
        *,
        operation_id: str | None = None,
        parent_id: str | None = None,
        user_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Iterable[str] = (),
        schema_policy: Policy | None = None,
    ) -> UnitOfWork:
        """Return a unit of work. The end of its block, or ``commit()``, commits all changes. Otherwise it leaves no trace.

        Parameters
        ----------
        schema_policy
            How strictly records are checked against their schemas. The default is that of the catalog.
        """
        return UnitOfWork(
            self.ports,
            operation_type,
            operation_id=operation_id,
            parent_id=parent_id,
            user_id=user_id,
            parameters=parameters,
            inputs=inputs,
            schema_policy=schema_policy,
            drafting=self._planned,
        )

    def _planned(self, fields: Mapping[str, Any]) -> CatalogRecord:
        document = dict(fields)
        if "lineage" in document:
            document["lineage"] = [self._edge(_planned_target(each)) for each in document["lineage"]]
        if document.get("time") is not None:
            document["time"] = time_span(document["time"])
        if document.get("schema_name") and not document.get("schema_version"):
            document["schema_version"] = self.schemas.get(document["schema_name"]).version
        return CatalogRecord.from_mapping(document)

    def _draft(
        self, metadata: Mapping[str, Any] | None, fields: Mapping[str, Any], *, locator: object = None
    ) -> tuple[CatalogRecord, Options]:
        return draft(metadata, fields, edge=self._edge, newest=lambda name: self.schemas.get(name).version, locator=locator)

    def _edge(self, each: Edge) -> Lineage:
        return edge_of(
            each, record_of=self.get, known=(*RESERVED["relation"], *self.parts.relations, *self.plugins.values("relation"))
        )

    def _added(self, added: Added) -> Added:
        added.record.of(self)
        return added

    def _writable(self) -> None:
        if self.ports.read_only:
            raise ReadOnly("The catalog is open for reading only.")

    def path(self, name: Named, artifact: str | None = None) -> Path:
        """Return the local path of the artifact (default: the primary one). Raises ArtifactMissing."""
        record = self.get(name)
        return integrity.local_path(self.profiles, record, integrity.choose(record, artifact))

    def open_artifact(self, name: Named, artifact: str | None = None) -> BinaryIO:
        """Open the artifact's bytes. Raises ArtifactMissing."""
        return integrity.open_artifact(self.profiles, integrity.choose(self.get(name), artifact))

    def load(self, name: Named, artifact: str | None = None) -> Any:
        """Open an artifact by its format.

        NetCDF, Zarr and GRIB are opened as an ``xarray.Dataset``, CSV and Parquet as a data frame, and JSON as values. Anything
        else is a file opened for reading. Remote bytes are copied first; the copy is removed when the catalog is closed.

        Raises
        ------
        ArtifactMissing
        ExtraMissing
            If the library that reads the format is not installed.
        """
        record = self.get(name)
        chosen = integrity.choose(record, artifact)
        opener = self.parts.openers.get(chosen.format or "")
        if opener is None:
            return integrity.open_artifact(self.profiles, chosen)
        return opener(self._here(record, chosen))

    def _here(self, record: CatalogRecord, artifact: Artifact) -> Path:
        """Return the local path of the bytes, or of a local copy."""
        if not integrity.is_remote(self.profiles, artifact):
            return integrity.local_path(self.profiles, record, artifact)
        if self._copies is None:
            self._copies = TemporaryDirectory(prefix="cubeport-")
        folder = Path(self._copies.name, record.id, artifact.artifact_id)
        if folder.is_dir() and (copied := list(folder.iterdir())):
            return copied[0]
        return integrity.copy_out(self.profiles, artifact, folder)


def _planned_target(each: Edge) -> Edge:
    """Return the edge unchanged. Its record can be planned in the same unit of work and not be stored yet."""
    if isinstance(each, Mapping) and is_id(str(each.get("target", ""))):
        return Lineage.from_mapping(each)
    return each
