"""Faults of hosts: a head and two workers, each under a supervisor, learner and replicas on different ones."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx

from data.settings import Settings
from serve.config import ServiceConfig
from tests.support.faults.fault import Fault, killed
from tests.support.faults.machine import CONTROLLER, GATEWAY, HAPROXY, LEARNER, OF_POLICIES
from tests.support.faults.traffic import Traffic
from tests.support.hosts.clocks import lend_clock, set_clock
from tests.support.hosts.cluster import KEY, RayCluster, ray_cluster
from tests.support.hosts.host import Host
from tests.support.ports import free_port
from tests.support.services import wait_for
from tests.support.shops import save_policies, small_market

CLUSTER, REDIS = "cluster", "redis"
_PORT: Final = 8000
_RUNNER: Final = "ray::BatchedEnvRunner"
_WORKERS: Final = 2
_MOST: Final = 6  # hosts of Ray, with those that come in the place of others
_AHEAD_S: Final = 600
_NOWHERE = "02:00:00:00:00:01"
"""An address of no interface."""


class Supervisor:
    """Starts Ray on a host again whenever a part of it has died, and nothing of the one before is left.

    As systemd does with serve/deploy/systemd/raycommend@.service.
    """

    def __init__(self, host: Host, role: str, **environment: str) -> None:
        self._host, self._role, self._environment = host, role, environment
        self._thread = Thread(target=self._watch, daemon=True)  # it ends with the host
        self._thread.start()

    def _watch(self) -> None:
        folder, number = self._host.folder / "tmp", 0
        while _lives(self._host.pid):
            command = f"sh serve/deploy/systemd/node.sh {self._role}"
            self._host.start(command, folder / f"supervised-{number}.log", **self._environment).wait()
            end(self._host)
            number += 1
            time.sleep(1.0)  # as systemd does; who has ended the host has by then


def end(host: Host) -> None:
    """Kill all that runs on a host but for what makes it one."""
    kept = (host.pid, *host.find("sshd:"))
    for pid in host.processes():
        if pid not in kept:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Hosts:
    """A service on hosts."""

    cluster: RayCluster
    traffic: Traffic
    settings: Settings
    with_clocks: bool = False
    """Whether workers have clocks of their own."""
    lost: list[Host] = field(default_factory=list)
    clocks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is in the environment of those of a host, by its name."""

    @property
    def reached(self) -> list[Host]:
        """The hosts that are there."""
        return [host for host in self.cluster.hosts if _lives(host.pid) and host not in self.lost]

    @property
    def store_url(self) -> str:
        return self.cluster.store_url

    def find(self, *words: str) -> list[int]:
        return [pid for host in self.reached for pid in host.find(*words)]

    def workers(self) -> list[Host]:
        return [host for host in self.reached if host is not self.cluster.head]

    def is_whole(self) -> bool:
        """Say whether a replica on each worker answers and hears of the learner, and all that is to run runs."""
        if not all(map(self.find, (HAPROXY, CONTROLLER, LEARNER))):
            return False
        seen = set[str]()
        for host in self.reached:
            try:
                with self.cluster.client(host, _PORT) as client:
                    client.timeout = httpx.Timeout(1.0)
                    if client.get("/v1/learning").json().get("learner") != "answers":
                        return False
                    for _ in range(4):
                        if (ready := client.get("/readyz")).status_code == 200:
                            seen.add(ready.json()["replica"])
            except httpx.TransportError:
                return False
        return len(seen) == len(self.workers())

    def place_of(self, words: str) -> tuple[Host, Host]:
        """Return the worker on which a process runs, and the other one."""
        [host] = [worker for worker in self.workers() if worker.find(words)]
        [other] = [worker for worker in self.workers() if worker is not host]
        return host, other

    def prepare(self) -> None:
        """Put a new worker in the place of one that was lost."""
        while len(self.workers()) < _WORKERS:
            self.supervise(self.cluster.new_worker())

    def supervise(self, host: Host) -> None:
        """Furnish a host with what the page says that it must have, and run Ray there."""
        home = host.folder / "home"
        host.run("mkdir -p ~/.ray ~/raycommend && cp -r data rl serve ~/raycommend")
        for name, content in self.cluster.secrets().items():
            (home / name).write_text(content)
            (home / name).chmod(0o600)
        save_policies(home / "raycommend" / "var", small_market()[1])
        is_head = host is self.cluster.head
        if self.with_clocks and not is_head:
            self.clocks[host.name] = lend_clock(host)
        Supervisor(host, "head" if is_head else self.cluster.head.address, **self.clocks.get(host.name, {}))


