"""The stores of versions on other machines: tried by ``init`` and by ``doctor --try-stores``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.catalog.backend import Finding
from cubeport.catalog.catalogfile import MARK
from cubeport.errors import CubeportError, InvalidConfiguration

if TYPE_CHECKING:
    from cubeport.adapters.storage.s3 import S3Place


def check_stores(root: Path) -> None:
    """Try the store of each profile with ``use: [data]``, by requests on an object of its own.

    Raises
    ------
    InvalidConfiguration
        If one would lose data, or its profile is not valid.
    StoreUnavailable
        If one cannot be reached.
    """
    for place in _places(root).values():
        from cubeport.adapters.storage.trial import check_store

        check_store(place)


def store_findings(root: Path, *, trial: bool) -> Iterator[Finding]:
    """Yield what is right and wrong with these stores; with *trial*, each is tried first."""
    try:
        places = _places(root)
    except InvalidConfiguration:  # doctor reports each profile that is not valid
        return
    for name, place in places.items():
        where = f"profile {name}"
        try:
            if trial:
                from cubeport.adapters.storage.trial import check_store

                check_store(place)
                yield Finding("store-trial", where, f"{place.url} honours conditional writes and ranges", level="ok")
            yield from _lifecycle(root, place)
        except CubeportError as exc:
            yield Finding("store-trial", where, exc.message, exc.next_step)


def _lifecycle(root: Path, place: S3Place) -> Iterator[Finding]:
    from cubeport.adapters.storage import lifecycle
    from cubeport.adapters.storage.profiles import read_profiles
    from cubeport.adapters.storage.remote import RemoteProfile

    where = f"profile {place.profile}"
    rule = json.dumps(lifecycle.wanted(place))
    advice = f"add this lifecycle rule to the bucket {place.bucket}: {rule}"
    profiles, settings = read_profiles(root, root / MARK / "scratch", os.environ)
    if settings[place.profile].lifecycle is None:
        message = "the lifecycle rules of the bucket are not checked, because the profile has no lifecycle: checked"
        yield Finding("lifecycle", where, message, advice, "ok")
        return
    profile = profiles.get(place.profile)
    assert isinstance(profile, RemoteProfile), "its protocol is s3"
    rules = lifecycle.rules_of(profile.fs, place)
    for each in lifecycle.deleting(rules, place):
        message = f"the lifecycle rule {each} of the bucket {place.bucket} deletes or archives data below {place.url}"
        yield Finding("lifecycle", where, message, f"limit the rule {each} to another prefix")
    if lifecycle.aborts(rules, place):
        yield Finding("lifecycle", where, f"the bucket {place.bucket} removes unfinished uploads", level="ok")
    else:
        yield Finding("lifecycle", where, "no lifecycle rule removes unfinished uploads, which fill the bucket", advice, "warn")


def _places(root: Path) -> dict[str, S3Place]:
    from cubeport.adapters.storage.profiles import FILE, s3_places

    return s3_places(root, os.environ, "data") if (root / FILE).is_file() else {}
