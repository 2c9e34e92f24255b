"""Find the local files of a source block. It looks up names and opens nothing.

A request can name only files below ``sources.roots``, and no files inside the instance. Links are not followed: the gate opens each
component with ``O_NOFOLLOW``. ``adapters/fetching`` handles URLs of other machines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cubeport.cubes.placeholders import expression
from cubeport.errors import ExtraMissing, InvalidRequest, SourceRejected

type PluginSource = Callable[[Mapping[str, Any]], Sequence[Path]]
"""``source(params)`` returns local files. It is registered by name, and a template uses it with ``kind: plugin``."""

FILES_AT_MOST = 10_000


class Block(Protocol):
    """A source block of ``service.templates``."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def paths(self) -> tuple[str, ...]: ...
    @property
    def path(self) -> str | None: ...
    @property
    def params(self) -> Mapping[str, Any]: ...


def absolute(instance: Path, roots: Sequence[Path]) -> tuple[Path, ...]:
    """Return ``sources.roots``, which may be relative to the instance, as absolute paths; links are refused, not followed."""
    return tuple(Path(os.path.abspath(instance / root)) for root in roots)  # noqa: PTH100 - lexical on purpose


class LocalPlaces:
    """The local part of the port ``service.ports.Sources``."""

    def __init__(self, instance: Path, *, roots: Sequence[Path], plugins: Mapping[str, PluginSource] | None = None) -> None:
        self._instance = Path(os.path.abspath(instance))  # noqa: PTH100 - lexical on purpose: links are refused, not followed
        self._roots = absolute(self._instance, roots)
        self._plugins = dict(plugins or {})

    def resolve(self, source: Block, *, installed: Sequence[str] = ()) -> tuple[Path, ...]:
        """Return the files or the Zarr folder that *source* names. *installed* lists the other installed plugins, for messages.

        Raises
        ------
        SourceRejected
            ``not-allowed``, if a file may not be read; ``empty``, if nothing is found.
        InvalidRequest
            If the plugin is unknown, or does not accept the parameters.
        """
        if source.kind == "plugin":
            if source.name not in self._plugins:
                known = ", ".join(sorted((*self._plugins, *installed))) or "none"
                raise InvalidRequest(f"There is no source plugin {source.name!r}; installed: {known}.")
            return self.own(tuple(self._plugins[source.name](source.params)))
        texts = source.paths if source.kind == "files" else (source.path or "",)
        found = dict.fromkeys(path for text in texts for path in self._find(text))
        return tuple(found)

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return *files* as absolute paths with links resolved, because they are the caller's own. Raises SourceRejected."""
        whole = tuple(file.resolve() for file in files)
        for given, file in zip(files, whole, strict=True):
            if not file.exists():
                raise SourceRejected(f"{given.name}: there is no such file.", reason="empty", source=given.name)
        return whole

    def outside(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return those of *files* that lie below no root, or inside the instance: nothing may point at them for long."""
        return tuple(
            file
            for file in files
            if file.is_relative_to(self._instance) or not any(file.is_relative_to(root) for root in self._roots)
        )

    def allowed(self, text: str) -> tuple[Path, Path]:
        """Return the root below which a path or a pattern of a source is, and the whole path; nothing is looked up.

        Raises
        ------
        SourceRejected
            ``not-allowed``, if nothing there may be read.
        """
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) or "::" in text or "\0" in text:
            raise SourceRejected(
                "paths can only name files on this machine.",
                reason="not-allowed",
                source=text.partition("?")[0][:200],
                next_step="give the address as the source itself, not in paths",
            )
        if ".." in Path(text).parts:
            raise SourceRejected(
                "A source path may not contain '..'.",
                reason="not-allowed",
                source=text[:200],
                next_step="write the path from the root folder on, without '..'",
            )
        path = Path(os.path.abspath(self._instance / text))  # noqa: PTH100 - lexical on purpose
        root = next((root for root in self._roots if path.is_relative_to(root)), None)
        if root is None or path.is_relative_to(self._instance):
            raise SourceRejected(
                "The path is not in a folder that this server may read.",
                reason="not-allowed",
                source=text[:200],
                next_step="add its folder"
                + (f", {path.parent}," if text.startswith("/") else "")
                + " to sources.roots in config/service.yaml, outside the instance",
            )
        return root, path

    def _find(self, text: str) -> list[Path]:
        root, path = self.allowed(text)
        found = _match(root, path.relative_to(root).parts) if _is_pattern(text) else [path] if os.path.lexists(path) else []
        if not found:
            raise SourceRejected(
                f"There is nothing at {path.name[:80]!r}.",
                reason="empty",
                source=text[:200],
                next_step="check the path; a pattern must match at least one file",
            )
        if len(found) > FILES_AT_MOST:
            raise SourceRejected(f"More than {FILES_AT_MOST} files match.", reason="too-big", source=text[:200])
        return found


def _is_pattern(text: str) -> bool:
    return any(c in text for c in "*?[{")


def _match(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return the paths that match the pattern, sorted by name at each level. Links are skipped."""
    level = [root]
    for depth, part in enumerate(parts, 1):
        fits = re.compile(expression(part)).fullmatch
        level = [
            Path(e.path)
            for folder in level
            for e in sorted(os.scandir(folder), key=lambda e: e.name)
            if fits(e.name) and not e.is_symlink()
        ]
        if depth < len(parts):
            level = [folder for folder in level if folder.is_dir()]
    return level


def iris_sample_data(params: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the files that ``params["files"]`` names in the package iris-sample-data, which contains real data to try cubeport
    with.

    Raises
    ------
    ExtraMissing
        If the package is not installed.
    """
    try:
        import iris_sample_data
    except ImportError as exc:
        raise ExtraMissing(
            "The package iris-sample-data is not installed.", next_step="install cubeport with its extra: cubeport[demo]"
        ) from exc
    files = params.get("files")
    if not isinstance(files, list) or not all(
        isinstance(f, str) and re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?", f) for f in files
    ):
        raise InvalidRequest("The source plugin iris-sample-data needs params.files, a list of file names.")
    missing = [file for file in files if ".." in file or not (Path(iris_sample_data.path) / file).is_file()]
    if missing or not files:
        held = sorted(path.name for path in Path(iris_sample_data.path).iterdir() if path.suffix == ".nc")
        raise InvalidRequest(
            f"The package iris-sample-data has no file {missing[0]!r}." if missing else "params.files names no file.",
            next_step=f"choose among its NetCDF files: {', '.join(held)[:500]}",
        )
    return tuple(Path(iris_sample_data.path) / file for file in files)
