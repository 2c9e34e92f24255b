"""A NetCDF object of an S3 store is published where it is: the values of a copy everywhere, and never others if it changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from tests.objectstore import SECRET, ObjectStore
from tests.seaweedfs import SeaweedFS

import cubeport
from cubeport.errors import CubeportError, SourceChanged, StoreUnavailable
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, cli, start, stop
from .test_virtual import FACES, Place, days, filtered, fsck_of, in_file, own_chunks, stored

pytestmark = pytest.mark.slow


class StorePlace(Place):
    """An instance with the profile ``archive``, from which requests may ingest."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        super().__init__(folder)
        self.store, self.bucket = store, store.bucket()
        self.profile()

    def profile(self, **more: Any) -> None:
        archive = self.store.profile(f"{self.bucket}/data", **{"use": ["source"], "writable": False, **more})
        (self.root / "config" / "profiles.yaml").write_text(
            json.dumps({"profiles": {"default": {"root": "./files"}, "archive": archive}})
        )

    def put(self, path: Path, key: str) -> None:
        self.store.put(self.bucket, f"data/{key}", path.read_bytes())

    def point(self, service: Any, dataset_id: str, key: str, **fields: Any) -> Any:
        asked = {"dataset_id": dataset_id, "source": f"store:archive/{key}", "storage": "virtual", **fields}
        done = service.ingest_here(IngestionRequest.model_validate(asked), FileOptions())
        if done.error is not None:
            raise CubeportError.from_mapping(done.error)
        return done


@pytest.fixture(params=["object_store", "seaweed"])
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StorePlace:
    store: ObjectStore = request.getfixturevalue(request.param)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return StorePlace(tmp_path, store)


@pytest.fixture
def service(place: StorePlace) -> Iterator[Any]:
    with cubeport.connect(place.root) as opened:
        yield opened


