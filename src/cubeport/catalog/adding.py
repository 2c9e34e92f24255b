"""Add records: validate, extract, plan, write, validate changes again, and commit. Hooks run before and after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cubeport.catalog.artifacts.naming import format_of, media_type_of
from cubeport.catalog.artifacts.planning import Planner, moved
from cubeport.catalog.artifacts.storage import StoragePlan, WriteMode, root_of
from cubeport.catalog.artifacts.writers import ArtifactWriter, PathSource, Writing, measure, path_source, writing
from cubeport.catalog.drafts import Options
from cubeport.catalog.extraction import Extractors
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.hooks import ExtractPayload, HookContext, PlanPayload, ValidatePayload, WritePayload
from cubeport.catalog.models import (
    Artifact,
    CatalogRecord,
    ExternalURILocator,
    Lineage,
    LocalPathLocator,
    OpaqueLocator,
    PlannedPathLocator,
    TargetKind,
    normalise_locator,
)
from cubeport.catalog.query import Query
from cubeport.catalog.schemas import Schemas
from cubeport.catalog.terms import Term
from cubeport.catalog.work.undo import Action, source_proof
from cubeport.catalog.work.unit_of_work import Ports, UnitOfWork
from cubeport.errors import HashMismatch, InvalidRequest, KeyExists, RecordExists


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """The source of an artifact's bytes: a path, or a writer with the object that it reads."""

    name: str
    """The original file name. Path templates and media types use it."""
    writing: Writing | None = None
    path: Path | None = None
    """The local path, if there is one. Extractors read it, and ``move`` removes it."""
    mode: WriteMode = "copy"
    target_kind: TargetKind = "file"
    locator: Any = None
    """The target of a reference."""
    original: str | None = None
    """The name of the bytes in their original place, if they have one."""


@dataclass(frozen=True, slots=True, repr=False)
class Added:
    """The result of adding."""

    record: CatalogRecord
    outcome: Literal["added", "skipped", "planned"] = "added"
    warnings: tuple[str, ...] = ()
    plan: StoragePlan | None = None
    operation_id: str | None = None

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    @property
    def title(self) -> str | None:
        """The record's title."""
        return self.record.title

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The record's metadata."""
        return self.record.metadata

    def __repr__(self) -> str:
        return f"<Added {self.outcome}: {self.record!r}>"

    def path(self, artifact: str | None = None) -> Path:
        """Return the local path of the record's artifact."""
        return self.record.path(artifact)

    def open(self, artifact: str | None = None) -> Any:
        """Open the record's artifact by its format."""
        return self.record.open(artifact)

    def to_mapping(self) -> dict[str, Any]:
        """Return the record's document with the additional fields ``outcome`` and ``warnings``."""
        return self.record.to_mapping() | {"outcome": self.outcome, "warnings": list(self.warnings)}


def source_of(
    path: str | Path | PathSource, operation: Literal["copy", "move", "reference"], writer: ArtifactWriter | None = None
) -> ArtifactSource:
    """Return the source for a path."""
    source = path if isinstance(path, PathSource) else path_source(path)
    if operation == "reference":
        return ArtifactSource(
            source.path.name,
            path=source.path,
            mode="reference",
            target_kind="directory" if source.kind == "directory" else "file",
            locator=LocalPathLocator.from_path(source.path),
            original=source.path.name,
        )
    prepared = writing(source, writer)
    name = source.path.name
    if source.kind == "zip_file":
        import zipfile

        with zipfile.ZipFile(source.path) as archive:
            name = Path(prepared.writer.member(archive).filename).name if hasattr(prepared.writer, "member") else source.path.stem
    return ArtifactSource(name, prepared, source.path, operation, prepared.writer.target_kind, original=name)


