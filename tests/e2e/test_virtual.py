"""A NetCDF file is published where it lies: the same values as a copy on every way, and never others when it has changed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.adapters.engines.opened import VersionStore
from cubeport.errors import CubeportError, SourceChanged
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, here, start, stop

LAT, LON = 48, 96


def days(count: int, first: int = 0, *, seed: int = 0) -> xr.Dataset:
    """Two variables of 18 and 9 kB a day, one of them packed."""
    random = np.random.default_rng(seed)
    t = random.normal(280, 10, size=(count, LAT, LON)).astype("float32")
    t[0, 0, :3] = np.nan
    rain = random.integers(-100, 100, size=(count, LAT, LON)).astype("int16")
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), t, {"units": "K"}),
            "rain": (("time", "lat", "lon"), rain, {"units": "mm", "scale_factor": 0.1, "_FillValue": np.int16(-99)}),
        },
        coords={
            "time": ("time", np.arange(first, first + count), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-86, 86, LAT), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(LON) * 3.75, {"units": "degrees_east"}),
        },
    )


def filtered(path: Path, source: xr.Dataset, *, chunks: tuple[int, int, int] = (5, 24, 96), **more: Any) -> Path:
    coding = {"zlib": True, "shuffle": True, "complevel": 3, "chunksizes": chunks, **more}
    source.to_netcdf(path, encoding=dict.fromkeys(source.data_vars, coding), unlimited_dims=["time"])
    return path


def big_endian(path: Path) -> Path:
    filtered(path, days(20))
    with h5py.File(path, "r+") as file:
        values, attributes = file["t"][:], dict(file["t"].attrs)
        for scale in range(3):
            file["t"].dims[scale].detach_scale(file[("time", "lat", "lon")[scale]])
        del file["t"]
        made = file.create_dataset("t", data=values.astype(">f4"), chunks=(4, LAT, LON), compression=1, fletcher32=True)
        made.attrs["units"] = attributes["units"]
        for scale in range(3):
            made.dims[scale].attach_scale(file[("time", "lat", "lon")[scale]])
    return path


def sparse(path: Path) -> Path:
    """Leave chunks out: netCDF gives the fill value for them."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", None), ("lat", LAT), ("lon", LON)):
            file.createDimension(name, size)
        for name, values in (("time", np.arange(20.0)), ("lat", np.linspace(-80, 80, LAT)), ("lon", np.arange(LON) * 5.0)):
            file.createVariable(name, "f8", (name,))[:] = values
        file["time"].units, file["lat"].units, file["lon"].units = "days since 2000-01-01", "degrees_north", "degrees_east"
        made = file.createVariable(
            "t", "f4", ("time", "lat", "lon"), zlib=True, chunksizes=(5, LAT, LON), fill_value=np.float32(-9e9)
        )
        made.units = "K"
        made[10:15] = np.random.default_rng(1).normal(size=(5, LAT, LON))
        made[19] = 1.0
    return path


def plainly(path: Path, source: xr.Dataset, **how: Any) -> Path:
    source.to_netcdf(path, **how)
    return path


FILES: Mapping[str, Callable[[Path], Path]] = {
    "filtered": lambda path: filtered(path, days(20)),
    "chunk-longer-than-the-array": lambda path: filtered(path, days(20), chunks=(64, 20, 40)),
    "fletcher32": lambda path: filtered(path, days(20), fletcher32=True),
    "chunks-without-filters": lambda path: filtered(path, days(20), zlib=False, shuffle=False),
    "contiguous": lambda path: plainly(path, days(20)),
    "big-endian": big_endian,
    "sparse": sparse,
    "netcdf3": lambda path: plainly(path, days(21), format="NETCDF3_64BIT"),
    "netcdf3-records": lambda path: plainly(path, days(21), format="NETCDF3_CLASSIC", unlimited_dims=["time"]),
    "netcdf3-one-record-variable": lambda path: plainly(
        path, days(21)[["t"]].drop_vars("time"), format="NETCDF3_CLASSIC", unlimited_dims=["time"]
    ),
}


