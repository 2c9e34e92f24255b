"""The catalog: what a user of the core calls. Every command is one call here plus formatting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, Unpack, cast, overload
from urllib.parse import quote

from cubeport.catalog import history, ndjson, provenance
from cubeport.catalog.adding import Added, Adder, named, referring, source_of, source_to_write
from cubeport.catalog.adding import Source as ArtifactSource
from cubeport.catalog.artifacts.planning import Place
from cubeport.catalog.artifacts.storage import StoragePlan, WriteMode
from cubeport.catalog.artifacts.views import ViewPlan, apply_view, plan_view
from cubeport.catalog.artifacts.writers import ArtifactWriter, PathSource, path_source, writing
from cubeport.catalog.backend import CatalogBackend, Change, Finding, Rows
from cubeport.catalog.catalogfile import MARK
from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.disk.locks import clear_note
from cubeport.catalog.drafts import OF_RECORD, ArtifactFields, Edge, OnExists, Options, RecordFields, draft
from cubeport.catalog.editing import DescribedFields, Edit, EditedFields, demand_version, edited, without
from cubeport.catalog.events import EventFields, EventPage
from cubeport.catalog.extraction import ExtractedRecord
from cubeport.catalog.forms.canonical import dumps, is_id
from cubeport.catalog.forms.redaction import redact_text
from cubeport.catalog.hooks import set_paths
from cubeport.catalog.keeping import integrity, operations
from cubeport.catalog.keeping.doctor import doctor
from cubeport.catalog.keeping.fsck import Checked, FsckOptions, fsck
from cubeport.catalog.keeping.gc import gc
from cubeport.catalog.lineage import Direction, LineageGraph, edge_of, lineage_of
from cubeport.catalog.models import (
    Artifact,
    CatalogRecord,
    Lineage,
    LocalPathLocator,
    Operation,
    OperationStatus,
    TargetKind,
)
from cubeport.catalog.names import Named, name_of
from cubeport.catalog.parts import Garbage, Parts
from cubeport.catalog.plugins import RESERVED
from cubeport.catalog.query import FieldSummary, Page, Query, QueryFields, Term
from cubeport.catalog.schemas import Policy, Schema, ValidationResult
from cubeport.catalog.work import recovery
from cubeport.catalog.work.recovery import Recovered
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import (
    AmbiguousId,
    Conflict,
    CubeportError,
    InvalidRequest,
    KeyExists,
    NoMatch,
    ReadOnly,
    RecordNotFound,
    TargetExists,
)

if TYPE_CHECKING:
    # Loaded by the two calls that need them: starting must stay cheap.
    from cubeport.catalog import batch, pipelines

type Where = Query | Term | str | Mapping[str, Any]
"""What a search takes: a whole query, a term (also as text), or fields and the values that they are equal to."""

SHORTEST_PREFIX = 4
_PAGE = 500


def _told[F: Callable[..., Any]](method: F) -> F:
    """Have an error told in the event log also where it came before there was an operation to tell it."""

    @wraps(method)
    def call(self: Catalog, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except CubeportError as exc:
            if exc.operation_id is None and not self.read_only:
                self.events.emit("operation.failed", f"{method.__name__} failed", level="error", exception=exc)
            raise

    return cast("F", call)


class Catalog:
    """A catalog that is open. ``main`` makes it; use it as a context manager, or close it."""

    def __init__(self, ports: Ports, parts: Parts) -> None:
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
        """What opening it finished or undid, or had to leave."""
        self._adder = Adder(ports, parts.schemas, parts.extractors, parts.planner, parts.root / MARK if parts.root else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is open."""
        for close in self.parts.closing:
            close()
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

    # --- finding ----------------------------------------------------------------------------------------------------

    def get(self, name: Named) -> CatalogRecord:
        """Return the record of that id, else key, else the only one whose id begins so (4 characters or more).

        Wherever a record is named, a record (or what :meth:`add` returned) is taken too: it is read again.

        Raises
        ------
        RecordNotFound
        AmbiguousId
            With up to ten candidates.
        """
        name = name_of(name)
        record = self.backend.get_record(name) if is_id(name) else None
        record = record or self.backend.get_by_key(name)
        if record is not None:
            return record.of(self)
        ids = self.backend.match_prefix(name, 11) if len(name) >= SHORTEST_PREFIX else []
        if len(ids) > 1:
            raise self._ambiguous(f"{name} begins several ids:", ids, "type more of the id")
        if ids and (found := self.backend.get_record(ids[0])) is not None:
            return found.of(self)
        raise RecordNotFound(f"No record has the id, key or prefix {name[:80]!r}.", next_step="cubeport search")

    def _ambiguous(self, words: str, ids: Sequence[str], next_step: str) -> AmbiguousId:
        found = [record for each in ids[:10] if (record := self.backend.get_record(each)) is not None]
        candidates = [{"id": each.id, "kind": each.kind, "title": each.title} for each in found]
        lines = "".join(f"\n  {each.id}  {each.kind}  {each.title or ''}".rstrip() for each in found)
        return AmbiguousId(f"{words}{lines}", next_step=next_step, candidates=candidates)

    def search(self, *where: Where, **asked: Unpack[QueryFields]) -> Page:
        """Return one page of the records that match.

        Parameters
        ----------
        where
            A whole :class:`Query`; or terms, as text (``"year>=2018"``) or as a mapping of fields to values that are equal.
        asked
            Fields of a :class:`Query`. Any other name is a field of metadata that is equal to the value: ``search(site="Oslo")``.
        """
        return self._ours(self.backend.search(_query(where, asked)))

    def _ours(self, page: Page) -> Page:
        for record in page:
            record.of(self)
        return page

    def count(self, *where: Where, **asked: Unpack[QueryFields]) -> int:
        """Return how many records match."""
        return self.backend.count(_query(where, asked))

    def iterate(self, *where: Where, **asked: Unpack[QueryFields]) -> Iterator[CatalogRecord]:
        """Yield every record that matches, page by page: one there during the whole walk comes exactly once."""
        query = _query(where, {"limit": _PAGE, **asked})
        while True:
            page = self._ours(self.backend.search(query))
            yield from page
            if page.next is None:
                return
            query = query.at(page.next)

    def one(self, *where: Where, **asked: Unpack[QueryFields]) -> CatalogRecord:
        """Return the only record that matches. Raises NoMatch, AmbiguousId."""
        found = self._ours(self.backend.search(_query(where, {**asked, "limit": 11})))
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoMatch("No record fits.", next_step="cubeport fields")
        raise self._ambiguous("Several records fit:", [each.id for each in found], "say more of the record, or take its id")

    def to_dataframe(self, *where: Where, **asked: Unpack[QueryFields]) -> Any:
        """Return the records that match as a ``pandas.DataFrame``: a row each, indexed by id. Raises ExtraMissing."""
        from cubeport.catalog.frames import to_dataframe

        return to_dataframe(self.iterate(*where, **asked))

    def fields(self, *where: Where, **asked: Unpack[QueryFields]) -> list[FieldSummary]:
        """Return which fields of metadata there are, with their types and examples."""
        return self.backend.list_fields(_query(where, asked) if where or asked else None)

    def generation(self) -> int:
        """Return the sequence number of the last commit: equal means that nothing changed."""
        return self.backend.generation()

    def changes(self, after: int, limit: int = 1000) -> list[Change]:
        """Return which records changed behind generation *after*, oldest first."""
        return self.backend.changes(after, limit)

    def lineage(
        self, name: Named, *, direction: Direction = "both", depth: int | None = None, rel: str | None = None
    ) -> LineageGraph:
        """Return what the record comes from (*up*), what comes from it (*down*), as far as *depth* goes."""
        return lineage_of(self.backend, self.get(name), direction=direction, depth=depth, rel=rel)

    # --- adding -----------------------------------------------------------------------------------------------------

    @_told
    def add(self, metadata: Mapping[str, Any] | None = None, **said: Unpack[RecordFields]) -> Added:
        """Add a record without bytes.

        Parameters
        ----------
        said
            The record's fields (``id kind title description tags schema_name schema_version time bbox status visibility lineage``)
            and, for all ways of adding, ``key``, ``on_exists`` (``error``, ``skip``, ``new_version``), ``schema_policy`` and
            ``dry_run``; with bytes also ``profile``, ``directory_template``, ``filename_template``, ``locator``, ``role``,
            ``media_type``, ``format``, ``extract_metadata``, ``require_metadata``, ``hash`` (of references).

        Raises
        ------
        KeyExists, RecordExists, SchemaInvalid, UnknownSchema, HookFailed
        """
        draft, options = self._draft(metadata, said)
        self._writable()
        return self._added(self._adder.add(draft, None, options))

    @_told
    def add_file(
        self,
        path: str | Path | PathSource,
        metadata: Mapping[str, Any] | None = None,
        *,
        operation: Literal["copy", "move", "reference"] = "copy",
        filename: str | None = None,
        **said: Unpack[ArtifactFields],
    ) -> Added:
        """Add a record with a file or folder: copied, moved (the source goes after the commit), or only referred to."""
        draft, options = self._draft(metadata, said)
        self._writable()
        return self._added(self._adder.add(draft, named(source_of(path, operation), filename), options))

    @_told
    def add_bytes(
        self,
        data: bytes | BinaryIO,
        metadata: Mapping[str, Any] | None = None,
        *,
        filename: str | None = None,
        **said: Unpack[ArtifactFields],
    ) -> Added:
        """Add a record with these bytes; without *filename* they are called by the record's id.

        Parameters
        ----------
        data
            Bytes, or a file opened in binary mode. A path is added by :meth:`add_file`.
        """
        if isinstance(data, (str, Path)):
            raise InvalidRequest("add_bytes takes bytes; add_file takes a path.")
        draft, options = self._draft(metadata, said)
        self._writable()
        return self._added(
            self._adder.add(draft, ArtifactSource(filename or draft.id, writing(data), mode="write", original=filename), options)
        )

    @_told
    def add_artifact(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        record: Named | None = None,
        storage_plan: StoragePlan | None = None,
        locator: object = None,
        source: object = None,
        artifact_writer: ArtifactWriter | None = None,
        filename: str | None = None,
        **said: Unpack[ArtifactFields],
    ) -> Added:
        """Add an artifact: a new record's, or one more of *record*.

        Parameters
        ----------
        locator
            Alone: where the bytes are, which stay there untouched. With a *source*: where to write, under a writable profile.
        source
            A path, bytes, an open file, or whatever *artifact_writer* reads.
        metadata
            Of the new record; with *record*, of the artifact.
        """
        self._writable()
        if storage_plan is not None:
            if storage_plan.write_mode == "reference":
                locator, source = storage_plan.locator, None
            else:
                locator = storage_plan.locator
        draft, options = self._draft(metadata, said, locator=None if source is None else locator)
        prepared = source_to_write(source, artifact_writer, filename or (storage_plan.filename if storage_plan else None), draft.id)
        if prepared is None:
            if locator is None:
                raise InvalidRequest("An artifact needs a locator, or a source to write.")
            prepared = referring(locator)
        if storage_plan is not None and storage_plan.target_kind != prepared.target_kind:
            raise InvalidRequest(f"The plan is for a {storage_plan.target_kind}, the source is a {prepared.target_kind}.")
        if record is None:
            return self._added(self._adder.add(draft, prepared, options))
        if refused := sorted(name for name in (*OF_RECORD, "id", "key", "lineage") if said.get(name)):
            raise InvalidRequest(
                f"{', '.join(refused)}: of a record, which an artifact does not change.", next_step="cubeport edit ID"
            )
        options = replace(options, metadata=draft.metadata)
        return self._added(self._adder.attach(self.get(record), prepared, options))

    def plan_artifact_storage(
        self,
        path: str | Path | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        locator: object = None,
        target_kind: TargetKind = "file",
        write_mode: WriteMode = "copy",
        **said: Unpack[ArtifactFields],
    ) -> StoragePlan:
        """Return where an artifact would go; nothing is written or reserved."""
        draft, options = self._draft(metadata, {**said, "dry_run": True}, locator=locator)
        if write_mode == "reference":
            place = locator if locator is not None else path
            prepared = referring(place)
        else:
            name = Path(path).name if path is not None else draft.id
            prepared = ArtifactSource(name, path=Path(path) if path else None, mode=write_mode, target_kind=target_kind)
        added = self._adder.add(draft, prepared, options)
        assert added.plan is not None, "an artifact was planned"
        return added.plan

    def _added(self, added: Added) -> Added:
        added.record.of(self)
        return added

    def _draft(
        self, metadata: Mapping[str, Any] | None, said: Mapping[str, Any], *, locator: object = None
    ) -> tuple[CatalogRecord, Options]:
        return draft(metadata, said, edge=self._edge, newest=lambda name: self.schemas.get(name).version, locator=locator)

    # --- changing ---------------------------------------------------------------------------------------------------

    @_told
    def update(
        self,
        name: Named,
        *,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        tags_add: Iterable[str] = (),
        tags_remove: Iterable[str] = (),
        link: Iterable[Edge] = (),
        unlink: Iterable[tuple[str, Any]] = (),
        if_version: int | None = None,
        schema_policy: Policy | None = None,
        **fields: Unpack[EditedFields],
    ) -> CatalogRecord:
        """Change a record; :meth:`history` shows what changed, :meth:`at` the former state.

        Parameters
        ----------
        set, unset
            Dotted paths of metadata.
        metadata
            Takes the place of all metadata.
        link, unlink
            Lineage edges to add, or to remove, as pairs of relation and target: an id, a key, a record or a URI.
        if_version
            Refuse unless this is the record's version.
        fields
            Any field of the record that is the caller's; ``None`` clears it.

        Raises
        ------
        StaleRecord
        """
        record = self.get(name)
        demand_version(record, if_version)
        edit = Edit(set or {}, unset, metadata, tags_add, tags_remove, tuple(map(self._edge, link)), self._ends(unlink), fields)
        after = self.schemas.settle(edited(record, edit))
        self.parts.protect(record, after)
        self.schemas.check(after, policy=schema_policy)
        if after == record:
            return record
        with self.unit_of_work("update", inputs=[record.id], schema_policy=schema_policy) as work:
            how = Options(schema_policy=schema_policy)
            work.update_record(self._adder.validated(work.context(), after, how, work.warnings))
            return work.commit().records[0].of(self)

    def _edge(self, each: Edge) -> Lineage:
        return edge_of(
            each, record_of=self.get, known=(*RESERVED["relation"], *self.parts.relations, *self.plugins.values("relation"))
        )

    def _ends(self, pairs: Iterable[tuple[str, Any]]) -> frozenset[tuple[str, str]]:
        """Return edges to remove. Their target may be gone by now: then it is the id, as ``fsck`` shows it."""

        def end(target: Any) -> str:
            try:
                return self.get(target).id
            except RecordNotFound:
                return str(target)

        return frozenset((rel, end(target)) for rel, target in pairs)

    def update_metadata(
        self,
        name: Named,
        updates: Mapping[str, Any],
        *,
        unset: Iterable[str] = (),
        replace: bool = False,
        if_version: int | None = None,
    ) -> CatalogRecord:
        """Set dotted paths of metadata; with *replace*, the updates are all that is left."""
        if replace:
            return self.update(name, metadata=set_paths({}, updates), unset=unset, if_version=if_version)
        return self.update(name, set=updates, unset=unset, if_version=if_version)

    @_told
    def delete(self, name: Named, *, if_version: int | None = None) -> CatalogRecord:
        """Leave a tombstone: the key is free at once, bytes stay. Repeating it changes nothing."""
        record = self.get(name)
        if record.status == "deleted":
            return record
        demand_version(record, if_version)
        with self.unit_of_work("delete", inputs=[record.id]) as work:
            work.update_record(
                record.replace(
                    status="deleted", deleted_from=record.status, deleted_at=self.ports.clock(), deleted_by=work.user_id
                ),
                validate=False,
            )
            return work.commit().records[0].of(self)

    @_told
    def restore(self, name: Named) -> CatalogRecord:
        """Bring a deleted record back as it was. Raises KeyExists when its key was taken meanwhile."""
        record = self.get(name)
        if record.status != "deleted":
            return record
        if record.key is not None and (holder := self.backend.get_by_key(record.key)) is not None:
            raise KeyExists(
                f"The key was taken meanwhile by record {holder.id[:8]}.",
                next_step=f"cubeport delete {holder.id[:8]}, then restore",
            )
        with self.unit_of_work("restore", inputs=[record.id]) as work:
            work.update_record(
                record.replace(status=record.deleted_from or "active", deleted_from=None, deleted_at=None, deleted_by=None),
                validate=False,
            )
            return work.commit().records[0].of(self)

    @_told
    def purge(self, name: Named, *, force: bool = False, dry_run: bool = False) -> CatalogRecord:
        """Remove the record's row, then its managed bytes; references are never touched. Returns what was removed.

        Raises
        ------
        Conflict
            When others point to it, without *force*; their edges stay, and ``fsck`` names them.
        """
        record = self.get(name)
        pointing = self.backend.edges(record.id, "in")
        if pointing and not force:
            raise Conflict(
                f"{len(pointing)} record(s) point to {record.id}.", next_step=f"cubeport lineage {record.id} --down; purge --force"
            )
        actions = [action for artifact in record.artifacts for action in integrity.removal(self.profiles, artifact)]
        if dry_run:
            return record
        with self.unit_of_work("purge", inputs=[record.id]) as work:
            if actions:
                work.afterwards(*actions)
            work.delete_record(record)
            work.commit()
        return record

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
        """Return a unit of work: all of it at the end of its block or with ``commit()``, or no trace.

        Parameters
        ----------
        schema_policy
            How strictly its records are held to their schemas, if not as the catalog says.
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
        )

    # --- bytes ------------------------------------------------------------------------------------------------------

    def path(self, name: Named, artifact: str | None = None) -> Path:
        """Return where the artifact (the primary one) lies locally. Raises ArtifactMissing."""
        record = self.get(name)
        return integrity.local_path(self.profiles, record, integrity.choose(record, artifact))

    def open_artifact(self, name: Named, artifact: str | None = None) -> BinaryIO:
        """Open the artifact's bytes. Raises ArtifactMissing."""
        return integrity.open_artifact(self.profiles, integrity.choose(self.get(name), artifact))

    @_told
    def detach(self, name: Named, artifact: str) -> CatalogRecord:
        """Take an artifact off its record; managed bytes go once the commit is certain, references stay untouched."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact)
        actions = integrity.removal(self.profiles, chosen)
        with self.unit_of_work("update", inputs=[record.id], parameters={"detached": chosen.artifact_id}) as work:
            if actions:
                work.afterwards(*actions)
            rest = tuple(each for each in record.artifacts if each.artifact_id != chosen.artifact_id)
            work.update_record(record.replace(artifacts=rest), validate=False)
            return work.commit().records[0].of(self)

    @_told
    def replace_artifact(
        self,
        name: Named,
        source: object,
        artifact: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        filename: str | None = None,
        **said: Unpack[ArtifactFields],
    ) -> Added:
        """Put other bytes in the place of an artifact (the primary one): one commit, then the former managed bytes go.

        The new artifact has the old one's role and metadata, unless the call says otherwise.
        """
        self._writable()
        record = self.get(name)
        old = integrity.choose(record, artifact)
        draft, options = self._draft(dict(old.metadata) if metadata is None else metadata, {"role": old.role, **said})
        prepared = source_to_write(source, None, filename, draft.id)
        if prepared is None:
            raise InvalidRequest("There is nothing to put in the artifact's place.")
        options = replace(options, metadata=draft.metadata)
        return self._added(self._adder.put_in_place(record, old, prepared, options, integrity.removal(self.profiles, old)))

    @_told
    def update_artifact(
        self,
        name: Named,
        artifact: str | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] = (),
        **fields: Unpack[DescribedFields],
    ) -> CatalogRecord:
        """Change what is said of an artifact: its metadata (dotted paths), role, media type, format or original name."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact)
        metadata = set_paths(dict(chosen.metadata), set or {})
        for path in unset:
            metadata = without(metadata, path.split("."))
        if unknown := fields.keys() - DescribedFields.__annotations__.keys():
            raise InvalidRequest(f"{', '.join(sorted(unknown))}: set by the catalog alone.")
        changed = chosen.replace(**{**fields, "metadata": metadata})
        if changed == chosen:
            return record
        with self.unit_of_work("update", inputs=[record.id]) as work:
            others = tuple(changed if each.artifact_id == chosen.artifact_id else each for each in record.artifacts)
            work.update_record(record.replace(artifacts=others))
            return work.commit().records[0].of(self)

    def copy_out(self, name: Named, folder: str | Path, artifact: str | None = None) -> Path:
        """Copy an artifact's bytes, wherever they are kept, into *folder* under their original name; return where they are.

        Raises
        ------
        TargetExists
            If something of that name is there.
        ArtifactMissing
            If the bytes are not kept here; ``fetch`` brings external ones.
        """
        return integrity.copy_out(self.profiles, integrity.choose(self.get(name), artifact), Path(folder))

    def load(self, name: Named, artifact: str | None = None) -> Any:
        """Open an artifact by its format.

        NetCDF, Zarr and GRIB are an ``xarray.Dataset``, CSV and Parquet a data frame, JSON its values; anything else is a file,
        opened for reading.

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
        return opener(integrity.local_path(self.profiles, record, chosen))

    def verify(self, *names: Named, all: bool = False, fast: bool = False, record: bool = False) -> list[integrity.Verified]:
        """Compare artifacts with what the catalog says of them; *record* stores when, and which are missing."""
        records = self.iterate(statuses=None, order=("id",)) if all else (self.get(name) for name in names)
        found: list[integrity.Verified] = []
        for each in records:
            verdicts = list(integrity.verify(self.profiles, each, fast=fast))
            found += verdicts
            if record and verdicts:
                with self.unit_of_work("repair", inputs=[each.id]) as work:
                    work.update_record(integrity.checked(each, verdicts, self.ports.clock()), validate=False)
                    work.commit()
        return found

    @_told
    def fetch(self, name: Named, artifact: str | None = None, *, profile: str | None = None) -> CatalogRecord:
        """Bring an external artifact's bytes here; a known hash must agree."""
        self._writable()
        record = self.get(name)
        chosen = integrity.choose(record, artifact, status="external")
        return integrity.fetch(self.ports, self.parts.planner, self.parts.fetcher, record, chosen, Place(profile))

    @_told
    def drop(self, name: Named, artifact: str | None = None, *, force: bool = False) -> CatalogRecord:
        """Give up fetched bytes whose origin still has them."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact, status="available")
        return integrity.drop(self.ports, self.parts.fetcher, record, chosen, force=force)

    # --- schemas ----------------------------------------------------------------------------------------------------

    def register_schema(self, name: str, model: Any, version: str = "1") -> Schema:
        """Keep a schema of metadata: a Pydantic class or a JSON Schema."""
        self._writable()
        return self.schemas.register(name, model, version)

    @overload
    def validate(self, record: CatalogRecord, /) -> ValidationResult: ...  # type: ignore[overload-overlap]  # the first one wins
    @overload
    def validate(self, *names: Named, all: bool = False) -> dict[str, ValidationResult]: ...
    def validate(self, *names: Named, all: bool = False) -> ValidationResult | dict[str, ValidationResult]:
        """Return what does not fit: of one record that is given as such, its result; else the results by id.

        A record that is given is held to its schema as it is, stored or not.
        """
        if len(names) == 1 and isinstance(names[0], CatalogRecord) and not all:
            return self.schemas.validate(names[0])
        records = self.iterate(order=("id",)) if all else (self.get(name) for name in names)
        return {each.id: self.schemas.validate(each) for each in records}

    def validate_metadata(
        self, metadata: Mapping[str, Any], schema_name: str, schema_version: str | None = None
    ) -> ValidationResult:
        """Return what does not fit in metadata that no record has yet."""
        schema = self.schemas.get(schema_name, schema_version)
        draft = CatalogRecord(metadata=dict(metadata), schema_name=schema.name, schema_version=schema.version)
        return self.schemas.validate(draft)

    def read_metadata(self, path: str | Path, *, only: Sequence[str] = (), require: bool = False) -> ExtractedRecord:
        """Return what the extractors find in a file or folder: blocks of metadata, time and place. Nothing is stored."""
        source = path_source(path).path
        found = self.extractors.extract(source, only=only)
        if require:
            found.required()
        record = found.apply(CatalogRecord())
        return ExtractedRecord(str(source), record.metadata, record.time, record.bbox, tuple(found.warnings))

    def extract_metadata(
        self, name: Named, *, only: Sequence[str] = (), require: bool = False, dry_run: bool = False
    ) -> CatalogRecord:
        """Read metadata out of the record's primary artifact again."""
        return self.extract(name, only=only, require=require, dry_run=dry_run)[0]

    def extract(
        self, name: Named, *, only: Sequence[str] = (), require: bool = False, dry_run: bool = False
    ) -> tuple[CatalogRecord, tuple[str, ...]]:
        """Do as :meth:`extract_metadata`; return the warnings too."""
        record = self.get(name)
        found = self.extractors.extract(self.path(name), only=only, record_id=record.id)
        if require:
            found.required()
        after = found.apply(record)
        if dry_run or after == record:
            return after, found.warnings
        with self.unit_of_work("extract_metadata", inputs=[record.id]) as work:
            work.warnings += found.warnings
            work.update_record(self._adder.validated(work.context(), after, Options(), work.warnings))
            done = work.commit()
        return done.records[0].of(self), done.warnings

    # --- views, pipelines, batches ----------------------------------------------------------------------------------

    def view(self, folder: str | Path, template: str, *where: Where, apply: bool = False, prune: bool = False) -> ViewPlan:
        """Plan a folder of relative links to the artifacts of the records that match; with *apply*, make it."""
        more = self.parts.planner.more
        plan = plan_view(Path(folder), self.iterate(*where, order=("id",)), template, resolve=self._local, more=more)
        return apply_view(plan, prune=prune) if apply else plan

    def ingest(
        self,
        *sources: str | Path,
        manifest: bool = False,
        kind: str | None = None,
        mode: batch.Mode | None = None,
        schema: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        profile: str | None = None,
        pattern: str | None = None,
        extract_metadata: bool = False,
        continue_on_error: bool = False,
        on_changed: batch.OnChanged = "skip",
        dry_run: bool = False,
    ) -> batch.BatchResult:
        """Add the files that the patterns name, or with *manifest* what the one manifest says, each as one operation.

        A second call skips what is held, and goes on where an interrupted one ended.

        Parameters
        ----------
        schema, metadata, tags, profile
            Of every record: ``name`` or ``name@version`` of a schema, fields of metadata, tags, the storage profile.
        pattern
            What file names say, for example ``{station}_{year}.nc``: fields of metadata. A file that it does not fit fails.
        """
        from cubeport.catalog import batch

        common = batch.Common(kind, mode, schema, metadata or {}, tags, profile, pattern)
        items, warnings = batch.collect(sources, manifest=manifest, common=common, owns=self._adder.owns)
        add = partial(self._add_item, extract=extract_metadata)
        running = batch.Batch(self.backend.get_by_key, add, continue_on_error, on_changed, warnings)
        if dry_run:
            return running.plan(items)
        self._writable()
        done = running.run(items)
        for each in done.items:
            if each.outcome == "failed" and each.operation_id is None:  # an operation says so itself
                self.events.emit(
                    "batch.item_failed", f"{each.source}: {each.reason}", level="error", operation_id=done.batch_id, key=each.key
                )
        made = [each.record_id for each in done.items if each.operation_id and each.record_id]
        if made:
            parameters = {"counts": done.counts, "manifest": manifest}
            with self.unit_of_work("ingest", operation_id=done.batch_id, parameters=parameters, inputs=_shown(sources)) as work:
                work.commit()
        return done

    def run(self, name: str, *sources: str | Path, dry_run: bool = False) -> pipelines.RunResult:
        """Run a pipeline of ``config/pipelines`` over sources, paths or ids of records, as one unit of work.

        Raises
        ------
        NotFound, InvalidConfiguration
            Before anything runs.
        """
        from cubeport.catalog import pipelines

        if self.root is None:
            raise InvalidRequest("A catalog without a folder has no pipelines.")
        pipeline = pipelines.read_pipeline(self.root / "config" / "pipelines", name, self.plugins.values("step"))
        known = (*RESERVED["operation"], *self.plugins.values("operation"))
        if pipeline.operation_type not in known:
            raise InvalidRequest(
                f"There is no type of operation {pipeline.operation_type}; there are {', '.join(known)}.",
                next_step=f"change operation.type in config/pipelines/{name}.yaml",
            )
        begun = pipelines.drafts(pipeline, [self._begin(source) for source in sources])
        names = _shown(sources)
        if dry_run:
            return pipelines.RunResult(pipeline.name, pipeline.steps, names, dry_run=True)
        with self.unit_of_work(pipeline.operation_type, parameters={"pipeline": name}, inputs=names) as work:
            records = pipelines.run(pipeline, begun, self._adder, work, self.plugins.values("writer"))
        return pipelines.RunResult(pipeline.name, pipeline.steps, names, records, tuple(work.warnings), work.operation_id)

    def _begin(self, source: str | Path) -> tuple[Path | None, CatalogRecord | None]:
        """Return the path that a source is, or the record and where its bytes lie."""
        if Path(source).exists():
            return Path(source).absolute(), None
        record = self.get(str(source))
        return (self.path(record.id) if record.artifacts else None), record

    def _add_item(self, item: batch.Item, key: str, on_exists: OnExists, parent_id: str, *, extract: bool) -> Added:
        from cubeport.catalog import batch

        schema = self.schemas.get(*item.schema_.split("@", 1)) if item.schema_ else None
        record, options = self._draft(item.metadata, batch.fields_of(item, schema, key, on_exists, extract=extract))
        options = replace(options, parent_id=parent_id)
        source, *more = batch.sources_of(item)
        others = [(each, replace(options, role=what.role, extract=False)) for each, what in zip(more, item.artifacts, strict=True)]
        return self._adder.add(record, source, options, others)

    def _local(self, artifact: Artifact) -> Path | None:
        """Return where an artifact would lie locally, whether or not anything does."""
        place = integrity.place_of(artifact)
        if place is not None:
            return self.profiles.get(place[0]).local_path(place[1])
        return Path(artifact.locator.path) if isinstance(artifact.locator, LocalPathLocator) else None

    # --- out and in -------------------------------------------------------------------------------------------------

    def export_lines(self, *where: Where, with_bytes: Path | None = None, **asked: Unpack[QueryFields]) -> Iterator[str]:
        """Yield the records that match as NDJSON, by id and of every status; *with_bytes*, copy their managed bytes there."""
        for record in self.iterate(*where, **(QueryFields(statuses=None, order=("id",)) | asked)):
            if with_bytes is not None:
                for artifact in record.artifacts:
                    ndjson.copy_out(self.profiles, artifact, with_bytes)
            yield from ndjson.export_lines([record])

    def export_records(self, file: str | Path, *where: Where, with_bytes: Path | None = None, **asked: Unpack[QueryFields]) -> int:
        """Write NDJSON to a new *file*; return how many records. Raises TargetExists."""
        count, target = 0, Path(file)
        try:
            out = target.open("x", encoding="utf-8")
        except FileExistsError:
            raise TargetExists(f"{file} is there already.", next_step="name another file, or remove it") from None
        try:
            with out:
                for line in self.export_lines(*where, with_bytes=with_bytes, **asked):
                    out.write(line)
                    count += 1
        except BaseException:
            target.unlink(missing_ok=True)  # half of an export would stop the next try, and look whole
            raise
        return count

    def export_crate(
        self,
        folder: str | Path,
        *where: Where,
        name: str,
        description: str = "Records of a catalog.",
        license: str | None = None,
        **asked: Unpack[QueryFields],
    ) -> int:
        """Write the records that match as an RO-Crate 1.1 (Process Run Crate) into a new *folder*; return how many.

        Bytes that are kept here are copied in; references and external artifacts are named by their place.

        Raises
        ------
        TargetExists
        ArtifactMissing
        """
        target = Path(folder)
        if target.exists():
            raise TargetExists(f"{target} is there already.", next_step="name another folder, or remove it")
        records = list(self.iterate(*where, **(QueryFields(order=("id",)) | asked)))
        places = {
            (record.id, each.artifact_id): place
            for record in records
            for each in record.artifacts
            if (place := self._into_crate(target, record, each)) is not None
        }
        ids = {record.operation_id for record in records if record.operation_id}
        done = [each for each in self.operations(limit=100_000) if each.operation_id in ids or ids & set(each.outputs)]
        published = self.ports.clock().date().isoformat()
        document = provenance.crate(
            records, done, name=name, description=description, published=published, places=places, license=license
        )
        with store_errors("write the crate"):
            make_folders(target)
            replace_file(target / provenance.CRATE_FILE, dumps(document, indent=True).encode() + b"\n")
        return len(records)

    def _into_crate(self, folder: Path, record: CatalogRecord, artifact: Artifact) -> str | None:
        """Copy managed bytes into a crate; return where an artifact is, in it or elsewhere."""
        if artifact.status in ("planned", "missing", "failed"):
            return None
        if artifact.managed or artifact.locator.kind == "inline":
            copied = integrity.copy_out(self.profiles, artifact, folder / record.id / artifact.artifact_id)
            return quote(copied.relative_to(folder).as_posix()) + ("/" if artifact.target_kind == "directory" else "")
        if isinstance(artifact.locator, LocalPathLocator):
            return Path(artifact.locator.path).as_uri()
        found: str | None = getattr(artifact.locator, "uri", None) or getattr(artifact.locator, "urlpath", None)
        return found

    def run_events(self, *, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Yield what was done as OpenLineage run events, oldest first: a start and an end for each operation."""
        for each in reversed(self.operations(since=since, limit=100_000)):
            yield from provenance.run_events(each, f"cubeport://{self.catalog_id}")

    def import_records(
        self, text: str | Iterable[str], *, on_exists: str = "error", schema_policy: Policy | None = None
    ) -> ndjson.Imported:
        """Bring records back as they were, all or none: lines of NDJSON, or a whole document of ``show --json``.

        Parameters
        ----------
        schema_policy
            How strictly they are held to their schemas, if not as the catalog says; ``off`` brings a backup back as it was.
        """
        if on_exists not in ("error", "skip"):
            raise InvalidRequest(f"on_exists is error or skip, not {on_exists!r}.")
        skipped = added = 0
        with self.unit_of_work("import", schema_policy=schema_policy) as work:
            for record in ndjson.read_records(text):
                if on_exists == "skip" and self.backend.get_record(record.id) is not None:
                    skipped += 1
                else:
                    work.import_record(record)
                    added += 1
            work.commit()
        return ndjson.Imported(added, skipped)

    # --- upkeep -----------------------------------------------------------------------------------------------------

    def logs(self, **asked: Unpack[EventFields]) -> EventPage:
        """Return events, the newest last; see :meth:`cubeport.catalog.events.EventLog.read`."""
        return self.events.read(**asked)

    def history(self, name: Named) -> list[history.Edit]:
        """Return the versions of a record, newest first: when, by whom, in which operation, and which fields changed."""
        return history.edits(self.rows, self.get(name))

    def at(self, name: Named, version: int) -> CatalogRecord:
        """Return a record as it was at an earlier version. Raises RecordNotFound if that was never, or is not kept."""
        return history.at_version(self.rows, self.get(name), version)

    def operations_on(self, name: Named, limit: int = 1000) -> list[Operation]:
        """Return the operations on a record, among the last *limit* of all, newest first."""
        record = self.get(name)
        return [each for each in self.operations(limit=limit) if record.id in (*each.outputs, *each.inputs)]

    def values(self, field: str, *where: Where, **asked: Unpack[QueryFields]) -> list[dict[str, Any]]:
        """Return the distinct values of a field, with how many records have each, the most frequent first."""
        return [{"value": value, "records": n} for value, n in self.backend.field_values(field, _query(where, asked))]

    def operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first; those still open are ``running``, or ``failed`` when a person must look."""
        return operations.operations(self.ports, status=status, since=since, limit=limit)

    def operation(self, operation_id: str) -> dict[str, Any]:
        """Return one operation (its id, or how it begins) with the lines of its journal. Raises NotFound."""
        return operations.operation(self.ports, operation_id)

    def recover(self, operation_id: str | None = None, *, dry_run: bool = False, skip: bool = False) -> list[Recovered]:
        """Finish or undo what dead processes left open; twice is once. Raises NotFound for an operation that never was."""
        if operation_id is not None:
            self.operation(operation_id)
        if not dry_run:
            self._writable()
            if self.parts.locks is not None:
                for path in self.parts.locks.rglob("*.lock"):
                    clear_note(path)
        return recovery.recover(self.ports, operation_id, dry_run=dry_run, skip=skip)

    def doctor(self) -> list[Finding]:
        """Return what is well and what is not, with next steps; changes nothing, reads no data."""
        return doctor(self.ports, self.parts)

    def fsck(self, name: Named | None = None, **asked: Unpack[FsckOptions]) -> Checked:
        """Compare the catalog with its stores; see :func:`cubeport.catalog.keeping.fsck.fsck`."""
        if asked.get("repair"):
            self._writable()
        return fsck(self.ports, self.parts, self.get(name) if name else None, **asked)

    def gc(self, *, older_than_s: float = 24 * 3600, dry_run: bool = False) -> list[Garbage]:
        """Remove bytes that are provably ours and that nothing holds; strangers are listed and stay."""
        if not dry_run:
            self._writable()
        return gc(self.ports, self.parts, older_than_s=older_than_s, dry_run=dry_run)

    def info(self) -> dict[str, Any]:
        """Return what this catalog is and holds."""
        return operations.info(self.ports, self.parts)

    def _writable(self) -> None:
        if self.ports.read_only:
            raise ReadOnly("The catalog is open for reading only.")


def _query(where: Sequence[Where], asked: Mapping[str, Any]) -> Query:
    """Return the query that a caller means; keywords that are no field of a query are equal to fields of metadata."""
    if where and isinstance(where[0], Query):
        if len(where) > 1 or asked.keys() - {"limit"}:
            raise InvalidRequest("Give a whole query, or terms and fields of one.")
        return where[0]
    terms: list[Term | str] = []
    for each in where:
        if isinstance(each, (Term, str)):
            terms.append(each)
        elif isinstance(each, Mapping):
            terms += [Term(str(field), "=", value) for field, value in each.items()]
        else:
            raise InvalidRequest(f"A search takes terms, or a mapping of fields to values, not a {type(each).__name__}.")
    known = QueryFields.__annotations__.keys()
    terms += [Term(field, "=", value) for field, value in asked.items() if field not in known]
    return Query(where=terms, **{key: value for key, value in asked.items() if key in known})


def _shown(sources: Iterable[str | Path]) -> tuple[str, ...]:
    """Return sources as an operation's row names them."""
    return tuple(redact_text(str(source)) for source in sources)
