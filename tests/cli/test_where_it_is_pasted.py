"""A command that a message prints works as it is pasted, where the caller stands: at --instance, above one, at a service."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import xarray as xr
from tests.cli.conftest import Said, Shell
from tests.cli.test_help import LEAVES

from cubeport.cli._advice import Place

FOLDER = Place(instance=Path("my data"))
SERVICE = Place(url="https://data.example.org")


@pytest.mark.parametrize(
    ("place", "text", "pasted"),
    [
        (Place(), "cubeport datasets", "cubeport datasets"),
        (FOLDER, "cubeport datasets", "cubeport --instance 'my data' datasets"),
        (FOLDER, "make it: cubeport ingest FILES --id a", "make it: cubeport --instance 'my data' ingest FILES --id a"),
        (FOLDER, "a:\n  cubeport gc", "a:\n  cubeport --instance 'my data' gc"),
        (FOLDER, "cubeport export zarr a --to b", "cubeport --instance 'my data' export zarr a --to b"),
        (FOLDER, "cubeport delete a --instance b --yes", "cubeport delete a --instance b --yes"),
        (FOLDER, "cubeport delete a -i b --yes", "cubeport delete a -i b --yes"),
        (FOLDER, "cubeport zones --help", "cubeport zones --help"),
        (FOLDER, "cubeport init climate", "cubeport init climate"),
        (FOLDER, "pip install 'cubeport[service]'", "pip install 'cubeport[service]'"),
        (FOLDER, "cubeport cannot read it", "cubeport cannot read it"),
        (FOLDER, "cubeport.connect('a')", "cubeport.connect('a')"),
        (Place(files=["a b.nc"]), "it (mode x): cubeport update s FILES; FILES", "it (mode x): cubeport update s 'a b.nc'; FILES"),
        (Place(files=["a\\1.nc", "b.nc"]), "cubeport ingest FILES --id s", "cubeport ingest 'a\\1.nc' b.nc --id s"),
        (Place(files=["long.nc"] * 99), "cubeport ingest FILES --id s", "cubeport ingest FILES --id s"),
        (
            Place(files=["a.nc"], arguments=["-q", "ingest", "a.nc", "--id", "s", "--normalise", "sort: [time]"]),
            "add (mode update): cubeport update s FILES; or (mode replace): cubeport ingest FILES --id s --replace",
            "add (mode update): cubeport update s a.nc; or (mode replace): "
            "cubeport -q ingest a.nc --id s --normalise 'sort: [time]' --replace",
        ),
        (Place(arguments=["ingest", "s"]), "cubeport ingest FILES --id s --replace", "cubeport ingest FILES --id s --replace"),
        (
            Place(files=["a.nc"], arguments=["update", "s", "a.nc"]),
            "cubeport ingest FILES --id s --replace",
            "cubeport ingest a.nc --id s --replace",
        ),
        (SERVICE, "cubeport versions tas", "cubeport --url https://data.example.org versions tas"),
        (SERVICE, "see cubeport versions tas", "see cubeport --url https://data.example.org versions tas"),
        (SERVICE, "cubeport fsck", "who runs the service can run cubeport fsck"),
        (SERVICE, "cubeport delete a --url http://b --yes", "cubeport delete a --url http://b --yes"),
    ],
)  # fmt: skip
def test_a_command_names_the_place_of_the_caller(place: Place, text: str, pasted: str) -> None:
    assert place.pasted(text) == pasted


def commands(said: Said) -> list[list[str]]:
    """Return the command lines of what was said, each up to the end of its line or sentence."""
    return [shlex.split(each) for each in re.findall(r"(?<![\w./'-])cubeport (?!cannot)([^\n;,()]*)", said.err + said.out)]


PROBLEMS = (
    "describe sea",
    "datasets nothing",
    "update nothing sea.nc",
    "ingest sea.nc text.nc",
    "jobs --retry",
    "diff sea",
    "delete sea",
    "derive",
    "sync",
    "search nope=1",
    "show nothing",
    "doctor",
    "templates",
    "keys list",
    "zones list",
    "ingest text.nc --id text",
    "lock sources.toml",
    "list --delete",
    "unpublish sea --json",
)


@pytest.fixture
def beside(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a folder with files and, below it, the instance."""
    monkeypatch.chdir(tmp_path)
    days = {"units": "days since 2020-01-01", "standard_name": "time"}
    degrees = [{"units": f"degrees_{way}"} for way in ("north", "east")]
    axes = {"time": ("time", [0, 1], days), "lat": ("lat", [1.0, 2], degrees[0]), "lon": ("lon", [1.0, 2], degrees[1])}
    xr.Dataset({"sst": (("time", "lat", "lon"), [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])}, axes).to_netcdf(
        "sea.nc", engine="h5netcdf"
    )
    Path("text.nc").write_text("no cube\n")
    Path("sources.toml").write_text('[sources.sst]\nurl = "https://data.example.org/sst.nc"\n')
    shell.ok("ingest", "sea.nc", "--id", "sea", "--instance", "instance")
    return shell


@pytest.mark.parametrize("line", PROBLEMS)
def test_advice_runs_where_the_caller_stands(beside: Shell, line: str) -> None:
    told = commands(beside(*line.split(), "-i", "instance"))
    for words in told:
        name = next((each for each in words if each in {leaf.split()[0] for leaf in LEAVES}), None)
        if name is None or "--help" in words or any(word.isupper() for word in words):
            continue  # a placeholder, such as FILES
        said = beside(*words)
        assert "error[not-a-catalog]" not in said.err, words
        assert "error[usage]" not in said.err, words


