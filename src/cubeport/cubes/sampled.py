"""A version at separate places: each has the values of the cell that contains it, or missing values if none does.

The places are one dimension, in the order in which they were asked for, so each output form has one value for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, CubeDescription, Variable
from cubeport.cubes.fills import missing_in, number_type, unused
from cubeport.cubes.part import Deadline, OpenedCube
from cubeport.cubes.windows import UNKNOWN, IndexRange, Labels, Mask, Points, Window, Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_LABELS = ("standard_name", "long_name", "units")


def view(opened: OpenedCube, windows: Windows) -> tuple[Sampled, Windows]:
    """Return the version at ``windows.points``, and its windows: those of the other dimensions, and all places."""
    points = windows.points
    assert points is not None  # the caller asked for several points
    seen = Sampled(opened, windows.fields, points)
    along = {name: window for name, window in windows.along.items() if name not in points.dimensions}
    along[points.name] = Window(points.name, (IndexRange(0, len(points.x)),))
    return seen, replace(windows, along=along, points=None)


class Sampled:
    """The result of :func:`view`: an open version with one dimension of places instead of those of its cells."""

    def __init__(self, base: OpenedCube, fields: tuple[str, ...], points: Points) -> None:
        self._base = base
        self._fields = fields
        self._points = points
        self._cells = set(points.dimensions)
        spatial = base.description.spatial
        self._x, self._y = str(spatial.x), str(spatial.y)
        self._outside = not bool(points.inside.all())
        self._variables = {each.name: each for each in base.description.variables if each.name in fields or self._stays(each)}

    def _stays(self, variable: Variable) -> bool:
        """Return whether a variable other than a field is part of the version: one without cells, or one that each cell has."""
        cut = self._cells & set(variable.dimensions)
        if variable.name in (self._x, self._y) or variable.role == "data":
            return False
        if not cut:
            return self._attributes(variable.name).get("cf_role") != "mesh_topology"
        whole = cut == self._cells and variable.role in ("auxiliary", "coordinate")
        return whole and not str(self._attributes(variable.name).get("cf_role", "")).endswith("connectivity")

    def _attributes(self, name: str) -> Mapping[str, Any]:
        return self._base.attributes(name) if name in self._base.names() else {}

    def _is_sampled(self, name: str) -> bool:
        return name in self._fields or (bool(self._cells) and self._cells <= set(self._base.dimensions(name)))

    def touched(self, windows: Windows) -> int:
        """Return how many chunks the places of *windows* are in."""
        import numpy as np

        found = 0
        index = self._points.index[self._points.inside]
        for name in windows.fields:
            variable = self._base.description.variable(name)
            lengths = {each: max(1, size) for each, size in zip(variable.dimensions, variable.chunks, strict=True)}
            at = index // np.array([lengths[each] for each in self._points.dimensions], "int64")
            whole = math.prod(windows.along[each].chunks(size) for each, size in lengths.items() if each not in self._cells)
            found += whole * len(np.unique(at, axis=0) if self._cells else at[:1])
        return found

    # --- description ---

    @cached_property
    def description(self) -> CubeDescription:
        base, name = self._base.description, self._points.name
        others = tuple(axis for axis in base.axes if axis.kind not in ("x", "y") and axis.dimension not in self._cells)
        axes = (*others, *(each.model_copy(update={"dimension": name, "size": self._size}) for each in self._axes_of_cells()))
        if all(axis.dimension != name for axis in axes):
            axes = (*axes, Axis(name=name, dimension=name, kind="index", size=self._size))
        own = base.spatial
        changes: dict[str, Any] = {"family": "unstructured", "dimensions": (name,), "reach": None, "native_bbox": None}
        if own.family != "projected":
            changes |= {"to_crs": 1.0}
        temporal = base.temporal
        if temporal is not None and temporal.dimensions:
            temporal = temporal.model_copy(update={"dimensions": self._dimensions_of(temporal.dimensions)})
        made = (*map(self._described, self._variables.values()), *(self._coordinate(each) for each in (self._y, self._x)))
        return base.model_copy(
            update={
                "axes": axes,
                "variables": made,
                "fields": self._fields,
                "spatial": own.model_copy(update=changes),
                "temporal": temporal,
                "grids": (),
                "overview_levels": 0,
            }
        )

    @property
    def _size(self) -> int:
        return len(self._points.x)

    def _axes_of_cells(self) -> tuple[Axis, ...]:
        """Return the axes with a label for each cell, such as the names of stations and the times of a way."""
        if len(self._cells) != 1:
            return ()
        labels = self._base.labels().values
        return tuple(
            axis
            for axis in self._base.description.axes
            if axis.dimension in self._cells and axis.kind not in ("x", "y", "index") and not axis.scalar and axis.name in labels
        )

    def _described(self, variable: Variable) -> Variable:
        if not self._is_sampled(variable.name):
            return variable
        lengths = dict(zip(variable.dimensions, variable.shape, strict=True))
        chunks = dict(zip(variable.dimensions, variable.chunks, strict=True))
        dimensions, name = self._dimensions_of(variable.dimensions), self._points.name
        filled = self._fill(variable.name) is not None and variable.decoded_dtype[:1] in "iub"
        return variable.model_copy(
            update={
                "dimensions": dimensions,
                "shape": tuple(self._size if each == name else lengths[each] for each in dimensions),
                "chunks": tuple(self._size if each == name else chunks[each] for each in dimensions),
                "dtype": "uint8" if variable.dtype == "bool" else variable.dtype,
                "decoded_dtype": "float64" if filled else variable.decoded_dtype,
            }
        )

    def _dimensions_of(self, dimensions: Iterable[str]) -> tuple[str, ...]:
        given = tuple(dimensions)
        return (*(each for each in given if each not in self._cells), self._points.name) if self._cells <= set(given) else given

    def _coordinate(self, name: str) -> Variable:
        attributes = self.attributes(name)
        return Variable(
            name=name,
            role="coordinate",
            dimensions=(self._points.name,),
            shape=(self._size,),
            chunks=(self._size,),
            dtype="float64",
            decoded_dtype="float64",
            **{key: attributes[key] for key in _LABELS if isinstance(attributes.get(key), str)},
        )

    # --- an open version ---

    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.description.variables)

    def needed(self, fields: Iterable[str]) -> list[str]:
        asked = list(fields)
        wanted = {*self._base.needed(asked), *asked, self._x, self._y}
        return [name for name in self.names() if name in wanted]

    def dimensions(self, name: str) -> tuple[str, ...]:
        if name in (self._x, self._y):
            return (self._points.name,)
        own = self._base.dimensions(name)
        return self._dimensions_of(own) if self._is_sampled(name) else own

    def shape(self, name: str) -> tuple[int, ...]:
        if name in (self._x, self._y):
            return (self._size,)
        lengths = dict(zip(self._base.dimensions(name), self._base.shape(name), strict=True))
        return tuple(self._size if each == self._points.name else lengths[each] for each in self.dimensions(name))

    def dtype(self, name: str) -> Any:
        import numpy as np

        return np.dtype("f8") if name in (self._x, self._y) else number_type(self._base.dtype(name))

    def attributes(self, name: str) -> Mapping[str, Any]:
        if name in (self._x, self._y):
            own = {key: value for key, value in self._attributes(name).items() if key in _LABELS}
            if self._base.description.spatial.family == "projected":
                return own
            word, units = ("longitude", "degrees_east") if name == self._x else ("latitude", "degrees_north")
            return {**own, "standard_name": word, "units": units}
        found = dict(self._base.attributes(name))
        if name in self._fields:
            words = [word for word in str(found.get("coordinates", "")).split() if word in self._variables]
            found["coordinates"] = " ".join([*words, self._y, self._x])
            for word in ("mesh", "location", "cell_measures"):
                found.pop(word, None)
        if (fill := self._fill(name)) is not None:
            found["_FillValue"] = fill
        return found

    def global_attributes(self) -> Mapping[str, Any]:
        return self._base.global_attributes()

    @cached_property
    def _labels(self) -> Labels:
        base, description = self._base.labels(), self._base.description
        straight = {axis.name for axis in description.axes if axis.dimension in self._cells or axis.kind in ("x", "y")}
        spatial, temporal = description.spatial, description.temporal
        values = {name: each for name, each in base.values.items() if name not in straight}
        bounds = {name: each for name, each in base.bounds.items() if name not in straight}
        for axis in self._axes_of_cells():
            values[axis.name] = self._each(base.values[axis.name])
        if spatial.z is not None and description.cell_dimensions == self._points.dimensions:
            values[spatial.z] = self._each(base.values[spatial.z])
        if temporal is not None and temporal.dimensions and self._cells <= set(temporal.dimensions):
            along = base.values[temporal.axis]
            cells = [temporal.dimensions.index(each) for each in self._points.dimensions]
            others = [at for at in range(along.ndim) if at not in cells]
            values[temporal.axis] = self._each(along.transpose(others + cells))
        return Labels({**values, self._x: self._points.x, self._y: self._points.y}, bounds)

    def labels(self) -> Labels:
        return self._labels

    def _each(self, values: Array) -> Array:
        """Return labels ``(…, cells)`` at each place, ``(…, places)``; of places without a cell they are unknown."""
        import numpy as np

        found = values[(..., *np.where(self._points.inside[:, None], self._points.index, 0).T)]
        if not self._outside:
            return np.asarray(found)
        if found.dtype.kind in "iu":
            unknown: Any = UNKNOWN
        else:
            unknown = np.nan if found.dtype.kind == "f" else ""
        return np.where(self._points.inside, found, np.asarray(unknown, found.dtype))

    def decode(self, name: str, raw: Array) -> Array:
        import numpy as np

        if name in (self._x, self._y):
            return raw
        decoded, fill = self._base.decode(name, raw), self._fill(name)
        return decoded if fill is None else np.where(raw == np.asarray(fill, raw.dtype), np.nan, decoded.astype("f8"))

    def decode_like(self, name: str, values: Array) -> Array:
        return self._base.decode_like(name, values)

    def _fill(self, name: str) -> float | None:
        """Return the fill value for a variable that has none of its own, if some places are outside the data."""
        if not self._outside or not self._is_sampled(name) or {"_FillValue", "missing_value"} & self._base.attributes(name).keys():
            return None
        dtype = self.dtype(name)
        return None if dtype.kind not in "iu" else unused(self._base.description.variable(name), dtype, self._base.attributes(name))

    def raw(
        self,
        name: str,
        along: Mapping[str, Window],
        *,
        deadline: Deadline = lambda: None,
        mask: Mask | None = None,  # noqa: ARG002 (of places, only the chunks of their cells are read)
    ) -> Array:
        import numpy as np

        window, points = along.get(self._points.name), self._points
        taken = np.arange(self._size) if window is None else window.indices()
        if name in (self._x, self._y):
            return np.asarray((points.x if name == self._x else points.y)[taken])
        others = {each: window for each, window in along.items() if each != points.name}
        if not self._is_sampled(name):
            return self._base.raw(name, others, deadline=deadline)
        inside = points.inside[taken]
        values = self._base.cells(name, others, points.dimensions, points.index[taken][inside], deadline=deadline)
        values = values.astype(number_type(values.dtype), copy=False)
        if inside.all():
            return values
        unknown: Any = missing_in(self.attributes(name), values.dtype) if values.dtype.kind in "iuf" else ""
        found = np.full((*values.shape[:-1], len(taken)), unknown, dtype=values.dtype)
        found[..., inside] = values
        return found

    def cut(self, windows: Windows, *, deadline: Deadline = lambda: None) -> Cut:
        import numpy as np

        name, labels = self._points.name, self.labels().values
        taken = windows.along[name].indices()
        others = {each: window for each, window in windows.along.items() if each != name}
        base = self._base.cut(replace(windows, fields=(), along=others, mask=None), deadline=deadline)
        found = {each: values for each, values in base.labels.items() if each in labels and each not in (self._x, self._y)}
        found |= {axis.name: labels[axis.name][taken] for axis in self._axes_of_cells()}
        values = {each: self.decode(each, self.raw(each, windows.along, deadline=deadline)) for each in windows.fields}
        for each, of in values.items():
            if of.dtype.kind not in "iufb" and self._outside:
                texts = of.astype(object)
                texts[..., ~self._points.inside[taken]] = None
                values[each] = texts
        temporal, z = self.description.temporal, self.description.spatial.z
        times = None
        if temporal is not None and name in temporal.dimensions:
            times = labels[temporal.axis][np.ix_(*(windows.along[each].indices() for each in temporal.dimensions))]
        heights = labels[z][taken] if z is not None and z in labels else None
        positions = self._points.x[taken], self._points.y[taken]
        bounds = {each: edges for each, edges in base.bounds.items() if each in found}
        return Cut(self.description, windows, found, bounds, values, positions, times, heights)
