"""Records over HTTP, from another process: what each caller sees of the catalog, on ``/records`` and on the faces of datasets."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.pages import Follower, blocks
from tests.sample import sample

import cubeport
from cubeport import client
from cubeport.catalog.query import Query
from cubeport.errors import ArtifactMissing, InvalidRequest, RecordNotFound
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys
from cubeport.service.records import Records

from .conftest import start, stop

CONTENT = bytes(range(256)) * 3000


@dataclass
class Shared:
    """A server, the records of its catalog by their keys, and a key for each scope."""

    url: str
    root: Path
    ids: dict[str, str]
    keys: dict[str, str]

    def get(self, path: str, by: str = "", **params: Any) -> httpx.Response:
        headers = params.pop("headers", {})
        if by:
            headers = {"Authorization": f"Bearer {self.keys[by]}"} | headers
        return httpx.get(self.url + path, params=params or None, headers=headers, timeout=30, trust_env=False)

    def found(self, by: str = "", **params: Any) -> set[str]:
        answer = self.get("/records", by, **params)
        assert answer.status_code == 200, answer.text
        return {each["key"] for each in answer.json()["items"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("records")
    root, files = folder / "instance", folder / "files"
    files.mkdir()
    (files / "data.bin").write_bytes(CONTENT)
    (files / "reference.txt").write_text("left where it is")
    xr.Dataset(
        {"t": (("lat", "lon"), np.arange(6, dtype="f4").reshape(2, 3), {"units": "K"})},
        {"lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}), "lon": ("lon", [1.0, 2.0, 3.0], {"units": "degrees_east"})},
    ).to_netcdf(files / "cube.nc", engine="h5netcdf")
    from cubeport.main.service import prepare

    prepare(root)
    keys, ids = {}, {}
    with cubeport.connect(root) as service:
        store = Keys(service.catalog.backend)
        for name, scope in (("guest", "read"), ("anna", "ingest"), ("boss", "admin")):
            keys[name] = store.add(name, scope=scope).text
        for name, visibility, by in (
            ("open", "public", None),
            ("ours", "project", None),
            ("unsaid", None, None),
            ("hers", "private", "anna"),
            ("secret", "private", "somebody"),
        ):
            record = cubeport.CatalogRecord(
                key=name,
                title=f"The {name} record",
                visibility=visibility,
                metadata={"year": 2000 + len(ids), "site": "Oslo"},
                time={"start": "2020-01-01T00:00:00Z", "end": "2020-12-31T00:00:00Z"},
            )
            with service.catalog.unit_of_work(user_id=by) as work:
                work.add_record(record)
                work.commit()
            ids[name] = record.id
        catalog = service.catalog
        catalog.add_artifact(record="open", source=files / "data.bin", role="primary", hash="sha256")
        catalog.add_artifact(record="open", locator=files / "reference.txt", role="preview")
        catalog.add_artifact(record="open", locator="https://example.org/a.csv", role="log")
        catalog.add_artifact(record="ours", source=files / "data.bin", role="primary")
        done = service.ingest_here(IngestionRequest(dataset_id="tides"), FileOptions(files=(str(files / "cube.nc"),)))
        assert done.status == "completed", done.error
        service.publish("tides")
        ids["tides"] = service.catalog.get("tides").id
    process, url = start(root)
    yield Shared(url, root, ids, keys)
    stop(process)


SEEN = {
    "": {"open"},
    "guest": {"open", "ours", "unsaid", "tides"},
    "anna": {"open", "ours", "unsaid", "hers", "tides"},
    "boss": {"open", "ours", "unsaid", "hers", "secret", "tides"},
}


@pytest.mark.parametrize("by", sample(SEEN, every=2))
def test_each_caller_finds_counts_and_gets_what_it_may_see(shared: Shared, by: str) -> None:
    seen = SEEN[by]
    assert shared.found(by) == seen
    page = shared.get("/records", by, count="true", limit=1, facets="site,visibility").json()
    assert page["number_matched"] == len(seen)
    oslo = seen - {"tides"}
    assert page["facets"]["metadata.site"] == [{"value": "Oslo", "records": len(oslo)}]
    said = {each["value"]: each["records"] for each in page["facets"]["visibility"]}
    assert said == {
        name: len(seen & keys)
        for name, keys in (("public", {"open"}), ("project", {"ours"}), ("private", {"hers", "secret"}))
        if seen & keys
    }
    walked, following = set(), f"{shared.url}/records?limit=1&sort=title"
    while following:
        each = httpx.get(following, headers={"X-API-Key": shared.keys[by]} if by else {}, trust_env=False).json()
        walked |= {it["key"] for it in each["items"]}
        following = next((link["href"] for link in each["links"] if link["rel"] == "next"), None)
    assert walked == seen
    for name, record_id in shared.ids.items():
        for address in (record_id, name, record_id[:12]):
            for below in ("", "/history", "/lineage", "/artifacts"):
                answer = shared.get(f"/records/{address}{below}", by)
                assert answer.status_code == (200 if name in seen else 404), (name, below, answer.text)
    assert shared.get("/records/nobody", by).json()["kind"] == "record-not-found"
    hidden = shared.get(f"/records/{shared.ids['secret']}").json()
    absent = shared.get(f"/records/{'0' * 32}").json()
    assert {**hidden, "instance": "", "detail": "", "description": ""} == {
        **absent,
        "instance": "",
        "detail": "",
        "description": "",
    }, "nothing tells a hidden record from none"


def test_records_are_searched_with_the_grammar_of_the_catalog(shared: Shared) -> None:
    assert shared.found("boss", where=["year>=2001", 'site="Oslo"'], sort="-metadata.year") == {"ours", "unsaid", "hers", "secret"}
    assert shared.found("boss", where="year>=2001", **{"not": ["key=hers", "key=secret"]}) == {"ours", "unsaid"}
    assert shared.found("boss", q="secret rec") == {"secret"}
    assert shared.found("boss", kind="dataset") == {"tides"}
    assert "tides" not in shared.found("boss", datetime="2020-05/2020-06")
    order = [each["key"] for each in shared.get("/records", "boss", where="year?", sort="-year", limit=2).json()["items"]]
    assert order == ["secret", "hers"]
    wrong = shared.get("/records", "boss", where="year>>2001")
    assert wrong.status_code == 400
    assert "^" in wrong.json()["detail"]
    assert shared.get("/records", "guest", status="any").status_code == 403
    assert shared.get("/records", status="deleted").status_code == 401
    assert shared.get("/records", q=["a", "b"]).status_code == 400, "only where and not are lists"


def test_counts_say_when_they_are_lower_bounds(shared: Shared) -> None:
    page = shared.get("/records", "boss", count="true", facets="site").json()
    assert (page["counts"], page["number_matched"]) == ("exact", 6)
    assert "counts" not in shared.get("/records", "boss").json()


def test_a_key_with_slashes_leads_to_its_record(shared: Shared) -> None:
    with cubeport.Catalog.open(shared.root) as catalog:
        record = catalog.add(title="A data set", key="10.5281/zenodo.7", visibility="project").record
        for written in ("10.5281/zenodo.7", "10.5281%2Fzenodo.7"):
            answer = shared.get(f"/records/{written}", "guest", f="html")
            assert (answer.status_code, answer.headers["location"]) == (307, f"{shared.url}/records/{record.id}?f=html")
            assert shared.get(f"/records/{written}").json()["kind"] == "record-not-found", "not for everybody"
        catalog.delete(record.id)
        catalog.purge(record.id)


def test_what_is_counted_and_sorted_for_one_request_is_bounded(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked in this process: a bound of two records in place of 10,000."""
    with cubeport.Catalog.open(shared.root) as catalog:
        found = Records(catalog)
        query = Query(most_counted=2, count=True, order=(), kinds=None)
        page, facets = found.page(query), found.facets(query, ("metadata.site",))
        assert (page.matched, page.at_least, len(page)) == (2, True, 6)
        assert not facets.whole
        assert sum(count for _, count in facets.values["metadata.site"]) <= 2
        walked = replace(query, order=("-metadata.year",), limit=1, count=False)
        years = []
        while True:
            page = found.page(walked)
            years += [each.metadata.get("year") for each in page]
            if page.next is None:
                break
            walked = walked.at(page.next)
        whole = [each.metadata.get("year") for each in found.page(Query(order=("-metadata.year",)))]
        assert years == whole, "pages of a bounded walk join to the whole"
        with pytest.raises(InvalidRequest, match="More than 2 records would have to be sorted by kind,title") as refused:
            found.page(replace(query, order=("kind", "title")))
        assert "created_at" in str(refused.value.next_step)
        assert len(found.page(replace(query, order=("kind", "title"), kinds=frozenset({"dataset"})))) == 1, "fewer are sorted"


