"""Add records: without bytes, or with a file, bytes or an artifact; plan where an artifact would be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Unpack

from cubeport.catalog.adding import Added, named, referring, source_of, source_to_write
from cubeport.catalog.adding import ArtifactSource as ArtifactSource
from cubeport.catalog.artifacts.storage import StoragePlan, WriteMode
from cubeport.catalog.artifacts.writers import ArtifactWriter, PathSource, writing
from cubeport.catalog.drafts import OF_RECORD, ArtifactFields, RecordFields
from cubeport.catalog.front.opened import OpenedCatalog, logged
from cubeport.catalog.models import TargetKind
from cubeport.catalog.names import Named
from cubeport.errors import InvalidRequest


class Additions(OpenedCatalog):
    """Add records: without bytes, or with a file, bytes or an artifact; plan where an artifact would be stored."""

    @logged
    def add(self, metadata: Mapping[str, Any] | None = None, **fields: Unpack[RecordFields]) -> Added:
        """Add a record without bytes.

        Parameters
        ----------
        fields
            The record's fields (``id kind title description tags schema_name schema_version time bbox status visibility lineage``)
            and, for all ways of adding, ``key``, ``on_exists`` (``error``, ``skip``, ``new_version``), ``schema_policy`` and
            ``dry_run``; with bytes also ``profile``, ``directory_template``, ``filename_template``, ``locator``, ``role``,
            ``media_type``, ``format``, ``extract_metadata``, ``require_metadata``, ``hash`` (of references).

        Raises
        ------
        KeyExists, RecordExists, SchemaInvalid, UnknownSchema, HookFailed
        """
        draft, options = self._draft(metadata, fields)
        self._writable()
        return self._added(self._adder.add(draft, None, options))

    @logged
    def add_file(
        self,
        path: str | Path | PathSource,
        metadata: Mapping[str, Any] | None = None,
        *,
        operation: Literal["copy", "move", "reference"] = "copy",
        filename: str | None = None,
        **fields: Unpack[ArtifactFields],
    ) -> Added:
        """Add a record with a file or folder. Copy it, move it (the source is removed after the commit), or only refer to it."""
        draft, options = self._draft(metadata, fields)
        self._writable()
        return self._added(self._adder.add(draft, named(source_of(path, operation), filename), options))

    @logged
    def add_bytes(
        self,
        data: bytes | BinaryIO,
        metadata: Mapping[str, Any] | None = None,
        *,
        filename: str | None = None,
        **fields: Unpack[ArtifactFields],
    ) -> Added:
        """Add a record with these bytes. Without *filename*, the record's id is their name.

        Parameters
        ----------
        data
            Bytes, or a file opened in binary mode. A path is added by :meth:`add_file`.
        """
        if isinstance(data, (str, Path)):
            raise InvalidRequest("add_bytes takes bytes; add_file takes a path.")
        draft, options = self._draft(metadata, fields)
        self._writable()
        return self._added(
            self._adder.add(draft, ArtifactSource(filename or draft.id, writing(data), mode="write", original=filename), options)
        )

    @logged
    def add_artifact(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        record: Named | None = None,
        storage_plan: StoragePlan | None = None,
        locator: object = None,
        source: object = None,
        artifact_writer: ArtifactWriter | None = None,
        filename: str | None = None,
        **fields: Unpack[ArtifactFields],
    ) -> Added:
        """Add an artifact to a new record, or to *record*.

        Parameters
        ----------
        locator
            Without *source*, the place of existing bytes, which are not changed. With *source*, the place to write to, under a
            writable profile.
        source
            A path, bytes, an open file, or the object that *artifact_writer* reads.
        metadata
            The metadata of the new record; with *record*, those of the artifact.
        """
        self._writable()
        if storage_plan is not None:
            if storage_plan.write_mode == "reference":
                locator, source = storage_plan.locator, None
            else:
                locator = storage_plan.locator
        draft, options = self._draft(metadata, fields, locator=None if source is None else locator)
        prepared = source_to_write(source, artifact_writer, filename or (storage_plan.filename if storage_plan else None), draft.id)
        if prepared is None:
            if locator is None:
                raise InvalidRequest("An artifact needs a locator, or a source to write.")
            prepared = referring(locator)
        if storage_plan is not None and storage_plan.target_kind != prepared.target_kind:
            raise InvalidRequest(f"The plan is for a {storage_plan.target_kind}, the source is a {prepared.target_kind}.")
        if record is None:
            return self._added(self._adder.add(draft, prepared, options))
        if refused := sorted(name for name in (*OF_RECORD, "id", "key", "lineage") if fields.get(name)):
            raise InvalidRequest(
                f"{', '.join(refused)}: of a record, which an artifact does not change.", next_step="cubeport edit ID"
            )
        options = replace(options, metadata=draft.metadata)
        return self._added(self._adder.attach(self.get(record), prepared, options))

    def plan_artifact_storage(
        self,
        path: str | Path | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        locator: object = None,
        target_kind: TargetKind = "file",
        write_mode: WriteMode = "copy",
        **fields: Unpack[ArtifactFields],
    ) -> StoragePlan:
        """Return where an artifact would be stored, without writing or reserving anything."""
        draft, options = self._draft(metadata, {**fields, "dry_run": True}, locator=locator)
        if write_mode == "reference":
            place = locator if locator is not None else path
            prepared = referring(place)
        else:
            name = Path(path).name if path is not None else draft.id
            prepared = ArtifactSource(name, path=Path(path) if path else None, mode=write_mode, target_kind=target_kind)
        added = self._adder.add(draft, prepared, options)
        assert added.plan is not None, "an artifact was planned"
        return added.plan
