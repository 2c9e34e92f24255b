"""Small files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cubeport.catalog.disk import durable
from cubeport.errors import StoreUnavailable


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    durable.replace_file(path, b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            durable.replace_file(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]
    assert path.read_bytes() == b"old"

    durable.replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_system_that_is_read_only_is_named_with_what_it_is_good_for() -> None:
    with pytest.raises(StoreUnavailable, match="is read-only") as refused, durable.store_errors("open the lock"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert "cubeport serve --read-only" in str(refused.value.next_step)
