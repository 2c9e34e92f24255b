"""Extract metadata from bytes. Each extractor writes one block in ``metadata`` under its name and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.events import EventLog
from cubeport.catalog.forms.canonical import check_name, dumps, json_value, now, timestamp
from cubeport.catalog.models import BBox, CatalogRecord, TimeSpan
from cubeport.errors import CubeportError, ExtraMissing, InvalidRequest, NamespaceTaken, UnsupportedMediaType

MARK = "_extractor"
"""The member of a block that names its extractor. A key without it belongs to the caller and is never overwritten."""


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """The limits of extracted metadata."""

    block_bytes: int = 256 * 1024
    leaves: int = 500


@dataclass(frozen=True, slots=True)
class ExtractedRecord:
    """The extracted metadata of a source without a record."""

    source: str
    metadata: Mapping[str, Any]
    """One block for each extractor, under its name."""
    time: TimeSpan | None = None
    bbox: tuple[float, float, float, float] | None = None
    warnings: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "source": self.source,
            "metadata": dict(self.metadata),
            "time": self.time.to_mapping() if self.time else None,
            "bbox": list(self.bbox) if self.bbox else None,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Extracted:
    """The result of one extractor."""

    block: Mapping[str, Any]
    time: TimeSpan | None = None
    bbox: BBox | None = None
    truncated: bool = False
    """Whether the extractor itself omitted something."""


class MetadataExtractor(Protocol):
    """Reads one kind of source. Formats that need a library are read in a confined child process, not in this process."""

    name: str
    version: str

    def accepts(self, source: Path) -> bool:
        """Return whether it can read *source*, a local file or folder. This is cheap and never decodes the source."""

    def extract(self, source: Path, limits: ExtractionLimits) -> Extracted:
        """Return the metadata of *source*.

        Raises
        ------
        ExtraMissing
            If the library is not installed, with the name of the extra.
        SourceRejected
            If the gate refuses the source.
        """


@dataclass(frozen=True, slots=True)
class Extraction:
    """The results of all extractors for one source, and their failures."""

    blocks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    time: TimeSpan | None = None
    bbox: BBox | None = None
    failures: Mapping[str, CubeportError] = field(default_factory=dict)
    """The failures by extractor."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each failure."""
        return tuple(f"extractor {name} failed: {exc.kind}: {exc.message}" for name, exc in self.failures.items())

    def required(self) -> Extraction:
        """Return this object, or raise the first failure (``--require-metadata``)."""
        for exc in self.failures.values():
            raise exc
        return self

    def apply(self, record: CatalogRecord) -> CatalogRecord:
        """Return *record* with the blocks, and with ``time`` and ``bbox`` if it has none. Returns the same object if nothing
        changes.

        Raises
        ------
        NamespaceTaken
            If the caller's metadata has a key with the name of an extractor.
        """
        for name in self.blocks:
            mine = record.metadata.get(name)
            if name in record.metadata and not (isinstance(mine, Mapping) and MARK in mine):
                raise NamespaceTaken(
                    f"metadata.{name} belongs to the caller, so the result of extractor {name} cannot "
                    "be stored there; rename the key."
                )
        changes: dict[str, Any] = {}
        if self.blocks:
            changes["metadata"] = record.metadata | {name: dict(block) for name, block in self.blocks.items()}
        if record.time is None and self.time is not None:
            changes["time"] = self.time
        if record.bbox is None and self.bbox is not None:
            changes["bbox"] = self.bbox
        return record.replace(**changes) if changes else record


