"""Services of their own for tests: each a process with a Ray, a home and ports of its own."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import psutil

from tests.support.ports import free_port

# Ray must start with HAProxy in the environment; the suite's own does not.
_RUN = """
import os, signal, sys
from serve.app import running
from serve.environment import ray_environment
from serve.config import ServiceConfig
os.environ.update(ray_environment(drain_s=1))
import ray
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
config = ServiceConfig.model_validate_json(sys.argv[1])
with running(config, int(sys.argv[2]), num_replicas=1):
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
ray.shutdown()
"""


@dataclass
class Running:
    """A service with one replica, which may still be starting."""

    port: int
    process: "subprocess.Popen[str]"
    errors: IO[bytes]
    """What it has written to its standard error."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Wait until it says that it is up."""
        assert self.process.stdout is not None
        assert any(line == "ready\n" for line in self.process.stdout), self.said()

    def said(self) -> str:
        """Return the end of its standard error."""
        self.errors.seek(0)
        return self.errors.read()[-4_000:].decode(errors="replace")

    def find(self, *words: str) -> list[psutil.Process]:
        """Return the processes of this service whose command line has all the words."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in family if all(word in " ".join(_command(one)) for word in words)]


@contextmanager
def service(config: str, **environment: str) -> Iterator[Running]:
    """Start a service with a configuration in JSON, yield it at once, and end it with all that it started."""
    port = free_port()
    command = [sys.executable, "-c", _RUN, config, str(port)]
    surroundings = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    with tempfile.TemporaryFile() as errors, _started(command, surroundings, errors) as process:
        yield Running(port, process, errors)


@contextmanager
def _started(command: list[str], surroundings: dict[str, str], errors: IO[bytes]) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=surroundings)
    try:
        yield process
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()
        assert process.stdout is not None
        process.stdout.close()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
