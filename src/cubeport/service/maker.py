"""Make a version as one unit of work and one commit, or reuse one: the bytes by gate and engine, the rest by :mod:`.making`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.work.undo import Action, Compensation
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.cubes.description import OF_VALUES, CubeDescription
from cubeport.cubes.functions import PluginFunction
from cubeport.cubes.recipes import Derivation
from cubeport.cubes.spread import Spread
from cubeport.documents import native
from cubeport.errors import InvalidRequest
from cubeport.service import describe
from cubeport.service.changes import Reason, announce, join_version
from cubeport.service.copies import Copies, wanted_copies
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.decide import builds, kept_type, overlap, updates
from cubeport.service.engines import Engines
from cubeport.service.gridfiles import steps_of
from cubeport.service.ingestions import Ingestion, IngestionPlan, Scope
from cubeport.service.making import Making, clearing, release_of, texts_of
from cubeport.service.overviews import sparing, with_overviews
from cubeport.service.ports import Base, Gate, Measured, Progress, SourceWindow, Staging, WriteRequest, Written
from cubeport.service.publish import show, with_state
from cubeport.service.scope import check_climatology, check_filled, check_kept, check_realised, check_said
from cubeport.service.state import VERSION, Cube, DatasetState, VersionState
from cubeport.service.wanted import Wanted, allow_gaps, bound, publishes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt."""

    dataset_id: str
    plan: IngestionPlan
    version_id: str | None = None
    reused: bool = False
    coverage: Mapping[str, Any] | None = None
    warnings: tuple[dict[str, str], ...] = ()
    changed: tuple[str, ...] = ()
    """What changed besides the data, for users: ``title``, ``published``, ``tag first``."""


type Complete = Callable[[Outcome], object]
"""Records that the ingestion completed. It is called in the commit's own transaction, so both happen together."""


