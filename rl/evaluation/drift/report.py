"""What is asked of a look for drift, and what it finds."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from data.reward import RewardSpec
from data.schema import LOOP_V1


class DriftSpec(BaseModel):
    """What is watched, and how seldom a false alarm is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loop: Annotated[str, Field(description="whose decisions are watched")] = LOOP_V1
    reward: Annotated[RewardSpec, Field(description="what feedback is worth")] = RewardSpec()
    alpha: Annotated[
        float, Field(gt=0, lt=1, description="probability of a false alarm, in any stream, ever: this at most")
    ] = 0.01
    reference: Annotated[
        int, Field(ge=0, description="log positions before `since` that later decisions are compared with")
    ] = 10_000
    features: Annotated[
        tuple[str, ...], Field(description="fields of the context that are watched; none: all, 50 at most")
    ] = ()
    seed: Annotated[int, Field(ge=0, description="of how ties between values are broken")] = 0


class StreamReport(BaseModel):
    """What one stream of values has shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drifted: bool
    evidence: float | None
    """Logarithm to base 10 of the capital that was won, at the alarm or at the end; None: nothing was watched."""
    threshold: float
    """The same, from which on there is an alarm."""
    decisions: int
    """That were watched, up to the alarm."""
    decision_seq: int | None = None
    """Log position of the decision at which the alarm came; None: there was none."""
    time: datetime | None = None
    """Of that decision."""
    began: datetime | None = None
    """Of the decision from which on something had changed, as far as can be told."""


class DriftReport(BaseModel):
    """Whether anything has changed, and what."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drifted: bool
    verdict: str
    """In a sentence."""
    loop: str
    since: datetime | None
    """Decisions before it are what later ones were compared with; None: each with those before it."""
    until: datetime
    """Later decisions were left out."""
    reference: int
    """Decisions that later ones were compared with from the beginning."""
    decisions: int
    """That were watched."""
    left_out: int
    """Rows that cannot be read back or judged."""
    streams: dict[str, StreamReport]
    """By name: `reward`, `earned`, `propensity`, `feature:NAME`."""
