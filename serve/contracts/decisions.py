"""HTTP request and response models of version 1. Light: pydantic only."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
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
    Amount,
    Id,
    Scalar,
    UtcTime,
)
from data.schema import Mode
from rl.online.state import FoldState
from serve.contracts.rules import MAX_SLATE, BusinessRules, Filter

MAX_CANDIDATES = 1_000
OF_PERSONALIZER = "personalizer:"
"""What the ids of the Personalizer API's decisions begin with."""
MAX_BATCH = 1_000


class Body(BaseModel):
    """Base of all bodies: an unknown field is refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        return decision_id

    @model_validator(mode="after")
    def _pins_are_in_the_slate(self) -> Self:
        if self.rules and self.rules.pins and (last := max(self.rules.pins.values())) >= self.k:
            raise ValueError(f"an item is pinned to slot {last}, and the slate has slots 0 to {self.k - 1}")
        return self


FORMS = ("one", "many")
"""Tags of the two forms of a body; tagged, an error is about the form that was sent."""

RecommendBody: TypeAlias = Annotated[
    Annotated[RecommendRequest, Tag("one")]
    | Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH), Tag("many")],
    Discriminator(lambda body: FORMS[isinstance(body, list)]),
]
"""One request, or a list of them."""


# Dictionaries with types, for what is made of a validated decision: a model would validate each slot again.


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


class FeedbackRequest(Body):
    """What happened to a decision."""

    decision_id: Id
    kind: Id = Field(
        description="view, click, purchase, rating, dwell, accept, reject, custom, or a name of your own: the reward "
        "specification says what it is worth"
    )
    item_id: Id | None = Field(default=None, description="the item of the slate; default: the first")
    value: Amount = Field(
        default=1.0, description="how much of it: a rating's points, a dwell's seconds, pieces bought"
    )
    weight: Amount | None = Field(
        default=None, description="of kind `custom` only: what one unit of its value is worth, in place of a kind's"
    )
    time: UtcTime | None = None
    feedback_id: Id | None = Field(
        default=None, description="reports with one id count once; default: derived from the content"
    )

    @model_validator(mode="after")
    def _only_custom_has_a_weight(self) -> "FeedbackRequest":
        if self.weight is not None and self.kind != "custom":
            raise ValueError(f"only feedback of kind custom has a weight; what {self.kind} is worth is configured")
        if self.weight is not None and abs(self.weight * self.value) > 1e9:
            raise ValueError("weight times value must be between -1e9 and 1e9")
        return self


FeedbackBody: TypeAlias = Annotated[
    Annotated[FeedbackRequest, Tag("one")]
    | Annotated[list[FeedbackRequest], Field(min_length=1, max_length=MAX_BATCH), Tag("many")],
    Discriminator(lambda body: FORMS[isinstance(body, list)]),
]
"""One report, or a list of them."""


class FeedbackResult(Body):
    """What became of one report."""

    feedback_id: str
    status: Literal["stored", "known", "conflict"] = Field(
        description="known: an earlier report is the same, nothing changed; conflict: one that is not has this id"
    )
    orphan: bool = Field(description="the log has no such decision (yet)")
    position: int | None = Field(
        default=None,
        description="in the log, unless it is a conflict; a policy has learned it when its learned_through has come "
        "this far",
    )
    differs: list[str] | None = Field(default=None, description="of a conflict: the fields that are not the same")


class FeedbackResponse(Body):
    """In the order of the request."""

    results: list[FeedbackResult]


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
    rewards: list[float] = Field(description="of each slot, so far, under the objective's reward specification")
    policy: PolicyVersion
    mode: Mode
    objective: str
    closed: bool = Field(description="the wait window is over: later feedback does not count")
    feedback: list[LoggedFeedback] = Field(description="all that was reported, in the order of the log")


class EventsRequest(Body):
    """Rows of an input node, as the node's declaration names their columns."""

    node: Id
    records: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]


class EventResult(Body):
    """What became of one row."""

    status: Literal["stored", "known", "rejected", "dropped", "conflict"] = Field(
        description="conflict: another event of the node has this id"
    )
    event_id: str | None = None
    differs: list[str] | None = Field(default=None, description="of a conflict: the columns that are not the same")
    rule: str | None = Field(default=None, description="of a rejected row: the first rule that it broke")
    value: str | None = Field(default=None, description="of a rejected row: the offending value")


class EventsResponse(Body):
    """In the order of the request."""

    results: list[EventResult]


class ServedPolicy(Body):
    """A policy that is served."""

    loop: str
    objective: str
    name: str
    version: str = Field(description="the trained artefact's digest, the fold's id, and the fold's step")
    since: UtcTime = Field(description="when this replica began to answer with the trained artefact")
    learned_through: int = Field(description="log position of the last feedback that it has seen")


class PoliciesResponse(Body):
    """What is served."""

    replica: str
    policies: list[ServedPolicy]


class Health(Body):
    """The replica can answer."""

    status: Literal["ok", "degraded"] = Field(
        default="ok", description="degraded: it answers, and something that is configured does not work"
    )
    reasons: list[str] = Field(default=[], description="what does not work; `GET /v1/learning` says why")
    replica: str = Field(description="which of the replicas this is")
    policies: list[PolicyVersion]
    learned_through: int


class Ready(Body):
    """The replica may be sent traffic."""

    status: Literal["ready"] = "ready"
    replica: str


class Fold(FoldState):
    """How a fold is, and how far behind the log; null where the log does not answer now."""

    decisions_behind: int | None = Field(description="rows of the loop's log of decisions that it has not read")
    feedback_behind: int | None = Field(description="the same of feedback")
    seconds_behind: float | None = Field(description="age of the oldest row that it has not read; 0: there is none")


class LearningResponse(Body):
    """How learning goes."""

    replica: str
    learner: Literal["answers", "silent"] = Field(description="silent: what follows is what was heard of it last")
    heard: UtcTime | None = Field(description="when that was; null: never")
    folds: list[Fold] = Field(description="one for each loop and objective that is configured")


class Problem(Body):
    """An error."""

    code: str
    message: str = Field(description="what was wrong, and what would be right")
    where: str | None = Field(default=None, description="the field, as a dotted path")
    request_id: str | None = Field(default=None, description="what the log calls this request, as `X-Request-Id`")


class ErrorResponse(Body):
    """The one shape of all errors."""

    error: Problem
