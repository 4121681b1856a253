"""How a fold is, for those who look after the service: how far it has come, and what it has set aside."""

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Table: TypeAlias = Literal["decisions", "feedback"]
"""Of the log, that a row is of."""


class SetAside(BaseModel):
    """A row of the log that is not learned, or not by a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    table: Table
    position: int
    """In the log of its kind."""
    policy: str | None = None
    """Which could not learn it; None: nobody could read it."""
    reason: str
    time: datetime
    """When it was set aside."""


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
