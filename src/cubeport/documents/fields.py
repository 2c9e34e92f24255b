"""Select fields of documents (STAC API, Fields extension 1.0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = frozenset({"id", "type", "collection"})
"""The fields that are always included."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The dotted paths to include or exclude. Of a path and a longer one, the longer one applies."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str) -> Fields:
        """Return the fields of a text such as ``id,-geometry,+properties.title``."""
        parts = [part.strip() for part in text.split(",") if part.strip(" +-")]
        return cls(
            frozenset(part.lstrip("+") for part in parts if not part.startswith("-")),
            frozenset(part[1:] for part in parts if part.startswith("-")),
        )

    def of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the selected fields of *document*."""
        if not self.include and not self.exclude:
            return dict(document)
        return self._of(document, "", not self.include)

    def _of(self, document: Mapping[str, Any], path: str, kept: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in document.items():
            own = f"{path}{name}"
            here = True if own in self.include or own in KEPT else False if own in self.exclude else kept
            below = f"{own}."
            if isinstance(value, Mapping) and any(each.startswith(below) for each in (*self.include, *self.exclude)):
                part = self._of(value, below, here)
                if here or part:
                    found[name] = part
            elif here:
                found[name] = value
        return found


def of_all(documents: Iterable[Mapping[str, Any]], fields: Fields | None) -> list[dict[str, Any]]:
    """Return the selected fields of each document."""
    return [dict(each) if fields is None else fields.of(each) for each in documents]
