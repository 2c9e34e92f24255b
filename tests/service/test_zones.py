"""The folder of zone sets: followed when it changes, and never harmed by a file that is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import shapely
from shapely.geometry import mapping

from cubeport.adapters.zones import FolderZones
from cubeport.cubes.zones import read_zone_set


def document(*ids: str) -> dict[str, object]:
    features = [{"type": "Feature", "id": each, "properties": {}, "geometry": mapping(shapely.box(0, 0, 1, 1))} for each in ids]
    return {"type": "FeatureCollection", "features": features}


def test_a_set_that_is_put_is_there_for_others_and_on_the_disk(tmp_path: Path) -> None:
    here, other = FolderZones(tmp_path), FolderZones(tmp_path)
    assert other.all() == {}
    here.put(read_zone_set("d", document("a", "b")))
    assert [zone.id for zone in here.all()["d"].zones] == ["a", "b"]
    other._looked = -float("inf")
    assert other.all()["d"].digest == here.all()["d"].digest
    assert json.loads((tmp_path / "zones" / "d.geojson").read_text())["features"][0]["id"] == "a"
    assert here.remove("d")
    assert here.all() == {}
    assert not here.remove("d")


def test_a_file_that_is_wrong_disables_itself_only(tmp_path: Path) -> None:
    folder = tmp_path / "zones"
    folder.mkdir()
    (folder / "good.geojson").write_text(json.dumps(document("a")))
    (folder / "twice.geojson").write_text(json.dumps(document("a", "a")))
    (folder / "text.geojson").write_text("{")
    (folder / "Upper.geojson").write_text(json.dumps(document("a")))
    (folder / "large.geojson").write_text(json.dumps(document(*map(str, range(100)))))
    os.mkfifo(folder / "pipe.geojson")
    zones = FolderZones(tmp_path, most_bytes=5_000)
    assert list(zones.all()) == ["good"]
    told = dict(zones.problems())
    assert set(told) == {f"zones/{name}.geojson" for name in ("twice", "text", "Upper", "large", "pipe")}
    assert "twice" in told["zones/twice.geojson"][0]
    assert "is not JSON" in told["zones/text.geojson"][0]
