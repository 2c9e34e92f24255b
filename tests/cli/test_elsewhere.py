"""``--url``: the same commands against a service print the same as against a folder."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import cli, start, stop
from tests.pages import Follower

from cubeport.cli import _help
from cubeport.cli._app import build
from cubeport.main import run
from cubeport.main.command import wiring

pytestmark = pytest.mark.slow

SQUARE = [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]
ZONES = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "id": "a", "properties": {"name": "A"}, "geometry": {"type": "Polygon", "coordinates": SQUARE}}
    ],
}


def _month(folder: Path, number: int) -> Path:
    """Write one month of days on a small grid."""
    values = np.arange(28 * 3 * 4, dtype="float32").reshape(28, 3, 4) + number
    path = folder / f"tas_2020-0{number}.nc"
    xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K", "standard_name": "air_temperature"})},
        coords={
            "time": ("time", np.arange(28), {"units": f"days since 2020-0{number}-01"}),
            "lat": ("lat", [0.0, 5.0, 10.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 5.0, 10.0, 15.0], {"units": "degrees_east"}),
        },
        attrs={"title": "Air temperature"},
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent")
    for number in (1, 2, 3):
        _month(folder, number)
    (folder / "bad.nc").write_bytes(b"not a file of values")
    (folder / "squares.geojson").write_text(json.dumps(ZONES))
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a service of another folder."""
    parent = tmp_path_factory.mktemp("places")
    for name in ("here", "there"):
        assert cli("init", parent / name).returncode == 0
    made = cli("keys", "add", "ann", "--scope", "admin", "--json", "--instance", parent / "there")
    process, url = start(parent / "there")
    (parent / "key").write_text(json.loads(made.stdout)["key"])
    yield parent / "here", url
    stop(process)


