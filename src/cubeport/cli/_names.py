"""Names: ids of datasets from the names of files, and many files written as one glob."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from cubeport.catalog.forms.names import of_name
from cubeport.errors import InvalidRequest, Usage


def of_series(files: Sequence[Path]) -> str:
    """Return the id of one dataset of all *files*: what their names have in common, else the name of their folder."""
    if len(files) == 1:
        return of_name(files[0].stem) or "dataset"
    common = _common([path.stem for path in files])
    # A part of a word or number that all begin with says nothing: tas_20 of tas_2001 and tas_2002.
    whole = re.sub(r"[^_.\s-]*$", "", common) if any(path.stem != common for path in files) else common
    return of_name(whole) or of_name(files[0].absolute().parent.name) or "dataset"


def of_address(address: str) -> str:
    """Return the id of one dataset of an address: the last part of its path."""
    last = re.sub(r"\{[^{}]*\}", "", address.partition("?")[0].rstrip("/").rpartition("/")[2])
    return of_name(Path(last).stem) or "dataset"


def check_id(given: str | None) -> None:
    """Refuse an id of a dataset that has other characters than an address may have. Raises Usage."""
    if given is not None and not _ID.fullmatch(given):
        raise Usage(
            f"--id {given!r} cannot be the id of a dataset: it needs lower-case letters, digits, - and _, at most 64.",
            next_step=f"--id {of_name(given) or 'ID'}; --title has the name for people",
        )


_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern of ids that names nothing of the file, or something else. Raises Usage."""
    named = set(re.findall(r"\{([^{}]*)\}", pattern))
    if not named or named - {"stem", "suffix", "parent", "variable"}:
        raise Usage(
            f"--id-pattern {pattern!r} needs {{stem}}, {{suffix}}, {{parent}} or {{variable}}, and takes nothing else in braces.",
            next_step="--id-pattern '{parent}-{stem}'",
        )


def of_file(path: Path, pattern: str, first_variable: Callable[[Path], str]) -> str:
    """Return the id of the dataset of one file: *pattern* with its ``{stem}``, ``{suffix}``, ``{parent}`` (folder) and
    ``{variable}``.

    Raises
    ------
    InvalidRequest
        If no character is left that an id may have.
    """
    text = pattern.replace("{stem}", path.stem).replace("{parent}", path.absolute().parent.name)
    text = text.replace("{suffix}", path.suffix.removeprefix("."))
    if "{variable}" in text:
        text = text.replace("{variable}", first_variable(path))
    if (made := of_name(text)) is None:
        raise InvalidRequest(
            f"cubeport cannot make an id from {text!r}.", next_step=f"cubeport ingest {shlex.quote(str(path))} --id ID"
        )
    return made


def as_globs(sources: Sequence[str]) -> list[str]:
    """Return *sources* as few words: a glob where files of one folder are all that it fits, else each of them."""
    if len(sources) < 3:
        return list(sources)
    folders = {os.path.dirname(each) for each in sources}  # noqa: PTH120 - kept as written, "./" and all
    if len(folders) != 1:
        return list(sources)
    folder = next(iter(folders))
    names = {os.path.basename(each) for each in sources}  # noqa: PTH119 - as above
    first = _common(names)
    last = _common([name[::-1] for name in names])[::-1]
    try:
        there = {each.name for each in os.scandir(folder or ".")}
    except OSError:
        return list(sources)
    for begin in (first, ""):
        fits = {name for name in there if name.startswith(begin) and name.endswith(last) and len(name) >= len(begin) + len(last)}
        if fits == names and not re.search(r"[*?\[]", begin + last):
            return [os.path.join(folder, f"{begin}*{last}")]  # noqa: PTH118 - as above
    return list(sources)


def _common(texts: Collection[str]) -> str:
    """Return the characters that all *texts* begin with."""
    least, greatest = min(texts), max(texts)
    return least[
        : next((i for i, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b), min(len(least), len(greatest)))
    ]
