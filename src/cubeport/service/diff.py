"""Diff: what changed between two versions of a dataset, with limits on what is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, TooLarge
from cubeport.service.ports import Versions

if TYPE_CHECKING:
    from cubeport.cubes.difference import Difference
    from cubeport.cubes.part import Deadline

type Manifest = Callable[[str, str], Mapping[str, object]]
"""``manifest(dataset_id, version_id)`` returns the manifest's entries by key."""


class Diff:
    """Compares versions.

    Parameters
    ----------
    versions
        Makes the object that opens versions, whose caches limit the memory. It is called for the first comparison, because
        importing its libraries takes a second.
    """

    def __init__(self, versions: Callable[[], Versions], manifest: Manifest) -> None:
        self._versions = cache(versions)
        self._manifest = manifest

    def between(
        self, old: PublishedView, new: PublishedView, *, most_cells: int | None = None, deadline: Deadline | None = None
    ) -> Difference:
        """Return the differences from *old* to *new*, two versions of the same dataset.

        Parameters
        ----------
        most_cells
            The largest number of values to read from each version.

        Raises
        ------
        InvalidRequest
            If the versions belong to different datasets.
        TooLarge
            If more than *most_cells* values would be read. It is raised before any value is read.
        """
        from cubeport.cubes.difference import (  # needs numpy, which is only imported to compare values
            Compared,
            Comparison,
            Difference,
        )

        dataset_id = old.texts.dataset_id
        if new.texts.dataset_id != dataset_id:
            raise InvalidRequest(f"{dataset_id!r} and {new.texts.dataset_id!r} are two datasets: name two versions of one.")
        ids = old.version.version_id, new.version.version_id
        if ids[0] == ids[1]:
            return Difference(equal=True, compared=Compared(same_chunks=0, read_chunks=0, read_cells=0))
        before, after = (self._versions().open(dataset_id, each.version.version_id, each.description) for each in (old, new))
        objects = self._manifest(dataset_id, ids[0]), self._manifest(dataset_id, ids[1])
        comparison = Comparison(before, after, objects, deadline=deadline)
        cells = comparison.cells()
        if most_cells is not None and cells > most_cells:
            raise TooLarge(
                f"{cells} values may differ between the versions, and at most {most_cells} are read for one answer.",
                next_step=f"cubeport diff {dataset_id} {ids[0]} {ids[1]}",
                limit=most_cells,
                value=cells,
                unit="cells",
                setting="limits.download_cells",
            )
        return comparison.difference()


def document(old: PublishedView, new: PublishedView, found: Difference) -> dict[str, Any]:
    """Return the difference as shown over HTTP and on the command line."""
    return {
        "kind": "VersionDiff",
        "dataset_id": old.texts.dataset_id,
        "from": _named(old),
        "to": _named(new),
        **found.model_dump(mode="json"),
    }


def _named(shown: PublishedView) -> dict[str, Any]:
    version = shown.version.model_dump(mode="json")
    return {name: version[name] for name in ("version_id", "created_at", "digest")} | {"seq": shown.seq}
