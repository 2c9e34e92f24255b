"""Pipelines: named steps in a file that run on sources as one unit of work, which commits once at the end.

``config/pipelines/<name>.yaml``::

    operation:
      name: tidy
      type: run
      steps: [extract-metadata, {validate-record: {policy: strict}}, plan-path, write-artifact, commit-record]
      record: {kind: document, tags: [tidy]}

Each step belongs to one of the five stages of hooks. The hooks of this stage run before and after it and receive the name of the
step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from cubeport.catalog.adding import Adder, ArtifactSource, source_of
from cubeport.catalog.artifacts.planning import PlannedPlace
from cubeport.catalog.artifacts.storage import StoragePlan
from cubeport.catalog.artifacts.writers import UnzipSingleFileArtifactWriter, Writing, path_source
from cubeport.catalog.drafts import Options
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.hooks import (
    STAGES,
    CommitPayload,
    ExtractPayload,
    HookContext,
    PlanPayload,
    Stage,
    ValidatePayload,
    WritePayload,
)
from cubeport.catalog.models import CatalogRecord, Lineage
from cubeport.catalog.schemas import Policy, invalid
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.errors import InvalidConfiguration, InvalidRequest, NotFound, Problem

COMMIT = "commit-record"


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoOptions(_Options):
    """The options of a step that has none."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The value that steps pass on: an unfinished record and the source of its bytes."""

    record: CatalogRecord
    source: ArtifactSource | None = None
    plan: StoragePlan | None = None
    derived_from: str | None = None
    """The record or URL of the source, to which ``transform`` adds a lineage edge."""
    is_new: bool = True
    """Whether the record is new. Otherwise it exists and will be updated."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that a step can use besides its draft."""

    adder: Adder
    work: UnitOfWork
    context: HookContext
    writers: Mapping[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """One step. Plugins register theirs with ``registry.step(name, step)``."""

    @property
    def stage(self) -> Stage:
        """Return the stage whose hooks run before and after the step."""

    @property
    def options(self) -> type[BaseModel]:
        """Return the model of its options. Unknown options are refused before anything runs."""

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Return the changed draft. Any exception rolls back the whole pipeline."""


# --- the steps of the core: adding runs their hooks itself ---------------------------------


class ExtractMetadata:
    """``extract-metadata``: add the metadata that the extractors find in the source."""

    stage: Stage = "metadata_extract"

    class options(_Options):  # noqa: N801 - the attribute of the protocol
        """``only``: the extractors to run; ``require``: whether a failure ends the pipeline."""

        only: tuple[str, ...] = ()
        require: bool = False

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Extract."""
        if draft.source is None or draft.source.path is None:
            raise InvalidRequest("extract-metadata needs a local source; put it before transform.")
        how = Options(extract=options.only or True, require_metadata=options.require)
        return replace(
            draft, record=tools.adder.extracted(tools.context, draft.record, draft.source.path, how, tools.work.warnings)
        )


class ValidateRecord:
    """``validate-record``: validate the record against its schema."""

    stage: Stage = "record_validate"

    class options(_Options):  # noqa: N801
        """``policy``: off, warn or strict; the default is that of the kind, otherwise of the catalog."""

        policy: Policy | None = None

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Validate."""
        how = Options(schema_policy=options.policy)
        return replace(draft, record=tools.adder.validated(tools.context, draft.record, how, tools.work.warnings))


class ValidateDataSchema:
    """``validate-data-schema``: validate the block of an extractor against a schema."""

    stage: Stage = "record_validate"

    class options(_Options):  # noqa: N801
        """``schema``: ``name`` or ``name@version``; ``block``: the extractor of the block; ``policy``: warn or strict."""

        schema_: str
        block: str
        policy: Literal["warn", "strict"] = "strict"
        model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=lambda name: name.rstrip("_"))

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Validate the block."""
        schemas = tools.adder.schemas
        schema = schemas.get(*options.schema_.split("@", 1))
        block = draft.record.metadata.get(options.block)
        if not isinstance(block, Mapping):
            raise InvalidRequest(f"There is no metadata.{options.block} to validate; put extract-metadata before.")
        held = CatalogRecord(metadata=dict(block), schema_name=schema.name, schema_version=schema.version)
        result = schemas.validate(held)
        if not result.valid and options.policy == "strict":
            raise invalid(result)
        tools.work.warnings += result.lines()
        return draft


class PlanPath:
    """``plan-path``: decide where to store the bytes."""

    stage: Stage = "path_plan"

    class options(_Options):  # noqa: N801
        """Templates and profile; the defaults are those of the profile, otherwise of the catalog."""

        directory: str | None = None
        filename: str | None = None
        profile: str | None = None
        role: str = "primary"

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Plan."""
        source = _source(draft, "plan-path")
        how = Options(place=PlannedPlace(options.profile, options.directory, options.filename), role=options.role)
        return replace(draft, plan=tools.adder.planned(tools.context, draft.record, source, how, tools.work.warnings))


class WriteArtifact:
    """``write-artifact``: write the bytes to the place of ``plan-path``."""

    stage: Stage = "artifact_write"

    class options(_Options):  # noqa: N801
        """The description of the artifact."""

        role: str = "primary"
        media_type: str | None = None
        format: str | None = None

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Write."""
        source = _source(draft, "write-artifact")
        if draft.plan is None:
            raise InvalidRequest("write-artifact needs a plan; put plan-path before.")
        how = Options(role=options.role, media_type=options.media_type, format=options.format)
        return replace(draft, record=tools.adder.written(tools.work, tools.context, draft.record, draft.plan, source, how))


class Transform:
    """``transform``: convert the source with a writer. The record gets a lineage edge to the source."""

    stage: Stage = "artifact_write"

    class options(_Options):  # noqa: N801
        """``writer``: ``unzip`` or a plugin's writer; ``filename``: the name of its result."""

        writer: str
        filename: str | None = None

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:
        """Insert the writer between the source and the artifact."""
        source = _source(draft, "transform")
        known = {"unzip": UnzipSingleFileArtifactWriter(), **tools.writers}
        if options.writer not in known:
            raise InvalidRequest(f"transform: there is no writer {options.writer}; there are {', '.join(sorted(known))}.")
        writer = known[options.writer]
        path = path_source(source.path, "zip_file" if options.writer == "unzip" else None) if source.path else None
        writing = Writing(writer, path or source.writing)
        name = options.filename or (Path(source.name).stem if options.writer == "unzip" else source.name)
        made = ArtifactSource(name, writing, mode="write", target_kind=writer.target_kind)
        record = draft.record
        if draft.derived_from is not None:
            record = record.replace(lineage=(*record.lineage, Lineage(rel="derived_from", target=draft.derived_from)))
        return replace(draft, record=record, source=made)


class CommitRecord:
    """``commit-record``: add the record to the commit. It must be the last step."""

    stage: Stage = "record_commit"
    options = NoOptions

    def run(self, draft: Draft, options: Any, tools: Tools) -> Draft:  # noqa: ARG002 - the protocol's
        """Add the record to the commit."""
        if draft.is_new:
            tools.work.add_record(draft.record)
        else:
            tools.work.update_record(draft.record)
        return draft


STEPS: Mapping[str, Step] = {
    "extract-metadata": ExtractMetadata(),
    "validate-record": ValidateRecord(),
    "validate-data-schema": ValidateDataSchema(),
    "plan-path": PlanPath(),
    "write-artifact": WriteArtifact(),
    "transform": Transform(),
    COMMIT: CommitRecord(),
}
"""The steps of the core. Plugins cannot use their names."""


def _source(draft: Draft, step: str) -> ArtifactSource:
    if draft.source is None:
        raise InvalidRequest(f"{step} needs a source: cubeport run NAME SOURCE…")
    return draft.source


# --- the file -------------------------------------------------------------------------------------------------------


class _RecordDefaults(_Options):
    kind: str = "document"
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    schema_name: str | None = None
    schema_version: str | None = None


class _Operation(_Options):
    name: str
    type: str = "run"
    steps: tuple[str | dict[str, dict[str, Any]], ...]
    record: _RecordDefaults = _RecordDefaults()


class _File(_Options):
    operation: _Operation


@dataclass(frozen=True, slots=True)
class ResolvedStep:
    """A step that is ready to run, with its stage, and its options including defaults."""

    name: str
    stage: Stage
    options: Mapping[str, Any]
    given: BaseModel = field(repr=False, default_factory=NoOptions)
    step: Any = field(repr=False, default=None)

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"name": self.name, "stage": self.stage, "options": dict(self.options)}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline that can run. All its steps are known and all options are checked."""

    name: str
    operation_type: str
    steps: tuple[ResolvedStep, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a pipeline, or with *dry_run* its plan."""

    pipeline: str
    steps: tuple[ResolvedStep, ...]
    sources: tuple[str, ...] = ()
    records: tuple[CatalogRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    operation_id: str | None = None
    dry_run: bool = False

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "pipeline": self.pipeline,
            "dry_run": self.dry_run,
            "steps": [step.to_mapping() for step in self.steps],
            "sources": list(self.sources),
            "records": [record.to_mapping() for record in self.records],
            "warnings": list(self.warnings),
            "operation_id": self.operation_id,
        }


