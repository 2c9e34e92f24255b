from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from cubeport import errors
from cubeport.catalog.plugins import Plugin, Plugins, Registration
from cubeport.cli import _output
from cubeport.cli._app import group, run
from cubeport.cli._session import Options, Session, Wiring, current


def register(app: typer.Typer) -> None:
    @app.command("show")
    def show(ctx: typer.Context, id: str) -> None:
        """Show it."""
        session = current(ctx)
        session.result({"id": id, "user": session.options.user, "command": session.command}, id)

    @app.command("logs")
    def logs(ctx: typer.Context, user: Annotated[str | None, typer.Option()] = None) -> None:
        current(ctx).result({"filter": user, "user": current(ctx).options.user})

    @app.command("fail")
    def fail(ctx: typer.Context, kind: str) -> None:
        if kind == "bug":
            raise ZeroDivisionError("at https://me:hunter2@example.org")
        if kind == "interrupt":
            raise KeyboardInterrupt
        cls = next(each for each in errors.kinds() if each.kind == kind)
        more: dict[str, Any] = {"reason": "unsafe"} if cls is errors.SourceRejected else {}
        raise cls("It is so.", next_step="do this", operation_id="ab" * 16, **more)

    @app.command("root")
    def root(ctx: typer.Context) -> None:
        current(ctx).result(str(current(ctx).root), str(current(ctx).root))

    @app.command("purge")
    def purge(ctx: typer.Context, yes: Annotated[bool, typer.Option("--yes")] = False) -> None:
        current(ctx).confirm("Purge it?", yes=yes)
        current(ctx).result("gone", "gone")

    group = typer.Typer()

    @group.command("list")
    def listed(ctx: typer.Context) -> int:
        current(ctx).result(["a"], "a")
        return 1

    app.add_typer(group, name="schema", help="Schemas.")


def never(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("opens no catalog")


def plugins(name: str = "fake", *broken: Plugin) -> Plugins:
    app = typer.Typer()

    @app.command("hello")
    def hello(ctx: typer.Context) -> None:
        current(ctx).result({"user": current(ctx).options.user})

    @app.command("bye")
    def bye(ctx: typer.Context) -> None: ...

    return Plugins([Plugin("one", "1", (Registration("cli", name, app),)), *broken])


WIRING = Wiring(never, never, (register,), plugins=lambda root: plugins())


class Line:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, wiring: Wiring = WIRING) -> tuple[int, str, str]:
        code = run(wiring, arguments)
        said = self.capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(capsys)


