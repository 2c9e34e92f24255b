"""The pages on operations work as written: units, proxies with TLS, containers, backups, upgrades, monitoring, recovery."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import xarray as xr
import yaml
from tests.pages import DOCS, Follower, blocks

from cubeport import settings
from cubeport.adapters.storage.profiles import ProfileSettings

from .conftest import CUBEPORT, here, start, stop


def titled(page: str, title: str) -> str:
    """Return the block of a page with that title."""
    (found,) = [each.text for each in blocks(page) if each.title == title]
    return found


def instance(root: Path) -> Path:
    """Make an instance with one small dataset."""
    time = xr.date_range("2024-01-01", periods=2, freq="D")
    tas = xr.DataArray(np.arange(24.0, dtype="f4").reshape(2, 3, 4), dims=("time", "lat", "lon"), name="tas")
    cube = tas.to_dataset().assign_coords(time=time, lat=[50.0, 55, 60], lon=[0.0, 5, 10, 15])
    cube.lat.attrs, cube.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    source = root.with_name("tas.nc")
    cube.to_netcdf(source)
    assert here("init", root).returncode == 0
    done = here("ingest", source, "--id", "tas", "--instance", root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def climate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instance(tmp_path_factory.mktemp("operations") / "climate")


@pytest.mark.slow
def test_the_tutorial_on_recovery_works_as_written(tmp_path: Path) -> None:
    assert Follower(tmp_path).follow("tutorials/recover.md") == 6


def test_a_backup_is_made_checked_and_restored_as_written(climate: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    shutil.copytree(climate, tmp_path / "srv" / "climate")
    square = {"type": "Polygon", "coordinates": [[[0, 50], [10, 50], [10, 60], [0, 60], [0, 50]]]}
    district = {"type": "Feature", "id": "a", "properties": {"name": "A"}, "geometry": square}
    (tmp_path / "districts.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [district]}))
    zones = here("zones", "add", tmp_path / "districts.geojson", "--instance", tmp_path / "srv" / "climate")
    assert zones.returncode == 0, zones.stderr
    process, url = start(tmp_path / "srv" / "climate")
    try:
        operator = Follower(tmp_path, replace={"/srv/": f"{tmp_path}/srv/", "/backup/": f"{tmp_path}/backup/"})
        assert operator.follow("operations/backup.md") == 1
    finally:
        stop(process)
    assert "published" in operator.outputs[-1]
    process, url = start(tmp_path / "srv" / "climate")
    try:
        with xr.open_dataset(f"{url}/zarr/tas.zarr", engine="zarr", chunks=None) as opened:
            np.testing.assert_array_equal(opened.tas.values.ravel(), np.arange(24))
        assert httpx.get(f"{url}/datasets/tas/table?zones=districts&f=csv").status_code == 200, "zone sets are of the backup"
    finally:
        stop(process)


@pytest.mark.slow
def test_space_is_made_as_written(climate: Path, tmp_path: Path) -> None:
    root = tmp_path / "climate"
    shutil.copytree(climate, root)
    cubes = [*root.glob("data/store/*/*/cube.zarr")]
    (root / "config" / "service.yaml").write_text("retention: {grace_min: 0}\n")
    operator = Follower(root)
    page = (DOCS / "operations" / "sizing.md").read_text()
    steps = re.findall(r"^    ```sh\n(.*?)^    ```$", page, re.MULTILINE | re.DOTALL)
    assert [each.split()[1] for each in steps] == ["usage", "delete", "gc"]
    assert cubes
    for each in steps:
        command = each.replace("delete old", "delete tas")
        done = subprocess.run(["bash", "-eu", "-c", command], cwd=root, env=operator.environment, capture_output=True, text=True)
        assert done.returncode == 0, (each, done.stderr)
    assert [each for each in cubes if each.exists()] == []


def test_an_upgrade_goes_as_written(climate: Path) -> None:
    steps = re.findall(r"^    ```sh\n(.*?)^    ```$", (DOCS / "operations" / "upgrade.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [each.split()[1] for each in steps] == ["check-config", "migrate", "doctor", "refresh"]
    operator = Follower(climate)
    for each in steps:
        done = subprocess.run(["bash", "-eu", "-c", each], cwd=climate, env=operator.environment, capture_output=True, text=True)
        assert done.returncode == 0, (each, done.stderr)


def test_the_units_are_valid(tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("no systemd-analyze")
    found = [each for each in blocks("operations/systemd.md") if each.language == "ini"]
    assert len(found) == 5
    program = tmp_path / "cubeport"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for each in found:
        assert each.title is not None
        text = each.text.replace("/opt/cubeport/bin/cubeport", str(program)).replace("User=cubeport", "User=root")
        (tmp_path / Path(each.title).name).write_text(text.replace("Group=cubeport", "Group=root"))
    units = sorted(str(path) for path in tmp_path.glob("*.[st]*"))
    done = subprocess.run([analyse, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "cubeport" in line]
    assert (done.returncode, ours) == (0, [])
    commands = re.findall(r"^ExecStart=\S+ (.+)$", "\n".join(each.text for each in found), re.MULTILINE)
    for command in commands:
        words = command.split()
        known = here(words[0], "--help").stdout
        assert [each for each in words if each.startswith("--") and each != "--instance" and each not in known] == []


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost; return it and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    made, key = folder / "fullchain.pem", folder / "privkey.pem"
    asked = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-nodes"]
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *asked]
    subprocess.run([*command, "-out", str(made), "-keyout", str(key)], check=True, capture_output=True, timeout=60)
    return made, key


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a proxy until the block ends."""
    # A pipe that nobody reads would be full of lines about a server that has not started, and stop the proxy.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment) as process,
    ):
        try:
            for _ in range(500):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (errors.seek(0), errors.read())
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


