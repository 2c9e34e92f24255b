"""The limits of every source, as one immutable value that is passed down."""

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
"""The settings of the limits that an operator can set, by field of :class:`SourceLimits`. The other limits are fixed rules."""


SOURCE_S = 1.0
"""The seconds that each further source adds to the time of a unit: a series of thousands of small files declares few bytes."""


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """All limits with safe defaults. A refusal names the setting or rule, the limit and the value above it."""

    declared_bytes: int = 50 * GIB
    """The largest decoded size that a source can declare: Σ product(shape) × itemsize."""
    expansion: int = 1_000
    """A source can declare this many times its own size, and at least :attr:`small_bytes`."""
    small_bytes: int = 16 * MIB
    """Any source can declare this size, however small it is. For example, an empty mask of 10 kB is a valid file."""
    chunk_bytes: int = 256 * MIB
    chunks: int = 1_000_000
    dimensions: int = 64
    objects: int = 2_000
    depth: int = 32
    item_bytes: int = 1_024
    json_bytes: int = 4 * MIB
    json_depth: int = 32
    text_bytes: int = 4 * MIB
    """The largest total size of the attributes of a source."""
    filters: int = 8
    """The largest number of filters or codecs of one array."""

    memory_bytes: int = 3 * GIB
    base_s: int = 60
    bytes_per_s: int = 20_000_000
    """The time limit is :attr:`base_s` plus the time for the declared bytes at this rate."""
    file_bytes: int = 4 * GIB
    kept_bytes: int = 64 * MIB
    """The most decoded bytes of a unit of a kept child, and the most that it hands over. A larger unit gets a child of its own."""
    kept_source_bytes: int = 16 * MIB
    """The largest total size of the sources of such a unit. They are in memory."""
    kept_units: int = 200
    """How many units a kept child serves before it is replaced, so that what its libraries leave behind stays bounded."""
    kept_s: float = 30.0
    """How long a kept child waits for its next unit, in seconds."""
    open_files: int = 256
    children: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """How many children run at the same time; by default one per core."""
    sandbox: str = "prefer"
    answer_bytes: int = 8 * MIB
    """The largest frame of a child's answer. A measured description can need a few MiB."""
    kill_after_s: float = 2.0
    """The time from SIGTERM to SIGKILL, in seconds."""

    def __post_init__(self) -> None:
        if self.sandbox not in SANDBOXES:
            raise ValueError(f"gate.sandbox is one of {', '.join(SANDBOXES)}")

    def seconds(self, declared_bytes: int, sources: int = 1) -> float:
        """Return the limit in seconds of wall clock and CPU time for a unit with *declared_bytes*, of which at most the limit
        counts. Each further source adds :data:`SOURCE_S`.
        """
        return self.base_s + max(sources - 1, 0) * SOURCE_S + min(max(declared_bytes, 0), self.declared_bytes) / self.bytes_per_s

    def too_big(self, limit: str, value: int, what: str, *, source: str | None = None) -> SourceRejected:
        """Return the refusal for a *value* above *limit* (the name of a field). *what* starts the sentence."""
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
        """Raise :meth:`too_big` if *value* is above the limit."""
        if value > getattr(self, limit):
            raise self.too_big(limit, value, what, source=source)

    def check_expansion(self, declared: int, stored: int, what: str, *, source: str | None = None) -> None:
        """Refuse a source with *stored* bytes on disk that declares too many decoded bytes (*declared*)."""
        if declared > max(self.small_bytes, stored * self.expansion):
            raise self.too_big("expansion", -(-declared // max(stored, 1)), what, source=source)

    def to_mapping(self) -> dict[str, Any]:
        """Return the limits as plain values for a request to a child."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the limits from the result of :meth:`to_mapping`."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})
