"""The second child believes nothing: whatever is there that was not written here, or reads back otherwise, is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.gate.measure import measure
from cubeport.cubes.description import CubeDescription
from cubeport.errors import SourceRejected

from .desk import desk, tree, written

Made = tuple[Path, dict[str, str]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A cube of two variables as the first child leaves it."""
    times = np.arange(6)
    data = np.arange(6 * 4 * 5, dtype="f4").reshape(6, 4, 5)
    source = xr.Dataset(
        {"t": (("time", "lat", "lon"), data, {"units": "K"}), "name": ((), np.asarray("text", dtype=object))},
        {
            "time": ("time", times, {"units": "days since 2000-01-01", "calendar": "standard"}),
            "lat": ("lat", np.linspace(-30.0, 30, 4), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0.0, 40, 5), {"units": "degrees_east"}),
        },
        {"title": "Made"},
    )
    source.to_netcdf(
        tmp_path / "a.nc", encoding={"t": {"_FillValue": None}, "lat": {"_FillValue": None}, "lon": {"_FillValue": None}}
    )
    said = written(tmp_path / "new", tmp_path / "a.nc", chunks={"time": 2})
    return tmp_path / "new", said["digests"]


def measured(made: Made, **changes: Any) -> dict[str, Any]:
    with desk([]) as context:
        return measure({"target": str(made[0]), "digests": made[1], "fields": None, **changes}, context)


def refused(made: Made, **changes: Any) -> SourceRejected:
    with pytest.raises(SourceRejected) as refusal:
        measured(made, **changes)
    assert not (made[0] / "manifest.json").exists()
    return refusal.value


def test_what_was_written_is_described_and_listed(made: Made) -> None:
    said = measured(made)
    description = CubeDescription.model_validate(said["description"])
    assert description.fields == ("t",)
    assert description.variable("t").chunks[0] == 2
    assert (description.variable("t").valid_min, description.variable("t").valid_max) == (0, 119)
    assert [each.name for each in description.variables] == list(made[1])
    assert set(said["documents"]) == {"stac", "item", "ogc", "manifest"}
    json.dumps(said, allow_nan=False)
    manifest = (made[0] / "manifest.json").read_bytes()
    assert said["documents"]["manifest"] == {"file:size": len(manifest)}
    assert said["digest"] == hashlib.sha256(manifest).hexdigest()
    files = tree(made[0] / "cube.zarr")
    assert said["documents"]["manifest"] == {"file:size": len(manifest)}
    document = json.loads(manifest)
    assert list(document) == ["algorithm", "entries"]
    assert document["entries"] == [
        {"key": key, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for key, data in sorted(files.items())
    ]
    assert (said["files"], said["size_bytes"]) == (len(files), sum(map(len, files.values())))


def test_the_root_tells_all_metadata(made: Made) -> None:
    measured(made)
    root = json.loads((made[0] / "cube.zarr/zarr.json").read_bytes())
    assert list(root["consolidated_metadata"]["metadata"]) == list(made[1])
    for name, node in root["consolidated_metadata"]["metadata"].items():
        assert node == json.loads((made[0] / "cube.zarr" / name / "zarr.json").read_bytes())
    with xr.open_zarr(made[0] / "cube.zarr", consolidated=True, chunks=None) as opened:
        assert opened["t"].values.ravel().tolist() == list(range(120))
        assert opened["name"].item() == "text"
        assert opened.attrs == {"title": "Made"}


def test_every_value_is_decoded_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[str, tuple[slice, ...]]] = []
    from cubeport.adapters.gate.watched import Watched

    read = Watched._read

    def counted(self: Watched, key: Any) -> Any:
        reads.append((self._name, key))
        return read(self, key)

    monkeypatch.setattr(Watched, "_read", counted)
    measured(made)
    sizes = [np.prod([each.stop - each.start for each in key]) for name, key in reads if name == "t"]
    assert [size for size in sizes if size > 1] == [120]  # one value may be tried before
    assert sorted(name for name, _ in reads if name != "t") == ["lat", "lon", "name", "time"], "labels, too"


def test_progress_counts_every_byte_once(made: Made) -> None:
    with desk([]) as context:
        measure({"target": str(made[0]), "digests": made[1], "fields": None}, context)
    done = [each[1] for each in context.told]
    assert done == sorted(set(done))
    assert {each[0] for each in context.told} == {"measuring"}
    assert done[-1] == context.declared == context.told[-1][2]


