"""Two instances: a version is pushed and pulled whole, cut in the middle and resumed, and is the same on the other side."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.cli.mirrors import _table
from cubeport.cubes.write_request import Staging
from cubeport.errors import CubeportError, DatasetExists, SourceFailed, SourceRejected
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys
from cubeport.service.replicate import same_origin
from cubeport.service.service import Service

from .conftest import cli, here, start, stop


def source(folder: Path, days: range) -> FileOptions:
    values = np.random.default_rng(days.start).random((len(days), 20, 30)).astype("float32")
    path = folder / f"days-{days.start}.nc"
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K", "standard_name": "air_temperature"})},
        coords={
            "time": ("time", np.array(days, "int64"), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(0, 40, 20), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 60, 30), {"units": "degrees_east"}),
        },
    ).to_netcdf(path)
    return FileOptions(files=(str(path),))


class Cutter:
    """A proxy that passes connections on and breaks the line at the n-th."""

    def __init__(self, port: int) -> None:
        self.port_there, self.left = port, -1
        self.passed = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self.left == 0:
                connection.close()
                continue
            self.left -= 1
            self.passed += 1
            try:
                there = socket.create_connection(("127.0.0.1", self.port_there))
            except OSError:
                connection.close()
                continue
            threading.Thread(target=self._pass_on, args=(connection, there), daemon=True).start()

    def _pass_on(self, connection: socket.socket, there: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(there, connection), daemon=True)
        with connection, there:
            back.start()
            self._pump(connection, there)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


class Two:
    """An instance that serves, and another one here that may ask it through a line that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.there, self.here = folder / "there", folder / "here"
        for each in (self.there, self.here):
            prepare(each)
        with cubeport.connect(self.there) as service:
            ingest(
                service,
                source(folder, range(10)),
                "tas",
                template={"title": "Air", "layout": {"chunks": {"time": 4}, "pyramid": {"levels": 2}}},
            )
            service.describe("tas", license="CC-BY-4.0", attribution="Somebody")
            self.key = Keys(service.catalog.backend).add("mirror", scope="ingest", datasets=["mine", "ours"]).text
        self.process, self.url = start(self.there)
        self.line = Cutter(int(self.url.rpartition(":")[2]))
        with (self.here / "config/service.yaml").open("a") as file:
            file.write(f"mirrors:\n  origins: ['{self.line.url}', '{self.url}']\n")

    def close(self) -> None:
        self.line.close()
        stop(self.process)


def ingest(service: Service, options: FileOptions, dataset_id: str, **request: Any) -> str:
    done = service.ingest_here(IngestionRequest.model_validate({"dataset_id": dataset_id, **request}), options)
    assert done.status == "completed", done.error
    assert done.version_id is not None
    return done.version_id


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    made = Two(tmp_path_factory.mktemp("two"))
    yield made
    made.close()


def left(root: Path) -> list[str]:
    return [
        str(each) for folder in ("data/staging", "data/arriving", ".cubeport/journal/open") for each in (root / folder).glob("*")
    ]


