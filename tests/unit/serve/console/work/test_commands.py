"""Commands that visitors start: processes of their own, whose records any page finds, whoever was killed meanwhile."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from data.settings import Settings
from serve.console.work import commands as module
from serve.console.work.commands import CommandRefused, Commands, environment_of
from serve.console.work.runs import LOCK, PROCESS, Run

pytestmark = pytest.mark.heavy  # each starts processes


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With modules that a command can be."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "says.py").write_text("import sys, os; print('{\"home\": \"%s\"}' % os.environ['RAYCOMMEND_HOME']); "
                                  "print('a\\nlast word', file=sys.stderr); sys.exit(int(sys.argv[1]))")  # fmt: skip
    (code / "sleeps.py").write_text(
        "import sys, time\ntry:\n    print('asleep', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    raise SystemExit(130)\n"
    )
    return tmp_path


def commands_of(home: Path) -> Commands:
    settings = Settings(home=home)
    return Commands(settings, environment_of(settings, True) | {"PYTHONPATH": str(home / "code")})


def wait(commands: Commands, until: Callable[[Run], bool], kind: str = "k") -> Run:
    deadline = time.monotonic() + 60
    while (run := commands.last(kind)) is None or not until(run):
        assert time.monotonic() < deadline, run
        time.sleep(0.05)
    return run


@pytest.mark.parametrize("status", [0, 1])
def test_a_run_keeps_what_it_was_asked_what_it_said_and_how_it_ended(home: Path, status: int) -> None:
    commands = commands_of(home)
    begun = commands.start("k", "says", [str(status)], "ann", {"version": 7})
    assert (begun.state, begun.status) == ("running", None)
    run = wait(commands, lambda run: run.state == "ended")
    assert (run.status, run.found, run.complaint) == (status, {"home": str(home.absolute())}, "last word")
    assert (run.asked.by, run.asked.about) == ("ann", {"version": 7})
    assert run.ended is not None
    assert commands_of(home).find(run.name) == run  # as another console finds it
    assert commands.last("other") is None


def test_two_of_a_kind_do_not_run_at_once_and_one_can_be_stopped(home: Path) -> None:
    commands = commands_of(home)
    name = commands.start("k", "sleeps", [], "ann", {}).name
    with pytest.raises(CommandRefused, match=r"^ann has started one at .* which still runs$"):
        commands_of(home).start("k", "says", ["0"], "bob", {})
    wait(commands, lambda run: (home / "console" / name / PROCESS).exists() and run.said == "asleep\n")
    commands_of(home).stop(name)
    run = wait(commands, lambda run: run.state == "ended")
    assert run.status in (130, -signal.SIGINT)
    assert wait_ended(commands, "says").status == 0


def test_of_two_who_start_one_at_once_one_is_refused(home: Path) -> None:
    together, outcomes = Barrier(2), list[str]()

    def start() -> None:
        commands = commands_of(home)
        together.wait()
        try:
            outcomes.append(commands.start("k", "sleeps", [], "ann", {}).state)
        except CommandRefused:
            outcomes.append("refused")

    threads = [Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "running"]
    run = commands_of(home).stop(commands_of(home).list("k")[0].name)  # before its process may be there
    assert run is not None
    ended = wait(commands_of(home), lambda run: run.state == "ended")
    assert ended.status not in (None, 0)  # 1, where Python itself was interrupted before it ran anything


def test_one_that_runs_is_the_last_also_where_the_clock_was_set_back(home: Path) -> None:
    commands = commands_of(home)
    name = commands.start("k", "sleeps", [], "ann", {}).name
    ended = home / "console" / "k-99991231T000000000000-ended"
    shutil.copytree(home / "console" / name, ended)
    (ended / LOCK).unlink()
    last = commands.last("k")
    assert last is not None
    assert last.name == name
    with pytest.raises(CommandRefused):
        commands.start("k", "says", ["0"], "bob", {})
    commands.stop(name)
    wait(commands, lambda run: run.state != "running")


def wait_ended(commands: Commands, of: str) -> Run:
    name = commands.start("k", of, ["0"], "bob", {}).name
    return wait(commands, lambda run: run.name == name and run.state == "ended")


def test_what_was_killed_with_its_watcher_is_lost_and_hinders_nobody(home: Path) -> None:
    commands = commands_of(home)
    name = commands.start("k", "sleeps", [], "ann", {}).name
    process = home / "console" / name / PROCESS
    while not process.exists():
        time.sleep(0.05)
    os.killpg(int(process.read_text()), signal.SIGKILL)
    run = wait(commands, lambda run: run.state != "running")
    assert (run.state, run.status) == ("lost", None)
    assert wait_ended(commands, "says").status == 0


def test_old_runs_are_cleared_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    commands = commands_of(home)
    names = [wait_ended(commands, "says").name for _ in range(3)]  # several within a second
    names.append(commands.start("k", "says", ["0"], "ann", {}).name)
    assert [run.name for run in commands.list("k", 10)] == [names[3], names[2]]
    wait(commands, lambda run: run.state == "ended")


@pytest.mark.parametrize("name", ["..", "../k-1", "k-1/../..", "", "nowhere"])
def test_a_name_leads_nowhere_else(home: Path, name: str) -> None:
    (home / "run.json").write_text("{}")
    assert commands_of(home).find(name) is None


def test_a_home_that_is_given_is_all_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCOMMEND_STORE", "postgresql://elsewhere")
    settings = Settings(home=home, store=None)
    assert "RAYCOMMEND_STORE" not in environment_of(settings, True)
    assert environment_of(settings, False)["RAYCOMMEND_STORE"] == "postgresql://elsewhere"
