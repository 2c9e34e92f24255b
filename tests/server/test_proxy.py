"""docs/serving.md: the nginx configuration there, taken as it is, sends the same bytes with our status, ETag and access."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import xarray as xr

from cubeport.server.app import App

from .conftest import V1, V2, FakeEngine, FakeService, Live, cube, make_parts

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "serving.md"


@pytest.fixture
def proxied(tmp_path: Path, service: FakeService, engine: FakeEngine, store: Path, offload: str) -> Iterator[str]:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("no nginx")
    served = tmp_path / "store"
    for version in (V1, V2):
        shutil.copytree(store, served / "sea" / version / "cube.zarr")
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    parts = lambda _: App(make_parts(service, engine, public_url=url, offload="none" if offload == "metadata too" else offload))  # noqa: E731
    with Live(parts) as live:
        block, metadata_too, internal = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if instead := {"none": "", "metadata too": metadata_too, "x-accel-redirect": internal}[offload]:
            block = re.sub(r"    location ~ .*?\n    }\n", lambda _: instead, block, flags=re.DOTALL)
        block = block.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{live.port}")
        block = block.replace("/srv/instance/data/store/", f"{served}/")
        paths = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\nevents {{}}\n"
        (tmp_path / "nginx.conf").write_text(f"{text}http {{ access_log off; {paths}\n{block} }}")
        with subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]) as process:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (tmp_path / "error.log").read_text()
                time.sleep(0.02)
            yield url
            process.terminate()


@pytest.mark.parametrize("offload", ["x-accel-redirect"])
def test_the_proxy_sends_the_bytes_and_we_decide(proxied: str, store: Path, service: FakeService) -> None:
    with httpx.Client(base_url=proxied) as client:
        chunk, whole = f"/zarr/sea@{V1}/sst/c/0/0/0", (store / "sst/c/0/0/0").read_bytes()
        answer = client.get(chunk)
        assert (answer.status_code, answer.content) == (200, whole)
        assert "x-accel-redirect" not in answer.headers
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cubeport-version"] == V1
        assert answer.headers["access-control-allow-origin"] == "*"
        assert client.get(chunk, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        part = client.get(chunk, headers={"Range": "bytes=-5"})
        assert (part.status_code, part.content) == (206, whole[-5:])
        assert client.get(f"/zarr/sea@{V1}/sst/c/1/1/1").status_code == 404
        assert client.get(f"/_cubeport/sea/{V1}/cube.zarr/zarr.json").status_code == 404
        with xr.open_dataset(f"{proxied}/zarr/sea.zarr", engine="zarr", chunks=None) as opened:
            xr.testing.assert_identical(opened.load(), xr.decode_cf(cube()).load())
        assert client.post("/datasets/sea/unpublish").status_code == 401
        service.unpublish("sea")
        assert client.get(chunk).status_code == 410


@pytest.mark.parametrize("offload", ["none"])
def test_the_proxy_sends_chunks_of_versions_and_asks_for_all_else(
    proxied: str, store: Path, service: FakeService, engine: FakeEngine
) -> None:
    with httpx.Client(base_url=proxied) as client:
        chunk, whole = f"/zarr/sea@{V1}/sst/c/0/0/0", (store / "sst/c/0/0/0").read_bytes()
        engine.reads.clear()
        for address in (chunk, chunk.replace("@", "%40"), chunk.replace("/sst", ".zarr/sst")):
            answer = client.get(address)
            assert (answer.status_code, answer.content) == (200, whole), address
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["cubeport-version"] == V1
            assert answer.headers["access-control-allow-origin"] == "*"
            assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        part = client.get(chunk, headers={"Range": "bytes=-5"})
        assert (part.status_code, part.content) == (206, whole[-5:])
        assert engine.reads == [], "cubeport was not asked"
        absent = client.get(f"/zarr/sea@{V1}/sst/c/1/1/1")
        assert (absent.status_code, absent.json()["kind"]) == (404, "not-found")
        up = "%2e%2e"
        for bad in (f"{V1}/../{V2}/sst/c/0/0/0", f"{V1}/sst/{up}/{up}/manifest.json", f"{V1}/sst/c"):
            assert client.get(f"/zarr/sea@{bad}").status_code == 404, bad
        with xr.open_dataset(f"{proxied}/zarr/sea@{V1}.zarr", engine="zarr", chunks=None) as opened:
            xr.testing.assert_identical(opened.load(), xr.decode_cf(cube()).load())
            service.unpublish("sea")
            assert client.get(chunk).status_code == 200, "a reader that began finishes its read"
            assert client.get(f"/zarr/sea@{V1}/zarr.json").status_code == 410, "and nobody opens it any more"
            assert client.get(f"/zarr/sea@{V1}/sst/c/1/1/1").status_code == 410


@pytest.mark.parametrize("offload", ["metadata too"])
def test_the_proxy_sends_metadata_too(proxied: str, store: Path, service: FakeService, engine: FakeEngine) -> None:
    with httpx.Client(base_url=proxied) as client:
        engine.reads.clear()
        for key in ("zarr.json", "sst/zarr.json", "sst/c/0/0/0"):
            for address in (f"/zarr/sea@{V1}/{key}", f"/zarr/sea@{V1}.zarr/{key}"):
                answer = client.get(address)
                assert (answer.status_code, answer.content) == (200, (store / key).read_bytes()), address
                kind = "application/json" if key.endswith("json") else "application/octet-stream"
                assert answer.headers["content-type"] == kind
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                assert answer.headers["cubeport-version"] == V1
                assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert engine.reads == [], "cubeport was not asked"
        with xr.open_dataset(f"{proxied}/zarr/sea@{V1}.zarr", engine="zarr", chunks=None) as opened:
            xr.testing.assert_identical(opened.load(), xr.decode_cf(cube()).load())
        assert client.get("/zarr/sea/zarr.json").headers["cache-control"] == "no-cache", "a plain address is ours"
        assert engine.reads == ["sst/c/1/1/1", "zarr.json"], "and so is what is not stored"
        assert client.get(f"/zarr/sea@{V1}/nothing/zarr.json").status_code == 404
        up = "%2e%2e"
        for bad in (f"{V1}/../manifest.json", f"{V1}/{up}/manifest.json", f"{V1}/{up}/{up}/{V2}/cube.zarr/zarr.json"):
            assert client.get(f"/zarr/sea@{bad}").status_code == 404, bad
        service.unpublish("sea")
        assert client.get("/zarr/sea/zarr.json").status_code == 410
        assert client.get(f"/zarr/sea@{V1}/zarr.json").status_code == 200, "what the page warns of"


@pytest.mark.parametrize("offload", ["none", "metadata too"])
def test_the_proxy_follows_no_link_out_of_the_store(proxied: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "0").write_bytes(b"secret")
    array = tmp_path / "store" / "sea" / V1 / "cube.zarr" / "sst"
    (array / "c" / "0" / "7").symlink_to(secret)
    (array / "c" / "0" / "0" / "7").symlink_to(secret / "0")
    with httpx.Client(base_url=proxied) as client:
        assert client.get(f"/zarr/sea@{V1}/sst/c/0/0/0").status_code == 200
        for key in ("c/0/7/0", "c/0/0/7"):
            answer = client.get(f"/zarr/sea@{V1}/sst/{key}")
            assert answer.status_code in (403, 404), key
            assert b"secret" not in answer.content


FULL = """
import re, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

