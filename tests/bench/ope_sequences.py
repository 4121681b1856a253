"""What a policy earns over several decisions: `python -m tests.bench.ope_sequences [--logs N] [--episodes N]`.

A chain that pays at its end and a shop whose customers change their mood, both with exact values by dynamic
programming; logs of another policy. `error_best` is the mean relative error of the best estimator, the worse process;
`coverage` the share of logs on which the interval of the doubly robust one with weights of states holds the truth, and
`abstained` that on which it says nothing.
"""

import argparse

import numpy as np

from rl.evaluation.offpolicy.episodes import cross_fit_q, cross_fit_weights, doubly_robust, per_decision_is, weighted_is
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.support import largest_share
from tests.bench.common import finish, say
from tests.support.decision_processes import as_log, chain, shop


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_sequences", description=__doc__)
    parser.add_argument("--logs", type=int, default=200, help="of each process")
    parser.add_argument("--episodes", type=int, default=1_000, help="of a log")
    options = parser.parse_args()
    best, held, answered, peers = [], 0, 0, dict[str, float]()
    for make in (chain, shop):
        process, behaviour, target = make()
        truth, errors = process.value(target), dict[str, list[float]]()
        for seed in range(options.logs):
            rng = np.random.default_rng(seed)
            log, taken, expected = as_log(process, behaviour, target, options.episodes, rng)
            model = cross_fit_q(log, taken, expected, rng)
            marginal = cross_fit_weights(log, expected, rng)
            estimates = [
                per_decision_is(log),
                weighted_is(log),
                doubly_robust(log, *model),
                doubly_robust(log, *model, weighted=True),
                doubly_robust(log, *model, marginal=marginal),
            ]
            for estimate in estimates:
                errors.setdefault(estimate.name, []).append(abs(estimate.value - truth) / truth)
            if largest_share(estimates[-1].terms) <= 0.25:
                answered += 1
                held += hall(estimates[-1].terms).holds(truth)
        means = {name: float(np.mean(of)) for name, of in errors.items()}
        say(f"{make.__name__}: truth {truth:.3f}, {means}")
        best.append(min(means.values()))
        peers |= {f"{make.__name__}_{name}": round(mean, 4) for name, mean in means.items()}
    figures = {
        "error_best": round(max(best), 4),
        "coverage": round(held / answered, 4),
        "abstained": round(1 - answered / (2 * options.logs), 4),
    }
    finish("ope_sequences", figures, peers, options.logs)


if __name__ == "__main__":
    main()
