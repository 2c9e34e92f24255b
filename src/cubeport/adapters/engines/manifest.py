"""The manifest of a version, which is the only list of its objects, and the file names that an engine uses for a version.

``manifest.json`` is ``{"algorithm": "sha256", "entries": [{"key", "size", "sha256"}]}``, sorted by key. Its own sha256 is the
digest of the version. An object that it does not list does not exist. If it lists an object that the store does not have, the store
is damaged.

The manifest of a virtual version also has ``"sources": [{"name", "size", "sha256", "identity"}]``, sorted. The entry of a chunk in
one of these files names it by its place in that list, with the first byte: ``{"key", "size", "sha256", "source", "offset"}``.
Everybody may read the manifest, so the places of the files are in ``sources.json`` beside it; *identity* is the sha256 of the item
there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cubeport.cubes import keys
from cubeport.cubes.write_request import Pointed, SourceFile, StoreObject
from cubeport.errors import SourceChanged

CUBE = "cube.zarr"
"""The folder of the published Zarr tree."""

MANIFEST = "manifest.json"
"""The manifest, next to the tree."""

COPY = "copy.nc"
"""The NetCDF-4 copy of a version, next to its cube."""

OVERVIEWS, OVERVIEWS_MANIFEST = "overviews.zarr", "overviews.json"
"""The same of the overviews of a cube: a folder with a group for each level, ``1`` being the finest. They have a manifest of their
own, so that the digest of the version is that of the cube."""


SOURCES = "sources.json"
"""Where the files of a virtual version are, next to the manifest: a list of :class:`SourceFile` and :class:`StoreObject`, whose
fields tell them apart.
"""


class Lying(NamedTuple):
    """What a manifest says of a file that chunks lie in."""

    name: str
    size: int
    """In bytes."""
    sha256: str
    identity: str
    """sha256 of what :data:`SOURCES` says of it."""

    @classmethod
    def of(cls, source: Pointed) -> Lying:
        """Return it for a file."""
        identity = hashlib.sha256(json.dumps(source).encode()).hexdigest()
        return cls(Path(source.path).name, source.size, source.sha256, identity)


class Entry(NamedTuple):
    """The manifest's entry for one object."""

    size: int
    """The size in bytes."""
    sha256: str
    """The sha256 of its bytes in hex."""
    source: Lying | None = None
    """The file that contains it; ``None`` for an object of the version itself."""
    offset: int = 0
    """The first byte in that file."""


type Entries = Mapping[str, Entry]
"""The entries by key."""


def parse(manifest: bytes) -> Entries:
    """Return the entries. Raises ValueError unless *manifest* lists valid keys, each once, in order."""
    try:
        document = json.loads(manifest)
        sources = [Lying(**each) for each in document.get("sources", ())]
        entries = {each["key"]: _entry(each, sources) for each in document["entries"]}
        ordered = (
            document["algorithm"] == "sha256" and list(entries) == sorted(entries) and len(entries) == len(document["entries"])
        )
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a manifest") from error
    if not ordered or not all(map(keys.is_key, entries)):
        raise ValueError("not a manifest")
    return entries


def trusted(manifest: bytes) -> Entries:
    """Return the entries of a manifest that :func:`parse` has accepted before: it has the digest that the catalog recorded then.

    Nothing is parsed before it is asked for, so a version of 20,000 chunks is opened in the time that one of 200 takes.
    """
    return _Listing(manifest) if manifest.startswith(_PLAIN) else parse(manifest)


_PLAIN = b'{"algorithm":"sha256","entries":[{"key":"'
"""How a manifest begins in the form of :func:`to_bytes` if it points into no source."""
_KEY = b'{"key":"'
_ONE = re.compile(rb'\{"key":"([^"\\]+)","size":([0-9]+),"sha256":"([0-9a-f]{64})"\}')
_SHARE = 8
"""Once one of so many entries was looked up, all are parsed: then a lookup in a dictionary is cheaper than a search in the text."""


