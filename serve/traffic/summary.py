"""What came of the traffic: numbers as JSON, and a picture of the reward."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rl.policy.arrays import FloatArray
from serve.traffic.client import Client
from serve.traffic.driver import Done, Traffic

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_POINTS = 20  # of the reward over time


def summarise(traffic: Traffic, client: Client, ceilings: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """Return the numbers, as JSON takes them.

    Args:
        traffic: what was sent.
        client: who sent it.
        ceilings: what is known of the best that a visit can earn.
        seconds: how long it took.
    """
    visits = sorted(traffic.visits, key=lambda done: done.number)
    rewards = [done.response.reward for done in visits]
    size = max(1, -(-len(visits) // _POINTS))
    return {
        "visits": len(visits),
        "seconds": round(seconds, 3),
        "requests": dict(client.requests),
        "failures": dict(traffic.failures),
        "refusals": dict(client.refusals),
        "examples": traffic.examples,
        "reports": dict(sorted(traffic.reports.items())),
        "reward": round(float(np.mean(rewards)), 6) if rewards else None,
        "reward_over_time": [
            {"visit": visits[at].number, "reward": round(float(np.mean(rewards[at : at + size])), 6)}
            for at in range(0, len(visits), size)
        ],
        "share_of_best": round(share, 6) if (share := share_of_best(visits)) is not None else None,
        "ceilings": {name: round(value, 6) for name, value in ceilings.items()},
        "policies": {name: sum(done.policy == name for done in visits) for name in sorted({d.policy for d in visits})},
        "latency_ms": {path: _quantiles_ms(taken) for path, taken in client.latencies.items()},
    }


def share_of_best(visits: Sequence[Done]) -> float | None:
    """Return what slates were expected to earn over what the best could; None where the simulator does not know."""
    known = [(done.response.expected, done.response.best) for done in visits if done.response.best is not None]
    if not known:
        return None
    expected, best = np.array(known, dtype=np.float64).sum(axis=0)
    return float(expected / best) if best else None


def draw_rewards(
    curves: Mapping[str, Sequence[float]], ceilings: Mapping[str, float], path: Path, window: int, title: str
) -> None:
    """Save a picture: the mean reward of the last visits at each, one curve a name, beside what can be earned."""
    figure = Figure(figsize=(10, 5), layout="constrained")  # without pyplot: there may be no screen
    axes = figure.subplots()
    for name, rewards in curves.items():
        mean = moving_mean(np.asarray(rewards, dtype=np.float64), window)
        axes.plot(np.arange(1, len(mean) + 1), mean, label=name)
    for style, (name, value) in zip(("--", ":", "-.") * len(ceilings), ceilings.items(), strict=False):
        axes.axhline(value, color="black", linestyle=style, linewidth=1, label=name.replace("_", " "))
    axes.set_xlabel("visits")
    axes.set_ylabel(f"mean reward of a visit (last {window})")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def moving_mean(values: FloatArray, window: int) -> FloatArray:
    """Return the mean of the last `window` values at each, [n]; of all there are at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: FloatArray = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _quantiles_ms(taken: Sequence[float]) -> dict[str, float]:
    return {name: round(1e3 * float(np.quantile(taken, q)), 2) for name, q in _QUANTILES.items()}
