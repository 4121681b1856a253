"""What the policies saw when they filled a slate: for each slot a policy, its question, and how it drew the answer.

What is seen is made by the same code and from the same draws as the decision itself, so the propensities are those that
were logged.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from data.schema import INTERLEAVED, Decision, Rules
from rl.artefacts.artefact import Artefact
from rl.encoders.visit import Visit
from rl.policies.greedy import greedy
from rl.policy.arrays import BoolArray, FloatArray
from rl.policy.explanation.parts import Explanation, Names
from rl.policy.explanation.propensity import Parts, SlotChance, explain_draft, explain_slots
from rl.policy.interface import Constraint, Policy
from rl.policy.queries import Query
from rl.policy.rules import rules_constraint
from serve.decisions.draws import generator
from serve.decisions.recommender import Recommender, in_slot, to_visit

CLIENT, INTERLEAVING = "client", "interleaving"
"""What has chosen in place of an explorer: the client, or two policies and a coin."""


@dataclass(frozen=True, slots=True)
class View:
    """What one policy was asked about, and which slots it has filled."""

    name: str
    policy: Policy
    """With what it has learned."""
    query: Query
    names: Names
    slots: tuple[int, ...]
    positions: tuple[int, ...]
    """Of these slots' items among the candidates."""

    def explain(self, top: int) -> Explanation:
        """Explain the items of its slots."""
        return self.policy.explain(self.query, self.positions, self.names, top)


@dataclass(frozen=True, slots=True)
class Seen:
    """How a slate came about."""

    views: tuple[View, ...]
    chances: tuple[SlotChance, ...]
    """Of each slot."""
    explorers: tuple[str, ...]
    """Of each slot: kind of what has drawn."""

    @property
    def changes(self) -> bool:
        """Whether what the policies have learned changes while they are served."""
        return any(view.policy.learns for view in self.views)


def see(recommender: Recommender, decision: Decision) -> Seen:
    """Return how a decision came about that a recommender has made in the state that it is in."""
    visit = to_visit(decision)
    slate = [decision.candidates.index(item) for item in decision.slate]
    if decision.teams:
        return _see_draft(recommender, visit, slate, decision.teams)
    artefact = recommender.artefact(decision.policy)
    visit = recommender.with_history(artefact, visit)
    if decision.slots:
        return _see_slots(artefact, visit, slate)
    query, policy = (
        artefact.encoder.query([visit]),
        _acting(artefact, visit).of_length(min(visit.k, len(visit.candidates))),
    )
    view = View(
        decision.policy, artefact.policy, query, artefact.encoder.names(visit), tuple(range(len(slate))), tuple(slate)
    )
    if visit.mode in ("apprentice", "log"):
        return Seen((view,), _given(slate, len(visit.candidates)), (CLIENT,) * len(slate))
    constraint = rules_constraint(visit.candidates, visit.rules) if visit.rules else None
    parts, expected = _ask(policy, query, generator(visit.decision_id), constraint)
    chances = explain_slots(parts, expected, query.mask, slate, constraint.allowed if constraint else None)
    return Seen((view,), tuple(chances), (_kind(policy),) * len(slate))


def see_actions(recommender: Recommender, decision: Decision) -> View:
    """Return all candidates of a decision as its policy saw them, in their order, as slots of their own."""
    artefact = recommender.artefact(decision.policy)
    visit = recommender.with_history(artefact, to_visit(decision))
    every = tuple(range(len(visit.candidates)))
    return View(
        decision.policy, artefact.policy, artefact.encoder.query([visit]), artefact.encoder.names(visit), every, every
    )


def _see_draft(recommender: Recommender, visit: Visit, slate: Sequence[int], teams: Sequence[str]) -> Seen:
    assert visit.policy is not None, "a decision says which policies have made it"
    names, rng = visit.policy.split(INTERLEAVED), generator(visit.decision_id)
    constraint = rules_constraint(visit.candidates, visit.rules) if visit.rules else None
    views, parts, expected = list[View](), dict[str, Parts](), dict[str, FloatArray]()
    for name in names:
        artefact = recommender.artefact(name)
        own = recommender.with_history(artefact, visit)
        query = artefact.encoder.query([own])
        parts[name], expected[name] = _ask(_acting(artefact, own), query, rng, constraint)
        slots = tuple(slot for slot, team in enumerate(teams) if team == name)
        positions = tuple(slate[slot] for slot in slots)
        views.append(View(name, artefact.policy, query, artefact.encoder.names(own), slots, positions))
    chances = explain_draft(parts, expected, query.mask, slate, teams, constraint.allowed if constraint else None)
    return Seen(tuple(views), tuple(chances), (INTERLEAVING,) * len(slate))


def _see_slots(artefact: Artefact, visit: Visit, slate: Sequence[int]) -> Seen:
    """See slots that have features of their own, each as the one before has left it."""
    constraint = rules_constraint(visit.candidates, Rules(), [slot.exclude for slot in visit.slots])
    policy, rng = _acting(artefact, visit), generator(visit.decision_id)
    views, chances = list[View](), list[SlotChance]()
    left: BoolArray = np.ones((1, len(visit.candidates)), dtype=np.bool_)
    for number, (slot, position) in enumerate(zip(visit.slots, slate, strict=True)):
        own = in_slot(visit, slot)
        query = artefact.encoder.query([own])
        views.append(View(artefact.name, artefact.policy, query, artefact.encoder.names(own), (number,), (position,)))
        if visit.mode not in ("apprentice", "log"):
            before = np.array([slate[:number]], dtype=np.int64).reshape(1, number)
            allowed = left if constraint is None else constraint.allowed(left, number, before)
            masked = replace(query, mask=query.mask & allowed)
            parts, expected = _ask(policy, masked, deepcopy(rng), None)
            [chance] = explain_slots(parts, expected, masked.mask, [position])
            kept_out = tuple(np.flatnonzero(left[0] & ~allowed[0]).tolist())
            chances.append(replace(chance, kept_out=kept_out))
            policy.decide(masked, 1, rng)  # what is drawn next comes after it
        left[0, position] = False
    given = visit.mode in ("apprentice", "log")
    return Seen(
        tuple(views),
        _given(slate, len(visit.candidates)) if given else tuple(chances),
        (CLIENT if given else _kind(policy),) * len(slate),
    )


def _acting(artefact: Artefact, visit: Visit) -> Policy:
    return greedy(artefact.policy) if visit.mode == "exploit" else artefact.policy


def _ask(
    policy: Policy, query: Query, rng: np.random.Generator, constraint: Constraint | None
) -> tuple[Parts, FloatArray]:
    """Return how the explorer makes probabilities of a query, and what is expected, [1, A]."""
    scores, expected = policy.score(query, rng)
    if constraint is not None and constraint.bias is not None:
        scores, expected = scores + constraint.bias[:, None, :], expected + constraint.bias
    return partial(policy.explorer.parts, scores), expected


def _given(slate: Sequence[int], candidates: int) -> tuple[SlotChance, ...]:
    """Return the chances of what the client has chosen."""
    return tuple(SlotChance({CLIENT: 1.0}, 0.0, candidates - slot, False, ()) for slot, _ in enumerate(slate))


def _kind(policy: Policy) -> str:
    explorer = getattr(policy.explorer, "explorer", policy.explorer)  # within uniform draws
    return str(getattr(explorer, "kind", type(explorer).__name__))
