"""Decide what an ingestion does, from the request and the existing dataset. Everything here is pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cubeport.cubes.repairs import after
from cubeport.cubes.update import OnOverlap
from cubeport.errors import (
    CubeportError,
    DatasetExists,
    ExtentChanged,
    NotFound,
    TagExists,
    TemplateChanged,
)
from cubeport.service.advice import OPTIONS
from cubeport.service.datasets import Dataset
from cubeport.service.ingestions import Action as PlannedAction
from cubeport.service.ingestions import Ingestion, IngestionPlan, IngestionRequest, Scope
from cubeport.service.scope import check_begun, ends_early, holds, hull
from cubeport.service.state import VersionState
from cubeport.service.templates import TemplateFields
from cubeport.service.wanted import Wanted


def decide(
    ingestion: Ingestion,
    wanted: Wanted,
    *,
    dataset: Dataset | None,
    head: VersionState | None,
    request_digest: str,
    same_sources: bool = False,
) -> tuple[IngestionPlan, Scope]:
    """Return what to do and the scope to read, from the request and the existing dataset. Pure.

    Raises
    ------
    DatasetExists, TemplateChanged, ExtentChanged, TagExists, NotFound, InvalidRequest
    """
    plan, scope = choose(ingestion, wanted, dataset=dataset, head=head, request_digest=request_digest, same_sources=same_sources)
    if scope.end is None and ingestion.until is not None:
        scope = scope.model_copy(update={"end": ingestion.until})
    tag = ingestion.request.tag
    tagged = dataset.state.tags.get(tag) if dataset is not None and tag is not None else None
    if tagged is not None and not (plan.action == "reuse" and tagged == plan.base_version_id):
        raise TagExists(f"Tag {tag!r} names another version of {wanted.dataset_id!r}.", next_step="choose another tag")
    return plan, scope


def choose(
    ingestion: Ingestion,
    wanted: Wanted,
    *,
    dataset: Dataset | None,
    head: VersionState | None,
    request_digest: str,
    same_sources: bool,
) -> tuple[IngestionPlan, Scope]:
    """Return what :func:`decide` decides, before the end that a sync gives and the tag are looked at. Pure."""
    request, scope = ingestion.request, wanted.scope
    if dataset is None or head is None:
        if request.mode == "update" and wanted.template is None:
            raise NotFound(
                f"There is no dataset {wanted.dataset_id!r} to update.",
                what="dataset",
                next_step=f"make it: cubeport ingest FILES --id {wanted.dataset_id} (mode create in a request)",
            )
        return IngestionPlan(action="create", reason="the dataset does not exist yet"), scope
    held = head.coverage.get("temporal")
    base = head.version_id
    if head.request_digest == request_digest and _has_all_of(head, request, of_template=wanted.template is not None):
        return IngestionPlan(
            action="reuse", reason="the sources and options are those of the existing version", held=held, base_version_id=base
        ), scope
    if wanted.template is None:
        if request.mode == "replace":
            return IngestionPlan(
                action="replace", reason="another source replaces the existing data", held=held, base_version_id=base
            ), scope
        if request.mode == "update":
            reason = "the steps of the source will be added"
            if request.on_overlap == "replace":
                reason += ", and replace those that the dataset has"
            return IngestionPlan(action="append", reason=reason, held=held, base_version_id=base), scope
        if request.overwrite:
            return IngestionPlan(
                action="revise", reason="the steps of the source replace existing ones", held=held, base_version_id=base
            ), scope
        raise DatasetExists(
            f"Dataset {wanted.dataset_id!r} exists, made from other sources or options.",
            next_step=f"add its steps (mode update): cubeport update {wanted.dataset_id} FILES; "
            f"or replace all of it (mode replace): cubeport ingest FILES --id {wanted.dataset_id} --replace",
        )
    state, period_type = dataset.state, wanted.template.period_type
    if state.extent_digest != (wanted.extent.digest() if wanted.extent else None):
        raise ExtentChanged(f"The area of extent {state.extent_id!r} changed since {wanted.dataset_id!r} was made.")
    if state.template_digest != wanted.template_digest and not request.overwrite:
        raise TemplateChanged(
            f"Template {wanted.template.id!r} changed since {wanted.dataset_id!r} was made.",
            next_step=f"`cubeport ingest {wanted.dataset_id} --overwrite` (overwrite in a request) rebuilds it by the new template",
        )
    if (
        request.overwrite
        and request.mode != "replace"
        and state.template_digest == wanted.template_digest
        and held
        and (ingestion.kind != "sync" or ingestion.revised)
    ):
        return IngestionPlan(
            action="revise", reason="the requested periods are ingested again", held=held, base_version_id=base
        ), scope
    if request.overwrite or request.mode == "replace":
        whole = hull(scope, head.coverage, period_type)
        return IngestionPlan(action="rematerialize", reason="overwrite was requested", held=held, base_version_id=base), whole
    # Without an end, the newest data of the source are requested. The dataset has them only if the source did not change, and if
    # no end that was requested earlier kept some of them out.
    asked = scope if scope.end is not None else scope.model_copy(update={"end": ingestion.until})
    has_newest = same_sources and not ends_early(head.coverage, head.request_scope.end or head.until, period_type)
    if holds(head.coverage, asked, period_type) and (asked.end is not None or has_newest):
        check_begun(head.coverage, asked, period_type)
        return IngestionPlan(
            action="reuse", reason="the dataset already has every requested period", held=held, base_version_id=base
        ), scope
    whole = hull(scope, head.coverage, period_type)
    action: PlannedAction = "append" if held and whole.start == held["start"] else "extend"
    return IngestionPlan(
        action=action, reason="the dataset does not have all requested periods", held=held, base_version_id=base
    ), whole


def _has_all_of(head: VersionState, request: IngestionRequest, *, of_template: bool) -> bool:
    """Return whether the version has what the request would make, if an equal request made it.

    A version that adds to its parent has steps that its own request did not read. Neither a replacement nor, of a template, an
    overwrite may take them for those of the sources, which can have changed since.
    """
    if request.mode == "replace":
        return head.kind in ("created", "replaced", "rematerialized")
    return not (of_template and request.overwrite) or head.kind not in ("appended", "extended")


def updates(ingestion: Ingestion, wanted: Wanted) -> bool:
    """Return whether the files are added to existing data."""
    request = ingestion.request
    return wanted.template is None and (request.mode == "update" or (request.overwrite and request.mode != "replace"))


def period_type_of(wanted: Wanted, dataset: Dataset | None) -> str:
    """Return the period type of an existing dataset, which its template or its first version determined."""
    return wanted.fields.period_type or (dataset.state.texts.period_type if dataset else None) or "irregular"


def kept_type(period_type: str | None, coverage: Mapping[str, Any]) -> str | None:
    """Return the period type that an update keeps; ``None`` if the data have to tell: a single label could not."""
    one = ((coverage.get("temporal") or {}).get("count") or 0) <= 1
    return None if one and period_type == "irregular" else period_type


def overlap(ingestion: Ingestion, wanted: Wanted, plan: IngestionPlan) -> OnOverlap:
    """Return what an update does with steps that the dataset has already."""
    request = ingestion.request
    if request.overwrite or plan.action == "revise" or ingestion.revised:
        return "replace"
    # Unless files contain several periods, the fetched files have only missing periods. An existing step in them is an error of
    # the source.
    keeps = wanted.template is not None and (not wanted.is_fetched_by_period or wanted.holds_more)
    return request.on_overlap or ("skip" if keeps else "error")


def as_before(ingestion: Ingestion, wanted: Wanted, head: VersionState | None) -> Wanted:
    """Return the request with the steps and the chunk lengths that the dataset was made with, if it adds files and says nothing
    about them.

    Otherwise, sums would follow differences, and kelvin would follow celsius where units are missing.
    """
    if head is None or not updates(ingestion, wanted):
        return wanted
    again, layout = repeated(ingestion, wanted, head), wanted.fields.layout
    kept: dict[str, Any] = {name: getattr(TemplateFields.model_validate({name: steps}), name) for name, steps in again.items()}
    if head.chunks is not None and "chunks" not in layout.model_fields_set:
        kept["layout"] = layout.model_copy(update={"chunks": head.chunks})
    if not kept:
        return wanted
    # A copy is not checked: the other fields can be those of the dataset, or of a stored request of an earlier release (`job_of`).
    fields = wanted.fields.model_copy(update=kept)
    if not again:
        return replace(wanted, fields=fields)
    told = ", ".join(key for steps in again.values() for each in steps for key in each)
    warning = ("repaired", f"the files went through the steps that made the dataset: {told}; without them: --as-is")
    return replace(wanted, fields=fields, warnings=(*wanted.warnings, warning))


def repeated(ingestion: Ingestion, wanted: Wanted, head: VersionState | None) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the steps of the dataset that its files go through because the request gives none of their kind."""
    if head is None or not updates(ingestion, wanted):
        return {}
    return {name: steps for name, steps in head.steps.items() if name not in _said(ingestion)}


def _said(ingestion: Ingestion) -> Collection[str]:
    """Return the names of the template's fields that the request gives."""
    return ingestion.request.template.model_fields_set if ingestion.request.template else ()


def add_repeated(refusal: CubeportError, again: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Put the steps that were repeated before those that a refusal advises: a request that gives steps repeats none of their
    kind.
    """
    for name, option in OPTIONS.items():
        if refusal.next_step is not None:
            refusal.next_step = after(refusal.next_step, option, again.get(name, ()))
    if "repair" in refusal.members:
        steps = [dict(step) for step in again.get("normalise", ())]
        refusal.members = {**refusal.members, "repair": [*steps, *refusal.members["repair"]]}


def builds(ingestion: Ingestion, wanted: Wanted, plan: IngestionPlan) -> bool:
    """Return whether the version is its parent with steps added or replaced, so that unchanged chunks are shared."""
    return updates(ingestion, wanted) or (wanted.template is not None and plan.action in ("append", "extend", "revise"))
