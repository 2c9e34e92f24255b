"""The answers of children, validated, because a malicious source can control a child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cubeport.errors import SourceRejected


class Answer(BaseModel):
    """What a task returns. It has no other fields than are declared."""

    model_config = ConfigDict(extra="forbid")


def believed[A: Answer](model: type[A], fields: Mapping[str, Any]) -> A:
    """Return the answer of a child as *model*. Raises SourceRejected (``crashed``) for any other answer."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise SourceRejected("the process that read it gave no valid answer", reason="crashed") from error
