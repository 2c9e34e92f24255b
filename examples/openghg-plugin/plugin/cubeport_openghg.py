"""An object store as greenhouse gas scientists know it, on a catalog: one dataset for each set of keys, found by keywords.

The store reads: it searches, opens, and lists versions. Data come in by :func:`standardise`. The catalog knows nothing of gases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, Field

from cubeport import Catalog, CatalogRecord

KEYS = ("data_type", "species", "site", "network", "inlet")
"""What makes a dataset one: the same keys again are its next version."""


class Surface(BaseModel):
    """The metadata of surface observations."""

    data_type: Literal["surface"] = "surface"
    species: str = Field(pattern="^[a-z0-9]+$")
    site: str = Field(pattern="^[a-z]{3}$")
    network: str
    inlet: str = Field(pattern=r"^\d+(\.\d+)?m$")
    units: str
    calibration_scale: str | None = None


NAMES = {"co2": ("co2", "carbon dioxide"), "ch4": ("ch4", "methane")}
"""Species by the names that files use."""


def mapped(attributes: Mapping[str, Any]) -> Surface:
    """Return a file's own attributes in the words of the schema."""
    said = str(attributes["species"]).lower()
    species = next((name for name, names in NAMES.items() if said in names), said)
    inlet = str(attributes.get("inlet_height_magl") or attributes["inlet"]).lower()
    return Surface(
        species=species,
        site=str(attributes.get("station_id") or attributes["site"]).lower(),
        network=str(attributes["network"]).lower(),
        inlet=inlet if inlet.endswith("m") else f"{inlet}m",
        units=str(attributes["units"]),
        calibration_scale=attributes.get("calibration_scale"),
    )


def standardise(catalog: Catalog, store: Path, attributes: Mapping[str, Any], period: str) -> CatalogRecord:
    """Add a Zarr folder; the same keys again make a new version, and the same bytes again make nothing."""
    metadata = mapped(attributes).model_dump(exclude_none=True)
    return catalog.add_file(
        store,
        metadata,
        key=":".join(str(metadata[key]) for key in KEYS),
        on_exists="new_version",
        duplicates="skip",
        kind="dataset",
        title=f"{metadata['species'].upper()} at {metadata['site'].upper()}",
        time=period,
        schema_name="openghg-surface",
        schema_policy="strict",
        extract_metadata=["zarr"],
    ).record


class ObjectStore(Protocol):
    """What analysis code needs of a store."""

    def search(self, **keywords: Any) -> list[dict[str, Any]]: ...

    def open(self, uuid: str) -> Any: ...


class CatalogStore:
    """An :class:`ObjectStore` that only reads a catalog."""

    def __init__(self, root: str | Path) -> None:
        self._catalog = Catalog.open(root, read_only=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._catalog.close()

    def search(self, *, start: str = "..", end: str = "..", **keywords: Any) -> list[dict[str, Any]]:
        """Return the metadata of what fits every keyword: a value, or a list of which any fits; cases are alike."""
        where = {name: _lower(value) for name, value in keywords.items()}
        interval = None if start == end == ".." else f"{start}/{end}"
        found = self._catalog.iterate(where, kinds=["dataset"], time=interval, order=("title",))
        return [{"uuid": record.id, "key": record.key, **_own(record)} for record in found]

    def open(self, uuid: str) -> Any:
        """Return a dataset as ``xarray.Dataset``."""
        return self._catalog.load(uuid)

    def path(self, uuid: str) -> Path:
        """Return where the Zarr folder of a dataset is."""
        return self._catalog.path(uuid)

    def versions(self, key: str) -> list[str]:
        """Return the ids of all versions of a key, newest first."""
        ids = [self._catalog.get(key).id]
        while older := [edge.target for edge in self._catalog.backend.edges(ids[-1], "out", "version_of")]:
            ids += older
        return ids


def _lower(value: Any) -> Any:
    if isinstance(value, str):
        return value.lower()
    return [_lower(each) for each in value] if isinstance(value, Iterable) else value


def _own(record: CatalogRecord) -> dict[str, Any]:
    return {name: record.metadata[name] for name in Surface.model_fields if name in record.metadata}


def register(registry: Any) -> None:
    """Give the plugin's things."""
    registry.schema("openghg-surface", Surface)
