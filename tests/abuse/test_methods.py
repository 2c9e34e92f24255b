"""Every address with every method: what is not taken is 405, and ``Allow`` names what is (RFC 9110, 15.5.6)."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "X")
FILLED = {"dataset_id": "absent", "collection_id": "tiny", "ingestion_id": "a" * 32, "ref": "latest", "tag": "v1"}
MORE = ("/zarr/tiny", "/zarr/tiny/", "/zarr/tiny/zarr.json", "/zarr/tiny/t/c/0/0", "/zarr/absent/zarr.json", "/zarr/", "/zarr")


@pytest.fixture(scope="module")
def url(instance: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--instance", str(instance)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        process.terminate()


def test_a_method_that_is_not_taken_is_told_what_is(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        templates = client.get("/openapi.json").json()["paths"]
        assert len(templates) > 50
        wrong = []
        refused = 0
        for number, path in enumerate((*templates, *MORE)):
            filled = re.sub(r"\{(\w+)\}", lambda found: FILLED.get(found[1], "x"), path)
            target = filled + ("", "/", "?f=html")[number % 3]
            answers = {}
            for method in METHODS:
                headers = {"Content-Type": "application/json"} if method in ("POST", "PUT", "PATCH") else {}
                answers[method] = client.request(method, target, headers=headers, content=b"{" if headers else None)
            allows = {method: answer.headers.get("allow") for method, answer in answers.items() if answer.status_code == 405}
            refused += len(allows)
            if len({*allows.values(), answers["OPTIONS"].headers.get("allow")} - {None}) > 1 or None in allows.values():
                wrong.append((target, allows))
            allowed = set((answers["OPTIONS"].headers.get("allow") or "").split(", "))
            if allowed & set(allows):
                wrong.append((target, allowed & set(allows)))
            wrong += [(target, method) for method in set(METHODS) - allowed - set(allows) if answers[method].status_code < 400]
        assert wrong == []
        assert refused > 250


@pytest.mark.parametrize("line", [b"GET /datasets HTTP/1.1", b"BREW /datasets HTTP/1.1", b"POST /health HTTP/1.1", b"* * HTTP/1.1"])
def test_so_is_a_request_of_few_words(url: str, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert (b" 405 " in head.splitlines()[0]) <= (b"\r\nallow: " in head), answer[:300]
