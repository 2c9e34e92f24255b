"""The child of the gate: confined, bounded, believed only as far as it is right, and never left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.descriptors import held, left_since

from cubeport.adapters.gate.tasks import TASKS
from cubeport.adapters.sandbox import landlock
from cubeport.adapters.sandbox.children import Children, open_source
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk import failpoints
from cubeport.errors import Cancelled, ExtraMissing, Interrupted, NoData, NotFound, PathEscapes, SourceRejected

from .conftest import MODULES, OF_TESTS

needs_landlock = pytest.mark.skipif(landlock.abi() < 4, reason="this kernel's Landlock knows no TCP")


def small(**limits: object) -> Children:
    return Children(SourceLimits(**limits), tasks=OF_TESTS, modules=[MODULES], libraries=())


def living(opened: Children) -> list[psutil.Process]:
    """Return the children of the template, and theirs."""
    return psutil.Process(opened.template_pid()).children(recursive=True)


def gone(pid: int, within_s: float = 3) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


class TestAUnit:
    def test_it_gets_its_sources_and_answers(self, children: Children, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("alpha")
        (tmp_path / "new").mkdir()
        told: list[tuple[str, int, int]] = []
        answer = children.run(
            "echo",
            {"n": [1, None, "ü"]},
            sources=[tmp_path / "a.txt", tmp_path],
            write=[tmp_path / "new"],
            progress=lambda *what: told.append(what),
        )
        assert answer["request"] == {"n": [1, None, "ü"]}
        assert answer["sources"] == [["a.txt", "alpha"], [tmp_path.name, None]]
        assert answer["by_path"] == ["alpha"]
        assert answer["here"] == str(tmp_path / "new")
        assert answer["group"]
        assert answer["threads"] == 1
        assert ("echo", 1, 2) in told

    def test_its_environment_is_ours_alone(self, children: Children, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        monkeypatch.setenv("ECCODES_DEFINITION_PATH", "/planted")
        with Children(tasks=OF_TESTS, modules=[MODULES], libraries=()) as fresh:
            environment = fresh.run("echo", {}, write=[tmp_path])["environment"]
        assert "planted" not in str(environment)
        assert environment["HDF5_PLUGIN_PRELOAD"] == "::"
        assert environment["TMPDIR"] == str(tmp_path)

    def test_it_holds_its_sources_one_channel_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("alpha")
        with small(sandbox="off") as opened:
            held = opened.run("echo", {"descriptors": True}, sources=[tmp_path / "a.txt"])["descriptors"]
        held = [each for each in held if each != os.devnull]
        assert sorted(each.split(":")[0] for each in held if each != "the listing itself") == [str(tmp_path / "a.txt"), "socket"]

    def test_a_library_that_closes_late_what_it_opened_in_the_template_closes_nothing_of_the_child(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("alpha")
        with Children(SourceLimits(sandbox="off"), tasks=OF_TESTS, modules=[MODULES], libraries=("gate_library",)) as opened:
            assert opened.run("late", {"file": str(tmp_path / "a.txt")}) == {"lost": 0}

    def test_its_limits_are_those_of_the_settings(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("alpha")
        with small(memory_bytes=2**30, base_s=50, file_bytes=2**20, open_files=99) as opened:
            answer = opened.run("echo", {}, sources=[tmp_path / "a.txt"], declared_bytes=200_000_000)
        # One more second, so that 60.0 s do not become 59; one more descriptor for each source.
        assert answer["limits"] == {"AS": 2**30, "CPU": 50 + 10 + 1, "FSIZE": 2**20, "NOFILE": 99 + 1, "CORE": 0}
        assert answer["umask"] == 0o077

    def test_a_series_may_have_more_files_than_the_service_may_open(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{n:04}" for n in range(600)]
        for n, path in enumerate(paths):
            path.write_text(str(n))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with small() as opened:
            opened.template_pid()
            resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
            try:
                answer = opened.run("echo", {}, sources=paths)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert answer["by_path"] == [str(n) for n in range(600)]

    def test_what_is_not_on_the_list_is_not_done(self, children: Children) -> None:
        with pytest.raises(ValueError, match="no child does"):
            children.run("shell", {})

    def test_many_threads_share_the_template(self, tmp_path: Path) -> None:
        answers: list[int] = []
        with small(children=3) as opened:
            threads = [
                threading.Thread(target=lambda n=n: answers.append(opened.run("echo", {"n": n})["request"]["n"])) for n in range(12)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert not living(opened)
        assert sorted(answers) == list(range(12))

    def test_no_more_run_at_once_than_allowed(self) -> None:
        with small(children=1) as opened:
            stop = threading.Event()

            def held(*_: object) -> None:
                if stop.is_set():
                    raise Cancelled("enough")

            def first() -> None:
                with contextlib.suppress(Cancelled):
                    opened.run("refuse", {"how": "sleep"}, progress=held)

            thread = threading.Thread(target=first)
            thread.start()
            while not living(opened):
                time.sleep(0.01)
            beats: list[object] = []

            def tired(*what: object) -> None:
                beats.append(what)
                if len(beats) == 2:
                    raise Cancelled("waited long enough")

            with pytest.raises(Cancelled, match="waited"):
                opened.run("echo", {}, progress=tired)
            stop.set()
            thread.join()
            assert opened.run("echo", {"n": 1})["request"] == {"n": 1}


class TestErrors:
    def test_ours_come_back_as_they_were(self, children: Children) -> None:
        with pytest.raises(NoData) as caught:
            children.run("refuse", {"how": "ours"})
        assert caught.value.to_mapping() == {
            "kind": "no-data",
            "title": "The source has no data for the request",
            "detail": "nothing there",
            "errors": [{"loc": ["a", 0], "kind": "k", "message": "w"}],
            "next": "look elsewhere",
            "what": "time",
        }

    def test_refusals_keep_their_reason_and_limit(self, children: Children) -> None:
        with pytest.raises(SourceRejected) as caught:
            children.run("refuse", {"how": "rejected"})
        assert caught.value.reason == "bad-time"
        assert caught.value.members == {
            "reason": "bad-time",
            "source": "x.nc",
            "setting": "limits.declared_bytes",
            "limit": 1,
            "value": 2,
        }

    @pytest.mark.parametrize("how", ["bug", "nan", "long", "list", "garbled", "huge-frame", "forged", "segfault", "kill", "exit"])
    def test_whatever_else_it_does_is_a_crash(self, children: Children, how: str) -> None:
        before = held()
        with pytest.raises(SourceRejected) as caught:
            children.run("refuse", {"how": how})
        assert caught.value.reason == "crashed"
        assert left_since(before) == []
        assert not living(children)

    def test_a_bug_is_logged_once_and_told_to_nobody(self, children: Children, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(SourceRejected) as caught:
            children.run("refuse", {"how": "bug"})
        assert [each.message.count("planted") for each in caplog.records] == [2]  # the line and the error, in one record
        assert "planted" not in str(caught.value.to_mapping())

    def test_a_module_that_does_not_import_is_a_bug_too(self, caplog: pytest.LogCaptureFixture) -> None:
        tasks = {"broken": "gate_broken:run", "missing": "gate_missing:run", **OF_TESTS}
        with Children(tasks=tasks, modules=[MODULES], libraries=()) as opened:
            with pytest.raises(SourceRejected) as caught:
                opened.run("broken", {})
            assert caught.value.reason == "crashed"
            assert "planted" in caplog.text
            with pytest.raises(ExtraMissing, match="gate_missing"):
                opened.run("missing", {})
            assert opened.run("echo", {"n": 1})["request"] == {"n": 1}

    def test_memory_is_bounded(self) -> None:
        with small(memory_bytes=2**29) as opened, pytest.raises(SourceRejected) as caught:
            opened.run("refuse", {"how": "memory"})
        assert caught.value.reason == "too-big"
        assert caught.value.members["setting"] == "gate.memory_bytes"
        assert caught.value.members["limit"] == 2**29

    @pytest.mark.parametrize("how", ["cpu", "sleep"])
    def test_time_is_bounded(self, how: str) -> None:
        with small(base_s=1, kill_after_s=0.2) as opened, pytest.raises(SourceRejected) as caught:
            opened.run("refuse", {"how": how})
        assert caught.value.reason == "timed-out"
        assert caught.value.members["limit"] == 1

    def test_each_further_source_has_time_of_its_own(self, tmp_path: Path) -> None:
        """A series of a year of small files declares few bytes; opening them takes longer than one file may."""
        files = [tmp_path / f"{number}.nc" for number in range(4)]
        for each in files:
            each.write_bytes(b"x")
        with small(base_s=1, kill_after_s=0.2) as opened:
            began = time.monotonic()
            with pytest.raises(SourceRejected, match="took longer"):
                opened.run("refuse", {"how": "sleep"}, sources=files)
            assert time.monotonic() - began > 4
        assert SourceLimits(base_s=60).seconds(0, sources=366) == 60 + 365

    def test_the_cpu_has_its_own_bound(self) -> None:
        class Patient(SourceLimits):
            """A wall clock that never comes, so that RLIMIT_CPU has to."""

            def seconds(self, declared_bytes: int, sources: int = 1) -> float:
                return 60.0

        limits = Patient(base_s=1)
        with Children(limits, tasks=OF_TESTS, modules=[MODULES], libraries=()) as opened, pytest.raises(SourceRejected) as caught:
            opened.run("refuse", {"how": "cpu"})
        assert caught.value.reason == "timed-out"

    def test_what_it_writes_is_bounded(self, tmp_path: Path) -> None:
        with small(file_bytes=2**21) as opened, pytest.raises(SourceRejected) as caught:
            opened.run("refuse", {"how": "file"}, write=[tmp_path])
        assert caught.value.reason == "too-big"
        assert (tmp_path / "big").stat().st_size == 2**21

    @pytest.mark.parametrize("source", ["a/b/c.txt", "a"])
    def test_a_source_that_changes_meanwhile_is_refused(self, tmp_path: Path, source: str) -> None:
        path = tmp_path / "a" / "b" / "c.txt"
        path.parent.mkdir(parents=True)
        path.write_text("alpha")
        with small(sandbox="off") as opened:
            opened.run("refuse", {"how": "change", "path": str(tmp_path)}, sources=[tmp_path / source])
            with pytest.raises(SourceRejected) as caught:
                opened.run("refuse", {"how": "change", "path": str(path)}, sources=[tmp_path / source])
        assert caught.value.reason == "digest-mismatch"


class TestNothingIsLeftBehind:
    def test_a_cancelled_unit_goes_with_its_whole_group(self, tmp_path: Path) -> None:
        with small(kill_after_s=0.3, sandbox="off") as opened:
            opened.run("echo", {})
            before = held()
            file = tmp_path / "pid"

            def cancel(*_: object) -> None:
                if file.exists() and len(living(opened)) == 3:
                    raise Cancelled("enough")

            began = time.monotonic()
            with pytest.raises(Cancelled):
                opened.run("refuse", {"how": "stubborn", "file": str(file)}, progress=cancel, write=[tmp_path])
            assert time.monotonic() - began < 3
            assert gone(int(file.read_text()))
            assert not living(opened)
            assert left_since(before) == []

    def test_closing_ends_the_template(self) -> None:
        before = held()
        opened = small()
        opened.run("echo", {})
        pid = opened.template_pid()
        opened.close()
        opened.close()
        assert not psutil.pid_exists(pid)
        assert left_since(before) == []
        with pytest.raises(Interrupted):
            opened.run("echo", {})

    def test_services_of_one_process_share_a_template_and_the_last_ends_it(self) -> None:
        before = held()
        one, two = small(), small()
        pid = one.template_pid()
        assert two.template_pid() == pid
        ended: list[Exception] = []

        def stay() -> None:
            with pytest.raises(Interrupted) as caught:
                one.run("refuse", {"how": "sleep"})
            ended.append(caught.value)

        thread = threading.Thread(target=stay)
        thread.start()
        while not living(two):
            time.sleep(0.01)
        one.close()
        thread.join(10)
        assert ended, "closing a service ends its children"
        assert two.run("echo", {"n": 1})["request"] == {"n": 1}
        assert two.template_pid() == pid, "and not those of the other"
        two.close()
        assert not psutil.pid_exists(pid)
        assert left_since(before) == []

    def test_a_service_that_is_asked_to_stop_may_finish_what_runs(self) -> None:
        with small() as opened:
            pid = opened.template_pid()
            opened.run("echo", {})
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
            assert opened.run("echo", {"n": 1})["request"] == {"n": 1}
            assert opened.template_pid() == pid

    def test_a_killed_template_is_replaced(self) -> None:
        with small() as opened:
            first = opened.template_pid()
            os.kill(first, signal.SIGKILL)
            assert gone(first)
            assert opened.run("echo", {"n": 1})["request"] == {"n": 1}
            assert opened.template_pid() != first

    def test_a_template_killed_under_a_unit_takes_the_child_along(self) -> None:
        with small() as opened:
            opened.run("echo", {})
            pids: list[int] = []

            def kill(*_: object) -> None:
                for each in psutil.Process(opened.template_pid()).children():
                    pids.append(each.pid)
                    os.kill(each.ppid(), signal.SIGKILL)

            with pytest.raises(Interrupted):
                opened.run("refuse", {"how": "sleep"}, progress=kill)
            assert pids
            assert gone(pids[0])

    def test_a_child_that_somebody_kills_is_not_the_fault_of_the_file(self) -> None:
        with small() as opened:

            def kill(*_: object) -> None:
                for each in psutil.Process(opened.template_pid()).children():
                    each.kill()

            with pytest.raises(SourceRejected, match="died by signal 9") as refused:
                opened.run("refuse", {"how": "sleep"}, progress=kill)
        assert "memory" in str(refused.value.next_step)
        assert "file" not in str(refused.value.next_step)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_when_the_service_is_killed_all_go(self, tmp_path: Path, number: int) -> None:
        script = f"""
