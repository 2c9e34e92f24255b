"""The bounds that every source is held to, as one frozen value that is passed down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from cubeport.errors import SourceRejected

GIB = 2**30
MIB = 2**20

SANDBOXES = ("prefer", "require", "off")

SETTINGS = {
    "declared_bytes": "limits.declared_bytes",
    "expansion": "limits.expansion",
    "memory_bytes": "gate.memory_bytes",
    "base_s": "gate.base_s",
}
"""The limits that an operator can set, by field of :class:`SourceLimits`; the others are rules of the gate."""


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Every limit with its safe default; a refusal names the setting or rule, the limit and the value that broke it."""

    declared_bytes: int = 50 * GIB
    """Decoded size that a source may declare: Σ product(shape) × itemsize."""
    expansion: int = 1_000
    """How many times its own size a source may declare; never less than :attr:`small_bytes`."""
    small_bytes: int = 16 * MIB
    """What any source may declare, however small it is: an empty mask of 10 kB is an honest file."""
    chunk_bytes: int = 256 * MIB
    chunks: int = 1_000_000
    dimensions: int = 64
    objects: int = 2_000
    depth: int = 32
    item_bytes: int = 1_024
    json_bytes: int = 4 * MIB
    json_depth: int = 32
    text_bytes: int = 4 * MIB
    """All attributes of a source together."""
    filters: int = 8
    """Filters or codecs of one array."""

    memory_bytes: int = 3 * GIB
    base_s: int = 60
    bytes_per_s: int = 20_000_000
    """Time is :attr:`base_s` and the declared bytes at this rate."""
    file_bytes: int = 4 * GIB
    open_files: int = 256
    children: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """At once; one per core."""
    sandbox: str = "prefer"
    answer_bytes: int = 8 * MIB
    """One frame of a child's answer: a measured description may need a few MiB."""
    kill_after_s: float = 2.0
    """From SIGTERM to SIGKILL."""

    def __post_init__(self) -> None:
        if self.sandbox not in SANDBOXES:
            raise ValueError(f"gate.sandbox is one of {', '.join(SANDBOXES)}")

    def seconds(self, declared_bytes: int) -> float:
        """Return the wall clock and CPU time for a unit that declares so many bytes; more than the limit counts as the limit."""
        return self.base_s + min(max(declared_bytes, 0), self.declared_bytes) / self.bytes_per_s

    def too_big(self, limit: str, value: int, what: str, *, source: str | None = None) -> SourceRejected:
        """Return the refusal for *value* over *limit* (a field's name); *what* begins the sentence."""
        most = getattr(self, limit)
        setting = SETTINGS.get(limit)
        return SourceRejected(
            f"{what}: {value:,} is over the limit of {most:,}",
            reason="too-big",
            source=source,
            next_step=f"raise {setting}, or bring a smaller source" if setting else "bring a smaller or simpler source",
            **({"setting": setting} if setting else {"rule": limit}),
            limit=most,
            value=value,
        )

    def check(self, limit: str, value: int, what: str, *, source: str | None = None) -> None:
        """Raise :meth:`too_big` when *value* is over the limit."""
        if value > getattr(self, limit):
            raise self.too_big(limit, value, what, source=source)

    def check_expansion(self, declared: int, stored: int, what: str, *, source: str | None = None) -> None:
        """Refuse *stored* bytes on disk that declare too many *declared* bytes."""
        if declared > max(self.small_bytes, stored * self.expansion):
            raise self.too_big("expansion", -(-declared // max(stored, 1)), what, source=source)

    def to_mapping(self) -> dict[str, Any]:
        """Return the plain values that a request to a child carries."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the limits that :meth:`to_mapping` gave."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})
