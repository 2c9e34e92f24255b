"""Tasks for the tests of the gate: each does, in a child, one thing that a hostile source could make it do."""

import ctypes
import os
import resource
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
        "descriptors": [_behind(each) for each in Path("/proc/self/fd").iterdir()] if request.get("descriptors") else None,
        "here": str(Path.cwd()),
        "group": os.getpgid(0) == os.getpid(),
        "pid": os.getpid(),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("AS", "CPU", "FSIZE", "NOFILE", "CORE")
        },
        "umask": os.umask(0o077),
        "threads": threading.active_count(),
    }


def kept(request, context):
    """What a kept child has, gets and reaches."""
    if request.get("give"):
        context.give(request["give"].encode() * request.get("times", 1))
    reached = {}
    for name, path in request.get("read", {}).items():
        try:
            reached[name] = Path(path).read_text()
        except OSError as error:
            reached[name] = error.errno
    for name, path in request.get("write", {}).items():
        try:
            Path(path).write_text("planted")
            reached[name] = "worked"
        except OSError as error:
            reached[name] = error.errno
    for each in context.sources:
        try:
            os.write(each.fd, b"x")
            reached[each.name] = "worked"
        except OSError as error:
            reached[each.name] = error.errno
    return {
        "pid": os.getpid(),
        "sources": {each.name: each.path.read_text() for each in context.sources},
        "free": _lowest_free(),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0],
        "reached": reached,
    }


def _lowest_free():
    """Return the next number of a descriptor, which grows if one is left open."""
    number = os.dup(0)
    os.close(number)
    return number


def _behind(descriptor):
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return "the listing itself"


def late(request, context):
    """Open a file, then do what PROJ does: close a database that was opened in the template."""
    import gate_library

    with Path(request["file"]).open() as file:
        for _ in range(20):
            os.dup(file.fileno())  # whatever numbers are free
        ours = {int(each.name) for each in Path("/proc/self/fd").iterdir() if _behind(each) == request["file"]}
        gate_library.close()
        left = {int(each.name) for each in Path("/proc/self/fd").iterdir() if _behind(each) == request["file"]}
        return {"lost": len(ours - left)}


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
            from cubeport.adapters.sandbox import wire

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


def unshare(request, context):
    from cubeport.adapters.sandbox import child

    return {"left": child.leave_network()}


def interfaces(request, context):
    """Return the network interfaces of this child, and whether a datagram leaves it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        try:
            end.sendto(b"x", ("127.0.0.1", 9))
            sent = True
        except OSError:
            sent = False
    return {"names": sorted(name for _, name in socket.if_nameindex()), "datagram": sent}


def reach(request, context):
    """Try everything that the sandbox is to stop; tell what worked."""
    if request.get("unshare"):
        unshare(request, context)

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


def read(request, context):
    """Read one variable as a library does that knows no gate."""
    import h5py
    import netCDF4

    (source,) = context.sources
    if request["library"] == "h5py":
        with h5py.File(source.path) as file:
            return {"values": file[request["variable"]][...].ravel()[:100].tolist()}
    with netCDF4.Dataset(source.path) as file:
        return {"values": file[request["variable"]][...].filled(0).ravel()[:100].tolist()}


def mutate(request, context):
    """Scan many mutations of one source: each is passed or refused, and nothing else happens."""
    import random

    from cubeport.adapters.sandbox.child import Input
    from cubeport.adapters.sources.formats import scan

    (source,) = context.sources
    original = os.pread(source.fd, 2**26, 0)
    outcomes = {}
    for seed in range(request["from"], request["to"]):
        context.progress(str(seed), 0, 0)
        chance = random.Random(seed)
        body = bytearray(original)
        reach = min(len(body), chance.choice((64, 512, 4_096, len(body))))
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            at = chance.randrange(max(1, min(reach, len(body) - 8)))
            match chance.randrange(5):
                case 0:
                    body[at] ^= 1 << chance.randrange(8)
                case 1:
                    body[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    body[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
                case 3:
                    body[at : at + 1] = b"" if chance.randrange(2) else b"\0\0"
                case 4 if chance.randrange(4) == 0:
                    del body[max(8, at) :]
        Path("mutation").unlink(missing_ok=True)  # HDF5 takes a file of the same inode for the one that it has open
        Path("mutation").write_bytes(body)
        descriptor = os.open("mutation", os.O_RDONLY)
        try:
            scan(Input("mutation", descriptor, False), context.limits)
            outcome = "passed"
        except SourceRejected as refusal:
            outcome = refusal.reason
        finally:
            os.close(descriptor)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes
