"""Where the engines of an instance store versions: the data folder, and the object store of the setting ``profile``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.adapters.engines import ENGINES, Place, role
from cubeport.errors import InvalidConfiguration

if TYPE_CHECKING:
    from cubeport.adapters.engines.repositories import Repositories
    from cubeport.adapters.storage.s3 import S3Place
    from cubeport.catalog.backend import Rows
    from cubeport.catalog.work.undo import Undoer
    from cubeport.service.ports import Lister
    from cubeport.settings import Settings


def place_of(settings: Settings, rows: Rows, data: Path) -> Place:
    """Return the place of the versions of an instance. Nothing is opened."""
    from cubeport.adapters.engines.objects import StoreObjects
    from cubeport.adapters.sources.places import absolute
    from cubeport.adapters.storage.profiles import s3_places
    from cubeport.service.engines import digest_of, reference_of

    store = None if settings.profile is None else cache(partial(_repositories, settings))
    objects = StoreObjects(partial(s3_places, settings.instance, os.environ, "source"))
    roots = absolute(settings.instance, settings.sources.roots)
    return Place(data, roots, objects, store, partial(reference_of, rows), partial(digest_of, rows))


def listers_of(place: Place) -> dict[str, Lister]:
    """Return the listers of all engines that can be used here, by name."""
    return {name: role(name, "Lister", place) for name, engine in ENGINES.items() if place.store or not engine.needs_store}


def bucket_of(settings: Settings) -> S3Place:
    """Return where the setting ``profile`` stores its bytes.

    Raises
    ------
    InvalidConfiguration
        If the profile does not exist, is not on S3 or not for data.
    """
    from cubeport.adapters.storage.profiles import s3_places

    place = s3_places(settings.instance, os.environ, "data").get(settings.profile or "")
    if place is None:
        s3_places(settings.instance, os.environ, name=settings.profile)  # one with a mistake in it raises what that is
        raise InvalidConfiguration(
            f"profile: {settings.profile!r} is not a profile with `protocol: s3` and `use: [data]`.",
            next_step="write it in config/profiles.yaml, or set engine: zarr and profile: null in config/service.yaml",
        )
    return place


def _repositories(settings: Settings) -> Repositories:
    """Return the repositories in the object store.

    Raises
    ------
    InvalidConfiguration
        If the profile does not exist, is not on S3 or not for data.
    ExtraMissing
        If Icechunk is not installed.
    """
    place = bucket_of(settings)
    from cubeport.adapters.engines.repositories import Bucket, Repositories, Tuning

    tuning = settings.icechunk
    return Repositories(
        Bucket(place),
        Tuning(
            refs_per_manifest=tuning.refs_per_manifest,
            inline_bytes=tuning.inline_bytes,
            retries=tuning.retries,
            gc_cutoff_h=tuning.gc_cutoff_h,
        ),
    )


def register(undoer: Undoer, root: Path) -> None:
    """Register how to undo and to finish the versions that lie in the object store. It is opened when there is one to undo, and
    stays open.
    """

    @cache
    def store() -> Repositories:
        from cubeport.settings import load

        settings = load(root)
        if settings.profile is None:
            raise InvalidConfiguration("profile: null; an operation wrote to an object store, and no setting says to which")
        return _repositories(settings)

    def later(name: str) -> Callable[[Mapping[str, Any]], None]:
        def act(document: Mapping[str, Any]) -> None:
            from cubeport.adapters.engines import icechunk

            getattr(icechunk, name)(store, document)

        return act

    undoer.register("drop_tag", later("undo_tag"))
    undoer.register("point_main", later("move_main"))
