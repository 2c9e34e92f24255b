"""Views: folders of relative symbolic links to artifacts, arranged by a template, for people and tools that work with files.

``.cubeport-view.json`` in the folder lists the links and folders that cubeport made. Nothing else in the folder is changed.
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
"""The name of the list of our links and folders."""

State = Literal["planned", "up-to-date", "collision", "unsupported", "missing-target", "stale"]


@dataclass(frozen=True, slots=True)
class ViewLink:
    """One link: its path in the folder, its target, and its state."""

    path: str
    state: State
    record_id: str | None = None
    artifact_id: str | None = None
    target: str | None = None
    """The link text, relative to the folder of the link."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """The planned links of a view, sorted by path. Planning makes nothing."""

    folder: str
    template: str
    links: tuple[ViewLink, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of links in each state."""
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
        Returns the local path of an artifact, or ``None`` if it has none. The file need not exist.
    more
        The template fields of plugins: ``name → fn(fields)``.
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
    # Our links that no longer have a target, because the record or its bytes are gone.
    links += [ViewLink(path, "stale", target=target) for path, target in ours.items() if path not in wanted]
    return ViewPlan(str(folder), template, tuple(sorted((*links, *others), key=lambda link: (link.path, link.record_id or ""))))


def apply_view(plan: ViewPlan, *, prune: bool = False) -> ViewPlan:
    """Make the planned links, and with *prune* remove stale links. Return the resulting states. Each step checks before it acts."""
    folder = Path(plan.folder)
    ours, folders = _read_list(folder)
    make = {link.path: link for link in plan.links if link.state == "planned"}
    with store_errors("make the view"):
        make_folders(folder)
        if make:
            # Links are listed before they are made, so that a link left by a crash is known to be ours.
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
        # The template is valid, but this record does not fit it: a field is empty or a list.
        words = "the template makes an empty part for it; name another field after |"
        return ViewLink(name, "unsupported", record.id, artifact.artifact_id, reason=words)
    link = ViewLink(path, "planned", record.id, artifact.artifact_id)
    if place is None:
        return replace(link, state="unsupported", reason=f"a {artifact.locator.kind} is not a local file")
    if not place.exists():
        return replace(link, state="missing-target", reason="its bytes are missing")
    return replace(link, target=os.path.relpath(place.resolve(), (folder.resolve() / path).parent))


def view_fields(record: CatalogRecord, artifact: Artifact, name: str) -> dict[str, Field]:
    """Return the fields for the template of a view."""
    return template_fields(
        record,
        added=record.created_at,
        original=name,
        role=artifact.role,
        object_id=record.id,
        sha256=artifact.hashes.get("sha256", ""),
    )


def _compare(folder: Path, link: ViewLink, ours: Mapping[str, str]) -> ViewLink:
    """Return *link* with its state, compared with its path now."""
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
    """Return the text of the link at *path*; ``""`` if it is not a link, ``None`` if it does not exist."""
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
    """Remove our empty folders, the deepest first. Return those that were removed."""
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
