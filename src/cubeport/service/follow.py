"""Follow a source: what it has, by its own word, that a dataset does not have, and which of its periods an ingestion fetches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cubeport.catalog.forms.canonical import dumps, now, timestamp
from cubeport.cubes.calendars import canonical
from cubeport.cubes.sources import Area, Period, PeriodSource
from cubeport.service.datasets import Dataset
from cubeport.service.decide import decide, period_type_of
from cubeport.service.fetching import MOST_PERIODS, RequestedPeriods, Taken, asked, runs, take
from cubeport.service.filenames import of_periods
from cubeport.service.gridfiles import with_grid_file
from cubeport.service.ingestions import Ingestion, IngestionPlan, IngestionRequest, Scope
from cubeport.service.ports import BringOrder, Sources
from cubeport.service.scope import ends_early
from cubeport.service.state import VersionState
from cubeport.service.templates import DatasetTemplate
from cubeport.service.wanted import Names, Wanted, allow_gaps


@dataclass(frozen=True, slots=True)
class Chosen:
    """The decision about the periods of a source."""

    asked: RequestedPeriods
    taken: Taken
    plan: IngestionPlan
    scope: Scope


@dataclass(frozen=True, slots=True)
class Revisited:
    """What a source says of what was read from it before."""

    changed: tuple[str, ...] = ()
    """Periods of which it says something else."""
    gone: tuple[str, ...] = ()
    """Periods of which it says nothing any more, or names of files that are not there."""


class Follower:
    """Asks sources which periods they have, and whether what was read from them has changed. It fetches nothing."""

    def __init__(self, names: Names, sources: Sources, *, most_periods: int = MOST_PERIODS) -> None:
        self._names = names
        self._sources = sources
        self._most_periods = most_periods

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
        wanted = with_grid_file(asking, self._names.resolve(asking), self._sources)
        if wanted.is_fetched_by_period:
            taken = self.choose(asking, wanted, dataset, head).taken
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
        wanted = self._names.resolve(asking)
        if temporal is None or not wanted.is_fetched_by_period:
            return True
        calendar = canonical(head.coverage.get("calendar") or "") or "standard"
        ends = (Period.parse(temporal[each], str(wanted.fields.period_type), calendar) for each in ("start", "end"))
        return all(self._sources.listed(_called(wanted), source_of(wanted), each, each) != () for each in dict.fromkeys(ends))

    def revisit(self, dataset: Dataset, head: VersionState, template: DatasetTemplate) -> Revisited:
        """Return those of the last ``sync.revisit_periods`` periods whose validator in the source has changed or disappeared.

        Changes of periods without a validator cannot be detected. The periods of local files are only known after reading them, so
        if the size or time of a file has changed, all of these periods may have changed. Raises the errors of the source.
        """
        dataset_id = dataset.state.texts.dataset_id
        asking = Ingestion(dataset_id=dataset_id, request=IngestionRequest(dataset_id=dataset_id))
        wanted = with_grid_file(asking, self._names.resolve(asking), self._sources)
        if wanted.source is None:
            there = {name: (size, at) for name, size, at in self._sources.stamps(wanted.files)}
            known_files = {str(each["name"]): (each["size_bytes"], str(each.get("modified_at"))) for each in head.sources}
            changed = any(name in there and there[name] != stamp for name, stamp in known_files.items())
            gone = tuple(name for name in known_files if name not in there and not wanted.is_grid_file(name))
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

    def choose(self, ingestion: Ingestion, wanted: Wanted, dataset: Dataset | None, head: VersionState | None) -> Chosen:
        """Return what to do and which periods to fetch. The source is asked which periods it has.

        Raises
        ------
        NoData, Gap, CoverageIncomplete
            See :func:`~cubeport.service.fetching.take`. :func:`decide` can also raise its errors.
        """
        plan, scope = decide(ingestion, wanted, dataset=dataset, head=head, request_digest="")
        keeps = plan.action not in ("rematerialize", "revise", "create")
        request = self.asked(ingestion, wanted, scope if plan.action == "rematerialize" else wanted.scope, head)
        # The limit of a sync does not count as a requested end.
        request = replace(request, is_open=wanted.scope.end is None)
        if not keeps:
            request = replace(request, held=frozenset())
        elif ingestion.revised:
            anew = {Period.parse(text, request.first.type, request.first.calendar).number for text in ingestion.revised}
            request = replace(request, held=request.held - anew)
        there = self._list(wanted, request) if request.wanted else ()
        return self.chosen(ingestion, wanted, dataset, head, request, request.wanted if there is None else there)

    def chosen(
        self,
        ingestion: Ingestion,
        wanted: Wanted,
        dataset: Dataset | None,
        head: VersionState | None,
        request: RequestedPeriods,
        there: Sequence[Period],
    ) -> Chosen:
        taken = take(request, there, allow_gaps=allow_gaps(ingestion, wanted), follows=ingestion.kind == "sync")
        resolved = replace(wanted, scope=wanted.scope.model_copy(update={"end": str(taken.end)}))
        plan, scope = decide(ingestion, resolved, dataset=dataset, head=head, request_digest="")
        if taken.periods and plan.action == "reuse" and ingestion.revised:
            plan = plan.model_copy(update={"action": "revise", "reason": "the source has changed existing periods"})
        elif taken.periods and plan.action == "reuse":
            plan = plan.model_copy(update={"action": "extend", "reason": "periods that were missing are there now"})
        elif not taken.periods and plan.action != "reuse":
            plan = plan.model_copy(update={"action": "reuse", "reason": "the source has no more than is held"})
        return Chosen(request, taken, plan.model_copy(update={"fetch": runs(taken.periods)}), scope)

    def asked(self, ingestion: Ingestion, wanted: Wanted, scope: Scope, head: VersionState | None) -> RequestedPeriods:
        """Return the periods that an ingestion requests by now; see :func:`~cubeport.service.fetching.asked`."""
        return asked(ingestion, wanted.fields, scope, head, now=now(), most=self._most_periods)

    def there(self, ingestion: Ingestion, wanted: Wanted, request: RequestedPeriods) -> Taken:
        there = self._list(wanted, request)
        if there is None:
            return Taken(request.wanted, request.last)
        return take(request, there, allow_gaps=allow_gaps(ingestion, wanted), follows=False)

    def _list(self, wanted: Wanted, request: RequestedPeriods) -> tuple[Period, ...] | None:
        """Ask the source which of the missing periods it has."""
        missing = request.wanted
        return self._sources.listed(_called(wanted), source_of(wanted), missing[0], missing[-1], is_open=request.is_open)

    def order(
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
            timeout_s=wanted.fields.ingestion.timeout_s,
            retries=wanted.fields.ingestion.retries,
            stops_at_missing=stops_at_missing,
        )

    def _is_untouched(self, wanted: Wanted, dataset: Dataset, head: VersionState) -> bool:
        """Return whether the version has all that its local files have: none is new, and none has another size or time of change.

        A file that was changed just before its ingestion counts as changed, because its time is in seconds.
        """
        if ends_early(head.coverage, head.request_scope.end or head.until, period_type_of(wanted, dataset)):
            return False
        held = sorted((str(each["name"]), each["size_bytes"], str(each.get("modified_at"))) for each in head.sources)
        before = timestamp(head.created_at - _SETTLED)
        begins = (head.coverage.get("temporal") or {}).get("start")
        there = sorted(self._sources.stamps(of_periods(wanted, Scope(start=begins)).files))
        return bool(held) and there == held and all(at < before for _, _, at in there)


def _called(wanted: Wanted) -> str:
    """Return the name of the source in messages."""
    block = wanted.block
    return (block.name if block and block.name else None) or (wanted.template.id if wanted.template else wanted.dataset_id)


def source_of(wanted: Wanted) -> PeriodSource:
    """Return the source of a request that fetches."""
    assert wanted.source is not None, "it is asked only where it fetches"
    return wanted.source


def _last_periods(head: VersionState, template: DatasetTemplate) -> tuple[str, ...]:
    """Return the last periods of a version that its template revisits."""
    temporal = head.coverage.get("temporal")
    if temporal is None:
        return ()
    calendar = canonical(head.coverage.get("calendar") or "") or "standard"
    first, last = (Period.parse(temporal[each], template.period_type, calendar) for each in ("start", "end"))
    count = min(template.sync.revisit_periods, last.number - first.number + 1)
    return tuple(str(last.moved(-each)) for each in reversed(range(count)))


_SETTLED = timedelta(seconds=2)
"""How long before its version a file must have been changed last, so that its time, in seconds, tells whether it changed since."""
