"""The streams of values that are watched for change: of what was logged, decision by decision.

- `reward`: how far the reward is from what the policy had expected, larger than before. That predictions get better is
  no change, as a policy learns.
- `earned`: whether decisions with the same context and slate earn something less often than before.
- `propensity`: whether items are shown as often as was logged. Where the whole distribution of the first slot was
  logged, the share of it below the item that was shown, with its own broken at random, is uniform. Else the weight of a
  uniform draw, one over the number of candidates and the propensity, is at most 1 on average: items shown oftener than
  was said make it larger. Choices that were not drawn are left out.
- `feature:NAME`: the values of a field of the context, as numbers if all of the reference are, else as categories.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime

import numpy as np

from data.attribution.join import Outcome
from data.fields import Scalar
from data.schema import CONTEXT_TIME, Decision
from rl.evaluation.drift.bets import bet_on_change, bet_on_small, bet_on_weights
from rl.evaluation.drift.detector import Detector
from rl.evaluation.drift.earned import EarnedDetector
from rl.evaluation.drift.ranks import CategoryRanks, NumberRanks, Ranks
from rl.evaluation.drift.report import DriftSpec, StreamReport
from rl.policy.arrays import FloatArray

REWARD, EARNED, PROPENSITY, FEATURE = "reward", "earned", "propensity", "feature:"
_MOST = 50  # fields of the context


class Streams:
    """All that is watched of a loop."""

    def __init__(self, spec: DriftSpec, reference: Sequence[Outcome], first: Sequence[Outcome]) -> None:
        """Watch nothing yet.

        Args:
            spec: what is asked.
            reference: decisions that later ones are compared with.
            first: the first of those that will be watched: they say which fields a context has.
        """
        self._rng = np.random.default_rng(spec.seed)
        contexts = [outcome.decision.context for outcome in reference or first]
        fields = (
            spec.features or sorted({name for one in (*reference, *first) for name in one.decision.context})[:_MOST]
        )
        self._ranks: dict[str, Ranks] = {REWARD: NumberRanks(_error(outcome) for outcome in reference)}
        for name in fields:
            values = [context.get(name) for context in contexts]
            if name != CONTEXT_TIME:
                of_reference = values if reference else ()
                numbers = all(_is_number(value) for value in values if value is not None) and any(
                    value is not None for value in values
                )
                self._ranks[FEATURE + name] = NumberRanks(of_reference) if numbers else CategoryRanks(of_reference)
        alpha = spec.alpha / (len(self._ranks) + 2)
        self._detectors = {name: Detector(alpha) for name in (*self._ranks, PROPENSITY)}
        self._earned = EarnedDetector(alpha)
        for outcome in reference:
            if outcome.decision.slate:
                self._earned.learn(_kind(outcome.decision), outcome.reward > 0)
        self._watched: dict[str, list[tuple[int | None, datetime]]] = {name: [] for name in (*self._detectors, EARNED)}
        self._distributions: bool | None = None
        """Whether whole distributions are logged: None until the first decision."""

    def watch(self, rows: Sequence[Outcome]) -> None:
        """Take decisions in, in log order."""
        for name, ranks in self._ranks.items():
            if self._detectors[name].alarmed or not rows:
                continue
            ties = self._rng.random(len(rows)).tolist()
            if name == REWARD:
                of_rows = [ranks.rank(_error(outcome), tie) for outcome, tie in zip(rows, ties, strict=True)]
                factors = bet_on_small(np.array(of_rows))
            else:
                field = name.removeprefix(FEATURE)
                of_rows = [
                    ranks.rank(outcome.decision.context.get(field), tie)
                    for outcome, tie in zip(rows, ties, strict=True)
                ]
                factors = bet_on_change(np.array(of_rows))
            self._take(name, rows, factors)
        for outcome in rows:
            if outcome.decision.slate and not self._earned.alarmed:
                self._earned.watch(_kind(outcome.decision), outcome.reward > 0)
                self._watched[EARNED].append((outcome.position, outcome.decision.time))
        drawn = [one for one in rows if one.decision.mode == "explore" and one.decision.slate]
        if drawn and not self._detectors[PROPENSITY].alarmed:
            self._take(PROPENSITY, *self._bet_on_propensities(drawn))

    def _bet_on_propensities(self, drawn: Sequence[Outcome]) -> tuple[Sequence[Outcome], FloatArray]:
        if self._distributions is None:
            self._distributions = bool(drawn[0].decision.probabilities)
        some = [one for one in drawn if bool(one.decision.probabilities) == self._distributions]
        decisions = [one.decision for one in some]
        if self._distributions:
            ties = self._rng.random(len(some)).tolist()
            return some, bet_on_change(np.array([_below(one, tie) for one, tie in zip(decisions, ties, strict=True)]))
        weights = [1.0 / (len(one.candidates) * one.propensities[0]) for one in decisions]
        return some, bet_on_weights(np.array(weights))

    def _take(self, name: str, rows: Sequence[Outcome], factors: FloatArray) -> None:
        """Let a detector watch, and keep which decisions it has seen since something may have changed."""
        detector, before = self._detectors[name], self._detectors[name].seen
        detector.watch(factors)
        self._watched[name] += [(one.position, one.decision.time) for one in rows[: detector.seen - before]]

    def report(self) -> dict[str, StreamReport]:
        """Return what each stream has shown."""
        of_all: dict[str, Detector | EarnedDetector] = {**self._detectors, EARNED: self._earned}
        return {name: self._report(name, detector) for name, detector in of_all.items()}

    def _report(self, name: str, detector: Detector | EarnedDetector) -> StreamReport:
        report = StreamReport(
            drifted=detector.alarmed,
            evidence=float(detector.evidence / np.log(10.0)) if detector.seen else None,
            threshold=float(detector.threshold / np.log(10.0)),
            decisions=detector.seen,
        )
        if detector.began is None:
            return report
        watched = self._watched[name]
        (seq, last), (_, first) = watched[-1], watched[detector.began]
        return report.model_copy(update={"decision_seq": seq, "time": last, "began": first})


def _error(outcome: Outcome) -> float:
    """Return how far a decision's reward is from what the policy had expected of the slots that have one."""
    return abs(outcome.reward - sum(outcome.decision.scores[: len(outcome.rewards)]))


def _kind(decision: Decision) -> Hashable:
    """Return by what decisions are alike: what was said of the context, without its time, and what was shown."""
    context = tuple(sorted((name, repr(value)) for name, value in decision.context.items() if name != CONTEXT_TIME))
    said = repr(decision.features.context) if decision.features else ""
    return context, said, decision.slate


def _below(decision: Decision, tie: float) -> float:
    """Return the probability of the candidates before the one that was shown first, and a share of its own."""
    place = decision.candidates.index(decision.slate[0])
    return min(sum(decision.probabilities[:place]) + tie * decision.probabilities[place], 1.0)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