@dataclass(frozen=True, slots=True)
class Adder:
    """Adds records and artifacts to one catalog."""

    ports: Ports
    schemas: Schemas
    extractors: Extractors
    planner: Planner
    home: Path | None = None
    """The folder of the catalog itself (``.cubeport``), if it has one."""

    def owns(self, path: Path) -> bool:
        """Return whether *path* is inside the catalog's folder or below the root of a storage profile."""
        place = path.resolve()
        return any(place.is_relative_to(root) for root in self._places())

    def _places(self) -> list[Path]:
        roots = [root for each in self.ports.profiles if (root := root_of(each)) is not None]
        return [each.resolve() for each in ([self.home] if self.home is not None else []) + roots]

    def _demand_foreign(self, source: ArtifactSource) -> None:
        """Raise InvalidRequest if adding would take bytes from other records or copy the catalog into itself."""
        if source.path is None or source.mode == "reference":
            return
        place = source.path.resolve()
        if self.home is not None and place.is_relative_to(self.home.resolve()):
            raise InvalidRequest(f"{source.name} belongs to the catalog itself.", next_step="add a file outside .cubeport")
        if source.mode == "move" and self.owns(place):
            raise InvalidRequest(
                f"{source.name} is below the root of a storage profile: other records may own its bytes, so it cannot be moved.",
                next_step="add it with --reference",
            )
        if any(each.is_relative_to(place) for each in self._places()):
            raise InvalidRequest(
                f"{source.name} contains the catalog or the root of a storage profile, so it cannot be copied into it.",
                next_step="add the folders inside it one by one, or the folder with --reference",
            )

    def add(
        self,
        draft: CatalogRecord,
        source: ArtifactSource | None,
        options: Options,
        more: Sequence[tuple[ArtifactSource, Options]] = (),
    ) -> Added:
        """Add *draft* with the bytes of *source* (if any) and *more* artifacts; see :meth:`Catalog.add`."""
        former = None
        if options.key is not None:
            draft = draft.replace(key=options.key)
            former = self.ports.backend.get_by_key(options.key)
            if former is not None and options.on_exists == "skip":
                return Added(former, "skipped")
            if former is not None and options.on_exists == "error":
                words = f"A record with the key {options.key[:80]!r} already exists."
                raise KeyExists(words, next_step="use --on-exists skip or new_version")
            if former is not None:
                draft = draft.replace(lineage=(*draft.lineage, Lineage(rel="version_of", target=former.id)))
        if source is not None and options.duplicates != "allow" and (same := self._with_the_bytes(source)) is not None:
            if options.duplicates == "skip":
                return Added(same, "skipped")
            words = f"Record {same.id[:8]} already has the same bytes."
            raise RecordExists(words, next_step=f"cubeport show {same.id[:8]}; or add it with --duplicates allow")
        if self.ports.backend.get_record(draft.id) is not None:
            raise RecordExists(f"A record with the id {draft.id} already exists.")
        if options.dry_run:
            return self._dry(draft, source, options)
        parameters = {"kind": draft.kind, "key": options.key, "mode": source.mode if source else None}
        try:
            inputs = [source.name] if source else []
            with UnitOfWork(
                self.ports,
                "add",
                parameters=parameters,
                inputs=inputs,
                parent_id=options.parent_id,
                records=[draft.id],
                schema_policy=options.schema_policy,
            ) as work:
                record, plan = self._make(work, draft, source, options)
                for each, how in more:
                    record, _ = self._make(work, record, each, how)
                if former is not None:
                    work.update_record(former.replace(key=None, status="deprecated"), validate=False)
                work.add_record(record)
                done = work.commit()
        except KeyExists:
            if options.on_exists == "skip" and (there := self.ports.backend.get_by_key(str(options.key))) is not None:
                return Added(there, "skipped")
            raise
        return Added(done.records[-1], "added", done.warnings, plan, done.operation_id)

    def _with_the_bytes(self, source: ArtifactSource) -> CatalogRecord | None:
        """Return an active record with the same bytes as *source* by sha256, or ``None``."""
        digest = _digest(source)()
        name = "sha256-tree" if source.target_kind == "directory" else "sha256"
        found = self.ports.backend.search(Query([Term(f"artifact.hashes.{name}", "=", digest)], limit=1, order=("created_at",)))
        return found[0] if found else None

    def attach(self, record: CatalogRecord, source: ArtifactSource, options: Options) -> Added:
        """Add one more artifact to an existing record."""
        if options.dry_run:
            return self._dry(record, source, options)
        with UnitOfWork(
            self.ports,
            "update",
            inputs=[source.name],
            parameters={"record": record.id},
            records=[record.id],
            schema_policy=options.schema_policy,
        ) as work:
            changed, plan = self._make(work, record, source, options)
            work.update_record(changed)
            done = work.commit()
        return Added(done.records[0], "added", done.warnings, plan, done.operation_id)

    def put_in_place(
        self, record: CatalogRecord, old: Artifact, source: ArtifactSource, options: Options, undone: Sequence[Action]
    ) -> Added:
        """Replace the artifact *old* of *record* by the bytes of *source*. The old bytes are removed after the commit
        (*undone*).
        """
        with UnitOfWork(
            self.ports,
            "update",
            inputs=[source.name],
            parameters={"record": record.id, "replaces": old.artifact_id},
            records=[record.id],
            schema_policy=options.schema_policy,
        ) as work:
            rest = record.replace(artifacts=tuple(each for each in record.artifacts if each.artifact_id != old.artifact_id))
            changed, plan = self._make(work, rest, source, options)
            if undone:
                work.afterwards(*undone)
            work.update_record(changed)
            done = work.commit()
        return Added(done.records[0], "added", done.warnings, plan, done.operation_id)

    def _dry(self, draft: CatalogRecord, source: ArtifactSource | None, options: Options) -> Added:
        context = HookContext(self.ports.catalog_id, "0" * 32, "add", self.ports.user_id, self.ports.session_id, dry_run=True)
        warnings: list[str] = []
        record = self._described(context, draft, source, options, warnings)
        plan = self.planned(context, record, source, options, warnings) if source else None
        return Added(record, "planned", tuple(warnings), plan)

    # --- the steps --------------------------------------------------------------------------------------------------

    def _make(
        self, work: UnitOfWork, draft: CatalogRecord, source: ArtifactSource | None, options: Options
    ) -> tuple[CatalogRecord, StoragePlan | None]:
        context = work.context()
        record = self._described(context, draft, source, options, work.warnings)
        if source is None:
            return record, None
        plan = self.planned(context, record, source, options, work.warnings)
        work.warnings += plan.warnings
        record = self.written(work, context, record, plan, source, options)
        return record, self._as_written(work, plan)

    def _as_written(self, work: UnitOfWork, plan: StoragePlan) -> StoragePlan:
        """Return *plan* with the final name of the bytes, which differs if the planned name was taken."""
        path = work.written_to.get(plan.object_id)
        if path is None or plan.profile is None:
            return plan
        folder, _, name = path.rpartition("/")
        locator = self.ports.profiles.get(plan.profile).locator(path)
        return replace(plan, locator=locator, relative_path=path, directory=folder, filename=name)

    def _described(
        self, context: HookContext, draft: CatalogRecord, source: ArtifactSource | None, options: Options, warnings: list[str]
    ) -> CatalogRecord:
        """Validate, extract, and validate again if the extraction changed anything."""
        record = self.validated(context, draft, options, warnings)
        if source is None or not options.extract:
            return record
        if source.path is None:
            words = (
                "Metadata can be extracted only from files and folders; for other bytes, run extract-metadata once they are stored."
            )
            if options.require_metadata:
                raise InvalidRequest(words, next_step="add it without --require-metadata, then cubeport extract-metadata")
            warnings.append(words)
            return record
        changed = self.extracted(context, record, source.path, options, warnings)
        return record if changed == record else self.validated(context, changed, options, warnings, again=True)

    def extracted(
        self, context: HookContext, record: CatalogRecord, path: Path, options: Options, warnings: list[str]
    ) -> CatalogRecord:
        """Return *record* with the metadata that the extractors find at *path*."""
        run = self.ports.hooks.run
        before = run("before_metadata_extract", context, ExtractPayload(path))
        only = options.extract if isinstance(options.extract, Sequence) else ()
        found = self.extractors.extract(path, only=only, operation_id=context.operation_id, record_id=record.id)
        if options.require_metadata:
            found.required()
        extracted = before.apply(found.apply(record))
        after = run("after_metadata_extract", context, ExtractPayload(path, found.blocks))
        warnings += [*before.warnings, *found.warnings, *after.warnings]
        return after.apply(extracted)

    def validated(
        self, context: HookContext, record: CatalogRecord, options: Options, warnings: list[str], *, again: bool = False
    ) -> CatalogRecord:
        """Return *record* with its schema and the additions of hooks. ``again`` is true after bytes or extracted blocks changed
        it.
        """
        run = self.ports.hooks.run
        if not again:
            before = run("before_record_validate", context, ValidatePayload(record))
            warnings += before.warnings
            record = before.apply(record)
        record = self.schemas.settle(record)
        result = self.schemas.check(record, policy=options.schema_policy)
        found = [f"{issue.path}: {issue.message}" for issue in result.warnings]
        if found:
            self.ports.events.emit(
                "validation.failed", "; ".join(found), level="warning", operation_id=context.operation_id, record_id=record.id
            )
        warnings += [each for each in found if each not in warnings]
        if not context.dry_run and record.schema_name and record.schema_version:
            self.schemas.keep(record.schema_name, record.schema_version)
        if again:
            return record
        after = run("after_record_validate", context, ValidatePayload(record, result))
        warnings += after.warnings
        return after.apply(record)

    def planned(
        self, context: HookContext, record: CatalogRecord, source: ArtifactSource, options: Options, warnings: list[str]
    ) -> StoragePlan:
        """Return the plan for the bytes of *source*. Raises InvalidRequest if the bytes already belong to the catalog."""
        self._demand_foreign(source)
        place = replace(options.place, locator=source.locator) if source.mode == "reference" else options.place
        object_id = new_id()
        fields = self.planner.fields(record, original=source.name, role=options.role, object_id=object_id, sha256=_digest(source))
        locators = [place.locator] if place.locator is not None else []
        before = self.ports.hooks.run("before_path_plan", context, PlanPayload(fields, locators))
        plan = self.planner.plan(record, place, fields, target_kind=source.target_kind, write_mode=source.mode, object_id=object_id)
        if before.locator is not None and source.mode != "reference":
            plan = moved(plan, before.locator, self.planner)
        after = self.ports.hooks.run("after_path_plan", context, PlanPayload(fields, locators, plan))
        warnings += [*before.warnings, *after.warnings]
        return plan

    def written(
        self,
        work: UnitOfWork,
        context: HookContext,
        record: CatalogRecord,
        plan: StoragePlan,
        source: ArtifactSource,
        options: Options,
    ) -> CatalogRecord:
        """Return *record* with the artifact of *source*, which is written or referenced."""
        said: dict[str, Any] = {
            "role": options.role,
            "media_type": options.media_type or media_type_of(source.name),
            "format": options.format or format_of(source.name, source.target_kind),
            "metadata": dict(options.metadata),
            "original_name": options.original_name or source.original,
        }
        if source.path is not None:
            said["modified_at"] = datetime.fromtimestamp(source.path.stat().st_mtime, UTC)
        if source.mode == "reference" or source.writing is None:
            artifact = _referred(source, said, options)
            return self._around(context, record, plan, artifact, lambda: artifact, options, work.warnings, attach=True)
        artifact = work.plan_artifact(record, plan=plan, **said)
        if source.mode == "move":
            assert source.path is not None, "only a path can be moved"
            work.afterwards(Action(action="remove_source", path=str(source.path), proof=source_proof(source.path)))
        bytes_of = source.writing

        def write() -> Artifact:
            stored = work.write_artifact(artifact, bytes_of, hash="sha256" if options.hashes else None)
            agree(options, stored)
            return stored

        return self._around(context, record, plan, artifact, write, options, work.warnings, attach=False)

    def _around(
        self,
        context: HookContext,
        record: CatalogRecord,
        plan: StoragePlan,
        artifact: Artifact,
        write: Callable[[], Artifact],
        options: Options,
        warnings: list[str],
        *,
        attach: bool,
    ) -> CatalogRecord:
        """Write between the two hooks. Their changes are validated again."""
        before = self.ports.hooks.run("before_artifact_write", context, WritePayload(plan, artifact))
        written = write()
        after = self.ports.hooks.run("after_artifact_write", context, WritePayload(plan, written))
        warnings += [*before.warnings, *after.warnings]
        changed = after.apply(before.apply(record))
        if changed != record:
            changed = self.validated(context, changed, options, warnings, again=True)
        return changed.replace(artifacts=(*changed.artifacts, written)) if attach else changed


