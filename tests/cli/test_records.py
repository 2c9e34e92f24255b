from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from tests.cli.conftest import Shell

from cubeport.catalog.models import CatalogRecord


def stored(shell: Shell, id: str) -> CatalogRecord:
    with shell.catalog() as catalog:
        return catalog.get(id)


class TestAdd:
    def test_a_file_with_everything_said_of_it(self, shell: Shell) -> None:
        source = shell.add("--title", "the source")
        path = shell.file("in/raw data.csv", "a,b\n")
        meta = shell.file("meta.yaml", "station: {name: Oslo, height: 94}\nyear: 1999\n")
        said = shell.ok(
            "add", path, "--meta-file", meta, "--meta", "year=2018", "--meta", "station.height=95.5", "--meta", 'code="007"',
            "--title", "Raw", "--description", "of June", "--tag", "a", "--tag", "b", "--kind", "table", "--key", "raw-1",
            "--role", "metadata", "--media-type", "text/x-csv", "--format", "csv", "--time", "2018-06", "--bbox", "5,58,12,64",
            "--link", f"derived_from={source.id[:6]}", "--directory-template", "{kind}/{metadata.year}",
            "--filename-template", "{key_slug}{original_suffix}", "--json", "--user", "ann",
        )  # fmt: skip
        record = stored(shell, "raw-1")
        assert said.json == record.to_mapping() | {"outcome": "added", "warnings": []}
        assert record.metadata == {"station": {"name": "Oslo", "height": 95.5}, "year": 2018, "code": "007"}
        assert (record.title, record.description, record.tags, record.kind) == ("Raw", "of June", ("a", "b"), "table")
        assert (record.created_by, record.bbox) == ("ann", (5, 58, 12, 64))
        assert record.to_mapping()["time"] == {"start": "2018-06-01T00:00:00.000000Z", "end": "2018-06-30T23:59:59.999999Z"}
        assert [(edge.rel, edge.target) for edge in record.lineage] == [("derived_from", source.id)]
        (artifact,) = record.artifacts
        assert (artifact.role, artifact.media_type, artifact.format) == ("metadata", "text/x-csv", "csv")
        assert (shell.root / "files/table/2018/raw-1.csv").read_text() == "a,b\n"
        assert artifact.hashes == {"sha256": hashlib.sha256(b"a,b\n").hexdigest()}
        assert path.exists()

    def test_copy_move_and_reference(self, shell: Shell) -> None:
        for mode in ("--copy", "--move", "--reference"):
            path = shell.file(f"{mode[2:]}.txt", mode)
            record = shell.add(path, mode)
            with shell.catalog() as catalog:
                assert catalog.path(record.id).read_text() == mode
            assert path.exists() is (mode != "--move")
            assert record.artifacts[0].managed is (mode != "--reference")
            assert bool(record.artifacts[0].hashes) is (mode != "--reference")
        hashed = shell.add(shell.file("h.txt"), "--reference", "--hash", "sha256")
        assert hashed.artifacts[0].hashes == {"sha256": hashlib.sha256(b"hello\n").hexdigest()}

    def test_stdin_is_named_or_called_by_the_id(self, shell: Shell) -> None:
        named = shell.ok("add", "-", "--filename", "x.csv", "--json", stdin=b"1,2\n").json
        assert named["artifacts"][0]["locator"]["path"].endswith("/x.csv")
        bare = shell.ok("add", "-", "--json", stdin=b"\xff\x00").json
        with shell.catalog() as catalog:
            assert catalog.path(bare["id"]).read_bytes() == b"\xff\x00"
        assert bare["id"] in bare["artifacts"][0]["locator"]["path"]

    def test_an_address_is_referred_to(self, shell: Shell) -> None:
        record = shell.add("https://example.org/a/b.nc", "--title", "far")
        (artifact,) = record.artifacts
        assert (artifact.locator.uri, artifact.status) == ("https://example.org/a/b.nc", "external")
        said = shell("add", "https://me:hunter2@example.org/x")
        assert said.code == 2
        assert "hunter2" not in said.err

    def test_one_more_artifact_of_a_record(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"))
        said = shell.ok("add", shell.file("b.txt", "log"), "--to", record.id[:8], "--role", "log", "--json").json
        assert [a["role"] for a in said["artifacts"]] == ["primary", "log"]
        assert (said["id"], said["version"]) == (record.id, 2)
        assert shell("add", shell.file("c.txt"), "--to", record.id, "--title", "no").code == 2

    def test_the_one_file_of_a_zip(self, shell: Shell) -> None:
        with zipfile.ZipFile(shell.root / "z.zip", "w") as archive:
            archive.writestr("inner.csv", "1,2\n")
        record = shell.add(shell.root / "z.zip", "--unzip")
        with shell.catalog() as catalog:
            path = catalog.path(record.id)
        assert (path.name, path.read_text()) == ("inner.csv", "1,2\n")

    def test_a_key_makes_it_repeatable(self, shell: Shell) -> None:
        first = shell.add(shell.file("a.txt"), "--key", "k")
        said = shell("add", "a.txt", "--key", "k")
        assert (said.code, said.out) == (4, "")
        assert said.err.startswith("error[key-exists]: ")
        assert "on" in said.err.split("next: ")[1]
        assert shell.ok("add", "a.txt", "--key", "k", "--on-exists", "skip", "--json").json["id"] == first.id
        renewed = shell.ok("add", "a.txt", "--key", "k", "--on-exists", "new_version", "--json").json
        assert renewed["id"] != first.id
        assert (stored(shell, first.id).status, stored(shell, "k").id) == ("deprecated", renewed["id"])

    def test_a_dry_run_writes_nothing(self, shell: Shell) -> None:
        before = sorted(p for p in shell.root.rglob("*") if p.is_file() and "logs" not in p.parts)
        (shell.root / "a.txt").write_text("x")
        said = shell.ok("add", "a.txt", "--dry-run", "--json").json
        (shell.root / "a.txt").unlink()
        assert said["outcome"] == "planned"
        assert sorted(p for p in shell.root.rglob("*") if p.is_file() and "logs" not in p.parts) == before
        with shell.catalog() as catalog:
            assert catalog.count(statuses=None) == 0

    def test_a_schema_is_held_to_its_policy(self, shell: Shell) -> None:
        schema = shell.file("s.json", json.dumps({"type": "object", "required": ["year"]}))
        shell.ok("schema", "import", "paper", schema)
        said = shell.ok("add", "--title", "x", "--schema", "paper")
        assert "warning: metadata.year: is missing" in said.err
        said = shell("add", "--title", "x", "--schema", "paper", "--policy", "strict", "--json")
        assert (said.code, said.problem["kind"]) == (2, "schema-invalid")
        assert said.problem["errors"] == [{"loc": ["metadata", "year"], "kind": "required", "message": "is missing"}]
        assert len(said.problem["operation_id"]) == 32
        assert shell("add", "--schema", "papre").err.startswith(
            "error[unknown-schema]: There is no schema papre; do you mean paper?"
        )
        with shell.catalog() as catalog:
            assert catalog.count() == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--copy", "--move", "x"), "cannot be combined"),
            (("--role", "log"), "there is no path, address or -"),
            (("https://example.org/x", "--copy"), "fetch"),
            (("-", "--move"), "only be stored"),
            (("x", "--bbox", "1,2,3"), "W,S,E,N"),
            (("x", "--link", "parent"), "REL=ID"),
            (("x", "--hash", "md5"), "sha256"),
            (("x", "--meta-file", "nothing.yaml"), "cannot be read"),
        ],
    )
    def test_what_does_not_go_together_is_usage(self, shell: Shell, arguments: tuple[str, ...], words: str) -> None:
        shell.file("x")
        said = shell("add", *arguments)
        assert (said.code, said.out) == (2, "")
        assert words in said.err

    def test_a_missing_file_is_an_event_of_its_user_with_its_type(self, shell: Shell) -> None:
        said = shell("add", "nothing.nc", "--user", "a")
        assert (said.code, said.err.split("]")[0]) == (3, "error[not-found")
        (event,) = shell.ok("logs", "--user", "a", "--level", "error", "--json").json["items"]
        assert (event["exception_type"], event["command"]) == ("NotFound", "add")


