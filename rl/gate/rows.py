"""Rows of evidence, as policies are asked: from what they would have done at a decision to weights and predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.attribution.join import Outcome
from data.fields import Scalar, to_us
from data.schema import Decision
from rl.gate.evidence import Evidence, Metric
from rl.gate.logged import Choice
from rl.gate.specification import DEFAULT
from rl.policy.arrays import FloatArray

_FEW = 0.01
"""A segment of a smaller share of the first decisions is put with the others."""
_OTHERS = "(others)"
_PACKED = 1_000
"""Rows that are lists before they are arrays."""


@dataclass(frozen=True)
class Asked:
    """A decision at which the policies were asked."""

    seq: int
    decision: Decision
    position: int
    """Of the first slot's item among the candidates."""
    own: bool
    """Whether the champion made it."""
    outcomes: Mapping[str, Outcome]
    """By metric."""
    choices: Mapping[str, Choice]
    """By policy."""
    predicted: Mapping[str, Mapping[str, FloatArray]]
    """[A] by metric and by who predicts it."""


class First:
    """What the first decisions say of all: how little they earn, how much is predicted, which segments there are.

    They are not evaluated on: bounds hold for what comes after something was settled.
    """

    def __init__(self, guards: Sequence[str]) -> None:
        self._segments = {key: Counter[str]() for key in guards}
        self._names = dict[str, str]()
        self._low = dict[str, float]()
        self.caps = dict[str, float]()
        """The largest prediction that is made, by metric; empty until there were enough."""

    def note(self, asked: Asked) -> None:
        """Take a decision in."""
        for name, outcome in asked.outcomes.items():
            self._low[name] = min(self._low.get(name, np.inf), outcome.reward)
        for key, counts in self._segments.items():
            counts[_text(asked.decision.context.get(key))] += 1

    def clip(self, metric: str, predicted: FloatArray) -> FloatArray:
        """Return predictions [A] that a wrong one costs little of."""
        low = self._low[metric]
        clipped: FloatArray = np.clip(np.nan_to_num(predicted, nan=low), low, max(low, self.caps[metric]))
        return clipped

    def segment(self, key: str, decision: Decision) -> str:
        """Return which segment of a guarded field a decision is in."""
        name, counts = _text(decision.context.get(key)), self._segments[key]
        if counts[name] < _FEW * counts.total():
            return _OTHERS
        return self._names.setdefault(name, name)  # the same text for all, not one for each decision


class Columns:
    """Arrays that grow by a row: Python's lists of numbers take several times as much memory."""

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        """Take the type of all columns; None: what the first values of each are."""
        self._dtype, self._last = dtype, dict[str, list[object]]()
        self._before = dict[str, list[NDArray[Any]]]()

    def add(self, row: Mapping[str, object]) -> None:
        """Add a row of the same names as those before."""
        for name, value in row.items():
            values = self._last.setdefault(name, [])
            values.append(value)
            if len(values) == _PACKED:
                self._pack(name)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return [n, ...] of each name."""
        for name in self._last:
            self._pack(name)
            self._before[name] = [np.concatenate(self._before[name])]
        return {name: array for name, (array,) in self._before.items()}

    def _pack(self, name: str) -> None:
        if self._last[name] or name not in self._before:
            self._before.setdefault(name, []).append(np.array(self._last[name], dtype=self._dtype))
            self._last[name] = []


class Rows:
    """The evidence of a challenger, as it grows."""

    def __init__(self, challenger: str, champion: str, first: First, guards: Sequence[str]) -> None:
        self._names, self._first, self._guards = (challenger, champion), first, guards
        self._plain, self._segments = Columns(), Columns(np.object_)
        self._metrics = dict[str, Columns]()

    def add(self, asked: Asked, best: Mapping[str, str]) -> None:
        """Add a decision; `best` says by metric whose predictions are believed."""
        decision, choices = asked.decision, [asked.choices[name] for name in self._names]
        propensities = np.array(decision.propensities)
        weights = [np.cumprod(choice.shown / propensities) for choice in choices]  # [K] of all slots up to each
        shown = [choice.shown[0] for choice in choices]
        if asked.own:
            weights[1], shown[1] = np.ones(len(propensities)), propensities[0]
        main = self._first.clip(DEFAULT, asked.predicted[DEFAULT][best[DEFAULT]])
        self._plain.add(
            {
                "seq": asked.seq,
                "time_us": to_us(decision.time),
                "slots": len(decision.slate),
                "propensity": propensities[0],
                "least": propensities.min(),
                "probability": shown,
                "weights": [of[-1] for of in weights],
                "mass": [of.sum() for of in weights],
                "own": asked.own,
                "greedy": int(main.argmax()) == asked.position,
            }
        )
        self._segments.add({key: self._first.segment(key, decision) for key in self._guards})
        for metric, outcome in asked.outcomes.items():
            predicted = self._first.clip(metric, asked.predicted[metric][best[metric]])
            rewards = np.zeros(len(propensities))
            rewards[: len(outcome.rewards)] = outcome.rewards  # a slot that nobody saw has earned nothing
            self._metrics.setdefault(metric, Columns(np.float64)).add(
                {
                    "rewards": outcome.reward,
                    "lowest": rewards.min(),
                    "weighted": [float(of @ rewards) for of in weights],
                    "predicted": predicted[asked.position],
                    "expected": [float(choice.first @ predicted) for choice in choices],
                    "best": predicted.max(),
                }
            )

    def evidence(self) -> Evidence | None:
        """Return what there is; None: there is nothing."""
        if not (plain := self._plain.arrays()):
            return None
        metrics = {name: Metric(**of.arrays(), cap=self._cap(name)) for name, of in self._metrics.items()}
        return Evidence(**plain, segments=self._segments.arrays(), metrics=metrics)

    def _cap(self, metric: str) -> float:
        return float(self._first.clip(metric, np.array([np.inf]))[0])


def _text(value: Scalar) -> str:
    return "(none)" if value is None else str(value)
