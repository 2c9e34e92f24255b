"""Each line of Python that a message names as the next step runs, in the place where the message was met."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import zarr
from tests.cli.test_next_steps import advice
from tests.e2e.conftest import cli, start, stop

import cubeport
from cubeport.errors import CubeportError

pytestmark = pytest.mark.slow

_NAME = re.compile(r"(?<![\w./'-])[A-Za-z_]\w*(?:\.\w+)*(?=\()")


def lines_in(text: str) -> Iterator[str]:
    """Yield each call of a text, with what is called on its result."""
    at = 0
    while match := _NAME.search(text, at):
        ends = [end for end in range(len(text), match.end(), -1) if text[end - 1] == ")" and _is_call(text[match.start() : end])]
        if ends:
            yield text[match.start() : ends[0]]
        at = ends[0] if ends else match.end()


def _is_call(line: str) -> bool:
    try:
        return isinstance(ast.parse(line.replace("{}", "__value"), mode="eval").body, ast.Call)
    except SyntaxError:
        return False


@cache
def lines() -> dict[str, str]:
    """Return each line of Python that a message of the source names, with the message."""
    return {line: text for _, text in advice() for line in lines_in(text)}


def test_lines_are_found_whole_and_prose_is_none() -> None:
    assert list(lines_in("look at its items: next(data.items()).open()")) == ["next(data.items()).open()"]
    assert list(lines_in("cubeport.connect('a(b') or cubeport.connect(folder), not both (see below)")) == [
        "cubeport.connect('a(b')",
        "cubeport.connect(folder)",
    ]
    assert len(lines()) >= 8, lines()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a program has at hand where it meets a message: a service, a catalog and its record, a part, a store."""
    root = tmp_path_factory.mktemp("lines") / "instance"
    assert cli("init", root).returncode == 0
    days = {"units": "days since 2020-01-01", "standard_name": "time"}
    degrees = [{"units": f"degrees_{way}"} for way in ("north", "east")]
    axes = {"time": ("time", [0, 1], days), "lat": ("lat", [1.0, 2], degrees[0]), "lon": ("lon", [1.0, 2], degrees[1])}
    source = root.parent / "sea.nc"
    xr.Dataset({"sst": (("time", "lat", "lon"), [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])}, axes).to_netcdf(source, engine="h5netcdf")
    assert cli("ingest", source, "--id", "sea", "--instance", root).returncode == 0
    store = root.parent / "store.zarr"
    zarr.open_group(store, mode="w").create_array("a", shape=(1,), dtype="i4")
    process, url = start(root)
    try:
        with cubeport.Catalog.open(root) as catalog:
            record = catalog.add_file(source)
            sea = cubeport.connect(url)["sea"]
            part = sea.select(area="POLYGON((0 0,3 0,3 3,0 3,0 0))")
            [data] = cubeport.open_stac(f"{url}/stac")
            yield {
                "cubeport": cubeport,
                "zarr": zarr,
                "catalog": catalog,
                "record": record,
                "folder": root,
                "store": str(store),
                "data": data,
                "load": part.load,
                "open": sea.open,
                "save": part.save,
                "select": partial(sea.select, time="2020-01-02"),
                "west": 0,
                "south": 0,
                "east": 3,
                "north": 3,
                "longitude": 1,
                "latitude": 2,
                "values": {"https://…": url, "folder": str(root), "{}": url},
            }
    finally:
        stop(process)


SHOWS: dict[str, Callable[[Any], bool]] = {
    "cubeport.connect": lambda found: found is not None,
    "catalog.path": lambda found: Path(found).is_file(),
    "load": lambda found: found["sst"].values.tolist() == [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]],
    "open": lambda found: found["sst"].values.tolist() == [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]],
    "save": lambda found: xr.load_dataset(found)["sst"].values.ravel().tolist() == [1.0, 2, 3, 4, 5, 6, 7, 8],
    "select": lambda found: found.content.startswith((b"\x89PNG", b"<svg")) and "/sea" in found.address,
    "next": lambda found: found["sst"].values.ravel().tolist() == [1.0, 2, 3, 4, 5, 6, 7, 8],
    "zarr.consolidate_metadata": lambda found: "a" in found.metadata.consolidated_metadata.metadata,
}
"""What the result of each function must be."""


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # zarr-python says so of its own function
def test_each_line_that_is_a_next_step_runs(place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (line, message) in enumerate(lines().items()):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        written = line.replace("{}", "'{}'")  # an f-string gives the repr of the address
        for example, real in place["values"].items():
            written = written.replace(f"'{example}'", repr(real))
        try:
            found = eval(written, dict(place))  # our own message, word for word
        except CubeportError as error:
            pytest.fail(f"{message}: {error}")
        try:
            assert SHOWS[re.match(r"[\w.]+", line)[0]](found), found  # type: ignore[index]  # each line begins with a name
        finally:
            if hasattr(found, "close"):
                found.close()
