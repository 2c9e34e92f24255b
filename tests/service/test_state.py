"""What a catalog has of datasets is read, or named as newer or damaged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cubeport.documents.texts import Texts
from cubeport.errors import Corrupt, NewerModel
from cubeport.service.state import DatasetState


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
