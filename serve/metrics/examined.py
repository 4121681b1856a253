"""What an examination of the log has found, in numbers."""

from pydantic import BaseModel, ConfigDict


class Estimated(BaseModel):
    """What a variant in the shadow would have earned a decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    test: str
    variant: str
    value: float
    low: float
    high: float
    decisions: int
    effective_decisions: float


class Examined(BaseModel):
    """What was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    audited: dict[str, int]
    """Decisions by what came of making them again: repeated, mismatch, unreadable, not_repeatable."""
    deviation: float
    """How far shown are from logged probabilities at most, in standard deviations; see `serve.audit`."""
    off_policy: tuple[Estimated, ...] = ()
