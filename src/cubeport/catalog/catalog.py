"""The catalog class, the public interface of the core. Every command is one call of it plus formatting."""

from __future__ import annotations

from cubeport.catalog.front.additions import Additions
from cubeport.catalog.front.batches import Batches
from cubeport.catalog.front.changes import Changes
from cubeport.catalog.front.contents import Contents
from cubeport.catalog.front.descriptions import Descriptions
from cubeport.catalog.front.exchange import Exchange


class Catalog(Additions, Changes, Contents, Descriptions, Batches, Exchange):
    """An open catalog. ``main`` makes it; use it as a context manager, or close it.

    Its methods are in the modules of :mod:`cubeport.catalog.front`, one for each subject.
    """
