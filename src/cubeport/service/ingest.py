"""Ingest: one attempt is one operation, one unit of work, one version and one commit.

The names of a request are resolved in :mod:`.wanted`, :mod:`.follow` asks its source what there is, :mod:`.decide` decides what to
do, :class:`Ingester` brings the sources, and :mod:`.maker` makes the version, in an order that makes it durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.forms.canonical import dumps
from cubeport.cubes.sources import Period, PeriodSource
from cubeport.cubes.write_request import Choose
from cubeport.errors import Conflict, CubeportError, DatasetExists, Problem, SourceRejected, TagExists
from cubeport.service.advice import of_template
from cubeport.service.copies import wanted_copies
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.decide import add_repeated, as_before, choose, decide, overlap, period_type_of, repeated
from cubeport.service.engines import Engines
from cubeport.service.fetching import take
from cubeport.service.filenames import may_say_periods, of_periods
from cubeport.service.follow import Follower, source_of
from cubeport.service.gridfiles import fetched_grid_file, with_files, with_grid_file
from cubeport.service.ingestions import Ingestion, IngestionPlan
from cubeport.service.maker import Complete, Maker, Outcome
from cubeport.service.making import Making, release_of
from cubeport.service.ports import Gate, Progress, ReadRequest, SourceFile, Sources, StoreObject
from cubeport.service.scope import spans
from cubeport.service.state import VersionState, shown_origin
from cubeport.service.templates import DatasetTemplate, SourceBlock
from cubeport.service.wanted import Names, Wanted, allow_gaps


class DatasetLock(Protocol):
    """The lock of a dataset, which is held until the block ends or its owner dies."""

    def __call__(self, dataset_id: str, *, waits: Callable[[], None]) -> AbstractContextManager[object]:
        """Return the lock. Taking it calls *waits* if somebody else holds it. Raises DatasetBusy."""


class Ingester:
    """Does what a request asks: decides under the lock of the dataset, brings the sources, and has the version made or reused."""

    def __init__(
        self,
        *,
        names: Names,
        datasets: Datasets,
        sources: Sources,
        follower: Follower,
        gate: Gate,
        engines: Engines,
        maker: Maker,
        lock: DatasetLock,
    ) -> None:
        self._names = names
        self._datasets = datasets
        self._sources = sources
        self._follower = follower
        self._gate = gate
        self._engines = engines
        self._maker = maker
        self._lock = lock

    def plan(self, ingestion: Ingestion) -> IngestionPlan:
        """Return what :meth:`attempt` would do. Sources are hashed, but nothing is written."""
        wanted = self._names.resolve(ingestion)
        dataset, head = self._held(wanted.dataset_id)
        plan = self._plan(ingestion, wanted, dataset, head)
        if plan.action == "reuse" and head is not None and not head.copies and wanted_copies(ingestion.request, wanted, head):
            return plan.model_copy(update={"reason": f"{plan.reason}; a NetCDF copy will be added"})
        return plan

    def _plan(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> IngestionPlan:
        wanted = with_grid_file(ingestion, as_before(ingestion, wanted, head), self._sources)
        if wanted_copies(ingestion.request, wanted, head):
            self._maker.copies.check(wanted)
        if wanted.is_fetched_by_period:
            return self._follower.choose(ingestion, wanted, dataset, head).plan
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
        wanted = self._names.resolve(ingestion)
        waits = partial(progress, "waiting", 0, 0)
        with _in_words_of(wanted.template), self._lock(wanted.dataset_id, waits=waits), step("lock"):
            progress("planning", 0, 0)
            dataset, head = self._held(wanted.dataset_id)
            again = repeated(ingestion, wanted, head)
            wanted = _warned(with_grid_file(ingestion, as_before(ingestion, wanted, head), self._sources), dataset)
            if wanted_copies(ingestion.request, wanted, head):
                self._maker.copies.check(wanted)
            if wanted.is_fetched_by_period:
                with _advising(again):
                    return self._attempt_periods(ingestion, wanted, dataset, head, progress, complete)
            if dataset is not None and head is not None and _is_same_derivation(wanted, head) and not ingestion.request.overwrite:
                reason = "the same recipe, parameters and inputs"
                same = IngestionPlan(action="reuse", reason=reason, base_version_id=head.version_id)
                return self._maker.reuse(ingestion, wanted, dataset, head, same, complete)
            if wanted.source is not None:
                plan = self._early(ingestion, wanted, dataset, head)
                if plan is not None:
                    assert dataset is not None
                    assert head is not None
                    return self._maker.reuse(ingestion, wanted, dataset, head, plan, complete)
            with (
                _advising(again),
                fetched_grid_file(ingestion, wanted, self._sources, progress) as wanted,
                self._read_whole(ingestion, wanted, dataset, head, progress) as wanted,
            ):
                wanted = self._named(ingestion, wanted, dataset, head)
                with step("fetch"):  # the bytes are hashed in place
                    wanted, identities = self._told(ingestion, wanted, progress)
                    _check_checksum(wanted.block, [each for each in identities if not wanted.is_grid_file(each["name"])])
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
                    self._maker.remember(head.version_id, derived=wanted.derivation, release=release_of(wanted))
                    return self._maker.reuse(ingestion, wanted, dataset, head, plan, complete)
                making = Making(ingestion, wanted, plan, digest, dataset, head)
                return self._maker.make(making, scope, progress=progress, complete=complete)

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
            request = self._follower.asked(ingestion, wanted, wanted.scope, None)
            periods = self._follower.there(ingestion, wanted, request).periods
        order = self._follower.order(ingestion, wanted, periods)
        if not wanted.has_dates:
            order = replace(order, choose=self._choice(ingestion, wanted, dataset, head))
        with self._sources.bring(wanted.source, order, progress=progress) as brought:
            if wanted.has_dates and brought.missing:
                periods = take(request, brought.periods, allow_gaps=allow_gaps(ingestion, wanted), follows=False).periods
            shares = wanted.has_dates and _shares_files(wanted.source, [each for each in periods if each is not None])
            yield replace(wanted, files=with_files(wanted, brought.of(periods)), objects=brought.objects, holds_more=shares)

    def _named(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> Wanted:
        """Return the request without the files of this machine that have other periods by their names."""
        if wanted.source is not None or not may_say_periods(wanted):
            return wanted
        try:
            _, scope = decide(ingestion, wanted, dataset=dataset, head=head, request_digest="")
        except Conflict:
            return wanted  # what it refuses may be equal to what is held, which the files tell
        return of_periods(wanted, scope)

    def _choice(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> Choose | None:
        """Return what says which part of a store is needed; ``None`` if all of it is."""
        try:
            plan, scope = choose(ingestion, wanted, dataset=dataset, head=head, request_digest="", same_sources=False)
        except DatasetExists:
            plan, scope = None, wanted.scope
        if scope.end is None and ingestion.until is not None:
            scope = scope.model_copy(update={"end": ingestion.until})
        held: Sequence[tuple[str, str]] = ()
        if plan is not None and head is not None and self._maker.can_build(ingestion, wanted, plan, head):
            # Steps of the source that exist already are not read only if they are skipped: else they replace, or are compared.
            skips = overlap(ingestion, wanted, plan) == "skip"
            held = spans(head.coverage, period_type_of(wanted, dataset)) if skips else ()
        if not held and (scope.bbox, scope.start, scope.end) == (None, None, None):
            return None
        options = self._maker.reading(ingestion, wanted, scope)
        return lambda folder: self._gate.needs(ReadRequest(sources=with_files(wanted, (folder,)), **options), held)

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
        chosen = self._follower.choose(ingestion, wanted, dataset, head)
        if not chosen.taken.periods:
            assert dataset is not None, "nothing is taken of nothing only where something is held"
            assert head is not None
            return self._maker.reuse(ingestion, wanted, dataset, head, chosen.plan, complete, warnings=chosen.taken.warnings)
        order = self._follower.order(ingestion, wanted, chosen.taken.periods, stops_at_missing=chosen.asked.is_open)
        with (
            step("fetch"),
            fetched_grid_file(ingestion, wanted, self._sources, progress) as wanted,
            self._sources.bring(source_of(wanted), order, progress=progress) as brought,
        ):
            if brought.missing:
                chosen = self._follower.chosen(ingestion, wanted, dataset, head, chosen.asked, brought.periods)
            if not chosen.taken.periods:
                assert dataset is not None
                assert head is not None
                return self._maker.reuse(ingestion, wanted, dataset, head, chosen.plan, complete, warnings=chosen.taken.warnings)
            shares = _shares_files(source_of(wanted), chosen.taken.periods)
            wanted = replace(
                wanted,
                files=with_files(wanted, brought.of(chosen.taken.periods)),
                objects=brought.objects,
                scope=wanted.scope.model_copy(update={"end": str(chosen.taken.end)}),
                holds_more=shares,
            )
            wanted, identities = self._told(ingestion, wanted)
            digest = _digest(ingestion, wanted, identities)
            making = Making(ingestion, wanted, chosen.plan, digest, dataset, head, validators=brought.validators)
            return self._maker.make(making, chosen.scope, progress=progress, complete=complete, warnings=chosen.taken.warnings)

    # --- existing data ---

    def _held(self, dataset_id: str) -> tuple[Dataset | None, VersionState | None]:
        dataset = self._datasets.find(dataset_id)
        if dataset is None or dataset.state.head is None:
            return dataset, None
        return dataset, self._datasets.head(dataset)

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


@contextmanager
def _advising(again: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[None]:
    """Let refusals advise steps that a request can have after those that it repeats."""
    try:
        yield
    except CubeportError as refusal:
        add_repeated(refusal, again)
        raise


@contextmanager
def _in_words_of(template: DatasetTemplate | None) -> Iterator[None]:
    """Let refusals of a template advise what its file has to say."""
    try:
        yield
    except CubeportError as refusal:
        if template is not None and refusal.next_step is not None:
            refusal.next_step = of_template(refusal.next_step, template.id, template.steps())
        raise


def _warned(wanted: Wanted, dataset: Dataset | None) -> Wanted:
    """Return the request with a warning if the dataset comes from another service, which goes on to send its versions."""
    if dataset is None or dataset.state.mirror_of is None:
        return wanted
    words = (
        f"{wanted.dataset_id} is a mirror of {shown_origin(dataset.state.mirror_of)}. The next push or pull publishes the version"
        " of that service in place of this one, and steps that made its values there are not repeated here. Update it there, or"
        " ingest under another id here."
    )
    return replace(wanted, warnings=(*wanted.warnings, ("mirror", words)))


def _shares_files(source: PeriodSource, taken: Sequence[Period]) -> bool:
    """Return whether consecutive periods are in the same file."""
    unit = getattr(source, "unit", None)
    return unit is not None and any(unit(each) in (unit(each.moved(-1)), unit(each.moved(1))) for each in taken)


def _check_checksum(block: SourceBlock | None, identities: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a file with another checksum than expected. Raises SourceRejected (``digest-mismatch``)."""
    if block is None or block.checksum is None:
        return
    found = [str(each["sha256"]) for each in identities]
    if found != [block.checksum]:
        raise SourceRejected(
            f"The source is not the expected file: its sha256 is {', '.join(found)}.",
            reason="digest-mismatch",
            next_step="if the new file is right, give its checksum",
        )