def test_values_are_those_of_the_object_and_a_changed_one_is_an_error(place: StorePlace, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    place.put(path, "x/a.nc")
    place.point(service, "a", "x/a.nc")
    assert own_chunks(place, service, "a") == []
    found = stored(service, "a")
    for name, values in in_file(path).items():
        assert found[name].values.astype(values.dtype).tobytes() == values.tobytes(), name
    assert fsck_of(service) == []
    version_id = service.shown("a").version.version_id
    manifest = service.engines.manifest("a", version_id)
    [source] = json.loads(manifest)["sources"]
    assert (source["name"], source["size"]) == ("a.nc", path.stat().st_size)
    assert place.bucket.encode() not in manifest
    assert SECRET.encode() not in (place.folder("a", version_id) / "sources.json").read_bytes()
    assert place.point(service, "a", "x/a.nc").reused
    place.put(filtered(place.sources / "b.nc", days(20, seed=1)), "x/a.nc")
    with pytest.raises(SourceChanged, match=r"a\.nc, which has changed since"):
        service.engines.read("a", version_id, "t/c/1/0/0")
    assert [(each.kind, each.place) for each in fsck_of(service)] == [("source-changed", f"a@{version_id}/a.nc")]
    place.point(service, "a", "x/a.nc", mode="replace")
    assert stored(service, "a").t.values.tobytes() == in_file(place.sources / "b.nc")["t"].tobytes()
    place.store.client.delete_object(Bucket=place.bucket, Key="data/x/a.nc")
    with pytest.raises(SourceChanged, match="does not exist any more"):
        service.engines.read("a", service.shown("a").version.version_id, "t/c/1/0/0")


def test_a_store_that_is_away_is_unavailable_and_one_that_is_not_for_sources_any_more_is_told(
    place: StorePlace, service: Any
) -> None:
    place.put(filtered(place.sources / "a.nc", days(20)), "a.nc")
    place.point(service, "a", "a.nc")
    version_id = service.shown("a").version.version_id
    for settings, error in (({"endpoint_url": "http://127.0.0.1:1"}, StoreUnavailable), ({"use": []}, SourceChanged)):
        place.profile(**settings)
        with cubeport.connect(place.root) as again:
            with pytest.raises(error):
                again.engines.read("a", version_id, "t/c/1/0/0")
            kind = "source-unavailable" if error is StoreUnavailable else "source-missing"
            assert kind in {each.kind for each in fsck_of(again)}


def test_new_objects_of_a_template_are_added_where_they_are(place: StorePlace, service: Any) -> None:
    (place.root / "config" / "datasets").mkdir(exist_ok=True)
    (place.root / "config" / "datasets" / "rain.yaml").write_text(
        "- id: rain\n  title: Rain\n  period_type: daily\n  ingestion: {storage: virtual}\n"
        "  source: {kind: store, profile: archive, key: 'rain_{YYYY}{MM}{DD}.nc'}\n"
    )
    files = [filtered(place.sources / f"rain_2000010{n + 1}.nc", days(1, n, seed=n), chunks=(1, 48, 96)) for n in range(5)]
    request = IngestionRequest(dataset_id="rain", start="2000-01-01")
    for number, action in ((4, "create"), (5, "append")):
        for each in files[:number]:
            place.put(each, each.name)
        done = service.ingest_here(request, FileOptions())
        assert (done.status, done.action) == ("completed", action), done.error
    assert {each.partition("/")[0] for each in own_chunks(place, service, "rain")} == {"rain"}, "it is small, so it is copied"
    values = b"".join(in_file(each)["t"].tobytes() for each in files)
    assert stored(service, "rain").t.values.tobytes() == values


def test_what_a_version_cannot_point_into_is_refused_by_name(place: StorePlace, service: Any, tmp_path: Path) -> None:
    days(3).to_zarr(tmp_path / "c.zarr", zarr_format=3, consolidated=False)
    place.store.put_tree(place.bucket, "data/c.zarr", tmp_path / "c.zarr")
    with pytest.raises(CubeportError, match=r"c\.zarr is fetched, and a version can point at") as refused:
        place.point(service, "c", "c.zarr")
    assert refused.value.members["reason"] == "not-virtual"
    done = place.point(service, "c", "c.zarr", storage="auto")
    assert [each["kind"] for each in done.warnings] == ["copied"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS) -> Iterator[Server]:
    """An object where it is, the same as a copy, and one that was replaced when nobody had read it yet."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in seaweed.environment.items():
            patch.setenv(name, value)
        place = StorePlace(tmp_path_factory.mktemp("served"), seaweed)
        for name in ("kept", "lost"):
            place.put(filtered(place.sources / f"{name}.nc", days(20)), f"{name}.nc")
        with cubeport.connect(place.root) as service:
            place.point(service, "kept", "kept.nc")
            place.point(service, "copy", "kept.nc", storage="copy")
            place.point(service, "lost", "lost.nc")
        place.put(filtered(place.sources / "other.nc", days(20, seed=1)), "lost.nc")
        process, url = start(place.root)
        try:
            yield Server(url, place.root, process)
        finally:
            stop(process)


@pytest.mark.parametrize("face", FACES)
def test_every_face_gives_what_a_copy_gives_and_never_what_has_changed(served: Server, face: str) -> None:
    found, copied, lost = (served.get(FACES[face].format(id=name)) for name in ("kept", "copy", "lost"))
    assert found.status_code == copied.status_code == 200, found.text
    if face.startswith("zarr"):  # another chunk, in another form: it is the file's own
        assert found.content in (served.root.parent / "sources" / "kept.nc").read_bytes()
    else:
        assert found.content.replace(b"kept", b"copy") == copied.content
    assert lost.status_code == 503
    assert "lost.nc, which has changed since" in lost.text


def test_xarray_reads_the_values_over_http(served: Server) -> None:
    with xr.open_zarr(f"{served.url}/zarr/kept", chunks=None, decode_cf=False, zarr_format=3) as opened:
        for name, values in in_file(served.root.parent / "sources" / "kept.nc").items():
            assert opened[name].values.astype(values.dtype).tobytes() == values.tobytes(), name


def test_it_is_exported_as_a_copy(served: Server, tmp_path: Path) -> None:
    done = cli("--instance", served.root, "export", "zarr", "kept", "--to", tmp_path / "out", "--check")
    assert done.returncode == 0, done.stderr
    with xr.open_zarr(tmp_path / "out", decode_cf=False) as opened:
        assert opened.t.values.tobytes() == in_file(served.root.parent / "sources" / "kept.nc")["t"].tobytes()
