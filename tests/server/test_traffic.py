"""What was answered is counted, and is a line of the log."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from cubeport.main.logs import JsonLines
from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper, NoKeys

from .conftest import Client, FakeEngine, FakeService, Live, make_parts


def values(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


def test_answers_are_counted_by_route_method_and_status(client: Client) -> None:
    asked = ("/datasets", "/datasets?limit=5", "/zarr/sea/zarr.json", "/datasets/nix", "/nix")
    sizes = [len(client.get(path, headers={"Accept-Encoding": "identity"}).content) for path in asked]
    client.request("BREW", "/datasets")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = values(answer.text)
    assert found['cubeport_requests_total{route="/datasets",method="GET",status="200"}'] == 2
    assert found['cubeport_requests_total{route="/zarr/{key}",method="GET",status="200"}'] == 1
    assert found['cubeport_requests_total{route="/datasets/{dataset_id}",method="GET",status="404"}'] == 1
    assert found['cubeport_requests_total{route="none",method="GET",status="404"}'] == 1
    assert found['cubeport_requests_total{route="none",method="OTHER",status="405"}'] == 1
    assert found['cubeport_response_bytes_total{face="datasets",route="/datasets"}'] == sum(sizes[:2])
    assert found['cubeport_request_seconds_count{route="/datasets"}'] == 2
    assert found['cubeport_request_seconds_bucket{route="/datasets",le="+Inf"}'] == 2
    assert 0 < found['cubeport_request_seconds_sum{route="/datasets"}'] < 10
    assert found["cubeport_catalog_generation"] == 1
    assert found["process_open_fds"] > 2
    assert re.fullmatch(r'(# (HELP|TYPE) .*\n|[a-z_]+(\{([a-z]+="[^"\n]*",?)+\})? [0-9.e+-]+\n)+', answer.text)


@pytest.mark.parametrize(
    ("peer", "headers", "public", "status"),
    [
        ("127.0.0.1", {}, False, 200),
        ("8.8.8.8", {}, False, 401),
        ("127.0.0.1", {"X-Forwarded-For": "8.8.8.8"}, False, 401),
        ("8.8.8.8", {}, True, 200),
    ],
)
def test_metrics_are_for_this_machine_unless_public(
    service: FakeService, engine: FakeEngine, peer: str, headers: dict[str, str], public: bool, status: int
) -> None:
    keeper = Gatekeeper(NoKeys(), public_metrics=public, asks_for_itself=lambda *_: True)
    with Client(App(make_parts(service, engine, gatekeeper=keeper)), peer=peer) as client:
        assert client.get("/metrics", headers=headers).status_code == status
        assert client.get("/usage", headers=headers).status_code == (401 if peer == "8.8.8.8" else status), "it names datasets"


def test_each_answer_is_a_line_with_its_request_id(
    service: FakeService, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    with Live(lambda url: App(make_parts(service, engine, public_url=url, access_log=True))) as live:
        import httpx

        ids = [httpx.get(live.url + path, trust_env=False).headers["x-request-id"] for path in ("/datasets?q=a%0Ab", "/nix")]
    lines = capsys.readouterr().err.splitlines()
    shown = [line for line in lines if line.split()[-1] in ids]
    assert [line.split()[1:5] for line in shown] == [
        ["127.0.0.1", "GET", "/datasets?q=a%0Ab", "200"],
        ["127.0.0.1", "GET", "/nix", "404"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 .* \d+ \d+\.\dms [0-9a-f]{16}", line) for line in shown)


def test_no_line_without_being_asked(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    answer: Any = client.get("/nix")
    assert answer.headers["x-request-id"] not in capsys.readouterr().err


def test_an_exception_is_part_of_the_line_that_reports_it() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("cubeport.server", logging.ERROR, __file__, 1, "request %s failed", ("abc",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    document = json.loads(line)
    assert (document["level"], document["logger"], document["message"]) == ("error", "cubeport.server", "request abc failed")
    assert "ValueError: two\nlines" in document["traceback"]
