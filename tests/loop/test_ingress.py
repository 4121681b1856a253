"""The ingress on Ray: two services on one machine, a HAProxy that is killed, what listens where."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from data.log.store import Store
from data.settings import Settings
from serve.config import ServiceConfig
from tests.support.services import Running, service
from tests.support.shops import save_policies, small_market


def configuration(home: Path) -> str:
    """Return the configuration of a service with a home of its own."""
    save_policies(home, small_market()[1])
    return ServiceConfig(policies={"linear_thompson": 1}, home=str(home), access_log=False).model_dump_json()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with service(configuration(tmp_path_factory.mktemp("first"))) as running:
        running.wait()
        yield running


def ask(running: Running, path: str = "/healthz") -> httpx.Response | None:
    """Return what a service answers, None if it refuses the connection."""
    try:
        return httpx.get(running.url + path, timeout=10)
    except httpx.TransportError:
        return None


def outage(running: Running, within_s: float) -> float:
    """Return the seconds until a service answers again, and keeps answering for a second."""
    began = back = time.monotonic()
    while time.monotonic() < back + 1:
        answer = ask(running)
        if answer is None or answer.status_code != 200:
            assert answer is None or (answer.status_code == 503 and answer.headers["retry-after"] == "1")
            back = time.monotonic()
            assert back - began < within_s, f"not back within {within_s} s"
        time.sleep(0.05)
    return back - began


def test_while_a_second_service_starts_nobody_answers_for_it(first: Running, tmp_path: Path) -> None:
    mine = first.url
    replica = httpx.get(f"{mine}/healthz").json()["replica"]
    config = configuration(tmp_path)
    with ExitStack() as stack:
        second = stack.enter_context(service(config))
        seen: list[int] = []
        while 200 not in seen:
            assert second.process.poll() is None, second.said()
            answer = ask(second)
            if answer is not None:
                seen.append(answer.status_code)
                asked = httpx.post(f"{second.url}/v1/recommend", json={"user_id": "of the second", "k": 1})
                assert asked.status_code in (200, 503)
                assert all(one.headers["retry-after"] for one in (answer, asked) if one.status_code == 503)
            time.sleep(0.2)
        assert 503 in seen
        assert answer is not None
        assert answer.json()["replica"] != replica
        second.wait()
        httpx.post(f"{second.url}/v1/recommend", json={"user_id": "of the second", "k": 1}).raise_for_status()
        assert {answer.json()["replica"] for answer in map(ask, [first] * 20) if answer is not None} == {replica}
    assert httpx.get(f"{mine}/v1/users/of%20the%20second").status_code == 404
    store = Store.open(Settings(home=tmp_path, store=None, archive=None).store_url)
    assert store.last_decision() > 0
    store.close()


def test_what_is_for_another_replica_is_refused(first: Running) -> None:
    (port,) = {
        connection.laddr.port
        for replica in first.find("ServeReplica:raycommend:Gateway")
        for connection in replica.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and 20_000 <= connection.laddr.port < 32_000
    }
    url = f"http://127.0.0.1:{port}"
    other = {"x-serve-server": "SERVE_REPLICA_raycommend-Gateway-another1"}
    for path in ("/-/healthz", "/healthz"):
        assert httpx.get(url + path).status_code == 200
        answer = httpx.get(url + path, headers=other)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert httpx.get(first.url + "/healthz", headers=other).status_code == 200  # HAProxy's word counts, not a client's


def test_haproxy_listens_on_this_machine_alone_and_obeys_its_user_alone(first: Running) -> None:
    for process in first.find("haproxy.cfg"):
        listening = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
        command = process.cmdline()
        folder = Path(command[command.index("-f") + 1]).parent
        assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("what", ["haproxy.cfg", "ray::HAProxyManager"])
def test_it_is_back_soon_after_a_kill(first: Running, what: str) -> None:
    killed = first.find(what)
    assert killed
    for process in killed:
        process.kill()
    seconds = outage(first, 120)  # 5 s on a machine that has nothing else to do
    print(f"{what}: {seconds:.1f} s")
    deadline = time.monotonic() + 120
    while {process.pid for process in first.find(what)} <= {process.pid for process in killed}:
        assert time.monotonic() < deadline, "it was not started again"
        time.sleep(0.1)
    outage(first, 120)