class Maker:
    """Makes versions. After an error nothing remains, because staging, version and record are one unit of work."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        gate: Gate,
        engines: Engines,
        transforms: Mapping[str, PluginFunction],
    ) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._gate = gate
        self._engines = engines
        self._transforms = transforms
        self.copies = Copies(catalog=catalog, datasets=datasets, gate=gate, engines=engines)

    def make(
        self, making: Making, scope: Scope, *, progress: Progress, complete: Complete, warnings: Sequence[tuple[str, str]] = ()
    ) -> Outcome:
        """Make the version from the files of *making*, and commit it. If it equals its parent in every value, reuse the parent.

        Parameters
        ----------
        scope
            What to take from the files.
        progress
            Called for every phase. It can raise Cancelled until the commit.
        complete
            Called in the transaction of the commit.
        warnings
            What else to tell of the version.

        Raises
        ------
        CubeportError
            If a file or the result is refused, or something fails. Nothing remains.
        """
        ingestion, wanted, plan, dataset, head = making.ingestion, making.wanted, making.plan, making.dataset, making.head
        writer = self._engines.writer
        with self._catalog.unit_of_work(
            operation_type="ingest",
            parent_id=ingestion.ingestion_id,
            user_id=ingestion.created_by,
            inputs=tuple(path.name for path in wanted.files),
            parameters={"dataset_id": wanted.dataset_id, "action": plan.action},
        ) as work:
            work.planned(
                dataset_id=wanted.dataset_id,
                record_id=dataset.record.id if dataset else None,
                record_version=dataset.record.version if dataset else None,
                parent=plan.base_version_id,
                version_id=making.version_id,
                engine=writer.name,
            )
            work.claim(writer.claim(work.operation_id))
            parent = head if head is not None and self.can_build(ingestion, wanted, plan, head) else None
            staging, undo = writer.stage(work.operation_id, wanted.dataset_id, making.version_id, parent=self._parent(parent))
            work.afterwards(*clearing(undo))  # known already, and durable with the next line: later it would need a sync of its own
            work.compensate(*(Compensation.model_validate(each) for each in undo))
            base = self._base(staging, ingestion, wanted, plan, parent)
            staging = replace(staging, held=wanted.pointed or wanted.held)
            written, measured = self._bytes(staging, ingestion, wanted, scope, progress, base)
            written = replace(written, warnings=(*written.warnings, *wanted.warnings, *warnings))
            making = making.as_written(written)
            said = (
                kept_type(dataset.state.texts.period_type, parent.coverage) if dataset is not None and parent is not None else None
            )
            period_type = native.period_type(wanted.fields.period_type or said, measured.description.temporal)
            check_said(wanted.fields, measured.description)
            check_realised(wanted.scope, measured.description, period_type, allow_gaps=allow_gaps(ingestion, wanted))
            before = None if head is None else self._datasets.cube(head.version_id).description
            without = allow_gaps(ingestion, wanted)
            check_climatology(before, wanted.fields, measured.description, period_type, allow_gaps=without)
            check_filled(before, measured.description, period_type, on_empty=wanted.fields.ingestion.on_empty)
            if head is not None and wanted.template is not None:
                check_kept(head.coverage, measured.description, period_type)
            if head is None or head.digest != measured.digest or _is_typed_anew(wanted, dataset, before):
                progress("sealing", 0, 0)
                held = None if staging.parent is None or parent is None else self._described(parent)
                pyramid = sparing(wanted.fields.layout.pyramid, measured.documents, elsewhere=bool(wanted.pointed))
                cube = with_overviews(measured.description, pyramid, held, of_template=wanted.template is not None)
                measured = replace(measured, description=cube)
                copies = wanted_copies(ingestion.request, wanted, head)
                if copies:
                    self.copies.check(wanted)  # only now is it known whether the version points into a store
                reference, made = self._seal(work, staging, measured, copies=copies)
                if made and parent is not None:
                    written = replace(written, warnings=(*written.warnings, _copied_again(made[0])))
                making = replace(making, copies=made)
                progress("committing", 0, 0)
                if actions := writer.afterwards(staging, reference):
                    work.afterwards(*map(Action.from_mapping, actions))
                outcome = self._commit(work, making, written, measured, period_type, complete, reference)
                progress("done", 1, 1)
                return outcome
            # The result is byte-identical to the parent, so the attempt is undone and the parent is reused.
            work.rollback(why=f"the result is version {head.version_id} in every value")
        assert dataset is not None
        self.remember(head.version_id, validators=making.all_validators(), derived=wanted.derivation, release=release_of(wanted))
        equal = plan.model_copy(update={"action": "reuse", "reason": "equal in every value"})
        return self.reuse(ingestion, wanted, dataset, head, equal, complete)

    def reuse(
        self,
        ingestion: Ingestion,
        wanted: Wanted,
        dataset: Dataset,
        head: VersionState,
        plan: IngestionPlan,
        complete: Complete,
        *,
        warnings: Sequence[tuple[str, str]] = (),
    ) -> Outcome:
        """Reuse the existing version. A copy that is missing is added, and other changes of the request (texts, a tag, publishing)
        are one commit.
        """
        copied: tuple[str, ...] = ()
        if not head.copies and wanted_copies(ingestion.request, wanted, head):
            dataset, head = self.copies.add(dataset, head)
            copied = ("NetCDF copy",)
        old, tag = dataset.state, ingestion.request.tag
        shows = publishes(ingestion.request, wanted) and not (old.published and old.latest == head.version_id)
        texts, described = old.texts, old.described
        if not updates(ingestion, wanted):
            measured = self._datasets.cube(head.version_id).description
            texts, described = texts_of(wanted, old, measured, old.texts.period_type or "irregular")
        state = old.model_copy(update={"texts": texts, "described": described})
        if tag is not None and tag not in state.tags:
            state = state.model_copy(update={"tags": {**state.tags, tag: head.version_id}})
        outcome = Outcome(
            dataset_id=old.texts.dataset_id,
            plan=plan,
            version_id=head.version_id,
            reused=True,
            coverage=head.coverage,
            warnings=(*head.warnings, *_told(warnings)),
            changed=(*copied, *_changed(old, state, shows=shows)),
        )
        if outcome.changed == copied:
            complete(outcome)
            return outcome
        with self._catalog.unit_of_work(
            operation_type="publish" if shows else "describe" if texts != old.texts else "tag", parent_id=ingestion.ingestion_id
        ) as work:
            if shows:
                row = self._catalog.rows.get(VERSION, head.version_id)
                assert row is not None
                reason: Reason = "version" if old.published else "published"
                show(work, self._catalog, self._datasets, dataset.record, state, row, reason=reason)
            else:
                after = with_state(dataset.record, state)
                work.update_record(after)
                announce(work, self._catalog.backend, dataset.record, after, "metadata")
            work.join(lambda: complete(outcome))
            work.commit()
        return outcome

    def remember(
        self,
        version_id: str,
        *,
        validators: Mapping[str, str] | None = None,
        derived: Derivation | None = None,
        release: str | None = None,
    ) -> None:
        """Store in a version that its bytes are still what the source gives: its current validators, the present inputs of a
        derivation, or a release that has the same values. Otherwise they would be fetched, or derived, at every sync.
        """
        said: dict[str, Any] = {} if validators is None else {"validators": dict(validators)}
        said |= {} if derived is None else {"derived": derived}
        said |= {} if release is None else {"release": release}
        with self._catalog.backend.transaction():
            row = self._catalog.rows.get(VERSION, version_id)
            assert row is not None
            version = VersionState.of(row.document)
            now_said = version.model_copy(update=said)
            if now_said != version:
                self._catalog.rows.put(now_said.row(row.owner, state=row.state, revision=row.revision))

    def can_build(self, ingestion: Ingestion, wanted: Wanted, plan: IngestionPlan, head: VersionState) -> bool:
        """Return whether the version shares what does not change with *head*. For another engine, a template reads all again."""
        if wanted.template is not None and plan.action != "revise" and head.engine != self._engines.writer.name:
            return False
        return builds(ingestion, wanted, plan)

    def reading(self, ingestion: Ingestion, wanted: Wanted, scope: Scope) -> dict[str, Any]:
        """Return the fields of ``ReadRequest`` besides the sources."""
        fields = wanted.fields
        transforms, functions = bound(fields.transforms, self._transforms)
        return {
            "window": SourceWindow(
                bbox=scope.bbox,
                start=scope.start,
                end=scope.end,
                clip=fields.ingestion.clip,
                time_label=fields.time_label or "start",
                is_all=wanted.has_dates and not wanted.holds_more,
            ),
            "variables": tuple(v.name for v in fields.variables) or None,
            "attributes": ingestion.attributes,
            "chunks": fields.layout.chunks,
            "append_dim": ingestion.append_dim or wanted.combined_along,
            "group": wanted.group,
            "normalise": steps_of(wanted),
            "transforms": transforms,
            "functions": functions,
            "skip_bad": ingestion.request.skip_bad,
            "on_overlap": ingestion.request.on_overlap or fields.ingestion.on_overlap,
        }

    def _parent(self, held: VersionState | None) -> str | None:
        """Return the version to update. Raises InvalidRequest if another engine stores it."""
        if held is None:
            return None
        if held.engine != self._engines.writer.name:
            raise InvalidRequest(
                f"The existing version is stored by the engine {held.engine!r}, and new versions by {self._engines.writer.name!r}.",
                next_step="replace the dataset as a whole (--replace)",
            )
        return held.version_id

    def _base(
        self, staging: Staging, ingestion: Ingestion, wanted: Wanted, plan: IngestionPlan, parent: VersionState | None
    ) -> Base | None:
        if parent is None or staging.base is None:
            return None
        measured = self._datasets.cube(parent.version_id).description
        return Base(
            folder=staging.base,
            digest=parent.digest,
            ranges={
                each.name: Spread(each.valid_min, each.valid_max, each.shown_min, each.shown_max) for each in measured.variables
            },
            notes=tuple(each for each in measured.warnings if each[0] in OF_VALUES),
            empty=((), 0) if (time := measured.temporal) is None else (time.empty or (), time.empty_count),
            on_overlap=overlap(ingestion, wanted, plan),
            bring=staging.bring,
        )

    def _bytes(
        self,
        staging: Staging,
        ingestion: Ingestion,
        wanted: Wanted,
        scope: Scope,
        progress: Progress,
        base: Base | None,
    ) -> tuple[Written, Measured]:
        """Write in the first child, and decode and measure in the second. For an update, only the chunks that change."""
        fields = wanted.fields
        options = self.reading(ingestion, wanted, scope)
        with step("begin"):
            self._engines.writer.begin(staging)
        order = WriteRequest(
            sources=wanted.files,
            target=staging.new,
            storage=wanted.storage,
            held=wanted.held,
            base=base,
            keep=_keep(ingestion, wanted),
            **options,
        )
        verify = ingestion.request.verify or fields.ingestion.verify
        with step("bytes"):
            written = self._gate.write(order, progress=progress)
        with step("measure"):
            measured = self._gate.measure(
                staging.new,
                written,
                fields=order.variables,
                base=base,
                held=wanted.held,
                pointed=wanted.pointed,
                verify=verify,
                time_label=fields.time_label or "start",
                years=fields.climatology_period,
                progress=progress,
            )
        return written, measured

    def _seal(
        self, work: UnitOfWork, staging: Staging, measured: Measured, *, copies: bool
    ) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """Assemble the verified objects, make the overviews and the copy, make everything durable, and move it to the final place
        of the version. Return the engine's reference, and what there is to say of the copy.
        """
        with step("assemble"):
            self._engines.writer.assemble(staging)
        if measured.description.overview_levels:
            with step("overviews"):
                self._gate.overviews(staging, measured.digest, measured.description)
                self._engines.writer.assemble(staging, overviews=True)
        made = (self.copies.make(staging, measured.digest, measured.description),) if copies else ()
        with step("fsync"):
            self._engines.writer.sync(staging)
        work.written(digest=measured.digest, files=measured.files, size_bytes=measured.size_bytes)
        with step("publish"):
            return self._engines.writer.publish(staging), made

    def _commit(
        self,
        work: UnitOfWork,
        making: Making,
        written: Written,
        measured: Measured,
        period_type: str,
        complete: Complete,
        reference: str,
    ) -> Outcome:
        """Commit the record, the version, the documents, the completion and the operation's row in one transaction."""
        # Counted over all versions, because after a rollback the parent is not the newest version.
        seq = self._catalog.rows.next_seq(VERSION, making.dataset.record.id) if making.dataset else 1
        version = making.version(written, measured, period_type, seq=seq, engine=self._engines.writer.name, reference=reference)
        record = making.record(version, measured.description, period_type)
        cube = Cube(description=measured.description, documents=dict(measured.documents))
        outcome = Outcome(
            dataset_id=making.wanted.dataset_id,
            plan=making.plan,
            version_id=version.version_id,
            coverage=version.coverage,
            warnings=version.warnings,
        )
        rows = (version.row(record.id), cube.row(version.version_id, record.id))
        before = making.dataset.record if making.dataset else None
        seen = DatasetState.of(record).latest == version.version_id
        join_version(work, self._catalog.backend, before, record, rows, seen=seen)
        work.join(lambda: complete(outcome))
        work.commit()
        return outcome

    def _described(self, version: VersionState) -> CubeDescription:
        return version.described(self._datasets.cube(version.version_id).description)


