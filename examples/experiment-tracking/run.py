"""Runs of an experiment: script, configuration, log, environment, outputs, metrics. Needs `pip install cubeport`."""

import json
import platform
import random
import sys
from pathlib import Path

from cubeport import Catalog

work = Path("work")
work.mkdir()
(work / "scratch").mkdir()
(work / "observations.csv").write_text("x,y\n1,2.1\n2,3.9\n3,6.2\n")


def fit(slope: float, seed: int) -> dict[str, float]:
    """The experiment itself: how far a line is from the observations."""
    rows = [line.split(",") for line in (work / "observations.csv").read_text().splitlines()[1:]]
    errors = [(slope * float(x) - float(y)) ** 2 for x, y in rows]
    return {"rmse": round((sum(errors) / len(errors)) ** 0.5, 4), "draw": random.Random(seed).randrange(100)}


def track(catalog: Catalog, name: str, experiment: str, observations: str, **parameters: float) -> str:
    """Run it once and keep everything that is needed to run it again, in one commit."""
    metrics = fit(**parameters)
    big = work / "scratch" / name
    big.mkdir()
    (big / "field.bin").write_bytes(b"\0" * 1000)
    with catalog.unit_of_work("ingest") as unit:
        environment = {"python": platform.python_version(), "platform": sys.platform}
        run = unit.plan_record(
            kind="run",
            key=f"run:{name}",
            title=f"Run {name}",
            metadata={"parameters": parameters, "metrics": metrics, "environment": environment},
            lineage=[("member_of", experiment), ("uses", observations)],
        )
        for role, filename, content in (
            ("script", "run.py", Path(__file__).read_bytes()),
            ("config", "config.json", json.dumps(parameters).encode()),
            ("log", "run.log", f"rmse {metrics['rmse']}\n".encode()),
        ):
            unit.write_artifact(unit.plan_artifact(run, filename=filename, role=role), content)
        unit.add_record(run)
    # Large output stays where the cluster wrote it: the catalog refers to it, and never removes it.
    catalog.add_file(big, operation="reference", kind="output", key=f"output:{name}", lineage=[("produced_by", run.id)])
    return run.id


with Catalog.create(work / "catalog") as catalog:
    experiment = catalog.add(kind="collection", key="experiment:slopes", title="Slopes").id
    observations = catalog.add_file(work / "observations.csv", key="observations", title="Observations").id
    for number, slope in enumerate((1.8, 2.0, 2.5)):
        track(catalog, str(number), experiment, observations, slope=slope, seed=number)

    best = catalog.search("kind=run", order=("metrics.rmse",))[0]
    print("best:", best.title, best.metadata["parameters"], best.metadata["metrics"]["rmse"])
    print("good ones:", [record.title for record in catalog.search("metrics.rmse<0.5", order=("title",))])
    print("with a log:", catalog.count("artifact.role=log"))
    print("its log:", catalog.path(best, "log").read_text().strip())
    print("files:", sorted(artifact.original_name for artifact in best.artifacts))

    # From an output to everything that it came of.
    graph = catalog.lineage("output:1", direction="up")
    print("output 1 came of:", sorted(f"{edge.rel} {catalog.get(edge.target).title}" for edge in graph.edges))
    print("runs of the experiment:", len(catalog.lineage(experiment, direction="down", depth=1).edges))

    # A run that turned out wrong: what was said of it stays to be read.
    catalog.update("run:2", status="failed", set={"why": "wrong calibration"})
    print("history:", [change.field for change in catalog.history("run:2")[0].changes])
    catalog.purge("output:2")
    print("reference untouched:", (work / "scratch" / "2" / "field.bin").exists())

    exported = catalog.export_crate(work / "crate", name="Slopes", license="https://spdx.org/licenses/CC0-1.0")
    print("as a crate:", exported, "records")
