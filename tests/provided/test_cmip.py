"""Files of CMIP as people have them: a model's months in files that overlap, added one by one or all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tests.provided.places import Place

from cubeport.adapters.engines.opened import VersionStore
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest


def opened(service: Any, dataset_id: str) -> xr.Dataset:
    store: Any = VersionStore(service.engines, dataset_id, service.shown(dataset_id).version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None) as data:
        return data.load()


def test_overlapping_months_added_file_by_file_equal_all_at_once(realdata: Path, place: Place) -> None:
    files = sorted((realdata / "hadgem2_multi").glob("tas_Amon_HadGEM2-ES_rcp85_*.nc"))
    assert len(files) == 5
    service = place.service

    def run(name: str, *paths: Path, **fields: Any) -> Ingestion:
        request = IngestionRequest.model_validate({"dataset_id": f"{place.id}-{name}", **fields})
        done = service.ingest_here(request, FileOptions(files=tuple(map(str, paths))))
        assert isinstance(done, Ingestion)
        return done

    assert run("one", files[2]).status == "completed"
    # In any order: before, behind, and at last one that has a month which exists already.
    for path in (files[3], files[1], files[0]):
        done = run("one", path, mode="update")
        assert done.status == "completed", (path.name, done.error)
    refused = run("one", files[4], mode="update")
    assert refused.error is not None
    assert (refused.error["kind"], refused.error["periods"]) == ("overlap", ["2099-12-16T00:00:00Z"])
    assert "--on-overlap skip" in refused.error["next"]
    assert run("one", files[4], mode="update", on_overlap="skip").status == "completed"
    refused = run("all", *files)
    assert refused.error is not None
    assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "bad-time")
    assert run("all", *files, on_overlap="skip").status == "completed"
    one, at_once = opened(service, f"{place.id}-one"), opened(service, f"{place.id}-all")
    parts = [xr.open_dataset(path, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) for path in files]
    wanted = xr.concat(
        [*parts[:4], parts[4].isel(time=slice(1, None))], "time", data_vars="minimal", coords="minimal", compat="override"
    )
    for found in (one, at_once):
        assert found.sizes["time"] == wanted.sizes["time"] == 300 * 3 + 229 + 299
        np.testing.assert_array_equal(found["tas"].values, wanted["tas"].values)
        assert [str(each) for each in found["time"].values] == [str(each) for each in wanted["time"].values]
    for each in parts:
        each.close()
