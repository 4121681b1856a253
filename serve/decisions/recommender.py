"""The recommender: candidates -> features -> policy -> decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from data.fields import Scalar
from data.schema import (
    CONTEXT_TIME,
    LOOP_V1,
    Decision,
    Features,
    Mode,
    Rules,
    Slot,
    parse_visit_time,
)
from rl.artefacts.artefact import Artefact
from rl.encoders.base import Visit
from rl.encoders.json_features import FeaturesEncoder, for_slot
from rl.online.fold import Snapshot, Update
from rl.online.histories import Histories
from rl.policies.greedy import greedy
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.queries import Query, Slates
from rl.policy.rules import rules_constraint
from serve.decisions.draws import generator
from serve.decisions.router import Router


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, with what it may be answered with."""

    decision_id: str
    time: datetime
    k: int
    user_id: str | None = None
    node_id: str | None = None
    context: Mapping[str, Scalar] = field(default_factory=dict)
    candidates: Sequence[str] | None = None
    """Each once; None: the catalogue of the policy."""
    policy: str | None = None
    """None: whichever the traffic's shares give."""
    mode: Mode = "explore"
    """apprentice and log: the slate is the first candidates, or the baselines of the slots."""
    features: Features | None = None
    rules: Rules | None = None
    slots: tuple[Slot, ...] = ()
    deferred: bool = False
    tell: bool = False
    """Log the probabilities of all candidates."""
    request: str | None = None
    """See `Decision.request`."""


class Recommender:
    """Holds one version of each policy of a fold and answers with it.

    `decide`, `apply` and `restore` must not run at the same time: on an event loop they do not, as none of them
    awaits. So a request is answered by one version from start to end.
    """

    def __init__(self, router: Router, loop: str = LOOP_V1, objective: str = "default") -> None:
        self._router, self._routed, self.loop, self.objective = router, router, loop, objective
        self._artefacts: dict[str, Artefact] = {}
        self._histories: Histories | None = None
        self.fold_id, self.number = "", 0
        """Which step of which fold this version is; see `rl.online.learner`."""
        self.learned_through = 0
        """Log position of the last feedback that the policies have seen."""

    def version(self, name: str) -> str:
        """Return the served version of a policy: what was trained, and the step of the fold since."""
        return f"{self.digest(name)}.{self.fold_id}.{self.number}"

    def digest(self, name: str) -> str:
        """Return which artefact a policy was when the fold began."""
        return self._artefacts[name].digest

    def artefact(self, name: str) -> Artefact:
        """Return a policy as it is; it goes on learning."""
        return self._artefacts[name]

    @property
    def names(self) -> list[str]:
        """The policies."""
        return list(self._artefacts)

    def policy_of(self, ask_for: str | None, key: str) -> str:
        """Return the policy that answers: the one that is asked for, or the one that a customer's key is routed to.

        Raises:
            PolicyError: there is no such policy.
        """
        name = ask_for or self._routed.route(key)
        if name not in self._artefacts:
            raise PolicyError(f"policy {name!r} is not served; served are {', '.join(self._artefacts)}")
        return name

    def catalogue(self, name: str) -> Sequence[str]:
        """Return the items that a policy knows."""
        return self._artefacts[name].encoder.items

    @property
    def may_read_features(self) -> bool:
        """Whether some policy learns from what is said of visits and items."""
        return any(self.reads_features(name) for name in self._artefacts)

    def reads_features(self, name: str) -> bool:
        """Return whether a policy learns from what is said of visits and items."""
        return isinstance(self._artefacts[name].encoder, FeaturesEncoder)

    def decide(self, ask: Ask) -> Decision:
        """Answer.

        The draws are seeded by the decision's id: the same ask of the same version is the same decision.

        Raises:
            PolicyError: nothing is left to choose from, the named policy is not served, or `context.time` is no time.
        """
        return self.decide_openly(ask)[0]

    def decide_openly(self, ask: Ask) -> tuple[Decision, FloatArray]:
        """Answer, and return the distribution of the first slot over the candidates too, [A]; see `decide`."""
        name = ask.policy
        if name is None or name not in self._artefacts:
            name = self.policy_of(name, ask.user_id or ask.decision_id)
        artefact = self._artefacts[name]
        candidates = tuple(artefact.encoder.items if ask.candidates is None else ask.candidates)
        if not candidates:
            raise PolicyError("no candidate is left; give others, exclude fewer, or upsert items")
        time = _visit_time(ask)
        context = {CONTEXT_TIME: ask.time.isoformat(), **ask.context}
        visit = Visit(ask.user_id, time, candidates, context, ask.features, self._history(ask.user_id, artefact))
        slates = _answer(artefact, visit, ask)
        first = np.zeros(len(candidates)) if slates.first is None else slates.first[0]
        decision = Decision.model_construct(
            decision_id=ask.decision_id,
            time=ask.time,
            loop=self.loop,
            user_id=ask.user_id,
            node_id=ask.node_id,
            context=context,
            candidates=candidates,
            slate=tuple(candidates[position] for position in slates.positions[0].tolist()),
            propensities=tuple(slates.propensities[0].tolist()),
            scores=tuple(slates.scores[0].tolist()),
            policy=name,
            policy_version=self.version(name),
            mode=ask.mode,
            objective=self.objective,
            deferred=ask.deferred,
            probabilities=tuple(first.tolist()) if ask.tell else (),
            features=ask.features,
            rules=ask.rules,
            slots=ask.slots,
            request=ask.request,
        )
        return decision, first

    def _history(self, user_id: str | None, artefact: Artefact) -> IntArray | None:
        """Return what the user was shown and did, [T, 3], for a policy that reads it."""
        if self._histories is None or not artefact.history:
            return None
        return self._histories.of(user_id, artefact.encoder)[-artefact.history :]

    def apply(self, update: Update) -> None:
        """Learn what the learner has folded since the last update."""
        if self._histories is not None:
            for step in update.history_steps:
                step(self._histories)
        for name, impressions in update.impressions.items():
            self._artefacts[name].policy.update(impressions)
        self.number, self.learned_through = update.number, update.learned_through

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the learner's policies as they are, with what they were trained on and what they have learned."""
        self._artefacts, self._histories = dict(snapshot.artefacts), snapshot.histories
        self._routed = self._router.among(self._artefacts) if self._artefacts else self._router
        self.fold_id, self.number, self.learned_through = snapshot.fold_id, snapshot.number, snapshot.learned_through


