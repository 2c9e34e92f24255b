"""Work with the bytes of records: find, open, replace, verify and fetch them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from cubeport.catalog.adding import Added, source_to_write
from cubeport.catalog.artifacts.planning import PlannedPlace
from cubeport.catalog.drafts import ArtifactFields
from cubeport.catalog.editing import DescribedFields, without
from cubeport.catalog.front.opened import logged
from cubeport.catalog.front.searches import Searches
from cubeport.catalog.hooks import set_paths
from cubeport.catalog.keeping import integrity
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.names import Named
from cubeport.errors import InvalidRequest


class Contents(Searches):
    """Work with the bytes of records: find, open, replace, verify and fetch them."""

    def copy_out(self, name: Named, folder: str | Path, artifact: str | None = None) -> Path:
        """Copy the bytes of an artifact, wherever they are stored, into *folder* under their original name. Return the path.

        Raises
        ------
        TargetExists
            If a file of that name exists.
        ArtifactMissing
            If the bytes are not stored here. ``fetch`` downloads external ones.
        """
        return integrity.copy_out(self.profiles, integrity.choose(self.get(name), artifact), Path(folder))

    @logged
    def detach(self, name: Named, artifact: str) -> CatalogRecord:
        """Remove an artifact from its record. Managed bytes are removed after the commit; bytes behind references are kept."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact)
        actions = integrity.removal(self.profiles, chosen)
        with self.unit_of_work("update", inputs=[record.id], parameters={"detached": chosen.artifact_id}) as work:
            if actions:
                work.afterwards(*actions)
            rest = tuple(each for each in record.artifacts if each.artifact_id != chosen.artifact_id)
            work.update_record(record.replace(artifacts=rest), validate=False)
            return work.commit().records[0].of(self)

    @logged
    def replace_artifact(
        self,
        name: Named,
        source: object,
        artifact: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        filename: str | None = None,
        **fields: Unpack[ArtifactFields],
    ) -> Added:
        """Replace the bytes of an artifact (default: the primary one) in one commit, then remove the former managed bytes.

        The new artifact has the old one's role and metadata, unless the call says otherwise.
        """
        self._writable()
        record = self.get(name)
        old = integrity.choose(record, artifact)
        draft, options = self._draft(dict(old.metadata) if metadata is None else metadata, {"role": old.role, **fields})
        prepared = source_to_write(source, None, filename, draft.id)
        if prepared is None:
            raise InvalidRequest("Give the bytes that replace the artifact.")
        options = replace(options, metadata=draft.metadata)
        return self._added(self._adder.put_in_place(record, old, prepared, options, integrity.removal(self.profiles, old)))

    @logged
    def update_artifact(
        self,
        name: Named,
        artifact: str | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] = (),
        **fields: Unpack[DescribedFields],
    ) -> CatalogRecord:
        """Change the description of an artifact: its metadata (dotted paths), role, media type, format or original name."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact)
        metadata = set_paths(dict(chosen.metadata), set or {})
        for path in unset:
            metadata = without(metadata, path.split("."))
        if unknown := fields.keys() - DescribedFields.__annotations__.keys():
            raise InvalidRequest(f"{', '.join(sorted(unknown))}: only the catalog sets these.")
        changed = chosen.replace(**{**fields, "metadata": metadata})
        if changed == chosen:
            return record
        with self.unit_of_work("update", inputs=[record.id]) as work:
            others = tuple(changed if each.artifact_id == chosen.artifact_id else each for each in record.artifacts)
            work.update_record(record.replace(artifacts=others))
            return work.commit().records[0].of(self)

    def verify(self, *names: Named, all: bool = False, fast: bool = False, record: bool = False) -> list[integrity.Verified]:
        """Compare artifacts with their size and hash in the catalog. *record* stores the time, and which are missing."""
        records = self.iterate(statuses=None, order=("id",)) if all else (self.get(name) for name in names)
        found: list[integrity.Verified] = []
        for each in records:
            verdicts = list(integrity.verify(self.profiles, each, fast=fast))
            found += verdicts
            if record and verdicts:
                with self.unit_of_work("repair", inputs=[each.id]) as work:
                    work.update_record(integrity.checked(each, verdicts, self.ports.clock()), validate=False)
                    work.commit()
        return found

    @logged
    def fetch(self, name: Named, artifact: str | None = None, *, profile: str | None = None) -> CatalogRecord:
        """Download the bytes of an external artifact. They must match its hash, if it is known."""
        self._writable()
        record = self.get(name)
        chosen = integrity.choose(record, artifact, status="external")
        return integrity.fetch(self.ports, self.parts.planner, self.parts.fetcher, record, chosen, PlannedPlace(profile)).of(self)

    @logged
    def drop(self, name: Named, artifact: str | None = None, *, force: bool = False) -> CatalogRecord:
        """Remove downloaded bytes that their origin still has."""
        record = self.get(name)
        chosen = integrity.choose(record, artifact, status="available")
        return integrity.drop(self.ports, self.parts.fetcher, record, chosen, force=force).of(self)
