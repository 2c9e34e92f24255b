"""The zone sets of an instance: ``zones/*.geojson``, read again when a file changed. The name of a file is the id of its set."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubeport.catalog.disk.durable import demand_space, make_folders, replace_file, store_errors, sync_folder
from cubeport.catalog.forms import strictjson
from cubeport.cubes.zones import MOST_BYTES, MOST_ZONES, ZONE_SET_ID, ZoneSet, read_zone_set
from cubeport.errors import InvalidRequest

FOLDER = "zones"
SUFFIX = ".geojson"
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Read:
    """The content of a file, as it was last read."""

    state: tuple[int, int]
    found: ZoneSet | None
    problems: tuple[str, ...] = ()


class FolderZones:
    """The port ``service.ports.ZoneSets`` over the folder ``zones`` of an instance.

    A file that is not valid does not affect the others. A set is written atomically, and every process sees it within a second.
    """

    def __init__(self, root: Path, *, most_bytes: int = MOST_BYTES, most_zones: int = MOST_ZONES) -> None:
        self._folder = root / FOLDER
        self._most_bytes = most_bytes
        self.most_zones = most_zones
        self._files: dict[str, _Read] = {}
        self._looked = -float("inf")
        self._reading = threading.Lock()

    def all(self) -> Mapping[str, ZoneSet]:
        """Return the sets that are valid, by id, sorted."""
        return {name: each.found for name, each in sorted(self._look().items()) if each.found is not None}

    def problems(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each file that is not valid, as ``zones/NAME.geojson``, with its problem."""
        return tuple((f"{FOLDER}/{name}{SUFFIX}", each.problems) for name, each in sorted(self._look().items()) if each.problems)

    def put(self, zone_set: ZoneSet) -> None:
        """Write the set under its id. Replaces an existing set. Raises NoSpace, StoreUnavailable."""
        import orjson

        content = orjson.dumps(zone_set.document(), option=orjson.OPT_APPEND_NEWLINE)
        with store_errors("keep the zone set"):
            make_folders(self._folder)
            demand_space(self._folder, free_bytes=len(content) + (1 << 20))
            replace_file(self._folder / f"{zone_set.id}{SUFFIX}", content)
        self._look(again=True)

    def remove(self, zone_set_id: str) -> bool:
        """Remove a set. Return whether it existed. Raises StoreUnavailable."""
        path = self._folder / f"{zone_set_id}{SUFFIX}"
        with store_errors("remove the zone set"):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(self._folder)
        self._look(again=True)
        return True

    def _look(self, *, again: bool = False) -> Mapping[str, _Read]:
        with self._reading:
            if again or time.monotonic() - self._looked >= LOOK_AGAIN_S:
                self._files = {name: self._fresh(name, path) for name, path in self._paths()}
                self._looked = time.monotonic()
            return self._files

    def _paths(self) -> list[tuple[str, Path]]:
        try:
            return [(each.stem, each) for each in sorted(self._folder.iterdir()) if each.suffix == SUFFIX and each.name[0] != "."]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _fresh(self, name: str, path: Path) -> _Read:
        """Return the content of the file; from memory if the file did not change."""
        if not path.is_file():  # opening a pipe would wait for its other end
            return _Read((0, 0), None, (f"{FOLDER}/{path.name}: is not a regular file",))
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size)
        known = self._files.get(name)
        if known is not None and known.state == state:
            return known
        where = f"{FOLDER}/{path.name}"
        if ZONE_SET_ID.fullmatch(name) is None:
            return _Read(state, None, (f"{where}: the name must be lower-case letters, digits, - and _: it is the id of the set",))
        if stat.st_size > self._most_bytes:
            return _Read(state, None, (f"{where}: has {stat.st_size} bytes; a zone set may have {self._most_bytes}",))
        try:
            return _Read(state, read_zone_set(name, self._document(path), most_zones=self.most_zones))
        except InvalidRequest as error:
            told = tuple(f"{where}: {problem.loc[-1]}: {problem.message}" for problem in error.errors) or (
                f"{where}: {error.message}",
            )
            return _Read(state, None, told)
        except OSError as error:
            return _Read((0, 0), None, (f"{where}: cannot be read: {error.strerror}",))

    def _document(self, path: Path) -> Any:
        content = path.read_bytes()
        try:
            return strictjson.strict_json(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"is not JSON: {error}"[:300]) from error
