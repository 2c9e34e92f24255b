"""What a catalog has of datasets is read, or named as newer or damaged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cubeport.catalog.forms.canonical import now
from cubeport.documents.texts import Texts
from cubeport.errors import Corrupt, NewerModel
from cubeport.service.ingestions import Scope
from cubeport.service.state import DatasetState, VersionState


def of(**changed: Any) -> DatasetState:
    held = DatasetState(texts=Texts(dataset_id="x", title="x", description="x")).metadata()["dataset"]
    return DatasetState.of(cast("Any", SimpleNamespace(metadata={"dataset": {**held, **changed}})))


def test_a_member_that_this_release_does_not_know_is_of_a_newer_one() -> None:
    assert of().texts.title == "x"
    with pytest.raises(NewerModel, match="newer cubeport"):
        of(unheard_of=1)


def test_anything_else_is_damage() -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        of(texts=7, unheard_of=1)


@pytest.mark.parametrize(("chunks", "written"), [(None, False), ({"time": 8}, True)])
def test_what_an_earlier_release_does_not_know_is_written_only_where_somebody_chose(chunks: Any, written: bool) -> None:
    version = VersionState(
        version_id="f" * 32,
        seq=1,
        kind="created",
        created_at=now(),
        coverage={},
        request_scope=Scope(),
        size_bytes=1,
        digest="d",
        ingestion_id="e" * 32,
        engine="zarr",
        request_digest="r",
        chunks=chunks,
    )
    document = version.row("a" * 32).document
    assert ("chunks" in document) is written
    assert VersionState.of(document) == version
