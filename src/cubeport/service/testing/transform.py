"""The contract of a transform as tests. They need pytest.

A third party inherits the class and gives its function and parameters::

    class TestOurs(TransformContract):
        function = staticmethod(growing_degrees)
        params = {"base": 5.0}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import pytest

from cubeport.cubes.functions import PluginFunction, function_of


class TransformContract:
    """The contract on which the service relies: the function changes each value by itself.

    cubeport reads a variable piece by piece, and an update reads only the new steps. So the result of a value must not depend on
    its neighbours.
    """

    function: ClassVar[Callable[..., Any]]
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def described(self) -> PluginFunction:
        """Return the function with its parameters, as cubeport finds them."""
        return function_of("ours", self.function, 1, kind="transform")

    @pytest.fixture(params=["float32", "float64"])
    def values(self, request: pytest.FixtureRequest) -> np.ndarray[Any, Any]:
        """Return values (time, y, x) of which some are missing; override it if the function takes a smaller range."""
        found = np.linspace(-50, 350, 4 * 3 * 5).reshape(4, 3, 5).astype(request.param)
        found[1, 1, 1:3] = np.nan
        return found

    def apply(self, described: PluginFunction, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the result of the function."""
        return np.asarray(self.function(values, **described.bind(self.params)))

    def test_a_child_process_can_import_it(self, described: PluginFunction) -> None:
        module, _, name = described.reference.partition(":")
        assert attrgetter(name)(import_module(module)) is self.function

    def test_the_result_is_numbers_in_the_same_shape(self, described: PluginFunction, values: np.ndarray[Any, Any]) -> None:
        found = self.apply(described, values)
        assert found.shape == values.shape
        assert found.dtype.kind in "iuf"

    def test_each_value_is_changed_by_itself(self, described: PluginFunction, values: np.ndarray[Any, Any]) -> None:
        whole = self.apply(described, values.copy())
        for part in (np.s_[0:1], np.s_[2:], np.s_[:, 1:2, ::2], np.s_[3:4, 0:1, 0:1]):
            np.testing.assert_array_equal(self.apply(described, values[part].copy()), whole[part])

    def test_it_leaves_its_argument_as_it_is(self, described: PluginFunction, values: np.ndarray[Any, Any]) -> None:
        before = values.copy()
        self.apply(described, values)
        np.testing.assert_array_equal(values, before)

    def test_the_same_twice_is_the_same(self, described: PluginFunction, values: np.ndarray[Any, Any]) -> None:
        np.testing.assert_array_equal(self.apply(described, values.copy()), self.apply(described, values.copy()))
