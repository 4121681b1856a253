"""Which estimator to believe, chosen by the log: `python -m tests.bench.ope_selection [--runs N] [--tables NAME ...]`.

Five tables of classes. On bootstrap samples of one half of the rows two logistic regressions are fitted; the softmax of
the first one's probabilities logs, that of ten times the second one's is the target. The other half is logged with
reward 1 for the right class, and a ridge model of it is cross-fitted. A table's figure is the mean squared error of the
estimator that `select` believes; `ratio_best_fixed` is the mean of them over that of the best single estimator.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.log import Predictions
from rl.evaluation.offpolicy.models.rewards import cross_fit, ridge
from rl.evaluation.offpolicy.selection import CANDIDATES, select
from rl.policy.arrays import FloatArray, IntArray
from tests.bench.classification import table
from tests.bench.common import finish, say
from tests.support.offpolicy import log_classes, softmax

TABLES = ("letter", "optdigits", "penbased", "satimage", "vehicle")
PUBLISHED = {"letter": 0.00054, "optdigits": 0.00043, "penbased": 0.00008, "satimage": 0.00016, "vehicle": 0.00075}
"""Cross-validated with DR as validator, between IPS, DM and DR; from the result files of arXiv 2405.15332."""
POLICIES = 5
"""Pairs of policies; the logs of a pair differ by what is drawn."""


def classifier(features: FloatArray, classes: IntArray, rng: np.random.Generator) -> LogisticRegression:
    """Return a logistic regression of a bootstrap sample, which knows all classes."""
    rows = rng.integers(len(classes), size=len(classes))
    rows = np.concatenate([rows, np.unique(classes, return_index=True)[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(max_iter=300).fit(features[rows], classes[rows])


def errors(name: str, runs: int) -> dict[str, list[float]]:
    """Return the squared errors of all estimators, and of the one that is believed, on a table."""
    data = pd.read_parquet(table(name))
    classes = np.unique(data["class"], return_inverse=True)[1]
    features = data.drop(columns="class").to_numpy(dtype=float)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    found: dict[str, list[float]] = {estimator: [] for estimator in (*CANDIDATES, "selected")}
    for pair in range(POLICIES):
        rng = np.random.default_rng(pair)
        half = rng.permutation(len(classes))
        train, test = half[: len(half) // 2], half[len(half) // 2 :]
        logger, target = (classifier(features[train], classes[train], rng) for _ in range(2))
        behaviour = softmax(logger.predict_proba(features[test]))
        wanted = softmax(10 * target.predict_proba(features[test]))
        for _ in range(runs // POLICIES):
            log, truth = log_classes(classes[test], behaviour, wanted, rng)
            model = Predictions(log, cross_fit(ridge(features[test], log, 1e-3), len(log), rng))
            for estimator in CANDIDATES:
                found[estimator].append((ESTIMATORS[estimator](model).value - truth) ** 2)
            found["selected"].append((select(model).value - truth) ** 2)
    return found


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_selection", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="logs of each table")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    options = parser.parse_args()
    threadpool_limits(1)
    means: dict[str, dict[str, float]] = {}
    for name in options.tables:
        means[name] = {estimator: float(np.mean(squares)) for estimator, squares in errors(name, options.runs).items()}
        say(f"{name}: " + ", ".join(f"{estimator} {mean:.6f}" for estimator, mean in means[name].items()))
    over_all = {
        estimator: float(np.mean([of[estimator] for of in means.values()])) for estimator in (*CANDIDATES, "selected")
    }
    best = min(CANDIDATES, key=lambda estimator: over_all[estimator])
    figures = {name: round(of["selected"], 6) for name, of in means.items()}
    figures["ratio_best_fixed"] = round(over_all["selected"] / over_all[best], 3)
    peers = {f"published_{name}": error for name, error in PUBLISHED.items()}
    peers |= {f"{name}_{estimator}": round(of[estimator], 6) for name, of in means.items() for estimator in CANDIDATES}
    finish("ope_selection", figures, peers, options.runs)


if __name__ == "__main__":
    main()
