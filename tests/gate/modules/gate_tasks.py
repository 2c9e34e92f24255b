"""Tasks for the tests of the gate: each does, in a child, one thing that a hostile source could make it do."""

import ctypes
import os
import signal
import socket
import threading
import time
from pathlib import Path

from cubeport.errors import NoData, Problem, SourceRejected


def echo(request, context):
    context.progress("echo", 1, 2)
    return {
        "request": request,
        "environment": dict(os.environ),
        "sources": [[each.name, os.read(each.fd, 100).decode() if not each.is_folder else None] for each in context.sources],
        "by_path": [each.path.read_text() for each in context.sources if not each.is_folder],
        "descriptors": sorted(int(each.name) for each in Path("/proc/self/fd").iterdir()) if request.get("descriptors") else None,
        "here": str(Path.cwd()),
        "group": os.getpgid(0) == os.getpid(),
        "pid": os.getpid(),
        "threads": threading.active_count(),
    }


def refuse(request, context):
    match request["how"]:
        case "ours":
            raise NoData("nothing there", next_step="look elsewhere", errors=[Problem(("a", 0), "k", "w")], what="time")
        case "rejected":
            raise SourceRejected("no", reason="bad-time", source="x.nc", setting="limits.declared_bytes", limit=1, value=2)
        case "bug":
            raise KeyError("planted")
        case "nan":
            return {"value": float("nan")}
        case "long":
            return {"value": "x" * (9 * 2**20)}
        case "list":
            return []
        case "garbled":
            context._channel.sendall(b"\0\0\0\x02{]")
        case "huge-frame":
            context._channel.sendall(b"\xff\xff\xff\xff")
        case "forged":
            from cubeport.adapters.gate import wire

            wire.send(
                context._channel, {"error": {"kind": "no-such-kind", "message": "", "next_step": None, "errors": [], "members": {}}}
            )
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "memory":
            held = []
            while True:
                held.append(bytearray(2**26))
        case "cpu":
            while True:
                pass
        case "sleep":
            time.sleep(600)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Path(request["file"]).write_text(str(os.getpid()))
            for leave in (False, True):
                if os.fork() == 0:
                    if leave:
                        os.setsid()
                    time.sleep(600)
            time.sleep(600)
        case "file":
            with Path("big").open("wb") as file:
                file.writelines(b"x" * 2**20 for _ in range(10))
        case "point":
            context.fail_point("bytes:half")
            return {"went": "on"}
        case "change":
            os.utime(request["path"])
    return {}


def reach(request, context):
    """Try everything that the sandbox is to stop; tell what worked."""

    def attempt(what):
        try:
            what()
        except OSError as error:
            return error.errno
        return "worked"

    def connect():
        with socket.socket() as end:
            end.settimeout(5)
            end.connect(("127.0.0.1", request["port"]))

    return {
        "read": attempt(lambda: Path(request["secret"]).read_text()),
        "list": attempt(lambda: list(Path(request["folder"]).iterdir())),
        "write": attempt(lambda: Path(request["folder"], "planted").write_text("x")),
        "environ": attempt(lambda: Path(f"/proc/{request['pid']}/environ").read_bytes()),
        "signal": attempt(lambda: os.kill(request["pid"], 0)),
        "connect": attempt(connect),
        "link": attempt(lambda: Path("link").symlink_to("/etc/passwd")),
        "fifo": attempt(lambda: os.mkfifo("fifo")),
        "inside": attempt(lambda: Path("inside").write_text("x")),
        "beside": [attempt(lambda each=each: Path(each, "x").write_text("x")) for each in request["read_only"]],
        "readable": [attempt(lambda each=each: list(Path(each).iterdir())) for each in request["read_only"]],
    }
