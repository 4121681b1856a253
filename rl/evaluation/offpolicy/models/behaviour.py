"""Logs without propensities: a model of how decisions were made stands in for them.

Its distributions are cross-fitted, as reward models are. What is estimated by them is worth less than by logged
propensities, and says so (`Estimate.weaker`): it holds only if all that decided is among the features, which no log can
show. What a log can show is whether the model is calibrated: `support.reason_to_abstain` asks it. Doubly robust
estimates are the ones to take: the model's errors reach them only where the reward model errs too. IPS is not: of 200
simulated logs of 1,000 decisions its intervals of .95 held the truth in .80, those of DR and SNDR in .95.

    behaviour = cross_fit(logit(features, chosen, actions), len(chosen), rng)
    log = BanditLog.of_fitted(chosen, rewards, behaviour, target)
"""

from typing import Final

import numpy as np
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit

from rl.evaluation.calibration import Reliability, measure_reliability
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.models.rewards import Fit
from rl.policy.arrays import BoolArray, FloatArray, IntArray

_OFF: Final = 0.2
"""Share of a bin's predicted probability by which the observed one may differ: so much are its weights off."""
_CHANCE: Final = 1e-4
"""Probability, by the model, of a bin that is so far off: more is chance, of some bins of some logs."""
_BINS: Final = 20
_START: Final = -3.0  # log odds of the share at random from which the fit begins: .05


def logit(
    features: FloatArray,
    chosen: IntArray,
    actions: int,
    candidates: BoolArray | None = None,
    penalty: float = 1.0,
) -> Fit:
    """Return what fits a multinomial logistic regression of which action is chosen, mixed with choosing at random.

    The share of decisions that are made at random is fitted with the rest: policies that explore often have one, and
    without it what they do seldom would be held for almost impossible.

    Args:
        features: [n, d] of the decisions: all that what was chosen may have depended on.
        chosen: [n] positions of the actions that were taken.
        actions: A.
        candidates: [n, A] which actions each decision had; default: all.
        penalty: on the squares of the coefficients, and a thousandth of it on those of the intercepts.

    Raises:
        EvaluationError: what was chosen is no action, or was no candidate.
    """
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < actions:
        raise EvaluationError(f"chosen must be in [0, {actions}), got {chosen.min()} to {chosen.max()}")
    padded = np.column_stack([np.ones(len(features)), features])
    penalties = np.array([[penalty / 1_000], *[[penalty]] * features.shape[1]])
    offered = np.ones((len(features), actions), dtype=np.bool_) if candidates is None else candidates
    if not (known := offered[np.arange(len(chosen)), chosen]).all():
        raise EvaluationError(f"what is chosen must be a candidate; it is none at [{int(known.argmin())}]")
    at_random = offered / offered.sum(axis=1, keepdims=True)
    taken = np.eye(actions)

    def prefer(coefficients: FloatArray, rows: IntArray) -> FloatArray:
        scores = np.where(offered[rows], padded[rows] @ coefficients, -np.inf)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        preferred: FloatArray = powers / powers.sum(axis=1, keepdims=True)
        return preferred

    def fit(train: IntArray, rows: IntArray) -> FloatArray:
        at, of_train = np.arange(len(train)), chosen[train]
        random = at_random[train, of_train]

        def loss(flat: FloatArray) -> tuple[float, FloatArray]:
            coefficients, share = flat[:-1].reshape(-1, actions), expit(flat[-1])
            preferred = prefer(coefficients, train)
            own = preferred[at, of_train]
            p = share * random + (1 - share) * own
            of_scores = ((1 - share) * own / p)[:, None] * (preferred - taken[of_train])
            gradient = padded[train].T @ of_scores + penalties * coefficients
            of_share = share * (1 - share) * ((own - random) / p).sum()
            value = 0.5 * float((penalties * coefficients**2).sum()) - float(np.log(p).sum())
            return value, np.append(gradient, of_share)

        start = np.zeros(padded.shape[1] * actions + 1)
        start[-1] = _START
        solved = minimize(loss, start, jac=True, method="L-BFGS-B").x
        share = expit(solved[-1])
        found: FloatArray = share * at_random[rows] + (1 - share) * prefer(solved[:-1].reshape(-1, actions), rows)
        return found

    return fit


def measure_calibration(behaviour: FloatArray, chosen: IntArray) -> Reliability:
    """Return how often actions were taken, by the probability [n, A] that a model gives them without the decision.

    Args:
        behaviour: [n, A] cross-fitted distributions.
        chosen: [n] positions of the actions that were taken.
    """
    possible = behaviour > 0
    taken = np.zeros(behaviour.shape)
    taken[np.arange(len(chosen)), chosen] = 1.0
    return measure_reliability(behaviour[possible], taken[possible], _BINS)


def reason_to_distrust(behaviour: FloatArray, chosen: IntArray) -> str | None:
    """Return why fitted distributions are not to be used as propensities; None: they are calibrated.

    They are not if actions of some predicted probability are taken more or less often, by a share that matters to
    weights, and by more than chance: of many decisions any model is off significantly, of few by a large share.

    Args:
        behaviour: [n, A] cross-fitted distributions.
        chosen: [n] positions of the actions that were taken.
    """
    table = measure_calibration(behaviour, chosen)
    shares = np.abs(table.observed / table.predicted - 1)
    taken, counts = np.rint(table.observed * table.counts), table.counts
    chances = np.minimum(
        stats.binom.cdf(taken, counts, table.predicted), stats.binom.sf(taken - 1, counts, table.predicted)
    )
    off = (shares > _OFF) & (chances < _CHANCE)
    if not off.any():
        return None
    worst = int(np.argmax(off * shares))
    return (
        f"the fitted behaviour model is not calibrated: of {table.counts[worst]:,} cases to which it gives a "
        f"probability of {table.predicted[worst]:.3f} in the mean, {table.observed[worst]:.3f} came true"
    )
