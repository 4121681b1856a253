"""The way of serve/CLUSTER.md, walked: three hosts, from `ray up` to `ray down`, asked from outside of them."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any, NamedTuple

import aiohttp
import httpx
import pytest

from data.log.store import Store
from tests.support.hosts.cluster import DASHBOARD, KEY, PASSWORD, RayCluster, put_code, ray_cluster, within
from tests.support.hosts.host import Host
from tests.support.hosts.marks import needs_hosts
from tests.support.hosts.sockets import listeners, probe, rows
from tests.support.packages import needs_package
from tests.support.services import wait_for

pytestmark = [*needs_hosts(), needs_package("postgresql"), pytest.mark.slow, pytest.mark.timeout(1_800)]

_SHORT = {
    "max_replicas": 3,
    "upscale_delay_s": 1,
    "downscale_delay_s": 5,
    "look_back_period_s": 3,
    "target_ongoing_requests": 4,
}
_CLIENTS = 16  # at once: four times what two replicas are to have


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster that has ingested a shop's transactions; at its end it must be gone."""
    with ray_cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.up()
        assert made.submit(f"data.ingest --node online_retail '{made.transactions}'")["events"] > 5_000
        yield made
        made.down()
        assert made.left() == {}


@pytest.fixture(scope="module")
def champion(cluster: RayCluster) -> dict[str, Any]:
    return cluster.submit("rl.train --decisions 500 --name linear_thompson --register_as champion")


@pytest.fixture(scope="module")
def replicas(cluster: RayCluster, champion: dict[str, Any]) -> dict[str, Host]:
    """Two replicas that answer, by name, with their hosts."""
    cluster.deploy(_SHORT)
    hosts = {host.address: host for host in cluster.hosts}
    return {name: hosts[address] for name, address in cluster.replicas().items()}


def test_rollouts_run_on_two_hosts(cluster: RayCluster) -> None:
    """With the job itself they take all processors of both workers: of fewer Ray may put all on one."""
    runners = 2 * (os.cpu_count() or 1) - 1
    with watching(cluster, "ray::BatchedEnvRunner") as seen:
        report = cluster.submit(
            f"rl.train rl/experiments/shop.toml --runners {runners} --env_steps 4000 --envs_per_runner 16"
            " --name rollouts --evaluation.every 2000 --evaluation.episodes 32 --dqn.learning_starts 512"
        )
    assert report["env_steps"] >= 4_000
    assert seen == {worker.name for worker in cluster.workers}  # and none on the head, which runs no work


def test_replicas_answer_on_two_hosts_with_the_champion(
    cluster: RayCluster, champion: dict[str, Any], replicas: dict[str, Host]
) -> None:
    assert {host.name for host in replicas.values()} == {"worker-1", "worker-2"}
    for host in cluster.hosts:  # each has an ingress, the head's too
        with cluster.client(host) as client:
            wait_for(partial(answers, client), 60)
            answer = client.post("/v1/recommend", json={"user_id": "12347", "k": 3}).json()
            assert answer["policy"]["version"].startswith(champion["digest"])
            assert len(answer["items"]) == 3


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_replica_learns_from_feedback_that_another_was_given(cluster: RayCluster, replicas: dict[str, Host]) -> None:
    """Each is asked at its own port."""
    (one, first), (other, second) = replicas.items()
    ports = [cluster.port(host, name) for name, host in replicas.items()]
    with cluster.client(first, ports[0]) as told, cluster.client(second, ports[1]) as asked:
        assert told.get("/healthz").json()["replica"] == one
        before = asked.get("/healthz").json()
        assert before["replica"] == other
        decided = told.post("/v1/recommend", json={"user_id": "12347", "k": 1}).json()
        report = {"decision_id": decided["decision_id"], "kind": "purchase", "item_id": decided["items"][0]["item_id"]}
        position = told.post("/v1/feedback", json=report).json()["results"][0]["position"]
        wait_for(lambda: asked.get("/healthz").json()["learned_through"] >= position, 30)
        after = asked.get("/healthz").json()["policies"][0]["version"]
        assert after != before["policies"][0]["version"]
        known = asked.get(f"/v1/decisions/{decided['decision_id']}").json()
        assert [feedback["kind"] for feedback in known["feedback"]] == ["purchase"]


def test_without_the_key_or_the_token_nothing_is_let_in(cluster: RayCluster, replicas: dict[str, Host]) -> None:
    for name, host in replicas.items():
        for port in (8_000, cluster.port(host, name)):
            with cluster.client(host, port, key=None) as client:
                assert client.post("/v1/recommend", json={"k": 1}).status_code == 401
    for port in (8_265, 20_050, 20_051):  # the dashboard's, HAProxy's statistics and metrics: not from another host
        with cluster.client(cluster.head, port) as client, pytest.raises(httpx.ConnectError):
            client.get("/")
    refused = cluster.office.run("ray job submit -- true", check=False, RAY_AUTH_MODE="disabled")
    assert refused.returncode
    assert "401" in refused.stdout or "uthenti" in refused.stdout
    for path in ("nodes?view=summary", "logical/actors", "api/jobs/", "api/serve/applications/", "api/v0/logs"):
        request = f"curl -s -o /dev/null -w %{{http_code}} '{DASHBOARD}/{path}'"
        assert cluster.office.run(request).stdout == "401", path
        assert cluster.office.run(f"{request} -H 'Authorization: Bearer {'0' * 64}'").stdout == "403", path


