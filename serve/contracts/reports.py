"""What clients report: feedback to decisions, and rows of input nodes."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from data.fields import Amount, Id, UtcTime
from serve.contracts.body import FORMS, MAX_BATCH, Body


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
