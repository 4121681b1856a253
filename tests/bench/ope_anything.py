"""Is there anything to learn in a log: `python -m tests.bench.ope_anything [--logs N]`.

Logs of 5,000 decisions, ten actions, softmax logger, a ridge model. In half of them rewards depend on context and
action, in the others on the context alone, so that no policy is better than another. `true_yes` and `false_yes` are the
shares of which something is said to be learned.
"""

import argparse

import numpy as np

from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.log import BanditLog
from rl.evaluation.offpolicy.models.rewards import cross_fit, ridge
from tests.bench.common import finish
from tests.support.offpolicy import Problem

N = 5_000


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_anything", description=__doc__)
    parser.add_argument("--logs", type=int, default=100, help="with, and as many without, signal")
    logs = parser.parse_args().logs
    yes, abstained = {True: 0, False: 0}, 0
    for signal in (True, False):
        for seed in range(logs):
            rng = np.random.default_rng([int(signal), seed])
            contexts, log, means = Problem(seed=seed).draw(N, rng)
            target = np.full_like(log.target, 1 / log.target.shape[1])
            rewards = log.rewards if signal else (rng.random(N) < means.mean(axis=1)).astype(float)
            log = BanditLog(log.chosen, rewards, log.propensities, target)
            found = measure_improvement(log, cross_fit(ridge(contexts, log), N, rng))
            yes[signal] += found.anything
            abstained += found.abstains is not None
    figures = {"false_yes": yes[False] / logs, "true_yes": yes[True] / logs}
    finish("ope_anything", figures, {"abstained": abstained / (2 * logs)}, logs)


if __name__ == "__main__":
    main()
