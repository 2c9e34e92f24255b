"""Who may see a record, by its ``visibility``. Anyone who opens the catalog itself sees everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Audience:
    """Readers who see only some records.

    Parameters
    ----------
    visibilities
        The values of ``visibility`` that they see.
    unstated
        Whether they see records without ``visibility``.
    name
        Their own name. They see all records that were created under it.
    """

    visibilities: frozenset[str] = frozenset({"public"})
    unstated: bool = True
    name: str | None = None

    def sees(self, visibility: str | None, created_by: str | None) -> bool:
        """Return whether they see a record with this visibility, created by this name."""
        if self.name is not None and created_by == self.name:
            return True
        return self.unstated if visibility is None else visibility in self.visibilities