def test_the_client_says_when_a_count_is_a_lower_bound() -> None:
    page = {"items": [], "links": [], "number_matched": 10_000, "counts": "at least"}
    counted = client.Records(SimpleNamespace(json=lambda *_, **__: page)).count("year>2000")  # type: ignore[arg-type]
    assert (counted, str(counted), counted.exact) == (10_000, "at least 10000", False)


def test_the_document_says_where_bytes_are_read_and_not_where_they_lie(shared: Shared) -> None:
    document = shared.get(f"/records/{shared.ids['open']}").json()
    assert str(shared.root.parent) not in json.dumps(document)
    held, reference, log = document["artifacts"]
    assert log["href"] == "https://example.org/a.csv"
    assert held["href"] == f"{shared.url}/records/{shared.ids['open']}/artifacts/{held['artifact_id']}"
    path = held["href"].removeprefix(shared.url)
    whole = shared.get(path)
    assert whole.content == CONTENT
    assert hashlib.sha256(whole.content).hexdigest() == held["hashes"]["sha256"]
    assert whole.headers["content-disposition"].startswith("attachment; filename*=UTF-8''data.bin")
    part = shared.get(path, headers={"Range": "bytes=700000-700009"})
    assert (part.status_code, part.content) == (206, CONTENT[700000:700010])
    assert part.headers["content-range"] == f"bytes 700000-700009/{len(CONTENT)}"
    assert shared.get(path, headers={"Range": "bytes=-5"}).content == CONTENT[-5:]
    assert shared.get(path, headers={"Range": "bytes=9999999-"}).status_code == 416
    assert shared.get(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = httpx.head(shared.url + path, trust_env=False)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")
    assert shared.get(reference["href"].removeprefix(shared.url)).text == "left where it is"
    assert shared.get(f"/records/{shared.ids['ours']}/artifacts/{held['artifact_id']}").status_code == 404
    assert shared.get(f"/records/{shared.ids['open']}/artifacts/00000000").json()["kind"] == "artifact-missing"


def test_no_search_and_no_history_tells_where_files_lie_or_what_others_made(shared: Shared) -> None:
    for asked in ({"facets": "artifact.locator.path"}, {"where": "artifact.locator.path~*"}, {"sort": "artifacts.locator.path"}):
        for by in ("", "guest", "boss"):
            answer = shared.get("/records", by, **asked)
            assert (answer.status_code, answer.json()["kind"]) == (400, "invalid-filter"), (asked, by)
    with cubeport.Catalog.open(shared.root) as catalog:
        made = catalog.add(title="Made of a secret", key="made", visibility="public", lineage=[("derived_from", "secret")]).record
        catalog.add_artifact(record="made", locator=shared.root.parent / "files" / "reference.txt")
    try:
        for by, status in (("", 400), ("guest", 400), ("boss", 200)):
            for asked in (
                {"facets": "lineage.target"},
                {"where": f"lineage.target={shared.ids['secret']}"},
                {"sort": "-lineage.target"},
                {"not": "dataset.derived.inputs:secret"},
                {"where": 'metadata."dataset".derived.inputs?'},
            ):
                assert shared.get("/records", by, **asked).status_code == status, (by, asked)
        history = shared.get("/records/made/history")
        assert history.json()["items"][0]["changes"][0]["after"][0]["original_name"] == "reference.txt"
        assert str(shared.root.parent) not in history.text
    finally:
        with cubeport.Catalog.open(shared.root) as catalog:
            catalog.delete(made.id)


def test_a_history_begins_where_its_reader_could_first_see_the_record(shared: Shared) -> None:
    with cubeport.Catalog.open(shared.root) as catalog:
        made = catalog.add(title="0 public", key="turns", visibility="public", lineage=[("derived_from", "secret")]).record.id
        for title, visibility in (
            ("1 private", "private"),
            ("2 project", "project"),
            ("3 public", "public"),
            ("4 public", "public"),
        ):
            catalog.update(made, title=title, visibility=visibility)
        catalog.update(made, unlink=[("derived_from", "secret")])
    shown = {"": "34", "guest": "234", "boss": "01234"}
    try:
        tags = set()
        for by, numbers in shown.items():
            answer = shared.get("/records/turns/history", by)
            assert [
                f"{n} {word}" in answer.text for n, word in enumerate(("public", "private", "project", "public", "public"))
            ] == [str(n) in numbers for n in range(5)], by
            assert answer.json()["items"][-1]["changes"] == []
            assert (shared.ids["secret"] in answer.text) == (by == "boss"), "a parent that an edit took away"
            tags.add(answer.headers["etag"])
        assert len(tags) == 3
    finally:
        with cubeport.Catalog.open(shared.root) as catalog:
            catalog.delete(made)


def test_a_record_has_one_name_for_all_and_each_sees_only_its_own_candidates(shared: Shared) -> None:
    with cubeport.Catalog.open(shared.root) as catalog:
        names = {"a": "public", "b": "private", "c": "public"}
        ids = [catalog.add(id=f"eeee{n:028x}", key=f"p{n}", visibility=who).record.id for n, who in enumerate(names.values())]
        ids.append(catalog.add(key="f" * 32, title="Named as an id is", visibility="public").record.id)
    try:
        several = shared.get("/records/eeee")
        assert (several.status_code, several.json()["kind"]) == (400, "ambiguous-id")
        assert [each in several.text for each in ids[:3]] == [True, False, True]
        assert shared.get(f"/records/{'f' * 32}").json()["title"] == "Named as an id is"
    finally:
        with cubeport.Catalog.open(shared.root) as catalog:
            for each in ids:
                catalog.delete(each)


def test_a_reference_whose_file_changed_is_an_error_and_not_other_bytes(shared: Shared) -> None:
    reference = shared.get(f"/records/{shared.ids['open']}").json()["artifacts"][1]["href"].removeprefix(shared.url)
    before = shared.get(reference)
    file = shared.root.parent / "files" / "reference.txt"
    file.write_text("changed, and longer than it was")
    try:
        assert (shared.get(reference).status_code, shared.get(reference).json()["kind"]) == (503, "source-changed")
        file.unlink()
        assert shared.get(reference).status_code == 404
    finally:
        file.write_text("left where it is")
    assert shared.get(reference, headers={"If-None-Match": before.headers["etag"]}).status_code == 200, "another file"


def test_answers_are_conditional_and_differ_by_caller(shared: Shared) -> None:
    for path in ("/records", f"/records/{shared.ids['open']}", f"/records/{shared.ids['open']}/history"):
        tag = shared.get(path).headers["etag"]
        assert shared.get(path, headers={"If-None-Match": tag}).status_code == 304
    mine, theirs = shared.get("/records", "boss"), shared.get("/records", "guest")
    assert mine.headers["etag"] != theirs.headers["etag"]
    assert shared.get("/records", "guest", headers={"If-None-Match": mine.headers["etag"]}).status_code == 200
    page = shared.get("/records", "guest", headers={"Accept": "text/html"})
    assert "The ours record" in page.text
    assert "The secret record" not in page.text
    assert "data.bin" in shared.get(f"/records/{shared.ids['open']}", f="html").text


FACES = (
    "/datasets/tides",
    "/datasets/tides/versions",
    "/stac/collections/tides",
    "/stac/collections/tides/items",
    "/zarr/tides/zarr.json",
    "/zarr/tides@{version}/t/c/0/0",
    "/zarr/tides",
    "/zarr-v2/tides/.zmetadata",
    "/geozarr/tides/zarr.json",
    "/ogcapi/collections/tides",
    "/ogcapi/collections/tides/coverage?f=json",
    "/ogcapi/collections/tides/position?coords=POINT(1%201)",
    "/ogcapi/collections/tides/map",
    "/wms/tides?REQUEST=GetCapabilities&SERVICE=WMS",
    "/dap/tides.dds",
    "/datasets/tides/download",
    "/datasets/tides/thumbnail.png",
)
LISTS = ("/datasets", "/stac/collections", "/stac/search", "/ogcapi/collections", "/", "/stac")


@pytest.mark.parametrize(
    "visibility", [pytest.param(None, marks=pytest.mark.slow), "public", pytest.param("project", marks=pytest.mark.slow), "private"]
)
def test_a_dataset_that_a_caller_may_not_see_is_absent_from_every_face(shared: Shared, visibility: str | None) -> None:
    with cubeport.connect(shared.root) as service:
        since = service.changes(limit=1000).next
        service.catalog.update("tides", visibility=visibility)
        service.unpublish("tides")
        service.publish("tides")
        version = service.shown("tides").version.version_id
    may = {"": visibility in (None, "public"), "guest": visibility != "private", "boss": True}
    for by, sees in may.items():
        for face in FACES:
            answer = shared.get(face.format(version=version), by)
            assert answer.status_code == (200 if sees else 404), (by, face, answer.status_code, answer.text[:200])
            if sees and visibility in ("project", "private"):
                assert "public" not in answer.headers.get("cache-control", ""), face
        for path in LISTS:
            answer = shared.get(path, by, headers={"Accept": "text/html" if path == "/" else "application/json"})
            assert ("tides" in answer.text) is sees, (by, path)
        assert ("did you mean 'tides'?" in shared.get("/datasets/tidse", by).json()["detail"]) is sees
        assert ("tides" in shared.get("/changes", by, cursor=since).text) is sees
        assert shared.get("/datasets", by, count="true").json()["number_matched"] == int(sees)
    if visibility == "private":
        # The key may ingest every dataset, but this one does not exist for it.
        headers = {"Authorization": f"Bearer {shared.keys['anna']}"}
        assert httpx.post(f"{shared.url}/datasets/tides/unpublish", headers=headers, trust_env=False).status_code == 404
        assert shared.get("/sync/tides/plan", "anna").status_code == 404
        tokens = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
        assert shared.get("/zarr/tides/zarr.json", headers=tokens).status_code == 401


def test_the_client_reads_records(shared: Shared) -> None:
    records = cubeport.connect(shared.url, key=shared.keys["boss"]).records
    found = list(records.search("year>=2000", without=["key=hers"], order="year"))
    assert [each["key"] for each in found] == ["open", "ours", "unsaid", "secret"]
    assert records.count("year>=2000") == 5
    assert records["open"] == records.get(shared.ids["open"][:10])
    assert records.read("open") == records.read("ours") == CONTENT
    assert records.read("open", "preview") == b"left where it is"
    with pytest.raises(ArtifactMissing, match="external"):
        records.read("open", "log")
    with pytest.raises(ArtifactMissing, match="no artifact"):
        records.read("open", "derived")
    assert records.history("open")[0]["version"] == records["open"]["version"]
    guest = cubeport.connect(shared.url).records
    assert [each["key"] for each in guest] == ["open"]
    with pytest.raises(RecordNotFound):
        guest.get("ours")
    with cubeport.connect(shared.root) as service:
        from cubeport.client import Port

        here: Port = service.port()
        assert {each["key"] for each in here.records} == set(shared.ids)


def test_the_page_works_as_written(tmp_path: Path) -> None:
    from cubeport.main import prepare

    prepare(tmp_path)
    officer = Follower(tmp_path)
    officer.follow("how-to/records.md", until="## Search")
    process, url = start(tmp_path)
    try:
        reader = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        (adding, *_), rest = blocks("how-to/records.md", since="## Search"), "how-to/records.md"
        reader.environment["KEY"] = reader.run(adding).splitlines()[0]
        for block in blocks(rest, since="## Search")[1:]:
            if block.language in ("sh", "python"):
                reader.run(block)
    finally:
        stop(process)
    _, found, content, read = reader.outputs
    assert [each["key"] for each in json.loads(found)["items"]] == ["cruise-12"]
    assert json.loads(found)["facets"] == {"kind": [{"value": "document", "records": 1}]}
    assert content == "depth,temp\n"
    assert read == "cruise-12 depth,temp\n\n"
