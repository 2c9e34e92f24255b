"""What is said for pydantic's errors: our words, the fields that there are, and nothing that was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError

from cubeport.catalog.forms import wording
from cubeport.catalog.models import invalid


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rename: dict[str, str] | None = None
    sort: tuple[str, ...] = ()


class Files(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["files"]
    paths: tuple[str, ...]


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["url"]
    template: str


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field("", max_length=5, alias="name")
    steps: tuple[Part, ...] = ()
    by_name: Mapping[str, Part | None] = {}
    source: Annotated[Files | Address, Discriminator("kind")] | None = None
    order: Literal["up", "down"] = "up"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nam": "x"}, "nam is unknown; did you mean 'name'?"),
        ({"xyz": 1}, "xyz is unknown; there are by_name, name, order, source, steps"),
        ({"steps": [{}, {"renam": {}}]}, "steps.1.renam is unknown; did you mean 'rename'?"),
        ({"by_name": {"a": {"x": 1}}}, "by_name.a.x is unknown; there are rename, sort"),
        ({"source": {"kind": "url", "template": "x", "path": "y"}}, "source.url.path is unknown; did you mean 'paths'?"),
        ({"source": {"kind": "url"}}, "source.url.template is required"),
        ({"order": "secret"}, "order must be 'up' or 'down'"),
        ({"name": "secret"}, "name must have at most 5 characters"),
        ({"steps": "secret"}, "steps must be a valid tuple"),
    ],
)
def test_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(given)
    said = str(invalid("request", caught.value, Whole))
    assert said == f"This request is not valid: {words}"
    assert "secret" not in said


def test_without_a_model_no_field_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate({"nam": "x"})
    assert str(invalid("request", caught.value)) == "This request is not valid: nam is unknown"
    assert wording.fields_at(Whole, ("no such", 3)) == []
