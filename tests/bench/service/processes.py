"""Services in processes of their own, each with a home of its own; all that was started is stopped at the end."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

from tests.support.ports import free_port

START_S, STOP_S = 180.0, 30.0


@dataclass(frozen=True)
class Service:
    """A service that answers."""

    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the CPU seconds that the service and all processes below it have used so far."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total


@contextmanager
def running(
    command: Sequence[str],
    health: str,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    checkout: Path | None = None,
) -> Iterator[Service]:
    """Start a service and yield it once it is healthy.

    Args:
        command: `{port}` in it stands for the port, `{python}` for this Python.
        health: path that answers 200 when the service can answer.
        environment: added to this process's.
        port: of the service; default: a free one.
        checkout: whose code is run; default: this one's.

    Raises:
        RuntimeError: it ended, or was not healthy within 180 s; says what it printed.
    """
    port, folder = port or free_port(), checkout or Path.cwd()
    url = f"http://127.0.0.1:{port}"
    line = [part.format(port=port, python=sys.executable) for part in command]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYCOMMEND_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    surroundings = {**kept, "PYTHONPATH": str(folder), "PATH": path, **(environment or {})}
    with tempfile.TemporaryFile() as printed:  # not a pipe, which would be full one day and stop the service
        started = subprocess.Popen(line, cwd=folder, env=surroundings, stdout=printed, stderr=subprocess.STDOUT)
        process = psutil.Process(started.pid)
        try:
            _wait(started, url + health, printed)
            yield Service(url, process)
        finally:
            _stop(process)
            started.wait()


def _wait(started: "subprocess.Popen[bytes]", url: str, printed: IO[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        if started.poll() is not None or time.monotonic() > deadline:
            printed.seek(0)
            text = printed.read().decode(errors="replace")
            raise RuntimeError(f"{started.args!r} does not answer at {url}: {text[-5_000:]}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


def _stop(process: psutil.Process) -> None:
    """Let a process end what it started; what is left of its family after that is killed."""
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=STOP_S)
