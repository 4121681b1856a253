"""The records of the log and their contracts: what every other module reads and writes.

A *node* reports *events*; the service logs *decisions*; an outcome reported for a decision is *feedback*; what
breaks a rule is a *reject* and is kept with its reason. All times are timezone-aware and stored in UTC.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    field_validator,
    model_validator,
)

from data.fields import (
    Amount,
    DecisionId,
    LoggedId,
    Scalar,
    UtcTime,
)

LOOP_V1: Final = "v1"
"""The loop of what comes over `/v1`."""
SHADOW: Final = "shadow"
"""The loop of what variants of A/B tests have decided and nobody was shown; see `to_shadow_id`."""
ACTIVATE = "activate"
"""The kind of feedback that says that a deferred decision was shown."""
ORACLE: Final = "oracle"
"""The kind of feedback by which a simulator that knows says what the best slate would have earned on average. It is no
reward, unless a specification names it."""


Change: TypeAlias = Literal["created", "changed", "unchanged"]
"""What putting an item into the catalogue did."""


class Record(BaseModel):
    """Base of all records: immutable, and an unknown field is an error rather than a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")


CONTEXT_TIME = "time"
"""The context's key for when the visit is, where that is not when the decision is made."""


def parse_visit_time(given: Scalar) -> datetime:
    """Parse a context's time.

    Raises:
        ValueError: it is not ISO 8601 with an offset.
    """
    try:
        time = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"context.time must be ISO 8601 with an offset, such as 2011-12-01T09:30:00Z, got {given!r}")
    return time


FeatureObjects: TypeAlias = tuple[dict[str, JsonValue], ...]
"""What was said of a context or an item: objects of features, checked where they came in (`data.feature_objects`)."""


class Features(Record):
    """What was said of a visit and of its candidates, for policies that learn from features of any kind."""

    context: FeatureObjects = ()
    items: tuple[FeatureObjects, ...] = ()
    """Of each candidate, in the order of the candidates."""


class Rules(Record):
    """What a shop wants of a slate whatever the policy thinks. Probabilities are computed after them."""

    pins: dict[LoggedId, int] = {}
    """Slots (0 is the first) of items that are shown there with probability 1."""
    boosts: dict[LoggedId, FiniteFloat] = {}
    """What is added to an item's expected reward before it is chosen."""
    caps: dict[str, int] = {}
    """The most items of a category."""
    categories: dict[LoggedId, tuple[str, ...]] = {}
    """Categories of candidates, where a cap concerns them."""


class Slot(Record):
    """A place of its own on a page, with features, forbidden items and a default of its own."""

    slot_id: LoggedId
    features: FeatureObjects = ()
    exclude: tuple[LoggedId, ...] = ()
    baseline: LoggedId | None = None


Mode = Literal["explore", "exploit", "apprentice", "log"]
"""How a slate came about. explore: drawn from the policy's distribution; exploit: its best; apprentice and log: the
client's own choice, which the policy learns from, or which is only kept."""


INTERLEAVED: Final = "+"
"""Stands between the names of two policies that fill a slate together; no policy's own name has it."""


def to_shadow_id(variant: str, decision_id: str) -> str:
    """Return the id of what a variant would have shown in place of a decision."""
    return f"{SHADOW}:{variant}:{decision_id}"


def shadowed_id(variant: str, shadow_id: str) -> str:
    """Return the id of the decision in place of which a variant would have shown something."""
    return shadow_id.removeprefix(f"{SHADOW}:{variant}:")


