"""The plugins that a process uses: all that are installed, except those that the catalog or the environment switches off."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cubeport.catalog.plugins import Plugins, discover, installed


def plugins_of(root: Path | None) -> Plugins:
    """Return the plugins of the catalog in *root*, or of none in particular."""
    disabled: Sequence[str] = ()
    # Where none is installed, the file need not be read, which takes longer than the rest of `--help`.
    if root is not None and installed():
        from cubeport.catalog.catalogfile import CATALOG_FILE, MARK, catalog_file

        if (root / MARK / CATALOG_FILE).is_file():
            disabled = catalog_file(root).plugins.disabled
    return find_plugins(disabled, wanted=True)


def find_plugins(disabled: Sequence[str], *, wanted: bool) -> Plugins:
    """Return the installed plugins except those that are switched off; none if the environment switches all off."""
    if not wanted or os.environ.get("CUBEPORT_PLUGINS") == "off":
        return Plugins()
    return discover(disabled=disabled)
