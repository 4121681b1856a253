"""The recommender: candidates -> features -> policy -> decision. A plain class: no Ray, no HTTP, no storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from data.schema import CONTEXT_TIME, Decision, Scalar, parse_visit_time
from rl.artefact import Artefact
from rl.fold import encode
from rl.policy import PolicyError
from serve.learner import Snapshot, Update
from serve.router import Router, seed


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, checked for its form."""

    decision_id: str
    time: datetime
    k: int
    user_id: str | None = None
    context: Mapping[str, Scalar] | None = None
    candidates: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    policy: str | None = None


class Recommender:
    """Holds one version of each policy and answers with it.

    `decide`, `apply` and `restore` must not run at the same time: on an event loop they do not, as none of them
    awaits. So a request is answered by one version from start to end.
    """

    def __init__(self, artefacts: Mapping[str, Artefact], router: Router) -> None:
        self._artefacts, self._router = artefacts, router
        self.position = 0
        """How far the log was folded when this version was made; see `serve.learner`."""
        self.learned_through = 0
        """Log position of the last feedback that the policies have seen."""

    def version(self, name: str) -> str:
        """Return the served version of a policy: what was trained, and how far the log was folded into it."""
        return f"{self._artefacts[name].digest}.{self.position}"

    @property
    def names(self) -> list[str]:
        """The policies."""
        return list(self._artefacts)

    def decide(self, ask: Ask) -> Decision:
        """Answer.

        The draws are seeded by the decision's id: the same ask of the same version is the same decision.

        Raises:
            PolicyError: nothing is left to choose from, the named policy is not served, or `context.time` is no time.
        """
        name = ask.policy or self._router.route(ask.user_id or ask.decision_id)
        if name not in self._artefacts:
            raise PolicyError(f"policy {name!r} is not served; served are {', '.join(self._artefacts)}")
        artefact = self._artefacts[name]
        candidates = _candidates(ask, artefact.encoder.items)
        context = {CONTEXT_TIME: ask.time.isoformat(), **(ask.context or {})}
        try:
            time = parse_visit_time(context[CONTEXT_TIME])
        except ValueError as error:
            raise PolicyError(str(error)) from error
        query = encode([ask.user_id], [time], [candidates], artefact.encoder)
        k = min(ask.k, len(candidates))
        slates = artefact.policy.decide(query, k, np.random.default_rng(seed(ask.decision_id)))
        return Decision(
            decision_id=ask.decision_id,
            time=ask.time,
            user_id=ask.user_id,
            context=context,
            candidates=tuple(candidates),
            slate=tuple(candidates[position] for position in slates.positions[0]),
            propensities=tuple(slates.propensities[0].tolist()),
            scores=tuple(slates.scores[0].tolist()),
            policy=name,
            policy_version=self.version(name),
        )

    def apply(self, update: Update) -> None:
        """Learn what the learner has folded since the last update."""
        for name, observations in update.observations.items():
            self._artefacts[name].policy.update(observations)
        self.position, self.learned_through = update.position, update.learned_through

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the learner's policies as they are, with what they were trained on and what they have learned."""
        self._artefacts = dict(snapshot.artefacts)
        self.position, self.learned_through = snapshot.position, snapshot.learned_through


def _candidates(ask: Ask, catalogue: Sequence[str]) -> list[str]:
    """Return what may be shown, each once, in the order given."""
    excluded = set(ask.exclude)
    candidates = [
        item for item in dict.fromkeys(catalogue if ask.candidates is None else ask.candidates) if item not in excluded
    ]
    if not candidates:
        raise PolicyError("no candidate is left after the exclusions; give others, or exclude fewer")
    return candidates
