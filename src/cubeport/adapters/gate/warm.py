"""Done once in the template, not by each child: what the libraries of the tasks look up the first time that they are used.

No source is opened, no descriptor and no thread is left. A small file costs a child a third less for it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

_LAZY = (
    "cubeport.adapters.gate.measure",
    "cubeport.adapters.gate.write",
    "cubeport.adapters.sources.zarrstore",
    "cubeport.documents.geojson",
    "cubeport.documents.stac_sealing",
    "encodings.ascii",
    "h5py._hl.dims",
)
"""Modules that are imported only when they are needed, which in a child is always."""


def warm() -> None:
    """Look up what stays: modules, the reference system of most grids."""
    for name in _LAZY:
        importlib.import_module(name)
    from cubeport.cubes.crs import crs84

    crs84()
    # What is here now is never garbage: no child need look at it, and copy its pages for that.
    gc.collect()
    gc.freeze()


# The template only imports; without the libraries of netCDF and Zarr it has nothing to do here.
with contextlib.suppress(ImportError):
    warm()
