"""The instance's templates and extents, from ``config/datasets/*.yaml`` and ``extents/*.yaml``.

They are read again if a folder changed, which is checked at most once a second. An invalid entry disables only itself. Every
problem is recorded with its file, line and column.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cubeport.catalog.forms import strictyaml
from cubeport.errors import InvalidConfiguration

LOOK_AGAIN_S = 1.0


@dataclass(slots=True)
class _Folder:
    """A folder of YAML files. Each file contains an entry or a list of entries."""

    path: Path
    name: str
    model: type[BaseModel]
    id_field: str
    broken: Callable[[str, tuple[str, ...]], Any]
    entries: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Any, ...] = ()
    seen: tuple[tuple[str, int, int], ...] | None = None

    def state(self) -> tuple[tuple[str, int, int], ...]:
        try:
            with os.scandir(self.path) as files:  # a sync plan looks at every file: with Path it takes four times as long
                return tuple(
                    sorted(
                        (file.name, stat.st_mtime_ns, stat.st_size)
                        for file in files
                        if os.path.splitext(file.name)[1] in (".yaml", ".yml") and (stat := file.stat())  # noqa: PTH122  # the same
                    )
                )  # also a pipe: it is reported as broken without being opened
        except FileNotFoundError:
            return ()

    def read(self) -> None:
        if (state := self.state()) == self.seen:
            return
        entries: dict[str, Any] = {}
        problems: list[Any] = []
        for file, _, _ in state:
            for entry, wrong in self._file(self.path / file, f"{self.name}/{file}"):
                if wrong:
                    problems.append(self.broken(f"{self.name}/{file}", wrong))
                elif (key := getattr(entry, self.id_field)) in entries:
                    problems.append(self.broken(f"{self.name}/{file}", (f"{self.name}/{file}: {key} is defined twice",)))
                else:
                    entries[key] = entry
        self.entries, self.problems, self.seen = entries, tuple(problems), state

    def _file(self, path: Path, name: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
        if not path.is_file():  # opening a pipe would block
            yield None, (f"{name}: is not a regular file",)
            return
        try:
            document = strictyaml.read(path, name)
        except InvalidConfiguration as exc:
            yield None, tuple(problem.message for problem in exc.errors) or (exc.message,)
            return
        except OSError as exc:
            yield None, (f"{name}: cannot be read: {exc.strerror}",)
            return
        listed = isinstance(document.value, list)
        for i, entry in enumerate(document.value if listed else [document.value]):
            try:
                yield self.model.model_validate(entry), ()
            except ValidationError as exc:
                errors = [
                    {**error, "loc": (i, *error["loc"]) if listed else error["loc"]} for error in exc.errors(include_url=False)
                ]
                known: dict[strictyaml.Loc, Iterable[str]] = {(): self.model.model_fields, (i,): self.model.model_fields}
                yield None, tuple(p.message for p in strictyaml.problems(document, errors, known))


class FolderConfiguration:
    """The port ``service.templates.Configuration`` for the folders of an instance."""

    def __init__(
        self,
        root: Path,
        *,
        template: type[BaseModel],
        extent: type[BaseModel],
        broken: Callable[[str, tuple[str, ...]], Any],
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        self._templates = _Folder(root / "config" / "datasets", "config/datasets", template, "id", broken)
        self._extents = _Folder(root / "extents", "extents", extent, "extent_id", broken)
        self._look_again_s = look_again_s
        self._looked = -float("inf")
        self._reading = threading.Lock()

    def look_again(self) -> None:
        """Read changes immediately, for work that depends on a file that was just written."""
        self._looked = -float("inf")

    def templates(self) -> Mapping[str, Any]:
        """Return the valid templates by id."""
        self._look()
        return self._templates.entries

    def extents(self) -> Mapping[str, Any]:
        """Return the valid extents by id."""
        self._look()
        return self._extents.entries

    def broken(self) -> tuple[Any, ...]:
        """Return the invalid entries."""
        self._look()
        return (*self._templates.problems, *self._extents.problems)

    def _look(self) -> None:
        with self._reading:
            if time.monotonic() - self._looked >= self._look_again_s:
                self._templates.read()
                self._extents.read()
                self._looked = time.monotonic()
