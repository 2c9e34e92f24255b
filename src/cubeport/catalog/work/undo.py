"""Compensations and after-actions *as data*: how to undo an operation, and what to do after its commit.

They are recorded in the journal, so recovery does not need the process that made them. Each contains a proof that we made the
object, or that it is still the same object. If the proof does not match, the object is kept and reported. Each can run any number
of times.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from cubeport.catalog.artifacts.storage import Profiles
from cubeport.catalog.disk.durable import store_errors
from cubeport.catalog.forms.canonical import JsonObject, dumps
from cubeport.catalog.hooks import HookManager
from cubeport.catalog.models import Model
from cubeport.errors import CubeportError, ExtraMissing, NamespaceTaken

Undone = Literal["removed", "absent", "not-ours", "done"]
"""The outcome: removed now, absent before, kept because the proof does not match, or done by a plugin."""


class Compensation(Model):
    """How to undo one change. ``undo`` names the function; the other fields are its arguments (``profile``, ``path``,
    ``proof``…).
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    label = "compensation"

    undo: str
    profile: str | None = None
    path: str | None = None
    proof: JsonObject = Field(default_factory=dict)


class Action(Model):
    """An action after the commit is certain: ``remove_source``, ``remove_managed``, or one that is registered."""

    model_config = ConfigDict(frozen=True, extra="allow")
    label = "after-action"

    action: str
    profile: str | None = None
    path: str
    proof: JsonObject = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What was done and what could not be done, with one readable message for each."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(slots=True)
class Undoer:
    """Runs compensations and after-actions."""

    profiles: Profiles
    hooks: HookManager
    _plugins: dict[str, Callable[[Mapping[str, Any]], None]] = field(default_factory=dict)

    def register(self, name: str, fn: Callable[[Mapping[str, Any]], None]) -> None:
        """Register a function that undoes a change, or acts after a commit, as *name*. Raises NamespaceTaken."""
        if name in (*_UNDOS, *_ACTIONS) or self._plugins.get(name, fn) is not fn:
            raise NamespaceTaken(f"The undo {name} is already registered.")
        self._plugins[name] = fn

    def undo(self, compensations: Iterable[Compensation], operation_id: str) -> Report:
        """Run *compensations* in reverse order. If one fails, the others still run."""
        return _each(reversed(list(compensations)), lambda each: self._undo(each, operation_id), lambda each: each.undo)

    def act(self, actions: Iterable[Action], operation_id: str) -> Report:
        """Run after-actions in order."""
        return _each(actions, lambda each: self._act(each, operation_id), lambda each: each.action)

    def _undo(self, each: Compensation, operation_id: str) -> Undone:
        if each.undo == "hook_undo":
            extra = each.model_extra or {}
            if not self.hooks.undo(str(extra.get("hook")), extra.get("data", {})):
                raise ExtraMissing(f"hook {extra.get('hook')} is not registered, so its undo cannot run")
            return "done"
        if each.undo in self._plugins:
            self._plugins[each.undo](each.to_mapping())
            return "done"
        if each.undo not in _UNDOS:
            raise ExtraMissing(f"no plugin provides the undo {each.undo}")
        assert each.profile is not None, "a managed place has a profile"
        assert each.path is not None, "a managed place has a path"
        profile = self.profiles.get(each.profile)
        folders = tuple((each.model_extra or {}).get("folders", ()))
        undone = profile.remove(each.path, each.proof, operation_id=operation_id)
        profile.remove_folders(folders)
        return undone

    def _act(self, each: Action, operation_id: str) -> Undone:
        if each.action in self._plugins:
            self._plugins[each.action](each.to_mapping())
            return "done"
        if each.action not in _ACTIONS:
            raise ExtraMissing(f"no plugin provides the action {each.action}")
        if each.action == "remove_source":
            return _remove_source(Path(each.path), each.proof)
        assert each.profile is not None, "managed bytes have a profile"
        return self.profiles.get(each.profile).remove(each.path, each.proof, operation_id=operation_id)


_UNDOS = ("remove_file", "remove_tree", "remove_temp", "abort_upload")
_ACTIONS = ("remove_source", "remove_managed")


def source_proof(path: Path) -> dict[str, Any]:
    """Return a proof of a source's identity: the inode, size and modification time, of every file if it is a folder."""
    if not path.is_dir():
        return _of(path.stat())
    walked = hashlib.sha256()
    for each in sorted(path.rglob("*")):
        walked.update(dumps([str(each.relative_to(path)), _of(each.lstat())]).encode())
    return {name: value for name, value in _of(path.stat()).items() if name in ("inode", "device")} | {"tree": walked.hexdigest()}


def _of(found: os.stat_result) -> dict[str, int]:
    return {"inode": found.st_ino, "device": found.st_dev, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _remove_source(path: Path, proof: Mapping[str, Any]) -> Undone:
    with store_errors("remove the moved source"):
        try:
            found = source_proof(path)
        except FileNotFoundError:
            return "absent"
        if any(found.get(name) != value for name, value in proof.items()):
            return "not-ours"
        shutil.rmtree(path) if "tree" in proof else path.unlink()
    return "removed"


def _each[T: Model](things: Iterable[T], run: Callable[[T], Undone], name: Callable[[T], str]) -> Report:
    done, left = [], []
    for thing in things:
        what = f"{name(thing)} {getattr(thing, 'path', None) or ''}".strip()
        try:
            outcome = run(thing)
        except CubeportError as exc:
            left.append(f"{what}: {exc.message}")
        except Exception as exc:  # noqa: BLE001 - a plugin's undo: whatever it raises, the others still have to run, and it is reported
            left.append(f"{what}: {type(exc).__name__}: {exc}")
        else:
            done.append(f"{what}: {outcome}")
    return Report(tuple(done), tuple(left))
