"""Whatever way a version comes to be shown, searches find the dataset by the time and place of that version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.errors import NotFound
from cubeport.main import prepare
from cubeport.service import publish
from cubeport.service.ingestions import FileOptions, IngestionRequest


def cube(path: Path, west: float, day: int) -> FileOptions:
    axes = {
        "time": ("time", [day], {"units": "days since 2001-01-01", "standard_name": "time"}),
        "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
        "lon": ("lon", [west, west + 1], {"units": "degrees_east"}),
    }
    xr.Dataset({"t": (("time", "lat", "lon"), np.full((1, 2, 2), west))}, axes).to_netcdf(path)
    return FileOptions(files=(str(path),))


def test_a_held_version_that_is_published_by_asking_again_is_found_by_its_own_place(tmp_path: Path) -> None:
    here, there = cube(tmp_path / "here.nc", 10.0, 0), cube(tmp_path / "there.nc", 100.0, 400)
    root = tmp_path / "instance"
    prepare(root)
    with cubeport.connect(root) as service:

        def found(bbox: tuple[float, float, float, float], when: str) -> bool:
            return bool(service.datasets(bbox=bbox, datetime=when).items)

        assert service.ingest_here(IngestionRequest(dataset_id="x"), here).status == "completed"
        hidden = service.ingest_here(IngestionRequest(dataset_id="x", mode="replace", publish=False), there)
        assert (hidden.status, found((10, 10, 11, 20), "2001-01-01")) == ("completed", True)
        again = service.ingest_here(IngestionRequest(dataset_id="x", mode="replace"), there)
        assert (again.reused, again.version_id) == (True, hidden.version_id)
        assert service.shown("x").version.version_id == hidden.version_id
        assert found((100, 10, 101, 20), "2002-02-05")
        assert not found((10, 10, 11, 20), "2001-01-01")


def test_what_was_shown_is_remembered_whatever_took_it_away(tmp_path: Path) -> None:
    here, there = cube(tmp_path / "here.nc", 10.0, 0), cube(tmp_path / "there.nc", 100.0, 400)
    root = tmp_path / "instance"
    prepare(root)
    with cubeport.connect(root) as service:
        shown = service.ingest_here(IngestionRequest(dataset_id="x"), here).version_id
        hidden = service.ingest_here(IngestionRequest(dataset_id="x", mode="replace", publish=False), there).version_id
        service.ingest_here(IngestionRequest(dataset_id="secret", publish=False), here)

        def remembered() -> set[str]:
            refs = ("x", "x@latest", f"x@{shown}", f"x@{hidden}", "x@tag", f"y@{shown}", "y", "secret", f"x@{'0' * 32}")
            return {ref for ref in refs if service.was_shown(ref)}

        held = {"x", "x@latest", f"x@{shown}"}
        service.unpublish("x")
        assert remembered() == held
        service.delete("x", purge=True)
        assert remembered() == held
        # A dataset of the same id that was never shown hides nothing of the one before it.
        service.ingest_here(IngestionRequest(dataset_id="x", publish=False), there)
        assert remembered() == {f"x@{shown}"}


def test_what_was_purged_cannot_be_restored_as_a_dataset_without_data(tmp_path: Path) -> None:
    here = cube(tmp_path / "here.nc", 10.0, 0)
    prepare(tmp_path / "instance")
    with cubeport.connect(tmp_path / "instance") as service:
        service.ingest_here(IngestionRequest(dataset_id="x"), here)
        service.delete("x")
        assert service.restore("x").key == "x"
        service.delete("x", purge=True)
        with pytest.raises(NotFound, match="purged"):
            service.restore("x")
        assert list(service.dataset_ids()) == []


def test_a_dataset_is_found_by_what_its_variables_are(tmp_path: Path) -> None:
    """A file named ``tas_2024.nc`` whose title nobody wrote was not found by 'temperature', and not by 'tas' either."""
    prepare(tmp_path / "i")
    attributes = {"standard_name": "air_temperature", "long_name": "Near-surface warmth", "units": "K"}
    axes = {"lat": ("lat", [0.0, 1.0], {"units": "degrees_north"}), "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"})}
    xr.Dataset({"t2m": (("lat", "lon"), np.ones((2, 2), "f4"), attributes)}, axes).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with cubeport.connect(tmp_path / "i") as service:
        request = IngestionRequest(dataset_id="one", template={"title": "Untitled"})  # type: ignore[arg-type]
        assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "x.nc"),))).status == "completed"

        def found(text: str) -> list[str]:
            return [each.texts.dataset_id for each in service.datasets(q=text).items]

        for text in ("temperature", "air temperature", "near surface warmth", "t2m", "untitled", "one"):
            assert found(text) == ["one"], text
        assert found("salinity") == []
        service.describe("one", description="Of a model")
        assert (found("model temperature"), found("temperature")) == (["one"], ["one"])
        assert service.shown("one").texts.description == "Of a model"  # no face shows what is there for searches

        # A dataset of an earlier release has no words of its variables; a refresh finds them, without a version.
        held = service.dataset("one")
        with service.catalog.unit_of_work("describe") as work:
            work.update_record(publish.with_state(held.record, held.state.model_copy(update={"quantities": ""})))
        assert found("temperature") == []
        assert service.refresh("one").version > held.record.version
        assert found("temperature") == ["one"]
        known = service.dataset("one").record.version
        assert (service.refresh("one").version, service.dataset("one").state.head) == (known, held.state.head)

        # A version that nobody sees yet brings no words and takes none away.
        xr.Dataset({"salt": (("lat", "lon"), np.ones((2, 2), "f4"))}, axes).to_netcdf(tmp_path / "y.nc", engine="h5netcdf")
        request = IngestionRequest(dataset_id="one", mode="replace", publish=False)
        assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "y.nc"),))).status == "completed"
        assert (found("temperature"), found("salt")) == (["one"], [])
        assert [len(service.datasets(variable=name).items) for name in ("t2m", "salt")] == [1, 0]
        service.publish("one")
        assert (found("temperature"), found("salt")) == ([], ["one"])
