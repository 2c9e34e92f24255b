"""Lineage: what a record was derived from, and what was derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.backend import Edge as StoredEdge
from cubeport.catalog.drafts import Edge
from cubeport.catalog.forms.canonical import is_id
from cubeport.catalog.models import CatalogRecord, Lineage
from cubeport.errors import InvalidRequest, RecordNotFound

Direction = Literal["up", "down", "both"]
_WAYS: Mapping[Direction, tuple[Literal["out", "in"], ...]] = {"up": ("out",), "down": ("in",), "both": ("out", "in")}


@dataclass(frozen=True, slots=True, repr=False)
class LineageGraph:
    """The lineage of one record."""

    root: str
    edges: tuple[StoredEdge, ...]
    records: Mapping[str, CatalogRecord | None]
    """The records by id; ``None`` for an id that no longer exists. URIs are not included."""

    def __repr__(self) -> str:
        return f"<LineageGraph of {self.root[:8]}: {len(self.edges)} edges, {len(self.records)} records>"

    def to_mapping(self) -> dict[str, Any]:
        """Return the graph as plain JSON values."""
        nodes = {
            key: None if r is None else {"id": key, "kind": r.kind, "title": r.title, "status": r.status}
            for key, r in self.records.items()
        }
        edges = [{"source": e.source, "rel": e.rel, "target": e.target} for e in self.edges]
        return {"root": self.root, "edges": edges, "records": nodes}


def lineage_of(
    backend: CatalogBackend, root: CatalogRecord, *, direction: Direction = "both", depth: int | None = None, rel: str | None = None
) -> LineageGraph:
    """Return what *root* was derived from (``up``) or what was derived from it (``down``), at most *depth* edges away."""
    edges: dict[StoredEdge, None] = {}
    for way in _WAYS[direction]:
        front, seen, level = {root.id}, {root.id}, 0
        while front and (depth is None or level < depth):
            found = [edge for each in sorted(front) for edge in backend.edges(each, way, rel)]
            edges |= dict.fromkeys(found)
            reached = {edge.target if way == "out" else edge.source for edge in found}
            front = set(filter(is_id, reached)) - seen
            seen |= front
            level += 1
    ids = {root.id}.union(*(filter(is_id, (edge.source, edge.target)) for edge in edges))
    return LineageGraph(root.id, tuple(edges), {each: backend.get_record(each) for each in sorted(ids)})


def edge_of(each: Edge, *, record_of: Callable[[Any], CatalogRecord], known: Sequence[str]) -> Lineage:
    """Return the lineage edge for a caller's edge. A target that is not a URI names a record. Raises InvalidRequest,
    RecordNotFound.
    """
    if not isinstance(each, Lineage):
        if not isinstance(each, Mapping):
            each = {"rel": each[0], "target": each[1]}
        each = Lineage.from_mapping({**each, "target": _target(each.get("target", ""), record_of)})
    if each.rel not in known:
        raise InvalidRequest(f"There is no relation {each.rel}; there are {', '.join(known)}.", next_step="cubeport plugins")
    return each


def _target(target: Any, record_of: Callable[[Any], CatalogRecord]) -> str:
    """Return the id of the record that *target* names, otherwise *target* as a URI. Keys, DOIs and handles can all contain
    colons.
    """
    try:
        return record_of(target).id
    except RecordNotFound:
        if isinstance(target, str) and ":" in target:
            return target
        raise
