"""Replicas of the service rise under load and fall back when it is over; nobody who asks meanwhile is failed."""

import asyncio
import time
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.support.scaled import Watched, watched
from tests.support.shops import save_policies, small_market

_CLIENTS = 16  # at once: 8 for each replica's 2, so that all 3 are wanted


@pytest.mark.slow
def test_replicas_rise_under_load_and_fall_back(tmp_path: Path) -> None:
    save_policies(tmp_path, small_market()[1])
    delays = {"upscale_delay_s": 1, "downscale_delay_s": 2, "look_back_period_s": 2}
    with watched(tmp_path, {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 2, **delays}) as service:
        statuses, most = asyncio.run(load_until_it_has(3, service, within_s=120))
        assert most == 3
        assert set(statuses) == {200}
        assert len(statuses) > 100
        assert set(fall_back(service)) <= {200}


def fall_back(service: Watched) -> list[int]:
    """Wait without load until one replica is left; returns the statuses of those who asked meanwhile."""
    deadline, after = time.monotonic() + 120, []
    while service.replicas > 1:
        assert time.monotonic() < deadline, f"still {service.replicas} replicas without load"
        after.append(httpx.get(f"{service.url}/healthz", timeout=30).status_code)
        time.sleep(0.2)
    return after


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