class TestSearch:
    @pytest.fixture(autouse=True)
    def _filled(self, shell: Shell) -> None:
        for year, title in ((2017, "June ice"), (2018, "July ice"), (2019, "August rain")):
            shell.ok(
                "add", shell.file(f"{year}.txt"), "--title", title, "--meta", f"year={year}", "--key", f"k{year}", "--tag", "t",
                "--kind", "table" if year == 2019 else "document", "--time", str(year), "--bbox", "0,0,1,1",
            )  # fmt: skip

    def test_json_is_the_page_of_the_twin(self, shell: Shell) -> None:
        said = shell.ok("search", "year>=2018", "--order", "year", "--count", "--json").json
        with shell.catalog() as catalog:
            page = catalog.search("year>=2018", order=("year",), count=True)
            assert said["items"] == [record.to_mapping() for record in page]
        assert (said["number_returned"], said["number_matched"], said["next"]) == (2, 2, None)

    @pytest.mark.parametrize(
        ("arguments", "years"),
        [
            (["year=2018"], [2018]),
            (["--not", "year=2018"], [2017, 2019]),
            (["--text", "ice jul"], [2018]),
            (["--time", "2018-06"], [2018]),
            (["--time", "../2018"], [2017, 2018]),
            (["--bbox", "0.5,0.5,3,3", "--kind", "table"], [2019]),
            (["--kind", "table", "--kind", "document"], [2017, 2018, 2019]),
            (["--limit", "0"], [2017, 2018, 2019]),
            (["--limit", "2", "--order", "-year"], [2019, 2018]),
            (["--first", "--order", "-year"], [2019]),
            (["--status", "any"], [2017, 2018, 2019]),
        ],
    )
    def test_each_filter(self, shell: Shell, arguments: list[str], years: list[int]) -> None:
        order = [] if "--order" in arguments else ["--order", "year"]
        found = shell.ok("search", *order, *arguments, "--json").json["items"]
        assert [each["metadata"]["year"] for each in found] == years

    def test_lines_for_scripts(self, shell: Shell) -> None:
        with shell.catalog() as catalog:
            records = list(catalog.search(order=("year",)))
            paths = [str(catalog.path(each.id)) for each in records]
        assert shell.ok("search", "--order", "year", "--ids").out.split() == [each.id for each in records]
        assert shell.ok("search", "--order", "year", "--paths").out.split() == paths
        assert shell.ok("search", "--count").out == "3\n"
        compact = [f"{each.id[:8]} {each.title}" for each in records]
        assert shell.ok("search", "--order", "year", "--format", "compact").out.splitlines() == compact

    def test_columns(self, shell: Shell) -> None:
        said = shell.ok("search", "--order", "year", "--fields", "key,year,artifact.size_bytes,tags,nothing", "--format", "csv")
        assert said.out.splitlines() == [
            "key,year,artifact.size_bytes,tags,nothing", "k2017,2017,6,t,", "k2018,2018,6,t,", "k2019,2019,6,t,",
        ]  # fmt: skip
        head, *rows = shell.ok("search", "--fields", "title,year", "--order", "year").out.splitlines()
        assert (head.split(), rows[0]) == (["TITLE", "YEAR"], "June ice     2017")

    def test_pages_join_into_the_whole(self, shell: Shell) -> None:
        first = shell.ok("search", "--order", "year", "--limit", "2")
        cursor = first.err.split("--cursor ")[1].strip()
        second = shell.ok("search", "--order", "year", "--limit", "2", "--cursor", cursor, "--json").json
        assert [each["metadata"]["year"] for each in second["items"]] == [2019]
        said = shell("search", "--order", "-year", "--cursor", cursor)
        assert (said.code, said.err.split("]")[0]) == (2, "error[invalid-cursor")

    def test_a_filter_that_fits_nothing_is_exit_3_with_an_empty_result(self, shell: Shell) -> None:
        said = shell("search", "year=1900")
        assert (said.code, said.out) == (3, "")
        assert said.err == "error[no-match]: No record matches.\nnext: cubeport fields\n"
        said = shell("search", "year=1900", "--json")
        assert (said.code, said.json["items"], said.problem["kind"]) == (3, [], "no-match")
        assert shell("search", "year=1900", "--count").out == "0\n"

    def test_a_wrong_term_shows_where(self, shell: Shell) -> None:
        said = shell("search", "year 2018")
        assert said.code == 2
        assert "year 2018\n         ^" in said.err
        assert "next: write FIELD OP VALUE" in said.err

    def test_an_unknown_format_names_the_known(self, shell: Shell) -> None:
        assert "there are table, compact, csv" in shell("search", "--format", "xml").err


