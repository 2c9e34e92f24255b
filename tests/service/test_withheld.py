"""Query strings and secrets of a request are in the memory of the process that accepted it, and in no row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.service.test_jobs import Attempts, jobs, quick, until, working  # noqa: F401 - quick is a fixture

import cubeport
from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.catalog.forms.redaction import mask_secrets
from cubeport.errors import InvalidRequest, SourceFailed, SourceRejected
from cubeport.main import prepare
from cubeport.service import present
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest
from cubeport.service.jobs import _row
from cubeport.service.state import JOB
from cubeport.service.withheld import lacks_secrets, with_request_of, without_secrets

SECRET = "planted-SECRET"


def asked(source: Any, *, template: Any = None, **how: Any) -> Ingestion:
    request = {"dataset_id": "x", "source": source, "template": template}
    return Ingestion(dataset_id="x", request=IngestionRequest.model_validate(request), **how)


def signed(**how: Any) -> Ingestion:
    return asked(f"https://data.example/a.nc?year=2020&token={SECRET}", **how)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://a.example/x?year=1&X-Amz-Signature=s&b", "https://a.example/x?year=1&X-Amz-Signature=***&b"),
        ("https://a.example/x?api%5Fkey=s", "https://a.example/x?api%5Fkey=***"),
        ("https://me:s@a.example/x;token=s/y?sig=", "https://***@a.example/x;token=***/y?sig=***"),
        ("https://a.example/{year}.nc?n={n}#t", "https://a.example/{year}.nc?n={n}#t"),
        ("/data/token=s/x.nc", "/data/token=s/x.nc"),
        ("https://[", "https://["),
    ],
)
def test_only_what_looks_secret_in_an_address_is_masked(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "job",
    [
        signed(),
        asked({"kind": "url", "template": f"https://data.example/{{k}}.nc?key={SECRET}", "params": {"k": "a"}}),
        asked({"kind": "plugin", "name": "iris-sample-data", "params": {"login": {"password": SECRET}}}),
        asked(f"https://data.example/a.nc?{SECRET}"),
        asked({"kind": "url", "template": "https://data.example/{k}.nc?t={t}", "params": {"k": "a", "t": SECRET}}),
        asked({"kind": "zarr", "url": f"https://data.example/a.zarr?sv={SECRET}"}),
        asked(
            "https://data.example/a.nc",
            template={
                "normalise": [{"positions": {"longitude": "x", "latitude": "y", "file": f"https://data.example/g.nc?t={SECRET}"}}]
            },
        ),
        Ingestion(
            dataset_id="x",
            request=IngestionRequest(dataset_id="x"),
            options=FileOptions(files=(f"https://data.example/a.nc?token={SECRET}",)),
        ),
    ],
)
def test_a_row_has_no_secret_and_with_what_was_kept_it_is_whole(job: Ingestion) -> None:
    stored = without_secrets(job)
    assert SECRET not in str(stored)
    assert (lacks_secrets(stored), lacks_secrets(job)) == (True, False)
    assert with_request_of(stored, job) == job
    plain = asked("https://data.example/a.nc", template={"license_url": "https://licence.example/?lang=en"})
    assert without_secrets(plain) is plain
    starred = plain.model_copy(update={"request": plain.request.model_copy(update={"attributes": {"title": "*** a draft"}})})
    assert not lacks_secrets(starred)


def test_a_failed_job_without_its_secret_is_not_retried(tmp_path: Path) -> None:
    prepare(tmp_path / "i")
    with cubeport.connect(tmp_path / "i") as service:
        failed = without_secrets(signed(status="failed"))
        service.jobs._rows.put(_row(failed))
        with pytest.raises(InvalidRequest, match="not stored") as caught:
            service.retry(failed.ingestion_id)
    assert caught.value.next_step == "send the request again"


def _rels(job: Any) -> list[str]:
    return [link["rel"] for link in present.ingestion(None, job, "https://x")["links"]]  # type: ignore[arg-type]  # it has made nothing


def test_a_retry_is_offered_where_it_is_accepted(tmp_path: Path) -> None:
    """The page of jobs had a button for each job that failed, also for those that are refused."""
    prepare(tmp_path / "i")
    failed = {"status": "failed", "error": {"kind": "source-failed"}}
    named = Ingestion(dataset_id="x", request=IngestionRequest(dataset_id="x"), options=FileOptions(files=("a.nc",)), **failed)
    plain = asked("https://data.example/a.nc").model_copy(update=failed)
    with cubeport.connect(tmp_path / "i") as service:
        for job, offered in ((named, False), (without_secrets(signed(status="failed")), False), (plain, True)):
            service.jobs._rows.put(_row(job))
            # What is offered is asked again like any request: this service may not fetch from there.
            with pytest.raises(SourceRejected if offered else InvalidRequest):
                service.retry(job.ingestion_id)
            assert _rels(job) == (["self", "retry"] if offered else ["self"])
    assert _rels(plain.model_copy(update={"status": "running"})) == ["self"]


def test_a_job_runs_with_its_secret_again_and_again_and_no_row_has_it(tmp_path: Path) -> None:
    backend, seen = MemoryBackend(), []

    def act(job: Ingestion, _: Any) -> None:
        seen.append(job.request.source)
        assert SECRET not in str(backend.rows.select(JOB))
        if len(seen) == 1:
            raise SourceFailed("not now")

    with working(jobs(backend, Attempts(act), tmp_path)) as made:
        job = signed(waited_for=False)
        assert made.wait(made.submit(job).ingestion_id, 5).status == "completed"
        assert seen == [job.request.source] * 2
        assert made._kept == {}


def test_another_process_leaves_it_alone_and_ends_it_when_the_first_has_died(tmp_path: Path) -> None:
    backend, attempts = MemoryBackend(), Attempts()
    first = jobs(backend, attempts, tmp_path)
    first.start()
    first._stopping.set()  # it takes no job, and lives
    job = first.submit(signed(waited_for=False))
    with working(jobs(backend, attempts, tmp_path)) as second:
        assert second.wait(job.ingestion_id, 0.3).status == "accepted"
        first.stop()
        ended = until(lambda: (held := second.get(job.ingestion_id)).finished and held)
    assert (ended.status, ended.error["kind"]) == ("failed", "interrupted")
    assert attempts.made == []


def test_a_process_without_workers_refuses_it(tmp_path: Path) -> None:
    made = jobs(MemoryBackend(), Attempts(), tmp_path)
    with pytest.raises(InvalidRequest, match="not stored"):
        made.submit(signed())
    assert made.submit(asked("https://data.example/a.nc")).status == "accepted"


def test_two_that_differ_only_in_what_is_not_stored_are_two(tmp_path: Path) -> None:
    backend = MemoryBackend()
    made = jobs(backend, Attempts(), tmp_path)
    made.start()
    made._stopping.set()  # it takes no job, and lives
    try:
        ids = [made.submit(asked(f"https://data.example/a.nc?year={year}")).ingestion_id for year in (2020, 2021, 2020)]
    finally:
        made.stop()
    assert ids[0] == ids[2] != ids[1]
