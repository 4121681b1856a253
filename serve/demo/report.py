"""What the demo shows: a table, a picture, and its numbers as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from rl.policy.arrays import FloatArray
from serve.demo.traffic import Customers
from serve.traffic.driver import Done

_SMOOTH = 400  # visits that a point of the curve is the mean of
_FIRST = 50  # visits before the first point: fewer say nothing


def summarise(customers: Customers, policies: Sequence[str], window: int, lost: int) -> dict[str, Any]:
    """Return the numbers: mean reward of each policy by windows of its own decisions, the oracle's, and latencies.

    Args:
        customers: with what they did.
        policies: in the order of the table.
        window: decisions of a policy that make one row; the oracle's are means over all policies' visits.
        lost: acknowledged decisions and reports that the log does not have.
    """
    traffic, waits = customers.traffic, customers.freshness_s
    by_policy = {name: [done for done in traffic.visits if done.policy == name] for name in policies}
    freshness = np.quantile(waits, [0.5, 0.95]).tolist() if waits else [None, None]
    return {
        "window": window,
        "mean_reward": {
            name: _windows([done.response.reward for done in visits], window) for name, visits in by_policy.items()
        },
        "oracle": _windows([done.response.best or 0.0 for done in traffic.visits], window * len(policies)),
        "share_of_oracle": {name: _shares(visits).tolist() for name, visits in by_policy.items()},
        "decisions": len(traffic.decisions),
        "feedback": len(traffic.feedback),
        "retries": customers.retries,
        "events_lost": lost,
        "feedback_to_served_s": {"p50": freshness[0], "p95": freshness[1], "n": len(waits)},
    }


def table(summary: dict[str, Any]) -> Table:
    """Lay the mean rewards out: a row a window, a column a policy, the oracle last."""
    rewards = summary["mean_reward"]
    shown = Table(title=f"mean reward of a decision, by {summary['window']:,} decisions of each policy")
    shown.add_column("decisions", justify="right")
    for name in rewards:
        shown.add_column(name, justify="right")
    shown.add_column("oracle", justify="right")
    columns = [*rewards.values(), summary["oracle"]]
    for row in range(max(len(means) for means in columns)):
        first = row * summary["window"]
        cells = [f"{means[row]:.2f}" if row < len(means) else "" for means in columns]
        shown.add_row(f"{first:,}-{first + summary['window']:,}", *cells)
    return shown


def draw_curves(summary: dict[str, Any], folder: Path) -> Path:
    """Save the learning curves as `rewards.png` and the numbers as `rewards.json`; return the picture's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rewards.json").write_text(json.dumps(summary, indent=1))
    figure = Figure(figsize=(10, 5), layout="constrained")  # without pyplot: there may be no screen
    axes = figure.subplots()
    for name, shares in summary["share_of_oracle"].items():
        axes.plot(np.arange(_FIRST, _FIRST + len(shares)), 100 * np.array(shares), label=name.replace("_", " "))
    axes.axhline(100, color="black", linestyle="--", linewidth=1, label="oracle")
    axes.set_ylim(0, 105)
    axes.set_xlabel("decisions of each policy")
    axes.set_ylabel(f"expected reward, % of the oracle's at the same visits (last {_SMOOTH})")
    axes.set_title("A shop's customers, served and learned from over HTTP")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    path = folder / "rewards.png"
    figure.savefig(path, dpi=120)
    return path


def _windows(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of every full window, and of what is left if that is at least half of one."""
    starts = range(0, len(values), window)
    return [float(np.mean(values[at : at + window])) for at in starts if len(values) - at >= window / 2]


def _shares(visits: Sequence[Done]) -> FloatArray:
    """Return the expected reward of the last visits over the oracle's at the same visits, from the 50th visit on."""
    sums = np.cumsum([(done.response.expected, done.response.best) for done in visits], axis=0).reshape(-1, 2)
    lagged = np.concatenate([np.zeros((min(_SMOOTH, len(sums)), 2)), sums[:-_SMOOTH]])
    recent = (sums - lagged)[_FIRST - 1 :]
    shares: FloatArray = recent[:, 0] / recent[:, 1]
    return shares
