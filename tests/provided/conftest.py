"""One provider and one instance for all tests of sources: starting either costs more than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.provided.places import Place, instance, name_of, netcdf
from tests.provider import running

import cubeport


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One provider and one instance for all: starting either costs more than most tests."""
    folder = tmp_path_factory.mktemp("sources")
    with running(folder / "provider") as provider:
        root = instance(folder / "instance", origins=(provider.url,))
        with cubeport.connect(root) as service:
            yield Place(service, root, "", provider)


@pytest.fixture
def place(world: Place, request: pytest.FixtureRequest) -> Place:
    name = f"d{sha256(request.node.name.encode()).hexdigest()[:12]}"
    found = Place(world.service, world.root, name, world.provider.below(name))
    found.provider.forget()
    return found


@pytest.fixture
def rolling(tmp_path: Path, place: Place) -> Place:
    """A provider of the days 0 to 9."""
    for number in range(10):
        place.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number))
    place.by_day()
    return place


# --- addresses with dates --------------------------------------------------------------------------------------------
