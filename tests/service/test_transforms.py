"""Transforms of plugins: what is bound before anything is read, and what a function may return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes.functions import function_of
from cubeport.cubes.steps import TransformStep
from cubeport.cubes.transforms import transform
from cubeport.errors import InvalidRequest, PluginFailed
from cubeport.service.testing.transform import TransformContract
from cubeport.service.wanted import bound


def above(values: Any, *, base: float = 5.0) -> Any:
    """How much more than the base it is."""
    return np.maximum(values - base, 0)


def summed(values: Any, *, axis: int = 0) -> Any:
    return values.sum(axis)


def divided(values: Any) -> Any:
    return values / {}["nothing"]


def many(values: Any, *more: Any) -> Any:
    return values


INSTALLED = {name: function_of(name, each, 1, kind="transform") for name, each in {"above": above, "summed": summed}.items()}


class TestAbove(TransformContract):
    function = staticmethod(above)
    params = {"base": 10.0}  # noqa: RUF012 - read only


def steps(**plugin: Any) -> list[TransformStep]:
    return [TransformStep.model_validate({"plugin": plugin})]


def packed() -> xr.Dataset:
    values = np.array([[1, 2], [3, -1]], "int16")
    attributes = {"scale_factor": 10.0, "_FillValue": np.int16(-1), "units": "K", "valid_max": np.int16(3)}
    return xr.Dataset({"t": (("y", "x"), values, attributes)})


def test_parameters_are_bound_with_their_defaults_before_anything_is_read() -> None:
    found, functions = bound(steps(name="above", variables="t"), INSTALLED)
    assert found[0]["plugin"]["params"] == {"base": 5.0}
    assert functions == {"above": f"{__name__}:above"}


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ({"name": "below", "variables": "t"}, "No plugin provides a transform 'below'; installed: above, summed"),
        ({"name": "above", "variables": "t", "params": {"basis": 3}}, "basis: Extra inputs"),
        ({"name": "above", "variables": "t", "params": {"base": "warm"}}, "base: Input should be a valid number"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(plugin: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        bound(steps(**plugin), INSTALLED)


def test_values_are_unpacked_and_missing_ones_stay_missing() -> None:
    found = transform(packed(), [steps(name="above", variables="t", params={"base": 15}, units="K d")[0].plain()], {"above": above})
    np.testing.assert_array_equal(found.t.values, np.array([[0, 5], [15, np.nan]]))
    assert found.t.attrs["units"] == "K d"
    assert "scale_factor" not in found.t.attrs
    assert "valid_max" not in found.t.attrs


@pytest.mark.parametrize(
    ("function", "words"), [(summed, r"returned float\d\d of the shape \(2,\)"), (divided, "failed: KeyError: 'nothing'")]
)
def test_a_function_that_fails_is_named(function: Any, words: str) -> None:
    found = transform(packed(), [steps(name="x", variables="t")[0].plain()], {"x": function})
    with pytest.raises(PluginFailed, match=words):
        _ = found.t.values


@pytest.mark.parametrize("function", [lambda values: values, many, summed.__class__])
def test_a_function_that_a_child_cannot_call_is_no_transform(function: Any) -> None:
    with pytest.raises(ValueError, match=r"transform|signature"):
        function_of("x", function, 1, kind="transform")
