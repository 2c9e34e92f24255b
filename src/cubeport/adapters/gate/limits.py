"""The bounds that every source is held to, as one frozen value that is passed down (safety.md R5, 2.1, 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from cubeport.errors import SourceRejected

GIB = 2**30
MIB = 2**20

SANDBOXES = ("prefer", "require", "off")

_OF_THE_CHILD = frozenset(
    ("memory_bytes", "base_s", "bytes_per_s", "children", "sandbox", "file_bytes", "open_files", "answer_bytes", "kill_after_s")
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit with its safe default; a refusal names the setting, the limit and the value that broke it."""

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
    attribute_bytes: int = 64 * 1_024
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
    children: int = 2
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

    def too_big(self, setting: str, value: int, what: str) -> SourceRejected:
        """Return the refusal for *value* over the limit *setting* (a field's name); *what* begins the sentence."""
        limit = getattr(self, setting)
        name = setting_name(setting)
        return SourceRejected(
            f"{what}: {value:,} is over the limit of {limit:,}",
            reason="too-big",
            next_step=f"raise {name}, or bring a smaller source",
            setting=name,
            limit=limit,
            value=value,
        )

    def check(self, setting: str, value: int, what: str) -> None:
        """Raise :meth:`too_big` when *value* is over the limit."""
        if value > getattr(self, setting):
            raise self.too_big(setting, value, what)

    def check_declared(self, declared: int, stored: int, what: str = "the decoded size in bytes") -> None:
        """Refuse what would grow beyond the bounds: *stored* bytes on disk that declare *declared* bytes."""
        self.check("declared_bytes", declared, what)
        if declared > max(self.small_bytes, stored * self.expansion):
            raise self.too_big("expansion", declared // max(stored, 1), f"{what} against the stored size")

    def to_mapping(self) -> dict[str, Any]:
        """Return the plain values that a request to a child carries."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the limits that :meth:`to_mapping` gave."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})


def setting_name(field: str) -> str:
    """Return the setting behind a field of :class:`Limits`: ``limits.…`` or ``gate.…``."""
    return f"{'gate' if field in _OF_THE_CHILD else 'limits'}.{field}"
