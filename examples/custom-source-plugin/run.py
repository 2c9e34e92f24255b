"""A source that cubeport does not know, taught by a plugin. Needs `pip install "cubeport[service]" ./plugin`."""

import re
import subprocess
from pathlib import Path

import cubeport

TEMPLATE = """\
id: rain
title: Rain gauges
period_type: monthly
source:
  kind: plugin
  name: gauges
  params: {{folder: {folder}}}
sync: {{kind: temporal}}
"""

work = Path("work").absolute()
texts = work / "texts"
texts.mkdir(parents=True)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["cubeport", *arguments], capture_output=True, text=True, check=False)


def shown(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{8,32}\b", "VERSION", text.replace(str(work), "…")).strip()


(texts / "202401.txt").write_text("1 2 3\n4 5 6\n")
(texts / "202402.txt").write_text("7 8 9\n1 1 1\n")

instance = str(work / "instance")
run("init", instance, "--quiet")
(work / "instance/config/datasets/rain.yaml").write_text(TEMPLATE.format(folder=texts))

plugin = next(line for line in run("plugins", "--instance", instance).stdout.splitlines() if line.startswith("gauges"))
print("cubeport found the plugin:", plugin.split()[0])
print(shown(run("ingest", "rain", "--start", "2024-01", "--instance", instance).stdout))

(texts / "202403.txt").write_text("0 0 0\n2 2 2\n")
run("sync", "rain", "--instance", instance)

with cubeport.connect(instance) as service:
    (state, _), *_ = service.versions("rain")
    print("after a sync:", state.coverage["temporal"]["start"], "to", state.coverage["temporal"]["end"])

refused = run("ingest", "rain", "--end", "2024-06", "--instance", instance)
words = next(line for line in shown(refused.stderr).splitlines() if line.startswith("error"))
print("a month without a file:", words)
