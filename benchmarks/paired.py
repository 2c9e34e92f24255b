"""What each operation costs now against an earlier commit, in one run: the two answer in turn, so a busy machine slows both.

    python benchmarks/paired.py EARLIER [--parts serve catalog searches ingest] [--rounds 15] [--write docs/performance.md]

*EARLIER* is a clone at that commit with its own ``.venv`` (``.ci/setup``). Each side makes its own instance of the same source.
For what a server answers, a figure is processor time of the server, and the clock, a request; the benchmarks of the catalog and of
ingestion are those of each side, run in turn, and their figures of the same name are compared. A ratio is the median over rounds of
now / earlier, in brackets its quartiles: where 1.05 is inside them, the two do not differ by what this machine can show.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from report import arguments, report
from serve import CASES, Case, Served, announced, make_instance, measure, started

HEADING = "## Against an earlier commit"
COMMAND = "python benchmarks/paired.py EARLIER --write docs/performance.md"

CUBE = "bbox=10,-40,60,40&datetime=2020-01-01/2020-01-04"
REQUESTS = (
    Case("page of datasets", "datasets?limit=50"),
    Case("STAC collections", "stac/collections?limit=50"),
    Case("one STAC collection", "stac/collections/noise"),
    Case("STAC search by box and time", "stac/search?bbox=10,10,14,14&datetime=2020-01-01T00:00:00Z/2020-03-31T00:00:00Z"),
    Case("OGC collections", "ogcapi/collections?limit=50"),
    Case("cube as NetCDF", f"ogcapi/collections/noise/cube?{CUBE}&f=netcdf"),
    Case("cube as CoverageJSON", f"ogcapi/collections/noise/cube?{CUBE}&f=covjson"),
    Case("series as CoverageJSON", "ogcapi/collections/noise/position?coords=POINT(20 20)&f=covjson".replace(" ", "%20")),
)
"""What both commits answer beside raw Zarr."""


@dataclass(frozen=True)
class Side:
    """A commit, as its folder."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    @property
    def commit(self) -> str:
        command = ["git", "-C", str(self.root), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """Serve an instance of this side's own."""
        folder.mkdir()
        instance, root = make_instance(folder, str(self.python))
        arguments = [str(self.python), "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
        with started(arguments, env={**os.environ, "CUBEPORT_JOBS__WORKERS": "1"}) as process:
            yield Served(self.commit, announced(process), f"/zarr/noise@{root.parent.name}", process.pid)

    def benchmark(self, *arguments: str) -> str:
        """Return what a benchmark of this side prints."""
        command = [str(self.python), *arguments]
        # Bytecode is kept, as for a user: compiled anew at each start, a larger package would look slower to start.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.root, env=environment).stdout


type Sides = tuple[Side, Side]
type Rounds = dict[str, list[tuple[float, float]]]
"""Now and earlier of each round, by the name of the figure."""


def serve(sides: Sides, rounds: int) -> Rounds:
    """Ask both servers the same, block by block; each block begins with the other side than the one before it."""
    found: Rounds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sides[0].served(folder / "now") as now, sides[1].served(folder / "earlier") as earlier:
            for number in range(rounds):
                for case in (*CASES, *REQUESTS):
                    count, pair = (100, (now, earlier)) if case in CASES else (10, (plain(now), plain(earlier)))
                    both = {each.name: measure(each, case, count) for each in (pair if number % 2 else pair[::-1])}
                    for figure, *costs in zip(("CPU", "clock"), *(both[each.name] for each in pair), strict=True):
                        found.setdefault(f"{case.name}: {figure}, µs", []).append((costs[0], costs[1]))
    return found


def plain(served: Served) -> Served:
    """Return the same server for addresses that are not of raw Zarr."""
    return Served(served.name, served.address, "", served.process)


def catalog(sides: Sides, rounds: int) -> Rounds:
    """Run the catalog's benchmark of each side in turn."""
    return in_turn(sides, rounds, ("benchmarks/catalog.py", "--records", "1000"), lambda text: dict(leaves(json.loads(text))))


SEARCHES = """
import json, sys, tempfile
from pathlib import Path
sys.path.insert(0, "benchmarks")
import catalog
with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(catalog.sqlite_figures(Path(folder), 1000)))
"""


def searches(sides: Sides, rounds: int) -> Rounds:
    """Run only the part on SQLite of the catalog's benchmark, which takes seconds, so that many rounds are possible."""
    return in_turn(sides, rounds, ("-c", SEARCHES), lambda text: dict(leaves(json.loads(text))))


def ingest(sides: Sides, rounds: int) -> Rounds:
    """Run the ingestion's benchmark of each side in turn."""
    return in_turn(sides, rounds, ("benchmarks/ingest.py", "--repeat", "1"), seconds)


def in_turn(sides: Sides, rounds: int, command: tuple[str, ...], figures: Callable[[str], Mapping[str, float]]) -> Rounds:
    found: Rounds = {}
    for number in range(rounds):
        both = {side: figures(side.benchmark(*command)) for side in (sides if number % 2 else sides[::-1])}
        new, old = (both[side] for side in sides)
        for name in new.keys() & old.keys():
            found.setdefault(name, []).append((new[name], old[name]))
    return dict(sorted(found.items()))


def leaves(document: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a document by their path."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, f"{name} {key}".strip())
    elif isinstance(document, float):
        yield name, document


def seconds(text: str) -> dict[str, float]:
    """Return clock and CPU of write, measure and publish of each row that the ingestion's benchmark printed."""
    found = {}
    for line in text.splitlines():
        case, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        times = [re.fullmatch(r"([\d.]+) \(([\d.]+)\)", cell) for cell in cells[2:5]]
        if len(cells) > 4 and all(times):
            for step, each in zip(("write", "measure", "publish"), times, strict=True):
                found |= {f"{case}: {step}, s": float(each[1]), f"{case}: {step}, CPU s": float(each[2])} if each else {}
    return found


PARTS: dict[str, Callable[[Sides, int], Rounds]] = {"serve": serve, "catalog": catalog, "searches": searches, "ingest": ingest}


def row(name: str, pairs: list[tuple[float, float]]) -> str:
    new, old = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [n / o for n, o in pairs if o]
    if not ratios:
        return f"| {name} | {new:.4g} | {old:.4g} | – |"
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"| {name} | {new:.4g} | {old:.4g} | {middle:.2f} ({low:.2f}–{high:.2f}) |"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["serve", "catalog", "ingest"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    sides = Side(Path(__file__).parents[1]), Side(options.earlier.resolve())
    lines = [f"| operation | {sides[0].commit} | {sides[1].commit} | ratio (quartiles) |", "|---|--:|--:|--:|"]
    for part in options.parts:
        lines += [row(f"{part}: {name}", pairs) for name, pairs in PARTS[part](sides, options.rounds).items()]
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    table = "\n".join([*lines, "", f"{options.rounds} rounds. {python}."])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