def _is_typed_anew(wanted: Wanted, dataset: Dataset | None, before: CubeDescription | None) -> bool:
    """Return whether the same values become other periods, as when somebody says that steps with gaps are days."""
    kind = wanted.fields.period_type
    if before is not None and before.temporal is not None:
        years, given = wanted.fields.climatology_period, before.temporal.given_years
        if years != given and (given is not None or before.temporal.years is None):  # bounds tell them whatever is said
            return True
        if before.temporal.time_label != (wanted.fields.time_label or "start"):
            return True
    return kind is not None and dataset is not None and kind != dataset.state.texts.period_type


def _changed(old: DatasetState, new: DatasetState, *, shows: bool) -> tuple[str, ...]:
    texts = [name for name in describe.TEXTS if getattr(old.texts, name) != getattr(new.texts, name)]
    if not texts and (old.texts, old.described) != (new.texts, new.described):
        texts = ["texts"]  # the name of the source, or a text that a user set to the same value as the data
    tags = (f"tag {tag}" for tag in new.tags.keys() - old.tags.keys())
    return (*texts, *sorted(tags), *(("published",) if shows else ()))


def _told(warnings: Sequence[tuple[str, str]]) -> Iterator[dict[str, str]]:
    return ({"kind": kind, "message": message} for kind, message in warnings)


def _copied_again(copy: Mapping[str, Any]) -> tuple[str, str]:
    """Return the warning of an update whose version has its own copy, because only chunks are shared."""
    words = f"the NetCDF copy of all steps was written again: {copy['size_bytes']:,} bytes; without it: --no-netcdf-copy"
    return ("netcdf-copy", words)


def _keep(ingestion: Ingestion, wanted: Wanted) -> str:
    """Return whose sources these are: files with the same answer may be read by one process after another.

    Files that the user of this process names are the user's. All others, which were fetched or sent, are those of one dataset, and
    of one key.
    """
    return "here" if ingestion.options.files else f"{wanted.dataset_id} {ingestion.asker or ''}"