def objects(root: Path, version: str) -> dict[str, str]:
    [place] = root.glob(f"data/store/*/{version}")
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_pull_is_cut_resumed_equal_and_then_costs_what_is_new(two: Two, tmp_path: Path) -> None:
    theirs = httpx.get(f"{two.url}/datasets/tas", trust_env=False).json()
    with cubeport.connect(two.here) as service:
        two.line.left = 4
        with pytest.raises(SourceFailed):
            service.pull("tas", two.line.url)
        assert list(service.dataset_ids()) == [], "nothing half is here"
        [partial] = (two.here / "data/arriving").iterdir()
        kept = len(list(partial.iterdir())) - 1
        assert kept > 0
        two.line.left, two.line.passed = -1, 0
        done = service.pull("tas", two.line.url)
        assert (done.added, done.version_id) == (True, theirs["latest_version"])
        manifest = json.loads(httpx.get(f"{two.url}/zarr/tas?f=manifest", trust_env=False).content)
        assert done.sent_objects == len({each["sha256"] for each in manifest["entries"]}) - kept
        assert left(two.here) == []
        ours = service.shown("tas")
        assert (ours.texts.title, ours.texts.license, ours.texts.attribution) == ("Air", "CC-BY-4.0", "Somebody")
        assert objects(two.here, done.version_id) == objects(two.there, done.version_id)
        again = service.pull("tas", two.line.url)
        assert (again.added, again.sent_objects) == (False, 0)
        record = service.dataset("tas").record.version
        service.pull("tas", two.line.url)
        assert service.dataset("tas").record.version == record, "nothing to do is no commit"
        said = service.verify_mirror("tas", two.line.url)
        assert (said["equal"], said["differs"]) == (True, [])
    with cubeport.connect(two.there) as there:
        newer = ingest(there, source(tmp_path, range(10, 12)), "tas", mode="update")
        there.describe("tas", title="Air, longer")
    with cubeport.connect(two.here) as service:
        differs = service.verify_mirror("tas", two.url)["differs"]
        assert "text title" in differs
        assert "object t/c/2/0/0" in differs
        done = service.pull("tas", two.url)
        assert (done.version_id, done.added) == (newer, True)
        assert done.sent_objects < 8, "shared chunks are not sent"
        assert service.shown("tas").texts.title == "Air, longer"
        used = {each.version_id: each for each in service.usage().datasets[0].versions}
        assert used[newer].shared_bytes > 0, "and are stored once"
        assert [state.version_id for state, _ in service.versions("tas")] == [newer, theirs["latest_version"]]
    process, url = start(two.here)
    try:
        with (
            xr.open_zarr(f"{url}/zarr/tas@{newer}", consolidated=True) as a,
            xr.open_zarr(f"{two.url}/zarr/tas", consolidated=True) as b,
        ):
            xr.testing.assert_identical(a.load(), b.load())
        for face in ("/stac/collections/tas", "/ogcapi/collections/tas"):
            assert httpx.get(url + face, trust_env=False).status_code == 200
    finally:
        stop(process)
    with cubeport.Catalog.open(two.here) as catalog:
        assert catalog.fsck(data=True).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("newer", [False, True], ids=["the-only-version", "after-another"])
def test_a_damaged_version_of_a_mirror_is_repaired_by_pulling_it_again(two: Two, tmp_path: Path, newer: bool) -> None:
    there, here, name = two.there, tmp_path / "here", f"again-{int(newer)}"
    prepare(here)
    with (here / "config/service.yaml").open("a") as file:
        file.write(f"mirrors:\n  origins: ['{two.url}']\n")

    def run(*arguments: str) -> tuple[int, str]:
        done = cli(*arguments, "--instance", here)
        return done.returncode, done.stdout + done.stderr

    with cubeport.connect(there) as service:
        version = ingest(service, source(tmp_path, range(10)), name, template={"layout": {"chunks": {"time": 1}}})
    assert run("pull", name, "--from", two.url)[0] == 0
    if newer:
        with cubeport.connect(there) as service:
            version = ingest(service, source(tmp_path, range(10, 12)), name, mode="update")
        assert run("pull", name, "--from", two.url)[0] == 0
    whole = objects(here, version)
    damaged = max((here / f"data/store/{name}/{version}/cube.zarr/t/c").rglob("*/0/0"), key=lambda each: int(each.parts[-3]))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    code, said = run("verify", name, "--against", two.url)
    assert (code, "damaged t/c/" in said) == (1, True), said
    code, said = run("fsck", "--data", "--repair", "--json")
    assert "marked missing" in said, said
    assert list(here.glob(f"data/store/*/{version}")) == []
    with cubeport.connect(here) as service:
        assert service.dataset(name).state.latest != version
        kept = [(state.version_id, state.seq) for state, _ in service.versions(name)]
    code, said = run("pull", name, "--from", two.url)
    assert (code, "added" in said) == (0, True), said
    assert run("verify", name, "--against", two.url)[0] == 0
    assert objects(here, version) == whole == objects(there, version)
    assert "was there" in run("pull", name, "--from", two.url)[1]
    with cubeport.connect(here) as service:
        assert service.shown(name).version.version_id == version
        assert [(state.version_id, state.seq) for state, _ in service.versions(name)] == kept, "in its own place"
    with cubeport.Catalog.open(here) as catalog:
        assert catalog.fsck(data=True).findings == ()
    process, url = start(here)
    try:
        with (
            xr.open_zarr(f"{url}/zarr/{name}", consolidated=True) as ours,
            xr.open_zarr(f"{two.url}/zarr/{name}", consolidated=True) as theirs,
        ):
            assert ours.sizes["time"] == (12 if newer else 10)
            xr.testing.assert_identical(ours.load(), theirs.load())
    finally:
        stop(process)


