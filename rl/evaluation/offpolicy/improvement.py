"""Is there anything to learn in a log: can a policy of a class beat the one that made it?

A reward model of the class is fitted without a decision, the policy that is greedy in it is asked what it would have
done there, and that is evaluated on the decision, beside what was earned. So what was learned is never tried on what it
was learned from, and the interval is that of a mean of independent terms.
"""

from dataclasses import dataclass, replace

import numpy as np

from rl.evaluation.offpolicy.estimators import Estimate, dr
from rl.evaluation.offpolicy.intervals import Interval, hall
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.support import reason_to_abstain
from rl.policy.arrays import FloatArray


@dataclass(frozen=True)
class Improvement:
    """How much better than the log's policy the learned one is."""

    estimate: Estimate
    interval: Interval
    abstains: str | None
    """Why the log cannot tell; None: it can."""

    @property
    def anything(self) -> bool:
        """Whether there is something to learn, as far as the interval says."""
        return self.abstains is None and self.interval.low > 0


def measure_improvement(log: BanditLog, predicted: FloatArray, confidence: float = 0.95) -> Improvement:
    """Return the value of acting by a model beyond what the log's own policy has earned.

    Args:
        log: decisions; what its `target` gives nothing to is no candidate.
        predicted: [n, A] rewards, cross-fitted.
        confidence: of the interval.
    """
    greedy = np.where(log.target > 0, predicted, -np.inf).argmax(axis=1)
    learned = replace(log, target=np.eye(log.target.shape[1])[greedy])
    value = dr(Predictions(learned, predicted))
    terms = value.terms - log.rewards
    return Improvement(
        Estimate("improvement", terms, log.weaker), hall(terms, confidence), reason_to_abstain(learned, value)
    )
