"""Derive: make a dataset from versions of others with a recipe, and make it again when these have newer versions.

A derived dataset is made by an ingestion whose source computes the data. Its version records the recipe, the parameters and the
input versions, with the key of the datamanifest specification. A result of the same recipe, revision and key is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cubeport.cubes.recipes import Derivation, DerivedInput, Recipe, key_of
from cubeport.cubes.sources import Area, Fetched, Period, PeriodSource
from cubeport.cubes.write_request import BringOrder, Brought, Progress
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotFound
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.ports import Sources
from cubeport.service.state import VersionState
from cubeport.service.sync import SyncDetail
from cubeport.service.templates import SourceBlock
from cubeport.service.viewing import strictest

type Compute = Callable[[Recipe, Derivation, Mapping[str, PublishedView], Path], Path]
"""``compute(recipe, derivation, inputs, into)`` writes the result below *into* and returns its path."""


@dataclass(frozen=True, slots=True)
class DerivedSource:
    """A source that computes its data. It has no periods and returns the whole result at once."""

    recipe: Recipe
    derivation: Derivation
    inputs: Mapping[str, PublishedView]
    compute: Compute
    is_periodic: bool = False

    @property
    def visibility(self) -> Literal["private", "project"] | None:
        """The strictest visibility of its inputs."""
        return strictest(each.visibility for each in self.inputs.values())

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:  # noqa: ARG002 - the port's signature
        """Return ``None``, because it cannot list periods."""
        return None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:  # noqa: ARG002 - as above
        """Compute the result and write it below *into*."""
        # Without a validator only this job uses the file again. A later request gets a new one: --overwrite, or a
        # derivation after the dataset was deleted.
        return Fetched((self.compute(self.recipe, self.derivation, self.inputs, into),))


class Derivations:
    """The recipes, and the inputs of derived datasets."""

    def __init__(self, datasets: Datasets, recipes: Mapping[str, Recipe], compute: Compute) -> None:
        self._datasets = datasets
        self.recipes = recipes
        self._compute = compute

    def source(self, block: SourceBlock) -> DerivedSource:
        """Return the source for a block of kind ``derived``, with the current versions of its inputs.

        Raises
        ------
        NotFound
            If an input or the recipe does not exist.
        InvalidRequest
            If the recipe does not accept the parameters or inputs: of cubeport's own recipes, none takes a climatology.
        """
        recipe = self._recipe(block)
        inputs = {name: self._shown(ref) for name, ref in recipe.named(block.inputs).items()}
        if recipe.function is None:
            for name, ref in recipe.named(block.inputs).items():
                _check_years(recipe, ref, inputs[name])
        told = {name: _input(ref, inputs[name]) for name, ref in recipe.named(block.inputs).items()}
        return DerivedSource(recipe, _derivation(recipe, block, told), inputs, self._compute)

    def _recipe(self, block: SourceBlock) -> Recipe:
        recipe = self.recipes.get(str(block.recipe))
        if recipe is None:
            known = ", ".join(sorted(self.recipes))
            raise NotFound(f"There is no recipe {block.recipe!r}; there are {known}.", what="recipe", next_step="cubeport recipes")
        return recipe

    def _shown(self, ref: str) -> PublishedView:
        return self._datasets.shown(ref, unpublished=True)

    def _now(self, block: SourceBlock, held: Derivation | None) -> Derivation:
        """Return the derivation with the current versions of its inputs. One that names a version is not looked up again: it was
        used, never changes, and retention may have removed it since.
        """
        recipe, used = self._recipe(block), {} if held is None else held.inputs
        told = {
            name: used[name] if _is_fixed(ref, used.get(name)) else _input(ref, self._shown(ref))
            for name, ref in recipe.named(block.inputs).items()
        }
        return _derivation(recipe, block, told)

    def plan(self, dataset: Dataset, head: VersionState | None) -> SyncDetail:
        """Return what a sync of a derived dataset would do. Raises NotFound if an input no longer exists."""
        assert dataset.state.derived is not None
        held = head.derived if head is not None else None
        now = self._now(dataset.state.derived, held)
        temporal: Mapping[str, Any] = (head.coverage.get("temporal") if head is not None else None) or {}
        common: dict[str, Any] = {
            "dataset_id": dataset.state.texts.dataset_id,
            "source_dataset_id": None,
            "sync_kind": "derived",
            "current_start": temporal.get("start"),
            "current_end": temporal.get("end"),
            "base_version_id": head.version_id if head is not None else None,
            "current_version": held.key if held is not None else None,
            "target_version": now.key,
        }
        if now.is_same(held):
            message = "It is derived from the newest versions of its inputs."
            return SyncDetail(**common, action="no_op", reason="inputs_unchanged", message=message)
        old = {} if held is None else {name: each.digest for name, each in held.inputs.items()}
        newer = tuple(each.ref for name, each in now.inputs.items() if old.get(name) != each.digest)
        words = "Other parameters"
        if newer:
            words = f"Newer versions of {', '.join(newer)}"
        elif held is not None and held.key == now.key:
            words = f"The recipe {now.recipe!r} gives other values since the dataset was derived"
        message = f"{words}: the dataset is derived again."
        return SyncDetail(**common, action="rematerialize", reason="inputs_changed", message=message, revised=newer)

    def check(self, dataset_id: str, block: SourceBlock) -> None:
        """Refuse a dataset that would be derived from itself, also indirectly. Raises InvalidRequest."""
        seen: set[str] = set()
        waiting = [ref.partition("@")[0] for ref in block.inputs]
        while waiting:
            name = waiting.pop()
            if name == dataset_id:
                raise InvalidRequest(f"Dataset {dataset_id!r} would be derived from itself.", next_step="choose another id")
            found = self._datasets.find(name) if name not in seen else None
            seen.add(name)
            if found is not None and found.state.derived is not None:
                waiting += [ref.partition("@")[0] for ref in found.state.derived.inputs]


def _derivation(recipe: Recipe, block: SourceBlock, inputs: dict[str, DerivedInput]) -> Derivation:
    params = recipe.bind(block.params)
    key = key_of(params, {name: (each.dataset_id, each.digest) for name, each in inputs.items()})
    return Derivation(recipe=recipe.name, params=params, inputs=inputs, key=key, revision=recipe.revision)


def _check_years(recipe: Recipe, ref: str, shown: PublishedView) -> None:
    """Refuse a climatology. Its steps are labelled with one year and are of many, so they would be taken for those of that year."""
    temporal = shown.description.temporal
    if "climatology" in (shown.texts.period_type, None if temporal is None else temporal.period_type):
        said = (temporal.statistic if temporal is not None else None) or "each step is a statistic of several years"
        raise InvalidRequest(
            f"{ref!r} is a climatology: {said}. Recipe {recipe.name!r} needs the steps of the years themselves.",
            next_step=f"cubeport derive {recipe.name} DATASET, with the dataset that the climatology was made of",
        )


def _is_fixed(ref: str, used: DerivedInput | None) -> bool:
    """Return whether *ref* names the version that was used by its id."""
    return used is not None and ref == f"{used.dataset_id}@{used.version_id}"


def _input(ref: str, shown: PublishedView) -> DerivedInput:
    return DerivedInput(
        ref=ref,
        dataset_id=shown.texts.dataset_id,
        record_id=shown.record_id,
        version_id=shown.version.version_id,
        digest=shown.version.digest,
    )


class WithDerived:
    """The port ``Sources`` including derived datasets."""

    def __init__(self, sources: Sources, derivations: Derivations) -> None:
        self._sources = sources
        self._derivations = derivations

    def resolve(
        self, source: SourceBlock, *, asker: str | None = None, variables: Sequence[str] = ()
    ) -> tuple[Path, ...] | PeriodSource:
        """Return the files or the source of the block; see :meth:`Sources.resolve`."""
        if source.kind == "derived":
            return self._derivations.source(source)
        return self._sources.resolve(source, asker=asker, variables=variables)

    def stamps(self, files: tuple[Path, ...]) -> tuple[tuple[str, int, str], ...]:
        """Return the name, size and modification time of local files."""
        return self._sources.stamps(files)

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the caller's own files."""
        return self._sources.own(files)

    def outside(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the files that a version may not point into."""
        return self._sources.outside(files)

    def listed(
        self, name: str, source: PeriodSource, start: Period, end: Period, *, is_open: bool = False
    ) -> tuple[Period, ...] | None:
        """Return the periods that a source lists."""
        return self._sources.listed(name, source, start, end, is_open=is_open)

    def bring(self, source: PeriodSource, order: BringOrder, *, progress: Progress) -> AbstractContextManager[Brought]:
        """Fetch the periods of *order*."""
        return self._sources.bring(source, order, progress=progress)
