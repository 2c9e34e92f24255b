"""The metrics of an instance besides those of answers: jobs, units of work, caches, children and disk space."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cubeport.server.traffic import Metric

if TYPE_CHECKING:
    from cubeport.adapters.encoders.room import AnswerRoom
    from cubeport.adapters.engines.handles import OpenedVersions
    from cubeport.adapters.sandbox.children import Children
    from cubeport.service.service import Service
    from cubeport.settings import Settings


def metrics_of(
    settings: Settings, service: Service, *, children: Children, versions: OpenedVersions, room: AnswerRoom
) -> tuple[Metric, ...]:
    """Return a function that measures on request. Metrics of this process are named so; the others cover the whole instance."""
    caches, journal = versions.caches, service.catalog.ports.journal
    here = "in this process"
    return (
        Metric(
            "cubeport_jobs", "gauge", "Unfinished ingestions by status.", lambda: _labelled("status", service.jobs.unfinished())
        ),
        Metric(
            "cubeport_ingestions_total",
            "counter",
            f"Attempts of ingestions that ended {here}, by outcome.",
            lambda: _labelled("outcome", service.jobs.outcomes()),
        ),
        Metric(
            "cubeport_open_units_of_work",
            "gauge",
            "Operations that are neither committed nor undone; more than jobs run for long means that recover is needed.",
            lambda: {"": len(journal.open_ids())},
        ),
        Metric(
            "cubeport_cache_bytes",
            "gauge",
            f"Bytes of decoded chunks and opened versions {here}.",
            lambda: _labelled("cache", {name: cache.weight for name, cache in caches.items()}),
        ),
        Metric(
            "cubeport_cache_lookups_total",
            "counter",
            f"What was asked of these caches {here}, by result.",
            lambda: {
                f'cache="{name}",result="{result}"': count
                for name, cache in caches.items()
                for result, count in (("hit", cache.hits), ("miss", cache.misses))
            },
        ),
        Metric("cubeport_gate_children", "gauge", f"Children that read a source now {here}.", lambda: {"": children.running}),
        Metric("cubeport_gate_children_limit", "gauge", f"Children at most {here}.", lambda: {"": children.limits.children}),
        Metric(
            "cubeport_answer_bytes",
            "gauge",
            f"Bytes of answers that are being sent {here}.",
            lambda: dict(zip(('place="disk"', 'place="memory"'), room.taken, strict=True)),
        ),
        Metric(
            "cubeport_disk_free_bytes",
            "gauge",
            "Free bytes of the disk of the data.",
            lambda: {"": shutil.disk_usage(settings.data_dir).free},
        ),
    )


def _labelled(label: str, values: Mapping[str, float]) -> Mapping[str, float]:
    return {f'{label}="{name}"': value for name, value in values.items()}
