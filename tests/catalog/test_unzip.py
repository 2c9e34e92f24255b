"""What a zip file may turn into."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from cubeport.catalog.artifacts.writers import UnzipSingleFileArtifactWriter, path_source
from cubeport.errors import InvalidRequest, TooLarge


def zipped(path: Path, body: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", body)
    return path


def inner() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("inside", b"x" * 100)
    return body.getvalue()


@pytest.mark.parametrize("body", [inner(), gzip.compress(b"x" * 100), b"\0" * 257 + b"ustar"], ids=["zip", "gzip", "tar"])
def test_an_archive_inside_a_zip_file_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="archive or compressed itself"):
        UnzipSingleFileArtifactWriter().write(tmp_path / "out", path_source(zipped(tmp_path / "a.zip", body), "zip_file"))


def test_a_zip_file_may_not_grow_beyond_its_ratio(tmp_path: Path) -> None:
    source = path_source(zipped(tmp_path / "a.zip", b"\0" * 2**26), "zip_file")  # 64 kB that become 64 MiB
    with pytest.raises(TooLarge) as caught:
        UnzipSingleFileArtifactWriter().write(tmp_path / "out", source)
    assert caught.value.members["rule"] == "max_unzip_ratio"
    assert (tmp_path / "out").stat().st_size <= 2**24 if (tmp_path / "out").exists() else True


def test_a_small_one_may_turn_into_sixteen_mebibytes(tmp_path: Path) -> None:
    source = path_source(zipped(tmp_path / "a.zip", b"\0" * 2**24), "zip_file")
    assert UnzipSingleFileArtifactWriter().write(tmp_path / "out", source).size_bytes == 2**24
