"""What the demo shows: a table, a picture, and its numbers as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from rich.table import Table

from rl.policy import FloatArray
from serve.traffic import Traffic, Visit

mpl.use("Agg")  # draws into files; there may be no screen
from matplotlib import pyplot as plt

_SMOOTH = 400  # visits that a point of the curve is the mean of
_FIRST = 50  # visits before the first point: fewer say nothing


def summarise(traffic: Traffic, policies: Sequence[str], window: int, lost: int) -> dict[str, Any]:
    """Return the numbers: mean reward of each policy by windows of its own decisions, the oracle's, and latencies.

    Args:
        traffic: what the customers did.
        policies: in the order of the table.
        window: decisions of a policy that make one row.
        lost: acknowledged decisions and reports that the log does not have.
    """
    by_policy = {name: [visit for visit in traffic.visits if visit.policy == name] for name in policies}
    freshness = np.quantile(traffic.freshness_s, [0.5, 0.95]) if traffic.freshness_s else [float("nan")] * 2
    return {
        "window": window,
        "mean_reward": {name: _windows([v.reward for v in visits], window) for name, visits in by_policy.items()},
        "expected_reward": {name: _windows([v.expected for v in visits], window) for name, visits in by_policy.items()},
        "oracle": float(np.mean([visit.oracle for visit in traffic.visits])),
        "decisions": traffic.decisions_acknowledged,
        "feedback": traffic.feedback_acknowledged,
        "retries": traffic.retries,
        "events_lost": lost,
        "feedback_to_served_s": {"p50": float(freshness[0]), "p95": float(freshness[1]), "n": len(traffic.freshness_s)},
    }


def table(summary: dict[str, Any]) -> Table:
    """Lay the mean rewards out: a row a window, a column a policy, the oracle last."""
    rewards = summary["mean_reward"]
    shown = Table(title=f"mean reward of a decision, by {summary['window']:,} decisions of each policy")
    shown.add_column("decisions", justify="right")
    for name in rewards:
        shown.add_column(name, justify="right")
    shown.add_column("oracle", justify="right")
    for row in range(max(len(means) for means in rewards.values())):
        cells = [f"{means[row]:.2f}" if row < len(means) else "" for means in rewards.values()]
        first = row * summary["window"]
        shown.add_row(f"{first:,}-{first + summary['window']:,}", *cells, f"{summary['oracle']:.2f}")
    return shown


def draw(traffic: Traffic, summary: dict[str, Any], folder: Path) -> Path:
    """Save the learning curves as `rewards.png` and the numbers as `rewards.json`; return the picture's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rewards.json").write_text(json.dumps(summary, indent=1))
    figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    for name in summary["mean_reward"]:
        curve = _smooth([visit for visit in traffic.visits if visit.policy == name])
        axes.plot(np.arange(len(curve))[_FIRST:] + 1, curve[_FIRST:], label=name.replace("_", " "))
    axes.axhline(summary["oracle"], color="black", linestyle="--", linewidth=1, label="oracle")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("decisions of each policy")
    axes.set_ylabel(f"expected reward of a slate (mean of {_SMOOTH})")
    axes.set_title("A shop's customers, served and learned from over HTTP")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    path = folder / "rewards.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _windows(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of every full window, and of what is left if that is at least half of one."""
    starts = range(0, len(values), window)
    return [float(np.mean(values[at : at + window])) for at in starts if len(values) - at >= window / 2]


def _smooth(visits: Sequence[Visit]) -> FloatArray:
    """Return the running mean of the last visits' expected rewards, [n]."""
    total = np.cumsum([visit.expected for visit in visits])
    lengths = np.minimum(np.arange(1, len(total) + 1), _SMOOTH)
    before = np.concatenate([np.zeros(min(_SMOOTH, len(total))), total[:-_SMOOTH]])
    means: FloatArray = (total - before) / lengths
    return means
