"""Wall and processor time of this process and of the confined children, which a template process forks and waits for."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Spent:
    """Seconds."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, number: float) -> Spent:
        return Spent(self.wall / number, self.cpu / number)


def now() -> Spent:
    """Return the time and what was used of the processor by now."""
    cpu = sum(os.times()[:4])
    for each in psutil.Process().children(recursive=True):
        cpu += sum(each.cpu_times()[:4])  # its own, and that of the processes it has waited for
    return Spent(time.perf_counter(), cpu)
