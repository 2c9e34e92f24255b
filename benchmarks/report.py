"""What every benchmark does with its table: print it and, with ``--write PAGE``, put it into its section of that page."""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--write``, to which a benchmark adds its own options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page whose section is replaced, or appended if it has none")
    return parser


def report(table: str, page: Path | None, *, heading: str, command: str) -> None:
    """Print *table* and, if there is a *page*, replace the section *heading* in it, or append it."""
    print(table)
    if page is None:
        return
    text = page.read_text() if page.exists() else "# Performance\n"
    section = f"{heading}\n\n`{command}`\n\n{table}\n"
    before, found, after = text.partition(f"{heading}\n")
    rest = re.search(r"^## ", after, re.MULTILINE)
    tail = after[rest.start() :] if found and rest else ""
    page.write_text(f"{before.rstrip()}\n\n{section}" + (f"\n{tail}" if tail else ""))
