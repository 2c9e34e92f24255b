"""Plugin packages laid out as an installer does: a module and its metadata in a folder of the path."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path


def lay_out(package: Path, site: Path) -> None:
    """Put the modules of *package*, a folder with a ``pyproject.toml``, and its metadata into *site*."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))
    for module in package.glob("*.py"):
        shutil.copy(module, site)
