"""``cubeport check-config``: what the settings do not allow a template to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cubeport.main import prepare
from cubeport.main.checking import check_configuration

TEMPLATE = "id: tas\ntitle: T\nperiod_type: monthly\nsource: {{kind: files, paths: ['{paths}']}}\n"


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("{root}/tas_{{YYYY}}{{MM}}.nc", None),
        ("{root}/*/tas.nc", None),
        ("{other}/tas_{{YYYY}}.nc", "add its folder, {other}, to sources.roots"),
        ("{root}/../other/*.nc", "write the path from the root folder on"),
        ("https://data.example/tas.nc", "give the address as the source itself"),
    ],
)
def test_a_template_whose_files_may_not_be_read_is_a_problem(tmp_path: Path, paths: str, words: str | None) -> None:
    """It was found to have no problems, and then each ingestion was refused."""
    root, other, instance = (tmp_path / each for each in ("root", "other", "i"))
    root.mkdir()
    prepare(instance)
    (instance / "config" / "service.yaml").write_text(f"sources: {{roots: ['{root}']}}\n")
    text = TEMPLATE.format(paths=paths.format(root=root, other=other))
    (instance / "config" / "datasets" / "tas.yaml").write_text(text)
    found = check_configuration(instance)
    if words is None:
        assert found == []
    else:
        [line] = found
        assert line.startswith("config/datasets: template tas: source.paths: ")
        assert words.format(other=other) in line