def _visit_time(ask: Ask) -> datetime:
    """Return when the visit is: as its context says, or when the decision is made."""
    given = ask.context.get(CONTEXT_TIME)
    if given is None and CONTEXT_TIME not in ask.context:
        return ask.time
    try:
        return parse_visit_time(given)
    except ValueError as error:
        raise PolicyError(str(error)) from error


def repeat(decision: Decision) -> Ask:
    """Return the ask that a decision was the answer to, for the policy that answered it."""
    return Ask(
        decision_id=decision.decision_id,
        time=decision.time,
        k=max(len(decision.slate), 1),  # under rules a slate can be empty
        user_id=decision.user_id,
        node_id=decision.node_id,
        context=decision.context,
        candidates=decision.candidates,
        policy=decision.policy,
        mode=decision.mode,
        features=decision.features,
        rules=decision.rules,
        slots=decision.slots,
        deferred=decision.deferred,
        tell=bool(decision.probabilities),
        request=decision.request,
    )


def _answer(artefact: Artefact, visit: Visit, ask: Ask) -> Slates:
    """Let the policy choose, or in the modes without a choice value what the client has chosen."""
    policy: Policy = greedy(artefact.policy) if ask.mode == "exploit" else artefact.policy
    rng = generator(ask.decision_id)
    if ask.slots:
        return _fill(artefact, policy, visit, ask, rng)
    query = artefact.encoder.query([visit])
    k = min(ask.k, len(visit.candidates))
    if ask.mode in ("apprentice", "log"):
        return _given(policy, query, list(range(k)))
    constraint = rules_constraint(visit.candidates, ask.rules) if ask.rules else None
    return policy.decide(query, k, rng, constraint)


def _fill(artefact: Artefact, policy: Policy, visit: Visit, ask: Ask, rng: np.random.Generator) -> Slates:
    """Fill slots that have features of their own one after the other, no item twice."""
    candidates = visit.candidates
    constraint = rules_constraint(candidates, Rules(), [slot.exclude for slot in ask.slots])
    parts, left = list[Slates](), np.ones((1, len(candidates)), dtype=np.bool_)
    chosen = np.empty((1, 0), dtype=np.int64)
    for number, slot in enumerate(ask.slots):
        query = artefact.encoder.query([replace(visit, features=for_slot(ask.features, slot))])
        if ask.mode in ("apprentice", "log"):
            assert slot.baseline is not None, "checked with the request"
            part = _given(policy, query, [candidates.index(slot.baseline)])
        else:
            allowed = left if constraint is None else constraint.allowed(left, number, chosen)
            if not allowed.any():
                raise PolicyError(f"no action is left for slot {slot.slot_id!r}: exclude fewer, or give more actions")
            part = policy.decide(replace(query, mask=query.mask & allowed), 1, rng)
        left[0, part.positions[0]] = False
        chosen = np.concatenate([chosen, part.positions], axis=1)
        parts.append(part)
    return Slates(
        np.concatenate([part.positions for part in parts], axis=1),
        np.concatenate([part.propensities for part in parts], axis=1),
        np.concatenate([part.scores for part in parts], axis=1),
        parts[0].first,
    )


def _given(policy: Policy, query: Query, positions: list[int]) -> Slates:
    """Return what the client has chosen, which is certain, with what the policy expects of it."""
    certain = np.zeros(query.mask.shape)
    certain[0, positions[0]] = 1.0
    return Slates(np.array([positions]), np.ones((1, len(positions))), policy.expected(query)[:, positions], certain)
