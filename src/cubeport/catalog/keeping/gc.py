"""``gc``: remove bytes that nothing refers to, if it is proven that we made them. All other bytes stay."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from cubeport.catalog.artifacts.storage import Profile, Stored
from cubeport.catalog.disk.durable import store_errors
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.keeping.integrity import place_of
from cubeport.catalog.parts import CatalogParts, Garbage, Keeper
from cubeport.catalog.work.journal import Line
from cubeport.catalog.work.unit_of_work import Ports

_PART = re.compile(r"\.(?P<name>.+)\.(?P<operation>[0-9a-f]{32})\.part")
"""The temporary name of bytes that are being written (``part_path``). Only the operation in the name uses it."""

_PROBE = re.compile(r"\.probe\.\d+\.part")


def gc(ports: Ports, parts: CatalogParts, *, older_than_s: float, dry_run: bool) -> list[Garbage]:
    """Remove bytes that are provably ours, that nothing refers to, and that are old enough by the store's clock. Only list unknown
    files.
    """
    found: list[Garbage] = []
    clocks: dict[str, float] = {}
    keepers = tuple(parts.keepers())
    for each in garbage(ports, parts, keepers):
        profile = ports.profiles.get(each.profile)
        if each.profile not in clocks:
            clocks[each.profile] = profile.now() if not dry_run else time.time()
        age = clocks[each.profile] - datetime.fromisoformat(each.modified).timestamp()
        removable = each.ours and profile.writable and age >= older_than_s
        if removable and not dry_run:
            with store_errors("remove the bytes"), step("gc"):
                is_kept = each.kind == "orphan-version"
                removed = any(keeper.remove(each) for keeper in keepers) if is_kept else _removed(profile, each)
            found.append(replace(each, removed=removed))
        elif removable or not each.ours:
            found.append(each)
    for keeper in keepers:
        found += keeper.collect(dry_run=dry_run)
    if not dry_run:
        _remove_empty_folders(ports, parts)
    return found


def _removed(profile: Profile, each: Garbage) -> bool:
    there = profile.stat(each.path)
    return there is not None and profile.remove(each.path, there.proof) == "removed"


def _remove_empty_folders(ports: Ports, parts: CatalogParts) -> None:
    """Remove empty folders that we made according to a journal (path and inode). An operation that needs one makes it again."""
    for operation in ports.journal.closed():
        for line in operation:
            for each in line.data.get("compensations", ()):
                name = each.get("profile")
                if each.get("folders") and name in ports.profiles and name not in parts.apart:
                    ports.profiles.get(name).remove_folders(each["folders"])


def garbage(ports: Ports, parts: CatalogParts, keepers: Iterable[Keeper] | None = None) -> list[Garbage]:
    """Return bytes that nothing refers to. Stores are listed first, then open journals, then records, so that no used file looks
    orphaned.
    """
    kept = [each for keeper in (parts.keepers() if keepers is None else keepers) for each in keeper.garbage()]
    searched = [profile for profile in ports.profiles if profile.writable and profile.name not in parts.apart]
    listed = [(profile, list(profile.walk())) for profile in searched]
    in_work = set(ports.journal.open_ids())
    held: set[tuple[str, str]] = set()
    for record in ports.backend.iterate():
        held |= {place for artifact in record.artifacts if (place := place_of(artifact)) is not None}
    made = _made(ports)
    return kept + [
        Garbage(profile.name, each.path, each.size_bytes, _at(each), reason, reason != STRANGE)
        for profile, stored in listed
        for each in stored
        if (reason := _reason(profile.name, each.path, held, in_work, made)) is not None
    ]


def _at(stored: Stored) -> str:
    return timestamp(datetime.fromtimestamp(stored.modified_s, UTC))


STRANGE = "no record names it"


def _reason(
    profile: str, path: str, held: set[tuple[str, str]], in_work: set[str], made: Mapping[tuple[str, str], str]
) -> str | None:
    """Return why the file is garbage, or ``None`` if a record or an open operation uses it."""
    parents = [path]
    while "/" in path:
        path = path.rpartition("/")[0]
        parents.append(path)
    if any((profile, each) in held for each in parents):
        return None
    for each in parents:
        if (part := _PART.fullmatch(each.rpartition("/")[2])) is not None:
            return None if part["operation"] in in_work else f"left by operation {part['operation']}"
    if _PROBE.fullmatch(parents[0].rpartition("/")[2]):
        return "left by a probe"
    for each in parents:
        if (operation := made.get((profile, each))) is not None:
            return None if operation in in_work else f"made by operation {operation}, which no record keeps"
    return STRANGE


def _made(ports: Ports) -> dict[tuple[str, str], str]:
    """Return the paths that we made according to journals, with their operations."""
    found: dict[tuple[str, str], str] = {}
    opened: Iterable[list[Line]] = (ports.journal.read(each) for each in ports.journal.open_ids())
    for lines in (*ports.journal.closed(), *opened):
        for line in lines:
            for each in line.data.get("compensations", ()):
                if each.get("path") and each.get("profile"):
                    found[each["profile"], each["path"]] = line.operation_id
    return found
