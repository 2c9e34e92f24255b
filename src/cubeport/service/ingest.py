"""Ingest: one attempt is one operation, one unit of work, one version and one commit.

The names of a request are resolved in :mod:`.wanted`, :mod:`.decide` decides what to do, and :class:`Ingester` does it, in an
order that makes it durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.forms.canonical import dumps, new_id, now, timestamp
from cubeport.catalog.work.undo import Action, Compensation
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.cubes.calendars import canonical
from cubeport.cubes.description import OF_VALUES, CubeDescription
from cubeport.cubes.functions import PluginFunction
from cubeport.cubes.recipes import Derivation
from cubeport.cubes.sources import Area, Period, PeriodSource
from cubeport.cubes.spread import Spread
from cubeport.cubes.steps import TransformStep, plain
from cubeport.cubes.write_request import Choose
from cubeport.documents import native
from cubeport.documents.licences import doubt
from cubeport.errors import (
    DatasetExists,
    InvalidRequest,
    Problem,
    SourceRejected,
    TagExists,
)
from cubeport.service import describe
from cubeport.service.changes import Reason, announce, join_version
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.decide import as_before, builds, choose, decide, kept_type, overlap, period_type_of, updates
from cubeport.service.engines import Engines
from cubeport.service.fetching import RequestedPeriods, Taken, asked, runs, take
from cubeport.service.ingestions import Ingestion, IngestionPlan, IngestionRequest, Scope
from cubeport.service.making import Making, release_of, texts_of
from cubeport.service.overviews import sparing, with_overviews
from cubeport.service.ports import (
    Base,
    BringOrder,
    Gate,
    Measured,
    Progress,
    ReadRequest,
    SourceFile,
    Sources,
    SourceWindow,
    Staging,
    StoreObject,
    WriteRequest,
    Written,
)
from cubeport.service.publish import show, with_state
from cubeport.service.scope import check_filled, check_kept, check_realised, check_said, ends_early, spans
from cubeport.service.state import GONE, VERSION, Cube, DatasetState, VersionState
from cubeport.service.templates import Configuration, DatasetTemplate, SourceBlock
from cubeport.service.wanted import Wanted, allow_gaps, check_grid_file, publishes, resolve


class DatasetLock(Protocol):
    """The lock of a dataset, which is held until the block ends or its owner dies."""

    def __call__(self, dataset_id: str, *, waits: Callable[[], None]) -> AbstractContextManager[object]:
        """Return the lock. Taking it calls *waits* if somebody else holds it. Raises DatasetBusy."""


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


@dataclass(frozen=True, slots=True)
class Revisited:
    """What a source says of what was read from it before."""

    changed: tuple[str, ...] = ()
    """Periods of which it says something else."""
    gone: tuple[str, ...] = ()
    """Periods of which it says nothing any more, or names of files that are not there."""


type Complete = Callable[[Outcome], object]
"""Records that the ingestion completed. It is called in the commit's own transaction, so both happen together."""


