"""The demo, small: it ends well, loses nothing, and leaves its picture and its numbers."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from serve.demo.run import main
from tests.support.modes import open_to_others
from tests.support.ports import free_port


def demo(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "serve.demo", "--exit", "--home", str(home), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(command, capture_output=True, text=True, env=environment, umask=0o022)


@pytest.mark.slow
def test_the_demo_runs_the_whole_loop(tmp_path: Path) -> None:
    home = tmp_path / "a home"  # with a space: paths must be passed on whole
    done = demo(home, "--visits", "2400", "--port", str(free_port()))
    assert done.returncode == 0, done.stderr
    numbers = json.loads((home / "rewards.json").read_text())
    assert numbers["events_lost"] == 0
    assert numbers["decisions"] == 2400
    assert numbers["feedback_to_served_s"]["n"] > 0
    means = {name: windows[0] for name, windows in numbers["mean_reward"].items()}
    assert means["random"] < means["popularity"] < means["linear_thompson"] < numbers["oracle"][0]
    assert all(len(shares) > 500 and max(shares) <= 1 for shares in numbers["share_of_oracle"].values())
    assert (home / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert "events lost: 0 of" in done.stderr
    assert open_to_others(home) == []


@pytest.mark.slow
def test_it_stays_up_until_it_is_told_to_stop_and_leaves_nothing_running(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serve.demo", "--home", str(tmp_path), "--visits", "200", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("Ctrl-C stops it" in line for line in process.stderr)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["status"] == "ok"
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("haproxy" in child.name() for child in family)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left


# In this process: it is refused before anything is started.


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a demo that must be refused, and return what it says."""

    def run(home: Path, port: int | None = None) -> str:
        monkeypatch.setattr(os, "environ", dict(os.environ))  # it sets what its Ray would need
        assert main(["--exit", "--home", str(home), "--port", str(port or free_port())]) == 2
        return capsys.readouterr().err

    return run


def test_a_taken_port_is_one_line(tmp_path: Path, refuse: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refuse(tmp_path / "home", taken.getsockname()[1])
    assert len(said.splitlines()) == 1
    assert "is taken: choose another" in said
    assert not (tmp_path / "home").exists()


def test_only_a_folder_of_its_own_is_emptied(tmp_path: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "thesis.txt").chmod(0o644)
    assert "was not made by a demo and is not empty" in refuse(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "thesis.txt").stat().st_mode & 0o777 == 0o644
    assert "is no folder" in refuse(tmp_path / "thesis.txt")


def test_a_home_that_a_demo_uses_is_left_alone(tmp_path: Path, refuse: Callable[..., str]) -> None:
    with (tmp_path / "demo.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / "store.db").write_text("in use")
        assert "another demo is using" in refuse(tmp_path)
    assert (tmp_path / "store.db").exists()


@pytest.mark.slow
def test_transactions_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "transactions.parquet").write_text("something else")
    done = demo(tmp_path / "home", "--data", str(tmp_path / "transactions.parquet"), "--port", str(free_port()))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("serve.demo: cannot read")
    assert f"{tmp_path / 'transactions.parquet'} as parquet" in last
    assert "Traceback" not in done.stderr