import sys
from pathlib import Path
from cubeport.adapters.sandbox.children import Children
opened = Children(tasks={OF_TESTS!r}, modules=[Path({str(MODULES)!r})], libraries=())
opened.run("echo", {{}})
print(opened.template_pid(), flush=True)
opened.run("refuse", {{"how": "sleep"}})
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as service:
            template = int(service.stdout.readline())
            while not (inner := psutil.Process(template).children()):
                time.sleep(0.01)
            service.send_signal(number)
        assert gone(template)
        assert gone(inner[0].pid)

    def test_when_a_fork_of_the_service_outlives_it(self) -> None:
        """The fork has the template's socket too, so no end of it tells of the death."""
        script = f"""
import os, time
from pathlib import Path
from cubeport.adapters.sandbox.children import Children
opened = Children(tasks={OF_TESTS!r}, modules=[Path({str(MODULES)!r})], libraries=())
opened.run("echo", {{}})
fork = os.fork()
if fork == 0:
    time.sleep(60)
print(opened.template_pid(), fork, flush=True)
time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as service:
            template, fork = map(int, service.stdout.readline().split())
            service.kill()
            service.wait()
            assert gone(template)
            os.kill(fork, signal.SIGKILL)


class TestKept:
    """A kept child serves several units of one owner, and is replaced as soon as there is a doubt."""

    def test_it_serves_one_unit_after_another_and_each_has_its_own_bytes(self) -> None:
        with small() as opened:
            found = [opened.run_kept("kept", {"give": word}, keep="a", contents=[(word, word.encode())]) for word in ("one", "two")]
            answers = [answer for answer, _ in found]
            assert [given for _, given in found] == [b"one", b"two"]
            assert [answer["sources"] for answer in answers] == [{"one": "one"}, {"two": "two"}]
            assert answers[0]["pid"] == answers[1]["pid"]
            assert answers[0]["free"] == answers[1]["free"]
            assert len(living(opened)) == 1

    def test_another_owner_folder_or_task_has_another_one(self, tmp_path: Path) -> None:
        with small() as opened:
            first, _ = opened.run_kept("kept", {}, keep="a", contents=[])
            for task, keep, read in (("kept", "b", []), ("kept", "a", [tmp_path]), ("echo", "a", [])):
                other, _ = opened.run_kept(task, {}, keep=keep, contents=[], read=read)
                assert other["pid"] != first["pid"]

    def test_at_the_same_time_they_are_several(self) -> None:
        with small(children=2) as opened:
            pids: list[int] = []
            threads = [
                threading.Thread(target=lambda: pids.append(opened.run_kept("kept", {}, keep="a", contents=[])[0]["pid"]))
                for _ in range(8)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join(20)
            assert len(pids) == 8
            assert len(set(pids)) <= 2

    @pytest.mark.parametrize("how", ["rejected", "bug", "kill", "exit", "garbled", "forged"])
    def test_one_that_refused_or_died_serves_nothing_more(self, how: str) -> None:
        with small() as opened:
            opened.run_kept("refuse", {"how": "point"}, keep="a", contents=[])
            [first] = living(opened)
            with pytest.raises(SourceRejected):
                opened.run_kept("refuse", {"how": how}, keep="a", contents=[])
            assert gone(first.pid)
            opened.run_kept("refuse", {"how": "point"}, keep="a", contents=[])

    def test_one_that_was_killed_while_it_waited_is_replaced(self) -> None:
        with small() as opened:
            first, _ = opened.run_kept("kept", {}, keep="a", contents=[])
            os.kill(first["pid"], signal.SIGKILL)
            assert gone(first["pid"])
            second, _ = opened.run_kept("kept", {}, keep="a", contents=[])
            assert second["pid"] != first["pid"]

    def test_it_is_replaced_after_a_number_of_units_and_ends_after_a_time(self) -> None:
        with small(kept_units=2, kept_s=0.3) as opened:
            pids = [opened.run_kept("kept", {}, keep="a", contents=[])[0]["pid"] for _ in range(3)]
            assert pids[0] == pids[1] != pids[2]
            assert gone(pids[0])
            assert gone(pids[2])

    def test_each_unit_has_seconds_of_its_own(self) -> None:
        with small(base_s=50) as opened:
            opened.run_kept("kept", {}, keep="a", contents=[])
            answer, _ = opened.run_kept("kept", {}, keep="a", contents=[])
            assert 51 <= answer["cpu"] <= 53

    def test_what_it_gives_is_bounded(self) -> None:
        with small(kept_bytes=1_000) as opened, pytest.raises(SourceRejected) as refusal:
            opened.run_kept("kept", {"give": "x", "times": 2_000}, keep="a", contents=[])
        assert refusal.value.reason == "too-big"

    def test_a_cancelled_unit_ends_it(self) -> None:
        def cancel(*_: object) -> None:
            raise Cancelled("enough")

        with small(kill_after_s=0.3) as opened:
            with pytest.raises(Cancelled):
                opened.run_kept("refuse", {"how": "sleep"}, keep="a", contents=[], progress=cancel)
            assert not living(opened)

    def test_closing_ends_those_that_wait(self) -> None:
        before = held()
        opened = small()
        answer, _ = opened.run_kept("kept", {}, keep="a", contents=[("a", b"a")])
        opened.close()
        assert gone(answer["pid"])
        assert left_since(before) == []
        assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer) and not each.finished.is_set()]

    @needs_landlock
    def test_it_reads_its_folder_and_writes_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        for path in ("mine/a.txt", "other.txt"):
            (tmp_path / path).write_text("alpha")
        request = {
            "read": {"mine": str(tmp_path / "mine/a.txt"), "other": str(tmp_path / "other.txt")},
            "write": {"here": "a", "in mine": str(tmp_path / "mine/b.txt"), "over mine": str(tmp_path / "mine/a.txt")},
        }
        with small() as opened:
            for _ in range(2):
                answer, _ = opened.run_kept("kept", request, keep="a", contents=[("s", b"s")], read=[tmp_path / "mine"])
                assert answer["reached"] == {
                    "mine": "alpha",
                    "other": errno.EACCES,
                    **dict.fromkeys(request["write"], errno.EACCES),
                    "s": errno.EPERM,
                }


class TestTheSandbox:
    @pytest.fixture
    def request_(self, tmp_path: Path):
        (tmp_path / "secret").write_text("planted")
        for name in ("new", "base"):
            (tmp_path / name).mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield {
                "port": server.getsockname()[1],
                "secret": str(tmp_path / "secret"),
                "folder": str(tmp_path),
                "pid": os.getpid(),
                "read_only": [str(tmp_path / "base")],
            }

    @needs_landlock
    def test_a_confined_child_reaches_nothing_else(self, children: Children, request_: dict, tmp_path: Path) -> None:
        reached = children.run("reach", request_, read=[tmp_path / "base"], write=[tmp_path / "new"])
        stopped = {"read", "list", "write", "environ", "signal", "connect", "link", "fifo"}
        assert {name for name, how in reached.items() if how == "worked"} == {"inside"}
        assert all(isinstance(reached[each], int) for each in stopped)
        assert reached["beside"] == [13]
        assert reached["readable"] == ["worked"]
        assert not (tmp_path / "planted").exists()

    def test_the_defect_without_it(self, request_: dict, tmp_path: Path) -> None:
        """Planted: with the sandbox off, everything that the test above forbids works, so that test can fail."""
        with small(sandbox="off") as opened:
            reached = opened.run("reach", request_, write=[tmp_path / "new"])
        assert {name for name, how in reached.items() if how == "worked"} >= {"read", "list", "write", "connect", "link", "fifo"}
        assert (tmp_path / "planted").exists()

    def test_without_landlock_the_network_is_left_behind(self, request_: dict, tmp_path: Path) -> None:
        with small(sandbox="off") as opened:
            if not opened.run("unshare", {})["left"]:
                pytest.skip("this system lets nobody make user namespaces")
            reached = opened.run("reach", request_ | {"unshare": True}, write=[tmp_path / "new"])
        assert isinstance(reached["connect"], int)
        assert reached["inside"] == "worked"

    def test_require_means_a_wall_around_files(self, tmp_path: Path) -> None:
        """Namespaces alone confine no file: without Landlock, ``require`` refuses and ``prefer`` goes on."""
        made = {"tasks": OF_TESTS, "modules": [MODULES], "libraries": ("gate_no_landlock",)}
        with Children(SourceLimits(sandbox="require"), **made) as opened, pytest.raises(ExtraMissing, match="has no Landlock"):
            opened.run("echo", {})
        with Children(SourceLimits(sandbox="prefer"), **made) as opened:
            assert opened.run("echo", {"a": 1})

    @needs_landlock
    def test_a_kernel_that_refuses_to_confine_is_named(self) -> None:
        with (
            Children(tasks=OF_TESTS, modules=[MODULES], libraries=("gate_refused_landlock",)) as opened,
            pytest.raises(ExtraMissing, match="refuses to confine"),
        ):
            opened.run("echo", {})

    @needs_landlock
    def test_the_network_is_left_behind_beside_landlock(self, children: Children) -> None:
        if not children.run("unshare", {})["left"]:
            pytest.skip("this system lets nobody leave the network")
        assert children.run("interfaces", {}) == {"names": ["lo"], "datagram": False}
        with small(sandbox="off") as opened:
            assert opened.run("interfaces", {})["datagram"]

    def test_its_settings(self) -> None:
        with pytest.raises(ValueError, match="prefer"):
            SourceLimits(sandbox="maybe")


class TestFailPoints:
    @pytest.fixture(autouse=True)
    def disarmed(self):
        yield
        failpoints.arm("")

    def test_they_are_counted_over_all_children(self, children: Children) -> None:
        failpoints.arm("bytes:half@2=enospc")
        assert children.run("refuse", {"how": "point"}) == {"went": "on"}
        with pytest.raises(OSError, match="bytes:half") as caught:
            children.run("refuse", {"how": "point"})
        assert caught.value.errno == errno.ENOSPC
        assert not living(children)
        assert children.run("refuse", {"how": "point"}) == {"went": "on"}

    def test_without_them_nothing_is_asked(self, children: Children) -> None:
        assert children.run("refuse", {"how": "point"}) == {"went": "on"}

    def test_kill_ends_the_whole_service(self) -> None:
        script = f"""