@dataclass(slots=True)
class Extractors:
    """The extractors of one catalog, in the order of registration."""

    events: EventLog | None = None
    limits: ExtractionLimits = ExtractionLimits()
    clock: Callable[[], datetime] = now
    _extractors: dict[str, MetadataExtractor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[MetadataExtractor]:
        return iter(self._extractors.values())

    def register(self, extractor: MetadataExtractor) -> None:
        """Register an extractor. Registering it twice does nothing. Raises NamespaceTaken if another has its name."""
        try:
            check_name(extractor.name)
        except ValueError as exc:
            raise InvalidRequest(f"{extractor.name!r} is not a name for an extractor: it {exc}") from None
        other = self._extractors.setdefault(extractor.name, extractor)
        if other is not extractor and type(other) is not type(extractor):
            raise NamespaceTaken(f"An extractor {extractor.name} is already registered.")

    def extract(self, source: Path, *, only: Sequence[str] = (), **stated: Any) -> Extraction:
        """Run all extractors that accept *source*, or those in *only*. A failure is recorded and logged, and the others continue.

        Parameters
        ----------
        stated
            The fields of the event of a failure: ``operation_id``, ``record_id``…

        Raises
        ------
        InvalidRequest
            If *only* names an extractor that is not registered.
        """
        unknown = [name for name in only if name not in self._extractors]
        if unknown:
            known = ", ".join(self._extractors) or "none"
            raise InvalidRequest(f"There is no extractor {', '.join(unknown)}; there are {known}.", next_step="cubeport plugins")
        blocks: dict[str, Mapping[str, Any]] = {}
        failures: dict[str, CubeportError] = {}
        time: TimeSpan | None = None
        bbox: BBox | None = None
        for extractor in self._extractors.values():
            if only and extractor.name not in only:
                continue
            try:
                if not extractor.accepts(source):
                    if only:
                        raise UnsupportedMediaType(f"{source.name} is not a source that extractor {extractor.name} can read.")
                    continue
                found = extractor.extract(source, self.limits)
                blocks[extractor.name] = self._block(extractor, found)
            except CubeportError as exc:
                failures[extractor.name] = exc
                self._tell(extractor, exc, stated)
            except ModuleNotFoundError as exc:
                missing = exc.name or "a library"
                failures[extractor.name] = ExtraMissing(
                    f"{missing} is not installed", next_step=f"pip install {missing}", what=missing
                )
                self._tell(extractor, exc, stated)
            except Exception as exc:  # noqa: BLE001 - a plugin's code: its failure is reported and costs its own block only
                failures[extractor.name] = InvalidRequest(f"{type(exc).__name__}: {exc}")
                self._tell(extractor, exc, stated)
            else:
                time = time or found.time
                bbox = bbox or found.bbox
        return Extraction(blocks, time, bbox, failures)

    def _block(self, extractor: MetadataExtractor, found: Extracted) -> Mapping[str, Any]:
        block, cut = cut_to(json_value(dict(found.block)), self.limits)
        made_by = {
            "name": extractor.name,
            "version": extractor.version,
            "at": timestamp(self.clock()),
            "truncated": cut or found.truncated,
        }
        return {**block, MARK: made_by}

    def _tell(self, extractor: MetadataExtractor, exc: Exception, stated: Mapping[str, Any]) -> None:
        if self.events is not None:
            message = f"Extractor {extractor.name} failed."
            self.events.emit("extract.failed", message, level="warning", exception=exc, extractor=extractor.name, **stated)


def cut_to(block: Any, limits: ExtractionLimits) -> tuple[dict[str, Any], bool]:
    """Return as much of *block* as the limits allow, in order, and whether something was omitted."""
    room = _Room(limits.leaves, limits.block_bytes)
    kept = room.take(block)
    return kept, room.full


@dataclass(slots=True)
class _Room:
    """The remaining space. It ends at the first value that does not fit."""

    leaves: int
    bytes: int
    full: bool = False

    def take(self, value: Any) -> Any:
        """Return the part of *value* that fits."""
        if isinstance(value, dict):
            kept: dict[str, Any] = {}
            for key, inner in value.items():
                if not self.has(inner, len(dumps(key).encode()) + 2):
                    break
                kept[key] = self.take(inner)
            return kept
        if isinstance(value, list):
            items: list[Any] = []
            for inner in value:
                if not self.has(inner, 1):
                    break
                items.append(self.take(inner))
            return items
        return value

    def has(self, value: Any, around: int) -> bool:
        """Reserve space for a leaf, or for the brackets of a container, plus *around* characters. Return False if there is none."""
        leaf = not isinstance(value, (dict, list))
        self.leaves -= leaf
        self.bytes -= around + (len(dumps(value).encode()) if leaf else 2)
        self.full = self.full or self.leaves < 0 or self.bytes < 0
        return not self.full
