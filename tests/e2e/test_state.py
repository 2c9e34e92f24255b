"""One state, every face: what is committed in one process shows in another at its next request, and never on one face alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import Server, cli, here, start, stop

FACES = ("/datasets/{id}", "/stac/collections/{id}", "/zarr/{id}", "/zarr/{id}/zarr.json", "/ogcapi/collections/{id}")
READER = {"X-Forwarded-For": "203.0.113.1"}
"""Ends the exemption of loopback: who may ingest sees unpublished datasets below ``/datasets``, a reader nowhere."""
LISTS = {
    "/datasets": lambda page: {each["dataset_id"] for each in page["items"]},
    "/stac/collections": lambda page: {each["id"] for each in page["collections"]},
    "/ogcapi/collections": lambda page: {each["id"] for each in page["collections"]},
}


@pytest.fixture(scope="module")
def incoming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the instance may read from."""
    return tmp_path_factory.mktemp("incoming")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, incoming: Path, realdata: Path) -> Iterator[tuple[Server, Server]]:
    """Two server processes on one instance. Each test has dataset ids of its own."""
    root = tmp_path_factory.mktemp("state") / "instance"
    shutil.copy(realdata / "rlds_Amon_IPSL-CM6A-LR_185001.nc", incoming / "rlds.nc")
    made = here("init", root, "--allow-root", incoming)
    assert made.returncode == 0, made.stderr
    running = [start(root) for _ in range(2)]
    yield (Server(running[0][1], root, running[0][0]), Server(running[1][1], root, running[1][0]))
    for process, _ in running:
        stop(process)


def seen(server: Server, dataset_id: str) -> set[int]:
    """Return the status codes that a reader without any scope gets from all faces: one, or the faces disagree."""
    codes = {
        httpx.get(server.url + face.format(id=dataset_id), headers=READER, timeout=60, trust_env=False).status_code
        for face in FACES
    }
    for path, ids in LISTS.items():
        codes.add(200 if dataset_id in ids(server.json(path)) else 404)
    return codes


def ingest(server: Server, dataset_id: str, **request: object) -> httpx.Response:
    return httpx.post(f"{server.url}/ingestions", json={"dataset_id": dataset_id, **request}, timeout=120, trust_env=False)


def test_a_dataset_comes_and_goes_on_every_face_of_every_process_at_once(two: tuple[Server, Server], incoming: Path) -> None:
    one, other = two
    assert seen(one, "rlds") == seen(other, "rlds") == {404}

    made = ingest(one, "rlds", source=str(incoming / "rlds.nc"))
    assert made.status_code == 200, made.text
    document = made.json()
    assert (document["status"], document["action"], document["reused"]) == ("completed", "create", False)
    assert seen(other, "rlds") == {200} == seen(one, "rlds")
    assert document["dataset"]["dataset_id"] == "rlds"
    assert other.json(f"/ingestions/{document['ingestion_id']}")["version_id"] == document["version_id"]

    again = ingest(other, "rlds", source=str(incoming / "rlds.nc")).json()
    assert (again["reused"], again["version_id"]) == (True, document["version_id"])

    assert httpx.post(f"{other.url}/datasets/rlds/unpublish", trust_env=False).status_code == 200
    # 410 of the Zarr face: a reader that still holds the cube must not take a missing chunk for fill values.
    assert seen(one, "rlds") == {404, 410} == seen(other, "rlds")
    assert httpx.post(f"{one.url}/datasets/rlds/publish", trust_env=False).status_code == 200
    assert seen(other, "rlds") == {200}

    token = {"Authorization": "Bearer " + (one.root / ".cubeport" / "local-token").read_text().strip()}
    assert httpx.delete(f"{one.url}/datasets/rlds", trust_env=False).status_code == 401
    assert httpx.delete(f"{one.url}/datasets/rlds", headers=token, trust_env=False).status_code == 200
    assert seen(other, "rlds") == {404, 410} == seen(one, "rlds")
    assert ingest(one, "rlds", source=str(incoming / "rlds.nc")).json()["reused"] is False
    assert seen(other, "rlds") == {200}


