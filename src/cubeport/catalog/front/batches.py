"""Work with many records: batches, pipelines, views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.catalog.adding import Added
from cubeport.catalog.artifacts.views import ViewPlan, apply_view, plan_view
from cubeport.catalog.drafts import OnExists
from cubeport.catalog.forms.redaction import redact_text
from cubeport.catalog.front.searches import Searches, Where
from cubeport.catalog.keeping import integrity
from cubeport.catalog.models import Artifact, CatalogRecord, LocalPathLocator
from cubeport.catalog.plugins import RESERVED
from cubeport.errors import InvalidRequest

if TYPE_CHECKING:
    # Imported by the two calls that need them, so that starting stays cheap.
    from cubeport.catalog import batch, pipelines


class Batches(Searches):
    """Work with many records: batches, pipelines, views."""

    def view(self, folder: str | Path, template: str, *where: Where, apply: bool = False, prune: bool = False) -> ViewPlan:
        """Plan a folder of relative links to the artifacts of matching records. With *apply*, make it."""
        more = self.parts.planner.more
        plan = plan_view(Path(folder), self.iterate(*where, order=("id",)), template, resolve=self._local, more=more)
        return apply_view(plan, prune=prune) if apply else plan

    def ingest(
        self,
        *sources: str | Path,
        manifest: bool = False,
        kind: str | None = None,
        mode: batch.Mode | None = None,
        schema: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        profile: str | None = None,
        pattern: str | None = None,
        extract_metadata: bool = False,
        continue_on_error: bool = False,
        on_changed: batch.OnChanged = "skip",
        dry_run: bool = False,
    ) -> batch.BatchResult:
        """Add the files that match the patterns, or with *manifest* the items of the manifest, each as one operation.

        A second call skips what already exists, and continues where an interrupted one ended.

        Parameters
        ----------
        schema, metadata, tags, profile
            For all records: ``name`` or ``name@version`` of a schema, fields of metadata, tags, the storage profile.
        pattern
            A pattern of file names with metadata fields, for example ``{station}_{year}.nc``. A file that does not match it fails.
        """
        from cubeport.catalog import batch

        common = batch.Common(kind, mode, schema, metadata or {}, tags, profile, pattern)
        items, warnings = batch.collect(sources, manifest=manifest, common=common, owns=self._adder.owns)
        add = partial(self._add_item, extract=extract_metadata)
        running = batch.Batch(self.backend.get_by_key, add, continue_on_error, on_changed, warnings)
        if dry_run:
            return running.plan(items)
        self._writable()
        done = running.run(items)
        for each in done.items:
            if each.outcome == "failed" and each.operation_id is None:  # an operation reports its own failure
                self.events.emit(
                    "batch.item_failed", f"{each.source}: {each.reason}", level="error", operation_id=done.batch_id, key=each.key
                )
        made = [each.record_id for each in done.items if each.operation_id and each.record_id]
        if made:
            parameters = {"counts": done.counts, "manifest": manifest}
            with self.unit_of_work("ingest", operation_id=done.batch_id, parameters=parameters, inputs=_shown(sources)) as work:
                work.commit()
        return done

    def run(self, name: str, *sources: str | Path, dry_run: bool = False) -> pipelines.RunResult:
        """Run a pipeline of ``config/pipelines`` on sources (paths or ids of records) as one unit of work.

        Raises
        ------
        NotFound, InvalidConfiguration
            Before anything runs.
        """
        from cubeport.catalog import pipelines

        if self.root is None:
            raise InvalidRequest("A catalog without a folder has no pipelines.")
        pipeline = pipelines.read_pipeline(self.root / "config" / "pipelines", name, self.plugins.called("step"))
        known = (*RESERVED["operation"], *self.plugins.values("operation"))
        if pipeline.operation_type not in known:
            raise InvalidRequest(
                f"There is no type of operation {pipeline.operation_type}; there are {', '.join(known)}.",
                next_step=f"change operation.type in config/pipelines/{name}.yaml",
            )
        begun = pipelines.drafts(pipeline, [self._begin(source) for source in sources])
        names = _shown(sources)
        if dry_run:
            return pipelines.RunResult(pipeline.name, pipeline.steps, names, dry_run=True)
        with self.unit_of_work(pipeline.operation_type, parameters={"pipeline": name}, inputs=names) as work:
            records = pipelines.run(pipeline, begun, self._adder, work, self.plugins.called("writer"))
        return pipelines.RunResult(pipeline.name, pipeline.steps, names, records, tuple(work.warnings), work.operation_id)

    def _begin(self, source: str | Path) -> tuple[Path | None, CatalogRecord | None]:
        """Return the path of a source, or the record and the path of its bytes."""
        if Path(source).exists():
            return Path(source).absolute(), None
        record = self.get(str(source))
        return (self.path(record.id) if record.artifacts else None), record

    def _add_item(self, item: batch.Item, key: str, on_exists: OnExists, parent_id: str, *, extract: bool) -> Added:
        from cubeport.catalog import batch

        schema = self.schemas.get(*item.schema_.split("@", 1)) if item.schema_ else None
        record, options = self._draft(item.metadata, batch.fields_of(item, schema, key, on_exists, extract=extract))
        options = replace(options, parent_id=parent_id)
        source, *more = batch.sources_of(item)
        others = [(each, replace(options, role=what.role, extract=False)) for each, what in zip(more, item.artifacts, strict=True)]
        return self._adder.add(record, source, options, others)

    def _local(self, artifact: Artifact) -> Path | None:
        """Return the local path of an artifact, whether or not it exists."""
        place = integrity.place_of(artifact)
        if place is not None:
            return self.profiles.get(place[0]).local_path(place[1])
        return Path(artifact.locator.path) if isinstance(artifact.locator, LocalPathLocator) else None


def _shown(sources: Iterable[str | Path]) -> tuple[str, ...]:
    """Return the names of sources for the row of an operation."""
    return tuple(redact_text(str(source)) for source in sources)