class Place:
    """An instance with a folder of sources beside it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.sources = folder / "instance", folder / "sources"
        self.sources.mkdir()
        prepare(self.root)
        (self.root / "config" / "service.yaml").write_text(f"sources:\n  roots: [{self.sources}]\n")

    def ingest(self, service: Any, dataset_id: str, *files: Path, **fields: Any) -> Any:
        done = service.ingest_here(
            IngestionRequest.model_validate({"dataset_id": dataset_id, **fields}), FileOptions(files=tuple(map(str, files)))
        )
        if done.error is not None:
            raise CubeportError.from_mapping(done.error)
        return done

    def folder(self, dataset_id: str, version_id: str) -> Path:
        return self.root / "data" / "store" / dataset_id / version_id


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def service(place: Place) -> Iterator[Any]:
    with cubeport.connect(place.root) as opened:
        yield opened


def stored(service: Any, ref: str) -> xr.Dataset:
    """Read a version as stored, by zarr-python, through the engine."""
    shown = service.shown(ref)
    store: Any = VersionStore(service.engines, shown.texts.dataset_id, shown.version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_cf=False) as opened:
        return opened.load()


def read(service: Any, ref: str, name: str) -> Any:
    """Read a variable as queries do."""
    shown = service.shown(ref)
    versions = OpenedVersions(service.engines)
    return versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description).raw(name, {})


def in_file(path: Path) -> dict[str, Any]:
    """Read a file with the netCDF library, undecoded."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        return {name: np.asarray(variable[:]) for name, variable in file.variables.items()}


def own_chunks(place: Place, service: Any, dataset_id: str) -> list[str]:
    """Return the keys of data chunks that lie in the version's own folder."""
    shown = service.shown(dataset_id)
    cube = place.folder(dataset_id, shown.version.version_id) / "cube.zarr"
    return sorted(
        each.relative_to(cube).as_posix()
        for name in ("t", "rain")
        for each in (cube / name).rglob("*")
        if each.is_file() and each.name != "zarr.json"
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Any]]:
    """Each of the files, published where it lies and as a copy."""
    place = Place(tmp_path_factory.mktemp("virtual"))
    with cubeport.connect(place.root) as service:
        for name, make in FILES.items():
            path = make(place.sources / f"{name}.nc")
            place.ingest(service, name, path, storage="virtual")
            place.ingest(service, f"{name}-copy", path)
        yield place, service


@pytest.mark.parametrize("name", FILES)
def test_values_are_those_of_the_file_bit_by_bit_and_no_chunk_is_copied(published: tuple[Place, Any], name: str) -> None:
    place, service = published
    assert own_chunks(place, service, name) == []
    assert own_chunks(place, service, f"{name}-copy") != []
    found, copied, source = stored(service, name), stored(service, f"{name}-copy"), in_file(place.sources / f"{name}.nc")
    assert set(found.variables) == set(source)
    for key, values in source.items():
        assert np.asarray(found[key].values).astype(values.dtype).tobytes() == values.tobytes(), key
    xr.testing.assert_identical(found, copied)


def test_what_is_told_of_a_virtual_version_names_no_place_of_the_machine(published: tuple[Place, Any]) -> None:
    place, service = published
    shown = service.shown("fletcher32")
    assert shown.sealed["storage"] == {
        "kind": "virtual",
        "sources": 1,
        "chunks": 16,
        "bytes": shown.sealed["storage"]["bytes"],
        "verify": "full",
        "codecs": ["numcodecs.fletcher32", "numcodecs.shuffle", "numcodecs.zlib"],
    }
    manifest = service.engines.manifest("fletcher32", shown.version.version_id)
    assert str(place.sources).encode() not in manifest
    [source] = json.loads(manifest)["sources"]
    assert source["name"] == "fletcher32.nc"


