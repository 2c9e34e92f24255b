"""The task of the second child: check the output of the first child. It cannot read the sources, unless the version points into
them.

It examines every object without following links. The metadata of every array must have the form that cubeport writes. zarr-python
decodes the chunks, and their values are compared with the digests of the first child; if ``verify`` is ``sample``, this is done for
a sample of the chunks in sources. Only then are the cube described and the manifest written. The engine accepts only what the
manifest lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

from cubeport.adapters.engines import manifest as manifests
from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Entry, Lying
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate import references, shares
from cubeport.adapters.gate.objects import InFolder, InMemory, Objects, from_bytes, put
from cubeport.adapters.gate.parent import Updated, Written, opened, parent_of
from cubeport.adapters.gate.watched import Told, Watched, document, foreign, parsed
from cubeport.adapters.gate.write import THREADS
from cubeport.adapters.sandbox import child
from cubeport.adapters.sources.stored import Index
from cubeport.adapters.sources.zarr import open_zarr
from cubeport.cubes import checks, keys
from cubeport.cubes.describe import describe
from cubeport.cubes.keys import METADATA
from cubeport.cubes.presence import Presence
from cubeport.cubes.raw import dataset
from cubeport.cubes.spread import Values
from cubeport.cubes.update import StepsChange
from cubeport.cubes.write_request import SourceFile
from cubeport.documents import ogc, stac
from cubeport.errors import SourceRejected

with contextlib.suppress(ImportError):
    # The modules that make the documents are imported once in the template, not by each child.
    import pystac  # noqa: F401
    import xstac  # noqa: F401


def measure(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Check ``target/cube.zarr`` against ``digests`` and return ``description, documents, files, size_bytes, digest``.

    ``request`` contains ``target``; ``digests`` by variable in the order of the store, or ``None`` if another instance wrote the
    version; ``fields``, a list or ``None``; ``time_label``, that of its steps; ``years``, those of a climatology, or ``None``;
    ``held``, the sources that the version may point into; ``listed``, what the manifest says of each; ``verify``, which of those
    chunks to decode; and ``checked``, the folders with the shares that workers have decoded (:mod:`.shares`).
    """
    target = None if request["target"] is None else Path(request["target"])
    made = _handed_over(context) if target is None else InFolder(target / CUBE)
    sizes = made.sizes()
    expected: Mapping[str, str | None] = request["digests"] if request["digests"] is not None else _told(made)
    nodes = {name: document(made, name) for name in expected}
    arrays = {name: parsed(name, node) for name, node in nodes.items()}
    _check_keys(sizes, arrays)
    whole = zarrv3.to_bytes(zarrv3.consolidated(zarrv3.group_document(document(made).get("attributes", {})), nodes))
    made.replace(METADATA, whole)
    sizes[METADATA] = len(whole)
    held = [SourceFile(*each) for each in request.get("held", ())]
    pointing: Mapping[str, Mapping[Index, references.Reference]] = {}
    if target is not None:
        pointing = references.parse(target / references.REFERENCES, arrays, [each.size for each in held], sizes)
    own = Written(made, [each.fd for each in context.sources], held, _keyed(pointing))
    updated = _updated(request, context, own, arrays, {name: node["dimension_names"] for name, node in nodes.items()})
    for name, grid in arrays.items():
        # The codecs of a source are for arrays that have chunks in one, now or since the version that is updated.
        if grid.form is not None and name not in pointing and (updated is None or updated.forms.get(name) != grid.form):
            raise foreign(name)
    if updated is not None and (twice := [key for key in (*sizes, *own.places) if updated.is_shared(key)]):
        raise SourceRejected(f"{twice[0]!r} was written, but the update does not change it", reason="unsafe")
    in_full = request.get("verify", "full") == "full"
    hashes = {name: partial(_hashes, updated, name, arrays[name], pointing.get(name, {})) for name in arrays}
    takes = {name: partial(_takes, updated, name) if in_full else hashes[name] for name in arrays}
    checked = shares.joined([Path(each) for each in request.get("checked", ())], arrays, takes)
    told = Told(context, sum(grid.size_of(takes[name]) for name, grid in arrays.items() if name not in checked.chunks))
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        others = [key for key in sizes if key != METADATA]
        digests = pool.map(made.digest, others)
        parts = pool.map(lambda key: _digest_of(own, key), own.places)
        union = updated if updated is not None else own if own.places or target is None else None
        raw = open_zarr(str(target / CUBE), CUBE).raw if union is None and target is not None else opened(union)
        apart = frozenset() if in_full else pointing.keys()
        watched = {
            name: Watched(name, grid, raw.variables[name], told, takes[name], apart=name in apart, found=checked.chunks.get(name))
            for name, grid in arrays.items()
        }
        seen = dataset({name: each.variable() for name, each in watched.items()}, raw.attrs)
        checks.check(seen)  # the first child did this too, but a source may have controlled it
        lengths = {name: grid.chunks for name, grid in arrays.items()}
        known: dict[str, Values | None] = {}
        presence: Presence | None = None
        if updated is None:
            known |= checked.values
        elif in_full:
            presence = updated.presence(seen.sizes)
            known |= updated.values(seen, lengths, checked.values, presence)
        if not in_full:  # the least and the greatest value of what nobody has read are unknown
            known |= dict.fromkeys(pointing)
        description = describe(
            seen,
            chunks=lengths,
            fields=request["fields"],
            ranges=known,
            presence=presence,
            time_label=request.get("time_label", "start"),
            years=None if request.get("years") is None else tuple(request["years"]),
        )
        if updated is not None and updated.is_append:
            # What was odd about values that nobody reads again is odd still.
            notes = dict.fromkeys((*map(tuple, request["base"]["notes"]), *description.warnings))
            description = description.model_copy(update={"warnings": tuple(notes)})
        for name, each in watched.items():
            read = each.digest(pool, hashes[name])
            if expected[name] not in (None, read):
                raise SourceRejected(f"variable {name!r} reads back differently than it was written", reason="digest-mismatch")
        entries = dict(zip(others, digests, strict=True))
        checked.compare(entries)
        files = [Lying(*each) for each in request.get("listed", ())]
        listed = {key: _entry(own, files, key, digest) for key, digest in zip(own.places, parts, strict=True)}
    entries[METADATA] = hashlib.sha256(whole).hexdigest()
    listed |= {key: Entry(sizes[key], digest) for key, digest in entries.items()}
    if updated is not None:
        listed |= updated.kept()
    manifest = manifests.to_bytes(listed)
    if target is not None:
        put(target / MANIFEST, manifest)
    elif isinstance(made, InMemory):
        context.give(InMemory({METADATA: whole, MANIFEST: manifest}).to_bytes())
    return {
        "description": description.model_dump(mode="json"),
        "documents": {
            **stac.seal(description, seen),
            "ogc": ogc.seal(description),
            "manifest": {"file:size": len(manifest)},
            **_storage(listed, arrays, request.get("verify", "full")),
        },
        "files": len(listed),
        "size_bytes": sum(entry.size for entry in listed.values()),
        "digest": hashlib.sha256(manifest).hexdigest(),
    }