class Decision(Record):
    """A logged recommendation. Everything that is needed to learn from it or to audit it is in it."""

    decision_id: DecisionId
    time: UtcTime
    loop: LoggedId = LOOP_V1
    """Which of the service's learning loops it belongs to: each has policies and a reward specification of its own."""
    user_id: LoggedId | None = None
    node_id: LoggedId | None = None
    """The output node that shows it."""
    context: dict[str, Scalar] = {}
    candidates: tuple[LoggedId, ...]
    """The items that could have been shown: after exclusions, in the order in which they were scored."""
    slate: tuple[LoggedId, ...]
    """The items shown, best slot first."""
    propensities: tuple[float, ...]
    """Of each slot: the probability of its item given the items in the slots before it, in (0, 1]."""
    scores: tuple[float, ...]
    """Of each slot: the policy's expected reward of its item."""
    policy: LoggedId
    policy_version: str
    mode: Mode = "explore"
    objective: LoggedId = "default"
    """Which reward specification the policy was asked to earn most under."""
    deferred: bool = False
    """It was not certain that it would be shown: nothing is learned from it before feedback of kind `ACTIVATE`."""
    weight: Annotated[FiniteFloat, Field(ge=1, le=1e6)] = 1.0
    """How many decisions like it it stands for in what is learned: more than 1 where others were left out of a log that
    was imported."""
    probabilities: tuple[float, ...] = ()
    """Of each candidate: the distribution of the first slot, where the client is told it."""
    features: Features | None = None
    rules: Rules | None = None
    slots: tuple[Slot, ...] = ()
    """The places that the slate fills, in its order; none: the slate is a list."""
    request: str | None = None
    """`data.sameness.digests` of what the request gave and the decision does not show; None: not known."""
    abtest: LoggedId | None = None
    """The A/B test that it is an exposure of; of the loop `SHADOW`: that it was made for."""
    variant: LoggedId | None = None
    """Which variant of the test decided; None also where two were interleaved."""
    teams: tuple[LoggedId, ...] = ()
    """Of each slot, the policy that has chosen it, where two were interleaved. `policy` then joins their names by
    `INTERLEAVED`, and the propensities are over both policies' draws and the coin."""

    @property
    def visit_time(self) -> datetime:
        """When the visit was that the decision answered."""
        return parse_visit_time(self.context[CONTEXT_TIME]) if CONTEXT_TIME in self.context else self.time

    @field_validator("context")
    @classmethod
    def _visit_has_a_time(cls, context: dict[str, Scalar]) -> dict[str, Scalar]:
        if CONTEXT_TIME in context:
            parse_visit_time(context[CONTEXT_TIME])
        return context

    @model_validator(mode="after")
    def _slots_agree(self) -> "Decision":
        self.check_slots()
        return self

    def check_slots(self) -> None:
        """Check what a policy has said, of a decision that was constructed without validation.

        Raises:
            ValueError: lengths do not agree, or a propensity is none.
        """
        lengths = {len(self.slate), len(self.propensities), len(self.scores)}
        if len(lengths) != 1:
            raise ValueError(
                f"slate, propensities and scores must have one entry a slot, got lengths {sorted(lengths)}"
            )
        if self.probabilities and len(self.probabilities) != len(self.candidates):
            raise ValueError(
                f"probabilities must have one entry a candidate, got {len(self.probabilities)} for "
                f"{len(self.candidates)}"
            )
        if self.features and self.features.items and len(self.features.items) != len(self.candidates):
            raise ValueError(
                f"features.items must describe every candidate, got {len(self.features.items)} for "
                f"{len(self.candidates)} candidates"
            )
        if self.teams and len(self.teams) != len(self.slate):
            raise ValueError(f"teams must have one entry a slot, got {len(self.teams)} for {len(self.slate)}")
        if any(not 0.0 < p <= 1.0 for p in self.propensities):
            raise ValueError(f"propensities must be in (0, 1], got {self.propensities}")


class Feedback(Record):
    """An outcome reported for a decision."""

    feedback_id: DecisionId
    decision_id: DecisionId
    loop: LoggedId = LOOP_V1
    item_id: LoggedId | None = None
    """The item of the slate that it is about, or of a decision with slots of its own the slot; None: the first slot."""
    kind: LoggedId
    """view, click, purchase, rating, ...: the reward specification gives each kind its weight."""
    value: Amount = 1.0
    time: UtcTime | None = None
    """When it happened, by the reporter's clock. Kept for analysis; attribution goes by `received_at`."""
    received_at: UtcTime | None = None
    """When the store committed it; set by the store."""


class Event(Record):
    """What an input node reported, after its declaration's rules."""

    node_id: LoggedId
    event_id: LoggedId
    user_id: LoggedId | None = None
    item_id: LoggedId | None = None
    time: UtcTime | None = None
    outcome: FiniteFloat | None = None
    record: dict[str, Scalar] = {}
    """The node's other columns by name, scaled ones included."""
    received_at: UtcTime | None = None


class Reject(Record):
    """A row that broke a rule: kept whole, so that nothing that was sent is lost."""

    node_id: LoggedId
    reject_id: LoggedId
    source: str
    """Where it came from: a file's URI, or `http`."""
    row: int
    """Its position in the source, the first row being 0."""
    rule: str
    """The first rule that it broke."""
    column: str | None = None
    value: str | None = None
    """The offending value as it was read."""
    record: dict[str, Scalar] = {}
    """The row as it was read."""
    received_at: UtcTime | None = None


class Version(Record):
    """A step of a fold over the log, made by the learner. With all steps of a fold its every state can be rebuilt.

    A decision's `policy_version` is the policy artefact's digest, the fold's id and the step's number, joined by dots.
    """

    version_id: LoggedId
    """The fold's id and the number, joined by a dot."""
    loop: LoggedId
    objective: LoggedId
    fold_id: LoggedId
    number: int
    """From 0, which is before anything was folded."""
    decision_seq: int
    """Log position of the last decision of the loop that it has read."""
    feedback_seq: int
    """The same of feedback."""
    as_of: UtcTime
    """The time at which wait windows were open or closed."""
    caught_up: bool
    """It has read the log to its end, as of then."""
    begins: dict[str, JsonValue] | None = None
    """Of number 0: what the fold began with; see `rl.online.learner`."""
    received_at: UtcTime | None = None


AnyRecord: TypeAlias = Decision | Feedback | Event | Reject | Version
"""A record of the log."""
