"""A folder of relative symbolic links to artifacts, laid out by a template: for people and tools that want files, not queries.

``.cubeport-view.json`` in the folder lists the links and folders that are ours. Nothing else there is ever touched.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cubeport.catalog.artifacts.paths import Field, render
from cubeport.catalog.artifacts.planning import template_fields
from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import Artifact, CatalogRecord
from cubeport.errors import Conflict, PathEscapes

LIST = ".cubeport-view.json"
"""The name of the list of what is ours."""

State = Literal["planned", "up-to-date", "collision", "unsupported", "missing-target", "stale"]


@dataclass(frozen=True, slots=True)
class ViewLink:
    """One link: where in the folder, to what, and how it stands."""

    path: str
    state: State
    record_id: str | None = None
    artifact_id: str | None = None
    target: str | None = None
    """The text of the link, relative to its own folder."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What a view would be, sorted by path; nothing is made by planning."""

    folder: str
    template: str
    links: tuple[ViewLink, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many links are in which state."""
        return dict(sorted(Counter(link.state for link in self.links).items()))

    def to_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        links = [{name: getattr(link, name) for name in ViewLink.__slots__} for link in self.links]
        return {"folder": self.folder, "template": self.template, "counts": self.counts, "links": links}


def plan_view(
    folder: Path,
    records: Iterable[CatalogRecord],
    template: str,
    *,
    resolve: Callable[[Artifact], Path | None],
    more: Mapping[str, Callable[[Mapping[str, Field]], str]] = MappingProxyType({}),
) -> ViewPlan:
    """Return the plan for the primary artifacts of *records*.

    Parameters
    ----------
    resolve
        An artifact's place in the local file system, ``None`` where it has none; nothing need be there.
    more
        Template fields of plugins: ``name → fn(fields)``.
    """
    folder = folder.absolute()
    ours, _ = _read_list(folder)
    wanted: dict[str, ViewLink] = {}
    others: list[ViewLink] = []
    for record in records:
        for artifact in record.artifacts:
            if artifact.role != "primary":
                continue
            link = _link(folder, record, artifact, template, resolve, more)
            if link.state != "planned":
                others.append(link)
            elif (first := wanted.get(link.path)) is not None:
                others.append(replace(link, state="collision", reason=f"record {first.record_id} already has this path"))
            else:
                wanted[link.path] = link
    links = [_compare(folder, link, ours) for link in wanted.values()]
    # What is ours and stands for nothing any more; also where its record is still there, but its bytes are not.
    links += [ViewLink(path, "stale", target=target) for path, target in ours.items() if path not in wanted]
    return ViewPlan(str(folder), template, tuple(sorted((*links, *others), key=lambda link: (link.path, link.record_id or ""))))


def apply_view(plan: ViewPlan, *, prune: bool = False) -> ViewPlan:
    """Make what is planned, and with *prune* remove what is stale; return how it stands now. Each step looks before it acts."""
    folder = Path(plan.folder)
    ours, folders = _read_list(folder)
    make = {link.path: link for link in plan.links if link.state == "planned"}
    with store_errors("make the view"):
        make_folders(folder)
        if make:
            # Listed before they are made: a link that a crash leaves behind is known to be ours.
            _write_list(folder, plan.template, ours | {path: link.target or "" for path, link in make.items()}, folders)
        links: list[ViewLink] = []
        for link in plan.links:
            now = link
            if link.state == "planned":
                now = _compare(folder, link, ours)
                if now.state == "planned":
                    folders |= {made.relative_to(folder).as_posix() for made in make_folders((folder / link.path).parent)}
                    now = _make(folder, link, ours.get(link.path))
                if now.state == "up-to-date":
                    ours[link.path] = link.target or ""
            elif link.state == "stale" and prune:
                _remove(folder, link.path, ours.pop(link.path, None))
                continue
            links.append(now)
        if prune:
            folders -= _remove_empty(folder, folders)
        _write_list(folder, plan.template, ours, folders)
    return replace(plan, links=tuple(links))


def _link(
    folder: Path,
    record: CatalogRecord,
    artifact: Artifact,
    template: str,
    resolve: Callable[[Artifact], Path | None],
    more: Mapping[str, Callable[[Mapping[str, Field]], str]],
) -> ViewLink:
    place = resolve(artifact)
    name = place.name if place is not None else artifact.artifact_id
    ours = view_fields(record, artifact, name)
    theirs: dict[str, Field] = {key: partial(fn, ours) for key, fn in more.items()}
    try:
        path = render(template, theirs | ours, record.metadata)
    except PathEscapes:
        # The template is right, this record does not fill it: a field is empty, or a list.
        words = "the template makes an empty part for it; name another field after |"
        return ViewLink(name, "unsupported", record.id, artifact.artifact_id, reason=words)
    link = ViewLink(path, "planned", record.id, artifact.artifact_id)
    if place is None:
        return replace(link, state="unsupported", reason=f"a {artifact.locator.kind} is not a local file")
    if not place.exists():
        return replace(link, state="missing-target", reason="its bytes are missing")
    return replace(link, target=os.path.relpath(place.resolve(), (folder.resolve() / path).parent))


def view_fields(record: CatalogRecord, artifact: Artifact, name: str) -> dict[str, Field]:
    """Return the fields that a view's template can name."""
    return template_fields(
        record,
        added=record.created_at,
        original=name,
        role=artifact.role,
        object_id=record.id,
        sha256=artifact.hashes.get("sha256", ""),
    )


def _compare(folder: Path, link: ViewLink, ours: Mapping[str, str]) -> ViewLink:
    """Return *link* as it stands against what is at its path now."""
    path = folder / link.path
    for parent in (path.parents[i] for i in range(len(Path(link.path).parts) - 1)):
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            return replace(link, state="collision", reason=f"{parent.relative_to(folder)} is not a folder")
    found = _target(path)
    if found is None:
        return link
    if link.path not in ours or found != ours[link.path]:
        return replace(link, state="collision", reason="cubeport did not make what is there")
    return link if found != link.target else replace(link, state="up-to-date")


def _target(path: Path) -> str | None:
    """Return the text of the link at *path*, ``""`` for anything else there, ``None`` for nothing."""
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _make(folder: Path, link: ViewLink, former: str | None) -> ViewLink:
    assert link.target is not None, "a planned link has a target"
    path = folder / link.path
    if former is not None and _target(path) == former:
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        beside.symlink_to(link.target)
        beside.replace(path)
    else:
        try:
            path.symlink_to(link.target)
        except FileExistsError:
            return replace(link, state="collision", reason="cubeport did not make what is there")
    return replace(link, state="up-to-date")


def _remove(folder: Path, path: str, target: str | None) -> None:
    if target is not None and _target(folder / path) == target:
        (folder / path).unlink()


def _remove_empty(folder: Path, folders: Iterable[str]) -> set[str]:
    """Remove those of our folders that are empty, the deepest first; return those that are gone."""
    gone = set()
    for each in sorted(folders, key=lambda path: path.count("/"), reverse=True):
        path = folder / each
        if path.is_symlink() or not path.is_dir():
            gone.add(each)
        elif not any(path.iterdir()):
            path.rmdir()
            gone.add(each)
    return gone


def _read_list(folder: Path) -> tuple[dict[str, str], set[str]]:
    path = folder / LIST
    try:
        document = json.loads(path.read_text("utf-8"))
        links = {str(name): str(target) for name, target in document["links"].items()}
        folders = {str(each) for each in document["folders"]}
    except FileNotFoundError:
        return {}, set()
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Conflict(
            f"{path} cannot be read, so it is unknown which links are ours: {exc}", next_step="remove the folder, or name another"
        ) from exc
    if any(Path(each).is_absolute() or ".." in Path(each).parts for each in (*links, *folders)):
        raise Conflict(f"{path} lists what is outside its folder.", next_step="remove the file, or name another folder")
    return links, folders


def _write_list(folder: Path, template: str, links: Mapping[str, str], folders: Iterable[str]) -> None:
    document = {"view": 1, "template": template, "links": dict(links), "folders": sorted(folders)}
    replace_file(folder / LIST, dumps(document, indent=True).encode() + b"\n")
