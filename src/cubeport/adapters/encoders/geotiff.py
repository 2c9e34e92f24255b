"""GeoTIFF (OGC 19-008r4): one step and one level on regular axes, with fields as bands and the northern row first.

Values are decoded. The reference system is given by its EPSG code, or, without a code, as well-known text that GDAL reads from a
citation ("ESRI PE String").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from cubeport.cubes.cells import exact
from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Part
from cubeport.cubes.windows import storage_crs, time_axis, turned_labels
from cubeport.documents.markup import escape
from cubeport.errors import NotAcceptable

if TYPE_CHECKING:
    type Array = NDArray[Any]

_FRAME_BYTES = 8_000
"""The approximate size of a file without its values, in bytes."""
_EVEN = 1e-3
"""How far labels may deviate from even spacing, as a share of a step, because of rounding in single precision."""
_WIDER = {"float16": "float32", "bool": "uint8"}
"""Types that TIFF readers do not support, and the types that replace them."""

_PIXEL_SCALE, _TIE_POINT, _GEO_KEYS, _GEO_TEXTS, _GDAL_METADATA, _GDAL_NODATA = 33550, 33922, 34735, 34737, 42112, 42113
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _PROJECTED_CITATION = 1024, 1025, 2048, 3072, 3073
_PIXEL_IS_AREA, _USER_DEFINED = 1, 32767


class _GeoTIFF(Encoder):
    def size(self, part: Part) -> int:
        return part.cost.bytes + _FRAME_BYTES

    def check(self, part: Part) -> None:
        for axis in _axes(part):
            _spacing(part, axis)
        _geo_keys(part.description)

    def encode(self, part: Part, room: Room, deadline: Deadline) -> BinaryIO:
        x, y = _axes(part)
        keys, text = _geo_keys(part.description)
        cut = part.opened.cut(part.windows, deadline=deadline)
        columns, rows = _spacing(part, x), _spacing(part, y)
        bands = _bands(cut, x, y, (columns[1] < 0, rows[1] > 0))
        across, down = abs(columns[1]), abs(rows[1])
        west, north = float(columns[0].min()) - across / 2, float(rows[0].max()) + down / 2
        factor = part.description.spatial.axis_factor
        tags = [
            (_PIXEL_SCALE, "d", 3, (across * factor, down * factor, 0.0), True),
            (_TIE_POINT, "d", 6, (0.0, 0.0, 0.0, west * factor, north * factor, 0.0), True),
            (_GEO_KEYS, "H", len(keys), keys, True),
            *([(_GEO_TEXTS, "s", 0, text, True)] if text else []),
            (_GDAL_METADATA, "s", 0, _described(part), True),
            *([(_GDAL_NODATA, "s", 0, "nan", True)] if bands.dtype.kind == "f" else []),
        ]
        target = room.open(self.size(part))
        try:
            tifffile.imwrite(
                target,
                bands,
                photometric="minisblack",
                planarconfig="separate" if len(bands) > 1 else None,
                compression="adobe_deflate",
                metadata=None,
                software="cubeport",
                extratags=tags,
            )
            return room.finished(target)
        except BaseException:
            try:
                room.finished(target)  # tifffile fails on a full disk with an unrelated error
            finally:
                target.close()
            raise


ENCODER = _GeoTIFF()


def _axes(part: Part) -> tuple[Axis, Axis]:
    """Return x and y. Raises NotAcceptable, with the next step, if the part is not one plane on regular axes."""
    description, windows = part.description, part.windows
    spatial = description.spatial
    if spatial.family not in ("rectilinear", "projected") or windows.scattered:
        words = "GeoTIFF needs cells on straight axes, and these have positions of their own."
        step = "Request f=netcdf or f=csv." if part.point else "Ask a coverage or a cube with crs=EPSG:4326 as well, or f=netcdf."
        raise NotAcceptable(words, next_step=step)
    x, y = description.axis(str(spatial.x)), description.axis(str(spatial.y))
    for name in windows.fields:
        variable = description.variable(name)
        if not {x.dimension, y.dimension} <= set(variable.dimensions):
            raise NotAcceptable(f"{name} does not lie along x and y.", next_step="Choose other fields with properties.")
        for dimension in variable.dimensions:
            if dimension not in (x.dimension, y.dimension) and windows.along[dimension].size > 1:
                axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
                label = dimension if axis is None else axis.name
                words = f"A GeoTIFF has one value at each place, and {name} has {windows.along[dimension].size} along {label}."
                dated = axis is not None and axis is time_axis(description)
                raise NotAcceptable(words, next_step=f"Choose one with {'datetime or ' if dated else ''}subset={label}(…).")
        if variable.decoded_dtype[:1] not in "iufb":
            raise NotAcceptable(f"{name} is text.", next_step="Choose other fields with properties.")
    return x, y


def _spacing(part: Part, axis: Axis) -> tuple[Array, float]:
    """Return the labels of an axis and its signed step. Raises NotAcceptable if the labels are not evenly spaced."""
    whole, window = part.opened.labels(), part.windows.along[axis.dimension]
    labels = exact(np.atleast_1d(turned_labels(whole.values[axis.name], window)))
    if len(labels) == 1:
        given = whole.bounds.get(axis.name)
        edges = None if given is None else turned_labels(given, window)
        step = float(np.ptp(edges)) if edges is not None else axis.step
        if not step:
            raise NotAcceptable(f"The width of the only cell along {axis.name} is unknown.", next_step="Request f=netcdf instead.")
        return labels, float(step)
    step = float(labels[-1] - labels[0]) / (len(labels) - 1)
    if np.abs(labels - (labels[0] + step * np.arange(len(labels)))).max() > _EVEN * abs(step):
        raise NotAcceptable(
            f"GeoTIFF needs evenly spaced cells, and those along {axis.name} are not.",
            next_step="Request f=netcdf, or add crs=EPSG:4326 for even cells.",
        )
    return labels, step


def _bands(cut: Cut, x: Axis, y: Axis, turned: tuple[bool, bool]) -> Array:
    """Return the values as (field, row, column), from north to south and from west to east. Cells outside an area are missing."""
    planes = []
    for name in cut.windows.fields:
        dimensions = cut.description.variable(name).dimensions
        plane = cut.values[name]
        mask = cut.windows.mask
        if mask is not None and set(mask.dimensions) <= set(dimensions):
            plane = np.where(mask.aligned(dimensions), plane, np.array(np.nan, "float32"))
        order = [dimensions.index(y.dimension), dimensions.index(x.dimension)]
        others = [at for at in range(plane.ndim) if at not in order]
        plane = plane.transpose([*others, *order]).reshape(plane.shape[order[0]], plane.shape[order[1]])
        plane = plane[:, ::-1] if turned[0] else plane
        plane = plane[::-1] if turned[1] else plane
        planes.append(plane.astype(_WIDER.get(plane.dtype.name, plane.dtype), copy=False))
    kind = np.result_type(*planes)
    return np.ascontiguousarray(np.stack([plane.astype(kind, copy=False) for plane in planes]))


def _geo_keys(description: CubeDescription) -> tuple[tuple[int, ...], str]:
    """Return the GeoKeyDirectory and its texts. Raises NotAcceptable if GeoTIFF cannot express the reference system."""
    code, crs = storage_crs(description), description.spatial.crs
    if description.spatial.family == "projected" and crs is not None and crs.authority is not None:
        code = crs.authority  # pixels are in its units, whatever the units of the labels are
    authority, _, number = ("EPSG", "", "4326") if code == "OGC:CRS84" else code.partition(":")
    if authority == "EPSG" and number.isdigit() and int(number) < _USER_DEFINED:
        geographic = code == "OGC:CRS84" or (crs is not None and crs.geographic)
        keys = [
            (_MODEL_TYPE, 0, 1, 2 if geographic else 1),
            (_RASTER_TYPE, 0, 1, _PIXEL_IS_AREA),
            (_GEOGRAPHIC if geographic else _PROJECTED, 0, 1, int(number)),
        ]
        return _directory(keys), ""
    text = _esri(crs.wkt2 if crs is not None else None)
    if text is None:
        raise NotAcceptable("GeoTIFF cannot store this reference system.", next_step="Add crs=EPSG:4326, or request f=netcdf.")
    words = f"ESRI PE String = {text}|"
    keys = [
        (_MODEL_TYPE, 0, 1, _USER_DEFINED),
        (_RASTER_TYPE, 0, 1, _PIXEL_IS_AREA),
        (_PROJECTED_CITATION, _GEO_TEXTS, len(words), 0),
    ]
    return _directory(keys), words


def _directory(keys: list[tuple[int, int, int, int]]) -> tuple[int, ...]:
    return (1, 1, 0, len(keys), *(number for key in keys for number in key))


def _esri(wkt: str | None) -> str | None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_wkt(wkt or "")
        return str(crs.to_wkt("WKT1_ESRI")) if crs.is_projected else None
    except CRSError:
        return None


def _described(part: Part) -> str:
    """Return the names and units of the bands in GDAL's format."""
    items = []
    for number, name in enumerate(part.windows.fields):
        variable = part.description.variable(name)
        items.append(f'<Item name="DESCRIPTION" sample="{number}" role="description">{escape(name)}</Item>')
        if variable.units:
            items.append(f'<Item name="UNITTYPE" sample="{number}" role="unittype">{escape(variable.units)}</Item>')
        if variable.long_name:
            items.append(f'<Item name="long_name" sample="{number}">{escape(variable.long_name)}</Item>')
    return f"<GDALMetadata>{''.join(items)}</GDALMetadata>".encode("ascii", "xmlcharrefreplace").decode()
