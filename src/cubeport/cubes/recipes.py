"""Recipes of derived datasets: their inputs, their parameters, and the key that identifies a result.

The key is the hash of the datamanifest specification (spec-v5.9): sha256 of the canonical JSON of all bound parameters, including
defaults, and of the inputs by the digests of their versions. The specification keys a result within its recipe and the recipe's
version. So equal recipes, revisions and keys mean equal results on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cubeport.cubes.functions import Parameters, bind, function_of
from cubeport.cubes.periods import PERIOD_TYPES
from cubeport.errors import InvalidRequest

type Method = Literal["mean", "sum", "maximum", "minimum"]
"""How the values of a period are reduced to one value, by the names of CF's cell methods (7.3)."""

METHODS: tuple[Method, ...] = ("mean", "sum", "maximum", "minimum")


class Resampling(Parameters):
    """Parameters of ``resample``."""

    period_type: str
    """The period type of the result. It is coarser than that of the input."""
    method: Literal["cell_methods", "mean", "sum", "maximum", "minimum"] = "cell_methods"
    """The method; ``cell_methods`` uses what each variable's ``cell_methods`` says about time."""
    least: float = Field(1.0, gt=0, le=1)
    """The share of a period's steps that must be present in each cell."""
    partial: bool = False
    """Whether to keep periods at the ends that the input covers only in part."""

    @model_validator(mode="after")
    def _follows(self) -> Resampling:
        if self.period_type not in PERIOD_TYPES or self.period_type in ("irregular", "climatology", "none"):
            raise ValueError("period_type must be hourly, daily, weekly, pentad, dekadal, monthly, yearly or {n}-hourly")
        return self


class Reference(Parameters):
    """The reference years of a normal."""

    start: int = Field(ge=1, le=9999)
    """The first year."""
    end: int = Field(ge=1, le=9999)
    """The last year (included)."""
    least: float = Field(0.8, gt=0, le=1)
    """The share of the steps that must be present in each cell and month."""

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
    """A way to make a dataset from others."""

    name: str
    parameters: type[BaseModel]
    inputs: tuple[str, ...] = ("data",)
    """The names of its inputs, in order."""
    function: str | None = None
    """``module:name`` of a plugin's function; ``None`` for the recipes of cubeport."""
    says: str = ""
    """One sentence that describes its result."""
    revision: int = 1
    """Counts the changes that give other results of the same parameters and inputs. A result of another revision is stale."""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters, including defaults, as JSON values. Parameters without a value (null) are omitted.

        Raises
        ------
        InvalidRequest
            With all parameters that are unknown, missing or wrong.
        """
        return bind(self.parameters, given, f"Recipe {self.name!r}", next_step="cubeport recipes")

    def named(self, inputs: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
        """Return the inputs by the recipe's names for them. Raises InvalidRequest if there are too many or too few."""
        found = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(self.inputs, inputs, strict=False))
        if set(found) != set(self.inputs) or len(inputs) != len(self.inputs):
            raise InvalidRequest(f"Recipe {self.name!r} takes {len(self.inputs)} inputs: {', '.join(self.inputs)}.")
        return {name: found[name] for name in self.inputs}

    def to_mapping(self) -> dict[str, Any]:
        """Return the recipe as lists show it."""
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
    """The reference as given: an id follows the published version, ``id@tag`` follows the tag, and ``id@version`` never changes."""
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
    """All bound parameters, including defaults."""
    inputs: dict[str, DerivedInput]
    key: str
    """The key of the datamanifest specification; see :func:`key_of`."""
    revision: int = 1
    """The revision of the recipe."""

    def is_same(self, other: Derivation | None) -> bool:
        """Return whether *other* gives the same result: the same recipe and revision, and the same key."""
        return other is not None and (self.recipe, self.revision, self.key) == (other.recipe, other.revision, other.key)


def key_of(bound: Mapping[str, Any], inputs: Mapping[str, tuple[str, str]]) -> str:
    """Return the key of a result from its parameters and from the dataset and version digest of each input."""
    told = {name: {"dataset": dataset, "digest": digest} for name, (dataset, digest) in inputs.items()}
    return param_hash({**bound, "inputs": told})


def param_hash(table: Mapping[str, Any]) -> str:
    """Return the sha256 of a key table (datamanifest spec-v5.9): sorted keys, no spaces, UTF-8, floats in Python's format.

    Raises
    ------
    ValueError
        For values that the specification cannot express: null, NaN and infinities.
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


def recipe_of(name: str, function: Callable[..., Any], inputs: Sequence[str] = ("data",), *, revision: int = 1) -> Recipe:
    """Return the recipe for a plugin's function ``f(data, …, *, parameter=default)``, which returns an ``xarray.Dataset``.

    Raises
    ------
    ValueError
        If the function has no name of the form ``module:name``, or its arguments do not fit.
    """
    found = function_of(name, function, inputs, kind="recipe")
    return Recipe(name, found.parameters, tuple(inputs), found.reference, found.says, revision)


RECIPES: Mapping[str, Recipe] = {
    "normal": Recipe("normal", Reference, says="The mean of each month over the years start to end."),
    "anomaly": Recipe("anomaly", Anomaly, says="Each value less the mean of its month over the years start to end."),
    "resample": Recipe(
        "resample",
        Resampling,
        says="One value for each period, by the cell_methods of each variable.",
        revision=2,  # periods with holes are no longer taken for whole
    ),
}
"""The recipes of cubeport, by name."""
