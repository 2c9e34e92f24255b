"""A server whose disk is full: 507, not 503; ``/ready`` says so; reads go on; and it recovers by itself when space returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import httpx
from e2e.conftest import cli, start, stop

disk, source = Path(sys.argv[1]), sys.argv[2]
root, fill = disk / "instance", disk / "fill"
assert cli("init", root, "--allow-root", Path(source).parent).returncode == 0
process, url = start(root)
said = {}

def call(name, method, path, **body):
    answer = httpx.request(method, url + path, timeout=60, trust_env=False, **({"json": body} if body else {}))
    said[name] = [answer.status_code, answer.json()]

def full():
    with fill.open("wb", buffering=0) as file:  # otherwise Python 3.12 writes again at the end
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

try:
    call("made", "POST", "/ingestions", dataset_id="one", source=source)
    call("ready before", "GET", "/ready")
    full()
    call("post", "POST", "/ingestions", dataset_id="two", source=source)
    call("again", "POST", "/ingestions", dataset_id="two", source=source)
    call("unpublish", "POST", "/datasets/one/unpublish")
    call("ready", "GET", "/ready")
    call("read", "GET", "/datasets/one")
    done = cli("unpublish", "one", "--instance", root)
    said["cli"] = [done.returncode, done.stderr]
    fill.unlink()
    call("ready after", "GET", "/ready")
    call("back", "POST", "/ingestions", dataset_id="two", source=source)
    call("unpublished", "POST", "/datasets/one/unpublish")
    said["left"] = [len(list((root / ".cubeport/journal/open").iterdir())), len(list((root / "data/staging").iterdir()))]
finally:
    stop(process)
print(json.dumps(said))
"""


def test_a_server_on_a_full_disk_recovers_by_itself(on_a_small_disk: Callable[..., str], realdata: Path) -> None:
    said = json.loads(on_a_small_disk(SCRIPT, str(realdata / "test_lcc.nc"), size="24m").splitlines()[-1])
    assert (said["made"][0], said["ready before"][0]) == (200, 200), said["made"]
    for name in ("post", "again", "unpublish"):
        assert (said[name][0], said[name][1]["kind"]) == (507, "no-space"), (name, said[name])
    assert said["ready"][0] == 503
    assert said["ready"][1]["checks"]["space"] == "no-space"
    assert said["read"][0] == 200, "reading needs no space"
    assert said["cli"][0] == 6
    assert "error[no-space]" in said["cli"][1]
    assert said["ready after"] == said["ready before"]
    assert said["back"][0] == 200, said["back"]
    assert said["back"][1]["status"] == "completed"
    assert said["unpublished"][0] == 200
    assert said["left"] == [0, 0]


LEVELS = """
import json, os, sys
from pathlib import Path
import httpx
from e2e.conftest import cli, start, stop

disk, source = Path(sys.argv[1]), sys.argv[2]
root, fill, said = disk / "instance", disk / "fill", []
assert cli("init", root, "--allow-root", Path(source).parent).returncode == 0
process, url = start(root)

def call(method, path, **body):
    answer = httpx.request(method, url + path, timeout=120, trust_env=False, **({"json": body} if body else {}))
    return answer.status_code, answer.json()

def leave(room):
    status = os.statvfs(disk)
    with fill.open("wb", buffering=0) as file:
        left = status.f_bavail * status.f_frsize - room
        while left > 0:
            left -= file.write(bytes(min(left, 65536)))

try:
    assert call("POST", "/ingestions", dataset_id="first", source=source)[0] == 200
    [size] = [each["size_bytes"] for each in call("GET", "/datasets/first/versions")[1]["items"]]
    for number, share in enumerate((0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.2, 1.6, 3.0)):
        leave(int(share * size))
        code, answer = call("POST", "/ingestions", dataset_id=f"n{number}", source=source)
        read = call("GET", "/datasets/first")[0]
        fill.unlink()
        there = call("GET", f"/datasets/n{number}")[0]
        said.append([share, code, answer.get("kind"), read, there, answer.get("detail")])
    left = len(list((root / "data/staging").iterdir()))
    last = call("POST", "/ingestions", dataset_id="last", source=source)[0]
finally:
    stop(process)
print(json.dumps({"said": said, "left": left, "last": last}))
"""


@pytest.mark.slow
def test_a_disk_full_at_any_of_eleven_levels_is_named_or_the_work_is_done(
    on_a_small_disk: Callable[..., str], realdata: Path
) -> None:
    told = json.loads(on_a_small_disk(LEVELS, str(realdata / "test_lcc.nc"), size="48m").splitlines()[-1])
    for share, code, kind, read, there, detail in told["said"]:
        assert read == 200, (share, "reading needs no space")
        assert (code, kind, there) in ((507, "no-space", 404), (200, "ingestion", 200)), (share, code, kind, there, detail)
    assert {code for _, code, *_ in told["said"]} == {200, 507}
    assert (told["left"], told["last"]) == (0, 200)
