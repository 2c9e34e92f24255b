"""Each import contract breaks when it is broken: a contract that never failed proves nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PLANTED = {
    "errors.py": "import cubeport.catalog.models",
    "service/state.py": "import fastapi",
    "catalog/models.py": "import numpy",
    "documents/ogc.py": "import h5py",
    "catalog/query.py": "import cubeport.catalog.catalog",
    "server/ogcapi.py": "import cubeport.adapters.ogc.provider",
    "client/port.py": "import cubeport.service.state",
}
"""One line that breaks each contract."""


def contracts(tree: Path) -> str:
    """Return what lint-imports says of the package below *tree*."""
    script = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [script, "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout


def test_every_contract_breaks_when_it_is_broken(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    count = len(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {count} kept, 0 broken" in contracts(tmp_path)
    for name, line in PLANTED.items():
        file = tmp_path / "src" / "cubeport" / name
        file.write_text(
            file.read_text().replace("from __future__ import annotations\n", f"from __future__ import annotations\n{line}\n", 1)
        )
    assert f"Contracts: 0 kept, {count} broken" in contracts(tmp_path)
