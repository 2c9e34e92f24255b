"""The engines that store versions, one module for each, found by name.

A module has three classes for the roles in ``cubeport.service.ports``: ``Writer``, ``Reader`` and ``Lister``. Their class method
``at`` makes them from a :class:`Place`. To add an engine, add a module and a line in :data:`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cubeport.errors import ExtraMissing

if TYPE_CHECKING:
    from cubeport.adapters.engines.objects import StoreObjects


class Engine(NamedTuple):
    """An engine of the table."""

    module: str
    extra: str = "service"
    """The extra that brings its libraries."""
    needs_store: bool = False
    """Whether its versions lie in an object store."""


ENGINES: Mapping[str, Engine] = {
    "zarr": Engine("cubeport.adapters.engines.zarr"),
    "icechunk": Engine("cubeport.adapters.engines.icechunk", extra="icechunk", needs_store=True),
}
"""The engines by name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the engines of an instance store versions."""

    data: Path
    """The data folder, on this machine."""
    roots: Sequence[Path] = ()
    """The folders that may contain files of virtual versions, as absolute paths."""
    objects: StoreObjects | None = None
    """Reads the objects of stores into which virtual versions point."""
    store: Callable[[], Any] | None = None
    """Returns the repositories in the object store of the setting ``profile``; ``None`` if it is null."""
    references: Callable[[str], str] = str
    """Returns the reference of a version, by its id: what its engine said when it was published."""
    digests: Callable[[str], str] = str
    """Returns the digest of a version, by its id: the sha256 of its manifest."""


def role(name: str, of: str, place: Place) -> Any:
    """Return the ``Writer``, ``Reader`` or ``Lister`` of an engine.

    Raises
    ------
    LookupError
        If there is no such engine.
    ExtraMissing, InvalidConfiguration
        If a library of the engine is not installed; if it needs an object store, and ``profile`` names none.
    """
    engine = ENGINES[name]
    try:
        module = import_module(engine.module)
    except ModuleNotFoundError as exc:
        raise ExtraMissing(
            f"The engine {name} needs {exc.name}, which is not installed.",
            next_step=f"pip install 'cubeport[{engine.extra}]'",
            what=engine.extra,
        ) from exc
    return getattr(module, of).at(place)
