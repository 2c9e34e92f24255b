"""OGC API Processes over a socket: the table at once and as a job, equal to GET, and by a client that we did not write."""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
import xarray as xr
from jsonschema import Draft202012Validator
from owslib.ogcapi.processes import Processes
from shapely.geometry import mapping

from cubeport.cubes.zones import Zone, ZoneSet
from cubeport.service.state import JOB
from cubeport.service.tables import TableLimits

EXECUTION = "/ogcapi/processes/zonal-statistics/execution"
AT_ONCE: dict[str, str] = {}
AS_JOB = {"Prefer": "respond-async"}
NO_SUCH = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"


@pytest.fixture(scope="module")
def rain(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two years of days on a small grid, and a zone set of three boxes."""
    file = tmp_path_factory.mktemp("processes") / "rain.nc"
    values = np.random.default_rng(3).gamma(2, 3, (731, 6, 8)).astype("f4")
    xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm", "cell_methods": "time: sum"})},
        coords={
            "time": ("time", np.arange(731.0), {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", np.arange(5.0, 65, 10), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.arange(5.0, 85, 10), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    ).to_netcdf(file)
    shelf.keep("rain-of-processes", file, period_type="daily")
    boxes = {"a": shapely.box(0, 0, 20, 25), "b": shapely.box(20, 0, 45, 25), "c": shapely.box(3, 31, 50, 59)}
    shelf.zones["three-boxes"] = ZoneSet("three-boxes", tuple(Zone(name, name.title(), shape) for name, shape in boxes.items()))
    return "rain-of-processes"


@pytest.fixture(scope="module")
def small(serve: Callable[..., httpx.Client], rain: str) -> httpx.Client:
    """A server whose tables have at most 1,000 rows, and whose jobs 5,000."""
    return serve(table_limits=TableLimits(rows=1000))


def run(client: httpx.Client, headers: dict[str, str], *, response: str = "raw", **inputs: Any) -> httpx.Response:
    body = {"inputs": {name.replace("_", "-"): value for name, value in inputs.items()}, "response": response}
    return client.post(EXECUTION, json=body, headers=headers)


def ended(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """Follow the job to its end."""
    assert answer.status_code == 201, answer.text
    until = time.monotonic() + 60
    while time.monotonic() < until:
        status: dict[str, Any] = client.get(answer.headers["location"]).json()
        if status["status"] not in ("accepted", "running"):
            return status
        time.sleep(0.02)
    pytest.fail("the job did not end")


def rows(text: str) -> list[tuple[str, ...]]:
    return sorted(tuple(each) for each in csv.reader(io.StringIO(text)))


TEXTS = {"type": "array", "items": {"type": "string"}}
LINK = {
    "type": "object",
    "required": ["href", "rel"],
    "properties": {"href": {"type": "string", "format": "uri"}, "rel": {"type": "string"}, "type": {"type": "string"}},
}
LINKS = {"type": "array", "minItems": 1, "items": LINK}
DESCRIBED: dict[str, Any] = {"title": {"type": "string"}, "description": {"type": "string"}, "keywords": TEXTS}
SUMMARY: dict[str, Any] = DESCRIBED | {
    "id": {"type": "string"},
    "version": {"type": "string"},
    "jobControlOptions": {"type": "array", "items": {"enum": ["sync-execute", "async-execute", "dismiss"]}},
    "outputTransmission": {"type": "array", "items": {"enum": ["value", "reference"]}},
    "links": LINKS,
}
OUTPUT: dict[str, Any] = {
    "type": "object",
    "required": ["schema"],
    "additionalProperties": False,
    "properties": DESCRIBED | {"schema": {"$ref": "https://json-schema.org/draft/2020-12/schema"}},
}
OCCURS = {
    "minOccurs": {"type": "integer", "minimum": 0},
    "maxOccurs": {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "unbounded"}]},
}
INPUT = OUTPUT | {"properties": OUTPUT["properties"] | OCCURS}
STATUS: dict[str, Any] = {
    "type": "object",
    "required": ["jobID", "status", "type"],
    "additionalProperties": False,
    "properties": {
        "jobID": {"type": "string"},
        "processID": {"type": "string"},
        "type": {"const": "process"},
        "status": {"enum": ["accepted", "running", "successful", "failed", "dismissed"]},
        "message": {"type": "string"},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        **{each: {"type": "string", "format": "date-time"} for each in ("created", "started", "finished", "updated")},
        "links": LINKS,
    },
}
STANDARD: dict[str, dict[str, Any]] = {
    "list": {
        "type": "object",
        "required": ["processes", "links"],
        "additionalProperties": False,
        "properties": {
            "processes": {
                "type": "array",
                "items": {"type": "object", "required": ["id", "version"], "additionalProperties": False, "properties": SUMMARY},
            },
            "links": LINKS,
        },
    },
    "process": {
        "type": "object",
        "required": ["id", "version", "inputs", "outputs"],
        "additionalProperties": False,
        "properties": SUMMARY
        | {
            "inputs": {"type": "object", "minProperties": 1, "additionalProperties": INPUT},
            "outputs": {"type": "object", "minProperties": 1, "additionalProperties": OUTPUT},
        },
    },
    "status": STATUS,
    "jobs": {
        "type": "object",
        "required": ["jobs", "links"],
        "additionalProperties": False,
        "properties": {"jobs": {"type": "array", "items": STATUS}, "links": LINKS},
    },
    "results": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "additionalProperties": False,
            "properties": {"value": {}, "mediaType": {"type": "string"}, "encoding": {"type": "string"}, "schema": {}},
        },
    },
    "exception": {
        "type": "object",
        "required": ["type"],
        "properties": {each: {"type": "string"} for each in ("type", "title", "detail", "instance")}
        | {"status": {"type": "integer"}},
    },
}
"""The members of each document, as the tables and requirements of OGC 18-062r2 say: none is missing, and there is no other."""


def judged(name: str, document: Any) -> Any:
    """Return a document that has what the standard requires of it."""
    validator = Draft202012Validator(STANDARD[name], format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert not (problems := [f"{each.json_path}: {each.message}" for each in validator.iter_errors(document)]), problems
    return document


class TestCore:
    def test_each_document_has_the_members_of_the_standard(self, client: httpx.Client, rain: str) -> None:
        judged("list", client.get("/ogcapi/processes").json())
        described = judged("process", client.get("/ogcapi/processes/zonal-statistics").json())
        inputs = {"dataset": rain, "zones": "three-boxes", "period": "year"}
        at_once = judged("results", run(client, AT_ONCE, response="document", **inputs).json())
        assert set(at_once) == set(described["outputs"])
        begun = run(client, AS_JOB, response="document", **inputs)
        judged("status", begun.json())
        done = judged("status", ended(client, begun))
        assert {"created", "started", "finished", "progress"} <= set(done)
        link = next(each["href"] for each in done["links"] if each["rel"].endswith("results"))
        assert judged("results", client.get(link).json()) == at_once
        judged("exception", run(client, AS_JOB, dataset=rain, zones="three-boxes", z="5").json())
        judged("jobs", client.get("/ogcapi/jobs").json())
        for missing in ("/ogcapi/processes/nothing", "/ogcapi/jobs/" + "0" * 32):
            judged("exception", client.get(missing).json())

    def test_a_document_that_breaks_the_standard_is_found(self, client: httpx.Client) -> None:
        described = client.get("/ogcapi/processes/zonal-statistics").json()
        for broken in (
            {name: each for name, each in described.items() if name != "version"},
            described | {"jobControlOptions": ["sync"]},
            described | {"inputs": {"zones": {"title": "no schema"}}},
        ):
            with pytest.raises(AssertionError):
                judged("process", broken)

    def test_the_process_is_described_with_its_inputs(self, client: httpx.Client) -> None:
        listed = client.get("/ogcapi/processes").json()
        assert [each["id"] for each in listed["processes"]] == ["zonal-statistics"]
        described = client.get("/ogcapi/processes/zonal-statistics").json()
        assert {"dataset", "zones", "statistic", "period", "relative-to", "form"} <= set(described["inputs"])
        assert described["jobControlOptions"] == ["sync-execute", "async-execute", "dismiss"]
        missing = client.get("/ogcapi/processes/nothing")
        assert (missing.status_code, missing.json()["type"]) == (404, f"{NO_SUCH}/no-such-process")
        links = {each["rel"]: each["href"] for each in client.get("/ogcapi").json()["links"]}
        assert client.get(links["http://www.opengis.net/def/rel/ogc/1.0/processes"]).json() == listed

    @pytest.mark.parametrize("period", ["as-stored", "week", "month", "season", "year"])
    def test_at_once_and_as_a_job_it_is_the_table_of_get(self, client: httpx.Client, rain: str, period: str) -> None:
        inputs = {
            "dataset": rain,
            "zones": "three-boxes",
            "period": period,
            "statistic": ["mean", "max"],
            "datetime": "2020-02/2020-11",
        }
        got = client.get(f"/datasets/{rain}/table?zones=three-boxes&period={period}&statistic=mean,max&datetime=2020-02/2020-11")
        at_once = run(client, AT_ONCE, **inputs)
        assert (at_once.status_code, at_once.headers["content-type"]) == (200, "text/csv"), at_once.text[:200]
        assert at_once.text == got.text
        answer = run(client, AS_JOB, **inputs)
        status = ended(client, answer)
        assert (status["status"], status["progress"], status["processID"]) == ("successful", 100, "zonal-statistics")
        link = next(each["href"] for each in status["links"] if each["rel"].endswith("results"))
        assert client.get(link).text == got.text

    @pytest.mark.parametrize(("period", "statistic"), [("as-stored", "mean,min"), ("week", "mean,min,max,count,stdev")])
    def test_a_table_over_the_limit_is_made_in_parts_and_is_the_same(
        self, small: httpx.Client, client: httpx.Client, rain: str, period: str, statistic: str
    ) -> None:
        query = f"zones=three-boxes&period={period}&statistic={statistic}"
        whole = client.get(f"/datasets/{rain}/table?{query}").text
        refused = small.get(f"/datasets/{rain}/table?{query}")
        assert refused.status_code == 413
        first, job = refused.json()["alternatives"]
        fits = small.get(first["href"])
        assert fits.status_code == 200, fits.text
        assert set(rows(fits.text)) <= set(rows(whole))
        answer = small.request(job["method"], job["href"], json=job["body"], headers=job["headers"])
        status = ended(small, answer)
        assert status["status"] == "successful", status
        assert rows(small.get(f"{answer.headers['location']}/results").text) == rows(whole)

    def test_what_is_too_large_for_a_job_is_refused_at_once(self, small: httpx.Client, rain: str) -> None:
        answer = run(small, AS_JOB, dataset=rain, zones="three-boxes", statistic="mean,min,max")
        assert (answer.status_code, answer.json()["setting"]) == (413, "limits.job_rows")
        form = run(small, AS_JOB, dataset=rain, zones="three-boxes", form="json")
        assert (form.status_code, form.json()["setting"]) == (413, "limits.table_rows")

    def test_zones_can_be_sent_and_a_document_asked_for(self, client: httpx.Client, rain: str) -> None:
        shape = mapping(shapely.box(0, 0, 20, 25))
        feature = {"type": "Feature", "properties": {"code": "a", "name": "A"}, "geometry": shape}
        sent = {"value": {"type": "FeatureCollection", "features": [feature]}, "mediaType": "application/geo+json"}
        inputs = {"dataset": rain, "period": "year", "zone": "a"}
        document = client.post(EXECUTION, json={"inputs": {**inputs, "zones": sent, "id_property": "code"}, "response": "document"})
        assert document.status_code == 200, document.text
        table = document.json()["table"]
        assert table["mediaType"] == "text/csv"
        assert rows(table["value"]) == rows(run(client, AT_ONCE, **inputs, zones="three-boxes").text)

    def test_the_media_type_of_the_output_chooses_the_form(self, client: httpx.Client, rain: str) -> None:
        body = {
            "inputs": {"dataset": rain, "zones": "three-boxes", "period": "year"},
            "outputs": {"table": {"format": {"mediaType": "application/geo+json"}}},
        }
        answer = client.post(EXECUTION, json=body)
        assert answer.headers["content-type"] == "application/geo+json"
        assert len(answer.json()["features"]) in (3, 6)

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ([], ["body", "inputs"]),
            ({"inputs": {"zones": "three-boxes"}}, ["body", "inputs", "dataset"]),
            (
                {"inputs": {"dataset": "rain-of-processes", "zones": "three-boxes", "statistic": "mode"}},
                ["body", "inputs", "statistic"],
            ),
            ({"inputs": {"dataset": "rain-of-processes", "zones": "three-boxes", "nothing": 1}}, ["body", "inputs", "nothing"]),
            ({"inputs": {"dataset": "rain-of-processes", "zones": {"href": "http://127.0.0.1/x"}}}, ["body", "inputs", "zones"]),
            ({"inputs": {"dataset": "rain-of-processes", "zones": "three-boxes", "form": "xlsx"}}, ["body", "form"]),
            ({"inputs": {"dataset": "rain-of-processes", "zones": "three-boxes"}, "response": "both"}, ["body", "response"]),
            ({"inputs": {"dataset": "rain-of-processes"}, "outputs": {"other": {}}}, ["body", "outputs"]),
            ({"inputs": {}, "subscriber": {"successUri": "http://127.0.0.1"}}, ["body", "subscriber"]),
        ],
    )
    def test_what_is_wrong_is_named(self, client: httpx.Client, rain: str, body: Any, place: list[str]) -> None:
        for headers in (AT_ONCE, AS_JOB):
            answer = client.post(EXECUTION, json=body, headers=headers)
            assert (answer.status_code, [each["loc"] for each in answer.json()["errors"]][:1]) == (400, [place]), answer.text


class TestJobs:
    def test_a_job_that_is_not_there_and_one_that_is_dismissed(self, client: httpx.Client, rain: str) -> None:
        missing = client.get(f"/ogcapi/jobs/{'0' * 32}")
        assert (missing.status_code, missing.json()["type"]) == (404, f"{NO_SUCH}/no-such-job")
        answer = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="month")
        place = answer.headers["location"]
        ended(client, answer)
        assert client.delete(place).json()["status"] == "dismissed"
        assert client.get(place).status_code == client.get(f"{place}/results").status_code == 404

    def test_a_job_waits_for_a_place_and_has_no_result_until_then(self, client: httpx.Client, rain: str) -> None:
        taken = 0
        while client.queries.try_place():  # type: ignore[attr-defined]
            taken += 1
        try:
            answer = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="month")
            early = client.get(f"{answer.headers['location']}/results")
            assert (early.status_code, early.json()["type"]) == (404, f"{NO_SUCH}/result-not-ready")
            other = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="year")
            assert client.delete(other.headers["location"]).json()["status"] == "dismissed"
        finally:
            for _ in range(taken):
                client.queries.leave_place()  # type: ignore[attr-defined]
        assert ended(client, answer)["status"] == "successful"

    def test_a_job_that_fails_says_why(self, client: httpx.Client, rain: str) -> None:
        answer = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="month", relative_to="1991/2000")
        if answer.status_code != 201:  # some reasons are known before it begins
            assert answer.status_code in (400, 404, 409)
            return
        status = ended(client, answer)
        assert status["status"] == "failed"
        result = client.get(f"{answer.headers['location']}/results")
        assert result.status_code == 409
        assert result.json()["detail"].startswith(status["message"])

    def test_a_job_whose_process_has_died_is_run_by_another(self, client: httpx.Client, rain: str, shelf: Any) -> None:
        answer = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="month")
        ended(client, answer)
        before = client.get(f"{answer.headers['location']}/results").text
        job_id = answer.json()["jobID"]
        rows_, row = next((q._rows, row) for q in shelf.queues if (row := q._rows.get(JOB, job_id)) is not None)
        next(Path(shelf.scratch).rglob(f"{job_id}/result")).unlink()
        died = row.document | {"ingestion": row.document["ingestion"] | {"status": "running"}, "worker": "f" * 32}
        rows_.put(dataclasses.replace(row, document=died, state="running"))
        assert client.get(answer.headers["location"]).json()["status"] in ("accepted", "running", "successful")
        status = ended(client, answer)
        assert status["status"] == "successful"
        assert client.get(f"{answer.headers['location']}/results").text == before

    def test_a_dismissed_job_says_so_and_has_no_result(self, client: httpx.Client, rain: str) -> None:
        taken = 0
        while client.queries.try_place():  # type: ignore[attr-defined]
            taken += 1
        try:
            answer = run(client, AS_JOB, dataset=rain, zones="three-boxes", period="month")
            place = answer.headers["location"]
            assert client.delete(place).json()["status"] == "dismissed"
            assert ended(client, answer)["status"] == "dismissed"
            result = client.get(f"{place}/results")
            assert (result.status_code, result.json()["type"]) == (404, f"{NO_SUCH}/no-such-job")
        finally:
            for _ in range(taken):
                client.queries.leave_place()  # type: ignore[attr-defined]

    def test_a_document_is_the_result_of_a_job_that_asked_for_one(self, client: httpx.Client, rain: str) -> None:
        inputs = {"dataset": rain, "zones": "three-boxes", "period": "year"}
        answer = run(client, AS_JOB, response="document", **inputs)
        ended(client, answer)
        found = client.get(f"{answer.headers['location']}/results")
        assert found.headers["content-type"] == "application/json"
        assert found.json() == run(client, AT_ONCE, response="document", **inputs).json()

    def test_a_job_takes_the_weights_of_another_dataset(self, client: httpx.Client, rain: str) -> None:
        inputs = {"dataset": rain, "zones": "three-boxes", "period": "month", "weights": f"{rain}:rain"}
        answer = run(client, AS_JOB, **inputs)
        ended(client, answer)
        found = client.get(f"{answer.headers['location']}/results").text
        assert found == run(client, AT_ONCE, **inputs).text
        assert found != run(client, AT_ONCE, **{**inputs, "weights": f"{rain}@latest:rain", "statistic": "max"}).text

    def test_jobs_of_nobody_are_not_listed_for_all(self, client: httpx.Client, rain: str) -> None:
        ended(client, run(client, AS_JOB, dataset=rain, zones="three-boxes", period="year"))
        listed = client.get("/ogcapi/jobs").json()
        assert listed["links"][0]["rel"] == "self"
        assert isinstance(listed["jobs"], list)


class TestClients:
    def test_owslib_runs_it(self, client: httpx.Client, rain: str) -> None:
        theirs = Processes(f"{client.base_url}/ogcapi")
        assert [each["id"] for each in theirs.processes()] == ["zonal-statistics"]
        assert theirs.process("zonal-statistics")["inputs"]["zones"]["minOccurs"] == 1
        inputs = {"dataset": rain, "zones": "three-boxes", "period": "year"}
        found = theirs.execute("zonal-statistics", inputs=inputs)
        assert rows(found["table"]["value"]) == rows(run(client, AT_ONCE, **inputs).text)
        job = Processes(f"{client.base_url}/ogcapi").execute("zonal-statistics", inputs=inputs, async_=True)
        assert job["status"] in ("accepted", "running", "successful")
