"""What ``cubeport jobs ID`` says of a job."""

from __future__ import annotations

from typing import Any

import pytest

from cubeport.catalog.forms.canonical import now
from cubeport.cli.jobs import _facts
from cubeport.service.ingestions import Ingestion, IngestionPlan, IngestionRequest, Scope, TableJob, Work
from cubeport.service.present import ingestion

TABLE: dict[str, Any] = {"dataset_id": "rain", "version_id": "v", "parameters": (), "form": "csv", "title": "a table"}
MADE = Ingestion(
    dataset_id="rain",
    status="failed",
    request=IngestionRequest(dataset_id="rain"),
    request_scope=Scope(start="2020-01"),
    plan=IngestionPlan(action="create", reason="the dataset does not exist yet"),
    action="create",
)


@pytest.mark.parametrize(
    ("job", "told", "untold"),
    [
        (MADE, ("asked for: 2020-01 to the newest", "action: create: the dataset does not exist yet"), ("result:",)),
        (TableJob(**TABLE), ("table: ", "status: accepted"), ("asked for", "result:", "action")),
        (
            TableJob(**TABLE, status="completed", finished_at=now()),
            ("status: completed", "result: http://x/ogcapi/jobs/"),
            ("action",),
        ),
    ],
    ids=["ingestion", "table", "made-table"],
)
def test_the_facts_of_every_kind_of_job(job: Work, told: tuple[str, ...], untold: tuple[str, ...]) -> None:
    class Nowhere:
        def shown(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("no dataset is asked for")

    said = " ".join(_facts(ingestion(Nowhere(), job, "http://x"), str).split())  # type: ignore[arg-type]
    assert all(each in said for each in told), said
    assert not any(each in said for each in untold), said