class Ingester:
    """Makes versions. After an error nothing remains, because staging, version and record are one unit of work."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        configuration: Configuration,
        sources: Sources,
        gate: Gate,
        engines: Engines,
        lock: DatasetLock,
        transforms: Mapping[str, PluginFunction] | None = None,
    ) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._configuration = configuration
        self._sources = sources
        self._gate = gate
        self._engines = engines
        self._lock = lock
        self._transforms = transforms or {}

    def resolve(self, ingestion: Ingestion) -> Wanted:
        """Return the request with its names resolved; see :func:`resolve`."""
        wanted = resolve(ingestion, configuration=self._configuration, datasets=self._datasets, sources=self._sources)
        bound(wanted.fields.transforms, self._transforms)
        if (words := doubt(wanted.fields.license, wanted.fields.license_url)) is not None:
            wanted = replace(wanted, warnings=(*wanted.warnings, ("unknown-licence", words)))
        return wanted

    def plan(self, ingestion: Ingestion) -> IngestionPlan:
        """Return what :meth:`attempt` would do. Sources are hashed, but nothing is written."""
        wanted = self.resolve(ingestion)
        dataset, head = self._held(wanted.dataset_id)
        wanted = as_before(ingestion, wanted, head)
        check_grid_file(wanted, updates=updates(ingestion, wanted))
        if wanted.is_fetched_by_period:
            return self._periods(ingestion, wanted, dataset, head).plan
        if wanted.source is not None:
            # The contents are unknown until they are fetched, and a dry run fetches nothing, so there is no digest.
            return decide(ingestion, wanted, dataset=dataset, head=head, request_digest="")[0]
        wanted, identities = self._told(ingestion, wanted)
        return decide(
            ingestion,
            wanted,
            dataset=dataset,
            head=head,
            request_digest=_digest(ingestion, wanted, identities),
            same_sources=_is_made_of(head, identities),
        )[0]

    def attempt(self, ingestion: Ingestion, *, progress: Progress, complete: Complete) -> Outcome:
        """Make the version that *ingestion* requests, or reuse an existing one. Return after it is committed.

        Parameters
        ----------
        progress
            Called for every phase. It can raise Cancelled until the commit.
        complete
            Called in the transaction of the commit.

        Raises
        ------
        CubeportError
            If the attempt fails. Nothing of it remains.
        """
        wanted = self.resolve(ingestion)
        with self._lock(wanted.dataset_id, waits=partial(progress, "waiting", 0, 0)), step("lock"):
            progress("planning", 0, 0)
            dataset, head = self._held(wanted.dataset_id)
            wanted = _warned(as_before(ingestion, wanted, head), dataset)
            check_grid_file(wanted, updates=updates(ingestion, wanted))
            if wanted.is_fetched_by_period:
                return self._attempt_periods(ingestion, wanted, dataset, head, progress, complete)
            if dataset is not None and head is not None and _is_same_derivation(wanted, head) and not ingestion.request.overwrite:
                reason = "the same recipe, parameters and inputs"
                same = IngestionPlan(action="reuse", reason=reason, base_version_id=head.version_id)
                return self._reuse(ingestion, wanted, dataset, head, same, complete)
            if wanted.source is not None:
                plan = self._early(ingestion, wanted, dataset, head)
                if plan is not None:
                    assert dataset is not None
                    assert head is not None
                    return self._reuse(ingestion, wanted, dataset, head, plan, complete)
            with self._read_whole(ingestion, wanted, dataset, head, progress) as wanted:
                with step("fetch"):  # the bytes are hashed in place
                    wanted, identities = self._told(ingestion, wanted, progress)
                    _check_checksum(wanted.block, identities)
                digest = _digest(ingestion, wanted, identities)
                plan, scope = decide(
                    ingestion,
                    wanted,
                    dataset=dataset,
                    head=head,
                    request_digest=digest,
                    same_sources=_is_made_of(head, identities),
                )
                if plan.action == "reuse":
                    assert dataset is not None
                    assert head is not None
                    self._remember(head.version_id, derived=wanted.derivation, release=release_of(wanted))
                    return self._reuse(ingestion, wanted, dataset, head, plan, complete)
                return self._make(ingestion, wanted, scope, plan, digest, dataset, head, progress, complete)

    def news(
        self, dataset: Dataset, head: VersionState, *, end: str | None, until: str | None
    ) -> tuple[tuple[str, ...] | None, tuple[tuple[str, str], ...]]:
        """Return the periods that the source says it has and the dataset has not, with warnings; ``None`` if only reading it tells.

        Parameters
        ----------
        end, until
            The last requested period, and the last period that a sync without one may fetch.

        Raises
        ------
        CoverageIncomplete, Gap
            If the source does not have the requested end. It also raises the errors of the source.
        """
        dataset_id, first = dataset.state.texts.dataset_id, (head.coverage.get("temporal") or {}).get("start")
        request = IngestionRequest(dataset_id=dataset_id, start=first, end=end)
        asking = Ingestion(dataset_id=dataset_id, request=request, kind="sync", until=None if end is not None else until)
        wanted = self.resolve(asking)
        if wanted.is_fetched_by_period:
            taken = self._periods(asking, wanted, dataset, head).taken
            return tuple(str(each) for each in taken.periods), taken.warnings
        # Whether a requested end is there is only known when the files are read.
        nothing = end is None and wanted.source is None and self._is_untouched(wanted, dataset, head)
        return (() if nothing else None), ()

    def is_covered(self, dataset: Dataset, head: VersionState) -> bool:
        """Return whether the source says that it has the first and the last period of the dataset. Many say it only when they are
        read, so that True means nothing for them. Raises the errors of the source.
        """
        temporal = head.coverage.get("temporal")
        asking = Ingestion(
            dataset_id=dataset.state.texts.dataset_id, request=IngestionRequest(dataset_id=dataset.state.texts.dataset_id)
        )
        wanted = self.resolve(asking)
        if temporal is None or not wanted.is_fetched_by_period:
            return True
        calendar = canonical(head.coverage.get("calendar") or "") or "standard"
        ends = (Period.parse(temporal[each], str(wanted.fields.period_type), calendar) for each in ("start", "end"))
        return all(self._sources.listed(_called(wanted), _source(wanted), each, each) != () for each in dict.fromkeys(ends))

    def _is_untouched(self, wanted: Wanted, dataset: Dataset, head: VersionState) -> bool:
        """Return whether the version has all that its local files have: none is new, and none has another size or time of change.

        A file that was changed just before its ingestion counts as changed, because its time is in seconds.
        """
        if ends_early(head.coverage, head.request_scope.end or head.until, period_type_of(wanted, dataset)):
            return False
        held = sorted((str(each["name"]), each["size_bytes"], str(each.get("modified_at"))) for each in head.sources)
        before = timestamp(head.created_at - _SETTLED)
        there = sorted(self._sources.stamps(wanted.files))
        return bool(held) and there == held and all(at < before for _, _, at in there)

    def revisit(self, dataset: Dataset, head: VersionState, template: DatasetTemplate) -> Revisited:
        """Return those of the last ``sync.revisit_periods`` periods whose validator in the source has changed or disappeared.

        Changes of periods without a validator cannot be detected. The periods of local files are only known after reading them, so
        if the size or time of a file has changed, all of these periods may have changed. Raises the errors of the source.
        """
        dataset_id = dataset.state.texts.dataset_id
        asking = Ingestion(dataset_id=dataset_id, request=IngestionRequest(dataset_id=dataset_id))
        wanted = self.resolve(asking)
        if wanted.source is None:
            there = {name: (size, at) for name, size, at in self._sources.stamps(wanted.files)}
            known_files = {str(each["name"]): (each["size_bytes"], str(each.get("modified_at"))) for each in head.sources}
            changed = any(name in there and there[name] != stamp for name, stamp in known_files.items())
            gone = tuple(name for name in known_files if name not in there)
            return Revisited(_last_periods(head, template) if changed else (), gone)
        ask: Callable[[Period], str | None] | None = getattr(wanted.source, "validator", None)
        if not wanted.is_fetched_by_period or ask is None:
            return Revisited()
        calendar = canonical(head.coverage.get("calendar") or "") or "standard"
        known = sorted(Period.parse(text, template.period_type, calendar) for text in head.validators)
        said = {str(period): ask(period) for period in known[-template.sync.revisit_periods :]}
        return Revisited(
            tuple(text for text, word in said.items() if word is not None and word != head.validators[text]),
            tuple(text for text, word in said.items() if word is None),
        )

    # --- fetching ---

    def _early(
        self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None
    ) -> IngestionPlan | None:
        """Return the plan if the existing data are enough, whatever the source has; else ``None``.

        A file whose checksum the request names is not fetched again if the existing version was made of it in the same way.
        """
        meant = wanted.block.checksum if wanted.block is not None else None
        identities = (
            [] if head is None or meant is None else [{name: each.get(name) for name in _IDENTITY} for each in head.sources]
        )
        held = [str(each["sha256"]) for each in identities] == [meant]
        digest = _digest(ingestion, wanted, identities) if held else ""
        try:
            plan, _ = decide(ingestion, wanted, dataset=dataset, head=head, request_digest=digest, same_sources=held)
        except (DatasetExists, TagExists):
            return None  # a source that is equal is reused, which is known when it is fetched
        return plan if plan.action == "reuse" else None

    @contextmanager
    def _read_whole(
        self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None, progress: Progress
    ) -> Iterator[Wanted]:
        """Yield the request with all its files. Files on other machines are fetched, and of stores only the part that is needed."""
        if wanted.source is None:
            yield wanted
            return
        periods: tuple[Period | None, ...] = (None,)
        if wanted.has_dates:
            request = asked(ingestion, wanted.fields, wanted.scope, None, now=now())
            periods = self._there(ingestion, wanted, request).periods
        order = self._order(ingestion, wanted, periods)
        if not wanted.has_dates:
            order = replace(order, choose=self._choice(ingestion, wanted, dataset, head))
        with self._sources.bring(wanted.source, order, progress=progress) as brought:
            if wanted.has_dates and brought.missing:
                periods = take(request, brought.periods, allow_gaps=allow_gaps(ingestion, wanted), follows=False).periods
            shares = wanted.has_dates and _shares_files(wanted.source, [each for each in periods if each is not None])
            yield replace(wanted, files=brought.of(periods), objects=brought.objects, holds_more=shares)

    def _choice(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> Choose | None:
        """Return what says which part of a store is needed; ``None`` if all of it is."""
        try:
            plan, scope = choose(ingestion, wanted, dataset=dataset, head=head, request_digest="", same_sources=False)
        except DatasetExists:
            plan, scope = None, wanted.scope
        if scope.end is None and ingestion.until is not None:
            scope = scope.model_copy(update={"end": ingestion.until})
        held: Sequence[tuple[str, str]] = ()
        if plan is not None and head is not None and self._can_build(ingestion, wanted, plan, head):
            # Steps of the source that exist already are not read only if they are skipped: else they replace, or are compared.
            skips = overlap(ingestion, wanted, plan) == "skip"
            held = spans(head.coverage, period_type_of(wanted, dataset)) if skips else ()
        if not held and (scope.bbox, scope.start, scope.end) == (None, None, None):
            return None
        options = self._reading(ingestion, wanted, scope)
        return lambda folder: self._gate.needs(ReadRequest(sources=(folder,), **options), held)

    def _attempt_periods(
        self,
        ingestion: Ingestion,
        wanted: Wanted,
        dataset: Dataset | None,
        head: VersionState | None,
        progress: Progress,
        complete: Complete,
    ) -> Outcome:
        """Fetch the missing periods and add them."""
        chosen = self._periods(ingestion, wanted, dataset, head)
        if not chosen.taken.periods:
            assert dataset is not None, "nothing is taken of nothing only where something is held"
            assert head is not None
            return self._reuse(ingestion, wanted, dataset, head, chosen.plan, complete, warnings=chosen.taken.warnings)
        assert wanted.source is not None
        order = self._order(ingestion, wanted, chosen.taken.periods, stops_at_missing=chosen.asked.is_open)
        with step("fetch"), self._sources.bring(wanted.source, order, progress=progress) as brought:
            if brought.missing:
                chosen = self._chosen(ingestion, wanted, dataset, head, chosen.asked, brought.periods)
            if not chosen.taken.periods:
                assert dataset is not None
                assert head is not None
                return self._reuse(ingestion, wanted, dataset, head, chosen.plan, complete, warnings=chosen.taken.warnings)
            shares = _shares_files(wanted.source, chosen.taken.periods)
            wanted = replace(
                wanted,
                files=brought.of(chosen.taken.periods),
                objects=brought.objects,
                scope=wanted.scope.model_copy(update={"end": str(chosen.taken.end)}),
                holds_more=shares,
            )
            wanted, identities = self._told(ingestion, wanted)
            digest = _digest(ingestion, wanted, identities)
            return self._make(
                ingestion,
                wanted,
                chosen.scope,
                chosen.plan,
                digest,
                dataset,
                head,
                progress,
                complete,
                chosen.taken.warnings,
                brought.validators,
            )

    def _periods(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> _Chosen:
        """Return what to do and which periods to fetch. The source is asked which periods it has.

        Raises
        ------
        NoData, Gap, CoverageIncomplete
            See :func:`~cubeport.service.fetching.take`. :func:`decide` can also raise its errors.
        """
        plan, scope = decide(ingestion, wanted, dataset=dataset, head=head, request_digest="")
        keeps = plan.action not in ("rematerialize", "revise", "create")
        request = asked(ingestion, wanted.fields, scope if plan.action == "rematerialize" else wanted.scope, head, now=now())
        # The limit of a sync does not count as a requested end.
        request = replace(request, is_open=wanted.scope.end is None)
        if not keeps:
            request = replace(request, held=frozenset())
        elif ingestion.revised:
            anew = {Period.parse(text, request.first.type, request.first.calendar).number for text in ingestion.revised}
            request = replace(request, held=request.held - anew)
        there = self._list(wanted, request) if request.wanted else ()
        return self._chosen(ingestion, wanted, dataset, head, request, request.wanted if there is None else there)

    def _chosen(
        self,
        ingestion: Ingestion,
        wanted: Wanted,
        dataset: Dataset | None,
        head: VersionState | None,
        request: RequestedPeriods,
        there: Sequence[Period],
    ) -> _Chosen:
        taken = take(request, there, allow_gaps=allow_gaps(ingestion, wanted), follows=ingestion.kind == "sync")
        resolved = replace(wanted, scope=wanted.scope.model_copy(update={"end": str(taken.end)}))
        plan, scope = decide(ingestion, resolved, dataset=dataset, head=head, request_digest="")
        if taken.periods and plan.action == "reuse" and ingestion.revised:
            plan = plan.model_copy(update={"action": "revise", "reason": "the source has changed existing periods"})
        elif taken.periods and plan.action == "reuse":
            plan = plan.model_copy(update={"action": "extend", "reason": "periods that were missing are there now"})
        elif not taken.periods and plan.action != "reuse":
            plan = plan.model_copy(update={"action": "reuse", "reason": "the source has no more than is held"})
        return _Chosen(request, taken, plan.model_copy(update={"fetch": runs(taken.periods)}), scope)

    def _there(self, ingestion: Ingestion, wanted: Wanted, request: RequestedPeriods) -> Taken:
        there = self._list(wanted, request)
        if there is None:
            return Taken(request.wanted, request.last)
        return take(request, there, allow_gaps=allow_gaps(ingestion, wanted), follows=False)

    def _list(self, wanted: Wanted, request: RequestedPeriods) -> tuple[Period, ...] | None:
        """Ask the source which of the missing periods it has."""
        missing = request.wanted
        return self._sources.listed(_called(wanted), _source(wanted), missing[0], missing[-1], is_open=request.is_open)

    def _order(
        self, ingestion: Ingestion, wanted: Wanted, periods: tuple[Period | None, ...], *, stops_at_missing: bool = False
    ) -> BringOrder:
        return BringOrder(
            dataset_id=wanted.dataset_id,
            name=_called(wanted),
            source=dumps(wanted.block.told() if wanted.block else {}),
            periods=periods,
            area=Area(wanted.extent.bbox, wanted.extent.country_code) if wanted.extent else None,
            job=ingestion.ingestion_id,
            at_once=wanted.fields.ingestion.max_concurrency,
            stops_at_missing=stops_at_missing,
        )

    # --- existing data ---

    def _held(self, dataset_id: str) -> tuple[Dataset | None, VersionState | None]:
        dataset = self._datasets.find(dataset_id)
        if dataset is None or dataset.state.head is None:
            return dataset, None
        return dataset, self.head(dataset)

    def head(self, dataset: Dataset) -> VersionState | None:
        """Return the version that the next ingestion of the dataset updates."""
        row = self._catalog.rows.get(VERSION, dataset.state.head) if dataset.state.head else None
        return VersionState.of(row.document) if row is not None and row.state not in GONE else None

    def _identities(self, wanted: Wanted, progress: Progress | None = None) -> list[dict[str, Any]]:
        """Return the name, size and sha256 of each source. A cancelled job ends between two sources."""
        found: list[dict[str, Any]] = []
        for number, path in enumerate(wanted.files):
            if progress is not None:
                progress("planning", number, len(wanted.files))
            [identity] = self._gate.identify([path])
            found.append({name: identity[name] for name in _IDENTITY})
        return found

    def _told(self, ingestion: Ingestion, wanted: Wanted, progress: Progress | None = None) -> tuple[Wanted, list[dict[str, Any]]]:
        """Return the request with how its chunks are stored, and the identity of each source.

        Raises
        ------
        SourceRejected
            ``not-virtual``, where ``virtual`` was asked for, with every file that a version may not point into.
        """
        storage = ingestion.request.storage or wanted.fields.ingestion.storage
        if storage == "copy":
            return wanted, self._identities(wanted, progress)
        problems = self._not_held(wanted)
        if problems and storage == "virtual":
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise SourceRejected(
                f"{problems[0].message}{more}",
                reason="not-virtual",
                next_step="bring files below a folder of sources.roots (config/service.yaml), or copy them: --storage copy",
                errors=problems[:1_000],
            )
        if problems:
            warning = ("copied", f"everything is copied: {problems[0].message}")
            return replace(wanted, warnings=(*wanted.warnings, warning)), self._identities(wanted, progress)
        held: list[SourceFile] = []
        for number, path in enumerate(wanted.files):
            if progress is not None:
                progress("planning", number, len(wanted.files))
            held += self._gate.hold([path])
        told = [{"name": Path(each.path).name, "size_bytes": each.size, "sha256": each.sha256} for each in held]
        pointed = tuple(
            StoreObject(*wanted.objects[path], size=each.size, sha256=each.sha256)
            for path, each in zip(wanted.files, held, strict=True)
            if wanted.source is not None
        )
        return replace(wanted, storage=storage, held=tuple(held), pointed=pointed), told

    def _not_held(self, wanted: Wanted) -> list[Problem]:
        """Return why a version may not point into the sources, one problem for each."""
        if not self._engines.writer.points:
            words = f"versions of the engine {self._engines.writer.name} are read by other machines, which do not have this file"
            return [Problem(("sources", each.name), "not-virtual", f"{each.name}: {words}") for each in wanted.files]
        if wanted.source is not None:
            words = "is fetched, and a version can point at files of this machine and at objects of an S3 store with an ETag"
            return [
                Problem(("source", each.name), "not-virtual", f"{each.name} {words}")
                for each in wanted.files
                if each not in wanted.objects
            ]
        words = "is in no folder of sources.roots, so a version may not point into it"
        return [
            Problem(("sources", each.name), "not-virtual", f"{each.name} {words}") for each in self._sources.outside(wanted.files)
        ]

    def _reuse(
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
        """Reuse the existing version. Other changes of the request (texts, a tag, publishing) are one commit."""
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
            changed=_changed(old, state, shows=shows),
        )
        if not outcome.changed:
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

    def _make(
        self,
        ingestion: Ingestion,
        wanted: Wanted,
        scope: Scope,
        plan: IngestionPlan,
        request_digest: str,
        dataset: Dataset | None,
        head: VersionState | None,
        progress: Progress,
        complete: Complete,
        warnings: Sequence[tuple[str, str]] = (),
        validators: Mapping[str, str] | None = None,
    ) -> Outcome:
        writer = self._engines.writer
        making = Making(ingestion, wanted, plan, request_digest, dataset, head, new_id(), validators or {})
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
            parent = head if head is not None and self._can_build(ingestion, wanted, plan, head) else None
            staging, undo = writer.stage(work.operation_id, wanted.dataset_id, making.version_id, parent=self._parent(parent))
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
            check_filled(before, measured.description, period_type, on_empty=wanted.fields.ingestion.on_empty)
            if head is not None and wanted.template is not None:
                check_kept(head.coverage, measured.description, period_type)
            if head is None or head.digest != measured.digest or _is_typed_anew(wanted, dataset):
                progress("sealing", 0, 0)
                held = None if staging.parent is None or parent is None else self._described(parent)
                pyramid = sparing(wanted.fields.layout.pyramid, measured.documents, elsewhere=bool(wanted.pointed))
                cube = with_overviews(measured.description, pyramid, held)
                measured = replace(measured, description=cube)
                reference = self._seal(work, staging, measured)
                progress("committing", 0, 0)
                work.afterwards(*clearing(undo), *map(Action.from_mapping, writer.afterwards(staging, reference)))
                outcome = self._commit(work, making, written, measured, period_type, complete, reference)
                progress("done", 1, 1)
                return outcome
            # The result is byte-identical to the parent, so the attempt is undone and the parent is reused.
            work.rollback(why=f"the result is version {head.version_id} in every value")
        assert dataset is not None
        self._remember(head.version_id, validators=making.all_validators(), derived=wanted.derivation, release=release_of(wanted))
        equal = plan.model_copy(update={"action": "reuse", "reason": "equal in every value"})
        return self._reuse(ingestion, wanted, dataset, head, equal, complete)

    def _remember(
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

    def _seal(self, work: UnitOfWork, staging: Staging, measured: Measured) -> str:
        """Assemble the verified objects, make the overviews, make everything durable, and move it to the final place of the
        version. Return the engine's reference.
        """
        with step("assemble"):
            self._engines.writer.assemble(staging)
        if measured.description.overview_levels:
            with step("overviews"):
                self._gate.overviews(staging, measured.digest, measured.description)
                self._engines.writer.assemble(staging, overviews=True)
        with step("fsync"):
            self._engines.writer.sync(staging)
        work.written(digest=measured.digest, files=measured.files, size_bytes=measured.size_bytes)
        with step("publish"):
            return self._engines.writer.publish(staging)

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

    def _can_build(self, ingestion: Ingestion, wanted: Wanted, plan: IngestionPlan, head: VersionState) -> bool:
        """Return whether the version shares what does not change with *head*. For another engine, a template reads all again."""
        if wanted.template is not None and plan.action != "revise" and head.engine != self._engines.writer.name:
            return False
        return builds(ingestion, wanted, plan)

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
        options = self._reading(ingestion, wanted, scope)
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
                progress=progress,
            )
        return written, measured

    def _reading(self, ingestion: Ingestion, wanted: Wanted, scope: Scope) -> dict[str, Any]:
        """Return the fields of ``ReadRequest`` besides the sources."""
        fields = wanted.fields
        transforms, functions = bound(fields.transforms, self._transforms)
        return {
            "window": SourceWindow(
                bbox=scope.bbox,
                start=scope.start,
                end=scope.end,
                clip=fields.ingestion.clip,
                is_all=wanted.has_dates and not wanted.holds_more,
            ),
            "variables": tuple(v.name for v in fields.variables) or None,
            "attributes": ingestion.attributes,
            "chunks": fields.layout.chunks,
            "append_dim": ingestion.append_dim,
            "group": wanted.group,
            "normalise": tuple(plain(fields.normalise)),
            "transforms": transforms,
            "functions": functions,
            "skip_bad": ingestion.request.skip_bad,
            "on_overlap": ingestion.request.on_overlap or fields.ingestion.on_overlap,
        }


def bound(
    steps: Sequence[TransformStep], installed: Mapping[str, PluginFunction]
) -> tuple[tuple[Mapping[str, Any], ...], Mapping[str, str]]:
    """Return *steps* as JSON values, with all parameters of the functions of plugins, and the references of these by name.

    Raises
    ------
    InvalidRequest
        If no plugin provides a transform, or it does not take its parameters.
    """
    found, functions = [], {}
    for each, values in zip(steps, plain(tuple(steps)), strict=True):
        if (wanted := each.plugin) is not None:
            if wanted.name not in installed:
                known = ", ".join(sorted(installed)) or "none"
                raise InvalidRequest(
                    f"No plugin provides a transform {wanted.name!r}; installed: {known}.", next_step="cubeport plugins"
                )
            function = installed[wanted.name]
            values = {"plugin": values["plugin"] | {"params": function.bind(wanted.params)}}
            functions[wanted.name] = function.reference
        found.append(values)
    return tuple(found), functions


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The decision about the periods of a source."""

    asked: RequestedPeriods
    taken: Taken
    plan: IngestionPlan
    scope: Scope


