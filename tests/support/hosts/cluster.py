"""The project's cluster.yaml on hosts of this machine, with the edits for own machines, and what it needs around it.

An office, which starts the cluster and asks it; a head; workers. PostgreSQL, an object store and MLflow run on this
machine.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs
from zipfile import ZipFile

import httpx
import numpy as np
import yaml
from pyarrow.fs import FileSystem

from rl.simulators.market.generated import GeneratedMarketConfig, generate_market, generate_transactions
from tests.support.cluster_files import ROOT, read
from tests.support.hosts.host import Host, host, make_key
from tests.support.hosts.network import Network, network
from tests.support.objects import ACCOUNT, object_store
from tests.support.postgres import Cluster, cluster, followed
from tests.support.services import wait_for
from tests.support.trackers import tracking_server

PASSWORD: Final = "a-password-that-is-in-no-command-line"
KEY: Final = "an-api-key-that-is-in-no-command-line"
_SSH: Final = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
DASHBOARD: Final = "http://localhost:8265"  # of the office


@dataclass
class RayCluster:
    """A cluster that `ray up` has started."""

    office: Host
    head: Host
    workers: list[Host]
    database: Cluster
    store_url: str
    settings: dict[str, str]
    """What lies in ~/.raycommend.env."""
    objects: str
    """URI of the bucket that all nodes reach."""
    network: Network
    start_host: Callable[[int, str], Host]
    """Starts a host that has this machine's packages, by the number of its address and its name."""

    @property
    def transactions(self) -> str:
        """URI of a shop's transactions."""
        return within(self.objects, "in/transactions.parquet")

    @property
    def hosts(self) -> list[Host]:
        return [self.head, *self.workers]

    def new_worker(self) -> Host:
        """Start one more host; what runs Ray there is another's matter."""
        number = len(self.workers) + 1
        made = self.start_host(number + 2, f"worker-{number}")  # after the office's and the head's
        self.workers.append(made)
        return made

    def secrets(self) -> dict[str, str]:
        """Return what lies in the home of each node of Ray, readable by its user alone, by path."""
        token = (self.office.folder / "home" / ".ray" / "auth_token").read_text()
        return {".raycommend.env": environment_file(self.settings), ".ray/auth_token": token}

    def reach_dashboard(self) -> None:
        """Bring the head's dashboard to the office where no `ray up` has made a file for `ray dashboard`."""
        forwarding = f"exec ssh {_SSH} -N -L 8265:localhost:8265 root@{self.head.address}"
        self.office.start(forwarding, self.office.folder / "dashboard.log")

    def up(self) -> None:
        """Start it, and wait until all hosts have joined: the head starts the workers after `ray up` has ended."""
        self.office.run("ray up -y --no-config-cache ~/cluster.yaml", timeout_s=600)
        self.office.start("ray dashboard ~/cluster.yaml", self.office.folder / "dashboard.log")
        wait_for(lambda: len(self.alive()) == len(self.hosts), 300)

    def down(self) -> None:
        """End it as the page says for machines of one's own, and wait until no process of it is left."""
        for pid in self.office.find("ray dashboard"):
            os.kill(pid, signal.SIGINT)
        self.office.run("serve shutdown -y && ray down -y ~/cluster.yaml", timeout_s=300)
        stop = 'bash -lic "ray stop"; pkill -f "[/]tmp/raycommend-.*/haproxy.cfg" || true'
        for one in self.hosts:
            self.office.run(f"ssh {_SSH} root@{one.address} '{stop}'")
        wait_for(lambda: not self.left(), 60, self.left)

    def left(self) -> dict[str, list[str]]:
        """Return the command lines on each host that has any but those that were there before the cluster."""
        return {host.name: lines for host in self.hosts if (lines := _lines(host))}

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head knows and hears of; none while it does not answer."""
        try:
            nodes = self.ask("nodes?view=summary")["data"]["summary"]
        except AssertionError:
            return set()
        # Of a node that has just come its agent has not told the address yet.
        return {node["ip"] for node in nodes if node["raylet"].get("state") == "ALIVE" and "ip" in node}

    def ask(self, path: str) -> dict[str, Any]:
        """Ask the head's dashboard from the office.

        Raises:
            AssertionError: it does not answer, or not with 200.
        """
        answer: dict[str, Any] = json.loads(self.office.run(f"curl -sf -H @$HOME/header '{DASHBOARD}/{path}'").stdout)
        return answer

    def submit(self, command: str, timeout_s: float = 400) -> dict[str, Any]:
        """Run a command of ours as a job, and return the JSON that it has printed."""
        job = "ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m"
        said = self.office.run(f"{job} {command}", timeout_s=timeout_s).stdout
        report: dict[str, Any] = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
        return report

    def deploy(
        self,
        autoscaling: Mapping[str, float],
        code: str | None = None,
        change: Callable[[dict[str, Any]], None] = lambda application: None,
    ) -> None:
        """Deploy the service, and wait until it runs.

        Args:
            autoscaling: fields of Serve's AutoscalingConfig that are to be others than the file's.
            code: URI of an archive with the code that replicas have; default: what lies on their nodes.
            change: changes the application's part of the file in other ways.
        """
        config = yaml.safe_load((ROOT / "serve" / "deploy" / "service.yaml").read_text())
        application = config["applications"][0]
        application["deployments"][0]["autoscaling_config"] |= autoscaling
        application |= {"runtime_env": {"working_dir": code}} if code else {}
        change(application)
        (self.office.folder / "home" / "service.yaml").write_text(yaml.safe_dump(config))
        self.office.run("serve deploy ~/service.yaml")
        wait_for(lambda: self._application().get("status") == "RUNNING", 180)

    def replicas(self) -> dict[str, str]:
        """Return the addresses of the hosts of the replicas that answer, by the replicas' names."""
        deployments = self._application().get("deployments", {})
        replicas = deployments.get("Gateway", {"replicas": []})["replicas"]
        return {replica["replica_id"]: replica["node_ip"] for replica in replicas if replica["state"] == "RUNNING"}

    def port(self, host: Host, replica: str) -> int:
        """Return the port of a replica itself, of those that its host's replicas, the console's too, have taken."""
        for port in range(20_000, 20_050):
            with self.client(host, port) as client, suppress(httpx.ConnectError):
                answer = client.get("/healthz")
                if answer.status_code == 200 and answer.json()["replica"] == replica:
                    return port
        raise AssertionError(f"{host.name} has no port at which {replica} answers")

    def client(self, host: Host, port: int = 8000, key: str | None = KEY) -> httpx.Client:
        """Return what asks a host from this machine, which is not one of the cluster's."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=f"http://{host.address}:{port}", headers=headers, timeout=30)

    def _application(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("api/serve/applications/")["applications"].get("raycommend", {})
        return found


def _lines(host: Host) -> list[str]:
    own = (host.pid, *host.find("sshd:"))
    return [line for pid, line in host.processes().items() if pid not in own]


@contextmanager
def ray_cluster(folder: Path, workers: int = 2, *, with_standby: bool = False) -> Iterator[RayCluster]:
    """Make the hosts and what is around them; `up` starts the cluster. All ends with this, whatever runs.

    Args:
        folder: for the files of the hosts.
        workers: how many there are beside the head.
        with_standby: the log's server has a synchronous standby, which the log's URL names too.
    """
    with ExitStack() as stack:
        net = stack.enter_context(network())
        database = stack.enter_context(cluster(net.gateway))
        database.admit(net.subnet, PASSWORD)
        store_url = database.new_database()
        if with_standby:
            store_url = stack.enter_context(followed(database, store_url))
        objects = stack.enter_context(object_store(address=net.gateway))
        tracking = stack.enter_context(tracking_server(folder, net.gateway))
        settings = {
            "RAYCOMMEND_STORE": store_url.replace("127.0.0.1", net.gateway),
            "PGPASSWORD": PASSWORD,
            "RAYCOMMEND_ARCHIVE": within(objects, "archive"),
            "MLFLOW_TRACKING_URI": tracking,
            "RAYCOMMEND_API_KEY": KEY,
            "AWS_ENDPOINT_URL_S3": parse_qs(objects.partition("?")[2])["endpoint_override"][0],  # for Ray's own reads
            **ACCOUNT,
        }
        key = make_key(folder)
        names = ["office", "head", *(f"worker-{number}" for number in range(1, workers + 1))]
        start = partial(_start, stack, net, folder, key)
        office, head, *others = [start(number, name) for number, name in enumerate(names, 1)]
        _furnish(office, head, others, key, settings)
        made_cluster = RayCluster(office, head, others, database, store_url, settings, objects, net, start)
        put_transactions(made_cluster.transactions)
        yield made_cluster


def environment_file(settings: Mapping[str, str]) -> str:
    """Return settings as lines of a shell."""
    return "".join(f"{name}='{value}'\n" for name, value in settings.items())


def within(uri: str, path: str) -> str:
    """Return the URI of a path in a bucket."""
    bucket, _, options = uri.partition("?")
    return f"{bucket}/{path}?{options}"


def put_transactions(uri: str) -> None:
    """Write a generated shop's transactions."""
    rng = np.random.default_rng(0)
    market = generate_market(GeneratedMarketConfig(), rng)
    filesystem, path = FileSystem.from_uri(uri)
    with filesystem.open_output_stream(path) as file:
        generate_transactions(market, 3_000, rng).to_parquet(file)


