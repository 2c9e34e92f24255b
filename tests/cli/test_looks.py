from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Shell

SCHEMA = {"type": "object", "required": ["year"], "properties": {"year": {"type": "integer"}}}


def test_info_is_the_twin(shell: Shell) -> None:
    shell.add(shell.file("a.txt"), "--kind", "table")
    said = shell.ok("info", "--json").json
    with shell.catalog() as catalog:
        assert said == shell.twin(catalog.info())
    assert (said["records"]["by_kind"], said["artifacts"], said["managed_bytes"]) == ({"table": 1}, 1, 6)
    assert f"root: {shell.root}" in shell.ok("info").out


def test_fields_and_their_values(shell: Shell) -> None:
    for year in (1, 1, 2, '"x"'):
        shell.add("--meta", f"a.year={year}", "--meta", "secret_token=hunter2")
    said = shell.ok("fields", "--json")
    with shell.catalog() as catalog:
        assert said.json == shell.twin(catalog.fields())
    assert "hunter2" not in said.out
    (field,) = shell.ok("fields", "a.year", "--json").json
    assert (field["types"], field["records"]) == ({"number": 3, "text": 1}, 4)
    assert shell.ok("fields", "a.year", "--values", "--json").json == [
        {"value": 1, "records": 2},
        {"value": 2, "records": 1},
        {"value": "x", "records": 1},
    ]
    assert shell("fields", "nothing").code == 3
    assert shell("fields", "--values").code == 2


def test_lineage_both_ways_and_as_a_graph(shell: Shell) -> None:
    a = shell.add("--title", "a")
    b = shell.add("--title", 'b "quoted"', "--link", f"derived_from={a.id}")
    c = shell.add("--title", "c", "--link", f"uses={b.id}", "--link", "uses=https://example.org/x")
    said = shell.ok("lineage", b.id, "--json").json
    with shell.catalog() as catalog:
        assert said == shell.twin(catalog.lineage(b.id))
    assert {(e["source"], e["rel"], e["target"]) for e in said["edges"]} == {
        (b.id, "derived_from", a.id),
        (c.id, "uses", b.id),
    }
    assert shell.ok("lineage", c.id, "--up").out.splitlines() == [
        f"{c.id[:8]} document c",
        f'  uses → {b.id[:8]} document b "quoted"',
        f"    derived_from → {a.id[:8]} document a",
        "  uses → https://example.org/x",
    ]
    assert shell.ok("lineage", a.id, "--down", "--depth", "1").out.count("←") == 1
    assert [e["rel"] for e in shell.ok("lineage", c.id, "--up", "--rel", "uses", "--json").json["edges"]] == ["uses", "uses"]
    dot = shell.ok("lineage", b.id, "--format", "dot").out
    assert dot.startswith("digraph lineage {\n")
    assert f'"{b.id}" -> "{a.id}" [label="derived_from"];' in dot
    assert '\\"quoted\\"' in dot


class TestSchemas:
    @pytest.fixture(autouse=True)
    def _imported(self, shell: Shell) -> None:
        shell.ok("schema", "import", "paper", shell.file("paper.json", json.dumps(SCHEMA)))

    def test_list_show_export(self, shell: Shell) -> None:
        assert shell.ok("schema", "list", "--json").json == {"paper": ["1"]}
        shown = shell.ok("schema", "show", "paper", "--json").json
        assert (shown["name"], shown["version"], shown["schema"]["required"]) == ("paper", "1", ["year"])
        exported = shell.ok("schema", "export", "paper", "--json").json
        assert exported == shown["schema"]
        shell.ok("schema", "export", "paper", "1", "-o", "out.json")
        assert json.loads((shell.root / "out.json").read_text()) == exported
        assert shell("schema", "export", "paper", "-o", "out.json").code == 2
        assert set(shell.ok("schema", "export", "--models", "--json").json) >= {"CatalogRecord", "Locator"}
        assert shell("schema", "show", "papre").err.startswith(
            "error[unknown-schema]: There is no schema papre; do you mean paper?"
        )

    def test_the_same_version_with_other_content_is_refused(self, shell: Shell) -> None:
        said = shell("schema", "import", "paper", shell.file("other.yaml", "type: object\n"))
        assert (said.code, said.err.split("]")[0]) == (4, "error[schema-exists")
        shell.ok("schema", "import", "paper", "other.yaml", "--version", "2")
        assert shell.ok("schema", "list", "--json").json == {"paper": ["1", "2"]}

    def test_validate_exits_1_when_one_is_not_valid(self, shell: Shell) -> None:
        good = shell.add("--schema", "paper", "--meta", "year=1")
        assert shell.ok("validate", good.id, "--json").json[good.id]["valid"] is True
        bad = shell.add("--schema", "paper", "--meta", "year=soon")
        said = shell("validate", "--all", "--json")
        with shell.catalog() as catalog:
            assert said.json == shell.twin(catalog.validate(all=True))
        assert (said.code, said.json[bad.id]["valid"]) == (1, False)
        assert f"{bad.id} NOT VALID (paper 1)\n  metadata.year: must be integer" in shell("validate", "--all").out

    def test_validate_a_file(self, shell: Shell) -> None:
        meta = shell.file("m.yaml", "year: 3\n")
        assert shell.ok("validate", "--file", meta, "--schema", "paper", "--json").json[str(meta)]["valid"]
        assert shell("validate", "--file", shell.file("n.yaml", "day: 3\n"), "--schema", "paper").code == 1
        assert shell("validate", "--file", meta).code == 2
        assert shell("validate").code == 2