def _warned(wanted: Wanted, dataset: Dataset | None) -> Wanted:
    """Return the request with a warning if the dataset comes from another service, which goes on to send its versions."""
    if dataset is None or dataset.state.mirror_of is None:
        return wanted
    words = (
        f"{wanted.dataset_id} is a mirror of {dataset.state.mirror_of}. The next push or pull publishes the version of that service"
        " in place of this one. Update it there, or ingest under another id here."
    )
    return replace(wanted, warnings=(*wanted.warnings, ("mirror", words)))


def _keep(ingestion: Ingestion, wanted: Wanted) -> str:
    """Return whose sources these are: files with the same answer may be read by one process after another.

    Files that the user of this process names are the user's. All others, which were fetched or sent, are those of one dataset, and
    of one key.
    """
    return "here" if ingestion.options.files else f"{wanted.dataset_id} {ingestion.asker or ''}"


def _source(wanted: Wanted) -> PeriodSource:
    assert wanted.source is not None, "it is asked only where it fetches"
    return wanted.source


def _called(wanted: Wanted) -> str:
    """Return the name of the source in messages."""
    block = wanted.block
    return (block.name if block and block.name else None) or (wanted.template.id if wanted.template else wanted.dataset_id)


def _shares_files(source: PeriodSource, taken: Sequence[Period]) -> bool:
    """Return whether consecutive periods are in the same file."""
    unit = getattr(source, "unit", None)
    return unit is not None and any(unit(each) in (unit(each.moved(-1)), unit(each.moved(1))) for each in taken)


