"""How far long work is: one line that is drawn again on a terminal, one line for each phase elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cubeport.cli._session import Session

Listener = Callable[[str, int, int], None]


@contextmanager
def listener(session: Session, name: str | None = None) -> Iterator[Listener | None]:
    """Give what an ingestion reports to, or ``None`` where nobody wants to see it."""
    if not session.options.progress or session.options.quiet:
        yield None
        return
    terminal = sys.stderr.isatty()
    last = ""

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal last
        share = f" {100 * done // total:>3} %" if total else ""
        label = f"{name}: " if name else ""
        if terminal:
            sys.stderr.write(f"\r\x1b[K{label}{phase}{share}" if phase != "done" else "\r\x1b[K")
            sys.stderr.flush()
        elif phase not in (last, "done"):
            sys.stderr.write(f"{label}{phase}\n")
        last = phase

    yield tell