def test_a_template_that_says_publish_false_shows_nothing_to_a_caller_without_a_key(
    two: tuple[Server, Server], incoming: Path
) -> None:
    server, other = two
    template = f"""id: quiet
title: Quiet
period_type: monthly
publish: false
source: {{kind: files, paths: {incoming}/rlds.nc}}
"""
    (server.root / "config" / "datasets" / "quiet.yaml").write_text(template)
    time.sleep(1.1)  # the folder is looked at once a second
    made = ingest(server, "quiet", start="1850-01")
    assert (made.status_code, made.json()["status"]) == (200, "completed"), made.text
    assert seen(server, "quiet") == seen(other, "quiet") == {404}
    assert server.json("/datasets/quiet")["publication"]["status"] == "unpublished"
    assert ingest(server, "quiet", start="1850-01").json()["reused"] is True
    assert seen(server, "quiet") == {404}
    # The request's own word wins, in both directions.
    assert ingest(server, "quiet", start="1850-01", publish=True).json()["reused"] is True
    assert seen(server, "quiet") == seen(other, "quiet") == {200}
    direct = ingest(server, "hidden", source=str(incoming / "rlds.nc"), template={"publish": False})
    assert direct.json()["status"] == "completed", direct.text
    assert seen(server, "hidden") == {404}


def test_what_is_refused_leaves_no_trace(two: tuple[Server, Server], incoming: Path, realdata: Path) -> None:
    server, _ = two
    before = sorted(str(path) for path in (server.root / "data").rglob("*"))
    for name in ("truncated_classic.nc", "truncated_netcdf4.nc", "html_error_page.nc", "empty.nc", "damaged_chunk.nc"):
        shutil.copy(realdata / "corrupt" / name, incoming / name)
        refused = ingest(server, "broken", source=str(incoming / name))
        assert refused.status_code == 422, (name, refused.text)
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert problem["kind"] == "source-rejected", name
        assert problem["reason"] in ("truncated", "unreadable", "empty", "bad-codec"), (name, problem)
        assert problem["detail"]
    secret = ingest(server, "broken", source="/etc/passwd")
    assert (secret.status_code, secret.json()["reason"]) == (422, "not-allowed")
    assert seen(server, "broken") == {404}
    assert sorted(str(path) for path in (server.root / "data").rglob("*")) == before
    assert not list((server.root / ".cubeport" / "journal" / "open").iterdir())


def test_links_come_from_public_url_and_never_from_the_host(two: tuple[Server, Server], incoming: Path) -> None:
    server, _ = two
    ingest(server, "linked", source=str(incoming / "rlds.nc"))
    for path in (
        "/",
        "/datasets",
        "/datasets/linked",
        "/stac",
        "/stac/collections/linked",
        "/ogcapi",
        "/ogcapi/collections/linked",
        "/zarr/linked",
    ):
        response = httpx.get(
            server.url + path,
            headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Accept": "application/json"},
            trust_env=False,
        )
        assert response.status_code == 200, path
        assert "evil.example" not in response.text, path
        assert server.url in response.text, path


def test_a_stranger_may_not_write(two: tuple[Server, Server], incoming: Path) -> None:
    server, _ = two
    body = {"dataset_id": "strange", "source": str(incoming / "rlds.nc")}
    for headers, status in (
        ({"Host": "evil.example"}, 401),
        ({"X-Forwarded-For": "10.0.0.1"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Authorization": "Bearer cp_abcd_0123456789012345678901234567890123456789"}, 401),
    ):
        response = httpx.post(f"{server.url}/ingestions", json=body, headers=headers, trust_env=False)
        assert response.status_code == status, (headers, response.text)
        assert response.headers["content-type"] == "application/problem+json"
    assert seen(server, "strange") == {404}


def test_serving_the_world_without_a_key_is_refused_at_start(tmp_path: Path) -> None:
    cli("init", tmp_path)
    refused = cli("serve", "--instance", tmp_path, "--host", "0.0.0.0", "--port", "0", "--public-url", "https://example.org")
    assert refused.returncode == 2
    assert "error[invalid-configuration]" in refused.stderr
