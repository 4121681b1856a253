"""Handwritten digits as a bandit: `python -m tests.bench.ope_digits [--runs N]`.

The table of the Open Bandit Pipeline: seven tenths are evaluated on; a logistic regression softened to .4 logs, a
random forest softened to .9 is the target; the reward, 1 for the right class, is modelled by boosted trees,
cross-fitted in three folds. Each figure is an estimator's mean relative error over the runs.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.models.rewards import Fit, cross_fit
from rl.evaluation.offpolicy.selection import select
from rl.policy.arrays import FloatArray, IntArray
from tests.bench.common import finish, say
from tests.support.offpolicy import log_classes

LOGGER_ALPHA, TARGET_ALPHA = 0.4, 0.9
PUBLISHED = {
    "ips": 0.0303,
    "snips": 0.0228,
    "dm": 0.4365,
    "dr": 0.0162,
    "sndr": 0.0221,
    "switch_dr": 0.0347,
    "dros": 0.0159,
}


def soften(classes: IntArray, alpha: float, actions: int) -> FloatArray:
    """Return distributions [n, A]: the class with probability alpha, else any."""
    softened = np.full((len(classes), actions), (1 - alpha) / actions)
    softened[np.arange(len(classes)), classes] += alpha
    return softened


def boosted(features: FloatArray, log: BanditLog, seed: int) -> Fit:
    """Return what fits boosted trees on features and actions."""
    actions = log.target.shape[1]

    def inputs(rows: IntArray, chosen: IntArray) -> FloatArray:
        return np.column_stack([features[rows], np.eye(actions)[chosen]])

    def fit(train: IntArray, rows: IntArray) -> FloatArray:
        model = HistGradientBoostingClassifier(max_iter=100, random_state=seed)
        model.fit(inputs(train, log.chosen[train]), log.rewards[train])
        predictions = [model.predict_proba(inputs(rows, np.full(len(rows), action)))[:, 1] for action in range(actions)]
        return np.column_stack(predictions)

    return fit


def run(seed: int) -> dict[str, float]:
    """Return the relative error of each estimator in one run."""
    rng = np.random.default_rng(seed)
    features, classes = load_digits(return_X_y=True)
    train, test, train_classes, test_classes = train_test_split(features, classes, test_size=0.7, random_state=seed)
    logger = LogisticRegression(max_iter=10_000).fit(train / 16, train_classes)
    target = RandomForestClassifier(random_state=seed).fit(train, train_classes)
    log, truth = log_classes(
        test_classes,
        soften(logger.predict(test / 16), LOGGER_ALPHA, 10),
        soften(target.predict(test), TARGET_ALPHA, 10),
        rng,
    )
    model = Predictions(log, cross_fit(boosted(test, log, seed), len(log), rng))
    errors = {name: abs(estimate(model).value - truth) / truth for name, estimate in ESTIMATORS.items()}
    chosen = select(model)
    errors["recommended"] = abs(chosen.value - truth) / truth
    say(
        f"run {seed}: truth {truth:.3f}, recommended {chosen.name}, " + str({k: round(v, 4) for k, v in errors.items()})
    )
    return errors


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_digits", description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = [run(seed) for seed in range(parser.parse_args().runs)]
    figures = {name: round(float(np.mean([errors[name] for errors in runs])), 4) for name in runs[0]}
    finish("ope_digits", figures, {f"published_{name}": error for name, error in PUBLISHED.items()}, len(runs))


if __name__ == "__main__":
    main()