def put_code(uri: str, changes: Mapping[str, str]) -> None:
    """Write the packages of this checkout as an archive, as `git archive HEAD data rl serve` would had they been
    committed.

    Args:
        uri: of the archive.
        changes: texts that become others, wherever they stand.
    """
    filesystem, path = FileSystem.from_uri(uri)
    with filesystem.open_output_stream(path) as stream, ZipFile(stream, "w") as packed:
        for source in sorted(path for floor in ("data", "rl", "serve") for path in (ROOT / floor).rglob("*.*")):
            if source.is_file() and "__pycache__" not in source.parts:
                content = source.read_bytes()  # of pictures too
                for old, new in changes.items():
                    content = content.replace(old.encode(), new.encode())
                packed.writestr(source.relative_to(ROOT).as_posix(), content)


def _start(stack: ExitStack, net: Network, folder: Path, key: Path, number: int, name: str) -> Host:
    variables = {"RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": DASHBOARD, "RAY_DASHBOARD_ADDRESS": DASHBOARD}
    variables["PYTHONPATH"] = str(ROOT)
    made = stack.enter_context(
        host(net, number, name, folder, key.with_suffix(".pub"), **(variables if name == "office" else {}))
    )
    if name != "office":
        _lend_packages(made)
    return made


def _lend_packages(host: Host) -> None:
    """Let a host have this machine's packages, read only, where `make` would install them: no index is reached."""
    venv = "~/raycommend/.venv"
    commands = [f"mkdir -p {venv}", f"cp {sys.prefix}/pyvenv.cfg {venv}", f"touch {venv}/installed"]
    for name in ("bin", "lib"):
        commands += [
            f"mkdir {venv}/{name}",
            f"mount --bind {sys.prefix}/{name} {venv}/{name}",
            f"mount -o remount,bind,ro {venv}/{name}",
        ]
    host.run(" && ".join(commands))


def _furnish(office: Host, head: Host, workers: list[Host], key: Path, settings: Mapping[str, str]) -> None:
    """Put into the office what the page says that must be there: a key, a token, the settings, the edited file."""
    home = office.folder / "home"
    edited = read("local")
    edited["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address for worker in workers]}
    edited["auth"] |= {"ssh_user": "root"}
    (home / "cluster.yaml").write_text(yaml.safe_dump(edited, sort_keys=False))
    shutil.copy(key, home / ".ssh" / "id_ed25519")
    (home / ".raycommend.env").write_text(environment_file(settings))
    for secret in (home / ".ssh" / "id_ed25519", home / ".raycommend.env"):
        secret.chmod(0o600)
    office.run("ray get-auth-token --generate && chmod 600 ~/.ray/auth_token")
    token = (home / ".ray" / "auth_token").read_text()
    (home / "header").write_text(f"Authorization: Bearer {token}\n")
