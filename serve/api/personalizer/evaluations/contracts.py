"""What is asked of evaluations and feature importances, and what is kept of them."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from data.fields import Id
from serve.api.personalizer.configuration.values import PolicySettings, Time

Status: TypeAlias = Literal["Running", "Succeeded", "Failed", "Timeout", "OptimalPolicyApplied", "OnlinePolicyRetained"]
Source: TypeAlias = Literal["Online", "Baseline", "Random", "Custom", "OfflineExperimentation"]


class _Request(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    name: Annotated[str, Field(min_length=1, max_length=256)]
    start_time: Time
    end_time: Time


class EvaluationContract(_Request):
    """Which learning policies are to be evaluated on which part of the log."""

    policies: tuple[PolicySettings, ...] = ()
    optimize: bool = Field(
        default=False,
        validation_alias=AliasChoices("enableOfflineExperimentation", "enablePolicyOptimization"),
        description="look for better learning settings too",
    )


class ImportanceContract(_Request):
    """Of which part of the log the importances are."""


class ApplyRequest(BaseModel):
    """Which learning policy is to answer from now on."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    evaluation_id: Annotated[str, Field(min_length=1, max_length=256)]
    policy_name: Annotated[str, Field(min_length=1, max_length=256)]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bucket(_Kept):
    """Sums over the decisions of a stretch of time."""

    start: datetime
    decisions: int
    weights: float
    """Sum of the importance weights."""
    rewards: float
    """Sum of the weighted rewards."""
    squares: float
    """Sum of their squares."""
    nonzero: int
    """Decisions that the policy might have made."""


class PolicyResult(_Kept):
    """What a learning policy would have earned."""

    name: str
    arguments: str
    source: Source
    value: float | None
    """Reward of a decision, by the estimator that the log chooses; None: the log cannot tell."""
    low: float | None
    high: float | None
    buckets: tuple[Bucket, ...]
    promote: bool
    """Whether the gate would let it replace the one that answers."""
    verdict: str


class Evaluation(_Kept):
    """An evaluation, as it is kept."""

    id: Id
    asked: EvaluationContract
    kind: Literal["Manual", "Auto"] = "Manual"
    created: datetime
    status: Status = "Running"
    why: str | None = None
    """Why it failed."""
    online: str = ""
    """Digest of the policy that answered."""
    answering: str = ""
    """As `Configuration.answering`: what a policy that is applied replaces."""
    family: int = 1
    """How many evaluations there were beside that policy, this one included."""
    minutes: int = 5
    """Length of a bucket."""
    results: tuple[PolicyResult, ...] = ()
    optimal: str | None = None
    """The best policy that the gate lets through, or Online."""
    importances: tuple[str, ...] = ()
    """Names of features, the most important first."""
    deleted: bool = False


class FeatureScore(_Kept):
    """How much what is expected of actions depends on a feature."""

    namespace: str
    name: str
    score: float


class Importance(_Kept):
    """Feature importances, as they are kept."""

    id: Id
    asked: ImportanceContract
    created: datetime
    status: Status = "Running"
    why: str | None = None
    scores: tuple[FeatureScore, ...] = ()
    deleted: bool = False
