"""A real plugin package, installed as a wheel would be: a folder on the path with the package and its metadata."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from cubeport.catalog.hooks import HookContext, HookManager
from cubeport.catalog.plugins import discover, installed
from cubeport.errors import InvalidConfiguration, InvalidRequest, NotFound, PluginFailed
from cubeport.main import Catalog

PACKAGE = Path(__file__).parent.parent / "plugin_package"
PIPELINE = """\
operation:
  name: readings
  type: calibrate
  steps:
    - extract-metadata: {only: [synop], require: true}
    - calibrate: {offset: 0.5}
    - validate-data-schema: {schema: station, block: synop}
    - transform: {writer: shout}
    - plan-path: {directory: "{station_slug}"}
    - write-artifact
    - commit-record
  record: {kind: reading, tags: [weather]}
"""


def install(target: Path) -> None:
    """Lay the package and its metadata out in *target* as an installer does."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copytree(PACKAGE / "src" / "cubeport_weather", target / "cubeport_weather", ignore=shutil.ignore_patterns("__pycache__"))
    info = target / f"cubeport_weather-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))


def install_broken(target: Path) -> None:
    (target / "cubeport_broken.py").write_text("import a_module_that_nobody_has\n")
    info = target / "cubeport_broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cubeport-broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[cubeport.plugins]\nbroken = cubeport_broken:register\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, on the path while the test runs."""
    target = tmp_path / "site"
    target.mkdir()
    monkeypatch.syspath_prepend(str(target))
    importlib.invalidate_caches()
    yield target
    for name in ("cubeport_weather", "cubeport_broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Catalog.create(tmp_path / "instance", plugins=False).close()
    (tmp_path / "instance" / "config" / "pipelines").mkdir()
    (tmp_path / "instance" / "config" / "pipelines" / "readings.yaml").write_text(PIPELINE)
    return tmp_path / "instance"


def command(root: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real console entry in a process of its own."""
    script = Path(sys.executable).with_name("cubeport")
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run([script, "--instance", root, *arguments], env=environment, text=True, capture_output=True, timeout=60)


def reading(root: Path, text: str = "Oslo 94.0\n3.5\n") -> Path:
    path = root / "oslo.synop"
    path.write_text(text)
    return path


class TestInstalled:
    def test_each_thing_it_gives_is_there(self, site: Path, root: Path) -> None:
        install(site)
        (plugin,) = discover()
        assert (plugin.name, plugin.version, plugin.error) == ("weather", "1.2", None)
        assert {each.kind for each in plugin.registrations} == {
            "schema", "extractor", "hook", "template_field", "operation", "relation", "step", "writer", "undo", "profile_type",
            "formatter", "cli",
        }  # fmt: skip

    def test_schema_extractor_hook_field_and_profile_work_in_a_catalog(self, site: Path, root: Path) -> None:
        install(site)
        profiles = root / "config" / "profiles.yaml"
        profiles.write_text(profiles.read_text().rstrip() + "\n  mine: {protocol: shelf, root: ./ignored}\n")
        with Catalog.open(root) as catalog:
            added = catalog.add_file(
                reading(root),
                {"station": "Oslo", "height_m": 94},
                schema_name="station",
                schema_version="1",
                kind="reading",
                extract_metadata=True,
                directory_template="{station_slug}",
                profile="mine",
            )
            record = catalog.get(added.id)
            assert record.metadata["synop"]["station"] == "Oslo"
            assert (record.metadata["archive"], record.tags) == ({"step": "none"}, ("archived",))
            assert catalog.path(record.id) == root / "shelves/mine/station-reading/oslo.synop"
            assert catalog.schemas.versions("station") == ["1"]
        assert (root / ".cubeport/schemas/station/1.json").is_file()
        # The schema was written down with the record that uses it, so the record can be validated without the plugin.
        with Catalog.open(root, plugins=False, recover=False, read_only=True) as catalog:
            assert catalog.validate(record.id)[record.id].schema_name == "station"
            assert catalog.validate(record.id)[record.id].valid

    def test_what_its_code_raises_names_the_plugin_and_leaves_nothing(self, site: Path, root: Path) -> None:
        """A writer that reads bytes that are no text, and a step that is given what it does not take."""
        install(site)
        path = reading(root)
        path.write_bytes(b"Oslo 94.0\n\xff\n")
        pipelines = root / "config" / "pipelines"
        only = "operation:\n  name: {0}\n  type: calibrate\n  steps: [{1}plan-path, write-artifact, commit-record]\n"
        (pipelines / "loud.yaml").write_text(only.format("loud", "transform: {writer: shout}, "))
        (pipelines / "less.yaml").write_text(only.format("less", "calibrate: {offset: -1}, "))
        with Catalog.open(root) as catalog:
            with pytest.raises(PluginFailed, match="The writer shout of the plugin weather failed: UnicodeDecodeError") as caught:
                catalog.run("loud", path)
            assert (caught.value.kind, isinstance(caught.value.__cause__, UnicodeDecodeError)) == ("plugin-failed", True)
            with pytest.raises(PluginFailed, match="The step calibrate of the plugin weather failed: ValueError: an offset"):
                catalog.run("less", path)
            assert catalog.count() == 0
            assert [each.status for each in catalog.operations(limit=2)] == ["rolled_back"] * 2
        done = command(root, site, "run", "loud", str(path), "--verbose")
        assert done.returncode == 2
        assert "error[plugin-failed]: The writer shout of the plugin weather failed: UnicodeDecodeError" in done.stderr
        assert "target.write_text(source.path.read_text().upper())" in done.stderr

    def test_its_step_writer_and_schema_work_in_a_pipeline(self, site: Path, root: Path) -> None:
        install(site)
        path = reading(root)
        with Catalog.open(root) as catalog:
            planned = catalog.run("readings", path, dry_run=True)
            assert [step.name for step in planned.steps] == [
                "extract-metadata", "calibrate", "validate-data-schema", "transform", "plan-path", "write-artifact",
                "commit-record",
            ]  # fmt: skip
            assert catalog.count() == 0
            (record,) = catalog.run("readings", path).records
            assert record.metadata["offset"] == 0.5
            assert record.metadata["archive"] == {"step": "commit-record"}
            assert [(edge.rel, edge.target) for edge in record.lineage] == [("derived_from", path.as_uri())]
            assert catalog.path(record.id).read_text() == "OSLO 94.0\n3.5\n"
            assert catalog.operations(limit=1)[0].operation_type == "calibrate"

    def test_its_commands_and_format_are_commands_like_ours(self, site: Path, root: Path) -> None:
        install(site)
        done = command(root, site, "add", str(reading(root)), "--title", "June", "--extract-metadata")
        assert (done.returncode, done.stderr) == (0, "")
        assert command(root, site, "weather", "stations", "--json").stdout == '[\n  "Oslo"\n]\n'
        assert command(root, site, "search", "--format", "bulletin").stdout == "BULLETIN June\n"
        assert "weather  " in command(root, site, "--help").stdout
        assert "weather  1.2" in command(root, site, "plugins").stdout

    def test_switched_off_it_is_gone(self, site: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(site)
        monkeypatch.setenv("CUBEPORT_PLUGINS", "off")
        assert command(root, site, "weather", "network").returncode == 2
        monkeypatch.delenv("CUBEPORT_PLUGINS")
        assert command(root, site, "--no-plugins", "weather", "stations").returncode == 2
        assert command(root, site, "--no-plugins", "plugins", "--json").stdout == "[]\n"
        file = root / ".cubeport" / "catalog.yaml"
        file.write_text(file.read_text() + "plugins: {disabled: [weather]}\n")
        assert command(root, site, "weather", "network").returncode == 2
        assert '"disabled": true' in command(root, site, "plugins", "--json").stdout
        with Catalog.open(root, read_only=True) as catalog:
            assert [each.name for each in catalog.extractors] == ["file", "directory", "netcdf", "zarr"]
            assert list(catalog.hooks) == []

    def test_a_missing_plugins_undo_waits_for_it(self, site: Path, tmp_path: Path) -> None:
        install(site)
        hooks = HookManager()
        note = tmp_path / "note"
        note.write_text("x")
        assert not hooks.undo("archive-stamp", {"note": str(note)})
        forget = discover().values("undo")["forget-note"]
        forget({"note": str(note)})
        assert not note.exists()


class TestBroken:
    def test_it_is_one_line_an_event_and_a_doctor_line_and_the_rest_works(self, site: Path, root: Path) -> None:
        install(site)
        install_broken(site)
        done = command(root, site, "weather", "network")
        assert done.stdout == "GSN\n"
        assert done.stderr == (
            "warning: plugin broken is not used: ModuleNotFoundError: No module named 'a_module_that_nobody_has'\n"
        )
        done = command(root, site, "doctor")
        assert done.returncode == 1
        (line,) = (each for each in done.stdout.splitlines() if "broken" in each)
        assert line.split()[:3] == ["error", "plugin-broken", "broken"]
        with Catalog.open(root) as catalog:
            events = catalog.logs(plugin="broken").items
        assert {event["event"] for event in events} == {"plugin.failed"}


class TestPipelines:
    def test_a_dry_run_and_a_failure_change_nothing(self, site: Path, root: Path) -> None:
        install(site)
        path = reading(root)
        text = PIPELINE.replace("offset: 0.5", "offset: -1")
        (root / "config" / "pipelines" / "fails.yaml").write_text(text)
        before = digest(root)
        with Catalog.open(root) as catalog:
            catalog.run("readings", path, dry_run=True)
            assert digest(root) == before
            with pytest.raises(PluginFailed, match="offset cannot be negative"):
                catalog.run("fails", path)
            assert catalog.count(statuses=None) == 0
        assert digest(root) == before

    def test_hooks_around_a_step_are_told_its_name(self, site: Path, root: Path) -> None:
        install(site)
        seen: list[tuple[str, str | None]] = []

        def see(context: HookContext, payload: object) -> None:
            seen.append((context.point, context.step))

        with Catalog.open(root) as catalog:
            for stage in ("record_validate", "metadata_extract", "path_plan", "artifact_write", "record_commit"):
                for side in ("before", "after"):
                    catalog.hooks.register(f"{side}_{stage}", see, name="see")
            catalog.run("readings", reading(root))
        assert seen == [
            ("before_metadata_extract", "extract-metadata"), ("after_metadata_extract", "extract-metadata"),
            ("before_record_validate", "calibrate"), ("after_record_validate", "calibrate"),
            ("before_path_plan", "plan-path"), ("after_path_plan", "plan-path"),
            ("before_artifact_write", "write-artifact"), ("after_artifact_write", "write-artifact"),
            ("before_record_commit", "commit-record"), ("after_record_commit", "commit-record"),
        ]  # fmt: skip

    def test_each_step_leaves_events(self, site: Path, root: Path) -> None:
        install(site)
        with Catalog.open(root) as catalog:
            done = catalog.run("readings", reading(root))
            events = catalog.logs(event="step", operation=done.operation_id).items
        names = [step.name for step in done.steps]
        assert [(e["event"], e["extra"]["step"]) for e in events] == [
            (event, name) for name in names for event in ("step.started", "step.succeeded")
        ]

    @pytest.mark.parametrize(
        ("steps", "words"),
        [
            ("[extract-metdata, commit-record]", "there is no step extract-metdata; do you mean extract-metadata?"),
            ("[{plan-path: {folder: x}}, commit-record]", "plan-path: folder: Extra inputs are not permitted"),
            ("[{calibrate: {offset: many}}, commit-record]", "calibrate: offset: Input should be a valid number"),
            ("[validate-record]", "commit-record must appear once, as the last step"),
            ("[commit-record, validate-record]", "commit-record must appear once, as the last step"),
            ("[write-artifact, commit-record]", "write-artifact needs plan-path before it"),
        ],
    )
    def test_what_cannot_run_fails_before_anything_does(self, site: Path, root: Path, steps: str, words: str) -> None:
        install(site)
        (root / "config/pipelines/wrong.yaml").write_text(f"operation:\n  name: wrong\n  steps: {steps}\n")
        with Catalog.open(root) as catalog, pytest.raises(InvalidConfiguration) as caught:
            catalog.run("wrong", reading(root))
        assert words in caught.value.message
        assert "config/pipelines/wrong.yaml:3:" in caught.value.message

    def test_a_type_of_operation_that_nobody_gives_is_refused(self, site: Path, root: Path) -> None:
        install(site)
        (root / "config/pipelines/odd.yaml").write_text("operation:\n  name: odd\n  type: brew\n  steps: [commit-record]\n")
        with Catalog.open(root) as catalog, pytest.raises(InvalidRequest, match=r"no type of operation brew; .*calibrate"):
            catalog.run("odd", reading(root))

    def test_an_unknown_pipeline_names_near_ones(self, root: Path) -> None:
        with Catalog.open(root) as catalog, pytest.raises(NotFound, match="do you mean readings"):
            catalog.run("reading")

    def test_records_are_sources_too(self, site: Path, root: Path) -> None:
        install(site)
        (root / "config/pipelines/again.yaml").write_text(
            "operation:\n  name: again\n  steps: [{extract-metadata: {only: [synop]}}, commit-record]\n"
        )
        with Catalog.open(root) as catalog:
            raw = catalog.add_file(reading(root), title="raw").record
            (made,) = catalog.run("readings", raw.id).records
            assert [(edge.rel, edge.target) for edge in made.lineage] == [("derived_from", raw.id)]
            assert made.id != raw.id
            (same,) = catalog.run("again", raw.id[:8]).records
            assert (same.id, same.version) == (raw.id, 2)
            assert same.metadata["synop"]["station"] == "Oslo"


def digest(root: Path) -> dict[str, bytes]:
    """Return every file of the instance, journal, logs and the database (whose rows tell of operations) apart."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"journal", "logs", "locks"} & set(path.parts) and not path.name.startswith("catalog.db")
    }


def test_metadata_are_read_again_only_after_a_folder_of_the_path_changed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes longer than the rest of opening a catalog, and a notebook opens many."""
    read: list[str] = []
    real = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **asked: read.append(asked["group"]) or real(**asked))
    before = installed()
    assert (installed(), len(read)) == (before, 1)
    install_broken(site)
    assert [each.name for each in set(installed()) - set(before)] == ["broken"]
    assert len(read) == 2