@contextmanager
def rocksdb_cluster(folder: Path) -> Iterator[Hosts]:
    """A cluster whose head keeps what it knows in RocksDB."""
    with _hosts(folder) as made:
        yield made


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Hosts]:
    """A cluster whose head keeps what it knows in a Redis elsewhere, and whose workers have clocks of their own."""
    with _hosts(folder, with_redis=True, with_clocks=True) as made:
        yield made


@contextmanager
def _redis(address: str) -> Iterator[str]:
    """Run Redis, and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        options = {"bind": address, "port": port, "dir": folder, "appendonly": "yes", "protected-mode": "no"}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"{address}:{port}"
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def _hosts(folder: Path, *, with_redis: bool = False, with_clocks: bool = False) -> Iterator[Hosts]:
    with ExitStack() as stack:
        cluster = stack.enter_context(ray_cluster(folder, _WORKERS, with_standby=True))
        if with_redis:
            cluster.settings["RAY_REDIS_ADDRESS"] = stack.enter_context(_redis(cluster.network.gateway))
        entries = [f"http://{cluster.network.address(number)}:{_PORT}" for number in range(2, 2 + _MOST)]
        traffic = Traffic(entries, {"Authorization": f"Bearer {KEY}"})
        settings = Settings(home=folder, store=cluster.store_url, archive=cluster.settings["RAYCOMMEND_ARCHIVE"])
        made = Hosts(cluster, traffic, settings, with_clocks)
        for host in cluster.hosts:
            made.supervise(host)
        cluster.reach_dashboard()
        wait_for(lambda: len(cluster.alive()) == 1 + _WORKERS, 180)
        cluster.deploy({}, change=_configure)
        wait_for(made.is_whole, 120)
        yield made


def _configure(application: dict[str, Any]) -> None:
    """Let learner and replicas be on different hosts, and learn without an end to what is waited for."""
    application["args"] = ServiceConfig(**OF_POLICIES).model_dump(mode="json", exclude_unset=True)
    [gateway] = [one for one in application["deployments"] if one["name"] == "Gateway"]
    del gateway["autoscaling_config"]
    gateway |= {"num_replicas": _WORKERS, "max_replicas_per_node": 1}


@contextmanager
def partition(place: Hosts) -> Iterator[None]:
    """Let nothing through between the learner's host and the other worker; the head reaches both."""
    pair = place.place_of(LEARNER)
    for one, other in (pair, pair[::-1]):
        one.run(f"ip neighbour replace {other.address} lladdr {_NOWHERE} nud permanent dev eth0")
    yield
    for one, other in (pair, pair[::-1]):
        one.run(f"ip neighbour delete {other.address} dev eth0")


@contextmanager
def cut(place: Hosts) -> Iterator[None]:
    """Cut the worker without the learner off the network for longer than the head waits for it."""
    _, host = place.place_of(LEARNER)
    host.cut()
    place.lost.append(host)
    yield
    host.mend()
    place.lost.remove(host)


def lose(pick: Callable[[tuple[Host, Host]], Host]) -> Callable[[Hosts], AbstractContextManager[None]]:
    """Return what cuts a worker off the network, and then ends it; it is picked from the learner's and the other."""

    @contextmanager
    def happen(place: Hosts) -> Iterator[None]:
        host = pick(place.place_of(LEARNER))
        host.cut()
        place.lost.append(host)
        yield
        os.kill(host.pid, signal.SIGKILL)

    return happen


@contextmanager
def kill_head(place: Hosts) -> Iterator[None]:
    """Kill all of Ray that the head runs at once."""
    assert place.cluster.head.find("gcs_server")
    end(place.cluster.head)
    yield


