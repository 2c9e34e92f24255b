"""Export and import records: NDJSON, RO-Crate, Intake, OpenLineage."""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

from cubeport.catalog import listings, ndjson, provenance
from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.front.searches import Searches, Where
from cubeport.catalog.front.upkeep import Upkeep
from cubeport.catalog.keeping import integrity
from cubeport.catalog.models import Artifact, CatalogRecord, LocalPathLocator
from cubeport.catalog.query import QueryFields
from cubeport.catalog.schemas import Policy
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.errors import InvalidRequest, TargetExists


class Exchange(Searches, Upkeep):
    """Export and import records: NDJSON, RO-Crate, Intake, OpenLineage."""

    def export_lines(self, *where: Where, with_bytes: Path | None = None, **query: Unpack[QueryFields]) -> Iterator[str]:
        """Yield the matching records as NDJSON, ordered by id and with any status. Copy their managed bytes to *with_bytes*."""
        for record in self.iterate(*where, **(QueryFields(statuses=None, order=("id",)) | query)):
            if with_bytes is not None:
                for artifact in record.artifacts:
                    self._copy_out(artifact, with_bytes)
            yield from ndjson.export_lines([record])

    def _copy_out(self, artifact: Artifact, folder: Path) -> None:
        """Copy managed bytes to ``folder/<profile>/<path>``, which gives a copy of the profiles' roots. Existing files stay."""
        place = integrity.place_of(artifact)
        if place is None:
            return
        name, path = place
        profile = self.profiles.get(name)
        files = [f"{path}/{each.path}" for each in profile.files(path)] if artifact.target_kind == "directory" else [path]
        for each in files:
            target = folder / name / each
            with store_errors("copy the bytes"):
                make_folders(target.parent)
                if not target.exists():
                    with profile.open(each) as reading, target.open("xb") as writing_to:
                        shutil.copyfileobj(reading, writing_to)

    def export_records(self, file: str | Path, *where: Where, with_bytes: Path | None = None, **query: Unpack[QueryFields]) -> int:
        """Write NDJSON to a new *file*; return how many records. Raises TargetExists."""
        count, target = 0, Path(file)
        try:
            out = target.open("x", encoding="utf-8")
        except FileExistsError:
            raise TargetExists(f"{file} already exists.", next_step="name another file, or remove it") from None
        try:
            with out:
                for line in self.export_lines(*where, with_bytes=with_bytes, **query):
                    out.write(line)
                    count += 1
        except BaseException:
            target.unlink(missing_ok=True)  # half an export would look complete and block the next attempt
            raise
        return count

    def export_crate(
        self,
        folder: str | Path,
        *where: Where,
        name: str,
        description: str = "Records of a catalog.",
        license: str | None = None,
        **query: Unpack[QueryFields],
    ) -> int:
        """Write the matching records as an RO-Crate 1.1 (Process Run Crate) to a new *folder*. Return how many.

        Each record is a folder, with copies of its managed bytes. References and external artifacts are listed by their location.

        Raises
        ------
        TargetExists
        ArtifactMissing
        """
        target = Path(folder)
        if target.exists():
            raise TargetExists(f"{target} already exists.", next_step="name another folder, or remove it")
        records = list(self.iterate(*where, **(QueryFields(order=("id",)) | query)))
        places = {
            (record.id, each.artifact_id): place
            for record in records
            for each in record.artifacts
            if (place := self._into_crate(target, record, each)) is not None
        }
        ids = {record.operation_id for record in records if record.operation_id}
        done = [each for each in self.operations(limit=100_000) if each.operation_id in ids or ids & set(each.outputs)]
        published = self.ports.clock().date().isoformat()
        document = provenance.crate(
            records, done, name=name, description=description, published=published, places=places, license=license
        )
        with store_errors("write the crate"):
            for record in records:  # also of a record without bytes here: each Dataset of a crate is a folder
                make_folders(target / record.id)
            make_folders(target)
            replace_file(target / provenance.CRATE_FILE, dumps(document, indent=True).encode() + b"\n")
        return len(records)

    def _into_crate(self, folder: Path, record: CatalogRecord, artifact: Artifact) -> str | None:
        """Copy managed bytes to a crate. Return the location of the artifact, in the crate or elsewhere."""
        if artifact.status in ("planned", "missing", "failed"):
            return None
        if artifact.managed or artifact.locator.kind == "inline":
            copied = integrity.copy_out(self.profiles, artifact, folder / record.id / artifact.artifact_id)
            return quote(copied.relative_to(folder).as_posix()) + ("/" if artifact.target_kind == "directory" else "")
        found = self._address(artifact)
        return found.as_uri() if isinstance(found, Path) else found

    def export_intake(self, file: str | Path, *where: Where, **query: Unpack[QueryFields]) -> int:
        """Write the matching records as an Intake catalog (YAML) to a new *file*. Return how many it contains.

        It contains a record if its primary artifact is NetCDF, Zarr, CSV, Parquet, JSON or text, and has a local path or a URL.

        Raises
        ------
        TargetExists
        """
        import yaml

        target = Path(file).absolute()
        if target.exists():
            raise TargetExists(f"{target} already exists.", next_step="name another file, or remove it")
        records = self.iterate(*where, **(QueryFields(order=("id",)) | query))
        document = listings.intake_catalog(records, self._address, folder=target.parent)
        with store_errors("write the catalog"):
            replace_file(target, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())
        return len(document["sources"])

    def url_table(self, *where: Where, **query: Unpack[QueryFields]) -> Iterator[str]:
        """Yield a CSV table of the files of the matching records: URL, file name, sha256, size (for ``datalad addurls``)."""
        return listings.url_table(self.iterate(*where, **(QueryFields(order=("id",)) | query)), self._address)

    def _address(self, artifact: Artifact) -> str | Path | None:
        """Return the local path or the URL of an artifact's bytes, or ``None`` if it has none that others can use."""
        if artifact.status in ("planned", "missing", "failed"):
            return None
        managed = integrity.place_of(artifact)
        if managed is not None:
            return self.profiles.get(managed[0]).local_path(managed[1])
        if isinstance(artifact.locator, LocalPathLocator):
            return Path(artifact.locator.path)
        found: str | None = getattr(artifact.locator, "uri", None) or getattr(artifact.locator, "urlpath", None)
        return found

    def run_events(self, *, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Yield operations as OpenLineage run events, oldest first: a start and an end for each operation."""
        for each in reversed(self.operations(since=since, limit=100_000)):
            yield from provenance.run_events(each, f"cubeport://{self.catalog_id}")

    def import_records(
        self, text: str | Iterable[str], *, on_exists: str = "error", schema_policy: Policy | None = None
    ) -> ndjson.Imported:
        """Restore records unchanged, all or none, from lines of NDJSON or a document of ``show --json``.

        Parameters
        ----------
        schema_policy
            How strictly records are checked against their schemas. The default is that of the catalog. ``off`` accepts a backup
            unchanged.
        """
        if on_exists not in ("error", "skip"):
            raise InvalidRequest(f"on_exists is error or skip, not {on_exists!r}.")
        self.schemas.check_policy(schema_policy)
        skip = on_exists == "skip"
        lines = text if isinstance(text, (str, list)) else list(text)  # nobody else can write while we wait for a line
        with _collector_paused(), self.unit_of_work("import", schema_policy=schema_policy) as work:
            if self.hooks.any_at("before_record_commit", "after_record_commit"):
                found = self._collect(work, lines, skip=skip)
                work.commit()
                return found
            streamed: list[ndjson.Imported] = []
            work.join(lambda: streamed.append(self._stream(work, lines, skip=skip)))
            work.commit()
        return streamed[0]

    def _collect(self, work: UnitOfWork, lines: str | list[str], *, skip: bool) -> ndjson.Imported:
        """Add the records to the unit of work, because a hook is shown all of them at once."""
        skipped = added = 0
        for record in ndjson.read_records(lines):
            if skip and self.backend.get_record(record.id) is not None:
                skipped += 1
            else:
                work.import_record(record)
                added += 1
        return ndjson.Imported(added, skipped)

    def _stream(self, work: UnitOfWork, lines: str | list[str], *, skip: bool) -> ndjson.Imported:
        """Insert the records batch by batch in the current transaction, while the backend prepares the next batches."""
        added: dict[str, None] = {}
        skipped = 0
        with self.backend.preparing(ndjson.batches(lines)) as batches:
            for batch in batches:
                held: set[str] = set()
                for each in batch:
                    if skip and each.id not in added and self.backend.get_record(each.id) is not None:
                        held.add(each.id)
                        skipped += 1
                        continue
                    if self.schemas.concern(each.kind, each.schema_name):
                        work.check(each.record())
                    added[each.id] = None
                self.backend.add_prepared(batch.without(held))
        work.joined_records(added)
        return ndjson.Imported(len(added), skipped)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's search for cycles. An import makes millions of objects without any, and visiting them again and again took a
    seventh of its time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
