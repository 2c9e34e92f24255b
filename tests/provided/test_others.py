"""Stores, Zarr, STAC, uploads and plugins as sources: the same questions as of addresses, over real sockets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from tests.e2e.conftest import here, start, stop
from tests.objectstore import SECRET, ObjectStore
from tests.provided.places import Place, ask, day, days, held, instance, name_of, netcdf

import cubeport
from cubeport.errors import CubeportError, InvalidRequest, UnknownProfile

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")

# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(place: Place, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that the profile ``bucket`` leads to; ``private`` leads there too, and is for no source."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    name = object_store.bucket()
    profiles = {
        "default": {"protocol": "file", "root": "./files"},
        "bucket": {**object_store.profile(f"{name}/data"), "use": ["source"]},
        "private": object_store.profile(f"{name}/data"),
    }
    (place.root / "config/profiles.yaml").write_text(yaml.safe_dump({"profiles": profiles}))
    return name


def test_objects_of_a_store_are_listed_fetched_and_never_twice(
    tmp_path: Path, place: Place, bucket: str, object_store: ObjectStore
) -> None:
    for number in (0, 1, 2, 3, 5):
        object_store.put(bucket, f"data/2024/01/{name_of(number)}", netcdf(tmp_path, number))
    object_store.put(bucket, "data/2024/01/readme.txt", b"x")
    place.template("{kind: store, profile: bucket, key: '{YYYY}/{MM}/t_{YYYY}{MM}{DD}.nc'}")
    assert place.ask("2024-01-01", "2024-01-03").status == "completed"
    assert place.held() == days(0, 1, 2)
    hole = place.ask("2024-01-01")
    assert hole.error is not None
    assert (hole.error["kind"], hole.error["gaps"][0]["start"]) == ("gap", "2024-01-05")
    object_store.put(bucket, f"data/2024/01/{name_of(4)}", netcdf(tmp_path, 4))
    assert place.ask("2024-01-01").action == "append"
    assert place.held() == days(*range(6))
    assert place.ask("2024-01-01").reused is True
    secrets = [each for each in place.root.rglob("*") if each.is_file() and SECRET.encode() in each.read_bytes()]
    assert secrets == []


def test_a_corrected_object_is_taken_by_overwrite(tmp_path: Path, place: Place, bucket: str, object_store: ObjectStore) -> None:
    for number in range(3):
        object_store.put(bucket, f"data/{name_of(number)}", netcdf(tmp_path, number))
    place.template("{kind: store, profile: bucket, key: 't_{YYYY}{MM}{DD}.nc'}")
    assert place.ask("2024-01-01", "2024-01-03").status == "completed"
    object_store.put(bucket, f"data/{name_of(1)}", netcdf(tmp_path, 1, add=0.5))
    done = place.ask("2024-01-02", "2024-01-02", overwrite=True)
    assert (done.action, place.held()) == ("revise", days(0, 1, 2, d1=1.5))


@pytest.mark.parametrize("source", ["store:bucket/one.nc", "s3://{bucket}/data/one.nc"])
def test_one_object_by_profile_or_by_its_address(
    tmp_path: Path, place: Place, bucket: str, object_store: ObjectStore, source: str
) -> None:
    object_store.put(bucket, "data/one.nc", netcdf(tmp_path, 0, 1))
    done = ask(place.service, place.id, source=source.format(bucket=bucket))
    assert (done.status, place.held()) == ("completed", days(0, 1)), done.error


def test_a_profile_that_is_not_for_sources_and_keys_that_leave_it_are_refused(place: Place, bucket: str) -> None:
    with pytest.raises(UnknownProfile) as caught:
        ask(place.service, place.id, source="store:private/one.nc")
    assert caught.value.next_step is not None
    assert "use: [source]" in caught.value.next_step
    for key in ("../other/one.nc", "/one.nc", "a//b.nc", "a/./b.nc"):
        with pytest.raises(CubeportError, match="key"):
            ask(place.service, place.id, source={"kind": "store", "profile": "bucket", "key": key})
    absent = ask(place.service, place.id, source="store:bucket/absent.nc")
    assert absent.error is not None
    assert absent.error["kind"] == "no-data"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("c.zarr", "store:bucket/c.zarr"),
        ("c", "store:bucket/c"),
        ("c.zarr2", "s3://{bucket}/data/c.zarr2/"),
    ],
)
def test_zarr_in_a_store_needs_neither_consolidated_metadata_nor_a_name_in_zarr(
    tmp_path: Path, place: Place, bucket: str, object_store: ObjectStore, name: str, source: str
) -> None:
    """Of a store with another name, it was said that there is nothing."""
    cube(tmp_path).to_zarr(tmp_path / "c.zarr", consolidated=False, zarr_format=3)
    object_store.put_tree(bucket, f"data/{name}", tmp_path / "c.zarr")
    object_store.put(bucket, f"data/{name}/", b"")  # as consoles make folders
    done = ask(place.service, place.id, source=source.format(bucket=bucket))
    assert (done.status, place.held()) == ("completed", days(0, 1, 2)), done.error
    assert (again := ask(place.service, place.id, source=source.format(bucket=bucket))).reused, again
    if "." in name:
        absent = ask(place.service, f"{place.id}-a", source=source.format(bucket=bucket).rstrip("/") + "x")
        assert "ends in .zarr or in /" in absent.error["next"]


# --- Zarr over HTTP --------------------------------------------------------------------------------------------------


def cube(tmp_path: Path) -> xr.Dataset:
    """Return three days as xarray writes them, with a second variable and a scalar coordinate."""
    (tmp_path / "cube.nc").write_bytes(netcdf(tmp_path, 0, 1, 2))
    with xr.open_dataset(tmp_path / "cube.nc", decode_times=False) as opened:
        data = opened.load()
    data["other"] = data["t"] * 2
    data["height"] = ((), 2.0, {"units": "m", "positive": "up", "standard_name": "height"})
    return data.set_coords("height")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_over_http_is_its_own_documents_and_chunks(tmp_path: Path, place: Place, zarr_format: int) -> None:
    folder = place.provider.root / "c.zarr"
    encoding = {name: {"chunks": (1, 2, 4)} for name in ("t", "other")}
    cube(tmp_path).to_zarr(folder, zarr_format=zarr_format, consolidated=True, encoding=encoding)
    done = place.take("c.zarr")
    assert (done.status, place.held()) == ("completed", days(0, 1, 2)), done.error
    assert {"t", "other"} <= set(place.fields())
    # Of the chosen variables alone, with what they need.
    place.provider.forget()
    some = ask(place.service, f"{place.id}-t", source=f"{place.provider.url}/c.zarr", template={"variables": ["t"]})
    assert some.status == "completed", some.error
    asked = {each[1].split("c.zarr/")[1] for each in place.provider.requests("GET")}
    assert not any(
        each.startswith("other/") and not each.endswith(("zarr.json", ".zarray", ".zattrs", ".zgroup")) for each in asked
    )


def test_zarr_over_http_that_nobody_can_list_is_refused_with_the_step_that_cures_it(tmp_path: Path, place: Place) -> None:
    import zarr

    folder = place.provider.root / "c.zarr"
    cube(tmp_path).to_zarr(folder, zarr_format=3, consolidated=False)
    refused = place.take("c.zarr")
    assert refused.error is not None
    assert "zarr.consolidate_metadata(store)" in refused.error["next"]
    zarr.consolidate_metadata(str(folder))
    assert place.take("c.zarr").status == "completed"


def test_a_chunk_that_cannot_be_read_is_not_one_that_is_absent(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeport.adapters.fetching.patience.FIRST_PAUSE_S", 0.0)
    folder = place.provider.root / "c.zarr"
    cube(tmp_path).to_zarr(folder, zarr_format=3, encoding={"t": {"chunks": (1, 3, 4)}})
    place.provider.temper("c.zarr/t/c/1/0/0", status=500)
    refused = place.take("c.zarr")
    assert refused.error is not None
    assert refused.error["kind"] == "source-failed"
    place.provider.calm("c.zarr/t/c/1/0/0")
    place.provider.forget()
    assert place.take("c.zarr").status == "completed"
    assert place.held() == days(0, 1, 2)
    again = {each[1] for each in place.provider.requests("GET")}
    assert not any(each.endswith("t/c/0/0/0") for each in again), "what had come did not come again"


@pytest.mark.parametrize("node", ["../../../evil", "/etc", "a\\b", "."])
def test_metadata_cannot_lead_out_of_their_folder(tmp_path: Path, place: Place, node: str) -> None:
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {node: {}}},
    }
    place.provider.put("c.zarr/zarr.json", json.dumps(document).encode())
    refused = place.take("c.zarr")
    assert refused.error is not None
    assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "unsafe")


def test_a_group_over_http_has_the_coordinates_of_its_parents(tmp_path: Path, place: Place) -> None:
    folder = place.provider.root / "g.zarr"
    whole = cube(tmp_path)
    whole[["time", "lat", "lon"]].to_zarr(folder, zarr_format=3, consolidated=False)
    whole[["t"]].drop_vars(["time", "lat", "lon", "height"]).to_zarr(
        folder, group="inner", mode="a", zarr_format=3, consolidated=False
    )
    import zarr

    zarr.consolidate_metadata(str(folder))
    done = ask(place.service, place.id, source={"kind": "zarr", "url": f"{place.provider.url}/g.zarr", "group": "inner"})
    assert (done.status, place.held()) == ("completed", days(0, 1, 2)), done.error
    # What is not there is told by what is: of the store it was said that it has no groups, of a page that it is not strict JSON.
    refused = ask(place.service, f"{place.id}-o", source={"kind": "zarr", "url": f"{place.provider.url}/g.zarr", "group": "outer"})
    assert "its groups are inner" in refused.error["detail"]
    refused = place.take("g.zarr/inner", mode="replace")
    assert "--group" in refused.error["next"]
    place.provider.put("g.zarr/inner/t/zarr.json", b"<!doctype html>")
    refused = place.take("g.zarr", mode="replace")
    assert "has a page of HTML where metadata are expected" in refused.error["detail"]


# --- STAC ------------------------------------------------------------------------------------------------------------


def item(number: int, href: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"i{number}",
        "geometry": None,
        "properties": {"datetime": f"{day(number)}T12:00:00Z", **properties},
        "links": [],
        "assets": {"data": {"href": href, "roles": ["data"]}, "thumbnail": {"href": "x.png", "roles": ["thumbnail"]}},
    }


@pytest.fixture
def collection(tmp_path: Path, place: Place) -> Place:
    """A static Collection of the days 0 to 3; the last is of another sensor."""
    for number in range(4):
        place.provider.put(f"items/{name_of(number)}", netcdf(tmp_path, number))
        made = item(number, name_of(number), sensor="b" if number == 3 else "a")
        place.provider.put(f"items/{number}.json", json.dumps(made).encode())
    links = [{"rel": "item", "href": f"items/{number}.json"} for number in (2, 0, 1, 3)]
    document = {"type": "Collection", "stac_version": "1.1.0", "id": "c", "links": links}
    place.provider.put("collection.json", json.dumps(document).encode())
    return place


def test_items_of_a_collection_are_periods(collection: Place) -> None:
    collection.template(f"{{kind: stac, url: '{collection.provider.url}/collection.json', filter: {{sensor: a}}}}")
    assert collection.ask("2024-01-01", "2024-01-02").status == "completed"
    assert collection.held() == days(0, 1)
    assert collection.ask("2024-01-01").action == "append"
    assert collection.held() == days(0, 1, 2)
    assert sum(each[1].endswith(".nc") for each in collection.provider.requests("GET")) == 3


def test_items_without_periods_are_one_series(collection: Place) -> None:
    block = {"kind": "stac", "url": f"{collection.provider.url}/collection.json", "asset": "data", "datetime": "2024-01-02/.."}
    done = ask(collection.service, collection.id, source=block | {"datetime": "2024-01-02T00:00:00Z/.."})
    assert (done.status, collection.held()) == ("completed", days(1, 2, 3)), done.error
    with pytest.raises(InvalidRequest, match="RFC 3339"):
        ask(collection.service, collection.id, source=block | {"datetime": "yesterday"})


def test_an_item_is_a_source_and_another_asset_is_named(collection: Place) -> None:
    url = f"{collection.provider.url}/items/1.json"
    assert ask(collection.service, collection.id, source={"kind": "stac", "url": url}).status == "completed"
    assert collection.held() == days(1)
    plain = ask(collection.service, f"{collection.id}-plain", source=url)
    assert plain.error is not None
    assert "is a STAC Item, not data" in plain.error["detail"]
    [named] = re.findall(r"--asset (\w+)", plain.error["next"])
    taken = ask(collection.service, f"{collection.id}-plain", source={"kind": "stac", "url": url, "asset": named})
    assert (taken.status, held(collection.service, f"{collection.id}-plain")) == ("completed", days(1))
    refused = ask(collection.service, f"{collection.id}-x", source={"kind": "stac", "url": url, "asset": "cog"})
    assert refused.error is not None
    assert "data, thumbnail" in refused.error["detail"]
    assert "asset, e.g. data" in refused.error["next"]


def test_an_asset_elsewhere_is_refused_as_any_address(tmp_path: Path, place: Place) -> None:
    place.provider.put("i.json", json.dumps(item(0, "http://127.0.0.1:1/secret.nc")).encode())
    refused = ask(place.service, place.id, source={"kind": "stac", "url": f"{place.provider.url}/i.json"})
    assert refused.error is not None
    assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "not-allowed")
    assert "sources.origins" in refused.error["next"]


def test_pages_of_an_api_are_followed(tmp_path: Path, place: Place) -> None:
    for number in range(3):
        place.provider.put(f"{number}.nc", netcdf(tmp_path, number))
        following = [{"rel": "next", "href": f"page{number + 1}.json"}] if number < 2 else []
        page = {"type": "FeatureCollection", "features": [item(number, f"{number}.nc")], "links": following}
        place.provider.put(f"page{number}.json", json.dumps(page).encode())
    document = {"type": "Collection", "id": "c", "links": [{"rel": "items", "href": "page0.json"}]}
    place.provider.put("collection.json", json.dumps(document).encode())
    done = ask(place.service, place.id, source={"kind": "stac", "url": f"{place.provider.url}/collection.json"})
    assert (done.status, place.held()) == ("completed", days(0, 1, 2)), done.error


def test_items_with_the_same_id_are_of_their_own_days(tmp_path: Path, place: Place) -> None:
    """Items of several Collections can have the same id: every day got the file of the first."""
    for number in range(2):
        place.provider.put(f"{number}.nc", netcdf(tmp_path, number))
    features = [{**item(number, f"{number}.nc"), "id": "same", "links": None} for number in range(2)]
    found = {"type": "FeatureCollection", "features": features, "links": None}
    place.provider.put("found.json", json.dumps(found).encode())
    place.template(f"{{kind: stac, url: '{place.provider.url}/found.json'}}")
    done = place.ask("2024-01-01", "2024-01-02")
    assert (done.status, place.held()) == ("completed", days(0, 1)), done.error


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"type": "FeatureCollection", "features": [], "links": [{"rel": "next", "href": "odd.json"}]}, "page after itself"),
        ({"type": "Collection", "links": [{"rel": "item", "href": "http://["}]}, "which is none"),
        ({"type": "FeatureCollection", "features": None, "links": [{"rel": "next"}]}, "No item of"),
        (item(1, "1.nc", start_datetime="2024-01-03T00:00:00Z", end_datetime="2024-01-02T00:00:00Z"), "ends before it begins"),
        ({**item(1, "1.nc"), "assets": {"a": {"href": "a", "roles": 3}, "b": {"href": "b", "roles": None}}}, "there are a, b"),
    ],
    ids=["loop", "address", "null", "reversed", "roles"],
)
def test_an_odd_document_is_refused_by_name_and_asked_for_once(place: Place, document: dict[str, Any], words: str) -> None:
    place.provider.put("odd.json", json.dumps(document).encode())
    refused = ask(place.service, place.id, source={"kind": "stac", "url": f"{place.provider.url}/odd.json"})
    assert refused.error is not None
    assert words in refused.error["detail"]
    assert len(place.provider.requests("GET")) == 1


def test_the_collection_of_another_cubeport_is_a_source(tmp_path: Path, place: Place) -> None:
    """Its asset is Zarr by its media type; the copy equals the original in every value."""
    other = instance(tmp_path / "other")
    (tmp_path / "days.nc").write_bytes(netcdf(tmp_path, 0, 1, 2))
    assert here("ingest", tmp_path / "days.nc", "--id", "days", "-i", other).returncode == 0
    process, url = start(other)
    try:
        root = instance(tmp_path / "mine", origins=(url,))
        address = f"{url}/stac/collections/days"
        done = here("ingest", address, "--asset", "zarr", "--id", "copy", "-i", root)
        assert done.returncode == 0, done.stderr
        with cubeport.connect(root) as service:
            assert held(service, "copy") == days(0, 1, 2)
    finally:
        stop(process)
