"""Plan where to store a new artifact, with the templates of the call, otherwise of the profile, otherwise of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cubeport.catalog.artifacts.naming import split_suffix
from cubeport.catalog.artifacts.paths import ATTACHED, DIRECTORY, FILENAME, Field, render, segment, slug
from cubeport.catalog.artifacts.storage import Profile, Profiles, StoragePlan, WriteMode, root_of, suffixed
from cubeport.catalog.forms.canonical import new_id, timestamp
from cubeport.catalog.models import CatalogRecord, FSSpecLocator, LocalPathLocator, PlannedPathLocator, TargetKind
from cubeport.errors import InvalidRequest, OutsideProfile, ReadOnly


@dataclass(frozen=True, slots=True)
class PlannedPlace:
    """The caller's choices of where to store bytes; ``None`` uses those of the profile, and then of the catalog."""

    profile: str | None = None
    directory: str | None = None
    filename: str | None = None
    locator: Any = None
    """An explicit place. Templates are not used, but checks still apply."""


def template_fields(
    record: CatalogRecord, *, added: datetime, original: str, role: str, object_id: str, sha256: Field
) -> dict[str, Field]:
    """Return the fields for a template of an artifact or of a view's link to it.

    Parameters
    ----------
    added
        The time at which the artifact is added or its record was added.
    original
        The original file name.
    """
    stem, suffix = split_suffix(original)
    day = timestamp(added)
    start = record.time.start if record.time else None
    return {
        "date_added": day[:10],
        "year_added": day[:4],
        "month_added": day[5:7],
        "day_added": day[8:10],
        "original_filename": original,
        "original_stem": stem,
        "original_suffix": suffix,
        "title_slug": slug(record.title),
        "key_slug": slug(record.key),
        "kind": record.kind,
        "schema_name": record.schema_name or "",
        "role": role,
        "id": record.id,
        "object_id": object_id,
        "sha256": sha256,
        "year_month": timestamp(start)[:7] if start else "",
    }


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans. It writes and reserves nothing, so everything is checked again when a plan is used."""

    profiles: Profiles
    clock: Callable[[], datetime]
    directory: str = DIRECTORY
    filename: str = FILENAME
    kinds: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Templates of the directory and the file name, by the kind of the record."""
    more: Mapping[str, Callable[[Mapping[str, Field]], str]] = field(default_factory=dict)
    """The fields of plugins: ``name → fn(our fields)``."""

    def fields(self, record: CatalogRecord, *, original: str, role: str, object_id: str, sha256: Field) -> dict[str, Field]:
        """Return the fields for templates of this artifact."""
        values = template_fields(record, added=self.clock(), original=original, role=role, object_id=object_id, sha256=sha256)
        return {**{name: partial(fn, values) for name, fn in self.more.items()}, **values}

    def plan(
        self,
        record: CatalogRecord,
        place: PlannedPlace,
        fields: Mapping[str, Field],
        *,
        target_kind: TargetKind = "file",
        write_mode: WriteMode = "copy",
        object_id: str | None = None,
    ) -> StoragePlan:
        """Return the plan for the artifact.

        Raises
        ------
        InvalidTemplate, PathEscapes, UnknownProfile, OutsideProfile, ReadOnly
            If the plan is not possible.
        """
        if write_mode == "reference":
            return _reference(place.locator, target_kind)
        object_id = object_id or new_id()
        if place.locator is not None:
            profile, path = self._explicit(place.locator)
        else:
            profile = self.profiles.get(place.profile or "default")
            of_kind = self.kinds.get(record.kind, (None, None))
            directory = place.directory or of_kind[0] or profile.directory or self.directory
            # An additional artifact keeps its own name, because the first artifact already uses the record's title.
            own = ATTACHED if record.artifacts and self.filename == FILENAME else None
            filename = place.filename or of_kind[1] or profile.filename or own or self.filename
            folder = render(directory, fields, record.metadata)
            name = segment(render(filename, fields, record.metadata), filename)
            path = f"{folder}/{name}"
            if profile.unique_names:
                path = suffixed(path, object_id)
        profile.check(path)
        if not profile.writable:
            raise ReadOnly(f"Profile {profile.name} is not writable.", next_step="cubeport profiles")
        folder, _, name = path.rpartition("/")
        explicit = place.locator is not None
        warnings: tuple[str, ...] = ()
        if getattr(profile, "volatile", False):  # a plugin's profile may omit it
            warnings = (f"Profile {profile.name} stores bytes only in this process: they are lost when it ends.",)
        return StoragePlan(
            locator=profile.locator(path),
            target_kind=target_kind,
            write_mode=write_mode,
            profile=profile.name,
            relative_path=path,
            directory=folder,
            filename=name,
            collision="error" if explicit else profile.collision,
            object_id=object_id,
            warnings=warnings,
        )

    def _explicit(self, locator: Any) -> tuple[Profile, str]:
        """Return the writable profile that contains an explicit locator, and the path in it."""
        match locator:
            case PlannedPathLocator() | LocalPathLocator(profile=str()):
                return self.profiles.get(str(locator.profile)), locator.path
            case FSSpecLocator(profile=str()):
                return self.profiles.get(str(locator.profile)), locator.urlpath
            case LocalPathLocator():
                for profile in self.profiles:
                    root = root_of(profile)
                    if root is not None and Path(locator.path).is_relative_to(root) and not profile.name.startswith("_"):
                        return profile, Path(locator.path).relative_to(root).as_posix()
        raise OutsideProfile("The place is under no writable storage profile.", next_step="cubeport profiles")


def _reference(locator: Any, target_kind: TargetKind) -> StoragePlan:
    if locator is None:
        raise InvalidRequest("A reference needs the place that it refers to.")
    text = str(getattr(locator, "path", None) or getattr(locator, "urlpath", None) or getattr(locator, "uri", ""))
    folder, _, name = text.rpartition("/")
    return StoragePlan(locator, target_kind, "reference", None, None, folder, name)


def moved(plan: StoragePlan, locator: Any, planner: Planner) -> StoragePlan:
    """Return *plan* at the place that a hook returned, which is checked like any explicit place."""
    profile, path = planner._explicit(locator)  # noqa: SLF001 - the planner's own other half
    profile.check(path)
    folder, _, name = path.rpartition("/")
    return replace(plan, locator=profile.locator(path), profile=profile.name, relative_path=path, directory=folder, filename=name)