def test_the_advice_about_an_id_that_the_other_service_lacks_lists_its_datasets(two: Two) -> None:
    refused = cli("pull", "nosuch", "--from", two.url, "--instance", two.here)
    assert refused.returncode == 3, refused.stderr
    [advice] = re.findall(r"cubeport --url \S+ datasets", refused.stderr)
    listed = cli(*shlex.split(advice)[1:])
    assert (listed.returncode, "tas" in listed.stdout) == (0, True), listed.stderr


def test_a_push_of_an_update_sends_what_is_new_and_a_check_has_a_row_for_each_dataset(two: Two, tmp_path: Path) -> None:
    with cubeport.connect(two.here) as service:
        ingest(service, source(tmp_path, range(20, 26)), "ours", template={"layout": {"chunks": {"time": 1}}})
        sent = service.push("ours", two.url, key=two.key).sent_objects
        newer = ingest(service, source(tmp_path, range(26, 27)), "ours", mode="update")
        done = service.push("ours", two.url, key=two.key)
        assert (done.version_id, done.added) == (newer, True)
        # One chunk of each array along time, and the metadata.
        assert 0 < done.sent_objects <= 8 < sent
    assert objects(two.there, newer) == objects(two.here, newer)
    assert left(two.there) == []
    manifest = httpx.get(f"{two.url}/zarr/ours?f=manifest", trust_env=False).content
    other = {"params": {"dataset_id": "tas"}, "headers": {"Authorization": f"Bearer {two.key}"}, "content": manifest}
    refused = httpx.put(f"{two.url}/replicas/{hashlib.sha256(manifest).hexdigest()}", trust_env=False, **other)
    assert (refused.status_code, refused.json()["kind"]) == (403, "forbidden"), "a key is for its datasets"
    checked = cli("--json", "verify", "nosuch", "ours", "tas", "--against", two.url, "--instance", two.here)
    said = {each["dataset_id"]: each["differs"] for each in json.loads(checked.stdout)["items"]}
    assert (checked.returncode, said["nosuch"], said["ours"]) == (1, ["missing here", "missing there"], [])


