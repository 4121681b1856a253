"""How long requests wait for a server: a simulation of queues, and what theory knows of one of them exactly."""

import math
from collections import deque
from heapq import heapreplace
from typing import Literal

import numpy as np

from rl.policy.arrays import FloatArray

Balance = Literal["one_queue", "fewest"]


def waiting_times(
    arrivals: FloatArray, services: FloatArray, servers: int, rng: np.random.Generator, balance: Balance = "one_queue"
) -> FloatArray:
    """Return how long each of N requests waits before it is served, [N], in the order of arrival (G/G/c).

    Args:
        arrivals: [N] when they come, ascending.
        services: [N] how long each takes once it is begun.
        servers: c, who serve one request at a time each, those that came first first.
        rng: draws among servers that are equally good.
        balance: one queue for all servers; or each has its own, and who comes goes to the one with the fewest requests
            and stays there, as HAProxy's `leastconn` sends them.

    Raises:
        ValueError: there is no server, or the two arrays are not of one length.
    """
    if servers < 1 or len(arrivals) != len(services):
        raise ValueError(f"needs a server and as many services as arrivals, got {servers}, {len(services)} of them")
    return (_one_queue if balance == "one_queue" else _fewest)(arrivals, services, servers, rng)


def _one_queue(arrivals: FloatArray, services: FloatArray, servers: int, _: np.random.Generator) -> FloatArray:
    """Give each request to the server that is free first. Source: Kiefer and Wolfowitz (1955)."""
    free, waits = [-math.inf] * servers, np.empty(len(arrivals))
    for number, (arrival, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        begin = max(arrival, free[0])
        heapreplace(free, begin + service)
        waits[number] = begin - arrival
    return waits


def _fewest(arrivals: FloatArray, services: FloatArray, servers: int, rng: np.random.Generator) -> FloatArray:
    ends: list[deque[float]] = [deque() for _ in range(servers)]  # of the requests that each has
    waits, ties = np.empty(len(arrivals)), rng.random(len(arrivals)).tolist()
    for number, (arrival, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        for queue in ends:
            while queue and queue[0] <= arrival:
                queue.popleft()
        fewest = min(map(len, ends))
        equal = [queue for queue in ends if len(queue) == fewest]
        chosen = equal[int(ties[number] * len(equal))]
        begin = max(arrival, chosen[-1]) if chosen else arrival
        chosen.append(begin + service)
        waits[number] = begin - arrival
    return waits


def poisson_arrivals(rate: float, n: int, rng: np.random.Generator) -> FloatArray:
    """Return when n requests come of clients that know nothing of each other, `rate` a second."""
    times: FloatArray = np.cumsum(rng.exponential(1 / rate, size=n))
    return times


def erlang_c(rate: float, service_rate: float, servers: int) -> float:
    """Return the probability that a request has to wait in M/M/c. Source: Erlang (1917), by the recursion of Erlang B.

    Raises:
        ValueError: more comes than can be served.
    """
    load = rate / service_rate
    if load >= servers:
        raise ValueError(f"{servers} servers of {service_rate:g} a second each do not serve {rate:g} a second")
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait(rate: float, service_rate: float, servers: int) -> float:
    """Return the mean waiting time in M/M/c."""
    return erlang_c(rate, service_rate, servers) / (servers * service_rate - rate)


def wait_quantile(rate: float, service_rate: float, servers: int, q: float) -> float:
    """Return a quantile of the waiting time in M/M/c; 0 if fewer than 1 - q have to wait."""
    waits = erlang_c(rate, service_rate, servers)
    return max(0.0, math.log(waits / (1 - q)) / (servers * service_rate - rate))
