"""The NetCDF-4 copy of a version: a file beside its cube, equal value by value, which a download of all of it sends as it lies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.work.undo import Compensation
from cubeport.cubes.description import CubeDescription
from cubeport.errors import InvalidRequest
from cubeport.service.changes import announce
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.engines import Engines
from cubeport.service.ingestions import IngestionRequest
from cubeport.service.making import clearing
from cubeport.service.ports import Gate, KeepsCopies, Staging
from cubeport.service.state import VERSION, VersionState
from cubeport.service.wanted import Wanted

NETCDF = "netcdf"


def wanted_copies(request: IngestionRequest, wanted: Wanted, head: VersionState | None) -> bool:
    """Return whether the version has a NetCDF copy: as in the request, otherwise as in the template or the existing version."""
    if request.prefer_zarr is not None:
        return not request.prefer_zarr
    return NETCDF in wanted.fields.copies or (head is not None and bool(head.copies))


class Copies:
    """Makes the copies of versions."""

    def __init__(self, *, catalog: Catalog, datasets: Datasets, gate: Gate, engines: Engines) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._gate = gate
        self._engines = engines

    def check(self, wanted: Wanted) -> None:
        """Refuse a copy that could not be made, before anything is fetched or written.

        Raises
        ------
        InvalidRequest
            If the engine keeps no copies, or the chunks of the version are in a store, which the child that copies cannot reach.
        """
        self._writer()
        if wanted.pointed:
            raise InvalidRequest(
                "A version whose chunks are in a store has no NetCDF copy: nothing would be saved by pointing there.",
                next_step="copy the data (--storage copy), or leave the NetCDF copy out (--no-netcdf-copy, prefer_zarr: true)",
            )

    def make(self, staging: Staging, digest: str, cube: CubeDescription, *, version: Path | None = None) -> Mapping[str, Any]:
        """Make the copy in the staging folder, as a part of the version, and return what the catalog says of it.

        Raises
        ------
        SourceRejected
            ``not-netcdf``, with every part of the cube that the format cannot hold.
        """
        with step("copy"):
            self._gate.copy(staging, digest, cube, version=version)
            size, sha256 = self._writer().take_copy(staging)
        return {"format": NETCDF, "type": "application/x-netcdf", "size_bytes": size, "sha256": sha256}

    def add(self, dataset: Dataset, head: VersionState) -> tuple[Dataset, VersionState]:
        """Give a copy to a version that is in the store, and return the dataset and the version with it. The caller has the lock.

        Raises
        ------
        SourceRejected, InvalidRequest
            As :meth:`make` and :meth:`check`.
        """
        writer = self._writer()
        row = self._catalog.rows.get(VERSION, head.version_id)
        assert row is not None, "it was read under the same lock"
        if head.engine != writer.name:
            raise InvalidRequest(
                f"The version {head.version_id} is stored by the engine {head.engine!r}, which keeps no NetCDF copy.",
                next_step="make a new version: --overwrite, or --replace for files",
            )
        cube, dataset_id = self._datasets.cube(head.version_id).description, dataset.state.texts.dataset_id
        with self._catalog.unit_of_work(
            "copy", inputs=(dataset.record.id,), parameters={"version_id": head.version_id, "format": NETCDF}
        ) as work:
            work.claim(self._engines.writer.claim(work.operation_id))
            staging, undo = self._engines.writer.stage(work.operation_id, dataset_id, head.version_id)
            with step("begin"):
                self._engines.writer.begin(staging)
            made = self.make(staging, head.digest, cube, version=writer.folder(dataset_id, head.version_id))
            with step("fsync"):
                self._engines.writer.sync(staging)
            work.compensate(*(Compensation.model_validate(each) for each in writer.beside_copy(staging)))
            with step("publish"):
                writer.publish_copy(staging)
            work.afterwards(*clearing(undo))
            version = head.model_copy(update={"copies": (made,)})
            work.update_record(dataset.record)
            announce(work, self._catalog.backend, dataset.record, dataset.record, "metadata")
            made_row = version.row(row.owner, state=row.state, revision=row.revision)
            work.join(partial(self._catalog.rows.put, made_row))
            work.commit()
        return self._datasets.get(dataset_id), version

    def _writer(self) -> KeepsCopies:
        writer = self._engines.writer
        if not isinstance(writer, KeepsCopies):
            raise InvalidRequest(
                f"Versions of the engine {writer.name!r} have no NetCDF copy.",
                next_step="leave it out: --no-netcdf-copy (prefer_zarr: true), and no copies in the template",
            )
        return writer
