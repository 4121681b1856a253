"""How an A/B test is read: what counts, at which error, and what switches a variant off."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.fields import PolicyName

Share = Annotated[float, Field(gt=0, lt=1)]


class ReadSpec(BaseModel):
    """How an A/B test is read; all of it has defaults. It is stored with the test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: Share = Field(
        default=0.05,
        description="of tests without any difference, the share in which a variant is ever said to be better or worse "
        "than the control by the goal, all variants together; as much again for all guardrails",
    )
    effect: Share = Field(default=0.1, description="change of the control's mean that is to be seen soonest")
    kind: Literal["sequential", "fixed"] = Field(
        default="sequential",
        description="intervals that hold at every look; or at one look that was planned, by which nothing acts",
    )
    guardrails: dict[PolicyName, float] = Field(
        default={},
        description="kinds of feedback that may not get worse, by what a unit of their value is worth: negative where "
        "it is harmful",
    )
    tolerance: float = Field(
        default=0.1, ge=0, lt=1, description="share of the control's mean by which a guardrail may be worse"
    )
    secondary: tuple[PolicyName, ...] = Field(
        default=(), description="kinds of feedback that are shown beside the goal"
    )
    segments: tuple[PolicyName, ...] = Field(
        default=(), description="fields of the context by whose values the goal is shown"
    )
    least_units: int = Field(default=100, ge=20, description="users of a variant before anything is said of it")
    adjust: bool = Field(default=True, description="adjust for what users did before their first exposure (CUPED)")
    switch_off: bool = Field(default=True, description="switch a variant off that is worse, or breaks a guardrail")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of feedback that are read beside the goal."""
        return (*self.guardrails, *(kind for kind in self.secondary if kind not in self.guardrails))

    @model_validator(mode="after")
    def _guardrails_have_a_direction(self) -> "ReadSpec":
        if worthless := [kind for kind, worth in self.guardrails.items() if not worth]:
            raise ValueError(f"a guardrail must be worth more or less than 0, {', '.join(worthless)} is not")
        return self
