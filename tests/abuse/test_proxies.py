"""Without a key, nobody writes through a proxy or a tunnel, not even through one of the same user that adds no header.

Both kinds are in front of a real server of an instance as ``init`` makes it, where a caller on this machine needs no key.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

FORWARDER = """
import socket, sys, threading

def pump(source, target):
    while piece := source.recv(65536):
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)

listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = listening.accept()
    server = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for ends in ((client, server), (server, client)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
"""
# What nginx 1.29.7 and later do without being told: HTTP/1.1, the Host of the upstream, and no header of its own.
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr; {user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def server(instance: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--instance", str(instance)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        process.terminate()


@pytest.fixture(params=["forwarder", "nginx"])
def proxied(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    upstream = server.rpartition(":")[2]
    command = [sys.executable, "-c", FORWARDER, str(port), upstream]
    if request.param == "nginx":
        nginx = shutil.which("nginx")
        if nginx is None:
            pytest.skip("no nginx")
        name = pwd.getpwuid(os.geteuid()).pw_name
        user = f"user {name};" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, upstream=upstream, user=user))
        command = [nginx, "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def test_nobody_writes_through_it_without_a_key(server: str, proxied: str, instance: Path) -> None:
    token = {"Authorization": "Bearer " + (instance / ".cubeport" / "local-token").read_text().strip()}
    # The client may say that it asks for the loopback address: a tunnel passes that on as it is.
    here = {"Host": server.removeprefix("http://")}
    with httpx.Client(trust_env=False, timeout=60) as client:
        assert client.post(f"{server}/datasets/tiny/publish").status_code == 200
        assert client.get(f"{proxied}/datasets/tiny", headers=here).status_code == 200
        for path in ("/datasets/tiny/publish", "/datasets/tiny/unpublish", "/ingestions"):
            refused = client.post(proxied + path, headers=here, json={"dataset_id": "tiny"} if path == "/ingestions" else None)
            assert (refused.status_code, refused.json()["kind"]) == (401, "unauthorized"), path
            assert "local-token" in refused.text
        assert client.get(f"{proxied}/metrics", headers=here).status_code == 401
        assert client.delete(f"{proxied}/datasets/tiny", headers=here).status_code == 401
        assert client.post(f"{proxied}/datasets/tiny/publish", headers=here | token).status_code == 200
        assert client.post(f"{server}/datasets/tiny/publish").status_code == 200
