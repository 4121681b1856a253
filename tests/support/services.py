"""Services of their own for tests: each a process with a Ray, a home and ports of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

from serve.config import ServiceConfig
from tests.support.ports import free_port

KEY = {"Authorization": "Bearer right"}

# Ray must start with HAProxy in the environment; the suite's own does not.
_RUN = """
import os, signal, sys
from serve.app import running
from serve.environment import ray_environment
from serve.config import ServiceConfig
os.environ.update(ray_environment(drain_s=1))
import ray
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ray.init(
    "local", num_cpus=2, include_dashboard=False, log_to_driver=False, _metrics_export_port=int(sys.argv[4])
)
config = ServiceConfig.model_validate_json(sys.argv[1])
with running(config, int(sys.argv[2]), num_replicas=int(sys.argv[3])):
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
ray.shutdown()
"""


class Running:
    """A service, which may still be starting; `client` asks it with the key that it requires."""

    process: "subprocess.Popen[str]"
    client: httpx.Client

    def __init__(self, config: ServiceConfig, replicas: int, errors: IO[bytes], environment: Mapping[str, str]) -> None:
        self._config, self._replicas, self._errors, self._environment = config, replicas, errors, environment

    @property
    def home(self) -> Path:
        return self._config.settings.home

    def start(self) -> None:
        """Start it at other ports than before: `port` of HTTP, `metrics_port` of what Ray exports for Prometheus."""
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        said = [self._config.model_dump_json(), self.port, self._replicas, self.metrics_port]
        command = [sys.executable, "-c", _RUN, *map(str, said)]
        environment = {**os.environ, "RAYCOMMEND_API_KEY": "right", "PYTHONPATH": os.getcwd(), **self._environment}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        self.client = httpx.Client(base_url=self.url, headers=KEY, timeout=30)

    def wait(self) -> None:
        """Wait until it says that it is up."""
        assert self.process.stdout is not None
        assert any(line == "ready\n" for line in self.process.stdout), self.said()

    def stop(self) -> None:
        """End it with all that it started; it must end by itself."""
        self.client.close()
        family = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.returncode == 0, self.said()

    def said(self) -> str:
        """Return the end of its standard error."""
        self._errors.seek(0)
        return self._errors.read()[-4_000:].decode(errors="replace")

    def find(self, *words: str) -> list[psutil.Process]:
        """Return the processes of this service whose command line has all the words."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in family if all(word in " ".join(_command(one)) for word in words)]

    def gateways(self) -> list[psutil.Process]:
        """Return the processes of the replicas."""
        return self.find("ServeReplica:raycommend:Gateway")

    def health_of_all(self) -> dict[str, dict[str, Any]]:
        """Return the health of all replicas by their id."""
        seen: dict[str, dict[str, Any]] = {}

        def all_seen() -> bool:
            health = self.client.get("/healthz").json()
            seen[health["replica"]] = health
            return len(seen) == self._replicas

        wait_for(all_seen, 60)
        return seen

    def learned_by_all(self, position: int) -> bool:
        return all(health["learned_through"] >= position for health in self.health_of_all().values())


@contextmanager
def service(config: ServiceConfig, replicas: int = 1, **environment: str) -> Iterator[Running]:
    """Start a service, yield it at once, and end it with all that it started."""
    with tempfile.TemporaryFile() as errors:
        running = Running(config, replicas, errors, environment)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def wait_for(condition: Callable[[], bool], timeout_s: float, found: Callable[[], object] = str) -> None:
    """Wait until a condition holds; where it does not in time, say what was found instead."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s} s: {found()}"
        time.sleep(0.02)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