def test_advice_names_the_files_that_were_given(beside: Shell) -> None:
    """What is refused because its dataset exists, or does not, prints commands that do it."""
    with xr.open_dataset("sea.nc", decode_times=False) as data:
        data.assign_coords(time=data.time + 2).to_netcdf("next days.nc", engine="h5netcdf")
    refused = beside("ingest", "next days.nc", "--id", "sea", "-i", "instance")
    update, replace = commands(refused)
    assert "2020-01-01 to 2020-01-04" in beside.ok(*update).out
    assert "2020-01-03 to 2020-01-04" in beside.ok(*replace).out
    [ingest] = commands(beside("update", "other", "next days.nc", "-i", "instance"))
    assert "other: created" in beside.ok(*ingest).out


def test_what_cannot_be_added_is_published_as_another_dataset(beside: Shell) -> None:
    """`--each` of `ingest` was advised, which `update` does not have."""
    with xr.open_dataset("sea.nc", decode_times=False) as data:
        later = data.assign_coords(time=data.time + 2)
        later.time.attrs = {**data.time.attrs, "calendar": "noleap", "units": "days since 2020-03-01"}
        later.to_netcdf("noleap.nc", engine="h5netcdf")
    refused = beside("update", "sea", "noleap.nc", "-i", "instance")
    assert "error[calendar-mismatch]" in refused.err
    [ingest] = commands(refused)
    assert "next: created" in beside.ok(*("next" if each == "NAME" else each for each in ingest)).out


def test_advised_steps_keep_those_of_the_dataset(beside: Shell) -> None:
    """A step that is given replaces those that an update repeats, so the advice prints them too."""
    beside.ok("ingest", "sea.nc", "--id", "warm", "--normalise", "rename: {sst: t}", "--normalise", "sort: time", "-i", "instance")
    with xr.open_dataset("sea.nc", decode_times=False) as data:
        later = data.assign_coords(time=data.time + 2)
        later.time.attrs = data.time.attrs
        later["sst"] = (later.sst / 3).astype("float32")
        later.to_netcdf("single.nc", engine="h5netcdf")
    line = "update", "warm", "single.nc", "-i", "instance"
    refused = beside(*line, "--json").problem
    assert (refused["kind"], refused["detail"]) == (
        "dtype-mismatch",
        "single.nc: variable 't' is float32, and float64 in the existing data",
    )
    advice = shlex.split(refused["next"].partition("repeat with ")[2])
    assert [each.partition(": ")[0] for each in advice[1::2]] == ["rename", "sort", "set_dtype"]
    assert refused["repair"] == [{"rename": {"sst": "t"}}, {"sort": ["time"]}, {"set_dtype": {"t": "float64"}}]
    assert "2020-01-01 to 2020-01-04" in beside.ok(*line, *advice).out


def test_most_of_these_problems_advise_a_command(beside: Shell) -> None:
    assert sum(bool(commands(beside(*line.split(), "-i", "instance"))) for line in PROBLEMS) >= 14


def test_an_instance_just_below_is_found(beside: Shell) -> None:
    said = beside("datasets")
    assert said.code == 3
    [words] = commands(said)
    assert words == ["--instance", "instance", "datasets"]
    assert "sea" in beside.ok(*words).out


def test_with_several_instances_below_each_is_offered(beside: Shell) -> None:
    beside.ok("init", "other", "--core", "--quiet")
    assert [words[1] for words in commands(beside("versions", "sea"))] == ["instance", "other"]


def test_a_long_line_is_not_repeated(beside: Shell) -> None:
    said = beside("search", *[f"name=as-long-as-they-are-{number}" for number in range(20)])
    assert said.err.splitlines()[-1] == "next: export CUBEPORT_INSTANCE=instance"


def test_the_deletion_that_was_asked_about_is_repeated_with_yes(beside: Shell) -> None:
    [words] = commands(beside("delete", "sea", "-i", "instance"))
    assert beside.ok(*words).out == "deleted sea\n"
    assert beside.ok("datasets", "-i", "instance").out == ""


def test_init_says_what_comes_next_and_it_runs(beside: Shell) -> None:
    said = beside.ok("init", "new")
    assert said.err == "next: cubeport ingest --instance new FILES... --id NAME, then cubeport serve --instance new\n"
    ingest = said.err.removeprefix("next: cubeport ").partition(",")[0].replace("FILES...", "sea.nc").replace("NAME", "tas")
    assert "tas: created" in beside.ok(*ingest.split()).out


def test_an_address_without_its_scheme_is_no_folder(beside: Shell) -> None:
    said = beside("datasets", "--url", "127.0.0.1:8000")
    assert said.code == 2
    assert said.err.splitlines()[-1] == "next: cubeport datasets --url http://127.0.0.1:8000"


def test_what_happened_to_a_dataset_is_told_by_what_differs(beside: Shell) -> None:
    beside.ok("describe", "sea", "--title", "The sea", "-i", "instance")
    newest = beside.ok("history", "sea", "-i", "instance").out.splitlines()[1]
    assert "title: sea → The sea" in newest
    assert "{" not in newest


def test_a_failed_job_says_why_in_the_list(beside: Shell) -> None:
    beside("ingest", "text.nc", "--id", "text", "-i", "instance")
    assert "failed" in (line := beside.ok("jobs", "-i", "instance").out.splitlines()[1])
    assert line.endswith("source-rejected: text.nc is neither NetCDF, HDF5, GRIB nor a Zarr folder")


def test_a_licence_that_nobody_stated_is_not_called_wrong(beside: Shell) -> None:
    said = beside.ok("datasets", "sea", "-i", "instance").out
    assert "license: not stated" in said
    assert "various" not in said