def agree(known: Options | Artifact, stored: Artifact) -> None:
    """Raise HashMismatch if the written bytes differ from the known hash or size."""
    if known.size_bytes not in (None, stored.size_bytes):
        raise HashMismatch(
            f"The source has {stored.size_bytes} bytes, not {known.size_bytes} as stated.", next_step="check the source"
        )
    for name, digest in known.hashes.items():
        if stored.hashes.get(name, digest) != digest:
            raise HashMismatch(f"The bytes have another {name} than stated.", next_step="check the source")


def _referred(source: ArtifactSource, fields: Mapping[str, Any], options: Options) -> Artifact:
    """Return the artifact for external bytes, which cubeport never changes."""
    locator = source.locator
    match locator:
        case ExternalURILocator():
            status = "external"
        case PlannedPathLocator():
            status = "planned"
        case _:
            status = "available"
    facts: dict[str, Any] = {"size_bytes": options.size_bytes, "hashes": dict(options.hashes)}
    if source.path is not None and source.path.is_file():
        facts["size_bytes"] = source.path.stat().st_size
    if options.hash and source.path is not None:
        result = measure(source.path)
        facts = {"size_bytes": result.size_bytes, "hashes": result.hashes}
    artifact = Artifact.from_mapping(
        {"locator": locator.to_mapping(), "status": status, "target_kind": source.target_kind, **fields, **facts}
    )
    agree(options, artifact)
    return artifact