@pytest.mark.slow
def test_push_goes_on_after_the_receiver_was_killed(two: Two, tmp_path: Path) -> None:
    with cubeport.connect(two.here) as service:
        version = ingest(service, source(tmp_path, range(20, 26)), "mine", template={"layout": {"chunks": {"time": 1}}})
    # The line breaks after some objects; the receiver is killed as well.
    two.line.left = 5
    with cubeport.connect(two.here) as service, pytest.raises(SourceFailed):
        service.push("mine", two.line.url, key=two.key)
    two.process.send_signal(signal.SIGKILL)
    two.process.communicate()
    before = two.url
    two.process, two.url = start(two.there)
    settings = two.here / "config/service.yaml"
    settings.write_text(settings.read_text().replace(before, two.url))
    two.line.port_there, two.line.left = int(two.url.rpartition(":")[2]), -1
    assert httpx.get(f"{two.url}/datasets/mine", trust_env=False).status_code == 404
    stranger = cli("push", "mine", "--to", two.line.url, "--instance", two.here)
    assert (stranger.returncode, "unauthorized" in stranger.stderr) == (2, True), stranger.stderr
    key = {**os.environ, "CUBEPORT_KEY": two.key}
    pushed = cli("push", "mine", "--to", two.line.url, "--json", "--instance", two.here, env=key)
    assert pushed.returncode == 0, pushed.stderr
    [done] = json.loads(pushed.stdout)["items"]
    assert (done["version_id"], done["added"]) == (version, True)
    assert 0 < done["sent_objects"] < len(objects(two.here, version)) - 1, "what had arrived is not sent again"
    assert left(two.there) == []
    assert objects(two.there, version) == objects(two.here, version)
    assert httpx.get(f"{two.url}/datasets/mine", trust_env=False).json()["latest_version"] == version
    checked = cli("verify", "mine", "--against", two.line.url, "--instance", two.here)
    assert (checked.returncode, "equal" in checked.stdout) == (0, True), checked.stderr
    again = cli("push", "mine", "--to", two.line.url, "--json", "--instance", two.here, env=key)
    [done] = json.loads(again.stdout)["items"]
    assert (done["added"], done["sent_objects"], done["sent_bytes"]) == (False, 0, 0), "what is there is not sent again"
    refused = cli("push", "mine", "--to", "http://127.0.0.1:9", "--instance", two.here)
    assert (refused.returncode, "mirrors.origins" in refused.stderr) == (5, True), refused.stderr


def test_what_is_not_what_its_digest_says_never_becomes_a_version(two: Two, tmp_path: Path) -> None:
    with cubeport.connect(two.here) as service:
        ingest(service, source(tmp_path, range(30, 33)), "other")
        replica = service.replica("other", unpublished=True)
        manifest = service.engines.manifest("other", replica.version_id)
    prepare(tmp_path / "third")
    process, url = start(tmp_path / "third")
    try:
        put = lambda path, data: httpx.put(url + path, content=data, trust_env=False, timeout=60)  # noqa: E731 - a call in short
        assert put(f"/replicas/{'0' * 64}", manifest).json()["kind"] == "source-rejected"
        assert put("/replicas/xyz", manifest).status_code == 404
        assert put(f"/replicas/{hashlib.sha256(b'{}').hexdigest()}", b"{}").json()["reason"] == "unreadable"
        begun = put(f"/replicas/{replica.digest}", manifest).json()
        assert begun["missing_objects"] == len(begun["missing"]) > 0
        early = httpx.post(
            f"{url}/replicas/{replica.digest}", json={"replica": replica.model_dump(mode="json")}, trust_env=False, timeout=60
        )
        assert (early.status_code, early.json()["reason"]) == (422, "truncated")
        sha256 = begun["missing"][0]
        wrong = put(f"/replicas/{replica.digest}/objects/{sha256}", b"other bytes")
        assert (wrong.status_code, wrong.json()["reason"]) == (422, "digest-mismatch")
        assert put(f"/replicas/{replica.digest}/objects/{'1' * 64}", b"").status_code == 404
        reader = httpx.put(
            f"{url}/replicas/{replica.digest}", content=manifest, headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False
        )
        assert reader.status_code == 401
        assert httpx.get(f"{url}/datasets", trust_env=False).json()["items"] == []
        assert [each for each in left(tmp_path / "third") if "arriving" not in each] == []
    finally:
        stop(process)


@pytest.mark.slow
def test_services_without_an_address_do_not_replace_each_others_mirrors(two: Two, tmp_path: Path) -> None:
    versions = {}
    for number, name in enumerate(("first", "second")):
        prepare(tmp_path / name)
        with (tmp_path / name / "config/service.yaml").open("a") as file:
            file.write(f"mirrors:\n  origins: ['{two.url}']\n")
        with cubeport.connect(tmp_path / name) as service:
            versions[name] = ingest(service, source(tmp_path, range(number, number + 3)), "both")
    with cubeport.connect(two.there) as service:
        key = Keys(service.catalog.backend).add("both", scope="ingest", datasets=["both"]).text
    with cubeport.connect(tmp_path / "first") as first, cubeport.connect(tmp_path / "second") as second:
        assert first.push("both", two.url, key=key).added
        with pytest.raises(DatasetExists, match=f"is not a mirror of .*catalog {second.catalog.catalog_id[:8]}"):
            second.push("both", two.url, key=key)
        assert not first.push("both", two.url, key=key).added
    assert httpx.get(f"{two.url}/datasets/both", trust_env=False).json()["latest_version"] == versions["first"]


