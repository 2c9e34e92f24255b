"""The steps of ``normalise`` (change the form) and ``transforms`` (change values), as templates, requests and flags write them.

A step is a mapping with one key, such as ``rename: {a: b}``. Steps run in the given order. This module only defines them;
:mod:`cubeport.cubes.normalise` and :mod:`cubeport.cubes.transforms` apply them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


type Name = Annotated[str, Field(min_length=1, max_length=256)]
type Names = Annotated[tuple[Name, ...], BeforeValidator(_names), Field(min_length=1)]
"""One name, or several."""


class SetTime(_Part):
    """How to find the time of a source: exactly one of ``values``, ``from_name``, ``from_variable`` and ``from_attribute``, or
    only units and calendar.
    """

    variable: Name = "time"
    units: str | None = None
    """CF units of the numbers, such as ``days since 1950-01-01``."""
    calendar: str | None = None
    values: Annotated[tuple[float, ...] | None, BeforeValidator(_names)] = None
    """Numbers in ``units``, one for each step."""
    from_name: str | None = None
    """A pattern for the file name with ``{YYYY}``, ``{MM}``, ``{DD}``, ``{DOY}``, ``{hh}``, ``{mm}``. Each file is one step."""
    from_variable: Name | None = None
    """A variable with dates as whole numbers (``20240131``, ``2024031``, ``202401``) or ISO 8601 text."""
    from_attribute: Name | None = None
    """A global attribute with such a date, as ``time_coverage_start`` of ACDD. Each file is one step."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("values", "from_name", "from_variable", "from_attribute") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}")
        if not given and self.units is None and self.calendar is None:
            raise ValueError("give units, calendar, values, from_name, from_variable or from_attribute")
        if self.values is not None and self.units is None:
            raise ValueError("values need units, such as days since 1950-01-01")
        return self


class Positions(_Part):
    """The variables with the position of each cell: in the source itself, in another of its groups, or in a grid file."""

    longitude: Name
    latitude: Name
    file: Name | None = None
    """The name of a grid file among the sources. Its positions are those of every other source, and nothing else of it is taken."""
    group: str | None = None
    """The group with these variables, in each source or in *file*."""


