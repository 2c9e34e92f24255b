"""How a caller names a record: by its id, its key, the first characters of its id, or the record itself."""

from __future__ import annotations

from typing import Protocol

from cubeport.errors import InvalidRequest


class HasId(Protocol):
    """A record, or the result of adding one."""

    @property
    def id(self) -> str: ...


type Named = str | HasId


def name_of(named: Named) -> str:
    """Return the text that names the record. Raises InvalidRequest for anything else."""
    found = named if isinstance(named, str) else getattr(named, "id", None)
    if not isinstance(found, str):
        raise InvalidRequest(
            f"Name a record by its id, a key, the first characters of its id or the record itself, not by a {type(named).__name__}."
        )
    return found
