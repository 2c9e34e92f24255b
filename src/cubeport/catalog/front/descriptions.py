"""Schemas of metadata, and metadata extracted from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from cubeport.catalog.artifacts.writers import path_source
from cubeport.catalog.drafts import Options
from cubeport.catalog.extraction import ExtractedRecord
from cubeport.catalog.front.searches import Searches
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.names import Named
from cubeport.catalog.schemas import Schema, ValidationResult


class Descriptions(Searches):
    """Schemas of metadata, and metadata extracted from files."""

    def register_schema(self, name: str, model: Any, version: str = "1") -> Schema:
        """Store a schema of metadata: a Pydantic class or a JSON Schema."""
        self._writable()
        return self.schemas.register(name, model, version)

    @overload
    def validate(self, record: CatalogRecord, /) -> ValidationResult: ...  # type: ignore[overload-overlap]  # the first one wins

    @overload
    def validate(self, *names: Named, all: bool = False) -> dict[str, ValidationResult]: ...

    def validate(self, *names: Named, all: bool = False) -> ValidationResult | dict[str, ValidationResult]:
        """Return what does not fit: of one record that is given as such, its result; else the results by id.

        A record that is given is held to its schema as it is, stored or not.
        """
        if len(names) == 1 and isinstance(names[0], CatalogRecord) and not all:
            return self.schemas.validate(names[0])
        records = self.iterate(order=("id",)) if all else (self.get(name) for name in names)
        return {each.id: self.schemas.validate(each) for each in records}

    def validate_metadata(
        self, metadata: Mapping[str, Any], schema_name: str, schema_version: str | None = None
    ) -> ValidationResult:
        """Validate metadata that no record has yet, and return the problems."""
        schema = self.schemas.get(schema_name, schema_version)
        draft = CatalogRecord(metadata=dict(metadata), schema_name=schema.name, schema_version=schema.version)
        return self.schemas.validate(draft)

    def read_metadata(self, path: str | Path, *, only: Sequence[str] = (), require: bool = False) -> ExtractedRecord:
        """Return what the extractors find in a file or folder: blocks of metadata, time and place. Nothing is stored."""
        source = path_source(path).path
        found = self.extractors.extract(source, only=only)
        if require:
            found.required()
        record = found.apply(CatalogRecord())
        return ExtractedRecord(str(source), record.metadata, record.time, record.bbox, tuple(found.warnings))

    def extract_metadata(
        self, name: Named, *, only: Sequence[str] = (), require: bool = False, dry_run: bool = False
    ) -> CatalogRecord:
        """Read the metadata of the record's primary artifact again."""
        return self.extract(name, only=only, require=require, dry_run=dry_run)[0]

    def extract(
        self, name: Named, *, only: Sequence[str] = (), require: bool = False, dry_run: bool = False
    ) -> tuple[CatalogRecord, tuple[str, ...]]:
        """Do as :meth:`extract_metadata`; return the warnings too."""
        record = self.get(name)
        found = self.extractors.extract(self.path(name), only=only, record_id=record.id)
        if require:
            found.required()
        after = found.apply(record)
        if dry_run or after == record:
            return after, found.warnings
        with self.unit_of_work("extract_metadata", inputs=[record.id]) as work:
            work.warnings += found.warnings
            work.update_record(self._adder.validated(work.context(), after, Options(), work.warnings))
            done = work.commit()
        return done.records[0].of(self), done.warnings
