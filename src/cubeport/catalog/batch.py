"""Add many files. Each is planned first and then added as a separate operation, so that a second run continues where one ended.

The key of an item is the address of its source, unless a manifest gives one. Existing items are skipped; changed items are
reported.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from cubeport.catalog.adding import ArtifactSource, referring, source_of
from cubeport.catalog.drafts import ArtifactFields, OnExists
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.forms.canonical import in_utf8, new_id
from cubeport.catalog.forms.redaction import redact_text, url_secrets
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.schemas import Schema
from cubeport.errors import CubeportError, InvalidRequest, NoMatch

Mode = Literal["copy", "move", "reference"]
OnChanged = Literal["skip", "new_version"]
Intent = Literal["add", "skip", "changed", "error"]
Outcome = Literal["add", "skip", "changed", "error", "added", "skipped", "failed"]
"""What would be done (dry run) or what was done; ``changed`` can be both."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MoreBytes(_Model):
    """An additional artifact of an item's record."""

    source: str
    role: str = "derived"
    mode: Mode | None = None


class Item(_Model):
    """An item that becomes one record."""

    source: str
    key: str | None = None
    time: str | int | None = None
    bbox: tuple[float, float, float, float] | None = None
    links: dict[str, str | tuple[str, ...]] = {}
    """The targets by relation: ``{derived_from: [ID, …]}``."""
    size_bytes: int | None = Field(default=None, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The known hash of the bytes. Stored or fetched bytes must match it."""
    title: str | None = None
    description: str | None = None
    kind: str | None = None
    schema_: str | None = Field(default=None, alias="schema")
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    mode: Mode | None = None
    role: str | None = None
    profile: str | None = None
    artifacts: tuple[MoreBytes, ...] = ()
    pattern: str | None = None
    """The pattern of the file name, with metadata fields: ``{station}_{year}.nc``."""


class _Defaults(_Model):
    pattern: str | None = None
    """The pattern of file names, with metadata fields: ``{station}_{year}.nc``."""
    kind: str | None = None
    schema_: str | None = Field(default=None, alias="schema")
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    mode: Mode = "copy"
    role: str | None = None
    profile: str | None = None


class Manifest(_Model):
    """``MANIFEST.yaml``: the defaults of all items, and the items."""

    manifest: Literal[1]
    defaults: _Defaults = _Defaults()
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The outcome of one item, or the planned outcome."""

    source: str
    key: str
    outcome: Outcome
    reason: str | None = None
    record_id: str | None = None
    operation_id: str | None = None
    warnings: tuple[str, ...] = ()
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of a batch, or the planned outcome (``dry_run``)."""

    batch_id: str
    items: tuple[ItemResult, ...]
    dry_run: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of items with each outcome."""
        counted = Counter[str](item.outcome for item in self.items)
        names = ("add", "skip", "changed", "error") if self.dry_run else ("added", "skipped", "changed", "failed")
        return {name: counted[name] for name in names}

    def to_mapping(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        items = [{name: getattr(item, name) for name in ItemResult.__slots__} for item in self.items]
        items = [item | {"warnings": list(item["warnings"])} for item in items]
        return {
            "batch_id": self.batch_id,
            "dry_run": self.dry_run,
            "counts": self.counts,
            "items": items,
            "warnings": list(self.warnings),
        }


def read_manifest(path: Path) -> list[Item]:
    """Return the items of a manifest with its defaults. Paths are relative to the folder of the manifest.

    Raises
    ------
    InvalidConfiguration
        With all problems, each with ``file:line:column``.
    """
    document = strictyaml.read(path)
    manifest = strictyaml.validated(document, Manifest, {(): Manifest.model_fields, ("defaults",): _Defaults.model_fields})
    folder = path.absolute().parent
    return [_with_defaults(item, manifest.defaults, folder) for item in manifest.items]


def _with_defaults(item: Item, defaults: _Defaults, folder: Path) -> Item:
    def place(source: str) -> str:
        return source if is_address(source) else str(folder / source)

    return item.model_copy(
        update={
            "source": place(item.source),
            "kind": item.kind or defaults.kind,
            "schema_": item.schema_ or defaults.schema_,
            "metadata": defaults.metadata | item.metadata,
            "tags": tuple(dict.fromkeys((*defaults.tags, *item.tags))),
            "mode": item.mode or defaults.mode,
            "role": item.role or defaults.role,
            "profile": item.profile or defaults.profile,
            "pattern": item.pattern or defaults.pattern,
            "artifacts": tuple(
                each.model_copy(update={"source": place(each.source), "mode": each.mode or item.mode or defaults.mode})
                for each in item.artifacts
            ),
        }
    )


def from_patterns(patterns: Sequence[str], **common: Any) -> list[Item]:
    """Return an item for each path that matches the patterns (``*``, ``?``, ``**``) or is given, in order, each once.

    Of several paths to one file, that with the fewest links counts, and a folder is left out if a path in it matches too. Of a
    Zarr store, the folder counts.

    Raises
    ------
    NoMatch
        If a pattern matches nothing. A plain path that does not exist becomes an item that fails.
    """
    sources: dict[str, None] = {}
    for pattern in patterns:
        if is_address(pattern) or not glob.has_magic(pattern):
            sources[pattern if is_address(pattern) else str(Path(pattern).absolute())] = None
            continue
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        if not found:
            raise NoMatch(f"Nothing matches {pattern}.")
        sources |= dict.fromkeys(map(str, _each_once([Path(each).absolute() for each in found])))
    return [Item(source=source, **common) for source in sources]


def _each_once(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without other ways to the same files, and without folders of which other paths name what is in them."""
    first: dict[Path, Path] = {}
    for each in sorted(paths, key=lambda path: (len(path.parts), path.is_symlink())):  # "**" follows links, also in a circle
        first.setdefault(each.resolve(), each)
    stores = {real for real in first if is_zarr(real)}
    within = {real for real in first if not stores.isdisjoint(real.parents)}
    around = {parent for real in first.keys() - within for parent in real.parents} - stores
    kept = {path for real, path in first.items() if real not in within and real not in around}
    return [each for each in paths if each in kept]


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup"))


def collect(
    sources: Sequence[str | Path], *, manifest: bool, common: Common, owns: Callable[[Path], bool]
) -> tuple[list[Item], tuple[str, ...]]:
    """Return the items that match the patterns, or with *manifest* those of the manifests, each with the *common* fields.

    Parameters
    ----------
    owns
        Returns whether a path belongs to the catalog itself. Patterns skip such paths with a warning, because they are already
        stored.
    """
    if not manifest:
        found = from_patterns([str(source) for source in sources])
        named = {str(Path(each).absolute()) for each in sources if not is_address(str(each)) and not glob.has_magic(str(each))}
        own = {
            item.source for item in found if not is_address(item.source) and item.source not in named and owns(Path(item.source))
        }
        words = f"{len(own)} paths that the patterns name belong to this catalog and were skipped"
        return [common.of(item) for item in found if item.source not in own], ((words,) if own else ())
    items = [each for source in sources for each in read_manifest(Path(source))]
    return [common.of(each) for each in items], ()


_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def from_name(pattern: str, name: str) -> dict[str, Any]:
    """Return the fields in a file *name* by *pattern*, such as ``{station}_{year}.nc``. Raises InvalidRequest.

    A field is as short as the following text allows. Digits become numbers, except with a leading zero.
    """
    parts = _PLACE.split(pattern)
    names = parts[1::2]
    if not names or len(set(names)) != len(names):
        raise InvalidRequest(f"The pattern {pattern!r} needs fields in braces, each once, for example {{station}}_{{year}}.nc.")
    texts = [re.escape(each).replace(r"\*", ".*") for each in parts[0::2]]
    expression = texts[0] + "".join(f"(.+?){text}" for text in texts[1:])
    found = re.fullmatch(expression, name)
    if found is None:
        raise InvalidRequest(f"{name} does not match the pattern {pattern}.")
    return dict(zip(names, map(_number_or_text, found.groups()), strict=True))


def _number_or_text(text: str) -> Any:
    return int(text) if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) else text


def _read_name(item: Item) -> Item:
    """Return the item with the fields of its file name. Its own fields take precedence. Raises InvalidRequest."""
    if item.pattern is None:
        return item
    found = from_name(item.pattern, item.source.rstrip("/").rpartition("/")[2].partition("?")[0])
    return item.model_copy(update={"metadata": found | item.metadata})


@dataclass(frozen=True, slots=True)
class Common:
    """The fields that a call gives for all items. They take precedence over a manifest; metadata and tags are merged with an item's
    own.
    """

    kind: str | None = None
    mode: Mode | None = None
    schema: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    profile: str | None = None
    pattern: str | None = None

    def of(self, item: Item) -> Item:
        """Return the item with the common fields."""
        return item.model_copy(
            update={
                "kind": self.kind or item.kind,
                "mode": self.mode or item.mode,
                "schema_": self.schema or item.schema_,
                "metadata": {**self.metadata, **item.metadata},
                "tags": tuple(dict.fromkeys((*self.tags, *item.tags))),
                "profile": self.profile or item.profile,
                "pattern": self.pattern or item.pattern,
            }
        )


def fields_of(item: Item, schema: Schema | None, key: str, on_exists: OnExists, *, extract: bool) -> ArtifactFields:
    """Return the fields of the item's record and of its first artifact."""
    return {
        "title": item.title,
        "description": item.description,
        "kind": item.kind,
        "tags": list(item.tags) or None,
        "schema_name": schema.name if schema else None,
        "schema_version": schema.version if schema else None,
        "key": key,
        "on_exists": on_exists,
        "role": item.role,
        "profile": item.profile,
        "extract_metadata": extract and not is_address(item.source),
        "time": None if item.time is None else str(item.time),
        "bbox": item.bbox,
        "lineage": [(rel, to) for rel, named in item.links.items() for to in ((named,) if isinstance(named, str) else named)],
        "size_bytes": item.size_bytes,
        "hashes": {"sha256": item.sha256} if item.sha256 else None,
    }


def sources_of(item: Item) -> list[ArtifactSource]:
    """Return the sources of the item's artifacts, its own first."""
    pairs = [(item.source, item.mode), *((each.source, each.mode) for each in item.artifacts)]
    return [referring(place) if is_address(place) else source_of(place, mode or "copy") for place, mode in pairs]


def is_address(source: str) -> bool:
    """Return whether a source is a URL instead of a local path."""
    return "://" in source


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One item with its planned outcome."""

    item: Item
    key: str
    intent: Intent
    reason: str | None = None
    record_id: str | None = None
    error: CubeportError | None = None


def plan_item(item: Item, held: Callable[[str], CatalogRecord | None]) -> BatchPlan:
    """Return the planned outcome of an item. Dry runs and real runs both use this decision."""
    key = item.key or (item.source if is_address(item.source) else Path(item.source).resolve().as_uri())
    try:
        item = _read_name(item)
        record = held(key)
    except CubeportError as exc:
        return BatchPlan(item, key, "error", exc.message, error=exc)
    missing = [each for each in (item.source, *(more.source for more in item.artifacts)) if not _is_there(each)]
    if record is None:
        if missing:
            return BatchPlan(item, key, "error", f"{in_utf8(missing[0])} is not there")
        if in_utf8(item.source) != item.source:
            return BatchPlan(item, key, "error", "its name is not UTF-8; rename it first")
        return BatchPlan(item, key, "add", "is new")
    if not _is_there(item.source):
        return BatchPlan(item, key, "skip", "already added; the source is gone", record.id)
    differs = _difference(item.source, record)
    if differs is None:
        return BatchPlan(item, key, "skip", "is held", record.id)
    return BatchPlan(item, key, "changed", differs, record.id)


def _shown(source: str) -> str:
    """Return a source in a printable form, with any secret removed from a URL."""
    return redact_text(source) if is_address(source) and url_secrets(source) else in_utf8(source)


def _is_there(source: str) -> bool:
    return is_address(source) or Path(source).exists()


def _difference(source: str, record: CatalogRecord) -> str | None:
    """Return how a source differs from the artifact that was made from it, by size and modification time, or ``None``."""
    if is_address(source) or not record.artifacts:
        return None
    artifact = next((each for each in record.artifacts if each.role == "primary"), record.artifacts[0])
    path = Path(source)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files)
    if artifact.size_bytes is not None and artifact.size_bytes != size:
        return f"has {size} bytes, not {artifact.size_bytes}"
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    if artifact.modified_at is not None and artifact.modified_at != changed:
        return f"was changed at {changed:%Y-%m-%dT%H:%M:%SZ}"
    return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs a batch. ``held`` and ``add`` are functions of the catalog."""

    held: Callable[[str], CatalogRecord | None]
    add: Callable[..., Any]
    """``(item, key, on_exists, parent_id) -> Added``."""
    continue_on_error: bool = False
    on_changed: OnChanged = "skip"
    warnings: tuple[str, ...] = ()
    batch_id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        if self.on_changed not in get_args(OnChanged):
            raise InvalidRequest(f"on_changed is skip or new_version, not {self.on_changed!r}.")

    def plan(self, items: Iterable[Item]) -> BatchResult:
        """Return the planned outcomes."""
        return BatchResult(
            self.batch_id, tuple(self._result(plan_item(item, self.held)) for item in items), dry_run=True, warnings=self.warnings
        )

    def run(self, items: Iterable[Item]) -> BatchResult:
        """Add the new items, each as one operation. Stop at the first failure, unless the batch continues on errors. Commits
        stay.
        """
        done: list[ItemResult] = []
        for item in items:
            result = self._one(plan_item(item, self.held))
            done.append(result)
            if result.outcome == "failed" and not self.continue_on_error:
                break
        return BatchResult(self.batch_id, tuple(done), warnings=self.warnings)

    def _result(self, plan: BatchPlan) -> ItemResult:
        error = plan.error.to_mapping() if plan.error is not None else None
        return ItemResult(_shown(plan.item.source), _shown(plan.key), plan.intent, plan.reason, plan.record_id, error=error)

    def _one(self, plan: BatchPlan) -> ItemResult:
        result = self._result(plan)
        if plan.intent == "error":
            return replace(result, outcome="failed")
        if plan.intent == "skip":
            return replace(result, outcome="skipped")
        if plan.intent == "changed" and self.on_changed == "skip":
            return replace(result, reason=f"{plan.reason}; use --on-changed new_version to add it")
        try:
            added = self.add(plan.item, plan.key, "new_version" if plan.intent == "changed" else "skip", self.batch_id)
        except CubeportError as exc:
            return replace(
                result, outcome="failed", reason=exc.message, operation_id=exc.operation_id, record_id=None, error=exc.to_mapping()
            )
        outcome: Outcome = "changed" if plan.intent == "changed" else "skipped" if added.outcome == "skipped" else "added"
        return replace(result, outcome=outcome, record_id=added.id, operation_id=added.operation_id, warnings=tuple(added.warnings))
