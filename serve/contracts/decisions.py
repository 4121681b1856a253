"""HTTP request and response models of version 1."""

from typing import Annotated, Self, TypeAlias

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from data.feature_objects import check_object
from data.fields import (
    Id,
    Scalar,
    UtcTime,
)
from data.schema import SHADOW, Mode
from serve.contracts.body import FORMS, MAX_BATCH, Body
from serve.contracts.rules import MAX_SLATE, BusinessRules, Filter

MAX_CANDIDATES = 1_000
OF_PERSONALIZER = "personalizer:"
"""What the ids of the Personalizer API's decisions begin with."""
OF_SHADOWS = f"{SHADOW}:"
"""What the ids of decisions begin with that nobody was shown."""


class RecommendRequest(Body):
    """Who asks, in which context, and among what to choose."""

    user_id: Id | None = Field(default=None, description="unknown customers are welcome, and so is none")
    context: Annotated[dict[str, Scalar], AfterValidator(check_object)] = Field(
        default={}, description="what is known of the visit; `time` (ISO 8601 with an offset) defaults to now"
    )
    candidates: Annotated[list[Id], Field(min_length=1, max_length=MAX_CANDIDATES)] | None = Field(
        default=None, description="items that may be shown; default: the policy's items and the catalogue's"
    )
    exclude: Annotated[list[Id], Field(max_length=MAX_CANDIDATES)] = Field(default=[], description="never show these")
    filter: Filter = Field(default=Filter(), description="which of the candidates may be shown")
    rules: BusinessRules | None = Field(default=None, description="of the slate; default: as configured")
    k: int = Field(default=10, ge=1, le=MAX_SLATE, description="items wanted; fewer come if there are fewer candidates")
    decision_id: Id | None = Field(
        default=None, description="a name for the decision: asking again with it returns the same decision"
    )
    policy: Id | None = Field(default=None, description="ask this policy, whatever its share of the traffic")
    objective: Id = Field(default="default", description="what to earn most under, of those that are configured")
    explore: bool = Field(default=True, description="off: the best by what is known; ties are drawn evenly")
    node: Id | None = Field(default=None, description="the output node that shows it; its stream is sent the slate")
    timeout_s: float | None = Field(default=None, gt=0, le=60, description="answer 503 rather than later than this")

    @field_validator("decision_id")
    @classmethod
    def _is_of_this_interface(cls, decision_id: str | None) -> str | None:
        if decision_id is not None and decision_id.startswith(OF_PERSONALIZER):
            raise ValueError(f"ids that begin with {OF_PERSONALIZER!r} are those of the Personalizer API's events")
        if decision_id is not None and decision_id.startswith(OF_SHADOWS):
            raise ValueError(f"ids that begin with {OF_SHADOWS!r} are those of decisions that nobody was shown")
        return decision_id

    @model_validator(mode="after")
    def _pins_are_in_the_slate(self) -> Self:
        if self.rules and self.rules.pins and (last := max(self.rules.pins.values())) >= self.k:
            raise ValueError(f"an item is pinned to slot {last}, and the slate has slots 0 to {self.k - 1}")
        return self


RecommendBody: TypeAlias = Annotated[
    Annotated[RecommendRequest, Tag("one")]
    | Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH), Tag("many")],
    Discriminator(lambda body: FORMS[isinstance(body, list)]),
]
"""One request, or a list of them."""


# Dictionaries with types, for what is made of a validated decision: models, which validate each slot again, take 4 to
# 9 % of a request more (pydantic 2.14.3).


class RecommendedItem(TypedDict):
    """One slot of the slate."""

    item_id: str
    score: Annotated[float, Field(description="expected reward")]
    propensity: Annotated[float, Field(description="probability of this item here, given the slots before it")]


class PolicyVersion(TypedDict):
    """Which policy answered."""

    name: str
    version: str


@with_config(Body.model_config)
class RecommendResponse(TypedDict):
    """A decision, committed to the log before it was answered."""

    decision_id: str
    items: Annotated[list[RecommendedItem], Field(description="best slot first")]
    policy: PolicyVersion
    learned_through: Annotated[
        int, Field(description="log position of the last feedback that the answering replica has seen")
    ]


class LoggedFeedback(Body):
    """A report as the log has it."""

    feedback_id: str
    kind: str
    item_id: str | None
    value: float
    time: UtcTime | None
    received_at: UtcTime


class LoggedDecision(Body):
    """A decision as the log has it, with what is known of what it earned."""

    decision_id: str
    time: UtcTime
    user_id: str | None
    node: str | None
    context: dict[str, Scalar]
    candidates: tuple[str, ...] = Field(description="the items that could have been shown, after all filters")
    items: list[RecommendedItem]
    rewards: list[float] = Field(
        description="of each slot, so far, under the objective's reward specification; without those that by it the "
        "user has not seen"
    )
    policy: PolicyVersion
    mode: Mode
    objective: str
    abtest: str | None = Field(description="the A/B test that it is an exposure of, or was made for unseen; null: none")
    variant: str | None = Field(description="the variant that decided; null also where two have filled the slate")
    teams: tuple[str, ...] = Field(description="of each slot, the policy that has chosen it, where two have")
    closed: bool = Field(description="the wait window is over: later feedback does not count")
    feedback: list[LoggedFeedback] = Field(description="all that was reported, in the order of the log")
