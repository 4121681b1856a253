"""What watching costs: CPU seconds a request, over those of the service without: `python -m tests.bench.metrics_cost`.

[--seconds S] [--turns N] [--only FIGURE]. One replica behind HAProxy, a slate of 10 among 50 candidates, the linear
policy of `tests.bench.serving`; every tenth request is a report. For each figure a service with and one without are up
at the same time and are sent the same requests in turns, at a constant rate, the one to begin alternating. CPU seconds
are those of all processes of a service, Ray's and HAProxy's among them. A figure is the median of the ratios within
each turn. `tracing_off_cpu_ratio` is measured in one process, in bursts: see `tests.bench.service.untraced`.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from tests.bench.common import finish, plot, say
from tests.bench.service import shop, untraced
from tests.bench.service.processes import Service, running
from tests.bench.service.steady import steady

POLICY = "lin_ucb"
RATE = 200.0
"""Requests a second."""
REPORTS = 10
"""Of so many requests one is a report."""

Asked: TypeAlias = tuple[str, list[str]]


@dataclass(frozen=True)
class Variant:
    """What is in one service and not in the other: settings of the configuration, and variables."""

    config: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


WITHOUT = Variant({"metrics": False})
VARIANTS = {"metrics_cpu_ratio": Variant({"metrics": True})}
"""By figure: what is compared with `WITHOUT`."""
TRACING_OFF = "tracing_off_cpu_ratio"


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.metrics_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each service in each turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=[*VARIANTS, TRACING_OFF])
    parser.add_argument("--requests", type=int, default=2_000, help=f"of each way in each turn, for {TRACING_OFF}")
    options = parser.parse_args()
    figures, peers, curves = dict[str, float](), dict[str, float](), {}
    for figure in [options.only] if options.only else [*VARIANTS, TRACING_OFF]:
        if figure == TRACING_OFF:
            used = untraced.compare(options.turns, options.requests)
            peers["tracing_all_cpu_ratio"] = round(median(one["all"] / one["without"] for one in used), 4)
        else:
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
        up, asked = dict[str, Service](), list[Asked]()
        for name, one in (("with", variant), ("without", WITHOUT)):
            home = Path(temporary) / name
            users, items = shop.prepare(home, POLICY)
            asked = shop.asks(users, items, number=2_000)
            command = shop.ours(home, {"policies": {POLICY: 1}, **one.config}, 1, False)
            up[name] = stack.enter_context(running(command, "/healthz", one.environment))
        for at in range(-1, turns):  # the first does not count
            names = ["with", "without"] if at % 2 else ["without", "with"]
            used = {name: spend(up[name], asked, f"turn{at}", seconds) for name in names}
            say(f"{used['with'] / used['without']:.3f} {used}")
            found += [used] if at >= 0 else []
    return found


def spend(service: Service, asked: Sequence[Asked], turn: str, seconds: float) -> float:
    """Load a service at a constant rate, and return the CPU seconds of a request."""

    def request(number: int) -> tuple[str, Any]:
        if number % REPORTS == REPORTS - 1:
            about = f"{turn}-{number - REPORTS + 1}"
            return "/v1/feedback", {"feedback_id": f"{turn}-{number}", "decision_id": about, "kind": "click"}
        user, candidates = asked[number % len(asked)]
        named = {"decision_id": f"{turn}-{number}", "user_id": user}
        return "/v1/recommend", {**named, "candidates": candidates, "k": shop.K}

    before, number = service.cpu_s(), int(RATE * seconds)
    answers = asyncio.run(steady(service.url, request, range(number), RATE))
    used = service.cpu_s() - before
    if failed := [answer for answer in answers if answer.status != 200]:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0].status} {failed[0].text}")
    return used / number


if __name__ == "__main__":
    main()
