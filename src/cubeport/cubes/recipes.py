"""Recipes of derived datasets: what one is made of, with which parameters, and the key that tells one result from another.

The key is the hash of the datamanifest specification (spec-v5.9): sha256 of the canonical JSON of every parameter that is bound,
defaults included, and of the inputs by the digests of their versions. Equal keys are equal results, on every machine.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from cubeport.cubes.periods import PERIOD_TYPES
from cubeport.errors import InvalidRequest, Problem

type Method = Literal["mean", "sum", "maximum", "minimum"]
"""How the values of a period become one, by the names of CF's cell methods (7.3)."""

METHODS: tuple[Method, ...] = ("mean", "sum", "maximum", "minimum")


class Parameters(BaseModel):
    """What a recipe can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resampling(Parameters):
    """Parameters of ``resample``."""

    period_type: str
    """Of the result; coarser than that of the input."""
    method: Literal["cell_methods", "mean", "sum", "maximum", "minimum"] = "cell_methods"
    """``cell_methods``: as each variable says of its own time."""
    least: float = Field(1.0, gt=0, le=1)
    """The part of the steps of a period that must be present, for each cell."""
    partial: bool = False
    """Whether periods at the ends that the input does not cover whole are kept."""

    @model_validator(mode="after")
    def _follows(self) -> Resampling:
        if self.period_type not in PERIOD_TYPES or self.period_type in ("irregular", "climatology", "none"):
            raise ValueError("period_type must be hourly, daily, weekly, pentad, dekadal, monthly, yearly or {n}-hourly")
        return self


class Reference(Parameters):
    """The years that a normal is of."""

    start: int = Field(ge=1, le=9999)
    """The first year."""
    end: int = Field(ge=1, le=9999)
    """The last year, included."""
    least: float = Field(0.8, gt=0, le=1)
    """The part of the steps that must be present, for each cell and month."""

    @model_validator(mode="after")
    def _ordered(self) -> Reference:
        if self.end < self.start:
            raise ValueError("end must not be before start")
        return self


class Anomaly(Reference):
    """Parameters of ``anomaly``."""

    departure: Literal["absolute", "percent"] = "absolute"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way of making a dataset from others."""

    name: str
    parameters: type[BaseModel]
    inputs: tuple[str, ...] = ("data",)
    """The names of what it takes, in order."""
    function: str | None = None
    """``module:name`` of a plugin's function; ``None`` for ours."""
    says: str = ""
    """What it makes, in a sentence."""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter, defaults included, as JSON values; one without a value (null) is left out.

        Raises
        ------
        InvalidRequest
            With every parameter that is unknown, missing or wrong.
        """
        try:
            bound = self.parameters.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as exc:
            problems = [Problem(("params", *each["loc"]), each["type"], each["msg"]) for each in exc.errors()]
            words = "; ".join(f"{'.'.join(map(str, each.loc[1:])) or 'parameters'}: {each.message}" for each in problems[:5])
            raise InvalidRequest(
                f"Recipe {self.name!r} cannot take these parameters: {words}", errors=problems, next_step="cubeport recipes"
            ) from None
        return {name: value for name, value in bound.items() if value is not None}

    def named(self, inputs: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
        """Return the inputs by the names that the recipe has for them. Raises InvalidRequest for too many or too few."""
        found = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(self.inputs, inputs, strict=False))
        if set(found) != set(self.inputs) or len(inputs) != len(self.inputs):
            raise InvalidRequest(f"Recipe {self.name!r} takes {len(self.inputs)} inputs: {', '.join(self.inputs)}.")
        return {name: found[name] for name in self.inputs}

    def to_mapping(self) -> dict[str, Any]:
        """Return it as lists show it."""
        schema = self.parameters.model_json_schema()
        parameters = [
            {
                "name": name,
                "type": each.get("type") or " or ".join(map(str, each.get("enum", ("any",)))),
                "required": name in schema.get("required", ()),
                "default": each.get("default"),
            }
            for name, each in schema.get("properties", {}).items()
        ]
        plugin = self.function is not None
        return {"name": self.name, "says": self.says, "inputs": list(self.inputs), "parameters": parameters, "plugin": plugin}


class DerivedInput(BaseModel):
    """One version that a dataset was derived from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    """As it was named: an id follows what is shown, ``id@tag`` the tag, and ``id@version`` never moves."""
    dataset_id: str
    record_id: str
    version_id: str
    digest: str
    """sha256 of its manifest."""


class Derivation(BaseModel):
    """How a version was derived."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    params: dict[str, Any]
    """Every one that was bound, defaults included."""
    inputs: dict[str, DerivedInput]
    key: str
    """Of the datamanifest specification: see :func:`key_of`."""


def key_of(bound: Mapping[str, Any], inputs: Mapping[str, tuple[str, str]]) -> str:
    """Return the key of a result: of its parameters, and of each input's dataset and the digest of its version."""
    told = {name: {"dataset": dataset, "digest": digest} for name, (dataset, digest) in inputs.items()}
    return param_hash({**bound, "inputs": told})


def param_hash(table: Mapping[str, Any]) -> str:
    """Return the sha256 of a key table (datamanifest spec-v5.9): sorted keys, no spaces, UTF-8, floats as Python prints them.

    Raises
    ------
    ValueError
        For what the specification has no form of: null, NaN, infinities.
    """
    _check(table)
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check(value: Any) -> None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("a key has neither null nor numbers that are not finite")
    if isinstance(value, Mapping):
        for name, each in value.items():
            if not isinstance(name, str):
                raise ValueError("the names of a key are text")
            _check(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check(each)
    elif not isinstance(value, str | bool | int | float):
        raise ValueError(f"a key has no {type(value).__name__}")


def recipe_of(name: str, function: Callable[..., Any], inputs: Sequence[str] = ("data",)) -> Recipe:
    """Return the recipe of a plugin's function ``f(data, …, *, parameter=default)``, which returns an ``xarray.Dataset``.

    Raises
    ------
    ValueError
        For a function that cannot be named as ``module:name``, or whose arguments do not fit.
    """
    reference = f"{function.__module__}:{function.__qualname__}"
    if "<" in reference or function.__module__ == "__main__":
        raise ValueError("a recipe is a function of a module, which a child process can import")
    fields: dict[str, Any] = {}
    taken: list[str] = []
    for each in inspect.signature(function, eval_str=True).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise ValueError("a recipe names its parameters: *args and **kwargs cannot be part of a key")
        if each.kind is not each.KEYWORD_ONLY:
            taken.append(each.name)
            continue
        kind = Any if each.annotation is each.empty else each.annotation
        fields[each.name] = (kind, ... if each.default is each.empty else each.default)
    if tuple(taken) != tuple(inputs):
        raise ValueError(f"a recipe takes its inputs by position: {', '.join(inputs)}; this one takes {', '.join(taken) or 'none'}")
    says = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    return Recipe(name, create_model(name, __base__=Parameters, **fields), tuple(inputs), reference, says)


RECIPES: Mapping[str, Recipe] = {
    "normal": Recipe("normal", Reference, says="The mean of each month over the years start to end."),
    "anomaly": Recipe("anomaly", Anomaly, says="Each value less the mean of its month over the years start to end."),
    "resample": Recipe("resample", Resampling, says="One value for each period, by the cell_methods of each variable."),
}
"""Ours, by name."""
