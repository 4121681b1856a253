"""What the gate asks of a challenger: the fields of a TOML file, all with defaults."""

import hashlib
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from data.fields import PolicyName
from data.reward import RewardSpec
from data.schema import LOOP_V1

DEFAULT = "default"
_OF_TERMS = ("loop", "objective", "reward", "since", "horizon", "look", "learn", "rewards", "least_propensity")


class GateSpec(BaseModel):
    """What the gate asks. It is stored with every report."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loop: str = Field(default=LOOP_V1, description="whose decisions are evaluated on")
    objective: str = Field(default=DEFAULT, description="what the evaluated decisions were asked to earn most under")
    reward: RewardSpec = Field(
        default=RewardSpec(), description="what feedback is worth; default: what the service learns from"
    )
    since: AwareDatetime | None = Field(
        default=None, description="first decision; default: the first that neither policy was trained on"
    )
    margin: float = Field(default=0.0, ge=0, description="reward of a decision by which a challenger must be better")
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="of all challengers that are not better, the share that is ever promoted"
    )
    horizon: int = Field(default=30_000, ge=100, description="decisions after which the bounds are as tight as can be")
    look: int = Field(default=1_000, ge=100, description="decisions between looks, after which the policies learn")
    learn: bool = Field(default=True, description="both learn from the log as they would in service; off: as trained")
    rewards: tuple[float, float] | None = Field(
        default=None,
        description="the least and the most that a decision can earn; default: what the log has",
    )
    least_propensity: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="the least probability that an item is shown with; default: as for rewards"
    )
    guards: tuple[str, ...] = Field(
        default=(), description="fields of the context: in none of their segments may the challenger be worse"
    )
    guardrails: dict[PolicyName, RewardSpec] = Field(
        default={}, description="other metrics that may not get worse; what is harmful has a negative weight"
    )
    tolerance: float = Field(
        default=0.1, ge=0, description="share of the champion's mean that counts as not worse in guards and guardrails"
    )
    slowdown: float = Field(default=1.2, ge=1, description="how much longer the p99 of a decision may take")
    slack_s: float = Field(
        default=0.0005, ge=0, description="seconds that it may take longer in any case: a request takes milliseconds"
    )

    @field_validator("guardrails")
    @classmethod
    def _names_are_free(cls, guardrails: dict[str, RewardSpec]) -> dict[str, RewardSpec]:
        if DEFAULT in guardrails:
            raise ValueError("the metric called default is what `reward` says")
        return guardrails

    @field_validator("rewards")
    @classmethod
    def _rewards_rise(cls, rewards: tuple[float, float] | None) -> tuple[float, float] | None:
        if rewards is not None and not rewards[0] < rewards[1]:
            raise ValueError(f"the least must be below the most, got {rewards[0]:g} and {rewards[1]:g}")
        return rewards

    @property
    def sequence(self) -> str:
        """Digest of all that decides which terms a bound is of: bounds of other terms are other looks."""
        fields = self.model_dump_json(include={*_OF_TERMS})
        return hashlib.sha256(fields.encode()).hexdigest()[:12]

    @property
    def metrics(self) -> dict[str, RewardSpec]:
        """All reward specifications by name, that which decides first."""
        return {DEFAULT: self.reward, **self.guardrails}

    def from_when(self, *trained_until: datetime | None) -> datetime | None:
        """Return after which time decisions are evaluated on, given until when the policies have seen the log."""
        return max([time for time in (self.since, *trained_until) if time is not None], default=None)
