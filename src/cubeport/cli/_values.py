"""Convert the texts of flags to values for the twins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeport.catalog.forms.strictjson import strict_json
from cubeport.errors import CubeportError, Usage


def is_url(text: str) -> bool:
    """Return whether *text* is an address rather than a local path."""
    from cubeport.catalog.models import is_uri

    return is_uri(text)


def is_path(text: str) -> bool:
    """Return whether *text* has the form of a path, or is an existing path. Then it does not name a record."""
    return ("/" in text and "://" not in text and not text.startswith("file:")) or Path(text).exists()


def name_and_version(name: str, version: str | None) -> tuple[str, str | None]:
    """Return name and version of ``NAME@VERSION``, or of two separate texts."""
    plain, at, inside = name.partition("@")
    if at and version is not None:
        raise Usage("The version is given twice.")
    return plain, inside or version


def metadata_of(
    assignments: Iterable[str], file: Path | None = None, *, texts: Iterable[str] = (), documents: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the metadata from ``--meta-file``, ``--meta``, ``--meta-text`` and ``--meta-json``. Flags have precedence over the
    file.
    """
    from cubeport.catalog.hooks import set_paths

    held = mapping_from(file) if file is not None else {}
    for steps, value in assigned(assignments, texts=texts, documents=documents):
        held = set_paths(held, {steps: value})
    return held


def assigned(
    assignments: Iterable[str], *, texts: Iterable[str] = (), documents: Iterable[str] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path below ``metadata`` and the value of each ``--meta``, ``--meta-text`` and ``--meta-json``."""
    from cubeport.catalog.terms import parse_assignment, read_assigned, read_json

    ways: list[tuple[Iterable[str], Callable[[str], Any]]] = [(assignments, read_assigned), (texts, str), (documents, read_json)]
    for given, read in ways:
        for text in given:
            steps, value = parse_assignment(text, read)
            yield steps[1:] if steps[0] == "metadata" and len(steps) > 1 else steps, value


def mapping_from(path: Path) -> dict[str, Any]:
    """Return the object in a JSON or YAML file. Raises Usage if there is none."""
    try:
        if path.suffix.lower() == ".json":
            value = strict_json(path.read_text("utf-8"))
        else:
            from cubeport.catalog.forms import strictyaml

            value = strictyaml.read(path).value
    except (OSError, ValueError) as exc:
        raise Usage(f"{path} cannot be read: {exc}") from None
    if not isinstance(value, dict):
        raise Usage(f"{path} does not contain an object.")
    return value


def schema_of(catalog: Any, text: str | None) -> dict[str, str]:
    """Return ``schema_name`` and ``schema_version`` of ``NAME`` (the newest) or ``NAME@VERSION``."""
    if text is None:
        return {}
    name, _, version = text.partition("@")
    schema = catalog.schemas.get(name, version or None)
    return {"schema_name": schema.name, "schema_version": schema.version}


def time_of(text: str | None) -> dict[str, Any] | None:
    """Return ``start`` and ``end`` of an instant, a part of a date, or ``A/B``."""
    if text is None:
        return None
    from cubeport.catalog.query import parse_interval

    start, end = parse_interval(text)
    return {"start": start, "end": end}


def bbox_of(text: str | None) -> list[float] | None:
    """Return the four numbers of ``W,S,E,N``."""
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.replace(" ", ",").split(",") if part)
    except ValueError:
        raise Usage(f"--bbox {text!r} is not four numbers W,S,E,N.") from None
    return [west, south, east, north]


def links_of(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return relation and target of each ``REL=ID``; a target that names no record is a URI."""
    links = []
    for text in texts:
        rel, equals, target = text.partition("=")
        if not equals or not target:
            raise Usage(f"--link {text!r} is not REL=ID.")
        links.append((rel, target))
    return links


def terms_of(terms: Sequence[str] | None, negated: Sequence[str] | None) -> list[Any]:
    """Return the terms of a search, negated ones too."""
    from cubeport.catalog.terms import parse_term

    return [*map(parse_term, terms or ()), *(parse_term(text, negate=True) for text in negated or ())]


def only_one(**given: Any) -> str | None:
    """Return the name of the one flag that was given. Raises Usage if there are two."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise Usage(f"--{names[0].replace('_', '-')} and --{names[1].replace('_', '-')} cannot be combined.")
    return names[0] if names else None


def seconds_of(text: str) -> float:
    """Return the seconds of an age or a duration: ``90``, ``30m``, ``24h``, ``7d``."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Usage(f"{text!r} is not a duration; write for example 90s, 30m, 24h or 7d.")
    return seconds


def column(record: Any, field: str) -> Any:
    """Return the value of a field of *record* or of its document, named as in a search. A list for lists in the path, ``None``
    if there is no value.
    """
    from cubeport.catalog.terms import resolve, split_field

    steps: tuple[str, ...] = resolve(split_field(field))
    document: Mapping[str, Any] = record if isinstance(record, Mapping) else record.to_mapping()
    found: list[Any] = [{**document, "artifact": document["artifacts"]}]
    spread = False
    for step in steps:
        inner = [each[step] for each in found if isinstance(each, Mapping) and each.get(step) is not None]
        spread = spread or any(isinstance(each, list) for each in inner)
        found = [one for each in inner for one in (each if isinstance(each, list) else [each])]
    if not found:
        return None
    return found if spread or len(found) > 1 else found[0]


def told(exc: CubeportError) -> dict[str, Any]:
    """Return a failure inside a list of results."""
    return {"kind": exc.kind, "message": exc.message}