def _digest(source: ArtifactSource) -> Callable[[], str]:
    """Return a function for the sha256 of the source. The source is read only if a template needs it."""

    def digest() -> str:
        if source.path is not None:
            return next(iter(measure(source.path).hashes.values()))
        if source.writing is not None and isinstance(source.writing.source, bytes):
            import hashlib

            return hashlib.sha256(source.writing.source).hexdigest()
        raise InvalidRequest("This source cannot be read twice, so no template can name its sha256.")

    return digest


def referring(locator: object) -> ArtifactSource:
    """Return the source for a locator alone. Nothing is read from it."""
    place = normalise_locator(locator)
    if isinstance(place, OpaqueLocator):
        return ArtifactSource("opaque", mode="reference", locator=place)
    text = str(getattr(place, "path", None) or getattr(place, "urlpath", None) or getattr(place, "uri", None) or "bytes")
    name = text.rstrip("/").rpartition("/")[2] or "bytes"
    path = Path(place.path) if isinstance(place, LocalPathLocator) and place.profile is None else None
    return ArtifactSource(
        name, path=path if path is not None and path.exists() else None, mode="reference", locator=place, original=name
    )


def named(source: ArtifactSource, filename: str | None) -> ArtifactSource:
    """Return the source with the name *filename*, if it is given."""
    return source if filename is None else replace(source, name=filename)


def source_to_write(source: object, writer: ArtifactWriter | None, filename: str | None, record_id: str) -> ArtifactSource | None:
    """Return the source to write: a path, bytes, an open file, or the object that *writer* reads; ``None`` for nothing."""
    if source is None and writer is None:
        return None
    if isinstance(source, (str, Path, PathSource)):
        return named(source_of(source, "copy", writer), filename)
    prepared = Writing(writer, source) if writer is not None else writing(source)
    return ArtifactSource(filename or record_id, prepared, mode="write", target_kind=prepared.writer.target_kind, original=filename)
