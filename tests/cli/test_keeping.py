from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell

from cubeport.catalog.backend import Finding
from cubeport.catalog.events import LoggingBridge
from cubeport.cli import keeping
from cubeport.errors import CatalogMoved
from cubeport.main import Catalog
from cubeport.settings import load


class TestInit:
    @pytest.mark.parametrize("backend", ["sqlite", "tinydb"])
    def test_a_new_instance_can_be_used_at_once(self, shell: Shell, tmp_path: Path, backend: str) -> None:
        said = shell.ok("init", tmp_path / "new", "--catalog", backend, "--json").json
        assert (said["root"], said["catalog"]) == (str(tmp_path / "new"), backend)
        shell.ok("--instance", tmp_path / "new", "add", "--title", "x")
        with Catalog.open(tmp_path / "new", read_only=True) as catalog:
            assert (catalog.catalog_id, catalog.count()) == (said["catalog_id"], 1)

    def test_an_existing_catalog_and_existing_files_stay(self, shell: Shell, tmp_path: Path) -> None:
        said = shell("init", shell.root)
        assert (said.code, said.err.split("]")[0]) == (4, "error[catalog-exists")
        new = tmp_path / "new"
        (new / "config").mkdir(parents=True)
        (new / "config" / "profiles.yaml").write_text("profiles:\n  default: {protocol: file, root: ./mine}\n")
        (new / "config" / "service.yaml").write_text("title: Mine\n")
        said = shell("init", new, "--allow-root", tmp_path)
        assert (said.code, (new / ".cubeport").exists()) == (2, False)
        shell.ok("--instance", new, "init")
        assert "./mine" in (new / "config" / "profiles.yaml").read_text()
        assert (new / "config" / "service.yaml").read_text() == "title: Mine\n"

    def test_what_requests_may_read_is_written_into_the_new_configuration(self, shell: Shell, tmp_path: Path) -> None:
        new = tmp_path / "new"
        shell.ok("init", new, "--allow-root", tmp_path, "--allow-origin", "https://example.org")
        settings = load(new)
        assert settings.sources.roots == (tmp_path,)
        assert settings.sources.origins == ("https://example.org",)

    def test_the_instance_comes_from_flag_environment_or_folder(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other"
        Catalog.create(other).close()
        assert shell.ok("info", "--json").json["root"] == str(shell.root)
        monkeypatch.setenv("CUBEPORT_INSTANCE", str(other))
        assert shell.ok("info", "--json").json["root"] == str(other)
        assert shell.ok("info", "--json", "--instance", shell.root).json["root"] == str(shell.root)
        monkeypatch.delenv("CUBEPORT_INSTANCE")
        monkeypatch.chdir(tmp_path)
        said = shell("info")
        assert (said.code, said.err.split("]")[0]) == (3, "error[not-a-catalog")

    def test_who_did_it(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUBEPORT_USER", "bob")
        assert shell.add("--title", "x").created_by == "bob"
        assert shell.add("--title", "x", "--user", "ann").created_by == "ann"


class TestTold:
    def test_logs_by_user_and_level(self, shell: Shell) -> None:
        shell.add("--title", "x", "--user", "ann")
        shell("add", "--title", "y", "--schema", "none", "--user", "bob")
        shell("edit", shell.add("--title", "z", "--key", "k", "--user", "bob").id, "--set", "kind=Not A Kind", "--user", "bob")
        said = shell.ok("logs", "--user", "ann", "--json").json
        assert {each["user_id"] for each in said["items"]} == {"ann"}
        assert [each["event"] for each in said["items"]] == ["operation.started", "operation.succeeded"]
        with shell.catalog() as catalog:
            assert said == shell.twin(catalog.logs(user="ann"))
        assert shell.ok("logs", "--level", "error", "--user", "ann").out == ""
        assert "user=ann" in shell.ok("logs", "--event", "operation").out
        assert shell("logs", "--since", "soon").code == 2

    def test_operations_and_one_of_them(self, shell: Shell) -> None:
        record = shell.add("--title", "x")
        said = shell.ok("operations", "--json").json
        with shell.catalog() as catalog:
            assert said == shell.twin(catalog.operations())
        assert said[0]["outputs"] == [record.id]
        one = shell.ok("operations", said[0]["operation_id"][:6], "--json").json
        assert one["journal"][0]["state"] == "started"
        assert shell.ok("operations", "--status", "failed").out == ""
        assert shell("operations", "--status", "odd").code == 2
        assert shell("operations", "ffffffff").code == 3

    def test_profiles_and_plugins(self, shell: Shell) -> None:
        (profile, *_) = shell.ok("profiles", "--json").json
        assert (profile["name"], profile["writable"], profile["hash"], profile["problems"]) == ("default", True, "sha256", [])
        assert shell.ok("plugins", "--json", "--no-plugins").json == []

    def test_two_problems_of_a_profile_are_two_sentences(self, shell: Shell) -> None:
        shell.file("config/profiles.yaml", "profiles:\n  a: {root: x, key_env: {A: B}, rooot: y}\n")
        said = shell.ok("profiles").out
        assert "key_env: should be the name of an environment variable" in said
        assert said.count(": correct config/profiles.yaml.") == 2
        assert "config/profiles.yaml. config/profiles.yaml:2:" in said


def test_an_interrupted_command_is_rolled_back_and_130(shell: Shell) -> None:
    script = Path(sys.executable).with_name("cubeport")
    add = subprocess.Popen([script, "add", "-", "--filename", "x"], cwd=shell.root, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert add.stdin is not None
    add.stdin.write(b"x" * 3_000_000)
    add.stdin.flush()
    deadline = time.monotonic() + 30
    # Until it has taken what there is, and waits for more: a signal on the way into that wait would be seen only after it.
    while not [p for p in (shell.root / "files").rglob("*.part") if p.stat().st_size > 2_000_000] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    add.send_signal(signal.SIGINT)
    assert add.wait(30) == 130
    add.stdin.close()
    assert add.stderr is not None
    assert b"Traceback" not in add.stderr.read()
    add.stderr.close()
    assert [path for path in (shell.root / "files").rglob("*") if path.is_file()] == []
    assert shell.ok("recover", "--json").json == []
    assert shell.ok("operations", "--json").json[0]["status"] == "rolled_back"


def test_a_fault_of_ours_is_short_on_the_screen_and_whole_in_the_log(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Catalog, *args: Any, **said: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Catalog, "add", broken)
    said = shell("add", "--title", "x")
    assert (said.code, said.out) == (1, "")
    assert said.err == "error[internal]: ZeroDivisionError: division by zero\nnext: cubeport logs --level error\n"
    (event,) = shell.ok("logs", "--level", "error", "--json").json["items"]
    assert (event["exception_type"], event["command"]) == ("ZeroDivisionError", "add")
    assert "in broken" in event["traceback"]


def test_what_libraries_warn_of_goes_into_the_log(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    add_file = Catalog.add_file

    def warns(self: Catalog, *args: Any, **said: Any) -> Any:
        logging.getLogger("some.library").warning("the disk is nearly full")
        return add_file(self, *args, **said)

    monkeypatch.setattr(Catalog, "add_file", warns)
    assert shell.ok("add", shell.file("a.txt")).err == ""
    (event,) = shell.ok("logs", "--event", "log", "--json").json["items"]
    assert (event["event"], event["message"], event["command"]) == ("log.some.library", "the disk is nearly full", "add")
    assert all(not isinstance(handler, LoggingBridge) for handler in logging.getLogger().handlers)


class TestChecks:
    def test_the_doctor_is_short_unless_asked(self, shell: Shell) -> None:
        short, every = shell.ok("doctor").out, shell.ok("doctor", "--all").out
        assert "library" not in "".join(line for line in short.splitlines() if not line.startswith("no problems: "))
        assert short.splitlines()[-1].startswith("no problems: catalog, filesystem, journal, ")
        assert "sqlalchemy" in every
        assert "answers, 0 records" in every
        assert "no problems:" not in every
        found = shell.ok("doctor", "--json").json
        assert len(every.splitlines()) == 1 + len(found)
        assert len(short.splitlines()) == 1 + len([each for each in found if each["level"] != "ok"]) + any(
            each["level"] != "ok" for each in found
        )

    def test_in_a_terminal_the_doctor_wraps_its_sentences(self) -> None:
        finding = Finding(
            "sandbox", "user", "runs as root: " + "a long sentence of many words " * 6, "run it as another user", "warn"
        )
        lines = keeping._paragraph(finding, 80).splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0] == "warn  sandbox  user"
        assert lines[-1] == "      next: run it as another user"
        assert " ".join(each.strip() for each in lines[1:-1]) == finding.message.strip()

    def test_doctor_is_well_and_tells_when_not(self, shell: Shell) -> None:
        said = shell.ok("doctor", "--json").json
        assert {each["level"] for each in said if each["place"] != "user"} == {"ok"}  # "user": root is warned
        (shell.root / "config" / "profiles.yaml").write_text(
            "profiles:\n  default: {protocol: file, root: ./files}\n  away: {protocol: file, root: ./nothing, writable: false}\n"
        )
        findings = [each for each in shell("doctor", "--json").json if each["level"] != "ok"]
        assert shell("doctor", "--strict").code == (1 if findings else 0)

    def test_fsck_finds_what_is_lost_and_strange(self, shell: Shell) -> None:
        record = shell.add(shell.file("a.txt"))
        assert shell.ok("fsck", "--json").json["findings"] == []
        Path(shell.ok("path", record.id).out.strip()).unlink()
        stranger = shell.file("files/stranger.txt")
        said = shell("fsck", "--json")
        assert (said.code, said.json["complete"]) == (1, True)
        assert set(said.json["counts"]) == {"missing-object", "unknown-file"}
        assert shell("fsck", "--time-limit", "soon").code == 2
        assert stranger.exists()

    def test_gc_leaves_strangers_and_the_young(self, shell: Shell) -> None:
        shell.file("files/stranger.txt")
        said = shell.ok("gc", "--older-than", "0s", "--dry-run", "--json").json
        assert all(not each["ours"] for each in said)
        shell.ok("gc", "--older-than", "0s")
        assert (shell.root / "files/stranger.txt").exists()

    def test_recover_has_nothing_to_do_and_can_be_repeated(self, shell: Shell) -> None:
        assert shell.ok("recover", "--json").json == []
        assert shell.ok("recover", "--dry-run").out == ""

    @pytest.mark.parametrize("by_command", [True, False])
    def test_what_a_killed_command_left_is_undone_and_told(self, shell: Shell, by_command: bool) -> None:
        script = Path(sys.executable).with_name("cubeport")
        armed = os.environ | {"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "bytes:half"}
        killed = subprocess.run([script, "add", shell.file("a.txt")], cwd=shell.root, env=armed, capture_output=True, timeout=60)
        assert killed.returncode != 0
        assert [p.name for p in (shell.root / "files").rglob("*.part")]
        (planned,) = shell.ok("recover", "--dry-run", "--json").json
        assert [p.name for p in (shell.root / "files").rglob("*.part")]
        if by_command:
            (done,) = shell.ok("recover", "--json").json
            assert (done["operation_id"], done["outcome"]) == (planned["operation_id"], "back")
        else:
            said = shell.ok("add", "a.txt")
            assert f"operation {planned['operation_id'][:8]} did not finish: back" in said.err
        assert [p.name for p in (shell.root / "files").rglob("*.part")] == []
        assert shell.ok("recover", "--json").json == []


class TestMoving:
    def test_out_and_in_again_is_the_same_bytes(self, shell: Shell, tmp_path: Path) -> None:
        for i in range(3):
            shell.add(shell.file(f"{i}.txt"), "--title", f"record {i}", "--meta", f"n={i}")
        gone = shell.add("--title", "gone")
        shell.ok("delete", gone.id, "--yes")
        shell.ok("export", "records", "-o", "all.ndjson", "--with-bytes", "bytes")
        lines = (shell.root / "all.ndjson").read_text()
        assert shell.ok("export", "records").out == lines
        assert [json.loads(line)["id"] for line in lines.splitlines()] == sorted(
            json.loads(line)["id"] for line in lines.splitlines()
        )
        assert len(lines.splitlines()) == 4
        assert sum(p.is_file() for p in (shell.root / "bytes/default").rglob("*")) == 3
        assert shell("export", "records", "-o", "all.ndjson").code == 4

        other = tmp_path / "other"
        shell.ok("init", other, "--catalog", "tinydb")
        said = shell.ok("--instance", other, "import", "all.ndjson", "--json").json
        assert said == {"added": 4, "skipped": 0}
        assert shell.ok("--instance", other, "export", "records").out == lines
        assert shell("--instance", other, "import", "all.ndjson").code == 4
        assert shell.ok("--instance", other, "import", "all.ndjson", "--on-exists", "skip", "--json").json["skipped"] == 4

    def test_a_shown_record_can_be_imported(self, shell: Shell, tmp_path: Path) -> None:
        record = shell.add("--title", "x", "--meta", "a.b=1")
        shown = shell.ok("show", record.id, "--json").out
        other = tmp_path / "other"
        Catalog.create(other).close()
        shell.ok("--instance", other, "import", "-", stdin=shown.encode())
        assert shell.ok("--instance", other, "show", record.id, "--json").out == shown

    def test_some_can_be_exported(self, shell: Shell) -> None:
        shell.add("--title", "x", "--meta", "n=1")
        shell.add("--title", "y", "--meta", "n=2")
        assert json.loads(shell.ok("export", "records", "n=2").out)["title"] == "y"

    def test_convert_there_and_back(self, shell: Shell) -> None:
        records = [shell.add("--title", f"r{i}", "--key", f"k{i}") for i in range(3)]
        before = shell.ok("export", "records").out
        said = shell.ok("convert", "--to", "tinydb", "--json").json
        assert said["records"] == 3
        assert json.loads((shell.root / ".cubeport/catalog.json").read_text())
        assert shell.ok("export", "records").out == before
        shell.add("--title", "more")
        shell.ok("convert", "--to", "sqlite")
        assert shell.ok("search", "--count").out == "4\n"
        assert shell.ok("show", "k1", "--json").json["id"] == records[1].id
        assert shell("convert", "--to", "sqlite").code == 4
        assert shell("convert", "--to", "oracle").code == 2
        assert not (shell.root / ".cubeport/converting.json").exists()

    def test_who_has_the_old_store_open_is_told_and_the_rest_of_catalog_yaml_stays(self, shell: Shell) -> None:
        path = shell.root / ".cubeport/catalog.yaml"
        path.write_text(path.read_text() + "schema_policy: strict  # ours\n")
        with shell.catalog(read_only=False) as catalog:
            shell.ok("convert", "--to", "tinydb")
            with pytest.raises(CatalogMoved):
                catalog.add({}, title="late")
        assert "schema_policy: strict  # ours\n" in path.read_text()

    @pytest.mark.parametrize("retired", [False, True])
    def test_a_conversion_that_died_is_finished_or_forgotten(self, shell: Shell, retired: bool) -> None:
        record = shell.add("--title", "x")
        path = shell.root / ".cubeport/catalog.yaml"
        old = path.read_text()
        if retired:
            shell.ok("convert", "--to", "tinydb")
            path.write_text(old)
        else:
            (shell.root / ".cubeport/catalog.json").write_text("half")
        (shell.root / ".cubeport/converting.json").write_text('{"from": "sqlite", "to": "tinydb"}')
        shell.ok("edit", record.id, "--title", "y")
        assert ("tinydb" in path.read_text()) is retired
        assert shell.ok("show", record.id, "--json").json["title"] == "y"
        if not retired:
            shell.ok("convert", "--to", "tinydb")
            assert shell.ok("search", "--count").out == "1\n"

    def test_migrate_is_nothing_when_there_is_nothing_to_do(self, shell: Shell) -> None:
        said = shell.ok("migrate", "--json").json
        assert said["before"] == said["after"]
        assert shell.ok("migrate").out == f"the catalog has format {said['after']}: nothing to migrate\n"


def test_what_a_catalog_keeps_is_nobody_elses(shell: Shell) -> None:
    shell.add(shell.file("a.txt"))
    assert (shell.root / ".cubeport").stat().st_mode & 0o007 == 0
