"""The state of a fold, for operators: how far it has read the log, and what it has set aside."""

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Table: TypeAlias = Literal["decisions", "feedback"]
"""A table of the log."""


class SetAside(BaseModel):
    """A row of the log that is not learned, or not by a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    table: Table
    position: int
    """In the log of its kind."""
    policy: str | None = None
    """Which could not learn it; None: it could not be read."""
    reason: str
    time: datetime
    """When it was set aside."""


class FoldState(BaseModel):
    """The state of a fold, as its learner reports it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: str
    objective: str
    fold_id: str | None = None
    """None: none could be begun."""
    state: Literal["following", "set_aside", "failed"] = "following"
    """following and set_aside: it follows the log, without or with rows set aside; failed: it does not any more."""
    reason: str | None = None
    """Why it failed, or what it lacks."""
    policies: tuple[str, ...] = ()
    """Those that learn or answer."""
    not_served: dict[str, str] = {}
    """Policies that are configured and cannot be loaded, with the reason."""
    forced: dict[str, str] = {}
    """Policies that were promoted although the gate had said no, with the reason that was given."""
    rolled_back: dict[str, str] = {}
    """Policies of which a version was taken back by itself since the last promotion, with which and why."""
    decisions_through: int = 0
    """Log position of the last decision that it has read."""
    feedback_through: int = 0
    """The same of feedback."""
    waiting: int = 0
    """Decisions whose wait windows are open."""
    rows_set_aside: int = 0
    set_aside: tuple[SetAside, ...] = ()
    """The last of them, newest first."""
    reports: dict[str, int] = {}
    """What the feedback was that it has read since it began to: see `data.attribution.join.Case`; and how many reports
    were orphans when it read them, and of how many decisions nothing that counts was reported (`missing`)."""
    answering_windows: dict[str, int] = {}
    """Of each policy that forgets: the length of the window that answers, in log positions; 0: the whole log."""
    as_of: datetime
    """When the learner reported it."""
