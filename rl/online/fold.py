"""The types of a fold over the log: what it begins with, and what followers get of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from data.reward import RewardSpec
from data.schema import LOOP_V1, Decision
from rl.artefacts.artefact import Artefact
from rl.online.history.histories import Histories, HistoryStep
from rl.policy.queries import Impressions

_OF_TESTS = {"shared", "isolated", "imitates", "follows"}


class FoldSpec(BaseModel):
    """What a fold learns from, and what for. With the digests of its artefacts it is what the fold begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: str = LOOP_V1
    objective: str = "default"
    reward: RewardSpec = RewardSpec()
    learn_from: Literal["own", "all"] = "own"
    """Each policy learns from its own decisions only, or from all."""
    shared: Mapping[str, tuple[str, ...]] = {}
    """By A/B test: the policies that learn from the exposures of all its variants, whatever `learn_from` says."""
    isolated: tuple[str, ...] = ()
    """A/B tests from whose exposures only the policy learns that has decided, whatever `learn_from` says."""
    imitates: Mapping[str, str] = {}
    """By policy: the one that it learns to imitate. It learns nothing else."""
    follows: Mapping[str, str] = {}
    """By policy: another one from whose decisions it learns too."""

    @model_serializer(mode="wrap")
    def _without_tests(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what no A/B test has said: folds from before there were any are of the same kind."""
        said: dict[str, Any] = serialize(self)
        return {name: value for name, value in said.items() if value or name not in _OF_TESTS}

    def lesson_of(self, policy: str, decision: Decision) -> Literal["all", "own", "imitation"] | None:
        """Return what a policy learns of a decision: all slots, those that it has chosen, to imitate it, or nothing."""
        if self.imitates and policy in self.imitates:
            return "imitation" if decision.policy == self.imitates[policy] else None
        if self.follows and decision.policy == self.follows.get(policy):
            return "all"
        test = decision.abtest
        if test is not None and policy in self.shared.get(test, ()):
            return "all"
        if self.learn_from == "all" and (test is None or test not in self.isolated):
            return "all"
        if decision.teams:
            return "own" if policy in decision.teams else None
        return "all" if decision.policy == policy else None


@dataclass(frozen=True, slots=True)
class Update:
    """What one step of a fold has added, by policy."""

    number: int
    """Of the step in its fold; by it a follower notices that it has missed one."""
    learned_through: int
    """Log position of the last feedback folded."""
    impressions: dict[str, Impressions]
    history_steps: tuple[HistoryStep, ...] = ()
    """Changes of the histories, in order."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything that a follower needs to answer: it loads nothing itself, so all replicas serve the same."""

    fold_id: str
    number: int
    learned_through: int
    artefacts: dict[str, Artefact]
    histories: Histories | None = None
    """Of the users; None where no policy reads them."""


Place: TypeAlias = tuple[str, str]
"""A loop and an objective."""
FoldSteps: TypeAlias = Mapping[Place, tuple[str, int]]
"""The fold and the step that a follower has, of each place."""
News: TypeAlias = dict[Place, Publication | list[Update]]
"""What a follower does not have yet, by place."""
