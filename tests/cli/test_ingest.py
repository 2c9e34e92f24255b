"""``ingest``: what a person types first, with a folder of files in hand. Nothing is guessed; every advice works when pasted."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.cli.conftest import Shell

from cubeport.adapters.sandbox.children import Children
from cubeport.cli import _names


def write(path: Path, *, month: int = 1, name: str = "tas") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.full((1, 2, 3), float(month), "float32")
    xr.Dataset(
        {name: (("time", "lat", "lon"), data, {"units": "K"})},
        coords={
            "time": ("time", [month - 1], {"units": "days since 2020-01-01"}),
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
            "lon": ("lon", [1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--storage", "foo", "Invalid value for '--storage': 'foo' is not one of 'copy', 'virtual', 'auto'."),
        ("--on-overlap", "last", "Invalid value for '--on-overlap': 'last' is not one of 'error', 'skip', 'replace'."),
        ("--period-type", "dayly", "--period-type: 'dayly' is not one of hourly, 2-hourly,"),
        ("--normalise", "renam: {a: b}", "--normalise renam is unknown; did you mean 'rename'?"),
        ("--transform", "celsius", "--transform celsius is unknown; there are celsius_to_kelvin, convert_units, "),
        ("--chunks", "time=24", '--chunks must be a JSON object such as {"time": 24}:'),
        ("--chunks", '{"time": 0}', "--chunks time must be greater than 0"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(shell: Shell, inbox: Path, flag: str, value: str, words: str) -> None:
    said = shell("ingest", inbox / "tas_20200101.nc", "--id", "x", flag, value, "--json")
    assert (said.code, said.problem["kind"]) == (2, "usage")
    assert said.problem["detail"].startswith(words)


@pytest.fixture
def inbox(shell: Shell) -> Path:
    """Three days of one series, and a text file."""
    folder = shell.root.parent / "inbox"
    for day in (1, 2, 3):
        write(folder / f"tas_2020010{day}.nc", month=day)
    (folder / "notes.txt").write_text("hello")
    return folder


def published(shell: Shell) -> dict[str, int]:
    """Return the number of steps of each dataset that anybody sees."""
    items = shell.ok("datasets", "--publication", "published", "--json").json["items"]
    return {each["dataset_id"]: each["variables"][0]["shape"][0] for each in items}


class TestOneOrEach:
    def test_many_files_are_refused_with_both_commands_and_each_works_when_pasted(self, shell: Shell, inbox: Path) -> None:
        files = sorted(inbox.glob("*.nc"))
        said = shell("ingest", *files, "--no-progress", "--json")
        assert (said.code, said.out) == (2, "")
        series, each = said.problem["commands"]
        assert series == f"cubeport ingest '{inbox}/tas_2020010*.nc' --no-progress --json --series --id tas"
        assert each == f"cubeport ingest '{inbox}/tas_2020010*.nc' --no-progress --json --each"
        assert series in said.problem["next"]
        assert each in said.problem["next"]
        assert published(shell) == {}
        assert shell.ok("search", "--count").out == "0\n"
        shell.ok(*shlex.split(series)[1:])
        assert published(shell) == {"tas": 3}
        shell.ok(*shlex.split(each)[1:])
        assert published(shell) == {"tas": 3, "tas_20200101": 1, "tas_20200102": 1, "tas_20200103": 1}

    def test_one_file_has_the_id_of_its_name_and_says_so(self, shell: Shell, inbox: Path) -> None:
        file = write(inbox / "Air Temp.2020.nc")
        said = shell.ok("ingest", file)
        assert "The id is air-temp-2020, from the name of the file" in said.err
        assert published(shell) == {"air-temp-2020": 1}

    def test_letters_of_other_languages_become_those_that_an_id_may_have(self, shell: Shell, inbox: Path) -> None:
        shell.ok("ingest", write(inbox / "Größe Île Østerbro.nc"))
        assert published(shell) == {"grosse-ile-osterbro": 1}

    def test_the_url_of_a_local_file_is_its_path(self, shell: Shell, inbox: Path) -> None:
        shell.ok("ingest", write(inbox / "Air Temp.nc").as_uri(), "--id", "a")
        later = write(inbox / "b c.nc", month=2)
        shell.ok("update", "a", f"file://localhost{later.as_uri().removeprefix('file://')}")
        assert published(shell) == {"a": 2}

    def test_update_takes_the_id_as_ingest_does_too(self, shell: Shell, inbox: Path) -> None:
        shell.ok("ingest", write(inbox / "a.nc"), "--id", "a")
        shell.ok("update", write(inbox / "b.nc", month=2), write(inbox / "c.nc", month=3), "--id", "a")
        assert published(shell) == {"a": 3}
        none = shell("update", "a")
        assert (none.code, none.err) == (2, "error[usage]: No file is named.\nnext: cubeport update a FILE…\n")

    def test_an_id_that_no_address_may_have_is_refused_with_one_that_works(self, shell: Shell, inbox: Path) -> None:
        file = str(min(inbox.glob("*.nc")))
        said = shell("ingest", file, "--id", "My Data (2020)")
        assert said.code == 2
        assert "--id 'My Data (2020)' cannot be the id" in said.err
        better = said.err.partition("next: --id ")[2].partition(";")[0]
        assert shell("ingest", file, "--id", better, "--dry-run").code == 0

    def test_a_quoted_glob_with_an_id_is_one_dataset(self, shell: Shell, inbox: Path) -> None:
        shell.ok("ingest", inbox / "*.nc", "--id", "all")
        assert published(shell) == {"all": 3}

    def test_a_folder_is_walked_by_content_and_what_is_skipped_is_reported(self, shell: Shell, inbox: Path) -> None:
        said = shell("ingest", inbox)
        assert said.code == 2
        assert "3 files" in said.err
        said = shell.ok("ingest", inbox, "--series", "--id", "all")
        assert f"skipped   {inbox / 'notes.txt'}: unknown format" in said.err
        assert published(shell) == {"all": 3}

    def test_each_file_that_is_left_out_of_a_folder_has_its_reason(self, shell: Shell, inbox: Path) -> None:
        file = min(inbox.glob("*.nc"))
        (inbox / "empty.nc").touch()
        (inbox / "nothing.nc").symlink_to(inbox / "moved.nc")
        os.mkfifo(inbox / "pipe.nc")
        (inbox / "z.nc.gz").write_bytes(gzip.compress(file.read_bytes()))
        shutil.copy(file, inbox / "z.nc.part")
        shutil.copy(file, inbox / "z.nc~")
        said = shell.ok("ingest", inbox, "--series", "--id", "all")
        told = dict(re.findall(rf"skipped   {re.escape(str(inbox))}/(\S+): (.+)", said.err))
        assert told == {
            "notes.txt": "unknown format",
            "empty.nc": "it is empty",
            "nothing.nc": "it is a link to nothing",
            "pipe.nc": "it is no file",
            "z.nc.gz": "it is compressed; unpack it first",
            "z.nc.part": "its name is that of an unfinished transfer",
            "z.nc~": "its name is that of a backup",
        }
        assert published(shell) == {"all": 3}

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--each", "--id", "x"), "Use only one of them"),
            (("--each", "--series"), "Use only one of them"),
            (("--each", "--title", "One"), "would give all 3 datasets the same title"),
            (("--id-pattern", "{stem}"), "needs --each"),
            (("--each", "--id-pattern", "fixed"), "takes nothing else in braces"),
            (("--each", "--id-pattern", "{stem}{year}"), "takes nothing else in braces"),
        ],
    )
    def test_flags_that_contradict_each_other_are_refused(
        self, shell: Shell, inbox: Path, flags: tuple[str, ...], words: str
    ) -> None:
        said = shell("ingest", inbox / "*.nc", *flags)
        assert (said.code, words in said.err) == (2, True), said.err
        assert published(shell) == {}


class TestEach:
    def test_two_files_of_one_name_are_told_what_gives_them_different_ids(self, shell: Shell, tmp_path: Path) -> None:
        for names in (("x/a.nc", "y/a.nc"), ("x/a.nc", "x/a.nc4"), ("x/z/a.nc", "y/z/a.nc")):
            folder = tmp_path / "-".join(names).replace("/", "")
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write(folder / name)
            advice = shell("ingest", folder, "--each", "--dry-run").out.partition("already has the id a. Next: ")[2].splitlines()[0]
            if advice.startswith("cubeport"):
                shell.ok(*shlex.split(advice.replace(" ID", " b"))[1:])
            else:
                option = shlex.split(advice.partition(" gives")[0])
                said = shell.ok("ingest", folder, "--each", "--dry-run", *option)
                assert len(set(re.findall(r"would create +(\S+)", said.out))) == 2

    def test_a_bad_file_refuses_itself_only_and_a_second_run_goes_on(self, shell: Shell, inbox: Path) -> None:
        (inbox / "bad.nc").write_bytes((inbox / "tas_20200101.nc").read_bytes()[:300])
        write(inbox / "deeper" / "pr_2020.nc", name="pr")
        said = shell("ingest", inbox, "--each", "--no-progress")
        assert said.code == 1
        outcomes = {line.split()[1]: line.split()[0] for line in said.out.splitlines()}
        assert outcomes == {
            "bad": "refused", "pr_2020": "created", "tas_20200101": "created", "tas_20200102": "created", "tas_20200103": "created",
        }  # fmt: skip
        assert "1 refused, 4 created." in said.err
        assert len(published(shell)) == 4
        write(inbox / "bad.nc")
        again = shell.ok("ingest", inbox, "--each", "--json")
        assert again.json["counts"] == {"created": 1, "held": 4}
        assert {each["dataset_id"]: each["outcome"] for each in again.json["items"]}["bad"] == "created"

    def test_children_are_kept_from_file_to_file(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[str] = []
        start = Children._start

        def counted(children: Children, task: str) -> object:
            started.append(task)
            return start(children, task)

        monkeypatch.setattr(Children, "_start", counted)
        for day in range(1, 13):
            write(tmp_path / "many" / f"d{day:02}.nc", month=day)
        said = shell.ok("ingest", tmp_path / "many", "--each", "--json")
        assert said.json["counts"] == {"created": 12}
        cores = len(os.sched_getaffinity(0))
        assert 2 <= len(started) <= 2 * cores, "one that reads and one that checks for each core"

    def test_ids_come_from_a_pattern(self, shell: Shell, inbox: Path) -> None:
        write(inbox / "b" / "x.nc", name="pr")
        write(inbox / "a" / "x.nc")
        said = shell("ingest", inbox / "?" / "x.nc", "--each")
        assert said.code == 1
        assert "already has the id x" in said.out
        shell.ok("ingest", inbox / "?" / "x.nc", "--each", "--id-pattern", "{parent}-{stem}-{variable}")
        assert published(shell) == {"x": 1, "a-x-tas": 1, "b-x-pr": 1}

    def test_a_dry_run_writes_nothing(self, shell: Shell, inbox: Path) -> None:
        said = shell.ok("ingest", inbox / "*.nc", "--each", "--dry-run", "--json")
        assert said.json["counts"] == {"would create": 3}
        assert published(shell) == {}

    def test_an_interrupt_ends_those_that_run_and_a_second_run_goes_on(self, shell: Shell, tmp_path: Path) -> None:
        for day in range(1, 13):
            write(tmp_path / "many" / f"d{day:02}.nc", month=day)
        command = [sys.executable, "-m", "cubeport", "ingest", str(tmp_path / "many"), "--each", "--instance", str(shell.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().split()[:2] == ["created", "d01"]
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in said
        held = published(shell)
        assert f"Interrupted: {len(held)} of 12 files are datasets. The same command continues with the others." in said
        assert 1 <= len(held) < 12, "it was interrupted before all were done"
        states = {each["status"] for each in shell.ok("jobs", "--json").json["items"]}
        assert states <= {"completed", "cancelled"}
        again = shell.ok("ingest", tmp_path / "many", "--each", "--json")
        assert again.json["counts"] == {"held": len(held), "created": 12 - len(held)}


class TestTemplates:
    def test_a_name_that_is_no_file_is_a_template(self, shell: Shell) -> None:
        said = shell("ingest", "no-such-template")
        assert (said.code, "There is no template 'no-such-template'" in said.err) == (3, True)
        said = shell("ingest", "no-such-template", "--group", "g")
        assert (said.code, "--group is for files" in said.err) == (2, True)
        said = shell("ingest", "no-such-template", "--title", "T")
        assert (said.code, "--title is for files" in said.err) == (2, True)

    def test_a_file_that_is_not_there_is_named(self, shell: Shell) -> None:
        for name in ("gone.nc", "*.nc"):
            said = shell("ingest", name, "--id", "x")
            assert (said.code, said.err.startswith(f"error[source-rejected]: {name}")) == (5, True), said.err


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["tas_2001.nc", "tas_2002.nc"], "tas"),
        (["tas_Amon_200512-203011.nc", "tas_Amon_203012-205511.nc"], "tas_amon"),
        (["a.nc", "b.nc"], "folder"),
        (["2001.nc", "2002.nc"], "folder"),
        (["x.nc"], "x"),
        (["Größe (m).nc"], "grosse-m"),
    ],
)
def test_the_id_of_a_series_is_what_the_names_share(names: list[str], made: str) -> None:
    assert _names.of_series([Path("/data/folder") / name for name in names]) == made


def test_a_glob_stands_for_files_only_where_it_fits_just_these(tmp_path: Path) -> None:
    for name in ("a1.nc", "a2.nc", "a3.nc", "b.nc"):
        (tmp_path / name).touch()
    three = [f"{tmp_path}/a{n}.nc" for n in (1, 2, 3)]
    assert _names.as_globs(three) == [f"{tmp_path}/a*.nc"]
    assert _names.as_globs([*three, f"{tmp_path}/b.nc"]) == [f"{tmp_path}/*.nc"]
    assert _names.as_globs([three[0], three[1], f"{tmp_path}/b.nc"]) == [three[0], three[1], f"{tmp_path}/b.nc"]


def test_each_second_day_of_a_daily_series_is_missing(shell: Shell, inbox: Path) -> None:
    third, fifth = inbox / "tas_20200103.nc", write(inbox / "tas_20200105.nc", month=5)
    files = (inbox / "tas_20200101.nc", third, fifth)
    refused = shell("ingest", *files, "--series", "--id", "a", "--period-type", "daily")
    assert "2 of 5 daily periods are missing, first 2020-01-02 to 2020-01-02." in refused.err
    shell.ok("ingest", *files, "--series", "--id", "a", "--period-type", "daily", "--allow-gaps")
    [version] = json.loads(shell.ok("versions", "a", "--json").out)["items"]
    days = [{"start": day, "end": day, "count": 1} for day in ("2020-01-02", "2020-01-04")]
    assert version["coverage"]["temporal"] == {"start": "2020-01-01", "end": "2020-01-05", "count": 3, "gaps": days, "empty": []}


def test_a_gap_is_named_with_the_flag_that_accepts_it(shell: Shell, inbox: Path) -> None:
    files = (inbox / "tas_20200101.nc", inbox / "tas_20200103.nc", write(inbox / "tas_20200104.nc", month=4))
    refused = shell("ingest", *files, "--series", "--id", "a", "--period-type", "daily")
    assert refused.code == 4
    assert "1 of 4 daily periods is missing: 2020-01-02." in refused.err
    assert "--allow-gaps" in refused.err
    shell.ok("ingest", *files, "--series", "--id", "a", "--period-type", "daily", "--allow-gaps")
    update = shell("update", "a", write(inbox / "tas_20200106.nc", month=6))
    assert "2 of 6 daily periods are missing, first 2020-01-02 to 2020-01-02." in update.err
    shell.ok("tag", "a", "first")
    assert shell.ok("versions", "a").out.splitlines()[1].endswith("first")
