"""Make the overviews of versions that are already in the store: ``cubeport refresh --overviews``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.disk.failpoints import step
from cubeport.catalog.work.undo import Compensation
from cubeport.errors import InvalidRequest
from cubeport.service.changes import announce
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.engines import Engines
from cubeport.service.making import clearing
from cubeport.service.overviews import sparing, with_overviews
from cubeport.service.ports import AddsOverviews, Gate
from cubeport.service.state import RETAINED, VERSION, Overviews, VersionState
from cubeport.service.templates import Configuration, Pyramid


class OverviewMaking:
    """Makes overviews of versions that are already in the store. Nothing else of a version changes.

    Parameters
    ----------
    lock
        ``lock(dataset_id)``, held while they are made.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        datasets: Datasets,
        configuration: Configuration,
        gate: Gate,
        engines: Engines,
        lock: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._catalog = catalog
        self._datasets = datasets
        self._configuration = configuration
        self._gate = gate
        self._engines = engines
        self._lock = lock

    def add(self, dataset_id: str) -> list[str]:
        """Make the overviews of the published version, and of the version that the next ingestion updates.

        Returns the versions that have got some. A version with overviews stays as it is.

        Raises
        ------
        NotFound, DatasetBusy, NoSpace
            If there is no such dataset; if another process changes it; if there is no space.
        InvalidRequest
            If the engine of a version cannot add overviews.
        """
        with self._lock(dataset_id), step("lock"):
            state = self._datasets.get(dataset_id).state
            named = dict.fromkeys(each for each in (state.latest, state.head) if each is not None)
            return [each for each in named if self._make(self._datasets.get(dataset_id), each)]

    def _make(self, dataset: Dataset, version_id: str) -> bool:
        row = self._catalog.rows.get(VERSION, version_id)
        if row is None or row.state != RETAINED:
            return False
        version, sealed = VersionState.of(row.document), self._datasets.cube(version_id)
        if version.described(sealed.description).overview_levels:
            return False
        template = self._configuration.templates().get(dataset.state.source_dataset_id or "")
        pyramid = sparing(template.layout.pyramid if template is not None else Pyramid(), sealed.documents)
        cube = with_overviews(sealed.description, pyramid)
        if not cube.overview_levels:
            return False
        writer = self._engines.writer
        if version.engine != writer.name or not isinstance(writer, AddsOverviews):
            raise InvalidRequest(
                f"The version {version_id} is stored by the engine {version.engine!r}, which cannot add overviews.",
                next_step=f"make a new version: cubeport ingest … --id {dataset.state.texts.dataset_id} --replace",
            )
        with self._catalog.unit_of_work(
            "overviews", inputs=(dataset.record.id,), parameters={"version_id": version_id, "levels": cube.overview_levels}
        ) as work:
            work.claim(self._engines.writer.claim(work.operation_id))
            staging, undo = self._engines.writer.stage(work.operation_id, dataset.state.texts.dataset_id, version_id)
            with step("begin"):
                self._engines.writer.begin(staging)
            with step("overviews"):
                self._gate.overviews(staging, version.digest, cube, version=writer.folder(staging.dataset_id, staging.version_id))
                self._engines.writer.assemble(staging, overviews=True)
            with step("fsync"):
                self._engines.writer.sync(staging)
            work.compensate(*(Compensation.model_validate(each) for each in writer.beside(staging)))
            with step("publish"):
                writer.publish_overviews(staging)
            work.afterwards(*clearing(undo))
            made = version.model_copy(update={"overviews": Overviews(levels=cube.overview_levels, fields=cube.overviews)})
            work.update_record(dataset.record)
            announce(work, self._catalog.backend, dataset.record, dataset.record, "metadata")
            work.join(partial(self._catalog.rows.put, made.row(row.owner, state=row.state, revision=row.revision)))
            work.commit()
        return True
