"""The notebook of the tutorials: from connect to a map in five lines, executed cell by cell."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.test_people import source
from tests.e2e.conftest import CUBEPORT, here, start, stop

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "first-map.ipynb"


def cells() -> list[str]:
    return ["".join(each["source"]) for each in json.loads(NOTEBOOK.read_text())["cells"] if each["cell_type"] == "code"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("notebook") / "instance"
    assert here("init", root).returncode == 0
    with cubeport.connect(root) as service:
        request = IngestionRequest(dataset_id="ostia-sst")
        assert service.ingest_here(request, FileOptions(files=(str(source(root.parent / "sea.nc")),))).status == "completed"
    process, url = start(root)
    yield url
    stop(process)


def shown(value: Any) -> str:
    """Return what a notebook shows of a value: the richest form that it has."""
    for form in ("_repr_html_", "_repr_svg_", "_repr_png_"):
        method = getattr(value, form, None)
        if method is not None and (found := method()) is not None:
            return f"{form} {found[:300]!r}"
    return repr(value)


def test_the_notebook_shows_a_port_a_dataset_a_map_and_a_plot(url: str) -> None:
    names: dict[str, Any] = {}
    outputs = []
    for text in cells():
        *body, last = ast.parse(text.replace("http://127.0.0.1:8000", url)).body
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        assert isinstance(last, ast.Expr)
        outputs.append(shown(eval(compile(ast.Expression(last.value), "cell", "eval"), names)))
    port, dataset, picture, mean, plot = outputs
    assert port.startswith("_repr_html_")
    assert dataset.startswith("_repr_html_")
    assert picture.startswith("_repr_png_")
    assert "\\x89PNG" in picture
    assert float(mean) == pytest.approx(47.5)
    assert plot.startswith("_repr_svg_ '<svg")
    lines = [line for text in cells()[:3] for line in text.splitlines() if line]
    assert len([line for line in lines if line not in ("port", "data")]) <= 5


@pytest.mark.conformance
@pytest.mark.timeout(600)
def test_jupyter_executes_the_notebook_against_the_demonstration(tmp_path: Path) -> None:
    """With nbclient and ipykernel from PyPI, in an environment that has the client's extra and nothing of the service."""
    project = NOTEBOOK.parents[2]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{project}[client]",
        "nbclient",
        "ipykernel",
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"jupyter cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    process = subprocess.Popen([*CUBEPORT, "demo", str(tmp_path / "demo"), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip("/")
        copy = tmp_path / "first-map.ipynb"
        copy.write_text(NOTEBOOK.read_text().replace("http://127.0.0.1:8000", url))
        run = (
            "import sys, nbformat, nbclient; book = nbformat.read(sys.argv[1], 4);"
            "nbclient.NotebookClient(book, timeout=120, kernel_name='python3').execute();"
            "print([sorted(o['data']) for c in book.cells for o in c.get('outputs', []) if 'data' in o])"
        )
        told = subprocess.run([python, "-c", run, str(copy)], capture_output=True, text=True, check=False, timeout=300)
        assert told.returncode == 0, told.stderr
        forms = ast.literal_eval(told.stdout.strip().splitlines()[-1])
        assert "text/html" in forms[0]
        assert "text/html" in forms[1]
        assert "image/png" in forms[2]
        assert "image/svg+xml" in forms[4]
    finally:
        stop(process)
