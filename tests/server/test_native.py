"""The native face over the app: documents, lists, conditions, ingestions; the answer and the state left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import jsonschema
import pytest

from cubeport.documents.native import Sync
from cubeport.errors import StoreUnavailable
from cubeport.server import streams
from cubeport.server.app import App
from cubeport.server.auth import Gatekeeper, NoKeys

from .conftest import GONE, LOCAL, URL, V1, V2, Client, FakeEngine, FakeService, ask_raw, make_parts

GETS = [
    *("/", "/datasets", "/datasets/sea", "/datasets/sea/versions", "/datasets/sea/versions/first", "/extent", "/extent/north"),
    *("/dataset-templates", "/dataset-templates/air", "/ingestions", "/health", "/ready", "/info", "/problems/gap"),
    *(
        "/openapi.json",
        "/docs",
        "/help",
        "/docs/calendars",
        "/stac",
        "/stac/catalog.json",
        "/stac/conformance",
        "/stac/collections",
    ),
    *("/stac/collections/sea", "/stac/collections/sea@first", "/stac/collections/sea/items"),
    f"/stac/collections/sea/items/sea@{V1}",
    "/zones",
]


class TestEveryRoute:
    @pytest.mark.parametrize("path", GETS)
    def test_head_is_get_without_its_body(self, client: Client, path: str) -> None:
        got, head = client.get(path), client.head(path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        for headers in (got.headers, head.headers):
            headers.pop("x-request-id")
        assert dict(got.headers) == dict(head.headers)

    @pytest.mark.parametrize("path", GETS)
    def test_a_last_slash_and_the_prefix_change_nothing(self, client: Client, path: str) -> None:
        plain = client.get(path)
        for other in (f"{path}/", f"/cubes{path}", f"/cubes{path}/"):
            answer = client.get(other)
            assert (answer.status_code, answer.headers.get("etag") is None) == (200, plain.headers.get("etag") is None), other
            if "etag" in plain.headers:
                assert answer.content == plain.content

    @pytest.mark.parametrize("path", GETS)
    def test_an_unknown_parameter_is_400(self, client: Client, path: str) -> None:
        problem = client.get(f"{path}?nonsense=1").json()
        assert (problem["status"], problem["errors"][0]["loc"]) == (400, ["query", "nonsense"])

    @pytest.mark.parametrize("path", [path for path in GETS if path not in ("/health", "/ready", "/ingestions")])
    def test_what_a_client_holds_is_304(self, client: Client, path: str) -> None:
        for headers in ({}, {"Accept-Encoding": "identity"}):
            tag = client.get(path, headers=headers).headers["etag"]
            answer = client.get(path, headers={**headers, "If-None-Match": tag})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)

    @pytest.mark.parametrize("path", GETS)
    def test_links_begin_with_the_public_url_whatever_the_host(self, client: Client, path: str) -> None:
        hostile = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
        answer = client.get(path, headers=hostile)
        assert "evil.example" not in answer.text
        assert "gopher" not in answer.text

    @pytest.mark.parametrize("path", GETS)
    def test_headers_of_safety(self, client: Client, path: str) -> None:
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["access-control-allow-origin"] == "*"
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers

    def test_405_names_every_method(self, client: Client) -> None:
        answer = client.put("/datasets/sea")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH")
        assert client.options("/ingestions").headers["allow"] == "GET, HEAD, OPTIONS, POST"
        assert client.request("PROPFIND", "/datasets").status_code == 405

    def test_a_preflight_of_a_write_opens_nothing(self, client: Client) -> None:
        answer = client.options("/ingestions", headers={"Origin": "https://x.example", "Access-Control-Request-Method": "POST"})
        assert "POST" not in answer.headers["access-control-allow-methods"]
        post = client.post("/ingestions", json={"dataset_id": "sea"}, headers={"Origin": "https://x.example"})
        assert (post.status_code, "access-control-allow-origin" in post.headers) == (403, False)

    @pytest.mark.parametrize(
        "path", ["/nix", "/datasets/sea/nix", "//datasets", "/datasets//sea", "/docs/oauth2-redirect", "/redoc", "/zarr", "/%ff"]
    )
    def test_an_unknown_path_is_a_problem(self, app: App, path: str) -> None:
        status, body = ask_raw(app, path.encode())
        assert (status, b'"kind": "not-found"' in body) == (404, True)

    def test_the_unforeseen_is_one_500_with_the_request_id(
        self, client: Client, service: FakeService, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> int:
            raise KeyError("/srv/secret")

        service.generation = broken  # type: ignore[method-assign]
        answer = client.get("/datasets")
        assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
        assert "secret" not in answer.text
        assert answer.json()["instance"] == answer.headers["x-request-id"]
        assert [record.levelname for record in caplog.records if answer.json()["instance"] in record.getMessage()] == ["ERROR"]


class TestDatasets:
    def test_a_list(self, client: Client, service: FakeService) -> None:
        page = client.get("/datasets?q=sea&bbox=170,-10,-170,10&limit=1&count=true&sort=-last_updated").json()
        assert (page["kind"], page["number_returned"], page["number_matched"]) == ("DatasetList", 1, 1)
        [self_link, next_link] = page["links"]
        assert (
            next_link["href"] == f"{URL}/datasets?q=sea&bbox=170%2C-10%2C-170%2C10&limit=1&count=true&sort=-last_updated&cursor=abc"
        )
        assert self_link["rel"] == "self"
        assert service.filters == {
            "q": "sea", "bbox": (170.0, -10.0, -170.0, 10.0), "limit": 1, "count": True,
            "sort": "-last_updated", "publication": "published",
        }  # fmt: skip

    def test_without_count_nothing_is_counted(self, client: Client) -> None:
        assert "number_matched" not in client.get("/datasets").json()

    @pytest.mark.parametrize(
        "query",
        [
            *("bbox=1,2,3", "bbox=a,b,c,d", "bbox=nan,0,1,1", "bbox=0,10,1,5", "limit=0", "limit=1001", "sort=size"),
            *("publication=all", "count=maybe", "limit=1&limit=2"),
        ],
    )
    def test_malformed_parameters_are_400(self, client: Client, query: str) -> None:
        assert client.get(f"/datasets?{query}").status_code == 400

    def test_one_says_all_that_is_known(self, client: Client) -> None:
        answer = client.get("/datasets/sea")
        document = answer.json()
        assert document["extent"] == {
            "spatial": {"xmin": 167.5, "ymin": -30.0, "xmax": -152.5, "ymax": 30.0},
            "spatial_wgs84": None,
            "temporal": {"start": "2020-01-01", "end": "2020-01-04"},
        }
        assert (document["variable"], document["period_type"], document["units"], document["resolution"]) == (
            "sst",
            "daily",
            "K",
            "5 × 10°",
        )
        assert (document["latest_version"], document["head_version"], document["record_version"]) == (V2, V2, 3)
        assert document["description"] == '${HOME} {{7*7}} "quoted"'
        assert [(each["version_id"], each["state"], each["tags"]) for each in document["versions"]] == [
            ("4" * 32, "retained", []), (GONE, "removed", []), (V2, "latest", []), (V1, "retained", ["first"]),
        ]  # fmt: skip
        assert answer.headers["cubeport-version"] == V2

    def test_pinned_links_are_pinned(self, client: Client) -> None:
        document = client.get("/datasets/sea@first").json()
        zarr = next(link for link in document["links"] if link["rel"] == "zarr")
        assert zarr["href"] == f"{URL}/zarr/sea@{V1}"

    def test_readers_do_not_see_what_was_never_shown(self, service: FakeService, engine: FakeEngine) -> None:
        with Client(App(make_parts(service, engine)), peer="8.8.8.8") as reader:
            shown = [each["version_id"] for each in reader.get("/datasets/sea/versions").json()["items"]]
            assert shown == [GONE, V2, V1]
            service.unpublish("sea")
            assert reader.get("/datasets/sea").status_code == 404
            assert reader.get("/datasets?publication=any").status_code == 401

    def test_what_differs_has_another_tag(self, service: FakeService, engine: FakeEngine) -> None:
        app = App(make_parts(service, engine))
        with Client(app) as here, Client(app, peer="8.8.8.8") as reader:
            mine, theirs = (each.get("/datasets/sea") for each in (here, reader))
            assert mine.json() != theirs.json()
            assert mine.headers["etag"] != theirs.headers["etag"]
            assert reader.get("/datasets/sea", headers={"If-None-Match": mine.headers["etag"]}).status_code == 200
            assert here.delete("/datasets/sea", headers=LOCAL | {"If-Match": theirs.headers["etag"]}).status_code == 200

    def test_versions_page_into_the_whole(self, client: Client) -> None:
        found, path = [], "/datasets/sea/versions?limit=1"
        while path:
            page = client.get(path).json()
            found += [each["version_id"] for each in page["items"]]
            path = next((link["href"].removeprefix(URL) for link in page["links"] if link["rel"] == "next"), "")
        assert found == ["4" * 32, GONE, V2, V1]
        assert client.get("/datasets/sea/versions?cursor=%21").json()["kind"] == "invalid-cursor"

    def test_a_removed_version_is_410(self, client: Client) -> None:
        assert client.get(f"/datasets/sea/versions/{GONE}").json()["kind"] == "version-removed"

    def test_unpublish_shows_at_once_and_is_idempotent(self, client: Client, service: FakeService) -> None:
        tag = client.get("/datasets/sea").headers["etag"]
        for _ in range(2):
            answer = client.post("/datasets/sea/unpublish")
            assert (answer.status_code, answer.json()["publication"]["status"]) == (200, "unpublished")
            assert [link["rel"] for link in answer.json()["links"]] == ["self", "versions"]
        assert client.get("/zarr/sea/zarr.json").status_code == 410
        assert client.get("/datasets/sea", headers={"If-None-Match": tag}).status_code == 200
        assert client.post("/datasets/sea/publish", json={"version": "first"}).json()["publication"]["status"] == "published"
        assert service.calls[-1] == ("publish", "sea", "first")

    @pytest.mark.parametrize("body", [{"version": "BAD!"}, {"what": 1}, []])
    def test_publish_checks_its_body(self, client: Client, service: FakeService, body: Any) -> None:
        assert client.post("/datasets/sea/publish", json=body).status_code == 400
        assert service.calls == []

    def test_delete_needs_the_state_that_was_read(self, client: Client, service: FakeService) -> None:
        tag = client.get("/datasets/sea", headers={"Accept-Encoding": "identity"}).headers["etag"]
        service.commit()
        answer = client.delete("/datasets/sea", headers=LOCAL | {"If-Match": tag})
        assert (answer.status_code, answer.json()["kind"], service.calls) == (412, "precondition-failed", [])
        tag = client.get("/datasets/sea").headers["etag"]
        answer = client.delete("/datasets/sea?purge=true", headers=LOCAL | {"If-Match": tag})
        assert answer.json() == {"dataset_id": "sea", "status": "deleted", "record_version": 5}
        assert service.calls == [("delete", "sea", 4, True)]
        assert client.get("/datasets/sea").status_code == 404
        assert client.delete("/datasets/sea", headers=LOCAL).status_code == 404

    def test_a_run_that_comes_nearer_is_another_document_and_no_change(self, client: Client, service: FakeService) -> None:
        runs = iter(range(9))

        def followed(*_: str) -> Sync:
            at = datetime(2026, 1, 1, 0, next(runs), tzinfo=UTC)
            return Sync(kind="temporal", execution="append", schedule="* * * * *", next_run=at)

        service.followed = followed  # type: ignore[method-assign]
        first = client.get("/datasets/sea")
        second = client.get("/datasets/sea", headers={"If-None-Match": first.headers["etag"]})
        assert (second.status_code, first.json() == second.json()) == (200, False)
        answer = client.patch("/datasets/sea", json={"title": "New"}, headers=LOCAL | {"If-Match": first.headers["etag"]})
        assert answer.status_code == 200, answer.json()
        assert service.calls[-1][:3] == ("describe", "sea", 3)
        for tag in (first.headers["etag"], second.headers["etag"], client.get("/datasets/sea/versions").headers["etag"], '"x.y"'):
            answer = client.patch("/datasets/sea", json={"title": "New"}, headers=LOCAL | {"If-Match": tag})
            assert answer.status_code == 412

    def test_restore_brings_it_back_unpublished(self, client: Client, service: FakeService) -> None:
        assert client.post("/datasets/sea/restore", headers=LOCAL).json()["kind"] == "dataset-exists"
        client.delete("/datasets/sea", headers=LOCAL)
        assert client.post("/datasets/sea/restore", headers=LOCAL).json()["publication"]["status"] == "unpublished"
        assert service.calls[-1] == ("restore", "sea")

    def test_a_version_is_not_written_to(self, client: Client, service: FakeService) -> None:
        assert client.delete(f"/datasets/sea@{V1}", headers=LOCAL).status_code == 404
        assert service.calls == []


class TestIngestions:
    def test_waited_for(self, client: Client, service: FakeService) -> None:
        answer = client.post("/ingestions", json={"dataset_id": "sea"})
        document = answer.json()
        assert (answer.status_code, document["status"], document["dataset"]["dataset_id"]) == (200, "completed", "sea")
        assert not {"request", "options", "created_by"} & set(document)
        assert service.calls == [("ingest", "sea", True), ("wait", 60.0)]

    def test_respond_async(self, client: Client, service: FakeService) -> None:
        answer = client.post("/ingestions", json={"dataset_id": "sea"}, headers={"Prefer": "respond-async"})
        document = answer.json()
        assert (answer.status_code, document["status"], document["dataset"]) == (202, "accepted", None)
        assert answer.headers["location"] == f"{URL}/ingestions/{document['ingestion_id']}"
        assert (answer.headers["retry-after"], answer.headers["preference-applied"]) == ("1", "respond-async")
        assert client.get(answer.headers["location"].removeprefix(URL)).json() == document
        assert service.calls == [("ingest", "sea", False)]

    def test_a_wait_that_ends_early(self, client: Client, service: FakeService) -> None:
        service.outcome = "running"
        answer = client.post("/ingestions", json={"dataset_id": "sea"}, headers={"Prefer": "wait=2"})
        assert (answer.status_code, answer.json()["status"], answer.headers["preference-applied"]) == (202, "running", "wait=2")
        assert service.calls[-1] == ("wait", 2.0)

    def test_a_failure_within_the_wait_is_its_problem(self, client: Client, service: FakeService) -> None:
        service.outcome = "failed"
        answer = client.post("/ingestions", json={"dataset_id": "sea"})
        problem = answer.json()
        assert (answer.status_code, problem["kind"], problem["reason"], problem["detail"]) == (
            422,
            "source-rejected",
            "truncated",
            "Cut short.",
        )
        assert problem["ingestion_id"] in service.ingestions_

    def test_a_dry_run_has_no_id(self, client: Client, service: FakeService) -> None:
        document = client.post("/ingestions", json={"dataset_id": "sea", "dry_run": True}).json()
        assert (document["status"], document["ingestion_id"], document["links"]) == ("planned", None, [])

    def test_cancel_is_asked_for_once_and_again(self, client: Client, service: FakeService) -> None:
        headers = {"Prefer": "respond-async"}
        ingestion_id = client.post("/ingestions", json={"dataset_id": "sea"}, headers=headers).json()["ingestion_id"]
        for _ in range(2):
            answer = client.delete(f"/ingestions/{ingestion_id}")
            assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
        done = service.ingestions_[ingestion_id].model_copy(update={"status": "completed"})
        service.ingestions_[ingestion_id] = done
        assert client.delete(f"/ingestions/{ingestion_id}").json()["kind"] == "already-finished"
        assert client.delete(f"/ingestions/{'9' * 32}").status_code == 404

    def test_a_full_queue_says_when(self, client: Client, service: FakeService) -> None:
        def full(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("x")

        service.ingest = full  # type: ignore[method-assign]
        answer = client.post("/ingestions", json={"dataset_id": "sea"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

    def test_a_list(self, client: Client) -> None:
        client.post("/ingestions", json={"dataset_id": "sea"})
        page = client.get("/ingestions?status=accepted&dataset_id=sea").json()
        assert (page["kind"], page["number_returned"], page["items"][0]["kind"]) == ("IngestionList", 1, "ingestion")
        assert client.get("/ingestions?status=lost").status_code == 400
        assert client.get(f"/ingestions/{'9' * 32}").json()["what"] == "ingestion"


class TestWhatCanBeIngested:
    def test_an_extent_is_shown_with_its_box(self, client: Client) -> None:
        assert client.get("/extent/north").json() == {
            "extent_id": "north", "name": "North", "description": None, "bbox": [0, 50, 10, 60], "geometry": None,
        }  # fmt: skip
        assert client.get("/extent").json()["number_returned"] == 1
        assert client.get("/extent/nix").json()["what"] == "extent"

    def test_templates_never_show_paths_or_parameters(self, client: Client) -> None:
        answer = client.get("/dataset-templates")
        assert [each["id"] for each in answer.json()["items"]] == ["air", "sea-source"]
        assert "secret" not in answer.text
        assert "planted" not in answer.text
        assert answer.json()["items"][0]["source"] == "A centre"
        assert [each["id"] for each in client.get("/dataset-templates?q=SEA").json()["items"]] == ["sea-source"]
        first = client.get("/dataset-templates?limit=1").json()
        following = first["links"][1]["href"].removeprefix(URL)
        assert [each["id"] for each in client.get(following).json()["items"]] == ["sea-source"]


class TestTheService:
    def test_health_touches_nothing(self, client: Client, service: FakeService) -> None:
        service.busy = StoreUnavailable("gone")
        assert client.get("/health").json() == {"status": "ok"}

    def test_ready_asks_each_part_and_tries_each_face(self, service: FakeService, engine: FakeEngine) -> None:
        def broken() -> None:
            raise StoreUnavailable("/srv/x")

        with Client(App(make_parts(service, engine, checks={"storage": broken}))) as client:
            answer = client.get("/ready")
            faces = dict.fromkeys(("datasets", "pages", "stac", "search", "zarr"), "ok")
            assert (answer.status_code, answer.json()) == (
                503, {"status": "unavailable", "checks": {"catalog": "ok", "storage": "store-unavailable"} | faces},
            )  # fmt: skip

    def test_ready_says_how_old_a_check_is_that_is_not_made_each_time(self, service: FakeService, engine: FakeEngine) -> None:
        with Client(App(make_parts(service, engine, checks={"space": lambda: 12.34, "jobs": lambda: 0.0}))) as client:
            answer = client.get("/ready").json()
        assert answer["checks"]["space"] == "ok"
        assert answer["checked_s_ago"] == {"space": 12.3}

    @pytest.mark.parametrize(
        ("broken", "told"), [("items", ["search"]), ("read", ["zarr"]), ("datasets", ["datasets", "pages", "stac"])]
    )
    def test_a_face_that_fails_is_seen(
        self, service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, broken: str, told: list[str]
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ImportError("cannot import name 'lib' from partially initialized module 'shapely'")

        app = App(make_parts(service, engine))
        monkeypatch.setattr(engine if broken == "read" else service, broken, fail)
        with Client(app) as client:
            answer = client.get("/ready")
        assert answer.status_code == 503
        assert [name for name, word in answer.json()["checks"].items() if word != "ok"] == told

    def test_a_server_that_needs_a_key_to_read_is_ready_without_one(self, service: FakeService, engine: FakeEngine) -> None:
        with Client(App(make_parts(service, engine, gatekeeper=Gatekeeper(NoKeys(), public_reads=False)))) as client:
            assert client.get("/datasets").status_code == 401
            assert client.get("/ready").json()["status"] == "ok"

    def test_info(self, client: Client) -> None:
        assert client.get("/info").json()["limits"] == {"binary_cells": 64_000_000}


class TestOpenApi:
    def test_every_route_is_in_it_with_every_parameter(self, client: Client, app: App) -> None:
        document = client.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        assert document["servers"] == [{"url": URL}]
        for route in app.routes:
            if route.path == "/records/{record_key:path}":
                continue  # in OpenAPI, it would be the same address as /records/{record_id}
            for method in route.methods or ():
                operation = document["paths"][route.path][method.lower()]
                named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
                assert named == {part.strip("{}").split(":")[0] for part in route.path.split("/") if part.startswith("{")}, (
                    route.path
                )
                assert {"500"} <= set(operation["responses"]), route.path
                ingests = ("/ingestions", "/uploads", "/sync/", "/replicas/", "/derive")
                assert "422" not in operation["responses"] or route.path.startswith(ingests), route.path

    def test_no_reference_leaves_the_document(self, client: Client) -> None:
        document = client.get("/openapi.json").json()

        def references(value: Any) -> set[str]:
            if isinstance(value, dict):
                return {value["$ref"]} if isinstance(value.get("$ref"), str) else set().union(*map(references, value.values()))
            return set().union(*map(references, value)) if isinstance(value, list) else set()

        for reference in references(document):
            assert reference.startswith("#/components/schemas/")
            assert reference.rpartition("/")[2] in document["components"]["schemas"], reference

    @pytest.mark.parametrize(
        ("path", "template"),
        [
            *((path, path) for path in ("/", "/datasets", "/extent", "/info", "/dataset-templates", "/ingestions")),
            ("/datasets/sea", "/datasets/{dataset_id}"),
            ("/datasets/sea/versions", "/datasets/{dataset_id}/versions"),
            ("/datasets/sea/versions/first", "/datasets/{dataset_id}/versions/{ref}"),
        ],
    )
    def test_answers_fit_their_schemas(self, client: Client, path: str, template: str) -> None:
        client.post("/ingestions", json={"dataset_id": "sea"})
        document = client.get("/openapi.json").json()
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"].get("schema", {})
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(client.get(path).json())

    def test_problems_fit_theirs(self, client: Client) -> None:
        document = client.get("/openapi.json").json()
        validator = jsonschema.Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": document["components"]})
        for path in ("/nix", "/datasets?x=1", "/zarr/sea/sst/c/1/1/1", "/zarr/nix"):
            validator.validate(client.get(path).json())


def test_usage_is_for_administrators(client: Client, service: FakeService, engine: FakeEngine) -> None:
    answer = client.get("/usage")
    assert answer.status_code == 200
    [used] = answer.json()["datasets"]
    assert (answer.json()["kind"], used["versions"][0]["shared_bytes"]) == ("Usage", 20)
    with Client(App(make_parts(service, engine)), peer="192.0.2.1") as stranger:
        assert stranger.get("/usage").status_code == 401


class TestWaitingForChanges:
    def test_many_who_wait_ask_the_catalog_together(self, app: App, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, changes = [], service.changes
        monkeypatch.setattr(service, "changes", lambda **each: (asked.append(each), changes(**each))[1])

        async def all_at_once() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                end = (await client.get("/changes")).json()["next_cursor"]
                return await asyncio.gather(*(client.get(f"/changes?cursor={end}&wait=1") for _ in range(20)))

        answers = asyncio.run(all_at_once())
        assert {(each.status_code, len(each.json()["items"])) for each in answers} == {(200, 0)}
        assert len(asked) < 40, "each asks once, and then one for all"

    def test_who_waits_for_a_dataset_does_not_read_the_feed_again_from_where_it_began(
        self, client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cursors, changes = [], service.changes
        monkeypatch.setattr(service, "changes", lambda **each: (cursors.append(each["cursor"]), changes(**each))[1])
        found = client.get("/changes?dataset_id=nosuch&wait=1").json()
        assert (found["items"], len(cursors) > 2) == ([], True)
        assert cursors.count(None) == 1
        assert found["next_cursor"] == cursors[-1]

    def test_who_waits_does_not_keep_a_server_that_stops(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        end, stopping = client.get("/changes").json()["next_cursor"], threading.Event()
        monkeypatch.setattr(streams, "STOPPING", stopping)
        stopping.set()
        began = time.monotonic()
        assert client.get(f"/changes?cursor={end}&wait=30").json()["items"] == []
        assert time.monotonic() - began < 15
