"""Replicas rise under load and fall back when it is over; nobody who asks meanwhile is failed."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.support.ports import free_port
from tests.support.shops import save_policies, small_market

# In a process of its own: Ray must start with HAProxy in the environment. It prints how many replicas run, as Serve's
# status has it, once in a while.
_SERVER = """
import os, signal, sys
from serve.app import ray_environment, running
from serve.config import ServiceConfig
os.environ.update(ray_environment(drain_s=1))
import ray
from ray import serve
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
scaling = {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 2, "upscale_delay_s": 1,
           "downscale_delay_s": 2, "look_back_period_s": 2}
config = ServiceConfig(policies={"linear_thompson": 1}, home=sys.argv[1])
with running(config, int(sys.argv[2]), autoscaling_config=scaling, ray_actor_options={"num_cpus": 0.1}):
    print("ready", flush=True)
    while signal.sigtimedwait({signal.SIGTERM}, 0.5) is None:
        replicas = serve.status().applications["raycommend"].deployments["Gateway"].replica_states
        print(replicas.get("RUNNING", 0), flush=True)
ray.shutdown()
"""
_CLIENTS = 16  # at once: 8 for each replica's 2, so that all 3 are wanted


class Watched:
    """A service that says how many replicas it has."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.url, self.replicas = url, 0
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.replicas = int(line)


@contextmanager
def watched(home: Path) -> Iterator[Watched]:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", _SERVER, str(home), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert any(line == "ready\n" for line in process.stdout), "the service did not start"
            yield Watched(process, f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.slow
def test_replicas_rise_under_load_and_fall_back(tmp_path: Path) -> None:
    save_policies(tmp_path, small_market()[1])
    with watched(tmp_path) as service:
        statuses, most = asyncio.run(load_until_it_has(3, service, within_s=120))
        assert most == 3
        assert set(statuses) == {200}
        assert len(statuses) > 100
        deadline, after = time.monotonic() + 120, []
        while service.replicas > 1:
            assert time.monotonic() < deadline, f"still {service.replicas} replicas without load"
            after.append(httpx.get(f"{service.url}/healthz", timeout=30).status_code)
            time.sleep(0.2)
        assert set(after) <= {200}


async def load_until_it_has(replicas: int, service: Watched, within_s: float) -> tuple[list[int], int]:
    """Ask from many clients at once; returns the answers' statuses and the number of replicas at the end."""
    statuses: list[int] = []
    deadline = time.monotonic() + within_s
    async with aiohttp.ClientSession(service.url, timeout=aiohttp.ClientTimeout(60)) as session:

        async def client() -> None:
            while service.replicas < replicas and time.monotonic() < deadline:
                async with session.post("/v1/recommend", json={"k": 3, "user_id": "12000"}) as response:
                    statuses.append(response.status)

        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return statuses, service.replicas