def chunk(made: Made) -> Path:
    return made[0] / "cube.zarr/t/c/1/0/0"


def node(made: Made, name: str = "t") -> Path:
    return made[0] / "cube.zarr" / name / "zarr.json"


@pytest.mark.parametrize("at", [0, 5, 20, -5, -1])
def test_a_flipped_bit_is_noticed(made: Made, at: int) -> None:
    data = bytearray(chunk(made).read_bytes())
    data[at] ^= 4
    chunk(made).write_bytes(data)
    assert refused(made).reason in ("bad-codec", "digest-mismatch")


def test_other_values_are_noticed(made: Made) -> None:
    grid = zarrv3.parse_array(json.loads(node(made).read_bytes()))[0]
    stored = grid.encode(np.ones((2, 4, 5), "f4"))[1]
    assert stored is not None
    chunk(made).write_bytes(stored)
    assert refused(made).reason == "digest-mismatch"


def test_a_lost_chunk_is_noticed(made: Made) -> None:
    chunk(made).unlink()
    assert refused(made).reason == "digest-mismatch"


def test_a_digest_too_many_or_too_few_is_noticed(made: Made) -> None:
    assert refused(made, digests={**made[1], "other": "0" * 64}).reason == "unsafe"
    assert refused(made, digests={k: v for k, v in made[1].items() if k != "name"}).reason == "unsafe"
    assert refused(made, digests={**made[1], "t": "0" * 64}).reason == "digest-mismatch"


def link(made: Made) -> None:
    chunk(made).unlink()
    chunk(made).symlink_to("/etc/hostname")


def hard_link(made: Made) -> None:
    (made[0] / "cube.zarr/t/c/2/0/0").unlink()
    (made[0] / "cube.zarr/t/c/2/0/0").hardlink_to(chunk(made))


def linked_folder(made: Made) -> None:
    (made[0] / "cube.zarr/t/c").rename(made[0] / "elsewhere")
    (made[0] / "cube.zarr/t/c").symlink_to(made[0] / "elsewhere")


def fifo(made: Made) -> None:
    os.mkfifo(made[0] / "cube.zarr/t/c/9")


def planted(key: str) -> Callable[[Made], None]:
    def plant(made: Made) -> None:
        path = made[0] / "cube.zarr" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    plant.__name__ = key
    return plant


def changed(**members: Any) -> Callable[[Made], None]:
    def change(made: Made) -> None:
        node(made).write_text(json.dumps(json.loads(node(made).read_text()) | members))

    change.__name__ = f"changed {', '.join(members)}"
    return change


def not_strict(made: Made) -> None:
    node(made).write_text(node(made).read_text().replace('"units":"K"', '"units":NaN'))


def doubled(made: Made) -> None:
    node(made).write_text(node(made).read_text().replace('"units":"K"', '"units":"K","units":"K"'))


@pytest.mark.parametrize(
    "tamper",
    [
        link,
        hard_link,
        linked_folder,
        fifo,
        planted("t/c/0/0/1"),
        planted("t/c/3/0/0"),
        planted("t/c/00/0/0"),
        planted("t/.zarray"),
        planted("other/zarr.json"),
        planted("t/c/0/0/0.partial"),
        planted("evil name"),
        changed(codecs=[{"name": "bytes", "configuration": {"endian": "little"}}]),
        changed(storage_transformers=[{"name": "x"}]),
        changed(data_type="object"),
        not_strict,
        doubled,
    ],
    ids=lambda tamper: tamper.__name__,
)
def test_what_we_do_not_write_is_refused(made: Made, tamper: Callable[[Made], None]) -> None:
    tamper(made)
    assert refused(made).reason == "unsafe"


def test_text_that_cannot_be_published_is_refused_again(made: Made) -> None:
    root = made[0] / "cube.zarr/zarr.json"
    root.write_text(json.dumps({**json.loads(root.read_text()), "attributes": {"title": "bell \a"}}))
    assert refused(made).reason == "bad-text"


def test_what_the_root_says_of_others_is_not_believed(made: Made) -> None:
    root = made[0] / "cube.zarr/zarr.json"
    document = json.loads(root.read_text())
    root.write_text(json.dumps({**document, "consolidated_metadata": {"kind": "inline", "metadata": {"t": {"evil": 1}}}}))
    measured(made)
    again = json.loads(root.read_text())
    assert set(again) == {"zarr_format", "node_type", "attributes", "consolidated_metadata"}
    assert "evil" not in root.read_text()
