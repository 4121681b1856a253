"""What watching costs: CPU seconds a request, over those of the service without: `python -m tests.bench.metrics_cost`.

[--seconds S] [--turns N] [--only FIGURE]. One replica behind HAProxy, a slate of 10 among 50 candidates, the linear
policy of `tests.bench.serving`, 16 connections. For each figure a service with and one without are up at the same time
and are loaded in turns, the one to begin alternating; CPU seconds are those of all processes of a service, Ray's and
HAProxy's among them. A figure is the median of the ratios within each turn. Some of the requests are reports.
"""

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from tests.bench.common import finish, plot, say
from tests.bench.service import shop
from tests.bench.service.processes import Service, running
from tests.bench.service.wrk import load, need_wrk

CONNECTIONS = 16
POLICY = "lin_ucb"
REPORTS = 200
"""Reports of a turn."""


@dataclass(frozen=True)
class Variant:
    """What is in one service and not in the other: settings of the configuration, and variables."""

    config: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


WITHOUT = Variant({"metrics": False})
VARIANTS = {"metrics_cpu_ratio": Variant({"metrics": True})}
"""By figure: what is compared with `WITHOUT`."""


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.metrics_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each service in each turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=VARIANTS)
    options = parser.parse_args()
    need_wrk()
    figures, peers, curves = dict[str, float](), dict[str, float](), {}
    for figure in [options.only] if options.only else VARIANTS:
        used = compare(VARIANTS[figure], options.seconds, options.turns)
        ratios = [one["with"] / one["without"] for one in used]
        figures[figure] = round(median(ratios), 4)
        for name in ("with", "without"):
            peers[f"{figure}_{name}_us"] = round(median(one[name] for one in used) * 1e6, 1)
        curves[figure] = (list(range(1, len(ratios) + 1)), ratios)
    plot("metrics_cost", curves, "turn", "CPU seconds a request, over those without", nothing=1.0)
    finish("metrics_cost", figures, peers, seeds=options.turns)


def compare(variant: Variant, seconds: float, turns: int) -> list[dict[str, float]]:
    """Return CPU seconds a request with and without, by turn."""
    found = list[dict[str, float]]()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary, ExitStack() as stack:
        folder, up = Path(temporary), dict[str, Service]()
        for name, one in (("with", variant), ("without", WITHOUT)):
            users, items = shop.prepare(folder / name, POLICY)
            shop.write_bodies(folder / f"{name}.jsonl", shop.asks(users, items, number=2_000), "v1")
            command = shop.ours(folder / name, {"policies": {POLICY: 1}, **one.config}, 1, False)
            up[name] = stack.enter_context(running(command, "/healthz", one.environment))
            spend(folder, name, up[name], 3.0)
        for at in range(turns):
            names = ["with", "without"] if at % 2 else ["without", "with"]
            found.append({name: spend(folder, name, up[name], seconds) for name in names})
            say(f"{found[-1]['with'] / found[-1]['without']:.3f} {found[-1]}")
    return found


def spend(folder: Path, name: str, service: Service, seconds: float) -> float:
    """Load a service, and return the CPU seconds of a request."""
    before = service.cpu_s()
    done = load(f"{service.url}/v1/recommend", folder / f"{name}.jsonl", CONNECTIONS, seconds)
    report(service)
    if done.errors:
        raise RuntimeError(f"{done.errors} requests failed")
    return (service.cpu_s() - before) / (done.requests + REPORTS)


def report(service: Service) -> None:
    """Report views of a decision, each in a request of its own."""
    with httpx.Client(base_url=service.url) as client:
        decision = client.post("/v1/recommend", json={"k": 3}).json()["decision_id"]
        for number in range(REPORTS):
            told = {"feedback_id": f"{decision}-{number}", "decision_id": decision, "kind": "view"}
            client.post("/v1/feedback", json=told).raise_for_status()


if __name__ == "__main__":
    main()
