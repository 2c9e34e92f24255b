"""``doctor`` on the machine: what confines the gate, and which libraries are too old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Shell

from cubeport.adapters.sandbox import landlock, surroundings
from cubeport.catalog.backend import Finding


def of(kind: str) -> dict[str, Finding]:
    return {each.place: each for each in surroundings.findings("prefer") if each.kind == kind}


def installed(site: Path, name: str, version: str) -> None:
    """Put the metadata of a package at the front of the path."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_doctor_names_each_library_with_its_version(shell: Shell) -> None:
    from importlib.metadata import version

    said = {each["place"]: each for each in shell.ok("doctor", "--json").json if each["kind"] == "library"}
    for name in ("pydantic", "sqlalchemy", "zarr", "h5py", "pygeoapi", "httpcore", "h11"):
        assert (said[name]["message"], said[name]["level"]) == (f"is {version(name)}", "ok")


@pytest.mark.parametrize(
    ("name", "version", "level"),
    [
        ("zarr", "3.3.9", "warn"),
        ("zarr", "3.4", "ok"),
        ("zarr", "3.4.0rc1", "ok"),
        ("zarr", "3.10", "ok"),
        ("zarr", "10", "ok"),
        ("pygeoapi", "0.23.4", "warn"),
        ("pydantic-settings", "2.15", "warn"),
        ("httpcore", "1.0.8", "warn"),
        ("icechunk", "2.2", "warn"),
        ("icechunk", "2.3.0", "ok"),
    ],
)
def test_a_version_below_its_floor_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, level: str
) -> None:
    installed(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    found = of("library")[name]
    assert found.level == level
    assert version in found.message
    assert (found.next_step or "").startswith(f"pip install '{name}>=") == (level == "warn")


def test_no_library_is_imported_for_it() -> None:
    heavy = "{'xarray', 'zarr', 'numpy', 'h5py', 'httpcore', 'fastapi', 'pygeoapi'}"
    looks = "from cubeport.adapters.sandbox.surroundings import findings; list(findings('prefer'))"
    script = f"import sys; {looks}; print(sys.modules.keys() & {heavy})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("setting", "abi", "network", "level", "words"),
    [
        ("prefer", 7, True, "ok", "only their sources, by Landlock version 7, and no network"),
        ("require", 7, False, "ok", "and no TCP"),
        ("prefer", 3, False, "ok", "and the network of the service"),
        ("prefer", 0, True, "warn", "can reach all files of the service, and no network"),
        ("prefer", 0, False, "warn", "can reach all files of the service, and its network"),
        ("require", 0, True, "error", "every source will be refused"),
        ("off", 7, True, "warn", "gate.sandbox is off"),
    ],
)
def test_the_sandbox_that_children_will_have(setting: str, abi: int, network: bool, level: str, words: str) -> None:
    found = surroundings.sandbox(setting, abi, lambda: network)
    assert (found.level, words in found.message) == (level, True)
    assert (found.next_step is None) == (level == "ok")


def test_doctor_reports_the_sandbox_of_this_machine(shell: Shell) -> None:
    found = next(each for each in shell("doctor", "--json").json if each["place"] == "gate")
    assert found["level"] == ("ok" if landlock.abi() else "warn")


def test_doctor_reports_the_sandbox_that_the_settings_ask_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBEPORT_GATE__SANDBOX", "off")
    found = next(each for each in shell("doctor", "--json").json if each["place"] == "gate")
    assert (found["level"], "gate.sandbox is off" in found["message"]) == ("warn", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="asks what root is reported")
def test_doctor_warns_root(shell: Shell) -> None:
    (found,) = [each for each in shell("doctor", "--json").json if each["kind"] == "sandbox" and each["place"] == "user"]
    assert (found["level"], found["next_step"]) == ("warn", "run cubeport as a dedicated user")
