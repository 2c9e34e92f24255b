"""A version that is being made: its row and its record in the catalog, everything about it except its bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cubeport.catalog.forms.canonical import new_id, now
from cubeport.catalog.models import CatalogRecord, Lineage
from cubeport.catalog.work.undo import Action
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.recipes import Derivation
from cubeport.documents import native
from cubeport.documents.texts import Texts
from cubeport.service import describe
from cubeport.service.advice import of_template, of_version
from cubeport.service.datasets import Dataset
from cubeport.service.decide import builds, updates
from cubeport.service.ingestions import Action as PlannedAction
from cubeport.service.ingestions import Ingestion, IngestionPlan
from cubeport.service.ports import (
    Measured,
    Written,
)
from cubeport.service.publish import pointed, with_shown, with_state
from cubeport.service.scope import empty_warning, uneven_warning
from cubeport.service.state import KIND, DatasetState, Publication, Reach, VersionKind, VersionState
from cubeport.service.wanted import Wanted, publishes

_KINDS: Mapping[PlannedAction, VersionKind] = {
    "create": "created",
    "append": "appended",
    "extend": "extended",
    "replace": "replaced",
    "rematerialize": "rematerialized",
    "revise": "revised",
}


@dataclass(frozen=True, slots=True)
class Making:
    """A version that is being made: everything about it except its bytes."""

    ingestion: Ingestion
    wanted: Wanted
    plan: IngestionPlan
    request_digest: str
    dataset: Dataset | None
    head: VersionState | None
    version_id: str = field(default_factory=new_id)
    validators: Mapping[str, str] = field(default_factory=dict)
    """The source's validators of the fetched periods."""
    copies: tuple[Mapping[str, Any], ...] = ()
    """What there is to say of the NetCDF copy, if the version has one."""

    @property
    def updates(self) -> bool:
        """Whether the version is its parent with steps added or replaced."""
        return updates(self.ingestion, self.wanted) and self.head is not None

    def as_written(self, written: Written) -> Making:
        """Return it with the action that the write determined, because the steps of an update are only known after reading them."""
        if written.change is None or written.change.kind == "none":
            return self
        return replace(self, plan=self.plan.model_copy(update={"action": written.change.kind}))

    def version(
        self, written: Written, measured: Measured, period_type: str, *, seq: int, engine: str, reference: str
    ) -> VersionState:
        """Return the state of the version for the catalog."""
        at = now()
        return VersionState(
            version_id=self.version_id,
            seq=seq,
            parent_id=self.plan.base_version_id,
            kind=_KINDS[self.plan.action],
            created_at=at,
            copies=tuple(dict(each) for each in self.copies),
            coverage=native.coverage(measured.description, period_type).model_dump(mode="json"),
            request_scope=self.wanted.scope,
            size_bytes=measured.size_bytes,
            digest=measured.digest,
            ingestion_id=self.ingestion.ingestion_id,
            template_digest=self.wanted.template_digest,
            until=self.ingestion.until,
            release=release_of(self.wanted),
            engine=engine,
            reference=reference,
            request_digest=self.request_digest,
            sources=tuple(dict(each) for each in written.sources),
            steps=self.wanted.fields.steps(),
            chunks=self.wanted.fields.layout.chunks,
            derived=self.wanted.derivation,
            validators=self.all_validators(),
            shown_at=at if publishes(self.ingestion.request, self.wanted) else None,
            warnings=self._warnings(written, measured, period_type),
            reach=Reach.of(measured.description),
        )

    def _warnings(self, written: Written, measured: Measured, period_type: str) -> tuple[dict[str, str], ...]:
        temporal, template = measured.description.temporal, self.wanted.template
        own = [empty_warning(temporal, period_type)]
        if self.wanted.fields.period_type is None and not self.updates:
            own.append(uneven_warning(temporal, period_type))
        pairs = dict.fromkeys((*written.warnings, *measured.description.warnings, *(each for each in own if each is not None)))
        steps = self.head.steps if self.updates and self.head is not None else None
        told = dict.fromkeys(
            (
                kind,
                of_version(words, self.wanted.dataset_id, steps)
                if template is None
                else of_template(words, template.id, template.steps()),
            )
            for kind, words in pairs
        )
        return tuple({"kind": kind, "message": message} for kind, message in told)

    def all_validators(self) -> dict[str, str]:
        """Return the source's validators of the last periods, including existing periods that are kept."""
        held = self.head.validators if self.head is not None and builds(self.ingestion, self.wanted, self.plan) else {}
        every = {**held, **self.validators}
        return {text: every[text] for text in sorted(every)[-_VALIDATORS:]}

    def record(self, version: VersionState, description: CubeDescription, period_type: str) -> CatalogRecord:
        """Return the record that points to *version*. The published version changes only if the request publishes."""
        request, wanted = self.ingestion.request, self.wanted
        old = self.dataset.state if self.dataset else None
        tags = {**(old.tags if old else {}), **({request.tag: version.version_id} if request.tag else {})}
        if self.updates and old is not None:
            # Only steps are added; texts, template and area of the dataset do not change, but a second step can tell the periods.
            texts = old.texts.model_copy(update={"period_type": old.texts.period_type and period_type})
            state = old.model_copy(update={"head": version.version_id, "tags": tags, "texts": texts})
            return self._pointing(state, version, description)
        texts, described = texts_of(wanted, old, description, period_type)
        state = DatasetState(
            texts=texts,
            described=described,
            latest=old.latest if old else None,
            head=version.version_id,
            tags=tags,
            publication=old.publication if old else Publication(),
            source_dataset_id=wanted.template.id if wanted.template else None,
            derived=wanted.block if wanted.derivation else None,
            extent_id=wanted.extent.extent_id if wanted.extent else None,
            extent_digest=wanted.extent.digest() if wanted.extent else None,
            template_digest=wanted.template_digest,
            variables=old.variables if old else (),
            quantities=old.quantities if old else "",
            grids=old.grids if old else 0,
            shown_since=old.shown_since if old else None,
            left=old.left if old else {},
        )
        return self._pointing(state, version, description)

    def _pointing(self, state: DatasetState, version: VersionState, description: CubeDescription) -> CatalogRecord:
        record = self.dataset.record if self.dataset else CatalogRecord(key=self.wanted.dataset_id, kind=KIND)
        if self.wanted.derivation is not None:
            # A result shows its inputs, so not everybody sees it if not everybody sees these, unless somebody has said who does.
            seen_by = record.visibility or self.wanted.visibility
            record = record.replace(lineage=derived_edges(record, self.wanted.derivation), visibility=seen_by)
        elif state.derived is None and self.dataset is not None and self.dataset.state.derived is not None:
            record = record.replace(lineage=underived(record.lineage))
        if publishes(self.ingestion.request, self.wanted):
            return with_shown(record, pointed(state, version.version_id), description)
        return with_state(record, state) if state.latest else with_shown(record, state, description)