def read_pipeline(folder: Path, name: str, more_steps: Mapping[str, Step]) -> Pipeline:
    """Return the pipeline in ``folder/<name>.yaml``.

    Raises
    ------
    NotFound
        With similar names.
    InvalidConfiguration
        With the place of all unknown steps and options, before anything runs.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []
    if name not in known:
        near = get_close_matches(name, known, 1)
        words = f"; do you mean {near[0]}?" if near else f"; there are {', '.join(known)}." if known else "."
        raise NotFound(f"There is no pipeline {name}{words}", next_step=f"write config/pipelines/{name}.yaml")
    document = strictyaml.read(folder / f"{name}.yaml", f"config/pipelines/{name}.yaml")
    file = strictyaml.validated(document, _File, {(): _File.model_fields, ("operation",): _Operation.model_fields})
    resolved: list[ResolvedStep] = []
    problems: list[Problem] = []
    for i, entry in enumerate(file.operation.steps):
        loc: strictyaml.Loc = ("operation", "steps", i)
        step = _resolve(entry, {**more_steps, **STEPS})
        if isinstance(step, ResolvedStep):
            resolved.append(step)
        else:
            problems += [Problem(loc, kind, f"{document.place(loc)}: {words}") for kind, words in step]
    problems += [
        Problem(("operation", "steps"), "order", f"{document.place(('operation', 'steps'))}: {why}") for why in _order(resolved)
    ]
    if problems:
        raise InvalidConfiguration("\n".join(each.message for each in problems), errors=problems)
    return Pipeline(file.operation.name, file.operation.type, tuple(resolved), file.operation.record.model_dump(exclude_none=True))


def _resolve(entry: str | Mapping[str, Mapping[str, Any]], known: Mapping[str, Step]) -> ResolvedStep | list[tuple[str, str]]:
    """Return the step of an entry in the file, or its problems."""
    if not isinstance(entry, str) and len(entry) != 1:
        return [("step", "a step is a name, or one name with its options")]
    name, given = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in known:
        near = get_close_matches(name, known, 1)
        return [("unknown-step", f"there is no step {name}" + (f"; do you mean {near[0]}?" if near else ""))]
    step = known[name]
    try:
        options = step.options.model_validate(given)
    except ValidationError as exc:
        return [
            (each["type"], f"{name}: {'.'.join(map(str, each['loc']))}: {each['msg']}") for each in exc.errors(include_url=False)
        ]
    return ResolvedStep(name, step.stage, options.model_dump(mode="json", by_alias=True), options, step)


def _order(steps: Sequence[ResolvedStep]) -> Iterator[str]:
    names = [step.name for step in steps]
    if names.count(COMMIT) != 1 or names[-1] != COMMIT:
        yield f"{COMMIT} must appear once, as the last step"
    if "write-artifact" in names and "plan-path" not in names[: names.index("write-artifact")]:
        yield "write-artifact needs plan-path before it"
    if any(step.stage not in STAGES for step in steps):
        yield "a step's stage must be one of " + ", ".join(STAGES)


# --- running --------------------------------------------------------------------------------------------------------


def drafts(pipeline: Pipeline, sources: Iterable[tuple[Path | None, CatalogRecord | None]]) -> list[Draft]:
    """Return the initial draft of each source, which is a path, or a record with its local path.

    If no step writes bytes, the record itself is updated. Otherwise a new record is made from it.
    """
    writes = any(step.stage == "artifact_write" for step in pipeline.steps)
    found = []
    for path, record in sources:
        fields = dict(pipeline.record)
        if record is not None and not writes:
            found.append(Draft(record, source_of(path, "reference") if path else None, is_new=False))
            continue
        if record is not None:
            fields.setdefault("title", record.title)
        origin = record.id if record is not None else path.as_uri() if path is not None else None
        found.append(Draft(CatalogRecord.from_mapping(fields), source_of(path, "copy") if path else None, derived_from=origin))
    return found or [Draft(CatalogRecord.from_mapping(pipeline.record))]


def run(
    pipeline: Pipeline, begun: Sequence[Draft], adder: Adder, work: UnitOfWork, writers: Mapping[str, Any]
) -> tuple[CatalogRecord, ...]:
    """Run all steps on all drafts and commit once. A failure leaves no trace."""
    for draft in begun:
        for step in pipeline.steps:
            work.step = step.name
            with _told(adder, work, step):
                draft = _around(step, draft, Tools(adder, work, work.context(), writers))
    return work.commit().records


@contextmanager
def _told(adder: Adder, work: UnitOfWork, step: ResolvedStep) -> Iterator[None]:
    """Log the events of the step."""
    said: Mapping[str, Any] = {"operation_id": work.operation_id, "user_id": work.user_id, "step": step.name}
    emit = adder.ports.events.emit
    emit("step.started", f"Step {step.name} started.", level="debug", **said)
    begun = time.perf_counter()
    try:
        yield
    except BaseException as exc:
        emit("step.failed", f"Step {step.name} failed.", level="error", exception=exc, **said)
        raise
    emit("step.succeeded", f"Step {step.name} succeeded.", milliseconds=round((time.perf_counter() - begun) * 1000, 3), **said)


def _around(step: ResolvedStep, draft: Draft, tools: Tools) -> Draft:
    """Run one step. The hooks of a plugin's step run here; the steps of the core run their own hooks."""
    if step.step in STEPS.values():
        return _checked(step, step.step.run(draft, step.given, tools))
    hooks = tools.adder.ports.hooks
    before = hooks.run(f"before_{step.stage}", tools.context, _payload(step.stage, draft))
    draft = _checked(step, step.step.run(replace(draft, record=before.apply(draft.record)), step.given, tools))
    after = hooks.run(f"after_{step.stage}", tools.context, _payload(step.stage, draft))
    tools.work.warnings += [*before.warnings, *after.warnings]
    return replace(draft, record=after.apply(draft.record))


def _checked(step: ResolvedStep, draft: Draft) -> Draft:
    if not isinstance(draft, Draft):
        raise TypeError(f"step {step.name} returned a {type(draft).__name__}, not a Draft")
    return draft


def _payload(stage: Stage, draft: Draft) -> Any:
    match stage:
        case "record_validate":
            return ValidatePayload(draft.record)
        case "metadata_extract":
            return ExtractPayload(draft.source.path if draft.source else None)
        case "path_plan":
            return PlanPayload({}, plan=draft.plan)
        case "artifact_write":
            return WritePayload(draft.plan, draft.record.artifacts[-1] if draft.record.artifacts else None)
        case _:
            return CommitPayload((draft.record,))
