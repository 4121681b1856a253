"""What many requests a second would need: `python -m tests.bench.capacity [--only PART]`.

`decision_us` and `feedback_us` are the CPU microseconds of the whole service for one of them, at 200 a second with one
replica, a linear policy and slates of 10 among 50, over what it takes idle; the peers have them by process: the
replica, the process that writes, HAProxy, the learner, and what is Ray's own. `trained_step_us` is the CPU of a
training by `shop.toml` for an environment step, playing and updates included. What other benches measure is taken from
their kept results: bytes (`growth`), rows a second (`store`), decisions a second of the learner (`waiting`). From all
of them `tests.bench.table` writes the tables of serve/CAPACITY.md.

`prediction_error` is that of the queueing simulation, see `tests.bench.planning.prediction`.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import psutil

from tests.bench.common import finish, say
from tests.bench.planning.prediction import Figures, compare
from tests.bench.service import shop
from tests.bench.service.processes import Service, running
from tests.bench.service.steady import steady

POLICY = "lin_ucb"
RATE, SECONDS, IDLE_S = 200.0, 15.0, 10.0
ROLES = {
    "replica": "ServeReplica:raycommend:Gateway",
    "writer": "data.log.writer.process",
    "ingress": "haproxy.cfg",
    "learner": "ServeReplica:raycommend:Learner",
}
OTHERS = "ray"
RECOMMEND, FEEDBACK = "/v1/recommend", "/v1/feedback"


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="leave other parts out, and keep no result")
    options = parser.parse_args()
    figures, peers = dict[str, float](), dict[str, float]()
    for name in options.only or PARTS:
        found, beside = PARTS[name]()
        say(f"{name}: {found} {beside}")
        figures |= found
        peers |= beside
    if not options.only:
        finish("capacity", figures, peers, seeds=1)


def measure_requests() -> Figures:
    """Return the CPU of decisions and reports, whole and by process."""
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        market = shop.save_linear(Path(folder), POLICY)
        asked = shop.asks(market.users, market.items, number=2_000)

        def decision(number: int) -> tuple[str, Any]:
            user, items = asked[number % len(asked)]
            ask = {"decision_id": f"bench-{number}", "user_id": user, "candidates": items, "k": shop.K}
            return RECOMMEND, ask

        def report(number: int) -> tuple[str, Any]:
            return FEEDBACK, {"decision_id": f"bench-{number}", "kind": "click"}

        warm, n = int(5 * RATE), int(SECONDS * RATE)
        with running(shop.ours(Path(folder), {"policies": {POLICY: 1}}, 1), "/healthz") as service:
            for request in (decision, report):
                asyncio.run(steady(service.url, request, range(warm), RATE))
            sleep(2)
            with used(service) as idle:
                sleep(IDLE_S)
            by_kind = {}
            for name, request in (("decision", decision), ("feedback", report)):
                with used(service) as busy:
                    answers = asyncio.run(steady(service.url, request, range(warm, warm + n), RATE))
                    sleep(1)  # the learner is behind by a moment
                assert all(answer.status == 200 for answer in answers), answers[:3]
                by_kind[name] = {
                    role: (busy.cpu_s[role] - idle.cpu_s[role] * busy.seconds / idle.seconds) / n * 1e6
                    for role in (*ROLES, OTHERS)
                }
                say(f"{name}: {by_kind[name]}")
    decisions, reports = by_kind["decision"], by_kind["feedback"]
    figures = {f"{name}_us": sum(parts.values()) for name, parts in by_kind.items()}
    peers = {f"{name}_{role}_us": part for name, parts in by_kind.items() for role, part in parts.items()}
    peers |= {
        "replica_us": decisions["replica"],
        "replica_feedback_us": reports["replica"],
        "ingress_us": (decisions["ingress"] + reports["ingress"]) / 2,
        "writer_us": (decisions["writer"] + reports["writer"]) / 2,
        "idle_cores": sum(idle.cpu_s.values()) / idle.seconds,
    }
    return {name: round(us, 1) for name, us in figures.items()}, {name: round(us, 3) for name, us in peers.items()}


@dataclass
class Used:
    """CPU seconds by role, and for how long."""

    cpu_s: Mapping[str, float]
    seconds: float = 0.0


@contextmanager
def used(service: Service) -> Iterator[Used]:
    """Say what a service has used, at the end."""
    before, began = cpu_by_role(service), perf_counter()
    found = Used({})
    yield found
    after = cpu_by_role(service)
    found.cpu_s, found.seconds = {role: after[role] - before[role] for role in after}, perf_counter() - began


def cpu_by_role(service: Service) -> dict[str, float]:
    """Return the CPU seconds of a service's processes so far."""
    found = dict.fromkeys((*ROLES, OTHERS), 0.0)
    for process in service.process.children(recursive=True):
        try:
            title, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        role = next((role for role, words in ROLES.items() if words in title), OTHERS)
        found[role] += times.user + times.system
    return found


def measure_training() -> Figures:
    """Return the CPU of an environment step of `shop.toml`, updates included."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return {"trained_step_us": round(pool.submit(train, 15.0).result() * 1e6, 1)}, {}


def train(seconds: float) -> float:
    """Train by `shop.toml` in this process; returns its CPU seconds of an environment step."""
    import torch
    from threadpoolctl import threadpool_limits

    from rl.config import parse_config
    from rl.training.kinds.dqn import DQNExperiment
    from rl.training.run.session import ray_session

    torch.set_num_threads(1)
    with threadpool_limits(1), ray_session(1):
        algorithm = parse_config(DQNExperiment, ["rl/experiments/shop.toml"]).algorithm().build_algo()
        while algorithm.env_steps < 5_000:
            algorithm.train()
        steps, began = algorithm.env_steps, process_time()
        while process_time() - began < seconds:
            algorithm.train()
        found = (process_time() - began) / (algorithm.env_steps - steps)
        algorithm.stop()
    return float(found)


PARTS: dict[str, Callable[[], Figures]] = {
    "requests": measure_requests,
    "training": measure_training,
    "queue": compare,
}


if __name__ == "__main__":
    main()