def test_every_port_is_named_in_the_page_and_answers_strangers_as_it_says(
    cluster: RayCluster, replicas: dict[str, Host]
) -> None:
    """A stranger is on another host, and has neither the token nor a key."""
    table, seen, others = rows(), set(), []
    for host in cluster.hosts:
        for listener in listeners(host):
            answer = probe(host.address, listener.port)
            if answer == "nothing" and listener not in listeners(host):
                continue  # a worker process that has ended
            row = next((row for row in table if row.matches(listener) and row.answer == answer), None)
            if row is None:
                others.append((host.name, listener, answer))
            seen.add(row)
    assert others == []
    assert seen == set(table)


def test_secrets_are_in_no_command_line_and_no_job(cluster: RayCluster, champion: dict[str, Any]) -> None:
    token = (cluster.office.folder / "home" / ".ray" / "auth_token").read_text()
    paths = ("api/jobs/", "nodes?view=summary", "logical/actors", "api/serve/applications/", "api/v0/workers?detail=1")
    shown = [cluster.office.run("ray job list").stdout, *(json.dumps(cluster.ask(path)) for path in paths)]
    for secret in (PASSWORD, KEY, token):
        assert not [text for text in shown if secret in text]
        for host in (cluster.office, *cluster.hosts):
            assert not host.find(secret), host.name
            written = host.files_with(
                secret, "ray"
            )  # logs; a job's own files are this checkout, which knows the secrets
            assert not [path for path in written if "runtime_resources" not in path.parts], host.name
    for host in cluster.hosts:
        modes = host.run("stat -c %a ~/.raycommend.env ~/.ray/auth_token").stdout.split()
        assert modes == ["600", "600"], host.name


def test_a_replica_comes_with_load_and_goes_without(cluster: RayCluster, replicas: dict[str, Host]) -> None:
    with asking(cluster.workers, _CLIENTS) as answers:
        wait_for(lambda: len(cluster.replicas()) == 3, 180)
    assert not [answer for answer in answers if answer.status != 200]
    assert len(answers) > 100
    wait_for(lambda: len(cluster.replicas()) == 2, 180)
    serving = {cluster.head.address, *cluster.replicas().values()}  # a node without a replica has no ingress
    for host in (host for host in cluster.hosts if host.address in serving):
        with cluster.client(host) as client:
            assert client.post("/v1/recommend", json={"user_id": "12347", "k": 3}).status_code == 200


def test_replicas_take_new_code_one_by_one_while_they_are_asked(cluster: RayCluster, replicas: dict[str, Host]) -> None:
    before = cluster.replicas()
    put_code(within(cluster.objects, "code/next.zip"), {'FastAPI(title="raycommend"': 'FastAPI(title="the next"'})
    with asking(cluster.workers, 4) as answers:
        cluster.deploy(_SHORT, code="s3://shop/code/next.zip")
        wait_for(
            lambda: len(now := cluster.replicas().keys() - before.keys()) == 2 and now == {*cluster.replicas()}, 300
        )
    assert not [answer for answer in answers if answer.status != 200]
    assert len(answers) > 100
    for host in (
        host for host in cluster.hosts if host.address in {cluster.head.address, *cluster.replicas().values()}
    ):
        with cluster.client(host) as client:
            assert {client.get("/openapi.json").json()["info"]["title"] for _ in range(10)} == {"the next"}
    ids = [answer.decision_id for answer in answers]
    assert len({*ids}) == len(ids)
    with closing(Store.open(cluster.store_url)) as log:
        assert log.decisions_by_id(ids).keys() == {*ids}


class Answer(NamedTuple):
    """What a client was told."""

    status: int
    """0: nothing."""
    decision_id: str
    """Or, where there is none, who was asked and why not."""


@contextmanager
def asking(hosts: list[Host], clients: int) -> Iterator[list[Answer]]:
    """Ask the ingresses of hosts from many clients at once, and yield how they answer."""
    answers: list[Answer] = []
    enough = Event()
    load = Thread(target=asyncio.run, args=(ask(hosts, clients, answers, enough),))
    load.start()
    try:
        yield answers
    finally:
        enough.set()
        load.join()


async def ask(hosts: list[Host], clients: int, answers: list[Answer], enough: Event) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def client(host: Host) -> None:
            while not enough.is_set():
                url = f"http://{host.address}:8000/v1/recommend"
                try:
                    async with session.post(url, json={"k": 3, "user_id": "12347"}) as response:
                        said = await response.json() if response.status == 200 else {}
                        why = said["decision_id"] if said else f"{host.name}: {await response.text()}"
                        answers.append(Answer(response.status, why))
                except aiohttp.ClientError as error:
                    answers.append(Answer(0, f"{host.name}: {error!r}"))
                    await asyncio.sleep(1)

        await asyncio.gather(*(client(hosts[number % len(hosts)]) for number in range(clients)))


@contextmanager
def watching(cluster: RayCluster, title: str) -> Iterator[set[str]]:
    """Look meanwhile on which hosts there are processes of a title, and yield their names."""
    seen: set[str] = set()
    enough = Event()

    def look() -> None:
        while not enough.is_set():
            seen.update(host.name for host in cluster.hosts if host.find(title))
            time.sleep(0.5)

    watcher = Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        enough.set()
        watcher.join()
