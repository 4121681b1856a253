"""Do the default intervals hold the truth: `python -m tests.bench.ope_coverage [--logs N]`.

Simulated logs of 1,000 and of 10,000 decisions, ten actions, softmax logger and target, rewards of 0 and 1, a ridge
model of the reward, cross-fitted. `coverage_min` and `coverage_max` are over the estimators and sizes, of the logs on
which the estimator does not abstain; `abstained` is the largest share of logs of 10,000 on which one does.
"""

import argparse

import numpy as np

from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.intervals import hall, normal
from rl.evaluation.offpolicy.log import Predictions
from rl.evaluation.offpolicy.models.rewards import cross_fit, ridge
from rl.evaluation.offpolicy.support import reason_to_abstain
from tests.bench.common import finish, say
from tests.support.offpolicy import Problem

NAMES = ("ips", "snips", "dr", "sndr", "dros")
SIZES = (1_000, 10_000)


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_coverage", description=__doc__)
    parser.add_argument("--logs", type=int, default=2_000)
    logs = parser.parse_args().logs
    problem = Problem()
    truth = problem.truth()
    held, normals, abstained = {}, {}, {}
    for n in SIZES:
        counts = {name: np.zeros(3) for name in NAMES}
        for seed in range(logs):
            rng = np.random.default_rng([n, seed])
            contexts, log, _ = problem.draw(n, rng)
            model = Predictions(log, cross_fit(ridge(contexts, log), n, rng))
            for name in NAMES:
                estimate = ESTIMATORS[name](model)
                if reason_to_abstain(log, estimate) is None:
                    counts[name] += (1, hall(estimate.terms).holds(truth), normal(estimate.terms).holds(truth))
        for name, (answered, hit, hit_normal) in counts.items():
            held[f"{name}_{n}"] = round(hit / answered, 4) if answered else 0.0
            normals[f"{name}_{n}_normal"] = round(hit_normal / answered, 4) if answered else 0.0
            abstained[f"{name}_{n}_abstained"] = round(1 - answered / logs, 4)
        say(f"n = {n}: {held} {normals} {abstained}")
    figures = {
        "coverage_min": min(held.values()),
        "coverage_max": max(held.values()),
        "abstained": max(share for name, share in abstained.items() if "_10000_" in name),
    }
    finish("ope_coverage", figures, {**held, **normals, **abstained, "truth": round(truth, 4)}, logs)


if __name__ == "__main__":
    main()
