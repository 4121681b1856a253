"""The ingress on Ray: two services on one machine, a HAProxy that is killed, what listens where."""

import time
from pathlib import Path

import httpx
import psutil
import pytest

from data.log.store import Store
from serve.config import ServiceConfig
from tests.support.services import Running, service
from tests.support.shops import save_policies, small_market


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


@pytest.mark.slow
def test_while_a_second_service_starts_nobody_answers_for_it(server: Running, tmp_path: Path) -> None:
    mine = set(server.health_of_all())
    save_policies(tmp_path, small_market()[1])
    config = ServiceConfig(policies={"linear_thompson": 1}, home=str(tmp_path), access_log=False)
    visit = {"user_id": "of the second", "k": 1}
    with service(config) as second:
        seen: list[int] = []
        while 200 not in seen:
            assert second.process.poll() is None, second.said()
            answer = ask(second)
            if answer is not None:
                seen.append(answer.status_code)
                asked = second.client.post("/v1/recommend", json=visit)
                assert asked.status_code in (200, 503)
                assert all(one.headers["retry-after"] for one in (answer, asked) if one.status_code == 503)
            time.sleep(0.2)
        assert 503 in seen
        assert answer is not None
        assert answer.json()["replica"] not in mine
        second.wait()
        second.client.post("/v1/recommend", json=visit).raise_for_status()
        assert {answer.json()["replica"] for answer in map(ask, [server] * 20) if answer is not None} <= mine
    assert server.client.get("/v1/users/of%20the%20second").status_code == 404
    store = Store.open(config.settings.store_url)
    assert store.last_decision() > 0
    store.close()


def test_what_is_for_another_replica_is_refused(server: Running) -> None:
    ports = {
        connection.laddr.port
        for replica in server.gateways()
        for connection in replica.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and 20_000 <= connection.laddr.port < 32_000
    }
    assert len(ports) == 2
    other = {"x-serve-server": "SERVE_REPLICA_raycommend-Gateway-another1"}
    for port in ports:
        url = f"http://127.0.0.1:{port}"
        for path in ("/-/healthz", "/healthz"):
            assert httpx.get(url + path).status_code == 200
            answer = httpx.get(url + path, headers=other)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert httpx.get(server.url + "/healthz", headers=other).status_code == 200  # HAProxy's word counts, not a client's


def test_haproxy_listens_on_this_machine_alone_and_obeys_its_user_alone(server: Running) -> None:
    processes = server.find("haproxy.cfg")  # one that was replaced and waits for its last clients listens nowhere
    connections = [one for process in processes for one in process.net_connections("tcp")]
    assert {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    for process in processes:
        command = process.cmdline()
        folder = Path(command[command.index("-f") + 1]).parent
        assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("what", ["haproxy.cfg", "ray::HAProxyManager"])
def test_it_is_back_soon_after_a_kill(server: Running, what: str) -> None:
    killed = server.find(what)
    assert killed
    for process in killed:
        process.kill()
    seconds = outage(server, 120)  # 5 s on a machine that has nothing else to do
    print(f"{what}: {seconds:.1f} s")
    deadline = time.monotonic() + 120
    while {process.pid for process in server.find(what)} <= {process.pid for process in killed}:
        assert time.monotonic() < deadline, "it was not started again"
        time.sleep(0.1)
    outage(server, 120)