def _told(warnings: Sequence[tuple[str, str]]) -> Iterator[dict[str, str]]:
    return ({"kind": kind, "message": message} for kind, message in warnings)


def _check_checksum(block: SourceBlock | None, identities: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a file with another checksum than expected. Raises SourceRejected (``digest-mismatch``)."""
    if block is None or block.checksum is None:
        return
    found = [str(each["sha256"]) for each in identities]
    if found != [block.checksum]:
        raise SourceRejected(
            f"The source is not the file that was meant: its sha256 is {', '.join(found)}.",
            reason="digest-mismatch",
            next_step="if the new file is right, give its checksum",
        )


def _last_periods(head: VersionState, template: DatasetTemplate) -> tuple[str, ...]:
    """Return the last periods of a version that its template revisits."""
    temporal = head.coverage.get("temporal")
    if temporal is None:
        return ()
    calendar = canonical(head.coverage.get("calendar") or "") or "standard"
    first, last = (Period.parse(temporal[each], template.period_type, calendar) for each in ("start", "end"))
    count = min(template.sync.revisit_periods, last.number - first.number + 1)
    return tuple(str(last.moved(-each)) for each in reversed(range(count)))


def _is_typed_anew(wanted: Wanted, dataset: Dataset | None) -> bool:
    """Return whether the same values become other periods, as when somebody says that steps with gaps are days."""
    kind = wanted.fields.period_type
    return kind is not None and dataset is not None and kind != dataset.state.texts.period_type


def _is_same_derivation(wanted: Wanted, head: VersionState) -> bool:
    """Return whether the version was derived with the same recipe and parameters from the same versions."""
    return wanted.derivation is not None and head.derived is not None and wanted.derivation.key == head.derived.key


def _changed(old: DatasetState, new: DatasetState, *, shows: bool) -> tuple[str, ...]:
    texts = [name for name in describe.TEXTS if getattr(old.texts, name) != getattr(new.texts, name)]
    if not texts and (old.texts, old.described) != (new.texts, new.described):
        texts = ["texts"]  # the name of the source, or a text that a user set to the same value as the data
    tags = (f"tag {tag}" for tag in new.tags.keys() - old.tags.keys())
    return (*texts, *sorted(tags), *(("published",) if shows else ()))


_IDENTITY = ("name", "size_bytes", "sha256")


def _digest(ingestion: Ingestion, wanted: Wanted, identities: Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 of the sources' bytes and of all options that change values."""
    said = {
        "sources": identities,
        "scope": wanted.scope.model_dump(mode="json"),
        "fields": wanted.fields.model_dump(mode="json", include={"variables": True, "period_type": True, "layout": {"chunks"}})
        | {"ingestion": wanted.fields.ingestion.of_values()},
        "attributes": ingestion.attributes,
        "append_dim": ingestion.append_dim,
        "group": wanted.group,
        **wanted.fields.steps(),
        **({"skip_bad": True} if ingestion.request.skip_bad else {}),
        **({"on_overlap": ingestion.request.on_overlap} if ingestion.request.on_overlap is not None else {}),
        **({"until": ingestion.until} if ingestion.until is not None else {}),
        # A file that is the same in every byte, and another one for the system, must be pointed at anew.
        **({"storage": wanted.storage, "held": wanted.pointed or [each.marks for each in wanted.held]} if wanted.held else {}),
    }
    return hashlib.sha256(dumps(said).encode()).hexdigest()


_SETTLED = timedelta(seconds=2)
"""How long before its version a file must have been changed last, so that its time, in seconds, tells whether it changed since."""


def _is_made_of(head: VersionState | None, identities: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the version was made from exactly these sources."""
    if head is None or not head.sources:
        return False
    held = [{name: each.get(name) for name in _IDENTITY} for each in head.sources]
    return sorted(map(dumps, held)) == sorted(map(dumps, identities))


def clearing(undo: Sequence[Mapping[str, Any]]) -> Iterator[Action]:
    """Yield the after-action that removes the rest of the staging folder after the version was moved out of it."""
    for each in undo:
        if str(each["path"]).startswith("staging/"):
            proof = {**each.get("proof", {}), "tree": True}
            yield Action(action="remove_managed", profile=each["profile"], path=each["path"], proof=proof)
