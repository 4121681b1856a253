"""From the log to what a policy learns: outcomes become impressions.

The online learner and batch training both go through here, so what the one has learned from a log is what the other
would.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np

from data.attribution.join import Outcome
from data.log.errors import StoreError
from data.schema import Decision
from rl.encoders.base import VisitEncoder
from rl.encoders.json_features import add_slot_features
from rl.encoders.visit import Visit
from rl.policy.arrays import LARGEST, FloatArray, bound
from rl.policy.errors import PolicyError
from rl.policy.queries import WEIGHTED, Impressions, Slates

TRANSIENT = (StoreError, MemoryError)
"""No row is at fault: the same may succeed the next time."""

Learnable: TypeAlias = tuple[Outcome, tuple[float, ...] | None]
"""An outcome, and its rewards as they were learned before; None: it is new."""
T = TypeVar("T")


class UnlearnableError(PolicyError):
    """An update has values that a policy cannot learn, or would leave such values in it."""


def encode(outcomes: Sequence[Learnable], encoder: VisitEncoder) -> Impressions:
    """Observe what is new of some outcomes, then corrections, in the order given (at least one).

    Raises:
        UnlearnableError: a feature or a reward is not finite, or beyond 1e15 in absolute value.
        ValueError: an outcome cannot be encoded; or whatever else its decision makes the encoder raise.
    """
    new = [outcome for outcome, before in outcomes if before is None]
    corrected = [(outcome, before) for outcome, before in outcomes if before is not None]
    parts = [observe(new, encoder)] if new else []
    parts += [correct(corrected, encoder)] if corrected else []
    impressions = Impressions.concatenate(parts)
    if not largest_value(impressions) <= LARGEST:
        raise UnlearnableError(f"a feature or a reward is not finite, or beyond {LARGEST:g} in absolute value")
    return impressions


def own_slots(policy: str, outcome: Outcome, before: tuple[float, ...] | None) -> Learnable | None:
    """Return what one of two policies learns of a slate that they have filled together: of the slots that it chose."""
    decision = outcome.decision
    own = [place for place, team in enumerate(decision.teams) if team == policy]

    def pick(rewards: Sequence[float]) -> tuple[float, ...]:
        return tuple(rewards[place] for place in own if place < len(rewards))

    rewards, previous = pick(outcome.rewards), None if before is None else pick(before)
    if rewards == (previous or ()):  # nothing of it was seen, or nothing has changed
        return None
    slate = tuple(decision.slate[place] for place in own)
    return replace(outcome, decision=decision.model_copy(update={"slate": slate}), rewards=rewards), previous


def select_learnable(
    outcomes: Sequence[Outcome], encoder: VisitEncoder
) -> tuple[list[Outcome], list[tuple[Outcome, Exception]]]:
    """Return the outcomes that can be learned, in their order, and each of the others with the error."""
    return partition(outcomes, lambda some: encode([(outcome, None) for outcome in some], encoder))


def observe(outcomes: Sequence[Outcome], encoder: VisitEncoder) -> Impressions:
    """Observe the rewards of every slot of the outcomes, in order (at least one); N is the number of slots of all.

    Slots that have no reward, as the user did not see them, are left out.
    """
    decisions, slots = [outcome.decision for outcome in outcomes], [len(outcome.rewards) for outcome in outcomes]
    rewards = _to_array([reward for outcome in outcomes for reward in outcome.rewards])
    return _place(outcomes, slots, _weigh(decisions, slots, _observe_slots(decisions, slots, rewards, encoder)))


def correct(outcomes: Sequence[tuple[Outcome, tuple[float, ...]]], encoder: VisitEncoder) -> Impressions:
    """Observe how much the rewards of outcomes differ, slot by slot, from those given that were observed before.

    A slot that had no reward before is new, with count 1; one that has none any more is taken back, with count -1.
    """
    decisions = [outcome.decision for outcome, _ in outcomes]
    slots = [max(len(outcome.rewards), len(before)) for outcome, before in outcomes]
    now, counts = _pad([outcome.rewards for outcome, _ in outcomes], slots)
    before, counts_before = _pad([rewards for _, rewards in outcomes], slots)
    observed = _observe_slots(decisions, slots, now, encoder)
    squares = now**2 - before**2
    observed = replace(observed, rewards=now - before, counts=counts - counts_before, squares=squares)
    return _place([outcome for outcome, _ in outcomes], slots, _weigh(decisions, slots, observed))


def _pad(rewards: Sequence[Sequence[float]], slots: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Return rewards as an array [N] with so many slots of each decision, 0 where there is none, and where there is."""
    padded = [(*known, *(0.0,) * (n - len(known))) for known, n in zip(rewards, slots, strict=True)]
    there = [(*(1.0,) * len(known), *(0.0,) * (n - len(known))) for known, n in zip(rewards, slots, strict=True)]
    return _to_array([reward for row in padded for reward in row]), np.array([one for row in there for one in row])