@pytest.fixture(autouse=True)
def _key(places: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBEPORT_KEY", (places[0].parent / "key").read_text())


def _printed(capsys: pytest.CaptureFixture[str], place: Sequence[object], arguments: Sequence[object]) -> tuple[int, str, str]:
    code = run([str(each) for each in (*place, "--no-progress", *arguments)])
    out, err = capsys.readouterr()
    return code, _same(out), _same(err)


def _same(text: str) -> str:
    """Return a text without what differs between two instances: addresses, ids, times, bytes of a manifest."""
    text = re.sub(r"http://127\.0\.0\.1:\d+", "URL", text)
    text = re.sub(r"\b[0-9a-f]{32,64}\b|\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"operation: ID\n", "", text)  # its log is in the folder
    text = re.sub(r"cubeport (?:--url URL|--instance \S+) ", "cubeport ", text)
    text = re.sub(r"\.(?=\n)", "", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z?", "TIME", text)


_PARAMETERS = ("period_type=monthly", "partial=true", "method=mean")
_DERIVE = ("derive", "resample", "tas", "--id", "monthly", *(word for each in _PARAMETERS for word in ("--param", each)))

COMMANDS: Sequence[tuple[object, ...]] = (
    ("datasets",),
    ("ingest", "{files}/tas_2020-01.nc", "{files}/tas_2020-02.nc", "--id", "tas", "--title", "Temperature", "--dry-run"),
    ("ingest", "{files}/tas_2020-01.nc", "{files}/tas_2020-02.nc", "--id", "tas", "--title", "Temperature", "--tag", "first"),
    ("ingest", "{files}/bad.nc", "--id", "bad"),
    ("ingest", "{files}/tas_2020-01.nc", "{files}/tas_2020-02.nc", "--each", "--id-pattern", "each-{{stem}}"),
    ("ingest", "{files}/tas_2020-01.nc", "--id", "said", "--attrs", '{{"history": "by hand"}}', "--append-dim", "time"),
    ("delete", "said", "--purge", "--yes"),
    ("update", "tas", "{files}/tas_2020-03.nc", "--append-dim", "time"),
    ("update", "nowhere", "{files}/tas_2020-03.nc"),
    ("datasets",),
    ("datasets", "-q"),
    ("datasets", "tas"),
    ("datasets", "tas@first"),
    ("datasets", "nowhere"),
    ("datasets", "--q", "each", "--variable", "tas", "--bbox", "0,0,5,5"),
    ("describe", "tas", "--title", "Air temperature", "--license", "CC-BY-4.0"),
    ("describe", "tas", "--unset", "title"),
    ("tag", "tas", "newest"),
    ("tag", "tas", "newest", "--version", "first"),
    ("tag", "tas", "newest", "--delete"),
    ("versions", "tas"),
    ("diff", "tas@first", "tas"),
    ("rollback", "tas", "--to", "first"),
    ("publish", "tas"),
    ("unpublish", "each-tas_2020-01"),
    ("datasets", "--publication", "unpublished"),
    ("refresh",),
    ("sync", "tas", "--plan"),
    ("sync", "tas"),
    ("recipes",),
    _DERIVE,
    _DERIVE,  # nothing to do
    ("derive", "--list"),
    ("sync", "--all"),
    ("zones", "list"),
    ("zones", "add", "{files}/squares.geojson"),
    ("zones", "show", "squares"),
    ("zones", "remove", "squares"),
    ("templates",),
    ("extents",),
    ("changes", "tas"),
    ("usage",),
    ("delete", "each-tas_2020-01", "--yes"),
    ("restore", "each-tas_2020-01"),
)


def test_a_service_and_a_folder_print_the_same(
    places: tuple[Path, str], files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, url = places
    monkeypatch.setenv("CUBEPORT_PUBLIC_URL", "http://127.0.0.1:1")
    monkeypatch.chdir(files.parent)  # a folder that is no instance: --url needs none
    differ, ran = [], []
    for command in COMMANDS:
        arguments = [str(each).format(files=files) for each in command]
        by_folder = _printed(capsys, ("-i", here), arguments)
        by_service = _printed(capsys, ("--url", url), arguments)
        ran.append((command, by_folder[0]))
        if by_service != by_folder:
            differ.append((command, by_folder, by_service))
    codes = {command[:2]: code for command, code in ran}
    assert codes["derive", "resample"] == 0
    assert not differ, "\n".join(f"{command}\n  {here!r}\n  {there!r}" for command, here, there in differ)


@pytest.mark.parametrize(
    "command",
    [("datasets",), ("datasets", "tas"), ("versions", "tas"), ("zones", "list"), ("templates",), ("extents",), ("recipes",)],
)
def test_the_documents_have_the_same_members(
    places: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    here, url = places
    monkeypatch.setenv("CUBEPORT_PUBLIC_URL", "http://127.0.0.1:1")
    found = []
    for place in (("-i", here), ("--url", url)):
        code, out, _ = _printed(capsys, place, (*command, "--json"))
        assert code == 0
        found.append(json.loads(out))
    assert found[0] == found[1]


def test_records_of_a_service_are_found_shown_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same catalog by its folder and by its service: the same lines, and the same bytes."""
    monkeypatch.delenv("CUBEPORT_KEY")  # of another instance
    root = tmp_path / "instance"
    assert cli("init", root).returncode == 0
    (tmp_path / "report.txt").write_text("what was seen\n")
    for year in (2017, 2018, 2019):
        source = (tmp_path / "report.txt",) if year == 2018 else ()
        about = ("--title", f"Report of {year}", "--meta", f"year={year}", "--kind", "report", "--visibility", "public")
        added = cli("add", *source, "--key", f"r{year}", *about, "--instance", root)
        assert added.returncode == 0, added.stderr
    assert cli("edit", "r2018", "--title", "The report of 2018", "--instance", root).returncode == 0
    preview = (tmp_path / "report.txt", "--role", "preview", "--key")
    for more in ((tmp_path / "report.txt",), ("--key", "untitled"), (*preview, "10.5281/zenodo.1"), (*preview, "d" * 32)):
        assert cli("add", *more, "--kind", "note", "--visibility", "public", "--instance", root).returncode == 0
    process, url = start(root)
    try:
        for command in (
            ("search", "year>=2018", "--order", "key"),
            ("search", "year>=2018", "--not", "key=r2019", "--fields", "key,year,title"),
            ("search", "--kind", "note", "--order", "created_at"),
            ("search", "--kind", "note", "--format", "compact", "--order", "created_at"),
            ("search", "--kind", "report", "--count"),
            ("search", "--kind", "report,note", "--count"),
            ("search", "--kind", "report", "--first", "--ids", "--order", "-year"),
            ("search", "--kind", "report", "--limit", "0", "--format", "csv", "--order", "year"),
            ("history", "r2018"),
            ("cat", "r2018"),
            ("search", "--text", "report 2018", "--fields", "key,artifact.original_name,artifact.size_bytes"),
            ("search", "--limit", "-1"),
            ("history", "10.5281/zenodo.1"),
            ("cat", "10.5281/zenodo.1"),
            ("cat", "d" * 32),
        ):
            here, there = (_printed(capsys, place, command) for place in (("-i", root), ("--url", url)))
            assert there == here, command
        none = _printed(capsys, ("--url", url), ("search", "year=1999"))
        # The fields of a catalog are counted in its folder.
        assert none == (3, "", "error[no-match]: No record matches\nnext: who runs the service can run cubeport fields\n")
        code, out, _ = _printed(capsys, ("--url", url), ("search", "--kind", "report", "--limit", "2", "--order", "key", "--json"))
        page = json.loads(out)
        assert (code, [each["key"] for each in page["items"]], page["number_matched"]) == (0, ["r2017", "r2018"], 3)
        code, out, _ = _printed(
            capsys, ("--url", url), ("search", "--kind", "report", "--order", "key", "--cursor", page["next"], "--ids")
        )
        assert (code, len(out.split())) == (0, 1)
        code, out, _ = _printed(capsys, ("--url", url), ("show", "r2018"))
        assert "links" not in out, "as in a folder"
        assert (code, "title: The report of 2018" in out, "URL/records/" in out) == (0, True, True)
        here, there = (
            json.loads(_printed(capsys, place, ("show", "r2018", "--json"))[1]) for place in (("-i", root), ("--url", url))
        )
        assert there["operation_id"] == here["operation_id"]
        monkeypatch.chdir(tmp_path)
        code, out, _ = _printed(capsys, ("--url", url), ("get", "r2018", "-o", "copied"))
        assert code == 0
        assert (tmp_path / out.strip()).read_text() == "what was seen\n"
        code, _, err = _printed(capsys, ("--url", url), ("get", "r2018", "-o", "copied"))
        assert (code, "already exists" in err) == (4, True)
        code, _, err = _printed(capsys, ("--url", url), ("cat", "r2017"))
        assert (code != 0, "no artifact" in err) == (True, True)
        code, _, err = _printed(capsys, ("--url", url), ("show", "r2018@1"))
        assert (code, "cubeport history r2018" in err) == (2, True)
    finally:
        stop(process)


def test_an_ingestion_at_a_service_can_be_followed_and_tried_again(
    places: tuple[Path, str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = places
    run(["--url", url, "jobs", "--json"])
    jobs = json.loads(capsys.readouterr().out)["items"]
    whole = next(each["ingestion_id"] for each in jobs if (each["dataset_id"], each["status"]) == ("bad", "failed"))
    code, out, err = _printed(capsys, ("--url", url), ("jobs", whole[:8], "--retry", "--follow"))
    assert code == 5
    assert "status: failed" in out
    assert "error[source-rejected]" in err
    code, _, err = _printed(capsys, ("--url", url), ("jobs", whole[:8], "--cancel"))
    assert (code, "already" in err.lower() or "ended" in err) == (4, True), err


def test_progress_is_shown_as_the_file_is_sent(places: tuple[Path, str], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, url = places
    assert run(["--url", url, "ingest", str(files / "tas_2020-03.nc"), "--id", "shown"]) == 0
    phases = capsys.readouterr().err.splitlines()
    assert phases[0] == "sending"
    # Which phases of the job follow depends on how quick it is: the service tells the one it is in when it is asked.
    assert set(phases) - {"sending"}, phases


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve",), "it makes or serves an instance on this machine"),
        (("edit", "tas", "--title", "x"), "search, show, history, cat and get read them"),
        (("path", "tas"), "cubeport get copies one from there"),
        (("search", "kind=report", "--paths"), "does not say where its files are"),
        (("keys", "list"), "on the machine of the instance"),
        (("push", "tas", "--to", "https://data.example.org"), "--to names"),
        (("sync", "--due"), "a service runs what is due itself"),
        (("refresh", "tas", "--overviews"), "on the machine that has them"),
        (("ingest", "{files}", "--id", "x", "-i", "{files}"), "give one of them"),
    ],
)
def test_what_makes_no_sense_at_a_service_is_refused_with_its_reason(
    places: tuple[Path, str], files: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = _printed(capsys, ("--url", places[1]), [each.format(files=files) for each in arguments])
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    "arguments", [("sync", "--due"), ("refresh", "--overviews"), ("refresh", "each-tas_2020-02", "--overviews")]
)
def test_the_next_step_of_a_flag_that_needs_a_folder_works(
    places: tuple[Path, str], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """In the words of the message, as it is pasted."""
    _, url = places
    assert run(["--url", url, *arguments]) == 2
    step = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("next: "))
    program, *words = shlex.split(step.removeprefix("next: "))
    assert (program, words[:2]) == ("cubeport", ["--url", url])
    assert run(words) == 0, capsys.readouterr().err


def test_attributes_that_are_sent_are_in_the_data(
    places: tuple[Path, str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = places
    attributes = '{"history": "written by hand", "version_number": 3}'
    assert run(["--url", url, "ingest", str(files / "tas_2020-02.nc"), "--id", "with-attrs", "--attrs", attributes]) == 0
    capsys.readouterr()
    found = xr.open_dataset(f"{url}/zarr/with-attrs.zarr", engine="zarr", chunks=None).attrs
    assert (found["history"], found["version_number"], found["title"]) == ("written by hand", 3, "Air temperature")


def test_each_command_says_whether_it_works_at_a_service() -> None:
    names: list[str] = []
    root = build(wiring())
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        names += [name] if inner is None else [f"{name} {each}" for each in inner]
    said = [*_help.OVER_HTTP, *_help.HERE_ONLY]
    assert sorted(said) == sorted(names)


def test_the_page_on_a_service_elsewhere_works_as_written(places: tuple[Path, str], files: Path) -> None:
    reader = Follower(files, replace={"http://127.0.0.1:8000": places[1]})
    reader.environment["CUBEPORT_KEY"] = (places[0].parent / "key").read_text()
    reader.follow("how-to/service-from-afar.md")
    _, changed, followed = reader.outputs
    assert "tas has new texts: title, license." in changed
    assert "status: completed" in followed


def test_a_service_that_needs_a_key_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("init", tmp_path / "locked").returncode == 0
    key = json.loads(cli("keys", "add", "ann", "--scope", "ingest", "--json", "--instance", tmp_path / "locked").stdout)["key"]
    process, url = start(tmp_path / "locked")
    try:
        monkeypatch.setenv("CUBEPORT_KEY", "cp_00000000_wrong")
        code, _, err = _printed(capsys, ("--url", url), ("jobs",))
        assert (code, "error[unauthorized]" in err) == (2, True), err
        assert "next: export CUBEPORT_KEY=cp_…" in err
        monkeypatch.delenv("CUBEPORT_KEY")
        assert _printed(capsys, ("--url", url), ("datasets",))[0] == 0, "what is published needs none"
        monkeypatch.setenv("CUBEPORT_KEY", key)
        assert _printed(capsys, ("--url", url), ("jobs",)) == (0, "", "There are no ingestions\n")
    finally:
        stop(process)
