"""Progress of long operations: on a terminal one bar with files, bytes and the time left, elsewhere one line for each phase."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubeport.cli._session import Session

if TYPE_CHECKING:
    from rich.progress import Progress

Listener = Callable[[str, int, int], None]

_WORDS = {
    "queued": "waiting",
    "waiting": "waiting for the dataset",
    "planning": "planning",
    "sending": "sending",
    "fetching": "fetching",
    "scan": "checking",
    "start": "checking",
    "checking": "checking",
    "writing": "writing",
    "measuring": "reading back",
    "sealing": "finishing",
    "committing": "publishing",
}
"""The names of phases for people."""

_IN_BYTES = ("sending", "writing", "measuring")
"""Phases that count bytes. The others count pieces: the periods of a source, the objects of a mirror."""


@dataclass(slots=True)
class ProgressDisplay:
    """The bar, or the lines, of one command."""

    bar: Progress | None = None
    lines: bool = False
    _files: Any = None
    _work: Any = None
    _last: str = field(default="")

    def file(self, number: int, total: int, name: str) -> None:
        """Report that the *number*-th of *total* files is next."""
        if self.bar is None:
            return
        if self._files is None:
            self._files = self.bar.add_task("files", total=total, amount="")
        self.bar.update(self._files, completed=number - 1, amount=f"{number} of {total}: {name}")

    def listener(self, name: str | None = None) -> Listener | None:
        """Return the object to which an ingestion reports, or ``None`` if progress is not shown."""
        if self.bar is None and not self.lines:
            return None
        self._last = ""
        if self.bar is not None and self._work is not None:
            self.bar.remove_task(self._work)
            self._work = None

        def tell(phase: str, done: int, total: int) -> None:
            words = _WORDS.get(phase, phase)
            if self.bar is not None:
                self._drawn(words, phase, done, total)
            elif words != self._last and phase != "done":
                sys.stderr.write(f"{name}: {words}\n" if name else f"{words}\n")
            self._last = words

        return tell

    def _drawn(self, text: str, phase: str, done: int, total: int) -> None:
        assert self.bar is not None
        if phase == "done" or (text != self._last and self._work is not None):
            if self._work is not None:
                self.bar.remove_task(self._work)
                self._work = None
            if phase == "done":
                return
        if self._work is None:
            self._work = self.bar.add_task(text, total=total or None, amount="")
        amount = f"{100 * done // total:>3} %" if total else ""
        if total and phase in _IN_BYTES:
            amount += f"  {size(done)} of {size(total)}"
        elif total > 1:
            amount += f"  {done} of {total}"
        self.bar.update(self._work, completed=done, total=total or None, amount=amount)


@contextmanager
def shown(session: Session) -> Iterator[ProgressDisplay]:
    """Show progress on stderr while the context is open: a bar on a terminal, lines elsewhere, nothing with ``--no-progress``."""
    if not session.options.progress or session.options.quiet:
        yield ProgressDisplay()
        return
    if not sys.stderr.isatty():
        yield ProgressDisplay(lines=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (  # a phase of unknown length shows a moving bar and no number
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    # Output that is printed meanwhile goes above the bar, unless stdout is a file.
    terminal = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=terminal) as bar:
        yield ProgressDisplay(bar)


def size(number: int) -> str:
    """Return bytes in a readable unit: ``379 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