def _weigh(decisions: Sequence[Decision], slots: Sequence[int], observed: Impressions) -> Impressions:
    """Return impressions of the slots of decisions, each as what a decision stands for would have given together."""
    if all(decision.weight == 1.0 for decision in decisions):
        return observed
    weights = np.repeat(np.array([decision.weight for decision in decisions], dtype=np.float64), slots)
    return replace(observed, **{name: getattr(observed, name) * weights for name in WEIGHTED})


def _place(outcomes: Sequence[Outcome], slots: Sequence[int], observed: Impressions) -> Impressions:
    """Return impressions of the slots of outcomes with the log positions of these, where they are known."""
    at = [np.nan if outcome.position is None else float(outcome.position) for outcome in outcomes]
    return replace(observed, at=np.repeat(np.array(at), slots))


def _to_array(rewards: Sequence[float]) -> FloatArray:
    """Return rewards as an array [N], bounded: a log from before rewards had a bound may hold any."""
    return bound(np.array(rewards, dtype=np.float64))


def _observe_slots(
    decisions: Sequence[Decision], slots: Sequence[int], rewards: FloatArray, encoder: VisitEncoder
) -> Impressions:
    """Observe the first slots of every decision, so many of each, in order."""
    if len({*slots}) == 1 and not any(decision.slots for decision in decisions):  # most often: one visit for each slate
        visits, k = [_shown_visit(decision, slots[0]) for decision in decisions], slots[0]
    else:
        visits, k = [visit for one, n in zip(decisions, slots, strict=True) for visit in _slot_visits(one, n)], 1
    query = encoder.query(visits)
    positions = np.broadcast_to(np.arange(k), (len(visits), k))
    unused = np.ones(positions.shape)
    return Impressions.of_slates(query, Slates(positions, unused, unused), rewards.reshape(positions.shape))


def _shown_visit(decision: Decision, slots: int) -> Visit:
    """Return a decision as a visit whose candidates are what was shown in its first slots."""
    features, shown = decision.features or None, decision.slate[:slots]
    if features and features.items:
        items = tuple(features.items[decision.candidates.index(item)] for item in shown)
        features = features.model_copy(update={"items": items})
    return Visit(decision.user_id, decision.time, shown, decision.context, features)


def _slot_visits(decision: Decision, slots: int) -> Iterator[Visit]:
    """Return each of the first slots of a decision as a visit whose one candidate is the item that was shown there."""
    whole = _shown_visit(decision, slots)
    for slot, item in enumerate(whole.candidates):
        features = whole.features
        if features and features.items:
            features = features.model_copy(update={"items": (features.items[slot],)})
        if decision.slots:
            features = add_slot_features(features, decision.slots[slot])
        yield replace(whole, candidates=(item,), features=features)


def partition(items: Sequence[T], work: Callable[[Sequence[T]], object]) -> tuple[list[T], list[tuple[T, Exception]]]:
    """Divide items, by halves, into those with which work succeeds and those with which it fails.

    Returns:
        The first in their order, and each of the others with the error.
    """
    if not items:
        return [], []
    try:
        work(items)
    except TRANSIENT:
        raise
    except Exception as error:  # whatever it is: it is returned with its item
        if len(items) == 1:
            return [], [(items[0], error)]
        half = len(items) // 2
        good, failed = partition(items[:half], work)
        more, more_failed = partition(items[half:], work)
        return good + more, failed + more_failed
    return list(items), []


def largest_value(impressions: Impressions) -> float:
    """Return the largest absolute value of features and rewards; NaN if one is NaN."""
    arrays = [impressions.features, impressions.rewards]
    if impressions.sparse is not None:
        arrays += [impressions.sparse.context_values, impressions.sparse.item_values]
    ends = [float(end) for array in arrays if array.size for end in (array.max(), -array.min())]  # without copies
    return float(np.max(ends, initial=0.0))
