"""Find all problems in the configuration of an instance, without opening the catalog or starting anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.catalog.catalogfile import MARK, catalog_file
from cubeport.errors import CubeportError

if TYPE_CHECKING:
    from cubeport.service.templates import DatasetTemplate


def check_configuration(root: Path) -> list[str]:
    """Return each problem of the settings, profiles, catalog, templates, extents, zones and pipelines of *root*.

    A problem is one line, ``file:line:column: key: words``. Nothing is written, and no source is read.
    """
    return [line for check in (_settings, _catalog, _profiles, _entries, _pipelines) for line in check(root)]


def _settings(root: Path) -> Iterator[str]:
    from cubeport.settings import FILE, load

    try:
        settings = load(root)
    except CubeportError as exc:
        yield from _lines(exc)
        return
    if settings.webhooks.targets:
        from cubeport.service.webhooks import Webhook

        for each in settings.webhooks.targets:
            hook = Webhook.of(os.environ, **dict(each))
            yield from (f"{FILE}: webhooks.targets: {line}" for line in _caught(hook.check))
    for folder in settings.sources.roots:
        if not folder.is_dir():
            yield f"{FILE}: sources.roots: there is no folder {folder}"
        elif folder.resolve().is_relative_to(root.resolve()):
            yield f"{FILE}: sources.roots: {folder} is inside the instance, where no source may be; name another folder"


def _catalog(root: Path) -> Iterator[str]:
    yield from _caught(lambda: catalog_file(root))


def _profiles(root: Path) -> Iterator[str]:
    from cubeport.adapters.storage.profiles import BrokenProfile, read_profiles
    from cubeport.main.installed import plugins_of

    try:
        plugins = plugins_of(root)
    except CubeportError:  # a problem of the catalog's own file, which is already reported
        return
    yield from plugins.lines()
    try:
        profiles, _ = read_profiles(root, root / MARK / "scratch", os.environ, plugins.values("profile_type"))
    except CubeportError as exc:
        yield from _lines(exc)
        return
    broken = [each for each in profiles if isinstance(each, BrokenProfile)]
    yield from (problem.message for each in broken for problem in each.problems())
    yield from _caught(lambda: _bucket(root, {each.name for each in broken}))


def _bucket(root: Path, reported: Collection[str]) -> None:
    """Raise InvalidConfiguration if the profile of the settings cannot have versions."""
    from cubeport.main.versions import bucket_of
    from cubeport.settings import load

    try:
        settings = load(root)
    except CubeportError:  # it is already reported
        return
    if settings.profile is not None and settings.profile not in reported:
        bucket_of(settings)


def _entries(root: Path) -> Iterator[str]:
    from cubeport.adapters.configuration import FolderConfiguration
    from cubeport.adapters.zones import FolderZones
    from cubeport.service.templates import Broken, DatasetTemplate, Extent

    found = FolderConfiguration(root, template=DatasetTemplate, extent=Extent, broken=Broken)
    for broken in found.broken():
        yield from broken.problems
    yield from _unreadable(root, found.templates())
    for _, problems in FolderZones(root).problems():
        yield from problems


def _unreadable(root: Path, templates: Mapping[str, DatasetTemplate]) -> Iterator[str]:
    """Yield what each ingestion of a template would be refused for, because the settings do not allow its source."""
    from cubeport.adapters.sources.places import LocalPlaces
    from cubeport.settings import load

    try:
        places = LocalPlaces(root, roots=load(root).sources.roots)
    except CubeportError:  # it is already reported
        return
    for name, template in sorted(templates.items()):
        source = template.source
        for text in (*source.paths, *([source.path] if source.path else [])) if source.kind == "files" else ():
            try:
                places.allowed(text)
            except CubeportError as exc:
                yield f"config/datasets: template {name}: source.paths: {text}: {exc.message} Next: {exc.next_step}"


def _pipelines(root: Path) -> Iterator[str]:
    from cubeport.catalog import pipelines
    from cubeport.main.installed import plugins_of

    folder = root / "config" / "pipelines"
    try:
        steps = plugins_of(root).values("step")
    except CubeportError:
        return
    for file in sorted(folder.glob("*.yaml")):
        yield from _caught(lambda file=file: pipelines.read_pipeline(folder, file.stem, steps))  # type: ignore[misc]


def _caught(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except CubeportError as exc:
        yield from _lines(exc)


def _lines(exc: CubeportError) -> Iterator[str]:
    yield from (problem.message for problem in exc.errors) if exc.errors else exc.message.splitlines()
