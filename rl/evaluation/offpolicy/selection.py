"""Which estimator to believe on a log: cross-validation between them.

A part of the log is given to each estimator, the rest to one that is unbiased, the validator. The estimator that
assumes least is believed, unless another comes nearer to the validator, in the mean over many divisions, by more than
twice the standard error of that mean. The parts are such that both sides have the same variance. The validator is DR
where the reward model predicts what it has not seen, and IPS where it does not. Thresholds of weights are not selected
so: closed forms do better.

Source: Cief, Kompan and Kveton (2024), Cross-validated off-policy evaluation, arXiv 2405.15332.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from rl.evaluation.offpolicy.estimators import ESTIMATORS, Estimate
from rl.evaluation.offpolicy.log import Predictions

CANDIDATES: Final = ("snips", "sndr", "dros", "switch_dr", "dr", "ips", "dm")
"""The one that assumes least first: SNIPS needs neither a model nor rewards that are anything in the mean."""
_FEW: Final = 50
"""Decisions below which nothing is selected: SNIPS needs no model, and its value is among the rewards."""
_PREDICTS: Final = 0.1
"""Share of the rewards' variance from which on a model is one that predicts."""
_DIVISIONS: Final = 30
_ERRORS: Final = 2.0
"""Standard errors by which another estimator must come nearer."""


def choose_validator(model: Predictions) -> str:
    """Return "dr" where cross-fitted predictions explain the rewards, else "ips"."""
    return "dr" if model.explained > _PREDICTS else "ips"


def select(
    model: Predictions,
    rng: np.random.Generator,
    candidates: Sequence[str] = CANDIDATES,
    validator: str | None = None,
) -> Estimate:
    """Return the estimate to believe.

    Args:
        model: a log with cross-fitted predictions.
        rng: divides the log.
        candidates: names of ESTIMATORS, the one to prefer first.
        validator: "ips" or "dr"; default: `choose_validator`.
    """
    estimates = {name: ESTIMATORS[name](model) for name in candidates}
    if len(model.log) < _FEW:
        return estimates["snips"] if "snips" in estimates else next(iter(estimates.values()))
    losses = validation_losses(model, estimates, validator or choose_validator(model), rng)
    mean, error = min(losses.values())
    return next(estimates[name] for name in candidates if losses[name][0] <= mean + _ERRORS * error)


def validation_losses(
    model: Predictions, estimates: Mapping[str, Estimate], validator: str, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return, by estimator, the mean squared distance to the validator and the standard error of that mean."""
    n, held = len(model.log), ESTIMATORS[validator](model).standard_error ** 2
    losses = {}
    for name, estimate in estimates.items():
        own = estimate.standard_error**2
        if not np.isfinite(own):  # it has no value: the log never does what the target would
            losses[name] = (np.inf, 0.0)
            continue
        share = own / (own + held) if own + held else 0.5
        size = min(max(int(share * n), 1), n - 1)
        distances = np.empty(_DIVISIONS)
        for division in range(_DIVISIONS):
            rows = rng.permutation(n)
            one, other = model.take(rows[:size]), model.take(rows[size:])
            distances[division] = ESTIMATORS[name](one).value - ESTIMATORS[validator](other).value
        squares = distances**2
        loss, error = float(squares.mean()), float(squares.std(ddof=1) / np.sqrt(_DIVISIONS))
        losses[name] = (loss, error) if np.isfinite(loss) else (np.inf, 0.0)
    return losses
