"""Does the queueing simulation know how long two replicas let wait, when it has seen one?

It is fitted to one replica whose policy waits 20 ms: how long a single client waits for its answer, and how many a
second it answers at the most. Then it says what the 99th percentile of two is, at 70 % of what they can, behind
HAProxy, asked by many clients that know nothing of each other. `prediction_error` is |predicted - measured| /
measured, where measured is the median of three turns.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, TypeAlias

import aiohttp
import numpy as np

from rl.policy.arrays import FloatArray
from tests.bench.common import plot, say
from tests.bench.planning.queueing import poisson_arrivals, waiting_times
from tests.bench.service import shop
from tests.bench.service.steady import Answer, timed
from tests.support.scaled import watched

POLICY, RECOMMEND = "linear_thompson", "/v1/recommend"
UTILISATION, TURNS, REQUESTS = 0.7, 3, 1_500
Figures: TypeAlias = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True)
class Fit:
    """What one replica is like: how long it is busy with a request, [N], and what passes beside that, in seconds."""

    busy_s: FloatArray
    beside_s: float

    @classmethod
    def of(cls, alone_s: FloatArray, most_per_s: float) -> "Fit":
        """Fit it to the waits of a single client [N], and to the answers a second of a replica that is never idle."""
        beside = max(0.0, float(np.median(alone_s)) - 1 / most_per_s)
        return cls(np.maximum(alone_s - beside, 0.0), beside)

    def predict(self, rate: float, servers: int, rng: np.random.Generator, n: int = 200_000) -> FloatArray:
        """Return the times to an answer [N] of so many servers at so many requests a second."""
        services = rng.choice(self.busy_s, n)
        waits = waiting_times(poisson_arrivals(rate, n, rng), services, servers, rng, "fewest")
        times: FloatArray = waits + services + self.beside_s
        return times


def compare() -> Figures:
    """Fit the simulation to one replica, and compare its p99 of two with the measured; returns figures and peers."""
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        market = shop.save_linear(Path(folder), POLICY)
        visits = shop.asks(market.users, market.items, number=500)
        asked = [{"user_id": user, "candidates": items, "k": shop.K} for user, items in visits]
        rng = np.random.default_rng(0)
        with replicas(Path(folder), 1) as url:
            closed(url, asked, 1, 3.0)
            alone, most = closed(url, asked, 1, 15.0), len(closed(url, asked, 8, 15.0)) / 15.0
        fit = Fit.of(np.array(alone), most)
        one = f"{np.median(alone) * 1e3:.1f} ms for one client, of which it is busy all but {fit.beside_s * 1e3:.1f}"
        say(f"one replica: {one}, {most:.1f}/s at most")
        rate = UTILISATION * 2 * most
        measured = []
        with replicas(Path(folder), 2) as url:
            for turn in range(TURNS):
                times = poisson_arrivals(rate, REQUESTS, rng).tolist()
                answers = asyncio.run(timed(url, lambda number: ask(asked, number), range(REQUESTS), times))
                assert all(answer.status == 200 for answer in answers)
                measured.append(seconds_of(answers[REQUESTS // 10 :]))
                say(f"two replicas at {rate:.1f}/s, turn {turn}: p99 {quantile_ms(measured[-1], 0.99):.1f} ms")
    predicted = fit.predict(rate, 2, rng)
    p99 = median(quantile_ms(times, 0.99) for times in measured)
    shares = np.linspace(0, 1, 101)
    together = np.concatenate(measured)
    plot(
        "capacity",
        {
            name: ((np.quantile(times, shares) * 1e3).tolist(), shares.tolist())
            for name, times in (("predicted from one replica", predicted), ("measured with two", together))
        },
        "ms to an answer",
        "share of the requests",
    )
    figures = {"prediction_error": round(abs(quantile_ms(predicted, 0.99) - p99) / p99, 3)}
    peers = {"predicted_p99_ms": quantile_ms(predicted, 0.99), "measured_p99_ms": p99}
    peers |= {"predicted_p50_ms": quantile_ms(predicted, 0.5), "measured_p50_ms": quantile_ms(together, 0.5)}
    peers |= {"one_replica_per_s": most, "two_replicas_rate": rate, "alone_p50_ms": float(np.median(alone)) * 1e3}
    return figures, {name: round(value, 2) for name, value in peers.items()}


@contextmanager
def replicas(home: Path, number: int) -> Iterator[str]:
    """Start the service with so many replicas whose policies wait 20 ms, and yield its URL."""
    fixed = {"min_replicas": number, "max_replicas": number, "target_ongoing_requests": 100}
    with watched(home, fixed, waiting=True, max_ongoing_requests=1_000) as service:
        while service.replicas < number:
            sleep(0.2)
        yield service.url


def ask(asked: Sequence[Any], number: int) -> tuple[str, Any]:
    """Return path and body of a request."""
    return RECOMMEND, asked[number % len(asked)]


def closed(url: str, asked: Sequence[Any], clients: int, seconds: float) -> list[float]:
    """Let clients ask again as soon as they are answered; returns the seconds that each answer took."""
    found: list[float] = []

    async def run() -> None:
        async with aiohttp.ClientSession(url) as session:
            end = perf_counter() + seconds

            async def client(number: int) -> None:
                while (asks := perf_counter()) < end:
                    async with session.post(RECOMMEND, json=asked[number % len(asked)]) as response:
                        await response.read()
                        assert response.status == 200
                    found.append(perf_counter() - asks)
                    number += clients

            await asyncio.gather(*map(client, range(clients)))

    asyncio.run(run())
    return found


def seconds_of(answers: Sequence[Answer]) -> FloatArray:
    """Return the times to the answers."""
    return np.array([answer.answered - answer.due for answer in answers])


def quantile_ms(times_s: FloatArray, q: float) -> float:
    """Return a quantile in milliseconds of times in seconds."""
    return float(np.quantile(times_s, q)) * 1e3