class TestBytes:
    def test_verify_tells_each_verdict_and_exits_1(self, shell: Shell) -> None:
        fine, changed, gone = (shell.add(shell.file(f"{name}.txt", name)) for name in ("fine", "changed", "gone"))
        path = Path(shell.ok("path", changed.id).out.strip())
        path.chmod(0o600)
        path.write_text("CHANGED")
        Path(shell.ok("path", gone.id).out.strip()).unlink()
        said = shell("verify", "--all", "--json")
        verdicts = {each["record_id"]: each["verdict"] for each in said.json}
        assert (said.code, verdicts) == (1, {fine.id: "ok", changed.id: "hash-differs", gone.id: "missing"})
        assert shell.ok("verify", fine.id, changed.id, "--fast").code == 0
        shell("verify", gone.id, "--record")
        assert shell.ok("show", gone.id, "--json").json["artifacts"][0]["status"] == "missing"
        assert shell("verify").code == 2

    def test_verify_says_so_when_there_was_nothing_to_compare(self, shell: Shell) -> None:
        """A dataset has its bytes in versions: silence would look like a check."""
        shell.ok("add", "--key", "bare", "--title", "No file")
        said = shell.ok("verify", "bare")
        assert "Nothing was compared" in said.out + said.err

    def test_extraction_takes_blocks_in_and_says_what_failed(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.csv", "a,b\n"))
        said = shell.ok("extract-metadata", record.id, "--json").json
        assert said[0]["metadata"]["file"]["suffix"] == ".csv"
        assert said[0]["metadata"]["file"]["_extractor"]["name"] == "file"
        assert said[0]["version"] == 2
        at_once = shell.ok("add", "a.csv", "--extract-metadata", "--json").json
        assert at_once["metadata"]["file"]["media_type"] == "text/csv"
        said = shell("extract-metadata", record.id, "--only", "nothing")
        assert (said.code, "there are file, directory, netcdf, zarr" in said.err) == (2, True)
        broken = shell.file("broken.nc", "CDF\x01" + "x" * 50)
        said = shell.ok("add", broken, "--extract-metadata")
        assert "warning: extractor netcdf failed: source-rejected" in said.err
        assert shell("add", broken, "--require-metadata").code == 5
        with shell.catalog() as catalog:
            assert catalog.count() == 3

    def test_netcdf_and_zarr_fill_time_and_place(self, shell: Shell, realdata: Path) -> None:
        said = shell.ok("add", realdata / "SMALL_total_column_co2.nc", "--reference", "--extract-metadata", "--json").json
        assert (said["time"]["start"], said["bbox"]) == ("2006-01-01T06:00:00.000000Z", [-180, -90, 180, 90])
        assert said["metadata"]["netcdf"]["conventions"].startswith("CF")
        said = shell.ok("add", realdata / "rlds_v3.zarr", "--reference", "--extract-metadata", "--json").json
        assert said["metadata"]["zarr"]["dimensions"] == {"lat": 143, "lon": 144, "time": 1}
        assert set(said["metadata"]) == {"zarr", "directory"}

    def test_a_view_is_planned_applied_and_pruned(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"), "--title", "One", "--tag", "x")
        shell.add(shell.file("b.txt"), "--title", "Two")
        template = ("--template", "{kind}/{title_slug}{original_suffix}")
        said = shell.ok("view", "links", "tags=x", *template, "--json").json
        assert [(link["path"], link["state"]) for link in said["links"]] == [("document/one.txt", "planned")]
        assert not (shell.root / "links").exists()
        shell.ok("view", "links", "tags=x", *template, "--apply")
        assert (shell.root / "links/document/one.txt").read_text() == "hello\n"
        assert shell.ok("view", "links", "tags=x", *template, "--apply", "--json").json["counts"] == {"up-to-date": 1}
        shell.ok("delete", record.id, "--yes")
        shell.ok("view", "links", "tags=x", *template, "--apply", "--prune")
        assert not (shell.root / "links/document").exists()
        assert shell("view", "links").code == 2
        assert shell("view", "links", *template, "--prune").code == 2

    def test_dropping_what_was_never_fetched_and_fetching_without_a_gate(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"))
        assert shell("drop", record.id).code in (2, 4)
        far = shell.add("https://example.org/x")
        assert shell("fetch", far.id).code != 0
        assert shell("fetch", record.id).code == 3
