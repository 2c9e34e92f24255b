"""What clusters bring: network file systems, users without a name, folders that can only be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Shell, shell  # noqa: F401 - a fixture

import cubeport
from cubeport.adapters.backends.sql import sqlite as sql
from cubeport.catalog.disk import mounts
from cubeport.errors import InvalidRequest, NetworkFilesystem
from cubeport.main import catalog as main_catalog


@pytest.fixture
def on_lustre(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system say that everything is on Lustre."""
    for module in (mounts, sql):
        monkeypatch.setattr(module, "mount_type", lambda path, mountinfo=None: "lustre")


@pytest.mark.usefixtures("on_lustre")
def test_a_catalog_on_a_network_file_system_is_made_by_a_flag(tmp_path: Path) -> None:
    with pytest.raises(NetworkFilesystem) as refused:
        cubeport.Catalog.create(tmp_path, plugins=False)
    assert "--allow-network-filesystem" in str(refused.value.next_step)
    with pytest.warns(RuntimeWarning, match="lustre"):
        made = cubeport.Catalog.create(tmp_path, allow_network_filesystem=True, plugins=False)
    with made:
        made.add(title="kept")
    assert not list((tmp_path / ".cubeport").glob("catalog.db-*")), "a rollback journal needs no shared memory"
    with pytest.warns(RuntimeWarning, match="lustre"):
        again = cubeport.Catalog.open(tmp_path, plugins=False)
    with again:
        assert again.one().title == "kept"
        assert "network-filesystem" in {each.kind for each in again.doctor()}
    with cubeport.Catalog.open(tmp_path, read_only=True, plugins=False) as reading:
        assert reading.one().title == "kept"


@pytest.mark.usefixtures("on_lustre")
def test_tinydb_is_never_made_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not safe"):
        cubeport.Catalog.create(tmp_path, "tinydb", allow_network_filesystem=True, plugins=False)


@pytest.mark.parametrize("kind", ["sqlite", "tinydb"])
def test_a_catalog_that_came_to_a_network_file_system_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with cubeport.Catalog.create(tmp_path, kind, plugins=False) as made:
        made.add(title="kept")
    for module in (mounts, sql):
        monkeypatch.setattr(module, "mount_type", lambda path, mountinfo=None: "nfs4")
    with pytest.raises(NetworkFilesystem):
        cubeport.Catalog.open(tmp_path, plugins=False)
    with cubeport.Catalog.open(tmp_path, read_only=True, plugins=False) as reading:
        assert reading.one().title == "kept"


def test_a_user_without_a_name_is_known_by_number(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(main_catalog.getpass, "getuser", nameless)
    monkeypatch.setattr(main_catalog.os, "getuid", lambda: 4711)
    assert shell.add("--title", "x").created_by == "4711"