def derived_edges(record: CatalogRecord, derivation: Derivation) -> tuple[Lineage, ...]:
    """Return the lineage of a derived record, with one edge to the version of each input instead of earlier edges."""
    edges = {
        each.record_id: Lineage(
            rel="derived_from",
            target=each.record_id,
            created_at=now(),
            note=f"{derivation.recipe} of {each.dataset_id}@{each.version_id}",
        )
        for each in derivation.inputs.values()
    }
    return (*underived(record.lineage), *edges.values())


def underived(lineage: Sequence[Lineage]) -> tuple[Lineage, ...]:
    """Return the lineage of a record without what it was derived from."""
    return tuple(each for each in lineage if each.rel != "derived_from")


def release_of(wanted: Wanted) -> str | None:
    """Return the release of the source that a template names."""
    version = wanted.template.sync.version if wanted.template else None
    return version.value if version else None


_VALIDATORS = 1_000
"""How many validators a version keeps, which is the largest number of periods that a sync can revisit."""


def texts_of(
    wanted: Wanted, state: DatasetState | None, description: CubeDescription, period_type: str
) -> tuple[Texts, dict[str, Any]]:
    """Return the texts of the dataset, and those that were set by ``describe`` or by a request for a direct source."""
    template = wanted.template
    described = {**(state.described if state else {}), **({} if template else describe.given(wanted.fields))}
    fields = wanted.fields if template else wanted.fields.model_copy(update={"title": None})
    base = describe.base_texts(
        wanted.dataset_id, fields, description, period_type, source=template.source if template else None, extent=wanted.extent
    )
    return describe.texts(base, described), described


def clearing(undo: Sequence[Mapping[str, Any]]) -> Iterator[Action]:
    """Yield the after-action that removes the rest of the staging folder after the version was moved out of it."""
    for each in undo:
        if str(each["path"]).startswith("staging/"):
            proof = {**each.get("proof", {}), "tree": True}
            yield Action(action="remove_managed", profile=each["profile"], path=each["path"], proof=proof)
