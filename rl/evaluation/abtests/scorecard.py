"""The scorecard of an A/B test: health first, then how each variant compares with the control, then what follows."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rl.evaluation.abtests.estimates.balance import Balance, Light
from rl.evaluation.abtests.estimates.intervals import Range
from rl.evaluation.abtests.specification import ReadSpec

Role = Literal["goal", "secondary", "guardrail"]
Finding = Literal["better", "worse", "unclear", "higher", "lower", "broken", "holds", "too early", "varies in nothing"]


class Part(BaseModel):
    """A part of a scorecard."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(Part):
    """One check of the test's health."""

    name: str
    light: Light
    says: str


class Health(Part):
    """Whether the test can be believed; its light is that of its worst check."""

    light: Light
    checks: tuple[Check, ...]
    balance: Balance


class Arm(Part):
    """How often a variant was shown."""

    variant: str
    share: float
    """Of the traffic now."""
    users: int
    decisions: int
    crossed: int
    """Users who were also exposed to another variant: they count for this one, by what they did under it."""


class Row(Part):
    """A variant beside the control by one metric, per decision."""

    metric: str
    role: Role
    variant: str
    segment: str | None = None
    """`field=value`, where it is of these users alone."""
    finding: Finding
    control_mean: float
    mean: float
    difference: Range | None
    """Variant minus control; None: too early, or the metric varies in nothing."""
    deviation: float | None
    """Standard error of the difference, by users."""
    lift: Range | None
    """The same over the control's mean; None also where that may be 0."""
    interval: Literal["sequential", "fixed"]
    """sequential: it holds at every look; fixed: at one that was planned."""
    alpha: float
    """Of the interval, with what is due to several variants, guardrails or segments."""
    adjusted: bool
    """For what users did before (CUPED)."""
    margin: float | None = None
    """Of a guardrail: what the difference must not be beyond."""


class Plan(Part):
    """How long it takes to see the effect that the specification names, by what is known of the control."""

    effect: float
    power: float
    users_fixed: int
    """Of all variants together, at one look that was planned; by tea-tasting."""
    users_sequential: int
    """About as many, where one looks always."""


class Decision(Part):
    """What follows."""

    sentence: str
    details: tuple[str, ...] = ()
    """What there is to say of each variant."""
    better: tuple[str, ...] = ()
    """Variants that are better than the control, and break no guardrail. Nothing is promoted by this alone."""
    switch_off: dict[str, str] = {}
    """Variants that are to be switched off, with the reason."""
    halted: str | None = None
    """Why nothing is decided automatically; None: it is."""


class Scorecard(Part):
    """What is known of a test."""

    format: Literal[1] = 1
    name: str
    control: str
    as_of: AwareDatetime | None
    """When the last decision that counts was made."""
    spec: ReadSpec
    health: Health
    arms: tuple[Arm, ...]
    days: dict[str, dict[str, int]]
    """Users by the day of UTC of their first exposure, and by variant."""
    rows: tuple[Row, ...]
    """Goal first, then secondary metrics, then guardrails."""
    segments: tuple[Row, ...]
    plan: Plan | None
    decision: Decision

    @property
    def switch_off(self) -> dict[str, str]:
        """Variants that are to be switched off now, with the reason."""
        return self.decision.switch_off