def test_a_mirror_of_an_earlier_release_goes_on() -> None:
    ours = "http://127.0.0.1:8000#d27ca8ece0b39f4c3607e6445c0720cb"
    same = (ours, ours.replace("8000", "8001"), "http://127.0.0.1:8000", "http://localhost:8001")
    others = (None, "https://a.example", f"{ours[:-1]}c")
    assert [same_origin(held, ours) for held in (*same, *others)] == [True] * len(same) + [False] * len(others)
    assert not same_origin(ours, "http://127.0.0.1:8000")
    assert not same_origin("http://127.0.0.1:8000", "https://a.example")


def test_a_dataset_that_is_no_mirror_is_not_overwritten(two: Two, tmp_path: Path) -> None:
    prepare(tmp_path / "own")
    with (tmp_path / "own/config/service.yaml").open("a") as file:
        file.write(f"mirrors:\n  origins: ['{two.url}']\n")
    with cubeport.connect(tmp_path / "own") as service:
        own = ingest(service, source(tmp_path, range(3)), "tas")
        with pytest.raises(DatasetExists):
            service.pull("tas", two.url)
        assert service.shown("tas").version.version_id == own
        done = service.pull("tas", two.url, replace=True, publish=False)
        assert service.shown("tas").version.version_id == own
        assert service.dataset("tas").state.head == done.version_id
        assert service.pull("tas", two.url).added is False
        assert service.shown("tas").version.version_id == done.version_id
        request = IngestionRequest(dataset_id="tas", mode="update", on_overlap="replace")
        own = service.ingest_here(request, source(tmp_path, range(9, 11)))
        assert (own.status, own.error, [each["kind"] for each in own.warnings]) == ("completed", None, ["mirror"])
        assert two.url in own.warnings[0]["message"]
        service.pull("tas", two.url)
        assert service.shown("tas").version.version_id == done.version_id, "as the warning says"
        with pytest.raises(SourceRejected, match="not an origin"):
            service.pull("tas", "http://127.0.0.1:1")


def test_a_mirror_has_the_texts_of_its_source_and_no_others_and_says_what_changed(two: Two, tmp_path: Path) -> None:
    with cubeport.connect(two.there) as there, cubeport.connect(two.here) as here:
        first = ingest(there, source(tmp_path, range(2)), "told")
        there.describe("told", doi="10.1/x", title="T")
        assert here.pull("told", two.url).changed == ()
        there.describe("told", doi=None, title="U")
        assert here.pull("told", two.url).changed == ("title", "doi")
        assert here.verify_mirror("told", two.url)["differs"] == []
        ingest(there, source(tmp_path, range(4, 6)), "told", mode="replace")
        here.pull("told", two.url)
        there.rollback("told", to=first)
        done = here.pull("told", two.url)
        assert (done.version_id, done.added, done.changed) == (first, False, ("published", "head"))
        assert "was there; published" in _table([done.to_mapping()])
        assert here.pull("told", two.url).changed == ()


def test_a_mirror_in_the_place_of_a_derived_dataset_is_never_derived_again(two: Two, tmp_path: Path) -> None:
    with cubeport.connect(two.there) as there, cubeport.connect(two.here) as here:
        theirs = ingest(there, source(tmp_path, range(3)), "days")
        ingest(here, source(tmp_path, range(31)), "input")
        params = {"period_type": "monthly", "method": "mean"}
        assert here.derive("resample", ["input"], dataset_id="days", params=params).status == "completed"
        here.pull("days", two.url, replace=True)
        ingest(here, source(tmp_path, range(31, 60)), "input", mode="update")
        assert here.derived() == []
        assert here.sync("days").detail.action == "not_syncable"
        assert here.shown("days").version.version_id == theirs
        assert here.dataset("days").record.lineage == ()
        # The version is here already, and something else was published since.
        here.derive("resample", ["input"], dataset_id="days", params=params)
        here.pull("days", two.url, replace=True)
        assert (here.derived(), here.dataset("days").record.lineage) == ([], ())


