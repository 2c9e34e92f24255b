"""A changed title, licence or attribution is on every face at the next request, and makes no new version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import cubeport
from cubeport.errors import InvalidRequest, NotFound
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, here, start, stop


@pytest.fixture(scope="module")
def server(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("instance")
    assert here("init", root).returncode == 0
    done = here("ingest", realdata / "test_lcc.nc", "--id", "lcc", "--instance", root)
    assert done.returncode == 0, done.stderr
    process, url = start(root)
    yield Server(url, root, process)
    stop(process)


def titles(server: Server) -> set[str]:
    """Return the title that each face shows: one, or they disagree."""
    page = server.get("/datasets/lcc", f="html").text
    found = {
        server.json("/datasets/lcc")["dataset_name"],
        server.json("/datasets")["items"][0]["dataset_name"],
        server.json("/stac/collections/lcc")["title"],
        server.json("/ogcapi/collections/lcc")["title"],
        server.json("/ogcapi/collections")["collections"][0]["title"],
    }
    return {each for each in found if each not in page} or found


def versions(server: Server) -> list[str]:
    return [each["version_id"] for each in server.json("/datasets/lcc/versions")["items"]]


def test_every_face_shows_it_at_once_and_no_version_is_made(server: Server) -> None:
    before = versions(server)
    etag = server.get("/stac/collections/lcc").headers["etag"]
    said = here(
        "describe", "lcc", "--title", "Lambert", "--license", "CC-BY-4.0", "--attribution", "Thanks", "--instance", server.root
    )
    assert said.returncode == 0, said.stderr
    assert titles(server) == {"Lambert"}
    collection = server.json("/stac/collections/lcc")
    assert collection["license"] == "CC-BY-4.0"
    assert server.get("/stac/collections/lcc").headers["etag"] != etag
    detail = server.json("/datasets/lcc")
    assert (detail["license"], detail["attribution"]) == ("CC-BY-4.0", "Thanks")

    doubtful = httpx.patch(f"{server.url}/datasets/lcc", json={"license": "mine"}, trust_env=False).json()
    assert [each["kind"] for each in doubtful["warnings"]] == ["unknown-licence"]
    known = httpx.patch(f"{server.url}/datasets/lcc", json={"license": "CC-BY-4.0"}, trust_env=False).json()
    assert known["warnings"] == []

    answer = httpx.patch(f"{server.url}/datasets/lcc", json={"title": "Conic", "keywords": ["a", "b"]}, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["dataset_name"], answer.json()["keywords"], answer.json()["attribution"]) == (
        "Conic",
        ["a", "b"],
        "Thanks",
    )
    assert titles(server) == {"Conic"}
    assert [each["dataset_id"] for each in server.json("/datasets", keyword="b")["items"]] == ["lcc"]

    with cubeport.connect(server.root) as service:
        service.describe("lcc", title="Python")
        assert titles(server) == {"Python"}
        service.describe("lcc", title=None, license=None, keywords=None)
    detail = server.json("/datasets/lcc")
    assert detail["dataset_name"] != "Python"
    assert (detail["keywords"], detail["attribution"]) == ([], "Thanks"), "only what is named changes"
    assert versions(server) == before


def test_another_look_is_drawn_at_the_next_request(server: Server) -> None:
    """Looks are kept in memory, for one state of the record."""
    before = server.get("/ogcapi/collections/lcc/map", width=60).content
    with cubeport.connect(server.root) as service:
        service.describe("lcc", render=[{"palette": "magma", "range": [100, 400]}])
    after = server.get("/ogcapi/collections/lcc/map", width=60).content
    assert after != before
    assert after == server.get("/ogcapi/collections/lcc/map", width=60, palette="magma", range="100,400").content


def test_if_match_and_what_cannot_be_a_text(server: Server) -> None:
    url = f"{server.url}/datasets/lcc"
    tag = server.get("/datasets/lcc").headers["etag"]
    assert httpx.patch(url, json={"title": "One"}, headers={"If-Match": tag}, trust_env=False).status_code == 200
    assert httpx.patch(url, json={"title": "Two"}, headers={"If-Match": tag}, trust_env=False).status_code == 412
    assert titles(server) == {"One"}
    page = httpx.get(url, headers={"Accept": "text/html"}, trust_env=False).headers["etag"]
    assert httpx.patch(url, json={"title": "One"}, headers={"If-Match": page}, trust_env=False).status_code == 200
    wrong: list[dict[str, Any]] = [
        {},
        {"title": ""},
        {"titel": "x"},
        {"title": 3},
        {"license_url": "javascript:alert(1)"},
        {"providers": [{"name": "x", "url": "data:text/html,x"}]},
        {"keywords": ["a", 3]},
        {"description": ""},
    ]
    for body in wrong:
        answer = httpx.patch(url, json=body, trust_env=False)
        assert (answer.status_code, answer.json()["kind"]) == (400, "invalid-request"), (body, answer.text)
    assert httpx.patch(f"{server.url}/datasets/none", json={"title": "x"}, trust_env=False).status_code == 404
    reader = httpx.patch(url, json={"title": "x"}, headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False)
    assert reader.status_code == 401
    assert titles(server) == {"One"}


def test_asking_again_with_another_title_is_a_commit_and_says_so(server: Server, realdata: Path) -> None:
    before = versions(server)
    said = here("ingest", realdata / "test_lcc.nc", "--id", "lcc", "--title", "Again", "--instance", server.root, "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert (document["reused"], document["changed"]) == (True, ["title"])
    assert titles(server) == {"Again"}
    again = json.loads(here("ingest", realdata / "test_lcc.nc", "--id", "lcc", "--instance", server.root, "--json").stdout)
    assert (again["reused"], again["changed"]) == (True, []), "a title given before stays"
    assert titles(server) == {"Again"}
    assert versions(server) == before


def test_an_edit_of_the_record_names_the_command_that_works(server: Server) -> None:
    refused = here("edit", "lcc", "--title", "Edited", "--instance", server.root)
    assert refused.returncode == 2
    assert f"next: cubeport --instance {server.root} describe lcc --title" in refused.stderr
    assert titles(server) == {"Again"}
    with cubeport.connect(server.root) as service:
        for change in ({"tags_add": ["x"]}, {"set": {"dataset.texts.title": "x"}}, {"description": "x"}, {"bbox": (0, 0, 1, 1)}):
            with pytest.raises(InvalidRequest, match="faces would not show the change"):
                service.catalog.update("lcc", **change)  # type: ignore[arg-type]
        service.catalog.update("lcc", set={"mine.note": "kept"})
        service.describe("lcc", title="After")
        assert service.catalog.get("lcc").metadata["mine"] == {"note": "kept"}
        with pytest.raises(NotFound):
            service.describe("none", title="x")


TEMPLATE = """\
id: sst
title: {title}
period_type: monthly
license: {license}
source: {{kind: files, paths: ['{path}']}}
"""


def test_texts_of_a_template_follow_it(tmp_path: Path, realdata: Path) -> None:
    root = tmp_path / "instance"
    assert here("init", root, "--allow-root", realdata).returncode == 0
    template = root / "config" / "datasets" / "sst.yaml"
    path = realdata / "sic_SImon_CanESM5_2020.nc"

    def write(title: str, license: str) -> None:
        template.write_text(TEMPLATE.format(title=title, license=license, path=path))

    write("First", "CC0-1.0")
    with cubeport.connect(root) as service:
        made = service.ingest_here(IngestionRequest(dataset_id="sst", start="2020-01"), FileOptions())
        assert made.status == "completed", made.error
        assert service.shown("sst").texts.title == "First"
        write("Second", "CC-BY-4.0")
        service.refresh("sst")
        texts = service.shown("sst").texts
        assert (texts.title, texts.license) == ("Second", "CC-BY-4.0")
        service.describe("sst", title="Set")
        write("Third", "CC0-1.0")
        again = service.ingest_here(IngestionRequest(dataset_id="sst", start="2020-01"), FileOptions())
        assert (again.reused, again.changed) == (True, ("description", "license")), "without one, it is the title"
        texts = service.shown("sst").texts
        assert (texts.title, texts.license) == ("Set", "CC0-1.0"), "what was set wins over the template"
        service.describe("sst", title=None)
        assert service.shown("sst").texts.title == "Third"
        assert len(service.versions("sst")) == 1
        version = service.dataset("sst").record.version
        service.refresh("sst")
        assert service.dataset("sst").record.version == version, "twice is once"


def test_a_licence_that_no_program_knows_is_taken_with_a_warning(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    from cubeport.main import run

    words = ["-i", str(server.root), "describe", "lcc", "--license", "nonsense", "--attribution", "A & B"]
    assert run(words) == 0
    assert "'nonsense' is not an SPDX identifier" in capsys.readouterr().err
    assert server.json("/datasets/lcc")["license"] == "nonsense"
    found = server.json("/stac/collections/lcc")
    assert (found["license"], found["attribution"]) == ("other", "A &amp; B")
    assert run([*words[:4], "--license", "CC-BY-4.0"]) == 0
    assert "SPDX" not in capsys.readouterr().err
    assert server.json("/stac/collections/lcc")["license"] == "CC-BY-4.0"


def test_an_ingestion_warns_of_it_too(tmp_path: Path, realdata: Path) -> None:
    from cubeport.main import prepare
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    prepare(tmp_path / "instance")
    with cubeport.connect(tmp_path / "instance") as service:
        request = IngestionRequest.model_validate({"dataset_id": "lcc", "template": {"license": "nonsense"}})
        done = service.ingest_here(request, FileOptions(files=(str(realdata / "landCoverFrac_Lmon_IPSL_201501.nc"),)))
        assert [each["kind"] for each in done.warnings].count("unknown-licence") == 1
