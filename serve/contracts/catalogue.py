"""HTTP request and response models of items and users."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from data.feature_objects import FeatureObject
from data.fields import Id, Scalar, UtcTime
from data.schema import Change
from serve.contracts.body import MAX_BATCH, Body
from serve.contracts.decisions import LoggedDecision

_LONGEST_S = 10 * 365 * 86_400.0


class ItemRequest(Body):
    """An item as it is to be in the catalogue: what is not said gets its default."""

    item_id: Id
    features: FeatureObject = Field(default={}, description="any JSON object")
    categories: Annotated[list[Id], Field(max_length=100)] = Field(default=[])
    available: bool = True
    ttl_s: float | None = Field(default=None, gt=0, le=_LONGEST_S, description="available for so many seconds from now")
    expires_at: UtcTime | None = Field(default=None, description="or until then; default: for ever")

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.ttl_s is not None and self.expires_at is not None:
            raise ValueError("give ttl_s or expires_at, not both")
        return self


class ItemsRequest(Body):
    """Items to put into the catalogue; of several with one id the last counts."""

    items: Annotated[list[ItemRequest], Field(min_length=1, max_length=MAX_BATCH)]


class ItemResult(Body):
    """What putting an item changed."""

    item_id: str
    status: Change


class ItemsResult(Body):
    """In the order of the request."""

    results: list[ItemResult]


class CatalogueItem(Body):
    """An item of the catalogue."""

    item_id: str
    features: dict[str, JsonValue]
    categories: list[str]
    available: bool = Field(description="now: marked so, and not expired")
    expires_at: UtcTime | None
    updated_at: UtcTime
    revision: int = Field(description="of the catalogue, at the item's last change")


class ItemsResponse(Body):
    """A page of the catalogue, in the order of the items' last changes."""

    items: list[CatalogueItem]
    next: int = Field(description="give it as `after` for the next page, or later for what has changed since")
    more: bool = Field(description="there is a next page now")


class UserRequest(Body):
    """What is to be kept of a user."""

    features: FeatureObject = Field(description="any JSON object; it takes the place of what was kept before")


class KeptUser(Body):
    """What is kept of a user."""

    user_id: str
    features: dict[str, JsonValue]
    updated_at: UtcTime | None = Field(description="when features were last given; null if never")


class LoggedEvent(Body):
    """An event as the log has it."""

    node: str
    event_id: str
    item_id: str | None
    time: UtcTime | None
    outcome: float | None
    record: dict[str, Scalar]


class HistoryEntry(Body):
    """A decision for a user, or an event of theirs."""

    kind: Literal["decision", "event"]
    time: UtcTime = Field(description="when the decision was made, or the event received")
    decision: LoggedDecision | None = None
    event: LoggedEvent | None = None


class UserResponse(KeptUser):
    """What is kept of a user, and a page of their history."""

    history: list[HistoryEntry] = Field(description="newest first")
    next: str | None = Field(description="give it as `before` for the next page; null: there is none")


class Forgotten(Body):
    """How many rows a user had, by place. Asked again, there are none."""

    removed: dict[str, int]