class TestGlobalFlags:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--json", "--user", "ann", "show", "x"),
            ("show", "--json", "--user", "ann", "x"),
            ("show", "x", "--json", "--user=ann"),
            ("--user", "bob", "show", "x", "--user", "ann", "--json"),
        ],
    )
    def test_they_may_stand_before_or_after_the_commands_name(self, line: Line, arguments: tuple[str, ...]) -> None:
        code, out, err = line(*arguments)
        assert (code, json.loads(out), err) == (0, {"id": "x", "user": "ann", "command": "show"}, "")

    def test_a_command_with_a_flag_of_that_name_has_it_for_itself(self, line: Line) -> None:
        assert json.loads(line("--user", "ann", "logs", "--user", "bob", "--json")[1]) == {"filter": "bob", "user": "ann"}

    def test_commands_of_groups_have_them_too(self, line: Line) -> None:
        assert line("schema", "list", "--json") == (1, '[\n  "a"\n]\n', "")

    def test_behind_two_dashes_nothing_is_a_flag(self, line: Line) -> None:
        assert line("show", "--", "--user")[:2] == (0, "--user\n")

    def test_the_environment_counts_where_no_flag_is_given(self, line: Line) -> None:
        wiring = Wiring(never, never, (register,), environment=Options(user="env"))
        assert json.loads(line("show", "x", "--json", wiring=wiring)[1])["user"] == "env"
        assert json.loads(line("show", "x", "--json", "--user", "me", wiring=wiring)[1])["user"] == "me"

    def test_the_instance_is_the_flag_else_the_nearest_folder_upwards(
        self, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        code, out, err = line("root")
        assert (code, out) == (3, "")
        assert err.startswith("error[not-a-catalog]: ")
        assert "next: cubeport init" in err
        (tmp_path / ".cubeport").mkdir()
        assert line("root")[1] == f"{tmp_path}\n"
        assert line("root", "--instance", ".")[1] == f"{below}\n"


class TestProblems:
    @pytest.mark.parametrize("cls", sorted(errors.kinds(), key=lambda c: c.kind), ids=lambda c: c.kind)
    def test_every_kind_has_its_groups_exit_code_and_three_lines(self, line: Line, cls: type[errors.CubeportError]) -> None:
        groups = {
            errors.InvalidRequest: 2, errors.NotFound: 3, errors.Conflict: 4, errors.Refused: 5, errors.Unavailable: 6,
        }  # fmt: skip
        wanted = next((code for group, code in groups.items() if issubclass(cls, group)), 1)
        code, out, err = line("fail", cls.kind)
        assert (code, out) == (wanted, "")
        assert err == f"error[{cls.kind}]: It is so.\nnext: do this\noperation: {'ab' * 16}\n"

    def test_with_json_it_is_the_problem_object_of_http(self, line: Line) -> None:
        code, out, err = line("fail", "stale-record", "--json")
        assert (code, out) == (4, "")
        assert json.loads(err) == {
            "kind": "stale-record",
            "title": "The record changed since it was read",
            "detail": "It is so.",
            "errors": [],
            "next": "do this",
            "operation_id": "ab" * 16,
        }

    def test_a_bug_is_told_short_and_without_secrets(self, line: Line) -> None:
        code, out, err = line("fail", "bug")
        assert (code, out) == (1, "")
        assert err.startswith("error[internal]: ZeroDivisionError: at https://example.org")
        assert "Traceback" not in err
        assert "hunter2" not in err
        assert "Traceback" in line("fail", "bug", "--verbose")[2]

    def test_interruption_is_130(self, line: Line) -> None:
        assert line("fail", "interrupt")[0] == 130

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("shwo",), "Did you mean 'show'"),
            (("show",), "Missing argument"),
            (("show", "x", "--nothing"), "No such option: --nothing"),
            (("schema",), "Missing command"),
        ],
    )
    def test_a_wrong_line_is_usage_in_the_form_asked_for(self, line: Line, arguments: tuple[str, ...], words: str) -> None:
        code, out, err = line(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error[usage]: ")
        assert words in err
        assert "--help" in err
        code, out, err = line("--json", *arguments)
        assert (code, out, json.loads(err)["kind"]) == (2, "", "usage")

    def test_what_cannot_be_asked_needs_yes(self, line: Line) -> None:
        code, out, err = line("purge")
        assert (code, out) == (2, "")
        assert "--yes" in err
        assert line("purge", "--yes") == (0, "gone\n", "")


def test_a_later_module_can_add_to_a_group(line: Line) -> None:
    def more(app: typer.Typer) -> None:
        @group(app, "schema").command("more")
        def command(ctx: typer.Context) -> None:
            current(ctx).result("more", "more")

    assert line("schema", "more", wiring=Wiring(never, never, (register, more)))[1] == "more\n"
    assert line("schema", "list", wiring=Wiring(never, never, (register, more)))[1] == "a\n"


class TestPluginCommands:
    def test_they_are_found_shown_and_take_the_global_flags(self, line: Line) -> None:
        wiring = Wiring(never, never, (register,), plugins=lambda root: plugins("fake", Plugin("two", "1", error="it broke")))
        _, out, err = line("fake", "hello", "--json", "--user", "ann", wiring=wiring)
        assert (json.loads(out), err) == ({"user": "ann"}, "warning: plugin two is not used: it broke\n")
        assert "fake" in line("--help")[1]

    def test_without_plugins_there_are_none_and_nobody_asks(self, line: Line) -> None:
        wiring = Wiring(never, never, (register,), plugins=never)
        assert line("show", "x", wiring=wiring)[0] == 0
        assert line("fake", "hello", "--no-plugins", wiring=wiring)[0] == 2
        assert line("--no-plugins", "--help", wiring=wiring)[0] == 0

    def test_one_of_ours_is_never_replaced(self, line: Line) -> None:
        wiring = Wiring(never, never, (register,), plugins=lambda root: plugins("show"))
        assert line("show", "x", wiring=wiring) == (0, "x\n", "")
        assert "plugin one cannot provide the command show: cubeport has a command of that name" in line("--help", wiring=wiring)[2]


class TestOutput:
    def test_nothing_drives_the_terminal(self, line: Line) -> None:
        assert line("show", "\x1b[31mred\u202e\x07")[1] == "\x1b[31mred\u202e\x07\n"  # this command's own text
        shown = _output.table([["\x1b[31mred\u202e", None]], ["title", "x"], width=40)
        assert "\x1b" not in shown
        assert "\u202e" not in shown

    def test_tables_are_aligned_by_what_the_eye_sees_and_fit(self) -> None:
        shown = _output.table([["å̊b", "x" * 90], ["日本", "y"]], ["a", "b"], width=30).splitlines()
        assert [_output._width(line[: line.index(mark)]) for line, mark in zip(shown[1:], "xy", strict=True)] == [6, 6]
        assert shown[1].endswith("…")
        assert _output.table([], ["a"]) == ""

    def test_csv_is_quoted_and_runs_no_formula(self) -> None:
        assert _output.csv_text([["=1+1", 'a "b", c', -1.5]], ["x", "y", "z"]) == 'x,y,z\n\'=1+1,"a ""b"", c",-1.5\n'

    def test_a_reader_that_goes_away_is_no_fault(self, tmp_path: Path) -> None:
        program = (
            "import sys; from cubeport.cli._app import run; from cubeport.cli._session import Wiring, current\n"
            "def register(app):\n"
            "    import typer\n"
            "    @app.command('a')\n"
            "    def a(ctx: typer.Context) -> None:\n"
            "        for _ in range(100_000): current(ctx).write('x' * 100)\n"
            "    @app.command('b')\n"
            "    def b(ctx: typer.Context) -> None: ...\n"
            "sys.exit(run(Wiring(None, None, (register,)), ['a']))"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(20)) == (b"", 141)
        process.stderr.close()


class TestSession:
    def test_the_catalog_is_opened_once_and_closed_at_the_end(self, line: Line, tmp_path: Path) -> None:
        happened: list[object] = []

        class Opened:
            plugins = Plugins([Plugin("two", "1", error="it broke")])
            recovered = ()

            def close(self) -> None:
                happened.append("closed")

        def opens(root: Path, **how: object) -> Any:
            happened.append((root, how))
            return Opened()

        def two(app: typer.Typer) -> None:
            @app.command("twice")
            def twice(ctx: typer.Context) -> None:
                assert current(ctx).catalog(read_only=True) is current(ctx).catalog(read_only=True)

            @app.command("other")
            def other(ctx: typer.Context) -> None: ...

        code, _, err = line("twice", "--instance", str(tmp_path), "--user", "ann", wiring=Wiring(opens, never, (two,)))
        assert (code, err) == (0, "warning: plugin two is not used: it broke\n")
        how = {"read_only": True, "user_id": "ann", "plugins": True, "command": "twice"}
        assert happened == [(tmp_path, how), "closed"]

    def test_a_command_that_needs_the_service_says_so_without_one(self) -> None:
        with pytest.raises(errors.Usage):
            _ = Session(WIRING, Options(), "serve").service
