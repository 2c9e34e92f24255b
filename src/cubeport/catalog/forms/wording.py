"""Our words for the errors of pydantic, which speaks of inputs and strings. They have none of the values that were given."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAliasType, TypeGuard, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel

_SHOULD = re.compile(r"^(?:Input|String|List|Dictionary|Value|URL) should (be|have|match|not)\b")
_FEW = 24
"""Up to how many names are listed where none is like the given one."""


def message(error: Mapping[str, Any], model: type[BaseModel] | None = None) -> str:
    """Return what is wrong at the place of an error of *model*, to be read after the name of the place: ``must be 'a' or 'b'``."""
    match error["type"]:
        case "extra_forbidden":
            *above, name = error["loc"]
            names = [] if model is None else fields_at(model, above)
            near = suggestion(str(name), names)
            return "is unknown" + (near or (f"; there are {', '.join(sorted(names))}" if 0 < len(names) <= _FEW else ""))
        case "missing":
            return "is required"
    return _SHOULD.sub(r"must \1", error["msg"].removeprefix("Value error, "))


def sentence(place: str, words: str) -> str:
    """Return the words of :func:`message` after the name of the place, with a colon unless they go on as one sentence."""
    return f"{place} {words}" if words.startswith(("is ", "must ")) else f"{place}: {words}"


def suggestion(given: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for a similar choice, otherwise an empty text."""
    near = difflib.get_close_matches(given, list(choices), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def fields_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Return the names of the fields at a place below *model*: of all models that may be there, none if they are not known."""
    found: list[Any] = [model]
    for part in place:
        # pydantic puts the tag of a union's member into the place, which leads nowhere.
        found = [each for one in found for each in _inside(one, part)] or (found if len(found) > 1 else [])
    return list(dict.fromkeys(name for one in found if _is_model(one) for name in _names(one)))


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    from pydantic import BaseModel  # commands whose words these are start without it

    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if part in (name, field.alias):
                yield from _members(field.annotation)
    elif isinstance(part, int) and get_origin(annotation) in (list, tuple, Sequence):
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (dict, Mapping):
        yield from _members(get_args(annotation)[1])


def _members(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, TypeAliasType):
        yield from _members(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _members(each)
    else:
        yield annotation