class _Step(_Part):
    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        """Accept the name of a step without options, such as ``squeeze``."""
        return {value: True} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step has one key of {', '.join(type(self).model_fields)}")
        return self

    @model_serializer(mode="wrap")
    def _only_its_key(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    def plain(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        return self.model_dump(mode="json")


class NormaliseStep(_Step):
    """One step that changes the form of a source: names, order, attributes, or the meaning of its coordinates."""

    rename: dict[Name, Name] | None = None
    """Variables and dimensions to rename, by their old names."""
    drop: Names | None = None
    """Variables to remove."""
    squeeze: Names | Literal[True] | None = None
    """Dimensions of length 1 to remove; ``true`` removes all of them."""
    transpose: Names | None = None
    """Dimensions in their new order. Other dimensions follow."""
    sort: Names | None = None
    """Coordinates to sort in ascending order, or in descending order with a leading ``-``."""
    drop_missing: Names | None = None
    """Coordinates along one dimension; the steps whose label is missing are removed."""
    drop_duplicates: Names | None = None
    """Coordinates along one dimension; of the steps with the same label, only the last stays."""
    wrap_longitude: Literal[180, 360] | None = None
    """180 gives longitudes from -180 to 180, and 360 from 0 to 360. Columns are sorted."""
    decode_packed: Names | Literal[True] | None = None
    """Variables to store unpacked, without ``scale_factor`` and ``add_offset``."""
    set_dtype: dict[Name, Literal["float32", "float64"]] | None = None
    """The precision of variables with floating-point numbers. Each value is rounded to the nearest one that it has."""
    set_attributes: dict[Name, dict[Name, str | int | float | list[float] | tuple[float, ...] | None]] | None = None
    """Attributes to set, by variable, or by ``global`` for the file; ``null`` removes an attribute."""
    set_crs: str | None = None
    """The reference system of x and y, such as ``EPSG:3035``."""
    set_time: SetTime | None = None
    decode_periods: Annotated[dict[Name, Literal["whole", "parts"]] | None, BeforeValidator(lambda value: _periods(value))] = None
    """Coordinates that count months or years since a date; with ``parts``, a fraction is a part of its own month or year."""
    coordinate_units: dict[Name, str] | None = None
    """The units of the values of coordinates."""
    positions: Positions | None = None
    axes_from_transform: Literal[True] | tuple[float, float, float, float, float, float] | None = None
    """``true`` makes the labels of x and y from the transform that the file declares; six numbers are one as GDAL orders it."""
    scatter: Names | None = None
    """Dimensions with some cells of a grid (gathering, CF 8.2); fields get the whole grid, where all other cells are missing."""
    join_scalar_time: Name | None = None
    """The scalar coordinate that becomes a dimension, so that files with one image each can be joined along it."""
    ragged: Names | None = None
    """Sample dimensions of ragged arrays of stations (CF 9.3.3, 9.3.4); the observations become rows of stations and times."""
    tolerance: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """How much coordinates of two files may differ, as a share of a step. The default is 1e-5."""


def _periods(value: Any) -> Any:
    names = _names(value)
    return dict.fromkeys(names, "whole") if isinstance(names, tuple) else value


class Scale(_Part):
    """``value * factor + offset``."""

    factor: float = 1.0
    offset: float = 0.0
    units: str | None = None
    """The units of the result."""

    @model_validator(mode="after")
    def _finite(self) -> Self:
        if not (abs(self.factor) < float("inf") and abs(self.offset) < float("inf") and self.factor):
            raise ValueError("factor and offset are finite, and factor is not 0")
        return self


class Mask(_Part):
    """Values that become missing."""

    below: float | None = None
    above: float | None = None
    equal: Annotated[tuple[float, ...], BeforeValidator(lambda value: _several(value))] = ()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.below is None and self.above is None and not self.equal:
            raise ValueError("give below, above or equal")
        return self


class Deaccumulate(_Part):
    """How to convert sums since a start to sums of each step."""

    dimension: Name = "time"
    restarts: bool = True
    """Whether a sum that decreases has restarted; ``false`` keeps negative differences."""
    first: Literal["sum"] | None = None
    """``sum`` says that the first step of each source is a sum since its own start, also if the dataset has earlier steps."""


class PluginTransform(_Part):
    """A function of a plugin that changes the values of some variables."""

    name: Name
    variables: Names
    params: dict[str, Any] = {}
    units: str | None = None
    """The units of the result; without them, those that the variable has."""


class TransformStep(_Step):
    """One step that changes values. The result is stored as floating-point numbers, with missing values as NaN."""

    kelvin_to_celsius: Names | None = None
    celsius_to_kelvin: Names | None = None
    metres_to_mm: Names | None = None
    scale: dict[Name, Scale] | None = None
    convert_units: dict[Name, str] | None = None
    """The new units of each variable."""
    mask: dict[Name, Mask] | None = None
    deaccumulate: Annotated[dict[Name, Deaccumulate] | None, BeforeValidator(lambda value: _sums(value))] = None
    plugin: PluginTransform | None = None


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else _names(value)


def _sums(value: Any) -> Any:
    names = _names(value)
    return {name: {} for name in names} if isinstance(names, tuple) else value


def plain(steps: tuple[_Step, ...]) -> list[dict[str, Any]]:
    """Return steps as JSON values."""
    return [step.plain() for step in steps]


def parsed[S: _Step](model: type[S], steps: list[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """Return ``(name, value)`` for each step in the result of :func:`plain`."""
    found = [model.model_validate(step) for step in steps]
    return [(name, getattr(step, name)) for step in found for name in step.model_fields_set]
