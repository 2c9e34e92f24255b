"""Fields that have a name but no effect yet. Setting one is refused instead of ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Later:
    """Marks a field that nothing reads yet: ``keep_days: Annotated[int, Later()] = 30``.

    Any value except the default is refused with "is not in this version". To implement the field, read it and remove the marker; a
    test checks that both happen together.

    Parameters
    ----------
    acting
        The values that describe the current behaviour and are therefore accepted: ``Later(True)``.
    """

    acting: tuple[object, ...]

    def __init__(self, *acting: object) -> None:
        object.__setattr__(self, "acting", acting)

    def check(self, value: object) -> object:
        """Return *value* if it has an effect. Raises ValueError."""
        if any(type(value) is type(each) and value == each for each in self.acting):
            return value
        if self.acting and self.acting[0] not in (None, (), {}):
            raise ValueError(f"is not in this version; it can only be {self.acting[0]!r}")
        raise ValueError("is not in this version; leave it out")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described: dict[str, Any] = dict(handler(schema))
        if self.acting:
            return {**described, "enum": [list(each) if isinstance(each, tuple) else each for each in self.acting]}
        return {**described, "description": "Not in this version."}


def waiting(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of the fields of *model* that have no effect yet."""
    return (name for name, field in model.model_fields.items() if any(isinstance(each, Later) for each in field.metadata))


def without_waiting(value: BaseModel) -> Mapping[str, Any]:
    """Return the fields of *value* that have an effect, by name."""
    return value.model_dump(exclude=set(waiting(type(value))))
