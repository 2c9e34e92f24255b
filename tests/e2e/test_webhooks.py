"""A receiver that is a process of its own is told of every commit, through failures, a hanging answer and a killed server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli, here, start, stop

RECEIVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
folder = Path(sys.argv[1])

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with (folder / "got").open("a") as file:
            headers = {k.lower(): v for k, v in self.headers.items()}
            file.write(json.dumps({"headers": headers, "body": body, "path": self.path}) + "\\n")
        word = (folder / "answer").read_text()
        if word == "hang":
            time.sleep(60)
        self.send_response(int(word))
        if word == "302":
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
(folder / "port.new").write_text(str(server.server_address[1]))
(folder / "port.new").rename(folder / "port")
server.serve_forever()
"""
SECRET = "a secret of more than sixteen bytes"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "receiver"
    folder.mkdir()
    (folder / "answer").write_text("200")
    (folder / "got").touch()
    process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(folder)])
    wait(lambda: (folder / "port").exists())
    yield folder
    process.kill()
    process.wait()


def wait(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


def got(receiver: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (receiver / "got").read_text().splitlines()]


def reasons(receiver: Path) -> list[str]:
    return [json.loads(each["body"])["reason"] for each in got(receiver) if "reason" in each["body"]]


def test_changes_reach_a_real_receiver_signed_through_failures_and_a_kill(
    tmp_path: Path, receiver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "i"
    assert here("init", root).returncode == 0
    origin = f"http://127.0.0.1:{(receiver / 'port').read_text()}"
    with (root / "config/service.yaml").open("a") as file:
        file.write(f"webhooks:\n  origins: ['{origin}']\n  targets: [{{url: '{origin}/in?k=v', secret_env: HOOK_SECRET}}]\n")
    refused = cli("serve", "--instance", root, "--port", "0")
    assert (refused.returncode, "HOOK_SECRET" in refused.stderr) == (2, True)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    source = tmp_path / "t.nc"
    coords = {"lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}), "lon": ("lon", [1.0, 2.0], {"units": "degrees_east"})}
    xr.Dataset({"t": (("lat", "lon"), np.zeros((2, 2)))}, coords).to_netcdf(source)

    process, url = start(root)
    try:
        hook = wait(lambda: httpx.get(f"{url}/webhooks", trust_env=False).json()["items"])[0]
        wait(lambda: httpx.get(f"{url}/webhooks", trust_env=False).json()["items"][0]["state"] == "up-to-date")
        assert (hook["origin"], "k=v" in json.dumps(hook)) == (origin, False)
        # The command line is another process: its commits are told all the same.
        with cubeport.connect(root) as service:
            done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(source),)))
            assert done.status == "completed", done.error
        wait(lambda: reasons(receiver) == ["created"])
        [first] = got(receiver)
        signed = f"{first['headers']['webhook-id']}.{first['headers']['webhook-timestamp']}.{first['body']}".encode()
        expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
        assert first["headers"]["webhook-signature"] == f"v1,{expected}"
        assert first["path"] == "/in?k=v"
        assert json.loads(first["body"])["href"] == f"{url}/datasets/t"
        # A redirect is a failure and is not followed; the commit does not wait for it; then it is taken.
        (receiver / "answer").write_text("302")
        began = time.monotonic()
        assert httpx.patch(f"{url}/datasets/t", json={"title": "T"}, timeout=60, trust_env=False).status_code == 200
        assert time.monotonic() - began < 10
        wait(lambda: len(got(receiver)) == 2)
        (receiver / "answer").write_text("200")
        wait(lambda: len(got(receiver)) == 3)
        assert {each["path"] for each in got(receiver)} == {"/in?k=v"}
        assert got(receiver)[1]["headers"]["webhook-id"] == got(receiver)[2]["headers"]["webhook-id"]
        said = here("webhooks", "test", hook["webhook_id"], "--instance", root)
        assert (said.returncode, said.stdout) == (0, f"{origin}: took it: 200\n")
        # The receiver hangs while the server is killed: what was under way is sent again, with its id, and nothing is lost.
        (receiver / "answer").write_text("hang")
        httpx.post(f"{url}/datasets/t/unpublish", timeout=60, trust_env=False)
        httpx.post(f"{url}/datasets/t/publish", timeout=60, trust_env=False)
        wait(lambda: reasons(receiver)[-1] == "unpublished")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (receiver / "answer").write_text("200")
    process, url = start(root)
    try:
        wait(lambda: reasons(receiver)[-1] == "published")
        assert reasons(receiver) == ["created", "metadata", "metadata", "unpublished", "unpublished", "published"]
        ids = [each["headers"]["webhook-id"] for each in got(receiver) if "reason" in each["body"]]
        assert (ids[3], len(set(ids))) == (ids[4], 4)
        listed = wait(lambda: here("webhooks", "list", "--json", "--instance", root))
        assert json.loads(listed.stdout)["items"][0]["state"] == "up-to-date", listed.stdout
        reader = httpx.get(f"{url}/webhooks", headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False)
        assert reader.status_code == 401
    finally:
        stop(process)
    assert SECRET not in "".join(path.read_text(errors="replace") for path in root.rglob("*") if path.is_file()), (
        "the secret is nowhere in the instance"
    )