@pytest.mark.parametrize("then", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["first", "then"])
def test_data_that_not_everybody_may_see_are_not_for_everybody_elsewhere(two: Two, tmp_path: Path, then: bool) -> None:
    def stranger(dataset_id: str) -> int:
        by = {"X-Forwarded-For": "203.0.113.1"}
        return httpx.get(f"{two.url}/datasets/{dataset_id}", headers=by, trust_env=False).status_code

    name, params = f"inner-{int(then)}", {"period_type": "monthly", "method": "mean"}
    with cubeport.connect(two.here) as here, cubeport.connect(two.there) as there:
        ingest(here, source(tmp_path, range(31)), name)
        here.catalog.update(name, visibility="project")
        key = Keys(there.catalog.backend).add(name, scope="ingest", datasets=["*"]).text
        here.push(name, two.url, key=key)
        there.derive("resample", [name], dataset_id=f"{name}-monthly", params=params)
        assert (stranger(name), stranger(f"{name}-monthly")) == (404, 404)
        assert there.dataset(name).record.visibility == "project"
        if then:  # what somebody says of the copy and the result themselves is kept
            for each in (name, f"{name}-monthly"):
                there.catalog.update(each, visibility="public")
            ingest(here, source(tmp_path, range(31, 60)), name, mode="update")
            here.push(name, two.url, key=key)
            there.sync(f"{name}-monthly")
            assert (stranger(name), stranger(f"{name}-monthly")) == (200, 200)


def test_a_push_without_a_key_says_which_variable_takes_it(two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIRS", "cp_0_wrong")
    with cubeport.connect(two.here) as service:
        ingest(service, source(tmp_path, range(2)), "keyless")
    for flags, variable in (((), "CUBEPORT_KEY"), (("--key-env", "THEIRS"), "THEIRS")):
        refused = here("push", "keyless", "--to", two.url, *flags, "--instance", two.here)
        assert (refused.returncode, f"next: export {variable}=cp_" in refused.stderr) == (2, True), refused.stderr


def test_objects_arrive_whole_or_not_at_all(tmp_path: Path) -> None:
    from cubeport.adapters.engines.arriving import Arrivals
    from cubeport.adapters.engines.manifest import Entry, to_bytes

    arrivals = Arrivals(tmp_path, limit=100)
    one = b"one"
    entries = {"zarr.json": Entry(3, hashlib.sha256(one).hexdigest()), "t/zarr.json": Entry(3, hashlib.sha256(one).hexdigest())}
    manifest = to_bytes(entries)
    digest = hashlib.sha256(manifest).hexdigest()
    assert arrivals.begin(digest, manifest) == {entries["zarr.json"].sha256: 3}

    def broken() -> Iterator[bytes]:
        yield b"on"
        raise OSError(28, "No space left on device")

    with pytest.raises(CubeportError) as caught:
        arrivals.put(digest, entries["zarr.json"].sha256, broken())
    assert caught.value.kind == "no-space"
    assert len(list((tmp_path / "arriving" / digest).iterdir())) == 1
    arrivals.put(digest, entries["zarr.json"].sha256, [one])
    assert arrivals.missing(digest) == {}
    new = tmp_path / "staging" / "new"
    new.mkdir(parents=True)
    arrivals.place(digest, Staging("0" * 32, "t", "1" * 32, root=new.parent, new=new, source=new))
    assert [(new / "cube.zarr" / key).read_bytes() for key in entries] == [one, one]
    assert {(new / "cube.zarr" / key).stat().st_nlink for key in entries} == {1}
