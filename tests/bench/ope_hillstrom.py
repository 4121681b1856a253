"""An e-mail test as a log whose truth is known: `python -m tests.bench.ope_hillstrom [--splits N]`.

64,000 customers were sent one of two e-mails or none, at random, a third each; the reward is a visit. In each random
split a part becomes a log that favours arms (.6, .3, .1, by leaving rows out), another says what is true, with an error
of its own, and a third is what a targeting policy is fitted to. Estimated by SNIPS with the default interval: the three
arms, their three differences, and the policy, whose truth is what those earned who happened to be sent what it would
send. `coverage` is the share of all intervals, widened by the truth's own error, that hold the truth; `halfwidth_ratio`
is the mean of their half-widths over those of the normal interval of one or two samples.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from rl.evaluation.offpolicy.estimators import Estimate, snips
from rl.evaluation.offpolicy.intervals import hall, normal
from rl.evaluation.offpolicy.log import BanditLog
from rl.evaluation.offpolicy.models.rewards import ridge
from rl.policy.arrays import FloatArray, IntArray
from tests.bench.common import finish

SEGMENTS = ("Mens E-Mail", "Womens E-Mail", "No E-Mail")
PROPENSITIES = np.array([0.6, 0.3, 0.1])
PAIRS = ((0, 1), (0, 2), (1, 2))


def read() -> tuple[FloatArray, IntArray, FloatArray]:
    """Return features, arms and visits of the customers."""
    path = Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data")) / "hillstrom" / "hillstrom.parquet"
    data = pd.read_parquet(path)
    known = pd.get_dummies(data[["recency", "history", "mens", "womens", "newbie", "channel", "zip_code"]]).astype(
        float
    )
    features: FloatArray = ((known - known.mean()) / known.std()).to_numpy(dtype=np.float64)
    arms: IntArray = np.array([SEGMENTS.index(name) for name in data["segment"]], dtype=np.int64)
    visits: FloatArray = data["visit"].to_numpy(dtype=np.float64)
    return features, arms, visits


def favour(arms: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the numbers of rows that make a log with `PROPENSITIES`."""
    return np.flatnonzero(rng.random(len(arms)) < (PROPENSITIES / PROPENSITIES.max())[arms])


def value(arms: IntArray, rewards: FloatArray, target: FloatArray) -> Estimate:
    """Return the estimate for a target [n, 3] from a log that favours arms."""
    return snips(BanditLog(arms, rewards, PROPENSITIES[arms], target))


def error(rewards: FloatArray) -> float:
    """Return the standard error of a mean."""
    return float(rewards.std(ddof=1) / np.sqrt(len(rewards)))


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_hillstrom", description=__doc__)
    parser.add_argument("--splits", type=int, default=200)
    splits = parser.parse_args().splits
    features, arms, visits = read()
    held: dict[str, list[bool]] = {"arms": [], "differences": [], "policy": []}
    ratios = []

    def check(kind: str, terms: FloatArray, truth: float, truth_error: float, beside: float) -> None:
        interval = hall(terms)
        ratios.append(interval.half_width / beside)
        wider = np.hypot(interval.half_width, 1.96 * truth_error)
        held[kind].append(bool(abs((interval.low + interval.high) / 2 - truth) <= wider))

    for split in range(splits):
        rng = np.random.default_rng(split)
        order = rng.permutation(len(arms))
        part, other, fitted = np.split(order, [int(0.4 * len(order)), int(0.8 * len(order))])
        logged = part[favour(arms[part], rng)]
        a, r = arms[logged], visits[logged]
        of_arm = [visits[other][arms[other] == arm] for arm in range(3)]
        estimates = [value(a, r, np.tile(np.eye(3)[arm], (len(a), 1))) for arm in range(3)]
        for arm in range(3):
            check("arms", estimates[arm].terms, of_arm[arm].mean(), error(of_arm[arm]), normal(r[a == arm]).half_width)
        for one, two in PAIRS:
            difference = estimates[one].terms - estimates[two].terms
            truth = of_arm[one].mean() - of_arm[two].mean()
            beside = float(1.96 * np.hypot(error(r[a == one]), error(r[a == two])))
            check("differences", difference, truth, float(np.hypot(error(of_arm[one]), error(of_arm[two]))), beside)
        fit = ridge(features, BanditLog(arms, visits, np.full(len(arms), 1 / 3), np.full((len(arms), 3), 1 / 3)), 100.0)
        policy = fit(fitted, np.arange(len(arms))).argmax(axis=1)
        agree = visits[other][arms[other] == policy[other]]
        same = r[a == policy[logged]]
        estimate = value(a, r, np.eye(3)[policy[logged]])
        # What the policy earns among those who were sent what it would send, each weighted by how seldom that was.
        check("policy", estimate.terms, agree.mean(), error(agree), spread(same, a[a == policy[logged]]))
    figures = {
        "coverage": round(float(np.mean([hit for hits in held.values() for hit in hits])), 4),
        "halfwidth_ratio": round(float(np.mean(ratios)), 3),
    }
    finish("ope_hillstrom", figures, {kind: round(float(np.mean(hits)), 4) for kind, hits in held.items()}, splits)


def spread(rewards: FloatArray, arms: IntArray) -> float:
    """Return the half-width of the normal interval of a mean of strata, the arms, each with its share of the target."""
    weights = 1 / PROPENSITIES[arms]
    shares = np.array([weights[arms == arm].sum() for arm in range(3)]) / weights.sum()
    errors = [error(rewards[arms == arm]) if (arms == arm).sum() > 1 else 0.0 for arm in range(3)]
    return float(1.96 * np.sqrt(np.sum((shares * errors) ** 2)))


if __name__ == "__main__":
    main()