def change_in_place(path: Path) -> None:
    """Change one byte of a chunk, and put the times back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        byte = file.read(1)
        file.seek(-200, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_copy(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".other"))
    path.with_suffix(".other").replace(path)


def replace_by_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


CHANGES: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "changed-in-place-with-its-old-time": (change_in_place, "source-changed"),
    "touched": (Path.touch, "source-changed"),
    "cut": (lambda path: os.truncate(path, 5_000), "source-changed"),
    "replaced-by-an-equal-file": (replace_by_a_copy, "source-changed"),
    "replaced-by-a-link": (replace_by_a_link, "source-changed"),
    "gone": (Path.unlink, "source-missing"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_source_that_changed_is_an_error_and_never_other_values(place: Place, service: Any, how: str) -> None:
    change, kind = CHANGES[how]
    path = filtered(place.sources / "a.nc", days(20))
    place.ingest(service, "a", path, storage="virtual")
    version_id = service.shown("a").version.version_id
    before = service.engines.read("a", version_id, "t/c/1/0/0")
    with before.file as file:
        change(path)
        if how in ("changed-in-place-with-its-old-time", "touched", "cut"):
            with pytest.raises(SourceChanged):  # it was opened before
                file.read()
    with pytest.raises(SourceChanged, match=r"a\.nc"):
        service.engines.read("a", version_id, "t/c/1/0/0")
    found = [(each.kind, each.place.rpartition("/")[2]) for each in fsck_of(service) if each.place.startswith("a@")]
    assert found == [(kind, "a.nc")], "one line for a source"


def test_the_same_bytes_under_a_new_identity_are_pointed_at_anew(place: Place, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    place.ingest(service, "a", path, storage="virtual")
    path.touch()
    assert not place.ingest(service, "a", path, storage="virtual", mode="replace").reused
    assert stored(service, "a").t.values.tobytes() == in_file(path)["t"].tobytes()


def test_fsck_prints_the_command_that_publishes_all_files_again(
    place: Place, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [filtered(place.sources / f"{n} .nc", days(10, 10 * n, seed=n)) for n in range(4)]
    place.ingest(service, "x", *files[:2], storage="virtual")
    place.ingest(service, "x", files[2], mode="update")  # its steps are copied, so nobody knows its folder
    replace_by_a_copy(files[1])
    with pytest.raises(SourceChanged, match=r"which has changed since\.") as refused:
        place.ingest(service, "x", files[3], mode="update")
    assert "cubeport fsck" in str(refused.value.next_step)
    old, new = (each.next_step for each in fsck_of(service) if each.kind == "source-changed")
    assert old == "remove the version with `cubeport fsck --repair`"
    command = shlex.split(new.split("`")[1])
    assert command[:2] == ["cubeport", "ingest"]
    assert here(*command[1:], "--instance", place.root).returncode != 0, "not without the file that is not there"
    monkeypatch.chdir(place.sources)
    assert here(*command[1:], "--instance", place.root).returncode == 0
    assert stored(service, "x").t.values.tobytes() == np.concatenate([in_file(each)["t"] for each in files[:3]]).tobytes()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EACCES, "source-unavailable"), (errno.EIO, "source-unavailable"), (errno.ENOTDIR, "source-missing")],
)
def test_a_source_that_cannot_be_read_is_not_one_that_changed(
    place: Place, service: Any, monkeypatch: pytest.MonkeyPatch, code: int, kind: str
) -> None:
    place.ingest(service, "a", filtered(place.sources / "a.nc", days(20)), storage="virtual")

    def fails(root: str, key: str) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("cubeport.adapters.engines.parts.open_file", fails)
    assert {each.kind for each in service.catalog.fsck(repair=True).findings} == {kind}
    assert service.shown("a"), "repair leaves it"


def fsck_of(service: Any) -> list[Any]:
    return list(service.catalog.fsck().findings)


def test_the_same_request_again_is_reused(place: Place, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    first = place.ingest(service, "a", path, storage="virtual")
    again = place.ingest(service, "a", path, storage="virtual")
    assert (again.reused, again.version_id) == (True, first.version_id)


def test_a_file_outside_the_roots_is_refused_or_copied_and_reported(place: Place, service: Any, tmp_path: Path) -> None:
    inside, outside = filtered(place.sources / "a.nc", days(10)), filtered(tmp_path / "b.nc", days(10, 10))
    with pytest.raises(CubeportError, match=r"b\.nc is in no folder of sources\.roots") as refusal:
        place.ingest(service, "x", inside, outside, storage="virtual")
    assert refusal.value.members["reason"] == "not-virtual"
    done = place.ingest(service, "x", inside, outside, storage="auto")
    assert [each["kind"] for each in done.warnings] == ["copied"]
    assert own_chunks(place, service, "x")


def test_several_files_are_one_dataset_where_their_chunks_fit(place: Place, service: Any) -> None:
    files = [filtered(place.sources / f"{n}.nc", days(10, 10 * n, seed=n)) for n in range(3)]
    place.ingest(service, "x", *files, storage="virtual")
    assert own_chunks(place, service, "x") == []
    found = stored(service, "x")
    for name in ("t", "rain"):
        whole = np.concatenate([in_file(each)[name] for each in files])
        assert found[name].values.tobytes() == whole.tobytes()


def test_every_reason_is_listed_before_anything_is_made(place: Place, service: Any) -> None:
    first = filtered(place.sources / "a.nc", days(10))
    packed = days(10, 10, seed=1)
    packed.rain.attrs["scale_factor"] = 0.2
    files = [
        first,
        filtered(place.sources / "b.nc", packed),
        filtered(place.sources / "c.nc", days(7, 20)),
        filtered(place.sources / "d.nc", days(10, 27), complevel=9),
        filtered(place.sources / "e.nc", days(10, 37), chunks=(5, 48, 48)),
    ]
    with pytest.raises(CubeportError) as refusal:
        place.ingest(service, "x", *files, storage="virtual")
    told = [each.message for each in refusal.value.errors]
    assert told[0].startswith(
        "d.nc: 't' is stored with shuffle 4 and zlib 9, little-endian, and the rest with shuffle 4 and zlib 3"
    )
    assert "e.nc: 't' has chunks of 5×48×48, and the rest of 5×24×96" in told
    assert any("'rain' is not published as it is stored" in each for each in told)
    assert service.datasets().items == ()
    assert not list((place.root / "data" / "store").iterdir())
    with pytest.raises(
        CubeportError, match=r"d\.nc: 't' begins at step 17, which is no multiple of the chunk length 5; c\.nc ends within"
    ):
        place.ingest(service, "x", first, files[2].rename(place.sources / "c.nc"), *_moved(place, 17), storage="virtual")


def _moved(place: Place, first: int) -> list[Path]:
    """Return c.nc at days 10 to 16 and d.nc behind it."""
    filtered(place.sources / "c.nc", days(7, 10))
    return [filtered(place.sources / "d.nc", days(10, first))]


def test_auto_copies_the_variables_that_cannot_stay_and_says_so(place: Place, service: Any) -> None:
    packed = days(10, 10, seed=1)
    packed.rain.attrs["scale_factor"] = 0.2
    files = [filtered(place.sources / "a.nc", days(10)), filtered(place.sources / "b.nc", packed)]
    done = place.ingest(service, "x", *files, storage="auto")
    assert {each["kind"] for each in done.warnings} == {"copied", "unpacked"}
    assert {key.partition("/")[0] for key in own_chunks(place, service, "x")} == {"rain"}
    assert service.shown("x").sealed["storage"]["chunks"] == 8


def test_an_update_adds_chunks_of_either_kind(place: Place, service: Any) -> None:
    files = [filtered(place.sources / f"{n}.nc", days(10, 10 * n, seed=n)) for n in range(4)]
    place.ingest(service, "x", files[0], storage="virtual")
    first = service.shown("x").version.version_id
    added = place.ingest(service, "x", files[1], storage="virtual", mode="update")
    assert added.action == "append"
    assert own_chunks(place, service, "x") == []
    place.ingest(service, "x", files[2], mode="update")
    copied = own_chunks(place, service, "x")
    assert copied == [f"{name}/c/{n}/{m}/0" for name in ("rain", "t") for n in (4, 5) for m in (0, 1)]
    place.ingest(service, "x", files[3], mode="update", storage="auto")
    assert own_chunks(place, service, "x") == copied
    found = stored(service, "x")
    for name in ("t", "rain"):
        assert found[name].values.tobytes() == np.concatenate([in_file(each)[name] for each in files]).tobytes()
    assert stored(service, f"x@{first}").sizes["time"] == 10
    assert fsck_of(service) == []
    files[0].unlink()  # a source of the first version is one of every later version
    with pytest.raises(SourceChanged):
        place.ingest(service, "x", filtered(place.sources / "z.nc", days(10, 40)), mode="update", storage="virtual")


def test_steps_in_the_middle_of_a_chunk_are_copied_or_refused(place: Place, service: Any) -> None:
    files = [filtered(place.sources / f"{n}.nc", days(8, 8 * n, seed=n)) for n in range(2)]
    place.ingest(service, "x", files[0], storage="virtual")
    with pytest.raises(CubeportError, match="no multiple of the chunk length 5"):
        place.ingest(service, "x", files[1], storage="virtual", mode="update")
    place.ingest(service, "x", files[1], mode="update")
    found = stored(service, "x")
    for name in ("t", "rain"):
        assert found[name].values.tobytes() == np.concatenate([in_file(each)[name] for each in files]).tobytes()
    assert {key.split("/")[2] for key in own_chunks(place, service, "x")} == {"1", "2", "3"}


def test_a_damaged_chunk_is_found_when_all_are_decoded_and_never_decoded_to_values(place: Place, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    with h5py.File(path) as file:
        chunk = file["t"].id.get_chunk_info(3)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + 40)
        file.write(bytes(64))
    with pytest.raises(CubeportError, match="'t' cannot be decoded"):
        place.ingest(service, "a", path, storage="virtual")
    place.ingest(service, "a", path, storage="virtual", verify="sample")
    shown = service.shown("a")
    assert shown.sealed["storage"]["verify"] == "sample"
    ranges = {each.name: (each.valid_min, each.valid_max) for each in shown.description.variables}
    assert ranges["t"] == (None, None), "nobody has read all values"
    with pytest.raises(CubeportError, match="cannot be decoded"):
        read(service, "a", "t")


def test_a_file_that_is_being_written_is_refused_and_a_new_one_waited_for(place: Place, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    os.utime(path)
    place.ingest(service, "a", path, storage="virtual")
    change_in_place(path)  # within the second, and maybe the tick, in which it was published
    with pytest.raises(SourceChanged):
        stored(service, "a")


def test_removing_a_dataset_leaves_its_sources(place: Place, service: Any) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    place.ingest(service, "a", path, storage="virtual")
    service.delete("a", purge=True)
    assert path.exists()
    assert fsck_of(service) == []


def test_a_version_that_lies_elsewhere_is_exported_whole_and_not_replicated(place: Place, service: Any, tmp_path: Path) -> None:
    path = filtered(place.sources / "a.nc", days(20))
    place.ingest(service, "a", path, storage="virtual")
    service.export_stac(tmp_path / "out")
    [store] = [each for each in (tmp_path / "out").rglob("zarr.json") if (each.parent / "t").is_dir()]
    with xr.open_zarr(store.parent, chunks=None, decode_cf=False) as opened:
        assert opened.t.values.tobytes() == in_file(path)["t"].tobytes()
    with pytest.raises(CubeportError, match="neither pushed nor pulled") as refused:
        service.replica("a")
    advice = (refused.value.next_step or "").partition(": ")[2]
    _, *words = shlex.split(advice.replace("SOURCE", str(path)))
    done = here(*words, "--instance", place.root)
    assert done.returncode == 0, done.stderr
    assert service.replica("a").version_id == service.dataset("a").state.latest, "the advice makes one that can be pushed"


FACES = {
    "zarr": "/zarr/{id}/t/c/0/0/0",
    "zarr-v2": "/zarr-v2/{id}/t/0.0.0",
    "coverage": "/ogcapi/collections/{id}/coverage?bbox=0,0,40,40&f=json",
    "edr": "/ogcapi/collections/{id}/position?coords=POINT(20 20)&f=CoverageJSON",
    "download": "/datasets/{id}/download?bbox=0,0,40,40",
    "opendap": "/dap/{id}.ascii?t[0:2][3:4][5:6]",
    "thumbnail": "/datasets/{id}/thumbnail.png",
    "map": "/wms/{id}?service=WMS&version=1.3.0&request=GetMap&layers=t&styles=&crs=CRS:84&bbox=0,0,90,45&width=64&height=32"
    "&format=image/png",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Server]]:
    """A file as it is, the same as a copy, and one that changed when nobody had read it yet."""
    place = Place(tmp_path_factory.mktemp("served"))
    kept, lost = (filtered(place.sources / f"{name}.nc", days(20)) for name in ("kept", "lost"))
    with cubeport.connect(place.root) as service:
        place.ingest(service, "kept", kept, storage="virtual")
        place.ingest(service, "copy", kept)
        place.ingest(service, "lost", lost, storage="virtual")
    change_in_place(lost)
    process, url = start(place.root)
    try:
        yield place, Server(url, place.root, process)
    finally:
        stop(process)


@pytest.mark.parametrize("face", FACES)
def test_every_face_gives_what_a_copy_gives_and_never_what_has_changed(served: tuple[Place, Server], face: str) -> None:
    _, server = served
    found, copied, lost = (server.get(FACES[face].format(id=name)) for name in ("kept", "copy", "lost"))
    assert found.status_code == copied.status_code == 200, found.text
    if face.startswith("zarr"):  # another chunk, in another form: it is the file's own
        assert found.content in (server.root.parent / "sources" / "kept.nc").read_bytes()
    else:
        assert found.content.replace(b"kept", b"copy") == copied.content
    assert lost.status_code == 503
    assert "lost.nc, which has changed since" in lost.text
    assert str(server.root.parent) not in lost.text


def test_readers_of_zarr_see_the_values_over_http(served: tuple[Place, Server]) -> None:
    place, server = served
    for address, how in (("zarr", {"zarr_format": 3}), ("zarr-v2", {"zarr_format": 2})):
        with xr.open_zarr(f"{server.url}/{address}/kept", chunks=None, decode_cf=False, **how) as opened:
            for name, values in in_file(place.sources / "kept.nc").items():
                assert np.asarray(opened[name].values).astype(values.dtype).tobytes() == values.tobytes(), (address, name)
    whole = server.get("/zarr/kept/t/c/1/1/0")
    part = httpx.get(f"{server.url}/zarr/kept/t/c/1/1/0", headers={"range": "bytes=100-299"}, trust_env=False)
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    asset = server.json("/stac/collections/kept")["assets"]["zarr-pinned"]
    assert (asset["cubeport:storage"], asset["cubeport:codecs"]) == ("virtual", ["numcodecs.shuffle", "numcodecs.zlib"])


def test_a_template_adds_new_files_where_they_are(place: Place, service: Any) -> None:
    for n in range(2):
        filtered(place.sources / f"day{n}.nc", days(10, 10 * n, seed=n))
    (place.root / "config" / "datasets").mkdir(exist_ok=True)
    (place.root / "config" / "datasets" / "rain.yaml").write_text(
        "- id: rain\n  title: Rain\n  period_type: daily\n  ingestion: {storage: virtual}\n"
        f"  source: {{kind: files, paths: ['{place.sources}/day*.nc']}}\n"
    )
    request = IngestionRequest(dataset_id="rain", start="2000-01-01")
    assert service.ingest_here(request, FileOptions()).action == "create"
    filtered(place.sources / "day2.nc", days(10, 20, seed=2))
    done = service.ingest_here(request, FileOptions())
    assert (done.status, done.action) == ("completed", "append"), done.error
    assert own_chunks(place, service, "rain") == []
    files = sorted(place.sources.glob("day*.nc"))
    assert stored(service, "rain").t.values.tobytes() == np.concatenate([in_file(each)["t"] for each in files]).tobytes()


def test_recipes_and_overviews_read_what_lies_in_sources(place: Place, service: Any) -> None:
    source = days(60).drop_vars("rain")
    source.t.attrs["cell_methods"] = "time: mean"
    path = filtered(place.sources / "a.nc", source)
    layout = {"layout": {"pyramid": {"levels": 1}, "chunks": {"time": 5, "lat": 24, "lon": 96}}}
    for name, how in (("virtual", {"storage": "virtual"}), ("copied", {})):
        place.ingest(service, name, path, template=layout, **how)
        done = service.derive("resample", [name], dataset_id=f"{name}-months", params={"period_type": "monthly"})
        assert done.error is None, done.error
    xr.testing.assert_equal(stored(service, "virtual-months"), stored(service, "copied-months"))
    levels = []
    for name in ("virtual", "copied"):
        shown = service.shown(name)
        folder = place.folder(name, shown.version.version_id) / "overviews.zarr"
        levels.append({each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()})
    assert "1/t/c/0/0/0" in levels[0]
    assert levels[0] == levels[1]
    with pytest.raises(CubeportError, match=r"'t' has other chunks than were asked for"):
        place.ingest(service, "other", path, storage="virtual", template={"layout": {"chunks": {"time": 7}}})


@pytest.mark.slow
def test_queries_have_the_values_of_the_version_or_the_error_also_after_a_restart(tmp_path: Path) -> None:
    """Values that were decoded before the change may be in memory; nothing is decoded from the file as it is now."""
    place = Place(tmp_path)
    path, other = place.sources / "a.nc", days(20, seed=9)
    with cubeport.connect(place.root) as service:
        place.ingest(service, "a", filtered(path, days(20)), storage="virtual")
    process, url = start(place.root)
    try:
        server = Server(url, place.root, process)
        asked = [f"/dap/a.ascii?t[{step}][{row}][5:6]" for step in (0, 7, 19) for row in (3, 30)]
        before = [server.get(each).text for each in asked[:3]]
        whole = place.sources / "other.nc"
        path.write_bytes(filtered(whole, other).read_bytes())
        for n, each in enumerate(asked):
            answer = server.get(each)
            if answer.status_code == 200:
                step, row = (0, 7, 19)[n // 2], (3, 30)[n % 2]
                numbers = [float(word) for word in answer.text.split("[0][0]")[1].split("\n")[0].split(",")[1:]]
                assert np.allclose(numbers, days(20).t.values[step, row, 5:7], rtol=1e-5), each
            else:
                assert (answer.status_code, "has changed since" in answer.text) == (503, True), each
        stop(process)
        process, url = start(place.root)
        server = Server(url, place.root, process)
        assert [server.get(each).status_code for each in asked] == [503] * len(asked)
        assert len(set(before)) == 3
    finally:
        stop(process)
