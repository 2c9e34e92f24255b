"""A process that has imported what a server needs, and forks one when it is told to: a kill then costs a start, not the imports.

Under load Python needs half a minute for these imports, because the machines of a test share two cores with their readers. Each
line of the input is a command line of ``cubeport`` as JSON; the answer is the process id. When the test is killed, the input ends,
and with this process its servers.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys

MODULES = (
    *("cubeport.main.service", "cubeport.main.catalog", "cubeport.cli._app", "cubeport.cli.serving", "cubeport.server.app"),
    *("cubeport.adapters.backends.sql.postgresql", "cubeport.adapters.engines.zarr", "cubeport.adapters.ogc.api"),
    *("cubeport.server.dap", "cubeport.server.griddap", "cubeport.server.maps", "cubeport.server.ogcapi", "cubeport.server.tables"),
    *("psycopg", "sqlalchemy", "uvicorn", "xarray", "zarr", "pystac"),
)


_PDEATHSIG = 1


def main() -> None:
    """Fork for each line of the input, and run the command there."""
    import cubeport
    from cubeport.main import run

    for name in MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for one that was killed
    print(f"ready {cubeport.__path__[0]}", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os._exit(run(json.loads(line)))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
