"""What a fold over the log is, and what of it is published. Light: no Ray."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from data.schema import RewardSpec
from rl.artefacts.artefact import Artefact
from rl.online.aside import SetAside
from rl.online.histories import Histories
from rl.policy.interface import Observations


class FoldSpec(BaseModel):
    """What a fold learns from, and what for. With the digests of its artefacts it is what the fold begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: str = "v1"
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
    """Counts the fold's steps, so that a follower notices one that it has missed."""
    learned_through: int
    """Log position of the last feedback folded."""
    observations: dict[str, Observations]
    told: tuple[HistoryStep, ...] = ()
    """What the histories were told, in order."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a follower needs to answer: it loads nothing itself, so all replicas serve the same."""

    fold_id: str
    number: int
    learned_through: int
    artefacts: dict[str, Artefact]
    histories: Histories | None = None
    """Of the users; None where no policy reads them."""


Place: TypeAlias = tuple[str, str]
"""A loop and an objective."""
Known: TypeAlias = Mapping[Place, tuple[str, int]]
"""The fold and the step that a follower has of each."""
News: TypeAlias = dict[Place, Snapshot | list[Update]]
"""What a follower does not have yet."""


class FoldState(BaseModel):
    """How a fold is, as its learner says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: str
    objective: str
    fold_id: str | None = None
    """None: none could be begun."""
    state: Literal["following", "set_aside", "failed"] = "following"
    """It follows the log; it does, and has set rows aside; it does not follow the log any more."""
    reason: str | None = None
    """Why it failed, or what it lacks."""
    policies: tuple[str, ...] = ()
    """Which it teaches or serves."""
    not_served: dict[str, str] = {}
    """Policies that are configured and cannot be loaded, with the reason."""
    decisions_through: int = 0
    """Log position of the last decision that it has read."""
    feedback_through: int = 0
    """The same of feedback."""
    waiting: int = 0
    """Decisions whose wait windows are open."""
    rows_set_aside: int = 0
    set_aside: tuple[SetAside, ...] = ()
    """The last of them, newest first."""
    as_of: datetime
    """When the learner said so."""
