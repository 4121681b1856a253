"""Faults on one machine: a service of two replicas, on PostgreSQL with a standby, or on SQLite on a small disk."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from data.reward import RewardSpec
from data.settings import Settings
from rl.online.snapshots import SnapshotSettings
from serve.config import ServiceConfig
from tests.support.faults.fault import Fault, killed, stopped
from tests.support.faults.traffic import Traffic
from tests.support.postgres import Cluster, cluster, followed
from tests.support.services import KEY, Running, service
from tests.support.shops import save_policies, small_market

POSTGRES, SQLITE = "postgres", "sqlite"
REPLICAS: Final = 2
POLICY: Final = "linear_thompson"
# No window closes during a walk: what is learned is what was reported, by batch too.
OF_POLICIES: Final[dict[str, Any]] = {
    "policies": {POLICY: 1.0},
    "reward": RewardSpec(wait_s=86_400.0),
    "snapshots": SnapshotSettings(every_s=2.0),
    "access_log": False,
}
_DISK_MB = 96

GATEWAY, LEARNER = "ServeReplica:raycommend:Gateway", "ServeReplica:raycommend:Learner"
WRITER, HAPROXY = "data.log.writer.process", "haproxy.cfg"
PROXY, CONTROLLER = "ray::HAProxyManager", "ray::ServeController"


@dataclass
class Machine:
    """A service on this machine."""

    running: Running
    traffic: Traffic
    settings: Settings
    server: Cluster | None = None
    """Of PostgreSQL, with a standby."""

    @property
    def store_url(self) -> str:
        return self.settings.store_url

    def prepare(self) -> None:
        """Nothing is taken away for good."""

    def find(self, *words: str) -> list[int]:
        return [process.pid for process in self.running.find(*words)]

    def is_whole(self) -> bool:
        """Say whether all replicas answer and hear of the learner, and all that is to run runs."""
        if not all(map(self.find, (HAPROXY, PROXY, CONTROLLER, LEARNER))) or len(self.find(GATEWAY)) != REPLICAS:
            return False
        seen = set[str]()
        try:
            with httpx.Client(base_url=self.running.url, headers=KEY, timeout=1) as client:
                if client.get("/v1/learning").json().get("learner") != "answers":
                    return False
                for _ in range(5 * REPLICAS):
                    if (ready := client.get("/readyz")).status_code == 200:
                        seen.add(ready.json()["replica"])
        except httpx.TransportError:
            return False
        return len(seen) == REPLICAS


@contextmanager
def postgres_machine(home: Path) -> Iterator[Machine]:
    """A service on a server of PostgreSQL, whose commits wait for a standby."""
    with cluster() as server, followed(server, server.new_database()) as url:
        settings = Settings(home=home, store=url, archive=None)
        variables = {"RAYCOMMEND_HOME": str(home), "RAYCOMMEND_STORE": url}
        with machine(ServiceConfig(**OF_POLICIES), settings, variables) as made:
            made.server = server
            yield made


@contextmanager
def sqlite_machine(home: Path) -> Iterator[Machine]:
    """A service on SQLite, whose home is a small disk of its own."""
    home.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=700", "tmpfs", home], check=True)
    try:
        settings = Settings(home=home, store=None, archive=None)
        with machine(ServiceConfig(home=str(home), **OF_POLICIES), settings, {}) as made:
            yield made
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


@contextmanager
def machine(config: ServiceConfig, settings: Settings, variables: dict[str, str]) -> Iterator[Machine]:
    """A service of this configuration, and what else is to be in its environment."""
    save_policies(settings.home, small_market()[1])
    with service(config, REPLICAS, **variables) as running:
        running.wait()
        yield Machine(running, Traffic([running.url], KEY), settings)


@contextmanager
def kill_server(place: Machine) -> Iterator[None]:
    """Kill PostgreSQL at once with all that it runs, and start it."""
    assert place.server is not None
    place.server.kill()
    yield
    place.server.start()


@contextmanager
def fail_over(place: Machine) -> Iterator[None]:
    """Kill PostgreSQL, and promote its standby."""
    assert place.server is not None
    place.server.fail_over()
    yield


@contextmanager
def fill_disk(place: Machine) -> Iterator[None]:
    """Leave no byte on the disk of the home, and make room again."""
    filler = place.settings.home / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (65_536, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        yield
    finally:
        filler.unlink()


_KEEPS = "the other replica answers; a request that the dead one had is sent again"
_LEARNS = "answers go on with what was learned; what is reported meanwhile is learned after"
_WRITES = "who waits for a commit is told to ask again"

FAULTS: Final = (
    killed("replica", POSTGRES, _KEEPS, GATEWAY, most=1, learns=True),
    killed("learner", POSTGRES, _LEARNS, LEARNER, of_learner=True),
    killed("writer", POSTGRES, _WRITES, WRITER, most=1),
    killed("haproxy", POSTGRES, "no connection until its manager has missed it", HAPROXY),
    killed("proxy", POSTGRES, "HAProxy goes with its manager, and comes with the next", PROXY),
    killed("controller", POSTGRES, "answers and learning go on without it", CONTROLLER, learns=True),
    stopped("replica", POSTGRES, _KEEPS, GATEWAY, most=1, learns=True),
    stopped("learner", POSTGRES, _LEARNS, LEARNER, of_learner=True),
    stopped("writer", POSTGRES, _WRITES, WRITER, most=1),
    stopped("haproxy", POSTGRES, "it is replaced before it goes on", HAPROXY),
    stopped("proxy", POSTGRES, "HAProxy answers without its manager", PROXY),
    stopped("controller", POSTGRES, "answers and learning go on without it", CONTROLLER, learns=True),
    Fault(
        "postgres_killed",
        POSTGRES,
        "SIGKILL of PostgreSQL with all of its processes",
        "started again after 5 s",
        "503 meanwhile; the same replicas and the same learner go on",
        kill_server,
        5.0,
        heals=True,
        of_learner=True,
    ),
    Fault(
        "postgres_failed_over",
        POSTGRES,
        "SIGKILL of PostgreSQL; its synchronous standby is promoted a second later",
        "not at all",
        "503 until the standby takes writes; it has all that was acknowledged",
        fail_over,
        of_learner=True,
    ),
    killed("sqlite_writer", SQLITE, _WRITES, WRITER, most=1),
    stopped("sqlite_writer", SQLITE, _WRITES, WRITER),
    Fault(
        "disk_full",
        SQLITE,
        "the log's disk is full to the last byte",
        "there is room again after 10 s",
        "503 meanwhile: nothing is acknowledged that is not on the disk",
        fill_disk,
        10.0,
        heals=True,
        of_learner=True,
    ),
)
