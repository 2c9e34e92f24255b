"""DataLad itself takes the table of files that ``export urls`` writes."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.conformance.conftest import installed

import cubeport

pytestmark = pytest.mark.conformance


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """Serve one file; yield its URL."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "there.csv").write_bytes(b"kept elsewhere\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/there.csv"
        server.shutdown()


def test_datalad_adds_and_fetches_each_file_of_the_table(pytestconfig: pytest.Config, tmp_path: Path, origin: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed, and DataLad needs it")
    programs = installed(pytestconfig, "datalad", ("datalad", "git-annex")) / "bin"
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT_"))}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path / "home")}

    def run(*command: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    with cubeport.Catalog.create(tmp_path / "instance") as catalog:
        catalog.add_bytes(b"kept here\n", filename="Ørsted & co.csv", title="Here")
        catalog.add_artifact(locator=origin, title="There", size_bytes=15)
        (tmp_path / "files.csv").write_text("".join(catalog.url_table()))

    run("git", "config", "--global", "user.name", "ana")
    run("git", "config", "--global", "user.email", "ana@example.org")
    run("datalad", "create", "dataset")
    dataset = tmp_path / "dataset"
    run("git", "config", "annex.security.allowed-ip-addresses", "127.0.0.1", cwd=dataset)
    run("git", "config", "annex.security.allowed-url-schemes", "http https file", cwd=dataset)
    run("datalad", "addurls", "../files.csv", "{url}", "{filename}", cwd=dataset)
    kept = {"Ørsted & co.csv": b"kept here\n", "there.csv": b"kept elsewhere\n"}
    assert {each.name: each.read_bytes() for each in dataset.glob("*.csv")} == kept
    for name, content in kept.items():
        run("datalad", "drop", name, cwd=dataset)
        assert not (dataset / name).exists()
        run("datalad", "get", name, cwd=dataset)
        assert (dataset / name).read_bytes() == content
    records = run("git", "annex", "metadata", "--get", "title", "there.csv", cwd=dataset)
    assert records.strip() == "There"
