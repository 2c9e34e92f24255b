"""Functions of plugins that confined children call: which parameters they have, and their names there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from cubeport.errors import InvalidRequest, Problem


class Parameters(BaseModel):
    """The parameters of a function."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class PluginFunction:
    """A function of a module, which a child process can import."""

    name: str
    """The name that the plugin registered."""
    parameters: type[BaseModel]
    reference: str
    """``module:name``."""
    says: str
    """The first paragraph of its docstring."""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters as :func:`bind` does."""
        return bind(self.parameters, given, f"Transform {self.name!r}", next_step="cubeport plugins")


def bind(parameters: type[BaseModel], given: Mapping[str, Any], called: str, *, next_step: str) -> dict[str, Any]:
    """Return all parameters, including defaults, as JSON values. Parameters without a value (null) are omitted.

    Raises
    ------
    InvalidRequest
        With all parameters that are unknown, missing or wrong.
    """
    try:
        bound = parameters.model_validate(dict(given)).model_dump(mode="json")
    except ValidationError as exc:
        problems = [
            Problem(("params", *each["loc"]), each["type"], each["msg"].removeprefix("Value error, ")) for each in exc.errors()
        ]
        words = "; ".join(f"{'.'.join(map(str, each.loc[1:])) or 'parameters'}: {each.message}" for each in problems[:5])
        raise InvalidRequest(f"{called} cannot take these parameters: {words}", errors=problems, next_step=next_step) from None
    return {name: value for name, value in bound.items() if value is not None}


def function_of(name: str, function: Callable[..., Any], inputs: Sequence[str] | int, *, kind: str) -> PluginFunction:
    """Return a plugin's function ``f(data, …, *, parameter=default)``.

    Parameters
    ----------
    inputs
        The names of the arguments that it takes by position, or how many these are.
    kind
        What it is, for messages: ``recipe``.

    Raises
    ------
    ValueError
        If the function has no name of the form ``module:name``, or its arguments do not fit.
    """
    reference = f"{function.__module__}:{function.__qualname__}"
    if "<" in reference or function.__module__ == "__main__":
        raise ValueError(f"a {kind} is a function of a module, which a child process can import")
    fields: dict[str, Any] = {}
    taken: list[str] = []
    for each in inspect.signature(function, eval_str=True).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise ValueError(f"a {kind} names its parameters: *args and **kwargs cannot be part of a key")
        if each.kind is not each.KEYWORD_ONLY:
            taken.append(each.name)
            continue
        annotation = Any if each.annotation is each.empty else each.annotation
        fields[each.name] = (annotation, ... if each.default is each.empty else each.default)
    if len(taken) != inputs if isinstance(inputs, int) else tuple(taken) != tuple(inputs):
        wanted = f"{inputs} argument" if isinstance(inputs, int) else ", ".join(inputs)
        raise ValueError(f"a {kind} takes its inputs by position: {wanted}; this one takes {', '.join(taken) or 'none'}")
    says = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    return PluginFunction(name, create_model(name, __base__=Parameters, **fields), reference, says)
