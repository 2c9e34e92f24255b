"""Datasets of sources that are not on this machine: small files of days, and one instance that all tests here share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tests.provider import Provider

from cubeport.adapters.engines.opened import VersionStore
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest

EPOCH = date(2024, 1, 1)


def day(number: int) -> str:
    """Return the date of day *number* of 2024, from 0."""
    return str(EPOCH + timedelta(days=number))


def name_of(number: int) -> str:
    return f"t_{day(number).replace('-', '')}.nc"


def netcdf(tmp_path: Path, *days: int, add: float = 0.0, lats: int = 3, units: str = "K", calendar: str = "standard") -> bytes:
    """Return a NetCDF file of the days; the value of a day is its number."""
    values = np.stack([np.full((lats, 4), n + add, "float32") for n in days])
    path = tmp_path / "made.nc"
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": units})},
        coords={
            "time": (
                "time",
                np.asarray(days, "int64"),
                {"units": "days since 2024-01-01", "standard_name": "time", "calendar": calendar},
            ),
            "lat": ("lat", 10.0 * np.arange(lats), {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
        attrs={"title": "Days"},
    ).to_netcdf(path)
    return path.read_bytes()


def instance(root: Path, *, origins: tuple[str, ...] = (), roots: tuple[str, ...] = (), settings: str = "") -> Path:
    prepare(root, allow_origins=origins, allow_roots=roots)
    if settings:
        file = root / "config/service.yaml"
        file.write_text(file.read_text() + settings)
    return root


def ask(service: Any, dataset_id: str, **fields: Any) -> Ingestion:
    done = service.ingest_here(IngestionRequest.model_validate({"dataset_id": dataset_id, **fields}), FileOptions())
    assert isinstance(done, Ingestion)
    return done


def held(service: Any, ref: str) -> dict[int, float]:
    """Return the value of each day, read through the engine as a reader gets it."""
    shown = service.shown(ref)
    store: Any = VersionStore(service.engines, ref.partition("@")[0], shown.version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as opened:
        return {int(n): float(opened.t.values[at, 0, 0]) for at, n in enumerate(opened.time.values)}


def days(*numbers: int, **changed: float) -> dict[int, float]:
    return {n: changed.get(f"d{n}", float(n)) for n in numbers}


@dataclass
class Place:
    """One dataset of the instance that all tests here share, and the folder of the provider that it comes from."""

    service: Any
    root: Path
    id: str
    provider: Provider

    def template(self, source: str, more: str = "") -> None:
        text = f"id: {self.id}\ntitle: Days\nperiod_type: daily\nsource: {source}\n{more}"
        (self.root / f"config/datasets/{self.id}.yaml").write_text(text)

    def by_day(self, more: str = "", *, sync: str = "") -> None:
        self.template(f"{{kind: url, template: '{self.provider.url}/{{YYYY}}/t_{{YYYY}}{{MM}}{{DD}}.nc'{more}}}", sync)

    def ask(self, start: str | None = None, end: str | None = None, **fields: Any) -> Ingestion:
        return ask(self.service, self.id, start=start, end=end, **fields)

    def take(self, name: str, **fields: Any) -> Ingestion:
        return ask(self.service, self.id, source=f"{self.provider.url}/{name}", **fields)

    def held(self) -> dict[int, float]:
        return held(self.service, self.id)

    def fields(self) -> list[str]:
        """Return the names of the variables that readers see."""
        return [each.name for each in self.service.shown(self.id).description.variables]