def test_an_empty_catalog_is_no_failure(shell: Shell) -> None:
    assert shell.ok("search") == (0, "", "")
    assert shell.ok("search", "--json").json["items"] == []


class TestOne:
    def test_ids_keys_and_prefixes_select(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"), "--key", "my-key", "--id", "abcd" + "0" * 28)
        other = shell.add("--id", "abcd" + "1" * 28, "--title", "Other")
        for name in (record.id, "my-key", "abcd0"):
            assert shell.ok("show", name, "--json").json == record.to_mapping()
        said = shell("show", "abcd", "--json")
        assert (said.code, said.problem["kind"]) == (2, "ambiguous-id")
        assert {c["id"] for c in said.problem["candidates"]} == {record.id, other.id}
        said = shell("show", "abc")
        assert (said.code, "next: cubeport search" in said.err) == (3, True)

    def test_the_path_and_what_has_none(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"))
        path = Path(shell.ok("path", record.id).out.strip())
        assert path.read_text() == "hello\n"
        assert shell.ok("path", record.id, "--artifact", record.artifacts[0].artifact_id, "--json").json == str(path)
        far = shell.add("https://example.org/x")
        said = shell("path", far.id)
        assert (said.code, said.err.split("]")[0]) == (3, "error[artifact-missing")
        assert "next: cubeport fetch" in said.err

    def test_history_is_the_operations_on_it(self, shell: Shell) -> None:
        record = shell.add("--title", "x")
        shell.add("--title", "y")
        shell.ok("edit", record.id, "--title", "z")
        said = shell.ok("show", record.id, "--history", "--json").json
        assert [o["operation_type"] for o in said["history"]] == ["update", "add"]
        assert said["record"] == stored(shell, record.id).to_mapping()
        assert "update" in shell.ok("show", record.id, "--history").out

    def test_edit_sets_unsets_tags_and_links(self, shell: Shell) -> None:
        target = shell.add("--title", "t")
        record = shell.add("--title", "x", "--meta", "a.b=1", "--meta", "gone=2", "--tag", "old")
        said = shell.ok(
            "edit", record.id, "--set", "a.c=[1, 2]", "--set", "kind=table", "--set", "description=d", "--unset", "gone",
            "--tag", "new", "--untag", "old", "--link", f"uses={target.id[:6]}", "--if-version", "1", "--json",
        )  # fmt: skip
        after = stored(shell, record.id)
        assert said.json == after.to_mapping()
        assert after.metadata == {"a": {"b": 1, "c": [1, 2]}}
        assert (after.kind, after.description, after.tags, after.version) == ("table", "d", ("new",), 2)
        assert [(e.rel, e.target) for e in after.lineage] == [("uses", target.id)]
        replaced = shell.ok("edit", record.id, "--replace", "--set", "only=1", "--unset", "description", "--json").json
        assert (replaced["metadata"], replaced["description"]) == ({"only": 1}, None)

    def test_edit_refuses_a_stale_version_and_what_is_the_catalogs(self, shell: Shell) -> None:
        record = shell.add("--title", "x")
        said = shell("edit", record.id, "--title", "y", "--if-version", "7")
        assert (said.code, said.err.split("]")[0]) == (4, "error[stale-record")
        assert shell("edit", record.id, "--set", "created_by=me").code == 2
        assert shell("edit", record.id, "--set", "artifact.role=log").code == 2
        assert shell("edit", record.id).code == 2
        assert stored(shell, record.id) == record

    def test_an_edit_that_does_not_fit_its_schema_warns(self, shell: Shell) -> None:
        shell.ok("schema", "import", "paper", shell.file("s.json", '{"required": ["year"]}'))
        record = shell.add("--schema", "paper", "--meta", "year=1")
        said = shell.ok("edit", record.id, "--unset", "year")
        assert said.err == "warning: metadata.year: is missing\n"

    def test_delete_restore_purge(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"), "--key", "k")
        path = Path(shell.ok("path", record.id).out.strip())
        assert shell("delete", record.id, stdin=b"").code == 2
        assert shell.ok("delete", record.id, "--dry-run", "--json").json[0]["status"] == "active"
        assert shell.ok("delete", "k", "--yes", "--json").json[0]["status"] == "deleted"
        assert path.exists()
        assert shell.ok("restore", record.id, "--json").json[0] == stored(shell, "k").to_mapping()
        assert shell("purge", record.id, stdin=b"").code == 2
        assert shell.ok("purge", record.id, "--dry-run").out == f"would purge {record.id}\n"
        assert path.exists()
        assert shell.ok("purge", record.id, "--yes").out == f"purged {record.id}\n"
        assert not path.exists()
        assert shell("show", record.id).code == 3

    def test_purging_what_others_point_to_needs_force(self, shell: Shell) -> None:
        target = shell.add("--title", "t")
        shell.add("--title", "s", "--link", f"uses={target.id}")
        said = shell("purge", target.id, "--yes")
        assert (said.code, "--force" in said.err) == (4, True)
        shell.ok("purge", target.id, "--yes", "--force")

    def test_one_wrong_id_stops_before_anything_is_done(self, shell: Shell) -> None:
        record = shell.add("--title", "x")
        assert shell("delete", record.id, "ffff", "--yes").code == 3
        assert stored(shell, record.id).status == "active"