disk, folder, block = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_text()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(bytes(24 << 20))

    def do_POST(self):
        self.answer(b"%d" % len(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
block = re.sub(r"ssl_.*;|max_fails.*?(?=;)", "", block)
block = re.sub(r"listen [^;]*;", f"listen 127.0.0.1:{port};", block)
block = re.sub(r"(server [a-z0-9.]+:8000[^;]*;\\s*)+", f"server 127.0.0.1:{server.server_port};", block)
paths = "".join(f"{name}_temp_path {disk}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
text = f"user root; daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
(folder / "nginx.conf").write_text(text + f"http {{ access_log off; {paths} {block} }}")
with subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-e", folder / "error.log"]) as process:
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        try:
            with (disk / "fill").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        except OSError:
            pass
        url = f"http://127.0.0.1:{port}/datasets"
        got = 0
        with httpx.stream("GET", url, timeout=60, trust_env=False) as answer:
            time.sleep(0.5)  # a reader that is slower than the server
            for part in answer.iter_raw():
                got += len(part)
        sent = httpx.post(url, content=bytes(2_000_000), timeout=60, trust_env=False)
        print(got, sent.status_code, sent.text)
    finally:
        process.terminate()
"""


@pytest.mark.parametrize("page", ["serving.md", "operations/proxy.md", "operations/failover.md"])
def test_a_full_disk_of_the_proxy_cuts_nothing_off(on_a_small_disk: Callable[..., str], tmp_path: Path, page: str) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx")
    block = next(each for each in re.findall(r"```nginx.*?\n(.*?)```", (DOCS / page).read_text(), re.DOTALL) if "upstream" in each)
    folder = tmp_path.parent / f"{tmp_path.name}-nginx"
    folder.mkdir()
    (folder / "block").write_text(block)
    said = on_a_small_disk(FULL, str(folder), str(folder / "block"), size="256k")
    assert said.split() == [str(24 << 20), "200", "2000000"], (folder / "error.log").read_text()
