"""What this process holds open, told one by one: a count moves when the garbage of another test is collected."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path


def held() -> Counter[str]:
    """Return what the descriptors of this process name, each as often as it is held."""
    named: Counter[str] = Counter()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the one that listed the folder is closed by now
            named[str(descriptor.readlink())] += 1
    return named


def left_since(before: Counter[str]) -> list[str]:
    """Return what is held now and was not ``before``: what has been closed meanwhile does not hide it."""
    return sorted((held() - before).elements())
