"""What an ingestion does is decided before a byte is written: asked against held, as a pure function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cubeport.catalog.forms.canonical import TRUSTED, now
from cubeport.catalog.models import CatalogRecord
from cubeport.documents.texts import Texts
from cubeport.errors import CoverageIncomplete, DatasetExists, ExtentChanged, NotFound, TagExists, TemplateChanged
from cubeport.service.datasets import Dataset
from cubeport.service.decide import as_before, decide
from cubeport.service.ingestions import Ingestion, IngestionRequest, Scope, job_of
from cubeport.service.state import KIND, DatasetState, VersionState
from cubeport.service.templates import DatasetTemplate, Extent, SourceBlock, TemplateFields, VariableChoice
from cubeport.service.wanted import Wanted

TEMPLATE = DatasetTemplate.model_validate(
    {"id": "sst", "title": "SST", "period_type": "monthly", "source": {"kind": "files", "paths": ["a.nc"]}}
)
LAKES = Extent(extent_id="lakes", bbox=(-93, 41, -76, 49))
HELD = {"temporal": {"start": "2006-04", "end": "2010-09", "count": 54}, "calendar": "standard"}


def wanted(template: DatasetTemplate | None = TEMPLATE, extent: Extent | None = None, **scope: Any) -> Wanted:
    return Wanted("sst", template or TemplateFields(), (Path("/a.nc"),), Scope(**scope), template=template, extent=extent)


def held(*, template: DatasetTemplate | None = TEMPLATE, extent: Extent | None = None, digest: str = "old") -> dict[str, Any]:
    version = VersionState(
        version_id="f" * 32,
        seq=1,
        kind="created",
        created_at=now(),
        coverage=HELD,
        request_scope=Scope(),
        size_bytes=1,
        digest="d",
        ingestion_id="e" * 32,
        engine="zarr",
        request_digest=digest,
    )
    state = DatasetState(
        texts=Texts(dataset_id="sst", title="SST", description="SST"),
        latest=version.version_id,
        head=version.version_id,
        template_digest=template.digest() if template else None,
        extent_id=extent.extent_id if extent else None,
        extent_digest=extent.digest() if extent else None,
    )
    return {"dataset": Dataset(CatalogRecord(kind=KIND, key="sst", metadata=state.metadata()), state), "head": version}


def ask(what: Wanted, have: dict[str, Any] | None = None, *, digest: str = "new", **request: Any) -> tuple[str, Scope]:
    ingestion = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst", **request))
    plan, scope = decide(ingestion, what, **(have or {"dataset": None, "head": None}), request_digest=digest)
    return plan.action, scope


def test_nothing_held_is_created() -> None:
    assert ask(wanted(start="2006-04")) == ("create", Scope(start="2006-04"))


def test_the_same_again_is_reused_whatever_the_source() -> None:
    assert ask(wanted(), held(), digest="old")[0] == "reuse"
    assert ask(wanted(template=None), held(template=None), digest="old", source="a.nc")[0] == "reuse"


def test_a_narrower_request_is_reused_and_a_wider_one_keeps_what_is_held() -> None:
    assert ask(wanted(start="2007-01", end="2007-12"), held())[0] == "reuse"
    assert ask(wanted(start="2007-01", end="2011-12"), held()) == ("append", Scope(start="2006-04", end="2011-12"))
    assert ask(wanted(start="2005-01", end="2005-12"), held()) == ("extend", Scope(start="2005-01", end="2010-09"))


def test_a_request_that_begins_after_the_data_is_refused_and_not_called_done() -> None:
    ingestion = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst"))
    with pytest.raises(CoverageIncomplete) as caught:
        decide(ingestion, wanted(start="2010-10"), **held(), request_digest="new", same_sources=True)
    told = caught.value
    assert (told.members["available"], told.members["requested"]["start"]) == ({"start": "2006-04", "end": "2010-09"}, "2010-10")


def test_the_same_sources_have_nothing_new_unless_an_end_kept_it_out() -> None:
    def again(**limits: Any) -> str:
        have = held()
        have["head"] = have["head"].model_copy(update=limits)
        ingestion = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst"))
        return decide(ingestion, wanted(), **have, request_digest="new", same_sources=True)[0].action

    assert again() == "reuse"
    assert again(request_scope=Scope(end="2010-09")) == "append", "the sources may have more"
    assert again(until="2010-09") == "append", "a sync did not let it take more"
    assert again(until="2010-12") == "reuse", "it ends before the limit, so the sources end there"


def test_overwrite_takes_the_asked_periods_again_and_keeps_the_others() -> None:
    asked = wanted(start="2007-01", end="2007-12")
    assert ask(asked, held(), overwrite=True) == ("revise", Scope(start="2007-01", end="2007-12"))
    changed = wanted(template=TEMPLATE.model_copy(update={"variables": (VariableChoice(name="x"),)}), start="2007-01")
    assert ask(changed, held(), overwrite=True) == ("rematerialize", Scope(start="2006-04")), "the whole by the new rules"
    assert ask(asked, held(), mode="replace")[0] == "rematerialize"


def test_another_direct_source_needs_to_say_that_it_replaces() -> None:
    direct, have = wanted(template=None), held(template=None)
    assert "mode replace" in _refused(DatasetExists, direct, have).next_step
    assert ask(direct, have, source="b.nc", mode="replace")[0] == "replace"
    assert ask(direct, have, source="b.nc", mode="update")[0] == "append"
    assert ask(direct, have, source="b.nc", overwrite=True)[0] == "revise"
    assert ask(direct, have, source="b.nc", mode="replace", on_overlap="skip")[0] == "replace", "files may overlap one another"


def test_an_update_of_nothing_is_not_found() -> None:
    assert _refused(NotFound, wanted(template=None), None, mode="update").members["what"] == "dataset"


def test_a_template_or_an_area_that_changed_is_told_before_anything_is_read() -> None:
    changed = TEMPLATE.model_copy(update={"variables": ()}).model_copy(update={"period_type": "daily"})
    assert _refused(TemplateChanged, wanted(template=changed), held()).next_step.startswith("`cubeport ingest sst --overwrite`")
    assert ask(wanted(template=TEMPLATE.model_copy(update={"title": "Other"})), held(), digest="old")[0] == "reuse"
    moved = LAKES.model_copy(update={"bbox": (-93, 41, -76, 50)})
    assert _refused(ExtentChanged, wanted(extent=moved), held(extent=LAKES))


def _refused(error: type[Any], what: Wanted, have: dict[str, Any] | None, **request: Any) -> Any:
    with pytest.raises(error) as caught:
        ask(what, have, **request)
    return caught.value


def test_a_tag_never_moves_to_another_version() -> None:
    have = held(template=None)
    have["dataset"].state.tags["first"] = have["head"].version_id
    with pytest.raises(TagExists, match="first"):
        ask(wanted(template=None), have, source="b.nc", mode="replace", tag="first")
    assert ask(wanted(template=None), have, source="b.nc", mode="replace", tag="second")[0] == "replace"
    assert ask(wanted(template=None), have, digest="old", source="a.nc", tag="first")[0] == "reuse"
    have["dataset"].state.tags["first"] = "a" * 32
    with pytest.raises(TagExists, match="first"):
        ask(wanted(template=None), have, digest="old", source="a.nc", tag="first")


@pytest.mark.parametrize(
    "source",
    [[], {}, {"kind": "files"}, {"kind": "files", "paths": []}, {"kind": "url"}, {"kind": "store", "key": "x"}, {"kind": "zarr"}],
)
def test_a_source_that_says_nothing_is_no_request(source: Any) -> None:
    with pytest.raises(ValidationError, match="source"):
        IngestionRequest.model_validate({"dataset_id": "sst", "source": source})


@pytest.mark.parametrize("source", ["a.nc", ["a.nc"], {"kind": "files", "paths": "a.nc"}])
def test_a_path_a_list_and_a_block_are_one_source(source: Any) -> None:
    asked = IngestionRequest.model_validate_json(json.dumps({"dataset_id": "sst", "source": source}), strict=True)
    assert asked.source == SourceBlock(kind="files", paths=("a.nc",))
    told = IngestionRequest.model_json_schema(mode="serialization")["$defs"]["Source"]
    assert [form["type"] for form in told["anyOf"]] == ["string", "array", "object"]
    assert IngestionRequest.model_validate_json(asked.model_dump_json()) == asked


def test_a_template_of_a_request_may_have_lists() -> None:
    fields = {
        "keywords": ["a", "b"],
        "variables": ["tas", {"name": "pr", "units": "mm"}],
        "extents": {"spatial": {"bbox": [-10, 40, 10, 50]}},
        "providers": [{"name": "Met", "roles": ["producer"]}],
        "render": {"colormap": "viridis", "range": [0, 1]},
        "layout": {"chunks": {"lat": 10}},
    }
    body = json.dumps({"dataset_id": "sst", "source": "a.nc", "template": fields})
    asked = IngestionRequest.model_validate_json(body, strict=True)
    assert asked.template is not None
    assert [each.name for each in asked.template.variables] == ["tas", "pr"]
    assert asked.template.keywords == ("a", "b")
    assert asked.template.providers[0].roles == ("producer",)
    assert asked.template.render == ({"colormap": "viridis", "range": [0, 1]},)
    assert asked.template.extents.spatial is not None
    assert asked.template.extents.spatial.bbox == (-10, 40, 10, 50)
    assert IngestionRequest.model_validate_json(asked.model_dump_json()) == asked
    with pytest.raises(ValidationError):
        IngestionRequest.model_validate_json(body.replace('"b"', "3"), strict=True)


def test_what_a_plugin_is_told_stays_as_it_was_written() -> None:
    block = {"kind": "plugin", "name": "p", "params": {"files": ["a.nc"]}}
    template = DatasetTemplate.model_validate({"id": "p", "title": "P", "period_type": "none", "source": block})
    assert template.source.params == {"files": ["a.nc"]}
    of_ingestion = {"source": {"kind": "plugin", "name": "p"}, "ingestion": {"params": {"files": ["a.nc"]}, "clip": "centre"}}
    same = DatasetTemplate.model_validate({"id": "p", "title": "P", "period_type": "none", **of_ingestion})
    assert (same.source, same.ingestion.clip) == (template.source, "centre")


def test_without_an_end_the_newest_of_the_source_is_asked_for() -> None:
    have = held()
    assert ask(wanted(start="2006-04"), have) == ("append", Scope(start="2006-04")), "the source may have grown"
    ingestion = Ingestion(dataset_id="sst", request=IngestionRequest(dataset_id="sst"))
    same = decide(ingestion, wanted(start="2006-04"), **have, request_digest="new", same_sources=True)[0]
    assert (same.action, same.reason) == ("reuse", "the dataset already has every requested period")
    synced = ingestion.model_copy(update={"until": "2010-12"})
    assert decide(synced, wanted(), **have, request_digest="new")[1].end == "2010-12"
    early = ingestion.model_copy(update={"until": "2010-09"})
    assert decide(early, wanted(), **have, request_digest="new")[0].action == "reuse", "nothing newer is admitted"


@pytest.mark.parametrize(
    ("kind", "how", "action"),
    [
        ("created", {"mode": "replace"}, "reuse"),
        ("replaced", {"mode": "replace"}, "reuse"),
        ("rematerialized", {"overwrite": True}, "reuse"),
        ("revised", {"overwrite": True}, "reuse"),
        ("revised", {"mode": "replace"}, "rematerialize"),
        ("appended", {"mode": "replace"}, "rematerialize"),
        ("appended", {"overwrite": True}, "revise"),
        ("extended", {"overwrite": True}, "revise"),
        ("appended", {}, "reuse"),
    ],
)
def test_steps_that_a_request_did_not_read_are_not_taken_for_those_of_its_sources(kind: str, how: Any, action: str) -> None:
    """An append reads what is new. Its sources can have changed in older steps, and its request looks the same afterwards."""
    have = held()
    have["head"] = have["head"].model_copy(update={"kind": kind})
    assert ask(wanted(), have, digest="old", **how)[0] == action


def test_files_that_were_added_can_replace_all() -> None:
    have = held(template=None)
    have["head"] = have["head"].model_copy(update={"kind": "appended"})
    direct = wanted(template=None)
    assert ask(direct, have, digest="old", source="a.nc", mode="replace")[0] == "replace"
    assert ask(direct, have, digest="old", source="a.nc", mode="update")[0] == "reuse"
    assert ask(direct, have, digest="old", source="a.nc", overwrite=True)[0] == "reuse", "its own steps are there"


def test_a_waiting_request_of_an_earlier_release_repeats_the_steps_of_its_dataset() -> None:
    """A climatology did not say of what."""
    fields = TemplateFields.model_validate({"period_type": "climatology"}, context=TRUSTED)
    asked = IngestionRequest(dataset_id="sst", mode="update").model_copy(update={"template": fields})
    head = held()["head"].model_copy(update={"steps": {"normalise": [{"rename": {"t": "tas"}}]}})
    told = as_before(Ingestion(dataset_id="sst", request=asked), Wanted("sst", fields, (Path("/a.nc"),), Scope()), head)
    assert (told.fields.period_type, told.fields.steps()) == ("climatology", head.steps)


def test_a_stored_update_repeats_what_its_request_does_not_say() -> None:
    """A server runs the job of its row. With the fields that nobody gave, it would have an empty list of steps."""
    kept = {"steps": {"transforms": [{"scale": {"tas": {"factor": 2.0, "offset": 0.0, "units": None}}}]}, "chunks": {"time": 4}}
    head = held()["head"].model_copy(update=kept)
    for said, pyramid in (({"title": "T"}, "auto"), ({"layout": {"pyramid": {"levels": "off"}}}, "off")):
        asked = IngestionRequest.model_validate({"dataset_id": "sst", "mode": "update", "template": said})
        job = job_of(Ingestion(dataset_id="sst", request=asked).model_dump(mode="json"))
        assert isinstance(job, Ingestion)
        assert job.request.template is not None
        fields = as_before(job, Wanted("sst", job.request.template, (Path("/a.nc"),), Scope()), head).fields
        assert (fields.steps(), fields.layout.chunks, fields.layout.pyramid.levels) == (head.steps, {"time": 4}, pyramid)
    chosen = asked.model_copy(
        update={"template": TemplateFields.model_validate({"normalise": [], "layout": {"chunks": {"time": 9}}})}
    )
    job = job_of(Ingestion(dataset_id="sst", request=chosen).model_dump(mode="json"))
    assert isinstance(job, Ingestion)
    assert job.request.template is not None
    assert job.request.template.model_fields_set == {"normalise", "layout"}
    assert as_before(job, Wanted("sst", job.request.template, (), Scope()), head).fields.layout.chunks == {"time": 9}