def _is_same_derivation(wanted: Wanted, head: VersionState) -> bool:
    """Return whether the version was derived with the same recipe and parameters from the same versions."""
    return wanted.derivation is not None and wanted.derivation.is_same(head.derived)


_IDENTITY = ("name", "size_bytes", "sha256")


def _digest(ingestion: Ingestion, wanted: Wanted, identities: Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 of the sources' bytes and of all options that change values."""
    said = {
        "sources": identities,
        "scope": wanted.scope.model_dump(mode="json"),
        "fields": wanted.fields.model_dump(mode="json", include={"variables": True, "period_type": True, "layout": {"chunks"}})
        | {"ingestion": wanted.fields.ingestion.of_values()},
        "attributes": ingestion.attributes,
        "append_dim": ingestion.append_dim or wanted.combined_along,
        "group": wanted.group,
        **wanted.fields.steps(),
        **({"climatology": wanted.fields.climatology} if wanted.fields.climatology is not None else {}),
        **({"years": wanted.fields.climatology_period} if wanted.fields.climatology_period is not None else {}),
        **({"time_label": "end"} if wanted.fields.time_label == "end" else {}),
        **({"skip_bad": True} if ingestion.request.skip_bad else {}),
        **({"on_overlap": ingestion.request.on_overlap} if ingestion.request.on_overlap is not None else {}),
        **({"until": ingestion.until} if ingestion.until is not None else {}),
        # A file that is the same in every byte, and another one for the system, must be pointed at anew.
        **({"storage": wanted.storage, "held": wanted.pointed or [each.marks for each in wanted.held]} if wanted.held else {}),
    }
    return hashlib.sha256(dumps(said).encode()).hexdigest()


def _is_made_of(head: VersionState | None, identities: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the version was made from exactly these sources."""
    if head is None or not head.sources:
        return False
    held = [{name: each.get(name) for name in _IDENTITY} for each in head.sources]
    return sorted(map(dumps, held)) == sorted(map(dumps, identities))