def nginx(folder: Path, port: int, backend: int, made: Path, key: Path) -> list[str]:
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("no nginx")
    text = titled("operations/proxy.md", "nginx.conf")
    for old, new in {
        "127.0.0.1:8000": f"127.0.0.1:{backend}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name data.example.org": "server_name localhost",
        "/etc/letsencrypt/live/data.example.org/fullchain.pem": str(made),
        "/etc/letsencrypt/live/data.example.org/privkey.pem": str(key),
    }.items():
        assert old in text
        text = text.replace(old, new)
    paths = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{ access_log off; {paths}\n{text} }}")
    return [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def caddy(folder: Path, port: int, backend: int, made: Path, key: Path) -> list[str]:
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("no caddy")
    text = titled("operations/proxy.md", "Caddyfile")
    assert "data.example.org {" in text
    text = text.replace("data.example.org {", f"https://localhost:{port} {{\n\ttls {made} {key}")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{backend}")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.mark.parametrize("proxy", [nginx, pytest.param(caddy, marks=pytest.mark.slow)])
def test_a_proxy_with_tls_reads_as_written(climate: Path, tmp_path: Path, proxy: object) -> None:
    root = tmp_path / "climate"
    shutil.copytree(climate, root)
    assert callable(proxy)
    port = free_port()
    made, key = certificate(tmp_path)
    page = (DOCS / "operations" / "proxy.md").read_text()
    [written] = re.findall(r'^ +```yaml title="service.yaml"\n(.+?)^ +```$', page, re.MULTILINE | re.DOTALL)
    with (root / "config" / "service.yaml").open("a") as file:
        file.write(textwrap.dedent(written).replace("data.example.org", f"localhost:{port}"))
    added = here("keys", "add", "operator", "--scope", "admin", "--instance", root)
    assert added.returncode == 0, added.stderr
    backend = free_port()
    command = [*CUBEPORT, "serve", "--instance", str(root), "--port", str(backend)]
    with (tmp_path / "stderr").open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        with running(proxy(tmp_path, port, backend, made, key), port, {**os.environ, "HOME": str(tmp_path)}):
            trusted = ssl.create_default_context(cafile=str(made))
            with httpx.Client(base_url=f"https://localhost:{port}", verify=trusted, trust_env=False, timeout=60) as client:
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline and client.get("/health").status_code != 200:
                    time.sleep(0.1)
                collection = client.get("/stac/collections/tas").json()
                assert {each["href"].partition("/stac")[0] for each in collection["links"] if each["rel"] in ("self", "root")} == {
                    f"https://localhost:{port}"
                }
                chunk = client.get("/zarr/tas/tas/c/0/0/0", headers={"Accept-Encoding": "identity"})
                assert chunk.status_code == 200
                stored = next(root.glob("data/store/tas/*/cube.zarr/tas/c/0/0/0")).read_bytes()
                assert chunk.content == stored
                assert client.post("/datasets/tas/unpublish").status_code == 401
                written = client.post("/datasets/tas/unpublish", headers={"Authorization": f"Bearer {added.stdout.split()[0]}"})
                assert written.status_code == 200, written.text
            there = httpx.HTTPTransport(verify=trusted, local_address="127.0.0.2")
            said = {"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=198.51.100.2", "X-Real-IP": "198.51.100.3"}
            with httpx.Client(base_url=f"https://localhost:{port}", transport=there, headers=said, timeout=60) as client:
                client.get("/health?through")
            beside = httpx.HTTPTransport(local_address="127.0.0.3")  # no proxy of the page
            with httpx.Client(base_url=f"http://127.0.0.1:{backend}", transport=beside, headers=said, timeout=60) as client:
                client.get("/health?beside")
    finally:
        server.terminate()
        server.wait(timeout=60)
    lines = [line.split() for line in (tmp_path / "stderr").read_text().splitlines() if "GET /health?" in line]
    assert {line[3]: line[1] for line in lines} == {"/health?through": "127.0.0.2", "/health?beside": "127.0.0.3"}


def test_the_image_is_clean_to_a_linter_that_we_did_not_write() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", "-"], input=titled("operations/container.md", "Dockerfile"), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_new_volume_belongs_to_the_user_of_the_image() -> None:
    """Its owner is that of the folder in the image; a folder that the image does not have would be root's."""
    page = titled("operations/container.md", "Dockerfile")
    [user], [volume] = re.findall(r"^USER (\d+)$", page, re.MULTILINE), re.findall(r"^VOLUME (\S+)$", page, re.MULTILINE)
    made = re.search(
        rf"useradd .* --gid (\d+) .*\\\n +&& install --directory --owner={user} --group=(\d+) {volume}$", page, re.MULTILINE
    )
    assert made is not None
    assert made[1] == made[2]
    assert f"groupadd --system --gid {made[1]} " in page
    assert made.start() < page.index("USER")


def test_nginx_of_the_compose_file_may_read_the_chunks(climate: Path) -> None:
    """As its user and group, beside files of the image's user; cubeport is not there, so that nothing else can answer."""
    program = shutil.which("nginx")
    if program is None or os.geteuid() != 0:
        pytest.skip("no nginx, or not root: users cannot be changed")
    owner = re.search(r"--owner=(\d+) --group=(\d+)", titled("operations/container.md", "Dockerfile"))
    service = yaml.safe_load(titled("operations/container.md", "compose.yaml"))["services"]["nginx"]
    assert "unprivileged" in service["image"], "the workers of another image would have the groups of their own user"
    assert owner is not None
    user, group = service["user"].split(":")
    config = next(each.text for each in blocks("serving.md") if each.text.startswith("upstream cubeport"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        shutil.copytree(climate, folder / "instance")
        for each in (folder / "instance", *(folder / "instance").rglob("*")):
            os.chown(each, *map(int, owner.groups()))
        (folder / "instance").chmod(0o750)
        [chunk] = (folder / "instance").glob("data/store/tas/*/cube.zarr/tas/c/0/0/0")
        assert not chunk.parents[5].stat().st_mode & 0o007, "others may not read it"
        answers = {}
        for ids in ((user, group), (user, user)):
            own = folder / "-".join(ids)
            own.mkdir()
            os.chown(own, int(ids[0]), int(ids[1]))
            port = free_port()
            text = config.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{free_port()}")
            text = text.replace("/srv/instance", f"{folder}/instance")
            paths = "".join(f"{each}_temp_path {own}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            head = f"daemon off; pid {own}/pid; error_log {own}/error.log;\nevents {{}}\n"
            (own / "nginx.conf").write_text(f"{head}http {{ access_log off; {paths}\n{text} }}")
            command = [
                "setpriv",
                f"--reuid={ids[0]}",
                f"--regid={ids[1]}",
                "--clear-groups",
                program,
                "-c",
                str(own / "nginx.conf"),
            ]
            with running([*command, "-e", str(own / "error.log")], port):
                answers[ids] = httpx.get(f"http://127.0.0.1:{port}/zarr/tas@{chunk.parents[5].name}/tas/c/0/0/0", trust_env=False)
        assert answers[user, group].content == chunk.read_bytes()
        assert answers[user, user].status_code == 502, "with its own group, as the test is worth nothing otherwise"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_steps_of_the_image_make_an_instance_that_serves(request: pytest.FixtureRequest) -> None:
    """Each step runs in a new environment, with the files that the context has, and as the image's user where that is possible."""
    page = titled("operations/container.md", "Dockerfile")
    [steps] = re.findall(r"^RUN pip (install .+?) && rm -rf /src$", page, re.MULTILINE)
    [extras] = re.findall(r"^ARG EXTRAS=(\S+)$", page, re.MULTILINE)
    [user] = re.findall(r"^USER (\d+)$", page, re.MULTILINE)
    assert f"useradd --system --uid {user} " in page
    folder = Path(tempfile.mkdtemp(prefix="cubeport-image-"))  # pytest's own is closed to other users, when it is root
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    folder.chmod(0o755)
    root = DOCS.parent
    allowed = [line.removeprefix("!") for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    (folder / "src").mkdir()
    tracked = subprocess.run(["git", "ls-files", *allowed], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        target = folder / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target)
    subprocess.run([sys.executable, "-m", "venv", "--copies", folder / "env"], check=True)
    words = steps.replace("/src", str(folder / "src")).replace("$EXTRAS", extras).replace('"', "").split()
    subprocess.run(
        [folder / "env/bin/python", "-m", "pip", "--disable-pip-version-check", *words, "--quiet"], check=True, timeout=800
    )
    shutil.rmtree(folder / "src")
    home = folder / "instance"
    home.mkdir()
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    if os.geteuid() == 0 and subprocess.run([*as_user, folder / "env/bin/python", "-c", ""]).returncode == 0:
        os.chown(home, int(user), int(user))
    else:
        as_user = []  # a Python in root's own folder is not for other users
    port = free_port()
    environment = {"PATH": f"{folder / 'env/bin'}:/usr/bin:/bin", "HOME": str(home), "CUBEPORT_INSTANCE": str(home)}
    environment |= dict(re.findall(r"(CUBEPORT_SERVER__\w+)=(\S+)", page)) | {"CUBEPORT_SERVER__PORT": str(port)}
    environment |= {"CUBEPORT_PUBLIC_URL": "https://data.example.org"}
    for command in (["init", str(home)], ["keys", "add", "operator", "--scope", "admin"]):
        done = subprocess.run([*as_user, "cubeport", *command], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with subprocess.Popen([*as_user, "cubeport", "serve"], env=environment, cwd="/") as server:
        try:
            assert answered(f"http://127.0.0.1:{port}/ready").status_code == 200
            landing = httpx.get(f"http://127.0.0.1:{port}/stac", headers={"Accept": "application/json"}, trust_env=False).json()
            assert landing["links"][0]["href"].startswith("https://data.example.org/")
        finally:
            server.terminate()


def answered(url: str) -> httpx.Response:
    """Return the first answer of a server that starts."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx.get(url, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)


@pytest.mark.slow
def test_a_container_starts_with_the_settings_of_the_page(climate: Path, tmp_path: Path) -> None:
    root = tmp_path / "instance"
    shutil.copytree(climate, root)
    page = titled("operations/container.md", "Dockerfile")
    given = dict(re.findall(r"(CUBEPORT_\w+)=(\S+)", page))
    port = free_port()
    compose = yaml.safe_load(titled("operations/container.md", "compose.yaml"))
    service = compose["services"]["cubeport"]
    # The address is given when the file is used; everything else is the container's own.
    more = {name: value for name, value in service["environment"].items() if not value.startswith("${")}
    environment = {**os.environ, **given, **more, "CUBEPORT_INSTANCE": str(root), "CUBEPORT_SERVER__PORT": str(port)}
    command = re.search(r'^CMD \["cubeport", (.+)\]$', page, re.MULTILINE)
    assert command is not None
    arguments = [*CUBEPORT, *re.findall(r'"([^"]+)"', command[1])]
    for more in ({}, {"CUBEPORT_PUBLIC_URL": "https://data.example.org"}):
        refused = subprocess.run(arguments, env=environment | more, capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2, refused.stderr
        assert "public_url" in refused.stderr or "keys add" in refused.stderr
    assert here("keys", "add", "operator", "--scope", "admin", "--instance", root).returncode == 0
    with subprocess.Popen(arguments, env=environment | {"CUBEPORT_PUBLIC_URL": "https://data.example.org"}) as server:
        try:
            assert answered(f"http://127.0.0.1:{port}/ready").status_code == 200
            kind, program, *arguments = service["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "python")
            assert subprocess.run([sys.executable, *(each.replace(":8000", f":{port}") for each in arguments)]).returncode == 0
        finally:
            server.terminate()
    assert subprocess.run([sys.executable, *(each.replace(":8000", f":{port}") for each in arguments)], stderr=-3).returncode == 1


def test_the_compose_file_names_what_is_there() -> None:
    page = (DOCS / "operations" / "container.md").read_text()
    compose = yaml.safe_load(titled("operations/container.md", "compose.yaml"))
    names = {f"CUBEPORT_{each.replace('.', '__').upper()}" for each in settings.names()}
    assert set(compose["services"]["cubeport"]["environment"]) <= names
    mounted = [each.split(":")[:2] for service in compose["services"].values() for each in service["volumes"]]
    assert {name for name, _ in mounted if not name.startswith("./")} == set(compose["volumes"])
    assert all(f"docker volume create {name}" in page for name in compose["volumes"])
    assert {place for name, place in mounted if name == "cubes"} == set(re.findall(r"^VOLUME (\S+)$", page, re.MULTILINE))
    [(needed, condition)] = compose["services"]["nginx"]["depends_on"].items()
    assert condition == {"condition": "service_healthy"}
    assert "healthcheck" in compose["services"][needed]


def test_the_compose_file_of_two_servers_names_what_is_there() -> None:
    compose = yaml.safe_load(titled("operations/container.md", "compose.scale.yaml"))
    services = compose["services"]
    profiles = yaml.safe_load(titled("operations/container.md", "profiles.yaml"))["profiles"]
    names = {f"CUBEPORT_{each.replace('.', '__').upper()}" for each in settings.names()}
    for name in ("one", "two"):
        given = services[name]["environment"]
        assert {each for each in given if each.startswith("CUBEPORT_")} <= names
        profile = ProfileSettings.model_validate(profiles[given["CUBEPORT_PROFILE"]])
        assert "data" in profile.use
        assert {profile.key_env, profile.secret_env} <= set(given)
        assert urlsplit(profile.endpoint_url).hostname in services
        assert urlsplit(re.sub(r"\$\{[^}]*\}", "secret", given["CUBEPORT_CATALOG_URL"])).hostname in services
        extras = services[name]["build"]["args"]["EXTRAS"].split(",")
        assert set(extras) <= set(tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert "ARG EXTRAS=" in titled("operations/container.md", "Dockerfile")
    for service in services.values():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[other]
    mounted = {each.split(":")[0] for service in services.values() for each in service["volumes"]}
    assert {each for each in mounted if not each.startswith("./")} == set(compose["volumes"])
    assert set(services["nginx"]["depends_on"]) == {"one", "two"}


def test_a_supervisor_is_told_and_lines_are_json_objects(climate: Path, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    environment = {**os.environ, "NOTIFY_SOCKET": str(address), "CUBEPORT_LOG__FORMAT": "json", "CUBEPORT_LOG__ACCESS": "true"}
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor,
        ThreadPoolExecutor(1) as early,
    ):
        supervisor.bind(str(address))
        supervisor.settimeout(120)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/datasets?q=a%0Ab"
        waiting = early.submit(httpx.get, url, trust_env=False, timeout=120)  # before there is a server
        # As systemd does it: the socket is descriptor 3, and LISTEN_PID names the process that it is for.
        script = f'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&{listening.fileno()}'
        command = ["bash", "-c", script, "bash", *CUBEPORT, "serve", "--instance", str(climate)]
        with subprocess.Popen(
            command,
            env=environment,
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as server:
            assert supervisor.recv(100) == b"READY=1"
            answer = waiting.result()
            assert answer.status_code == 200
            server.terminate()
            assert supervisor.recv(100) == b"STOPPING=1"
            _, text = server.communicate(timeout=90)
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "logger"} <= set.intersection(*(set(line) for line in lines))
    (line,) = [each for each in lines if each["logger"] == "cubeport.access"]
    told = {name: line[name] for name in ("method", "target", "route", "status", "bytes", "request_id")}
    assert told == {
        "method": "GET",
        "target": "/datasets?q=a%0Ab",
        "route": "/datasets",
        "status": 200,
        "bytes": int(answer.headers["content-length"]),
        "request_id": answer.headers["x-request-id"],
    }


def test_monitoring_works_as_written(climate: Path) -> None:
    process, url = start(climate)
    try:
        operator = Follower(climate, replace={"http://127.0.0.1:8000": url})
        operator.follow("operations/monitoring.md")
        assert '"status":"ok"' in operator.outputs[0]
        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    finally:
        stop(process)
    rules = titled("operations/monitoring.md", "rules.yml")
    named = set(re.findall(r"\b(cubeport_\w+)", rules))
    assert {"cubeport_check", "cubeport_requests_total", "cubeport_request_seconds_bucket", "cubeport_jobs"} <= named
    listed = set(re.findall(r"`((?:cubeport|process)_\w+)`", (DOCS / "operations" / "monitoring.md").read_text()))
    assert listed == set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    assert {name for name in named if not re.search(rf"^{name}[ {{]", metrics, re.MULTILINE)} == set()
    assert operator.outputs[1].split()[:3] == [
        "cubeport_requests_total",
        "cubeport_response_bytes_total",
        "cubeport_request_seconds",
    ]
