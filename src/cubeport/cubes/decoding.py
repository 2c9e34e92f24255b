"""Values as a reader sees them: unpacked, missing as NaN, characters joined to text. Times stay numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cubeport.errors import SourceRejected

if TYPE_CHECKING:
    import xarray as xr

_PACKING = {"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned"}
_REFERENCES = ("coordinates", "bounds", "grid_mapping", "climatology")


def opened(variable: Any, *, name: str, times: bool = False) -> tuple[Any, tuple[str, ...]]:
    """Return the variable as xarray decodes it (lazily if it is lazy), and the warnings of xarray.

    Parameters
    ----------
    variable
        Undecoded.
    name
        The name to use in the error message.
    times
        Whether to convert times to dates.

    Raises
    ------
    SourceRejected
        ``bad-coordinates``, if its attributes make decoding impossible, so that no reader could open it.
    """
    import xarray as xr

    attributes = {key: value for key, value in variable.attrs.items() if key not in _REFERENCES}
    dates = times and isinstance(units := attributes.get("units"), str) and "since" in units  # what xarray takes for dates
    if variable.dtype.kind in "fiu" and not dates and not {*_PACKING, "dtype", "_Encoding"} & set(attributes):
        return variable, ()
    bare = variable.copy(deep=False)
    bare.attrs = attributes
    with warnings.catch_warnings(record=True) as caught, _readable(name):
        warnings.simplefilter("always")
        found = xr.conventions.decode_cf_variable(name, bare, decode_times=times, decode_timedelta=False)
    return found, tuple(_told(str(each.message), variable) for each in caught)


def _told(message: str, variable: xr.Variable) -> str:
    """Return a warning of xarray on one line, in words where it shows Python."""
    if "multiple fill values" in message:
        marks = {key: variable.attrs[key] for key in ("_FillValue", "missing_value") if key in variable.attrs}
        return f"its {' and '.join(f'{key} {_shown(mark)}' for key, mark in marks.items())} are all read as missing"
    return " ".join(message.split())[:200]


def _shown(mark: Any) -> str:
    import numpy as np

    return ", ".join(f"{each}" for each in np.ravel(mark).tolist()[:5])


def whole(raw: xr.Dataset, *, times: bool) -> xr.Dataset:
    """Return the dataset as xarray opens it, lazily; *times* as in :func:`opened`. Raises SourceRejected as :func:`opened`."""
    import xarray as xr

    ours = raw.copy(deep=False)
    for variable in ours.variables.values():
        # xarray adds the units of an axis to the attributes of its bounds, which did not have them.
        variable.attrs = dict(variable.attrs)
    with warnings.catch_warnings(), _readable("dataset"):
        # These warnings are about packing and fill values; opened() returns them by variable.
        warnings.simplefilter("ignore")
        return xr.decode_cf(ours, decode_times=times, decode_timedelta=False)


def decoded(variable: Any, *, name: str = "coordinate") -> Any:
    """Return the values of one variable as a numpy array. Raises SourceRejected as :func:`opened`, ``bad-text`` for bad UTF-8."""
    import numpy as np

    found, _ = opened(variable, name=name)
    with _readable(name):
        values = np.asarray(found.values)
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(np.char.rstrip(values, b"\0 "), "utf-8", "strict")
    except UnicodeDecodeError:
        raise SourceRejected(f"the texts of {name!r} are not UTF-8", reason="bad-text") from None


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Convert the errors that xarray raises for inconsistent attributes to a refusal."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError) as exc:
        words = (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
        raise SourceRejected(
            f"{name!r} cannot be decoded by its attributes: {words}",
            reason="bad-coordinates",
            next_step=f"correct the attributes of {name!r} in the source",
        ) from exc
