"""What a policy would have done at a logged decision, by the policy contract alone."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from data.schema import Decision, Rules
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import add_slot_features
from rl.encoders.visit import Visit
from rl.online.history.histories import Histories
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.rules import rules_constraint

_ROOM: Final = 4_096
"""Candidates of all decisions that are asked at once."""
_UNASKED: Final = Exception("not asked yet")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy would have done."""

    shown: FloatArray
    """[K] the probability of each slot's item, given those above it."""
    first: FloatArray
    """[A] the distribution of the first slot."""
    expected: FloatArray
    """[A] the rewards that it expects there."""


def to_visit(decision: Decision, artefact: Artefact, histories: Histories | None) -> Visit:
    """Return the visit of a decision, as a policy sees it."""
    history = None
    if histories is not None and artefact.history:
        history = histories.encode(decision.user_id, artefact.encoder)[-artefact.history :]
    return Visit(
        decision.user_id,
        decision.time,
        decision.candidates,
        decision.context,
        decision.features,
        history,
        rules=decision.rules,
    )


def choose(
    artefact: Artefact, decisions: Sequence[Decision], histories: Histories | None, rng: np.random.Generator
) -> list[Choice | Exception]:
    """Return with what probability a policy would have shown what was shown, decision by decision.

    Those of a list without rules are asked many at a time, which saves most of the time; of one that cannot be answered
    there is the error.
    """
    found: list[Choice | Exception] = [_UNASKED] * len(decisions)
    for rows in _groups(decisions):
        some = [decisions[row] for row in rows]
        try:
            choices: Sequence[Choice | Exception] = _choose_lists(artefact, some, histories, rng)
        except Exception:  # one of them is at fault: each alone
            choices = [_choose_one(artefact, one, histories, rng) for one in some]
        for row, choice in zip(rows, choices, strict=True):
            found[row] = choice
    for row, decision in enumerate(decisions):
        if found[row] is _UNASKED:
            found[row] = _choose_one(artefact, decision, histories, rng)
    return found


def _groups(decisions: Sequence[Decision]) -> Iterator[list[int]]:
    """Yield the rows of lists without rules that have as many candidates and slots, so many that memory is bounded."""
    groups = dict[tuple[int, int], list[int]]()
    for row, decision in enumerate(decisions):
        if not (decision.slots or decision.rules):
            groups.setdefault((len(decision.candidates), len(decision.slate)), []).append(row)
    for (candidates, _), rows in groups.items():
        size = max(1, _ROOM // candidates)
        for at in range(0, len(rows), size):
            yield rows[at : at + size]


def _choose_lists(
    artefact: Artefact, decisions: Sequence[Decision], histories: Histories | None, rng: np.random.Generator
) -> list[Choice]:
    """Ask a policy at decisions that have as many candidates and slots each."""
    slates = np.array([[one.candidates.index(item) for item in one.slate] for one in decisions], dtype=np.int64)
    query = artefact.encoder.query([to_visit(one, artefact, histories) for one in decisions])
    policy, rows = _of_length(artefact, slates.shape[1]), np.arange(len(slates))
    scores, expected = policy.score(query, rng)
    left, shown, first = query.mask.copy(), np.empty(slates.shape), None
    for slot in range(slates.shape[1]):
        p = policy.explorer.probabilities(scores, left)
        shown[:, slot] = p[rows, slates[:, slot]]
        first = p if first is None else first
        left[rows, slates[:, slot]] = False
    assert first is not None, "a slate has a slot"
    return [Choice(*of) for of in zip(shown, first, expected, strict=True)]


def _choose_one(
    artefact: Artefact, decision: Decision, histories: Histories | None, rng: np.random.Generator
) -> Choice | Exception:
    """Ask a policy at a decision of any kind, slot by slot, as the service does."""
    try:
        return _choose_slots(artefact, decision, histories, rng)
    except Exception as error:  # whatever it is: the policy cannot answer what was asked
        return error


def _choose_slots(
    artefact: Artefact, decision: Decision, histories: Histories | None, rng: np.random.Generator
) -> Choice:
    visit, candidates = to_visit(decision, artefact, histories), decision.candidates
    slate = np.array([[candidates.index(item) for item in decision.slate]], dtype=np.int64)
    policy = _of_length(artefact, slate.shape[1])
    exclusions = [slot.exclude for slot in decision.slots] if decision.slots else None
    rules = Rules() if decision.slots else decision.rules
    constraint = rules_constraint(candidates, rules, exclusions) if rules else None
    left, shown, parts = np.ones((1, len(candidates)), dtype=np.bool_), np.zeros(slate.shape[1]), list[FloatArray]()
    for slot, position in enumerate(slate[0].tolist()):
        if not parts or decision.slots:
            features = add_slot_features(visit.features, decision.slots[slot]) if decision.slots else visit.features
            query = artefact.encoder.query([replace(visit, features=features)])
            scores, expected = policy.score(query, rng)
            if constraint is not None and constraint.bias is not None:
                scores, expected = scores + constraint.bias[:, None, :], expected + constraint.bias
        allowed = left if constraint is None else constraint.allowed(left, slot, slate[:, :slot])
        allowed = allowed & query.mask
        if not allowed.any():
            raise PolicyError(f"nothing may be shown in slot {slot}, and {decision.slate[slot]!r} was")
        p = policy.explorer.probabilities(scores, allowed)[0]
        shown[slot] = p[position]
        parts = parts or [p, expected[0]]
        left[0, position] = False
    return Choice(shown, parts[0], parts[1])


def _of_length(artefact: Artefact, slots: int) -> Policy:
    """Return a policy whose scores are for slates of a length, where they depend on it."""
    policy = artefact.policy
    if getattr(policy, "k", slots) == slots:
        return policy
    policy = copy(policy)
    policy.k = slots  # type: ignore[attr-defined]
    return policy
