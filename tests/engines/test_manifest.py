"""The entries of a manifest that are found in its text are those that a parser finds."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from cubeport.adapters.engines.manifest import Entry, Lying, parse, to_bytes, trusted

nodes = st.text("ab.9-", min_size=1, max_size=4).filter(lambda name: set(name) != {"."})
chunks = st.tuples(nodes, st.lists(st.integers(0, 120), max_size=3)).map(lambda it: "/".join([it[0], "c", *map(str, it[1])]))
names = st.one_of(chunks, nodes.map("{}/zarr.json".format), st.just("zarr.json"))
entries = st.dictionaries(
    names, st.integers(0, 2**40).map(lambda size: Entry(size, hashlib.sha256(b"%d" % size).hexdigest())), max_size=60
)


@given(entries, st.lists(st.one_of(names, st.text(max_size=8)), max_size=30))
def test_each_entry_is_found_and_nothing_else(listed: dict[str, Entry], others: list[str]) -> None:
    manifest = to_bytes(listed)
    found = trusted(manifest)
    assert len(found) == len(listed)
    assert list(found) == sorted(listed)
    asked = [*others, *listed]
    for key in [*asked, *reversed(asked)]:  # the last are asked of what was parsed by then
        assert found.get(key) == listed.get(key)
        assert trusted(manifest).get(key) == listed.get(key)
    assert dict(found) == dict(parse(manifest))


def test_a_manifest_that_points_into_sources_is_parsed() -> None:
    source = Lying("a.nc", 100, "0" * 64, "1" * 64)
    listed = {"t/c/0": Entry(10, "2" * 64, source, 20), "t/zarr.json": Entry(5, "3" * 64)}
    assert dict(trusted(to_bytes(listed))) == listed
