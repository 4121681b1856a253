"""The recommender: visit -> query -> policy -> decision."""

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from time import perf_counter
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from data.schema import CONTEXT_TIME, INTERLEAVED, LOOP_V1, Decision, Rules, Slot
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder, add_slot_features
from rl.encoders.visit import Visit
from rl.online.fold import Publication, Update
from rl.online.history.histories import Histories
from rl.policies.greedy import greedy
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.interface import Constraint, Policy
from rl.policy.interleaving import Draft, draft
from rl.policy.queries import Query, Slates
from rl.policy.rules import rules_constraint
from serve.decisions.draws import generator
from serve.decisions.router import Router

_NO_TEAMS: tuple[str, ...] = ()

Watch: TypeAlias = Callable[[Decision, FloatArray, float], None]
"""Takes a decision, the distribution [A] of its first slot, and the seconds that it took."""


class Recommender:
    """Holds one version of each policy of a fold and decides with it.

    `decide`, `apply` and `restore` must not run at the same time: on an event loop they do not, as none of them
    awaits. So a request is answered by one version from start to end.
    """

    def __init__(self, router: Router, loop: str = LOOP_V1, objective: str = "default") -> None:
        self._router, self._routed, self.loop, self.objective = router, router, loop, objective
        self._artefacts: dict[str, Artefact] = {}
        self.watch: Watch | None = None
        """Is told of each decision that `decide` makes."""
        self._histories: Histories | None = None
        self.fold_id, self.number = "", 0
        """Which step of which fold this version is; see `rl.online.learner`."""
        self.learned_through = 0
        """Log position of the last feedback that the policies have seen."""

    def version(self, name: str) -> str:
        """Return the served version of a policy: what was trained, and the step of the fold since."""
        return f"{self.digest(name)}.{self.fold_id}.{self.number}"

    def digest(self, name: str) -> str:
        """Return which artefact a policy was when the fold began; of two that are interleaved, both."""
        if name not in self._artefacts:
            return INTERLEAVED.join(self._artefacts[one].digest for one in name.split(INTERLEAVED))
        return self._artefacts[name].digest

    def artefact(self, name: str) -> Artefact:
        """Return a policy's artefact; the policy goes on learning."""
        return self._artefacts[name]

    @property
    def names(self) -> list[str]:
        """The policies."""
        return list(self._artefacts)

    def has(self, names: Set[str]) -> bool:
        """Return whether all of some policies are served."""
        return names <= self._artefacts.keys()

    def choose_policy(self, name: str | None, key: str) -> str:
        """Return the policy that decides: the one that is named, or the one that a user's key is routed to.

        Raises:
            PolicyError: there is no such policy.
        """
        name = name or self._routed.route(key)
        if name not in self._artefacts:
            raise PolicyError(f"policy {name!r} is not served; served are {', '.join(self._artefacts)}")
        return name

    def catalogue(self, name: str) -> Sequence[str]:
        """Return the items that a policy knows; of two that are interleaved, what one of them does."""
        if name not in self._artefacts:
            both = (self._artefacts[one].encoder.items for one in name.split(INTERLEAVED))
            return list(dict.fromkeys(item for items in both for item in items))
        return self._artefacts[name].encoder.items

    @property
    def may_read_features(self) -> bool:
        """Whether some policy learns from features of contexts and items."""
        return any(self.reads_features(name) for name in self._artefacts)

    def reads_features(self, name: str) -> bool:
        """Return whether a policy, or one of two, learns from features of contexts and items."""
        if name not in self._artefacts:
            return any(self.reads_features(one) for one in name.split(INTERLEAVED))
        return isinstance(self._artefacts[name].encoder, FeaturesEncoder)

    def decide(self, visit: Visit) -> Decision:
        """Decide what is shown at a visit.

        The draws are seeded by the decision's id: the same visit to the same version gives the same decision.

        Raises:
            PolicyError: there is no candidate, the named policy is not served, or `context.time` is not a time.
            ValueError: the policy's propensities are none.
        """
        if self.watch is None:
            return self.decide_and_explain(visit)[0]
        began = perf_counter()
        decision, first = self.decide_and_explain(visit)
        self.watch(decision, first, perf_counter() - began)
        return decision

    def decide_and_explain(self, visit: Visit) -> tuple[Decision, FloatArray]:
        """Decide, and return also the distribution [A] of the first slot over the candidates; see `decide`."""
        name, teams = visit.policy, _NO_TEAMS
        if name is None or not (name in self._artefacts or self._are_two(name)):
            name = self.choose_policy(name, visit.user_id or visit.decision_id)
        candidates = tuple(visit.candidates)
        if not candidates:
            raise PolicyError("no candidate is left; give others, exclude fewer, or upsert items")
        _check_time(visit)
        if name in self._artefacts:
            artefact = self._artefacts[name]
            slates = self._decide(artefact, self.with_history(artefact, visit))
        else:
            slates, teams = self._interleave(name.split(INTERLEAVED), visit)
        first = np.zeros(len(candidates)) if slates.first is None else slates.first[0]
        decision = Decision.model_construct(
            decision_id=visit.decision_id,
            time=visit.time,
            loop=self.loop,
            user_id=visit.user_id,
            node_id=visit.node_id,
            context={CONTEXT_TIME: visit.time.isoformat(), **visit.context},
            candidates=candidates,
            slate=tuple(candidates[position] for position in slates.positions[0].tolist()),
            propensities=tuple(slates.propensities[0].tolist()),
            scores=tuple(slates.scores[0].tolist()),
            policy=name,
            policy_version=self.version(name),
            mode=visit.mode,
            objective=self.objective,
            deferred=visit.deferred,
            probabilities=tuple(first.tolist()) if visit.log_probabilities else (),
            features=visit.features,
            rules=visit.rules,
            slots=visit.slots,
            request=visit.request,
            abtest=visit.abtest,
            variant=visit.variant,
            teams=teams,
        )
        decision.check_slots()  # all else comes from a request that was validated
        return decision, first

    def _are_two(self, name: str) -> bool:
        """Return whether a name is that of two policies that are interleaved."""
        return INTERLEAVED in name and self.has({*name.split(INTERLEAVED)})

    def with_history(self, artefact: Artefact, visit: Visit) -> Visit:
        """Return a visit with what a policy reads of the user's past, if it reads any."""
        if self._histories is None or not artefact.history:
            return visit
        return replace(visit, history=self._histories.encode(visit.user_id, artefact.encoder)[-artefact.history :])

    def _interleave(self, names: Sequence[str], visit: Visit) -> tuple[Slates, tuple[str, ...]]:
        """Let two policies fill a slate together; returns also which has chosen each slot."""
        artefacts = [self._artefacts[name] for name in names]
        visits = [self.with_history(artefact, visit) for artefact in artefacts]
        policies = [greedy(a.policy) if visit.mode == "exploit" else a.policy for a in artefacts]
        queries = [self._encode(artefact, one) for artefact, one in zip(artefacts, visits, strict=True)]
        found = self._draft(visit, policies, queries)
        return found.slates, tuple(names[team] for team in found.teams)

    def _decide(self, artefact: Artefact, visit: Visit) -> Slates:
        """Let the policy choose; in the modes without a choice let it value what the client has chosen."""
        policy: Policy = greedy(artefact.policy) if visit.mode == "exploit" else artefact.policy
        rng = generator(visit.decision_id)
        if visit.slots:
            return self._fill_slots(artefact, policy, visit, rng)
        query = self._encode(artefact, visit)
        k = min(visit.k, len(visit.candidates))
        if visit.mode in ("apprentice", "log"):
            return self._evaluate(visit, policy, query, list(range(k)))
        constraint = rules_constraint(visit.candidates, visit.rules) if visit.rules else None
        return self._choose(visit, policy, query, k, rng, constraint)

    def _fill_slots(self, artefact: Artefact, policy: Policy, visit: Visit, rng: Generator) -> Slates:
        """Fill slots that have features of their own one after the other, no item twice."""
        candidates = visit.candidates
        constraint = rules_constraint(candidates, Rules(), [slot.exclude for slot in visit.slots])
        parts, remaining = list[Slates](), np.ones((1, len(candidates)), dtype=np.bool_)
        chosen = np.empty((1, 0), dtype=np.int64)
        for number, slot in enumerate(visit.slots):
            query = self._encode(artefact, in_slot(visit, slot))
            if visit.mode in ("apprentice", "log"):
                assert slot.baseline is not None, "checked with the request"
                part = self._evaluate(visit, policy, query, [candidates.index(slot.baseline)])
            else:
                allowed = remaining if constraint is None else constraint.allowed(remaining, number, chosen)
                if not allowed.any():
                    raise PolicyError(
                        f"no action is left for slot {slot.slot_id!r}: exclude fewer, or give more actions"
                    )
                part = self._choose(visit, policy, replace(query, mask=query.mask & allowed), 1, rng, None)
            remaining[0, part.positions[0]] = False
            chosen = np.concatenate([chosen, part.positions], axis=1)
            parts.append(part)
        return Slates(
            np.concatenate([part.positions for part in parts], axis=1),
            np.concatenate([part.propensities for part in parts], axis=1),
            np.concatenate([part.scores for part in parts], axis=1),
            parts[0].first,
        )

    # What a subclass may time, or trace: `serve.traces.recommender`.

    def _encode(self, artefact: Artefact, visit: Visit) -> Query:
        return artefact.encoder.query([visit])

    def _choose(
        self, visit: Visit, policy: Policy, query: Query, k: int, rng: Generator, constraint: Constraint | None
    ) -> Slates:
        return policy.decide(query, k, rng, constraint)

    def _evaluate(self, visit: Visit, policy: Policy, query: Query, positions: list[int]) -> Slates:
        """Return what the client has chosen, with probability 1, and the reward that the policy expects of it."""
        certain = np.zeros(query.mask.shape)
        certain[0, positions[0]] = 1.0
        ones = np.ones((1, len(positions)))
        return Slates(np.array([positions]), ones, policy.expected(query)[:, positions], certain)

    def _draft(self, visit: Visit, policies: Sequence[Policy], queries: Sequence[Query]) -> Draft:
        return draft(
            policies,
            queries,
            min(visit.k, len(visit.candidates)),
            generator(visit.decision_id),
            rules_constraint(visit.candidates, visit.rules) if visit.rules else None,
        )

    def apply(self, update: Update) -> None:
        """Learn what the learner has folded since the last update."""
        if self._histories is not None:
            for step in update.history_steps:
                step(self._histories)
        for name, impressions in update.impressions.items():
            self._artefacts[name].policy.update(impressions)
        self.number, self.learned_through = update.number, update.learned_through

    def restore(self, publication: Publication) -> None:
        """Take over the learner's policies and histories."""
        self._artefacts, self._histories = dict(publication.artefacts), publication.histories
        self._routed = self._router.restrict_to(self._artefacts) if self._artefacts else self._router
        self.fold_id, self.number, self.learned_through = (
            publication.fold_id,
            publication.number,
            publication.learned_through,
        )


def _check_time(visit: Visit) -> None:
    try:
        _ = visit.visit_time
    except ValueError as error:
        raise PolicyError(str(error)) from error


def to_visit(decision: Decision) -> Visit:
    """Return the visit that a decision was made for, for the policy that made it."""
    return Visit(
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
        log_probabilities=bool(decision.probabilities),
        request=decision.request,
        abtest=decision.abtest,
        variant=decision.variant,
    )


def in_slot(visit: Visit, slot: Slot) -> Visit:
    """Return a visit as the policy sees it that fills a slot with features of its own."""
    return replace(visit, features=add_slot_features(visit.features, slot))