def _keyed(pointing: Mapping[str, Mapping[Index, references.Reference]]) -> dict[str, references.Reference]:
    """Return the references by key."""
    return {keys.chunk(name, index): place for name, places in pointing.items() for index, place in places.items()}


def _entry(own: Written, files: Sequence[Lying], key: str, digest: str) -> Entry:
    number, offset, size = own.places[key]
    return Entry(size, digest, files[number], offset)


def _digest_of(own: Written, key: str) -> str:
    found = own.read("", "", key)
    assert found is not None, "it is one of its places"
    with found.file as file:
        return hashlib.file_digest(cast("io.FileIO", file), "sha256").hexdigest()


def _storage(listed: Mapping[str, Entry], arrays: Mapping[str, Grid], verify: str) -> dict[str, Any]:
    """Return the facts that are reported about a version that points into sources; none for any other version."""
    lying = {key: entry for key, entry in listed.items() if entry.source is not None}
    if not lying:
        return {}
    names = [codec["name"] for grid in arrays.values() if grid.form is not None for codec in grid.form.codecs]
    return {
        "storage": {
            "kind": "virtual",
            "sources": len({entry.source for entry in lying.values()}),
            "chunks": len(lying),
            "bytes": sum(entry.size for entry in lying.values()),
            "verify": verify,
            "codecs": sorted(dict.fromkeys(names)),
        }
    }


def _updated(
    request: Mapping[str, Any],
    context: child.Context,
    own: Written,
    arrays: Mapping[str, Grid],
    dimensions: Mapping[str, list[str]],
) -> Updated | None:
    """Return the union of the output with its base version, if there is one."""
    base, said = request.get("base"), request.get("change")
    if base is None or said is None:
        return None
    change = StepsChange(said["dimension"], said["length"], tuple(map(tuple, said["kept"])), said["added"], said["replaced"])
    return Updated(parent_of(base, context), arrays, dimensions, change, base["ranges"], base["empty"], own)


def _takes(updated: Updated | None, name: str, index: tuple[int, ...]) -> bool:
    return updated is None or not updated.shares(name, index)


def _hashes(
    updated: Updated | None,
    name: str,
    grid: Grid,
    pointing: Mapping[Index, references.Reference],
    index: tuple[int, ...],
) -> bool:
    """Return whether the first child has hashed the values of a chunk."""
    return _takes(updated, name, index) and (index not in pointing or references.is_sampled(grid, index))


def _handed_over(context: child.Context) -> InMemory:
    """Return the objects that the first child gave, which are the only source."""
    [source] = context.sources
    return InMemory(from_bytes(source.path.read_bytes()))


def _told(made: Objects) -> dict[str, None]:
    """Return the variables in the consolidated metadata, in order."""
    held = document(made).get("consolidated_metadata")
    nodes = held.get("metadata") if isinstance(held, Mapping) else None
    if not isinstance(nodes, Mapping) or any("/" in str(name) or keys.parse(f"{name}/{METADATA}") is None for name in nodes):
        raise foreign(CUBE)
    return dict.fromkeys(map(str, nodes))


def _check_keys(sizes: Mapping[str, int], arrays: Mapping[str, Grid]) -> None:
    """Refuse objects that do not belong to the metadata, such as other arrays or chunks outside the grid."""
    for text in sizes:
        key = keys.parse(text)
        assert key is not None  # `_objects` has checked this
        node, index = key
        if not (node in ("", *arrays) if index is None else node in arrays and arrays[node].has(index)):
            raise SourceRejected(f"{text!r} was written, but the metadata do not name it", reason="unsafe")
