"""NetCDF and Zarr metadata come out of a confined child; what is hostile or cut is refused and this process goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.extract import cubes
from cubeport.adapters.extract.cubes import NetCDFExtractor, ZarrExtractor
from cubeport.adapters.gate.tasks import confined
from cubeport.adapters.sandbox.children import Children
from cubeport.catalog.extraction import ExtractionLimits, Extractors
from cubeport.errors import ExtraMissing, SourceRejected


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with confined() as started:
        yield started


@pytest.fixture
def netcdf(children: Children) -> NetCDFExtractor:
    return NetCDFExtractor(lambda: children)


@pytest.fixture
def zarr(children: Children) -> ZarrExtractor:
    return ZarrExtractor(lambda: children)


def dataset() -> xr.Dataset:
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.zeros((2, 3, 4), "f4"), {"units": "K", "long_name": "größe"})},
        coords={
            "time": ("time", np.array([0, 1]), {"units": "days since 2020-02-28", "calendar": "standard"}),
            "lat": ("lat", [10.0, 20.0, 30.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 10.0, 20.0, 30.0], {"units": "degrees_east"}),
        },
        attrs={"Conventions": "CF-1.8", "title": "a test"},
    )


class TestNetCDF:
    @pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA"])
    def test_the_block_time_and_place_of_each_format(self, netcdf: NetCDFExtractor, tmp_path: Path, form: Any) -> None:
        path = tmp_path / "data.bin"  # told by content, whatever the name says
        dataset().to_netcdf(path, format=form, engine="netcdf4")
        assert netcdf.accepts(path)
        found = netcdf.extract(path, ExtractionLimits())
        assert found.block["format"] == ("hdf5" if form == "NETCDF4" else "netcdf3")
        assert (found.block["conventions"], found.block["attributes"]["title"]) == ("CF-1.8", "a test")
        assert found.block["dimensions"] == {"time": 2, "lat": 3, "lon": 4}
        assert found.block["coordinates"] == ["lat", "lon", "time"]
        variable = found.block["variables"]["t2m"]
        assert (variable["dtype"], variable["shape"], variable["dimensions"]) == ("float32", [2, 3, 4], ["time", "lat", "lon"])
        assert variable["attributes"]["long_name"] == "größe"
        assert found.time is not None
        assert found.time.to_mapping() == {"start": "2020-02-28T00:00:00.000000Z", "end": "2020-02-29T00:00:00.000000Z"}
        assert found.bbox == (-5, 5, 35, 35)

    def test_groups_and_chunks(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        path = tmp_path / "g.nc"
        dataset().to_netcdf(path, engine="h5netcdf", encoding={"t2m": {"chunksizes": (1, 3, 2)}})
        dataset().to_netcdf(path, engine="h5netcdf", group="deep/er", mode="a")
        block = netcdf.extract(path, ExtractionLimits()).block
        assert block["variables"]["t2m"]["chunks"] == [1, 3, 2]
        assert block["variables"]["deep/er/t2m"]["shape"] == [2, 3, 4]
        assert set(block["groups"]) == {"deep", "deep/er"}

    def test_text_is_a_string_in_each_format(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        for form in ("NETCDF4", "NETCDF3_CLASSIC"):
            path = tmp_path / f"{form}.nc"
            xr.Dataset({"name": ("i", ["Oslo", "Tromsø"]), "n": ("i", [1, 2])}).to_netcdf(path, format=form, engine="netcdf4")
            variables = netcdf.extract(path, ExtractionLimits()).block["variables"]
            assert variables["name"]["dtype"] == "string"
            assert variables["n"]["dtype"].startswith("int")

    def test_what_says_nothing_of_space_and_time_says_why(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        path = tmp_path / "plain.nc"
        xr.Dataset({"n": ("i", [1, 2, 3])}).to_netcdf(path)
        found = netcdf.extract(path, ExtractionLimits())
        assert (found.time, found.bbox) == (None, None)
        assert found.block["variables"]["n"]["shape"] == [3]

    def test_a_block_over_the_limits_is_cut_and_says_so(self, children: Children, tmp_path: Path) -> None:
        path = tmp_path / "many.nc"
        xr.Dataset({f"v{i:03}": ("i", [1]) for i in range(300)}).to_netcdf(path)
        extractors = Extractors()
        extractors.register(NetCDFExtractor(lambda: children))
        block = extractors.extract(path).blocks["netcdf"]
        assert block["_extractor"]["truncated"] is True
        assert 50 < len(block["variables"]) < 300

    def test_a_hostile_file_is_refused_and_this_process_goes_on(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        secret = tmp_path / "secret.h5"
        with h5py.File(secret, "w") as file:
            file["x"] = [1, 2, 3]
        path = tmp_path / "hostile.nc"
        with h5py.File(path, "w") as file:
            file["x"] = h5py.ExternalLink(str(secret), "/x")
        assert netcdf.accepts(path)
        with pytest.raises(SourceRejected) as caught:
            netcdf.extract(path, ExtractionLimits())
        assert caught.value.reason == "unsafe"

    def test_a_cut_file_is_refused(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        path = tmp_path / "cut.nc"
        dataset().to_netcdf(path, format="NETCDF3_CLASSIC", engine="netcdf4")
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(SourceRejected) as caught:
            netcdf.extract(path, ExtractionLimits())
        assert caught.value.reason == "truncated"

    def test_other_files_are_not_its_own(self, netcdf: NetCDFExtractor, tmp_path: Path) -> None:
        (tmp_path / "a.nc").write_text("no, text")
        assert not netcdf.accepts(tmp_path / "a.nc")
        assert not netcdf.accepts(tmp_path)

    def test_every_real_file_says_what_it_is(self, netcdf: NetCDFExtractor, realdata: Path) -> None:
        said = {}
        for path in sorted(realdata.glob("*.nc"))[:12]:
            found = netcdf.extract(path, ExtractionLimits())
            assert found.block["variables"]
            said[path.name] = found.bbox
        assert said["Arctic20_1to5Feb_2016.nc"] == pytest.approx((-10.9999915, 64.730811, 52.513282, 82.47794))


class TestZarr:
    @pytest.mark.parametrize(("version", "consolidated"), [(2, True), (2, False), (3, False)])
    def test_both_versions_with_and_without_consolidated_metadata(
        self, zarr: ZarrExtractor, tmp_path: Path, version: Any, consolidated: bool
    ) -> None:
        path = tmp_path / "a"
        dataset().to_zarr(path, zarr_format=version, consolidated=consolidated)
        assert zarr.accepts(path)
        found = zarr.extract(path, ExtractionLimits())
        assert (found.block["format"], found.block["consolidated"]) == (f"zarr{version}", consolidated)
        assert found.block["dimensions"] == {"lat": 3, "lon": 4, "time": 2}
        assert found.block["variables"]["t2m"]["chunks"] == [2, 3, 4]
        assert found.bbox == (-5, 5, 35, 35)

    @pytest.mark.parametrize("version", [2, 3])
    def test_an_attribute_that_is_not_a_number_is_read(self, zarr: ZarrExtractor, tmp_path: Path, version: Any) -> None:
        path = tmp_path / "a"
        dataset().assign_attrs(nothing=np.nan).to_zarr(path, zarr_format=version, consolidated=False)
        found = zarr.extract(path, ExtractionLimits())
        assert str(found.block["attributes"]["nothing"]).lower() == "nan"
        assert found.bbox == (-5, 5, 35, 35)

    def test_a_folder_without_its_metadata_is_none(self, zarr: ZarrExtractor, tmp_path: Path) -> None:
        assert not zarr.accepts(tmp_path)

    def test_a_link_in_it_is_refused(self, zarr: ZarrExtractor, tmp_path: Path) -> None:
        path = tmp_path / "a"
        dataset().to_zarr(path, zarr_format=3, consolidated=False)
        inner = path / "t2m" / "zarr.json"
        outside = tmp_path / "outside.json"
        inner.rename(outside)
        inner.symlink_to(outside)
        with pytest.raises(SourceRejected) as caught:
            zarr.extract(path, ExtractionLimits())
        assert caught.value.reason == "unsafe"


def test_an_absent_library_names_its_extra_before_any_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(b"CDF\x01")

    def never() -> Any:
        raise AssertionError("a child was started")

    monkeypatch.setattr(cubes, "find_spec", lambda name: None if name == "h5netcdf" else object())
    with pytest.raises(ExtraMissing, match="h5netcdf is not installed") as caught:
        NetCDFExtractor(never).extract(path, ExtractionLimits())
    assert caught.value.next_step == "pip install 'cubeport[netcdf]'"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"block": [], "start": None, "end": None, "bbox": None, "truncated": False},
        {"block": {}, "start": None, "end": None, "bbox": None, "truncated": "no"},
    ],
)
def test_what_a_child_says_is_not_believed_unlooked(tmp_path: Path, said: Mapping[str, Any]) -> None:
    class Liar:
        def run(self, task: str, request: Mapping[str, Any], *, sources: Any = ()) -> Mapping[str, Any]:
            return said

    (tmp_path / "a.nc").write_bytes(b"CDF\x01")
    with pytest.raises(SourceRejected) as caught:
        NetCDFExtractor(Liar).extract(tmp_path / "a.nc", ExtractionLimits())
    assert caught.value.reason == "crashed"
