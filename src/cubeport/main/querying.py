"""Assemble the parts that run queries, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubeport.adapters.encoders.room import AnswerRoom
    from cubeport.adapters.engines.handles import OpenedVersions
    from cubeport.service.queries import Queries
    from cubeport.service.service import Service
    from cubeport.service.tablejobs import TableJobs
    from cubeport.service.tables import Tables
    from cubeport.settings import Settings


def room_of(settings: Settings) -> AnswerRoom:
    """Return the room in which a process assembles large answers."""
    from cubeport.adapters.encoders.room import AnswerRoom

    return AnswerRoom(settings.data_dir / "answers", disk_bytes=settings.limits.answer_files_bytes // settings.server.workers)


def versions_of(settings: Settings, service: Service) -> OpenedVersions:
    """Return the opened versions of a process. A quarter of its cache is for them, the rest for decoded chunks."""
    from cubeport.adapters.engines.handles import OpenedVersions

    handle_bytes = settings.server.cache_bytes // 4
    return OpenedVersions(service.engines, handle_bytes=handle_bytes, chunk_bytes=settings.server.cache_bytes - handle_bytes)


def queries_of(settings: Settings, service: Service, versions: OpenedVersions, room: AnswerRoom) -> Queries:
    """Return the object that runs the queries of a service, with encoders, opened versions, room for answers, and pygeoapi."""
    from cubeport.adapters.encoders.modules import EncoderModules
    from cubeport.adapters.ogc.way import Pygeoapi
    from cubeport.service.plans import AnswerLimits
    from cubeport.service.queries import Queries

    limits = settings.limits
    return Queries(
        versions,
        EncoderModules(),
        room,
        Pygeoapi(),
        public_url=service.public_url,
        limits=AnswerLimits(
            json_cells=limits.json_cells,
            csv_cells=limits.csv_cells,
            binary_cells=limits.binary_cells,
            download_cells=limits.download_cells,
            answer_bytes=limits.answer_bytes,
            chunks=limits.chunks,
        ),
    )


def tables_of(settings: Settings, queries: Queries) -> Tables:
    """Return what makes tables of zones, with the places of heavy work of all queries."""
    from cubeport.service.tables import TableLimits, Tables

    limits = settings.limits
    return Tables(queries, limits=TableLimits(rows=limits.table_rows, cells=limits.table_cells, chunks=limits.chunks))


def jobs_of(settings: Settings, queries: Queries, service: Service) -> TableJobs:
    """Return what makes tables as jobs: part by part, each with as many rows as an answer may have."""
    from cubeport.service.tablejobs import TableJobs
    from cubeport.service.tables import TableLimits, Tables

    limits = settings.limits
    parts = TableLimits(rows=limits.table_rows, cells=limits.job_cells, chunks=limits.job_cells)
    folder, tables = settings.data_dir / "tables", Tables(queries, limits=parts)
    return TableJobs(folder, tables, queries, service.jobs, service.shown, rows=limits.job_rows)
