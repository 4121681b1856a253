"""What feedback is worth: the specification of rewards that a shop writes, and that every fold and run keeps."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.fields import Amount, LoggedId
from data.schema import Record


class RewardSpec(Record):
    """How feedback becomes reward: the one place where a shop says what it wants."""

    weights: dict[str, Amount] = Field(
        default={
            "view": 0.0,
            "click": 1.0,
            "purchase": 5.0,
            "rating": 1.0,
            "dwell": 0.01,
            "accept": 1.0,
            "reject": -1.0,
            "custom": 1.0,
        }
    )
    """Reward of one unit of value (a rating's points, a dwell's seconds), by kind of feedback. Feedback of a kind not
    named here is kept but earns nothing."""
    wait_s: Annotated[float, Field(gt=0)] = 600.0
    """The wait window: feedback received later than this many seconds after its decision does not count."""
    default: Amount = 0.0
    """The reward of a shown item that got no counted feedback."""
    limit: Annotated[float, Field(gt=0, le=1e6)] = 100.0
    """A slot's reward is kept within plus and minus this, so that no single report can drown all that was learned."""
    aggregation: Literal["first", "sum", "mean", "median", "min", "max"] = "max"
    """How several feedbacks for one item of one decision become one reward."""
    credit: Literal["item", "slate"] = "item"
    """Who earns it. item: the one that it is about; slate: all feedback of a decision becomes one reward, or else the
    default is one, which the slots share evenly."""
    half_life_s: Annotated[float, Field(gt=0)] | None = None
    """Feedback that is received so many seconds after its decision is worth half. None: as much as at once."""
    seen_by: LoggedId | None = None
    """The kind of feedback (`view`, say) that tells how far down the user saw the slate: to the item that it is about,
    or the whole of it if it names none. What lies below that, and below all other feedback that counts, was not
    ignored: nothing is learned of it. Of a slate without such feedback all was seen. None: all of every slate was."""
    session_gap_s: Annotated[float, Field(gt=0)] = 1_800.0
    """So many seconds without a decision for a user end a session: the decisions of one are an episode."""

    @property
    def version(self) -> str:
        """Digest of the content: equal versions give equal rewards and episodes."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _what_tells_has_a_weight(self) -> "RewardSpec":
        if self.seen_by is not None and self.seen_by not in self.weights:
            raise ValueError(f"seen_by must be a kind of `weights` ({', '.join(self.weights)}), got {self.seen_by!r}")
        return self
