"""A new user with the documentation only: every command of the tutorial prints what it says; then R and node read the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import xarray as xr
from tests.pages import Follower, blocks

from .conftest import here, start, stop

PAGE = "tutorials/first-dataset.md"
ELSEWHERE = "tutorials/read-elsewhere.md"


def plain(text: str) -> str:
    """Return what is printed without ids of versions and times, which differ."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", re.sub(r"\b[0-9a-f]{32}\b", "VERSION", text))


@dataclass
class Session:
    """What the new user has at the end, and the service."""

    folder: Path
    url: str


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Follow the page from its first to its last line; compare each answer."""
    folder = tmp_path_factory.mktemp("new-user")
    user = Follower(folder)
    printed, compared = "", 0
    process, url = None, ""
    try:
        for block in blocks(PAGE):
            if block.title == "serve":
                process, url = start(folder / "climate")
                user.replace["http://127.0.0.1:8000"] = url
            elif block.title == "link":
                answer = httpx.get(block.text.strip().replace("http://127.0.0.1:8000", url), trust_env=False)
                assert answer.status_code == 200
                assert "Air temperature over Europe" in answer.text
                assert "2024-06-01" in answer.text
            elif block.title is not None:
                (folder / block.title).write_text(block.text)
            elif block.language == "text":
                assert plain(printed) == plain(block.text)
                compared += 1
            else:
                printed = user.run(block)
        assert compared == 8
        assert (folder / "june.png").read_bytes()[:4] == b"\x89PNG"
        yield Session(folder, url)
    finally:
        if process is not None:
            stop(process)


def code(title: str, url: str) -> str:
    return next(each.text for each in blocks(ELSEWHERE) if each.title == title).replace("http://127.0.0.1:8000", url)


def corner(session: Session) -> float:
    with xr.open_dataset(session.folder / "files" / "tas_2024-06.nc") as june:
        return float(june.tas[0, 0, 0])


def test_a_new_user_gets_from_five_files_to_a_link(session: Session) -> None:
    assert max(each.name for each in (session.folder / "files").iterdir()) == "tas_2024-06.nc"


def test_the_deleted_one_is_restored_by_its_id_as_the_page_says(session: Session) -> None:
    """By the id of its record it was restored, and then not found."""
    done = here("restore", "tsa", "--instance", session.folder / "climate")
    assert (done.returncode, done.stdout.strip()) == (0, "tsa is restored, unpublished."), done.stderr


@pytest.mark.parametrize("package", ["ncdf4", pytest.param("terra", marks=pytest.mark.slow)])
def test_r_reads_the_same_values(session: Session, package: str) -> None:
    program = shutil.which("Rscript")
    if program is None or subprocess.run([program, "-e", f"library({package})"], capture_output=True, check=False).returncode:
        pytest.skip(f"no R with {package}")
    done = subprocess.run([program, "-e", code(package, session.url)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if package == "ncdf4":
        assert done.stdout.split() == ["53", "37", f"{corner(session):.3f}"]
    else:
        assert done.stdout.split() == ["37", "53", "6", "294", "6", "294"]


@pytest.mark.conformance
@pytest.mark.timeout(300)
def test_node_reads_the_same_values(session: Session, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no node")
    installed = subprocess.run([npm, "install", "--silent", "zarrita"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"zarrita cannot be installed: {installed.stderr[-200:]}")
    (tmp_path / "read.mjs").write_text(code("read.mjs", session.url))
    done = subprocess.run([node, "read.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["6", "37", "53", "37", "53", f"{corner(session):.3f}"], done.stderr