class _Listing(Mapping[str, Entry]):
    """The entries in the text of a manifest, which is sorted by key."""

    def __init__(self, manifest: bytes) -> None:
        self._text = manifest
        self._first = len(_PLAIN) - len(_KEY)
        self._count = manifest.count(_KEY)
        self._found: dict[str, Entry] = {}
        self._whole: Entries | None = None

    def __getitem__(self, key: str) -> Entry:
        if self._whole is not None:
            return self._whole[key]
        entry = self._found.get(key)
        if entry is None:
            entry = self._found[key] = self._search(key)
            if len(self._found) * _SHARE > self._count:
                self._whole = parse(self._text)
        return entry

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (each[1].decode() for each in _ONE.finditer(self._text))

    def _search(self, key: str) -> Entry:
        """Halve the text until one entry is left, as in a dictionary of paper. Raises KeyError, ValueError."""
        wanted, low, high = key.encode(errors="surrogatepass"), self._first, len(self._text)
        while True:
            at = self._text.rfind(_KEY, low, (low + high) // 2 + len(_KEY))
            at = low if at < 0 else at
            match = _ONE.match(self._text, at)
            if match is None:
                raise ValueError("not a manifest")
            if match[1] == wanted:
                return Entry(int(match[2]), match[3].decode())
            if wanted < match[1]:
                high = at
            else:
                low = match.end() + 1  # after the comma
            if low >= high or not self._text.startswith(_KEY, low):
                raise KeyError(key)


def _entry(listed: Mapping[str, Any], sources: Sequence[Lying]) -> Entry:
    if "source" not in listed:
        return Entry(int(listed["size"]), str(listed["sha256"]))
    place, offset, size = int(listed["source"]), int(listed["offset"]), int(listed["size"])
    if not (0 <= place < len(sources) and offset >= 0 and size >= 1 and offset + size <= sources[place].size):
        raise ValueError("not a manifest")
    return Entry(size, str(listed["sha256"]), sources[place], offset)


def to_bytes(entries: Entries) -> bytes:
    """Return the bytes of the manifest. The same entries always give the same bytes."""
    sources = sorted({each.source for each in entries.values() if each.source is not None})
    places = {each: number for number, each in enumerate(sources)}
    listed: list[dict[str, Any]] = []
    for key in sorted(entries):
        entry = entries[key]
        listed.append({"key": key, "size": entry.size, "sha256": entry.sha256})
        if entry.source is not None:
            listed[-1] |= {"source": places[entry.source], "offset": entry.offset}
    told = {"sources": [each._asdict() for each in sources]} if sources else {}
    return json.dumps({"algorithm": "sha256", **told, "entries": listed}, separators=(",", ":")).encode()


def by_folder(entries: Iterable[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield keys by folder, so that each folder is opened once."""
    grouped: dict[str, list[str]] = {}
    for key in entries:
        grouped.setdefault(key.rpartition("/")[0], []).append(key)
    for folder, found in grouped.items():
        yield Path(folder), found


def sources_of(folder: Path) -> dict[Lying, Pointed]:
    """Return the files that the version in *folder* points into; none where there is no list of them. Raises ValueError."""
    try:
        listed = json.loads((folder / SOURCES).read_bytes())
        files: list[Pointed] = [StoreObject(**each) if "profile" in each else SourceFile(**each) for each in listed]
    except FileNotFoundError:
        return {}
    except (TypeError, RecursionError) as error:
        raise ValueError("not a list of sources") from error
    return {Lying.of(each): each for each in files}


_AGAIN = "ask the operator to run cubeport fsck, which prints the command that publishes the dataset again"
"""What to do about a source that has changed. That command has the folders of all sources, which readers may not know."""


def changed(source: Pointed, why: str, next_step: str = _AGAIN, *, missing: bool = False) -> SourceChanged:
    """Return the error of a source; *why* ends a sentence about it."""
    what = "object" if isinstance(source, StoreObject) else "file"
    return SourceChanged(
        f"The version points into the {what} {Path(source.path).name}, which {why}.",
        next_step=next_step,
        what="source",
        missing=missing,
    )


def sources_to_bytes(sources: Iterable[Pointed]) -> bytes:
    """Return the list; the same files always give the same bytes."""
    return json.dumps([each._asdict() for each in sorted(sources)], separators=(",", ":")).encode()
