"""Functions of plugins, imported in a confined child."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any


def imported(reference: str) -> Any:
    """Return the function of ``module:name``. Raises ImportError or AttributeError if it does not exist here."""
    module, _, name = reference.partition(":")
    return attrgetter(name)(import_module(module))