def move_clock(seconds: int) -> Callable[[Hosts], AbstractContextManager[None]]:
    """Return what sets the clock of the learner's host, as its processes read it."""

    @contextmanager
    def happen(place: Hosts) -> Iterator[None]:
        host, _ = place.place_of(LEARNER)
        set_clock(host, seconds)
        yield
        assert abs(float(host.run("date +%s", **place.clocks[host.name]).stdout) - time.time() - seconds) < 5

    return happen


@contextmanager
def fail_over(place: Hosts) -> Iterator[None]:
    """Kill PostgreSQL, and promote its standby."""
    place.cluster.database.fail_over()
    yield


@contextmanager
def kill_runner(place: Hosts) -> Iterator[None]:
    """Kill one of two env runners of a training on the cluster, which then ends as it was to."""
    job = "ray job submit --working-dir . --entrypoint-num-cpus 0.1 -- python -m rl.train rl/experiments/shop_14k.toml"
    office = place.cluster.office
    training = office.start(f"{job} --runners 2 --env_steps 4096 --name runners", office.folder / "training.log")
    try:
        wait_for(lambda: len(place.find(_RUNNER)) == _WORKERS, 180)
        time.sleep(5.0)
        os.kill(place.find(_RUNNER)[0], signal.SIGKILL)
        yield
        assert training.wait(300) == 0, (office.folder / "training.log").read_text()[-3_000:]
    finally:
        training.kill()


FAULTS: Final = (
    Fault(
        "partition",
        CLUSTER,
        "nothing gets through between the learner's host and the other worker",
        "mended after 20 s",
        "both replicas answer; the one that is cut off from the learner goes on with what it knows",
        partition,
        20.0,
        heals=True,
        learns=True,
    ),
    Fault(
        "host_cut",
        CLUSTER,
        "a worker without the learner is cut off the network",
        "mended after 20 s",
        "it is given up, ends what it runs, and joins again",
        cut,
        20.0,
        heals=True,
        learns=True,
    ),
    Fault(
        "host_lost",
        CLUSTER,
        "a worker without the learner is cut off the network, and ended after 10 s",
        "not at all",
        "the others answer; what was sent to it is sent again",
        lose(lambda pair: pair[1]),
        10.0,
        learns=True,
    ),
    Fault(
        "learner_host_lost",
        CLUSTER,
        "the worker with the learner is cut off the network, and ended after 10 s",
        "not at all",
        "the learner begins on another from its snapshot",
        lose(lambda pair: pair[0]),
        10.0,
        of_learner=True,
    ),
    Fault(
        "head_killed",
        CLUSTER,
        "SIGKILL of all that the head runs",
        "started again by its supervisor",
        "workers answer and learn without it; it goes on with the cluster that it had, from RocksDB",
        kill_head,
    ),
    Fault(
        "head_killed_redis",
        REDIS,
        "SIGKILL of all that the head runs",
        "started again by its supervisor",
        "workers answer and learn without it; it goes on with the cluster that it had, from Redis",
        kill_head,
    ),
    Fault(
        "clock_ahead",
        REDIS,
        "the clock of the learner's host jumps 10 minutes ahead",
        "not at all",
        "decisions made there are of that time; all are learned, and made again",
        move_clock(_AHEAD_S),
        10.0,
    ),
    Fault(
        "clock_behind",
        REDIS,
        "then from 10 minutes ahead to 10 minutes behind",
        "not at all",
        "the same",
        move_clock(-_AHEAD_S),
        10.0,
    ),
)

_ELSEWHERE: Final = "as on one machine"
OF_FRESHNESS: Final = (
    killed("replica", CLUSTER, _ELSEWHERE, GATEWAY, most=1),
    killed("haproxy", CLUSTER, _ELSEWHERE, HAPROXY, most=1),
    Fault("env_runner_killed", CLUSTER, "SIGKILL of an env runner", "not at all", _ELSEWHERE, kill_runner),
    killed("learner", CLUSTER, _ELSEWHERE, LEARNER, of_learner=True),
    *(fault for fault in FAULTS if fault.name in ("host_lost", "learner_host_lost")),
    *(replace(fault, of_learner=True) for fault in FAULTS if fault.name == "head_killed"),
    Fault("postgres_failed_over", CLUSTER, "the same", "the same", _ELSEWHERE, fail_over, of_learner=True),
)
"""Those that `python -m tests.bench.freshness_cluster` looks at."""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
