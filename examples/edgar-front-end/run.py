"""Emission files of a remote archive: all are searched here, each is fetched when it is needed.

Needs `pip install "cubeport[fetch]"`.

The archive is a web server that this script starts on this machine; a real one is named in the same two places.
"""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import yaml

from cubeport import Catalog
from cubeport.errors import CubeportError

archive = Path("work/archive")
archive.mkdir(parents=True)
for year in (2016, 2017, 2018):
    for gas in ("CH4", "CO2"):
        (archive / f"v8.0_{gas}_{year}_TOTALS.txt").write_text(f"{gas} {year}\n" * 100)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the archive without a line for each request."""

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=archive))
threading.Thread(target=server.serve_forever, daemon=True).start()
origin = f"http://127.0.0.1:{server.server_port}"

# What the archive says of its files: nothing is fetched to be found.
items = [
    {
        "source": f"{origin}/{path.name}",
        "key": f"edgar:{path.stem}",
        "time": path.stem.split("_")[2],
        "size_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    for path in sorted(archive.iterdir())
]
defaults = {"kind": "emissions", "pattern": "v{version}_{gas}_{year}_TOTALS.txt", "tags": ["EDGAR"]}
Path("work/manifest.yaml").write_text(yaml.safe_dump({"manifest": 1, "defaults": defaults, "items": items}))

root = Path("work/catalog")
Catalog.create(root).close()
(root / "config").mkdir(exist_ok=True)
settings = {"sources": {"origins": [origin]}}
(root / "config" / "service.yaml").write_text(yaml.safe_dump(settings))

with Catalog.open(root) as catalog:
    done = catalog.ingest("work/manifest.yaml", manifest=True)
    print("registered:", done.counts["added"], "local files:", sum(path.is_file() for path in (root / "files").rglob("*")))
    print("again:", catalog.ingest("work/manifest.yaml", manifest=True).counts["skipped"], "skipped")
    print("found offline:", [record.metadata["year"] for record in catalog.search(gas="CH4", order=("year",))])

    wanted = catalog.search(gas="CH4", year=2018)[0]
    print("before:", wanted.artifacts[0].status)
    wanted = catalog.fetch(wanted)
    print("after:", wanted.artifacts[0].status, wanted.path().read_text().splitlines()[0])
    print("verified:", [each.verdict for each in catalog.verify(wanted)])
    print("dropped:", catalog.drop(wanted).artifacts[0].status)

    # A file that is not what the manifest says is not kept.
    (archive / "v8.0_CO2_2016_TOTALS.txt").write_text("something else\n" * 80)
    try:
        catalog.fetch("edgar:v8.0_CO2_2016_TOTALS")
    except CubeportError as problem:
        print("refused:", problem.kind)
    # An origin that nobody allowed is not asked at all.
    catalog.add_artifact(key="elsewhere", locator="https://elsewhere.example/x.nc")
    try:
        catalog.fetch("elsewhere")
    except CubeportError as problem:
        print("refused:", problem.kind)

server.shutdown()
