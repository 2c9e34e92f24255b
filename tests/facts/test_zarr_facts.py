"""What we rely on in zarr-python and xarray. A failure here asks for a decision, not for a fix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from cubeport.adapters.engines.attributes import fill_to_json


def floats(folder: Path) -> dict[str, object]:
    data = xr.Dataset({"t": ("x", np.arange(100, dtype="f4"))})
    data["t"].encoding = {"_FillValue": np.float32(1e20), "compressors": [ZstdCodec(checksum=True)]}
    data.to_zarr(folder, zarr_format=3, consolidated=False)
    document: dict[str, object] = json.loads((folder / "t/zarr.json").read_text())["attributes"]
    return document


def test_xarray_keeps_fill_values_of_floats_as_base64(tmp_path: Path) -> None:
    assert floats(tmp_path / "a.zarr")["_FillValue"] == fill_to_json(np.float32(1e20), np.dtype("f4")) == "AAAAgB2vFUQ="


def test_a_checksum_of_zstd_tells_a_flipped_bit(tmp_path: Path) -> None:
    floats(tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr/t/c/0"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"(?i)checksum"):
        zarr.open_array(tmp_path / "a.zarr/t")[...]


def test_xarray_cannot_decode_a_fill_value_of_text(tmp_path: Path) -> None:
    # So text keeps it as missing_value; when this passes, it may stay _FillValue.
    array = zarr.create_array(tmp_path / "a.zarr/s", shape=(1,), dtype=str, dimension_names=["x"])
    array.attrs["_FillValue"] = "none"
    zarr.open_group(tmp_path / "a.zarr", mode="a")
    with pytest.raises(ValueError, match="fill_value"):
        xr.open_zarr(tmp_path / "a.zarr", consolidated=False)["s"].load()


def test_a_missing_chunk_reads_as_fill_in_silence(tmp_path: Path) -> None:
    # Why absent is never unreadable here: a client turns 404 into numbers.
    floats(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/t/c/0").unlink()
    assert np.isnan(zarr.open_array(tmp_path / "a.zarr/t")[...]).all()


def test_a_listing_has_no_order_that_could_be_relied_on(tmp_path: Path) -> None:
    # Why variables of a Zarr source are sorted: the same folder must give the same bytes.
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in ("b", "a", "c"):
        group.create_array(name, shape=(1,), dtype="i1", dimension_names=["x"])
    assert {name for name, _ in zarr.open_group(tmp_path / "a.zarr", mode="r").members()} == {"a", "b", "c"}


def test_consolidated_metadata_keep_our_order(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in ("b", "a"):
        group.create_array(name, shape=(1,), dtype="i1", dimension_names=["x"])
    root = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    nodes = {name: json.loads((tmp_path / "a.zarr" / name / "zarr.json").read_text()) for name in ("b", "a")}
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": nodes}
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(root))
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=True) as opened:
        assert set(opened.variables) == {"a", "b"}


def test_a_float32_attribute_does_not_come_back_as_one(tmp_path: Path) -> None:
    # Why values unpacked by a float32 scale factor are float64 from Zarr: JSON has one kind of number.
    data = xr.Dataset({"t": ("x", np.arange(3, dtype="i2"), {"scale_factor": np.float32(0.1)})})
    data.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False) as opened:
        assert opened["t"].dtype == np.float64
    assert xr.decode_cf(data)["t"].dtype == np.float32
