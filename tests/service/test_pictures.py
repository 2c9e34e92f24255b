"""Pictures of datasets that have none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes.describe import describe
from cubeport.errors import NotFound
from cubeport.service.pictures import Pictures


class NoVersions:
    def open(self, *_: Any) -> Any:
        raise AssertionError("what has no place is not opened")


def test_what_has_no_place_has_no_dimensions_of_a_map() -> None:
    lon = ("lon", np.arange(3.0), {"units": "degrees_east", "standard_name": "longitude"})
    shown: Any = SimpleNamespace(description=describe(xr.Dataset({"t": ("lon", np.zeros(3))}, {"lon": lon})))
    with pytest.raises(NotFound):
        Pictures(NoVersions()).dimensions(shown, "t")  # type: ignore[arg-type]  # a fake