from pathlib import Path
from cubeport.adapters.sandbox.children import Children
from cubeport.catalog.disk import failpoints
failpoints.arm("bytes:half")
opened = Children(tasks={OF_TESTS!r}, modules=[Path({str(MODULES)!r})], libraries=())
print(opened.template_pid(), flush=True)
opened.run("refuse", {{"how": "point"}})
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as service:
            template = int(service.stdout.readline())
            assert service.wait() == -signal.SIGKILL
        assert gone(template)


class TestOpeningASource:
    def test_no_link_is_followed_anywhere(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.nc").write_text("x")
        (tmp_path / "linked").symlink_to("real")
        (tmp_path / "a.nc").symlink_to("real/a.nc")
        (tmp_path / "loop").symlink_to("loop")
        for path in ("linked/a.nc", "a.nc", "loop", "linked"):
            with pytest.raises(SourceRejected) as caught, open_source(tmp_path / path):
                pass
            assert caught.value.reason == "unsafe", path
            assert str(tmp_path) not in caught.value.message
        with open_source(tmp_path / "real" / "a.nc") as descriptor:
            assert os.read(descriptor, 9) == b"x"

    def test_only_files_and_folders(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(tmp_path / "socket"))
            for path in (tmp_path / "fifo", tmp_path / "socket", Path("/dev/zero")):
                before = held()
                with pytest.raises(SourceRejected) as caught, open_source(path):
                    pass
                assert caught.value.reason == "unsafe"
                assert left_since(before) == []

    def test_absent_and_odd_names(self, tmp_path: Path) -> None:
        (tmp_path / "a.nc").write_text("x")
        for path in (tmp_path / "none.nc", tmp_path / "a.nc" / "inner"):
            with pytest.raises(NotFound) as caught, open_source(path):
                pass
            assert caught.value.members["what"] == "source"
        for path in (Path("a.nc"), tmp_path / ".." / "a.nc"):
            with pytest.raises(PathEscapes), open_source(path):
                pass


def test_every_task_is_a_name_in_our_own_package() -> None:
    assert all(target.startswith("cubeport.adapters.") and target.count(":") == 1 for target in TASKS.values())
