"""Explanations of ranks, where they are switched on: `inferenceExplanation` of the response."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from data.schema import Decision
from rl.policy.explanation.parts import Explanation, ItemExplanation
from serve.contracts.errors import Refused
from serve.decisions.recommender import Recommender
from serve.explanations.service import Explanations, explain_now

LISTED: Final = 100
"""Features of an action that are listed."""
_BASE, _OTHERS, _CROSS = "(base)", "(others)", "^"


class FeatureScore(BaseModel):
    """What a feature adds to what is expected of an action."""

    model_config = ConfigDict(frozen=True)
    name: str
    """`namespace.feature=value`; those that are multiplied are joined by `^`."""
    score: float


class ActionExplanation(BaseModel):
    """Why what is expected of an action is expected."""

    model_config = ConfigDict(frozen=True)
    id: str
    features: list[FeatureScore]
    """The largest first, then one named `(base)` and, where there are too many, `(others)`: together they add up to
    what is expected."""


class ExplainedRank:
    """The explanation of one rank."""

    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations
        self._made: tuple[Decision, Explanation] | None = None

    def look(self, recommender: Recommender, made: Decision) -> None:
        """Explain what was decided just now, before the policy learns more."""
        self._made = made, explain_now(recommender, made, LISTED)

    async def of(self, decision: Decision) -> Explanation | None:
        """Return the explanation of the decision that is logged.

        None where that was made before, by a version that cannot be had in time.
        """
        if self._made and _alike(self._made[0], decision):
            return self._made[1]
        try:
            return await self._explanations.explain_actions(decision, LISTED)
        except Refused:
            return None


def _alike(made: Decision, logged: Decision) -> bool:
    return (made.policy_version, made.slate, made.scores) == (logged.policy_version, logged.slate, logged.scores)


def explain_action(action: str, explained: ItemExplanation) -> ActionExplanation:
    """Return the explanation of an action as it is answered."""
    scores = [(_CROSS.join(one.names), one.contribution) for one in explained.contributions]
    scores += [(_OTHERS, explained.others)] * bool(explained.others) + [(_BASE, explained.base)]
    features = [FeatureScore.model_construct(name=name, score=score) for name, score in scores]
    return ActionExplanation.model_construct(id=action, features=features)
