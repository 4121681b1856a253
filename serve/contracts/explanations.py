"""HTTP response models of explanations, version 1."""

from typing import Literal

from pydantic import Field

from rl.policy.explanation.parts import Method
from serve.contracts.body import Body
from serve.contracts.decisions import PolicyVersion


class Contribution(Body):
    """What a feature adds to a score."""

    name: str = Field(description="of the feature; of several that were multiplied, joined by ' × '")
    value: float = Field(description="as the policy has it, after bounds, bases and weights")
    contribution: float = Field(description="what it adds to the score")


class VarianceShare(Body):
    """How much of the variance of what is expected comes with a feature."""

    name: str
    share: float = Field(description="shares add up to 1; less than 0: the feature makes it more certain")


class Uncertainty(Body):
    """How uncertain the policy is of what it expects."""

    sd: float = Field(description="posterior standard deviation of the expected reward")
    shares: list[VarianceShare] = Field(description="what of it comes with which feature, the largest first")
    other_shares: float = Field(description="sum of the shares that are not listed")


class TableRow(Body):
    """What a table has of an item in a state, or in a wider context."""

    state: str
    value: float = Field(description="what is expected there: the mean, drawn towards the wider context's value")
    mean: float | None = Field(description="of the rewards observed there; null: none were")
    count: float = Field(description="how often the item was recommended there, as far as it was learned")


class PropensityPart(Body):
    """One way in which the item could have been drawn."""

    name: str = Field(description="uniform: whatever is known; else what the explorer makes of the scores")
    probability: float = Field(description="what it adds to the propensity")


class PropensityParts(Body):
    """How a slot's propensity came about."""

    explorer: str = Field(description="kind of the explorer; `rule`: a pin, `client`: the client has chosen")
    propensity: float = Field(description="as it was logged: the sum of the parts")
    parts: list[PropensityPart]
    explore_share: float = Field(description="share of the propensity that comes from uniform draws, 0 to 1")
    candidates: int = Field(description="items that this slot could have been filled with, after rules")
    best: bool = Field(description="no other of these had a higher expected reward")


class AppliedRule(Body):
    """A shop's rule that touched an item."""

    rule: Literal["pin", "boost", "cap", "exclusion"]
    detail: str = Field(description="in words")
    slot: int | None = Field(default=None, description="of a pin")
    boost: float | None = Field(default=None, description="of a boost; it is among the contributions, too")
    category: str | None = Field(default=None, description="of a cap")
    items: list[str] = Field(default=[], description="of a cap or an exclusion: what could not be shown in this slot")


class ExplainedItem(Body):
    """Why an item was shown in its slot."""

    item_id: str
    slot: int
    policy: str = Field(description="which has chosen it")
    method: Method = Field(
        description="how contributions were found: exact, table (rows of a mean), gradient (times value), leave_one_out"
    )
    score: float = Field(description="as it was logged: the expected reward, with what rules add")
    base: float = Field(description="what is expected where no feature says anything")
    contributions: list[Contribution] = Field(description="the largest first")
    others: float = Field(description="sum of the contributions that are not listed")
    error: float = Field(description="base + contributions + others - score; by exact and table it is rounding")
    uncertainty: Uncertainty | None = Field(description="null: the policy does not know")
    table: list[TableRow] = Field(description="of tabular policies: the state's row, then those of wider contexts")
    window: int | None = Field(
        description="of a policy that forgets: it answered by what so many last decisions have taught; null: by all"
    )
    propensity: PropensityParts
    rules: list[AppliedRule] = Field(description="that touched this slot")


class DecisionExplanation(Body):
    """Why a decision showed what it showed, by the version of the policy that made it."""

    decision_id: str
    policy: PolicyVersion
    mode: str
    state: Literal["served", "made_again"] = Field(
        description="served: the version answers now; made_again: it was made again from the log"
    )
    items: list[ExplainedItem] = Field(description="of each slot")
