"""The types of a fold over the log: what it begins with, and what followers get of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from data.reward import RewardSpec
from data.schema import LOOP_V1
from rl.artefacts.artefact import Artefact
from rl.online.histories import Histories
from rl.policy.queries import Impressions


class FoldSpec(BaseModel):
    """What a fold learns from, and what for. With the digests of its artefacts it is what the fold begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: str = LOOP_V1
    objective: str = "default"
    reward: RewardSpec = RewardSpec()
    learn_from: Literal["own", "all"] = "own"
    """Each policy learns from its own decisions only, or from all."""


HistoryStep: TypeAlias = Callable[[Histories], object]
"""One call of a method of the histories, as a value that can be sent."""


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
