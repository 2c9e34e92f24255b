"""Names below a version's folder, and the grammar of keys (publishing.md 4). It imports nothing heavy: faces read by it."""

from __future__ import annotations

import re

CUBE = "cube.zarr"
"""The served tree."""

MANIFEST = "manifest.json"
"""Beside it: ``{algorithm, entries[{key, size, sha256}]}``, sorted; its own sha256 is the version's digest."""

METADATA = "zarr.json"

NODE = r"(?!\.{1,2}(?:/|\Z)|__)[A-Za-z0-9_.+@-]{1,128}"
KEY = re.compile(rf"(?:{NODE}/)*(?:zarr\.json|c(?:/(?:0|[1-9][0-9]{{0,9}}))*)")
"""``key = *(node "/") leaf``."""
